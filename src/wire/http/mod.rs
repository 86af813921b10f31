//! HTTP/1.1 requests as bytes: heads, bodies, targets.
//!
//! Everything a peer can send ends in a value or in a small `Copy` error that names its status;
//! nothing panics, and only decoding a target allocates. What two servers could read differently is
//! refused.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub mod body;
pub mod head;
pub mod response;
pub mod target;

pub use body::{Body, BodyError, BodyStep, Framing};
pub use head::{Expect, Head, HeadError, HeadLimits, HeadScan, header, parse};
pub use target::{BadQuery, Method, Query, Version, decode_segment, split_host};

/// A range of bytes of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Invariant: `start <= end`.
    start: u16,
    end: u16,
}

impl Span {
    /// The bytes it stands for.
    ///
    /// # Panics
    ///
    /// If `head` is shorter than the head that was parsed.
    #[must_use]
    pub fn of(self, head: &[u8]) -> &[u8] {
        &head[usize::from(self.start)..usize::from(self.end)]
    }

    /// The span of `start..end`. No head is longer than 65 535 bytes.
    fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= usize::from(u16::MAX), "no head is as long");
        Self { start: start as u16, end: end as u16 }
    }

    /// The span of `part`, which must be a slice of `head`.
    fn within(head: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr() as usize - head.as_ptr() as usize;
        Self::new(start, start + part.len())
    }
}

/// Checks the head codec on any bytes: the same outcome however they are split, and a head that
/// keeps its promises.
#[doc(hidden)]
pub fn fuzz_head(data: &[u8]) {
    let usual = HeadLimits { head_bytes_max: 16_384, line_bytes_max: 8_192, headers_max: 64 };
    let small = HeadLimits { head_bytes_max: 200, line_bytes_max: 60, headers_max: 4 };
    for limits in [usual, small] {
        let whole = HeadScan::default().scan(data, &limits);
        for step in [1, 7] {
            let mut scan = HeadScan::default();
            let mut ends = (0..data.len()).step_by(step).chain([data.len()]);
            let split = ends.find_map(|end| scan.scan(&data[..end], &limits).transpose());
            assert_eq!(split.transpose(), whole, "the outcome depends on the split");
        }
        if let Ok(Some(len)) = whole {
            check_head(&data[..len], &limits);
        }
        let _ = parse(data, &limits); // on bytes that no scan has seen, it must only not panic
    }
    let _ = header(data, "host");
}

fn check_head(bytes: &[u8], limits: &HeadLimits) {
    assert!(bytes.len() <= limits.head_bytes_max && bytes.ends_with(b"\r\n\r\n"));
    let Ok(head) = parse(bytes, limits) else { return };
    let text = bytes.trim_ascii();
    assert!(text.split(|b| *b == b'\n').count() <= limits.headers_max + 1);
    assert!(head.is_asterisk || head.path.of(bytes).starts_with(b"/"));
    let target = [head.path.of(bytes), head.query.map_or(&[][..], |q| q.of(bytes))].concat();
    assert!(target.iter().all(|b| b.is_ascii_graphic() && *b != b'#'));
    assert!(head.host.is_some() || head.version == Version::Http10);
    assert!(head.host.is_none_or(|host| split_host(host.of(bytes)).is_some()));
    let values = [
        head.origin,
        head.content_type,
        head.content_encoding,
        head.authorization,
        head.last_event_id,
        head.event,
        head.ttl,
        head.idempotency_key,
        head.ws_key,
        head.ws_version,
        head.ws_protocol,
        head.ws_protocol_more,
        head.ws_extensions,
        head.access_control_request_method,
    ];
    for value in values.into_iter().flatten().map(|span| span.of(bytes)) {
        assert!(value.trim_ascii() == value && !value.iter().any(|b| matches!(b, 0..=8 | 10..=31)));
    }
    let length = header(bytes, "content-length");
    let coding = header(bytes, "transfer-encoding");
    match head.framing {
        Framing::None => assert!(coding.is_none() && length.is_none_or(|l| l.starts_with(b"0"))),
        Framing::Length(n) => assert!(n > 0 && length.is_some() && coding.is_none()),
        Framing::Chunked => assert!(length.is_none() && coding.is_some()),
    }
}

/// Checks the body codec on any bytes, the first of which chooses the framing: the same payload and
/// the same end however they are split.
#[doc(hidden)]
pub fn fuzz_body(data: &[u8]) {
    let Some((choice, input)) = data.split_first() else { return };
    let chunked = choice % 2 == 0;
    let framing = if chunked { Framing::Chunked } else { Framing::Length(u64::from(*choice)) };
    let whole = receive(framing, input, input.len().max(1));
    for step in [1, 3] {
        assert_eq!(receive(framing, input, step), whole, "the outcome depends on the split");
    }
    let (payload, end) = whole;
    match (framing, end) {
        (_, Err(BodyError)) => assert!(chunked, "any byte may be counted"),
        (_, Ok(None)) => assert!(payload.len() <= input.len()),
        (Framing::Chunked, Ok(Some(end))) => {
            assert!(payload.len() + 5 <= end && input[..end].ends_with(b"\r\n\r\n"));
        }
        (Framing::None | Framing::Length(_), Ok(Some(end))) => {
            assert!(payload == input[..end] && end == usize::from(*choice));
        }
    }
}

/// Receives a body that arrives in pieces; returns its payload and, if it ended, where.
fn receive(
    framing: Framing,
    input: &[u8],
    piece_bytes: usize,
) -> (Vec<u8>, Result<Option<usize>, BodyError>) {
    let mut payload = Vec::new();
    let mut offset = 0;
    let Some(mut body) = Body::new(framing) else { return (payload, Ok(Some(0))) };
    for piece in input.chunks(piece_bytes) {
        let mut rest = piece;
        loop {
            match body.step(rest) {
                Err(error) => return (payload, Err(error)),
                Ok((consumed, step)) => {
                    offset += consumed;
                    match step {
                        BodyStep::Data { start, end } => payload.extend(&rest[start..end]),
                        BodyStep::NeedMore => break assert!(consumed == rest.len()),
                        BodyStep::Done => return (payload, Ok(Some(offset))),
                    }
                    rest = &rest[consumed..];
                }
            }
        }
    }
    (payload, Ok(None))
}

/// Checks the target codec on any bytes: what decodes is clean text, and encodes back to what means
/// the same.
#[doc(hidden)]
pub fn fuzz_target(data: &[u8]) {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let is_clean = |text: &str| !text.contains(char::is_control);
    if let Some(segment) = decode_segment(data) {
        assert!(is_clean(&segment) && segment.len() <= data.len());
        assert_eq!(decode_segment(encode(&segment).as_bytes()).as_deref(), Some(&*segment));
    }
    let pairs: Vec<_> = Query::new(Some(data)).collect();
    assert!(pairs.len() <= data.split(|b| *b == b'&').count());
    for (name, value) in pairs.into_iter().flatten() {
        let again = format!("{}={}", encode(&name), encode(&value));
        assert_eq!(Query::new(Some(again.as_bytes())).next(), Some(Ok((name, value))));
    }
    if let Some((host, port)) = split_host(data) {
        assert!(!host.is_empty() && data.starts_with(host) && host.is_ascii());
        assert!(port.is_none() || host.len() + 2 <= data.len());
    }
}

/// A generator with a fresh seed, which a failing test prints.
#[cfg(test)]
fn seeded() -> fastrand::Rng {
    use std::hash::{BuildHasher, RandomState};
    let seed = RandomState::new().hash_one("seed");
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}
