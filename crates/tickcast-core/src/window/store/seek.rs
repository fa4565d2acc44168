//! Moving the ends of a window: tick by tick when it follows the clock, by sums of chunks and groups when it jumps.

use super::{Bound, Chunk, Cursor, Entry, Group, KINDS, Kind, Store, prefetch};
use crate::window::exact::Sum;
use std::cmp::Ordering;

impl Store {
    /// Moves the high or the low end of a window to `bound`, keeping its sum right.
    #[inline]
    pub(super) fn seek<const HIGH: bool>(&mut self, kind: Kind, cursor: &mut Cursor, bound: Bound) {
        let place = if HIGH { cursor.high } else { cursor.low };
        let entries = &self.chunk(place).entries;
        let at = place.entry as usize;
        if let Some(entry) = entries.get(at).filter(|e| bound.is_after(e)) {
            if entries.get(at + 1).is_some_and(|e| !bound.is_after(e)) {
                // By one tick within its chunk: what nearly always happens.
                prefetch(entries, at);
                add::<HIGH>(cursor, sum_if(entry, kind));
                let end = if HIGH { &mut cursor.high } else { &mut cursor.low };
                end.entry += 1;
                return;
            }
            self.forward::<HIGH>(kind, cursor, bound);
        } else if at == self.first(place) || !bound.is_after(&entries[at - 1]) {
            self.backward::<HIGH>(kind, cursor, bound);
        }
    }

    fn forward<const HIGH: bool>(&mut self, kind: Kind, cursor: &mut Cursor, bound: Bound) {
        let mut place = if HIGH { cursor.high } else { cursor.low };
        loop {
            let first = self.first(place);
            let at = place.entry as usize;
            let group = &mut self.groups[place.group as usize];
            if place.chunk == 0 && at == first && group.last_ns < bound.timestamp_ns() {
                group.refresh(first);
                add::<HIGH>(cursor, group.sums[kind as usize]);
                place.chunk = group.chunks.len() as u32 - 1;
            } else {
                let chunk = &mut group.chunks[place.chunk as usize];
                let to = chunk.partition(at, bound);
                add::<HIGH>(cursor, chunk.between(first, at, to, kind));
                if to < chunk.entries.len() {
                    place.entry = to as u32;
                    break;
                }
            }
            let next = self.behind_chunk(place);
            let was_last = next.group == place.group && next.chunk == place.chunk;
            place = next;
            if was_last {
                break;
            }
        }
        *(if HIGH { &mut cursor.high } else { &mut cursor.low }) = place;
    }

    fn backward<const HIGH: bool>(&mut self, kind: Kind, cursor: &mut Cursor, bound: Bound) {
        let mut place = if HIGH { cursor.high } else { cursor.low };
        loop {
            let first = self.first(place);
            let at = place.entry as usize;
            let (g, c) = (place.group as usize, place.chunk as usize);
            let ns = bound.timestamp_ns();
            // What lies before a chunk says whether the whole chunk lies behind the bound, without a look into it.
            let whole_group = g > 0 && self.groups[g - 1].last_ns > ns;
            let group = &mut self.groups[g];
            let is_last = c + 1 == group.chunks.len();
            if whole_group && is_last && at == group.chunks[c].entries.len() {
                group.refresh(first);
                subtract::<HIGH>(cursor, group.sums[kind as usize]);
                (place.chunk, place.entry) = (0, 0);
            } else {
                let whole = if c > 0 { group.chunks[c - 1].last_ns > ns } else { whole_group };
                let chunk = &mut group.chunks[c];
                let to =
                    if whole { first } else { first + chunk.entries[first..at].partition_point(|e| bound.is_after(e)) };
                subtract::<HIGH>(cursor, chunk.between(first, to, at, kind));
                place.entry = to as u32;
                if to > first {
                    break;
                }
            }
            // At the first entry of a chunk: go on only if the chunk before it ends behind the bound.
            match self.previous_chunk(place) {
                Some(end) if !self.chunk(end).ends_before(bound) => place = end,
                _ => break,
            }
        }
        *(if HIGH { &mut cursor.high } else { &mut cursor.low }) = place;
    }
}

/// The high end takes in what it passes, the low end leaves it out.
#[inline]
fn add<const HIGH: bool>(cursor: &mut Cursor, sum: Sum) {
    if HIGH { cursor.sum += sum } else { cursor.sum -= sum }
}

/// The same, going back.
#[inline]
fn subtract<const HIGH: bool>(cursor: &mut Cursor, sum: Sum) {
    if HIGH { cursor.sum -= sum } else { cursor.sum += sum }
}

#[inline]
fn sum_if(entry: &Entry, kind: Kind) -> Sum {
    if entry.counts(kind) { entry.sum() } else { Sum::default() }
}

fn sum_of(entries: &[Entry], kind: Kind) -> Sum {
    // A few are cheaper one by one.
    if entries.len() <= 4 {
        let mut sum = Sum::default();
        entries.iter().for_each(|e| sum += sum_if(e, kind));
        return sum;
    }
    match kind {
        Kind::Screened => Sum::of_all(entries.iter().map(Entry::screened)),
        Kind::Valid => Sum::of_all(entries.iter().map(Entry::valid)),
    }
}

impl Group {
    /// Computes the sums if they are not known; `first`: the first held entry.
    fn refresh(&mut self, first: usize) {
        if self.summed {
            return;
        }
        self.sums = [Sum::default(); 2];
        for (i, chunk) in self.chunks.iter_mut().enumerate() {
            chunk.refresh(if i == 0 { first } else { 0 });
            for kind in KINDS {
                self.sums[kind as usize] += chunk.sums[kind as usize];
            }
        }
        self.summed = true;
    }
}

impl Chunk {
    /// Whether all of it lies before `bound`.
    #[inline]
    fn ends_before(&self, bound: Bound) -> bool {
        match self.last_ns.cmp(&bound.timestamp_ns()) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => self.entries.last().is_some_and(|e| bound.is_after(e)),
        }
    }

    /// Returns the first entry from `at` on that is not before `bound`.
    fn partition(&self, at: usize, bound: Bound) -> usize {
        if self.ends_before(bound) {
            return self.entries.len();
        }
        at + self.entries[at..].partition_point(|e| bound.is_after(e))
    }

    /// Returns the sum of `from..to`, or the chunk's less that of the rest, whichever is shorter to add up.
    fn between(&mut self, first: usize, from: usize, to: usize, kind: Kind) -> Sum {
        let rest = (from - first) + (self.entries.len() - to);
        if to - from <= rest {
            return sum_of(&self.entries[from..to], kind);
        }
        self.refresh(first);
        let mut sum = self.sums[kind as usize];
        sum -= sum_of(&self.entries[first..from], kind);
        sum -= sum_of(&self.entries[to..], kind);
        sum
    }

    fn refresh(&mut self, first: usize) {
        if !self.summed {
            self.sums = KINDS.map(|kind| sum_of(&self.entries[first..], kind));
            self.summed = true;
        }
    }
}
