//! The tape's writer as Python sees it.

use crate::batch::{PositionTuple, position_tuple};
use crate::columns::{self, TradeColumns};
use crate::error::to_py;
use crate::frames::{self, Counts, FrameNames};
use crate::judge::{PyJudge, PyJudged, PyPending, lock};
use crate::messages::PyOutbox;
use crate::topic::{PyRepeats, TopicTrades};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use tickcast_core::checkpoint::{self, Restored};
use tickcast_core::decode::Format;
use tickcast_core::judge::{Judge, Pending};
use tickcast_core::outbox::{self, Dictionaries, Outbox, Owned};
use tickcast_core::position::Position;
use tickcast_core::repeats::Repeats;
use tickcast_core::tape::{Enrichment, Followed, Hold, Read, Record, Run, TapeOptions, TapeReader, TapeWriter, flags};
use tickcast_core::trade::Status;

/// The one writer of a run-dir's tape.
#[pyclass(frozen, name = "TapeWriter", module = "tickcast._core")]
pub struct PyTapeWriter(Mutex<Option<TapeWriter>>);

impl PyTapeWriter {
    /// Calls `f` with the writer, unless it has been closed.
    fn with<T>(&self, f: impl FnOnce(&mut TapeWriter) -> PyResult<T>) -> PyResult<T> {
        let closed = || PyValueError::new_err("this tape writer has been closed");
        f(lock(&self.0)?.as_mut().ok_or_else(closed)?)
    }

    /// Returns a reader of the tape.
    pub fn reader(&self) -> PyResult<TapeReader> {
        self.with(|writer| Ok(writer.reader()))
    }
}

#[pymethods]
impl PyTapeWriter {
    #[new]
    #[pyo3(signature = (run_dir, *, bytes, enrichments, rules, rule_set, max_instruments, fresh=false, epoch=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments, one per option")]
    fn new(
        py: Python<'_>,
        run_dir: PathBuf,
        bytes: u64,
        enrichments: Vec<(String, String)>,
        rules: Vec<String>,
        rule_set: String,
        max_instruments: u32,
        fresh: bool,
        epoch: Option<u64>,
    ) -> PyResult<Self> {
        let options = TapeOptions {
            bytes,
            enrichments: enrichments.into_iter().map(|(name, unit)| Enrichment { name, unit }).collect(),
            rules,
            rule_set,
            max_instruments,
            fresh,
            epoch,
            ..TapeOptions::default()
        };
        py.detach(|| TapeWriter::open(&run_dir, &options)).map(|w| PyTapeWriter(Mutex::new(Some(w)))).map_err(to_py)
    }

    /// Whether the tape of an earlier life was taken up.
    #[getter]
    fn resumed(&self) -> PyResult<bool> {
        self.with(|w| Ok(w.resumed()))
    }

    /// The id of this life of the tape's numbering.
    #[getter]
    fn epoch(&self) -> PyResult<u64> {
        self.with(|w| Ok(w.epoch()))
    }

    /// The last sequence; 0: none.
    #[getter]
    fn head(&self) -> PyResult<u64> {
        self.with(|w| Ok(w.head()))
    }

    /// Most trades that the tape holds.
    #[getter]
    fn slots(&self) -> PyResult<u64> {
        Ok(self.reader()?.slots())
    }

    /// The last position of each source partition.
    #[getter]
    fn positions(&self) -> PyResult<Vec<PositionTuple>> {
        self.with(|w| Ok(w.positions().iter().map(position_tuple).collect()))
    }

    /// Appends trades, and with `positioned` the positions behind them; returns (first, last) sequence.
    ///
    /// None: a holding cursor has yet to confirm what would be overwritten; nothing was written, try again.
    fn append(&self, py: Python<'_>, judged: &PyJudged, positioned: bool) -> PyResult<Option<(u64, u64)>> {
        py.detach(|| {
            self.with(|writer| {
                let positions = if positioned { judged.0.last_positions() } else { Vec::new() };
                match writer.append(judged.0.entries(), &positions) {
                    Ok(range) => Ok(Some((*range.start(), *range.end()))),
                    Err(_) if writer.waits_for().is_some_and(|(_, confirmed)| confirmed < writer.head()) => Ok(None),
                    Err(error) => Err(to_py(error)),
                }
            })
        })
    }

    /// Appends the trades of a frame under the sequences they have; those left out are holes. Returns how many are
    /// UNKNOWN, VALID, INVALID.
    ///
    /// None: a holding cursor has yet to confirm what would be overwritten; try again.
    fn follow(&self, py: Python<'_>, names: &FrameNames, frame: &[u8], why: &[u8]) -> PyResult<Option<Counts>> {
        py.detach(|| {
            self.with(|writer| {
                let write =
                    |trades: &mut dyn Iterator<Item = Followed<'_>>, to| unless_held(writer, |w| w.follow(trades, to));
                let (written, counts) = frames::with_trades(names, frame, why, write)?;
                Ok(written.then_some(counts))
            })
        })
    }

    /// Appends those trades of a topic that `repeats` does not know, and the positions behind all of them; returns how
    /// many those are: UNKNOWN, VALID, INVALID.
    ///
    /// None: a holding cursor has yet to confirm what would be overwritten; try again.
    fn append_topic(&self, py: Python<'_>, trades: &TopicTrades, repeats: &PyRepeats) -> PyResult<Option<Counts>> {
        py.detach(|| {
            self.with(|writer| {
                let (mut arrived, mut repeats) = (lock(&trades.arrived)?, lock(&repeats.0)?);
                let written = unless_held(writer, |w| w.append_arrived(&mut arrived, &mut repeats))?;
                let [unknown, valid, invalid] = arrived.counts();
                Ok(written.then_some((unknown, valid, invalid)))
            })
        })
    }

    /// Has `repeats` know what is on the tape.
    fn recall(&self, py: Python<'_>, repeats: &PyRepeats) -> PyResult<()> {
        py.detach(|| {
            let reader = self.with(|w| Ok(w.reader()))?;
            *lock(&repeats.0)? = Repeats::of_tape(&reader);
            Ok(())
        })
    }

    /// Leaves a hole up to `to`; False where a holding cursor has yet to confirm what would be given up.
    fn skip(&self, py: Python<'_>, to: u64) -> PyResult<bool> {
        py.detach(|| self.with(|writer| unless_held(writer, |w| w.follow(std::iter::empty(), to))))
    }

    /// Enters the trades of a snapshot that lie before the tape's first one.
    fn seed(&self, py: Python<'_>, names: &FrameNames, frame: &[u8]) -> PyResult<()> {
        py.detach(|| {
            self.with(|writer| {
                frames::with_trades(names, frame, &[], |trades, _| {
                    writer.seed(trades);
                    Ok(())
                })?;
                Ok(())
            })
        })
    }

    /// Tells what the numbers of rules and rule sets mean in what follows.
    fn learn(&self, rules: Vec<String>, rule_sets: Vec<String>, rule_set: &str) -> PyResult<()> {
        self.with(|writer| writer.learn(&rules, &rule_sets, rule_set).map_err(to_py))
    }

    /// Lets the slowest sink lose `count` trades; returns its name and how many it lost.
    fn let_go(&self, count: u64) -> PyResult<Option<(String, u64)>> {
        self.with(|w| Ok(w.let_go(count)))
    }

    /// Notes a position without trades.
    fn commit(&self, py: Python<'_>, position: PositionTuple) -> PyResult<()> {
        let (stream, partition, offset, index) = position;
        let position = Position { stream, partition, offset, index };
        py.detach(|| self.with(|w| w.append(std::iter::empty(), &[position]).map(|_| ()).map_err(to_py)))
    }

    /// Puts the status board up.
    fn set_board(&self, py: Python<'_>, json: &[u8]) -> PyResult<()> {
        py.detach(|| self.with(|w| w.set_board(json).map_err(to_py)))
    }

    /// Returns a holding cursor: the writer does not overwrite what it has not confirmed.
    fn hold(&self, name: &str) -> PyResult<PyHold> {
        self.with(|w| {
            let hold = w.hold(name).map_err(to_py)?;
            Ok(PyHold { reader: w.reader(), hold, run: Mutex::new(Run::default()), dictionaries: Mutex::default() })
        })
    }

    /// Returns the ticks of the tape that rules look back on, as they saw them.
    fn look_back(&self, py: Python<'_>, judge: &PyJudge, lookback_ns: i64) -> PyResult<PyPending> {
        py.detach(|| {
            let reader = self.reader()?;
            Ok(PyPending::only_seen(look_back(&reader, &mut *lock(&judge.0)?, lookback_ns)))
        })
    }

    /// Returns the first position of each source partition that the tape still holds.
    fn first_positions(&self, py: Python<'_>) -> PyResult<Vec<PositionTuple>> {
        py.detach(|| {
            let mut first = BTreeMap::new();
            each_record(&self.reader()?, |_, r| {
                let Position { stream, partition, offset, index } = r.id().position();
                first.entry((stream, partition)).or_insert((stream, partition, offset, index));
            });
            Ok(first.into_values().collect())
        })
    }

    /// Refills the judge's windows with what the tape still holds; returns how many ticks that were.
    fn refill(&self, py: Python<'_>, judge: &PyJudge) -> PyResult<u64> {
        py.detach(|| Ok(refill(&self.reader()?, &mut *lock(&judge.0)?, None)))
    }

    /// Fills the judge's windows from a checkpoint and with what the tape has had since; None if there is no such file.
    ///
    /// Returns when it was written, ns since the Unix epoch, how many ticks come from it, how many from the tape, and
    /// how many trades lie between the two that neither has (None: the tape is another one, that is not known).
    fn restore(&self, py: Python<'_>, judge: &PyJudge, path: PathBuf) -> PyResult<Option<Restoration>> {
        py.detach(|| {
            let reader = self.with(|w| Ok(w.reader()))?;
            let mut judge = lock(&judge.0)?;
            let Some(restored) = checkpoint::restore(&path, &mut judge).map_err(to_py)? else { return Ok(None) };
            let same = restored.epoch == reader.epoch();
            let oldest = reader.oldest();
            let missing = same.then(|| restored.lowest.map_or(0, |lowest| (oldest - 1).saturating_sub(lowest)));
            let ticks = refill(&reader, &mut judge, Some(&restored).filter(|_| same));
            Ok(Some((restored.written_ns, restored.ticks, ticks, missing)))
        })
    }

    /// Ends in order and lets go of the lock; the writer can't be used any more.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| match lock(&self.0)?.take() {
            Some(writer) => writer.close().map_err(to_py),
            None => Ok(()),
        })
    }
}

/// Writes; `false` where a holding cursor has yet to confirm what would be overwritten.
fn unless_held(
    writer: &mut TapeWriter,
    write: impl FnOnce(&mut TapeWriter) -> tickcast_core::Result<()>,
) -> PyResult<bool> {
    match write(writer) {
        Ok(()) => Ok(true),
        Err(_) if writer.waits_for().is_some_and(|(_, confirmed)| confirmed < writer.head()) => Ok(false),
        Err(error) => Err(to_py(error)),
    }
}

/// When a checkpoint was written, its ticks, those from the tape, trades that neither has.
type Restoration = (i64, u64, u64, Option<u64>);

fn refill(reader: &TapeReader, judge: &mut Judge, restored: Option<&Restored>) -> u64 {
    let mut ticks = 0;
    each_screened(reader, |id, r| {
        if !restored.is_some_and(|known| known.has(id, r.timestamp_ns(), r.seq())) {
            let valid = r.status() == Status::Valid;
            judge.refill(id, r.price(), r.volume(), r.timestamp_ns(), valid, r.id().position());
            ticks += 1;
        }
    });
    ticks
}

/// The ticks of the last `lookback_ns` that passed the screen, with the VWAP that the rules saw.
fn look_back(reader: &TapeReader, judge: &mut Judge, lookback_ns: i64) -> Pending {
    let mut newest_ns = i64::MIN;
    each_screened(reader, |_, r| newest_ns = newest_ns.max(r.timestamp_ns()));
    let from_ns = newest_ns.saturating_sub(lookback_ns);
    let mut seen = Pending::default();
    each_screened(reader, |id, r| {
        if r.timestamp_ns() > from_ns {
            judge.show_again(&mut seen, id, r.price(), r.volume(), r.timestamp_ns(), r.rules_vwap());
        }
    });
    seen
}

/// Calls `f` with each trade on the tape that passed the screen, and its instrument id.
fn each_screened(reader: &TapeReader, mut f: impl FnMut(&str, &Record<'_>)) {
    each_record(reader, |id, r| {
        if let Some(id) = id.filter(|_| r.flags() & flags::SCREENED != 0) {
            f(id, r);
        }
    });
}

/// Calls `f` with each trade on the tape, and its instrument id where it has one.
fn each_record(reader: &TapeReader, mut f: impl FnMut(Option<&str>, &Record<'_>)) {
    let instruments = reader.instruments(0);
    let mut run = Run::default();
    let mut from = reader.oldest();
    while from <= reader.head() {
        from = match reader.read(from, reader.head().min(from + 4095), &mut run) {
            Read::Overrun { oldest } => oldest,
            Read::Hole { to } => to + 1,
            Read::Done { to } => {
                for r in run.iter() {
                    let listed = instruments.get(r.instrument() as usize).map(String::as_str);
                    f(r.instrument_text().or(listed), &r);
                }
                to + 1
            }
        };
    }
}

/// A sink's cursor on the tape.
#[pyclass(frozen, name = "Hold", module = "tickcast._core")]
pub struct PyHold {
    reader: TapeReader,
    hold: Hold,
    run: Mutex<Run>,
    dictionaries: Mutex<Dictionaries>,
}

#[pymethods]
impl PyHold {
    /// Trades on the tape that have not been confirmed.
    #[getter]
    fn lag(&self) -> u64 {
        self.reader.head().saturating_sub(self.hold.confirmed())
    }

    /// Waits up to `wait_s` for trades; returns those after what was confirmed, at most `max_trades`, in the plain
    /// JSON form, one a line, and the last sequence.
    fn read_lines<'py>(&self, py: Python<'py>, max_trades: u64, wait_s: f64) -> PyResult<(Bound<'py, PyBytes>, u64)> {
        let (lines, last) = py.detach(|| {
            let confirmed = self.hold.confirmed();
            let mut head = self.reader.head();
            if head <= confirmed && wait_s > 0.0 {
                head = self.reader.wait(head, Duration::from_secs_f64(wait_s));
            }
            let mut lines = Vec::new();
            if head <= confirmed {
                return Ok::<_, PyErr>((lines, confirmed));
            }
            let mut run = lock(&self.run)?;
            match self.reader.read(confirmed + 1, head.min(confirmed + max_trades), &mut run) {
                Read::Done { to } => {
                    for record in run.iter() {
                        lines.extend_from_slice(record.json());
                        lines.push(b'\n');
                    }
                    Ok((lines, to))
                }
                Read::Hole { to } => {
                    self.hold.confirm(to);
                    Ok((lines, to))
                }
                // The writer never overwrites what is held: only a tape from before the hold can lack it.
                Read::Overrun { oldest } => {
                    self.hold.confirm(oldest.saturating_sub(1));
                    Ok((lines, oldest.saturating_sub(1)))
                }
            }
        })?;
        Ok((PyBytes::new(py, &lines), last))
    }

    /// Last sequence that is confirmed.
    #[getter]
    fn confirmed(&self) -> u64 {
        self.hold.confirmed()
    }

    /// Waits up to `wait_s` for trades; returns those after what was confirmed as messages, at most about `max_trades`
    /// and never a part of a message of the source.
    #[pyo3(signature = (max_trades, wait_s, format, owned=None, until=None, traces=None))]
    #[allow(clippy::too_many_arguments, reason = "optional ones of Python")]
    fn read_messages(
        &self,
        py: Python<'_>,
        max_trades: u64,
        wait_s: f64,
        format: &str,
        owned: Option<Owned>,
        until: Option<u64>,
        traces: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyOutbox> {
        let format = Format::from_name(format).ok_or_else(|| PyValueError::new_err(format!("format {format:?}")))?;
        let outbox = py.detach(|| {
            let confirmed = self.hold.confirmed();
            let head = self.reader.head();
            if head <= confirmed && wait_s > 0.0 {
                self.reader.wait(head, Duration::from_secs_f64(wait_s));
            }
            if self.reader.head() <= confirmed {
                return Ok::<_, PyErr>(Outbox::empty(&self.reader, format, confirmed));
            }
            let (mut run, mut dictionaries) = (lock(&self.run)?, lock(&self.dictionaries)?);
            let range = outbox::Range { confirmed, max_trades, until };
            Ok(outbox::read(&self.reader, &mut dictionaries, &mut run, range, format, owned.as_ref()))
        })?;
        PyOutbox::new(outbox, traces)
    }

    /// Names of the enrichments, in the order of the columns.
    #[getter]
    fn enrichments(&self) -> Vec<String> {
        self.reader.enrichments().iter().map(|e| e.name.clone()).collect()
    }

    /// Most trades that the tape holds.
    #[getter]
    fn slots(&self) -> u64 {
        self.reader.slots()
    }

    /// Waits up to `wait_s` for trades; returns those after sequence `after`, at most `max_trades`, as columns.
    fn read_columns<'py>(
        &self,
        py: Python<'py>,
        after: u64,
        max_trades: u64,
        wait_s: f64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let columns = py.detach(|| {
            let head = self.reader.head();
            if head <= after && wait_s > 0.0 {
                self.reader.wait(head, Duration::from_secs_f64(wait_s));
            }
            if self.reader.head() <= after {
                return Ok::<_, PyErr>(TradeColumns::empty(after));
            }
            let (mut run, mut dictionaries) = (lock(&self.run)?, lock(&self.dictionaries)?);
            Ok(columns::read(&self.reader, &mut dictionaries, &mut run, after, max_trades))
        })?;
        columns.show(py)
    }

    /// Says that everything up to `sequence` is kept.
    fn confirm(&self, sequence: u64) {
        self.hold.confirm(sequence);
    }

    /// Confirms everything up to the trade with this id, if it is among those not confirmed.
    fn skip_through(&self, py: Python<'_>, trade_id: &str) -> PyResult<bool> {
        py.detach(|| {
            let mut run = lock(&self.run)?;
            let (mut from, head) = (self.hold.confirmed() + 1, self.reader.head());
            while from <= head {
                match self.reader.read(from, head.min(from + 4095), &mut run) {
                    Read::Overrun { oldest } => from = oldest,
                    Read::Hole { to } => from = to + 1,
                    Read::Done { to } => {
                        if let Some(found) = run.iter().find(|r| r.id().hex() == trade_id.as_bytes()) {
                            self.hold.confirm(found.seq());
                            return Ok(true);
                        }
                        from = to + 1;
                    }
                }
            }
            Ok(false)
        })
    }
}
