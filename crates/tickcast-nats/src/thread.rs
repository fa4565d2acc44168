//! The thread of a source or publisher: connect, work, and after trouble again, until it is closed.

use crate::handover::Handover;
use crate::link::pause;
use crate::status::{State, Status, lock, now_ns};
use crate::{Error, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// A connection that was live this long starts the pauses from the shortest again.
const STEADY_NS: i64 = 2_000_000_000;
/// Longest wait for what is still to be written when it is closed.
const CLOSING: Duration = Duration::from_secs(2);

/// How a session ended by itself.
pub(crate) enum End {
    /// Trouble; the next session may do better.
    Lost(String),
    /// Trying again would not help.
    Refused(Error),
}

/// What is done on a connection.
pub(crate) trait Session: Send + 'static {
    /// Connects and works until something ends it.
    fn run(&mut self) -> impl Future<Output = End>;

    /// Finishes what must not be left undone; called on the same connection, also where there is none.
    fn close(&mut self) -> impl Future<Output = ()>;
}

/// The owner's end of the thread.
pub(crate) struct Thread {
    stop: watch::Sender<bool>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Thread {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Error::System`] if there is none to be had.
    pub(crate) fn start<S: Session>(url: &str, session: S, told: Told) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let handle = std::thread::Builder::new()
            .name("tickcast-nats".into())
            .spawn(move || sessions(session, &told, stopped))
            .map_err(|error| Error::System { url: url.to_owned(), what: error.to_string() })?;
        Ok(Thread { stop, handle: Mutex::new(Some(handle)) })
    }

    /// Ends the thread and waits for it. Does nothing the second time.
    pub(crate) fn close(&self) {
        let _ = self.stop.send(true);
        if let Some(handle) = lock(&self.handle).take() {
            let _ = handle.join();
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.close();
    }
}

/// Who learns of a state.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) status: Arc<Status>,
    pub(crate) handover: Option<Arc<Handover>>,
    /// Called after each change, for those who wait on something else than a handover.
    pub(crate) also: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Told {
    pub(crate) fn enter(&self, state: State, detail: impl Into<String>) {
        self.status.enter(state, detail.into());
        self.tell();
    }

    fn fail(&self, error: Error) {
        self.status.fail(error);
        self.tell();
    }

    fn tell(&self) {
        if let Some(handover) = &self.handover {
            handover.call();
        }
        if let Some(also) = &self.also {
            also();
        }
    }
}

/// Runs one session after the other. Each has a runtime of its own: whatever the library left running ends with it.
fn sessions<S: Session>(mut session: S, told: &Told, mut stopped: watch::Receiver<bool>) {
    let mut attempt = 0;
    loop {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                return told.fail(Error::System { url: "NATS".into(), what: error.to_string() });
            }
        };
        let work = async {
            let end = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => None,
                end = session.run() => Some(end),
            };
            match end {
                None => {
                    let _ = tokio::time::timeout(CLOSING, session.close()).await;
                    told.enter(State::Closed, "closed");
                    false
                }
                Some(End::Refused(error)) => {
                    told.fail(error);
                    false
                }
                Some(End::Lost(why)) => {
                    let health = told.status.health();
                    let steady = health.state == State::Live && now_ns() - health.since_ns >= STEADY_NS;
                    attempt = if steady { 0 } else { attempt + 1 };
                    told.enter(State::Reconnecting, why);
                    true
                }
            }
        };
        // A thread that ends without a word would be waited for, for ever.
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        let go_on = outcome.unwrap_or_else(|panic| {
            told.fail(Error::System { url: "NATS".into(), what: format!("the thread has failed: {}", said(&*panic)) });
            false
        });
        // Not waiting for a name look-up that hangs.
        runtime.shutdown_background();
        if !go_on {
            return;
        }
        if nap(pause(attempt), &mut stopped) {
            return told.enter(State::Closed, "closed");
        }
    }
}

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

/// Sleeps; true if it is to stop.
fn nap(duration: Duration, stopped: &mut watch::Receiver<bool>) -> bool {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        std::thread::sleep(duration);
        return *stopped.borrow();
    };
    runtime.block_on(async { tokio::time::timeout(duration, stopped.wait_for(|stop| *stop)).await.is_ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing;

    impl Session for Failing {
        async fn run(&mut self) -> End {
            panic!("a bug")
        }

        async fn close(&mut self) {}
    }

    #[test]
    fn a_panic_is_an_error_that_is_told() {
        let told = Told { status: Arc::new(Status::new(String::new())), handover: None, also: None };
        let thread = Thread::start("nats://here", Failing, told.clone()).expect("a thread");
        lock(&thread.handle).take().expect("not joined yet").join().expect("it ended in order");
        let error = told.status.error().expect("it was told").to_string();
        assert!(error.contains("the thread has failed: a bug"), "{error}");
    }
}
