//! What other threads may ask of a server, and the program's own subscriptions.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdline::engine::{Answer, App, ConnId, Ctx, Push, Request, Route};
use holdline::server::{HubError, PublishReason, SubscribeError};
use holdline::{Config, Hub, Message, Server, Since, Turned};

use super::{address, ask, connect, get, listen, until};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn bound() -> Server {
    Server::bind("127.0.0.1:0").expect("binds")
}

/// The text of the next message.
fn text(pushes: &Receiver<Push>) -> Option<String> {
    loop {
        match pushes.recv_timeout(LONG) {
            Ok(Push::Message { publication, .. }) => {
                return Some(String::from_utf8_lossy(publication.payload()).into_owned());
            }
            Ok(Push::Live { .. }) => {}
            Ok(other) => panic!("{other:?}"),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing comes"),
        }
    }
}

fn texts(pushes: &Receiver<Push>) -> Vec<String> {
    std::iter::from_fn(|| text(pushes)).collect()
}

#[test]
fn what_many_threads_publish_comes_by_a_channel_once_and_in_order_until_the_end() {
    const EACH: usize = 2_000;
    // History is never too short for a reader that is slow for a moment.
    let config = Config { history_messages: 3 * EACH, ..Config::default() };
    let server = config.listen("127.0.0.1:0").bind().expect("binds");
    let (hub, running) = (server.hub(), server.spawn().expect("a thread"));
    // Far fewer places than messages: it is full most of the time.
    let (sender, pushes) = sync_channel(16);
    let subscription = hub.subscribe(&["a", "b"], None, sender).expect("room");
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let hub = hub.clone();
            std::thread::spawn(move || {
                for n in 0..EACH / 10 {
                    let batch = (0..10).map(|m| (["a", "b"][m % 2], format!("{thread} {n} {m}")));
                    let results = hub.publish_many(batch);
                    assert!(results.iter().all(Result::is_ok), "{results:?}");
                }
            })
        })
        .collect();
    let reader = std::thread::spawn(move || {
        let (mut ids, mut texts) = (Vec::new(), Vec::new());
        for push in pushes {
            match push {
                Push::Message { id, publication } => {
                    ids.push(id.seq);
                    texts.push(String::from_utf8_lossy(publication.payload()).into_owned());
                }
                Push::Live { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        (ids, texts)
    });
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let started = Instant::now();
    while subscription.position().is_none_or(|position| position.seq < 3 * EACH as u64) {
        assert!(started.elapsed() < LONG, "it stands at {:?}", subscription.position());
        std::thread::yield_now();
    }
    drop(running);
    let (ids, texts) = reader.join().expect("no panic");
    assert_eq!(ids, (1..=3 * EACH as u64).collect::<Vec<_>>());
    for thread in 0..3 {
        let own = texts.iter().filter(|text| text.starts_with(&format!("{thread} ")));
        let wanted = (0..EACH).map(|n| format!("{thread} {} {}", n / 10, n % 10));
        assert!(own.eq(&wanted.collect::<Vec<_>>()), "those of thread {thread} in their order");
    }
    assert!(subscription.is_ended());
}

#[test]
fn what_is_published_before_the_end_is_handed_over() {
    let server = bound();
    let (hub, running) = (server.hub(), server.spawn().expect("a thread"));
    let (sender, pushes) = sync_channel(2_000);
    let _subscription = hub.subscribe(&["a"], None, sender).expect("room");
    for n in 0..1_000 {
        hub.publish("a", n.to_string()).expect("published");
    }
    drop(running);
    assert_eq!(texts(&pushes), (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_batch_is_one_wake_and_stands_together_in_the_order() {
    let mut server = bound();
    let hub = server.hub();
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let into = Arc::clone(&seen);
    let note = move |push| {
        if let Push::Message { id, .. } = push {
            into.lock().expect("no panic").push(id.seq);
        }
    };
    let _subscription = hub.subscribe_with(&["a"], None, note).expect("room");
    while server.next_timeout() == Some(Duration::ZERO) {
        server.turn(Some(Duration::ZERO)).expect("turns");
    }
    let publisher = std::thread::spawn(move || {
        hub.publish_many((0..200).map(|n| ("a", format!("{n}")))).into_iter().collect::<Vec<_>>()
    });
    // One turn that slept until it was woken has all of it.
    server.turn(None).expect("turns");
    let results = publisher.join().expect("no panic");
    let ids: Vec<u64> = results.into_iter().map(|one| one.expect("published").id.seq).collect();
    assert_eq!(ids, (1..=200).collect::<Vec<_>>());
    assert_eq!(*seen.lock().expect("no panic"), ids);
}

#[test]
fn each_message_of_a_batch_has_its_own_result() {
    let server = bound();
    let hub = server.hub();
    let results = hub.publish_many([
        ("a", Message::from("1")),
        ("no name", Message::from("2")),
        ("b", Message::bytes(vec![0; 65_537])),
        ("b", Message::from("4").event("open")),
        ("b", Message::from("5")),
    ]);
    let told: Vec<_> = results.iter().map(|one| one.as_ref().map_err(|e| e.reason)).collect();
    assert_eq!(told[0].expect("published").id.seq + 1, told[4].expect("published").id.seq);
    assert_eq!(told[1], Err(PublishReason::BadChannel));
    assert_eq!(told[2], Err(PublishReason::TooLarge));
    assert_eq!(told[3], Err(PublishReason::BadMessage));
    assert!(hub.publish_many::<&str>([]).is_empty());
}

/// What it published while nobody read is there once the reader comes back with its position.
#[test]
fn a_subscription_goes_on_where_another_ended() {
    let server = bound();
    let (hub, _running) = (server.hub(), server.spawn().expect("a thread"));
    let (sender, pushes) = sync_channel(8);
    let first = hub.subscribe(&["a"], None, sender).expect("room");
    let id = hub.publish("a", "1").expect("published").id;
    assert_eq!(text(&pushes).as_deref(), Some("1"));
    drop(first);
    assert_eq!(texts(&pushes), [""; 0], "dropping the handle lets go of the sender");
    hub.publish("a", "2").expect("published");
    let (sender, pushes) = sync_channel(8);
    let _second = hub.subscribe(&["a"], Some(Since::Cursor(id)), sender).expect("room");
    assert_eq!(text(&pushes).as_deref(), Some("2"));
}

#[test]
fn a_receiver_that_has_gone_ends_its_subscription() {
    let server = bound();
    let (hub, _running) = (server.hub(), server.spawn().expect("a thread"));
    let (sender, pushes) = sync_channel(8);
    let subscription = hub.subscribe(&["a"], None, sender).expect("room");
    drop(pushes);
    let started = Instant::now();
    while !subscription.is_ended() {
        assert!(started.elapsed() < LONG);
        hub.publish("a", "anybody?").expect("published");
        std::thread::yield_now();
    }
    assert_eq!(hub.publish("a", "nobody").expect("published").subscribers, 0);
}

#[test]
fn what_is_wrong_with_a_subscription_is_said_at_once() {
    let config = Config { local_subscriptions_max: 2, ..Config::default() };
    let server = config.listen("127.0.0.1:0").bind().expect("binds");
    let hub = server.hub();
    let error = |channels: &[&str]| hub.subscribe_with(channels, None, |_| {}).err();
    assert_eq!(error(&["no name"]), Some(SubscribeError::BadChannel));
    assert_eq!(error(&[]), Some(SubscribeError::ChannelCount));
    assert_eq!(error(&["a", "a"]), Some(SubscribeError::ChannelCount));
    let _running = server.spawn().expect("a thread");
    let first = hub.subscribe_with(&["a"], None, |_| {}).expect("room");
    let _second = hub.subscribe_with(&["a"], None, |_| {}).expect("room");
    assert_eq!(error(&["a"]), Some(SubscribeError::TooMany));
    drop(first);
    let started = Instant::now();
    while error(&["a"]).is_some() {
        assert!(started.elapsed() < LONG, "its place stays taken");
        std::thread::yield_now();
    }
}

#[test]
fn a_callback_may_use_the_hub() {
    let server = bound();
    let (hub, _running) = (server.hub(), server.spawn().expect("a thread"));
    let (sender, pushes) = sync_channel(8);
    let _echoes = hub.subscribe(&["echo"], None, sender).expect("room");
    let within = hub.clone();
    let mut more = Vec::new();
    let callback = move |push| {
        if let Push::Message { publication, .. } = push {
            within.publish("echo", publication.payload()).expect("published");
            more.push(within.subscribe_with(&["b"], None, |_| {}).expect("room"));
            more.clear();
        }
    };
    let _subscription = hub.subscribe_with(&["a"], None, callback).expect("room");
    hub.publish("a", "1").expect("published");
    hub.publish("a", "2").expect("published");
    assert_eq!([text(&pushes), text(&pushes)], [Some("1".to_owned()), Some("2".to_owned())]);
}

#[test]
fn a_panic_in_a_subscribers_callback_ends_that_server_alone() {
    let (server, other) = (bound(), bound());
    let at = address(&other);
    let (hub, running) = (server.hub(), server.spawn().expect("a thread"));
    let _other = other.spawn().expect("a thread");
    let _subscription = hub.subscribe_with(&["a"], None, |_| panic!("as asked")).expect("room");
    let error = running.join().expect_err("a panic is an error");
    assert_eq!(error.kind(), ErrorKind::Other);
    assert_eq!(hub.publish("a", "x").expect_err("it has ended").reason, PublishReason::Closed);
    assert!(ask(at, &get("/health")).starts_with("HTTP/1.1 200 "));
}

fn assert_closed(hub: &Hub) {
    assert_eq!(hub.publish("a", "x").expect_err("closed").reason, PublishReason::Closed);
    let many = hub.publish_many([("a", "x"), ("b", "y")]);
    assert!(
        many.iter()
            .all(|one| { one.as_ref().is_err_and(|error| error.reason == PublishReason::Closed) })
    );
    assert_eq!(hub.signal(1), Err(HubError::Closed));
    assert_eq!(hub.shutdown(LONG), Err(HubError::Closed));
    assert_eq!(hub.close(ConnId::from_bits(0), 1000, ""), Err(HubError::Closed));
    let subscribed = hub.subscribe_with(&["a"], None, |_| {});
    assert_eq!(subscribed.err(), Some(SubscribeError::Closed));
    // Numbers stay to be looked at.
    assert_eq!(hub.stats().history.published, 1);
}

#[test]
fn every_handle_of_a_server_that_has_ended_says_so() {
    let mut server = bound();
    let hub = server.hub();
    hub.publish("a", "x").expect("published");
    server.shutdown(Duration::ZERO);
    while server.turn(None).expect("turns") != Turned::Ended {}
    assert_closed(&hub);
    drop(server);
    assert_closed(&hub);
}

#[test]
fn a_subscription_that_a_server_never_came_to_ends_with_it() {
    let server = bound();
    let hub = server.hub();
    let (sender, pushes) = sync_channel(8);
    let subscription = hub.subscribe(&["a"], None, sender).expect("room");
    assert_eq!(pushes.try_recv().err(), Some(TryRecvError::Empty));
    drop(server);
    assert_eq!(pushes.try_recv().err(), Some(TryRecvError::Disconnected));
    assert!(subscription.is_ended());
}

/// Tells another thread who has come.
struct Names(std::sync::mpsc::Sender<ConnId>);

impl App for Names {
    fn request(&mut self, _: &mut Ctx<'_>, id: ConnId, _: &Request<'_>) -> Answer<Route> {
        self.0.send(id).expect("somebody reads");
        Answer::Done(Route::Pass)
    }
}

#[test]
fn another_thread_closes_a_connection() {
    let (names, ids) = channel();
    let server = Config::default().listen("127.0.0.1:0").bind_app(Names(names)).expect("binds");
    let (at, hub) = (address(&server), server.hub());
    let _running = server.spawn().expect("a thread");
    let mut stream = listen(at, "a");
    let id = ids.recv_timeout(LONG).expect("it came");
    hub.close(id, 4_000, "as asked").expect("still there");
    until(&mut stream, "retry: ");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stream, &mut rest).expect("an end");
    // It is gone; nobody minds.
    hub.close(id, 4_000, "again").expect("still there");
    assert!(ask(at, &get("/health")).starts_with("HTTP/1.1 200 "));
}

#[test]
fn any_thread_sees_how_the_server_is() {
    let server = bound();
    let (at, hub) = (address(&server), server.hub());
    assert_eq!(hub.stats().loops.subscriptions, 0, "it has never turned");
    let _running = server.spawn().expect("a thread");
    let _stream = listen(at, "a");
    let _idle = connect(at);
    let _subscription = hub.subscribe_with(&["a", "b"], None, |_| {}).expect("room");
    let id = hub.publish("a", "x").expect("published").id;
    let started = Instant::now();
    loop {
        let stats = hub.stats();
        let (loops, history) = (stats.loops, stats.history);
        assert_eq!((stats.cursor, history.published, history.messages), (id, 1, 1));
        let is_whole = (loops.connections.sse, loops.connections.http) == (1, 1);
        if is_whole && loops.subscriptions == 3 && loops.counted.delivered == 2 {
            assert!(stats.age <= stats.uptime);
            return;
        }
        assert!(started.elapsed() < LONG, "{loops:?}");
        std::thread::yield_now();
    }
}

#[test]
fn its_descriptor_is_lent_and_named() {
    let server = bound();
    assert_eq!(server.as_fd().as_raw_fd(), server.as_raw_fd());
}

#[test]
fn a_subscription_that_is_dropped_while_the_queue_is_full_ends_all_the_same() {
    let mut server = bound();
    let hub = server.hub();
    let owned = Arc::new(());
    let held = Arc::clone(&owned);
    let subscription = hub.subscribe_with(&["quiet"], None, move |_| {
        let _held = &held;
    });
    server.turn(Some(Duration::ZERO)).expect("turns");
    while hub.signal(1).is_ok() {}
    drop(subscription);
    for _ in 0..10 {
        server.turn(Some(Duration::ZERO)).expect("turns");
    }
    assert_eq!(Arc::strong_count(&owned), 1, "its function is still there");
}

#[test]
fn a_server_that_has_ended_has_no_connections() {
    let mut server = bound();
    let hub = server.hub();
    let _client = connect(address(&server));
    while hub.stats().loops.connections.http == 0 {
        server.turn(Some(Duration::from_millis(10))).expect("turns");
    }
    server.shutdown(Duration::ZERO);
    while server.turn(None).expect("turns") != Turned::Ended {}
    drop(server);
    assert_eq!(hub.stats().loops.connections.http, 0);
}
