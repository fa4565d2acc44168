//! Judged trades in the plain JSON form.

use super::super::trades::{Parts, Target};
use super::scan::{Kind, Scan, Scanner, Value};
use super::{At, DecodeError, double, int64, shown_bytes, wrong_type};
use crate::position::TradeId;
use crate::trade::Status;
use std::borrow::Cow;

/// The values of one trade as they stand in the text; `None`: absent.
#[derive(Default)]
struct Fields<'a> {
    trade_id: Option<Value<'a>>,
    instrument_id: Option<Value<'a>>,
    price: Option<Value<'a>>,
    volume: Option<Value<'a>>,
    timestamp_ns: Option<Value<'a>>,
    status: Option<Value<'a>>,
    reason: Option<Value<'a>>,
    vwap_20m: Option<Value<'a>>,
}

/// Appends the trades of a payload: an object, an array of them, or objects on lines of their own.
///
/// # Errors
/// What is no such payload; some of its trades may have been appended.
pub(in super::super) fn trades(target: &mut Target<'_>, payload: &[u8]) -> Result<(), DecodeError> {
    let text = std::str::from_utf8(payload).map_err(|e| DecodeError::Utf8 {
        field: "payload",
        was: shown_bytes(&payload[e.valid_up_to()..]),
        at: At::Byte(e.valid_up_to()),
    })?;
    let mut scanner = Scanner::new(text);
    scanner.space();
    let scanned = if scanner.eat(b'[') { array(&mut scanner, target) } else { lines(&mut scanner, target) };
    scanned.map_err(|error| *error)
}

fn array(scanner: &mut Scanner<'_>, target: &mut Target<'_>) -> Scan<()> {
    scanner.space();
    if !scanner.eat(b']') {
        loop {
            scanner.space();
            trade(scanner, target)?;
            scanner.space();
            if scanner.eat(b']') {
                break;
            }
            if !scanner.eat(b',') {
                return Err(scanner.expected(", or ]"));
            }
        }
    }
    scanner.space();
    if scanner.peek().is_some() { Err(scanner.expected("the end of the payload")) } else { Ok(()) }
}

fn lines(scanner: &mut Scanner<'_>, target: &mut Target<'_>) -> Scan<()> {
    loop {
        trade(scanner, target)?;
        let new_line = scanner.space();
        if scanner.peek().is_none() {
            return Ok(());
        }
        if !new_line {
            return Err(scanner.expected("the end of the line"));
        }
    }
}

fn trade(scanner: &mut Scanner<'_>, target: &mut Target<'_>) -> Scan<()> {
    let start = scanner.at;
    if scanner.peek() != Some(b'{') {
        return Err(scanner.expected("an object"));
    }
    let mut fields = Fields::default();
    scanner.members(0, |key, value| match key {
        "tradeId" => fields.trade_id = Some(value),
        "instrumentId" => fields.instrument_id = Some(value),
        "price" => fields.price = Some(value),
        "volume" => fields.volume = Some(value),
        "timestampNs" => fields.timestamp_ns = Some(value),
        "status" => fields.status = Some(value),
        "reason" => fields.reason = Some(value),
        "vwap20m" => fields.vwap_20m = Some(value),
        name if value.kind == Kind::Number => {
            if let Ok(number) = double("enrichment", &value) {
                target.cell(name, number);
            }
        }
        _ => {}
    })?;
    push(target, &fields, start).map_err(Box::new)
}

fn push(target: &mut Target<'_>, fields: &Fields<'_>, start: usize) -> Result<(), DecodeError> {
    fn needed<'f, 'a>(
        field: &'static str,
        value: &'f Option<Value<'a>>,
        start: usize,
    ) -> Result<&'f Value<'a>, DecodeError> {
        value.as_ref().ok_or(DecodeError::Missing { field, at: At::Byte(start) })
    }
    let id = needed("tradeId", &fields.trade_id, start)?;
    let instrument_id = text("instrumentId", needed("instrumentId", &fields.instrument_id, start)?)?;
    let price = needed("price", &fields.price, start)?;
    let volume = needed("volume", &fields.volume, start)?;
    let time = needed("timestampNs", &fields.timestamp_ns, start)?;
    let status = needed("status", &fields.status, start)?;
    let reason = fields.reason.as_ref().filter(|v| v.kind != Kind::Null).map(|v| text("reason", v)).transpose()?;
    let vwap = fields.vwap_20m.as_ref().filter(|v| v.kind != Kind::Null);
    let digits = if id.kind == Kind::Text { id.inner() } else { "" };
    target.push(&Parts {
        id: TradeId::from_hex(digits.as_bytes())
            .ok_or_else(|| wrong_type("tradeId", "32 lower-case hexadecimal digits", id))?,
        instrument_id: &instrument_id,
        price: if price.kind == Kind::Null { f64::NAN } else { double("price", price)? },
        volume: int64("volume", volume, 1)?,
        timestamp_ns: int64("timestampNs", time, 1)?,
        status: status_of(status).ok_or_else(|| wrong_type("status", "VALID, INVALID or UNKNOWN", status))?,
        reason: reason.as_deref(),
        vwap_20m: vwap.map_or(Ok(f64::NAN), |value| double("vwap20m", value))?,
    });
    Ok(())
}

fn status_of(value: &Value<'_>) -> Option<Status> {
    [Status::Valid, Status::Invalid, Status::Unknown]
        .into_iter()
        .find(|status| value.kind == Kind::Text && value.inner() == status.name())
}

fn text<'a>(field: &'static str, value: &Value<'a>) -> Result<Cow<'a, str>, DecodeError> {
    match value.kind {
        Kind::Text => Ok(Cow::Borrowed(value.inner())),
        Kind::EscapedText => {
            value.unescape().map(Cow::Owned).ok_or_else(|| wrong_type(field, "a string of whole characters", value))
        }
        _ => Err(wrong_type(field, "a string", value)),
    }
}
