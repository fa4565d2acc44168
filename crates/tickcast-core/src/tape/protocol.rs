//! The three agreements between the writer and its readers, each small enough to be model-checked.
//!
//! - [`Span`]: which sequences may be read. A reader copies first and asks afterwards whether it was in time.
//! - [`Flip`]: a value in two copies. A writer that dies leaves the published copy whole, and nobody waits for it.
//! - [`Bell`]: wakes who sleeps, without a system call where nobody does, and without anyone to sign off: a sleeper
//!   that was killed costs one needless wake-up.

use super::memory::{AtomicU64, Ordering, fence, load};

/// The sequences on the tape, `oldest ..= head`.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    /// Last sequence that is complete.
    pub head: &'a AtomicU64,
    /// First sequence that is not given up.
    pub oldest: &'a AtomicU64,
}

impl Span<'_> {
    /// Returns the last complete sequence; everything up to it is visible to the caller.
    pub fn head(self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Returns the first sequence that is not given up.
    pub fn oldest(self) -> u64 {
        self.oldest.load(Ordering::Acquire)
    }

    /// Writer: gives up what lies before `oldest`. Its bytes may be overwritten from now on.
    pub fn give_up(self, oldest: u64) {
        self.oldest.store(oldest, Ordering::Relaxed);
        // Whoever copies a word written after this fence finds the new `oldest` after its own fence.
        fence(Ordering::Release);
    }

    /// Writer: everything up to `head` is complete.
    pub fn publish(self, head: u64) {
        self.head.store(head, Ordering::Release);
    }

    /// Reader: whether what was copied since, from `from` on, was not overwritten meanwhile; else the oldest now.
    pub fn still_holds(self, from: u64) -> Result<(), u64> {
        fence(Ordering::Acquire);
        let oldest = self.oldest.load(Ordering::Relaxed);
        if from < oldest { Err(oldest) } else { Ok(()) }
    }
}

/// A value in two copies, of which `version & 1` is the valid one. One writer.
#[derive(Clone, Copy)]
pub(crate) struct Flip<'a> {
    /// Number of values written so far; 0: none.
    pub version: &'a AtomicU64,
    /// Both copies, one behind the other.
    pub copies: &'a [AtomicU64],
}

impl<'a> Flip<'a> {
    fn copy(self, version: u64) -> &'a [AtomicU64] {
        let (even, odd) = self.copies.split_at(self.copies.len() / 2);
        if version & 1 == 0 { even } else { odd }
    }

    /// Writer: lets `fill` write the spare copy, then makes it the valid one.
    pub fn write(self, fill: impl FnOnce(&[AtomicU64])) {
        let next = self.version.load(Ordering::Relaxed).wrapping_add(1);
        // The spare copy was the valid one two versions ago: a reader that still copies it and meets a word written
        // below finds the newer version after its own fence.
        fence(Ordering::Release);
        fill(self.copy(next));
        self.version.store(next, Ordering::Release);
    }

    /// Reader: copies the front of the valid copy to `to` and returns its version; 0 if nothing was ever written.
    pub fn read(self, to: &mut [u64]) -> u64 {
        loop {
            let version = self.version.load(Ordering::Acquire);
            if version == 0 {
                return 0;
            }
            load(self.copy(version), to);
            fence(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == version {
                return version;
            }
            // A whole new value came meanwhile: the writer lives, and this can't go on for long.
            #[cfg(loom)]
            loom::thread::yield_now();
        }
    }
}

/// A bell for sleepers, in two words.
#[derive(Clone, Copy)]
pub(crate) struct Bell<'a> {
    /// Counts the rings; the low half is the futex.
    pub rings: &'a AtomicU64,
    /// Not 0: somebody may sleep. Set by sleepers, cleared by whoever rings.
    pub waiting: &'a AtomicU64,
}

impl Bell<'_> {
    /// Sleeper, first step: returns the ring count to sleep on. What is waited for must be looked at after this.
    pub fn prepare(self) -> u64 {
        // Read before the mark is set: if a ring in progress clears the mark, it counts on after this read.
        let rings = self.rings.load(Ordering::Acquire);
        self.waiting.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        rings
    }

    /// Writer, after publishing: whether somebody may sleep; if so the caller must wake all sleepers.
    pub fn ring(self) -> bool {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.waiting.store(0, Ordering::Relaxed);
        self.rings.fetch_add(1, Ordering::Release);
        true
    }

    /// Rings and wakes.
    pub fn ring_out(self) {
        if self.ring() {
            super::futex::wake_all(self.rings);
        }
    }
}

#[cfg(all(test, loom))]
#[path = "protocol_models.rs"]
mod models;
