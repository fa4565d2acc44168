//! One held tick: 24 bytes, its state in the two sign bits that a price and a volume above zero leave unused.

use super::exact::Sum;

const SIGN: u64 = 1 << 63;

/// A held tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) timestamp_ns: i64,
    /// Bits of the price; sign bit: not settled yet.
    price: u64,
    /// Volume; sign bit: VALID.
    volume: u64,
}

impl Entry {
    /// Returns a tick that waits for its verdict.
    #[inline]
    pub(super) fn pending(price: f64, volume: i64, timestamp_ns: i64) -> Self {
        Self { timestamp_ns, price: price.to_bits() | SIGN, volume: volume as u64 }
    }

    #[inline]
    pub(super) fn is_pending(&self) -> bool {
        self.price & SIGN != 0
    }

    #[inline]
    pub(super) fn settle(&mut self, valid: bool) {
        self.price &= !SIGN;
        self.volume |= u64::from(valid) << 63;
    }

    #[inline]
    pub(super) fn is_valid(&self) -> bool {
        self.volume & SIGN != 0
    }

    #[inline]
    pub(super) fn price(&self) -> f64 {
        f64::from_bits(self.price & !SIGN)
    }

    #[inline]
    pub(super) fn sum(&self) -> Sum {
        Sum::of(self.price(), self.volume & !SIGN)
    }

    /// Bits of the price, and volume.
    #[inline]
    pub(super) fn screened(&self) -> (u64, u64) {
        (self.price & !SIGN, self.volume & !SIGN)
    }

    /// The same, without volume if it is not VALID.
    #[inline]
    pub(super) fn valid(&self) -> (u64, u64) {
        (self.price & !SIGN, if self.is_valid() { self.volume & !SIGN } else { 0 })
    }

    /// Whether it counts in windows of this kind.
    #[inline]
    pub(super) fn counts(&self, kind: Kind) -> bool {
        kind == Kind::Screened || self.is_valid()
    }
}

/// The two windows of an instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the rules see: all ticks that passed the screen.
    Screened = 0,
    /// What `vwap_20m` is made of: VALID trades.
    Valid = 1,
}

/// Both kinds, to index by.
pub(super) const KINDS: [Kind; 2] = [Kind::Screened, Kind::Valid];

/// A place between ticks sorted by time, and ties by tape order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    timestamp_ns: i64,
    settled_only: bool,
}

impl Bound {
    /// Behind all ticks at or before a time.
    #[inline]
    pub(super) fn after(timestamp_ns: i64) -> Self {
        Self { timestamp_ns, settled_only: false }
    }

    /// Behind the ticks before a time and the settled ones at it: where the next tick of that time to be settled
    /// stands, because verdicts come in tape order.
    #[inline]
    pub(super) fn after_settled(timestamp_ns: i64) -> Self {
        Self { timestamp_ns, settled_only: true }
    }

    #[inline]
    pub(super) fn timestamp_ns(self) -> i64 {
        self.timestamp_ns
    }

    /// Whether the entry lies before this place; true up to it and false from it on.
    #[inline]
    pub(super) fn is_after(self, entry: &Entry) -> bool {
        entry.timestamp_ns < self.timestamp_ns
            || (entry.timestamp_ns == self.timestamp_ns && !(self.settled_only && entry.is_pending()))
    }
}
