//! Where a tick stood upstream, and the trade id read off it (design: identity and order).

use std::ops::Range;

/// Position of a tick upstream: stream, partition, offset, index within the message.
///
/// Ordered within one (stream, partition) as the source orders its ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// First 8 hex digits of SHA-256 of the stream's name; random for sources without positions.
    pub stream: u32,
    /// Partition; 0 where the source has none.
    pub partition: u16,
    /// Kafka offset, JetStream stream sequence, or row of the file from 0.
    pub offset: u64,
    /// Index of the tick within its message, from 0.
    pub index: u16,
}

impl Position {
    /// Returns the trade id of the tick at this position: the same tick gets the same id wherever it is processed.
    pub fn trade_id(self) -> TradeId {
        let mut id = [0u8; 16];
        id[0..4].copy_from_slice(&self.stream.to_be_bytes());
        id[4..6].copy_from_slice(&self.partition.to_be_bytes());
        id[6..14].copy_from_slice(&self.offset.to_be_bytes());
        id[14..16].copy_from_slice(&self.index.to_be_bytes());
        TradeId(id)
    }
}

/// Identity of a trade: 16 bytes, shown as 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TradeId(pub [u8; 16]);

/// Both hex digits of each byte.
const PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut b = 0;
    while b < 256 {
        pairs[b] = [DIGITS[b >> 4], DIGITS[b & 15]];
        b += 1;
    }
    pairs
};

impl TradeId {
    /// Hex digits in front that name the message of its tick: all but the index.
    pub const MESSAGE_DIGITS: usize = 28;

    /// Returns the 32 lower-case hex digits: stream (8), partition (4), offset (16), index (4).
    pub fn hex(self) -> [u8; 32] {
        let mut out = [0u8; 32];
        for (digits, b) in out.chunks_exact_mut(2).zip(self.0) {
            digits.copy_from_slice(&PAIRS[usize::from(b)]);
        }
        out
    }

    /// Returns the id that these digits show; `None` if they are not 32 lower-case hex digits.
    pub fn from_hex(digits: &[u8]) -> Option<TradeId> {
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut id = [0u8; 16];
        if digits.len() != 32 {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(TradeId(id))
    }

    /// Returns the position that this id was read off.
    pub fn position(self) -> Position {
        let b = self.0;
        Position {
            stream: u32::from_be_bytes([b[0], b[1], b[2], b[3]]),
            partition: u16::from_be_bytes([b[4], b[5]]),
            offset: u64::from_be_bytes([b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13]]),
            index: u16::from_be_bytes([b[14], b[15]]),
        }
    }
}

/// Where the messages of a batch came from: one entry in each column for each payload of the decode call.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Stream of all of them ([`Position::stream`]).
    pub stream: u32,
    /// Partitions, each with the number of its first message.
    parts: Vec<(u32, u16)>,
    /// Kafka offset, JetStream stream sequence, row of the file, or a counter.
    pub offset: Vec<u64>,
    /// When the message arrived here, ns since the Unix epoch.
    pub arrival_ns: Vec<i64>,
    /// The broker's own time of the message, ns since the Unix epoch; 0: it has none.
    pub broker_ns: Vec<i64>,
    /// Read again only to fill the windows: its trades are elsewhere already.
    pub silent: bool,
    /// Trace contexts (W3C `traceparent`), by the number of the message: of those alone that came with one.
    pub traceparents: Vec<(u32, String)>,
}

impl Origin {
    /// Returns an origin without messages; those to come are of this partition.
    pub fn new(stream: u32, partition: u16) -> Self {
        Origin { stream, parts: vec![(0, partition)], ..Origin::default() }
    }

    /// Says of which partition the messages to come are; those of one are not parted by those of others.
    #[inline]
    pub fn begin(&mut self, partition: u16) {
        if self.parts.last().is_some_and(|&(_, last)| last == partition) {
            return;
        }
        let first = self.offset.len() as u32;
        self.parts.retain(|&(at, _)| at < first);
        self.parts.push((first, partition));
    }

    /// Adds a message.
    pub fn push(&mut self, offset: u64, arrival_ns: i64, broker_ns: i64) {
        self.offset.push(offset);
        self.arrival_ns.push(arrival_ns);
        self.broker_ns.push(broker_ns);
    }

    /// Returns the partition of message `message`.
    #[inline]
    pub fn partition(&self, message: usize) -> u16 {
        match self.parts.as_slice() {
            [] => 0,
            [(_, only)] => *only,
            parts => parts[parts.partition_point(|&(first, _)| first as usize <= message).saturating_sub(1)].1,
        }
    }

    /// Returns the partitions, each with the numbers of its messages; those without any are left out.
    pub fn parts(&self) -> impl Iterator<Item = (u16, Range<usize>)> {
        let ends = self.parts.iter().skip(1).map(|&(first, _)| first as usize).chain([self.offset.len()]);
        let parts = self.parts.iter().zip(ends).map(|(&(first, partition), end)| (partition, first as usize..end));
        parts.filter(|(_, messages)| !messages.is_empty())
    }

    /// Returns the position of a tick of message `message`.
    pub fn position(&self, message: usize, index: u16) -> Position {
        let offset = self.offset.get(message).copied().unwrap_or_default();
        Position { stream: self.stream, partition: self.partition(message), offset, index }
    }

    /// Returns the positions just behind which reading goes on once all messages are judged, one for each partition.
    ///
    /// Their index is the largest there is: the whole message has been judged.
    pub fn last(&self) -> Vec<Position> {
        self.parts().map(|(_, messages)| self.position(messages.end - 1, u16::MAX)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_message_is_of_the_partition_that_was_begun_last(sizes in prop::collection::vec(0usize..4, 1..8)) {
            let mut origin = Origin::new(7, 0);
            let mut expected = Vec::new();
            for (partition, &messages) in (0u16..).zip(&sizes) {
                if partition > 0 {
                    origin.begin(partition);
                }
                for _ in 0..messages {
                    let offset = expected.len() as u64 * 3;
                    origin.push(offset, 1, 2);
                    expected.push(Position { stream: 7, partition, offset, index: 5 });
                }
            }
            let found: Vec<_> = (0..expected.len()).map(|message| origin.position(message, 5)).collect();
            prop_assert_eq!(&found, &expected);
            let of = |partition: u16| expected.iter().rfind(|p| p.partition == partition);
            let last: Vec<_> = (0u16..8).filter_map(of).map(|p| Position { index: u16::MAX, ..*p }).collect();
            prop_assert_eq!(origin.last(), last);
            prop_assert_eq!(origin.parts().flat_map(|(_, messages)| messages).count(), expected.len());
        }
    }

    #[test]
    fn trade_id_shows_the_position_and_gives_it_back() {
        let p = Position { stream: 0xdead_beef, partition: 7, offset: 1 << 40, index: 65_534 };
        assert_eq!(&p.trade_id().hex(), b"deadbeef00070000010000000000fffe");
        assert_eq!(p.trade_id().position(), p);
        assert_eq!(TradeId::from_hex(&p.trade_id().hex()), Some(p.trade_id()));
        assert_eq!(TradeId::from_hex(b"DEADBEEF00070000010000000000fffe"), None);
        assert_eq!(TradeId::from_hex(b"deadbeef"), None);
    }
}
