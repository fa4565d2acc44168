//! The judge as Python sees it: begin a batch, show its columns to the rules, settle it, append it to the tape.

use crate::batch::{Batch, PositionTuple, position_tuple};
use crate::column::{Column, Columns, bytes_of};
use crate::error::to_py;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};
use tickcast_core::decode::{self, Format};
use tickcast_core::encode::json::{EnrichmentKeys, write_trade};
use tickcast_core::encode::{csv, proto};
use tickcast_core::judge::{Judge, Judged, Pending, Stages, Verdicts};
use tickcast_core::position::Origin;
use tickcast_core::screen::ScreenConfig;
use tickcast_core::trade::Status;
use tickcast_core::window::WindowConfig;

/// Wall clock, ns since the Unix epoch.
pub fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// Locks, and says so if a thread died while it held the lock.
pub fn lock<T>(mutex: &Mutex<T>) -> PyResult<MutexGuard<'_, T>> {
    mutex.lock().map_err(|_| PyValueError::new_err("an earlier call died in the middle of its work"))
}

/// Screen and windows.
#[pyclass(frozen, name = "Judge", module = "tickcast._core")]
pub struct PyJudge(pub Mutex<Judge>);

#[pymethods]
impl PyJudge {
    #[new]
    #[pyo3(signature = (*, id_chars=(3, 10), band=(0.01, 10_000.0), bands=None, max_ahead_ns=300_000_000_000,
                        window_ns=1_200_000_000_000, hold_ns=2_400_000_000_000, max_window_bytes=None))]
    fn new(
        id_chars: (usize, usize),
        band: (f64, f64),
        bands: Option<HashMap<String, (f64, f64)>>,
        max_ahead_ns: i64,
        window_ns: i64,
        hold_ns: i64,
        max_window_bytes: Option<u64>,
    ) -> PyResult<Self> {
        let screen =
            ScreenConfig { id_chars: id_chars.0..=id_chars.1, band, bands: bands.unwrap_or_default(), max_ahead_ns };
        let window = WindowConfig { window_ns, hold_ns, max_bytes: max_window_bytes };
        Ok(PyJudge(Mutex::new(Judge::new(screen, window).map_err(to_py)?)))
    }

    /// Screens a batch and lets it enter the windows.
    fn begin(&self, py: Python<'_>, batch: &Batch, live: bool) -> PyResult<PyPending> {
        let (ticks, broken, origin) = batch.take()?;
        let begun_ns = now_ns();
        let pending = py.detach(|| Ok::<_, PyErr>(lock(&self.0)?.begin(ticks, broken, origin, live)))?;
        Ok(PyPending::new(pending, begun_ns))
    }

    /// Judges one payload of a client against the windows without entering it.
    fn peek(&self, py: Python<'_>, payload: &[u8], stream: u32, first_offset: u64) -> PyResult<PyPending> {
        let arrival_ns = now_ns();
        let pending = py.detach(|| {
            let decoded = decode::decode([(Some(Format::Json), payload)], &decode::Options::default());
            let mut origin = Origin::new(stream, 0);
            origin.push(first_offset, arrival_ns, 0);
            let (ticks, broken) = decoded.with_rows_for_broken();
            Ok::<_, PyErr>(lock(&self.0)?.peek(ticks, broken, origin))
        })?;
        Ok(PyPending::new(pending, arrival_ns))
    }

    /// Takes the verdicts on the oldest pending batch.
    #[pyo3(signature = (pending, status, reason, reasons, rule, observed, limit, enrichments))]
    #[allow(clippy::too_many_arguments, reason = "one argument per column")]
    fn settle(
        &self,
        py: Python<'_>,
        pending: &PyPending,
        status: &[u8],
        reason: &[u8],
        reasons: Vec<(String, bool)>,
        rule: &[u8],
        observed: &[u8],
        limit: &[u8],
        enrichments: &[u8],
    ) -> PyResult<PyJudged> {
        let taken = pending.take()?;
        let rules_us = micros_since(pending.begun_ns);
        let reason = numbers(reason, u32::from_ne_bytes)?;
        let rule = numbers(rule, u16::from_ne_bytes)?;
        let observed = numbers(observed, f64::from_ne_bytes)?;
        let limit = numbers(limit, f64::from_ne_bytes)?;
        let enrichments = numbers(enrichments, f64::from_ne_bytes)?;
        let verdicts = Verdicts {
            status,
            reason: &reason,
            reasons: &reasons,
            rule: &rule,
            observed: &observed,
            limit: &limit,
            enrichments: &enrichments,
        };
        let mut judged = py.detach(|| lock(&self.0)?.settle(taken, verdicts).map_err(to_py))?;
        let enrich_us = micros_since(pending.begun_ns).saturating_sub(rules_us);
        judged.stages = Stages { begun_ns: pending.begun_ns, rules_us, enrich_us };
        Ok(PyJudged(judged))
    }

    /// Begins to keep the horizons of what enters: for sources that can be read again.
    #[pyo3(signature = (lookback_ns=0))]
    fn keep_horizons(&self, lookback_ns: i64) -> PyResult<()> {
        lock(&self.0)?.keep_horizons(lookback_ns);
        Ok(())
    }

    /// From where each source partition would have to be read again: (stream, partition, next offset, lowest offset).
    fn horizons(&self, py: Python<'_>) -> PyResult<Vec<(u32, u16, u64, u64)>> {
        let horizons = py.detach(|| Ok::<_, PyErr>(lock(&self.0)?.horizons()))?;
        Ok(horizons.into_iter().map(|h| (h.stream, h.partition, h.next, h.lowest)).collect())
    }

    /// Empties the windows of a source partition's instruments; False while a tick of theirs waits for its verdict.
    fn forget(&self, py: Python<'_>, stream: u32, partition: u16) -> PyResult<bool> {
        py.detach(|| Ok(lock(&self.0)?.forget(stream, partition)))
    }

    /// Ids of the instruments with codes from `start` on.
    fn instruments(&self, start: usize) -> PyResult<Vec<String>> {
        Ok(lock(&self.0)?.names().iter().skip(start).map(str::to_owned).collect())
    }

    /// (ticks held, bytes, instruments turned to buckets).
    fn window_figures(&self) -> PyResult<(u64, u64, usize)> {
        let judge = lock(&self.0)?;
        Ok((judge.windows().held(), judge.windows().bytes(), judge.windows().buckets().count()))
    }
}

fn micros_since(start_ns: i64) -> u32 {
    u32::try_from((now_ns() - start_ns).max(0) / 1000).unwrap_or(u32::MAX)
}

/// Numbers out of bytes of the machine's byte order.
fn numbers<const N: usize, T>(bytes: &[u8], one: impl Fn([u8; N]) -> T) -> PyResult<Vec<T>> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(PyValueError::new_err(format!("{} bytes are no column of {N}-byte numbers", bytes.len())));
    }
    Ok(chunks.iter().map(|c| one(*c)).collect())
}

/// Shares the columns of a pending batch with NumPy; what the rules may keep outlives settling.
struct Shown {
    price: Vec<f64>,
    volume: Vec<i64>,
    timestamp_ns: Vec<i64>,
    instrument: Vec<i32>,
    rules_vwap: Vec<f64>,
    event_clock_ns: Vec<i64>,
}

impl Columns for Shown {
    fn column(&self, which: u8) -> (&[u8], usize, &'static CStr) {
        match which {
            0 => (bytes_of(&self.price), 8, c"d"),
            1 => (bytes_of(&self.volume), 8, c"q"),
            2 => (bytes_of(&self.timestamp_ns), 8, c"q"),
            3 => (bytes_of(&self.instrument), 4, c"i"),
            4 => (bytes_of(&self.rules_vwap), 8, c"d"),
            _ => (bytes_of(&self.event_clock_ns), 8, c"q"),
        }
    }
}

/// A screened batch whose rules have not spoken yet.
#[pyclass(frozen, name = "Pending", module = "tickcast._core")]
pub struct PyPending {
    inner: Mutex<Option<Pending>>,
    shown: Arc<Shown>,
    begun_ns: i64,
    rows: usize,
    late: u64,
    stamped: u64,
}

impl PyPending {
    /// Shows what is only for the rules to see, and can't be settled.
    pub fn only_seen(pending: Pending) -> Self {
        let shown = Self::new(pending, now_ns());
        PyPending { inner: Mutex::new(None), ..shown }
    }

    fn new(mut pending: Pending, begun_ns: i64) -> Self {
        let shown = Arc::new(Shown {
            price: std::mem::take(&mut pending.price),
            volume: std::mem::take(&mut pending.volume),
            timestamp_ns: std::mem::take(&mut pending.timestamp_ns),
            instrument: pending.instrument.clone(),
            rules_vwap: pending.rules_vwap.clone(),
            event_clock_ns: std::mem::take(&mut pending.event_clock_ns),
        });
        PyPending {
            rows: pending.len(),
            late: pending.late,
            stamped: pending.stamped,
            inner: Mutex::new(Some(pending)),
            shown,
            begun_ns,
        }
    }

    /// Looks at a batch that has not been settled.
    pub fn with<T>(&self, look: impl FnOnce(&Pending) -> PyResult<T>) -> PyResult<T> {
        let settled = || PyValueError::new_err("this batch has been settled already");
        look(lock(&self.inner)?.as_ref().ok_or_else(settled)?)
    }

    fn take(&self) -> PyResult<Pending> {
        lock(&self.inner)?.take().ok_or_else(|| PyValueError::new_err("this batch has been settled already"))
    }

    fn shown(&self, which: u8) -> Column {
        Column::new(self.shown.clone(), which)
    }
}

#[pymethods]
impl PyPending {
    /// Number of ticks, the refused ones included.
    #[getter]
    fn rows(&self) -> usize {
        self.rows
    }
    /// Number of ticks that passed the screen: the length of the columns.
    fn __len__(&self) -> usize {
        self.shown.price.len()
    }
    #[getter]
    fn price(&self) -> Column {
        self.shown(0)
    }
    #[getter]
    fn volume(&self) -> Column {
        self.shown(1)
    }
    #[getter]
    fn timestamp_ns(&self) -> Column {
        self.shown(2)
    }
    #[getter]
    fn instrument(&self) -> Column {
        self.shown(3)
    }
    #[getter]
    fn vwap_20m(&self) -> Column {
        self.shown(4)
    }
    #[getter]
    fn event_clock_ns(&self) -> Column {
        self.shown(5)
    }
    #[getter]
    fn late(&self) -> u64 {
        self.late
    }
    #[getter]
    fn stamped(&self) -> u64 {
        self.stamped
    }
}

/// Judged trades on their way to the tape.
#[pyclass(frozen, name = "Judged", module = "tickcast._core")]
pub struct PyJudged(pub Judged);

#[pymethods]
impl PyJudged {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// (UNKNOWN, VALID, INVALID).
    #[getter]
    fn counts(&self) -> (usize, usize, usize) {
        (self.0.count(Status::Unknown), self.0.count(Status::Valid), self.0.count(Status::Invalid))
    }

    /// Position of the last message of each partition.
    #[getter]
    fn last_positions(&self) -> Vec<PositionTuple> {
        self.0.last_positions().iter().map(position_tuple).collect()
    }

    /// Whether these trades are elsewhere already: they only fill the windows.
    #[getter]
    fn silent(&self) -> bool {
        self.0.is_silent()
    }

    /// When the last message arrived, ns; 0: there is none.
    #[getter]
    fn last_arrival_ns(&self) -> i64 {
        self.0.last_arrival_ns()
    }

    /// The trades as CSV rows.
    fn csv_lines<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let out = py.detach(|| {
            let mut out = Vec::with_capacity(self.0.len() * 160);
            self.0.entries().for_each(|entry| csv::write_trade(&mut out, &entry.trade));
            out
        });
        PyBytes::new(py, &out)
    }

    /// The trades in the plain JSON form, one a line.
    fn json_lines<'py>(&self, py: Python<'py>, enrichments: Vec<String>) -> Bound<'py, PyBytes> {
        let out = py.detach(|| {
            let keys = EnrichmentKeys::new(&enrichments);
            let mut out = Vec::with_capacity(self.0.len() * 220);
            for entry in self.0.entries() {
                write_trade(&mut out, &entry.trade, &keys);
                out.push(b'\n');
            }
            out
        });
        PyBytes::new(py, &out)
    }

    /// Each trade as a `marketdata.ValidatedTrade`.
    fn proto<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let (out, ends) = py.detach(|| {
            let (mut out, mut ends) = (Vec::with_capacity(self.0.len() * 96), Vec::with_capacity(self.0.len()));
            for entry in self.0.entries() {
                proto::write_trade(&mut out, &entry.trade);
                ends.push(out.len());
            }
            (out, ends)
        });
        parts(py, &out, &ends)
    }

    /// The trades of each message as a `tickcast.v1.ValidatedTradeBatch`.
    fn proto_batches<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let (out, ends) = py.detach(|| {
            let (message, messages) = self.0.messages();
            let mut out = Vec::with_capacity(self.0.len() * 96);
            let mut ends = Vec::with_capacity(messages);
            for (row, entry) in self.0.entries().enumerate() {
                while ends.len() < message[row] as usize {
                    ends.push(out.len());
                }
                proto::write_batch_trade(&mut out, &entry.trade);
            }
            ends.resize(messages, out.len());
            (out, ends)
        });
        parts(py, &out, &ends)
    }

    /// Each trade in the plain JSON form.
    fn json(&self, enrichments: Vec<String>) -> Vec<String> {
        let keys = EnrichmentKeys::new(&enrichments);
        let one = |entry: tickcast_core::tape::Entry<'_>| {
            let mut out = Vec::with_capacity(220);
            write_trade(&mut out, &entry.trade, &keys);
            String::from_utf8_lossy(&out).into_owned()
        };
        self.0.entries().map(one).collect()
    }
}

/// Cuts `bytes` at `ends`.
fn parts<'py>(py: Python<'py>, bytes: &[u8], ends: &[usize]) -> Vec<Bound<'py, PyBytes>> {
    let mut start = 0;
    let part = |&end: &usize| PyBytes::new(py, &bytes[std::mem::replace(&mut start, end)..end]);
    ends.iter().map(part).collect()
}
