//! What C sees: shapes, constants, and what each field means. The header is made of this file.

use std::ffi::{c_char, c_int, c_void};

/// Changes when a program must be compiled anew, and with it the name of the shared library.
pub const HOLDLINE_ABI_VERSION: u32 = 1;

/// Names a connection for ever: it carries a generation, so that one which is gone answers -ENOENT
/// and never names the next one. 0 names none. Numbers of one server mean nothing to another.
pub type holdline_conn = u64;

/// Names an answer that is owed (holdline_ticket_of). 0 names none.
pub type holdline_ticket = u64;

/// Bytes that somebody else owns: those given to a callback are valid until it returns, those given
/// to a function are copied before it returns. Not terminated. {NULL, 0} is empty.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct holdline_bytes {
    /// The first byte; may be NULL if len is 0.
    pub ptr: *const u8,
    /// How many bytes.
    pub len: usize,
}

/// What a server is made of. Set size to sizeof(holdline_config), the rest to zero, and then what
/// you want otherwise: zero means the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct holdline_config {
    /// sizeof(holdline_config).
    pub size: usize,
    /// Addresses, each terminated by a NUL: "7070" (both loopback addresses), "127.0.0.1:7070",
    /// ":7070" or "[::]:7070" (every interface), port 0 (a free one), "unix:/run/x.sock". An
    /// address that others can reach needs open, or callbacks: a server with callbacks is taken to decide for
    /// itself, also if authorize is NULL, and then everybody who can connect may listen. Default "7070".
    pub listen: *const *const c_char,
    /// How many addresses.
    pub listen_len: usize,
    /// 1: anyone may do everything; no check of Origin, Host or address. Limits of size stay.
    pub open: c_int,
    /// 1: the defaults are those for small devices: 64 connections, 256 KiB.
    pub device: c_int,
    /// Bytes of heap that peers may make the server hold, history and connections. Default a
    /// quarter of the machine's memory, at most 512 MiB.
    pub memory_bytes: u64,
    /// Connections at a time. Default what descriptors and memory allow.
    pub connections_max: u32,
    /// Messages kept per channel. Default 1000.
    pub history_messages: u32,
    /// Seconds for which messages are kept. Default 300.
    pub history_age_s: u32,
    /// Bytes of the payload of one message. Default 64 KiB.
    pub message_bytes_max: u32,
    /// Seconds of silence before a heartbeat. Default 25 on WebSockets, 15 on event streams.
    pub heartbeat_s: u32,
    /// Threads that serve connections, at most 64. Default 1, the one that turns the server; with more of
    /// them callbacks are made on all, several at a time, with the same user pointer.
    pub loops: u32,
    /// Bytes kept per channel. Default 1 MiB.
    pub history_bytes: u64,
    /// Bytes of a message on an application's own WebSocket. Default 64 KiB.
    pub ws_message_bytes_max: u32,
    /// Bytes of a frame on an application's own WebSocket. Default 64 KiB.
    pub ws_frame_bytes_max: u32,
    /// Fragments of a message on an application's own WebSocket; UINT32_MAX: any number. Default 128.
    pub ws_fragments_max: u32,
    /// Host names without a port, each terminated by a NUL, that are served besides the addresses listened on and
    /// localhost: "lamp.local". Who asks for another name gets a 421, so that no web page reaches the server by a
    /// name of its own. At most 1024. Default none.
    pub hosts: *const *const c_char,
    /// How many host names.
    pub hosts_len: usize,
    /// Origins, each terminated by a NUL, whose pages may use the server besides its own: "https://example.org", as
    /// browsers write it, without the scheme's own port. A name that begins with "*." stands for all below it. At
    /// most 1024. Default none.
    pub origins: *const *const c_char,
    /// How many origins.
    pub origins_len: usize,
}

/// What is published. Set size to sizeof(holdline_message), ttl_s to -1 (or begin with
/// HOLDLINE_MESSAGE_INIT), and channel.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct holdline_message {
    /// sizeof(holdline_message).
    pub size: usize,
    /// 1 to 255 of A-Z a-z 0-9 _ . ~ : - beginning with a letter or digit.
    pub channel: holdline_bytes,
    /// Any bytes. Clients see text where they are UTF-8, else base64.
    pub payload: holdline_bytes,
    /// The media type; empty: none. One that promises JSON is held to it: -EBADMSG.
    pub r#type: holdline_bytes,
    /// The event's name: 1 to 64 visible ASCII; empty: none.
    pub event: holdline_bytes,
    /// The same key on the same channel within five minutes is the same publication: 1 to 128
    /// visible ASCII; empty: none.
    pub idempotency_key: holdline_bytes,
    /// Seconds for which it may be replayed; -1: as long as history keeps it; 0: only for those who
    /// listen now.
    pub ttl_s: i64,
}

/// A request, lent to a callback: only the pointer that the callback was given has headers and a
/// body, and only until it returns. A copy of the struct has none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct holdline_request {
    /// sizeof(holdline_request) of the library.
    pub size: usize,
    /// "GET", "POST" …
    pub method: holdline_bytes,
    /// As it was sent, percent-encoding included.
    pub path: holdline_bytes,
    /// What stands behind the question mark; {NULL, 0} without one.
    pub query: holdline_bytes,
    /// The subprotocols that a WebSocket offers, separated by commas; {NULL, 0} without any.
    pub protocol: holdline_bytes,
}

/// What a message on a WebSocket is.
#[repr(C)]
pub enum holdline_kind {
    /// UTF-8: checked when received, and by holdline_send (-EILSEQ).
    HOLDLINE_TEXT = 1,
    /// Any bytes.
    HOLDLINE_BINARY = 2,
}

/// What somebody wants to do.
#[repr(C)]
pub enum holdline_action {
    /// Open a stream, a poll or a WebSocket of the built-in routes. There is a request, no channel.
    HOLDLINE_CONNECT,
    /// Listen to a channel. There is no request (NULL).
    HOLDLINE_SUBSCRIBE,
    /// Publish to a channel, or drop its history. There is no request (NULL).
    HOLDLINE_PUBLISH,
}

/// What authorize returns, and holdline_answer is given for it. Another number that authorize returns counts as
/// FORBIDDEN; given to holdline_answer it is -EINVAL.
#[repr(C)]
pub enum holdline_verdict {
    /// Yes.
    HOLDLINE_ALLOW = 0,
    /// No: credentials are missing or wrong.
    HOLDLINE_UNAUTHORIZED = 401,
    /// No.
    HOLDLINE_FORBIDDEN = 403,
    /// holdline_answer says it, to the ticket that was taken in this callback. Who waits longer
    /// than 10 s is refused.
    HOLDLINE_LATER = 1,
    /// As without a callback: who connects may listen; with open, also publish.
    HOLDLINE_DEFAULT = 2,
}

/// What request returns.
#[repr(C)]
pub enum holdline_route {
    /// The built-in routes answer.
    HOLDLINE_PASS = 0,
    /// holdline_reply did. Without it: 500.
    HOLDLINE_RESPONDED = 1,
    /// It becomes a WebSocket of the application's own; holdline_accept_websocket names the
    /// subprotocol, if any. A request that is no valid handshake is refused by the server.
    HOLDLINE_WEBSOCKET = 2,
    /// holdline_answer does, to the ticket that was taken in this callback. Who waits longer than
    /// 10 s gets a 503.
    HOLDLINE_ROUTE_LATER = 3,
}

/// What the program does itself; all optional. Each gets the user pointer first. They are called
/// on the thread that turns the server, inside holdline_server_turn, holdline_server_run and (closed
/// alone) holdline_server_free. With loops > 1 also on the other loops' threads, several at a time: what user
/// points to is yours to lock, and a ctx reaches the connections of its own loop alone (-ENOENT else).
/// They must not block, throw or longjmp.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct holdline_callbacks {
    /// sizeof(holdline_callbacks).
    pub size: usize,
    /// Decides who may: holdline_action, holdline_verdict. All of a request is decided before any of it is done, so
    /// do nothing here but decide.
    pub authorize: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            ctx: *mut holdline_ctx,
            conn: holdline_conn,
            action: c_int,
            channel: holdline_bytes,
            request: *const holdline_request,
        ) -> c_int,
    >,
    /// Sees each request, whole, before the built-in routes: holdline_route.
    pub request: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            ctx: *mut holdline_ctx,
            conn: holdline_conn,
            request: *const holdline_request,
        ) -> c_int,
    >,
    /// A WebSocket of the application's own is established.
    pub open: Option<
        unsafe extern "C" fn(user: *mut c_void, ctx: *mut holdline_ctx, conn: holdline_conn),
    >,
    /// A message on a WebSocket of the application's own: holdline_kind.
    pub message: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            ctx: *mut holdline_ctx,
            conn: holdline_conn,
            kind: c_int,
            bytes: *const u8,
            len: usize,
        ),
    >,
    /// After -ENOBUFS: less than half of the allowed bytes wait now.
    pub writable: Option<
        unsafe extern "C" fn(user: *mut c_void, ctx: *mut holdline_ctx, conn: holdline_conn),
    >,
    /// A WebSocket of the application's own is gone: once for each open. The number names nothing any
    /// more. code: RFC 6455 §7.4; 1012: the server was shut down; 1006: it broke, or was cut when the server
    /// ended or was freed.
    pub closed: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            ctx: *mut holdline_ctx,
            conn: holdline_conn,
            code: c_int,
        ),
    >,
    /// holdline_signal was called; with loops > 1 once on each of them.
    pub signal: Option<unsafe extern "C" fn(user: *mut c_void, ctx: *mut holdline_ctx, value: u64)>,
    /// What holdline_set_timer asked for.
    pub timer: Option<unsafe extern "C" fn(user: *mut c_void, ctx: *mut holdline_ctx, key: u64)>,
}

/// What a subscription of the program's own is told.
#[repr(C)]
pub enum holdline_push_kind {
    /// Something was published: id, channel, event, type, payload.
    HOLDLINE_PUSH_MESSAGE = 1,
    /// Something is missing before id: channel names the channels, separated by commas; payload says why: "epoch",
    /// "trimmed", "slow".
    HOLDLINE_PUSH_GAP = 2,
    /// All that was there when it began has come, up to id. Said once.
    HOLDLINE_PUSH_LIVE = 3,
    /// There is no room for another channel or subscription: payload says what to do. Nothing follows but the end.
    HOLDLINE_PUSH_REFUSED = 4,
    /// It has ended: the last call.
    HOLDLINE_PUSH_ENDED = 5,
}

/// What a subscription of the program's own is told, lent for the call. What is not there is {NULL, 0}.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct holdline_push {
    /// sizeof(holdline_push) of the library.
    pub size: usize,
    /// holdline_push_kind.
    pub kind: c_int,
    /// The position to come back with, as since.
    pub id: holdline_bytes,
    /// Where it was published.
    pub channel: holdline_bytes,
    /// The event's name.
    pub event: holdline_bytes,
    /// The media type.
    pub r#type: holdline_bytes,
    /// What was published.
    pub payload: holdline_bytes,
}

/// What a callback may act through, until it returns; later, and on another thread, -EINVAL.
pub struct holdline_ctx {
    _private: (),
}
