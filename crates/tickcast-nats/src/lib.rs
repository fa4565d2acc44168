//! NATS and JetStream for tickcast: decoded batches out, positions in. No Python here.
//!
//! A source or publisher is one thread with one tokio current-thread runtime. Whoever uses it never waits for the
//! network: [`NatsSource::poll`] and [`JetStreamSource::poll`] take what is there, [`Publisher::publish`] waits only
//! for room in its window.
//!
//! # Connections
//! One connection lives as long as its runtime, and both end together: nothing that was queued for a dead connection
//! can come out of a later one. Trouble of any kind (server gone, consumer gone, heartbeat missing, a message missing)
//! ends the connection; the next follows after a short, growing, jittered pause, for ever. What would be wrong at
//! every attempt (a missing stream, refused credentials) ends the source instead, with an [`Error::Refused`] that says
//! what to do; but once it was live, it only ever tries again.
//!
//! # What can get lost
//! - **JetStream**: nothing that the stream still holds. Repeats are dropped. Messages that the stream's limits
//!   removed before they were read are counted in [`Meters::lost`] where every message of the stream is ours, else in
//!   [`Meters::lost_at_most`] (some of them may have been other subjects').
//! - **core NATS**: messages beyond the subscription's capacity are counted in [`Meters::lost`]; what is published
//!   while there is no connection can't be counted, [`Meters::disconnects`] says how often there was none.
//!
//! # Identity
//! The stream id of [`Origin`](tickcast_core::position::Origin) is, for JetStream, the first 8 hex digits of SHA-256
//! of `jetstream:<stream>:<created>`, where `created` is the RFC 3339 text of the server's `STREAM.INFO` as it stands
//! there (UTC, fraction of a second without trailing zeros). For core NATS it is random for each source, and the
//! offset counts messages from 1.

mod batch;
mod echo;
mod error;
mod handover;
mod jetstream;
mod link;
mod nats;
mod publisher;
mod status;
mod subject;
mod thread;

pub use batch::{Batch, Letter};
pub use error::{Error, Result};
pub use jetstream::{AtHand, JetStreamConfig, JetStreamSource, NewStream, Start, Started, StartedFrom};
pub use link::Servers;
pub use nats::{NatsConfig, NatsSource};
pub use publisher::{Failure, Outgoing, Published, Publisher, PublisherConfig};
pub use status::{Health, Meters, State};
pub use subject::subject_covers;
