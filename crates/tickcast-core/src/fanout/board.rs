//! The newest trades of each instrument, kept as the tape goes on: what subscriptions that conflate are served from.
//!
//! However many clients look at it, and however seldom, each trade is taken in once; a frame costs as much as it has
//! instruments, not as many trades as went by. Per instrument and status the board counts what went by, so that a
//! client is told exactly how many of the trades that it wanted were left out for newer ones.

use super::subscription::{Dictionary, Filter, STRANGER};
use crate::Status;
use crate::tape::{Kept, Read, Record, Run, TapeReader};

/// Trades read at once.
const ROWS: u64 = 4_096;
const STATUSES: [Status; 3] = [Status::Unknown, Status::Valid, Status::Invalid];

/// One instrument.
#[derive(Debug, Clone, Default)]
struct Entry {
    newest: [Kept; 3],
    counts: [u64; 3],
}

/// How many trades a receiver had wanted of the board when it was last served from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OnBoard {
    /// Which life of the board: another one counts from 0.
    pub generation: u32,
    /// How many.
    pub wanted: u64,
}

/// What a receiver gets that was served from the board before.
#[derive(Debug)]
pub struct Since<'a> {
    /// Of each instrument that it wants the newest trade, ascending by sequence.
    pub records: Vec<Record<'a>>,
    /// Up to where this covers the tape.
    pub to_seq: u64,
    /// How many more it wanted, which are left out for newer ones.
    pub conflated: u64,
    /// Where it stands then.
    pub now: OnBoard,
}

/// Newest trades since the board was begun.
#[derive(Debug, Default)]
pub struct Board {
    generation: u32,
    head: u64,
    entries: Vec<Entry>,
    strangers: Entry,
    totals: [u64; 3],
}

impl Board {
    /// A board that knows nothing up to `head`.
    pub fn new(head: u64) -> Self {
        Board { head, ..Board::default() }
    }

    /// Last sequence taken in.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Forgets everything: knows nothing up to `head`, and nobody stands on it any more.
    pub fn restart(&mut self, head: u64) {
        *self = Board { generation: self.generation.wrapping_add(1), head, ..Board::default() };
    }

    /// Takes in what the tape has up to `head`; begins anew behind what can't be read.
    pub fn advance(&mut self, tape: &TapeReader, dictionary: &mut Dictionary, head: u64, run: &mut Run) {
        while self.head < head {
            let here = self.head;
            match tape.read(here + 1, head.min(here + ROWS), run) {
                Read::Done { to } if to > here => {
                    dictionary.follow(tape);
                    self.take_in(run, dictionary);
                }
                Read::Done { .. } => break,
                Read::Overrun { oldest } => self.restart(oldest.saturating_sub(1).max(here + 1)),
                Read::Hole { to } => self.restart(to.max(here + 1)),
            }
        }
    }

    /// Where a receiver with this filter stands that has covered everything up to `to_seq`; `None`: not on the board,
    /// which does not end there.
    pub fn place(&self, filter: &Filter, to_seq: u64) -> Option<OnBoard> {
        (self.head == to_seq).then(|| OnBoard { generation: self.generation, wanted: self.wanted(filter) })
    }

    /// Returns what a receiver gets that stands at `place`, where it had covered everything up to `covered`; `None`: the
    /// board was begun anew since.
    pub fn since(&self, filter: &Filter, covered: u64, place: OnBoard) -> Option<Since<'_>> {
        if place.generation != self.generation {
            return None;
        }
        let records = self.newest(filter, covered);
        let now = OnBoard { generation: self.generation, wanted: self.wanted(filter) };
        let conflated = now.wanted.saturating_sub(place.wanted).saturating_sub(records.len() as u64);
        Some(Since { records, to_seq: self.head, conflated, now })
    }

    /// Takes in a run that begins right behind the head.
    pub fn take_in(&mut self, run: &Run, dictionary: &Dictionary) {
        for record in run.iter() {
            let code = dictionary.code_of(&record);
            let entry = if code == STRANGER { &mut self.strangers } else { entry_of(&mut self.entries, code) };
            let status = record.status() as usize;
            entry.newest[status].keep(&record);
            entry.counts[status] += 1;
            self.totals[status] += 1;
            self.head = record.seq();
        }
    }

    /// Returns how many trades that the filter wants the board has taken in so far.
    fn wanted(&self, filter: &Filter) -> u64 {
        let admitted = |counts: &[u64; 3]| -> u64 {
            STATUSES.iter().filter(|&&s| filter.subscription().admits_status(s)).map(|&s| counts[s as usize]).sum()
        };
        match filter.codes() {
            None => admitted(&self.totals),
            Some(codes) => {
                codes.iter().filter_map(|&c| self.entries.get(c as usize)).map(|e| admitted(&e.counts)).sum()
            }
        }
    }

    /// Returns, of each instrument that the filter wants, its newest trade behind `covered`, ascending by sequence.
    fn newest(&self, filter: &Filter, covered: u64) -> Vec<Record<'_>> {
        let newest_of = |entry: &'_ Entry| -> Option<usize> {
            let wanted = STATUSES.iter().filter(|&&s| filter.subscription().admits_status(s)).map(|&s| s as usize);
            wanted.filter(|&s| entry.newest[s].seq() > covered).max_by_key(|&s| entry.newest[s].seq())
        };
        let pick = |entry| newest_of(entry).and_then(|status| entry_record(entry, status));
        let mut records: Vec<Record<'_>> = match filter.codes() {
            None => self.entries.iter().chain([&self.strangers]).filter_map(pick).collect(),
            Some(codes) => codes.iter().filter_map(|&c| self.entries.get(c as usize)).filter_map(pick).collect(),
        };
        records.sort_unstable_by_key(Record::seq);
        records
    }
}

fn entry_record(entry: &Entry, status: usize) -> Option<Record<'_>> {
    entry.newest[status].record()
}

fn entry_of(entries: &mut Vec<Entry>, code: u32) -> &mut Entry {
    let at = code as usize;
    if entries.len() <= at {
        entries.resize_with(at + 1, Entry::default);
    }
    &mut entries[at]
}
