//! A JetStream stream as a source: an ordered consumer that reads on from a position.
//!
//! ## Why not a durable consumer
//! A durable redelivers out of order after its ack wait. Here the consumer is ephemeral, acknowledges nothing, and is
//! made again at the next sequence after any trouble; the position is ours to keep, on the tape, and in key-value
//! under the name [`JetStreamConfig::durable`] for where there is no tape.
//!
//! ## Back-pressure
//! Messages are pulled: at most about twice `window` of them are under way or wait, then the stream keeps them.
//!
//! ## Holes
//! The consumer's own numbering has no holes, so a missing message is noticed and read again. A hole in the stream's
//! numbering alone is what the server no longer has: see the crate's documentation for how it is counted.

mod api;
mod durable;
mod reader;
mod resume;

pub use api::NewStream;
pub use resume::{Start, Started, StartedFrom};

use crate::handover::Handover;
use crate::link::Link;
use crate::nats::{check, new_handover, take};
use crate::status::{Health, Meters, Status, lock};
use crate::thread::{Thread, Told};
use crate::{Batch, Error, Result, Servers};
pub(crate) use api::{Fault, create_stream, stream_info, streams_of};
use durable::{Durable, Saved};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tickcast_core::Position;
use tickcast_core::decode::{Format, Options};

/// What to read from JetStream.
#[derive(Debug, Clone)]
pub struct JetStreamConfig {
    /// The servers.
    pub servers: Servers,
    /// Subject, wildcards allowed; where it leaves out some of the stream's, only the others' messages are read.
    pub subject: String,
    /// Name of the stream; `None`: the only one that has messages of the subject.
    pub stream: Option<String>,
    /// Name under which the position is kept in key-value; `None`: it isn't.
    pub durable: Option<String>,
    /// Where to start when no position is known.
    pub start: Start,
    /// Positions that were read last; those of other streams are ignored.
    pub positions: Vec<Position>,
    /// What is still at hand of what lies before them, to fill windows with; `None`: nobody fills any.
    pub at_hand: Option<AtHand>,
    /// Create the stream with these limits if it is absent; `None`: that is an error.
    pub create: Option<NewStream>,
    /// Format of messages that don't name theirs; `None`: detect.
    pub format: Option<Format>,
    /// How numbers are taken.
    pub options: Options,
    /// The messages hold judged trades, not ticks.
    pub trades: bool,
    /// Ticks that are decoded ahead, about; at least 1.
    pub max_rows: usize,
    /// Messages that are asked for at a time; at least 1.
    pub window: usize,
}

/// What a processor that comes back has to fill its windows with, and what it needs.
#[derive(Debug, Clone, Default)]
pub struct AtHand {
    /// First position of each stream that the tape still has.
    pub oldest: Vec<Position>,
    /// How far back windows and rules need ticks, ns.
    pub reach_ns: i64,
}

/// An ordered reader of a JetStream stream.
///
/// May be used from any thread; one thread pulls.
pub struct JetStreamSource {
    url: String,
    status: Arc<Status>,
    handover: Arc<Handover>,
    durable: Option<Arc<Durable>>,
    loaded: Arc<Mutex<Loaded>>,
    thread: Thread,
}

/// What is known once the source has found its stream.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Loaded {
    started: Option<Started>,
    /// The position that was saved for this stream when the source started.
    saved: Option<(u64, u16)>,
    /// From where the windows can be had again that stood where it began to read; `None`: not known.
    lowest: Option<u64>,
    /// It begins before a given position: what is at hand does not reach as far back as the windows.
    anew: bool,
    /// Id of the stream that is read now.
    stream: u32,
    /// How many messages waited where it began to read.
    waiting: Option<u64>,
}

impl JetStreamSource {
    /// Starts to connect; doesn't wait for it.
    ///
    /// # Errors
    /// [`Error::Config`] for a value that is not allowed, [`Error::System`] if there is no thread or pipe to be had.
    pub fn open(config: JetStreamConfig) -> Result<Self> {
        check(&config.subject, config.max_rows, config.window)?;
        check_names(config.stream.as_deref(), config.durable.as_deref())?;
        let link = Link::new(config.servers.clone(), config.window.saturating_mul(4).max(1024))?;
        let url = url(&link, &config.subject, config.stream.as_deref());
        let status = Arc::new(Status::new(format!("connecting to {}", link.shown())));
        let handover = new_handover(&url, config.max_rows)?;
        let told = Told { status: Arc::clone(&status), handover: Some(Arc::clone(&handover)), also: None };
        let durable = config.durable.clone().map(|name| Arc::new(Durable::new(name)));
        let loaded = Arc::new(Mutex::new(Loaded::default()));
        let reader = reader::Reader::new(
            config,
            link,
            url.clone(),
            told.clone(),
            Arc::clone(&handover),
            durable.clone(),
            Arc::clone(&loaded),
        );
        let thread = Thread::start(&url, reader, told)?;
        Ok(JetStreamSource { url, status, handover, durable, loaded, thread })
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

    /// Descriptor that is readable while [`JetStreamSource::poll`] has something to return or the state has changed.
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

    /// Where it started; `None` until it has found its stream.
    pub fn started(&self) -> Option<Started> {
        lock(&self.loaded).started
    }

    /// Whether it begins so far before the given position that all of the windows is read again, as what is at hand does
    /// not reach as far back; false also until it has found its stream.
    pub fn begins_anew(&self) -> bool {
        lock(&self.loaded).anew
    }

    /// How many messages waited where it began to read, those that only fill windows among them; `None` until it has.
    pub fn waiting(&self) -> Option<u64> {
        lock(&self.loaded).waiting
    }

    /// The position (stream sequence, index within the message) that was saved for this stream under the durable name
    /// when the source started; `None` also until it has found its stream.
    pub fn load_position(&self) -> Option<(u64, u16)> {
        lock(&self.loaded).saved
    }

    /// Saves a position under the durable name: to be called once the tape has everything up to it.
    ///
    /// Returns at once; the network thread writes the newest position, a few times a second at most and when the
    /// source is closed. A position before the last one is ignored, and so is one of another stream, such as of the
    /// one that had this name before, and everything where there is no durable name or no stream was found yet.
    pub fn save_position(&self, stream: u32, sequence: u64, index: u16, lowest: Option<u64>) {
        let loaded = { *lock(&self.loaded) };
        if let (Some(durable), Some(_)) = (&self.durable, loaded.started)
            && stream == loaded.stream
        {
            // What the windows need where the source began to read is all that they need later.
            let lowest = lowest.or(loaded.lowest);
            durable.save(Saved { stream, sequence, index, lowest });
        }
    }

    /// The position (stream sequence, index) that key-value is known to hold.
    pub fn saved_position(&self) -> Option<(u64, u16)> {
        self.durable.as_ref()?.written().map(|saved| (saved.sequence, saved.index))
    }

    /// Why the position could not be saved at the last attempt, if so; it is tried again.
    pub fn save_trouble(&self) -> Option<String> {
        self.durable.as_ref()?.trouble()
    }

    /// Writes the last position (waiting 2 s at most), ends the thread and waits for it; what was not taken will be
    /// read again.
    pub fn close(&self) {
        self.thread.close();
    }
}

fn check_names(stream: Option<&str>, durable: Option<&str>) -> Result<()> {
    if let Some(name) = stream.filter(|name| !is_stream_name(name)) {
        let allowed = "a name without spaces, dots, *, >, / and \\";
        return Err(Error::Config { key: "stream", value: name.to_owned(), allowed });
    }
    if let Some(name) = durable.filter(|name| !Durable::is_valid_name(name)) {
        let allowed = "letters, digits, and - _ = / . (not at the ends)";
        return Err(Error::Config { key: "durable", value: name.to_owned(), allowed });
    }
    Ok(())
}

pub(crate) fn is_stream_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\');
    !name.is_empty() && !name.contains(bad)
}

pub(crate) fn url(link: &Link, subject: &str, stream: Option<&str>) -> String {
    let stream = stream.map_or(String::new(), |name| format!("?stream={name}"));
    format!("jetstream://{}/{subject}{stream}", link.shown())
}

/// Finds the stream, or creates it.
///
/// # Errors
/// [`Fault`]; [`Fault::NotFound`] also if the name is not given and no stream, or more than one, has the subject.
pub(crate) async fn find_stream(
    client: &async_nats::Client,
    subject: &str,
    stream: Option<&str>,
    create: Option<NewStream>,
) -> std::result::Result<api::StreamInfo, Fault> {
    let name = match stream {
        Some(name) => name.to_owned(),
        None => match streams_of(client, subject).await?.as_slice() {
            [only] => only.clone(),
            _ => return Err(Fault::NotFound),
        },
    };
    match (stream_info(client, &name).await, create) {
        (Err(Fault::NotFound), Some(new)) => {
            create_stream(client, &name, subject, new).await?;
            stream_info(client, &name).await
        }
        (found, _) => found,
    }
}

/// Says what a fault means for whoever configured the source or sink.
///
/// # Errors
/// Why it is worth trying again.
pub(crate) fn refusal(
    fault: Fault,
    url: &str,
    subject: &str,
    stream: Option<&str>,
) -> std::result::Result<Error, String> {
    let (what, remedy) = match (fault, stream) {
        (Fault::Unavailable(why), _) => return Err(why),
        (Fault::NotFound, Some(name)) => (
            format!("there is no stream {name:?}"),
            format!("create it (nats stream add {name} --subjects '{subject}' --retention limits)"),
        ),
        (Fault::NotFound, None) => {
            (format!("not exactly one stream has the subject {subject:?}"), "name one with stream=NAME".to_owned())
        }
        (Fault::NotEnabled, _) => (
            "the server has no JetStream for this account".to_owned(),
            "start nats-server with -js, or enable it for the account; or use nats:// instead".to_owned(),
        ),
        (Fault::WrongSubject, _) => (
            format!("no message of the stream can have the subject {subject:?}"),
            "correct the subject, or add it to the stream's".to_owned(),
        ),
    };
    Ok(Error::Refused { url: url.to_owned(), what, remedy })
}
