//! Messages of a broker: those that come in, decoded by batch, and trades of the tape encoded for those that go out.

use crate::batch::{Batch, PositionTuple};
use crate::error::to_py;
use crate::judge::now_ns;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use std::collections::{HashMap, HashSet};
use tickcast_core::decode::{self, Format, MAX_TICKS, Options};
use tickcast_core::encode::proto;
use tickcast_core::position::{Origin, Position};
use tickcast_core::tape::{Read, Record, Run, TEXT_REASON, TapeReader};
use tickcast_core::trade::Trade;

/// Header that names the format of a payload.
pub const FORMAT_HEADER: &str = "tickcast-format";
const TRACE_HEADER: &str = "traceparent";

/// Decodes the messages of one source.
#[pyclass(frozen, module = "tickcast._core")]
pub struct Decoder {
    format: Option<Format>,
    options: Options,
}

#[pymethods]
impl Decoder {
    #[new]
    #[pyo3(signature = (*, format=None, volume_scale=1, volume_scales=None))]
    fn new(format: Option<&str>, volume_scale: u64, volume_scales: Option<HashMap<String, u64>>) -> PyResult<Self> {
        let options = Options { volume_scale, per_instrument_scale: volume_scales.unwrap_or_default() };
        options.validate().map_err(to_py)?;
        Ok(Decoder { format: format.map(format_of).transpose()?, options })
    }

    /// Decodes messages of one partition, in order; a message is what confluent-kafka gives.
    #[pyo3(signature = (messages, *, stream, partition, silent=false))]
    fn decode(&self, messages: &Bound<'_, PyList>, stream: u32, partition: u16, silent: bool) -> PyResult<Batch> {
        let py = messages.py();
        let arrival_ns = now_ns();
        let mut origin = Origin::new(stream, partition);
        origin.silent = silent;
        let mut payloads: Vec<(u32, Option<Format>, PyBackedBytes)> = Vec::with_capacity(messages.len());
        for (at, message) in messages.iter().enumerate() {
            let offset: u64 = message.call_method0(intern!(py, "offset"))?.extract()?;
            let (_, millis): (i32, i64) = message.call_method0(intern!(py, "timestamp"))?.extract()?;
            origin.push(offset, arrival_ns, millis.max(0).saturating_mul(1_000_000));
            // Without a payload it is a tombstone: says that a key is gone, and is no tick.
            if let Some(payload) = message.call_method0(intern!(py, "value"))?.extract::<Option<PyBackedBytes>>()? {
                let headers = message.call_method0(intern!(py, "headers"))?;
                let [stated, trace] = header(&headers, [FORMAT_HEADER, TRACE_HEADER])?;
                let stated = stated.as_deref().and_then(Format::from_name);
                origin.traceparents.extend(trace.map(|trace| (at as u32, trace)));
                // Nobody means a tick of defaults only: empty payloads are refused, whatever the format.
                let format = stated.or(self.format).filter(|_| !payload.is_empty());
                payloads.push((at as u32, format, payload));
            }
        }
        let decoded = py.detach(|| {
            let mut decoded = decode::decode(payloads.iter().map(|(_, f, p)| (*f, &p[..])), &self.options);
            if payloads.len() < origin.offset.len() {
                decoded.ticks.message.iter_mut().for_each(|m| *m = payloads[*m as usize].0);
                decoded.undecodable.iter_mut().for_each(|u| u.message = payloads[u.message as usize].0);
            }
            decoded
        });
        Batch::of_messages(decoded, origin, messages)
    }
}

fn format_of(name: &str) -> PyResult<Format> {
    Format::from_name(name).ok_or_else(|| PyValueError::new_err(format!("format {name:?}: proto, proto-batch or json")))
}

/// The values of these headers of a message, the first of each; one that is no text is none.
pub fn header<const N: usize>(headers: &Bound<'_, PyAny>, names: [&str; N]) -> PyResult<[Option<String>; N]> {
    let mut found = [const { None }; N];
    if headers.is_none() {
        return Ok(found);
    }
    for header in headers.try_iter()? {
        let (name, value): (Bound<'_, PyString>, Bound<'_, PyAny>) = header?.extract()?;
        let name = name.to_cow()?;
        if let Some(at) = names.iter().position(|wanted| *wanted == name).filter(|&at| found[at].is_none()) {
            let bytes = value.extract::<PyBackedBytes>().ok();
            found[at] = bytes.and_then(|bytes| std::str::from_utf8(&bytes).ok().map(str::to_owned));
        }
    }
    Ok(found)
}

/// Which trades a sink has to write: those of partitions that this processor owns, from an offset on.
pub type Owned = HashMap<(u32, u16), u64>;

/// What a message of a sink is made of.
struct Outgoing {
    key: String,
    payload: Vec<u8>,
    id: String,
    sequence: u64,
    rule_set: u16,
}

/// Trades on their way to a broker.
pub struct Outbox {
    messages: Vec<Outgoing>,
    /// Last sequence that they reach.
    last: u64,
    positions: Vec<Position>,
    skipped: u64,
}

/// Dictionaries of the tape, as far as they have been needed.
#[derive(Default)]
pub struct Dictionaries {
    instruments: Vec<String>,
    reasons: Vec<String>,
    /// The instruments again, as far as it was asked whether they are there.
    listed: HashSet<String>,
}

impl Dictionaries {
    /// Returns whether the tape's dictionary has an instrument.
    pub fn lists(&mut self, reader: &TapeReader, id: &str) -> bool {
        self.instruments.extend(reader.instruments(self.instruments.len()));
        self.listed.extend(self.instruments[self.listed.len()..].iter().cloned());
        self.listed.contains(id)
    }

    /// Returns the trade's instrument id.
    pub fn instrument<'a>(&'a mut self, reader: &TapeReader, record: &Record<'a>) -> &'a str {
        if let Some(text) = record.instrument_text() {
            return text;
        }
        let code = record.instrument() as usize;
        if code >= self.instruments.len() {
            self.instruments.extend(reader.instruments(self.instruments.len()));
        }
        self.instruments.get(code).map_or("", String::as_str)
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
}

/// Which trades of the tape are read.
pub struct Range {
    /// Last sequence before them.
    pub confirmed: u64,
    /// About so many at most.
    pub max_trades: u64,
    /// Last sequence at most, which ends a message of the source; none: up to the head.
    pub until: Option<u64>,
}

/// Reads the trades of a range, whole messages of the source only, and encodes them.
pub fn read(
    reader: &TapeReader,
    dictionaries: &mut Dictionaries,
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
            Read::Hole { to } => return Outbox::empty(to),
            Read::Overrun { oldest } => {
                let last = oldest.saturating_sub(1);
                return Outbox { messages: Vec::new(), last, positions: Vec::new(), skipped: last - confirmed };
            }
        };
        let rows = if to < end { whole_messages(run) } else { run.len() };
        if rows > 0 || run.is_empty() {
            return encode(reader, dictionaries, run, rows, format, owned, confirmed);
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
    reader: &TapeReader,
    dictionaries: &mut Dictionaries,
    run: &Run,
    rows: usize,
    format: Format,
    owned: Option<&Owned>,
    confirmed: u64,
) -> Outbox {
    let mut out = Outbox { messages: Vec::new(), last: confirmed + rows as u64, positions: Vec::new(), skipped: 0 };
    let mut by_key: HashMap<String, usize> = HashMap::new();
    let mut scratch = Vec::new();
    let mut seen = Vec::new();
    for record in (0..rows).map(|row| run.get(row)) {
        let position = record.id().position();
        if let Some(owned) = owned {
            let from = owned.get(&(position.stream, position.partition));
            // A partition that was lost and came back is read again: what lies behind is on the tape a second time.
            if from.is_none_or(|&from| position.offset < from) || !note(&mut seen, position) {
                out.skipped += 1;
                continue;
            }
        }
        note(&mut out.positions, Position { index: u16::MAX, ..position });
        let id = String::from_utf8_lossy(&record.id().hex()).into_owned();
        let key = dictionaries.instrument(reader, &record).to_owned();
        let message = |payload: Vec<u8>| Outgoing {
            key: key.clone(),
            payload,
            id: id.clone(),
            sequence: record.seq(),
            rule_set: record.rule_set(),
        };
        match format {
            Format::Json => out.messages.push(message(record.json().to_vec())),
            Format::Proto => {
                let mut payload = Vec::new();
                proto::write_trade(&mut payload, &trade_of(&key, dictionaries.reason(reader, &record), &record));
                out.messages.push(message(payload));
            }
            Format::ProtoBatch => {
                let trade = trade_of(&key, dictionaries.reason(reader, &record), &record);
                match by_key.get(&key) {
                    Some(&at) => {
                        proto::write_batch_trade(&mut out.messages[at].payload, &mut scratch, &trade);
                        out.messages[at].sequence = record.seq();
                    }
                    None => {
                        let mut payload = Vec::new();
                        proto::write_batch_trade(&mut payload, &mut scratch, &trade);
                        by_key.insert(key.clone(), out.messages.len());
                        out.messages.push(message(payload));
                    }
                }
            }
        }
    }
    out
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

/// What Python gets: messages (key, payload, trade id, sequence, rule set), last sequence, positions, skipped trades.
pub type Shown<'py> = (Vec<Bound<'py, PyTuple>>, u64, Vec<PositionTuple>, u64);

impl Outbox {
    /// Returns an outbox without messages.
    pub fn empty(last: u64) -> Self {
        Outbox { messages: Vec::new(), last, positions: Vec::new(), skipped: 0 }
    }

    /// Shows it to Python.
    ///
    /// # Errors
    /// Python's own.
    pub fn show<'py>(self, py: Python<'py>) -> PyResult<Shown<'py>> {
        let show = |m: Outgoing| {
            let payload = PyBytes::new(py, &m.payload);
            (PyString::new(py, &m.key), payload, PyString::new(py, &m.id), m.sequence, m.rule_set).into_pyobject(py)
        };
        let messages = self.messages.into_iter().map(show).collect::<PyResult<_>>()?;
        let positions = self.positions.iter().map(|p| (p.stream, p.partition, p.offset, p.index)).collect();
        Ok((messages, self.last, positions, self.skipped))
    }
}
