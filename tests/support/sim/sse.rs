//! An event stream as a browser reads it (WHATWG HTML §9.2.6).

use serde_json::Value;

use super::http::take_chunks;

/// What one empty line ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The last event id after it, if it set one.
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: Option<String>,
    pub comments: Vec<String>,
    pub retry: Option<u32>,
}

impl Block {
    #[track_caller]
    pub fn json(&self) -> Value {
        let data = self.data.as_deref().unwrap_or_else(|| panic!("no data in {self:?}"));
        serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {data:?}"))
    }

    /// The event's name, as a listener is called by.
    pub fn name(&self) -> &str {
        self.event.as_deref().unwrap_or("message")
    }
}

/// Takes bytes of a body in pieces of any size.
#[derive(Debug)]
pub struct Stream {
    is_chunked: bool,
    /// The last chunk has come.
    pub is_over: bool,
    text: Vec<u8>,
    block: Block,
    /// What the line before was not: a CR whose LF may follow.
    after_cr: bool,
}

impl Stream {
    pub fn new(is_chunked: bool) -> Self {
        let block = Block::default();
        Self { is_chunked, is_over: false, text: Vec::new(), block, after_cr: false }
    }

    /// Reads on; what is not a whole chunk stays in `bytes`.
    pub fn read(&mut self, bytes: &mut Vec<u8>) -> Vec<Block> {
        if self.is_chunked {
            assert!(!self.is_over || bytes.is_empty(), "bytes behind the last chunk");
            self.is_over |= take_chunks(bytes, &mut self.text);
        } else {
            self.text.append(bytes);
        }
        let mut blocks = Vec::new();
        while let Some(line) = self.line() {
            if !line.is_empty() {
                self.field(&line);
            } else if self.block != Block::default() {
                blocks.push(std::mem::take(&mut self.block));
            }
        }
        blocks
    }

    fn line(&mut self) -> Option<String> {
        if self.after_cr && self.text.first() == Some(&b'\n') {
            self.text.remove(0);
        }
        self.after_cr &= self.text.is_empty();
        let end = self.text.iter().position(|b| matches!(b, b'\r' | b'\n'))?;
        self.after_cr = self.text[end] == b'\r';
        let line = self.text.drain(..=end).take(end).collect();
        Some(String::from_utf8(line).expect("streams are UTF-8"))
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" => self.block.comments.push(value.to_owned()),
            "id" => self.block.id = Some(value.to_owned()),
            "event" => self.block.event = Some(value.to_owned()),
            "data" => match &mut self.block.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.block.data = Some(value.to_owned()),
            },
            "retry" => self.block.retry = value.parse().ok(),
            _ => panic!("a field that nobody knows: {line:?}"),
        }
    }
}
