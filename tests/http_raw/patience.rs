//! Limits in time and number that are too far away for real clocks: only for a clock that jumps.

use std::time::Duration;

use crate::tables::case::{error, status};
use crate::tables::heads::NEXT;
use crate::tables::http::{Answer, Req, Shape, Wire};
use crate::tables::net::Net;
use crate::world::{Client, World};

const LONG: Duration = Duration::from_secs(200);

#[track_caller]
fn ask(wire: &mut Wire<Client>) -> Answer {
    wire.send(NEXT.as_bytes()).expect("still open");
    wire.answer(Shape::Full).expect("an answer")
}

#[track_caller]
fn assert_ends(wire: &mut Wire<Client>) {
    assert!(wire.drain().expect("an orderly end").is_empty(), "nothing is said at the end");
}

fn is_last(answer: &Answer) -> bool {
    answer.lists("connection", "close")
}

/// RFC 9112 §9.5: a connection that is kept and not used may be closed at any time.
pub fn idle(world: &World) {
    let mut wire = world.open(LONG);
    assert!(!is_last(&ask(&mut wire)));
    world.pause(Duration::from_secs(74));
    assert!(!is_last(&ask(&mut wire)));
    let since = world.clock();
    assert_ends(&mut wire);
    let took = (world.clock() - since).as_secs();
    assert!((75..77).contains(&took), "ended after {took} s");
}

pub fn a_thousand_requests(world: &World) {
    let mut wire = world.open(LONG);
    for number in 1..1000 {
        assert!(!is_last(&ask(&mut wire)), "request {number}");
    }
    assert!(is_last(&ask(&mut wire)), "the thousandth says that it is the last");
    assert_ends(&mut wire);
    // What stands behind the thousandth in the same segment is not answered.
    let mut wire = world.open(LONG);
    wire.send(NEXT.repeat(1500).as_bytes()).expect("still open");
    for number in 1..=1000 {
        let answer = wire.answer(Shape::Full).expect("an answer");
        assert_eq!(is_last(&answer), number == 1000, "request {number}");
    }
    assert_ends(&mut wire);
}

pub fn an_hour(world: &World) {
    let mut wire = world.open(LONG);
    for minute in 0..60 {
        assert!(!is_last(&ask(&mut wire)), "minute {minute}");
        world.pause(Duration::from_secs(60));
    }
    // Moments are kept in steps of 64 ms, rounded up.
    world.pause(Duration::from_millis(64));
    assert!(is_last(&ask(&mut wire)), "an answer behind the hour says that it is the last");
    assert_ends(&mut wire);
}

/// Twice the least rate, and yet not done in half a minute.
pub fn a_body_that_takes_too_long(world: &World) {
    let mut wire = world.open(LONG);
    let since = world.clock();
    let head = Req::new("POST /channels/slow").field("Content-Length: 65536").bytes();
    wire.send(&head).expect("still open");
    while !wire.is_answered() {
        wire.send(&[b'a'; 1024]).expect("still open");
        world.pause(Duration::from_millis(500));
    }
    let took = (world.clock() - since).as_secs();
    assert!((30..32).contains(&took), "refused after {took} s");
    let answer = wire.answer(Shape::Full).expect("an answer");
    assert_eq!(error(408, "timeout").judge(&answer, false), [""; 0]);
    assert!(is_last(&answer));
    assert_ends(&mut wire);
    // The same body is taken where it comes in time.
    let mut wire = world.open(LONG);
    wire.send(&head).expect("still open");
    for _ in 0..64 {
        world.pause(Duration::from_millis(400));
        wire.send(&[b'a'; 1024]).expect("still open");
    }
    assert_eq!(status(202).judge(&wire.answer(Shape::Full).expect("an answer"), false), [""; 0]);
}
