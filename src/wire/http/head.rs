//! The request head: where it ends, and what it says.
//!
//! [`HeadScan`] looks for the end as bytes arrive and never looks at a byte twice; [`parse`] then
//! reads exactly those bytes, once. A [`Head`] holds offsets, no borrow, so that what follows it in
//! the same buffer may be changed. It knows nothing of routes, bodies or answers. Every error
//! closes the connection: after it nobody can know where the next request starts (RFC 9112 §9.3).

use std::fmt;
use std::mem::MaybeUninit;

use super::body::FramingError;
use super::target::{self, Target, is_tchar};
use crate::code::Code;
use crate::config::Config;

pub use super::Span;
pub use super::body::Framing;
pub use super::target::{Method, Version};

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head. More than 65 535 counts as 65 535.
    pub head_bytes_max: usize,
    /// Bytes of the request line, and of any other line, without its CRLF.
    pub line_bytes_max: usize,
    /// Header fields. More than 128 counts as 128.
    pub headers_max: usize,
}

impl From<&Config> for HeadLimits {
    fn from(config: &Config) -> Self {
        Self {
            head_bytes_max: config.head_bytes_max,
            line_bytes_max: config.line_bytes_max,
            headers_max: config.headers_max,
        }
    }
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Malformed or ambiguous: 400.
    Syntax,
    /// The request line is over its limit: 414.
    UriTooLong,
    /// Another line, the head or the number of its fields is over its limit: 431.
    TooLarge,
    /// An unknown method or transfer coding: 501.
    NotImplemented,
    /// Neither HTTP/1.0 nor HTTP/1.1: 505.
    Version,
}

impl HeadError {
    /// The name of the refusal.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Syntax => Code::BadRequest,
            Self::UriTooLong => Code::UriTooLong,
            Self::TooLarge => Code::HeadersTooLarge,
            Self::NotImplemented => Code::NotImplemented,
            Self::Version => Code::Version,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Syntax => {
                "send a well-formed HTTP/1.1 head: CRLF line ends, an ASCII target, one valid \
                 Host, no field twice, one of Content-Length and Transfer-Encoding: chunked"
            }
            Self::UriTooLong => "shorten the request line; for many channels use a WebSocket",
            Self::TooLarge => "send fewer or shorter header fields",
            Self::NotImplemented => {
                "use GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH or TRACE, and no transfer coding \
                 but chunked"
            }
            Self::Version => "use HTTP/1.1; HTTP/1.0 is understood too",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for HeadError {}

/// How far a head has been looked at. Start each request with a new one.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    /// Invariant: `line_start <= scanned <= 65 535`, and no LF in between.
    scanned: u32,
    line_start: u32,
    /// Empty lines before the request line.
    leading: u8,
    /// Whether the request line is complete.
    in_fields: bool,
}

/// Empty lines that are skipped before a request line (RFC 9112 §2.2: "at least one").
const LEADING_MAX: u8 = 2;

impl HeadScan {
    /// Whether it has looked at nothing yet.
    pub(crate) fn is_new(&self) -> bool {
        self.scanned == 0
    }

    /// Looks at what was added to `buf` since the last call, and returns the head's length, with
    /// its CRLFCRLF, once it is there. `buf` must start with the bytes of the calls before.
    ///
    /// # Errors
    ///
    /// As soon as a bare LF, a line over its limit, a head that fills its limit without an end,
    /// or a first byte that starts no method is seen. The outcome does not depend on how the bytes
    /// were split.
    pub fn scan(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        let head_bytes_max = limits.head_bytes_max.min(usize::from(u16::MAX));
        let view = &buf[..buf.len().min(head_bytes_max)];
        let mut at = self.scanned as usize;
        // Lines are short: to look at eight bytes at a time costs less than a search for each end.
        while let Some(unseen @ [_, ..]) = view.get(at..) {
            let mut found = line_feeds(unseen);
            while found != 0 {
                let end = at + found.trailing_zeros() as usize / 8;
                if self.end_line(view, end, limits)? {
                    return Ok(Some(end + 1));
                }
                found &= found - 1;
            }
            at += 8;
        }
        self.scanned = view.len() as u32;
        self.check_line(view.get(self.line_start as usize..).unwrap_or_default(), limits)?;
        if buf.len() >= head_bytes_max { Err(self.too_long()) } else { Ok(None) }
    }

    /// Takes the line that ends with the LF at `at`; true if it ends the head.
    fn end_line(&mut self, view: &[u8], at: usize, limits: &HeadLimits) -> Result<bool, HeadError> {
        let line = view.get(self.line_start as usize..at).unwrap_or_default();
        self.check_line(line, limits)?;
        // RFC 9112 §2.2 lets a recipient take a bare LF for a line end. What stands in front of
        // this server may read it otherwise, so it is refused.
        let Some((b'\r', content)) = line.split_last() else {
            return Err(HeadError::Syntax);
        };
        self.line_start = (at + 1) as u32;
        if !content.is_empty() {
            self.in_fields = true;
            return Ok(false);
        }
        if self.in_fields {
            return Ok(true);
        }
        self.leading += 1;
        if self.leading > LEADING_MAX { Err(HeadError::Syntax) } else { Ok(false) }
    }

    /// Checks what is there of a line.
    fn check_line(&self, line: &[u8], limits: &HeadLimits) -> Result<(), HeadError> {
        if !self.in_fields && line.first().is_some_and(|b| *b != b'\r' && !is_tchar(*b)) {
            return Err(HeadError::Syntax); // TLS to a plain port, for one: say so at once
        }
        // The CR may turn out to belong to the line end.
        let content = line.strip_suffix(b"\r").unwrap_or(line);
        if content.len() > limits.line_bytes_max { Err(self.too_long()) } else { Ok(()) }
    }

    fn too_long(&self) -> HeadError {
        if self.in_fields { HeadError::TooLarge } else { HeadError::UriTooLong }
    }
}

/// Which of the first eight bytes are line feeds: the high bit of each, the first byte's the lowest.
fn line_feeds(bytes: &[u8]) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let word = bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        word
    });
    // Zero where there is one. A sum of seven bits carries nothing into the byte above.
    let others = u64::from_le_bytes(word) ^ (0x0101_0101_0101_0101 * u64::from(b'\n'));
    !(((others & LOW) + LOW) | others | LOW)
}

/// What the request expects before it sends its body (RFC 9110 §10.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Nothing, or the request is HTTP/1.0.
    #[default]
    None,
    /// `100-continue`.
    Continue,
    /// Something that nobody defined.
    Other,
}

/// A request head, understood. Values are offsets into the bytes that were parsed.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The version.
    pub version: Version,
    /// Whether the connection may serve another request after this one.
    pub keep_alive: bool,
    /// The path, raw, from its `/`; `*` if [`is_asterisk`](Self::is_asterisk).
    pub path: Span,
    /// What follows the first `?`, raw.
    pub query: Option<Span>,
    /// Whether it asks about the server as a whole (`OPTIONS *`).
    pub is_asterisk: bool,
    /// How the body is delimited.
    pub framing: Framing,
    /// What the request waits for.
    pub expect: Expect,
    /// `Upgrade` lists `websocket` and `Connection` lists `upgrade`, whatever the version.
    pub upgrade_websocket: bool,
    /// `Upgrade` lists `websocket`, whatever `Connection` says.
    pub upgrade_listed: bool,
    /// `Accept` lists `text/event-stream`.
    pub accepts_event_stream: bool,
    /// `Accept` lists `text/html`.
    pub accepts_html: bool,
    /// `Accept` lists `text/event-stream` and nothing else, not even `*/*`.
    pub accepts_only_event_stream: bool,
    /// `host[:port]` of an absolute target, else of `Host`. Absent only on HTTP/1.0.
    pub host: Option<Span>,
    /// `Origin`
    pub origin: Option<Span>,
    /// `Content-Type`
    pub content_type: Option<Span>,
    /// `Content-Encoding`
    pub content_encoding: Option<Span>,
    /// `Authorization`
    pub authorization: Option<Span>,
    /// `Last-Event-ID`
    pub last_event_id: Option<Span>,
    /// `Event`
    pub event: Option<Span>,
    /// `TTL`
    pub ttl: Option<Span>,
    /// `Idempotency-Key`
    pub idempotency_key: Option<Span>,
    /// `Sec-WebSocket-Key`
    pub ws_key: Option<Span>,
    /// `Sec-WebSocket-Version`
    pub ws_version: Option<Span>,
    /// `Sec-WebSocket-Protocol`
    pub ws_protocol: Option<Span>,
    /// A second line of `Sec-WebSocket-Protocol`; the list goes on in it.
    pub ws_protocol_more: Option<Span>,
    /// The first line of `Sec-WebSocket-Extensions`: the offers that are considered.
    pub ws_extensions: Option<Span>,
    /// `Access-Control-Request-Method`
    pub access_control_request_method: Option<Span>,
}

/// Reads the bytes that [`HeadScan::scan`] found to be a head.
///
/// # Errors
///
/// Whatever a server in front of this one could have read differently.
pub fn parse(head: &[u8], limits: &HeadLimits) -> Result<Head, HeadError> {
    if limits.headers_max <= 64 {
        parse_up_to::<64>(head, limits)
    } else {
        parse_up_to::<128>(head, limits)
    }
}

fn parse_up_to<const N: usize>(head: &[u8], limits: &HeadLimits) -> Result<Head, HeadError> {
    if head.len() > usize::from(u16::MAX) {
        return Err(HeadError::TooLarge);
    }
    let mut headers = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; N];
    let mut request = httparse::Request::new(&mut []);
    let outcome =
        request.parse_with_uninit_headers(head, &mut headers[..limits.headers_max.min(N)]);
    match outcome {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        Ok(_) => return Err(HeadError::Syntax),
        Err(error) => return Err(refusal(error, head)),
    }
    let (Some(method), Some(uri), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(HeadError::Syntax);
    };
    let method = Method::parse(method).ok_or(HeadError::NotImplemented)?;
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let start = usize::from(Span::within(head, uri.as_bytes()).start);
    let target = target::parse_target(uri.as_bytes(), start, method == Method::Options)
        .ok_or(HeadError::Syntax)?;
    let mut fields = Fields::new(method, version, &target);
    for header in request.headers.iter() {
        fields.add(header.name, header.value, Span::within(head, header.value))?;
    }
    fields.finish(head, target.authority)
}

fn refusal(error: httparse::Error, head: &[u8]) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooLarge,
        httparse::Error::Version if target::has_version(head) => HeadError::Version,
        _ => HeadError::Syntax,
    }
}

/// What the fields have said so far.
#[derive(Default)]
struct Fields {
    head: Head,
    host: Option<Span>,
    content_length: Option<Span>,
    transfer_encoding: Option<Span>,
    upgrade: Option<Span>,
    asks_close: bool,
    asks_keep_alive: bool,
    asks_upgrade: bool,
    accepts_other: bool,
}

impl Fields {
    fn new(method: Method, version: Version, target: &Target) -> Self {
        let Target { path, query, is_asterisk, .. } = *target;
        let head = Head { method, version, path, query, is_asterisk, ..Head::default() };
        Self { head, ..Self::default() }
    }

    fn add(&mut self, name: &str, value: &[u8], span: Span) -> Result<(), HeadError> {
        // Longer names than this mean nothing here.
        let mut lower = [0; 32];
        let Some(copy) = lower.get_mut(..name.len()) else { return Ok(()) };
        copy.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        let head = &mut self.head;
        let slot = match &lower[..name.len()] {
            b"ttl" => &mut head.ttl,
            b"host" => &mut self.host,
            b"event" => &mut head.event,
            b"accept" => return self.add_accept(value),
            b"expect" => return self.add_expect(value),
            b"origin" => &mut head.origin,
            b"upgrade" => &mut self.upgrade,
            b"connection" => return self.add_connection(value),
            b"content-type" => &mut head.content_type,
            b"authorization" => &mut head.authorization,
            b"last-event-id" => &mut head.last_event_id,
            b"content-length" => &mut self.content_length,
            b"idempotency-key" => &mut head.idempotency_key,
            b"content-encoding" => &mut head.content_encoding,
            b"transfer-encoding" => &mut self.transfer_encoding,
            b"sec-websocket-key" => &mut head.ws_key,
            b"sec-websocket-version" => &mut head.ws_version,
            // RFC 6455 §11.3.4: these two may be spread over several lines.
            b"sec-websocket-protocol" if head.ws_protocol.is_some() => &mut head.ws_protocol_more,
            b"sec-websocket-protocol" => &mut head.ws_protocol,
            // RFC 6455 §9.1: an offer need not be taken, so those of further lines are not.
            b"sec-websocket-extensions" if head.ws_extensions.is_some() => return Ok(()),
            b"sec-websocket-extensions" => &mut head.ws_extensions,
            b"access-control-request-method" => &mut head.access_control_request_method,
            _ => return Ok(()),
        };
        // RFC 9110 §5.5: one server takes the first of two lines, the next one the last.
        match slot.replace(span) {
            None => Ok(()),
            Some(_) => Err(HeadError::Syntax),
        }
    }

    fn add_connection(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for option in list(value) {
            self.asks_close |= option.eq_ignore_ascii_case(b"close");
            self.asks_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.asks_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(())
    }

    fn add_expect(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for expectation in list(value) {
            let is_continue = expectation.eq_ignore_ascii_case(b"100-continue");
            self.head.expect = match self.head.expect {
                Expect::None | Expect::Continue if is_continue => Expect::Continue,
                Expect::None | Expect::Continue | Expect::Other => Expect::Other,
            };
        }
        Ok(())
    }

    fn add_accept(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let mut rest = value;
        while !rest.is_empty() {
            let (range, further) = cut(rest, b',');
            rest = further;
            let (media_type, parameters) = cut(range, b';');
            let media_type = media_type.trim_ascii();
            if media_type.is_empty() || is_refused(parameters) {
                continue;
            }
            let is_stream = media_type.eq_ignore_ascii_case(b"text/event-stream");
            self.head.accepts_event_stream |= is_stream;
            self.head.accepts_html |= media_type.eq_ignore_ascii_case(b"text/html");
            self.accepts_other |= !is_stream;
        }
        Ok(())
    }

    fn finish(self, bytes: &[u8], authority: Option<Span>) -> Result<Head, HeadError> {
        let mut head = self.head;
        let is_http11 = head.version == Version::Http11;
        // RFC 9112 §3.2: one valid Host; §3.2.2: an absolute target overrides it.
        match self.host {
            Some(host) if target::split_host(host.of(bytes)).is_none() => {
                return Err(HeadError::Syntax);
            }
            None if is_http11 => return Err(HeadError::Syntax),
            Some(_) | None => head.host = authority.or(self.host),
        }
        let of = |span: Option<Span>| span.map(|span| span.of(bytes));
        head.framing = Framing::of(of(self.content_length), of(self.transfer_encoding), is_http11)
            .map_err(|error| match error {
                FramingError::Ambiguous => HeadError::Syntax,
                FramingError::UnknownCoding => HeadError::NotImplemented,
            })?;
        // RFC 9112 §9.3.
        head.keep_alive = !self.asks_close && (is_http11 || self.asks_keep_alive);
        if !is_http11 {
            head.expect = Expect::None; // RFC 9110 §10.1.1
        }
        head.upgrade_listed = of(self.upgrade)
            .is_some_and(|value| list(value).any(|p| p.eq_ignore_ascii_case(b"websocket")));
        head.upgrade_websocket = head.upgrade_listed && self.asks_upgrade;
        head.accepts_only_event_stream = head.accepts_event_stream && !self.accepts_other;
        Ok(head)
    }
}

/// The elements of a comma-separated list without quoted strings (RFC 9110 §5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Cuts at the first `at` outside of a quoted string (RFC 9110 §5.6.4).
fn cut(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    let mut is_quoted = false;
    let mut is_escaped = false;
    for (index, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b if *b == at && !is_quoted => return (&text[..index], &text[index + 1..]),
            _ => {}
        }
    }
    (text, &[])
}

/// Whether the weight among the parameters is zero: "not acceptable" (RFC 9110 §12.4.2).
fn is_refused(parameters: &[u8]) -> bool {
    let mut rest = parameters;
    while !rest.is_empty() {
        let (parameter, further) = cut(rest, b';');
        rest = further;
        if let Some((b"q=" | b"Q=", weight)) = parameter.trim_ascii().split_at_checked(2) {
            return weight.first() == Some(&b'0')
                && weight.iter().all(|b| matches!(b, b'0' | b'.'));
        }
    }
    false
}

/// The fields of a head that was parsed, as they came, without the white space around their values.
pub fn headers(head: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let lines = head.trim_ascii_start().split(|b| *b == b'\n').skip(1);
    lines.filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        // RFC 9110 §5.1: a token, and so ASCII.
        let name = std::str::from_utf8(&line[..colon]).ok()?;
        Some((name, line[colon + 1..].trim_ascii()))
    })
}

/// The value of the first field of that name in a head that was parsed, without the white space
/// around it. For fields that [`Head`] does not list.
#[must_use]
pub fn header<'b>(head: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let lines = head.trim_ascii_start().split(|b| *b == b'\n').skip(1);
    lines.filter_map(|line| line.split_at_checked(name.len())).find_map(|(start, rest)| {
        let value = rest.strip_prefix(b":")?;
        start.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// The value of a field in a head that could not be read, if it is there once and whole: good enough
/// for who may see why it was refused, and for nothing else.
#[must_use]
pub fn only_header<'b>(seen: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let end = memchr::memmem::find(seen, b"\r\n\r\n").unwrap_or(seen.len());
    let whole = &seen[..memchr::memrchr(b'\n', &seen[..seen.len().min(end + 2)])?];
    let mut found = headers(whole).filter(|(other, _)| other.eq_ignore_ascii_case(name));
    let (_, value) = found.next()?;
    found.next().is_none().then_some(value)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
