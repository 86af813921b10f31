//! The request body: which framing applies, and where its bytes lie.
//!
//! [`Body`] is fed whatever arrived, in pieces of any size, and says which of those bytes are
//! payload. It keeps none of them and has no limit of its own for the payload: the caller counts.
//! The chunk decoder takes one reading of RFC 9112 §7.1 and refuses every other: CRLF only,
//! compared everywhere, no white space around sizes.

use std::fmt;

use super::target::{hex, is_tchar};
use crate::code::Code;

/// How the body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is none, also with `Content-Length: 0`.
    #[default]
    None,
    /// That many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Why no framing applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FramingError {
    /// Malformed, or two servers could read it differently.
    Ambiguous,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
}

impl Framing {
    /// Decides from the only `Content-Length` and the only `Transfer-Encoding` (RFC 9112 §6.3).
    pub(super) fn of(
        content_length: Option<&[u8]>,
        transfer_encoding: Option<&[u8]>,
        is_http11: bool,
    ) -> Result<Self, FramingError> {
        match (content_length, transfer_encoding) {
            (None, None) => Ok(Self::None),
            (Some(digits), None) => match parse_length(digits) {
                Some(0) => Ok(Self::None),
                Some(length) => Ok(Self::Length(length)),
                None => Err(FramingError::Ambiguous),
            },
            (None, Some(codings)) if is_http11 => parse_codings(codings),
            // RFC 9112 §6.1: both, or chunked on HTTP/1.0, is how requests are smuggled.
            (_, Some(_)) => Err(FramingError::Ambiguous),
        }
    }
}

/// `1*DIGIT`, at most 19 of them: no sign, no list (RFC 9110 §8.6).
fn parse_length(digits: &[u8]) -> Option<u64> {
    if !(1..=19).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Takes exactly `chunked`. What is no list of codings, or names `chunked` before its end, leaves
/// the body's length open (RFC 9112 §6.3); any other coding is merely unknown.
fn parse_codings(value: &[u8]) -> Result<Framing, FramingError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    let mut was_chunked = false;
    for element in value.split(|b| *b == b',') {
        let name_end = element.iter().position(|b| *b == b';').unwrap_or(element.len());
        let name = element[..name_end].trim_ascii();
        let is_chunked = name.eq_ignore_ascii_case(b"chunked");
        let has_parameters = name_end < element.len();
        let is_token = !name.is_empty() && name.iter().all(|b| is_tchar(*b));
        if was_chunked || !is_token || (is_chunked && has_parameters) {
            return Err(FramingError::Ambiguous);
        }
        was_chunked = is_chunked;
    }
    Err(FramingError::UnknownCoding)
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// `input[start..end]` is payload; never empty.
    Data {
        /// Where it starts.
        start: usize,
        /// Where it ends; as many bytes are consumed.
        end: usize,
    },
    /// The input is used up and the body goes on.
    NeedMore,
    /// The body is over. What was not consumed belongs to the next request.
    Done,
}

/// The body is malformed: 400, and the connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyError;

impl BodyError {
    /// The name of the refusal.
    #[must_use]
    pub const fn code(self) -> Code {
        Code::BadRequest
    }

    /// What to do about it.
    #[must_use]
    pub const fn message(self) -> &'static str {
        "send well-formed chunks: a hexadecimal size, CRLF, as many bytes, CRLF; at the end 0, \
         CRLF, CRLF"
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for BodyError {}

/// Chunk extensions of one chunk, from the `;` (RFC 9112 §7.1.1 wants a limit).
const CHUNK_EXTENSION_BYTES_MAX: u16 = 256;
/// Chunk extensions of a whole body.
const EXTENSION_BYTES_MAX: u16 = 4096;
/// Trailer fields, with their line ends.
const TRAILER_BYTES_MAX: u16 = 4096;
const SIZE_DIGITS_MAX: u8 = 16;

/// A body that is being received.
#[derive(Clone, Debug)]
pub struct Body {
    /// What is missing of the chunk, or of the whole body; in a size line the size so far.
    left: u64,
    /// `Content-Length`, or the sum of the chunk sizes so far.
    total: u64,
    /// Of this chunk.
    extension_bytes: u16,
    /// Of all chunks.
    extension_bytes_total: u16,
    trailer_bytes: u16,
    size_digits: u8,
    state: State,
    is_chunked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a chunk size.
    Size,
    /// After the `;` of a size line.
    Extension,
    /// After the CR of a size line.
    SizeLf,
    /// Invariant: `left > 0`.
    Data,
    /// After the data of a chunk.
    DataCr,
    DataLf,
    /// At the start of a trailer field, or of the empty line after the last.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    /// After the CR of the empty line.
    LastLf,
    Done,
    Failed,
}

impl Body {
    /// Starts a body; `None` if there is none.
    #[must_use]
    pub fn new(framing: Framing) -> Option<Self> {
        let (left, state) = match framing {
            Framing::None => return None,
            Framing::Length(0) => (0, State::Done),
            Framing::Length(length) => (length, State::Data),
            Framing::Chunked => (0, State::Size),
        };
        Some(Self {
            left,
            total: left,
            extension_bytes: 0,
            extension_bytes_total: 0,
            trailer_bytes: 0,
            size_digits: 0,
            state,
            is_chunked: framing == Framing::Chunked,
        })
    }

    /// What is still missing of the chunk, or of the whole body, that has been announced.
    #[must_use]
    pub fn announced(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// The length that the head stated.
    #[must_use]
    pub fn declared(&self) -> Option<u64> {
        (!self.is_chunked).then_some(self.total)
    }

    /// Looks at `input`, which follows what earlier steps consumed, and returns how much of it is
    /// consumed now. Call it in a loop, until there is nothing more to say.
    ///
    /// # Errors
    ///
    /// At the first byte that RFC 9112 §7.1 or a limit forbids, and from then on.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, BodyStep), BodyError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Done => return Ok((at, BodyStep::Done)),
                State::Data if at < input.len() => {
                    let end = at + self.take_data(input.len() - at);
                    return Ok((end, BodyStep::Data { start: at, end }));
                }
                _ => {}
            }
            let Some(byte) = input.get(at) else {
                return if self.state == State::Failed {
                    Err(BodyError)
                } else {
                    Ok((at, BodyStep::NeedMore))
                };
            };
            let next = self.handle_byte(*byte);
            self.state = next.unwrap_or(State::Failed);
            next?;
            at += 1;
        }
    }

    /// Takes payload; returns how much of what is there.
    fn take_data(&mut self, there: usize) -> usize {
        let taken = self.left.min(there as u64);
        self.left -= taken;
        if self.left == 0 {
            self.state = if self.is_chunked { State::DataCr } else { State::Done };
        }
        taken as usize // at most `there`
    }

    /// Takes a byte between the payloads; returns the state that follows.
    fn handle_byte(&mut self, byte: u8) -> Result<State, BodyError> {
        Ok(match (self.state, byte) {
            (State::Size, b'\r' | b';') if self.size_digits == 0 => return Err(BodyError),
            (State::Size | State::Extension, b'\r') => State::SizeLf,
            (State::Size, b';') | (State::Extension, b'\t' | b' '..=b'~') => {
                self.count_extension()?;
                State::Extension
            }
            (State::Size, digit) => {
                self.add_digit(digit)?;
                State::Size
            }
            (State::SizeLf, b'\n') => self.end_size_line()?,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerStart | State::TrailerName, name) if is_tchar(name) => {
                self.count_trailer()?;
                State::TrailerName
            }
            (State::TrailerName, b':')
            | (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..=0xff) => {
                self.count_trailer()?;
                State::TrailerValue
            }
            (State::TrailerValue, b'\r') => {
                self.count_trailer()?;
                State::TrailerLf
            }
            (State::TrailerLf, b'\n') => {
                self.count_trailer()?;
                State::TrailerStart
            }
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(BodyError),
        })
    }

    fn add_digit(&mut self, digit: u8) -> Result<(), BodyError> {
        let value = hex(digit).ok_or(BodyError)?;
        if self.size_digits == SIZE_DIGITS_MAX {
            return Err(BodyError);
        }
        self.size_digits += 1;
        self.left = self.left << 4 | u64::from(value); // 16 digits are 64 bits
        Ok(())
    }

    fn count_extension(&mut self) -> Result<(), BodyError> {
        self.extension_bytes += 1;
        self.extension_bytes_total += 1;
        let is_over = self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX
            || self.extension_bytes_total > EXTENSION_BYTES_MAX;
        if is_over { Err(BodyError) } else { Ok(()) }
    }

    fn count_trailer(&mut self) -> Result<(), BodyError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX { Err(BodyError) } else { Ok(()) }
    }

    fn end_size_line(&mut self) -> Result<State, BodyError> {
        self.total = self.total.checked_add(self.left).ok_or(BodyError)?;
        self.size_digits = 0;
        self.extension_bytes = 0;
        Ok(if self.left == 0 { State::TrailerStart } else { State::Data })
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
