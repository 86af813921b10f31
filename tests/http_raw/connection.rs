//! Persistence, pipelining, held answers, half-closing.

use super::case::{After, Case, Want, bad_request, error, status};
use super::heads::NEXT;
use super::http::Req;

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    persistence(&mut table);
    persistence_of_ten(&mut table);
    pipelines(&mut table);
    pipelines_that_end(&mut table);
    held(&mut table);
    half_closed(&mut table);
    table
}

fn get(target: &str) -> Req {
    Req::new(&format!("GET {target}"))
}

fn post() -> Req {
    Req::new("POST /channels/connection")
}

/// Answered with the channel's name, so that the order of answers shows.
fn about(name: &str) -> (Req, Want) {
    let want = status(200).says(&format!("\"channel\":\"{name}\""));
    (get(&format!("/channels/{name}")), want)
}

/// RFC 9112 §9.3: 1.1 persists unless `close` is among the options.
fn persistence(table: &mut Vec<Case>) {
    for line in [
        "X: y",
        "Connection: keep-alive",
        "Connection: Keep-Alive",
        "Connection:",
        "Connection: foo",
        "Connection: closed",
        "Connection: x-close",
        "Connection: not close",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: close",
        "Connection: keep-alive, foo",
    ] {
        let case = Case::new(format!("1.1 with {line}"), get("/health").field(line));
        table.push(case.want(status(200)).kept());
    }
    for line in [
        "Connection: close",
        "Connection: Close",
        "connection: CLOSE",
        "Connection:close",
        "Connection: close ",
        "Connection: foo, close",
        "Connection: close, foo",
        "Connection: keep-alive, close",
        "Connection: close, keep-alive",
        "Connection: foo\r\nConnection: close",
        "Connection: close\r\nConnection: keep-alive",
        "Connection: ,close,",
    ] {
        let case = Case::new(format!("1.1 with {line:?}"), get("/health").field(line)).and(NEXT);
        table.push(case.want(status(200)).closed());
    }
    let close = "Connection: close";
    let rows: [(&str, Req, Want); 8] = [
        ("404", get("/nope"), error(404, "not_found")),
        ("405", Req::new("DELETE /health"), error(405, "method")),
        ("421", get("/health").host("evil.example"), error(421, "host")),
        ("HEAD", Req::new("HEAD /health"), status(200).head()),
        ("OPTIONS", Req::new("OPTIONS *"), status(204)),
        ("DELETE", Req::new("DELETE /channels/connection-none"), status(204)),
        ("a poll", get("/poll?channel=connection-none"), status(200)),
        ("a publication", post(), status(202)),
    ];
    for (name, request, want) in rows {
        let case = Case::new(format!("close after {name}"), request.field(close));
        table.push(case.want(want).closed());
    }
    let case = Case::new("close after a body", post().field(close).body("hello")).and(NEXT);
    table.push(case.want(status(202)).closed());
    let case = Case::new("close after chunks", post().field(close).chunked("1\r\na\r\n0\r\n\r\n"))
        .and(NEXT);
    table.push(case.want(status(202)).closed());
}

/// 1.0 closes unless asked to go on, and then says so.
fn persistence_of_ten(table: &mut Vec<Case>) {
    let keep = "Connection: keep-alive";
    let rows: [(&str, Req, Want); 8] = [
        ("1.0", get("/health"), status(200)),
        ("1.0, close", get("/health").field("Connection: close"), status(200)),
        ("1.0, another option", get("/health").field("Connection: foo"), status(200)),
        ("1.0, Keep-Alive alone", get("/health").field("Keep-Alive: timeout=5"), status(200)),
        (
            "1.0, Proxy-Connection",
            get("/health").field("Proxy-Connection: keep-alive"),
            status(200),
        ),
        (
            "1.0, close and keep-alive",
            get("/health").field("Connection: keep-alive, close"),
            status(200),
        ),
        ("1.0, a body", post().body("hello"), status(202)),
        ("1.0, no route", get("/nope"), error(404, "not_found")),
    ];
    for (name, request, want) in rows {
        table.push(Case::new(name, request.ten()).and(NEXT).want(want).closed());
    }
    let rows: [(&str, Req, Want); 7] = [
        ("1.0 that persists", get("/health").field(keep), status(200)),
        (
            "1.0 that persists, capitals",
            get("/health").field("CONNECTION: Keep-Alive"),
            status(200),
        ),
        (
            "1.0 that persists, in a list",
            get("/health").field("Connection: foo, keep-alive"),
            status(200),
        ),
        ("1.0 that persists, a body", post().field(keep).body("hello"), status(202)),
        ("1.0 that persists, no route", get("/nope").field(keep), error(404, "not_found")),
        ("1.0 that persists, HEAD", Req::new("HEAD /health").field(keep), status(200).head()),
        (
            "1.0 that persists, a poll",
            get("/poll?channel=connection-none").field(keep),
            status(200),
        ),
    ];
    table
        .extend(rows.map(|(name, request, want)| Case::new(name, request.ten()).want(want).kept()));
    let mixed = Case::new("1.0 after 1.1", get("/health")).and(get("/health").ten()).and(NEXT);
    table.push(mixed.want(status(200)).want(status(200)).closed());
    // RFC 9110 §15.2: no interim answer to 1.0, and nothing waits for one.
    let expect = post().ten().field("Expect: 100-continue").field("Content-Length: 5");
    let case = Case::new("1.0 ignores Expect", expect).then("hello");
    table.push(case.want(status(202)).closed());
    let other = post().ten().field("Expect: foo").body("hello");
    let case = Case::new("1.0 with an unknown Expect", other);
    table.push(case.want(status(202).or(417, "expectation")).closed());
}

/// RFC 9112 §9.3.2: strictly in order.
fn pipelines(table: &mut Vec<Case>) {
    for n in [2, 3, 10, 26] {
        let mut case = Case::new(format!("{n} requests"), Vec::new());
        for i in 0..n {
            let (request, want) = about(&format!("connection-{i}"));
            case = case.and(request).want(want);
        }
        table.push(case.kept());
    }
    let (a, want_a) = about("connection-a");
    let (b, want_b) = about("connection-b");
    let not_found = || error(404, "not_found");
    let mixed = Case::new("errors that keep, between others", a.clone())
        .and(get("/nope"))
        .and(Req::new("DELETE /health"))
        .and(get("/poll"))
        .and(get("/channels/_x"))
        .and(get("/health").host("evil.example"))
        .and(b.clone())
        .want(want_a.clone())
        .want(not_found())
        .want(error(405, "method"))
        .want(error(400, "bad_query"))
        .want(error(400, "bad_channel"))
        .want(error(421, "host"))
        .want(want_b.clone());
    table.push(mixed.kept());
    let bodies = Case::new("bodies between others", post().body("hello"))
        .and(a.clone())
        .and(post().chunked("5\r\nhello\r\n0\r\n\r\n"))
        .and(Req::new("PUT /channels/connection").body(""))
        .and(b.clone())
        .want(status(202))
        .want(want_a.clone())
        .want(status(202))
        .want(status(202))
        .want(want_b.clone());
    table.push(bodies.kept());
    let bare = Case::new("answers without body between others", Req::new("HEAD /health"))
        .and(Req::new("OPTIONS *"))
        .and(a.clone())
        .and(Req::new("DELETE /channels/connection-none"))
        .and(Req::new("HEAD /nope"))
        .and(b.clone())
        .want(status(200).head())
        .want(status(204))
        .want(want_a.clone())
        .want(status(204))
        .want(error(404, "not_found").head())
        .want(want_b.clone());
    table.push(bare.kept());
    let turns = Case::new("one after the other", a.clone()).await_answer();
    let turns = turns.then(b.clone()).await_answer().then(post().body("hello")).await_answer();
    table.push(turns.want(want_a.clone()).want(want_b.clone()).want(status(202)).kept());
    let split =
        Case::new("a body in pieces, then another request", post().field("Content-Length: 10"));
    let split = split.then("hel").then("lo").then("world").then(a);
    table.push(split.want(status(202)).want(want_a).kept());
    let read = Case::new(
        "what was published is read",
        Req::new("POST /channels/connection-read").body("hello"),
    );
    let read = read.and(get("/channels/connection-read?since=earliest")).and(b);
    // 201: the poll of another cut of the same row still listens.
    let want = status(202).or(201, "");
    table.push(read.want(want).want(status(200).body("hello")).want(want_b).kept());
}

fn pipelines_that_end(table: &mut Vec<Case>) {
    let ok = || status(200);
    let wrong = Case::new("an error of framing ends a pipeline", NEXT)
        .and("GET /health HTTP/1.1\r\n\r\n")
        .and(NEXT);
    table.push(wrong.want(ok()).want(bad_request()).closed());
    let wrong = Case::new("LF ends a pipeline", NEXT).and("GET /health HTTP/1.1\n").and(NEXT);
    table.push(wrong.want(ok()).want(bad_request()).closed());
    let wrong = Case::new("501 ends a pipeline", NEXT).and(Req::new("BREW /")).and(NEXT);
    table.push(wrong.want(ok()).want(error(501, "not_implemented")).closed());
    let wrong = Case::new("505 ends a pipeline", NEXT).and("GET / HTTP/2.0\r\n\r\n").and(NEXT);
    table.push(wrong.want(ok()).want(error(505, "version")).closed());
    let wrong =
        Case::new("413 ends a pipeline", NEXT).and(post().field("Content-Length: 70000")).and(NEXT);
    table.push(wrong.want(ok()).want(error(413, "too_large")).closed());
    let wrong =
        Case::new("417 ends a pipeline", NEXT).and(get("/health").field("Expect: x")).and(NEXT);
    table.push(wrong.want(ok()).want(error(417, "expectation")).closed());
    let smuggle =
        post().field("Content-Length: 5").field("Transfer-Encoding: chunked").raw("0\r\n\r\n");
    let wrong = Case::new("smuggling ends a pipeline", NEXT).and(smuggle).and(NEXT).and(NEXT);
    table.push(wrong.want(ok()).want(bad_request()).closed());
    let last = Case::new("close in the middle", NEXT)
        .and(get("/nope").field("Connection: close"))
        .and(NEXT);
    table.push(last.want(ok()).want(error(404, "not_found")).closed());
    let many = Case::new("many requests after a close", get("/health").field("Connection: close"))
        .and(NEXT.repeat(30));
    table.push(many.want(ok()).closed());
    let rubbish = Case::new("rubbish after a close", get("/health").field("Connection: close"))
        .and("Invalid\r\n\r\n");
    table.push(rubbish.want(ok()).closed());
}

/// What stands behind a held answer waits for it.
fn held(table: &mut Vec<Case>) {
    let poll = |wait: u8| get(&format!("/poll?channel=connection-held&since=latest&wait={wait}"));
    let empty = || status(200).says("\"messages\":[]").says("\"gap\":null");
    let (a, want_a) = about("connection-a");
    let case = Case::new("a poll that is held", poll(1));
    table.push(case.want(empty()).kept());
    let case = Case::new("a request behind a held poll", poll(1)).and(a.clone());
    table.push(case.want(empty()).want(want_a.clone()).kept());
    let raw = get("/channels/connection-held?since=latest&wait=1");
    let case = Case::new("a request behind a held raw poll", raw).and(a.clone());
    table.push(case.want(status(204).has("holdline-cursor", "-")).want(want_a.clone()).kept());
    let case = Case::new("a poll behind a held poll", poll(1)).and(poll(1)).and(a.clone());
    table.push(case.want(empty()).want(empty()).want(want_a.clone()).kept());
    let case = Case::new("a publication behind a held poll", poll(1))
        .and(post().body("hello"))
        .and(a.clone());
    table.push(case.want(empty()).want(status(202)).want(want_a).kept());
    let case =
        Case::new("an error behind a held poll", poll(1)).and("GET / HTTP/1.1\r\n\r\n").and(a);
    table.push(case.want(empty()).want(bad_request()).closed());
    let case = Case::new("a held poll that closes", poll(1).field("Connection: close")).and(NEXT);
    table.push(case.want(empty()).closed());
    let case = Case::new("a held poll in HTTP/1.0", poll(1).ten());
    table.push(case.want(empty()).closed());
    let none = Case::new("a poll that waits for nothing", poll(0)).and(NEXT);
    table.push(none.want(empty()).want(status(200)).kept());
}

/// RFC 9112 §9.6: an end of the client's sending is answered if it asked for something before it.
fn half_closed(table: &mut Vec<Case>) {
    let ends = |case: Case| case.finish().after(After::Ends);
    table.push(ends(Case::new("end after a request", NEXT).want(status(200))));
    table.push(ends(
        Case::new("end after two requests", NEXT).and(NEXT).want(status(200)).want(status(200)),
    ));
    table.push(ends(Case::new("end after a body", post().body("hello")).want(status(202))));
    table.push(ends(Case::new("end after an error", get("/nope")).want(error(404, "not_found"))));
    table.push(ends(
        Case::new("end after a bad request", "GET / HTTP/1.1\r\n\r\n").want(bad_request()),
    ));
    table.push(ends(Case::new("end after nothing", Vec::new())));
    table.push(ends(Case::new("end between requests", NEXT).want(status(200)).await_answer()));
    // Nobody is there to be answered: freed at once, not when its time is over.
    let poll = get("/poll?channel=connection-gone&since=latest&wait=55");
    table.push(ends(Case::new("end of a held poll", poll)));
    let raw = get("/channels/connection-gone?since=latest&wait=55");
    table.push(ends(Case::new("end of a held raw poll", raw)));
}
