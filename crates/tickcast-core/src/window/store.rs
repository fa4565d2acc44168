//! The held ticks of one instrument, sorted by time (ties: by tape order), and the two windows over them.
//!
//! Chunks of ticks stand in groups, a tree two levels deep. Chunks and groups know their sums once these were asked
//! for, so a window that jumps skips them whole; a window that follows the clock goes tick by tick and never asks.
//!
//! A [`Cursor`] is a window: two places and the exact sum between. Whatever is inserted or evicted shifts the places
//! along, so they need no search as long as ticks come more or less in order.

use super::entry::{Bound, Entry, KINDS, Kind};
use super::exact::Sum;
use std::collections::VecDeque;

// Tests have tiny chunks, so that a few dozen ticks already split and drop them.
/// Most ticks in a chunk.
const CHUNK: usize = if cfg!(test) { 8 } else { 256 };
/// Most chunks in a group.
const GROUP: usize = if cfg!(test) { 4 } else { 32 };
/// Least ticks that a chunk grows by.
const GRAIN: usize = if cfg!(test) { 2 } else { 8 };

/// Ticks that follow each other.
#[derive(Debug, Default)]
struct Chunk {
    entries: Vec<Entry>,
    /// By [`Kind`]; only right if `summed`.
    sums: [Sum; 2],
    summed: bool,
    /// Time of the last entry, here so that whoever passes by need not fetch it.
    last_ns: i64,
}

/// Chunks that follow each other.
#[derive(Debug, Default)]
struct Group {
    chunks: Vec<Chunk>,
    sums: [Sum; 2],
    summed: bool,
    last_ns: i64,
}

/// A place before an entry; behind the last entry of a chunk only if nothing follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    group: u32,
    chunk: u32,
    entry: u32,
}

/// A window: from `low` up to, but without, `high`.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    low: Place,
    high: Place,
    sum: Sum,
}

/// Held ticks and windows of an instrument.
#[derive(Debug)]
pub(super) struct Store {
    /// Never empty; nor is any group, nor any chunk but that of an empty store.
    groups: VecDeque<Group>,
    /// Entries at the very front that are evicted already.
    evicted: usize,
    held: usize,
    /// Time of the oldest held entry; later than any if there is none.
    front_ns: i64,
    /// By [`Kind`].
    cursors: [Cursor; 2],
}

impl Store {
    pub(super) fn new() -> Self {
        let group = Group { chunks: vec![Chunk::default()], ..Group::default() };
        Self {
            groups: VecDeque::from([group]),
            evicted: 0,
            held: 0,
            front_ns: i64::MAX,
            cursors: [Cursor::default(); 2],
        }
    }

    /// Number of held ticks.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Oldest and newest time of the held ticks, ns; None if there are none.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        let last_ns = self.groups.back()?.chunks.last()?.last_ns;
        (self.held > 0).then_some((self.front_ns, last_ns))
    }

    /// Bytes of the ticks and of what finds them.
    pub(super) fn bytes(&self) -> usize {
        let chunks = self.groups.iter().flat_map(|g| &g.chunks).map(|c| c.entries.capacity() * size_of::<Entry>());
        let headers = self.groups.iter().map(|g| g.chunks.capacity() * size_of::<Chunk>());
        chunks.sum::<usize>() + headers.sum::<usize>() + self.groups.capacity() * size_of::<Group>()
    }

    /// Held ticks in order of time.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.groups.iter().flat_map(|g| &g.chunks).flat_map(|c| &c.entries).skip(self.evicted)
    }

    /// Held ticks by chunks, from the first one that reaches beyond a time.
    pub(super) fn chunks_after(&self, after_ns: i64) -> impl Iterator<Item = &[Entry]> {
        let groups = self.groups.iter().enumerate().filter(move |(_, group)| group.last_ns > after_ns);
        groups.flat_map(move |(g, group)| {
            group.chunks.iter().enumerate().filter(move |(_, chunk)| chunk.last_ns > after_ns).map(move |(c, chunk)| {
                let evicted = if g == 0 && c == 0 { self.evicted } else { 0 };
                &chunk.entries[evicted..]
            })
        })
    }

    /// Moves a window to the ticks with time after `after_ns` and before `end`; returns their sum.
    ///
    /// By reference, here and below: words just written and read back as a block would stall.
    #[inline]
    pub(super) fn window(&mut self, kind: Kind, after_ns: i64, end: Bound) -> &Sum {
        self.seek::<true>(kind, end);
        self.seek::<false>(kind, Bound::after(after_ns));
        &self.cursors[kind as usize].sum
    }

    /// Returns the same sum and leaves the window where it is.
    pub(super) fn peek(&mut self, kind: Kind, after_ns: i64, end: Bound) -> Sum {
        let cursor = self.cursors[kind as usize];
        let sum = *self.window(kind, after_ns, end);
        self.cursors[kind as usize] = cursor;
        sum
    }

    /// Inserts a pending tick at the end of the screened window, which has just been moved to it, and into it.
    #[inline]
    pub(super) fn insert(&mut self, entry: Entry) {
        let place = self.make_room();
        let Place { group: g, chunk: c, entry: at } = place;
        let is_last_group = g as usize + 1 == self.groups.len();
        let group = &mut self.groups[g as usize];
        let is_last = c as usize + 1 == group.chunks.len();
        let chunk = &mut group.chunks[c as usize];
        let len = chunk.entries.len();
        if len == chunk.entries.capacity() {
            // Whole chunks where ticks arrive; but not for an instrument that holds a few only.
            let step = if is_last_group && is_last { (self.held / 32).clamp(GRAIN, CHUNK) } else { GRAIN };
            chunk.entries.reserve_exact(step.min(CHUNK - len));
        }
        let (sum, screened) = (entry.sum(), Kind::Screened as usize);
        if chunk.summed {
            chunk.sums[screened] += sum;
        }
        if at as usize == len {
            chunk.last_ns = entry.timestamp_ns;
            chunk.entries.push(entry);
        } else {
            chunk.entries.insert(at as usize, entry);
        }
        if group.summed {
            group.sums[screened] += sum;
        }
        if at as usize == len {
            if is_last {
                group.last_ns = entry.timestamp_ns;
            }
        } else {
            self.cursors.each_place(|p| p.entry += u32::from(p.group == g && p.chunk == c && p.entry > at));
        }
        self.held += 1;
        self.front_ns = self.front_ns.min(entry.timestamp_ns);
        self.cursors[screened].sum += sum;
        self.cursors[screened].high = self.next(place);
    }

    /// Gives the tick that the valid window ends before its verdict, and takes it in.
    #[inline]
    pub(super) fn settle(&mut self, timestamp_ns: i64, valid: bool) -> &Sum {
        let place = self.cursors[Kind::Valid as usize].high;
        let group = &mut self.groups[place.group as usize];
        let chunk = &mut group.chunks[place.chunk as usize];
        let entry = &mut chunk.entries[place.entry as usize];
        debug_assert!(entry.is_pending() && entry.timestamp_ns == timestamp_ns, "verdicts come in tape order");
        entry.settle(valid);
        if valid {
            let sum = entry.sum();
            if chunk.summed {
                chunk.sums[Kind::Valid as usize] += sum;
            }
            if group.summed {
                group.sums[Kind::Valid as usize] += sum;
            }
            self.cursors[Kind::Valid as usize].sum += sum;
        }
        self.cursors[Kind::Valid as usize].high = self.next(place);
        &self.cursors[Kind::Valid as usize].sum
    }

    /// Moves the end of the valid window to where the next tick of this time to be settled stands.
    #[inline]
    pub(super) fn seek_unsettled(&mut self, timestamp_ns: i64) {
        self.seek::<true>(Kind::Valid, Bound::after_settled(timestamp_ns));
    }

    /// Evicts the ticks at or before a time, oldest first, showing each.
    #[inline]
    pub(super) fn evict(&mut self, through_ns: i64, mut show: impl FnMut(&Entry)) {
        while self.front_ns <= through_ns && self.held > 0 {
            let entries = &self.groups[0].chunks[0].entries;
            prefetch(entries, self.evicted);
            let entry = entries[self.evicted];
            show(&entry);
            self.drop_front(&entry);
        }
    }

    fn drop_front(&mut self, entry: &Entry) {
        let front = Place { group: 0, chunk: 0, entry: self.evicted as u32 };
        let next = self.next(front);
        for (cursor, kind) in self.cursors.iter_mut().zip(KINDS) {
            if cursor.high == front {
                cursor.high = next;
                if entry.counts(kind) {
                    cursor.sum += entry.sum();
                }
            }
            if cursor.low == front {
                cursor.low = next;
                if entry.counts(kind) {
                    cursor.sum -= entry.sum();
                }
            }
        }
        self.held -= 1;
        self.evicted += 1;
        let group = &mut self.groups[0];
        group.summed = false;
        group.chunks[0].summed = false;
        if self.evicted == group.chunks[0].entries.len() {
            self.drop_front_chunk();
        } else if self.evicted >= (self.held / 32).clamp(GRAIN, CHUNK) {
            self.trim_front();
        }
        self.front_ns = self.groups[0].chunks[0].entries.get(self.evicted).map_or(i64::MAX, |e| e.timestamp_ns);
    }

    /// Drops the chunk at the front, of which nothing is held any more.
    fn drop_front_chunk(&mut self) {
        self.evicted = 0;
        if self.held == 0 {
            *self = Self::new();
        } else if self.groups[0].chunks.len() == 1 {
            self.groups.pop_front();
            self.cursors.each_place(|p| p.group -= 1);
        } else {
            self.groups[0].chunks.remove(0);
            self.cursors.each_place(|p| p.chunk -= u32::from(p.group == 0));
        }
    }

    /// Gives back the memory of what is evicted of the chunk at the front.
    fn trim_front(&mut self) {
        let entries = &mut self.groups[0].chunks[0].entries;
        entries.drain(..self.evicted);
        entries.shrink_to(entries.len().next_multiple_of(GRAIN));
        let evicted = self.evicted as u32;
        self.cursors.each_place(|p| p.entry -= if p.group == 0 && p.chunk == 0 { evicted } else { 0 });
        self.evicted = 0;
    }

    /// Returns the place behind an entry.
    #[inline]
    fn next(&self, mut place: Place) -> Place {
        place.entry += 1;
        if (place.entry as usize) < self.chunk(place).entries.len() { place } else { self.behind_chunk(place) }
    }

    /// Returns the place behind the last entry of a chunk: the start of the next one, if there is one.
    #[inline]
    fn behind_chunk(&self, place: Place) -> Place {
        let Place { group, chunk, .. } = place;
        if (chunk as usize) + 1 < self.groups[group as usize].chunks.len() {
            Place { group, chunk: chunk + 1, entry: 0 }
        } else if (group as usize) + 1 < self.groups.len() {
            Place { group: group + 1, chunk: 0, entry: 0 }
        } else {
            Place { group, chunk, entry: self.chunk(place).entries.len() as u32 }
        }
    }

    /// Returns the last chunk before that of `place`, with `entry` behind its last one.
    #[inline]
    fn previous_chunk(&self, place: Place) -> Option<Place> {
        let (group, chunk) = match (place.group, place.chunk) {
            (0, 0) => return None,
            (group, 0) => (group - 1, self.groups[group as usize - 1].chunks.len() as u32 - 1),
            (group, chunk) => (group, chunk - 1),
        };
        let entry = self.groups[group as usize].chunks[chunk as usize].entries.len() as u32;
        Some(Place { group, chunk, entry })
    }

    #[inline]
    fn chunk(&self, place: Place) -> &Chunk {
        &self.groups[place.group as usize].chunks[place.chunk as usize]
    }

    /// First held entry of a chunk.
    #[inline]
    fn first(&self, place: Place) -> usize {
        if place.group == 0 && place.chunk == 0 { self.evicted } else { 0 }
    }
}

/// Fetches what the clock will come to after the next tick or two: with many instruments, the memory behind a window's
/// old end is long out of the caches.
#[inline(always)]
fn prefetch(entries: &[Entry], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(entry) = entries.get(at + 4) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the address is that of a live entry, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(entry).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (entries, at);
}

mod room;
mod seek;

/// What shifts the places of all windows.
trait EachPlace {
    fn each_place(&mut self, shift: impl FnMut(&mut Place));
}

impl EachPlace for [Cursor; 2] {
    #[inline]
    fn each_place(&mut self, mut shift: impl FnMut(&mut Place)) {
        for cursor in self {
            shift(&mut cursor.low);
            shift(&mut cursor.high);
        }
    }
}
