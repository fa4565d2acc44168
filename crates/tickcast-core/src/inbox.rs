//! Messages of one partition of a log as they came, on their way to be decoded.

use std::ops::Range;

/// Messages of one partition, in the order of their offsets, one behind the other in memory.
#[derive(Debug, Default)]
pub struct Inbox {
    messages: Vec<Entry>,
    headers: Vec<Header>,
    bytes: Vec<u8>,
}

/// What is known of a message; ranges are of the inbox's bytes.
#[derive(Debug)]
struct Entry {
    offset: u64,
    broker_ms: i64,
    payload: Option<Range<usize>>,
    key: Option<Range<usize>>,
    /// Of the inbox's headers.
    headers: Range<usize>,
    /// Where its bytes end.
    end: usize,
}

#[derive(Debug)]
struct Header {
    name: Range<usize>,
    value: Option<Range<usize>>,
}

impl Inbox {
    /// Adds a message behind the others; no payload: it is a tombstone.
    pub fn push(&mut self, offset: u64, broker_ms: i64, payload: Option<&[u8]>, key: Option<&[u8]>) {
        let (payload, key) = (payload.map(|bytes| self.keep(bytes)), key.map(|bytes| self.keep(bytes)));
        let headers = self.headers.len()..self.headers.len();
        self.messages.push(Entry { offset, broker_ms, payload, key, headers, end: self.bytes.len() });
    }

    /// Adds a header to the message that was added last.
    pub fn push_header(&mut self, name: &[u8], value: Option<&[u8]>) {
        let (name, value) = (self.keep(name), value.map(|bytes| self.keep(bytes)));
        self.headers.push(Header { name, value });
        if let Some(last) = self.messages.last_mut() {
            (last.headers.end, last.end) = (self.headers.len(), self.bytes.len());
        }
    }

    /// Returns how many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Returns a message's offset.
    pub fn offset(&self, at: usize) -> u64 {
        self.messages[at].offset
    }

    /// Returns the broker's time of a message, ms.
    pub fn broker_ms(&self, at: usize) -> i64 {
        self.messages[at].broker_ms
    }

    /// Returns a message's payload.
    pub fn payload(&self, at: usize) -> Option<&[u8]> {
        self.messages[at].payload.clone().map(|range| &self.bytes[range])
    }

    /// Returns a message's key.
    pub fn key(&self, at: usize) -> Option<&[u8]> {
        self.messages[at].key.clone().map(|range| &self.bytes[range])
    }

    /// Returns name and value of a message's headers.
    pub fn headers(&self, at: usize) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let headers = &self.headers[self.messages[at].headers.clone()];
        headers.iter().map(|h| (&self.bytes[h.name.clone()], h.value.clone().map(|range| &self.bytes[range])))
    }

    /// Returns the value of the first header of a name, if it is text.
    pub fn header(&self, at: usize, name: &str) -> Option<&str> {
        let found = self.headers(at).find(|(found, _)| *found == name.as_bytes())?;
        std::str::from_utf8(found.1?).ok()
    }

    /// Returns how many bytes these messages take.
    pub fn size(&self, messages: Range<usize>) -> usize {
        let end = |at: usize| at.checked_sub(1).map_or(0, |at| self.messages[at].end);
        end(messages.end) - end(messages.start)
    }

    /// Returns the end of the messages from `start` on that lie before an offset.
    pub fn before(&self, start: usize, offset: u64) -> usize {
        start + self.messages[start..].partition_point(|message| message.offset < offset)
    }

    /// Returns the end of the messages from `start` on that take at most so many bytes; of one at least.
    pub fn fitting(&self, start: usize, bytes: usize) -> usize {
        let limit = self.size(0..start).saturating_add(bytes);
        let fitting = start + self.messages[start..].partition_point(|message| message.end <= limit);
        fitting.max(start + 1).min(self.len())
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Told = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

    fn messages() -> impl Strategy<Value = Vec<Told>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..5);
        let headers = prop::collection::vec((bytes(), prop::option::of(bytes())), 0..3);
        prop::collection::vec((prop::option::of(bytes()), prop::option::of(bytes()), headers), 1..12)
    }

    fn inbox(told: &[Told]) -> Inbox {
        let mut inbox = Inbox::default();
        for (at, (payload, key, headers)) in told.iter().enumerate() {
            inbox.push(at as u64 * 3, at as i64, payload.as_deref(), key.as_deref());
            headers.iter().for_each(|(name, value)| inbox.push_header(name, value.as_deref()));
        }
        inbox
    }

    proptest! {
        #[test]
        fn what_was_put_in_comes_out(told in messages()) {
            let inbox = inbox(&told);
            prop_assert_eq!(inbox.len(), told.len());
            for (at, (payload, key, headers)) in told.iter().enumerate() {
                prop_assert_eq!(inbox.offset(at), at as u64 * 3);
                prop_assert_eq!(inbox.broker_ms(at), at as i64);
                prop_assert_eq!(inbox.payload(at), payload.as_deref());
                prop_assert_eq!(inbox.key(at), key.as_deref());
                let found: Vec<_> = inbox.headers(at).map(|(n, v)| (n.to_vec(), v.map(<[u8]>::to_vec))).collect();
                prop_assert_eq!(&found, headers);
            }
        }

        #[test]
        fn parts_are_whole_messages(told in messages(), start in 0usize..12, bytes in 0usize..60, offset in 0u64..40) {
            let inbox = inbox(&told);
            let start = start % told.len();
            let end = inbox.fitting(start, bytes);
            prop_assert!(end > start && end <= inbox.len());
            prop_assert!(end == start + 1 || inbox.size(start..end) <= bytes);
            prop_assert!(end == inbox.len() || inbox.size(start..end + 1) > bytes);
            prop_assert_eq!(inbox.size(0..start) + inbox.size(start..inbox.len()), inbox.size(0..inbox.len()));
            let before = inbox.before(start, offset);
            prop_assert!((start..before).all(|at| inbox.offset(at) < offset));
            prop_assert!((before..inbox.len()).all(|at| inbox.offset(at) >= offset));
        }
    }
}
