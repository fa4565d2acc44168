//! Consumes messages of partitions, past the queue in which their consumer finds what concerns the group.

use crate::api::{Api, Message, NO_ERROR};
use crate::client::Client;
use crate::{Code, Error, Result};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::time::Duration;
use tickcast_core::inbox::Inbox;

/// What came.
#[derive(Debug, Default)]
pub struct Arrived {
    /// Messages by partition.
    pub inboxes: Vec<(i32, Inbox)>,
    /// What went wrong instead: partition and librdkafka's code.
    pub errors: Vec<(i32, Code)>,
}

/// A queue of a consumer's partitions.
pub struct Inlet {
    client: Client,
    queue: *mut c_void,
    room: Vec<*mut Message>,
}

// SAFETY: as for the client; whoever takes messages has the inlet to itself.
unsafe impl Send for Inlet {}

impl Inlet {
    /// Makes a queue of a consumer, with room for so many messages at a time.
    pub fn new(client: Client, most: usize) -> Self {
        // SAFETY: the client is alive.
        let queue = unsafe { (client.api.queue_new)(client.handle) };
        Inlet { client, queue, room: vec![std::ptr::null_mut(); most.max(1)] }
    }

    /// Has the messages of a partition come here, from its next assignment on.
    ///
    /// # Errors
    /// [`Error::Topic`]: it is no name of one.
    pub fn divert(&self, topic: &str, partition: i32) -> Result<()> {
        let api = self.client.api;
        let name = CString::new(topic).map_err(|_| Error::Topic(topic.to_owned(), "a zero byte in it".to_owned()))?;
        // SAFETY: client and queue are alive; the reference to the partition's queue is given back.
        unsafe {
            let source = (api.queue_get_partition)(self.client.handle, name.as_ptr(), partition);
            if source.is_null() {
                return Err(Error::Topic(topic.to_owned(), format!("no partition {partition}")));
            }
            (api.queue_forward)(source, self.queue);
            (api.queue_destroy)(source);
        }
        Ok(())
    }

    /// Waits for messages; when one has come, `gather` longer for more.
    pub fn take(&mut self, wait: Duration, gather: Duration) -> Arrived {
        let most = self.room.len();
        let mut count = self.receive(0..1, wait);
        if count == 1 && most > 1 {
            count += self.receive(1..most, gather);
        }
        let mut arrived = Arrived::default();
        for &message in &self.room[..count] {
            // SAFETY: librdkafka has given the message to us, and nothing else refers to it.
            unsafe {
                arrived.put(self.client.api, &*message);
                (self.client.api.message_destroy)(message);
            }
        }
        arrived
    }

    fn receive(&mut self, room: std::ops::Range<usize>, wait: Duration) -> usize {
        let millis = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        let room = &mut self.room[room];
        // SAFETY: the queue is alive, and there is room for as many pointers as are asked for.
        let count = unsafe { (self.client.api.consume_batch)(self.queue, millis, room.as_mut_ptr(), room.len()) };
        usize::try_from(count).unwrap_or(0)
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and the client is still alive.
        unsafe { (self.client.api.queue_destroy)(self.queue) }
    }
}

impl Arrived {
    /// Copies a message.
    ///
    /// # Safety
    /// It is one of librdkafka's, and alive.
    unsafe fn put(&mut self, api: &Api, message: &Message) {
        if message.code != NO_ERROR {
            self.errors.push((message.partition, message.code));
            return;
        }
        let known = self.inboxes.iter().position(|(partition, _)| *partition == message.partition);
        let at = known.unwrap_or_else(|| {
            self.inboxes.push((message.partition, Inbox::default()));
            self.inboxes.len() - 1
        });
        let inbox = &mut self.inboxes[at].1;
        let mut kind: c_int = 0;
        // SAFETY: the message lends payload, key and headers as long as it lives.
        unsafe {
            let broker_ms = (api.message_timestamp)(message, &mut kind);
            let (payload, key) = (bytes(message.payload, message.len), bytes(message.key, message.key_len));
            inbox.push(u64::try_from(message.offset).unwrap_or(0), broker_ms, payload, key);
            let mut headers = std::ptr::null_mut();
            if (api.message_headers)(message, &mut headers) == NO_ERROR {
                let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) =
                    (std::ptr::null(), std::ptr::null(), 0);
                let mut number = 0;
                while (api.header_get_all)(headers, number, &mut name, &mut value, &mut size) == NO_ERROR {
                    inbox.push_header(CStr::from_ptr(name).to_bytes(), bytes(value, size));
                    number += 1;
                }
            }
        }
    }
}

/// Bytes that librdkafka lends; none where it has none.
///
/// # Safety
/// `start` is null or points to `size` bytes that live long enough.
unsafe fn bytes<'a>(start: *const c_void, size: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller says.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), size) })
}
