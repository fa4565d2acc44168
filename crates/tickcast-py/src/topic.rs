//! Judged trades of a topic, decoded by batch for a tape that follows it.

use crate::batch::{PositionTuple, position_tuple};
use crate::judge::{lock, now_ns};
use crate::messages::PyInbox;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Mutex;
use tickcast_core::decode::Format;
use tickcast_core::decode::trades::decode_trades;
use tickcast_core::outbox::FORMAT_HEADER;
use tickcast_core::position::Position;
use tickcast_core::repeats::Repeats;
use tickcast_core::tape::Arrived;

/// Header that names the rule set of a trade.
const RULES_HEADER: &str = "tickcast-rules";

/// Adds what follows topics to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<TopicTrades>()?;
    m.add_class::<PyRepeats>()?;
    m.add_function(wrap_pyfunction!(decode_topic, m)?)
}

/// Trades of a topic on their way to a tape.
#[pyclass(frozen, module = "tickcast._core")]
pub struct TopicTrades {
    /// The trades, and how many of them are written.
    pub arrived: Mutex<Arrived>,
    messages: usize,
}

impl TopicTrades {
    /// Returns trades that came in so many messages.
    pub fn new(arrived: Arrived, messages: usize) -> Self {
        TopicTrades { arrived: Mutex::new(arrived), messages }
    }
}

#[pymethods]
impl TopicTrades {
    /// Number of trades, repetitions included.
    #[getter]
    fn rows(&self) -> PyResult<usize> {
        Ok(lock(&self.arrived)?.batch().rows.len())
    }

    /// Number of messages.
    #[getter]
    fn messages(&self) -> usize {
        self.messages
    }

    /// Names of the enrichments among them, in order of first appearance.
    #[getter]
    fn columns(&self) -> PyResult<Vec<String>> {
        Ok(lock(&self.arrived)?.batch().columns.iter().map(str::to_owned).collect())
    }

    /// The rule set of the last trade; empty: not told.
    #[getter]
    fn rule_set(&self) -> PyResult<String> {
        let arrived = lock(&self.arrived)?;
        let batch = arrived.batch();
        Ok(batch.rows.last().map_or(String::new(), |row| batch.rule_set(row).to_owned()))
    }

    /// Last position of each partition of the topic.
    #[getter]
    fn positions(&self) -> PyResult<Vec<PositionTuple>> {
        let arrived = lock(&self.arrived)?;
        Ok(arrived.positions().iter().map(position_tuple).collect())
    }

    /// Why messages could not be decoded.
    #[getter]
    fn undecodable(&self) -> PyResult<Vec<String>> {
        Ok(lock(&self.arrived)?.batch().undecodable.iter().map(|(_, error)| error.to_string()).collect())
    }
}

/// Which trades have been there.
#[pyclass(frozen, name = "Repeats", module = "tickcast._core")]
pub struct PyRepeats(pub Mutex<Repeats>);

#[pymethods]
impl PyRepeats {
    #[new]
    fn new() -> Self {
        PyRepeats(Mutex::default())
    }
}

/// Decodes messages of a topic by partition; those without a payload are passed over.
#[pyfunction]
#[pyo3(signature = (inboxes, *, stream, format=None))]
fn decode_topic(
    py: Python<'_>,
    inboxes: Vec<(u16, Bound<'_, PyInbox>)>,
    stream: u32,
    format: Option<&str>,
) -> PyResult<TopicTrades> {
    let fallback = format
        .map(|name| Format::from_name(name).ok_or_else(|| PyValueError::new_err(format!("format {name:?}"))))
        .transpose()?;
    let parts: Vec<(u16, &PyInbox)> = inboxes.iter().map(|(partition, inbox)| (*partition, inbox.get())).collect();
    let arrival_ns = now_ns();
    Ok(py.detach(|| {
        let mut payloads: Vec<(Option<Format>, &str, &[u8])> = Vec::new();
        let mut positions: Vec<Position> = Vec::new();
        let mut count = 0;
        for (partition, part) in parts {
            let position = Position { stream, partition, offset: part.last(), index: u16::MAX };
            match positions.iter_mut().find(|known| known.partition == partition) {
                Some(known) => *known = position,
                None => positions.push(position),
            }
            for (inbox, at) in part.messages() {
                count += 1;
                if let Some(payload) = inbox.payload(at) {
                    let stated = inbox.header(at, FORMAT_HEADER).and_then(Format::from_name);
                    let rules = inbox.header(at, RULES_HEADER).unwrap_or_default();
                    payloads.push((stated.or(fallback), rules, payload));
                }
            }
        }
        TopicTrades::new(Arrived::new(decode_trades(payloads), positions, arrival_ns), count)
    }))
}
