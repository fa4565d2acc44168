//! How many ticks a second does one core take all the way: protobuf messages decoded, screened, through both VWAP
//! windows, and the trades encoded to JSON? Aim: 4 M/s.
//!
//! Ticks are the simulator's (no faults, seed 1, one and 200 instruments, 100 ticks/s of event time, so that the windows
//! fill and evict), 4,096 a batch as a processor takes them, one and 64 to a message. The rules let everything pass, and
//! cost nothing here. Time is the thread's CPU time.

mod clock;

use clock::thread_time;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use tickcast_core::Origin;
use tickcast_core::decode::{Format, Options, decode};
use tickcast_core::encode::json;
use tickcast_core::judge::{Judge, Verdicts};
use tickcast_core::screen::ScreenConfig;
use tickcast_core::sim::{Sim, SimConfig};
use tickcast_core::window::WindowConfig;

const ROWS: usize = 4096;
/// 44 minutes of event time: longer than trades are held.
const BATCHES: usize = 64;
const START_NS: i64 = 1_704_205_800_000_000_000;

/// The messages of one batch.
type Messages = Vec<Vec<u8>>;

fn batches(instruments: u32, per_message: usize) -> Vec<Messages> {
    let config = SimConfig { faults: 0.0, instruments, rate: 100.0, start_ns: Some(START_NS), ..SimConfig::default() };
    let mut sim = Sim::new(config, 0).expect("sound");
    let format = if per_message == 1 { Format::Proto } else { Format::ProtoBatch };
    let mut batch = || {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        sim.next_batch(0, ROWS).write_payloads(format, per_message, &mut bytes, &mut ends);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(&ends).map(|(start, &end)| bytes[start..end].to_vec()).collect()
    };
    (0..BATCHES).map(|_| batch()).collect()
}

/// Takes all batches through empty windows and returns the time.
fn round(batches: &[Messages], format: Format, out: &mut Vec<u8>) -> Duration {
    let options = Options::default();
    let keys = json::EnrichmentKeys::default();
    let mut judge = Judge::new(ScreenConfig::default(), WindowConfig::default()).expect("defaults");
    let (status, zeros) = (vec![1u8; ROWS], vec![0u32; ROWS]);
    let (rule, unsaid) = (vec![0u16; ROWS], vec![f64::NAN; ROWS]);
    let mut offset = 0;
    let start = thread_time();
    for messages in batches {
        let decoded = decode(messages.iter().map(|m| (Some(format), &black_box(m)[..])), &options);
        let mut origin = Origin::new(0xdead_beef, 0);
        for _ in messages {
            origin.offset.push(offset);
            origin.arrival_ns.push(START_NS + 3600 * 1_000_000_000);
            origin.broker_ns.push(0);
            offset += 1;
        }
        let pending = judge.begin(decoded.ticks, Vec::new(), origin, true);
        let n = pending.passed();
        let verdicts = Verdicts {
            status: &status[..n],
            reason: &zeros[..n],
            reasons: &[(String::new(), false)],
            rule: &rule[..n],
            observed: &unsaid[..n],
            limit: &unsaid[..n],
            enrichments: &[],
        };
        let judged = judge.settle(pending, verdicts).expect("the columns are as long as the batch");
        assert_eq!(judged.len(), ROWS);
        out.clear();
        judged.entries().for_each(|entry| json::write_trade(out, &entry.trade, &keys));
        black_box(out.len());
    }
    thread_time() - start
}

fn path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("path");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements((BATCHES * ROWS) as u64));
    for (name, format, per_message) in
        [("a tick a message", Format::Proto, 1), ("64 a message", Format::ProtoBatch, 64)]
    {
        for instruments in [1, 200] {
            let batches = batches(instruments, per_message);
            let mut out = Vec::new();
            group.bench_function(BenchmarkId::new(name, instruments), |bencher| {
                bencher.iter_custom(|rounds| (0..rounds).map(|_| round(&batches, format, &mut out)).sum());
            });
        }
    }
}

criterion_group!(benches, path);
criterion_main!(benches);
