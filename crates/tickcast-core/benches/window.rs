//! How many ticks a second does one core take through both windows (`enter` and `settle`)? For one instrument and for
//! 200, in order, with 20 ms of jitter, and shuffled within ten minutes; verdicts lag 4,096 ticks behind, as in the
//! processor. The time is that of the thread on its core, so that other work on the machine does not count.

mod clock;

use clock::thread_time;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::hint::black_box;
use std::time::Duration;
use tickcast_core::window::{Ticket, WindowConfig, Windows};

const SECOND_NS: i64 = 1_000_000_000;
/// Ticks of all instruments in a second of event time; 40 minutes of them are held.
const RATE: i64 = 2_000;
/// Ticks that fill the windows before the clock starts.
const WARM: usize = (RATE * 41 * 60) as usize;
/// Ticks between `enter` and `settle`.
const LAG: usize = 4_096;

struct Tick {
    instrument: u32,
    price: f64,
    volume: i64,
    timestamp_ns: i64,
}

/// How far from its turn a tick may come.
#[derive(Clone, Copy)]
enum Order {
    Rising,
    Jitter,
    Shuffled,
}

fn ticks(instruments: u32, order: Order, len: usize) -> Vec<Tick> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let within_ns = match order {
        Order::Rising => 1,
        Order::Jitter => SECOND_NS / 50,
        Order::Shuffled => 600 * SECOND_NS,
    };
    let tick = |i: usize| Tick {
        instrument: (random.next_u64() % u64::from(instruments)) as u32,
        price: 90.0 + (random.next_u64() % 2_000) as f64 / 100.0,
        volume: 1 + (random.next_u64() % 1_000) as i64,
        timestamp_ns: i as i64 * (SECOND_NS / RATE) + (random.next_u64() % within_ns as u64) as i64,
    };
    (0..len).map(tick).collect()
}

/// Takes ticks through both windows; one in 50 is not VALID.
struct Run {
    windows: Windows,
    waiting: Vec<Option<(u32, Ticket)>>,
    at: usize,
}

impl Run {
    /// Returns full windows.
    fn warm(ticks: &[Tick]) -> Self {
        let windows = Windows::new(WindowConfig::default()).expect("the default configuration is allowed");
        let mut run = Self { windows, waiting: (0..LAG).map(|_| None).collect(), at: 0 };
        run.take(ticks);
        run
    }

    fn take(&mut self, ticks: &[Tick]) -> f64 {
        let mut last = 0.0;
        for tick in ticks {
            let entered = self.windows.enter(tick.instrument, tick.price, tick.volume, tick.timestamp_ns);
            last += entered.rules_vwap;
            let slot = &mut self.waiting[self.at % LAG];
            if let Some((instrument, ticket)) = slot.replace((tick.instrument, entered.ticket)) {
                last += self.windows.settle(instrument, ticket, !self.at.is_multiple_of(50));
            }
            self.at += 1;
        }
        last
    }
}

fn windows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("window");
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(1));
    for (name, order, count) in [
        ("in order", Order::Rising, 400_000),
        ("jitter", Order::Jitter, 100_000),
        ("shuffled", Order::Shuffled, 20_000),
    ] {
        group.throughput(Throughput::Elements(count as u64));
        for instruments in [1, 200] {
            let mut warm = None;
            group.bench_function(BenchmarkId::new(name, instruments), |bencher| {
                let (run, ticks) = warm.get_or_insert_with(|| {
                    let mut all = ticks(instruments, order, WARM + count);
                    let measured = all.split_off(WARM);
                    (Run::warm(&all), measured)
                });
                bencher.iter_custom(|rounds| (0..rounds).map(|_| round(run, ticks)).sum());
            });
        }
    }
}

/// Returns the time that the ticks take, and sets them later for the next round, which goes on where this one stopped.
fn round(run: &mut Run, ticks: &mut [Tick]) -> Duration {
    let start = thread_time();
    black_box(run.take(ticks));
    let spent = thread_time() - start;
    let later_ns = ticks.len() as i64 * (SECOND_NS / RATE);
    ticks.iter_mut().for_each(|t| t.timestamp_ns += later_ns);
    spent
}

criterion_group!(benches, windows);
criterion_main!(benches);
