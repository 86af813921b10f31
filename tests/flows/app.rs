//! An application's own answers and WebSockets, and what its callbacks may do to connections that are
//! there, are something else, or have gone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdline::engine::{
    Action, Answer, App, CloseReason, ConnId, Ctx, Kind, Queued, Request, Response, Route, TimerId,
    Upgrade, Verdict,
};
use holdline::{Code, Config, Message, Since};

use crate::sim::clients::{Sse, Ws, request};
use crate::sim::{Pace, Sim, http, ws};

/// Answers by path, and notes what it is told.
#[derive(Clone, Default)]
struct Own(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    /// By path.
    ids: Vec<(String, ConnId)>,
    said: Vec<String>,
    timers: Vec<TimerId>,
    fired: Vec<u64>,
    closed: Vec<(ConnId, CloseReason)>,
}

impl Own {
    fn employ(sim: &mut Sim) -> Self {
        let own = Self::default();
        sim.engine_mut().set_app(Box::new(own.clone()));
        own
    }

    fn id(&self, path: &str) -> ConnId {
        let notes = self.0.lock().expect("no panic");
        notes.ids.iter().rev().find(|(known, _)| known == path).expect(path).1
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic").said)
    }
}

impl App for Own {
    fn authorize(&mut self, _: &mut Ctx<'_>, _: ConnId, _: Action<'_>) -> Answer<Verdict> {
        Answer::Done(Verdict::Default)
    }

    fn request(&mut self, _: &mut Ctx<'_>, id: ConnId, request: &Request<'_>) -> Answer<Route> {
        let mut notes = self.0.lock().expect("no panic");
        notes.ids.push((request.path().to_owned(), id));
        let text = |status, text: &str| Response::new(status, "text/plain", text);
        Answer::Done(match request.path() {
            "/page" => {
                text(200, "page").header("Cache-Control", "max-age=9").header("X-A", "1").into()
            }
            "/moved" => Response::empty(303).header("Location", "/page").into(),
            "/none" => Response::empty(204).header("X-A", "1").into(),
            "/same" => Response::empty(304).header("ETag", "\"1\"").into(),
            "/reset" => Response::empty(205).into(),
            "/split" => text(200, "x")
                .header("Location", request.param("to").expect("it").as_bytes())
                .into(),
            "/framed" => text(200, "x").header("Content-Length", "1").into(),
            "/early" => text(100, "x").into(),
            "/full" => text(204, "x").into(),
            "/cors" => text(200, "x").header("Access-Control-Allow-Origin", "*").into(),
            "/said" => {
                let fields = request
                    .headers()
                    .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
                notes.said = fields.collect();
                let offers: Vec<_> = request.protocols().collect();
                notes.said.push(format!("{offers:?} {:?}", request.param("q")));
                text(200, "x").into()
            }
            "/own" => Upgrade::new().protocol("b").header("Set-Cookie", "a=1").into(),
            "/bad" => Upgrade::new().header("Upgrade", "x").into(),
            _ => Route::Pass,
        })
    }

    fn message(&mut self, cx: &mut Ctx<'_>, id: ConnId, kind: Kind, bytes: &[u8]) {
        cx.send(id, kind, bytes);
    }

    fn closed(&mut self, cx: &mut Ctx<'_>, id: ConnId, reason: CloseReason) {
        assert!(cx.transport(id).is_none(), "it finds nothing any more");
        self.0.lock().expect("no panic").closed.push((id, reason));
    }

    /// Looks at the connection whose number it is in all ways.
    fn signal(&mut self, cx: &mut Ctx<'_>, value: u64) {
        let mut notes = self.0.lock().expect("no panic");
        if let Some(id) = notes.ids.get(value as usize).map(|(_, id)| *id) {
            let said = [
                format!("{:?}", cx.transport(id)),
                format!("{:?}", cx.send(id, Kind::Text, b"hi")),
                format!("{:?}", cx.subscribe(id, "news", None).map_err(|refusal| refusal.code)),
                format!("{:?}", cx.unsubscribe(id, "news")),
                format!("{:?} {:?}", cx.set_data(id, 7), cx.data(id)),
                format!("{:?}", cx.peer(id).is_some()),
                format!("{:?}", cx.close(id, 4_000, "as asked")),
                format!("{:?}", cx.send(id, Kind::Text, b"late")),
            ];
            notes.said.extend(said);
        } else if value == 1_000 {
            notes.timers = [1, 2, 2].map(|key| cx.timer(Duration::from_millis(key), key)).to_vec();
        } else {
            let second = notes.timers[1];
            let said = [cx.cancel_timer(second), cx.cancel_timer(second)];
            notes.said.push(format!("{said:?}"));
        }
    }

    fn timer(&mut self, cx: &mut Ctx<'_>, key: u64) {
        self.0.lock().expect("no panic").fired.push(key);
        cx.publish("timers", Message::from("fired")).expect("room");
    }
}

fn signal(sim: &mut Sim, value: u64) {
    let now = sim.now;
    sim.engine_mut().handle_signal(value, now);
    sim.settle();
}

/// The head of the answer, and what came behind it.
fn ask(sim: &mut Sim, method: &str, target: &str, headers: &str) -> (http::Answer, Vec<u8>) {
    let line = sim.connect(0);
    sim.send(line, &request(method, target, headers, b""));
    sim.settle();
    let head = http::take_head(&mut sim.lines[line].received).expect("an answer");
    let rest = std::mem::take(&mut sim.lines[line].received);
    sim.close(line);
    sim.settle();
    (head, rest)
}

#[test]
fn a_response_has_the_headers_that_it_was_given() {
    let mut sim = Sim::open(Pace::Whole);
    Own::employ(&mut sim);
    let (head, body) = ask(&mut sim, "GET", "/page", "");
    assert_eq!((head.status, &body[..]), (200, &b"page"[..]));
    let values = |name: &str| {
        let same = head.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    assert_eq!((values("x-a"), values("cache-control")), (vec!["1"], vec!["max-age=9"]));
    assert_eq!((values("content-length"), values("content-type")), (vec!["4"], vec!["text/plain"]));
    let (head, _) = ask(&mut sim, "GET", "/moved", "");
    assert_eq!((head.status, head.header("location")), (303, Some("/page")));
    assert_eq!(head.header("content-length"), Some("0"));
    let (head, _) = ask(&mut sim, "GET", "/cors", "Origin: http://page.example\r\n");
    let origins = head.headers.iter().filter(|(name, _)| name == "Access-Control-Allow-Origin");
    assert_eq!(origins.count(), 1, "two would be none to a browser");
}

#[test]
fn head_and_the_statuses_without_a_body_have_none() {
    let mut sim = Sim::open(Pace::Whole);
    Own::employ(&mut sim);
    let (head, body) = ask(&mut sim, "HEAD", "/page", "");
    assert_eq!((head.header("content-length"), body.len()), (Some("4"), 0));
    for (path, status, length) in
        [("/none", 204, None), ("/same", 304, None), ("/reset", 205, Some("0"))]
    {
        let (head, body) = ask(&mut sim, "GET", path, "");
        let found = (head.status, head.header("content-length"), body.len());
        assert_eq!(found, (status, length, 0), "{path}");
    }
}

#[test]
fn an_answer_that_cannot_be_sent_is_a_500_and_the_server_goes_on() {
    let mut sim = Sim::open(Pace::Whole);
    Own::employ(&mut sim);
    for path in ["/split?to=/x%0d%0aSet-Cookie:%20a=1", "/framed", "/early", "/full"] {
        let (head, body) = ask(&mut sim, "GET", path, "");
        assert_eq!((head.status, head.header("set-cookie")), (500, None), "{path}");
        assert!(body.starts_with(b"{\"error\":\"internal\""), "{path}");
    }
    let line = sim.connect(0);
    sim.send(line, &ws::upgrade("/bad", None));
    sim.settle();
    assert_eq!(sim.answer(line).expect("an answer").status, 500);
    assert!(!sim.engine().has_failed());
}

#[test]
fn a_request_shows_its_headers_query_and_offers() {
    let mut sim = Sim::open(Pace::Whole);
    let own = Own::employ(&mut sim);
    let headers = "X-One: 1 \r\nx-ONE:2\r\nSec-WebSocket-Protocol: a , b\r\n";
    ask(&mut sim, "GET", "/said?p=1&q=a%20%C3%BC&q=2", headers);
    let wanted = [
        "Host=localhost",
        "X-One=1",
        "x-ONE=2",
        "Sec-WebSocket-Protocol=a , b",
        "[\"a\", \"b\"] Some(\"a ü\")",
    ];
    assert_eq!(own.said(), wanted);
}

#[test]
fn an_own_websocket_has_the_subprotocol_and_headers_that_it_was_given() {
    let mut sim = Sim::open(Pace::Whole);
    Own::employ(&mut sim);
    for (offer, selected) in [(Some("a, b"), Some("b")), (Some("a"), None), (None, None)] {
        let line = sim.connect(0);
        sim.send(line, &ws::upgrade("/own", offer));
        sim.settle();
        let head = http::take_head(&mut sim.lines[line].received).expect("an answer");
        assert_eq!((head.status, head.header("set-cookie")), (101, Some("a=1")));
        assert_eq!(head.header("sec-websocket-protocol"), selected, "of {offer:?}");
        let socket = Ws { line };
        socket.text(&mut sim, "echo");
        sim.settle();
        assert_eq!(socket.frame(&mut sim).text(), "echo");
    }
}

#[test]
fn callbacks_say_what_happened_to_a_connection_of_each_kind() {
    let mut sim = Sim::open(Pace::Whole);
    let own = Own::employ(&mut sim);
    let line = sim.connect(0);
    sim.send(line, &ws::upgrade("/own", None));
    sim.settle();
    http::take_head(&mut sim.lines[line].received).expect("an answer");
    Ws::open(&mut sim, 0, "/ws");
    Sse::open(&mut sim, 0, "/channels/a");
    let idle = sim.connect(0);
    sim.get(idle, "/page");
    (0..4).for_each(|number| signal(&mut sim, number));
    let said = own.said();
    let refused = format!("Err({:?})", Code::NotFound);
    let wanted = [
        ["Some(Own)", "Bytes(4)", "Ok(())", "true", "true Some(7)", "true", "true", "Gone"],
        ["Some(WebSocket)", "Bytes(4)", "Ok(())", "true", "true Some(7)", "true", "true", "Gone"],
        ["Some(EventStream)", "Gone", "Ok(())", "true", "true Some(7)", "true", "false", "Gone"],
        ["Some(Http)", "Gone", &refused, "false", "true Some(7)", "true", "false", "Gone"],
    ];
    for (number, wanted) in wanted.iter().enumerate() {
        assert_eq!(said[number * 8..][..8], *wanted, "connection {number}");
    }
}

#[test]
fn an_id_that_outlives_its_connection_finds_nothing_not_even_its_slots_next_tenant() {
    let mut sim = Sim::open(Pace::Whole);
    let own = Own::employ(&mut sim);
    let first = Ws { line: sim.connect(0) };
    sim.send(first.line, &ws::upgrade("/own", None));
    sim.settle();
    sim.close(first.line);
    sim.settle();
    let line = sim.connect(0);
    sim.send(line, &ws::upgrade("/own", None));
    sim.settle();
    http::take_head(&mut sim.lines[line].received).expect("an answer");
    let (old, new) = {
        let notes = own.0.lock().expect("no panic");
        (notes.ids[0].1, notes.ids[1].1)
    };
    assert_eq!((old.index(), old == new), (new.index(), false), "one slot, two ids");
    signal(&mut sim, 0);
    let refused = format!("Err({:?})", Code::NotFound);
    let gone = ["None", "Gone", &refused, "false", "false None", "false", "false", "Gone"];
    assert_eq!(own.said(), gone);
    let now = sim.now;
    assert!(!sim.engine_mut().handle_close(old, 4_000, "", now));
    sim.settle();
    assert!(sim.lines[line].received.is_empty(), "it was told what was for another");
    assert_eq!(own.0.lock().expect("no panic").closed, [(old, CloseReason::Lost)]);
}

#[test]
fn a_timer_that_was_taken_back_does_not_fire() {
    let mut sim = Sim::open(Pace::Whole);
    let own = Own::employ(&mut sim);
    signal(&mut sim, 1_000);
    signal(&mut sim, 1_001);
    sim.pass(100);
    assert_eq!(own.said(), ["[true, false]"]);
    assert_eq!(own.0.lock().expect("no panic").fired, [1, 2], "the other of the same key does");
    assert_eq!(sim.history.stats().published, 2);
}

#[test]
fn whoever_is_closed_from_outside_ends_in_order_on_each_transport() {
    let mut sim = Sim::open(Pace::Whole);
    let own = Own::employ(&mut sim);
    let close = |sim: &mut Sim, path: &str| {
        let now = sim.now;
        assert!(sim.engine_mut().handle_close(own.id(path), 4_001, "as asked", now));
        sim.settle();
    };
    for path in ["/own", "/ws", "/channels/w"] {
        let line = sim.connect(0);
        sim.send(line, &ws::upgrade(path, None));
        sim.settle();
        http::take_head(&mut sim.lines[line].received).expect("an answer");
        close(&mut sim, path);
        let frames = Ws { line }.frames(&mut sim);
        let last = frames.last().expect("a close");
        assert_eq!((last.code(), &last.payload[2..]), (Some(4_001), &b"as asked"[..]), "{path}");
    }
    let mut stream = Sse::open(&mut sim, 0, "/channels/s");
    sim.publish("s", "before");
    close(&mut sim, "/channels/s");
    assert!(stream.blocks(&mut sim).iter().any(|block| block.data.as_deref() == Some("before")));
    assert!(stream.stream.is_over);
    let line = sim.connect(0);
    let since = sim.id(sim.history.head());
    sim.ask(line, "GET", &format!("/poll?channel=p&since={since}"), b"");
    sim.settle();
    close(&mut sim, "/poll");
    let answer = sim.answer(line).expect("an answer");
    assert_eq!((answer.status, answer.is_closing()), (200, true));
    let line = sim.connect(0);
    sim.get(line, "/page");
    close(&mut sim, "/page");
    assert!(sim.lines[line].is_finished);
    (0..sim.lines.len()).for_each(|line| sim.close(line));
    sim.assert_deserted();
}

#[test]
fn a_message_that_finds_no_room_is_not_taken() {
    let mut sim = Sim::open(Pace::Whole);
    let own = Own::employ(&mut sim);
    let line = sim.connect(0);
    sim.send(line, &ws::upgrade("/own", None));
    sim.settle();
    let id = own.id("/own");
    struct Floods(ConnId, Arc<Mutex<Vec<Queued>>>);
    impl App for Floods {
        fn signal(&mut self, cx: &mut Ctx<'_>, _: u64) {
            let queued = (0..4).map(|_| cx.send(self.0, Kind::Binary, &[0; 40_000]));
            self.1.lock().expect("no panic").extend(queued);
        }
    }
    let queued = Arc::default();
    sim.engine_mut().set_app(Box::new(Floods(id, Arc::clone(&queued))));
    sim.stall(line, 0);
    signal(&mut sim, 0);
    let queued = queued.lock().expect("no panic");
    assert_eq!(queued[2..], [Queued::Full; 2], "{queued:?}");
}

/// Subscribes each WebSocket of its own to `news`, from where its query says, and keeps a number for it.
#[derive(Clone, Default)]
struct Feed(Arc<Mutex<Vec<String>>>);

impl Feed {
    fn open(sim: &mut Sim, since: &str) -> Ws {
        let line = sim.connect(0);
        sim.send(line, &ws::upgrade(&format!("/feed?since={since}"), None));
        sim.settle();
        http::take_head(&mut sim.lines[line].received).expect("an answer");
        Ws { line }
    }

    fn noted(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

impl App for Feed {
    fn authorize(&mut self, _: &mut Ctx<'_>, _: ConnId, action: Action<'_>) -> Answer<Verdict> {
        let key = action.request().and_then(|request| request.header("authorization"));
        let what = match action {
            Action::Connect { .. } => "connect",
            Action::Subscribe { .. } => "subscribe",
            Action::Publish { .. } => "publish",
            _ => "something new",
        };
        let key = key.map(String::from_utf8_lossy);
        self.0.lock().expect("no panic").push(format!("{what} {key:?}"));
        Answer::Done(Verdict::Allow)
    }

    fn request(&mut self, cx: &mut Ctx<'_>, id: ConnId, request: &Request<'_>) -> Answer<Route> {
        if request.path() != "/feed" {
            return Answer::Done(Route::Pass);
        }
        let since = request.param("since").map_or(0, |since| since.len() as u64);
        cx.set_data(id, since);
        self.0.lock().expect("no panic").push(request.param("since").unwrap_or_default().into());
        Answer::Done(Upgrade::new().into())
    }

    fn open(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        let since = self.0.lock().expect("no panic").pop().expect("a request");
        cx.subscribe(id, "news", Since::parse(since.as_bytes())).expect("it is there");
    }

    fn closed(&mut self, cx: &mut Ctx<'_>, id: ConnId, reason: CloseReason) {
        let said = format!("{:?} {}", cx.data(id), reason.code());
        self.0.lock().expect("no panic").push(said);
    }
}

fn feed() -> (Sim, Feed) {
    let mut sim =
        Sim::with(Config { history_messages: 2, ..Config::default().open() }, Pace::Whole);
    let feed = Feed::default();
    sim.engine_mut().set_app(Box::new(feed.clone()));
    (sim, feed)
}

#[test]
fn an_own_websocket_that_goes_on_from_a_position_that_is_lost_is_closed() {
    let (mut sim, _) = feed();
    let publish = |sim: &mut Sim| {
        sim.history.publish("news", "x".into(), sim.now).expect("room");
        sim.settle();
    };
    publish(&mut sim);
    let kept = sim.history.cursor(sim.history.head()).to_string();
    (0..2).for_each(|_| publish(&mut sim));
    let socket = Feed::open(&mut sim, &kept);
    assert_eq!(socket.frames(&mut sim).len(), 2, "from {kept}");
    publish(&mut sim);
    assert_eq!(socket.frames(&mut sim).len(), 1);
    for lost in [&*kept, "zzzzzzzz-5"] {
        let socket = Feed::open(&mut sim, lost);
        let frames = socket.frames(&mut sim);
        assert_eq!(frames.iter().map(|frame| frame.code()).collect::<Vec<_>>(), [Some(1013)]);
    }
    // Whoever only wants what there is misses nothing.
    assert_eq!(Feed::open(&mut sim, "earliest").frames(&mut sim).len(), 2);
}

#[test]
fn an_own_websocket_that_reads_too_slowly_for_what_is_kept_is_closed() {
    let (mut sim, _) = feed();
    let socket = Feed::open(&mut sim, "latest");
    sim.stall(socket.line, 0);
    for n in 0..20 {
        let text = format!("{n} {}", "x".repeat(100_000));
        sim.history.publish("news", text.as_str().into(), sim.now).expect("room");
        sim.settle();
    }
    sim.unstall(socket.line);
    sim.settle();
    let frames = socket.frames(&mut sim);
    let (last, others) = frames.split_last().expect("a Close at least");
    assert_eq!(last.code(), Some(1013));
    for (n, frame) in others.iter().enumerate() {
        assert!(frame.text().starts_with(&format!("{n} ")), "missed something, and was not told");
    }
}

#[test]
fn what_was_set_for_a_connection_is_there_when_it_is_told_to_be_gone() {
    let (mut sim, feed) = feed();
    let socket = Feed::open(&mut sim, "latest");
    sim.close(socket.line);
    sim.settle();
    assert_eq!(feed.noted(), ["Some(6) 1006"]);
}

#[test]
fn whoever_decides_sees_the_request_that_asks() {
    let (mut sim, feed) = feed();
    for (method, target, body, asked) in [
        ("POST", "/channels/news", "x", &["publish Some(\"k\")"][..]),
        ("DELETE", "/channels/news", "", &["publish Some(\"k\")"]),
        ("POST", "/publish", "{\"channel\":\"news\",\"text\":\"x\"}", &["publish Some(\"k\")"]),
        ("GET", "/channels/news", "", &["subscribe Some(\"k\")"]),
        (
            "GET",
            "/channels/news?poll=0&since=earliest",
            "",
            &["connect Some(\"k\")", "subscribe Some(\"k\")"],
        ),
    ] {
        let line = sim.connect(0);
        let fields = "Authorization: k\r\n";
        sim.send(line, &request(method, target, fields, body.as_bytes()));
        sim.settle();
        assert_eq!(feed.noted(), asked, "{method} {target}");
    }
    // What comes on a WebSocket that is open has no request.
    let socket = Ws::open(&mut sim, 0, "/channels/news");
    feed.noted();
    socket.text(&mut sim, "x");
    sim.settle();
    assert_eq!(feed.noted(), ["publish None"]);
}

/// Allows nobody more than to connect, until it panics.
struct Strict;

impl App for Strict {
    fn authorize(&mut self, _: &mut Ctx<'_>, _: ConnId, action: Action<'_>) -> Answer<Verdict> {
        match action {
            Action::Connect { .. } => Answer::Done(Verdict::Allow),
            Action::Subscribe { channel: "bad", .. } => panic!("over a question"),
            _ => Answer::Done(Verdict::Forbidden),
        }
    }

    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, request: &Request<'_>) -> Answer<Route> {
        assert!(request.path() != "/panic", "over a request");
        Answer::Done(Route::Pass)
    }
}

#[test]
fn once_an_application_has_panicked_nobody_gets_what_it_would_not_have_allowed() {
    for first in ["/panic", "/channels/bad", "/channels/bad?poll=0&since=earliest"] {
        let mut sim = Sim::open(Pace::Whole);
        sim.history.publish("bad", "secret".into(), sim.now).expect("room");
        sim.engine_mut().set_app(Box::new(Strict));
        let lines = [sim.connect(0), sim.connect(0)];
        sim.send(lines[0], &request("GET", first, "", b""));
        let others = ["/channels/bad?poll=0&since=earliest", "/poll?channel=bad&since=earliest"];
        for target in others {
            sim.send(lines[1], &request("GET", target, "", b""));
        }
        sim.send(lines[1], &request("POST", "/channels/bad", "", b"x"));
        sim.settle();
        assert!(sim.engine_mut().has_failed(), "{first}");
        for line in lines {
            let said = String::from_utf8_lossy(&sim.lines[line].received).into_owned();
            assert!(!said.contains("secret") && !said.contains("HTTP/1.1 2"), "{first}: {said}");
        }
        assert_eq!(sim.history.stats().published, 1, "{first}");
    }
}
