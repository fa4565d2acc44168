//! Sources and publishers against a real nats-server, found through `TICKCAST_NATS_SERVER` or `PATH`; without one
//! every test says that it was skipped.

mod common;
mod jetstream;
mod nats;
