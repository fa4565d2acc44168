//! Which trades a client wants.

use super::binary::Known;
use crate::Status;
use crate::tape::{NO_INSTRUMENT, Record, TapeReader};
use crate::tick::Names;

const ALL_STATUSES: u8 = 0b111;

/// Stands for all instruments that have no code.
pub const STRANGER: u32 = NO_INSTRUMENT;

/// What a client asked for, normalised: equal subscriptions get the same frames.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subscription {
    instruments: Option<Box<[String]>>,
    statuses: u8,
}

impl Subscription {
    /// Returns the subscription to these instruments and statuses; `None`: all of them.
    pub fn new(instruments: Option<Vec<String>>, statuses: Option<&[Status]>) -> Self {
        let instruments = instruments.map(|mut names| {
            names.sort_unstable();
            names.dedup();
            names.into_boxed_slice()
        });
        let statuses = statuses.map_or(ALL_STATUSES, |list| list.iter().fold(0, |mask, &s| mask | bit(s)));
        Subscription { instruments, statuses }
    }

    /// Returns the subscription to every trade.
    pub fn everything() -> Self {
        Subscription { instruments: None, statuses: ALL_STATUSES }
    }

    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.instruments.is_none() && self.statuses == ALL_STATUSES
    }

    /// The instruments wanted, sorted; `None`: all.
    pub fn instruments(&self) -> Option<&[String]> {
        self.instruments.as_deref()
    }

    /// The statuses wanted; `None`: all.
    pub fn statuses(&self) -> Option<Vec<Status>> {
        (self.statuses != ALL_STATUSES).then(|| {
            [Status::Unknown, Status::Valid, Status::Invalid].into_iter().filter(|&s| self.admits_status(s)).collect()
        })
    }

    /// Whether trades with this status are wanted.
    pub fn admits_status(&self, status: Status) -> bool {
        self.statuses & bit(status) != 0
    }

    /// Whether trades of this instrument are wanted.
    pub fn admits_instrument(&self, name: &str) -> bool {
        match &self.instruments {
            None => true,
            Some(names) => names.binary_search_by(|n| n.as_str().cmp(name)).is_ok(),
        }
    }
}

fn bit(status: Status) -> u8 {
    1 << status as u8
}

/// The tape's instruments and reasons as far as they have been seen; instruments are found by name.
#[derive(Debug, Default)]
pub struct Dictionary {
    names: Names,
    reasons: Vec<String>,
}

impl Dictionary {
    /// Takes in what the tape's dictionaries have more; codes never change as long as the tape lives.
    pub fn follow(&mut self, reader: &TapeReader) {
        if reader.instrument_count() > self.names.len() {
            for name in reader.instruments(self.names.len()) {
                self.names.intern(&name);
            }
        }
        if reader.reason_count() > self.reasons.len() {
            self.reasons.extend(reader.reasons(self.reasons.len()));
        }
    }

    /// How many entries were seen.
    pub fn known(&self) -> Known {
        Known { instruments: self.names.len() as u32, reasons: self.reasons.len() as u32 }
    }

    /// Instrument ids from this code on.
    pub fn instruments(&self, from: u32) -> impl Iterator<Item = &str> + Clone {
        (from..self.names.len() as u32).map(|code| self.names.get(code))
    }

    /// Reasons from this one on, counted from 0.
    pub fn reasons(&self, from: u32) -> impl Iterator<Item = &str> + Clone {
        self.reasons.iter().skip(from as usize).map(String::as_str)
    }

    /// Returns the code of an instrument, if it has one.
    pub fn code(&self, name: &str) -> Option<u32> {
        self.names.code(name)
    }

    /// Returns the code of a trade's instrument, also where the trade failed the screen and brings its instrument as
    /// text; [`STRANGER`] for an instrument that has none.
    pub fn code_of(&self, record: &Record<'_>) -> u32 {
        match record.instrument_text() {
            // The tape is shared memory: a code that was never given must not be believed.
            None if (record.instrument() as usize) < self.names.len() => record.instrument(),
            None => STRANGER,
            Some(text) => self.names.code(text).unwrap_or(STRANGER),
        }
    }

    /// Number of instruments seen.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether none was seen.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// A subscription resolved against a tape's dictionary, so that most trades are told by one number.
#[derive(Debug)]
pub struct Filter {
    subscription: Subscription,
    codes: Vec<u32>,
    known: usize,
}

impl Filter {
    /// Prepares a subscription; [`Filter::resolve`] has to follow whenever the dictionary has grown.
    pub fn new(subscription: Subscription) -> Self {
        Filter { subscription, codes: Vec::new(), known: 0 }
    }

    /// What is filtered for.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// Looks up the codes of instruments that the dictionary has got meanwhile.
    pub fn resolve(&mut self, dictionary: &Dictionary) {
        if self.known == dictionary.len() {
            return;
        }
        self.known = dictionary.len();
        if let Some(names) = self.subscription.instruments() {
            self.codes = names.iter().filter_map(|name| dictionary.names.code(name)).collect();
            self.codes.sort_unstable();
        }
    }

    /// Forgets the codes: another tape, another dictionary.
    pub fn forget(&mut self) {
        self.codes.clear();
        self.known = 0;
    }

    /// Codes of the instruments wanted, `None` where all are.
    pub(super) fn codes(&self) -> Option<&[u32]> {
        self.subscription.instruments().map(|_| self.codes.as_slice())
    }

    /// Whether trades of the instrument with this code are wanted; no list wants [`STRANGER`]s.
    pub(super) fn admits_code(&self, code: u32) -> bool {
        self.codes().is_none_or(|codes| codes.binary_search(&code).is_ok())
    }

    /// Whether a trade is wanted whose instrument is known to be.
    pub(super) fn admits_status(&self, record: &Record<'_>) -> bool {
        self.subscription.admits_status(record.status())
    }

    /// Whether a trade is wanted whose instrument is not in the dictionary.
    pub(super) fn admits_text(&self, record: &Record<'_>) -> bool {
        debug_assert_eq!(record.instrument(), NO_INSTRUMENT);
        self.admits_status(record) && self.subscription.admits_instrument(record.instrument_text().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_wishes_in_another_order_are_one_subscription() {
        let names = |list: &[&str]| Some(list.iter().map(|s| (*s).to_owned()).collect());
        let a = Subscription::new(names(&["MSFT", "AAPL", "AAPL"]), Some(&[Status::Invalid, Status::Valid]));
        let b = Subscription::new(names(&["AAPL", "MSFT"]), Some(&[Status::Valid, Status::Invalid, Status::Valid]));
        assert_eq!(a, b);
        assert!(!a.is_everything() && a.admits_instrument("MSFT") && !a.admits_instrument("MSF"));
        assert!(a.admits_status(Status::Valid) && !a.admits_status(Status::Unknown));
    }

    #[test]
    fn all_statuses_named_are_the_same_as_none_named() {
        let all = [Status::Unknown, Status::Valid, Status::Invalid];
        assert_eq!(Subscription::new(None, Some(&all)), Subscription::everything());
        assert_eq!(Subscription::everything().statuses(), None);
    }

    #[test]
    fn an_empty_list_wants_nothing() {
        let none = Subscription::new(Some(Vec::new()), None);
        assert!(!none.admits_instrument("AAPL") && !none.is_everything());
    }
}
