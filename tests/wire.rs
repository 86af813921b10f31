//! The wire contract over real sockets: the real binary, and clients that speak each transport by hand.
#![cfg(feature = "cli")]
#![allow(missing_docs)]

#[path = "support/clients.rs"]
mod clients;
#[path = "support/clock.rs"]
mod clock;
#[path = "wire/data.rs"]
mod data;
#[path = "wire/drain.rs"]
mod drain;
#[cfg(target_os = "linux")]
#[path = "support/flood.rs"]
mod flood;
#[path = "wire/limits.rs"]
mod limits;
#[cfg(target_os = "linux")]
#[path = "wire/memory.rs"]
mod memory;
#[path = "wire/messages.rs"]
mod messages;
#[path = "wire/process.rs"]
mod process;
#[path = "wire/protocol.rs"]
mod protocol;
#[path = "wire/raw.rs"]
mod raw;
#[path = "wire/resume.rs"]
mod resume;
#[path = "wire/service.rs"]
mod service;
mod support;
#[path = "support/traveller.rs"]
mod traveller;
#[path = "wire/ws.rs"]
mod ws;
