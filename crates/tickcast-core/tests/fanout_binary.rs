//! Binary frames over a real tape: read back they are the very trades of the JSON frames, under the same numbers and
//! ranges, for receivers that come whenever they like; and no bytes whatever upset the reader.

mod common;

use common::{Sample, options, position, sample};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;
use tickcast_core::encode::json::EnrichmentKeys;
use tickcast_core::fanout::binary::{self, Binary, FrameDictionary, FrameView, Known};
use tickcast_core::fanout::{self, Block, Dictionary, Filter, Hello, Pick, Subscription};
use tickcast_core::tape::{Entry, Read, Run, TapeReader, TapeWriter};
use tickcast_core::{Position, Status};

const NOW_NS: i64 = 1_731_513_600_123_456_789;
const KEYS: [&str; 2] = ["notional", "spread"];

/// Returns the frame as the message of `tickcast.v1.json` that says the same.
fn message(frame: &FrameView<'_>, dictionary: &FrameDictionary) -> Value {
    let json = dictionary.message(frame, &EnrichmentKeys::new(&KEYS)).expect("known codes");
    serde_json::from_slice(&json).expect("a message is JSON")
}

/// A trade with whatever may be in one.
#[derive(Debug, Clone)]
struct Any {
    sample: Sample,
    position: Position,
    text: bool,
    screened: bool,
    price: f64,
    ingest_ns: i64,
}

impl Any {
    fn entry(&self) -> Entry<'_> {
        let mut entry = self.sample.entry();
        entry.trade.id = self.position.trade_id();
        entry.trade.price = self.price;
        entry.reason_is_text = self.text;
        entry.flags = u8::from(self.screened);
        entry.ingest_ns = self.ingest_ns;
        entry
    }
}

fn anything() -> impl Strategy<Value = Any> {
    (1u64..60, 0u64..6, 0u16..3, any::<bool>(), prop::bool::weighted(0.8), any::<f64>(), any::<i64>()).prop_map(
        |(number, offset, index, text, screened, price, ingest_ns)| Any {
            sample: sample(number),
            position: Position { stream: 9, partition: 0, offset, index },
            text,
            screened,
            price,
            ingest_ns,
        },
    )
}

fn wishes() -> impl Strategy<Value = Subscription> {
    let names = proptest::option::of(proptest::collection::vec(0u64..20, 0..6));
    let statuses = proptest::option::of(proptest::collection::vec(1u8..3, 0..4));
    (names, statuses).prop_map(|(names, statuses)| {
        let names = names.map(|list| list.iter().map(|n| format!("INS{n}")).collect());
        let statuses: Option<Vec<Status>> = statuses.map(|s| s.into_iter().filter_map(Status::from_number).collect());
        Subscription::new(names, statuses.as_deref())
    })
}

fn tape_of(trades: &[Any]) -> (TapeWriter, TapeReader) {
    let mut writer = TapeWriter::in_memory(&options()).expect("a tape in memory");
    writer.append(trades.iter().map(Any::entry), &[]).expect("it fits");
    let reader = writer.reader();
    (writer, reader)
}

/// Returns what a receiver knows after `hello` of the tape as it is now.
fn from_hello(tape: &TapeReader) -> (FrameDictionary, Known) {
    let mut dictionary = Dictionary::default();
    dictionary.follow(tape);
    (FrameDictionary::new(tape.instruments(0), tape.reasons(0)), dictionary.known())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_binary_frame_says_what_the_json_frame_says(
        before in proptest::collection::vec(anything(), 0..20), after in proptest::collection::vec(anything(), 1..60),
        wish in wishes(), stages in any::<bool>(), conflated in proptest::option::of(any::<u64>()), rows in 1u64..32,
    ) {
        let (mut writer, tape) = tape_of(&before);
        let (mut received, mut known) = from_hello(&tape);
        writer.append(after.iter().map(Any::entry), &[]).expect("it fits");
        let mut dictionary = Dictionary::default();
        let mut filter = Filter::new(wish);
        let (mut run, mut selected) = (Run::default(), Vec::new());
        let (mut cursor, mut covered) = (before.len() as u64 + 1, before.len() as u64);
        while cursor <= tape.head() {
            let read = tape.read(cursor, cursor + rows - 1, &mut run);
            prop_assert!(matches!(read, Read::Done { .. }), "{:?}", read);
            dictionary.follow(&tape);
            filter.resolve(&dictionary);
            let mut block = Block::new(&run);
            block.select(&filter, &mut selected);
            let pick = Pick { rows: &selected, stages, conflated };
            let frame = block.binary(covered + 1, &pick, usize::MAX, NOW_NS, &Binary { dictionary: &dictionary, known });
            let as_json = block.frame(covered + 1, &pick, usize::MAX, NOW_NS);
            prop_assert_eq!((frame.to_seq, frame.trades), (as_json.to_seq, as_json.trades));
            prop_assert_eq!((frame.since_ingest, frame.since_event), (as_json.since_ingest, as_json.since_event));
            cursor = frame.to_seq + 1;
            if frame.trades == 0 {
                prop_assert!(frame.body.is_empty());
                continue;
            }
            covered = frame.to_seq;
            known = dictionary.known();
            prop_assert_eq!(frame.body.len() % 8, 0);
            let view = FrameView::parse(&frame.body).expect("own bytes");
            received.learn(&view).expect("in order");
            let expected: Value = serde_json::from_slice(&as_json.body).expect("JSON");
            prop_assert_eq!(message(&view, &received), expected);
            let times = || selected.iter().map(|&row| run.get(row as usize).timestamp_ns());
            prop_assert_eq!(view.ticks_ns, (times().min().unwrap_or(0), times().max().unwrap_or(0)));
            for (row, &from) in selected.iter().enumerate() {
                prop_assert_eq!(view.row(row).bytes(), run.get(from as usize).row());
            }
        }
    }

    #[test]
    fn frames_that_are_full_go_on_in_the_next(trades in proptest::collection::vec(anything(), 1..80), bytes in 1usize..2_000) {
        let (_writer, tape) = tape_of(&trades);
        let (received, known) = from_hello(&tape);
        let mut dictionary = Dictionary::default();
        dictionary.follow(&tape);
        let (mut run, mut next, mut ids) = (Run::default(), 1, Vec::new());
        while next <= tape.head() {
            let read = tape.read(next, u64::MAX, &mut run);
            prop_assert!(matches!(read, Read::Done { .. }), "{:?}", read);
            let rows: Vec<u32> = (0..run.len() as u32).collect();
            let how = Binary { dictionary: &dictionary, known };
            let frame = Block::new(&run).binary(next, &Pick::rows(&rows), bytes, NOW_NS, &how);
            let view = FrameView::parse(&frame.body).expect("own bytes");
            prop_assert!(view.len() == 1 || frame.body.len() <= bytes + 200);
            prop_assert_eq!((view.seq, view.to_seq), (next, next + view.len() as u64 - 1));
            prop_assert!(view.instruments.names.is_empty() && view.reasons.names.is_empty());
            prop_assert_eq!(message(&view, &received)["trades"].as_array().map(Vec::len), Some(view.len()));
            ids.extend(view.ids);
            next = frame.to_seq + 1;
        }
        prop_assert_eq!(ids, trades.iter().map(|t| t.position.trade_id()).collect::<Vec<_>>());
    }

    #[test]
    fn a_binary_snapshot_says_what_the_json_one_says(trades in proptest::collection::vec(anything(), 0..60), wish in wishes()) {
        let (_writer, tape) = tape_of(&trades);
        let mut dictionary = Dictionary::default();
        dictionary.follow(&tape);
        let taken = tape.snapshot();
        let how = Binary { dictionary: &dictionary, known: Known::default() };
        let body = binary::snapshot(&taken, &wish, NOW_NS, &how, KEYS.len());
        let view = FrameView::parse(&body).expect("own bytes");
        let mut received = FrameDictionary::default();
        received.learn(&view).expect("from the beginning");
        prop_assert_eq!(received.instruments(), tape.instruments(0));
        let expected: Value = serde_json::from_slice(&fanout::snapshot(&taken, &wish)).expect("JSON");
        prop_assert_eq!(message(&view, &received), expected);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = FrameView::parse(&bytes);
        let mut with_magic = binary::MAGIC.to_le_bytes().to_vec();
        with_magic.extend_from_slice(&bytes);
        let _ = FrameView::parse(&with_magic);
    }

    /// Nearly right is what goes deepest.
    #[test]
    fn frames_with_wrong_bytes_are_refused_or_read_but_never_panic(
        case in 0usize..6, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut body = cases().swap_remove(case).body;
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        if let Ok(view) = FrameView::parse(&body) {
            let mut dictionary = FrameDictionary::new(vec!["INS0".to_owned()], Vec::new());
            let _ = dictionary.learn(&view);
            let mut enrichments = Vec::new();
            for row in 0..view.len() {
                let _ = (view.seq_of(row), view.stages_of(row));
                let _ = dictionary.trade(&view, row, &mut enrichments);
            }
        }
    }
}

#[test]
fn sections_and_fields_of_later_versions_are_passed_over() {
    let frame = cases().swap_remove(0).body;
    let view = FrameView::parse(&frame).expect("own bytes");
    let sections = frame.len() - view.len() * 56 - binary::HEADER_BYTES;
    // A header and records that are 8 bytes longer, and one section more.
    let mut later = frame[..binary::HEADER_BYTES].to_vec();
    later[48..50].copy_from_slice(&64u16.to_le_bytes());
    later[50..52].copy_from_slice(&64u16.to_le_bytes());
    later[53] |= 0x80;
    later.extend_from_slice(&[7; 8]);
    later.extend_from_slice(&frame[binary::HEADER_BYTES..][..sections]);
    later.extend_from_slice(&[16, 0, 0, 0, 9, 9, 9, 9, 1, 2, 3, 4, 5, 6, 7, 8]);
    for row in 0..view.len() {
        later.extend_from_slice(view.row(row).bytes());
        later.extend_from_slice(&[5; 8]);
    }
    let read = FrameView::parse(&later).expect("it can be read");
    assert_eq!((&read.ids, read.to_seq), (&view.ids, view.to_seq));
    assert_eq!(read.row(1).volume(), view.row(1).volume());
}

#[test]
fn frames_in_a_row_cost_little_beside_their_records() {
    let samples: Vec<Sample> = (1..=1_000).map(sample).collect();
    let mut writer = TapeWriter::in_memory(&options()).expect("a tape in memory");
    writer.append(samples.iter().map(Sample::entry), &[]).expect("it fits");
    let (tape, mut run, mut dictionary) = (writer.reader(), Run::default(), Dictionary::default());
    dictionary.follow(&tape);
    tape.read(1, u64::MAX, &mut run);
    let rows: Vec<u32> = (0..1_000).collect();
    let how = Binary { dictionary: &dictionary, known: dictionary.known() };
    let frame = Block::new(&run).binary(1, &Pick::rows(&rows), usize::MAX, NOW_NS, &how);
    assert_eq!(frame.body.len(), 56 + 32 + 1_000 * 56);
}

/// A frame of the golden set: what a receiver knows before, and the bytes.
struct Case {
    name: &'static str,
    hello: Value,
    body: Vec<u8>,
}

fn case(
    name: &'static str,
    before: &[Any],
    after: &[Any],
    pick: impl Fn(&Run) -> (Vec<u32>, bool, Option<u64>),
) -> Case {
    let (mut writer, tape) = tape_of(before);
    let known = from_hello(&tape).1;
    let hello = hello_of(&tape);
    writer.append(after.iter().map(Any::entry), &[]).expect("it fits");
    let (mut run, mut dictionary) = (Run::default(), Dictionary::default());
    dictionary.follow(&tape);
    let first = before.len() as u64 + 1;
    tape.read(first, u64::MAX, &mut run);
    let (rows, stages, conflated) = pick(&run);
    let pick = Pick { rows: &rows, stages, conflated };
    let frame = Block::new(&run).binary(first, &pick, usize::MAX, NOW_NS, &Binary { dictionary: &dictionary, known });
    Case { name, hello, body: frame.body }
}

fn hello_of(tape: &TapeReader) -> Value {
    let mut hello: Value =
        serde_json::from_slice(&Hello::new(Some(tape), 5_000, "tickcast/test").message(tape.head())).expect("JSON");
    hello["epoch"] = json!("00000000000000aa");
    hello
}

fn plain(number: u64) -> Any {
    let (sample, position) = (sample(number), position(number));
    let price = sample.trade().price;
    Any { sample, position, text: false, screened: true, price, ingest_ns: NOW_NS - 2_500_000 - number as i64 * 1_000 }
}

fn snapshot_case(name: &'static str, trades: &[Any]) -> Case {
    let (_writer, tape) = tape_of(trades);
    let mut dictionary = Dictionary::default();
    dictionary.follow(&tape);
    let how = Binary { dictionary: &dictionary, known: dictionary.known() };
    let body = binary::snapshot(&tape.snapshot(), &Subscription::everything(), NOW_NS, &how, KEYS.len());
    Case { name, hello: hello_of(&tape), body }
}

fn cases() -> Vec<Case> {
    let some: Vec<Any> = (1..=5).map(plain).collect();
    let more: Vec<Any> = (6..=12).map(plain).collect();
    let mut odd: Vec<Any> = (13..=20).map(plain).collect();
    odd[0].screened = false;
    odd[1].text = true;
    odd[1].sample.reason = Some("zu weit weg: 4 €, \"Grenze\" 3 €".to_owned());
    odd[3].price = f64::NAN;
    odd[3].screened = false;
    odd[3].sample.id = "Ünbekannt\u{1}".to_owned();
    odd[3].sample.reason = Some("Processing error: price: must be finite, was NaN".to_owned());
    odd[3].text = true;
    odd[5].price = f64::INFINITY;
    odd[6].position = Position { stream: 0xdead_beef, partition: 65_535, offset: u64::MAX, index: 65_534 };
    odd[7].position = Position { index: 65_535, ..odd[6].position };
    let all = |run: &Run| (0..run.len() as u32).collect::<Vec<_>>();
    vec![
        case("live", &some, &more, |run| (all(run), false, None)),
        case("filtered", &some, &more, |run| (all(run).into_iter().filter(|row| row % 3 != 0).collect(), false, None)),
        case("strings", &[], &odd, |run| (all(run), false, None)),
        case("stages", &some, &more, |run| (all(run), true, None)),
        case("conflated", &some, &more, |run| (vec![2, run.len() as u32 - 1], false, Some(4))),
        snapshot_case("snapshot", &[some, more].concat()),
        snapshot_case("snapshot_of_nothing", &[]),
    ]
}

/// Other languages' readers are tested against these files. `UPDATE_GOLDEN=1` writes them anew.
#[test]
fn golden_frames_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/frames");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for Case { name, hello, body } in cases() {
        let view = FrameView::parse(&body).expect("own bytes");
        let strings = |list: &Value| -> Vec<String> { serde_json::from_value(list.clone()).expect("strings") };
        let mut dictionary = FrameDictionary::new(strings(&hello["instruments"]), strings(&hello["reasons"]));
        dictionary.learn(&view).expect("in order");
        let expected = json!({
            "hello": hello,
            "message": message(&view, &dictionary),
            "oldestNs": view.ticks_ns.0.to_string(),
            "newestNs": view.ticks_ns.1.to_string(),
            "instruments": dictionary.instruments(),
            "reasons": dictionary.reasons(),
        });
        let expected = format!("{expected:#}\n");
        let [bytes_path, json_path] = ["bin", "json"].map(|ext| folder.join(format!("{name}.{ext}")));
        if update {
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(&bytes_path, &body).expect("written");
            std::fs::write(&json_path, &expected).expect("written");
        }
        let hint = "run UPDATE_GOLDEN=1 cargo test -p tickcast-core --test fanout_binary";
        assert_eq!(std::fs::read(&bytes_path).ok().as_deref(), Some(&body[..]), "{name}: {hint}");
        assert_eq!(std::fs::read_to_string(&json_path).ok().as_deref(), Some(&*expected), "{name}: {hint}");
    }
}
