//! What goes out to clients: which trades one asked for, and the messages that carry them.
//!
//! Pure encoding: no sockets, no threads, no Python. The gateway's pump reads a run of the tape once, wraps it in a
//! [`Block`], and encodes one [`Frame`] for all clients that want the same trades from the same sequence on. The
//! trades themselves were encoded by the processor; here their JSON is only copied side by side.
//!
//! ## Ranges
//! Every frame says which sequences it covers, `seq ..= toSeq`, and the next one of the same client begins right after.
//! What a subscription leaves out is covered all the same: then `seqs` numbers the trades that came. So a client can
//! always tell "not for me" from "lost", and its place on the tape is one number.

pub mod binary;
mod board;
mod deflate;
mod frame;
mod message;
mod subscription;

pub use board::{Board, OnBoard, Since};
pub use deflate::{DEFLATE_MAGIC, deflate};
pub use frame::{AGE_BUCKETS_MS, Ages, Block, Frame, Pick};
pub use message::{Granted, Hello, bye, error, gap, heartbeat, snapshot, status, subscribed};
pub use subscription::{Dictionary, Filter, STRANGER, Subscription};
