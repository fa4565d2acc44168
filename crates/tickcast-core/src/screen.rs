//! The built-in checks of a tick: structure, then price band. The first failure wins, and is `INVALID`.
//!
//! | order | check | reason |
//! |---|---|---|
//! | 1 | `instrument_id` has 3 to 10 characters (Unicode scalar values) | `Processing error: instrument_id: …` |
//! | 2 | `price` is finite and > 0 | `Processing error: price: …` |
//! | 3 | `volume` > 0 | `Processing error: volume: …` |
//! | 4 | `timestamp_ns` >= 0; live at most `max_ahead_ns` after the arrival, in a file not absent | `Processing error: timestamp_ns: …` |
//! | 5 | `price` lies within the instrument's band, both ends allowed | `Price out of acceptable range` |
//!
//! A live tick without a timestamp (0) passes: it is stamped on arrival, which is not the screen's business.

use crate::{Error, Result};
use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;

/// What the reason of a structural failure begins with.
pub const PROCESSING_ERROR: &str = "Processing error: ";
/// The reason of a price outside its band.
pub const OUT_OF_BAND: &str = "Price out of acceptable range";

/// Between these, the window's arithmetic is exact.
const BAND_LIMITS: RangeInclusive<f64> = 1e-12..=1e15;
/// Longest id that a configuration may allow, in characters.
const LONGEST_ID: usize = 255;
/// Longest id that a reason repeats, in characters.
const SHOWN_CHARS: usize = 32;

/// Bounds of the checks.
#[derive(Debug, Clone, PartialEq)]
pub struct ScreenConfig {
    /// Length of an instrument id, in characters; default 3 to 10.
    pub id_chars: RangeInclusive<usize>,
    /// Lowest and highest price, quote currency per unit, both allowed; default 0.01 and 10,000.
    pub band: (f64, f64),
    /// The band of single instruments, where it is another one.
    pub bands: HashMap<String, (f64, f64)>,
    /// How far a live tick's time may lie after its arrival, ns; default 5 minutes.
    pub max_ahead_ns: i64,
}

impl Default for ScreenConfig {
    fn default() -> Self {
        ScreenConfig {
            id_chars: 3..=10,
            band: (0.01, 10_000.0),
            bands: HashMap::new(),
            max_ahead_ns: 5 * 60 * 1_000_000_000,
        }
    }
}

impl ScreenConfig {
    fn validate(&self) -> Result<()> {
        let (low, high) = (*self.id_chars.start(), *self.id_chars.end());
        if low < 1 || low > high || high > LONGEST_ID {
            let value = format!("{low} to {high}");
            return Err(Error::Config {
                key: "screen.id_min, id_max",
                value,
                allowed: "1 to 255, the lower one first",
            });
        }
        if self.max_ahead_ns < 0 {
            let value = format!("{} ns", self.max_ahead_ns);
            return Err(Error::Config { key: "screen.max_ahead", value, allowed: ">= 0" });
        }
        let allowed = "1e-12 to 1e15, the lower one first";
        let sound = |(low, high): (f64, f64)| BAND_LIMITS.contains(&low) && BAND_LIMITS.contains(&high) && low <= high;
        if !sound(self.band) {
            let value = format!("{:?} to {:?}", self.band.0, self.band.1);
            return Err(Error::Config { key: "screen.price_min, price_max", value, allowed });
        }
        let mut wrong: Vec<_> = self.bands.iter().filter(|(_, band)| !sound(**band)).collect();
        wrong.sort_unstable_by_key(|(id, _)| *id);
        match wrong.first() {
            None => Ok(()),
            Some((id, (low, high))) => {
                Err(Error::Config { key: "screen.bands", value: format!("{id}: {low:?} to {high:?}"), allowed })
            }
        }
    }
}

/// Why a tick fails the screen. [`fmt::Display`] is the trade's reason.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault<'a> {
    /// The id is too short or too long.
    Id {
        /// The id.
        id: &'a str,
        /// Its length, characters.
        chars: usize,
        /// Fewest characters allowed.
        min: usize,
        /// Most characters allowed.
        max: usize,
    },
    /// The price is NaN or infinite.
    PriceNotFinite(f64),
    /// The price is 0 or less.
    PriceNotPositive(f64),
    /// The volume is 0 or less.
    VolumeNotPositive(i64),
    /// The time lies before 1970.
    TimeNegative(i64),
    /// The time is absent, in a recorded file.
    TimeAbsent,
    /// The time lies too far after the arrival.
    TimeAhead {
        /// The tick's time, ns since the Unix epoch.
        timestamp_ns: i64,
        /// The latest one allowed.
        latest_ns: i64,
        /// How far after the arrival that is, ns.
        max_ahead_ns: i64,
    },
    /// The price lies outside the instrument's band.
    Band {
        /// The price.
        price: f64,
        /// The end of the band that it lies beyond.
        bound: f64,
    },
}

impl Fault<'_> {
    /// Appends the trade's reason.
    pub fn write_reason(&self, out: &mut String) {
        use fmt::Write as _;
        // Writing to a String can't fail.
        let _ = write!(out, "{self}");
    }

    /// Whether the price band, not the structure, refuses the tick.
    pub fn is_band(&self) -> bool {
        matches!(self, Fault::Band { .. })
    }

    /// The value that was refused, as a double: characters of the id, price, volume, or ns; NaN for an absent time.
    pub fn observed(&self) -> f64 {
        match *self {
            Fault::Id { chars, .. } => chars as f64,
            Fault::PriceNotFinite(price) | Fault::PriceNotPositive(price) | Fault::Band { price, .. } => price,
            Fault::VolumeNotPositive(volume) => volume as f64,
            Fault::TimeNegative(timestamp_ns) | Fault::TimeAhead { timestamp_ns, .. } => timestamp_ns as f64,
            Fault::TimeAbsent => f64::NAN,
        }
    }

    /// The bound that the value violates, in its unit; NaN where there is none.
    pub fn limit(&self) -> f64 {
        match *self {
            Fault::Id { chars, min, max, .. } => (if chars < min { min } else { max }) as f64,
            Fault::PriceNotFinite(_) | Fault::TimeAbsent => f64::NAN,
            Fault::PriceNotPositive(_) | Fault::VolumeNotPositive(_) | Fault::TimeNegative(_) => 0.0,
            Fault::TimeAhead { latest_ns, .. } => latest_ns as f64,
            Fault::Band { bound, .. } => bound,
        }
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_band() {
            return f.write_str(OUT_OF_BAND);
        }
        f.write_str(PROCESSING_ERROR)?;
        match *self {
            Fault::Id { id, chars, min, max } => {
                let (shown, more) = match id.char_indices().nth(SHOWN_CHARS) {
                    Some((end, _)) => (&id[..end], "…"),
                    None => (id, ""),
                };
                write!(f, "instrument_id: must have {min} to {max} characters, was {shown:?}{more} ({chars})")
            }
            Fault::PriceNotFinite(price) => write!(f, "price: must be finite, was {price:?}"),
            Fault::PriceNotPositive(price) => write!(f, "price: must be > 0, was {price:?}"),
            Fault::VolumeNotPositive(volume) => write!(f, "volume: must be > 0, was {volume}"),
            Fault::TimeNegative(time) => write!(f, "timestamp_ns: must be >= 0, was {time}"),
            Fault::TimeAbsent => f.write_str("timestamp_ns: must be there in a recorded file, was 0"),
            Fault::TimeAhead { timestamp_ns, max_ahead_ns, .. } => {
                let seconds = max_ahead_ns as f64 / 1e9;
                write!(f, "timestamp_ns: must be at most {seconds} s after its arrival, was {timestamp_ns}")
            }
            Fault::Band { .. } => Ok(()),
        }
    }
}

/// The checks. Shared freely between threads.
#[derive(Debug, Clone)]
pub struct Screen {
    config: ScreenConfig,
}

impl Screen {
    /// Takes the bounds.
    ///
    /// # Errors
    /// [`Error::Config`] for bounds in the wrong order, id lengths outside 1 to 255, band ends outside 1e-12 to 1e15,
    /// a negative `max_ahead_ns`.
    pub fn new(config: ScreenConfig) -> Result<Self> {
        config.validate()?;
        Ok(Screen { config })
    }

    /// The bounds.
    pub fn config(&self) -> &ScreenConfig {
        &self.config
    }

    /// Checks a tick; allocates nothing.
    ///
    /// `arrival_ns` is when a live tick came, ns since the Unix epoch; `None` says that it comes from a recorded file.
    ///
    /// # Errors
    /// The first [`Fault`], in the order of the module's table.
    #[inline]
    pub fn check<'a>(
        &self,
        id: &'a str,
        price: f64,
        volume: i64,
        timestamp_ns: i64,
        arrival_ns: Option<i64>,
    ) -> std::result::Result<(), Fault<'a>> {
        self.check_id(id)?;
        self.check_numbers(self.band_of(id), price, volume, timestamp_ns, arrival_ns)
    }

    /// Checks the id alone: with [`Screen::band_of`] what is known of an instrument before its ticks.
    ///
    /// # Errors
    /// [`Fault::Id`].
    #[inline]
    pub fn check_id<'a>(&self, id: &'a str) -> std::result::Result<(), Fault<'a>> {
        let (min, max) = (*self.config.id_chars.start(), *self.config.id_chars.end());
        // Bytes are at least characters, and at most four of them.
        if id.len() < min || id.len() > 4 * max || !(min..=max).contains(&count_chars(id)) {
            return Err(Fault::Id { id, chars: id.chars().count(), min, max });
        }
        Ok(())
    }

    /// Returns the lowest and the highest price of an instrument, both allowed.
    #[inline]
    pub fn band_of(&self, id: &str) -> (f64, f64) {
        if self.config.bands.is_empty() {
            return self.config.band;
        }
        self.config.bands.get(id).copied().unwrap_or(self.config.band)
    }

    /// Checks all but the id, against a band that [`Screen::band_of`] gave.
    ///
    /// # Errors
    /// The first [`Fault`], in the order of the module's table.
    #[inline]
    pub fn check_numbers(
        &self,
        band: (f64, f64),
        price: f64,
        volume: i64,
        timestamp_ns: i64,
        arrival_ns: Option<i64>,
    ) -> std::result::Result<(), Fault<'static>> {
        if !price.is_finite() {
            return Err(Fault::PriceNotFinite(price));
        }
        if price <= 0.0 {
            return Err(Fault::PriceNotPositive(price));
        }
        if volume <= 0 {
            return Err(Fault::VolumeNotPositive(volume));
        }
        if timestamp_ns < 0 {
            return Err(Fault::TimeNegative(timestamp_ns));
        }
        match arrival_ns {
            None if timestamp_ns == 0 => return Err(Fault::TimeAbsent),
            Some(arrival_ns) => {
                let max_ahead_ns = self.config.max_ahead_ns;
                let latest_ns = arrival_ns.saturating_add(max_ahead_ns);
                if timestamp_ns > latest_ns {
                    return Err(Fault::TimeAhead { timestamp_ns, latest_ns, max_ahead_ns });
                }
            }
            None => {}
        }
        if price < band.0 {
            return Err(Fault::Band { price, bound: band.0 });
        }
        if price > band.1 {
            return Err(Fault::Band { price, bound: band.1 });
        }
        Ok(())
    }
}

#[inline]
fn count_chars(id: &str) -> usize {
    if id.is_ascii() { id.len() } else { id.chars().count() }
}
