//! The request head: line ends, field lines, request line, version, method, target.

use super::case::{After, Case, Want, bad_request, error, status};
use super::http::Req;

/// A second request, to prove that what follows an error is never read as one.
pub const NEXT: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    line_ends(&mut table);
    field_lines(&mut table);
    fields_accepted(&mut table);
    request_lines(&mut table);
    versions(&mut table);
    methods(&mut table);
    targets(&mut table);
    foreign_protocols(&mut table);
    table
}

/// One answer, then the end, although another request follows.
pub fn refused(name: &str, bytes: impl Into<Vec<u8>>, want: Want) -> Case {
    Case::new(name, bytes).and(NEXT).want(want).closed()
}

/// `GET /health` with one field line more, as raw bytes.
fn with_field(line: impl AsRef<[u8]>) -> Req {
    Req::new("GET /health").field(line)
}

/// RFC 9112 §2.2: a lone LF may be taken as a line end; two readings of one head are what
/// smuggling needs, so there is only one here.
fn line_ends(table: &mut Vec<Case>) {
    let rows: [(&str, &str); 18] = [
        ("LF ends the request line", "GET /health HTTP/1.1\nHost: localhost\r\n\r\n"),
        ("LF ends a field line", "GET /health HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n"),
        ("LF ends every line", "GET /health HTTP/1.1\nHost: localhost\n\n"),
        ("CRLF LF ends the head", "GET /health HTTP/1.1\r\nHost: localhost\r\n\n"),
        ("LF CRLF ends the head", "GET /health HTTP/1.1\r\nHost: localhost\n\r\n"),
        ("LF in a field value", "GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\nb\r\n\r\n"),
        ("LF after OWS", "GET /health HTTP/1.1\r\nHost: localhost\r\nX:\n\nGET / HTTP/1.1\r\n\r\n"),
        ("LF before the request", "\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("LF as the separator", "GET /health\nHTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("CRLF then LF first", "\r\n\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("CR ends a field line", "GET /health HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n"),
        ("CR in a field value", "GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n"),
        ("CR CR LF ends a line", "GET /health HTTP/1.1\r\nHost: localhost\r\r\nX: y\r\n\r\n"),
        (
            "CR and X end the head",
            "GET /health HTTP/1.1\r\nHost: localhost\r\n\rXGET / HTTP/1.1\r\n\r\n",
        ),
        ("CR before the request", "\rGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("three empty lines first", "\r\n\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a line of a space first", " \r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("CR in a field name", "GET /health HTTP/1.1\r\nHost: localhost\r\nX\rY: y\r\n\r\n"),
    ];
    table.extend(rows.map(|(name, bytes)| refused(name, bytes, bad_request())));
    // The LF is answered when it is seen: the rest of the head never comes.
    for (name, bytes) in [
        ("LF ends the request line, nothing follows", "GET /health HTTP/1.1\n"),
        ("LF ends a field line, nothing follows", "GET /health HTTP/1.1\r\nHost: localhost\n"),
        ("LF in the method, nothing follows", "GE\n"),
    ] {
        table.push(Case::new(name, bytes).want(bad_request()).closed());
    }
    for (name, lead) in [("one empty line first", "\r\n"), ("two empty lines first", "\r\n\r\n")] {
        table.push(Case::new(name, lead).and(NEXT).want(status(200)).kept());
    }
    // RFC 9112 §2.2: old clients send a CRLF too many after a POST.
    let two = Req::new("POST /channels/heads").body("hello").raw("\r\n");
    let two = Case::new("an empty line after a body", two).and(NEXT);
    table.push(two.want(status(202)).want(status(200)).kept());
}

fn field_lines(table: &mut Vec<Case>) {
    let rows: [(&str, &[u8]); 31] = [
        ("NUL in a value", b"X: a\0b"),
        ("NUL at the end of a value", b"X: a\0"),
        ("SOH in a value", b"X: a\x01b"),
        ("BEL in a value", b"X: a\x07b"),
        ("VT in a value", b"X: a\x0bb"),
        ("FF in a value", b"X: a\x0cb"),
        ("ESC in a value", b"X: a\x1bb"),
        ("DEL in a value", b"X: a\x7fb"),
        ("NUL in a cookie", b"Cookie: a=\0b"),
        ("SP before the colon", b"X : a"),
        ("HTAB before the colon", b"X\t: a"),
        ("0x85 before the colon", b"X\x85: a"),
        ("0xa0 before the colon", b"X\xa0: a"),
        ("obs-fold with SP", b"X: a\r\n b"),
        ("obs-fold with HTAB", b"X: a\r\n\tb"),
        ("obs-fold of nothing", b"X: a\r\n \r\nY: b"),
        ("empty name", b": a"),
        ("empty name and value", b":"),
        ("no colon", b"X"),
        ("a space instead of the colon", b"X a"),
        ("a name over two lines", b"Transfer-\r\nEncoding: chunked"),
        ("SP in a name", b"X Y: a"),
        ("HTAB in a name", b"X\tY: a"),
        ("NUL in a name", b"X\0: a"),
        ("( in a name", b"X(: a"),
        ("\" in a name", b"X\": a"),
        ("@ in a name", b"X@: a"),
        ("[ in a name", b"X[: a"),
        ("/ in a name", b"X/: a"),
        ("UTF-8 in a name", "Grüße: a".as_bytes()),
        ("0xef in a name", b"\xefoo: a"),
    ];
    table.extend(rows.map(|(name, line)| refused(name, with_field(line), bad_request())));
    // RFC 9112 §2.2: whitespace between the request line and the first field.
    for (name, lead) in [("SP before the first field", " "), ("HTAB before the first field", "\t")]
    {
        let bytes = format!("GET /health HTTP/1.1\r\n{lead}X: y\r\nHost: localhost\r\n\r\n");
        table.push(refused(name, bytes, bad_request()));
    }
}

fn fields_accepted(table: &mut Vec<Case>) {
    let rows: [(&str, &[u8]); 17] = [
        ("obs-text in a value", b"X: caf\xe9 \xff\x80"),
        ("UTF-8 in a value", "X: Grüße".as_bytes()),
        ("HTAB in a value", b"X: a\tb"),
        ("an empty value", b"X:"),
        ("a value of spaces", b"X:   \t "),
        ("no space after the colon", b"X:a"),
        ("spaces around a value", b"X: \t a \t "),
        ("every character of a name", b"!#$%&'*+-.^_`|~09azAZ: a"),
        ("colons in a value", b"X: a:b::"),
        ("a name in capitals", b"CONNECTION: KEEP-ALIVE"),
        ("TE is not Transfer-Encoding", b"TE: trailers"),
        ("two cookies", b"Cookie: a=b\r\nCookie: c=d"),
        ("a broken cookie", b"Cookie: ===;;;"),
        ("a Range that makes no sense", b"Range: bytes=abc-xyz"),
        ("an Accept that makes no sense", b"Accept: application/x-nonsense"),
        ("an Upgrade to h2c is ignored", b"Connection: Upgrade\r\nUpgrade: h2c"),
        ("an unknown field twice", b"X: a\r\nX: b"),
    ];
    table.extend(
        rows.map(|(name, line)| Case::new(name, with_field(line)).want(status(200)).kept()),
    );
    // Forwarded fields are believed from configured proxies only, and there are none.
    for (name, line) in [
        ("X-Forwarded-Host is not believed", "X-Forwarded-Host: evil.example"),
        ("Forwarded is not believed", "Forwarded: for=192.0.2.1;host=evil.example;proto=https"),
        ("X-Forwarded-For is not believed", "X-Forwarded-For: 192.0.2.1"),
        ("X-Forwarded-For twice is not believed", "X-Forwarded-For: a\r\nX-Forwarded-For: b"),
        ("X-Original-URL is not believed", "X-Original-URL: /nope"),
        ("X-HTTP-Method-Override is not believed", "X-HTTP-Method-Override: DELETE"),
    ] {
        // `/stats` answers loopback peers: 192.0.2.1 would be refused.
        let request = Req::new("GET /stats").field(line);
        table.push(Case::new(name, request).want(status(200)).kept());
    }
}

fn request_lines(table: &mut Vec<Case>) {
    // Where the second space is misplaced, what stands in the version's place is no version:
    // 505 is as right as 400.
    let loose = || bad_request().or(505, "version");
    let rows: [(&str, &str, Want); 15] = [
        ("two spaces before the target", "GET  /health HTTP/1.1", bad_request()),
        ("two spaces before the version", "GET /health  HTTP/1.1", loose()),
        ("HTAB before the target", "GET\t/health HTTP/1.1", bad_request()),
        ("HTAB before the version", "GET /health\tHTTP/1.1", loose()),
        ("VT before the version", "GET /health\x0bHTTP/1.1", loose()),
        ("SP after the version", "GET /health HTTP/1.1 ", loose()),
        ("HTAB after the version", "GET /health HTTP/1.1\t", loose()),
        ("a word after the version", "GET /health HTTP/1.1 x", loose()),
        ("SP before the method", " GET /health HTTP/1.1", bad_request()),
        ("no target", "GET HTTP/1.1", loose()),
        ("an empty target", "GET  HTTP/1.1", loose()),
        ("no version", "GET /health", loose()),
        ("a method alone", "GET", loose()),
        ("SP in the target", "GET /hea lth HTTP/1.1", loose()),
        ("CR in the line", "GET /health\r HTTP/1.1", loose()),
    ];
    for (name, line, want) in rows {
        let bytes = format!("{line}\r\nHost: localhost\r\n\r\n");
        table.push(refused(name, bytes, want));
    }
}

fn versions(table: &mut Vec<Case>) {
    let request = |version: &str| format!("GET /health {version}\r\nHost: localhost\r\n\r\n");
    for version in
        ["HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "http/1.1", "Http/1.1"]
    {
        let name = format!("version {version}");
        table.push(refused(&name, request(version), error(505, "version")));
    }
    // No versions at all: bad syntax and an unknown version are both fair names for them.
    for version in [
        "HTTP/1",
        "HTTP/1.",
        "HTTP/11",
        "HTTP/1.10",
        "HTTP/1.01",
        "HTTP/01.1",
        "HTTP/1,1",
        "HTTP/1.1x",
        "HTTP/\u{661}.1",
        "HTTPS/1.1",
        "HTTX/1.1",
        "FOO/1.1",
        "1.1",
        "HTTP/+1.1",
        "HTTP/257.1",
        "HTTP/4294967297.1",
        "HTTP/1.1/x",
    ] {
        let name = format!("version {version}");
        table.push(refused(&name, request(version), error(505, "version").or(400, "bad_request")));
    }
    for version in ["HTTP/ 1.1", "HTTP /1.1", "HTTP/1 .1"] {
        let name = format!("version {version:?}");
        table.push(refused(&name, request(version), error(505, "version").or(400, "bad_request")));
    }
}

fn methods(table: &mut Vec<Case>) {
    // RFC 9110 §9.1: case-sensitive tokens; one that nobody knows is 501, not 405.
    let long = "M".repeat(100);
    for method in ["get", "Get", "gET", "BREW", "PROPFIND", "LINK", "G!$", "PRI", "CONNECT", &long]
    {
        let name = format!("method {method}");
        let want = error(501, "not_implemented");
        table.push(refused(&name, Req::new(&format!("{method} /health")), want));
    }
    let want = error(501, "not_implemented").or(400, "bad_request");
    table.push(refused("CONNECT in authority-form", Req::new("CONNECT localhost:80"), want));
    let rows: [(&str, &[u8]); 8] = [
        ("( in a method", b"G(T"),
        ("\" in a method", b"G\"T"),
        (", in a method", b"GET,"),
        ("/ in a method", b"GET/"),
        ("{ in a method", b"{GET}"),
        ("NUL in a method", b"GET\0"),
        ("0x80 in a method", b"GE\x80T"),
        ("ESC in a method", b"\x1bGET"),
    ];
    for (name, method) in rows {
        let bytes = [method, b" /health HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
        table.push(refused(name, bytes, bad_request()));
    }
}

/// RFC 9112 §3.2: origin-form, absolute-form, or `OPTIONS *`, of the characters that RFC 3986
/// allows; nothing is repaired.
fn targets(table: &mut Vec<Case>) {
    for target in [
        "foo",
        "health",
        "*",
        "?x=1",
        "/a\"b",
        "/a<b",
        "/a>b",
        "/a{b",
        "/a}b",
        "/a|b",
        "/a\\b",
        "/a^b",
        "/a`b",
        "/a[b",
        "/a]b",
        "/health#frag",
        "/health#",
        "/héalth",
        "/health?a={}",
        "/health?a=\"",
        "/health?a=<",
        "/health?a=|",
        "/health?a=\\",
        "/health?a=^",
        "/health?a=`",
        "/health?a=#b",
        "/health?a=é",
        "/health?a[]=1",
        "\\health",
        "localhost:80",
        "localhost/health",
        "http:",
        "http:/health",
        "http://",
        "http:///health",
        "*health",
    ] {
        let request = Req::new(&format!("GET {target}"));
        table.push(refused(&format!("target {target}"), request, bad_request()));
    }
    let rows: [(&str, &[u8]); 7] = [
        ("NUL in the target", b"/health\0"),
        ("SOH in the target", b"/health\x01"),
        ("ESC in the target", b"/health\x1b"),
        ("DEL in the target", b"/health\x7f"),
        ("0x80 in the target", b"/\x80"),
        ("overlong UTF-8 in the target", b"/\xc0\xafhealth"),
        ("0xff in the query", b"/health?\xff"),
    ];
    for (name, target) in rows {
        let bytes = [b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
        table.push(refused(name, bytes, bad_request()));
    }
    table.push(refused("HEAD *", Req::new("HEAD *"), bad_request().head()));
    table.push(refused("POST *", Req::new("POST *"), bad_request()));
    table.push(refused("OPTIONS *x", Req::new("OPTIONS *x"), bad_request()));
    for target in [
        "/health?",
        "/health?&",
        "/health?a",
        "/health?a=b&c",
        "/health?a=/?:@!$'()*,;",
        "/health?a=~-._",
    ] {
        let request = Req::new(&format!("GET {target}"));
        table.push(Case::new(format!("target {target}"), request).want(status(200)).kept());
    }
}

fn foreign_protocols(table: &mut Vec<Case>) {
    let want = || bad_request().or(501, "not_implemented").or(505, "version");
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    table.push(refused("the preface of HTTP/2", preface, error(505, "version")));
    // A PROXY line is read only by a listener that was told to expect one.
    let proxy = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
    table.push(refused("PROXY protocol v1", proxy, want()));
    let proxy = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02".to_vec();
    table.push(refused("PROXY protocol v2", proxy, want()));
    let hello = b"\x16\x03\x01\0\x05\x01\0\0\x01\0\r\n\r\n".to_vec();
    table.push(refused("a TLS hello", hello, want()));
    table.push(refused("SMTP", "EHLO localhost\r\n\r\n", want()));
    let garbage = [b"\x8a\xff\x00\xfe\x80".repeat(12), b"\r\n\r\n".to_vec()].concat();
    table.push(refused("garbage", garbage, want()));
    // RFC 9112 §2.2: an end before the head is complete may be answered or not, never served.
    for (name, bytes) in [
        ("end within the head", "GET /health HTTP/1.1\r\nHost: localhost\r\n"),
        ("end within the request line", "GET /hea"),
        ("end after an empty line", "\r\n"),
    ] {
        let case = Case::new(name, bytes).finish().want(bad_request().or(408, "timeout"));
        table.push(case.may_be_silent().after(After::Ends));
    }
}
