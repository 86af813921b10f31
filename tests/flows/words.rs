//! What is said, to the word: to those who ask while there is no room or the server goes, and in
//! answer to commands.

use holdline::Config;

use crate::both_paces;
use crate::sim::clients::{Sse, Ws, request};
use crate::sim::{Pace, Sim, http};

both_paces!(
    one_too_many_is_told_when_it_has_said_what_it_wants,
    whoever_looks_after_a_full_server_is_answered,
    one_too_many_that_says_nothing_is_told_after_a_second,
    a_pong_has_the_ref_of_its_ping,
    who_publishes_and_unsubscribes_hears_it_first,
    a_websocket_that_comes_while_the_server_goes_is_only_told_so,
    a_stream_that_is_asked_for_with_connection_close_says_close,
    what_gap_may_be_in_a_command,
    nothing_follows_our_close_when_the_server_goes,
    replies_come_to_a_reader_that_trails,
    a_raw_poll_that_is_held_when_the_server_goes_is_told_when_to_come_back,
);

fn crowded(pace: Pace) -> Sim {
    let mut sim = Sim::with(Config { connections_max: 1, ..Config::default().open() }, pace);
    sim.connect(0);
    sim
}

fn one_too_many_is_told_when_it_has_said_what_it_wants(pace: Pace) {
    let mut sim = crowded(pace);
    // A native EventSource that gets a 503 never comes back.
    let mut stream = Sse::open(&mut sim, 0, "/events?channel=a");
    let blocks = stream.blocks(&mut sim);
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    assert!(blocks[0].retry.is_some() && blocks[0].id.is_none(), "{blocks:?}");
    assert!(stream.stream.is_over);
    const STREAM: &str = "Accept: text/event-stream\r\n";
    for (method, target, headers) in [
        ("GET", "/events?channel=a&v=1", STREAM),
        ("GET", "/poll?channel=a", ""),
        ("GET", "/poll?channel=a", STREAM),
        ("GET", "/", "Accept: text/html, text/event-stream\r\n"),
        ("GET", "/nowhere", STREAM),
        ("POST", "/channels/a", STREAM),
        ("DELETE", "/channels/a", STREAM),
    ] {
        let line = sim.connect(0);
        sim.send(line, &request(method, target, headers, b""));
        sim.settle();
        let answer = sim.answer(line).expect("an answer");
        assert_eq!((answer.status, answer.is_closing()), (503, true), "{target}");
        assert!(answer.header("retry-after").is_some(), "{target}");
        sim.close(line);
    }
}

fn whoever_looks_after_a_full_server_is_answered(pace: Pace) {
    let mut sim = crowded(pace);
    for target in ["/health", "/ready", "/stats"] {
        let line = sim.connect(0);
        let answer = sim.get(line, target);
        assert_eq!((answer.status, answer.is_closing()), (200, true), "{target}");
        sim.close(line);
    }
}

fn one_too_many_that_says_nothing_is_told_after_a_second(pace: Pace) {
    let mut sim = crowded(pace);
    let line = sim.connect(0);
    sim.settle();
    assert!(sim.answer(line).is_none());
    sim.pass(1_500);
    let answer = sim.answer(line).expect("an answer");
    assert_eq!((answer.status, answer.is_closing()), (503, true));
    sim.close(line);
}

fn a_pong_has_the_ref_of_its_ping(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws");
    ws.jsons(&mut sim);
    ws.text(&mut sim, r#"{"op":"ping","t":"x","ref":9}"#);
    sim.settle();
    assert_eq!(ws.json(&mut sim), serde_json::json!({"op": "pong", "ref": 9, "t": "x"}));
}

fn who_publishes_and_unsubscribes_hears_it_first(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws");
    ws.jsons(&mut sim);
    ws.texts(
        &mut sim,
        &[
            r#"{"op":"subscribe","ref":1,"channel":"a"}"#,
            r#"{"op":"publish","ref":2,"channel":"a","text":"x"}"#,
            r#"{"op":"unsubscribe","ref":3,"channel":"a"}"#,
            r#"{"op":"publish","ref":4,"channel":"a","text":"y"}"#,
        ],
    );
    sim.settle();
    let came = ws.jsons(&mut sim);
    let words: Vec<_> = came
        .iter()
        .map(|one| (one["op"].as_str().unwrap_or(""), one["ref"].as_u64().unwrap_or(0)))
        .collect();
    let wanted = [("ok", 1), ("live", 0), ("message", 0), ("ok", 2), ("ok", 3), ("ok", 4)];
    assert_eq!(words, wanted, "{came:?}");
}

fn a_websocket_that_comes_while_the_server_goes_is_only_told_so(pace: Pace) {
    let mut sim = Sim::open(pace);
    sim.publish("a", "kept");
    let now = sim.now;
    // Somebody is still there, or the server would have gone.
    let stays = sim.connect(0);
    sim.send(stays, b"GET ");
    sim.settle();
    sim.engine_mut().handle_drain(now);
    for since in ["", "&since=earliest"] {
        let target = format!("/ws?channel=a{since}");
        let ws = Ws::open_as(&mut sim, 0, &target, Some("holdline.v1.json"));
        let hello = ws.json(&mut sim);
        assert_eq!(hello["op"], "hello");
        // A position ahead of what is kept would lose it.
        assert_eq!(hello["cursor"].is_null(), !since.is_empty(), "{hello}");
        assert_eq!(ws.json(&mut sim)["op"], "bye");
        assert_eq!(ws.frame(&mut sim).code(), Some(1012));
        sim.close(ws.line);
    }
}

fn a_stream_that_is_asked_for_with_connection_close_says_close(pace: Pace) {
    let mut sim = Sim::open(pace);
    for (headers, says) in [("", false), ("Connection: close\r\n", true)] {
        let line = sim.connect(0);
        sim.send(line, &request("GET", "/events?channel=a", headers, b""));
        sim.settle();
        let head = http::take_head(&mut sim.lines[line].received).expect("an answer");
        assert_eq!(head.is_closing(), says, "{headers:?}");
    }
}

fn what_gap_may_be_in_a_command(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws");
    ws.jsons(&mut sim);
    for (gap, op) in [("live", "ok"), ("retained", "ok"), ("all", "error")] {
        ws.text(&mut sim, &format!(r#"{{"op":"subscribe","channel":"a","gap":"{gap}"}}"#));
        sim.settle();
        assert_eq!(ws.jsons(&mut sim)[0]["op"], op, "{gap}");
    }
}

fn a_raw_poll_that_is_held_when_the_server_goes_is_told_when_to_come_back(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = sim.connect(0);
    sim.ask(line, "GET", "/channels/a?since=latest&wait=20", b"");
    sim.settle();
    let now = sim.now;
    sim.engine_mut().handle_drain(now);
    sim.settle();
    let answer = sim.answer(line).expect("an answer");
    assert_eq!((answer.status, answer.is_closing()), (204, true));
    let seconds = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| (1..=5).contains(&seconds)), "{answer:?}");
}

fn nothing_follows_our_close_when_the_server_goes(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws");
    ws.jsons(&mut sim);
    ws.text(&mut sim, "{nope");
    sim.settle();
    let now = sim.now;
    sim.engine_mut().handle_drain(now);
    sim.settle();
    let frames = ws.frames(&mut sim);
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert_eq!(frames[1].code(), Some(4400));
}

/// A reader that never arrives, for the channel is as fast as it is.
fn replies_come_to_a_reader_that_trails(pace: Pace) {
    if pace == Pace::Bytes {
        return; // it is about how much there is
    }
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.jsons(&mut sim);
    let text = "x".repeat(1_000);
    sim.stall(ws.line, 3_000);
    for _ in 0..100 {
        sim.publish("a", &*text);
    }
    ws.texts(
        &mut sim,
        &[
            r#"{"op":"publish","ref":2,"channel":"a","text":"own"}"#,
            r#"{"op":"unsubscribe","ref":3,"channel":"a"}"#,
        ],
    );
    let mut refs = Vec::new();
    for _ in 0..1_000 {
        sim.publish("a", &*text);
        sim.take(ws.line, 1_150);
        sim.step();
        refs.extend(ws.jsons(&mut sim).iter().filter_map(|one| one["ref"].as_u64()));
        if refs.len() == 2 {
            break;
        }
    }
    assert_eq!(refs, [2, 3]);
}
