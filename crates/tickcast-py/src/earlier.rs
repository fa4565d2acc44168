//! Verdicts given earlier, as Python sees them.

use crate::batch::Batch;
use crate::judge::{PyPending, lock};
use crate::tape::PyTapeWriter;
use crate::topic::TopicTrades;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Mutex;
use tickcast_core::earlier::EarlierVerdicts;

/// What stands for a tick on which no verdict is known.
const UNKNOWN_YET: u8 = u8::MAX;

/// Verdicts given earlier, by position.
#[pyclass(frozen, name = "EarlierVerdicts", module = "tickcast._core")]
pub struct PyEarlierVerdicts(Mutex<EarlierVerdicts>);

#[pymethods]
impl PyEarlierVerdicts {
    #[new]
    fn new() -> Self {
        PyEarlierVerdicts(Mutex::default())
    }

    /// Learns those of all trades on a tape.
    fn recall(&self, py: Python<'_>, writer: &PyTapeWriter) -> PyResult<()> {
        py.detach(|| {
            let reader = writer.reader()?;
            *lock(&self.0)? = EarlierVerdicts::of_tape(&reader);
            Ok(())
        })
    }

    /// Learns those of a topic's trades whose ticks came from these partitions of the source.
    fn learn(&self, py: Python<'_>, trades: &TopicTrades, stream: u32, partitions: Vec<u16>) -> PyResult<()> {
        py.detach(|| {
            let (arrived, mut earlier) = (lock(&trades.arrived)?, lock(&self.0)?);
            for row in &arrived.batch().rows {
                let at = row.id.position();
                if at.stream == stream && partitions.contains(&at.partition) {
                    earlier.note(at, row.status);
                }
            }
            Ok(())
        })
    }

    /// Whether there is a tick in the batch on which no verdict is known.
    fn lacks(&self, py: Python<'_>, batch: &Batch) -> PyResult<bool> {
        py.detach(|| batch.with(|ticks, origin| Ok(lock(&self.0)?.lacks(ticks, origin))))
    }

    /// Status numbers of the ticks that passed the screen, 255 where no verdict is known.
    fn of<'py>(&self, py: Python<'py>, pending: &PyPending) -> PyResult<Bound<'py, PyBytes>> {
        let statuses = py.detach(|| {
            let earlier = lock(&self.0)?;
            pending.with(|p| {
                let status = |at| earlier.get(at).map_or(UNKNOWN_YET, |status| status as u8);
                Ok(p.passed_positions().map(status).collect::<Vec<u8>>())
            })
        })?;
        Ok(PyBytes::new(py, &statuses))
    }

    /// Forgets a partition's.
    fn forget(&self, stream: u32, partition: u16) -> PyResult<()> {
        lock(&self.0)?.forget(stream, partition);
        Ok(())
    }
}
