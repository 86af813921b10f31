//! Fields are known by their whole name: one of the same length is another.

use super::*;

#[test]
fn a_field_of_another_name_says_nothing() {
    let seen = |lines: &str| format!("{:?}", read(with(lines)).expect(lines));
    for (name, value) in [
        ("ttl", "1"),
        ("host", "b"),
        ("event", "a"),
        ("accept", "text/event-stream"),
        ("expect", "100-continue"),
        ("origin", "null"),
        ("upgrade", "websocket"),
        ("connection", "close, upgrade"),
        ("content-type", "a/b"),
        ("authorization", "a"),
        ("last-event-id", "a"),
        ("content-length", "1"),
        ("idempotency-key", "a"),
        ("content-encoding", "gzip"),
        ("transfer-encoding", "chunked"),
        ("sec-websocket-key", "a"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "a"),
        ("sec-websocket-extensions", "a"),
        ("access-control-request-method", "PUT"),
    ] {
        let known = format!("{name}: {value}\r\n");
        let other = format!("X{known}").replacen(&name[..1], "", 1);
        assert_eq!(seen(&other), seen(""), "{other:?}");
        if name != "host" {
            assert_ne!(seen(&known), seen(""), "{known:?}");
            assert_eq!(seen(&format!("{known}{other}")), seen(&known), "{other:?}");
        }
    }
}

#[test]
fn a_backslash_escapes_in_quotes_only() {
    for (value, is_stream) in [
        ("a/b\\, text/event-stream", true),
        ("a/b;c=\\\", text/event-stream", false),
        ("a/b;c=\"\\\", text/event-stream\"", false),
        ("a/b;c=\"\\\\\", text/event-stream", true),
    ] {
        let head = read(with(&format!("Accept: {value}\r\n"))).expect(value);
        assert_eq!(head.accepts_event_stream, is_stream, "{value}");
    }
}

#[test]
fn the_longest_head_is_as_long_as_an_offset_reaches() {
    let wide = HeadLimits { head_bytes_max: 1 << 20, line_bytes_max: 1 << 20, headers_max: 64 };
    let padded = |len: usize| {
        let rest = len - with("A: \r\n").len();
        with(&format!("A: {}\r\n", "b".repeat(rest)))
    };
    let longest = padded(65_535);
    assert_eq!(HeadScan::default().scan(longest.as_bytes(), &wide), Ok(Some(65_535)));
    assert!(parse(longest.as_bytes(), &wide).is_ok());
    let over = padded(65_536);
    assert_eq!(HeadScan::default().scan(over.as_bytes(), &wide), Err(HeadError::TooLarge));
    assert_eq!(parse(over.as_bytes(), &wide).err(), Some(HeadError::TooLarge));
}
