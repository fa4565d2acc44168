//! What goes through librdkafka message by message.

use crate::judge::lock;
use crate::messages::{PyInbox, PyOutbox};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::ffi::{c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use tickcast_kafka::{Client, Inlet, Outlet, plugin};

/// Adds it to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<KafkaInlet>()?;
    m.add_class::<KafkaOutlet>()?;
    m.add_function(wrap_pyfunction!(load_librdkafka, m)?)
}

fn to_py(error: tickcast_kafka::Error) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

/// Finds librdkafka in confluent-kafka's extension module, which has been imported.
#[pyfunction]
fn load_librdkafka(extension: PathBuf) -> PyResult<()> {
    tickcast_kafka::load(&extension).map_err(to_py)
}

/// Called by librdkafka, for clients whose `plugin.library.paths` names this module's file.
///
/// # Safety
/// Only librdkafka calls it, with a configuration of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conf_init(conf: *mut c_void, _: *mut *mut c_void, _: *mut c_char, _: usize) -> c_int {
    // SAFETY: there is one librdkafka in a process with confluent-kafka, and it has been given to `load`.
    unsafe { plugin::conf_init(conf) }
}

/// A topic of a producer of confluent-kafka.
#[pyclass(frozen, module = "tickcast._core")]
struct KafkaOutlet {
    // Above its owner: dropped before it.
    outlet: Outlet,
    _producer: Py<PyAny>,
}

#[pymethods]
impl KafkaOutlet {
    /// Opens a topic of the producer, which this thread has just made.
    #[new]
    fn new(producer: Py<PyAny>, topic: &str, headers: bool) -> PyResult<Self> {
        // SAFETY: `producer` keeps the client alive, and is dropped after it.
        let client = unsafe { Client::take_new() }.map_err(to_py)?;
        Ok(KafkaOutlet { outlet: Outlet::new(client, topic, headers).map_err(to_py)?, _producer: producer })
    }

    /// Hands over the messages from `start` on; returns up to which one, and why librdkafka refuses that, if it does.
    fn produce(&self, py: Python<'_>, outbox: &PyOutbox, start: usize) -> (usize, Option<i32>) {
        let produced = py.detach(|| self.outlet.produce(outbox.inner(), start));
        (produced.taken, produced.refused)
    }

    /// Why the first message failed since this was asked last: librdkafka's code.
    fn take_failure(&self) -> Option<i32> {
        self.outlet.take_failure()
    }
}

/// Messages by partition, and error codes by partition.
type Came = (Vec<(i32, PyInbox)>, Vec<(i32, i32)>);

/// Partitions of a consumer of confluent-kafka.
#[pyclass(frozen, module = "tickcast._core")]
struct KafkaInlet {
    // Above its owner: dropped before it.
    inlet: Mutex<Option<Inlet>>,
    _consumer: Py<PyAny>,
}

#[pymethods]
impl KafkaInlet {
    /// Makes a queue of the consumer, which this thread has just made.
    #[new]
    fn new(consumer: Py<PyAny>, most: usize) -> PyResult<Self> {
        // SAFETY: `consumer` keeps the client alive; it is closed after this.
        let client = unsafe { Client::take_new() }.map_err(to_py)?;
        Ok(KafkaInlet { inlet: Mutex::new(Some(Inlet::new(client, most))), _consumer: consumer })
    }

    /// Has the messages of a partition come here, from its next assignment on.
    fn divert(&self, topic: &str, partition: i32) -> PyResult<()> {
        lock(&self.inlet)?.as_ref().map_or(Ok(()), |inlet| inlet.divert(topic, partition).map_err(to_py))
    }

    /// Waits for messages, when one has come a moment longer for more; returns them by partition, and error codes.
    fn take(&self, py: Python<'_>, wait_s: f64, gather_s: f64) -> PyResult<Came> {
        let (wait, gather) = (Duration::from_secs_f64(wait_s), Duration::from_secs_f64(gather_s));
        let arrived = py.detach(|| {
            let mut inlet = lock(&self.inlet)?;
            Ok::<_, PyErr>(inlet.as_mut().map(|inlet| inlet.take(wait, gather)).unwrap_or_default())
        })?;
        let shown = arrived.inboxes.into_iter().map(|(partition, inbox)| (partition, PyInbox::from(inbox))).collect();
        Ok((shown, arrived.errors))
    }

    /// Ends the queue: before the consumer is closed.
    fn close(&self) -> PyResult<()> {
        lock(&self.inlet).map(|mut inlet| drop(inlet.take()))
    }
}
