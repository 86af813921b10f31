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
