//! The exact 20-minute VWAP of each instrument, in event time.
//!
//! # Definition
//! `vwap_20m` of a VALID trade i is Σ price·volume / Σ volume over the VALID trades j ≤ i, in tape order, of the same
//! instrument with time in (tᵢ − 20 min, tᵢ]. The rules see the same over the ticks that passed the screen, strictly
//! before i in tape order. The quotient of the exact sums is rounded once, so the relative error is at most 2⁻⁵³.
//!
//! # Late ticks, hold, eviction
//! Ticks may come in any order. W is the smallest time of the instrument's last 64 ticks. A tick is held until W − hold
//! reaches its time, and is then evicted for good. A tick is `late` if its window begins before the newest time that
//! was ever evicted: it is judged with what is held. What is not late has the exact value.
//!
//! # Running ahead
//! [`Windows::enter`] may run any number of ticks ahead of [`Windows::settle`]. Both answer by tape order: `enter` as
//! if its tick were the newest, `settle` as if no later tick had entered. How far one runs ahead changes no value.
//!
//! # Memory
//! 24 bytes for each held tick, for both windows together, and less than 10 % for what finds them; above
//! [`WindowConfig::max_bytes`] the busiest instruments go over to time buckets, see [`Windows::buckets`].
//!
//! The whole story: `docs/vwap.md`.

use crate::error::{Error, Result};
use buckets::Buckets;
use budget::Budget;
use exact::Sum;
use instrument::Instrument;
pub(crate) use segment::{Clock, Segment, Tick};

mod buckets;
mod budget;
mod entry;
mod exact;
mod graveyard;
mod instrument;
mod recent;
mod segment;
mod store;

#[cfg(test)]
#[path = "../tests/window_reference/mod.rs"]
mod reference;
#[cfg(test)]
mod tests;

/// How long ticks are looked back at and held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowConfig {
    /// Length of the window, ns, > 0; 20 minutes by default.
    pub window_ns: i64,
    /// How far behind the clock of an instrument a tick is held, ns, >= `window_ns`; 40 minutes by default.
    pub hold_ns: i64,
    /// Memory above which the busiest instruments go over to time buckets, bytes, > 0; none by default.
    pub max_bytes: Option<u64>,
}

impl Default for WindowConfig {
    fn default() -> Self {
        const MINUTE_NS: i64 = 60_000_000_000;
        Self { window_ns: 20 * MINUTE_NS, hold_ns: 40 * MINUTE_NS, max_bytes: None }
    }
}

/// What [`Windows::enter`] says of a tick.
#[derive(Debug)]
pub struct Entered {
    /// VWAP that the rules see, unit of the price: over the ticks of the instrument that entered before this one, with
    /// time in (t − window, t]; NaN if there is none.
    pub rules_vwap: f64,
    /// Whether its window begins before what was evicted, so that trades may be missing from it.
    pub late: bool,
    /// To be handed back with the verdict.
    pub ticket: Ticket,
}

/// A tick that waits for its verdict. Each must come back to [`Windows::settle`], whatever the verdict.
#[derive(Debug)]
#[must_use = "without its verdict an instrument's later ticks cannot be settled"]
pub struct Ticket {
    ordinal: u64,
    timestamp_ns: i64,
}

/// The windows of all instruments.
///
/// One thread at a time: queries move cursors.
///
/// # Examples
/// ```
/// use tickcast_core::window::{WindowConfig, Windows};
///
/// let mut windows = Windows::new(WindowConfig::default())?;
/// let first = windows.enter(0, 10.0, 1, 1_000);
/// assert!(first.rules_vwap.is_nan());
/// assert_eq!(windows.settle(0, first.ticket, true), 10.0);
/// let second = windows.enter(0, 40.0, 2, 2_000);
/// assert_eq!(second.rules_vwap, 10.0);
/// assert_eq!(windows.settle(0, second.ticket, true), 30.0);
/// # Ok::<(), tickcast_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Windows {
    config: WindowConfig,
    instruments: Vec<Slot>,
    budget: Budget,
}

/// The window of one instrument.
#[derive(Debug)]
enum Slot {
    /// No tick yet.
    Empty,
    /// Ticks one by one.
    Exact(Box<Instrument>),
    /// Time buckets.
    Buckets(Box<Buckets>),
}

/// An instrument that went over to time buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucketed {
    /// Its code.
    pub instrument: u32,
    /// Width of a bucket, ns: the ends of its windows are off by less.
    pub bucket_ns: i64,
    /// Greatest relative error that any of its values can have had since then.
    pub error_bound: f64,
}

impl Windows {
    /// Returns empty windows.
    ///
    /// # Errors
    /// [`Error::Config`] if `window_ns` is not positive, `hold_ns` is less than it, or `max_bytes` is 0.
    pub fn new(config: WindowConfig) -> Result<Self> {
        let wrong = |key, value: String, allowed| Err(Error::Config { key, value, allowed });
        if config.window_ns <= 0 {
            return wrong("window.minutes", format!("{} ns", config.window_ns), "must be above 0");
        }
        if config.hold_ns < config.window_ns {
            return wrong("window.hold", format!("{} ns", config.hold_ns), "must be at least the length of the window");
        }
        if config.max_bytes == Some(0) {
            return wrong("window.max_bytes", "0".to_owned(), "must be above 0");
        }
        Ok(Self { config, instruments: Vec::new(), budget: Budget::default() })
    }

    /// How long ticks are looked back at and held.
    pub fn config(&self) -> &WindowConfig {
        &self.config
    }

    /// Takes in a tick that passed the screen, next in tape order.
    ///
    /// # Panics
    /// If `price` is outside 1e-12 ..= 1e15 or `volume` is not above 0; the screen lets neither pass.
    #[inline]
    pub fn enter(&mut self, instrument: u32, price: f64, volume: i64, timestamp_ns: i64) -> Entered {
        check(price, volume);
        let at = instrument as usize;
        if at >= self.instruments.len() {
            self.instruments.resize_with(at + 1, || Slot::Empty);
        }
        let slot = &mut self.instruments[at];
        if let Slot::Empty = slot {
            *slot = Slot::Exact(Box::new(Instrument::new()));
        }
        let before = if self.config.max_bytes.is_some() { slot.budget() } else { 0 };
        let (ordinal, (rules_vwap, late)) = match slot {
            Slot::Exact(exact) => (exact.counts().0, exact.enter(&self.config, price, volume, timestamp_ns)),
            Slot::Buckets(buckets) => (buckets.entered(), buckets.enter(&self.config, price, volume, timestamp_ns)),
            Slot::Empty => unreachable!("it has just been filled"),
        };
        if let Some(max_bytes) = self.config.max_bytes {
            let after = slot.budget();
            self.keep_within(max_bytes, before, after, ordinal == 0);
        }
        Entered { rules_vwap, late, ticket: Ticket { ordinal, timestamp_ns } }
    }

    /// Takes the verdict on a tick, in the order of [`Windows::enter`] for each instrument; may come many ticks later.
    ///
    /// Returns `vwap_20m` of a VALID trade, unit of the price; NaN if it is not `valid`.
    ///
    /// # Panics
    /// If the instrument has no tick that waits for a verdict.
    #[inline]
    pub fn settle(&mut self, instrument: u32, ticket: Ticket, valid: bool) -> f64 {
        match self.instruments.get_mut(instrument as usize) {
            Some(Slot::Exact(exact)) => exact.settle(&self.config, &ticket, valid),
            Some(Slot::Buckets(buckets)) => buckets.settle(&self.config, &ticket, valid),
            _ => panic!("instrument {instrument} has no tick that waits for a verdict"),
        }
    }

    /// Returns what a tick would see that came now, without taking it in: the rules' VWAP, and its `vwap_20m` if it were
    /// VALID, over what is settled.
    ///
    /// # Panics
    /// As [`Windows::enter`].
    pub fn peek(&mut self, instrument: u32, price: f64, volume: i64, timestamp_ns: i64) -> (f64, f64) {
        check(price, volume);
        let after_ns = timestamp_ns.saturating_sub(self.config.window_ns);
        let [screened, mut valid] = match self.instruments.get_mut(instrument as usize) {
            Some(Slot::Exact(exact)) => exact.peek(after_ns, timestamp_ns),
            Some(Slot::Buckets(buckets)) => buckets.peek(after_ns, timestamp_ns),
            _ => [Sum::default(); 2],
        };
        valid += Sum::of(price, volume as u64);
        (screened.vwap(), valid.vwap())
    }

    /// Returns the oldest and the newest time that an instrument holds, ns; None where it holds nothing.
    pub fn span(&self, instrument: u32) -> Option<(i64, i64)> {
        match self.instruments.get(instrument as usize)? {
            Slot::Empty => None,
            Slot::Exact(exact) => exact.store.span(),
            Slot::Buckets(buckets) => buckets.span(),
        }
    }

    /// Whether any tick of the instrument waits for its verdict.
    pub fn is_waiting(&self, instrument: u32) -> bool {
        let (entered, settled) = match self.instruments.get(instrument as usize) {
            Some(Slot::Exact(exact)) => exact.counts(),
            Some(Slot::Buckets(buckets)) => buckets.counts(),
            _ => (0, 0),
        };
        entered != settled
    }

    /// Empties the window of an instrument, as if none of its ticks had ever come; none may wait for its verdict.
    pub fn forget(&mut self, instrument: u32) {
        if let Some(slot) = self.instruments.get_mut(instrument as usize) {
            let before = slot.budget();
            *slot = Slot::Empty;
            self.release(before);
        }
    }

    /// Number of ticks held one by one.
    pub fn held(&self) -> u64 {
        self.instruments.iter().filter_map(Slot::exact).map(|e| e.store.held() as u64).sum()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> u64 {
        let slots = self.instruments.capacity() * size_of::<Slot>();
        let used = self.instruments.iter().map(|slot| match slot {
            Slot::Empty => 0,
            Slot::Exact(exact) => exact.bytes(),
            Slot::Buckets(buckets) => buckets.bytes(),
        });
        (slots + used.sum::<usize>()) as u64
    }

    /// Instruments that went over to time buckets because memory came to [`WindowConfig::max_bytes`]; they stay there.
    pub fn buckets(&self) -> impl Iterator<Item = Bucketed> {
        self.instruments.iter().enumerate().filter_map(|(code, slot)| match slot {
            Slot::Buckets(buckets) => Some(Bucketed {
                instrument: code as u32,
                bucket_ns: buckets.width_ns(),
                error_bound: buckets.error_bound(),
            }),
            _ => None,
        })
    }
}

#[inline]
fn check(price: f64, volume: i64) {
    assert!(
        (exact::MIN_PRICE..=exact::MAX_PRICE).contains(&price) && volume > 0,
        "price {price} must be within 1e-12 ..= 1e15 and volume {volume} above 0"
    );
}
