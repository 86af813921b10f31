//! Answers that come later: the connection waits, its input with it, until somebody else answers,
//! or the deadline does.

use std::time::Duration;

use holdline::Config;
use holdline::engine::{Response, Route, Verdict};

use super::desk::{answer, json, raw, world, world_with};
use crate::both_paces;
use crate::sim::clients::{Sse, request};
use crate::sim::{Pace, Sim, ws};

/// What rounding to the wheel and to stamps may add to a moment.
const LATE_MS: u64 = 64 + 250;

both_paces!(
    a_request_is_answered_by_whoever_has_the_ticket,
    a_request_without_an_answer_in_time_is_refused,
    a_subscription_waits_for_its_verdict_on_each_transport,
    a_command_without_an_answer_in_time_is_an_error_and_the_connection_goes_on,
    a_payload_without_an_answer_in_time_ends_a_raw_websocket,
    questions_of_one_request_are_asked_one_after_the_other,
    what_is_sent_behind_a_question_waits_in_order,
    a_connection_that_goes_before_the_answer_leaves_nothing,
    messages_go_on_while_a_command_waits,
    requests_before_the_peers_end_are_still_answered,
    a_stream_whose_peer_has_ended_is_not_opened_for_nobody,
    a_body_comes_after_the_verdict_about_its_publisher,
);

fn a_request_is_answered_by_whoever_has_the_ticket(pace: Pace) {
    let (mut sim, desk) = world(pace);
    let line = sim.connect(0);
    sim.ask(line, "GET", "/own/page", b"");
    sim.pass(9_000);
    assert!(sim.answer(line).is_none());
    let ticket = desk.take("request /own/page");
    answer(&mut sim, ticket, Response::new(418, "text/plain", "short and stout"));
    let got = sim.answer(line).expect("an answer");
    assert_eq!((got.status, &*got.text()), (418, "short and stout"));
    assert_eq!(got.header("content-type"), Some("text/plain"));
    // A second answer to the same ticket is nobody's.
    answer(&mut sim, ticket, Response::new(200, "", ""));
    assert!(sim.lines[line].received.is_empty());
    sim.ask(line, "GET", "/own/next", b"");
    sim.settle();
    answer(&mut sim, ticket, Response::new(200, "", ""));
    assert!(sim.lines[line].received.is_empty(), "an old ticket answered a new question");
    desk.answer(&mut sim, "request /own/next", Route::Pass);
    assert_eq!(sim.answer(line).expect("an answer").status, 404);
    sim.ask(line, "GET", "/own/socket", b"");
    sim.settle();
    desk.answer(&mut sim, "request /own/socket", Route::WebSocket { protocol: None });
    assert_eq!(sim.answer(line).expect("an answer").status, 426);
}

fn a_request_without_an_answer_in_time_is_refused(pace: Pace) {
    let (mut sim, desk) = world(pace);
    let line = sim.connect(0);
    for (method, target, what) in [
        ("GET", "/own", "request /own"),
        ("GET", "/poll?channel=a", "connect /poll"),
        ("POST", "/channels/a", "publish a"),
        ("DELETE", "/channels/a", "publish a"),
    ] {
        sim.ask(line, method, target, b"");
        sim.settle();
        let start = sim.now.mono_ms;
        let end = start + 60_000;
        assert!(sim.pass_until(end, |sim| !sim.lines[line].received.is_empty()), "{target}");
        let took = sim.now.mono_ms - start;
        assert!((10_000..=10_000 + LATE_MS).contains(&took), "{target}: {took} ms");
        let got = sim.answer(line).expect("an answer");
        assert_eq!((got.status, &got.json()["error"]), (503, &"overloaded".into()), "{target}");
        let retry = got.header("retry-after").and_then(|s| s.parse::<u32>().ok());
        assert!(retry.is_some_and(|s| s > 0), "{got:?}");
        assert!(!got.is_closing(), "{target}");
        // Whoever answers now is too late.
        let ticket = desk.take(what);
        answer(&mut sim, ticket, Verdict::Allow);
        assert!(sim.lines[line].received.is_empty(), "{target}");
    }
    assert_eq!(sim.history.head(), 0);
    sim.close(line);
    sim.assert_deserted();
}

fn a_subscription_waits_for_its_verdict_on_each_transport(pace: Pace) {
    let (mut sim, desk) = world(pace);
    sim.publish("a", "x");
    let since = sim.id(0);
    // A stream.
    let line = sim.connect(0);
    let target = format!("/events?channel=a&since={since}");
    sim.send(line, &request("GET", &target, "Accept: text/event-stream\r\n", b""));
    sim.settle();
    desk.answer(&mut sim, "connect /events", Verdict::Allow);
    assert!(sim.lines[line].received.is_empty());
    desk.answer(&mut sim, "subscribe a", Verdict::Allow);
    let blocks = Sse::accepted(&mut sim, line).blocks(&mut sim);
    assert_eq!(blocks[1].json()["text"], "x");
    // A poll, and who may not.
    let line = sim.connect(0);
    for (verdict, status) in
        [(Verdict::Allow, 200), (Verdict::Forbidden, 403), (Verdict::Unauthorized, 401)]
    {
        sim.ask(line, "GET", &format!("/poll?channel=a&since={since}"), b"");
        sim.settle();
        desk.answer(&mut sim, "connect /poll", Verdict::Default);
        desk.answer(&mut sim, "subscribe a", verdict);
        assert_eq!(sim.answer(line).expect("an answer").status, status);
    }
    // A WebSocket, and commands on it.
    let socket = json(&mut sim, &desk);
    let command = format!(r#"{{"op":"subscribe","ref":1,"channels":["a","b"],"since":"{since}"}}"#);
    socket.text(&mut sim, &command);
    sim.settle();
    desk.answer(&mut sim, "subscribe a", Verdict::Allow);
    desk.answer(&mut sim, "subscribe b", Verdict::Allow);
    let ops: Vec<_> = socket.jsons(&mut sim).iter().map(|v| v["op"].to_string()).collect();
    assert_eq!(ops.join(" "), r#""ok" "ok" "message" "live" "live""#);
    socket.text(&mut sim, r#"{"op":"subscribe","ref":2,"channels":["c","d"]}"#);
    sim.settle();
    desk.answer(&mut sim, "subscribe c", Verdict::Allow);
    desk.answer(&mut sim, "subscribe d", Verdict::Forbidden);
    let got = socket.json(&mut sim);
    assert_eq!(
        (&got["op"], &got["ref"], &got["code"]),
        (&"error".into(), &2.into(), &"forbidden".into())
    );
    assert_eq!(sim.engine().subscriptions(), 3, "nothing is done on an error");
}

fn a_command_without_an_answer_in_time_is_an_error_and_the_connection_goes_on(pace: Pace) {
    let (mut sim, desk) = world(pace);
    let socket = json(&mut sim, &desk);
    for (command, what) in [
        (r#"{"op":"publish","ref":5,"channel":"a","text":"x"}"#, "publish a"),
        (r#"{"op":"subscribe","ref":5,"channel":"b"}"#, "subscribe b"),
    ] {
        socket.text(&mut sim, command);
        sim.pass(10_000 + LATE_MS);
        let got = socket.json(&mut sim);
        assert_eq!(
            (&got["op"], &got["ref"], &got["code"]),
            (&"error".into(), &5.into(), &"overloaded".into())
        );
        assert!(got["retry_ms"].as_u64().is_some_and(|ms| ms > 0), "{got}");
        let ticket = desk.take(what);
        answer(&mut sim, ticket, Verdict::Allow);
        socket.text(&mut sim, r#"{"op":"ping"}"#);
        sim.settle();
        assert_eq!(socket.json(&mut sim)["op"], "pong");
    }
    assert_eq!((sim.history.head(), sim.engine().subscriptions()), (0, 0));
}

fn a_payload_without_an_answer_in_time_ends_a_raw_websocket(pace: Pace) {
    let (mut sim, desk) = world(pace);
    let socket = raw(&mut sim, &desk);
    socket.text(&mut sim, "x");
    sim.pass(10_000 + LATE_MS);
    assert_eq!(socket.frame(&mut sim).code(), Some(1013));
    assert_eq!(sim.history.head(), 0);
    desk.take("publish a");
    // In time, and allowed: it is published; and not allowed.
    let socket = raw(&mut sim, &desk);
    socket.text(&mut sim, "y");
    sim.settle();
    desk.answer(&mut sim, "publish a", Verdict::Allow);
    assert_eq!(socket.frame(&mut sim).text(), "y");
    socket.text(&mut sim, "z");
    sim.settle();
    desk.answer(&mut sim, "publish a", Verdict::Forbidden);
    assert_eq!(socket.frame(&mut sim).code(), Some(4403));
}

fn questions_of_one_request_are_asked_one_after_the_other(pace: Pace) {
    let (mut sim, desk) = world(pace);
    let line = sim.connect(0);
    sim.ask(line, "GET", "/own/then", b"");
    sim.settle();
    desk.answer(&mut sim, "request /own/then", Route::Pass);
    assert_eq!(sim.answer(line).expect("an answer").status, 404);
    // Each has its own ten seconds.
    sim.ask(line, "GET", "/poll?channel=a&channel=b", b"");
    for what in ["connect /poll", "subscribe a", "subscribe b"] {
        sim.pass(8_000);
        assert!(sim.lines[line].received.is_empty());
        desk.answer(&mut sim, what, Verdict::Allow);
    }
    assert_eq!(sim.answer(line).expect("an answer").status, 200);
    // Many lines: all questions come before the first effect.
    let body = "{\"channel\":\"a\",\"text\":\"1\"}\n{\"channels\":[\"b\",\"c\"],\"text\":\"2\"}\n";
    sim.ask(line, "POST", "/publish", body.as_bytes());
    sim.settle();
    desk.answer(&mut sim, "publish a", Verdict::Allow);
    desk.answer(&mut sim, "publish b", Verdict::Forbidden);
    assert_eq!(sim.history.head(), 0);
    desk.answer(&mut sim, "publish c", Verdict::Allow);
    let text = sim.answer(line).expect("an answer").text();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["id"], *sim.id(1));
    assert_eq!(lines[1]["results"][0]["error"], "forbidden");
    assert_eq!(lines[1]["results"][1]["id"], *sim.id(2));
    desk.assert_quiet();
}

fn what_is_sent_behind_a_question_waits_in_order(pace: Pace) {
    let (mut sim, desk) = world(pace);
    let line = sim.connect(0);
    for target in ["/own/1", "/health", "/own/2", "/health"] {
        sim.ask(line, "GET", target, b"");
    }
    sim.settle();
    assert!(sim.lines[line].received.is_empty());
    desk.answer(&mut sim, "request /own/1", Response::new(201, "", ""));
    let statuses: Vec<_> = std::iter::from_fn(|| sim.answer(line)).map(|one| one.status).collect();
    assert_eq!(statuses, [201, 200]);
    desk.answer(&mut sim, "request /own/2", Response::new(203, "", ""));
    let statuses: Vec<_> = std::iter::from_fn(|| sim.answer(line)).map(|one| one.status).collect();
    assert_eq!(statuses, [203, 200]);
    // On a WebSocket: the deadline lets it go on, too.
    let socket = json(&mut sim, &desk);
    let publish = |n: u8| format!(r#"{{"op":"publish","ref":{n},"channel":"a","text":"{n}"}}"#);
    socket.texts(&mut sim, &[&publish(1), r#"{"op":"ping","t":2}"#, &publish(3)]);
    sim.settle();
    assert!(socket.next(&mut sim).is_none());
    desk.take("publish a");
    sim.pass(10_000 + LATE_MS);
    let got = socket.jsons(&mut sim);
    assert_eq!((&got[0]["code"], &got[1]["t"]), (&"overloaded".into(), &2.into()), "{got:?}");
    desk.answer(&mut sim, "publish a", Verdict::Allow);
    assert_eq!(socket.json(&mut sim)["ref"], 3);
}

fn a_connection_that_goes_before_the_answer_leaves_nothing(pace: Pace) {
    for how in [Sim::reset, Sim::close] {
        let (mut sim, desk) = world(pace);
        let asked = |sim: &mut Sim, bytes: &[u8]| {
            let line = sim.connect(0);
            sim.send(line, bytes);
            sim.settle();
            line
        };
        let request_line = asked(&mut sim, &request("GET", "/own", "", b""));
        let ticket = desk.take("request /own");
        let stream = asked(&mut sim, &request("GET", "/events?channel=a", "", b""));
        let stream_ticket = desk.take("connect /events");
        let socket = raw(&mut sim, &desk);
        socket.text(&mut sim, "x");
        sim.settle();
        let socket_ticket = desk.take("publish a");
        for line in [request_line, stream, socket.line] {
            how(&mut sim, line);
        }
        sim.settle();
        // Somebody else has the slot by now.
        let next = asked(&mut sim, &request("GET", "/own/other", "", b""));
        answer(&mut sim, ticket, Response::new(200, "text/plain", "not yours"));
        answer(&mut sim, stream_ticket, Verdict::Allow);
        answer(&mut sim, socket_ticket, Verdict::Allow);
        assert!(sim.lines[next].received.is_empty());
        let ticket = desk.pick("request /own/other");
        answer(&mut sim, ticket, Response::new(204, "", ""));
        assert_eq!(sim.answer(next).expect("an answer").status, 204);
        sim.close(next);
        // Who closed in order was only half gone: the deadline's answer meets nobody.
        sim.pass(12_000);
        sim.assert_deserted();
    }
}

fn messages_go_on_while_a_command_waits(pace: Pace) {
    let (mut sim, desk) = world(pace);
    let socket = raw(&mut sim, &desk);
    socket.text(&mut sim, "mine");
    sim.settle();
    sim.publish("a", "theirs");
    sim.settle();
    assert_eq!(socket.frame(&mut sim).text(), "theirs");
    // Also in the middle of a message.
    sim.stall(socket.line, 5);
    sim.publish("a", "cut in the middle");
    sim.settle();
    desk.answer(&mut sim, "publish a", Verdict::Allow);
    sim.unstall(socket.line);
    sim.settle();
    let texts: Vec<_> = socket.frames(&mut sim).iter().map(ws::Frame::text).collect();
    assert_eq!(texts, ["cut in the middle", "mine"]);
}

fn requests_before_the_peers_end_are_still_answered(pace: Pace) {
    let (mut sim, desk) = world(pace);
    let line = sim.connect(0);
    for target in ["/own/1", "/health", "/channels", "/own/2", "/health"] {
        sim.ask(line, "GET", target, b"");
    }
    sim.finish(line);
    sim.settle();
    assert!(!sim.is_closed(line));
    desk.answer(&mut sim, "request /own/1", Response::new(201, "", ""));
    desk.answer(&mut sim, "request /own/2", Response::new(203, "", ""));
    let statuses: Vec<_> = std::iter::from_fn(|| sim.answer(line)).map(|one| one.status).collect();
    assert_eq!(statuses, [201, 200, 404, 203, 200]);
    assert!(sim.is_closed(line));
    // A WebSocket that ends without a Close.
    let socket = json(&mut sim, &desk);
    socket.text(&mut sim, r#"{"op":"publish","ref":1,"channel":"a","text":"x"}"#);
    sim.finish(socket.line);
    sim.settle();
    desk.answer(&mut sim, "publish a", Verdict::Allow);
    assert_eq!(socket.json(&mut sim)["ref"], 1);
    assert!(sim.is_closed(socket.line), "its peer has ended");
    sim.assert_deserted();
}

fn a_stream_whose_peer_has_ended_is_not_opened_for_nobody(pace: Pace) {
    for target in ["/events?channel=a", "/poll?channel=a&since=latest", "/channels/a?wait=20"] {
        for allow_half_close in [false, true] {
            let (mut sim, desk) =
                world_with(Config { allow_half_close, ..Config::default() }, pace);
            let line = sim.connect(0);
            sim.ask(line, "GET", target, b"");
            sim.finish(line);
            sim.settle();
            let path = target.split('?').next().unwrap_or("");
            desk.answer(&mut sim, &format!("connect {path}"), Verdict::Allow);
            desk.answer(&mut sim, "subscribe a", Verdict::Allow);
            assert_eq!(sim.is_closed(line), !allow_half_close, "{target}");
            if allow_half_close {
                sim.publish("a", "for one that still reads");
                sim.settle();
                let got = String::from_utf8_lossy(&sim.lines[line].received).into_owned();
                assert!(got.contains("for one that still reads"), "{target}: {got}");
                sim.reset(line);
            }
            sim.assert_deserted();
        }
    }
}

fn a_body_comes_after_the_verdict_about_its_publisher(pace: Pace) {
    // Without a `request` of its own an application would be asked before the body is read; with
    // one it sees whole requests only. Either way the body is not taken for a request.
    let (mut sim, desk) = world(pace);
    let line = sim.connect(0);
    let body = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n".repeat(50);
    sim.ask(line, "POST", "/channels/a", body.as_bytes());
    sim.ask(line, "POST", "/channels/b", body.as_bytes());
    sim.settle();
    desk.answer(&mut sim, "publish a", Verdict::Allow);
    desk.answer(&mut sim, "publish b", Verdict::Forbidden);
    let statuses: Vec<_> = std::iter::from_fn(|| sim.answer(line)).map(|one| one.status).collect();
    assert_eq!(statuses, [202, 403]);
    assert_eq!(sim.history.head(), 1);
}

/// What waits behind a question is at most a head; more stays in the socket.
#[test]
fn a_flood_behind_a_question_is_not_read() {
    let (mut sim, desk) = world(Pace::Whole);
    let socket = raw(&mut sim, &desk);
    let frame = ws::frame(ws::TEXT, &[b'x'; 1_000], [1, 2, 3, 4]);
    for _ in 0..200 {
        sim.send(socket.line, &frame);
    }
    sim.settle();
    assert!(sim.lines[socket.line].unread() > 150_000, "{}", sim.lines[socket.line].unread());
    for n in 1..=200 {
        desk.answer(&mut sim, "publish a", Verdict::Allow);
        assert_eq!(sim.history.head(), n);
    }
    sim.settle();
    assert_eq!(socket.frames(&mut sim).len(), 200);
}

/// A request that waits when the drain begins is still answered; a WebSocket is told at once.
#[test]
fn whoever_waits_for_an_answer_is_told_of_a_drain_behind_it() {
    let (mut sim, desk) = world(Pace::Whole);
    let socket = json(&mut sim, &desk);
    let line = sim.connect(0);
    sim.ask(line, "GET", "/own", b"");
    sim.settle();
    let ticket = desk.take("request /own");
    socket.text(&mut sim, r#"{"op":"publish","ref":1,"channel":"a","text":"x"}"#);
    sim.settle();
    let now = sim.now;
    sim.engine_mut().handle_drain(now);
    sim.settle();
    let frames = socket.frames(&mut sim);
    assert_eq!(frames[0].json()["op"], "bye");
    assert_eq!(frames[1].code(), Some(1012));
    desk.answer(&mut sim, "publish a", Verdict::Allow);
    assert_eq!(sim.history.head(), 0, "its question went with it");
    answer(&mut sim, ticket, Response::new(201, "", ""));
    let got = sim.answer(line).expect("an answer");
    assert_eq!((got.status, got.is_closing()), (201, true));
}

/// A drain that takes its time leaves a question open until the moment of who asked.
#[test]
fn an_answer_before_the_moment_of_a_farewell_is_served() {
    let (mut sim, desk) = world(Pace::Whole);
    let socket = json(&mut sim, &desk);
    let crowd: Vec<usize> = (0..200).map(|_| sim.connect(0)).collect();
    let now = sim.now;
    sim.engine_mut().handle_drain_over(Duration::from_secs(20), now);
    socket.text(&mut sim, r#"{"op":"publish","ref":1,"channel":"a","text":"x"}"#);
    sim.settle();
    assert!(socket.frames(&mut sim).is_empty(), "its moment is later, and it waits");
    desk.answer(&mut sim, "publish a", Verdict::Allow);
    sim.settle();
    let frames = socket.jsons(&mut sim);
    assert!(frames.iter().any(|one| one["op"] == "ok"), "{frames:?}");
    assert!(frames.iter().all(|one| one["op"] != "bye"), "{frames:?}");
    sim.pass(16_000);
    assert_eq!(socket.frames(&mut sim)[0].json()["op"], "bye");
    assert_eq!(crowd.len(), 200);
}
