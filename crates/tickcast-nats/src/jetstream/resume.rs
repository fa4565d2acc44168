//! Where reading starts and goes on: no message twice, none passed over unnoticed. No I/O.

use super::api::{Delivery, StreamInfo, StreamState};
use sha2::{Digest as _, Sha256};
use tickcast_core::Position;

/// Where to start when no position is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the oldest message that the stream holds.
    #[default]
    All,
    /// With what is published from now on.
    New,
    /// With the first message that was stored at this time or later, ns since the Unix epoch.
    Since(i64),
}

/// Which rule decided where a source started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartedFrom {
    /// A given position of this stream.
    Position,
    /// The position saved under the name `durable`: the only one, or further than the given.
    Durable,
    /// No position was known: [`Start::All`].
    All,
    /// No position was known: [`Start::New`].
    New,
    /// No position was known: [`Start::Since`].
    Since,
}

impl StartedFrom {
    /// Returns the name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            StartedFrom::Position => "position",
            StartedFrom::Durable => "durable",
            StartedFrom::All => "all",
            StartedFrom::New => "new",
            StartedFrom::Since => "since",
        }
    }
}

/// Where a source started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Id of the stream (see the crate's documentation).
    pub stream: u32,
    /// First stream sequence to be read.
    pub sequence: u64,
    /// What decided it.
    pub from: StartedFrom,
}

/// Returns the id of a stream: the first 8 hex digits of SHA-256 of `jetstream:<stream>:<created>`.
pub(crate) fn stream_id(stream: &str, created: &str) -> u32 {
    let digest = Sha256::digest(format!("jetstream:{stream}:{created}"));
    digest.iter().take(4).fold(0, |id, &byte| id << 8 | u32::from(byte))
}

/// Where a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) started: Started,
    /// First sequence to be read: what lies between it and where the source starts only fills the windows.
    pub(crate) begin: u64,
    /// From where the windows can be had again that stand where it begins; `None`: not known.
    pub(crate) lowest: Option<u64>,
    /// All of the windows is read again, although a position was given.
    pub(crate) anew: bool,
}

/// Where the messages of a stream lie with which windows can be filled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Filling {
    /// First sequence that is still at hand; `None`: nothing is.
    pub(crate) at_hand: Option<u64>,
    /// First sequence of those that windows may need, by the time at which it was stored; `None`: not known.
    pub(crate) by_time: Option<u64>,
}

/// Returns the furthest of the positions that are of this stream.
pub(crate) fn furthest(positions: &[Position], stream: u32) -> Option<u64> {
    of(positions, stream).max()
}

/// Returns the first of the positions that are of this stream.
pub(crate) fn first(positions: &[Position], stream: u32) -> Option<u64> {
    of(positions, stream).min()
}

fn of(positions: &[Position], stream: u32) -> impl Iterator<Item = u64> {
    positions.iter().filter(move |p| p.stream == stream && p.partition == 0).map(|p| p.offset)
}

/// Decides where to start: behind the furthest of the positions that are of this stream, else at `fresh`.
///
/// Where the saved position is the furthest, another processor has judged what lies behind the given one: the windows
/// are filled with it. They are filled with all that they hold where no position is given, or where what is at hand of
/// what lies before it does not reach as far back.
pub(crate) fn place(
    info: &StreamInfo,
    positions: &[Position],
    saved: Option<(u64, Option<u64>)>,
    fresh: (u64, StartedFrom),
    filling: Filling,
) -> Place {
    let stream = stream_id(&info.config.name, &info.created);
    let at = |sequence, from| Started { stream, sequence, from };
    let lowest = saved.and_then(|(_, lowest)| lowest).or(filling.by_time);
    let (started, given) = match (furthest(positions, stream), saved) {
        (Some(given), saved) if saved.is_none_or(|(saved, _)| saved <= given) => {
            (at(given + 1, StartedFrom::Position), Some(given))
        }
        (given, Some((saved, _))) => (at(saved + 1, StartedFrom::Durable), given),
        (_, None) => {
            let (sequence, from) = fresh;
            let started = at(sequence, from);
            return Place { started, begin: sequence, lowest: Some(sequence), anew: false };
        }
    };
    // What the limits have removed before the start was judged: it is not lost.
    let there = |sequence: u64| sequence.max(info.state.first_seq).clamp(1, started.sequence);
    let behind = given.map_or(started.sequence, |given| given + 1);
    let needed = there(lowest.unwrap_or(behind).min(behind));
    if given.is_some() && (needed >= behind || filling.at_hand.is_some_and(|first| first <= needed)) {
        // Behind the given position each message that is gone is a loss, unless it was judged elsewhere.
        let begin = if started.from == StartedFrom::Position { behind } else { there(behind) };
        return Place { started, begin, lowest, anew: false };
    }
    Place { started, begin: needed, lowest, anew: given.is_some() }
}

/// What to do with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take it.
    Take,
    /// It was taken before.
    Repeat,
    /// One before it didn't arrive: begin again with a new consumer.
    Missing,
}

/// Follows the sequences of a stream over any number of consumers.
#[derive(Debug, Clone)]
pub(crate) struct Tracker {
    /// The stream sequence that is wanted next.
    pub(crate) next: u64,
    /// Every message of the stream is ours, so each hole is a loss.
    whole: bool,
    /// Oldest sequence that the stream still held when last asked.
    first: u64,
    /// Last sequence of the present consumer.
    consumer: u64,
    /// Messages of ours waited behind the last one, or the consumer is new.
    behind: bool,
    /// Messages lost for good.
    pub(crate) lost: u64,
    /// Messages that the limits removed and of which some may have been ours.
    pub(crate) lost_at_most: u64,
}

impl Tracker {
    pub(crate) fn new(next: u64, whole: bool) -> Self {
        Tracker { next, whole, first: 0, consumer: 0, behind: true, lost: 0, lost_at_most: 0 }
    }

    /// Goes on with another stream; the counts stay.
    pub(crate) fn restart(&mut self, next: u64) {
        *self = Tracker { lost: self.lost, lost_at_most: self.lost_at_most, ..Tracker::new(next, self.whole) };
    }

    /// Begins with a new consumer on a stream of this state; says up to where the stream reaches if that is before
    /// what was read already: then the server lost messages that it had delivered.
    pub(crate) fn begin(&mut self, whole: bool, state: StreamState) -> Result<(), u64> {
        if state.last_seq.saturating_add(1) < self.next {
            return Err(state.last_seq);
        }
        self.whole = whole;
        self.consumer = 0;
        self.first = state.first_seq;
        self.behind = true;
        if state.first_seq > self.next {
            self.pass(state.first_seq);
        }
        Ok(())
    }

    /// Learns which sequence is the oldest that the stream still holds.
    pub(crate) fn oldest(&mut self, first_seq: u64) {
        self.first = self.first.max(first_seq);
    }

    /// Judges a delivery.
    pub(crate) fn judge(&mut self, delivery: &Delivery) -> Verdict {
        if delivery.consumer_sequence != self.consumer + 1 {
            return Verdict::Missing;
        }
        self.consumer += 1;
        if delivery.stream_sequence < self.next {
            return Verdict::Repeat;
        }
        // The consumer's own numbers have no hole here, so the server had nothing of ours in between.
        self.pass(delivery.stream_sequence);
        self.next = delivery.stream_sequence + 1;
        self.behind = delivery.pending > 0;
        Verdict::Take
    }

    /// Passes over what the server no longer has before `sequence`.
    fn pass(&mut self, sequence: u64) {
        if self.whole {
            self.lost += sequence - self.next;
        } else if self.behind {
            // Where nothing of ours waited, only others' messages can have gone.
            self.lost_at_most += self.first.min(sequence).saturating_sub(self.next);
        }
        self.next = sequence;
    }
}

#[cfg(test)]
mod tests {
    use super::super::api::StreamConfig;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn info(first_seq: u64, last_seq: u64) -> StreamInfo {
        let config = StreamConfig { name: "TICKS".into(), ..StreamConfig::default() };
        let created = "2024-05-01T12:00:00.5Z".into();
        StreamInfo { config, created, state: StreamState { first_seq, last_seq } }
    }

    fn position(stream: u32, offset: u64) -> Position {
        Position { stream, partition: 0, offset, index: u16::MAX }
    }

    #[test]
    fn the_stream_id_is_read_off_the_hash() {
        // printf 'jetstream:TICKS:2024-05-01T12:00:00.5Z' | sha256sum
        assert_eq!(stream_id("TICKS", "2024-05-01T12:00:00.5Z"), STREAM);
    }
    const STREAM: u32 = 0xde83_eb62;

    const FRESH: (u64, StartedFrom) = (5, StartedFrom::All);

    #[test]
    fn the_furthest_position_of_the_same_stream_decides() {
        let of = |positions: &[Position], saved: Option<u64>| {
            let Started { sequence, from, .. } =
                place(&info(5, 90), positions, saved.map(|s| (s, None)), FRESH, Filling::default()).started;
            (sequence, from)
        };
        let other = position(STREAM ^ 1, 80);
        assert_eq!(of(&[position(STREAM, 10), other], None), (11, StartedFrom::Position));
        assert_eq!(of(&[position(STREAM, 10)], Some(10)), (11, StartedFrom::Position));
        assert_eq!(of(&[position(STREAM, 10)], Some(12)), (13, StartedFrom::Durable));
        assert_eq!(of(&[other], Some(7)), (8, StartedFrom::Durable));
        assert_eq!(of(&[other], None), FRESH);
    }

    #[test]
    fn windows_are_filled_up_to_where_the_saved_position_goes_on() {
        let of = |given: &[u64], saved, lowest| {
            let positions: Vec<_> = given.iter().map(|&offset| position(STREAM, offset)).collect();
            let all = Filling { at_hand: Some(1), by_time: None };
            let Place { begin, lowest, .. } = place(&info(5, 90), &positions, Some((saved, lowest)), FRESH, all);
            (begin, lowest)
        };
        assert_eq!(of(&[], 20, Some(8)), (8, Some(8)), "all that they held");
        assert_eq!(of(&[12], 20, Some(8)), (13, Some(8)), "what is behind the tape");
        assert_eq!(of(&[12], 20, None), (13, None));
        assert_eq!(of(&[20], 20, Some(8)), (21, Some(8)), "nothing: it is all on the tape");
        assert_eq!(of(&[], 20, None), (21, None), "not known from where");
        assert_eq!(of(&[], 20, Some(2)), (5, Some(2)), "what is there of it");
        assert_eq!(place(&info(5, 90), &[], None, FRESH, Filling::default()).lowest, Some(5), "they begin there");
    }

    #[test]
    fn windows_are_read_again_where_what_is_at_hand_does_not_reach_as_far_back() {
        let of = |saved: Option<(u64, u64)>, at_hand, by_time| {
            let saved = saved.map(|(saved, lowest)| (saved, Some(lowest)));
            let place = place(&info(5, 90), &[position(STREAM, 40)], saved, FRESH, Filling { at_hand, by_time });
            (place.begin, place.started.sequence, place.anew)
        };
        assert_eq!(of(Some((38, 20)), Some(20), None), (41, 41, false), "it reaches");
        assert_eq!(of(Some((38, 20)), Some(21), None), (20, 41, true), "it does not");
        assert_eq!(of(Some((38, 20)), None, None), (20, 41, true), "nothing is at hand");
        assert_eq!(of(Some((38, 2)), Some(5), None), (41, 41, false), "it has all that the stream has");
        assert_eq!(of(Some((38, 2)), Some(6), None), (5, 41, true), "the stream has more");
        assert_eq!(of(Some((60, 20)), Some(21), None), (20, 61, true), "and another went on meanwhile");
        assert_eq!(of(Some((60, 20)), Some(20), None), (41, 61, false));
        assert_eq!(of(Some((60, 50)), Some(30), None), (41, 61, false), "windows need nothing before the position");
        assert_eq!(of(None, Some(30), Some(12)), (12, 41, true), "by the time it was stored");
        assert_eq!(of(None, Some(11), Some(12)), (41, 41, false));
        assert_eq!(of(None, Some(30), None), (41, 41, false), "nothing says from where");
    }

    #[test]
    fn a_stream_that_ends_before_what_was_read_is_noticed() {
        let mut tracker = Tracker::new(11, true);
        assert_eq!(tracker.begin(true, StreamState { first_seq: 1, last_seq: 9 }), Err(9));
        assert_eq!(tracker.begin(true, StreamState { first_seq: 1, last_seq: 10 }), Ok(()));
    }

    #[test]
    fn other_subjects_are_no_loss_but_expired_ones_may_be() {
        let mut tracker = Tracker::new(1, false);
        tracker.begin(false, StreamState { first_seq: 1, last_seq: 100 }).expect("starts");
        let delivery = |s, c, pending| Delivery { stream_sequence: s, consumer_sequence: c, stored_ns: 0, pending };
        assert_eq!(tracker.judge(&delivery(7, 1, 5)), Verdict::Take);
        assert_eq!((tracker.lost, tracker.lost_at_most), (0, 0));
        tracker.oldest(11);
        assert_eq!(tracker.judge(&delivery(20, 2, 0)), Verdict::Take);
        assert_eq!((tracker.lost, tracker.lost_at_most), (0, 3));
        tracker.oldest(50);
        assert_eq!(tracker.judge(&delivery(60, 3, 0)), Verdict::Take);
        assert_eq!((tracker.lost, tracker.lost_at_most), (0, 3), "nothing of ours waited");
    }

    proptest! {
        /// Whatever is deleted, dropped on the way or delivered again: each message is taken at most once, in order,
        /// and taken + lost = published once everything has been read.
        #[test]
        fn taken_and_lost_are_all_there_was(
            last in 1u64..120,
            start in 1u64..20,
            deleted in proptest::collection::btree_set(1u64..120, 0..60),
            // For each consumer: how many deliveries it lives, and at which one the message is dropped on the way.
            lives in proptest::collection::vec((1usize..40, 0usize..60), 1..6),
            rewind in 0u64..3,
        ) {
            let start = start.min(last);
            let held: BTreeSet<u64> = (1..=last).filter(|s| !deleted.contains(s)).collect();
            let first_seq = held.first().copied().unwrap_or(last + 1);
            let state = StreamState { first_seq, last_seq: last };
            let mut tracker = Tracker::new(start, true);
            let mut taken = Vec::new();
            let lives = lives.into_iter().chain(std::iter::once((usize::MAX, usize::MAX)));
            for (life, dropped) in lives {
                prop_assert_eq!(tracker.begin(true, state), Ok(()));
                // A server may also start a little earlier than asked.
                let from = tracker.next.saturating_sub(rewind);
                for (n, &sequence) in held.range(from..).enumerate().take(life) {
                    if n == dropped { continue }
                    let delivery =
                        Delivery { stream_sequence: sequence, consumer_sequence: n as u64 + 1, stored_ns: 0, pending: 0 };
                    match tracker.judge(&delivery) {
                        Verdict::Take => taken.push(sequence),
                        Verdict::Repeat => {}
                        Verdict::Missing => break,
                    }
                }
            }
            let wanted: Vec<u64> = held.range(start..).copied().collect();
            prop_assert_eq!(&taken, &wanted);
            let tail = last + 1 - tracker.next; // deleted behind the last that is held: not known as lost yet
            prop_assert_eq!(taken.len() as u64 + tracker.lost + tail, last + 1 - start);
        }
    }
}
