//! What `payloads` proves in memory, once over real sockets against the binary.
#![cfg(feature = "cli")]
#![allow(dead_code, unreachable_pub)]

#[path = "support/event_stream.rs"]
mod event_stream;
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
mod support;
#[path = "support/sim/ws.rs"]
mod ws;

use listen::Kind;
use matter::Way;
use net::Loopback;
use support::Running;

/// All of these payloads, each on a channel of its own.
fn check(payloads: &[Vec<u8>]) {
    let server = Running::start(&[]);
    let net = Loopback::new(server.addr);
    for (number, payload) in payloads.iter().enumerate() {
        println!("{}", payload[..payload.len().min(60)].escape_ascii());
        matrix::check(&net, &format!("c{number}"), payload, &Way::all(payload), &Kind::ALL);
    }
}

#[test]
fn every_payload_arrives_everywhere() {
    check(&matter::small());
}

#[test]
fn the_largest_payload_arrives_everywhere() {
    check(&matter::largest()[..3]);
}

#[test]
fn one_byte_more_is_refused_everywhere() {
    let server = Running::start(&[]);
    matrix::check_too_large(&Loopback::new(server.addr), "c", &Kind::ALL);
}

#[test]
fn names_come_back_or_are_refused() {
    let server = Running::start(&[]);
    let net = Loopback::new(server.addr);
    names::events(&net);
    names::media_types(&net);
    names::keys(&net);
    names::channels(&net);
}
