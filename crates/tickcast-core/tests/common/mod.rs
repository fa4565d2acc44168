//! Trades that a test can make again from their number alone.

#![allow(dead_code, reason = "each test file uses its part")]

use tickcast_core::encode::json::{EnrichmentKeys, write_trade};
use tickcast_core::tape::{Enrichment, Entry, Record, TapeOptions, flags};
use tickcast_core::{Position, Status, Trade};

/// Options of a small tape with two enrichments.
pub fn options() -> TapeOptions {
    TapeOptions {
        bytes: 4 << 20,
        enrichments: vec![
            Enrichment { name: "notional".to_owned(), unit: "USD".to_owned() },
            Enrichment { name: "spread".to_owned(), unit: String::new() },
        ],
        rules: vec!["near_vwap".to_owned(), "known_instrument".to_owned()],
        rule_set: "desk@1a2b".to_owned(),
        max_instruments: 256,
        max_reasons: 16,
        fresh: false,
        epoch: None,
    }
}

/// A trade with its own memory.
#[derive(Debug, Clone)]
pub struct Sample {
    pub number: u64,
    pub id: String,
    pub status: Status,
    pub reason: Option<String>,
    pub enrichments: [f64; 2],
}

/// Returns the trade with this number. Its JSON has a length of its own, every third one is refused.
pub fn sample(number: u64) -> Sample {
    let refused = number % 3 == 2;
    Sample {
        number,
        id: format!("INS{}", number % 17),
        status: if refused { Status::Invalid } else { Status::Valid },
        reason: refused.then(|| "x".repeat(1 + (number % 13) as usize)),
        enrichments: if refused { [f64::NAN; 2] } else { [number as f64, 0.5] },
    }
}

/// Returns where the trade with this number stood upstream.
pub fn position(number: u64) -> Position {
    Position { stream: 42, partition: 1, offset: number, index: 0 }
}

impl Sample {
    pub fn trade(&self) -> Trade<'_> {
        let valid = self.status == Status::Valid;
        Trade {
            id: position(self.number).trade_id(),
            instrument_id: &self.id,
            price: 1.0 + self.number as f64 / 8.0,
            volume: self.number as i64 + 1,
            timestamp_ns: self.number as i64 * 1_000,
            status: self.status,
            reason: self.reason.as_deref(),
            vwap_20m: if valid { self.number as f64 * 0.25 } else { f64::NAN },
            enrichments: &self.enrichments,
        }
    }

    pub fn entry(&self) -> Entry<'_> {
        Entry {
            trade: self.trade(),
            reason_is_text: false,
            flags: flags::SCREENED,
            rule: if self.status == Status::Valid { 0 } else { 2 },
            observed: self.number as f64,
            limit: 0.125,
            rules_vwap: 7.5,
            ingest_ns: self.number as i64 * 3,
            decode_us: 1,
            rules_us: 2,
            enrich_us: 3,
        }
    }

    pub fn json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        write_trade(&mut json, &self.trade(), &EnrichmentKeys::new(&["notional", "spread"]));
        json
    }

    /// Asserts that the record is this trade in every part.
    pub fn assert_is(&self, record: &Record<'_>, instruments: &[String], reasons: &[String]) {
        let (trade, entry) = (self.trade(), self.entry());
        assert_eq!(record.id(), trade.id);
        assert_eq!(instruments[record.instrument() as usize], self.id);
        assert_eq!(record.instrument_text(), None);
        let reason = record.reason().checked_sub(1).and_then(|code| reasons.get(usize::from(code)));
        assert_eq!(reason.map(String::as_str).or(record.reason_text()), self.reason.as_deref());
        assert_eq!((record.status(), record.flags(), record.rule()), (self.status, flags::SCREENED, entry.rule));
        let floats = |r: &Record<'_>| [r.price(), r.vwap_20m(), r.observed(), r.limit(), r.rules_vwap()];
        let expected = [trade.price, trade.vwap_20m, entry.observed, entry.limit, entry.rules_vwap];
        assert_eq!(floats(record).map(f64::to_bits), expected.map(f64::to_bits));
        assert_eq!(record.enrichments().len(), 2);
        assert!(record.enrichments().iter().zip(&self.enrichments).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert_eq!((record.volume(), record.timestamp_ns()), (trade.volume, trade.timestamp_ns));
        assert_eq!((record.ingest_ns(), record.decode_us(), record.rules_us()), (entry.ingest_ns, 1, 2));
        assert_eq!(record.enrich_us(), 3);
        assert_eq!(record.json(), self.json());
        assert_eq!(record.row()[16..24], trade.price.to_le_bytes());
    }
}
