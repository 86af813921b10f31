//! The traps that prototypes of this design fell into, each a test.
//!
//! Those of the floor above are tested over real sockets: 7, `accept` that fails for want of
//! descriptors or because the peer has gone; 8, a full table of events and a partly read socket
//! inside an outer edge-triggered epoll; 9, SIGPIPE (the tests of `server` and of the binary).
//! What of 8 is the engine's, that it says when the driver must not sleep, is here.

use std::sync::{Arc, Mutex};

use holdline::engine::{Answer, ConnId, Ctx, Kind, Peer, Request, Route};
use holdline::{App, Config};

use crate::sim::clients::{Sse, Ws, request};
use crate::sim::{Pace, Sim, ws};
use crate::{both_paces, clock};

both_paces!(
    trap_1_frames_in_the_segment_of_their_head_are_not_lost,
    trap_1_requests_in_the_segment_of_a_body_are_not_lost,
    trap_2_subscribing_twice_keeps_everyones_place,
    trap_4_a_heartbeat_names_no_position_that_is_not_taken_in,
    trap_4_nothing_from_before_a_subscription_is_delivered,
);

fn trap_1_frames_in_the_segment_of_their_head_are_not_lost(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = sim.connect(0);
    let key = [1, 2, 3, 4];
    let command = br#"{"op":"ping","t":1}"#;
    let frames = [ws::frame(ws::TEXT, command, key), ws::frame(ws::PING, b"?", key)].concat();
    sim.send(line, &[ws::upgrade("/ws", None), frames].concat());
    sim.settle();
    let client = Ws { line };
    client.accepted(&mut sim, None);
    assert_eq!(client.json(&mut sim)["op"], "hello");
    assert_eq!(client.json(&mut sim), serde_json::json!({"op": "pong", "t": 1}));
    assert_eq!(client.frame(&mut sim), ws::Frame { opcode: ws::PONG, payload: b"?".to_vec() });
}

fn trap_1_requests_in_the_segment_of_a_body_are_not_lost(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = sim.connect(0);
    let chunked = b"POST /channels/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\none\r\n0\r\n\r\n";
    let sized = request("POST", "/channels/a", "", b"two");
    let last = request("GET", "/health", "", b"");
    sim.send(line, &[&chunked[..], &sized, &last].concat());
    sim.settle();
    let answers: Vec<_> = std::iter::from_fn(|| sim.answer(line)).collect();
    assert_eq!(answers.iter().map(|one| one.status).collect::<Vec<_>>(), [202, 202, 200]);
    assert_eq!(answers[1].json()["id"], *sim.id(2));
}

fn trap_2_subscribing_twice_keeps_everyones_place(pace: Pace) {
    let mut sim = Sim::open(pace);
    let sockets: Vec<_> = (0..8).map(|_| Ws::open(&mut sim, 0, "/ws?channel=a")).collect();
    let again = r#"{"op":"subscribe","channels":["a","b","a"]}"#;
    for one in [2, 5, 2] {
        sockets[one].text(&mut sim, again);
        sim.settle();
    }
    assert_eq!(sim.engine().subscriptions(), 10);
    // Whoever was last takes the place of who leaves; `Engine::check` compares all places.
    for leaver in [0, 5, 7] {
        sim.close(sockets[leaver].line);
        sim.settle();
    }
    sockets[2].text(&mut sim, r#"{"op":"unsubscribe","channel":"a"}"#);
    sim.settle();
    assert_eq!(sim.engine().subscriptions(), 5);
    sim.publish("a", "x");
    sim.settle();
    for (n, socket) in sockets.iter().enumerate() {
        let got = socket.jsons(&mut sim).iter().filter(|value| value["op"] == "message").count();
        assert_eq!(got, usize::from([1, 3, 4, 6].contains(&n)), "socket {n}");
    }
}

/// A walk over the listeners that is suspended and goes on after a removal would skip some.
#[test]
fn trap_3_a_delivery_cut_by_the_budget_and_a_leaver_skips_nobody() {
    for seed in 0..30 {
        let config = Config { writes_per_turn: 3, ..Config::default().open() };
        let mut sim = Sim::new(config, 1, seed);
        let mut sockets: Vec<_> = (0..40).map(|_| Ws::open(&mut sim, 0, "/channels/a")).collect();
        for text in ["one", "two", "three"] {
            sim.publish("a", text);
            for _ in 0..4 {
                sim.step();
                let leaver = sim.rng.usize(..sockets.len());
                sim.reset(sockets.swap_remove(leaver).line);
            }
        }
        sim.settle();
        for socket in &sockets {
            let texts: Vec<_> = socket.frames(&mut sim).iter().map(ws::Frame::text).collect();
            assert_eq!(texts, ["one", "two", "three"], "seed {seed}");
        }
    }
}

/// What is published between the last look at the order and a heartbeat is not behind it.
fn trap_4_a_heartbeat_names_no_position_that_is_not_taken_in(pace: Pace) {
    let mut heartbeats = [0; 3];
    for seed in 0..30 {
        let mut sim = Sim::new(Config::default().open(), 1, seed);
        sim.pace = pace;
        let json = Ws::open(&mut sim, 0, "/ws?channel=a");
        let meta = Ws::meta(&mut sim, 0, "/channels/a");
        let mut sse = Sse::open(&mut sim, 0, "/events?channel=a");
        // Another thread publishes just before a wake-up, which the turn before had not seen.
        while let Some(due) = sim.next_deadline().filter(|due| *due < 31_000) {
            sim.jump(due);
            if sim.rng.bool() {
                sim.publish("a", "x");
            }
            sim.settle();
            sim.turn(0);
        }
        let head = sim.history.head();
        let frames = json.frames(&mut sim).into_iter().filter(|frame| frame.opcode == ws::TEXT);
        let told = frames.map(|frame| frame.json()).filter(|value| value["op"] != "ok");
        heartbeats[0] += in_step(
            head,
            told.map(|value| match value["op"].as_str() {
                Some("message") => (true, value["id"].to_string()),
                _ => (false, value["cursor"].to_string()),
            }),
        ) - 2; // `hello`, `live`
        let frames = meta.frames(&mut sim).into_iter().filter(|frame| frame.opcode == ws::TEXT);
        heartbeats[1] += in_step(
            head,
            frames.map(|frame| {
                let text = frame.text();
                let (name, rest) = text.split_once(": ").expect("a line");
                (name == "id", rest.lines().next().unwrap_or("").to_owned())
            }),
        ) - 1;
        let blocks = sse.blocks(&mut sim).into_iter();
        heartbeats[2] +=
            in_step(head, blocks.map(|b| (b.data.is_some(), b.id.expect("an id")))) - 1;
    }
    assert!(heartbeats.iter().all(|count| *count >= 10), "{heartbeats:?}");
}

/// Each position repeats the last message's, and no message is passed over; how many were told.
#[track_caller]
fn in_step(head: u64, told: impl Iterator<Item = (bool, String)>) -> usize {
    let (mut last, mut positions) = (0, 0);
    for (is_message, id) in told {
        let seq: u64 =
            id.trim_matches('"').rsplit('-').next().unwrap_or("").parse().expect("a seq");
        assert_eq!(seq, last + u64::from(is_message));
        last = seq;
        positions += usize::from(!is_message);
    }
    assert_eq!(last, head);
    positions
}

fn trap_4_nothing_from_before_a_subscription_is_delivered(pace: Pace) {
    let mut sim = Sim::open(pace);
    for _ in 0..5 {
        sim.publish("a", "before");
    }
    let late = Ws::open(&mut sim, 0, "/ws?channel=b");
    late.jsons(&mut sim);
    for _ in 0..5 {
        sim.publish("a", "before");
    }
    late.text(&mut sim, r#"{"op":"subscribe","channel":"a"}"#);
    let mut sse = Sse::open(&mut sim, 0, "/events?channel=a");
    let raw = Ws::open(&mut sim, 0, "/channels/a");
    sim.settle();
    sim.publish("a", "after");
    sim.settle();
    let texts: Vec<_> = late.jsons(&mut sim).iter().map(|v| v["text"].to_string()).collect();
    assert_eq!(texts.iter().filter(|text| *text != "null").collect::<Vec<_>>(), ["\"after\""]);
    let data: Vec<_> = sse.blocks(&mut sim).into_iter().filter_map(|block| block.data).collect();
    assert!(data.len() == 1 && data[0].contains("after"), "{data:?}");
    assert_eq!(raw.frames(&mut sim).len(), 1);
}

/// A replay ends at the horizon: what another thread published since is taken in first.
#[test]
fn trap_4_a_replay_does_not_run_past_what_was_taken_in() {
    let mut sim = Sim::open(Pace::Whole);
    for _ in 0..5 {
        sim.publish("a", "x");
    }
    let line = sim.connect(0);
    let target = format!("/events?channel=a&channel=b&since={}", sim.id(2));
    sim.send(line, &request("GET", &target, "Accept: text/event-stream\r\n", b""));
    let (id, now) = (sim.lines[line].id, sim.now);
    let mut bytes = sim.lines[line].steal();
    let engine = sim.engine_mut();
    engine.handle_bytes(id, &mut bytes, now);
    engine.take_in(now);
    assert_eq!(engine.horizon(), 5);
    // Now other threads publish; this turn's output must not know of it.
    for channel in ["b", "a"] {
        sim.publish(channel, "y");
    }
    let mut out = Vec::new();
    let engine = sim.engine_mut();
    while let Some(transmit) = engine.poll_transmit() {
        let holdline::engine::What::Bytes(bytes) = transmit.what else { panic!("{transmit:?}") };
        out.extend_from_slice(bytes);
        let n = bytes.len();
        engine.handle_sent(n);
    }
    let text = String::from_utf8(out).expect("text");
    assert_eq!(text.matches("event: message").count(), 3, "{text}");
    assert!(!text.contains(&sim.id(6)) && !text.contains(&sim.id(7)), "{text}");
    assert!(sim.engine().has_work());
}

/// Nothing that happens in the first phase of a turn frees a slot for somebody else's events.
#[test]
fn trap_5_no_event_of_a_turn_meets_the_next_tenant_of_a_slot() {
    let mut sim = Sim::open(Pace::Whole);
    let old = Ws::open(&mut sim, 0, "/channels/a");
    let (old_id, now) = (sim.lines[old.line].id, sim.now);
    sim.engine_mut().handle_lost(old_id, now);
    let new = Ws { line: sim.connect(0) };
    assert_ne!(sim.lines[new.line].id.index(), old_id.index());
    // Later events of the same batch for the one that is gone do nothing.
    let mut frame = ws::frame(ws::TEXT, b"nobody's", [1, 2, 3, 4]);
    let engine = sim.engine_mut();
    engine.handle_bytes(old_id, &mut frame, now);
    engine.handle_writable(old_id, now);
    engine.handle_eof(old_id, now);
    sim.settle();
    assert!(sim.is_closed(old.line));
    assert_eq!(sim.history.head(), 0);
    // The slot is free now; its old id finds nothing.
    let next = Ws::open(&mut sim, 0, "/channels/a");
    let next_id = sim.lines[next.line].id;
    assert_eq!(next_id.index(), old_id.index());
    assert_ne!(next_id, old_id);
    sim.engine_mut().handle_lost(old_id, now);
    let mut frame = ws::frame(ws::TEXT, b"nobody's", [1, 2, 3, 4]);
    sim.engine_mut().handle_bytes(old_id, &mut frame, now);
    sim.settle();
    assert!(!sim.is_closed(next.line));
    assert_eq!((sim.history.head(), sim.engine().read_size(old_id)), (0, 0));
}

/// Rescanning from the start would make a long head cost many times what as many bytes in short
/// ones do.
#[test]
fn trap_6_a_head_that_drips_is_scanned_once() {
    let config =
        Config { head_bytes_max: 65_000, line_bytes_max: 65_000, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let mut drip = |count: usize, bytes: usize| {
        let header = format!("X: {}\r\n", "x".repeat(bytes));
        let bytes = request("GET", "/health", &header, b"");
        let line = sim.connect(0);
        let (id, now) = (sim.lines[line].id, sim.now);
        let ((), took) = clock::worked(|| {
            for byte in bytes.iter().cycle().take(count * bytes.len()) {
                sim.engine_mut().handle_bytes(id, &mut [*byte], now);
            }
        });
        sim.settle();
        let answers: Vec<_> = std::iter::from_fn(|| sim.answer(line)).collect();
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), count);
        took
    };
    let mut best = |count, bytes| (0..5).map(|_| drip(count, bytes)).min().expect("five");
    let (short, long) = (best(20, 2_950), best(1, 60_000));
    assert!(long < short * 4, "{long:?} for one head, {short:?} for twenty of the same length");
}

/// Takes WebSockets of its own, and notes what came on them.
struct Notes(Arc<Mutex<Vec<(Kind, usize)>>>);

impl App for Notes {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, _: &Request<'_>) -> Answer<Route> {
        Answer::Done(Route::WebSocket { protocol: None })
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: ConnId, kind: Kind, bytes: &[u8]) {
        self.0.lock().expect("no panic").push((kind, bytes.len()));
    }
}

/// Copying what has come of a frame with each of its bytes would take hours as well.
#[test]
fn trap_6_a_large_frame_that_drips_is_gathered_once() {
    const BYTES: usize = 1_000_000;
    let config = Config {
        ws_message_bytes_max: BYTES,
        ws_frame_bytes_max: BYTES,
        ..Config::default().open()
    };
    let mut sim = Sim::with(config, Pace::Whole);
    let notes = Arc::default();
    sim.engine_mut().set_app(Box::new(Notes(Arc::clone(&notes))));
    let socket = Ws::open(&mut sim, 0, "/anything");
    let frame = ws::frame(ws::BINARY, &vec![7; BYTES], [9, 8, 7, 6]);
    let (id, now) = (sim.lines[socket.line].id, sim.now);
    for byte in &frame {
        sim.engine_mut().handle_bytes(id, &mut [*byte], now);
    }
    assert_eq!(*notes.lock().expect("no panic"), [(Kind::Binary, BYTES)]);
}

/// Whatever a budget cuts short makes the driver come back without sleeping.
#[test]
fn trap_8_an_engine_with_something_unfinished_says_so() {
    let config = Config {
        writes_per_turn: 1,
        reply_bytes_per_turn: 100,
        timers_per_turn: 1,
        ..Config::default().open()
    };
    let mut sim = Sim::with(config, Pace::Whole);
    let listeners: Vec<_> = (0..5).map(|_| Ws::open(&mut sim, 0, "/channels/a")).collect();
    assert!(!sim.engine().has_work());
    sim.publish("a", "x");
    assert!(sim.engine().has_work(), "something is not taken in");
    for left in (0..listeners.len()).rev() {
        sim.turn(0);
        assert_eq!(sim.engine().has_work(), left > 0, "{left} of the dirty list");
    }
    let commands = r#"{"op":"ping","t":"........................................"}"#;
    let json = Ws::open(&mut sim, 0, "/ws");
    json.texts(&mut sim, &[commands; 9]);
    sim.turn(0);
    assert!(sim.engine().has_work(), "input is kept");
    sim.settle();
    assert_eq!(json.jsons(&mut sim).len(), 10);
    // Of five deadlines at one moment one is done in a turn; the others are due at once.
    let polls: Vec<_> = (0..5).map(|_| sim.connect_from(0, Peer::Unix)).collect();
    sim.pass(11_000);
    assert!(polls.iter().all(|line| sim.is_closed(*line)), "idle from the start");
}
