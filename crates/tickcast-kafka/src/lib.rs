//! Messages through the librdkafka that confluent-kafka has loaded, past Python's objects for each of them.
//!
//! confluent-kafka remains in charge: it makes the clients, sets them up, runs their callbacks, groups, transactions.
//! Only what happens once for every message is done here, on the same client. Its handle comes the way that librdkafka
//! has for it: as a plugin ([`plugin`]), which is shown every client as it is made.
//!
//! `benchmarks/results/queue_path.md` has what that spares. Miri runs no foreign code: what is `unsafe` here is run by the
//! tests on a real broker (`tests/integration/test_kafka*.py`, `test_gateway_topic.py`).

mod api;
mod client;
mod inlet;
mod outlet;
pub mod plugin;

pub use api::{Code, load};
pub use client::Client;
pub use inlet::{Arrived, Inlet};
pub use outlet::{Outlet, Produced};

/// What can go wrong before there is a client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library is not what it is taken for.
    #[error("no librdkafka in {path}: {why}; install confluent-kafka from its wheel (tickcast[kafka])")]
    Library {
        /// File that was looked into.
        path: String,
        /// What the loader says.
        why: String,
    },
    /// There is no handle of the client that was made last.
    #[error("librdkafka has not shown the client that was made last: was it made on this thread, with the plugin?")]
    NotShown,
    /// The topic can't be opened.
    #[error("topic {0:?} can't be opened: {1}")]
    Topic(String, String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
