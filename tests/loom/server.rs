//! Whole servers and their handles for other threads: what is asked of a loop that sleeps, or ends.
//! Sockets are real, and everything that comes by them is there before a model's threads start.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdline::engine::{Action, Answer, Ctx, Push, Request, Route, Ticket, Verdict};
use holdline::server::{HubError, PublishReason};
use holdline::{App, Config, ConnId, Hub, Server, Turned};

use super::{model, spawn};

/// As long as no model lasts: an end that needs it is none.
const LONG: Duration = Duration::from_secs(3_600);

/// A socket file of a model's own.
fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("holdline-loom-{}-{name}", std::process::id()))
}

/// Everything that the system would be asked for is given, and small.
fn config(name: &str) -> Config {
    let config = Config {
        memory_bytes: 1 << 20,
        connections_max: 16,
        receive_buffer: 1_024,
        ..Config::default().open()
    };
    config.listen(format!("unix:{}", path(name).display()))
}

/// Notes what its callbacks are told, and leaves deciding to others.
#[derive(Clone, Default)]
struct Notes {
    signals: Arc<Mutex<Vec<u64>>>,
    tickets: Arc<Mutex<Vec<Ticket>>>,
}

impl App for Notes {
    fn authorize(&mut self, cx: &mut Ctx<'_>, id: ConnId, action: Action<'_>) -> Answer<Verdict> {
        if !matches!(action, Action::Publish { .. }) {
            return Answer::Done(Verdict::Allow);
        }
        let ticket = cx.ticket(id);
        self.tickets.lock().expect("no panic").push(ticket);
        Answer::Later(ticket)
    }

    fn signal(&mut self, _: &mut Ctx<'_>, value: u64) {
        self.signals.lock().expect("no panic").push(value);
    }
}

/// A client whose request has been sent.
fn client(name: &str, request: &str) -> UnixStream {
    let mut stream = UnixStream::connect(path(name)).expect("connects");
    stream.set_nonblocking(true).expect("a mode");
    stream.write_all(request.as_bytes()).expect("sent");
    stream
}

const LISTEN: &str =
    "GET /channels/a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";

/// Adds what has come; whether that was the end.
fn read(stream: &mut UnixStream, into: &mut Vec<u8>) -> bool {
    match stream.read_to_end(into) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        // It was dropped with bytes in it that nobody had read.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => panic!("{error}"),
    }
}

fn turn(server: &mut Server) {
    assert_eq!(server.turn(None).expect("turns"), Turned::Running);
}

/// Once it has ended, it has ended for everybody.
fn assert_closed(hub: &Hub) {
    assert_eq!(hub.publish("a", "late").expect_err("late").reason, PublishReason::Closed);
    assert_eq!(hub.signal(1), Err(HubError::Closed));
    assert_eq!(hub.shutdown(LONG), Err(HubError::Closed));
}

/// Published, or late; nothing else can be.
fn publish(hub: &Hub, text: &str) -> bool {
    match hub.publish("a", text) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.reason, PublishReason::Closed);
            false
        }
    }
}

#[test]
fn a_server_sleeps_over_nothing_that_is_published() {
    model("hub, publish", 3, || {
        let mut server = config("publish").bind().expect("binds");
        let hub = server.hub();
        let publisher = spawn(move || assert!(publish(&hub, "x") && publish(&hub, "y")));
        while server.engine().horizon() < 2 {
            turn(&mut server);
        }
        publisher.join().expect("no panic");
    });
}

#[test]
fn a_server_sleeps_over_nothing_that_is_asked() {
    model("hub, signals", 2, || {
        let notes = Notes::default();
        let mut server = config("signals").bind_app(notes.clone()).expect("binds");
        let threads = [10, 20].map(|from| {
            let hub = server.hub();
            spawn(move || [from, from + 1].map(|value| hub.signal(value).expect("still there")))
        });
        let seen = || notes.signals.lock().expect("no panic").clone();
        while seen().len() < 4 {
            turn(&mut server);
        }
        threads.into_iter().for_each(|thread| {
            thread.join().expect("no panic");
        });
        let of = |ten| seen().into_iter().filter(|value| value / 10 == ten).collect::<Vec<_>>();
        assert_eq!((of(1), of(2)), (vec![10, 11], vec![20, 21]));
    });
}

#[test]
fn an_answer_from_another_thread_wakes_the_loop_that_waits_for_it() {
    model("hub, answer", 3, || {
        let notes = Notes::default();
        let mut server = config("answer").bind_app(notes.clone()).expect("binds");
        let request = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
        let mut client = client("answer", request);
        let ticket = || notes.tickets.lock().expect("no panic").pop();
        let ticket = loop {
            match ticket() {
                Some(ticket) => break ticket,
                None => turn(&mut server),
            }
        };
        let hub = server.hub();
        let decides = spawn(move || hub.answer(ticket, Verdict::Allow).expect("still there"));
        let mut answer = Vec::new();
        while answer.is_empty() {
            turn(&mut server);
            assert!(!read(&mut client, &mut answer));
        }
        assert!(answer.starts_with(b"HTTP/1.1 202 "));
        decides.join().expect("no panic");
    });
}

#[test]
fn a_subscription_hears_what_is_published_once_it_has_been_asked_for() {
    model("hub, subscribe, publish", 2, || {
        let mut server = config("subscribe").bind().expect("binds");
        let hub = server.hub();
        let heard: Arc<Mutex<Vec<u64>>> = Arc::default();
        let into = Arc::clone(&heard);
        let note = move |push| {
            if let Push::Message { id, .. } = push {
                into.lock().expect("no panic").push(id.seq);
            }
        };
        let other = spawn(move || {
            assert!(publish(&hub, "before"));
            let subscription = hub.subscribe_with(&["a"], None, note).expect("room");
            assert!(publish(&hub, "x") && publish(&hub, "y"));
            subscription
        });
        while heard.lock().expect("no panic").len() < 2 {
            turn(&mut server);
        }
        let subscription = other.join().expect("no panic");
        assert_eq!(*heard.lock().expect("no panic"), [2, 3]);
        assert!(subscription.position().is_some_and(|position| position.seq <= 3));
        drop(subscription);
        turn(&mut server);
        assert_eq!(server.engine().subscriptions(), 0);
    });
}

#[test]
fn a_shutdown_ends_the_loop_whatever_it_races_with() {
    model("shutdown, publish, doze", 2, || {
        let server = config("shutdown").bind().expect("binds");
        let hub = server.hub();
        let running = server.spawn().expect("a thread");
        let publisher = spawn({
            let hub = hub.clone();
            move || {
                let (first, second) = (publish(&hub, "x"), publish(&hub, "y"));
                assert!(first || !second, "it came back");
            }
        });
        hub.shutdown(LONG).expect("still there");
        running.join().expect("in order");
        assert_closed(&hub);
        publisher.join().expect("no panic");
    });
}

#[test]
fn what_was_published_before_the_end_goes_out() {
    model("publish, then shutdown", 3, || {
        let mut server = config("goodbye").bind().expect("binds");
        let mut client = client("goodbye", LISTEN);
        while server.engine().subscriptions() == 0 {
            turn(&mut server);
        }
        let hub = server.hub();
        let running = server.spawn().expect("a thread");
        assert!(publish(&hub, "last words"));
        hub.shutdown(Duration::ZERO).expect("still there");
        running.join().expect("in order");
        let mut heard = Vec::new();
        assert!(read(&mut client, &mut heard), "the connection is still open");
        let heard = String::from_utf8(heard).expect("text");
        assert_eq!(heard.matches("last words").count(), 1, "{heard}");
        assert_closed(&hub);
    });
}

#[test]
fn dropping_the_handle_of_a_server_ends_it() {
    model("drop, publish, signal", 2, || {
        let server = config("drop").bind().expect("binds");
        let hub = server.hub();
        let running = server.spawn().expect("a thread");
        let other = spawn({
            let hub = hub.clone();
            move || {
                publish(&hub, "x");
                hub.signal(1)
            }
        });
        drop(running);
        assert_closed(&hub);
        let signalled = other.join().expect("no panic");
        assert!(matches!(signalled, Ok(()) | Err(HubError::Closed)));
    });
}

#[test]
fn two_shutdowns_are_one() {
    model("two shutdowns", 2, || {
        let server = config("twice").bind().expect("binds");
        let hub = server.hub();
        let running = server.spawn().expect("a thread");
        let other = spawn({
            let hub = hub.clone();
            move || hub.shutdown(Duration::ZERO)
        });
        drop(running);
        assert_closed(&hub);
        assert!(matches!(other.join().expect("no panic"), Ok(()) | Err(HubError::Closed)));
    });
}

/// Nobody turns it: it goes while others still hold its handles, and the last of those after it.
#[test]
fn a_server_and_its_handles_go_in_any_order() {
    model("drop of both halves", 3, || {
        let server = config("halves").bind().expect("binds");
        let (hub, last) = (server.hub(), server.hub());
        let other = spawn(move || {
            let (first, second) = (publish(&hub, "x"), publish(&hub, "y"));
            assert!(first || !second, "it came back");
        });
        drop(server);
        assert_closed(&last);
        other.join().expect("no panic");
        assert_closed(&last);
    });
}

/// Of two loops, the second has all connections that come one by one (the first accepts them).
fn two_loops(name: &str) -> Config {
    config(name).loops(2)
}

/// What the applications of two loops have seen, and who waits for that.
#[derive(Clone, Default)]
struct Arrivals(Arc<(loom::sync::Mutex<Vec<usize>>, loom::sync::Condvar)>);

impl Arrivals {
    fn note(&self, number: usize) {
        let (seen, changed) = &*self.0;
        seen.lock().expect("no panic").push(number);
        changed.notify_one();
    }

    fn wait_for(&self, count: usize) -> Vec<usize> {
        let (seen, changed) = &*self.0;
        let mut seen = seen.lock().expect("no panic");
        while seen.len() < count {
            seen = changed.wait(seen).expect("no panic");
        }
        seen.sort_unstable();
        seen.clone()
    }
}

/// Says on which loop something arrived.
struct Usher(usize, Arrivals);

impl App for Usher {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, _: &Request<'_>) -> Answer<Route> {
        self.1.note(self.0);
        Answer::Done(Route::Pass)
    }

    fn signal(&mut self, _: &mut Ctx<'_>, _: u64) {
        self.1.note(self.0);
    }
}

#[test]
fn no_loop_sleeps_over_a_socket_that_it_is_handed() {
    model("two loops, a socket", 2, || {
        let arrivals = Arrivals::default();
        let make = |number| Usher(number, arrivals.clone());
        let server = two_loops("handed").bind_apps(make).expect("binds");
        let hub = server.hub();
        let mut client = client("handed", LISTEN);
        let running = server.spawn().expect("a thread");
        assert_eq!(arrivals.wait_for(1), [1]);
        hub.shutdown(Duration::ZERO).expect("still there");
        running.join().expect("in order");
        assert!(read(&mut client, &mut Vec::new()), "the connection is still open");
    });
}

#[test]
fn a_socket_on_its_way_when_the_server_ends_is_not_left_open() {
    model("two loops, a socket, a shutdown", 2, || {
        let mut server = two_loops("late").bind().expect("binds");
        let mut client = client("late", LISTEN);
        // Handed over, and perhaps not yet taken.
        assert_eq!(server.turn(Some(Duration::ZERO)).expect("turns"), Turned::Running);
        assert!(server.engine().is_empty());
        server.shutdown(Duration::ZERO);
        while server.turn(None).expect("turns") == Turned::Running {}
        assert!(read(&mut client, &mut Vec::new()), "the connection is still open");
    });
}

#[test]
fn a_server_that_is_dropped_takes_its_loops_and_their_sockets_along() {
    model("two loops, a socket, a drop", 3, || {
        let mut server = two_loops("dropped").bind().expect("binds");
        let hub = server.hub();
        let mut client = client("dropped", LISTEN);
        assert_eq!(server.turn(Some(Duration::ZERO)).expect("turns"), Turned::Running);
        let other = spawn({
            let hub = hub.clone();
            move || publish(&hub, "x")
        });
        drop(server);
        assert!(read(&mut client, &mut Vec::new()), "the connection is still open");
        assert_closed(&hub);
        other.join().expect("no panic");
    });
}

/// Nothing but the signal wakes them here, each by its own bell.
#[test]
fn no_loop_sleeps_over_a_signal() {
    model("two loops, a signal", 2, || {
        let arrivals = Arrivals::default();
        let make = |number| Usher(number, arrivals.clone());
        let server = two_loops("all").bind_apps(make).expect("binds");
        let hub = server.hub();
        let running = server.spawn().expect("a thread");
        hub.signal(1).expect("still there");
        assert_eq!(arrivals.wait_for(2), [0, 1]);
        drop(running);
        assert_closed(&hub);
    });
}

#[test]
fn what_was_published_before_the_end_goes_out_on_another_loop() {
    model("two loops, publish, then shutdown", 2, || {
        let mut server = two_loops("other").bind().expect("binds");
        let mut client = client("other", LISTEN);
        assert_eq!(server.turn(Some(Duration::ZERO)).expect("turns"), Turned::Running);
        let hub = server.hub();
        let publisher = spawn({
            let hub = hub.clone();
            move || hub.publish("a", "last words").map_or(0, |published| published.subscribers)
        });
        let joined = publisher.join().expect("no panic");
        server.shutdown(Duration::ZERO);
        while server.turn(None).expect("turns") == Turned::Running {}
        let mut heard = Vec::new();
        assert!(read(&mut client, &mut heard), "the connection is still open");
        let heard = String::from_utf8(heard).expect("text");
        // Who joins at that very moment may hear it uncounted.
        let count = heard.matches("last words").count();
        assert!(count <= 1 && count >= joined as usize, "{joined} joined: {heard}");
        assert_closed(&hub);
    });
}
