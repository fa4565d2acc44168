//! Protobuf by hand: `marketdata.RawMarketTick` and `tickcast.v1.RawMarketTickBatch`.
//!
//! Unlike a generated parser this one refuses a known field of a wrong wire type (a generated one would take it for an
//! unknown field and the tick for one without a price), and a varint of more than 64 bits. Fields in any order, the
//! last of a repeated one wins, unknown ones (groups too) are skipped.
//!
//! Source: "Encoding" of the Protocol Buffers documentation.

mod trade;

use super::error::{At, DecodeError, shown_bytes};
use super::{MAX_TICKS, Target, reserve};
use std::str::Utf8Error;

pub(super) use trade::{single_trade, trade_batch};

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;
const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED32: u8 = 5;

/// Name and wire type of the fields of `RawMarketTick`, by number - 1.
const FIELDS: [(&str, u8); 4] =
    [("instrument_id", LENGTH), ("price", FIXED64), ("volume", VARINT), ("timestamp_ns", VARINT)];

/// Bytes of a usual tick in a batch: id of 6, price, volume of 2, time.
const USUAL_BYTES: usize = 32;

/// Depth of nested groups beyond which a message is refused.
const MAX_DEPTH: u32 = 64;

/// One tick as it stands in the bytes; proto3 defaults for what is absent.
#[derive(Default)]
struct Fields<'a> {
    /// Not yet known to be UTF-8.
    id: &'a [u8],
    /// Where it begins in the payload.
    id_at: usize,
    price: f64,
    volume: i64,
    /// Where it begins in the payload.
    volume_at: usize,
    timestamp_ns: i64,
}

/// Appends the one tick of a payload.
#[inline]
pub(super) fn single(target: &mut Target<'_>, payload: &[u8]) -> Result<(), DecodeError> {
    push(target, 0, &tick(payload, 0)?)
}

/// Appends the ticks of a batch. A tick that is wrong within is undecodable alone: the framing around it holds.
pub(super) fn batch(target: &mut Target<'_>, payload: &[u8]) -> Result<(), DecodeError> {
    let mut reader = Reader { bytes: payload, at: 0, base: 0 };
    let mut count = 0usize;
    reserve(&mut target.out.ticks, (payload.len() / USUAL_BYTES).min(MAX_TICKS));
    while let Some(&first) = payload.get(reader.at) {
        let start = reader.at;
        if first == 0x0a {
            reader.at += 1;
        } else {
            let tag = reader.tag()?;
            if tag >> 3 != 1 {
                reader.skip(tag, start, 0)?;
                continue;
            }
            expect_wire("ticks", LENGTH, tag, reader.place(start))?;
        }
        let bytes = reader.length_delimited("ticks")?;
        if count == MAX_TICKS {
            return Err(DecodeError::TooManyTicks { at: reader.place(start) });
        }
        let index = count as u16;
        count += 1;
        if let Err(error) = tick(bytes, reader.at - bytes.len()).and_then(|fields| push(target, index, &fields)) {
            target.refuse(index, bytes, error);
        }
    }
    Ok(())
}

/// Whether a payload is a tick from end to end.
pub(super) fn is_tick(payload: &[u8]) -> bool {
    tick(payload, 0).is_ok_and(|fields| std::str::from_utf8(fields.id).is_ok())
}

#[inline(always)]
fn push(target: &mut Target<'_>, index: u16, fields: &Fields<'_>) -> Result<(), DecodeError> {
    let scale = target.scale_of(fields.id);
    let volume = fields.volume.checked_mul(scale as i64).ok_or_else(|| DecodeError::OutOfRange {
        field: "volume",
        kind: "int64",
        scale,
        was: fields.volume.to_string(),
        at: At::Byte(fields.volume_at),
    })?;
    target.push(fields.id, (fields.price, volume, fields.timestamp_ns), index).map_err(|e| not_utf8(fields, e))
}

#[cold]
fn not_utf8(fields: &Fields<'_>, error: Utf8Error) -> DecodeError {
    let at = At::Byte(fields.id_at + error.valid_up_to());
    DecodeError::Utf8 { field: "instrument_id", was: shown_bytes(fields.id), at }
}

/// Reads one `RawMarketTick` that stands at `base` in its payload.
#[inline(always)]
fn tick(bytes: &[u8], base: usize) -> Result<Fields<'_>, DecodeError> {
    let mut reader = Reader { bytes, at: 0, base };
    let mut fields = Fields::default();
    while let Some(&tag) = bytes.get(reader.at) {
        let start = reader.at;
        reader.at += 1;
        match tag {
            0x0a => reader.id(&mut fields)?,
            0x11 => fields.price = reader.double("price")?,
            0x18 => reader.volume(&mut fields)?,
            0x20 => fields.timestamp_ns = reader.varint("timestamp_ns")? as i64,
            _ => {
                reader.at = start;
                other_field(&mut reader, &mut fields)?;
            }
        }
    }
    Ok(fields)
}

/// A field whose tag is not one of the four bytes that encoders write: unknown, of a wrong type, or a padded tag.
#[cold]
fn other_field<'a>(reader: &mut Reader<'a>, fields: &mut Fields<'a>) -> Result<(), DecodeError> {
    let start = reader.at;
    let tag = reader.tag()?;
    let Some((name, wire)) = FIELDS.get((tag >> 3) as usize - 1).copied() else {
        return reader.skip(tag, start, 0);
    };
    expect_wire(name, wire, tag, reader.place(start))?;
    match tag >> 3 {
        1 => reader.id(fields)?,
        2 => fields.price = reader.double(name)?,
        3 => reader.volume(fields)?,
        _ => fields.timestamp_ns = reader.varint(name)? as i64,
    }
    Ok(())
}

fn expect_wire(field: &'static str, expected: u8, tag: u32, at: At) -> Result<(), DecodeError> {
    let was = (tag & 7) as u8;
    if was == expected { Ok(()) } else { Err(DecodeError::WireType { field, expected, was, at }) }
}

/// A place in a message, which itself stands at `base` in the payload.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    base: usize,
}

impl<'a> Reader<'a> {
    fn place(&self, at: usize) -> At {
        At::Byte(self.base + at)
    }

    #[cold]
    fn truncated(&self, field: &'static str, needed: u64) -> DecodeError {
        DecodeError::Truncated { field, needed, left: self.bytes.len() - self.at, at: self.place(self.at) }
    }

    /// Reads a varint of at most 64 bits.
    #[inline]
    fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        match self.bytes.get(self.at..) {
            Some(&[byte, ..]) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            Some(rest) => match rest.first_chunk::<8>() {
                Some(eight) => self.wide_varint(field, u64::from_le_bytes(*eight)),
                None => self.short_varint(field),
            },
            None => Err(self.truncated(field, 1)),
        }
    }

    /// With eight bytes at hand: their 7-bit groups are moved together in three steps.
    #[inline]
    fn wide_varint(&mut self, field: &'static str, word: u64) -> Result<u64, DecodeError> {
        const MORE: u64 = 0x8080_8080_8080_8080;
        let ends = !word & MORE;
        // Bytes up to and including the first without the continuation bit; all eight if there is none.
        let kept = if ends == 0 { word } else { word & (ends ^ (ends - 1)) };
        let groups = kept & !MORE;
        let pairs = (groups & 0x007f_007f_007f_007f) | ((groups & 0x7f00_7f00_7f00_7f00) >> 1);
        let quads = (pairs & 0x0000_3fff_0000_3fff) | ((pairs & 0x3fff_0000_3fff_0000) >> 2);
        let low = (quads & 0x0fff_ffff) | ((quads & 0x0fff_ffff_0000_0000) >> 4);
        if ends != 0 {
            self.at += ends.trailing_zeros() as usize / 8 + 1;
            return Ok(low);
        }
        match self.bytes[self.at + 8..] {
            [ninth, ..] if ninth < 0x80 => {
                self.at += 9;
                Ok(low | u64::from(ninth) << 56)
            }
            [ninth, tenth, ..] if tenth <= 1 => {
                self.at += 10;
                Ok(low | u64::from(ninth & 0x7f) << 56 | u64::from(tenth) << 63)
            }
            [_, _, ..] => Err(self.varint_too_long()),
            _ => Err(self.truncated(field, (self.bytes.len() - self.at) as u64 + 1)),
        }
    }

    /// With fewer than eight bytes left.
    fn short_varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (i, &byte) in self.bytes[self.at..].iter().enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.truncated(field, (self.bytes.len() - self.at) as u64 + 1))
    }

    #[cold]
    fn varint_too_long(&self) -> DecodeError {
        let found = shown_bytes(&self.bytes[self.at..self.bytes.len().min(self.at + 10)]);
        DecodeError::Syntax { expected: "a varint of at most 64 bits", found, at: self.place(self.at) }
    }

    #[inline]
    fn take(&mut self, field: &'static str, len: u64) -> Result<&'a [u8], DecodeError> {
        let left = self.bytes.len() - self.at;
        if len > left as u64 {
            return Err(self.truncated(field, len));
        }
        let taken = &self.bytes[self.at..self.at + len as usize];
        self.at += len as usize;
        Ok(taken)
    }

    #[inline]
    fn length_delimited(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.varint(field)?;
        self.take(field, len)
    }

    /// Reads an id; one that it replaces must have been UTF-8 too.
    #[inline]
    fn id(&mut self, fields: &mut Fields<'a>) -> Result<(), DecodeError> {
        let id = self.length_delimited("instrument_id")?;
        if !fields.id.is_empty() {
            std::str::from_utf8(fields.id).map_err(|e| not_utf8(fields, e))?;
        }
        fields.id = id;
        fields.id_at = self.base + self.at - id.len();
        Ok(())
    }

    #[inline]
    fn volume(&mut self, fields: &mut Fields<'a>) -> Result<(), DecodeError> {
        fields.volume_at = self.base + self.at;
        fields.volume = self.varint("volume")? as i64;
        Ok(())
    }

    #[inline]
    fn double(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        match self.bytes[self.at..].first_chunk::<8>() {
            Some(eight) => {
                self.at += 8;
                Ok(f64::from_le_bytes(*eight))
            }
            None => Err(self.truncated(field, 8)),
        }
    }

    /// Reads a tag: field number << 3 | wire type, the number not 0.
    fn tag(&mut self) -> Result<u32, DecodeError> {
        let start = self.at;
        let tag = self.varint("tag")?;
        match u32::try_from(tag) {
            Ok(tag) if tag >> 3 != 0 => Ok(tag),
            _ => Err(DecodeError::Syntax {
                expected: "a protobuf field",
                found: shown_bytes(&self.bytes[start..self.at]),
                at: self.place(start),
            }),
        }
    }

    /// Skips the value of an unknown field whose tag stood at `start`.
    fn skip(&mut self, tag: u32, start: usize, depth: u32) -> Result<(), DecodeError> {
        const FIELD: &str = "unknown field";
        match (tag & 7) as u8 {
            VARINT => self.varint(FIELD).map(drop),
            FIXED64 => self.take(FIELD, 8).map(drop),
            LENGTH => self.length_delimited(FIELD).map(drop),
            FIXED32 => self.take(FIELD, 4).map(drop),
            START_GROUP if depth < MAX_DEPTH => loop {
                let (start, inner) = (self.at, self.tag()?);
                if inner & 7 == u32::from(END_GROUP) && inner >> 3 == tag >> 3 {
                    return Ok(());
                }
                self.skip(inner, start, depth + 1)?;
            },
            wire => Err(DecodeError::Syntax {
                expected: "a protobuf field",
                found: format!("wire type {wire} at depth {depth}"),
                at: self.place(start),
            }),
        }
    }
}
