//! Decimal text to numbers, exactly: int64 times a scale without rounding, doubles rounded once.

/// Why a text is no such number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Not a decimal number.
    NotANumber,
    /// The value times the scale is not whole.
    Inexact,
    /// The value (times the scale) does not fit the type.
    OutOfRange,
}

/// Returns the value of `text` times `scale`, exactly: `0.02` times 10^8 is 2,000,000.
///
/// Takes what JSON takes as a number (`-12`, `1.50`, `2e3`), and leading zeros. `1.0` is whole.
pub(super) fn scaled(text: &[u8], scale: u64) -> Result<i64, Refused> {
    match (small(text), scale) {
        (Some(value), 1) => Ok(value),
        (Some(value), _) => i64::try_from(i128::from(value) * i128::from(scale)).map_err(|_| Refused::OutOfRange),
        (None, _) => general(text, scale),
    }
}

/// At most 19 digits and a sign, and no overflow: what nearly all integers are.
#[inline]
fn small(text: &[u8]) -> Option<i64> {
    let (negative, mut digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    // 19 digits are less than 2^64.
    let mut value = 0u64;
    while let Some((eight, rest)) = digits.split_first_chunk::<8>() {
        value = value * 100_000_000 + eight_digits(u64::from_le_bytes(*eight))?;
        digits = rest;
    }
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    let value = i64::try_from(value).ok()?;
    Some(if negative { -value } else { value })
}

/// The value of eight digits, the first one in the lowest byte; `None` if one is no digit.
#[inline]
fn eight_digits(word: u64) -> Option<u64> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let digits = word.wrapping_sub(ONES * b'0' as u64);
    // Adding 0x76 to a byte above 9 sets its highest bit; a borrow has set one already.
    if (digits | digits.wrapping_add(ONES * 0x76)) & (ONES * 0x80) != 0 {
        return None;
    }
    // Neighbours are joined: to pairs, to fours, to all eight.
    let pairs = digits.wrapping_mul(10) + (digits >> 8);
    let fours = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let rest = (pairs >> 16 & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    Some(fours.wrapping_add(rest) >> 32)
}

/// The parts of a decimal number: `mantissa` · 10^`exponent`, the mantissa without trailing zeros.
struct Decimal {
    negative: bool,
    /// The first 19 significant digits; more than that fit no int64, whatever the exponent.
    mantissa: u64,
    exponent: i64,
    /// There are significant digits beyond the 19.
    longer: bool,
}

fn general(text: &[u8], scale: u64) -> Result<i64, Refused> {
    let number = parse(text).ok_or(Refused::NotANumber)?;
    if number.mantissa == 0 {
        return Ok(0);
    }
    if number.longer {
        // 20 or more significant digits: not whole if the last one stands behind the point after scaling,
        // too large if it does not.
        let places = -number.exponent;
        return Err(if places > i64::from(scale.checked_ilog10().unwrap_or(0)) {
            Refused::Inexact
        } else {
            Refused::OutOfRange
        });
    }
    // < 10^19 · 2^64 < 2^128.
    let product = u128::from(number.mantissa) * u128::from(scale);
    let magnitude = if number.exponent >= 0 {
        let power = u32::try_from(number.exponent).ok().and_then(|e| 10u128.checked_pow(e));
        power.and_then(|p| product.checked_mul(p)).ok_or(Refused::OutOfRange)?
    } else {
        // A product below 2^128 is no multiple of a power of ten that does not fit.
        let power = u32::try_from(-number.exponent).ok().and_then(|e| 10u128.checked_pow(e)).ok_or(Refused::Inexact)?;
        if product % power != 0 {
            return Err(Refused::Inexact);
        }
        product / power
    };
    let value = i128::try_from(magnitude).map_err(|_| Refused::OutOfRange)?;
    i64::try_from(if number.negative { -value } else { value }).map_err(|_| Refused::OutOfRange)
}

fn parse(text: &[u8]) -> Option<Decimal> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (text, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (whole, fraction) = match text.iter().position(|&b| b == b'.') {
        Some(at) if at + 1 < text.len() => (&text[..at], &text[at + 1..]),
        Some(_) => return None,
        None => (text, &[][..]),
    };
    if whole.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    let digits = whole.len() + fraction.len();
    let digit = |i: usize| if i < whole.len() { whole[i] } else { fraction[i - whole.len()] };
    let Some(last) = (0..digits).rev().find(|&i| digit(i) != b'0') else {
        return Some(Decimal { negative, mantissa: 0, exponent: 0, longer: false });
    };
    let first = (0..=last).find(|&i| digit(i) != b'0').unwrap_or(last);
    let longer = last - first >= 19;
    let mantissa = (first..=last.min(first + 18)).fold(0u64, |m, i| m * 10 + u64::from(digit(i) - b'0'));
    // The last significant digit stands at 10^(whole.len() - 1 - last).
    let exponent = exponent + whole.len() as i64 - 1 - last as i64;
    Some(Decimal { negative, mantissa, exponent, longer })
}

/// An exponent beyond ±10^9 is that: the text would have to be as long to matter.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |v, d| (v * 10 + i64::from(d - b'0')).min(1_000_000_000));
    Some(if negative { -value } else { value })
}

/// 10^0 … 10^22: the powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Returns the double nearest to a decimal text of plain form; `None`: not of that form, or it needs [`str::parse`].
///
/// A mantissa below 2^53 divided by an exact power of ten is rounded once, hence correctly (Clinger 1990).
#[inline]
pub(super) fn plain_double(text: &[u8]) -> Option<f64> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    // 16 characters are 15 digits and a point, or 16 digits (checked below): no overflow.
    if text.len() > 16 {
        return None;
    }
    let (mut mantissa, mut point, mut digits) = (0u64, None, 0usize);
    for (i, &b) in text.iter().enumerate() {
        let digit = b.wrapping_sub(b'0');
        if digit <= 9 {
            mantissa = mantissa * 10 + u64::from(digit);
            digits += 1;
        } else if b == b'.' && point.is_none() && i > 0 {
            point = Some(digits);
        } else {
            return None;
        }
    }
    let places = point.map_or(0, |p| digits - p);
    if digits == 0 || point == Some(digits) || mantissa >> 53 != 0 {
        return None;
    }
    let value = mantissa as f64 / POWERS[places];
    Some(if negative { -value } else { value })
}

/// Returns the double nearest to a decimal text (JSON's grammar is the caller's business); finite.
pub(super) fn double(text: &str) -> Result<f64, Refused> {
    if let Some(value) = plain_double(text.as_bytes()) {
        return Ok(value);
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(Refused::OutOfRange),
        Err(_) => Err(Refused::NotANumber),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    #[test]
    fn coins_become_whole_numbers_and_dust_below_the_scale_is_refused() {
        let e8 = 100_000_000;
        assert_eq!(scaled(b"0.02000000", e8), Ok(2_000_000));
        assert_eq!(scaled(b"-1.5e-8", e8), Err(Refused::Inexact));
        assert_eq!(scaled(b"1e-8", e8), Ok(1));
        assert_eq!(scaled(b"92233720368.54775807", e8), Ok(i64::MAX));
        assert_eq!(scaled(b"-92233720368.54775808", e8), Ok(i64::MIN));
        assert_eq!(scaled(b"92233720368.54775808", e8), Err(Refused::OutOfRange));
    }

    #[test]
    fn whole_numbers_in_other_clothes_are_whole_and_others_refused() {
        assert_eq!(scaled(b"1.0", 1), Ok(1));
        assert_eq!(scaled(b"12e2", 1), Ok(1200));
        assert_eq!(scaled(b"-0.0", 1), Ok(0));
        assert_eq!(scaled(b"0e999999999999", 1), Ok(0));
        assert_eq!(scaled(b"-9223372036854775808", 1), Ok(i64::MIN));
        assert_eq!(scaled(b"9223372036854775808", 1), Err(Refused::OutOfRange));
        assert_eq!(scaled(b"1e999999999999", 1), Err(Refused::OutOfRange));
        assert_eq!(scaled(b"1e-999999999999", 1), Err(Refused::Inexact));
        assert_eq!(scaled(b"100000000000000000000.5", 1), Err(Refused::Inexact));
        for text in ["", "-", "+1", "1.", ".5", "1e", "1e+", "1-", "1_0", " 1", "0x1", "1..2", "1e1e1", "nan"] {
            assert_eq!(scaled(text.as_bytes(), 1), Err(Refused::NotANumber), "{text}");
        }
    }

    proptest! {
        #[test]
        fn scaled_equals_exact_arithmetic(
            negative: bool, whole in "[0-9]{1,25}", fraction in "[0-9]{0,25}", exponent in -30i32..30, power in 0u32..=18,
        ) {
            let sign = if negative { "-" } else { "" };
            let point = if fraction.is_empty() { "" } else { "." };
            let text = format!("{sign}{whole}{point}{fraction}e{exponent}");
            // As a fraction of integers: digits · 10^(exponent + power) / 10^len(fraction).
            let mut up: BigInt = format!("{whole}{fraction}").parse().expect("digits");
            let mut down = BigInt::from(10).pow(fraction.len() as u32);
            let shift = exponent + power as i32;
            if shift >= 0 { up *= BigInt::from(10).pow(shift as u32) } else { down *= BigInt::from(10).pow(-shift as u32) }
            let expected = if &up % &down != BigInt::ZERO {
                Err(Refused::Inexact)
            } else {
                let value = if negative { -(up / down) } else { up / down };
                i64::try_from(value).map_err(|_| Refused::OutOfRange)
            };
            prop_assert_eq!(scaled(text.as_bytes(), 10u64.pow(power)), expected);
        }

        #[test]
        fn small_integers_are_those_of_the_standard_library(text in "-?[0-9]{1,20}", spoil in 0usize..40, byte: u8) {
            let mut text = text.into_bytes();
            if let Some(place) = text.get_mut(spoil) { *place = byte }
            let expected = std::str::from_utf8(&text).ok().filter(|t| !t.starts_with('+')).and_then(|t| t.parse::<i64>().ok());
            prop_assert_eq!(small(&text), expected.filter(|v| *v != i64::MIN && text.len() - usize::from(*v < 0 || text[0] == b'-') <= 19));
        }

        #[test]
        fn doubles_are_the_nearest(text in "-?[0-9]{1,12}(\\.[0-9]{1,12})?(e-?[0-9]{1,2})?") {
            prop_assert_eq!(double(&text).map(f64::to_bits), Ok(text.parse::<f64>().expect("number").to_bits()));
        }

        #[test]
        fn doubles_refuse_what_is_none(text in "[-+0-9.eE ]{0,8}") {
            prop_assert_eq!(double(&text).is_ok(), text.parse::<f64>().is_ok_and(f64::is_finite));
        }
    }
}
