//! A memory that is full: history gives way first, then new connections, then whoever wants more.

use std::sync::{Arc, Mutex};

use holdline::engine::{Action, Answer, ConnId, Ctx, Kind, Queued, Request, Route, Verdict};
use holdline::{App, Code, Config};
use serde_json::json;

use crate::sim::clients::{Sse, Ws};
use crate::sim::ws::upgrade;
use crate::sim::{Pace, Sim};

const BUDGET: usize = 1 << 20;

fn world() -> Sim {
    let config = Config {
        memory_bytes: BUDGET / 7 * 8, // an eighth is not shared out
        arena_bytes: 16 << 10,
        receive_buffer: 16 << 10,
        ..Config::default().open()
    };
    Sim::with(config, Pace::Whole)
}

/// Bytes that connections hold.
fn held(sim: &Sim) -> usize {
    sim.history.stats().memory_connections
}

fn used(sim: &Sim) -> usize {
    let stats = sim.history.stats();
    stats.memory_used + stats.memory_tables + stats.memory_connections
}

/// A frame of 60 000 bytes, of which so many are there.
fn half_frame(len: usize) -> Vec<u8> {
    let mut bytes = vec![0x82, 0x80 | 126];
    bytes.extend_from_slice(&60_000_u16.to_be_bytes());
    bytes.resize(bytes.len() + 4 + len, 0);
    bytes
}

/// Someone in the middle of a message of 50 000 bytes.
fn holder(sim: &mut Sim) -> Ws {
    let socket = Ws::open(sim, 0, "/channels/held");
    sim.send(socket.line, &half_frame(50_000));
    sim.settle();
    socket
}

/// Connections hold nearly all that they may: no new one is let in.
fn fill(sim: &mut Sim) -> Vec<Ws> {
    let mut sockets = Vec::new();
    while held(sim) < BUDGET / 16 * 7 {
        sockets.push(holder(sim));
        assert!(sim.lines[sockets[sockets.len() - 1].line].received.is_empty());
    }
    sockets
}

fn release(sim: &mut Sim, sockets: Vec<Ws>) {
    sockets.iter().for_each(|socket| sim.reset(socket.line));
    sim.settle();
}

/// The close code, behind whatever else.
fn closed(sim: &mut Sim, socket: &Ws) -> Option<(u16, String)> {
    let close = socket.frames(sim).pop()?;
    Some((close.code()?, String::from_utf8_lossy(&close.payload[2..]).into_owned()))
}

fn overloaded() -> Option<(u16, String)> {
    Some((1013, "overloaded".to_owned()))
}

#[track_caller]
fn assert_overloaded(sim: &mut Sim, line: usize) {
    let answer = sim.answer(line).expect("an answer");
    assert_eq!((answer.status, &answer.json()["error"]), (503, &json!("overloaded")));
    assert!(answer.header("Retry-After").is_some() && answer.is_closing());
}

#[test]
fn history_gives_way_to_connections_oldest_first() {
    let mut sim = world();
    let early = sim.publish("a", "early").id;
    while used(&sim) < BUDGET - 10_000 {
        sim.publish("a", "x".repeat(4_000));
    }
    let full = sim.history.stats().messages;
    let sockets = fill(&mut sim);
    let left = sim.history.stats().messages;
    assert!(left > full / 4 && left < full * 3 / 4, "{left} of {full} are left");
    assert!(used(&sim) <= BUDGET, "{}", used(&sim));
    let reader = sim.connect(0);
    release(&mut sim, sockets);
    // Who comes back to what had to go is told so.
    let late = sim.get(reader, "/channels/a");
    assert_eq!(late.status, 503, "it came while there was nothing for it");
    sim.reset(reader);
    let reader = sim.connect(0);
    let body = sim.get(reader, &format!("/poll?channel=a&since={early}")).json();
    assert_eq!(body["gap"][0]["reason"], "trimmed");
    assert!(body["messages"].as_array().is_some_and(|messages| messages.len() > 50));
    sim.reset(reader);
    sim.assert_deserted();
}

#[test]
fn a_connection_that_comes_to_a_full_memory_is_told_and_the_next_is_let_in_when_there_is_some() {
    let mut sim = world();
    let before = sim.connect(0);
    let sockets = fill(&mut sim);
    let line = sim.connect(0);
    sim.ask(line, "GET", "/channels/a", b"");
    sim.settle();
    assert_overloaded(&mut sim, line);
    // A native EventSource comes back only after a stream that ends.
    let mut stream = Sse::open(&mut sim, 0, "/events?channel=a");
    let blocks = stream.blocks(&mut sim);
    assert!(blocks.len() == 1 && blocks[0].retry.is_some() && stream.stream.is_over);
    // Who is here already is served, and may begin to listen.
    assert_eq!(sim.get(before, "/health").status, 200);
    assert_eq!(sim.call(before, "POST", "/channels/a", b"hello").status, 202);
    sim.ask(before, "GET", "/poll?channel=a&since=latest", b"");
    sim.settle();
    sim.publish("a", "x");
    sim.settle();
    assert_eq!(sim.answer(before).expect("an answer").json()["messages"][0]["text"], "x");
    release(&mut sim, sockets);
    let line = sim.connect(0);
    assert_eq!(sim.get(line, "/health").status, 200);
}

/// What has come of a request is held, whatever becomes of it: each is refused as what it is.
#[test]
fn a_request_that_finds_no_memory_is_refused() {
    let poll = "GET /poll?channel=a&since=latest HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\n";
    let long = "a".repeat(8_000);
    for (name, first, then) in [
        ("head", String::new(), format!("GET / HTTP/1.1\r\nHost: localhost\r\nA: {long}")),
        ("body", format!("{post}Content-Length: 60000\r\n\r\n"), long.clone()),
        ("chunk", format!("{post}Transfer-Encoding: chunked\r\n\r\n"), format!("ffff\r\n{long}")),
        ("behind a poll", poll.to_owned(), format!("GET / HTTP/1.1\r\nA: {long}")),
    ] {
        let mut sim = world();
        let lines: Vec<_> = (0..30).map(|_| sim.connect(0)).collect();
        lines.iter().for_each(|line| sim.send(*line, first.as_bytes()));
        sim.settle();
        let sockets = fill(&mut sim);
        for line in &lines {
            sim.send(*line, then.as_bytes());
            sim.settle();
            assert!(held_within(&sim), "{name}: {}", held(&sim));
        }
        let told = lines.iter().filter(|line| !sim.lines[**line].received.is_empty());
        let told: Vec<_> = told.copied().collect();
        assert!((15..30).contains(&told.len()), "{name}: {} of 30 were refused", told.len());
        told.iter().for_each(|line| assert_overloaded(&mut sim, *line));
        release(&mut sim, sockets);
        lines.iter().for_each(|line| sim.reset(*line));
        sim.assert_deserted();
    }
}

fn held_within(sim: &Sim) -> bool {
    held(sim) <= BUDGET / 2 + (20 << 10)
}

#[test]
fn a_message_that_finds_no_memory_closes_its_websocket() {
    for target in ["/channels/a", "/ws"] {
        let mut sim = world();
        let late = [(); 3].map(|()| Ws::open(&mut sim, 0, target));
        late.iter().for_each(|socket| _ = socket.frames(&mut sim));
        let sockets = fill(&mut sim);
        late.iter().for_each(|socket| sim.send(socket.line, &half_frame(50_000)));
        sim.settle();
        let told: Vec<_> = late.iter().filter_map(|socket| closed(&mut sim, socket)).collect();
        assert!(!told.is_empty() && held_within(&sim), "{target}: {}", held(&sim));
        assert!(told.iter().all(|told| Some(told) == overloaded().as_ref()), "{told:?}");
        assert!(sim.engine().stats().rejected.of(Code::Overloaded) >= told.len() as u64);
        release(&mut sim, sockets);
        late.iter().for_each(|socket| sim.reset(socket.line));
        sim.assert_deserted();
    }
}

#[test]
fn who_asks_without_reading_is_closed_when_there_is_no_memory() {
    let mut sim = world();
    for _ in 0..4 {
        sim.publish("a", "x".repeat(50_000));
    }
    let askers: Vec<_> = (0..10).map(|_| sim.connect(0)).collect();
    let sockets = fill(&mut sim);
    for line in &askers {
        sim.stall(*line, 1_000);
        sim.ask(*line, "GET", "/poll?channel=a&since=earliest", b"");
        sim.settle();
        assert!(held_within(&sim), "{}", held(&sim));
    }
    let closed = askers.iter().filter(|line| sim.is_closed(**line)).count();
    assert!(closed >= 5, "{closed} were closed");
    drop(sockets);
}

#[test]
fn publishers_are_refused_for_what_slow_readers_hold_and_go_on_when_these_read() {
    let mut sim = world();
    let readers: Vec<_> =
        (0..20).map(|n| Ws::open(&mut sim, 0, &format!("/ws?channel=c{n}"))).collect();
    readers.iter().for_each(|reader| _ = reader.frames(&mut sim));
    let publisher = sim.connect(0);
    let mut refused = 0;
    for (n, reader) in readers.iter().enumerate() {
        sim.stall(reader.line, 100);
        let target = format!("/channels/c{n}");
        let answer = sim.call(publisher, "POST", &target, &[b'x'; 60_000]);
        sim.call(publisher, "DELETE", &target, b"");
        if answer.status == 503 {
            assert_eq!(answer.json()["error"], "overloaded");
            refused += 1;
        }
        assert!(used(&sim) <= BUDGET, "{}", used(&sim));
    }
    assert!((2..8).contains(&refused), "{refused} of 20 did not fit");
    readers.iter().for_each(|reader| sim.unstall(reader.line));
    sim.settle();
    assert_eq!(sim.call(publisher, "POST", "/channels/c0", &[b'x'; 60_000]).status, 201);
    readers.iter().for_each(|reader| sim.reset(reader.line));
    sim.reset(publisher);
    sim.assert_deserted();
}

#[test]
fn channels_take_at_most_a_quarter_of_the_memory() {
    let mut sim = world();
    let socket: Vec<_> = (0..20).map(|_| Ws::open(&mut sim, 0, "/ws")).collect();
    let name = |n: usize| format!("c{n:0>250}");
    let mut refused = 0;
    for (number, socket) in socket.iter().enumerate() {
        socket.frames(&mut sim);
        for n in 0..100 {
            let channel = name(number * 100 + n);
            socket.text(&mut sim, &json!({"op": "subscribe", "channel": channel}).to_string());
        }
        sim.settle();
        let told = socket.jsons(&mut sim);
        refused += told.iter().filter(|told| told["code"] == "overloaded").count();
    }
    let stats = sim.history.stats();
    assert!(stats.memory_tables <= BUDGET / 4, "{stats:?}");
    assert!(stats.channels > 300 && stats.channels + refused == 2_000, "{stats:?}, {refused}");
    let publisher = sim.connect(0);
    let answer = sim.call(publisher, "POST", &format!("/channels/{}", name(0)), b"x");
    assert_eq!(answer.status, 201, "what is there can be used");
    let answer = sim.call(publisher, "POST", &format!("/channels/{}", name(9_999)), b"x");
    assert_eq!((answer.status, &answer.json()["error"]), (503, &json!("overloaded")));
    release(&mut sim, socket);
    assert_eq!(sim.call(publisher, "POST", "/channels/new", b"x").status, 202);
    sim.reset(publisher);
    sim.assert_deserted();
}

/// Answers nothing itself, and sends on its WebSockets when it gets a signal.
#[derive(Clone, Default)]
struct Sender(Arc<Mutex<(Vec<ConnId>, usize, usize)>>);

impl Sender {
    /// How often it was told that there is no memory, and that there is.
    fn counts(&self) -> (usize, usize) {
        let state = self.0.lock().expect("no panic");
        (state.1, state.2)
    }
}

impl App for Sender {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, request: &Request<'_>) -> Answer<Route> {
        let is_own = request.path() == "/own";
        Answer::Done(if is_own { Route::WebSocket { protocol: None } } else { Route::Pass })
    }

    fn authorize(&mut self, cx: &mut Ctx<'_>, id: ConnId, action: Action<'_>) -> Answer<Verdict> {
        match action {
            Action::Publish { channel: "later", .. } => Answer::Later(cx.ticket(id)),
            _ => Answer::Done(Verdict::Default),
        }
    }

    fn open(&mut self, _: &mut Ctx<'_>, id: ConnId) {
        self.0.lock().expect("no panic").0.push(id);
    }

    fn signal(&mut self, cx: &mut Ctx<'_>, _: u64) {
        let mut state = self.0.lock().expect("no panic");
        let ids = state.0.clone();
        let full = |id: &&ConnId| cx.send(**id, Kind::Binary, &[0; 60_000]) == Queued::Full;
        state.1 += ids.iter().filter(full).count();
    }

    fn writable(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        assert!(matches!(cx.send(id, Kind::Text, b"again"), Queued::Bytes(_)));
        self.0.lock().expect("no panic").2 += 1;
    }
}

#[test]
fn an_application_is_told_that_there_is_no_memory_and_when_there_is() {
    let mut sim = world();
    let sender = Sender::default();
    sim.engine_mut().set_app(Box::new(sender.clone()));
    let own: Vec<_> = (0..20).map(|_| Ws::open(&mut sim, 0, "/own")).collect();
    let sockets = fill(&mut sim);
    let now = sim.now;
    sim.engine_mut().handle_signal(1, now);
    sim.settle();
    let got = own.iter().map(|own| own.frames(&mut sim).len()).sum::<usize>();
    let (full, told) = sender.counts();
    assert!(full > 5 && got + full == 20 + told, "{got} {full} {told}");
    release(&mut sim, sockets);
    sim.pass(30_000);
    let told = sender.counts().1;
    assert_eq!(told, full, "each is told once");
}

/// Requests that wait for an answer hold their bodies.
#[test]
fn a_question_that_waits_gives_way_too() {
    let mut sim = world();
    sim.engine_mut().set_app(Box::new(Sender::default()));
    let lines: Vec<_> = (0..20).map(|_| sim.connect(0)).collect();
    for line in &lines {
        sim.ask(*line, "POST", "/channels/later", &[b'x'; 60_000]);
        sim.settle();
        assert!(held_within(&sim), "{}", held(&sim));
    }
    let refused = lines.iter().filter(|line| !sim.lines[**line].received.is_empty()).count();
    assert!((8..18).contains(&refused), "{refused} of 20");
    for line in lines {
        if !sim.lines[line].received.is_empty() {
            assert_overloaded(&mut sim, line);
        }
    }
}

#[test]
fn a_device_serves_its_64_connections() {
    let mut sim = Sim::with(Config::device().open(), Pace::Whole);
    let sockets: Vec<_> = (0..64).map(|_| Ws::open(&mut sim, 0, "/ws?channel=a")).collect();
    sockets.iter().for_each(|socket| _ = socket.frames(&mut sim));
    for socket in &sockets {
        let text = json!({"op": "publish", "channel": "a", "text": "x".repeat(7_000)});
        socket.text(&mut sim, &text.to_string());
        sim.settle();
    }
    for socket in &sockets {
        let got = socket.jsons(&mut sim);
        assert_eq!(got.iter().filter(|got| got["op"] == "message").count(), 64);
        assert_eq!(got.iter().filter(|got| got["op"] == "ok").count(), 1);
    }
    let line = sim.connect(0);
    sim.send(line, &upgrade("/ws", None));
    sim.settle();
    assert_overloaded(&mut sim, line);
    let stats = sim.history.stats();
    assert!(stats.memory_connections < 80_000 && used(&sim) <= 256 << 10, "{stats:?}");
}

/// Asks for more than there can be when it is told that there is some room.
#[derive(Clone, Default)]
struct Greedy(Sender);

impl App for Greedy {
    fn request(&mut self, cx: &mut Ctx<'_>, id: ConnId, request: &Request<'_>) -> Answer<Route> {
        self.0.request(cx, id, request)
    }

    fn open(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        self.0.open(cx, id);
    }

    fn signal(&mut self, cx: &mut Ctx<'_>, value: u64) {
        self.0.signal(cx, value);
    }

    fn writable(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        self.0.0.lock().expect("no panic").2 += 1;
        assert_eq!(cx.send(id, Kind::Binary, &[0; BUDGET / 2]), Queued::Full);
    }
}

#[test]
fn a_connection_waits_for_memory_once_however_often_there_was_none() {
    let mut sim = world();
    let greedy = Greedy::default();
    sim.engine_mut().set_app(Box::new(greedy.clone()));
    // What the first is sent leaves nothing for the second.
    let _own = [(); 2].map(|()| Ws::open(&mut sim, 0, "/own"));
    let sockets = fill(&mut sim);
    let now = sim.now;
    (0..1_000).for_each(|_| sim.engine_mut().handle_signal(1, now));
    sim.settle();
    let before = greedy.0.counts();
    assert_eq!(before, (1_999, 1), "the first is told, and the second waits");
    release(&mut sim, sockets);
    sim.pass(1_000);
    assert_eq!(greedy.0.counts().1, 2);
}

/// Sends again whatever found no room, whenever it is told that there is some.
#[derive(Clone, Default)]
struct Stubborn(Sender);

const FRAME: &[u8] = &[0; 8_000];

impl App for Stubborn {
    fn request(&mut self, cx: &mut Ctx<'_>, id: ConnId, request: &Request<'_>) -> Answer<Route> {
        self.0.request(cx, id, request)
    }

    fn open(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        self.0.open(cx, id);
    }

    fn signal(&mut self, cx: &mut Ctx<'_>, _: u64) {
        let mut state = self.0.0.lock().expect("no panic");
        let ids = state.0.clone();
        state.1 +=
            ids.iter().filter(|id| cx.send(**id, Kind::Binary, FRAME) == Queued::Full).count();
    }

    fn writable(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        let mut state = self.0.0.lock().expect("no panic");
        state.2 += 1;
        assert!(state.2 < 1_000, "it is told for ever");
        cx.send(id, Kind::Binary, FRAME);
    }
}

#[test]
fn what_is_sent_again_and_again_waits_for_the_next_turn() {
    let mut sim = Sim::with(Config::device().open(), Pace::Whole);
    let stubborn = Stubborn::default();
    sim.engine_mut().set_app(Box::new(stubborn.clone()));
    let sockets: Vec<_> = (0..60).map(|_| Ws::open(&mut sim, 0, "/own")).collect();
    let now = sim.now;
    sim.engine_mut().handle_signal(1, now);
    sim.settle();
    let got: usize = sockets.iter().map(|socket| socket.frames(&mut sim).len()).sum();
    let (full, told) = stubborn.0.counts();
    assert!(full > 30 && got == 60, "{full} did not fit, {got} came");
    assert!(told <= 5 * full, "{full} were told {told} times");
}

/// Connections that take no more than 100 bytes from now on.
fn stall_all(sim: &mut Sim, count: usize, target: &str) {
    for _ in 0..count {
        let socket = Ws::open(sim, 0, target);
        socket.frames(sim);
        sim.stall(socket.line, 100);
    }
}

#[test]
fn what_watchers_that_do_not_read_are_told_is_held_within_the_budget() {
    let mut sim = world();
    stall_all(&mut sim, 60, "/ws?channel=a&presence=1");
    let joiner = Ws::open(&mut sim, 0, "/ws");
    let mut most = 0;
    for _ in 0..300 {
        for op in ["subscribe", "unsubscribe"] {
            joiner.text(&mut sim, &json!({"op": op, "channel": "a"}).to_string());
            sim.settle();
            most = most.max(held(&sim));
        }
        joiner.frames(&mut sim);
    }
    assert!(most > BUDGET / 4 && most <= BUDGET / 2 + (40 << 10), "{most} bytes");
}

#[test]
fn farewells_to_who_does_not_read_are_held_within_the_budget() {
    let mut sim = world();
    stall_all(&mut sim, 100, "/channels/a");
    for _ in 0..20 {
        sim.publish("a", "x".repeat(1_400));
        sim.settle();
    }
    let now = sim.now;
    sim.engine_mut().handle_drain(now);
    assert!(held(&sim) <= BUDGET / 2 + (40 << 10), "{} bytes", held(&sim));
}
