//! The tape for Python: what the HTTP side of the gateway, `tail` and tests read.
//!
//! Whole pages leave as JSON bytes: the trades were encoded when they were written, nobody encodes them again.

use crate::error::to_py;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tickcast_core::Status;
use tickcast_core::explore::{self, Query};
use tickcast_core::fanout::{self, Subscription};
use tickcast_core::tape::{self, NO_RULE, Read, Record, Run, SCREEN_RULE, flags};

/// Most trades of one page.
const MOST_TRADES: u64 = 10_000;

/// Adds the reader to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<TapeReader>()
}

#[pyclass(frozen, module = "tickcast._core")]
struct TapeReader {
    tape: tape::TapeReader,
}

impl TapeReader {
    /// Reads one trade; `None` where it is not on the tape (any more, or yet).
    fn one<T>(&self, seq: u64, show: impl FnOnce(&Record<'_>) -> T) -> Option<T> {
        let mut run = Run::default();
        match self.tape.read(seq, seq, &mut run) {
            Read::Done { to } if to == seq && seq > 0 => Some(show(&run.get(0))),
            _ => None,
        }
    }

    fn page(&self, from_seq: u64, limit: u64) -> Vec<u8> {
        let mut run = Run::default();
        let (wanted, mut from) = (from_seq.max(1), from_seq.max(1));
        let mut why = "overrun";
        let to = loop {
            let to = from.saturating_add(limit.clamp(1, MOST_TRADES) - 1);
            match self.tape.read(from, to, &mut run) {
                Read::Done { to } => break to.max(from - 1),
                Read::Overrun { oldest } => from = oldest.max(from + 1),
                Read::Hole { to } => (from, why) = (to + 1, "upstream"),
            }
        };
        let epoch = format!("{:016x}", self.tape.epoch());
        let (oldest, head) = (self.tape.oldest(), self.tape.head());
        let gap = if from > wanted { json!({"from": wanted, "to": from - 1, "why": why}) } else { Value::Null };
        let mut page = format!(
            "{{\"epoch\":\"{epoch}\",\"oldest\":{oldest},\"head\":{head},\"seq\":{from},\"toSeq\":{to},\"gap\":{gap},\"trades\":["
        )
        .into_bytes();
        for (row, record) in run.iter().enumerate() {
            if row > 0 {
                page.push(b',');
            }
            page.extend_from_slice(record.json());
        }
        page.extend_from_slice(b"]}");
        page
    }

    fn explain(&self, record: &Record<'_>) -> Value {
        let rule = match record.rule() {
            NO_RULE => Value::Null,
            SCREEN_RULE => json!("screen"),
            number => json!(self.tape.rules().get(usize::from(number) - 1)),
        };
        let trade: Value = serde_json::from_slice(record.json()).unwrap_or_default();
        let marked = |flag: u8| record.flags() & flag != 0;
        json!({
            "seq": record.seq(),
            "epoch": format!("{:016x}", self.tape.epoch()),
            "trade": trade,
            "rule": rule,
            "rules": self.tape.rules(),
            "ruleSet": self.tape.rule_sets().get(usize::from(record.rule_set())),
            "observed": finite(record.observed()),
            "limit": finite(record.limit()),
            "rulesVwap": finite(record.rules_vwap()),
            "screened": marked(flags::SCREENED),
            "stamped": marked(flags::STAMPED),
            "late": marked(flags::LATE),
            "ingestNs": record.ingest_ns().to_string(),
            "stagesUs": {
                "decode": record.decode_us(),
                "rules": record.rules_us(),
                "enrich": record.enrich_us(),
                "tape": record.tape_us(),
            },
        })
    }
}

fn known_status(number: u8) -> PyResult<Status> {
    Status::from_number(number).ok_or_else(|| PyValueError::new_err(format!("status must be 0, 1 or 2, was {number}")))
}

/// JSON has no NaN: a value that is not there is `null`.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[pymethods]
impl TapeReader {
    #[staticmethod]
    fn open(py: Python<'_>, run_dir: PathBuf) -> PyResult<Self> {
        let tape = py.detach(|| tape::TapeReader::open(&run_dir)).map_err(to_py)?;
        Ok(TapeReader { tape })
    }

    #[getter]
    fn epoch(&self) -> String {
        format!("{:016x}", self.tape.epoch())
    }

    #[getter]
    fn head(&self) -> u64 {
        self.tape.head()
    }

    #[getter]
    fn oldest(&self) -> u64 {
        self.tape.oldest()
    }

    #[getter]
    fn rule_set(&self) -> String {
        self.tape.rule_set()
    }

    fn superseded(&self) -> bool {
        self.tape.superseded()
    }

    fn writer_alive(&self) -> bool {
        self.tape.writer_alive()
    }

    fn trades<'py>(&self, py: Python<'py>, from_seq: u64, limit: u64) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &py.detach(|| self.page(from_seq, limit)))
    }

    fn trade<'py>(&self, py: Python<'py>, seq: u64) -> Option<Bound<'py, PyBytes>> {
        let json = py.detach(|| self.one(seq, |record| record.json().to_vec()))?;
        Some(PyBytes::new(py, &json))
    }

    fn why<'py>(&self, py: Python<'py>, seq: u64) -> Option<Bound<'py, PyBytes>> {
        let why = py.detach(|| self.one(seq, |record| self.explain(record).to_string()))?;
        Some(PyBytes::new(py, why.as_bytes()))
    }

    #[pyo3(signature = (*, instrument=None, status=None, reason=None, rule=None, before=None, limit=1000, scan=u64::MAX))]
    #[allow(clippy::too_many_arguments, reason = "one argument per condition")]
    fn search<'py>(
        &self,
        py: Python<'py>,
        instrument: Option<String>,
        status: Option<u8>,
        reason: Option<String>,
        rule: Option<String>,
        before: Option<u64>,
        limit: usize,
        scan: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let query = Query { instrument, status: status.map(known_status).transpose()?, reason, rule };
        let limit = limit.min(MOST_TRADES as usize);
        Ok(PyBytes::new(py, &py.detach(|| explore::search(&self.tape, &query, before, limit, scan))))
    }

    #[pyo3(signature = (*, instrument=None, reason=None, rule=None, buckets=60, scan=u64::MAX))]
    fn rejects<'py>(
        &self,
        py: Python<'py>,
        instrument: Option<String>,
        reason: Option<String>,
        rule: Option<String>,
        buckets: usize,
        scan: u64,
    ) -> Bound<'py, PyBytes> {
        let query = Query { instrument, status: None, reason, rule };
        PyBytes::new(py, &py.detach(|| explore::rejects(&self.tape, &query, buckets, scan)))
    }

    fn stages<'py>(&self, py: Python<'py>, newest: u64) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &py.detach(|| explore::stages(&self.tape, newest)))
    }

    fn activity<'py>(&self, py: Python<'py>, since_ns: i64, recent_ns: i64) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &py.detach(|| explore::activity(&self.tape, since_ns, recent_ns)))
    }

    fn find(&self, py: Python<'_>, trade_id: &str) -> Option<u64> {
        let id = explore::parse_id(trade_id)?;
        py.detach(|| explore::find(&self.tape, id))
    }

    #[pyo3(signature = (instruments=None))]
    fn snapshot<'py>(&self, py: Python<'py>, instruments: Option<Vec<String>>) -> Bound<'py, PyBytes> {
        let json = py.detach(|| fanout::snapshot(&self.tape.snapshot(), &Subscription::new(instruments, None)));
        PyBytes::new(py, &json)
    }

    #[pyo3(signature = (from_code=0))]
    fn instruments(&self, from_code: usize) -> Vec<String> {
        self.tape.instruments(from_code)
    }

    #[pyo3(signature = (from_code=0))]
    fn reasons(&self, from_code: usize) -> Vec<String> {
        self.tape.reasons(from_code)
    }

    fn enrichments(&self) -> Vec<(String, String)> {
        self.tape.enrichments().iter().map(|e| (e.name.clone(), e.unit.clone())).collect()
    }

    fn rules(&self) -> Vec<String> {
        self.tape.rules()
    }

    fn board<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.tape.board())
    }

    fn wait(&self, py: Python<'_>, head: u64, timeout_s: f64) -> u64 {
        let timeout = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
        py.detach(|| self.tape.wait(head, timeout))
    }
}
