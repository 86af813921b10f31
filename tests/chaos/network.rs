//! Where clients come from, what they are refused, and how long they wait then.

use std::collections::BTreeMap;

use holdline::engine::Peer;
use serde_json::Value;

use super::sim::Sim;
use super::sim::http::Answer;
use super::sim::ws::Frame;

/// What limits count for, by number; the last is a network of IPv6.
pub const ADDRESSES: u8 = 3;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// The server's own machine: nothing is limited.
    #[default]
    Here,
    /// An address, from 1 on.
    Direct(u8),
    /// The same through a proxy that is trusted to say so.
    Proxied(u8),
}

/// Different ones are all of that network.
fn address(number: u8, host: u16) -> String {
    match number {
        ADDRESSES => format!("2001:db8:0:1::{host:x}"),
        _ => format!("192.0.2.{number}"),
    }
}

impl Place {
    /// Whether it has to keep to limits.
    pub fn is_limited(self) -> bool {
        self != Self::Here
    }

    fn peer(self, host: u16) -> Peer {
        let text = match self {
            Self::Here => return Peer::Unix,
            Self::Direct(number) => address(number, host),
            Self::Proxied(_) => "127.0.0.1".to_owned(),
        };
        Peer::Ip((text.parse::<std::net::IpAddr>().expect("an address"), 4711).into())
    }

    /// A request as it arrives: a proxy says for whom it asks, behind whatever that has said.
    pub fn pass_on(self, sim: &mut Sim, mut bytes: Vec<u8>) -> Vec<u8> {
        let Self::Proxied(number) = self else { return bytes };
        let address = address(number, sim.rng.usize(1..9) as u16);
        let claimed = match sim.rng.u8(..3) {
            0 => String::new(),
            1 => format!("198.51.100.{}, ", sim.rng.u8(..)),
            _ => format!("198.51.100.{}\r\nx-forwarded-for: ", sim.rng.u8(..)),
        };
        let at = bytes.windows(2).position(|two| two == b"\r\n").expect("a request line") + 2;
        bytes.splice(at..at, format!("X-Forwarded-For: {claimed}{address}\r\n").into_bytes());
        bytes
    }

    /// A connection to a loop. `None`: it is dropped without a word, as the driver does with those
    /// that are too many even to be told so.
    pub fn connect(self, sim: &mut Sim, number: usize) -> Option<usize> {
        let host = sim.rng.usize(1..9) as u16;
        let (peer, now) = (self.peer(host), sim.now);
        let engine = &mut sim.loops[number].engine;
        if let Some(code) = engine.turns_away(peer, now) {
            engine.handle_turned_away(code);
            return None;
        }
        Some(sim.connect_from(number, peer))
    }

    /// A connection of the proxy that carries request after request, of whomever; a new one if none
    /// is idle.
    pub fn share(self, sim: &mut Sim, number: usize) -> Option<usize> {
        while !sim.idle.is_empty() {
            let one = sim.rng.usize(..sim.idle.len());
            let line = sim.idle.swap_remove(one);
            if !sim.lines[line].is_closed && !sim.lines[line].is_finished {
                return Some(line);
            }
        }
        self.connect(sim, number)
    }
}

/// What a client was refused, and until when it waits.
#[derive(Debug, Default)]
pub struct Patience {
    until_ms: u64,
    pub refused: BTreeMap<&'static str, usize>,
}

impl Patience {
    pub fn is_over(&self, sim: &Sim) -> bool {
        self.until_ms <= sim.now.mono_ms
    }

    pub fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// It comes back when it was told, no earlier.
    pub fn wait(&mut self, ms: u64, sim: &Sim) {
        self.until_ms = self.until_ms.max(sim.now.mono_ms + ms);
    }

    pub fn refuse(&mut self, what: &'static str, wait_ms: u64, sim: &Sim) {
        let is_draining = sim.loops.iter().any(|one| one.engine.is_draining());
        let what = if is_draining && matches!(what, "503" | "soft") { "draining" } else { what };
        *self.refused.entry(what).or_default() += 1;
        self.wait(wait_ms, sim);
    }

    /// Whether an answer is "later"; if so it says how much.
    #[track_caller]
    pub fn takes(&mut self, answer: &Answer, sim: &Sim) -> bool {
        let what = match answer.status {
            429 => "429",
            503 => "503",
            _ => return false,
        };
        let after = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
        let after = after.unwrap_or_else(|| panic!("not when to come back: {answer:?}"));
        assert!((1..=60).contains(&after), "{answer:?}");
        self.refuse(what, after * 1_000, sim);
        true
    }

    /// After how long what an error in JSON refuses may be tried again; `None`: never.
    #[track_caller]
    pub fn takes_error(&mut self, error: &Value, code: &str) -> Option<u64> {
        let what = match code {
            "rate_limited" => "rate_limited",
            "overloaded" => "overloaded",
            _ => return None,
        };
        let retry_ms = error["retry_ms"].as_u64();
        assert!(retry_ms.is_some() || what == "overloaded", "not when to come back: {error}");
        let retry_ms = retry_ms.unwrap_or(1_000);
        assert!((1..=60_000).contains(&retry_ms), "{error}");
        *self.refused.entry(what).or_default() += 1;
        Some(retry_ms)
    }

    /// It was closed in a way that names no time: it begins anew soon.
    pub fn takes_close(&mut self, close: &Frame, sim: &mut Sim) {
        let what = match (close.code(), &close.payload[2..]) {
            (Some(4429), b"rate_limited") => "4429",
            (Some(1013), b"overloaded") => "1013",
            _ => return,
        };
        let wait_ms = sim.rng.u64(100..1_500);
        self.refuse(what, wait_ms, sim);
    }
}
