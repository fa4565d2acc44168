//! A core NATS subject as a source.
//!
//! ## Losses
//! Core NATS keeps nothing. What arrives while [`NatsConfig::capacity`] messages wait is dropped and counted: the
//! count is exact whenever the source has caught up, and a lower bound while it is behind. What is published while
//! there is no connection never arrives and can't be counted.

use crate::batch::{Gather, ready};
use crate::echo::{Echo, Round};
use crate::handover::Handover;
use crate::link::{Connection, Link, NoConnection, REQUEST_TIMEOUT, SUBSCRIPTION_DENIED, chain, random};
use crate::status::{Health, Meters, State, Status};
use crate::thread::{End, Session, Thread, Told};
use crate::{Batch, Error, Result, Servers, subject};
use async_nats::Subscriber;
use futures_util::StreamExt as _;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tickcast_core::decode::{Format, Options};

/// What to read from core NATS.
#[derive(Debug, Clone)]
pub struct NatsConfig {
    /// The servers.
    pub servers: Servers,
    /// Subject, wildcards allowed.
    pub subject: String,
    /// Queue group: each message goes to one of its members.
    pub queue: Option<String>,
    /// Format of messages that don't name theirs; `None`: detect.
    pub format: Option<Format>,
    /// How numbers are taken.
    pub options: Options,
    /// Ticks that are decoded ahead, about; at least 1.
    pub max_rows: usize,
    /// Messages that may wait before they are decoded; more are dropped and counted. At least 1.
    pub capacity: usize,
}

/// A subscription to a core NATS subject.
///
/// May be used from any thread; one thread pulls.
pub struct NatsSource {
    url: String,
    status: Arc<Status>,
    handover: Arc<Handover>,
    thread: Thread,
}

impl NatsSource {
    /// Starts to connect; doesn't wait for it.
    ///
    /// # Errors
    /// [`Error::Config`] for a value that is not allowed, [`Error::System`] if there is no thread or pipe to be had.
    pub fn open(config: NatsConfig) -> Result<Self> {
        check(&config.subject, config.max_rows, config.capacity)?;
        let link = Link::new(config.servers.clone(), config.capacity)?;
        let url = format!("nats://{}/{}", link.shown(), config.subject);
        let status = Arc::new(Status::new(format!("connecting to {}", link.shown())));
        let handover = new_handover(&url, config.max_rows)?;
        let told = Told { status: Arc::clone(&status), handover: Some(Arc::clone(&handover)), also: None };
        let reader = Reader {
            link,
            url: url.clone(),
            stream: random() as u32,
            counter: 0,
            handover: Arc::clone(&handover),
            told: told.clone(),
            config,
        };
        let thread = Thread::start(&url, reader, told)?;
        Ok(NatsSource { url, status, handover, thread })
    }

    /// Takes what is there, about `max_rows` ticks at most (a message is never cut); `None`: nothing yet.
    ///
    /// # Errors
    /// What ended the source, after everything that came before has been taken.
    pub fn poll(&self, max_rows: usize) -> Result<Option<Batch>> {
        take(&self.handover, &self.status, &self.url, max_rows)
    }

    /// Waits for a batch or a change of state; false if there is none within `timeout`.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.handover.wait(timeout)
    }

    /// Descriptor that is readable while [`NatsSource::poll`] has something to return or the state has changed.
    pub fn descriptor(&self) -> RawFd {
        self.handover.descriptor()
    }

    /// Where it stands.
    pub fn health(&self) -> Health {
        self.status.health()
    }

    /// What has been counted.
    pub fn meters(&self) -> Meters {
        self.status.meters()
    }

    /// The source as a URL, without secrets.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends the thread and waits for it; what was not taken is gone.
    pub fn close(&self) {
        self.thread.close();
    }
}

/// Checks what both kinds of source have.
pub(crate) fn check(subject: &str, max_rows: usize, capacity: usize) -> Result<()> {
    let wrong = |key, value: String, allowed| Err(Error::Config { key, value, allowed });
    if !subject::is_valid(subject) {
        return wrong("subject", subject.to_owned(), "tokens between dots, without spaces; * and > are wildcards");
    }
    if max_rows == 0 {
        return wrong("max_rows", max_rows.to_string(), "at least 1");
    }
    if capacity == 0 {
        return wrong("capacity", capacity.to_string(), "at least 1");
    }
    Ok(())
}

pub(crate) fn new_handover(url: &str, max_rows: usize) -> Result<Arc<Handover>> {
    let handover =
        Handover::new(max_rows).map_err(|error| Error::System { url: url.to_owned(), what: error.to_string() })?;
    Ok(Arc::new(handover))
}

/// Takes a batch, or says what ended the source once there is none left.
pub(crate) fn take(handover: &Handover, status: &Status, url: &str, max_rows: usize) -> Result<Option<Batch>> {
    // The state first: what was handed over before the end is then still found.
    let (state, error) = (status.health().state, status.error());
    match (handover.take(max_rows), error) {
        (Some(batch), _) => Ok(Some(batch)),
        (None, Some(error)) => Err(error),
        (None, None) if state == State::Closed => Err(Error::Closed { url: url.to_owned() }),
        (None, None) => Ok(None),
    }
}

/// Makes the end of a session from a failed attempt to connect: denied at the first attempt is wrong configuration,
/// later it may be a server that is being set up again.
pub(crate) fn no_connection(why: NoConnection, was_live: bool, url: &str) -> End {
    match why {
        NoConnection::Denied(what) if !was_live => End::Refused(Error::Refused {
            url: url.to_owned(),
            what,
            remedy: "check user, password, token or credentials file".into(),
        }),
        NoConnection::Yet(what) | NoConnection::Denied(what) => End::Lost(what),
    }
}

/// The network side.
struct Reader {
    config: NatsConfig,
    link: Link,
    url: String,
    /// Random: the source has no positions.
    stream: u32,
    /// Messages so far.
    counter: u64,
    handover: Arc<Handover>,
    told: Told,
}

impl Session for Reader {
    async fn run(&mut self) -> End {
        let mut connection = match self.link.connect().await {
            Ok(connection) => connection,
            Err(why) => return no_connection(why, self.told.status.was_live(), &self.url),
        };
        let (mut subscription, echoes) = match self.subscribe(&mut connection).await {
            Ok(subscribed) => subscribed,
            Err(why) => return self.not_subscribed(why),
        };
        self.told.enter(State::Live, format!("connected to {}", self.link.shown()));
        let mut losses = Losses::new(&connection, &self.told.status, self.config.capacity, echoes);
        let why = loop {
            let first = tokio::select! {
                biased;
                message = subscription.next() => message,
                why = connection.gone() => break why,
            };
            let Some(first) = first else { break "the subscription has ended".to_owned() };
            let (batch, drained) = self.gather(first, &mut subscription);
            losses.received(batch.origin.offset.len() as u64, drained);
            self.handover.push(batch).await;
        };
        losses.settle();
        End::Lost(why)
    }

    async fn close(&mut self) {}
}

impl Reader {
    /// Subscribes and waits until the server knows of it; returns also how many messages that took.
    async fn subscribe(&self, connection: &mut Connection) -> std::result::Result<(Subscriber, u64), String> {
        let (client, subject) = (connection.client.clone(), self.config.subject.clone());
        let subscribed = match &self.config.queue {
            Some(queue) => client.queue_subscribe(subject, queue.clone()).await,
            None => client.subscribe(subject).await,
        };
        let subscription = subscribed.map_err(|error| format!("cannot subscribe: {}", chain(&error)))?;
        match Echo::new(&client).await?.round(connection, REQUEST_TIMEOUT).await? {
            Round::Done => Ok((subscription, 1)),
            Round::Denied => Ok((subscription, 0)),
        }
    }

    fn not_subscribed(&self, why: String) -> End {
        if !why.contains(SUBSCRIPTION_DENIED) || self.told.status.was_live() {
            return End::Lost(why);
        }
        End::Refused(Error::Refused {
            url: self.url.clone(),
            what: why,
            remedy: "let this user subscribe to the subject, or use another".into(),
        })
    }

    /// Decodes the first message and what waits behind it; says whether nothing waits any more.
    fn gather(&mut self, first: async_nats::Message, subscription: &mut Subscriber) -> (Batch, bool) {
        let mut gather = Gather::new(self.stream);
        let mut next = Some(first);
        while let Some(message) = next.take() {
            self.counter += 1;
            gather.push(message, self.counter, 0);
            if !gather.is_full(self.config.max_rows) {
                next = ready(subscription).flatten();
            }
        }
        let drained = !gather.is_full(self.config.max_rows);
        self.told.status.took(gather.len() as u64, gather.bytes() as u64);
        (gather.decode(self.config.format, &self.config.options), drained)
    }
}

/// Counts what a connection received for its only subscription against what came out of it.
///
/// The library counts a message and puts it into the subscription (or drops it) in one step of one thread, so the
/// difference is exact whenever the subscription is empty.
struct Losses {
    status: Arc<Status>,
    statistics: Arc<async_nats::Statistics>,
    capacity: u64,
    received: u64,
    lost: u64,
}

impl Losses {
    /// `received` messages have been received for other purposes.
    fn new(connection: &Connection, status: &Arc<Status>, capacity: usize, received: u64) -> Self {
        let status = Arc::clone(status);
        Losses { status, statistics: connection.client.statistics(), capacity: capacity as u64, received, lost: 0 }
    }

    fn received(&mut self, messages: u64, drained: bool) {
        self.received += messages;
        self.count(if drained { 0 } else { self.capacity });
    }

    /// Counts for the last time, after the subscription was emptied.
    fn settle(&mut self) {
        self.count(0);
    }

    fn count(&mut self, may_wait: u64) {
        let lost = self.statistics.in_messages.load(Ordering::Relaxed).saturating_sub(self.received + may_wait);
        if lost > self.lost {
            self.status.lost.fetch_add(lost - self.lost, Ordering::Relaxed);
            self.lost = lost;
        }
    }
}
