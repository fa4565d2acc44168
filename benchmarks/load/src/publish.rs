//! Paced ticks to NATS: each millisecond, in one write, what is due.

use crate::{Args, DRAINING, Payload, Run};
use hdrhistogram::Histogram;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What was published.
pub struct Published {
    pub ticks: u64,
    pub behind_p99_ms: f64,
}

/// Wall clock, ns since the Unix epoch.
pub fn wall_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}

pub fn run(args: &Args, nats: SocketAddr, run: &Run) -> Result<Published, String> {
    let mut socket = TcpStream::connect(nats).map_err(|e| format!("NATS {nats}: {e}"))?;
    socket.set_nodelay(true).map_err(|e| e.to_string())?;
    let copy = || socket.try_clone().map_err(|e| e.to_string());
    let mut info = String::new();
    BufReader::new(copy()?).read_line(&mut info).map_err(|e| e.to_string())?;
    answer_pings(copy()?, copy()?);
    socket
        .write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"name\":\"tickcast-load\"}\r\n")
        .map_err(|e| e.to_string())?;
    let mut behind = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).map_err(|e| e.to_string())?;
    let (start, mut sent, mut out, mut payload) = (Instant::now(), 0u64, Vec::new(), Vec::new());
    let mut wake = start;
    while run.phase.load(Ordering::Acquire) < DRAINING {
        let due = (start.elapsed().as_secs_f64() * args.rate) as u64;
        if due > sent {
            let late = start.elapsed().as_secs_f64() - (sent + 1) as f64 / args.rate;
            behind.saturating_record((late.max(0.0) * 1e6) as u64);
            out.clear();
            let now = wall_ns();
            while sent < due {
                payload.clear();
                let many = args.per_message > 1;
                if many {
                    payload.push(b'[');
                }
                for k in 0..args.per_message.max(1).min(due - sent) {
                    if k > 0 {
                        payload.push(b',');
                    }
                    sent += 1;
                    run.times.set(sent, now);
                    tick(args, sent, now, start.elapsed().as_secs_f64(), &mut payload);
                }
                if many {
                    payload.push(b']');
                }
                let _ = write!(out, "PUB {} {}\r\n", args.subject, payload.len());
                out.extend_from_slice(&payload);
                out.extend_from_slice(b"\r\n");
            }
            socket.write_all(&out).map_err(|e| format!("NATS: {e}"))?;
            run.published.store(sent, Ordering::Relaxed);
        }
        wake += Duration::from_millis(1);
        match wake.checked_duration_since(Instant::now()) {
            Some(pause) => std::thread::sleep(pause),
            None => wake = Instant::now(),
        }
    }
    Ok(Published { ticks: sent, behind_p99_ms: behind.value_at_quantile(0.99) as f64 / 1e3 })
}

/// When the newest ticks were published.
pub struct Times(Vec<AtomicI64>);

/// Sequences whose times are kept.
const KEPT: u64 = 1 << 20;

impl Default for Times {
    fn default() -> Self {
        Times((0..KEPT).map(|_| AtomicI64::new(0)).collect())
    }
}

impl Times {
    fn set(&self, sequence: u64, ns: i64) {
        self.0[(sequence % KEPT) as usize].store(ns, Ordering::Relaxed);
    }

    /// ns since the Unix epoch; of one of the newest sequences.
    pub fn get(&self, sequence: u64) -> i64 {
        self.0[(sequence % KEPT) as usize].load(Ordering::Relaxed)
    }
}

/// Which instrument a tick is of.
pub fn instrument(args: &Args, sequence: u64) -> usize {
    sequence.wrapping_mul(2_654_435_761) as usize % args.instruments
}

/// The id of an instrument.
pub fn name(instrument: usize) -> String {
    format!("SYM{instrument:04}")
}

/// One tick as JSON, or the trade that would come of it; a price within the band that depends on the sequence alone.
fn tick(args: &Args, sequence: u64, now_ns: i64, elapsed_s: f64, out: &mut Vec<u8>) {
    let price = 100.0 + (sequence % 997) as f64 / 100.0;
    if args.payload == Payload::Trade {
        let name = name(instrument(args, sequence));
        let _ = write!(
            out,
            "{{\"tradeId\":\"{sequence:032x}\",\"instrumentId\":\"{name}\",\"price\":{price},\"volume\":\"{sequence}\",\
             \"timestampNs\":\"{now_ns}\",\"status\":\"VALID\",\"vwap20m\":{price}}}"
        );
        return;
    }
    let slow = args.slow_every > 0 && sequence.is_multiple_of(args.slow_every) && elapsed_s >= args.slow_after;
    let _ = if slow {
        write!(out, "{{\"instrumentId\":\"{}\"", args.apart)
    } else {
        write!(out, "{{\"instrumentId\":\"{}\"", name(instrument(args, sequence)))
    };
    let _ = write!(out, ",\"price\":{price},\"volume\":{sequence},\"timestampNs\":\"{now_ns}\"}}");
}

fn answer_pings(mut reading: TcpStream, mut writing: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = [0u8; 4096];
        while let Ok(n) = reading.read(&mut buffer) {
            if n == 0 {
                return;
            }
            if memchr::memmem::find(&buffer[..n], b"PING").is_some() && writing.write_all(b"PONG\r\n").is_err() {
                return;
            }
        }
    });
}
