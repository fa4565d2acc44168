//! Payloads to columns: protobuf and JSON messages of a queue here, recorded files in [`csv`].
//!
//! ## What is undecodable
//! A payload whose framing or syntax is broken, or that holds more than [`MAX_TICKS`], is undecodable as a whole: one
//! [`Undecodable`] with index `None` and all its bytes. Where the framing holds and a single tick is wrong (a field is
//! missing, of another type, not whole, out of range), that tick alone is: index and bytes are its own, the others are
//! kept. An empty payload of no stated format is undecodable: it would be a protobuf tick of defaults only, which nobody
//! means. Order is that of the payloads.
//!
//! ## What is not
//! Decoding says nothing about sense: an empty id, a price of NaN or -5 are decoded, and refused by the
//! [`screen`](crate::screen).
//!
//! ```
//! use tickcast_core::decode::{Options, decode};
//! let payloads = [&br#"[{"instrumentId":"ABC","price":39.5,"volume":"100"},{"instrumentId":"ABC"}]"#[..]];
//! let decoded = decode(payloads.map(|p| (None, p)), &Options::default());
//! assert_eq!(decoded.ticks.id(0), "ABC");
//! assert_eq!(decoded.undecodable[0].error.to_string(), "price: is missing (at byte 52)");
//! ```

pub mod csv;
mod decimal;
mod error;
mod ids;
mod json;
mod proto;
pub mod trades;

pub use error::{At, DecodeError};
pub(crate) use ids::push_coded;

use crate::{Decoded, Error, Result, TickBatch, Undecodable};
use ids::Ids;
use std::collections::HashMap;
use std::str::Utf8Error;

/// Most ticks in a message: its index must fit 16 bits of the trade id.
pub const MAX_TICKS: usize = 65_535;

/// Form of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One `marketdata.RawMarketTick`.
    Proto,
    /// A `tickcast.v1.RawMarketTickBatch`.
    ProtoBatch,
    /// A JSON object, an array of them, or one object after another on lines of their own; keys `instrumentId`,
    /// `price`, `volume`, `timestampNs`.
    Json,
}

impl Format {
    /// Returns the format that a payload without a stated one is taken for: JSON if it begins with `{` or `[`, maybe
    /// after JSON whitespace, else a single protobuf tick.
    ///
    /// A line feed is also the tag of `instrument_id`, and a tab the length of a 9-character id: what begins with
    /// whitespace is JSON only if it is no protobuf tick.
    pub fn detect(payload: &[u8]) -> Format {
        let blank = payload.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        match payload.get(blank) {
            Some(b'{' | b'[') if blank == 0 || !proto::is_tick(payload) => Format::Json,
            _ => Format::Proto,
        }
    }

    /// Returns the format of this name: `proto`, `proto-batch` or `json` (header `tickcast-format`, `?format=`).
    pub fn from_name(name: &str) -> Option<Format> {
        [Format::Proto, Format::ProtoBatch, Format::Json].into_iter().find(|f| f.name() == name)
    }

    /// Returns the name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Format::Proto => "proto",
            Format::ProtoBatch => "proto-batch",
            Format::Json => "json",
        }
    }
}

/// How numbers are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Factor that makes fractional volumes whole, a power of ten from 1 (none) to 10^18.
    pub volume_scale: u64,
    /// The factor of single instruments, where it is another one.
    pub per_instrument_scale: HashMap<String, u64>,
}

impl Default for Options {
    fn default() -> Self {
        Options { volume_scale: 1, per_instrument_scale: HashMap::new() }
    }
}

impl Options {
    /// Checks the scales.
    ///
    /// # Errors
    /// [`Error::Config`] for a scale that is not a power of ten from 1 to 10^18.
    pub fn validate(&self) -> Result<()> {
        let allowed = |scale: u64| (0..=18).any(|power| 10u64.pow(power) == scale);
        let refuse = |value| Error::Config { key: "volume_scale", value, allowed: "a power of ten from 1 to 10^18" };
        if !allowed(self.volume_scale) {
            return Err(refuse(self.volume_scale.to_string()));
        }
        match self.per_instrument_scale.iter().filter(|(_, scale)| !allowed(**scale)).min() {
            Some((id, scale)) => Err(refuse(format!("{id}: {scale}"))),
            None => Ok(()),
        }
    }

    /// Returns the factor for volumes of this instrument.
    #[inline]
    pub fn scale_of(&self, id: &str) -> u64 {
        if self.per_instrument_scale.is_empty() {
            return self.volume_scale;
        }
        self.per_instrument_scale.get(id).copied().unwrap_or(self.volume_scale)
    }
}

/// Decodes payloads, each of the stated format or, where that is `None`, of the one [`Format::detect`] gives.
///
/// Column `message` of the ticks numbers the payloads from 0. Takes any bytes; never panics.
pub fn decode<'a>(payloads: impl IntoIterator<Item = (Option<Format>, &'a [u8])>, options: &Options) -> Decoded {
    let payloads = payloads.into_iter();
    let mut out = Decoded::default();
    reserve(&mut out.ticks, payloads.size_hint().0);
    let mut ids = Ids::new();
    for (message, (format, payload)) in payloads.enumerate() {
        decode_one(&mut out, &mut ids, message as u32, format, payload, options);
    }
    out
}

/// Decodes one payload and appends its ticks, and what could not be decoded of it, as those of message `message`.
///
/// [`decode`] is faster for many.
pub fn decode_payload(out: &mut Decoded, message: u32, format: Option<Format>, payload: &[u8], options: &Options) {
    decode_one(out, &mut Ids::new(), message, format, payload, options);
}

#[inline]
fn decode_one(
    out: &mut Decoded,
    ids: &mut Ids,
    message: u32,
    format: Option<Format>,
    payload: &[u8],
    options: &Options,
) {
    let (ticks, undecodable) = (out.ticks.len(), out.undecodable.len());
    let mut target = Target { out, ids, message, options };
    let done = match format.unwrap_or_else(|| Format::detect(payload)) {
        _ if format.is_none() && payload.is_empty() => Err(DecodeError::Empty),
        Format::Proto => proto::single(&mut target, payload),
        Format::ProtoBatch => proto::batch(&mut target, payload),
        Format::Json => json::payload(&mut target, payload),
    };
    if let Err(error) = done {
        out.ticks.truncate(ticks);
        out.undecodable.truncate(undecodable);
        out.undecodable.push(Undecodable { message, index: None, bytes: payload.to_vec(), error });
    }
}

/// Where the ticks of a payload go.
struct Target<'t> {
    out: &'t mut Decoded,
    ids: &'t mut Ids,
    message: u32,
    options: &'t Options,
}

impl Target<'_> {
    /// The factor for volumes of the instrument with this id; one that is not UTF-8 has none of its own.
    #[inline]
    fn scale_of(&self, id: &[u8]) -> u64 {
        if self.options.per_instrument_scale.is_empty() {
            return self.options.volume_scale;
        }
        self.options.scale_of(std::str::from_utf8(id).unwrap_or_default())
    }

    /// Appends a tick; the last thing to do, so that what is refused leaves no id behind.
    ///
    /// # Errors
    /// The id is not UTF-8.
    #[inline]
    fn push(&mut self, id: &[u8], numbers: (f64, i64, i64), index: u16) -> std::result::Result<(), Utf8Error> {
        let code = self.ids.code(&mut self.out.ticks.names, id)?;
        push_coded(&mut self.out.ticks, code, numbers, (self.message, index));
        Ok(())
    }

    #[cold]
    fn refuse(&mut self, index: u16, bytes: &[u8], error: DecodeError) {
        let (message, bytes) = (self.message, bytes.to_vec());
        self.out.undecodable.push(Undecodable { message, index: Some(index), bytes, error });
    }
}

fn reserve(ticks: &mut TickBatch, rows: usize) {
    ticks.instrument.reserve(rows);
    ticks.price.reserve(rows);
    ticks.volume.reserve(rows);
    ticks.timestamp_ns.reserve(rows);
    ticks.message.reserve(rows);
    ticks.index.reserve(rows);
}
