//! The tape for gRPC subscribers: binary frames, made once for all who want the same trades from the same place on.

use crate::error::to_py;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tickcast_core::Status;
use tickcast_core::fanout::{self, Block, Board, Dictionary, Filter, OnBoard, Pick, Since, Subscription, binary};
use tickcast_core::tape::{self, Read, Record, Run};

/// Number of the field `trades` of `tickcast.v1.Frame`, with its wire type.
const TRADES_TAG: u8 = 3 << 3 | 2;
/// Number of the field `why`, with its wire type.
const WHY_TAG: u8 = 8 << 3 | 2;

/// Adds the feed to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<TapeFilter>()?;
    m.add_class::<TapeFeed>()
}

/// What one or more subscribers want.
#[pyclass(frozen, module = "tickcast._core")]
struct TapeFilter {
    filter: Mutex<Filter>,
    stages: bool,
    why: bool,
}

#[pymethods]
impl TapeFilter {
    #[new]
    #[pyo3(signature = (instruments=None, statuses=None, *, stages=false, why=false))]
    fn new(instruments: Option<Vec<String>>, statuses: Option<Vec<u8>>, stages: bool, why: bool) -> PyResult<Self> {
        let status = |number| {
            Status::from_number(number)
                .ok_or_else(|| PyValueError::new_err(format!("a status is 0, 1 or 2, was {number}")))
        };
        let statuses = statuses.map(|list| list.into_iter().map(status).collect::<PyResult<Vec<_>>>()).transpose()?;
        let subscription = Subscription::new(instruments, statuses.as_deref());
        Ok(TapeFilter { filter: Mutex::new(Filter::new(subscription)), stages, why })
    }
}

/// What the frames are made from, kept between calls.
#[derive(Default)]
struct Workshop {
    dictionary: Dictionary,
    run: Run,
    rows: Vec<u32>,
    board: Board,
}

/// How many instruments and reasons a receiver knows.
type KnownTuple = (u32, u32);
/// Where a receiver stands on the board: its life, and how many trades were wanted until then.
type MarkTuple = (u32, u64);

/// Where a receiver stands.
struct Place {
    /// First sequence that its next frame covers.
    seq: u64,
    /// First sequence to look at: none of those before is wanted.
    from: u64,
    known: KnownTuple,
}

/// Frames of a tape.
#[pyclass(frozen, module = "tickcast._core")]
struct TapeFeed {
    tape: tape::TapeReader,
    workshop: Mutex<Workshop>,
}

/// What a look at the tape gave.
enum Look {
    Frame { to_seq: u64, body: Option<Vec<u8>>, known: KnownTuple, mark: Option<MarkTuple> },
    Overrun { oldest: u64 },
    Hole { to: u64 },
}

#[pymethods]
impl TapeFeed {
    #[staticmethod]
    fn open(py: Python<'_>, run_dir: PathBuf) -> PyResult<Self> {
        let tape = py.detach(|| tape::TapeReader::open(&run_dir)).map_err(to_py)?;
        Ok(TapeFeed { tape, workshop: Mutex::default() })
    }

    /// Returns the frame that covers `seq` on: ("frame", last sequence covered, message or None, known), or
    /// ("overrun", oldest, …), or ("hole", last of it, …).
    #[allow(clippy::type_complexity, reason = "a tuple for Python")]
    #[pyo3(signature = (filter, seq, from_seq, known, max_trades, max_bytes))]
    #[allow(clippy::too_many_arguments, reason = "a receiver's place and its limits")]
    fn frame<'py>(
        &self,
        py: Python<'py>,
        filter: &TapeFilter,
        seq: u64,
        from_seq: u64,
        known: KnownTuple,
        max_trades: u64,
        max_bytes: usize,
    ) -> (&'static str, u64, Option<Bound<'py, PyBytes>>, KnownTuple) {
        let place = Place { seq, from: from_seq.max(1), known };
        match py.detach(|| self.look(filter, &place, max_trades, max_bytes)) {
            Look::Frame { to_seq, body, known, .. } => {
                ("frame", to_seq, body.map(|body| PyBytes::new(py, &body)), known)
            }
            Look::Overrun { oldest } => ("overrun", oldest, None, known),
            Look::Hole { to } => ("hole", to, None, known),
        }
    }

    /// Returns the same with the newest trade of each instrument only, and where its receiver stands on the board then;
    /// one that stands there already gets all up to the board's head, another at most `max_trades` of the tape.
    #[allow(clippy::type_complexity, reason = "a tuple for Python")]
    #[pyo3(signature = (filter, seq, from_seq, known, mark, max_trades))]
    #[allow(clippy::too_many_arguments, reason = "a receiver's place and its limits")]
    fn newest<'py>(
        &self,
        py: Python<'py>,
        filter: &TapeFilter,
        seq: u64,
        from_seq: u64,
        known: KnownTuple,
        mark: Option<MarkTuple>,
        max_trades: u64,
    ) -> (&'static str, u64, Option<Bound<'py, PyBytes>>, KnownTuple, Option<MarkTuple>) {
        let place = Place { seq, from: from_seq.max(1), known };
        match py.detach(|| self.look_for_newest(filter, &place, mark, max_trades)) {
            Look::Frame { to_seq, body, known, mark } => {
                ("frame", to_seq, body.map(|body| PyBytes::new(py, &body)), known, mark)
            }
            Look::Overrun { oldest } => ("overrun", oldest, None, known, None),
            Look::Hole { to } => ("hole", to, None, known, None),
        }
    }

    /// Begins to take in for `newest` what comes from now on.
    fn begin_board(&self) {
        let head = self.tape.head();
        self.workshop.lock().unwrap_or_else(PoisonError::into_inner).board.restart(head);
    }

    /// Takes in what has come; returns up to where.
    fn advance_board(&self, py: Python<'_>) -> u64 {
        py.detach(|| {
            let mut workshop = self.workshop.lock().unwrap_or_else(PoisonError::into_inner);
            let Workshop { dictionary, run, board, .. } = &mut *workshop;
            board.advance(&self.tape, dictionary, self.tape.head(), run);
            board.head()
        })
    }

    /// Returns the newest VALID trades as a binary frame, as of which sequence, and what its receiver knows then.
    fn snapshot<'py>(
        &self,
        py: Python<'py>,
        filter: &TapeFilter,
        known: KnownTuple,
    ) -> (Bound<'py, PyBytes>, u64, KnownTuple) {
        let (body, to_seq, known) = py.detach(|| {
            let taken = self.tape.snapshot();
            let mut workshop = self.workshop.lock().unwrap_or_else(PoisonError::into_inner);
            workshop.dictionary.follow(&self.tape);
            let how = binary::Binary { dictionary: &workshop.dictionary, known: known_of(known) };
            let filter = filter.filter.lock().unwrap_or_else(PoisonError::into_inner);
            let columns = self.tape.enrichments().len();
            let body = binary::snapshot(&taken, filter.subscription(), now_ns(), &how, columns);
            (body, taken.to_seq(), knows_all(&workshop.dictionary))
        });
        (PyBytes::new(py, &body), to_seq, known)
    }

    /// Returns the same as a `trades` message of `tickcast.v1.json` that covers `seq` up to what was read: ("frame", last
    /// sequence looked at, message or None), or ("overrun", oldest, None), or ("hole", last of it, None).
    fn json<'py>(
        &self,
        py: Python<'py>,
        filter: &TapeFilter,
        seq: u64,
        from_seq: u64,
        max_trades: u64,
        max_bytes: usize,
    ) -> (&'static str, u64, Option<Bound<'py, PyBytes>>) {
        match py.detach(|| self.look_for_json(filter, seq, from_seq, max_trades, max_bytes)) {
            Look::Frame { to_seq, body, .. } => ("frame", to_seq, body.map(|body| PyBytes::new(py, &body))),
            Look::Overrun { oldest } => ("overrun", oldest, None),
            Look::Hole { to } => ("hole", to, None),
        }
    }

    /// Returns the newest VALID trades as a `snapshot` message of `tickcast.v1.json`, and as of which sequence.
    fn json_snapshot<'py>(&self, py: Python<'py>, filter: &TapeFilter) -> (Bound<'py, PyBytes>, u64) {
        let (body, to_seq) = py.detach(|| {
            let taken = self.tape.snapshot();
            let filter = filter.filter.lock().unwrap_or_else(PoisonError::into_inner);
            (fanout::snapshot(&taken, filter.subscription()), taken.to_seq())
        });
        (PyBytes::new(py, &body), to_seq)
    }

    #[getter]
    fn epoch(&self) -> String {
        format!("{:016x}", self.tape.epoch())
    }

    #[getter]
    fn head(&self) -> u64 {
        self.tape.head()
    }

    #[getter]
    fn oldest(&self) -> u64 {
        self.tape.oldest()
    }

    #[getter]
    fn rule_set(&self) -> String {
        self.tape.rule_set()
    }

    fn superseded(&self) -> bool {
        self.tape.superseded()
    }

    fn instruments(&self) -> Vec<String> {
        self.tape.instruments(0)
    }

    fn reasons(&self) -> Vec<String> {
        self.tape.reasons(0)
    }

    fn rules(&self) -> Vec<String> {
        self.tape.rules()
    }

    fn rule_sets(&self) -> Vec<String> {
        self.tape.rule_sets()
    }

    fn enrichments(&self) -> Vec<(String, String)> {
        self.tape.enrichments().iter().map(|e| (e.name.clone(), e.unit.clone())).collect()
    }

    fn board<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.tape.board())
    }

    /// Waits until the head has left `head`, at most `timeout_s` seconds; returns the head.
    fn wait(&self, py: Python<'_>, head: u64, timeout_s: f64) -> u64 {
        let timeout = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
        py.detach(|| self.tape.wait(head, timeout))
    }
}

impl TapeFeed {
    fn look_for_json(&self, filter: &TapeFilter, seq: u64, from: u64, max_trades: u64, max_bytes: usize) -> Look {
        let mut workshop = self.workshop.lock().unwrap_or_else(PoisonError::into_inner);
        let Workshop { dictionary, run, rows, .. } = &mut *workshop;
        let from = from.max(1);
        match self.tape.read(from, from.saturating_add(max_trades.max(1) - 1), run) {
            Read::Overrun { oldest } => return Look::Overrun { oldest },
            Read::Hole { to } => return Look::Hole { to },
            Read::Done { to } if to < from => {
                return Look::Frame { to_seq: to, body: None, known: (0, 0), mark: None };
            }
            Read::Done { .. } => {}
        }
        dictionary.follow(&self.tape);
        let mut wanted = filter.filter.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.resolve(dictionary);
        let mut block = Block::new(run);
        block.select(&wanted, rows);
        let pick = Pick { stages: filter.stages, ..Pick::rows(rows) };
        let frame = block.frame(seq.min(from), &pick, max_bytes, now_ns());
        let body = (frame.trades > 0).then_some(frame.body);
        Look::Frame { to_seq: frame.to_seq, body, known: (0, 0), mark: None }
    }

    fn look(&self, filter: &TapeFilter, place: &Place, max_trades: u64, max_bytes: usize) -> Look {
        let mut workshop = self.workshop.lock().unwrap_or_else(PoisonError::into_inner);
        let Workshop { dictionary, run, rows, .. } = &mut *workshop;
        if let Err(look) = self.read(place, max_trades, run) {
            return look;
        }
        // After the read: it holds every code of the run.
        dictionary.follow(&self.tape);
        let mut wanted = filter.filter.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.resolve(dictionary);
        let mut block = Block::new(run);
        block.select(&wanted, rows);
        made(filter, place, &block, &Pick::rows(rows), max_bytes, dictionary)
    }

    fn look_for_newest(&self, filter: &TapeFilter, place: &Place, mark: Option<MarkTuple>, max_trades: u64) -> Look {
        let mut workshop = self.workshop.lock().unwrap_or_else(PoisonError::into_inner);
        let Workshop { dictionary, run, rows, board } = &mut *workshop;
        let mut wanted = filter.filter.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.resolve(dictionary);
        let mark = mark.map(|(generation, wanted)| OnBoard { generation, wanted });
        if let Some(since) = mark.and_then(|mark| board.since(&wanted, place.seq.saturating_sub(1), mark)) {
            let Since { records, to_seq, conflated, now } = since;
            rows.clear();
            rows.extend(0..records.len() as u32);
            let block = Block::of(records, to_seq);
            let pick = Pick { conflated: Some(conflated), ..Pick::rows(rows) };
            return made(filter, place, &block, &pick, usize::MAX, dictionary).marked(Some(now));
        }
        if let Err(look) = self.read(place, max_trades, run) {
            return look.marked(board.place(&wanted, place.from - 1));
        }
        dictionary.follow(&self.tape);
        wanted.resolve(dictionary);
        let mut block = Block::new(run);
        let all = block.select_newest(&wanted, dictionary, rows);
        let pick = Pick { conflated: Some(all - rows.len() as u64), ..Pick::rows(rows) };
        // One that is cut would have to tell what was conflated up to there.
        let look = made(filter, place, &block, &pick, usize::MAX, dictionary);
        let to_seq = run.first() + run.len() as u64 - 1;
        look.marked(board.place(&wanted, to_seq))
    }

    /// Reads what comes next for a receiver; the error is what it gets if that is nothing.
    fn read(&self, place: &Place, max_trades: u64, run: &mut Run) -> Result<(), Look> {
        match self.tape.read(place.from, place.from.saturating_add(max_trades.max(1) - 1), run) {
            Read::Overrun { oldest } => Err(Look::Overrun { oldest }),
            Read::Hole { to } => Err(Look::Hole { to }),
            Read::Done { to } if to < place.from => {
                Err(Look::Frame { to_seq: to, body: None, known: place.known, mark: None })
            }
            Read::Done { .. } => Ok(()),
        }
    }
}

impl Look {
    /// The same, with where its receiver stands on the board.
    fn marked(mut self, now: Option<OnBoard>) -> Self {
        if let Look::Frame { mark, .. } = &mut self {
            *mark = now.map(|on| (on.generation, on.wanted));
        }
        self
    }
}

/// Returns the frame with these rows, if there are any.
fn made(
    filter: &TapeFilter,
    place: &Place,
    block: &Block<'_>,
    pick: &Pick<'_>,
    max_bytes: usize,
    dictionary: &Dictionary,
) -> Look {
    let how = binary::Binary { dictionary, known: known_of(place.known) };
    let pick = Pick { stages: filter.stages, ..*pick };
    let frame = block.binary(place.seq, &pick, max_bytes, now_ns(), &how);
    if frame.trades == 0 {
        return Look::Frame { to_seq: frame.to_seq, body: None, known: place.known, mark: None };
    }
    let records = pick.rows[..frame.trades as usize].iter().map(|&row| &block.records()[row as usize]);
    let why = if filter.why { records.flat_map(why).collect() } else { Vec::new() };
    let body = Some(message(&frame.body, &why));
    Look::Frame { to_seq: frame.to_seq, body, known: knows_all(dictionary), mark: None }
}

/// Returns why a trade was judged so, as `Frame.why` has it.
fn why(record: &Record<'_>) -> [u8; 32] {
    let mut out = [0; 32];
    out[..2].copy_from_slice(&record.rule().to_le_bytes());
    out[2..4].copy_from_slice(&record.rule_set().to_le_bytes());
    for (at, value) in [(8, record.rules_vwap()), (16, record.observed()), (24, record.limit())] {
        out[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    out
}

/// Returns the protobuf message `tickcast.v1.Frame` with these trades.
fn message(trades: &[u8], why: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(trades.len() + why.len() + 16);
    field(&mut out, TRADES_TAG, trades);
    if !why.is_empty() {
        field(&mut out, WHY_TAG, why);
    }
    out
}

fn field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    let mut size = bytes.len();
    while size >= 0x80 {
        out.push(size as u8 | 0x80);
        size >>= 7;
    }
    out.push(size as u8);
    out.extend_from_slice(bytes);
}

fn known_of((instruments, reasons): KnownTuple) -> binary::Known {
    binary::Known { instruments, reasons }
}

fn knows_all(dictionary: &Dictionary) -> KnownTuple {
    let known = dictionary.known();
    (known.instruments, known.reasons)
}

fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
