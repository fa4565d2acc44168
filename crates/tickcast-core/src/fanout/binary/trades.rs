//! The receiver's dictionaries, and a frame's records as trades.

use super::super::frame::{close_list, write_seqs};
use super::decode::{Entries, FrameError, FrameView, Stages};
use crate::Trade;
use crate::encode::json::{EnrichmentKeys, write_trade};

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

impl FrameDictionary {
    /// Returns the message of `tickcast.v1.json` that says what the frame says; it was learnt from before.
    ///
    /// # Errors
    /// As [`FrameDictionary::trade`].
    pub fn message(&self, frame: &FrameView<'_>, keys: &EnrichmentKeys) -> Result<Vec<u8>, FrameError> {
        let kind = if frame.is_snapshot { "snapshot" } else { "trades" };
        let head = format!("{{\"type\":\"{kind}\",\"seq\":{},\"toSeq\":{}", frame.seq, frame.to_seq);
        let mut body = head.into_bytes();
        if !frame.is_snapshot {
            body.extend_from_slice(format!(",\"sentNs\":\"{}\"", frame.sent_ns).as_bytes());
        }
        body.extend_from_slice(b",\"trades\":[");
        let mut enrichments = Vec::new();
        for row in 0..frame.len() {
            write_trade(&mut body, &self.trade(frame, row, &mut enrichments)?, keys);
            body.push(b',');
        }
        close_list(&mut body);
        if frame.has_seqs() {
            write_seqs(&mut body, (0..frame.len()).map(|row| frame.seq_of(row)));
        }
        let stages: Vec<Stages> = (0..frame.len()).map_while(|row| frame.stages_of(row)).collect();
        if !stages.is_empty() {
            body.extend_from_slice(format!(",\"stages\":{}", columns(&stages)).as_bytes());
        }
        if let Some(conflated) = frame.conflated {
            body.extend_from_slice(format!(",\"conflated\":{conflated}").as_bytes());
        }
        body.push(b'}');
        Ok(body)
    }
}

fn columns(stages: &[Stages]) -> serde_json::Value {
    let column = |of: fn(&Stages) -> u32| -> Vec<u32> { stages.iter().map(of).collect() };
    serde_json::json!({
        "ingestNs": stages.iter().map(|s| s.ingest_ns.to_string()).collect::<Vec<_>>(),
        "decode": column(|s| s.decode_us),
        "rules": column(|s| s.rules_us),
        "enrich": column(|s| s.enrich_us),
        "tape": column(|s| s.tape_us),
        "sent": column(|s| s.sent_us),
    })
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
