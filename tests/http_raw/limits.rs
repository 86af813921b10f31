//! Limits of the head and of singleton fields: the last size that passes, the first that does not.

use super::case::{Case, Want, bad_request, error, status};
use super::heads::refused;
use super::http::Req;

const KIB: usize = 1024;

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    request_line(&mut table);
    field_line(&mut table);
    whole_head(&mut table);
    field_count(&mut table);
    singletons(&mut table);
    table
}

fn too_large() -> Want {
    error(431, "headers_too_large")
}

/// A request whose first line, its CRLF not counted, is `length` bytes.
fn line_of(length: usize) -> Req {
    let around = "GET /health?x= HTTP/1.1".len();
    Req::new(&format!("GET /health?x={}", "a".repeat(length - around)))
}

/// A request with one field line of `length` bytes, its CRLF not counted.
fn field_of(length: usize) -> Req {
    Req::new("GET /health").field(format!("X: {}", "a".repeat(length - 3)))
}

/// A request whose head is `length` bytes, its final empty line counted.
fn head_of(length: usize) -> Vec<u8> {
    let field = |n: usize| format!("X: {}", "a".repeat(n - 5));
    let start = Req::new("GET /health").field(field(5000)).field(field(5000));
    let rest = length - start.clone().bytes().len();
    start.field(field(rest)).bytes()
}

/// 8 KiB with or without the CRLF: 8190 passes either way, 8193 passes neither.
fn request_line(table: &mut Vec<Case>) {
    let too_long = || error(414, "uri_too_long");
    for length in [2000, 8000, 8190] {
        let name = format!("request line of {length}");
        table.push(Case::new(name, line_of(length)).want(status(200)).kept());
    }
    for length in [8193, 9000, 16_000] {
        table.push(refused(&format!("request line of {length}"), line_of(length), too_long()));
    }
    let path = Req::new(&format!("GET /{}", "a".repeat(9000)));
    table.push(refused("a path of 9000", path, too_long()));
    let name = Req::new(&format!("GET /channels/{}", "a".repeat(9000)));
    table.push(refused("a channel name of 9000", name, too_long()));
    // RFC 9112 §3: a method that long is unknown, its line is too long; both are fair.
    let method = Req::new(&format!("{} /health", "M".repeat(9000)));
    let want = too_long().or(501, "not_implemented").or(400, "bad_request");
    table.push(refused("a method of 9000", method, want));
    // The line alone fills the head: both limits are passed, either may be named.
    let want = || too_long().or(431, "headers_too_large");
    table.push(refused("request line of 20000", line_of(20_000), want()));
    let endless = [b"GET /".as_slice(), &[b'a'; 17 * KIB]].concat();
    table.push(Case::new("a request line that does not end", endless).want(want()).closed());
}

fn field_line(table: &mut Vec<Case>) {
    for length in [2000, 8000, 8190] {
        let name = format!("field line of {length}");
        table.push(Case::new(name, field_of(length)).want(status(200)).kept());
    }
    for length in [8193, 12_000, 20_000] {
        table.push(refused(&format!("field line of {length}"), field_of(length), too_large()));
    }
    let long = Req::new("GET /health").field(format!("{}: a", "X".repeat(9000)));
    table.push(refused("a field name of 9000", long, too_large()));
    let cookie = Req::new("GET /health").field(format!("Cookie: a={}", "b".repeat(64 * KIB)));
    table.push(refused("a cookie of 64 KiB", cookie, too_large()));
    let host = Req::new("GET /health").host(&"a".repeat(9000));
    table.push(refused("a Host of 9000", host, too_large()));
    let endless = Req::new("GET /health").field([b'X'; 20 * KIB]).bytes();
    let endless = endless[..endless.len() - 4].to_vec();
    table.push(Case::new("a field line that does not end", endless).want(too_large()).closed());
}

fn whole_head(table: &mut Vec<Case>) {
    for length in [16_000, 16 * KIB] {
        let name = format!("head of {length}");
        table.push(Case::new(name, head_of(length)).want(status(200)).kept());
    }
    // With or without the final empty line, this is more than 16 KiB.
    for length in [16 * KIB + 5, 18_000] {
        table.push(refused(&format!("head of {length}"), head_of(length), too_large()));
    }
    let endless = head_of(40_000 / 3);
    let endless = [&endless[..endless.len() - 2], "Y: y\r\n".repeat(1000).as_bytes()].concat();
    table.push(Case::new("a head that does not end", endless).want(too_large()).closed());
    // The limit is per head, not per connection.
    let two = Case::new("two heads of 16 KiB", head_of(16 * KIB)).and(head_of(16 * KIB));
    table.push(two.want(status(200)).want(status(200)).kept());
}

/// Host counts.
fn field_count(table: &mut Vec<Case>) {
    let fields = |n: usize| {
        (1..n).fold(Req::new("GET /health"), |request, i| request.field(format!("X{i}: y")))
    };
    for n in [2, 63, 64] {
        table.push(Case::new(format!("{n} fields"), fields(n)).want(status(200)).kept());
    }
    for n in [65, 66, 100, 128, 129, 1000] {
        table.push(refused(&format!("{n} fields"), fields(n), too_large()));
    }
}

/// RFC 9110 §5.5: of a field that has one value, two lines have two readings.
fn singletons(table: &mut Vec<Case>) {
    let get = |target: &str| Req::new(&format!("GET {target}"));
    let post = || Req::new("POST /channels/limits");
    let rows: [(&str, Req); 14] = [
        ("Host twice, equal", get("/health").field("Host: localhost")),
        ("Host twice, different", get("/health").field("Host: 127.0.0.1")),
        ("Host twice, the second evil", get("/health").field("Host: evil.example")),
        ("Host twice, in other letters", get("/health").field("hOST: localhost")),
        ("Host twice in HTTP/1.0", get("/health").ten().field("Host: localhost")),
        ("Content-Type twice, equal", post().field("Content-Type: a/b").field("Content-Type: a/b")),
        ("Content-Type twice", post().field("Content-Type: a/b").field("content-type: c/d")),
        ("Authorization twice", post().field("Authorization: a").field("Authorization: b")),
        (
            "Origin twice",
            post().field("Origin: http://localhost").field("Origin: http://localhost"),
        ),
        (
            "Origin twice, the second evil",
            post().field("Origin: http://localhost").field("Origin: http://evil.example"),
        ),
        (
            "Last-Event-ID twice, stream",
            get("/events?channel=a").field("Last-Event-ID: a").field("Last-Event-ID: b"),
        ),
        (
            "Last-Event-ID twice, poll",
            get("/poll?channel=a").field("Last-Event-ID: a").field("Last-Event-ID: a"),
        ),
        (
            "Content-Length twice, equal",
            post().field("Content-Length: 0").field("Content-Length: 0"),
        ),
        ("Content-Length twice", post().field("Content-Length: 0").field("Content-Length: 00")),
    ];
    table.extend(rows.map(|(name, request)| refused(name, request, bad_request())));
}
