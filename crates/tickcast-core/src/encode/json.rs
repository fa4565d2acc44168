//! The plain JSON form of a trade.

use crate::Trade;
use std::io::Write as _;

/// Keys of the plain form; an enrichment can't have one of these names.
pub const RESERVED_KEYS: [&str; 8] =
    ["tradeId", "instrumentId", "price", "volume", "timestampNs", "status", "reason", "vwap20m"];

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
pub fn write_trade(out: &mut Vec<u8>, t: &Trade<'_>, keys: &EnrichmentKeys) {
    let num = |v: f64| if v.is_finite() { ryu::Buffer::new().format_finite(v).to_owned() } else { "null".to_owned() };
    let hex = t.id.hex();
    let _ = write!(
        out,
        "{{\"tradeId\":\"{}\",\"instrumentId\":{},\"price\":{},\"volume\":\"{}\",\"timestampNs\":\"{}\",\"status\":\"{}\"",
        String::from_utf8_lossy(&hex),
        serde_json::Value::from(t.instrument_id),
        num(t.price),
        t.volume,
        t.timestamp_ns,
        t.status.name()
    );
    if let Some(r) = t.reason {
        let _ = write!(out, ",\"reason\":{}", serde_json::Value::from(r));
    }
    if t.vwap_20m.is_finite() {
        let _ = write!(out, ",\"vwap20m\":{}", num(t.vwap_20m));
    }
    for (k, v) in keys.0.iter().zip(t.enrichments) {
        if v.is_finite() {
            out.extend_from_slice(k);
            out.extend_from_slice(num(*v).as_bytes());
        }
    }
    out.push(b'}');
}
