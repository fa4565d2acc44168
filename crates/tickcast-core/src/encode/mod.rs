//! Trades to bytes: the plain JSON form and protobuf.

pub mod json;
