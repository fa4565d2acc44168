//! Messages under way, by number. No I/O.

use super::{Fate, Outgoing};
use std::collections::VecDeque;

/// How often no stream may answer for a message before it has failed.
const MOST_REFUSALS: u32 = 5;

/// A message under way.
struct Flight {
    message: Outgoing,
    /// How often no stream answered for its subject: then it is not stored anywhere.
    refusals: u32,
    /// Not stored for sure: nothing was sent since the last refusal.
    unsent: bool,
}

/// Messages that were sent and not settled, in the order they were accepted.
#[derive(Default)]
pub(super) struct Flights {
    /// Number of the front one.
    base: u64,
    flights: VecDeque<Option<Flight>>,
}

impl Flights {
    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Adds a message and returns its number.
    pub(super) fn add(&mut self, message: Outgoing) -> u64 {
        self.flights.push_back(Some(Flight { message, refusals: 0, unsent: true }));
        self.base + self.flights.len() as u64 - 1
    }

    /// Returns a message that is to be sent now; `None` if it is settled.
    pub(super) fn send(&mut self, number: u64) -> Option<&Outgoing> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        let flight = self.flights.get_mut(index)?.as_mut()?;
        flight.unsent = false;
        Some(&flight.message)
    }

    /// Settles a message; false if it was settled already.
    pub(super) fn settle(&mut self, number: u64) -> bool {
        let index = number.checked_sub(self.base).and_then(|index| usize::try_from(index).ok());
        let Some(slot) = index.and_then(|index| self.flights.get_mut(index)) else { return false };
        let settled = slot.take().is_some();
        while let Some(None) = self.flights.front() {
            self.flights.pop_front();
            self.base += 1;
        }
        settled
    }

    /// Notes that no stream answered; returns the message's fate if that was once too often.
    pub(super) fn refused(&mut self, number: u64) -> Option<Fate> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        let flight = self.flights.get_mut(index)?.as_mut()?;
        flight.refusals += 1;
        flight.unsent = true;
        if flight.refusals < MOST_REFUSALS {
            return None;
        }
        self.settle(number);
        Some(Fate::Failed { why: "no stream takes its subject".to_owned(), for_good: false })
    }

    /// Settles what must not be sent again after the connection broke, and returns the numbers of the rest in order.
    pub(super) fn again(&mut self) -> (Vec<u64>, Vec<(u64, Fate)>) {
        let numbers: Vec<u64> = (self.base..self.base + self.flights.len() as u64).collect();
        let (mut rest, mut fates) = (Vec::new(), Vec::new());
        for number in numbers {
            let index = (number - self.base) as usize;
            match self.flights.get(index) {
                Some(Some(flight)) if flight.unsent || flight.message.message_id.is_some() => rest.push(number),
                Some(Some(_)) => {
                    self.settle(number);
                    fates.push((number, Fate::Unconfirmed));
                }
                _ => {}
            }
        }
        (rest, fates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(id: Option<u64>) -> Outgoing {
        Outgoing { message_id: id.map(|id| id.to_string()), ..Outgoing::default() }
    }

    #[test]
    fn only_what_can_be_sent_again_safely_is() {
        let mut flights = Flights::default();
        for id in [Some(0), None, Some(2), None, None] {
            flights.add(message(id));
        }
        (0..4).for_each(|number| assert!(flights.send(number).is_some()));
        assert!(flights.refused(1).is_none(), "no stream had it: safe");
        let (again, fates) = flights.again();
        assert_eq!(again, [0, 1, 2, 4]);
        assert_eq!(fates.len(), 1);
    }

    #[test]
    fn a_message_that_no_stream_takes_fails_in_the_end() {
        let mut flights = Flights::default();
        let number = flights.add(message(None));
        let fates: Vec<Option<Fate>> = (0..MOST_REFUSALS).map(|_| flights.refused(number)).collect();
        assert!(
            matches!(fates.last(), Some(Some(Fate::Failed { for_good: false, .. })))
                && fates.iter().flatten().count() == 1
        );
        assert!(flights.is_empty());
    }

    proptest! {
        /// Whatever the order of acknowledgements, repeated or not: each message is settled exactly once.
        #[test]
        fn each_message_is_settled_once(order in proptest::collection::vec(0u64..40, 0..200)) {
            let mut flights = Flights::default();
            (0..40).for_each(|id| _ = flights.add(message(Some(id))));
            let mut settled = std::collections::BTreeSet::new();
            for number in order {
                prop_assert_eq!(flights.settle(number), settled.insert(number));
                let oldest = (0..40).find(|n| !settled.contains(n)).unwrap_or(40);
                prop_assert_eq!(flights.base, oldest);
            }
            prop_assert_eq!(flights.again().0.len(), 40 - settled.len());
        }
    }
}
