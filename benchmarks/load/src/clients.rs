//! Receive-mostly WebSocket clients on one poll loop.
//!
//! Frames of a server are not masked, so they are scanned where `read` put them; only what a frame lacks is carried.

use crate::publish::wall_ns;
use crate::{Args, CONNECTING, DONE, MEASURING, Run};
use hdrhistogram::Histogram;
use memchr::memmem::Finder;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

const BUFFER: usize = 1 << 21;
const CONNECTING_AT_ONCE: usize = 64;

/// What the clients received.
pub struct Received {
    pub connected: u64,
    pub measured: u64,
    pub frames: u64,
    pub least: u64,
    pub most: u64,
    pub sampled: usize,
    pub missing: u64,
    pub disordered: u64,
    pub latency: Value,
    pub latency_apart: Value,
}

#[derive(PartialEq)]
enum State {
    Connecting,
    Handshake,
    Open,
    Closed,
}

struct Client {
    socket: Option<TcpStream>,
    state: State,
    stalled: bool,
    sampled: bool,
    carry: Vec<u8>,
    trades: u64,
    measured: u64,
    last: u64,
}

struct Loop<'a> {
    args: &'a Args,
    run: &'a Run,
    clients: Vec<Client>,
    trade: Finder<'static>,
    volume: Finder<'static>,
    stamp: Finder<'static>,
    latency: Histogram<u64>,
    apart: Histogram<u64>,
    frames: u64,
    missing: u64,
    disordered: u64,
}

pub fn run(args: &Args, gateway: SocketAddr, run: &Run) -> Result<Received, String> {
    let histogram = || Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).map_err(|e| e.to_string());
    let mut state = Loop {
        args,
        run,
        clients: Vec::new(),
        trade: Finder::new("\"tradeId\""),
        volume: Finder::new("\"volume\":\""),
        stamp: Finder::new("\"timestampNs\":\""),
        latency: histogram()?,
        apart: histogram()?,
        frames: 0,
        missing: 0,
        disordered: 0,
    };
    let mut poll = Poll::new().map_err(|e| e.to_string())?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0u8; BUFFER];
    loop {
        let phase = run.phase.load(Ordering::Acquire);
        if phase == DONE {
            break;
        }
        let under_way =
            state.clients.len() as u64 - run.open.load(Ordering::Relaxed) - run.failed.load(Ordering::Relaxed);
        if phase == CONNECTING && state.clients.len() < args.clients && (under_way as usize) < CONNECTING_AT_ONCE {
            state.connect(gateway, &poll)?;
            continue;
        }
        let wait = if args.poll_us == 0 { Duration::from_millis(20) } else { Duration::ZERO };
        match poll.poll(&mut events, Some(wait)) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e.to_string()),
            _ => {}
        }
        for event in &events {
            state.ready(event.token().0, &mut buffer, phase == MEASURING, &poll);
        }
        if args.poll_us > 0 {
            std::thread::sleep(Duration::from_micros(args.poll_us));
        }
    }
    Ok(state.report())
}

impl Loop<'_> {
    fn connect(&mut self, gateway: SocketAddr, poll: &Poll) -> Result<(), String> {
        let i = self.clients.len();
        let mut socket = TcpStream::connect(gateway).map_err(|e| e.to_string())?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket, Token(i), interest).map_err(|e| e.to_string())?;
        self.clients.push(Client {
            socket: Some(socket),
            state: State::Connecting,
            stalled: i >= self.args.clients - self.args.stalled.min(self.args.clients),
            sampled: i.is_multiple_of(self.args.sample.max(1)),
            carry: Vec::new(),
            trades: 0,
            measured: 0,
            last: 0,
        });
        Ok(())
    }

    fn close(&mut self, i: usize) {
        let client = &mut self.clients[i];
        match client.state {
            State::Closed => return,
            State::Open => {
                self.run.open.fetch_sub(1, Ordering::Relaxed);
                self.run.lost.fetch_add(1, Ordering::Relaxed);
                self.run.failed.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                self.run.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        client.state = State::Closed;
        client.socket = None;
    }

    /// Reads until the socket is empty (readiness is reported once for each arrival, a short read means empty).
    fn ready(&mut self, i: usize, buffer: &mut [u8], measuring: bool, poll: &Poll) {
        if self.clients[i].state == State::Connecting && !self.greet(i) {
            return;
        }
        loop {
            let client = &mut self.clients[i];
            let carried = client.carry.len();
            buffer[..carried].copy_from_slice(&client.carry);
            let Some(socket) = &mut client.socket else { return };
            match socket.read(&mut buffer[carried..]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => return self.close(i),
                Ok(n) => {
                    client.carry.clear();
                    let used = self.take(i, &buffer[..carried + n], measuring);
                    match used {
                        None => return self.close(i),
                        Some(used) => self.clients[i].carry.extend_from_slice(&buffer[used..carried + n]),
                    }
                    let client = &mut self.clients[i];
                    if client.state == State::Open && client.stalled {
                        if let Some(socket) = &mut client.socket {
                            let _ = poll.registry().deregister(socket);
                        }
                        return;
                    }
                    if n < buffer.len() - carried {
                        return;
                    }
                }
            }
        }
    }

    /// Sends the handshake once the connection stands.
    fn greet(&mut self, i: usize) -> bool {
        let client = &mut self.clients[i];
        let Some(socket) = &mut client.socket else { return false };
        if socket.peer_addr().is_err() {
            if let Ok(Some(_)) = socket.take_error() {
                self.close(i);
            }
            return false;
        }
        let subprotocol = match self.args.subprotocol.as_str() {
            "" => String::new(),
            name => format!("Sec-WebSocket-Protocol: {name}\r\n"),
        };
        let request = format!(
            "GET /ws/marketdata HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGlja2Nhc3QtbG9hZC0wMQ==\r\nSec-WebSocket-Version: 13\r\n{subprotocol}\r\n",
            self.args.gateway
        );
        if socket.write_all(request.as_bytes()).is_err() {
            self.close(i);
            return false;
        }
        client.state = State::Handshake;
        true
    }

    /// Takes whole frames off the front; returns how many bytes they were, None when the connection has ended.
    fn take(&mut self, i: usize, bytes: &[u8], measuring: bool) -> Option<usize> {
        let mut at = 0;
        if self.clients[i].state == State::Handshake {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Some(0) };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                return None;
            }
            at = end + 4;
            let first = frame(1, self.args.first.as_bytes());
            let client = &mut self.clients[i];
            if !self.args.first.is_empty() {
                client.socket.as_mut()?.write_all(&first).ok()?;
            }
            client.state = State::Open;
            self.run.open.fetch_add(1, Ordering::Relaxed);
        }
        while let Some((opcode, head, length)) = header(&bytes[at..]) {
            if bytes.len() - at < head + length {
                break;
            }
            let payload = &bytes[at + head..at + head + length];
            at += head + length;
            match opcode {
                1 | 2 => self.data(i, payload, measuring),
                8 => return None,
                9 => self.clients[i].socket.as_mut()?.write_all(&frame(10, payload)).ok()?,
                _ => {}
            }
        }
        Some(at)
    }

    fn data(&mut self, i: usize, payload: &[u8], measuring: bool) {
        let count = self.trade.find_iter(payload).count() as u64;
        if count == 0 {
            return;
        }
        let client = &mut self.clients[i];
        client.trades += count;
        if measuring {
            client.measured += count;
            self.frames += 1;
        }
        if !client.sampled {
            return;
        }
        let now = wall_ns();
        let mut at = 0;
        while let Some(found) = self.trade.find(&payload[at..]) {
            let trade = &payload[at + found..];
            at += found + 1;
            let end = self.trade.find(&trade[1..]).map_or(trade.len(), |n| n + 1);
            let (Some(sequence), Some(sent)) =
                (number(&self.volume, &trade[..end]), number(&self.stamp, &trade[..end]))
            else {
                continue;
            };
            if sequence <= client.last {
                self.disordered += 1;
            } else {
                self.missing += sequence - client.last - 1;
                client.last = sequence;
            }
            if measuring {
                let micros = (now - sent as i64).max(0) as u64 / 1000;
                let apart = memchr::memmem::find(&trade[..end], self.args.apart.as_bytes()).is_some();
                if apart { self.apart.saturating_record(micros) } else { self.latency.saturating_record(micros) }
            }
        }
    }

    fn report(&self) -> Received {
        let reading = || self.clients.iter().filter(|c| !c.stalled);
        let published = self.run.published.load(Ordering::Relaxed);
        let sampled = || reading().filter(|c| c.sampled);
        Received {
            connected: self.run.open.load(Ordering::Relaxed),
            measured: reading().map(|c| c.measured).sum(),
            frames: self.frames,
            least: reading().map(|c| c.trades).min().unwrap_or(0),
            most: reading().map(|c| c.trades).max().unwrap_or(0),
            sampled: sampled().count(),
            // What is missing at the end counts as well.
            missing: self.missing + sampled().map(|c| published.saturating_sub(c.last)).sum::<u64>(),
            disordered: self.disordered,
            latency: percentiles(&self.latency),
            latency_apart: percentiles(&self.apart),
        }
    }
}

fn percentiles(h: &Histogram<u64>) -> Value {
    let ms = |q: f64| h.value_at_quantile(q) as f64 / 1e3;
    if h.is_empty() {
        return Value::Null;
    }
    json!({"samples": h.len(), "p50": ms(0.5), "p99": ms(0.99), "p999": ms(0.999), "max": h.max() as f64 / 1e3})
}

/// The digits behind a key.
fn number(key: &Finder<'_>, text: &[u8]) -> Option<u64> {
    let digits = &text[key.find(text)? + key.needle().len()..];
    let end = digits.iter().position(|b| !b.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// A client's frame: masked with key 0, so that the payload goes out as it is.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        n if n < 126 => out.push(0x80 | n as u8),
        n => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

/// (opcode, length of the header, length of the payload) of the frame at the front, once its header is whole.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    match second & 0x7f {
        126 => Some((first & 15, 4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)))),
        127 => Some((first & 15, 10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?)),
        n => Some((first & 15, 2, usize::from(n))),
    }
}
