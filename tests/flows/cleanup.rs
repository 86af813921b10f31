//! Clients that vanish, from every state and in every way: no slot, no subscription, no timer and
//! no byte of a publication is left of them. Those who say so are gone at once, those who are owed
//! an answer with it, and those who say nothing when their time is over.

use holdline::Config;

use super::desk::{Desk, world_with};
use crate::both_paces;
use crate::sim::clients::{Ws, request};
use crate::sim::{Pace, Sim, ws};

both_paces!(whoever_vanishes_leaves_nothing);

const KEY: [u8; 4] = [1, 2, 3, 4];
/// How long an answer that is owed to someone who has finished may take: a ticket's deadline.
const OWED_MS: u64 = 10_000 + 314;
/// The same for an answer that has begun, of which nothing is taken.
const STALL_MS: u64 = 30_000 + 314;
/// The longest that a silent one is waited for: what a kept connection is, after a poll's answer.
const SILENT_MS: u64 = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Close,
    Half,
    Reset,
    /// It neither reads nor writes any more.
    Silent,
}

const LEAVES: [Leave; 4] = [Leave::Close, Leave::Half, Leave::Reset, Leave::Silent];

/// A state by name, and how a new connection gets there; the world has the line's number.
type Enter = fn(&mut Sim, &Desk, usize);

const STATES: &[(&str, Enter)] = &[
    ("silence", |_, _, _| {}),
    ("head", |sim, _, line| sim.send(line, b"GET /health HTTP/1.1\r\nHo")),
    ("body", |sim, desk, line| {
        sim.send(
            line,
            b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nxy",
        );
        allow(sim, desk);
    }),
    ("chunked body", |sim, desk, line| {
        let head = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked";
        sim.send(line, format!("{head}\r\n\r\n5\r\nxy").as_bytes());
        allow(sim, desk);
    }),
    ("batch", |sim, desk, line| {
        let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99";
        sim.send(line, format!("{head}\r\n\r\n{{\"channel\":\"a\"").as_bytes());
        allow(sim, desk);
    }),
    ("kept alive", |sim, _, line| sim.ask(line, "GET", "/health", b"")),
    ("lingering", |sim, _, line| {
        sim.send(line, &request("GET", "/health", "Connection: close\r\n", b""));
    }),
    ("a request waits", |sim, _, line| sim.ask(line, "GET", "/own/page", b"")),
    ("a stream waits", |sim, _, line| sim.ask(line, "GET", "/events?channel=a", b"")),
    ("a poll waits", |sim, _, line| sim.ask(line, "GET", "/poll?channel=a&since=latest", b"")),
    ("a publisher waits", |sim, _, line| sim.ask(line, "POST", "/channels/a", b"x")),
    ("a handshake waits", |sim, _, line| sim.send(line, &ws::upgrade("/ws", None))),
    ("a command waits", |sim, desk, line| {
        socket(sim, desk, line, "/ws");
        sim.send(line, &frame(r#"{"op":"subscribe","channel":"b"}"#));
    }),
    ("held poll", |sim, desk, line| ask(sim, desk, line, "/poll?channel=a&since=latest")),
    ("raw held poll", |sim, desk, line| ask(sim, desk, line, "/channels/a?wait=20")),
    ("event stream", |sim, desk, line| ask(sim, desk, line, "/events?channel=a&channel=b")),
    ("raw event stream", |sim, desk, line| stream(sim, desk, line)),
    ("blocked event stream", |sim, desk, line| {
        stream(sim, desk, line);
        fill(sim, line);
    }),
    ("blocked poll", |sim, desk, line| {
        sim.stall(line, 100);
        ask(sim, desk, line, "/poll?channel=full&since=earliest");
    }),
    ("handshake", |sim, _, line| {
        let half = ws::upgrade("/ws", None);
        sim.send(line, &half[..half.len() - 2]);
    }),
    ("WebSocket", |sim, desk, line| socket(sim, desk, line, "/ws?channel=a&channel=b")),
    ("raw WebSocket", |sim, desk, line| socket(sim, desk, line, "/channels/a")),
    ("blocked WebSocket", |sim, desk, line| {
        socket(sim, desk, line, "/channels/a");
        fill(sim, line);
    }),
    ("frame", |sim, desk, line| {
        socket(sim, desk, line, "/ws?channel=a");
        sim.send(line, &frame("something longer than what comes of it")[..20]);
    }),
    ("fragments", |sim, desk, line| {
        socket(sim, desk, line, "/channels/a");
        let mut first = frame("the first of two");
        first[0] &= 0x7f;
        sim.send(line, &first);
    }),
    ("our close", |sim, desk, line| {
        socket(sim, desk, line, "/ws?channel=a");
        sim.send(line, &frame("["));
    }),
    ("their close", |sim, desk, line| {
        socket(sim, desk, line, "/ws?channel=a");
        sim.send(line, &ws::close(1000, KEY));
    }),
];

fn frame(text: &str) -> Vec<u8> {
    ws::frame(ws::TEXT, text.as_bytes(), KEY)
}

/// Says yes to all that is asked, and to what is asked then.
fn allow(sim: &mut Sim, desk: &Desk) {
    sim.settle();
    loop {
        let Some((ticket, _)) = desk.asked.lock().expect("no panic").pop() else { return };
        super::desk::answer(sim, ticket, holdline::engine::Verdict::Allow);
    }
}

fn ask(sim: &mut Sim, desk: &Desk, line: usize, target: &str) {
    sim.ask(line, "GET", target, b"");
    allow(sim, desk);
}

fn stream(sim: &mut Sim, desk: &Desk, line: usize) {
    let accept = "Accept: text/event-stream\r\n";
    sim.send(line, &request("GET", "/channels/a", accept, b""));
    allow(sim, desk);
}

fn socket(sim: &mut Sim, desk: &Desk, line: usize, target: &str) {
    sim.send(line, &ws::upgrade(target, None));
    allow(sim, desk);
    Ws { line }.accepted(sim, None);
}

/// More than the pipe takes.
fn fill(sim: &mut Sim, line: usize) {
    sim.stall(line, 100);
    for _ in 0..3 {
        sim.publish("a", "x".repeat(5_000));
    }
    sim.settle();
    assert!(sim.is_blocked(line));
}

fn whoever_vanishes_leaves_nothing(pace: Pace) {
    for (name, enter) in STATES {
        for leave in LEAVES {
            let (mut sim, desk) = world_with(Config::default(), pace);
            sim.publish("full", "x".repeat(5_000));
            let line = sim.connect(0);
            enter(&mut sim, &desk, line);
            sim.settle();
            if name.starts_with("a ") {
                assert!(!desk.asked.lock().expect("no panic").is_empty(), "{name}: a question");
            }
            assert!(!sim.is_closed(line) || *name == "their close", "{name}");
            vanish(&mut sim, line, leave);
            let what = format!("{name}, {leave:?}");
            let most = patience(name, leave);
            let end = sim.now.mono_ms + most;
            assert!(
                sim.pass_until(end, |sim| sim.engine().is_empty()),
                "{what}: it is still there"
            );
            sim.assert_deserted();
        }
    }
}

/// How long what is left of a client may stay.
fn patience(name: &str, leave: Leave) -> u64 {
    match leave {
        // Whoever only closes cannot be told from whoever has finished and reads on.
        Leave::Close | Leave::Half if name.ends_with(" waits") => OWED_MS,
        // What stands before the end is not read as long as nothing is taken.
        Leave::Half if matches!(name, "blocked poll" | "blocked WebSocket") => STALL_MS,
        Leave::Close | Leave::Half | Leave::Reset => 0,
        Leave::Silent => SILENT_MS,
    }
}

fn vanish(sim: &mut Sim, line: usize, leave: Leave) {
    match leave {
        Leave::Close => sim.close(line),
        Leave::Half => sim.finish(line),
        Leave::Reset => sim.reset(line),
        Leave::Silent => {
            // What its kernel holds is full soon.
            sim.stall(line, 100);
            sim.settle();
            sim.publish("a", "x".repeat(5_000));
        }
    }
    sim.settle();
}
