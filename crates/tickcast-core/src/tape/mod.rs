//! The tape: the one place where output lives. A ring of trades in a memory-mapped file, one writer, any number of
//! readers in any number of processes; each trade has a sequence number, from 1, without holes.
//!
//! [`TapeWriter`] judges nothing and knows no reader; a [`TapeReader`] knows the file and nothing else. Whoever reads
//! is a *cursor*: a sequence number that it keeps itself.
//!
//! # Overrun and gaps
//! The ring is bounded, and the writer never waits for a viewer. A cursor that has fallen behind by more than the
//! ring holds gets [`Read::Overrun`] with the oldest sequence left, also when that happens while it copies: a torn
//! trade is never delivered. From there on it is the reader's to announce the gap and go on; *delivered + in gaps =
//! written*. Cursors that must not lose anything hold ([`TapeWriter::hold`]): the writer refuses to overwrite what
//! they have not confirmed, and says whom it waits for.
//!
//! # Late joiners
//! Start at [`TapeReader::snapshot`]: the newest VALID trade of every instrument as of one sequence, from a table
//! that survives overrun; live goes on with the next sequence. Dictionaries only grow, so codes can be asked for
//! incrementally.
//!
//! # Writer crash and epochs
//! Trades become visible when the head moves past them; what a killed writer had begun lies beyond the head and is
//! overwritten by the next. The next writer takes the tape up: same epoch, next sequence, and the source positions
//! that were committed together with the last trade. Readers notice nothing. A new epoch begins only with a new file:
//! when the old one is of another layout or size, has other enrichments, does not hang together, or outlived a crash
//! of the machine. Readers of the old file are told ([`TapeReader::superseded`]) and open again.
//!
//! A reader may be killed anywhere: it leaves nothing behind but a mark that costs the writer one needless wake-up.
//!
//! # Following
//! A tape may follow another one ([`TapeWriter::follow`]): it keeps that one's epoch and sequences, so that a cursor
//! means the same trades on both. What it did not get is a hole ([`Read::Hole`]): a gap of all its readers.
//!
//! # Closing
//! Dropping the writer gives the lock back and clears its process id; [`TapeWriter::close`] also flushes the file, so
//! that the tape can be taken up after the machine was restarted. Readers read on as long as they like.

mod commit;
mod dictionary;
mod file;
mod follow;
mod futex;
mod hold;
mod layout;
mod memory;
mod open;
mod protocol;
mod reader;
#[cfg(all(test, not(loom)))]
mod ring_tests;
mod run;
mod shared;
mod slot;
mod snapshot;
mod stage;
mod table;
mod topic;
mod writer;

pub use follow::Followed;
pub use hold::Hold;
pub use open::{Enrichment, TapeOptions};
pub use reader::{MAX_RUN, Read, TapeReader};
pub use run::{Kept, Record, Run};
pub use slot::{NO_INSTRUMENT, NO_REASON, NO_RULE, SCREEN_RULE, TEXT_REASON, flags};
pub use snapshot::{Snapshot, SnapshotEntry};
pub use stage::Entry;
pub use topic::Arrived;
pub use writer::TapeWriter;

use shared::Shared;

/// Name of the tape's file in the run directory.
pub const TAPE_FILE: &str = "tape";
/// Name of the lock's file in the run directory; it holds the writer's process id.
pub const LOCK_FILE: &str = "tape.lock";
