//! Clients that speak just enough HTTP, SSE and WebSocket to see every byte that the server sends.
//! They know nothing of the server's code; every read gives up after half a minute and says so.
#![allow(dead_code, missing_docs, unreachable_pub)]

#[path = "event_stream.rs"]
pub mod event_stream;
#[path = "ws_client.rs"]
pub mod ws;

use crate::support::Running;
pub use event_stream::Block;
use event_stream::Parser;
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// A socket that is read ahead of what the caller asks for.
pub struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        let wire = Self { stream, ahead: Vec::new() };
        wire.patience(PATIENCE);
        wire
    }

    pub fn patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("a read timeout");
    }

    pub fn send(&mut self, bytes: &[u8]) {
        // A server that has already answered may have closed: what it said is what counts.
        let _ = self.stream.write_all(bytes);
    }

    /// What one `read` gives, appended to what is there; false at the end of the stream.
    pub fn fill(&mut self, what: &str) -> bool {
        let mut room = [0; 16 * 1024];
        match self.stream.read(&mut room) {
            Ok(n) => {
                self.ahead.extend_from_slice(&room[..n]);
                n > 0
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("waited in vain for {what}; so far came {:?}", lossy(&self.ahead))
            }
            Err(e) => e.kind() == ErrorKind::Interrupted,
        }
    }

    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Bytes up to and with `end`; None if the stream ends first.
    pub fn until(&mut self, end: &[u8], what: &str) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|w| w == end) {
                return Some(self.ahead.drain(..at + end.len()).collect());
            }
            if !self.fill(what) {
                return None;
            }
        }
    }

    pub fn exactly(&mut self, n: usize, what: &str) -> Option<Vec<u8>> {
        while self.ahead.len() < n {
            if !self.fill(what) {
                return None;
            }
        }
        Some(self.ahead.drain(..n).collect())
    }

    /// The data of the next chunk, empty for the last one; None if the stream was cut.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = lossy(&self.until(b"\r\n", "a chunk size")?);
        let size = size.trim_end().split(';').next().unwrap_or_default().to_owned();
        let size = usize::from_str_radix(&size, 16)
            .unwrap_or_else(|_| panic!("expected a chunk size, came {size:?}"));
        let mut data = self.exactly(size + 2, "a chunk")?;
        assert_eq!(data.split_off(size), b"\r\n", "a chunk ends in CRLF, came {:?}", lossy(&data));
        Some(data)
    }

    /// Reads what is left; the server has to end the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill("the end of the stream") {}
        std::mem::take(&mut self.ahead)
    }
}

/// One HTTP answer; without its body while that is still to be read.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// None if the connection ended before a whole head came.
    pub fn read_head(wire: &mut Wire) -> Option<Self> {
        let head = lossy(&wire.until(b"\r\n\r\n", "the head of an answer")?);
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.unwrap_or_else(|| panic!("expected a status line, came {head:?}"));
        let field = |line: &str| {
            let (name, value) = line.split_once(':').expect("a header line has a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Some(Self { status, headers: lines.map(field).collect(), body: Vec::new() })
    }

    pub fn read(wire: &mut Wire, method: &str) -> Option<Self> {
        let mut answer = Self::read_head(wire)?;
        if answer.status == 100 {
            return Self::read(wire, method);
        }
        if method == "HEAD" || matches!(answer.status, 101 | 204 | 304) {
            return Some(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(data) = wire.chunk().filter(|data| !data.is_empty()) {
                answer.body.extend(data);
            }
        } else if let Some(n) = answer.header("content-length").and_then(|n| n.parse().ok()) {
            answer.body = wire.exactly(n, "a body")?;
        } else {
            answer.body = wire.rest();
        }
        Some(answer)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn must_header(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("expected a header {name}, came {self:?}"))
    }

    /// The server ends the connection after this answer.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"))
    }

    pub fn text(&self) -> String {
        lossy(&self.body)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("expected a JSON body ({e}), came {self:?}"))
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "expected status {status}, came {self:?}");
        self
    }

    #[track_caller]
    pub fn expect_error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "expected {status} {code}, came {self:?}");
        let told = self.json();
        assert_eq!(told["error"], code, "expected {status} {code}, came {self:?}");
        let message = told["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "an error says what to do, came {self:?}");
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body: String = self.text().chars().take(600).collect();
        write!(f, "{} {:?} {body:?}", self.status, self.headers)
    }
}

pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// A keep-alive connection.
pub struct Http {
    pub wire: Wire,
    addr: SocketAddr,
}

impl Http {
    pub fn open(server: &Running) -> Self {
        Self { wire: Wire::new(server.connect()), addr: server.addr }
    }

    pub fn ask(&mut self, method: &str, target: &str, headers: Headers<'_>, body: &[u8]) {
        let mut bytes = request(self.addr, method, target, headers, body);
        bytes.extend_from_slice(body);
        self.wire.send(&bytes);
    }

    #[track_caller]
    pub fn answer(&mut self, method: &str) -> Answer {
        Answer::read(&mut self.wire, method).expect("an answer, not the end of the connection")
    }

    #[track_caller]
    pub fn call(&mut self, method: &str, target: &str, headers: Headers<'_>, b: &[u8]) -> Answer {
        self.ask(method, target, headers, b);
        self.answer(method)
    }

    /// Publishes in raw mode, on a new connection when the server ends this one.
    #[track_caller]
    pub fn publish(&mut self, channel: &str, body: &str) -> String {
        let answer = self.call("POST", &format!("/channels/{channel}"), &[], body.as_bytes());
        assert!(matches!(answer.status, 201 | 202), "expected 201 or 202, came {answer:?}");
        if answer.closes() {
            self.wire = Wire::new(TcpStream::connect(self.addr).expect("connects again"));
        }
        text_of(&answer.json(), "id").to_owned()
    }
}

/// A request head; a `Host` among `headers` replaces the true one.
pub fn request(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: Headers<'_>,
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += &format!("Host: {addr}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    (head + "\r\n").into_bytes()
}

/// One request on a connection of its own.
#[track_caller]
pub fn call(
    server: &Running,
    method: &str,
    target: &str,
    headers: Headers<'_>,
    b: &[u8],
) -> Answer {
    Http::open(server).call(method, target, headers, b)
}

#[track_caller]
pub fn get(server: &Running, target: &str) -> Answer {
    call(server, "GET", target, &[], b"")
}

/// Publishes in raw mode and gives the id.
#[track_caller]
pub fn publish(server: &Running, channel: &str, body: impl AsRef<[u8]>) -> String {
    let answer = call(server, "POST", &format!("/channels/{channel}"), &[], body.as_ref());
    assert!(matches!(answer.status, 201 | 202), "expected 201 or 202, came {answer:?}");
    text_of(&answer.json(), "id").to_owned()
}

/// Publishes the texts `from..to` in one request and gives their ids.
#[track_caller]
pub fn publish_many(server: &Running, channel: &str, numbers: std::ops::Range<u32>) -> Vec<String> {
    let line = |n| format!("{{\"channel\":\"{channel}\",\"text\":\"{n}\"}}\n");
    let lines: String = numbers.clone().map(line).collect();
    let answer = call(server, "POST", "/publish", &[], lines.as_bytes()).expect(200);
    let parse = |l: &str| serde_json::from_str::<Value>(l).expect("a JSON line");
    let id = |v: Value| v["id"].as_str().unwrap_or_else(|| panic!("an id in {v}")).to_owned();
    let ids: Vec<String> = answer.text().lines().map(parse).map(id).collect();
    assert_eq!(ids.len(), numbers.len(), "one answer a line, came {answer:?}");
    ids
}

/// Waits until `n` readers listen, held polls and plain WebSockets too: they have no first word.
#[track_caller]
pub fn wait_subscribers(server: &Running, channel: &str, n: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let info = get(server, &format!("/channels/{channel}")).expect(200).json();
        if info["subscribers"] == n {
            return;
        }
        assert!(Instant::now() < deadline, "expected {n} subscribers, came {info}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An `EventSource` by the grammar of the WHATWG, which also shows blocks without data.
pub struct Sse {
    pub wire: Wire,
    pub head: Answer,
    chunked: bool,
    parser: Box<Parser>,
    blocks: VecDeque<Block>,
    /// The last event id that an `EventSource` would send when it reconnects.
    pub last_id: String,
    /// The stream ended with its last chunk, it was not cut.
    pub orderly: bool,
}

impl Sse {
    #[track_caller]
    pub fn open(server: &Running, target: &str, headers: Headers<'_>) -> Self {
        let mut http = Http::open(server);
        let accept = [("Accept", "text/event-stream")];
        http.ask("GET", target, &[&accept, headers].concat(), b"");
        Self::over(http.wire)
    }

    /// Reads the answer to a request that `wire` has already sent.
    #[track_caller]
    pub fn over(mut wire: Wire) -> Self {
        let head = Answer::read_head(&mut wire).expect("the head of a stream");
        assert_eq!(head.status, 200, "expected a stream, came {head:?} {:?}", lossy(wire.ahead()));
        let media = head.must_header("content-type");
        assert!(media.starts_with("text/event-stream"), "expected a stream, came {head:?}");
        let chunked = head.header("transfer-encoding") == Some("chunked");
        let (parser, blocks, last_id) = (Box::default(), VecDeque::new(), String::new());
        Self { wire, head, chunked, parser, blocks, last_id, orderly: false }
    }

    /// The next chunk as it is; None at the end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        if self.chunked {
            let data = self.wire.chunk()?;
            self.orderly = data.is_empty();
            return (!data.is_empty()).then_some(data);
        }
        // Some of it may have come along with the head.
        let more = !self.wire.ahead.is_empty() || self.wire.fill("more of a stream");
        more.then(|| std::mem::take(&mut self.wire.ahead))
    }

    /// The next block; None at the end, where an unfinished one is dropped.
    pub fn block(&mut self) -> Option<Block> {
        while self.blocks.is_empty() {
            let data = self.chunk()?;
            self.blocks.extend(self.parser.read(&data));
        }
        let block = self.blocks.pop_front()?;
        assert!(block.ignored.is_empty() && !block.is_mended, "no such field, came {block:?}");
        self.last_id.clone_from(&block.last_id);
        Some(block)
    }

    /// The next block that an `EventSource` would dispatch.
    #[track_caller]
    pub fn event(&mut self) -> Block {
        loop {
            let block = self.block().expect("an event, not the end of the stream");
            if block.data.is_some() {
                return block;
            }
        }
    }

    /// The next event, which has to be an `/events` message: its envelope.
    #[track_caller]
    pub fn message(&mut self) -> Value {
        let block = self.event();
        assert_eq!(block.event, "message", "expected a message, came {block:?}");
        let envelope = block.json();
        assert_eq!(block.id.as_deref(), envelope["id"].as_str(), "id and envelope of {block:?}");
        envelope
    }
}

/// `GET /poll` with this query: the body, which must agree with its header.
#[track_caller]
pub fn poll(server: &Running, query: &str) -> Value {
    let answer = get(server, &format!("/poll?{query}")).expect(200);
    let body = answer.json();
    assert_eq!(answer.header("holdline-cursor"), body["cursor"].as_str(), "came {answer:?}");
    body
}

/// The envelopes of what is kept of a channel.
#[track_caller]
pub fn kept(server: &Running, channel: &str) -> Vec<Value> {
    let body = poll(server, &format!("channel={channel}&since=earliest&wait=0"));
    assert_eq!(body["gap"], Value::Null, "earliest is always recovered, came {body}");
    body["messages"].as_array().expect("messages").clone()
}

/// The messages of a poll answer.
#[track_caller]
pub fn messages(answer: &Value) -> &[Value] {
    answer["messages"].as_array().unwrap_or_else(|| panic!("expected messages, came {answer}"))
}

/// What its messages say.
#[track_caller]
pub fn texts(answer: &Value) -> Vec<&str> {
    messages(answer).iter().map(|m| text_of(m, "text")).collect()
}

#[track_caller]
pub fn text_of<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("expected a string {field:?}, came {value}"))
}

/// The number in a cursor. Clients must not look into it; a test may.
#[track_caller]
pub fn seq(cursor: &str) -> u64 {
    let (epoch, seq) = cursor.split_once('-').unwrap_or_default();
    let alnum = epoch.bytes().all(|b| b.is_ascii_alphanumeric());
    let plain = seq == "0" || !seq.starts_with(['0', '+']);
    assert!(
        (6..=12).contains(&epoch.len()) && alnum && plain,
        "expected a cursor, came {cursor:?}"
    );
    seq.parse().unwrap_or_else(|_| panic!("expected a cursor, came {cursor:?}"))
}

pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
