//! Messages that come from a client instead of a source: decoded here, every one answered.

use crate::batch::Batch;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use std::sync::atomic::{AtomicU64, Ordering};
use tickcast_core::decode::{self, Format, Options};
use tickcast_core::position::Origin;

/// Adds the decoder to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<MessageDecoder>()
}

/// Decodes the messages of one stream of a client, which it counts.
#[pyclass(frozen, module = "tickcast._core")]
struct MessageDecoder {
    format: Format,
    stream: u32,
    messages: AtomicU64,
}

#[pymethods]
impl MessageDecoder {
    #[new]
    #[pyo3(signature = (format, *, stream))]
    fn new(format: &str, stream: u32) -> PyResult<Self> {
        let format = Format::from_name(format).ok_or_else(|| {
            PyValueError::new_err(format!("format must be proto, proto-batch or json, was {format:?}"))
        })?;
        Ok(MessageDecoder { format, stream, messages: AtomicU64::new(0) })
    }

    /// Decodes messages with the times of their arrival, ns; what is undecodable gets a row of its own, to be answered.
    fn decode(&self, py: Python<'_>, messages: Vec<PyBackedBytes>, arrival_ns: Vec<i64>) -> PyResult<Batch> {
        if messages.len() != arrival_ns.len() {
            let (messages, times) = (messages.len(), arrival_ns.len());
            return Err(PyValueError::new_err(format!("{messages} messages and {times} times of arrival")));
        }
        Ok(py.detach(|| {
            let first = self.messages.fetch_add(messages.len() as u64, Ordering::Relaxed);
            let decoded = decode::decode(messages.iter().map(|m| (Some(self.format), &m[..])), &Options::default());
            let mut origin = Origin::new(self.stream, 0);
            for (offset, arrival) in (first..).zip(arrival_ns) {
                origin.push(offset, arrival, 0);
            }
            Batch::answering(decoded, origin)
        }))
    }
}
