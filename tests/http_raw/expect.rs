//! `Expect: 100-continue` (RFC 9110 §10.1.1): asked for, already there, or answered at once.

use super::case::{Case, Continues, Want, bad_request, error, status};
use super::heads::NEXT;
use super::http::Req;

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    expectations(&mut table);
    expectations_refused(&mut table);
    table
}

fn post() -> Req {
    Req::new("POST /channels/connection")
}

fn get(target: &str) -> Req {
    Req::new(&format!("GET {target}"))
}

/// RFC 9110 §10.1.1.
fn expectations(table: &mut Vec<Case>) {
    let expect = |line: &str| Req::new(line).field("Expect: 100-continue");
    let publish = || expect("POST /channels/connection");
    let five = || publish().field("Content-Length: 5");
    let case = Case::new("100, then the body", five()).await_continue().then("hello");
    table.push(case.want(status(202)).kept());
    let case =
        Case::new("100, then the body in two", five()).await_continue().then("he").then("llo");
    table.push(case.want(status(202)).kept());
    let case = Case::new("100, then chunks", publish().chunked("")).await_continue();
    table.push(case.then("5\r\nhello\r\n0\r\n\r\n").want(status(202)).kept());
    let case =
        Case::new("100, then body and next", five()).await_continue().then("hello").and(NEXT);
    table.push(case.want(status(202)).want(status(200)).kept());
    let case =
        Case::new("100 to a PUT", expect("PUT /channels/connection").field("Content-Length: 5"));
    table.push(case.await_continue().then("hello").want(status(202)).kept());
    let case = Case::new("100 to /publish", expect("POST /publish").field("Content-Length: 3"));
    table.push(case.await_continue().then("{}\n").want(status(200)).kept());
    let case = Case::new("100, then close", five().field("Connection: close")).await_continue();
    table.push(case.then("hello").and(NEXT).want(status(202)).closed());
    let case = Case::new("100, then a bad chunk", publish().chunked("")).await_continue();
    table.push(case.then("x\r\n\r\n").and(NEXT).want(bad_request()).closed());
    let case = Case::new("100, then bad JSON", five().field("Content-Type: application/json"));
    table.push(case.await_continue().then("hello").want(error(400, "bad_json")).kept());
    let capitals = post().field("Expect: 100-Continue").field("Content-Length: 5");
    let case = Case::new("100-Continue in capitals", capitals).await_continue().then("hello");
    table.push(case.want(status(202)).kept());
    // The body is already there: asking for it would be noise.
    let case = Case::new("no 100 where the body came", publish().body("hello"));
    table.push(case.want(status(202)).continues(Continues::UnlessBodyCame).kept());
    let chunks = publish().chunked("5\r\nhello\r\n0\r\n\r\n");
    let case = Case::new("no 100 where chunks came", chunks).and(NEXT);
    table
        .push(case.want(status(202)).want(status(200)).continues(Continues::UnlessBodyCame).kept());
    for (name, request, want) in [
        ("no 100 for a body of 0", publish().body(""), status(202)),
        ("no 100 without a body", publish(), status(202)),
        ("no 100 to GET", expect("GET /health"), status(200)),
        ("no 100 to HEAD", expect("HEAD /health"), status(200).head()),
        ("no 100 to DELETE", expect("DELETE /channels/connection-none"), status(204)),
    ] {
        table.push(Case::new(name, request).want(want).kept());
    }
}

/// What can be known from the head is answered instead of 100, and ends there.
fn expectations_refused(table: &mut Vec<Case>) {
    let five = |line: &str| Req::new(line).field("Content-Length: 5").field("Expect: 100-continue");
    let large =
        Req::new("POST /channels/a").field("Content-Length: 70000").field("Expect: 100-continue");
    let rows: [(&str, Req, Want); 10] = [
        ("404", five("POST /nope"), error(404, "not_found")),
        ("405", five("POST /health"), error(405, "method")),
        ("421", five("POST /channels/a").host("evil.example"), error(421, "host")),
        (
            "403",
            five("POST /channels/a").field("Origin: http://evil.example"),
            error(403, "origin"),
        ),
        ("bad_channel", five("POST /channels/_x"), error(400, "bad_channel")),
        ("bad_query", five("POST /channels/a?ttl=x"), error(400, "bad_query")),
        ("415", five("POST /channels/a").field("Content-Encoding: gzip"), error(415, "media_type")),
        (
            "415 of /publish",
            five("POST /publish").field("Content-Type: a/b"),
            error(415, "media_type"),
        ),
        ("413", large, error(413, "too_large")),
        ("a body of GET", five("GET /health"), bad_request()),
    ];
    for (name, request, want) in rows {
        let case = Case::new(format!("{name} instead of 100"), request.clone());
        table.push(case.want(want.clone()).closed());
        // The client may send the body all the same; it is no request.
        let case = Case::new(format!("{name} instead of 100, body sent"), request);
        let case = case.await_answer().then("hello").and(NEXT);
        table.push(case.want(want).closed());
    }
    for value in [
        "foo",
        "100-continue, foo",
        "100",
        "101-continue",
        "100-continue;q=1",
        "200-ok",
        "100-continuex",
    ] {
        let request = post().field(format!("Expect: {value}")).body("hello");
        let case = Case::new(format!("Expect: {value}"), request).and(NEXT);
        table.push(case.want(error(417, "expectation")).closed());
    }
    let case = Case::new("417 without a body", get("/health").field("Expect: foo")).and(NEXT);
    table.push(case.want(error(417, "expectation")).closed());
    // Open: an empty expectation, the same one twice.
    for line in [
        "Expect:",
        "Expect: 100-continue, 100-continue",
        "Expect: 100-continue\r\nExpect: 100-continue",
    ] {
        let case = Case::new(format!("{line:?}"), post().field(line).body("hello"));
        let want = status(202).or(417, "expectation").or(400, "bad_request");
        table.push(case.want(want).continues(Continues::Any).either());
    }
}
