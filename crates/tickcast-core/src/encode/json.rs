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
    if !write_short_decimal(out, value) {
        if value.is_finite() {
            out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
        } else {
            out.extend_from_slice(b"null");
        }
    }
}

/// Appends a double that is a decimal of at most 5 places, as prices are, and says whether it is one.
///
/// Of at most 15 digits there is one decimal only that reads back as a given double, so the one found here is the
/// shortest, and the bytes are those that `ryu` would write, which is slowest at such numbers.
#[inline]
fn write_short_decimal(out: &mut Vec<u8>, value: f64) -> bool {
    const UNIT: f64 = 1e5;
    let magnitude = value.abs();
    if !(1e-3..1e9).contains(&magnitude) {
        return false;
    }
    let scaled = (magnitude * UNIT + 0.5) as u64;
    // Rounded once, as reading the decimal would be.
    if scaled as f64 / UNIT != magnitude {
        return false;
    }
    let (whole, mut rest) = (scaled / 100_000, (scaled % 100_000) as u32);
    let mut places = [b'0'; 6];
    places[0] = b'.';
    for digit in places[1..].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    let mut len = places.len();
    while len > 2 && places[len - 1] == b'0' {
        len -= 1;
    }
    if value < 0.0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    out.extend_from_slice(&places[..len]);
    true
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_that_of_ryu(value: f64) {
        let mut out = Vec::new();
        write_double(&mut out, value);
        assert_eq!(std::str::from_utf8(&out), Ok(ryu::Buffer::new().format_finite(value)));
    }

    #[test]
    fn doubles_at_the_bounds_of_the_short_form_are_those_of_ryu() {
        for value in [0.0, 1e-3, 1e-5, 0.001_005, 1e9, 999_999_999.999_99, 0.1 + 0.2, 1e15, 1e16, 5e-324, f64::MAX] {
            for near in [value, value.next_up().min(f64::MAX), value.next_down()] {
                is_that_of_ryu(near);
                is_that_of_ryu(-near);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn decimals_and_their_neighbours_are_those_of_ryu(digits in 0u64..1_000_000_000_000_000, places in 0i32..9, ulps in -2i64..3) {
            let value = digits as f64 / 10f64.powi(places);
            let near = f64::from_bits(value.to_bits().saturating_add_signed(ulps));
            is_that_of_ryu(if near.is_finite() { near } else { value });
        }

        #[test]
        fn any_double_is_that_of_ryu(bits: u64) {
            let value = f64::from_bits(bits);
            if value.is_finite() { is_that_of_ryu(value) }
        }
    }
}
