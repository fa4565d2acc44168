//! Every row of the recorded files in `../shared/data` beside the repository, as recorded and shuffled within ten
//! minutes, against exact sums in a Fenwick tree. Says so and passes where the folder is not there.

use flate2::read::GzDecoder;
use num_bigint::BigInt;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use tickcast_core::window::{Ticket, WindowConfig, Windows};

#[path = "window_reference/mod.rs"]
#[allow(unused_imports)]
mod reference;

use reference::{Quotient, exact};

const WINDOW_NS: i64 = 20 * 60_000_000_000;

struct Row {
    instrument: u32,
    price: f64,
    volume: i64,
    timestamp_ns: i64,
    /// Two in seven are not, so that the two windows differ.
    valid: bool,
}

fn read(path: &Path) -> Vec<Row> {
    let lines = BufReader::new(GzDecoder::new(File::open(path).expect("it was listed"))).lines().skip(1);
    let mut codes = HashMap::new();
    let row = |(i, line): (usize, std::io::Result<String>)| {
        let line = line.expect("gzip'd text");
        let mut fields = line.split(',');
        let mut field = || fields.next().expect("four fields");
        let id = field().to_owned();
        let next = codes.len() as u32;
        Row {
            instrument: *codes.entry(id).or_insert(next),
            price: field().parse().expect("a price"),
            volume: field().parse().expect("a volume"),
            timestamp_ns: field().parse().expect("a time"),
            valid: i % 7 > 1,
        }
    };
    lines.enumerate().map(row).collect()
}

/// Prefix sums by time, exact, of what has been added so far.
struct Fenwick {
    times: Vec<i64>,
    sums: Vec<(BigInt, BigInt)>,
}

impl Fenwick {
    fn new(mut times: Vec<i64>) -> Self {
        times.sort_unstable();
        times.dedup();
        let sums = vec![(BigInt::ZERO, BigInt::ZERO); times.len() + 1];
        Self { times, sums }
    }

    fn add(&mut self, row: &Row) {
        let value = exact(row.price) * row.volume;
        let mut at = self.times.partition_point(|t| *t <= row.timestamp_ns);
        while at < self.sums.len() {
            self.sums[at].0 += &value;
            self.sums[at].1 += row.volume;
            at += at & at.wrapping_neg();
        }
    }

    /// VWAP of (t − 20 min, t].
    fn vwap(&self, timestamp_ns: i64) -> Quotient {
        let (mut numerator, mut denominator) = (BigInt::ZERO, BigInt::ZERO);
        let mut at = self.times.partition_point(|t| *t <= timestamp_ns);
        while at > 0 {
            numerator += &self.sums[at].0;
            denominator += &self.sums[at].1;
            at &= at - 1;
        }
        at = self.times.partition_point(|t| *t <= timestamp_ns - WINDOW_NS);
        while at > 0 {
            numerator -= &self.sums[at].0;
            denominator -= &self.sums[at].1;
            at &= at - 1;
        }
        Quotient::new(numerator, denominator)
    }
}

fn compare(rows: &[Row], lag: usize) {
    let instruments = rows.iter().map(|r| r.instrument + 1).max().unwrap_or(0);
    let times = |code| rows.iter().filter(|r| r.instrument == code).map(|r| r.timestamp_ns).collect();
    let mut wanted: Vec<[Fenwick; 2]> =
        (0..instruments).map(|code| [Fenwick::new(times(code)), Fenwick::new(times(code))]).collect();
    let mut windows = Windows::new(WindowConfig::default()).expect("the default configuration is allowed");
    let mut waiting: VecDeque<(&Row, Ticket)> = VecDeque::new();
    for (i, row) in rows.iter().enumerate() {
        let entered = windows.enter(row.instrument, row.price, row.volume, row.timestamp_ns);
        let screened = &mut wanted[row.instrument as usize][0];
        assert!(!entered.late, "row {i}");
        assert!(screened.vwap(row.timestamp_ns).rounds_to(entered.rules_vwap), "row {i}: {}", entered.rules_vwap);
        screened.add(row);
        waiting.push_back((row, entered.ticket));
        while waiting.len() > if i + 1 == rows.len() { 0 } else { lag } {
            let Some((row, ticket)) = waiting.pop_front() else { break };
            let vwap = windows.settle(row.instrument, ticket, row.valid);
            let valid = &mut wanted[row.instrument as usize][1];
            assert_eq!(vwap.is_nan(), !row.valid);
            if row.valid {
                valid.add(row);
                assert!(valid.vwap(row.timestamp_ns).rounds_to(vwap), "verdict at row {i}: {vwap}");
            }
        }
    }
}

#[test]
fn every_recorded_row_has_the_correctly_rounded_vwap() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let Ok(listing) = folder.read_dir() else {
        // The test runner shows this with --nocapture.
        #[allow(clippy::print_stderr, reason = "a test may say that it had nothing to do")]
        {
            eprintln!("skipped: no folder ../shared/data");
        }
        return;
    };
    let files = listing.filter_map(|entry| Some(entry.ok()?.path()));
    for path in files.filter(|p| p.to_string_lossy().ends_with(".csv.gz")) {
        let mut rows = read(&path);
        assert!(!rows.is_empty());
        compare(&rows, 1_000);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(rows.len() as u64);
        rows.sort_by_cached_key(|r| r.timestamp_ns + (random.next_u64() % 600_000_000_000) as i64);
        compare(&rows, 0);
    }
}
