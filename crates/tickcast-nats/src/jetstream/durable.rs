//! The position under a durable name, in JetStream key-value: bucket `tickcast`, key the name, value JSON
//! `{"stream":"<8 hex digits>","sequence":<last stream sequence on the tape>,"index":<within the message>,
//! "lowest":<sequence from which the windows that stood there can be had again>}`.

use crate::link::{REQUEST_TIMEOUT, chain};
use crate::status::lock;
use async_nats::Client;
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::{self, context::KeyValueErrorKind};
use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;

/// The bucket; one for all.
const BUCKET: &str = "tickcast";
/// Shortest pause between two writes: what is saved in between is overtaken anyway.
const PAUSE: Duration = Duration::from_millis(100);

/// Pause after an attempt that failed.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_secs(1);

/// A saved position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Saved {
    pub(crate) stream: u32,
    pub(crate) sequence: u64,
    pub(crate) index: u16,
    /// From where the windows that stood there can be had again; `None`: not known.
    pub(crate) lowest: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Value {
    stream: String,
    sequence: u64,
    index: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lowest: Option<u64>,
}

/// The position to be kept: set by the owner, written by the network thread, the newest only.
pub(crate) struct Durable {
    name: String,
    wanted: watch::Sender<Option<Saved>>,
    written: Mutex<Option<Saved>>,
    trouble: Mutex<Option<String>>,
}

impl Durable {
    pub(crate) fn new(name: String) -> Self {
        Durable { name, wanted: watch::Sender::new(None), written: Mutex::new(None), trouble: Mutex::new(None) }
    }

    /// Whether a key may be called so.
    pub(crate) fn is_valid_name(name: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | '/' | '.');
        !name.is_empty() && name.chars().all(plain) && !name.starts_with('.') && !name.ends_with('.')
    }

    /// Asks for a position to be written; an earlier one of the same stream changes nothing.
    pub(crate) fn save(&self, saved: Saved) {
        self.wanted.send_if_modified(|wanted| {
            let behind = wanted.is_some_and(|held| held.stream == saved.stream && held >= saved);
            if !behind {
                *wanted = Some(saved);
            }
            !behind
        });
    }

    /// The position that is known to be written.
    pub(crate) fn written(&self) -> Option<Saved> {
        *lock(&self.written)
    }

    /// Why the last attempt to write failed, if it did.
    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Reads the saved position; creates the bucket where it is absent.
    pub(crate) async fn load(&self, client: &Client) -> Result<Option<Saved>, String> {
        let failed = |why: String| format!("cannot read position {:?} in bucket {BUCKET:?}: {why}", self.name);
        let store = store(client).await.map_err(failed)?;
        let bytes = store.get(self.name.as_str()).await.map_err(|error| failed(chain(&error)))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        let stream = u32::from_str_radix(&value.stream, 16).map_err(|error| failed(error.to_string()))?;
        let saved = Saved { stream, sequence: value.sequence, index: value.index, lowest: value.lowest };
        *lock(&self.written) = Some(saved);
        Ok(Some(saved))
    }

    /// Writes what is asked for, as long as it is polled.
    pub(crate) async fn keep(&self, client: &Client) {
        let mut wanted = self.wanted.subscribe();
        wanted.mark_changed();
        while wanted.changed().await.is_ok() {
            wanted.borrow_and_update();
            if self.flush(client).await.is_err() {
                wanted.mark_changed();
                tokio::time::sleep(PAUSE_AFTER_TROUBLE).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes what is asked for and not yet written.
    pub(crate) async fn flush(&self, client: &Client) -> Result<(), String> {
        let wanted = *self.wanted.borrow();
        let Some(saved) = wanted.filter(|saved| self.written() != Some(*saved)) else { return Ok(()) };
        let result = self.write(client, saved).await;
        match &result {
            Ok(()) => {
                *lock(&self.written) = Some(saved);
                *lock(&self.trouble) = None;
            }
            Err(why) => *lock(&self.trouble) = Some(why.clone()),
        }
        result
    }

    async fn write(&self, client: &Client, saved: Saved) -> Result<(), String> {
        let failed = |why: String| format!("cannot save position {:?} in bucket {BUCKET:?}: {why}", self.name);
        let Saved { stream, sequence, index, lowest } = saved;
        let value = Value { stream: format!("{stream:08x}"), sequence, index, lowest };
        let bytes = serde_json::to_vec(&value).map_err(|error| failed(error.to_string()))?;
        let store = store(client).await.map_err(failed)?;
        store.put(&self.name, bytes.into()).await.map(|_| ()).map_err(|error| failed(chain(&error)))
    }
}

async fn store(client: &Client) -> Result<Store, String> {
    let context = jetstream::context::ContextBuilder::new().timeout(REQUEST_TIMEOUT).build(client.clone());
    match context.get_key_value(BUCKET).await {
        Ok(store) => Ok(store),
        Err(error) if error.kind() == KeyValueErrorKind::GetBucket => {
            let config = jetstream::kv::Config {
                bucket: BUCKET.into(),
                description: "tickcast: positions of its sources".into(),
                history: 1,
                ..Default::default()
            };
            context.create_key_value(config).await.map_err(|error| chain(&error))
        }
        Err(error) => Err(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_only_move_on_within_a_stream() {
        let durable = Durable::new("desk".into());
        let at = |stream, sequence| Saved { stream, sequence, index: u16::MAX, lowest: None };
        for (saved, wanted) in [(at(1, 5), at(1, 5)), (at(1, 3), at(1, 5)), (at(1, 6), at(1, 6)), (at(2, 1), at(2, 1))]
        {
            durable.save(saved);
            assert_eq!(*durable.wanted.borrow(), Some(wanted));
        }
    }

    #[test]
    fn names_are_those_of_keys() {
        assert!(Durable::is_valid_name("desk-1.eu/west_2"));
        for bad in ["", ".a", "a.", "a b", "a*", "ü"] {
            assert!(!Durable::is_valid_name(bad), "{bad:?}");
        }
    }
}
