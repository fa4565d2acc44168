//! A judged batch: its ticks, what was said of each, and how they go to the tape.

use super::{Pending, Verdicts};
use crate::position::Position;
use crate::tape::{Entry, SCREEN_RULE};
use crate::trade::{Status, Trade};

/// Judged trades, in the order of their ticks.
#[derive(Debug)]
pub struct Judged {
    pending: Pending,
    verdict: Vec<Verdict>,
    reasons: Vec<(String, bool)>,
    enrichments: Vec<f64>,
    enrichment_count: usize,
    /// When each stage ended.
    pub stages: Stages,
}

/// When the stages of a batch ended; arrival stands with each tick.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stages {
    /// When the batch was begun (decoding and waiting were over), ns since the Unix epoch.
    pub begun_ns: i64,
    /// What the rules took from there, µs.
    pub rules_us: u32,
    /// What settling took from there, µs.
    pub enrich_us: u32,
}

/// What has become of a tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub status: Status,
    pub rule: u16,
    pub reason: u32,
    pub vwap_20m: f64,
    pub rules_vwap: f64,
    pub observed: f64,
    pub limit: f64,
}

impl Verdict {
    /// What the screen leaves of a tick that it refuses; and what becomes of any whose verdict can't be understood.
    pub const REFUSED: Verdict = Verdict {
        status: Status::Invalid,
        rule: SCREEN_RULE,
        reason: 0,
        vwap_20m: f64::NAN,
        rules_vwap: f64::NAN,
        observed: f64::NAN,
        limit: f64::NAN,
    };
}

impl Judged {
    /// Puts verdicts and ticks together, with so many enrichments.
    pub(super) fn new(pending: Pending, mut verdict: Vec<Verdict>, verdicts: Verdicts<'_>, count: usize) -> Self {
        let mut reasons = verdicts.reasons.to_vec();
        if reasons.is_empty() {
            reasons.push((String::new(), false));
        }
        for f in &pending.faults {
            let v = &mut verdict[f.row as usize];
            v.reason = reasons.len() as u32;
            v.observed = f.observed;
            v.limit = f.limit;
            reasons.push((f.reason.clone(), f.reason_is_text));
        }
        let mut enrichments = vec![f64::NAN; verdict.len() * count];
        let passed = pending.passed.len();
        for (i, &row) in pending.passed.iter().enumerate() {
            // On trades that are not VALID enrichments are absent.
            if verdict[row as usize].status == Status::Valid {
                for k in 0..count {
                    enrichments[row as usize * count + k] = verdicts.enrichments[k * passed + i];
                }
            }
        }
        Judged { pending, verdict, reasons, enrichments, enrichment_count: count, stages: Stages::default() }
    }

    /// Number of trades.
    pub fn len(&self) -> usize {
        self.verdict.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.verdict.is_empty()
    }

    /// Number of trades with this status.
    pub fn count(&self, status: Status) -> usize {
        self.verdict.iter().filter(|v| v.status == status).count()
    }

    /// Position of the last message of each partition of the batch: what the tape remembers with these trades.
    ///
    /// Their index is the largest possible, since the whole message has been judged.
    pub fn last_positions(&self) -> Vec<Position> {
        self.pending.origin.last()
    }

    /// Whether it was only to fill the windows ([`Origin::silent`]).
    pub fn is_silent(&self) -> bool {
        self.pending.origin.silent
    }

    /// When the last message of the batch arrived, ns since the Unix epoch; 0: it had none.
    pub fn last_arrival_ns(&self) -> i64 {
        self.pending.origin.arrival_ns.last().copied().unwrap_or(0)
    }

    /// Which message of the batch each trade's tick came in, in order, and how many messages there were.
    pub fn messages(&self) -> (&[u32], usize) {
        (&self.pending.ticks.message, self.pending.origin.offset.len())
    }

    /// The trades, ready for the tape.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        (0..self.verdict.len()).map(|row| self.entry(row))
    }

    fn entry(&self, row: usize) -> Entry<'_> {
        let (t, v) = (&self.pending.ticks, &self.verdict[row]);
        let message = t.message[row] as usize;
        let (reason, reason_is_text) = match v.reason {
            0 => (None, false),
            r => {
                let (text, is_text) = &self.reasons[r as usize];
                (Some(text.as_str()), *is_text)
            }
        };
        let arrival_ns = self.pending.origin.arrival_ns.get(message).copied().unwrap_or(0);
        let decode_us = u32::try_from((self.stages.begun_ns - arrival_ns).max(0) / 1000).unwrap_or(u32::MAX);
        Entry {
            trade: Trade {
                id: self.pending.origin.position(message, t.index[row]).trade_id(),
                instrument_id: t.id(row),
                price: t.price[row],
                volume: t.volume[row],
                timestamp_ns: t.timestamp_ns[row],
                status: v.status,
                reason,
                vwap_20m: v.vwap_20m,
                enrichments: &self.enrichments[row * self.enrichment_count..(row + 1) * self.enrichment_count],
            },
            reason_is_text,
            flags: self.pending.flags[row],
            rule: v.rule,
            observed: v.observed,
            limit: v.limit,
            rules_vwap: v.rules_vwap,
            ingest_ns: arrival_ns,
            decode_us,
            rules_us: self.stages.rules_us,
            enrich_us: self.stages.enrich_us,
        }
    }
}
