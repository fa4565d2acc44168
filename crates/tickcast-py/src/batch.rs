//! A decoded batch on its way from a source to the judge.

use crate::judge::lock;
use crate::messages::Letter;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Mutex;
use tickcast_core::position::{Origin, Position};
use tickcast_core::{Broken, Decoded, TickBatch, TradeId, Undecodable};

/// Decoded ticks with where they came from, and what could not be decoded.
#[pyclass(frozen, module = "tickcast._core")]
pub struct Batch {
    inner: Mutex<Option<Ticks>>,
    undecodable: Vec<(Undecodable, PositionTuple)>,
    /// What else the messages behind the undecodable ones had, where the source has any.
    letters: Vec<Letter>,
    silent: bool,
    traceparents: Vec<(String, String)>,
    rows: usize,
    messages: usize,
    last: Vec<PositionTuple>,
}

/// What a batch is judged by: its ticks, those among them that only stand for something undecodable, their origin.
pub type Ticks = (TickBatch, Vec<Broken>, Origin);

/// (stream, partition, offset, index) as Python sees a position.
pub type PositionTuple = (u32, u16, u64, u16);

/// Returns a position as Python sees it.
pub fn position_tuple(p: &Position) -> PositionTuple {
    (p.stream, p.partition, p.offset, p.index)
}

/// Key and headers as Python sees them, and whether it is about a part of the message alone.
type Shown<'py> = (Option<Bound<'py, PyBytes>>, Vec<(String, Option<Bound<'py, PyBytes>>)>, bool);

impl Batch {
    /// Returns a batch; the origin has an entry for each message of the decode call.
    pub fn new(decoded: Decoded, origin: Origin) -> Self {
        let Decoded { ticks, undecodable } = decoded;
        let undecodable = undecodable
            .into_iter()
            .map(|u| {
                let position = origin.position(u.message as usize, u.index.unwrap_or(0));
                (u, position_tuple(&position))
            })
            .collect();
        Batch {
            rows: ticks.len(),
            messages: origin.offset.len(),
            last: origin.last().iter().map(position_tuple).collect(),
            undecodable,
            letters: Vec::new(),
            silent: origin.silent,
            traceparents: traceparents(&origin),
            inner: Mutex::new(Some((ticks, Vec::new(), origin))),
        }
    }

    /// Returns a batch in which a row stands for everything undecodable, so that its sender gets an answer.
    pub fn answering(decoded: Decoded, origin: Origin) -> Self {
        let (ticks, broken) = decoded.with_rows_for_broken();
        Batch {
            rows: ticks.len(),
            messages: origin.offset.len(),
            last: origin.last().iter().map(position_tuple).collect(),
            undecodable: Vec::new(),
            letters: Vec::new(),
            silent: origin.silent,
            traceparents: traceparents(&origin),
            inner: Mutex::new(Some((ticks, broken, origin))),
        }
    }

    /// Returns a batch that keeps what else those of its messages had that could not be decoded.
    pub fn with_letters(decoded: Decoded, origin: Origin, letters: Vec<Letter>) -> Self {
        Batch { letters, ..Batch::new(decoded, origin) }
    }

    /// Takes the ticks out; a batch is judged once.
    pub fn take(&self) -> PyResult<Ticks> {
        self.inner.lock().ok().and_then(|mut inner| inner.take()).ok_or_else(judged)
    }

    /// Looks at a batch that has not been judged.
    pub fn with<T>(&self, look: impl FnOnce(&TickBatch, &Origin) -> PyResult<T>) -> PyResult<T> {
        let inner = lock(&self.inner)?;
        let (ticks, _, origin) = inner.as_ref().ok_or_else(judged)?;
        look(ticks, origin)
    }
}

fn traceparents(origin: &Origin) -> Vec<(String, String)> {
    let id = |message: u32| origin.position(message as usize, 0).trade_id().hex();
    let part = |message| String::from_utf8_lossy(&id(message)[..TradeId::MESSAGE_DIGITS]).into_owned();
    origin.traceparents.iter().map(|(message, trace)| (part(*message), trace.clone())).collect()
}

fn judged() -> PyErr {
    pyo3::exceptions::PyValueError::new_err("this batch has been judged already")
}

#[pymethods]
impl Batch {
    /// Number of ticks.
    #[getter]
    fn rows(&self) -> usize {
        self.rows
    }

    /// Number of messages that it was decoded from.
    #[getter]
    fn messages(&self) -> usize {
        self.messages
    }

    /// Position of the last message of each of its partitions.
    #[getter]
    fn last_positions(&self) -> Vec<PositionTuple> {
        self.last.clone()
    }

    /// The broker's time of its first message, ns since the Unix epoch; 0: it has none.
    #[getter]
    fn broker_ns(&self) -> PyResult<i64> {
        self.with(|_, origin| Ok(origin.broker_ns.first().copied().unwrap_or_default()))
    }

    /// Whether anything could not be decoded.
    #[getter]
    fn has_undecodable(&self) -> bool {
        !self.undecodable.is_empty()
    }

    /// Whether it only fills the windows: its trades are elsewhere already.
    #[getter]
    fn silent(&self) -> bool {
        self.silent
    }

    /// Trace contexts of its messages that came with one, by the part of the trade id that names the message.
    #[getter]
    fn traceparents(&self) -> Vec<(String, String)> {
        self.traceparents.clone()
    }

    /// Key and headers of the messages of `undecodable`, one for each, and whether it is about one tick of several;
    /// empty where there are none.
    #[getter]
    fn letters<'py>(&self, py: Python<'py>) -> Vec<Shown<'py>> {
        let bytes = |value: &Option<Vec<u8>>| value.as_ref().map(|value| PyBytes::new(py, value));
        let shown = |(letter, (undecodable, _)): (&Letter, &(Undecodable, PositionTuple))| {
            let headers = letter.headers.iter().map(|(name, value)| (name.clone(), bytes(value))).collect();
            (bytes(&letter.key), headers, undecodable.index.is_some())
        };
        self.letters.iter().zip(&self.undecodable).map(shown).collect()
    }

    /// What could not be decoded: (position, bytes, why).
    #[getter]
    fn undecodable<'py>(&self, py: Python<'py>) -> Vec<(PositionTuple, Bound<'py, PyBytes>, String)> {
        self.undecodable.iter().map(|(u, p)| (*p, PyBytes::new(py, &u.bytes), u.error.to_string())).collect()
    }
}
