//! Server → client: every way of saying the same thing. One renderer per dialect; rendering is a pure
//! function of what is pushed and the dialect, so rendered bytes can be shared, and the rest of a
//! half-written push can be made again.

mod presence;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use presence::{Presence, write_connection};

use crate::cursor::{Cursor, Epoch};
use crate::json;
use crate::message::{Form, Publication};
use crate::wire::ws::{self, Opcode};

/// How pushes are written on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// WebSocket, a frame is a payload.
    WsRaw,
    /// WebSocket, a payload behind `id:` lines (`holdline.v1.meta`).
    WsMeta,
    /// WebSocket, one JSON object a frame.
    WsJson,
    /// The same while a later subscription catches up: each message says the safe position.
    WsJsonCursor,
    /// An event stream of one channel's payloads.
    SseRaw(Framing),
    /// An event stream of envelopes.
    SseJson(Framing),
    /// An element of a poll answer's `messages`.
    Poll,
}

/// How an event stream is delimited (RFC 9112 §6): a chunk per event, or by the connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// HTTP/1.1: one event, one chunk.
    Chunked,
    /// HTTP/1.0.
    Bare,
}

/// The size of a chunk comes first but is known last: room for four digits is left, closed or widened.
const CHUNK_ROOM: usize = 6;

/// Announced loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The channels that lost their place.
    pub channels: Vec<Arc<str>>,
    /// `epoch`, `trimmed` or `slow`.
    pub reason: &'static str,
    /// What was asked for, if it has the form of a cursor.
    pub since: Option<Cursor>,
    /// Where delivery of these channels goes on.
    pub resumed: Cursor,
    /// How long to wait before refetching state.
    pub spread_ms: u32,
}

impl Gap {
    /// Appends the gap object.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_fields(out);
        out.push(b'}');
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"channels\":[");
        for (number, channel) in self.channels.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            json::write_string(out, channel);
        }
        out.extend_from_slice(b"],\"reason\":\"");
        out.extend_from_slice(self.reason.as_bytes());
        out.extend_from_slice(b"\",\"since\":\"");
        if let Some(since) = &self.since {
            since.write(out);
        }
        out.extend_from_slice(b"\",\"resumed\":\"");
        self.resumed.write(out);
        out.extend_from_slice(b"\",\"spread_ms\":");
        json::write_number(out, u64::from(self.spread_ms));
    }

    /// Appends `reason=…; since=…; resumed=…`, for a header or a meta frame.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"reason=");
        out.extend_from_slice(self.reason.as_bytes());
        out.extend_from_slice(b"; since=");
        if let Some(since) = &self.since {
            since.write(out);
        }
        out.extend_from_slice(b"; resumed=");
        self.resumed.write(out);
    }
}

impl Dialect {
    /// Appends one publication.
    pub fn publication(self, out: &mut Vec<u8>, publication: &Publication, epoch: Epoch) {
        let id = Cursor { epoch, seq: publication.seq };
        match self {
            Self::WsRaw => ws::emit(out, opcode(publication), &publication.payload),
            Self::WsMeta => ws_frame(out, opcode(publication), publication.payload.len(), |out| {
                write_meta(out, publication, id);
            }),
            Self::WsJson | Self::WsJsonCursor => {
                ws_frame(out, Opcode::Text, publication.payload.len(), |out| {
                    out.extend_from_slice(b"{\"op\":\"message\",");
                    write_fields(out, publication, id);
                    if self == Self::WsJsonCursor {
                        out.extend_from_slice(b",\"cursor\":\"");
                        id.write(out);
                        out.push(b'"');
                    }
                    out.push(b'}');
                });
            }
            Self::SseRaw(framing) => {
                framing.write(out, |out| write_raw_event(out, publication, id))
            }
            Self::SseJson(framing) => framing.write(out, |out| {
                out.extend_from_slice(b"event: message\nid: ");
                id.write(out);
                out.extend_from_slice(b"\ndata: ");
                write_envelope(out, publication, id);
                out.extend_from_slice(b"\n\n");
            }),
            Self::Poll => write_envelope(out, publication, id),
        }
    }

    /// Appends what says that `cursor` is the position now, where the dialect can say it.
    pub fn heartbeat(self, out: &mut Vec<u8>, cursor: Cursor) {
        match self {
            Self::WsRaw | Self::Poll => {}
            Self::WsMeta => write_cursor_frame(out, cursor),
            Self::WsJson | Self::WsJsonCursor => ws_json(out, |out| {
                out.extend_from_slice(b"{\"op\":\"heartbeat\",\"cursor\":\"");
                cursor.write(out);
                out.extend_from_slice(b"\"}");
            }),
            Self::SseRaw(framing) | Self::SseJson(framing) => framing.write(out, |out| {
                out.extend_from_slice(b": heartbeat\nid: ");
                cursor.write(out);
                out.extend_from_slice(b"\n\n");
            }),
        }
    }

    /// Appends gaps that belong together. `id` is the position that a client may keep from them: only
    /// the last says it, so that a cut between two of them loses none.
    pub fn gaps(self, out: &mut Vec<u8>, gaps: &[Gap], id: Cursor) {
        let Some((last, others)) = gaps.split_last() else { return };
        others.iter().for_each(|gap| self.write_gap(out, gap, None));
        self.gap(out, last, id);
    }

    /// Appends a gap. `id` is the position that a client may keep from it.
    pub fn gap(self, out: &mut Vec<u8>, gap: &Gap, id: Cursor) {
        self.write_gap(out, gap, Some(id));
    }

    fn write_gap(self, out: &mut Vec<u8>, gap: &Gap, id: Option<Cursor>) {
        match self {
            // A plain raw WebSocket cannot be told: it is closed instead. A poll carries it in its head.
            Self::WsRaw | Self::Poll => {}
            Self::WsMeta => {
                ws_frame(out, Opcode::Text, 0, |out| {
                    out.extend_from_slice(b"gap: ");
                    gap.write_line(out);
                    out.extend_from_slice(b"\n\n");
                });
                write_cursor_frame(out, gap.resumed);
            }
            Self::WsJson | Self::WsJsonCursor => ws_json(out, |out| {
                out.extend_from_slice(b"{\"op\":\"gap\",");
                gap.write_fields(out);
                out.push(b'}');
            }),
            Self::SseRaw(framing) => sse_gap(out, framing, "holdline-gap", gap, id),
            Self::SseJson(framing) => sse_gap(out, framing, "gap", gap, id),
        }
    }

    /// Appends that a channel is live (only the JSON protocol says so).
    pub fn live(self, out: &mut Vec<u8>, channel: &str, cursor: Cursor) {
        if matches!(self, Self::WsJson | Self::WsJsonCursor) {
            ws_json(out, |out| {
                out.extend_from_slice(b"{\"op\":\"live\",\"channel\":");
                json::write_string(out, channel);
                out.extend_from_slice(b",\"cursor\":\"");
                cursor.write(out);
                out.extend_from_slice(b"\"}");
            });
        }
    }

    /// Appends that the server goes, and when to come back; an event stream ends with it.
    pub fn bye(self, out: &mut Vec<u8>, retry_ms: u32) {
        match self {
            Self::WsRaw | Self::WsMeta | Self::Poll => {}
            Self::WsJson | Self::WsJsonCursor => ws_json(out, |out| {
                out.extend_from_slice(b"{\"op\":\"bye\",\"code\":1012,\"retry_ms\":");
                json::write_number(out, u64::from(retry_ms));
                out.push(b'}');
            }),
            Self::SseRaw(framing) => {
                framing.write(out, |out| write_retry(out, retry_ms));
                framing.end(out);
            }
            Self::SseJson(framing) => {
                framing.write(out, |out| {
                    write_retry(out, retry_ms);
                    out.extend_from_slice(b"event: bye\ndata: {\"retry_ms\":");
                    json::write_number(out, u64::from(retry_ms));
                    out.extend_from_slice(b"}\n\n");
                });
                framing.end(out);
            }
        }
    }

    /// Whether the position of a client may be told by it at all.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::WsRaw | Self::WsMeta | Self::WsJson | Self::WsJsonCursor)
    }
}

impl Framing {
    /// Appends the first block of a stream: when to come back, and the position if it is safe to tell.
    pub fn first_block(self, out: &mut Vec<u8>, retry_ms: u32, id: Option<Cursor>) {
        self.write(out, |out| {
            out.extend_from_slice(b"retry: ");
            json::write_number(out, u64::from(retry_ms));
            if let Some(id) = id {
                out.extend_from_slice(b"\nid: ");
                id.write(out);
            }
            out.extend_from_slice(b"\n\n");
        });
    }

    /// Appends what ends the stream in an orderly way.
    pub fn end(self, out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }

    /// Appends what `body` writes as one chunk, or as it is.
    fn write(self, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        let (start, is_chunk) = (out.len(), self == Self::Chunked);
        if is_chunk {
            out.extend_from_slice(&[0; CHUNK_ROOM]);
        }
        body(out);
        if is_chunk {
            close_chunk(out, start);
        }
    }
}

/// Writes the size of the chunk that begins at `start`, and ends it.
#[inline(never)]
fn close_chunk(out: &mut Vec<u8>, start: usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut left = out.len() - start - CHUNK_ROOM;
    let mut size = [0; 2 * size_of::<usize>() + 2];
    let mut at = size.len() - 2;
    size[at..].copy_from_slice(b"\r\n");
    loop {
        at -= 1;
        size[at] = HEX[left % 16];
        left /= 16;
        if left == 0 {
            break;
        }
    }
    replace(out, start, CHUNK_ROOM, &size[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Puts `new` in the place of the `room` bytes from `start`.
#[inline(never)]
fn replace(out: &mut Vec<u8>, start: usize, room: usize, new: &[u8]) {
    let (end, len) = (start + room, out.len());
    let grown = len - room + new.len();
    if new.len() > room {
        out.resize(grown, 0);
    }
    if new.len() != room {
        out.copy_within(end..len, start + new.len());
        out.truncate(grown);
    }
    out[start..start + new.len()].copy_from_slice(new);
}

fn write_retry(out: &mut Vec<u8>, retry_ms: u32) {
    out.extend_from_slice(b"retry: ");
    json::write_number(out, u64::from(retry_ms));
    out.extend_from_slice(b"\n\n");
}

fn sse_gap(out: &mut Vec<u8>, framing: Framing, event: &str, gap: &Gap, id: Option<Cursor>) {
    framing.write(out, |out| {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.as_bytes());
        if let Some(id) = id {
            out.extend_from_slice(b"\nid: ");
            id.write(out);
        }
        out.extend_from_slice(b"\ndata: ");
        gap.write_json(out);
        out.extend_from_slice(b"\n\n");
    });
}

/// `id:`, `event:` if there is one, and the payload, a `data:` line for each line of it.
fn write_raw_event(out: &mut Vec<u8>, publication: &Publication, id: Cursor) {
    out.extend_from_slice(b"id: ");
    id.write(out);
    if publication.form == Form::Binary {
        // An event stream carries text only: binary goes as base64 under a name of its own.
        out.extend_from_slice(b"\nevent: binary\ndata: ");
        write_base64(out, &publication.payload);
        out.extend_from_slice(b"\n\n");
        return;
    }
    if let Some(event) = &publication.event {
        out.extend_from_slice(b"\nevent: ");
        out.extend_from_slice(event.as_bytes());
    }
    // WHATWG HTML §9.2.6: a line ends at CRLF, LF or CR; each would else end our field.
    let mut rest = &publication.payload[..];
    loop {
        let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        out.extend_from_slice(b"\ndata: ");
        out.extend_from_slice(&rest[..end]);
        if end == rest.len() {
            break;
        }
        let is_crlf = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(is_crlf)..];
    }
    out.extend_from_slice(b"\n\n");
}

fn write_meta(out: &mut Vec<u8>, publication: &Publication, id: Cursor) {
    out.extend_from_slice(b"id: ");
    id.write(out);
    if let Some(event) = &publication.event {
        out.extend_from_slice(b"\nevent: ");
        out.extend_from_slice(event.as_bytes());
    }
    if let Some(stated) = publication.stated_type() {
        out.extend_from_slice(b"\ncontent-type: ");
        out.extend_from_slice(stated.as_bytes());
    }
    out.extend_from_slice(b"\n\n");
    out.extend_from_slice(&publication.payload);
}

fn write_cursor_frame(out: &mut Vec<u8>, cursor: Cursor) {
    ws_frame(out, Opcode::Text, 0, |out| {
        out.extend_from_slice(b"cursor: ");
        cursor.write(out);
        out.extend_from_slice(b"\n\n");
    });
}

/// Appends a publication as one JSON object.
pub(crate) fn write_envelope(out: &mut Vec<u8>, publication: &Publication, id: Cursor) {
    out.push(b'{');
    write_fields(out, publication, id);
    out.push(b'}');
}

fn write_fields(out: &mut Vec<u8>, publication: &Publication, id: Cursor) {
    out.extend_from_slice(b"\"channel\":\"");
    out.extend_from_slice(publication.channel.as_bytes()); // its alphabet needs no escape
    out.extend_from_slice(b"\",\"id\":\"");
    id.write(out);
    out.extend_from_slice(b"\",\"time\":");
    json::write_number(out, publication.time_ms);
    if let Some(event) = &publication.event {
        out.extend_from_slice(b",\"event\":");
        json::write_string(out, event);
    }
    let implied = match publication.form {
        Form::Data => Some("application/json"),
        Form::Text => None,
        Form::Binary => Some("application/octet-stream"),
    };
    let media_type = publication.media_type.as_deref();
    if let Some(media_type) = media_type.filter(|given| Some(*given) != implied) {
        out.extend_from_slice(b",\"type\":");
        json::write_string(out, media_type);
    }
    write_payload(out, publication);
}

fn write_payload(out: &mut Vec<u8>, publication: &Publication) {
    match publication.form {
        Form::Data => {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(&publication.payload);
        }
        Form::Text => {
            out.extend_from_slice(b",\"text\":");
            // `Form::Text` was given to UTF-8 only.
            json::write_string(out, std::str::from_utf8(&publication.payload).unwrap_or(""));
        }
        Form::Binary => {
            out.extend_from_slice(b",\"b64\":\"");
            write_base64(out, &publication.payload);
            out.push(b'"');
        }
    }
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    out.truncate(start + written.unwrap_or(0));
}

fn opcode(publication: &Publication) -> Opcode {
    match publication.form {
        Form::Data | Form::Text => Opcode::Text,
        Form::Binary => Opcode::Binary,
    }
}

/// Appends a text frame of a JSON object that `body` writes.
pub fn ws_json(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    ws_frame(out, Opcode::Text, 0, body);
}

/// Appends a frame whose length is known only when `body` has written: room for the header that
/// `about` bytes would need is left and, if that was wrong, moved.
fn ws_frame(out: &mut Vec<u8>, opcode: Opcode, about: usize, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let room = if about + 128 > 0xffff { 10 } else { 4 };
    out.extend_from_slice(&[0; 10][..room]);
    body(out);
    close_frame(out, opcode, start, room);
}

/// Writes the header of the frame that begins at `start`, with `room` for it.
#[inline(never)]
fn close_frame(out: &mut Vec<u8>, opcode: Opcode, start: usize, room: usize) {
    let (mut header, end) = ([0; 10], out.len());
    ws::emit_header(out, opcode, end - start - room);
    let size = out.len() - end;
    header[..size].copy_from_slice(&out[end..]);
    out.truncate(end);
    replace(out, start, room, &header[..size]);
}

#[cfg(test)]
#[path = "dialect_tests.rs"]
mod tests;
