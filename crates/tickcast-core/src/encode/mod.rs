//! Trades and ticks to bytes: the plain JSON form and protobuf.

pub mod csv;
pub mod json;
pub mod proto;
