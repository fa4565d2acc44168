//! A slot: the fixed part of a trade on the tape.
//!
//! ```text
//! word  0  position of its bytes in the data ring, words since the epoch began
//!       1  JSON u32 | instrument text u16 | reason text u16 (lengths in bytes)
//!       2  ingest time, ns since the Unix epoch
//!       3  decode µs u32 | rules µs u32
//!       4  enrich µs u32 | tape µs u32
//!       5  trade id, 16 bytes
//!       7  rule u16 | rule set u16 | 0
//!       8  VWAP that the rules saw
//!       9  observed value
//!      10  limit
//!      11  record: u32 instrument | u8 status | u8 flags | u16 reason
//!      12          i64 time
//!      13          f64 price
//!      14          i64 volume
//!      15          f64 VWAP
//!      16          f64 for each enrichment
//! ```
//!
//! A sequence that the tape never had (see [`super::Read::Hole`]) has a slot too, without bytes, marked by a flag.
//!
//! From word 11 on these are the bytes of a record in a binary frame.

/// Words of a slot without enrichments.
pub(crate) const FIXED_WORDS: usize = 16;
/// First word of the record.
pub(crate) const RECORD: usize = 11;
/// Word of a hole's slot that holds the last sequence of the hole; a trade has its id there.
const HOLE_END: usize = 5;

/// Instrument code of a trade whose instrument is not in the dictionary: its id rides as text.
pub const NO_INSTRUMENT: u32 = u32::MAX;
/// Reason code of a trade without a reason. Code `k > 0` is the `k`-th reason of the dictionary.
pub const NO_REASON: u16 = 0;
/// Reason code of a trade whose reason rides as text.
pub const TEXT_REASON: u16 = u16::MAX;
/// Rule number of a trade that no rule failed. Number `k > 0` is the `k`-th rule of the tape.
pub const NO_RULE: u16 = 0;
/// Rule number of a trade that failed the screen.
pub const SCREEN_RULE: u16 = u16::MAX;

/// Flags of a record.
pub mod flags {
    /// Passed the screen, so that its instrument may enter the dictionary.
    pub const SCREENED: u8 = 1;
    /// Came without a time and was stamped on arrival.
    pub const STAMPED: u8 = 2;
    /// Needed trades that are not held any more.
    pub const LATE: u8 = 4;
    /// No trade at all: the place of a sequence that the tape never had, because the one that it follows did not give
    /// it. Readers never see such a record.
    pub(crate) const HOLE: u8 = 128;
}

/// Packs the lengths word.
pub(crate) fn lengths(json: usize, instrument_text: usize, reason_text: usize) -> u64 {
    json as u64 | (instrument_text as u64) << 32 | (reason_text as u64) << 48
}

/// Returns the lengths in bytes of JSON, instrument text and reason text.
pub(crate) fn split_lengths(word: u64) -> [usize; 3] {
    [word as u32 as usize, usize::from((word >> 32) as u16), usize::from((word >> 48) as u16)]
}

/// Returns how many words of the data ring the trade with this lengths word takes.
pub(crate) fn data_words(lengths: u64) -> u64 {
    split_lengths(lengths).iter().sum::<usize>().div_ceil(8) as u64
}

/// Packs the first word of a record.
pub(crate) fn record_head(instrument: u32, status: u8, flags: u8, reason: u16) -> u64 {
    u64::from(instrument) | u64::from(status) << 32 | u64::from(flags) << 40 | u64::from(reason) << 48
}

/// Appends the slot of a sequence without a trade, one of a hole that ends with `last`, to `slots`.
pub(crate) fn push_hole(slots: &mut Vec<u64>, position: u64, last: u64, enrichments: usize) {
    let mut words = [0; FIXED_WORDS];
    words[0] = position;
    words[HOLE_END] = last;
    words[RECORD] = record_head(NO_INSTRUMENT, 0, flags::HOLE, NO_REASON);
    slots.extend_from_slice(&words);
    slots.extend(std::iter::repeat_n(0, enrichments));
}

/// Returns the last sequence of the hole that this slot belongs to; `None`: it holds a trade.
pub(crate) fn hole_end(slot_words: &[u64]) -> Option<u64> {
    ((slot_words[RECORD] >> 40) as u8 & flags::HOLE != 0).then(|| slot_words[HOLE_END])
}

/// Packs two 32-bit halves, low one first.
pub(crate) fn halves(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}
