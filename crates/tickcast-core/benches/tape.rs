//! How many trades per second does the tape take, and give to how many cursors?
//!
//! - `append`: one writer, batches as the processor makes them, JSON encoding included. Elements: trades.
//! - `read`: cursors on one core that each copy every trade, in runs of 512. Elements: trades delivered.
//! - `snapshot`: one late joiner, all instruments. Elements: instruments.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may panic")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tickcast_core::tape::{Entry, Run, TapeOptions, TapeWriter, flags};
use tickcast_core::{Position, Status, Trade};

const INSTRUMENTS: usize = 500;
const BATCH: usize = 512;

fn entries(names: &[String], first: u64) -> impl Iterator<Item = Entry<'_>> {
    (first..).take(BATCH).map(|number| Entry {
        trade: Trade {
            id: Position { stream: 1, partition: 0, offset: number, index: 0 }.trade_id(),
            instrument_id: &names[number as usize * 7 % names.len()],
            price: 100.0 + (number % 1_000) as f64 / 64.0,
            volume: 100 + number as i64 % 900,
            timestamp_ns: 1_514_764_800_000_000_000 + number as i64 * 1_000_003,
            status: Status::Valid,
            reason: None,
            vwap_20m: 100.123_456_789 + (number % 77) as f64,
            enrichments: &[],
        },
        reason_is_text: false,
        flags: flags::SCREENED,
        rule: 0,
        observed: f64::NAN,
        limit: f64::NAN,
        rules_vwap: 100.5,
        ingest_ns: 1_514_764_800_000_000_000,
        decode_us: 10,
        rules_us: 100,
        enrich_us: 10,
    })
}

fn tape(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let options = TapeOptions { bytes: 128 << 20, ..TapeOptions::default() };
    let mut writer = TapeWriter::open(dir.path(), &options).unwrap();
    let names: Vec<String> = (0..INSTRUMENTS).map(|i| format!("INS{i:05}")).collect();
    let mut group = c.benchmark_group("tape");

    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("append", |b| {
        b.iter(|| {
            let first = writer.head() + 1;
            let at = Position { stream: 1, partition: 0, offset: first, index: 0 };
            writer.append(entries(&names, first), &[at]).unwrap()
        });
    });

    // Enough to read, however few the iterations above.
    while writer.head() < 100 * BATCH as u64 {
        let first = writer.head() + 1;
        writer.append(entries(&names, first), &[]).unwrap();
    }
    let reader = writer.reader();
    for cursors in [1, 10, 100] {
        group.throughput(Throughput::Elements((cursors * BATCH) as u64));
        group.bench_function(format!("read/{cursors}"), |b| {
            let mut runs = vec![Run::default(); cursors];
            let mut next = reader.oldest();
            b.iter(|| {
                let to = next + BATCH as u64 - 1;
                for run in &mut runs {
                    reader.read(next, to, run);
                    let last = run.get(run.len() - 1);
                    black_box((last.seq(), last.json().len()));
                }
                next = if to + BATCH as u64 > reader.head() { reader.oldest() } else { to + 1 };
            });
        });
    }

    group.throughput(Throughput::Elements(INSTRUMENTS as u64));
    group.bench_function("snapshot", |b| b.iter(|| reader.snapshot().iter().count()));
    group.finish();
}

criterion_group!(benches, tape);
criterion_main!(benches);
