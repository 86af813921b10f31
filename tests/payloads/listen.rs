//! Listeners of all kinds, each of which takes apart every byte that it is sent.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;

use super::event_stream::{Block, Parser};
use super::http::{Answer, Req, Shape, Wire};
use super::matter::Said;
use super::net::Net;
use super::ws::{self, BINARY, TEXT};

const PATIENCE: Duration = Duration::from_secs(8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A stream of payloads; whether in HTTP/1.0.
    Payloads {
        ten: bool,
    },
    /// A stream of envelopes.
    Events {
        ten: bool,
    },
    RawPoll {
        ten: bool,
    },
    Poll {
        ten: bool,
    },
    RawWs,
    MetaWs,
    JsonWs,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::Payloads { ten: false },
        Self::Payloads { ten: true },
        Self::Events { ten: false },
        Self::Events { ten: true },
        Self::RawPoll { ten: false },
        Self::RawPoll { ten: true },
        Self::Poll { ten: false },
        Self::Poll { ten: true },
        Self::RawWs,
        Self::MetaWs,
        Self::JsonWs,
    ];

    fn is_ten(self) -> bool {
        match self {
            Self::Payloads { ten } | Self::Events { ten } => ten,
            Self::RawPoll { ten } | Self::Poll { ten } => ten,
            Self::RawWs | Self::MetaWs | Self::JsonWs => false,
        }
    }

    fn is_poll(self) -> bool {
        matches!(self, Self::RawPoll { .. } | Self::Poll { .. })
    }

    /// What this kind of listener must make of a message.
    fn expects(self, said: &Said, id: &str, event: Option<&str>) -> Got {
        let text = std::str::from_utf8(&said.payload).ok().map(str::to_owned);
        let media = said.media.clone();
        let stated = media.clone().or_else(|| said.is_json.then(|| "application/json".to_owned()));
        let (id, event) = (Some(id.to_owned()), event.map(str::to_owned));
        match self {
            Self::Payloads { .. } => match text {
                // The one transport that cannot carry a CR.
                Some(text) => {
                    let body = Body::Text(text.replace("\r\n", "\n").replace('\r', "\n"));
                    Got { id, event, media: None, body }
                }
                None => {
                    let event = Some("binary".to_owned());
                    Got { id, event, media: None, body: Body::Bytes(said.payload.clone()) }
                }
            },
            Self::Events { .. } | Self::Poll { .. } | Self::JsonWs => match text {
                Some(text) if said.is_json => {
                    let media = media.filter(|media| media != "application/json");
                    Got { id, event, media, body: Body::Json(text) }
                }
                Some(text) => Got { id, event, media, body: Body::Text(text) },
                None => {
                    let media = media.filter(|media| media != "application/octet-stream");
                    Got { id, event, media, body: Body::Bytes(said.payload.clone()) }
                }
            },
            Self::RawPoll { .. } => {
                let default = match text {
                    Some(_) => "text/plain; charset=utf-8",
                    None => "application/octet-stream",
                };
                let media = stated.or_else(|| Some(default.to_owned()));
                Got { id, event, media, body: Body::Bytes(said.payload.clone()) }
            }
            Self::MetaWs => {
                Got { id, event, media: stated, body: Body::frame(text.is_some(), &said.payload) }
            }
            Self::RawWs => Got {
                id: None,
                event: None,
                media: None,
                body: Body::frame(text.is_some(), &said.payload),
            },
        }
    }
}

/// What a listener was told.
#[derive(Clone, PartialEq, Eq)]
struct Got {
    id: Option<String>,
    event: Option<String>,
    media: Option<String>,
    body: Body,
}

impl std::fmt::Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut body = format!("{:?}", self.body);
        body.truncate(400);
        write!(f, "{:?} {:?} {:?} {body}", self.id, self.event, self.media)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Body {
    /// Any text, or `text` of an envelope.
    Text(String),
    /// `data` of an envelope, as it stands.
    Json(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl Body {
    fn frame(is_text: bool, payload: &[u8]) -> Self {
        match is_text {
            true => Self::Text(String::from_utf8(payload.to_vec()).expect("texts are UTF-8")),
            false => Self::Bytes(payload.to_vec()),
        }
    }
}

pub struct Listener<'n, N: Net> {
    net: &'n N,
    pub kind: Kind,
    channel: String,
    wire: Wire<N::Pipe>,
    /// Bytes that are no whole frame or chunk yet.
    bytes: Vec<u8>,
    parser: Parser,
    blocks: VecDeque<Block>,
    is_chunked: bool,
    since: Option<String>,
    got: VecDeque<Got>,
}

impl<'n, N: Net> Listener<'n, N> {
    /// Listens from this position on, or from now; polls always need one.
    pub fn open(net: &'n N, kind: Kind, channel: &str, since: Option<&str>) -> Self {
        let mut listener = Self {
            net,
            kind,
            channel: channel.to_owned(),
            wire: net.open(PATIENCE + net.late()),
            bytes: Vec::new(),
            parser: Parser::new(),
            blocks: VecDeque::new(),
            is_chunked: false,
            since: since.map(str::to_owned),
            got: VecDeque::new(),
        };
        listener.ask();
        if !kind.is_poll() {
            listener.begin();
        }
        listener
    }

    fn ask(&mut self) {
        let mut query = format!("channel={}", self.channel);
        if let Some(since) = &self.since {
            query += &format!("&since={since}");
        }
        // The name of a raw channel is its path; another pair of that name means nothing.
        let raw = format!("GET /channels/{}?{}", self.channel, query.replace("channel=", "x="));
        let protocol = format!("?{query}");
        let request = match self.kind {
            Kind::Payloads { .. } => Req::new(&raw).field("Accept: text/event-stream"),
            Kind::Events { .. } => Req::new(&format!("GET /events{protocol}")),
            Kind::RawPoll { .. } => Req::new(&format!("{raw}&wait=5")),
            Kind::Poll { .. } => Req::new(&format!("GET /poll{protocol}&wait=5")),
            Kind::RawWs => return self.upgrade(&raw[4..], None),
            Kind::MetaWs => return self.upgrade(&raw[4..], Some("holdline.v1.meta")),
            Kind::JsonWs => return self.upgrade(&format!("/ws{protocol}"), None),
        };
        let request = if self.kind.is_ten() { request.ten() } else { request };
        self.wire.send(&request.bytes()).expect("sent");
    }

    fn upgrade(&mut self, target: &str, protocol: Option<&str>) {
        self.wire.send(&ws::upgrade(target, protocol)).expect("sent");
    }

    fn answer(&mut self, shape: Shape) -> Answer {
        self.wire.answer(shape).unwrap_or_else(|trouble| panic!("{:?}: {trouble}", self.kind))
    }

    /// Reads the head of a stream, and what comes before the first message.
    fn begin(&mut self) {
        let head = self.answer(Shape::Open);
        match self.kind {
            Kind::Payloads { .. } | Kind::Events { .. } => {
                assert_eq!(head.status, 200, "{head:?}");
                self.is_chunked = head.lists("transfer-encoding", "chunked");
                assert_eq!(self.is_chunked, !self.kind.is_ten(), "{head:?}");
                let first = self.block();
                let (retry, id) = (first.retry, first.id.clone().expect("an id"));
                assert!(retry.is_some_and(|ms| (2_000..=5_000).contains(&ms)), "{first:?}");
                let last_id = id.clone();
                let only = Block { retry, id: Some(id), last_id, ..Block::default() };
                assert_eq!(first, only, "only these two come first");
            }
            Kind::RawWs => assert_eq!(head.status, 101, "{head:?}"),
            Kind::MetaWs => {
                assert_eq!(head.status, 101, "{head:?}");
                let first = self.frame();
                let is_cursor = first.1.starts_with(b"cursor: ") && first.1.ends_with(b"\n\n");
                assert!(is_cursor && first.0 == TEXT, "{}", first.1.escape_ascii());
            }
            Kind::JsonWs => {
                assert_eq!(head.status, 101, "{head:?}");
                for op in ["hello", "ok"] {
                    let object: Value = serde_json::from_slice(&self.frame().1).expect("JSON");
                    assert_eq!(object["op"], op, "{object}");
                }
                if self.since.is_none() {
                    let object: Value = serde_json::from_slice(&self.frame().1).expect("JSON");
                    assert_eq!(object["op"], "live", "{object}");
                }
            }
            Kind::RawPoll { .. } | Kind::Poll { .. } => {}
        }
    }

    fn more(&mut self) {
        let is_open = self.wire.read_more();
        let is_open = is_open.unwrap_or_else(|trouble| {
            panic!("{:?}: {trouble}, with {}", self.kind, self.bytes.escape_ascii())
        });
        assert!(is_open, "{:?} ended", self.kind);
    }

    /// The next block; a chunk is one, and nothing but this.
    fn block(&mut self) -> Block {
        loop {
            if let Some(block) = self.blocks.pop_front() {
                return block;
            }
            self.bytes.extend(self.wire.take_unread());
            let text = match self.is_chunked {
                true => take_chunk(&mut self.bytes),
                false => Some(std::mem::take(&mut self.bytes)).filter(|text| !text.is_empty()),
            };
            let Some(text) = text else {
                self.more();
                continue;
            };
            self.blocks.extend(self.parser.read(&text));
            if self.is_chunked {
                let is_one = self.blocks.len() == 1 && self.parser.is_between();
                assert!(is_one, "{:?} in one chunk", self.blocks);
            }
        }
    }

    /// The next frame: opcode and payload.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            self.bytes.extend(self.wire.take_unread());
            if let Some(frame) = ws::take_frame(&mut self.bytes) {
                assert!(matches!(frame.opcode, TEXT | BINARY), "{:?}: {frame:?}", self.kind);
                return (frame.opcode, frame.payload);
            }
            self.more();
        }
    }

    /// The next message must be this one.
    #[track_caller]
    pub fn expect(&mut self, said: &Said, id: &str, event: Option<&str>) {
        while self.got.is_empty() {
            self.read();
        }
        let got = self.got.pop_front().expect("just read");
        let wanted = self.kind.expects(said, id, event);
        assert!(got == wanted, "{:?}:\n  came {got:?}\nwanted {wanted:?}", self.kind);
    }

    fn read(&mut self) {
        match self.kind {
            Kind::Payloads { .. } => {
                let got = payload_of(self.block());
                self.got.push_back(got);
            }
            Kind::Events { .. } => {
                let block = self.block();
                assert_eq!(block.event, "message", "{block:?}");
                let data = block.data.as_deref().unwrap_or_default();
                let got = envelope(data, &self.channel);
                assert_eq!(got.id, block.id, "{block:?}");
                self.got.push_back(got);
            }
            Kind::Poll { .. } | Kind::RawPoll { .. } => self.read_poll(),
            Kind::RawWs | Kind::MetaWs | Kind::JsonWs => {
                let (opcode, payload) = self.frame();
                if let Some(got) = self.message(opcode, payload) {
                    self.got.push_back(got);
                }
            }
        }
    }

    fn message(&self, opcode: u8, payload: Vec<u8>) -> Option<Got> {
        if self.kind == Kind::RawWs {
            let body = Body::frame(opcode == TEXT, &payload);
            return Some(Got { id: None, event: None, media: None, body });
        }
        if self.kind == Kind::MetaWs {
            return Some(meta(opcode, &payload));
        }
        let text = String::from_utf8(payload).expect("texts are UTF-8");
        if text.starts_with("{\"op\":\"live\",") {
            return None;
        }
        assert!(opcode == TEXT && text.starts_with("{\"op\":\"message\","), "{text}");
        Some(envelope(&text, &self.channel))
    }

    /// Reads the answer, and asks for more.
    fn read_poll(&mut self) {
        let answer = self.answer(Shape::Full);
        assert_eq!(answer.status, 200, "{:?}: {answer:?}", self.kind);
        let cursor = answer.field("holdline-cursor").expect("a cursor").to_owned();
        if let Kind::RawPoll { .. } = self.kind {
            self.got.push_back(raw_answer(&answer, &cursor));
        } else {
            let text = String::from_utf8(answer.body).expect("JSON is UTF-8");
            let body = members(&text);
            assert!(body.keys().eq(["cursor", "gap", "messages", "more"]), "{text}");
            assert_eq!((string(&body["cursor"]), &body["gap"][..]), (cursor.clone(), "null"));
            let messages: Vec<Box<RawValue>> =
                serde_json::from_str(&body["messages"]).expect("an array");
            for message in messages {
                self.got.push_back(envelope(message.get(), &self.channel));
            }
        }
        self.since = Some(cursor);
        if self.kind.is_ten() {
            self.wire = self.net.open(PATIENCE + self.net.late());
        }
        self.ask();
    }

    /// Nothing has come that was not expected.
    #[track_caller]
    pub fn assert_quiet(&mut self) {
        assert!(self.got.is_empty(), "{:?}: {:?}", self.kind, self.got);
        assert!(self.blocks.is_empty(), "{:?}: {:?}", self.kind, self.blocks);
        let is_quiet = !self.wire.is_answered() && self.bytes.is_empty();
        // What says `live` comes behind the last of a replay.
        if !is_quiet && self.kind == Kind::JsonWs {
            let (opcode, payload) = self.frame();
            assert!(self.message(opcode, payload).is_none());
        }
        assert!(!self.wire.is_answered() && self.bytes.is_empty(), "{:?} hears more", self.kind);
        assert!(self.parser.is_between(), "{:?}: half a block", self.kind);
    }
}

fn take_chunk(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")?;
    let size = std::str::from_utf8(&bytes[..line]).expect("a size");
    let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("the size {size:?}"));
    let end = line + 2 + size;
    if bytes.len() < end + 2 {
        return None;
    }
    assert_eq!(&bytes[end..end + 2], b"\r\n", "the end of a chunk");
    let chunk = bytes[line + 2..end].to_vec();
    bytes.drain(..end + 2);
    Some(chunk)
}

/// A block of payload: id, data, at most an event's name, and nothing else.
fn payload_of(block: Block) -> Got {
    let silent = Block { data: None, id: None, event: String::new(), ..block.clone() };
    let last_id = block.last_id.clone();
    assert_eq!(silent, Block { last_id, ..Block::default() }, "{block:?}");
    let data = block.data.expect("data");
    let is_binary = block.event == "binary";
    let body = match is_binary {
        true => Body::Bytes(STANDARD.decode(data).expect("base64")),
        false => Body::Text(data),
    };
    let event = Some(block.event).filter(|event| !event.is_empty());
    Got { id: block.id, event, media: None, body }
}

/// The members of an object as they stand. A name that occurs twice would be seen in one way by one
/// reader and in another by the next, so every byte is accounted for.
pub fn members(text: &str) -> BTreeMap<String, String> {
    let members: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    let lengths = members.iter().map(|(name, value)| name.len() + value.get().len() + 4);
    let sum = lengths.sum::<usize>() + 1;
    assert_eq!(sum, text.len(), "a name twice, or space, in {text}");
    members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
}

fn string(value: &str) -> String {
    serde_json::from_str(value).unwrap_or_else(|error| panic!("{error} in {value}"))
}

fn envelope(text: &str, channel: &str) -> Got {
    let mut members = members(text);
    let mut take = |name: &str| members.remove(name);
    assert_eq!(take("channel").map(|c| string(&c)).as_deref(), Some(channel), "{text}");
    let time = take("time").expect("a time");
    assert!(time.parse::<u64>().is_ok_and(|ms| ms > 1_700_000_000_000), "{text}");
    if let Some(op) = take("op") {
        assert_eq!(op, "\"message\"", "{text}");
    }
    let id = take("id").map(|id| string(&id));
    // While it catches up each message says the safe position, which is this message's.
    if let Some(cursor) = take("cursor") {
        assert_eq!(Some(string(&cursor)), id, "{text}");
    }
    let (event, media) = (take("event").map(|e| string(&e)), take("type").map(|t| string(&t)));
    let contents = (take("data"), take("text"), take("b64"));
    let body = match contents {
        (Some(data), None, None) => Body::Json(data),
        (None, Some(text), None) => Body::Text(string(&text)),
        (None, None, Some(b64)) => Body::Bytes(STANDARD.decode(string(&b64)).expect("base64")),
        _ => panic!("not one content in {text}"),
    };
    assert!(members.is_empty(), "{members:?}");
    Got { id, event, media, body }
}

/// Lines, an empty line, the payload.
fn meta(opcode: u8, frame: &[u8]) -> Got {
    let end = frame.windows(2).position(|two| two == b"\n\n").expect("an empty line");
    let head = std::str::from_utf8(&frame[..end]).expect("the lines are UTF-8");
    let (mut id, mut event, mut media) = (None, None, None);
    for (number, line) in head.split('\n').enumerate() {
        let (name, value) = line.split_once(": ").expect("a name and a value");
        let value = Some(value.to_owned());
        match (name, number) {
            ("id", 0) => id = value,
            ("event", 1) => event = value,
            ("content-type", 1 | 2) if media.is_none() => media = value,
            _ => panic!("no such line: {head:?}"),
        }
    }
    Got { id, event, media, body: Body::frame(opcode == TEXT, &frame[end + 2..]) }
}

fn raw_answer(answer: &Answer, cursor: &str) -> Got {
    let field = |name: &str| {
        assert!(answer.all(name).count() <= 1, "{name} twice: {answer:?}");
        answer.field(name).map(str::to_owned)
    };
    assert_eq!(field("x-content-type-options").as_deref(), Some("nosniff"), "{answer:?}");
    assert_eq!(field("content-security-policy").as_deref(), Some("sandbox"), "{answer:?}");
    assert_eq!((field("set-cookie"), field("x-injected")), (None, None), "{answer:?}");
    let id = field("holdline-id");
    assert_eq!(id.as_deref(), Some(cursor), "{answer:?}");
    let (event, media) = (field("event"), field("content-type"));
    Got { id, event, media, body: Body::Bytes(answer.body.clone()) }
}
