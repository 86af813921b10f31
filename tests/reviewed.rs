//! Defects that a review found, each as the test that failed.

#[path = "support/clock.rs"]
mod clock;

use std::sync::Arc;
use std::time::Duration;

use holdline::engine::{
    Action, Answer, Engine, Kind, Peer, Request, Response, Route, Verdict, What,
};
use holdline::hub::History;
use holdline::{App, Config, ConnId, Ctx, Epoch, Now};

const START: Now = Now { mono_ms: 0, unix_ms: 1_764_000_000_000 };

fn engine(config: Config, app: Option<Box<dyn App>>) -> Engine {
    let config = Arc::new(Config { connections_max: 4_096, ..config }.open());
    let history = Arc::new(History::new(&config, Epoch::from_random(7), START));
    let mut engine = Engine::new(config, history, 7, START);
    if let Some(app) = app {
        engine.set_app(app);
    }
    engine
}

/// Phase two; what each connection was given, by index.
fn written(engine: &mut Engine, now: Now, out: &mut Vec<Vec<u8>>) {
    engine.take_in(now);
    while let Some(transmit) = engine.poll_transmit() {
        let What::Bytes(bytes) = transmit.what else { continue };
        let (index, len) = (transmit.id.index(), bytes.len());
        if out.len() <= index {
            out.resize(index + 1, Vec::new());
        }
        out[index].extend_from_slice(bytes);
        engine.handle_sent(len);
    }
    while engine.poll_resumed().is_some() {}
}

fn settle(engine: &mut Engine, now: Now) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    written(engine, now, &mut out);
    while engine.has_work() {
        engine.handle_kept(now);
        written(engine, now, &mut out);
    }
    out
}

fn send(engine: &mut Engine, id: ConnId, bytes: &[u8], now: Now) {
    engine.handle_bytes(id, &mut bytes.to_vec(), now);
}

fn upgrade(engine: &mut Engine, path: &str) -> ConnId {
    let id = engine.handle_accept(Peer::Unix, START);
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    send(engine, id, head.as_bytes(), START);
    id
}

/// A masked text frame; the mask is zero.
fn text(payload: &str) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut frame = vec![0x81, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload.as_bytes());
    frame
}

fn says(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

/// Tells everyone what anyone says.
struct Party {
    guests: Vec<ConnId>,
}

impl App for Party {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, _: &Request<'_>) -> Answer<Route> {
        Answer::Done(Route::WebSocket { protocol: None })
    }

    fn open(&mut self, _: &mut Ctx<'_>, id: ConnId) {
        self.guests.push(id);
    }

    fn message(&mut self, cx: &mut Ctx<'_>, _: ConnId, kind: Kind, bytes: &[u8]) {
        for guest in &self.guests {
            cx.send(*guest, kind, bytes);
        }
    }
}

#[test]
fn telling_many_in_turns_costs_what_is_told_and_mixes_nothing_up() {
    let mut engine = engine(Config::default(), Some(Box::new(Party { guests: Vec::new() })));
    let ids: Vec<_> = (0..200).map(|_| upgrade(&mut engine, "/")).collect();
    settle(&mut engine, START);
    let burst: Vec<u8> = (0..1000).flat_map(|n| text(&format!("{n:05}"))).collect();
    send(&mut engine, ids[0], &burst, START);
    let out = settle(&mut engine, START);
    let expected: Vec<u8> =
        (0..1000).flat_map(|n| [vec![0x81, 5], format!("{n:05}").into_bytes()].concat()).collect();
    for id in ids {
        assert!(out[id.index()] == expected, "{id:?} was told something else");
    }
}

/// Sets its timer again whenever it rings.
struct Ticks;

impl App for Ticks {
    fn signal(&mut self, cx: &mut Ctx<'_>, _: u64) {
        cx.timer(Duration::ZERO, 1);
    }

    fn timer(&mut self, cx: &mut Ctx<'_>, key: u64) {
        cx.timer(Duration::from_micros(10), key);
    }
}

#[test]
fn a_timer_that_sets_itself_again_leaves_the_turn() {
    let mut engine = engine(Config::default(), Some(Box::new(Ticks)));
    engine.handle_signal(0, START);
    for ms in 1..100 {
        engine.handle_timeout(START.after(ms));
        assert_eq!(engine.next_deadline(), Some(ms + 1));
    }
}

/// Never answers who may publish.
struct Silent;

impl App for Silent {
    fn authorize(&mut self, cx: &mut Ctx<'_>, id: ConnId, action: Action<'_>) -> Answer<Verdict> {
        match action {
            Action::Publish { channel: "asked", .. } => Answer::Later(cx.ticket(id)),
            _ => Answer::Done(Verdict::Allow),
        }
    }
}

fn post(channel: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /channels/{channel} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn a_raw_websocket_that_waits_for_an_answer_is_told_of_its_loss() {
    let config = Config { history_messages: 2, recent_bytes: 600, ..Config::default() };
    let mut engine = engine(config, Some(Box::new(Silent)));
    let id = upgrade(&mut engine, "/channels/asked");
    settle(&mut engine, START);
    send(&mut engine, id, &text("may I"), START);
    settle(&mut engine, START);
    for n in 0..20 {
        let message = format!("from another thread {n}");
        engine.history().publish("asked", message.as_str().into(), START).expect("room");
    }
    let out = settle(&mut engine, START);
    assert!(says(&out[id.index()], "gap"));
    assert!(!says(&out[id.index()], "thread"), "what is left of the middle is no substitute");
}

#[test]
fn a_websocket_that_waits_is_told_that_the_server_goes() {
    let mut engine = engine(Config::default(), Some(Box::new(Silent)));
    let id = upgrade(&mut engine, "/ws");
    settle(&mut engine, START);
    send(&mut engine, id, &text(r#"{"op":"publish","channel":"asked","text":"x"}"#), START);
    settle(&mut engine, START);
    engine.handle_drain(START);
    let out = settle(&mut engine, START);
    assert!(says(&out[id.index()], r#""op":"bye""#) && says(&out[id.index()], "restart"));
}

#[test]
fn what_is_published_comes_before_the_farewell() {
    let mut engine = engine(Config::default(), None);
    let raw = upgrade(&mut engine, "/channels/a");
    let stream = engine.handle_accept(Peer::Unix, START);
    let get = b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    send(&mut engine, stream, get, START);
    settle(&mut engine, START);
    engine.history().publish("a", "last words".into(), START).expect("room");
    engine.handle_drain(START);
    let out = settle(&mut engine, START);
    assert!(says(&out[raw.index()], "last words") && says(&out[raw.index()], "restart"));
    assert!(says(&out[stream.index()], "data: last words"));
}

#[test]
fn a_refused_batch_answers_once() {
    let mut engine = engine(Config::default(), None);
    let id = engine.handle_accept(Peer::Unix, START);
    let names = vec!["\"_\""; 128].join(",");
    let line = format!("{{\"channels\":[{names}],\"text\":\"\"}}\n");
    let body = line.repeat(1000);
    let head = format!(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    send(&mut engine, id, head.as_bytes(), START);
    for piece in body.as_bytes().chunks(16_384) {
        send(&mut engine, id, piece, START);
    }
    let out = settle(&mut engine, START);
    assert!(says(&out[id.index()], " 413 ") && out[id.index()].len() < 1024);
}

#[test]
fn a_flood_of_publications_is_taken_in_before_it_is_forgotten() {
    let mut engine = engine(Config::default(), None);
    let raw = upgrade(&mut engine, "/channels/a");
    settle(&mut engine, START);
    let publisher = engine.handle_accept(Peer::Unix, START);
    let body = "x".repeat(60_000);
    let mut requests: Vec<u8> = Vec::new();
    for _ in 0..64 {
        let post = post("a", &body);
        let head = format!("TTL: 0\r\nContent-Length: {}", body.len());
        let text = String::from_utf8(post).expect("ASCII");
        requests.extend(text.replacen("Content-Length: 60000", &head, 1).into_bytes());
    }
    send(&mut engine, publisher, &requests, START);
    let out = settle(&mut engine, START);
    assert_eq!(out[raw.index()].len(), 64 * (60_000 + 4), "all of them, and no close");
}

#[test]
fn a_full_table_is_looked_through_once() {
    let config = Config { channels_max: 20_000, ..Config::default() };
    let engine = engine(config, None);
    let publish = |name: &str| engine.history().publish(name, "x".into(), START);
    for n in 0..20_000 {
        // With a listener each: none of them can give way.
        engine.history().join(&format!("c{n}"), None, 0, START).expect("room");
    }
    let ((), took) = clock::worked(|| {
        for _ in 0..20_000 {
            publish("one-more").expect_err("it is full");
        }
    });
    // Each look would take a millisecond or so: this is about seconds, not about speed.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Answers everything with a status of its own.
struct NotModified;

impl App for NotModified {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, _: &Request<'_>) -> Answer<Route> {
        Answer::Done(Route::Respond(Response::empty(304)))
    }
}

#[test]
fn a_304_has_no_body() {
    let mut engine = engine(Config::default(), Some(Box::new(NotModified)));
    let id = engine.handle_accept(Peer::Unix, START);
    send(&mut engine, id, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", START);
    let out = settle(&mut engine, START);
    assert!(out[id.index()].ends_with(b"\r\n\r\n") && !says(&out[id.index()], "Content-Length"));
}

#[test]
fn budgets_of_nothing_still_make_progress() {
    let config = Config {
        writes_per_turn: 0,
        write_bytes_per_turn: 0,
        timers_per_turn: 0,
        reply_bytes_per_turn: 0,
        arena_bytes: 0,
        ..Config::default()
    };
    let mut engine = engine(config, None);
    let raw = upgrade(&mut engine, "/channels/a");
    settle(&mut engine, START);
    engine.history().publish("a", "x".into(), START).expect("room");
    let out = settle(&mut engine, START);
    assert!(says(&out[raw.index()], "x"));
    engine.handle_timeout(START.after(25_000));
    let out = settle(&mut engine, START.after(25_000));
    assert_eq!(out[raw.index()][0], 0x89, "a ping");
}

#[test]
fn what_a_poll_asked_for_does_not_bind_the_stream_behind_it() {
    let config = Config { history_messages: 2, recent_bytes: 600, ..Config::default() };
    let mut engine = engine(config, None);
    let line = engine.handle_accept(Peer::Unix, START);
    let poll =
        b"GET /poll?channel=a&since=earliest&gap=live&wait=0 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    send(&mut engine, line, poll, START);
    settle(&mut engine, START);
    send(&mut engine, line, b"GET /events?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n", START);
    settle(&mut engine, START);
    // More at once than `recent` holds: it has lost its place, and gets what is kept.
    for n in 0..20 {
        engine.history().publish("a", format!("m{n}").as_str().into(), START).expect("room");
    }
    let out = settle(&mut engine, START);
    let out = &out[line.index()];
    assert!(says(out, "event: gap") && says(out, "\"m18\"") && says(out, "\"m19\""));
}
