//! The messages around the trades, as `docs/protocol.md` has them.

use super::binary::Known;
use super::frame::{close_list, write_seqs};
use super::subscription::Subscription;
use crate::Status;
use crate::tape::{Snapshot, TapeReader};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The part of `hello` that is the same for every client of a tape, encoded once.
#[derive(Debug, Clone)]
pub struct Hello {
    epoch: String,
    heartbeat_ms: u64,
    rest: Vec<u8>,
    size: (usize, usize),
}

impl Hello {
    /// Encodes what this tape announces; `None`: there is no tape yet, the epoch is empty.
    pub fn new(reader: Option<&TapeReader>, heartbeat_ms: u64, server: &str) -> Self {
        let enrichments: Vec<Value> = reader
            .map(|r| r.enrichments().iter().map(|e| json!({"name": e.name, "unit": e.unit})).collect())
            .unwrap_or_default();
        let instruments = reader.map(|r| r.instruments(0)).unwrap_or_default();
        let reasons = reader.map(|r| r.reasons(0)).unwrap_or_default();
        let size = (instruments.len(), reasons.len());
        let mut rest = Vec::new();
        for (key, value) in [
            ("instruments", json!(instruments)),
            ("reasons", json!(reasons)),
            ("enrichments", json!(enrichments)),
            ("server", json!(server)),
        ] {
            rest.extend_from_slice(format!(",\"{key}\":{value}").as_bytes());
        }
        rest.push(b'}');
        Hello { epoch: reader.map(|r| epoch_text(r.epoch())).unwrap_or_default(), heartbeat_ms, rest, size }
    }

    /// Whether the tape's dictionaries have grown since.
    pub fn is_behind(&self, reader: &TapeReader) -> bool {
        self.size != (reader.instrument_count(), reader.reason_count())
    }

    /// What a client that got it knows of the dictionaries.
    pub fn known(&self) -> Known {
        Known { instruments: self.size.0 as u32, reasons: self.size.1 as u32 }
    }

    /// Returns the message for a client that comes now.
    pub fn message(&self, seq: u64) -> Vec<u8> {
        let Hello { epoch, heartbeat_ms, rest, .. } = self;
        let head = format!("{{\"type\":\"hello\",\"epoch\":\"{epoch}\",\"seq\":{seq},\"heartbeatMs\":{heartbeat_ms}");
        [head.as_bytes(), rest].concat()
    }
}

/// Returns an epoch as it is shown: 16 hex digits.
pub(crate) fn epoch_text(epoch: u64) -> String {
    format!("{epoch:016x}")
}

/// What a subscription got; what was not asked for is left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Granted<'a> {
    /// `tape`: every trade, `latest`: the newest of each instrument.
    pub mode: &'static str,
    /// Instruments wanted; `None`: all.
    pub instruments: Option<&'a [String]>,
    /// Names of the statuses wanted; `None`: all.
    pub status: Option<Vec<&'static str>>,
    /// First sequence that comes one by one.
    pub from_seq: u64,
    /// Whether a snapshot comes before.
    pub snapshot: bool,
    /// Most frames a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate_hz: Option<f64>,
    /// Bytes that may be under way without an `ack`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_bytes: Option<u32>,
    /// Whether times per stage come along.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stages: bool,
    /// How `trades` and `snapshot` are compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<&'static str>,
}

impl<'a> Granted<'a> {
    /// Says what `subscription` gets in the mode `tape`.
    pub fn new(subscription: &'a Subscription, from_seq: u64, snapshot: bool) -> Self {
        let status = subscription.statuses().map(|list| list.into_iter().map(Status::name).collect());
        Granted {
            mode: "tape",
            instruments: subscription.instruments(),
            status,
            from_seq,
            snapshot,
            max_rate_hz: None,
            ack_bytes: None,
            stages: false,
            compress: None,
        }
    }
}

/// Returns `subscribed`; `id` is the request's own, as JSON. Without `granted` the client gets no trades any more.
pub fn subscribed(id: Option<&str>, granted: Option<&Granted<'_>>) -> Vec<u8> {
    let id = id.map_or_else(String::new, |id| format!(",\"id\":{id}"));
    format!("{{\"type\":\"subscribed\"{id},\"granted\":{}}}", json!(granted)).into_bytes()
}

/// Returns `gap`: the sequences `from ..= to` don't come one by one.
pub fn gap(from: u64, to: u64, why: &str) -> Vec<u8> {
    format!("{{\"type\":\"gap\",\"from\":{from},\"to\":{to},\"why\":{}}}", json!(why)).into_bytes()
}

/// Returns `heartbeat`: everything up to `seq` was sent, or was not wanted.
pub fn heartbeat(seq: u64) -> Vec<u8> {
    format!("{{\"type\":\"heartbeat\",\"seq\":{seq}}}").into_bytes()
}

/// Returns `error`: something is wrong that the client should know of; the connection goes on.
pub fn error(code: &str, message: &str) -> Vec<u8> {
    format!("{{\"type\":\"error\",\"code\":{},\"message\":{}}}", json!(code), json!(message)).into_bytes()
}

/// Returns `status`: the source that feeds the processor; `since_ns` in ns since the Unix epoch.
pub fn status(source: &str, state: &str, since_ns: i64) -> Vec<u8> {
    let (source, state) = (json!(source), json!(state));
    format!("{{\"type\":\"status\",\"source\":{source},\"state\":{state},\"since\":\"{since_ns}\"}}").into_bytes()
}

/// Returns `bye`: the connection is about to be closed with `code`.
pub fn bye(code: u16, reason: &str, retry_after_ms: u64) -> Vec<u8> {
    format!("{{\"type\":\"bye\",\"code\":{code},\"reason\":{},\"retryAfterMs\":{retry_after_ms}}}", json!(reason))
        .into_bytes()
}

/// Returns `snapshot`: of each instrument wanted the newest VALID trade, ascending by sequence.
pub fn snapshot(snapshot: &Snapshot, subscription: &Subscription) -> Vec<u8> {
    let mut body =
        format!("{{\"type\":\"snapshot\",\"seq\":1,\"toSeq\":{},\"trades\":[", snapshot.to_seq()).into_bytes();
    // The protocol promises ascending sequences, the table is in order of codes.
    let mut by_seq = BTreeMap::new();
    if subscription.admits_status(Status::Valid) {
        let wanted = snapshot.iter().filter(|e| subscription.admits_instrument(e.trade().instrument_id));
        by_seq.extend(wanted.map(|entry| (entry.seq(), entry)));
    }
    for entry in by_seq.values() {
        snapshot.write_json(entry, &mut body);
        body.push(b',');
    }
    close_list(&mut body);
    write_seqs(&mut body, by_seq.keys().copied());
    body.push(b'}');
    body
}
