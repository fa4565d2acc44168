//! When the pump does what: an absolute clock, cohorts, and a cycle as long as the work needs.
//!
//! A cycle serves every client once. Clients are divided into cohorts that take turns within the cycle, so that a
//! trade waits a cycle and one cohort at most, and neither the interpreter nor the network gets all clients at once.

use std::time::{Duration, Instant};

/// Fewest clients of a cohort: below that a step costs more than it spreads.
const COHORT: usize = 60;
/// The number of cohorts stays as long as it is wrong by less than one in so many. Clients who were served together stand
/// at the same place; divided anew each cycle, 5,000 with subscriptions of their own stood at forty.
const STEADY: usize = 4;
/// Shortest step worth waking up for.
const SHORTEST_STEP: Duration = Duration::from_micros(500);
/// What a client with news costs to begin with, s: most often one frame, of which the kernel's TCP is the larger part.
const FRAME_COST_S: f64 = 9e-6;
/// What it may seem to cost, s: below lies no machine, above it is something else that costs.
const COST_BOUNDS_S: (f64, f64) = (3e-6, 100e-6);
/// Weight of a new measurement of that cost. Threads' clocks tick on for frames of the cycle before, so one says little.
const COST_WEIGHT: f64 = 0.02;
/// Fewest clients with news that a measurement says something about.
const COST_FRAMES: usize = 50;
/// Share of a core that frames may take before the cycle grows. At 0.75 a cycle of 5,000 clients with subscriptions of
/// their own stood at 7 ms or at 40, as it happened: a longer one finds more of them with news, and needs to be longer.
const SHARE: f64 = 0.9;
/// Most that clients who don't keep up can widen the cycle.
const MOST_STRETCH: f64 = 8.0;
/// What is left of the widening after a cycle in which they did. On cores shared with broker and rules a scheduler's
/// hiccup widens too: 0.98 kept one for half a second, and one in twelve cycles was enough to widen for ever.
const RELAX: f64 = 0.9;

/// The pump's clock.
#[derive(Debug)]
pub struct Pace {
    shortest: Duration,
    cycle: Duration,
    stretch: f64,
    frame_cost_s: f64,
    cohorts: usize,
    cohort: usize,
    next: Instant,
}

/// What a cycle was like.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cycle {
    /// Clients now.
    pub clients: usize,
    /// Clients that got trades.
    pub with_news: usize,
    /// Processor time that the gateway's process used, all threads.
    pub cpu: Duration,
    /// Whether in some cohort more clients than usual had not taken what they got before.
    pub crowded: bool,
}

impl Pace {
    /// A clock whose cycle is at least `shortest`.
    pub fn new(shortest: Duration) -> Self {
        Pace {
            shortest,
            cycle: shortest,
            stretch: 1.0,
            frame_cost_s: FRAME_COST_S,
            cohorts: 1,
            cohort: 0,
            next: Instant::now(),
        }
    }

    /// Length of a cycle now.
    pub fn cycle(&self) -> Duration {
        self.cycle
    }

    /// Number of cohorts now.
    pub fn cohorts(&self) -> usize {
        self.cohorts
    }

    /// The cohort whose turn it is.
    pub fn cohort(&self) -> usize {
        self.cohort
    }

    /// Whether a cycle begins.
    pub fn at_start(&self) -> bool {
        self.cohort == 0
    }

    /// Starts the clock anew: it stood still while there was nothing to do.
    pub fn restart(&mut self, now: Instant) {
        self.next = now;
    }

    /// Goes to the next cohort; returns when its turn is. After the last one the cycle is planned from what it was like.
    pub fn advance(&mut self, now: Instant, cycle: impl FnOnce() -> Cycle) -> Instant {
        self.next += self.cycle / self.cohorts as u32;
        self.cohort += 1;
        if self.cohort >= self.cohorts {
            self.cohort = 0;
            self.plan(cycle());
        }
        if now > self.next + self.cycle {
            // More than a cycle late: what was missed is not made up for, it would only come in a heap.
            self.next = now;
        }
        self.next
    }

    fn plan(&mut self, last: Cycle) {
        self.stretch =
            if last.crowded { (self.stretch * 1.25).min(MOST_STRETCH) } else { (self.stretch * RELAX).max(1.0) };
        if last.with_news >= COST_FRAMES {
            let (least, most) = COST_BOUNDS_S;
            let cost_s = (last.cpu.as_secs_f64() / last.with_news as f64).clamp(least, most);
            self.frame_cost_s += COST_WEIGHT * (cost_s - self.frame_cost_s);
        }
        let needed = Duration::from_secs_f64(self.frame_cost_s * last.with_news as f64 / SHARE);
        self.cycle = needed.max(self.shortest).mul_f64(self.stretch);
        let most = (self.cycle.as_micros() / SHORTEST_STEP.as_micros()).max(1) as usize;
        let wanted = (last.clients / COHORT).clamp(1, most);
        if wanted.abs_diff(self.cohorts) * STEADY > self.cohorts || last.clients < self.cohorts {
            self.cohorts = wanted;
        }
    }
}

/// Whether `late` of `clients` in a cohort are more than the odd one.
pub fn is_crowded(late: usize, clients: usize) -> bool {
    late >= 2 && late * 10 > clients
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn run(pace: &mut Pace, cycles: usize, like: Cycle) {
        let mut now = Instant::now();
        pace.restart(now);
        for _ in 0..cycles {
            loop {
                now = pace.advance(now, || like);
                if pace.at_start() {
                    break;
                }
            }
        }
    }

    #[test]
    fn cycle_follows_the_clients_that_have_news() {
        let mut pace = Pace::new(5 * MS);
        run(&mut pace, 2, Cycle { clients: 600, with_news: 600, cpu: Duration::from_micros(5_400), crowded: false });
        assert_eq!(pace.cycle(), Duration::from_micros(6_000));
        assert_eq!(pace.cohorts(), 10);
        run(&mut pace, 1, Cycle { clients: 600, with_news: 10, ..Cycle::default() });
        assert_eq!(pace.cycle(), 5 * MS);
    }

    #[test]
    fn cycle_follows_what_a_frame_costs() {
        let mut pace = Pace::new(5 * MS);
        run(&mut pace, 1_000, Cycle { clients: 500, with_news: 500, cpu: 9 * MS, crowded: false });
        assert!((pace.cycle().as_secs_f64() - 0.010).abs() < 1e-4, "{:?}", pace.cycle());
        run(&mut pace, 1_000, Cycle { clients: 500, with_news: 500, cpu: Duration::ZERO, crowded: false });
        assert_eq!(pace.cycle(), 5 * MS);
    }

    #[test]
    fn crowded_cohorts_widen_the_cycle_and_it_comes_back() {
        let mut pace = Pace::new(5 * MS);
        run(&mut pace, 4, Cycle { clients: 100, with_news: 100, cpu: Duration::from_micros(900), crowded: true });
        assert!(pace.cycle() > 10 * MS && pace.cycle() <= 40 * MS, "{:?}", pace.cycle());
        run(&mut pace, 200, Cycle { clients: 100, with_news: 100, cpu: Duration::from_micros(900), crowded: false });
        assert_eq!(pace.cycle(), 5 * MS);
    }

    #[test]
    fn steps_of_a_cycle_fill_it_evenly_on_an_absolute_clock() {
        let mut pace = Pace::new(6 * MS);
        run(&mut pace, 1, Cycle { clients: 180, ..Cycle::default() });
        assert_eq!(pace.cohorts(), 3);
        let start = Instant::now();
        pace.restart(start);
        let due: Vec<_> = (0..3).map(|_| pace.advance(start, Cycle::default) - start).collect();
        assert_eq!(due, [2 * MS, 4 * MS, 6 * MS]);
    }

    #[test]
    fn cohorts_stay_while_the_cycle_varies_a_little() {
        let mut pace = Pace::new(10 * MS);
        let like = |with_news| Cycle {
            clients: 5_000,
            with_news,
            cpu: Duration::from_micros(9) * with_news as u32,
            crowded: false,
        };
        run(&mut pace, 1, like(1_700));
        let cohorts = pace.cohorts();
        assert_eq!(cohorts, 34);
        for with_news in [1_600, 1_750, 1_500, 1_700] {
            run(&mut pace, 1, like(with_news));
            assert_eq!(pace.cohorts(), cohorts);
        }
        run(&mut pace, 1, like(900));
        assert_eq!(pace.cohorts(), 20);
    }

    #[test]
    fn lateness_beyond_a_cycle_is_not_made_up_for() {
        let mut pace = Pace::new(5 * MS);
        let late = Instant::now() + Duration::from_secs(1);
        assert_eq!(pace.advance(late, Cycle::default), late);
    }

    #[test]
    fn the_odd_late_client_does_not_crowd() {
        assert!(!is_crowded(1, 5) && !is_crowded(10, 100) && is_crowded(2, 10) && is_crowded(11, 100));
    }
}
