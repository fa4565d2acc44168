//! The bytes of a tape as 64-bit atomic words: a mapped file, or plain memory for tests and models.
//!
//! Every access is an atomic one, data included: a reader that copies what the writer is overwriting gets a torn
//! value, which the protocols ([`super::protocol`]) detect and throw away, but never undefined behaviour.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

// Words are shared as they lie in memory, and the frames sent to clients are little-endian by contract.
const _: () = assert!(cfg!(target_endian = "little"), "the tape needs a little-endian machine");

/// A run of words of the tape, given by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Region {
    /// Index of its first word.
    pub start: usize,
    /// Number of words.
    pub words: usize,
}

/// The words of one tape. Any number of threads and processes may read; one writes, but for the waiters' word.
#[derive(Debug)]
pub(crate) enum Memory {
    /// Of this process alone.
    Heap(Box<[AtomicU64]>),
    /// A mapped file, shared with other processes.
    Map(memmap2::MmapRaw),
}

impl Memory {
    /// Returns zeroed memory of this process.
    #[cfg(not(loom))]
    pub fn heap(words: usize) -> Self {
        let mut zeros = Vec::with_capacity(words);
        // SAFETY: there is room for `words` elements, and all zeros are the atomic 0. One by one takes Miri minutes.
        unsafe {
            std::ptr::write_bytes::<AtomicU64>(zeros.as_mut_ptr(), 0, words);
            zeros.set_len(words);
        }
        Memory::Heap(zeros.into())
    }

    /// Returns zeroed memory of this process.
    #[cfg(loom)]
    pub fn heap(words: usize) -> Self {
        Memory::Heap((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Returns all words.
    pub fn words(&self) -> &[AtomicU64] {
        match self {
            Memory::Heap(words) => words,
            #[cfg(not(loom))]
            // SAFETY: the mapping is readable, writable and lives as long as `self`; it starts at a page, so it is
            // aligned; every bit pattern is an u64; nobody in this process reaches these bytes but through these
            // atomics. Other processes can only store words too, and a file is never shortened while it is a tape.
            Memory::Map(map) => unsafe {
                std::slice::from_raw_parts(map.as_ptr().cast::<AtomicU64>(), map.len() / size_of::<AtomicU64>())
            },
            #[cfg(loom)]
            Memory::Map(_) => unreachable!("a model's atomics are more than their bytes"),
        }
    }

    /// Writes everything to the disk, if there is one behind.
    pub fn flush(&self) -> std::io::Result<()> {
        match self {
            Memory::Heap(_) => Ok(()),
            Memory::Map(map) => map.flush(),
        }
    }

    /// Returns the words of `region`.
    pub fn region(&self, region: Region) -> &[AtomicU64] {
        &self.words()[region.start..region.start + region.words]
    }
}

/// Copies `from` to the front of `to`; the shorter one counts.
pub(crate) fn store(to: &[AtomicU64], from: &[u64]) {
    for (to, from) in to.iter().zip(from) {
        to.store(*from, Ordering::Relaxed);
    }
}

/// Copies the front of `from` to `to`; the shorter one counts.
pub(crate) fn load(from: &[AtomicU64], to: &mut [u64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.load(Ordering::Relaxed);
    }
}

/// Copies words into a ring at `position` (counted from the ring's beginning of time).
pub(crate) fn store_ring(ring: &[AtomicU64], position: u64, from: &[u64]) {
    let start = (position % ring.len() as u64) as usize;
    let first = from.len().min(ring.len() - start);
    store(&ring[start..], &from[..first]);
    store(ring, &from[first..]);
}

/// Copies words out of a ring from `position` on.
pub(crate) fn load_ring(ring: &[AtomicU64], position: u64, to: &mut [u64]) {
    let start = (position % ring.len() as u64) as usize;
    let first = to.len().min(ring.len() - start);
    let (head, tail) = to.split_at_mut(first);
    load(&ring[start..], head);
    load(ring, tail);
}

/// Returns the bytes of `words`.
pub(crate) fn as_bytes(words: &[u64]) -> &[u8] {
    // SAFETY: any u64 is 8 initialised bytes, bytes need no alignment, and the borrow covers exactly the same memory.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), size_of_val(words)) }
}

/// Returns `words` as the doubles whose bits they are.
pub(crate) fn as_floats(words: &[u64]) -> &[f64] {
    // SAFETY: u64 and f64 have the same size and alignment, and every bit pattern is a double.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<f64>(), words.len()) }
}

/// Appends `bytes` as words, the last one filled up with zeros.
pub(crate) fn extend_words(words: &mut Vec<u64>, bytes: &[u8]) {
    let mut chunks = bytes.chunks_exact(8);
    words.extend(chunks.by_ref().map(|c| u64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]])));
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut last = [0u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        words.push(u64::from_le_bytes(last));
    }
}
