//! The few requests of the JetStream API that are needed, in their wire form.
//!
//! Written out rather than taken from the library because the stream id needs `created` as the server wrote it, and
//! an ordered consumer must start where we say also when it is made again before its first message.
//!
//! Source: NATS documentation, "JetStream wire API Reference".

use crate::link::{chain, random};
use async_nats::{Client, RequestErrorKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Error numbers of the server that mean something to us.
mod number {
    pub const NOT_ENABLED: [u32; 2] = [10_039, 10_076];
    pub const STREAM_NAME_IN_USE: u32 = 10_058;
    pub const STREAM_NOT_FOUND: u32 = 10_059;
    pub const FILTER_NOT_IN_STREAM: u32 = 10_093;
}

/// The server deletes a consumer that was not used for this long.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(30);

/// What the server knows of a stream.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StreamInfo {
    pub(crate) config: StreamConfig,
    /// RFC 3339, as the server wrote it.
    pub(crate) created: String,
    pub(crate) state: StreamState,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamConfig {
    pub(crate) name: String,
    pub(crate) retention: String,
    pub(crate) subjects: Vec<String>,
    pub(crate) mirror: Option<serde_json::Value>,
    pub(crate) sources: Option<serde_json::Value>,
    pub(crate) subject_transform: Option<serde_json::Value>,
}

impl StreamConfig {
    /// Whether `subjects` are those of the messages it holds; not so if they come from another stream or are renamed.
    pub(crate) fn holds_its_subjects(&self) -> bool {
        self.mirror.is_none() && self.sources.is_none() && self.subject_transform.is_none()
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamState {
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
}

/// A stream to be created where it is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NewStream {
    /// Most bytes it holds before the oldest messages go; `None`: no limit.
    pub max_bytes: Option<u64>,
    /// Longest time a message stays; `None`: no limit.
    pub max_age: Option<Duration>,
}

/// Why a request brought nothing.
#[derive(Debug)]
pub(crate) enum Fault {
    /// No answer, or none of use; the next may be better.
    Unavailable(String),
    /// No stream of this name, or for this subject.
    NotFound,
    /// The server has no JetStream for us.
    NotEnabled,
    /// No message of the stream can have the subject.
    WrongSubject,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct StreamNames {
    #[serde(default)]
    streams: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Ignored {}

/// What the server says of a consumer that it has made.
#[derive(Deserialize)]
struct ConsumerInfo {
    /// The last message before its first; by stream and consumer.
    delivered: Delivered,
    /// Messages that wait for it.
    #[serde(default)]
    num_pending: u64,
}

#[derive(Deserialize)]
struct Delivered {
    #[serde(default)]
    stream_seq: u64,
}

/// A message of the stream, asked for by its sequence.
#[derive(Deserialize)]
struct Stored {
    message: StoredMessage,
}

#[derive(Deserialize)]
struct StoredMessage {
    /// RFC 3339.
    time: String,
}

async fn call<T: DeserializeOwned>(client: &Client, what: &str, body: &impl Serialize) -> Result<T, Fault> {
    let unavailable = |why: String| Fault::Unavailable(format!("JetStream {what}: {why}"));
    let body = serde_json::to_vec(body).map_err(|error| unavailable(error.to_string()))?;
    let answer = client.request(format!("$JS.API.{what}"), body.into()).await.map_err(|error| {
        if error.kind() == RequestErrorKind::NoResponders && !client.server_info().jetstream {
            return Fault::NotEnabled;
        }
        unavailable(chain(&error))
    })?;
    let checked: Answer = serde_json::from_slice(&answer.payload).map_err(|error| unavailable(error.to_string()))?;
    match checked.error {
        None => serde_json::from_slice(&answer.payload).map_err(|error| unavailable(error.to_string())),
        Some(AnswerError { err_code: number::STREAM_NOT_FOUND, .. }) => Err(Fault::NotFound),
        Some(AnswerError { err_code: number::FILTER_NOT_IN_STREAM, .. }) => Err(Fault::WrongSubject),
        Some(AnswerError { err_code, .. }) if number::NOT_ENABLED.contains(&err_code) => Err(Fault::NotEnabled),
        Some(AnswerError { err_code, description }) => Err(unavailable(format!("{description} ({err_code})"))),
    }
}

/// Returns what the server knows of a stream.
pub(crate) async fn stream_info(client: &Client, stream: &str) -> Result<StreamInfo, Fault> {
    call(client, &format!("STREAM.INFO.{stream}"), &serde_json::json!({})).await
}

/// Returns the names of the streams that have messages of this subject.
pub(crate) async fn streams_of(client: &Client, subject: &str) -> Result<Vec<String>, Fault> {
    let names: StreamNames = call(client, "STREAM.NAMES", &serde_json::json!({ "subject": subject })).await?;
    Ok(names.streams.unwrap_or_default())
}

/// Creates a stream with limits retention, on disk; one that has come into being meanwhile is left as it is.
pub(crate) async fn create_stream(client: &Client, stream: &str, subject: &str, new: NewStream) -> Result<(), Fault> {
    let bytes = new.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let body = serde_json::json!({
        "name": stream, "subjects": [subject], "retention": "limits", "storage": "file", "discard": "old",
        "max_bytes": bytes, "max_age": new.max_age.map_or(0, nanoseconds), "max_msgs": -1, "num_replicas": 1,
    });
    match call::<Ignored>(client, &format!("STREAM.CREATE.{stream}"), &body).await {
        Err(Fault::Unavailable(why)) if why.contains(&format!("({})", number::STREAM_NAME_IN_USE)) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Creates an ephemeral consumer without acknowledgements; returns its name, and how many messages wait for it.
pub(crate) async fn create_consumer(
    client: &Client,
    stream: &str,
    filter: Option<&str>,
    start: u64,
) -> Result<(String, u64), Fault> {
    let from = serde_json::json!({ "deliver_policy": "by_start_sequence", "opt_start_seq": start });
    let (name, info) = consumer(client, stream, filter, from).await?;
    Ok((name, info.num_pending))
}

/// Returns when a message was stored, ns since the Unix epoch; `None`: the stream no longer has it, or accounts like ours
/// may not ask.
pub(crate) async fn stored_ns(client: &Client, stream: &str, sequence: u64) -> Option<i64> {
    let (what, body) = (format!("STREAM.MSG.GET.{stream}"), serde_json::json!({ "seq": sequence }));
    let Stored { message: StoredMessage { time } } = call(client, &what, &body).await.ok()?;
    i64::try_from(OffsetDateTime::parse(&time, &Rfc3339).ok()?.unix_timestamp_nanos()).ok()
}

/// Returns the sequence of the first message that was stored at this time or later; the next one to come if none was.
pub(crate) async fn first_since(client: &Client, stream: &str, since_ns: i64) -> Result<u64, Fault> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(since_ns.into())
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .ok_or_else(|| Fault::Unavailable(format!("{since_ns} ns is no time that can be asked for")))?;
    // A consumer knows where it begins: nothing else of the server's answers this for all streams.
    let from = serde_json::json!({ "deliver_policy": "by_start_time", "opt_start_time": time });
    let (name, info) = consumer(client, stream, None, from).await?;
    delete_consumer(client, stream, &name).await;
    Ok(info.delivered.stream_seq + 1)
}

async fn consumer(
    client: &Client,
    stream: &str,
    filter: Option<&str>,
    from: serde_json::Value,
) -> Result<(String, ConsumerInfo), Fault> {
    let name = format!("tickcast-{:016x}", random());
    let mut config = serde_json::json!({
        "name": name, "ack_policy": "none", "replay_policy": "instant", "mem_storage": true, "num_replicas": 1,
        "inactive_threshold": nanoseconds(INACTIVE_THRESHOLD),
    });
    for (key, value) in from.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    let mut what = format!("CONSUMER.CREATE.{stream}.{name}");
    if let Some(filter) = filter {
        config["filter_subject"] = filter.into();
        what = format!("{what}.{filter}");
    }
    let body = serde_json::json!({ "stream_name": stream, "config": config });
    let info = call(client, &what, &body).await?;
    Ok((name, info))
}

/// Deletes a consumer; the server does so itself later if this doesn't reach it.
pub(crate) async fn delete_consumer(client: &Client, stream: &str, consumer: &str) {
    let _ = call::<Ignored>(client, &format!("CONSUMER.DELETE.{stream}.{consumer}"), &serde_json::json!({})).await;
}

/// Asks for the next messages of a consumer, to be sent to `inbox`.
pub(crate) async fn pull(
    client: &Client,
    stream: &str,
    consumer: &str,
    inbox: &str,
    pull: &Pull,
) -> Result<(), String> {
    let body = serde_json::to_vec(pull).map_err(|error| error.to_string())?;
    client
        .publish_with_reply(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"), inbox.to_owned(), body.into())
        .await
        .map_err(|error| chain(&error))
}

/// A pull request.
#[derive(Debug, Serialize)]
pub(crate) struct Pull {
    /// Most messages.
    pub(crate) batch: u64,
    /// Most bytes, protocol included.
    pub(crate) max_bytes: u64,
    /// How long the server holds the request, ns.
    pub(crate) expires: u64,
    /// The server says that it lives after this long without a message, ns.
    pub(crate) idle_heartbeat: u64,
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a delivered message stands, read off its reply subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) stream_sequence: u64,
    /// Counts the deliveries of this consumer from 1, without holes.
    pub(crate) consumer_sequence: u64,
    /// When the server stored it, ns since the Unix epoch.
    pub(crate) stored_ns: i64,
    /// How many wait behind it.
    pub(crate) pending: u64,
}

impl Delivery {
    /// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<time>.<pending>`, also in its longer form, where
    /// domain and account come before the stream and a token may follow at the end.
    pub(crate) fn parse(reply: &str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let tokens = rest.split('.').count();
        let skip = if tokens == 7 { 3 } else { 5 };
        let mut numbers = rest.split('.').skip(skip);
        if tokens != 7 && tokens < 9 {
            return None;
        }
        Some(Delivery {
            stream_sequence: numbers.next()?.parse().ok()?,
            consumer_sequence: numbers.next()?.parse().ok()?,
            stored_ns: numbers.next()?.parse().ok()?,
            pending: numbers.next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let expected = Some(Delivery {
            stream_sequence: 20,
            consumer_sequence: 3,
            stored_ns: 1_700_000_000_000_000_001,
            pending: 7,
        });
        for reply in [
            "$JS.ACK.TICKS.c1.1.20.3.1700000000000000001.7",
            "$JS.ACK.hub.AHASH.TICKS.c1.1.20.3.1700000000000000001.7",
            "$JS.ACK.hub.AHASH.TICKS.c1.1.20.3.1700000000000000001.7.random",
        ] {
            assert_eq!(Delivery::parse(reply), expected, "{reply}");
        }
        for reply in ["$JS.ACK.TICKS.c1.1.20.3.x.7", "$JS.ACK.TICKS.c1.1.20.3.4", "_INBOX.a.b", ""] {
            assert_eq!(Delivery::parse(reply), None, "{reply}");
        }
    }
}
