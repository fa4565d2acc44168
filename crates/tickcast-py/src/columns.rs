//! Trades of the tape as columns, for sinks that write columns.

use crate::column::{Plain, bytes_of};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tickcast_core::Names;
use tickcast_core::outbox::Dictionaries;
use tickcast_core::tape::{NO_INSTRUMENT, Read, Run, TapeReader};

/// Says that there is none, in a column of codes.
const NONE: i32 = -1;

/// Trades of consecutive sequences, a row each.
#[derive(Default)]
pub struct TradeColumns {
    /// Last sequence that was looked at; more than the last row's where there is a hole behind it.
    last: u64,
    first: u64,
    trade_id: Vec<u8>,
    instrument: Vec<i32>,
    instruments: Names,
    /// For each of `instruments`: whether the tape's dictionary has it, or it only rides with its trade.
    listed: Vec<bool>,
    price: Vec<f64>,
    volume: Vec<i64>,
    timestamp_ns: Vec<i64>,
    ingest_ns: Vec<i64>,
    status: Vec<u8>,
    reason: Vec<i32>,
    reasons: Names,
    vwap_20m: Vec<f64>,
    enrichments: Vec<Vec<f64>>,
}

impl TradeColumns {
    /// Returns no rows.
    pub fn empty(last: u64) -> Self {
        TradeColumns { last, ..TradeColumns::default() }
    }

    /// Shows the columns to Python.
    ///
    /// # Errors
    /// Python's own.
    pub fn show(self, py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("last", self.last)?;
        dict.set_item("first", self.first)?;
        dict.set_item("rows", self.price.len())?;
        dict.set_item("trade_id", PyBytes::new(py, &self.trade_id))?;
        dict.set_item("instrument", shown(py, &self.instrument))?;
        dict.set_item("instruments", self.instruments.iter().collect::<Vec<_>>())?;
        dict.set_item("listed", self.listed)?;
        dict.set_item("price", shown(py, &self.price))?;
        dict.set_item("volume", shown(py, &self.volume))?;
        dict.set_item("timestamp_ns", shown(py, &self.timestamp_ns))?;
        dict.set_item("ingest_ns", shown(py, &self.ingest_ns))?;
        dict.set_item("status", PyBytes::new(py, &self.status))?;
        dict.set_item("reason", shown(py, &self.reason))?;
        dict.set_item("reasons", self.reasons.iter().collect::<Vec<_>>())?;
        dict.set_item("vwap_20m", shown(py, &self.vwap_20m))?;
        let enrichments: Vec<_> = self.enrichments.iter().map(|column| shown(py, column)).collect();
        dict.set_item("enrichments", enrichments)?;
        Ok(dict)
    }
}

fn shown<'py, T: Plain>(py: Python<'py>, values: &[T]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, bytes_of(values))
}

/// Reads the trades after `after`, at most `max_trades` of them.
pub fn read(
    reader: &TapeReader,
    dictionaries: &mut Dictionaries,
    run: &mut Run,
    after: u64,
    max_trades: u64,
) -> TradeColumns {
    match reader.read(after + 1, reader.head().min(after.saturating_add(max_trades)), run) {
        Read::Done { to } => columns(reader, dictionaries, run, to),
        Read::Hole { to } => TradeColumns::empty(to),
        Read::Overrun { oldest } => TradeColumns::empty(oldest.saturating_sub(1).max(after)),
    }
}

fn columns(reader: &TapeReader, dictionaries: &mut Dictionaries, run: &Run, last: u64) -> TradeColumns {
    let mut out = TradeColumns { last, first: run.first(), ..TradeColumns::default() };
    out.enrichments = vec![Vec::with_capacity(run.len()); reader.enrichments().len()];
    for record in run.iter() {
        let code = out.instruments.intern(&dictionaries.instrument(reader, &record));
        if code as usize == out.listed.len() {
            // A trade that failed the screen carries its instrument as text, also where the dictionary has it.
            let listed = record.instrument() != NO_INSTRUMENT || dictionaries.lists(reader, out.instruments.get(code));
            out.listed.push(listed);
        }
        out.instrument.push(code as i32);
        let reason = dictionaries.reason(reader, &record).map(|text| out.reasons.intern(text) as i32);
        out.reason.push(reason.unwrap_or(NONE));
        out.trade_id.extend_from_slice(&record.id().0);
        out.price.push(record.price());
        out.volume.push(record.volume());
        out.timestamp_ns.push(record.timestamp_ns());
        out.ingest_ns.push(record.ingest_ns());
        out.status.push(record.status() as u8);
        out.vwap_20m.push(record.vwap_20m());
        for (column, value) in out.enrichments.iter_mut().zip(record.enrichments()) {
            column.push(*value);
        }
    }
    out
}
