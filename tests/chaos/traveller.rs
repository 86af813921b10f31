//! A reader that keeps one string, as the pages tell clients to, and goes on with it anywhere.

use std::collections::VecDeque;

use serde_json::Value;

use super::oracle::Entry;
use super::sim::clients::request;
use super::sim::sse::{Block, Stream};
use super::sim::{Sim, http, ws};
use super::truth::{At, Truth, channel, name, number};

/// Tell the answers to subscribing and unsubscribing from others.
const JOIN: u32 = u32::MAX;
const LEAVE: u32 = u32::MAX - 1;

/// How it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Events,
    Poll,
    Ws,
    /// A WebSocket without channels in its address: they are subscribed by commands.
    Commands,
    RawSse,
    RawPoll,
    Meta,
}

impl Via {
    pub const ALL: [Self; 7] = [
        Self::Events,
        Self::Poll,
        Self::Ws,
        Self::Commands,
        Self::RawSse,
        Self::RawPoll,
        Self::Meta,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Poll => "poll",
            Self::Ws => "ws",
            Self::Commands => "commands",
            Self::RawSse => "raw sse",
            Self::RawPoll => "raw poll",
            Self::Meta => "meta",
        }
    }

    /// Those that know one channel only.
    const fn is_raw(self) -> bool {
        matches!(self, Self::RawSse | Self::RawPoll | Self::Meta)
    }

    pub const fn speaks_json(self) -> bool {
        matches!(self, Self::Ws | Self::Commands)
    }
}

/// A connection, while there is one.
#[derive(Debug)]
pub struct Link {
    pub via: Via,
    pub line: usize,
    /// The head of the answer has been read.
    is_open: bool,
    stream: Stream,
    is_asking: bool,
    gap_live: bool,
    /// Its Close is on the way.
    pub is_leaving: bool,
}

/// A `subscribe` whose first `cursor` has not come: until then it resumes from where that began.
#[derive(Debug)]
struct Window {
    since: String,
    /// Channels whose `ok` has not come.
    waiting: Vec<usize>,
}

#[derive(Debug)]
pub struct Traveller {
    pub channels: Vec<usize>,
    pub position: Option<String>,
    /// Some positions that it was told before.
    pub memory: Vec<String>,
    window: Option<Window>,
    /// Subscriptions from now on whose `ok` has not come.
    joining: Vec<usize>,
    pub link: Option<Link>,
    pub log: Vec<Entry>,
    /// Its own publications that have no answer yet.
    pub outstanding: VecDeque<u64>,
}

impl Traveller {
    pub fn new(channels: Vec<usize>) -> Self {
        Self {
            channels,
            position: None,
            memory: Vec::new(),
            window: None,
            joining: Vec::new(),
            link: None,
            log: Vec::new(),
            outstanding: VecDeque::new(),
        }
    }

    pub fn is_single(&self) -> bool {
        self.channels.len() == 1
    }

    /// Whether it may send commands.
    pub fn speaks_json(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.via.speaks_json() && !link.is_leaving)
    }

    pub fn has_window(&self) -> bool {
        self.window.is_some() || !self.joining.is_empty()
    }

    /// Lets go of its connection, however it ends.
    pub fn lose(&mut self) {
        self.link = None;
        self.outstanding.clear();
        if let Some(window) = self.window.take() {
            self.position = Some(window.since);
        }
        self.joining.clear();
    }

    /// Connects to a loop and asks for what it follows.
    pub fn open(&mut self, sim: &mut Sim, truth: &Truth, number: usize, via: Via, gap_live: bool) {
        self.lose();
        assert!(self.is_single() || !via.is_raw());
        let line = sim.connect(number);
        let (is_open, is_asking) = (false, false);
        let stream = Stream::new(true);
        let is_leaving = false;
        self.link = Some(Link { via, line, is_open, stream, is_asking, gap_live, is_leaving });
        // By commands, each channel is followed from when it is confirmed.
        let is_bare = via == Via::Commands;
        self.log.push(Entry::Opened {
            via: via.name(),
            channels: if is_bare { Vec::new() } else { self.channels.clone() },
            since: self.position.as_ref().map(|id| truth.at(id)).filter(|_| !is_bare),
            head: At { epoch: truth.epoch(), seq: sim.history.head() },
        });
        match via {
            Via::Events | Via::RawSse => {
                let target = self.target();
                sim.send(line, &request("GET", &target, "Accept: text/event-stream\r\n", b""));
            }
            Via::Poll | Via::RawPoll => self.ask(sim),
            Via::Ws => sim.send(line, &ws::upgrade(&self.target(), None)),
            Via::Meta => sim.send(line, &ws::upgrade(&self.target(), Some("holdline.v1.meta"))),
            Via::Commands => {
                sim.send(line, &ws::upgrade("/ws", None));
                let channels = self.channels.clone();
                self.subscribe(sim, &channels, self.position.clone());
            }
        }
    }

    fn target(&self) -> String {
        let link = self.link.as_ref().expect("a link");
        let mut pairs: Vec<String> = Vec::new();
        let path = match link.via {
            Via::Events => "/events",
            Via::Poll => "/poll",
            Via::Ws | Via::Commands => "/ws",
            Via::RawSse | Via::RawPoll | Via::Meta => "",
        };
        if path.is_empty() {
            pairs.push(format!("v=1&wait={}", self.channels[0] * 7));
        } else {
            pairs.extend(self.channels.iter().map(|channel| format!("channel={}", name(*channel))));
        }
        pairs.extend(self.position.as_ref().map(|since| format!("since={since}")));
        if link.gap_live {
            pairs.push("gap=live".to_owned());
        }
        let path = if path.is_empty() {
            format!("/channels/{}", name(self.channels[0]))
        } else {
            path.to_owned()
        };
        format!("{path}?{}", pairs.join("&"))
    }

    fn ask(&mut self, sim: &mut Sim) {
        let target = self.target();
        let link = self.link.as_mut().expect("a link");
        link.is_asking = true;
        sim.ask(link.line, "GET", &target, b"");
    }

    /// Subscribes to more, in one command each or in one for all.
    pub fn subscribe(&mut self, sim: &mut Sim, channels: &[usize], since: Option<String>) {
        assert!(!self.has_window());
        let Some(link) = &self.link else { return };
        let names: Vec<_> = channels.iter().map(|channel| name(*channel)).collect();
        let mut commands = Vec::new();
        let option = since.as_ref().map_or(String::new(), |since| format!(r#","since":"{since}""#));
        let option = format!(r#""ref":{JOIN}{option}"#);
        if sim.rng.bool() {
            commands.push(format!(r#"{{"op":"subscribe","channels":{names:?},{option}}}"#));
        } else {
            let command = |name| format!(r#"{{"op":"subscribe","channel":"{name}",{option}}}"#);
            commands.extend(names.iter().map(command));
        }
        for command in commands {
            let key = sim.rng.u32(..).to_be_bytes();
            sim.send(link.line, &ws::frame(ws::TEXT, command.as_bytes(), key));
        }
        match since {
            Some(since) => self.window = Some(Window { since, waiting: channels.to_vec() }),
            None => self.joining = channels.to_vec(),
        }
    }

    /// Sends its Close, and goes on reading until the server's comes.
    pub fn leave(&mut self, sim: &mut Sim) {
        let Some(link) = &mut self.link else { return };
        link.is_leaving = true;
        let key = sim.rng.u32(..).to_be_bytes();
        sim.send(link.line, &ws::close(1000, key));
    }

    pub fn unsubscribe(&mut self, sim: &mut Sim, one: usize) {
        let Some(link) = &self.link else { return };
        let command = format!(r#"{{"op":"unsubscribe","ref":{LEAVE},"channel":"{}"}}"#, name(one));
        let key = sim.rng.u32(..).to_be_bytes();
        sim.send(link.line, &ws::frame(ws::TEXT, command.as_bytes(), key));
        self.channels.retain(|channel| *channel != one);
        self.log.push(Entry::Left { channel: one });
    }

    /// Reads all that has come.
    pub fn read(&mut self, sim: &mut Sim, truth: &mut Truth) {
        let Some(link) = &self.link else { return };
        let (line, via) = (link.line, link.via);
        match via {
            Via::Events | Via::RawSse => self.read_stream(sim, truth, line, via),
            Via::Poll | Via::RawPoll => self.read_answers(sim, truth, line, via),
            Via::Ws | Via::Commands | Via::Meta => self.read_frames(sim, truth, line, via),
        }
        if self.link.is_some() && sim.lines[line].has_ended() {
            self.lose();
        }
    }

    fn told(&mut self, id: &str, sim: &Sim, truth: &Truth) {
        if self.position.as_deref() != Some(id) {
            self.log.push(Entry::Told { at: truth.at(id), unix_ms: sim.now.unix_ms });
            self.memory.extend(self.position.replace(id.to_owned()));
        }
    }

    fn message(&mut self, of: usize, id: &str, payload: &str, truth: &mut Truth) -> At {
        let (at, number) = (truth.at(id), number(payload));
        truth.place(at, number);
        assert_eq!(truth.specs[&number].channel, of, "{payload:?} on the wrong channel");
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

    fn read_stream(&mut self, sim: &mut Sim, truth: &mut Truth, line: usize, via: Via) {
        let link = self.link.as_mut().expect("a link");
        if !link.is_open {
            let Some(head) = http::take_head(&mut sim.lines[line].received) else { return };
            if head.status == 503 {
                return self.lose();
            }
            assert_eq!(head.status, 200, "{head:?}");
            link.is_open = true;
        }
        for block in link.stream.read(&mut sim.lines[line].received) {
            self.block(&block, sim, truth, via);
        }
    }

    fn block(&mut self, block: &Block, sim: &Sim, truth: &mut Truth, via: Via) {
        match (block.name(), &block.data) {
            (_, None) => {}
            ("gap" | "holdline-gap", _) => self.gap(&block.json(), truth),
            ("message", Some(data)) if via == Via::RawSse => {
                let id = block.id.as_deref().expect("an id");
                self.message(self.channels[0], id, data, truth);
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

    fn envelope(&mut self, value: &Value, truth: &mut Truth) -> At {
        let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"));
        self.message(channel(text("channel")), text("id"), text("text"), truth)
    }

    fn read_answers(&mut self, sim: &mut Sim, truth: &mut Truth, line: usize, via: Via) {
        while let Some(answer) = sim.answer(line) {
            if answer.status == 503 {
                return self.lose();
            }
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
                    self.message(self.channels[0], id, &answer.text(), truth);
                }
            }
            self.told(answer.header("holdline-cursor").expect("a position"), sim, truth);
            if answer.is_closing() {
                return self.lose();
            }
            self.ask(sim);
        }
    }

    fn read_frames(&mut self, sim: &mut Sim, truth: &mut Truth, line: usize, via: Via) {
        let link = self.link.as_mut().expect("a link");
        if !link.is_open {
            let Some(head) = http::take_head(&mut sim.lines[line].received) else { return };
            if head.status == 503 {
                return self.lose();
            }
            assert_eq!(head.status, 101, "{head:?}");
            link.is_open = true;
        }
        let link_is_leaving = link.is_leaving;
        while let Some(frame) = ws::take_frame(&mut sim.lines[line].received) {
            let key = sim.rng.u32(..).to_be_bytes();
            match frame.opcode {
                ws::PING => sim.send(line, &ws::frame(ws::PONG, &frame.payload, key)),
                ws::CLOSE => {
                    let code = frame.code().expect("a code");
                    let is_answer = code == 1000 && link_is_leaving;
                    assert!(is_answer || matches!(code, 1012 | 4408), "closed with {frame:?}");
                    sim.close(line);
                    return self.lose();
                }
                _ if via == Via::Meta => self.meta(&frame.text(), sim, truth),
                _ => self.object(&frame.json(), sim, truth),
            }
            if self.link.is_none() {
                return;
            }
        }
    }

    fn meta(&mut self, text: &str, sim: &Sim, truth: &mut Truth) {
        let (head, payload) = text.split_once("\n\n").expect("an empty line");
        let (key, value) =
            head.lines().next().and_then(|line| line.split_once(": ")).expect("a line");
        match key {
            "gap" => self.gap_line(value, truth),
            "cursor" => self.told(value, sim, truth),
            "id" => {
                self.message(self.channels[0], value, payload, truth);
                self.told(value, sim, truth);
            }
            _ => panic!("{text:?}"),
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
            Some("ok") if value["ref"] == JOIN => self.confirmed(value, sim, truth),
            Some("error") if value["code"] == "overloaded" && value["ref"] == JOIN => {
                // Whether all of it failed is not worth knowing: it comes again.
                sim.reset(self.link.as_ref().expect("a link").line);
                return self.lose();
            }
            Some("error") if value["code"] == "overloaded" => {
                assert_eq!(value["ref"].as_u64(), self.outstanding.pop_front());
            }
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

    fn is_bare(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.via == Via::Commands)
    }

    /// The `ok` of a subscribe.
    fn confirmed(&mut self, value: &Value, sim: &Sim, truth: &Truth) {
        let of = channel(value["channel"].as_str().expect("a channel"));
        let head = At { epoch: truth.epoch(), seq: sim.history.head() };
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
