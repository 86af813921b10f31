//! What an application answers: a response, or the way to a WebSocket of its own. Headers are checked
//! when they are given; what is wrong with an answer is told before any of it is sent.

use std::fmt;

use crate::wire::http::response::{is_header_name, is_header_value};

/// Lines that the server writes itself, for they frame what it sends.
const OURS: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "date",
    "keep-alive",
    "proxy-connection",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-content-type-options",
];
/// All lines of one answer.
const HEADERS_BYTES_MAX: usize = 8 * 1024;

/// Why an application's answer cannot be sent. In its place the client gets a 500, and the log a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadResponse(String);

impl fmt::Display for BadResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadResponse {}

/// Header lines of an application's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers {
    /// Each ends in CRLF.
    pub(crate) lines: Vec<u8>,
    pub(crate) has_cache_control: bool,
    pub(crate) has_allow_origin: bool,
    /// What is wrong with the first that is.
    fault: Option<BadResponse>,
}

impl Headers {
    fn add(&mut self, name: &str, value: &[u8]) {
        let fault = |why: &str| Some(BadResponse(format!("header {name:?}: {why}")));
        let lower = name.to_ascii_lowercase();
        let len = self.lines.len() + name.len() + value.len() + 4;
        let fault = if !is_header_name(name) {
            fault("its name is no token (RFC 9110 §5.6.2)")
        } else if OURS.contains(&&*lower) || lower.starts_with("sec-websocket-") {
            fault("the server writes it itself")
        } else if !is_header_value(value) {
            fault("its value has control characters")
        } else if len > HEADERS_BYTES_MAX {
            fault("more than 8 KiB in all")
        } else {
            None
        };
        if fault.is_some() {
            self.fault = self.fault.take().or(fault);
            return;
        }
        self.has_cache_control |= lower == "cache-control";
        self.has_allow_origin |= lower == "access-control-allow-origin";
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
    }

    fn check(&self) -> Result<(), BadResponse> {
        self.fault.clone().map_or(Ok(()), Err)
    }
}

/// An application's own HTTP answer.
///
/// The server adds `Server`, `Date`, `Content-Length`, `Connection` and `X-Content-Type-Options:
/// nosniff`, besides `Cache-Control: no-store` unless there is one, `Vary: Origin`, and what CORS
/// wants for an origin that it allows. To a HEAD it sends the headers alone.
///
/// ```
/// use holdline::engine::Response;
///
/// let page = Response::new(200, "text/html; charset=utf-8", "<h1>hello</h1>")
///     .header("Cache-Control", "max-age=60")
///     .header("ETag", "\"1\"");
/// assert!(page.check().is_ok());
/// let moved = Response::empty(303).header("Location", "/done\r\nSet-Cookie: stolen=1");
/// assert!(moved.check().is_err()); // would be sent as a 500
/// ```
#[derive(Clone, Debug)]
pub struct Response {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
    pub(crate) headers: Headers,
}

impl Response {
    /// A response with a body. Its status is 200 to 599; 204, 205 and 304 have no body.
    #[must_use]
    pub fn new(status: u16, content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        let (content_type, body) = (content_type.into(), body.into());
        Self { status, content_type, body, headers: Headers::default() }
    }

    /// A response without a body, such as 204 or a redirect.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self::new(status, "", "")
    }

    /// Adds a header line; all of them together have at most 8 KiB. What frames the answer
    /// (`Content-Length`, `Connection` …) is the server's, and the content type is given to
    /// [`new`](Self::new). One that is not good spoils the response; see [`check`](Self::check).
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value.as_ref());
        self
    }

    /// Whether it can be sent. If not, it is a 500 to the client and a line in the log: values that
    /// come from outside may be given to it as they are.
    ///
    /// # Errors
    /// What is wrong with the status, the content type, the first bad header, or a body where there is
    /// none.
    pub fn check(&self) -> Result<(), BadResponse> {
        self.headers.check()?;
        if !(200..=599).contains(&self.status) {
            return Err(BadResponse(format!("status {} is not 200 to 599", self.status)));
        }
        if !is_header_value(self.content_type.as_bytes()) {
            return Err(BadResponse("the content type has control characters".to_owned()));
        }
        if matches!(self.status, 204 | 205 | 304) && !self.body.is_empty() {
            return Err(BadResponse(format!("status {} has no body", self.status)));
        }
        Ok(())
    }
}

/// The way to a WebSocket of the application's own, with more than [`Route::WebSocket`] says.
///
/// [`Route::WebSocket`]: super::Route::WebSocket
#[derive(Clone, Debug, Default)]
pub struct Upgrade {
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Headers,
}

impl Upgrade {
    /// Without a subprotocol.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects a subprotocol. One that the client did not offer is left out.
    #[must_use]
    pub fn protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocol = Some(protocol.into());
        self
    }

    /// Adds a header line to the 101, such as `Set-Cookie`; as [`Response::header`].
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value.as_ref());
        self
    }

    /// Whether it can be sent. If not, the client gets a 500 and the log a line.
    ///
    /// # Errors
    /// What is wrong with the first bad header.
    pub fn check(&self) -> Result<(), BadResponse> {
        self.headers.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_frame_or_split_an_answer_is_no_header() {
        for (name, value) in [
            ("Content-Length", "5"),
            ("transfer-encoding", "chunked"),
            ("CONNECTION", "close"),
            ("Sec-WebSocket-Accept", "x"),
            ("Set Cookie", "a"),
            ("", "a"),
            ("X:Y", "a"),
            ("X\r\nY", "a"),
            ("X", "a\r\nSet-Cookie: b"),
            ("X", "a\nb"),
            ("X", "a\0"),
        ] {
            let response = Response::empty(200).header(name, value).header("Good", "yes");
            let error = response.check().expect_err(name).to_string();
            assert!(error.starts_with(&format!("header {name:?}: ")), "{error}");
            assert!(Upgrade::new().header(name, value).check().is_err());
        }
    }

    #[test]
    fn headers_are_bounded_in_all() {
        let mut response = Response::empty(200);
        for _ in 0..8 {
            response = response.header("X", "v".repeat(1_000));
        }
        assert!(response.check().is_ok());
        assert!(response.header("X", "v".repeat(200)).check().is_err());
    }

    #[test]
    fn a_status_is_one_of_an_answer_and_a_body_stands_where_one_may() {
        for (status, body, is_good) in [
            (200, "x", true),
            (599, "x", true),
            (199, "", false),
            (100, "", false),
            (600, "", false),
            (0, "", false),
            (204, "", true),
            (204, "x", false),
            (205, "x", false),
            (304, "x", false),
        ] {
            let response = Response::new(status, "text/plain", body);
            assert_eq!(response.check().is_ok(), is_good, "{status} {body:?}");
        }
        assert!(Response::new(200, "text/plain\r\nX: y", "").check().is_err());
    }
}
