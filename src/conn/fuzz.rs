//! A whole connection in memory, from its first request to its last frame: what it reports must not
//! depend on how its bytes were cut. The fuzz target and the tests run it.
//!
//! Stands where the engine stands: it decides from each request alone which state follows.

use super::ws::fuzz::Seen as Said;
use super::{
    Answering, Body, Closing, ConnLimits, Event, Frame, Hold, LastHead, Request, State, Step, Ws,
    WsLimits, WsMode,
};
use crate::config::Config;
use crate::time::Stamp;
use crate::wire::dialect::{self, Dialect};
use crate::wire::handshake;
use crate::wire::http::{Framing, HeadError, HeadLimits, HeadScan, Method};

/// What a connection came to, each with how many bytes it had taken by then.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Without a body of its own.
    Request(usize, String),
    Body(usize, Vec<u8>),
    Said(usize, Said),
    Stream,
    BadHead(HeadError, bool),
    BadBody,
    TooLarge,
    BadFrame(String),
}

/// Reads `data` whole, byte by byte and in pieces, and compares. The first two bytes choose the
/// limits and the pieces.
///
/// # Panics
///
/// If a promise of [`State`] does not hold, which would be a bug.
#[doc(hidden)]
pub fn fuzz_conn(data: &[u8]) {
    let Some(([sizes, pieces], wire)) = data.split_first_chunk::<2>() else { return };
    let mut limits = ConnLimits::from(&Config::default());
    if sizes % 2 == 1 {
        limits.head = HeadLimits { head_bytes_max: 300, line_bytes_max: 80, headers_max: 8 };
        limits.ws = WsLimits { frame_bytes_max: 40, message_bytes_max: 60, fragments_max: 3 };
    }
    let body_bytes_max = usize::from(sizes / 2);
    let read = |next_read: &mut dyn FnMut() -> usize| {
        Replay::new(&limits, body_bytes_max).run(wire, next_read)
    };
    let whole = read(&mut || usize::MAX);
    assert_eq!(whole, read(&mut || 1), "byte by byte");
    let mut random = fastrand::Rng::with_seed(u64::from(*pieces));
    let piece_bytes_max = usize::from(*pieces) + 2;
    assert_eq!(whole, read(&mut || random.usize(1..piece_bytes_max)), "in pieces");
}

struct Replay<'l> {
    state: State,
    limits: &'l ConnLimits,
    body_bytes_max: usize,
    /// Bytes that came, and of those how many were taken.
    received: usize,
    taken: usize,
    steps: usize,
    seen: Vec<Seen>,
}

impl<'l> Replay<'l> {
    fn new(limits: &'l ConnLimits, body_bytes_max: usize) -> Self {
        let state = State::Head(HeadScan::default());
        let (received, taken, steps, seen) = (0, 0, 0, Vec::new());
        Self { state, limits, body_bytes_max, received, taken, steps, seen }
    }

    fn run(mut self, wire: &[u8], next_read: &mut dyn FnMut() -> usize) -> Vec<Seen> {
        let (mut kept, mut rest) = (Vec::new(), wire);
        while !rest.is_empty() {
            let (read, later) = rest.split_at(next_read().clamp(1, rest.len()));
            rest = later;
            self.received += read.len();
            kept.extend_from_slice(read);
            kept = self.take(kept);
        }
        assert!(self.steps <= 4 * wire.len() + 4 * self.seen.len(), "steps without bytes");
        self.seen
    }

    /// Steps until there is nothing more to be done with these bytes; what is left of them.
    fn take(&mut self, mut kept: Vec<u8>) -> Vec<u8> {
        let (mut input, mut last) = (&mut kept[..], LastHead::default());
        loop {
            let before = input.len();
            self.steps += 1;
            let step = self.state.step(&mut input, self.limits, &mut last);
            assert!(input.len() <= before);
            self.taken += before - input.len();
            match step {
                Step::NeedMore => break,
                Step::Progress => {}
                Step::Event(event) => {
                    self.event(event);
                    self.wait(&mut input);
                }
            }
        }
        let kept = input.to_vec();
        self.check_memory(kept.len());
        kept
    }

    fn event(&mut self, event: Event<'_>) {
        let at = self.taken;
        let (seen, is_over) = match event {
            Event::Request(request) => return self.request(&request),
            Event::Body(body) => {
                assert!(body.bytes.len() <= self.body_bytes_max);
                self.state = after(body.parsed.keep_alive);
                (Seen::Body(at, body.bytes), false)
            }
            Event::Frame(frame) => {
                let is_close = matches!(frame, Frame::Close(_));
                (Seen::Said(at, Said::new(frame)), is_close)
            }
            Event::BadHead { error, head_only, .. } => (Seen::BadHead(error, head_only), true),
            Event::BadBody => (Seen::BadBody, true),
            Event::BodyTooLarge => (Seen::TooLarge, true),
            Event::BadFrame(error) => (Seen::BadFrame(format!("{error:?}")), true),
        };
        self.seen.push(seen);
        if is_over {
            self.state = closing();
        }
    }

    fn request(&mut self, request: &Request<'_>) {
        let Request { head, parsed, body } = request;
        let path = String::from_utf8_lossy(parsed.path.of(head)).into_owned();
        let asked = format!("{:?} {path} {:?}", parsed.method, parsed.framing);
        self.seen.push(Seen::Request(self.taken - body.map_or(0, <[u8]>::len), asked));
        let key = parsed.ws_key.and_then(|key| handshake::accept_key(key.of(head)));
        self.state = match (body, parsed.framing) {
            (Some(body), framing) => {
                assert_eq!(framing, Framing::Length(body.len() as u64));
                if body.len() > self.body_bytes_max {
                    self.seen.push(Seen::TooLarge);
                    closing()
                } else {
                    self.seen.push(Seen::Body(self.taken, body.to_vec()));
                    after(parsed.keep_alive)
                }
            }
            (None, Framing::Length(_) | Framing::Chunked) => {
                let since = Stamp::default();
                let body = Body::begin(head, (*parsed).clone(), self.body_bytes_max, since);
                State::Body(Box::new(body.expect("there is one")))
            }
            (None, Framing::None) if parsed.upgrade_websocket && key.is_some() => websocket(&path),
            (None, Framing::None) if parsed.accepts_event_stream => {
                self.seen.push(Seen::Stream);
                State::Sse { dialect: Dialect::SseJson(dialect::Framing::Chunked) }
            }
            (None, Framing::None) if parsed.method == Method::Head => {
                State::Wait { until: Stamp::default() }
            }
            (None, Framing::None) if path == "/poll" => {
                let answering = Answering::to(parsed);
                State::Hold(Hold { until: Stamp::default(), is_raw: false, answering })
            }
            (None, Framing::None) => after(parsed.keep_alive),
        };
    }

    /// While an answer is awaited, nothing is taken; then it is given.
    fn wait(&mut self, input: &mut &mut [u8]) {
        if self.state.is_paused() {
            let before = input.len();
            let last = &mut LastHead::default();
            assert!(matches!(self.state.step(input, self.limits, last), Step::NeedMore));
            assert_eq!(input.len(), before, "bytes taken while an answer is awaited");
            self.state = after(true);
        }
    }

    /// What is kept between two reads is what came, and never more than a limit allows.
    fn check_memory(&self, kept: usize) {
        assert_eq!(self.taken + kept, self.received, "bytes that nobody took or kept");
        match &self.state {
            State::Head(_) => assert!(kept < self.limits.head.head_bytes_max),
            State::Body(body) => {
                assert!(kept == 0 && body.bytes.len() <= self.body_bytes_max);
                assert!(body.bytes.capacity() <= 2 * self.received.max(8), "memory nobody sent");
            }
            State::Ws(ws) => {
                assert!(kept < 14 && (ws.reader.want() == 0 || kept == 0));
                assert!(ws.reader.heap() <= 2 * self.received + 512, "memory nobody sent");
            }
            State::Sse { .. } | State::Closing(_) => assert_eq!(kept, 0),
            State::Wait { .. } | State::Hold(_) => panic!("nobody waits"),
        }
    }
}

fn after(keep_alive: bool) -> State {
    if keep_alive { State::Head(HeadScan::default()) } else { closing() }
}

fn closing() -> State {
    State::Closing(Closing { lingering: false, until: Stamp::default(), left: 100 })
}

fn websocket(path: &str) -> State {
    let mode = if path == "/ws" { WsMode::Json } else { WsMode::App };
    State::Ws(Ws::new(mode, 0))
}
