//! JSON ticks: `{"instrumentId":"ABC","price":39.5,"volume":"100","timestampNs":"1723161255342000000"}`.
//!
//! The grammar is that of RFC 8259, strictly; unknown keys are skipped, the last of a repeated key wins. An int64 may
//! be a number or a string of one, and is taken exactly (`1e3` and `5.0` are whole, `1.5` is not). `timestampNs` may
//! be absent or null: 0. A payload is an object, an array, or objects on lines of their own.

mod scan;
mod trade;

use super::decimal::{self, Refused};
use super::error::{At, DecodeError, shown, shown_bytes};
use super::{MAX_TICKS, Target};
use scan::{Kind, Scan, Scanner, Value};

pub(super) use trade::trades;

/// The values of one tick as they stand in the text; `None`: absent.
#[derive(Default)]
struct Fields<'a> {
    instrument_id: Option<Value<'a>>,
    price: Option<Value<'a>>,
    volume: Option<Value<'a>>,
    timestamp_ns: Option<Value<'a>>,
}

/// Appends the ticks of a payload; elements that are no ticks become undecodable on their own.
///
/// # Errors
/// What concerns the payload as a whole: syntax, UTF-8, too many ticks. Some of its ticks may have been appended.
pub(super) fn payload(target: &mut Target<'_>, payload: &[u8]) -> Result<(), DecodeError> {
    let text = std::str::from_utf8(payload).map_err(|e| DecodeError::Utf8 {
        field: "payload",
        was: shown_bytes(&payload[e.valid_up_to()..]),
        at: At::Byte(e.valid_up_to()),
    })?;
    let mut elements = Elements { scanner: Scanner::new(text), target, count: 0 };
    elements.scanner.space();
    let scanned = match elements.scanner.peek() {
        Some(b'[') => elements.array(),
        Some(b'{') => elements.lines(),
        _ => Err(elements.scanner.expected("an object or an array")),
    };
    scanned.map_err(|error| *error)
}

struct Elements<'a, 'e, 't> {
    scanner: Scanner<'a>,
    target: &'e mut Target<'t>,
    count: usize,
}

impl Elements<'_, '_, '_> {
    fn array(&mut self) -> Scan<()> {
        self.scanner.at += 1;
        self.scanner.space();
        if !self.scanner.eat(b']') {
            loop {
                self.scanner.space();
                self.element()?;
                self.scanner.space();
                if self.scanner.eat(b']') {
                    break;
                }
                if !self.scanner.eat(b',') {
                    return Err(self.scanner.expected(", or ]"));
                }
            }
        }
        self.scanner.space();
        if self.scanner.peek().is_some() { Err(self.scanner.expected("the end of the payload")) } else { Ok(()) }
    }

    fn lines(&mut self) -> Scan<()> {
        loop {
            self.element()?;
            let new_line = self.scanner.space();
            if self.scanner.peek().is_none() {
                return Ok(());
            }
            if !new_line {
                return Err(self.scanner.expected("the end of the line"));
            }
        }
    }

    /// Reads the value at hand as the next tick.
    fn element(&mut self) -> Scan<()> {
        let start = self.scanner.at;
        if self.count == MAX_TICKS {
            return Err(Box::new(DecodeError::TooManyTicks { at: At::Byte(start) }));
        }
        let index = self.count as u16;
        self.count += 1;
        let pushed = if self.scanner.peek() == Some(b'{') {
            let mut fields = Fields::default();
            read_fields(&mut self.scanner, &mut fields)?;
            push(self.target, index, &fields, start)
        } else {
            Err(wrong_type("tick", "an object", &self.scanner.value()?))
        };
        if let Err(error) = pushed {
            self.target.refuse(index, &self.scanner.text.as_bytes()[start..self.scanner.at], error);
        }
        Ok(())
    }
}

/// Reads an object and keeps the values of the known keys.
#[inline]
fn read_fields<'a>(scanner: &mut Scanner<'a>, fields: &mut Fields<'a>) -> Scan<()> {
    scanner.members(0, |key, value| match key {
        "instrumentId" => fields.instrument_id = Some(value),
        "price" => fields.price = Some(value),
        "volume" => fields.volume = Some(value),
        "timestampNs" => fields.timestamp_ns = Some(value),
        _ => {}
    })
}

fn push(target: &mut Target<'_>, index: u16, fields: &Fields<'_>, start: usize) -> Result<(), DecodeError> {
    let missing = |field| DecodeError::Missing { field, at: At::Byte(start) };
    let id_value = fields.instrument_id.as_ref().ok_or_else(|| missing("instrumentId"))?;
    let price = fields.price.as_ref().ok_or_else(|| missing("price"))?;
    let volume = fields.volume.as_ref().ok_or_else(|| missing("volume"))?;
    let not_text = |expected| wrong_type("instrumentId", expected, id_value);
    let unescaped;
    let id = match id_value.kind {
        Kind::Text => id_value.inner().as_bytes(),
        Kind::EscapedText => {
            unescaped = id_value.unescape().ok_or_else(|| not_text("a string of whole characters"))?;
            unescaped.as_bytes()
        }
        _ => return Err(not_text("a string")),
    };
    let price = double("price", price)?;
    let volume = int64("volume", volume, target.scale_of(id))?;
    let timestamp_ns = match &fields.timestamp_ns {
        Some(value) if value.kind != Kind::Null => int64("timestampNs", value, 1)?,
        _ => 0,
    };
    target.push(id, (price, volume, timestamp_ns), index).map_err(|_| not_text("a string of whole characters"))
}

fn double(field: &'static str, value: &Value<'_>) -> Result<f64, DecodeError> {
    if value.kind != Kind::Number {
        return Err(wrong_type(field, "a number", value));
    }
    // The scanner has seen to the grammar: only the range is left to go wrong.
    decimal::double(value.text).map_err(|_| DecodeError::OutOfRange {
        field,
        kind: "a double",
        scale: 1,
        was: shown(value.text),
        at: At::Byte(value.at),
    })
}

fn int64(field: &'static str, value: &Value<'_>, scale: u64) -> Result<i64, DecodeError> {
    let text = match value.kind {
        Kind::Number => value.text,
        Kind::Text => value.inner(),
        _ => return Err(wrong_type(field, "an integer", value)),
    };
    let at = At::Byte(value.at);
    decimal::scaled(text.as_bytes(), scale).map_err(|refused| match refused {
        Refused::NotANumber => wrong_type(field, "an integer", value),
        Refused::Inexact => DecodeError::Inexact { field, scale, was: shown(value.text), at },
        Refused::OutOfRange => DecodeError::OutOfRange { field, kind: "int64", scale, was: shown(value.text), at },
    })
}

fn wrong_type(field: &'static str, expected: &'static str, value: &Value<'_>) -> DecodeError {
    DecodeError::WrongType { field, expected, was: shown(value.text), at: At::Byte(value.at) }
}
