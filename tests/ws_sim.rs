//! WebSocket frames against whole engines in memory (RFC 6455 §5, §7, §8.1): what comes back, which
//! Close, and who ends the stream.
//!
//! Each row is sent to `/ws`, to a raw channel and to one with `holdline.v1.meta`; whole, byte by
//! byte, cut in two at every place, and to a client that reads its answers in small pieces. Where
//! each subject is held:
//!
//! | subject | module |
//! |---|---|
//! | lengths, masks, reserved bits, opcodes, the order of fragments, their number, sizes | `frames` |
//! | text that is UTF-8 and text that is not, cut at every place | `texts` |
//! | pings and pongs, alone, in messages, too many | `controls` |
//! | Close: codes, reasons, what stands behind it, who ends, time | `closes` |
//!
//! The same ground at the level of the codec is `conn::ws::tests::conformance`; the handshake is part
//! of the raw HTTP tables, heartbeats and their clocks of `flows`.
#![allow(dead_code, unreachable_pub)]

#[path = "ws_sim/closes.rs"]
mod closes;
#[path = "ws_sim/controls.rs"]
mod controls;
#[path = "ws_sim/frames.rs"]
mod frames;
#[path = "ws_sim/run.rs"]
mod run;
#[path = "support/sim.rs"]
mod sim;
#[path = "ws_sim/texts.rs"]
mod texts;
