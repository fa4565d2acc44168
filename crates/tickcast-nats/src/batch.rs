//! Messages to decoded batches, and batches put together.

use crate::status::now_ns;
use async_nats::{HeaderMap, Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use tickcast_core::Decoded;
use tickcast_core::decode::trades::{TradeBatch, decode_trades};
use tickcast_core::decode::{Format, Options, decode};
use tickcast_core::position::Origin;

/// Header that names the format of a payload: `proto`, `proto-batch` or `json`.
pub(crate) const FORMAT_HEADER: &str = "tickcast-format";
/// Header with a W3C trace context.
const TRACE_HEADER: &str = "traceparent";
/// Header that names the rule set of a judged trade.
const RULES_HEADER: &str = "tickcast-rules";

/// Decoded ticks with where their messages came from.
#[derive(Debug, Default)]
pub struct Batch {
    /// The ticks, and what could not be decoded; both name the message they came from.
    pub decoded: Decoded,
    /// What else the messages had that could not be decoded: one for each entry of `decoded.undecodable`.
    pub letters: Vec<Letter>,
    /// Judged trades, where that is what the messages hold.
    pub trades: TradeBatch,
    /// One entry for each message.
    pub origin: Origin,
}

/// What a message had besides its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The subject that it came by.
    pub subject: String,
    /// Its headers by name; those of one name in their order.
    pub headers: Vec<(String, String)>,
}

impl Letter {
    fn of(message: &Message) -> Self {
        let values = message.headers.iter().flat_map(HeaderMap::iter);
        let mut headers: Vec<(String, String)> = values
            .flat_map(|(name, values)| values.iter().map(|value| (name.to_string(), value.as_str().to_owned())))
            .collect();
        // The library keeps them in no order.
        headers.sort_by(|(one, _), (other, _)| one.cmp(other));
        Letter { subject: message.subject.to_string(), headers }
    }
}

impl Batch {
    /// Rows that it counts for: ticks and undecodable elements, at least one for each message.
    pub(crate) fn rows(&self) -> usize {
        let ticks = self.decoded.ticks.len() + self.decoded.undecodable.len();
        (ticks + self.trades.rows.len()).max(self.origin.offset.len())
    }

    /// Whether `next` may follow in the same batch.
    pub(crate) fn takes(&self, next: &Batch) -> bool {
        let of = |origin: &Origin| (origin.stream, origin.silent);
        of(&self.origin) == of(&next.origin)
    }

    /// Puts `next` behind.
    pub(crate) fn append(&mut self, next: Batch) {
        let base = self.origin.offset.len() as u32;
        let (into, from) = (&mut self.decoded.ticks, next.decoded.ticks);
        let codes: Vec<u32> = from.names.iter().map(|name| into.names.intern(name)).collect();
        into.instrument.extend(from.instrument.iter().map(|&code| codes[code as usize]));
        into.price.extend_from_slice(&from.price);
        into.volume.extend_from_slice(&from.volume);
        into.timestamp_ns.extend_from_slice(&from.timestamp_ns);
        into.message.extend(from.message.iter().map(|message| base + message));
        into.index.extend_from_slice(&from.index);
        self.decoded.undecodable.extend(next.decoded.undecodable.into_iter().map(|mut bad| {
            bad.message += base;
            bad
        }));
        self.letters.extend(next.letters);
        self.trades.append(next.trades, base);
        self.origin.offset.extend_from_slice(&next.origin.offset);
        self.origin.arrival_ns.extend_from_slice(&next.origin.arrival_ns);
        self.origin.broker_ns.extend_from_slice(&next.origin.broker_ns);
        let traces = next.origin.traceparents.into_iter().map(|(message, trace)| (base + message, trace));
        self.origin.traceparents.extend(traces);
    }
}

/// Messages gathered for one decode call.
pub(crate) struct Gather {
    messages: Vec<Message>,
    origin: Origin,
    bytes: usize,
}

impl Gather {
    pub(crate) fn new(stream: u32) -> Self {
        Gather { messages: Vec::new(), origin: Origin::new(stream, 0), bytes: 0 }
    }

    /// Gathers what only fills the windows.
    pub(crate) fn silent(stream: u32) -> Self {
        let mut gather = Gather::new(stream);
        gather.origin.silent = true;
        gather
    }

    pub(crate) fn push(&mut self, message: Message, offset: u64, broker_ns: i64) {
        self.bytes += message.payload.len();
        if let Some(trace) = named(&message, TRACE_HEADER) {
            self.origin.traceparents.push((self.messages.len() as u32, trace.to_owned()));
        }
        self.origin.push(offset, now_ns(), broker_ns);
        self.messages.push(message);
    }

    /// Whether a batch of about `max_rows` ticks is together; a tick takes 24 bytes at the very least.
    pub(crate) fn is_full(&self, max_rows: usize) -> bool {
        self.messages.len() >= max_rows || self.bytes >= max_rows.saturating_mul(24)
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Decodes what was gathered; `format` is that of messages that don't name theirs.
    pub(crate) fn decode(self, format: Option<Format>, options: &Options) -> Batch {
        let payloads =
            self.messages.iter().map(|message| (stated_format(message).or(format), message.payload.as_ref()));
        let decoded = decode(payloads, options);
        let letters = decoded.undecodable.iter().map(|bad| Letter::of(&self.messages[bad.message as usize])).collect();
        Batch { decoded, letters, origin: self.origin, ..Batch::default() }
    }

    /// Decodes what was gathered as judged trades.
    pub(crate) fn decode_trades(self, format: Option<Format>) -> Batch {
        let payloads = self.messages.iter().map(|message| {
            let rules = named(message, RULES_HEADER).unwrap_or_default();
            (stated_format(message).or(format), rules, message.payload.as_ref())
        });
        Batch { trades: decode_trades(payloads), origin: self.origin, ..Batch::default() }
    }
}

fn named<'m>(message: &'m Message, header: &str) -> Option<&'m str> {
    message.headers.as_ref().and_then(|headers| headers.get(header)).map(|value| value.as_str())
}

fn stated_format(message: &Message) -> Option<Format> {
    named(message, FORMAT_HEADER).and_then(Format::from_name)
}

/// Returns the next message if it is there already; `Some(None)`: the subscription has ended.
///
/// Without tokio's budget, which would end a batch after 128 messages.
pub(crate) fn ready(subscription: &mut Subscriber) -> Option<Option<Message>> {
    tokio::task::unconstrained(subscription.next()).now_or_never()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickcast_core::TickBatch;

    fn batch(stream: u32, offset: u64, ids: &[&str]) -> Batch {
        let mut ticks = TickBatch::default();
        let mut origin = Origin::new(stream, 0);
        for (i, id) in ids.iter().enumerate() {
            ticks.push(id, offset as f64, 1, 1, i as u32, 0);
            origin.push(offset + i as u64, 5, 6);
        }
        Batch { decoded: Decoded { ticks, undecodable: Vec::new() }, origin, ..Batch::default() }
    }

    #[test]
    fn appended_batches_keep_ids_and_positions() {
        let mut all = batch(1, 10, &["AAA", "BBB"]);
        all.append(batch(1, 12, &["BBB", "CCC"]));
        let ticks = &all.decoded.ticks;
        let ids: Vec<&str> = (0..ticks.len()).map(|row| ticks.id(row)).collect();
        assert_eq!(ids, ["AAA", "BBB", "BBB", "CCC"]);
        let offsets: Vec<u64> =
            ticks.message.iter().map(|&message| all.origin.position(message as usize, 0).offset).collect();
        assert_eq!(offsets, [10, 11, 12, 13]);
        assert!(!all.takes(&batch(2, 1, &[])));
    }
}
