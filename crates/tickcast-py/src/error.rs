//! The core's errors as Python's: one place maps them to the tree of `tickcast.errors`.

use pyo3::exceptions::{PyFileNotFoundError, PyOSError};
use pyo3::prelude::*;
use tickcast_core::Error;

pyo3::import_exception!(tickcast.errors, ConfigError);
pyo3::import_exception!(tickcast.errors, SourceError);
pyo3::import_exception!(tickcast.errors, TapeBusyError);
pyo3::import_exception!(tickcast.errors, TapeError);

/// Returns the Python exception for an error of the core.
pub fn to_py(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => PyFileNotFoundError::new_err(text),
        Error::Io { .. } => PyOSError::new_err(text),
        Error::Config { .. } | Error::Size { .. } => ConfigError::new_err(text),
        Error::Busy { .. } => TapeBusyError::new_err(text),
        Error::Tape { .. } => TapeError::new_err(text),
        _ => SourceError::new_err(text),
    }
}
