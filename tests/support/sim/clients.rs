//! Small clients, one for each way of listening, and the requests of publishers.

use std::collections::VecDeque;

use serde_json::Value;

use super::Sim;
use super::http::{self, Answer};
use super::sse::{Block, Stream};
use super::ws::{self, Frame};

/// A request as bytes.
pub fn request(method: &str, target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = match (method, body.len()) {
        ("GET" | "HEAD" | "DELETE", 0) => String::new(),
        (_, length) => format!("Content-Length: {length}\r\n"),
    };
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n");
    [head.as_bytes(), body].concat()
}

impl Sim {
    /// Sends a request on a line.
    pub fn ask(&mut self, line: usize, method: &str, target: &str, body: &[u8]) {
        self.send(line, &request(method, target, "", body));
    }

    /// The next whole answer that has come.
    pub fn answer(&mut self, line: usize) -> Option<Answer> {
        http::take_answer(&mut self.lines[line].received)
    }

    /// Sends a request and waits until nothing moves; the answer that has come by then.
    #[track_caller]
    pub fn call(&mut self, line: usize, method: &str, target: &str, body: &[u8]) -> Answer {
        self.ask(line, method, target, body);
        self.settle();
        self.answer(line).unwrap_or_else(|| panic!("no answer to {method} {target}"))
    }

    #[track_caller]
    pub fn get(&mut self, line: usize, target: &str) -> Answer {
        self.call(line, "GET", target, b"")
    }

    fn key(&mut self) -> [u8; 4] {
        self.rng.u32(..).to_be_bytes()
    }
}

/// A WebSocket.
pub struct Ws {
    pub line: usize,
}

impl Ws {
    /// Asks for a WebSocket, and reads the answer to that.
    #[track_caller]
    pub fn open(sim: &mut Sim, number: usize, target: &str) -> Self {
        Self::open_as(sim, number, target, None)
    }

    /// With `holdline.v1.meta`.
    #[track_caller]
    pub fn meta(sim: &mut Sim, number: usize, target: &str) -> Self {
        Self::open_as(sim, number, target, Some("holdline.v1.meta"))
    }

    #[track_caller]
    pub fn open_as(sim: &mut Sim, number: usize, target: &str, protocol: Option<&str>) -> Self {
        let line = sim.connect(number);
        sim.send(line, &ws::upgrade(target, protocol));
        sim.settle();
        let ws = Self { line };
        ws.accepted(sim, protocol);
        ws
    }

    /// Reads the head that says yes.
    #[track_caller]
    pub fn accepted(&self, sim: &mut Sim, protocol: Option<&str>) {
        let head = http::take_head(&mut sim.lines[self.line].received).expect("an answer");
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(head.header("sec-websocket-accept"), Some(ws::ACCEPT));
        assert_eq!(head.header("sec-websocket-protocol"), protocol);
    }

    pub fn send(&self, sim: &mut Sim, opcode: u8, payload: &[u8]) {
        let key = sim.key();
        sim.send(self.line, &ws::frame(opcode, payload, key));
    }

    pub fn text(&self, sim: &mut Sim, text: &str) {
        self.send(sim, ws::TEXT, text.as_bytes());
    }

    /// Several texts in one write.
    pub fn texts(&self, sim: &mut Sim, texts: &[&str]) {
        let frames: Vec<u8> =
            texts.iter().flat_map(|text| ws::frame(ws::TEXT, text.as_bytes(), sim.key())).collect();
        sim.send(self.line, &frames);
    }

    pub fn pong(&self, sim: &mut Sim) {
        self.send(sim, ws::PONG, b"");
    }

    pub fn close(&self, sim: &mut Sim, code: u16) {
        let key = sim.key();
        sim.send(self.line, &ws::close(code, key));
    }

    /// The next frame that has come.
    pub fn next(&self, sim: &mut Sim) -> Option<Frame> {
        ws::take_frame(&mut sim.lines[self.line].received)
    }

    /// The next frame, which must have come.
    #[track_caller]
    pub fn frame(&self, sim: &mut Sim) -> Frame {
        self.next(sim).expect("a frame")
    }

    /// The next object, which must have come.
    #[track_caller]
    pub fn json(&self, sim: &mut Sim) -> Value {
        self.frame(sim).json()
    }

    /// All that has come.
    pub fn frames(&self, sim: &mut Sim) -> Vec<Frame> {
        std::iter::from_fn(|| self.next(sim)).collect()
    }

    /// All that has come, as objects.
    #[track_caller]
    pub fn jsons(&self, sim: &mut Sim) -> Vec<Value> {
        self.frames(sim).iter().map(Frame::json).collect()
    }
}

/// An event stream.
pub struct Sse {
    pub line: usize,
    pub stream: Stream,
    blocks: VecDeque<Block>,
}

impl Sse {
    /// Asks for a stream, and reads the head of the answer.
    #[track_caller]
    pub fn open(sim: &mut Sim, number: usize, target: &str) -> Self {
        let line = sim.connect(number);
        sim.send(line, &request("GET", target, "Accept: text/event-stream\r\n", b""));
        sim.settle();
        Self::accepted(sim, line)
    }

    #[track_caller]
    pub fn accepted(sim: &mut Sim, line: usize) -> Self {
        let head = http::take_head(&mut sim.lines[line].received).expect("an answer");
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        let is_chunked = head.header("transfer-encoding") == Some("chunked");
        Self { line, stream: Stream::new(is_chunked), blocks: VecDeque::new() }
    }

    pub fn next(&mut self, sim: &mut Sim) -> Option<Block> {
        self.blocks.extend(self.stream.read(&mut sim.lines[self.line].received));
        self.blocks.pop_front()
    }

    #[track_caller]
    pub fn block(&mut self, sim: &mut Sim) -> Block {
        self.next(sim).expect("a block")
    }

    pub fn blocks(&mut self, sim: &mut Sim) -> Vec<Block> {
        std::iter::from_fn(|| self.next(sim)).collect()
    }
}
