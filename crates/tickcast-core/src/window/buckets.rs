//! The window of one instrument by time buckets: what a very busy one goes over to when memory runs out.
//!
//! Buckets keep exact sums, so nothing drifts; what is lost is where in its bucket a tick stood. The window of a tick
//! at t is that of the buckets after the one of t − window, up to the one of t: its ends are off by less than a bucket.
//! The error of each value is bounded by the share of the buckets at its ends and by their lowest and highest price.
//!
//! Tape order holds here too: the change-over counts from one tick on, for both windows, however far verdicts lag.

use super::entry::{KINDS, Kind};
use super::exact::Sum;
use super::instrument::Instrument;
use super::recent::Recent;
use super::{Ticket, WindowConfig};
use std::collections::VecDeque;

/// Buckets to a window.
const BUCKETS: i64 = 1_200;

/// Ticks of a stretch of time.
#[derive(Debug, Clone)]
struct Bucket {
    /// Time of its ticks, divided by the width.
    number: i64,
    /// Ordinal of its first tick; 0 for those made at the change-over.
    born: u64,
    /// By [`Kind`].
    sums: [Sum; 2],
    newest_ns: i64,
    low: f64,
    high: f64,
}

/// Buckets of an instrument.
#[derive(Debug)]
pub(super) struct Buckets {
    width_ns: i64,
    /// By number.
    live: VecDeque<Bucket>,
    /// Evicted, but verdicts are still to come that need them; with the ordinal of the tick that evicted each.
    dead: VecDeque<(Bucket, u64)>,
    ranges: [Range; 2],
    recent: Recent,
    evicted_ns: i64,
    entered: u64,
    settled: u64,
    /// Price and volume of ticks that wait for their verdict.
    waiting: VecDeque<(f64, i64)>,
    /// Ordinal of the first tick in buckets.
    since: u64,
    /// The ticks before, until the last of them has its verdict.
    exact: Option<Box<Instrument>>,
    error_bound: f64,
}

/// Sum of the buckets with number in (from, to], moved along.
#[derive(Debug, Clone, Copy, Default)]
struct Range {
    from: i64,
    to: i64,
    sum: Sum,
}

/// Width of a bucket for windows of this length, ns.
fn width_ns(config: &WindowConfig) -> i64 {
    (config.window_ns / BUCKETS).max(1)
}

/// Returns the bytes that the buckets of an instrument would take.
pub(super) fn bytes_of(config: &WindowConfig, exact: &Instrument) -> u64 {
    let (mut count, mut last) = (0, None);
    for entry in exact.store.iter() {
        let number = Some(entry.timestamp_ns.div_euclid(width_ns(config)));
        count += u64::from(number != last);
        last = number;
    }
    (count + SPARE as u64) * size_of::<Bucket>() as u64
}

/// Buckets that room is made for at a time.
const SPARE: usize = 64;

impl Buckets {
    /// Changes an instrument over, from its next tick on.
    pub(super) fn new(config: &WindowConfig, exact: Box<Instrument>) -> Self {
        let (entered, settled) = exact.counts();
        let mut buckets = Self {
            width_ns: width_ns(config),
            live: VecDeque::new(),
            dead: VecDeque::new(),
            ranges: [Range::default(); 2],
            recent: exact.recent.clone(),
            evicted_ns: exact.evicted_ns,
            entered,
            settled,
            waiting: VecDeque::new(),
            since: entered,
            exact: None,
            error_bound: 0.0,
        };
        for entry in exact.store.iter() {
            buckets.take_in(entry.price(), entry.sum(), entry.timestamp_ns, 0);
        }
        buckets.exact = Some(exact);
        buckets.finish_change();
        buckets
    }

    /// Oldest (rounded down to a bucket) and newest time that is held, ns; None if nothing is.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        let first = self.live.front()?.number.saturating_mul(self.width_ns);
        self.live.back().map(|bucket| (first, bucket.newest_ns))
    }

    /// How many ticks have entered, how many have their verdict.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.entered, self.settled)
    }

    pub(super) fn width_ns(&self) -> i64 {
        self.width_ns
    }

    /// Greatest relative error that a value can have had so far.
    pub(super) fn error_bound(&self) -> f64 {
        self.error_bound
    }

    /// What counts against the configured memory: depends on the ticks alone.
    pub(super) fn budget(&self) -> u64 {
        ((self.live.len() + SPARE) * size_of::<Bucket>() + size_of::<Self>()) as u64
    }

    pub(super) fn bytes(&self) -> usize {
        let exact = self.exact.as_ref().map_or(0, |e| e.bytes());
        let dead = self.dead.capacity() * size_of::<(Bucket, u64)>();
        let waiting = self.waiting.capacity() * size_of::<(f64, i64)>();
        size_of::<Self>() + self.live.capacity() * size_of::<Bucket>() + dead + waiting + exact
    }

    /// Ordinal of the next tick.
    pub(super) fn entered(&self) -> u64 {
        self.entered
    }

    /// As [`Instrument::enter`].
    pub(super) fn enter(&mut self, config: &WindowConfig, price: f64, volume: i64, timestamp_ns: i64) -> (f64, bool) {
        let after_ns = timestamp_ns.saturating_sub(config.window_ns);
        let sum = self.range(Kind::Screened, after_ns, timestamp_ns);
        self.note_error(Kind::Screened, after_ns, timestamp_ns, sum);
        let late = self.evicted_ns > after_ns;
        self.take_in(price, Sum::of(price, volume as u64), timestamp_ns, self.entered);
        let through_ns = self.recent.push(timestamp_ns).saturating_sub(config.hold_ns);
        self.evict(through_ns);
        self.waiting.push_back((price, volume));
        self.entered += 1;
        (sum.vwap(), late)
    }

    /// As [`Instrument::settle`].
    pub(super) fn settle(&mut self, config: &WindowConfig, ticket: &Ticket, valid: bool) -> f64 {
        self.settled += 1;
        if let Some(exact) = &mut self.exact {
            let vwap = exact.settle(config, ticket, valid);
            self.finish_change();
            return vwap;
        }
        let Ticket { ordinal, timestamp_ns } = *ticket;
        debug_assert_eq!(ordinal + 1, self.settled, "verdicts come in the order of the ticks");
        while self.dead.front().is_some_and(|(_, by)| *by <= ordinal) {
            self.dead.pop_front();
        }
        let Some((price, volume)) = self.waiting.pop_front().filter(|_| valid) else {
            return f64::NAN;
        };
        self.take_in_valid(Sum::of(price, volume as u64), timestamp_ns, ordinal);
        let after_ns = timestamp_ns.saturating_sub(config.window_ns);
        let mut sum = self.range(Kind::Valid, after_ns, timestamp_ns);
        let (from, to) = (self.number(after_ns), self.number(timestamp_ns));
        self.dead.iter().filter(|(b, _)| from < b.number && b.number <= to).for_each(|(b, _)| sum += b.sums[1]);
        self.note_error(Kind::Valid, after_ns, timestamp_ns, sum);
        sum.vwap()
    }

    /// As [`Instrument::peek`].
    pub(super) fn peek(&self, after_ns: i64, timestamp_ns: i64) -> [Sum; 2] {
        KINDS.map(|kind| self.between(kind, self.number(after_ns), self.number(timestamp_ns)))
    }

    /// Once the last tick before the change-over has its verdict, moves the VALID sums over too.
    fn finish_change(&mut self) {
        if self.settled < self.since {
            return;
        }
        let Some(exact) = self.exact.take() else { return };
        for entry in exact.store.iter().filter(|e| e.is_valid()) {
            self.take_in_valid(entry.sum(), entry.timestamp_ns, 0);
        }
    }

    fn number(&self, timestamp_ns: i64) -> i64 {
        timestamp_ns.div_euclid(self.width_ns)
    }

    /// Takes a tick into its bucket.
    fn take_in(&mut self, price: f64, sum: Sum, timestamp_ns: i64, ordinal: u64) {
        let number = self.number(timestamp_ns);
        let at = self.live.partition_point(|b| b.number < number);
        if self.live.get(at).is_none_or(|b| b.number != number) {
            if self.live.len() == self.live.capacity() {
                self.live.reserve_exact(SPARE);
            }
            let (newest_ns, low, high) = (timestamp_ns, price, price);
            self.live.insert(at, Bucket { number, born: ordinal, sums: Default::default(), newest_ns, low, high });
        }
        let bucket = &mut self.live[at];
        bucket.newest_ns = bucket.newest_ns.max(timestamp_ns);
        (bucket.low, bucket.high) = (bucket.low.min(price), bucket.high.max(price));
        bucket.sums[Kind::Screened as usize] += sum;
        self.ranges[Kind::Screened as usize].take_in(number, sum);
    }

    /// Takes a VALID trade into the bucket that its tick went into, evicted or not.
    fn take_in_valid(&mut self, sum: Sum, timestamp_ns: i64, ordinal: u64) {
        let (number, valid) = (self.number(timestamp_ns), Kind::Valid as usize);
        let at = self.live.partition_point(|b| b.number < number);
        if let Some(bucket) = self.live.get_mut(at).filter(|b| b.number == number && b.born <= ordinal) {
            bucket.sums[valid] += sum;
            self.ranges[valid].take_in(number, sum);
        } else if let Some((bucket, _)) = self.dead.iter_mut().find(|(b, _)| b.number == number) {
            // The first of its number: those evicted before the tick are forgotten by now.
            bucket.sums[valid] += sum;
        }
    }

    /// Evicts the buckets whose whole time is at or before `through_ns`.
    fn evict(&mut self, through_ns: i64) {
        let first_held = self.number(through_ns.saturating_add(1));
        while self.live.front().is_some_and(|b| b.number < first_held) {
            let Some(bucket) = self.live.pop_front() else { return };
            self.evicted_ns = self.evicted_ns.max(bucket.newest_ns);
            for kind in KINDS {
                self.ranges[kind as usize].leave_out(bucket.number, bucket.sums[kind as usize]);
            }
            if self.entered > self.settled {
                self.dead.push_back((bucket, self.entered));
            }
        }
    }

    /// Moves a range to the window (`after_ns`, `through_ns`] and returns its sum.
    fn range(&mut self, kind: Kind, after_ns: i64, through_ns: i64) -> Sum {
        let mut range = self.ranges[kind as usize];
        let (from, to) = (self.number(after_ns), self.number(through_ns));
        if to != range.to {
            range.sum += self.between(kind, range.to, to);
            range.sum -= self.between(kind, to, range.to);
            range.to = to;
        }
        if from != range.from {
            range.sum += self.between(kind, from, range.from);
            range.sum -= self.between(kind, range.from, from);
            range.from = from;
        }
        self.ranges[kind as usize] = range;
        range.sum
    }

    /// Returns the sum of the buckets with number in (from, to]; nothing if `to` is not after `from`.
    fn between(&self, kind: Kind, from: i64, to: i64) -> Sum {
        let mut sum = Sum::default();
        let (start, end) =
            (self.live.partition_point(|b| b.number <= from), self.live.partition_point(|b| b.number <= to));
        self.live.range(start..end.max(start)).for_each(|b| sum += b.sums[kind as usize]);
        sum
    }

    fn find(&self, number: i64) -> impl Iterator<Item = &Bucket> {
        let at = self.live.partition_point(|b| b.number < number);
        let dead = self.dead.iter().map(|(b, _)| b);
        self.live.get(at).into_iter().chain(dead).filter(move |b| b.number == number)
    }

    /// Widens the error bound to that of a value just given.
    ///
    /// With A the trades that are in the window for certain, of mean a, and B those that may be, of volume share f and
    /// prices low ..= high: both the true value and ours lie in a − f·(a − low) ..= a + f·(high − a).
    fn note_error(&mut self, kind: Kind, after_ns: i64, through_ns: i64, sum: Sum) {
        let (mut certain, mut doubtful) = (sum, Sum::default());
        let (mut low, mut high) = (f64::INFINITY, 0.0f64);
        let mut doubt = |bucket: &Bucket| {
            doubtful += bucket.sums[kind as usize];
            (low, high) = (low.min(bucket.low), high.max(bucket.high));
        };
        self.find(self.number(after_ns)).for_each(&mut doubt);
        for bucket in self.find(self.number(through_ns)).filter(|b| b.newest_ns > through_ns) {
            certain -= bucket.sums[kind as usize];
            doubt(bucket);
        }
        if doubtful == Sum::default() {
            return;
        }
        let share = doubtful.volume() / (doubtful.volume() + certain.volume());
        let mean = certain.vwap();
        // min and max leave a NaN out: with nothing certain only low and high are left.
        let (low, high) = (low.min(mean), high.max(mean));
        self.error_bound = self.error_bound.max(share * (high - low) / low);
    }
}

impl Range {
    fn take_in(&mut self, number: i64, sum: Sum) {
        if self.from < number && number <= self.to {
            self.sum += sum;
        }
    }

    fn leave_out(&mut self, number: i64, sum: Sum) {
        if self.from < number && number <= self.to {
            self.sum -= sum;
        }
    }
}
