//! `marketdata.ValidatedTrade` and `tickcast.v1.ValidatedTradeBatch`.

use super::super::error::{At, DecodeError, shown_bytes};
use super::super::trades::{Parts, Target};
use super::{FIXED64, LENGTH, Reader, VARINT, expect_wire};
use crate::position::TradeId;
use crate::trade::Status;

/// Name and wire type of the fields of `ValidatedTrade`, by number - 1.
const FIELDS: [(&str, u8); 8] = [
    ("trade_id", LENGTH),
    ("instrument_id", LENGTH),
    ("price", FIXED64),
    ("volume", VARINT),
    ("timestamp_ns", VARINT),
    ("status", VARINT),
    ("reason", LENGTH),
    ("vwap_20m", FIXED64),
];

/// Appends the one trade of a payload.
pub(in super::super) fn single_trade(target: &mut Target<'_>, payload: &[u8]) -> Result<(), DecodeError> {
    trade(target, payload, 0)
}

/// Appends the trades of a batch.
pub(in super::super) fn trade_batch(target: &mut Target<'_>, payload: &[u8]) -> Result<(), DecodeError> {
    let mut reader = Reader { bytes: payload, at: 0, base: 0 };
    while reader.at < payload.len() {
        let start = reader.at;
        let tag = reader.tag()?;
        if tag >> 3 != 1 {
            reader.skip(tag, start, 0)?;
            continue;
        }
        expect_wire("trades", LENGTH, tag, reader.place(start))?;
        let bytes = reader.length_delimited("trades")?;
        trade(target, bytes, reader.at - bytes.len())?;
    }
    Ok(())
}

/// Reads one trade that stands at `base` in its payload.
fn trade(target: &mut Target<'_>, bytes: &[u8], base: usize) -> Result<(), DecodeError> {
    let mut reader = Reader { bytes, at: 0, base };
    let mut id: &[u8] = &[];
    let mut parts = Parts {
        id: TradeId::default(),
        instrument_id: "",
        price: 0.0,
        volume: 0,
        timestamp_ns: 0,
        status: Status::Unknown,
        reason: None,
        vwap_20m: 0.0,
    };
    while reader.at < bytes.len() {
        let start = reader.at;
        let tag = reader.tag()?;
        let Some((name, wire)) = FIELDS.get((tag >> 3) as usize - 1).copied() else {
            reader.skip(tag, start, 0)?;
            continue;
        };
        expect_wire(name, wire, tag, reader.place(start))?;
        match tag >> 3 {
            1 => id = reader.length_delimited(name)?,
            2 => parts.instrument_id = text(&mut reader, name)?,
            3 => parts.price = reader.double(name)?,
            4 => parts.volume = reader.varint(name)? as i64,
            5 => parts.timestamp_ns = reader.varint(name)? as i64,
            6 => parts.status = status(reader.varint(name)?, reader.place(start))?,
            7 => parts.reason = Some(text(&mut reader, name)?),
            _ => parts.vwap_20m = reader.double(name)?,
        }
    }
    parts.id = TradeId::from_hex(id).ok_or_else(|| DecodeError::WrongType {
        field: "trade_id",
        expected: "32 lower-case hexadecimal digits",
        was: shown_bytes(id),
        at: At::Byte(base),
    })?;
    // The default stands for "none": no VALID trade has a VWAP of 0.
    if parts.vwap_20m.to_bits() == 0 {
        parts.vwap_20m = f64::NAN;
    }
    target.push(&parts);
    Ok(())
}

fn status(number: u64, at: At) -> Result<Status, DecodeError> {
    u8::try_from(number).ok().and_then(Status::from_number).ok_or_else(|| DecodeError::WrongType {
        field: "status",
        expected: "0, 1 or 2",
        was: number.to_string(),
        at,
    })
}

fn text<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<&'a str, DecodeError> {
    let bytes = reader.length_delimited(field)?;
    let at = reader.place(reader.at - bytes.len());
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8 { field, was: shown_bytes(bytes), at })
}
