//! Holding cursors: what they have not confirmed is not overwritten.
//!
//! The confirmed sequences live in the tape under the cursor's name, so that a sink of a restarted processor goes on
//! where it was. Only cursors that are held in this process hold the writer up.

use super::Shared;
use super::layout::{HOLD_WORDS, MAX_HOLD_NAME, MAX_HOLDS};
use super::memory::{AtomicU64, Ordering, as_bytes, extend_words, load, store};
use std::sync::{Arc, Weak};

const CONFIRMED: usize = 0;
const NAME_BYTES: usize = 1;
const NAME: usize = 2;

/// A holding cursor. Dropped, it holds nothing up any more; what it confirmed stays known under its name.
#[derive(Debug)]
pub struct Hold {
    shared: Arc<Shared>,
    at: usize,
    _alive: Arc<()>,
}

impl Hold {
    /// Everything up to `seq` has been written elsewhere and may be overwritten here. Never goes backwards.
    pub fn confirm(&self, seq: u64) {
        let seq = seq.min(self.shared.span().head());
        words(&self.shared, self.at)[CONFIRMED].fetch_max(seq, Ordering::Release);
    }

    /// Last sequence confirmed: go on with the next one. For a new name, the head when it was taken.
    pub fn confirmed(&self) -> u64 {
        words(&self.shared, self.at)[CONFIRMED].load(Ordering::Acquire)
    }
}

/// Writer's side: who holds in this process.
#[derive(Debug, Default)]
pub(crate) struct Holds(Vec<(usize, Weak<()>)>);

impl Holds {
    /// Takes up the cursor of this name, or a new one at `head`. `None`: the name is held already, is too long, or
    /// there are too many.
    pub fn take(&mut self, shared: &Arc<Shared>, name: &str, head: u64) -> Option<Hold> {
        if name.is_empty() || name.len() > MAX_HOLD_NAME {
            return None;
        }
        self.0.retain(|(_, alive)| alive.strong_count() > 0);
        let held = |at: usize| self.0.iter().any(|(other, _)| *other == at);
        let known = (0..MAX_HOLDS).find(|&at| name_at(shared, at).as_deref() == Some(name));
        let at = match known {
            Some(at) if held(at) => return None,
            Some(at) => at,
            None => {
                let free = (0..MAX_HOLDS).find(|&at| name_at(shared, at).is_none());
                // No unused place: forget the name that has fallen back furthest.
                let stale = || (0..MAX_HOLDS).filter(|&at| !held(at)).min_by_key(|&at| confirmed_at(shared, at));
                let at = free.or_else(stale)?;
                enter(shared, at, name, head);
                at
            }
        };
        words(shared, at)[CONFIRMED].fetch_min(head, Ordering::Release);
        let alive = Arc::new(());
        self.0.push((at, Arc::downgrade(&alive)));
        Some(Hold { shared: shared.clone(), at, _alive: alive })
    }

    /// Returns the living cursor that has confirmed least: its name, and how far.
    pub fn slowest(&self, shared: &Shared) -> Option<(String, u64)> {
        let at = self.0.iter().filter(|(_, alive)| alive.strong_count() > 0).map(|(at, _)| *at);
        let at = at.min_by_key(|&at| confirmed_at(shared, at))?;
        Some((name_at(shared, at).unwrap_or_default(), confirmed_at(shared, at)))
    }

    /// Moves the living cursor that has confirmed least on by `count`; returns its name and how far it was moved.
    pub fn let_go(&self, shared: &Shared, count: u64, head: u64) -> Option<(String, u64)> {
        let living = self.0.iter().filter(|(_, alive)| alive.strong_count() > 0).map(|(at, _)| *at);
        let at = living.min_by_key(|&at| confirmed_at(shared, at))?;
        let confirmed = confirmed_at(shared, at);
        let to = confirmed.saturating_add(count).min(head);
        words(shared, at)[CONFIRMED].fetch_max(to, Ordering::Release);
        Some((name_at(shared, at).unwrap_or_default(), to.saturating_sub(confirmed)))
    }

    /// Returns how far every living cursor has confirmed; `u64::MAX` where there is none.
    pub fn confirmed(&self, shared: &Shared) -> u64 {
        let living = self.0.iter().filter(|(_, alive)| alive.strong_count() > 0);
        living.map(|(at, _)| confirmed_at(shared, *at)).min().unwrap_or(u64::MAX)
    }
}

fn words(shared: &Shared, at: usize) -> &[AtomicU64] {
    &shared.memory.region(shared.layout.holds)[at * HOLD_WORDS..(at + 1) * HOLD_WORDS]
}

fn confirmed_at(shared: &Shared, at: usize) -> u64 {
    words(shared, at)[CONFIRMED].load(Ordering::Acquire)
}

fn name_at(shared: &Shared, at: usize) -> Option<String> {
    let mut copy = [0u64; HOLD_WORDS];
    load(words(shared, at), &mut copy);
    let bytes = usize::try_from(copy[NAME_BYTES]).ok().filter(|n| (1..=MAX_HOLD_NAME).contains(n))?;
    String::from_utf8(as_bytes(&copy[NAME..])[..bytes].to_vec()).ok()
}

/// Enters a name. Its length comes last: a writer killed in between leaves no name with a wrong sequence.
fn enter(shared: &Shared, at: usize, name: &str, confirmed: u64) {
    let words = words(shared, at);
    words[NAME_BYTES].store(0, Ordering::Release);
    words[CONFIRMED].store(confirmed, Ordering::Release);
    let mut text = Vec::new();
    extend_words(&mut text, name.as_bytes());
    store(&words[NAME..], &text);
    words[NAME_BYTES].store(name.len() as u64, Ordering::Release);
}
