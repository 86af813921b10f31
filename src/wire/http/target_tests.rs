//! Tables of targets, hosts, segments and queries.

use super::*;
use crate::wire::http::{HeadLimits, fuzz_head, fuzz_target, parse, seeded};

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 16_384, line_bytes_max: 8_192, headers_max: 64 };

/// Path, query and host of a request with this target.
fn read(method: &str, target: &str) -> Option<(String, Option<String>, String, bool)> {
    let bytes = format!("{method} {target} HTTP/1.1\r\nHost: from.field\r\n\r\n").into_bytes();
    fuzz_head(&bytes);
    let head = parse(&bytes, &LIMITS).ok()?;
    let text = |span: Span| String::from_utf8(span.of(&bytes).to_vec()).expect("ASCII");
    Some((text(head.path), head.query.map(text), head.host.map(text)?, head.is_asterisk))
}

#[test]
fn targets_have_three_forms() {
    for (method, target, path, query, host, is_asterisk) in [
        ("GET", "/", "/", None, "from.field", false),
        ("GET", "/a/b?c=d?e&/", "/a/b", Some("c=d?e&/"), "from.field", false),
        ("GET", "/?", "/", Some(""), "from.field", false),
        ("GET", "//a//", "//a//", None, "from.field", false),
        ("GET", "/-._~!$&'()*+,;=:@%zz%", "/-._~!$&'()*+,;=:@%zz%", None, "from.field", false),
        ("GET", "/http://a/", "/http://a/", None, "from.field", false),
        ("GET", "http://a/b?c", "/b", Some("c"), "a", false),
        ("GET", "HTTPS://a:1", "/", None, "a:1", false),
        ("GET", "http://[::1]:8080?a", "/", Some("a"), "[::1]:8080", false),
        ("OPTIONS", "http://a/", "/", None, "a", false),
        ("OPTIONS", "http://a", "/", None, "a", true),
        ("OPTIONS", "/a", "/a", None, "from.field", false),
        ("OPTIONS", "*", "*", None, "from.field", true),
    ] {
        let expected = (path.to_owned(), query.map(str::to_owned), host.to_owned(), is_asterisk);
        assert_eq!(read(method, target), Some(expected), "{method} {target}");
    }
}

#[test]
fn other_targets_are_refused() {
    for target in [
        "*",
        "foo",
        "?a",
        "a:443",
        "/a#b",
        "/#",
        "/\u{e4}",
        "/a\"b",
        "/<",
        "/>",
        "/{",
        "/}",
        "/|",
        "/\\",
        "/^",
        "/`",
        "/[",
        "/]",
        "/?a#b",
        "/?\u{e4}",
        "/?\"",
        "http://",
        "http:///a",
        "http://u@a/",
        "http://a b/",
        "http:/a",
        "http:a",
        "ftp://a/",
        "ws://a/",
        "http://a#b",
        "http://a/#b",
        "http://a:99999/",
        "http://[::1/",
        "http://\u{e4}/",
        "://a/",
        "*/",
        "**",
        "http://:80/",
    ] {
        assert_eq!(read("GET", target), None, "{target}");
    }
    for target in ["**", "*?a", "/*#", "*/"] {
        assert_eq!(read("OPTIONS", target), None, "{target}");
    }
}

#[test]
fn hosts_are_split() {
    for (authority, host, port) in [
        ("a", "a", None),
        ("a:", "a", None),
        ("a:0", "a", Some(0)),
        ("A.b:65535", "A.b", Some(65_535)),
        ("[::1]", "[::1]", None),
        ("[::ffff:127.0.0.1]:00080", "[::ffff:127.0.0.1]", Some(80)),
    ] {
        let expected = Some((host.as_bytes(), port));
        assert_eq!(split_host(authority.as_bytes()), expected, "{authority}");
    }
    for authority in ["", ":", ":1", "[", "[]", "]", "[::1]]", "[::1]1", "a:65536", "a:1a", "a::"] {
        assert_eq!(split_host(authority.as_bytes()), None, "{authority}");
    }
}

#[test]
fn segments_are_decoded_once() {
    for (raw, text) in [
        ("", Some("")),
        ("a.b", Some("a.b")),
        ("a+b", Some("a+b")),
        ("a+b%20", Some("a+b ")),
        ("a%20b%2Fc%2f", Some("a b/c/")),
        ("%2541", Some("%41")),
        ("%C3%A4", Some("\u{e4}")),
        ("\u{e4}", Some("\u{e4}")),
        ("%", None),
        ("%4", None),
        ("a%4", None),
        ("%zz", None),
        ("%4g", None),
        ("%+1", None),
        ("%%41", None),
        ("%00", None),
        ("%0A", None),
        ("%1f", None),
        ("%7F", None),
        ("%C2%85", None),
        ("\t", None),
        ("%ff", None),
        ("%C3", None),
        ("%C0%80", None),
        ("%ED%A0%80", None),
    ] {
        assert_eq!(decode_segment(raw.as_bytes()).as_deref(), text, "{raw:?}");
        fuzz_target(raw.as_bytes());
    }
    assert_eq!(decode_segment(b"\xff"), None);
    assert!(matches!(decode_segment(b"a.b"), Some(Cow::Borrowed("a.b"))));
}

#[test]
fn queries_are_form_urlencoded() {
    for (raw, pairs) in [
        ("", &[][..]),
        ("&&", &[]),
        ("a", &[Ok(("a", ""))]),
        ("a=", &[Ok(("a", ""))]),
        ("=a", &[Ok(("", "a"))]),
        ("=", &[Ok(("", ""))]),
        ("a=b=c", &[Ok(("a", "b=c"))]),
        ("a=1&&b=2&", &[Ok(("a", "1")), Ok(("b", "2"))]),
        ("a+b=c+%2B%20", &[Ok(("a b", "c + "))]),
        ("%61=%26%3d", &[Ok(("a", "&="))]),
        ("a;b=c", &[Ok(("a;b", "c"))]),
        ("a=%C3%A4", &[Ok(("a", "\u{e4}"))]),
        ("a=%zz&b=1", &[Err(BadQuery), Ok(("b", "1"))]),
        ("a=%00", &[Ok(("a", "\0"))]),
        ("a=%0d", &[Ok(("a", "\r"))]),
        ("%ff=a", &[Err(BadQuery)]),
        ("a=%", &[Err(BadQuery)]),
        ("%6", &[Err(BadQuery)]),
        ("a%62=c=d&=", &[Ok(("ab", "c=d")), Ok(("", ""))]),
        ("a=%&b%=1", &[Err(BadQuery), Err(BadQuery)]),
    ] {
        let found: Vec<_> = Query::new(Some(raw.as_bytes())).collect();
        let expected: Vec<_> =
            pairs.iter().map(|pair| pair.map(|(n, v)| (n.into(), v.into()))).collect();
        assert_eq!(found, expected, "{raw:?}");
        fuzz_target(raw.as_bytes());
    }
    assert_eq!(Query::new(None).count(), 0);
    assert_eq!(BadQuery.code().name(), "bad_query");
    assert!(BadQuery.message().contains("percent-encode"));
}

/// Seeded: the seed is printed with a failure.
#[test]
fn random_targets_never_panic() {
    const ALPHABET: &[u8] = b"%%%%0127aAfFcCeE&&==++/:[].-\xc3\xa4\x00\x80";
    let mut random = seeded();
    for _ in 0..100_000 {
        let len = random.usize(..24);
        let bytes: Vec<u8> = (0..len).filter_map(|_| random.choice(ALPHABET).copied()).collect();
        fuzz_target(&bytes);
    }
}
