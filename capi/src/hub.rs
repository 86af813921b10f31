//! The handle for other threads.

use std::ffi::{c_char, c_int};
use std::sync::Arc;
use std::time::Duration;

use holdline::engine::{Outcome as Answered, Response, Route, Ticket};
use holdline::server::ServerStats;
use holdline::{ConnId, Hub};

use crate::app::verdict;
use crate::error::{self, Outcome, guard, guard_or};
use crate::input;
use crate::types::{holdline_conn, holdline_message, holdline_route, holdline_ticket};

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

/// Publishes count messages, one after the other and nobody else's between them, with one wake of the server. They
/// lie as in an array: each has the size of the first. results, unless NULL, gets for each what
/// holdline_publish would return. Returns how many were published; those that were refused are left out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_publish_many(
    hub: *mut holdline_hub,
    messages: *const holdline_message,
    count: usize,
    results: *mut c_int,
) -> c_int {
    // SAFETY: as the caller promises.
    let hub = unsafe { hub.as_ref() };
    guard(|| {
        let hub = hub.ok_or(libc::EINVAL)?;
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: as the caller promises.
        let size = unsafe { input::size(messages) }?;
        if count > isize::MAX as usize / size {
            return Err(libc::EINVAL);
        }
        let read = |number| {
            let message = messages.wrapping_byte_add(number * size);
            // SAFETY: as the caller promises.
            unsafe { input::message(message, hub.message_bytes_max) }
        };
        let mut read: Vec<_> = (0..count).map(read).collect();
        let good = read.iter_mut().filter_map(|one| one.as_mut().ok());
        let good = good.map(|(channel, message)| (*channel, std::mem::take(message)));
        let mut published = hub.hub.publish_many(good).into_iter();
        let mut done = 0;
        for (number, one) in read.iter().enumerate() {
            let result = match (one, one.is_ok().then(|| published.next()).flatten()) {
                (Err(errno), _) => -errno,
                (Ok(_), Some(Ok(published))) => error::count(published.subscribers as usize),
                (Ok(_), Some(Err(error))) => -error::of_refusal(&error.refusal),
                (Ok(_), None) => -libc::EIO,
            };
            done += usize::from(result >= 0);
            if !results.is_null() {
                // SAFETY: there is room for `count` of them.
                unsafe { results.add(number).write(result) };
            }
        }
        Ok(error::count(done))
    })
}

/// Closes a connection, from any thread: a WebSocket (also one of the built-in routes) by a Close, anything else
/// without. code, reason: as holdline_close. One that is gone is ignored: 0. -EINVAL; -EAGAIN: too much
/// waits for the server to turn; -ESHUTDOWN.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_hub_close(
    hub: *mut holdline_hub,
    conn: holdline_conn,
    code: c_int,
    reason: *const c_char,
) -> c_int {
    // SAFETY: as the caller promises.
    let hub = unsafe { hub.as_ref() };
    guard(|| {
        // SAFETY: as the caller promises.
        let (code, reason) = unsafe { input::close(code, reason) }?;
        let asked = hub.ok_or(libc::EINVAL)?.hub.close(ConnId::from_bits(conn), code, reason);
        asked.map(|()| 0).map_err(error::of_hub)
    })
}

/// Writes what the server holds and has counted, as JSON, into text, terminated, cut if size is too small (1 KiB
/// is enough). Returns the whole length. Numbers of connections may be as old as age_ms. Never waits. -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_stats(
    hub: *mut holdline_hub,
    text: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: as the caller promises.
    let hub = unsafe { hub.as_ref() };
    guard(|| {
        let stats = hub.ok_or(libc::EINVAL)?.hub.stats();
        // SAFETY: as the caller promises.
        unsafe { input::write_text(text, size, &json(&stats)) }
    })
}

/// With the names that `/stats` has.
fn json(stats: &ServerStats) -> String {
    let ServerStats { age, uptime, cursor, history, loops, .. } = stats;
    let connections = loops.connections;
    format!(
        "{{\"age_ms\":{},\"uptime_s\":{},\"cursor\":\"{cursor}\",\
         \"connections\":{{\"http\":{},\"ws\":{},\"sse\":{},\"poll\":{}}},\
         \"subscriptions\":{},\"channels\":{},\"history\":{{\"messages\":{},\"bytes\":{}}},\
         \"published\":{},\"delivered\":{},\"stalled\":{},\
         \"memory\":{{\"budget\":{},\"history\":{},\"connections\":{}}}}}",
        age.as_millis(),
        uptime.as_secs(),
        connections.http,
        connections.ws,
        connections.sse,
        connections.poll,
        loops.subscriptions,
        history.channels,
        history.messages,
        history.bytes,
        history.published,
        loops.counted.delivered,
        loops.counted.stalled,
        history.memory_budget,
        history.memory_used + history.memory_tables,
        history.memory_connections,
    )
}

/// Answers a ticket, once. To authorize: status is a holdline_verdict, but for LATER, and the rest is not
/// looked at; another number is -EINVAL, and the ticket still waits. To request: status is that of HTTP, 200 to
/// 599, with a body of len bytes of the media type (NULL: none); or HOLDLINE_PASS; or HOLDLINE_WEBSOCKET, and
/// type names the subprotocol (NULL: none; one that was not offered is left out).
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
    let status = u16::try_from(status).map_err(|_| libc::EINVAL)?;
    // SAFETY: as the caller promises.
    let (name, body) = unsafe { (input::c_text(name)?, input::slice(body, len)?) };
    let response = Response::new(status, name.unwrap_or_default(), body);
    response.check().map_err(|mistake| {
        log::warn!("not answered: {mistake}");
        libc::EINVAL
    })?;
    Ok(response)
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
