//! Who asks: Origin and CORS, by the defaults of a server that listens on loopback only.

use super::case::{After, Case, Want, error, status};
use super::http::Req;

const GOOD: &str = "http://localhost:3000";
const EVIL: &str = "http://evil.example";

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    origins(&mut table);
    origins_refused(&mut table);
    cors(&mut table);
    preflights(&mut table);
    table
}

fn get(target: &str) -> Req {
    Req::new(&format!("GET {target}"))
}

fn origin(request: Req, origin: &str) -> Req {
    request.field(format!("Origin: {origin}"))
}

fn wrong_host() -> Want {
    error(421, "host").says("--host")
}

/// A request with Origin must come from a page of this host, or of loopback at any port.
fn origins(table: &mut Vec<Case>) {
    for from in [
        "http://localhost",
        "http://localhost:3000",
        "https://localhost:3000",
        "http://127.0.0.1:8080",
        "https://127.0.0.1",
        "http://[::1]:5000",
        "http://[::1]",
        "http://{addr}",
        "https://{addr}",
        "http://LOCALHOST:3000",
    ] {
        let post = origin(Req::new("POST /channels/hosts"), from).body("");
        let want = status(202).has("vary", "origin");
        // An Origin in capitals is no browser's; in which letters it is echoed is open.
        let want = if from.contains("LOCAL") {
            want
        } else {
            want.has("access-control-allow-origin", from)
        };
        table.push(Case::new(format!("POST from {from}"), post).want(want).kept());
    }
    for (line, code) in
        [("PUT /channels/hosts", 202), ("DELETE /channels/hosts-none", 204), ("POST /publish", 200)]
    {
        let request = origin(Req::new(line), GOOD);
        let want = status(code).has("access-control-allow-origin", GOOD);
        table.push(Case::new(format!("{line} from a good origin"), request).want(want).kept());
    }
    let own =
        origin(Req::new("POST /channels/hosts").host("localhost:9"), "http://localhost:9").body("");
    table.push(Case::new("POST from the host's own page", own).want(status(202)).kept());
}

fn origins_refused(table: &mut Vec<Case>) {
    for from in [
        EVIL,
        "https://evil.example",
        "http://evil.example:80",
        "null",
        "http://localhost.evil.example",
        "http://evil.localhost.example",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.2",
        "http://127.0.0.11",
        "http://xlocalhost",
        "http://localhostx",
        "http://[::2]",
        "http://192.168.1.1",
        "http://0.0.0.0",
        "http://evil.example:3000",
    ] {
        let post = origin(Req::new("POST /channels/hosts"), from).body("");
        table.push(Case::new(format!("POST from {from}"), post).want(wrong_origin()).kept());
    }
    // No serialised origins: refused, as malformed or as foreign.
    for from in [
        "*",
        "localhost",
        "//localhost",
        "http://",
        "http:localhost",
        "http://localhost@evil.example",
        "http://evil.example/localhost",
        "http://localhost http://evil.example",
        "http://localhost, null",
        "http://evil.example#localhost",
        "http://localhost:x",
        "http://localhost\\.evil.example",
    ] {
        let post = origin(Req::new("POST /channels/hosts"), from).body("");
        let want = error(403, "origin").or(400, "bad_request").lacks("access-control-allow-origin");
        table.push(Case::new(format!("POST from {from:?}"), post).want(want).either());
    }
    // No browser sends an empty one; whether it is none at all is open.
    let empty = origin(Req::new("POST /channels/hosts"), "").body("");
    let want = error(403, "origin").or(400, "bad_request").or(202, "");
    table.push(Case::new("POST from an empty origin", empty).want(want).either());
    for line in ["PUT /channels/hosts", "DELETE /channels/hosts", "POST /publish"] {
        let request = origin(Req::new(line), EVIL);
        table.push(Case::new(format!("{line} from evil"), request).want(wrong_origin()).kept());
    }
    let ten = origin(Req::new("POST /channels/hosts").ten(), EVIL).body("");
    table.push(Case::new("POST from evil in HTTP/1.0", ten).want(wrong_origin()).closed());
    // The page's host is compared with the host that is asked, so both being evil is no match
    // either: Host is refused first.
    let both = origin(Req::new("POST /channels/hosts").host("evil.example"), EVIL).body("");
    table.push(Case::new("POST from evil to evil", both).want(wrong_host()).kept());
}

/// Reading is not refused (a browser hides an answer without these fields from the page).
fn cors(table: &mut Vec<Case>) {
    let poll = "/poll?channel=hosts";
    let exposed =
        ["Retry-After", "Holdline-Cursor", "Holdline-Id", "Holdline-Gap", "Event", "Link"];
    for target in [poll, "/channels/hosts", "/channels/hosts-none?since=latest&wait=0"] {
        let code = if target.contains("wait") { 204 } else { 200 };
        let want = status(code).has("access-control-allow-origin", GOOD).has("vary", "origin");
        let want = exposed.iter().fold(want, |w, n| w.has("access-control-expose-headers", n));
        let case = Case::new(format!("CORS of {target}"), origin(get(target), GOOD));
        table.push(case.want(want).kept());
        for from in [EVIL, "null"] {
            let want = status(code).lacks("access-control-allow-origin");
            let case =
                Case::new(format!("CORS of {target} from {from}"), origin(get(target), from));
            table.push(case.want(want).kept());
        }
    }
    let stream = || get("/events?channel=hosts-stream");
    let want = status(200).open().has("access-control-allow-origin", GOOD);
    table.push(Case::new("CORS of a stream", origin(stream(), GOOD)).want(want).after(After::Open));
    let want = status(200).open().lacks("access-control-allow-origin");
    table.push(
        Case::new("CORS of a stream from evil", origin(stream(), EVIL))
            .want(want)
            .after(After::Open),
    );
    // Without these fields a page cannot read why it was refused.
    let post = || Req::new("POST /channels/hosts");
    let rows: [(&str, Req, Want); 7] = [
        ("404", get("/nope"), error(404, "not_found")),
        ("405", Req::new("DELETE /poll?channel=a"), error(405, "method")),
        ("bad_query", get("/poll"), error(400, "bad_query")),
        ("bad_since", get("/poll?channel=a&since=x"), error(400, "bad_since")),
        ("bad_channel", get("/channels/_x"), error(400, "bad_channel")),
        ("415", post().field("Content-Encoding: gzip"), error(415, "media_type")),
        (
            "bad_json",
            post().field("Content-Type: application/json").body("{"),
            error(400, "bad_json"),
        ),
    ];
    for (name, request, want) in rows {
        let want = want.has("access-control-allow-origin", GOOD);
        table.push(
            Case::new(format!("CORS of an error {name}"), origin(request, GOOD))
                .want(want)
                .either(),
        );
    }
    let large = origin(post(), GOOD).field("Content-Length: 1000000");
    let want = error(413, "too_large").has("access-control-allow-origin", GOOD);
    table.push(Case::new("CORS of an error 413", large).want(want).closed());
}

fn preflights(table: &mut Vec<Case>) {
    let preflight = |target: &str, from: &str, method: &str| {
        origin(Req::new(&format!("OPTIONS {target}")), from)
            .field(format!("Access-Control-Request-Method: {method}"))
            .field("Access-Control-Request-Headers: content-type,idempotency-key")
    };
    let allowed =
        ["Authorization", "Content-Type", "Event", "Idempotency-Key", "Last-Event-ID", "TTL"];
    for (target, method) in [
        ("/channels/hosts", "POST"),
        ("/channels/hosts", "PUT"),
        ("/channels/hosts", "DELETE"),
        ("/publish", "POST"),
        ("/events?channel=a", "GET"),
        ("/poll?channel=a", "GET"),
    ] {
        let want = status(204)
            .has("access-control-allow-origin", GOOD)
            .has("access-control-allow-methods", method)
            .has("access-control-max-age", "7200")
            .has("vary", "origin");
        let want = allowed.iter().fold(want, |w, n| w.has("access-control-allow-headers", n));
        let case =
            Case::new(format!("preflight of {method} {target}"), preflight(target, GOOD, method));
        table.push(case.want(want).kept());
    }
    for from in [EVIL, "null"] {
        let want = status(204).lacks("access-control-allow-origin");
        let case = Case::new(format!("preflight from {from}"), preflight("/publish", from, "POST"));
        table.push(case.want(want).kept());
    }
    let nope = preflight("/nope", GOOD, "POST");
    table.push(Case::new("preflight of no route", nope).want(error(404, "not_found")).kept());
    let evil = preflight("/publish", GOOD, "POST").host("evil.example");
    table.push(Case::new("preflight to an evil Host", evil).want(wrong_host()).kept());
}

fn wrong_origin() -> Want {
    error(403, "origin").says("--origin").lacks("access-control-allow-origin")
}
