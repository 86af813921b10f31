//! Inside other loops: the examples that nest a server, as processes of their own with real clients;
//! and a host that knows nothing of a server but its descriptor and its next timeout.
//!
//! `cargo test` builds the examples first; for this program alone: `cargo build --examples`.
#![cfg(feature = "cli")]
#![allow(missing_docs)]

#[path = "support/clients.rs"]
mod clients;
#[path = "embedding/examples.rs"]
mod examples;
#[path = "embedding/nested.rs"]
mod nested;
mod support;
