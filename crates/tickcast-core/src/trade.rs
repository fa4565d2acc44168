//! A trade: a tick after judgement.

use crate::position::TradeId;

/// Verdict on a tick; the numbers are those of the protobuf enum `ValidationStatus`.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Status {
    /// A rule was unavailable and fails open.
    #[default]
    Unknown = 0,
    /// Passed the screen and every rule.
    Valid = 1,
    /// Refused, with a reason.
    Invalid = 2,
}

impl Status {
    /// Returns the name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Status::Unknown => "UNKNOWN",
            Status::Valid => "VALID",
            Status::Invalid => "INVALID",
        }
    }

    /// Returns the status with this number, if there is one.
    pub fn from_number(n: u8) -> Option<Self> {
        match n {
            0 => Some(Status::Unknown),
            1 => Some(Status::Valid),
            2 => Some(Status::Invalid),
            _ => None,
        }
    }
}

/// One trade, borrowed from wherever its parts live.
#[derive(Debug, Clone, Copy)]
pub struct Trade<'a> {
    /// Identity.
    pub id: TradeId,
    /// Instrument id.
    pub instrument_id: &'a str,
    /// Price, quote currency per unit; may be any double on a trade that is not VALID.
    pub price: f64,
    /// Volume, units traded.
    pub volume: i64,
    /// Event time, ns since the Unix epoch, UTC.
    pub timestamp_ns: i64,
    /// Verdict.
    pub status: Status,
    /// Why it is not VALID.
    pub reason: Option<&'a str>,
    /// 20-minute VWAP; NaN where there is none (not VALID).
    pub vwap_20m: f64,
    /// Enrichments in the order of the tape's enrichment names; NaN where absent.
    pub enrichments: &'a [f64],
}
