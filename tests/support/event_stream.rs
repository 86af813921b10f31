//! Event streams as a browser interprets them (WHATWG HTML §9.2.6), in pieces of any size.
//!
//! Knows the grammar and no server. Besides what an `EventSource` would dispatch it shows what that
//! passes over in silence: blocks without data, comments, fields that it ignores. So a server can be
//! judged by all that it writes.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::mem;

use serde_json::Value;

/// What one empty line ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The value that set the last event id.
    pub id: Option<String>,
    /// Empty if there was none, as for a listener.
    pub event: String,
    /// `None`: no `data` line, and nothing to dispatch.
    pub data: Option<String>,
    pub comments: Vec<String>,
    /// The reconnection time that it set.
    pub retry: Option<u64>,
    /// Lines that an `EventSource` ignores and that are no comments: unknown fields, ids with a
    /// NUL, reconnection times that are no numbers.
    pub ignored: Vec<String>,
    /// What an `EventSource` would name as the last event id from here on.
    pub last_id: String,
    /// Some of it was not UTF-8 and is replaced.
    pub is_mended: bool,
}

impl Block {
    /// The type of the event, as a listener is called by.
    pub fn name(&self) -> &str {
        if self.event.is_empty() { "message" } else { &self.event }
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        let data = self.data.as_deref().unwrap_or_default();
        serde_json::from_str(data).unwrap_or_else(|e| panic!("expected JSON ({e}), came {self:?}"))
    }
}

#[derive(Debug, Default)]
pub struct Parser {
    /// The line that has begun.
    line: Vec<u8>,
    /// It follows a CR, whose LF may come yet.
    after_cr: bool,
    /// The first line has ended; only that may begin with a byte order mark.
    is_begun: bool,
    block: Block,
    /// The block has any line.
    has_lines: bool,
}

impl Parser {
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on; the blocks that are whole by now. What stands behind the last empty line waits, and
    /// is never dispatched if the stream ends.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Block> {
        let mut blocks = Vec::new();
        for &byte in bytes {
            let is_second_half = mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
            match byte {
                b'\n' if is_second_half => {}
                b'\r' | b'\n' => blocks.extend(self.end_line()),
                _ => self.line.push(byte),
            }
        }
        blocks
    }

    /// Whether it stands between two blocks.
    pub fn is_between(&self) -> bool {
        self.line.is_empty() && !self.has_lines
    }

    fn end_line(&mut self) -> Option<Block> {
        let line = mem::take(&mut self.line);
        let is_first = !mem::replace(&mut self.is_begun, true);
        let bytes = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if is_first => rest,
            _ => &line[..],
        };
        let text = String::from_utf8_lossy(bytes);
        self.block.is_mended |= text.as_bytes() != bytes;
        if !text.is_empty() {
            self.has_lines = true;
            self.field(&text);
            return None;
        }
        if !mem::take(&mut self.has_lines) {
            return None;
        }
        let last_id = self.block.last_id.clone();
        Some(mem::replace(&mut self.block, Block { last_id, ..Block::default() }))
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let block = &mut self.block;
        let is_number = || !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        match name {
            "" => block.comments.push(value.to_owned()),
            "event" => block.event = value.to_owned(),
            "data" => match &mut block.data {
                Some(data) => *data = mem::take(data) + "\n" + value,
                None => block.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => {
                block.id = Some(value.to_owned());
                block.last_id = value.to_owned();
            }
            "retry" if is_number() => block.retry = Some(value.parse().unwrap_or(u64::MAX)),
            _ => block.ignored.push(line.to_owned()),
        }
    }
}
