//! What a position is worth later: recovered, or a gap that says so; ttl, deletion, eviction.

use std::time::Duration;

use holdline::{Config, Message};

use super::readers::{Got, everywhere, from_line, from_object, gap, text};
use crate::both_paces;
use crate::sim::clients::{Sse, Ws, request};
use crate::sim::{Pace, Sim, ws};

both_paces!(
    a_position_is_recovered_on_every_transport,
    a_trimmed_position_is_announced_on_every_transport_and_what_is_kept_follows,
    a_position_of_another_run_is_announced_as_such,
    with_gap_live_only_what_is_new_follows,
    earliest_and_latest_are_never_lost,
    a_time_that_reaches_too_far_is_a_gap_without_a_position,
    what_is_past_its_ttl_is_skipped_without_a_gap,
    a_ttl_of_zero_reaches_those_who_listen_and_nobody_later,
    deleting_history_is_no_gap_for_who_has_seen_it_all,
    what_is_deleted_still_reaches_those_who_listened,
    a_reader_that_falls_out_of_history_is_told_and_goes_on,
    a_plain_raw_websocket_that_falls_out_of_history_is_closed,
);

/// Keeps three messages a channel, and nothing besides.
fn short() -> Config {
    Config { history_messages: 3, recent_bytes: 0, ..Config::default().open() }
}

fn published(sim: &Sim, channel: &str, texts: &[&str]) {
    for text in texts {
        sim.publish(channel, *text);
    }
}

#[track_caller]
fn assert_everywhere(sim: &mut Sim, query: &str, wanted: &[Got], wanted_raw: &[Got]) {
    for (by, got) in everywhere(sim, query) {
        assert_eq!(got, if by == "raw ws" { wanted_raw } else { wanted }, "{query} by {by}");
    }
    sim.settle();
    assert_eq!(sim.engine().len(), 0);
}

fn a_position_is_recovered_on_every_transport(pace: Pace) {
    let mut sim = Sim::with(short(), pace);
    published(&sim, "a", &["1", "2", "3", "4", "5"]);
    published(&sim, "b", &["6"]);
    let since = format!("since={}", sim.id(3));
    let wanted = [text("4"), text("5")];
    assert_everywhere(&mut sim, &since, &wanted, &wanted);
    let since = format!("since={}", sim.id(6));
    assert_everywhere(&mut sim, &since, &[], &[]);
}

fn a_trimmed_position_is_announced_on_every_transport_and_what_is_kept_follows(pace: Pace) {
    let mut sim = Sim::with(short(), pace);
    published(&sim, "a", &["1", "2", "3", "4", "5"]);
    published(&sim, "b", &["6"]);
    let since = sim.id(1);
    let wanted = [gap("trimmed", &since, sim.id(2)), text("3"), text("4"), text("5")];
    assert_everywhere(&mut sim, &format!("since={since}"), &wanted, &[Got::Closed(1013)]);
}

fn a_position_of_another_run_is_announced_as_such(pace: Pace) {
    let mut sim = Sim::with(short(), pace);
    published(&sim, "a", &["1", "2", "3", "4", "5"]);
    for since in ["otherEpoch-3".to_owned(), sim.id(6), sim.id(u64::MAX)] {
        let wanted = [gap("epoch", &since, sim.id(2)), text("3"), text("4"), text("5")];
        assert_everywhere(&mut sim, &format!("since={since}"), &wanted, &[Got::Closed(1013)]);
    }
    // A header that is no position at all is never refused, and never repeated.
    let line = sim.connect(0);
    let headers = "Accept: text/event-stream\r\nLast-Event-ID: <b>\r\n";
    sim.send(line, &request("GET", "/events?channel=a", headers, b""));
    sim.settle();
    let blocks = Sse::accepted(&mut sim, line).blocks(&mut sim);
    assert_eq!(from_object(&blocks[1].json()), gap("epoch", "", sim.id(2)));
}

fn with_gap_live_only_what_is_new_follows(pace: Pace) {
    let mut sim = Sim::with(short(), pace);
    published(&sim, "a", &["1", "2", "3", "4", "5"]);
    let since = sim.id(1);
    let wanted = [gap("trimmed", &since, sim.id(5))];
    let query = format!("since={since}&gap=live");
    assert_everywhere(&mut sim, &query, &wanted, &[Got::Closed(1013)]);
    // Without a gap it changes nothing.
    let query = format!("since={}&gap=live", sim.id(3));
    let wanted = [text("4"), text("5")];
    assert_everywhere(&mut sim, &query, &wanted, &wanted);
}

fn earliest_and_latest_are_never_lost(pace: Pace) {
    let mut sim = Sim::with(short(), pace);
    published(&sim, "a", &["1", "2", "3", "4", "5"]);
    let wanted = [text("3"), text("4"), text("5")];
    assert_everywhere(&mut sim, "since=earliest", &wanted, &wanted);
    assert_everywhere(&mut sim, "since=latest", &[], &[]);
}

fn a_time_that_reaches_too_far_is_a_gap_without_a_position(pace: Pace) {
    let mut sim = Sim::with(short(), pace);
    for n in 1..=5 {
        published(&sim, "a", &[&n.to_string()]);
        sim.pass(10_000);
    }
    // The second, at 40 s ago, was evicted; the third, at 30 s, was not.
    let wanted = [text("4"), text("5")];
    assert_everywhere(&mut sim, "since=25s", &wanted, &wanted);
    let kept = ["3", "4", "5"].map(text);
    assert_everywhere(&mut sim, "since=35s", &kept, &kept);
    let with_gap = [gap("trimmed", "", sim.id(2)), text("3"), text("4"), text("5")];
    assert_everywhere(&mut sim, "since=40s", &with_gap, &kept);
    let at = sim.now.unix_ms / 1000 - 45;
    assert_everywhere(&mut sim, &format!("since={at}"), &with_gap, &kept);
    assert_everywhere(&mut sim, "since=9999999999", &[], &[]);
}

fn what_is_past_its_ttl_is_skipped_without_a_gap(pace: Pace) {
    let mut sim = Sim::with(Config::default().open(), pace);
    published(&sim, "a", &["1"]);
    sim.publish("a", Message::from("2").ttl(Duration::from_secs(5)));
    published(&sim, "a", &["3"]);
    let since = format!("since={}", sim.id(0));
    let all = ["1", "2", "3"].map(text);
    assert_everywhere(&mut sim, &since, &all, &all);
    sim.pass(4_999);
    assert_everywhere(&mut sim, &since, &all, &all);
    sim.pass(1);
    let two = ["1", "3"].map(text);
    assert_everywhere(&mut sim, &since, &two, &two);
    // It never prolongs what history keeps.
    sim.publish("a", Message::from("4").ttl(Duration::from_secs(100_000)));
    sim.pass(301_000);
    let gone = [gap("trimmed", &sim.id(0), sim.id(4))];
    assert_everywhere(&mut sim, &since, &gone, &[Got::Closed(1013)]);
}

fn a_ttl_of_zero_reaches_those_who_listen_and_nobody_later(pace: Pace) {
    let mut sim = Sim::with(Config::default().open(), pace);
    let live = Ws::open(&mut sim, 0, "/channels/a");
    let stalled = Ws::open(&mut sim, 0, "/channels/a");
    sim.stall(stalled.line, 1);
    let poll = sim.connect(0);
    sim.ask(poll, "GET", "/channels/a?since=latest", b"");
    sim.settle();
    let passing = || Message::from("p").ttl(Duration::ZERO);
    published(&sim, "a", &["1"]);
    sim.publish("a", passing());
    published(&sim, "a", &["2"]);
    sim.settle();
    sim.unstall(stalled.line);
    sim.settle();
    for socket in [live, stalled] {
        let texts: Vec<_> = socket.frames(&mut sim).iter().map(ws::Frame::text).collect();
        assert_eq!(texts, ["1", "p", "2"]);
        sim.reset(socket.line);
    }
    assert_eq!(sim.answer(poll).expect("an answer").text(), "1");
    sim.reset(poll);
    let since = format!("since={}", sim.id(0));
    let two = ["1", "2"].map(text);
    assert_everywhere(&mut sim, &since, &two, &two);
    assert_everywhere(&mut sim, "since=earliest", &two, &two);
    // A poll that is held hears it.
    let poll = sim.connect(0);
    sim.ask(poll, "GET", &format!("/poll?channel=a&since={}", sim.id(3)), b"");
    sim.settle();
    sim.publish("a", passing());
    sim.settle();
    assert_eq!(sim.answer(poll).expect("an answer").json()["messages"][0]["text"], "p");
}

fn deleting_history_is_no_gap_for_who_has_seen_it_all(pace: Pace) {
    let mut sim = Sim::with(Config::default().open(), pace);
    published(&sim, "a", &["1", "2", "3"]);
    published(&sim, "b", &["4"]);
    let line = sim.connect(0);
    assert_eq!(sim.call(line, "DELETE", "/channels/a", b"").status, 204);
    sim.reset(line);
    for seen in [3, 4] {
        let since = format!("since={}", sim.id(seen));
        assert_everywhere(&mut sim, &since, &[], &[]);
    }
    let since = sim.id(2);
    let wanted = [gap("trimmed", &since, sim.id(4))];
    assert_everywhere(&mut sim, &format!("since={since}"), &wanted, &[Got::Closed(1013)]);
    published(&sim, "a", &["5"]);
    let wanted = [gap("trimmed", &since, sim.id(4)), text("5")];
    assert_everywhere(&mut sim, &format!("since={since}"), &wanted, &[Got::Closed(1013)]);
    // The other channel has lost nothing.
    let line = sim.connect(0);
    let answer = sim.get(line, &format!("/channels/b?since={}", sim.id(0)));
    assert_eq!((&*answer.text(), answer.header("holdline-gap")), ("4", None));
}

fn what_is_deleted_still_reaches_those_who_listened(pace: Pace) {
    let mut sim = Sim::with(Config::default().open(), pace);
    let stalled = Ws::open(&mut sim, 0, "/channels/a");
    sim.stall(stalled.line, 1);
    published(&sim, "a", &["1", "2"]);
    sim.settle();
    let line = sim.connect(0);
    assert_eq!(sim.call(line, "DELETE", "/channels/a", b"").status, 204);
    published(&sim, "a", &["3"]);
    sim.unstall(stalled.line);
    sim.settle();
    let texts: Vec<_> = stalled.frames(&mut sim).iter().map(ws::Frame::text).collect();
    assert_eq!(texts, ["1", "2", "3"]);
}

fn a_reader_that_falls_out_of_history_is_told_and_goes_on(pace: Pace) {
    let mut sim = Sim::with(short(), pace);
    let json = Ws::open(&mut sim, 0, "/ws?channel=a&channel=b");
    let meta = Ws::meta(&mut sim, 0, "/channels/a");
    let mut events = Sse::open(&mut sim, 0, "/events?channel=a&channel=b");
    let mut stream = Sse::open(&mut sim, 0, "/channels/a?gap=live");
    json.frames(&mut sim);
    meta.frames(&mut sim);
    events.blocks(&mut sim);
    stream.blocks(&mut sim);
    let lines = [json.line, meta.line, events.line, stream.line];
    lines.iter().for_each(|line| sim.stall(*line, 3));
    // The first is cut in the middle, all others wait; `b` stays within its limits.
    for n in 1..=8 {
        published(&sim, "a", &[&n.to_string()]);
        sim.settle();
    }
    published(&sim, "b", &["9"]);
    sim.settle();
    lines.iter().for_each(|line| sim.unstall(*line));
    sim.settle();
    published(&sim, "a", &["10"]);
    sim.settle();
    let slow = gap("slow", &sim.id(1), sim.id(5));
    let came: Vec<_> = json
        .jsons(&mut sim)
        .iter()
        .map(|value| match value["op"].as_str() {
            Some("gap") => from_object(value),
            _ => text(value["text"].as_str().expect("text")),
        })
        .collect();
    let wanted = [text("1"), slow, text("6"), text("7"), text("8"), text("9"), text("10")];
    assert_eq!(came, wanted);
    let blocks = events.blocks(&mut sim);
    assert_eq!((blocks[0].name(), blocks[1].name(), blocks.len()), ("message", "gap", 7));
    assert_eq!(from_object(&blocks[1].json()), wanted[1]);
    assert_eq!(blocks[1].id, Some(sim.id(1)), "`b` goes on from there");
    let frames: Vec<_> = meta.frames(&mut sim).iter().map(ws::Frame::text).collect();
    assert_eq!(frames[0], format!("id: {}\n\n1", sim.id(1)));
    assert_eq!(from_line(frames[1].trim_start_matches("gap: ").trim_end()), wanted[1]);
    assert_eq!(frames[2], format!("cursor: {}\n\n", sim.id(5)));
    assert_eq!(frames.len(), 7);
    // gap=live goes on at the horizon.
    let blocks = stream.blocks(&mut sim);
    assert_eq!((blocks[1].name(), blocks.len()), ("holdline-gap", 3));
    assert_eq!(from_object(&blocks[1].json()), gap("slow", &sim.id(1), sim.id(9)));
    assert_eq!(blocks[2].data.as_deref(), Some("10"));
    assert_eq!(sim.engine().stats().gaps, [0, 0, 4]);
}

fn a_plain_raw_websocket_that_falls_out_of_history_is_closed(pace: Pace) {
    let mut sim = Sim::with(short(), pace);
    let raw = Ws::open(&mut sim, 0, "/channels/a");
    sim.stall(raw.line, 1);
    for n in 1..=8 {
        published(&sim, "a", &[&n.to_string()]);
        sim.settle();
    }
    sim.unstall(raw.line);
    sim.settle();
    let frames = raw.frames(&mut sim);
    assert_eq!(frames[0].text(), "1");
    assert_eq!(
        (frames[1].code(), &frames[1].payload[2..], frames.len()),
        (Some(1013), &b"gap"[..], 2)
    );
}

/// The same where history drops the expired one: nobody has lost it.
#[test]
fn dropping_what_is_past_its_ttl_is_no_gap() {
    let mut sim = Sim::with(Config { recent_bytes: 0, ..short() }, Pace::Whole);
    sim.publish("a", Message::from("1").ttl(Duration::from_secs(5)));
    published(&sim, "a", &["2"]);
    sim.pass(6_000);
    published(&sim, "a", &["3", "4"]);
    let since = format!("since={}", sim.id(0));
    let wanted = ["2", "3", "4"].map(text);
    assert_everywhere(&mut sim, &since, &wanted, &wanted);
    published(&sim, "a", &["5"]);
    let wanted = [gap("trimmed", &sim.id(0), sim.id(2)), text("3"), text("4"), text("5")];
    assert_everywhere(&mut sim, &since, &wanted, &[Got::Closed(1013)]);
}

/// A channel that nobody has used for long is forgotten, but not that something was on it.
#[test]
fn what_was_on_a_channel_that_is_forgotten_is_still_a_gap() {
    let config = Config { channel_memory: Duration::from_secs(60), ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    published(&sim, "b", &["1"]);
    published(&sim, "a", &["2"]);
    sim.pass(600_000);
    assert_eq!(sim.history.stats().channels, 0);
    let since = sim.id(1);
    let wanted = [gap("trimmed", &since, sim.id(2))];
    assert_everywhere(&mut sim, &format!("since={since}"), &wanted, &[Got::Closed(1013)]);
    let since = format!("since={}", sim.id(2));
    assert_everywhere(&mut sim, &since, &[], &[]);
}

/// Other threads publish, and history forgets, while a long replay is on its way.
#[test]
fn eviction_that_overtakes_a_replay_is_announced_where_it_happens() {
    for seed in 0..40 {
        let config = Config {
            history_messages: 40,
            recent_bytes: 0,
            writes_per_turn: 1,
            ..Config::default().open()
        };
        let mut sim = Sim::new(config, 1, seed);
        (1..=40).for_each(|n| published(&sim, "a", &[&n.to_string()]));
        let line = sim.connect(0);
        sim.stall(line, 300);
        let target = format!("/events?channel=a&since={}", sim.id(0));
        sim.send(line, &request("GET", &target, "Accept: text/event-stream\r\n", b""));
        while sim.history.head() < 150 {
            let count = sim.rng.u64(..5);
            (0..count).for_each(|_| published(&sim, "a", &["more"]));
            sim.step();
            let bytes = sim.rng.usize(..400);
            sim.take(line, bytes);
        }
        sim.unstall(line);
        sim.settle();
        let blocks = Sse::accepted(&mut sim, line).blocks(&mut sim);
        let seq = |id: &str| id.rsplit('-').next().and_then(|seq| seq.parse::<u64>().ok());
        let (mut at, mut gaps) = (0, 0);
        for block in &blocks[1..] {
            if block.name() == "gap" {
                let gap = block.json();
                assert_eq!(gap["since"].as_str().and_then(seq), Some(at), "seed {seed}");
                at = gap["resumed"].as_str().and_then(seq).expect("a position");
                gaps += 1;
            } else {
                at += 1;
                assert_eq!(block.id.as_deref().and_then(seq), Some(at), "seed {seed}");
            }
        }
        assert_eq!(at, sim.history.head(), "seed {seed}");
        assert!(gaps > 0, "seed {seed}: nothing was overtaken");
    }
}

/// Publications that come between a turn's look at the order and its pulls, and are gone again.
#[test]
fn a_turn_ends_though_others_publish_faster_than_history_keeps() {
    let mut sim = Sim::with(short(), Pace::Whole);
    let sockets =
        ["/ws?channel=a&channel=b", "/channels/a"].map(|target| Ws::open(&mut sim, 0, target));
    let poll = sim.connect(0);
    sim.ask(poll, "GET", "/poll?channel=a&since=latest", b"");
    sim.settle();
    sockets.iter().for_each(|socket| drop(socket.frames(&mut sim)));
    published(&sim, "a", &["1"]);
    let now = sim.now;
    sim.engine_mut().take_in(now);
    published(&sim, "a", &["2", "3", "4", "5", "6"]);
    let mut transmits = 0;
    while let Some(transmit) = sim.engine_mut().poll_transmit() {
        let holdline::engine::What::Bytes(bytes) = transmit.what else { break };
        let n = bytes.len();
        sim.engine_mut().handle_sent(n);
        transmits += 1;
        assert!(transmits < 100, "a turn without an end");
    }
    assert!(transmits >= 3);
}
