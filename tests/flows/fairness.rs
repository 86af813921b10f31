//! Nobody can keep the loop for himself: while one floods, or a crowd comes or goes, somebody else's
//! question is answered within a turn or two, and its messages come.

use holdline::Config;

use crate::sim::clients::{Sse, Ws, request};
use crate::sim::ws::{self, TEXT};
use crate::sim::{Pace, Sim};

/// Turns that an answer may take while others are at their worst.
const TURNS: usize = 3;
/// What a turn may write in all: its budget of 1 MiB, and again that for each 256 KiB of replies.
const WRITTEN_MAX: u64 = 3 * 1024 * 1024;
/// What a turn may read of one connection: its budget, and the header of a frame.
const READ_MAX: usize = 16 * 1024 + 14;

/// A bystander that listens to `quiet`.
fn bystander(sim: &mut Sim) -> Ws {
    let bystander = Ws::open(sim, 0, "/ws?channel=quiet");
    bystander.frames(sim);
    bystander
}

/// A world with room for crowds.
fn crowded() -> Sim {
    Sim::with(Config { connections_max: 2_000, ..Config::default().open() }, Pace::Whole)
}

/// How many turns its ping, and a message for it, take now.
#[track_caller]
fn assert_served(sim: &mut Sim, bystander: &Ws, what: &str) {
    sim.publish("quiet", "news");
    bystander.text(sim, r#"{"op":"ping","t":1}"#);
    for _ in 0..TURNS {
        let written: u64 = sim.lines.iter().map(|line| line.written).sum();
        let unread: Vec<_> = sim.lines.iter().map(|line| line.unread()).collect();
        sim.step();
        let written = sim.lines.iter().map(|line| line.written).sum::<u64>() - written;
        assert!(written <= WRITTEN_MAX, "{what}: a turn that writes {written} bytes");
        let read = unread.iter().zip(&sim.lines).map(|(before, line)| before - line.unread()).max();
        assert!(read <= Some(READ_MAX), "{what}: a turn that reads {read:?} of one connection");
    }
    let ops: Vec<_> = bystander.jsons(sim).iter().map(|json| json["op"].clone()).collect();
    assert!(ops.iter().any(|op| op == "pong"), "{what}: no answer, but {ops:?}");
    assert!(ops.iter().any(|op| op == "message"), "{what}: no message, but {ops:?}");
}

#[test]
fn a_flood_of_publishing_commands_delays_nobody() {
    let mut sim = Sim::open(Pace::Whole);
    let bystander = bystander(&mut sim);
    let flooder = Ws::open(&mut sim, 0, "/ws");
    let command = br#"{"op":"publish","channel":"busy","text":"more"}"#;
    let flood: Vec<u8> =
        (0..20_000).flat_map(|n: u32| ws::frame(TEXT, command, n.to_be_bytes())).collect();
    sim.send(flooder.line, &flood);
    for round in 0..5 {
        assert_served(&mut sim, &bystander, "a flood of commands");
        assert!(sim.lines[flooder.line].unread() > 0, "the flood is over in round {round}");
    }
    sim.settle();
    assert_eq!(sim.history.stats().published, 20_005);
}

#[test]
fn a_batch_and_a_huge_message_delay_nobody() {
    let mut sim = Sim::open(Pace::Whole);
    let bystander = bystander(&mut sim);
    let lines = (0..16).map(|_| sim.connect(0)).collect::<Vec<_>>();
    for (number, line) in lines.into_iter().enumerate() {
        let request = if number % 2 == 0 {
            request("POST", "/channels/busy", "", &[b'x'; 65_536])
        } else {
            let text = r#"{"channel":"busy","text":"one of a thousand"}"#.to_owned() + "\n";
            request("POST", "/publish", "", text.repeat(1_000).as_bytes())
        };
        sim.send(line, &request);
    }
    for _ in 0..3 {
        assert_served(&mut sim, &bystander, "batches and huge messages");
    }
    sim.settle();
    assert_eq!(sim.history.stats().published, 8 * 1_001 + 3);
}

#[test]
fn a_crowd_that_comes_delays_nobody() {
    let mut sim = crowded();
    let bystander = bystander(&mut sim);
    (0..50).for_each(|n| _ = sim.publish("busy", format!("{n}")));
    for _ in 0..500 {
        let line = sim.connect(0);
        sim.send(line, &ws::upgrade("/ws?channel=busy&since=earliest", None));
        let line = sim.connect(0);
        sim.ask(line, "GET", "/events?channel=busy&since=earliest", b"");
        let line = sim.connect(0);
        sim.ask(line, "GET", "/poll?channel=busy&since=latest", b"");
    }
    assert_served(&mut sim, &bystander, "a crowd that comes");
    sim.settle();
    assert_eq!(sim.engine().subscriptions(), 1_501);
}

#[test]
fn a_crowd_that_goes_delays_nobody() {
    let mut sim = crowded();
    let bystander = bystander(&mut sim);
    let crowd: Vec<_> = (0..1_000)
        .map(|n| match n % 2 {
            0 => Ws::open(&mut sim, 0, "/ws?channel=busy").line,
            _ => Sse::open(&mut sim, 0, "/events?channel=busy").line,
        })
        .collect();
    sim.publish("busy", "x".repeat(60_000));
    crowd.iter().enumerate().for_each(|(n, line)| match n % 3 {
        0 => sim.close(*line),
        _ => sim.reset(*line),
    });
    assert_served(&mut sim, &bystander, "a crowd that goes");
    sim.settle();
    assert_eq!((sim.engine().len(), sim.engine().subscriptions()), (1, 1));
}

#[test]
fn a_listener_to_128_busy_channels_delays_nobody() {
    let config = Config { memory_bytes: 256 << 20, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let bystander = bystander(&mut sim);
    for n in 0..128 * 100 {
        sim.publish(&format!("busy.{}", n % 128), "x".repeat(400));
    }
    let query: Vec<String> = (0..128).map(|n| format!("channel=busy.{n}")).collect();
    let glutton = Ws::open(&mut sim, 0, "/ws");
    let names: Vec<String> = (0..128).map(|n| format!("\"busy.{n}\"")).collect();
    glutton.text(
        &mut sim,
        &format!(r#"{{"op":"subscribe","channels":[{}],"since":"earliest"}}"#, names.join(",")),
    );
    let stream = sim.connect(0);
    sim.ask(stream, "GET", &format!("/events?{}&since=earliest", query.join("&")), b"");
    // The kernel would take everything at once.
    [glutton.line, stream].into_iter().for_each(|line| sim.lines[line].window = 64 << 20);
    for _ in 0..5 {
        assert_served(&mut sim, &bystander, "a listener to 128 channels");
        (0..128).for_each(|n| _ = sim.publish(&format!("busy.{n}"), "y".repeat(400)));
    }
    sim.settle();
    let got = glutton.jsons(&mut sim).iter().filter(|json| json["op"] == "message").count();
    assert_eq!(got, 128 * 105);
}
