//! A connection in memory around a [`Reader`], which asserts what the reader promises; the fuzz
//! target and the tests run it.

use super::{BUFFER_BYTES_MIN, Frame, Partial, Reader, Step, WsLimits};
use crate::wire::ws::{HEADER_BYTES_MAX, WsError};

/// What a stream of bytes came to, piece by piece; for tests and fuzzing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Error(WsError),
}

impl Seen {
    pub(crate) fn new(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Message { is_text: true, payload } => {
                Self::Text(String::from_utf8(payload.into_vec()).expect("texts are UTF-8"))
            }
            Frame::Message { is_text: false, payload } => Self::Binary(payload.into_vec()),
            Frame::Ping(payload) => Self::Ping(payload.into_vec()),
            Frame::Pong(payload) => Self::Pong(payload.into_vec()),
            Frame::Close(close) => Self::Close(close),
        }
    }
}

/// Reads `wire` as a connection would that receives `next_read()` bytes at a time.
///
/// Asserts what a [`Reader`] promises about its input and its memory.
pub(crate) fn replay(
    wire: &[u8],
    limits: &WsLimits,
    mut next_read: impl FnMut() -> usize,
) -> Vec<Seen> {
    let mut reader = Reader::new();
    let mut seen = Vec::new();
    let (mut kept, mut rest) = (Vec::new(), wire);
    // Bytes received since the reader last was idle.
    let mut received = 0;
    while !rest.is_empty() {
        let (read, later) = rest.split_at(next_read().clamp(1, rest.len()));
        rest = later;
        received += read.len();
        kept.extend_from_slice(read);
        let mut input = &mut kept[..];
        loop {
            let before = input.len();
            let step = reader.step(&mut input, limits);
            assert!(reader.heap() <= 2 * received + HEAP_SLACK, "memory nobody sent");
            match step {
                Ok(Step::NeedMore) => break,
                Ok(Step::Progress) => assert!(!reader.is_idle()),
                Ok(Step::Frame(frame)) => {
                    seen.push(Seen::new(frame));
                    if matches!(seen.last(), Some(Seen::Close(_))) {
                        assert!(reader.is_idle());
                        return seen;
                    }
                }
                Err(error) => {
                    seen.push(Seen::Error(error));
                    assert!(reader.is_idle());
                    return seen;
                }
            }
            assert!(input.len() < before, "a step without a byte");
        }
        assert!(input.len() < HEADER_BYTES_MAX);
        assert!(reader.want() == 0 || input.is_empty());
        kept = input.to_vec();
        if reader.is_idle() {
            received = kept.len();
        }
    }
    seen
}

const HEAP_SLACK: usize = size_of::<Partial>() + 2 * BUFFER_BYTES_MIN;

/// Reads `data` whole and in pieces and compares, then as the payload of a message in fragments with
/// control frames between them. The first four bytes choose the limits and the pieces.
///
/// # Panics
///
/// If a promise of [`Reader`] does not hold, which would be a bug.
#[doc(hidden)]
pub fn fuzz_frames(data: &[u8]) {
    let Some(([frame, message, fragments, pieces], wire)) = data.split_first_chunk::<4>() else {
        return;
    };
    let limits = WsLimits {
        frame_bytes_max: 1 << (frame % 20),
        message_bytes_max: 1 << (message % 20),
        fragments_max: u32::from(fragments % 8),
    };
    let whole = replay(wire, &limits, || usize::MAX);
    let mut random = fastrand::Rng::with_seed(u64::from(*pieces));
    let split = replay(wire, &limits, || random.usize(..usize::from(pieces % 32) + 1));
    assert_eq!(whole, split);
    assert_eq!(whole, replay(wire, &limits, || 1));
    for event in &whole {
        check(event, &limits);
    }
    check_written(wire, usize::from(*frame) + 1, u32::from(*message));
}

fn check(event: &Seen, limits: &WsLimits) {
    match event {
        Seen::Text(text) => assert!(text.len() as u64 <= limits.message_bytes_max),
        Seen::Binary(bytes) => assert!(bytes.len() as u64 <= limits.message_bytes_max),
        Seen::Ping(bytes) | Seen::Pong(bytes) => assert!(bytes.len() <= 125),
        Seen::Close(Some((code, reason))) => {
            // RFC 6455 §7.4: codes that may be on the wire.
            assert!(matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) && reason.len() <= 123);
        }
        Seen::Close(None) | Seen::Error(_) => {}
    }
}

/// What a client may write is read as it was meant.
fn check_written(payload: &[u8], piece_bytes: usize, key: u32) {
    let key = key.wrapping_mul(0x9e37_79b9).to_be_bytes();
    let is_text = std::str::from_utf8(payload).is_ok();
    let fragments: Vec<&[u8]> = payload.chunks(piece_bytes).collect();
    let (mut wire, mut expected) = (Vec::new(), Vec::new());
    for (at, fragment) in fragments.iter().enumerate() {
        let opcode = if at > 0 { 0 } else { 2 - u8::from(is_text) };
        let is_last = at + 1 == fragments.len();
        write(&mut wire, u8::from(is_last) << 7 | opcode, fragment, key);
        if is_last {
            let whole = || payload.to_vec();
            let text = String::from_utf8(whole());
            expected.push(text.map_or_else(|_| Seen::Binary(whole()), Seen::Text));
        }
        let ping = &fragment[..fragment.len().min(125)];
        write(&mut wire, 0x89, ping, key);
        expected.push(Seen::Ping(ping.to_vec()));
    }
    let size = payload.len() as u64;
    let limits = WsLimits { frame_bytes_max: size, message_bytes_max: size, fragments_max: 0 };
    assert_eq!(replay(&wire, &limits, || usize::MAX), expected);
    assert_eq!(replay(&wire, &limits, || 3), expected);
}

/// Appends a client's frame.
fn write(out: &mut Vec<u8>, first: u8, payload: &[u8], key: [u8; 4]) {
    out.push(first);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
}
