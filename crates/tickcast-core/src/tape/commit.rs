//! The commit block: head, end of the data ring and source positions, published by one store.
//!
//! What recovery trusts. The header's `head`, which readers follow, comes after it; a writer killed between the two
//! has committed.

use super::Shared;
use super::layout::{MAX_POSITIONS, header};
use super::memory::store;
use super::protocol::Flip;
use crate::Position;

/// Contents of a commit block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Last complete sequence.
    pub head: u64,
    /// End of the data ring's used part, words since the epoch began.
    pub data_end: u64,
    /// Last position per (stream, partition), in that order.
    pub positions: Vec<Position>,
}

impl Commit {
    /// Notes a position, instead of the one of the same stream and partition. `false`: no room for one more.
    pub fn note(&mut self, position: Position) -> bool {
        let key = |p: &Position| (p.stream, p.partition);
        match self.positions.binary_search_by_key(&key(&position), key) {
            Ok(at) => self.positions[at] = position,
            Err(_) if self.positions.len() >= MAX_POSITIONS => return false,
            Err(at) => self.positions.insert(at, position),
        }
        true
    }

    /// Publishes the block.
    pub fn write(&self, shared: &Shared) {
        flip(shared).write(|copy| {
            store(copy, &[self.head, self.data_end, self.positions.len() as u64]);
            for (words, p) in copy[3..].chunks_exact(2).zip(&self.positions) {
                let key = u64::from(p.stream) | u64::from(p.partition) << 32 | u64::from(p.index) << 48;
                store(words, &[key, p.offset]);
            }
        });
    }

    /// Returns the published block; `None` if there is none, or garbage.
    pub fn read(shared: &Shared) -> Option<Self> {
        let mut words = vec![0u64; shared.layout.commit.words / 2];
        if flip(shared).read(&mut words) == 0 {
            return None;
        }
        let count = usize::try_from(words[2]).ok().filter(|&n| n <= MAX_POSITIONS)?;
        let positions: Vec<Position> = words[3..3 + 2 * count]
            .chunks_exact(2)
            .map(|w| Position {
                stream: w[0] as u32,
                partition: (w[0] >> 32) as u16,
                index: (w[0] >> 48) as u16,
                offset: w[1],
            })
            .collect();
        let in_order = positions.windows(2).all(|p| (p[0].stream, p[0].partition) < (p[1].stream, p[1].partition));
        in_order.then_some(Commit { head: words[0], data_end: words[1], positions })
    }
}

fn flip(shared: &Shared) -> Flip<'_> {
    Flip { version: shared.word(header::COMMIT), copies: shared.memory.region(shared.layout.commit) }
}
