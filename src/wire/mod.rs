//! Pure codecs over byte slices: no sockets, no clock, no state beyond one connection's parse.

pub mod command;
pub mod dialect;
pub mod handshake;
pub mod http;
pub mod utf8;
pub mod ws;
