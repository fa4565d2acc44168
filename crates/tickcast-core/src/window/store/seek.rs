//! Moving the ends of a window: tick by tick when it follows the clock, by sums of chunks and groups when it jumps.

use super::{Bound, Chunk, Cursor, Entry, Group, KINDS, Kind, Place, Store, prefetch};
use crate::window::exact::Sum;
use std::cmp::Ordering;

/// Steps taken one by one before a window is taken to jump.
const NEAR: usize = 5;

impl Store {
    /// Moves the high or the low end of a window to `bound`, keeping its sum right.
    #[inline]
    pub(super) fn seek<const HIGH: bool>(&mut self, kind: Kind, bound: Bound) {
        let cursor = &self.cursors[kind as usize];
        let place = if HIGH { cursor.high } else { cursor.low };
        let entries = &self.groups[place.group as usize].chunks[place.chunk as usize].entries;
        let at = place.entry as usize;
        if entries.get(at).is_some_and(|e| bound.is_after(e)) {
            // By a tick or two within its chunk: what nearly always happens.
            let cursor = &mut self.cursors[kind as usize];
            let mut rest = entries[at..].iter().take(NEAR);
            while let Some(entry) = rest.next() {
                if !bound.is_after(entry) {
                    prefetch(entries, cursor.end::<HIGH>().entry as usize);
                    return;
                }
                if rest.len() == 0 {
                    break;
                }
                if entry.counts(kind) {
                    cursor.pass::<HIGH, true>(entry.sum());
                }
                cursor.end::<HIGH>().entry += 1;
            }
            let place = *cursor.end::<HIGH>();
            let (place, passed) = self.forward(kind, place, bound);
            self.cursors[kind as usize].pass::<HIGH, true>(passed);
            *self.cursors[kind as usize].end::<HIGH>() = place;
        } else if at == self.first(place) || !bound.is_after(&entries[at - 1]) {
            let (place, passed) = self.backward(kind, place, bound);
            self.cursors[kind as usize].pass::<HIGH, false>(passed);
            *self.cursors[kind as usize].end::<HIGH>() = place;
        }
    }

    /// Returns the place of `bound`, which lies at or after `place`, and the sum of what is between.
    fn forward(&mut self, kind: Kind, mut place: Place, bound: Bound) -> (Place, Sum) {
        let mut passed = Sum::default();
        loop {
            let first = self.first(place);
            let at = place.entry as usize;
            let group = &mut self.groups[place.group as usize];
            if place.chunk == 0 && at == first && group.last_ns < bound.timestamp_ns() {
                group.refresh(first);
                passed += group.sums[kind as usize];
                place.chunk = group.chunks.len() as u32 - 1;
            } else {
                let chunk = &mut group.chunks[place.chunk as usize];
                let to = chunk.partition(at, bound);
                passed += chunk.between(first, at, to, kind);
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
        (place, passed)
    }

    /// The same if it lies at or before `place`.
    fn backward(&mut self, kind: Kind, mut place: Place, bound: Bound) -> (Place, Sum) {
        let mut passed = Sum::default();
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
                passed += group.sums[kind as usize];
                (place.chunk, place.entry) = (0, 0);
            } else {
                let whole = if c > 0 { group.chunks[c - 1].last_ns > ns } else { whole_group };
                let chunk = &mut group.chunks[c];
                let to =
                    if whole { first } else { first + chunk.entries[first..at].partition_point(|e| bound.is_after(e)) };
                passed += chunk.between(first, to, at, kind);
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
        (place, passed)
    }
}

impl Cursor {
    #[inline]
    fn end<const HIGH: bool>(&mut self) -> &mut Place {
        if HIGH { &mut self.high } else { &mut self.low }
    }

    /// Lets one of its ends pass trades: going forward, the high end takes them in and the low end leaves them out.
    #[inline]
    fn pass<const HIGH: bool, const FORWARD: bool>(&mut self, sum: Sum) {
        if HIGH == FORWARD { self.sum += sum } else { self.sum -= sum }
    }
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
