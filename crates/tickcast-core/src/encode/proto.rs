//! Protobuf: `marketdata.ValidatedTrade`, `marketdata.RawMarketTick` and the batches of both of `tickcast.v1`.
//!
//! As proto3 has it, a field of its default value is not written, but `reason`, which is `optional`: it is there
//! whenever the trade has one. A double is a default only as +0.0, not as -0.0.
//!
//! Source: "Encoding" and "Field presence" of the Protocol Buffers documentation.

use crate::Trade;

/// Tags, `field number << 3 | wire type`; all of one byte.
mod tag {
    pub const TICK_INSTRUMENT_ID: u8 = 1 << 3 | 2;
    pub const TICK_PRICE: u8 = 2 << 3 | 1;
    pub const TICK_VOLUME: u8 = 3 << 3;
    pub const TICK_TIMESTAMP_NS: u8 = 4 << 3;
    pub const BATCH_TICKS: u8 = 1 << 3 | 2;
    pub const BATCH_TRADES: u8 = 1 << 3 | 2;
    pub const TRADE_ID: u8 = 1 << 3 | 2;
    pub const TRADE_INSTRUMENT_ID: u8 = 2 << 3 | 2;
    pub const TRADE_PRICE: u8 = 3 << 3 | 1;
    pub const TRADE_VOLUME: u8 = 4 << 3;
    pub const TRADE_TIMESTAMP_NS: u8 = 5 << 3;
    pub const TRADE_STATUS: u8 = 6 << 3;
    pub const TRADE_REASON: u8 = 7 << 3 | 2;
    pub const TRADE_VWAP_20M: u8 = 8 << 3 | 1;
}

/// Appends the trade as one `ValidatedTrade`, without its length. `vwap_20m` that is NaN becomes 0; enrichments have
/// no field and are left out.
pub fn write_trade(out: &mut Vec<u8>, trade: &Trade<'_>) {
    out.reserve(128 + trade.instrument_id.len() + trade.reason.map_or(0, str::len));
    text(out, tag::TRADE_ID, &trade.id.hex());
    if !trade.instrument_id.is_empty() {
        text(out, tag::TRADE_INSTRUMENT_ID, trade.instrument_id.as_bytes());
    }
    double(out, tag::TRADE_PRICE, trade.price);
    int64(out, tag::TRADE_VOLUME, trade.volume);
    int64(out, tag::TRADE_TIMESTAMP_NS, trade.timestamp_ns);
    int64(out, tag::TRADE_STATUS, trade.status as i64);
    if let Some(reason) = trade.reason {
        text(out, tag::TRADE_REASON, reason.as_bytes());
    }
    double(out, tag::TRADE_VWAP_20M, vwap(trade));
}

/// Appends a trade to a `ValidatedTradeBatch`: trades written one after another are the whole message.
pub fn write_batch_trade(out: &mut Vec<u8>, trade: &Trade<'_>) {
    let id = trade.instrument_id.len() as u64;
    let len = 34
        + if id == 0 { 0 } else { 1 + varint_len(id) + id }
        + double_len(trade.price)
        + int64_len(trade.volume)
        + int64_len(trade.timestamp_ns)
        + int64_len(trade.status as i64)
        + trade.reason.map_or(0, |reason| 1 + varint_len(reason.len() as u64) + reason.len() as u64)
        + double_len(vwap(trade));
    out.push(tag::BATCH_TRADES);
    varint(out, len);
    write_trade(out, trade);
}

/// Appends a tick as one `RawMarketTick`, without its length.
pub fn write_tick(out: &mut Vec<u8>, instrument_id: &str, price: f64, volume: i64, timestamp_ns: i64) {
    out.reserve(48 + instrument_id.len());
    if !instrument_id.is_empty() {
        text(out, tag::TICK_INSTRUMENT_ID, instrument_id.as_bytes());
    }
    double(out, tag::TICK_PRICE, price);
    int64(out, tag::TICK_VOLUME, volume);
    int64(out, tag::TICK_TIMESTAMP_NS, timestamp_ns);
}

/// Appends a tick to a `RawMarketTickBatch`: ticks written one after another are the whole message.
pub fn write_batch_tick(out: &mut Vec<u8>, instrument_id: &str, price: f64, volume: i64, timestamp_ns: i64) {
    let id = instrument_id.len() as u64;
    let len = if id == 0 { 0 } else { 1 + varint_len(id) + id }
        + double_len(price)
        + int64_len(volume)
        + int64_len(timestamp_ns);
    out.push(tag::BATCH_TICKS);
    varint(out, len);
    write_tick(out, instrument_id, price, volume, timestamp_ns);
}

fn vwap(trade: &Trade<'_>) -> f64 {
    if trade.vwap_20m.is_nan() { 0.0 } else { trade.vwap_20m }
}

#[inline]
fn text(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[inline]
fn double(out: &mut Vec<u8>, tag: u8, value: f64) {
    if value.to_bits() != 0 {
        out.push(tag);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// An int64 or an enum: negative ones take ten bytes.
#[inline]
fn int64(out: &mut Vec<u8>, tag: u8, value: i64) {
    if value != 0 {
        out.push(tag);
        varint(out, value as u64);
    }
}

#[inline]
fn varint(out: &mut Vec<u8>, mut value: u64) {
    let mut bytes = [0u8; 10];
    let mut len = 0;
    while value >= 0x80 {
        bytes[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value as u8;
    out.extend_from_slice(&bytes[..=len]);
}

#[inline]
fn double_len(value: f64) -> u64 {
    if value.to_bits() == 0 { 0 } else { 9 }
}

#[inline]
fn int64_len(value: i64) -> u64 {
    if value == 0 { 0 } else { 1 + varint_len(value as u64) }
}

#[inline]
fn varint_len(value: u64) -> u64 {
    u64::from((value | 1).ilog2() / 7 + 1)
}
