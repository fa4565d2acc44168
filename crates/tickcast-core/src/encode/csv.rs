//! Trades as CSV rows (RFC 4180).

use crate::Trade;
use std::io::Write as _;

/// Appends the trade as one row: `trade_id, instrument_id, price, volume, timestamp_ns, status, reason, vwap_20m`, then
/// its enrichments. A number that is absent (NaN) is an empty field.
pub fn write_trade(out: &mut Vec<u8>, t: &Trade<'_>) {
    out.extend_from_slice(&t.id.hex());
    out.push(b',');
    text(out, t.instrument_id);
    out.push(b',');
    number(out, t.price);
    let _ = write!(out, ",{},{},{},", t.volume, t.timestamp_ns, t.status.name());
    text(out, t.reason.unwrap_or_default());
    out.push(b',');
    number(out, t.vwap_20m);
    for v in t.enrichments {
        out.push(b',');
        number(out, *v);
    }
    out.push(b'\n');
}

fn number(out: &mut Vec<u8>, value: f64) {
    if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
    } else if !value.is_nan() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    if !value.contains([',', '"', '\n', '\r']) {
        return out.extend_from_slice(value.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(value.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Position, Status};

    #[test]
    fn text_with_separators_is_quoted_and_absent_numbers_are_empty() {
        let mut out = Vec::new();
        let trade = Trade {
            id: Position { stream: 1, partition: 0, offset: 2, index: 3 }.trade_id(),
            instrument_id: "A,\"B\"",
            price: 1.5,
            volume: 7,
            timestamp_ns: 9,
            status: Status::Invalid,
            reason: Some("no"),
            vwap_20m: f64::NAN,
            enrichments: &[2.0, f64::NAN],
        };
        write_trade(&mut out, &trade);
        let expected = "00000001000000000000000000020003,\"A,\"\"B\"\"\",1.5,7,9,INVALID,no,,2.0,\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
