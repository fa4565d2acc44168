//! Time buckets: who goes over and when, what their values are, and that the stated error holds.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::collections::VecDeque;
use tickcast_core::window::{Bucketed, Ticket, WindowConfig, Windows};

#[path = "window_reference/mod.rs"]
mod reference;

use reference::Quotient;

/// 1,200 buckets of 10 ns.
const WINDOW_NS: i64 = 12_000;
const BUCKET_NS: i64 = 10;
const EXACT: WindowConfig = WindowConfig { window_ns: WINDOW_NS, hold_ns: 2 * WINDOW_NS, max_bytes: None };

struct Tick {
    instrument: u32,
    price: f64,
    volume: i64,
    timestamp_ns: i64,
    valid: bool,
}

/// Ticks of three instruments, the last of them busiest, six to a nanosecond; late by up to `late_ns`, but only a few of
/// them if that is more than a window, so that the others go on evicting.
fn ticks(len: i64, late_ns: i64) -> Vec<Tick> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(late_ns as u64);
    let mut price = 100.0;
    let tick = |i: i64| {
        price *= 1.0 + (random.next_u64() % 2_001) as f64 / 1e6 - 1e-3;
        let is_late = late_ns > 0 && (late_ns <= WINDOW_NS || random.next_u64() % 300 == 0);
        let late = if is_late { (random.next_u64() % late_ns as u64) as i64 } else { 0 };
        Tick {
            instrument: [0, 1, 1, 2, 2, 2, 2, 2, 2, 2][(random.next_u64() % 10) as usize],
            price,
            volume: 1 + (random.next_u64() % 100) as i64,
            timestamp_ns: WINDOW_NS + i / 6 - late,
            valid: random.next_u64() % 10 > 0,
        }
    };
    (0..len).map(tick).collect()
}

/// Returns (rules' VWAP, `vwap_20m`) of each tick, with verdicts `lag` ticks behind.
fn judge(windows: &mut Windows, ticks: &[Tick], lag: usize) -> Vec<(f64, f64)> {
    let mut values = Vec::new();
    let mut waiting: VecDeque<(usize, Ticket)> = VecDeque::new();
    for (i, tick) in ticks.iter().enumerate() {
        let entered = windows.enter(tick.instrument, tick.price, tick.volume, tick.timestamp_ns);
        values.push((entered.rules_vwap, f64::NAN));
        waiting.push_back((i, entered.ticket));
        let keep = if i + 1 == ticks.len() { 0 } else { lag };
        while waiting.len() > keep {
            let Some((j, ticket)) = waiting.pop_front() else { break };
            values[j].1 = windows.settle(ticks[j].instrument, ticket, ticks[j].valid);
        }
    }
    values
}

fn bits(values: &[(f64, f64)]) -> Vec<(u64, u64)> {
    values.iter().map(|v| (v.0.to_bits(), v.1.to_bits())).collect()
}

fn windows(max_bytes: Option<u64>) -> Windows {
    Windows::new(WindowConfig { max_bytes, ..EXACT }).expect("a good configuration")
}

#[test]
fn the_busiest_instruments_go_over_until_memory_is_kept() {
    let ticks = ticks(400_000, 0);
    let mut windows = windows(Some(2_000_000));
    judge(&mut windows, &ticks, 10);
    let over: Vec<Bucketed> = windows.buckets().collect();
    assert_eq!(over.iter().map(|b| b.instrument).collect::<Vec<_>>(), [2]);
    assert_eq!(over[0].bucket_ns, BUCKET_NS);
    assert!(windows.bytes() <= 2_000_000, "{} bytes", windows.bytes());
    assert!(windows.held() > 0, "the others are held tick by tick");
}

#[test]
fn a_bound_that_buckets_cannot_keep_changes_over_what_gains_and_goes_on() {
    let ticks = ticks(300_000, 0);
    let mut windows = windows(Some(1));
    judge(&mut windows, &ticks, 0);
    // The first has six ticks to a bucket: they take no more room one by one.
    assert_eq!(windows.buckets().map(|b| b.instrument).collect::<Vec<_>>(), [1, 2]);
    assert!(windows.bytes() < 3_000_000, "{} bytes", windows.bytes());
}

#[test]
fn values_are_those_of_whole_buckets() {
    let ticks: Vec<Tick> = ticks(200_000, 0).into_iter().filter(|t| t.instrument == 2).collect();
    let mut windows = windows(Some(100_000));
    let values = judge(&mut windows, &ticks, 300);
    assert_eq!(windows.buckets().count(), 1);
    let bucket = |ns: i64| ns.div_euclid(BUCKET_NS);
    for i in (20_000..ticks.len()).step_by(2_003) {
        let now = &ticks[i];
        let (from, to) = (bucket(now.timestamp_ns - WINDOW_NS), bucket(now.timestamp_ns));
        let inside = |t: &&Tick| bucket(t.timestamp_ns) > from && bucket(t.timestamp_ns) <= to;
        let trade = |t: &Tick| (t.price, t.volume);
        let rules = Quotient::of(ticks[..i].iter().filter(inside).map(trade));
        assert!(rules.rounds_to(values[i].0), "tick {i}: rules see {}, not {}", values[i].0, rules.round());
        if now.valid {
            let valid = Quotient::of(ticks[..=i].iter().filter(|t| t.valid).filter(inside).map(trade));
            assert!(valid.rounds_to(values[i].1), "tick {i}: {}, not {}", values[i].1, valid.round());
        }
    }
}

#[test]
fn the_stated_error_holds_in_order_and_with_late_ticks() {
    for late_ns in [0, 30, 6_000] {
        let ticks = ticks(200_000, late_ns);
        let exact = judge(&mut windows(None), &ticks, 0);
        let mut windows = windows(Some(1_000_000));
        let values = judge(&mut windows, &ticks, 100);
        let over: Vec<Bucketed> = windows.buckets().collect();
        assert!(!over.is_empty());
        let mut worst = 0.0f64;
        for (i, tick) in ticks.iter().enumerate() {
            let off = |x: f64, y: f64| if x.is_nan() || y.is_nan() { 0.0 } else { (x / y - 1.0).abs() };
            let error = off(values[i].0, exact[i].0).max(off(values[i].1, exact[i].1));
            assert_eq!(values[i].1.is_nan(), exact[i].1.is_nan());
            let bound = over.iter().find(|b| b.instrument == tick.instrument).map_or(0.0, |b| b.error_bound);
            assert!(error <= bound + 1e-15, "tick {i}: off by {error}, bound {bound}");
            worst = worst.max(error);
        }
        assert!(worst > 0.0, "buckets that were never off were never used");
        if late_ns == 0 {
            assert!(over.iter().all(|b| b.error_bound < 0.01), "{over:?}");
        }
    }
}

#[test]
fn values_do_not_depend_on_how_far_verdicts_lag() {
    for (late_ns, max_bytes) in [(0, Some(300_000)), (5_000, Some(300_000)), (40_000, Some(300_000)), (40_000, None)] {
        let mut ticks = ticks(150_000, late_ns);
        // A night: all of the day before is evicted while its last verdicts are still to come, and some of its ticks
        // come after it.
        ticks[100_000..].iter_mut().for_each(|t| t.timestamp_ns += EXACT.hold_ns + 3_000);
        let prompt = judge(&mut windows(max_bytes), &ticks, 0);
        for lag in [500, 40_000] {
            let lagging = judge(&mut windows(max_bytes), &ticks, lag);
            assert!(bits(&prompt) == bits(&lagging), "late {late_ns}, {max_bytes:?}, lag {lag}");
        }
    }
}

#[test]
fn a_bucket_that_was_evicted_and_comes_again_is_another() {
    let at = |timestamp_ns: i64, price: f64| Tick { instrument: 0, price, volume: 1, timestamp_ns, valid: true };
    let mut ticks: Vec<Tick> = (0..30_000).map(|i| at(WINDOW_NS + i / 6, 100.0)).collect();
    let now_ns = WINDOW_NS + 5_000;
    ticks.extend((0..50).map(|i| at(now_ns, 200.0 + f64::from(i))));
    // All of it is evicted while verdicts lag; two late ticks then share a bucket with ticks that are gone for them.
    let later_ns = now_ns + EXACT.hold_ns + 1_000;
    ticks.extend((0..64).map(|_| at(later_ns, 300.0)));
    ticks.extend([at(now_ns, 400.0), at(now_ns + 1, 500.0)]);
    ticks.extend((0..64).map(|_| at(later_ns, 300.0)));
    ticks.extend([at(now_ns, 600.0), at(now_ns + 1, 700.0)]);
    ticks.extend((0..500).map(|_| at(later_ns, 300.0)));
    for lag in [0, 70, 100, 160, 400] {
        let mut windows = windows(Some(100_000));
        let values = judge(&mut windows, &ticks, lag);
        assert_eq!(windows.buckets().count(), 1);
        assert!(values[30_114].0.is_nan() && values[30_114].1 == 400.0, "lag {lag}: {:?}", values[30_114]);
        assert_eq!(values[30_115], (400.0, 450.0), "lag {lag}");
        assert!(values[30_180].0.is_nan() && values[30_180].1 == 600.0, "lag {lag}: {:?}", values[30_180]);
        assert_eq!(values[30_181], (600.0, 650.0), "lag {lag}");
    }
}
