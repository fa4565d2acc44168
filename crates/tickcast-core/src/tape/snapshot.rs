//! Newest VALID trade of each instrument, consistent as of one sequence, while the writer goes on writing.
//!
//! The table may be behind the head, and entries are read one by one: some are newer than others. Two facts make the
//! picture whole. An entry never holds a trade beyond the head that is read *after* it; and the ring still has every
//! trade between what the table surely held *before* and that head. So: read `applied`, the entries, the head, and
//! replay the ring between the two.

use super::memory::{as_bytes, as_floats};
use super::reader::Read;
use super::run::{self, Run};
use super::{TapeReader, slot, table};
use crate::encode::json::{EnrichmentKeys, write_trade};
use crate::{Status, Trade};
use std::sync::Arc;

/// Words of a record without enrichments.
const RECORD_WORDS: usize = slot::FIXED_WORDS - slot::RECORD;
/// How often to try.
const ROUNDS: usize = 64;

/// The newest VALID trade of each instrument at or before `to_seq`.
#[derive(Debug, Clone)]
pub struct Snapshot {
    to_seq: u64,
    keys: Arc<EnrichmentKeys>,
    names: Vec<String>,
    values: Vec<u64>,
    width: usize,
}

/// One trade of a [`Snapshot`], borrowed.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotEntry<'a> {
    code: u32,
    name: &'a str,
    words: &'a [u64],
}

/// Takes a snapshot; of nothing, as of sequence 0, should the tape hold garbage.
pub(super) fn take(reader: &TapeReader) -> Snapshot {
    let width = reader.shared.layout.value_words();
    let keys = reader.keys.clone();
    let mut snapshot = Snapshot { to_seq: 0, keys, names: Vec::new(), values: Vec::new(), width };
    // A round fails only if the writer went once around the ring meanwhile. That it does so again and again means
    // that nobody wrote this tape; "nothing, up to 0" then makes whoever reads on meet an overrun, and announce it.
    for _ in 0..ROUNDS {
        if let Some(to_seq) = snapshot.try_take(reader) {
            snapshot.to_seq = to_seq;
            snapshot.names = reader.instruments(0);
            return snapshot;
        }
    }
    snapshot.values.clear();
    snapshot
}

impl Snapshot {
    /// One try; `None` if the ring did not hold what was to be replayed.
    fn try_take(&mut self, reader: &TapeReader) -> Option<u64> {
        let shared = &*reader.shared;
        let applied = table::applied(shared);
        self.values.clear();
        self.values.resize(reader.instrument_count() * self.width, 0);
        for (code, value) in self.values.chunks_exact_mut(self.width).enumerate() {
            table::entry(shared, code).read(value);
        }
        let head = reader.head();
        let mut run = Run::default();
        let mut next = applied.saturating_add(1);
        while next <= head {
            match reader.read(next, head, &mut run) {
                Read::Done { to } | Read::Hole { to } if (next..u64::MAX).contains(&to) => next = to + 1,
                _ => return None,
            }
            self.replay(&run, shared.layout.sizes.max_instruments);
        }
        Some(head)
    }

    fn replay(&mut self, run: &Run, limit: usize) {
        for (record, words) in run.iter().zip(run.slots.chunks_exact(run.slot_words)) {
            let (code, seq) = (record.instrument() as usize, record.seq());
            if record.status() != Status::Valid || code >= limit {
                continue;
            }
            if self.values.len() < (code + 1) * self.width {
                // Its instrument came after the dictionary was counted.
                self.values.resize((code + 1) * self.width, 0);
            }
            let value = &mut self.values[code * self.width..(code + 1) * self.width];
            if value[table::SEQUENCE] < seq {
                table::value_of_slot(seq, words, value);
            }
        }
    }

    /// The sequence that the picture is as of; live goes on with the next one.
    pub fn to_seq(&self) -> u64 {
        self.to_seq
    }

    /// Iterates over the trades in order of the instruments' codes.
    pub fn iter(&self) -> impl Iterator<Item = SnapshotEntry<'_>> {
        self.names.iter().zip(self.values.chunks_exact(self.width)).enumerate().filter_map(|(code, (name, words))| {
            (words[table::SEQUENCE] != 0).then_some(SnapshotEntry { code: code as u32, name, words })
        })
    }

    /// Appends the trade as one plain JSON object: the same bytes as on the tape.
    pub fn write_json(&self, entry: &SnapshotEntry<'_>, out: &mut Vec<u8>) {
        write_trade(out, &entry.trade(), &self.keys);
    }
}

impl<'a> SnapshotEntry<'a> {
    /// Sequence.
    pub fn seq(&self) -> u64 {
        self.words[table::SEQUENCE]
    }

    /// Code of the instrument.
    pub fn instrument(&self) -> u32 {
        self.code
    }

    /// When the tick came in, ns since the Unix epoch.
    pub fn ingest_ns(&self) -> i64 {
        self.words[table::INGEST] as i64
    }

    /// The record of a binary frame: 40 bytes, and 8 more for each enrichment, little-endian.
    pub fn row(&self) -> &'a [u8] {
        as_bytes(&self.words[table::RECORD..])
    }

    /// The trade itself, always VALID.
    pub fn trade(&self) -> Trade<'a> {
        let record = &self.words[table::RECORD..];
        Trade {
            id: run::id(self.words[table::ID], self.words[table::ID + 1]),
            instrument_id: self.name,
            timestamp_ns: record[1] as i64,
            price: f64::from_bits(record[2]),
            volume: record[3] as i64,
            status: run::status(record[0]),
            reason: None,
            vwap_20m: f64::from_bits(record[4]),
            enrichments: as_floats(&record[RECORD_WORDS..]),
        }
    }
}
