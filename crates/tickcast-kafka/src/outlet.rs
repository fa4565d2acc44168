//! Produces the messages of an outbox.

use crate::api::{self, ANY_PARTITION, Argument, COPY, Code, Kind, NO_ERROR, QUEUE_FULL};
use crate::client::Client;
use crate::{Error, Result};
use std::ffi::{CString, c_void};
use tickcast_core::outbox::{Header, Message, Outbox};

/// Messages that are handed over in one call.
const TOGETHER: usize = 512;

/// How far producing came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Messages that librdkafka has taken.
    pub taken: usize,
    /// Why it did not take the next one, if there is one; no code: its queue is full, which passes.
    pub refused: Option<Code>,
}

/// A topic of a producer.
pub struct Outlet {
    client: Client,
    topic: *mut c_void,
    headers: bool,
}

// SAFETY: as for the client; topics may be shared as well.
unsafe impl Send for Outlet {}
// SAFETY: as above.
unsafe impl Sync for Outlet {}

impl Outlet {
    /// Opens a topic of a producer, for messages with their headers or without any.
    ///
    /// # Errors
    /// [`Error::Topic`]: it is no name of one.
    pub fn new(client: Client, topic: &str, headers: bool) -> Result<Self> {
        let wrong = |why: &str| Error::Topic(topic.to_owned(), why.to_owned());
        let name = CString::new(topic).map_err(|_| wrong("a zero byte in its name"))?;
        // SAFETY: the client is alive; without a configuration the client's own counts.
        let opened = unsafe { (client.api.topic_new)(client.handle, name.as_ptr(), std::ptr::null_mut()) };
        if opened.is_null() {
            return Err(wrong("librdkafka refuses it"));
        }
        Ok(Outlet { client, topic: opened, headers })
    }

    /// Hands over the messages from `start` on, as far as there is room for them.
    ///
    /// Without headers some may have been taken behind the one that is refused: they come again with it.
    pub fn produce(&self, outbox: &Outbox, start: usize) -> Produced {
        let stopped = if self.headers { self.one_by_one(outbox, start) } else { self.together(outbox, start) };
        match stopped {
            None => Produced { taken: outbox.messages.len(), refused: None },
            Some((taken, QUEUE_FULL)) => Produced { taken, refused: None },
            Some((taken, code)) => Produced { taken, refused: Some(code) },
        }
    }

    /// Returns why the first message failed since this was asked last.
    pub fn take_failure(&self) -> Option<Code> {
        self.client.deliveries.take_failure()
    }

    /// Hands messages over with their headers; returns where that stopped, and why.
    fn one_by_one(&self, outbox: &Outbox, start: usize) -> Option<(usize, Code)> {
        outbox.messages.iter().enumerate().skip(start).find_map(|(at, message)| {
            let code = outbox.with_headers(message, |headers| self.hand_over(outbox, message, headers));
            (code != NO_ERROR).then_some((at, code))
        })
    }

    /// Hands messages over without headers, which librdkafka takes many at a time: a fifth less CPU time of this thread.
    fn together(&self, outbox: &Outbox, start: usize) -> Option<(usize, Code)> {
        let mut room = Vec::with_capacity(TOGETHER);
        for (number, messages) in outbox.messages[start.min(outbox.messages.len())..].chunks(TOGETHER).enumerate() {
            room.clear();
            room.extend(messages.iter().map(|message| api::Message::to_produce(outbox.payload(message), &message.key)));
            // SAFETY: payloads and keys outlive the call, which copies them; there are as many messages as it is told.
            let taken = unsafe {
                let count = room.len() as std::ffi::c_int;
                (self.client.api.produce_batch)(self.topic, ANY_PARTITION, COPY, room.as_mut_ptr(), count)
            };
            if taken != room.len() as std::ffi::c_int {
                let refused = room.iter().enumerate().find(|(_, message)| message.code != NO_ERROR);
                return refused.map(|(at, message)| (start + number * TOGETHER + at, message.code));
            }
        }
        None
    }

    fn hand_over(&self, outbox: &Outbox, message: &Message, headers: &[Header<'_>]) -> Code {
        let api = self.client.api;
        let mut arguments = [Argument::flags(COPY); 4 + Outbox::HEADERS];
        arguments[0] = Argument::topic(self.topic);
        arguments[1] = Argument::bytes(Kind::Value, outbox.payload(message));
        arguments[2] = Argument::bytes(Kind::Key, message.key.as_bytes());
        for (argument, &(name, value)) in arguments[4..].iter_mut().zip(headers) {
            *argument = Argument::header(name, value);
        }
        // SAFETY: all that the arguments point to outlives the call, which copies it.
        let error = unsafe { (api.produce)(self.client.handle, arguments.as_ptr(), 4 + headers.len()) };
        if error.is_null() {
            return NO_ERROR;
        }
        // SAFETY: it is an error of librdkafka's, and ours to destroy.
        unsafe {
            let code = (api.error_code)(error);
            (api.error_destroy)(error);
            code
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        // SAFETY: opened by `new`, and the client is still alive.
        unsafe { (self.client.api.topic_destroy)(self.topic) }
    }
}
