//! Response heads. Header names are constants, and every value that is not ours passes one check.

use super::target::is_tchar;
use crate::json;

/// What goes into one response head besides its status.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead<'a> {
    /// `Date`, formatted by the caller once a second.
    pub date: &'a [u8],
    /// `Content-Type`; none where there is no body.
    pub content_type: Option<&'a str>,
    /// `Content-Length`; none for what is chunked, ends with the connection, or has no body.
    pub content_length: Option<u64>,
    /// Further lines, each ending in CRLF, made by [`push_header`] or constants.
    pub extra: &'a [u8],
    /// Whether the connection ends after this response.
    pub close: bool,
    /// Whether `Connection: keep-alive` must be said (HTTP/1.0 clients that asked for it).
    pub say_keep_alive: bool,
    /// The `Origin` that may read this answer.
    pub allow_origin: Option<&'a str>,
    /// `Vary`.
    pub vary: &'static str,
    /// `Cache-Control`.
    pub cache_control: &'static str,
}

/// What a script may read besides the safelisted headers (Fetch §3.2.3).
pub const EXPOSED: &str = "Retry-After, Holdline-Cursor, Holdline-Id, Holdline-Gap, Event, Link";

/// Appends a response head with its empty line. What most answers say is appended in one piece.
pub fn write_head(out: &mut Vec<u8>, status: u16, head: &ResponseHead<'_>) {
    match first_lines(status) {
        Some(lines) => out.extend_from_slice(lines.as_bytes()),
        None => {
            out.extend_from_slice(b"HTTP/1.1 ");
            json::write_number(out, u64::from(status));
            out.extend_from_slice(b" Status\r\nServer: holdline\r\nDate: ");
        }
    }
    out.extend_from_slice(head.date);
    out.extend_from_slice(b"\r\n");
    match head.content_type {
        Some("application/json") => out.extend_from_slice(
            b"Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n",
        ),
        Some(content_type) => {
            push_header(out, "Content-Type", content_type.as_bytes());
            out.extend_from_slice(b"X-Content-Type-Options: nosniff\r\n");
        }
        None => {}
    }
    if let Some(length) = head.content_length {
        out.extend_from_slice(b"Content-Length: ");
        json::write_number(out, length);
        out.extend_from_slice(b"\r\n");
    }
    if let ("no-store", "Origin") = (head.cache_control, head.vary) {
        out.extend_from_slice(b"Cache-Control: no-store\r\nVary: Origin\r\n");
    } else {
        push_constant(out, "Cache-Control", head.cache_control);
        push_constant(out, "Vary", head.vary);
    }
    if let Some(origin) = head.allow_origin {
        push_header(out, "Access-Control-Allow-Origin", origin.as_bytes());
        push_header(out, "Access-Control-Expose-Headers", EXPOSED.as_bytes());
    }
    out.extend_from_slice(head.extra);
    out.extend_from_slice(match (head.close, head.say_keep_alive) {
        (true, _) => b"Connection: close\r\n\r\n",
        (false, true) => b"Connection: keep-alive\r\n\r\n",
        (false, false) => b"\r\n",
    });
}

/// Appends one header line; a value with control characters is dropped (RFC 9110 §5.5).
pub fn push_header(out: &mut Vec<u8>, name: &'static str, value: &[u8]) {
    if is_header_value(value) {
        push_line(out, name, value);
    }
}

/// Appends a header line whose value is ours; none for an empty one.
#[inline]
fn push_constant(out: &mut Vec<u8>, name: &'static str, value: &'static str) {
    debug_assert!(is_header_value(value.as_bytes()));
    if !value.is_empty() {
        push_line(out, name, value.as_bytes());
    }
}

#[inline(always)] // with a constant name: then only the value is copied by a call
fn push_line(out: &mut Vec<u8>, name: &'static str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether this can be the name of a header line (RFC 9110 §5.6.2).
#[must_use]
pub fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_tchar)
}

/// Whether a value can stand in a header line.
#[must_use]
pub fn is_header_value(value: &[u8]) -> bool {
    // Every byte is looked at: without an early end the compiler takes many at a time.
    !value.iter().fold(false, |bad, b| bad | matches!(b, 0..=8 | 10..=31 | 127))
}

macro_rules! statuses {
    ($($status:literal $reason:literal)*) => {
        /// The reason phrase of a status (RFC 9110 §15).
        #[must_use]
        pub const fn reason(status: u16) -> &'static str {
            match status {
                $($status => $reason,)*
                _ => "Status",
            }
        }

        /// The line of a status that is known, and those up to the date.
        const fn first_lines(status: u16) -> Option<&'static str> {
            Some(match status {
                $($status => concat!(
                    "HTTP/1.1 ", $status, " ", $reason, "\r\nServer: holdline\r\nDate: "
                ),)*
                _ => return None,
            })
        }
    };
}

statuses! {
    100 "Continue"
    101 "Switching Protocols"
    200 "OK"
    201 "Created"
    202 "Accepted"
    204 "No Content"
    206 "Partial Content"
    301 "Moved Permanently"
    302 "Found"
    303 "See Other"
    304 "Not Modified"
    307 "Temporary Redirect"
    308 "Permanent Redirect"
    400 "Bad Request"
    401 "Unauthorized"
    403 "Forbidden"
    404 "Not Found"
    405 "Method Not Allowed"
    408 "Request Timeout"
    409 "Conflict"
    410 "Gone"
    411 "Length Required"
    412 "Precondition Failed"
    413 "Content Too Large"
    414 "URI Too Long"
    415 "Unsupported Media Type"
    417 "Expectation Failed"
    421 "Misdirected Request"
    422 "Unprocessable Content"
    426 "Upgrade Required"
    429 "Too Many Requests"
    431 "Request Header Fields Too Large"
    500 "Internal Server Error"
    501 "Not Implemented"
    502 "Bad Gateway"
    503 "Service Unavailable"
    504 "Gateway Timeout"
    505 "HTTP Version Not Supported"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_split_a_response() {
        for bad in [&b"a\r\nSet-Cookie: b"[..], b"a\nb", b"a\0b", b"a\x7fb", b"\r"] {
            let mut out = Vec::new();
            push_header(&mut out, "Event", bad);
            assert!(out.is_empty());
        }
        let mut out = Vec::new();
        push_header(&mut out, "Event", b"a\tb \xff");
        assert_eq!(out, b"Event: a\tb \xff\r\n");
    }

    #[test]
    fn a_head_is_exactly_this() {
        let mut out = Vec::new();
        let head = ResponseHead {
            date: b"Tue, 24 Nov 2026 16:00:00 GMT",
            content_type: Some("application/json"),
            content_length: Some(2),
            extra: b"Allow: GET\r\n",
            close: true,
            vary: "Origin",
            cache_control: "no-store",
            ..ResponseHead::default()
        };
        write_head(&mut out, 405, &head);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "HTTP/1.1 405 Method Not Allowed\r\nServer: holdline\r\n\
             Date: Tue, 24 Nov 2026 16:00:00 GMT\r\nContent-Type: application/json\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Length: 2\r\nCache-Control: no-store\r\n\
             Vary: Origin\r\nAllow: GET\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn control_characters_are_no_part_of_a_value() {
        for byte in 0..=u8::MAX {
            let is_control = byte == 127 || byte < 32 && byte != b'\t';
            assert_eq!(is_header_value(&[b'a', byte, b'b']), !is_control, "{byte}");
        }
    }

    #[test]
    fn statuses_have_the_phrases_of_the_rfcs() {
        let phrases = "100 Continue, 101 Switching Protocols, 200 OK, 201 Created, 202 Accepted, \
            204 No Content, 206 Partial Content, 301 Moved Permanently, 302 Found, 303 See Other, \
            304 Not Modified, 307 Temporary Redirect, 308 Permanent Redirect, 400 Bad Request, \
            401 Unauthorized, 403 Forbidden, 404 Not Found, 405 Method Not Allowed, \
            408 Request Timeout, 409 Conflict, 410 Gone, 411 Length Required, \
            412 Precondition Failed, 413 Content Too Large, 414 URI Too Long, \
            415 Unsupported Media Type, 417 Expectation Failed, 421 Misdirected Request, \
            422 Unprocessable Content, 426 Upgrade Required, 429 Too Many Requests, \
            431 Request Header Fields Too Large, 500 Internal Server Error, 501 Not Implemented, \
            502 Bad Gateway, 503 Service Unavailable, 504 Gateway Timeout, \
            505 HTTP Version Not Supported, 299 Status";
        for line in phrases.split(", ") {
            let (status, phrase) = line.split_once(' ').expect("a status and a phrase");
            assert_eq!(reason(status.parse().expect("a number")), phrase);
        }
    }

    #[test]
    fn what_is_not_given_is_not_said() {
        let written = |head: ResponseHead<'_>| {
            let mut out = Vec::new();
            write_head(&mut out, 200, &head);
            String::from_utf8(out).expect("text")
        };
        let start = "HTTP/1.1 200 OK\r\nServer: holdline\r\nDate: \r\n";
        let plain = ResponseHead::default();
        assert_eq!(written(plain.clone()), format!("{start}\r\n"));
        let kept = ResponseHead { say_keep_alive: true, ..plain.clone() };
        assert_eq!(written(kept.clone()), format!("{start}Connection: keep-alive\r\n\r\n"));
        let closed = ResponseHead { close: true, ..kept };
        assert_eq!(written(closed), format!("{start}Connection: close\r\n\r\n"));
        let shared = ResponseHead { allow_origin: Some("https://a"), ..plain };
        let (origin, exposed) =
            ("Access-Control-Allow-Origin: https://a", "Access-Control-Expose-Headers: ");
        assert_eq!(written(shared), format!("{start}{origin}\r\n{exposed}{EXPOSED}\r\n\r\n"));
    }
}
