//! Messages of a broker: those that come in, decoded by batch, and trades of the tape encoded for those that go out.

use crate::batch::{Batch, PositionTuple, position_tuple};
use crate::error::to_py;
use crate::judge::now_ns;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tickcast_core::decode::{self, Format, Options};
use tickcast_core::inbox::Inbox;
use tickcast_core::outbox::{FORMAT_HEADER, Message, Outbox, TRACE_HEADER};
use tickcast_core::position::Origin;
use tickcast_core::{Decoded, TradeId, Undecodable};

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

    /// Decodes messages of some partitions, those of each in order.
    #[pyo3(signature = (partitions, *, stream, silent=false))]
    fn decode(
        &self,
        py: Python<'_>,
        partitions: Vec<(u16, Vec<Bound<'_, PyInbox>>)>,
        stream: u32,
        silent: bool,
    ) -> PyResult<Batch> {
        let parts = partitions.iter().flat_map(|(partition, inboxes)| inboxes.iter().map(|i| (*partition, i.get())));
        let parts: Vec<(u16, &PyInbox)> = parts.collect();
        let (decoded, origin, letters) = py.detach(|| {
            let mut messages: Vec<(u16, &Inbox, usize)> = Vec::new();
            for &(partition, part) in &parts {
                messages.extend(part.messages().map(|(inbox, at)| (partition, inbox, at)));
            }
            let (decoded, origin) = self.decode_messages(&messages, stream, silent);
            let letter = |u: &Undecodable| Letter::of(messages[u.message as usize]);
            let letters = decoded.undecodable.iter().map(letter).collect();
            (decoded, origin, letters)
        });
        Ok(Batch::with_letters(decoded, origin, letters))
    }
}

impl Decoder {
    fn decode_messages(&self, messages: &[(u16, &Inbox, usize)], stream: u32, silent: bool) -> (Decoded, Origin) {
        let arrival_ns = now_ns();
        let mut origin = Origin::new(stream, messages.first().map_or(0, |message| message.0));
        origin.silent = silent;
        let mut payloads: Vec<(u32, Option<Format>, &[u8])> = Vec::with_capacity(messages.len());
        for (number, &(partition, inbox, at)) in (0u32..).zip(messages) {
            origin.begin(partition);
            let broker_ns = inbox.broker_ms(at).max(0).saturating_mul(1_000_000);
            origin.push(inbox.offset(at), arrival_ns, broker_ns);
            // Without a payload it is a tombstone: says that a key is gone, and is no tick.
            if let Some(payload) = inbox.payload(at) {
                let stated = inbox.header(at, FORMAT_HEADER).and_then(Format::from_name);
                let trace = inbox.header(at, TRACE_HEADER);
                origin.traceparents.extend(trace.map(|trace| (number, trace.to_owned())));
                // Nobody means a tick of defaults only: empty payloads are refused, whatever the format.
                payloads.push((number, stated.or(self.format).filter(|_| !payload.is_empty()), payload));
            }
        }
        let mut decoded = decode::decode(payloads.iter().map(|(_, f, p)| (*f, *p)), &self.options);
        if payloads.len() < messages.len() {
            decoded.ticks.message.iter_mut().for_each(|m| *m = payloads[*m as usize].0);
            decoded.undecodable.iter_mut().for_each(|u| u.message = payloads[u.message as usize].0);
        }
        (decoded, origin)
    }
}

/// What a message had besides its payload.
#[derive(Clone)]
pub struct Letter {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Letter {
    fn of((_, inbox, at): (u16, &Inbox, usize)) -> Self {
        let header = |(name, value): (&[u8], Option<&[u8]>)| {
            (String::from_utf8_lossy(name).into_owned(), value.map(<[u8]>::to_vec))
        };
        Letter { key: inbox.key(at).map(<[u8]>::to_vec), headers: inbox.headers(at).map(header).collect() }
    }
}

/// Messages of one partition of a log.
#[pyclass(frozen, name = "Inbox", module = "tickcast._core")]
pub struct PyInbox {
    inbox: Arc<Inbox>,
    range: Range<usize>,
}

impl PyInbox {
    /// Returns the messages: where they lie, and the number of each there.
    pub fn messages(&self) -> impl Iterator<Item = (&Inbox, usize)> {
        self.range.clone().map(|at| (&*self.inbox, at))
    }

    /// Returns the offset of the last message.
    pub fn last(&self) -> u64 {
        self.inbox.offset(self.range.end - 1)
    }
}

impl From<Inbox> for PyInbox {
    fn from(inbox: Inbox) -> Self {
        let range = 0..inbox.len();
        PyInbox { inbox: Arc::new(inbox), range }
    }
}

/// A message by hand: offset, the broker's time in ms, payload, key, headers.
type ByHand = (u64, i64, Option<PyBackedBytes>, Option<PyBackedBytes>, Vec<(String, Option<PyBackedBytes>)>);

#[pymethods]
impl PyInbox {
    /// Makes an inbox by hand.
    #[new]
    fn new(messages: Vec<ByHand>) -> PyResult<Self> {
        if messages.is_empty() || !messages.is_sorted_by_key(|message| message.0) {
            return Err(PyValueError::new_err("an inbox holds messages in the order of their offsets, one at least"));
        }
        let mut inbox = Inbox::default();
        for (offset, broker_ms, payload, key, headers) in &messages {
            inbox.push(*offset, *broker_ms, payload.as_deref(), key.as_deref());
            headers.iter().for_each(|(name, value)| inbox.push_header(name.as_bytes(), value.as_deref()));
        }
        Ok(inbox.into())
    }

    fn __len__(&self) -> usize {
        self.range.len()
    }

    /// Offset of the first message.
    #[getter]
    fn first_offset(&self) -> u64 {
        self.inbox.offset(self.range.start)
    }

    /// Offset of the last message.
    #[getter]
    fn last_offset(&self) -> u64 {
        self.last()
    }

    /// The broker's time of the first message, ms.
    #[getter]
    fn first_ms(&self) -> i64 {
        self.inbox.broker_ms(self.range.start)
    }

    /// Bytes of the messages.
    #[getter]
    fn size(&self) -> usize {
        self.inbox.size(self.range.clone())
    }

    /// Parts it: what lies in front, of at most so many messages and bytes and before an offset, but one message at
    /// least; and the rest, if there is one.
    #[pyo3(signature = (messages, size, before=None))]
    fn split(&self, messages: usize, size: usize, before: Option<u64>) -> (PyInbox, Option<PyInbox>) {
        let Range { start, end } = self.range;
        let before = before.map_or(end, |offset| self.inbox.before(start, offset));
        let at = self.inbox.fitting(start, size).min(before).min(start.saturating_add(messages)).clamp(start + 1, end);
        let part = |range| PyInbox { inbox: self.inbox.clone(), range };
        (part(start..at), (at < end).then(|| part(at..end)))
    }
}

fn format_of(name: &str) -> PyResult<Format> {
    Format::from_name(name).ok_or_else(|| PyValueError::new_err(format!("format {name:?}: proto, proto-batch or json")))
}

/// Trades of the tape as messages for a queue.
#[pyclass(frozen, name = "Outbox", module = "tickcast._core")]
pub struct PyOutbox(Outbox);

/// What Python gets of a message: key, payload, trade id, headers.
type Shown<'py> = (&'py str, Bound<'py, PyBytes>, String, Vec<(String, String)>);

impl PyOutbox {
    /// Puts the trace contexts of their ticks to the messages: by the digits of trade ids that name a tick's message.
    pub fn new(mut outbox: Outbox, traces: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        if let Some(traces) = traces.filter(|traces| !traces.is_empty()) {
            for message in &mut outbox.messages {
                let id = message.id.hex();
                let found = traces.get_item(String::from_utf8_lossy(&id[..TradeId::MESSAGE_DIGITS]))?;
                message.trace = found.map(|found| found.extract::<String>()).transpose()?.map(String::into_boxed_str);
            }
        }
        Ok(PyOutbox(outbox))
    }

    /// What it holds.
    pub fn inner(&self) -> &Outbox {
        &self.0
    }
}

#[pymethods]
impl PyOutbox {
    fn __len__(&self) -> usize {
        self.0.messages.len()
    }

    /// Last sequence that the trades reach.
    #[getter]
    fn last(&self) -> u64 {
        self.0.last
    }

    /// Last position of each source partition.
    #[getter]
    fn positions(&self) -> Vec<PositionTuple> {
        self.0.positions.iter().map(position_tuple).collect()
    }

    /// The messages: key, payload, trade id, headers.
    fn messages<'py>(&'py self, py: Python<'py>) -> Vec<Shown<'py>> {
        let shown = |message: &'py Message| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers = self.0.with_headers(message, |headers| {
                headers.iter().map(|(name, value)| (text(name.to_bytes()), text(value))).collect()
            });
            let id = String::from_utf8_lossy(&message.id.hex()).into_owned();
            (&*message.key, PyBytes::new(py, self.0.payload(message)), id, headers)
        };
        self.0.messages.iter().map(shown).collect()
    }
}
