//! All plans in use, and which of them have news: equal wishes share a plan, and a plan for single instruments is
//! looked at only when one of them has traded, so that thousands of small subscriptions cost what they get.

use super::super::wish::{Mode, Wish};
use std::collections::HashMap;
use std::sync::Arc;
use tickcast_core::fanout::{Board, Dictionary, Filter, OnBoard, STRANGER, Since};
use tickcast_core::tape::{Read, Run, TapeReader};

/// Trades read at once.
const ROWS: u64 = 4_096;

/// A wish that some clients have.
#[derive(Debug)]
struct Plan {
    wish: Arc<Wish>,
    filter: Filter,
    users: usize,
    /// Where [`Plans`] began to note its news.
    since: u64,
    /// Newest trade of its instruments, whatever the status; of plans for single instruments.
    newest: u64,
}

/// What a client may expect behind its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// There may be some.
    Perhaps,
    /// None up to here.
    NoneUpTo(u64),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Plans {
    slots: Vec<Option<Plan>>,
    free_slots: Vec<usize>,
    index: HashMap<Arc<Wish>, usize>,
    /// Plans for single instruments, by instrument: lists, and where they are by name and by code.
    lists: Vec<Vec<usize>>,
    free_lists: Vec<usize>,
    by_name: HashMap<String, usize>,
    by_code: Vec<Option<usize>>,
    /// Up to where trades were taken in; `None`: nobody needs it.
    head: Option<u64>,
    board: Board,
    conflating: usize,
    listing: usize,
    changed: Vec<(u32, u64)>,
    run: Run,
}

impl Plans {
    /// Returns the plan for a wish; `head` is that of the tape.
    pub fn take(&mut self, wish: Wish, head: u64) -> usize {
        if let Some(&at) = self.index.get(&wish) {
            if let Some(plan) = &mut self.slots[at] {
                plan.users += 1;
            }
            return at;
        }
        let at = self.free_slots.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if wish.mode == Mode::Latest {
            self.conflating += 1;
        }
        if wish.mode == Mode::Latest && self.conflating == 1 {
            self.board.restart(self.head.unwrap_or(head));
        }
        let is_list = wish.subscription.instruments().is_some();
        self.listing += usize::from(is_list);
        if (is_list || wish.mode == Mode::Latest) && self.head.is_none() {
            self.head = Some(head);
        }
        for name in wish.subscription.instruments().into_iter().flatten() {
            self.watch(name, at);
        }
        let wish = Arc::new(wish);
        self.index.insert(wish.clone(), at);
        let filter = Filter::new(wish.subscription.clone());
        self.slots[at] = Some(Plan { wish, filter, users: 1, since: self.head.unwrap_or(head), newest: 0 });
        at
    }

    fn watch(&mut self, name: &str, plan: usize) {
        if let Some(&list) = self.by_name.get(name) {
            self.lists[list].push(plan);
            return;
        }
        let list = self.free_lists.pop().unwrap_or_else(|| {
            self.lists.push(Vec::new());
            self.lists.len() - 1
        });
        self.lists[list].push(plan);
        self.by_name.insert(name.to_owned(), list);
        // Codes are looked up anew: the name may have had one for long.
        self.by_code.clear();
    }

    fn unwatch(&mut self, name: &str, plan: usize) {
        let Some(&list) = self.by_name.get(name) else { return };
        self.lists[list].retain(|&other| other != plan);
        if self.lists[list].is_empty() {
            self.by_name.remove(name);
            self.free_lists.push(list);
            self.by_code.clear();
        }
    }

    pub fn give_back(&mut self, at: usize) {
        let Some(plan) = &mut self.slots[at] else { return };
        plan.users -= 1;
        if plan.users > 0 {
            return;
        }
        let Some(plan) = self.slots[at].take() else { return };
        self.index.remove(&plan.wish);
        self.free_slots.push(at);
        self.listing -= usize::from(plan.wish.subscription.instruments().is_some());
        for name in plan.wish.subscription.instruments().into_iter().flatten() {
            self.unwatch(name, at);
        }
        if plan.wish.mode == Mode::Latest {
            self.conflating -= 1;
        }
        if self.listing == 0 && self.conflating == 0 {
            self.head = None;
        }
        if plan.wish.mode == Mode::Latest && self.conflating == 0 {
            self.board.restart(0);
        }
    }

    /// What is filtered for, the codes of its instruments looked up.
    pub fn filter(&mut self, at: usize, dictionary: &Dictionary) -> Option<&Filter> {
        let plan = self.slots[at].as_mut()?;
        plan.filter.resolve(dictionary);
        Some(&plan.filter)
    }

    pub fn wish(&self, at: usize) -> Option<&Arc<Wish>> {
        self.slots[at].as_ref().map(|plan| &plan.wish)
    }

    /// Another tape: other codes, other sequences. Its clients are about to begin anew.
    pub fn forget(&mut self, head: u64) {
        self.by_code.clear();
        for plan in self.slots.iter_mut().flatten() {
            plan.filter.forget();
        }
        self.restart(head);
    }

    /// Notes nothing of what lies before `head`.
    fn restart(&mut self, head: u64) {
        self.head = self.head.map(|_| head);
        for plan in self.slots.iter_mut().flatten() {
            (plan.since, plan.newest) = (head, 0);
        }
        self.board.restart(head);
    }

    /// Takes in what the tape has up to `head`.
    pub fn advance(&mut self, tape: &TapeReader, dictionary: &mut Dictionary, head: u64) {
        let mut run = std::mem::take(&mut self.run);
        while let Some(here) = self.head.filter(|&here| here < head) {
            match tape.read(here + 1, head.min(here + ROWS), &mut run) {
                Read::Done { to } if to > here => {
                    dictionary.follow(tape);
                    self.take_in(&run, dictionary);
                    self.head = Some(to);
                }
                Read::Done { .. } => break,
                // What was not seen was news, perhaps, to everybody.
                Read::Overrun { oldest } => self.restart(oldest.saturating_sub(1).max(here + 1)),
                Read::Hole { to } => self.restart(to.max(here + 1)),
            }
        }
        self.run = run;
    }

    fn take_in(&mut self, run: &Run, dictionary: &Dictionary) {
        if self.conflating > 0 {
            self.board.take_in(run, dictionary);
        }
        if self.by_name.is_empty() {
            return;
        }
        for code in self.by_code.len()..dictionary.len() {
            let name = dictionary.instruments(code as u32).next().unwrap_or_default();
            self.by_code.push(self.by_name.get(name).copied());
        }
        self.changed.clear();
        for record in run.iter() {
            let code = dictionary.code_of(&record);
            if code != STRANGER {
                self.changed.push((code, record.seq()));
            } else if let Some(&list) = self.by_name.get(record.instrument_text().unwrap_or_default()) {
                for &plan in &self.lists[list] {
                    note(&mut self.slots, plan, record.seq());
                }
            }
        }
        // Of each instrument its newest trade only.
        self.changed.sort_unstable();
        for (row, &(code, seq)) in self.changed.iter().enumerate() {
            if self.changed.get(row + 1).is_some_and(|next| next.0 == code) {
                continue;
            }
            if let Some(list) = self.by_code.get(code as usize).copied().flatten() {
                for &plan in &self.lists[list] {
                    note(&mut self.slots, plan, seq);
                }
            }
        }
    }

    /// Whether a client of this plan may have news from `cursor` on.
    pub fn news(&self, at: usize, cursor: u64) -> News {
        match (&self.slots[at], self.head) {
            (Some(plan), Some(head))
                if plan.wish.subscription.instruments().is_some() && cursor > plan.since && plan.newest < cursor =>
            {
                News::NoneUpTo(head)
            }
            _ => News::Perhaps,
        }
    }

    /// What a client of this plan gets from the board that stands there; `None`: it has to read the tape.
    pub fn since(&mut self, at: usize, covered: u64, place: OnBoard, dictionary: &Dictionary) -> Option<Since<'_>> {
        let plan = self.slots[at].as_mut()?;
        plan.filter.resolve(dictionary);
        self.board.since(&plan.filter, covered, place)
    }

    /// Where a client of this plan stands that has covered everything up to `to_seq`: on the board, if it ends there.
    pub fn on_board(&mut self, at: usize, to_seq: u64, dictionary: &Dictionary) -> Option<OnBoard> {
        let plan = self.slots[at].as_mut()?;
        if plan.wish.mode != Mode::Latest {
            return None;
        }
        plan.filter.resolve(dictionary);
        self.board.place(&plan.filter, to_seq)
    }
}

fn note(slots: &mut [Option<Plan>], plan: usize, seq: u64) {
    if let Some(plan) = &mut slots[plan] {
        plan.newest = plan.newest.max(seq);
    }
}
