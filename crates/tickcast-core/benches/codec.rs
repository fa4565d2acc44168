//! How many ticks a second does one core decode, screen and encode, and how fast does the simulator make them?
//!
//! Ticks are the simulator's (200 instruments, no faults, seed 1), 4,096 to a call, which is what a processor takes at
//! a time. The aims: protobuf decode 20 M/s, JSON encode of trades 8 M/s. Time is the thread's CPU time, so that other
//! work on the machine counts as little as it can.

mod clock;

use clock::thread_time;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;
use tickcast_core::decode::csv::{CsvReader, HEADER};
use tickcast_core::decode::{Format, Options, decode};
use tickcast_core::encode::{json, proto};
use tickcast_core::screen::{Screen, ScreenConfig};
use tickcast_core::sim::{Sim, SimBatch, SimConfig};
use tickcast_core::{Position, Status, TickBatch, Trade};

const ROWS: usize = 4096;
const START_NS: i64 = 1_704_205_800_000_000_000;

/// CPU time of the calling thread, shown as wall time is.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        thread_time()
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn sim() -> Sim {
    let config = SimConfig { faults: 0.0, start_ns: Some(START_NS), ..SimConfig::default() };
    Sim::new(config, 0).expect("sound")
}

/// The batch as messages of a queue.
fn payloads(batch: &SimBatch, format: Format, per_message: usize) -> Vec<Vec<u8>> {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    batch.write_payloads(format, per_message, &mut bytes, &mut ends);
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, &end)| bytes[start..end].to_vec()).collect()
}

fn decoding(c: &mut Criterion<CpuTime>) {
    let batch = sim().next_batch(0, ROWS);
    let options = Options::default();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, format, per_message) in [
        ("proto, a tick a message", Format::Proto, 1),
        ("proto batch, 64 a message", Format::ProtoBatch, 64),
        ("json, a tick a message", Format::Json, 1),
        ("json array, 64 a message", Format::Json, 64),
    ] {
        let payloads = payloads(&batch, format, per_message);
        let decoded = decode(payloads.iter().map(|p| (Some(format), &p[..])), &options);
        assert_eq!(decoded.ticks.len(), ROWS);
        group.bench_function(name, |b| {
            b.iter(|| decode(payloads.iter().map(|p| (Some(format), &black_box(p)[..])), &options));
        });
    }

    let t = &batch.decoded.ticks;
    let mut text = format!("{HEADER}\n");
    for i in 0..t.len() {
        text += &format!("{},{},{},{}\n", t.id(i), t.price[i], t.volume[i], t.timestamp_ns[i]);
    }
    group.bench_function("csv", |b| {
        b.iter(|| {
            let mut reader = CsvReader::new(black_box(text.as_bytes()), Path::new("bench"), &options).expect("header");
            reader.next_batch(ROWS)
        });
    });
    group.finish();
}

fn trade<'a>(t: &'a TickBatch, i: usize, enrichments: &'a [f64]) -> Trade<'a> {
    Trade {
        id: Position { stream: 0xdead_beef, partition: 0, offset: i as u64, index: 0 }.trade_id(),
        instrument_id: t.id(i),
        price: t.price[i],
        volume: t.volume[i],
        timestamp_ns: t.timestamp_ns[i],
        status: Status::Valid,
        reason: None,
        // A quotient with all its digits, as a VWAP has them.
        vwap_20m: t.price[i] * 1.000_123_7 / 3.0 * 2.999,
        enrichments,
    }
}

fn encoding(c: &mut Criterion<CpuTime>) {
    let batch = sim().next_batch(0, ROWS);
    let trades: Vec<Trade<'_>> = (0..ROWS).map(|i| trade(&batch.decoded.ticks, i, &[])).collect();
    let keys = json::EnrichmentKeys::default();
    let mut out = Vec::new();
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("json trades", |b| {
        b.iter(|| {
            out.clear();
            black_box(&trades).iter().for_each(|trade| json::write_trade(&mut out, trade, &keys));
            black_box(out.len())
        });
    });
    group.bench_function("proto trades", |b| {
        b.iter(|| {
            out.clear();
            black_box(&trades).iter().for_each(|trade| proto::write_trade(&mut out, trade));
            black_box(out.len())
        });
    });
    group.finish();
}

fn screening(c: &mut Criterion<CpuTime>) {
    let batch = sim().next_batch(0, ROWS);
    let t = &batch.decoded.ticks;
    let screen = Screen::new(ScreenConfig::default()).expect("defaults");
    let mut group = c.benchmark_group("screen");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("ticks that pass", |b| {
        b.iter(|| {
            let arrival = Some(black_box(START_NS));
            let check =
                |i: &usize| screen.check(t.id(*i), t.price[*i], t.volume[*i], t.timestamp_ns[*i], arrival).is_ok();
            assert_eq!((0..ROWS).filter(check).count(), ROWS);
        });
    });
    group.finish();
}

fn simulating(c: &mut Criterion<CpuTime>) {
    let mut sim = sim();
    let mut group = c.benchmark_group("sim");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("as fast as possible", |b| b.iter(|| sim.next_batch(0, ROWS)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = decoding, encoding, screening, simulating
}
criterion_main!(benches);
