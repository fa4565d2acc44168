//! Load client of the benchmarks.
//!
//! One thread opens N WebSocket clients and counts, on every frame, where the kernel put it, the trades; on one
//! client in K it reads sequence and latency of each. A second thread publishes paced ticks to NATS, each with its
//! sequence number in `volume` and its sending time in `timestampNs`. Loopback addresses only; every run is bounded.

mod clients;
mod publish;
mod usage;

use clap::Parser;
use serde_json::json;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// WebSocket clients on loopback, fed by ticks that it publishes itself.
#[derive(Parser, Clone)]
struct Args {
    /// Gateway, as HOST:PORT
    gateway: String,
    /// NATS server to publish to, as HOST:PORT
    #[arg(long)]
    nats: String,
    /// Subject to publish to
    #[arg(long, default_value = "ticks")]
    subject: String,
    /// Ticks per second
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Instruments
    #[arg(long, default_value_t = 100)]
    instruments: usize,
    /// Clients
    #[arg(long, default_value_t = 500)]
    clients: usize,
    /// Clients, from the last, that do not read before the end of the measurement
    #[arg(long, default_value_t = 0)]
    stalled: usize,
    /// Measured seconds
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before them
    #[arg(long, default_value_t = 3.0)]
    warmup: f64,
    /// Report percentiles and the servers' memory of every so many measured seconds, too (0: only of all)
    #[arg(long, default_value_t = 0.0)]
    every: f64,
    /// Clients, from the first, that read only so many bytes a second (with `--throttle-bytes`)
    #[arg(long, default_value_t = 0)]
    throttled: usize,
    /// Bytes a second that a throttled client reads
    #[arg(long, default_value_t = 100_000)]
    throttle_bytes: usize,
    /// Form of the trades
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Every trade, or the newest of each instrument
    #[arg(long, value_enum, default_value_t = Mode::Tape)]
    mode: Mode,
    /// Most frames a second that a client asks for (0: as they come)
    #[arg(long, default_value_t = 0.0)]
    max_rate_hz: f64,
    /// Instruments of its own that each client subscribes to (0: all)
    #[arg(long, default_value_t = 0)]
    own: usize,
    /// Window of acknowledged bytes that each client asks for; it acknowledges every quarter (0: no acks)
    #[arg(long, default_value_t = 0)]
    acks: usize,
    /// Further fields of `subscribe`, as a JSON object, such as {"compress":"deflate-raw"}
    #[arg(long, default_value = "{}")]
    subscribe: String,
    /// WebSocket subprotocol, where it is not that of the format
    #[arg(long)]
    subprotocol: Option<String>,
    /// First message of each client, where it is not the `subscribe` that follows from the rest; empty: none
    #[arg(long)]
    first: Option<String>,
    /// Address of the WebSocket
    #[arg(long, default_value = "/ws/marketdata")]
    path: String,
    /// A message that is exactly this is sent back: the sign of life of some servers
    #[arg(long)]
    echo: Option<String>,
    /// What is published: ticks to be judged, or trades for servers that judge nothing
    #[arg(long, value_enum, default_value_t = Payload::Tick)]
    payload: Payload,
    /// Most ticks in one message, as a JSON array
    #[arg(long, default_value_t = 1)]
    per_message: u64,
    /// Sequence and latency are read on one client in K
    #[arg(long, default_value_t = 10)]
    sample: usize,
    /// Look for arrivals every so many microseconds only, as a machine of its own would not be woken on this one's cores
    /// by every frame; adds up to as much to each latency (0: wake up for each arrival)
    #[arg(long, default_value_t = 0)]
    poll_us: u64,
    /// Instruments whose latency is reported apart (prefix of the id)
    #[arg(long, default_value = "SLOW")]
    apart: String,
    /// Every K-th tick goes to the instrument SLOW (0: none), from `--slow-after` seconds into the measurement
    #[arg(long, default_value_t = 0)]
    slow_every: u64,
    /// When SLOW ticks begin, seconds after publishing began
    #[arg(long, default_value_t = 0.0)]
    slow_after: f64,
    /// Server processes: CPU time of them and their descendants is reported
    #[arg(long, value_delimiter = ',')]
    pid: Vec<i32>,
    /// Processes whose memory, with that of their descendants, is reported, where it is not that of `--pid`
    #[arg(long, value_delimiter = ',')]
    memory_of: Vec<i32>,
}

/// Form of the trades.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Format {
    Plain,
    Json,
    Bin,
}

/// What is published.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Payload {
    Tick,
    Trade,
}

/// Which trades come.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Mode {
    Tape,
    Latest,
}

impl Args {
    fn memory_of(&self) -> &[i32] {
        if self.memory_of.is_empty() { &self.pid } else { &self.memory_of }
    }

    fn subprotocol(&self) -> &str {
        self.subprotocol.as_deref().unwrap_or(match self.format {
            Format::Plain => "",
            Format::Json => "tickcast.v1.json",
            Format::Bin => "tickcast.v1.bin",
        })
    }

    /// The first message of client `i`.
    fn first(&self, i: usize) -> String {
        if let Some(first) = &self.first {
            return first.clone();
        }
        if self.format == Format::Plain {
            return String::new();
        }
        let mut wish = json!({"type": "subscribe", "snapshot": false});
        if self.mode == Mode::Latest {
            wish["mode"] = json!("latest");
        }
        if self.max_rate_hz > 0.0 {
            wish["maxRateHz"] = json!(self.max_rate_hz);
        }
        if self.acks > 0 {
            wish["ackBytes"] = json!(self.acks);
        }
        if self.own > 0 {
            wish["instruments"] = self.own_instruments(i).into_iter().map(publish::name).collect();
        }
        if let Ok(serde_json::Value::Object(more)) = serde_json::from_str(&self.subscribe) {
            wish.as_object_mut().into_iter().for_each(|wish| wish.extend(more.clone()));
        }
        wish.to_string()
    }

    /// The instruments of client `i`, ascending; neighbours share none, others some.
    fn own_instruments(&self, i: usize) -> Vec<usize> {
        let mut own: Vec<usize> = (0..self.own).map(|k| (i * self.own + k * 7 + i / 13) % self.instruments).collect();
        own.sort_unstable();
        own.dedup();
        own
    }
}

/// State of the run that both threads see.
#[derive(Default)]
struct Run {
    phase: AtomicU8,
    open: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    published: AtomicU64,
    /// Clients that stalled and have not caught up yet.
    behind: AtomicU64,
    /// When the newest ticks were published, ns since the Unix epoch, by sequence.
    times: publish::Times,
}

const CONNECTING: u8 = 0;
const WARM: u8 = 1;
const MEASURING: u8 = 2;
/// Publishing has ended; what is on its way may still arrive, and those that stalled read on.
const DRAINING: u8 = 3;
const DONE: u8 = 4;

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = text
        .to_socket_addrs()
        .map_err(|e| format!("{text}: {e}"))?
        .find(SocketAddr::is_ipv4)
        .ok_or(format!("{text}: no IPv4 address"))?;
    if address.ip().is_loopback() { Ok(address) } else { Err(format!("{text}: only loopback addresses are loaded")) }
}

/// How long what is on its way may take, and what those that stalled had not read.
const DRAIN: Duration = Duration::from_millis(1_500);
const CATCH_UP: Duration = Duration::from_secs(15);

/// Sleeps through the measurement; returns the servers' memory at the end of each interval.
fn wait_and_look(args: &Args) -> Vec<u64> {
    let (start, whole) = (Instant::now(), Duration::from_secs_f64(args.seconds));
    let mut memory = Vec::new();
    if args.every > 0.0 {
        let every = Duration::from_secs_f64(args.every);
        for k in 1..=(args.seconds / args.every) as u32 {
            std::thread::sleep((every * k).saturating_sub(start.elapsed()));
            memory.push(usage::own_bytes(args.memory_of()));
        }
    }
    std::thread::sleep(whole.saturating_sub(start.elapsed()));
    memory
}

fn run(args: &Args) -> Result<serde_json::Value, String> {
    let own_bytes_before = usage::own_bytes(args.memory_of());
    let (gateway, nats) = (loopback(&args.gateway)?, loopback(&args.nats)?);
    let shared = Arc::new(Run::default());
    let receiving = {
        let (args, shared) = (args.clone(), shared.clone());
        std::thread::spawn(move || clients::run(&args, gateway, &shared))
    };
    let start = Instant::now();
    while shared.open.load(Ordering::Relaxed) + shared.failed.load(Ordering::Relaxed) < args.clients as u64 {
        if start.elapsed() > Duration::from_secs(30) || receiving.is_finished() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if let Err(e) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&args.subscribe) {
        return Err(format!("--subscribe {}: not a JSON object: {e}", args.subscribe));
    }
    // Subscriptions are on their way: nothing may be published before they have been taken.
    std::thread::sleep(Duration::from_millis(500));
    shared.phase.store(WARM, Ordering::Release);
    let publishing = {
        let (args, shared) = (args.clone(), shared.clone());
        std::thread::spawn(move || publish::run(&args, nats, &shared))
    };
    std::thread::sleep(Duration::from_secs_f64(args.warmup));
    let before = usage::cpu_seconds(&args.pid);
    let own_before = usage::own_cpu_seconds();
    shared.phase.store(MEASURING, Ordering::Release);
    let memory = wait_and_look(args);
    let by_process = usage::difference(&before, &usage::cpu_seconds(&args.pid));
    let server_cpu: f64 = by_process.values().sum();
    let own_cpu = usage::own_cpu_seconds() - own_before;
    let own_bytes = usage::own_bytes(args.memory_of());
    shared.phase.store(DRAINING, Ordering::Release);
    let published = publishing.join().map_err(|_| "publisher panicked")??;
    std::thread::sleep(DRAIN);
    let draining = Instant::now();
    while shared.behind.load(Ordering::Relaxed) > 0 && draining.elapsed() < CATCH_UP {
        std::thread::sleep(Duration::from_millis(20));
    }
    shared.phase.store(DONE, Ordering::Release);
    let got = receiving.join().map_err(|_| "receiver panicked")??;
    let deliveries: u64 = got.measured;
    Ok(json!({
        "clients": args.clients, "connected": got.connected, "disconnected": shared.lost.load(Ordering::Relaxed),
        "asked_ticks_per_s": args.rate, "published": published.ticks, "behind_p99_ms": published.behind_p99_ms,
        "seconds": args.seconds, "deliveries_per_s": (deliveries as f64 / args.seconds).round(),
        "frames_per_s": (got.frames as f64 / args.seconds).round(),
        "bytes_per_s": (got.bytes as f64 / args.seconds).round(),
        "per_client": {"least": got.least, "most": got.most},
        "sampled": {"clients": got.sampled, "missing": got.missing, "doubled_or_reordered": got.disordered,
            "in_gaps": got.gapped, "conflated": got.conflated},
        "stalled": got.stalled, "warned_slow": got.warned, "age_ms": got.age,
        "latency_ms": got.latency, "latency_apart_ms": got.latency_apart,
        "server_cpu_s": server_cpu, "server_cpu_s_per_million": server_cpu * 1e6 / deliveries.max(1) as f64,
        "server_cpu_s_by_pid": by_process, "server_own_bytes": {"before_clients": own_bytes_before, "loaded": own_bytes},
        "intervals": {"latency_ms": got.intervals, "server_own_bytes": memory},
        "load_cpu_s": own_cpu, "cores": std::thread::available_parallelism().map_or(0, |n| n.get()),
    }))
}

fn main() {
    match run(&Args::parse()) {
        Ok(report) => println!("{report:#}"),
        Err(error) => {
            eprintln!("tickcast-load: {error}");
            std::process::exit(1);
        }
    }
}
