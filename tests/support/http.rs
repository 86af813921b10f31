//! Raw HTTP/1.1 from the client's side: requests as bytes, answers taken apart strictly.
//!
//! Knows nothing of holdline's routes. An answer that breaks the grammar is `Trouble`, never
//! repaired: a lenient client would hide exactly what these tests look for.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How much of an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Head and body.
    Full,
    /// The answer to HEAD: a head whose framing fields announce nothing.
    Head,
    /// Only the head, of a stream that does not end.
    Open,
}

/// One final (or 101) answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub version: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The unix seconds at which it was read.
    pub read_at: u64,
}

/// Why no answer came.
#[derive(Debug)]
pub enum Trouble {
    /// Nothing within the connection's patience.
    Silence,
    /// The peer closed in order, before or in the middle of an answer.
    End,
    Reset(io::Error),
    Malformed(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silence => write!(f, "silence until the timeout"),
            Self::End => write!(f, "end of stream"),
            Self::Reset(error) => write!(f, "connection broken: {error}"),
            Self::Malformed(what) => write!(f, "malformed answer: {what}"),
        }
    }
}

impl Answer {
    /// All values of a field, in order; names match without regard to case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let hits = self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name));
        hits.map(|(_, value)| value.as_str())
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether a comma-separated field has this element, over all its lines.
    pub fn lists(&self, name: &str, element: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(element))
    }
}

/// What carries the bytes of one connection: a socket, or a pipe in memory.
pub trait Pipe {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Half-closes: the server reads an end of stream.
    fn finish(&mut self);

    /// Appends what one read gives; `false` at the end of the stream.
    fn read(&mut self, got: &mut Vec<u8>) -> Result<bool, Trouble>;

    /// Whether a read would not have to wait.
    fn is_readable(&mut self) -> bool;

    /// The time, in unix seconds.
    fn unix_seconds(&self) -> u64;
}

#[derive(Debug)]
pub struct Socket(TcpStream);

impl Socket {
    /// Connects; every read gives up after `patience`.
    pub fn open(addr: SocketAddr, patience: Duration) -> Self {
        let stream = TcpStream::connect(addr).expect("connects");
        stream.set_read_timeout(Some(patience)).expect("a read timeout");
        stream.set_write_timeout(Some(patience)).expect("a write timeout");
        stream.set_nodelay(true).expect("nodelay");
        Self(stream)
    }
}

impl Pipe for Socket {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn finish(&mut self) {
        // A peer that is gone already has seen its end.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    fn read(&mut self, got: &mut Vec<u8>) -> Result<bool, Trouble> {
        let mut room = [0; 16 * 1024];
        loop {
            match self.0.read(&mut room) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    got.extend_from_slice(&room[..n]);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Err(Trouble::Silence);
                }
                Err(error) => return Err(Trouble::Reset(error)),
            }
        }
    }

    fn is_readable(&mut self) -> bool {
        let _ = self.0.set_nonblocking(true);
        let came = !matches!(self.0.peek(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock);
        let _ = self.0.set_nonblocking(false);
        came
    }

    fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}

/// A connection that remembers all it received.
#[derive(Debug)]
pub struct Wire<P = Socket> {
    pipe: P,
    got: Vec<u8>,
    at: usize,
    continues: usize,
}

impl<P: Pipe> Wire<P> {
    pub fn over(pipe: P) -> Self {
        Self { pipe, got: Vec::new(), at: 0, continues: 0 }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pipe.send(bytes)
    }

    pub fn finish(&mut self) {
        self.pipe.finish();
    }

    /// All bytes received so far.
    pub fn received(&self) -> &[u8] {
        &self.got
    }

    /// How many `100 Continue` came before the answers read so far.
    pub fn continues(&self) -> usize {
        self.continues
    }

    /// Reads once; `false` at the end of the stream.
    fn fill(&mut self) -> Result<bool, Trouble> {
        self.pipe.read(&mut self.got)
    }

    fn need(&mut self) -> Result<(), Trouble> {
        if self.fill()? { Ok(()) } else { Err(Trouble::End) }
    }

    /// Takes the bytes up to and with the next `mark`.
    fn take_until(&mut self, mark: &[u8]) -> Result<Vec<u8>, Trouble> {
        loop {
            let rest = &self.got[self.at..];
            if let Some(i) = rest.windows(mark.len()).position(|w| w == mark) {
                let taken = rest[..i + mark.len()].to_vec();
                self.at += taken.len();
                return Ok(taken);
            }
            self.need()?;
        }
    }

    fn take(&mut self, n: usize) -> Result<Vec<u8>, Trouble> {
        while self.got.len() - self.at < n {
            self.need()?;
        }
        self.at += n;
        Ok(self.got[self.at - n..self.at].to_vec())
    }

    fn head(&mut self) -> Result<Answer, Trouble> {
        let head = self.take_until(b"\r\n\r\n")?;
        parse_head(&head).map_err(Trouble::Malformed)
    }

    /// Waits for one `100 Continue`, and nothing else.
    pub fn await_continue(&mut self) -> Result<(), Trouble> {
        let answer = self.head()?;
        if answer.status != 100 {
            return Err(Trouble::Malformed(format!("{} instead of 100 Continue", answer.status)));
        }
        self.continues += 1;
        Ok(())
    }

    /// The next final answer (or 101); interim ones are counted and skipped.
    pub fn answer(&mut self, shape: Shape) -> Result<Answer, Trouble> {
        let mut answer = self.head()?;
        while answer.status == 100 {
            self.continues += 1;
            answer = self.head()?;
        }
        answer.read_at = self.pipe.unix_seconds();
        let bare = matches!(answer.status, 101 | 204 | 304);
        if shape == Shape::Full && !bare {
            answer.body = self.body(&answer)?;
        }
        Ok(answer)
    }

    fn body(&mut self, answer: &Answer) -> Result<Vec<u8>, Trouble> {
        // RFC 9112 §6.3: chunked, else the length, else all until the close.
        if answer.lists("transfer-encoding", "chunked") {
            return self.chunks();
        }
        if let Some(length) = answer.field("content-length") {
            let digits = length.bytes().all(|b| b.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits);
            let bad = || Trouble::Malformed("Content-Length is no number".to_owned());
            return self.take(length.ok_or_else(bad)?);
        }
        while self.fill()? {}
        let rest = self.got[self.at..].to_vec();
        self.at = self.got.len();
        Ok(rest)
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        loop {
            let line = self.take_until(b"\r\n")?;
            let text = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
            let size = usize::from_str_radix(&text, 16)
                .map_err(|_| Trouble::Malformed(format!("chunk size {text:?}")))?;
            body.extend_from_slice(&self.take(size)?);
            // The last chunk is followed by the empty trailer section: the same two bytes.
            if self.take(2)? != b"\r\n" {
                return Err(Trouble::Malformed("no CRLF after a chunk".to_owned()));
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// Waits for the end of the stream; whatever else comes is returned.
    pub fn drain(&mut self) -> Result<Vec<u8>, Trouble> {
        while self.fill()? {}
        let rest = self.got[self.at..].to_vec();
        self.at = self.got.len();
        Ok(rest)
    }

    /// Whether anything came that was not read yet; does not wait.
    pub fn is_answered(&mut self) -> bool {
        self.pipe.is_readable() || !self.unread().is_empty()
    }

    /// The first block of an event stream: one chunk, or what comes up to an empty line.
    pub fn block(&mut self, chunked: bool) -> Result<String, Trouble> {
        let block = if chunked {
            let size = self.take_until(b"\r\n")?;
            let size = String::from_utf8_lossy(&size[..size.len() - 2]).into_owned();
            let bad = || Trouble::Malformed(format!("chunk size {size:?}"));
            let size = usize::from_str_radix(&size, 16).map_err(|_| bad())?;
            self.take(size)?
        } else {
            self.take_until(b"\n\n")?
        };
        String::from_utf8(block).map_err(|_| Trouble::Malformed("a block beyond UTF-8".to_owned()))
    }

    /// Reads once more of what is no HTTP answer; `false` at the end of the stream.
    pub fn read_more(&mut self) -> Result<bool, Trouble> {
        self.fill()
    }

    /// Takes the bytes that came but belong to no answer that was read.
    pub fn take_unread(&mut self) -> Vec<u8> {
        let rest = self.unread().to_vec();
        self.at = self.got.len();
        rest
    }

    /// Bytes that came but belong to no answer that was read.
    pub fn unread(&self) -> &[u8] {
        &self.got[self.at..]
    }
}

/// Parses a response head, its final empty line included (RFC 9112 §4, §5).
fn parse_head(head: &[u8]) -> Result<Answer, String> {
    let text = std::str::from_utf8(head).map_err(|_| "the head is not ASCII".to_owned())?;
    if let Some(bad) = text.bytes().find(|b| !matches!(b, b' '..=b'~' | b'\r' | b'\n' | b'\t')) {
        return Err(format!("byte {bad:#04x} in the head"));
    }
    let text = text.strip_suffix("\r\n\r\n").unwrap_or(text);
    let mut lines = text.split("\r\n");
    let mut answer = parse_status(lines.next().unwrap_or(""))?;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("field line {line:?}"))?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(format!("field name {name:?}"));
        }
        if value.contains(['\r', '\n']) {
            return Err(format!("a bare CR or LF in field {name}"));
        }
        answer.fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok(answer)
}

fn parse_status(line: &str) -> Result<Answer, String> {
    let bad = || format!("status line {line:?}");
    let (version, rest) = line.split_once(' ').ok_or_else(bad)?;
    // RFC 9112 §4: the SP after the code stays even where the reason is empty.
    let (code, _reason) = rest.split_once(' ').ok_or_else(bad)?;
    let digits = code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit());
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") || !digits || line.contains(['\r', '\n']) {
        return Err(bad());
    }
    let status = code.parse().map_err(|_| bad())?;
    Ok(Answer { status, version: version.to_owned(), ..Answer::default() })
}

/// A request under construction: its bytes, with nothing added that was not asked for.
#[derive(Clone, Debug)]
pub struct Req {
    line: String,
    host: Option<String>,
    fields: Vec<Vec<u8>>,
    body: Vec<u8>,
}

impl Req {
    /// A request by its method and target, with `Host: localhost`.
    pub fn new(method_target: &str) -> Self {
        Self {
            line: format!("{method_target} HTTP/1.1"),
            host: Some("localhost".to_owned()),
            fields: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Speaks HTTP/1.0.
    pub fn ten(mut self) -> Self {
        let end = self.line.len() - 1;
        self.line.replace_range(end.., "0");
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    pub fn no_host(mut self) -> Self {
        self.host = None;
        self
    }

    /// Adds a field line, without its CRLF.
    pub fn field(mut self, line: impl AsRef<[u8]>) -> Self {
        self.fields.push(line.as_ref().to_vec());
        self
    }

    /// Adds `Content-Length` and a body.
    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        let length = format!("Content-Length: {}", body.as_ref().len());
        self.field(length).raw(body)
    }

    /// Adds `Transfer-Encoding: chunked` and these bytes, which are the chunks.
    pub fn chunked(self, chunks: impl AsRef<[u8]>) -> Self {
        self.field("Transfer-Encoding: chunked").raw(chunks)
    }

    /// Adds bytes after the head; no field announces them.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.body.extend_from_slice(bytes.as_ref());
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        let mut out = self.line.into_bytes();
        out.extend_from_slice(b"\r\n");
        if let Some(host) = self.host {
            out.extend_from_slice(format!("Host: {host}\r\n").as_bytes());
        }
        for field in self.fields {
            out.extend_from_slice(&field);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

impl From<Req> for Vec<u8> {
    fn from(request: Req) -> Self {
        request.bytes()
    }
}

/// Bytes as a reader of a failure wants them: escaped, cut in the middle when long.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 900;
    if bytes.len() <= SHOWN_MAX {
        return bytes.escape_ascii().to_string();
    }
    let (head, tail) = (&bytes[..SHOWN_MAX * 2 / 3], &bytes[bytes.len() - SHOWN_MAX / 3..]);
    let left_out = bytes.len() - head.len() - tail.len();
    format!("{} …{left_out} bytes… {}", head.escape_ascii(), tail.escape_ascii())
}
