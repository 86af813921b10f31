//! What a WebSocket client sends, from bytes to messages (RFC 6455 §5.4, §5.5, §8.1).
//!
//! Knows one direction of one connection and neither sockets nor time; answering, closing and
//! rates are the caller's. A message that lies whole in the received bytes is unmasked there and
//! lent; only what is cut by a read or comes in fragments is gathered, and memory grows by what
//! came, never by what a header declares (RFC 6455 §10.4).

use std::fmt;
use std::mem;
use std::ops::Deref;

use crate::message::is_utf8;
use crate::wire::utf8::Utf8;
use crate::wire::ws::{
    FrameHeader, Opcode, WsError, parse_close, parse_header, stated_length, unmask,
};

/// How much a client may send at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WsLimits {
    /// Payload bytes of one data frame.
    pub frame_bytes_max: u64,
    /// Payload bytes of one message.
    pub message_bytes_max: u64,
    /// Frames of one message, empty ones too; 0: any number.
    pub fragments_max: u32,
}

/// The bytes of a message or control frame.
pub enum Payload<'b> {
    /// They lay whole in what was received.
    Borrowed(&'b mut [u8]),
    /// They were gathered.
    Owned(Vec<u8>),
}

impl Payload<'_> {
    /// The bytes as a vector, copied if they were lent.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Borrowed(bytes) => bytes.to_vec(),
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Payload").field(&&**self).finish()
    }
}

/// Something whole that a client sent.
#[derive(Debug)]
pub enum Frame<'b> {
    /// A message, from one frame or many.
    Message {
        /// Whether it was sent as text; then it is valid UTF-8.
        is_text: bool,
        /// Its bytes.
        payload: Payload<'b>,
    },
    /// To be answered with the same bytes. Owned only if a read cut it.
    Ping(Payload<'b>),
    /// An answer, or a sign of life.
    Pong(Payload<'b>),
    /// The client's last frame: code and reason, if it gave any.
    Close(Option<(u16, String)>),
}

/// What became of the bytes offered to [`Reader::step`].
#[derive(Debug)]
pub enum Step<'b> {
    /// Something is whole.
    Frame(Frame<'b>),
    /// A fragment is done, its message is not: call again.
    Progress,
    /// What is left, if anything, is the beginning of a header.
    NeedMore,
}

/// Turns received bytes into [`Frame`]s. Owns no heap between two messages.
#[derive(Debug, Default)]
pub struct Reader {
    /// Invariant: `Some` only while a message or a frame is begun and not done.
    partial: Option<Box<Partial>>,
}

/// What is gathered of a message and of the frame in progress.
#[derive(Debug, Default)]
struct Partial {
    /// Whether a data frame has begun a message that is not done.
    is_open: bool,
    is_text: bool,
    utf8: Utf8,
    fragments: u32,
    /// Invariant: empty unless `is_open`.
    buffer: Vec<u8>,
    frame: Option<Rest>,
}

/// A frame whose header has been read and whose payload has not.
#[derive(Debug)]
struct Rest {
    opcode: Opcode,
    fin: bool,
    /// The mask, turned so that it applies to the next byte.
    key: [u8; 4],
    left: u64,
    /// The payload so far, if this is a control frame.
    control: Vec<u8>,
}

impl Reader {
    /// A reader at the start of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { partial: None }
    }

    /// Whether it waits between two messages and owns no heap.
    #[inline]
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Payload bytes still missing of the frame in progress, 0 if there is none.
    #[must_use]
    pub fn want(&self) -> usize {
        let frame = self.partial.as_ref().and_then(|partial| partial.frame.as_ref());
        frame.map_or(0, |frame| usize::try_from(frame.left).unwrap_or(usize::MAX))
    }

    /// Bytes of heap owned.
    #[must_use]
    pub fn heap(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let control = partial.frame.as_ref().map_or(0, |frame| frame.control.capacity());
            size_of::<Partial>() + partial.buffer.capacity() + control
        })
    }

    /// Takes what it can from the front of `input` and advances it.
    ///
    /// [`Step::NeedMore`] leaves less than a header, at most 13 bytes, which the caller keeps and
    /// offers again in front of more. After an error or a [`Frame::Close`] the client has nothing
    /// more to say: what was gathered is gone, and this must not be called again.
    ///
    /// # Errors
    ///
    /// What the client did wrong, as soon as it can be known.
    #[inline]
    pub fn step<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        limits: &WsLimits,
    ) -> Result<Step<'b>, WsError> {
        if self.partial.is_none() { self.begin(input, limits) } else { self.go_on(input, limits) }
    }

    /// As [`step`](Self::step), with something gathered already.
    fn go_on<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        limits: &WsLimits,
    ) -> Result<Step<'b>, WsError> {
        let frame = self.partial.as_mut().and_then(|partial| partial.frame.take());
        let step = match frame {
            Some(frame) => self.gather(frame, input, limits),
            None => self.begin(input, limits),
        };
        if matches!(step, Err(_) | Ok(Step::Frame(Frame::Close(_)))) {
            self.partial = None;
        }
        step
    }

    /// Reads a header and as much of its payload as there is.
    #[inline]
    fn begin<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        limits: &WsLimits,
    ) -> Result<Step<'b>, WsError> {
        let Some(header) = parse_header(input)? else {
            self.check_first_byte(input)?;
            // RFC 6455 §10.4: the length alone decides, before the payload or even its key.
            let is_data = input.first().is_some_and(|first| first & 0x08 == 0);
            let length = stated_length(input).filter(|_| is_data);
            if length.is_some_and(|length| length > limits.frame_bytes_max) {
                return Err(WsError::TooLarge);
            }
            return Ok(Step::NeedMore);
        };
        let is_open = self.partial.as_ref().is_some_and(|partial| partial.is_open);
        if !header.opcode.is_control() {
            self.check(&header, limits)?;
        }
        take_front(input, usize::from(header.size));
        let is_alone = header.opcode.is_control() || (header.fin && !is_open);
        if is_alone && header.len <= input.len() as u64 {
            let payload = take_front(input, header.len as usize);
            unmask(payload, header.key, 0);
            return lend(header.opcode, payload).map(Step::Frame);
        }
        let frame = self.open(&header);
        self.gather(frame, input, limits)
    }

    /// What the first byte of an unfinished header tells.
    fn check_first_byte(&self, input: &[u8]) -> Result<(), WsError> {
        match input.first().map(|first| first & 0x0f) {
            Some(opcode @ 0..=2) => self.check_order(opcode == Opcode::Continuation as u8),
            _ => Ok(()),
        }
    }

    /// RFC 6455 §5.4: a continuation continues, and nothing but a continuation does.
    #[inline]
    fn check_order(&self, is_continuation: bool) -> Result<(), WsError> {
        let is_open = self.partial.as_ref().is_some_and(|partial| partial.is_open);
        if is_continuation == is_open { Ok(()) } else { Err(WsError::Protocol) }
    }

    /// Whether a data frame may come now and be as long as it says, before any of it is kept.
    #[inline]
    fn check(&self, header: &FrameHeader, limits: &WsLimits) -> Result<(), WsError> {
        self.check_order(header.opcode == Opcode::Continuation)?;
        let partial = self.partial.as_ref();
        let gathered = partial.map_or(0, |partial| partial.buffer.len() as u64);
        let is_over = gathered.checked_add(header.len).is_none_or(|n| n > limits.message_bytes_max);
        if is_over || header.len > limits.frame_bytes_max {
            return Err(WsError::TooLarge);
        }
        let before = partial.map_or(0, |partial| partial.fragments);
        if limits.fragments_max != 0 && before >= limits.fragments_max {
            return Err(WsError::Policy);
        }
        Ok(())
    }

    /// Enters a frame that cannot be lent.
    fn open(&mut self, header: &FrameHeader) -> Rest {
        let partial = self.partial.get_or_insert_default();
        if !header.opcode.is_control() {
            if !partial.is_open {
                partial.is_open = true;
                partial.is_text = header.opcode == Opcode::Text;
            }
            partial.fragments = partial.fragments.saturating_add(1);
        }
        Rest {
            opcode: header.opcode,
            fin: header.fin,
            key: header.key,
            left: header.len,
            control: Vec::new(),
        }
    }

    /// Takes the payload that is there of a frame.
    fn gather<'b>(
        &mut self,
        mut frame: Rest,
        input: &mut &'b mut [u8],
        limits: &WsLimits,
    ) -> Result<Step<'b>, WsError> {
        let partial = self.partial.get_or_insert_default();
        let n = usize::try_from(frame.left).map_or(input.len(), |left| left.min(input.len()));
        let piece = take_front(input, n);
        unmask(piece, frame.key, 0);
        if frame.opcode.is_control() {
            frame.control.extend_from_slice(piece);
        } else if let Err(error) = partial.append(piece, &frame, limits) {
            self.partial = None;
            return Err(error);
        }
        frame.key.rotate_left(n % 4);
        frame.left -= n as u64;
        if frame.left > 0 {
            partial.frame = Some(frame);
            return Ok(Step::NeedMore);
        }
        self.finish(frame)
    }

    /// Hands out what the end of a frame completes.
    fn finish<'b>(&mut self, frame: Rest) -> Result<Step<'b>, WsError> {
        if frame.opcode.is_control() {
            if self.partial.as_ref().is_some_and(|partial| !partial.is_open) {
                self.partial = None;
            }
            return control(frame.opcode, Payload::Owned(frame.control)).map(Step::Frame);
        }
        if !frame.fin {
            return Ok(Step::Progress);
        }
        let message = self.partial.take().unwrap_or_default();
        if !message.utf8.is_complete() {
            return Err(WsError::Utf8);
        }
        Ok(Step::Frame(Frame::Message {
            is_text: message.is_text,
            payload: Payload::Owned(message.buffer),
        }))
    }
}

impl Partial {
    /// Takes a piece of a data frame.
    fn append(&mut self, piece: &[u8], frame: &Rest, limits: &WsLimits) -> Result<(), WsError> {
        if self.is_text {
            // RFC 6455 §8.1: fail "when it is determined that" the text is not UTF-8.
            self.utf8.push(piece).map_err(|_| WsError::Utf8)?;
        }
        // Where the message ends, if this is known, else where it must.
        let end = if frame.fin {
            (self.buffer.len() as u64).saturating_add(frame.left)
        } else {
            limits.message_bytes_max
        };
        reserve(&mut self.buffer, piece.len(), usize::try_from(end).unwrap_or(usize::MAX));
        self.buffer.extend_from_slice(piece);
        Ok(())
    }
}

/// Makes room for `more` bytes: doubles what is there, but not past the `end` of the message.
fn reserve(buffer: &mut Vec<u8>, more: usize, end: usize) {
    if buffer.capacity() - buffer.len() < more {
        let doubled = buffer.capacity().saturating_mul(2).max(BUFFER_BYTES_MIN);
        let room = doubled.min(end).saturating_sub(buffer.len());
        buffer.reserve_exact(room.max(more));
    }
}

/// A message that lies whole in the input.
#[inline]
fn lend(opcode: Opcode, payload: &mut [u8]) -> Result<Frame<'_>, WsError> {
    if opcode == Opcode::Text && !is_utf8(payload) {
        return Err(WsError::Utf8);
    }
    if opcode.is_control() {
        return control(opcode, Payload::Borrowed(payload));
    }
    Ok(Frame::Message { is_text: opcode == Opcode::Text, payload: Payload::Borrowed(payload) })
}

fn control(opcode: Opcode, payload: Payload<'_>) -> Result<Frame<'_>, WsError> {
    Ok(match opcode {
        Opcode::Ping => Frame::Ping(payload),
        Opcode::Pong => Frame::Pong(payload),
        Opcode::Close | Opcode::Continuation | Opcode::Text | Opcode::Binary => {
            let close = parse_close(&payload)?;
            Frame::Close(close.map(|(code, reason)| (code, reason.to_owned())))
        }
    })
}

/// Splits the first `n` bytes off.
#[inline]
fn take_front<'b>(input: &mut &'b mut [u8], n: usize) -> &'b mut [u8] {
    let (front, rest) = mem::take(input).split_at_mut(n);
    *input = rest;
    front
}

/// First room for a message that is gathered.
const BUFFER_BYTES_MIN: usize = 64;

#[doc(hidden)]
pub use fuzz::fuzz_frames;

#[path = "ws_fuzz.rs"]
pub(super) mod fuzz;
#[cfg(test)]
#[path = "ws_tests.rs"]
mod tests;
