//! One step: a cohort gets what is new.
//!
//! First, without the interpreter: who has news, one read of the tape per place, one frame per distinct subscription.
//! Then, in holds of the interpreter of at most [`HOLD`]: look whose last turn is done, and begin the next.

use super::super::client::{Client, Kind, Message, PLAIN_WINDOW, Stream};
use super::super::follow::now_ns;
use super::super::pace::is_crowded;
use super::super::stats::add;
use super::{Engine, LOST, with_python};
use pyo3::prelude::*;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickcast_core::fanout::{Ages, Block, Pick};
use tickcast_core::tape::{Read, Run};

/// Longest hold of the interpreter.
const HOLD: Duration = Duration::from_micros(300);
/// Pause between two holds, so that whoever waits for the interpreter gets it.
const BREATH: Duration = Duration::from_micros(20);
/// Most trades of one frame.
const MOST_ROWS: u64 = 4_096;
/// Most bytes of one frame, unless a single trade is larger.
const FRAME_BYTES: usize = 1 << 20;
/// Longest time that a step may spend on encoding for clients that lag behind the others.
const CATCH_UP: Duration = Duration::from_millis(2);
/// Bytes that a trade takes in the plain form, about.
const PLAIN_BYTES: usize = 200;

/// Clients of a cohort that get the very same messages.
struct Group {
    kind: Kind,
    filter: usize,
    cursor: u64,
    covered: u64,
    members: Vec<usize>,
    news: News,
}

enum News {
    /// Not encoded: others came first, or the tape had nothing.
    None,
    /// The range was read, and nothing in it was wanted.
    Passed { to_seq: u64 },
    /// One frame.
    Frame { message: Arc<Message>, to_seq: u64, trades: u32, since_ingest: Ages, since_event: Ages, taken: u64 },
    /// One message per trade, with its ages.
    Plain(Vec<(Arc<Message>, Ages, Ages)>),
}

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
    run: Run,
    rows: Vec<u32>,
    groups: Vec<Group>,
    order: Vec<(Reverse<u64>, usize)>,
    turns: Vec<Turn>,
}

impl Engine {
    /// Serves the cohort whose turn it is, up to `head`; `None`: the interpreter is going.
    pub(super) fn step(&mut self, head: u64, now: Instant) -> Option<()> {
        add(&self.shared.stats.steps, 1);
        let mut buffers = std::mem::take(&mut self.buffers);
        buffers.groups.clear();
        buffers.turns.clear();
        self.sort(head, &mut buffers);
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
    fn sort(&mut self, head: u64, Buffers { groups, turns, .. }: &mut Buffers) {
        for at in (self.pace.cohort()..self.clients.len()).step_by(self.pace.cohorts()) {
            self.skip_backlog(at, head);
            let client = &self.clients[at];
            let group = match client.stream {
                Stream::Live { filter, cursor, covered, .. } if cursor <= head => {
                    // One that is late has not taken its last turn: nothing is encoded for it until it has.
                    self.restless |= client.late;
                    (!client.late).then(|| join(groups, at, client.kind, filter, cursor, covered))
                }
                _ => None,
            };
            if group.is_some() || client.late || client.has_post() || client.is_sending() {
                turns.push(Turn { client: at, group, sent: 0 });
            }
        }
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

    fn encode(&mut self, head: u64, buffers: &mut Buffers) {
        let Buffers { run, rows, groups, order, .. } = buffers;
        let Some(tape) = self.follow.tape().cloned() else { return };
        let started = Instant::now();
        // The newest place first: those who lag must not hold up those who keep pace.
        order.clear();
        order.extend(groups.iter().enumerate().map(|(at, group)| (Reverse(group.cursor), at)));
        order.sort_unstable();
        for here in order.chunk_by(|a, b| a.0 == b.0) {
            if here[0] != order[0] && started.elapsed() > CATCH_UP {
                self.restless = true;
                break;
            }
            let cursor = here[0].0.0;
            match tape.read(cursor, head.min(cursor + MOST_ROWS - 1), run) {
                Read::Overrun { oldest } => {
                    for &at in here.iter().flat_map(|&(_, group)| &groups[group].members) {
                        self.overrun(at, oldest);
                    }
                    self.restless = true;
                }
                Read::Hole { to } => {
                    for &at in here.iter().flat_map(|&(_, group)| &groups[group].members) {
                        self.hole(at, to);
                    }
                    self.restless = true;
                }
                Read::Done { to } if to >= cursor => {
                    self.restless |= to < head;
                    let mut block = Block::new(run);
                    for &(_, group) in here {
                        self.encode_group(&mut groups[group], &mut block, rows);
                    }
                }
                Read::Done { .. } => {}
            }
        }
    }

    fn encode_group(&mut self, group: &mut Group, block: &mut Block<'_>, rows: &mut Vec<u32>) {
        let dictionary = self.follow.dictionary();
        let Some(filter) = self.filters.get(group.filter) else { return };
        filter.resolve(dictionary);
        let now = now_ns();
        if group.kind == Kind::Plain {
            let records = block.records().iter().take(PLAIN_WINDOW);
            group.news = News::Plain(
                records
                    .map(|r| {
                        let since_ingest = Ages::of(now.saturating_sub(r.ingest_ns()));
                        let since_event = Ages::of(now.saturating_sub(r.timestamp_ns()));
                        (Message::new(r.json().to_vec()), since_ingest, since_event)
                    })
                    .collect(),
            );
            return;
        }
        block.select(filter, rows);
        let frame = block.frame(group.covered + 1, &Pick::rows(rows), FRAME_BYTES, now);
        group.news = match frame.trades {
            0 => News::Passed { to_seq: frame.to_seq },
            trades => News::Frame {
                message: Message::new(frame.body),
                to_seq: frame.to_seq,
                trades,
                since_ingest: frame.since_ingest,
                since_event: frame.since_event,
                taken: 0,
            },
        };
    }

    /// Moves the cursors of those for whom nothing was there.
    fn pass_over(&mut self, buffers: &Buffers) {
        for group in &buffers.groups {
            if let News::Passed { to_seq } = group.news {
                for &at in &group.members {
                    if let Stream::Live { cursor, .. } = &mut self.clients[at].stream {
                        *cursor = to_seq + 1;
                    }
                }
            }
        }
    }

    fn serve(&mut self, buffers: &mut Buffers, now: Instant) -> Option<()> {
        let Buffers { turns, groups, .. } = buffers;
        let (mut done, mut newly_late) = (0, 0);
        let mut broken: Vec<(u64, String)> = Vec::new();
        while done < turns.len() {
            if done > 0 {
                std::thread::sleep(BREATH);
            }
            with_python(|py| {
                let hold = Instant::now();
                while done < turns.len() {
                    let turn = &mut turns[done];
                    match self.take_turn(py, turn, groups, now, hold) {
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

    fn count(&mut self, groups: &[Group]) {
        let stats = &self.shared.stats;
        for group in groups {
            if let News::Frame { message, trades, since_ingest, since_event, taken, .. } = &group.news {
                self.cycle.with_news += *taken as usize;
                add(&stats.frames, *taken);
                add(&stats.bytes, message.bytes() as u64 * taken);
                add(&stats.trades, u64::from(*trades) * taken);
                stats.delivered(since_ingest, since_event, *taken);
            }
        }
    }

    fn take_turn(
        &mut self,
        py: Python<'_>,
        turn: &mut Turn,
        groups: &mut [Group],
        now: Instant,
        hold: Instant,
    ) -> PyResult<Outcome> {
        let client = &mut self.clients[turn.client];
        let stats = &self.shared.stats;
        if turn.sent == 0 {
            if !client.reap(py, now)? {
                let newly = !client.late;
                client.late = true;
                add(&stats.not_done, 1);
                self.restless |= client.has_post();
                return Ok(Outcome::Over { late: newly });
            }
            client.late = false;
            let (messages, bytes) = client.flush(py, now)?;
            add(&stats.frames, messages);
            add(&stats.bytes, bytes);
        }
        let Some(group) = turn.group.map(|g| &mut groups[g]) else { return Ok(Outcome::Over { late: false }) };
        match &mut group.news {
            News::Frame { message, to_seq, taken, .. } => {
                client.send(py, message, now)?;
                move_to(client, *to_seq);
                *taken += 1;
            }
            News::Plain(messages) => {
                self.cycle.with_news += usize::from(turn.sent == 0);
                while turn.sent < messages.len() && client.room() > 0 {
                    let (message, since_ingest, since_event) = &messages[turn.sent];
                    client.send(py, message, now)?;
                    turn.sent += 1;
                    move_to(client, group.cursor + turn.sent as u64 - 1);
                    add(&stats.frames, 1);
                    add(&stats.bytes, message.bytes() as u64);
                    add(&stats.trades, 1);
                    stats.delivered(since_ingest, since_event, 1);
                    if turn.sent.is_multiple_of(32) && hold.elapsed() > HOLD {
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
    /// The hold is over in the middle of the turn.
    Interrupted,
}

fn join(groups: &mut Vec<Group>, at: usize, kind: Kind, filter: usize, cursor: u64, covered: u64) -> usize {
    let same = |g: &Group| (g.kind, g.filter, g.cursor, g.covered) == (kind, filter, cursor, covered);
    if let Some(found) = groups.iter().position(same) {
        groups[found].members.push(at);
        return found;
    }
    groups.push(Group { kind, filter, cursor, covered, members: vec![at], news: News::None });
    groups.len() - 1
}

fn move_to(client: &mut Client, to_seq: u64) {
    if let Stream::Live { cursor, covered, .. } = &mut client.stream {
        (*cursor, *covered) = (to_seq + 1, to_seq);
    }
}
