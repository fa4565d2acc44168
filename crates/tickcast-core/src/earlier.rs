//! Verdicts given earlier: ticks that are read again, only to fill the windows, are not judged again.
//!
//! They are on the tape, or in the topic that the processor before this one wrote. Rules may be of another version by
//! now, or say something else the second time; the windows hold what went out.

use crate::position::{Origin, Position};
use crate::tape::{Read, Run, TapeReader};
use crate::tick::TickBatch;
use crate::trade::Status;
use std::collections::HashMap;

/// Statuses by position.
#[derive(Debug, Default)]
pub struct EarlierVerdicts {
    /// By stream and partition, then by offset and index.
    partitions: HashMap<(u32, u16), HashMap<(u64, u16), Status>>,
}

impl EarlierVerdicts {
    /// Returns those of all trades on a tape.
    pub fn of_tape(reader: &TapeReader) -> Self {
        let mut found = EarlierVerdicts::default();
        let mut run = Run::default();
        let mut from = reader.oldest();
        while from <= reader.head() {
            from = match reader.read(from, reader.head().min(from + 4095), &mut run) {
                Read::Overrun { oldest } => oldest,
                Read::Hole { to } => to + 1,
                Read::Done { to } => {
                    run.iter().for_each(|r| found.note(r.id().position(), r.status()));
                    to + 1
                }
            };
        }
        found
    }

    /// Notes a verdict. The first one stays: what was read again later was not written again.
    pub fn note(&mut self, at: Position, status: Status) {
        let partition = self.partitions.entry((at.stream, at.partition)).or_default();
        partition.entry((at.offset, at.index)).or_insert(status);
    }

    /// Returns the verdict on the tick at a position.
    pub fn get(&self, at: Position) -> Option<Status> {
        self.partitions.get(&(at.stream, at.partition))?.get(&(at.offset, at.index)).copied()
    }

    /// Whether there is a tick in the batch on which no verdict is known.
    pub fn lacks(&self, ticks: &TickBatch, origin: &Origin) -> bool {
        (0..ticks.len()).any(|row| self.get(origin.position(ticks.message[row] as usize, ticks.index[row])).is_none())
    }

    /// Forgets a partition's.
    pub fn forget(&mut self, stream: u32, partition: u16) {
        self.partitions.remove(&(stream, partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: u16, offset: u64, index: u16) -> Position {
        Position { stream: 7, partition, offset, index }
    }

    #[test]
    fn the_first_verdict_stays_until_its_partition_is_forgotten() {
        let mut earlier = EarlierVerdicts::default();
        earlier.note(at(0, 5, 1), Status::Invalid);
        earlier.note(at(0, 5, 1), Status::Valid);
        earlier.note(at(1, 5, 1), Status::Unknown);
        assert_eq!(earlier.get(at(0, 5, 1)), Some(Status::Invalid));
        assert_eq!(earlier.get(at(0, 5, 0)), None);
        earlier.forget(7, 0);
        assert_eq!(earlier.get(at(0, 5, 1)), None);
        assert_eq!(earlier.get(at(1, 5, 1)), Some(Status::Unknown));
    }

    #[test]
    fn a_batch_lacks_verdicts_while_one_of_its_ticks_has_none() {
        let mut origin = Origin::new(7, 0);
        origin.push(8, 0, 0);
        let payload: &[u8] =
            br#"[{"instrumentId":"AAA","price":1,"volume":1},{"instrumentId":"BBB","price":1,"volume":1}]"#;
        let ticks = crate::decode::decode([(None, payload)], &crate::decode::Options::default()).ticks;
        let mut earlier = EarlierVerdicts::default();
        earlier.note(at(0, 8, 0), Status::Valid);
        assert!(earlier.lacks(&ticks, &origin));
        earlier.note(at(0, 8, 1), Status::Valid);
        assert!(!earlier.lacks(&ticks, &origin));
    }
}
