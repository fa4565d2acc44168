//! The tape as a file: what a reader in another process sees, taking up, locking, replacing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Sample, options, sample};
use std::time::{Duration, Instant};
use tickcast_core::tape::{NO_INSTRUMENT, Read, Run, TEXT_REASON, TapeReader, TapeWriter};
use tickcast_core::{Error, Position, Status};

#[test]
fn reader_sees_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TapeWriter::open(dir.path(), &options()).unwrap();
    let samples: Vec<Sample> = (0..10).map(sample).collect();
    assert_eq!(writer.append(samples.iter().map(Sample::entry), &[]).unwrap(), 1..=10);

    let reader = TapeReader::open(dir.path()).unwrap();
    let mut run = Run::default();
    assert_eq!(reader.read(1, u64::MAX, &mut run), Read::Done { to: 10 });
    assert_eq!(run.len(), 10);
    let (instruments, reasons) = (reader.instruments(0), reader.reasons(0));
    for (record, sample) in run.iter().zip(&samples) {
        sample.assert_is(&record, &instruments, &reasons);
    }
    assert_eq!(reader.read(11, u64::MAX, &mut run), Read::Done { to: 10 });
    assert!(run.is_empty());
}

#[test]
fn what_fails_the_screen_and_free_texts_ride_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TapeWriter::open(dir.path(), &options()).unwrap();
    let mut odd = sample(0);
    odd.id = "no such thing".to_owned();
    odd.status = Status::Invalid;
    odd.reason = Some("Processing error: instrument_id: too long".to_owned());
    let entry = tickcast_core::tape::Entry { flags: 0, reason_is_text: true, ..odd.entry() };
    writer.append([entry].into_iter(), &[]).unwrap();

    let reader = writer.reader();
    let mut run = Run::default();
    reader.read(1, 1, &mut run);
    let record = run.get(0);
    assert_eq!((record.instrument(), record.reason()), (NO_INSTRUMENT, TEXT_REASON));
    assert_eq!(record.instrument_text(), Some("no such thing"));
    assert_eq!(record.reason_text(), odd.reason.as_deref());
    assert_eq!((reader.instrument_count(), reader.reason_count()), (0, 0));
}

#[test]
fn next_writer_takes_the_tape_up_with_its_positions() {
    let dir = tempfile::tempdir().unwrap();
    let at = |partition, offset| Position { stream: 7, partition, offset, index: 3 };
    let epoch = {
        let mut writer = TapeWriter::open(dir.path(), &options()).unwrap();
        assert!(!writer.resumed());
        writer
            .append((0..5).map(sample).collect::<Vec<_>>().iter().map(Sample::entry), &[at(1, 10), at(0, 4)])
            .unwrap();
        writer.append(std::iter::empty(), &[at(1, 12)]).unwrap();
        writer.epoch()
    };
    let reader = TapeReader::open(dir.path()).unwrap();
    assert!(!reader.writer_alive());
    let mut writer = TapeWriter::open(dir.path(), &options()).unwrap();
    assert!(writer.resumed() && reader.writer_alive() && !reader.superseded());
    assert_eq!((writer.epoch(), writer.head()), (epoch, 5));
    assert_eq!(writer.positions(), [at(0, 4), at(1, 12)]);
    assert_eq!(writer.append([sample(5).entry()].into_iter(), &[]).unwrap(), 6..=6);
    assert_eq!(reader.head(), 6);
}

#[test]
fn other_enrichments_or_fresh_begin_a_new_epoch_and_readers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut epochs = Vec::new();
    let mut readers: Vec<TapeReader> = Vec::new();
    let changes: [fn(&mut tickcast_core::tape::TapeOptions); 4] =
        [|_| (), |o| o.fresh = true, |o| o.enrichments[0].unit = "EUR".to_owned(), |o| o.bytes += 1 << 20];
    for change in changes {
        let mut options = options();
        change(&mut options);
        let writer = TapeWriter::open(dir.path(), &options).unwrap();
        assert!(!writer.resumed());
        assert!(readers.iter().all(TapeReader::superseded));
        readers.push(TapeReader::open(dir.path()).unwrap());
        assert!(!readers[readers.len() - 1].superseded());
        epochs.push(writer.epoch());
    }
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), 4);
}

#[test]
fn second_writer_is_refused_naming_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = TapeWriter::open(dir.path(), &options()).unwrap();
    match TapeWriter::open(dir.path(), &options()) {
        Err(Error::Busy { pid, .. }) => assert_eq!(pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    drop(first);
    TapeWriter::open(dir.path(), &options()).unwrap();
}

#[test]
fn waiting_reader_wakes_on_append_and_on_a_new_tape() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TapeWriter::open(dir.path(), &options()).unwrap();
    let reader = TapeReader::open(dir.path()).unwrap();
    assert_eq!(reader.wait(0, Duration::from_millis(1)), 0);
    let long = Duration::from_secs(60);
    let waits = |from: u64| {
        let reader = reader.clone();
        std::thread::spawn(move || {
            let start = Instant::now();
            (reader.wait(from, long), start.elapsed())
        })
    };
    let thread = waits(0);
    writer.append([sample(0).entry()].into_iter(), &[]).unwrap();
    let (head, elapsed) = thread.join().unwrap();
    assert!(head == 1 && elapsed < long);
    let thread = waits(1);
    drop(writer);
    let _new = TapeWriter::open(dir.path(), &tickcast_core::tape::TapeOptions { fresh: true, ..options() }).unwrap();
    let (head, elapsed) = thread.join().unwrap();
    assert!(head == 1 && elapsed < long);
}

#[test]
fn board_is_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TapeWriter::open(dir.path(), &options()).unwrap();
    let reader = TapeReader::open(dir.path()).unwrap();
    assert_eq!(reader.board(), b"");
    for text in ["{}", "{\"pid\":1}", ""] {
        writer.set_board(text.as_bytes()).unwrap();
        assert_eq!(reader.board(), text.as_bytes());
    }
    assert!(writer.set_board(&[b' '; 65_537]).is_err());
    writer.set_board(&[b'x'; 65_536]).unwrap();
    assert_eq!(reader.board(), [b'x'; 65_536]);
}

#[test]
fn tape_that_finds_no_room_says_so_and_leaves_the_old_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TapeWriter::open(dir.path(), &options()).unwrap();
    let epoch = writer.epoch();
    drop(writer);
    let huge = tickcast_core::tape::TapeOptions { bytes: 1 << 50, ..options() };
    let error = TapeWriter::open(dir.path(), &huge).unwrap_err().to_string();
    let expected = format!("tape {}: needs {} bytes, ", dir.path().join("tape").display(), 1u64 << 50);
    assert!(error.starts_with(&expected) && error.contains(" are free "), "{error}");
    assert!(!error.contains(" 0 are free "), "it was not tried: {error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "tape and lock, nothing half made");
    let writer = TapeWriter::open(dir.path(), &options()).unwrap();
    assert!(writer.resumed() && writer.epoch() == epoch);
}

#[test]
fn tape_too_small_for_its_tables_is_refused_with_what_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let small = tickcast_core::tape::TapeOptions { bytes: 1 << 20, ..options() };
    let error = TapeWriter::open(dir.path(), &small).unwrap_err().to_string();
    let (_, told) = error.split_once("take at least ").unwrap();
    let least: u64 = told.split([' ', ';']).next().unwrap().parse().unwrap();
    TapeWriter::open(dir.path(), &tickcast_core::tape::TapeOptions { bytes: least, ..options() }).unwrap();
}

#[test]
fn what_is_no_tape_is_replaced_by_writers_and_refused_by_readers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tape");
    assert!(matches!(TapeReader::open(dir.path()), Err(Error::Io { .. })));
    for content in [&b""[..], b"tickcast", &[0xff; 10_000]] {
        std::fs::write(&path, content).unwrap();
        assert!(matches!(TapeReader::open(dir.path()), Err(Error::Tape { .. })));
        let writer = TapeWriter::open(dir.path(), &options()).unwrap();
        assert!(!writer.resumed());
        TapeReader::open(dir.path()).unwrap();
    }
}

#[test]
fn tape_that_outlived_the_machine_is_taken_up_only_if_it_was_flushed() {
    let dir = tempfile::tempdir().unwrap();
    // Word 8 is the boot; another one is written there, as if the machine had started anew.
    let other_boot = || {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("tape")).unwrap();
        file.write_all_at(&0xdead_u64.to_le_bytes(), 64).unwrap();
    };
    let writer = TapeWriter::open(dir.path(), &options()).unwrap();
    let epoch = writer.epoch();
    writer.close().unwrap();
    other_boot();
    let writer = TapeWriter::open(dir.path(), &options()).unwrap();
    assert!(writer.resumed() && writer.epoch() == epoch);
    drop(writer);
    other_boot();
    let writer = TapeWriter::open(dir.path(), &options()).unwrap();
    assert!(!writer.resumed() && writer.epoch() != epoch);
}
