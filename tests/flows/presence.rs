//! Who listens to a channel, and who is told when that changes.

use std::time::Duration;

use holdline::Config;
use holdline::engine::Peer;
use serde_json::{Value, json};

use crate::both_paces;
use crate::sim::clients::{Sse, Ws, request};
use crate::sim::{Pace, Sim, ws};

both_paces!(
    members_of_all_transports_are_listed_under_the_names_they_were_told,
    a_websocket_is_told_who_joins_and_after_a_grace_who_left,
    an_event_stream_is_told_without_a_position,
    a_raw_stream_is_told_under_a_name_no_publisher_can_use,
    whoever_unsubscribes_leaves_at_once,
    a_poll_that_watches_is_answered_with_what_changed,
    a_poll_keeps_its_membership_from_one_request_to_the_next,
);

/// What `/channels/{name}/presence` says.
#[track_caller]
fn presence(sim: &mut Sim, channel: &str) -> Value {
    let line = sim.connect(0);
    let answer = sim.get(line, &format!("/channels/{channel}/presence"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    sim.close(line);
    sim.settle();
    answer.json()
}

#[track_caller]
fn names(sim: &mut Sim, channel: &str) -> Vec<String> {
    let list = presence(sim, channel);
    let members = list["members"].as_array().expect("members").iter();
    members.map(|one| one["connection"].as_str().expect("a name").to_owned()).collect()
}

/// A socket on `/ws`, its first frames read, and the name it was told.
#[track_caller]
fn socket(sim: &mut Sim, query: &str) -> (Ws, String) {
    let socket = Ws::open(sim, 0, &format!("/ws{query}"));
    let hello = socket.jsons(sim).remove(0);
    (socket, hello["connection"].as_str().expect("a name").to_owned())
}

fn joined(channel: &str, name: &str) -> Value {
    json!({"op": "join", "channel": channel, "connection": name, "user": null})
}

fn left(channel: &str, name: &str) -> Value {
    json!({"op": "leave", "channel": channel, "connection": name, "user": null})
}

fn untold(channel: &str, more: bool) -> Value {
    json!({"op": "presence", "channel": channel, "more": more})
}

/// Asks for a poll that is held.
#[track_caller]
fn hold(sim: &mut Sim, line: usize, more: &str) {
    let since = sim.id(sim.history.head());
    sim.ask(line, "GET", &format!("/poll?channel=a&since={since}{more}"), b"");
    sim.settle();
}

fn from(port: u16, host: u8) -> Peer {
    Peer::Ip(([192, 0, 2, host], port).into())
}

fn members_of_all_transports_are_listed_under_the_names_they_were_told(pace: Pace) {
    let mut sim = Sim::open(pace);
    let (_json, name) = socket(&mut sim, "?channel=a");
    sim.pass(10_000);
    let since = sim.now.unix_ms;
    let _raw = Ws::open(&mut sim, 0, "/channels/a");
    let _stream = Sse::open(&mut sim, 0, "/events?channel=a&channel=b");
    let line = sim.connect(0);
    hold(&mut sim, line, "");
    let list = presence(&mut sim, "a");
    let members = list["members"].as_array().expect("members");
    assert_eq!((&list["channel"], &list["subscribers"]), (&"a".into(), &4.into()));
    assert_eq!((list["more"].clone(), members.len()), (false.into(), 4));
    let transports: Vec<_> = members.iter().map(|one| one["transport"].as_str()).collect();
    assert_eq!(transports, [Some("ws"), Some("ws"), Some("sse"), Some("poll")]);
    assert_eq!(members[0]["connection"], *name);
    for (number, one) in members.iter().enumerate() {
        let name = one["connection"].as_str().expect("a name");
        assert!(name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
        assert_eq!(one["user"], Value::Null);
        let off = one["since"].as_u64().expect("a time").abs_diff(since);
        assert!(if number == 0 { (9_800..=10_100).contains(&off) } else { off < 200 }, "{one}");
        let others = members.iter().filter(|other| other["connection"] == one["connection"]);
        assert_eq!(others.count(), 1);
    }
    let other = presence(&mut sim, "b");
    assert_eq!(other["members"].as_array().expect("members")[..], members[2..3]);
}

fn a_websocket_is_told_who_joins_and_after_a_grace_who_left(pace: Pace) {
    let mut sim = Sim::open(pace);
    let (watcher, own) = socket(&mut sim, "?channel=a&presence=1");
    let (other, name) = socket(&mut sim, "?channel=a");
    assert_eq!(watcher.jsons(&mut sim), [joined("a", &name)]);
    assert_ne!(own, name);
    assert!(other.jsons(&mut sim).is_empty(), "it did not ask");
    sim.close(other.line);
    sim.pass(4_900);
    assert!(watcher.jsons(&mut sim).is_empty(), "too early");
    assert_eq!(names(&mut sim, "a"), [own.clone(), name.clone()]);
    sim.pass(400);
    assert_eq!(watcher.jsons(&mut sim), [left("a", &name)]);
    assert_eq!(names(&mut sim, "a"), [own]);
}

fn an_event_stream_is_told_without_a_position(pace: Pace) {
    let mut sim = Sim::open(pace);
    let mut watcher = Sse::open(&mut sim, 0, "/events?channel=a&presence=1");
    watcher.blocks(&mut sim);
    let (socket, name) = socket(&mut sim, "?channel=a");
    let block = watcher.block(&mut sim);
    assert_eq!((block.name(), &block.id, block.json()), ("presence", &None, joined("a", &name)));
    sim.publish("a", "one");
    sim.settle();
    assert_eq!(watcher.block(&mut sim).id, Some(sim.id(1)));
    socket.close(&mut sim, 1000);
    sim.pass(5_500);
    let block = watcher.block(&mut sim);
    assert_eq!((block.name(), &block.id, block.json()), ("presence", &None, left("a", &name)));
}

fn a_raw_stream_is_told_under_a_name_no_publisher_can_use(pace: Pace) {
    let mut sim = Sim::open(pace);
    let mut watcher = Sse::open(&mut sim, 0, "/channels/a?presence=1");
    watcher.blocks(&mut sim);
    let (_socket, name) = socket(&mut sim, "?channel=a");
    let block = watcher.block(&mut sim);
    assert_eq!((block.name(), block.json()), ("holdline-presence", joined("a", &name)));
}

fn whoever_unsubscribes_leaves_at_once(pace: Pace) {
    let mut sim = Sim::open(pace);
    let (watcher, own) = socket(&mut sim, "");
    watcher.text(&mut sim, r#"{"op":"subscribe","channels":["a","b"],"presence":true}"#);
    sim.settle();
    watcher.jsons(&mut sim);
    let (other, name) = socket(&mut sim, "?channel=a&channel=b");
    assert_eq!(watcher.jsons(&mut sim), [joined("a", &name), joined("b", &name)]);
    other.text(&mut sim, r#"{"op":"unsubscribe","channel":"a"}"#);
    sim.settle();
    assert_eq!(watcher.jsons(&mut sim), [left("a", &name)]);
    assert_eq!(names(&mut sim, "a"), [own]);
    // Not of one who is not there, nor for what it has left itself.
    watcher.text(&mut sim, r#"{"op":"unsubscribe","channel":"b"}"#);
    other.text(&mut sim, r#"{"op":"unsubscribe","channel":"b"}"#);
    sim.settle();
    let ops: Vec<_> = watcher.jsons(&mut sim).iter().map(|one| one["op"].clone()).collect();
    assert_eq!(ops, ["ok"]);
}

fn a_poll_that_watches_is_answered_with_what_changed(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = sim.connect(0);
    hold(&mut sim, line, "&presence=1");
    assert!(sim.answer(line).is_none(), "its own coming is not told");
    let (other, name) = socket(&mut sim, "?channel=a");
    let body = sim.answer(line).expect("an answer").json();
    assert_eq!(body["presence"], json!([joined("a", &name)]));
    assert_eq!((&body["messages"], &body["cursor"]), (&json!([]), &sim.id(0).into()));
    // What changes between two polls is told by the next one.
    sim.close(other.line);
    sim.pass(2_000);
    let (_third, third) = socket(&mut sim, "?channel=a");
    sim.pass(1_000);
    hold(&mut sim, line, "&presence=1");
    let body = sim.answer(line).expect("an answer").json();
    assert_eq!(body["presence"], json!([joined("a", &third)]));
    hold(&mut sim, line, "&presence=1");
    assert!(sim.answer(line).is_none());
    sim.pass(2_500);
    assert_eq!(sim.answer(line).expect("one").json()["presence"], json!([left("a", &name)]));
    // With a message there is no such field.
    hold(&mut sim, line, "&presence=1");
    sim.publish("a", "one");
    sim.settle();
    assert_eq!(sim.answer(line).expect("one").json().get("presence"), None);
}

fn a_poll_keeps_its_membership_from_one_request_to_the_next(pace: Pace) {
    let mut sim = Sim::open(pace);
    let (watcher, own) = socket(&mut sim, "?channel=a&presence=1");
    let line = sim.connect(0);
    hold(&mut sim, line, "");
    let join = watcher.json(&mut sim);
    let name = join["connection"].as_str().expect("a name").to_owned();
    assert_eq!(join, joined("a", &name));
    let list = presence(&mut sim, "a");
    for number in 0..4 {
        sim.publish("a", number.to_string());
        sim.settle();
        assert_eq!(sim.answer(line).expect("an answer").status, 200);
        sim.pass(4_000);
        let between = presence(&mut sim, "a");
        assert_eq!(between["subscribers"], 1);
        assert_eq!(between["members"][1], list["members"][1], "known between two polls");
        hold(&mut sim, line, "");
        assert_eq!(presence(&mut sim, "a")["members"][1], list["members"][1]);
    }
    let ops: Vec<_> = watcher.jsons(&mut sim).iter().map(|one| one["op"].clone()).collect();
    assert!(!ops.contains(&"join".into()) && !ops.contains(&"leave".into()), "{ops:?}");
    // The lease ends with nobody to take it.
    sim.publish("a", "last");
    sim.settle();
    sim.answer(line).expect("an answer");
    sim.pass(5_500);
    assert!(watcher.jsons(&mut sim).contains(&left("a", &name)));
    assert_eq!(names(&mut sim, "a"), [own]);
}

#[test]
fn a_poll_on_another_connection_from_the_same_address_goes_on_as_the_same_member() {
    for closes in [true, false] {
        let mut sim = Sim::open(Pace::Whole);
        let (watcher, _) = socket(&mut sim, "?channel=a&presence=1");
        let first = sim.connect_from(0, from(1_000, 1));
        hold(&mut sim, first, "");
        let name = watcher.json(&mut sim)["connection"].as_str().expect("a name").to_owned();
        sim.publish("a", "one");
        sim.settle();
        if closes {
            sim.close(first);
        }
        sim.pass(1_000);
        // Not from another address.
        let foreign = sim.connect_from(0, from(1_000, 2));
        hold(&mut sim, foreign, "");
        let second = sim.connect_from(0, from(1_001, 1));
        hold(&mut sim, second, "");
        let told: Vec<_> = watcher.jsons(&mut sim).into_iter().skip(1).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_ne!(told[0]["connection"], *name);
        assert_eq!(names(&mut sim, "a")[2], name);
        if !closes {
            // The first was there all the time: it is somebody else now.
            sim.answer(first).expect("an answer");
            hold(&mut sim, first, "");
            let join = watcher.json(&mut sim);
            assert_eq!(join["op"], "join");
            let all = names(&mut sim, "a");
            assert_eq!(all.len(), 4);
            assert!((0..4).all(|at| !all[..at].contains(&all[at])), "{all:?}");
        }
        sim.pass(6_000);
        let told = watcher.jsons(&mut sim);
        assert!(told.is_empty(), "{told:?}");
    }
}

#[test]
fn a_poll_whose_connection_breaks_may_come_back() {
    let mut sim = Sim::open(Pace::Whole);
    let (watcher, _) = socket(&mut sim, "?channel=a&presence=1");
    let first = sim.connect_from(0, from(1_000, 1));
    hold(&mut sim, first, "");
    let name = watcher.json(&mut sim)["connection"].as_str().expect("a name").to_owned();
    sim.reset(first);
    sim.pass(4_000);
    let second = sim.connect_from(0, from(1_001, 1));
    hold(&mut sim, second, "");
    sim.pass(6_000);
    assert!(watcher.jsons(&mut sim).is_empty());
    assert!(names(&mut sim, "a").contains(&name));
}

#[test]
fn a_poll_that_becomes_a_stream_stays_the_same_member() {
    let mut sim = Sim::open(Pace::Whole);
    let (watcher, _) = socket(&mut sim, "?channel=a&presence=1");
    let line = sim.connect(0);
    hold(&mut sim, line, "&wait=0");
    let name = watcher.json(&mut sim)["connection"].as_str().expect("a name").to_owned();
    sim.answer(line).expect("an answer");
    sim.send(line, &request("GET", "/events?channel=a", "Accept: text/event-stream\r\n", b""));
    sim.pass(6_000);
    assert!(watcher.jsons(&mut sim).is_empty());
    let members = &presence(&mut sim, "a")["members"];
    assert_eq!(
        (&members[1]["connection"], &members[1]["transport"]),
        (&name.into(), &"sse".into())
    );
}

#[test]
fn a_head_of_a_poll_is_nobody() {
    let mut sim = Sim::open(Pace::Whole);
    let (watcher, own) = socket(&mut sim, "?channel=a&presence=1");
    let line = sim.connect(0);
    let target = format!("/poll?channel=a&since={}", sim.id(0));
    sim.ask(line, "HEAD", &target, b"");
    sim.pass(6_000);
    assert!(watcher.jsons(&mut sim).is_empty());
    assert_eq!(names(&mut sim, "a"), [own]);
}

#[test]
fn subscribing_again_with_presence_begins_to_watch() {
    let mut sim = Sim::open(Pace::Whole);
    let (watcher, _) = socket(&mut sim, "?channel=a");
    watcher.text(&mut sim, r#"{"op":"subscribe","channel":"a","presence":true}"#);
    sim.settle();
    watcher.jsons(&mut sim);
    let (_other, name) = socket(&mut sim, "?channel=a");
    assert_eq!(watcher.jsons(&mut sim), [joined("a", &name)]);
    watcher.text(&mut sim, r#"{"op":"subscribe","channel":"a"}"#);
    sim.settle();
    watcher.jsons(&mut sim);
    let (_third, name) = socket(&mut sim, "?channel=a");
    assert_eq!(watcher.jsons(&mut sim), [joined("a", &name)], "it still watches");
}

#[test]
fn frames_that_are_payloads_tell_nothing() {
    let mut sim = Sim::open(Pace::Whole);
    let raw = Ws::open(&mut sim, 0, "/channels/a?presence=1");
    let meta = Ws::meta(&mut sim, 0, "/channels/a?presence=1");
    let line = sim.connect(0);
    let target = format!("/channels/a?presence=1&since={}", sim.id(0));
    sim.ask(line, "GET", &target, b"");
    sim.settle();
    meta.frames(&mut sim);
    let (_other, _) = socket(&mut sim, "?channel=a");
    assert!(raw.frames(&mut sim).is_empty() && meta.frames(&mut sim).is_empty());
    assert!(sim.answer(line).is_none());
    assert_eq!(sim.next_deadline().map(|due| due > sim.now.mono_ms + 5_000), Some(true));
}

#[test]
fn who_comes_and_goes_within_a_turn_was_never_there() {
    let mut sim = Sim::open(Pace::Whole);
    let (watcher, _) = socket(&mut sim, "?channel=a&presence=1");
    let (other, _) = socket(&mut sim, "");
    let commands = [r#"{"op":"subscribe","channel":"a"}"#, r#"{"op":"unsubscribe","channel":"a"}"#];
    other.texts(&mut sim, &commands);
    sim.settle();
    assert!(watcher.jsons(&mut sim).is_empty());
}

#[test]
fn presence_is_one_or_zero() {
    let mut sim = Sim::open(Pace::Whole);
    let line = sim.connect(0);
    for value in ["", "2", "true", "-1"] {
        let answer = sim.get(line, &format!("/poll?channel=a&presence={value}"));
        assert_eq!((answer.status, &answer.json()["error"]), (400, &"bad_query".into()), "{value}");
    }
    assert_eq!(sim.get(line, "/poll?channel=a&presence=0").status, 200);
}

#[test]
fn only_this_machine_sees_who_listens_and_a_question_makes_no_channel() {
    let mut sim = Sim::with(Config::default(), Pace::Whole);
    let foreign = sim.connect_from(0, from(1_000, 1));
    let answer = sim.get(foreign, "/channels/a/presence");
    assert_eq!((answer.status, &answer.json()["error"]), (403, &"forbidden".into()));
    sim.close(foreign);
    let list = presence(&mut sim, "a");
    assert_eq!(list, json!({"channel": "a", "subscribers": 0, "members": [], "more": false}));
    assert_eq!(sim.history.stats().channels, 0);
    let line = sim.connect(0);
    let answer = sim.call(line, "POST", "/channels/a/presence", b"");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
    sim.close(line);
    let line = sim.connect(0);
    for bad in ["_x", "a%2fb", "", "%zz"] {
        let answer = sim.get(line, &format!("/channels/{bad}/presence"));
        assert_eq!((answer.status, &answer.json()["error"]), (400, &"bad_channel".into()), "{bad}");
    }
    assert_eq!(sim.get(line, "/channels/a/presence/").status, 404);
    assert_eq!(sim.get(line, "/channels/a/b/presence").status, 404);
    assert_eq!(sim.get(line, "/channels/presence").json()["channel"], "presence");
    sim.pass(61_000);
    sim.close(line);
    sim.assert_deserted();
}

#[test]
fn a_channel_with_too_many_members_says_so_once_and_lists_some() {
    let config = Config { presence_members_max: 8, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let (watcher, _) = socket(&mut sim, "?channel=a&presence=1");
    let others: Vec<_> = (0..8).map(|_| socket(&mut sim, "?channel=a").0).collect();
    let told = watcher.jsons(&mut sim);
    assert_eq!(told.len(), 8, "{told:?}");
    assert_eq!(told[7], untold("a", true));
    let (late, _) = socket(&mut sim, "?channel=a&presence=1");
    assert!(late.jsons(&mut sim).is_empty(), "read with its first frames");
    let (_more, _) = socket(&mut sim, "?channel=a");
    assert!(watcher.jsons(&mut sim).is_empty(), "once");
    let list = presence(&mut sim, "a");
    assert_eq!((list["members"].as_array().map(Vec::len), &list["more"]), (Some(8), &true.into()));
    assert_eq!(list["subscribers"], 11);
    for other in &others[..4] {
        other.text(&mut sim, r#"{"op":"unsubscribe","channel":"a"}"#);
    }
    sim.settle();
    assert_eq!(watcher.jsons(&mut sim), [untold("a", false)]);
    assert_eq!(late.jsons(&mut sim), [untold("a", false)]);
    let (_again, name) = socket(&mut sim, "?channel=a");
    assert_eq!(watcher.jsons(&mut sim), [joined("a", &name)]);
}

#[test]
fn whoever_watches_a_crowd_is_told_that_it_is_one() {
    let config = Config { presence_members_max: 2, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let (_watcher, _) = socket(&mut sim, "?channel=a&presence=1");
    let _others: Vec<_> = (0..3).map(|_| socket(&mut sim, "?channel=a").0).collect();
    let late = Ws::open(&mut sim, 0, "/ws?channel=a&presence=1");
    let told = late.jsons(&mut sim);
    let ops: Vec<_> = told.iter().map(|one| one["op"].as_str().expect("an op")).collect();
    assert_eq!(ops, ["hello", "ok", "live", "presence"]);
    assert_eq!(told[3], untold("a", true));
}

#[test]
fn a_poll_that_watches_a_crowd_is_told_with_its_answer_and_held_all_the_same() {
    let config = Config { presence_members_max: 2, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let line = sim.connect(0);
    hold(&mut sim, line, "&presence=1");
    let (_other, _) = socket(&mut sim, "?channel=a&presence=1");
    sim.answer(line).expect("of the other");
    hold(&mut sim, line, "&presence=1");
    let _more: Vec<_> = (0..3).map(|_| socket(&mut sim, "?channel=a").0).collect();
    let body = sim.answer(line).expect("of the crowd").json();
    assert_eq!(body["presence"], json!([untold("a", true)]));
    for number in 0..3 {
        hold(&mut sim, line, "&presence=1");
        sim.pass(1_000);
        assert!(sim.answer(line).is_none(), "answered at once, again and again");
        sim.publish("a", number.to_string());
        sim.settle();
        let body = sim.answer(line).expect("an answer").json();
        assert_eq!(body["messages"].as_array().map(Vec::len), Some(1));
        assert_eq!(body["presence"], json!([untold("a", true)]));
    }
}

#[test]
fn polls_that_nobody_can_remember_do_not_answer_each_other_for_ever() {
    for (entries, grace) in [(1, 5), (0, 5), (10, 0)] {
        let grace = Duration::from_secs(grace);
        let (presence_entries_max, presence_grace) = (entries, grace);
        let config = Config { presence_entries_max, presence_grace, ..Config::default().open() };
        let mut sim = Sim::with(config, Pace::Whole);
        let lines: Vec<_> = (0..3).map(|host| sim.connect_from(0, from(1_000, host))).collect();
        lines.iter().for_each(|line| hold(&mut sim, *line, "&presence=1"));
        let mut answers = 0;
        for _ in 0..100 {
            for line in &lines {
                if sim.answer(*line).is_some() {
                    answers += 1;
                    hold(&mut sim, *line, "&presence=1");
                }
            }
            sim.settle();
        }
        assert!(answers < 20, "{answers} answers about nothing, with room for {entries}");
    }
}

#[test]
fn beyond_the_limit_of_entries_whoever_goes_has_left() {
    let config = Config { presence_entries_max: 1, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let (watcher, _) = socket(&mut sim, "?channel=a&presence=1");
    let (first, one) = socket(&mut sim, "?channel=a");
    let (second, two) = socket(&mut sim, "?channel=a");
    watcher.jsons(&mut sim);
    sim.close(first.line);
    sim.close(second.line);
    sim.settle();
    assert_eq!(watcher.jsons(&mut sim), [left("a", &two)]);
    sim.pass(5_500);
    assert_eq!(watcher.jsons(&mut sim), [left("a", &one)]);
}

#[test]
fn without_a_grace_whoever_is_gone_has_left() {
    let config = Config { presence_grace: Duration::ZERO, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let (watcher, _) = socket(&mut sim, "?channel=a&presence=1");
    let (other, name) = socket(&mut sim, "?channel=a");
    watcher.jsons(&mut sim);
    sim.close(other.line);
    sim.settle();
    assert_eq!(watcher.jsons(&mut sim), [left("a", &name)]);
}

#[test]
fn a_watcher_that_reads_slowly_is_told_that_it_missed_something_and_costs_no_memory() {
    let config = Config { outbox_bytes_max: 2_000, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let (watcher, _) = socket(&mut sim, "?channel=a&presence=1");
    let mut stream = Sse::open(&mut sim, 0, "/events?channel=a&presence=1");
    stream.blocks(&mut sim);
    watcher.jsons(&mut sim);
    sim.stall(watcher.line, 10);
    sim.stall(stream.line, 10);
    for _ in 0..40 {
        let (other, _) = socket(&mut sim, "?channel=a");
        other.text(&mut sim, r#"{"op":"unsubscribe","channel":"a"}"#);
        sim.settle();
        sim.close(other.line);
    }
    assert!(sim.is_blocked(watcher.line) && sim.is_blocked(stream.line));
    sim.unstall(watcher.line);
    sim.unstall(stream.line);
    sim.settle();
    let told = watcher.jsons(&mut sim);
    assert!(told.len() < 20, "{} changes were kept", told.len());
    assert_eq!(told.last(), Some(&untold("a", false)));
    assert_eq!(told.iter().filter(|one| one["op"] == "presence").count(), 1);
    let told = stream.blocks(&mut sim);
    assert_eq!(told.last().map(|block| block.json()), Some(untold("a", false)));
    let (_other, name) = socket(&mut sim, "?channel=a");
    assert_eq!(watcher.jsons(&mut sim), [joined("a", &name)]);
    assert_eq!(stream.block(&mut sim).json(), joined("a", &name));
}

#[test]
fn more_in_one_turn_than_may_ever_wait_is_said_at_once() {
    let config = Config { outbox_bytes_max: 400, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let (watcher, _) = socket(&mut sim, "?channel=a&presence=1");
    for _ in 0..20 {
        let line = sim.connect(0);
        sim.send(line, &ws::upgrade("/ws?channel=a", None));
    }
    sim.settle();
    assert_eq!(watcher.jsons(&mut sim), [untold("a", false)]);
}

#[test]
fn a_mass_that_comes_in_one_turn_is_told_as_one() {
    // More than is told of one channel to anyone; more than is told to so many.
    for (watchers, mass) in [(2, 400), (100, 200)] {
        let mut sim = Sim::open(Pace::Whole);
        let watchers: Vec<_> =
            (0..watchers).map(|_| socket(&mut sim, "?channel=a&presence=1").0).collect();
        for watcher in &watchers {
            watcher.jsons(&mut sim);
        }
        for _ in 0..mass {
            let line = sim.connect(0);
            sim.send(line, &ws::upgrade("/ws?channel=a", None));
        }
        sim.settle();
        for watcher in &watchers {
            assert_eq!(watcher.jsons(&mut sim), [untold("a", false)]);
        }
    }
}

#[test]
fn what_is_too_much_for_one_turn_is_told_in_the_next() {
    for (channels, is_cut) in [(20, false), (100, true)] {
        let mut sim = Sim::open(Pace::Whole);
        let names: Vec<_> = (0..channels).map(|number| format!("c{number}")).collect();
        let query = format!("channel={}", names.join("&channel="));
        let watchers: Vec<_> =
            (0..200).map(|_| Ws::open(&mut sim, 0, &format!("/ws?{query}"))).collect();
        let command = format!(r#"{{"op":"subscribe","channels":{names:?},"presence":true}}"#);
        watchers.iter().for_each(|watcher| watcher.text(&mut sim, &command));
        sim.settle();
        watchers.iter().for_each(|watcher| _ = watcher.frames(&mut sim));
        let line = sim.connect(0);
        sim.send(line, &ws::upgrade(&format!("/ws?{query}"), None));
        sim.turn(0);
        assert_eq!(sim.engine().has_work(), is_cut, "{channels} channels");
        sim.settle();
        for watcher in &watchers {
            assert_eq!(watcher.frames(&mut sim).len(), channels);
        }
    }
}

#[test]
fn a_poll_that_watches_misses_nothing_unsaid_between_two_requests() {
    let mut sim = Sim::open(Pace::Whole);
    let line = sim.connect(0);
    hold(&mut sim, line, "&presence=1");
    let _others: Vec<_> = (0..20).map(|_| socket(&mut sim, "?channel=a").0).collect();
    sim.answer(line).expect("an answer");
    hold(&mut sim, line, "&presence=1");
    let told = sim.answer(line).expect("an answer").json()["presence"].clone();
    let told = told.as_array().expect("a list").clone();
    assert!(told.len() > 2 && told.len() < 20, "{}", told.len());
    assert_eq!(told.last(), Some(&untold("a", false)));
    // One that stays away too long begins anew.
    sim.pass(6_000);
    let (_other, _) = socket(&mut sim, "?channel=a");
    hold(&mut sim, line, "&presence=1");
    assert!(sim.answer(line).is_none());
}

#[test]
fn a_poll_of_several_channels_is_told_of_each() {
    let mut sim = Sim::open(Pace::Whole);
    let line = sim.connect(0);
    let target = format!("/poll?channel=a&channel=b&since={}&presence=1", sim.id(0));
    sim.ask(line, "GET", &target, b"");
    sim.settle();
    let (_other, name) = socket(&mut sim, "?channel=b&channel=a");
    let told = sim.answer(line).expect("an answer").json()["presence"].clone();
    assert_eq!(told, json!([joined("b", &name), joined("a", &name)]));
}

#[test]
fn when_the_server_goes_nobody_is_told_who_leaves() {
    let mut sim = Sim::open(Pace::Whole);
    let (watcher, _) = socket(&mut sim, "?channel=a&presence=1");
    let (gone, _) = socket(&mut sim, "?channel=a");
    let _other = Sse::open(&mut sim, 0, "/events?channel=a&presence=1");
    watcher.jsons(&mut sim);
    sim.close(gone.line);
    sim.pass(4_900);
    let now = sim.now;
    sim.engine_mut().handle_drain(now);
    sim.settle();
    let frames = watcher.frames(&mut sim);
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert_eq!((frames[0].json()["op"].clone(), frames[1].code()), ("bye".into(), Some(1012)));
}

/// Farewells take their time, and until then a connection is served: but nobody is told any more, so
/// whoever asks for it now does not begin to watch among those that did.
#[test]
fn nobody_begins_to_watch_while_the_server_goes() {
    let mut sim = Sim::open(Pace::Whole);
    let sockets: Vec<_> = (0..6).map(|_| socket(&mut sim, "?channel=a&presence=1").0).collect();
    let late: Vec<_> = (0..6).map(|_| socket(&mut sim, "").0).collect();
    sim.settle();
    let now = sim.now;
    sim.engine_mut().handle_drain_over(Duration::from_secs(20), now);
    sim.settle();
    for socket in &late {
        socket.text(&mut sim, r#"{"op":"subscribe","channel":"a","presence":true}"#);
        sim.settle();
    }
    let ops: Vec<_> = late.iter().flat_map(|socket| socket.frames(&mut sim)).collect();
    let is_live = |frame: &ws::Frame| frame.opcode == ws::TEXT && frame.json()["op"] == "live";
    assert!(ops.iter().any(is_live), "they are served: {ops:?}");
    sockets.iter().for_each(|socket| sim.close(socket.line));
    sim.settle();
    sim.pass(20_000);
    let told: Vec<_> = late.iter().flat_map(|socket| socket.frames(&mut sim)).collect();
    let is_told = |frame: &ws::Frame| frame.opcode == ws::TEXT && frame.json()["op"] == "leave";
    assert!(!told.iter().any(is_told), "{told:?}");
    late.iter().for_each(|socket| sim.close(socket.line));
    sim.assert_deserted();
}

#[test]
fn nothing_is_left_once_all_are_gone() {
    let mut sim = Sim::open(Pace::Whole);
    let (watcher, _) = socket(&mut sim, "?channel=a&presence=1");
    let stream = Sse::open(&mut sim, 0, "/events?channel=a&channel=b&presence=1");
    let line = sim.connect(0);
    hold(&mut sim, line, "&presence=1");
    let (other, _) = socket(&mut sim, "?channel=a&channel=b");
    for line in [watcher.line, stream.line, line, other.line] {
        sim.close(line);
    }
    sim.settle();
    sim.pass(6_000);
    assert!(sim.engine().is_empty());
    // But for a sweep that was promised while there were channels.
    let waits = |sim: &Sim| sim.next_deadline().is_some_and(|due| due < sim.now.mono_ms + 10_000);
    assert!(!waits(&sim), "it waits for nobody");
    sim.assert_deserted();
}

#[test]
fn a_channel_is_forgotten_a_minute_after_the_last_question() {
    let mut sim = Sim::open(Pace::Whole);
    let line = sim.connect(0);
    hold(&mut sim, line, "&wait=0");
    sim.answer(line).expect("an answer");
    // Nobody had asked: nothing was remembered.
    assert!(names(&mut sim, "a").is_empty());
    hold(&mut sim, line, "&wait=0");
    sim.answer(line).expect("an answer");
    let name = names(&mut sim, "a").remove(0);
    sim.pass(4_000);
    hold(&mut sim, line, "&wait=0");
    sim.answer(line).expect("an answer");
    assert_eq!(names(&mut sim, "a"), [name]);
    sim.pass(61_000);
    hold(&mut sim, line, "&wait=0");
    sim.answer(line).expect("an answer");
    assert!(names(&mut sim, "a").is_empty());
}

#[test]
fn a_name_says_nothing_about_a_place_in_a_table() {
    let mut sim = Sim::open(Pace::Whole);
    let names: Vec<_> = (0..64).map(|_| socket(&mut sim, "").1).collect();
    let bits = |name: &String| u64::from_str_radix(name, 16).expect("hex");
    for pair in names.windows(2) {
        let differ = (bits(&pair[0]) ^ bits(&pair[1])).count_ones();
        assert!((8..=56).contains(&differ), "{pair:?}");
    }
    // Another engine gives other names.
    let mut other = Sim::new(Config::default().open(), 1, 8);
    assert_ne!(socket(&mut other, "").1, names[0]);
}

/// Comings and goings say no position: a heartbeat does, however many of them there are.
#[test]
fn a_listener_that_is_only_told_who_comes_is_told_its_position_too() {
    for target in [
        "/events?channel=a&presence=1",
        "/ws?channel=a&presence=1",
        "/events?channel=a&channel=c&presence=1",
    ] {
        let mut sim = Sim::open(Pace::Whole);
        let line = match target.starts_with("/ws") {
            true => Ws::open(&mut sim, 0, target).line,
            false => Sse::open(&mut sim, 0, target).line,
        };
        sim.publish("b", "elsewhere");
        sim.lines[line].received.clear();
        let wanted = sim.id(1);
        let is_told = |sim: &Sim| {
            let received = &sim.lines[line].received;
            received.windows(wanted.len()).any(|part| part == wanted.as_bytes())
        };
        for _ in 0..13 {
            let (other, _) = socket(&mut sim, "?channel=a&channel=c");
            sim.pass(2_000);
            sim.close(other.line);
            sim.settle();
        }
        assert!(!sim.lines[line].received.is_empty(), "{target}: it was told who came");
        assert!(is_told(&sim), "{target}: 26 s and no position");
    }
}

fn begin_to_go(sim: &mut Sim) {
    let now = sim.now;
    sim.engine_mut().handle_drain_over(Duration::from_secs(1_000), now);
    sim.step();
}

#[test]
fn a_watcher_may_ask_again_and_leave_while_the_server_goes() {
    let mut sim = Sim::open(Pace::Whole);
    let (watcher, _) = socket(&mut sim, "?channel=a&presence=1");
    let _other = socket(&mut sim, "?channel=a");
    begin_to_go(&mut sim);
    watcher.texts(
        &mut sim,
        &[
            r#"{"op":"subscribe","channel":"a","presence":true}"#,
            r#"{"op":"unsubscribe","channel":"a"}"#,
        ],
    );
    sim.settle();
    assert_eq!(sim.engine().subscriptions(), 1);
}

#[test]
fn another_may_ask_who_comes_while_the_server_goes() {
    let mut sim = Sim::open(Pace::Whole);
    let _watcher = socket(&mut sim, "?channel=a&presence=1");
    let (other, _) = socket(&mut sim, "");
    begin_to_go(&mut sim);
    other.text(&mut sim, r#"{"op":"subscribe","channel":"a","presence":true}"#);
    sim.settle();
    assert_eq!(sim.engine().subscriptions(), 2);
}
