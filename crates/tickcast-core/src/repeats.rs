//! Which trades of a topic are there a second time.
//!
//! A processor that was killed writes some trades again, with the same ids. Sinks write the trades of an instrument in
//! the order of their positions, whatever the format, so it is enough to keep the last position of each instrument and
//! source partition: what does not lie behind it has been there. A set of ids would grow without end.

use crate::Names;
use crate::position::{Position, TradeId};
use crate::tape::{Read, Run, TapeReader};
use crate::trade::Status;
use std::collections::{HashSet, VecDeque};

/// Source partitions kept for an instrument, those that it came from last: connections without a log are one each.
const MAX_PARTITIONS: usize = 16;
/// Ids kept of trades whose instrument id did not pass the screen: there may be any number of such ids.
const MAX_LOOSE: usize = 65_536;
/// Instruments with positions of their own; those beyond are told apart by trade id.
const MAX_INSTRUMENTS: usize = 1 << 20;

/// What has been there.
#[derive(Debug, Default)]
pub struct Repeats {
    names: Names,
    /// Last positions, the latest partition last, by the code in `names`.
    last: Vec<Vec<Position>>,
    loose: HashSet<TradeId>,
    order: VecDeque<TradeId>,
}

impl Repeats {
    /// Returns what has been on a tape: its trades, and the newest VALID one of each instrument.
    pub fn of_tape(reader: &TapeReader) -> Self {
        let mut repeats = Repeats::default();
        for entry in reader.snapshot().iter() {
            repeats.is_new(entry.trade().instrument_id, true, entry.trade().id);
        }
        let instruments = reader.instruments(0);
        let mut run = Run::default();
        let mut from = reader.oldest();
        while from <= reader.head() {
            match reader.read(from, reader.head().min(from + 4095), &mut run) {
                Read::Overrun { oldest } => from = oldest,
                Read::Hole { to } => from = to + 1,
                Read::Done { to } => {
                    for r in run.iter() {
                        let listed = instruments.get(r.instrument() as usize).map(String::as_str);
                        let id = r.instrument_text().or(listed).unwrap_or_default();
                        repeats.is_new(id, has_instrument(r.status(), r.reason_text()), r.id());
                    }
                    from = to + 1;
                }
            }
        }
        repeats
    }

    /// Tells whether a trade has not been there yet, and notes that it has now. `ordered`: its instrument has an order,
    /// see [`has_instrument`].
    pub fn is_new(&mut self, instrument_id: &str, ordered: bool, id: TradeId) -> bool {
        let code = match self.names.code(instrument_id) {
            Some(code) => Some(code),
            None if ordered && self.names.len() < MAX_INSTRUMENTS => Some(self.names.intern(instrument_id)),
            None => None,
        };
        let Some(code) = code.filter(|_| ordered) else { return self.is_new_loose(id) };
        if code as usize >= self.last.len() {
            self.last.resize_with(code as usize + 1, Vec::new);
        }
        let (known, position) = (&mut self.last[code as usize], id.position());
        let of = |p: &Position| (p.stream, p.partition);
        if let Some(at) = known.iter().rposition(|p| of(p) == of(&position)) {
            if known[at] >= position {
                return false;
            }
            known.remove(at);
        } else if known.len() == MAX_PARTITIONS {
            known.remove(0);
        }
        known.push(position);
        true
    }

    fn is_new_loose(&mut self, id: TradeId) -> bool {
        if !self.loose.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_LOOSE {
            self.order.pop_front().map(|oldest| self.loose.remove(&oldest));
        }
        true
    }
}

/// Whether the instrument id of a judged trade passed the screen; else it may be anything.
pub fn has_instrument(status: Status, reason: Option<&str>) -> bool {
    status != Status::Invalid || !reason.is_some_and(|reason| reason.starts_with("Processing error: instrument_id: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(partition: u16, offset: u64) -> TradeId {
        Position { stream: 1, partition, offset, index: 0 }.trade_id()
    }

    #[test]
    fn what_does_not_lie_behind_the_last_of_its_partition_has_been_there() {
        let mut repeats = Repeats::default();
        let mut new = |name, partition, offset| repeats.is_new(name, true, id(partition, offset));
        assert!(new("AAA", 0, 5) && new("AAA", 0, 9) && new("BBB", 0, 6), "a batch is ordered by instrument only");
        assert!(!new("AAA", 0, 5) && !new("AAA", 0, 9) && !new("BBB", 0, 6));
        assert!(new("AAA", 1, 2), "partitions have orders of their own");
        assert!(new("AAA", 0, 10));
    }

    #[test]
    fn ids_that_are_no_instruments_are_known_by_trade_and_bounded() {
        let mut repeats = Repeats::default();
        assert!(repeats.is_new("?", false, id(0, 9)) && repeats.is_new("?", false, id(0, 8)));
        assert!(!repeats.is_new("?", false, id(0, 9)));
        for offset in 10..10 + MAX_LOOSE as u64 + 5 {
            assert!(repeats.is_new(&format!("junk {offset}"), false, id(0, offset)));
        }
        assert_eq!((repeats.loose.len(), repeats.order.len(), repeats.last.len()), (MAX_LOOSE, MAX_LOOSE, 0));
    }

    #[test]
    fn connections_that_come_and_go_leave_a_bounded_trace() {
        let mut repeats = Repeats::default();
        for partition in 0..1000 {
            assert!(repeats.is_new("AAA", true, id(partition, 1)));
        }
        assert_eq!(repeats.last[0].len(), MAX_PARTITIONS);
        assert!(!repeats.is_new("AAA", true, id(999, 1)));
    }
}
