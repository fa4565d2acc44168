//! From decoded ticks to judged trades: screen, rules' VWAP, then (after the rules have spoken) the VALID VWAP.
//!
//! The rules run between the two halves, anywhere: [`Judge::begin`] screens a batch, lets its ticks enter the
//! windows and lays out the columns that the rules see; [`Judge::settle`] takes their verdicts and gives trades.
//! Batches may be begun far ahead, but are settled in the order in which they were begun: the outcome depends
//! neither on batch sizes nor on how far ahead.

use crate::horizon::{Horizon, Horizons};
use crate::position::{Origin, Position};
use crate::screen::{Screen, ScreenConfig};
use crate::tape::flags;
use crate::tick::{Broken, Names, TickBatch};
use crate::trade::Status;
use crate::window::{Clock, Segment, Ticket, WindowConfig, Windows};
use crate::{Error, Result};
use judged::Verdict;
pub use judged::{Judged, Stages};

mod judged;

/// Screens ticks and holds the windows of all instruments.
#[derive(Debug)]
pub struct Judge {
    screen: Screen,
    windows: Windows,
    names: Names,
    event_clock_ns: i64,
    hold_ns: i64,
    /// Kept for logs only: streams without positions are new ones at every start.
    horizons: Option<Horizons>,
}

/// The window of one instrument.
pub(crate) struct WindowOf<'j> {
    windows: &'j mut Windows,
    code: u32,
}

impl WindowOf<'_> {
    /// Takes the next segment in; false if it can't be one.
    pub fn take_segment(self, segment: &Segment) -> bool {
        self.windows.take_segment(self.code, segment)
    }

    /// Sets what it knows beyond its ticks; false if that can't be.
    pub fn set_clock(self, clock: &Clock) -> bool {
        self.windows.set_clock(self.code, clock)
    }
}

/// A screened batch on its way to the rules.
///
/// The columns hold one row for each tick that passed the screen, in order, `passed.len()` rows.
#[derive(Debug, Default)]
pub struct Pending {
    ticks: TickBatch,
    origin: Origin,
    flags: Vec<u8>,
    faults: Vec<Refusal>,
    tickets: Tickets,
    passed: Vec<u32>,
    /// Price, quote currency per unit.
    pub price: Vec<f64>,
    /// Volume, units traded.
    pub volume: Vec<i64>,
    /// Event time, ns since the Unix epoch, UTC.
    pub timestamp_ns: Vec<i64>,
    /// The judge's code of the instrument ([`Judge::names`]).
    pub instrument: Vec<i32>,
    /// VWAP over what passed the screen strictly earlier; NaN where there is nothing.
    pub rules_vwap: Vec<f64>,
    /// Event clock: the largest event time that has passed the screen up to and with this tick, ns.
    pub event_clock_ns: Vec<i64>,
    /// Ticks judged without what was evicted.
    pub late: u64,
    /// Ticks stamped on arrival.
    pub stamped: u64,
}

/// What the screen refused.
#[derive(Debug)]
struct Refusal {
    row: u32,
    reason: String,
    reason_is_text: bool,
    observed: f64,
    limit: f64,
}

/// How a pending row gets its VALID VWAP.
#[derive(Debug)]
enum Tickets {
    /// It entered the windows.
    Entered(std::vec::IntoIter<Ticket>),
    /// It did not: VWAP as if it were VALID, computed at once.
    Peeked(Vec<f64>),
}

impl Default for Tickets {
    fn default() -> Self {
        Tickets::Entered(Vec::new().into_iter())
    }
}

/// What the rules say of a pending batch; each column has a row for each row that passed the screen.
#[derive(Debug, Clone, Copy)]
pub struct Verdicts<'a> {
    /// Status numbers (0 UNKNOWN, 1 VALID, 2 INVALID).
    pub status: &'a [u8],
    /// Index into `reasons`; 0: none.
    pub reason: &'a [u32],
    /// Reasons and whether each is free text (not declared by a rule); the first is not used.
    pub reasons: &'a [(String, bool)],
    /// Number of the rule that refused, from 1; 0: none.
    pub rule: &'a [u16],
    /// Observed value; NaN where the rule gave none.
    pub observed: &'a [f64],
    /// Limit; NaN where the rule gave none.
    pub limit: &'a [f64],
    /// Enrichments, one column after the other.
    pub enrichments: &'a [f64],
}

impl Judge {
    /// Returns a judge with empty windows.
    ///
    /// # Errors
    /// [`Error::Config`] for bounds or window lengths that are not allowed.
    pub fn new(screen: ScreenConfig, window: WindowConfig) -> Result<Self> {
        let hold_ns = window.hold_ns;
        Ok(Judge {
            screen: Screen::new(screen)?,
            windows: Windows::new(window)?,
            names: Names::default(),
            event_clock_ns: 0,
            hold_ns,
            horizons: None,
        })
    }

    /// The instruments that have passed the screen, by the judge's code.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The windows, for their figures.
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Largest event time that has passed the screen, ns.
    pub fn event_clock_ns(&self) -> i64 {
        self.event_clock_ns
    }

    /// Has the event clock show this time at least.
    pub(crate) fn advance_clock(&mut self, time_ns: i64) {
        self.event_clock_ns = self.event_clock_ns.max(time_ns);
    }

    /// Empties all windows.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.windows = Windows::new(*self.windows.config())?;
        self.event_clock_ns = 0;
        Ok(())
    }

    /// The window of an instrument, to be filled.
    pub(crate) fn windows_of(&mut self, instrument_id: &str) -> WindowOf<'_> {
        let code = self.names.intern(instrument_id);
        WindowOf { windows: &mut self.windows, code }
    }

    /// Screens `ticks` and lets those that pass enter the windows.
    ///
    /// `broken` are the rows that stand for what could not be decoded, in order
    /// ([`Decoded::with_rows_for_broken`](crate::Decoded::with_rows_for_broken)); none where that goes elsewhere.
    /// `live`: ticks without a timestamp are stamped (broker's time, else arrival) and those too far ahead of
    /// their arrival refused; a recorded file has neither, a tick without a timestamp is refused there.
    pub fn begin(&mut self, ticks: TickBatch, broken: Vec<Broken>, origin: Origin, live: bool) -> Pending {
        let mut p = self.screened(ticks, broken, origin, live);
        p.rules_vwap.reserve_exact(p.passed.len());
        p.event_clock_ns.reserve_exact(p.passed.len());
        let mut tickets = Vec::with_capacity(p.passed.len());
        for i in 0..p.passed.len() {
            let code = p.instrument[i] as u32;
            let entered = self.windows.enter(code, p.price[i], p.volume[i], p.timestamp_ns[i]);
            p.rules_vwap.push(entered.rules_vwap);
            if entered.late {
                p.late += 1;
                p.flags[p.passed[i] as usize] |= flags::LATE;
            }
            self.event_clock_ns = self.event_clock_ns.max(p.timestamp_ns[i]);
            p.event_clock_ns.push(self.event_clock_ns);
            tickets.push(entered.ticket);
        }
        p.tickets = Tickets::Entered(tickets.into_iter());
        if let Some(horizons) = &mut self.horizons {
            horizons.note(&p.ticks, &p.origin, &p.passed, &p.instrument);
        }
        p
    }

    /// Screens `ticks` and judges them against the windows without entering them.
    pub fn peek(&mut self, ticks: TickBatch, broken: Vec<Broken>, origin: Origin) -> Pending {
        let mut p = self.screened(ticks, broken, origin, true);
        let mut vwaps = Vec::with_capacity(p.passed.len());
        for i in 0..p.passed.len() {
            let code = p.instrument[i] as u32;
            let (rules_vwap, if_valid) = self.windows.peek(code, p.price[i], p.volume[i], p.timestamp_ns[i]);
            p.rules_vwap.push(rules_vwap);
            p.event_clock_ns.push(self.event_clock_ns.max(p.timestamp_ns[i]));
            vwaps.push(if_valid);
        }
        p.tickets = Tickets::Peeked(vwaps);
        p
    }

    /// Takes a trade of an earlier life of the tape into the windows.
    pub fn refill(
        &mut self,
        instrument_id: &str,
        price: f64,
        volume: i64,
        timestamp_ns: i64,
        valid: bool,
        at: Position,
    ) {
        let code = self.names.intern(instrument_id);
        if let Some(horizons) = &mut self.horizons {
            horizons.note_tick(at.stream, at.partition, at.offset, timestamp_ns, code);
        }
        let ticket = self.windows.enter(code, price, volume, timestamp_ns).ticket;
        self.windows.settle(code, ticket, valid);
        self.event_clock_ns = self.event_clock_ns.max(timestamp_ns);
    }

    /// Lays out a tick of an earlier life of the tape for the rules to see again, behind those in `seen`.
    pub fn show_again(
        &mut self,
        seen: &mut Pending,
        instrument_id: &str,
        price: f64,
        volume: i64,
        timestamp_ns: i64,
        rules_vwap: f64,
    ) {
        let code = self.names.intern(instrument_id);
        let clock_ns = seen.event_clock_ns.last().map_or(timestamp_ns, |&clock_ns| clock_ns.max(timestamp_ns));
        seen.passed.push(seen.passed.len() as u32);
        seen.price.push(price);
        seen.volume.push(volume);
        seen.timestamp_ns.push(timestamp_ns);
        seen.instrument.push(code as i32);
        seen.rules_vwap.push(rules_vwap);
        seen.event_clock_ns.push(clock_ns);
    }

    /// Begins to keep the [`Judge::horizons`] of what enters: for sources that can be read again, and for rules that
    /// look back by `lookback_ns` (0: they don't).
    pub fn keep_horizons(&mut self, lookback_ns: i64) {
        self.horizons.get_or_insert_with(|| Horizons::new(lookback_ns));
    }

    /// From where each source partition would have to be read again to have the windows as they are now.
    pub fn horizons(&mut self) -> Vec<Horizon> {
        let Judge { horizons, windows, hold_ns, .. } = self;
        horizons.as_mut().map_or_else(Vec::new, |kept| kept.all(*hold_ns, |code| windows.span(code)))
    }

    /// Empties the windows of a source partition's instruments: another reader has gone on with them meanwhile.
    ///
    /// False, and nothing is done, while a tick of theirs waits for its verdict.
    pub fn forget(&mut self, stream: u32, partition: u16) -> bool {
        let Some(horizons) = &mut self.horizons else { return true };
        let codes = horizons.instruments(stream, partition);
        if codes.iter().any(|&code| self.windows.is_waiting(code)) {
            return false;
        }
        horizons.forget(stream, partition);
        codes.iter().for_each(|&code| self.windows.forget(code));
        true
    }

    /// Takes the verdicts on the batch that was begun first of those not yet settled.
    ///
    /// # Errors
    /// [`Error::Config`] when a column has not one row for each row that passed the screen; the batch is then
    /// still taken out of the windows' order as refused, so that later batches can go on.
    pub fn settle(&mut self, mut pending: Pending, verdicts: Verdicts<'_>) -> Result<Judged> {
        let shape = verdicts.check(pending.passed.len());
        let mut tickets = std::mem::take(&mut pending.tickets);
        let mut verdict = vec![Verdict::REFUSED; pending.ticks.len()];
        for (i, &row) in pending.passed.iter().enumerate() {
            let status = match shape {
                Ok(_) => Status::from_number(verdicts.status[i]).unwrap_or(Status::Invalid),
                Err(_) => Status::Invalid,
            };
            let valid = status == Status::Valid;
            let vwap_20m = match &mut tickets {
                Tickets::Entered(left) => left
                    .next()
                    .map_or(f64::NAN, |ticket| self.windows.settle(pending.instrument[i] as u32, ticket, valid)),
                Tickets::Peeked(vwaps) if valid => vwaps[i],
                Tickets::Peeked(_) => f64::NAN,
            };
            if shape.is_ok() {
                verdict[row as usize] = Verdict {
                    status,
                    rule: verdicts.rule[i],
                    reason: verdicts.reason[i],
                    vwap_20m,
                    rules_vwap: pending.rules_vwap[i],
                    observed: verdicts.observed[i],
                    limit: verdicts.limit[i],
                };
            }
        }
        let enrichment_count = shape?;
        Ok(Judged::new(pending, verdict, verdicts, enrichment_count))
    }

    fn screened(&mut self, mut ticks: TickBatch, broken: Vec<Broken>, origin: Origin, live: bool) -> Pending {
        let n = ticks.len();
        let mut broken = broken.into_iter().peekable();
        let mut p = Pending {
            flags: vec![0; n],
            passed: Vec::with_capacity(n),
            price: Vec::with_capacity(n),
            volume: Vec::with_capacity(n),
            timestamp_ns: Vec::with_capacity(n),
            instrument: Vec::with_capacity(n),
            ..Pending::default()
        };
        // What the screen says of an id, and its code, are looked up once a batch.
        let mut bands: Vec<Option<(f64, f64)>> = vec![None; ticks.names.len()];
        let mut codes: Vec<Option<u32>> = vec![None; ticks.names.len()];
        for row in 0..n {
            let message = ticks.message[row] as usize;
            let arrival_ns = origin.arrival_ns.get(message).copied().unwrap_or(0);
            if let Some(Broken { reason, .. }) = broken.next_if(|b| b.row as usize == row) {
                ticks.timestamp_ns[row] = arrival_ns;
                let nan = f64::NAN;
                p.faults.push(Refusal { row: row as u32, reason, reason_is_text: true, observed: nan, limit: nan });
                continue;
            }
            if live && ticks.timestamp_ns[row] == 0 {
                let broker_ns = origin.broker_ns.get(message).copied().unwrap_or(0);
                ticks.timestamp_ns[row] = if broker_ns > 0 { broker_ns } else { arrival_ns };
                p.flags[row] |= flags::STAMPED;
                p.stamped += 1;
            }
            let (price, volume, timestamp_ns) = (ticks.price[row], ticks.volume[row], ticks.timestamp_ns[row]);
            let local = ticks.instrument[row] as usize;
            let band = match bands[local] {
                Some(band) => Ok(band),
                None => self
                    .screen
                    .check_id(ticks.id(row))
                    .map(|()| *bands[local].insert(self.screen.band_of(ticks.id(row)))),
            };
            // The broker's time is the same whenever the message is read, so that a re-run judges alike.
            let came_ns = origin.broker_ns.get(message).copied().filter(|&ns| ns > 0).unwrap_or(arrival_ns);
            let came_ns = live.then_some(came_ns);
            match band.and_then(|band| self.screen.check_numbers(band, price, volume, timestamp_ns, came_ns)) {
                Err(fault) => p.faults.push(Refusal {
                    row: row as u32,
                    reason: fault.to_string(),
                    reason_is_text: !fault.is_band(),
                    observed: fault.observed(),
                    limit: fault.limit(),
                }),
                Ok(()) => {
                    let code = match codes[local] {
                        Some(code) => code,
                        None => *codes[local].insert(self.names.intern(ticks.names.get(local as u32))),
                    };
                    p.flags[row] |= flags::SCREENED;
                    p.passed.push(row as u32);
                    p.price.push(price);
                    p.volume.push(volume);
                    p.timestamp_ns.push(timestamp_ns);
                    p.instrument.push(code as i32);
                }
            }
        }
        p.ticks = ticks;
        p.origin = origin;
        p
    }
}

impl Pending {
    /// Number of ticks that passed the screen.
    pub fn passed(&self) -> usize {
        self.passed.len()
    }

    /// Where the ticks stood upstream that passed the screen, in order.
    pub fn passed_positions(&self) -> impl Iterator<Item = Position> {
        self.passed.iter().map(|&row| {
            let row = row as usize;
            self.origin.position(self.ticks.message[row] as usize, self.ticks.index[row])
        })
    }

    /// Number of ticks, the refused ones included.
    pub fn len(&self) -> usize {
        self.ticks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ticks.is_empty()
    }
}

impl Verdicts<'_> {
    /// Returns how many enrichments there are.
    fn check(&self, rows: usize) -> Result<usize> {
        let lengths = [
            self.status.len(),
            self.reason.len(),
            self.rule.len(),
            self.observed.len(),
            self.limit.len(),
            self.enrichments.len().checked_rem(rows).map_or(rows, |rest| rows + rest),
        ];
        let bad_reason = self.reason.iter().any(|&r| r as usize >= self.reasons.len().max(1));
        if lengths.iter().any(|&l| l != rows) || bad_reason {
            return Err(Error::Config {
                key: "verdicts",
                value: format!("{lengths:?} rows for {rows} ticks, {} reasons", self.reasons.len()),
                allowed: "every column has one row for each tick that passed the screen",
            });
        }
        Ok(self.enrichments.len().checked_div(rows).unwrap_or(0))
    }
}
