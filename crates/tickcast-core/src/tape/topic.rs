//! Writing a tape from a topic of judged trades: they get sequences of this tape, and each is written once.

use super::follow::Followed;
use super::stage::Entry;
use super::writer::now_ns;
use super::{NO_RULE, SCREEN_RULE, TapeWriter, flags};
use crate::decode::trades::TradeBatch;
use crate::repeats::{Repeats, has_instrument};
use crate::{Position, Result, Status};

/// What the screen says, so that trades keep the mark of having passed it.
const SCREEN_REASONS: [&str; 3] =
    ["Processing error: price: ", "Processing error: volume: ", "Processing error: timestamp_ns: "];
const BAND_REASON: &str = "Price out of acceptable range";
const TEXT_PREFIX: &str = "Processing error: ";

/// Trades of a topic on their way to a tape.
#[derive(Debug, Default)]
pub struct Arrived {
    batch: TradeBatch,
    /// Last position of each partition of the topic.
    positions: Vec<Position>,
    arrival_ns: i64,
    /// Rows that were not there yet, once that is known.
    fresh: Option<Vec<u32>>,
    /// How many of them are written.
    written: usize,
}

impl Arrived {
    /// Returns trades that arrived at `arrival_ns`, and that bring the topic's partitions to these positions.
    pub fn new(batch: TradeBatch, positions: Vec<Position>, arrival_ns: i64) -> Self {
        Arrived { batch, positions, arrival_ns, fresh: None, written: 0 }
    }

    /// The trades.
    pub fn batch(&self) -> &TradeBatch {
        &self.batch
    }

    /// Last position of each partition of the topic.
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// How many were new: UNKNOWN, VALID, INVALID.
    pub fn counts(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for &row in self.fresh.iter().flatten() {
            counts[self.batch.rows[row as usize].status as usize] += 1;
        }
        counts
    }

    fn ordered(&self, row: usize) -> bool {
        let row = &self.batch.rows[row];
        has_instrument(row.status, row.reason.map(|code| self.batch.reasons.get(code)))
    }

    fn sort_out(&mut self, repeats: &mut Repeats) -> Vec<u32> {
        let known = self.fresh.take();
        known.unwrap_or_else(|| {
            let is_new = |&row: &u32| {
                let trade = &self.batch.rows[row as usize];
                repeats.is_new(self.batch.instrument_id(trade), self.ordered(row as usize), trade.id)
            };
            (0..self.batch.rows.len() as u32).filter(is_new).collect()
        })
    }

    /// Returns the trade of a row as the tape takes it; `values` becomes its enrichments.
    fn entry<'a>(&'a self, row: u32, places: &[Option<usize>], values: &'a mut [f64]) -> Entry<'a> {
        let trade = self.batch.trade(&self.batch.rows[row as usize], places, values);
        let reason = trade.reason.unwrap_or_default();
        let refused_by_screen = trade.status == Status::Invalid
            && (reason == BAND_REASON
                || SCREEN_REASONS.iter().any(|start| reason.starts_with(start))
                || !self.ordered(row as usize));
        Entry {
            trade,
            reason_is_text: reason.starts_with(TEXT_PREFIX),
            flags: if refused_by_screen { 0 } else { flags::SCREENED },
            rule: if refused_by_screen { SCREEN_RULE } else { NO_RULE },
            observed: f64::NAN,
            limit: f64::NAN,
            rules_vwap: f64::NAN,
            ingest_ns: self.arrival_ns,
            decode_us: 0,
            rules_us: 0,
            enrich_us: 0,
        }
    }
}

impl TapeWriter {
    /// Writes those trades that `repeats` does not know, then the positions behind all of them; then wakes the readers.
    /// Enrichments that the tape has no column for are left out.
    ///
    /// Positions come last: a writer killed before is given the trades again, and whoever takes the tape up knows by
    /// [`Repeats::of_tape`] which of them it has.
    ///
    /// # Errors
    /// [`crate::Error::Tape`]: a holding cursor has not confirmed what would be overwritten, or there is no room for a
    /// trade. What fitted before is written: wait, and give the same trades again.
    pub fn append_arrived(&mut self, arrived: &mut Arrived, repeats: &mut Repeats) -> Result<()> {
        let fresh = arrived.sort_out(repeats);
        let outcome = self.append_fresh(arrived, &fresh);
        arrived.fresh = Some(fresh);
        outcome
    }

    fn append_fresh(&mut self, arrived: &mut Arrived, fresh: &[u32]) -> Result<()> {
        let names: Vec<String> = self.reader().enrichments().iter().map(|e| e.name.clone()).collect();
        let places: Vec<Option<usize>> =
            arrived.batch.columns.iter().map(|column| names.iter().position(|name| name == column)).collect();
        let mut values = vec![f64::NAN; names.len()];
        let mut rule_set = None;
        self.stage.clear();
        for (at, &row) in fresh.iter().enumerate().skip(arrived.written) {
            let judged_by = arrived.batch.rows[row as usize].rule_set;
            if rule_set != Some(judged_by) || self.is_staged_full() {
                self.write_staged(&[])?;
                self.stage.clear();
                arrived.written = at;
                self.tell_rule_set(arrived.batch.rule_sets.get(judged_by));
                rule_set = Some(judged_by);
            }
            let entry = arrived.entry(row, &places, &mut values);
            self.stage_one(&Followed { seq: 0, rule_set: u16::MAX, entry }, now_ns());
        }
        self.write_staged(&arrived.positions)?;
        self.stage.clear();
        arrived.written = fresh.len();
        Ok(())
    }

    /// A message without a rule set, or one more than the tape can name, is taken to be of the set in force.
    fn tell_rule_set(&mut self, rule_set: &str) {
        if !rule_set.is_empty() {
            let _ = self.learn(&[], &[], rule_set);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::trades::decode_trades;
    use crate::encode::json::{EnrichmentKeys, write_trade};
    use crate::tape::{Enrichment, Read, Run, TapeOptions};
    use crate::{Trade, TradeId};

    fn id(offset: u64) -> TradeId {
        Position { stream: 9, partition: 0, offset, index: 0 }.trade_id()
    }

    fn json(offset: u64, name: &str, status: Status, reason: Option<&str>) -> Vec<u8> {
        let (price, vwap_20m) = (offset as f64 + 0.25, if status == Status::Valid { 7.0 } else { f64::NAN });
        let enrichments = &[offset as f64 * 2.0][..];
        let trade = Trade {
            id: id(offset),
            instrument_id: name,
            price,
            volume: 3,
            timestamp_ns: 5,
            status,
            reason,
            vwap_20m,
            enrichments,
        };
        let mut out = Vec::new();
        write_trade(&mut out, &trade, &EnrichmentKeys::new(&["notional"]));
        out
    }

    fn arrived(payloads: &[Vec<u8>], offset: u64) -> Arrived {
        let position = Position { stream: 4, partition: 2, offset, index: u16::MAX };
        Arrived::new(decode_trades(payloads.iter().map(|p| (None, "desk@1", &p[..]))), vec![position], 11)
    }

    fn options(bytes: u64) -> TapeOptions {
        let notional = Enrichment { name: "notional".into(), unit: String::new() };
        TapeOptions { bytes, enrichments: vec![notional], max_instruments: 64, ..TapeOptions::default() }
    }

    fn on_tape(tape: &TapeWriter) -> Vec<Vec<u8>> {
        let (reader, mut run) = (tape.reader(), Run::default());
        assert_eq!(reader.read(reader.oldest(), reader.head(), &mut run), Read::Done { to: reader.head() });
        run.iter().map(|record| record.json().to_vec()).collect()
    }

    #[test]
    fn trades_come_as_they_are_and_once_also_after_the_tape_is_taken_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let sent = [
            json(1, "AAA", Status::Valid, None),
            json(2, "BBB", Status::Invalid, Some("Too far")),
            json(3, "x", Status::Invalid, Some("Processing error: instrument_id: must have 3 to 10 characters, was x")),
            json(4, "AAA", Status::Unknown, Some("Rule unavailable: slow")),
        ];
        let mut tape = TapeWriter::open(folder.path(), &options(4 << 20)).expect("a tape");
        let mut repeats = Repeats::of_tape(&tape.reader());
        let mut first = arrived(&sent[..3], 70);
        tape.append_arrived(&mut first, &mut repeats).expect("room");
        assert_eq!(first.counts(), [0, 1, 2]);
        let mut again = arrived(&sent, 74);
        tape.append_arrived(&mut again, &mut repeats).expect("room");
        assert_eq!((again.counts(), on_tape(&tape)), ([1, 0, 0], sent.to_vec()));
        assert_eq!(tape.positions()[0].offset, 74);
        assert_eq!(tape.reader().rule_set(), "desk@1");
        drop(tape);
        let mut tape = TapeWriter::open(folder.path(), &options(4 << 20)).expect("a tape");
        assert!(tape.resumed());
        let mut repeats = Repeats::of_tape(&tape.reader());
        let mut all = sent.to_vec();
        all.push(json(5, "BBB", Status::Valid, None));
        tape.append_arrived(&mut arrived(&all, 80), &mut repeats).expect("room");
        assert_eq!(on_tape(&tape), all);
    }

    #[test]
    fn more_than_the_ring_holds_waits_for_who_holds_and_doubles_nothing() {
        let mut tape = TapeWriter::in_memory(&options(2 << 20)).expect("a tape");
        let hold = tape.hold("sink").expect("a hold");
        let sent: Vec<Vec<u8>> = (1..=20_000).map(|offset| json(offset, "AAA", Status::Valid, None)).collect();
        let (mut batch, mut repeats) = (arrived(&sent, 20_000), Repeats::default());
        let mut rounds = 0;
        while tape.append_arrived(&mut batch, &mut repeats).is_err() {
            assert!(tape.positions().is_empty(), "the position comes last");
            hold.confirm(tape.head());
            rounds += 1;
        }
        assert!(rounds > 0);
        assert_eq!((tape.head(), batch.counts()), (20_000, [0, 20_000, 0]));
        assert_eq!(on_tape(&tape).last(), sent.last());
    }
}
