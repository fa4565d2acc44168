//! Ticks as columns: what every decoder returns and the judge takes.

use crate::decode::DecodeError;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash};

/// Distinct strings with dense codes in order of first appearance; one arena, no allocation per string.
#[derive(Debug, Clone, Default)]
pub struct Names {
    arena: String,
    ends: Vec<u32>,
    index: HashTable<u32>,
    hasher: foldhash::fast::FixedState,
}

impl Names {
    /// Returns the code of `name`, a new one if it was not there.
    pub fn intern(&mut self, name: &str) -> u32 {
        let hash = self.hash(name);
        if let Some(&code) = self.index.find(hash, |&c| slice(&self.arena, &self.ends, c) == name) {
            return code;
        }
        let code = self.ends.len() as u32;
        self.arena.push_str(name);
        self.ends.push(self.arena.len() as u32);
        let Self { arena, ends, index, hasher } = self;
        index.insert_unique(hash, code, |&c| hash_of(hasher, slice(arena, ends, c)));
        code
    }

    /// Returns the code of `name` if it is there.
    pub fn code(&self, name: &str) -> Option<u32> {
        self.index.find(self.hash(name), |&c| slice(&self.arena, &self.ends, c) == name).copied()
    }

    /// Returns the string of `code`; empty for a code that was never given.
    pub fn get(&self, code: u32) -> &str {
        if (code as usize) < self.ends.len() { slice(&self.arena, &self.ends, code) } else { "" }
    }

    /// Number of distinct strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Iterates over the strings in order of their codes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.ends.len() as u32).map(|c| slice(&self.arena, &self.ends, c))
    }

    /// Forgets all strings, keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.ends.clear();
        self.index.clear();
    }

    fn hash(&self, name: &str) -> u64 {
        hash_of(&self.hasher, name)
    }
}

fn slice<'a>(arena: &'a str, ends: &[u32], code: u32) -> &'a str {
    let code = code as usize;
    let start = if code == 0 { 0 } else { ends[code - 1] as usize };
    &arena[start..ends[code] as usize]
}

fn hash_of(hasher: &foldhash::fast::FixedState, name: &str) -> u64 {
    let mut h = hasher.build_hasher();
    name.hash(&mut h);
    std::hash::Hasher::finish(&h)
}

/// A batch of ticks as columns of equal length, one row a tick, in source order.
#[derive(Debug, Clone, Default)]
pub struct TickBatch {
    /// Distinct instrument ids of this batch (nothing about them has been checked but UTF-8).
    pub names: Names,
    /// Code into `names`.
    pub instrument: Vec<u32>,
    /// Price, quote currency per unit; any double.
    pub price: Vec<f64>,
    /// Volume, units traded (after `volume_scale`); any int64.
    pub volume: Vec<i64>,
    /// Event time, ns since the Unix epoch, UTC; 0: absent.
    pub timestamp_ns: Vec<i64>,
    /// Which payload of the decode call the tick came from.
    pub message: Vec<u32>,
    /// Index within that payload.
    pub index: Vec<u16>,
}

impl TickBatch {
    /// Number of ticks.
    pub fn len(&self) -> usize {
        self.price.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.price.is_empty()
    }

    /// Appends one tick.
    #[allow(clippy::too_many_arguments, reason = "one argument per column")]
    pub fn push(&mut self, id: &str, price: f64, volume: i64, timestamp_ns: i64, message: u32, index: u16) {
        let code = self.names.intern(id);
        self.instrument.push(code);
        self.price.push(price);
        self.volume.push(volume);
        self.timestamp_ns.push(timestamp_ns);
        self.message.push(message);
        self.index.push(index);
    }

    /// Returns the instrument id of row `row`.
    pub fn id(&self, row: usize) -> &str {
        self.names.get(self.instrument[row])
    }

    /// Cuts the batch back to its first `rows` ticks (interned names stay).
    pub fn truncate(&mut self, rows: usize) {
        self.instrument.truncate(rows);
        self.price.truncate(rows);
        self.volume.truncate(rows);
        self.timestamp_ns.truncate(rows);
        self.message.truncate(rows);
        self.index.truncate(rows);
    }
}

/// What could not be decoded: goes to the dead letters.
#[derive(Debug, Clone, PartialEq)]
pub struct Undecodable {
    /// Which payload of the decode call.
    pub message: u32,
    /// Index within the message where one element alone was bad; `None`: the whole payload.
    pub index: Option<u16>,
    /// The original bytes of the payload, or of the element.
    pub bytes: Vec<u8>,
    /// Why.
    pub error: DecodeError,
}

/// Result of a decode call.
#[derive(Debug, Clone, Default)]
pub struct Decoded {
    /// What could be decoded, in order.
    pub ticks: TickBatch,
    /// What could not, in order.
    pub undecodable: Vec<Undecodable>,
}

/// A row that stands for a tick that could not be decoded, to be answered to its sender with this reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Row of the batch.
    pub row: u32,
    /// Why it could not be decoded.
    pub reason: String,
}

impl Decoded {
    /// Puts a row in the place of everything that could not be decoded: an empty id, a price of NaN.
    ///
    /// Whoever sent such a tick gets an answer for it, in the order in which it was sent. The rows are told apart by the
    /// second part of the result, in order.
    pub fn with_rows_for_broken(self) -> (TickBatch, Vec<Broken>) {
        let Decoded { ticks, undecodable } = self;
        if undecodable.is_empty() {
            return (ticks, Vec::new());
        }
        let mut out = TickBatch::default();
        let mut broken = Vec::with_capacity(undecodable.len());
        let mut undecodable = undecodable.into_iter().peekable();
        let mut place = |out: &mut TickBatch, before: (u32, u16)| {
            while let Some(u) = undecodable.next_if(|u| (u.message, u.index.unwrap_or(0)) < before) {
                broken.push(Broken { row: out.len() as u32, reason: format!("Processing error: {}", u.error) });
                out.push("", f64::NAN, 0, 0, u.message, u.index.unwrap_or(0));
            }
        };
        for row in 0..ticks.len() {
            let at = (ticks.message[row], ticks.index[row]);
            place(&mut out, at);
            out.push(ticks.id(row), ticks.price[row], ticks.volume[row], ticks.timestamp_ns[row], at.0, at.1);
        }
        place(&mut out, (u32::MAX, u16::MAX));
        (out, broken)
    }
}
