//! Runs one row of frames on each kind of WebSocket, in every cut, and judges all that comes back.

use serde_json::{Value, json};

use crate::sim::clients::Ws;
use crate::sim::ws::{self, BINARY, CLOSE, Frame, PONG, TEXT};
use crate::sim::{Pace, Sim};

/// Longer rows are cut at some places only.
const CUT_EVERYWHERE_MAX: usize = 700;
const CUTS_MAX: usize = 50;
/// Longer rows are not sent byte by byte.
const BYTES_MAX: usize = 4_000;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame with this first byte: FIN, reserved bits and opcode are the caller's.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = ws::frame(0, payload, KEY);
    bytes[0] = first;
    bytes
}

/// A header with these bytes of length, then the key: what may be wrong about a length.
pub fn header(first: u8, length: &[u8]) -> Vec<u8> {
    [&[first], length, &KEY[..]].concat()
}

/// The three ways of speaking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Json,
    Raw,
    Meta,
}

impl Path {
    pub const ALL: [Self; 3] = [Self::Json, Self::Raw, Self::Meta];

    fn open(self, sim: &mut Sim) -> Ws {
        match self {
            Self::Json => Ws::open(sim, 0, "/ws"),
            Self::Raw => Ws::open(sim, 0, "/channels/x"),
            Self::Meta => Ws::meta(sim, 0, "/channels/x"),
        }
    }

    /// A text that is answered with the same word, on whichever path.
    pub fn say(self, word: &str) -> String {
        match self {
            Self::Json => json!({ "op": "ping", "t": word }).to_string(),
            Self::Raw | Self::Meta => word.to_owned(),
        }
    }
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Not at all.
    Open,
    /// The server sends this Close and ends the stream at once (RFC 6455 §7.1.7).
    Failed(u16),
    /// The client's Close comes back, then the server ends the stream (§5.5.1, §7.1.1).
    Echoed(Option<u16>),
    /// The server sends this Close and waits for the client's.
    Asked(u16),
}

pub struct Row {
    pub name: String,
    /// The bytes behind the handshake.
    pub frames: Box<dyn Fn(Path) -> Vec<u8>>,
    /// The words that come back, in order.
    pub words: Vec<Vec<u8>>,
    pub pongs: Vec<Vec<u8>>,
    pub end: End,
}

impl Row {
    pub fn new(name: impl Into<String>, frames: impl Fn(Path) -> Vec<u8> + 'static) -> Self {
        let (words, pongs) = (Vec::new(), Vec::new());
        Self { name: name.into(), frames: Box::new(frames), words, pongs, end: End::Open }
    }

    /// The same bytes on each path.
    pub fn bytes(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::new(name, move |_| bytes.clone())
    }

    pub fn word(mut self, word: impl AsRef<[u8]>) -> Self {
        self.words.push(word.as_ref().to_vec());
        self
    }

    pub fn pong(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.pongs.push(payload.as_ref().to_vec());
        self
    }

    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    pub fn failed(self, code: u16) -> Self {
        self.end(End::Failed(code))
    }
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    words: Vec<Vec<u8>>,
    pongs: Vec<Vec<u8>>,
    errors: Vec<String>,
    close: Option<Vec<u8>>,
}

impl Heard {
    fn take(&mut self, path: Path, frame: &Frame) {
        assert_eq!(self.close, None, "{frame:?} behind the Close");
        match frame.opcode {
            CLOSE => self.close = Some(frame.payload.clone()),
            PONG => self.pongs.push(frame.payload.clone()),
            TEXT | BINARY => self.take_message(path, frame),
            _ => panic!("a {frame:?} of a server"),
        }
    }

    fn take_message(&mut self, path: Path, frame: &Frame) {
        let is_text = std::str::from_utf8(&frame.payload).is_ok();
        match path {
            Path::Raw => {
                assert_eq!(frame.opcode == TEXT, is_text, "{frame:?}");
                self.words.push(frame.payload.clone());
            }
            Path::Meta => {
                let end = frame.payload.windows(2).position(|two| two == b"\n\n");
                let (head, payload) = frame.payload.split_at(end.expect("an empty line") + 2);
                if head.starts_with(b"cursor: ") {
                    assert!(payload.is_empty());
                } else {
                    assert!(head.starts_with(b"id: "), "{frame:?}");
                    self.words.push(payload.to_vec());
                }
            }
            Path::Json => {
                let object: Value = frame.json();
                match object["op"].as_str() {
                    Some("hello") => {}
                    Some("pong") => {
                        self.words.push(object["t"].as_str().expect("a word").into());
                    }
                    Some("error") => {
                        self.errors.push(object["code"].as_str().expect("a code").to_owned());
                    }
                    _ => panic!("{object} was not asked for"),
                }
            }
        }
    }
}

/// How the bytes travel.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Bytes,
    At(usize),
    /// The client reads this much at a time.
    Reads(usize),
}

pub fn check(rows: &[Row]) {
    let mut runs = 0;
    for row in rows {
        for path in Path::ALL {
            runs += check_on(row, path, &|_| None);
        }
    }
    println!("{} rows in {runs} runs", rows.len());
}

/// A row for channels alone.
pub fn check_on_channels(row: &Row) {
    for path in [Path::Raw, Path::Meta] {
        check_on(row, path, &|_| None);
    }
}

/// A row on one path, with the errors that an object of the protocol names.
pub fn check_with_error(row: &Row, path: Path, code: &'static str) {
    check_on(row, path, &|_| Some(code));
}

fn check_on(row: &Row, path: Path, error: &dyn Fn(Path) -> Option<&'static str>) -> usize {
    let bytes = (row.frames)(path);
    let mut cuts = vec![Cut::Whole, Cut::Reads(1), Cut::Reads(5)];
    let step = if bytes.len() <= CUT_EVERYWHERE_MAX { 1 } else { bytes.len() / CUTS_MAX };
    cuts.extend((1..bytes.len()).step_by(step).map(Cut::At));
    if bytes.len() <= BYTES_MAX {
        cuts.push(Cut::Bytes);
    }
    for cut in &cuts {
        let what = format!("{:?}: {} [{cut:?}]", path, row.name);
        run(row, path, &bytes, *cut, error(path), &what);
    }
    cuts.len()
}

fn run(row: &Row, path: Path, bytes: &[u8], cut: Cut, error: Option<&str>, what: &str) {
    let mut sim = Sim::open(Pace::Whole);
    let socket = path.open(&mut sim);
    let line = socket.line;
    match cut {
        Cut::Whole => {}
        Cut::Bytes => sim.pace = Pace::Bytes,
        Cut::Reads(size) => {
            sim.lines[line].window = size;
            sim.lines[line].take_max = size;
        }
        Cut::At(at) => {
            sim.send(line, &bytes[..at]);
            sim.settle();
        }
    }
    let rest = if let Cut::At(at) = cut { &bytes[at..] } else { bytes };
    sim.send(line, rest);
    sim.settle();
    let mut heard = Heard::default();
    for frame in socket.frames(&mut sim) {
        heard.take(path, &frame);
    }
    assert!(sim.lines[line].received.is_empty(), "{what}: half a frame");
    judge(row, path, &heard, &sim, error, what);
    conclude(row, &mut sim, &socket, path, what);
    sim.assert_deserted();
}

fn judge(row: &Row, path: Path, heard: &Heard, sim: &Sim, error: Option<&str>, what: &str) {
    assert_eq!(heard.pongs, row.pongs, "{what}: pongs");
    if path == Path::Json || row.end == End::Open {
        assert_eq!(heard.words, row.words, "{what}: words");
    } else {
        // Who closes behind a message may not hear it any more; it was published all the same.
        assert!(row.words.starts_with(&heard.words), "{what}: {heard:?}");
    }
    if path != Path::Json {
        assert_eq!(sim.history.head(), row.words.len() as u64, "{what}: publications");
    }
    assert_eq!(heard.errors, error.into_iter().collect::<Vec<_>>(), "{what}: errors");
    let code = |payload: &[u8]| payload.get(..2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    let expected = match row.end {
        End::Open => None,
        End::Failed(code) | End::Asked(code) => Some(Some(code)),
        End::Echoed(code) => Some(code),
    };
    assert_eq!(heard.close.as_deref().map(code), expected, "{what}: Close");
    if let Some(payload) = &heard.close {
        assert!(payload.len() <= 125 && payload.len() != 1, "{what}: {payload:?}");
        let reason = payload.get(2..).unwrap_or_default();
        assert!(std::str::from_utf8(reason).is_ok(), "{what}: {reason:?}");
    }
}

/// Who ends the stream, and that nothing means anything any more behind the end.
fn conclude(row: &Row, sim: &mut Sim, socket: &Ws, path: Path, what: &str) {
    let line = socket.line;
    let head = sim.history.head();
    assert!(!sim.is_closed(line), "{what}: dropped without a word");
    match row.end {
        End::Open => {
            assert!(!sim.lines[line].is_finished, "{what}: ended");
            sim.send(line, &frame(0x89, b"still there"));
            sim.settle();
            let frames = socket.frames(sim);
            assert_eq!(frames.len(), 1, "{what}: {frames:?}");
            assert_eq!((frames[0].opcode, &frames[0].payload[..]), (PONG, &b"still there"[..]));
            sim.close(line);
            sim.settle();
            assert!(sim.is_closed(line), "{what}: kept although its client has gone");
            return;
        }
        // RFC 6455 §7.1.1: the server ends the stream first, so that TIME_WAIT is here.
        End::Failed(_) | End::Echoed(_) => assert!(sim.lines[line].is_finished, "{what}: no end"),
        End::Asked(_) => {
            assert!(!sim.lines[line].is_finished, "{what}: its Close is waited for");
            let deadline = sim.now.mono_ms + 5_500;
            let is_ended = sim.pass_until(deadline, |sim| sim.lines[line].is_finished);
            assert!(is_ended, "{what}: no end in time");
        }
    }
    sim.send(line, &frame(0x81, path.say("too late").as_bytes()));
    sim.send(line, &frame(0x89, b"too late"));
    sim.settle();
    assert_eq!(socket.frames(sim), [], "{what}: an answer behind the end");
    assert_eq!(sim.history.head(), head, "{what}: published behind the end");
    assert!(!sim.is_closed(line), "{what}: closed over bytes on their way (RFC 9112 §9.6)");
    sim.finish(line);
    sim.settle();
    assert!(sim.is_closed(line), "{what}: both have ended");
}
