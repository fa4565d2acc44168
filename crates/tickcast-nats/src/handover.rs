//! Batches from the network thread to whoever pulls them: bounded, and with a file descriptor that shows them.
//!
//! The descriptor is readable while there is something to pull or a change of state to look at, and not otherwise.
//! It is a pipe that holds at most one byte, written and read under the lock, so neither ever blocks.

use crate::Batch;
use crate::status::lock;
use std::collections::VecDeque;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

pub(crate) struct Handover {
    inner: Mutex<Inner>,
    /// Something came, for those who wait in [`Handover::wait`].
    came: Condvar,
    /// Something was taken, for the network thread.
    room: Notify,
    max_rows: usize,
}

struct Inner {
    batches: VecDeque<Batch>,
    rows: usize,
    /// The state changed and nobody has looked yet.
    attention: bool,
    /// The pipe holds its byte.
    raised: bool,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Handover {
    /// Returns a handover that holds about `max_rows` rows, and at least one batch.
    pub(crate) fn new(max_rows: usize) -> std::io::Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        let inner = Inner { batches: VecDeque::new(), rows: 0, attention: false, raised: false, reader, writer };
        Ok(Handover { inner: Mutex::new(inner), came: Condvar::new(), room: Notify::new(), max_rows })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        lock(&self.inner).reader.as_raw_fd()
    }

    /// Hands a batch over as soon as there is room. One task pushes.
    pub(crate) async fn push(&self, batch: Batch) {
        let mut batch = Some(batch);
        loop {
            {
                let mut inner = lock(&self.inner);
                let rows = batch.as_ref().map_or(0, Batch::rows);
                if inner.batches.is_empty() || inner.rows + rows <= self.max_rows {
                    inner.rows += rows;
                    inner.batches.extend(batch.take());
                    inner.show();
                    self.came.notify_all();
                    return;
                }
            }
            self.room.notified().await;
        }
    }

    /// Makes the descriptor readable once, so that the owner looks at the state.
    pub(crate) fn call(&self) {
        let mut inner = lock(&self.inner);
        inner.attention = true;
        inner.show();
        self.came.notify_all();
    }

    /// Takes everything there is up to about `max_rows`, and at least one batch if there is one.
    pub(crate) fn take(&self, max_rows: usize) -> Option<Batch> {
        let mut parts = Vec::new();
        {
            let mut inner = lock(&self.inner);
            inner.attention = false;
            let mut rows = 0;
            while let Some(next) = inner.batches.front() {
                let fits = parts.last().is_none_or(|last: &Batch| last.takes(next) && rows + next.rows() <= max_rows);
                if !fits {
                    break;
                }
                rows += next.rows();
                parts.extend(inner.batches.pop_front());
            }
            inner.rows -= rows;
            inner.show();
        }
        self.room.notify_one();
        // Put together outside of the lock: the network thread goes on meanwhile.
        parts.into_iter().reduce(|mut all, next| {
            all.append(next);
            all
        })
    }

    /// Waits until there is something to take or look at; false if not within `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut inner = lock(&self.inner);
        while inner.batches.is_empty() && !inner.attention {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            inner = self.came.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Inner {
    /// Makes the descriptor say what is the case.
    fn show(&mut self) {
        let wanted = self.attention || !self.batches.is_empty();
        // The pipe is ours and empty (full) when it is written (read): neither can fail, and a failure would only
        // cost a wake-up.
        if wanted && !self.raised {
            self.raised = self.writer.write(&[1]).is_ok();
        } else if !wanted && self.raised {
            self.raised = self.reader.read(&mut [0]).is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickcast_core::{Decoded, TickBatch};

    fn batch(offset: u64, rows: usize) -> Batch {
        let mut ticks = TickBatch::default();
        let mut origin = tickcast_core::position::Origin::new(7, 0);
        for row in 0..rows {
            ticks.push("AAA", 1.0, 1, 1, row as u32, 0);
            origin.push(offset + row as u64, 0, 0);
        }
        Batch { decoded: Decoded { ticks, undecodable: Vec::new() }, origin, ..Batch::default() }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
    }

    #[test]
    fn what_waits_is_taken_together_up_to_the_limit() {
        let handover = Handover::new(100).expect("a pipe");
        runtime().block_on(async {
            for offset in [0, 30, 60] {
                handover.push(batch(offset, 30)).await;
            }
        });
        assert_eq!(handover.take(70).expect("two").origin.offset.len(), 60);
        assert_eq!(handover.take(10).expect("the last, never cut").origin.offset, (60..90).collect::<Vec<_>>());
        assert!(handover.take(10).is_none());
    }

    #[test]
    fn the_descriptor_is_raised_exactly_while_there_is_something() {
        let handover = Handover::new(100).expect("a pipe");
        let raised = || lock(&handover.inner).raised;
        assert!(!raised() && !handover.wait(Duration::ZERO));
        runtime().block_on(handover.push(batch(0, 1)));
        runtime().block_on(handover.push(batch(1, 1)));
        assert!(raised() && handover.wait(Duration::ZERO));
        handover.take(1);
        assert!(raised());
        handover.take(1);
        assert!(!raised());
        handover.call();
        assert!(raised() && handover.take(1).is_none() && !raised());
    }

    #[test]
    fn a_full_handover_makes_the_pusher_wait_until_something_is_taken() {
        let handover = Handover::new(10).expect("a pipe");
        runtime().block_on(async {
            handover.push(batch(0, 10)).await;
            let second = handover.push(batch(10, 1));
            tokio::pin!(second);
            assert!(tokio::time::timeout(Duration::from_millis(20), &mut second).await.is_err());
            assert_eq!(handover.take(100).map(|b| b.rows()), Some(10));
            second.await;
        });
        assert_eq!(handover.take(100).map(|b| b.rows()), Some(1));
    }
}
