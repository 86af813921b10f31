//! Those who publish over HTTP, and those who listen on plain raw WebSockets and remember nothing.

use std::collections::VecDeque;

use base64::prelude::{BASE64_STANDARD as STANDARD, Engine};
use serde_json::Value;

use super::network::{Patience, Place};
use super::sim::clients::request;
use super::sim::{Sim, http, ws};
use super::truth::{At, Kind, Spec, Truth, event, kind, name, number, payload};

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    pub number: u64,
    pub spec: Spec,
    /// It has been sent before, and may have arrived.
    pub is_again: bool,
}

impl Sending {
    /// Whoever sends it again is told where the first is.
    pub const fn has_key(&self) -> bool {
        self.number % 3 == 1
    }

    /// Whether it may be sent: the key of what may have arrived is remembered for five minutes.
    fn is_fresh(&self, sim: &Sim) -> bool {
        !self.is_again || self.spec.unix_ms + 200_000 > sim.now.unix_ms
    }

    /// A line of `/publish`.
    pub fn line(&self) -> String {
        let mut members = members(self.number, self.spec);
        if self.has_key() {
            members.push(format!(r#""idempotency_key":"key-{}""#, self.number));
        }
        format!("{{{}}}", members.join(","))
    }

    pub fn raw(&self) -> Vec<u8> {
        let mut headers = String::new();
        if let Some(ttl) = self.spec.ttl_s {
            headers += &format!("TTL: {ttl}\r\n");
        }
        if let Some(event) = event(self.number) {
            headers += &format!("Event: {event}\r\n");
        }
        if kind(self.number) == Kind::Json {
            headers += "Content-Type: application/json\r\n";
        }
        if self.has_key() {
            headers += &format!("Idempotency-Key: key-{}\r\n", self.number);
        }
        let target = format!("/channels/{}", name(self.spec.channel));
        request("POST", &target, &headers, &payload(self.number))
    }
}

/// A message as the members of a command, or of a line of `/publish`.
pub fn members(number: u64, spec: Spec) -> Vec<String> {
    let payload = payload(number);
    let text = String::from_utf8_lossy(&payload);
    let mut members = vec![format!(r#""channel":"{}""#, name(spec.channel))];
    members.push(match kind(number) {
        Kind::Binary => format!(r#""b64":"{}""#, STANDARD.encode(&payload)),
        Kind::Json => format!(r#""data":{text}"#),
        Kind::Text | Kind::Lines => format!(r#""text":{}"#, Value::from(&*text)),
    });
    members.extend(spec.ttl_s.map(|ttl| format!(r#""ttl":{ttl}"#)));
    members.extend(event(number).map(|event| format!(r#""event":"{event}""#)));
    members
}

/// Publishes over HTTP, a few requests at a time on one connection, and sends again what was not
/// answered.
#[derive(Debug, Default)]
pub struct Publisher {
    line: Option<usize>,
    /// Of each request, what is in it.
    outstanding: VecDeque<Vec<Sending>>,
    /// What it has to send again.
    again: Vec<Sending>,
    /// Where it comes from next. A proxy asks for many clients, on one connection.
    pub place: Place,
    pub patience: Patience,
}

impl Publisher {
    pub fn lose(&mut self) {
        self.line = None;
        let lost = self.outstanding.drain(..).flatten().filter(Sending::has_key);
        self.again.extend(lost.map(|sending| Sending { is_again: true, ..sending }));
    }

    /// What it was about belongs to a run of the sequence that is over.
    pub fn give_up(&mut self) {
        self.lose();
        self.again.clear();
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

    /// Whether it has nothing that it was refused and that it may send again.
    pub fn is_done(&self, sim: &Sim) -> bool {
        self.outstanding.is_empty() && !self.again.iter().any(|sending| sending.is_fresh(sim))
    }

    /// Where it comes from next: whom a proxy asks for may change from request to request, where it
    /// connects from may not.
    pub fn come_from(&mut self, place: Place) {
        let is_proxied = |place| matches!(place, Place::Proxied(_));
        let may_change = self.line.is_none() || (is_proxied(place) && is_proxied(self.place));
        if may_change {
            self.place = place;
        }
    }

    pub fn leave(&mut self, sim: &mut Sim) {
        if let Some(line) = self.line {
            sim.close(line);
        }
        self.lose();
    }

    /// What it sends next: the new messages, or what it has to send again.
    pub fn choose(&mut self, sim: &mut Sim, new: Vec<Sending>) -> Vec<Sending> {
        self.again.retain(|sending| sending.is_fresh(sim));
        if self.again.is_empty() || sim.rng.bool() { new } else { std::mem::take(&mut self.again) }
    }

    /// Sends messages in one request, perhaps cut off in the middle of it; on which line.
    pub fn publish(&mut self, sim: &mut Sim, messages: Vec<Sending>) -> Option<usize> {
        let Some(line) = self.connected(sim) else {
            self.patience.refuse("dropped", 1_000, sim);
            self.again.extend(messages);
            return None;
        };
        let bytes = match &messages[..] {
            [one] if sim.rng.bool() => one.raw(),
            many => {
                let lines: Vec<_> = many.iter().map(Sending::line).collect();
                request("POST", "/publish", "", lines.join("\n").as_bytes())
            }
        };
        let bytes = self.place.pass_on(sim, bytes);
        self.outstanding.push_back(messages);
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
        Some(line)
    }

    fn connected(&mut self, sim: &mut Sim) -> Option<usize> {
        if let Some(line) = self.line {
            if !sim.lines[line].has_ended() && self.outstanding.len() <= 2 {
                return Some(line);
            }
            sim.close(line);
            self.lose();
        }
        let number = sim.rng.usize(..sim.loops.len());
        let line = self.place.connect(sim, number)?;
        self.line = Some(line);
        // Some read their answers slowly.
        if sim.rng.bool() {
            sim.lines[line].window = sim.rng.usize(1..500);
            sim.lines[line].take_max = sim.rng.usize(..30);
        }
        Some(line)
    }

    pub fn read(&mut self, sim: &mut Sim, truth: &mut Truth) {
        let Some(line) = self.line else { return };
        while let Some(answer) = sim.answer(line) {
            let messages = self.outstanding.pop_front().expect("it asked for this");
            match answer.status {
                200..203 => self.judge(&answer.text(), &messages, sim, truth),
                // Nothing was done.
                429 | 503 => {
                    assert!(self.patience.takes(&answer, sim));
                    self.again.extend(messages);
                }
                408 => return self.lose(),
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

    /// What a request was answered: a line to each message.
    #[track_caller]
    fn judge(&mut self, answer: &str, messages: &[Sending], sim: &Sim, truth: &mut Truth) {
        let lines: Vec<_> = answer.trim_end().lines().collect();
        assert_eq!(lines.len(), messages.len(), "{answer:?}");
        for (line, message) in lines.iter().zip(messages) {
            let value: Value = serde_json::from_str(line).expect("JSON");
            if let Some(id) = value["id"].as_str() {
                truth.place(truth.at(id), message.number);
                continue;
            }
            let code = value["error"].as_str().unwrap_or("");
            let wait_ms = self.patience.takes_error(&value, code);
            self.patience.wait(wait_ms.unwrap_or_else(|| panic!("{answer:?}")), sim);
            self.again.push(*message);
        }
    }
}

/// A plain raw WebSocket: payloads and nothing else, both ways.
#[derive(Debug)]
pub struct Listener {
    pub channel: usize,
    line: Option<usize>,
    is_open: bool,
    got: Vec<u64>,
    /// What it got on each connection.
    lives: Vec<Vec<u64>>,
    pub patience: Patience,
}

impl Listener {
    pub fn new(channel: usize) -> Self {
        Self {
            channel,
            line: None,
            is_open: false,
            got: Vec::new(),
            lives: Vec::new(),
            patience: Patience::default(),
        }
    }

    pub fn line(&self) -> Option<usize> {
        self.line
    }

    pub fn open(&mut self, sim: &mut Sim, loop_number: usize, place: Place) {
        let Some(line) = place.connect(sim, loop_number) else {
            return self.patience.refuse("dropped", 1_000, sim);
        };
        let target = format!("/channels/{}", name(self.channel));
        let bytes = place.pass_on(sim, ws::upgrade(&target, None));
        sim.send(line, &bytes);
        (self.line, self.is_open) = (Some(line), false);
    }

    /// What can be published as the payload of a frame, without a word about it.
    pub fn can_publish(number: u64, spec: Spec) -> bool {
        kind(number) != Kind::Json && event(number).is_none() && spec.ttl_s.is_none()
    }

    /// Publishes on its own channel, once it may.
    pub fn publish(&self, sim: &mut Sim, number: u64) -> Option<usize> {
        let line = self.line.filter(|_| self.is_open)?;
        let opcode = if kind(number) == Kind::Binary { ws::BINARY } else { ws::TEXT };
        let key = sim.rng.u32(..).to_be_bytes();
        sim.send(line, &ws::frame(opcode, &payload(number), key));
        Some(line)
    }

    pub fn lose(&mut self) {
        self.line = None;
        self.lives.push(std::mem::take(&mut self.got));
    }

    pub fn read(&mut self, sim: &mut Sim) {
        let Some(line) = self.line else { return };
        if !self.is_open {
            let Some(head) = http::take_head(&mut sim.lines[line].received) else { return };
            if self.patience.takes(&head, sim) {
                sim.close(line);
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
                    let code = frame.code().expect("a code");
                    assert!(matches!(code, 1012 | 1013 | 4408 | 4429), "{frame:?}");
                    self.patience.takes_close(&frame, sim);
                    sim.close(line);
                    return self.lose();
                }
                _ => {
                    let number = number(&frame.payload);
                    assert_eq!(frame.opcode == ws::BINARY, kind(number) == Kind::Binary);
                    self.got.push(number);
                }
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
            let end = At { seq: truth.end(last.epoch), ..*last };
            let missing = owed.find(|(at, _)| {
                places.binary_search(at).is_err() && !truth.is_superseded(*at, end)
            });
            assert!(missing.is_none(), "a hole at {missing:?}: {places:?}");
        }
    }
}
