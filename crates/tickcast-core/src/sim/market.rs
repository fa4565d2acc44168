//! Instruments with prices that walk in tick sizes, trade in sizes of their own, and some much more than others.

use super::draw::{Draw, exp2};
use std::collections::HashSet;

/// Ids with price, tick size and usual volume; more are made up where these don't do.
const NAMED: [(&str, f64, u32, f64); 40] = [
    ("AAPL", 228.0, 2, 120.0),
    ("MSFT", 431.0, 2, 90.0),
    ("NVDA", 137.0, 2, 200.0),
    ("EUR/USD", 1.0852, 5, 100_000.0),
    ("SPY", 584.0, 2, 150.0),
    ("TSLA", 262.0, 2, 110.0),
    ("ETH/USD", 2683.0, 2, 4.0),
    ("AMZN", 189.0, 2, 100.0),
    ("USD/JPY", 151.83, 3, 100_000.0),
    ("QQQ", 496.0, 2, 120.0),
    ("GBP/USD", 1.2981, 5, 100_000.0),
    ("META", 574.0, 2, 60.0),
    ("AMD", 155.0, 2, 130.0),
    ("SOL/USD", 171.0, 2, 40.0),
    ("GOOGL", 165.0, 2, 90.0),
    ("XOM", 118.0, 2, 100.0),
    ("JPM", 224.0, 2, 60.0),
    ("USD/CHF", 0.8661, 5, 100_000.0),
    ("BAC", 42.3, 2, 300.0),
    ("INTC", 22.4, 2, 400.0),
    ("NIO", 5.2, 2, 500.0),
    ("SAP.DE", 213.0, 2, 40.0),
    ("VOD.L", 73.0, 2, 2000.0),
    ("NESN.S", 84.0, 2, 120.0),
    ("PEP", 171.0, 2, 150.0),
    ("DIS", 96.0, 2, 90.0),
    ("WMT", 81.0, 2, 120.0),
    ("PFE", 28.7, 2, 350.0),
    ("XRP/USD", 0.5312, 4, 3000.0),
    ("AUD/USD", 0.6634, 5, 100_000.0),
    ("NFLX", 755.0, 2, 30.0),
    ("CAT", 391.0, 2, 70.0),
    ("CSCO", 56.0, 2, 180.0),
    ("CMCSA", 42.9, 2, 500.0),
    ("ESZ4", 5835.25, 2, 3.0),
    ("NQZ4", 9405.5, 2, 2.0),
    ("CLF5", 69.4, 2, 5.0),
    ("GCZ4", 2741.3, 1, 3.0),
    ("ZNZ4", 110.6, 2, 12.0),
    ("PLTR", 44.9, 2, 400.0),
];

/// Most instruments: four letters have more names than that.
pub(super) const MAX_INSTRUMENTS: u32 = 65_536;

/// Prices stay below this share of the default band's upper end, and above 0.2: no accident leaves the band.
const HIGHEST: f64 = 9_500.0;
const LOWEST: f64 = 0.2;
const POWERS: [f64; 6] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5];

/// One instrument.
#[derive(Debug, Clone)]
struct Instrument {
    id: String,
    /// Middle of the book, in units of 10^-places.
    middle: i64,
    places: u32,
    /// Where `middle` may go.
    lowest: i64,
    highest: i64,
    /// Half a spread, in the same units.
    half_spread: i64,
    usual_volume: f64,
    /// Trades in lots of a hundred, mostly.
    round_lots: bool,
}

/// A trade of the market.
#[derive(Debug, Clone, Copy)]
pub(super) struct Print {
    /// Index of the instrument.
    pub instrument: usize,
    /// Price, quote currency per unit.
    pub price: f64,
    /// Units traded.
    pub volume: i64,
    /// A further trade of the order that the one before belongs to: same instrument and time.
    pub sweeps: bool,
}

/// All instruments.
#[derive(Debug, Clone)]
pub(super) struct Market {
    instruments: Vec<Instrument>,
    activity: Alias,
    draw: Draw,
    last: usize,
    buyer: bool,
    sweeping: bool,
}

impl Market {
    /// `count` instruments, 1 to [`MAX_INSTRUMENTS`]; the k-th busiest trades 1/k as often as the busiest.
    pub fn new(count: u32, mut draw: Draw) -> Self {
        let mut taken: HashSet<String> = HashSet::new();
        let mut instruments = Vec::with_capacity(count as usize);
        for &(id, price, places, volume) in NAMED.iter().take(count as usize) {
            taken.insert(id.to_owned());
            instruments.push(Instrument::new(id.to_owned(), price, places, volume));
        }
        let mut k = 0u64;
        while instruments.len() < count as usize {
            let id = made_up(k);
            k += 1;
            if !taken.contains(&id) {
                let price = exp2(3.0 + 6.0 * draw.unit());
                let volume = exp2(5.0 + 4.0 * draw.unit());
                instruments.push(Instrument::new(id, price, 2, volume));
            }
        }
        Market { activity: Alias::zipf(count), instruments, draw, last: 0, buyer: true, sweeping: false }
    }

    /// The id of an instrument.
    pub fn id(&self, instrument: usize) -> &str {
        &self.instruments[instrument].id
    }

    /// Returns the next trade.
    #[inline]
    pub fn next(&mut self) -> Print {
        let sweeps = self.sweeping;
        if !sweeps {
            self.last = self.activity.pick(&mut self.draw);
            self.buyer = self.draw.bits() >> 63 == 0;
        }
        self.sweeping = self.draw.one_in(6);
        let draw = &mut self.draw;
        let it = &mut self.instruments[self.last];
        it.step(draw, sweeps, self.buyer);
        let side = if self.buyer { it.half_spread } else { -it.half_spread };
        let price = (it.middle + side) as f64 / POWERS[it.places as usize];
        Print { instrument: self.last, price, volume: it.volume(draw), sweeps }
    }
}

impl Instrument {
    fn new(id: String, price: f64, places: u32, usual_volume: f64) -> Self {
        let unit = POWERS[places as usize];
        let whole = |price: f64| (price * unit).round() as i64;
        Instrument {
            id,
            middle: whole(price),
            places,
            lowest: whole((price / 3.0).max(LOWEST)),
            highest: whole((price * 3.0).min(HIGHEST)),
            // A spread of some 2 basis points, at least of two units.
            half_spread: whole(price / 10_000.0).max(1),
            usual_volume,
            round_lots: places == 2 && usual_volume > 20.0,
        }
    }

    /// Moves the price: a sweep eats into the book, else a small step most times, and now and then a jump.
    #[inline]
    fn step(&mut self, draw: &mut Draw, sweeps: bool, buyer: bool) {
        let step = if sweeps {
            if buyer { 1 } else { -1 }
        } else if draw.one_in(20_000) {
            // 0.4 to 3.2 percent, either way.
            let size = (self.middle as f64 * (0.004 + 0.028 * draw.unit())) as i64 + 1;
            if draw.one_in(2) { size } else { -size }
        } else {
            match draw.bits() >> 62 {
                0 => -1,
                1 => 1,
                _ => 0,
            }
        };
        self.middle = (self.middle + step).clamp(self.lowest, self.highest);
    }

    /// Lognormal around the usual volume, at least 1; three in four of a share's trades are round lots.
    #[inline]
    fn volume(&self, draw: &mut Draw) -> i64 {
        let volume = (self.usual_volume * exp2(draw.normal() * 1.4)) as i64 + 1;
        if self.round_lots && volume >= 50 && !draw.one_in(4) { (volume + 50) / 100 * 100 } else { volume }
    }
}

/// A choice among instruments with given weights, in constant time (Walker's alias method).
#[derive(Debug, Clone)]
struct Alias {
    /// By column: below the threshold (of 2^63) the column itself is chosen, else the other one.
    columns: Vec<(u64, u32)>,
}

impl Alias {
    /// The k-th of `count` has weight 1/k.
    fn zipf(count: u32) -> Self {
        let sum: f64 = (1..=count).map(|k| 1.0 / f64::from(k)).sum();
        // Average weight 1.
        let mut weights: Vec<f64> = (1..=count).map(|k| f64::from(count) / (f64::from(k) * sum)).collect();
        let mut columns: Vec<(u64, u32)> = (0..count).map(|k| (1 << 63, k)).collect();
        // Weights fall with k: those above 1 are a run at the front.
        let heavy_ones = weights.iter().take_while(|w| **w >= 1.0).count() as u32;
        let mut light: Vec<u32> = (heavy_ones..count).collect();
        let mut heavy: Vec<u32> = (0..heavy_ones).rev().collect();
        while let (Some(l), Some(&h)) = (light.pop(), heavy.last()) {
            let weight = weights[l as usize];
            columns[l as usize] = ((weight * (1u64 << 63) as f64) as u64, h);
            weights[h as usize] -= 1.0 - weight;
            if weights[h as usize] < 1.0 {
                heavy.pop();
                light.push(h);
            }
        }
        Alias { columns }
    }

    #[inline]
    fn pick(&self, draw: &mut Draw) -> usize {
        let product = u128::from(draw.bits()) * self.columns.len() as u128;
        let (column, fraction) = ((product >> 64) as usize, product as u64);
        let (threshold, other) = self.columns[column];
        if fraction >> 1 < threshold { column } else { other as usize }
    }
}

/// Returns the `k`-th made-up id: four letters, a permutation of all 26^4, so that neighbours look unlike.
fn made_up(k: u64) -> String {
    const ALL: u64 = 26 * 26 * 26 * 26;
    // 195,163 is coprime to 26.
    let mut code = (k * 195_163 + 68_741) % ALL;
    let mut id = [b'A'; 4];
    for letter in &mut id {
        *letter += (code % 26) as u8;
        code /= 26;
    }
    id.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_of_3_to_8_characters() {
        let market = Market::new(MAX_INSTRUMENTS, Draw::new(1, 0));
        let ids: HashSet<&str> = (0..MAX_INSTRUMENTS as usize).map(|k| market.id(k)).collect();
        assert_eq!(ids.len(), MAX_INSTRUMENTS as usize);
        assert!(ids.iter().all(|id| (3..=8).contains(&id.len()) && id.is_ascii()));
    }

    #[test]
    fn the_kth_busiest_trades_one_kth_as_often() {
        let alias = Alias::zipf(200);
        let mut draw = Draw::new(5, 0);
        let mut counts = [0f64; 200];
        let n = 1_000_000;
        for _ in 0..n {
            counts[alias.pick(&mut draw)] += 1.0;
        }
        let sum: f64 = (1..=200).map(|k| 1.0 / f64::from(k)).sum();
        for (k, count) in counts.iter().enumerate() {
            let expected = f64::from(n) / (sum * (k + 1) as f64);
            assert!((count - expected).abs() < 6.0 * expected.sqrt(), "{k}: {count}, not {expected}");
        }
    }

    #[test]
    fn prices_stay_in_the_default_band_on_their_tick_and_move() {
        let mut market = Market::new(40, Draw::new(9, 0));
        let mut seen: Vec<Vec<f64>> = vec![Vec::new(); 40];
        let mut sweeps = 0;
        for _ in 0..1_000_000 {
            let print = market.next();
            assert!(print.price > 0.1 && print.price < 9_600.0 && print.volume >= 1, "{print:?}");
            seen[print.instrument].push(print.price);
            sweeps += u32::from(print.sweeps);
        }
        for (instrument, prices) in seen.iter().enumerate() {
            let unit = POWERS[NAMED[instrument].2 as usize];
            assert!(prices.iter().all(|p| *p == (p * unit).round() / unit));
            let jumped = prices.windows(2).any(|w| (w[1] / w[0] - 1.0).abs() > 0.003);
            assert!(jumped || prices.len() < 100_000, "{instrument} never jumped");
            assert!(prices.iter().any(|p| *p != prices[0]));
        }
        assert!((100_000..250_000).contains(&sweeps), "{sweeps}");
    }
}
