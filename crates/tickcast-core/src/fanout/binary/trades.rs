//! The receiver's dictionaries, and a frame's records as trades.

use super::decode::{Entries, FrameError, FrameView};
use crate::Trade;

/// What a receiver knows of the sender's dictionaries: from `hello`, then from every frame, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrameDictionary {
    instruments: Vec<String>,
    reasons: Vec<String>,
}

impl FrameDictionary {
    /// Begins with what `hello` said.
    pub fn new(instruments: Vec<String>, reasons: Vec<String>) -> Self {
        FrameDictionary { instruments, reasons }
    }

    /// Instrument ids by code.
    pub fn instruments(&self) -> &[String] {
        &self.instruments
    }

    /// Reasons; code `k > 0` is number `k - 1`.
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// Takes in the entries of a frame; those known already are passed over.
    ///
    /// # Errors
    /// [`FrameError`] where entries before them are missing: a frame was left out.
    pub fn learn(&mut self, frame: &FrameView<'_>) -> Result<(), FrameError> {
        learn(&mut self.instruments, &frame.instruments)?;
        learn(&mut self.reasons, &frame.reasons)
    }

    /// Returns a trade of a frame that was learnt from; `enrichments` keeps the values that it borrows.
    ///
    /// # Errors
    /// [`FrameError`] where it has a code that nobody announced.
    ///
    /// # Panics
    /// If the frame has not that many trades.
    pub fn trade<'a>(
        &'a self,
        frame: &FrameView<'a>,
        row: usize,
        enrichments: &'a mut Vec<f64>,
    ) -> Result<Trade<'a>, FrameError> {
        let record = frame.row(row);
        let named = || self.instruments.get(record.instrument() as usize).map(String::as_str);
        let unknown = |what| FrameError { what, at: row, size: frame.len() };
        let instrument_id =
            frame.instrument_text(row).or_else(named).ok_or_else(|| unknown("an instrument that nobody announced"))?;
        let reason = match record.reason() {
            0 => None,
            code => {
                let named = || self.reasons.get(usize::from(code) - 1).map(String::as_str);
                let text = frame.reason_text(row).or_else(named);
                Some(text.ok_or_else(|| unknown("a reason that nobody announced"))?)
            }
        };
        enrichments.clear();
        enrichments.extend(record.enrichments());
        Ok(Trade {
            id: frame.ids.get(row).copied().unwrap_or_default(),
            instrument_id,
            price: record.price(),
            volume: record.volume(),
            timestamp_ns: record.timestamp_ns(),
            status: record.status(),
            reason,
            vwap_20m: record.vwap_20m(),
            enrichments,
        })
    }
}

fn learn(known: &mut Vec<String>, entries: &Entries<'_>) -> Result<(), FrameError> {
    if entries.names.is_empty() {
        return Ok(());
    }
    let (first, count) = (entries.first as usize, known.len());
    let Some(skipped) = count.checked_sub(first) else {
        return Err(FrameError { what: "entries of a dictionary before these are missing", at: first, size: count });
    };
    known.extend(entries.names.iter().skip(skipped).map(|&name| name.to_owned()));
    Ok(())
}
