//! The part of librdkafka's interface that is used, looked up in the library that is loaded.
//!
//! Source: `rdkafka.h` of librdkafka 2.x, whose ABI is stable within a major version.

use crate::{Error, Result};
use libloading::Library;
use std::ffi::{c_char, c_int, c_void};
use std::path::Path;
use std::sync::OnceLock;

/// `rd_kafka_t`.
pub type Handle = *mut c_void;
/// `rd_kafka_resp_err_t`.
pub type Code = c_int;

/// `RD_KAFKA_RESP_ERR_NO_ERROR`.
pub const NO_ERROR: Code = 0;
/// `RD_KAFKA_RESP_ERR__FAIL`.
pub const FAIL: Code = -196;
/// `RD_KAFKA_RESP_ERR__QUEUE_FULL`.
pub const QUEUE_FULL: Code = -184;
/// `RD_KAFKA_MSG_F_COPY`: the payload is copied, and remains its owner's.
pub const COPY: c_int = 0x2;

/// `RD_KAFKA_PARTITION_UA`: the partitioner decides.
pub const ANY_PARTITION: i32 = -1;

/// `rd_kafka_message_t`.
#[repr(C)]
pub struct Message {
    pub code: Code,
    pub topic: *mut c_void,
    pub partition: i32,
    pub payload: *mut c_void,
    pub len: usize,
    pub key: *mut c_void,
    pub key_len: usize,
    pub offset: i64,
    pub private: *mut c_void,
}

impl Message {
    /// Returns a message to be produced; it points to payload and key.
    pub fn to_produce(payload: &[u8], key: &str) -> Self {
        Message {
            code: NO_ERROR,
            topic: std::ptr::null_mut(),
            partition: ANY_PARTITION,
            payload: payload.as_ptr().cast_mut().cast(),
            len: payload.len(),
            key: key.as_ptr().cast_mut().cast(),
            key_len: key.len(),
            offset: 0,
            private: std::ptr::null_mut(),
        }
    }
}

/// `rd_kafka_vtype_t`, as far as needed.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum Kind {
    Topic = 2,
    Value = 4,
    Key = 5,
    Flags = 7,
    Header = 9,
}

/// `rd_kafka_vu_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Argument {
    kind: Kind,
    value: Value,
}

#[repr(C)]
#[derive(Clone, Copy)]
union Value {
    pointer: *mut c_void,
    number: c_int,
    bytes: Bytes,
    header: Header,
    /// The union's size is fixed by it.
    pad: [u8; 64],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Bytes {
    start: *const c_void,
    size: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    name: *const c_char,
    value: *const c_void,
    size: isize,
}

impl Argument {
    /// A topic's handle.
    pub fn topic(topic: *mut c_void) -> Self {
        Argument { kind: Kind::Topic, value: Value { pointer: topic } }
    }

    /// Flags of the message.
    pub fn flags(flags: c_int) -> Self {
        Argument { kind: Kind::Flags, value: Value { number: flags } }
    }

    /// Payload or key.
    pub fn bytes(kind: Kind, bytes: &[u8]) -> Self {
        Argument { kind, value: Value { bytes: Bytes { start: bytes.as_ptr().cast(), size: bytes.len() } } }
    }

    /// A header; librdkafka copies both.
    pub fn header(name: &'static std::ffi::CStr, value: &[u8]) -> Self {
        let size = isize::try_from(value.len()).unwrap_or(0);
        Argument {
            kind: Kind::Header,
            value: Value { header: Header { name: name.as_ptr(), value: value.as_ptr().cast(), size } },
        }
    }
}

type OnNew = unsafe extern "C" fn(Handle, *const c_void, *mut c_void, *mut c_char, usize) -> Code;
type OnDestroy = unsafe extern "C" fn(Handle, *mut c_void) -> Code;
type OnAcknowledgement = unsafe extern "C" fn(Handle, *mut Message, *mut c_void) -> Code;

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident: fn($($kind:ty),*) $(-> $result:ty)? = $symbol:literal;)*) => {
        /// The functions that are used.
        pub struct Api {
            $($(#[$doc])* pub $name: unsafe extern "C" fn($($kind),*) $(-> $result)?,)*
            _library: Library,
        }

        impl Api {
            fn of(library: Library) -> std::result::Result<Self, libloading::Error> {
                // SAFETY: names and signatures are those of rdkafka.h 2.x; the functions live as long as the library,
                // which is kept beside them.
                unsafe {
                    Ok(Api { $($name: *library.get($symbol)?,)* _library: library })
                }
            }
        }
    };
}

functions! {
    conf_add_on_new: fn(*mut c_void, *const c_char, OnNew, *mut c_void) -> Code
        = b"rd_kafka_conf_interceptor_add_on_new\0";
    add_on_destroy: fn(Handle, *const c_char, OnDestroy, *mut c_void) -> Code
        = b"rd_kafka_interceptor_add_on_destroy\0";
    add_on_acknowledgement: fn(Handle, *const c_char, OnAcknowledgement, *mut c_void) -> Code
        = b"rd_kafka_interceptor_add_on_acknowledgement\0";
    topic_new: fn(Handle, *const c_char, *mut c_void) -> *mut c_void = b"rd_kafka_topic_new\0";
    topic_destroy: fn(*mut c_void) = b"rd_kafka_topic_destroy\0";
    produce: fn(Handle, *const Argument, usize) -> *mut c_void = b"rd_kafka_produceva\0";
    produce_batch: fn(*mut c_void, i32, c_int, *mut Message, c_int) -> c_int = b"rd_kafka_produce_batch\0";
    queue_new: fn(Handle) -> *mut c_void = b"rd_kafka_queue_new\0";
    queue_destroy: fn(*mut c_void) = b"rd_kafka_queue_destroy\0";
    queue_get_partition: fn(Handle, *const c_char, i32) -> *mut c_void = b"rd_kafka_queue_get_partition\0";
    queue_forward: fn(*mut c_void, *mut c_void) = b"rd_kafka_queue_forward\0";
    consume_batch: fn(*mut c_void, c_int, *mut *mut Message, usize) -> isize = b"rd_kafka_consume_batch_queue\0";
    message_destroy: fn(*mut Message) = b"rd_kafka_message_destroy\0";
    message_timestamp: fn(*const Message, *mut c_int) -> i64 = b"rd_kafka_message_timestamp\0";
    message_headers: fn(*const Message, *mut *mut c_void) -> Code = b"rd_kafka_message_headers\0";
    header_get_all: fn(*const c_void, usize, *mut *const c_char, *mut *const c_void, *mut usize) -> Code
        = b"rd_kafka_header_get_all\0";
    error_code: fn(*const c_void) -> Code = b"rd_kafka_error_code\0";
    error_destroy: fn(*mut c_void) = b"rd_kafka_error_destroy\0";
}

static API: OnceLock<Api> = OnceLock::new();

/// Looks the functions up in the library that is loaded: that of `extension`, confluent-kafka's own, or one that it
/// depends on. Does nothing when that has been done.
///
/// # Errors
/// [`Error::Library`]: it is none of librdkafka's.
pub fn load(extension: &Path) -> Result<()> {
    if API.get().is_none() {
        let wrong = |e: libloading::Error| Error::Library { path: extension.display().to_string(), why: e.to_string() };
        // SAFETY: the library has been loaded and initialised by Python's import of it: it is only referred to again.
        let library = unsafe { Library::new(extension) }.map_err(wrong)?;
        let _ = API.set(Api::of(library).map_err(wrong)?);
    }
    Ok(())
}

/// Returns the functions, once they have been looked up.
pub fn get() -> Option<&'static Api> {
    API.get()
}
