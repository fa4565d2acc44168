//! One step: a cohort gets what is new.
//!
//! First, without the interpreter: who has news, one read of the tape per place, one frame per distinct subscription;
//! and whoever keeps up gets it, straight into the socket. Then, for the others, in holds of the interpreter of at most
//! [`HOLD`]: look whose last turn is done, and begin the next.

use super::super::client::Stream;
use super::super::pace::is_crowded;
use super::super::stats::add;
use super::super::wish::{Form, Kind};
use super::encode::{Framed, Group, News, Place};
use super::{Engine, LOST, plans, with_python};
use hashbrown::HashMap;
use pyo3::prelude::*;
use std::cmp::Reverse;
use std::time::{Duration, Instant};
use tickcast_core::fanout::binary::Known;
use tickcast_core::tape::Run;

/// Longest hold of the interpreter.
const HOLD: Duration = Duration::from_micros(300);
/// Pause between two holds, so that whoever waits for the interpreter gets it.
const BREATH: Duration = Duration::from_micros(20);
/// Bytes that a trade takes in the plain form, about.
const PLAIN_BYTES: usize = 200;

/// One client's turn in a step.
struct Turn {
    client: usize,
    group: Option<usize>,
    /// Plain messages sent already, where the hold ended in the middle of the turn.
    sent: usize,
}

/// Memory that is used again in every step.
#[derive(Default)]
pub(super) struct Buffers {
    pub run: Run,
    pub rows: Vec<u32>,
    pub groups: Vec<Group>,
    pub order: Vec<(Reverse<u64>, usize)>,
    places: HashMap<Place, usize>,
    turns: Vec<Turn>,
}

impl Engine {
    /// Serves the cohort whose turn it is, up to `head`; `None`: the interpreter is going.
    pub(super) fn step(&mut self, head: u64, now: Instant) -> Option<()> {
        add(&self.shared.stats.steps, 1);
        let mut buffers = std::mem::take(&mut self.buffers);
        buffers.groups.clear();
        buffers.places.clear();
        buffers.turns.clear();
        if let Some(tape) = self.follow.tape().cloned() {
            self.plans.advance(&tape, self.follow.dictionary(), head);
        }
        self.sort(head, now, &mut buffers);
        if !buffers.groups.is_empty() {
            self.encode(head, &mut buffers);
            self.pass_over(&buffers);
        }
        let served = self.serve(&mut buffers, now);
        self.buffers = buffers;
        add(&self.shared.stats.busy_ns, now.elapsed().as_nanos() as u64);
        served
    }

    /// Finds who of the cohort has a turn, and who gets the same.
    fn sort(&mut self, head: u64, now: Instant, buffers: &mut Buffers) {
        for at in (self.pace.cohort()..self.clients.len()).step_by(self.pace.cohorts()) {
            self.skip_backlog(at, head);
            let group = self.place(at, head, now).map(|place| buffers.join(at, place));
            let client = &self.clients[at];
            if group.is_some() || client.late || client.has_post() || client.is_sending() {
                buffers.turns.push(Turn { client: at, group, sent: 0 });
            }
        }
    }

    /// Returns where a client stands that may have news, and may have them now.
    fn place(&mut self, at: usize, head: u64, now: Instant) -> Option<Place> {
        let client = &mut self.clients[at];
        let Stream::Live { plan, cursor, covered, on_board, .. } = &mut client.stream else { return None };
        if *cursor > head {
            return None;
        }
        if let plans::News::NoneUpTo(to) = self.plans.news(*plan, *cursor) {
            *cursor = (*cursor).max(to + 1);
            return None;
        }
        let known = if client.kind == Kind::V1(Form::Binary) { client.known } else { Known::default() };
        let place =
            Place { kind: client.kind, plan: *plan, cursor: *cursor, covered: *covered, known, on_board: *on_board };
        if client.is_held() {
            // The ack that it waits for wakes us.
            return None;
        }
        // One that is late has not taken its last turn: nothing is encoded for it until it has.
        if client.late || client.due > now {
            self.restless = true;
            return None;
        }
        Some(place)
    }

    /// Lets a plain client that is too far behind lose the oldest.
    fn skip_backlog(&mut self, at: usize, head: u64) {
        let backlog = (self.options.max_backlog_bytes / PLAIN_BYTES) as u64;
        let client = &mut self.clients[at];
        if let (Kind::Plain, Stream::Live { cursor, .. }) = (client.kind, &mut client.stream)
            && *cursor + backlog <= head
        {
            add(&self.shared.stats.dropped, head + 1 - backlog - *cursor);
            *cursor = head + 1 - backlog;
        }
    }

    fn serve(&mut self, buffers: &mut Buffers, now: Instant) -> Option<()> {
        let Buffers { turns, groups, .. } = buffers;
        let mut broken: Vec<(u64, String)> = Vec::new();
        self.serve_direct(turns, groups, now, &mut broken);
        let (mut done, mut newly_late) = (0, 0);
        while done < turns.len() {
            if done > 0 {
                std::thread::sleep(BREATH);
            }
            with_python(|py| {
                let hold = Instant::now();
                while done < turns.len() {
                    let turn = &mut turns[done];
                    match self.take_turn(Some((py, hold)), turn, groups, now) {
                        Ok(Outcome::Over { late }) => {
                            newly_late += usize::from(late);
                            done += 1;
                        }
                        Ok(Outcome::Interrupted) => break,
                        Err(error) => {
                            broken.push((self.clients[turn.client].id, error.to_string()));
                            done += 1;
                        }
                    }
                    if hold.elapsed() > HOLD {
                        break;
                    }
                }
                self.shared.stats.held_gil(hold.elapsed().as_nanos() as u64);
            })?;
        }
        self.count(groups);
        self.cycle.crowded |= is_crowded(newly_late, self.clients.len() / self.pace.cohorts());
        for (id, error) in broken {
            // The server refuses to send: the connection is gone, and the one receive pending tells the same.
            if let Some(&at) = self.index.get(&id) {
                self.remove(at, LOST, error);
            }
        }
        Some(())
    }

    /// Serves those whose sockets take what there is for them; the others' turns are left.
    fn serve_direct(
        &mut self,
        turns: &mut Vec<Turn>,
        groups: &mut [Group],
        now: Instant,
        broken: &mut Vec<(u64, String)>,
    ) {
        turns.retain_mut(|turn| {
            if !self.clients[turn.client].is_direct() {
                return true;
            }
            match self.take_turn(None, turn, groups, now) {
                Ok(outcome) => matches!(outcome, Outcome::Interrupted),
                Err(error) => {
                    broken.push((self.clients[turn.client].id, error.to_string()));
                    false
                }
            }
        });
    }

    fn count(&mut self, groups: &[Group]) {
        let stats = &self.shared.stats;
        for group in groups {
            if let News::Frame(Framed { message, trades, conflated, since_ingest, since_event, taken, .. }) =
                &group.news
            {
                self.cycle.with_news += *taken as usize;
                add(&stats.frames, *taken);
                add(&stats.bytes, message.bytes() as u64 * taken);
                add(&stats.trades, u64::from(*trades) * taken);
                add(&stats.conflated, conflated * taken);
                stats.delivered(since_ingest, since_event, *taken);
            }
        }
    }

    /// Gives a client what there is for it; `held` is the interpreter and since when it is held.
    ///
    /// Without it only a client that [is direct](Client::is_direct) has a turn.
    fn take_turn(
        &mut self,
        held: Option<(Python<'_>, Instant)>,
        turn: &mut Turn,
        groups: &mut [Group],
        now: Instant,
    ) -> PyResult<Outcome> {
        let py = held.map(|(py, _)| py);
        let client = &mut self.clients[turn.client];
        let stats = &self.shared.stats;
        if turn.sent == 0 {
            if let Some(py) = py
                && !client.reap(py, now)?
            {
                let newly = !client.late;
                client.late = true;
                add(&stats.not_done, 1);
                // What it could not get now it gets as soon as it has taken that, news or not.
                self.restless |= client.has_post() || turn.group.is_some();
                return Ok(Outcome::Over { late: newly });
            }
            client.late = false;
            let (messages, bytes) = client.flush(py, now)?;
            add(&stats.frames, messages);
            add(&stats.bytes, bytes);
            if client.has_post() {
                return Ok(Outcome::Interrupted);
            }
        }
        let Some(group) = turn.group.map(|g| &mut groups[g]) else { return Ok(Outcome::Over { late: false }) };
        match &mut group.news {
            News::Frame(frame) => {
                if !client.send(py, &frame.message, now)? {
                    return Ok(Outcome::Interrupted);
                }
                let period_us = self.plans.wish(group.place.plan).map_or(0, |wish| wish.period_us);
                client.put_off(period_us, self.origin, now);
                client.take_frame(frame.to_seq, frame.message.bytes(), frame.known, frame.on_board, now);
                frame.taken += 1;
            }
            News::Plain(messages) => {
                self.cycle.with_news += usize::from(turn.sent == 0);
                while turn.sent < messages.len() && client.room() > 0 {
                    let (message, since_ingest, since_event) = &messages[turn.sent];
                    if !client.send(py, message, now)? {
                        return Ok(Outcome::Interrupted);
                    }
                    turn.sent += 1;
                    client.move_to(group.place.cursor + turn.sent as u64 - 1, None);
                    add(&stats.frames, 1);
                    add(&stats.bytes, message.bytes() as u64);
                    add(&stats.trades, 1);
                    stats.delivered(since_ingest, since_event, 1);
                    if turn.sent.is_multiple_of(32) && held.is_some_and(|(_, since)| since.elapsed() > HOLD) {
                        return Ok(Outcome::Interrupted);
                    }
                }
                self.restless = true;
            }
            News::None | News::Passed { .. } => {}
        }
        Ok(Outcome::Over { late: false })
    }
}

enum Outcome {
    /// The turn is over; `late`: the client had not taken the last one, for the first time.
    Over { late: bool },
    /// The hold is over in the middle of the turn, or it takes the interpreter to go on.
    Interrupted,
}

impl Buffers {
    /// Puts a client into the group of its place.
    fn join(&mut self, at: usize, place: Place) -> usize {
        let groups = &mut self.groups;
        let group = *self.places.entry(place).or_insert_with(|| {
            groups.push(Group { place, members: Vec::new(), news: News::None });
            groups.len() - 1
        });
        self.groups[group].members.push(at);
        group
    }
}
