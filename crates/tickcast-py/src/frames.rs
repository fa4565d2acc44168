//! Binary frames at their receiver: columns for Python, trades for a tape that follows.

use crate::error::SourceError;
use crate::judge::lock;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use std::sync::Mutex;
use tickcast_core::encode::json::EnrichmentKeys;
use tickcast_core::fanout::binary::{FrameDictionary, FrameError, FrameView};
use tickcast_core::tape::{Entry, Followed, NO_RULE, TEXT_REASON};
use tickcast_core::{Status, Trade};

/// Bytes of `Frame.why` for each trade.
const WHY_BYTES: usize = 32;
/// No rule set of the tape that is followed: the one in force.
const PRESENT_RULE_SET: u16 = u16::MAX;

/// Adds what reads frames to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<FrameNames>()
}

/// What a receiver knows of its sender's dictionaries.
#[pyclass(frozen, module = "tickcast._core")]
pub struct FrameNames(pub Mutex<FrameDictionary>);

/// Returns the Python exception for bytes that are no frame.
pub fn broken(error: FrameError) -> PyErr {
    SourceError::new_err(error.to_string())
}

#[pymethods]
impl FrameNames {
    #[new]
    fn new(instruments: Vec<String>, reasons: Vec<String>) -> Self {
        FrameNames(Mutex::new(FrameDictionary::new(instruments, reasons)))
    }

    /// Reads a frame, and learns from it; returns the message of `tickcast.v1.json` that says the same.
    fn message<'py>(&self, py: Python<'py>, frame: &[u8], enrichments: Vec<String>) -> PyResult<Bound<'py, PyBytes>> {
        let mut names = lock(&self.0)?;
        let view = FrameView::parse(frame).map_err(broken)?;
        names.learn(&view).map_err(broken)?;
        let message = names.message(&view, &EnrichmentKeys::new(&enrichments)).map_err(broken)?;
        Ok(PyBytes::new(py, &message))
    }

    /// Reads a frame, and learns from it; returns its columns.
    ///
    /// Columns are bytes, little-endian, for `np.frombuffer`; ids, instruments and reasons are lists.
    fn columns<'py>(&self, py: Python<'py>, frame: &[u8]) -> PyResult<Bound<'py, PyDict>> {
        let mut names = lock(&self.0)?;
        let view = FrameView::parse(frame).map_err(broken)?;
        names.learn(&view).map_err(broken)?;
        let rows = view.len();
        let out = PyDict::new(py);
        out.set_item("snapshot", view.is_snapshot)?;
        out.set_item("seq", view.seq)?;
        out.set_item("to_seq", view.to_seq)?;
        out.set_item("sent_ns", view.sent_ns)?;
        out.set_item("conflated", view.conflated)?;
        let column = |of: &dyn Fn(usize) -> [u8; 8]| {
            let bytes: Vec<u8> = (0..rows).flat_map(of).collect();
            PyBytes::new(py, &bytes)
        };
        out.set_item("seqs", column(&|row| view.seq_of(row).to_le_bytes()))?;
        out.set_item("timestamp_ns", column(&|row| view.row(row).timestamp_ns().to_le_bytes()))?;
        out.set_item("price", column(&|row| view.row(row).price().to_le_bytes()))?;
        out.set_item("volume", column(&|row| view.row(row).volume().to_le_bytes()))?;
        out.set_item("vwap_20m", column(&|row| view.row(row).vwap_20m().to_le_bytes()))?;
        let status: Vec<u8> = (0..rows).map(|row| view.row(row).status() as u8).collect();
        out.set_item("status", PyBytes::new(py, &status))?;
        let enrichments = if rows == 0 { 0 } else { view.row(0).enrichments().len() };
        let columns = (0..enrichments)
            .map(|k| column(&|row| view.row(row).enrichments().nth(k).unwrap_or(f64::NAN).to_le_bytes()));
        out.set_item("enrichments", PyList::new(py, columns)?)?;
        let (ids, instruments, reasons) = (PyList::empty(py), PyList::empty(py), PyList::empty(py));
        let mut values = Vec::new();
        let mut interned: Vec<Option<Bound<'py, PyString>>> = vec![None; names.instruments().len()];
        for row in 0..rows {
            let code = view.row(row).instrument() as usize;
            let trade = names.trade(&view, row, &mut values).map_err(broken)?;
            let hex = trade.id.hex();
            ids.append(std::str::from_utf8(&hex).unwrap_or_default())?;
            match interned.get_mut(code) {
                Some(slot) => {
                    let name = slot.get_or_insert_with(|| PyString::new(py, trade.instrument_id));
                    instruments.append(&*name)?;
                }
                None => instruments.append(trade.instrument_id)?,
            }
            reasons.append(trade.reason)?;
        }
        out.set_item("trade_id", ids)?;
        out.set_item("instrument_id", instruments)?;
        out.set_item("reason", reasons)?;
        Ok(out)
    }
}

/// How many trades are UNKNOWN, VALID, INVALID.
pub type Counts = (u64, u64, u64);

/// Hands the trades of a frame to `write`, as a tape takes them; `why` is `Frame.why`, or empty.
pub fn with_trades<T>(
    names: &FrameNames,
    frame: &[u8],
    why: &[u8],
    write: impl FnOnce(&mut dyn Iterator<Item = Followed<'_>>, u64) -> PyResult<T>,
) -> PyResult<(T, Counts)> {
    let mut names = lock(&names.0)?;
    let view = FrameView::parse(frame).map_err(broken)?;
    names.learn(&view).map_err(broken)?;
    if !why.is_empty() && why.len() != view.len() * WHY_BYTES {
        return Err(SourceError::new_err("a frame whose explanations are not as many as its trades"));
    }
    let mut counts = [0u64; 3];
    let mut enrichments: Vec<Vec<f64>> = vec![Vec::new(); view.len()];
    let mut taken: Vec<Trade<'_>> = Vec::with_capacity(view.len());
    for (row, values) in enrichments.iter_mut().enumerate() {
        let trade = names.trade(&view, row, values).map_err(broken)?;
        counts[trade.status as usize] += 1;
        taken.push(trade);
    }
    let mut trades = taken.iter().enumerate().map(|(row, trade)| followed(&view, why, row, *trade));
    let written = write(&mut trades, view.to_seq)?;
    let [unknown, valid, invalid] = counts;
    Ok((written, (unknown, valid, invalid)))
}

fn followed<'a>(view: &FrameView<'_>, why: &[u8], row: usize, trade: Trade<'a>) -> Followed<'a> {
    let record = view.row(row);
    let stages = view.stages_of(row);
    let (rule, rule_set, [rules_vwap, observed, limit]) = explained(why, row);
    Followed {
        seq: view.seq_of(row),
        rule_set,
        entry: Entry {
            trade,
            reason_is_text: record.reason() == TEXT_REASON,
            flags: record.flags() & 0x7F,
            rule,
            observed,
            limit,
            rules_vwap,
            ingest_ns: stages.map_or(view.sent_ns, |s| s.ingest_ns),
            decode_us: stages.map_or(0, |s| s.decode_us),
            rules_us: stages.map_or(0, |s| s.rules_us),
            enrich_us: stages.map_or(0, |s| s.enrich_us),
        },
    }
}

fn explained(why: &[u8], row: usize) -> (u16, u16, [f64; 3]) {
    let Some(at) = why.get(row * WHY_BYTES..(row + 1) * WHY_BYTES) else {
        return (NO_RULE, PRESENT_RULE_SET, [f64::NAN; 3]);
    };
    let number = |i: usize| u16::from_le_bytes([at[i], at[i + 1]]);
    let value = |i: usize| f64::from_le_bytes(std::array::from_fn(|k| at[i + k]));
    (number(0), number(2), [value(8), value(16), value(24)])
}

const _: () = assert!(Status::Invalid as usize == 2);
