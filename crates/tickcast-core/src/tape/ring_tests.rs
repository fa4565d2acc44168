//! The whole path over plain memory with a tiny ring, so that it wraps within a few trades; runs under Miri:
//! `MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-disable-stacked-borrows" cargo +nightly miri test -p tickcast-core --lib
//! tape::ring_tests` (borrows of a hundred thousand atomics at a time are what Miri is slowest at).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::commit::Commit;
use super::layout::header;
use super::memory::{Memory, Ordering, Region};
use super::*;
use crate::encode::json::{EnrichmentKeys, write_trade};
use crate::{Position, Status, Trade};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const SLOTS: usize = 16;
const CASES: u32 = if cfg!(miri) { 3 } else { 200 };

fn options() -> TapeOptions {
    TapeOptions {
        bytes: 3 << 20,
        enrichments: vec![Enrichment { name: "notional".to_owned(), unit: "USD".to_owned() }],
        rules: vec!["first".to_owned(), "second".to_owned()],
        rule_set: "desk@1".to_owned(),
        max_instruments: 4,
        max_reasons: 2,
        fresh: false,
        epoch: None,
    }
}

/// Returns a tape of `SLOTS` slots and `data_words` words of data.
fn tiny(data_words: usize) -> Shared {
    let mut layout = options().layout().unwrap();
    layout.slots.words = SLOTS * layout.slot_words();
    layout.data = Region { start: layout.slots.start + layout.slots.words, words: data_words };
    let memory = Memory::heap(layout.data.start + data_words);
    Shared { memory, layout, path: "(memory)".into(), identity: None }
}

fn writer(data_words: usize) -> TapeWriter {
    TapeWriter::from_opened(open::begin(tiny(data_words), &options()).unwrap(), &options()).unwrap()
}

/// A trade told by its number and a few choices.
#[derive(Debug, Clone, Copy)]
struct Made {
    instrument: usize,
    reason: Option<(usize, bool)>,
    flags: u8,
}

const INSTRUMENTS: [&str; 6] = ["AAPL", "MSFT", "BTCUSD", "GOOG", "five", "ünïcode"];
const REASONS: [&str; 4] = ["", "too far", "ten bytes!", "a third one \"quoted\""];

impl Made {
    fn trade<'a>(&self, number: u64, enrichment: &'a [f64; 1]) -> Trade<'a> {
        Trade {
            id: Position { stream: 1, partition: 2, offset: number, index: 3 }.trade_id(),
            instrument_id: INSTRUMENTS[self.instrument],
            price: number as f64 / 4.0,
            volume: number as i64,
            timestamp_ns: -1 - number as i64,
            status: if self.reason.is_some() { Status::Invalid } else { Status::Valid },
            reason: self.reason.map(|(reason, _)| REASONS[reason]),
            vwap_20m: if self.reason.is_some() { f64::NAN } else { 1.5 },
            enrichments: enrichment,
        }
    }

    fn entry<'a>(&self, number: u64, enrichment: &'a [f64; 1]) -> Entry<'a> {
        Entry {
            trade: self.trade(number, enrichment),
            reason_is_text: self.reason.is_some_and(|(_, text)| text),
            flags: self.flags,
            rule: if self.reason.is_some() { 2 } else { NO_RULE },
            observed: number as f64,
            limit: f64::NAN,
            rules_vwap: 2.5,
            ingest_ns: number as i64,
            decode_us: 1,
            rules_us: 2,
            enrich_us: 3,
        }
    }

    fn json(&self, number: u64) -> Vec<u8> {
        let mut json = Vec::new();
        write_trade(&mut json, &self.trade(number, &[number as f64]), &EnrichmentKeys::new(&["notional"]));
        json
    }
}

fn made() -> impl Strategy<Value = Made> {
    let reason = proptest::option::weighted(0.3, (0..REASONS.len(), any::<bool>()));
    let flags = prop_oneof![3 => Just(flags::SCREENED), 1 => Just(0)];
    (0..INSTRUMENTS.len(), reason, flags).prop_map(|(instrument, reason, flags)| Made { instrument, reason, flags })
}

fn assert_is(record: &Record<'_>, made: &Made, reader: &TapeReader) {
    let number = record.seq();
    let trade = made.trade(number, &[0.0]);
    assert_eq!(record.json(), made.json(number));
    assert_eq!((record.id(), record.status(), record.flags()), (trade.id, trade.status, made.flags));
    assert_eq!(record.enrichments(), [number as f64]);
    let (instruments, reasons) = (reader.instruments(0), reader.reasons(0));
    let known = instruments.get(record.instrument() as usize).map(String::as_str);
    assert_eq!(known.or(record.instrument_text()), Some(trade.instrument_id));
    assert!(made.flags & flags::SCREENED != 0 || known.is_none());
    let known = record.reason().checked_sub(1).and_then(|k| reasons.get(usize::from(k))).map(String::as_str);
    assert_eq!(known.or(record.reason_text()), trade.reason);
    assert!(!made.reason.is_some_and(|(_, text)| text) || known.is_none());
}

/// What a cursor went through: everything up to `next - 1` was delivered or lay in a gap.
struct Cursor {
    next: u64,
    delivered: u64,
    in_gaps: u64,
    in_holes: Vec<u64>,
}

impl Cursor {
    fn new() -> Self {
        Cursor { next: 1, delivered: 0, in_gaps: 0, in_holes: Vec::new() }
    }

    fn read(&mut self, reader: &TapeReader, most: u64, mut check: impl FnMut(&Record<'_>)) -> bool {
        let mut run = Run::default();
        match reader.read(self.next, self.next + most - 1, &mut run) {
            Read::Done { to } => {
                assert_eq!(run.len() as u64, to + 1 - self.next);
                run.iter().for_each(|record| check(&record));
                self.delivered += run.len() as u64;
                self.next = to + 1;
                !run.is_empty()
            }
            Read::Overrun { oldest } => {
                assert!(oldest > self.next && run.is_empty());
                self.in_gaps += oldest - self.next;
                self.next = oldest;
                true
            }
            Read::Hole { to } => {
                assert!(to >= self.next && run.is_empty());
                self.in_holes.extend(self.next..=to);
                self.next = to + 1;
                true
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_trade_is_delivered_as_written_or_lies_in_a_gap(
        batches in proptest::collection::vec((proptest::collection::vec(made(), 0..6), 0u64..8), 1..30),
        data_words in 400usize..600,
    ) {
        let mut writer = writer(data_words);
        let reader = writer.reader();
        let mut written: Vec<Made> = Vec::new();
        let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
        let mut cursor = Cursor::new();
        for (batch, read) in batches {
            let first = written.len() as u64 + 1;
            let enrichments: Vec<[f64; 1]> = (first..).take(batch.len()).map(|n| [n as f64]).collect();
            let entries = (first..).zip(&batch).zip(&enrichments).map(|((n, made), e)| made.entry(n, e));
            written.extend(&batch);
            let head = written.len() as u64;
            let position = Position { stream: 9, partition: 0, offset: head, index: 0 };
            prop_assert_eq!(writer.append(entries, &[position]).unwrap(), first..=head);
            prop_assert_eq!(writer.positions(), [position]);
            prop_assert!(reader.oldest() + SLOTS as u64 > head && reader.head() == head);
            for _ in 0..read {
                cursor.read(&reader, 3, |r| assert_is(r, &written[r.seq() as usize - 1], &reader));
            }
            let mut run = Run::default();
            reader.read(first, head, &mut run);
            for r in run.iter().filter(|r| r.status() == Status::Valid && r.instrument() != NO_INSTRUMENT) {
                newest.insert(r.instrument(), r.seq());
            }
            let snapshot = reader.snapshot();
            prop_assert_eq!(snapshot.to_seq(), head);
            let entries: BTreeMap<u32, u64> = snapshot.iter().map(|e| (e.instrument(), e.seq())).collect();
            prop_assert_eq!(&entries, &newest);
            for entry in snapshot.iter() {
                let mut json = Vec::new();
                snapshot.write_json(&entry, &mut json);
                prop_assert_eq!(json, written[entry.seq() as usize - 1].json(entry.seq()));
            }
        }
        while cursor.read(&reader, 5, |r| assert_is(r, &written[r.seq() as usize - 1], &reader)) {}
        prop_assert_eq!(cursor.delivered + cursor.in_gaps, written.len() as u64);
    }

    #[test]
    fn tape_that_follows_keeps_epoch_and_sequences_and_its_holes_are_gaps(
        batches in proptest::collection::vec(
            (proptest::collection::vec((0u64..3, made()), 0..6), 0u64..12, 0u64..8, any::<bool>()), 1..25,
        ),
        data_words in 400usize..600,
    ) {
        let options = TapeOptions { epoch: Some(77), ..options() };
        let opened = open::begin(tiny(data_words), &options).unwrap();
        let mut writer = TapeWriter::from_opened(opened, &options).unwrap();
        let mut given: BTreeMap<u64, Made> = BTreeMap::new();
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        let mut cursor = Cursor::new();
        let mut to = 0;
        for (batch, hole, read, restart) in batches {
            let mut seq = to;
            let numbered: Vec<(u64, Made)> =
                batch.into_iter().map(|(left_out, made)| { seq += 1 + left_out; (seq, made) }).collect();
            to = seq + hole;
            let enrichments: Vec<[f64; 1]> = numbered.iter().map(|(seq, _)| [*seq as f64]).collect();
            let trades = || numbered.iter().zip(&enrichments).map(|((seq, made), e)| {
                Followed { seq: *seq, rule_set: 0, entry: made.entry(*seq, e) }
            });
            writer.follow(trades(), to).unwrap();
            // The same batch once more changes nothing.
            writer.follow(trades(), to).unwrap();
            prop_assert_eq!((writer.epoch(), writer.head()), (77, to));
            if restart {
                let opened = open::take_up_copy(&writer.reader().shared, &options);
                writer = TapeWriter::from_opened(opened.unwrap(), &options).unwrap();
                prop_assert_eq!((writer.resumed(), writer.epoch(), writer.head()), (true, 77, to));
            }
            given.extend(numbered.iter().copied());
            let reader = writer.reader();
            for _ in 0..read {
                cursor.read(&reader, 3, |r| assert_is(r, &given[&r.seq()], &reader));
            }
            let names = reader.instruments(0);
            for (seq, made) in &numbered {
                let id = INSTRUMENTS[made.instrument];
                let coded = made.flags & flags::SCREENED != 0 && names.iter().any(|name| name == id);
                if made.reason.is_none() && coded {
                    newest.insert(id, *seq);
                }
            }
            let snapshot = reader.snapshot();
            prop_assert_eq!(snapshot.to_seq(), to);
            let entries: BTreeMap<&str, u64> = snapshot.iter().map(|e| (e.trade().instrument_id, e.seq())).collect();
            prop_assert_eq!(&entries, &newest);
        }
        let reader = writer.reader();
        while cursor.read(&reader, 5, |r| assert_is(r, &given[&r.seq()], &reader)) {}
        prop_assert_eq!(cursor.next, to + 1);
        prop_assert_eq!(cursor.delivered + cursor.in_gaps + cursor.in_holes.len() as u64, to);
        prop_assert!(cursor.in_holes.iter().all(|seq| !given.contains_key(seq)));
    }

    #[test]
    fn garbage_crashes_no_reader_and_no_take_up(
        seed in proptest::collection::vec(
            (any::<usize>(), prop_oneof![any::<u64>(), Just(u64::MAX), Just(0)], 0u32..64), 1..40,
        ),
    ) {
        let mut writer = writer(500);
        append_numbers(&mut writer, 1..=20);
        let shared = writer.reader().shared.clone();
        let words = shared.memory.words();
        for (at, value, shift) in seed {
            // Most of the header's words, and of the first slot's, mean something.
            let at = match at % 3 {
                0 => at % 128,
                1 => shared.layout.slots.start + at % shared.layout.slots.words,
                _ => at % words.len(),
            };
            words[at].store(value >> shift, Ordering::Relaxed);
        }
        let reader = writer.reader();
        let mut run = Run::default();
        for from in [1, reader.oldest(), reader.head().saturating_sub(3), u64::MAX] {
            reader.read(from, u64::MAX, &mut run);
            for r in run.iter() {
                let _ = (r.json(), r.instrument_text(), r.reason_text(), r.row(), r.status(), r.enrichments());
            }
        }
        let snapshot = reader.snapshot();
        snapshot.iter().for_each(|e| snapshot.write_json(&e, &mut Vec::new()));
        let _ = (reader.board(), reader.instruments(0), reader.reasons(0), reader.rules(), reader.rule_set());
        let _ = open::take_up_copy(&shared, &options());
    }
}

/// Appends plain VALID trades with these numbers, which must be their sequences.
fn append_numbers(writer: &mut TapeWriter, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let made = Made { instrument: number as usize % 4, reason: None, flags: flags::SCREENED };
        let sequences = writer.append([made.entry(number, &[number as f64])].into_iter(), &[]).unwrap();
        assert_eq!(sequences, number..=number);
    }
}

#[test]
fn concurrent_cursors_miss_nothing_unannounced_and_snapshots_are_consistent() {
    const WRITTEN: u64 = if cfg!(miri) { 40 } else { 50_000 };
    let mut writer = writer(500);
    std::thread::scope(|scope| {
        let reader = writer.reader();
        for most in [1, 4, 16] {
            let reader = reader.clone();
            scope.spawn(move || {
                let mut cursor = Cursor::new();
                while cursor.next <= WRITTEN {
                    reader.wait(cursor.next - 1, Duration::from_millis(5));
                    cursor.read(&reader, most, |r| {
                        let made = Made { instrument: r.seq() as usize % 4, reason: None, flags: flags::SCREENED };
                        assert_is(r, &made, &reader);
                    });
                }
                assert_eq!(cursor.delivered + cursor.in_gaps, WRITTEN);
            });
        }
        scope.spawn(move || {
            while reader.head() < WRITTEN {
                std::thread::yield_now();
                let snapshot = reader.snapshot();
                let to = snapshot.to_seq();
                let found: Vec<u64> = snapshot.iter().map(|e| e.seq()).collect();
                // The newest of each of four instruments that take turns: the last four sequences, no others.
                let mut expected: Vec<u64> = (to.saturating_sub(3).max(1)..=to).collect();
                expected.sort_by_key(|seq| snapshot_code(*seq));
                assert_eq!(found, expected, "as of {to}");
                for e in snapshot.iter() {
                    assert_eq!(e.trade().volume as u64, e.seq());
                    assert_eq!(e.trade().id.position().offset, e.seq());
                }
            }
        });
        append_numbers(&mut writer, 1..=WRITTEN);
    });
}

/// Code of the instrument of the trade with this number: 1, 2, 3, 0 came in this order.
fn snapshot_code(number: u64) -> u64 {
    (number + 3) % 4
}

#[test]
fn tape_is_taken_up_wherever_the_writer_stopped() {
    let mut writer = writer(500);
    append_numbers(&mut writer, 1..=40);
    let shared = writer.reader().shared.clone();
    let oldest = shared.span().oldest();

    // Killed after giving up the oldest and scribbling over its place, before the commit.
    shared.span().give_up(oldest + 1);
    let mut words = vec![0xdead_beef; shared.layout.slot_words()];
    shared.store_slots(41, &words);
    let opened = open::take_up_copy(&shared, &options()).unwrap();
    assert_eq!((opened.commit.head, opened.shared.span().oldest()), (40, oldest + 1));

    // Killed after the commit, before head and table.
    let made = Made { instrument: 1, reason: None, flags: flags::SCREENED };
    writer.append([made.entry(41, &[41.0])].into_iter(), &[]).unwrap();
    shared.load_slots(41, &mut words);
    shared.word(header::HEAD).store(40, Ordering::Relaxed);
    shared.word(header::APPLIED).store(40, Ordering::Relaxed);
    let opened = open::take_up_copy(&shared, &options()).unwrap();
    assert_eq!((opened.commit.head, opened.shared.span().head()), (41, 41));
    let reader = TapeWriter::from_opened(opened, &options()).unwrap().reader();
    assert!(reader.snapshot().iter().any(|e| e.seq() == 41));

    // A hole between two slots is no tape.
    words[0] += 1;
    shared.store_slots(39, &words);
    assert!(open::take_up_copy(&shared, &options()).is_none());
}

#[test]
fn rules_of_earlier_rule_sets_keep_their_names() {
    let mut first = writer(500);
    let refused = Made { instrument: 0, reason: Some((1, false)), flags: flags::SCREENED };
    first.append([refused.entry(1, &[1.0])].into_iter(), &[]).unwrap();
    let changed = TapeOptions {
        rules: vec!["zeroth".to_owned(), "first".to_owned()],
        rule_set: "desk@2".to_owned(),
        ..options()
    };
    let opened = open::take_up_copy(&first.reader().shared, &changed).unwrap();
    let mut second = TapeWriter::from_opened(opened, &changed).unwrap();
    second.append([refused.entry(2, &[2.0])].into_iter(), &[]).unwrap();
    let reader = second.reader();
    let mut run = Run::default();
    reader.read(1, 2, &mut run);
    let (rules, sets) = (reader.rules(), reader.rule_sets());
    let named: Vec<(&str, &str)> =
        run.iter().map(|r| (&*rules[usize::from(r.rule()) - 1], &*sets[usize::from(r.rule_set())])).collect();
    assert_eq!(named, [("second", "desk@1"), ("first", "desk@2")]);
    assert_eq!(reader.rule_set(), "desk@2");
}

#[test]
fn holding_cursor_is_not_overwritten_and_goes_on_where_it_was() {
    let mut writer = writer(4_000);
    append_numbers(&mut writer, 1..=3);
    let hold = writer.hold("jsonl:out").unwrap();
    assert_eq!(hold.confirmed(), 3);
    assert!(writer.hold("jsonl:out").is_err());
    append_numbers(&mut writer, 4..=19);
    assert!(writer.would_overrun(1));
    let made = Made { instrument: 0, reason: None, flags: flags::SCREENED };
    let refused = writer.append([made.entry(20, &[20.0])].into_iter(), &[]).unwrap_err();
    assert!(refused.to_string().contains("jsonl:out has confirmed only up to 3"), "{refused}");
    assert_eq!((writer.head(), writer.waits_for()), (19, Some(("jsonl:out".to_owned(), 3))));
    hold.confirm(5);
    hold.confirm(4);
    append_numbers(&mut writer, 20..=21);
    assert!(writer.would_overrun(1));

    let shared = writer.reader().shared.clone();
    let mut next = TapeWriter::from_opened(open::take_up_copy(&shared, &options()).unwrap(), &options()).unwrap();
    // Nobody holds in the new process yet, so nothing stands still; the name is still known.
    assert!(!next.would_overrun(1));
    assert_eq!(next.hold("jsonl:out").unwrap().confirmed(), 5);
    drop(hold);
    append_numbers(&mut writer, 22..=60);
}

#[test]
fn tape_that_follows_from_the_middle_shows_what_came_before_in_snapshots_only() {
    let options = TapeOptions { epoch: Some(5), ..options() };
    let opened = open::begin(tiny(4_000), &options).unwrap();
    let mut writer = TapeWriter::from_opened(opened, &options).unwrap();
    let made = |instrument| Made { instrument, reason: None, flags: flags::SCREENED };
    writer.follow(std::iter::empty(), 1_000).unwrap();
    let seeds = [(900, 0), (950, 1), (1_001, 2)].map(|(seq, instrument)| (seq, made(instrument)));
    writer.seed(seeds.iter().map(|(seq, m)| Followed { seq: *seq, rule_set: 0, entry: m.entry(*seq, &[0.5]) }));
    writer
        .follow([Followed { seq: 1_001, rule_set: 0, entry: made(1).entry(1_001, &[0.5]) }].into_iter(), 1_001)
        .unwrap();
    // What is older than the tape's own trade of an instrument does not replace it.
    writer.seed([Followed { seq: 960, rule_set: 0, entry: made(1).entry(960, &[0.5]) }].into_iter());
    let reader = writer.reader();
    let mut run = Run::default();
    assert_eq!(reader.read(1, u64::MAX, &mut run), Read::Overrun { oldest: 1_001 });
    assert_eq!(reader.read(1_001, u64::MAX, &mut run), Read::Done { to: 1_001 });
    let newest: Vec<(String, u64)> =
        reader.snapshot().iter().map(|e| (e.trade().instrument_id.to_owned(), e.seq())).collect();
    assert_eq!(newest, [("AAPL".to_owned(), 900), ("MSFT".to_owned(), 1_001)]);
}

#[test]
fn rules_of_the_tape_that_is_followed_keep_their_names() {
    let mut writer = writer(4_000);
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    writer.learn(&names(&["theirs", "second"]), &names(&["old@1", "new@2"]), "new@2").unwrap();
    let refused = Made { instrument: 0, reason: Some((1, false)), flags: flags::SCREENED };
    let trade = |seq, rule_set, rule| {
        let entry = Entry { rule, ..refused.entry(seq, &[1.0]) };
        Followed { seq, rule_set, entry }
    };
    writer.follow([trade(1, 0, 1), trade(2, 1, 2)].into_iter(), 2).unwrap();
    let reader = writer.reader();
    let mut run = Run::default();
    reader.read(1, 2, &mut run);
    let (rules, sets) = (reader.rules(), reader.rule_sets());
    let named: Vec<(&str, &str)> =
        run.iter().map(|r| (&*rules[usize::from(r.rule()) - 1], &*sets[usize::from(r.rule_set())])).collect();
    assert_eq!(named, [("theirs", "old@1"), ("second", "new@2")]);
    assert_eq!(reader.rule_set(), "new@2");
}

#[test]
fn hole_waits_for_a_holding_cursor_like_a_trade() {
    let mut writer = writer(4_000);
    append_numbers(&mut writer, 1..=3);
    let hold = writer.hold("jsonl:out").unwrap();
    append_numbers(&mut writer, 4..=5);
    assert!(writer.follow(std::iter::empty(), 100_000).is_err());
    assert_eq!(writer.head(), 5);
    hold.confirm(5);
    writer.follow(std::iter::empty(), 100_000).unwrap();
    assert_eq!((writer.head(), writer.reader().oldest()), (100_000, 100_001));
}

#[test]
fn batch_that_takes_more_than_half_the_ring_is_refused_whole() {
    let mut writer = writer(4_000);
    let made = Made { instrument: 0, reason: None, flags: flags::SCREENED };
    let enrichment = [0.0];
    let batch = |count| std::iter::repeat_n(made.entry(1, &enrichment), count);
    let position = Position { offset: 1, ..Position::default() };
    assert!(writer.append(batch(SLOTS / 2 + 1), &[position]).is_err());
    assert!(writer.positions().is_empty());
    assert_eq!(writer.append(batch(SLOTS / 2), &[position]).unwrap(), 1..=SLOTS as u64 / 2);
}

#[test]
fn texts_beyond_the_limit_are_cut_and_marked() {
    let mut writer = writer(4_000);
    let id = "é".repeat(3_000);
    let made = Made { instrument: 0, reason: None, flags: 0 };
    let mut entry = made.entry(1, &[0.0]);
    entry.trade.instrument_id = &id;
    writer.append([entry].into_iter(), &[]).unwrap();
    let mut run = Run::default();
    writer.reader().read(1, 1, &mut run);
    let text = run.get(0).instrument_text().unwrap();
    assert!(text.len() <= 4_096 && text.ends_with("é…") && id.starts_with(text.trim_end_matches('…')));
}

#[test]
fn positions_come_back_in_order_and_are_bounded() {
    let shared = tiny(500);
    let mut commit = Commit { head: 3, data_end: 70, positions: Vec::new() };
    for partition in (0..4_096).rev() {
        assert!(commit.note(Position { stream: 1, partition, offset: u64::from(partition), index: 1 }));
    }
    assert!(commit.note(Position { stream: 1, partition: 5, offset: 99, index: 2 }));
    assert!(!commit.note(Position { stream: 2, ..Position::default() }));
    commit.write(&shared);
    assert_eq!(Commit::read(&shared).unwrap(), commit);
    assert_eq!(commit.positions[5].offset, 99);
}
