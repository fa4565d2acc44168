//! The gateway's pump: a thread that takes trades off the tape and sends them to clients.
//!
//! # Rules
//! The thread calls the server's `send`, and `done` of what that returns; no other Python, and for clients that keep up
//! not even that (see [`direct`]). It is the only owner of the clients. Python gives it commands, which cost a push
//! under a lock, and takes events, announced through an eventfd, so neither side ever waits for the other while it
//! holds something.
//!
//! # Order
//! Whatever a client gets goes through one queue: `hello`, answers, `status`, snapshots, and then trades from its
//! cursor. A client of `tickcast.v1` has one turn under way at most; the next begins when the server has put
//! everything of the last into the kernel. The plain form, one message per trade, may have several under way: the
//! server sends them in the order in which they were begun (the contract test proves it).
//!
//! # Slow clients
//! What a client does not take stays on the tape; only its cursor falls behind. A v1 client that the writer overtakes
//! gets a gap and a snapshot. A plain client can't be told, so it loses the oldest trades as soon as it is more than a
//! fixed backlog behind, and they are counted. Whoever takes nothing at all for a while is handed back to Python to be
//! cut off.

mod acks;
mod client;
mod direct;
mod engine;
mod follow;
mod pace;
mod stats;
mod wish;

use client::Message;
use engine::{Engine, Options};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use stats::Stats;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tickcast_core::Status;
use tickcast_core::fanout::Subscription;
use wish::{Form, Kind, Mode, Request, Wish};

/// Adds the pump to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Pump>()?;
    m.add("AGE_BUCKETS_MS", tickcast_core::fanout::AGE_BUCKETS_MS.to_vec())
}

/// What Python asks of the thread.
#[derive(Debug)]
enum Command {
    /// `ends`: the client's address, and the port of ours that it is connected to.
    Attach {
        id: u64,
        kind: Kind,
        send: Py<PyAny>,
        ends: Option<(SocketAddr, u16)>,
    },
    Subscribe {
        id: u64,
        request: Request,
    },
    Ack {
        id: u64,
        seq: u64,
    },
    Unsubscribe {
        id: u64,
        request: Option<String>,
    },
    Say {
        id: u64,
        message: Arc<Message>,
    },
    Detach {
        id: u64,
    },
    Stop(Farewell),
}

/// How clients are taken leave of when the gateway goes down.
#[derive(Debug, Clone)]
struct Farewell {
    code: u16,
    plain_code: u16,
    reason: String,
    retry_after_ms: u64,
}

/// A client that the pump serves no more: it asked so, or it has to be cut off with `code`.
#[derive(Debug)]
struct Left {
    id: u64,
    code: u16,
    reason: String,
    pending: Vec<Py<PyAny>>,
}

/// What thread and Python share.
#[derive(Debug)]
struct Shared {
    commands: Mutex<Inbox>,
    left: Mutex<Vec<Left>>,
    stats: Stats,
    event_fd: i32,
}

#[derive(Debug, Default)]
struct Inbox {
    commands: Vec<Command>,
    /// The thread has ended: nobody would answer any more.
    closed: bool,
}

impl Shared {
    fn leave(&self, left: Left) {
        lock(&self.left).push(left);
        let one = 1u64;
        // SAFETY: eight bytes of a live variable; a closed descriptor only makes the call fail, and then nobody listens.
        unsafe { libc::write(self.event_fd, (&raw const one).cast(), 8) };
    }
}

/// Locks are held for a push or a swap, in which nothing can panic; poison would say nothing about the data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pyclass(frozen, module = "tickcast._core")]
struct Pump {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    next_id: AtomicU64,
}

impl Pump {
    fn order(&self, command: Command) -> PyResult<()> {
        let mut inbox = lock(&self.shared.commands);
        if inbox.closed {
            drop(inbox);
            return Err(PyRuntimeError::new_err("the pump has stopped"));
        }
        inbox.commands.push(command);
        Ok(())
    }
}

#[pymethods]
impl Pump {
    #[new]
    #[pyo3(signature = (run_dir, *, event_fd, server, heartbeat_ms=5_000, budget_ms=10, max_backlog_bytes=4_194_304, stall_ms=15_000))]
    fn new(
        run_dir: PathBuf,
        event_fd: i32,
        server: String,
        heartbeat_ms: u64,
        budget_ms: u64,
        max_backlog_bytes: usize,
        stall_ms: u64,
    ) -> PyResult<Self> {
        let shared =
            Arc::new(Shared { commands: Mutex::default(), left: Mutex::default(), stats: Stats::default(), event_fd });
        let options = Options { run_dir, server, heartbeat_ms, budget_ms, max_backlog_bytes, stall_ms };
        let engine = Engine::new(shared.clone(), options);
        let thread = std::thread::Builder::new()
            .name("tickcast-pump".to_owned())
            .spawn(move || engine.run())
            .map_err(|error| PyRuntimeError::new_err(format!("cannot start the pump: {error}")))?;
        Ok(Pump { shared, thread: Mutex::new(Some(thread)), next_id: AtomicU64::new(1) })
    }

    #[pyo3(signature = (send, *, form, ends=None))]
    fn attach(&self, send: Py<PyAny>, form: &str, ends: Option<(&str, u16, u16)>) -> PyResult<u64> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let kind = match form {
            "plain" => Kind::Plain,
            "json" => Kind::V1(Form::Json),
            "bin" => Kind::V1(Form::Binary),
            _ => return Err(PyValueError::new_err(format!("a form is plain, json or bin, was {form}"))),
        };
        // A name instead of an address is nobody's peer.
        let ends = ends.and_then(|(host, from, to)| Some((SocketAddr::new(host.parse().ok()?, from), to)));
        self.order(Command::Attach { id, kind, send, ends })?;
        Ok(id)
    }

    #[pyo3(signature = (client, *, request=None, instruments=None, statuses=None, from_seq=None, epoch=None,
                        snapshot=true, latest=false, max_rate_hz=None, ack_bytes=None, stages=false, deflate=false))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of one message")]
    fn subscribe(
        &self,
        client: u64,
        request: Option<String>,
        instruments: Option<Vec<String>>,
        statuses: Option<Vec<u8>>,
        from_seq: Option<u64>,
        epoch: Option<String>,
        snapshot: bool,
        latest: bool,
        max_rate_hz: Option<f64>,
        ack_bytes: Option<u32>,
        stages: bool,
        deflate: bool,
    ) -> PyResult<()> {
        let status = |number| {
            Status::from_number(number)
                .ok_or_else(|| PyValueError::new_err(format!("a status is 0, 1 or 2, was {number}")))
        };
        let statuses = statuses.map(|list| list.into_iter().map(status).collect::<PyResult<Vec<_>>>()).transpose()?;
        let wish = Wish {
            subscription: Subscription::new(instruments, statuses.as_deref()),
            // Each client has its own; the thread knows it.
            form: Form::Json,
            mode: if latest { Mode::Latest } else { Mode::Tape },
            period_us: max_rate_hz.map_or(0, Wish::period_us),
            stages,
            deflate,
            ack_bytes,
        };
        let request = Request { id: request, wish, from_seq, epoch, snapshot };
        self.order(Command::Subscribe { id: client, request })
    }

    fn ack(&self, client: u64, seq: u64) -> PyResult<()> {
        self.order(Command::Ack { id: client, seq })
    }

    #[pyo3(signature = (client, *, request=None))]
    fn unsubscribe(&self, client: u64, request: Option<String>) -> PyResult<()> {
        self.order(Command::Unsubscribe { id: client, request })
    }

    fn say(&self, client: u64, text: &str) -> PyResult<()> {
        self.order(Command::Say { id: client, message: Message::new(text.as_bytes().to_vec()) })
    }

    fn detach(&self, client: u64) -> PyResult<()> {
        self.order(Command::Detach { id: client })
    }

    fn left(&self) -> Vec<(u64, u16, String, Vec<Py<PyAny>>)> {
        let left = std::mem::take(&mut *lock(&self.shared.left));
        left.into_iter().map(|l| (l.id, l.code, l.reason, l.pending)).collect()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.shared.stats.show(py)
    }

    #[pyo3(signature = (*, code, plain_code, reason, retry_after_ms))]
    fn stop(&self, code: u16, plain_code: u16, reason: String, retry_after_ms: u64) {
        // A pump that has stopped already has said its farewells.
        let _ = self.order(Command::Stop(Farewell { code, plain_code, reason, retry_after_ms }));
    }

    fn join(&self, py: Python<'_>) -> PyResult<()> {
        let Some(thread) = lock(&self.thread).take() else { return Ok(()) };
        py.detach(|| thread.join()).map_err(|_| PyRuntimeError::new_err("the pump's thread has panicked"))
    }
}
