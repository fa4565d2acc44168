//! The smallest timestamp of an instrument's last 64 ticks: the clock that eviction goes by.
//!
//! It is the smallest, not the newest, so that one tick with a wrong clock, far in the future, empties nothing: only
//! when 64 ticks in a row say that it is late, it is.

/// How many ticks the clock looks back.
pub(super) const RECENT: u64 = 64;
const SLOTS: usize = RECENT as usize;

/// Sliding minimum over the last [`RECENT`] timestamps: a queue of those that may still become the smallest, with
/// rising times, in a ring. O(1) amortised.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    times: [i64; SLOTS],
    /// Ordinal of each, modulo 256: they never differ by more than 64.
    ordinals: [u8; SLOTS],
    head: u8,
    len: u8,
    next: u8,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { times: [0; SLOTS], ordinals: [0; SLOTS], head: 0, len: 0, next: 0 }
    }

    /// Takes the next timestamp and returns the smallest of the last 64, it included.
    #[inline]
    pub(super) fn push(&mut self, timestamp_ns: i64) -> i64 {
        if self.len > 0 && self.next.wrapping_sub(self.ordinals[self.slot(0)]) >= RECENT as u8 {
            self.head = (self.head + 1) % RECENT as u8;
            self.len -= 1;
        }
        while self.len > 0 && self.times[self.slot(self.len - 1)] >= timestamp_ns {
            self.len -= 1;
        }
        let slot = self.slot(self.len);
        self.times[slot] = timestamp_ns;
        self.ordinals[slot] = self.next;
        self.len += 1;
        self.next = self.next.wrapping_add(1);
        self.times[self.slot(0)]
    }

    /// The times in the queue, each with how many ticks ago it came, from 1.
    pub(super) fn parts(&self) -> Vec<(u8, i64)> {
        let places = (0..self.len).map(|place| self.slot(place));
        places.map(|slot| (self.next.wrapping_sub(self.ordinals[slot]), self.times[slot])).collect()
    }

    /// Returns the clock with such parts; `None` if there is none.
    pub(super) fn of_parts(parts: &[(u8, i64)]) -> Option<Self> {
        let mut recent = Self::new();
        let falling = parts.windows(2).all(|pair| pair[0].0 > pair[1].0 && pair[0].1 < pair[1].1);
        if !falling || parts.iter().any(|(ago, _)| !(1..=RECENT as u8).contains(ago)) {
            return None;
        }
        for (slot, (ago, time_ns)) in parts.iter().enumerate() {
            recent.times[slot] = *time_ns;
            recent.ordinals[slot] = recent.next.wrapping_sub(*ago);
        }
        recent.len = parts.len() as u8;
        Some(recent)
    }

    #[inline]
    fn slot(&self, place: u8) -> usize {
        (self.head + place) as usize % SLOTS
    }
}
