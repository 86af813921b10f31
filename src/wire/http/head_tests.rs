//! Tables of heads, good and bad, and the promise that splits do not matter.

use super::*;
use crate::wire::http::{fuzz_head, seeded};

#[path = "field_tests.rs"]
mod fields;

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 16_384, line_bytes_max: 8_192, headers_max: 64 };

/// Scans and parses `text`, all of which must be the head unless it fails.
fn read(text: impl AsRef<[u8]>) -> Result<Head, HeadError> {
    read_within(text.as_ref(), &LIMITS)
}

fn read_within(text: &[u8], limits: &HeadLimits) -> Result<Head, HeadError> {
    fuzz_head(text);
    let len = HeadScan::default().scan(text, limits)?.expect("an end of the head");
    assert_eq!(len, text.len());
    parse(text, limits)
}

/// A GET with these further lines, each ending in CRLF.
fn with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

fn text(span: Option<Span>, head: &[u8]) -> Option<&str> {
    span.map(|span| std::str::from_utf8(span.of(head)).expect("ASCII"))
}

#[test]
fn a_browsers_upgrade_is_understood() {
    let bytes = b"GET /ws?channel=a&since=latest HTTP/1.1\r\nHost: example.org:8080\r\n\
        Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nOrigin: https://example.org\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: b, c\r\n\r\n";
    let head = read(bytes).expect("a good head");
    assert_eq!((head.method, head.version), (Method::Get, Version::Http11));
    assert_eq!(text(Some(head.path), bytes), Some("/ws"));
    assert_eq!(text(head.query, bytes), Some("channel=a&since=latest"));
    assert_eq!(text(head.host, bytes), Some("example.org:8080"));
    assert_eq!(text(head.origin, bytes), Some("https://example.org"));
    assert_eq!(text(head.ws_version, bytes), Some("13"));
    assert_eq!(text(head.ws_key, bytes), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_eq!(text(head.ws_extensions, bytes), Some("permessage-deflate"));
    assert_eq!(text(head.ws_protocol, bytes), Some("b, c"));
    assert!(head.upgrade_websocket && head.upgrade_listed && head.keep_alive);
    assert!(!head.is_asterisk && !head.accepts_event_stream && !head.accepts_html);
    assert_eq!((head.framing, head.expect), (Framing::None, Expect::None));
}

#[test]
fn a_publish_is_understood() {
    let bytes = b"\r\nPOST /channels/a HTTP/1.1\r\nhost:a\r\nCONTENT-LENGTH: 5\r\nttl: 7 \r\n\
        content-type:\ttext/plain\r\nEvent: tick\r\nIdempotency-Key: k\r\n\
        Authorization: Bearer t\r\n\
        Content-Encoding: gzip\r\nLast-Event-ID:\r\nAccess-Control-Request-Method: PUT\r\n\
        X-Other: \xff\xfe\r\n\r\n";
    let head = read(bytes).expect("a good head");
    assert_eq!((head.method, head.framing), (Method::Post, Framing::Length(5)));
    assert_eq!(text(head.content_type, bytes), Some("text/plain"));
    assert_eq!(text(head.ttl, bytes), Some("7"));
    assert_eq!(text(head.event, bytes), Some("tick"));
    assert_eq!(text(head.idempotency_key, bytes), Some("k"));
    assert_eq!(text(head.authorization, bytes), Some("Bearer t"));
    assert_eq!(text(head.content_encoding, bytes), Some("gzip"));
    assert_eq!(text(head.last_event_id, bytes), Some(""));
    assert_eq!(text(head.access_control_request_method, bytes), Some("PUT"));
    assert_eq!(header(bytes, "x-other"), Some(&b"\xff\xfe"[..]));
    assert_eq!(header(bytes, "Ttl"), Some(&b"7"[..]));
    assert_eq!(header(bytes, "other"), None);
    assert_eq!(header(bytes, "POST /channels/a HTTP/1.1"), None);
}

#[test]
fn malformed_heads_are_400() {
    let heads: &[&[u8]] = &[
        // Line ends.
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\rHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        // Request line.
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\r\nHost: a\r\n\r\n",
        b"GET\r\nHost: a\r\n\r\n",
        b"GET / \r\nHost: a\r\n\r\n",
        b"GET / HTTP/\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
        b"GET / a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET(/) / HTTP/1.1\r\nHost: a\r\n\r\n",
        // Fields.
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\xc3\xa4: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nb(c): d\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nb: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nb: c\x0bd\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nb: c\x7f\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nb: c\rd\r\n\r\n",
    ];
    for bytes in heads {
        assert_eq!(read(bytes).err(), Some(HeadError::Syntax), "{}", bytes.escape_ascii());
    }
}

#[test]
fn leading_empty_lines_count_as_head() {
    for leading in ["", "\r\n", "\r\n\r\n"] {
        let head = format!("{leading}{}", with(""));
        assert!(read(&head).is_ok(), "{leading:?}");
        let limits = HeadLimits { head_bytes_max: head.len() - 1, ..LIMITS };
        assert_eq!(read_within(head.as_bytes(), &limits).err(), Some(HeadError::TooLarge));
        let limits = HeadLimits { head_bytes_max: head.len(), ..LIMITS };
        assert!(read_within(head.as_bytes(), &limits).is_ok());
    }
}

#[test]
fn what_cannot_start_a_head_is_refused_at_once() {
    for start in
        [&b"\x16\x03\x01"[..], b"\n", b" ", b"\xff", b"\x00", b"\r\n(", b"GET / HTTP/1.1\n"]
    {
        let outcome = HeadScan::default().scan(start, &LIMITS);
        assert_eq!(outcome, Err(HeadError::Syntax), "{}", start.escape_ascii());
    }
    for start in [&b""[..], b"\r", b"\r\n", b"\r\n\r", b"\r\n\r\n", b"G", b"GET / HTTP/1.1\r\n\r"] {
        let outcome = HeadScan::default().scan(start, &LIMITS);
        assert_eq!(outcome, Ok(None), "{}", start.escape_ascii());
    }
}

#[test]
fn methods_are_known_or_501() {
    for name in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        let head = read(format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n")).expect(name);
        assert_eq!(head.method.name(), name);
    }
    for line in ["get /", "Get /", "G!$ /", "CONNECT a:443", "CONNECT /", "PROPFIND /", "GETT /"] {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(read(&head).err(), Some(HeadError::NotImplemented), "{line}");
    }
}

#[test]
fn other_versions_are_505() {
    for version in
        ["HTTP/1.2", "HTTP/2.0", "HTTP/2", "HTTP/0.9", "http/1.1", "HTTP/11.1", "Http/1.0"]
    {
        let head = format!("GET / {version}\r\nHost: a\r\n\r\n");
        assert_eq!(read(&head).err(), Some(HeadError::Version), "{version}");
    }
    let preface = b"PRI * HTTP/2.0\r\n\r\n";
    assert_eq!(read(preface).err(), Some(HeadError::Version));
    let trickled = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(HeadScan::default().scan(trickled, &LIMITS), Ok(Some(preface.len())));
}

#[test]
fn one_valid_host_is_required() {
    for host in ["a", "a.b-c_d~e", "a:80", "a:", "127.0.0.1:65535", "[::1]", "[::1]:80", "xn--a"] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let parsed = read(&head).expect(host);
        assert_eq!(text(parsed.host, head.as_bytes()), Some(host));
    }
    for host in [
        "",
        " ",
        ":80",
        "a b",
        "a/b",
        "a@b",
        "u:p@b",
        "a:b",
        "a:+1",
        "a:65536",
        "a:1:2",
        "a, b",
        "[::1",
        "::1",
        "[]",
        "[a]",
        "[::1]a",
        "[fe80::1%25eth0]",
        "a%41",
        "\u{e4}",
        "a\"",
        "http://a",
        "a?b",
        "a#b",
        "a\\b",
        "[127.0.0.1]",
        "a[::1]",
    ] {
        for version in ["1.0", "1.1"] {
            let head = format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\n");
            assert_eq!(read(&head).err(), Some(HeadError::Syntax), "{host:?}");
        }
    }
    assert_eq!(read("GET / HTTP/1.1\r\n\r\n").err(), Some(HeadError::Syntax));
    assert_eq!(read(with("Host: a\r\n")).err(), Some(HeadError::Syntax));
    assert_eq!(read("GET http://a/ HTTP/1.1\r\n\r\n").err(), Some(HeadError::Syntax));
    assert_eq!(read("GET / HTTP/1.0\r\n\r\n").expect("1.0 may").host, None);
    let twice = "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n";
    assert_eq!(read(twice).err(), Some(HeadError::Syntax));
}

#[test]
fn fields_that_may_stand_once_are_refused_twice() {
    for (name, value) in [
        ("Authorization", "a"),
        ("Origin", "null"),
        ("Last-Event-ID", ""),
        ("Content-Type", "a/b"),
        ("Content-Encoding", "gzip"),
        ("Event", "a"),
        ("TTL", "1"),
        ("Idempotency-Key", "a"),
        ("Sec-WebSocket-Key", "a"),
        ("Sec-WebSocket-Version", "13"),
        ("Upgrade", "websocket"),
        ("Access-Control-Request-Method", "PUT"),
        ("Content-Length", "1"),
        ("Transfer-Encoding", "chunked"),
    ] {
        let once = format!("{name}: {value}\r\n");
        assert!(read(with(&once)).is_ok(), "{name}");
        let lower = name.to_ascii_lowercase();
        let twice = format!("{once}X-Between: a\r\n{lower}: {value}\r\n");
        assert_eq!(read(with(&twice)).err(), Some(HeadError::Syntax), "{name}");
    }
}

#[test]
fn offers_may_be_spread_over_lines() {
    let line = |value: &str| format!("Sec-WebSocket-Protocol: {value}\r\n");
    let head = with(&(line("a, b") + &line("c")));
    let parsed = read(&head).expect("RFC 6455 allows it");
    assert_eq!(text(parsed.ws_protocol, head.as_bytes()), Some("a, b"));
    assert_eq!(text(parsed.ws_protocol_more, head.as_bytes()), Some("c"));
    assert_eq!(read(with(&line("a").repeat(3))).err(), Some(HeadError::Syntax));
    let head = with("Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: b\r\n");
    let parsed = read(&head).expect("RFC 6455 allows it");
    assert_eq!(text(parsed.ws_extensions, head.as_bytes()), Some("a"));
}

#[test]
fn framing_is_decided_from_both_fields() {
    for (version, lines, framing) in [
        ("1.1", "", Ok(Framing::None)),
        ("1.1", "Content-Length: 0\r\n", Ok(Framing::None)),
        ("1.0", "Content-Length:\t5 \r\n", Ok(Framing::Length(5))),
        ("1.1", "Transfer-Encoding: \tChunked \r\n", Ok(Framing::Chunked)),
        ("1.1", "Content-Length: 5, 5\r\n", Err(HeadError::Syntax)),
        ("1.1", "Content-Length: 5\r\nContent-Length: 5\r\n", Err(HeadError::Syntax)),
        ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(HeadError::Syntax)),
        ("1.1", "Transfer-Encoding: gzip\r\nContent-Length: 0\r\n", Err(HeadError::Syntax)),
        ("1.1", "Transfer-Encoding: chunked\r\n".repeat(2).as_str(), Err(HeadError::Syntax)),
        ("1.1", "Transfer-Encoding:\r\n", Err(HeadError::Syntax)),
        ("1.1", "Transfer-Encoding: \x0bchunked\r\n", Err(HeadError::Syntax)),
        ("1.1", "Transfer-Encoding: gzip, chunked\r\n", Err(HeadError::NotImplemented)),
        ("1.0", "Transfer-Encoding: chunked\r\n", Err(HeadError::Syntax)),
        ("1.0", "Transfer-Encoding: gzip\r\n", Err(HeadError::Syntax)),
    ] {
        let found = read(format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n"));
        assert_eq!(found.map(|head| head.framing), framing, "{version} {lines:?}");
    }
}

#[test]
fn connections_persist_by_version_and_tokens() {
    for (version, lines, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Keep-Alive, CLOSE\r\n", false),
        ("1.1", "Connection: upgrade\r\nConnection: a,close ,\r\n", false),
        ("1.1", "Connection: closed, x-close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive\r\nConnection: close\r\n", false),
    ] {
        let head = read(format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n")).expect(lines);
        assert_eq!(head.keep_alive, keep_alive, "{version} {lines:?}");
    }
}

#[test]
fn expectations_are_continue_or_other() {
    for (version, lines, expect) in [
        ("1.1", "Expect: 100-continue\r\n", Expect::Continue),
        ("1.1", "Expect: 100-Continue, 100-continue\r\n", Expect::Continue),
        ("1.1", "Expect: ,\r\n", Expect::None),
        ("1.1", "Expect: 100-continue, b\r\n", Expect::Other),
        ("1.1", "Expect: b\r\nExpect: 100-continue\r\n", Expect::Other),
        ("1.1", "Expect: 100-continue;a=b\r\n", Expect::Other),
        ("1.0", "Expect: 100-continue\r\n", Expect::None),
    ] {
        let head = read(format!("PUT / HTTP/{version}\r\nHost: a\r\n{lines}\r\n")).expect(lines);
        assert_eq!(head.expect, expect, "{version} {lines:?}");
    }
}

#[test]
fn upgrades_need_both_fields() {
    for (lines, upgrades, listed) in [
        ("Upgrade: WebSocket\r\nConnection: UPGRADE\r\n", true, true),
        ("Upgrade: h2c, websocket\r\nConnection: a\r\nConnection: upgrade\r\n", true, true),
        ("Upgrade: websocket\r\n", false, true),
        ("Upgrade: websocket\r\nConnection: keep-alive\r\n", false, true),
        ("Upgrade: h2c\r\nConnection: upgrade\r\n", false, false),
        ("Upgrade: websocket/13, xwebsocket\r\nConnection: upgrade\r\n", false, false),
        ("Connection: upgrade\r\n", false, false),
    ] {
        let head = read(with(lines)).expect(lines);
        assert_eq!((head.upgrade_websocket, head.upgrade_listed), (upgrades, listed), "{lines:?}");
    }
}

#[test]
fn accept_lists_what_it_names() {
    for (lines, stream, html, only) in [
        ("", false, false, false),
        ("Accept: text/event-stream\r\n", true, false, true),
        ("Accept: Text/Event-Stream;charset=utf-8 ,\r\n", true, false, true),
        ("Accept: text/event-stream, */*\r\n", true, false, false),
        ("Accept: text/event-stream, text/html;q=0\r\n", true, false, true),
        ("Accept: */*\r\n", false, false, false),
        ("Accept: text/*\r\n", false, false, false),
        ("Accept: text/html,application/xml;q=0.9,*/*;q=0.8\r\n", false, true, false),
        ("Accept: a/b\r\nAccept: text/event-stream\r\n", true, false, false),
        ("Accept: text/event-stream;q=0\r\n", false, false, false),
        ("Accept: text/event-stream; Q=0.000\r\n", false, false, false),
        ("Accept: text/event-stream;a=b;q=0., text/html;q=0.001\r\n", false, true, false),
        ("Accept: text/event-stream;q=\r\n", true, false, true),
        ("Accept: a/b;c=\", text/event-stream\", text/html\r\n", false, true, false),
        ("Accept: a/b;c=\"\\\", text/event-stream\r\n", false, false, false),
        ("Accept: text/event-streams, xtext/html\r\n", false, false, false),
    ] {
        let head = read(with(lines)).expect(lines);
        let found = (head.accepts_event_stream, head.accepts_html, head.accepts_only_event_stream);
        assert_eq!(found, (stream, html, only), "{lines:?}");
    }
}

#[test]
fn limits_are_exact() {
    let limits = HeadLimits { head_bytes_max: 64, line_bytes_max: 20, headers_max: 2 };
    let cases = [
        ("GET /4567 HTTP/1.1\r\nHost: 6789012345678\r\nA: 3456\r\n\r\n", None),
        ("GET /45678901234567890 HTTP/1.1\r\nHost: a\r\n\r\n", Some(HeadError::UriTooLong)),
        ("GET /456 HTTP/1.1\r\nHost: 678901234567890\r\n\r\n", Some(HeadError::TooLarge)),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n", Some(HeadError::TooLarge)),
        (
            "GET / HTTP/1.1\r\nHost: 789012345678\r\nA: 45678901234567\r\nB: 45\r\n\r\n",
            Some(HeadError::TooLarge),
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(read_within(bytes.as_bytes(), &limits).err(), error, "{bytes:?}");
    }
    for (start, outcome) in [
        ("GET /6789012345678901", Err(HeadError::UriTooLong)),
        ("GET /678901234567890", Ok(None)),
        ("GET /678901234567890\r", Ok(None)),
        ("GET /678901234567890\rb", Err(HeadError::UriTooLong)),
        ("GET / HTTP/1.1\r\nHost: 789012345678901", Err(HeadError::TooLarge)),
        ("GET / HTTP/1.1\r\nHost: 78901234567890", Ok(None)),
    ] {
        assert_eq!(HeadScan::default().scan(start.as_bytes(), &limits), outcome, "{start:?}");
    }
    let full =
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "A: 456789012\r\n".repeat(3)).into_bytes();
    assert_eq!(HeadScan::default().scan(&full[..63], &limits), Ok(None));
    assert_eq!(HeadScan::default().scan(&full[..64], &limits), Err(HeadError::TooLarge));
    let many = HeadLimits { headers_max: 1000, ..LIMITS };
    assert!(read_within(with(&"A: b\r\n".repeat(127)).as_bytes(), &many).is_ok());
    let more = with(&"A: b\r\n".repeat(128));
    assert_eq!(read_within(more.as_bytes(), &many).err(), Some(HeadError::TooLarge));
    assert!(read(with(&"A: b\r\n".repeat(63))).is_ok());
    assert_eq!(read(with(&"A: b\r\n".repeat(64))).err(), Some(HeadError::TooLarge));
    let long = with(&format!("A: {}\r\n", "b".repeat(70_000)));
    let wide = HeadLimits { head_bytes_max: 1 << 20, line_bytes_max: 1 << 20, headers_max: 64 };
    assert_eq!(HeadScan::default().scan(long.as_bytes(), &wide), Err(HeadError::TooLarge));
    assert_eq!(parse(long.as_bytes(), &wide).err(), Some(HeadError::TooLarge));
}

#[test]
fn a_head_is_found_at_every_split_and_what_follows_is_left() {
    let head = with("Accept: text/html\r\n");
    let bytes = format!("\r\n{head}next");
    for first in 0..bytes.len() {
        let mut scan = HeadScan::default();
        let early = scan.scan(&bytes.as_bytes()[..first], &LIMITS);
        let found = match early {
            Ok(None) => scan.scan(bytes.as_bytes(), &LIMITS),
            _ => early,
        };
        assert_eq!(found, Ok(Some(head.len() + 2)), "split at {first}");
    }
}

#[test]
fn only_a_whole_head_is_parsed() {
    let head = with("");
    for other in [&head[..head.len() - 1], &head[..20], "", &format!("{head}A"), &head.repeat(2)] {
        assert_eq!(parse(other.as_bytes(), &LIMITS).err(), Some(HeadError::Syntax), "{other:?}");
    }
}

#[test]
fn sizes_stay_small() {
    assert!(size_of::<HeadScan>() <= 16);
    assert!(size_of::<Head>() <= 160, "{}", size_of::<Head>());
}

#[test]
fn errors_name_their_status_and_say_what_to_do() {
    use HeadError::{NotImplemented, Syntax, TooLarge, UriTooLong, Version};
    let errors = [Syntax, UriTooLong, TooLarge, NotImplemented, Version];
    assert_eq!(errors.map(|error| error.code().status()), [400, 414, 431, 501, 505]);
    assert!(errors.iter().all(|e| e.message().is_ascii() && e.message().contains(' ')));
    let config = Config::default();
    assert_eq!(HeadLimits::from(&config), LIMITS);
}

/// Seeded: the seed is printed with a failure.
#[test]
fn mutated_heads_never_panic_and_splits_do_not_matter() {
    const PARTS: [&str; 24] = [
        "GET ",
        "POST ",
        "/a?b=c",
        "*",
        "http://h:1/x",
        " HTTP/1.1",
        " HTTP/1.0",
        "\r\n",
        "\n",
        "\r",
        "Host: a\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close",
        "Accept: text/event-stream;q=0, \"",
        "Upgrade: websocket",
        ": ",
        "\t",
        "\0",
        "\u{e4}",
        ",",
        ";",
        "Sec-WebSocket-Protocol: a\r\n",
        "\r\n\r\n",
    ];
    let good = with("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\nTTL: 1\r\n");
    let mut random = seeded();
    for _ in 0..20_000 {
        let mut bytes = if random.bool() { good.clone().into_bytes() } else { Vec::new() };
        for _ in 0..random.usize(1..12) {
            let at = random.usize(..=bytes.len());
            match random.u8(..3) {
                0 if at < bytes.len() => bytes[at] = random.u8(..),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => drop(bytes.splice(at..at, random.choice(PARTS).unwrap_or("").bytes())),
            }
        }
        fuzz_head(&bytes);
    }
}

#[test]
fn line_feeds_are_found_among_any_bytes() {
    for other in 0..=u8::MAX {
        for places in 0..=u8::MAX {
            let bytes: [u8; 8] =
                std::array::from_fn(|at| if places >> at & 1 != 0 { b'\n' } else { other });
            for len in 0..=8 {
                let expected = (0..len).filter(|at| bytes[*at] == b'\n');
                let expected: u64 = expected.map(|at| 0x80 << (8 * at)).sum();
                assert_eq!(line_feeds(&bytes[..len]), expected, "{bytes:?} {len}");
            }
        }
    }
}

#[test]
fn of_a_head_that_cannot_be_read_a_field_counts_if_it_is_there_once_and_whole() {
    let origin = |seen: &'static [u8]| only_header(seen, "origin");
    assert_eq!(origin(b"BAD\r\nOrigin: a\r\nX: y"), Some(&b"a"[..]));
    assert_eq!(
        origin(b"BAD\r\noRIGIN:a\r\n\r\nOrigin: b\r\n"),
        Some(&b"a"[..]),
        "behind it is no head"
    );
    for seen in [
        &b"BAD\r\nX: y\r\nOrigin: http://a.examp"[..],
        b"BAD\r\nOrigin: a\r\nX: y\r\nOrigin: a\r\n",
        b"Origin: a\r\nX: y\r\n",
        b"BAD\r\n\r\nOrigin: a\r\n",
        b"BAD\r\nXOrigin: a\r\n",
        b"",
        b"\n",
        b"\r\n\r\n",
        b"BAD",
    ] {
        assert_eq!(only_header(seen, "origin"), None, "{}", seen.escape_ascii());
    }
}
