//! A run of trades copied out of the tape, in buffers that are used again and again.

use super::memory::{as_bytes, as_floats};
use super::slot;
use crate::{Status, TradeId};

/// Trades of consecutive sequences, copied by [`super::TapeReader::read`].
#[derive(Debug, Clone, Default)]
pub struct Run {
    pub(crate) slots: Vec<u64>,
    pub(crate) data: Vec<u64>,
    pub(crate) slot_words: usize,
    pub(crate) first: u64,
}

impl Run {
    /// Sequence of the first trade; meaningless in an empty run.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Number of trades.
    pub fn len(&self) -> usize {
        self.slots.len().checked_div(self.slot_words).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Forgets the trades, keeps the memory.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.data.clear();
    }

    /// Returns trade `row`, counted from 0.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn get(&self, row: usize) -> Record<'_> {
        let words = &self.slots[row * self.slot_words..(row + 1) * self.slot_words];
        let start = words[0].wrapping_sub(self.slots[0]) as usize;
        Record { seq: self.first + row as u64, words, data: &as_bytes(&self.data)[start * 8..] }
    }

    /// Iterates over the trades in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> + DoubleEndedIterator {
        (0..self.len()).map(|row| self.get(row))
    }

    /// Checks that what was copied hangs together: every trade's bytes follow those of the one before, within
    /// `words` words. Returns how many words they are in all.
    pub(crate) fn check(&self, words: u64) -> Option<u64> {
        let start = *self.slots.first()?;
        let mut end = start;
        for slot_words in self.slots.chunks_exact(self.slot_words) {
            if slot_words[0] != end {
                return None;
            }
            end = end.checked_add(slot::data_words(slot_words[1]))?;
        }
        (end - start <= words).then_some(end - start)
    }

    /// Leaves out everything from the first hole on. Returns how many trades lie before it and where it ends; `None`:
    /// there is no hole.
    pub(crate) fn cut_at_hole(&mut self) -> Option<(u64, u64)> {
        let mut slots = self.slots.chunks_exact(self.slot_words).map(slot::hole_end).enumerate();
        let (rows, end) = slots.find_map(|(row, end)| end.map(|end| (row, end)))?;
        self.slots.truncate(rows * self.slot_words);
        Some((rows as u64, end))
    }
}

/// One trade of a [`Run`], borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    seq: u64,
    words: &'a [u64],
    data: &'a [u8],
}

impl<'a> Record<'a> {
    /// Sequence.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Identity.
    pub fn id(&self) -> TradeId {
        id(self.words[5], self.words[6])
    }

    /// Code of the instrument, [`super::NO_INSTRUMENT`] if its id rides as [`Record::instrument_text`].
    pub fn instrument(&self) -> u32 {
        self.words[slot::RECORD] as u32
    }

    /// Verdict.
    pub fn status(&self) -> Status {
        status(self.words[slot::RECORD])
    }

    /// Flags, see [`super::flags`].
    pub fn flags(&self) -> u8 {
        (self.words[slot::RECORD] >> 40) as u8
    }

    /// Code of the reason: [`super::NO_REASON`], [`super::TEXT_REASON`], or `k`: the `k`-th of the dictionary.
    pub fn reason(&self) -> u16 {
        (self.words[slot::RECORD] >> 48) as u16
    }

    /// Event time, ns since the Unix epoch.
    pub fn timestamp_ns(&self) -> i64 {
        self.words[slot::RECORD + 1] as i64
    }

    /// Price, quote currency per unit.
    pub fn price(&self) -> f64 {
        f64::from_bits(self.words[slot::RECORD + 2])
    }

    /// Volume, units traded.
    pub fn volume(&self) -> i64 {
        self.words[slot::RECORD + 3] as i64
    }

    /// 20-minute VWAP; NaN where there is none.
    pub fn vwap_20m(&self) -> f64 {
        f64::from_bits(self.words[slot::RECORD + 4])
    }

    /// Enrichments in the order of the tape's; NaN where absent.
    pub fn enrichments(&self) -> &'a [f64] {
        as_floats(&self.words[slot::FIXED_WORDS..])
    }

    /// The record of a binary frame: 40 bytes, and 8 more for each enrichment, little-endian.
    pub fn row(&self) -> &'a [u8] {
        as_bytes(&self.words[slot::RECORD..])
    }

    /// The trade as one plain JSON object.
    pub fn json(&self) -> &'a [u8] {
        &self.data[..self.lengths()[0]]
    }

    /// Instrument id, where it is not in the dictionary.
    pub fn instrument_text(&self) -> Option<&'a str> {
        let [json, instrument, _] = self.lengths();
        if self.instrument() != slot::NO_INSTRUMENT {
            return None;
        }
        Some(text(&self.data[json..json + instrument]))
    }

    /// Reason, where it is not in the dictionary.
    pub fn reason_text(&self) -> Option<&'a str> {
        let [json, instrument, reason] = self.lengths();
        if self.reason() != slot::TEXT_REASON {
            return None;
        }
        Some(text(&self.data[json + instrument..json + instrument + reason]))
    }

    /// When the tick came in, ns since the Unix epoch.
    pub fn ingest_ns(&self) -> i64 {
        self.words[2] as i64
    }

    /// Microseconds of the stage decode.
    pub fn decode_us(&self) -> u32 {
        self.words[3] as u32
    }

    /// Microseconds of the stage rules.
    pub fn rules_us(&self) -> u32 {
        (self.words[3] >> 32) as u32
    }

    /// Microseconds of the stage enrich.
    pub fn enrich_us(&self) -> u32 {
        self.words[4] as u32
    }

    /// Microseconds from the ingest time to the tape.
    pub fn tape_us(&self) -> u32 {
        (self.words[4] >> 32) as u32
    }

    /// The rule that failed: [`super::NO_RULE`], [`super::SCREEN_RULE`], or `k`: the `k`-th of the tape's rules.
    pub fn rule(&self) -> u16 {
        self.words[7] as u16
    }

    /// Which of the tape's rule sets judged, counted from 0.
    pub fn rule_set(&self) -> u16 {
        (self.words[7] >> 16) as u16
    }

    /// VWAP that the rules saw; NaN where there was none.
    pub fn rules_vwap(&self) -> f64 {
        f64::from_bits(self.words[8])
    }

    /// Value that the failing rule observed; NaN where there is none.
    pub fn observed(&self) -> f64 {
        f64::from_bits(self.words[9])
    }

    /// Limit that it went beyond; NaN where there is none.
    pub fn limit(&self) -> f64 {
        f64::from_bits(self.words[10])
    }

    fn lengths(&self) -> [usize; 3] {
        slot::split_lengths(self.words[1])
    }
}

/// A trade that outlives its run, in memory that is used again and again.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    seq: u64,
    words: Vec<u64>,
    data: Vec<u8>,
}

impl Kept {
    /// Takes this trade in the place of what it held.
    pub fn keep(&mut self, record: &Record<'_>) {
        self.seq = record.seq;
        self.words.clear();
        self.words.extend_from_slice(record.words);
        self.data.clear();
        self.data.extend_from_slice(&record.data[..record.lengths().iter().sum()]);
    }

    /// Sequence of the trade; 0: it holds none yet.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The trade, if it holds one.
    pub fn record(&self) -> Option<Record<'_>> {
        (self.seq != 0).then_some(Record { seq: self.seq, words: &self.words, data: &self.data })
    }
}

/// Returns the id in two words.
pub(crate) fn id(low: u64, high: u64) -> TradeId {
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&low.to_le_bytes());
    bytes[8..].copy_from_slice(&high.to_le_bytes());
    TradeId(bytes)
}

/// Returns the status in the first word of a record.
pub(crate) fn status(record_head: u64) -> Status {
    Status::from_number((record_head >> 32) as u8).unwrap_or_default()
}

/// What is no UTF-8 can't come from our writer; it is left out rather than believed.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
