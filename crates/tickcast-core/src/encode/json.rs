//! The plain JSON form of a trade, and of a tick.

use crate::Trade;
use crate::trade::Status;

/// Keys of the plain form; an enrichment can't have one of these names.
pub const RESERVED_KEYS: [&str; 8] =
    ["tradeId", "instrumentId", "price", "volume", "timestampNs", "status", "reason", "vwap20m"];

/// More bytes than a trade with a short id and without reason and enrichments takes.
const USUAL_BYTES: usize = 320;

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
/// Allocates only to make `out` longer.
pub fn write_trade(out: &mut Vec<u8>, trade: &Trade<'_>, keys: &EnrichmentKeys) {
    out.reserve(USUAL_BYTES);
    out.extend_from_slice(b"{\"tradeId\":\"");
    out.extend_from_slice(&trade.id.hex());
    out.extend_from_slice(b"\",\"instrumentId\":");
    write_tick_fields(out, trade.instrument_id, trade.price, trade.volume, trade.timestamp_ns);
    out.extend_from_slice(match trade.status {
        Status::Unknown => b"\",\"status\":\"UNKNOWN\"",
        Status::Valid => b"\",\"status\":\"VALID\"",
        Status::Invalid => b"\",\"status\":\"INVALID\"",
    });
    if let Some(reason) = trade.reason {
        out.extend_from_slice(b",\"reason\":");
        write_text(out, reason);
    }
    if trade.vwap_20m.is_finite() {
        out.extend_from_slice(b",\"vwap20m\":");
        write_double(out, trade.vwap_20m);
    }
    for (key, &value) in keys.0.iter().zip(trade.enrichments) {
        if value.is_finite() {
            out.extend_from_slice(key);
            write_double(out, value);
        }
    }
    out.push(b'}');
}

/// Appends a tick as one JSON object in the form that [`crate::decode::Format::Json`] takes, without a line end.
///
/// A price that JSON can't carry (NaN, infinite) is `null`, which no decoder takes for a price.
pub fn write_tick(out: &mut Vec<u8>, instrument_id: &str, price: f64, volume: i64, timestamp_ns: i64) {
    out.extend_from_slice(b"{\"instrumentId\":");
    write_tick_fields(out, instrument_id, price, volume, timestamp_ns);
    out.extend_from_slice(b"\"}");
}

/// From the value of `instrumentId` to that of `timestampNs`, its closing quote left to the caller's next literal.
#[inline]
fn write_tick_fields(out: &mut Vec<u8>, instrument_id: &str, price: f64, volume: i64, timestamp_ns: i64) {
    write_text(out, instrument_id);
    out.extend_from_slice(b",\"price\":");
    write_double(out, price);
    out.extend_from_slice(b",\"volume\":\"");
    out.extend_from_slice(itoa::Buffer::new().format(volume).as_bytes());
    out.extend_from_slice(b"\",\"timestampNs\":\"");
    out.extend_from_slice(itoa::Buffer::new().format(timestamp_ns).as_bytes());
}

/// Appends the shortest text that reads back as the same double, or `null`.
#[inline]
fn write_double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Appends a string in quotes.
#[inline]
fn write_text(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing to memory can't fail, and a string has no form that serde_json refuses.
        let _ = serde_json::to_writer(out, text);
    }
}
