//! The binding: converts, releases the GIL, calls the core, maps the error.

pub mod batch;
pub mod column;
pub mod error;
mod pump;
mod reader;
mod writer;

use pyo3::prelude::*;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<batch::Batch>()?;
    m.add_class::<column::Column>()?;
    pump::register(m)?;
    reader::register(m)?;
    writer::register(m)
}
