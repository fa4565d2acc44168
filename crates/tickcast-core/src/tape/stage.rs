//! What is about to be written: trades as slots and bytes, put together in plain memory first.
//!
//! So a batch is known to fit before anything is given up for it, and readers see it whole.

use super::Shared;
use super::dictionary::Dictionary;
use super::layout::MAX_TEXT;
use super::memory::extend_words;
use super::open::cut;
use super::{NO_INSTRUMENT, NO_REASON, NO_RULE, SCREEN_RULE, TEXT_REASON, flags, slot};
use crate::Trade;
use crate::encode::json::{EnrichmentKeys, write_trade};
use std::borrow::Cow;

/// One trade for the tape, with what only the tape keeps of it.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The trade. Instrument id and reason of more than 4,096 bytes are cut, an ellipsis marks the place.
    pub trade: Trade<'a>,
    /// Whether the reason is free text: it rides with the trade and does not enter the dictionary.
    pub reason_is_text: bool,
    /// See [`super::flags`]. Without `SCREENED` the instrument does not enter the dictionary.
    pub flags: u8,
    /// The rule that failed: number `k > 0` in [`super::TapeOptions::rules`], [`NO_RULE`] or [`SCREEN_RULE`].
    pub rule: u16,
    /// Value that the rule observed; NaN where there is none.
    pub observed: f64,
    /// Limit that it went beyond; NaN where there is none.
    pub limit: f64,
    /// VWAP that the rules saw; NaN where there was none.
    pub rules_vwap: f64,
    /// When the tick came in, ns since the Unix epoch.
    pub ingest_ns: i64,
    /// Microseconds of the stage decode.
    pub decode_us: u32,
    /// Microseconds of the stage rules.
    pub rules_us: u32,
    /// Microseconds of the stage enrich.
    pub enrich_us: u32,
}

/// Buffers of a batch, used again and again.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// Slots, one behind the other.
    pub slots: Vec<u64>,
    /// Their bytes.
    pub data: Vec<u64>,
    json: Vec<u8>,
    keys: EnrichmentKeys,
}

/// The codes that a stage gives.
pub(crate) struct Codes<'a> {
    pub instruments: &'a mut Dictionary,
    pub reasons: &'a mut Dictionary,
    pub rules: &'a [u16],
    pub rule_set: u16,
}

impl Stage {
    /// Returns empty buffers for trades with these enrichments.
    pub fn new(keys: EnrichmentKeys) -> Self {
        Stage { keys, ..Stage::default() }
    }

    /// Forgets the batch, keeps the memory.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.data.clear();
    }

    /// Adds a trade. `data_end` is where the bytes of the batch begin in the data ring.
    pub fn push(&mut self, shared: &Shared, codes: &mut Codes<'_>, data_end: u64, now_ns: i64, entry: &Entry<'_>) {
        let (id, reason) = (shortened(entry.trade.instrument_id), entry.trade.reason.map(shortened));
        let trade = Trade { instrument_id: &id, reason: reason.as_deref(), ..entry.trade };
        let screened = entry.flags & flags::SCREENED != 0;
        let known = if screened { codes.instruments.intern(&shared.memory, &id) } else { None };
        let instrument = known.unwrap_or(NO_INSTRUMENT);
        let reason_code = match &reason {
            None => NO_REASON,
            Some(_) if entry.reason_is_text => TEXT_REASON,
            Some(text) => codes.reasons.intern(&shared.memory, text).map_or(TEXT_REASON, |code| code as u16 + 1),
        };
        self.json.clear();
        write_trade(&mut self.json, &trade, &self.keys);
        let json_bytes = self.json.len();
        let instrument_text = if instrument == NO_INSTRUMENT { &*id } else { "" };
        let reason_text = if reason_code == TEXT_REASON { trade.reason.unwrap_or_default() } else { "" };
        self.json.extend_from_slice(instrument_text.as_bytes());
        self.json.extend_from_slice(reason_text.as_bytes());
        let rule = match entry.rule {
            NO_RULE | SCREEN_RULE => entry.rule,
            number => codes.rules.get(usize::from(number) - 1).map_or(NO_RULE, |code| code + 1),
        };
        let position = data_end + self.data.len() as u64;
        extend_words(&mut self.data, &self.json);
        let tape_us = now_ns.saturating_sub(entry.ingest_ns) / 1_000;
        let id_bytes = trade.id.0;
        let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| id_bytes[at + i]));
        self.slots.extend_from_slice(&[
            position,
            slot::lengths(json_bytes, instrument_text.len(), reason_text.len()),
            entry.ingest_ns as u64,
            slot::halves(entry.decode_us, entry.rules_us),
            slot::halves(entry.enrich_us, u32::try_from(tape_us.max(0)).unwrap_or(u32::MAX)),
            half(0),
            half(8),
            u64::from(rule) | u64::from(codes.rule_set) << 16,
            entry.rules_vwap.to_bits(),
            entry.observed.to_bits(),
            entry.limit.to_bits(),
            slot::record_head(instrument, trade.status as u8, entry.flags, reason_code),
            trade.timestamp_ns as u64,
            trade.price.to_bits(),
            trade.volume as u64,
            trade.vwap_20m.to_bits(),
        ]);
        let columns = shared.layout.sizes.enrichments;
        let values = trade.enrichments.iter().copied().chain(std::iter::repeat(f64::NAN));
        self.slots.extend(values.take(columns).map(f64::to_bits));
    }
}

/// Returns `text`, cut where it is longer than the tape carries.
fn shortened(text: &str) -> Cow<'_, str> {
    const MARK: &str = "…";
    if text.len() <= MAX_TEXT {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}{MARK}", cut(text, MAX_TEXT - MARK.len())))
}
