//! One client as the pump sees it: a place on the tape, messages that wait, sends under way.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tickcast_core::fanout::Subscription;

/// Messages of a plain client that may be under way at once.
pub const PLAIN_WINDOW: usize = 256;

/// Which form a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One JSON object per trade, and nothing else.
    Plain,
    /// `tickcast.v1.json`.
    V1,
}

/// A text message, encoded once. The object that the server takes is made when the first client gets it.
pub struct Message {
    body: Vec<u8>,
    bytes: usize,
    object: PyOnceLock<Py<PyDict>>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Message {
    /// Wraps UTF-8 bytes.
    pub fn new(body: Vec<u8>) -> Arc<Self> {
        let bytes = body.len();
        Arc::new(Message { body, bytes, object: PyOnceLock::new() })
    }

    /// Wraps a text that Python made.
    pub fn of_text(py: Python<'_>, text: Bound<'_, PyString>) -> PyResult<Arc<Self>> {
        let bytes = text.len()?;
        let object = PyOnceLock::new();
        let _ = object.set(py, wrap(py, text)?);
        Ok(Arc::new(Message { body: Vec::new(), bytes, object }))
    }

    /// Size of the text: bytes, or characters where Python made it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn object(&self, py: Python<'_>) -> PyResult<&Py<PyDict>> {
        self.object.get_or_try_init(py, || {
            // The tape is shared memory: bytes that are no UTF-8 must not take the gateway down.
            wrap(py, PyString::new(py, &String::from_utf8_lossy(&self.body)))
        })
    }
}

fn wrap(py: Python<'_>, text: Bound<'_, PyString>) -> PyResult<Py<PyDict>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "websocket.send"))?;
    message.set_item(intern!(py, "text"), text)?;
    Ok(message.unbind())
}

/// A `subscribe` as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// The request's own id, as JSON.
    pub id: Option<String>,
    /// What is wanted.
    pub subscription: Subscription,
    /// First sequence wanted; `None`: from now on.
    pub from_seq: Option<u64>,
    /// Epoch that `from_seq` belongs to; `None`: the present one.
    pub epoch: Option<String>,
    /// Whether newest values come first where the stream does not resume.
    pub snapshot: bool,
}

/// What a client gets of the tape.
#[derive(Debug)]
pub enum Stream {
    /// Nothing: not subscribed.
    Silent,
    /// Nothing yet: there is no tape.
    Parked(Request),
    /// Trades.
    Live {
        /// Which filter of the pump's.
        filter: usize,
        /// Next sequence to look at.
        cursor: u64,
        /// Last sequence that the client was told of.
        covered: u64,
        /// Whether a snapshot follows a gap.
        snapshot: bool,
    },
}

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Number that Python knows it by.
    pub id: u64,
    /// Which form it speaks.
    pub kind: Kind,
    /// What it gets.
    pub stream: Stream,
    /// Had not taken the message before, at the last look.
    pub late: bool,
    /// When a send was last done, or begun with none before it.
    pub moved: Instant,
    /// When something was last sent.
    pub said: Instant,
    send: Py<PyAny>,
    flight: VecDeque<Py<PyAny>>,
    outbox: VecDeque<Arc<Message>>,
    outbox_bytes: usize,
}

impl Client {
    /// A client that nothing was sent to yet; `send` is the server's own.
    pub fn new(id: u64, kind: Kind, send: Py<PyAny>, now: Instant) -> Self {
        Client {
            id,
            kind,
            stream: Stream::Silent,
            late: false,
            moved: now,
            said: now,
            send,
            flight: VecDeque::new(),
            outbox: VecDeque::new(),
            outbox_bytes: 0,
        }
    }

    /// Queues a message behind those that wait.
    pub fn post(&mut self, message: Arc<Message>) {
        self.outbox_bytes += message.bytes();
        self.outbox.push_back(message);
    }

    /// Bytes that wait.
    pub fn outbox_bytes(&self) -> usize {
        self.outbox_bytes
    }

    /// Whether messages wait.
    pub fn has_post(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether sends are under way.
    pub fn is_sending(&self) -> bool {
        !self.flight.is_empty()
    }

    /// Whether it was subscribed to anything; before that it gets nothing but `hello`.
    pub fn is_subscribed(&self) -> bool {
        !matches!(self.stream, Stream::Silent)
    }

    /// Looks which sends are done; returns whether there is room for more.
    ///
    /// They end in order, so the last one speaks for all.
    pub fn reap(&mut self, py: Python<'_>, now: Instant) -> PyResult<bool> {
        let before = self.flight.len();
        if let Some(last) = self.flight.back() {
            if is_done(last.bind(py))? {
                self.flight.clear();
            } else if self.kind == Kind::Plain {
                while let Some(first) = self.flight.front()
                    && is_done(first.bind(py))?
                {
                    self.flight.pop_front();
                }
            }
        }
        if self.flight.len() < before {
            self.moved = now;
        }
        Ok(match self.kind {
            Kind::V1 => self.flight.is_empty(),
            Kind::Plain => self.flight.len() < PLAIN_WINDOW,
        })
    }

    /// Messages that may still be begun before the next [`Client::reap`].
    pub fn room(&self) -> usize {
        match self.kind {
            Kind::V1 => usize::from(self.flight.is_empty()),
            Kind::Plain => PLAIN_WINDOW.saturating_sub(self.flight.len()),
        }
    }

    /// Begins to send a message.
    pub fn send(&mut self, py: Python<'_>, message: &Message, now: Instant) -> PyResult<()> {
        if self.flight.is_empty() {
            self.moved = now;
        }
        self.flight.push_back(self.send.call1(py, (message.object(py)?,))?);
        self.said = now;
        Ok(())
    }

    /// Begins to send what waits; returns how many messages and bytes that were.
    pub fn flush(&mut self, py: Python<'_>, now: Instant) -> PyResult<(u64, u64)> {
        let (mut messages, mut bytes) = (0, 0);
        while let Some(message) = self.outbox.pop_front() {
            self.outbox_bytes -= message.bytes();
            self.send(py, &message, now)?;
            messages += 1;
            bytes += message.bytes() as u64;
        }
        Ok((messages, bytes))
    }

    /// Gives up the client; returns the sends that are under way.
    pub fn into_pending(self) -> Vec<Py<PyAny>> {
        self.flight.into()
    }
}

/// What Granian returns of a connection that has ended has no `done`: nothing is under way there any more.
fn is_done(pending: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(done) = pending.getattr_opt(intern!(pending.py(), "done"))? else { return Ok(true) };
    done.call0()?.is_truthy()
}
