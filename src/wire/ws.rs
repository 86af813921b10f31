//! WebSocket frames (RFC 6455 §5): headers in, masks off, frames out.
//!
//! Only bytes: which frame may follow which, limits and whole messages are the connection's
//! business. Reads what a client sends (masked) and writes what a server sends (unmasked); no
//! extension is ever negotiated, so that every reserved bit is an error.

use std::{fmt, str};

/// What a frame carries (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message that an earlier frame began.
    Continuation = 0,
    /// The first, or only, frame of a text.
    Text = 1,
    /// The first, or only, frame of a binary message.
    Binary = 2,
    /// The last frame of a side.
    Close = 8,
    /// To be answered with a pong.
    Ping = 9,
    /// The answer to a ping, or a sign of life.
    Pong = 10,
}

impl Opcode {
    /// Close, ping and pong may come between the frames of a message (RFC 6455 §5.5).
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }

    #[inline]
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// What precedes a client's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether the frame ends its message.
    pub fin: bool,
    /// What it carries.
    pub opcode: Opcode,
    /// The mask of its payload.
    pub key: [u8; 4],
    /// Bytes of its payload.
    pub len: u64,
    /// Bytes of the header itself, with the key: 6, 8 or 14.
    pub size: u8,
}

/// What the peer did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WsError {
    /// Bytes that are no WebSocket frames, or frames in an order that cannot be.
    Protocol,
    /// A text that is not UTF-8.
    Utf8,
    /// More fragments than are allowed.
    Policy,
    /// A frame or message with more bytes than are allowed.
    TooLarge,
}

impl WsError {
    /// The code to close with (RFC 6455 §7.4.1).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::Utf8 => 1007,
            Self::Policy => 1008,
            Self::TooLarge => 1009,
        }
    }
}

impl fmt::Display for WsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "no valid WebSocket frames",
            Self::Utf8 => "a text that is not UTF-8",
            Self::Policy => "too many fragments",
            Self::TooLarge => "a frame or message that is too large",
        })
    }
}

impl std::error::Error for WsError {}

/// Longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// Longest reason of a close: what a control frame holds after the code.
pub const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;
/// Longest header of a client's frame.
pub const HEADER_BYTES_MAX: usize = 14;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// Reads the header of a client's frame from the front of `buf`; `None`: more bytes are needed.
///
/// # Errors
///
/// `Protocol` as soon as the bytes that are there cannot begin a frame.
#[inline]
pub fn parse_header(buf: &[u8]) -> Result<Option<FrameHeader>, WsError> {
    let Some(&first) = buf.first() else {
        return Ok(None);
    };
    // RFC 6455 §5.2: reserved bits are 0 unless an extension was negotiated.
    if first & RESERVED != 0 {
        return Err(WsError::Protocol);
    }
    let fin = first & FIN != 0;
    let Some(opcode) = Opcode::from_bits(first & OPCODE) else {
        return Err(WsError::Protocol);
    };
    // RFC 6455 §5.5: control frames are never fragmented.
    if opcode.is_control() && !fin {
        return Err(WsError::Protocol);
    }
    let Some(&second) = buf.get(1) else {
        return Ok(None);
    };
    // RFC 6455 §5.1: a client masks every frame; §5.5: a control frame has at most 125 bytes.
    let short = second & LENGTH;
    if second & MASK == 0 || (opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX) {
        return Err(WsError::Protocol);
    }
    let (len, at) = match short {
        126 | 127 => match parse_long_length(short, buf)? {
            Some(found) => found,
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    let key = buf.get(at..).and_then(|rest| rest.first_chunk::<4>());
    Ok(key.map(|key| FrameHeader { fin, opcode, key: *key, len, size: at as u8 + 4 }))
}

/// The payload length of a frame whose key may still be missing, if it is there and valid: too much
/// can be refused before anything of it has come.
#[must_use]
pub fn stated_length(buf: &[u8]) -> Option<u64> {
    match buf.get(1)? & LENGTH {
        short @ 126.. => Some(parse_long_length(short, buf).ok()??.0),
        short => Some(u64::from(short)),
    }
}

/// The two- or eight-byte length and where it ends. RFC 6455 §5.2: the shortest form must be
/// used, and the highest bit of the long one is 0.
fn parse_long_length(short: u8, buf: &[u8]) -> Result<Option<(u64, usize)>, WsError> {
    let digits = &buf[2..];
    let found = if short == 126 {
        let Some(bytes) = digits.first_chunk::<2>() else {
            return Ok(None);
        };
        let len = u64::from(u16::from_be_bytes(*bytes));
        (len > 125).then_some((len, 4))
    } else {
        if digits.first().is_some_and(|high| high & 0x80 != 0) {
            return Err(WsError::Protocol);
        }
        if digits.first_chunk::<6>().is_some_and(|high| *high == [0; 6]) {
            return Err(WsError::Protocol);
        }
        let Some(bytes) = digits.first_chunk::<8>() else {
            return Ok(None);
        };
        Some((u64::from_be_bytes(*bytes), 10))
    };
    found.map(Some).ok_or(WsError::Protocol)
}

/// Takes the mask off a payload, or a piece of it that begins at offset `phase` (RFC 6455 §5.3).
#[inline]
pub fn unmask(bytes: &mut [u8], key: [u8; 4], phase: usize) {
    let turned = u32::from_ne_bytes(key_at(key, phase));
    let wide = u64::from(turned) << 32 | u64::from(turned);
    // In blocks of a known length, which become a few wide instructions even for a short payload.
    let mut blocks = bytes.chunks_exact_mut(32);
    for block in &mut blocks {
        unmask_words(block, wide);
    }
    let rest = unmask_words(blocks.into_remainder(), wide);
    for (byte, mask) in rest.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= mask;
    }
}

/// Unmasks whole words; returns what follows the last.
#[inline]
fn unmask_words(bytes: &mut [u8], wide: u64) -> &mut [u8] {
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*word) {
            word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    words.into_remainder()
}

/// The key as it applies from `offset` on.
#[inline]
fn key_at(mut key: [u8; 4], offset: usize) -> [u8; 4] {
    key.rotate_left(offset % 4);
    key
}

/// Appends the header of a server's frame: final, unmasked, in the shortest form.
#[inline]
pub fn emit_header(out: &mut Vec<u8>, opcode: Opcode, len: usize) {
    let first = FIN | opcode as u8;
    if len <= 125 {
        out.extend_from_slice(&[first, len as u8]);
    } else if let Ok(len) = u16::try_from(len) {
        let [high, low] = len.to_be_bytes();
        out.extend_from_slice(&[first, 126, high, low]);
    } else {
        let mut header = [first, 127, 0, 0, 0, 0, 0, 0, 0, 0];
        header[2..].copy_from_slice(&(len as u64).to_be_bytes());
        out.extend_from_slice(&header);
    }
}

/// Appends a server's frame. A control frame holds at most [`CONTROL_BYTES_MAX`].
#[inline]
pub fn emit(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    debug_assert!(!opcode.is_control() || payload.len() <= CONTROL_BYTES_MAX);
    emit_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a close with a code and a reason, cut to what fits.
///
/// A close without a code, the answer to one without, is [`emit`] with nothing.
pub fn emit_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    // RFC 6455 §7.4.1: 1005, 1006 and 1015 are never sent.
    debug_assert!(is_close_code(code), "{code} must not be sent");
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    emit_header(out, Opcode::Close, 2 + end);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..end]);
}

/// Reads the payload of a close: nothing, or a code and a reason (RFC 6455 §5.5.1).
///
/// # Errors
///
/// `Protocol` for half a code or one that must not be sent, `Utf8` for the reason.
pub fn parse_close(payload: &[u8]) -> Result<Option<(u16, &str)>, WsError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return Err(WsError::Protocol);
    };
    let code = u16::from_be_bytes(*code);
    if !is_close_code(code) {
        return Err(WsError::Protocol);
    }
    let reason = str::from_utf8(reason).map_err(|_| WsError::Utf8)?;
    Ok(Some((code, reason)))
}

/// Whether a close may carry `code` (RFC 6455 §7.4 and the IANA registry).
#[must_use]
pub const fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
#[path = "ws_tests.rs"]
mod tests;
