//! A WebSocket client that shows the frames themselves, and writes any, also forbidden ones.

use super::{Answer, Headers, Http, Wire, lossy};
use crate::support::Running;
use serde_json::Value;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The key of RFC 6455 §1.3, whose answer is known.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[derive(Debug, Clone)]
pub struct Frame {
    pub fin: bool,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

pub struct Ws {
    pub wire: Wire,
    pub head: Answer,
}

impl Ws {
    #[track_caller]
    pub fn open(server: &Running, target: &str) -> Self {
        Self::with(server, target, &[])
    }

    #[track_caller]
    pub fn meta(server: &Running, target: &str) -> Self {
        let ws = Self::with(server, target, &[("Sec-WebSocket-Protocol", "holdline.v1.meta")]);
        assert_eq!(ws.head.must_header("sec-websocket-protocol"), "holdline.v1.meta");
        ws
    }

    #[track_caller]
    pub fn with(server: &Running, target: &str, headers: Headers<'_>) -> Self {
        let ws = Self::handshake(server, target, headers);
        ws.unwrap_or_else(|answer| panic!("expected 101 for {target}, came {answer:?}"))
    }

    /// A good handshake with these additions; the answer if it is refused.
    #[track_caller]
    pub fn handshake(server: &Running, target: &str, more: Headers<'_>) -> Result<Self, Answer> {
        let mut http = Http::open(server);
        http.ask("GET", target, &[&HANDSHAKE, more].concat(), b"");
        let head = http.answer("GET");
        if head.status != 101 {
            return Err(head);
        }
        assert_eq!(head.must_header("sec-websocket-accept"), ACCEPT);
        assert_eq!(head.must_header("upgrade").to_ascii_lowercase(), "websocket");
        for framing in ["content-length", "transfer-encoding"] {
            assert_eq!(head.header(framing), None, "101 has no body, came {head:?}");
        }
        Ok(Self { wire: http.wire, head })
    }

    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.send_frame(0x80 | opcode, payload);
    }

    /// A masked frame with this first byte: FIN, RSV and opcode are the caller's.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let mut bytes = frame_head(first, 0x80, payload.len());
        bytes.extend_from_slice(&MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
        self.wire.send(&bytes);
    }

    pub fn say(&mut self, command: &str) {
        self.send(TEXT, command.as_bytes());
    }

    /// The next frame as it is; None at the end of the stream.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Frame> {
        let head = self.wire.exactly(2, "a frame")?;
        assert_eq!(head[0] & 0x70, 0, "no RSV bits without an extension, came {head:?}");
        assert_eq!(head[1] & 0x80, 0, "a server does not mask, came {head:?}");
        let length = match head[1] {
            126 => self.number(2, 126)?,
            127 => self.number(8, 65536)?,
            short => u64::from(short),
        };
        let payload = self.wire.exactly(usize::try_from(length).ok()?, "a payload")?;
        Some(Frame { fin: head[0] & 0x80 != 0, opcode: head[0] & 0x0f, payload })
    }

    #[track_caller]
    fn number(&mut self, bytes: usize, least: u64) -> Option<u64> {
        let digits = self.wire.exactly(bytes, "a frame length")?;
        let length = digits.iter().fold(0, |n, b| n << 8 | u64::from(*b));
        assert!(length >= least, "expected the shortest form of a length, came {length}");
        Some(length)
    }

    /// The next whole message or Close; pings are answered, pongs skipped, fragments joined.
    #[track_caller]
    pub fn message(&mut self) -> Frame {
        let mut whole: Option<Frame> = None;
        loop {
            let frame = self.frame().expect("a message, not the end of the stream");
            match frame.opcode {
                PING => self.send(PONG, &frame.payload),
                PONG => {}
                CLOSE => return frame,
                0 => {
                    let whole = whole.as_mut().expect("a first fragment before the others");
                    whole.payload.extend(frame.payload);
                    whole.fin = frame.fin;
                }
                _ => whole = Some(frame),
            }
            if let Some(done) = whole.take_if(|whole| whole.fin) {
                return done;
            }
        }
    }

    #[track_caller]
    pub fn text(&mut self) -> String {
        let frame = self.message();
        assert_eq!(frame.opcode, TEXT, "expected a text, came {frame:?} {}", lossy(&frame.payload));
        String::from_utf8(frame.payload).expect("a text is UTF-8")
    }

    #[track_caller]
    pub fn json(&mut self) -> Value {
        let text = self.text();
        let value = serde_json::from_str(&text);
        value.unwrap_or_else(|e| panic!("expected an object ({e}), came {text:?}"))
    }

    /// The next object, which has to be an `op`.
    #[track_caller]
    pub fn op(&mut self, op: &str) -> Value {
        let object = self.json();
        assert_eq!(object["op"], op, "expected op {op}, came {object}");
        object
    }

    /// Objects up to and with the first `op`.
    #[track_caller]
    pub fn until(&mut self, op: &str) -> Vec<Value> {
        let mut objects = vec![self.json()];
        while objects.last().is_some_and(|last| last["op"] != op) {
            objects.push(self.json());
        }
        objects
    }

    /// Says `command` and gives the answer with the same `ref`; what came before it as well.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> (Vec<Value>, Value) {
        let said: Value = serde_json::from_str(command).expect("a command");
        self.say(command);
        let mut before = Vec::new();
        loop {
            let object = self.json();
            if object.get("ref") == said.get("ref") && object["op"] != "message" {
                return (before, object);
            }
            before.push(object);
        }
    }

    /// Reads to the Close frame: its code and reason. Messages before it are skipped.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            let frame = self.frame().expect("a Close frame, not the end of the stream");
            if frame.opcode == CLOSE {
                return close_code(&frame);
            }
        }
    }
}

/// What a Close frame says; 1005 stands for nothing, as in a browser.
pub fn close_code(frame: &Frame) -> (u16, String) {
    assert_eq!(frame.opcode, CLOSE, "expected a Close, came {frame:?}");
    match frame.payload.as_slice() {
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), lossy(reason)),
        _ => (1005, String::new()),
    }
}

/// The head of a frame with this many bytes of payload to come.
pub fn frame_head(first: u8, mask_bit: u8, length: usize) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..=125 => head.push(mask_bit | length as u8),
        126..=65535 => {
            head.push(mask_bit | 126);
            head.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            head.push(mask_bit | 127);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    head
}

pub const HANDSHAKE: [(&str, &str); 4] = [
    ("Upgrade", "websocket"),
    ("Connection", "keep-alive, Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY),
];

/// A frame of `holdline.v1.meta`: its lines and what follows the empty one.
#[derive(Debug)]
pub struct Meta {
    pub lines: Vec<(String, String)>,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Meta {
    #[track_caller]
    pub fn read(ws: &mut Ws) -> Self {
        let frame = ws.message();
        assert!(matches!(frame.opcode, TEXT | BINARY), "expected a meta frame, came {frame:?}");
        let end = frame.payload.windows(2).position(|w| w == b"\n\n");
        let end = end.unwrap_or_else(|| panic!("no empty line in {:?}", lossy(&frame.payload)));
        let head = lossy(&frame.payload[..end]);
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            (name.to_owned(), value.to_owned())
        };
        let payload = frame.payload[end + 2..].to_vec();
        Self { lines: head.lines().map(pair).collect(), opcode: frame.opcode, payload }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn must(&self, name: &str) -> &str {
        self.get(name).unwrap_or_else(|| panic!("expected a line {name}, came {self:?}"))
    }
}

/// `reason=…; since=…; resumed=…`, as in `Holdline-Gap` and in `gap:` lines.
#[derive(Debug, PartialEq)]
pub struct GapLine {
    pub reason: String,
    pub since: String,
    pub resumed: String,
}

impl GapLine {
    #[track_caller]
    pub fn parse(line: &str) -> Self {
        let mut parts = line.split(';').map(str::trim);
        let mut next = |name: &str| {
            let part = parts.next().and_then(|p| p.strip_prefix(name)?.strip_prefix('='));
            part.unwrap_or_else(|| panic!("expected {name}=… in the gap {line:?}")).to_owned()
        };
        Self { reason: next("reason"), since: next("since"), resumed: next("resumed") }
    }
}
