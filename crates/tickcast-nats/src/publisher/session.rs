//! The network side of a publisher.

use super::flights::Flights;
use super::{Fate, Outgoing, PublisherConfig, Window};
use crate::Error;
use crate::batch::{FORMAT_HEADER, ready};
use crate::echo::Echo;
use crate::jetstream::{find_stream, refusal};
use crate::link::{Connection, Denials, Link, chain};
use crate::nats::no_connection;
use crate::status::State;
use crate::subject::overlap;
use crate::thread::{End, Session, Told};
use async_nats::client::PublishErrorKind;
use async_nats::jetstream::ErrorCode;
use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Without any progress for so long while messages are under way the connection is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Header by which a stream knows a message again.
const ID_HEADER: &str = "Nats-Msg-Id";
/// What a stream says of a message, or of headers, that are larger than it takes.
const TOO_LARGE: [ErrorCode; 2] = [ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM, ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM];

pub(super) struct Sender {
    config: PublisherConfig,
    link: Link,
    url: String,
    told: Told,
    window: Arc<Window>,
    flights: Flights,
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    duplicate: bool,
    error: Option<AckError>,
}

#[derive(Deserialize)]
struct AckError {
    #[serde(default)]
    err_code: ErrorCode,
    #[serde(default)]
    description: String,
}

/// Why the library sent nothing.
enum Unsent {
    /// It never would: too large, or a subject that is none.
    Refused(String),
    /// There is no connection.
    Gone(String),
}

impl Session for Sender {
    async fn run(&mut self) -> End {
        let mut connection = match self.link.connect().await {
            Ok(connection) => connection,
            Err(why) => return no_connection(why, self.told.status.was_live(), &self.url),
        };
        if self.config.jetstream
            && let Err(end) = self.check_stream(&connection.client).await
        {
            return end;
        }
        self.told.enter(State::Live, format!("connected to {}", self.link.shown()));
        let why = match self.config.jetstream {
            true => self.with_acks(&mut connection).await,
            false => self.with_echoes(&mut connection).await,
        };
        End::Lost(why)
    }

    async fn close(&mut self) {}
}

impl Sender {
    pub(super) fn new(config: PublisherConfig, link: Link, url: String, told: Told, window: Arc<Window>) -> Self {
        Sender { config, link, url, told, window, flights: Flights::default() }
    }

    /// Makes sure that a stream takes the subject.
    async fn check_stream(&self, client: &Client) -> Result<(), End> {
        let (subject, stream) = (self.config.subject.as_str(), self.config.stream.as_deref());
        let refuse = |error: Error| {
            if self.told.status.was_live() { End::Lost(error.to_string()) } else { End::Refused(error) }
        };
        let info = find_stream(client, subject, stream, self.config.create).await.map_err(|fault| {
            match refusal(fault, &self.url, subject, stream) {
                Ok(error) => refuse(error),
                Err(why) => End::Lost(why),
            }
        })?;
        if info.config.subjects.iter().any(|held| overlap(held, subject)) || !info.config.holds_its_subjects() {
            return Ok(());
        }
        Err(refuse(Error::Refused {
            url: self.url.clone(),
            what: format!(
                "stream {:?} takes the subjects {:?}, not {subject:?}",
                info.config.name, info.config.subjects
            ),
            remedy: "correct the subject, or add it to the stream's".into(),
        }))
    }

    /// Core NATS: what was sent is confirmed by a round trip behind it.
    async fn with_echoes(&mut self, connection: &mut Connection) -> String {
        let client = connection.client.clone();
        let mut echo = match Echo::new(&client).await {
            Ok(echo) => echo,
            Err(why) => return why,
        };
        loop {
            let (first, messages) = self.window.take();
            if messages.is_empty() {
                tokio::select! {
                    () = self.window.work.notified() => continue,
                    why = connection.gone() => return why,
                }
            }
            let mut fates: Vec<Fate> = (0..messages.len()).map(|_| Fate::Unconfirmed).collect();
            let subjects: Vec<Option<Arc<str>>> = messages.iter().map(|message| message.subject.clone()).collect();
            let sent = tokio::time::timeout(PATIENCE, self.send_all(&client, messages)).await;
            let result = match sent {
                Ok(sent) => echo.round(connection, PATIENCE).await.map(|_| fates = sent),
                Err(_) => Err("the connection takes nothing".to_owned()),
            };
            let denials = connection.take_denials().await;
            self.fail_denied(&mut fates, &subjects, &denials, &echo);
            self.window.settle((first..).zip(fates));
            if let Err(why) = result {
                return why;
            }
        }
    }

    /// Fails what may not be published, of which a round trip tells nothing; all where it is not clear what that is.
    fn fail_denied(&self, fates: &mut [Fate], subjects: &[Option<Arc<str>>], denials: &Denials, echo: &Echo) {
        let subjects = || subjects.iter().map(|own| own.as_deref().unwrap_or(&self.config.subject));
        let all = denials.unclear(|denied| echo.owns(denied) || subjects().any(|subject| subject == denied));
        for (fate, subject) in fates.iter_mut().zip(subjects()) {
            if let Some(said) = all.or_else(|| denials.of(subject)) {
                *fate = Fate::Failed { why: format!("the server says: {said}"), for_good: false };
            }
        }
    }

    /// Sends messages and returns what becomes of them if the server takes in what was sent.
    async fn send_all(&self, client: &Client, messages: impl IntoIterator<Item = Outgoing>) -> Vec<Fate> {
        let mut fates = Vec::new();
        for message in messages {
            fates.push(match self.send(client, &message, None).await {
                Ok(()) => Fate::Confirmed { duplicate: false },
                Err(Unsent::Refused(why)) => Fate::Failed { why, for_good: true },
                Err(Unsent::Gone(_)) => Fate::Unconfirmed,
            });
        }
        fates
    }

    /// JetStream: each message is confirmed by itself.
    async fn with_acks(&mut self, connection: &mut Connection) -> String {
        let client = connection.client.clone();
        let inbox = client.new_inbox();
        let mut acks = match client.subscribe(format!("{inbox}.*")).await {
            Ok(acks) => acks,
            Err(error) => return chain(&error),
        };
        // What the last connection left unsettled, before anything new.
        let (mut numbers, fates) = self.flights.again();
        self.window.settle(fates);
        let mut progress = Instant::now();
        loop {
            if self.flights.is_empty() {
                progress = Instant::now();
            }
            // All of them are accounted for before the first is sent: sending may end half way.
            let (_, messages) = self.window.take();
            numbers.extend(messages.into_iter().map(|message| self.flights.add(message)));
            let sent = tokio::select! {
                sent = self.send_flights(&client, &inbox, std::mem::take(&mut numbers)) => sent,
                why = connection.gone() => Err(why),
            };
            if let Err(why) = sent {
                return why;
            }
            let patience = if self.flights.is_empty() { Duration::MAX } else { PATIENCE };
            tokio::select! {
                biased;
                ack = acks.next() => {
                    let Some(ack) = ack else { return "the subscription has ended".to_owned() };
                    progress = Instant::now();
                    if self.settle(ack, &mut acks) {
                        return "no stream answers".to_owned();
                    }
                }
                () = self.window.work.notified() => {}
                why = connection.gone() => return why,
                () = tokio::time::sleep(patience.saturating_sub(progress.elapsed())) => {
                    let said = connection.said().map_or(String::new(), |said| format!("; the server says: {said}"));
                    return format!("no acknowledgement for {} s{said}", PATIENCE.as_secs());
                }
            }
        }
    }

    /// Sends messages under way; may be dropped at any point.
    async fn send_flights(&mut self, client: &Client, inbox: &str, numbers: Vec<u64>) -> Result<(), String> {
        for number in numbers {
            let Some(message) = self.flights.send(number).cloned() else { continue };
            match self.send(client, &message, Some(format!("{inbox}.{number}"))).await {
                Ok(()) => {}
                Err(Unsent::Refused(why)) => {
                    if self.flights.settle(number) {
                        self.window.settle([(number, Fate::Failed { why, for_good: true })]);
                    }
                }
                Err(Unsent::Gone(why)) => return Err(why),
            }
        }
        Ok(())
    }

    async fn send(&self, client: &Client, message: &Outgoing, reply: Option<String>) -> Result<(), Unsent> {
        let subject = message.subject.as_deref().unwrap_or(&self.config.subject).to_owned();
        let payload = message.payload.clone().into();
        let headers = self.headers(message);
        let sent = match (reply, headers) {
            (Some(reply), Some(headers)) => {
                client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            }
            (Some(reply), None) => client.publish_with_reply(subject, reply, payload).await,
            (None, Some(headers)) => client.publish_with_headers(subject, headers, payload).await,
            (None, None) => client.publish(subject, payload).await,
        };
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::Send => Unsent::Gone(chain(&error)),
            _ => Unsent::Refused(chain(&error)),
        })
    }

    fn headers(&self, message: &Outgoing) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        if let Some(format) = self.config.format {
            headers.insert(FORMAT_HEADER, format.name());
        }
        if let Some(id) = &message.message_id {
            headers.insert(ID_HEADER, id.as_str());
        }
        for (name, value) in message.headers.iter() {
            headers.append(header_name(name).as_ref(), header_value(value).as_ref());
        }
        (!headers.is_empty()).then_some(headers)
    }

    /// Settles what was acknowledged, all that is there; true if no stream answers.
    fn settle(&mut self, first: Message, acks: &mut Subscriber) -> bool {
        let mut fates = Vec::new();
        let mut refused = false;
        let mut next = Some(first);
        while let Some(ack) = next.take() {
            let number = ack.subject.rsplit('.').next().and_then(|token| token.parse().ok());
            if let Some(number) = number {
                match fate(&ack) {
                    Some(fate) => fates.extend(self.flights.settle(number).then_some((number, fate))),
                    None => {
                        refused = true;
                        fates.extend(self.flights.refused(number).map(|fate| (number, fate)));
                    }
                }
            }
            if fates.len() < self.config.window {
                next = ready(acks).flatten();
            }
        }
        self.window.settle(fates);
        refused
    }
}

/// A name that the library takes, which ends the thread at any other; headers may come from another queue.
///
/// Source: ADR-4 of NATS, "NATS Message Headers": printable ASCII without a colon.
fn header_name(name: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_graphic() && c != ':';
    match name.chars().all(fits) && !name.is_empty() {
        true => Cow::Borrowed(name),
        false if name.is_empty() => Cow::Borrowed("_"),
        false => Cow::Owned(name.replace(|c| !fits(c), "_")),
    }
}

/// A value on one line.
fn header_value(value: &str) -> Cow<'_, str> {
    match value.contains(['\r', '\n']) {
        true => Cow::Owned(value.replace(['\r', '\n'], " ")),
        false => Cow::Borrowed(value),
    }
}

/// Reads an acknowledgement; `None`: no stream answered.
fn fate(ack: &Message) -> Option<Fate> {
    if ack.status.is_some_and(|status| status.as_u16() == 503) {
        return None;
    }
    Some(match serde_json::from_slice::<Ack>(&ack.payload) {
        Ok(Ack { error: None, duplicate }) => Fate::Confirmed { duplicate },
        Ok(Ack { error: Some(error), .. }) => {
            Fate::Failed { for_good: TOO_LARGE.contains(&error.err_code), why: error.description }
        }
        Err(error) => Fate::Failed { why: format!("an acknowledgement that is none: {error}"), for_good: false },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_header_is_one_that_the_library_takes(name: String, value: String, lines in "\\PC\r?\n\\PC") {
            for value in [value, lines] {
                let mut headers = HeaderMap::new();
                headers.append(header_name(&name).as_ref(), header_value(&value).as_ref());
                prop_assert_eq!(headers.len(), 1);
            }
        }

        #[test]
        fn a_header_that_the_library_takes_stays_as_it_is(name in "[!-9;-~]{1,20}", value in "[^\r\n]{0,20}") {
            prop_assert_eq!(header_name(&name), &*name);
            prop_assert_eq!(header_value(&value), &*value);
        }
    }
}
