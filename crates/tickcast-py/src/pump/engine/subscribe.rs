//! Where a client starts: live, resumed, after a gap, on another tape.

use super::super::client::{Message, Stream};
use super::super::follow::now_ns;
use super::super::stats::add;
use super::super::wish::{Form, Kind, Request, Wish};
use super::{Engine, RETIREMENT};
use std::sync::Arc;
use std::time::Instant;
use tickcast_core::fanout::binary::{self, Binary, Known};
use tickcast_core::fanout::{self};

/// Most trades of a new tape that clients of the old one still get one by one.
const MOST_FROM_START: u64 = 16_384;

/// Where a stream begins, and what has to be said before.
struct Start {
    /// First sequence to come one by one.
    from_seq: u64,
    /// Sequences left out, and why.
    gap: Option<(u64, u64, &'static str)>,
    snapshot: Option<MadeSnapshot>,
}

/// A snapshot as a message; when many clients come back at once, one serves them all.
#[derive(Debug, Clone)]
pub(super) struct MadeSnapshot {
    wish: Wish,
    known: Known,
    to_seq: u64,
    message: Arc<Message>,
}

impl Engine {
    pub(super) fn subscribe(&mut self, at: usize, request: Request) {
        let request = self.going_on(at, request);
        let start = self.follow.tape().is_some().then(|| self.start(&request, self.clients[at].known));
        if self.clients[at].kind != Kind::Plain {
            let first = start.as_ref().map_or(1, |start| start.from_seq);
            let snapshot = start.as_ref().is_some_and(|start| start.snapshot.is_some());
            let granted = request.wish.granted(first, snapshot);
            let subscribed = fanout::subscribed(request.id.as_deref(), Some(&granted));
            self.clients[at].post(Message::new(subscribed));
            let status = self.follow.status();
            self.clients[at].post(status);
        }
        match start {
            Some(start) => self.begin(at, request.wish, request.snapshot, start),
            // Goes on in `move_over`, as soon as there is a tape.
            None => self.set_stream(at, Stream::Parked(request)),
        }
    }

    /// A client that changes what it wants, and wants no snapshot, goes on where it is: nothing is lost, or comes twice.
    fn going_on(&self, at: usize, request: Request) -> Request {
        match self.clients[at].stream {
            Stream::Live { covered, .. } if request.from_seq.is_none() && !request.snapshot => {
                Request { from_seq: Some(covered + 1), epoch: None, ..request }
            }
            _ => request,
        }
    }

    /// Says the gap, sends the snapshot, goes live.
    fn begin(&mut self, at: usize, wish: Wish, snapshot: bool, start: Start) {
        let now = Instant::now();
        let head = self.follow.tape().map_or(0, |tape| tape.head());
        let client = &mut self.clients[at];
        (client.due, client.warned) = (now, false);
        client.keep_window(wish.ack_bytes, now);
        let cursor = start.from_seq;
        let plan = self.plans.take(wish, head);
        let on_board = self.plans.on_board(plan, cursor - 1, self.follow.dictionary());
        self.set_stream(at, Stream::Live { plan, cursor, covered: cursor - 1, snapshot, on_board });
        if self.clients[at].kind == Kind::Plain {
            return;
        }
        if let Some((from, to, why)) = start.gap {
            self.post_gap(at, from, to, why);
        }
        if let Some(made) = start.snapshot {
            self.post_snapshot(at, &made);
        }
    }

    fn post_snapshot(&mut self, at: usize, made: &MadeSnapshot) {
        let all = self.follow.dictionary().known();
        let client = &mut self.clients[at];
        if client.kind == Kind::V1(Form::Binary) {
            client.known = all;
        }
        client.note_frame(made.to_seq, made.message.bytes(), Instant::now());
        client.post(made.message.clone());
    }

    /// Returns the newest values for this wish, as of now or shortly before, but not before `seq`.
    fn snapshot(&mut self, wish: &Wish, known: Known, seq: u64) -> Option<MadeSnapshot> {
        let to_seq = self.follow.snapshot(seq)?.to_seq();
        let known = if wish.form == Form::Binary { known } else { Known::default() };
        let alike = |made: &&MadeSnapshot| {
            made.to_seq == to_seq
                && made.known == known
                && (made.wish.form, made.wish.deflate) == (wish.form, wish.deflate)
                && made.wish.subscription == wish.subscription
        };
        if let Some(made) = self.last_snapshot.as_ref().filter(alike) {
            return Some(made.clone());
        }
        let body = match wish.form {
            Form::Json => fanout::snapshot(self.follow.snapshot(seq)?, &wish.subscription),
            Form::Binary => {
                let enrichments = self.follow.tape()?.enrichments().len();
                let (taken, dictionary) = self.follow.snapshot_and_dictionary(seq)?;
                let how = Binary { dictionary, known };
                binary::snapshot(taken, &wish.subscription, now_ns(), &how, enrichments)
            }
        };
        let made = MadeSnapshot { wish: wish.clone(), known, to_seq, message: Message::of_frame(body, wish) };
        self.last_snapshot = Some(made.clone());
        Some(made)
    }

    fn post_gap(&mut self, at: usize, from: u64, to: u64, why: &str) {
        add(&self.shared.stats.gaps, 1);
        add(&self.shared.stats.gap_trades, to - from + 1);
        self.clients[at].post(Message::new(fanout::gap(from, to, why)));
    }

    fn start(&mut self, request: &Request, known: Known) -> Start {
        let Some((epoch, oldest, head)) = self.follow.tape().map(|t| (t.epoch(), t.oldest(), t.head())) else {
            return Start { from_seq: 1, gap: None, snapshot: None };
        };
        // Without a tape `hello` had an empty epoch: such a request means the first tape that comes.
        let here = request.epoch.as_ref().is_none_or(|e| e.is_empty() || *e == format!("{epoch:016x}"));
        match request.from_seq {
            Some(from) if here && from >= oldest && from <= head + 1 => {
                Start { from_seq: from, gap: None, snapshot: None }
            }
            Some(from) if here && from < oldest => self.start_after(request, known, Some((from, "overrun"))),
            // Of another epoch, or beyond the head because the tape's end was lost: these numbers mean other trades.
            Some(_) => self.start_after(request, known, Some((1, "epoch"))),
            None => self.start_after(request, known, None),
        }
    }

    /// A start at the head; `missed` is where the gap before it begins.
    fn start_after(&mut self, request: &Request, known: Known, missed: Option<(u64, &'static str)>) -> Start {
        let mut to = self.follow.tape().map_or(0, |tape| tape.head());
        let mut snapshot = None;
        if request.snapshot
            && let Some(made) = self.snapshot(&request.wish, known, missed.map_or(1, |(from, _)| from))
        {
            to = made.to_seq;
            snapshot = Some(made);
        }
        let gap = missed.filter(|&(from, _)| from <= to).map(|(from, why)| (from, to, why));
        Start { from_seq: to + 1, gap, snapshot }
    }

    /// The writer has overtaken a client: the trades that it did not get are a gap, or lost to a plain client.
    pub(super) fn overrun(&mut self, at: usize, oldest: u64) {
        add(&self.shared.stats.overruns, 1);
        let Stream::Live { plan, cursor, covered, snapshot, .. } = self.clients[at].stream else { return };
        if self.clients[at].kind == Kind::Plain {
            add(&self.shared.stats.dropped, oldest - cursor);
            self.clients[at].stream =
                Stream::Live { plan, cursor: oldest, covered: oldest - 1, snapshot, on_board: None };
            return;
        }
        let Some(wish) = self.plans.wish(plan).map(|wish| Wish::clone(wish)) else { return };
        let request = Request { id: None, wish, from_seq: None, epoch: None, snapshot };
        let start = self.start_after(&request, self.clients[at].known, Some((covered + 1, "overrun")));
        self.begin(at, request.wish, snapshot, start);
    }

    /// The tape never had what comes next for a client, up to `to`: a gap, and on it goes right behind.
    pub(super) fn hole(&mut self, at: usize, to: u64) {
        let Stream::Live { plan, cursor, covered, snapshot, .. } = self.clients[at].stream else { return };
        match self.clients[at].kind {
            Kind::Plain => add(&self.shared.stats.dropped, to + 1 - cursor),
            Kind::V1(_) => self.post_gap(at, covered + 1, to, "upstream"),
        }
        let on_board = self.plans.on_board(plan, to, self.follow.dictionary());
        self.clients[at].stream = Stream::Live { plan, cursor: to + 1, covered: to, snapshot, on_board };
    }

    /// Opens a tape that has come, or that took the old one's place.
    pub(super) fn look_for_tape(&mut self) {
        let Some(next) = self.follow.successor() else { return };
        let now = Instant::now();
        if let Some(old_head) = self.follow.tape().map(|tape| tape.head()) {
            // Nobody writes the old one any more; let its clients read the rest of it first.
            let until = *self.retiring.get_or_insert(now + RETIREMENT);
            if now < until && self.clients.iter().any(|c| is_behind(&c.stream, old_head)) {
                self.restless = true;
                return;
            }
            self.announce_lost(old_head);
        }
        self.retiring = None;
        self.restless = true;
        let other_epoch = self.follow.adopt(next);
        self.plans.forget(self.follow.tape().map_or(0, |tape| tape.head()));
        self.last_snapshot = None;
        self.follow.look();
        for at in 0..self.clients.len() {
            self.move_over(at, other_epoch);
        }
    }

    /// Announces what clients will not get of a tape that is given up.
    fn announce_lost(&mut self, old_head: u64) {
        for at in 0..self.clients.len() {
            if let Stream::Live { cursor, covered, .. } = self.clients[at].stream
                && cursor <= old_head
            {
                match self.clients[at].kind {
                    Kind::V1(_) => self.post_gap(at, covered + 1, old_head, "epoch"),
                    Kind::Plain => add(&self.shared.stats.dropped, old_head - cursor + 1),
                }
            }
        }
    }

    fn move_over(&mut self, at: usize, other_epoch: bool) {
        let kind = self.clients[at].kind;
        if other_epoch && kind != Kind::Plain {
            self.post_hello(at);
        }
        let request = match std::mem::replace(&mut self.clients[at].stream, Stream::Silent) {
            Stream::Parked(request) => request,
            Stream::Live { plan, snapshot, .. } if other_epoch => {
                let wish = self.plans.wish(plan).map(|wish| Wish::clone(wish));
                self.plans.give_back(plan);
                let wish = wish.unwrap_or_else(|| Wish::everything(Form::Json));
                Request { id: None, wish, from_seq: None, epoch: None, snapshot }
            }
            other => {
                self.clients[at].stream = other;
                return;
            }
        };
        let known = self.clients[at].known;
        let start = match request.from_seq {
            Some(_) => self.start(&request, known),
            None => self.start_on_new_tape(&request, known),
        };
        if kind != Kind::Plain {
            let status = self.follow.status();
            self.clients[at].post(status);
        }
        self.begin(at, request.wish, request.snapshot, start);
    }

    /// From its first trade where that is still there and not long ago, with the empty snapshot that such a tape
    /// began with; else like anybody who comes late.
    fn start_on_new_tape(&mut self, request: &Request, known: Known) -> Start {
        let fresh = self.follow.tape().is_some_and(|t| t.oldest() == 1 && t.head() <= MOST_FROM_START);
        if !fresh {
            return self.start_after(request, known, Some((1, "epoch")));
        }
        Start { from_seq: 1, gap: None, snapshot: request.snapshot.then(|| self.empty_snapshot(&request.wish, known)) }
    }

    fn empty_snapshot(&mut self, wish: &Wish, known: Known) -> MadeSnapshot {
        let enrichments = self.follow.tape().map_or(0, |tape| tape.enrichments().len());
        let body = match wish.form {
            Form::Json => br#"{"type":"snapshot","seq":1,"toSeq":0,"trades":[],"seqs":[]}"#.to_vec(),
            Form::Binary => {
                let how = Binary { dictionary: self.follow.dictionary(), known };
                binary::empty_snapshot(now_ns(), &how, enrichments)
            }
        };
        MadeSnapshot { wish: wish.clone(), known, to_seq: 0, message: Message::of_frame(body, wish) }
    }
}

fn is_behind(stream: &Stream, head: u64) -> bool {
    matches!(stream, Stream::Live { cursor, .. } if *cursor <= head)
}
