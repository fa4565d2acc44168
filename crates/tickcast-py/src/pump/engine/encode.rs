//! One frame for each distinct plan and place; whoever shares both shares the frame.

use super::super::acks::Acks;
use super::super::client::PLAIN_WINDOW;
use super::super::client::{Message, Stream};
use super::super::follow::now_ns;
use super::super::wish::{Form, Kind, Mode, Wish};
use super::Engine;
use super::step::Buffers;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickcast_core::fanout::binary::{Binary, Known};
use tickcast_core::fanout::{Ages, Block, Dictionary, Frame, OnBoard, Pick, Since};
use tickcast_core::tape::Read;

/// Most trades of one frame.
const MOST_ROWS: u64 = 4_096;
/// Most bytes of one frame, unless a single trade is larger, or the newest of all instruments are.
const FRAME_BYTES: usize = 1 << 20;
/// Longest time that a step may spend on encoding for clients that lag behind the others.
const CATCH_UP: Duration = Duration::from_millis(2);

/// Where clients stand that get the very same messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub kind: Kind,
    pub plan: usize,
    pub cursor: u64,
    pub covered: u64,
    /// What they know of the dictionaries, where that matters.
    pub known: Known,
    pub on_board: Option<OnBoard>,
}

/// Clients of a cohort at one place.
#[derive(Debug)]
pub(super) struct Group {
    pub place: Place,
    pub members: Vec<usize>,
    pub news: News,
}

#[derive(Debug)]
pub(super) enum News {
    /// Not encoded: others came first, or the tape had nothing.
    None,
    /// The range was read, and nothing in it was wanted.
    Passed { to_seq: u64, on_board: Option<OnBoard> },
    /// One frame.
    Frame(Framed),
    /// One message per trade, with its ages.
    Plain(Vec<(Arc<Message>, Ages, Ages)>),
}

/// A frame, and where its receivers stand after it.
#[derive(Debug)]
pub(super) struct Framed {
    pub message: Arc<Message>,
    pub to_seq: u64,
    pub trades: u32,
    pub conflated: u64,
    pub since_ingest: Ages,
    pub since_event: Ages,
    pub known: Known,
    pub on_board: Option<OnBoard>,
    pub taken: u64,
}

impl Engine {
    pub(super) fn encode(&mut self, head: u64, buffers: &mut Buffers) {
        let Buffers { run, rows, groups, order, .. } = buffers;
        let Some(tape) = self.follow.tape().cloned() else { return };
        let started = Instant::now();
        order.clear();
        for (at, group) in groups.iter_mut().enumerate() {
            // The newest place first: those who lag must not hold up those who keep pace.
            if !self.encode_from_board(group) {
                order.push((Reverse(group.place.cursor), at));
            }
        }
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
                        let group = &mut groups[group];
                        self.encode_from_tape(group, &mut block, rows);
                        // What found no room in the frame is there already: no news will wake us for it.
                        self.restless |= matches!(&group.news, News::Frame(frame) if frame.to_seq < head);
                    }
                }
                Read::Done { .. } => {}
            }
        }
    }

    fn encode_from_tape(&mut self, group: &mut Group, block: &mut Block<'_>, rows: &mut Vec<u32>) {
        let place = group.place;
        if place.kind == Kind::Plain {
            group.news = plain(block);
            return;
        }
        let dictionary = self.follow.dictionary();
        let (Some(wish), Some(filter)) =
            (self.plans.wish(place.plan).cloned(), self.plans.filter(place.plan, dictionary))
        else {
            return;
        };
        let conflated = match wish.mode {
            Mode::Tape => {
                block.select(filter, rows);
                None
            }
            Mode::Latest => {
                let wanted = block.select_newest(filter, dictionary, rows);
                Some(wanted - rows.len() as u64)
            }
        };
        let pick = Pick { rows, stages: wish.stages, conflated };
        self.put_frame(group, &wish, block, &pick);
    }

    /// Encodes what a conflating group gets, where it is near enough to the head; returns whether it was.
    fn encode_from_board(&mut self, group: &mut Group) -> bool {
        let place = group.place;
        let Some(before) = place.on_board else { return false };
        let Some(wish) = self.plans.wish(place.plan).cloned() else { return false };
        let dictionary = self.follow.dictionary();
        let Some(since) = self.plans.since(place.plan, place.covered, before, dictionary) else { return false };
        let Since { records, to_seq, conflated, now } = since;
        if records.is_empty() {
            group.news = News::Passed { to_seq, on_board: Some(now) };
            return true;
        }
        let rows: Vec<u32> = (0..records.len() as u32).collect();
        let block = Block::of(records, to_seq);
        let pick = Pick { rows: &rows, stages: wish.stages, conflated: Some(conflated) };
        let frame = encode(&block, place, &wish, &pick, dictionary);
        group.news = framed(frame, &wish, conflated, dictionary.known(), Some(now));
        true
    }
}

impl Engine {
    fn put_frame(&mut self, group: &mut Group, wish: &Wish, block: &Block<'_>, pick: &Pick<'_>) {
        let frame = encode(block, group.place, wish, pick, self.follow.dictionary());
        let on_board = self.plans.on_board(group.place.plan, frame.to_seq, self.follow.dictionary());
        let known = self.follow.dictionary().known();
        group.news = framed(frame, wish, pick.conflated.unwrap_or(0), known, on_board);
    }
}

fn encode(block: &Block<'_>, place: Place, wish: &Wish, pick: &Pick<'_>, dictionary: &Dictionary) -> Frame {
    let most_bytes = match wish.mode {
        // One that is cut would have to tell what was conflated up to there.
        Mode::Latest => usize::MAX,
        Mode::Tape => wish.ack_bytes.map_or(FRAME_BYTES, |most| Acks::frame_bytes(most).min(FRAME_BYTES)),
    };
    let seq = place.covered + 1;
    match wish.form {
        Form::Json => block.frame(seq, pick, most_bytes, now_ns()),
        Form::Binary => block.binary(seq, pick, most_bytes, now_ns(), &Binary { dictionary, known: place.known }),
    }
}

fn framed(frame: Frame, wish: &Wish, conflated: u64, known: Known, on_board: Option<OnBoard>) -> News {
    let Frame { to_seq, trades, body, since_ingest, since_event } = frame;
    if trades == 0 {
        return News::Passed { to_seq, on_board };
    }
    let message = Message::of_frame(body, wish);
    News::Frame(Framed { message, to_seq, trades, conflated, since_ingest, since_event, known, on_board, taken: 0 })
}

fn plain(block: &Block<'_>) -> News {
    let now = now_ns();
    let messages = block.records().iter().take(PLAIN_WINDOW).map(|r| {
        let since_ingest = Ages::of(now.saturating_sub(r.ingest_ns()));
        let since_event = Ages::of(now.saturating_sub(r.timestamp_ns()));
        (Message::new(r.json().to_vec()), since_ingest, since_event)
    });
    News::Plain(messages.collect())
}

impl Engine {
    /// Moves the cursors of those for whom nothing was there.
    pub(super) fn pass_over(&mut self, buffers: &Buffers) {
        for group in &buffers.groups {
            if let News::Passed { to_seq, on_board: now } = group.news {
                for &at in &group.members {
                    if let Stream::Live { cursor, on_board, .. } = &mut self.clients[at].stream {
                        (*cursor, *on_board) = (to_seq + 1, now);
                    }
                }
            }
        }
    }
}
