//! The names of everything that can be refused, and the HTTP status that each name stands for.
//!
//! One list for all transports: the body of an HTTP error, the `code` of a WebSocket `error` and
//! the counters in `/stats` use the same words.

use std::borrow::Cow;
use std::fmt;

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum Code {
    /// Malformed or ambiguous request, or a field of the wrong type.
    BadRequest,
    /// A channel name outside the alphabet.
    BadChannel,
    /// A `since` that is none.
    BadSince,
    /// JSON that does not parse, or nests too deeply.
    BadJson,
    /// A query that cannot be read.
    BadQuery,
    /// Credentials are missing.
    Unauthorized,
    /// Not allowed.
    Forbidden,
    /// The `Origin` is not allowed.
    Origin,
    /// No such path.
    NotFound,
    /// The method does not fit the path.
    Method,
    /// The peer was too slow.
    Timeout,
    /// A body without a length.
    LengthRequired,
    /// Too many bytes.
    TooLarge,
    /// The request line is too long.
    UriTooLong,
    /// A content coding or media type that is not taken here.
    MediaType,
    /// An expectation other than `100-continue`.
    Expectation,
    /// A `Host` that is not served here.
    Host,
    /// This path wants a WebSocket upgrade.
    Upgrade,
    /// Too many requests.
    RateLimited,
    /// The request head is too large.
    HeadersTooLarge,
    /// An unknown method or transfer coding.
    NotImplemented,
    /// A limit of the server is reached.
    Overloaded,
    /// The server is shutting down.
    Draining,
    /// An HTTP version other than 1.0 and 1.1.
    Version,
}

impl Code {
    /// How many codes there are; they number from 0.
    pub const COUNT: usize = Self::Version as usize + 1;

    /// All codes, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::BadRequest,
        Self::BadChannel,
        Self::BadSince,
        Self::BadJson,
        Self::BadQuery,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Origin,
        Self::NotFound,
        Self::Method,
        Self::Timeout,
        Self::LengthRequired,
        Self::TooLarge,
        Self::UriTooLong,
        Self::MediaType,
        Self::Expectation,
        Self::Host,
        Self::Upgrade,
        Self::RateLimited,
        Self::HeadersTooLarge,
        Self::NotImplemented,
        Self::Overloaded,
        Self::Draining,
        Self::Version,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::BadChannel => "bad_channel",
            Self::BadSince => "bad_since",
            Self::BadJson => "bad_json",
            Self::BadQuery => "bad_query",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Origin => "origin",
            Self::NotFound => "not_found",
            Self::Method => "method",
            Self::Timeout => "timeout",
            Self::LengthRequired => "length_required",
            Self::TooLarge => "too_large",
            Self::UriTooLong => "uri_too_long",
            Self::MediaType => "media_type",
            Self::Expectation => "expectation",
            Self::Host => "host",
            Self::Upgrade => "upgrade",
            Self::RateLimited => "rate_limited",
            Self::HeadersTooLarge => "headers_too_large",
            Self::NotImplemented => "not_implemented",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::Version => "version",
        }
    }

    /// The HTTP status that carries it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest
            | Self::BadChannel
            | Self::BadSince
            | Self::BadJson
            | Self::BadQuery => 400,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::Origin => 403,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::Timeout => 408,
            Self::LengthRequired => 411,
            Self::TooLarge => 413,
            Self::UriTooLong => 414,
            Self::MediaType => 415,
            Self::Expectation => 417,
            Self::Host => 421,
            Self::Upgrade => 426,
            Self::RateLimited => 429,
            Self::HeadersTooLarge => 431,
            Self::NotImplemented => 501,
            Self::Overloaded | Self::Draining => 503,
            Self::Version => 505,
        }
    }
}

/// A refusal: what, and a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The name of the reason.
    pub code: Code,
    /// What to do about it. Never contains raw input.
    pub message: Cow<'static, str>,
    /// After how many milliseconds it is worth another try; 0: a few seconds, if ever.
    pub retry_ms: u32,
}

impl Refusal {
    /// A refusal with a fixed text.
    #[must_use]
    pub const fn new(code: Code, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message), retry_ms: 0 }
    }

    /// The same, with when to try again.
    #[must_use]
    pub(crate) fn after_us(self, wait_us: u64) -> Self {
        let retry_ms = u32::try_from(wait_us.div_ceil(1_000)).unwrap_or(u32::MAX);
        Self { retry_ms: retry_ms.max(1), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_number_as_they_are_listed() {
        for (number, code) in Code::ALL.iter().enumerate() {
            assert_eq!(*code as usize, number);
        }
    }
}
