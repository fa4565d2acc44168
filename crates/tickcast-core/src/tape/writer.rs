//! The writing side: one process, one thread at a time.

use super::commit::Commit;
use super::dictionary::Dictionary;
use super::hold::{Hold, Holds};
use super::layout::{MAX_BOARD, MAX_HOLD_NAME, MAX_HOLDS, MAX_POSITIONS, header};
use super::memory::{Ordering, extend_words, store, store_ring};
use super::open::{self, Opened, TapeOptions};
use super::protocol::Flip;
use super::stage::{Codes, Entry, Stage};
use super::{Shared, TAPE_FILE, TapeReader, file, run, slot, table};
use crate::encode::json::EnrichmentKeys;
use crate::{Error, Position, Result, Status};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// The one writer of a tape. It holds the lock until it is dropped.
#[derive(Debug)]
pub struct TapeWriter {
    pub(super) shared: Arc<Shared>,
    reader: TapeReader,
    pub(super) commit: Commit,
    pub(super) oldest: u64,
    resumed: bool,
    pub(super) instruments: Dictionary,
    pub(super) reasons: Dictionary,
    pub(super) rules: Vec<u16>,
    pub(super) rule_set: u16,
    /// Codes here of the rule sets of the tape that is followed.
    pub(super) rule_sets: Vec<u16>,
    pub(super) rule_names: Dictionary,
    pub(super) rule_set_names: Dictionary,
    pub(super) stage: Stage,
    pub(super) holds: Holds,
    /// Per instrument: first sequence of the batch in which its last value was entered last.
    entered: Vec<u64>,
    _lock: Option<file::Lock>,
}

impl TapeWriter {
    /// Opens the tape of a run directory, which is created if need be: takes up the tape that is there (same epoch,
    /// next sequence), or begins a new one where there is none, or none that these options and this version can use.
    ///
    /// # Errors
    /// [`Error::Busy`] where another process writes it, [`Error::Config`] and [`Error::Size`] for options that are not
    /// allowed, [`Error::Tape`] where there is no room for it, [`Error::Io`] where the system refuses.
    pub fn open(run_dir: &Path, options: &TapeOptions) -> Result<Self> {
        file::create_run_dir(run_dir)?;
        let lock = file::Lock::take(run_dir)?;
        let opened = open::open(&run_dir.join(TAPE_FILE), options)?;
        Self::new(opened, options, Some(lock))
    }

    /// Returns a tape in plain memory, for this process alone: for tests, and for judging without an audience.
    ///
    /// # Errors
    /// As [`TapeWriter::open`], but for the file.
    pub fn in_memory(options: &TapeOptions) -> Result<Self> {
        let layout = options.layout()?;
        Self::new(open::begin(Shared::heap(layout), options)?, options, None)
    }

    fn new(opened: Opened, options: &TapeOptions, lock: Option<file::Lock>) -> Result<Self> {
        let shared = Arc::new(opened.shared);
        let names: Vec<&str> = options.enrichments.iter().map(|e| e.name.as_str()).collect();
        Ok(TapeWriter {
            reader: TapeReader::new(shared.clone())?,
            oldest: shared.span().oldest(),
            entered: vec![0; shared.layout.sizes.max_instruments],
            shared,
            commit: opened.commit,
            resumed: opened.resumed,
            instruments: opened.instruments,
            reasons: opened.reasons,
            rules: opened.rules,
            rule_set: opened.rule_set,
            rule_sets: Vec::new(),
            rule_names: opened.rule_names,
            rule_set_names: opened.rule_set_names,
            stage: Stage::new(EnrichmentKeys::new(&names)),
            holds: Holds::default(),
            _lock: lock,
        })
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn from_opened(opened: Opened, options: &TapeOptions) -> Result<Self> {
        Self::new(opened, options, None)
    }

    /// Whether an earlier writer's tape was taken up.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Id of this life of the numbering, never 0; shown as 16 hex digits.
    pub fn epoch(&self) -> u64 {
        self.reader.epoch()
    }

    /// Last sequence written; 0: none.
    pub fn head(&self) -> u64 {
        self.commit.head
    }

    /// Last position of each (stream, partition), in that order, as of `head`.
    pub fn positions(&self) -> &[Position] {
        &self.commit.positions
    }

    /// Returns a reader of this tape.
    pub fn reader(&self) -> TapeReader {
        self.reader.clone()
    }

    /// Writes a batch of trades and notes the positions it brings the source to, both or nothing, also when the
    /// process is killed meanwhile; then wakes the readers. Returns the sequences given; empty where there were no
    /// entries.
    ///
    /// # Errors
    /// [`Error::Tape`], with nothing written: the batch takes more than half of the ring (use smaller batches, or a
    /// larger tape); a holding cursor has not confirmed what it would overwrite (see [`TapeWriter::would_overrun`]:
    /// wait, and try again); more than 4,096 (stream, partition) pairs.
    pub fn append<'a>(
        &mut self,
        entries: impl Iterator<Item = Entry<'a>>,
        positions: &[Position],
    ) -> Result<RangeInclusive<u64>> {
        self.stage(entries);
        self.write_staged(positions)
    }

    /// Writes what is staged.
    pub(super) fn write_staged(&mut self, positions: &[Position]) -> Result<RangeInclusive<u64>> {
        let first = self.commit.head + 1;
        let mut commit = self.commit.clone();
        commit.head += (self.stage.slots.len() / self.shared.layout.slot_words()) as u64;
        commit.data_end += self.stage.data.len() as u64;
        if !positions.iter().all(|p| commit.note(*p)) {
            return Err(self.error(format!("more than {MAX_POSITIONS} source partitions")));
        }
        let oldest = self.make_room(&commit)?;
        if oldest != self.oldest {
            self.oldest = oldest;
            self.shared.span().give_up(oldest);
        }
        self.shared.store_slots(first, &self.stage.slots);
        store_ring(self.shared.memory.region(self.shared.layout.data), self.commit.data_end, &self.stage.data);
        commit.write(&self.shared);
        self.commit = commit;
        let head = self.commit.head;
        if head >= first {
            self.shared.span().publish(head);
            self.shared.bell().ring_out();
            self.enter_last_values(first);
            table::set_applied(&self.shared, head);
        }
        Ok(first..=head)
    }

    fn stage<'a>(&mut self, entries: impl Iterator<Item = Entry<'a>>) {
        let now_ns = now_ns();
        let Self { shared, stage, instruments, reasons, rules, rule_set, commit, .. } = self;
        let mut codes = Codes { instruments, reasons, rules, rule_set: *rule_set };
        stage.clear();
        for entry in entries {
            stage.push(shared, &mut codes, commit.data_end, now_ns, &entry);
        }
    }

    /// Returns what will be the oldest sequence once the staged batch, which leads to `next`, is written.
    fn make_room(&self, next: &Commit) -> Result<u64> {
        let (slots, words) = (self.shared.layout.slot_count() as u64, self.shared.layout.data.words as u64);
        let (count, data) = (next.head - self.commit.head, self.stage.data.len() as u64);
        if count > slots / 2 || data > words / 2 {
            let bytes = data * 8;
            return Err(self.error(format!(
                "a batch of {count} trades and {bytes} bytes takes more than half of it: \
                 write smaller batches, or raise tape.bytes"
            )));
        }
        let oldest = self.oldest_after(next.head, next.data_end);
        let confirmed = self.holds.confirmed(&self.shared);
        if oldest > self.oldest && oldest - 1 > confirmed {
            let (name, confirmed) = self.waits_for().unwrap_or_default();
            return Err(self.error(format!("is full: {name} has confirmed only up to {confirmed}")));
        }
        Ok(oldest)
    }

    /// Returns the oldest sequence that is kept when the ring reaches up to `head` and `data_end`.
    fn oldest_after(&self, head: u64, data_end: u64) -> u64 {
        let layout = &self.shared.layout;
        let mut oldest = self.oldest.max((head + 1).saturating_sub(layout.slot_count() as u64));
        let floor = data_end.saturating_sub(layout.data.words as u64);
        while oldest <= self.commit.head && self.data_position(oldest) < floor {
            oldest += 1;
        }
        oldest
    }

    fn data_position(&self, seq: u64) -> u64 {
        let mut position = [0];
        self.shared.load_slots(seq, &mut position);
        position[0]
    }

    /// Enters the newest VALID trade of each instrument of the batch that began with `first`.
    fn enter_last_values(&mut self, first: u64) {
        let width = self.shared.layout.slot_words();
        for (row, words) in self.stage.slots.chunks_exact(width).enumerate().rev() {
            let head = words[slot::RECORD];
            let valid = run::status(head) == Status::Valid;
            // The instrument's newest trade of the batch comes first; what lies before it is old already.
            if let Some(entered) = self.entered.get_mut(head as u32 as usize).filter(|e| valid && **e < first) {
                *entered = first;
                table::apply(&self.shared, first + row as u64, words);
            }
        }
    }

    /// Whether a batch of `entries` trades, of the size that those on the tape have on average, would overwrite what
    /// a holding cursor has not confirmed. An estimate: [`TapeWriter::append`] decides.
    pub fn would_overrun(&self, entries: u64) -> bool {
        let confirmed = self.holds.confirmed(&self.shared);
        let held = (self.commit.head + 1).saturating_sub(self.oldest);
        if confirmed >= self.commit.head || held == 0 {
            return false;
        }
        let used = self.commit.data_end - self.data_position(self.oldest);
        let data = used.div_ceil(held).saturating_mul(entries);
        self.oldest_after(self.commit.head + entries, self.commit.data_end + data) - 1 > confirmed
    }

    /// Confirms `count` trades on behalf of the holding cursor that has confirmed least, which thereby loses them;
    /// returns its name and how many those were. For sources that can't wait: the tape is what buffers for their sinks.
    pub fn let_go(&mut self, count: u64) -> Option<(String, u64)> {
        self.holds.let_go(&self.shared, count, self.commit.head)
    }

    /// Returns the name of the holding cursor that has confirmed least, and up to where.
    pub fn waits_for(&self) -> Option<(String, u64)> {
        self.holds.slowest(&self.shared)
    }

    /// Begins to hold for the cursor of this name, such as a sink's URL. A name that this tape knows goes on after
    /// what it had confirmed (if that is still there: see [`TapeWriter::reader`]'s `oldest`), a new one at the head.
    ///
    /// # Errors
    /// [`Error::Tape`] if the name is held already, empty or longer than 240 bytes, or 32 are held.
    pub fn hold(&mut self, name: &str) -> Result<Hold> {
        let held = self.holds.take(&self.shared, name, self.commit.head);
        held.ok_or_else(|| {
            self.error(format!(
                "can't hold for {name:?}: it is held already, its name has not 1 to {MAX_HOLD_NAME} bytes, \
                 or {MAX_HOLDS} hold"
            ))
        })
    }

    /// Replaces the status board.
    ///
    /// # Errors
    /// [`Error::Tape`] if it has more than 65,536 bytes; the old one stays.
    pub fn set_board(&mut self, json: &[u8]) -> Result<()> {
        if json.len() > MAX_BOARD {
            return Err(self.error(format!("a status board of {} bytes is larger than {MAX_BOARD}", json.len())));
        }
        let mut words = vec![json.len() as u64];
        extend_words(&mut words, json);
        let copies = self.shared.memory.region(self.shared.layout.board);
        Flip { version: self.shared.word(header::BOARD), copies }.write(|copy| store(copy, &words));
        Ok(())
    }

    /// Ends in order, with everything on the disk: the tape can be taken up even after a restart of the machine.
    ///
    /// # Errors
    /// [`Error::Io`] if it could not be flushed.
    pub fn close(self) -> Result<()> {
        let flush = || self.shared.memory.flush().map_err(file::io_error("cannot flush", &self.shared.path));
        flush()?;
        self.shared.word(header::CLEAN).store(1, Ordering::Release);
        flush()
    }

    pub(super) fn error(&self, what: String) -> Error {
        Error::Tape { path: self.shared.path.clone(), what }
    }
}

/// Returns the wall clock, ns since the Unix epoch.
pub(super) fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

impl Drop for TapeWriter {
    fn drop(&mut self) {
        self.shared.word(header::WRITER_PID).store(0, Ordering::Release);
    }
}
