//! What the HTTP codecs promise, asserted on any bytes: the fuzz targets and the tests run it.
//!
//! Where it can, it reads the bytes a second time, slowly and by other means, and compares.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

use super::{
    Body, BodyError, BodyStep, Framing, Head, HeadError, HeadLimits, HeadScan, Query, Span,
    Version, decode_segment, header, parse, split_host,
};

/// Checks the head codec on any bytes: the same outcome however they are split, and a head that
/// keeps its promises.
///
/// # Panics
///
/// If it does not, which would be a bug.
#[doc(hidden)]
pub fn fuzz_head(data: &[u8]) {
    let usual = HeadLimits { head_bytes_max: 16_384, line_bytes_max: 8_192, headers_max: 64 };
    let small = HeadLimits { head_bytes_max: 200, line_bytes_max: 60, headers_max: 4 };
    let large = HeadLimits { head_bytes_max: usize::MAX, line_bytes_max: 70_000, headers_max: 500 };
    for limits in [usual, small, large] {
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
    let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    assert!(lines.iter().all(|line| line.len() <= limits.line_bytes_max.saturating_add(1)));
    let Ok(head) = parse(bytes, limits) else { return };
    let fields = bytes.trim_ascii().split(|b| *b == b'\n').skip(1).count();
    assert!(fields <= limits.headers_max.min(128));
    assert!(lines.iter().all(|line| !line[..line.len().saturating_sub(1)].contains(&b'\r')));
    assert!(head.is_asterisk || head.path.of(bytes).starts_with(b"/"));
    let target = [head.path.of(bytes), head.query.map_or(&[][..], |q| q.of(bytes))].concat();
    assert!(target.iter().all(|b| b.is_ascii_graphic() && *b != b'#'));
    assert!(head.host.is_some() || head.version == Version::Http10);
    assert!(head.host.is_none_or(|host| split_host(host.of(bytes)).is_some()));
    for (name, span) in named(&head) {
        let value = span.map(|span| span.of(bytes));
        assert_eq!(value, header(bytes, name), "two readings of {name}");
        let is_clean = |value: &[u8]| !value.iter().any(|b| matches!(b, 0..=8 | 10..=31 | 127));
        assert!(value.is_none_or(|value| value.trim_ascii() == value && is_clean(value)));
    }
    check_framing(&head, bytes, &lines);
    let plain = normalized(bytes);
    let again = parse(&plain, &HeadLimits { head_bytes_max: usize::MAX, ..*limits });
    assert_eq!(again.map(|head| meaning(&head, &plain)), Ok(meaning(&head, bytes)));
}

/// No two servers can disagree about where the body ends.
fn check_framing(head: &Head, bytes: &[u8], lines: &[&[u8]]) {
    let count = |name: &[u8]| {
        let is = |line: &&&[u8]| {
            line.split(|b| *b == b':').next().is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        lines.iter().filter(is).count()
    };
    assert!(count(b"host") <= 1);
    let counts = (count(b"content-length"), count(b"transfer-encoding"));
    let length = header(bytes, "content-length");
    match head.framing {
        Framing::None => {
            assert!(counts.1 == 0 && counts.0 <= 1);
            assert!(length.is_none_or(|digits| digits.iter().all(|b| *b == b'0')));
        }
        Framing::Length(n) => {
            assert!(n > 0 && counts == (1, 0));
            let digits = length.map(|digits| String::from_utf8_lossy(digits).parse());
            assert_eq!(digits, Some(Ok(n)));
        }
        Framing::Chunked => assert!(counts == (0, 1) && head.version == Version::Http11),
    }
}

/// The values that stand in the field of that name, once.
fn named(head: &Head) -> [(&'static str, Option<Span>); 13] {
    [
        ("origin", head.origin),
        ("content-type", head.content_type),
        ("content-encoding", head.content_encoding),
        ("authorization", head.authorization),
        ("last-event-id", head.last_event_id),
        ("event", head.event),
        ("ttl", head.ttl),
        ("idempotency-key", head.idempotency_key),
        ("sec-websocket-key", head.ws_key),
        ("sec-websocket-version", head.ws_version),
        ("sec-websocket-protocol", head.ws_protocol),
        ("sec-websocket-extensions", head.ws_extensions),
        ("access-control-request-method", head.access_control_request_method),
    ]
}

/// The same head without what means nothing: leading lines, and space around values.
fn normalized(bytes: &[u8]) -> Vec<u8> {
    let text = bytes.trim_ascii();
    let mut out = Vec::with_capacity(bytes.len());
    for (at, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii_end();
        match line.iter().position(|b| *b == b':') {
            Some(colon) if at > 0 => {
                out.extend_from_slice(&line[..=colon]);
                out.extend_from_slice(line[colon + 1..].trim_ascii());
            }
            _ => out.extend_from_slice(line),
        }
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// What a head says, without where it says it.
fn meaning(head: &Head, bytes: &[u8]) -> String {
    let text = |span: Option<Span>| span.map(|span| String::from_utf8_lossy(span.of(bytes)));
    let values: Vec<_> = named(head).into_iter().map(|(_, span)| text(span)).collect();
    let more = [Some(head.path), head.query, head.host, head.ws_protocol_more].map(text);
    let accepts = (head.accepts_event_stream, head.accepts_html, head.accepts_only_event_stream);
    let upgrade = (head.upgrade_websocket, head.upgrade_listed);
    let line = (head.method, head.version, head.is_asterisk, head.keep_alive);
    format!(
        "{line:?} {values:?} {more:?} {:?} {:?} {upgrade:?} {accepts:?}",
        head.framing, head.expect
    )
}

/// Checks the body codec on any bytes, the first of which chooses the framing: the same payload and
/// the same end however they are split, the reading of a decoder that has everything before it, and
/// what is encoded decodes.
///
/// # Panics
///
/// If one of these does not hold, which would be a bug.
#[doc(hidden)]
pub fn fuzz_chunk(data: &[u8]) {
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
            assert_eq!(unchunk(&input[..end]).as_ref(), Some(&payload), "two readings");
        }
        (Framing::None | Framing::Length(_), Ok(Some(end))) => {
            assert!(payload == input[..end] && end == usize::from(*choice));
        }
    }
    let coded = chunk(input, usize::from(choice / 2) + 1);
    let behind = [&coded[..], b"GET"].concat();
    let decoded = receive(Framing::Chunked, &behind, 5);
    assert_eq!(decoded, (input.to_vec(), Ok(Some(coded.len()))));
}

/// Receives a body that arrives in pieces; returns its payload and, if it ended, where.
pub(super) fn receive(
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
            let announced = body.announced();
            let (consumed, step) = match body.step(rest) {
                Ok(progress) => progress,
                Err(error) => {
                    assert_eq!(body.step(rest), Err(error), "an error does not last");
                    return (payload, Err(error));
                }
            };
            offset += consumed;
            match step {
                BodyStep::Data { start, end } => {
                    assert!(start < end && end == consumed && end <= rest.len());
                    assert!(announced == 0 || announced - (end - start) as u64 == body.announced());
                    payload.extend(&rest[start..end]);
                }
                BodyStep::NeedMore => break assert!(consumed == rest.len()),
                BodyStep::Done => {
                    assert_eq!(body.step(&rest[consumed..]), Ok((0, BodyStep::Done)));
                    return (payload, Ok(Some(offset)));
                }
            }
            rest = &rest[consumed..];
        }
    }
    (payload, Ok(None))
}

/// A second reading of a whole chunked body.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = rest[..line].split(|b| *b == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            break;
        }
        let (data, behind) = rest.split_at_checked(size)?;
        payload.extend_from_slice(data);
        rest = behind.strip_prefix(b"\r\n")?;
    }
    while rest != b"\r\n" {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        rest[..line].contains(&b':').then_some(())?;
        rest = &rest[line + 2..];
    }
    Some(payload)
}

fn chunk(payload: &[u8], piece_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in payload.chunks(piece_bytes) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Checks the target codec on any bytes: what decodes is clean text, the same as another decoder
/// makes of it, and encodes back to what means the same.
///
/// # Panics
///
/// If it does not, which would be a bug.
#[doc(hidden)]
pub fn fuzz_target(data: &[u8]) {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let is_clean = |text: &str| !text.contains(char::is_control);
    if let Some(segment) = decode_segment(data) {
        assert!(is_clean(&segment) && segment.len() <= data.len());
        assert_eq!(decode_segment(encode(&segment).as_bytes()).as_deref(), Some(&*segment));
    }
    let clean = decoded_twice(data).filter(|text| is_clean(text));
    assert_eq!(decode_segment(data), clean, "two readings of a segment");
    let pairs: Vec<_> = Query::new(Some(data)).collect();
    let raw: Vec<_> = data.split(|b| *b == b'&').filter(|pair| !pair.is_empty()).collect();
    assert_eq!(pairs.len(), raw.len());
    for (pair, raw) in pairs.into_iter().zip(raw) {
        let spaced: Vec<u8> = raw.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
        let mut sides = spaced.splitn(2, |b| *b == b'=');
        let mut side = || decoded_twice(sides.next().unwrap_or_default()).map(Cow::into_owned);
        let expected = side().zip(side());
        assert_eq!(pair.clone().ok().map(|(n, v)| (n.into_owned(), v.into_owned())), expected);
        let Ok((name, value)) = pair else { continue };
        let again = format!("{}={}", encode(&name), encode(&value));
        assert_eq!(Query::new(Some(again.as_bytes())).next(), Some(Ok((name, value))));
    }
    if let Some((host, port)) = split_host(data) {
        assert!(!host.is_empty() && data.starts_with(host) && host.is_ascii());
        assert!(port.is_none() || host.len() + 2 <= data.len());
        let again = [host, &port.map_or(String::new(), |n| format!(":{n}")).into_bytes()].concat();
        assert_eq!(split_host(&again), Some((host, port)));
    }
    check_target(data);
}

/// What another decoder makes of it; `None` for a `%` without two digits, and for what is no UTF-8.
fn decoded_twice(raw: &[u8]) -> Option<Cow<'_, str>> {
    let mut escapes = raw.split(|b| *b == b'%').skip(1);
    let is_escape = |rest: &[u8]| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit);
    escapes.all(is_escape).then_some(())?;
    percent_decode(raw).decode_utf8().ok()
}

/// In a request line, a target in origin-form is its path, and behind the first `?` its query.
fn check_target(data: &[u8]) {
    let limits = HeadLimits { head_bytes_max: 16_384, line_bytes_max: 16_384, headers_max: 4 };
    let bytes = [b"GET ", data, b" HTTP/1.1\r\nHost: from.field\r\n\r\n"].concat();
    if HeadScan::default().scan(&bytes, &limits) != Ok(Some(bytes.len())) {
        return;
    }
    let head = match parse(&bytes, &limits) {
        Ok(head) => head,
        Err(error) => return assert_ne!(error, HeadError::NotImplemented, "GET is"),
    };
    let (path, query) = (head.path.of(&bytes), head.query.map(|query| query.of(&bytes)));
    if data.starts_with(b"/") {
        let whole = query.map_or_else(|| path.to_vec(), |query| [path, b"?", query].concat());
        assert_eq!(whole, data);
        assert_eq!(head.host.map(|host| host.of(&bytes)), Some(&b"from.field"[..]));
        assert!(!path.contains(&b'?'));
    }
}
