//! What can be wrong with a tick, made on purpose.

use super::draw::Draw;
use crate::decode::{Options, decode_payload};
use crate::encode::{json, proto};
use crate::{Decoded, Undecodable};
use std::borrow::Cow;

const SECOND_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60 * SECOND_NS;

/// A tick before it enters a batch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row<'a> {
    pub id: Cow<'a, str>,
    pub price: f64,
    pub volume: i64,
    pub timestamp_ns: i64,
}

/// Kinds of fault. All but `Late` and `NoTimestamp` are refused by the decoder, or by a screen with default bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Price 0.
    PriceZero,
    /// Price below 0.
    PriceNegative,
    /// Price NaN or infinite.
    PriceNotFinite,
    /// Price outside 0.01 … 10,000: a slipped decimal point, or `BTC/USD` at what it costs.
    OutOfBand,
    /// Volume 0.
    VolumeZero,
    /// Volume below 0.
    VolumeNegative,
    /// Id of fewer than 3 characters.
    IdShort,
    /// Id of more than 10 characters.
    IdLong,
    /// Time 10 to 20 minutes ahead.
    Future,
    /// Time earlier than it should be, mostly by seconds, sometimes by more than an hour: a late tick, and a good one.
    Late,
    /// No time: stamped on arrival, if live.
    NoTimestamp,
    /// Bytes that can't be decoded.
    Undecodable,
}

impl FaultKind {
    /// All kinds; each is as frequent as any other.
    pub const ALL: [FaultKind; 12] = [
        FaultKind::PriceZero,
        FaultKind::PriceNegative,
        FaultKind::PriceNotFinite,
        FaultKind::OutOfBand,
        FaultKind::VolumeZero,
        FaultKind::VolumeNegative,
        FaultKind::IdShort,
        FaultKind::IdLong,
        FaultKind::Future,
        FaultKind::Late,
        FaultKind::NoTimestamp,
        FaultKind::Undecodable,
    ];

    pub(super) fn draw(draw: &mut Draw) -> Self {
        Self::ALL[draw.below(Self::ALL.len() as u64) as usize]
    }

    /// Spoils a tick in this way; `Undecodable` leaves it: see [`spoiled_bytes`].
    pub(super) fn spoil(self, row: &mut Row<'_>, draw: &mut Draw) {
        match self {
            FaultKind::PriceZero => row.price = 0.0,
            FaultKind::PriceNegative => row.price = -row.price,
            FaultKind::PriceNotFinite => {
                row.price = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][draw.below(3) as usize];
            }
            FaultKind::OutOfBand => match draw.below(3) {
                // No price of the market is below 0.1 or above 10,000.
                0 => row.price *= 1e6,
                1 => row.price /= 1e8,
                _ => {
                    row.id = Cow::Borrowed("BTC/USD");
                    row.price = (6_170_000 + (draw.normal() * 4_000.0) as i64) as f64 / 100.0;
                }
            },
            FaultKind::VolumeZero => row.volume = 0,
            FaultKind::VolumeNegative => row.volume = -row.volume,
            FaultKind::IdShort => row.id = Cow::Owned(row.id.chars().take(draw.below(3) as usize).collect()),
            FaultKind::IdLong => row.id = Cow::Owned(format!("{}_PERPETUAL", row.id)),
            FaultKind::Future => {
                let ahead = (10 * MINUTE_NS + draw.below(10 * MINUTE_NS)) as i64;
                row.timestamp_ns = row.timestamp_ns.saturating_add(ahead);
            }
            FaultKind::Late => {
                let most = if draw.one_in(4) { 90 * MINUTE_NS } else { MINUTE_NS };
                // 0 would be no time at all.
                row.timestamp_ns = row.timestamp_ns.saturating_sub((SECOND_NS + draw.below(most)) as i64).max(1);
            }
            FaultKind::NoTimestamp => row.timestamp_ns = 0,
            FaultKind::Undecodable => {}
        }
    }
}

/// Returns the tick as message `message`, spoiled so that no decoder takes it, with the decoder's own error.
pub(super) fn spoiled_bytes(row: &Row<'_>, message: u32, draw: &mut Draw) -> Vec<Undecodable> {
    let mut bytes = Vec::new();
    match draw.below(6) {
        0 => {
            proto::write_tick(&mut bytes, &row.id, row.price, row.volume, row.timestamp_ns);
            // Within the eight bytes of the price, which follow the id and a tag.
            bytes.truncate(2 + row.id.len() + 1 + draw.below(8) as usize);
        }
        1 => {
            bytes.extend_from_slice(b"\x0a\x04\xf0\x9f\x92\x20");
            proto::write_tick(&mut bytes, "", row.price, row.volume, row.timestamp_ns);
        }
        2 => {
            // A tag of field 0, and noise.
            bytes.push(7);
            bytes.extend_from_slice(&draw.bits().to_le_bytes());
        }
        3 => {
            json::write_tick(&mut bytes, &row.id, row.price, row.volume, row.timestamp_ns);
            bytes.truncate(1 + draw.below(bytes.len() as u64 - 1) as usize);
        }
        4 => bytes.extend_from_slice(
            format!(r#"{{"instrumentId":"{}","price":"n/a","volume":"{}"}}"#, row.id, row.volume).as_bytes(),
        ),
        _ => bytes.extend_from_slice(
            format!(r#"{{"instrumentId":"{}","price":{:?},"volume":{}.5}}"#, row.id, row.price, row.volume).as_bytes(),
        ),
    }
    let mut decoded = Decoded::default();
    decode_payload(&mut decoded, message, None, &bytes, &Options::default());
    decoded.undecodable
}
