//! Instrument ids to codes, with a short memory: most ticks are of an instrument that was there a moment ago.

use crate::{Names, TickBatch};
use std::str::Utf8Error;

const SLOTS: usize = 256;
/// Longest id that is remembered, bytes.
const LONGEST: usize = 16;

/// The codes of ids that were seen lately in one [`Names`]; must not be used with another one.
pub(super) struct Ids {
    slots: [Slot; SLOTS],
}

#[derive(Clone, Copy)]
struct Slot {
    key: (u64, u64),
    /// Bytes of the id; with `key` it tells ids apart. `u32::MAX`: nothing here.
    len: u32,
    code: u32,
}

impl Ids {
    pub fn new() -> Self {
        Ids { slots: [Slot { key: (0, 0), len: u32::MAX, code: 0 }; SLOTS] }
    }

    /// Returns the code of `id`, a new one if it was not there.
    ///
    /// # Errors
    /// The id is not UTF-8. One that is remembered is known to be.
    #[inline]
    pub fn code(&mut self, names: &mut Names, id: &[u8]) -> Result<u32, Utf8Error> {
        if id.len() > LONGEST {
            return std::str::from_utf8(id).map(|id| names.intern(id));
        }
        let (key, len) = (key(id), id.len() as u32);
        let mixed = (key.0 ^ key.1.rotate_left(29) ^ u64::from(len)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = &mut self.slots[(mixed >> 56) as usize];
        if slot.key != key || slot.len != len {
            let code = names.intern(std::str::from_utf8(id)?);
            *slot = Slot { key, len, code };
        }
        Ok(slot.code)
    }
}

/// Two words that hold every byte of an id of at most [`LONGEST`] bytes; which ones where depends on its length only.
#[inline]
fn key(id: &[u8]) -> (u64, u64) {
    let len = id.len();
    if let (Some(head), Some(tail)) = (id.first_chunk::<8>(), id.last_chunk::<8>()) {
        (u64::from_le_bytes(*head), u64::from_le_bytes(*tail))
    } else if let (Some(head), Some(tail)) = (id.first_chunk::<4>(), id.last_chunk::<4>()) {
        (u64::from(u32::from_le_bytes(*head)), u64::from(u32::from_le_bytes(*tail)))
    } else if len > 0 {
        (u64::from(id[0]) | u64::from(id[len / 2]) << 8, u64::from(id[len - 1]))
    } else {
        (0, 0)
    }
}

/// Appends a tick whose instrument has its code already.
#[inline]
pub(crate) fn push_coded(
    ticks: &mut TickBatch,
    code: u32,
    (price, volume, timestamp_ns): (f64, i64, i64),
    (message, index): (u32, u16),
) {
    ticks.instrument.push(code);
    ticks.price.push(price);
    ticks.volume.push(volume);
    ticks.timestamp_ns.push(timestamp_ns);
    ticks.message.push(message);
    ticks.index.push(index);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Codes are those of interning alone, for ids that differ little, of all lengths about the bounds.
        #[test]
        fn codes_are_those_of_interning(ids in prop::collection::vec("[ab\u{0}]{0,5}(|aaaa|bbbbaaaa|bbbbbbbbaaa)", 0..300)) {
            let (mut short, mut plain, mut names) = (Ids::new(), Names::default(), Names::default());
            for id in &ids {
                prop_assert_eq!(short.code(&mut names, id.as_bytes()), Ok(plain.intern(id)));
            }
        }

        #[test]
        fn what_is_not_utf8_is_refused_each_time(id in prop::collection::vec(any::<u8>(), 0..20)) {
            let (mut ids, mut names) = (Ids::new(), Names::default());
            for _ in 0..2 {
                prop_assert_eq!(ids.code(&mut names, &id).is_ok(), std::str::from_utf8(&id).is_ok());
            }
        }
    }
}
