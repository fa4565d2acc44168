//! Which messages of a log the windows still need: from where it has to be read again to have them once more.
//!
//! Windows know the times of their ticks, not their offsets. So each source partition keeps a short table of stretches
//! of offsets with the newest time in each. A stretch is needed while an instrument of the partition may hold one of
//! its ticks. What is answered may be lower than need be, never higher.
//!
//! Rules that remember earlier ticks are shown them again too: all of a lookback, by the clock of the partition.
//!
//! An instrument that has been silent for longer than ticks are held, by the clock of its partition, needs nothing: a
//! tick that is late by less than `hold - window` can't reach what it holds.

use crate::{Origin, TickBatch};
use std::collections::VecDeque;

/// Messages in a stretch, at least, unless a batch is cut by a pause.
const STRETCH: u64 = 512;

/// A run of offsets.
#[derive(Debug)]
struct Stretch {
    first: u64,
    last: u64,
    newest_ns: i64,
}

/// What is known of a source partition.
#[derive(Debug)]
struct Partition {
    stream: u32,
    number: u16,
    stretches: VecDeque<Stretch>,
    /// Largest time that passed the screen, ns.
    clock_ns: i64,
    /// Offset after the last one noted.
    next: u64,
}

/// From where a source partition has to be read again so that the windows are as they are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Stream.
    pub stream: u32,
    /// Partition.
    pub partition: u16,
    /// Offset behind the last message that has entered the windows.
    pub next: u64,
    /// Lowest offset that any window may hold; `next` where none does.
    pub lowest: u64,
}

/// The stretches of all source partitions, and which partition each instrument came from last.
#[derive(Debug, Default)]
pub(crate) struct Horizons {
    /// How far back rules look, ns; 0: they don't.
    lookback_ns: i64,
    partitions: Vec<Partition>,
    /// Index of the partition, by the judge's code of the instrument.
    homes: Vec<Option<u32>>,
}

impl Horizons {
    /// Returns horizons for rules that look so far back.
    pub fn new(lookback_ns: i64) -> Self {
        Horizons { lookback_ns, ..Horizons::default() }
    }

    /// Returns the index of a partition.
    fn index(&mut self, stream: u32, number: u16) -> usize {
        let known = self.partitions.iter().position(|p| (p.stream, p.number) == (stream, number));
        known.unwrap_or_else(|| {
            self.partitions.push(Partition { stream, number, stretches: VecDeque::new(), clock_ns: i64::MIN, next: 0 });
            self.partitions.len() - 1
        })
    }

    /// Notes a batch whose rows `passed` have entered the windows of instruments with these codes.
    pub fn note(&mut self, ticks: &TickBatch, origin: &Origin, passed: &[u32], codes: &[i32]) {
        let mut rest = passed.iter().zip(codes).peekable();
        for (partition, messages) in origin.parts() {
            let home = self.index(origin.stream, partition) as u32;
            let mut newest_ns = None;
            // Rows are in the order of the messages.
            while let Some((&row, &code)) =
                rest.next_if(|&(&row, _)| (ticks.message[row as usize] as usize) < messages.end)
            {
                newest_ns = newest_ns.max(Some(ticks.timestamp_ns[row as usize]));
                self.settle_down(code as usize, home);
            }
            let offsets = origin.offset[messages.start]..=origin.offset[messages.end - 1];
            self.enter(origin.stream, partition, offsets, newest_ns);
        }
    }

    /// Notes a single tick, as [`Horizons::note`].
    pub fn note_tick(&mut self, stream: u32, partition: u16, offset: u64, timestamp_ns: i64, code: u32) {
        self.enter(stream, partition, offset..=offset, Some(timestamp_ns));
        let home = self.index(stream, partition) as u32;
        self.settle_down(code as usize, home);
    }

    fn settle_down(&mut self, code: usize, home: u32) {
        if code >= self.homes.len() {
            self.homes.resize(code + 1, None);
        }
        self.homes[code] = Some(home);
    }

    fn enter(&mut self, stream: u32, partition: u16, offsets: std::ops::RangeInclusive<u64>, newest_ns: Option<i64>) {
        let index = self.index(stream, partition);
        let partition = &mut self.partitions[index];
        partition.next = offsets.end() + 1;
        let Some(newest_ns) = newest_ns else { return };
        partition.clock_ns = partition.clock_ns.max(newest_ns);
        match partition.stretches.back_mut() {
            Some(stretch) if offsets.end() - stretch.first < STRETCH && *offsets.start() > stretch.last => {
                stretch.last = *offsets.end();
                stretch.newest_ns = stretch.newest_ns.max(newest_ns);
            }
            _ => {
                let stretch = Stretch { first: *offsets.start(), last: *offsets.end(), newest_ns };
                partition.stretches.push_back(stretch);
            }
        }
    }

    /// Forgets what a partition has had.
    pub fn forget(&mut self, stream: u32, partition: u16) {
        let index = self.index(stream, partition);
        let known = &mut self.partitions[index];
        known.stretches.clear();
        known.clock_ns = i64::MIN;
        known.next = 0;
    }

    /// Returns the codes of a partition's instruments.
    pub fn instruments(&mut self, stream: u32, partition: u16) -> Vec<u32> {
        let index = self.index(stream, partition) as u32;
        (0..self.homes.len() as u32).filter(|&code| self.homes[code as usize] == Some(index)).collect()
    }

    /// Returns the horizon of each partition. `span` gives the oldest and newest time that an instrument holds.
    pub fn all(&mut self, hold_ns: i64, span: impl Fn(u32) -> Option<(i64, i64)>) -> Vec<Horizon> {
        let mut needed: Vec<Option<i64>> = vec![None; self.partitions.len()];
        for (code, home) in self.homes.iter().enumerate() {
            let Some(home) = home.map(|home| home as usize) else { continue };
            let Some((oldest_ns, newest_ns)) = span(code as u32) else { continue };
            if newest_ns > self.partitions[home].clock_ns.saturating_sub(hold_ns) {
                needed[home] = Some(needed[home].map_or(oldest_ns, |found| found.min(oldest_ns)));
            }
        }
        if self.lookback_ns > 0 {
            for (needed, partition) in needed.iter_mut().zip(&self.partitions) {
                let seen_ns = partition.clock_ns.saturating_sub(self.lookback_ns);
                *needed = Some(needed.map_or(seen_ns, |found| found.min(seen_ns)));
            }
        }
        let of = |(partition, needed_ns): (&mut Partition, Option<i64>)| {
            while partition.stretches.front().is_some_and(|s| needed_ns.is_none_or(|needed| s.newest_ns < needed)) {
                partition.stretches.pop_front();
            }
            let lowest = partition.stretches.front().map_or(partition.next, |stretch| stretch.first);
            Horizon { stream: partition.stream, partition: partition.number, next: partition.next, lowest }
        };
        // One that was forgotten and has had nothing since needs nothing that it could name.
        self.partitions.iter_mut().zip(needed).filter(|(p, _)| p.next > 0).map(of).collect()
    }
}
