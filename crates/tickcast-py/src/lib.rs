//! The binding: converts, releases the GIL, calls the core, maps the error.

pub mod batch;
mod checkpoint;
pub mod column;
mod columns;
mod decoder;
mod earlier;
pub mod error;
mod feed;
mod frames;
pub mod judge;
mod kafka;
mod messages;
mod nats;
mod pump;
mod reader;
pub mod replay;
pub mod sim;
pub mod tape;
pub mod topic;
mod writer;

use pyo3::prelude::*;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<batch::Batch>()?;
    m.add_class::<column::Column>()?;
    m.add_class::<messages::Decoder>()?;
    m.add_class::<messages::PyInbox>()?;
    m.add_class::<messages::PyOutbox>()?;
    m.add_class::<earlier::PyEarlierVerdicts>()?;
    m.add_class::<judge::PyJudge>()?;
    m.add_class::<judge::PyJudged>()?;
    m.add_class::<judge::PyPending>()?;
    m.add_class::<replay::Replay>()?;
    m.add_class::<sim::Sim>()?;
    m.add_class::<tape::PyHold>()?;
    m.add_class::<tape::PyTapeWriter>()?;
    checkpoint::register(m)?;
    decoder::register(m)?;
    feed::register(m)?;
    frames::register(m)?;
    kafka::register(m)?;
    nats::register(m)?;
    pump::register(m)?;
    reader::register(m)?;
    topic::register(m)?;
    writer::register(m)
}
