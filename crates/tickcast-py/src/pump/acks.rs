//! The window of a client that acknowledges: so a slow link is noticed before the kernel's buffers hide it.

use std::collections::VecDeque;
use std::time::Instant;

/// What was sent to a client that acknowledges, and not acknowledged yet.
#[derive(Debug)]
pub struct Acks {
    most: u64,
    bytes: u64,
    sent: VecDeque<(u64, u64)>,
    moved: Instant,
}

impl Acks {
    /// A window of so many bytes; what `before` had under way still is.
    pub fn new(most: u32, before: Option<Acks>, now: Instant) -> Self {
        let fresh = Acks { most: 0, bytes: 0, sent: VecDeque::new(), moved: now };
        Acks { most: u64::from(most), ..before.unwrap_or(fresh) }
    }

    /// When the last ack came, or something was sent with nothing under way.
    pub fn moved(&self) -> Instant {
        self.moved
    }

    /// Largest frame in a window of so many bytes.
    pub fn frame_bytes(most: u32) -> usize {
        most as usize / 4
    }

    /// Whether nothing more may go before an ack.
    pub fn is_full(&self) -> bool {
        // A frame takes a quarter at most, so that the window holds.
        self.bytes * 4 > self.most * 3
    }

    /// Notes what goes out.
    pub fn sent(&mut self, to_seq: u64, bytes: usize, now: Instant) {
        if self.sent.is_empty() {
            self.moved = now;
        }
        self.sent.push_back((to_seq, bytes as u64));
        self.bytes += bytes as u64;
    }

    /// Takes an ack.
    pub fn confirm(&mut self, seq: u64, now: Instant) {
        while let Some(&(to_seq, bytes)) = self.sent.front()
            && to_seq <= seq
        {
            self.sent.pop_front();
            self.bytes -= bytes;
            self.moved = now;
        }
    }
}
