//! Several loops as users of the library see them: real sockets, one order, an application for each
//! loop, and nothing left when the server has gone.
#![cfg(feature = "server")]

#[path = "support/clock.rs"]
mod clock;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use holdline::engine::{Answer, Request, Response, Route, Ticket};
use holdline::server::LocalAddr;
use holdline::{App, Config, ConnId, Ctx, Server, Turned};

const LOOPS: usize = 3;

/// Who counts threads and descriptors of the process wants no other test to have any.
static WORLD: RwLock<()> = RwLock::new(());

fn among_others() -> RwLockReadGuard<'static, ()> {
    WORLD.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    WORLD.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Answers `/loop` with the number of its loop, `/later` by a ticket, and panics at `/panic`.
struct Desk {
    number: usize,
    seen: Seen,
}

/// What all applications of a server note.
#[derive(Clone, Default)]
struct Seen {
    /// The loop of each request, in order.
    requests: Arc<Mutex<Vec<usize>>>,
    signals: Arc<Mutex<Vec<(usize, u64)>>>,
    tickets: Option<Sender<(usize, Ticket)>>,
}

impl App for Desk {
    fn request(&mut self, cx: &mut Ctx<'_>, id: ConnId, request: &Request<'_>) -> Answer<Route> {
        self.seen.requests.lock().expect("no panic").push(self.number);
        Answer::Done(match request.path() {
            "/loop" => Route::Respond(text(self.number.to_string())),
            "/panic" => panic!("on purpose"),
            "/later" => {
                let ticket = cx.ticket(id);
                let tickets = self.seen.tickets.as_ref().expect("somebody answers");
                tickets.send((self.number, ticket)).expect("somebody answers");
                return Answer::Later(ticket);
            }
            _ => Route::Pass,
        })
    }

    fn signal(&mut self, _: &mut Ctx<'_>, value: u64) {
        self.seen.signals.lock().expect("no panic").push((self.number, value));
    }
}

fn text(body: String) -> Response {
    Response::new(200, "text/plain", body)
}

fn config() -> Config {
    Config::default().open().loops(LOOPS as u32).listen("127.0.0.1:0")
}

fn bind(config: Config, seen: &Seen) -> Server {
    config.bind_apps(|number| Desk { number, seen: seen.clone() }).expect("binds")
}

fn address(server: &Server) -> SocketAddr {
    match server.local_addrs().first() {
        Some(LocalAddr::Tcp(address)) => *address,
        other => panic!("no TCP address: {other:?}"),
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

/// One request on a connection that stays; status and body.
fn ask(stream: &mut TcpStream, path: &str) -> (u16, String) {
    send(stream, path);
    answer(&mut BufReader::new(stream))
}

fn send(stream: &mut TcpStream, path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
}

fn answer(reader: &mut impl BufRead) -> (u16, String) {
    let status = until(reader, "HTTP/1.1 ")[..3].parse().expect("a status");
    let length = until(reader, "Content-Length: ").parse().expect("a length");
    until(reader, "\r\n");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    (status, String::from_utf8(body).expect("text"))
}

fn post(stream: &mut TcpStream, channel: &str, body: &str) {
    let length = body.len();
    let head = format!("POST /channels/{channel} HTTP/1.1\r\nHost: localhost\r\n");
    let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("sent");
    let (status, body) = answer(&mut BufReader::new(stream));
    assert!(matches!(status, 201 | 202), "{status} {body}");
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

/// An event stream that has begun, after the position if one is given.
fn listen(address: SocketAddr, channel: &str, last: Option<&str>) -> BufReader<TcpStream> {
    let mut stream = connect(address);
    let last = last.map_or_else(String::new, |last| format!("Last-Event-ID: {last}\r\n"));
    let head = format!("GET /channels/{channel} HTTP/1.1\r\nHost: localhost\r\n{last}");
    stream.write_all(format!("{head}Accept: text/event-stream\r\n\r\n").as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream);
    until(&mut reader, "retry: ");
    reader
}

/// So many messages of a stream, each with its id.
fn hear(stream: &mut impl BufRead, count: usize) -> Vec<(String, String)> {
    let mut one = || {
        let (mut id, mut data) = (String::new(), None);
        while data.is_none() {
            let mut line = String::new();
            assert_ne!(stream.read_line(&mut line).expect("a line"), 0, "it ended");
            if let Some(rest) = line.strip_prefix("id: ") {
                id = rest.trim_end().to_owned();
            }
            data = line.strip_prefix("data: ").map(|rest| rest.trim_end().to_owned());
        }
        (id, data.expect("just found"))
    };
    (0..count).map(|_| one()).collect()
}

/// Looks until it is so.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < patience, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_reset(end: &std::io::Result<usize>) -> bool {
    matches!(end, Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

/// Threads of loops that are not the first.
fn loop_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("the process's threads");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("holdline-")).count()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("the process's descriptors").count()
}

#[test]
fn connections_go_to_the_loop_that_has_the_fewest() {
    let _world = among_others();
    let server = bind(config(), &Seen::default());
    let at = address(&server);
    let _running = server.spawn().expect("a thread");
    let mut count = [0; LOOPS];
    let mut crowd: Vec<(usize, TcpStream)> = Vec::new();
    let enter = |crowd: &mut Vec<_>, count: &mut [usize]| {
        let mut stream = connect(at);
        let number: usize = ask(&mut stream, "/loop").1.parse().expect("a number");
        count[number] += 1;
        crowd.push((number, stream));
    };
    (0..30).for_each(|_| enter(&mut crowd, &mut count));
    assert_eq!(count, [10; LOOPS]);
    // Those of one loop go, and who comes then takes their places.
    crowd.retain(|(number, _)| *number != 2);
    count[2] = 0;
    wait_for("the loop has room", || {
        let before = count;
        enter(&mut crowd, &mut count);
        count[2] > before[2]
    });
    while count[2] < 9 {
        enter(&mut crowd, &mut count);
    }
    assert!(count.iter().max().expect("loops") - count.iter().min().expect("loops") <= 5);
}

#[test]
fn everything_published_has_one_order_for_the_listeners_of_all_loops() {
    let _world = among_others();
    let server = bind(config(), &Seen::default());
    let (at, hub) = (address(&server), server.hub());
    let _running = server.spawn().expect("a thread");
    let mut streams: Vec<_> = (0..2 * LOOPS).map(|_| listen(at, "a", None)).collect();
    let by_hub = (0..2).map(|who| {
        let hub = hub.clone();
        std::thread::spawn(move || {
            (0..200).for_each(|n| _ = hub.publish("a", format!("hub{who} {n}")).expect("room"));
        })
    });
    let by_post = (0..LOOPS).map(|who| {
        std::thread::spawn(move || {
            let mut stream = connect(at);
            (0..200).for_each(|n| post(&mut stream, "a", &format!("post{who} {n}")));
        })
    });
    let threads: Vec<_> = by_hub.chain(by_post).collect();
    let count = 200 * (2 + LOOPS);
    let heard: Vec<_> = streams.iter_mut().map(|stream| hear(stream, count)).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    for other in &heard[1..] {
        assert_eq!(other, &heard[0]);
    }
    let seqs = heard[0].iter().map(|(id, _)| {
        id.rsplit('-').next().and_then(|seq| seq.parse::<u64>().ok()).expect("a position")
    });
    assert_eq!(
        seqs.clone().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(),
        seqs.collect::<Vec<_>>()
    );
    for who in ["hub0", "hub1", "post0", "post1", "post2"] {
        let own = heard[0].iter().filter(|(_, data)| data.starts_with(who));
        let expected: Vec<_> = (0..200).map(|n| format!("{who} {n}")).collect();
        assert_eq!(own.map(|(_, data)| data.clone()).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn who_comes_back_to_another_loop_misses_nothing() {
    let _world = among_others();
    let seen = Seen::default();
    let server = bind(config(), &seen);
    let (at, hub) = (address(&server), server.hub());
    let _running = server.spawn().expect("a thread");
    let mut stream = listen(at, "a", None);
    let mut last = String::new();
    let mut loops = BTreeSet::new();
    let mut others = Vec::new();
    for n in 0..2 * LOOPS {
        let number = *seen.requests.lock().expect("no panic").last().expect("a request");
        loops.insert(number);
        hub.publish("a", format!("here {n}")).expect("room");
        let heard = hear(&mut stream, if n == 0 { 1 } else { 2 });
        let data: Vec<_> = heard.iter().map(|(_, data)| data.clone()).collect();
        let away = format!("away {}", n.wrapping_sub(1));
        let expected = [away, format!("here {n}")];
        assert_eq!(data, if n == 0 { &expected[1..] } else { &expected[..] });
        last.clone_from(&heard.last().expect("a message").0);
        drop(stream);
        hub.publish("a", format!("away {n}")).expect("room");
        // Somebody else takes the place, once it is free.
        wait_for("nobody listens", || hub.stats().loops.connections.sse == 0);
        let mut other = connect(at);
        ask(&mut other, "/loop");
        others.push(other);
        stream = listen(at, "a", Some(&last));
    }
    assert!(loops.len() > 1, "always on the same: {loops:?}");
}

#[test]
fn a_signal_reaches_the_application_of_every_loop() {
    let _world = among_others();
    let seen = Seen::default();
    let server = bind(config(), &seen);
    let hub = server.hub();
    let _running = server.spawn().expect("a thread");
    hub.signal(7).expect("still there");
    hub.signal(8).expect("still there");
    let signals = || seen.signals.lock().expect("no panic").clone();
    wait_for("signals on all loops", || signals().len() >= 2 * LOOPS);
    let expected: Vec<_> = (0..LOOPS).flat_map(|number| [(number, 7), (number, 8)]).collect();
    let mut found = signals();
    found.sort_by_key(|(number, _)| *number); // each loop hears them in order
    assert_eq!(found, expected);
}

#[test]
fn a_ticket_is_answered_whatever_loop_its_connection_is_on() {
    let _world = among_others();
    let (tickets, asked) = mpsc::channel();
    let server = bind(config(), &Seen { tickets: Some(tickets), ..Seen::default() });
    let (at, hub) = (address(&server), server.hub());
    let _running = server.spawn().expect("a thread");
    let desk = std::thread::spawn(move || {
        let answers = asked.iter().take(LOOPS).map(|(number, ticket)| {
            hub.answer(ticket, text(format!("from {number}"))).expect("room");
            number
        });
        answers.collect::<BTreeSet<_>>()
    });
    let mut streams: Vec<_> = (0..LOOPS).map(|_| connect(at)).collect();
    streams.iter_mut().for_each(|stream| send(stream, "/later"));
    let answers = streams.iter_mut().map(|stream| answer(&mut BufReader::new(stream)));
    let answers: BTreeSet<_> = answers.collect();
    let expected = (0..LOOPS).map(|number| (200, format!("from {number}")));
    assert_eq!(answers, expected.collect());
    assert_eq!(desk.join().expect("no panic"), (0..LOOPS).collect());
}

#[test]
fn a_panic_on_any_loop_ends_the_server_with_an_error() {
    let _world = alone();
    for wanted in 0..LOOPS {
        let server = bind(config(), &Seen::default());
        let at = address(&server);
        let running = server.spawn().expect("a thread");
        let mut streams: Vec<_> = (0..LOOPS).map(|_| connect(at)).collect();
        let is_wanted = |stream: &mut TcpStream| ask(stream, "/loop").1 == wanted.to_string();
        let found: Vec<_> = streams.iter_mut().map(is_wanted).collect();
        let at = found.iter().position(|found| *found).expect("one each");
        send(&mut streams[at], "/panic");
        let error = running.join().expect_err("it panicked");
        assert!(error.to_string().contains("application panicked"), "{error}");
        wait_for("no thread", || loop_threads() == 0);
        // Who panicked was told so; then all of them have ended.
        for mut stream in streams {
            let end = stream.read_to_end(&mut Vec::new());
            assert!(end.is_ok() || is_reset(&end), "{end:?}");
        }
    }
}

#[test]
fn a_shutdown_is_noticed_said_and_ended_on_all_loops() {
    let _world = alone();
    let server =
        bind(Config { drain_delay: Duration::from_secs(60), ..config() }, &Seen::default());
    let (at, hub) = (address(&server), server.hub());
    let running = server.spawn().expect("a thread");
    let mut probes: Vec<_> = (0..LOOPS).map(|_| connect(at)).collect();
    let loops = probes.iter_mut().map(|probe| ask(probe, "/loop").1).collect::<BTreeSet<_>>();
    assert_eq!(loops.len(), LOOPS);
    let mut streams: Vec<_> = (0..2 * LOOPS).map(|_| listen(at, "a", None)).collect();
    hub.shutdown(Duration::from_secs(60)).expect("still there");
    for probe in &mut probes {
        wait_for("it is not ready", || ask(probe, "/ready").0 == 503);
        assert_eq!(ask(probe, "/health").0, 200);
    }
    hub.publish("a", "still served").expect("room");
    streams.iter_mut().for_each(|one| assert_eq!(hear(one, 1)[0].1, "still served"));
    let began = Instant::now();
    hub.shutdown(Duration::from_secs(30)).expect("still there");
    for mut stream in streams {
        until(&mut stream, "retry: ");
        stream.read_to_end(&mut Vec::new()).expect("an end");
    }
    drop(probes);
    running.join().expect("an orderly end");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    wait_for("no thread", || loop_threads() == 0);
}

#[test]
fn a_grace_that_is_over_cuts_who_is_left_on_all_loops() {
    let _world = among_others();
    let mut server = bind(config(), &Seen::default());
    let at = address(&server);
    let client = std::thread::spawn(move || {
        // Heads that never end are nobody's to say goodbye to.
        let streams: Vec<_> = (0..2 * LOOPS).map(|_| connect(at)).collect();
        for mut stream in &streams {
            stream.write_all(b"POST /channels/a HTTP/1.1\r\n").expect("sent");
        }
        streams
    });
    wait_for("connections", || {
        server.turn(Some(Duration::from_millis(5))).expect("turns");
        client.is_finished() && server.engine().len() >= 2
    });
    let (lateness, began) = (clock::Lateness::watch(), Instant::now());
    server.shutdown(Duration::from_millis(300));
    while server.turn(None).expect("turns") == Turned::Running {}
    let (took, most) = (began.elapsed(), lateness.allow(Duration::from_secs(5)));
    assert!(took >= Duration::from_millis(200) && took < most, "{took:?}, not {most:?}");
    assert_eq!(server.turn(None).expect("it does not sleep"), Turned::Ended);
    drop(server);
    for mut stream in client.join().expect("no panic") {
        let end = stream.read_to_end(&mut Vec::new());
        assert!(end.is_ok() || is_reset(&end), "{end:?}");
    }
}

/// Their sockets are on the way to other loops, or just there.
#[test]
fn who_comes_just_before_the_end_is_answered() {
    let _world = among_others();
    for turns in [1, 1, 2, 2, 3, 3] {
        let mut server = bind(config(), &Seen::default());
        let at = address(&server);
        let mut streams: Vec<_> = (0..4 * LOOPS).map(|_| connect(at)).collect();
        streams.iter_mut().for_each(|stream| send(stream, "/loop"));
        for _ in 0..turns {
            server.turn(Some(Duration::ZERO)).expect("turns");
        }
        server.shutdown(Duration::from_secs(20));
        let clients = std::thread::spawn(move || {
            let answers = streams.iter_mut().map(|stream| answer(&mut BufReader::new(stream)).0);
            answers.collect::<Vec<_>>()
        });
        while server.turn(None).expect("turns") == Turned::Running {}
        assert_eq!(clients.join().expect("no panic"), [200; 4 * LOOPS]);
    }
}

#[test]
fn dropping_a_server_leaves_no_thread_and_no_descriptor() {
    let _world = alone();
    let before = descriptors();
    // Not turned at all; turned, and some sockets still on their way; and with listeners everywhere.
    for turns in [0, 1, 2, 50] {
        let mut server = bind(config(), &Seen::default());
        let at = address(&server);
        let client = std::thread::spawn(move || (0..12).map(|_| connect(at)).collect::<Vec<_>>());
        let clients = client.join().expect("no panic");
        for _ in 0..turns {
            server.turn(Some(Duration::from_millis(1))).expect("turns");
        }
        let expected = if turns == 0 { 0 } else { LOOPS - 1 };
        wait_for("threads", || loop_threads() == expected);
        let hub = server.hub();
        drop(server);
        wait_for(&format!("no thread after {turns} turns"), || loop_threads() == 0);
        assert!(hub.signal(1).is_err());
        for mut stream in clients {
            let end = stream.read_to_end(&mut Vec::new());
            assert!(matches!(end, Ok(0)) || is_reset(&end), "{end:?}");
        }
    }
    assert_eq!(descriptors(), before);
}

#[test]
fn connections_max_holds_over_all_loops() {
    let _world = among_others();
    let server = bind(Config { connections_max: 7, ..config() }, &Seen::default());
    let at = address(&server);
    let _running = server.spawn().expect("a thread");
    let mut streams: Vec<_> = (0..7).map(|_| connect(at)).collect();
    for stream in &mut streams {
        assert_eq!(ask(stream, "/loop").0, 200);
    }
    for _ in 0..20 {
        let (status, body) = ask(&mut connect(at), "/loop");
        assert_eq!(status, 503, "{body}");
    }
    assert_eq!(ask(&mut connect(at), "/health").0, 200);
    // Whichever loop has room: who goes makes it.
    for number in 0..7 {
        streams.remove(0);
        wait_for(&format!("a place after {number}"), || {
            let mut stream = connect(at);
            let is_in = ask(&mut stream, "/loop").0 == 200;
            if is_in {
                streams.push(stream);
            }
            is_in
        });
        assert_eq!(ask(&mut connect(at), "/loop").0, 503);
    }
}

#[test]
fn every_loop_speaks_for_all_of_them() {
    let _world = among_others();
    let server = bind(config(), &Seen::default());
    let (at, hub) = (address(&server), server.hub());
    let _running = server.spawn().expect("a thread");
    let mut streams: Vec<_> = (0..2 * LOOPS).map(|_| listen(at, "a", None)).collect();
    hub.publish("a", "x").expect("room");
    streams.iter_mut().for_each(|stream| _ = hear(stream, 1));
    let mut probes: Vec<_> = (0..LOOPS).map(|_| connect(at)).collect();
    for probe in &mut probes {
        let mut stats = String::new();
        wait_for("figures of all loops", || {
            stats = ask(probe, "/stats").1;
            ["\"http\":3,", "\"sse\":6,", "\"subscriptions\":6,", "\"delivered\":6,", "\"loops\":3"]
                .iter()
                .all(|part| stats.contains(part))
        });
    }
}

/// Some listeners on all loops, each told of who comes after it, and listed the same everywhere; a
/// poll goes from loop to loop and stays who it is.
#[test]
fn who_listens_is_known_and_told_on_all_loops() {
    const COUNT: usize = 9;
    let _world = among_others();
    let server = bind(config(), &Seen::default());
    let address = address(&server);
    let running = server.spawn().expect("a thread");
    let mut streams: Vec<BufReader<TcpStream>> = Vec::new();
    for number in 0..COUNT {
        let mut stream = connect(address);
        let head = "GET /events?channel=a&presence=1 HTTP/1.0\r\nHost: localhost\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("sent");
        let mut reader = BufReader::new(stream);
        until(&mut reader, "retry: ");
        streams.push(reader);
        for (earlier, stream) in streams[..number].iter_mut().enumerate() {
            let told = until(stream, "data: ");
            assert!(told.contains("\"join\""), "{earlier} of {number}: {told}");
        }
    }
    let mut asking: Vec<_> = (0..2 * LOOPS).map(|_| connect(address)).collect();
    let lists = asking.iter_mut().map(|stream| ask(stream, "/channels/a/presence").1);
    let counts = lists.map(|list| list.matches("\"connection\"").count());
    assert_eq!(counts.collect::<Vec<_>>(), [COUNT; 2 * LOOPS]);
    // One poll after the other, each on a new connection of another loop: one member.
    let cursor = running.hub().publish("b", "x").expect("room").id;
    for _ in 0..2 * LOOPS {
        let mut poll = connect(address);
        let (status, _) = ask(&mut poll, &format!("/poll?channel=a&since={cursor}&wait=0"));
        assert_eq!(status, 200);
        asking.push(poll); // so that the next comes to another loop
    }
    let first = until(&mut streams[0], "data: ");
    assert!(first.contains("\"join\""), "{first}");
    let (_, list) = ask(&mut asking[0], "/channels/a/presence");
    assert_eq!(list.matches("\"connection\"").count(), COUNT + 1, "{list}");
    drop(streams);
    running.hub().shutdown(Duration::ZERO).expect("it goes");
    running.join().expect("an orderly end");
}

#[test]
fn it_nests_in_a_foreign_loop() {
    let _world = among_others();
    let mut server = bind(config(), &Seen::default());
    let (at, hub) = (address(&server), server.hub());
    let client = std::thread::spawn(move || {
        let mut streams: Vec<_> = (0..2 * LOOPS).map(|_| listen(at, "a", None)).collect();
        hub.publish("a", "nested").expect("published");
        let heard: BTreeSet<_> = streams.iter_mut().map(|one| hear(one, 1)[0].1.clone()).collect();
        drop(streams);
        hub.shutdown(Duration::from_secs(5)).expect("still there");
        heard
    });
    // The outer loop sees nothing but one descriptor and a timeout, and is woken by each edge once.
    let mut outer = mio::Poll::new().expect("a poll");
    let fd = server.as_raw_fd();
    let mut source = mio::unix::SourceFd(&fd);
    outer
        .registry()
        .register(&mut source, mio::Token(0), mio::Interest::READABLE)
        .expect("registers");
    let mut events = mio::Events::with_capacity(8);
    // The threads begin with the first turn.
    let mut turned = server.turn(Some(Duration::ZERO)).expect("turns");
    while turned == Turned::Running {
        outer.poll(&mut events, server.next_timeout()).expect("polls");
        turned = server.turn(Some(Duration::ZERO)).expect("turns");
    }
    assert_eq!(client.join().expect("no panic"), BTreeSet::from(["nested".to_owned()]));
}

#[test]
fn what_was_published_on_any_loop_is_kept_at_the_end() {
    let _world = among_others();
    let dir = std::env::temp_dir().join(format!("holdline-loops-{}", std::process::id()));
    let config = || Config { data: Some(dir.clone()), ..config() };
    let server = config().bind().expect("binds");
    let (at, hub) = (address(&server), server.hub());
    let running = server.spawn().expect("a thread");
    let mut streams: Vec<_> = (0..LOOPS).map(|_| connect(at)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        post(stream, "a", &format!("kept {number}"));
    }
    drop(streams);
    hub.shutdown(Duration::from_secs(10)).expect("still there");
    running.join().expect("an orderly end");
    let server = config().bind().expect("binds");
    let at = address(&server);
    let running = server.spawn().expect("a thread");
    let (_, body) = ask(&mut connect(at), "/poll?channel=a&since=earliest");
    drop(running);
    fs::remove_dir_all(&dir).expect("removed");
    let found: Vec<_> = (0..LOOPS).filter(|n| body.contains(&format!("kept {n}"))).collect();
    assert_eq!(found, [0, 1, 2], "{body}");
}

#[test]
fn one_application_for_several_loops_and_too_many_loops_are_refused() {
    let _world = among_others();
    let desk = |number| Desk { number, seen: Seen::default() };
    let error = config().bind_app(desk(0)).expect_err("one for three");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("bind_apps"), "{error}");
    for error in [config().loops(65).bind().expect_err("no"), {
        config().loops(65).bind_apps(desk).expect_err("no")
    }] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("at most 64"), "{error}");
    }
    assert!(config().loops(0).bind_app(desk(0)).is_ok(), "0 is 1");
    assert!(config().loops(64).bind().is_ok());
}
