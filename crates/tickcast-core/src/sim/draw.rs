//! Random draws that are the same on every machine: integer arithmetic, and doubles with + - * / only. The logarithms
//! and exponentials of the platform's library are not used, since their last digits differ between platforms.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A seeded source of draws.
#[derive(Debug, Clone)]
pub(super) struct Draw(Xoshiro256PlusPlus);

impl Draw {
    /// `stream` gives independent sources to the same seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut generator = Xoshiro256PlusPlus::seed_from_u64(seed);
        for _ in 0..stream {
            generator.jump();
        }
        Draw(generator)
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1), in steps of 2^-53.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in 0 .. `n`; the bias of at most n / 2^64 is nobody's business here.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// True once in `n` draws.
    #[inline]
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Nearly standard normal: four 16-bit uniforms summed, mean 0, variance 1, within ±3.5.
    #[inline]
    pub fn normal(&mut self) -> f64 {
        let bits = self.bits();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        // Mean 2 · 65,535, variance 4 · (2^32 - 1) / 12.
        (sum as f64 - 131_070.0) * (1.0 / 37_837.227_236_1)
    }
}

/// 2^`x` within 3e-4, for |x| <= 1000.
#[inline]
pub(super) fn exp2(x: f64) -> f64 {
    let floor = x.floor();
    let fraction = x - floor;
    // A cubic that is exact at both ends of [0, 1], so that the curve is continuous.
    let mantissa = 1.0 + fraction * (0.695_065_9 + fraction * (0.227_173_5 + fraction * 0.077_760_6));
    mantissa * f64::from_bits(((floor as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp2_is_near_the_library_and_continuous() {
        for i in -4000..4000 {
            let x = f64::from(i) / 100.0;
            assert!((exp2(x) / x.exp2() - 1.0).abs() < 3e-4, "{x}");
        }
    }

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let mut draw = Draw::new(1, 0);
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..100_000 {
            let value = draw.normal();
            sum += value;
            squares += value * value;
        }
        assert!((sum / 1e5).abs() < 0.02 && (squares / 1e5 - 1.0).abs() < 0.02, "{sum} {squares}");
    }

    #[test]
    fn streams_of_a_seed_differ_and_the_first_draws_are_those_of_the_first_version() {
        assert_ne!(Draw::new(1, 0).bits(), Draw::new(1, 1).bits());
        // Golden files depend on it.
        assert_eq!(Draw::new(1, 0).bits(), 0xcfc5_d07f_6f03_c29b);
    }
}
