//! An orderly end that takes its time: who is told when, and what goes on until then.

use std::time::Duration;

use holdline::{Config, Message};
use serde_json::Value;

use crate::both_paces;
use crate::sim::clients::{Sse, Ws, request};
use crate::sim::{Pace, Sim};

/// What stamps may add to a moment.
const LATE_MS: u64 = 64;

both_paces!(
    until_its_moment_a_listener_is_served,
    requests_are_answered_with_close_and_new_listeners_are_put_off,
    a_notice_changes_what_ready_says_and_nothing_else,
    asked_to_hurry_it_tells_everyone_at_once,
);

fn drain(sim: &mut Sim, grace: Duration) {
    let now = sim.now;
    sim.engine_mut().handle_drain_over(grace, now);
    sim.settle();
}

/// Lets time pass from one farewell to the next; when, and to which lines, each of them came.
fn farewells(sim: &mut Sim, lines: &[usize]) -> Vec<(u64, usize)> {
    let start = sim.now.mono_ms;
    let mut told: Vec<(u64, usize)> = Vec::new();
    while told.len() < lines.len() {
        let before = told.len();
        for line in lines {
            let is_new = !told.iter().any(|(_, known)| known == line);
            // Where many linger already, one that is owed nothing is closed without a word.
            let has_ended = sim.lines[*line].is_finished || sim.is_closed(*line);
            if is_new && (!sim.lines[*line].received.is_empty() || has_ended) {
                told.push((sim.now.mono_ms - start, *line));
            }
        }
        if told.len() == before {
            let due = sim.next_deadline().expect("somebody has not been told");
            sim.pass(due - sim.now.mono_ms);
        }
        assert!(sim.now.mono_ms < start + 60_000, "told {told:?}");
    }
    told
}

/// One of each kind that can wait for something.
fn one_of_each(sim: &mut Sim) -> Vec<usize> {
    let idle = sim.connect(0);
    sim.get(idle, "/health");
    let poll = sim.connect(0);
    sim.ask(poll, "GET", "/poll?channel=a&since=latest&wait=55", b"");
    let raw_poll = sim.connect(0);
    sim.ask(raw_poll, "GET", "/channels/a?wait=55", b"");
    let sockets = [Ws::open(sim, 0, "/ws?channel=a"), Ws::open(sim, 0, "/channels/a")];
    let meta = Ws::meta(sim, 0, "/channels/a");
    let streams = ["/events?channel=a", "/channels/a"].map(|target| Sse::open(sim, 0, target).line);
    sim.settle();
    let lines = [idle, poll, raw_poll, sockets[0].line, sockets[1].line, meta.line];
    let lines = [&lines[..], &streams].concat();
    lines.iter().for_each(|line| sim.lines[*line].received.clear());
    lines
}

#[test]
fn farewells_come_in_random_order_over_the_window() {
    let mut orders = Vec::new();
    for seed in 1..=4_u64 {
        let mut sim = Sim::new(Config::default().open(), 1, seed);
        let lines: Vec<usize> = (0..25).flat_map(|_| one_of_each(&mut sim)).collect();
        drain(&mut sim, Duration::from_secs(20));
        let told = farewells(&mut sim, &lines);
        // Two hundred take the whole window, and no more; no half of it has much more than its part.
        let last = told.last().expect("some").0;
        assert!((14_000..=16_000).contains(&last), "seed {seed}: the last after {last} ms");
        let early = told.iter().filter(|(ms, _)| *ms < 8_000).count();
        assert!((70..=130).contains(&early), "seed {seed}: {early} in the first half");
        let most = told.chunk_by(|a, b| a.0 / 100 == b.0 / 100).map(<[_]>::len).max();
        assert!(most < Some(12), "seed {seed}: {most:?} in a tenth of a second");
        orders.push(told.iter().map(|(_, line)| *line).collect::<Vec<_>>());
        assert!(!orders.last().expect("one").is_sorted(), "seed {seed}");
    }
    assert!(orders.windows(2).all(|two| two[0] != two[1]), "the order is the seed's");
}

#[test]
fn few_are_told_soon() {
    for (count, most) in [(1, 100), (3, 300), (50, 5_000)] {
        let mut sim = Sim::open(Pace::Whole);
        let lines: Vec<usize> =
            (0..count).map(|_| Sse::open(&mut sim, 0, "/events?channel=a").line).collect();
        lines.iter().for_each(|line| sim.lines[*line].received.clear());
        drain(&mut sim, Duration::from_secs(20));
        let told = farewells(&mut sim, &lines);
        assert!(told.last().expect("some").0 <= most, "{count}: {told:?}");
    }
}

#[test]
fn a_short_grace_is_kept_whoever_many_there_are() {
    let mut sim = Sim::open(Pace::Whole);
    let lines: Vec<usize> = (0..30).flat_map(|_| one_of_each(&mut sim)).collect();
    drain(&mut sim, Duration::from_secs(2));
    let told = farewells(&mut sim, &lines);
    let last = told.last().expect("some").0;
    assert!((1_400..=1_600).contains(&last), "the last after {last} ms");
}

#[test]
fn everyone_is_told_a_moment_of_its_own_to_come_back() {
    for (grace, max) in [(0, 5_000), (20, 20_000), (500, 60_000)] {
        let mut sim = Sim::open(Pace::Whole);
        let polls: Vec<usize> = (0..100)
            .map(|_| {
                let line = sim.connect(0);
                sim.ask(line, "GET", "/poll?channel=a&since=latest&wait=55", b"");
                line
            })
            .collect();
        sim.settle();
        drain(&mut sim, Duration::from_secs(grace));
        // One message for all of them answers what is left of them in one moment.
        sim.publish("a", "x");
        sim.settle();
        let mut retries: Vec<u64> = polls
            .iter()
            .map(|line| sim.answer(*line).expect("an answer").json()["retry_ms"].as_u64())
            .map(|ms| ms.expect("when to come back"))
            .collect();
        retries.sort_unstable();
        retries.dedup();
        assert!(retries.len() > 80, "grace {grace}: {retries:?}");
        assert!((1_000..max / 4).contains(&retries[0]), "grace {grace}: {retries:?}");
        let last = retries[retries.len() - 1];
        assert!((max / 4 * 3..=max).contains(&last), "grace {grace}: {retries:?}");
    }
}

fn until_its_moment_a_listener_is_served(pace: Pace) {
    let config = Config { heartbeat: Duration::from_secs(2), ..Config::default().open() };
    let mut sim = Sim::with(config, pace);
    let crowd: Vec<usize> =
        (0..40).map(|_| Sse::open(&mut sim, 0, "/channels/crowd").line).collect();
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    let raw = Ws::open(&mut sim, 0, "/channels/a");
    let mut sse = Sse::open(&mut sim, 0, "/events?channel=a");
    ws.frames(&mut sim);
    sse.blocks(&mut sim);
    drain(&mut sim, Duration::from_secs(20));
    // Somebody else publishes all the time.
    let mut sent = 0;
    while !(sim.lines[sse.line].is_finished && [&ws, &raw].iter().all(|one| one.is_over(&sim))) {
        sim.publish("a", format!("{sent}"));
        sent += 1;
        sim.pass(50);
        assert!(sent < 200, "they are never told");
    }
    let objects: Vec<_> =
        ws.frames(&mut sim).into_iter().filter(|frame| frame.opcode == 1).collect();
    let objects: Vec<_> = objects.iter().map(|frame| frame.json()).collect();
    let texts: Vec<_> = objects.iter().filter(|one| one["op"] == "message").collect();
    assert!(texts.iter().enumerate().all(|(n, one)| says(one, n)), "{objects:?}");
    assert_eq!(objects.last().expect("a farewell")["op"], "bye");
    let frames = raw.frames(&mut sim);
    let (close, frames) = frames.split_last().expect("a close");
    let frames: Vec<_> = frames.iter().filter(|frame| frame.opcode == 1).collect();
    assert!(frames.iter().enumerate().all(|(n, one)| one.payload == n.to_string().as_bytes()));
    assert_eq!(close.code(), Some(1012));
    let blocks = sse.blocks(&mut sim);
    let messages: Vec<_> =
        blocks.iter().filter(|one| one.name() == "message" && one.data.is_some()).collect();
    assert!(messages.iter().enumerate().all(|(n, one)| says(&one.json(), n)));
    assert_eq!(blocks.last().expect("a farewell").name(), "bye");
    assert!(texts.len() + frames.len() + messages.len() > 3, "nothing came after it began");
    assert_eq!(crowd.len(), 40);
}

fn says(envelope: &Value, number: usize) -> bool {
    envelope["text"].as_str().is_some_and(|text| text.parse() == Ok(number))
}

impl Ws {
    fn is_over(&self, sim: &Sim) -> bool {
        // Our Close, unmasked: final, of two bytes and a word.
        sim.lines[self.line]
            .received
            .windows(4)
            .any(|four| four[0] == 0x88 && four[2..] == [3, 244])
    }
}

fn requests_are_answered_with_close_and_new_listeners_are_put_off(pace: Pace) {
    let mut sim = Sim::open(pace);
    let crowd: Vec<usize> =
        (0..30).map(|_| Sse::open(&mut sim, 0, "/channels/crowd").line).collect();
    let kept = sim.connect(0);
    sim.get(kept, "/health");
    let fresh = sim.connect(0);
    drain(&mut sim, Duration::from_secs(20));
    for line in [kept, fresh] {
        if !sim.lines[line].is_finished {
            let answer = sim.call(line, "POST", "/channels/a", b"x");
            assert_eq!((answer.status, answer.is_closing()), (202, true));
        }
    }
    assert_eq!(sim.history.head(), 2);
    for target in ["/poll?channel=a&since=latest", "/events?channel=a&v=1"] {
        let line = sim.connect(0);
        let answer = sim.get(line, target);
        assert_eq!((answer.status, answer.is_closing()), (503, true), "{target}");
    }
    let mut soft = Sse::open(&mut sim, 0, "/events?channel=a");
    assert!(soft.block(&mut sim).retry.is_some_and(|ms| (1_000..=20_000).contains(&ms)));
    assert!(soft.next(&mut sim).is_none() && soft.stream.is_over);
    // One that says nothing does not keep the server.
    let silent = sim.connect(0);
    sim.pass(1_000 + 250 + LATE_MS);
    assert!(sim.is_closed(silent));
    farewells(&mut sim, &crowd);
}

fn a_notice_changes_what_ready_says_and_nothing_else(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = sim.connect(0);
    assert_eq!(sim.get(line, "/ready").status, 200);
    let now = sim.now;
    sim.engine_mut().handle_drain_notice(now);
    assert!(!sim.engine().is_draining());
    let answer = sim.get(line, "/ready");
    assert_eq!((answer.status, answer.is_closing()), (503, false));
    assert_eq!(answer.json()["error"], "draining");
    assert_eq!(sim.get(line, "/health").status, 200);
    let lines = one_of_each(&mut sim);
    sim.pass(5_000);
    assert!(lines.iter().all(|line| sim.lines[*line].received.is_empty()), "nobody is told yet");
    assert!(lines.iter().all(|line| !sim.is_closed(*line)));
}

fn asked_to_hurry_it_tells_everyone_at_once(pace: Pace) {
    let mut sim = Sim::open(pace);
    let lines: Vec<usize> = (0..5).flat_map(|_| one_of_each(&mut sim)).collect();
    drain(&mut sim, Duration::from_secs(20));
    let told = |sim: &Sim, line: &usize| {
        sim.lines[*line].is_finished || !sim.lines[*line].received.is_empty()
    };
    assert!(lines.iter().filter(|line| told(&sim, line)).count() < 10);
    // More time than there was changes nothing.
    let due = sim.next_deadline();
    drain(&mut sim, Duration::from_secs(60));
    assert_eq!(sim.next_deadline(), due);
    drain(&mut sim, Duration::ZERO);
    assert!(lines.iter().all(|line| told(&sim, line)));
    let now = sim.now;
    sim.engine_mut().handle_drain(now);
    sim.settle();
}

#[test]
fn with_less_time_the_rest_is_told_within_that() {
    let mut sim = Sim::open(Pace::Whole);
    let lines: Vec<usize> = (0..25).flat_map(|_| one_of_each(&mut sim)).collect();
    drain(&mut sim, Duration::from_secs(20));
    sim.pass(4_000);
    drain(&mut sim, Duration::from_secs(1));
    let told = farewells(&mut sim, &lines);
    let last = told.last().expect("some").0;
    assert!((600..=800).contains(&last), "the last after {last} ms");
}

/// A poll that was woken by something that is gone again is answered all the same.
#[test]
fn a_poll_that_is_behind_and_owed_nothing_is_answered_at_its_moment() {
    let mut sim = Sim::open(Pace::Whole);
    let line = sim.connect(0);
    sim.ask(line, "GET", "/poll?channel=a&since=latest&wait=55", b"");
    sim.settle();
    sim.publish("a", Message::from("gone").ttl(Duration::from_secs(1)));
    sim.jump(sim.now.mono_ms + 2_000);
    drain(&mut sim, Duration::ZERO);
    let answer = sim.answer(line).expect("an answer");
    assert!(answer.is_closing() && answer.json()["retry_ms"].is_u64(), "{answer:?}");
    assert_eq!(answer.json()["messages"], Value::Array(Vec::new()));
}

/// A connection that has gone before its moment, and one that has its place: neither is a farewell.
#[test]
fn who_has_gone_is_not_told_and_nobody_in_its_place_either() {
    let mut sim = Sim::open(Pace::Whole);
    let lines: Vec<usize> = (0..40).map(|_| Sse::open(&mut sim, 0, "/channels/a").line).collect();
    drain(&mut sim, Duration::from_secs(20));
    lines.iter().for_each(|line| sim.close(*line));
    sim.settle();
    assert_eq!(sim.engine().len(), 0);
    let line = sim.connect(0);
    sim.send(line, b"POST /channels/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nha");
    sim.pass(4_100);
    sim.send(line, b"lf");
    sim.settle();
    assert_eq!(sim.answer(line).expect("an answer").status, 202);
}

/// Between two farewells nothing wakes the loop, and behind the last nothing is left to wait for.
#[test]
fn it_sleeps_between_farewells() {
    let mut sim = Sim::open(Pace::Whole);
    let lines: Vec<usize> = (0..50).flat_map(|_| one_of_each(&mut sim)).collect();
    drain(&mut sim, Duration::from_secs(20));
    sim.wakes = 0;
    farewells(&mut sim, &lines);
    // One for each at most, the wheel's ticks (answers linger, too), and a few for what they file.
    assert!(sim.wakes <= lines.len() + 17_000 / 250 + 20, "{} wake-ups", sim.wakes);
    lines.iter().for_each(|line| sim.close(*line));
    sim.assert_deserted();
}

/// An idle connection that asks once more in the same moment is answered, and that is the last.
#[test]
fn a_request_before_the_moment_of_an_idle_connection_is_answered() {
    let mut sim = Sim::open(Pace::Whole);
    let crowd: Vec<usize> = (0..200).map(|_| Sse::open(&mut sim, 0, "/channels/a").line).collect();
    let idle: Vec<usize> = (0..20)
        .map(|_| {
            let line = sim.connect(0);
            sim.get(line, "/health");
            line
        })
        .collect();
    drain(&mut sim, Duration::from_secs(20));
    sim.pass(3_000);
    let mut answered = 0;
    for line in idle {
        if !sim.lines[line].is_finished {
            sim.send(line, &request("GET", "/health", "", b""));
            sim.settle();
            let answer = sim.answer(line).expect("an answer");
            assert_eq!((answer.status, answer.is_closing()), (200, true));
            assert!(sim.lines[line].is_finished);
            answered += 1;
        }
    }
    assert!(answered > 5 && crowd.len() == 200, "{answered}");
}
