//! The source `sim://`: a market that makes itself up, the same one for the same seed on every machine.
//!
//! Many instruments with prices that walk in tick sizes and now and then jump, volumes around a usual one, a few busy
//! instruments and many quiet ones, arrivals in bursts at an exact mean rate, sweeps of several trades at one time, and
//! faults of every [`FaultKind`] at a stated rate.
//!
//! ## Time
//! The simulator knows no clock: the caller tells it the time. Each tick has an arrival on the caller's clock, and
//! [`Sim::due`] gives those that have arrived. Its event time is its arrival, or, with
//! [`start_ns`](SimConfig::start_ns), as long after that start as the arrival is after the simulator's: such ticks are
//! repeatable. Ticks do not depend on how they are cut into batches.
//!
//! ```
//! use tickcast_core::sim::{Sim, SimConfig};
//! let mut sim = Sim::new(SimConfig { rate: 1000.0, ..SimConfig::default() }, 0)?;
//! let rows: u64 = (1..=10).map(|tenth| sim.due(tenth * 100_000_000, 10_000).rows).sum();
//! assert!((995..1005).contains(&rows));
//! # Ok::<(), tickcast_core::Error>(())
//! ```

mod arrivals;
mod draw;
mod faults;
mod market;

pub use faults::FaultKind;

use crate::decode::{Format, push_coded};
use crate::encode::{json, proto};
use crate::{Decoded, Error, Result};
use arrivals::Arrivals;
use draw::Draw;
use faults::Row;
use market::{Market, Print};
use std::borrow::Cow;

/// What to simulate.
#[derive(Debug, Clone, PartialEq)]
pub struct SimConfig {
    /// How many instruments, 1 to 65,536; default 200.
    pub instruments: u32,
    /// Mean rate, ticks per second, all instruments together, 0.001 to 1e8; default 5,000.
    pub rate: f64,
    /// Seed of all chance; default 1.
    pub seed: u64,
    /// Share of ticks with a fault, 0 to 1; default 0.01.
    pub faults: f64,
    /// Event time of the start, ns since the Unix epoch, >= 0; `None`: the clock's.
    pub start_ns: Option<i64>,
}

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig { instruments: 200, rate: 5000.0, seed: 1, faults: 0.01, start_ns: None }
    }
}

impl SimConfig {
    fn validate(&self) -> Result<()> {
        let refuse = |key, value: &dyn ToString, allowed| Err(Error::Config { key, value: value.to_string(), allowed });
        if !(1..=market::MAX_INSTRUMENTS).contains(&self.instruments) {
            return refuse("sim instruments", &self.instruments, "1 to 65536");
        }
        if !(0.001..=1e8).contains(&self.rate) {
            return refuse("sim rate", &self.rate, "0.001 to 1e8 ticks per second");
        }
        if !(0.0..=1.0).contains(&self.faults) {
            return refuse("sim faults", &self.faults, "a share from 0 to 1");
        }
        // Room for a hundred years to run.
        match self.start_ns.filter(|start| !(0..=6_000_000_000_000_000_000).contains(start)) {
            Some(start) => refuse("sim start", &start, "0 to 6e18 ns since 1970"),
            None => Ok(()),
        }
    }
}

/// Ticks of the simulator, and payloads that can't be decoded.
#[derive(Debug, Clone, Default)]
pub struct SimBatch {
    /// `message` is the offset minus `first_offset`.
    pub decoded: Decoded,
    /// Offset of the first one: a counter from 0.
    pub first_offset: u64,
    /// How many offsets.
    pub rows: u64,
}

impl SimBatch {
    /// Writes the batch as payloads for a queue: appends their bytes to `out` and their ends in it to `ends`.
    ///
    /// `ticks_per_message` ticks (at least one) ride in a message of format `ProtoBatch`, or `Json` as an array; what
    /// can't be decoded, and every tick in `Proto`, is a message of its own. JSON has no NaN: such a price is `null`,
    /// which is undecodable.
    pub fn write_payloads(&self, format: Format, ticks_per_message: usize, out: &mut Vec<u8>, ends: &mut Vec<usize>) {
        let t = &self.decoded.ticks;
        let mut undecodable = self.decoded.undecodable.iter().peekable();
        let mut open = 0;
        for row in 0..t.len() {
            while let Some(bad) = undecodable.next_if(|bad| bad.message < t.message[row]) {
                close_message(format, ticks_per_message, &mut open, out, ends);
                out.extend_from_slice(&bad.bytes);
                ends.push(out.len());
            }
            let (id, price, volume, time) = (t.id(row), t.price[row], t.volume[row], t.timestamp_ns[row]);
            match format {
                Format::Proto => proto::write_tick(out, id, price, volume, time),
                Format::ProtoBatch => proto::write_batch_tick(out, id, price, volume, time),
                Format::Json => {
                    if ticks_per_message > 1 {
                        out.push(if open == 0 { b'[' } else { b',' });
                    }
                    json::write_tick(out, id, price, volume, time);
                }
            }
            open += 1;
            if open >= ticks_per_message || format == Format::Proto {
                close_message(format, ticks_per_message, &mut open, out, ends);
            }
        }
        close_message(format, ticks_per_message, &mut open, out, ends);
        for bad in undecodable {
            out.extend_from_slice(&bad.bytes);
            ends.push(out.len());
        }
    }
}

/// Ends the message that holds `open` ticks, if any.
fn close_message(format: Format, ticks_per_message: usize, open: &mut usize, out: &mut Vec<u8>, ends: &mut Vec<usize>) {
    if std::mem::take(open) > 0 {
        if format == Format::Json && ticks_per_message > 1 {
            out.push(b']');
        }
        ends.push(out.len());
    }
}

/// The simulator.
#[derive(Debug, Clone)]
pub struct Sim {
    config: SimConfig,
    /// When it began, on the caller's clock.
    clock_ns: i64,
    arrivals: Arrivals,
    market: Market,
    faults: Draw,
    /// The next tick, and its arrival, ns since the start.
    next: (i64, Print),
    offset: u64,
    /// Code of each instrument in the batch numbered beside it.
    codes: Vec<(u64, u32)>,
    batches: u64,
}

impl Sim {
    /// Begins at `clock_ns`, the caller's time, ns since the Unix epoch.
    ///
    /// # Errors
    /// [`Error::Config`] for values outside the bounds that [`SimConfig`] states.
    pub fn new(config: SimConfig, clock_ns: i64) -> Result<Self> {
        config.validate()?;
        let mut arrivals = Arrivals::new(config.rate, Draw::new(config.seed, 0));
        let mut market = Market::new(config.instruments, Draw::new(config.seed, 1));
        let next = (arrivals.next_ns(), market.next());
        Ok(Sim {
            clock_ns,
            arrivals,
            market,
            faults: Draw::new(config.seed, 2),
            next,
            offset: 0,
            codes: vec![(0, 0); config.instruments as usize],
            batches: 0,
            config,
        })
    }

    /// Returns the ticks that have arrived by `now_ns`, at most `max_rows` of them; the others keep.
    pub fn due(&mut self, now_ns: i64, max_rows: usize) -> SimBatch {
        let elapsed_ns = now_ns.saturating_sub(self.clock_ns);
        let start_ns = self.config.start_ns.unwrap_or(self.clock_ns);
        self.batch(elapsed_ns, max_rows, |at| start_ns.saturating_add(at))
    }

    /// Returns the next `max_rows` ticks, whether they have arrived or not: as fast as possible.
    ///
    /// Without a [`start_ns`](SimConfig::start_ns) their event time is `now_ns`, since their own would run ahead of the
    /// clock.
    pub fn next_batch(&mut self, now_ns: i64, max_rows: usize) -> SimBatch {
        match self.config.start_ns {
            Some(start_ns) => self.batch(i64::MAX, max_rows, |at| start_ns.saturating_add(at)),
            None => self.batch(i64::MAX, max_rows, |_| now_ns),
        }
    }

    /// When the next tick arrives, on the caller's clock: nothing is due before.
    pub fn next_due_ns(&self) -> i64 {
        self.clock_ns.saturating_add(self.next.0)
    }

    /// Offset of the next tick.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn batch(&mut self, elapsed_ns: i64, max_rows: usize, event_time: impl Fn(i64) -> i64) -> SimBatch {
        let mut batch = SimBatch { first_offset: self.offset, ..SimBatch::default() };
        self.batches += 1;
        while self.next.0 <= elapsed_ns && batch.rows < max_rows.min(u32::MAX as usize) as u64 {
            let (at, print) = self.next;
            let message = batch.rows as u32;
            let faulty = self.config.faults > 0.0 && self.faults.unit() < self.config.faults;
            if faulty {
                self.push_faulty(&mut batch.decoded, message, &print, event_time(at));
            } else {
                self.push(&mut batch.decoded, message, &print, event_time(at));
            }
            batch.rows += 1;
            self.advance();
        }
        self.offset += batch.rows;
        batch
    }

    #[inline]
    fn advance(&mut self) {
        let arrival = self.arrivals.next_ns();
        let print = self.market.next();
        // A sweep is one order: all its trades come at the time of its first.
        self.next = (if print.sweeps { self.next.0 } else { arrival }, print);
    }

    #[inline]
    fn push(&mut self, out: &mut Decoded, message: u32, print: &Print, timestamp_ns: i64) {
        let (batch, code) = &mut self.codes[print.instrument];
        if *batch != self.batches {
            *batch = self.batches;
            *code = out.ticks.names.intern(self.market.id(print.instrument));
        }
        push_coded(&mut out.ticks, *code, (print.price, print.volume, timestamp_ns), (message, 0));
    }

    #[cold]
    fn push_faulty(&mut self, out: &mut Decoded, message: u32, print: &Print, timestamp_ns: i64) {
        let id = Cow::Borrowed(self.market.id(print.instrument));
        let mut row = Row { id, price: print.price, volume: print.volume, timestamp_ns };
        let kind = FaultKind::draw(&mut self.faults);
        if kind == FaultKind::Undecodable {
            out.undecodable.extend(faults::spoiled_bytes(&row, message, &mut self.faults));
            return;
        }
        kind.spoil(&mut row, &mut self.faults);
        out.ticks.push(&row.id, row.price, row.volume, row.timestamp_ns, message, 0);
    }
}
