//! The request line: methods, versions, the forms of a target and the encoded strings in it.
//!
//! A target is never corrected (RFC 9112 §3.2): what is no valid target is refused with its head,
//! and what cannot be decoded when a segment or the query is used. Decoding happens once, after
//! splitting. Routes and channel names are not known here.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::str;

use memchr::{memchr, memchr2};

use super::Span;
use crate::code::Code;

/// The request methods that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// GET
    #[default]
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// PATCH
    Patch,
    /// TRACE
    Trace,
}

impl Method {
    /// The word on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
        }
    }

    /// Case matters (RFC 9110 §9.1). CONNECT is for proxies.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "TRACE" => Self::Trace,
            _ => return None,
        })
    }
}

/// The HTTP versions that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

/// Whether the request line ends with what means to be an HTTP version. If not, as in
/// `GET  / HTTP/1.1`, the line is malformed rather than of another version.
pub(super) fn has_version(head: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    let line = &text[..memchr(b'\r', text).unwrap_or(text.len())];
    let version = line.splitn(3, |b| *b == b' ').nth(2).unwrap_or_default();
    version.split_at_checked(5).is_some_and(|(name, number)| {
        name.eq_ignore_ascii_case(b"HTTP/")
            && number.first().is_some_and(u8::is_ascii_digit)
            && number.iter().all(|b| b.is_ascii_digit() || *b == b'.')
    })
}

/// What a request is aimed at (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    pub(super) authority: Option<Span>,
    pub(super) is_asterisk: bool,
}

/// Reads origin-form, absolute-form or, for OPTIONS, `*`; `start` is where `uri` lies in the head.
pub(super) fn parse_target(uri: &[u8], start: usize, is_options: bool) -> Option<Target> {
    let span = |from: usize, to: usize| Span::new(start + from, start + to);
    let (authority, origin) = match uri {
        b"*" => {
            let whole =
                Target { path: span(0, 1), query: None, authority: None, is_asterisk: true };
            return is_options.then_some(whole);
        }
        [b'/', ..] => (None, 0),
        _ => {
            let (from, to) = authority_of(uri)?;
            (Some((from, to)), to)
        }
    };
    if !uri[origin..].iter().all(|b| TARGET[usize::from(*b)]) {
        return None;
    }
    let question = memchr(b'?', &uri[origin..]).map(|at| origin + at);
    let path_end = question.unwrap_or(uri.len());
    let path = match authority {
        // RFC 9110 §4.2.3: no path means "/". There is one just before the authority.
        Some((from, to)) if to == path_end => span(from - 1, from),
        Some(_) | None => span(origin, path_end),
    };
    Some(Target {
        path,
        query: question.map(|at| span(at + 1, uri.len())),
        authority: authority.map(|(from, to)| span(from, to)),
        // RFC 9112 §3.2.4: what a proxy would have to turn into `OPTIONS *`.
        is_asterisk: is_options && authority.is_some() && origin == uri.len(),
    })
}

/// Where the authority of an absolute-form target starts and ends.
fn authority_of(uri: &[u8]) -> Option<(usize, usize)> {
    let from = match uri {
        _ if starts_with_ci(uri, b"http://") => 7,
        _ if starts_with_ci(uri, b"https://") => 8,
        _ => return None,
    };
    let to = memchr2(b'/', b'?', &uri[from..]).map_or(uri.len(), |at| from + at);
    split_host(&uri[from..to]).map(|_| (from, to))
}

fn starts_with_ci(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Splits `host[:port]`, an IPv6 address in brackets; `None` if it is not valid: empty, with user
/// information, a zone, escapes, or a port over 65 535 (RFC 9110 §7.2, RFC 3986 §3.2).
#[must_use]
pub fn split_host(authority: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let is_bracketed = authority.first() == Some(&b'[');
    let end = if is_bracketed { memchr(b']', authority)? + 1 } else { host_len(authority) };
    let (host, rest) = authority.split_at(end);
    let is_host = if is_bracketed {
        str::from_utf8(&host[1..end - 1]).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
    } else {
        !host.is_empty()
    };
    let port = match rest {
        [] | b":" => None,
        [b':', digits @ ..] => Some(parse_port(digits)?),
        _ => return None,
    };
    is_host.then_some((host, port))
}

/// How many bytes can be of a registered name or an IPv4 address.
fn host_len(text: &[u8]) -> usize {
    text.iter().position(|b| !HOST[usize::from(*b)]).unwrap_or(text.len())
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |sum, b| {
        let digit = b.is_ascii_digit().then(|| u16::from(b - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Decodes a path segment once: `None` for a bad `%xx`, for a control character, and for what is
/// not UTF-8. `+` stays.
#[must_use]
pub fn decode_segment(raw: &[u8]) -> Option<Cow<'_, str>> {
    let text = if memchr(b'%', raw).is_some() { decode(raw, false) } else { check(raw) }?;
    (!has_control(&text)).then_some(text)
}

fn decode_form(raw: &[u8]) -> Option<Cow<'_, str>> {
    if memchr2(b'%', b'+', raw).is_some() { decode(raw, true) } else { check(raw) }
}

fn check(raw: &[u8]) -> Option<Cow<'_, str>> {
    str::from_utf8(raw).ok().map(Cow::Borrowed)
}

fn decode(raw: &[u8], plus_is_space: bool) -> Option<Cow<'_, str>> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [byte, further @ ..] = rest {
        rest = further;
        match byte {
            b'%' => {
                let [high, low, further @ ..] = rest else { return None };
                out.push(hex(*high)? << 4 | hex(*low)?);
                rest = further;
            }
            b'+' if plus_is_space => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// C1 controls count too: terminals obey them.
fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// The value of a hexadecimal digit.
pub(super) fn hex(digit: u8) -> Option<u8> {
    Some(match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => return None,
    })
}

/// The name-value pairs of a query (application/x-www-form-urlencoded), decoded as they are asked
/// for. Empty pairs are skipped, a name without `=` has an empty value. How many there may be is
/// for the caller to count.
#[derive(Clone, Debug)]
pub struct Query<'b> {
    rest: &'b [u8],
}

/// A pair that does not decode: a bad `%xx`, or no UTF-8. What a value may hold is for its field to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadQuery;

impl BadQuery {
    /// The name of the refusal.
    #[must_use]
    pub const fn code(self) -> Code {
        Code::BadQuery
    }

    /// What to do about it.
    #[must_use]
    pub const fn message(self) -> &'static str {
        "percent-encode the query as UTF-8"
    }
}

impl fmt::Display for BadQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for BadQuery {}

impl<'b> Query<'b> {
    /// Reads what follows the `?`.
    #[must_use]
    pub fn new(raw: Option<&'b [u8]>) -> Self {
        Self { rest: raw.unwrap_or_default() }
    }
}

impl<'b> Iterator for Query<'b> {
    type Item = Result<(Cow<'b, str>, Cow<'b, str>), BadQuery>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let Marks { end, equals, is_encoded } = marks(self.rest);
            let pair = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if pair.is_empty() {
                continue;
            }
            let name_end = equals.unwrap_or(end);
            let value = equals.map_or(end, |at| at + 1);
            if is_encoded {
                let decoded = decode_form(&pair[..name_end]).zip(decode_form(&pair[value..]));
                return Some(decoded.ok_or(BadQuery));
            }
            let text = str::from_utf8(pair).map_err(|_| BadQuery);
            let split = |text: &'b str| (text[..name_end].into(), text[value..].into());
            return Some(text.map(split));
        }
        None
    }
}

/// Where a pair ends, its first `=`, and whether anything in it is encoded.
struct Marks {
    end: usize,
    equals: Option<usize>,
    is_encoded: bool,
}

/// Of the first pair. Pairs are short: one look at each byte costs less than a search for each mark.
fn marks(text: &[u8]) -> Marks {
    let (mut equals, mut is_encoded) = (None, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'&' => return Marks { end: at, equals, is_encoded },
            b'=' if equals.is_none() => equals = Some(at),
            b'%' | b'+' => is_encoded = true,
            _ => {}
        }
    }
    Marks { end: text.len(), equals, is_encoded }
}

/// A byte of a token (RFC 9110 §5.6.2).
pub(crate) fn is_tchar(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

static TOKEN: [bool; 256] = alphanumeric_and(b"!#$%&'*+-.^_`|~");
/// RFC 3986 §3.3 and §3.4: pchar, `/` and `?`.
static TARGET: [bool; 256] = alphanumeric_and(b"-._~!$&'()*+,;=:@/?%");
/// RFC 3986 §3.2.2: reg-name, without percent-encoding.
static HOST: [bool; 256] = alphanumeric_and(b"-._~!$&'()*+,;=");

const fn alphanumeric_and(others: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        set[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        set[others[at] as usize] = true;
        at += 1;
    }
    set
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
