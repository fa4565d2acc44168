//! Trade ids in runs: ids that follow one another upstream take 24 bytes together, however many they are.
//!
//! A run is a count u32, a kind u32, and then: the first id (kinds [`OFFSETS`] and [`INDEXES`]) or all of them
//! ([`LIST`]).

use super::decode::{Bytes, FrameError};
use crate::{Position, TradeId};

/// The offset grows by one from trade to trade.
const OFFSETS: u32 = 0;
/// The index within the message grows by one from trade to trade.
const INDEXES: u32 = 1;
/// Ids that don't follow one another, each in full.
const LIST: u32 = 2;

const HEAD_BYTES: usize = 8;
const ID_BYTES: usize = 16;

/// Returns the kind of run in which `next` comes right after `last`.
fn step(last: Position, next: Position) -> Option<u32> {
    [OFFSETS, INDEXES].into_iter().find(|&kind| after(last, kind, 1) == Some(next))
}

/// Returns the position `n` steps after `first`.
fn after(first: Position, kind: u32, n: u32) -> Option<Position> {
    match kind {
        OFFSETS => Some(Position { offset: first.offset.checked_add(u64::from(n))?, ..first }),
        _ => Some(Position { index: first.index.checked_add(u16::try_from(n).ok()?)?, ..first }),
    }
}

/// A run that is being written.
struct Open {
    at: usize,
    count: u32,
    kind: u32,
}

impl Open {
    fn new(out: &mut Vec<u8>, kind: u32, first: TradeId, count: u32) -> Self {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&first.0);
        Open { at, count, kind }
    }

    fn close(&self, out: &mut [u8]) {
        out[self.at..self.at + 4].copy_from_slice(&self.count.to_le_bytes());
    }
}

/// Appends the ids in runs; returns how many runs.
pub(super) fn write(out: &mut Vec<u8>, ids: impl Iterator<Item = TradeId>) -> u32 {
    let mut runs = 0;
    let mut last = Position::default();
    let mut open: Option<Open> = None;
    for id in ids {
        let position = id.position();
        let kind = step(last, position);
        match &mut open {
            Some(run) if run.kind != LIST && kind == Some(run.kind) => run.count += 1,
            Some(run) if run.kind == LIST && kind.is_none() => {
                run.count += 1;
                out.extend_from_slice(&id.0);
            }
            Some(run) if run.kind == LIST => {
                // The last of the list turns out to be the first of a run.
                out.truncate(out.len() - ID_BYTES);
                run.count -= 1;
                if run.count == 0 {
                    out.truncate(run.at);
                    runs -= 1;
                } else {
                    run.close(out);
                }
                open = Some(Open::new(out, kind.unwrap_or(LIST), last.trade_id(), 2));
                runs += 1;
            }
            other => {
                if let Some(run) = other {
                    run.close(out);
                }
                open = Some(Open::new(out, LIST, id, 1));
                runs += 1;
            }
        }
        last = position;
    }
    if let Some(run) = open {
        run.close(out);
    }
    runs
}

/// Reads `runs` runs, which must hold `count` ids.
pub(super) fn read(bytes: &mut Bytes<'_>, runs: u32, count: usize) -> Result<Vec<TradeId>, FrameError> {
    let mut ids = Vec::with_capacity(count);
    for _ in 0..runs {
        let head = bytes.take(HEAD_BYTES)?;
        let [n, kind] = [0, 4].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        if n as usize > count - ids.len() {
            return Err(bytes.wrong("more trade ids than trades"));
        }
        match kind {
            LIST => ids.extend(bytes.take(n as usize * ID_BYTES)?.chunks_exact(ID_BYTES).map(id)),
            OFFSETS | INDEXES => {
                let first = id(bytes.take(ID_BYTES)?).position();
                for k in 0..n {
                    let position = after(first, kind, k).ok_or_else(|| bytes.wrong("a run of ids beyond the last"))?;
                    ids.push(position.trade_id());
                }
            }
            _ => return Err(bytes.wrong("a run of ids of an unknown kind")),
        }
    }
    if ids.len() < count {
        return Err(bytes.wrong("fewer trade ids than trades"));
    }
    Ok(ids)
}

fn id(bytes: &[u8]) -> TradeId {
    let mut id = TradeId::default();
    id.0.copy_from_slice(bytes);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(positions: &[Position]) -> (Vec<u8>, u32) {
        let mut out = Vec::new();
        let runs = write(&mut out, positions.iter().map(|p| p.trade_id()));
        (out, runs)
    }

    #[test]
    fn ids_that_follow_one_another_take_one_run() {
        let offsets: Vec<Position> =
            (5..900).map(|offset| Position { stream: 7, offset, ..Position::default() }).collect();
        assert_eq!((written(&offsets).0.len(), written(&offsets).1), (24, 1));
        let indexes: Vec<Position> =
            (0..64).map(|index| Position { stream: 7, index, ..Position::default() }).collect();
        assert_eq!((written(&indexes).0.len(), written(&indexes).1), (24, 1));
    }

    proptest! {
        /// Small numbers, so that neighbours are often neighbours upstream too.
        #[test]
        fn whatever_was_written_is_read(
            parts in proptest::collection::vec((0u16..2, 0u64..4, 0u16..4), 0..40), near_the_end in any::<bool>(),
        ) {
            let base = if near_the_end { u64::MAX - 3 } else { 0 };
            let positions: Vec<Position> = parts
                .iter()
                .map(|&(partition, offset, index)| Position { stream: 1, partition, offset: base + offset, index })
                .collect();
            let (out, runs) = written(&positions);
            prop_assert!(out.len() <= positions.len() * ID_BYTES + (positions.len() / 2 + 1) * HEAD_BYTES);
            let ids = read(&mut Bytes::new(&out), runs, positions.len()).expect("own bytes");
            prop_assert_eq!(ids, positions.iter().map(|p| p.trade_id()).collect::<Vec<_>>());
        }
    }
}
