//! Several loops of one server: what counts for an address or a channel, who listens, and what they
//! hold is the same on each of them.

use std::sync::Arc;
use std::time::Duration;

use holdline::engine::{Common, Engine, Peer, Policy, What};
use holdline::hub::History;
use holdline::{Config, Epoch, Message, Rate};
use serde_json::{Value, json};

use crate::limits::{HERE, THERE, assert_limited, call, forwarded, ip};
use crate::sim::clients::{Sse, Ws, request};
use crate::sim::http::Answer;
use crate::sim::{Pace, Sim, ws};

const LOOPS: usize = 3;

fn world(config: Config) -> Sim {
    Sim::new(config, LOOPS, 3)
}

fn open() -> Sim {
    world(Config::default().open())
}

/// Of a trusted proxy, on each loop.
fn proxied() -> Config {
    Config { local_publish: true, trusted_proxies: vec!["127.0.0.1".into()], ..Config::default() }
}

/// Two engines of one server, without a world.
fn pair(config: &Arc<Config>) -> [Engine; 2] {
    let now = crate::sim::START;
    let history = Arc::new(History::new(config, Epoch::from_random(7), now));
    let common = Common::new(Arc::clone(config), history, 2);
    [0, 1].map(|number| Engine::with(&common, Policy::new(config, &[]), number, 7, now))
}

/// All that an engine owes.
fn drain(engine: &mut Engine) -> String {
    engine.take_in(crate::sim::START);
    written(engine)
}

/// What an engine has to write of what it has taken in before.
fn written(engine: &mut Engine) -> String {
    let mut bytes = Vec::new();
    while let Some(transmit) = engine.poll_transmit() {
        let What::Bytes(lent) = transmit.what else { continue };
        bytes.extend_from_slice(lent);
        let len = lent.len();
        engine.handle_sent(len);
    }
    String::from_utf8(bytes).expect("text")
}

#[track_caller]
fn publish(sim: &mut Sim, number: usize, client: &str, channel: &str) -> Answer {
    let line = sim.connect_from(number, ip("127.0.0.1"));
    let target = format!("/channels/{channel}");
    let answer = call(sim, line, &forwarded(client, "POST", &target, "", b"x"));
    sim.close(line);
    sim.settle();
    answer
}

#[test]
fn connections_of_an_address_are_counted_over_all_loops() {
    let mut sim = world(Config { connections_per_address_max: 2, ..Config::default() });
    let lines = [sim.connect_from(0, ip(HERE)), sim.connect_from(1, ip(HERE))];
    let over = sim.connect_from(2, ip(HERE));
    assert_limited(&sim.get(over, "/health"), 1..=5);
    let other = sim.connect_from(2, ip(THERE));
    assert_eq!(sim.get(other, "/health").status, 200);
    for line in [over, lines[0]] {
        sim.close(line);
        sim.settle();
    }
    let next = sim.connect_from(2, ip(HERE));
    assert_eq!(sim.get(next, "/health").status, 200, "one has left another loop");
    (0..sim.lines.len()).for_each(|line| sim.close(line));
    sim.assert_deserted();
}

#[test]
fn connections_are_accepted_at_one_rate_on_all_loops() {
    let accepts_per_address = Rate { burst: 3, every: Duration::from_secs(1) };
    let mut sim = world(Config { accepts_per_address, ..Config::default() });
    for number in 0..LOOPS {
        sim.connect_from(number, ip(HERE));
    }
    for number in 0..LOOPS {
        let over = sim.connect_from(number, ip(HERE));
        assert_limited(&sim.get(over, "/health"), 1..=1);
    }
    sim.pass(1_000);
    let later = sim.connect_from(1, ip(HERE));
    assert_eq!(sim.get(later, "/health").status, 200);
}

#[test]
fn polls_of_an_address_are_counted_over_all_loops() {
    let mut sim = world(Config { polls_per_address_max: 2, ..Config::default() });
    let target = format!("/poll?channel=a&since={}", sim.id(0));
    let lines: Vec<_> = (0..3).map(|number| sim.connect_from(number, ip(HERE))).collect();
    for line in &lines {
        sim.ask(*line, "GET", &target, b"");
        sim.settle();
    }
    assert!(sim.answer(lines[0]).is_none() && sim.answer(lines[1]).is_none(), "they are held");
    assert_limited(&sim.answer(lines[2]).expect("an answer"), 1..=5);
    sim.publish("a", "one");
    sim.settle();
    let since = sim.id(1);
    let answer = sim.get(lines[2], &format!("/poll?channel=a&since={since}&wait=0"));
    assert_eq!(answer.status, 200, "nobody is held any more");
}

#[test]
fn an_address_publishes_at_one_rate_on_all_loops() {
    let publishes_per_address = Rate { burst: 2, every: Duration::from_secs(1) };
    let mut sim = world(Config { publishes_per_address, ..proxied() });
    assert_eq!(publish(&mut sim, 0, HERE, "a").status, 202);
    assert_eq!(publish(&mut sim, 1, HERE, "b").status, 202);
    for number in 0..LOOPS {
        assert_limited(&publish(&mut sim, number, HERE, "a"), 1..=1);
    }
    assert_eq!(publish(&mut sim, 2, THERE, "a").status, 202);
    sim.pass(1_000);
    assert_eq!(publish(&mut sim, 2, HERE, "a").status, 202);
    assert_limited(&publish(&mut sim, 0, HERE, "a"), 1..=1);
}

#[test]
fn a_channel_is_published_to_at_one_rate_on_all_loops() {
    let publishes_per_channel = Rate { burst: 2, every: Duration::from_secs(1) };
    let mut sim = world(Config { publishes_per_channel, ..proxied() });
    assert_eq!(publish(&mut sim, 0, HERE, "a").status, 202);
    assert_eq!(publish(&mut sim, 1, THERE, "a").status, 202);
    assert_limited(&publish(&mut sim, 2, "192.0.2.3", "a"), 1..=1);
    assert_eq!(publish(&mut sim, 2, HERE, "b").status, 202);
    sim.pass(1_000);
    assert_eq!(publish(&mut sim, 2, HERE, "a").status, 202);
}

#[test]
fn new_channels_and_failures_count_over_all_loops() {
    let new_channels_per_address = Rate { burst: 2, every: Duration::from_secs(100) };
    let mut sim = world(Config { new_channels_per_address, ..proxied() });
    assert_eq!(publish(&mut sim, 0, HERE, "a").status, 202);
    assert_eq!(publish(&mut sim, 1, HERE, "b").status, 202);
    assert_limited(&publish(&mut sim, 2, HERE, "c"), 99..=101);
    assert_eq!(publish(&mut sim, 2, HERE, "a").status, 202, "it is there");
}

#[test]
fn one_table_of_addresses_serves_all_loops() {
    let mut sim = world(Config { addresses_max: 2, ..Config::default() });
    for host in 1..=6 {
        sim.connect_from(host % LOOPS, ip(&format!("192.0.2.{host}")));
    }
    for number in 0..LOOPS {
        let line = sim.connect(number);
        assert_eq!(sim.get(line, "/stats").json()["addresses"], 3, "two, and all others");
        assert_eq!(sim.get(line, "/stats").json()["loops"], 3);
    }
}

#[test]
fn a_loop_that_ends_takes_its_connections_from_their_addresses() {
    let config = Config { connections_per_address_max: 1, ..Config::default() };
    let [mut first, mut second] = pair(&Arc::new(config));
    let (history, now) = (Arc::clone(first.history()), crate::sim::START);
    let rejected = |engine: &Engine| engine.stats().rejected.of(holdline::Code::RateLimited);
    first.handle_accept(ip(HERE), now);
    let over = second.handle_accept(ip(HERE), now);
    let mut bytes = request("GET", "/health", "", b"");
    second.handle_bytes(over, &mut bytes, now);
    assert_eq!(rejected(&second), 1);
    drop(first);
    let next = second.handle_accept(ip(HERE), now);
    let mut bytes = request("GET", "/health", "", b"");
    second.handle_bytes(next, &mut bytes, now);
    assert_eq!(rejected(&second), 1);
    Engine::check_all([&second].into_iter());
    drop(second);
    assert_eq!(history.stats().memory_connections, 0);
}

/// Each loop has buffers; together they take no more of a small budget than those of one.
#[test]
fn loops_over_a_small_memory_let_connections_in() {
    for (loops, memory_bytes) in [(4, 4 << 20), (4, 256 << 10), (16, 4 << 20), (16, 1 << 20)] {
        let config = Config { memory_bytes, ..Config::default().open() };
        let mut sim = Sim::new(config, loops, 3);
        for number in 0..4 * loops {
            let line = sim.connect(number % loops);
            let answer = sim.get(line, "/health");
            assert_eq!(answer.status, 200, "{loops} loops, {memory_bytes} bytes");
            let _listener = Ws::open(&mut sim, number % loops, "/channels/a");
        }
        sim.publish("a", "one");
        sim.settle();
        let one = Sim::new(Config { memory_bytes, ..Config::default().open() }, 1, 3);
        let idle = one.history.stats().memory_connections;
        let many = Sim::new(Config { memory_bytes, ..Config::default().open() }, loops, 3);
        let idle_of_many = many.history.stats().memory_connections;
        assert!(idle_of_many < 2 * idle + loops * 8_192, "{idle_of_many} against {idle}");
    }
}

// Who listens.

/// What `/channels/a/presence` says on one loop.
#[track_caller]
fn list(sim: &mut Sim, number: usize) -> Value {
    let line = sim.connect(number);
    let answer = sim.get(line, "/channels/a/presence");
    assert_eq!(answer.status, 200, "{}", answer.text());
    sim.close(line);
    sim.settle();
    answer.json()
}

#[track_caller]
fn names(sim: &mut Sim, number: usize) -> Vec<String> {
    let list = list(sim, number);
    let members = list["members"].as_array().expect("members").iter();
    members.map(|one| one["connection"].as_str().expect("a name").to_owned()).collect()
}

/// A socket on `/ws` of a loop, its first frames read, and the name it was told.
#[track_caller]
fn socket(sim: &mut Sim, number: usize, query: &str) -> (Ws, String) {
    let socket = Ws::open(sim, number, &format!("/ws{query}"));
    let hello = socket.jsons(sim).remove(0);
    (socket, hello["connection"].as_str().expect("a name").to_owned())
}

fn told(op: &str, name: &str) -> Value {
    json!({"op": op, "channel": "a", "connection": name, "user": null})
}

fn untold(more: bool) -> Value {
    json!({"op": "presence", "channel": "a", "more": more})
}

fn from(port: u16, host: u8) -> Peer {
    Peer::Ip(([192, 0, 2, host], port).into())
}

/// Asks for a poll that is held.
#[track_caller]
fn hold(sim: &mut Sim, line: usize, more: &str) {
    let since = sim.id(sim.history.head());
    sim.ask(line, "GET", &format!("/poll?channel=a&since={since}{more}"), b"");
    sim.settle();
}

/// Everyone's poll is answered.
fn release(sim: &mut Sim) {
    sim.publish("a", "x");
    sim.settle();
}

/// What a stream was told but for heartbeats.
fn heard(stream: &mut Sse, sim: &mut Sim) -> Vec<Value> {
    let blocks = stream.blocks(sim);
    blocks.iter().filter(|block| block.data.is_some()).map(|block| block.json()).collect()
}

fn ops(told: &[Value]) -> Vec<&str> {
    told.iter().map(|one| one["op"].as_str().expect("an op")).collect()
}

#[test]
fn members_of_all_loops_are_listed_on_each() {
    let mut sim = open();
    let mut all = Vec::new();
    for number in [1, 0, 2, 1] {
        all.push((number, socket(&mut sim, number, "?channel=a").1));
    }
    let line = sim.connect(2);
    hold(&mut sim, line, "");
    all.sort_by_key(|(number, _)| *number);
    let expected: Vec<_> = all.into_iter().map(|(_, name)| name).collect();
    let lists: Vec<_> = (0..LOOPS).map(|number| list(&mut sim, number)).collect();
    assert_eq!(lists[0], lists[1]);
    assert_eq!(lists[1], lists[2]);
    assert_eq!((&lists[0]["subscribers"], &lists[0]["more"]), (&5.into(), &false.into()));
    let listed = names(&mut sim, 0);
    assert_eq!((&listed[..4], listed.len()), (&expected[..], 5));
}

#[test]
fn who_asks_for_the_list_waits_for_all_loops() {
    let mut sim = open();
    let (_member, name) = socket(&mut sim, 1, "?channel=a");
    let line = sim.connect(0);
    for _ in 0..2 {
        sim.ask(line, "GET", "/channels/a/presence", b"");
        for number in [0, 0, 1, 0] {
            sim.turn(number);
            sim.take(line, usize::MAX);
            assert!(sim.answer(line).is_none());
        }
        sim.turn(2);
        assert!(sim.loops[0].engine.has_work(), "it is woken");
        sim.settle();
        let answer = sim.answer(line).expect("an answer").json();
        assert_eq!(answer["members"][0]["connection"], *name);
    }
}

#[test]
fn many_who_ask_at_once_are_all_answered() {
    let mut sim = open();
    let (_member, name) = socket(&mut sim, 1, "?channel=a");
    let mut lines = Vec::new();
    for n in 0..30 {
        let line = sim.connect(n % 2);
        let channel = ["a", "b", "a", "c"][n % 4];
        sim.ask(line, "GET", &format!("/channels/{channel}/presence"), b"");
        lines.push((line, channel));
        if n % 7 == 0 {
            sim.turn(n % LOOPS);
        }
    }
    // Some do not wait for it.
    lines.drain(..3).for_each(|(line, _)| sim.reset(line));
    sim.settle();
    for (line, channel) in lines {
        let answer = sim.answer(line).expect("an answer").json();
        assert_eq!(answer["channel"], channel);
        let members = answer["members"].as_array().expect("members");
        assert_eq!(members.len(), usize::from(channel == "a"));
        assert!(members.iter().all(|member| member["connection"] == *name));
    }
    sim.pass(70_000);
    (0..sim.lines.len()).for_each(|line| sim.close(line));
    sim.assert_deserted();
}

#[test]
fn a_loop_that_stands_still_does_not_keep_the_list_for_ever() {
    let mut sim = open();
    let line = sim.connect(0);
    sim.ask(line, "GET", "/channels/a/presence", b"");
    let alone = |sim: &mut Sim| {
        (0..5).for_each(|_| sim.turn(0));
        sim.take(line, usize::MAX);
        sim.answer(line)
    };
    assert!(alone(&mut sim).is_none());
    sim.jump(sim.now.mono_ms + 10_500);
    let answer = alone(&mut sim).expect("an answer");
    assert_eq!((answer.status, &answer.json()["error"]), (503, &"overloaded".into()));
    // Once it goes on, so do the lists.
    let (_member, name) = socket(&mut sim, 1, "?channel=a");
    assert_eq!(names(&mut sim, 0), [name]);
}

#[test]
fn a_loop_that_ends_is_not_waited_for() {
    let [mut first, second] = pair(&Arc::new(Config::default().open()));
    let now = crate::sim::START;
    let id = first.handle_accept(Peer::Unix, now);
    first.handle_bytes(id, &mut request("GET", "/channels/a/presence", "", b""), now);
    assert_eq!(drain(&mut first), "", "the other has not answered");
    assert!(!first.has_work());
    drop(second);
    assert!(first.has_work());
    assert!(drain(&mut first).starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn joins_and_leaves_are_told_once_on_each_loop() {
    let mut sim = open();
    let watchers: Vec<_> = (0..2 * LOOPS)
        .map(|number| {
            let (watcher, _) = socket(&mut sim, number % LOOPS, "?channel=a&presence=1");
            watcher
        })
        .collect();
    let mut stream = Sse::open(&mut sim, 2, "/events?channel=a&presence=1");
    let (_deaf, _) = socket(&mut sim, 1, "?channel=a");
    watchers.iter().for_each(|watcher| drop(watcher.jsons(&mut sim)));
    stream.blocks(&mut sim);
    for number in 0..LOOPS {
        let (other, name) = socket(&mut sim, number, "?channel=a");
        for watcher in &watchers {
            assert_eq!(watcher.jsons(&mut sim), [told("join", &name)], "on loop {number}");
        }
        assert_eq!(heard(&mut stream, &mut sim), [told("join", &name)]);
        sim.close(other.line);
        sim.pass(4_900);
        assert!(watchers.iter().all(|watcher| watcher.jsons(&mut sim).is_empty()), "too early");
        sim.pass(400);
        for watcher in &watchers {
            assert_eq!(watcher.jsons(&mut sim), [told("leave", &name)], "of loop {number}");
        }
        assert_eq!(heard(&mut stream, &mut sim), [told("leave", &name)]);
    }
}

#[test]
fn who_unsubscribes_leaves_at_once_on_all_loops() {
    let mut sim = open();
    let (watcher, _) = socket(&mut sim, 0, "?channel=a&presence=1");
    let (other, name) = socket(&mut sim, 1, "?channel=a");
    other.text(&mut sim, r#"{"op":"unsubscribe","channel":"a"}"#);
    sim.settle();
    assert_eq!(watcher.jsons(&mut sim), [told("join", &name), told("leave", &name)]);
}

#[test]
fn whoever_begins_to_watch_learns_of_the_next_on_any_loop() {
    let mut sim = open();
    // Rooms that were there before anyone watched, on loops that do not turn in between. One of them has
    // looked whether somebody does.
    let (_other, _) = socket(&mut sim, 2, "?channel=b&presence=1");
    let (before, name) = socket(&mut sim, 1, "?channel=a");
    let (watcher, _) = socket(&mut sim, 0, "?channel=a");
    watcher.text(&mut sim, r#"{"op":"subscribe","channel":"a","presence":true}"#);
    sim.turn(0);
    before.text(&mut sim, r#"{"op":"unsubscribe","channel":"a"}"#);
    sim.settle();
    let told_it = watcher.jsons(&mut sim);
    assert_eq!(told_it.last(), Some(&told("leave", &name)));
}

#[test]
fn a_watching_poll_is_answered_with_what_changed_on_another_loop() {
    let mut sim = open();
    let line = sim.connect(0);
    hold(&mut sim, line, "&presence=1");
    let (other, name) = socket(&mut sim, 1, "?channel=a");
    let body = sim.answer(line).expect("an answer").json();
    assert_eq!(body["presence"], json!([told("join", &name)]));
    // What changes between two polls is told by the next one.
    sim.close(other.line);
    sim.pass(2_000);
    let (_third, third) = socket(&mut sim, 2, "?channel=a");
    hold(&mut sim, line, "&presence=1");
    let body = sim.answer(line).expect("an answer").json();
    assert_eq!(body["presence"], json!([told("join", &third)]));
}

#[test]
fn a_poll_that_comes_back_on_another_loop_goes_on_as_the_same_member() {
    for closes in [true, false] {
        let mut sim = open();
        let (watcher, _) = socket(&mut sim, 2, "?channel=a&presence=1");
        let first = sim.connect_from(0, from(1_000, 1));
        hold(&mut sim, first, "");
        let name = watcher.json(&mut sim)["connection"].as_str().expect("a name").to_owned();
        release(&mut sim);
        if closes {
            sim.close(first);
        }
        sim.pass(4_000);
        // Not from another address.
        let foreign = sim.connect_from(1, from(1_000, 2));
        hold(&mut sim, foreign, "");
        let second = sim.connect_from(1, from(1_001, 1));
        hold(&mut sim, second, "");
        let heard: Vec<_> = watcher.jsons(&mut sim).into_iter().skip(1).collect();
        assert_eq!(ops(&heard), ["join"], "{heard:?}");
        assert_ne!(heard[0]["connection"], *name);
        assert!(names(&mut sim, 0).contains(&name));
        if !closes {
            // The first was there all the time: it is somebody else now, also where it is told.
            sim.answer(first).expect("an answer");
            hold(&mut sim, first, "");
            let join = watcher.json(&mut sim);
            assert_eq!((&join["op"], join["connection"] == *name), (&"join".into(), false));
            let all = names(&mut sim, 2);
            assert_eq!(all.len(), 4);
            assert!((0..4).all(|at| !all[..at].contains(&all[at])), "{all:?}");
        }
        sim.pass(6_000);
        let heard = watcher.jsons(&mut sim);
        assert!(heard.is_empty(), "{heard:?}");
    }
}

#[test]
fn nobody_takes_the_place_of_one_who_listens_elsewhere_under_its_name() {
    let mut sim = open();
    let (watcher, _) = socket(&mut sim, 2, "?channel=a&channel=b&presence=1");
    let first = sim.connect_from(0, from(1_000, 1));
    hold(&mut sim, first, "");
    let name = watcher.json(&mut sim)["connection"].as_str().expect("a name").to_owned();
    release(&mut sim);
    sim.answer(first).expect("an answer");
    let since = sim.id(sim.history.head());
    sim.ask(first, "GET", &format!("/poll?channel=b&since={since}"), b"");
    sim.settle();
    watcher.jsons(&mut sim);
    let second = sim.connect_from(1, from(1_001, 1));
    hold(&mut sim, second, "");
    let join = watcher.json(&mut sim);
    assert_eq!((&join["op"], join["connection"] == *name), (&"join".into(), false));
    // Once it has ended, the place is free for the next.
    let third = sim.connect_from(1, from(1_002, 1));
    sim.publish("b", "x");
    sim.settle();
    sim.answer(first).expect("an answer");
    hold(&mut sim, third, "");
    sim.pass(6_000);
    let heard = watcher.jsons(&mut sim);
    assert!(!heard.iter().any(|one| one["op"] == "join"), "{heard:?}");
    let left_a = heard.iter().filter(|one| one["op"] == "leave" && one["channel"] == "a").count();
    assert_eq!(left_a, 0, "{heard:?}");
}

#[test]
fn a_socket_that_comes_back_on_another_loop_is_a_new_member() {
    let mut sim = open();
    let (watcher, _) = socket(&mut sim, 0, "?channel=a&presence=1");
    let (first, one) = socket(&mut sim, 1, "?channel=a");
    sim.close(first.line);
    sim.pass(1_000);
    let (_second, two) = socket(&mut sim, 2, "?channel=a");
    sim.pass(6_000);
    let expected = [told("join", &one), told("join", &two), told("leave", &one)];
    assert_eq!(watcher.jsons(&mut sim), expected);
}

/// A socket comes to one loop, and only that loop turns.
fn come_unseen(sim: &mut Sim, number: usize) {
    let line = sim.connect(number);
    sim.send(line, &ws::upgrade("/ws?channel=a", None));
    sim.turn(number);
}

/// Asks for a poll that watches, and only its loop turns.
fn poll_alone(sim: &mut Sim, number: usize, port: u16) -> usize {
    let line = sim.connect_from(number, from(port, 1));
    let target = format!("/poll?channel=a&since={}&presence=1", sim.id(sim.history.head()));
    sim.ask(line, "GET", &target, b"");
    sim.turn(number);
    line
}

#[test]
fn what_a_poll_was_told_on_one_loop_it_is_not_told_again_on_a_slower_one() {
    let mut sim = open();
    let (watcher, _) = socket(&mut sim, 1, "?channel=a&presence=1");
    let first = sim.connect_from(0, from(1_000, 1));
    hold(&mut sim, first, "&presence=1");
    watcher.jsons(&mut sim);
    come_unseen(&mut sim, 2);
    sim.turn(0);
    sim.take(first, usize::MAX);
    let heard = sim.answer(first).expect("an answer").json()["presence"].clone();
    assert_eq!(ops(heard.as_array().expect("a list")), ["join"]);
    sim.close(first);
    sim.turn(0);
    let second = poll_alone(&mut sim, 1, 1_001);
    sim.settle();
    assert!(sim.answer(second).is_none(), "it knows");
    assert_eq!(watcher.jsons(&mut sim), *heard.as_array().expect("a list"));
}

/// A watching poll that was told on loop 0 that somebody came, goes on on loop 1, which has yet to tell it.
/// The line on which it will, and what it asks for.
fn move_before_it_is_told(sim: &mut Sim, watcher: &Ws) -> (usize, String) {
    let first = sim.connect_from(0, from(1_000, 1));
    hold(sim, first, "&presence=1");
    watcher.jsons(sim);
    come_unseen(sim, 2);
    sim.turn(0);
    sim.take(first, usize::MAX);
    let heard = sim.answer(first).expect("an answer").json()["presence"].clone();
    assert_eq!(ops(heard.as_array().expect("a list")), ["join"]);
    sim.close(first);
    sim.turn(0);
    let second = sim.connect_from(1, from(1_001, 1));
    (second, format!("/poll?channel=a&since={}&presence=1", sim.id(sim.history.head())))
}

#[test]
fn what_comes_behind_what_a_poll_knows_already_it_is_told() {
    let mut sim = open();
    let (watcher, _) = socket(&mut sim, 1, "?channel=a&presence=1");
    let (second, target) = move_before_it_is_told(&mut sim, &watcher);
    sim.ask(second, "GET", &target, b"");
    // In the same turn another comes, behind the poll.
    let line = sim.connect(1);
    sim.send(line, &ws::upgrade("/ws?channel=a", None));
    sim.turn(1);
    sim.settle();
    assert_eq!(ops(&watcher.jsons(&mut sim)), ["join", "join"]);
    assert!(sim.answer(second).is_some(), "it is told of the second, or that it missed something");
}

#[test]
fn what_a_poll_knows_already_and_is_undone_before_its_new_loop_tells_it_hears_of() {
    let mut sim = open();
    let (watcher, _) = socket(&mut sim, 1, "?channel=a&presence=1");
    let came = sim.lines.len() + 1;
    let (second, target) = move_before_it_is_told(&mut sim, &watcher);
    // Loop 1 is in the middle of a turn: the poll has come, and whoever it heard of goes again.
    let mut request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    let (id, now) = (sim.lines[second].id, sim.now);
    sim.loops[1].engine.handle_bytes(id, &mut request, now);
    sim.send(came, &ws::frame(1, br#"{"op":"unsubscribe","channel":"a"}"#, [1, 2, 3, 4]));
    sim.turn(2);
    sim.settle();
    assert!(sim.answer(second).is_some(), "it was told of a join, and of no leave");
}

#[test]
fn what_a_slow_loop_did_not_tell_a_poll_it_hears_of_elsewhere() {
    let mut sim = open();
    let first = sim.connect_from(0, from(1_000, 1));
    hold(&mut sim, first, "&presence=1");
    release(&mut sim);
    sim.answer(first).expect("an answer");
    come_unseen(&mut sim, 2);
    let second = poll_alone(&mut sim, 1, 1_001);
    sim.settle();
    let body = sim.answer(second).expect("an answer").json();
    assert_eq!(body["presence"], json!([untold(false)]));
}

#[test]
fn who_changes_its_loop_while_somebody_asks_is_listed_once() {
    let mut sim = open();
    let (_watcher, _) = socket(&mut sim, 2, "?channel=a&presence=1");
    let first = sim.connect_from(1, from(1_000, 1));
    hold(&mut sim, first, "&wait=1");
    let asker = sim.connect(0);
    sim.ask(asker, "GET", "/channels/a/presence", b"");
    sim.turn(0);
    sim.turn(1); // and has answered
    sim.publish("a", "x");
    sim.turn(1);
    let second = sim.connect_from(0, from(1_001, 1));
    sim.ask(second, "GET", &format!("/poll?channel=a&since={}", sim.id(1)), b"");
    sim.turn(0);
    sim.settle();
    let members = sim.answer(asker).expect("an answer").json()["members"].clone();
    let members = members.as_array().expect("members");
    assert_eq!(members.len(), 2, "{members:?}");
    assert_ne!(members[0]["connection"], members[1]["connection"]);
}

#[test]
fn what_is_remembered_is_bounded_over_all_loops() {
    let config = Config { presence_entries_max: 1, ..Config::default().open() };
    let mut sim = world(config);
    let (watcher, _) = socket(&mut sim, 0, "?channel=a&presence=1");
    let (first, one) = socket(&mut sim, 1, "?channel=a");
    let (second, two) = socket(&mut sim, 2, "?channel=a");
    watcher.jsons(&mut sim);
    sim.close(first.line);
    sim.settle();
    sim.close(second.line);
    sim.settle();
    assert_eq!(watcher.jsons(&mut sim), [told("leave", &two)]);
    sim.pass(5_500);
    assert_eq!(watcher.jsons(&mut sim), [told("leave", &one)]);
}

#[test]
fn a_crowd_is_one_on_all_loops_together() {
    let config = Config { presence_members_max: 8, ..Config::default().open() };
    let mut sim = world(config);
    let (watcher, _) = socket(&mut sim, 0, "?channel=a&presence=1");
    let others: Vec<_> =
        (0..8).map(|number| socket(&mut sim, number % LOOPS, "?channel=a").0).collect();
    let heard = watcher.jsons(&mut sim);
    assert_eq!((heard.len(), &heard[7]), (8, &untold(true)), "{heard:?}");
    let (late, _) = socket(&mut sim, 1, "?channel=a&presence=1");
    assert!(late.jsons(&mut sim).is_empty(), "read with its first frames");
    assert!(watcher.jsons(&mut sim).is_empty(), "once");
    for number in 0..LOOPS {
        let list = list(&mut sim, number);
        let listed = list["members"].as_array().map(Vec::len);
        assert_eq!((listed, &list["more"]), (Some(8), &true.into()));
        assert_eq!(list["subscribers"], 10);
    }
    for other in &others[..3] {
        other.text(&mut sim, r#"{"op":"unsubscribe","channel":"a"}"#);
        sim.settle();
    }
    assert_eq!(watcher.jsons(&mut sim), [untold(false)]);
    assert_eq!(late.jsons(&mut sim), [untold(false)]);
}

#[test]
fn who_watches_on_one_loop_learns_nothing_of_a_loop_that_goes() {
    let mut sim = open();
    let (watcher, _) = socket(&mut sim, 0, "?channel=a&presence=1");
    let (going, _) = socket(&mut sim, 1, "?channel=a&presence=1");
    let (_other, _) = socket(&mut sim, 1, "?channel=a");
    watcher.jsons(&mut sim);
    let now = sim.now;
    sim.loops[1].engine.handle_drain(now);
    sim.settle();
    sim.pass(6_000);
    assert!(watcher.jsons(&mut sim).is_empty());
    assert!(sim.is_closed(going.line) || !going.frames(&mut sim).is_empty());
    // Those who stay are told of each other.
    let (_third, name) = socket(&mut sim, 2, "?channel=a");
    assert_eq!(watcher.jsons(&mut sim), [told("join", &name)]);
}

#[test]
fn nothing_is_left_on_any_loop_once_all_are_gone() {
    let mut sim = open();
    let before = sim.history.stats().memory_connections;
    for number in 0..LOOPS {
        let (watcher, _) = socket(&mut sim, number, "?channel=a&presence=1");
        let stream = Sse::open(&mut sim, number, "/events?channel=a&channel=b&presence=1");
        let poll = sim.connect_from(number, from(1_000, number as u8));
        hold(&mut sim, poll, "&presence=1");
        release(&mut sim);
        let again = sim.connect_from((number + 1) % LOOPS, from(1_001, number as u8));
        hold(&mut sim, again, "");
        list(&mut sim, number);
        for line in [watcher.line, stream.line, poll, again] {
            sim.close(line);
        }
    }
    sim.settle();
    sim.pass(61_000);
    sim.assert_deserted();
    let after = sim.history.stats().memory_connections;
    assert!(after <= before + 16 * 1_024, "{after} bytes after {before}");
}

#[test]
fn where_nobody_asks_nothing_is_stored() {
    let sockets = |query: &str| {
        let mut sim = Sim::new(Config::default().open(), LOOPS, 3);
        sim.pace = Pace::Whole;
        let sockets: Vec<_> =
            (0..60).map(|number| socket(&mut sim, number % LOOPS, query).0).collect();
        sockets.iter().for_each(|socket| sim.close(socket.line));
        sim.settle();
        sim.next_deadline().map(|due| due - sim.now.mono_ms)
    };
    assert!(sockets("?channel=a").is_none_or(|due| due > 10_000), "a grace that nobody asked for");
}

// Conflation.

#[test]
fn a_loop_delivers_something_of_a_conflating_channel_however_fast_others_take_in() {
    let now = crate::sim::START;
    let config = Config { latest: vec!["a".into()], ..Config::default().open().loops(2) };
    let [mut fast, mut slow] = pair(&Arc::new(config));
    for engine in [&mut fast, &mut slow] {
        let id = engine.handle_accept(Peer::Unix, now);
        let mut request = b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\
            Accept: text/event-stream\r\n\r\n"
            .to_vec();
        engine.handle_bytes(id, &mut request, now);
        assert!(drain(engine).contains("200 OK"));
    }
    let history = Arc::clone(fast.history());
    let (mut by_fast, mut by_slow) = (String::new(), String::new());
    for n in 0..100 {
        history.publish("a", Message::from(format!("{n} old")), now).expect("room");
        slow.take_in(now);
        history.publish("a", Message::from(format!("{n} new")), now).expect("room");
        by_fast += &drain(&mut fast);
        by_slow += &written(&mut slow);
    }
    assert!(by_fast.contains("data: "));
    assert!(by_slow.contains("data: "), "nothing in 100 turns");
}
