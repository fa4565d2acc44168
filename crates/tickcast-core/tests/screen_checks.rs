//! The screen: which ticks pass, and the exact reason of each that does not.

use proptest::prelude::*;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use tickcast_core::Error;
use tickcast_core::screen::{Fault, OUT_OF_BAND, PROCESSING_ERROR, Screen, ScreenConfig};

const NOW: i64 = 1_723_161_255_000_000_000;
const MINUTE: i64 = 60_000_000_000;

fn screen() -> Screen {
    Screen::new(ScreenConfig::default()).expect("defaults")
}

/// The reason of a tick that came at `NOW`; `None`: it passes.
fn live(id: &str, price: f64, volume: i64, timestamp_ns: i64) -> Option<String> {
    screen().check(id, price, volume, timestamp_ns, Some(NOW)).err().map(|fault| fault.to_string())
}

#[test]
fn each_failure_has_its_reason_and_the_first_one_wins() {
    for (id, price, volume, time, reason) in [
        ("AB", -1.0, 0, -1, "instrument_id: must have 3 to 10 characters, was \"AB\" (2)"),
        ("", 1.0, 1, 1, "instrument_id: must have 3 to 10 characters, was \"\" (0)"),
        ("BTCUSD_PERP", 1.0, 1, 1, "instrument_id: must have 3 to 10 characters, was \"BTCUSD_PERP\" (11)"),
        ("A\"\n", f64::NAN, 0, -1, "price: must be finite, was NaN"),
        ("ABC", f64::NEG_INFINITY, 0, -1, "price: must be finite, was -inf"),
        ("ABC", -5.0, 0, -1, "price: must be > 0, was -5.0"),
        ("ABC", 0.0, 0, -1, "price: must be > 0, was 0.0"),
        ("ABC", 1e9, 0, -1, "volume: must be > 0, was 0"),
        ("ABC", 1e9, i64::MIN, -1, "volume: must be > 0, was -9223372036854775808"),
        ("ABC", 1e9, 1, -1, "timestamp_ns: must be >= 0, was -1"),
        (
            "ABC",
            1e9,
            1,
            NOW + 5 * MINUTE + 1,
            "timestamp_ns: must be at most 300 s after its arrival, was 1723161555000000001",
        ),
    ] {
        assert_eq!(live(id, price, volume, time), Some(format!("{PROCESSING_ERROR}{reason}")));
    }
    let long = live(&"é".repeat(1_000_000), 1.0, 1, 1).expect("refused");
    assert_eq!(
        long,
        format!("{PROCESSING_ERROR}instrument_id: must have 3 to 10 characters, was \"{}\"… (1000000)", "é".repeat(32))
    );
}

#[test]
fn bounds_themselves_pass_and_the_next_double_does_not() {
    for price in [0.01, 10_000.0] {
        assert_eq!(live("ABC", price, 1, NOW), None);
    }
    for price in [0.01f64.next_down(), 10_000f64.next_up(), f64::MIN_POSITIVE, f64::MAX] {
        assert_eq!(live("ABC", price, 1, NOW).as_deref(), Some(OUT_OF_BAND));
    }
    for id in ["ABC", "ABCDEFGHIJ", "äöü", "😀😀😀😀😀😀😀😀😀😀"] {
        assert_eq!(live(id, 1.0, i64::MAX, NOW + 5 * MINUTE), None, "{id}");
    }
    assert!(live("äö", 1.0, 1, NOW).is_some(), "two characters of two bytes");
}

#[test]
fn an_absent_time_passes_live_and_not_in_a_file_where_the_future_does() {
    assert_eq!(live("ABC", 1.0, 1, 0), None);
    let in_file = |time| screen().check("ABC", 1.0, 1, time, None);
    assert_eq!(in_file(0), Err(Fault::TimeAbsent));
    assert_eq!(
        Fault::TimeAbsent.to_string(),
        "Processing error: timestamp_ns: must be there in a recorded file, was 0"
    );
    assert_eq!(in_file(i64::MAX), Ok(()));
    assert_eq!(screen().check("ABC", 1.0, 1, i64::MAX, Some(i64::MAX - 1)), Ok(()), "no overflow");
}

#[test]
fn bands_are_per_instrument_and_why_shows_value_and_bound() {
    let bands = HashMap::from([("BTC/USD".to_owned(), (1000.0, 200_000.0))]);
    let screen = Screen::new(ScreenConfig { bands, id_chars: 1..=11, ..ScreenConfig::default() }).expect("sound");
    let check = |id, price| screen.check(id, price, 1, NOW, None);
    assert_eq!(check("BTC/USD", 61_700.0), Ok(()));
    assert_eq!(check("BTCUSD_PERP", 61_700.0), Err(Fault::Band { price: 61_700.0, bound: 10_000.0 }));
    let fault = check("BTC/USD", 999.0).expect_err("below");
    assert_eq!((fault.is_band(), fault.observed(), fault.limit()), (true, 999.0, 1000.0));

    let fault = screen.check("", 1.0, 1, 1, None).expect_err("empty");
    assert_eq!((fault.is_band(), fault.observed(), fault.limit()), (false, 0.0, 1.0));
    let fault = check("ABC", f64::NAN).expect_err("NaN");
    assert!(fault.observed().is_nan() && fault.limit().is_nan());
}

#[test]
fn unsound_bounds_are_refused_with_key_and_value() {
    let band = |id: &str, band| HashMap::from([(id.to_owned(), band)]);
    let default = ScreenConfig::default;
    for (config, message) in [
        (
            ScreenConfig { id_chars: 0..=3, ..default() },
            "screen.id_min, id_max = 0 to 3: 1 to 255, the lower one first",
        ),
        (
            ScreenConfig { id_chars: RangeInclusive::new(4, 3), ..default() },
            "screen.id_min, id_max = 4 to 3: 1 to 255, the lower one first",
        ),
        (
            ScreenConfig { id_chars: 4..=256, ..default() },
            "screen.id_min, id_max = 4 to 256: 1 to 255, the lower one first",
        ),
        (
            ScreenConfig { band: (2.0, 1.0), ..default() },
            "screen.price_min, price_max = 2.0 to 1.0: 1e-12 to 1e15, the lower one first",
        ),
        (
            ScreenConfig { band: (f64::NAN, 1.0), ..default() },
            "screen.price_min, price_max = NaN to 1.0: 1e-12 to 1e15, the lower one first",
        ),
        (
            ScreenConfig { bands: band("X", (1e-13, 1.0)), ..default() },
            "screen.bands = X: 1e-13 to 1.0: 1e-12 to 1e15, the lower one first",
        ),
        (
            ScreenConfig { bands: band("X", (1.0, 2e15)), ..default() },
            "screen.bands = X: 1.0 to 2000000000000000.0: 1e-12 to 1e15, the lower one first",
        ),
        (ScreenConfig { max_ahead_ns: -1, ..default() }, "screen.max_ahead = -1 ns: >= 0"),
    ] {
        let error = Screen::new(config).expect_err(message);
        assert!(matches!(error, Error::Config { .. }));
        assert_eq!(error.to_string(), message);
    }
}

proptest! {
    /// The checks say what their definitions say, and the reason is the display of the fault.
    #[test]
    fn a_tick_passes_if_and_only_if_all_conditions_hold(
        id in ".{0,13}",
        price in prop_oneof![any::<f64>(), 0.001f64..20_000.0],
        volume in prop_oneof![any::<i64>(), -1i64..2],
        time in prop_oneof![any::<i64>(), -1i64..2, NOW..NOW + 10 * MINUTE],
        arrival in prop::option::of(Just(NOW)),
    ) {
        let sound_id = (3..=10).contains(&id.chars().count());
        let sound_time = time >= 0 && arrival.map_or(time != 0, |now| time <= now + 5 * MINUTE);
        let structure = sound_id && price.is_finite() && price > 0.0 && volume > 0 && sound_time;
        let band = (0.01..=10_000.0).contains(&price);
        let checked = screen().check(&id, price, volume, time, arrival);
        prop_assert_eq!(checked.is_ok(), structure && band);
        if let Err(fault) = checked {
            prop_assert_eq!(fault.is_band(), structure);
            let mut reason = String::new();
            fault.write_reason(&mut reason);
            prop_assert_eq!(reason == OUT_OF_BAND, structure);
            prop_assert_eq!(reason.starts_with(PROCESSING_ERROR), !structure);
        }
    }
}
