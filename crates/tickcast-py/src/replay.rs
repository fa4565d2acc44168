//! A recorded file, read in batches and handed out as its time comes.

use crate::batch::Batch;
use crate::error::to_py;
use crate::judge::{lock, now_ns};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use tickcast_core::decode::Options;
use tickcast_core::decode::csv::{Columns, CsvReader, Instrument};
use tickcast_core::position::Origin;
use tickcast_core::{Decoded, Result, TickBatch, Undecodable};

const CHUNK_ROWS: usize = 8192;

/// Reads a recorded file forward; positions are rows from 0.
#[pyclass(frozen, module = "tickcast._core")]
pub struct Replay {
    stream: u32,
    bytes_total: u64,
    inner: Mutex<Recording>,
}

struct Recording {
    reader: CsvReader<Box<dyn std::io::Read + Send>>,
    ticks: TickBatch,
    /// Row of the file of message 0 of `ticks`.
    first_row: u64,
    undecodable: std::collections::VecDeque<Undecodable>,
    next: usize,
    bytes_read: u64,
    done: bool,
}

impl Recording {
    /// Makes sure that there is something to hand out, if the file has more.
    fn fill(&mut self) -> Result<()> {
        while !self.done && self.next >= self.ticks.len() && self.undecodable.is_empty() {
            match self.reader.next_batch(CHUNK_ROWS)? {
                None => self.done = true,
                Some(batch) => {
                    self.first_row = batch.first_row;
                    self.bytes_read = batch.bytes_read;
                    self.undecodable = batch.decoded.undecodable.into();
                    self.ticks = batch.decoded.ticks;
                    self.next = 0;
                }
            }
        }
        Ok(())
    }

    /// Hands out rows in order up to `max_rows`, stopping at the first tick later than `until_ns`.
    fn take(&mut self, stream: u32, until_ns: Option<i64>, max_rows: usize) -> Result<Option<Batch>> {
        self.fill()?;
        let arrival_ns = now_ns();
        let mut decoded = Decoded::default();
        let mut origin = Origin::new(stream, 0);
        while origin.offset.len() < max_rows {
            let tick = (self.next < self.ticks.len()).then(|| self.ticks.message[self.next]);
            let message = origin.offset.len() as u32;
            let row = match (self.undecodable.front().map(|u| u.message), tick) {
                (Some(bad), tick) if tick.is_none_or(|t| bad < t) => {
                    decoded.undecodable.extend(self.undecodable.pop_front().map(|u| Undecodable { message, ..u }));
                    bad
                }
                (_, Some(row)) => {
                    let (t, i) = (&self.ticks, self.next);
                    if until_ns.is_some_and(|until| t.timestamp_ns[i] > until) {
                        break;
                    }
                    decoded.ticks.push(t.id(i), t.price[i], t.volume[i], t.timestamp_ns[i], message, 0);
                    self.next += 1;
                    row
                }
                (_, None) => break,
            };
            origin.push(self.first_row + u64::from(row), arrival_ns, 0);
        }
        Ok((!origin.offset.is_empty()).then(|| Batch::new(decoded, origin)))
    }

    /// Event time of what comes next, ns; of an undecodable row: the earliest possible.
    fn next_time_ns(&mut self) -> Result<Option<i64>> {
        self.fill()?;
        let tick = (self.next < self.ticks.len()).then_some(self.next);
        Ok(match (self.undecodable.front(), tick) {
            (Some(bad), tick) if tick.is_none_or(|i| bad.message < self.ticks.message[i]) => Some(i64::MIN),
            (_, Some(i)) => Some(self.ticks.timestamp_ns[i]),
            (_, None) => None,
        })
    }
}

/// A Python object with `read(size) -> bytes`.
struct PythonFile(Py<PyAny>);

impl std::io::Read for PythonFile {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Python::attach(|py| {
            let bytes = self.0.call_method1(py, "read", (buffer.len(),))?;
            let bytes: PyBackedBytes = bytes.extract(py)?;
            let room = buffer.get_mut(..bytes.len()).ok_or_else(|| PyValueError::new_err("read gave too much"))?;
            room.copy_from_slice(&bytes);
            Ok(bytes.len())
        })
        .map_err(|error: PyErr| std::io::Error::other(error.to_string()))
    }
}

/// Returns the columns of a file; `names` has those that are not called as ours.
fn columns_of(names: Option<HashMap<String, String>>, instrument: Option<String>, unit_ns: u64) -> Columns {
    let mut names = names.unwrap_or_default();
    let mut name = |ours: &str| names.remove(ours).unwrap_or_else(|| ours.to_owned());
    let id = name("instrument_id");
    Columns {
        instrument: instrument.map_or(Instrument::Column(id), Instrument::All),
        price: name("price"),
        volume: name("volume"),
        timestamp: name("timestamp_ns"),
        unit_ns,
    }
}

#[pymethods]
impl Replay {
    #[new]
    #[pyo3(signature = (path, *, stream, volume_scale=1, volume_scales=None, columns=None, instrument=None, unit_ns=1,
        input=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments, one per option")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        stream: u32,
        volume_scale: u64,
        volume_scales: Option<HashMap<String, u64>>,
        columns: Option<HashMap<String, String>>,
        instrument: Option<String>,
        unit_ns: u64,
        input: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let columns = columns_of(columns, instrument, unit_ns);
        let options = Options { volume_scale, per_instrument_scale: volume_scales.unwrap_or_default() };
        py.detach(|| {
            let from_python = input.is_some();
            let reader = match input {
                None => CsvReader::open_as(&path, &options, &columns)?,
                Some(input) => {
                    let input: Box<dyn std::io::Read + Send> = Box::new(PythonFile(input));
                    CsvReader::new_as(input, &path, &options, &columns)?
                }
            };
            let bytes_total = if from_python { 0 } else { std::fs::metadata(&path).map_or(0, |m| m.len()) };
            let recording = Recording {
                reader,
                ticks: TickBatch::default(),
                first_row: 0,
                undecodable: Default::default(),
                next: 0,
                bytes_read: 0,
                done: false,
            };
            Ok(Replay { stream, bytes_total, inner: Mutex::new(recording) })
        })
        .map_err(to_py)
    }

    /// Stream number of the positions.
    #[getter]
    fn stream(&self) -> u32 {
        self.stream
    }

    /// Size of the file, bytes; 0: not known.
    #[getter]
    fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    /// Bytes of the file read so far.
    #[getter]
    fn bytes_read(&self, py: Python<'_>) -> PyResult<u64> {
        py.detach(|| Ok(lock(&self.inner)?.bytes_read))
    }

    /// Whether everything has been handed out.
    #[getter]
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| {
            let r = lock(&self.inner)?;
            Ok(r.done && r.next >= r.ticks.len() && r.undecodable.is_empty())
        })
    }

    /// Leaves out the rows before `row`.
    fn skip(&self, py: Python<'_>, row: u64) -> PyResult<()> {
        py.detach(|| {
            let mut r = lock(&self.inner)?;
            loop {
                r.fill().map_err(to_py)?;
                if r.done {
                    return Ok(());
                }
                let first_row = r.first_row;
                let before = |message: u32| first_row + u64::from(message) < row;
                while r.next < r.ticks.len() && before(r.ticks.message[r.next]) {
                    r.next += 1;
                }
                while r.undecodable.front().is_some_and(|u| before(u.message)) {
                    r.undecodable.pop_front();
                }
                if r.next < r.ticks.len() || !r.undecodable.is_empty() {
                    return Ok(());
                }
            }
        })
    }

    /// Event time of the next row, ns; None at the end.
    fn next_time_ns(&self, py: Python<'_>) -> PyResult<Option<i64>> {
        py.detach(|| lock(&self.inner)?.next_time_ns().map_err(to_py))
    }

    /// The next rows, at most `max_rows`, not later than `until_ns`; None where there are none.
    fn take(&self, py: Python<'_>, until_ns: Option<i64>, max_rows: usize) -> PyResult<Option<Batch>> {
        py.detach(|| lock(&self.inner)?.take(self.stream, until_ns, max_rows).map_err(to_py))
    }
}
