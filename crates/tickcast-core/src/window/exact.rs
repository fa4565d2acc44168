//! Exact sums of price·volume and of volume, and their quotient, rounded once.
//!
//! A double between 1e-12 and 1e15 is an integer multiple of 2⁻⁹² below 2¹⁴² of them; times a volume below 2⁶³, summed
//! over 2³⁶ trades, it stays below 2²⁴¹. So a sum is an integer of 256 bits: adding and subtracting it, in any order
//! and for ever, loses nothing. Arithmetic wraps, because a cursor may pass through negative sums on its way.

use std::ops::{AddAssign, SubAssign};

/// Least price that the sums can hold.
pub(super) const MIN_PRICE: f64 = 1e-12;
/// Greatest price that the sums can hold.
pub(super) const MAX_PRICE: f64 = 1e15;

/// The sums count price·volume in units of 2 to the minus this.
const UNIT_BITS: i32 = 92;
/// Biased exponent of the doubles whose last bit is worth one unit.
const UNIT_EXPONENT: u64 = (1023 + 52 - UNIT_BITS) as u64;

/// Exact Σ price·volume and Σ volume of some trades.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Low half of Σ price·volume, in units of 2⁻⁹².
    low: u128,
    /// High half.
    high: u128,
    /// Σ volume.
    volume: u128,
}

impl Sum {
    /// Returns the sum of one trade; `price` within [`MIN_PRICE`] ..= [`MAX_PRICE`].
    #[inline]
    pub(super) fn of(price: f64, volume: u64) -> Self {
        let bits = price.to_bits();
        let product = u128::from(mantissa(bits)) * u128::from(volume);
        Self { volume: u128::from(volume), ..Self::shifted(product, bits >> 52) }
    }

    /// Returns the sum of many trades, each price as bits; faster than one by one, because shifting waits until the
    /// exponent changes.
    pub(super) fn of_all(trades: impl Iterator<Item = (u64, u64)>) -> Self {
        let (mut sum, mut volume) = (Self::default(), 0u128);
        let (mut exponent, mut products) = (UNIT_EXPONENT, 0u128);
        for (i, (price, units)) in trades.enumerate() {
            // A product is below 2¹¹⁶, so 2¹² of them cannot overflow.
            if price >> 52 != exponent || i % 4096 == 4095 {
                sum += Self::shifted(products, exponent);
                (exponent, products) = (price >> 52, 0);
            }
            products += u128::from(mantissa(price)) * u128::from(units);
            volume += u128::from(units);
        }
        sum += Self::shifted(products, exponent);
        sum.volume = volume;
        sum
    }

    /// Returns Σ price·volume, and no volume, of mantissas times volumes that share a biased exponent.
    #[inline]
    fn shifted(product: u128, exponent: u64) -> Self {
        let shift = (exponent.wrapping_sub(UNIT_EXPONENT) & 127) as u32;
        Self { low: product << shift, high: (product >> 1) >> (127 - shift), volume: 0 }
    }

    /// Σ volume as a double.
    pub(super) fn volume(&self) -> f64 {
        self.volume as f64
    }

    /// Returns Σ price·volume / Σ volume, correctly rounded (half to even); NaN if there are no trades.
    ///
    /// The quotient is cut to at least 62 bits, and its last bit says whether anything was cut off: rounding that to
    /// 53 bits is rounding the true quotient.
    #[inline]
    pub(super) fn vwap(&self) -> f64 {
        if self.volume == 0 {
            return f64::NAN;
        }
        let lead = if self.high != 0 { self.high.leading_zeros() } else { 128 + self.low.leading_zeros() };
        let (top, rest) = shift_left(self.high, self.low, lead);
        let (quotient, inexact, exponent) = match u64::try_from(self.volume) {
            Ok(volume) => divide_by_64(top, rest, volume),
            Err(_) => divide_by_128(top, rest, self.volume),
        };
        // One bit fewer, so that the conversion is the signed one, which is an instruction.
        let rounded = ((quotient >> 1) | (quotient & 1) | u64::from(inexact)) as i64 as f64;
        rounded * power_of_two(exponent - lead as i32 - UNIT_BITS + 1)
    }
}

impl AddAssign for Sum {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        let (low, carry) = self.low.overflowing_add(other.low);
        self.low = low;
        self.high = self.high.wrapping_add(other.high).wrapping_add(u128::from(carry));
        self.volume = self.volume.wrapping_add(other.volume);
    }
}

impl SubAssign for Sum {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        self.low = low;
        self.high = self.high.wrapping_sub(other.high).wrapping_sub(u128::from(borrow));
        self.volume = self.volume.wrapping_sub(other.volume);
    }
}

/// The 53 bits of a normal double.
#[inline]
fn mantissa(bits: u64) -> u64 {
    (bits & ((1 << 52) - 1)) | (1 << 52)
}

/// Shifts 256 bits left by less than 256.
#[inline]
fn shift_left(high: u128, low: u128, by: u32) -> (u128, u128) {
    if by >= 128 { (low << (by - 128), 0) } else { ((high << by) | ((low >> 1) >> (127 - by)), low << by) }
}

/// 2 to the `exponent`, which is that of a normal double.
#[inline]
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// Divides a numerator with its highest bit set by a volume of one word: (quotient of 63 or 64 bits, whether a
/// remainder is left, exponent of the quotient's unit).
#[inline]
fn divide_by_64(top: u128, rest: u128, volume: u64) -> (u64, bool, i32) {
    let zeros = volume.leading_zeros();
    let divisor = u128::from(volume << zeros);
    // Below 2¹²⁷, so its upper word is less than the divisor and the quotient fits a word.
    let numerator = top >> 1;
    let quotient = numerator / divisor;
    let remainder = numerator - quotient * divisor;
    (quotient as u64, (remainder | (top & 1) | rest) != 0, 129 + zeros as i32)
}

/// The same for a volume of more than one word: one step of Knuth's algorithm D, three words by two.
#[cold]
fn divide_by_128(top: u128, rest: u128, volume: u128) -> (u64, bool, i32) {
    let zeros = volume.leading_zeros();
    let divisor = volume << zeros;
    let (d1, d0) = (divisor >> 64, divisor & u128::from(u64::MAX));
    // The numerator's upper 192 bits, less the last: `upper` < 2¹²⁷ <= divisor, so the quotient fits a word.
    let upper = top >> 1;
    let lowest = ((top & 1) << 63) | (rest >> 65);
    let mut quotient = upper / d1;
    let mut partial = upper % d1;
    // At most twice: the first guess is too large by two at most (Knuth, TAOCP vol. 2, 4.3.1, theorem B).
    while partial >> 64 == 0 && quotient * d0 > ((partial << 64) | lowest) {
        quotient -= 1;
        partial += d1;
    }
    let remainder = (partial << 64).wrapping_add(lowest).wrapping_sub(quotient.wrapping_mul(d0));
    (quotient as u64, (remainder | (rest << 63)) != 0, 65 + zeros as i32)
}
