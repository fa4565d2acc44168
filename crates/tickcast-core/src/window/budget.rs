//! Keeping within the configured memory: the busiest instruments go over to time buckets.
//!
//! What counts is what the ticks that have entered need, not what is allocated at the moment: the change-over comes
//! at the same tick of the tape, however the ticks were batched and however far verdicts lag.

use super::buckets::{self, Buckets};
use super::instrument::Instrument;
use super::{Slot, Windows};

/// Bytes for a held tick, in tenths: 24 and 10 % for what finds it.
const TICK_TENTHS: u64 = 264;

/// What counts against the configured memory.
#[derive(Debug, Default)]
pub(super) struct Budget {
    bytes: u64,
    /// Where nothing could be saved at this many bytes, it is not tried again before.
    retry_above: u64,
}

impl Slot {
    pub(super) fn exact(&self) -> Option<&Instrument> {
        if let Self::Exact(exact) = self { Some(exact) } else { None }
    }

    pub(super) fn budget(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Exact(exact) => exact.store.held() as u64 * TICK_TENTHS / 10 + size_of::<Instrument>() as u64,
            Self::Buckets(buckets) => buckets.budget(),
        }
    }
}

impl Windows {
    /// Counts what an instrument took before and after a tick, and changes the busiest over while that is too much.
    pub(super) fn keep_within(&mut self, max_bytes: u64, before: u64, after: u64, is_new: bool) {
        let before = if is_new { 0 } else { before };
        self.budget.bytes = self.budget.bytes + after - before;
        while self.budget.bytes > max_bytes.max(self.budget.retry_above) {
            if !self.change_busiest() {
                self.budget.retry_above = self.budget.bytes + self.budget.bytes / 16;
            }
        }
    }

    /// Stops counting what an instrument took.
    pub(super) fn release(&mut self, bytes: u64) {
        self.budget.bytes = self.budget.bytes.saturating_sub(bytes);
    }

    /// Changes the instrument with the most held ticks over to buckets; false if that would save nothing.
    fn change_busiest(&mut self) -> bool {
        let held = |slot: &Slot| slot.exact().map_or(0, |e| e.store.held());
        // The first of equals: max_by_key takes the last.
        let Some(slot) = self.instruments.iter_mut().rev().max_by_key(|s| held(s)) else { return false };
        let before = slot.budget();
        let Slot::Exact(exact) = slot else { return false };
        if buckets::bytes_of(&self.config, exact) >= before / 2 {
            return false;
        }
        let Slot::Exact(exact) = std::mem::replace(slot, Slot::Empty) else { return false };
        *slot = Slot::Buckets(Box::new(Buckets::new(&self.config, exact)));
        self.budget.bytes = self.budget.bytes + slot.budget() - before;
        true
    }
}
