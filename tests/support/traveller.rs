//! A reader that keeps one string, as the pages tell clients to, and resumes with it anywhere.
#![allow(dead_code, missing_docs, unreachable_pub)]

use crate::clients::ws::{GapLine, Meta, Ws};
use crate::clients::{Answer, Block, Http, Sse, lossy, messages, seq, text_of};
use crate::support::Running;
use serde_json::Value;
use std::collections::VecDeque;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Transport {
    Events,
    Poll,
    Ws,
    RawSse,
    RawPoll,
    Meta,
}

/// Those that know many channels; the others know one.
pub const PROTOCOL: [Transport; 3] = [Transport::Events, Transport::Poll, Transport::Ws];
pub const ALL: [Transport; 6] = [
    Transport::RawPoll,
    Transport::Events,
    Transport::Meta,
    Transport::Poll,
    Transport::RawSse,
    Transport::Ws,
];

#[derive(Debug, Clone, PartialEq)]
pub enum Got {
    Message { id: String, text: String },
    Gap { reason: String, since: String, resumed: String, channels: Vec<String> },
}

impl Got {
    #[track_caller]
    pub fn text(&self) -> &str {
        match self {
            Self::Message { text, .. } => text,
            Self::Gap { .. } => panic!("expected a message, came {self:?}"),
        }
    }
}

enum Line {
    Http(Http),
    Sse(Sse),
    Ws(Ws),
}

pub struct Traveller<'s> {
    server: &'s Running,
    channels: Vec<&'s str>,
    transport: Transport,
    line: Line,
    /// What came together and is not handed out yet, each with the position after it.
    waiting: VecDeque<(Got, String)>,
    /// The string; empty as long as there is none.
    pub cursor: String,
}

impl<'s> Traveller<'s> {
    #[track_caller]
    pub fn start(s: &'s Running, via: Transport, channels: &[&'s str], since: &str) -> Self {
        let line = connect(s, via, &query(channels, via, since));
        let (channels, cursor) = (channels.to_vec(), since.to_owned());
        Self { server: s, channels, transport: via, line, waiting: VecDeque::new(), cursor }
    }

    /// Drops the connection and goes on with the string over another one.
    #[track_caller]
    pub fn switch(&mut self, via: Transport) {
        self.waiting.clear();
        self.transport = via;
        self.line = connect(self.server, via, &query(&self.channels, via, &self.cursor));
    }

    /// The next message or gap.
    #[track_caller]
    pub fn next(&mut self) -> Got {
        loop {
            if let Some((got, after)) = self.waiting.pop_front() {
                self.cursor = after;
                return got;
            }
            self.receive();
        }
    }

    /// The string, as soon as there is one.
    #[track_caller]
    pub fn position(&mut self) -> String {
        while self.cursor.is_empty() {
            self.receive();
        }
        self.cursor.clone()
    }

    /// The texts of the next `n` messages; a gap among them fails.
    #[track_caller]
    pub fn texts(&mut self, n: usize) -> Vec<String> {
        (0..n).map(|_| self.next().text().to_owned()).collect()
    }

    #[track_caller]
    fn receive(&mut self) {
        let raw = matches!(self.transport, Transport::RawSse | Transport::RawPoll);
        match &mut self.line {
            Line::Sse(sse) => {
                let block = sse.block().expect("a block, not the end of the stream");
                self.cursor = block.id.clone().unwrap_or_else(|| self.cursor.clone());
                let got = block.data.is_some().then(|| from_block(&block, raw));
                self.waiting.extend(got.map(|got| (got, self.cursor.clone())));
            }
            Line::Ws(ws) if self.transport == Transport::Meta => {
                let frame = Meta::read(ws);
                let position = frame.get("cursor").or_else(|| frame.get("id"));
                self.cursor = position.unwrap_or(&self.cursor).to_owned();
                let got = from_meta(&frame).map(|got| (got, self.cursor.clone()));
                self.waiting.extend(got);
            }
            Line::Ws(ws) => {
                let object = ws.json();
                let mut position = object["cursor"].as_str().or_else(|| object["id"].as_str());
                if object["op"] == "hello" && !self.cursor.is_empty() {
                    position = None;
                }
                self.cursor = position.unwrap_or(&self.cursor).to_owned();
                let got = from_object(&object).map(|got| (got, self.cursor.clone()));
                self.waiting.extend(got);
            }
            Line::Http(_) => self.poll(raw),
        }
    }

    /// One poll: its gaps, its messages, and its cursor after the last of them.
    #[track_caller]
    fn poll(&mut self, raw: bool) {
        let target = query(&self.channels, self.transport, &self.cursor);
        let Line::Http(http) = &mut self.line else { unreachable!("a poll goes over HTTP") };
        let answer = http.call("GET", &target, &[], b"");
        let got = if raw { from_raw_poll(&answer) } else { from_poll(&answer.json()) };
        for got in got {
            let after = match &got {
                Got::Message { id, .. } => id.clone(),
                Got::Gap { .. } => self.cursor.clone(),
            };
            self.waiting.push_back((got, after));
        }
        let cursor = answer.must_header("holdline-cursor").to_owned();
        match self.waiting.back_mut() {
            Some((_, after)) => *after = cursor,
            None => self.cursor = cursor,
        }
        if answer.closes() {
            self.line = Line::Http(Http::open(self.server));
        }
    }
}

/// The target of a request that goes on after `since`.
fn query(channels: &[&str], via: Transport, since: &str) -> String {
    let since = if since.is_empty() { String::new() } else { format!("since={since}") };
    let path = match via {
        Transport::Events => "/events?",
        Transport::Poll => "/poll?",
        Transport::Ws => "/ws?",
        Transport::RawSse | Transport::RawPoll | Transport::Meta => {
            return format!("/channels/{}?{since}", channels[0]);
        }
    };
    let named: String = channels.iter().map(|channel| format!("channel={channel}&")).collect();
    format!("{path}{named}{since}")
}

#[track_caller]
fn connect(server: &Running, via: Transport, target: &str) -> Line {
    match via {
        Transport::Events | Transport::RawSse => Line::Sse(Sse::open(server, target, &[])),
        Transport::Poll | Transport::RawPoll => Line::Http(Http::open(server)),
        Transport::Ws => Line::Ws(Ws::open(server, target)),
        Transport::Meta => Line::Ws(Ws::meta(server, target)),
    }
}

#[track_caller]
fn from_envelope(envelope: &Value) -> Got {
    let [id, text] = ["id", "text"].map(|name| text_of(envelope, name).to_owned());
    Got::Message { id, text }
}

#[track_caller]
fn from_gap(gap: &Value) -> Got {
    let [reason, since, resumed] =
        ["reason", "since", "resumed"].map(|name| text_of(gap, name).to_owned());
    let channels = gap["channels"].as_array().unwrap_or_else(|| panic!("channels in {gap}"));
    let channels = channels.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Got::Gap { reason, since, resumed, channels }
}

#[track_caller]
fn from_block(block: &Block, raw: bool) -> Got {
    match block.event.as_str() {
        "holdline-gap" if raw => from_gap(&block.json()),
        "gap" if !raw => from_gap(&block.json()),
        "message" if !raw => from_envelope(&block.json()),
        "" if raw => Got::Message {
            id: block.id.clone().unwrap_or_else(|| panic!("an id in {block:?}")),
            text: block.data.clone().unwrap_or_default(),
        },
        _ => panic!("expected a message or a gap, came {block:?}"),
    }
}

#[track_caller]
fn from_object(object: &Value) -> Option<Got> {
    match text_of(object, "op") {
        "message" => Some(from_envelope(object)),
        "gap" => Some(from_gap(object)),
        "hello" | "ok" | "live" | "heartbeat" => None,
        _ => panic!("expected what follows a subscription, came {object}"),
    }
}

fn from_line(line: &str) -> Got {
    let GapLine { reason, since, resumed } = GapLine::parse(line);
    Got::Gap { reason, since, resumed, channels: Vec::new() }
}

fn from_meta(frame: &Meta) -> Option<Got> {
    if let Some(line) = frame.get("gap") {
        return Some(from_line(line));
    }
    let id = frame.get("id")?.to_owned();
    Some(Got::Message { id, text: lossy(&frame.payload) })
}

fn from_raw_poll(answer: &Answer) -> Vec<Got> {
    let mut got: Vec<Got> = answer.header("holdline-gap").map(from_line).into_iter().collect();
    if answer.status == 200 {
        let id = answer.must_header("holdline-id").to_owned();
        got.push(Got::Message { id, text: answer.text() });
    }
    got
}

#[track_caller]
fn from_poll(body: &Value) -> Vec<Got> {
    let gaps = body["gap"].as_array().map(Vec::as_slice).unwrap_or_default();
    gaps.iter().map(from_gap).chain(messages(body).iter().map(from_envelope)).collect()
}

/// Judges a journey: delivered ∪ announced gaps = published, in order, nothing twice.
#[derive(Debug, Default)]
pub struct Oracle {
    pub published: Vec<u64>,
    pub delivered: Vec<u64>,
    pub gaps: Vec<(u64, u64)>,
}

impl Oracle {
    pub fn note(&mut self, before: &str, got: &Got) {
        match got {
            Got::Message { id, .. } => self.delivered.push(seq(id)),
            // A cursor of another epoch says nothing about numbers of this one.
            Got::Gap { resumed, .. } => self.gaps.push((seq(before), seq(resumed))),
        }
    }

    #[track_caller]
    pub fn judge(&self, seed: u64) {
        let twice = self.delivered.windows(2).find(|w| w[0] >= w[1]);
        assert!(twice.is_none(), "seed {seed}: {twice:?} is out of order or twice");
        let announced = |s: u64| self.gaps.iter().any(|(from, to)| *from < s && s <= *to);
        let known = |s: &u64| self.delivered.binary_search(s).is_ok() || announced(*s);
        let lost: Vec<_> = self.published.iter().filter(|s| !known(s)).collect();
        assert!(lost.is_empty(), "seed {seed}: lost unannounced {lost:?}, gaps {:?}", self.gaps);
        let invented = self.delivered.iter().find(|s| !self.published.contains(s));
        assert!(invented.is_none(), "seed {seed}: {invented:?} was never published here");
    }
}
