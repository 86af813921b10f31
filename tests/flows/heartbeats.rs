//! Flow (c): what is said on quiet connections, to whom, when, and what silence means.

use std::time::Duration;

use holdline::Config;

use crate::both_paces;
use crate::sim::clients::{Sse, Ws};
use crate::sim::ws::{CLOSE, Frame, PING, PONG, TEXT};
use crate::sim::{Pace, Sim};

/// What rounding to the wheel and to stamps may add to a moment.
const LATE_MS: u64 = 64 + 250;

both_paces!(
    a_silent_websocket_is_pinged_with_its_position_in_one_write,
    a_raw_websocket_is_only_pinged,
    a_meta_websocket_is_told_its_position,
    a_websocket_that_talks_is_told_its_position_and_not_pinged,
    a_websocket_that_only_listens_is_pinged_though_it_gets_messages,
    a_stream_is_told_its_position_when_nothing_was_written,
    no_byte_after_a_ping_ends_a_websocket_with_4408,
    any_byte_after_a_ping_is_life,
    an_interval_shorter_than_the_wait_for_a_pong_is_kept,
    the_interval_can_be_asked_for_within_limits,
);

/// Lets time pass until the client has received something; how long that took.
#[track_caller]
fn wait(sim: &mut Sim, line: usize, max_ms: u64) -> u64 {
    let start = sim.now.mono_ms;
    let came = sim.pass_until(start + max_ms, |sim| !sim.lines[line].received.is_empty());
    assert!(came, "nothing came in {max_ms} ms");
    sim.now.mono_ms - start
}

#[track_caller]
fn assert_within(ms: u64, interval_ms: u64) {
    let allowed = interval_ms * 8 / 10..=interval_ms.max(interval_ms * 8 / 10 + LATE_MS);
    assert!(allowed.contains(&ms), "{ms} ms of silence, not {allowed:?}");
}

fn opcodes(frames: &[Frame]) -> Vec<u8> {
    frames.iter().map(|frame| frame.opcode).collect()
}

fn a_silent_websocket_is_pinged_with_its_position_in_one_write(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.frames(&mut sim);
    sim.publish("b", "elsewhere");
    let before = sim.lines[ws.line].written;
    for _ in 0..5 {
        assert_within(wait(&mut sim, ws.line, 60_000), 25_000);
        let frames = ws.frames(&mut sim);
        assert_eq!(opcodes(&frames), [TEXT, PING]);
        let heartbeat = frames[0].json();
        assert_eq!(heartbeat, serde_json::json!({"op": "heartbeat", "cursor": sim.id(1)}));
        ws.pong(&mut sim);
        sim.settle();
    }
    assert!(sim.lines[ws.line].written > before);
}

fn a_raw_websocket_is_only_pinged(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/channels/a");
    for _ in 0..3 {
        assert_within(wait(&mut sim, ws.line, 60_000), 25_000);
        assert_eq!(opcodes(&ws.frames(&mut sim)), [PING]);
        ws.pong(&mut sim);
        sim.settle();
    }
}

fn a_meta_websocket_is_told_its_position(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::meta(&mut sim, 0, "/channels/a");
    assert_eq!(ws.frame(&mut sim).text(), format!("cursor: {}\n\n", sim.id(0)));
    sim.publish("b", "elsewhere");
    sim.settle();
    assert_within(wait(&mut sim, ws.line, 60_000), 25_000);
    let frames = ws.frames(&mut sim);
    assert_eq!(opcodes(&frames), [TEXT, PING]);
    assert_eq!(frames[0].text(), format!("cursor: {}\n\n", sim.id(1)));
}

fn a_websocket_that_talks_is_told_its_position_and_not_pinged(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.frames(&mut sim);
    let (mut since, mut heartbeats) = (sim.now.mono_ms, 0);
    for _ in 0..60 {
        // Unsolicited pongs are answered by nothing.
        ws.pong(&mut sim);
        let end = sim.now.mono_ms + 2_000;
        while sim.pass_until(end, |sim| !sim.lines[ws.line].received.is_empty()) {
            assert_eq!(opcodes(&ws.frames(&mut sim)), [TEXT], "pinged, though it talks");
            assert_within(sim.now.mono_ms - since, 25_000);
            (since, heartbeats) = (sim.now.mono_ms, heartbeats + 1);
        }
    }
    assert!((4..=6).contains(&heartbeats), "{heartbeats} in two minutes");
}

fn a_websocket_that_only_listens_is_pinged_though_it_gets_messages(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.frames(&mut sim);
    let (start, mut pinged) = (sim.now.mono_ms, None);
    for n in 0..12 {
        sim.publish("a", n.to_string());
        let end = sim.now.mono_ms + 2_500;
        sim.pass_until(end, |sim| {
            let frames = ws.frames(sim);
            if frames.iter().any(|frame| frame.opcode == PING) {
                pinged.get_or_insert(sim.now.mono_ms - start);
            }
            false
        });
    }
    assert_within(pinged.expect("a ping"), 25_000);
}

fn a_stream_is_told_its_position_when_nothing_was_written(pace: Pace) {
    let mut sim = Sim::open(pace);
    for target in ["/events?channel=a", "/channels/a"] {
        let mut sse = Sse::open(&mut sim, 0, target);
        sse.blocks(&mut sim);
        for _ in 0..3 {
            sim.publish("b", "elsewhere");
            let position = sim.id(sim.history.head());
            assert_within(wait(&mut sim, sse.line, 60_000), 15_000);
            let block = sse.block(&mut sim);
            assert_eq!((block.id, block.comments), (Some(position), vec!["heartbeat".to_owned()]));
            assert_eq!((block.data, &block.event[..]), (None, ""));
        }
        for n in 0..20 {
            sim.publish("a", n.to_string());
            sim.pass(5_000);
        }
        let blocks = sse.blocks(&mut sim);
        assert_eq!(blocks.len(), 20, "heartbeats, though messages flow: {blocks:?}");
        sim.close(sse.line);
    }
}

fn no_byte_after_a_ping_ends_a_websocket_with_4408(pace: Pace) {
    for target in ["/ws?channel=a", "/channels/a"] {
        let mut sim = Sim::open(pace);
        let ws = Ws::open(&mut sim, 0, target);
        ws.frames(&mut sim);
        wait(&mut sim, ws.line, 60_000);
        ws.frames(&mut sim);
        let took = wait(&mut sim, ws.line, 60_000);
        assert!((10_000..=10_000 + LATE_MS).contains(&took), "{took} ms");
        let frame = ws.frame(&mut sim);
        assert_eq!((frame.opcode, frame.code()), (CLOSE, Some(4408)));
        assert!(sim.lines[ws.line].is_finished);
        sim.pass(2_000 + LATE_MS);
        assert!(sim.is_closed(ws.line), "it lingers for two seconds of silence");
        sim.assert_deserted();
    }
}

fn any_byte_after_a_ping_is_life(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws");
    ws.frames(&mut sim);
    wait(&mut sim, ws.line, 60_000);
    ws.frames(&mut sim);
    sim.pass(9_000);
    sim.send(ws.line, &[0x81]); // half of a header
    sim.pass(15_000);
    assert!(ws.frames(&mut sim).is_empty());
    assert!(!sim.is_closed(ws.line));
    assert!(wait(&mut sim, ws.line, 60_000) <= 10_000 + LATE_MS, "the next ping");
}

fn an_interval_shorter_than_the_wait_for_a_pong_is_kept(pace: Pace) {
    let heartbeat = Duration::from_secs(1);
    let mut sim = Sim::with(Config { heartbeat, ..Config::default().open() }, pace);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.frames(&mut sim);
    for _ in 0..20 {
        assert_within(wait(&mut sim, ws.line, 60_000), 1_000);
        assert_eq!(opcodes(&ws.frames(&mut sim)), [TEXT, PING]);
        ws.pong(&mut sim);
        sim.settle();
    }
}

fn the_interval_can_be_asked_for_within_limits(pace: Pace) {
    for (asked, interval) in [("10", 10_000), ("60", 60_000), ("1", 10_000), ("9999", 300_000)] {
        let mut sim = Sim::open(pace);
        let ws = Ws::open(&mut sim, 0, &format!("/ws?heartbeat={asked}"));
        assert_eq!(ws.json(&mut sim)["heartbeat_ms"], interval);
        assert_within(wait(&mut sim, ws.line, 400_000), interval);
        let mut sse = Sse::open(&mut sim, 0, &format!("/events?channel=a&heartbeat={asked}"));
        sse.blocks(&mut sim);
        assert_within(wait(&mut sim, sse.line, 400_000), interval);
    }
}

/// A peer that was sent a lot since its last byte may not have read the ping yet.
#[test]
fn a_slow_reader_is_not_ended_by_the_pong_clock_but_by_standing_still() {
    let mut sim = Sim::open(Pace::Whole);
    let ws = Ws::open(&mut sim, 0, "/channels/a");
    // All of it fits into the kernel's buffers, and nobody reads it.
    sim.stall(ws.line, 1024 * 1024);
    for _ in 0..7 {
        sim.publish("a", "x".repeat(10_000));
    }
    sim.settle();
    assert!(!sim.is_blocked(ws.line));
    // 25 s of silence, the ping, and 10 s for its pong.
    sim.pass(37_000);
    assert!(!sim.is_closed(ws.line) && !sim.lines[ws.line].is_finished, "the pong clock killed it");
    // The ping was the last progress.
    sim.pass(30_000);
    assert!(sim.lines[ws.line].is_finished, "it stood still for 30 s");
    sim.unstall(ws.line);
    sim.settle();
    let frames = ws.frames(&mut sim);
    assert_eq!(frames[frames.len() - 1].code(), Some(4408), "{:?}", opcodes(&frames));
    sim.close(ws.line);
    sim.assert_deserted();
}

#[test]
fn a_slow_reader_that_sends_a_byte_goes_on() {
    let mut sim = Sim::open(Pace::Whole);
    let ws = Ws::open(&mut sim, 0, "/channels/a");
    sim.stall(ws.line, 1024 * 1024);
    for round in 0..6 {
        for _ in 0..7 {
            sim.publish("a", "x".repeat(10_000));
        }
        sim.pass(50_000);
        assert!(!sim.lines[ws.line].is_finished, "round {round}");
        ws.pong(&mut sim);
    }
}

/// A ping of which only a part has left cannot be answered: its clock starts when it is out.
#[test]
fn the_pong_clock_starts_when_the_whole_ping_has_left() {
    let mut sim = Sim::open(Pace::Whole);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.frames(&mut sim);
    sim.stall(ws.line, 20); // less than the heartbeat before it
    sim.pass(25_000);
    assert!(sim.is_blocked(ws.line));
    sim.pass(20_000);
    sim.unstall(ws.line);
    sim.settle();
    assert_eq!(opcodes(&ws.frames(&mut sim)), [TEXT, PING]);
    sim.pass(9_900);
    assert!(ws.frames(&mut sim).is_empty(), "too early");
    sim.pass(100 + LATE_MS);
    assert_eq!(ws.frame(&mut sim).code(), Some(4408));
}

/// The ping's bytes come back in its pong, and say how long they took.
#[test]
fn round_trips_are_measured_by_the_pings_own_bytes() {
    let mut sim = Sim::open(Pace::Whole);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    ws.frames(&mut sim);
    assert_eq!(sim.engine().stats().rtt.count(), 0);
    wait(&mut sim, ws.line, 25_000);
    let ping = ws.frames(&mut sim).pop().expect("a ping");
    assert_eq!((ping.opcode, ping.payload.len()), (PING, 8));
    sim.pass(70);
    ws.send(&mut sim, PONG, b"");
    ws.send(&mut sim, PONG, b"12345678");
    sim.settle();
    assert_eq!(sim.engine().stats().rtt.count(), 0, "these answer no ping of ours");
    ws.send(&mut sim, PONG, &ping.payload);
    sim.settle();
    let rtt = &sim.engine().stats().rtt;
    assert_eq!((rtt.count(), rtt.percentile(50), rtt.percentile(99)), (1, 128, 128));
    let line = sim.connect(0);
    let stats = sim.get(line, "/stats").json();
    assert_eq!(stats["rtt_ms"], serde_json::json!({"count": 1, "p50": 128, "p99": 128}));
}

/// With a full socket there is no ping, and nothing is read: only 30 s without a byte taken end it.
#[test]
fn a_blocked_reader_lives_by_progress_alone() {
    for target in ["/ws?channel=a", "/channels/a", "/events?channel=a"] {
        let mut sim = Sim::open(Pace::Whole);
        let line = match target {
            "/events?channel=a" => Sse::open(&mut sim, 0, target).line,
            _ => Ws::open(&mut sim, 0, target).line,
        };
        sim.stall(line, 1_000);
        sim.publish("a", "x".repeat(60_000));
        sim.settle();
        assert!(sim.is_blocked(line));
        for round in 0..10 {
            sim.pass(29_000);
            assert!(
                !sim.is_closed(line),
                "{target}: it took something within 30 s (round {round})"
            );
            assert_eq!(sim.take(line, 700), 700);
            sim.settle();
        }
        sim.pass(29_900);
        assert!(!sim.is_closed(line), "{target}: too early");
        sim.pass(100 + LATE_MS);
        assert!(sim.is_closed(line), "{target}: nothing for 30 s");
        sim.assert_deserted();
    }
}

/// A socket that is reported writable and takes nothing has made no progress.
#[test]
fn a_false_report_of_room_is_no_progress() {
    let mut sim = Sim::open(Pace::Whole);
    let line = Sse::open(&mut sim, 0, "/events?channel=a").line;
    sim.stall(line, 1_000);
    sim.publish("a", "x".repeat(60_000));
    sim.settle();
    for _ in 0..31 {
        sim.pass(1_000);
        if sim.is_closed(line) {
            return;
        }
        let (id, now) = (sim.lines[line].id, sim.now);
        sim.engine_mut().handle_writable(id, now);
        sim.settle();
    }
    panic!("it is kept alive by reports");
}

/// Activity only stores a stamp: the wheel is looked at about once an interval.
#[test]
fn traffic_causes_no_wake_ups() {
    let mut sim = Sim::open(Pace::Whole);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=a");
    let wakes = sim.wakes;
    for _ in 0..1_000 {
        ws.text(&mut sim, r#"{"op":"ping"}"#);
        sim.pass(100);
    }
    // 100 s: a few for the lazy heartbeat, the wheel's rounds, the history's sweep.
    assert!(sim.wakes - wakes < 20, "{} wake-ups", sim.wakes - wakes);
}

#[test]
fn nothing_is_armed_where_nobody_is() {
    let mut sim = Sim::with(Config::default().open(), Pace::Whole);
    assert_eq!(sim.next_deadline(), None);
    let line = sim.connect(0);
    sim.settle();
    assert!(sim.next_deadline().is_some());
    sim.close(line);
    sim.settle();
    assert_eq!(sim.next_deadline(), None);
}

/// The first heartbeats of those who came together are spread over a fifth of the interval.
#[test]
fn a_mass_of_connections_is_not_pinged_in_one_tick() {
    let mut sim = Sim::open(Pace::Whole);
    let sockets: Vec<_> = (0..200).map(|_| Ws::open(&mut sim, 0, "/ws")).collect();
    sockets.iter().for_each(|ws| drop(ws.frames(&mut sim)));
    let start = sim.now.mono_ms;
    let mut at = vec![None; sockets.len()];
    sim.pass_until(start + 26_000, |sim| {
        for (at, ws) in at.iter_mut().zip(&sockets) {
            if !sim.lines[ws.line].received.is_empty() {
                at.get_or_insert(sim.now.mono_ms - start);
            }
        }
        false
    });
    let mut ticks: Vec<_> = at.into_iter().map(|at| at.expect("a ping") / 250).collect();
    ticks.sort_unstable();
    ticks.dedup();
    assert!(ticks.len() >= 15, "all within {} ticks", ticks.len());
}
