//! The window of one instrument, exact: ticks held one by one.

use super::entry::{Bound, Entry, KINDS, Kind};
use super::exact::Sum;
use super::graveyard::Graveyard;
use super::recent::Recent;
use super::store::Store;
use super::{Ticket, WindowConfig};

/// Held ticks, windows, clock and unsettled verdicts of an instrument.
#[derive(Debug)]
pub(super) struct Instrument {
    pub(super) store: Store,
    pub(super) recent: Recent,
    graveyard: Graveyard,
    unsettled: Unsettled,
    /// Newest time ever evicted: what reaches back to it may miss something.
    pub(super) evicted_ns: i64,
}

impl Instrument {
    pub(super) fn new() -> Self {
        Self {
            store: Store::new(),
            recent: Recent::new(),
            graveyard: Graveyard::default(),
            unsettled: Unsettled::default(),
            evicted_ns: i64::MIN,
        }
    }

    /// Takes a tick in; returns the VWAP that the rules see, and whether the tick is late.
    #[inline]
    pub(super) fn enter(&mut self, config: &WindowConfig, price: f64, volume: i64, timestamp_ns: i64) -> (f64, bool) {
        let after_ns = timestamp_ns.saturating_sub(config.window_ns);
        let vwap = self.store.window(Kind::Screened, after_ns, Bound::after(timestamp_ns)).vwap();
        let late = self.evicted_ns > after_ns;
        self.store.insert(Entry::pending(price, volume, timestamp_ns));
        let through_ns = self.recent.push(timestamp_ns).saturating_sub(config.hold_ns);
        // The window just asked for begins at or after `through_ns`, because hold >= window.
        let (graveyard, by) = (&mut self.graveyard, self.unsettled.entered);
        let needed_after_ns = self.unsettled.oldest_ns().map(|t| t.saturating_sub(config.window_ns));
        let evicted_ns = &mut self.evicted_ns;
        self.store.evict(through_ns, |entry| {
            *evicted_ns = (*evicted_ns).max(entry.timestamp_ns);
            if needed_after_ns.is_some_and(|after| entry.timestamp_ns > after) {
                graveyard.bury(*entry, by);
            }
        });
        self.unsettled.enter(timestamp_ns);
        (vwap, late)
    }

    /// Gives the oldest unsettled tick its verdict; returns its VWAP if VALID, else NaN.
    #[inline]
    pub(super) fn settle(&mut self, config: &WindowConfig, ticket: &Ticket, valid: bool) -> f64 {
        let ordinal = self.unsettled.settle();
        debug_assert_eq!(ordinal, ticket.ordinal, "verdicts come in the order of the ticks");
        if !self.graveyard.is_empty() {
            return self.settle_among_buried(config, ticket, valid);
        }
        let timestamp_ns = ticket.timestamp_ns;
        if !valid {
            self.store.seek_unsettled(timestamp_ns);
            self.store.settle(timestamp_ns, false);
            return f64::NAN;
        }
        let after_ns = timestamp_ns.saturating_sub(config.window_ns);
        self.store.window(Kind::Valid, after_ns, Bound::after_settled(timestamp_ns));
        self.store.settle(timestamp_ns, true).vwap()
    }

    #[cold]
    fn settle_among_buried(&mut self, config: &WindowConfig, ticket: &Ticket, valid: bool) -> f64 {
        let timestamp_ns = ticket.timestamp_ns;
        let after_ns = timestamp_ns.saturating_sub(config.window_ns);
        self.graveyard.forget(ticket.ordinal);
        let buried = self.graveyard.settle(timestamp_ns, valid);
        let mut sum = *self.store.window(Kind::Valid, after_ns, Bound::after_settled(timestamp_ns));
        if !buried {
            sum = *self.store.settle(timestamp_ns, valid);
        }
        sum += self.graveyard.valid(after_ns, timestamp_ns);
        if valid { sum.vwap() } else { f64::NAN }
    }

    /// What a tick would see that came now, among all and among the VALID ones.
    pub(super) fn peek(&mut self, after_ns: i64, timestamp_ns: i64) -> [Sum; 2] {
        KINDS.map(|kind| self.store.peek(kind, after_ns, Bound::after(timestamp_ns)))
    }

    /// Counts a tick that came with its verdict.
    pub(super) fn count_settled(&mut self) {
        self.unsettled.entered += 1;
        self.unsettled.settled += 1;
    }

    /// How many ticks have entered, how many have their verdict.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.unsettled.entered, self.unsettled.settled)
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.store.bytes() + self.graveyard.bytes()
    }
}

/// Counts ticks and verdicts, and knows a time that no unsettled tick is older than.
#[derive(Debug, Default)]
struct Unsettled {
    entered: u64,
    settled: u64,
    /// Smallest time of the ticks up to `mark`, as far as unsettled.
    before_mark_ns: i64,
    /// Smallest time of those from `mark` on.
    after_mark_ns: i64,
    mark: u64,
}

impl Unsettled {
    #[inline]
    fn enter(&mut self, timestamp_ns: i64) {
        if self.entered == self.settled {
            (self.before_mark_ns, self.after_mark_ns, self.mark) = (i64::MAX, i64::MAX, self.entered);
        }
        self.after_mark_ns = self.after_mark_ns.min(timestamp_ns);
        self.entered += 1;
    }

    /// Returns the ordinal of the tick that is settled.
    #[inline]
    fn settle(&mut self) -> u64 {
        let ordinal = self.settled;
        self.settled += 1;
        if self.settled >= self.mark {
            (self.before_mark_ns, self.after_mark_ns, self.mark) = (self.after_mark_ns, i64::MAX, self.entered);
        }
        ordinal
    }

    /// A time that no unsettled tick is older than; None if all are settled.
    #[inline]
    fn oldest_ns(&self) -> Option<i64> {
        (self.entered > self.settled).then(|| self.before_mark_ns.min(self.after_mark_ns))
    }
}
