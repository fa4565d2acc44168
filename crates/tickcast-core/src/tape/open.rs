//! Taking a tape up, or beginning a new one.

use super::commit::Commit;
use super::dictionary::Dictionary;
use super::layout::{self, Layout, MAGIC, Sizes, VERSION, header};
use super::memory::{Memory, Ordering};
use super::{Shared, file, run, slot, table};
use crate::encode::json::RESERVED_KEYS;
use crate::{Error, Result, Status};
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;

/// A further column on the trades.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Enrichment {
    /// Key in JSON; 1 to 64 bytes, and none of the plain form's own keys.
    pub name: String,
    /// Unit shown to people, may be empty; at most 64 bytes.
    pub unit: String,
}

/// What a tape is to be like.
#[derive(Debug, Clone)]
pub struct TapeOptions {
    /// Size of the file in bytes, allocated whole; rounded down to full words.
    pub bytes: u64,
    /// Enrichments; at most 64. Other ones than the tape has mean a new tape.
    pub enrichments: Vec<Enrichment>,
    /// Names of the rules. [`super::Entry::rule`] `k > 0` is the `k`-th of these.
    pub rules: Vec<String>,
    /// The rule set as `name@version`.
    pub rule_set: String,
    /// Room in the dictionary of instruments and in the table of last values, 1 to 16,777,216.
    pub max_instruments: u32,
    /// Room in the dictionary of reasons, 1 to 65,534.
    pub max_reasons: u16,
    /// Begin a new epoch in any case.
    pub fresh: bool,
    /// The epoch of the tape that this one follows: another one than the tape has means a new tape with this one.
    /// `None`: a tape with a numbering of its own.
    pub epoch: Option<u64>,
}

impl Default for TapeOptions {
    fn default() -> Self {
        TapeOptions {
            bytes: 256 << 20,
            enrichments: Vec::new(),
            rules: Vec::new(),
            rule_set: String::new(),
            max_instruments: 65_536,
            max_reasons: 1_024,
            fresh: false,
            epoch: None,
        }
    }
}

impl TapeOptions {
    /// Checks the options and returns the layout they make.
    pub(super) fn layout(&self) -> Result<Layout> {
        let config = |key, value: String, allowed| Err(Error::Config { key, value, allowed });
        if self.enrichments.len() > layout::MAX_ENRICHMENTS {
            return config("enrichments", self.enrichments.len().to_string(), "at most 64");
        }
        for (i, e) in self.enrichments.iter().enumerate() {
            let known = RESERVED_KEYS.contains(&&*e.name) || self.enrichments[..i].iter().any(|o| o.name == e.name);
            if e.name.is_empty() || e.name.len() > layout::MAX_ENRICHMENT_NAME || known {
                return config("enrichment", e.name.clone(), "a name of 1 to 64 bytes that no other column has");
            }
            if e.unit.len() > layout::MAX_ENRICHMENT_NAME {
                return config("enrichment unit", e.unit.clone(), "at most 64 bytes");
            }
        }
        if !(1..=1 << 24).contains(&self.max_instruments) {
            return config("tape.max_instruments", self.max_instruments.to_string(), "1 to 16777216");
        }
        if !(1..=65_534).contains(&self.max_reasons) {
            return config("tape.max_reasons", self.max_reasons.to_string(), "1 to 65534");
        }
        let sizes = Sizes {
            bytes: self.bytes / 8 * 8,
            enrichments: self.enrichments.len(),
            max_instruments: self.max_instruments as usize,
            max_reasons: usize::from(self.max_reasons),
        };
        Layout::new(sizes).map_err(|least| Error::Size {
            bytes: self.bytes,
            least,
            instruments: self.max_instruments,
            enrichments: sizes.enrichments,
        })
    }
}

/// A tape that is ready to be written.
pub(super) struct Opened {
    pub shared: Shared,
    pub resumed: bool,
    pub commit: Commit,
    pub instruments: Dictionary,
    pub reasons: Dictionary,
    /// Code on the tape of each rule of the options.
    pub rules: Vec<u16>,
    /// Code on the tape of the rule set of the options.
    pub rule_set: u16,
    /// Names of all rules that the tape has seen.
    pub rule_names: Dictionary,
    /// Names of all rule sets that the tape has seen.
    pub rule_set_names: Dictionary,
}

/// Opens the tape at `path`: the one that is there, if it can be taken up, else a new one. The lock must be held.
pub(super) fn open(path: &Path, options: &TapeOptions) -> Result<Opened> {
    let layout = options.layout()?;
    if !options.fresh
        && let Ok(shared) = file::open_existing(path)
        && fits(&shared, &layout, options)
        && let Some(opened) = take_up(shared, options)
    {
        return Ok(opened);
    }
    let shared = file::create(path, layout)?;
    let opened = begin(shared, options)?;
    file::publish(&opened.shared)?;
    Ok(opened)
}

/// Whether this is the tape that the options ask for, and what is in it can be believed.
fn fits(shared: &Shared, layout: &Layout, options: &TapeOptions) -> bool {
    let word = |at: usize| shared.word(at).load(Ordering::Acquire);
    let survived = word(header::BOOT) == file::boot() || word(header::CLEAN) != 0;
    shared.layout == *layout
        && survived
        && !shared.flagged_superseded()
        && word(header::EPOCH) != 0
        && options.epoch.is_none_or(|epoch| epoch == word(header::EPOCH))
        && shared.enrichments().as_ref() == Some(&options.enrichments)
}

/// Fills in the header of an empty tape.
pub(super) fn begin(shared: Shared, options: &TapeOptions) -> Result<Opened> {
    let sizes = shared.layout.sizes;
    let set = |at: usize, value: u64| shared.word(at).store(value, Ordering::Relaxed);
    set(header::MAGIC, MAGIC);
    set(header::EPOCH, options.epoch.filter(|&epoch| epoch != 0).unwrap_or_else(random));
    set(header::BYTES, sizes.bytes);
    set(header::ENRICHMENTS, sizes.enrichments as u64);
    set(header::MAX_INSTRUMENTS, sizes.max_instruments as u64);
    set(header::MAX_REASONS, sizes.max_reasons as u64);
    set(header::OLDEST, 1);
    shared.set_enrichments(&options.enrichments);
    let commit = Commit::default();
    commit.write(&shared);
    shared.word(header::VERSION).store(VERSION, Ordering::Release);
    let path = shared.path.clone();
    with_dictionaries(shared, options, commit, false).ok_or_else(|| Error::Tape {
        path,
        what: format!("{} rules are more than a tape has room for", options.rules.len()),
    })
}

/// Takes up a tape; `None` if it does not hang together.
fn take_up(shared: Shared, options: &TapeOptions) -> Option<Opened> {
    let commit = Commit::read(&shared)?;
    let span = shared.span();
    let oldest = span.oldest();
    check_slots(&shared, oldest, &commit)?;
    let applied = table::applied(&shared);
    if span.head() > commit.head || applied > commit.head || applied + 1 < oldest {
        return None;
    }
    let mut opened = with_dictionaries(shared, options, commit, true)?;
    // The last writer may have died between the commit and what follows from it. The head goes first here too: the
    // table never holds what a reader of the head may not know of.
    let shared = &mut opened.shared;
    shared.span().publish(opened.commit.head);
    shared.bell().ring_out();
    let mut words = vec![0u64; shared.layout.slot_words()];
    for seq in applied + 1..=opened.commit.head {
        shared.load_slots(seq, &mut words);
        if run::status(words[slot::RECORD]) == Status::Valid {
            table::apply(shared, seq, &words);
        }
    }
    table::set_applied(shared, opened.commit.head);
    Some(opened)
}

/// Checks that the slots from `oldest` on follow one another without holes up to the committed end.
fn check_slots(shared: &Shared, oldest: u64, commit: &Commit) -> Option<()> {
    // No tape gets anywhere near this far; what says so would only overflow.
    if commit.head.max(commit.data_end) >= 1 << 60 {
        return None;
    }
    let kept = (commit.head + 1).checked_sub(oldest)?;
    if oldest == 0 || kept > shared.layout.slot_count() as u64 {
        return None;
    }
    let mut words = vec![0u64; shared.layout.slot_words()];
    let mut end = None;
    let mut start = commit.data_end;
    for seq in oldest..=commit.head {
        shared.load_slots(seq, &mut words);
        if end.is_some_and(|end| end != words[0]) {
            return None;
        }
        if end.is_none() {
            start = words[0];
        }
        end = Some(words[0].checked_add(slot::data_words(words[1]))?);
    }
    let whole = end.is_none_or(|end| end == commit.data_end) && start <= commit.data_end;
    (whole && commit.data_end - start <= shared.layout.data.words as u64).then_some(())
}

/// Loads the dictionaries and enters the rules; `None` if they are garbage or full.
fn with_dictionaries(shared: Shared, options: &TapeOptions, commit: Commit, resumed: bool) -> Option<Opened> {
    let Shared { memory, layout, .. } = &shared;
    let instruments = Dictionary::take_up(memory, layout.instruments)?;
    let reasons = Dictionary::take_up(memory, layout.reasons)?;
    let mut rule_names = Dictionary::take_up(memory, layout.rules)?;
    let mut rule_set_names = Dictionary::take_up(memory, layout.rule_sets)?;
    let rule_set = rule_code(&mut rule_set_names, memory, &options.rule_set)?;
    let rules = rule_codes(&mut rule_names, memory, &options.rules)?;
    let boot = if shared.identity.is_some() { file::boot() } else { 0 };
    shared.word(header::BOOT).store(boot, Ordering::Relaxed);
    shared.word(header::CLEAN).store(0, Ordering::Relaxed);
    shared.word(header::WRITER_PID).store(std::process::id().into(), Ordering::Relaxed);
    shared.word(header::RULE_SET).store(rule_set.into(), Ordering::Release);
    Some(Opened { shared, resumed, commit, instruments, reasons, rules, rule_set, rule_names, rule_set_names })
}

/// Returns the code of a rule or rule set, a new one if need be; `None`: there is no room.
pub(super) fn rule_code(names: &mut Dictionary, memory: &Memory, name: &str) -> Option<u16> {
    names.intern(memory, cut(name, 256)).and_then(|code| u16::try_from(code).ok())
}

/// Returns the codes of rules or rule sets, in their order; `None`: there is no room for all.
pub(super) fn rule_codes(dictionary: &mut Dictionary, memory: &Memory, names: &[String]) -> Option<Vec<u16>> {
    names.iter().map(|name| rule_code(dictionary, memory, name)).collect()
}

/// Returns the front of `text`, at most `bytes` long, cut between characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Returns a random number other than 0.
fn random() -> u64 {
    // The standard library seeds its hash tables from the system's generator.
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish().max(1)
}

/// Takes up a copy of `shared` as the next process would.
#[cfg(all(test, not(loom)))]
pub(super) fn take_up_copy(shared: &Shared, options: &TapeOptions) -> Option<Opened> {
    let memory = Memory::heap(shared.memory.words().len());
    let copy = Shared { memory, layout: shared.layout, path: shared.path.clone(), identity: None };
    for (to, from) in copy.memory.words().iter().zip(shared.memory.words()) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    take_up(copy, options)
}
