//! What a connection is told about where it is, and what it has got by then.

use holdline::Config;
use serde_json::Value;

use crate::both_paces;
use crate::sim::clients::{Sse, Ws};
use crate::sim::{Pace, Sim};

both_paces!(
    each_channel_starts_where_it_was_asked_to_though_another_is_further_back,
    a_channel_that_joins_a_replay_begins_at_its_own_place,
    a_later_subscription_replays_under_a_safe_position,
    a_subscription_from_now_on_gets_nothing_older_though_its_connection_is_behind,
    an_answer_that_waits_for_its_position_comes_though_the_last_channel_is_left,
    a_subscribe_behind_such_an_answer_is_not_forgotten,
    a_close_right_behind_a_publish_tells_no_position_too_early,
    a_broken_command_right_behind_a_publish_tells_no_position_too_early,
    a_farewell_right_behind_a_publish_tells_no_position_too_early,
    subscribing_again_changes_nothing,
    channels_of_one_subscribe_replay_in_one_order,
);

fn texts(came: &[Value]) -> Vec<&str> {
    came.iter().filter_map(|value| value["text"].as_str()).collect()
}

fn ops(came: &[Value]) -> Vec<&str> {
    came.iter().filter_map(|value| value["op"].as_str()).collect()
}

/// Whether a position was named before everything up to it had come: seqs of what was owed.
#[track_caller]
fn assert_nothing_told_early(came: &[Value], owed: &[u64]) {
    let seq = |id: &str| id.rsplit('-').next().and_then(|seq| seq.parse::<u64>().ok());
    let mut got = Vec::new();
    for value in came {
        if value["op"] == "message" {
            got.extend(value["id"].as_str().and_then(seq));
        }
        let told = value["cursor"].as_str().or_else(|| value["id"].as_str()).and_then(seq);
        let missing = owed.iter().find(|owed| told >= Some(**owed) && !got.contains(owed));
        assert!(missing.is_none(), "{value} came without {missing:?}: {came:?}");
    }
}

/// Published alternately to `a`, `b` and `c`: the text is the seq.
fn published(sim: &Sim, count: u64) {
    for n in 0..count {
        let seq = sim.history.head() + 1;
        sim.publish(["a", "b", "c"][(n % 3) as usize], seq.to_string());
    }
}

fn subscribe(channel: &str, since: &str) -> String {
    format!(r#"{{"op":"subscribe","channel":"{channel}","since":"{since}"}}"#)
}

fn each_channel_starts_where_it_was_asked_to_though_another_is_further_back(pace: Pace) {
    let mut sim = Sim::open(pace);
    published(&sim, 30);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.jsons(&mut sim);
    let [b, c] = [subscribe("b", &sim.id(9)), subscribe("c", &sim.id(18))];
    ws.texts(&mut sim, &[&b, &c]);
    sim.settle();
    let came = ws.jsons(&mut sim);
    let mut got = texts(&came);
    // Byte by byte `b` is live before `c` is asked for.
    got.sort_unstable();
    assert_eq!(got.join(" "), "11 14 17 20 21 23 24 26 27 29 30", "{came:?}");
}

fn a_channel_that_joins_a_replay_begins_at_its_own_place(pace: Pace) {
    let mut sim = Sim::open(pace);
    published(&sim, 30);
    let ws = Ws::open(&mut sim, 0, "/ws");
    ws.jsons(&mut sim);
    let asked = [("a", 20), ("b", 9), ("c", 14)];
    let commands = asked.map(|(channel, since)| subscribe(channel, &sim.id(since)));
    ws.texts(&mut sim, &commands.each_ref().map(|command| &**command));
    sim.settle();
    let came = ws.jsons(&mut sim);
    let mut got: Vec<u64> = texts(&came).iter().map(|text| text.parse().expect("a seq")).collect();
    got.sort_unstable();
    assert_eq!(got, [11, 14, 15, 17, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30], "{came:?}");
    // Once all have caught up they go on together.
    published(&sim, 3);
    sim.settle();
    assert_eq!(texts(&ws.jsons(&mut sim)), ["31", "32", "33"]);
}

fn a_later_subscription_replays_under_a_safe_position(pace: Pace) {
    let mut sim = Sim::open(pace);
    published(&sim, 9);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.jsons(&mut sim);
    let command = subscribe("b", &sim.id(0));
    ws.text(&mut sim, &command);
    sim.settle();
    published(&sim, 3);
    sim.settle();
    let came = ws.jsons(&mut sim);
    let wanted = ["ok", "message", "message", "message", "live", "message", "message"];
    assert_eq!(ops(&came), wanted, "{came:?}");
    assert_eq!(came[0]["recovered"], true);
    for (value, seq) in came[1..4].iter().zip([2, 5, 8]) {
        assert_eq!(
            (value["id"].as_str(), value["cursor"].as_str()),
            (Some(&*sim.id(seq)), Some(&*sim.id(seq)))
        );
    }
    assert_eq!(came[4]["cursor"], *sim.id(9));
    assert_eq!(came[5]["cursor"], Value::Null, "once it is live the id is the position");
}

fn a_subscription_from_now_on_gets_nothing_older_though_its_connection_is_behind(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.jsons(&mut sim);
    sim.stall(ws.line, 10);
    published(&sim, 9);
    sim.settle();
    ws.text(&mut sim, r#"{"op":"subscribe","channel":"b"}"#);
    sim.settle();
    sim.unstall(ws.line);
    sim.settle();
    published(&sim, 3);
    sim.settle();
    let came = ws.jsons(&mut sim);
    assert_eq!(texts(&came).join(" "), "1 4 7 10 11", "{came:?}");
    assert_nothing_told_early(&came, &[1, 4, 7, 10, 11]);
}

fn an_answer_that_waits_for_its_position_comes_though_the_last_channel_is_left(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.jsons(&mut sim);
    let publish = r#"{"op":"publish","ref":1,"channel":"b","text":"x"}"#;
    let leave = r#"{"op":"unsubscribe","ref":2,"channel":"a"}"#;
    ws.texts(&mut sim, &[publish, leave, r#"{"op":"ping","t":3}"#]);
    sim.settle();
    let came = ws.jsons(&mut sim);
    assert_eq!(ops(&came), ["ok", "ok", "pong"], "{came:?}");
    assert_eq!(came[0]["id"], *sim.id(1));
}

fn a_subscribe_behind_such_an_answer_is_not_forgotten(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.jsons(&mut sim);
    sim.publish("a", "before");
    let publish = r#"{"op":"publish","ref":1,"channel":"b","text":"x"}"#;
    let (join, ping) = (subscribe("b", &sim.id(0)), r#"{"op":"ping","t":3}"#);
    ws.texts(&mut sim, &[publish, &join, ping]);
    sim.settle();
    let came = ws.jsons(&mut sim);
    let ops = ops(&came);
    assert_eq!(ops[..2], ["message", "ok"], "{came:?}");
    assert_eq!(ops.iter().filter(|op| **op == "pong").count(), 1, "{came:?}");
    assert_eq!(texts(&came), ["before", "x"]);
    assert_nothing_told_early(&came, &[1]);
}

/// Nobody is asked anything while a command waits for its connection to be where the answers before
/// it say: no clock but the socket's runs.
#[test]
fn a_subscribe_of_a_slow_reader_is_not_refused() {
    let mut sim = Sim::open(Pace::Whole);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.jsons(&mut sim);
    sim.stall(ws.line, 10);
    let publish = r#"{"op":"publish","ref":1,"channel":"a","text":"does not fit into the pipe"}"#;
    ws.texts(&mut sim, &[publish, r#"{"op":"subscribe","ref":2,"channel":"b"}"#]);
    for _ in 0..10 {
        sim.pass(9_000);
        sim.take(ws.line, 1);
        sim.settle();
    }
    sim.unstall(ws.line);
    sim.settle();
    let came = ws.jsons(&mut sim);
    assert_eq!(ops(&came), ["message", "ok", "ok", "live"], "{came:?}");
}

/// Another thread publishes to what a connection listens to, and then it publishes itself.
fn behind_a_publish(pace: Pace, then: impl Fn(&mut Sim, &Ws)) -> (Sim, Vec<Value>, Option<u16>) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.jsons(&mut sim);
    sim.publish("a", "of somebody else");
    ws.text(&mut sim, r#"{"op":"publish","ref":1,"channel":"a","text":"own"}"#);
    then(&mut sim, &ws);
    sim.settle();
    let frames = ws.frames(&mut sim);
    let code = frames.iter().find_map(crate::sim::ws::Frame::code);
    let texts = frames.iter().filter(|frame| frame.opcode == crate::sim::ws::TEXT);
    let came = texts.map(crate::sim::ws::Frame::json).collect();
    (sim, came, code)
}

fn a_close_right_behind_a_publish_tells_no_position_too_early(pace: Pace) {
    let (_, came, code) = behind_a_publish(pace, |sim, ws| ws.close(sim, 1000));
    assert_eq!(code, Some(1000));
    assert_eq!(texts(&came), ["of somebody else", "own"], "{came:?}");
    assert_nothing_told_early(&came, &[1, 2]);
    assert_eq!(ops(&came), ["message", "message", "ok"]);
}

fn a_broken_command_right_behind_a_publish_tells_no_position_too_early(pace: Pace) {
    let (_, came, code) = behind_a_publish(pace, |sim, ws| ws.text(sim, "{"));
    assert_eq!(code, Some(4400));
    assert_nothing_told_early(&came, &[1, 2]);
    assert_eq!(ops(&came), ["message", "message", "ok", "error"], "{came:?}");
}

fn a_farewell_right_behind_a_publish_tells_no_position_too_early(pace: Pace) {
    if pace == Pace::Bytes {
        return; // the publish is not whole when the drain begins
    }
    let (_, came, code) = behind_a_publish(pace, |sim, _| {
        // The command is taken in, its turn has not ended.
        let (id, now) = (sim.lines[0].id, sim.now);
        let mut bytes = sim.lines[0].steal();
        sim.engine_mut().handle_bytes(id, &mut bytes, now);
        sim.engine_mut().handle_drain(now);
    });
    assert_eq!(code, Some(1012));
    assert_nothing_told_early(&came, &[1, 2]);
    assert_eq!(ops(&came), ["message", "message", "ok", "bye"], "{came:?}");
}

fn subscribing_again_changes_nothing(pace: Pace) {
    let mut sim = Sim::open(pace);
    published(&sim, 9);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.jsons(&mut sim);
    let again = subscribe("a", &sim.id(0));
    ws.texts(&mut sim, &[&again, &subscribe("a", "earliest")]);
    sim.settle();
    let came = ws.jsons(&mut sim);
    assert_eq!(ops(&came), ["ok", "live", "ok", "live"], "{came:?}");
    assert_eq!((&came[0]["recovered"], &came[1]["cursor"]), (&Value::Null, &(*sim.id(9)).into()));
    published(&sim, 1);
    sim.settle();
    assert_eq!(texts(&ws.jsons(&mut sim)), ["10"]);
    assert_eq!(sim.engine().subscriptions(), 1);
}

fn channels_of_one_subscribe_replay_in_one_order(pace: Pace) {
    let mut sim = Sim::open(pace);
    published(&sim, 9);
    let ws = Ws::open(&mut sim, 0, "/ws");
    ws.jsons(&mut sim);
    let command =
        format!(r#"{{"op":"subscribe","ref":7,"channels":["c","a","b"],"since":"{}"}}"#, sim.id(3));
    ws.text(&mut sim, &command);
    sim.settle();
    let came = ws.jsons(&mut sim);
    assert_eq!(texts(&came).join(" "), "4 5 6 7 8 9");
    assert_eq!(ops(&came)[..4], ["ok", "ok", "ok", "message"], "{came:?}");
    assert_eq!(ops(&came)[9..], ["live", "live", "live"], "{came:?}");
}

/// A stream that lost two channels at two places is cut between the two announcements.
#[test]
fn a_cut_between_two_gaps_loses_neither() {
    let config = Config { history_messages: 2, recent_bytes: 0, ..Config::default().open() };
    for was_connected in [false, true] {
        let mut sim = Sim::new(config.clone(), 1, 1);
        sim.publish("b", "0");
        // `b` keeps what is newer, `a` what is older; each loses something.
        let publish = |sim: &mut Sim| {
            for channel in ["b", "b", "a", "a", "a", "c", "b", "b"] {
                sim.publish(channel, "x");
            }
        };
        let target = format!("/events?channel=a&channel=b&since={}", sim.id(1));
        let mut sse = if was_connected {
            let mut sse = Sse::open(&mut sim, 0, &target);
            sse.blocks(&mut sim);
            sim.stall(sse.line, 0);
            sim.publish("a", "cut");
            sim.settle();
            publish(&mut sim);
            sim.unstall(sse.line);
            sim.settle();
            sse
        } else {
            publish(&mut sim);
            Sse::open(&mut sim, 0, &target)
        };
        let mut position = sim.id(1);
        let mut gaps = Vec::new();
        for block in sse.blocks(&mut sim) {
            // The stream was cut before this block: what would have been told at `position`?
            if let Some(channel) = block.data.as_ref().map(|_| block.json()) {
                let target = target.replace(&sim.id(1), &position);
                let again = Sse::open(&mut sim, 0, &target).blocks(&mut sim);
                let told: Vec<_> = again.iter().filter(|block| block.name() == "gap").collect();
                for lost in ["a", "b"] {
                    let is_told = |gap: &Value| {
                        gap["channels"].as_array().is_some_and(|all| all.contains(&lost.into()))
                    };
                    let before = gaps.iter().any(is_told);
                    let after = told.iter().any(|block| is_told(&block.json()));
                    assert!(before || after, "{lost} lost something, cut before {channel}");
                }
            }
            if block.name() == "gap" {
                gaps.push(block.json());
            }
            position = block.id.clone().unwrap_or(position);
        }
        assert_eq!(gaps.len(), 2, "{gaps:?}");
        let resumed: Vec<_> = gaps.iter().map(|gap| gap["resumed"].to_string()).collect();
        assert_ne!(resumed[0], resumed[1]);
    }
}
