//! What each address may: every limit reached, its exact answer, that it recovers when it says, and
//! that nobody else notices.

use std::time::Duration;

use holdline::engine::Peer;
use holdline::{Code, Config, Rate};
use serde_json::{Value, json};

use crate::sim::clients::{Sse, Ws, request};
use crate::sim::http::Answer;
use crate::sim::{Pace, Sim, ws};

pub const HERE: &str = "192.0.2.1";
pub const THERE: &str = "192.0.2.2";

pub fn ip(text: &str) -> Peer {
    Peer::Ip((text.parse::<std::net::IpAddr>().expect("an address"), 4711).into())
}

/// Where whoever comes from this machine may publish, and is asked for whom.
pub fn config() -> Config {
    Config { local_publish: true, trusted_proxies: vec!["127.0.0.1".into()], ..Config::default() }
}

pub fn world(config: Config) -> Sim {
    Sim::with(config, Pace::Whole)
}

/// A request that the trusted proxy passes on.
pub fn forwarded(client: &str, method: &str, target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let headers = format!("X-Forwarded-For: {client}\r\n{headers}");
    request(method, target, &headers, body)
}

/// A connection of the trusted proxy.
pub fn proxy(sim: &mut Sim) -> usize {
    sim.connect_from(0, ip("127.0.0.1"))
}

#[track_caller]
pub fn call(sim: &mut Sim, line: usize, bytes: &[u8]) -> Answer {
    sim.send(line, bytes);
    sim.settle();
    sim.answer(line).expect("an answer")
}

#[track_caller]
pub fn assert_limited(answer: &Answer, after_s: std::ops::RangeInclusive<u64>) {
    assert_eq!((answer.status, &answer.json()["error"]), (429, &json!("rate_limited")));
    let after = answer.header("retry-after").and_then(|text| text.parse().ok());
    assert!(after.is_some_and(|after| after_s.contains(&after)), "{answer:?}");
}

#[track_caller]
pub fn websocket(sim: &mut Sim, client: &str, target: &str) -> Ws {
    let line = proxy(sim);
    let head = String::from_utf8(ws::upgrade(target, None)).expect("ASCII");
    let head = head.replacen("\r\n", &format!("\r\nX-Forwarded-For: {client}\r\n"), 1);
    sim.send(line, head.as_bytes());
    sim.settle();
    let socket = Ws { line };
    socket.accepted(sim, None);
    socket
}

/// A client's `/ws`, its greeting read.
#[track_caller]
pub fn protocol(sim: &mut Sim, client: &str) -> Ws {
    let socket = websocket(sim, client, "/ws");
    assert_eq!(socket.json(sim)["op"], "hello");
    socket
}

#[track_caller]
pub fn say(sim: &mut Sim, socket: &Ws, text: &str) -> Value {
    socket.text(sim, text);
    sim.settle();
    socket.json(sim)
}

pub fn rejected(sim: &Sim) -> u64 {
    sim.engine().stats().rejected.of(Code::RateLimited)
}

#[test]
fn connections_are_accepted_at_a_rate_of_each_address() {
    let mut sim = world(Config::default());
    let first = sim.connect_from(0, ip(HERE));
    for _ in 1..60 {
        sim.connect_from(0, ip(HERE));
    }
    let over = sim.connect_from(0, ip(HERE));
    let answer = sim.get(over, "/health");
    assert_limited(&answer, 1..=1);
    assert!(answer.is_closing());
    assert_eq!(sim.get(first, "/health").status, 200, "who is in stays in");
    let other = sim.connect_from(0, ip(THERE));
    assert_eq!(sim.get(other, "/health").status, 200);
    sim.pass(50);
    let later = sim.connect_from(0, ip(HERE));
    assert_eq!(sim.get(later, "/health").status, 200);
    let over = sim.connect_from(0, ip(HERE));
    assert_limited(&sim.get(over, "/health"), 1..=1);
    assert_eq!(rejected(&sim), 2);
    (0..sim.lines.len()).for_each(|line| sim.close(line));
    sim.assert_deserted();
}

#[test]
fn connections_of_an_address_are_counted_while_they_are_open() {
    let mut sim = world(Config { connections_per_address_max: 2, ..Config::default() });
    let lines = [sim.connect_from(0, ip(HERE)), sim.connect_from(0, ip(HERE))];
    let over = sim.connect_from(0, ip(HERE));
    assert_limited(&sim.get(over, "/health"), 1..=5);
    let other = sim.connect_from(0, ip(THERE));
    assert_eq!(sim.get(other, "/health").status, 200);
    for line in [over, lines[0]] {
        sim.close(line);
        sim.settle();
    }
    let next = sim.connect_from(0, ip(HERE));
    assert_eq!(sim.get(next, "/health").status, 200);
}

#[test]
fn a_network_of_ipv6_and_a_mapped_address_are_one_address_each() {
    let mut sim = world(Config { connections_per_address_max: 1, ..Config::default() });
    for (known, same, other) in [
        ("2001:db8::1", "2001:db8::ffff:0:0:1", "2001:db8:0:1::1"),
        (HERE, "::ffff:192.0.2.1", "::ffff:192.0.2.2"),
    ] {
        sim.connect_from(0, ip(known));
        let over = sim.connect_from(0, ip(same));
        assert_limited(&sim.get(over, "/health"), 1..=5);
        let free = sim.connect_from(0, ip(other));
        assert_eq!(sim.get(free, "/health").status, 200);
    }
}

#[test]
fn who_is_one_too_many_is_told_in_the_way_that_it_understands() {
    let config = || Config { connections_per_address_max: 1, ..Config::default() };
    let stream = "Accept: text/event-stream\r\n";
    for (target, headers) in [("/events?channel=a&v=1", stream), ("/poll?channel=a", stream)] {
        let mut sim = world(config());
        sim.connect_from(0, ip(HERE));
        let line = sim.connect_from(0, ip(HERE));
        let answer = call(&mut sim, line, &request("GET", target, headers, b""));
        assert_limited(&answer, 1..=5);
    }
    // A native EventSource never comes back from anything but 200.
    for target in ["/events?channel=a", "/channels/a"] {
        let mut sim = world(config());
        sim.connect_from(0, ip(HERE));
        let line = sim.connect_from(0, ip(HERE));
        sim.send(line, &request("GET", target, stream, b""));
        sim.settle();
        let mut soft = Sse::accepted(&mut sim, line);
        let blocks = soft.blocks(&mut sim);
        assert_eq!(blocks.len(), 1, "{blocks:?}");
        assert!(blocks[0].retry.is_some_and(|retry| (2_000..=5_000).contains(&retry)));
        assert!(sim.lines[line].is_finished);
        assert_eq!(rejected(&sim), 1);
    }
    // Who says nothing is told all the same.
    let mut sim = world(config());
    sim.connect_from(0, ip(HERE));
    let line = sim.connect_from(0, ip(HERE));
    sim.pass(1_400);
    assert_limited(&sim.answer(line).expect("an answer"), 1..=5);
}

#[test]
fn only_so_many_are_kept_to_be_told() {
    let mut sim = world(Config { connections_per_address_max: 1, ..Config::default() });
    sim.connect_from(0, ip(HERE));
    for _ in 0..32 {
        let now = sim.now;
        assert_eq!(sim.engine_mut().turns_away(ip(HERE), now), None);
        sim.connect_from(0, ip(HERE));
    }
    let now = sim.now;
    let engine = sim.engine_mut();
    assert_eq!(engine.turns_away(ip(HERE), now), Some(Code::RateLimited));
    assert_eq!(engine.turns_away(ip(THERE), now), None);
    assert_eq!(engine.turns_away(Peer::Unix, now), None);
    engine.handle_turned_away(Code::RateLimited);
    assert_eq!(rejected(&sim), 1);
}

#[test]
fn polls_of_an_address_are_held_up_to_a_number() {
    let mut sim = world(Config { polls_per_address_max: 2, ..config() });
    let poll = |client, wait: u32| {
        forwarded(client, "GET", &format!("/channels/a?since=latest&wait={wait}"), "", b"")
    };
    let held = [proxy(&mut sim), proxy(&mut sim)];
    for line in held {
        sim.send(line, &poll(HERE, 20));
        sim.settle();
    }
    let line = proxy(&mut sim);
    let answer = call(&mut sim, line, &poll(HERE, 20));
    assert_limited(&answer, 1..=5);
    assert!(!answer.is_closing());
    assert_eq!(call(&mut sim, line, &poll(HERE, 0)).status, 204, "a short poll is not held");
    sim.publish("b", "x");
    let waiting = forwarded(HERE, "GET", "/channels/b?since=earliest", "", b"");
    assert_eq!(call(&mut sim, line, &waiting).status, 200, "nor one for which there is something");
    let other = proxy(&mut sim);
    sim.send(other, &poll(THERE, 20));
    sim.settle();
    assert_eq!(sim.engine().connections().poll, 3);
    // One that is answered, and one whose client has gone, make room.
    sim.close(held[0]);
    sim.settle();
    sim.send(line, &poll(HERE, 20));
    sim.settle();
    assert!(sim.answer(line).is_none());
    sim.publish("a", "x");
    sim.settle();
    assert_eq!(sim.answer(line).expect("an answer").status, 200);
    for line in [held[1], line] {
        let _ = sim.answer(line);
        sim.send(line, &poll(HERE, 20));
        sim.settle();
        assert!(sim.answer(line).is_none());
    }
}

#[test]
fn nobody_on_this_machine_and_nobody_on_an_open_server_is_limited() {
    let one = Rate { burst: 1, every: Duration::from_secs(60) };
    let strict = Config {
        accepts_per_address: one,
        connections_per_address_max: 1,
        polls_per_address_max: 1,
        publishes_per_address: one,
        publishes_per_channel: one,
        new_channels_per_address: one,
        operations_per_connection: one,
        local_publish: true,
        ..Config::default()
    };
    let cases = [
        (strict.clone(), Peer::Unix),
        (strict.clone(), ip("127.0.0.1")),
        (strict.clone(), ip("::1")),
        (strict.clone(), ip("::ffff:127.0.0.1")),
        (strict.clone().open(), ip(HERE)),
        (Config { addresses_max: 0, trusted_proxies: vec!["unix".into()], ..strict }, Peer::Unix),
    ];
    for (config, peer) in cases {
        let mut sim = world(config);
        for number in 0..3 {
            let line = sim.connect_from(0, peer);
            let target = format!("/channels/{number}");
            assert_eq!(sim.call(line, "POST", &target, b"x").status, 202, "{peer:?}");
            assert_eq!(sim.call(line, "POST", &target, b"x").status, 202, "{peer:?}");
            sim.ask(line, "GET", "/poll?channel=a&since=latest", b"");
        }
        sim.settle();
        assert_eq!(sim.engine().connections().poll, 3, "{peer:?}");
        let line = sim.connect_from(0, peer);
        sim.send(line, &ws::upgrade("/ws", None));
        sim.settle();
        let socket = Ws { line };
        socket.accepted(&mut sim, None);
        socket.jsons(&mut sim);
        for _ in 0..5 {
            assert_eq!(say(&mut sim, &socket, r#"{"op":"ping"}"#)["op"], "pong", "{peer:?}");
        }
    }
}

#[test]
fn a_connection_of_a_proxy_counts_for_whom_it_asks_while_it_does() {
    let mut sim = world(Config {
        connections_per_address_max: 1,
        accepts_per_address: Rate { burst: 3, every: Duration::from_secs(10) },
        ..config()
    });
    let ask = |client| forwarded(client, "GET", "/health", "", b"");
    let line = proxy(&mut sim);
    // Between two requests it is nobody's, and it is new only once.
    for client in [HERE, HERE, THERE, HERE, THERE, THERE, HERE, THERE] {
        assert_eq!(call(&mut sim, line, &ask(client)).status, 200, "{client}");
    }
    let stream = proxy(&mut sim);
    sim.send(stream, &forwarded(HERE, "GET", "/events?channel=a", "", b""));
    sim.settle();
    assert_eq!(call(&mut sim, line, &ask(THERE)).status, 200, "that has no stream");
    let answer = call(&mut sim, line, &ask(HERE));
    assert_limited(&answer, 1..=5);
    assert!(answer.is_closing());
    sim.close(stream);
    sim.settle();
    let third = proxy(&mut sim);
    assert_eq!(call(&mut sim, third, &ask(HERE)).status, 200);
    // Its rate is used up now.
    let fourth = proxy(&mut sim);
    assert_limited(&call(&mut sim, fourth, &ask(HERE)), 10..=10);
    // Who names nobody counts as itself, also on this machine.
    let bare: Vec<_> = (0..2).map(|_| proxy(&mut sim)).collect();
    sim.ask(bare[0], "GET", "/poll?channel=a&since=latest", b"");
    sim.settle();
    assert_limited(&sim.get(bare[1], "/health"), 1..=5);
}

#[test]
fn a_header_of_a_peer_that_is_not_trusted_means_nothing() {
    let mut sim = world(Config { connections_per_address_max: 1, ..config() });
    let first = sim.connect_from(0, ip(HERE));
    let ask = |client| forwarded(client, "GET", "/health", "", b"");
    assert_eq!(call(&mut sim, first, &ask(THERE)).status, 200);
    let second = sim.connect_from(0, ip(HERE));
    assert_limited(&call(&mut sim, second, &ask("192.0.2.77")), 1..=5);
    let other = sim.connect_from(0, ip(THERE));
    assert_eq!(call(&mut sim, other, &ask(HERE)).status, 200);
}

#[test]
fn a_proxy_on_a_unix_socket_is_trusted_if_that_is_said() {
    let trusting = Config { trusted_proxies: vec!["unix".into()], ..config() };
    for (config, wanted) in [(trusting, 429), (config(), 200)] {
        let mut sim = world(Config { connections_per_address_max: 1, ..config });
        let lines = [sim.connect(0), sim.connect(0)];
        sim.send(lines[0], &forwarded(HERE, "GET", "/events?channel=a", "", b""));
        let ask = forwarded(HERE, "GET", "/health", "", b"");
        assert_eq!(call(&mut sim, lines[1], &ask).status, wanted);
    }
}

#[test]
fn what_is_for_this_machine_is_not_for_whom_its_proxy_asks() {
    let mut sim = world(config());
    let line = proxy(&mut sim);
    let ask = |client, target| forwarded(client, "GET", target, "", b"");
    for (client, status) in [(HERE, 403), ("127.0.0.1", 200), ("unknown", 403), ("::1", 200)] {
        for target in ["/stats", "/"] {
            assert_eq!(call(&mut sim, line, &ask(client, target)).status, status, "{client}");
        }
    }
    assert_eq!(sim.get(line, "/stats").status, 200);
    // The proxy's operator decides who of those may publish.
    let publish = forwarded(HERE, "POST", "/channels/a", "", b"x");
    assert_eq!(call(&mut sim, line, &publish).status, 202);
}

#[test]
fn a_full_table_shares_what_it_has_no_place_for() {
    let mut sim = world(Config {
        addresses_max: 3,
        publishes_per_address: Rate { burst: 2, every: Duration::from_secs(1) },
        ..config()
    });
    let lines: Vec<_> = (0..5).map(|_| proxy(&mut sim)).collect();
    let publish =
        |last: usize| forwarded(&format!("192.0.2.{last}"), "POST", "/channels/a", "", b"x");
    for (last, line) in lines.iter().enumerate() {
        assert_eq!(call(&mut sim, *line, &publish(last)).status, 202);
    }
    // The two that came last share one burst, and have had it.
    assert_limited(&call(&mut sim, lines[4], &publish(4)), 1..=1);
    assert_eq!(call(&mut sim, lines[0], &publish(0)).status, 202);
    lines.iter().for_each(|line| sim.close(*line));
    sim.assert_deserted();
}

#[test]
fn only_so_many_wait_for_their_peers_to_have_read() {
    let mut sim = world(Config { connections_max: 100, ..Config::default().open() });
    let lines: Vec<_> = (0..40).map(|_| sim.connect(0)).collect();
    for line in &lines {
        sim.send(*line, b"nonsense\r\n\r\n");
    }
    sim.settle();
    let closed = lines.iter().filter(|line| sim.is_closed(**line)).count();
    assert_eq!(closed, 8, "thirty-two linger");
    for line in lines {
        assert_eq!(sim.answer(line).expect("all have got it").status, 400);
    }
    sim.pass(5_000);
    sim.assert_deserted();
}

#[test]
fn who_takes_nothing_is_counted() {
    let mut sim = Sim::open(Pace::Whole);
    let line = Sse::open(&mut sim, 0, "/channels/a").line;
    sim.stall(line, 10);
    sim.publish("a", "does not fit");
    sim.pass(40_000);
    assert!(sim.is_closed(line));
    assert_eq!(sim.engine().stats().stalled, 1);
    let line = sim.connect(0);
    let stats = sim.get(line, "/stats").json();
    assert_eq!(stats["rejected"], json!({ "stalled": 1 }));
}

#[test]
fn closes_that_have_no_other_name_are_counted_by_their_code() {
    let mut sim = Sim::open(Pace::Whole);
    let socket = Ws::open(&mut sim, 0, "/ws");
    sim.pass(40_000);
    assert_eq!(socket.frames(&mut sim).last().and_then(|frame| frame.code()), Some(4408));
    let lost = "/channels/a?since=zzzzzzzz-5";
    let raw = Ws::open(&mut sim, 0, lost);
    assert_eq!(raw.frames(&mut sim).last().and_then(|frame| frame.code()), Some(1013));
    let line = sim.connect(0);
    let stats = sim.get(line, "/stats").json();
    assert_eq!(stats["rejected"], json!({ "ws_1013": 1, "ws_4408": 1 }));
}

/// Strangers who do anything, with limits that they meet all the time: what is counted is checked
/// after each call, and nothing is left of them.
#[test]
fn what_is_counted_is_what_there_is() {
    for seed in 0..20 {
        println!("seed {seed}");
        let few = Rate { burst: 3, every: Duration::from_millis(300) };
        let config = Config {
            addresses_max: 3,
            accepts_per_address: Rate { burst: 6, every: Duration::from_millis(200) },
            connections_per_address_max: 4,
            polls_per_address_max: 2,
            publishes_per_address: few,
            new_channels_per_address: few,
            operations_per_connection: few,
            connections_max: 30,
            ..config()
        };
        let mut sim = Sim::new(config, 1, seed);
        let mut lines: Vec<usize> = Vec::new();
        for _ in 0..400 {
            let client = format!("192.0.2.{}", sim.rng.u32(0..6));
            let channel = sim.rng.u32(0..20);
            let line = match lines.len() {
                0 => None,
                len => Some(lines[sim.rng.u32(0..len as u32) as usize]),
            };
            match (sim.rng.u32(0..10), line) {
                (0..=2, _) | (_, None) => {
                    let peers = [ip(&client), ip("127.0.0.1"), Peer::Unix];
                    let peer = peers[sim.rng.u32(0..3) as usize];
                    let now = sim.now;
                    if sim.engine_mut().turns_away(peer, now).is_none() {
                        lines.push(sim.connect_from(0, peer));
                    }
                }
                (3, Some(line)) => {
                    let target = format!("/poll?channel=c{channel}&since=latest&wait=3");
                    sim.send(line, &forwarded(&client, "GET", &target, "", b""));
                }
                (4, Some(line)) => {
                    let target = format!("/channels/c{channel}");
                    sim.send(line, &forwarded(&client, "POST", &target, "", b"x"));
                }
                (5, Some(line)) => {
                    let target = format!("/events?channel=c{channel}");
                    let accept = "Accept: text/event-stream\r\n";
                    sim.send(line, &forwarded(&client, "GET", &target, accept, b""));
                }
                (6, Some(line)) => {
                    sim.send(line, &ws::upgrade(&format!("/channels/c{channel}"), None));
                    Ws { line }.text(&mut sim, "x");
                }
                (7, Some(line)) => sim.send(line, b"nonsense\r\n\r\n"),
                (8, Some(line)) => sim.close(line),
                (_, Some(_)) => sim.pass(500),
            }
            if sim.rng.u32(0..2) == 0 {
                sim.settle();
            }
            lines.retain(|line| !sim.is_closed(*line));
        }
        assert!(rejected(&sim) > 0, "no limit was met");
        lines.iter().for_each(|line| sim.close(*line));
        sim.assert_deserted();
    }
}

#[test]
fn requests_of_one_connection_are_one_connection_where_the_table_is_full() {
    let mut sim = world(Config { addresses_max: 1, ..config() });
    let first = proxy(&mut sim);
    call(&mut sim, first, &forwarded(HERE, "GET", "/health", "", b""));
    let line = proxy(&mut sim);
    for number in 0..100 {
        let answer = call(&mut sim, line, &forwarded(THERE, "GET", "/health", "", b""));
        assert_eq!(answer.status, 200, "request {number}");
    }
}
