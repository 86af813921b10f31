//! WebSocket frames as a client writes and reads them (RFC 6455 §5).

use serde_json::Value;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// One frame of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.opcode, TEXT, "{self:?} is no text");
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The code of a close.
    pub fn code(&self) -> Option<u16> {
        let code = self.payload.get(..2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        if self.opcode == CLOSE { code } else { None }
    }
}

/// Takes a frame off the front, if all of it is there.
pub fn take_frame(bytes: &mut Vec<u8>) -> Option<Frame> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "a server's frames are whole, without reserved bits");
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (len, at) = match second {
        126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize, 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        len => (len as usize, 2),
    };
    assert!(at == 2 || len > if at == 4 { 125 } else { 0xffff }, "the shortest length");
    let payload = bytes.get(at..at + len)?.to_vec();
    bytes.drain(..at + len);
    Some(Frame { opcode: first & 0x0f, payload })
}

/// A client's frame.
pub fn frame(opcode: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// A client's close.
pub fn close(code: u16, key: [u8; 4]) -> Vec<u8> {
    frame(CLOSE, &code.to_be_bytes(), key)
}

/// The request that asks for a WebSocket.
pub fn upgrade(target: &str, protocol: Option<&str>) -> Vec<u8> {
    let protocol =
        protocol.map_or(String::new(), |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
    )
    .into_bytes()
}

/// What the server answers to the key of [`upgrade`] (RFC 6455 §1.3).
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
