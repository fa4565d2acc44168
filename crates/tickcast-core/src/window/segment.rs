//! Windows piece by piece, to be kept elsewhere and put together again.

use super::entry::{Bound, Entry, Kind};
use super::instrument::Instrument;
use super::recent::Recent;
use super::store::Store;
use super::{Slot, WindowConfig, Windows, exact};

/// Settled ticks of an instrument with times in (`after_ns`, `through_ns`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Segment {
    pub after_ns: i64,
    /// `i64::MAX` in the last segment of an instrument.
    pub through_ns: i64,
    /// In order of time, ties in tape order.
    pub ticks: Vec<Tick>,
}

/// A settled tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tick {
    pub timestamp_ns: i64,
    pub price: f64,
    pub volume: i64,
    pub valid: bool,
}

/// What an instrument knows beyond its ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Newest time ever evicted.
    pub evicted_ns: i64,
    /// The times that eviction goes by: how many ticks ago, from 1, and which.
    pub recent: Vec<(u8, i64)>,
}

impl Windows {
    /// Number of instruments that have ever had a tick, in or out of the windows.
    pub(crate) fn instruments(&self) -> u32 {
        self.instruments.len() as u32
    }

    /// Copies the settled ticks of an instrument with times after `after_ns`, about `most` of them, never a part of
    /// those of one time. `None`: it holds none one by one.
    pub(crate) fn segment(&self, instrument: u32, after_ns: i64, most: usize) -> Option<Segment> {
        let exact = self.instruments.get(instrument as usize)?.exact()?;
        let mut segment = Segment { after_ns, through_ns: i64::MAX, ticks: Vec::new() };
        let mut last_ns = after_ns;
        for (seen, entry) in exact.store.iter_after(after_ns).enumerate() {
            if seen >= most && entry.timestamp_ns != last_ns {
                segment.through_ns = last_ns;
                break;
            }
            last_ns = entry.timestamp_ns;
            if !entry.is_pending() {
                segment.ticks.push(Tick::of(entry));
            }
        }
        Some(segment)
    }

    /// Returns what an instrument knows beyond its ticks, if it holds them one by one.
    pub(crate) fn clock(&self, instrument: u32) -> Option<Clock> {
        let exact = self.instruments.get(instrument as usize)?.exact()?;
        Some(Clock { evicted_ns: exact.evicted_ns, recent: exact.recent.parts() })
    }

    /// Takes the next segment of an instrument in; nothing may have entered it but segments. False, and nothing of it
    /// is taken, if a tick of it can't be one.
    pub(crate) fn take_segment(&mut self, instrument: u32, segment: &Segment) -> bool {
        let fits = |t: &Tick| (exact::MIN_PRICE..=exact::MAX_PRICE).contains(&t.price) && t.volume > 0;
        let in_order = segment.ticks.windows(2).all(|pair| pair[0].timestamp_ns <= pair[1].timestamp_ns);
        if !in_order || !segment.ticks.iter().all(fits) {
            return false;
        }
        let config = self.config;
        let before = self.slot(instrument).budget();
        let Slot::Exact(exact) = self.slot(instrument) else { return true };
        segment.ticks.iter().for_each(|tick| exact.take_settled(&config, tick));
        let after = self.slot(instrument).budget();
        if let Some(max_bytes) = config.max_bytes {
            self.keep_within(max_bytes, before, after, false);
        }
        true
    }

    /// Sets what an instrument knows beyond its ticks; false if that can't be.
    pub(crate) fn set_clock(&mut self, instrument: u32, clock: &Clock) -> bool {
        let Some(recent) = Recent::of_parts(&clock.recent) else { return false };
        if let Slot::Exact(exact) = self.slot(instrument) {
            (exact.recent, exact.evicted_ns) = (recent, clock.evicted_ns);
        }
        true
    }

    fn slot(&mut self, instrument: u32) -> &mut Slot {
        let at = instrument as usize;
        if at >= self.instruments.len() {
            self.instruments.resize_with(at + 1, || Slot::Empty);
        }
        if let Slot::Empty = self.instruments[at] {
            self.instruments[at] = Slot::Exact(Box::new(Instrument::new()));
        }
        &mut self.instruments[at]
    }
}

impl Tick {
    fn of(entry: &Entry) -> Self {
        let (price, volume) = entry.screened();
        Tick {
            timestamp_ns: entry.timestamp_ns,
            price: f64::from_bits(price),
            volume: volume as i64,
            valid: entry.is_valid(),
        }
    }
}

impl Instrument {
    /// Takes a tick in that has its verdict already; evicts nothing.
    fn take_settled(&mut self, config: &WindowConfig, tick: &Tick) {
        let Tick { timestamp_ns, price, volume, valid } = *tick;
        let after_ns = timestamp_ns.saturating_sub(config.window_ns);
        self.store.window(Kind::Screened, after_ns, Bound::after(timestamp_ns));
        self.store.insert(Entry::pending(price, volume, timestamp_ns));
        self.store.window(Kind::Valid, after_ns, Bound::after_settled(timestamp_ns));
        self.store.settle(timestamp_ns, valid);
        self.count_settled();
    }
}

impl Store {
    /// Held ticks with times after `after_ns`, in order of time.
    fn iter_after(&self, after_ns: i64) -> impl Iterator<Item = &Entry> {
        let mut chunks = self.chunks_after(after_ns).peekable();
        let first = chunks.peek().map_or(0, |c| c.partition_point(|e| e.timestamp_ns <= after_ns));
        chunks.flatten().skip(first)
    }
}
