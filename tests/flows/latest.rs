//! Conflation: on channels that match a pattern only the newest of each event name is owed, and what
//! is skipped is no gap.

use std::time::Duration;

use holdline::{Config, Message};

use super::readers::{Got, everywhere, text};
use crate::both_paces;
use crate::sim::clients::{Sse, Ws};
use crate::sim::{Pace, Sim, ws};

both_paces!(
    a_position_before_what_was_superseded_is_recovered_with_the_newest_of_each_name,
    a_slow_reader_gets_only_the_newest_and_no_gap,
    of_several_in_one_turn_only_the_newest_comes,
    a_reader_that_keeps_up_gets_every_one,
    what_is_half_written_is_finished,
    a_poll_gets_the_newest_of_each_name,
    on_one_connection_other_channels_lose_nothing,
    a_ttl_of_zero_supersedes_its_like_and_leaves_what_is_kept,
    deleting_works_as_ever,
    a_limit_that_takes_the_newest_of_a_name_is_a_gap,
    a_repeated_key_is_answered_with_the_first_id,
);

/// `a` and `a.…` conflate, others do not.
fn latest() -> Config {
    Config { latest: vec!["a".to_owned(), "a.*".to_owned()], ..Config::default().open() }
}

fn named(event: &str, text: &str) -> Message {
    Message::from(text).event(event)
}

fn passing(text: &str) -> Message {
    Message::from(text).ttl(Duration::ZERO)
}

#[track_caller]
fn assert_everywhere(sim: &mut Sim, since: u64, wanted: &[Got]) {
    let since = format!("since={}", sim.id(since));
    for (by, got) in everywhere(sim, &since) {
        assert_eq!(got, wanted, "{since} by {by}");
    }
}

fn texts(sim: &mut Sim, socket: &Ws) -> Vec<String> {
    socket.frames(sim).iter().map(ws::Frame::text).collect()
}

fn a_position_before_what_was_superseded_is_recovered_with_the_newest_of_each_name(pace: Pace) {
    let mut sim = Sim::with(latest(), pace);
    for n in 1..=3 {
        sim.publish("a", named("x", &format!("x{n}")));
        sim.publish("a", named("y", &format!("y{n}")));
        sim.publish("a", &*n.to_string());
    }
    sim.publish("a", named("x", "x4"));
    assert_everywhere(&mut sim, 0, &["y3", "3", "x4"].map(text));
    assert_everywhere(&mut sim, 8, &["3", "x4"].map(text));
    assert_everywhere(&mut sim, 10, &[]);
    assert_eq!(sim.engine().stats().gaps, [0; 3]);
    let stats = sim.history.stats();
    assert_eq!((stats.messages, stats.published, stats.conflated), (3, 10, 7));
}

fn a_slow_reader_gets_only_the_newest_and_no_gap(pace: Pace) {
    let mut sim = Sim::with(latest(), pace);
    let json = Ws::open(&mut sim, 0, "/ws?channel=a");
    let meta = Ws::meta(&mut sim, 0, "/channels/a");
    let raw = Ws::open(&mut sim, 0, "/channels/a");
    let mut events = Sse::open(&mut sim, 0, "/events?channel=a");
    let mut stream = Sse::open(&mut sim, 0, "/channels/a");
    [&json, &meta, &raw].iter().for_each(|socket| drop(socket.frames(&mut sim)));
    events.blocks(&mut sim);
    stream.blocks(&mut sim);
    let lines = [json.line, meta.line, raw.line, events.line, stream.line];
    lines.iter().for_each(|line| sim.stall(*line, 3));
    // The first is cut in the middle; more come than any limit keeps.
    for n in 1..=2_000 {
        sim.publish("a", &*n.to_string());
        if n % 100 == 1 {
            sim.settle();
        }
    }
    lines.iter().for_each(|line| sim.unstall(*line));
    sim.settle();
    let values = json.jsons(&mut sim);
    let came: Vec<_> = values.iter().map(|v| v["text"].as_str()).collect();
    assert_eq!(came, [Some("1"), Some("2000")]);
    assert_eq!(texts(&mut sim, &raw), ["1", "2000"]);
    let wanted = [(1, "1"), (2_000, "2000")].map(|(n, t)| format!("id: {}\n\n{t}", sim.id(n)));
    assert_eq!(texts(&mut sim, &meta), wanted);
    let blocks = events.blocks(&mut sim);
    let ids: Vec<_> = blocks.iter().map(|block| block.id.clone()).collect();
    assert_eq!(ids, [1, 2_000].map(|n| Some(sim.id(n))));
    let data: Vec<_> = stream.blocks(&mut sim).into_iter().map(|block| block.data).collect();
    assert_eq!(data, ["1", "2000"].map(|text| Some(text.to_owned())));
    assert_eq!(sim.engine().stats().gaps, [0; 3]);
}

fn of_several_in_one_turn_only_the_newest_comes(pace: Pace) {
    let mut sim = Sim::with(latest(), pace);
    let socket = Ws::open(&mut sim, 0, "/channels/a");
    for n in 1..=10 {
        sim.publish("a", &*n.to_string());
        sim.publish("a", named("tick", &format!("t{n}")));
    }
    sim.settle();
    assert_eq!(texts(&mut sim, &socket), ["10", "t10"]);
    let stats = sim.history.stats();
    assert_eq!((stats.published, stats.conflated), (20, 18));
}

fn a_reader_that_keeps_up_gets_every_one(pace: Pace) {
    let mut sim = Sim::with(latest(), pace);
    let socket = Ws::open(&mut sim, 0, "/channels/a");
    for n in 1..=5 {
        sim.publish("a", &*n.to_string());
        sim.settle();
    }
    assert_eq!(texts(&mut sim, &socket), ["1", "2", "3", "4", "5"]);
}

fn what_is_half_written_is_finished(pace: Pace) {
    let mut sim = Sim::with(latest(), pace);
    let socket = Ws::open(&mut sim, 0, "/channels/a");
    sim.stall(socket.line, 100);
    let long = "x".repeat(1_000);
    sim.publish("a", &*long);
    sim.settle();
    sim.publish("a", "2");
    sim.publish("a", "3");
    sim.settle();
    sim.unstall(socket.line);
    sim.settle();
    assert_eq!(texts(&mut sim, &socket), [&*long, "3"]);
}

fn a_poll_gets_the_newest_of_each_name(pace: Pace) {
    let mut sim = Sim::with(latest(), pace);
    let held = sim.connect(0);
    let raw = sim.connect(0);
    sim.ask(held, "GET", "/poll?channel=a&since=latest", b"");
    sim.ask(raw, "GET", "/channels/a?since=latest", b"");
    sim.settle();
    for n in 1..=3 {
        sim.publish("a", named("x", &format!("x{n}")));
        sim.publish("a", named("y", &format!("y{n}")));
    }
    sim.settle();
    let body = sim.answer(held).expect("an answer").json();
    let ids: Vec<_> = body["messages"].as_array().expect("some").iter().map(|m| &m["id"]).collect();
    assert_eq!(ids, [&*sim.id(5), &*sim.id(6)]);
    assert_eq!((&body["cursor"], &body["gap"]), (&(*sim.id(6)).into(), &().into()));
    let answer = sim.answer(raw).expect("an answer");
    assert_eq!((&*answer.text(), answer.header("holdline-gap")), ("x3", None));
    assert_eq!(answer.header("holdline-cursor"), Some(&*sim.id(5)));
    // Its next has been superseded meanwhile.
    sim.publish("a", named("y", "y4"));
    let answer = sim.get(raw, &format!("/channels/a?since={}", sim.id(5)));
    assert_eq!((&*answer.text(), answer.header("holdline-gap")), ("y4", None));
}

fn on_one_connection_other_channels_lose_nothing(pace: Pace) {
    let mut sim = Sim::with(latest(), pace);
    let socket = Ws::open(&mut sim, 0, "/ws?channel=a&channel=b&channel=a.b");
    socket.frames(&mut sim);
    sim.stall(socket.line, 1);
    sim.publish("b", "first");
    sim.settle();
    for n in 1..=3 {
        for channel in ["a", "b", "a.b"] {
            sim.publish(channel, &*format!("{channel}{n}"));
        }
        sim.settle();
    }
    sim.unstall(socket.line);
    sim.settle();
    let values = socket.jsons(&mut sim);
    let came: Vec<_> = values.iter().filter_map(|v| v["text"].as_str()).collect();
    assert_eq!(came, ["first", "b1", "b2", "a3", "b3", "a.b3"]);
    assert_eq!(sim.engine().stats().gaps, [0; 3]);
}

fn a_ttl_of_zero_supersedes_its_like_and_leaves_what_is_kept(pace: Pace) {
    let mut sim = Sim::with(latest(), pace);
    let socket = Ws::open(&mut sim, 0, "/channels/a");
    sim.publish("a", "kept");
    sim.publish("a", passing("p1"));
    sim.publish("a", passing("p2"));
    sim.settle();
    assert_eq!(texts(&mut sim, &socket), ["kept", "p2"]);
    assert_everywhere(&mut sim, 0, &[text("kept")]);
    // One that is kept is for those who listen too.
    sim.publish("a", passing("p3"));
    sim.publish("a", "kept too");
    sim.settle();
    assert_eq!(texts(&mut sim, &socket), ["kept too"]);
    assert_everywhere(&mut sim, 0, &[text("kept too")]);
}

fn deleting_works_as_ever(pace: Pace) {
    let mut sim = Sim::with(latest(), pace);
    let stalled = Ws::open(&mut sim, 0, "/channels/a");
    sim.stall(stalled.line, 0);
    sim.publish("a", "1");
    sim.publish("a", "2");
    sim.settle();
    let line = sim.connect(0);
    assert_eq!(sim.call(line, "DELETE", "/channels/a", b"").status, 204);
    assert_everywhere(&mut sim, 2, &[]);
    let since = sim.id(1);
    let by_poll = sim.get(line, &format!("/poll?channel=a&since={since}&wait=0")).json();
    assert_eq!(by_poll["gap"][0]["reason"], "trimmed");
    // Those who listened still get it, unless it is superseded.
    sim.unstall(stalled.line);
    sim.settle();
    assert_eq!(texts(&mut sim, &stalled), ["2"]);
    sim.publish("a", "3");
    assert_everywhere(&mut sim, 2, &[text("3")]);
}

fn a_limit_that_takes_the_newest_of_a_name_is_a_gap(pace: Pace) {
    let config = Config { history_messages: 2, recent_bytes: 0, ..latest() };
    let mut sim = Sim::with(config, pace);
    for _ in 0..3 {
        for event in ["x", "y"] {
            sim.publish("a", named(event, event));
        }
    }
    let line = sim.connect(0);
    let poll = |sim: &mut Sim, seen: u64| {
        let since = sim.id(seen);
        sim.get(line, &format!("/poll?channel=a&since={since}&wait=0")).json()
    };
    assert!(poll(&mut sim, 0)["gap"].is_null(), "two names are within the limit");
    sim.publish("a", named("z", "z"));
    let body = poll(&mut sim, 0);
    let gap = &body["gap"][0];
    assert_eq!((&gap["reason"], &gap["resumed"]), (&"trimmed".into(), &(*sim.id(5)).into()));
    assert_eq!(body["messages"].as_array().map(Vec::len), Some(2));
    assert!(poll(&mut sim, 5)["gap"].is_null());
}

fn a_repeated_key_is_answered_with_the_first_id(pace: Pace) {
    let mut sim = Sim::with(latest(), pace);
    let line = sim.connect(0);
    let target = "/channels/a?idempotency_key=k";
    let first = sim.call(line, "POST", target, b"1").json();
    assert_eq!(first["id"], *sim.id(1));
    sim.publish("a", "2");
    assert_eq!(sim.call(line, "POST", target, b"1").json()["id"], *sim.id(1));
    assert_everywhere(&mut sim, 0, &[text("2")]);
}

/// Others publish between a loop's look at the order and its pulls, again and again.
#[test]
fn a_reader_gets_something_though_others_publish_all_the_time() {
    let mut sim = Sim::with(latest(), Pace::Whole);
    let socket = Ws::open(&mut sim, 0, "/channels/a");
    let mut number = 0;
    for _ in 0..5 {
        number += 1;
        sim.publish("a", &*number.to_string());
        let now = sim.now;
        sim.engine_mut().take_in(now);
        for _ in 0..3 {
            number += 1;
            sim.publish("a", &*number.to_string());
        }
        let mut came = 0;
        while let Some(transmit) = sim.engine_mut().poll_transmit() {
            let holdline::engine::What::Bytes(bytes) = transmit.what else { break };
            let (n, text) = (bytes.len(), String::from_utf8_lossy(bytes).into_owned());
            assert!(text.contains(&(number - 3).to_string()), "{text:?}");
            sim.engine_mut().handle_sent(n);
            came += 1;
        }
        assert_eq!(came, 1, "what was the newest when it looked");
    }
    assert_eq!(sim.history.stats().messages, 1);
    sim.settle();
    assert_eq!(texts(&mut sim, &socket), ["20"]);
}

/// A flood of one name takes the memory of one.
#[test]
fn a_million_of_one_name_take_the_memory_of_one() {
    let mut sim = Sim::with(latest(), Pace::Whole);
    let reader = Ws::open(&mut sim, 0, "/channels/a");
    sim.stall(reader.line, 0);
    sim.publish("a", named("first", "stays"));
    for n in 0..1_000_000 {
        sim.publish("a", "x");
        if n % 100_000 == 0 {
            sim.settle();
        }
    }
    let stats = sim.history.stats();
    assert_eq!((stats.messages, stats.conflated), (2, 999_999));
    assert!(stats.memory_used < 1_000, "{}", stats.memory_used);
    assert_everywhere(&mut sim, 1_000_000, &[text("x")]);
}
