//! The table of last values: the newest VALID trade of each instrument, so that a late joiner gets a picture of the
//! market even when the ring has long forgotten its quiet instruments.
//!
//! It runs behind the head: `applied` says up to where it is complete, and whoever reads it replays the ring from
//! there ([`super::snapshot`]).

use super::Shared;
use super::layout::header;
use super::memory::{Ordering, store};
use super::protocol::Flip;
use super::slot;

/// Words of a value without enrichments: sequence, ingest time, id (2), record (5).
pub(crate) const VALUE_FIXED_WORDS: usize = 4 + (slot::FIXED_WORDS - slot::RECORD);
/// Sequence of the trade; 0: none.
pub(crate) const SEQUENCE: usize = 0;
/// When it came in.
pub(crate) const INGEST: usize = 1;
/// Its id.
pub(crate) const ID: usize = 2;
/// Its record and enrichments.
pub(crate) const RECORD: usize = 4;

/// Returns the entry of the instrument with this code, which must be below `max_instruments`.
pub(crate) fn entry(shared: &Shared, code: usize) -> Flip<'_> {
    let words = shared.layout.table_entry_words();
    let entry = &shared.memory.region(shared.layout.table)[code * words..(code + 1) * words];
    Flip { version: &entry[0], copies: &entry[1..] }
}

/// Enters the trade in `slot_words` with sequence `seq` as its instrument's newest.
pub(crate) fn apply(shared: &Shared, seq: u64, slot_words: &[u64]) {
    let code = slot_words[slot::RECORD] as u32 as usize;
    if code >= shared.layout.sizes.max_instruments {
        return;
    }
    entry(shared, code).write(|copy| {
        store(copy, &[seq, slot_words[2], slot_words[5], slot_words[6]]);
        store(&copy[RECORD..], &slot_words[slot::RECORD..]);
    });
}

/// Copies the part of a slot that the table keeps to `value`.
pub(crate) fn value_of_slot(seq: u64, slot_words: &[u64], value: &mut [u64]) {
    value[SEQUENCE] = seq;
    value[INGEST] = slot_words[2];
    value[ID..RECORD].copy_from_slice(&slot_words[5..7]);
    value[RECORD..].copy_from_slice(&slot_words[slot::RECORD..]);
}

/// Writer: the table is complete up to `seq`.
pub(crate) fn set_applied(shared: &Shared, seq: u64) {
    shared.word(header::APPLIED).store(seq, Ordering::Release);
}

/// Returns up to which sequence the table is complete.
pub(crate) fn applied(shared: &Shared) -> u64 {
    shared.word(header::APPLIED).load(Ordering::Acquire)
}
