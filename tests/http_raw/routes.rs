//! Every route with every method: statuses, Allow, HEAD, OPTIONS, and the fields of answers.

use super::case::{After, Case, Want, error, status};
use super::http::Req;
use super::lint::METHODS;

/// Target, methods, status of GET.
const ROUTES: [(&str, &[&str], u16); 13] = [
    ("/", READ, 200),
    ("/client.js", READ, 200),
    ("/client.iife.js", READ, 200),
    ("/health", READ, 200),
    ("/ready", READ, 200),
    ("/stats", READ, 200),
    ("/stats/channels", READ, 200),
    ("/channels/routes", &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"], 200),
    ("/channels/routes/presence", READ, 200),
    ("/events?channel=routes-stream", READ, 200),
    ("/poll?channel=routes", READ, 200),
    ("/ws", &["GET", "HEAD?", "OPTIONS"], 426),
    ("/publish", &["POST", "OPTIONS"], 405),
];
const READ: &[&str] = &["GET", "HEAD", "OPTIONS"];

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    for (target, methods, get) in ROUTES {
        methods_of(&mut table, target, methods, get);
    }
    heads(&mut table);
    missing(&mut table);
    contents(&mut table);
    clients(&mut table);
    streams(&mut table);
    table
}

fn get(target: &str) -> Req {
    Req::new(&format!("GET {target}"))
}

fn stream() -> Want {
    status(200)
        .has("content-type", "text/event-stream")
        .has("cache-control", "no-store")
        .has("cache-control", "no-transform")
        .has("x-accel-buffering", "no")
        .has("x-content-type-options", "nosniff")
        .has("vary", "origin")
        .has("vary", "accept")
        .lacks("content-length")
        .lacks("content-encoding")
}

fn methods_of(table: &mut Vec<Case>, target: &str, methods: &[&'static str], get: u16) {
    for method in METHODS {
        let line = format!("{method} {target}");
        let case = Case::new(format!("{line}: allowed or not"), Req::new(&line));
        let known = methods.contains(&method);
        let case = match method {
            // RFC 9110 §15.5.6: 405 says what would be right.
            _ if !known && method == "HEAD" && get != 426 => {
                case.want(error(405, "method").head().allow(methods))
            }
            _ if !known && method != "HEAD" => case.want(error(405, "method").allow(methods)),
            "GET" if target.starts_with("/events") => case.want(stream().open()).after(After::Open),
            "GET" => case.want(status(get)),
            // `/ws` has no GET but the upgrade. That HEAD repeats the headers of GET and that
            // HEAD is 200 on streams are both written.
            "HEAD" if get == 426 => case.want(error(426, "").head().or(200, "")),
            "HEAD" => case.want(status(200).head()),
            "OPTIONS" => case.want(status(204).allow(methods)),
            "DELETE" => case.want(status(204)),
            "POST" if get == 405 => case.want(status(200)),
            _ => case.want(status(202)),
        };
        table.push(case);
    }
}

/// RFC 9110 §9.3.2: the headers of GET, at once even where GET would be held.
fn heads(table: &mut Vec<Case>) {
    let head = |target: &str| Req::new(&format!("HEAD {target}"));
    let sse = "Accept: text/event-stream";
    let rows: [(&str, Req, Want); 8] = [
        ("HEAD of a stream", head("/events?channel=routes-none"), stream()),
        ("HEAD of a raw stream", head("/channels/routes-none").field(sse), stream()),
        (
            "HEAD of a poll that would hold",
            head("/poll?channel=routes-none&since=latest&wait=55"),
            status(200),
        ),
        (
            "HEAD of a raw poll that would hold",
            head("/channels/routes-none?since=latest&wait=55"),
            status(200),
        ),
        ("HEAD of a raw poll without since", head("/channels/routes-none?wait=55"), status(200)),
        ("HEAD of a stream without channel", head("/events"), error(400, "bad_query")),
        (
            "HEAD of a poll with a bad since",
            head("/poll?channel=a&since=x"),
            error(400, "bad_since"),
        ),
        ("HEAD of no route", head("/nope"), error(404, "not_found")),
    ];
    for (name, request, want) in rows {
        let case = Case::new(name, request.clone()).want(want.clone().head()).kept();
        table.push(case);
        // What a body of the answer to HEAD would be, is the next answer instead.
        let two = Case::new(format!("{name}, pipelined"), request).and(get("/health"));
        table.push(two.want(want.head()).want(status(200)).kept());
    }
    let ten = Case::new("HEAD of a stream in HTTP/1.0", head("/events?channel=routes-none").ten());
    table.push(ten.want(status(200).head().has("content-type", "text/event-stream")).closed());
}

fn missing(table: &mut Vec<Case>) {
    for target in [
        "/nope",
        "//",
        "//health",
        "/health/",
        "/Health",
        "/HEALTH",
        "/health//",
        "/health/x",
        "/health;a=b",
        "/Channels",
        "/channels/a/b",
        "/channels/a/presence/",
        "/channels/a/presence/x",
        "/channels/a/Presence",
        "/events/",
        "/poll/a",
        "/publish/",
        "/ws/",
        "/client.js/",
        "/index.html",
        "/./health",
        "/../health",
        "/x/../health",
        "/health/.",
        "/health/..",
        "/%2e/health",
        "/%2e%2e/health",
        "/health%2F",
        "/x%2f..%2fhealth",
        "/.git/config",
        "/etc/passwd",
    ] {
        let case = Case::new(format!("{target} is no route"), get(target));
        table.push(case.want(error(404, "not_found")).kept());
    }
    for method in METHODS {
        let want = error(404, "not_found");
        let want = if method == "HEAD" { want.head() } else { want };
        let case = Case::new(format!("{method} /nope"), Req::new(&format!("{method} /nope")));
        table.push(case.want(want).kept());
    }
    // Open: whether a fixed segment is compared before or after decoding.
    let want = || status(200).or(404, "not_found");
    table.push(Case::new("/%68ealth", get("/%68ealth")).want(want()).kept());
    // An empty path segment is no route, a `..` no channel: which is named first is open.
    let want = error(404, "not_found").or(400, "bad_channel");
    table.push(Case::new("/channels/../health", get("/channels/../health")).want(want).kept());
}

fn contents(table: &mut Vec<Case>) {
    let json =
        || status(200).has("content-type", "application/json").has("cache-control", "no-store");
    let none = "/channels/routes-none";
    let rows: [(&str, Req, Want); 11] = [
        ("health", get("/health"), status(200).has("cache-control", "no-store")),
        ("ready", get("/ready"), status(200).has("cache-control", "no-store")),
        ("stats", get("/stats"), json().says("\"epoch\"").says("\"uptime_s\"")),
        (
            "channels",
            get("/stats/channels?limit=1"),
            json().says("\"total\":").says("\"channels\":["),
        ),
        ("channel", get(none), json().says("\"channel\":\"routes-none\"").says("\"subscribers\"")),
        ("console", get("/"), status(200).has("content-type", "text/html")),
        (
            "poll without since",
            get("/poll?channel=routes-none"),
            json()
                .says("\"cursor\":\"")
                .says("\"next\":\"?channel=routes-none&since=")
                .has("link", "rel=\"next\"")
                .has("holdline-cursor", "-")
                .has("x-content-type-options", "nosniff"),
        ),
        (
            "short poll",
            get("/poll?channel=routes-none&since=latest&wait=0"),
            json().says("\"messages\":[]").says("\"more\":false").has("holdline-cursor", "-"),
        ),
        (
            "short raw poll",
            get("/channels/routes-none?since=latest&wait=0"),
            status(204).has("holdline-cursor", "-"),
        ),
        (
            "the console of a channel",
            get(none).field("Accept: text/html"),
            status(200).has("content-type", "text/html"),
        ),
        ("*/* asks for no page", get(none).field("Accept: */*"), json()),
    ];
    table.extend(rows.map(|(name, request, want)| Case::new(name, request).want(want).kept()));
    let sandboxed = status(200)
        .body("<b>hello</b>")
        .has("content-type", "text/html")
        .has("x-content-type-options", "nosniff")
        .has("content-security-policy", "sandbox")
        .has("cache-control", "no-store")
        .has("holdline-id", "-")
        .has("holdline-cursor", "-")
        .has("event", "greeting");
    let publish = Req::new("POST /channels/routes-html").field("Content-Type: text/html");
    let publish = publish.field("Event: greeting").body("<b>hello</b>");
    let case = Case::new("a page of a publisher is sandboxed", publish);
    let case = case.and(get("/channels/routes-html?since=earliest"));
    table.push(case.want(status(202)).want(sandboxed).kept());
}

/// The client for browsers: a page of any origin may take it, and is told if it has it already.
fn clients(table: &mut Vec<Case>) {
    let common = |want: Want| {
        want.has("access-control-allow-origin", "*").has("cache-control", "no-cache").lacks("vary")
    };
    let script = || {
        common(status(200))
            .has("content-type", "text/javascript; charset=utf-8")
            .has("x-content-type-options", "nosniff")
            .has("etag", "\"")
    };
    let (module, iife) = (get("/client.js"), get("/client.iife.js"));
    let same = || common(status(304)).has("etag", "\"").body("").lacks("content-type");
    let any = |request: &Req| request.clone().field("If-None-Match: *");
    let origin = "Origin: http://evil.example";
    let rows: [(&str, Req, Want); 8] = [
        ("client as a module", module.clone(), script().says("export{").says("asdefault}")),
        ("client as a script", iife.clone(), script().says("varHoldline=(()=>{")),
        ("client for another origin", module.clone().field(origin), script()),
        ("client with a query of whatever kind", get("/client.js?v=1.2&%zz"), script()),
        ("client that is there", any(&module), same()),
        ("client that is there, as a script", any(&iife).field(origin), same()),
        ("client of another build", module.field("If-None-Match: \"0\", W/\"1\""), script()),
        ("client by a path that begins like it", get("/client.jsx"), error(404, "not_found")),
    ];
    table.extend(rows.map(|(name, request, want)| Case::new(name, request).want(want).kept()));
}

fn streams(table: &mut Vec<Case>) {
    let chunked = || stream().open().has("transfer-encoding", "chunked");
    let raw = |accept: &str| get("/channels/routes-none").field(format!("Accept: {accept}"));
    let rows: [(&str, Req, Want); 6] = [
        ("stream", get("/events?channel=routes-none"), chunked()),
        (
            "stream, whatever Accept says",
            get("/events?channel=a").field("Accept: text/html"),
            chunked(),
        ),
        ("raw stream", raw("text/event-stream"), chunked()),
        ("raw stream, Accept in capitals", raw("TEXT/Event-Stream"), chunked()),
        ("raw stream, before a page", raw("text/html, text/event-stream;q=0.5"), chunked()),
        (
            "stream in HTTP/1.0",
            get("/events?channel=routes-none").ten(),
            stream().open().lacks("transfer-encoding").has("connection", "close"),
        ),
    ];
    for (name, request, want) in rows {
        table.push(Case::new(name, request).want(want).after(After::Open));
    }
    let json = status(200).has("content-type", "application/json");
    let none = Case::new("q=0 counts as absent", raw("text/event-stream;q=0")).want(json);
    table.push(none.kept());
    // A client that has lost its place must not get an error: a native EventSource would be dead.
    let lost = get("/events?channel=routes-none").field("Last-Event-ID: no cursor of ours");
    table.push(Case::new("stream after an unknown id", lost).want(chunked()).after(After::Open));
    let lost = get("/poll?channel=routes-none").field("Last-Event-ID: \"<>'");
    let want = status(200).says("\"gap\":[{").says("\"reason\":\"epoch\"").says("\"since\":\"\"");
    table.push(Case::new("poll after an unknown id", lost).want(want).kept());
}
