//! Who is asked: Host and absolute-form, by the defaults of a server that listens on loopback only.

use super::case::{Case, Want, bad_request, error, status};
use super::heads::refused;
use super::http::Req;

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    hosts(&mut table);
    hosts_malformed(&mut table);
    absolute_form(&mut table);
    absolute_form_refused(&mut table);
    table
}

fn get(target: &str) -> Req {
    Req::new(&format!("GET {target}"))
}

fn wrong_host() -> Want {
    error(421, "host").says("--host")
}

fn hosts(table: &mut Vec<Case>) {
    for host in [
        "{addr}",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost",
        "localhost:80",
        "localhost:65535",
        "LOCALHOST",
        "LocalHost:7070",
    ] {
        let case = Case::new(format!("Host {host}"), get("/health").host(host));
        table.push(case.want(status(200)).kept());
    }
    // DNS rebinding: the name is the attacker's although the address is ours.
    for host in [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "evil.localhost.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "0.0.0.0",
        "192.168.1.1",
        "10.0.0.1:7070",
        "[::2]",
        "[2001:db8::1]:7070",
        "xlocalhost",
        "localhostx",
        "2130706433",
        "a",
    ] {
        let case = Case::new(format!("Host {host}"), get("/health").host(host));
        table.push(case.want(wrong_host()).kept());
    }
    // This listener has no IPv6 address, and a final dot, an empty or large port, another base are
    // forms that may be taken for the same name, for another one, or for none.
    let open = || status(200).or(421, "host").or(400, "bad_request");
    for host in [
        "[::1]",
        "[::1]:7070",
        "[::ffff:127.0.0.1]",
        "localhost.",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:99999",
        "localhost:00080",
        "127.1",
        "0x7f.1",
        "loc%61lhost",
    ] {
        let case = Case::new(format!("Host {host}"), get("/health").host(host));
        table.push(case.want(open()).either());
    }
    let none = get("/health").no_host();
    table.push(refused("no Host in HTTP/1.1", none.clone(), bad_request()));
    table.push(Case::new("no Host in HTTP/1.0", none.ten()).want(status(200)).closed());
    let evil = get("/health").host("evil.example").ten();
    table.push(Case::new("evil Host in HTTP/1.0", evil).want(wrong_host()).closed());
    let evil = Req::new("OPTIONS *").host("evil.example");
    table.push(Case::new("evil Host of OPTIONS *", evil).want(wrong_host()).kept());
    let evil = Req::new("HEAD /health").host("evil.example");
    table.push(Case::new("evil Host of HEAD", evil).want(error(421, "host").head()).kept());
    let evil = get("/events?channel=a").host("evil.example");
    table.push(Case::new("evil Host of a stream", evil).want(wrong_host()).kept());
    let evil = Req::new("POST /channels/hosts").host("evil.example").body("");
    table.push(Case::new("evil Host of a publisher", evil).want(wrong_host()).kept());
}

/// RFC 9112 §3.2: an invalid Host is 400. Characters that a name may have make another name: 421.
fn hosts_malformed(table: &mut Vec<Case>) {
    for host in [
        "local host",
        "user@localhost",
        "user:pass@localhost",
        "localhost/",
        "localhost/health",
        "http://localhost",
        "localhost:port",
        "localhost:80x",
        "localhost:-1",
        "localhost:+80",
        "localhost:80:80",
        "[::1",
        "::1",
        "[]",
        "[::1]x",
        "[::1]80",
        "[localhost]",
        "localhost#",
        "localhost?",
        "localhost\\",
        "<localhost>",
        "\"localhost\"",
        "local\thost",
        "localhost localhost",
        "%zz",
        "local^host",
    ] {
        let name = format!("Host {host:?}");
        table.push(refused(&name, get("/health").host(host), bad_request()));
    }
    for host in ["localhost,evil.example", "localhost, localhost", "evil_name", "", " ", ":80"] {
        let case = Case::new(format!("Host {host:?}"), get("/health").host(host));
        table.push(case.want(bad_request().or(421, "host")).either());
    }
    let raw = b"GET /health HTTP/1.1\r\nHost: \xfflocalhost\xff\r\n\r\n".to_vec();
    let case = Case::new("Host with 0xff", raw);
    table.push(case.want(bad_request().or(421, "host")).either());
    let raw = b"GET /health HTTP/1.1\r\nHost: localhost\0.evil.example\r\n\r\n".to_vec();
    table.push(refused("Host with NUL", raw, bad_request()));
    table.push(refused(
        "a folded Host",
        "GET /health HTTP/1.1\r\nHost:\r\n localhost\r\n\r\n",
        bad_request(),
    ));
    table.push(refused(
        "SP before Host's colon",
        "GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n",
        bad_request(),
    ));
    let last = "GET /health HTTP/1.1\r\nX: y\r\nHost: localhost\r\n\r\n";
    table.push(Case::new("Host comes last", last).want(status(200)).kept());
}

/// RFC 9112 §3.2.2: the target's authority counts, and Host is still demanded.
fn absolute_form(table: &mut Vec<Case>) {
    let ok = |name: &str, request: Req| Case::new(name, request).want(status(200)).kept();
    table.push(ok("absolute-form", get("http://localhost/health")));
    table.push(ok("absolute-form with the address", get("http://{addr}/health").host("{addr}")));
    table.push(ok("absolute-form, scheme in capitals", get("HTTP://localhost/health")));
    table.push(ok("absolute-form, name in capitals", get("http://LOCALHOST:1/health")));
    table.push(ok(
        "absolute-form overrides an evil Host",
        get("http://localhost/health").host("evil.example"),
    ));
    table.push(ok("absolute-form without path", get("http://localhost")));
    table.push(ok("absolute-form with a query", get("http://localhost/health?a=b")));
    let query = get("http://localhost/channels/hosts?since=latest&wait=x");
    table.push(Case::new("absolute-form, query read", query).want(error(400, "bad_query")).kept());
    let evil = get("http://evil.example/health");
    table.push(Case::new("absolute-form to evil", evil.clone()).want(wrong_host()).kept());
    let same = evil.clone().host("evil.example");
    table.push(Case::new("absolute-form and Host to evil", same).want(wrong_host()).kept());
    let ten = evil.ten().no_host();
    table.push(Case::new("absolute-form to evil in HTTP/1.0", ten).want(wrong_host()).closed());
    let nope = get("http://localhost/nope");
    table
        .push(Case::new("absolute-form, no such route", nope).want(error(404, "not_found")).kept());
    let put = Req::new("PUT http://localhost/channels/hosts").body("hello");
    table.push(Case::new("absolute-form by PUT", put).want(status(202)).kept());
}

fn absolute_form_refused(table: &mut Vec<Case>) {
    let rows: [(&str, Req); 7] = [
        ("absolute-form without Host", get("http://localhost/health").no_host()),
        ("absolute-form, Host twice", get("http://localhost/health").field("Host: localhost")),
        ("absolute-form, Host malformed", get("http://localhost/health").host("a b")),
        ("absolute-form with a fragment", get("http://localhost/health#a")),
        ("absolute-form, bad port", get("http://localhost:port/health")),
        ("absolute-form, bad bracket", get("http://[::1/health")),
        ("absolute-form without authority", get("http:///health")),
    ];
    table.extend(rows.map(|(name, request)| refused(name, request, bad_request())));
    // Open: other schemes (421 names one that is not served), userinfo.
    let open = || bad_request().or(421, "host").or(404, "not_found");
    for target in
        ["ftp://localhost/health", "ws://localhost/health", "urn:health", "file:///health"]
    {
        table.push(Case::new(format!("target {target}"), get(target)).want(open()).either());
    }
    for target in
        ["https://localhost/health", "http://user@localhost/health", "http://localhost:/health"]
    {
        let want = status(200).or(400, "bad_request").or(421, "host");
        table.push(Case::new(format!("target {target}"), get(target)).want(want).either());
    }
    let tricked = get("http://localhost@evil.example/health");
    let want = error(421, "host").or(400, "bad_request");
    table.push(Case::new("userinfo that looks like the host", tricked).want(want).either());
}
