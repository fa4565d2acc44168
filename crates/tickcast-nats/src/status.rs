//! How a connection stands, and what has been counted; read from any thread.

use crate::Error;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a source or publisher stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Connected, and messages flow when there are any.
    Live,
    /// Not connected (yet, or any more); trying for ever.
    Reconnecting,
    /// Ended by an error that trying again would not mend.
    Failed,
    /// Closed by its owner.
    Closed,
}

impl State {
    /// Returns the name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            State::Live => "live",
            State::Reconnecting => "reconnecting",
            State::Failed => "failed",
            State::Closed => "closed",
        }
    }
}

/// State, since when, and what is being done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Where it stands.
    pub state: State,
    /// When this state began, ns since the Unix epoch.
    pub since_ns: i64,
    /// For people; without secrets.
    pub detail: String,
}

/// Counters of one source, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meters {
    /// Messages taken in.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Messages that are lost for good, exactly.
    pub lost: u64,
    /// Messages that may have been lost: removed by the limits of a stream that carries other subjects too.
    pub lost_at_most: u64,
    /// Messages that came again and were dropped.
    pub repeats: u64,
    /// How often a live connection ended.
    pub disconnects: u64,
    /// Messages that wait in the stream, as of the last one taken in, or of when reading began; 0 for core NATS.
    pub pending: u64,
    /// When the last message came, ns since the Unix epoch; 0: none yet.
    pub last_arrival_ns: i64,
}

/// The writable side, shared by the thread and its owner.
pub(crate) struct Status {
    health: Mutex<(Health, Option<Error>)>,
    was_live: AtomicBool,
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) lost_at_most: AtomicU64,
    pub(crate) repeats: AtomicU64,
    pub(crate) disconnects: AtomicU64,
    pub(crate) pending: AtomicU64,
    pub(crate) last_arrival_ns: AtomicI64,
}

impl Status {
    pub(crate) fn new(detail: String) -> Self {
        let health = Health { state: State::Reconnecting, since_ns: now_ns(), detail };
        Status {
            health: Mutex::new((health, None)),
            was_live: AtomicBool::new(false),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            lost_at_most: AtomicU64::new(0),
            repeats: AtomicU64::new(0),
            disconnects: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            last_arrival_ns: AtomicI64::new(0),
        }
    }

    pub(crate) fn health(&self) -> Health {
        lock(&self.health).0.clone()
    }

    /// Whether it ever was live: then nothing is refused any more, only tried again.
    pub(crate) fn was_live(&self) -> bool {
        self.was_live.load(Ordering::Relaxed)
    }

    pub(crate) fn error(&self) -> Option<Error> {
        lock(&self.health).1.clone()
    }

    /// Enters a state; its time stays where only the detail changed.
    pub(crate) fn enter(&self, state: State, detail: String) {
        let mut held = lock(&self.health);
        if held.0.state == State::Live && state != State::Live && state != State::Closed {
            self.disconnects.fetch_add(1, Ordering::Relaxed);
        }
        if state == State::Live {
            self.was_live.store(true, Ordering::Relaxed);
        }
        let since_ns = if held.0.state == state { held.0.since_ns } else { now_ns() };
        held.0 = Health { state, since_ns, detail };
    }

    pub(crate) fn fail(&self, error: Error) {
        self.enter(State::Failed, error.to_string());
        lock(&self.health).1 = Some(error);
    }

    pub(crate) fn took(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_arrival_ns.store(now_ns(), Ordering::Relaxed);
    }

    pub(crate) fn meters(&self) -> Meters {
        Meters {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            lost_at_most: self.lost_at_most.load(Ordering::Relaxed),
            repeats: self.repeats.load(Ordering::Relaxed),
            disconnects: self.disconnects.load(Ordering::Relaxed),
            pending: self.pending.load(Ordering::Relaxed),
            last_arrival_ns: self.last_arrival_ns.load(Ordering::Relaxed),
        }
    }
}

/// Locks; what a panicking holder left behind is still a whole value here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the time, ns since the Unix epoch.
pub(crate) fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_keeps_its_time_while_only_its_detail_changes() {
        let status = Status::new("connecting".into());
        let first = status.health().since_ns;
        status.enter(State::Reconnecting, "refused".into());
        assert_eq!((status.health().since_ns, status.health().detail.as_str()), (first, "refused"));
        status.enter(State::Live, String::new());
        assert!(status.health().since_ns >= first);
        assert_eq!(status.meters().disconnects, 0);
        status.enter(State::Reconnecting, "gone".into());
        status.enter(State::Reconnecting, "still gone".into());
        assert_eq!(status.meters().disconnects, 1);
    }
}
