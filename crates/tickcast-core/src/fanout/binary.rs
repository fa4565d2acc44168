//! The `.bin` frame: `trades` and `snapshot` of `tickcast.v1.bin`, and what gRPC subscribers get; the same bytes.
//!
//! ```text
//! @0  magic u32      @4  count u32         @8  first sequence u64    @16 last sequence u64
//! @24 sent time i64  @32 oldest tick i64   @40 newest tick i64       @48 record size u16   @50 header size u16
//! @52 flags u32      sections that the flags announce, in order of their bits      records
//! ```
//!
//! Little-endian; header, sections and records are multiples of 8 bytes, so that everything lies aligned. Every section
//! begins with its size and a count, so a reader can skip one that it does not know. `docs/protocol.md` has every byte.
//!
//! Records are those of the tape, copied; instruments and reasons are codes of the tape's dictionaries. A frame brings
//! along the entries that its receivers don't know yet ([`Known`]), and what is in no dictionary as strings of its own.

mod decode;
mod encode;
mod ids;
mod trades;

pub use decode::{Entries, FrameError, FrameView, Row, Stages};
pub(super) use encode::micros;
pub use encode::{Binary, Known, empty_snapshot, snapshot};
pub use trades::FrameDictionary;

/// First four bytes: `TCb1`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"TCb1");
/// Bytes of the header of this version.
pub const HEADER_BYTES: usize = 56;
/// Bytes of a record without enrichments; each adds 8.
pub const RECORD_BYTES: usize = 40;
/// Bytes that every section begins with: size u32, count u32.
pub const SECTION_HEAD_BYTES: usize = 8;

/// Bits of a frame's flags. Bits 0 to 15 announce one section each; the others announce none.
pub mod frame_flags {
    /// Section: new entries of the dictionary of instruments.
    pub const INSTRUMENTS: u32 = 1;
    /// Section: new entries of the dictionary of reasons.
    pub const REASONS: u32 = 1 << 1;
    /// Section: trade ids, in runs.
    pub const IDS: u32 = 1 << 2;
    /// Section: sequences of the trades, where some of the range are left out.
    pub const SEQS: u32 = 1 << 3;
    /// Section: instrument ids and reasons that are in no dictionary.
    pub const STRINGS: u32 = 1 << 4;
    /// Section: times per stage.
    pub const STAGES: u32 = 1 << 5;
    /// Section: how many trades were conflated.
    pub const CONFLATED: u32 = 1 << 6;
    /// The frame is a `snapshot`.
    pub const SNAPSHOT: u32 = 1 << 16;
}

/// What a string of a frame stands for.
const INSTRUMENT_STRING: u32 = 0;
const REASON_STRING: u32 = 1;
/// Bytes of the stages of a trade: ingest i64; decode, rules, enrich, tape, sent u32; 4 bytes of 0.
const STAGES_BYTES: usize = 32;
