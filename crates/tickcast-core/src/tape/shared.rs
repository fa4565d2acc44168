//! What writer and readers have in common: the memory, where everything is in it, and which file it is.

use super::layout::{Layout, header};
use super::memory::{AtomicU64, Memory, Ordering, as_bytes, extend_words, load, load_ring, store, store_ring};
use super::open::Enrichment;
use super::protocol::{Bell, Span};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// One tape, mapped.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Its words.
    pub memory: Memory,
    /// Where everything is.
    pub layout: Layout,
    /// Its name.
    pub path: PathBuf,
    /// Device and number of the file; `None`: no file.
    pub identity: Option<(u64, u64)>,
}

impl Shared {
    /// Returns a tape without a file, all zeros.
    pub fn heap(layout: Layout) -> Self {
        let words = (layout.sizes.bytes / 8) as usize;
        Shared { memory: Memory::heap(words), layout, path: PathBuf::from("(memory)"), identity: None }
    }

    /// Returns a word of the header.
    pub fn word(&self, at: usize) -> &AtomicU64 {
        &self.memory.words()[at]
    }

    /// Returns head and oldest.
    pub fn span(&self) -> Span<'_> {
        Span { head: self.word(header::HEAD), oldest: self.word(header::OLDEST) }
    }

    /// Returns the bell.
    pub fn bell(&self) -> Bell<'_> {
        Bell { rings: self.word(header::RINGS), waiting: self.word(header::WAITING) }
    }

    /// Whether the tape says itself that another took its place.
    pub fn flagged_superseded(&self) -> bool {
        self.word(header::SUPERSEDED).load(Ordering::Acquire) != 0
    }

    /// Whether the tape's name stands for another file now, or for none.
    pub fn superseded(&self) -> bool {
        let Some(identity) = self.identity else { return false };
        self.flagged_superseded()
            || std::fs::metadata(&self.path).map_or(true, |file| (file.dev(), file.ino()) != identity)
    }

    /// Copies the slots from sequence `from` on into `to`.
    pub fn load_slots(&self, from: u64, to: &mut [u64]) {
        let width = self.layout.slot_words() as u64;
        load_ring(self.memory.region(self.layout.slots), from % self.layout.slot_count() as u64 * width, to);
    }

    /// Writes slots from sequence `from` on.
    pub fn store_slots(&self, from: u64, slots: &[u64]) {
        let width = self.layout.slot_words() as u64;
        store_ring(self.memory.region(self.layout.slots), from % self.layout.slot_count() as u64 * width, slots);
    }

    /// Writes the names and units of the enrichments; `false` if they do not fit.
    pub fn set_enrichments(&self, enrichments: &[Enrichment]) -> bool {
        let json = serde_json::to_vec(enrichments).unwrap_or_default();
        let meta = self.memory.region(self.layout.meta);
        let mut words = vec![json.len() as u64];
        extend_words(&mut words, &json);
        store(meta, &words);
        words.len() <= meta.len()
    }

    /// Reads the names and units of the enrichments; `None` if the tape holds garbage there.
    pub fn enrichments(&self) -> Option<Vec<Enrichment>> {
        let meta = self.memory.region(self.layout.meta);
        let mut words = vec![0; meta.len()];
        load(meta, &mut words);
        let bytes = as_bytes(&words[1..]).get(..usize::try_from(words[0]).ok()?)?;
        let enrichments: Vec<Enrichment> = serde_json::from_slice(bytes).ok()?;
        (enrichments.len() == self.layout.sizes.enrichments).then_some(enrichments)
    }
}
