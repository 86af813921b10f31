//! What callbacks may do.

use std::ffi::{c_char, c_int};
use std::time::Duration;

use holdline::engine::{Ctx, Kind, Peer, Queued, Response, Transport};
use holdline::message::is_channel;
use holdline::{Code, ConnId, Since};

use crate::error::{self, Outcome, guard, guard_or};
use crate::frame::{self, Frame, HeaderLine, Question, Said};
use crate::hub::{IS_VERDICT, response};
use crate::input::{self, ABSENT, lend};
use crate::types::{
    holdline_bytes, holdline_conn, holdline_ctx, holdline_kind, holdline_message, holdline_request,
    holdline_ticket,
};

/// Acts through a context, if it is the one of a callback that runs on this thread.
fn act(ctx: *mut holdline_ctx, act: impl FnOnce(&mut Ctx<'_>) -> Outcome) -> Outcome {
    let acted = frame::with_frame(ctx, |frame| frame.with_ctx(act).ok_or(libc::EBUSY));
    acted.ok_or(libc::EINVAL)??
}

/// The same, for what is there only while this connection's request is asked about.
fn about(
    ctx: *mut holdline_ctx,
    conn: holdline_conn,
    act: impl FnOnce(&Frame) -> Outcome,
) -> Outcome {
    let acted = frame::with_frame(ctx, |frame| {
        let is_asked = frame.question == Question::Request && frame.asker.to_bits() == conn;
        if is_asked { act(frame) } else { Err(libc::EINVAL) }
    });
    acted.ok_or(libc::EINVAL)?
}

/// Whether it can be subscribed to anything.
fn listens(cx: &Ctx<'_>, id: ConnId) -> Result<(), c_int> {
    match cx.transport(id) {
        None | Some(Transport::Http) => Err(libc::ENOENT),
        Some(_) => Ok(()),
    }
}

/// Sends on a WebSocket of the application's own. Returns how many bytes wait for it now. -ENOBUFS: too much
/// waits, nothing was taken, and writable is called when there is room; -ENOENT: it is gone, or is no
/// WebSocket; -EILSEQ: text that is not UTF-8; -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_send(
    ctx: *mut holdline_ctx,
    conn: holdline_conn,
    kind: c_int,
    bytes: *const u8,
    len: usize,
) -> c_int {
    const TEXT: c_int = holdline_kind::HOLDLINE_TEXT as c_int;
    const BINARY: c_int = holdline_kind::HOLDLINE_BINARY as c_int;
    guard(|| {
        act(ctx, |cx| {
            // SAFETY: as the caller promises.
            let bytes = unsafe { input::slice(bytes, len) }?;
            let kind = match kind {
                TEXT if std::str::from_utf8(bytes).is_err() => return Err(libc::EILSEQ),
                TEXT => Kind::Text,
                BINARY => Kind::Binary,
                _ => return Err(libc::EINVAL),
            };
            match cx.send(ConnId::from_bits(conn), kind, bytes) {
                Queued::Bytes(waiting) => Ok(error::count(waiting)),
                Queued::Full => Err(libc::ENOBUFS),
                Queued::Gone => Err(libc::ENOENT),
            }
        })
    })
}

/// Answers the request that the request callback is asked about; then return HOLDLINE_RESPONDED. status: 200
/// to 599; type: the media type, NULL: none. Once for each request (-EALREADY). -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_reply(
    ctx: *mut holdline_ctx,
    conn: holdline_conn,
    status: c_int,
    r#type: *const c_char,
    body: *const u8,
    len: usize,
) -> c_int {
    guard(|| {
        about(ctx, conn, |frame| {
            // SAFETY: as the caller promises.
            let response = unsafe { response(status, r#type, body, len) }?;
            say(frame, Said::Response(response))
        })
    })
}

/// Adds a header line to the answer that holdline_reply gives, or to the handshake of a WebSocket, before or after
/// that. What frames an answer is the server's: Content-Length, Connection and such are -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_reply_header(
    ctx: *mut holdline_ctx,
    conn: holdline_conn,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    guard(|| {
        about(ctx, conn, |frame| {
            // SAFETY: as the caller promises.
            let (name, value) = unsafe { (input::c_text(name)?, input::c_text(value)?) };
            let (name, value) = name.zip(value).ok_or(libc::EINVAL)?;
            let mut headers = frame.headers.borrow_mut();
            headers.push((name.to_owned(), value.to_owned()));
            let add = |answer: Response, (name, value): &HeaderLine| answer.header(name, value);
            if headers.iter().fold(Response::empty(200), add).check().is_err() {
                headers.pop();
                return Err(libc::EINVAL);
            }
            Ok(0)
        })
    })
}

/// Takes the request that the request callback is asked about as a WebSocket; then return
/// HOLDLINE_WEBSOCKET. protocol: one of those that request->protocol offers, or NULL. -EINVAL -EALREADY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_accept_websocket(
    ctx: *mut holdline_ctx,
    conn: holdline_conn,
    protocol: *const c_char,
) -> c_int {
    guard(|| {
        about(ctx, conn, |frame| {
            // SAFETY: as the caller promises.
            let protocol = unsafe { input::c_text(protocol) }?;
            if protocol.is_some_and(|protocol| !frame.offers(protocol)) {
                return Err(libc::EINVAL);
            }
            say(frame, Said::WebSocket(protocol.map(str::to_owned)))
        })
    })
}

fn say(frame: &Frame, what: Said) -> Outcome {
    let mut said = frame.said.borrow_mut();
    if !matches!(*said, Said::Nothing) {
        return Err(libc::EALREADY);
    }
    *said = what;
    Ok(0)
}

/// Subscribes a WebSocket of the application's own to a channel: it is sent the payloads. since: NULL, "earliest",
/// "latest", an id, seconds since 1970, or how long ago ("10m"). 0, also if it was subscribed.
/// -EINVAL; -ENOENT; -ENOMEM: it has 128 channels, or a limit of channels or memory is reached.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_subscribe(
    ctx: *mut holdline_ctx,
    conn: holdline_conn,
    channel: holdline_bytes,
    since: *const c_char,
) -> c_int {
    guard(|| {
        act(ctx, |cx| {
            // SAFETY: as the caller promises.
            let (channel, since) = unsafe { (input::text(channel)?, input::c_text(since)?) };
            let parse = |since: &str| Since::parse(since.as_bytes()).ok_or(libc::EINVAL);
            let since = since.map(parse).transpose()?;
            let joined = cx.subscribe(ConnId::from_bits(conn), channel, since);
            joined.map(|()| 0).map_err(|refusal| match refusal.code {
                Code::BadRequest => libc::ENOMEM, // one channel too many
                _ => error::of_refusal(&refusal),
            })
        })
    })
}

/// Ends a subscription: 1 if there was one, else 0. -EINVAL: channel is no name; -ENOENT: it is gone, or listens to
/// nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_unsubscribe(
    ctx: *mut holdline_ctx,
    conn: holdline_conn,
    channel: holdline_bytes,
) -> c_int {
    guard(|| {
        act(ctx, |cx| {
            // SAFETY: as the caller promises.
            let channel = unsafe { input::text(channel) }?;
            let conn = ConnId::from_bits(conn);
            listens(cx, conn)?;
            if !is_channel(channel.as_bytes()) {
                return Err(libc::EINVAL);
            }
            Ok(c_int::from(cx.unsubscribe(conn, channel)))
        })
    })
}

/// As holdline_publish.
/// cbindgen:ptrs-as-arrays=[[id_out;40]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_publish_here(
    ctx: *mut holdline_ctx,
    message: *const holdline_message,
    id_out: *mut c_char,
) -> c_int {
    guard(|| {
        // SAFETY: as the caller promises.
        unsafe { input::write_id(id_out, None) };
        let max = frame::with_frame(ctx, |frame| frame.message_bytes_max).ok_or(libc::EINVAL)?;
        // SAFETY: as the caller promises.
        let (channel, message) = unsafe { input::message(message, max) }?;
        act(ctx, |cx| {
            let published = cx.publish(channel, message);
            let published = published.map_err(|refusal| error::of_refusal(&refusal))?;
            // SAFETY: as the caller promises.
            unsafe { input::write_id(id_out, Some(&published)) };
            Ok(error::count(published.subscribers as usize))
        })
    })
}

/// Closes a WebSocket: a Close is sent at the end of the turn, and from this call on sends give -ENOENT. closed is
/// called when the connection is gone: at once where the peer answers and hangs up, up to about 7.5 s later
/// where it stays silent. code: 1000, 3000 to 4999 and the others that RFC 6455 lets an endpoint send; 0: 1000.
/// reason: at most 123 bytes, may be NULL. -ENOENT -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_close(
    ctx: *mut holdline_ctx,
    conn: holdline_conn,
    code: c_int,
    reason: *const c_char,
) -> c_int {
    guard(|| {
        act(ctx, |cx| {
            // SAFETY: as the caller promises.
            let (code, reason) = unsafe { input::close(code, reason) }?;
            let was_there = cx.close(ConnId::from_bits(conn), code, reason);
            if was_there { Ok(0) } else { Err(libc::ENOENT) }
        })
    })
}

/// Keeps a number for a connection, until it is gone. -ENOENT -EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn holdline_set_data(
    ctx: *mut holdline_ctx,
    conn: holdline_conn,
    data: u64,
) -> c_int {
    guard(|| {
        act(
            ctx,
            |cx| {
                if cx.set_data(ConnId::from_bits(conn), data) { Ok(0) } else { Err(libc::ENOENT) }
            },
        )
    })
}

/// The number that holdline_set_data kept; 0 before. -ENOENT -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_data(
    ctx: *mut holdline_ctx,
    conn: holdline_conn,
    data: *mut u64,
) -> c_int {
    guard(|| {
        if data.is_null() {
            return Err(libc::EINVAL);
        }
        act(ctx, |cx| {
            let kept = cx.data(ConnId::from_bits(conn)).ok_or(libc::ENOENT)?;
            // SAFETY: it is not null, so it is valid.
            unsafe { data.write(kept) };
            Ok(0)
        })
    })
}

/// Has the timer callback called with key, once, after_ms from the moment of this turn, to the millisecond; 0
/// counts as 1. -EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn holdline_set_timer(ctx: *mut holdline_ctx, after_ms: c_int, key: u64) -> c_int {
    guard(|| {
        let after = u64::try_from(after_ms).map_err(|_| libc::EINVAL)?;
        act(ctx, |cx| {
            cx.timer(Duration::from_millis(after), key);
            Ok(0)
        })
    })
}

/// A ticket for the question at hand: in authorize and request alone, for the connection they are asked about;
/// else 0. The same one each time. Return HOLDLINE_LATER or HOLDLINE_ROUTE_LATER then.
#[unsafe(no_mangle)]
pub extern "C" fn holdline_ticket_of(
    ctx: *mut holdline_ctx,
    conn: holdline_conn,
) -> holdline_ticket {
    guard_or(0, 0, || frame::with_frame(ctx, |frame| ticket(frame, conn)).flatten().unwrap_or(0))
}

fn ticket(frame: &Frame, conn: holdline_conn) -> Option<holdline_ticket> {
    let kind = match frame.question {
        Question::Nothing => return None,
        Question::Authorize => IS_VERDICT,
        Question::Request => 0,
    };
    if frame.asker.to_bits() != conn {
        return None;
    }
    let ticket = match frame.ticket.get() {
        Some(ticket) => ticket,
        None => frame.with_ctx(|cx| cx.ticket(frame.asker))?,
    };
    frame.ticket.set(Some(ticket));
    Some(ticket.to_bits() | kind)
}

/// Writes who is at the other end of a connection into text, terminated, cut if size is too small:
/// "192.0.2.1:50000", "[2001:db8::1]:50000" or "unix"; it may be a proxy. Returns the whole length. -ENOENT
/// -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_peer(
    ctx: *mut holdline_ctx,
    conn: holdline_conn,
    text: *mut c_char,
    size: usize,
) -> c_int {
    guard(|| {
        act(ctx, |cx| {
            let peer = cx.peer(ConnId::from_bits(conn)).ok_or(libc::ENOENT)?;
            let peer = match peer {
                Peer::Unix => "unix".to_owned(),
                Peer::Ip(address) => address.to_string(),
            };
            // SAFETY: as the caller promises.
            unsafe { input::write_text(text, size, &peer) }
        })
    })
}

/// The value of the first header field of that name, whatever its case; {NULL, 0} if there is none, or
/// the request is not the one that a callback of this thread was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_request_header(
    request: *const holdline_request,
    name: *const c_char,
) -> holdline_bytes {
    guard_or(ABSENT, ABSENT, || {
        // SAFETY: as the caller promises.
        let Ok(Some(name)) = (unsafe { input::c_text(name) }) else { return ABSENT };
        let value = frame::with_request(request, |request| {
            let value = request.header(name)?;
            Some(lend(value))
        });
        value.flatten().unwrap_or(ABSENT)
    })
}

/// The body, whole; empty if there is none, {NULL, 0} if the request is not the one that a callback of
/// this thread was given.
#[unsafe(no_mangle)]
pub extern "C" fn holdline_request_body(request: *const holdline_request) -> holdline_bytes {
    guard_or(ABSENT, ABSENT, || {
        frame::with_request(request, |request| lend(request.body())).unwrap_or(ABSENT)
    })
}

/// 1 if it asks to become a WebSocket, else 0. -EINVAL if the request is not the one that a callback of this
/// thread was given.
#[unsafe(no_mangle)]
pub extern "C" fn holdline_request_is_websocket(request: *const holdline_request) -> c_int {
    guard(|| {
        let asks = frame::with_request(request, |request| c_int::from(request.is_websocket()));
        asks.ok_or(libc::EINVAL)
    })
}
