//! [`Windows`] against the definition, with chunks of their real size: late ticks, ties, wrong clocks, lagging verdicts.

use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use tickcast_core::Error;
use tickcast_core::window::{Ticket, WindowConfig, Windows};

#[path = "window_reference/mod.rs"]
mod reference;

use reference::{Quotient, play, steps};

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_value_is_the_correctly_rounded_definition(
        steps in steps(2_000, 3, 1_500),
        hold_ns in 1_500i64..4_000,
    ) {
        play(WindowConfig { window_ns: 1_500, hold_ns, max_bytes: None }, &steps)?;
    }
}

#[test]
fn after_a_million_ticks_from_end_to_end_of_the_range_nothing_has_drifted() {
    const WINDOW_NS: i64 = 4_000;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    let mut windows = Windows::new(WindowConfig { window_ns: WINDOW_NS, hold_ns: 3 * WINDOW_NS, max_bytes: None })
        .expect("a good configuration");
    let mut ticks: Vec<(f64, i64, i64)> = Vec::new();
    for i in 0..1_000_000i64 {
        let price = 10f64.powf((random.next_u64() % 27_000) as f64 / 1_000.0 - 12.0).clamp(1e-12, 1e15);
        let volume = (random.next_u64() >> (1 + random.next_u64() % 63)).max(1) as i64;
        let late_ns = if random.next_u64() % 8 == 0 { (random.next_u64() % 4_000) as i64 } else { 0 };
        let timestamp_ns = i - late_ns;
        ticks.push((price, volume, timestamp_ns));
        let entered = windows.enter(0, price, volume, timestamp_ns);
        assert!(!entered.late);
        let vwap = windows.settle(0, entered.ticket, true);
        if i % 9_973 == 0 || i == 999_999 {
            let near = &ticks[(i - 3 * WINDOW_NS).max(0) as usize..];
            let inside = near.iter().filter(|t| t.2 > timestamp_ns - WINDOW_NS && t.2 <= timestamp_ns);
            let wanted = Quotient::of(inside.map(|t| (t.0, t.1)));
            assert!(wanted.rounds_to(vwap), "tick {i}: {vwap}, not {}", wanted.round());
        }
    }
}

#[test]
fn equal_prices_give_exactly_that_price() {
    for price in [1e-12, 0.1, 1.0 / 3.0, 10_000.0, 1e15] {
        let mut windows = Windows::new(WindowConfig::default()).expect("the default configuration is allowed");
        for i in 0..1_000 {
            let entered = windows.enter(3, price, i64::MAX - i % 7, i);
            assert!(i == 0 || entered.rules_vwap == price);
            assert_eq!(windows.settle(3, entered.ticket, true), price);
        }
    }
}

#[test]
fn one_wrong_clock_empties_nothing_and_64_in_a_row_do() {
    let config = WindowConfig { window_ns: 100, hold_ns: 200, max_bytes: None };
    let mut windows = Windows::new(config).expect("a good configuration");
    let mut enter = |timestamp_ns: i64| {
        let entered = windows.enter(0, 5.0, 1, timestamp_ns);
        windows.settle(0, entered.ticket, true);
        (windows.held(), entered.late)
    };
    assert_eq!(enter(1_000), (1, false));
    for n in 0..63 {
        assert_eq!(enter(900_000), (n + 2, false));
    }
    // The tick at 1,000 is the 65th last from now on.
    assert_eq!(enter(900_000), (64, false));
    assert_eq!(enter(1_100), (65, false), "its window begins right behind what was evicted");
    assert_eq!(enter(1_099), (66, true));
}

#[test]
fn a_configuration_that_cannot_work_is_refused_by_name() {
    let good = WindowConfig::default();
    let refused = |config| match Windows::new(config) {
        Err(Error::Config { key, .. }) => key,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(WindowConfig { window_ns: 0, ..good }), "window.minutes");
    assert_eq!(refused(WindowConfig { hold_ns: good.window_ns - 1, ..good }), "window.hold");
    assert_eq!(refused(WindowConfig { max_bytes: Some(0), ..good }), "window.max_bytes");
}

#[test]
#[should_panic(expected = "price 0.0000000000009 must be within")]
fn a_price_that_the_sums_cannot_hold_is_not_let_in() {
    let mut windows = Windows::new(WindowConfig::default()).expect("the default configuration is allowed");
    let _ = windows.enter(0, 9e-13, 1, 1).ticket;
}
