//! Pure codecs over byte slices: no sockets, no clock, no state beyond one connection's parse.

pub mod dialect;
