//! The bytes of a tape file, drawn. Everything is a little-endian 64-bit word; offsets derive from one another.
//!
//! ```text
//! word 0      header     magic · version · superseded · sizes · epoch · … then one cache line pair for each of
//!                        head · oldest · rings · waiting · applied · and the versions of the flipped values
//!      512    meta       length in bytes, JSON of the enrichments' names and units
//!             commit     2 copies of: head · end of data · count · positions (two words each)
//!             holds      what each holding cursor has confirmed, under its name
//!             board      2 copies of: length in bytes · the status board
//!             dictionaries of instruments · reasons · rules · rule sets, each:
//!                        count · bytes used … (line) · one word per string: offset, length · the strings
//!             table      per instrument: version · 2 copies of its newest VALID trade
//!             slots      ring of the fixed parts of the trades ([`super::slot`])
//!             data       ring of their JSON and free texts
//! ```
//!
//! A slot is found by `sequence % slots`; it says where in the data ring its bytes are, counted in words from the
//! beginning of the epoch, so a position never means two things.

use super::memory::Region;

/// First word of every tape, whatever its version.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"tickcast");
/// Version of this layout. Written last: whoever sees it sees the rest of the header.
pub(crate) const VERSION: u64 = 1;

/// Words of the header. The first three keep their place in every version.
pub(crate) mod header {
    /// [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// [`super::VERSION`].
    pub const VERSION: usize = 1;
    /// Not 0: a new tape took this one's name, or is about to.
    pub const SUPERSEDED: usize = 2;
    /// Random number of this life of the numbering; never 0.
    pub const EPOCH: usize = 3;
    /// Size of the file in bytes.
    pub const BYTES: usize = 4;
    /// Number of enrichments.
    pub const ENRICHMENTS: usize = 5;
    /// Room for instruments.
    pub const MAX_INSTRUMENTS: usize = 6;
    /// Room for reasons.
    pub const MAX_REASONS: usize = 7;
    /// Which boot of the machine wrote last: a file that outlived a crash of the machine may be torn anywhere.
    pub const BOOT: usize = 8;
    /// Process id of the writer; 0 after an orderly end.
    pub const WRITER_PID: usize = 9;
    /// Code of the rule set in force.
    pub const RULE_SET: usize = 10;
    /// Not 0: everything was flushed to the disk at an orderly end.
    pub const CLEAN: usize = 11;

    /// Last complete sequence.
    pub const HEAD: usize = 16;
    /// First sequence not given up.
    pub const OLDEST: usize = 32;
    /// Futex of the bell.
    pub const RINGS: usize = 48;
    /// Whether somebody may sleep; the one word that readers write.
    pub const WAITING: usize = 64;
    /// Up to which sequence the table of last values is complete.
    pub const APPLIED: usize = 80;
    /// Version of the commit block.
    pub const COMMIT: usize = 96;
    /// Version of the status board.
    pub const BOARD: usize = 112;

    /// Words of the header.
    pub const WORDS: usize = 512;
}

/// Most enrichments.
pub(crate) const MAX_ENRICHMENTS: usize = 64;
/// Longest name or unit of an enrichment, bytes.
pub(crate) const MAX_ENRICHMENT_NAME: usize = 64;
/// Most (stream, partition) pairs whose positions are kept.
pub(crate) const MAX_POSITIONS: usize = 4096;
/// Most names of holding cursors that are remembered.
pub(crate) const MAX_HOLDS: usize = 32;
/// Words of a holding cursor: confirmed sequence, length of the name, the name.
pub(crate) const HOLD_WORDS: usize = 32;
/// Longest name of a holding cursor, bytes.
pub(crate) const MAX_HOLD_NAME: usize = (HOLD_WORDS - 2) * 8;
/// Largest status board, bytes.
pub(crate) const MAX_BOARD: usize = 64 * 1024;
/// Most rules, and most rule sets, that one tape file sees.
pub(crate) const MAX_RULES: usize = 4096;
/// Longest instrument id or reason that a tape carries, bytes; what is longer is cut.
pub(crate) const MAX_TEXT: usize = 4096;
/// Smallest data ring: the largest trade takes less than half of it.
pub(crate) const MIN_DATA_WORDS: usize = 32 * 1024;

const META_WORDS: usize = 2048;
const LINE: usize = 16;

/// Sizes a layout follows from. Two tapes with the same sizes have the same layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Number of enrichments.
    pub enrichments: usize,
    /// Room for instruments.
    pub max_instruments: usize,
    /// Room for reasons.
    pub max_reasons: usize,
}

/// Where a dictionary's parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DictionaryRegion {
    /// Count of strings, then words of the arena used.
    pub head: Region,
    /// One word per string: offset in the arena in words (low half), length in bytes (high half).
    pub index: Region,
    /// The strings, each from a full word on.
    pub arena: Region,
}

/// Where everything is, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// What it follows from.
    pub sizes: Sizes,
    /// Names and units of the enrichments.
    pub meta: Region,
    /// Both copies of the commit block.
    pub commit: Region,
    /// The holding cursors.
    pub holds: Region,
    /// Both copies of the status board.
    pub board: Region,
    /// Instrument ids by code.
    pub instruments: DictionaryRegion,
    /// Reasons by code.
    pub reasons: DictionaryRegion,
    /// Names of rules by code.
    pub rules: DictionaryRegion,
    /// Rule sets by code.
    pub rule_sets: DictionaryRegion,
    /// Newest VALID trade of each instrument.
    pub table: Region,
    /// Ring of slots.
    pub slots: Region,
    /// Ring of bytes.
    pub data: Region,
}

/// Gives out regions one behind the other, each at a cache line pair.
struct Cursor(usize);

impl Cursor {
    fn take(&mut self, words: usize) -> Region {
        let region = Region { start: self.0, words };
        self.0 = (self.0 + words).next_multiple_of(LINE);
        region
    }

    fn dictionary(&mut self, strings: usize, arena_words: usize) -> DictionaryRegion {
        DictionaryRegion { head: self.take(LINE), index: self.take(strings), arena: self.take(arena_words) }
    }
}

impl Layout {
    /// Returns the layout of these sizes, or the least number of bytes that it takes.
    pub fn new(sizes: Sizes) -> Result<Self, u64> {
        let mut at = Cursor(header::WORDS);
        let mut layout = Layout {
            sizes,
            meta: at.take(META_WORDS),
            commit: at.take(2 * (3 + 2 * MAX_POSITIONS)),
            holds: at.take(MAX_HOLDS * HOLD_WORDS),
            board: at.take(2 * (1 + MAX_BOARD / 8)),
            instruments: at.dictionary(sizes.max_instruments, 3 * sizes.max_instruments + MAX_TEXT / 8),
            reasons: at.dictionary(sizes.max_reasons, 16 * sizes.max_reasons + MAX_TEXT / 8),
            rules: at.dictionary(MAX_RULES, 8 * MAX_RULES),
            rule_sets: at.dictionary(MAX_RULES, 8 * MAX_RULES),
            table: Region::default(),
            slots: Region::default(),
            data: Region::default(),
        };
        layout.table = at.take(sizes.max_instruments * layout.table_entry_words());
        // A trade's JSON takes about 190 bytes, and 28 more for each enrichment; what is left is split so that slots
        // and bytes run out together.
        let (slot, data) = (layout.slot_words(), 26 + 4 * sizes.enrichments);
        let total = usize::try_from(sizes.bytes / 8).unwrap_or(usize::MAX / 16);
        let slots = total.saturating_sub(at.0 + LINE) / (slot + data);
        let data_words = |at: &Cursor| total.saturating_sub(at.0);
        let least_slots = MIN_DATA_WORDS.div_ceil(data);
        if slots < least_slots {
            return Err(((at.0 + 2 * LINE + (least_slots + 1) * (slot + data)) * 8) as u64);
        }
        layout.slots = at.take(slots * slot);
        layout.data = Region { start: at.0, words: data_words(&at) };
        Ok(layout)
    }

    /// Words of a slot: the fixed part and one for each enrichment.
    pub fn slot_words(&self) -> usize {
        super::slot::FIXED_WORDS + self.sizes.enrichments
    }

    /// Number of slots in the ring.
    pub fn slot_count(&self) -> usize {
        self.slots.words / self.slot_words()
    }

    /// Words of one copy of a last value: sequence, ingest time, id, record and enrichments.
    pub fn value_words(&self) -> usize {
        super::table::VALUE_FIXED_WORDS + self.sizes.enrichments
    }

    /// Words of an entry of the table.
    pub fn table_entry_words(&self) -> usize {
        1 + 2 * self.value_words()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn regions(l: &Layout) -> Vec<Region> {
        let mut all = vec![l.meta, l.commit, l.holds, l.board];
        for d in [l.instruments, l.reasons, l.rules, l.rule_sets] {
            all.extend([d.head, d.index, d.arena]);
        }
        all.extend([l.table, l.slots, l.data]);
        all
    }

    proptest! {
        #[test]
        fn regions_follow_one_another_without_overlap_and_fill_the_file(
            bytes in 0u64..1 << 31, enrichments in 0usize..=MAX_ENRICHMENTS, max_instruments in 0usize..70_000,
            max_reasons in 0usize..5_000,
        ) {
            let sizes = Sizes { bytes, enrichments, max_instruments, max_reasons };
            match Layout::new(sizes) {
                Ok(layout) => {
                    let mut end = header::WORDS;
                    for region in regions(&layout) {
                        prop_assert!(region.start >= end);
                        end = region.start + region.words;
                    }
                    prop_assert_eq!(end as u64, bytes / 8);
                    prop_assert!(layout.data.words >= MIN_DATA_WORDS);
                }
                Err(least) => {
                    prop_assert!(least > bytes);
                    let enough = Sizes { bytes: least, ..sizes };
                    prop_assert!(Layout::new(enough).is_ok());
                }
            }
        }
    }

    #[test]
    fn words_that_change_have_cache_lines_of_their_own() {
        use header::*;
        let changing = [RULE_SET, HEAD, OLDEST, RINGS, WAITING, APPLIED, COMMIT, BOARD];
        for pair in changing.windows(2) {
            assert!(pair[1] / LINE > pair[0] / LINE);
        }
    }
}
