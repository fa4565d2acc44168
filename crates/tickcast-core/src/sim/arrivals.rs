//! When ticks arrive: in bursts, at an exact mean rate.
//!
//! Each simulated second has its exact share of arrivals (the whole numbers that `rate · t` passes within it), and so
//! the mean is the rate whatever the bursts do. Within the second they follow an intensity that is drawn anew for each
//! of its slots: most of them quiet, some hot, heat lasting for a few slots, as clusters of trades do.

use super::draw::{Draw, exp2};

const SECOND_NS: f64 = 1e9;
/// Slots of a second: bursts of 4 ms and more.
const SLOTS: usize = 256;
/// Doublings of intensity from one slot to the next, as a standard deviation, and what of them lasts.
const HEAT_STEP: f64 = 1.1;
const HEAT_KEPT: f64 = 0.8;

/// The arrivals, one after another.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    rate: f64,
    draw: Draw,
    /// The second that is being played, from 0; how many arrivals it has, and how many of them are gone.
    second: u64,
    count: u64,
    gone: u64,
    /// Arrivals until the end of each slot, out of `count`.
    until: [f64; SLOTS + 1],
    slot: usize,
    heat: f64,
}

impl Arrivals {
    /// `rate` per second, > 0.
    pub fn new(rate: f64, draw: Draw) -> Self {
        let mut arrivals =
            Arrivals { rate, draw, second: 0, count: 0, gone: 0, until: [0.0; SLOTS + 1], slot: 0, heat: 0.0 };
        arrivals.begin_second();
        arrivals
    }

    /// Returns the next arrival, ns since the start; never less than the one before.
    #[inline]
    pub fn next_ns(&mut self) -> i64 {
        while self.gone == self.count {
            self.second += 1;
            self.begin_second();
        }
        // The arrivals cut the second's intensity into equal parts, one in each, at random within its part.
        let place = self.gone as f64 + self.draw.unit();
        self.gone += 1;
        while self.slot < SLOTS - 1 && self.until[self.slot + 1] <= place {
            self.slot += 1;
        }
        let (from, to) = (self.until[self.slot], self.until[self.slot + 1]);
        let within = ((place - from) / (to - from)).clamp(0.0, 1.0);
        let second = (self.slot as f64 + within) * (SECOND_NS / SLOTS as f64);
        self.second as i64 * 1_000_000_000 + (second as i64).min(999_999_999)
    }

    fn begin_second(&mut self) {
        let until = |second: u64| (self.rate * second as f64).floor() as u64;
        self.count = until(self.second + 1) - until(self.second);
        self.gone = 0;
        self.slot = 0;
        if self.count == 0 {
            return;
        }
        let mut sum = 0.0;
        for slot in 0..SLOTS {
            self.heat = self.heat * HEAT_KEPT + self.draw.normal() * HEAT_STEP;
            sum += exp2(self.heat);
            self.until[slot + 1] = sum;
        }
        let scale = self.count as f64 / sum;
        self.until.iter_mut().for_each(|until| *until *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_has_its_exact_share_in_order() {
        for rate in [0.4, 1.0, 7.5, 5000.0] {
            let mut arrivals = Arrivals::new(rate, Draw::new(3, 0));
            let mut per_second = vec![0u64; 40];
            let mut last = 0;
            loop {
                let at = arrivals.next_ns();
                assert!(at >= last);
                last = at;
                match per_second.get_mut((at / 1_000_000_000) as usize) {
                    Some(count) => *count += 1,
                    None => break,
                }
            }
            for second in 1..=40 {
                let so_far: u64 = per_second[..second].iter().sum();
                assert_eq!(so_far, (rate * second as f64).floor() as u64, "{rate} {second}");
            }
        }
    }

    #[test]
    fn arrivals_are_bursty_far_beyond_a_poisson_process() {
        let mut arrivals = Arrivals::new(10_000.0, Draw::new(3, 0));
        let mut per_10_ms = vec![0f64; 2000];
        for _ in 0..200_000 {
            per_10_ms[(arrivals.next_ns() / 10_000_000) as usize] += 1.0;
        }
        let mean = 100.0;
        let variance = per_10_ms.iter().map(|n| (n - mean) * (n - mean)).sum::<f64>() / 2000.0;
        assert!(variance / mean > 20.0, "{variance}: a Poisson process has {mean}");
        assert!(per_10_ms.iter().any(|&n| n > 10.0 * mean), "no burst of ten times the mean");
    }
}
