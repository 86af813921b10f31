//! How often what may happen: messages, commands, names of channels, failed attempts; on each
//! transport, with the exact answer.

use std::time::Duration;

use holdline::engine::{Action, Answer as Later, ConnId, Ctx, Request, Route, Verdict};
use holdline::{App, Code, Config, Rate};
use serde_json::{Value, json};

use crate::limits::{
    HERE, THERE, assert_limited, call, config, forwarded, ip, protocol, proxy, rejected, say,
    websocket, world,
};
use crate::sim::clients::{Sse, Ws, request};
use crate::sim::{Sim, ws};

#[test]
fn messages_of_an_address_are_published_at_a_rate() {
    let mut sim = world(config());
    let line = proxy(&mut sim);
    let publish = forwarded(HERE, "POST", "/channels/a", "", b"x");
    for _ in 0..50 {
        assert_eq!(call(&mut sim, line, &publish).status, 202);
    }
    let answer = call(&mut sim, line, &publish);
    assert_limited(&answer, 1..=1);
    assert!(answer.is_closing(), "its body was not looked at");
    assert_eq!(sim.history.head(), 50);
    let line = proxy(&mut sim);
    let other = forwarded(THERE, "POST", "/channels/a", "", b"x");
    assert_eq!(call(&mut sim, line, &other).status, 202);
    assert_limited(&call(&mut sim, line, &publish), 1..=1);
    sim.pass(50);
    let line = proxy(&mut sim);
    assert_eq!(call(&mut sim, line, &publish).status, 202);
    assert_limited(&call(&mut sim, line, &publish), 1..=1);
}

#[test]
fn who_waits_before_sending_a_body_is_told_at_once() {
    let slow = Rate { burst: 1, every: Duration::from_millis(2_500) };
    let mut sim = world(Config { publishes_per_address: slow, ..config() });
    let line = proxy(&mut sim);
    assert_eq!(call(&mut sim, line, &forwarded(HERE, "POST", "/channels/a", "", b"x")).status, 202);
    let head = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n\
                Content-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let answer = call(&mut sim, line, head.as_bytes());
    assert_limited(&answer, 3..=3);
    assert!(answer.is_closing());
    // Who may comes first, what is wrong with the body later.
    let line = proxy(&mut sim);
    let coded = forwarded(HERE, "POST", "/channels/a", "Content-Encoding: gzip\r\n", b"x");
    assert_limited(&call(&mut sim, line, &coded), 3..=3);
    let line = sim.connect_from(0, ip(HERE));
    assert_eq!(call(&mut sim, line, &request("POST", "/channels/a", "", b"x")).status, 403);
}

#[test]
fn each_line_of_a_batch_counts_and_has_its_own_answer() {
    let three = Rate { burst: 3, every: Duration::from_secs(2) };
    let mut sim = world(Config { publishes_per_address: three, ..config() });
    let line = proxy(&mut sim);
    let body =
        b"{\"channel\":\"a\",\"text\":\"1\"}\n{\"channels\":[\"a\",\"b\",\"c\"],\"text\":\"2\"}\n";
    let answer = call(&mut sim, line, &forwarded(HERE, "POST", "/publish", "", body));
    assert_eq!(answer.status, 200);
    let lines: Vec<Value> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    assert_eq!(lines[0]["channel"], "a");
    let results = lines[1]["results"].as_array().expect("results");
    assert_eq!((&results[0]["channel"], &results[1]["channel"]), (&json!("a"), &json!("b")));
    assert_eq!(
        (&results[2]["error"], &results[2]["retry_ms"]),
        (&json!("rate_limited"), &json!(2_000))
    );
    assert_eq!((sim.history.head(), rejected(&sim)), (3, 1));
    let json = "Content-Type: application/json\r\n";
    let one = forwarded(HERE, "POST", "/publish", json, b"{\"channel\":\"a\",\"text\":\"1\"}");
    assert_limited(&call(&mut sim, line, &one), 2..=2);
    assert_eq!(rejected(&sim), 2, "it is counted once");
}

/// Nothing has been taken, so the status does not say that it has.
#[test]
fn one_object_of_which_no_channel_takes_anything_is_429() {
    let one = Rate { burst: 1, every: Duration::from_secs(60) };
    let mut sim = world(Config { publishes_per_address: one, ..config() });
    let line = proxy(&mut sim);
    let body = b"{\"channels\":[\"a\",\"b\"],\"text\":\"1\"}";
    let publish = forwarded(HERE, "POST", "/publish", "Content-Type: application/json\r\n", body);
    let first = call(&mut sim, line, &publish);
    assert_eq!((first.status, &first.json()["results"][1]["error"]), (202, &"rate_limited".into()));
    assert_limited(&call(&mut sim, line, &publish), 55..=60);
    assert_eq!(sim.history.stats().published, 1);
}

#[test]
fn a_websocket_is_told_when_to_publish_again() {
    let mut sim = world(config());
    let socket = protocol(&mut sim, HERE);
    let publish = r#"{"op":"publish","ref":4,"channel":"a","text":"x"}"#;
    for _ in 0..50 {
        assert_eq!(say(&mut sim, &socket, publish)["op"], "ok");
    }
    let error = say(&mut sim, &socket, publish);
    let shown = (&error["op"], &error["ref"], &error["code"], &error["retry_ms"]);
    assert_eq!(shown, (&json!("error"), &json!(4), &json!("rate_limited"), &json!(50)));
    sim.pass(50);
    assert_eq!(say(&mut sim, &socket, publish)["op"], "ok");
    assert_eq!(sim.history.head(), 51);
}

#[test]
fn a_raw_websocket_that_publishes_too_much_is_closed() {
    let mut sim = world(Config { publishes_per_address: Rate::per_second(1, 3), ..config() });
    let socket = websocket(&mut sim, HERE, "/channels/a");
    for _ in 0..4 {
        socket.text(&mut sim, "x");
        sim.settle();
    }
    let frames = socket.frames(&mut sim);
    let last = frames.last().expect("a close");
    assert_eq!(
        (frames.len(), last.code(), &last.payload[2..]),
        (4, Some(4429), &b"rate_limited"[..])
    );
    assert_eq!(rejected(&sim), 1);
    assert_eq!(sim.engine().stats().ws_closes[6], 1);
}

#[test]
fn commands_of_a_connection_have_a_rate_and_its_abuse_an_end() {
    let mut sim = world(config());
    let socket = protocol(&mut sim, HERE);
    let other = protocol(&mut sim, HERE);
    let ping = r#"{"op":"ping","ref":9,"t":1}"#;
    for _ in 0..100 {
        assert_eq!(say(&mut sim, &socket, ping)["op"], "pong");
    }
    let error = say(&mut sim, &socket, ping);
    let shown = (&error["op"], &error["ref"], &error["code"], &error["retry_ms"]);
    assert_eq!(shown, (&json!("error"), &json!(9), &json!("rate_limited"), &json!(20)));
    assert_eq!(say(&mut sim, &other, ping)["op"], "pong", "each connection has its own");
    sim.pass(20);
    assert_eq!(say(&mut sim, &socket, ping)["op"], "pong");
    // Twenty within ten seconds are told; then the window is over and it begins anew.
    for _ in 1..20 {
        assert_eq!(say(&mut sim, &socket, ping)["code"], "rate_limited");
    }
    sim.pass(10_100);
    (0..100).for_each(|_| assert_eq!(say(&mut sim, &socket, ping)["op"], "pong"));
    for _ in 0..20 {
        assert_eq!(say(&mut sim, &socket, ping)["code"], "rate_limited");
    }
    socket.text(&mut sim, ping);
    sim.settle();
    let frames = socket.frames(&mut sim);
    assert_eq!(frames.iter().map(|frame| frame.code()).collect::<Vec<_>>(), [None, Some(4429)]);
    assert_eq!(say(&mut sim, &other, ping)["op"], "pong");
}

#[test]
fn frames_of_a_raw_websocket_have_a_rate() {
    let config = Config { operations_per_connection: Rate::per_second(50, 5), ..config() };
    let mut sim = world(config);
    let socket = websocket(&mut sim, HERE, "/channels/a");
    (0..6).for_each(|_| socket.text(&mut sim, "x"));
    sim.settle();
    let frames = socket.frames(&mut sim);
    assert_eq!(frames.last().and_then(|frame| frame.code()), Some(4429));
    assert_eq!(sim.history.head(), 5);
}

#[test]
fn a_channel_takes_so_many_messages_of_all_who_are_limited() {
    let two = Rate { burst: 2, every: Duration::from_secs(1) };
    let mut sim = world(Config { publishes_per_channel: two, ..config() });
    let line = proxy(&mut sim);
    for client in [HERE, THERE] {
        let publish = forwarded(client, "POST", "/channels/a", "", b"x");
        assert_eq!(call(&mut sim, line, &publish).status, 202);
    }
    // Who is not limited is neither counted nor refused.
    let local = sim.connect(0);
    for _ in 0..5 {
        assert_eq!(sim.call(local, "POST", "/channels/a", b"x").status, 202);
    }
    let over = forwarded("192.0.2.3", "POST", "/channels/a", "", b"x");
    assert_limited(&call(&mut sim, line, &over), 1..=1);
    let line = proxy(&mut sim);
    let elsewhere = forwarded("192.0.2.3", "POST", "/channels/b", "", b"x");
    assert_eq!(call(&mut sim, line, &elsewhere).status, 202);
    sim.pass(1_000);
    assert_eq!(call(&mut sim, line, &over).status, 202);
}

#[test]
fn names_of_channels_have_a_rate() {
    let five = Rate { burst: 5, every: Duration::from_millis(100) };
    let mut sim = world(Config { new_channels_per_address: five, ..config() });
    sim.publish("known", "x");
    let socket = protocol(&mut sim, HERE);
    let subscribe = |sim: &mut Sim, socket: &Ws, channels: &str| {
        socket.text(sim, &format!(r#"{{"op":"subscribe","ref":1,"channels":[{channels}]}}"#));
        sim.settle();
        socket.jsons(sim)
    };
    assert_eq!(subscribe(&mut sim, &socket, r#""a","b","c","d""#)[0]["op"], "ok");
    let error = subscribe(&mut sim, &socket, r#""e","f","g""#);
    assert_eq!((&error[0]["code"], &error[0]["retry_ms"]), (&json!("rate_limited"), &json!(200)));
    assert_eq!(sim.engine().subscriptions(), 4, "nothing is done on an error");
    // What exists costs nothing, whoever made it.
    assert_eq!(subscribe(&mut sim, &socket, r#""known""#)[0]["op"], "ok");
    assert_eq!(subscribe(&mut sim, &socket, r#""e""#)[0]["op"], "ok");
    let line = proxy(&mut sim);
    assert_limited(&call(&mut sim, line, &forwarded(HERE, "POST", "/channels/z", "", b"x")), 1..=1);
    let line = proxy(&mut sim);
    assert_limited(
        &call(&mut sim, line, &forwarded(HERE, "GET", "/channels/z?wait=1", "", b"")),
        1..=1,
    );
    // Who comes back to a channel that has been forgotten meanwhile has a position.
    let back = format!("/poll?channel=z&wait=0&since={}", sim.id(1));
    assert_eq!(call(&mut sim, line, &forwarded(HERE, "GET", &back, "", b"")).status, 200);
    let other = forwarded(THERE, "GET", "/channels/z?since=latest&wait=0", "", b"");
    assert_eq!(call(&mut sim, line, &other).status, 204);
    // A native EventSource is only put off.
    let accept = "Accept: text/event-stream\r\n";
    sim.send(line, &forwarded(HERE, "GET", "/channels/z", accept, b""));
    sim.settle();
    Sse::accepted(&mut sim, line);
    assert!(sim.lines[line].is_finished);
    sim.pass(100);
    assert_eq!(subscribe(&mut sim, &socket, r#""f""#)[0]["op"], "ok");
}

/// Knows nobody.
struct Guard;

impl App for Guard {
    fn authorize(&mut self, _: &mut Ctx<'_>, _id: ConnId, _: Action<'_>) -> Later<Verdict> {
        Later::Done(Verdict::Unauthorized)
    }

    fn request(&mut self, cx: &mut Ctx<'_>, id: ConnId, request: &Request<'_>) -> Later<Route> {
        if request.path() != "/whoami" {
            return Later::Done(Route::Pass);
        }
        let client = cx.client(id).map_or_else(|| "nobody".to_owned(), |ip| ip.to_string());
        Later::Done(Route::Respond(holdline::engine::Response::new(200, "text/plain", client)))
    }
}

#[test]
fn after_some_failed_attempts_an_address_is_only_told_to_wait() {
    let mut sim = world(config());
    sim.engine_mut().set_app(Box::new(Guard));
    let line = proxy(&mut sim);
    let ask = |client| forwarded(client, "GET", "/poll?channel=a", "", b"");
    for _ in 0..5 {
        assert_eq!(call(&mut sim, line, &ask(HERE)).status, 401);
    }
    assert_limited(&call(&mut sim, line, &ask(HERE)), 12..=12);
    assert_eq!(call(&mut sim, line, &ask(THERE)).status, 401);
    sim.pass(5_000);
    assert_limited(&call(&mut sim, line, &ask(HERE)), 7..=7);
    sim.pass(7_000);
    assert_eq!(call(&mut sim, line, &ask(HERE)).status, 401);
    assert_limited(&call(&mut sim, line, &ask(HERE)), 12..=12);
    // Who is on this machine may try as often as it likes.
    let local = sim.connect(0);
    for _ in 0..10 {
        assert_eq!(sim.get(local, "/poll?channel=a").status, 401);
    }
}

#[test]
fn a_failed_attempt_counts_once_on_each_way() {
    let mut sim = world(config());
    sim.engine_mut().set_app(Box::new(Guard));
    let line = proxy(&mut sim);
    let json = "Content-Type: application/json\r\n";
    let batch = b"{\"channel\":\"a\",\"text\":\"1\"}";
    assert_eq!(call(&mut sim, line, &forwarded(HERE, "POST", "/publish", json, batch)).status, 401);
    let lines =
        forwarded(HERE, "POST", "/publish", "", b"{\"channels\":[\"a\",\"b\"],\"text\":\"1\"}");
    assert_eq!(call(&mut sim, line, &lines).text().matches("unauthorized").count(), 2);
    let put = forwarded(HERE, "PUT", "/channels/a", "", b"x");
    assert_eq!(call(&mut sim, line, &put).status, 401);
    let line = proxy(&mut sim);
    assert_eq!(call(&mut sim, line, &forwarded(HERE, "GET", "/channels/a", "", b"")).status, 401);
    assert_limited(&call(&mut sim, line, &put), 12..=12);
    // Who speaks our protocol is told by a code.
    let line = proxy(&mut sim);
    let head = String::from_utf8(ws::upgrade("/ws", Some("holdline.v1.json"))).expect("ASCII");
    let head = head.replacen("\r\n", "\r\nX-Forwarded-For: 192.0.2.1\r\n", 1);
    sim.send(line, head.as_bytes());
    sim.settle();
    let socket = Ws { line };
    socket.accepted(&mut sim, Some("holdline.v1.json"));
    assert_eq!(socket.frame(&mut sim).code(), Some(4429));
    assert_eq!((sim.engine().stats().rejected.of(Code::Unauthorized), rejected(&sim)), (5, 2));
}

#[test]
fn an_application_sees_whom_a_proxy_named() {
    let mut sim = world(config());
    sim.engine_mut().set_app(Box::new(Guard));
    let line = proxy(&mut sim);
    for (client, seen) in [(HERE, HERE), ("2001:db8::5", "2001:db8::"), ("junk", "127.0.0.1")] {
        let answer = call(&mut sim, line, &forwarded(client, "GET", "/whoami", "", b""));
        assert_eq!(answer.text(), seen);
    }
    let direct = sim.connect_from(0, ip("::ffff:192.0.2.9"));
    let lie = forwarded(HERE, "GET", "/whoami", "", b"");
    assert_eq!(call(&mut sim, direct, &lie).text(), "192.0.2.9");
    let direct = sim.connect_from(0, ip("2001:db8::9"));
    assert_eq!(sim.get(direct, "/whoami").text(), "2001:db8::9");
    let unix = sim.connect(0);
    assert_eq!(sim.get(unix, "/whoami").text(), "nobody");
}

/// A `Date` is the only thing that differs from run to run.
fn received(sim: &mut Sim, line: usize) -> String {
    let bytes = std::mem::take(&mut sim.lines[line].received);
    let text = String::from_utf8(bytes).expect("text");
    let lines = text.split_inclusive("\r\n").filter(|line| !line.starts_with("Date: "));
    lines.collect()
}

#[test]
fn what_is_sent_for_a_rate_is_exactly_this() {
    let one = Rate { burst: 1, every: Duration::from_millis(2_345) };
    let mut sim =
        world(Config { publishes_per_address: one, new_channels_per_address: one, ..config() });
    let line = proxy(&mut sim);
    assert_eq!(call(&mut sim, line, &forwarded(HERE, "POST", "/channels/a", "", b"x")).status, 202);
    // A request.
    sim.send(line, &forwarded(HERE, "POST", "/channels/a", "", b"x"));
    sim.settle();
    assert_eq!(
        received(&mut sim, line),
        "HTTP/1.1 429 Too Many Requests\r\nServer: holdline\r\nContent-Type: application/json\r\n\
         X-Content-Type-Options: nosniff\r\nContent-Length: 93\r\nCache-Control: no-store\r\n\
         Vary: Origin\r\nRetry-After: 3\r\nConnection: close\r\n\r\n\
         {\"error\":\"rate_limited\",\
         \"message\":\"too many messages from this address: publish more slowly\"}"
    );
    // A line of a batch.
    let line = proxy(&mut sim);
    let batch = b"{\"channel\":\"a\",\"text\":\"1\"}";
    let answer = call(&mut sim, line, &forwarded(HERE, "POST", "/publish", "", batch));
    assert_eq!(
        answer.text(),
        "{\"error\":\"rate_limited\",\
         \"message\":\"too many messages from this address: publish more slowly\",\
         \"retry_ms\":2345}\n"
    );
    // A command.
    let socket = protocol(&mut sim, HERE);
    socket.text(&mut sim, r#"{"op":"publish","ref":7,"channel":"a","text":"x"}"#);
    socket.text(&mut sim, r#"{"op":"subscribe","channel":"b"}"#);
    sim.settle();
    assert_eq!(
        socket.frames(&mut sim).iter().map(|frame| frame.text()).collect::<Vec<_>>(),
        [
            "{\"op\":\"error\",\"ref\":7,\"code\":\"rate_limited\",\
             \"message\":\"too many messages from this address: publish more slowly\",\
             \"retry_ms\":2345}",
            "{\"op\":\"error\",\"code\":\"rate_limited\",\
             \"message\":\"too many new channels from this address: use fewer names\",\
             \"retry_ms\":2345}",
        ]
    );
    // A native EventSource; the time is random.
    let line = proxy(&mut sim);
    sim.send(line, &forwarded(HERE, "GET", "/channels/b", "Accept: text/event-stream\r\n", b""));
    sim.settle();
    let text = received(&mut sim, line);
    let (head, rest) = text.split_once("\r\n\r\n").expect("a head");
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\r\nServer: holdline\r\nContent-Type: text/event-stream\r\n\
         X-Content-Type-Options: nosniff\r\nCache-Control: no-store, no-transform\r\n\
         Vary: Origin, Accept\r\nX-Accel-Buffering: no\r\n\
         Transfer-Encoding: chunked\r\nConnection: close"
    );
    assert!(rest.starts_with("d\r\nretry: ") && rest.ends_with("\n\n\r\n0\r\n\r\n"), "{rest:?}");
}

/// A message to a new channel is held back by the slower of two rates.
#[test]
fn who_is_over_two_rates_is_told_of_the_longer_wait() {
    let mut sim = world(Config {
        publishes_per_address: Rate { burst: 1, every: Duration::from_secs(1) },
        new_channels_per_address: Rate { burst: 1, every: Duration::from_secs(9) },
        ..config()
    });
    let socket = protocol(&mut sim, HERE);
    let publish =
        |channel| format!(r#"{{"op":"publish","ref":1,"channel":"{channel}","text":"x"}}"#);
    assert_eq!(say(&mut sim, &socket, &publish("a"))["op"], "ok");
    let error = say(&mut sim, &socket, &publish("b"));
    assert_eq!((&error["code"], &error["retry_ms"]), (&json!("rate_limited"), &json!(9_000)));
    sim.pass(9_000);
    socket.frames(&mut sim);
    assert_eq!(say(&mut sim, &socket, &publish("b"))["op"], "ok");
}
