//! Load client of the benchmark of `ProcessStream` and `ProcessBatches`.
//!
//! One thread, calls over one connection each. A call keeps `ahead` messages unanswered: with 1 it is a client that
//! waits for each answer, whose round trips are told. Answers are counted, not decoded. Loopback only, bounded in time.

use bytes::{BufMut, Bytes, BytesMut};
use clap::Parser;
use hdrhistogram::Histogram;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// Flow-control window, bytes: large enough never to be what waits.
const WINDOW: u32 = 16 * 1024 * 1024;
/// Messages put into one write.
const WRITE_MESSAGES: u64 = 64;

/// gRPC clients that send ticks and count trades.
#[derive(Parser, Clone)]
struct Args {
    /// Server, as HOST:PORT
    server: SocketAddr,
    /// Ticks in a message; 0: single ticks, by ProcessStream
    #[arg(long, default_value_t = 0)]
    batch: u64,
    /// Calls, each on a connection of its own
    #[arg(long, default_value_t = 1)]
    calls: u64,
    /// Messages of a call that may wait for their answers
    #[arg(long, default_value_t = 512)]
    ahead: u64,
    /// Measured seconds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before them
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
}

/// What all calls have counted.
struct Counts {
    messages: Cell<u64>,
    since: Cell<Instant>,
    round_trips: RefCell<Histogram<u64>>,
}

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    if !args.server.ip().is_loopback() {
        return Err("only loopback".into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run(args))
}

async fn run(args: Args) -> Result<(), Failure> {
    let counts = Rc::new(Counts {
        messages: Cell::new(0),
        since: Cell::new(Instant::now()),
        round_trips: RefCell::new(Histogram::new(3)?),
    });
    let calls: Vec<_> = (0..args.calls)
        .map(|_| {
            let (args, counts) = (args.clone(), counts.clone());
            tokio::task::spawn_local(async move {
                if let Err(error) = call(args, counts).await {
                    // Without its call the figures would be of something else.
                    std::process::exit(fail(&error));
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs_f64(args.warmup)).await;
    let (before, cpu) = (counts.messages.get(), own_cpu_seconds());
    let begun = Instant::now();
    counts.since.set(begun);
    counts.round_trips.borrow_mut().reset();
    tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
    let seconds = begun.elapsed().as_secs_f64();
    let messages = counts.messages.get() - before;
    calls.iter().for_each(|call| call.abort());
    let round_trips = counts.round_trips.borrow();
    let ms = |quantile| round_trips.value_at_quantile(quantile) as f64 / 1e3;
    let report = json!({
        "messages_per_s": messages as f64 / seconds,
        "ticks_per_s": (messages * args.batch.max(1)) as f64 / seconds,
        "round_trip_ms": {"p50": ms(0.5), "p99": ms(0.99), "p999": ms(0.999)},
        "client_cpu_pct": (own_cpu_seconds() - cpu) / seconds * 100.0,
    });
    let mut out = std::io::stdout();
    std::io::Write::write_all(&mut out, format!("{report}\n").as_bytes())?;
    Ok(())
}

fn fail(error: &Failure) -> i32 {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("tickcast-load-grpc: {error}\n").as_bytes());
    1
}

async fn call(args: Args, counts: Rc<Counts>) -> Result<(), Failure> {
    let socket = tokio::net::TcpStream::connect(args.server).await?;
    socket.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).max_frame_size(1 << 20);
    let (client, connection) = builder.handshake::<_, Bytes>(socket).await?;
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    let service = if args.batch == 0 { "marketdata.MarketDataProcessor/ProcessStream" } else { BATCHES };
    let request = http::Request::post(format!("http://{}/{service}", args.server))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, sending) = client.ready().await?.send_request(request, false)?;
    let flight = Rc::new(Flight { sent: RefCell::new(VecDeque::new()), room: Notify::new() });
    tokio::task::spawn_local(send(args.clone(), sending, flight.clone()));
    let mut body = answer.await?.into_body();
    let mut frames = Frames::default();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        let now = Instant::now();
        let answered = frames.count(&chunk);
        counts.messages.set(counts.messages.get() + answered);
        let mut sent = flight.sent.borrow_mut();
        let mut round_trips = counts.round_trips.borrow_mut();
        for at in sent.drain(..answered as usize) {
            if at >= counts.since.get() {
                round_trips.record((now - at).as_micros() as u64)?;
            }
        }
        flight.room.notify_one();
    }
    Err(format!("the server has ended the call: {:?}", body.trailers().await?).into())
}

const BATCHES: &str = "tickcast.v1.MarketDataProcessor/ProcessBatches";

/// What a call has sent and was not yet answered.
struct Flight {
    sent: RefCell<VecDeque<Instant>>,
    room: Notify,
}

async fn send(args: Args, mut sending: h2::SendStream<Bytes>, flight: Rc<Flight>) -> Result<(), Failure> {
    let mut ticks = Ticks::new();
    loop {
        let room = args.ahead - flight.sent.borrow().len() as u64;
        if room == 0 {
            flight.room.notified().await;
            continue;
        }
        let messages = room.min(if args.batch == 0 { WRITE_MESSAGES } else { 1 });
        let mut out = BytesMut::new();
        for _ in 0..messages {
            ticks.write_message(&mut out, args.batch);
        }
        sending.reserve_capacity(out.len());
        while sending.capacity() < out.len() {
            match std::future::poll_fn(|context| sending.poll_capacity(context)).await {
                Some(capacity) => drop(capacity?),
                None => return Ok(()),
            }
        }
        let now = Instant::now();
        flight.sent.borrow_mut().extend((0..messages).map(|_| now));
        sending.send_data(out.freeze(), false)?;
        tokio::task::yield_now().await;
    }
}

/// Makes ticks of 100 instruments, a microsecond apart.
struct Ticks {
    count: u64,
    start_ns: u64,
    tick: Vec<u8>,
    message: Vec<u8>,
}

impl Ticks {
    fn new() -> Self {
        let start_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        Ticks { count: 0, start_ns, tick: Vec::new(), message: Vec::new() }
    }

    /// Appends a message with its gRPC prefix: `batch` ticks, or for 0 a single one.
    fn write_message(&mut self, out: &mut BytesMut, batch: u64) {
        self.message.clear();
        for _ in 0..batch.max(1) {
            self.next_tick();
            if batch > 0 {
                self.message.push(0x0a);
                varint(&mut self.message, self.tick.len() as u64);
            }
            self.message.extend_from_slice(&self.tick);
        }
        out.put_u8(0);
        out.put_u32(self.message.len() as u32);
        out.put_slice(&self.message);
    }

    fn next_tick(&mut self) {
        let n = self.count;
        self.count += 1;
        self.tick.clear();
        self.tick.extend_from_slice(b"\x0a\x06");
        self.tick.extend_from_slice(format!("SYM{:03}", n % 100).as_bytes());
        self.tick.push(0x11);
        self.tick.extend_from_slice(&(100.0 + (n % 97) as f64 / 100.0).to_le_bytes());
        self.tick.push(0x18);
        varint(&mut self.tick, 1 + n % 1000);
        self.tick.push(0x20);
        varint(&mut self.tick, self.start_ns + n * 1000);
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Counts gRPC messages in a stream of bytes.
#[derive(Default)]
struct Frames {
    prefix: Vec<u8>,
    left: usize,
}

impl Frames {
    /// Takes the next bytes and returns how many messages they complete.
    fn count(&mut self, mut bytes: &[u8]) -> u64 {
        let mut messages = 0;
        while !bytes.is_empty() {
            if self.prefix.len() < 5 {
                let take = bytes.len().min(5 - self.prefix.len());
                self.prefix.extend_from_slice(&bytes[..take]);
                bytes = &bytes[take..];
                if self.prefix.len() == 5 {
                    let p = &self.prefix;
                    self.left = u32::from_be_bytes([p[1], p[2], p[3], p[4]]) as usize;
                }
            }
            let take = bytes.len().min(self.left);
            self.left -= take;
            bytes = &bytes[take..];
            if self.prefix.len() == 5 && self.left == 0 {
                self.prefix.clear();
                messages += 1;
            }
        }
        messages
    }
}

/// User and system seconds of this process.
fn own_cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
