//! The simulator: repeatable to the byte, on time, and as wrong as it was asked to be.

use proptest::prelude::*;
use tickcast_core::decode::{Format, Options, decode};
use tickcast_core::screen::{Screen, ScreenConfig};
use tickcast_core::sim::{FaultKind, Sim, SimBatch, SimConfig};
use tickcast_core::{Error, Undecodable};

const START: i64 = 1_704_205_800_000_000_000;
const SECOND: i64 = 1_000_000_000;

fn config(seed: u64, faults: f64) -> SimConfig {
    SimConfig { instruments: 50, rate: 5000.0, seed, faults, start_ns: Some(START) }
}

/// A batch as rows that can be compared: offset and text of a tick, or offset and bytes of what is none.
fn rows(batch: &SimBatch) -> Vec<(u64, String)> {
    let t = &batch.decoded.ticks;
    let tick = |i: usize| format!("{} {:?} {} {}", t.id(i), t.price[i], t.volume[i], t.timestamp_ns[i]);
    let bad = |u: &Undecodable| u.bytes.escape_ascii().to_string();
    let mut rows: Vec<_> = (0..t.len()).map(|i| (t.message[i], tick(i))).collect();
    rows.extend(batch.decoded.undecodable.iter().map(|u| (u.message, bad(u))));
    rows.sort();
    assert!(rows.iter().map(|r| r.0).eq(0..batch.rows as u32), "each offset once");
    rows.into_iter().map(|(message, text)| (batch.first_offset + u64::from(message), text)).collect()
}

#[test]
fn the_first_ticks_of_a_seed_are_those_of_the_first_version() {
    let batch = Sim::new(config(1, 0.01), 0).expect("sound").next_batch(0, 100_000);
    let rows = rows(&batch);
    let first: Vec<_> = rows.iter().take(3).map(|row| row.1.as_str()).collect();
    assert_eq!(first, GOLDEN_FIRST);
    // FNV-1a over all rows: golden files and recorded runs depend on every one of them.
    let bytes = rows.iter().flat_map(|row| row.1.bytes().chain([b'\n']));
    let checksum = bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    assert_eq!(checksum, GOLDEN_CHECKSUM, "{checksum:#x}");
}

const GOLDEN_FIRST: [&str; 3] =
    ["WMT 81.0 100 1704205800000102545", "AMZN 189.02 495 1704205800000175358", "META 573.94 100 1704205800000307240"];
const GOLDEN_CHECKSUM: u64 = 0xdff7_968c_4b69_093f;

#[test]
fn every_kind_of_fault_comes_at_the_stated_rate_and_good_ticks_pass_the_screen() {
    let share = 0.06;
    let mut sim = Sim::new(SimConfig { rate: 1e5, ..config(7, share) }, START).expect("sound");
    let screen = Screen::new(ScreenConfig::default()).expect("defaults");
    let mut counts = [0u32; FaultKind::ALL.len()];
    let (mut newest, mut total) = (0, 0);
    let mut count = |kind| counts[FaultKind::ALL.iter().position(|k| *k == kind).expect("a kind")] += 1;
    for tenth in 1..=100 {
        let now = START + tenth * SECOND / 10;
        let batch = sim.due(now, usize::MAX);
        total += batch.rows;
        (0..batch.decoded.undecodable.len()).for_each(|_| count(FaultKind::Undecodable));
        let t = &batch.decoded.ticks;
        for i in 0..t.len() {
            let (id, price, volume, time) = (t.id(i), t.price[i], t.volume[i], t.timestamp_ns[i]);
            let fault = screen.check(id, price, volume, time, Some(now)).err();
            let chars = id.chars().count();
            let kind = match &fault {
                Some(fault) if fault.is_band() => FaultKind::OutOfBand,
                Some(_) if chars < 3 => FaultKind::IdShort,
                Some(_) if chars > 10 => FaultKind::IdLong,
                Some(_) if !price.is_finite() => FaultKind::PriceNotFinite,
                Some(_) if price == 0.0 => FaultKind::PriceZero,
                Some(_) if price < 0.0 => FaultKind::PriceNegative,
                Some(_) if volume == 0 => FaultKind::VolumeZero,
                Some(_) if volume < 0 => FaultKind::VolumeNegative,
                Some(_) => FaultKind::Future,
                None if time == 0 => FaultKind::NoTimestamp,
                None if time < newest => FaultKind::Late,
                None => {
                    newest = time;
                    continue;
                }
            };
            count(kind);
        }
    }
    let expected = total as f64 * share / FaultKind::ALL.len() as f64;
    for (kind, n) in FaultKind::ALL.iter().zip(counts) {
        assert!((f64::from(n) - expected).abs() < 6.0 * expected.sqrt(), "{kind:?}: {n}, not {expected}");
    }
}

#[test]
fn the_rate_is_exact_and_nothing_comes_before_its_time() {
    for rate in [0.5, 20.0, 5000.0, 250_000.0] {
        let mut sim = Sim::new(SimConfig { rate, start_ns: None, ..config(3, 0.0) }, START).expect("sound");
        let mut total = 0;
        for tenth in 1..=200 {
            let now = START + tenth * SECOND / 10;
            let batch = sim.due(now, usize::MAX);
            assert!(
                batch.decoded.ticks.timestamp_ns.iter().all(|&t| (now - SECOND / 10 < t || tenth == 1) && t <= now)
            );
            assert!(batch.decoded.ticks.timestamp_ns.is_sorted());
            assert!(sim.next_due_ns() > now);
            total += batch.rows;
        }
        // A sweep over the end may have come with its first trade.
        let wanted = rate * 20.0;
        assert!((total as f64 - wanted).abs() <= 12.0, "{total}, not {wanted}");
    }
}

#[test]
fn as_fast_as_possible_the_clock_gives_the_time_unless_a_start_does() {
    let mut clock = Sim::new(SimConfig { start_ns: None, ..config(3, 0.0) }, START).expect("sound");
    let batch = clock.next_batch(START + 5, 100_000);
    assert!(batch.decoded.ticks.timestamp_ns.iter().all(|&t| t == START + 5));
    let mut fixed = Sim::new(config(3, 0.0), 77).expect("sound");
    let batch = fixed.next_batch(START + 5, 100_000);
    let last = batch.decoded.ticks.timestamp_ns[99_999];
    assert!((START + 19 * SECOND..=START + 20 * SECOND).contains(&last));
    assert_eq!((batch.first_offset, fixed.offset()), (0, 100_000));
}

#[test]
fn unsound_configurations_are_refused_with_key_and_value() {
    for (wrong, message) in [
        (SimConfig { instruments: 0, ..config(1, 0.0) }, "sim instruments = 0: 1 to 65536"),
        (SimConfig { rate: f64::NAN, ..config(1, 0.0) }, "sim rate = NaN: 0.001 to 1e8 ticks per second"),
        (config(1, 1.5), "sim faults = 1.5: a share from 0 to 1"),
        (SimConfig { start_ns: Some(-1), ..config(1, 0.0) }, "sim start = -1: 0 to 6e18 ns since 1970"),
    ] {
        let error = Sim::new(wrong, 0).expect_err(message);
        assert!(matches!(error, Error::Config { .. }));
        assert_eq!(error.to_string(), message);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn ticks_do_not_depend_on_how_they_are_cut(seed: u64, cuts in prop::collection::vec((1usize..400, 0i64..SECOND), 1..20)) {
        let mut whole = Sim::new(config(seed, 0.1), START).expect("sound");
        let mut cut = whole.clone();
        let mut now = START;
        let mut pieces = Vec::new();
        for (max_rows, wait) in cuts {
            now += wait;
            let piece = cut.due(now, max_rows);
            prop_assert!(piece.rows <= max_rows as u64);
            pieces.extend(rows(&piece));
        }
        let n = pieces.len();
        prop_assert_eq!(rows(&whole.due(now, n)), pieces);
    }

    /// What is written for a queue is decoded to the same ticks again, and what can't be decoded stays so.
    #[test]
    fn payloads_decode_to_the_batch(seed: u64, per_message in 0usize..10, format in prop::sample::select(vec![Format::Proto, Format::ProtoBatch, Format::Json])) {
        let batch = Sim::new(config(seed, 0.3), START).expect("sound").due(START + SECOND / 10, 1000);
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        batch.write_payloads(format, per_message, &mut bytes, &mut ends);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let payloads: Vec<&[u8]> = starts.zip(&ends).map(|(start, &end)| &bytes[start..end]).collect();
        prop_assert_eq!(payloads.concat().len(), bytes.len());

        // A batch has to be announced; the spoiled bytes are spoiled in every format that may be guessed.
        let announced = payloads.iter().map(|p| (None, *p));
        let decoded = if format == Format::ProtoBatch {
            let spoiled: Vec<&[u8]> = batch.decoded.undecodable.iter().map(|u| &u.bytes[..]).collect();
            decode(payloads.iter().filter(|p| !spoiled.contains(p)).map(|p| (Some(format), *p)), &Options::default())
        } else {
            decode(announced, &Options::default())
        };
        let t = &batch.decoded.ticks;
        let kept: Vec<usize> = (0..t.len()).filter(|&i| format != Format::Json || t.price[i].is_finite()).collect();
        let d = &decoded.ticks;
        prop_assert_eq!(d.len(), kept.len());
        for (k, &i) in kept.iter().enumerate() {
            prop_assert_eq!((d.id(k), d.price[k].to_bits(), d.volume[k], d.timestamp_ns[k]), (t.id(i), t.price[i].to_bits(), t.volume[i], t.timestamp_ns[i]));
        }
        if format != Format::ProtoBatch {
            let bad: Vec<_> = decoded.undecodable.iter().map(|u| u.error.to_string()).filter(|e| !e.contains("was null")).collect();
            let wanted: Vec<_> = batch.decoded.undecodable.iter().map(|u| u.error.to_string()).collect();
            prop_assert_eq!(bad, wanted);
        }
    }
}
