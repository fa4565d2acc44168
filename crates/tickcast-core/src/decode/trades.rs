//! Judged trades as sinks write them, decoded: what a gateway gets that follows a topic of them.
//!
//! The plain JSON form (an object, an array of them, or lines of them), `marketdata.ValidatedTrade`, and
//! `tickcast.v1.ValidatedTradeBatch`. A number under a key of its own in the JSON form is an enrichment; the protobuf
//! forms carry none. A payload of which any trade can't be decoded is undecodable as a whole.

use super::{DecodeError, Format, json, proto};
use crate::position::TradeId;
use crate::tick::Names;
use crate::trade::{Status, Trade};
use std::ops::Range;

/// Trades in the order of their payloads.
#[derive(Debug, Clone, Default)]
pub struct TradeBatch {
    /// Instrument ids.
    pub instruments: Names,
    /// Reasons.
    pub reasons: Names,
    /// Names of enrichments, in order of first appearance.
    pub columns: Names,
    /// Rule sets, `name@version`; empty where a payload came without.
    pub rule_sets: Names,
    /// The trades.
    pub rows: Vec<TradeRow>,
    /// Enrichments of all rows: code of the column, value.
    cells: Vec<(u32, f64)>,
    /// Payloads that could not be decoded, by their number, and why.
    pub undecodable: Vec<(u32, DecodeError)>,
}

/// One trade of a [`TradeBatch`].
#[derive(Debug, Clone, PartialEq)]
pub struct TradeRow {
    /// Identity.
    pub id: TradeId,
    /// Code into [`TradeBatch::instruments`].
    pub instrument: u32,
    /// Price; NaN where JSON could not carry it.
    pub price: f64,
    /// Volume.
    pub volume: i64,
    /// Event time, ns since the Unix epoch.
    pub timestamp_ns: i64,
    /// Verdict.
    pub status: Status,
    /// Code into [`TradeBatch::reasons`].
    pub reason: Option<u32>,
    /// 20-minute VWAP; NaN where there is none.
    pub vwap_20m: f64,
    /// Code into [`TradeBatch::rule_sets`].
    pub rule_set: u32,
    cells: Range<u32>,
}

/// The parts of one trade as a decoder finds them.
pub(super) struct Parts<'a> {
    pub id: TradeId,
    pub instrument_id: &'a str,
    pub price: f64,
    pub volume: i64,
    pub timestamp_ns: i64,
    pub status: Status,
    pub reason: Option<&'a str>,
    pub vwap_20m: f64,
}

impl TradeBatch {
    /// Returns the instrument id of a row.
    pub fn instrument_id(&self, row: &TradeRow) -> &str {
        self.instruments.get(row.instrument)
    }

    /// Returns the rule set that judged a row.
    pub fn rule_set(&self, row: &TradeRow) -> &str {
        self.rule_sets.get(row.rule_set)
    }

    /// Returns a row as a trade; `values` becomes its enrichments, in the order of `places`: for each code of a column
    /// here, which of them it is.
    pub fn trade<'a>(&'a self, row: &TradeRow, places: &[Option<usize>], values: &'a mut [f64]) -> Trade<'a> {
        values.fill(f64::NAN);
        for &(column, value) in &self.cells[row.cells.start as usize..row.cells.end as usize] {
            if let Some(cell) = places.get(column as usize).copied().flatten().and_then(|at| values.get_mut(at)) {
                *cell = value;
            }
        }
        Trade {
            id: row.id,
            instrument_id: self.instrument_id(row),
            price: row.price,
            volume: row.volume,
            timestamp_ns: row.timestamp_ns,
            status: row.status,
            reason: row.reason.map(|code| self.reasons.get(code)),
            vwap_20m: row.vwap_20m,
            enrichments: values,
        }
    }

    /// Puts `next` behind; its payloads are numbered on from `base`.
    pub fn append(&mut self, next: TradeBatch, base: u32) {
        let into = |names: &mut Names, from: &Names| -> Vec<u32> { from.iter().map(|n| names.intern(n)).collect() };
        let instruments = into(&mut self.instruments, &next.instruments);
        let reasons = into(&mut self.reasons, &next.reasons);
        let columns = into(&mut self.columns, &next.columns);
        let rule_sets = into(&mut self.rule_sets, &next.rule_sets);
        let shift = self.cells.len() as u32;
        self.cells.extend(next.cells.iter().map(|&(column, value)| (columns[column as usize], value)));
        self.rows.extend(next.rows.into_iter().map(|row| TradeRow {
            instrument: instruments[row.instrument as usize],
            reason: row.reason.map(|code| reasons[code as usize]),
            rule_set: rule_sets[row.rule_set as usize],
            cells: row.cells.start + shift..row.cells.end + shift,
            ..row
        }));
        self.undecodable.extend(next.undecodable.into_iter().map(|(message, error)| (message + base, error)));
    }
}

/// Decodes payloads: each of the stated format or, where that is `None`, of the one [`Format::detect`] gives, and with
/// the rule set that judged it. Takes any bytes; never panics.
pub fn decode_trades<'a>(payloads: impl IntoIterator<Item = (Option<Format>, &'a str, &'a [u8])>) -> TradeBatch {
    let mut batch = TradeBatch::default();
    for (message, (format, rule_set, payload)) in payloads.into_iter().enumerate() {
        let (rows, cells) = (batch.rows.len(), batch.cells.len());
        let rule_set = batch.rule_sets.intern(rule_set);
        let mut target = Target { batch: &mut batch, rule_set };
        let done = match format.unwrap_or_else(|| Format::detect(payload)) {
            _ if payload.is_empty() => Err(DecodeError::Empty),
            Format::Proto => proto::single_trade(&mut target, payload),
            Format::ProtoBatch => proto::trade_batch(&mut target, payload),
            Format::Json => json::trades(&mut target, payload),
        };
        if let Err(error) = done {
            batch.rows.truncate(rows);
            batch.cells.truncate(cells);
            batch.undecodable.push((message as u32, error));
        }
    }
    batch
}

/// Where the trades of a payload go.
pub(super) struct Target<'t> {
    batch: &'t mut TradeBatch,
    rule_set: u32,
}

impl Target<'_> {
    /// Notes an enrichment of the trade that is pushed next.
    pub fn cell(&mut self, name: &str, value: f64) {
        let column = self.batch.columns.intern(name);
        self.batch.cells.push((column, value));
    }

    /// Appends a trade, with the enrichments noted since the last one.
    pub fn push(&mut self, parts: &Parts<'_>) {
        let batch = &mut *self.batch;
        let start = batch.rows.last().map_or(0, |row| row.cells.end);
        batch.rows.push(TradeRow {
            id: parts.id,
            instrument: batch.instruments.intern(parts.instrument_id),
            price: parts.price,
            volume: parts.volume,
            timestamp_ns: parts.timestamp_ns,
            status: parts.status,
            reason: parts.reason.map(|reason| batch.reasons.intern(reason)),
            vwap_20m: parts.vwap_20m,
            rule_set: self.rule_set,
            cells: start..batch.cells.len() as u32,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;
    use crate::encode::json::{EnrichmentKeys, write_trade};
    use crate::encode::proto as written;
    use proptest::prelude::*;

    fn trade<'a>(values: &'a [f64], reason: Option<&'a str>, status: Status, numbers: (f64, i64, i64)) -> Trade<'a> {
        Trade {
            id: Position { stream: 7, partition: 3, offset: 99, index: 2 }.trade_id(),
            instrument_id: "A\"é/USD",
            price: numbers.0,
            volume: numbers.1,
            timestamp_ns: numbers.2,
            status,
            reason,
            vwap_20m: if status == Status::Valid { 10.125 } else { f64::NAN },
            enrichments: values,
        }
    }

    fn shown(trade: &Trade<'_>, names: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        write_trade(&mut out, trade, &EnrichmentKeys::new(names));
        out
    }

    proptest! {
        #[test]
        fn what_sinks_write_comes_back(
            price in -1e9f64..1e9, volume: i64, time: i64, status in 0u8..3, reason in prop::option::of("\\PC{0,12}"),
            cells in prop::collection::vec(prop::option::of(-1e6f64..1e6), 2),
        ) {
            let names = ["noti\"onal", "spread"];
            let values: Vec<f64> = cells.iter().map(|cell| cell.unwrap_or(f64::NAN)).collect();
            let status = Status::from_number(status).unwrap_or_default();
            let sent = trade(&values, reason.as_deref(), status, (price, volume, time));
            let json = shown(&sent, &names);
            let (mut proto, mut batch) = (Vec::new(), Vec::new());
            written::write_trade(&mut proto, &sent);
            for _ in 0..2 {
                written::write_batch_trade(&mut batch, &sent);
            }
            let got = decode_trades([
                (None, "desk@1", &json[..]), (None, "desk@1", &proto), (Some(Format::ProtoBatch), "desk@2", &batch),
            ]);
            prop_assert!(got.undecodable.is_empty(), "{:?}", got.undecodable);
            prop_assert_eq!(got.rows.len(), 4);
            let places: Vec<Option<usize>> = got.columns.iter().map(|c| names.iter().position(|n| *n == c)).collect();
            for (at, row) in got.rows.iter().enumerate() {
                prop_assert_eq!(got.rule_set(row), if at < 2 { "desk@1" } else { "desk@2" });
                let without = trade(&[], reason.as_deref(), status, (price, volume, time));
                let (mut values, mut none) = ([0.0; 2], []);
                let (back, wanted) = if at == 0 {
                    (got.trade(row, &places, &mut values), &json)
                } else {
                    (got.trade(row, &places, &mut none), &shown(&without, &[]))
                };
                prop_assert_eq!(&shown(&back, &names), wanted);
            }
        }

        #[test]
        fn any_bytes_are_met_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), format in 0u8..4) {
            let format = [None, Some(Format::Json), Some(Format::Proto), Some(Format::ProtoBatch)][usize::from(format)];
            let got = decode_trades([(format, "", &bytes[..])]);
            prop_assert!(got.rows.is_empty() || got.undecodable.is_empty());
        }
    }

    #[test]
    fn a_payload_that_is_no_trade_says_why_and_leaves_the_others() {
        let good = shown(&trade(&[], None, Status::Valid, (1.5, 2, 3)), &[]);
        let tick = br#"{"instrumentId":"ABC","price":1,"volume":1}"#;
        let payloads: [&[u8]; 5] = [&good, tick, b"[1]", b"", &good];
        let got = decode_trades(payloads.map(|payload| (None, "", payload)));
        assert_eq!(got.rows.len(), 2);
        let why: Vec<String> = got.undecodable.iter().map(|(message, e)| format!("{message} {e}")).collect();
        assert_eq!(why[0], "1 tradeId: is missing (at byte 0)");
        assert!(why[1].starts_with("2 expected an object"), "{why:?}");
        assert_eq!(why[2], "3 payload: is empty");
    }

    #[test]
    fn appended_batches_keep_what_their_codes_mean() {
        let one = shown(&trade(&[5.0], Some("late"), Status::Invalid, (1.5, 2, 3)), &["spread"]);
        let two = shown(&trade(&[6.0], Some("odd"), Status::Invalid, (1.5, 2, 3)), &["notional"]);
        let mut all = decode_trades([(None, "a@1", &one[..])]);
        all.append(decode_trades([(None, "b@1", &two[..]), (None, "b@1", &b"x"[..])]), 1);
        let mut values = [0.0; 2];
        let row = all.rows[1].clone();
        assert_eq!(all.rule_set(&row), "b@1");
        assert_eq!(all.undecodable[0].0, 2);
        let back = all.trade(&row, &[Some(0), Some(1)], &mut values);
        assert_eq!((back.reason, back.enrichments[1]), (Some("odd"), 6.0));
        assert!(back.enrichments[0].is_nan());
    }
}
