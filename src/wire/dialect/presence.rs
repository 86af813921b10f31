//! What watchers of a channel are told about who listens to it.

use super::{Dialect, Framing, ws_json};
use crate::json;

/// A change of who listens. It has no position: none is named, and none is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A connection has begun to listen.
    Join(u64),
    /// A connection listens no more.
    Leave(u64),
    /// Changes were not told one by one; whether it stays so.
    Untold {
        /// They still are not.
        more: bool,
    },
}

impl Presence {
    /// Appends the object.
    pub fn write_json(self, out: &mut Vec<u8>, channel: &str) {
        let op: &[u8] = match self {
            Self::Join(_) => b"join",
            Self::Leave(_) => b"leave",
            Self::Untold { .. } => b"presence",
        };
        out.extend_from_slice(b"{\"op\":\"");
        out.extend_from_slice(op);
        out.extend_from_slice(b"\",\"channel\":");
        json::write_string(out, channel);
        match self {
            Self::Join(connection) | Self::Leave(connection) => {
                out.extend_from_slice(b",\"connection\":\"");
                write_connection(out, connection);
                out.extend_from_slice(b"\",\"user\":null}");
            }
            Self::Untold { more } => {
                out.extend_from_slice(b",\"more\":");
                out.extend_from_slice(if more { b"true}" } else { b"false}" });
            }
        }
    }
}

impl Dialect {
    /// Appends a change of who listens, where the dialect can say it. On an event stream it has no
    /// `id`, so that the client's position stays what it is.
    pub fn presence(self, out: &mut Vec<u8>, channel: &str, news: Presence) {
        match self {
            // Frames of a raw WebSocket are payloads.
            Self::WsRaw | Self::WsMeta => {}
            Self::WsJson | Self::WsJsonCursor => ws_json(out, |out| news.write_json(out, channel)),
            Self::SseRaw(framing) => sse(out, framing, b"holdline-presence", channel, news),
            Self::SseJson(framing) => sse(out, framing, b"presence", channel, news),
            Self::Poll => news.write_json(out, channel),
        }
    }
}

fn sse(out: &mut Vec<u8>, framing: Framing, event: &[u8], channel: &str, news: Presence) {
    framing.write(out, |out| {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event);
        out.extend_from_slice(b"\ndata: ");
        news.write_json(out, channel);
        out.extend_from_slice(b"\n\n");
    });
}

/// Appends the name of a connection: 16 hex digits.
pub fn write_connection(out: &mut Vec<u8>, connection: u64) {
    out.extend_from_slice(format!("{connection:016x}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(dialect: Dialect, news: Presence) -> String {
        let mut out = Vec::new();
        dialect.presence(&mut out, "news", news);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn each_dialect_says_who_came_and_went() {
        let join = r#"{"op":"join","channel":"news","connection":"00000000000000c8","user":null}"#;
        let mut out = Vec::new();
        Dialect::WsJson.presence(&mut out, "news", Presence::Join(0xc8));
        assert_eq!(out, [&[0x81, join.len() as u8], join.as_bytes()].concat());
        assert_eq!(told(Dialect::Poll, Presence::Join(0xc8)), join);
        let block = format!("event: presence\ndata: {join}\n\n");
        assert_eq!(told(Dialect::SseJson(Framing::Bare), Presence::Join(0xc8)), block);
        let raw = told(Dialect::SseRaw(Framing::Chunked), Presence::Untold { more: true });
        let block = "event: holdline-presence\n\
                     data: {\"op\":\"presence\",\"channel\":\"news\",\"more\":true}\n\n";
        assert_eq!(raw, format!("{:x}\r\n{block}\r\n", block.len()));
        let leave = told(Dialect::Poll, Presence::Leave(u64::MAX));
        assert_eq!(
            leave,
            r#"{"op":"leave","channel":"news","connection":"ffffffffffffffff","user":null}"#
        );
    }

    #[test]
    fn frames_that_are_payloads_say_nothing() {
        for dialect in [Dialect::WsRaw, Dialect::WsMeta] {
            assert_eq!(told(dialect, Presence::Join(1)), "");
        }
    }
}
