//! Where a client starts: live, resumed, after a gap, on another tape.

use super::super::client::{Kind, Message, Request, Stream};
use super::super::stats::add;
use super::{Engine, RETIREMENT};
use std::sync::Arc;
use std::time::Instant;
use tickcast_core::fanout::{self, Granted, Subscription};

/// Most trades of a new tape that clients of the old one still get one by one.
const MOST_FROM_START: u64 = 16_384;

/// Where a stream begins, and what has to be said before.
struct Start {
    /// First sequence to come one by one.
    from_seq: u64,
    /// Sequences left out, and why.
    gap: Option<(u64, u64, &'static str)>,
    snapshot: Option<Arc<Message>>,
}

impl Engine {
    pub(super) fn subscribe(&mut self, at: usize, request: Request) {
        let start = self.follow.tape().is_some().then(|| self.start(&request));
        if self.clients[at].kind == Kind::V1 {
            let first = start.as_ref().map_or(1, |start| start.from_seq);
            let snapshot = start.as_ref().is_some_and(|start| start.snapshot.is_some());
            let granted = Granted::new(&request.subscription, first, snapshot);
            let subscribed = fanout::subscribed(request.id.as_deref(), Some(&granted));
            self.clients[at].post(Message::new(subscribed));
            let status = self.follow.status();
            self.clients[at].post(status);
        }
        match start {
            Some(start) => self.begin(at, request.subscription, request.snapshot, start),
            // Goes on in `move_over`, as soon as there is a tape.
            None => self.set_stream(at, Stream::Parked(request)),
        }
    }

    /// Says the gap, sends the snapshot, goes live.
    fn begin(&mut self, at: usize, subscription: Subscription, snapshot: bool, start: Start) {
        let filter = self.filters.take(subscription);
        let cursor = start.from_seq;
        self.set_stream(at, Stream::Live { filter, cursor, covered: cursor - 1, snapshot });
        if self.clients[at].kind == Kind::Plain {
            return;
        }
        if let Some((from, to, why)) = start.gap {
            self.post_gap(at, from, to, why);
        }
        if let Some(message) = start.snapshot {
            self.clients[at].post(message);
        }
    }

    fn post_gap(&mut self, at: usize, from: u64, to: u64, why: &str) {
        add(&self.shared.stats.gaps, 1);
        add(&self.shared.stats.gap_trades, to - from + 1);
        self.clients[at].post(Message::new(fanout::gap(from, to, why)));
    }

    fn start(&mut self, request: &Request) -> Start {
        let Some((epoch, oldest, head)) = self.follow.tape().map(|t| (t.epoch(), t.oldest(), t.head())) else {
            return Start { from_seq: 1, gap: None, snapshot: None };
        };
        // Without a tape `hello` had an empty epoch: such a request means the first tape that comes.
        let here = request.epoch.as_ref().is_none_or(|e| e.is_empty() || *e == format!("{epoch:016x}"));
        match request.from_seq {
            Some(from) if here && from >= oldest && from <= head + 1 => {
                Start { from_seq: from, gap: None, snapshot: None }
            }
            Some(from) if here && from < oldest => self.start_after(request, Some((from, "overrun"))),
            // Of another epoch, or beyond the head because the tape's end was lost: these numbers mean other trades.
            Some(_) => self.start_after(request, Some((1, "epoch"))),
            None => self.start_after(request, None),
        }
    }

    /// A start at the head; `missed` is where the gap before it begins.
    fn start_after(&mut self, request: &Request, missed: Option<(u64, &'static str)>) -> Start {
        let mut to = self.follow.tape().map_or(0, |tape| tape.head());
        let mut snapshot = None;
        if request.snapshot
            && let Some(taken) = self.follow.snapshot(missed.map_or(1, |(from, _)| from))
        {
            to = taken.to_seq();
            snapshot = Some(Message::new(fanout::snapshot(taken, &request.subscription)));
        }
        let gap = missed.filter(|&(from, _)| from <= to).map(|(from, why)| (from, to, why));
        Start { from_seq: to + 1, gap, snapshot }
    }

    /// The writer has overtaken a client: the trades that it did not get are a gap, or lost to a plain client.
    pub(super) fn overrun(&mut self, at: usize, oldest: u64) {
        add(&self.shared.stats.overruns, 1);
        let Stream::Live { filter, cursor, covered, snapshot } = self.clients[at].stream else { return };
        if self.clients[at].kind == Kind::Plain {
            add(&self.shared.stats.dropped, oldest - cursor);
            self.clients[at].stream = Stream::Live { filter, cursor: oldest, covered: oldest - 1, snapshot };
            return;
        }
        let Some(subscription) = self.filters.get(filter).map(|f| f.subscription().clone()) else { return };
        let request = Request { id: None, subscription, from_seq: None, epoch: None, snapshot };
        let start = self.start_after(&request, Some((covered + 1, "overrun")));
        self.begin(at, request.subscription, snapshot, start);
    }

    /// The tape never had what comes next for a client, up to `to`: a gap, and on it goes right behind.
    pub(super) fn hole(&mut self, at: usize, to: u64) {
        let Stream::Live { filter, cursor, covered, snapshot } = self.clients[at].stream else { return };
        match self.clients[at].kind {
            Kind::Plain => add(&self.shared.stats.dropped, to + 1 - cursor),
            Kind::V1 => self.post_gap(at, covered + 1, to, "upstream"),
        }
        self.clients[at].stream = Stream::Live { filter, cursor: to + 1, covered: to, snapshot };
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
        self.filters.forget_codes();
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
                    Kind::V1 => self.post_gap(at, covered + 1, old_head, "epoch"),
                    Kind::Plain => add(&self.shared.stats.dropped, old_head - cursor + 1),
                }
            }
        }
    }

    fn move_over(&mut self, at: usize, other_epoch: bool) {
        let is_v1 = self.clients[at].kind == Kind::V1;
        if other_epoch && is_v1 {
            let hello = self.follow.hello();
            self.clients[at].post(hello);
        }
        let request = match std::mem::replace(&mut self.clients[at].stream, Stream::Silent) {
            Stream::Parked(request) => request,
            Stream::Live { filter, snapshot, .. } if other_epoch => {
                let subscription = self.filters.get(filter).map(|f| f.subscription().clone());
                self.filters.give_back(filter);
                let subscription = subscription.unwrap_or_else(Subscription::everything);
                Request { id: None, subscription, from_seq: None, epoch: None, snapshot }
            }
            other => {
                self.clients[at].stream = other;
                return;
            }
        };
        let start = match request.from_seq {
            Some(_) => self.start(&request),
            None => self.start_on_new_tape(&request),
        };
        if is_v1 {
            let status = self.follow.status();
            self.clients[at].post(status);
        }
        self.begin(at, request.subscription, request.snapshot, start);
    }

    /// From its first trade where that is still there and not long ago, with the empty snapshot that such a tape
    /// began with; else like anybody who comes late.
    fn start_on_new_tape(&mut self, request: &Request) -> Start {
        let fresh = self.follow.tape().is_some_and(|t| t.oldest() == 1 && t.head() <= MOST_FROM_START);
        if !fresh {
            return self.start_after(request, Some((1, "epoch")));
        }
        let empty = br#"{"type":"snapshot","seq":1,"toSeq":0,"trades":[],"seqs":[]}"#;
        Start { from_seq: 1, gap: None, snapshot: request.snapshot.then(|| Message::new(empty.to_vec())) }
    }
}

fn is_behind(stream: &Stream, head: u64) -> bool {
    matches!(stream, Stream::Live { cursor, .. } if *cursor <= head)
}
