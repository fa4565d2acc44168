//! Publishing from Python: payloads in, what became of them out.

use super::{Urls, patiently, state, to_duration, to_format, to_new_stream, to_py, to_servers};
use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyDict;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use tickcast_nats::{Outgoing, PublisherConfig};

/// Publishes to core NATS or JetStream.
#[pyclass(frozen, module = "tickcast._core")]
pub struct NatsPublisher(tickcast_nats::Publisher);

/// One or more payloads.
#[derive(FromPyObject)]
enum Payloads {
    One(PyBackedBytes),
    Many(Vec<PyBackedBytes>),
}

#[pymethods]
impl NatsPublisher {
    #[new]
    #[pyo3(signature = (servers, subject, *, jetstream=false, stream=None, create=false, max_bytes=None, max_age=None,
        format=None, window=5000, credentials=None, root_certificates=None, name=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn new(
        servers: Urls,
        subject: String,
        jetstream: bool,
        stream: Option<String>,
        create: bool,
        max_bytes: Option<u64>,
        max_age: Option<f64>,
        format: Option<&str>,
        window: usize,
        credentials: Option<PathBuf>,
        root_certificates: Option<PathBuf>,
        name: Option<String>,
    ) -> PyResult<Self> {
        let config = PublisherConfig {
            servers: to_servers(servers, credentials, root_certificates, name),
            subject,
            jetstream: jetstream || stream.is_some(),
            stream,
            create: to_new_stream(create, max_bytes, max_age)?,
            format: to_format(format)?,
            window,
        };
        tickcast_nats::Publisher::open(config).map(NatsPublisher).map_err(to_py)
    }

    #[pyo3(signature = (payloads, *, subject=None, message_ids=None, headers=None, timeout=None, subjects=None,
                        message_headers=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments, one per option")]
    fn publish(
        &self,
        py: Python<'_>,
        payloads: Payloads,
        subject: Option<&str>,
        message_ids: Option<Vec<String>>,
        headers: Option<HashMap<String, String>>,
        timeout: Option<f64>,
        subjects: Option<Vec<String>>,
        message_headers: Option<Vec<Vec<(String, String)>>>,
    ) -> PyResult<usize> {
        let payloads = match payloads {
            Payloads::One(payload) => vec![payload],
            Payloads::Many(payloads) => payloads,
        };
        let ids = message_ids.unwrap_or_default();
        if !ids.is_empty() && ids.len() != payloads.len() {
            let text = format!("{} message_ids for {} payloads", ids.len(), payloads.len());
            return Err(PyValueError::new_err(text));
        }
        for (name, given) in
            [("subjects", subjects.as_ref().map(Vec::len)), ("message_headers", message_headers.as_ref().map(Vec::len))]
        {
            if given.is_some_and(|given| given != payloads.len()) {
                let text = format!("{} {name} for {} payloads", given.unwrap_or(0), payloads.len());
                return Err(PyValueError::new_err(text));
            }
        }
        let mut subjects = subjects.map(Vec::into_iter);
        let mut own_headers = message_headers.map(Vec::into_iter);
        let (subject, headers): (Option<Arc<str>>, Arc<[_]>) =
            (subject.map(Arc::from), headers.unwrap_or_default().into_iter().collect());
        let mut ids = ids.into_iter();
        let mut messages: VecDeque<Outgoing> = payloads
            .into_iter()
            .map(|payload| Outgoing {
                payload: payload.to_vec(),
                subject: match &mut subjects {
                    Some(own) => own.next().map(Arc::from),
                    None => subject.clone(),
                },
                message_id: ids.next(),
                headers: match own_headers.as_mut().and_then(Iterator::next) {
                    Some(own) => own.into(),
                    None => Arc::clone(&headers),
                },
            })
            .collect();
        let count = messages.len();
        let mut failed = None;
        patiently(py, timeout, |slice| match self.0.publish(&mut messages, slice) {
            Ok(_) if !messages.is_empty() => None,
            Ok(_) => Some(()),
            Err(error) => {
                failed = Some(error);
                Some(())
            }
        })?;
        match failed {
            Some(error) => Err(to_py(error)),
            None => Ok(count - messages.len()),
        }
    }

    #[pyo3(signature = (timeout=10.0))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let mut failed = None;
        let flushed = patiently(py, timeout, |slice| match self.0.flush(slice) {
            Ok(false) => None,
            Ok(true) => Some(()),
            Err(error) => {
                failed = Some(error);
                Some(())
            }
        })?;
        match failed {
            Some(error) => Err(to_py(error)),
            None if flushed => Ok(()),
            None => {
                let (waiting, health) = (self.0.published().waiting, self.0.health());
                let text = format!("{}: {waiting} messages are not confirmed; {}", self.0.url(), health.detail);
                Err(PyTimeoutError::new_err(text))
            }
        }
    }

    fn published<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let published = self.0.published();
        let dict = PyDict::new(py);
        dict.set_item("confirmed", published.confirmed)?;
        dict.set_item("duplicates", published.duplicates)?;
        dict.set_item("failed", published.failed)?;
        dict.set_item("unconfirmed", published.unconfirmed)?;
        dict.set_item("waiting", published.waiting)?;
        dict.set_item("last_failure", published.last_failure)?;
        Ok(dict)
    }

    fn take_failures(&self) -> Vec<(u64, String, bool)> {
        self.0.take_failures().into_iter().map(|failure| (failure.number, failure.why, failure.for_good)).collect()
    }

    fn state(&self) -> (&'static str, i64, String) {
        state(self.0.health())
    }

    #[getter]
    fn url(&self) -> &str {
        self.0.url()
    }

    #[pyo3(signature = (timeout=2.0))]
    fn close(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let timeout = to_duration("timeout", timeout)?;
        py.detach(|| self.0.close(timeout));
        Ok(())
    }
}
