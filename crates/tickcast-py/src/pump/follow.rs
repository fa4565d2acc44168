//! Follows the tape of a run directory: waits for it, reads its board, notices when another takes its place.

use super::client::Message;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickcast_core::fanout::binary::Known;
use tickcast_core::fanout::{self, Dictionary, Hello};
use tickcast_core::tape::{Snapshot, TapeReader};

/// A processor that has not touched its board for so long is taken for dead.
const STALE_NS: i64 = 2_000_000_000;
/// How long one snapshot serves further clients that come.
const SNAPSHOT_AGE: Duration = Duration::from_millis(100);

/// Returns the wall clock, ns since the Unix epoch.
pub fn now_ns() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// What `status` says of the source.
#[derive(Debug, Clone, PartialEq, Default)]
struct State {
    source: String,
    state: String,
    since_ns: i64,
}

/// The tape, if there is one, and what clients are told about it.
#[derive(Debug)]
pub struct Follow {
    run_dir: PathBuf,
    heartbeat_ms: u64,
    server: String,
    tape: Option<TapeReader>,
    dictionary: Dictionary,
    hello: Hello,
    state: State,
    snapshot: Option<(Instant, Snapshot)>,
}

impl Follow {
    /// Follows the tape of this run directory, which may come later.
    pub fn new(run_dir: PathBuf, heartbeat_ms: u64, server: String) -> Self {
        let hello = Hello::new(None, heartbeat_ms, &server);
        let mut follow = Follow {
            run_dir,
            heartbeat_ms,
            server,
            tape: None,
            dictionary: Dictionary::default(),
            hello,
            state: State::default(),
            snapshot: None,
        };
        follow.look();
        follow
    }

    /// The tape.
    pub fn tape(&self) -> Option<&TapeReader> {
        self.tape.as_ref()
    }

    /// The tape's dictionaries, all that there is of them now.
    pub fn dictionary(&mut self) -> &mut Dictionary {
        if let Some(tape) = &self.tape {
            self.dictionary.follow(tape);
        }
        &mut self.dictionary
    }

    /// Opens the run directory's tape if it is another one than that at hand.
    pub fn successor(&self) -> Option<TapeReader> {
        if self.tape.as_ref().is_some_and(|tape| !tape.superseded()) {
            return None;
        }
        TapeReader::open(&self.run_dir).ok()
    }

    /// Goes over to another tape; returns whether it has another epoch.
    pub fn adopt(&mut self, tape: TapeReader) -> bool {
        let other = self.tape.as_ref().is_none_or(|old| old.epoch() != tape.epoch());
        self.dictionary = Dictionary::default();
        self.snapshot = None;
        self.hello = Hello::new(Some(&tape), self.heartbeat_ms, &self.server);
        self.tape = Some(tape);
        other
    }

    /// Returns `hello` for a client that comes now, and what it knows of the dictionaries then.
    pub fn hello(&mut self) -> (Arc<Message>, Known) {
        if let Some(tape) = &self.tape
            && self.hello.is_behind(tape)
        {
            self.hello = Hello::new(Some(tape), self.heartbeat_ms, &self.server);
        }
        let head = self.tape.as_ref().map_or(0, |tape| tape.head());
        (Message::new(self.hello.message(head)), self.hello.known())
    }

    /// Returns a snapshot of now, or one shortly before that still joins a cursor at `seq`.
    pub fn snapshot(&mut self, seq: u64) -> Option<&Snapshot> {
        let tape = self.tape.as_ref()?;
        let least = seq.max(tape.oldest()) - 1;
        let fresh = |(at, snapshot): &(Instant, Snapshot)| at.elapsed() < SNAPSHOT_AGE && snapshot.to_seq() >= least;
        if !self.snapshot.as_ref().is_some_and(fresh) {
            self.snapshot = Some((Instant::now(), tape.snapshot()));
        }
        self.snapshot.as_ref().map(|(_, snapshot)| snapshot)
    }

    /// Returns the same, and the dictionaries, which go as far at least.
    pub fn snapshot_and_dictionary(&mut self, seq: u64) -> Option<(&Snapshot, &Dictionary)> {
        self.snapshot(seq)?;
        self.dictionary();
        self.snapshot.as_ref().map(|(_, snapshot)| (snapshot, &self.dictionary))
    }

    /// Returns `status` as it is.
    pub fn status(&self) -> Arc<Message> {
        Message::new(fanout::status(&self.state.source, &self.state.state, self.state.since_ns))
    }

    /// Looks at the board; returns whether the source's state has changed.
    pub fn look(&mut self) -> bool {
        let now = now_ns();
        let mut state = match &self.tape {
            None => State { state: "waiting".to_owned(), ..State::default() },
            Some(tape) => state_of(tape, now),
        };
        if state.since_ns == 0 {
            let same = state.source == self.state.source && state.state == self.state.state;
            state.since_ns = if same { self.state.since_ns } else { now };
        }
        let changed = state != self.state;
        self.state = state;
        changed
    }
}

fn state_of(tape: &TapeReader, now: i64) -> State {
    let board: Value = serde_json::from_slice(&tape.board()).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some(heartbeat_ns) = board["heartbeatNs"].as_i64() else {
        // A writer without a board, such as a test's.
        let state = if tape.writer_alive() { "live" } else { "stale" };
        return State { state: state.to_owned(), ..State::default() };
    };
    let source = text(&board["source"]["url"]);
    let pid = board["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
    if now.saturating_sub(heartbeat_ns) > STALE_NS || !is_alive(pid) {
        // The last sign of life, not the last look: every gateway says the same.
        return State { source, state: "stale".to_owned(), since_ns: heartbeat_ns };
    }
    let since_ns = board["source"]["since"].as_i64().unwrap_or(0);
    let state = match text(&board["source"]["state"]) {
        none if none.is_empty() => "live".to_owned(),
        state => state,
    };
    State { source, state, since_ns }
}

fn is_alive(pid: i32) -> bool {
    if pid <= 0 {
        return true;
    }
    // SAFETY: signal 0 is never delivered, it only asks whether the process is there.
    let answer = unsafe { libc::kill(pid, 0) };
    answer == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}
