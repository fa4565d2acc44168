//! Frames over a real tape: whatever the subscription, and however frames are cut, every wanted trade comes once, in
//! order, under its own number, and the ranges leave no hole.

mod common;

use common::{Sample, options, sample};
use proptest::prelude::*;
use serde_json::Value;
use tickcast_core::Status;
use tickcast_core::fanout::{self, Block, Board, Dictionary, Filter, Hello, Pick, Subscription};
use tickcast_core::tape::{Entry, NO_INSTRUMENT, Read, Run, TapeReader, TapeWriter};

fn tape_of(samples: &[Sample], unscreened: bool) -> TapeReader {
    let mut writer = TapeWriter::in_memory(&options()).expect("a tape in memory");
    let entries = samples.iter().map(|s| Entry { flags: u8::from(!unscreened), ..s.entry() });
    writer.append(entries, &[]).expect("it fits");
    writer.reader()
}

/// Delivers `from ..= head` in reads of `rows` trades and frames of `bytes` bytes, as the pump would.
fn deliver(tape: &TapeReader, wish: &Subscription, from: u64, rows: u64, bytes: usize) -> Vec<Value> {
    let mut dictionary = Dictionary::default();
    let mut filter = Filter::new(wish.clone());
    let (mut cursor, mut covered) = (from, from - 1);
    let (mut run, mut selected, mut frames) = (Run::default(), Vec::new(), Vec::new());
    while cursor <= tape.head() {
        dictionary.follow(tape);
        filter.resolve(&dictionary);
        assert!(matches!(tape.read(cursor, cursor + rows - 1, &mut run), Read::Done { to } if to >= cursor));
        let mut block = Block::new(&run);
        block.select(&filter, &mut selected);
        let frame = block.frame(covered + 1, &Pick::rows(&selected), bytes, 1_000_000_000);
        if frame.trades > 0 {
            covered = frame.to_seq;
            let message: Value = serde_json::from_slice(&frame.body).expect("a frame is JSON");
            assert_eq!(message["toSeq"], frame.to_seq);
            assert_eq!(message["trades"].as_array().map(Vec::len), Some(frame.trades as usize));
            assert_eq!(frame.since_event.counts.iter().sum::<u32>(), frame.trades);
            frames.push(message);
        }
        assert!(frame.to_seq >= cursor, "a frame makes headway");
        cursor = frame.to_seq + 1;
    }
    frames
}

fn wishes() -> impl Strategy<Value = Subscription> {
    let names = proptest::option::of(proptest::collection::vec(0u64..20, 0..6));
    let statuses = proptest::option::of(proptest::collection::vec(0u8..3, 0..4));
    (names, statuses).prop_map(|(names, statuses)| {
        let names = names.map(|list| list.iter().map(|n| format!("INS{n}")).collect());
        let statuses: Option<Vec<Status>> = statuses.map(|s| s.into_iter().filter_map(Status::from_number).collect());
        Subscription::new(names, statuses.as_deref())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_wanted_trade_comes_once_under_its_number(
        wish in wishes(), count in 1u64..200, from in 1u64..50, rows in 1u64..64, bytes in 1usize..4_000,
        unscreened in any::<bool>(),
    ) {
        let samples: Vec<Sample> = (1..=count).map(sample).collect();
        let tape = tape_of(&samples, unscreened);
        let from = from.min(count);
        let frames = deliver(&tape, &wish, from, rows, bytes);
        let mut next = from;
        let mut got = Vec::new();
        for frame in &frames {
            prop_assert_eq!(frame["seq"].as_u64(), Some(next), "ranges follow one another");
            let to = frame["toSeq"].as_u64().unwrap_or_default();
            let trades = frame["trades"].as_array().cloned().unwrap_or_default();
            let seqs: Vec<u64> = match frame["seqs"].as_array() {
                Some(list) => list.iter().filter_map(Value::as_u64).collect(),
                None => (next..=to).collect(),
            };
            prop_assert_eq!(seqs.len(), trades.len(), "without seqs nothing is left out");
            got.extend(seqs.into_iter().zip(trades));
            next = to + 1;
        }
        let expected: Vec<(u64, Value)> = (from..=count)
            .map(|seq| (seq, &samples[seq as usize - 1]))
            .filter(|(_, s)| wish.admits_status(s.status) && wish.admits_instrument(&s.id))
            .map(|(seq, s)| (seq, serde_json::from_slice(&s.json()).unwrap_or_default()))
            .collect();
        prop_assert_eq!(got, expected);
    }

    /// Whoever conflates gets the same from the board as from the tape: of each instrument the newest trade behind its
    /// place, and the exact number of those that were left out for it.
    #[test]
    fn the_board_conflates_as_the_tape_does(
        wish in wishes(), count in 1u64..200, begun in 0u64..60, places in proptest::collection::vec(0u64..200, 1..5),
        unscreened in any::<bool>(),
    ) {
        let samples: Vec<Sample> = (1..=count).map(sample).collect();
        let tape = tape_of(&samples, unscreened);
        let mut dictionary = Dictionary::default();
        dictionary.follow(&tape);
        let mut filter = Filter::new(wish);
        filter.resolve(&dictionary);
        let mut places: Vec<u64> = places.into_iter().map(|place| place.clamp(begun.min(count), count)).collect();
        places.extend([begun.min(count), count]);
        places.sort_unstable();
        let mut board = Board::new(places[0]);
        let (mut run, mut rows) = (Run::default(), Vec::new());
        for step in places.windows(2) {
            let (covered, to) = (step[0], step[1]);
            let place = board.place(&filter, covered);
            tape.read(covered + 1, to, &mut run);
            board.take_in(&run, &dictionary);
            prop_assert_eq!(board.head(), to);
            let mut block = Block::new(&run);
            let wanted = block.select_newest(&filter, &dictionary, &mut rows);
            let from_tape: Vec<u64> = rows.iter().map(|&row| run.get(row as usize).seq()).collect();
            let since = place.and_then(|place| board.since(&filter, covered, place));
            prop_assert!(since.is_some());
            let Some(since) = since else { continue };
            prop_assert_eq!(since.records.iter().map(|r| r.seq()).collect::<Vec<_>>(), from_tape);
            prop_assert_eq!((since.to_seq, since.conflated), (to, wanted - rows.len() as u64));
            prop_assert_eq!(board.place(&filter, to), Some(since.now));
            for record in &since.records {
                let seq = record.seq() as usize;
                prop_assert_eq!(record.json(), samples[seq - 1].json());
            }
        }
        let before = board.place(&filter, board.head());
        board.restart(board.head());
        prop_assert!(before.is_none_or(|place| board.since(&filter, board.head(), place).is_none()));
    }

    #[test]
    fn snapshot_has_the_newest_valid_trade_of_each_wanted_instrument(wish in wishes(), count in 0u64..120) {
        let samples: Vec<Sample> = (1..=count).map(sample).collect();
        let tape = tape_of(&samples, false);
        let message: Value = serde_json::from_slice(&fanout::snapshot(&tape.snapshot(), &wish)).unwrap_or_default();
        prop_assert_eq!(message["toSeq"].as_u64(), Some(count));
        let mut newest = std::collections::BTreeMap::new();
        for (sample, seq) in samples.iter().zip(1u64..) {
            if sample.status == Status::Valid && wish.admits_status(Status::Valid) && wish.admits_instrument(&sample.id) {
                newest.insert(&sample.id, seq);
            }
        }
        let mut expected: Vec<u64> = newest.into_values().collect();
        expected.sort_unstable();
        let seqs: Vec<u64> = message["seqs"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        prop_assert_eq!(&seqs, &expected);
        let trades = message["trades"].as_array().cloned().unwrap_or_default();
        for (seq, trade) in expected.iter().zip(&trades) {
            let json: Value = serde_json::from_slice(&samples[*seq as usize - 1].json()).unwrap_or_default();
            prop_assert_eq!(trade, &json);
        }
        prop_assert_eq!(trades.len(), expected.len());
    }
}

#[test]
fn a_trade_larger_than_a_frame_still_goes_out() {
    let samples: Vec<Sample> = (1..=3).map(sample).collect();
    let frames = deliver(&tape_of(&samples, false), &Subscription::everything(), 1, 64, 1);
    assert_eq!(frames.iter().map(|f| f["seq"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
}

#[test]
fn instruments_outside_the_dictionary_are_found_by_name() {
    let samples: Vec<Sample> = (1..=40).map(sample).collect();
    let tape = tape_of(&samples, true);
    let mut run = Run::default();
    tape.read(1, 1, &mut run);
    assert_eq!(run.get(0).instrument(), NO_INSTRUMENT);
    let wish = Subscription::new(Some(vec!["INS3".to_owned()]), None);
    let got: usize =
        deliver(&tape, &wish, 1, 7, 9_999).iter().map(|f| f["trades"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(got, samples.iter().filter(|s| s.id == "INS3").count());
}

#[test]
fn hello_tells_the_dictionaries_and_when_they_have_grown() {
    let mut writer = TapeWriter::in_memory(&options()).expect("a tape in memory");
    let reader = writer.reader();
    let hello = Hello::new(Some(&reader), 5_000, "tickcast/test");
    let message: Value = serde_json::from_slice(&hello.message(7)).expect("JSON");
    assert_eq!(message["epoch"], format!("{:016x}", reader.epoch()));
    assert_eq!((message["seq"].as_u64(), message["heartbeatMs"].as_u64()), (Some(7), Some(5_000)));
    assert_eq!(message["enrichments"][0]["unit"], "USD");
    assert!(!hello.is_behind(&reader));
    writer.append(std::iter::once(sample(2).entry()), &[]).expect("it fits");
    assert!(hello.is_behind(&reader));
    let later: Value =
        serde_json::from_slice(&Hello::new(Some(&reader), 5_000, "tickcast/test").message(1)).expect("JSON");
    assert_eq!((later["instruments"][0].as_str(), later["reasons"][0].as_str()), (Some("INS2"), Some("xxx")));
}

#[test]
fn texts_of_messages_are_escaped() {
    let gap: Value = serde_json::from_slice(&fanout::gap(3, 9, "over\"run")).expect("JSON");
    assert_eq!((gap["from"].as_u64(), gap["to"].as_u64(), gap["why"].as_str()), (Some(3), Some(9), Some("over\"run")));
    let status: Value = serde_json::from_slice(&fanout::status("nats://\u{1}", "live", 5)).expect("JSON");
    assert_eq!((status["source"].as_str(), status["since"].as_str()), (Some("nats://\u{1}"), Some("5")));
    let bye: Value = serde_json::from_slice(&fanout::bye(4000, "going \\ down", 250)).expect("JSON");
    assert_eq!((bye["code"].as_u64(), bye["retryAfterMs"].as_u64()), (Some(4000), Some(250)));
}
