//! Trades of the tape as messages for a queue: which ones, in which payloads, under which headers.

use crate::decode::{Format, MAX_TICKS};
use crate::encode::proto;
use crate::position::{Position, TradeId};
use crate::tape::{NO_INSTRUMENT, Read, Record, Run, TEXT_REASON, TapeReader};
use crate::trade::Trade;
use foldhash::fast::RandomState;
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::ops;
use std::sync::Arc;

/// Header that names the format of a payload.
pub const FORMAT_HEADER: &str = "tickcast-format";
/// Header with a W3C trace context.
pub const TRACE_HEADER: &str = "traceparent";

/// A batch that has become so long ends, bytes: brokers take no message over 1 MB unless told to.
const BATCH_BYTES: usize = 512 * 1024;

/// Which trades a sink has to write: those of partitions (stream, partition) that this processor owns, from an offset
/// on.
pub type Owned = HashMap<(u32, u16), u64, RandomState>;

/// Which trades of the tape are read.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// Last sequence before them.
    pub confirmed: u64,
    /// About so many at most.
    pub max_trades: u64,
    /// Last sequence at most, which ends a message of the source; none: up to the head.
    pub until: Option<u64>,
}

/// Name and value of a header.
pub type Header<'a> = (&'static CStr, &'a [u8]);

/// One message: its payload is in the outbox.
#[derive(Debug, Clone)]
pub struct Message {
    /// Instrument of its trades.
    pub key: Arc<str>,
    /// Rule set that judged them, `name@version`.
    pub rules: Arc<str>,
    /// The (first) trade.
    pub id: TradeId,
    /// Sequence of the (last) trade.
    pub sequence: u64,
    /// Trace context of the tick's message.
    pub trace: Option<Box<str>>,
    payload: ops::Range<usize>,
}

/// Trades on their way to a queue.
#[derive(Debug)]
pub struct Outbox {
    /// In the order of the tape; batches in that of their first trades.
    pub messages: Vec<Message>,
    /// Last sequence that they reach.
    pub last: u64,
    /// Last position of each source partition.
    pub positions: Vec<Position>,
    format: Format,
    epoch: String,
    bytes: Vec<u8>,
}

impl Outbox {
    /// Returns an outbox without messages.
    pub fn empty(reader: &TapeReader, format: Format, last: u64) -> Self {
        let epoch = format!("{:016x}", reader.epoch());
        Outbox { messages: Vec::new(), last, positions: Vec::new(), format, epoch, bytes: Vec::new() }
    }

    /// Returns a message's payload.
    pub fn payload(&self, message: &Message) -> &[u8] {
        &self.bytes[message.payload.clone()]
    }

    /// Most headers that a message has.
    pub const HEADERS: usize = 6;

    /// Calls `f` with name and value of every header of a message.
    pub fn with_headers<T>(&self, message: &Message, f: impl FnOnce(&[Header<'_>]) -> T) -> T {
        let (id, mut digits) = (message.id.hex(), itoa::Buffer::new());
        let headers: [Header<'_>; Outbox::HEADERS] = [
            (c"tickcast-format", self.format.name().as_bytes()),
            (c"tickcast-epoch", self.epoch.as_bytes()),
            (c"tickcast-rules", message.rules.as_bytes()),
            (c"tickcast-trade-id", &id),
            (c"tickcast-sequence", digits.format(message.sequence).as_bytes()),
            (c"traceparent", message.trace.as_deref().unwrap_or_default().as_bytes()),
        ];
        f(&headers[..if message.trace.is_some() { Outbox::HEADERS } else { Outbox::HEADERS - 1 }])
    }

    fn write(&mut self, reader: &TapeReader, names: &mut Dictionaries, record: &Record<'_>) {
        let key = names.instrument(reader, record);
        let start = self.bytes.len();
        match self.format {
            Format::Json => self.bytes.extend_from_slice(record.json()),
            _ => proto::write_trade(&mut self.bytes, &trade_of(&key, names.reason(reader, record), record)),
        }
        self.close(start, key, names.rule_set(reader, record), record, record.seq());
    }

    fn close(&mut self, start: usize, key: Arc<str>, rules: Arc<str>, first: &Record<'_>, sequence: u64) {
        let payload = start..self.bytes.len();
        self.messages.push(Message { key, rules, id: first.id(), sequence, trace: None, payload });
    }
}

/// Reads the trades of a range, whole messages of the source only, and encodes them.
pub fn read(
    reader: &TapeReader,
    names: &mut Dictionaries,
    run: &mut Run,
    Range { confirmed, max_trades, until }: Range,
    format: Format,
    owned: Option<&Owned>,
) -> Outbox {
    let end = reader.head().min(until.unwrap_or(u64::MAX));
    let mut most = max_trades;
    loop {
        let to = match reader.read(confirmed + 1, end.min(confirmed.saturating_add(most)), run) {
            Read::Done { to } => to,
            Read::Hole { to } => return Outbox::empty(reader, format, to),
            Read::Overrun { oldest } => {
                return Outbox::empty(reader, format, oldest.saturating_sub(1));
            }
        };
        let rows = if to < end { whole_messages(run) } else { run.len() };
        if rows > 0 || run.is_empty() {
            let outbox = Outbox::empty(reader, format, confirmed + rows as u64);
            return encode(outbox, reader, names, run, rows, owned);
        }
        // All of it is one message of the source, and there is more of it.
        most = most.saturating_add(MAX_TICKS as u64);
    }
}

/// How many trades of the run belong to messages of the source that surely end within it.
fn whole_messages(run: &Run) -> usize {
    let of = |row: usize| {
        let p = run.get(row).id().position();
        (p.stream, p.partition, p.offset)
    };
    let mut rows = run.len().saturating_sub(1);
    while rows > 0 && of(rows - 1) == of(run.len() - 1) {
        rows -= 1;
    }
    rows
}

fn encode(
    mut outbox: Outbox,
    reader: &TapeReader,
    names: &mut Dictionaries,
    run: &Run,
    rows: usize,
    owned: Option<&Owned>,
) -> Outbox {
    let mut batches = Batches::default();
    let mut seen = Vec::new();
    for row in 0..rows {
        let record = run.get(row);
        let position = record.id().position();
        if let Some(owned) = owned {
            let from = owned.get(&(position.stream, position.partition));
            // A partition that was lost and came back is read again: what lies behind is on the tape a second time.
            if from.is_none_or(|&from| position.offset < from) || !note(&mut seen, position) {
                continue;
            }
        }
        note(&mut outbox.positions, Position { index: u16::MAX, ..position });
        match outbox.format {
            Format::ProtoBatch => batches.put(reader, names, &record, row),
            _ => outbox.write(reader, names, &record),
        }
    }
    batches.write(&mut outbox, reader, names, run);
    outbox
}

/// The rows of each instrument.
#[derive(Default)]
struct Batches {
    by_key: HashMap<Arc<str>, usize, RandomState>,
    /// The same by the tape's codes, as far as instruments came with one: most look-ups need no string.
    by_code: HashMap<u32, usize, RandomState>,
    rows: Vec<(Arc<str>, Vec<usize>)>,
}

impl Batches {
    fn put(&mut self, reader: &TapeReader, names: &mut Dictionaries, record: &Record<'_>, row: usize) {
        let code = record.instrument();
        let at = match self.by_code.get(&code) {
            Some(&at) => at,
            None => {
                let at = self.of_key(names.instrument(reader, record));
                if code != NO_INSTRUMENT {
                    self.by_code.insert(code, at);
                }
                at
            }
        };
        self.rows[at].1.push(row);
    }

    fn of_key(&mut self, key: Arc<str>) -> usize {
        let rows = &mut self.rows;
        *self.by_key.entry(key).or_insert_with_key(|key| {
            rows.push((key.clone(), Vec::new()));
            rows.len() - 1
        })
    }

    fn write(self, outbox: &mut Outbox, reader: &TapeReader, names: &mut Dictionaries, run: &Run) {
        for (key, rows) in self.rows {
            let (mut start, mut first) = (outbox.bytes.len(), run.get(rows[0]));
            for (at, &row) in rows.iter().enumerate() {
                let record = run.get(row);
                let trade = trade_of(&key, names.reason(reader, &record), &record);
                proto::write_batch_trade(&mut outbox.bytes, &trade);
                let next = rows.get(at + 1).map(|&next| run.get(next));
                let goes_on = next.as_ref().is_some_and(|next| next.rule_set() == record.rule_set());
                if !goes_on || outbox.bytes.len() - start >= BATCH_BYTES {
                    outbox.close(start, key.clone(), names.rule_set(reader, &record), &first, record.seq());
                    if let Some(next) = next {
                        (start, first) = (outbox.bytes.len(), next);
                    }
                }
            }
        }
    }
}

fn trade_of<'a>(instrument_id: &'a str, reason: Option<&'a str>, record: &Record<'a>) -> Trade<'a> {
    Trade {
        id: record.id(),
        instrument_id,
        price: record.price(),
        volume: record.volume(),
        timestamp_ns: record.timestamp_ns(),
        status: record.status(),
        reason,
        vwap_20m: record.vwap_20m(),
        enrichments: record.enrichments(),
    }
}

/// Notes the position as the last one of its partition; false if that was there already, or a later one.
fn note(positions: &mut Vec<Position>, position: Position) -> bool {
    let same = |p: &&mut Position| (p.stream, p.partition) == (position.stream, position.partition);
    match positions.iter_mut().find(same) {
        Some(known) if *known >= position => return false,
        Some(known) => *known = position,
        None => positions.push(position),
    }
    true
}

/// Dictionaries of the tape, as far as they have been needed.
#[derive(Debug, Default)]
pub struct Dictionaries {
    instruments: Vec<Arc<str>>,
    reasons: Vec<String>,
    rule_sets: Vec<Arc<str>>,
    /// The instruments again, as far as it was asked whether they are there.
    listed: HashSet<Arc<str>>,
}

impl Dictionaries {
    /// Returns whether the tape's dictionary has an instrument.
    pub fn lists(&mut self, reader: &TapeReader, id: &str) -> bool {
        self.learn_instruments(reader);
        self.listed.extend(self.instruments[self.listed.len()..].iter().cloned());
        self.listed.contains(id)
    }

    /// Returns the trade's instrument id.
    pub fn instrument(&mut self, reader: &TapeReader, record: &Record<'_>) -> Arc<str> {
        if let Some(text) = record.instrument_text() {
            return text.into();
        }
        let code = record.instrument() as usize;
        if code >= self.instruments.len() {
            self.learn_instruments(reader);
        }
        self.instruments.get(code).cloned().unwrap_or_default()
    }

    /// Returns the trade's reason, if it has one.
    pub fn reason<'a>(&'a mut self, reader: &TapeReader, record: &Record<'a>) -> Option<&'a str> {
        match record.reason() {
            0 => None,
            TEXT_REASON => record.reason_text(),
            code => {
                let at = code as usize - 1;
                if at >= self.reasons.len() {
                    self.reasons.extend(reader.reasons(self.reasons.len()));
                }
                self.reasons.get(at).map(String::as_str)
            }
        }
    }

    /// Returns the rule set that judged the trade, `name@version`.
    pub fn rule_set(&mut self, reader: &TapeReader, record: &Record<'_>) -> Arc<str> {
        let number = usize::from(record.rule_set());
        if number >= self.rule_sets.len() {
            self.rule_sets = reader.rule_sets().into_iter().map(Arc::from).collect();
        }
        self.rule_sets.get(number).cloned().unwrap_or_default()
    }

    fn learn_instruments(&mut self, reader: &TapeReader) {
        self.instruments.extend(reader.instruments(self.instruments.len()).into_iter().map(Arc::from));
    }
}
