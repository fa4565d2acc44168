//! Where a tick goes in: the end of a chunk if possible, else a chunk with room is made.

use super::{CHUNK, Chunk, EachPlace, GRAIN, GROUP, Group, Kind, Place, Store};

impl Store {
    /// Returns the place at the end of the screened window where a tick may be inserted: all windows that stood there
    /// stand before it afterwards.
    #[inline]
    pub(super) fn make_room(&mut self) -> Place {
        let place = self.cursors[Kind::Screened as usize].high;
        let entries = &self.chunk(place).entries;
        let in_the_middle = place.entry as usize > self.first(place) || self.held == 0;
        if entries.len() < CHUNK && in_the_middle { place } else { self.find_room(place) }
    }

    #[cold]
    fn find_room(&mut self, mut place: Place) -> Place {
        loop {
            if place.entry as usize == self.first(place)
                && let Some(end) = self.previous_chunk(place)
                && (end.entry as usize) < CHUNK
            {
                return self.shift_to(place, end);
            }
            let len = self.chunk(place).entries.len();
            if len < CHUNK {
                return place;
            }
            if place.entry as usize == len {
                let end = self.push_chunk();
                return self.shift_to(place, end);
            }
            if self.first(place) > 0 {
                self.trim_front();
            } else {
                self.split(place);
            }
            place = self.cursors[Kind::Screened as usize].high;
        }
    }

    /// Says of one and the same place that it is called `to` from now on.
    fn shift_to(&mut self, from: Place, to: Place) -> Place {
        self.cursors.each_place(|p| {
            if *p == from {
                *p = to;
            }
        });
        to
    }

    fn push_chunk(&mut self) -> Place {
        let last = self.groups.len() - 1;
        if self.groups[last].chunks.len() < GROUP {
            let group = &mut self.groups[last];
            reserve(&mut group.chunks);
            group.chunks.push(Chunk::default());
            return Place { group: last as u32, chunk: group.chunks.len() as u32 - 1, entry: 0 };
        }
        self.groups.push_back(Group { chunks: vec![Chunk::default()], ..Group::default() });
        Place { group: last as u32 + 1, chunk: 0, entry: 0 }
    }

    /// Splits the full chunk of a place in two: in halves, but near its ends there, for series that run one way.
    fn split(&mut self, place: Place) {
        if self.groups[place.group as usize].chunks.len() == GROUP {
            self.split_group(place.group);
            // The place may have moved with its half; the caller comes again.
            return;
        }
        let Place { group: g, chunk: c, entry } = place;
        let at = match entry as usize {
            near if near < CHUNK / 8 => CHUNK / 8,
            near if near > CHUNK - CHUNK / 8 => CHUNK - CHUNK / 8,
            _ => CHUNK / 2,
        };
        let chunks = &mut self.groups[g as usize].chunks;
        let chunk = &mut chunks[c as usize];
        let mut entries = Vec::with_capacity((CHUNK - at).next_multiple_of(GRAIN));
        entries.extend_from_slice(&chunk.entries[at..]);
        chunk.entries.truncate(at);
        chunk.entries.shrink_to(at.next_multiple_of(GRAIN));
        chunk.summed = false;
        let last_ns = std::mem::replace(&mut chunk.last_ns, chunk.entries[at - 1].timestamp_ns);
        reserve(chunks);
        chunks.insert(c as usize + 1, Chunk { entries, last_ns, ..Chunk::default() });
        self.cursors.each_place(|p| {
            if p.group == g && (p.chunk > c || (p.chunk == c && p.entry as usize >= at)) {
                p.entry -= if p.chunk == c { at as u32 } else { 0 };
                p.chunk += 1;
            }
        });
    }

    fn split_group(&mut self, g: u32) {
        let half = GROUP / 2;
        let group = &mut self.groups[g as usize];
        let chunks = group.chunks.split_off(half);
        group.chunks.shrink_to(half);
        group.summed = false;
        let last_ns = std::mem::replace(&mut group.last_ns, group.chunks[half - 1].last_ns);
        self.groups.insert(g as usize + 1, Group { chunks, last_ns, ..Group::default() });
        self.cursors.each_place(|p| {
            if p.group > g || (p.group == g && p.chunk as usize >= half) {
                p.chunk -= if p.group == g { half as u32 } else { 0 };
                p.group += 1;
            }
        });
    }
}

/// Grows by a few, not by half: memory is counted.
fn reserve(chunks: &mut Vec<Chunk>) {
    if chunks.len() == chunks.capacity() {
        chunks.reserve_exact(GRAIN.min(GROUP - chunks.len()));
    }
}
