//! The tape between processes that are killed at any moment: writers in the middle of a write, readers in the middle
//! of a copy. The children are this test binary itself.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Sample, options, position, sample};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tickcast_core::tape::{Read, Run, TapeReader, TapeWriter};

const ROLE: &str = "TICKCAST_TEST_TAPE_ROLE";
const RUN_DIR: &str = "TICKCAST_TEST_TAPE_RUN_DIR";
const ROUNDS: u64 = 40;
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts this binary again in a role; what goes wrong there is on its stderr, which is ours.
fn start(role: &str, run_dir: &Path) -> Killed {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--quiet"]).env(ROLE, role).env(RUN_DIR, run_dir);
    Killed(command.stdout(Stdio::null()).spawn().unwrap())
}

/// A child that does not outlive the test.
struct Killed(Child);

impl Killed {
    fn assert_alive(&mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "a child ended by itself");
    }

    /// SIGKILL. A child that had failed before is found out.
    fn kill(mut self) {
        self.assert_alive();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: what a child does. Without a role it has nothing to do.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let run_dir = std::env::var(RUN_DIR).unwrap();
    match role.as_str() {
        "writer" => write_for_ever(Path::new(&run_dir)),
        _ => read_for_ever(Path::new(&run_dir)),
    }
}

/// Appends trade after trade where the tape's positions say that the last writer stopped.
fn write_for_ever(run_dir: &Path) {
    let mut writer = TapeWriter::open(run_dir, &options()).unwrap();
    let mut last = writer.positions().first().map_or(0, |p| p.offset);
    assert_eq!(last, writer.head(), "positions and head were committed together");
    loop {
        let count = 1 + last % 600;
        let batch: Vec<Sample> = (last + 1..).take(count as usize).map(sample).collect();
        last += count;
        let sequences = writer.append(batch.iter().map(Sample::entry), &[position(last)]).unwrap();
        assert_eq!(*sequences.end(), last);
    }
}

/// Follows the tape and checks every trade.
fn read_for_ever(run_dir: &Path) {
    let reader = TapeReader::open(run_dir).unwrap();
    let mut next = reader.head() + 1;
    let mut run = Run::default();
    loop {
        reader.wait(next - 1, Duration::from_millis(50));
        next = follow(&reader, next, &mut run).0;
    }
}

/// Reads once, checks, and returns the next sequence and how many were delivered.
fn follow(reader: &TapeReader, next: u64, run: &mut Run) -> (u64, u64) {
    match reader.read(next, next + 999, run) {
        Read::Done { to } => {
            let (instruments, reasons) = (reader.instruments(0), reader.reasons(0));
            for record in run.iter() {
                sample(record.seq()).assert_is(&record, &instruments, &reasons);
            }
            (to + 1, run.len() as u64)
        }
        Read::Overrun { oldest } => (oldest, 0),
        Read::Hole { to } => panic!("a tape of its own numbering has a hole up to {to}"),
    }
}

fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let start = Instant::now();
    while !met() {
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Next number of a fixed, uneven sequence.
fn uneven(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn kills_of_writer_and_readers_lose_tear_and_double_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(TapeWriter::open(dir.path(), &options()).unwrap());
    let reader = TapeReader::open(dir.path()).unwrap();
    let (epoch, stop) = (reader.epoch(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let cursor = scope.spawn(|| {
            let (mut next, mut delivered, mut in_gaps, mut run) = (1, 0, 0, Run::default());
            while !stop.load(Ordering::Acquire) || next <= reader.head() {
                let (after, got) = follow(&reader, next, &mut run);
                delivered += got;
                in_gaps += after - next - got;
                next = after;
                reader.wait(next - 1, Duration::from_millis(5));
            }
            (next, delivered, in_gaps)
        });
        let mut state = 7;
        let mut viewer = None;
        for round in 0..ROUNDS {
            let mut writer = start("writer", dir.path());
            let goal = reader.head() + 1 + uneven(&mut state) % 20_000;
            wait_until("the next writer's progress", || {
                writer.assert_alive();
                reader.head() >= goal
            });
            if round % 3 == 0
                && let Some(old) = viewer.replace(start("reader", dir.path()))
            {
                Killed::kill(old);
            }
            // Not waiting for anything: it decides where in a write the kill hits.
            std::thread::sleep(Duration::from_micros(uneven(&mut state) % 1_500));
            writer.kill();
            assert_eq!(reader.epoch(), epoch);
            assert!(!reader.writer_alive() && !reader.superseded());
            check_snapshot(&reader);
        }
        viewer.unwrap().kill();
        stop.store(true, Ordering::Release);
        let (next, delivered, in_gaps) = cursor.join().unwrap();
        assert_eq!(delivered + in_gaps, reader.head());
        assert_eq!(next, reader.head() + 1);
        assert!(delivered > 0);
    });
    let writer = TapeWriter::open(dir.path(), &options()).unwrap();
    assert!(writer.resumed() && writer.epoch() == epoch);
    assert_eq!(writer.positions(), [position(writer.head())]);
    let (mut next, mut run) = (reader.oldest(), Run::default());
    while next <= writer.head() {
        let (after, delivered) = follow(&reader, next, &mut run);
        assert_eq!(after - next, delivered);
        next = after;
    }
}

/// Nobody writes: the snapshot must be exactly the newest VALID trade of each of the 17 instruments.
fn check_snapshot(reader: &TapeReader) {
    let snapshot = reader.snapshot();
    let head = reader.head();
    assert_eq!(snapshot.to_seq(), head);
    for entry in snapshot.iter() {
        let mine = |n: &u64| n % 17 == entry.seq() % 17 && n % 3 != 2;
        assert_eq!(Some(entry.seq()), (1..=head).rev().find(mine));
        let mut json = Vec::new();
        snapshot.write_json(&entry, &mut json);
        assert_eq!(json, sample(entry.seq()).json());
    }
    assert_eq!(snapshot.iter().count(), 17);
}

#[test]
fn writer_in_another_process_is_named_to_the_second() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start("writer", dir.path());
    wait_until("the tape", || TapeReader::open(dir.path()).is_ok_and(|r| r.head() > 0));
    match TapeWriter::open(dir.path(), &options()) {
        Err(tickcast_core::Error::Busy { pid, .. }) => assert_eq!(pid, writer.0.id()),
        other => panic!("{other:?}"),
    }
    let reader = TapeReader::open(dir.path()).unwrap();
    assert!(reader.writer_alive() && reader.writer_pid() == writer.0.id());
    writer.assert_alive();
    writer.kill();
    assert!(!reader.writer_alive());
}

#[test]
fn cursors_in_many_processes_read_beside_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let writer = start("writer", dir.path());
    wait_until("the tape", || TapeReader::open(dir.path()).is_ok_and(|r| r.head() > 0));
    let mut readers: Vec<Killed> = (0..4).map(|_| start("reader", dir.path())).collect();
    let reader = TapeReader::open(dir.path()).unwrap();
    let goal = reader.head() + 10 * reader.slots();
    wait_until("ten rounds of the ring", || {
        readers.iter_mut().for_each(Killed::assert_alive);
        reader.head() >= goal
    });
    readers.into_iter().for_each(Killed::kill);
    writer.kill();
}
