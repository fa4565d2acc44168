//! A client's socket: frames that the kernel has room for go to it straight from the pump's thread.
//!
//! Handed to the server, a frame passes through two more threads and takes the interpreter twice; measured, that is
//! half of what it costs (`benchmarks/direct.py`). The handshake, everything that clients send, pings, closes, and
//! clients that don't keep up remain the server's.
//!
//! # Why two writers of one socket don't mix
//! A WebSocket is a stream of bytes, and no frame may lie within another (RFC 6455 §5.4). The server writes what the
//! pump gave it, of which the pump knows when it is in the kernel, and by itself only pongs and the answer to a close.
//!
//! 1. A frame is written here while nothing that was given to the server is under way. The first of each connection is
//!    the server's, so the answer to the handshake is out.
//! 2. A frame is written whole: with one `send`, after the kernel was asked whether there is ample room, so that the
//!    server's pongs fit as well. Should the kernel take a part of it nevertheless, the connection is shut down there
//!    and then: its client comes back for the rest, and sees no frame that is none.
//! 3. Where there is no room the server gets the frame, and all that follow until one of them is in the kernel. It
//!    writes in order, so whatever it had begun is out by then.

use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Largest frame that goes this way: larger ones wait for room most of the time.
const LARGEST: usize = 256 * 1024;
/// Part of a send buffer that is never filled here: for what the server writes by itself. And what is queued grows: for
/// a client with a small window the kernel cuts it into pieces, each with an overhead of its own.
const PART: usize = 2;
/// Part of a send buffer that may be filled on the kernel's word of before. So little is queued then that it may grow
/// many times over; with a quarter of the buffer a frame that had had room had none within 0.1 s.
const SMALL_PART: usize = 32;
/// What a frame takes of the room besides its bytes, at most (`SKB_TRUESIZE` of an empty buffer is less).
const OVERHEAD: usize = 1024;
/// How long that word holds. Asking each time costs 8 % of a frame.
const CREDIT_HOLDS: Duration = Duration::from_millis(250);
/// Descriptors that are looked at behind the last open one; the kernel gives out the lowest that is free.
const LOOK_BEHIND: usize = 128;
/// Least time between two searches through everything.
const SEARCH_EVERY: Duration = Duration::from_millis(100);

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is in the kernel.
    Whole,
    /// There is no room for it; nothing was written.
    NoRoom,
    /// The connection has ended; nothing was written.
    Gone,
    /// A part of it was written, and the connection was shut down.
    Torn,
}

/// Another descriptor of a client's socket, closed when this is dropped.
#[derive(Debug)]
pub struct Direct {
    stream: TcpStream,
    peer: SocketAddr,
    /// Number of the server's own descriptor.
    of: RawFd,
    /// Bytes that may be written without asking again.
    credit: usize,
    /// When the kernel was asked for it.
    asked: Option<Instant>,
}

impl Direct {
    /// Writes a frame if there is room for it.
    pub fn send(&mut self, frame: &[u8], now: Instant) -> Sent {
        if !self.has_room(frame.len(), now) {
            return Sent::NoRoom;
        }
        match (&self.stream).write(frame) {
            Ok(taken) if taken == frame.len() => Sent::Whole,
            Ok(0) => Sent::NoRoom,
            Ok(_) => {
                // The peer may have gone already.
                let _ = self.stream.shutdown(Shutdown::Both);
                Sent::Torn
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Sent::NoRoom,
            Err(_) => Sent::Gone,
        }
    }

    fn has_room(&mut self, bytes: usize, now: Instant) -> bool {
        let needed = 2 * bytes + OVERHEAD;
        let holds = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < CREDIT_HOLDS);
        if holds && self.credit >= needed {
            self.credit -= needed;
            return true;
        }
        let Some((size, queued)) = self.send_buffer() else { return false };
        self.credit = (size / SMALL_PART).saturating_sub(queued + needed);
        self.asked = Some(now);
        bytes <= LARGEST && queued + needed <= size / PART
    }

    /// Returns the size of the socket's send buffer and what is queued there, bytes, the kernel's overhead included.
    ///
    /// `SO_MEMINFO`, linux/sock_diag.h; the kernel takes more while the second is less (`sk_stream_memory_free`,
    /// net/sock.h).
    fn send_buffer(&self) -> Option<(usize, usize)> {
        const VALUES: usize = 9;
        const SNDBUF: usize = 3;
        const WMEM_QUEUED: usize = 5;
        let mut values = [0u32; VALUES];
        let mut bytes = size_of_val(&values) as libc::socklen_t;
        // SAFETY: both pointers are to live variables, and `bytes` is the size of the first.
        let answer = unsafe {
            libc::getsockopt(
                self.stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                values.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let known = answer == 0 && bytes as usize >= (WMEM_QUEUED + 1) * size_of::<u32>();
        known.then(|| (values[SNDBUF] as usize, values[WMEM_QUEUED] as usize))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Descriptor {
    #[default]
    Unknown,
    /// A connection that nobody has asked for yet, or something else that is open.
    Seen,
    Claimed,
}

/// Finds the sockets of this process by whom they are connected to.
#[derive(Debug)]
pub struct Sockets {
    descriptors: Vec<Descriptor>,
    seen: HashMap<SocketAddr, RawFd>,
    claimed: HashMap<SocketAddr, RawFd>,
    most: usize,
    searched: Option<Instant>,
}

impl Default for Sockets {
    fn default() -> Self {
        Sockets {
            descriptors: Vec::new(),
            seen: HashMap::new(),
            claimed: HashMap::new(),
            // Each takes a second descriptor: a quarter of all is left for whoever else needs some.
            most: most_descriptors() * 3 / 8,
            searched: None,
        }
    }
}

impl Sockets {
    /// Claims the connection of this process from `peer` to its port `port`; `None`: there is none, or it is taken.
    ///
    /// Two connections never have both ends in common (RFC 9293 §3.3.1), so who is found is who is meant.
    pub fn claim(&mut self, peer: SocketAddr, port: u16) -> Option<Direct> {
        let peer = canonical(peer);
        if self.claimed.contains_key(&peer) || self.claimed.len() >= self.most {
            return None;
        }
        let known = self.seen.remove(&peer).and_then(|of| connection(of, peer, port));
        let found = known.or_else(|| self.search(peer, port)).or_else(|| {
            if self.searched.is_some_and(|at| at.elapsed() < SEARCH_EVERY) {
                return None;
            }
            self.searched = Some(Instant::now());
            self.forget();
            self.search(peer, port)
        })?;
        self.set(found.of, Descriptor::Claimed);
        self.set(found.stream.as_raw_fd(), Descriptor::Claimed);
        self.claimed.insert(peer, found.of);
        Some(found)
    }

    /// Number of connections that are claimed.
    pub fn claimed(&self) -> usize {
        self.claimed.len()
    }

    /// Gives a connection back.
    pub fn release(&mut self, direct: Direct) {
        self.set(direct.of, Descriptor::Unknown);
        self.set(direct.stream.as_raw_fd(), Descriptor::Unknown);
        self.claimed.remove(&direct.peer);
    }

    /// Looks at the descriptors that nothing is known of.
    fn search(&mut self, peer: SocketAddr, port: u16) -> Option<Direct> {
        let (mut number, mut closed) = (0, 0);
        while closed < LOOK_BEHIND {
            let of = number;
            number += 1;
            if self.descriptors.get(of).is_some_and(|known| *known != Descriptor::Unknown) {
                closed = 0;
                continue;
            }
            let of = RawFd::try_from(of).ok()?;
            let Some(copy) = duplicate(of) else {
                closed += 1;
                continue;
            };
            closed = 0;
            let stream = TcpStream::from(copy);
            let Ok(other) = stream.peer_addr().map(canonical) else {
                self.set(of, Descriptor::Seen);
                continue;
            };
            if other == peer && stream.local_addr().is_ok_and(|own| own.port() == port) {
                return open(stream, peer, of);
            }
            self.set(of, Descriptor::Seen);
            self.seen.insert(other, of);
        }
        None
    }

    /// Looks at everything anew next time: what was seen may have been closed, and its number given to another.
    fn forget(&mut self) {
        self.seen.clear();
        for known in &mut self.descriptors {
            if *known == Descriptor::Seen {
                *known = Descriptor::Unknown;
            }
        }
    }

    fn set(&mut self, number: RawFd, known: Descriptor) {
        let Ok(number) = usize::try_from(number) else { return };
        if number >= self.descriptors.len() {
            self.descriptors.resize(number + 1, Descriptor::Unknown);
        }
        self.descriptors[number] = known;
    }
}

/// Returns a header for a whole message of the server's, not masked (RFC 6455 §5.2).
pub fn header(bytes: usize, is_binary: bool) -> impl Iterator<Item = u8> {
    const FIN: u8 = 0x80;
    let first = FIN | if is_binary { 2 } else { 1 };
    let mut header = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let length = if let Ok(short @ 0..=125) = u8::try_from(bytes) {
        header[1] = short;
        2
    } else if let Ok(medium) = u16::try_from(bytes) {
        header[1] = 126;
        header[2..4].copy_from_slice(&medium.to_be_bytes());
        4
    } else {
        header[1] = 127;
        header[2..10].copy_from_slice(&(bytes as u64).to_be_bytes());
        10
    };
    header.into_iter().take(length)
}

fn connection(of: RawFd, peer: SocketAddr, port: u16) -> Option<Direct> {
    let stream = TcpStream::from(duplicate(of)?);
    let same = stream.peer_addr().is_ok_and(|other| canonical(other) == peer)
        && stream.local_addr().is_ok_and(|own| own.port() == port);
    same.then(|| open(stream, peer, of)).flatten()
}

fn open(stream: TcpStream, peer: SocketAddr, of: RawFd) -> Option<Direct> {
    // The server's event loop has it so anyhow; the pump must never wait.
    stream.set_nonblocking(true).ok()?;
    Some(Direct { stream, peer, of, credit: 0, asked: None })
}

fn duplicate(of: RawFd) -> Option<OwnedFd> {
    // SAFETY: makes a new descriptor; one that is not open makes the call fail.
    let copy = unsafe { libc::fcntl(of, libc::F_DUPFD_CLOEXEC, 0) };
    // SAFETY: the call has just made it, and nobody else knows of it.
    (copy >= 0).then(|| unsafe { OwnedFd::from_raw_fd(copy) })
}

/// An address of IPv4 that a socket of IPv6 shows as one of its own.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn most_descriptors() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes to a live variable.
    let answer = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if answer == 0 { usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX / 4) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let client = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        let (server, _) = listener.accept().expect("accepts");
        (client, server, port)
    }

    #[test]
    fn a_frame_goes_to_the_one_who_is_meant() {
        let pairs: Vec<_> = (0..20).map(|_| pair()).collect();
        let mut sockets = Sockets::default();
        for (client, _server, port) in pairs.iter().rev() {
            let peer = client.local_addr().expect("an address");
            let mut direct = sockets.claim(peer, *port).expect("is found");
            assert!(sockets.claim(peer, *port).is_none(), "only once");
            let text = peer.to_string();
            assert_eq!(direct.send(text.as_bytes(), Instant::now()), Sent::Whole);
            let mut got = vec![0; text.len()];
            let mut client = client;
            client.read_exact(&mut got).expect("arrives");
            assert_eq!(got, text.as_bytes());
            sockets.release(direct);
            let again = sockets.claim(peer, *port).expect("is free again");
            sockets.release(again);
        }
    }

    #[test]
    fn neither_another_port_nor_the_other_end_is_taken() {
        let (client, server, port) = pair();
        let mut sockets = Sockets::default();
        let peer = client.local_addr().expect("an address");
        assert!(sockets.claim(peer, port ^ 1).is_none());
        drop(server);
        drop(client);
        std::thread::sleep(SEARCH_EVERY);
        assert!(sockets.claim(peer, port).is_none());
    }

    #[test]
    fn a_number_that_was_given_to_another_connection_is_noticed() {
        let (first, first_server, _) = pair();
        let (second, _second_server, port) = pair();
        let mut sockets = Sockets::default();
        let peer = second.local_addr().expect("an address");
        // Sees the first on its way to the second.
        let direct = sockets.claim(peer, port).expect("is found");
        sockets.release(direct);
        drop((first, first_server));
        let (third, _third_server, port) = pair();
        std::thread::sleep(SEARCH_EVERY);
        let mut direct = sockets.claim(third.local_addr().expect("an address"), port).expect("is found");
        assert_eq!(direct.send(b"x", Instant::now()), Sent::Whole);
        let mut got = [0];
        (&third).read_exact(&mut got).expect("arrives");
    }

    #[test]
    fn whoever_does_not_read_gets_whole_frames_until_there_is_no_room() {
        let (mut client, server, port) = pair();
        let mut direct = Sockets::default().claim(client.local_addr().expect("an address"), port).expect("is found");
        let frame = vec![7; 10_000];
        let mut sent = 0;
        while direct.send(&frame, Instant::now()) == Sent::Whole {
            sent += 1;
            assert!(sent < 10_000, "a hundred megabytes are in no buffer");
        }
        assert!(sent > 1 && direct.send(&frame, Instant::now()) == Sent::NoRoom);
        // The server still has room for what it writes by itself.
        assert_eq!((&server).write(&[9; 125]).expect("has room"), 125);
        drop((server, direct));
        let mut got = Vec::new();
        client.read_to_end(&mut got).expect("reads");
        assert_eq!(got.len(), sent * frame.len() + 125);
    }

    #[test]
    fn a_connection_that_has_ended_takes_nothing() {
        let (client, _server, port) = pair();
        let mut direct = Sockets::default().claim(client.local_addr().expect("an address"), port).expect("is found");
        drop(client);
        let until = Instant::now() + Duration::from_secs(5);
        while direct.send(b"late", Instant::now()) != Sent::Gone {
            assert!(Instant::now() < until, "an end is noticed");
        }
    }

    #[test]
    fn headers_are_those_of_the_standard() {
        let of = |bytes, binary| header(bytes, binary).collect::<Vec<_>>();
        assert_eq!(of(0, false), [0x81, 0]);
        assert_eq!(of(125, true), [0x82, 125]);
        assert_eq!(of(126, false), [0x81, 126, 0, 126]);
        assert_eq!(of(65_535, true), [0x82, 126, 255, 255]);
        assert_eq!(of(65_536, false), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
