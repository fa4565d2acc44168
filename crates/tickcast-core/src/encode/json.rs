//! The plain JSON form of a trade, and of a tick.

use crate::Trade;
use crate::trade::Status;
use std::borrow::Cow;

/// Keys of the plain form; an enrichment can't have one of these names.
pub const RESERVED_KEYS: [&str; 8] =
    ["tradeId", "instrumentId", "price", "volume", "timestampNs", "status", "reason", "vwap20m"];

/// More bytes than a trade takes beside its texts and enrichments.
const FIXED_BYTES: usize = 320;

/// More bytes than a double takes.
const DOUBLE_BYTES: usize = 32;

/// Enrichment names, escaped once as JSON keys.
#[derive(Debug, Clone, Default)]
pub struct EnrichmentKeys(Vec<Vec<u8>>);

impl EnrichmentKeys {
    /// Prepares the keys of these enrichments, in their order.
    pub fn new<S: AsRef<str>>(names: &[S]) -> Self {
        EnrichmentKeys(
            names.iter().map(|n| format!(",{}:", serde_json::Value::from(n.as_ref())).into_bytes()).collect(),
        )
    }
}

/// Appends the trade as one JSON object, keys in fixed order, without a line end.
///
/// `price` that JSON can't carry (NaN, infinite) is `null`; `reason`, `vwap20m` and NaN enrichments are left out.
/// Allocates only to make `out` longer, unless texts have to be escaped.
pub fn write_trade(out: &mut Vec<u8>, trade: &Trade<'_>, keys: &EnrichmentKeys) {
    let (id, reason) = (escaped(trade.instrument_id), trade.reason.map(escaped));
    let enrichments = || keys.0.iter().zip(trade.enrichments).filter(|(_, value)| value.is_finite());
    let more = enrichments().map(|(key, _)| key.len() + DOUBLE_BYTES).sum::<usize>();
    let mut room = Room::behind(out, FIXED_BYTES + id.len() + reason.as_ref().map_or(0, |text| text.len()) + more);
    room.put(b"{\"tradeId\":\"");
    room.put(&trade.id.hex());
    room.put(b"\",\"instrumentId\":\"");
    room.put(id.as_bytes());
    room.put_numbers(trade.price, trade.volume, trade.timestamp_ns);
    match trade.status {
        Status::Unknown => room.put(b"\",\"status\":\"UNKNOWN\""),
        Status::Valid => room.put(b"\",\"status\":\"VALID\""),
        Status::Invalid => room.put(b"\",\"status\":\"INVALID\""),
    }
    if let Some(reason) = reason {
        room.put(b",\"reason\":\"");
        room.put(reason.as_bytes());
        room.put(b"\"");
    }
    if trade.vwap_20m.is_finite() {
        room.put(b",\"vwap20m\":");
        room.put_double(trade.vwap_20m);
    }
    for (key, &value) in enrichments() {
        room.put(key);
        room.put_double(value);
    }
    room.put(b"}");
    room.close();
}

/// Appends a tick as one JSON object in the form that [`crate::decode::Format::Json`] takes, without a line end.
///
/// A price that JSON can't carry (NaN, infinite) is `null`, which no decoder takes for a price.
pub fn write_tick(out: &mut Vec<u8>, instrument_id: &str, price: f64, volume: i64, timestamp_ns: i64) {
    let id = escaped(instrument_id);
    let mut room = Room::behind(out, FIXED_BYTES + id.len());
    room.put(b"{\"instrumentId\":\"");
    room.put(id.as_bytes());
    room.put_numbers(price, volume, timestamp_ns);
    room.put(b"\"}");
    room.close();
}

/// What stands between the quotes of a JSON string.
#[inline]
fn escaped(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        return Cow::Borrowed(text);
    }
    let mut quoted = serde_json::Value::from(text).to_string();
    quoted.truncate(quoted.len() - 1);
    quoted.remove(0);
    Cow::Owned(quoted)
}

/// Bytes at the end of a vector, made at once and then filled: whoever fills them knows most lengths when compiled, and
/// what would be a call for every few bytes becomes a move or two.
struct Room<'a> {
    out: &'a mut Vec<u8>,
    at: usize,
}

impl<'a> Room<'a> {
    #[inline]
    fn behind(out: &'a mut Vec<u8>, bytes: usize) -> Self {
        let at = out.len();
        out.resize(at + bytes, 0);
        Room { out, at }
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// From behind the instrument to behind the digits of the time: their closing quote goes with what follows.
    #[inline]
    fn put_numbers(&mut self, price: f64, volume: i64, timestamp_ns: i64) {
        self.put(b"\",\"price\":");
        if price.is_finite() {
            self.put_double(price);
        } else {
            self.put(b"null");
        }
        self.put(b",\"volume\":\"");
        self.put_whole(volume);
        self.put(b"\",\"timestampNs\":\"");
        self.put_whole(timestamp_ns);
    }

    /// The shortest text that reads back as the same double, which is finite.
    #[inline]
    fn put_double(&mut self, value: f64) {
        self.put(zmij::Buffer::new().format_finite(value).as_bytes());
    }

    #[inline]
    fn put_whole(&mut self, value: i64) {
        self.put(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Gives back what was not needed.
    #[inline]
    fn close(self) {
        self.out.truncate(self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::TradeId;
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;

    /// Members of a JSON object as they stand there: serde_json would round numbers.
    fn members(bytes: &[u8]) -> BTreeMap<String, Box<RawValue>> {
        serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(bytes)))
    }

    fn text(found: &BTreeMap<String, Box<RawValue>>, key: &str) -> Option<String> {
        found.get(key).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    fn number(found: &BTreeMap<String, Box<RawValue>>, key: &str) -> Option<f64> {
        found.get(key).and_then(|raw| raw.get().parse().ok())
    }

    proptest! {
        #[test]
        fn a_tick_reads_back_whatever_its_text_and_numbers(
            id: String, bits: u64, decimals in 0u64..1_000_000_000_000_000, places in 0i32..9, volume: i64, time: i64,
        ) {
            for price in [f64::from_bits(bits), decimals as f64 / 10f64.powi(places)] {
                let mut out = Vec::new();
                write_tick(&mut out, &id, price, volume, time);
                let found = members(&out);
                prop_assert_eq!(text(&found, "instrumentId"), Some(id.clone()));
                prop_assert_eq!(text(&found, "volume"), Some(volume.to_string()));
                prop_assert_eq!(text(&found, "timestampNs"), Some(time.to_string()));
                prop_assert_eq!(number(&found, "price"), Some(price).filter(|price| price.is_finite()));
            }
        }

        #[test]
        fn texts_and_enrichments_of_any_length_have_room(
            id: String, reason in proptest::option::of("(\\PC|[\"\\\\\n\u{1}]){0,900}"), name in "\\PC{1,300}", value: f64,
        ) {
            prop_assume!(name != "last" && !RESERVED_KEYS.contains(&&*name));
            let trade = Trade {
                id: TradeId([255; 16]), instrument_id: &id, price: f64::MIN, volume: i64::MIN, timestamp_ns: i64::MIN,
                status: Status::Invalid, reason: reason.as_deref(), vwap_20m: f64::MIN, enrichments: &[value, f64::MIN],
            };
            let mut out = b"before".to_vec();
            write_trade(&mut out, &trade, &EnrichmentKeys::new(&[&*name, "last"]));
            let found = members(&out[6..]);
            prop_assert_eq!(text(&found, "tradeId"), Some("f".repeat(32)));
            prop_assert_eq!(text(&found, "instrumentId"), Some(id));
            prop_assert_eq!(text(&found, "reason"), reason);
            prop_assert_eq!(number(&found, "vwap20m"), Some(f64::MIN));
            prop_assert_eq!(number(&found, "last"), Some(f64::MIN));
            prop_assert_eq!(number(&found, &name), Some(value).filter(|value| value.is_finite()));
        }
    }
}
