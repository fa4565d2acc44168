//! Writing a tape that follows another one: trades come with their sequences, and keep them.
//!
//! A sequence that did not come is a hole. It takes a slot like a trade, so that slots are still found by their
//! sequence; only one with nothing before it, or of a quarter of the ring and more, is skipped, with everything before
//! it. Codes mean something else on every tape, so instruments, reasons, rules and rule sets come as text, or in the
//! order that [`TapeWriter::learn`] was told.

use super::layout::MAX_RULES;
use super::memory::Ordering;
use super::stage::{Codes, Entry};
use super::writer::now_ns;
use super::{TapeWriter, open, slot, table};
use crate::{Result, Status};

/// A trade that has its sequence already.
#[derive(Debug, Clone, Copy)]
pub struct Followed<'a> {
    /// Its sequence.
    pub seq: u64,
    /// Which of the rule sets given to [`TapeWriter::learn`] judged it, counted from 0; another number: the present one.
    pub rule_set: u16,
    /// The trade. [`Entry::rule`] `k > 0` is the `k`-th of the rules given to [`TapeWriter::learn`].
    pub entry: Entry<'a>,
}

impl TapeWriter {
    /// Writes trades under the sequences they have, and holes for those left out up to `to`; then wakes the readers.
    /// Trades up to the head are on the tape already and passed over, so a batch may be given again. Sequences must
    /// ascend.
    ///
    /// # Errors
    /// [`crate::Error::Tape`]: a holding cursor has not confirmed what would be overwritten, or there is no room for a
    /// trade. What fitted before is written: wait, and give the batch again.
    pub fn follow<'a>(&mut self, trades: impl Iterator<Item = Followed<'a>>, to: u64) -> Result<()> {
        self.stage.clear();
        let now_ns = now_ns();
        for trade in trades {
            if trade.seq <= self.staged_head() {
                continue;
            }
            self.stage_hole(trade.seq - 1)?;
            self.stage_one(&trade, now_ns);
            self.write_if_full()?;
        }
        self.stage_hole(to)?;
        self.write_staged(&[])?;
        self.stage.clear();
        Ok(())
    }

    /// Enters the newest VALID trades of instruments that lie before the tape's first trade, for snapshots. A trade
    /// beyond the head, or not newer than the one known of its instrument, is passed over.
    pub fn seed<'a>(&mut self, trades: impl Iterator<Item = Followed<'a>>) {
        let head = self.commit.head;
        for trade in trades.filter(|t| t.entry.trade.status == Status::Valid && t.seq <= head) {
            self.stage.clear();
            self.stage_one(&trade, 0);
            let code = self.stage.slots[slot::RECORD] as u32 as usize;
            if code < self.shared.layout.sizes.max_instruments {
                let mut known = vec![0; self.shared.layout.value_words()];
                table::entry(&self.shared, code).read(&mut known);
                if known[table::SEQUENCE] < trade.seq {
                    table::apply(&self.shared, trade.seq, &self.stage.slots);
                }
            }
        }
        self.stage.clear();
    }

    /// Tells what the numbers of rules and rule sets mean in what follows, and which rule set is in force.
    ///
    /// # Errors
    /// [`crate::Error::Tape`] if the tape has no room for their names.
    pub fn learn(&mut self, rules: &[String], rule_sets: &[String], in_force: &str) -> Result<()> {
        let memory = &self.shared.memory;
        let codes = open::rule_codes(&mut self.rule_names, memory, rules)
            .zip(open::rule_codes(&mut self.rule_set_names, memory, rule_sets))
            .zip(open::rule_code(&mut self.rule_set_names, memory, in_force));
        let Some(((rules, rule_sets), rule_set)) = codes else {
            return Err(self.error(format!("has seen {MAX_RULES} rules or rule sets, there is no room for more")));
        };
        (self.rules, self.rule_sets, self.rule_set) = (rules, rule_sets, rule_set);
        self.shared.word(super::layout::header::RULE_SET).store(rule_set.into(), Ordering::Release);
        Ok(())
    }

    fn staged_head(&self) -> u64 {
        self.commit.head + (self.stage.slots.len() / self.shared.layout.slot_words()) as u64
    }

    /// Most slots that are staged at a time: the ring is never overwritten at one stroke.
    fn quarter(&self) -> u64 {
        self.shared.layout.slot_count() as u64 / 4
    }

    pub(super) fn stage_one(&mut self, trade: &Followed<'_>, now_ns: i64) {
        let Self { shared, stage, instruments, reasons, rules, rule_sets, rule_set, commit, .. } = self;
        let rule_set = rule_sets.get(usize::from(trade.rule_set)).copied().unwrap_or(*rule_set);
        let mut codes = Codes { instruments, reasons, rules, rule_set };
        stage.push(shared, &mut codes, commit.data_end, now_ns, &trade.entry);
    }

    fn stage_hole(&mut self, last: u64) -> Result<()> {
        let mut next = self.staged_head() + 1;
        let nothing_before = self.oldest == next;
        if last >= next && (nothing_before || last - next >= self.quarter()) {
            self.write_staged(&[])?;
            self.stage.clear();
            return self.skip_to(last);
        }
        while next <= last {
            let position = self.commit.data_end + self.stage.data.len() as u64;
            slot::push_hole(&mut self.stage.slots, position, last, self.shared.layout.sizes.enrichments);
            self.write_if_full()?;
            next += 1;
        }
        Ok(())
    }

    pub(super) fn is_staged_full(&self) -> bool {
        let words = self.shared.layout.data.words / 4;
        self.staged_head() - self.commit.head >= self.quarter() || self.stage.data.len() >= words
    }

    fn write_if_full(&mut self) -> Result<()> {
        if self.is_staged_full() {
            self.write_staged(&[])?;
            self.stage.clear();
        }
        Ok(())
    }

    /// Gives up everything, and goes on right behind `last`.
    fn skip_to(&mut self, last: u64) -> Result<()> {
        let confirmed = self.holds.confirmed(&self.shared);
        if self.oldest <= self.commit.head && confirmed < self.commit.head {
            let (name, confirmed) = self.waits_for().unwrap_or_default();
            return Err(self.error(format!("is full: {name} has confirmed only up to {confirmed}")));
        }
        // A writer killed after the first step leaves a tape that does not hang together: the next begins a new one.
        self.oldest = last + 1;
        self.shared.span().give_up(last + 1);
        self.commit.head = last;
        self.commit.write(&self.shared);
        // Nothing lies in a hole, so the table is complete; it has to be before readers find themselves overrun.
        table::set_applied(&self.shared, last);
        self.shared.span().publish(last);
        self.shared.bell().ring_out();
        Ok(())
    }
}
