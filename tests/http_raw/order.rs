//! Which of two errors is answered: framing and limits, Host, route, method, Origin, handshake,
//! Expect, names and query, media type, size, body.

use super::case::{After, Case, Want, bad_request, error};
use super::http::Req;
use super::lint::CLOSING;

const EVIL: &str = "Origin: http://evil.example";
const FOO: &str = "Expect: foo";
const GZIP: &str = "Content-Encoding: gzip";
const HUGE: &str = "Content-Length: 999999";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const JSON: &str = "Content-Type: application/json";

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    framing_first(&mut table);
    limits_first(&mut table);
    host(&mut table);
    route(&mut table);
    method(&mut table);
    origin(&mut table);
    handshake(&mut table);
    expectation(&mut table);
    names(&mut table);
    media_and_size(&mut table);
    table
}

fn row(table: &mut Vec<Case>, name: &str, request: Req, want: Want, status: u16) {
    // A body that was announced and not read closes; otherwise only the listed statuses do.
    let case = Case::new(name, request).want(want);
    let announced = case.sent().windows(18).any(|w| w == b"Content-Length: 99");
    let after = match announced || CLOSING.contains(&status) {
        true => After::Closed,
        false => After::Kept,
    };
    table.push(case.after(after));
}

fn rows<const N: usize>(
    table: &mut Vec<Case>,
    first: &str,
    status: u16,
    code: &'static str,
    rows: [(&str, Req); N],
) {
    for (second, request) in rows {
        row(table, &format!("{first} before {second}"), request, error(status, code), status);
    }
}

fn new(line: &str) -> Req {
    Req::new(line)
}

fn evil_host(line: &str) -> Req {
    Req::new(line).host("evil.example")
}

/// A handshake without a key.
fn keyless(line: &str) -> Req {
    Req::new(line)
        .field("Connection: Upgrade")
        .field("Upgrade: websocket")
        .field("Sec-WebSocket-Version: 13")
}

/// A handshake of an unknown version, complete otherwise.
fn old(line: &str) -> Req {
    Req::new(line)
        .field("Connection: Upgrade")
        .field("Upgrade: websocket")
        .field("Sec-WebSocket-Version: 8")
        .field(KEY)
}

fn framing_first(table: &mut Vec<Case>) {
    let bad = |name: &str, request: Req| Case::new(name, request).want(bad_request()).closed();
    let plus = "Content-Length: +5";
    table.push(bad("bad length before 421", evil_host("POST /channels/a").field(plus)));
    table.push(bad("bad length before 404", new("POST /nope").field(plus)));
    table.push(bad("bad length before 405", new("POST /health").field(plus)));
    table.push(bad("bad length before 403", new("POST /channels/a").field(EVIL).field(plus)));
    table.push(bad("bad length before 417", new("POST /channels/a").field(FOO).field(plus)));
    table.push(bad("bad length before bad_channel", new("POST /channels/_x").field(plus)));
    table.push(bad("bad length before 415", new("POST /channels/a").field(GZIP).field(plus)));
    table.push(bad("no Host before 404", new("GET /nope").no_host()));
    table.push(bad("no Host before 405", new("PATCH /health").no_host()));
    table.push(bad("bad Host before 404", new("GET /nope").host("a b")));
    table.push(bad("two Hosts before 421", evil_host("GET /health").field("Host: evil.example")));
    table.push(bad("bad target before 421", evil_host("GET /a\"b")));
    table.push(bad("bad field before 421", evil_host("GET /health").field("X : y")));
    table.push(bad("two Origins before 403", new("POST /channels/a").field(EVIL).field(EVIL)));
}

fn limits_first(table: &mut Vec<Case>) {
    let status = |name: &str, request: Req, status: u16, code: &'static str| {
        Case::new(name, request).want(error(status, code)).closed()
    };
    let brew = status("501 before 421", evil_host("BREW /health"), 501, "not_implemented");
    table.push(brew);
    table.push(status("501 before 404", new("BREW /nope"), 501, "not_implemented"));
    table.push(status("501 before bad_channel", new("BREW /channels/_x"), 501, "not_implemented"));
    let coding = "Transfer-Encoding: gzip";
    let request = evil_host("POST /channels/a").field(coding);
    table.push(status("501 of a coding before 421", request, 501, "not_implemented"));
    let request = new("POST /nope").field(coding);
    table.push(status("501 of a coding before 404", request, 501, "not_implemented"));
    let version = "GET /nope HTTP/1.2\r\nHost: evil.example\r\n\r\n";
    table.push(Case::new("505 before 421 and 404", version).want(error(505, "version")).closed());
    let many = |request: Req| (0..70).fold(request, |r, i| r.field(format!("X{i}: y")));
    let large = "headers_too_large";
    table.push(status("431 before 421", many(evil_host("GET /health")), 431, large));
    table.push(status("431 before 404", many(new("GET /nope")), 431, large));
    table.push(status("431 before 405", many(new("PATCH /health")), 431, large));
    let long = format!("/nope?{}", "a".repeat(9000));
    let request = evil_host(&format!("GET {long}"));
    table.push(status("414 before 421 and 404", request, 414, "uri_too_long"));
    let request = new(&format!("DELETE /poll?{}", "a".repeat(9000)));
    table.push(status("414 before 405", request, 414, "uri_too_long"));
    // Whether a body where none belongs is framing is open.
    let either = Case::new("a body of GET or 421", evil_host("GET /health").body("hello"));
    table.push(either.want(bad_request().or(421, "host")).either());
}

fn host(table: &mut Vec<Case>) {
    rows(
        table,
        "421",
        421,
        "host",
        [
            ("404", evil_host("GET /nope")),
            ("405", evil_host("PATCH /health")),
            ("403", evil_host("POST /channels/a").field("Origin: http://other.example")),
            ("403 of its own page", evil_host("POST /channels/a").field(EVIL)),
            ("426", evil_host("GET /ws")),
            ("426 of a version", old("GET /ws").host("evil.example")),
            ("bad_channel", evil_host("GET /channels/_x")),
            ("bad_query", evil_host("GET /poll")),
            ("bad_since", evil_host("GET /poll?channel=a&since=x")),
            ("415", evil_host("POST /channels/a").field(GZIP)),
            ("413", evil_host("POST /channels/a").field(HUGE)),
            ("417", evil_host("POST /channels/a").field(FOO)),
        ],
    );
}

fn route(table: &mut Vec<Case>) {
    rows(
        table,
        "404",
        404,
        "not_found",
        [
            ("405", new("PATCH /nope")),
            ("403", new("POST /nope").field(EVIL)),
            ("417", new("POST /nope").field(FOO)),
            ("bad_query", new("GET /nope?x=%zz")),
            ("bad_query of 200 pairs", new(&format!("GET /nope?{}", "a=b&".repeat(200)))),
            ("415", new("POST /nope").field(GZIP)),
            ("413", new("POST /nope").field(HUGE)),
            ("a handshake", old("GET /nope")),
            ("a name", new("GET /channels/a/b/c")),
            ("a bad name", new("GET /channels/_x/y")),
        ],
    );
}

fn method(table: &mut Vec<Case>) {
    rows(
        table,
        "405",
        405,
        "method",
        [
            ("403", new("POST /health").field(EVIL)),
            ("417", new("POST /health").field(FOO)),
            ("426", new("DELETE /ws")),
            ("a handshake", keyless("POST /ws")),
            ("bad_channel", new("PATCH /channels/_x")),
            ("bad_query", new("DELETE /poll?wait=x")),
            ("415", new("PATCH /channels/a").field(GZIP)),
            ("415 of /publish", new("PUT /publish").field("Content-Type: text/plain")),
            ("413", new("POST /health").field(HUGE)),
            ("413 of PUT", new("PUT /events?channel=a").field(HUGE)),
        ],
    );
}

fn origin(table: &mut Vec<Case>) {
    rows(
        table,
        "403",
        403,
        "origin",
        [
            ("426", old("GET /ws").field(EVIL)),
            ("a handshake without key", keyless("GET /ws").field(EVIL)),
            ("a handshake with a bad name", keyless("GET /channels/_x").field(KEY).field(EVIL)),
            ("417", new("POST /channels/a").field(EVIL).field(FOO)),
            ("bad_channel", new("POST /channels/_x").field(EVIL)),
            ("bad_query", new("POST /channels/a?ttl=x").field(EVIL)),
            ("415", new("POST /channels/a").field(EVIL).field(GZIP)),
            ("415 of /publish", new("POST /publish").field(EVIL).field("Content-Type: text/plain")),
            ("413", new("POST /channels/a").field(EVIL).field(HUGE)),
            ("bad_json", new("POST /channels/a").field(EVIL).field(JSON)),
        ],
    );
    // A GET that is no handshake is not refused for its Origin elsewhere; on this route it may be.
    let plain = Case::new("403 or 426 of a plain GET", new("GET /ws").field(EVIL));
    table.push(plain.want(error(426, "upgrade").or(403, "origin")).kept());
}

fn handshake(table: &mut Vec<Case>) {
    rows(
        table,
        "426",
        426,
        "upgrade",
        [
            ("417", new("GET /ws").field(FOO)),
            ("bad_channel", new("GET /ws?channel=_x")),
            ("bad_query", new("GET /ws?channel=a&x=%zz")),
            ("417, by version", old("GET /ws").field(FOO)),
            ("bad_since, by version", old("GET /ws?channel=a&since=x")),
        ],
    );
    let bad = |name: &str, request: Req| Case::new(name, request).want(bad_request()).either();
    table.push(bad("no key before 417", keyless("GET /ws").field(FOO)));
    table.push(bad("no key before bad_channel", keyless("GET /ws?channel=_x")));
    table.push(bad("no key before bad_since", keyless("GET /channels/a?since=x")));
}

fn expectation(table: &mut Vec<Case>) {
    let post = |target: &str| new(&format!("POST {target}")).field(FOO);
    rows(
        table,
        "417",
        417,
        "expectation",
        [
            ("bad_channel", post("/channels/_x")),
            ("bad_query", post("/channels/a?ttl=x")),
            ("bad_query of a poll", new("GET /poll").field(FOO)),
            ("bad_since", new("GET /poll?channel=a&since=x").field(FOO)),
            ("415", post("/channels/a").field(GZIP)),
            ("415 of /publish", post("/publish").field("Content-Type: text/plain")),
            ("413", post("/channels/a").field(HUGE)),
            ("bad_json", post("/channels/a").field(JSON)),
        ],
    );
}

fn names(table: &mut Vec<Case>) {
    rows(
        table,
        "bad_channel",
        400,
        "bad_channel",
        [
            ("415", new("POST /channels/_x").field(GZIP)),
            ("413", new("POST /channels/_x").field(HUGE)),
            ("bad_json", new("POST /channels/_x").field(JSON)),
            (
                "100",
                new("POST /channels/_x").field("Content-Length: 99").field("Expect: 100-continue"),
            ),
        ],
    );
    rows(
        table,
        "bad_query",
        400,
        "bad_query",
        [
            ("415", new("POST /channels/a?ttl=x").field(GZIP)),
            ("413", new("POST /channels/a?ttl=x").field(HUGE)),
            ("bad_json", new("POST /channels/a?ttl=x").field(JSON)),
        ],
    );
}

fn media_and_size(table: &mut Vec<Case>) {
    rows(
        table,
        "415",
        415,
        "media_type",
        [
            ("413", new("POST /channels/a").field(GZIP).field(HUGE)),
            ("413 of /publish", new("POST /publish").field(GZIP).field("Content-Length: 9999999")),
            (
                "413, by type",
                new("POST /publish").field("Content-Type: a/b").field("Content-Length: 9999999"),
            ),
            ("bad_json", new("POST /channels/a").field(GZIP).field(JSON)),
            (
                "100",
                new("POST /channels/a")
                    .field(GZIP)
                    .field("Content-Length: 99")
                    .field("Expect: 100-continue"),
            ),
        ],
    );
    rows(
        table,
        "413",
        413,
        "too_large",
        [
            ("bad_json", new("POST /channels/a").field(JSON).field(HUGE)),
            ("100", new("POST /channels/a").field(HUGE).field("Expect: 100-continue")),
        ],
    );
    let body = Case::new(
        "413 before a body that came",
        new("POST /channels/a").field(JSON).body("x".repeat(70_000)),
    );
    table.push(body.want(error(413, "too_large")).closed());
}
