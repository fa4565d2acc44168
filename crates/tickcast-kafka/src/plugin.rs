//! librdkafka's plugin interface: how the handle of a client becomes known that somebody else has made.
//!
//! A client whose `plugin.library.paths` names the library that this is linked into calls [`conf_init`], and then
//! [`on_new`] on the thread that makes it. There it stays until [`Client::take_new`](crate::Client::take_new).

use crate::api::{self, Code, FAIL, Handle, Message, NO_ERROR};
use crate::client::Deliveries;
use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

const NAME: &CStr = c"tickcast";

thread_local! {
    /// The client that this thread has made last, until somebody takes it.
    static NEW: RefCell<Option<(Handle, Arc<Deliveries>)>> = const { RefCell::new(None) };
}

/// Returns the client that this thread has made last.
pub(crate) fn take() -> Option<(Handle, Arc<Deliveries>)> {
    NEW.take()
}

/// What `conf_init` of a plugin has to do.
///
/// # Safety
/// `conf` is a configuration of the librdkafka that [`load`](crate::load) was given.
pub unsafe fn conf_init(conf: *mut c_void) -> Code {
    let Some(api) = api::get() else { return FAIL };
    // SAFETY: `conf` is valid, as the caller says, and `on_new` lives for ever.
    unsafe { (api.conf_add_on_new)(conf, NAME.as_ptr(), on_new, std::ptr::null_mut()) }
}

unsafe extern "C" fn on_new(
    client: Handle,
    _: *const c_void,
    _: *mut c_void,
    _error: *mut c_char,
    _size: usize,
) -> Code {
    let Some(api) = api::get() else { return FAIL };
    let deliveries = Arc::new(Deliveries::default());
    let opaque = Arc::into_raw(deliveries.clone()).cast_mut().cast::<c_void>();
    // SAFETY: the client is alive while it is being made; `opaque` is given back by `on_destroy`, its last callback.
    let code = unsafe {
        let first = (api.add_on_destroy)(client, NAME.as_ptr(), on_destroy, opaque);
        if first == NO_ERROR {
            (api.add_on_acknowledgement)(client, NAME.as_ptr(), on_acknowledgement, opaque)
        } else {
            first
        }
    };
    NEW.replace(Some((client, deliveries)));
    code
}

unsafe extern "C" fn on_acknowledgement(_: Handle, message: *mut Message, opaque: *mut c_void) -> Code {
    // SAFETY: librdkafka lends the message for the call, and `opaque` is the reference that `on_new` has left with it.
    unsafe {
        if (*message).code != NO_ERROR {
            (*opaque.cast::<Deliveries>()).fail((*message).code);
        }
    }
    NO_ERROR
}

unsafe extern "C" fn on_destroy(_: Handle, opaque: *mut c_void) -> Code {
    // SAFETY: `on_new` has made it by `into_raw`, and librdkafka calls this once for each client.
    unsafe { Arc::from_raw(opaque.cast::<Deliveries>()) }.end();
    NO_ERROR
}
