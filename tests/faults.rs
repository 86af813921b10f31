//! Faults on real sockets: networks that stall, break and lie, clients that stop or never read, a
//! machine that runs out of descriptors. Nothing may be lost unannounced, and nothing of a client
//! may be left when it has gone.
//!
//! Small by default; `.ci/run faults` sets the sizes (see CONTRIBUTING.md).
#![cfg(feature = "cli")]
#![allow(missing_docs)]

#[path = "faults/abandoned.rs"]
mod abandoned;
#[path = "faults/books.rs"]
mod books;
#[path = "support/clock.rs"]
mod clock;
#[path = "faults/delivery.rs"]
mod delivery;
#[path = "faults/descriptors.rs"]
mod descriptors;
#[path = "faults/fair.rs"]
mod fair;
#[path = "support/fleet/mod.rs"]
mod fleet;
#[path = "faults/proxied.rs"]
mod proxied;
#[path = "faults/slow.rs"]
mod slow;
#[path = "faults/stopped.rs"]
mod stopped;
mod support;
#[path = "faults/vanish.rs"]
mod vanish;

use std::net::SocketAddr;

/// The position before anything is published.
fn start_of(addr: SocketAddr) -> String {
    let answer = fleet::call(addr, "GET", "/poll?channel=a", b"");
    answer.header("holdline-cursor").expect("a cursor").to_owned()
}
