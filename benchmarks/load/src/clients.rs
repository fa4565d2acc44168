//! Receive-mostly WebSocket clients on one poll loop.
//!
//! Frames of a server are not masked, so they are scanned where `read` put them; only what a frame lacks is carried.

use crate::publish::{instrument, wall_ns};
use crate::{Args, CONNECTING, DONE, DRAINING, Format, MEASURING, Mode, Run};
use hdrhistogram::Histogram;
use memchr::memmem::Finder;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const BUFFER: usize = 1 << 21;
const CONNECTING_AT_ONCE: usize = 64;
/// Flag of a binary frame: its last section says how much was conflated.
const CONFLATED: u64 = 64;
/// How often throttled clients read, and ages are looked at.
const LOOK: Duration = Duration::from_millis(10);

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
    pub gapped: u64,
    pub conflated: u64,
    pub warned: u64,
    /// Those that did not read: what they were told when they read on.
    pub stalled: Value,
    pub bytes: u64,
    /// Age of what a client shows, looked at again and again: now − publishing of the oldest change not shown yet.
    pub age: Value,
    pub latency: Value,
    /// The same of each interval.
    pub intervals: Vec<Value>,
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
    /// It stalled, and now it reads on.
    woken: bool,
    sampled: bool,
    carry: Vec<u8>,
    trades: u64,
    measured: u64,
    /// Newest trade, by the publisher's number.
    last: u64,
    /// Last sequence of the tape that the client was told of.
    covered: u64,
    /// Sequences that it was told it would not get.
    gapped: u64,
    /// Sequences that it was not told of, or more than once.
    untold: u64,
    /// Bytes since the last ack.
    unacked: usize,
    /// Instruments of its own.
    own: Vec<usize>,
    throttled: bool,
    allowance: f64,
}

struct Loop<'a> {
    args: &'a Args,
    run: &'a Run,
    clients: Vec<Client>,
    trade: Finder<'static>,
    volume: Finder<'static>,
    stamp: Finder<'static>,
    latency: Histogram<u64>,
    recent: Histogram<u64>,
    intervals: Vec<Value>,
    apart: Histogram<u64>,
    age: Histogram<u64>,
    frames: u64,
    bytes: u64,
    missing: u64,
    disordered: u64,
    gapped: u64,
    conflated: u64,
    warned: u64,
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
        recent: histogram()?,
        intervals: Vec::new(),
        apart: histogram()?,
        age: histogram()?,
        frames: 0,
        bytes: 0,
        missing: 0,
        disordered: 0,
        gapped: 0,
        conflated: 0,
        warned: 0,
    };
    let mut poll = Poll::new().map_err(|e| e.to_string())?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0u8; BUFFER];
    let (mut looked, mut measured_since) = (Instant::now(), None);
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
        if phase == DRAINING {
            state.read_on(&mut buffer, &poll);
        }
        let wait = if args.poll_us == 0 { Duration::from_millis(20) } else { Duration::ZERO };
        match poll.poll(&mut events, Some(wait)) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e.to_string()),
            _ => {}
        }
        let since = looked.elapsed();
        if since >= LOOK {
            looked = Instant::now();
            state.read_throttled(since, &mut buffer, phase == MEASURING, &poll);
            if phase == MEASURING && args.mode == Mode::Latest {
                state.look_at_ages();
            }
            if phase >= MEASURING && args.every > 0.0 {
                state.end_interval(*measured_since.get_or_insert(looked));
            }
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
            woken: false,
            sampled: i >= self.args.throttled && i.is_multiple_of(self.args.sample.max(1)),
            carry: Vec::new(),
            trades: 0,
            measured: 0,
            last: 0,
            covered: 0,
            gapped: 0,
            untold: 0,
            unacked: 0,
            own: self.args.own_instruments(i),
            throttled: i < self.args.throttled,
            allowance: 0.0,
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
            let throttled = client.throttled && client.state == State::Open;
            if throttled && client.allowance < 1.0 {
                return;
            }
            let carried = client.carry.len();
            let free = buffer.len() - carried;
            let room = if throttled { free.min(client.allowance as usize) } else { free };
            let buffer = &mut buffer[..carried + room];
            buffer[..carried].copy_from_slice(&client.carry);
            let Some(socket) = &mut client.socket else { return };
            match socket.read(&mut buffer[carried..]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => return self.close(i),
                Ok(n) => {
                    client.allowance -= n as f64;
                    client.carry.clear();
                    let used = self.take(i, &buffer[..carried + n], measuring);
                    match used {
                        None => return self.close(i),
                        Some(used) => self.clients[i].carry.extend_from_slice(&buffer[used..carried + n]),
                    }
                    let client = &mut self.clients[i];
                    if client.state == State::Open && client.stalled && !client.woken {
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
        let subprotocol = match self.args.subprotocol() {
            "" => String::new(),
            name => format!("Sec-WebSocket-Protocol: {name}\r\n"),
        };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGlja2Nhc3QtbG9hZC0wMQ==\r\nSec-WebSocket-Version: 13\r\n{subprotocol}\r\n",
            self.args.path, self.args.gateway
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
            let first = self.args.first(i);
            let client = &mut self.clients[i];
            if !first.is_empty() {
                client.socket.as_mut()?.write_all(&frame(1, first.as_bytes())).ok()?;
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
                1 => self.text(i, payload, measuring)?,
                2 if self.args.format != Format::Plain => self.binary(i, payload, measuring)?,
                2 => self.text(i, payload, measuring)?,
                8 => return None,
                9 => self.clients[i].socket.as_mut()?.write_all(&frame(10, payload)).ok()?,
                _ => {}
            }
        }
        Some(at)
    }

    /// Counts a frame and acknowledges; None when the connection has ended.
    fn count(&mut self, i: usize, count: u64, to_seq: Option<u64>, bytes: usize, measuring: bool) -> Option<()> {
        let client = &mut self.clients[i];
        client.trades += count;
        client.unacked += bytes;
        if measuring {
            client.measured += count;
            self.frames += 1;
            self.bytes += bytes as u64;
        }
        if let Some(to_seq) = to_seq
            && self.args.acks > 0
            && client.unacked * 4 >= self.args.acks
        {
            client.unacked = 0;
            let ack = format!("{{\"type\":\"ack\",\"seq\":{to_seq}}}");
            client.socket.as_mut()?.write_all(&frame(1, ack.as_bytes())).ok()?;
        }
        Some(())
    }

    /// Enters the range of a frame: ranges of one client follow one another.
    fn cover(&mut self, i: usize, seq: u64, to_seq: u64) {
        let client = &mut self.clients[i];
        if client.covered > 0 && seq != client.covered + 1 {
            self.missing += seq.saturating_sub(client.covered + 1);
            self.disordered += u64::from(seq <= client.covered);
        }
        client.covered = to_seq;
    }

    /// Puts the percentiles of an interval down, once it is over.
    fn end_interval(&mut self, since: Instant) {
        let due = (self.intervals.len() + 1) as f64 * self.args.every;
        if due <= self.args.seconds && since.elapsed().as_secs_f64() >= due {
            self.intervals.push(percentiles(&self.recent));
            self.recent.reset();
        }
    }

    /// Enters what a client that stalled is told of: all of it counts, when it comes does not.
    fn tell(&mut self, i: usize, seq: u64, to_seq: u64) {
        let client = &mut self.clients[i];
        if client.covered > 0 {
            client.untold += seq.abs_diff(client.covered + 1);
        }
        client.covered = to_seq;
    }

    /// Lets those that stalled read on, and counts those that have not caught up.
    fn read_on(&mut self, buffer: &mut [u8], poll: &Poll) {
        if self.args.format == Format::Plain {
            // It says no ranges.
            return;
        }
        let published = self.run.published.load(Ordering::Relaxed);
        let mut behind = 0;
        for i in (0..self.clients.len()).rev() {
            let client = &mut self.clients[i];
            if !client.stalled || client.state != State::Open {
                continue;
            }
            if !std::mem::replace(&mut client.woken, true) {
                let Some(socket) = &mut client.socket else { continue };
                let _ = poll.registry().register(socket, Token(i), Interest::READABLE);
                self.ready(i, buffer, false, poll);
            }
            behind += u64::from(self.clients[i].covered < published && self.clients[i].state == State::Open);
        }
        self.run.behind.store(behind, Ordering::Relaxed);
    }

    /// Enters the number of a trade and its latency.
    fn enter(&mut self, i: usize, sequence: u64, apart: bool, latency_ns: Option<i64>) {
        let client = &mut self.clients[i];
        if sequence <= client.last {
            self.disordered += 1;
        } else {
            if self.args.format == Format::Plain {
                // Without ranges every number counts.
                self.missing += sequence - client.last - 1;
            }
            client.last = sequence;
        }
        if let Some(ns) = latency_ns {
            let micros = ns.max(0) as u64 / 1000;
            if apart {
                self.apart.saturating_record(micros);
            } else {
                self.latency.saturating_record(micros);
                if self.args.every > 0.0 {
                    self.recent.saturating_record(micros);
                }
            }
        }
    }

    /// A binary frame: latency is that of its oldest trade.
    fn binary(&mut self, i: usize, payload: &[u8], measuring: bool) -> Option<()> {
        let u64_at = |at: usize| payload.get(at..at + 8).map(|b| u64::from_le_bytes(b.try_into().unwrap_or_default()));
        let u16_at = |at: usize| payload.get(at..at + 2).map(|b| usize::from(b[0]) | usize::from(b[1]) << 8);
        if !payload.starts_with(b"TCb1") {
            // Compressed: counted as bytes only.
            return self.count(i, 0, None, payload.len(), measuring);
        }
        let (count, seq, to_seq) = (u64_at(0)? >> 32, u64_at(8)?, u64_at(16)?);
        self.count(i, count, Some(to_seq), payload.len(), measuring)?;
        if self.clients[i].stalled {
            self.tell(i, seq, to_seq);
            return Some(());
        }
        if !self.clients[i].sampled {
            return Some(());
        }
        self.cover(i, seq, to_seq);
        let latency = wall_ns() - u64_at(32)? as i64;
        let size = u16_at(48)?;
        let records = payload.len().checked_sub(count as usize * size)?;
        if u64_at(48)? >> 32 & CONFLATED != 0 {
            self.conflated += u64_at(records.checked_sub(8)?)?;
        }
        for row in 0..count as usize {
            self.enter(i, u64_at(records + row * size + 24)?, false, (measuring && row == 0).then_some(latency));
        }
        Some(())
    }

    fn text(&mut self, i: usize, payload: &[u8], measuring: bool) -> Option<()> {
        let key = |name: &str| number(&Finder::new(name), payload);
        let count = self.trade.find_iter(payload).count() as u64;
        if count == 0 {
            if self.args.echo.as_ref().is_some_and(|echo| echo.as_bytes() == payload) {
                self.clients[i].socket.as_mut()?.write_all(&frame(1, payload)).ok()?;
            }
            return self.around(i, payload);
        }
        let framed = self.args.format != Format::Plain;
        let to_seq = if framed { key("\"toSeq\":") } else { None };
        self.count(i, count, to_seq, payload.len(), measuring)?;
        if self.clients[i].stalled {
            if let Some(to_seq) = to_seq {
                self.tell(i, key("\"seq\":").unwrap_or(0), to_seq);
            }
            return Some(());
        }
        if !self.clients[i].sampled {
            return Some(());
        }
        if let Some(to_seq) = to_seq {
            self.cover(i, key("\"seq\":").unwrap_or(0), to_seq);
            let tail = &payload[payload.len().saturating_sub(40)..];
            self.conflated += number(&Finder::new("\"conflated\":"), tail).unwrap_or(0);
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
            let apart = memchr::memmem::find(&trade[..end], self.args.apart.as_bytes()).is_some();
            self.enter(i, sequence, apart, measuring.then_some(now - sent as i64));
        }
        Some(())
    }

    /// What comes around the trades.
    fn around(&mut self, i: usize, payload: &[u8]) -> Option<()> {
        let key = |name: &str| number(&Finder::new(name), payload);
        let sampled = self.clients[i].sampled;
        if payload.starts_with(b"{\"type\":\"gap\"") {
            let (from, to) = (key("\"from\":")?, key("\"to\":")?);
            if self.clients[i].stalled {
                self.clients[i].gapped += to + 1 - from;
                self.tell(i, from, to);
            } else if sampled {
                self.gapped += to + 1 - from;
                self.cover(i, from, to);
            }
        } else if payload.starts_with(b"{\"type\":\"heartbeat\"") && sampled {
            let client = &mut self.clients[i];
            client.covered = client.covered.max(key("\"seq\":")?);
        } else if payload.starts_with(b"{\"type\":\"error\",\"code\":\"slow\"") {
            self.warned += 1;
        }
        Some(())
    }

    /// Lets throttled clients read what they may.
    fn read_throttled(&mut self, since: Duration, buffer: &mut [u8], measuring: bool, poll: &Poll) {
        for i in 0..self.args.throttled.min(self.clients.len()) {
            let rate = self.args.throttle_bytes as f64;
            let client = &mut self.clients[i];
            client.allowance = (client.allowance + rate * since.as_secs_f64()).min(rate);
            if client.state == State::Open {
                self.ready(i, buffer, measuring, poll);
            }
        }
    }

    /// Notes, of each sampled client, how old the oldest change is that it does not show yet.
    fn look_at_ages(&mut self) {
        let (now, published) = (wall_ns(), self.run.published.load(Ordering::Relaxed));
        for client in self.clients.iter().filter(|c| c.sampled && !c.stalled && !c.throttled && c.covered > 0) {
            let wanted = |&sequence: &u64| {
                client.own.is_empty() || client.own.binary_search(&instrument(self.args, sequence)).is_ok()
            };
            let oldest = (client.covered + 1..=published).find(wanted);
            let age_ns = oldest.map_or(0, |sequence| now - self.run.times.get(sequence));
            self.age.saturating_record((age_ns.max(0) / 1000) as u64);
        }
    }

    fn report(&self) -> Received {
        let reading = || self.clients.iter().filter(|c| !c.stalled && !c.throttled);
        let published = self.run.published.load(Ordering::Relaxed);
        let sampled = || reading().filter(|c| c.sampled);
        let all = self.args.own == 0 && self.args.first.is_none();
        Received {
            connected: self.run.open.load(Ordering::Relaxed),
            measured: reading().map(|c| c.measured).sum(),
            frames: self.frames,
            least: reading().map(|c| c.trades).min().unwrap_or(0),
            most: reading().map(|c| c.trades).max().unwrap_or(0),
            sampled: sampled().count(),
            // What is missing at the end counts as well.
            missing: self.missing + if all { sampled().map(|c| published.saturating_sub(c.last)).sum() } else { 0 },
            disordered: self.disordered,
            gapped: self.gapped,
            conflated: self.conflated,
            warned: self.warned,
            stalled: self.stalled(published),
            bytes: self.bytes,
            age: percentiles(&self.age),
            latency: percentiles(&self.latency),
            intervals: self.intervals.clone(),
            latency_apart: percentiles(&self.apart),
        }
    }
}

impl Loop<'_> {
    fn stalled(&self, published: u64) -> Value {
        let stalled = || self.clients.iter().filter(|c| c.stalled);
        json!({
            "clients": stalled().count(), "caught_up": stalled().filter(|c| c.covered >= published).count(),
            "trades": stalled().map(|c| c.trades).sum::<u64>(), "in_gaps": stalled().map(|c| c.gapped).sum::<u64>(),
            "untold": stalled().map(|c| c.untold).sum::<u64>(),
            "closed": stalled().filter(|c| c.state == State::Closed).count(),
        })
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
