//! The handle for other threads.

use std::ffi::{c_char, c_int};
use std::sync::Arc;
use std::time::Duration;

use holdline::Hub;
use holdline::engine::{Outcome as Answered, Response, Route, Ticket};

use crate::app::verdict;
use crate::error::{self, Outcome, guard, guard_or};
use crate::input;
use crate::types::{holdline_message, holdline_route, holdline_ticket};

/// A handle to a server, for any thread and several at a time. It is counted: each holdline_server_hub and
/// holdline_hub_clone is to be followed by one holdline_hub_free. It outlives the server. None of its
/// functions waits for a client.
pub struct holdline_hub {
    pub(crate) hub: Hub,
    pub(crate) message_bytes_max: usize,
}

impl holdline_hub {
    /// One more count, for C.
    pub(crate) fn give(this: &Arc<Self>) -> *mut Self {
        Arc::into_raw(Arc::clone(this)).cast_mut()
    }
}

/// In a ticket: it is owed to authorize. No loop has as high a number.
pub(crate) const IS_VERDICT: u64 = 1 << 63;

/// One more count of the same handle; returns it. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_hub_clone(hub: *mut holdline_hub) -> *mut holdline_hub {
    guard_or(std::ptr::null_mut(), std::ptr::null_mut(), || {
        if !hub.is_null() {
            // SAFETY: it came from `Arc::into_raw`, and has at least the caller's count.
            unsafe { Arc::increment_strong_count(hub) };
        }
        hub
    })
}

/// Takes one count away. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_hub_free(hub: *mut holdline_hub) {
    guard_or((), (), || {
        if !hub.is_null() {
            // SAFETY: it came from `Arc::into_raw`, and this is the caller's count.
            drop(unsafe { Arc::from_raw(hub) });
        }
    });
}

/// Publishes. Returns how many listen now; id_out, unless NULL, gets the message's id, terminated, or an
/// empty text. On failure nothing has been published: -EINVAL -E2BIG, -EBADMSG (no JSON), -EMSGSIZE (more
/// than message_bytes_max), -ENOMEM (no room: try again later), -ESHUTDOWN.
/// cbindgen:ptrs-as-arrays=[[id_out;40]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_publish(
    hub: *mut holdline_hub,
    message: *const holdline_message,
    id_out: *mut c_char,
) -> c_int {
    // SAFETY: as the caller promises.
    let hub = unsafe { hub.as_ref() };
    guard(|| {
        // SAFETY: as the caller promises.
        unsafe { input::write_id(id_out, None) };
        let hub = hub.ok_or(libc::EINVAL)?;
        // SAFETY: as the caller promises.
        let (channel, message) = unsafe { input::message(message, hub.message_bytes_max) }?;
        let published = hub.hub.publish(channel, message);
        let published = published.map_err(|error| error::of_refusal(&error.refusal))?;
        // SAFETY: as the caller promises.
        unsafe { input::write_id(id_out, Some(&published)) };
        Ok(error::count(published.subscribers as usize))
    })
}

/// Answers a ticket, once. To authorize: status is a holdline_verdict (not LATER), the rest is not
/// looked at. To request: status is that of HTTP, 200 to 599, with a body of len bytes of the media type
/// (NULL: none); or HOLDLINE_PASS; or HOLDLINE_WEBSOCKET, and type names the subprotocol (NULL: none).
/// A ticket that has been answered, or whose asker is gone, is ignored: 0. -EINVAL; -EAGAIN: too much
/// waits for the server to turn; -ESHUTDOWN.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_answer(
    hub: *mut holdline_hub,
    ticket: holdline_ticket,
    status: c_int,
    r#type: *const c_char,
    body: *const u8,
    len: usize,
) -> c_int {
    // SAFETY: as the caller promises.
    let hub = unsafe { hub.as_ref() };
    guard(|| {
        let hub = hub.ok_or(libc::EINVAL)?;
        if ticket == 0 {
            return Err(libc::EINVAL);
        }
        let answer = if ticket & IS_VERDICT != 0 {
            Answered::Verdict(verdict(status).ok_or(libc::EINVAL)?)
        } else {
            // SAFETY: as the caller promises.
            Answered::Route(unsafe { route(status, r#type, body, len) }?)
        };
        let ticket = Ticket::from_bits(ticket & !IS_VERDICT);
        hub.hub.answer(ticket, answer).map_err(error::of_hub)?;
        Ok(0)
    })
}

/// # Safety
/// As for [`holdline_answer`].
unsafe fn route(
    status: c_int,
    name: *const c_char,
    body: *const u8,
    len: usize,
) -> Result<Route, c_int> {
    const PASS: c_int = holdline_route::HOLDLINE_PASS as c_int;
    const WEBSOCKET: c_int = holdline_route::HOLDLINE_WEBSOCKET as c_int;
    match status {
        PASS => Ok(Route::Pass),
        WEBSOCKET => {
            // SAFETY: as the caller promises.
            let protocol = unsafe { input::c_text(name) }?;
            Ok(Route::WebSocket { protocol: protocol.map(str::to_owned) })
        }
        // SAFETY: as the caller promises.
        _ => unsafe { response(status, name, body, len) }.map(Route::Respond),
    }
}

/// # Safety
/// `name` is null or a terminated text, `body` has `len` bytes.
pub(crate) unsafe fn response(
    status: c_int,
    name: *const c_char,
    body: *const u8,
    len: usize,
) -> Result<Response, c_int> {
    let status = u16::try_from(status).ok().filter(|status| (200..600).contains(status));
    let status = status.ok_or(libc::EINVAL)?;
    // SAFETY: as the caller promises.
    let (name, body) = unsafe { (input::c_text(name)?, input::slice(body, len)?) };
    let name = name.unwrap_or_default();
    if !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(libc::EINVAL); // it would become two header fields
    }
    Ok(Response::new(status, name, body))
}

/// Has the signal callback called with value, on the thread that turns the server. -EAGAIN: too
/// much waits for it to turn; -ESHUTDOWN.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_signal(hub: *mut holdline_hub, value: u64) -> c_int {
    // SAFETY: as the caller promises.
    let hub = unsafe { hub.as_ref() };
    guard(|| hub.ok_or(libc::EINVAL)?.hub.signal(value).map(|()| 0).map_err(error::of_hub))
}

/// Ends the server in order: clients are told to come back, and what is left after grace_ms is cut; 0
/// ends it at once. Go on turning until -ESHUTDOWN. Called again, the shorter grace counts. Not for a signal
/// handler: it takes a lock. -ESHUTDOWN if it has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_shutdown(hub: *mut holdline_hub, grace_ms: c_int) -> c_int {
    // SAFETY: as the caller promises.
    let hub = unsafe { hub.as_ref() };
    guard(|| -> Outcome {
        let grace = u64::try_from(grace_ms).map_err(|_| libc::EINVAL)?;
        let asked = hub.ok_or(libc::EINVAL)?.hub.shutdown(Duration::from_millis(grace));
        asked.map(|()| 0).map_err(error::of_hub)
    })
}
