//! Windows on disk: what comes back judges as if nothing had happened, and what is damaged is told.

use proptest::prelude::*;
use std::path::Path;
use tickcast_core::checkpoint::{Restored, Writer, restore};
use tickcast_core::judge::{Judge, Verdicts};
use tickcast_core::position::Origin;
use tickcast_core::screen::ScreenConfig;
use tickcast_core::window::WindowConfig;
use tickcast_core::{Error, Position, TickBatch};

const NAMES: [&str; 4] = ["AAA", "BBB", "CCC", "DDD"];

#[derive(Debug, Clone)]
struct Given {
    name: usize,
    price: f64,
    volume: i64,
    time_ns: i64,
    valid: bool,
}

fn ticks(most: usize) -> impl Strategy<Value = Vec<Given>> {
    let tick = (0..NAMES.len(), 1u32..100_000, 1i64..1000, -40i64..60, any::<bool>());
    prop::collection::vec(tick, 0..most).prop_map(|drawn| {
        let mut clock = 1_000_000i64;
        drawn
            .into_iter()
            .map(|(name, price, volume, step, valid)| {
                clock += step.max(0);
                Given { name, price: f64::from(price) / 100.0, volume, time_ns: clock + step.min(0), valid }
            })
            .collect()
    })
}

fn judge() -> Judge {
    let window = WindowConfig { window_ns: 300, hold_ns: 700, max_bytes: None };
    Judge::new(ScreenConfig::default(), window).expect("a judge")
}

/// Judges ticks one by one; returns the VWAPs that rules saw, and those of the trades.
fn run(judge: &mut Judge, ticks: &[Given]) -> Vec<(u64, u64, u64)> {
    ticks
        .iter()
        .map(|given| {
            let mut batch = TickBatch::default();
            batch.push(NAMES[given.name], given.price, given.volume, given.time_ns, 0, 0);
            let mut origin = Origin::new(1, 0);
            origin.push(1, 0, 0);
            let pending = judge.begin(batch, Vec::new(), origin, false);
            let (seen, late) = (pending.rules_vwap[0], pending.late);
            let none = [f64::NAN];
            let verdicts = Verdicts {
                status: &[if given.valid { 1 } else { 2 }],
                reason: &[0],
                reasons: &[(String::new(), false)],
                rule: &[0],
                observed: &none,
                limit: &none,
                enrichments: &[],
            };
            let judged = judge.settle(pending, verdicts).expect("verdicts");
            let vwap = judged.entries().next().expect("a trade").trade.vwap_20m;
            (seen.to_bits(), vwap.to_bits(), late)
        })
        .collect()
}

fn save(judge: &Judge, path: &Path, sequence: u64) -> u64 {
    let mut writer = Writer::begin(path, 77, judge.event_clock_ns(), 5).expect("a file");
    while writer.step(judge, sequence) {
        writer.write().expect("room");
    }
    writer.finish().expect("room")
}

fn refill(judge: &mut Judge, given: &Given) {
    judge.refill(NAMES[given.name], given.price, given.volume, given.time_ns, given.valid, Position::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn restored_windows_judge_as_those_that_went_on(before in ticks(400), after in ticks(200)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("windows");
        let mut first = judge();
        run(&mut first, &before);
        let kept = save(&first, &path, before.len() as u64);
        let mut second = judge();
        let restored = restore(&path, &mut second).expect("a checkpoint").expect("a file");
        prop_assert_eq!((restored.epoch, restored.written_ns, restored.ticks), (77, 5, kept));
        prop_assert_eq!(second.windows().held(), first.windows().held());
        prop_assert_eq!(second.event_clock_ns(), first.event_clock_ns());
        // Codes differ, the order on the tape does not.
        let later: Vec<Given> = after.into_iter().map(|g| Given { time_ns: g.time_ns + 1_500, ..g }).collect();
        prop_assert_eq!(run(&mut second, &later), run(&mut first, &later));
    }

    #[test]
    fn what_came_between_its_steps_comes_from_the_tape(before in ticks(600), between in ticks(300), after in ticks(100)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("windows");
        let mut first = judge();
        run(&mut first, &before);
        let mut writer = Writer::begin(&path, 77, first.event_clock_ns(), 5).expect("a file");
        // The first step takes everything; another begins after more has come, as of an instrument that is new.
        let sequence = before.len() as u64;
        writer.step(&first, sequence);
        run(&mut first, &between);
        writer.step(&first, sequence + between.len() as u64);
        writer.finish().expect("room");
        let mut second = judge();
        let restored = restore(&path, &mut second).expect("a checkpoint").expect("a file");
        for (sequence, given) in (1..).zip(before.iter().chain(&between)) {
            if sequence > restored.lowest.unwrap_or(0) && !restored.has(NAMES[given.name], given.time_ns, sequence) {
                refill(&mut second, given);
            }
        }
        let later: Vec<Given> = after.into_iter().map(|g| Given { time_ns: g.time_ns + 1_500, ..g }).collect();
        prop_assert_eq!(run(&mut second, &later), run(&mut first, &later));
    }

    #[test]
    fn any_damage_is_told_and_leaves_the_windows_empty(before in ticks(60), at: prop::sample::Index, flip in 1u8.., cut: bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("windows");
        let mut first = judge();
        run(&mut first, &before);
        save(&first, &path, 1);
        let mut bytes = std::fs::read(&path).expect("a file");
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
        std::fs::write(&path, bytes).expect("room");
        let mut second = judge();
        let refused = restore(&path, &mut second);
        let told = matches!(&refused, Err(Error::File { what, .. }) if what.contains("no checkpoint to go on from"));
        prop_assert!(told, "{:?}", refused);
        prop_assert_eq!(second.windows().held(), 0);
    }
}

#[test]
fn no_file_is_nothing_and_a_new_one_takes_the_place_of_the_old_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("windows");
    let mut judge = judge();
    assert_eq!(restore(&path, &mut judge).expect("no trouble"), None::<Restored>);
    save(&judge, &path, 0);
    run(&mut judge, &[Given { name: 0, price: 1.0, volume: 2, time_ns: 3, valid: true }]);
    assert_eq!(save(&judge, &path, 1), 1);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
fn a_busy_instrument_is_copied_in_many_steps_each_of_which_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("windows");
    let mut judge = Judge::new(ScreenConfig::default(), WindowConfig::default()).expect("a judge");
    for time_ns in 0..100_000 {
        judge.refill("AAA", 1.5, 2, time_ns, time_ns % 3 > 0, Position::default());
    }
    let mut writer = Writer::begin(&path, 77, 0, 5).expect("a file");
    let mut steps = 1;
    while writer.step(&judge, steps) {
        steps += 1;
    }
    assert!((6..12).contains(&steps), "{steps} steps");
    assert_eq!(writer.finish().expect("room"), 100_000);
    let mut second = Judge::new(ScreenConfig::default(), WindowConfig::default()).expect("a judge");
    let restored = restore(&path, &mut second).expect("a checkpoint").expect("a file");
    assert!(restored.has("AAA", 10, 1) && !restored.has("AAA", 10, 2), "each segment has its own sequence");
    assert!(restored.has("AAA", 99_999, steps) && !restored.has("AAA", 99_999, steps + 1));
    assert_eq!(second.windows().held(), 100_000);
}
