//! Append-only strings with dense codes, resident in the tape.
//!
//! A string is written first and counted afterwards, so whoever sees the count sees the string. Nothing is ever
//! changed or removed: a code means one string as long as the file lives.

use super::layout::DictionaryRegion;
use super::memory::{Memory, Ordering, as_bytes, extend_words, load, store};
use crate::tick::Names;

const COUNT: usize = 0;
const USED: usize = 1;

/// Writer's side: the strings, found by content.
#[derive(Debug, Default)]
pub(crate) struct Dictionary {
    region: DictionaryRegion,
    names: Names,
    used_words: usize,
    scratch: Vec<u64>,
}

impl Dictionary {
    /// Takes up what is in the tape; `None` if that is no dictionary.
    pub fn take_up(memory: &Memory, region: DictionaryRegion) -> Option<Self> {
        let head = memory.region(region.head);
        let mut names = Names::default();
        let (count, used) = (head[COUNT].load(Ordering::Acquire), head[USED].load(Ordering::Relaxed));
        if count > region.index.words as u64 || used > region.arena.words as u64 {
            return None;
        }
        let mut scratch = Vec::new();
        for code in 0..count as usize {
            let name = get(memory, region, code, &mut scratch)?;
            if names.intern(name) as usize != code {
                return None;
            }
        }
        // `used` is written before the count and may be ahead of it by a string that was never counted.
        Some(Dictionary { region, names, used_words: used as usize, scratch })
    }

    /// Returns the code of `name`, a new one if it was not there; `None` when there is no room left for it.
    pub fn intern(&mut self, memory: &Memory, name: &str) -> Option<u32> {
        if let Some(code) = self.names.code(name) {
            return Some(code);
        }
        let words = name.len().div_ceil(8);
        let code = self.names.len();
        if code >= self.region.index.words || self.used_words + words > self.region.arena.words {
            return None;
        }
        self.scratch.clear();
        extend_words(&mut self.scratch, name.as_bytes());
        let head = memory.region(self.region.head);
        store(&memory.region(self.region.arena)[self.used_words..], &self.scratch);
        let entry = self.used_words as u64 | (name.len() as u64) << 32;
        memory.region(self.region.index)[code].store(entry, Ordering::Relaxed);
        self.used_words += words;
        head[USED].store(self.used_words as u64, Ordering::Relaxed);
        head[COUNT].store(code as u64 + 1, Ordering::Release);
        Some(self.names.intern(name))
    }
}

/// Returns how many strings there are now.
pub(crate) fn count(memory: &Memory, region: DictionaryRegion) -> usize {
    let count = memory.region(region.head)[COUNT].load(Ordering::Acquire);
    usize::try_from(count).unwrap_or(usize::MAX).min(region.index.words)
}

/// Returns the string of `code`, which must be below [`count`]; `None` if the tape holds garbage there.
pub(crate) fn get<'a>(
    memory: &Memory,
    region: DictionaryRegion,
    code: usize,
    scratch: &'a mut Vec<u64>,
) -> Option<&'a str> {
    let entry = memory.region(region.index).get(code)?.load(Ordering::Relaxed);
    let (offset, bytes) = (entry as u32 as usize, (entry >> 32) as usize);
    let arena = memory.region(region.arena);
    let words = arena.get(offset..offset.checked_add(bytes.div_ceil(8))?)?;
    scratch.clear();
    scratch.resize(words.len(), 0);
    load(words, scratch);
    std::str::from_utf8(&as_bytes(scratch)[..bytes]).ok()
}

/// Returns the strings from code `from` on; garbage becomes an empty string.
pub(crate) fn strings(memory: &Memory, region: DictionaryRegion, from: usize) -> Vec<String> {
    let mut scratch = Vec::new();
    (from..count(memory, region))
        .map(|code| get(memory, region, code, &mut scratch).unwrap_or_default().to_owned())
        .collect()
}
