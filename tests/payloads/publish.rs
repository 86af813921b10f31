//! Publishers of all kinds. Each waits until its message has been taken.

use std::time::Duration;

use serde_json::Value;

use super::http::{Answer, Req, Shape, Wire};
use super::matter::{Way, object};
use super::net::Net;
use super::ws::{self, BINARY, CLOSE, Frame, TEXT};

const PATIENCE: Duration = Duration::from_secs(8);
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How a publication was answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// With its id.
    Id(String),
    /// Not at all, as on a raw WebSocket, which hears it itself.
    Heard,
    /// Refused with this status or Close, and this code.
    Refused(u16, String),
}

pub struct Publisher<'n, N: Net> {
    net: &'n N,
    channel: String,
}

impl<'n, N: Net> Publisher<'n, N> {
    pub fn new(net: &'n N, channel: &str) -> Self {
        Self { net, channel: channel.to_owned() }
    }

    pub fn publish(&self, way: Way, payload: &[u8]) -> Told {
        match way {
            Way::Body { line, media, chunked } => {
                let mut request = Req::new(&format!("{line} /channels/{}", self.channel));
                if let Some(media) = media {
                    request = request.field(format!("Content-Type: {media}"));
                }
                let request = match chunked {
                    true => request.chunked(chunks(payload)),
                    false => request.body(payload),
                };
                told(&self.ask(request))
            }
            Way::Ten => {
                let request = Req::new(&format!("POST /channels/{}", self.channel)).ten();
                told(&self.ask(request.body(payload)))
            }
            Way::Line(field) => {
                let lines = [object(&self.channel, payload, field), b"\n".to_vec()].concat();
                let answer = self.ask(Req::new("POST /publish").body(lines));
                assert_eq!(answer.status, 200, "{answer:?}");
                told_by(200, &answer.body)
            }
            Way::Object(field) => {
                let request = Req::new("POST /publish").field("Content-Type: application/json");
                told(&self.ask(request.body(object(&self.channel, payload, field))))
            }
            Way::Frame { is_text } => {
                let opcode = if is_text { TEXT } else { BINARY };
                let mut socket = self.socket(&format!("/channels/{}", self.channel));
                socket.send(&ws::frame(opcode, payload, KEY)).expect("sent");
                let frame = next_frame(&mut socket);
                if frame.opcode == CLOSE { refused(&frame) } else { Told::Heard }
            }
            Way::Command(field) => {
                let mut command = object(&self.channel, payload, field);
                command.splice(1..1, *b"\"op\":\"publish\",\"ref\":1,");
                let mut socket = self.socket("/ws");
                next_frame(&mut socket); // hello
                socket.send(&ws::frame(TEXT, &command, KEY)).expect("sent");
                let frame = next_frame(&mut socket);
                if frame.opcode == CLOSE { refused(&frame) } else { told_by(200, &frame.payload) }
            }
        }
    }

    /// Sends a request on a connection of its own.
    pub fn ask(&self, request: Req) -> Answer {
        let mut wire = self.net.open(PATIENCE + self.net.late());
        wire.send(&request.bytes()).expect("sent");
        wire.answer(Shape::Full).unwrap_or_else(|trouble| panic!("{trouble}"))
    }

    pub fn socket(&self, target: &str) -> Wire<N::Pipe> {
        let mut wire = self.net.open(PATIENCE + self.net.late());
        wire.send(&ws::upgrade(target, None)).expect("sent");
        let answer = wire.answer(Shape::Open).unwrap_or_else(|trouble| panic!("{trouble}"));
        assert_eq!(answer.status, 101, "{answer:?}");
        wire
    }
}

/// A body in chunks of any size, so that its own line ends stand anywhere in them.
fn chunks(payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() / 3).max(1);
    let mut out = Vec::new();
    for piece in payload.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// The next frame; leaves what stands behind it.
pub fn next_frame<P: super::http::Pipe>(wire: &mut Wire<P>) -> Frame {
    let mut bytes = Vec::new();
    loop {
        bytes.extend(wire.take_unread());
        if let Some(frame) = ws::take_frame(&mut bytes) {
            assert!(bytes.is_empty(), "more than one frame: {}", bytes.escape_ascii());
            return frame;
        }
        assert!(wire.read_more().unwrap_or_else(|trouble| panic!("{trouble}")), "the end");
    }
}

fn told(answer: &Answer) -> Told {
    if answer.status >= 400 {
        return told_by(answer.status, &answer.body);
    }
    assert!(matches!(answer.status, 201 | 202), "{answer:?}");
    told_by(200, &answer.body)
}

fn told_by(status: u16, answer: &[u8]) -> Told {
    let value: Value = serde_json::from_slice(answer).expect("JSON");
    match (value["id"].as_str(), value["error"].as_str().or_else(|| value["code"].as_str())) {
        (Some(id), None) => Told::Id(id.to_owned()),
        (None, Some(code)) => Told::Refused(status, code.to_owned()),
        _ => panic!("neither taken nor refused: {value}"),
    }
}

fn refused(frame: &Frame) -> Told {
    Told::Refused(frame.code().expect("a code"), String::new())
}
