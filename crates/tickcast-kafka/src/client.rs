//! A client of librdkafka that somebody else has made, and owns.

use crate::api::{Api, Code, Handle, NO_ERROR};
use crate::{Error, Result, api, plugin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// What became of messages that were produced.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// Code of the first that failed.
    failed: AtomicI32,
    /// The client is no more.
    over: AtomicBool,
}

impl Deliveries {
    /// Notes that a message could not be delivered.
    pub(crate) fn fail(&self, code: Code) {
        let _ = self.failed.compare_exchange(NO_ERROR, code, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Notes that the client is being destroyed.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Returns why the first message failed since this was asked last.
    pub fn take_failure(&self) -> Option<Code> {
        Some(self.failed.swap(NO_ERROR, Ordering::AcqRel)).filter(|&code| code != NO_ERROR)
    }
}

/// A client of librdkafka. Whoever has it keeps its owner alive as long.
pub struct Client {
    pub(crate) api: &'static Api,
    pub(crate) handle: Handle,
    pub(crate) deliveries: Arc<Deliveries>,
}

// SAFETY: librdkafka's clients may be used from any thread, from several at once.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// Returns the client that this thread has made last, with the plugin.
    ///
    /// # Errors
    /// [`Error::NotShown`]: there is none, or somebody has taken it.
    ///
    /// # Safety
    /// It is not destroyed while this, or what was made of it, is alive.
    pub unsafe fn take_new() -> Result<Self> {
        let new = plugin::take().filter(|(_, deliveries)| !deliveries.over.load(Ordering::Acquire));
        let (handle, deliveries) = new.ok_or(Error::NotShown)?;
        let api = api::get().ok_or(Error::NotShown)?;
        Ok(Client { api, handle, deliveries })
    }
}
