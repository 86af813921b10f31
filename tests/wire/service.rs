//! The service around the channels: statuses, which reason wins, who may, what it tells of itself.

use crate::clients::wait_subscribers;
use crate::clients::ws::{HANDSHAKE, Ws};
use crate::clients::{Answer, Headers, Http, Sse, Wire, call, get, lossy, poll, publish, seq};
use crate::support::Running;
use serde_json::{Value, json};

const EVIL: (&str, &str) = ("Origin", "http://evil.example");

#[test]
fn health_ready_console_and_stats_answer_loopback() {
    let server = Running::start(&[]);
    for path in ["/health", "/ready"] {
        get(&server, path).expect(200);
        call(&server, "HEAD", path, &[], b"").expect(200);
    }
    let console = get(&server, "/").expect(200);
    assert!(console.must_header("content-type").starts_with("text/html"), "came {console:?}");
    let stats = get(&server, "/stats").expect(200);
    assert!(stats.must_header("content-type").starts_with("application/json"), "came {stats:?}");
}

#[test]
fn who_listens_is_listed_and_told_over_sockets() {
    let server = Running::start(&[]);
    let mut sse = Sse::open(&server, "/events?channel=a&presence=1", &[]);
    sse.block().expect("the first block");
    let mut ws = Ws::open(&server, "/ws?channel=a&presence=1");
    let hello = ws.op("hello");
    ws.until("live");
    let join = sse.event();
    assert_eq!((&*join.event, &join.id), ("presence", &None), "came {join:?}");
    let join: Value = serde_json::from_str(&join.data.expect("data")).expect("JSON");
    let name = &hello["connection"];
    assert_eq!(join, json!({"op": "join", "channel": "a", "connection": name, "user": null}));
    let list = get(&server, "/channels/a/presence").expect(200).json();
    assert_eq!((&list["subscribers"], &list["more"]), (&json!(2), &json!(false)));
    let members = list["members"].as_array().expect("members");
    assert_eq!((&members[1]["connection"], &members[1]["transport"]), (name, &json!("ws")));
    let stream = members[0]["connection"].clone();
    drop(sse);
    let leave = ws.op("leave");
    assert_eq!((&leave["channel"], &leave["connection"]), (&json!("a"), &stream));
    let list = get(&server, "/channels/a/presence").expect(200).json();
    assert_eq!(list["members"].as_array().map(Vec::len), Some(1), "came {list}");
}

#[test]
fn stats_count_what_happened() {
    let server = Running::start(&[]);
    let mut ws = Ws::open(&server, "/ws?channel=a");
    ws.until("live");
    let mut sse = Sse::open(&server, "/events?channel=a&channel=b", &[]);
    sse.block().expect("the first block");
    let mut held = Http::open(&server);
    held.ask("GET", "/poll?channel=b&since=latest&wait=25", &[], b"");
    wait_subscribers(&server, "b", 2);
    let id = publish(&server, "a", "x");
    ws.op("message");
    sse.message();
    poll(&server, "channel=a&since=zzzzzzzz-5&wait=0");
    get(&server, "/nowhere").expect_error(404, "not_found");
    let stats = get(&server, "/stats").json();
    let rows = [
        ("/version", json!(env!("CARGO_PKG_VERSION"))),
        ("/epoch", json!(id.split('-').next())),
        ("/connections/ws", json!(1)),
        ("/connections/sse", json!(1)),
        ("/connections/poll", json!(1)),
        ("/subscriptions", json!(4)),
        ("/history/messages", json!(1)),
        ("/published", json!(1)),
        ("/conflated", json!(0)),
        ("/idempotency", json!({"keys":0,"bytes":0})),
        ("/gaps/epoch", json!(1)),
        ("/rejected/not_found", json!(1)),
    ];
    for (pointer, value) in rows {
        assert_eq!(stats.pointer(pointer), Some(&value), "{pointer} of {stats}");
    }
    let least = [
        ("/seq", seq(&id)),
        ("/uptime_s", 0),
        ("/connections/http", 0),
        ("/channels", 1),
        ("/history/bytes", 1),
        ("/delivered", 2),
        ("/memory/budget", 1),
        ("/memory/used", 0),
        ("/memory/history", 0),
        ("/memory/connections", 0),
        ("/loops", 1),
    ];
    for (pointer, value) in least {
        let came = stats.pointer(pointer).and_then(Value::as_u64);
        assert!(came >= Some(value), "{pointer} at least {value} in {stats}");
    }
}

#[test]
fn unknown_paths_and_methods_have_their_statuses() {
    let server = Running::start(&[]);
    for path in ["/nowhere", "/channels", "/events/x", "/health/", "/Health"] {
        get(&server, path).expect_error(404, "not_found");
    }
    let wrong = [
        ("POST", "/events?channel=a"),
        ("DELETE", "/poll?channel=a"),
        ("GET", "/publish"),
        ("PUT", "/publish"),
        ("POST", "/health"),
        ("PATCH", "/channels/a"),
        ("TRACE", "/channels/a"),
    ];
    for (method, target) in wrong {
        let answer = call(&server, method, target, &[], b"");
        assert_eq!(answer.status, 405, "for {method} {target}, came {answer:?}");
        answer.expect_error(405, "method");
        let allow = answer.must_header("allow");
        assert!(!allow.split(", ").any(|m| m == method), "{method} {target}, came {answer:?}");
    }
    for method in ["FROB", "get", "CONNECT"] {
        let answer = call(&server, method, "/channels/a", &[], b"");
        assert_eq!(answer.status, 501, "for {method}, came {answer:?}");
        answer.expect_error(501, "not_implemented");
    }
    let options = call(&server, "OPTIONS", "/channels/a", &[], b"").expect(204);
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
        let allow = options.must_header("allow");
        assert!(allow.split(',').any(|m| m.trim() == method), "{method}, came {allow}");
    }
}

#[test]
fn the_first_reason_in_the_order_wins() {
    let server = Running::start(&[]);
    let evil_host = ("Host", "evil.example");
    let version = HANDSHAKE.map(|(n, v)| if v == "13" { (n, "8") } else { (n, v) });
    let handshake = [&version[..], &[EVIL]].concat();
    let (zip, expect) = (("Content-Encoding", "gzip"), ("Expect", "nonsense"));
    let (json, large) = (("Content-Type", "application/json"), "{".repeat(70_000));
    let rows: [(&str, &str, Headers<'_>, &str, u16, &str); 11] = [
        ("FROB", "/", &[evil_host], "", 501, "not_implemented"),
        ("GET", "/nowhere", &[evil_host], "", 421, "host"),
        ("DELETE", "/nowhere", &[EVIL], "", 404, "not_found"),
        ("DELETE", "/poll", &[EVIL], "", 405, "method"),
        ("GET", "/ws?channel=_x", &handshake, "", 403, "origin"),
        ("POST", "/channels/_x", &[EVIL], "", 403, "origin"),
        ("GET", "/ws?channel=_x", &version, "", 426, "upgrade"),
        ("POST", "/channels/_x", &[expect], "x", 417, "expectation"),
        ("POST", "/channels/_x", &[zip], "x", 400, "bad_channel"),
        ("POST", "/channels/a", &[zip], &large, 415, "media_type"),
        ("POST", "/channels/a", &[json], &large, 413, "too_large"),
    ];
    for (method, target, headers, body, status, code) in rows {
        let answer = call(&server, method, target, headers, body.as_bytes());
        assert_eq!(answer.status, status, "for {method} {target} {headers:?}, came {answer:?}");
        answer.expect_error(status, code);
    }
}

#[test]
fn only_errors_of_framing_and_size_close_the_connection() {
    let server = Running::start(&[]);
    let mut http = Http::open(&server);
    let json = [("Content-Type", "application/json")];
    let rows: [(&str, &str, Headers<'_>, &[u8], u16); 6] = [
        ("GET", "/nowhere", &[], b"", 404),
        ("PATCH", "/health", &[], b"", 405),
        ("GET", "/channels/_x", &[], b"", 400),
        ("GET", "/poll", &[], b"", 400),
        ("POST", "/channels/a", &json, b"{", 400),
        ("GET", "/health", &[], b"", 200),
    ];
    for (method, target, headers, body, status) in rows {
        let answer = http.call(method, target, headers, body).expect(status);
        assert!(!answer.closes(), "for {method} {target}, came {answer:?}");
    }
    let large = vec![b'x'; 70_000];
    let rows: [(Headers<'_>, &[u8], u16); 2] =
        [(&[], &large, 413), (&[("Expect", "nonsense")], b"x", 417)];
    for (headers, body, status) in rows {
        let mut http = Http::open(&server);
        let answer = http.call("POST", "/channels/a", headers, body).expect(status);
        assert!(answer.closes(), "for {headers:?}, came {answer:?}");
        assert_eq!(lossy(&http.wire.rest()), "", "the connection ends after {answer:?}");
    }
}

#[test]
fn host_must_be_a_name_of_the_server() {
    let server = Running::start(&["--host", "my.example"]);
    let with = |host| call(&server, "GET", "/health", &[("Host", host)], b"");
    for host in ["127.0.0.1", "127.0.0.1:1", "localhost", "LocalHost:9", "my.example:8443"] {
        let answer = with(host);
        assert_eq!(answer.status, 200, "for Host: {host}, came {answer:?}");
    }
    for host in ["evil.example", "localhost.evil.example", "192.0.2.1", "x.my.example"] {
        let answer = with(host);
        answer.expect_error(421, "host");
        let message = answer.json()["message"].to_string();
        assert!(message.contains("--host"), "it names the flag, came {message}");
    }
    let mut wire = Wire::new(server.connect());
    wire.send(b"GET /health HTTP/1.0\r\n\r\n");
    Answer::read(&mut wire, "GET").expect("an answer").expect(200);
}

#[test]
fn a_foreign_origin_may_not_publish_or_open_a_websocket() {
    let server = Running::start(&["--origin", "https://app.example", "--host", "my.example"]);
    let same = format!("https://{}", server.addr);
    let good = [&same, "http://localhost", "http://localhost:3000", "https://app.example"];
    for origin in [&good[..], &["http://127.0.0.1:1", "http://[::1]:5173"]].concat() {
        let header = ("Origin", origin);
        for method in ["POST", "PUT", "DELETE"] {
            let answer = call(&server, method, "/channels/a", &[header], b"");
            assert!(answer.status < 300, "for {method} from {origin}, came {answer:?}");
            assert_eq!(answer.must_header("access-control-allow-origin"), origin);
        }
        Ws::with(&server, "/ws", &[header]).op("hello");
        Ws::with(&server, "/channels/a", &[header]);
    }
    let own = [("Host", "my.example:81"), ("Origin", "https://my.example:81")];
    call(&server, "POST", "/channels/b", &own, b"x").expect(202);
    let twisted = ["http://localhost.evil.example", "http://127.0.0.1.evil.example", "null"];
    for origin in
        [&twisted[..], &[EVIL.1, "https://app.example.evil", "http://my.example"]].concat()
    {
        let header = ("Origin", origin);
        for method in ["POST", "PUT", "DELETE"] {
            let answer = call(&server, method, "/channels/a", &[header], b"");
            assert_eq!(answer.status, 403, "for {method} from {origin}, came {answer:?}");
            answer.expect_error(403, "origin");
            let message = answer.json()["message"].to_string();
            assert!(message.contains("--origin"), "it names the flag, came {message}");
        }
        call(&server, "POST", "/publish", &[header], b"").expect_error(403, "origin");
        for target in ["/ws", "/channels/a"] {
            let refused = Ws::handshake(&server, target, &[header]).err().expect("no 101");
            refused.expect_error(403, "origin");
        }
        let read = call(&server, "GET", "/channels/a", &[header], b"").expect(200);
        assert_eq!(read.header("access-control-allow-origin"), None, "came {read:?}");
    }
}

#[track_caller]
fn expect_names(list: &str, names: &[&str]) {
    let has = |name: &&&str| list.split(',').any(|n| n.trim().eq_ignore_ascii_case(name));
    let missing: Vec<_> = names.iter().filter(|name| !has(name)).collect();
    assert!(missing.is_empty(), "expected {missing:?} in {list:?}");
}

#[test]
fn allowed_origins_get_cors_headers_on_answers_errors_and_preflights() {
    let server = Running::start(&[]);
    let origin = ("Origin", "http://localhost:3000");
    let exposed =
        ["Retry-After", "Holdline-Cursor", "Holdline-Id", "Holdline-Gap", "Event", "Link"];
    let targets = ["/channels/a", "/poll?channel=a", "/nowhere", "/channels/_x"];
    for target in targets {
        let answer = call(&server, "GET", target, &[origin], b"");
        assert_eq!(answer.must_header("access-control-allow-origin"), origin.1, "for {target}");
        expect_names(answer.must_header("access-control-expose-headers"), &exposed);
        expect_names(answer.must_header("vary"), &["Origin"]);
    }
    let sse = Sse::open(&server, "/events?channel=a", &[origin]);
    assert_eq!(sse.head.must_header("access-control-allow-origin"), origin.1);
    let asks = [origin, ("Access-Control-Request-Method", "PUT")];
    let preflight = call(&server, "OPTIONS", "/channels/a", &asks, b"").expect(204);
    assert_eq!(preflight.must_header("access-control-allow-origin"), origin.1);
    expect_names(preflight.must_header("access-control-allow-methods"), &["PUT"]);
    let taken =
        ["Authorization", "Content-Type", "Event", "Idempotency-Key", "Last-Event-ID", "TTL"];
    expect_names(preflight.must_header("access-control-allow-headers"), &taken);
    let asks = [EVIL, ("Access-Control-Request-Method", "PUT")];
    let refused = call(&server, "OPTIONS", "/channels/a", &asks, b"");
    assert_eq!(refused.header("access-control-allow-origin"), None, "came {refused:?}");
}

#[test]
fn a_page_may_read_why_its_head_was_refused() {
    let server = Running::start(&[]);
    let long = "x".repeat(9_000);
    let cookie = format!("Cookie: {long}\r\n");
    let fields = "X: y\r\n".repeat(70);
    for (line, more, status) in [
        (&*format!("GET /poll?channel={long} HTTP/1.1"), "", 414),
        ("GET /health HTTP/1.1", &*cookie, 431),
        ("GET /health HTTP/1.1", &*fields, 431),
        ("FOO /health HTTP/1.1", "", 501),
        ("POST /channels/a HTTP/1.1", "Content-Type: a/b\r\nContent-Type: a/b\r\n", 400),
    ] {
        for (origins, readable) in [
            (&["http://localhost:3000"][..], true),
            (&[EVIL.1][..], false),
            (&["http://localhost:3000", "http://localhost:3000"][..], false),
        ] {
            let mut http = Http::open(&server);
            let host = format!("Host: {}\r\n", server.addr);
            let origins: String = origins.iter().map(|one| format!("Origin: {one}\r\n")).collect();
            // The line that is too long is last: what comes behind it may not have been read.
            let head = if status == 414 {
                format!("{line}\r\n{host}{origins}\r\n")
            } else {
                format!("{line}\r\n{host}{origins}{more}\r\n")
            };
            http.wire.send(head.as_bytes());
            let answer = http.answer("GET").expect(status);
            let allowed = answer.header("access-control-allow-origin");
            assert_eq!(allowed.is_some(), readable, "{status} {origins:?}: came {answer:?}");
        }
    }
}

#[test]
fn open_lets_any_host_and_origin_do_everything() {
    let server = Running::start(&["--open"]);
    for origin in [EVIL, ("Origin", "null")] {
        let headers = [origin, ("Host", "evil.example")];
        let answer = call(&server, "POST", "/channels/a", &headers, b"x").expect(202);
        assert_eq!(answer.must_header("access-control-allow-origin"), origin.1);
        Ws::with(&server, "/ws", &headers).op("hello");
        call(&server, "GET", "/stats", &headers, b"").expect(200);
    }
    call(&server, "POST", "/channels/a", &[], &[0; 65537]).expect_error(413, "too_large");
}
