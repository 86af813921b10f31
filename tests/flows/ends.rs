//! How connections end: by a clock, by the peer, by the server; and that nothing is left of them.

use holdline::Config;

use crate::both_paces;
use crate::sim::clients::{Sse, Ws, request};
use crate::sim::{Pace, Sim, WINDOW, ws};

/// What rounding to the wheel and to stamps may add to a moment.
const LATE_MS: u64 = 64 + 250;

both_paces!(
    a_head_that_does_not_come_in_time_is_408,
    a_connection_that_never_says_anything_is_dropped_silently,
    a_body_that_is_too_slow_is_408,
    a_kept_connection_is_closed_after_its_idle_time,
    after_the_last_answer_what_still_comes_is_read_for_a_while,
    the_peers_end_ends_a_linger,
    a_websocket_that_we_close_has_five_seconds_to_answer,
    a_drain_tells_everyone_and_leaves_nobody,
);

/// Lets time pass until the client has received something; how long that took.
#[track_caller]
fn wait(sim: &mut Sim, line: usize) -> u64 {
    let start = sim.now.mono_ms;
    assert!(sim.pass_until(start + 100_000, |sim| !sim.lines[line].received.is_empty()));
    sim.now.mono_ms - start
}

#[track_caller]
fn wait_closed(sim: &mut Sim, line: usize) -> u64 {
    let start = sim.now.mono_ms;
    assert!(sim.pass_until(start + 100_000, |sim| sim.is_closed(line)));
    sim.now.mono_ms - start
}

#[track_caller]
fn assert_about(took: u64, wanted: u64) {
    assert!((wanted..=wanted + LATE_MS).contains(&took), "{took} ms, not {wanted}");
}

fn a_head_that_does_not_come_in_time_is_408(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = sim.connect(0);
    // Dripping does not prolong it.
    let start = sim.now.mono_ms;
    for byte in b"GET /health HT" {
        sim.send(line, &[*byte]);
        sim.pass(500);
    }
    wait(&mut sim, line);
    assert_about(sim.now.mono_ms - start, 10_000);
    let answer = sim.answer(line).expect("an answer");
    assert_eq!((answer.status, answer.is_closing()), (408, true));
    assert_eq!(answer.json()["error"], "timeout");
    assert!(sim.lines[line].is_finished);
    sim.close(line);
    // A further head has ten seconds from its first byte.
    let line = sim.connect(0);
    sim.get(line, "/health");
    sim.pass(60_000);
    sim.send(line, b"G");
    assert_about(wait(&mut sim, line), 10_000);
    assert_eq!(sim.answer(line).expect("an answer").status, 408);
    sim.close(line);
    sim.assert_deserted();
}

fn a_connection_that_never_says_anything_is_dropped_silently(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = sim.connect(0);
    assert_about(wait_closed(&mut sim, line), 10_000);
    assert!(sim.lines[line].received.is_empty());
    sim.assert_deserted();
}

fn a_body_that_is_too_slow_is_408(pace: Pace) {
    // Nothing for the five seconds of grace; less than 1 KiB a second; more than thirty seconds.
    for (rate, wanted) in [(0, 5_000..=5_500), (500, 5_000..=5_500), (1_200, 30_000..=31_000)] {
        let mut sim = Sim::open(pace);
        let line = sim.connect(0);
        sim.send(line, b"POST /channels/a HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n");
        sim.settle();
        let start = sim.now.mono_ms;
        while sim.lines[line].received.is_empty() && sim.now.mono_ms < start + 60_000 {
            sim.send(line, &vec![b'x'; rate / 4]);
            sim.pass(250);
        }
        let took = sim.now.mono_ms - start;
        assert!(wanted.contains(&took), "{rate} bytes a second: {took} ms");
        let answer = sim.answer(line).expect("an answer");
        assert_eq!((answer.status, answer.is_closing()), (408, true));
        assert_eq!(sim.history.head(), 0);
    }
}

fn a_kept_connection_is_closed_after_its_idle_time(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = sim.connect(0);
    for _ in 0..3 {
        sim.pass(70_000);
        let _ = sim.is_closed(line) || {
            sim.get(line, "/health");
            true
        };
    }
    // The first request did not come within ten seconds: that one is gone.
    assert!(sim.is_closed(line));
    let line = sim.connect(0);
    sim.get(line, "/health");
    for _ in 0..3 {
        sim.pass(74_000);
        assert_eq!(sim.get(line, "/health").status, 200);
    }
    assert_about(wait_closed(&mut sim, line), 75_000);
    assert!(sim.lines[line].received.is_empty(), "an idle end is silent");
    sim.assert_deserted();
}

fn after_the_last_answer_what_still_comes_is_read_for_a_while(pace: Pace) {
    let asked = |sim: &mut Sim| {
        let line = sim.connect(0);
        sim.send(line, b"POST /channels/a HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n");
        sim.settle();
        let answer = sim.answer(line).expect("an answer");
        assert_eq!((answer.status, answer.is_closing()), (413, true));
        assert!(sim.lines[line].is_finished && !sim.is_closed(line));
        line
    };
    let mut sim = Sim::open(pace);
    // Two seconds without a byte.
    let line = asked(&mut sim);
    assert_about(wait_closed(&mut sim, line), 2_000);
    // Five seconds in all.
    let line = asked(&mut sim);
    let start = sim.now.mono_ms;
    while !sim.is_closed(line) {
        sim.send(line, b"0123456789");
        sim.pass(500);
        assert_eq!(sim.lines[line].unread(), 0, "what comes is thrown away, not left");
    }
    assert!((5_000..6_000).contains(&(sim.now.mono_ms - start)));
    sim.assert_deserted();
}

#[test]
fn a_linger_that_is_flooded_is_ended() {
    let mut sim =
        Sim::with(Config { linger_bytes_max: 100_000, ..Config::default().open() }, Pace::Whole);
    let line = sim.connect(0);
    sim.send(line, b"POST /channels/a HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n");
    sim.settle();
    for _ in 0..20 {
        sim.send(line, &[0; 10_000]);
        sim.settle();
    }
    assert!(sim.is_closed(line));
    sim.assert_deserted();
}

fn the_peers_end_ends_a_linger(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = sim.connect(0);
    sim.send(line, &request("GET", "/health", "Connection: close\r\n", b""));
    sim.settle();
    assert!(sim.answer(line).expect("an answer").is_closing());
    assert!(!sim.is_closed(line));
    sim.finish(line);
    sim.settle();
    assert!(sim.is_closed(line));
    sim.assert_deserted();
}

fn a_websocket_that_we_close_has_five_seconds_to_answer(pace: Pace) {
    let mut sim = Sim::open(pace);
    for answers in [false, true] {
        let socket = Ws::open(&mut sim, 0, "/ws?channel=a");
        socket.frames(&mut sim);
        socket.text(&mut sim, "[");
        sim.settle();
        let frames = socket.frames(&mut sim);
        assert_eq!(frames[0].json()["code"], "bad_json");
        assert_eq!(frames[1].code(), Some(4400));
        assert!(!sim.lines[socket.line].is_finished, "it may answer");
        assert_eq!(sim.engine().subscriptions(), 0, "it hears nothing more");
        // What else it says means nothing any more.
        socket.text(&mut sim, r#"{"op":"publish","channel":"a","text":"x"}"#);
        sim.pass(1_000);
        assert_eq!(sim.history.head(), 0);
        let start = sim.now.mono_ms;
        if answers {
            socket.close(&mut sim, 4400);
            sim.settle();
        } else {
            sim.pass_until(start + 9_000, |sim| sim.lines[socket.line].is_finished);
            assert_about(sim.now.mono_ms - start + 1_000, 5_000);
        }
        assert!(sim.lines[socket.line].is_finished);
        sim.finish(socket.line);
        sim.settle();
        assert!(sim.is_closed(socket.line));
        assert!(socket.frames(&mut sim).is_empty());
    }
    sim.assert_deserted();
}

fn a_drain_tells_everyone_and_leaves_nobody(pace: Pace) {
    let mut sim = Sim::open(pace);
    let idle = sim.connect(0);
    sim.get(idle, "/health");
    let fresh = sim.connect(0);
    let half = sim.connect(0);
    sim.send(half, b"GET /health HTTP/1.1\r\nHo");
    let poll = sim.connect(0);
    sim.ask(poll, "GET", "/poll?channel=a&since=latest", b"");
    let json = Ws::open(&mut sim, 0, "/ws?channel=a");
    let raw = Ws::open(&mut sim, 0, "/channels/a");
    let mut events = Sse::open(&mut sim, 0, "/events?channel=a");
    let mut stream = Sse::open(&mut sim, 0, "/channels/a");
    let now = sim.now;
    json.frames(&mut sim);
    events.blocks(&mut sim);
    stream.blocks(&mut sim);
    let late = sim.connect(0);
    sim.ask(late, "GET", "/health", b"");
    sim.settle();
    sim.engine_mut().handle_drain(now);
    sim.settle();
    let body = sim.answer(poll).expect("an answer");
    assert!(body.is_closing() && body.json()["retry_ms"].as_u64().is_some_and(|ms| ms > 0));
    let frames = json.frames(&mut sim);
    assert_eq!((&frames[0].json()["op"], frames[1].code()), (&"bye".into(), Some(1012)));
    assert_eq!(raw.frame(&mut sim).code(), Some(1012));
    assert!(events.block(&mut sim).retry.is_some());
    let block = events.block(&mut sim);
    assert_eq!((block.name(), block.json()["retry_ms"].is_u64()), ("bye", true));
    assert!(events.stream.is_over && events.next(&mut sim).is_none());
    let block = stream.block(&mut sim);
    assert!(block.retry.is_some() && block.data.is_none());
    assert!(stream.next(&mut sim).is_none() && stream.stream.is_over);
    for line in [idle, late] {
        assert!(sim.lines[line].is_finished, "one that was idle");
    }
    assert!(!sim.is_closed(fresh), "it has a moment to ask for something");
    sim.send(half, b"st: h\r\n\r\n");
    sim.settle();
    assert!(sim.answer(half).expect("an answer").is_closing());
    [json.line, raw.line].iter().for_each(|line| Ws { line: *line }.close(&mut sim, 1012));
    sim.settle();
    sim.pass(2_000 + LATE_MS);
    assert_eq!(sim.engine().len(), 0);
    sim.assert_deserted();
}

/// A request that is answered in the turn in which the drain begins leaves no idle connection either.
#[test]
fn a_drain_does_not_wait_for_a_connection_whose_answer_is_on_its_way() {
    let mut sim = Sim::open(Pace::Whole);
    let line = sim.connect(0);
    let (id, now) = (sim.lines[line].id, sim.now);
    let mut bytes = request("GET", "/health", "", b"");
    sim.engine_mut().handle_bytes(id, &mut bytes, now);
    sim.engine_mut().handle_drain(now);
    sim.settle();
    assert_eq!(sim.answer(line).expect("an answer").status, 200);
    assert!(sim.lines[line].is_finished);
}

/// Only standing still ends an answer that is on its way, however long it takes.
#[test]
fn a_long_answer_to_a_slow_reader_is_cut_by_no_clock() {
    for close in [false, true] {
        let mut sim = Sim::open(Pace::Whole);
        for _ in 0..4 {
            sim.publish("a", "x".repeat(60_000));
        }
        let line = sim.connect(0);
        sim.stall(line, 4_000);
        let target = format!("/poll?channel=a&since={}", sim.id(0));
        let headers = if close { "Connection: close\r\n" } else { "" };
        sim.send(line, &request("GET", &target, headers, b""));
        sim.settle();
        // 1 000 bytes each two seconds: eight minutes.
        let mut taken = 0;
        while taken < 240_000 {
            sim.pass(2_000);
            taken += sim.take(line, 1_000);
            sim.settle();
            // Once all is in the kernel's hands the server need not wait for it to be read.
            let is_cut = sim.is_closed(line) && !(close && sim.lines[line].is_finished);
            assert!(!is_cut, "close {close}: cut after {taken} bytes");
        }
        sim.unstall(line);
        sim.settle();
        let answer = sim.answer(line).expect("the whole answer");
        assert_eq!(answer.json()["messages"].as_array().map(Vec::len), Some(4));
        if close {
            assert!(sim.lines[line].is_finished);
        } else {
            // It has its idle time from when it has got the answer.
            sim.pass(60_000);
            assert_eq!(sim.get(line, "/health").status, 200);
        }
        // And standing still does end it.
        if !close {
            sim.stall(line, 4_000);
            sim.publish("a", "x".repeat(60_000));
            sim.send(line, &request("GET", &target, "", b""));
            sim.settle();
            let start = sim.now.mono_ms;
            wait_closed(&mut sim, line);
            assert_about(sim.now.mono_ms - start, 30_000);
            sim.assert_deserted();
        }
    }
}

/// A full pipe, its reader back after a while: no clock that ran meanwhile bites at once.
#[test]
fn a_reader_that_comes_back_is_not_met_by_old_deadlines() {
    for behind in [&b""[..], b"GET /hea"] {
        let mut sim = Sim::open(Pace::Whole);
        for _ in 0..4 {
            sim.publish("a", "x".repeat(60_000));
        }
        let line = sim.connect(0);
        sim.stall(line, 4_000);
        let target = format!("/poll?channel=a&since={}", sim.id(0));
        sim.send(line, &[&request("GET", &target, "", b""), behind].concat());
        for _ in 0..5 {
            sim.pass(25_000);
            sim.take(line, 1_000);
            sim.settle();
        }
        sim.unstall(line);
        sim.settle();
        assert!(sim.answer(line).is_some());
        sim.pass(5_000);
        assert!(sim.lines[line].received.is_empty(), "{:?}", sim.answer(line));
        let rest = request("GET", "/health", "", b"");
        sim.send(line, &rest[behind.len()..]);
        sim.settle();
        assert_eq!(sim.answer(line).expect("an answer").status, 200);
    }
}

/// Brings a connection into a state, and leaves it there.
type Bring = fn(&mut Sim) -> usize;

const STATES: [(&str, Bring); 16] = [
    ("fresh", |sim| sim.connect(0)),
    ("half a head", |sim| {
        let line = sim.connect(0);
        sim.send(line, b"GET / HTTP/1.1\r\nHost");
        line
    }),
    ("idle", |sim| {
        let line = sim.connect(0);
        sim.get(line, "/health");
        line
    }),
    ("half a body", |sim| {
        let line = sim.connect(0);
        sim.send(line, b"POST /channels/a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf");
        line
    }),
    ("a held poll", |sim| {
        let line = sim.connect(0);
        sim.ask(line, "GET", "/poll?channel=a&channel=b&since=latest", b"");
        line
    }),
    ("a held raw poll with a request behind it", |sim| {
        let line = sim.connect(0);
        sim.ask(line, "GET", "/channels/a?wait=50", b"");
        sim.ask(line, "GET", "/health", b"");
        line
    }),
    ("a stream", |sim| Sse::open(sim, 0, "/events?channel=a&channel=b").line),
    ("a blocked stream", |sim| {
        let line = Sse::open(sim, 0, "/channels/a").line;
        sim.stall(line, 10);
        sim.publish("a", "does not fit");
        line
    }),
    ("a websocket", |sim| Ws::open(sim, 0, "/ws?channel=a&channel=b").line),
    ("a websocket with half a frame", |sim| {
        let line = Ws::open(sim, 0, "/ws?channel=a").line;
        let frame = ws::frame(ws::TEXT, &[b'x'; 5_000], [1, 2, 3, 4]);
        sim.send(line, &frame[..3_000]);
        line
    }),
    ("a raw websocket that is blocked in a message", |sim| {
        let line = Ws::open(sim, 0, "/channels/a").line;
        sim.stall(line, 10);
        sim.publish("a", "does not fit");
        sim.publish("a", "nor this");
        line
    }),
    ("a websocket that is blocked in its answers, with more commands behind", |sim| {
        let socket = Ws::open(sim, 0, "/ws?channel=a");
        sim.stall(socket.line, 10);
        (0..2_000).for_each(|_| socket.text(sim, r#"{"op":"?"}"#));
        socket.line
    }),
    ("a websocket whose answer waits for its position", |sim| {
        let socket = Ws::open(sim, 0, "/ws?channel=a");
        sim.stall(socket.line, 10);
        socket.text(sim, r#"{"op":"publish","channel":"a","text":"a long one"}"#);
        socket.text(sim, r#"{"op":"subscribe","channel":"b","since":"earliest"}"#);
        socket.line
    }),
    ("a websocket that we closed", |sim| {
        let socket = Ws::open(sim, 0, "/ws?channel=a");
        socket.text(sim, "[");
        socket.line
    }),
    ("lingering", |sim| {
        let line = sim.connect(0);
        sim.send(line, b"nonsense\r\n\r\n");
        line
    }),
    ("closing, and blocked", |sim| {
        let line = sim.connect(0);
        sim.stall(line, 10);
        sim.send(line, b"nonsense\r\n\r\n");
        line
    }),
];

#[test]
fn a_peer_that_goes_leaves_nothing_in_any_state() {
    type Way = (&'static str, fn(&mut Sim, usize));
    let ways: [Way; 4] = [
        ("reset", Sim::reset),
        ("close", Sim::close),
        ("half-close", |sim, line| {
            sim.finish(line);
            sim.settle();
            sim.unstall(line);
        }),
        ("silence", |sim, line| sim.stall(line, WINDOW)),
    ];
    for (state, bring) in STATES {
        for (way, go) in ways {
            for is_settled in [true, false] {
                let mut sim = Sim::open(Pace::Whole);
                let line = bring(&mut sim);
                if is_settled {
                    sim.settle();
                }
                go(&mut sim, line);
                sim.settle();
                if way == "silence" {
                    sim.pass(200_000);
                    if state.contains("stream") && !sim.is_closed(line) {
                        // It goes on for whoever holds its socket open while there is room in it.
                        sim.reset(line);
                        sim.settle();
                    }
                }
                assert_eq!(sim.engine().len(), 0, "{state}, {way}: a slot is left");
                sim.assert_deserted();
            }
        }
    }
}
