//! Strangers: connections that send whole requests and frames, broken ones and anything else. The
//! engine survives them, what it says is well-formed, and how their bytes were cut changes nothing.

use holdline::{Config, Message};
use serde_json::Value;

use super::sim::clients::request;
use super::sim::sse::Stream;
use super::sim::{Chance, Pace, Sim, http, ws};

const TARGETS: &[&str] = &[
    "/channels/a",
    "/channels/a?since=earliest",
    "/channels/a?wait=5&since=latest",
    "/channels/%61?event=e&ttl=0",
    "/channels/!",
    "/events?channel=a&channel=b",
    "/events?channel=a&since=10m&gap=live",
    "/poll?channel=a&since=earliest",
    "/poll?channel=a",
    "/ws",
    "/ws?channel=a&since=earliest&heartbeat=10",
    "/publish",
    "/health",
    "/stats",
    "/stats/channels?match=a",
    "/",
    "*",
    "/nothing?since=bad",
];

const HEADERS: &[&str] = &[
    "",
    "",
    "Accept: text/event-stream\r\n",
    "Accept: text/html\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "Content-Type: application/json\r\n",
    "Content-Encoding: gzip\r\n",
    "Origin: http://localhost\r\n",
    "Origin: http://elsewhere\r\nAccess-Control-Request-Method: POST\r\n",
    "Last-Event-ID: k3J9xQ-42\r\n",
    "Idempotency-Key: k\r\n",
    "TTL: 1\r\n",
];

const TEXTS: &[&str] = &[
    "",
    "hello",
    r#"{"op":"subscribe","ref":1,"channels":["a","b"],"since":"earliest"}"#,
    r#"{"op":"subscribe","ref":2,"channel":"c"}"#,
    r#"{"op":"unsubscribe","ref":3,"channel":"a"}"#,
    r#"{"op":"publish","ref":4,"channel":"b","text":"x"}"#,
    r#"{"op":"publish","channel":"a","data":[1,{"y":null}],"idempotency_key":"k"}"#,
    r#"{"op":"ping","ref":5,"t":1}"#,
    r#"{"channel":"a","text":"x"}"#,
    "{\"channel\":\"a\",\"text\":\"x\"}\n\n{\"channels\":[\"b\",\"!\"],\"b64\":\"AA==\"}\n{",
    r#"{"op":"nothing"}"#,
    "[1",
    "5\r\nhello\r\n0\r\n\r\n",
];

/// What a stranger is answered, in what neither time nor others decide.
#[derive(Debug)]
struct Ear {
    line: usize,
    voice: Voice,
    heard: Vec<String>,
    /// A good answer said that it is the last one.
    is_dismissed: bool,
}

#[derive(Debug)]
enum Voice {
    Http,
    Ws,
    Stream(Box<Stream>),
    /// It asked for heads without bodies: where an answer ends is not for this reader to know.
    Unclear,
}

/// What the chosen bytes say is to happen.
#[derive(Clone, Debug)]
enum Act {
    Connect,
    Send(usize, Vec<u8>),
    Finish(usize),
    Reset(usize),
    Pass(u64),
    Publish(&'static str, Message),
    Clear,
}

/// Lives through what `data` says, with bytes as they come and in pieces, and compares.
///
/// # Panics
/// If a promise was broken, which would be a bug.
pub fn fuzz_strangers(data: &[u8]) {
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    let acts = acts(rest);
    let whole = live(&acts, Pace::Whole, first & 1 != 0);
    let pieces = live(&acts, Pace::Pieces(usize::from(first / 2) + 3), first & 1 != 0);
    let agree = whole.len() == pieces.len() && whole.iter().zip(&pieces).all(Ear::agrees);
    assert!(agree, "answers depend on how bytes were cut: {acts:?}\n{whole:?}\n{pieces:?}");
}

fn acts(data: &[u8]) -> Vec<Act> {
    let mut rng = Chance::from(data);
    let mut acts = vec![Act::Connect];
    let mut lines = 1;
    while !rng.is_used_up() && acts.len() < 60 {
        acts.push(match rng.u8(..16) {
            0 if lines < 6 => {
                lines += 1;
                Act::Connect
            }
            1 => Act::Finish(rng.usize(..lines)),
            2 => Act::Reset(rng.usize(..lines)),
            3 => Act::Pass(rng.u64(..65_000)),
            4 => Act::Publish(["a", "b"][rng.usize(..2)], Message::bytes(rng.take(4))),
            5 => Act::Clear,
            _ => Act::Send(rng.usize(..lines), piece(&mut rng)),
        });
    }
    acts
}

fn pick<'t>(rng: &mut Chance, of: &[&'t str]) -> &'t str {
    of[rng.usize(..of.len())]
}

/// Something that a client may send, perhaps with one byte changed or its end missing.
fn piece(rng: &mut Chance) -> Vec<u8> {
    let mut bytes = match rng.u8(..8) {
        0 => rng.take(24),
        1..4 => {
            let method = pick(rng, &["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"]);
            let (target, headers) = (pick(rng, TARGETS), pick(rng, HEADERS));
            request(method, target, headers, pick(rng, TEXTS).as_bytes())
        }
        4 => {
            let protocols =
                [None, Some("holdline.v1.json"), Some("holdline.v1.meta"), Some("x, y")];
            ws::upgrade(pick(rng, TARGETS), protocols[rng.usize(..protocols.len())])
        }
        5 => ws::frame(rng.u8(..16), &rng.take(3), [1, 2, 3, 4]),
        _ => ws::frame(ws::TEXT, pick(rng, TEXTS).as_bytes(), [1, 2, 3, 4]),
    };
    match rng.u8(..8) {
        0 => bytes.truncate(rng.usize(..=bytes.len().min(255))),
        1 if !bytes.is_empty() => {
            let at = rng.usize(..bytes.len().min(256));
            bytes[at] = rng.take(1).pop().unwrap_or(0);
        }
        _ => {}
    }
    bytes
}

fn live(acts: &[Act], pace: Pace, is_open: bool) -> Vec<Ear> {
    let config = Config {
        open: is_open,
        local_publish: true,
        history_messages: 3,
        message_bytes_max: 300,
        head_bytes_max: 700,
        channels_per_connection_max: 2,
        ..Config::default()
    };
    let mut sim = Sim::with(config, pace);
    let mut ears: Vec<Ear> = Vec::new();
    for act in acts {
        obey(act, &mut sim, &mut ears);
        sim.settle();
        ears.iter_mut().for_each(|ear| ear.listen(&mut sim));
    }
    for line in 0..sim.lines.len() {
        sim.close(line);
    }
    sim.settle();
    sim.pass(60_000);
    sim.assert_deserted();
    ears
}

fn obey(act: &Act, sim: &mut Sim, ears: &mut Vec<Ear>) {
    match act {
        Act::Connect => {
            let line = sim.connect(0);
            ears.push(Ear { line, voice: Voice::Http, heard: Vec::new(), is_dismissed: false });
        }
        Act::Send(line, bytes) => {
            if bytes.windows(4).any(|four| four == b"HEAD") {
                ears[*line].voice = Voice::Unclear;
            }
            sim.send(*line, bytes);
        }
        Act::Finish(line) => sim.finish(*line),
        Act::Reset(line) => sim.reset(*line),
        Act::Pass(ms) => sim.pass(*ms),
        Act::Publish(channel, message) => drop(sim.publish(channel, message.clone())),
        Act::Clear => sim.history.clear("a", sim.now),
    }
}

impl Ear {
    /// Whether two heard the same. Who sends too much ahead of an answer is dismissed with it, and
    /// how much had been read by then is for the cuts to say.
    fn agrees((one, other): (&Self, &Self)) -> bool {
        let is_prefix = one.heard.iter().zip(&other.heard).all(|(one, other)| one == other);
        let may_end = one.is_dismissed || other.is_dismissed;
        is_prefix && (may_end || one.heard.len() == other.heard.len())
    }

    /// Reads all that has come, which is whole: nothing moves.
    fn listen(&mut self, sim: &mut Sim) {
        let mut bytes = std::mem::take(&mut sim.lines[self.line].received);
        while matches!(self.voice, Voice::Http) && self.answer(&mut bytes) {}
        match &mut self.voice {
            Voice::Http => assert!(bytes.is_empty(), "half an answer: {bytes:?}"),
            Voice::Stream(stream) => {
                stream.read(&mut bytes);
                assert!(bytes.is_empty(), "half a chunk: {bytes:?}");
            }
            Voice::Ws => {
                while let Some(frame) = ws::take_frame(&mut bytes) {
                    self.heard.extend(reply(&frame));
                }
                assert!(bytes.is_empty(), "half a frame: {bytes:?}");
            }
            Voice::Unclear => {}
        }
    }

    fn answer(&mut self, bytes: &mut Vec<u8>) -> bool {
        let Some(head) = http::take_head(bytes) else { return false };
        let kind = head.header("content-type").unwrap_or("");
        if head.status == 101 {
            self.voice = Voice::Ws;
        } else if head.status == 200 && kind == "text/event-stream" {
            let is_chunked = head.header("transfer-encoding").is_some();
            self.voice = Voice::Stream(Box::new(Stream::new(is_chunked)));
        }
        let length = head.header("content-length").map_or(0, |n| n.parse().expect("a length"));
        let body: Vec<u8> = bytes.drain(..length).collect();
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        let status = match head.status {
            204 => 200, // whether a message had come by then
            201 => 202, // whether somebody listened by then
            status => status,
        };
        if status == 100 {
            return true; // left out where the body came together with the head (RFC 9110 §10.1.1)
        }
        self.is_dismissed |= status == 200 && head.is_closing();
        self.heard.push(format!("{status} {}", value["error"].as_str().unwrap_or("")));
        true
    }
}

/// What a frame says if it answers one; pushes come between answers as they like.
fn reply(frame: &ws::Frame) -> Option<String> {
    match frame.opcode {
        ws::CLOSE => Some(format!("close {:?}", frame.code())),
        ws::PONG => Some(format!("pong {:?}", frame.payload)),
        ws::TEXT => {
            let value: Value = serde_json::from_slice(&frame.payload).ok()?;
            let is_reply = matches!(value["op"].as_str(), Some("ok" | "error" | "pong"));
            is_reply.then(|| format!("{} {} {}", value["op"], value["ref"], value["code"]))
        }
        _ => None,
    }
}
