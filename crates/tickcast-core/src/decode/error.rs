//! Why something could not be decoded: the field, what is wrong with it, its value, and where it stands.

use std::fmt;

/// Longest value that a message repeats, in characters; the dead letter has all bytes.
const SHOWN_CHARS: usize = 48;

/// Where in its payload, or in its file, something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Offset in the payload, in bytes from 0.
    Byte(usize),
    /// Line of a text file, from 1 (the header).
    Line(u64),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Byte(byte) => write!(f, "at byte {byte}"),
            At::Line(line) => write!(f, "in line {line}"),
        }
    }
}

/// Why a payload, or an element of it, could not be decoded. `field` is named as the format names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A payload without a single byte.
    #[error("payload: is empty")]
    Empty,
    /// A field that a tick needs is absent.
    #[error("{field}: is missing ({at})")]
    Missing {
        /// The field.
        field: &'static str,
        /// Where its tick begins.
        at: At,
    },
    /// A field holds something of another type.
    #[error("{field}: must be {expected}, was {was} ({at})")]
    WrongType {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it was, cut to a readable length.
        was: String,
        /// Where the value begins.
        at: At,
    },
    /// A number that is not whole, or not once it is multiplied by the volume scale.
    #[error("{field}: must be {}, was {was} ({at})", whole(*scale))]
    Inexact {
        /// The field.
        field: &'static str,
        /// The scale: 1 asks for a whole number.
        scale: u64,
        /// The number.
        was: String,
        /// Where the value begins.
        at: At,
    },
    /// A number that its type can't hold.
    #[error("{field}: must fit {kind}{}, was {was} ({at})", multiplied(*scale))]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// `int64` or `a double`.
        kind: &'static str,
        /// The scale that it was multiplied by.
        scale: u64,
        /// The number.
        was: String,
        /// Where the value begins.
        at: At,
    },
    /// Text that is not UTF-8.
    #[error("{field}: is not UTF-8, was \"{was}\" ({at})")]
    Utf8 {
        /// The field, or `payload`.
        field: &'static str,
        /// The text, with escapes.
        was: String,
        /// Where the first wrong byte stands.
        at: At,
    },
    /// A protobuf field with a wire type that is not its own.
    #[error("{field}: must have wire type {expected}, had {was} ({at})")]
    WireType {
        /// The field.
        field: &'static str,
        /// The wire type of the schema.
        expected: u8,
        /// The one found.
        was: u8,
        /// Where the tag stands.
        at: At,
    },
    /// The bytes end too soon.
    #[error("{field}: needs {needed} more bytes, {left} are left ({at})")]
    Truncated {
        /// The field that was being read.
        field: &'static str,
        /// How many bytes it needs, at least.
        needed: u64,
        /// How many there are.
        left: usize,
        /// Where the value begins.
        at: At,
    },
    /// Bytes that are not of the format.
    #[error("expected {expected}, found {found} ({at})")]
    Syntax {
        /// What could have stood here.
        expected: &'static str,
        /// What did.
        found: String,
        /// Where.
        at: At,
    },
    /// More ticks in a message than an index can number.
    #[error("a message must hold at most {} ticks, the next one begins {at}", super::MAX_TICKS)]
    TooManyTicks {
        /// Where the first one too many begins.
        at: At,
    },
}

/// What a number has to be so that it is whole once multiplied by `scale`.
fn whole(scale: u64) -> String {
    if scale == 1 { "a whole number".to_owned() } else { format!("a multiple of 1/{scale}") }
}

fn multiplied(scale: u64) -> String {
    if scale == 1 { String::new() } else { format!(" once multiplied by {scale}") }
}

/// Returns `text` cut to a length that reads well in a message.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
    }
}

/// Returns bytes of any kind as text cut to a length that reads well, what is not printable ASCII as `\x..`.
pub(super) fn shown_bytes(bytes: &[u8]) -> String {
    let head = bytes.len().min(SHOWN_CHARS);
    let text = bytes[..head].escape_ascii();
    if head < bytes.len() { format!("{text}… ({} bytes)", bytes.len()) } else { text.to_string() }
}
