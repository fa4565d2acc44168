//! One client as the pump sees it: a place on the tape, messages that wait, sends under way.

use super::acks::Acks;
use super::direct::{self, Direct, Sent};
use super::wish::{Form, Kind, Request, Wish};
use pyo3::exceptions::PyConnectionError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickcast_core::fanout::binary::Known;
use tickcast_core::fanout::{OnBoard, deflate};

/// Messages of a plain client that may be under way at once.
pub const PLAIN_WINDOW: usize = 256;

/// Clients with the same period take turns in so many phases of it.
const PHASES: u64 = 16;

/// A message, encoded once. The object that the server takes is made when the first client gets it that way.
pub struct Message {
    /// As it goes over the wire: header and body.
    frame: Vec<u8>,
    is_binary: bool,
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
        Self::framed(&body, false)
    }

    /// Wraps `trades` or a `snapshot`, compressed if so wished.
    pub fn of_frame(body: Vec<u8>, wish: &Wish) -> Arc<Self> {
        let deflated = if wish.deflate { deflate(&body) } else { None };
        let is_binary = deflated.is_some() || wish.form == Form::Binary;
        Self::framed(&deflated.unwrap_or(body), is_binary)
    }

    fn framed(body: &[u8], is_binary: bool) -> Arc<Self> {
        let mut frame = Vec::with_capacity(body.len() + 10);
        frame.extend(direct::header(body.len(), is_binary));
        frame.extend_from_slice(body);
        Arc::new(Message { frame, is_binary, bytes: body.len(), object: PyOnceLock::new() })
    }

    /// Size of the body, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn object(&self, py: Python<'_>) -> PyResult<&Py<PyDict>> {
        self.object.get_or_try_init(py, || {
            let body = &self.frame[self.frame.len() - self.bytes..];
            if self.is_binary {
                return wrap(py, intern!(py, "bytes"), PyBytes::new(py, body));
            }
            // The tape is shared memory: bytes that are no UTF-8 must not take the gateway down.
            wrap(py, intern!(py, "text"), PyString::new(py, &String::from_utf8_lossy(body)))
        })
    }
}

fn wrap<'py>(py: Python<'py>, key: &Bound<'py, PyString>, content: impl IntoPyObject<'py>) -> PyResult<Py<PyDict>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "websocket.send"))?;
    message.set_item(key, content)?;
    Ok(message.unbind())
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
        /// Which plan of the pump's.
        plan: usize,
        /// Next sequence to look at.
        cursor: u64,
        /// Last sequence that the client was told of.
        covered: u64,
        /// Whether a snapshot follows a gap.
        snapshot: bool,
        /// Where it stands on the board, once it is served from there.
        on_board: Option<OnBoard>,
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
    /// When the next frame may go.
    pub due: Instant,
    /// What it knows of the tape's dictionaries, for binary frames.
    pub known: Known,
    /// It was told that it is slow.
    pub warned: bool,
    acks: Option<Acks>,
    send: Py<PyAny>,
    direct: Option<Direct>,
    /// Whatever the server had begun to write is in the kernel; see the module `direct`.
    is_clear: bool,
    flight: VecDeque<Py<PyAny>>,
    outbox: VecDeque<Arc<Message>>,
    outbox_bytes: usize,
}

impl Client {
    /// A client that nothing was sent to yet; `send` is the server's own, `direct` its socket.
    pub fn new(id: u64, kind: Kind, send: Py<PyAny>, direct: Option<Direct>, now: Instant) -> Self {
        Client {
            id,
            kind,
            stream: Stream::Silent,
            late: false,
            moved: now,
            said: now,
            due: now,
            known: Known::default(),
            warned: false,
            acks: None,
            send,
            direct,
            is_clear: false,
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

    /// Keeps a window of so many bytes from now on, or none.
    pub fn keep_window(&mut self, most: Option<u32>, now: Instant) {
        let before = self.acks.take();
        self.acks = most.map(|most| Acks::new(most, before, now));
    }

    /// Takes an ack.
    pub fn confirm(&mut self, seq: u64, now: Instant) {
        if let Some(acks) = &mut self.acks {
            acks.confirm(seq, now);
        }
    }

    /// Whether nothing more may be sent before an ack.
    pub fn is_held(&self) -> bool {
        self.acks.as_ref().is_some_and(Acks::is_full)
    }

    /// For how long the client has made no progress, where it has to; `None`: it keeps up.
    pub fn stuck_for(&self, now: Instant) -> Option<Duration> {
        let sending = self.late.then(|| now.saturating_duration_since(self.moved));
        let acks = self.acks.as_ref().filter(|acks| acks.is_full());
        sending.max(acks.map(|acks| now.saturating_duration_since(acks.moved())))
    }

    /// Notes that trades or a snapshot up to `to_seq` go out.
    pub fn note_frame(&mut self, to_seq: u64, bytes: usize, now: Instant) {
        if let Some(acks) = &mut self.acks {
            acks.sent(to_seq, bytes, now);
        }
    }

    /// Notes that a frame went out, and what the client knows then.
    pub fn take_frame(&mut self, to_seq: u64, bytes: usize, known: Known, on_board: Option<OnBoard>, now: Instant) {
        self.note_frame(to_seq, bytes, now);
        self.known = known;
        self.move_to(to_seq, on_board);
    }

    /// Everything up to `to_seq` went out.
    pub fn move_to(&mut self, to_seq: u64, now_on_board: Option<OnBoard>) {
        if let Stream::Live { cursor, covered, on_board, .. } = &mut self.stream {
            (*cursor, *covered, *on_board) = (to_seq + 1, to_seq, now_on_board);
        }
    }

    /// Puts the next frame off by a period; equal periods share their phases, so that frames can be shared too.
    pub fn put_off(&mut self, period_us: u32, epoch: Instant, now: Instant) {
        if period_us == 0 {
            return;
        }
        let period = u64::from(period_us);
        let phase = period * (self.id % PHASES) / PHASES;
        let since = now.saturating_duration_since(epoch).as_micros() as u64;
        // The next one that is more than half a period away.
        let turn = (since + period / 2).saturating_sub(phase) / period + 1;
        self.due = epoch + Duration::from_micros(turn * period + phase);
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
            self.is_clear = true;
        }
        Ok(match self.kind {
            Kind::V1(_) => self.flight.is_empty(),
            Kind::Plain => self.flight.len() < PLAIN_WINDOW,
        })
    }

    /// Messages that may still be begun before the next [`Client::reap`].
    pub fn room(&self) -> usize {
        match self.kind {
            Kind::V1(_) => usize::from(self.flight.is_empty()),
            Kind::Plain => PLAIN_WINDOW.saturating_sub(self.flight.len()),
        }
    }

    /// Whether a frame can go out without the interpreter.
    pub fn is_direct(&self) -> bool {
        self.direct.is_some() && self.is_clear && self.flight.is_empty()
    }

    /// Begins to send a message, by the server unless it is in the kernel already; returns whether it was begun:
    /// without the interpreter the server can't be asked.
    pub fn send(&mut self, py: Option<Python<'_>>, message: &Message, now: Instant) -> PyResult<bool> {
        if self.send_direct(message, now)? {
            return Ok(true);
        }
        let Some(py) = py else { return Ok(false) };
        if self.flight.is_empty() {
            self.moved = now;
        }
        self.flight.push_back(self.send.call1(py, (message.object(py)?,))?);
        self.said = now;
        Ok(true)
    }

    fn send_direct(&mut self, message: &Message, now: Instant) -> PyResult<bool> {
        if !self.is_direct() {
            return Ok(false);
        }
        let Some(direct) = &mut self.direct else { return Ok(false) };
        match direct.send(&message.frame, now) {
            Sent::Whole => {
                (self.moved, self.said) = (now, now);
                Ok(true)
            }
            Sent::NoRoom | Sent::Gone => {
                self.is_clear = false;
                Ok(false)
            }
            Sent::Torn => Err(PyConnectionError::new_err("the kernel took a part of a frame that it had room for")),
        }
    }

    /// Begins to send what waits; returns how many messages and bytes that were.
    pub fn flush(&mut self, py: Option<Python<'_>>, now: Instant) -> PyResult<(u64, u64)> {
        let (mut messages, mut bytes) = (0, 0);
        while let Some(message) = self.outbox.pop_front() {
            if !self.send(py, &message, now)? {
                self.outbox.push_front(message);
                break;
            }
            self.outbox_bytes -= message.bytes();
            messages += 1;
            bytes += message.bytes() as u64;
        }
        Ok((messages, bytes))
    }

    /// Gives up the client; returns its socket and the sends that are under way.
    pub fn into_parts(self) -> (Option<Direct>, Vec<Py<PyAny>>) {
        (self.direct, self.flight.into())
    }
}

/// What Granian returns of a connection that has ended has no `done`: nothing is under way there any more.
fn is_done(pending: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(done) = pending.getattr_opt(intern!(pending.py(), "done"))? else { return Ok(true) };
    done.call0()?.is_truthy()
}
