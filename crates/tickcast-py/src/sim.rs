//! The simulator for Python: batches for the processor, payloads for a queue.

use crate::batch::Batch;
use crate::error::to_py;
use crate::judge::{lock, now_ns};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Mutex;
use tickcast_core::decode::Format;
use tickcast_core::position::Origin;
use tickcast_core::sim::{self, SimBatch, SimConfig};

/// Most ticks of one call that makes payloads.
const MOST_PAYLOADS: usize = 65_536;

/// The simulator.
#[pyclass(frozen, module = "tickcast._core")]
pub struct Sim {
    stream: u32,
    inner: Mutex<sim::Sim>,
    config: SimConfig,
}

#[pymethods]
impl Sim {
    #[new]
    #[pyo3(signature = (*, rate=5000.0, instruments=200, seed=1, faults=0.01, start_ns=None, stream=0))]
    fn new(rate: f64, instruments: u32, seed: u64, faults: f64, start_ns: Option<i64>, stream: u32) -> PyResult<Self> {
        let config = SimConfig { instruments, rate, seed, faults, start_ns };
        let inner = Mutex::new(sim::Sim::new(config.clone(), now_ns()).map_err(to_py)?);
        Ok(Sim { stream, inner, config })
    }

    /// Starts over, with the first tick due at `clock_ns`.
    fn begin(&self, clock_ns: i64) -> PyResult<()> {
        *lock(&self.inner)? = sim::Sim::new(self.config.clone(), clock_ns).map_err(to_py)?;
        Ok(())
    }

    /// The ticks due at `clock_ns`, at most `max_rows`; None where there are none.
    fn due(&self, py: Python<'_>, clock_ns: i64, max_rows: usize) -> PyResult<Option<Batch>> {
        py.detach(|| Ok(self.batch(lock(&self.inner)?.due(clock_ns, max_rows))))
    }

    /// The next ticks, however far ahead of the clock.
    fn take(&self, py: Python<'_>, max_rows: usize) -> PyResult<Option<Batch>> {
        py.detach(|| Ok(self.batch(lock(&self.inner)?.next_batch(now_ns(), max_rows))))
    }

    /// The ticks due at `clock_ns` as payloads for a queue: one tick a message, or up to `ticks_per_message`.
    #[pyo3(signature = (clock_ns, *, format="json", ticks_per_message=1))]
    fn due_payloads<'py>(
        &self,
        py: Python<'py>,
        clock_ns: i64,
        format: &str,
        ticks_per_message: usize,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let format = Format::from_name(format)
            .ok_or_else(|| PyValueError::new_err(format!("format must be proto, proto-batch or json, was {format}")))?;
        let (out, ends) = py.detach(|| {
            let (mut out, mut ends) = (Vec::new(), Vec::new());
            let batch = lock(&self.inner)?.due(clock_ns, MOST_PAYLOADS);
            batch.write_payloads(format, ticks_per_message.max(1), &mut out, &mut ends);
            Ok::<_, PyErr>((out, ends))
        })?;
        let starts = std::iter::once(0).chain(ends.iter().copied());
        Ok(starts.zip(&ends).map(|(start, &end)| PyBytes::new(py, &out[start..end])).collect())
    }
}

impl Sim {
    fn batch(&self, batch: SimBatch) -> Option<Batch> {
        let arrival_ns = now_ns();
        let mut origin = Origin::new(self.stream, 0);
        (0..batch.rows).for_each(|row| origin.push(batch.first_offset + row, arrival_ns, 0));
        (batch.rows > 0).then(|| Batch::new(batch.decoded, origin))
    }
}
