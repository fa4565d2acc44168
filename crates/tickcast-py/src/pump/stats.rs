//! What the pump counts. Written by its thread, read by whoever publishes metrics.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicU64, Ordering};
use tickcast_core::fanout::{AGE_BUCKETS_MS, Ages};

/// Counters since the pump started; gauges where the name says so.
#[derive(Debug, Default)]
pub struct Stats {
    /// Clients now, those that speak the plain form.
    pub plain_clients: AtomicU64,
    /// Clients now, those that speak `tickcast.v1`.
    pub v1_clients: AtomicU64,
    /// Clients now whose sockets frames go to straight from the pump, as long as they keep up.
    pub direct_clients: AtomicU64,
    /// Messages that went out.
    pub frames: AtomicU64,
    /// Their bytes, before WebSocket framing.
    pub bytes: AtomicU64,
    /// Trades delivered, each client counted.
    pub trades: AtomicU64,
    /// Gaps announced.
    pub gaps: AtomicU64,
    /// Sequences in those gaps.
    pub gap_trades: AtomicU64,
    /// Cursors that the writer overtook.
    pub overruns: AtomicU64,
    /// Trades that plain clients lost because they fell behind.
    pub dropped: AtomicU64,
    /// Trades that subscriptions to the newest were spared, each client counted.
    pub conflated: AtomicU64,
    /// Clients told that they are slow.
    pub warned: AtomicU64,
    /// Clients cut off because they took nothing any more.
    pub evicted: AtomicU64,
    /// Turns at which a client had not taken the message before.
    pub not_done: AtomicU64,
    /// Steps of the pump, one cohort each.
    pub steps: AtomicU64,
    /// Nanoseconds spent in steps.
    pub busy_ns: AtomicU64,
    /// Nanoseconds for which the pump held the interpreter.
    pub gil_ns: AtomicU64,
    /// Longest of those holds, ns.
    pub gil_longest_ns: AtomicU64,
    /// Length of a cycle now, µs.
    pub cycle_us: AtomicU64,
    /// Head of the tape now.
    pub head: AtomicU64,
    since_ingest: Histogram,
    since_event: Histogram,
}

#[derive(Debug, Default)]
struct Histogram {
    counts: [AtomicU64; AGE_BUCKETS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    fn add(&self, ages: &Ages, times: u64) {
        for (total, &count) in self.counts.iter().zip(&ages.counts) {
            if count != 0 {
                add(total, u64::from(count) * times);
            }
        }
        add(&self.sum_us, (ages.sum_ms * 1e3) as u64 * times);
    }

    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shown = PyDict::new(py);
        shown.set_item("counts", self.counts.iter().map(get).collect::<Vec<_>>())?;
        shown.set_item("sum_ms", get(&self.sum_us) as f64 / 1e3)?;
        Ok(shown)
    }
}

/// Adds to a counter that one thread writes.
pub fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Sets a gauge.
pub fn set(gauge: &AtomicU64, value: u64) {
    gauge.store(value, Ordering::Relaxed);
}

fn get(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

impl Stats {
    /// Counts the trades of one frame that `times` clients got.
    pub fn delivered(&self, since_ingest: &Ages, since_event: &Ages, times: u64) {
        self.since_ingest.add(since_ingest, times);
        self.since_event.add(since_event, times);
    }

    /// Notes one hold of the interpreter.
    pub fn held_gil(&self, ns: u64) {
        add(&self.gil_ns, ns);
        self.gil_longest_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// Returns all of it as a dictionary.
    pub fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shown = PyDict::new(py);
        for (name, value) in [
            ("plain_clients", &self.plain_clients),
            ("v1_clients", &self.v1_clients),
            ("direct_clients", &self.direct_clients),
            ("frames", &self.frames),
            ("bytes", &self.bytes),
            ("trades", &self.trades),
            ("gaps", &self.gaps),
            ("gap_trades", &self.gap_trades),
            ("overruns", &self.overruns),
            ("dropped", &self.dropped),
            ("conflated", &self.conflated),
            ("warned", &self.warned),
            ("evicted", &self.evicted),
            ("not_done", &self.not_done),
            ("steps", &self.steps),
            ("busy_ns", &self.busy_ns),
            ("gil_ns", &self.gil_ns),
            ("gil_longest_ns", &self.gil_longest_ns),
            ("cycle_us", &self.cycle_us),
            ("head", &self.head),
        ] {
            shown.set_item(name, get(value))?;
        }
        shown.set_item("since_ingest", self.since_ingest.show(py)?)?;
        shown.set_item("since_event", self.since_event.show(py)?)?;
        Ok(shown)
    }
}
