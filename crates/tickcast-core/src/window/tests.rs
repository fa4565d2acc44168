//! The windows with tiny chunks and blocks, so that short runs split, drop and skip them all.

use super::reference::{Quotient, play, price_and_volume, steps};
use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_value_is_the_correctly_rounded_definition(
        steps in steps(400, 6, 300),
        hold_ns in 300i64..800,
    ) {
        play(WindowConfig { window_ns: 300, hold_ns, max_bytes: None }, &steps)?;
    }
}

proptest! {
    #[test]
    fn sums_are_exact_in_any_order(
        trades in proptest::collection::vec(price_and_volume(), 0..200),
        removed in 0usize..200,
    ) {
        let removed = removed.min(trades.len());
        let mut sum = Sum::default();
        for (price, volume) in &trades[..removed] {
            sum -= Sum::of(*price, *volume as u64);
        }
        for (price, volume) in &trades {
            sum += Sum::of(*price, *volume as u64);
        }
        let left = &trades[removed..];
        prop_assert_eq!(sum, Sum::of_all(left.iter().map(|(p, v)| (p.to_bits(), *v as u64))));
        let wanted = Quotient::of(left.iter().copied());
        prop_assert!(wanted.rounds_to(sum.vwap()), "{}, not {}", sum.vwap(), wanted.round());
    }
}

#[test]
fn a_full_window_of_the_greatest_trades_fits() {
    // As many as 2^36 trades, added up by doubling.
    let mut sum = Sum::of(1e15, i64::MAX as u64);
    for _ in 0..36 {
        let same = sum;
        sum += same;
    }
    assert_eq!(sum.vwap(), 1e15);
    sum += Sum::of(1e-12, 1);
    assert_eq!(sum.vwap(), 1e15);
}

#[test]
fn products_of_one_exponent_may_add_up_for_long() {
    let price = 1.999_999_999_999_999_8f64;
    let all = Sum::of_all((0..20_000).map(|_| (price.to_bits(), i64::MAX as u64)));
    assert_eq!(all.vwap(), price);
}

#[test]
fn a_held_tick_takes_24_bytes() {
    assert_eq!(size_of::<entry::Entry>(), 24);
}
