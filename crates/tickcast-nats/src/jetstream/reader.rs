//! The network side of a JetStream source.

use super::api::{self, Delivery, Fault, Pull, StreamInfo, nanoseconds};
use super::durable::Durable;
use super::resume::{Filling, Place, Start, StartedFrom, Tracker, Verdict, first, furthest, place, stream_id};
use super::{JetStreamConfig, Loaded, find_stream, refusal};
use crate::batch::{Gather, ready};
use crate::handover::Handover;
use crate::link::{Connection, Link, chain};
use crate::nats::no_connection;
use crate::status::{State, lock};
use crate::subject::{covers, overlap};
use crate::thread::{End, Session, Told};
use crate::{Batch, Error};
use async_nats::{Message, Subscriber};
use futures_util::StreamExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The server says that it lives this often while there is nothing to send.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Without a message or heartbeat for so long the connection is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the server holds a pull request.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the stream's oldest sequence is asked for where its holes don't tell what was lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How many reaches before the given position windows are read again where nothing says what they need.
const REACHES_BACK: i64 = 2;
/// Most bytes asked for at a time, unless one message may be larger.
const PULL_BYTES: u64 = 16 << 20;

pub(super) struct Reader {
    config: JetStreamConfig,
    link: Link,
    url: String,
    told: Told,
    handover: Arc<Handover>,
    durable: Option<Arc<Durable>>,
    loaded: Arc<Mutex<Loaded>>,
    /// Once the stream was found.
    course: Option<Course>,
    /// The connection while there is one; kept for closing.
    connection: Option<Connection>,
    consumer: Option<(String, String)>,
}

/// Which stream is read, and how far.
struct Course {
    stream: u32,
    tracker: Tracker,
    /// Messages up to here only fill the windows.
    silent_through: u64,
}

/// The deliveries of one consumer.
struct Deliveries {
    stream: String,
    consumer: String,
    inbox: String,
    subscription: Subscriber,
    /// Messages asked for that have not come.
    outstanding: u64,
    max_bytes: u64,
}

impl Session for Reader {
    async fn run(&mut self) -> End {
        self.connection = None;
        match self.link.connect().await {
            Ok(connection) => self.connection = Some(connection),
            Err(why) => return no_connection(why, self.told.status.was_live(), &self.url),
        }
        let (info, mut deliveries) = match self.begin().await {
            Ok(begun) => begun,
            Err(end) => return end,
        };
        let Some(client) = self.connection.as_ref().map(|connection| connection.client.clone()) else {
            return End::Lost("connection lost".to_owned());
        };
        let oldest = Arc::new(AtomicU64::new(0));
        let whole = is_whole(&info, &self.config.subject);
        if let Some(durable) = self.durable.clone() {
            let client = client.clone();
            tokio::spawn(async move { durable.keep(&client).await });
        }
        if !whole {
            tokio::spawn(watch_oldest(client.clone(), info.config.name.clone(), Arc::clone(&oldest)));
        }
        self.told.enter(State::Live, format!("reading stream {} at {}", info.config.name, self.link.shown()));
        End::Lost(self.read(&client, &mut deliveries, &oldest).await)
    }

    async fn close(&mut self) {
        let Some(connection) = &self.connection else { return };
        if let Some(durable) = &self.durable {
            let _ = durable.flush(&connection.client).await;
        }
        if let Some((stream, consumer)) = &self.consumer {
            api::delete_consumer(&connection.client, stream, consumer).await;
        }
    }
}

impl Reader {
    #[allow(clippy::too_many_arguments, reason = "made in one place")]
    pub(super) fn new(
        config: JetStreamConfig,
        link: Link,
        url: String,
        told: Told,
        handover: Arc<Handover>,
        durable: Option<Arc<Durable>>,
        loaded: Arc<Mutex<Loaded>>,
    ) -> Self {
        Reader { config, link, url, told, handover, durable, loaded, course: None, connection: None, consumer: None }
    }

    /// Finds the stream and the place in it, and makes a consumer there.
    async fn begin(&mut self) -> Result<(StreamInfo, Deliveries), End> {
        let Some(client) = self.connection.as_ref().map(|connection| connection.client.clone()) else {
            return Err(End::Lost("connection lost".to_owned()));
        };
        let (subject, name) = (self.config.subject.clone(), self.config.stream.clone());
        let info = find_stream(&client, &subject, name.as_deref(), self.config.create)
            .await
            .map_err(|fault| self.end(fault))?;
        self.check(&info)?;
        self.take_course(&client, &info).await?;
        let Some(course) = &mut self.course else { return Err(End::Lost("no course".to_owned())) };
        let whole = is_whole(&info, &subject);
        if let Err(last) = course.tracker.begin(whole, info.state) {
            return Err(End::Refused(self.regressed(&info, last)));
        }
        let next = course.tracker.next;
        self.count();
        let filter = (!whole).then_some(subject.as_str());
        let (consumer, waiting) =
            api::create_consumer(&client, &info.config.name, filter, next).await.map_err(|fault| self.end(fault))?;
        self.told.status.pending.store(waiting, Ordering::Relaxed);
        lock(&self.loaded).waiting.get_or_insert(waiting);
        self.consumer = Some((info.config.name.clone(), consumer.clone()));
        let inbox = client.new_inbox();
        let subscription = client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| End::Lost(format!("cannot subscribe: {}", chain(&error))))?;
        let max_bytes = PULL_BYTES.max(2 * client.max_payload() as u64);
        let stream = info.config.name.clone();
        Ok((info, Deliveries { stream, consumer, inbox, subscription, outstanding: 0, max_bytes }))
    }

    /// Refuses streams that can't be read on from a position, or not by this subject.
    fn check(&self, info: &StreamInfo) -> Result<(), End> {
        let (config, subject) = (&info.config, &self.config.subject);
        if config.retention != "limits" {
            return Err(self.refuse(Error::Refused {
                url: self.url.clone(),
                what: format!("stream {:?} has {} retention", config.name, config.retention),
                remedy: "use a stream with limits retention: the others delete what was read, so that a restart could \
                         not read on from its position"
                    .into(),
            }));
        }
        let fits = config.subjects.iter().any(|held| overlap(held, subject));
        if config.holds_its_subjects() && !fits {
            return Err(self.refuse(Error::Refused {
                url: self.url.clone(),
                what: format!(
                    "stream {:?} has the subjects {:?}, none of which is {subject:?}",
                    config.name, config.subjects
                ),
                remedy: "correct the subject, or add it to the stream's".into(),
            }));
        }
        Ok(())
    }

    /// Decides where to read: the first time by the positions, then where the last consumer ended; a stream that was
    /// made again under the same name is read from its beginning, under its own id.
    async fn take_course(&mut self, client: &async_nats::Client, info: &StreamInfo) -> Result<(), End> {
        let stream = stream_id(&info.config.name, &info.created);
        let whole = is_whole(info, &self.config.subject);
        match &mut self.course {
            Some(course) if course.stream == stream => {}
            Some(course) => {
                course.stream = stream;
                course.silent_through = 0;
                course.tracker.restart(info.state.first_seq.max(1));
                let mut loaded = lock(&self.loaded);
                *loaded = Loaded { stream, saved: None, lowest: None, anew: false, ..*loaded };
            }
            None => {
                let saved = match &self.durable {
                    Some(durable) => durable.load(client).await.map_err(End::Lost)?.filter(|s| s.stream == stream),
                    None => None,
                };
                let fresh = self.fresh(client, info).await?;
                let known = saved.map(|saved| (saved.sequence, saved.lowest));
                let filling = match known {
                    Some((_, Some(_))) => self.filling(stream, None),
                    _ => self.filling(stream, self.needed_by_time(client, info, stream).await?),
                };
                let Place { started, begin, lowest, anew } = place(info, &self.config.positions, known, fresh, filling);
                let silent_through = started.sequence - 1;
                self.course = Some(Course { stream, tracker: Tracker::new(begin, whole), silent_through });
                let saved = saved.map(|saved| (saved.sequence, saved.index));
                *lock(&self.loaded) = Loaded { started: Some(started), saved, lowest, anew, stream, waiting: None };
            }
        }
        Ok(())
    }

    fn filling(&self, stream: u32, by_time: Option<u64>) -> Filling {
        // Who fills no windows needs nothing of what lies before the position.
        let at_hand = self.config.at_hand.as_ref().map_or(Some(0), |at_hand| first(&at_hand.oldest, stream));
        Filling { at_hand, by_time }
    }

    /// Returns the first message that windows may need at the given position, by the time at which it was stored.
    async fn needed_by_time(
        &self,
        client: &async_nats::Client,
        info: &StreamInfo,
        stream: u32,
    ) -> Result<Option<u64>, End> {
        let (Some(at_hand), Some(given)) = (&self.config.at_hand, furthest(&self.config.positions, stream)) else {
            return Ok(None);
        };
        let name = &info.config.name;
        let Some(stored_ns) = api::stored_ns(client, name, given).await else { return Ok(None) };
        let since_ns = stored_ns.saturating_sub(at_hand.reach_ns.saturating_mul(REACHES_BACK)).max(0);
        api::first_since(client, name, since_ns).await.map(Some).map_err(|fault| self.end(fault))
    }

    /// Returns where to start where no position is known.
    async fn fresh(&self, client: &async_nats::Client, info: &StreamInfo) -> Result<(u64, StartedFrom), End> {
        Ok(match self.config.start {
            Start::All => (info.state.first_seq.max(1), StartedFrom::All),
            Start::New => (info.state.last_seq + 1, StartedFrom::New),
            Start::Since(since_ns) => {
                let first = api::first_since(client, &info.config.name, since_ns).await;
                (first.map_err(|fault| self.end(fault))?, StartedFrom::Since)
            }
        })
    }

    fn end(&self, fault: Fault) -> End {
        match refusal(fault, &self.url, &self.config.subject, self.config.stream.as_deref()) {
            Ok(error) => self.refuse(error),
            Err(why) => {
                let said = self.connection.as_ref().and_then(Connection::said);
                End::Lost(said.map_or(why.clone(), |said| format!("{why}; the server says: {said}")))
            }
        }
    }

    /// Wrong at the start is wrong configuration; later somebody may be at work on the stream.
    fn refuse(&self, error: Error) -> End {
        if self.told.status.was_live() { End::Lost(error.to_string()) } else { End::Refused(error) }
    }

    fn regressed(&self, info: &StreamInfo, last: u64) -> Error {
        let read = self.course.as_ref().map_or(0, |course| course.tracker.next - 1);
        Error::Refused {
            url: self.url.clone(),
            what: format!(
                "stream {:?} ends at sequence {last}, but {read} was read already: the server has lost messages, and \
                 new ones would bear the numbers of old ones",
                info.config.name
            ),
            remedy: "create the stream again, under the same name or another: it then has an identity of its own"
                .into(),
        }
    }

    /// Reads until something ends it, and returns what.
    async fn read(&mut self, client: &async_nats::Client, from: &mut Deliveries, oldest: &AtomicU64) -> String {
        loop {
            if let Err(why) = from.ask(client, self.config.window as u64).await {
                return why;
            }
            let Some(connection) = &mut self.connection else { return "connection lost".to_owned() };
            let first = tokio::select! {
                biased;
                message = tokio::time::timeout(PATIENCE, from.subscription.next()) => message,
                why = connection.gone() => return why,
            };
            let first = match first {
                Ok(Some(message)) => message,
                Ok(None) => return "the subscription has ended".to_owned(),
                Err(_) => return format!("no heartbeat for {} s", PATIENCE.as_secs()),
            };
            let (batches, end) = self.gather(first, from, oldest);
            for batch in batches {
                self.handover.push(batch).await;
            }
            if let Some(why) = end {
                return why;
            }
        }
    }

    /// Takes the first message and what waits behind it.
    fn gather(&mut self, first: Message, from: &mut Deliveries, oldest: &AtomicU64) -> (Vec<Batch>, Option<String>) {
        let Some(course) = &mut self.course else { return (Vec::new(), Some("no course".to_owned())) };
        let status = &self.told.status;
        let mut silent = Gather::silent(course.stream);
        let mut gather = Gather::new(course.stream);
        course.tracker.oldest(oldest.load(Ordering::Relaxed));
        let mut next = Some(first);
        let mut end = None;
        while let Some(message) = next.take() {
            match from.sort(&message) {
                Sorted::Delivery(delivery) => {
                    status.pending.store(delivery.pending, Ordering::Relaxed);
                    match course.tracker.judge(&delivery) {
                        Verdict::Take => {
                            let is_silent = delivery.stream_sequence <= course.silent_through;
                            let into = if is_silent { &mut silent } else { &mut gather };
                            into.push(message, delivery.stream_sequence, delivery.stored_ns);
                        }
                        Verdict::Repeat => _ = status.repeats.fetch_add(1, Ordering::Relaxed),
                        Verdict::Missing => {
                            end = Some(format!("a message is missing, reading again from {}", course.tracker.next));
                        }
                    }
                }
                Sorted::Nothing => {}
                Sorted::End(why) => end = Some(why),
            }
            if end.is_none() && !gather.is_full(self.config.max_rows) && !silent.is_full(self.config.max_rows) {
                next = ready(&mut from.subscription).flatten();
            }
        }
        self.count();
        let mut batches = Vec::new();
        for gather in [silent, gather].into_iter().filter(|gather| gather.len() > 0) {
            self.told.status.took(gather.len() as u64, gather.bytes() as u64);
            batches.push(if self.config.trades {
                gather.decode_trades(self.config.format)
            } else {
                gather.decode(self.config.format, &self.config.options)
            });
        }
        (batches, end)
    }

    fn count(&self) {
        if let Some(Course { tracker, .. }) = &self.course {
            self.told.status.lost.store(tracker.lost, Ordering::Relaxed);
            self.told.status.lost_at_most.store(tracker.lost_at_most, Ordering::Relaxed);
        }
    }
}

/// What a message on the inbox is.
enum Sorted {
    Delivery(Delivery),
    /// A heartbeat, or the end of a pull request.
    Nothing,
    End(String),
}

impl Deliveries {
    /// Asks for `window` more as soon as half of them have come.
    async fn ask(&mut self, client: &async_nats::Client, window: u64) -> Result<(), String> {
        if self.outstanding > window / 2 {
            return Ok(());
        }
        let pull = Pull {
            batch: window,
            max_bytes: self.max_bytes,
            expires: nanoseconds(EXPIRES),
            idle_heartbeat: nanoseconds(HEARTBEAT),
        };
        api::pull(client, &self.stream, &self.consumer, &self.inbox, &pull).await?;
        self.outstanding += window;
        Ok(())
    }

    fn sort(&mut self, message: &Message) -> Sorted {
        let status = message.status.map_or(200, |status| status.as_u16());
        if status == 200 {
            self.outstanding = self.outstanding.saturating_sub(1);
            return match message.reply.as_ref().and_then(|reply| Delivery::parse(reply)) {
                Some(delivery) => Sorted::Delivery(delivery),
                None => Sorted::End("a delivery without a JetStream reply subject".to_owned()),
            };
        }
        let said = message.description.as_deref().unwrap_or_default();
        // 404 and 408: the request has ended. 409: so it has if it was for its size, else the consumer is in trouble.
        let ended = matches!(status, 404 | 408)
            || (status == 409 && (said.contains("Batch Completed") || said.contains("MaxBytes")));
        match status {
            100 => Sorted::Nothing,
            _ if ended => {
                let unsent = message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
                let unsent = unsent.and_then(|text| text.as_str().parse().ok()).unwrap_or(self.outstanding);
                self.outstanding = self.outstanding.saturating_sub(unsent);
                Sorted::Nothing
            }
            503 => Sorted::End("the consumer is gone".to_owned()),
            code => Sorted::End(format!("the server says: {said} ({code})")),
        }
    }
}

/// Whether every message of the stream is of this subject.
fn is_whole(info: &StreamInfo, subject: &str) -> bool {
    subject == ">"
        || (info.config.holds_its_subjects() && info.config.subjects.iter().all(|held| covers(subject, held)))
}

/// Keeps looking at which sequence is the oldest that the stream holds.
async fn watch_oldest(client: async_nats::Client, stream: String, oldest: Arc<AtomicU64>) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if let Ok(info) = api::stream_info(&client, &stream).await {
            oldest.store(info.state.first_seq, Ordering::Relaxed);
        }
    }
}
