//! One reader that keeps one string and goes on with it: bytes in, bytes out, no sockets.

use std::time::Instant;

use serde_json::Value;

use super::http::{self, Answer};
use super::ledger::Ledger;
use super::sse::{Block, Stream};
use super::{request, ws};

/// Any key will do: masks are for proxies that are not here.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    Ws,
    Events,
    Poll,
    Meta,
    RawSse,
    RawPoll,
}

impl Via {
    pub const PROTOCOL: [Self; 3] = [Self::Ws, Self::Events, Self::Poll];
    pub const ALL: [Self; 6] =
        [Self::Ws, Self::Events, Self::Poll, Self::Meta, Self::RawSse, Self::RawPoll];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ws => "WebSocket",
            Self::Events => "event stream",
            Self::Poll => "long-poll",
            Self::Meta => "raw WebSocket with ids",
            Self::RawSse => "raw event stream",
            Self::RawPoll => "raw long-poll",
        }
    }
}

/// What the bytes so far mean for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Open,
    /// The server has said its last.
    Over,
}

enum Stage {
    Head,
    Blocks(Box<Stream>),
    Frames,
}

pub struct Reader {
    pub via: Via,
    pub channels: Vec<String>,
    /// The string; empty as long as there is none.
    pub cursor: String,
    pub ledger: Ledger,
    /// Answers that were neither 200, 101 nor 204.
    pub refused: u64,
    /// Closes and `bye`s of the server.
    pub closed: u64,
    inbound: Vec<u8>,
    stage: Stage,
    origin: Instant,
}

impl Reader {
    /// Someone who is owed everything after `since`, where nothing has been published yet.
    pub fn from_the_start(via: Via, channels: &[&str], since: &str, origin: Instant) -> Self {
        let mut reader = Self::from_now(via, channels, origin);
        reader.ledger = Ledger::from_the_start(&reader.channels);
        reader.cursor = since.to_owned();
        reader
    }

    /// Someone who has no claim before the first message.
    pub fn from_now(via: Via, channels: &[&str], origin: Instant) -> Self {
        Self {
            via,
            channels: channels.iter().map(|channel| (*channel).to_owned()).collect(),
            cursor: String::new(),
            ledger: Ledger::default(),
            refused: 0,
            closed: 0,
            inbound: Vec::new(),
            stage: Stage::Head,
            origin,
        }
    }

    /// What a new connection begins with.
    pub fn open(&mut self) -> Vec<u8> {
        self.inbound.clear();
        self.stage = Stage::Head;
        let target = self.target();
        match self.via {
            Via::Ws => ws::upgrade(&target, None),
            Via::Meta => ws::upgrade(&target, Some("holdline.v1.meta")),
            Via::Events | Via::RawSse => {
                request("GET", &target, "Accept: text/event-stream\r\n", b"")
            }
            Via::Poll | Via::RawPoll => request("GET", &target, "", b""),
        }
    }

    fn target(&self) -> String {
        let since = match &*self.cursor {
            "" if self.via == Via::RawPoll => "since=latest".to_owned(),
            "" => String::new(),
            cursor => format!("since={cursor}"),
        };
        let path = match self.via {
            Via::Ws => "/ws?",
            Via::Events => "/events?",
            Via::Poll => "/poll?",
            Via::Meta | Via::RawSse | Via::RawPoll => {
                return format!("/channels/{}?{since}", self.channels[0]);
            }
        };
        let named: String = self.channels.iter().map(|c| format!("channel={c}&")).collect();
        format!("{path}{named}{since}")
    }

    /// Reads on; what is to be sent is added to `out`.
    pub fn handle_bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Flow {
        self.inbound.extend_from_slice(bytes);
        loop {
            let flow = match self.via {
                Via::Poll | Via::RawPoll => self.step_poll(out),
                _ => self.step_stream(out),
            };
            match flow {
                Some(Flow::Open) => {}
                Some(Flow::Over) => return Flow::Over,
                None => return Flow::Open,
            }
        }
    }

    /// `None`: more bytes are needed.
    fn step_poll(&mut self, out: &mut Vec<u8>) -> Option<Flow> {
        let answer = http::take_answer(&mut self.inbound)?;
        if !matches!(answer.status, 200 | 204) {
            self.refused += 1;
            return Some(Flow::Over);
        }
        if self.via == Via::Poll {
            self.take_poll(&answer)
        } else {
            self.take_raw_poll(&answer)
        }
        self.cursor = answer.header("holdline-cursor").expect("a cursor").to_owned();
        if answer.is_closing() {
            return Some(Flow::Over);
        }
        out.extend_from_slice(&request("GET", &self.target(), "", b""));
        Some(Flow::Open)
    }

    fn take_poll(&mut self, answer: &Answer) {
        let body = answer.json();
        for gap in body["gap"].as_array().map(Vec::as_slice).unwrap_or_default() {
            self.take_gap(gap);
        }
        for envelope in body["messages"].as_array().expect("messages") {
            self.take_envelope(envelope);
        }
    }

    fn take_raw_poll(&mut self, answer: &Answer) {
        if answer.header("holdline-gap").is_some() {
            self.ledger.gap(&self.channels[0]);
        }
        if answer.status == 200 {
            self.ledger.note(&self.channels[0], &answer.text(), self.origin);
        }
    }

    fn step_stream(&mut self, out: &mut Vec<u8>) -> Option<Flow> {
        match &mut self.stage {
            Stage::Head => {
                let head = http::take_head(&mut self.inbound)?;
                self.stage = match head.status {
                    101 => Stage::Frames,
                    200 => {
                        let coding = head.header("transfer-encoding");
                        Stage::Blocks(Box::new(Stream::new(coding == Some("chunked"))))
                    }
                    _ => {
                        self.refused += 1;
                        return Some(Flow::Over);
                    }
                };
                Some(Flow::Open)
            }
            Stage::Blocks(stream) => {
                let blocks = stream.read(&mut self.inbound);
                let is_over = stream.is_over;
                blocks.iter().for_each(|block| self.take_block(block));
                is_over.then_some(Flow::Over)
            }
            Stage::Frames => {
                let frame = ws::take_frame(&mut self.inbound)?;
                match frame.opcode {
                    ws::PING => out.extend_from_slice(&ws::frame(ws::PONG, &frame.payload, KEY)),
                    ws::PONG => {}
                    ws::CLOSE => {
                        self.closed += 1;
                        out.extend_from_slice(&ws::close(frame.code().unwrap_or(1000), KEY));
                        return Some(Flow::Over);
                    }
                    _ if self.via == Via::Meta => self.take_meta(&frame.text()),
                    _ => self.take_object(&frame.json()),
                }
                Some(Flow::Open)
            }
        }
    }

    fn take_block(&mut self, block: &Block) {
        if let Some(data) = &block.data {
            match &*block.event {
                "" if self.via == Via::RawSse => {
                    self.ledger.note(&self.channels[0], data, self.origin);
                }
                "message" => self.take_envelope(&block.json()),
                "gap" | "holdline-gap" => self.take_gap(&block.json()),
                "bye" => self.closed += 1,
                _ => panic!("expected a message or a gap, came {block:?}"),
            }
        }
        if let Some(id) = &block.id {
            self.cursor.clone_from(id);
        }
    }

    fn take_object(&mut self, object: &Value) {
        match object["op"].as_str() {
            Some("message") => self.take_envelope(object),
            Some("gap") => self.take_gap(object),
            Some("hello") if !self.cursor.is_empty() => return,
            Some("hello" | "ok" | "live" | "heartbeat") => {}
            Some("bye") => self.closed += 1,
            _ => panic!("expected what follows a subscription, came {object}"),
        }
        // Where a gap's channels go on is no position of the others: its `resumed` is not taken.
        if let Some(position) = object["cursor"].as_str().or_else(|| object["id"].as_str()) {
            self.cursor = position.to_owned();
        }
    }

    fn take_meta(&mut self, text: &str) {
        let (head, payload) = text.split_once("\n\n").expect("an empty line");
        for line in head.lines() {
            match line.split_once(": ").expect("a name and a value") {
                ("id", id) => {
                    self.ledger.note(&self.channels[0], payload, self.origin);
                    self.cursor = id.to_owned();
                }
                ("cursor", cursor) => self.cursor = cursor.to_owned(),
                ("gap", _) => self.ledger.gap(&self.channels[0]),
                _ => {}
            }
        }
    }

    fn take_envelope(&mut self, envelope: &Value) {
        let [channel, text] = ["channel", "text"]
            .map(|name| envelope[name].as_str().unwrap_or_else(|| panic!("{name} in {envelope}")));
        self.ledger.note(channel, text, self.origin);
    }

    fn take_gap(&mut self, gap: &Value) {
        for channel in gap["channels"].as_array().expect("channels") {
            self.ledger.gap(channel.as_str().expect("a name"));
        }
    }
}
