//! The library as its users see it: real sockets, other threads, their own loop, their own `App`.
#![cfg(feature = "server")]

#[path = "support/clock.rs"]
mod clock;
#[cfg(not(instrumented))]
#[path = "library/examples.rs"]
mod examples;
#[path = "library/hub.rs"]
mod hub;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use holdline::engine::{Action, Answer, Kind, Request, Response, Route, Ticket, Verdict};
use holdline::server::{Inherited, LocalAddr, PublishReason};
use holdline::{App, Config, ConnId, Ctx, Message, Server, Turned};

fn address(server: &Server) -> SocketAddr {
    match server.local_addrs().first() {
        Some(LocalAddr::Tcp(address)) => *address,
        other => panic!("no TCP address: {other:?}"),
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

/// One request on a connection of its own; the whole answer.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// An event stream that has begun.
fn listen(address: SocketAddr, channel: &str) -> BufReader<TcpStream> {
    let mut stream = connect(address);
    let request = format!(
        "GET /channels/{channel} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream);
    until(&mut reader, "retry: ");
    reader
}

/// Reads lines until one begins with `prefix`; the rest of it.
fn until(reader: &mut impl BufRead, prefix: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(reader.read_line(&mut line).expect("a line"), 0, "ended before {prefix:?}");
        if let Some(rest) = line.strip_prefix(prefix) {
            return rest.trim_end().to_owned();
        }
    }
}

#[test]
fn a_bare_server_lets_listen_and_refuses_what_publishes() {
    let server = Server::bind("127.0.0.1:0").expect("binds");
    let (at, hub) = (address(&server), server.hub());
    let _running = server.spawn().expect("a thread");
    assert!(ask(at, &post("/channels/a", "x")).starts_with("HTTP/1.1 403 "));
    assert!(ask(at, &get("/channels/a")).starts_with("HTTP/1.1 200 "));
    let mut stream = listen(at, "a");
    let published = hub.publish("a", "from inside").expect("published");
    assert_eq!(published.subscribers, 1);
    assert_eq!(until(&mut stream, "data: "), "from inside");
}

#[test]
fn dropping_the_handle_ends_the_server_and_gives_the_port_back() {
    let server = Server::bind("127.0.0.1:0").expect("binds");
    let (at, hub) = (address(&server), server.hub());
    let running = server.spawn().expect("a thread");
    let mut stream = listen(at, "a");
    drop(running);
    until(&mut stream, "retry: ");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("an end");
    assert!(TcpStream::connect(at).is_err());
    let error = hub.publish("a", "late").expect_err("nobody is there");
    assert_eq!(error.reason, PublishReason::Closed);
    assert_eq!(error.message, Message::from("late"));
}

#[test]
fn publishing_from_many_threads_keeps_one_order() {
    let server = Server::bind("127.0.0.1:0").expect("binds");
    let (at, hub) = (address(&server), server.hub());
    let _running = server.spawn().expect("a thread");
    let (mut first, mut second) = (listen(at, "a"), listen(at, "a"));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let hub = hub.clone();
            std::thread::spawn(move || {
                for n in 0..200 {
                    hub.publish("a", format!("{thread} {n}")).expect("published");
                }
            })
        })
        .collect();
    let read = |stream: &mut BufReader<TcpStream>| -> Vec<String> {
        (0..800).map(|_| until(stream, "data: ")).collect()
    };
    let (one, two) = (read(&mut first), read(&mut second));
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(one, two);
    for thread in 0..4 {
        let own: Vec<_> = one.iter().filter(|m| m.starts_with(&format!("{thread} "))).collect();
        let expected: Vec<_> = (0..200).map(|n| format!("{thread} {n}")).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn bad_publications_come_back_with_their_reason() {
    let server = Server::bind("127.0.0.1:0").expect("binds");
    let hub = server.hub();
    let reason = |channel: &str, message: Message| {
        hub.publish(channel, message).expect_err("refused").reason
    };
    assert_eq!(reason("not a name", "x".into()), PublishReason::BadChannel);
    assert_eq!(reason("a", Message::bytes(vec![0; 65_537])), PublishReason::TooLarge);
    assert_eq!(reason("a", Message::from("x").event("open")), PublishReason::BadMessage);
    assert!(hub.publish("a", Message::bytes(vec![0; 65_536])).is_ok());
}

#[test]
fn it_nests_in_a_foreign_loop() {
    let mut server = Server::bind("127.0.0.1:0").expect("binds");
    let (at, hub) = (address(&server), server.hub());
    let client = std::thread::spawn(move || {
        let mut stream = listen(at, "a");
        hub.publish("a", "nested").expect("published");
        let heard = until(&mut stream, "data: ");
        drop(stream);
        hub.shutdown(Duration::from_secs(2)).expect("still there");
        heard
    });
    // The outer loop sees nothing but one descriptor and a timeout.
    let mut outer = mio::Poll::new().expect("a poll");
    let fd = server.as_raw_fd();
    let mut source = mio::unix::SourceFd(&fd);
    let interest = mio::Interest::READABLE;
    outer.registry().register(&mut source, mio::Token(0), interest).expect("registers");
    let mut events = mio::Events::with_capacity(8);
    loop {
        outer.poll(&mut events, server.next_timeout()).expect("polls");
        if server.turn(Some(Duration::ZERO)).expect("turns") == Turned::Ended {
            break;
        }
    }
    assert_eq!(client.join().expect("no panic"), "nested");
}

struct Panics;

impl App for Panics {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, request: &Request<'_>) -> Answer<Route> {
        assert_ne!(request.path(), "/panic", "as asked");
        Answer::Done(Route::Pass)
    }
}

#[test]
fn a_panic_in_a_callback_ends_that_server_with_an_error() {
    let server = Config::default().listen("127.0.0.1:0").bind_app(Panics).expect("binds");
    let at = address(&server);
    let running = server.spawn().expect("a thread");
    assert!(ask(at, &get("/health")).starts_with("HTTP/1.1 200 "));
    let mut stream = connect(at);
    stream.write_all(get("/panic").as_bytes()).expect("sent");
    let error = running.join().expect_err("a panic is an error");
    assert_eq!(error.kind(), ErrorKind::Other);
}

/// Drops or joins the server's handle on the server's own thread.
struct Ends(mpsc::Receiver<holdline::Running>);

impl App for Ends {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, request: &Request<'_>) -> Answer<Route> {
        let Ok(running) = self.0.try_recv() else { return Answer::Done(Route::Pass) };
        let said = match request.path() {
            "/join" => running.join().expect_err("it cannot wait for itself").to_string(),
            _ => {
                drop(running);
                "dropped".to_owned()
            }
        };
        Answer::Done(Response::new(200, "text/plain", said).into())
    }
}

#[test]
fn a_callback_that_would_wait_for_its_own_server_does_not() {
    for path in ["/drop", "/join"] {
        let (give, taken) = mpsc::channel();
        let server = Config::default().listen("127.0.0.1:0").bind_app(Ends(taken)).expect("binds");
        let (at, hub) = (address(&server), server.hub());
        give.send(server.spawn().expect("a thread")).expect("the application is there");
        assert!(ask(at, &get(path)).starts_with("HTTP/1.1 200 "), "{path}");
        let _ = hub.shutdown(Duration::ZERO);
        let patience = Instant::now() + Duration::from_secs(20);
        while hub.signal(1).is_ok() {
            assert!(Instant::now() < patience, "it goes on");
        }
    }
}

/// Panics whatever happens to it.
struct Doomed;

impl App for Doomed {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, _: &Request<'_>) -> Answer<Route> {
        panic!("as it must");
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        panic!("to its end");
    }
}

#[test]
fn an_application_that_panics_to_its_end_leaves_no_server_without_it() {
    let mut server = Config::default().listen("127.0.0.1:0").bind_app(Doomed).expect("binds");
    let mut stream = connect(address(&server));
    stream.write_all(get("/").as_bytes()).expect("sent");
    let error = loop {
        match server.turn(Some(Duration::from_secs(1))) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Other);
    server.turn(Some(Duration::ZERO)).expect_err("it has ended");
}

/// Asks another thread about everything.
struct Asks {
    tickets: mpsc::Sender<(Ticket, String)>,
}

impl App for Asks {
    fn authorize(&mut self, cx: &mut Ctx<'_>, id: ConnId, action: Action<'_>) -> Answer<Verdict> {
        let Action::Publish { channel, .. } = action else { return Answer::Done(Verdict::Default) };
        let ticket = cx.ticket(id);
        self.tickets.send((ticket, channel.to_owned())).expect("somebody decides");
        Answer::Later(ticket)
    }
}

#[test]
fn another_thread_decides_who_may_publish() {
    let (tickets, decisions) = mpsc::channel::<(Ticket, String)>();
    let app = Asks { tickets };
    let server = Config::default().listen("127.0.0.1:0").bind_app(app).expect("binds");
    let (at, hub) = (address(&server), server.hub());
    let _running = server.spawn().expect("a thread");
    std::thread::spawn(move || {
        for (ticket, channel) in decisions {
            let verdict = match &*channel {
                "open" => Verdict::Allow,
                "secret" => Verdict::Unauthorized,
                _ => Verdict::Forbidden,
            };
            hub.answer(ticket, verdict).expect("still there");
        }
    });
    assert!(ask(at, &post("/channels/open", "x")).starts_with("HTTP/1.1 202 "));
    assert!(ask(at, &post("/channels/secret", "x")).starts_with("HTTP/1.1 401 "));
    assert!(ask(at, &post("/channels/other", "x")).starts_with("HTTP/1.1 403 "));
    let lines = "{\"channel\":\"open\",\"text\":\"1\"}\n{\"channel\":\"other\",\"text\":\"2\"}";
    let answer = ask(at, &post("/publish", lines));
    assert!(answer.contains("\"subscribers\":0}\n{\"error\":\"forbidden\""), "{answer}");
    let info = ask(at, &get("/channels/open"));
    assert!(info.contains("\"messages\":2"), "each was published once: {info}");
}

struct Greets;

impl App for Greets {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, request: &Request<'_>) -> Answer<Route> {
        Answer::Done(match request.path() {
            "/hello" => Route::Respond(Response::new(200, "text/plain", "hello")),
            "/own" if request.is_websocket() => Route::WebSocket { protocol: Some("own".into()) },
            _ => Route::Pass,
        })
    }

    fn open(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        cx.set_data(id, 41);
        cx.subscribe(id, "news", None).expect("a valid channel");
        cx.timer(Duration::from_millis(20), id.to_bits());
    }

    fn message(&mut self, cx: &mut Ctx<'_>, id: ConnId, kind: Kind, bytes: &[u8]) {
        let data = cx.data(id).expect("it is here");
        cx.set_data(id, data + 1);
        if bytes == b"bye" {
            cx.close(id, 4000, "as asked");
        } else {
            cx.send(id, kind, format!("{data}").as_bytes());
            cx.publish("news", Message::bytes(bytes)).expect("room");
        }
    }

    fn timer(&mut self, cx: &mut Ctx<'_>, key: u64) {
        cx.send(ConnId::from_bits(key), Kind::Text, b"timer");
    }
}

#[test]
fn an_application_has_own_answers_and_websockets_beside_the_built_in_routes() {
    let server = Config::default().listen("127.0.0.1:0").bind_app(Greets).expect("binds");
    let at = address(&server);
    let _running = server.spawn().expect("a thread");
    assert!(ask(at, &get("/hello")).ends_with("\r\n\r\nhello"));
    assert!(ask(at, &get("/health")).starts_with("HTTP/1.1 200 "));
    use tungstenite::client::IntoClientRequest;
    let mut request = format!("ws://{at}/own").into_client_request().expect("a request");
    let headers = request.headers_mut();
    headers.insert("Sec-WebSocket-Protocol", "other, own".parse().expect("a value"));
    let (mut client, response) =
        tungstenite::client(request, connect(at)).expect("a foreign client connects");
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "own");
    assert_eq!(client.read().expect("the timer").to_string(), "timer");
    client.send("first".into()).expect("sent");
    let heard = [client.read().expect("one").to_string(), client.read().expect("two").to_string()];
    assert_eq!(heard, ["41", "first"]);
    client.send("bye".into()).expect("sent");
    match client.read().expect("a close") {
        tungstenite::Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 4000),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_public_address_needs_a_decision() {
    for address in ["0.0.0.0:0", ":0", "[::]:0"] {
        let error = Server::bind(address).expect_err("nothing decides");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("--open"), "{error}");
        assert!(Config::default().open().listen(address).bind().is_ok());
    }
}

#[test]
fn a_turn_sleeps_no_longer_than_asked_and_wakes_for_a_publication() {
    let mut server = Server::bind("127.0.0.1:0").expect("binds");
    let hub = server.hub();
    while server.next_timeout() == Some(Duration::ZERO) {
        server.turn(Some(Duration::ZERO)).expect("turns");
    }
    let (asked, watch) = (Duration::from_millis(20), clock::Lateness::watch());
    let started = Instant::now();
    server.turn(Some(asked)).expect("turns");
    let (took, most) = (started.elapsed(), watch.allow(Duration::from_millis(500)));
    assert!(took < most, "{took:?}, not {most:?}");
    let publisher = std::thread::spawn(move || hub.publish("a", "x").expect("published"));
    // Without the wake this would sleep for ever.
    server.turn(None).expect("turns");
    publisher.join().expect("no panic");
}

#[test]
fn a_shutdown_begins_with_its_delay_and_asking_again_ends_that() {
    let config = Config { drain_delay: Duration::from_secs(60), ..Config::default().open() };
    let server = config.listen("127.0.0.1:0").bind().expect("binds");
    let (at, hub) = (address(&server), server.hub());
    let running = server.spawn().expect("a thread");
    let mut stream = listen(at, "a");
    hub.shutdown(Duration::from_secs(60)).expect("still there");
    while !ask(at, &get("/ready")).starts_with("HTTP/1.1 503 ") {}
    assert!(ask(at, &post("/channels/a", "served")).starts_with("HTTP/1.1 201 "));
    assert_eq!(until(&mut stream, "data: "), "served");
    let began = Instant::now();
    hub.shutdown(Duration::from_secs(30)).expect("still there");
    // One of them, so soon; then it ends by itself.
    until(&mut stream, "retry: ");
    drop(stream);
    running.join().expect("an orderly end");
    assert!(began.elapsed() < Duration::from_secs(30), "half of its delay");
}

#[test]
fn a_shutdown_without_grace_ends_in_one_turn() {
    let mut server = Server::bind("127.0.0.1:0").expect("binds");
    let at = address(&server);
    let client = std::thread::spawn(move || {
        let mut stream = listen(at, "a");
        until(&mut stream, "retry: ")
    });
    while server.engine().subscriptions() == 0 {
        server.turn(Some(Duration::from_millis(20))).expect("turns");
    }
    assert!(!server.is_shutting_down());
    server.shutdown(Duration::ZERO);
    assert!(server.is_shutting_down());
    assert_eq!(server.turn(Some(Duration::ZERO)).expect("turns"), Turned::Ended);
    assert_eq!(server.turn(None).expect("it does not sleep"), Turned::Ended);
    assert!(!client.join().expect("told all the same").is_empty());
}

#[test]
fn a_second_shutdown_without_grace_ends_its_delay_too() {
    let config = Config { drain_delay: Duration::from_secs(60), ..Config::default() };
    let mut server = config.listen("127.0.0.1:0").bind().expect("binds");
    let _idle = connect(address(&server));
    while server.engine().is_empty() {
        server.turn(Some(Duration::from_millis(20))).expect("turns");
    }
    server.shutdown(Duration::from_secs(60));
    assert_eq!(server.turn(Some(Duration::ZERO)).expect("turns"), Turned::Running);
    server.shutdown(Duration::ZERO);
    assert_eq!(server.turn(Some(Duration::ZERO)).expect("turns"), Turned::Ended);
}

#[test]
fn listeners_that_others_bound_are_served_and_left_when_it_drains() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = socket.local_addr().expect("its address");
    let bind = |config: Config| {
        let clone = socket.try_clone().expect("a descriptor");
        config.bind_with(vec![Inherited::Tcp(clone)], None).expect("binds")
    };
    let first = bind(Config::default());
    assert_eq!(first.local_addrs(), [LocalAddr::Tcp(at)], "and not the default");
    let hub = first.hub();
    let running = first.spawn().expect("a thread");
    let mut stream = listen(at, "a");
    hub.shutdown(Duration::from_secs(20)).expect("still there");
    until(&mut stream, "retry: ");
    // Nobody takes this one until there is another server.
    let late = std::thread::spawn(move || ask(at, &get("/ready")));
    drop(stream);
    running.join().expect("an orderly end");
    let _running = bind(Config::default().listen("127.0.0.1:0")).spawn().expect("a thread");
    assert!(late.join().expect("an answer").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_flood_on_one_listener_keeps_no_other_waiting() {
    for flooded in [0, 1] {
        let config = Config { accepts_per_turn: 2, ..Config::default() };
        let mut server = config.listen("127.0.0.1:0").listen("127.0.0.1:0").bind().expect("binds");
        let at: Vec<SocketAddr> = server
            .local_addrs()
            .iter()
            .map(|one| match one {
                LocalAddr::Tcp(address) => *address,
                other => panic!("no TCP address: {other:?}"),
            })
            .collect();
        let crowd: Vec<TcpStream> = (0..100).map(|_| connect(at[flooded])).collect();
        let mut one = connect(at[1 - flooded]);
        one.write_all(get("/health").as_bytes()).expect("sent");
        one.set_nonblocking(true).expect("nonblocking");
        let mut turns = 0;
        while one.read(&mut [0; 16]).is_err() {
            server.turn(Some(Duration::ZERO)).expect("turns");
            turns += 1;
            assert!(turns < 8, "two in each turn, and it waits for all of the others");
        }
        assert_eq!(crowd.len(), 100);
    }
}
