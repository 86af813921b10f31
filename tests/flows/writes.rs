//! Output that does not fit: cut at any byte, by a budget, or for good. Nothing is lost, nothing comes
//! twice, and who does not read costs next to nothing.

use std::time::Duration;

use holdline::{Config, Message};

use crate::sim::clients::{Sse, Ws, request};
use crate::sim::{Pace, Sim, ws};

/// Something that a client is to be sent, and what is done to have it sent.
struct Script {
    name: &'static str,
    open: fn(&mut Sim) -> usize,
    act: fn(&mut Sim, usize),
}

fn config() -> Config {
    Config { history_messages: 4, recent_bytes: 0, ..Config::default().open() }
}

/// All bytes that the client gets from the act on, its pipe full after `cut` of them; `None` if that
/// is more than the act alone has it sent.
fn run(script: &Script, cut: Option<usize>) -> Option<Vec<u8>> {
    let mut sim = Sim::new(config(), 1, 11);
    let line = (script.open)(&mut sim);
    sim.settle();
    sim.lines[line].received.clear();
    match cut {
        Some(cut) => sim.stall(line, cut),
        None => sim.unstall(line),
    }
    (script.act)(&mut sim, line);
    sim.settle();
    if let Some(cut) = cut {
        if !sim.is_blocked(line) {
            return None;
        }
        assert_eq!(sim.lines[line].in_flight(), cut, "{}", script.name);
        // Room for one byte, and for none: neither may make a difference.
        sim.lines[line].window = cut + 1;
        sim.take(line, 1);
        sim.settle();
        let (id, now) = (sim.lines[line].id, sim.now);
        sim.engine_mut().handle_writable(id, now);
        sim.settle();
        sim.unstall(line);
        sim.settle();
    }
    // Whatever it was, the connection has gone on in order.
    sim.publish("a", "afterwards");
    sim.settle();
    Some(std::mem::take(&mut sim.lines[line].received))
}

fn three(sim: &mut Sim, _: usize) {
    sim.publish("a", Message::from("one\ntwo").event("tick"));
    sim.publish("a", Message::bytes([0xff, 0, 1]));
    sim.publish("b", "elsewhere");
    sim.publish("a", Message::json("{\"n\":[1,2,3]}").expect("JSON"));
}

fn ask_stream(sim: &mut Sim, line: usize) {
    let target = format!("/events?channel=a&since={}", sim.id(1));
    sim.send(line, &request("GET", &target, "Accept: text/event-stream\r\n", b""));
}

fn with_history(sim: &mut Sim) -> usize {
    for n in 1..=6 {
        sim.publish("a", n.to_string());
    }
    sim.connect(0)
}

const SCRIPTS: [Script; 15] = [
    Script { name: "live, ws", open: |sim| Ws::open(sim, 0, "/ws?channel=a").line, act: three },
    Script { name: "live, raw ws", open: |sim| Ws::open(sim, 0, "/channels/a").line, act: three },
    Script { name: "live, meta", open: |sim| Ws::meta(sim, 0, "/channels/a").line, act: three },
    Script {
        name: "live, events",
        open: |sim| Sse::open(sim, 0, "/events?channel=a").line,
        act: three,
    },
    Script { name: "live, raw sse", open: |sim| Sse::open(sim, 0, "/channels/a").line, act: three },
    Script {
        name: "live, sse 1.0",
        open: |sim| {
            let line = sim.connect(0);
            sim.send(line, b"GET /events?channel=a HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n");
            line
        },
        act: three,
    },
    Script {
        name: "a held poll",
        open: |sim| {
            let line = sim.connect(0);
            sim.ask(line, "GET", "/poll?channel=a&since=latest", b"");
            line
        },
        act: three,
    },
    Script {
        name: "a held raw poll",
        open: |sim| {
            let line = sim.connect(0);
            sim.ask(line, "GET", "/channels/a?since=latest", b"");
            line
        },
        act: three,
    },
    Script {
        name: "a poll with a gap, and a request behind it",
        open: with_history,
        act: |sim, line| {
            let target = format!("/poll?channel=a&since={}", sim.id(1));
            sim.ask(line, "GET", &target, b"");
            sim.ask(line, "GET", "/health", b"");
        },
    },
    Script { name: "the start of a stream with a gap", open: with_history, act: ask_stream },
    Script {
        name: "a handshake with a gap",
        open: with_history,
        act: |sim, line| {
            let target = format!("/ws?channel=a&channel=b&since={}", sim.id(1));
            sim.send(line, &ws::upgrade(&target, None));
        },
    },
    Script {
        name: "a later subscription, its replay, and an own publish",
        open: |sim| {
            with_history(sim);
            Ws::open(sim, 0, "/ws?channel=b").line
        },
        act: |sim, line| {
            let since = sim.id(1);
            let join = format!(r#"{{"op":"subscribe","ref":1,"channel":"a","since":"{since}"}}"#);
            let publish = r#"{"op":"publish","ref":2,"channel":"b","text":"own"}"#;
            Ws { line }.texts(sim, &[&join, publish, r#"{"op":"ping"}"#]);
        },
    },
    Script {
        name: "several answers",
        open: |sim| sim.connect(0),
        act: |sim, line| {
            sim.ask(line, "POST", "/channels/a", b"x");
            sim.ask(line, "GET", "/channels/a", b"");
            sim.ask(line, "PATCH", "/channels/a", b"");
        },
    },
    Script {
        name: "a gap while connected",
        open: |sim| {
            let line = Ws::open(sim, 0, "/ws?channel=a").line;
            sim.stall(line, 0);
            (1..=9).for_each(|n| {
                sim.publish("a", n.to_string());
                sim.settle();
            });
            line
        },
        act: |sim, line| {
            // The pipe opens as far as it is wide; nothing was in it.
            sim.take(line, 0);
        },
    },
    Script {
        name: "a farewell",
        open: |sim| Ws::open(sim, 0, "/ws?channel=a").line,
        act: |sim, line| {
            sim.publish("a", "last");
            sim.settle();
            Ws { line }.close(sim, 1000);
        },
    },
];

#[test]
fn output_that_is_cut_at_any_byte_is_the_same_output() {
    for script in &SCRIPTS {
        let whole = run(script, None).expect("nothing is cut");
        let mut cuts = 0;
        while let Some(got) = run(script, Some(cuts)) {
            let at = got.iter().zip(&whole).position(|(a, b)| a != b);
            assert!(
                got == whole,
                "{}: cut at {cuts} it differs at {at:?}:\n{}\n{}",
                script.name,
                String::from_utf8_lossy(&got),
                String::from_utf8_lossy(&whole)
            );
            cuts += 1;
        }
        println!("{}: {cuts} cuts of {} bytes", script.name, whole.len());
        assert!(cuts > 20, "{}: {cuts} cuts", script.name);
    }
}

/// Everything that has a budget, each as small as it may be.
fn tight() -> Config {
    Config {
        read_bytes_per_turn: 16,
        reply_bytes_per_turn: 64,
        arena_bytes: 64,
        writes_per_turn: 1,
        write_bytes_per_turn: 10,
        timers_per_turn: 1,
        poll_messages_max: 2,
        ..Config::default().open()
    }
}

#[test]
fn the_smallest_budgets_lose_nothing() {
    let mut sim = Sim::with(tight(), Pace::Whole);
    let json: Vec<_> = (0..10).map(|_| Ws::open(&mut sim, 0, "/ws?channel=a&channel=b")).collect();
    let raw: Vec<_> = (0..10).map(|_| Ws::open(&mut sim, 0, "/channels/a")).collect();
    let mut sse: Vec<_> = (0..10).map(|_| Sse::open(&mut sim, 0, "/events?channel=a")).collect();
    json.iter().for_each(|socket| drop(socket.frames(&mut sim)));
    sse.iter_mut().for_each(|sse| drop(sse.blocks(&mut sim)));
    let mut wanted = Vec::new();
    for round in 0..10 {
        for (n, socket) in json.iter().enumerate() {
            let text = format!("{round}.{n} {}", "x".repeat(200));
            let publish = format!(r#"{{"op":"publish","ref":{n},"channel":"a","text":"{text}"}}"#);
            socket.texts(&mut sim, &[&publish, r#"{"op":"ping"}"#]);
            wanted.push(text);
        }
        sim.settle();
    }
    for (n, socket) in json.iter().enumerate() {
        let got = socket.jsons(&mut sim);
        let count = |op: &str| got.iter().filter(|value| value["op"] == op).count();
        assert_eq!((count("ok"), count("pong"), count("message")), (10, 10, 100));
        let mine: Vec<_> = got.iter().filter_map(|value| value["ref"].as_u64()).collect();
        assert!(mine.iter().all(|reference| *reference == n as u64));
        let mut texts: Vec<_> = got.iter().filter_map(|value| value["text"].as_str()).collect();
        texts.sort_unstable();
        let mut sorted = wanted.clone();
        sorted.sort_unstable();
        assert_eq!(texts, sorted);
    }
    assert!(raw.iter().all(|socket| socket.frames(&mut sim).len() == 100));
    assert!(sse.iter_mut().all(|sse| sse.blocks(&mut sim).len() == 100));
    // Many deadlines at one moment are dealt with one a turn.
    let polls: Vec<_> = (0..50)
        .map(|_| {
            let line = sim.connect(0);
            sim.ask(line, "GET", "/poll?channel=c&since=latest&wait=1", b"");
            line
        })
        .collect();
    sim.pass(1_500);
    assert!(polls.iter().all(|line| sim.answer(*line).is_some()));
}

/// A replay that takes many looks at the order goes on however little is written in a turn.
#[test]
fn a_long_replay_goes_on_after_each_budget() {
    let mut sim = Sim::with(tight(), Pace::Whole);
    for n in 0..900 {
        sim.publish("a", format!("{n} {}", "x".repeat(100)));
    }
    let target = format!("since={}", sim.id(0));
    let json = Ws::open(&mut sim, 0, &format!("/ws?channel=a&{target}"));
    let raw = Ws::open(&mut sim, 0, &format!("/channels/a?{target}"));
    let mut sse = Sse::open(&mut sim, 0, &format!("/events?channel=a&channel=b&{target}"));
    assert_eq!(raw.frames(&mut sim).len(), 900);
    assert_eq!(sse.blocks(&mut sim).len(), 901);
    let got = json.jsons(&mut sim);
    assert_eq!((got.len(), &got[902]["op"]), (903, &"live".into()));
}

/// A small memory is used to the brim, and refuses nobody but for slow readers.
#[test]
fn a_small_memory_is_used_to_the_brim() {
    // An eighth is not shared out.
    let config = Config { memory_bytes: 50_000 / 7 * 8, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let socket = Ws::open(&mut sim, 0, "/channels/c0");
    for n in 0..2_000 {
        sim.publish(&format!("c{}", n % 7), "x".repeat(n % 500));
        sim.settle();
        let stats = sim.history.stats();
        let used = stats.memory_used + stats.memory_tables + stats.memory_connections;
        assert!(used <= 50_000 && (n < 200 || used > 45_000), "{used} bytes after {n}");
    }
    assert_eq!(socket.frames(&mut sim).len(), 2_000_usize.div_ceil(7));
}

/// Commands that cost more in answers than in bytes, from one who does not read the answers.
#[test]
fn a_flooder_that_does_not_read_is_not_read() {
    let mut sim = Sim::open(Pace::Whole);
    let flooder = Ws::open(&mut sim, 0, "/ws");
    flooder.frames(&mut sim);
    sim.stall(flooder.line, 1_000);
    let command = ws::frame(ws::TEXT, br#"{"op":"?"}"#, [1, 2, 3, 4]);
    (0..20_000).for_each(|_| sim.send(flooder.line, &command));
    sim.settle();
    let unread = sim.lines[flooder.line].unread();
    assert!(unread > 20_000 * command.len() - 100_000, "{unread} bytes were left unread");
    // Others do not notice.
    let other = Ws::open(&mut sim, 0, "/ws");
    assert_eq!(other.json(&mut sim)["op"], "hello");
    // Bit by bit it gets every answer.
    let mut answers = 0;
    while answers < 20_000 {
        assert!(sim.take(flooder.line, 777) > 0, "after {answers} answers nothing moves");
        sim.settle();
        answers += flooder.jsons(&mut sim).iter().filter(|value| value["op"] == "error").count();
    }
    assert_eq!((answers, sim.lines[flooder.line].unread()), (20_000, 0));
}

/// A request that came while the answer to the one before did not fit, and nothing was kept.
#[test]
fn input_that_was_left_in_the_socket_is_read_when_the_answers_are_out() {
    let mut sim = Sim::open(Pace::Whole);
    let line = sim.connect(0);
    sim.stall(line, 100);
    let body = "{\"channel\":\"a\",\"text\":\"x\"}\n".repeat(500);
    for _ in 0..3 {
        sim.ask(line, "POST", "/publish", body.as_bytes());
        sim.settle();
    }
    assert!(sim.lines[line].unread() > 0);
    sim.unstall(line);
    sim.settle();
    let answers: Vec<_> = std::iter::from_fn(|| sim.answer(line)).collect();
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(|answer| answer.text().lines().count() == 500));
}

/// Who stands still pins the publication that was cut for it, and nothing else.
#[test]
fn a_stalled_reader_costs_at_most_one_publication() {
    let config = Config {
        history_age: Duration::from_secs(10),
        recent_bytes: 5_000,
        ..Config::default().open()
    };
    let mut sim = Sim::new(config, 1, 1);
    sim.publish("a", "x".repeat(1_000));
    let weight = sim.history.stats().memory_used;
    let open = |sim: &mut Sim, n: usize| match n % 5 {
        0 => Ws::open(sim, 0, "/ws?channel=a&channel=b").line,
        1 => Ws::open(sim, 0, "/channels/a").line,
        2 => Sse::open(sim, 0, "/events?channel=a").line,
        3 => Sse::open(sim, 0, "/channels/a").line,
        _ => {
            let line = sim.connect(0);
            sim.ask(line, "GET", "/poll?channel=a&since=latest", b"");
            sim.settle();
            line
        }
    };
    // All are cut in one publication, then each of twenty in one of its own.
    let together: Vec<_> = (0..50).map(|n| open(&mut sim, n)).collect();
    together.iter().for_each(|line| sim.stall(*line, 500));
    sim.publish("a", "x".repeat(1_000));
    sim.settle();
    let alone: Vec<_> = (0..20)
        .map(|n| {
            let line = open(&mut sim, n * 5 + n % 4);
            sim.stall(line, 500);
            sim.publish("a", "x".repeat(1_000));
            sim.settle();
            line
        })
        .collect();
    assert!(together.iter().chain(&alone).all(|line| sim.is_blocked(*line)));
    // 100 more go through, and everything ages away.
    for _ in 0..100 {
        sim.publish("b", "x".repeat(1_000));
        sim.settle();
    }
    for _ in 0..5 {
        sim.pass(24_000);
        for line in together.iter().chain(&alone) {
            sim.take(*line, 10);
        }
        sim.settle();
    }
    let used = sim.history.stats().memory_used;
    // One that all share, and twenty.
    assert!(used <= 21 * weight, "{used} bytes for 21 publications of {weight}");
    assert!(used >= 21 * weight - 21 * 300, "{used} bytes: nothing was pinned");
    together.iter().chain(&alone).for_each(|line| sim.unstall(*line));
    sim.settle();
    assert_eq!(sim.history.stats().memory_used, 0);
}

/// What was rendered for many at once is let go of with the last of them, also where that spends the
/// last of a budget.
#[test]
fn rendered_publications_are_not_kept_for_nobody() {
    let config = Config { writes_per_turn: 1, recent_bytes: 0, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let socket = Ws::open(&mut sim, 0, "/channels/a");
    sim.publish("a", "x".repeat(10_000));
    sim.settle();
    assert_eq!(socket.frames(&mut sim).len(), 1);
    // History lets go of it, and no turn comes.
    sim.history.clear("a", sim.now);
    sim.publish("b", Message::from("").ttl(Duration::ZERO));
    let used = sim.history.stats().memory_used;
    assert!(used < 1_000, "{used} bytes are pinned");
}
