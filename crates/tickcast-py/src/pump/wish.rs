//! What a client asks for.

use tickcast_core::fanout::{Granted, Subscription};

/// Shortest pause between the frames of a client that asked for fewer, µs.
const SHORTEST_PERIOD_US: f64 = 1e3;
/// Longest one.
const LONGEST_PERIOD_US: f64 = 1e7;

/// Which form a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One JSON object per trade, and nothing else.
    Plain,
    /// `tickcast.v1`, its frames in this form.
    V1(Form),
}

/// How `trades` and `snapshot` are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// `tickcast.v1.json`.
    Json,
    /// `tickcast.v1.bin`.
    Binary,
}

/// Which trades come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every one, in order.
    Tape,
    /// The newest of each instrument.
    Latest,
}

/// What a client wants, normalised: those with equal wishes get the same frames.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wish {
    /// Which trades.
    pub subscription: Subscription,
    /// In which form.
    pub form: Form,
    /// All of them, or the newest.
    pub mode: Mode,
    /// Shortest time between two frames, µs; 0: as they come.
    pub period_us: u32,
    /// Times per stage come along.
    pub stages: bool,
    /// Frames are compressed.
    pub deflate: bool,
    /// Bytes that may be under way without an ack.
    pub ack_bytes: Option<u32>,
}

impl Wish {
    /// Everything, as it comes.
    pub fn everything(form: Form) -> Self {
        Wish {
            subscription: Subscription::everything(),
            form,
            mode: Mode::Tape,
            period_us: 0,
            stages: false,
            deflate: false,
            ack_bytes: None,
        }
    }

    /// Returns the period of so many frames a second, as far as it is granted.
    pub fn period_us(hz: f64) -> u32 {
        (1e6 / hz).clamp(SHORTEST_PERIOD_US, LONGEST_PERIOD_US) as u32
    }

    /// Says what is granted, but for where the stream begins.
    pub fn granted(&self, from_seq: u64, snapshot: bool) -> Granted<'_> {
        Granted {
            mode: match self.mode {
                Mode::Tape => "tape",
                Mode::Latest => "latest",
            },
            max_rate_hz: (self.period_us > 0).then(|| 1e6 / f64::from(self.period_us)),
            ack_bytes: self.ack_bytes,
            stages: self.stages,
            compress: self.deflate.then_some("deflate-raw"),
            ..Granted::new(&self.subscription, from_seq, snapshot)
        }
    }
}

/// A `subscribe` as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// The request's own id, as JSON.
    pub id: Option<String>,
    /// What is wanted.
    pub wish: Wish,
    /// First sequence wanted; `None`: from now on.
    pub from_seq: Option<u64>,
    /// Epoch that `from_seq` belongs to; `None`: the present one.
    pub epoch: Option<String>,
    /// Whether newest values come first where the stream does not resume.
    pub snapshot: bool,
}
