//! One connection's state machine, from its first byte to its last.
//!
//! It turns bytes into events and knows no channel, no other connection and no clock but the stamps
//! it is given. What an event means is decided above, which then moves the state on.

mod fuzz;
mod http;
pub mod ws;

#[doc(hidden)]
pub use fuzz::fuzz_conn;
pub(crate) use http::REMEMBERED_BYTES_MAX;
pub use http::{Answering, Body, LastHead, Request};
pub use ws::{Frame, Payload, Reader, WsLimits};

use crate::config::Config;
use crate::message::on_heap;
use crate::time::Stamp;
use crate::wire::dialect::Dialect;
use crate::wire::http::{HeadError, HeadLimits, HeadScan};
use crate::wire::ws::WsError;

/// Where a connection is.
#[derive(Debug)]
pub enum State {
    /// Between requests, or within a request's head.
    Head(HeadScan),
    /// Within a request's body.
    Body(Box<Body>),
    /// An answer comes later; input waits.
    Wait {
        /// When it must be there.
        until: Stamp,
    },
    /// A long-poll is held.
    Hold(Hold),
    /// An event stream.
    Sse {
        /// How its events are written.
        dialect: Dialect,
    },
    /// A WebSocket.
    Ws(Ws),
    /// The last bytes go out, then what the peer still sends is thrown away.
    Closing(Closing),
}

/// A held poll.
#[derive(Debug)]
pub struct Hold {
    /// When it is answered without a message.
    pub until: Stamp,
    /// Raw: one message is the body.
    pub is_raw: bool,
    /// How to answer it.
    pub answering: Answering,
}

/// An established WebSocket.
#[derive(Debug)]
pub struct Ws {
    /// Reads its frames.
    pub reader: Reader,
    /// What its frames mean.
    pub mode: WsMode,
    /// Whether our Close has been sent.
    pub close_sent: bool,
    /// When the ping left that nothing has been received since.
    pub pinged: Option<Stamp>,
    /// Whether that ping, or the last one, has not been answered by its own bytes.
    pub awaits_pong: bool,
    /// Bytes written since the last byte received.
    pub written: u32,
    /// Control frames: the theoretical arrival time of their rate limit (wrapping milliseconds).
    pub controls: u32,
    /// Messages: the theoretical arrival time of theirs (microseconds).
    pub operations_us: u64,
    /// How often since `strikes_since` something was refused for a rate.
    pub strikes: u8,
    /// When the first of these was.
    pub strikes_since: Stamp,
}

/// What the frames of a WebSocket mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WsMode {
    /// A frame is a payload.
    Raw,
    /// A frame out is a payload behind `id:` lines.
    Meta,
    /// A frame is a JSON object.
    Json,
    /// The application's own protocol.
    App,
}

impl Ws {
    /// A WebSocket that has just been opened.
    #[must_use]
    pub fn new(mode: WsMode, now_ms: u64) -> Self {
        Self {
            reader: Reader::new(),
            mode,
            close_sent: false,
            pinged: None,
            awaits_pong: false,
            written: 0,
            controls: now_ms as u32,
            operations_us: 0,
            strikes: 0,
            strikes_since: Stamp::default(),
        }
    }
}

impl WsMode {
    /// How pushes are written.
    #[must_use]
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Raw | Self::App => Dialect::WsRaw,
            Self::Meta => Dialect::WsMeta,
            Self::Json => Dialect::WsJson,
        }
    }
}

/// How far the end is (RFC 9112 §9.6: a close without it may destroy the answer on its way).
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    /// Whether our sending side is shut and we only wait for the peer's.
    pub lingering: bool,
    /// When the waiting ends.
    pub until: Stamp,
    /// Bytes that are still thrown away before the connection is simply closed.
    pub left: u32,
}

/// One step of the machine.
#[derive(Debug)]
pub enum Step<'b> {
    /// Something for the layer above.
    Event(Event<'b>),
    /// Something changed; step again.
    Progress,
    /// Nothing more can be done with these bytes.
    NeedMore,
}

/// What a connection reports. Borrows the received bytes, never the connection.
#[derive(Debug)]
pub enum Event<'b> {
    /// A request's head, with its body if that is already here.
    Request(Request<'b>),
    /// The body of a request whose head was accepted before.
    Body(Box<Body>),
    /// A WebSocket frame or message.
    Frame(Frame<'b>),
    /// The request cannot be read.
    BadHead {
        /// Why.
        error: HeadError,
        /// It began as a HEAD, whose answer has no body.
        head_only: bool,
        /// What had come of it, and perhaps more: nothing in it can be relied on.
        seen: &'b [u8],
    },
    /// The body's framing is broken.
    BadBody,
    /// The body is larger than was said it may be.
    BodyTooLarge,
    /// The WebSocket protocol was broken.
    BadFrame(WsError),
}

/// A frame of the built-in WebSockets, where payloads may not be longer.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// The limits that stepping needs, taken from [`Config`] once.
#[derive(Clone, Copy, Debug)]
pub struct ConnLimits {
    /// Of request heads.
    pub head: HeadLimits,
    /// Of the built-in WebSocket routes.
    pub ws: WsLimits,
    /// Of the application's own.
    pub app_ws: WsLimits,
}

impl From<&Config> for ConnLimits {
    fn from(config: &Config) -> Self {
        // A command is more than its payload, and may have none: where payloads are small it may be longer.
        let command = config.ws_frame_bytes_max.min(COMMAND_BYTES_MAX);
        let built_in = config.message_bytes_max.max(command) as u64;
        Self {
            head: HeadLimits::from(config),
            ws: WsLimits {
                frame_bytes_max: built_in,
                message_bytes_max: built_in,
                fragments_max: 128,
            },
            app_ws: WsLimits {
                frame_bytes_max: config.ws_frame_bytes_max as u64,
                message_bytes_max: config.ws_message_bytes_max as u64,
                fragments_max: config.ws_fragments_max,
            },
        }
    }
}

impl State {
    /// Takes what it can from the front of `input`. States in which input waits need more, always.
    /// `last` is whatever head was read last, or none, and is kept from step to step.
    pub fn step<'l, 'b: 'l>(
        &mut self,
        input: &mut &'b mut [u8],
        limits: &ConnLimits,
        last: &'l mut LastHead,
    ) -> Step<'l> {
        match self {
            Self::Head(scan) => http::step_head(scan, input, limits, last),
            Self::Body(body) => match http::step_body(body, input) {
                Ok(false) => Step::NeedMore,
                Ok(true) => self.take_body(),
                Err(http::BodyFault::Malformed) => Step::Event(Event::BadBody),
                Err(http::BodyFault::TooLarge) => Step::Event(Event::BodyTooLarge),
            },
            Self::Ws(ws) => {
                let limits = if ws.mode == WsMode::App { &limits.app_ws } else { &limits.ws };
                match ws.reader.step(input, limits) {
                    Ok(ws::Step::Frame(frame)) => Step::Event(Event::Frame(frame)),
                    Ok(ws::Step::Progress) => Step::Progress,
                    Ok(ws::Step::NeedMore) => Step::NeedMore,
                    Err(error) => Step::Event(Event::BadFrame(error)),
                }
            }
            Self::Sse { .. } => {
                // Nothing can follow on a stream that ends with the connection.
                *input = &mut [];
                Step::NeedMore
            }
            Self::Closing(closing) => {
                closing.left = closing.left.saturating_sub(input.len() as u32);
                *input = &mut [];
                Step::NeedMore
            }
            Self::Wait { .. } | Self::Hold(_) => Step::NeedMore,
        }
    }

    /// Whether no heap is owned for certain.
    #[inline]
    #[must_use]
    pub const fn is_light(&self) -> bool {
        match self {
            Self::Ws(ws) => ws.reader.is_idle(),
            Self::Hold(hold) => hold.answering.origin.is_none(),
            Self::Body(_) => false,
            Self::Head(_) | Self::Wait { .. } | Self::Sse { .. } | Self::Closing(_) => true,
        }
    }

    /// Bytes of heap owned, with what an allocator adds.
    #[must_use]
    pub fn heap(&self) -> usize {
        match self {
            Self::Ws(ws) => on_heap(ws.reader.heap()),
            Self::Body(body) => body.heap(),
            Self::Hold(hold) => {
                hold.answering.origin.as_ref().map_or(0, |origin| on_heap(origin.len()))
            }
            Self::Head(_) | Self::Wait { .. } | Self::Sse { .. } | Self::Closing(_) => 0,
        }
    }

    fn take_body<'b>(&mut self) -> Step<'b> {
        match std::mem::replace(self, Self::Head(HeadScan::default())) {
            Self::Body(body) => Step::Event(Event::Body(body)),
            other => {
                *self = other;
                Step::Progress
            }
        }
    }

    /// Whether bytes that arrive must wait for the state to change.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        matches!(self, Self::Wait { .. } | Self::Hold(_))
    }

    /// How publications are written here, if any are.
    #[inline]
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        match self {
            Self::Sse { dialect } => Some(*dialect),
            Self::Ws(ws) if !ws.close_sent => Some(ws.mode.dialect()),
            Self::Hold(_) => Some(Dialect::Poll),
            Self::Ws(_) | Self::Head(_) | Self::Body(_) | Self::Wait { .. } | Self::Closing(_) => {
                None
            }
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
