//! NATS and JetStream for Python: batches out, positions in, payloads to publish ([`publisher`]).
//!
//! Python pulls; the network threads never call it. Whatever waits does so without the GIL and looks for signals.

use crate::batch::{Batch, PositionTuple};
use crate::error::{ConfigError, SourceError};
use crate::messages::Letter;
use crate::topic::TopicTrades;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tickcast_core::Position;
use tickcast_core::decode::{Format, Options};
use tickcast_core::tape::Arrived;
use tickcast_nats::{AtHand, Error, Health, JetStreamConfig, Meters, NatsConfig, NewStream, Servers, Start};

mod publisher;

/// Signals are looked for this often while waiting.
const SLICE: Duration = Duration::from_millis(100);

/// Adds the classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<NatsSource>()?;
    module.add_class::<JetStreamSource>()?;
    module.add_class::<publisher::NatsPublisher>()?;
    module.add_function(wrap_pyfunction!(subject_covers, module)?)
}

/// Tells whether a subject can be published to and is one of those that a pattern with wildcards stands for.
#[pyfunction]
fn subject_covers(pattern: &str, subject: &str) -> bool {
    tickcast_nats::subject_covers(pattern, subject)
}

/// A core NATS subject as a source.
#[pyclass(frozen, module = "tickcast._core")]
pub struct NatsSource(tickcast_nats::NatsSource);

/// A JetStream stream as a source.
#[pyclass(frozen, module = "tickcast._core")]
pub struct JetStreamSource(tickcast_nats::JetStreamSource);

/// One or more server URLs.
#[derive(FromPyObject)]
enum Urls {
    One(String),
    Many(Vec<String>),
}

#[pymethods]
impl NatsSource {
    #[new]
    #[pyo3(signature = (servers, subject, *, queue=None, format=None, volume_scale=1, instrument_scales=None,
        max_rows=4096, capacity=65_536, credentials=None, root_certificates=None, name=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn new(
        servers: Urls,
        subject: String,
        queue: Option<String>,
        format: Option<&str>,
        volume_scale: u64,
        instrument_scales: Option<HashMap<String, u64>>,
        max_rows: usize,
        capacity: usize,
        credentials: Option<PathBuf>,
        root_certificates: Option<PathBuf>,
        name: Option<String>,
    ) -> PyResult<Self> {
        let config = NatsConfig {
            servers: to_servers(servers, credentials, root_certificates, name),
            subject,
            queue,
            format: to_format(format)?,
            options: to_options(volume_scale, instrument_scales)?,
            max_rows,
            capacity,
        };
        tickcast_nats::NatsSource::open(config).map(NatsSource).map_err(to_py)
    }

    fn fileno(&self) -> i32 {
        self.0.descriptor()
    }

    #[pyo3(signature = (max_rows=4096))]
    fn poll(&self, py: Python<'_>, max_rows: usize) -> PyResult<Option<Batch>> {
        let batch = py.detach(|| self.0.poll(max_rows)).map_err(to_py)?;
        Ok(batch.map(to_batch))
    }

    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        patiently(py, Some(timeout), |slice| self.0.wait(slice).then_some(()))
    }

    fn state(&self) -> (&'static str, i64, String) {
        state(self.0.health())
    }

    #[getter]
    fn lost(&self) -> u64 {
        self.0.meters().lost
    }

    fn meters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        meters(py, self.0.meters())
    }

    #[getter]
    fn url(&self) -> &str {
        self.0.url()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

#[pymethods]
impl JetStreamSource {
    #[new]
    #[pyo3(signature = (servers, subject, *, stream=None, durable=None, start="all", positions=Vec::new(),
        create=false, max_bytes=None, max_age=None, format=None, volume_scale=1, instrument_scales=None,
        max_rows=4096, window=2048, credentials=None, root_certificates=None, name=None, trades=false,
        since_ns=None, at_hand=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn new(
        servers: Urls,
        subject: String,
        stream: Option<String>,
        durable: Option<String>,
        start: &str,
        positions: Vec<PositionTuple>,
        create: bool,
        max_bytes: Option<u64>,
        max_age: Option<f64>,
        format: Option<&str>,
        volume_scale: u64,
        instrument_scales: Option<HashMap<String, u64>>,
        max_rows: usize,
        window: usize,
        credentials: Option<PathBuf>,
        root_certificates: Option<PathBuf>,
        name: Option<String>,
        trades: bool,
        since_ns: Option<i64>,
        at_hand: Option<(Vec<PositionTuple>, i64)>,
    ) -> PyResult<Self> {
        let to_positions = |tuples: Vec<PositionTuple>| {
            let each = |(stream, partition, offset, index)| Position { stream, partition, offset, index };
            tuples.into_iter().map(each).collect()
        };
        let config = JetStreamConfig {
            servers: to_servers(servers, credentials, root_certificates, name),
            subject,
            stream,
            durable,
            start: match (since_ns, start) {
                (Some(since_ns), _) => Start::Since(since_ns),
                (None, "all") => Start::All,
                (None, "new") => Start::New,
                (None, other) => return Err(wrong("start", other, "all or new")),
            },
            positions: to_positions(positions),
            at_hand: at_hand.map(|(oldest, reach_ns)| AtHand { oldest: to_positions(oldest), reach_ns }),
            create: to_new_stream(create, max_bytes, max_age)?,
            format: to_format(format)?,
            options: to_options(volume_scale, instrument_scales)?,
            max_rows,
            window,
            trades,
        };
        tickcast_nats::JetStreamSource::open(config).map(JetStreamSource).map_err(to_py)
    }

    fn fileno(&self) -> i32 {
        self.0.descriptor()
    }

    #[pyo3(signature = (max_rows=4096))]
    fn poll(&self, py: Python<'_>, max_rows: usize) -> PyResult<Option<Batch>> {
        let batch = py.detach(|| self.0.poll(max_rows)).map_err(to_py)?;
        Ok(batch.map(to_batch))
    }

    /// Returns all judged trades that have come, about `max_rows` at most, or None.
    #[pyo3(signature = (max_rows=4096))]
    fn poll_trades(&self, py: Python<'_>, max_rows: usize) -> PyResult<Option<TopicTrades>> {
        let batch = py.detach(|| self.0.poll(max_rows)).map_err(to_py)?;
        Ok(batch.map(|batch| {
            let (messages, arrival_ns) = (batch.origin.offset.len(), batch.origin.arrival_ns.first().copied());
            TopicTrades::new(Arrived::new(batch.trades, batch.origin.last(), arrival_ns.unwrap_or(0)), messages)
        }))
    }

    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        patiently(py, Some(timeout), |slice| self.0.wait(slice).then_some(()))
    }

    fn state(&self) -> (&'static str, i64, String) {
        state(self.0.health())
    }

    #[getter]
    fn lost(&self) -> u64 {
        self.0.meters().lost
    }

    fn meters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        meters(py, self.0.meters())
    }

    #[getter]
    fn url(&self) -> &str {
        self.0.url()
    }

    #[getter]
    fn started(&self) -> Option<(u32, u64, &'static str)> {
        self.0.started().map(|started| (started.stream, started.sequence, started.from.name()))
    }

    #[getter]
    fn begins_anew(&self) -> bool {
        self.0.begins_anew()
    }

    #[getter]
    fn waiting(&self) -> Option<u64> {
        self.0.waiting()
    }

    fn load_position(&self) -> Option<(u64, u16)> {
        self.0.load_position()
    }

    #[pyo3(signature = (stream, sequence, index=u16::MAX, lowest=None))]
    fn save_position(&self, stream: u32, sequence: u64, index: u16, lowest: Option<u64>) {
        self.0.save_position(stream, sequence, index, lowest);
    }

    #[getter]
    fn saved_position(&self) -> Option<(u64, u16)> {
        self.0.saved_position()
    }

    #[getter]
    fn save_trouble(&self) -> Option<String> {
        self.0.save_trouble()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

/// Tries without the GIL until something comes of it, slice by slice, `timeout` seconds in all (`None`: for ever);
/// false if nothing came.
fn patiently(
    py: Python<'_>,
    timeout: Option<f64>,
    mut attempt: impl FnMut(Duration) -> Option<()> + Send,
) -> PyResult<bool> {
    let end = match timeout {
        Some(timeout) => Instant::now().checked_add(to_duration("timeout", timeout)?),
        None => None,
    };
    loop {
        let left = end.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()).min(SLICE));
        if py.detach(|| attempt(left)).is_some() {
            return Ok(true);
        }
        if left < SLICE {
            return Ok(false);
        }
        py.check_signals()?;
    }
}

/// Returns a batch for Python; the key of what could not be decoded is its subject.
fn to_batch(batch: tickcast_nats::Batch) -> Batch {
    let letter = |letter: tickcast_nats::Letter| Letter {
        key: Some(letter.subject.into_bytes()),
        headers: letter.headers.into_iter().map(|(name, value)| (name, Some(value.into_bytes()))).collect(),
    };
    let letters = batch.letters.into_iter().map(letter).collect();
    Batch::with_letters(batch.decoded, batch.origin, letters)
}

fn to_servers(
    urls: Urls,
    credentials: Option<PathBuf>,
    root_certificates: Option<PathBuf>,
    name: Option<String>,
) -> Servers {
    let urls = match urls {
        Urls::One(url) => vec![url],
        Urls::Many(urls) => urls,
    };
    Servers { urls, credentials, root_certificates, name: name.unwrap_or_default() }
}

fn to_format(name: Option<&str>) -> PyResult<Option<Format>> {
    let found = |name| Format::from_name(name).ok_or_else(|| wrong("format", name, "proto, proto-batch or json"));
    name.map(found).transpose()
}

fn to_options(volume_scale: u64, instrument_scales: Option<HashMap<String, u64>>) -> PyResult<Options> {
    let options = Options { volume_scale, per_instrument_scale: instrument_scales.unwrap_or_default() };
    options.validate().map_err(crate::error::to_py)?;
    Ok(options)
}

fn to_new_stream(create: bool, max_bytes: Option<u64>, max_age: Option<f64>) -> PyResult<Option<NewStream>> {
    let max_age = max_age.map(|seconds| to_duration("max_age", seconds)).transpose()?;
    Ok((create || max_bytes.is_some() || max_age.is_some()).then_some(NewStream { max_bytes, max_age }))
}

fn to_duration(key: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong(key, &seconds.to_string(), "seconds, 0 or more"))
}

fn wrong(key: &str, value: &str, allowed: &str) -> PyErr {
    ConfigError::new_err(format!("{key} = {value}: {allowed}"))
}

fn state(health: Health) -> (&'static str, i64, String) {
    (health.state.name(), health.since_ns, health.detail)
}

fn meters(py: Python<'_>, meters: Meters) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("messages", meters.messages)?;
    dict.set_item("bytes", meters.bytes)?;
    dict.set_item("lost", meters.lost)?;
    dict.set_item("lost_at_most", meters.lost_at_most)?;
    dict.set_item("repeats", meters.repeats)?;
    dict.set_item("disconnects", meters.disconnects)?;
    dict.set_item("pending", meters.pending)?;
    dict.set_item("last_arrival_ns", meters.last_arrival_ns)?;
    Ok(dict)
}

/// Returns the Python exception for an error of the NATS crate.
fn to_py(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Config { .. } => ConfigError::new_err(text),
        _ => SourceError::new_err(text),
    }
}
