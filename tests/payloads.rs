//! Any payload arrives as it was published, however it was published, on every transport; and none
//! can forge an event, an id, a frame or a header.
//!
//! Whole engines in memory. Publishers: bodies of POST and PUT with several types, chunked, in
//! HTTP/1.0; lines and objects of `/publish` with `data`, `text` and `b64`; frames of a raw WebSocket;
//! commands on `/ws`. Listeners: raw and enveloped event streams, raw and enveloped polls, each in
//! HTTP/1.1 and 1.0; raw WebSockets with and without `holdline.v1.meta`; `/ws`. Each hears live and
//! replays. `wire_payloads` does some of it over sockets.
#![allow(dead_code, unreachable_pub)]

#[path = "support/http.rs"]
mod http;
#[path = "payloads/listen.rs"]
mod listen;
#[path = "payloads/matrix.rs"]
mod matrix;
#[path = "payloads/matter.rs"]
mod matter;
#[path = "payloads/names.rs"]
mod names;
#[path = "support/net.rs"]
mod net;
#[path = "payloads/publish.rs"]
mod publish;
#[path = "support/sim.rs"]
mod sim;
#[path = "support/world.rs"]
mod world;

use listen::Kind;
use matter::Way;
use sim::{Pace, event_stream, ws};
use world::{Reader, World};

fn check(world: &World, payload: &[u8], ways: &[Way]) {
    println!("{}", payload[..payload.len().min(60)].escape_ascii());
    matrix::check(world, "c", payload, ways, &Kind::ALL);
    assert_eq!(world.check_deserted(), Ok(()));
}

/// Some of the ways, others for the next payload: all of them take their time byte by byte.
fn some(payload: &[u8], number: usize) -> Vec<Way> {
    let all = Way::all(payload);
    (0..5).map(|i| all[(number * 5 + i) % all.len()]).collect()
}

#[test]
fn every_payload_arrives_everywhere() {
    for payload in matter::small() {
        check(&World::new(Pace::Whole, None), &payload, &Way::all(&payload));
    }
}

#[test]
fn every_payload_arrives_everywhere_byte_by_byte() {
    for (number, payload) in matter::small().into_iter().enumerate() {
        check(&World::new(Pace::Bytes, None), &payload, &some(&payload, number));
    }
}

#[test]
fn every_payload_arrives_everywhere_at_slow_readers() {
    let reader = Some(Reader { window: 11, take: 5 });
    for (number, payload) in matter::small().into_iter().enumerate() {
        check(&World::new(Pace::Whole, reader), &payload, &some(&payload, number));
    }
}

#[test]
fn the_largest_payload_arrives_everywhere() {
    for payload in matter::largest() {
        check(&World::new(Pace::Whole, None), &payload, &Way::all(&payload));
    }
}

#[test]
fn one_byte_more_is_refused_everywhere() {
    let world = World::new(Pace::Whole, None);
    matrix::check_too_large(&world, "c", &Kind::ALL);
    assert_eq!(world.check_deserted(), Ok(()));
}

#[test]
fn names_of_events_come_back_or_are_refused() {
    names::events(&World::new(Pace::Whole, None));
}

#[test]
fn media_types_come_back_or_are_refused() {
    names::media_types(&World::new(Pace::Whole, None));
}

#[test]
fn keys_are_one_publication_or_are_refused() {
    names::keys(&World::new(Pace::Whole, None));
}

#[test]
fn names_of_channels_come_back_or_are_refused() {
    names::channels(&World::new(Pace::Whole, None));
}
