//! The VWAP straight from its definition (design: VWAP; `docs/vwap.md`), in integers of any size, with no shortcut:
//! what [`Windows`] is compared with, by the unit tests (tiny chunks) and by the tests of this folder (real ones).

// Taken in by several test crates; none uses all of it.
#![allow(dead_code)]

use super::{Ticket, WindowConfig, Windows};
use num_bigint::{BigInt, Sign};
use proptest::prelude::*;
use std::collections::VecDeque;

/// Ticks whose smallest time is the clock.
const RECENT: usize = 64;

/// A quotient that nobody has rounded yet.
pub struct Quotient {
    numerator: BigInt,
    denominator: BigInt,
}

impl Quotient {
    /// A quotient of sums; Σ price·volume in units of 2⁻¹⁰⁷⁴, as [`exact`] gives it.
    pub fn new(numerator: BigInt, denominator: BigInt) -> Self {
        Self { numerator, denominator }
    }

    /// Σ price·volume / Σ volume.
    pub fn of(trades: impl IntoIterator<Item = (f64, i64)>) -> Self {
        let (mut numerator, mut denominator) = (BigInt::ZERO, BigInt::ZERO);
        for (price, volume) in trades {
            numerator += exact(price) * volume;
            denominator += volume;
        }
        Self { numerator, denominator }
    }

    /// Whether `rounded` is the double nearest to this, ties to even; of 0 / 0 that is NaN.
    pub fn rounds_to(&self, rounded: f64) -> bool {
        if self.denominator.sign() == Sign::NoSign {
            return rounded.is_nan();
        }
        if !(rounded.is_finite() && rounded > 0.0) {
            return false;
        }
        let off = |x: f64| BigInt::from((exact(x) * &self.denominator - &self.numerator).magnitude().clone());
        let (here, up, down) = (off(rounded), off(rounded.next_up()), off(rounded.next_down()));
        let tie = here == up || here == down;
        here <= up && here <= down && (!tie || rounded.to_bits() & 1 == 0)
    }

    /// The nearest double, found by trying neighbours.
    pub fn round(&self) -> f64 {
        if self.denominator.sign() == Sign::NoSign {
            return f64::NAN;
        }
        let (mut low, mut high) = (0u64, f64::MAX.to_bits());
        while low < high {
            let middle = low + (high - low) / 2;
            let above = exact(f64::from_bits(middle)) * &self.denominator >= self.numerator;
            (low, high) = if above { (low, middle) } else { (middle + 1, high) };
        }
        let neighbours = [low.saturating_sub(1), low].map(f64::from_bits);
        neighbours.into_iter().find(|x| self.rounds_to(*x)).unwrap_or(f64::INFINITY)
    }
}

/// A double as an integer, in units of 2⁻¹⁰⁷⁴.
pub fn exact(x: f64) -> BigInt {
    let (exponent, fraction) = (x.to_bits() >> 52 & 0x7ff, x.to_bits() & ((1 << 52) - 1));
    match exponent {
        0 => BigInt::from(fraction),
        e => BigInt::from(fraction | 1 << 52) << (e - 1),
    }
}

struct Tick {
    timestamp_ns: i64,
    volume: BigInt,
    value: BigInt,
    valid: Option<bool>,
    evicted_by: Option<usize>,
}

/// One instrument, by definition.
pub struct Reference {
    config: WindowConfig,
    ticks: Vec<Tick>,
    settled: usize,
}

impl Reference {
    pub fn new(config: WindowConfig) -> Self {
        Self { config, ticks: Vec::new(), settled: 0 }
    }

    /// Returns the rules' VWAP and whether the tick is late.
    pub fn enter(&mut self, price: f64, volume: i64, timestamp_ns: i64) -> (Quotient, bool) {
        let now = self.ticks.len();
        let evicted = self.ticks.iter().filter(|t| t.evicted_by.is_some()).map(|t| t.timestamp_ns);
        let late = evicted.max().is_some_and(|t| t > timestamp_ns - self.config.window_ns);
        let vwap = self.vwap(timestamp_ns, |t, _| t.evicted_by.is_none());
        let volume = BigInt::from(volume);
        let value = exact(price) * &volume;
        self.ticks.push(Tick { timestamp_ns, volume, value, valid: None, evicted_by: None });
        let recent = self.ticks.iter().rev().take(RECENT);
        let clock = recent.map(|t| t.timestamp_ns).min().expect("one has just entered");
        let old = |t: &&mut Tick| t.evicted_by.is_none() && t.timestamp_ns <= clock - self.config.hold_ns;
        self.ticks.iter_mut().filter(old).for_each(|t| t.evicted_by = Some(now));
        (vwap, late)
    }

    /// Returns `vwap_20m` of the next tick, as if no later one had entered.
    pub fn settle(&mut self, valid: bool) -> Quotient {
        let i = self.settled;
        self.settled += 1;
        self.ticks[i].valid = Some(valid);
        if !valid {
            return Quotient { numerator: BigInt::ZERO, denominator: BigInt::ZERO };
        }
        self.vwap(self.ticks[i].timestamp_ns, |t, j| {
            j <= i && t.valid == Some(true) && t.evicted_by.is_none_or(|by| by > i)
        })
    }

    /// What a tick would see that came now: (rules' VWAP, VWAP if VALID).
    pub fn peek(&self, price: f64, volume: i64, timestamp_ns: i64) -> (Quotient, Quotient) {
        let rules = self.vwap(timestamp_ns, |t, _| t.evicted_by.is_none());
        let mut valid = self.vwap(timestamp_ns, |t, _| t.evicted_by.is_none() && t.valid == Some(true));
        valid.numerator += exact(price) * volume;
        valid.denominator += volume;
        (rules, valid)
    }

    pub fn held(&self) -> u64 {
        self.ticks.iter().filter(|t| t.evicted_by.is_none()).count() as u64
    }

    fn vwap(&self, timestamp_ns: i64, counts: impl Fn(&Tick, usize) -> bool) -> Quotient {
        let (mut numerator, mut denominator) = (BigInt::ZERO, BigInt::ZERO);
        for (j, tick) in self.ticks.iter().enumerate() {
            let inside = tick.timestamp_ns > timestamp_ns - self.config.window_ns && tick.timestamp_ns <= timestamp_ns;
            if inside && counts(tick, j) {
                numerator += &tick.value;
                denominator += &tick.volume;
            }
        }
        Quotient { numerator, denominator }
    }
}

/// One tick of a test, and how many verdicts are given after it.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub price: f64,
    pub volume: i64,
    pub timestamp_ns: i64,
    pub valid: bool,
    pub verdicts: usize,
    pub peek: bool,
}

/// Plays the steps and compares every value; returns how many ticks were late.
pub fn play(config: WindowConfig, steps: &[Step]) -> Result<u64, TestCaseError> {
    let mut windows = Windows::new(config).expect("a good configuration");
    let mut reference = Reference::new(config);
    let mut waiting: VecDeque<(Ticket, bool)> = VecDeque::new();
    let mut lates = 0;
    for (i, step) in steps.iter().enumerate() {
        let Step { price, volume, timestamp_ns, .. } = *step;
        if step.peek {
            let seen = windows.peek(0, price, volume, timestamp_ns);
            let (rules, valid) = reference.peek(price, volume, timestamp_ns);
            prop_assert!(rules.rounds_to(seen.0), "peek at {i}: rules see {}, not {}", seen.0, rules.round());
            prop_assert!(valid.rounds_to(seen.1), "peek at {i}: if valid {}, not {}", seen.1, valid.round());
        }
        let entered = windows.enter(0, price, volume, timestamp_ns);
        let (rules, late) = reference.enter(price, volume, timestamp_ns);
        prop_assert!(rules.rounds_to(entered.rules_vwap), "{i}: {}, not {}", entered.rules_vwap, rules.round());
        prop_assert_eq!(entered.late, late, "late at {}", i);
        prop_assert_eq!(windows.held(), reference.held(), "held at {}", i);
        lates += u64::from(late);
        waiting.push_back((entered.ticket, step.valid));
        let verdicts = if i + 1 == steps.len() { waiting.len() } else { step.verdicts.min(waiting.len()) };
        for (ticket, valid) in waiting.drain(..verdicts) {
            let (vwap, wanted) = (windows.settle(0, ticket, valid), reference.settle(valid));
            prop_assert!(wanted.rounds_to(vwap), "verdict at {i}: {vwap}, not {}", wanted.round());
        }
    }
    Ok(lates)
}

/// Prices and volumes: everyday ones, equal ones, and the ends of what is allowed.
pub fn price_and_volume() -> impl Strategy<Value = (f64, i64)> {
    let price = prop_oneof![
        6 => 90.0f64..110.0,
        2 => Just(0.1),
        2 => (-12.0f64..15.0).prop_map(|e| 10f64.powf(e).clamp(1e-12, 1e15)),
        1 => Just(1e-12),
        1 => Just(1e15),
    ];
    let volume = prop_oneof![6 => 1..1_000i64, 2 => 1..=i64::MAX, 1 => Just(i64::MAX), 1 => Just(1)];
    (price, volume)
}

/// Steps of an instrument whose clock mostly goes on by less than `stride_ns`, with ties, late ticks, wrong clocks and
/// pauses, and with verdicts that lag behind and catch up.
pub fn steps(len: usize, stride_ns: i64, window_ns: i64) -> impl Strategy<Value = Vec<Step>> {
    let off = prop_oneof![
        20 => Just(0),
        6 => -stride_ns * 4..=0,
        3 => -window_ns * 3..=0,
        1 => -window_ns * 3..=window_ns * 6,
    ];
    let on = prop_oneof![8 => 0..=stride_ns, 8 => Just(0), 1 => 0..=window_ns];
    let jump = prop_oneof![100 => Just(0), 1 => 0..window_ns * 3];
    let step = (price_and_volume(), on, off, jump, any::<bool>(), 0usize..3, proptest::bool::weighted(0.05));
    let lag = (proptest::bool::ANY, 1usize..120);
    (proptest::collection::vec(step, 1..len), lag).prop_map(move |(raw, (bursts, burst))| {
        let mut clock_ns = window_ns;
        let make = |(i, ((price, volume), on, off, jump, valid, verdicts, peek)): (usize, _)| {
            clock_ns += on + jump;
            let timestamp_ns: i64 = clock_ns + off;
            let verdicts = if !bursts { verdicts } else { burst * usize::from(i % burst == burst - 1) };
            Step { price, volume, timestamp_ns, valid, verdicts, peek }
        };
        raw.into_iter().enumerate().map(make).collect()
    })
}
