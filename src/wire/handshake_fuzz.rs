//! What reading a handshake promises, asserted on any bytes: the fuzz target and the tests run it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{LIST_BYTES_MAX, LIST_ITEMS_MAX, accept_key, check_extensions, is_tchar, offers};
use crate::wire::http::{HeadLimits, HeadScan, parse};

/// Feeds `data` to all readers of a handshake's values, and its lines to the fields of a head that
/// asks for an upgrade, or for a kind of answer.
///
/// # Panics
///
/// If what they promise does not hold, which would be a bug.
#[doc(hidden)]
pub fn fuzz_handshake(data: &[u8]) {
    check_keys(data);
    check_offers(data);
    let is_list = check_extensions(data);
    if data.len() < LIST_BYTES_MAX {
        let padded = [b"\t", data, b","].concat();
        assert!(is_list.is_err() || check_extensions(&padded).is_ok());
    }
    check_asked(data);
}

fn check_keys(data: &[u8]) {
    if let Some(accept) = accept_key(data) {
        let nonce = STANDARD.decode(data);
        assert!(data.len() == 24 && nonce.is_ok_and(|nonce| nonce.len() == 16));
        assert_eq!(STANDARD.decode(accept).map(|digest| digest.len()), Ok(20));
    }
    if let Some(nonce) = data.get(..16) {
        let key = STANDARD.encode(nonce);
        let accept = accept_key(key.as_bytes());
        assert!(accept.is_some());
        // One other bit is another answer.
        let other: Vec<u8> = nonce.iter().map(|byte| byte ^ 1).collect();
        assert_ne!(accept, accept_key(STANDARD.encode(other).as_bytes()));
        assert_eq!(accept_key(&key.as_bytes()[..23]), None);
    }
}

fn check_offers(data: &[u8]) {
    let Ok(read) = offers(data.split(|b| *b == b'\n')) else { return };
    let tokens: Vec<&str> = read.iter().collect();
    assert!((1..=LIST_ITEMS_MAX).contains(&tokens.len()) && !read.is_empty());
    assert!(tokens.iter().all(|token| token.bytes().all(is_tchar) && read.contains(token)));
    let mut unique = tokens.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), tokens.len());
    // Joined or a line each, they are the same list.
    let joined = tokens.join(",");
    let again = offers([joined.as_bytes()].into_iter()).map(|read| read.iter().eq(tokens.clone()));
    assert_eq!(again, Ok(true));
    let lines = tokens.iter().map(|token| token.as_bytes());
    assert_eq!(offers(lines).map(|read| read.iter().eq(tokens.clone())), Ok(true));
    // A line that is a list of subprotocols is a list of extensions, too.
    if !data.contains(&b'\n') {
        assert_eq!(check_extensions(data), Ok(()));
    }
}

/// Three lines stand in `Accept`, `Connection` and `Upgrade`.
fn check_asked(data: &[u8]) {
    let limits = HeadLimits { head_bytes_max: 16_384, line_bytes_max: 8_192, headers_max: 8 };
    let mut lines = data.split(|b| *b == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (accept, connection, upgrade) = (line(), line(), line());
    let bytes = [
        &b"GET / HTTP/1.1\r\nHost: a\r\nAccept: "[..],
        accept,
        b"\r\nConnection: ",
        connection,
        b"\r\nUpgrade: ",
        upgrade,
        b"\r\n\r\n",
    ]
    .concat();
    if HeadScan::default().scan(&bytes, &limits) != Ok(Some(bytes.len())) {
        return;
    }
    let Ok(head) = parse(&bytes, &limits) else { return };
    let lists = |value: &[u8], wanted: &str| {
        value
            .split(|b| *b == b',')
            .any(|one| one.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
    };
    assert_eq!(head.upgrade_listed, lists(upgrade, "websocket"));
    assert_eq!(head.upgrade_websocket, head.upgrade_listed && lists(connection, "upgrade"));
    assert_eq!(head.keep_alive, !lists(connection, "close"));
    assert!(head.accepts_event_stream || !head.accepts_only_event_stream);
    // Without weights and quotes, `Accept` is such a list, too.
    if !accept.iter().any(|b| matches!(b, b';' | b'"')) {
        assert_eq!(head.accepts_event_stream, lists(accept, "text/event-stream"));
        assert_eq!(head.accepts_html, lists(accept, "text/html"));
        let only = accept.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        let mut only = only.filter(|one| !one.is_empty());
        let is_only = only.all(|one| one.eq_ignore_ascii_case(b"text/event-stream"));
        assert_eq!(head.accepts_only_event_stream, head.accepts_event_stream && is_only);
    }
}
