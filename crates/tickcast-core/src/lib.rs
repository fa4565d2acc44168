//! The hot path of tickcast, without Python and without sockets.
//!
//! Ticks come in as payloads ([`decode`]), become columns ([`TickBatch`]), pass the [`screen`], get their
//! 20-minute VWAP from the [`window`], become trades ([`trade`]), are encoded once ([`encode`]) and live on the
//! [`tape`], where any number of cursors read them.

pub mod checkpoint;
pub mod decode;
pub mod earlier;
pub mod encode;
pub mod error;
pub mod explore;
pub mod fanout;
mod horizon;
pub mod inbox;
pub mod judge;
pub mod outbox;
pub mod position;
pub mod repeats;
pub mod screen;
pub mod sim;
pub mod tape;
pub mod tick;
pub mod trade;
pub mod window;

pub use error::{Error, Result};
pub use horizon::Horizon;
pub use position::{Origin, Position, TradeId};
pub use tick::{Broken, Decoded, Names, TickBatch, Undecodable};
pub use trade::{Status, Trade};
