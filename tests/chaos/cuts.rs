//! Not at random but everywhere: connections that break off behind each byte of one exchange.

use holdline::Config;

use super::oracle::{Entry, judge};
use super::publisher::Sending;
use super::sim::clients::request;
use super::sim::{Pace, Sim};
use super::traveller::{Manner, Traveller, Via};
use super::truth::{At, Spec, Truth, name};
use super::world::message;

/// Publishes on the first channels in turn.
fn publish(sim: &Sim, truth: &mut Truth, count: usize) {
    for n in 0..count {
        let spec = Spec { channel: n % 2, ttl_s: None, unix_ms: sim.now.unix_ms };
        let mut number = truth.spec(spec);
        while number % 20 == 4 {
            number = truth.spec(spec); // those are long
        }
        let published = sim.publish(&name(spec.channel), message(number, spec));
        truth.place(At { epoch: truth.epoch(), seq: published.id.seq }, number);
    }
}

fn world() -> (Sim, Truth) {
    // Two messages of each channel are kept, so that some are lost behind a cut.
    let config = Config { history_messages: 2, recent_bytes: 0, ..Config::default().open() };
    let sim = Sim::with(config, Pace::Whole);
    let mut truth = Truth::default();
    truth.begin_epoch(sim.history.epoch().as_str());
    publish(&sim, &mut truth, 3);
    (sim, truth)
}

/// Cuts readers on each transport behind each `stride`-th byte; how many cuts there were.
pub fn of_readers(stride: usize) -> usize {
    let mut cuts = 0;
    for (number, via) in Via::ALL.into_iter().enumerate() {
        for is_ten in [false, true] {
            if is_ten && !matches!(via, Via::Events | Via::RawSse) {
                continue;
            }
            let mut bytes = number % stride;
            while cut_reader(via, is_ten, bytes) {
                bytes += stride;
                cuts += 1;
            }
        }
    }
    cuts
}

/// A reader of one connection that breaks off behind `bytes`, and of another; whether the first had
/// so many.
fn cut_reader(via: Via, is_ten: bool, bytes: usize) -> bool {
    let (mut sim, mut truth) = world();
    // (A raw poll of the first channel would not wait.)
    let channels = if via.is_raw() { vec![1] } else { vec![0, 1] };
    let mut reader = Traveller::new(channels);
    reader.position = Some(sim.id(1));
    let manner = Manner { is_ten, ..Manner::default() };
    reader.open(&mut sim, &truth, 0, via, manner);
    let line = reader.link.as_ref().expect("a link").line;
    sim.lines[line].take_max = 0;
    let mut left = bytes;
    for round in 0..4 {
        // What comes while it is behind, while it waits, and after a silence.
        publish(&sim, &mut truth, 2);
        let quiet = if round == 3 { 60_000 } else { 10 };
        sim.pass(quiet);
        loop {
            let taken = sim.take(line, left);
            left -= taken;
            reader.read(&mut sim, &mut truth);
            sim.settle();
            if taken == 0 || reader.link.is_none() {
                break;
            }
        }
    }
    sim.reset(line);
    reader.lose();
    publish(&sim, &mut truth, 3);
    let next = Via::ALL.into_iter().filter(|next| reader.is_single() || !next.is_raw());
    let next: Vec<_> = next.collect();
    reader.open(&mut sim, &truth, 0, next[bytes % next.len()], Manner::default());
    for _ in 0..40 {
        // The last of it is on the other channel: one that reads this one alone is told in time.
        sim.pass(1_000);
        reader.read(&mut sim, &mut truth);
    }
    let head = sim.id(sim.history.head());
    let place = format!("{via:?} (1.0: {is_ten}) cut behind {bytes} bytes");
    assert_eq!(reader.position, Some(head), "{place}");
    judge(&place, &reader.log, &truth);
    assert!(reader.log.iter().any(|entry| matches!(entry, Entry::Message { .. })), "{place}");
    for line in 0..sim.lines.len() {
        sim.reset(line);
    }
    sim.assert_deserted();
    left == 0
}

/// Cuts the requests of publishers behind each byte; how many cuts there were.
pub fn of_publishers() -> usize {
    let spec = Spec { channel: 0, ttl_s: None, unix_ms: 0 };
    // Keyed, and of each kind of payload.
    let messages = [1, 13, 19, 22].map(|number| Sending { number, spec, is_again: false });
    let mut requests: Vec<(usize, Vec<u8>)> = Vec::new();
    for message in &messages {
        assert!(message.has_key());
        requests.push((1, message.raw()));
        requests.push((1, request("POST", "/publish", "", message.line().as_bytes())));
    }
    let lines = messages.each_ref().map(Sending::line).join("\n");
    requests.push((messages.len(), request("POST", "/publish", "", lines.as_bytes())));
    let mut cuts = 0;
    for (count, bytes) in requests {
        for cut in 0..=bytes.len() {
            cut_publisher(count, &bytes, cut);
            cuts += 1;
        }
    }
    cuts
}

fn cut_publisher(count: usize, request: &[u8], cut: usize) {
    let mut sim = Sim::open(Pace::Whole);
    for end in [Sim::reset, Sim::close, Sim::finish] {
        let line = sim.connect(0);
        sim.send(line, &request[..cut]);
        if cut % 2 == 0 {
            sim.settle(); // or all of it comes at once
        }
        end(&mut sim, line);
        sim.settle();
        sim.pass(20_000);
    }
    let line = sim.connect(0);
    sim.send(line, request);
    sim.settle();
    let answer = sim.answer(line).expect("an answer");
    assert!(matches!(answer.status, 200..203), "{answer:?}");
    assert_eq!(sim.history.head(), count as u64, "published of {count}, cut behind {cut}");
    sim.reset(line);
    sim.assert_deserted();
}
