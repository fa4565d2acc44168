//! Ticks that were evicted while verdicts of earlier ticks were still to come.
//!
//! `enter` runs ahead of `settle`, but a verdict is given as if no later tick had entered. What a later tick evicted is
//! therefore kept, in order of eviction, until the verdicts have come that far; only they look here. Nearly always
//! this is empty: with 40 minutes held and 20 looked back at, verdicts would have to lag 20 minutes of event time.

use super::entry::{Entry, Kind};
use super::exact::Sum;
use std::collections::VecDeque;

/// Ticks to a block: what a query may skip, or take whole.
const BLOCK: usize = if cfg!(test) { 4 } else { 256 };

#[derive(Debug)]
struct Buried {
    entry: Entry,
    /// Ordinal of the tick that evicted it.
    by: u64,
}

#[derive(Debug)]
struct Block {
    /// In order of eviction.
    buried: VecDeque<Buried>,
    oldest_ns: i64,
    newest_ns: i64,
    valid: Sum,
}

/// The buried ticks of one instrument.
#[derive(Debug, Default)]
pub(super) struct Graveyard {
    blocks: VecDeque<Block>,
}

impl Graveyard {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        let buried: usize = self.blocks.iter().map(|b| b.buried.capacity() * size_of::<Buried>()).sum();
        buried + self.blocks.capacity() * size_of::<Block>()
    }

    /// Buries a tick that the tick with ordinal `by` evicted.
    pub(super) fn bury(&mut self, entry: Entry, by: u64) {
        if self.blocks.back().is_none_or(|b| b.buried.len() == BLOCK) {
            let buried = VecDeque::with_capacity(BLOCK);
            self.blocks.push_back(Block { buried, oldest_ns: i64::MAX, newest_ns: i64::MIN, valid: Sum::default() });
        }
        if let Some(block) = self.blocks.back_mut() {
            block.oldest_ns = block.oldest_ns.min(entry.timestamp_ns);
            block.newest_ns = block.newest_ns.max(entry.timestamp_ns);
            if entry.is_valid() {
                block.valid += entry.sum();
            }
            block.buried.push_back(Buried { entry, by });
        }
    }

    /// Forgets what was evicted by ticks up to and with ordinal `through`.
    pub(super) fn forget(&mut self, through: u64) {
        while let Some(block) = self.blocks.front_mut() {
            while let Some(gone) = block.buried.front().filter(|b| b.by <= through) {
                if gone.entry.is_valid() {
                    block.valid -= gone.entry.sum();
                }
                block.buried.pop_front();
            }
            if !block.buried.is_empty() {
                return;
            }
            self.blocks.pop_front();
        }
    }

    /// Gives the next tick of this time its verdict, if it lies here; returns whether it does.
    pub(super) fn settle(&mut self, timestamp_ns: i64, valid: bool) -> bool {
        // Ticks of one time are buried in tape order, so the first that waits is the one; and if it still is held,
        // so are all later ones of its time.
        let may_hold = |b: &&mut Block| b.oldest_ns <= timestamp_ns && timestamp_ns <= b.newest_ns;
        for block in self.blocks.iter_mut().filter(may_hold) {
            let mut entries = block.buried.iter_mut().map(|b| &mut b.entry);
            if let Some(entry) = entries.find(|e| e.timestamp_ns == timestamp_ns && e.is_pending()) {
                entry.settle(valid);
                if valid {
                    block.valid += entry.sum();
                }
                return true;
            }
        }
        false
    }

    /// Returns the sum of the VALID trades with time in (`after_ns`, `through_ns`].
    pub(super) fn valid(&self, after_ns: i64, through_ns: i64) -> Sum {
        let mut sum = Sum::default();
        for block in self.blocks.iter().filter(|b| b.newest_ns > after_ns && b.oldest_ns <= through_ns) {
            if block.oldest_ns > after_ns && block.newest_ns <= through_ns {
                sum += block.valid;
                continue;
            }
            let inside =
                |e: &&Entry| e.counts(Kind::Valid) && e.timestamp_ns > after_ns && e.timestamp_ns <= through_ns;
            block.buried.iter().map(|b| &b.entry).filter(inside).for_each(|e| sum += e.sum());
        }
        sum
    }
}
