//! A tape written from Python, trade by trade: for tests, and for feeding a gateway from a notebook. The processor
//! writes its own from Rust, in columns.

use crate::error::to_py;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tickcast_core::tape::{self, Enrichment, Entry, NO_RULE, TapeOptions, flags};
use tickcast_core::{Position, Status, Trade};

/// Adds the writer to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<TapeWriter>()
}

/// One trade: instrument id, price, volume, timestamp, status, reason, VWAP, enrichments, failing rule.
#[derive(FromPyObject)]
struct Row(String, f64, i64, i64, u8, Option<String>, f64, Vec<f64>, u16);

#[pyclass(frozen, name = "TapeByHand", module = "tickcast._core")]
struct TapeWriter {
    tape: Mutex<Option<tape::TapeWriter>>,
    stream: u32,
}

impl TapeWriter {
    fn lock(&self) -> MutexGuard<'_, Option<tape::TapeWriter>> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, f: impl FnOnce(&mut tape::TapeWriter) -> T) -> PyResult<T> {
        self.lock().as_mut().map(f).ok_or_else(|| PyRuntimeError::new_err("the tape is closed"))
    }
}

#[pymethods]
impl TapeWriter {
    #[new]
    #[pyo3(signature = (run_dir, *, bytes=16_777_216, fresh=false, rule_set="", rules=vec![], enrichments=vec![]))]
    fn new(
        py: Python<'_>,
        run_dir: PathBuf,
        bytes: u64,
        fresh: bool,
        rule_set: &str,
        rules: Vec<String>,
        enrichments: Vec<(String, String)>,
    ) -> PyResult<Self> {
        let enrichments = enrichments.into_iter().map(|(name, unit)| Enrichment { name, unit }).collect();
        let options =
            TapeOptions { bytes, fresh, rules, enrichments, rule_set: rule_set.to_owned(), ..TapeOptions::default() };
        let tape = py.detach(|| tape::TapeWriter::open(&run_dir, &options)).map_err(to_py)?;
        let stream = tape.epoch() as u32;
        Ok(TapeWriter { tape: Mutex::new(Some(tape)), stream })
    }

    #[getter]
    fn epoch(&self) -> PyResult<String> {
        self.with(|tape| format!("{:016x}", tape.epoch()))
    }

    #[getter]
    fn head(&self) -> PyResult<u64> {
        self.with(|tape| tape.head())
    }

    fn append(&self, py: Python<'_>, rows: Vec<Row>, ingest_ns: i64) -> PyResult<u64> {
        if let Some(row) = rows.iter().find(|row| row.4 > 2) {
            return Err(PyValueError::new_err(format!("a status is 0, 1 or 2, was {}", row.4)));
        }
        let stream = self.stream;
        // The lock is let go before the interpreter is asked for again: who holds that may be waiting for the lock.
        let result = py.detach(|| {
            self.with(|tape| {
                let head = tape.head();
                let entries = rows.iter().zip(head..).map(|(row, offset)| entry(row, ingest_ns, stream, offset));
                tape.append(entries, &[]).map(|_| tape.head())
            })
        })?;
        result.map_err(to_py)
    }

    fn set_board(&self, json: &[u8]) -> PyResult<()> {
        self.with(|tape| tape.set_board(json))?.map_err(to_py)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(tape) = self.lock().take() else { return Ok(()) };
        py.detach(|| tape.close()).map_err(to_py)
    }
}

fn entry(row: &Row, ingest_ns: i64, stream: u32, offset: u64) -> Entry<'_> {
    let Row(id, price, volume, timestamp_ns, status, reason, vwap, enrichments, rule) = row;
    Entry {
        trade: Trade {
            id: Position { stream, partition: 0, offset, index: 0 }.trade_id(),
            instrument_id: id,
            price: *price,
            volume: *volume,
            timestamp_ns: *timestamp_ns,
            status: Status::from_number(*status).unwrap_or_default(),
            reason: reason.as_deref(),
            vwap_20m: *vwap,
            enrichments,
        },
        reason_is_text: false,
        flags: flags::SCREENED,
        rule: if *rule == 0 { NO_RULE } else { *rule },
        observed: f64::NAN,
        limit: f64::NAN,
        rules_vwap: f64::NAN,
        ingest_ns,
        decode_us: 0,
        rules_us: 0,
        enrich_us: 0,
    }
}
