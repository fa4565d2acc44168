//! Looking through the tape finds what a plain list of the same trades would.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Sample, options, position, sample};
use serde_json::Value;
use tickcast_core::Status;
use tickcast_core::explore::{self, Query};
use tickcast_core::tape::{TapeReader, TapeWriter};

fn tape(count: u64) -> (tempfile::TempDir, TapeReader, Vec<Sample>) {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TapeWriter::open(dir.path(), &options()).unwrap();
    let samples: Vec<Sample> = (0..count).map(sample).collect();
    for part in samples.chunks(700) {
        writer.append(part.iter().map(Sample::entry), &[]).unwrap();
    }
    let reader = TapeReader::open(dir.path()).unwrap();
    (dir, reader, samples)
}

fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

fn numbers(found: &Value) -> Vec<u64> {
    found["seqs"].as_array().unwrap().iter().map(|seq| seq.as_u64().unwrap()).collect()
}

#[test]
fn search_finds_what_a_list_would_newest_first_page_by_page() {
    let (_dir, reader, samples) = tape(5_000);
    let queries = [
        Query::default(),
        Query { instrument: Some("INS3".to_owned()), ..Query::default() },
        Query { status: Some(Status::Invalid), ..Query::default() },
        Query { status: Some(Status::Invalid), reason: Some("xxxx".to_owned()), ..Query::default() },
        Query { rule: Some("known_instrument".to_owned()), instrument: Some("INS5".to_owned()), ..Query::default() },
        Query { rule: Some("near_vwap".to_owned()), ..Query::default() },
    ];
    for query in queries {
        let oldest = reader.oldest();
        let expected: Vec<u64> = samples
            .iter()
            .map(|s| (s.number + 1, s))
            .filter(|(seq, s)| {
                *seq >= oldest
                    && query.instrument.as_ref().is_none_or(|id| *id == s.id)
                    && query.status.is_none_or(|status| status == s.status)
                    && query.reason.as_deref().is_none_or(|reason| s.reason.as_deref() == Some(reason))
                    && query
                        .rule
                        .as_deref()
                        .is_none_or(|rule| rule == "known_instrument" && s.status == Status::Invalid)
            })
            .map(|(seq, _)| seq)
            .rev()
            .collect();
        let (mut pages, mut before) = (Vec::new(), None);
        loop {
            let page = parsed(&explore::search(&reader, &query, before, 333, u64::MAX));
            let seqs = numbers(&page);
            assert_eq!(page["trades"].as_array().unwrap().len(), seqs.len());
            before = page["scannedTo"].as_u64();
            pages.extend_from_slice(&seqs);
            if seqs.len() < 333 {
                break;
            }
        }
        assert_eq!(pages, expected, "{query:?}");
    }
}

#[test]
fn search_stops_where_it_is_told_to_and_says_where() {
    let (_dir, reader, _) = tape(3_000);
    let query = Query { instrument: Some("no such".to_owned()), ..Query::default() };
    let found = parsed(&explore::search(&reader, &query, Some(2_501), 10, 500));
    assert_eq!((numbers(&found), found["scannedTo"].as_u64()), (vec![], Some(2_001)));
}

#[test]
fn rejects_are_counted_once_in_each_account() {
    let (_dir, reader, samples) = tape(4_000);
    let held = &samples[reader.oldest() as usize - 1..];
    let refused = held.iter().filter(|s| s.status == Status::Invalid).count() as u64;
    let answer = parsed(&explore::rejects(&reader, &Query::default(), 60, u64::MAX));
    assert_eq!((answer["trades"].as_u64(), answer["rejects"].as_u64()), (Some(held.len() as u64), Some(refused)));
    for account in ["rules", "instruments"] {
        let rows = answer[account].as_array().unwrap();
        assert_eq!(rows.iter().map(|row| row["count"].as_u64().unwrap()).sum::<u64>(), refused, "{account}");
    }
    assert_eq!(answer["rules"][0]["name"], "known_instrument");
    for series in answer["reasons"].as_array().unwrap() {
        let counts = series["counts"].as_array().unwrap();
        assert_eq!(counts.len(), answer["times"].as_array().unwrap().len());
        assert_eq!(counts.iter().map(|n| n.as_u64().unwrap()).sum::<u64>(), series["count"].as_u64().unwrap());
    }
    let one = Query { instrument: Some("INS2".to_owned()), ..Query::default() };
    let of_one = held.iter().filter(|s| s.status == Status::Invalid && s.id == "INS2").count() as u64;
    assert_eq!(parsed(&explore::rejects(&reader, &one, 60, u64::MAX))["rejects"].as_u64(), Some(of_one));
}

#[test]
fn a_trade_is_found_by_its_id() {
    let (_dir, reader, samples) = tape(3_000);
    for number in [2_999, 2_000, reader.oldest() - 1] {
        let hex = position(samples[number as usize].number).trade_id().hex();
        let id = explore::parse_id(std::str::from_utf8(&hex).unwrap()).unwrap();
        assert_eq!(explore::find(&reader, id), Some(number + 1));
    }
    assert_eq!(explore::find(&reader, position(3_000).trade_id()), None);
    for text in ["", "12", &"g".repeat(32), &"0".repeat(33)] {
        assert!(explore::parse_id(text).is_none(), "{text}");
    }
}

#[test]
fn stages_are_those_of_the_newest() {
    let (_dir, reader, _) = tape(100);
    let answer = parsed(&explore::stages(&reader, 10));
    assert_eq!(answer["trades"], 10);
    for (stage, us) in [("decode", 1), ("rules", 2), ("enrich", 3)] {
        assert_eq!(answer[stage], serde_json::json!({"p50": us, "p99": us, "max": us}), "{stage}");
    }
}

#[test]
fn reasons_that_differ_in_a_value_alone_are_one() {
    let text = "Processing error: price: must be > 0, was -5";
    assert_eq!(explore::group(text), "Processing error: price: must be > 0");
    assert_eq!(explore::group("Price out of acceptable range"), "Price out of acceptable range");
}

#[test]
fn activity_adds_up_what_has_arrived_since_by_instrument() {
    let (_dir, reader, samples) = tape(4_000);
    let (since, recent) = (3 * 3_500, 3 * 3_900);
    let answer = parsed(&explore::activity(&reader, since, recent));
    assert_eq!(answer["complete"], true);
    let names = answer["instruments"].as_array().unwrap();
    assert_eq!(names.len(), 17);
    for (row, name) in names.iter().enumerate() {
        let lately = samples.iter().filter(|s| s.number >= 3_500 && s.id == *name.as_str().unwrap());
        let (valid, refused): (Vec<_>, Vec<_>) = lately.partition(|s| s.status == Status::Valid);
        assert_eq!(answer["trades"][row], valid.len());
        assert_eq!(answer["rejects"][row], refused.len());
        assert_eq!(answer["recent"][row], valid.iter().filter(|s| s.number >= 3_900).count());
        assert_eq!(answer["volume"][row], valid.iter().map(|s| s.trade().volume).sum::<i64>().to_string());
        assert_eq!(answer["first"][row], valid[0].trade().price);
    }
    let none = parsed(&explore::activity(&reader, 3 * 4_000, 3 * 4_000));
    assert_eq!((none["instruments"].as_array().unwrap().len(), &none["complete"]), (0, &Value::Bool(true)));
}

#[test]
fn activity_says_where_the_tape_does_not_reach_back_so_far() {
    let (_dir, reader, samples) = tape(200_000);
    assert!(reader.oldest() > 1);
    let answer = parsed(&explore::activity(&reader, 0, 0));
    assert_eq!(answer["complete"], false);
    let held = answer["trades"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>();
    let valid = samples[reader.oldest() as usize - 1..].iter().filter(|s| s.status == Status::Valid).count();
    assert_eq!(held, valid as u64);
}

#[test]
fn an_empty_tape_is_no_accident() {
    let (_dir, reader, _) = tape(0);
    assert_eq!(numbers(&parsed(&explore::search(&reader, &Query::default(), None, 10, u64::MAX))), Vec::<u64>::new());
    assert_eq!(parsed(&explore::rejects(&reader, &Query::default(), 60, u64::MAX))["times"], serde_json::json!([]));
    assert_eq!(parsed(&explore::stages(&reader, 10))["decode"]["p50"], Value::Null);
}
