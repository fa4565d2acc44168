//! Publishing to a core NATS subject or to JetStream, with a window of messages whose fate is not yet known.
//!
//! ## What becomes of a message
//! - **JetStream**: confirmed by the stream's acknowledgement, or failed with the server's reason. Where a connection
//!   breaks first, a message with an id (`Nats-Msg-Id`) is sent again, in the old order, and the stream drops it if it
//!   has it already (within its duplicate window, 2 minutes by default); one without is `unconfirmed` and not sent
//!   again, since it might be there twice then.
//! - **core NATS**: confirmed once a round trip to our own inbox came back behind it (where that is not permitted: once
//!   it was sent), failed where the server said meanwhile that it may not be published; what was under way when a
//!   connection broke is `unconfirmed`.
//!
//! confirmed + failed + unconfirmed + waiting = accepted, at any time.
//!
//! ## Back-pressure
//! [`Publisher::publish`] waits while `window` messages wait or are under way: publishing to JetStream without
//! waiting for acknowledgements silently loses about half.

mod flights;
mod session;

use crate::jetstream::{NewStream, is_stream_name, url};
use crate::link::Link;
use crate::status::{Health, State, Status, lock};
use crate::thread::{Thread, Told};
use crate::{Error, Result, Servers, subject};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tickcast_core::decode::Format;
use tokio::sync::Notify;

/// Where and how to publish.
#[derive(Debug, Clone)]
pub struct PublisherConfig {
    /// The servers.
    pub servers: Servers,
    /// Subject of messages that don't name theirs; no wildcards.
    pub subject: String,
    /// Publish to JetStream and wait for its acknowledgements; else to core NATS.
    pub jetstream: bool,
    /// Name of the stream; `None`: whichever has the subject.
    pub stream: Option<String>,
    /// Create the stream with these limits if it is absent. Needs `stream`.
    pub create: Option<NewStream>,
    /// Written into the header `tickcast-format`; `None`: no header.
    pub format: Option<Format>,
    /// Messages that may wait or be under way, at least 1; 5,000 is a good value.
    pub window: usize,
}

/// A message to be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Payload.
    pub payload: Vec<u8>,
    /// Subject, if not the publisher's.
    pub subject: Option<Arc<str>>,
    /// `Nats-Msg-Id`: JetStream stores a message of this id once.
    pub message_id: Option<String>,
    /// Further headers.
    pub headers: Arc<[(String, String)]>,
}

/// What became of the messages, since the publisher was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Confirmed by the server.
    pub confirmed: u64,
    /// Of these, dropped by the stream because it had the id already.
    pub duplicates: u64,
    /// Refused by the server.
    pub failed: u64,
    /// Sent, but the connection broke before the server confirmed: may be there or not.
    pub unconfirmed: u64,
    /// Waiting or under way.
    pub waiting: u64,
    /// Why the last failed one failed.
    pub last_failure: Option<String>,
}

/// A message that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which one, counted from 0 in the order in which they were accepted.
    pub number: u64,
    /// Why.
    pub why: String,
    /// It is refused for its own size or form, and would be again.
    pub for_good: bool,
}

/// Publishes from any thread.
pub struct Publisher {
    url: String,
    status: Arc<Status>,
    window: Arc<Window>,
    thread: Thread,
}

impl Publisher {
    /// Starts to connect; doesn't wait for it.
    ///
    /// # Errors
    /// [`Error::Config`] for a value that is not allowed, [`Error::System`] if there is no thread to be had.
    pub fn open(config: PublisherConfig) -> Result<Self> {
        check(&config)?;
        let link = Link::new(config.servers.clone(), config.window.saturating_mul(2).max(1024))?;
        let url = match config.jetstream {
            true => url(&link, &config.subject, config.stream.as_deref()),
            false => format!("nats://{}/{}", link.shown(), config.subject),
        };
        let status = Arc::new(Status::new(format!("connecting to {}", link.shown())));
        let window = Arc::new(Window::new(config.window));
        let told = Told { status: Arc::clone(&status), handover: None, also: Some(window.waker()) };
        let sender = session::Sender::new(config, link, url.clone(), told.clone(), Arc::clone(&window));
        let thread = Thread::start(&url, sender, told)?;
        Ok(Publisher { url, status, window, thread })
    }

    /// Accepts messages from the front, waiting for room at most `timeout`; returns how many were accepted and leaves the
    /// rest.
    ///
    /// # Errors
    /// What ended the publisher: nothing is accepted any more. A subject with wildcards is an [`Error::Config`],
    /// nothing is accepted then.
    pub fn publish(&self, messages: &mut VecDeque<Outgoing>, timeout: Duration) -> Result<usize> {
        for named in messages.iter().filter_map(|message| message.subject.as_deref()) {
            check_subject(named)?;
        }
        let end = deadline(timeout);
        let mut accepted = 0;
        while !messages.is_empty() {
            let turns = self.window.turns();
            self.check_open()?;
            accepted += self.window.accept(messages);
            let room = |inner: &Inner| inner.turns != turns || inner.room(self.window.limit) > 0;
            if !messages.is_empty() && !self.window.wait_until(end, room) {
                break;
            }
        }
        Ok(accepted)
    }

    /// Waits until the server (and stream) was reached, nothing waits and nothing is under way; false if that is not so
    /// within `timeout`.
    ///
    /// # Errors
    /// What ended the publisher.
    pub fn flush(&self, timeout: Duration) -> Result<bool> {
        let end = deadline(timeout);
        loop {
            let turns = self.window.turns();
            self.check_open()?;
            let reached = self.status.was_live();
            if reached && self.window.published().waiting == 0 {
                return Ok(true);
            }
            if !self.window.wait_until(end, |inner| inner.turns != turns || (reached && inner.waiting() == 0)) {
                return Ok(false);
            }
        }
    }

    /// What became of the messages so far.
    pub fn published(&self) -> Published {
        self.window.published()
    }

    /// Which messages have failed since the last call, in no order. As many as `window` are kept, the last ones.
    pub fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut lock(&self.window.inner).failures).into()
    }

    /// Where it stands.
    pub fn health(&self) -> Health {
        self.status.health()
    }

    /// The target as a URL, without secrets.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Flushes for at most `timeout`, ends the thread and waits for it. What is still under way is unconfirmed.
    pub fn close(&self, timeout: Duration) {
        // An error means that it has ended already.
        let _ = self.flush(timeout);
        self.thread.close();
        self.window.give_up();
    }

    fn check_open(&self) -> Result<()> {
        match (self.status.error(), self.status.health().state) {
            (Some(error), _) => Err(error),
            (None, State::Closed) => Err(Error::Closed { url: self.url.clone() }),
            _ => Ok(()),
        }
    }
}

fn check(config: &PublisherConfig) -> Result<()> {
    let wrong = |key, value: &str, allowed| Err(Error::Config { key, value: value.to_owned(), allowed });
    check_subject(&config.subject)?;
    if config.window == 0 {
        return wrong("window", "0", "at least 1");
    }
    match config.stream.as_deref() {
        Some(name) if !is_stream_name(name) => wrong("stream", name, "a name without spaces, dots, *, >, / and \\"),
        Some(name) if !config.jetstream => wrong("stream", name, "only with jetstream"),
        None if config.create.is_some() => wrong("create", "true", "only with stream=NAME"),
        _ => Ok(()),
    }
}

fn check_subject(name: &str) -> Result<()> {
    if subject::is_literal(name) {
        return Ok(());
    }
    let allowed = "tokens between dots, without spaces and wildcards";
    Err(Error::Config { key: "subject", value: name.to_owned(), allowed })
}

fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// Messages on their way from the publisher's users to its thread, and what became of them.
struct Window {
    inner: Mutex<Inner>,
    /// Something was settled, or the state changed.
    changed: Condvar,
    /// Something was accepted.
    work: Notify,
    limit: usize,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Outgoing>,
    under_way: usize,
    /// Messages that were taken: the number of the next one.
    taken: u64,
    failures: VecDeque<Failure>,
    /// Counts changes of state, so that a waiter looks at it.
    turns: u64,
    published: Published,
}

impl Inner {
    fn waiting(&self) -> usize {
        self.queue.len() + self.under_way
    }

    fn room(&self, limit: usize) -> usize {
        limit.saturating_sub(self.waiting())
    }
}

/// What became of one message.
enum Fate {
    Confirmed {
        duplicate: bool,
    },
    Failed {
        why: String,
        /// See [`Failure::for_good`].
        for_good: bool,
    },
    Unconfirmed,
}

impl Window {
    fn new(limit: usize) -> Self {
        Window { inner: Mutex::default(), changed: Condvar::new(), work: Notify::new(), limit }
    }

    /// Returns what makes waiters look at the state.
    fn waker(self: &Arc<Self>) -> Arc<dyn Fn() + Send + Sync> {
        let window = Arc::clone(self);
        Arc::new(move || {
            lock(&window.inner).turns += 1;
            window.changed.notify_all();
        })
    }

    /// Moves as many messages in as there is room for.
    fn accept(&self, messages: &mut VecDeque<Outgoing>) -> usize {
        let mut inner = lock(&self.inner);
        let count = inner.room(self.limit).min(messages.len());
        inner.queue.extend(messages.drain(..count));
        drop(inner);
        self.work.notify_one();
        count
    }

    /// Changes of state so far: read before the state is, so that no change of it goes unnoticed.
    fn turns(&self) -> u64 {
        lock(&self.inner).turns
    }

    /// Waits until it is so; false if `end` came first.
    fn wait_until(&self, end: Option<Instant>, so: impl Fn(&Inner) -> bool) -> bool {
        let mut inner = lock(&self.inner);
        while !so(&inner) {
            let left = end.map_or(Duration::from_secs(3600), |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            inner = self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Takes what is accepted, and returns the number of its first; it is under way from now on.
    fn take(&self) -> (u64, VecDeque<Outgoing>) {
        let mut inner = lock(&self.inner);
        let (first, count) = (inner.taken, inner.queue.len());
        inner.under_way += count;
        inner.taken += count as u64;
        (first, std::mem::take(&mut inner.queue))
    }

    /// Settles messages by their numbers.
    fn settle(&self, fates: impl IntoIterator<Item = (u64, Fate)>) {
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        for (number, fate) in fates {
            inner.under_way -= 1;
            let published = &mut inner.published;
            match fate {
                Fate::Confirmed { duplicate } => {
                    published.confirmed += 1;
                    published.duplicates += u64::from(duplicate);
                }
                Fate::Failed { why, for_good } => {
                    published.failed += 1;
                    published.last_failure = Some(why.clone());
                    // Nobody may ask for them.
                    if inner.failures.len() == self.limit {
                        inner.failures.pop_front();
                    }
                    inner.failures.push_back(Failure { number, why, for_good });
                }
                Fate::Unconfirmed => published.unconfirmed += 1,
            }
        }
        drop(guard);
        self.changed.notify_all();
    }

    fn published(&self) -> Published {
        let inner = lock(&self.inner);
        Published { waiting: inner.waiting() as u64, ..inner.published.clone() }
    }

    /// Counts what is left when the thread has ended.
    fn give_up(&self) {
        let mut inner = lock(&self.inner);
        let left = inner.waiting() as u64;
        inner.queue.clear();
        inner.under_way = 0;
        inner.published.unconfirmed += left;
        drop(inner);
        self.changed.notify_all();
    }
}
