//! A real-time server without an async runtime: WebSocket, Server-Sent Events and long-polling, one
//! order of everything published, one kind of id.
//!
//! Clients listen to *channels* on whichever transport suits them. A message that is published once
//! reaches all of them in the same order, and its id is a position in that order: whoever was away
//! gives it back and gets the rest, or is told that something is missing.
//!
//! A server runs on a thread of its own, on this one, or one turn at a time inside another loop:
//!
#![cfg_attr(feature = "server", doc = "```no_run")]
#![cfg_attr(not(feature = "server"), doc = "```ignore")]
//! use holdline::{Message, Server};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::bind("127.0.0.1:7070")?;
//!     let hub = server.hub(); // cheap to clone, for any thread
//!     let _running = server.spawn()?; // its own thread; dropping it ends the server
//!     hub.publish("news", "hello")?;
//!     hub.publish("news", Message::json(br#"{"gold":2431}"#)?.event("price"))?;
//!     std::thread::park();
//!     Ok(())
//! }
//! ```
//!
//! A `Hub` also publishes many messages at once, subscribes the program itself to channels, and tells
//! how the server is, from any thread. [`Config`] has every limit. An [`App`] decides who may do what, and has requests and WebSockets
//! of its own. A server as it is made here lets clients listen and nobody but the program publish;
//! [`Config::open`] or an application changes that.
//!
//! # The map
//!
//! From the ground up; a module knows nothing of those below it in this table.
//!
//! | module | |
//! |---|---|
//! | [`config`], [`cursor`], [`message`], [`code`], [`json`], [`time`] | what all others share |
//! | [`wire`] | codecs over bytes: HTTP, WebSocket, commands from clients, dialects to them |
//! | [`collections`] | slots and timers |
//! | [`conn`] | one connection's states, from its first byte to its last |
//! | [`hub`] | the one order of everything published, and who listens |
//! | [`engine`] | all connections of one loop, and where they meet the channels; no I/O |
//! | `server` | sockets, the clock, randomness, threads (feature `server`) |
//!
//! Whoever wants another loop, other sockets or virtual time drives the [`Engine`]: the contract
//! stands in [`engine`]. For the reasons behind all this see `ARCHITECTURE.md`, for what clients
//! see `PROTOCOL.md`, both in the repository.

pub mod code;
pub mod collections;
pub mod config;
pub mod conn;
pub mod cursor;
pub mod engine;
pub mod hub;
pub mod json;
pub mod message;
#[cfg(feature = "server")]
pub mod server;
mod sync;
pub mod time;
pub mod wire;

pub use code::{Code, Refusal};
pub use config::{Config, LOOPS_MAX, Rate, Routes};
pub use cursor::{Cursor, Epoch, Since};
pub use engine::{App, ConnId, Ctx, Engine};
pub use message::Message;
#[cfg(feature = "server")]
pub use server::{Hub, Running, Server, Turned};
pub use time::Now;

/// What the pages show compiles.
#[cfg(all(doctest, feature = "server"))]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/embedding.md")]
    struct Embedding;
}
