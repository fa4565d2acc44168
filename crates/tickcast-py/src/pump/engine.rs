//! The pump's thread.

use super::client::{Client, Message, Stream};
use super::direct::Sockets;
use super::follow::Follow;
use super::pace::{Cycle, Pace};
use super::stats::{add, set};
use super::wish::{Form, Kind, Request, Wish};
use super::{Command, Farewell, Left, Shared, lock};
use pyo3::Python;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickcast_core::fanout;

mod encode;
mod plans;
mod step;
mod subscribe;

use plans::Plans;

/// How often tape, board, heartbeats and stuck clients are looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// Longest time that a command waits for an idle pump.
const IDLE: Duration = Duration::from_millis(5);
/// Most clients that are told at once when a quiet tape moves; more would keep the interpreter for too long.
const MOST_AT_ONCE: usize = 1_000;
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long clients may read on from a tape that was replaced.
const RETIREMENT: Duration = Duration::from_secs(1);
/// Least bytes of answers that may wait for a client.
const LEAST_OUTBOX: usize = 1 << 20;

/// Code for whom takes nothing any more; `tickcast.gateway.codes` and `docs/protocol.md` have the table.
const TOO_SLOW: u16 = 4001;
/// What a connection is said to have ended with when nobody said.
const LOST: u16 = 1006;

/// What the pump was told at its start.
#[derive(Debug)]
pub struct Options {
    /// Where the tape is.
    pub run_dir: PathBuf,
    /// Name and version for `hello`.
    pub server: String,
    /// Pause between signs of life, ms.
    pub heartbeat_ms: u64,
    /// How long a trade may wait to ride with others, ms.
    pub budget_ms: u64,
    /// Bytes that may wait for one client.
    pub max_backlog_bytes: usize,
    /// How long a client may take nothing, ms.
    pub stall_ms: u64,
}

/// The thread's own state.
pub struct Engine {
    shared: Arc<Shared>,
    options: Options,
    follow: Follow,
    pace: Pace,
    clients: Vec<Client>,
    index: HashMap<u64, usize>,
    plans: Plans,
    /// What phases of periods are reckoned from.
    origin: Instant,
    /// The snapshot that was last made, and for whom.
    last_snapshot: Option<subscribe::MadeSnapshot>,
    buffers: step::Buffers,
    cycle: Cycle,
    /// Something is left to do although nothing new came.
    restless: bool,
    housekept: Instant,
    /// Processor time of this process when the cycle began.
    cpu: Duration,
    retiring: Option<Instant>,
    sockets: Sockets,
}

impl Engine {
    pub fn new(shared: Arc<Shared>, options: Options) -> Self {
        let follow = Follow::new(options.run_dir.clone(), options.heartbeat_ms, options.server.clone());
        // A trade waits a cycle and a cohort at most, and what remains is for the network. At half the budget the p99
        // was no better, and frames cost a fifth more of the machine.
        let pace = Pace::new(Duration::from_micros(options.budget_ms * 700).max(Duration::from_millis(1)));
        Engine {
            shared,
            options,
            follow,
            pace,
            clients: Vec::new(),
            index: HashMap::new(),
            plans: Plans::default(),
            origin: Instant::now(),
            last_snapshot: None,
            buffers: step::Buffers::default(),
            cycle: Cycle::default(),
            restless: true,
            housekept: Instant::now(),
            cpu: cpu_time(),
            retiring: None,
            sockets: Sockets::default(),
        }
    }

    /// Serves until told to stop, or until the interpreter goes.
    pub fn run(mut self) {
        wake_precisely();
        self.look_for_tape();
        let (mut seen, mut at_once) = (0, false);
        let farewell = loop {
            if let Some(farewell) = self.obey() {
                break Some(farewell);
            }
            let now = Instant::now();
            if now - self.housekept >= HOUSEKEEPING {
                self.housekept = now;
                self.keep_house(now);
            }
            let head = self.follow.tape().map_or(0, |tape| tape.head());
            if self.pace.at_start() && head == seen && !self.restless {
                self.idle(head);
                self.pace.restart(Instant::now());
                // Whoever has waited long enough for something to happen is told at once, all cohorts in a row.
                at_once = self.clients.len() <= MOST_AT_ONCE;
                continue;
            }
            if self.pace.at_start() {
                (seen, self.restless) = (head, false);
                set(&self.shared.stats.head, head);
            }
            if self.step(head, now).is_none() {
                break None;
            }
            let cycle = &mut self.cycle;
            cycle.clients = self.clients.len();
            let cpu = &mut self.cpu;
            let next = self.pace.advance(Instant::now(), || {
                let so_far = cpu_time();
                cycle.cpu = so_far.saturating_sub(std::mem::replace(cpu, so_far));
                std::mem::take(cycle)
            });
            set(&self.shared.stats.cycle_us, self.pace.cycle().as_micros() as u64);
            at_once &= !self.pace.at_start();
            if !at_once {
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        };
        self.take_leave(farewell);
    }

    fn idle(&self, head: u64) {
        match self.follow.tape() {
            // A superseded tape would not let us sleep.
            Some(tape) if self.retiring.is_none() => {
                tape.wait(head, IDLE);
            }
            _ => std::thread::sleep(IDLE),
        }
    }

    fn obey(&mut self) -> Option<Farewell> {
        let commands = std::mem::take(&mut lock(&self.shared.commands).commands);
        for command in commands {
            self.restless = true;
            match command {
                Command::Attach { id, kind, send, ends } => {
                    let direct = ends.and_then(|(peer, port)| self.sockets.claim(peer, port));
                    self.attach(Client::new(id, kind, send, direct, Instant::now()));
                }
                Command::Subscribe { id, mut request } => {
                    if let Some(&at) = self.index.get(&id) {
                        if let Kind::V1(form) = self.clients[at].kind {
                            request.wish.form = form;
                        }
                        self.subscribe(at, request);
                    }
                }
                Command::Ack { id, seq } => {
                    if let Some(&at) = self.index.get(&id) {
                        self.clients[at].confirm(seq, Instant::now());
                    }
                }
                Command::Unsubscribe { id, request } => {
                    if let Some(&at) = self.index.get(&id) {
                        self.set_stream(at, Stream::Silent);
                        self.clients[at].keep_window(None, Instant::now());
                        self.clients[at].post(Message::new(fanout::subscribed(request.as_deref(), None)));
                    }
                }
                Command::Say { id, message } => {
                    if let Some(&at) = self.index.get(&id) {
                        self.clients[at].post(message);
                    }
                }
                Command::Detach { id } => {
                    if let Some(&at) = self.index.get(&id) {
                        self.remove(at, 0, String::new());
                    }
                }
                Command::Stop(farewell) => return Some(farewell),
            }
        }
        None
    }

    fn attach(&mut self, client: Client) {
        let at = self.clients.len();
        self.index.insert(client.id, at);
        let kind = client.kind;
        self.clients.push(client);
        match kind {
            Kind::V1(_) => self.post_hello(at),
            Kind::Plain => {
                let wish = Wish::everything(Form::Json);
                self.subscribe(at, Request { id: None, wish, from_seq: None, epoch: None, snapshot: false });
            }
        }
        self.count_clients();
    }

    /// Serves a client no more and hands it back to Python.
    fn remove(&mut self, at: usize, code: u16, reason: String) {
        self.set_stream(at, Stream::Silent);
        let client = self.clients.swap_remove(at);
        self.index.remove(&client.id);
        if let Some(moved) = self.clients.get(at) {
            self.index.insert(moved.id, at);
        }
        let id = client.id;
        let (direct, pending) = client.into_parts();
        if let Some(direct) = direct {
            self.sockets.release(direct);
        }
        self.count_clients();
        self.shared.leave(Left { id, code, reason, pending });
    }

    fn count_clients(&self) {
        let plain = self.clients.iter().filter(|c| c.kind == Kind::Plain).count();
        set(&self.shared.stats.plain_clients, plain as u64);
        set(&self.shared.stats.v1_clients, (self.clients.len() - plain) as u64);
        set(&self.shared.stats.direct_clients, self.sockets.claimed() as u64);
    }

    fn post_hello(&mut self, at: usize) {
        let (hello, known) = self.follow.hello();
        self.clients[at].known = known;
        self.clients[at].post(hello);
    }

    fn set_stream(&mut self, at: usize, stream: Stream) {
        if let Stream::Live { plan, .. } = std::mem::replace(&mut self.clients[at].stream, stream) {
            self.plans.give_back(plan);
        }
    }

    fn keep_house(&mut self, now: Instant) {
        self.look_for_tape();
        if self.follow.look() {
            let status = self.follow.status();
            for client in self.clients.iter_mut().filter(|c| c.kind != Kind::Plain && c.is_subscribed()) {
                client.post(status.clone());
            }
            self.restless = true;
        }
        let heartbeat = Duration::from_millis(self.options.heartbeat_ms);
        for client in &mut self.clients {
            // Sends are only looked at when a turn comes: make one come.
            self.restless |= client.is_sending();
            let quiet =
                client.kind != Kind::Plain && client.is_subscribed() && !client.has_post() && !client.is_sending();
            if quiet && now - client.said >= heartbeat {
                let mut seq = 0;
                if let Stream::Live { cursor, covered, .. } = &mut client.stream {
                    *covered = *cursor - 1;
                    seq = *covered;
                }
                client.post(Message::new(fanout::heartbeat(seq)));
                self.restless = true;
            }
        }
        self.warn_slow(now);
        self.cut_off_stuck(now);
    }

    /// Tells whoever has made no progress for a heartbeat, while trades wait, once each time.
    fn warn_slow(&mut self, now: Instant) {
        let Some(head) = self.follow.tape().map(|tape| tape.head()) else { return };
        let patience = Duration::from_millis(self.options.heartbeat_ms);
        for client in self.clients.iter_mut().filter(|c| c.kind != Kind::Plain) {
            let stuck = client.stuck_for(now);
            let Stream::Live { cursor, .. } = client.stream else { continue };
            if stuck.is_none() {
                client.warned = false;
            } else if !client.warned && cursor <= head && stuck >= Some(patience) {
                client.warned = true;
                let why = if client.late { "taken" } else { "acknowledged" };
                let behind = head - cursor + 1;
                let text = format!("nothing was {why} for {} ms: {behind} trades behind", patience.as_millis());
                client.post(Message::new(fanout::error("slow", &text)));
                add(&self.shared.stats.warned, 1);
                self.restless = true;
            }
        }
    }

    /// Hands back whoever has taken nothing for too long, or lets too many answers wait.
    fn cut_off_stuck(&mut self, now: Instant) {
        let stall = Duration::from_millis(self.options.stall_ms);
        let most = self.options.max_backlog_bytes.max(LEAST_OUTBOX);
        for at in (0..self.clients.len()).rev() {
            let client = &self.clients[at];
            let reason = if client.stuck_for(now).is_some_and(|stuck| stuck >= stall) {
                let what = if client.late { "taken" } else { "acknowledged" };
                format!("nothing was {what} for {} ms", self.options.stall_ms)
            } else if client.late && client.outbox_bytes() > most {
                format!("more than {most} bytes of answers wait")
            } else {
                continue;
            };
            add(&self.shared.stats.evicted, 1);
            self.remove(at, TOO_SLOW, reason);
        }
    }

    /// Says `bye`, waits a moment for what is under way, and hands all clients back.
    fn take_leave(mut self, farewell: Option<Farewell>) {
        if let Some(farewell) = &farewell {
            let bye = Message::new(fanout::bye(farewell.code, &farewell.reason, farewell.retry_after_ms));
            for client in &mut self.clients {
                let filter = std::mem::replace(&mut client.stream, Stream::Silent);
                drop(filter);
                if client.kind != Kind::Plain {
                    client.post(bye.clone());
                }
            }
            let until = Instant::now() + FAREWELL;
            while Instant::now() < until && self.clients.iter().any(|c| c.has_post() || c.is_sending()) {
                if self.step(0, Instant::now()).is_none() {
                    break;
                }
                self.pace.advance(Instant::now(), Cycle::default);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let last = {
            let mut inbox = lock(&self.shared.commands);
            inbox.closed = true;
            std::mem::take(&mut inbox.commands)
        };
        for command in last {
            if let Command::Attach { id, kind, send, .. } = command {
                let client = Client::new(id, kind, send, None, Instant::now());
                self.index.insert(id, self.clients.len());
                self.clients.push(client);
            }
        }
        while let Some(client) = self.clients.last() {
            let (code, reason) = match &farewell {
                Some(f) => (if client.kind == Kind::Plain { f.plain_code } else { f.code }, f.reason.clone()),
                None => (LOST, String::new()),
            };
            self.remove(self.clients.len() - 1, code, reason);
        }
    }
}

/// Returns the processor time that all threads of this process have used.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a live variable.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Lets this thread sleep to the microsecond; by default the kernel takes 50 more.
fn wake_precisely() {
    // SAFETY: sets a number of the calling thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
}

/// Runs `f` with the interpreter; `None`: it is shutting down.
fn with_python<T>(f: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    Python::try_attach(f)
}
