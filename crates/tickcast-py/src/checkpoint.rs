//! The windows on disk, as Python sees them: written step by step, restored together with the tape.

use crate::error::to_py;
use crate::judge::{PyJudge, lock, now_ns};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Mutex;
use tickcast_core::checkpoint::Writer;

/// Adds the checkpoint to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<WindowCheckpoint>()
}

/// A checkpoint of the windows that is being written.
#[pyclass(frozen, module = "tickcast._core")]
struct WindowCheckpoint(Mutex<Option<Writer>>);

fn finished() -> PyErr {
    PyValueError::new_err("this checkpoint is finished")
}

#[pymethods]
impl WindowCheckpoint {
    #[new]
    fn new(py: Python<'_>, path: PathBuf, judge: &PyJudge, epoch: u64) -> PyResult<Self> {
        py.detach(|| {
            let event_clock_ns = lock(&judge.0)?.event_clock_ns();
            let writer = Writer::begin(&path, epoch, event_clock_ns, now_ns()).map_err(to_py)?;
            Ok(WindowCheckpoint(Mutex::new(Some(writer))))
        })
    }

    /// Copies some more; false once everything is copied.
    fn step(&self, py: Python<'_>, judge: &PyJudge, sequence: u64) -> PyResult<bool> {
        py.detach(|| {
            let judge = lock(&judge.0)?;
            Ok(lock(&self.0)?.as_mut().ok_or_else(finished)?.step(&judge, sequence))
        })
    }

    /// Brings what was copied to the file.
    fn write(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| lock(&self.0)?.as_mut().ok_or_else(finished)?.write().map_err(to_py))
    }

    /// Puts the file in its place, on the disk; returns how many ticks it has.
    fn finish(&self, py: Python<'_>) -> PyResult<u64> {
        py.detach(|| lock(&self.0)?.take().ok_or_else(finished)?.finish().map_err(to_py))
    }
}
