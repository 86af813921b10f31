//! A reader that keeps one string: what it makes of what comes.

use base64::prelude::{BASE64_STANDARD as STANDARD, Engine};
use serde_json::Value;

use super::oracle::Entry;
use super::sim::http::Answer;
use super::sim::sse::{Block, Stream};
use super::sim::{Sim, http, ws};
use super::traveller::{JOINS, LEAVES, Traveller, Via};
use super::truth::{At, Kind, Truth, channel, event, kind, name, number, number_of_lines, payload};

const OCTETS: &str = "application/octet-stream";

impl Traveller {
    /// Reads all that has come.
    pub fn read(&mut self, sim: &mut Sim, truth: &mut Truth) {
        self.try_again(sim);
        let Some(link) = &self.link else { return };
        let (line, via) = (link.line, link.via);
        match via {
            Via::Events | Via::RawSse => self.read_stream(sim, truth, line, via),
            Via::Poll | Via::RawPoll => self.read_answers(sim, truth, line, via),
            Via::Ws | Via::Commands | Via::Meta => self.read_frames(sim, truth, line, via),
        }
        let Some(link) = &self.link else { return };
        if sim.lines[link.line].has_ended() {
            if let Some(wait_ms) = link.soft_ms.filter(|_| link.is_open) {
                self.patience.refuse("soft", wait_ms, sim);
            }
            self.lose();
        }
    }

    /// Takes "later" for an answer, and leaves.
    fn is_refused(&mut self, answer: &Answer, sim: &mut Sim) -> bool {
        let is_refused = self.patience.takes(answer, sim);
        if let Some(link) = self.link.as_ref().filter(|_| is_refused) {
            sim.close(link.line);
            self.lose();
        }
        is_refused
    }

    fn told(&mut self, id: &str, sim: &Sim, truth: &Truth) {
        if self.position.as_deref() != Some(id) {
            let (at, head, unix_ms) = (truth.at(id), truth.head(sim), sim.now.unix_ms);
            self.log.push(Entry::Told { at, head, unix_ms });
            self.memory.extend(self.position.replace(id.to_owned()));
        }
    }

    fn message(&mut self, of: usize, id: &str, number: u64, truth: &mut Truth) -> At {
        let at = truth.at(id);
        truth.place(at, number);
        assert_eq!(truth.specs[&number].channel, of, "{number} on the wrong channel");
        self.log.push(Entry::Message { channel: of, at });
        at
    }

    fn gap(&mut self, gap: &Value, truth: &Truth) {
        let text = |name: &str| gap[name].as_str().unwrap_or_else(|| panic!("{name} in {gap}"));
        let channels = gap["channels"].as_array().expect("channels").iter();
        let channels = channels.map(|one| channel(one.as_str().expect("a name"))).collect();
        let since = Some(text("since")).filter(|since| !since.is_empty());
        self.log.push(Entry::Gap {
            channels,
            reason: text("reason").to_owned(),
            since: since.map(|since| truth.at(since)),
            resumed: truth.at(text("resumed")),
        });
    }

    /// `reason=…; since=…; resumed=…`
    fn gap_line(&mut self, line: &str, truth: &Truth) {
        let mut object = serde_json::json!({ "channels": [name(self.channels[0])] });
        for part in line.split("; ") {
            let (key, value) = part.split_once('=').expect("a value");
            object[key] = value.into();
        }
        self.gap(&object, truth);
    }

    /// Whether the head of the answer has been read; if not, reads it once it is there.
    fn has_begun(&mut self, sim: &mut Sim, truth: &Truth, line: usize, status: u16) -> bool {
        let link = self.link.as_mut().expect("a link");
        if link.is_open {
            return true;
        }
        let Some(head) = http::take_head(&mut sim.lines[line].received) else { return false };
        if self.is_refused(&head, sim) {
            return false;
        }
        let link = self.link.as_mut().expect("a link");
        assert_eq!(head.status, status, "{head:?}");
        link.is_open = true;
        self.log.push(Entry::Begun { head: truth.head(sim) });
        if status == 200 {
            link.stream = Stream::new(head.header("transfer-encoding") == Some("chunked"));
            assert_eq!(head.header("transfer-encoding").is_none(), link.manner.is_ten);
        }
        true
    }

    fn read_stream(&mut self, sim: &mut Sim, truth: &mut Truth, line: usize, via: Via) {
        if !self.has_begun(sim, truth, line, 200) {
            return;
        }
        let link = self.link.as_mut().expect("a link");
        for block in link.stream.read(&mut sim.lines[line].received) {
            let link = self.link.as_mut().expect("a link");
            let says_more = block.id.is_some() || block.data.is_some();
            link.soft_ms = block.retry.filter(|_| !says_more && link.is_silent);
            link.is_silent &= !says_more;
            self.block(&block, sim, truth, via);
        }
    }

    fn block(&mut self, block: &Block, sim: &Sim, truth: &mut Truth, via: Via) {
        match (block.name(), &block.data) {
            (_, None) => {}
            ("gap" | "holdline-gap", _) => self.gap(&block.json(), truth),
            ("presence" | "holdline-presence", _) => {
                assert_eq!(block.id, None);
                self.presence(&block.json());
            }
            (name @ ("message" | "tick" | "binary"), Some(data)) if via == Via::RawSse => {
                let id = block.id.as_deref().expect("an id");
                let number = of_block(name, data);
                self.message(self.channels[0], id, number, truth);
            }
            ("message", _) => {
                let value = block.json();
                let at = self.envelope(&value, truth);
                assert_eq!(block.id.as_deref().map(|id| truth.at(id)), Some(at));
            }
            ("bye", _) => {}
            _ => panic!("{block:?}"),
        }
        if let Some(id) = &block.id {
            self.told(id, sim, truth);
        }
    }

    /// Whoever joins was not there, whoever leaves was: as far as all of it is told.
    fn presence(&mut self, value: &Value) {
        if value["op"] == "presence" {
            return self.forget(&value["channel"]);
        }
        let of = channel(value["channel"].as_str().expect("a channel"));
        let connection = value["connection"].as_str().expect("a name").to_owned();
        assert_eq!(value["user"], Value::Null);
        let is_there = value["op"] == "join";
        let before = self.seen.insert((of, connection), is_there);
        assert_ne!(before, Some(is_there), "{value} again");
    }

    /// What it was told of who listens to a channel does not hold any more.
    fn forget(&mut self, of: &Value) {
        let of = channel(of.as_str().expect("a channel"));
        self.seen.retain(|(channel, _), _| *channel != of);
    }

    fn envelope(&mut self, value: &Value, truth: &mut Truth) -> At {
        let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"));
        self.message(channel(text("channel")), text("id"), of_envelope(value), truth)
    }

    fn read_answers(&mut self, sim: &mut Sim, truth: &mut Truth, line: usize, via: Via) {
        while let Some(answer) = sim.answer(line) {
            if self.patience.takes(&answer, sim) {
                if answer.is_closing() {
                    return self.lose();
                }
                let at = self.patience.until_ms();
                self.link.as_mut().expect("a link").ask_at_ms = Some(at);
                return;
            }
            self.log.push(Entry::Begun { head: truth.head(sim) });
            assert!(matches!(answer.status, 200 | 204), "{answer:?}");
            if via == Via::Poll {
                let body = answer.json();
                for gap in body["gap"].as_array().map_or(&[][..], Vec::as_slice) {
                    self.gap(gap, truth);
                }
                for message in body["messages"].as_array().expect("messages") {
                    self.envelope(message, truth);
                }
                assert_eq!(body["cursor"].as_str(), answer.header("holdline-cursor"));
            } else {
                if let Some(line) = answer.header("holdline-gap") {
                    self.gap_line(line, truth);
                }
                if answer.status == 200 {
                    let id = answer.header("holdline-id").expect("an id");
                    self.message(self.channels[0], id, of_answer(&answer), truth);
                }
            }
            self.told(answer.header("holdline-cursor").expect("a position"), sim, truth);
            if answer.is_closing() {
                return self.lose();
            }
            self.change_line(sim);
            if self.link.is_none() {
                return self.patience.refuse("dropped", 1_000, sim);
            }
            self.ask(sim);
        }
    }

    fn read_frames(&mut self, sim: &mut Sim, truth: &mut Truth, line: usize, via: Via) {
        if !self.has_begun(sim, truth, line, 101) {
            return;
        }
        let link_is_leaving = self.link.as_ref().is_some_and(|link| link.is_leaving);
        while let Some(frame) = ws::take_frame(&mut sim.lines[line].received) {
            let key = sim.rng.u32(..).to_be_bytes();
            match frame.opcode {
                ws::PING => self.send(sim, &ws::frame(ws::PONG, &frame.payload, key)),
                ws::CLOSE => {
                    let code = frame.code().expect("a code");
                    let is_answer = code == 1000 && link_is_leaving;
                    let is_later = matches!(code, 1012 | 1013 | 4408 | 4429);
                    assert!(is_answer || is_later, "closed with {frame:?}");
                    assert!(code != 1013 || frame.payload[2..] == *b"overloaded", "{frame:?}");
                    self.patience.takes_close(&frame, sim);
                    sim.close(line);
                    return self.lose();
                }
                _ if via == Via::Meta => self.meta(&frame, sim, truth),
                _ => self.object(&frame.json(), sim, truth),
            }
            if self.link.is_none() {
                return;
            }
        }
    }

    fn meta(&mut self, frame: &ws::Frame, sim: &Sim, truth: &mut Truth) {
        let end = frame.payload.windows(2).position(|two| two == b"\n\n").expect("an empty line");
        let (head, payload) = (&frame.payload[..end], &frame.payload[end + 2..]);
        let head = std::str::from_utf8(head).expect("text").lines();
        let fields: Vec<_> = head.filter_map(|line| line.split_once(": ")).collect();
        match &fields[..] {
            [("gap", value)] => self.gap_line(value, truth),
            [("cursor", value)] => self.told(value, sim, truth),
            [("id", id), more @ ..] => {
                let number = number(payload);
                let of = |name| more.iter().find(|field| field.0 == name).map(|field| field.1);
                assert_eq!(of("event"), event(number));
                let media_type = match kind(number) {
                    Kind::Json => Some("application/json"),
                    // A binary frame says so, others do not.
                    Kind::Binary => of("content-type").filter(|of| *of == OCTETS),
                    Kind::Text | Kind::Lines => None,
                };
                assert_eq!(of("content-type"), media_type);
                assert_eq!(frame.opcode == ws::BINARY, kind(number) == Kind::Binary);
                self.message(self.channels[0], id, number, truth);
                self.told(id, sim, truth);
            }
            _ => panic!("{frame:?}"),
        }
    }

    fn object(&mut self, value: &Value, sim: &mut Sim, truth: &mut Truth) {
        match value["op"].as_str() {
            Some("message") => {
                self.envelope(value, truth);
            }
            Some("gap") => self.gap(value, truth),
            Some("ok") if value["id"].is_string() => {
                let number = self.outstanding.pop_front().expect("it asked for this");
                assert_eq!(value["ref"].as_u64(), Some(number));
                truth.place(truth.at(value["id"].as_str().unwrap_or("")), number);
            }
            Some("ok") if value["ref"].as_u64() >= Some(JOINS.into()) => {
                self.forget(&value["channel"]);
                self.confirmed(value, sim, truth);
            }
            Some("ok") if value["ref"].as_u64() >= Some(LEAVES.into()) => {
                self.leaving -= 1;
                self.forget(&value["channel"]);
            }
            Some("join" | "leave" | "presence") => self.presence(value),
            Some("error") => return self.error(value, sim),
            // To unsubscribing, or for a channel of the address.
            Some("ok" | "hello" | "live" | "heartbeat" | "pong" | "bye") => {}
            _ => panic!("{value}"),
        }
        let cursor = value["cursor"].as_str();
        if value["op"] == "hello" && self.position.is_some() && self.is_bare() {
            return;
        }
        match (&self.window, cursor) {
            (Some(window), Some(cursor)) if window.waiting.is_empty() => {
                self.window = None;
                self.told(cursor, sim, truth);
            }
            (Some(_), _) => {}
            (None, _) => {
                if let Some(id) = cursor.or_else(|| value["id"].as_str()) {
                    self.told(id, sim, truth);
                }
            }
        }
    }

    /// A command was refused: it comes again when it may, but what found no memory is dropped.
    fn error(&mut self, value: &Value, sim: &mut Sim) {
        let code = value["code"].as_str().unwrap_or("");
        let wait_ms = self.patience.takes_error(value, code);
        let wait_ms = wait_ms.unwrap_or_else(|| panic!("{value}"));
        let reference = value["ref"].as_u64().expect("it says what for") as u32;
        if reference < LEAVES {
            assert_eq!(Some(u64::from(reference)), self.outstanding.pop_front());
        }
        if code == "rate_limited" {
            self.put_off(reference, wait_ms, sim);
        } else if reference >= LEAVES {
            // Whether all of it failed is not worth knowing: it comes again.
            sim.reset(self.link.as_ref().expect("a link").line);
            self.lose();
            self.patience.wait(wait_ms, sim);
        }
    }

    fn is_bare(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.via == Via::Commands)
    }

    /// The `ok` of a subscribe.
    fn confirmed(&mut self, value: &Value, sim: &Sim, truth: &Truth) {
        let of = channel(value["channel"].as_str().expect("a channel"));
        let head = truth.head(sim);
        if let Some(window) = &mut self.window
            && let Some(at) = window.waiting.iter().position(|one| *one == of)
        {
            window.waiting.remove(at);
            let since = Some(truth.at(&window.since));
            self.log.push(Entry::Joined { channel: of, since, head });
        } else if let Some(at) = self.joining.iter().position(|one| *one == of) {
            self.joining.remove(at);
            self.log.push(Entry::Joined { channel: of, since: None, head });
        } else {
            return;
        }
        if !self.channels.contains(&of) {
            self.channels.push(of);
        }
    }
}

/// Which message an envelope is, which says what it must and no more.
#[track_caller]
fn of_envelope(value: &Value) -> u64 {
    let (number, right) = if let Some(text) = value["text"].as_str() {
        let number = number(text.as_bytes());
        (number, matches!(kind(number), Kind::Text | Kind::Lines))
    } else if let Some(encoded) = value["b64"].as_str() {
        let number = number(&STANDARD.decode(encoded).expect("base64"));
        (number, kind(number) == Kind::Binary)
    } else {
        let number = value["data"]["number"].as_u64().expect("a number");
        let published: Value = serde_json::from_slice(&payload(number)).expect("JSON");
        (number, value["data"] == published)
    };
    assert!(right && value["type"].is_null(), "{value}");
    assert_eq!(value["event"].as_str(), event(number), "{value}");
    number
}

#[track_caller]
fn of_block(name: &str, data: &str) -> u64 {
    if name == "binary" {
        let number = number(&STANDARD.decode(data).expect("base64"));
        assert_eq!(kind(number), Kind::Binary);
        return number;
    }
    let number = number_of_lines(data);
    assert_eq!(name, event(number).unwrap_or("message"));
    number
}

#[track_caller]
fn of_answer(answer: &Answer) -> u64 {
    let number = number(&answer.body);
    let media_type = match kind(number) {
        Kind::Text | Kind::Lines => "text/plain; charset=utf-8",
        Kind::Json => "application/json",
        Kind::Binary => OCTETS,
    };
    assert_eq!(answer.header("content-type"), Some(media_type), "{answer:?}");
    assert_eq!(answer.header("event"), event(number), "{answer:?}");
    number
}
