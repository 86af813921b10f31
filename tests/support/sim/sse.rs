//! An event stream on its way through HTTP: chunks off, then the grammar.

pub use super::event_stream::Block;
use super::event_stream::Parser;
use super::http::take_chunks;

/// Takes bytes of a body in pieces of any size.
#[derive(Debug)]
pub struct Stream {
    is_chunked: bool,
    /// The last chunk has come.
    pub is_over: bool,
    parser: Parser,
}

impl Stream {
    pub fn new(is_chunked: bool) -> Self {
        Self { is_chunked, is_over: false, parser: Parser::new() }
    }

    /// Reads on; what is not a whole chunk stays in `bytes`.
    pub fn read(&mut self, bytes: &mut Vec<u8>) -> Vec<Block> {
        let mut text = Vec::new();
        if self.is_chunked {
            assert!(!self.is_over || bytes.is_empty(), "bytes behind the last chunk");
            self.is_over |= take_chunks(bytes, &mut text);
        } else {
            text.append(bytes);
        }
        let blocks = self.parser.read(&text);
        for block in &blocks {
            assert!(block.ignored.is_empty() && !block.is_mended, "{block:?}");
        }
        blocks
    }
}
