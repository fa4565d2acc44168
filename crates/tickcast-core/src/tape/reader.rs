//! The reading side: any number of processes, none of which the writer knows.

use super::layout::{MAX_BOARD, header};
use super::memory::{Ordering, as_bytes, load_ring};
use super::protocol::{Bell, Flip, Span};
use super::run::Run;
use super::snapshot::{self, Snapshot};
use super::{Enrichment, Shared, dictionary, file, futex};
use crate::encode::json::EnrichmentKeys;
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most trades that one call of [`TapeReader::read`] copies.
pub const MAX_RUN: u64 = 65_536;

/// Outcome of [`TapeReader::read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// The run holds every trade from `from` up to here; less than `from`: there is none yet.
    Done {
        /// Last sequence copied.
        to: u64,
    },
    /// `from` has been given up. The gap reaches up to `oldest - 1` at least.
    Overrun {
        /// First sequence that can still be read, for the moment.
        oldest: u64,
    },
    /// The tape never had `from`, nor what follows it up to here: it follows another tape, which did not give them.
    /// That is a gap of every cursor; reading goes on right behind it.
    Hole {
        /// Last sequence of the hole, as far as it is known.
        to: u64,
    },
}

/// A view of a tape. Cheap to clone; may be sent to and used by any thread.
#[derive(Debug, Clone)]
pub struct TapeReader {
    pub(super) shared: Arc<Shared>,
    enrichments: Arc<[Enrichment]>,
    pub(super) keys: Arc<EnrichmentKeys>,
}

impl TapeReader {
    /// Opens the tape of a run directory.
    ///
    /// # Errors
    /// [`Error::Io`] where there is none (kind `NotFound`: no writer has been here yet), [`Error::Tape`] where it is
    /// none that this version reads.
    pub fn open(run_dir: &Path) -> Result<Self> {
        Self::new(Arc::new(file::open_existing(&run_dir.join(super::TAPE_FILE))?))
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Result<Self> {
        let enrichments = shared.enrichments().ok_or_else(|| Error::Tape {
            path: shared.path.clone(),
            what: "the names of the enrichments can't be read: restart the processor for a new tape".to_owned(),
        })?;
        let names: Vec<&str> = enrichments.iter().map(|e| e.name.as_str()).collect();
        let keys = Arc::new(EnrichmentKeys::new(&names));
        Ok(TapeReader { shared, enrichments: enrichments.into(), keys })
    }

    fn span(&self) -> Span<'_> {
        self.shared.span()
    }

    /// Id of this life of the numbering, never 0; shown as 16 hex digits.
    pub fn epoch(&self) -> u64 {
        self.shared.word(header::EPOCH).load(Ordering::Relaxed)
    }

    /// Last complete sequence; 0: none yet.
    pub fn head(&self) -> u64 {
        self.span().head()
    }

    /// First sequence that can still be read; `head() + 1` where there is none.
    pub fn oldest(&self) -> u64 {
        self.span().oldest()
    }

    /// Number of trades that the ring holds at most (fewer when they are large).
    pub fn slots(&self) -> u64 {
        self.shared.layout.slot_count() as u64
    }

    /// Whether another tape has taken this one's place (or this one's file is gone): open again. Asks the system;
    /// not meant for every trade, but once per cycle.
    pub fn superseded(&self) -> bool {
        self.shared.superseded()
    }

    /// Whether a writer holds the tape now. Asks the system.
    pub fn writer_alive(&self) -> bool {
        self.writer_pid() != 0 && file::is_locked(&self.shared.path)
    }

    /// Process id of the last writer; 0 after an orderly end.
    pub fn writer_pid(&self) -> u32 {
        self.shared.word(header::WRITER_PID).load(Ordering::Relaxed) as u32
    }

    /// Copies the trades `from ..= to` into `out`, as far as they are there, at most [`MAX_RUN`] of them; a hole ends the
    /// run.
    ///
    /// `out` is empty after an overrun, at a hole, and where nothing new has come.
    pub fn read(&self, from: u64, to: u64, out: &mut Run) -> Read {
        let from = from.max(1);
        let read = self.copy(from, to, out);
        if !matches!(read, Read::Done { to } if to >= from) {
            out.clear();
        }
        read
    }

    /// Does what [`TapeReader::read`] says, but leaves anything in `out` where nothing was read. What it held before is
    /// overwritten where it lies: to make it zeros first took as long as the half of copying.
    fn copy(&self, from: u64, to: u64, out: &mut Run) -> Read {
        let (shared, span) = (&*self.shared, self.span());
        let to = to.min(span.head()).min(from.saturating_add(MAX_RUN - 1));
        if let Err(oldest) = span.still_holds(from) {
            return Read::Overrun { oldest };
        }
        if to < from {
            return Read::Done { to: from - 1 };
        }
        if to - from >= self.slots() {
            // No writer leaves such a span behind; skip what can't be there.
            return Read::Overrun { oldest: to.saturating_add(1) };
        }
        let width = shared.layout.slot_words();
        let rows = (to - from + 1) as usize;
        out.slot_words = width;
        out.first = from;
        out.slots.resize(rows * width, 0);
        shared.load_slots(from, &mut out.slots);
        // The slots tell where the bytes are, so they must be whole before they are believed.
        let result = span.still_holds(from).and_then(|()| {
            let ring = shared.memory.region(shared.layout.data);
            let words = out.check(ring.len() as u64).ok_or(to.saturating_add(1))?;
            out.data.resize(words as usize, 0);
            load_ring(ring, out.slots[0], &mut out.data);
            span.still_holds(from)
        });
        match result {
            Ok(()) => match out.cut_at_hole() {
                None => Read::Done { to },
                Some((0, end)) => Read::Hole { to: end.clamp(from, span.head().max(from)) },
                Some((rows, _)) => Read::Done { to: from + rows - 1 },
            },
            Err(oldest) => Read::Overrun { oldest },
        }
    }

    /// Returns the newest VALID trade of each instrument at or before the snapshot's `to_seq`, which is the head at
    /// the time of the call.
    pub fn snapshot(&self) -> Snapshot {
        snapshot::take(self)
    }

    /// Instrument ids from code `from` on, in order of their codes.
    pub fn instruments(&self, from: usize) -> Vec<String> {
        dictionary::strings(&self.shared.memory, self.shared.layout.instruments, from)
    }

    /// Number of instruments in the dictionary.
    pub fn instrument_count(&self) -> usize {
        dictionary::count(&self.shared.memory, self.shared.layout.instruments)
    }

    /// Reasons from the `from`-th on, counted from 0. Reason code `k > 0` of a record is number `k - 1` here.
    pub fn reasons(&self, from: usize) -> Vec<String> {
        dictionary::strings(&self.shared.memory, self.shared.layout.reasons, from)
    }

    /// Number of reasons in the dictionary.
    pub fn reason_count(&self) -> usize {
        dictionary::count(&self.shared.memory, self.shared.layout.reasons)
    }

    /// Names and units of the enrichments.
    pub fn enrichments(&self) -> &[Enrichment] {
        &self.enrichments
    }

    /// All rules that this tape has seen. Rule number `k > 0` of a record is number `k - 1` here.
    pub fn rules(&self) -> Vec<String> {
        dictionary::strings(&self.shared.memory, self.shared.layout.rules, 0)
    }

    /// All rule sets that this tape has seen, as `name@version`; a record says which judged it.
    pub fn rule_sets(&self) -> Vec<String> {
        dictionary::strings(&self.shared.memory, self.shared.layout.rule_sets, 0)
    }

    /// The rule set in force, as `name@version`.
    pub fn rule_set(&self) -> String {
        let code = self.shared.word(header::RULE_SET).load(Ordering::Acquire) as usize;
        let mut scratch = Vec::new();
        dictionary::get(&self.shared.memory, self.shared.layout.rule_sets, code, &mut scratch)
            .unwrap_or_default()
            .to_owned()
    }

    /// The status board as last written; empty if there is none.
    pub fn board(&self) -> Vec<u8> {
        let copies = self.shared.memory.region(self.shared.layout.board);
        let flip = Flip { version: self.shared.word(header::BOARD), copies };
        let mut words = vec![0u64; copies.len() / 2];
        if flip.read(&mut words) == 0 {
            return Vec::new();
        }
        let bytes = usize::try_from(words[0]).unwrap_or(usize::MAX).min(MAX_BOARD);
        as_bytes(&words[1..])[..bytes].to_vec()
    }

    /// Sleeps until the head has left `head`, the tape is superseded, or `timeout` is over; returns the head.
    pub fn wait(&self, head: u64, timeout: Duration) -> u64 {
        // Whoever has news to read does not make the writer ring.
        let now = self.head();
        if now != head || timeout.is_zero() {
            return now;
        }
        let bell = self.shared.bell();
        let start = Instant::now();
        loop {
            let rings = Bell::prepare(bell);
            let now = self.head();
            let left = timeout.saturating_sub(start.elapsed());
            if now != head || left.is_zero() || self.shared.flagged_superseded() {
                return now;
            }
            futex::wait(bell.rings, rings, left);
        }
    }
}
