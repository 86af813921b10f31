//! Those who publish over HTTP, and those who listen on plain raw WebSockets and remember nothing.

use std::collections::VecDeque;

use serde_json::Value;

use super::sim::clients::request;
use super::sim::{Sim, http, ws};
use super::truth::{At, Spec, Truth, name, number};

/// Publishes over HTTP, a few requests at a time on one connection.
#[derive(Debug, Default)]
pub struct Publisher {
    line: Option<usize>,
    outstanding: VecDeque<u64>,
}

impl Publisher {
    pub fn lose(&mut self) {
        self.line = None;
        self.outstanding.clear();
    }

    pub fn unstall(&self, sim: &mut Sim) {
        if let Some(line) = self.line {
            sim.unstall(line);
        }
    }

    /// Whether all that it sent was answered, if it is still connected.
    pub fn is_answered(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Sends one message, perhaps cut off in the middle of it; on which line.
    pub fn publish(&mut self, sim: &mut Sim, number: u64, spec: Spec, text: &str) -> usize {
        let closed = self.line.is_none_or(|line| sim.lines[line].has_ended());
        if closed || self.outstanding.len() > 2 {
            if let Some(line) = self.line {
                sim.close(line);
            }
            self.lose();
            let loops = sim.loops.len();
            let loop_number = sim.rng.usize(..loops);
            let line = sim.connect(loop_number);
            self.line = Some(line);
            // Some read their answers slowly.
            if sim.rng.bool() {
                sim.lines[line].window = sim.rng.usize(1..500);
                sim.lines[line].take_max = sim.rng.usize(..30);
            }
        }
        let line = self.line.expect("it is connected");
        let bytes = if sim.rng.bool() {
            let ttl = spec.ttl_s.map_or(String::new(), |ttl| format!("TTL: {ttl}\r\n"));
            request("POST", &format!("/channels/{}", name(spec.channel)), &ttl, text.as_bytes())
        } else {
            let ttl = spec.ttl_s.map_or(String::new(), |ttl| format!(r#","ttl":{ttl}"#));
            let body = format!(r#"{{"channel":"{}","text":"{text}"{ttl}}}"#, name(spec.channel));
            request("POST", "/publish", "", body.as_bytes())
        };
        self.outstanding.push_back(number);
        if sim.rng.u8(..10) == 0 {
            let cut = sim.rng.usize(..bytes.len());
            sim.send(line, &bytes[..cut]);
            if sim.rng.bool() {
                sim.close(line)
            } else {
                sim.reset(line)
            }
            self.lose();
        } else {
            sim.send(line, &bytes);
        }
        line
    }

    pub fn read(&mut self, sim: &mut Sim, truth: &mut Truth) {
        let Some(line) = self.line else { return };
        while let Some(answer) = sim.answer(line) {
            let number = self.outstanding.pop_front().expect("it asked for this");
            let text = answer.text();
            let value: Value = serde_json::from_str(text.trim_end()).expect("JSON");
            match (answer.status, value["id"].as_str()) {
                (200..203, Some(id)) => truth.place(truth.at(id), number),
                (200 | 503, None) if value["error"] == "overloaded" => {}
                (408, _) => return self.lose(),
                _ => panic!("{answer:?}"),
            }
            if answer.is_closing() {
                return self.lose();
            }
        }
        if sim.lines[line].has_ended() {
            self.lose();
        }
    }
}

/// A plain raw WebSocket: payloads and nothing else.
#[derive(Debug)]
pub struct Listener {
    channel: usize,
    line: Option<usize>,
    is_open: bool,
    got: Vec<u64>,
    /// What it got on each connection.
    lives: Vec<Vec<u64>>,
}

impl Listener {
    pub fn new(channel: usize) -> Self {
        Self { channel, line: None, is_open: false, got: Vec::new(), lives: Vec::new() }
    }

    pub fn line(&self) -> Option<usize> {
        self.line
    }

    pub fn open(&mut self, sim: &mut Sim, loop_number: usize) {
        let line = sim.connect(loop_number);
        sim.send(line, &ws::upgrade(&format!("/channels/{}", name(self.channel)), None));
        (self.line, self.is_open) = (Some(line), false);
    }

    pub fn lose(&mut self) {
        self.line = None;
        self.lives.push(std::mem::take(&mut self.got));
    }

    pub fn read(&mut self, sim: &mut Sim) {
        let Some(line) = self.line else { return };
        if !self.is_open {
            let Some(head) = http::take_head(&mut sim.lines[line].received) else { return };
            if head.status == 503 {
                return self.lose();
            }
            assert_eq!(head.status, 101, "{head:?}");
            self.is_open = true;
        }
        while let Some(frame) = ws::take_frame(&mut sim.lines[line].received) {
            match frame.opcode {
                ws::PING => {
                    let key = sim.rng.u32(..).to_be_bytes();
                    sim.send(line, &ws::frame(ws::PONG, &frame.payload, key));
                }
                ws::CLOSE => {
                    assert!(matches!(frame.code(), Some(1012 | 1013 | 4408)), "{frame:?}");
                    sim.close(line);
                    return self.lose();
                }
                _ => self.got.push(number(&frame.text())),
            }
        }
        if sim.lines[line].has_ended() {
            self.lose();
        }
    }

    /// On each connection: in order, nothing twice, and no hole between the first and the last, for
    /// it cannot be told of one.
    pub fn judge(&self, truth: &Truth) {
        for life in &self.lives {
            // Of a few nobody ever learns the place.
            let places: Vec<At> =
                life.iter().filter_map(|number| truth.place_of(*number)).collect();
            let is_ordered = places.windows(2).all(|two| two[0] < two[1]);
            assert!(is_ordered, "out of order, or twice: {places:?}");
            let (Some(first), Some(last)) = (places.first(), places.last()) else { continue };
            assert_eq!(first.epoch, last.epoch);
            let owed = truth.between(self.channel, first.epoch, first.seq, last.seq);
            let mut owed = owed.filter(|(_, spec)| spec.ttl_s.is_none());
            let missing = owed.find(|(at, _)| places.binary_search(at).is_err());
            assert!(missing.is_none(), "a hole at {missing:?}: {places:?}");
        }
    }
}
