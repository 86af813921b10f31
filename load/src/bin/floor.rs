//! What the kernel allows: a bare loop that finds the end of each request, writes ready bytes, one
//! write a line, and does nothing else that a server does: no limits, no ids, no heartbeats, no
//! refusals. What a server reaches is told as a share of this.
//!
//! ```text
//! holdline-floor http --port 7071    # WebSocket echo on /echo; /ws, /sse, /poll listen, POST publishes
//! holdline-floor past --port 7071    # the same, and keeps what is published: /ws?since=, /sse?since=, /poll?since=
//! holdline-floor tcp --port 7072     # sends back whatever comes
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags};

/// As long as this project's own answers are, so that both write the same bytes.
const HEAD: &str = "Server: holdline\r\nDate: Sat, 28 Nov 2026 21:55:38 GMT\r\n\
    Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n";
const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// Publications that a poll may come back for.
const KEPT: usize = 4_096;
/// One answer to a poll has at most so many.
const POLLED: usize = 100;
const ACCEPTED: usize = 64;
const LISTENER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Request,
    Tcp,
    Echo,
    Ws,
    Sse,
    Waiting,
    /// Both have said Close: its end is awaited (RFC 6455 §7.1.1).
    Over,
}

#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    kind: Kind,
    unread: Vec<u8>,
    unsent: Vec<u8>,
    /// How far a poll has got.
    seen: u64,
}

struct Floor {
    epoll: OwnedFd,
    listener: TcpListener,
    first: Kind,
    lines: Vec<Option<Line>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    out: Vec<u8>,
    /// Published during this read.
    news: Vec<Vec<u8>>,
    past: Past,
    listening: Listening,
}

/// What has been published, for polls that come back for it, and for whoever asks `since`.
#[derive(Debug, Default)]
struct Past {
    /// Also while nobody listens; the answer to a publication tells its number then.
    is_asked_for: bool,
    kept: VecDeque<Vec<u8>>,
    /// The number of the newest.
    head: u64,
    /// The bytes that were made last, and of what: those who come back at once mostly want the same.
    ready: (Option<(Kind, u64, u64)>, Vec<u8>),
}

/// How many lines there are of each kind that something is written to. Nothing is made for nobody.
#[derive(Debug, Default)]
struct Listening {
    ws: usize,
    sse: usize,
    /// That have ever polled.
    poll: usize,
}

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (first, port) = match words[..] {
        ["tcp", "--port", port] => (Kind::Tcp, port),
        ["http" | "past", "--port", port] => (Kind::Request, port),
        _ => {
            eprintln!("holdline-floor http|past|tcp --port PORT");
            std::process::exit(2);
        }
    };
    let Ok(port) = port.parse() else {
        eprintln!("holdline-floor: {port} is no port");
        std::process::exit(2);
    };
    let mut floor = Floor::new(first, port)?;
    floor.past.is_asked_for = words[0] == "past";
    floor.run()
}

impl Floor {
    fn new(first: Kind, port: u16) -> io::Result<Self> {
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current = limit.maximum;
        // With fewer descriptors it serves fewer.
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        net::listen(&listener, 4_096)?;
        net::sockopt::set_tcp_nodelay(&listener, true)?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), IN)?;
        println!("listening on http://{}", listener.local_addr()?);
        Ok(Self {
            epoll,
            listener,
            first,
            lines: Vec::new(),
            free: Vec::new(),
            scratch: vec![0; 256 * 1024],
            out: Vec::new(),
            news: Vec::new(),
            past: Past::default(),
            listening: Listening::default(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(1_024);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let (data, flags) = ({ event.data }.u64(), { event.flags });
                if data == LISTENER {
                    self.accept()?;
                    continue;
                }
                let index = data as usize;
                let mut alive = true;
                if flags.contains(epoll::EventFlags::OUT) {
                    alive = self.flush(index);
                }
                if alive && flags.intersects(IN.union(epoll::EventFlags::HUP)) {
                    alive = self.read(index);
                }
                if !alive {
                    self.end(index);
                }
                self.fan_out();
            }
        }
    }

    fn end(&mut self, index: usize) {
        if let Some(line) = self.lines[index].take() {
            self.listening.ws -= usize::from(line.kind == Kind::Ws);
            self.listening.sse -= usize::from(line.kind == Kind::Sse);
            self.free.push(index);
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTED {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let Ok(socket) = net::accept_with(&self.listener, flags) else { return Ok(()) };
            let index = self.free.pop().unwrap_or(self.lines.len());
            epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(index as u64), IN)?;
            let (unread, unsent) = (Vec::new(), Vec::new());
            let line = Line { socket, kind: self.first, unread, unsent, seen: self.past.head };
            match self.lines.get_mut(index) {
                Some(free) => *free = Some(line),
                None => self.lines.push(Some(line)),
            }
        }
        Ok(())
    }

    /// One read, one write. False: it is over.
    fn read(&mut self, index: usize) -> bool {
        let Some(line) = &mut self.lines[index] else { return true };
        let kept = line.unread.len();
        if self.scratch.len() < kept + 128 * 1024 {
            self.scratch.resize(kept * 2 + 256 * 1024, 0);
        }
        self.scratch[..kept].copy_from_slice(&line.unread);
        let came = match net::recv(&line.socket, &mut self.scratch[kept..], RecvFlags::empty()) {
            Ok((0, _)) => return false,
            Ok((came, _)) => came,
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) => return false,
        };
        let bytes = &self.scratch[..kept + came];
        self.out.clear();
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let took = match line.kind {
                Kind::Tcp => {
                    self.out.extend_from_slice(rest);
                    rest.len()
                }
                Kind::Echo | Kind::Ws => echo(line, rest, &mut self.out, &mut self.listening),
                Kind::Over => rest.len(),
                Kind::Request => {
                    let (news, past) = (&mut self.news, &mut self.past);
                    request(line, rest, &mut self.out, news, &mut self.listening, past)
                }
                Kind::Sse | Kind::Waiting => 0,
            };
            if line.kind == Kind::Waiting && line.seen < self.past.head {
                line.seen = self.past.write(Kind::Waiting, line.seen, &mut self.out);
                line.kind = Kind::Request;
            }
            if took == 0 {
                break;
            }
            used += took;
        }
        line.unread.clear();
        line.unread.extend_from_slice(&bytes[used..]);
        let out = std::mem::take(&mut self.out);
        let alive = write(&self.epoll, line, index, &out);
        if line.kind == Kind::Over && !out.is_empty() {
            // Whoever has gone already need not be told.
            let _ = net::shutdown(&line.socket, net::Shutdown::Write);
        }
        self.out = out;
        alive
    }

    /// What was published goes to every line, one write each.
    fn fan_out(&mut self) {
        if self.news.is_empty() {
            return;
        }
        let (mut ws, mut sse, mut poll) = (Vec::new(), Vec::new(), Vec::new());
        if self.listening.ws > 0 {
            self.news.iter().for_each(|payload| frame(0x81, payload, &mut ws));
        }
        if self.listening.sse > 0 {
            self.news.iter().for_each(|payload| event(payload, &mut sse));
        }
        if self.listening.poll > 0 {
            polled(self.news.iter(), &mut poll);
        }
        self.past.head += self.news.len() as u64;
        let mut gone = Vec::new();
        for (index, slot) in self.lines.iter_mut().enumerate() {
            let Some(line) = slot else { continue };
            let bytes = match line.kind {
                Kind::Ws => &ws,
                Kind::Sse => &sse,
                Kind::Waiting => {
                    (line.kind, line.seen) = (Kind::Request, self.past.head);
                    &poll
                }
                Kind::Request | Kind::Tcp | Kind::Echo | Kind::Over => continue,
            };
            if !write(&self.epoll, line, index, bytes) {
                gone.push(index);
            }
        }
        gone.into_iter().for_each(|index| self.end(index));
        if self.listening.poll > 0 || self.past.is_asked_for {
            self.past.keep(self.news.drain(..));
        }
        self.news.clear();
    }

    fn flush(&mut self, index: usize) -> bool {
        let Some(line) = &mut self.lines[index] else { return true };
        let unsent = std::mem::take(&mut line.unsent);
        let alive = write(&self.epoll, line, index, &unsent);
        alive && (!line.unsent.is_empty() || watch(&self.epoll, line, index, IN))
    }
}

const IN: epoll::EventFlags = epoll::EventFlags::IN;

/// Writes, or keeps what does not go. False: it is over.
fn write(epoll: &OwnedFd, line: &mut Line, index: usize, bytes: &[u8]) -> bool {
    if bytes.is_empty() {
        return true;
    }
    if !line.unsent.is_empty() {
        line.unsent.extend_from_slice(bytes);
        return true;
    }
    let sent = match net::send(&line.socket, bytes, SendFlags::NOSIGNAL) {
        Ok(sent) => sent,
        Err(Errno::AGAIN | Errno::INTR) => 0,
        Err(_) => return false,
    };
    if sent == bytes.len() {
        return true;
    }
    line.unsent.extend_from_slice(&bytes[sent..]);
    watch(epoll, line, index, IN | epoll::EventFlags::OUT)
}

fn watch(epoll: &OwnedFd, line: &Line, index: usize, wanted: epoll::EventFlags) -> bool {
    let data = epoll::EventData::new_u64(index as u64);
    epoll::modify(epoll, &line.socket, data, wanted).is_ok()
}

/// A request, found by its empty line and its length. Returns its bytes, 0 if it is not all there.
fn request(
    line: &mut Line,
    bytes: &[u8],
    out: &mut Vec<u8>,
    news: &mut Vec<Vec<u8>>,
    listening: &mut Listening,
    past: &mut Past,
) -> usize {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return 0 };
    let head = &bytes[..end + 4];
    if head.starts_with(b"POST") {
        let length = memchr::memmem::find(head, b"Content-Length: ");
        let length = length.map_or(0, |at| number(&head[at + 16..]) as usize);
        let Some(body) = bytes.get(head.len()..head.len() + length) else { return 0 };
        if past.is_asked_for || listening.ws + listening.sse + listening.poll > 0 {
            news.push(body.to_vec());
        }
        out.extend_from_slice(b"HTTP/1.1 202 Accepted\r\n");
        out.extend_from_slice(HEAD.as_bytes());
        if past.is_asked_for {
            let body = format!("{{\"id\":\"{}\"}}", past.head + news.len() as u64);
            out.extend_from_slice(
                format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
            );
            return head.len() + length;
        }
        out.extend_from_slice(
            b"Content-Length: 56\r\nCache-Control: no-store\r\nVary: Origin\r\n\r\n\
            {\"id\":\"AqiAsWKi-7927\",\"channel\":\"bench\",\"subscribers\":0}",
        );
        return head.len() + length;
    }
    let since = memchr::memmem::find(head, b"?since=").map(|at| number(&head[at + 7..]));
    line.seen = since.unwrap_or(line.seen);
    if head.starts_with(b"GET /poll") {
        line.kind = Kind::Waiting;
        listening.poll += 1;
    } else if head.starts_with(b"GET /sse") {
        line.kind = Kind::Sse;
        listening.sse += 1;
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        out.extend_from_slice(HEAD.as_bytes());
        out.extend_from_slice(b"\r\n");
    } else {
        line.kind = if head.starts_with(b"GET /echo") { Kind::Echo } else { Kind::Ws };
        listening.ws += usize::from(line.kind == Kind::Ws);
        out.extend_from_slice(UPGRADED.as_bytes());
    }
    if let (Some(since), Kind::Ws | Kind::Sse) = (since, line.kind) {
        past.write(line.kind, since, out);
    }
    head.len()
}

/// The digits at the beginning.
fn number(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

impl Past {
    fn keep(&mut self, news: impl Iterator<Item = Vec<u8>>) {
        self.kept.extend(news);
        let gone = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..gone);
    }

    /// Writes what came after `since`, to a poll no more than one answer has; how far it is then.
    fn write(&mut self, kind: Kind, since: u64, out: &mut Vec<u8>) -> u64 {
        let first = self.head - self.kept.len() as u64;
        let from = since.saturating_sub(first) as usize;
        let left = self.kept.len().saturating_sub(from);
        let many = if kind == Kind::Waiting { left.min(POLLED) } else { left };
        let key = Some((kind, since, self.head));
        let (made, ready) = &mut self.ready;
        if *made != key {
            (*made, _) = (key, ready.clear());
            let payloads = self.kept.range(from..from + many);
            match kind {
                Kind::Waiting => polled(payloads, ready),
                Kind::Sse => payloads.for_each(|payload| event(payload, ready)),
                _ => payloads.for_each(|payload| frame(0x81, payload, ready)),
            }
        }
        out.extend_from_slice(ready);
        since.max(first) + many as u64
    }
}

/// Unmasks a frame and writes it back. Returns its bytes, 0 if it is not all there.
fn echo(line: &mut Line, bytes: &[u8], out: &mut Vec<u8>, listening: &mut Listening) -> usize {
    let [first, second, ..] = *bytes else { return 0 };
    let (head, length) = match second & 0x7f {
        126 if bytes.len() >= 4 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
        127 if bytes.len() >= 10 => {
            let length = bytes[2..10].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
            (10, length as usize)
        }
        126 | 127 => return 0,
        length => (2, usize::from(length)),
    };
    let Some(masked) = bytes.get(head + 4..head + 4 + length) else { return 0 };
    let is_close = first & 0x0f == 8;
    if line.kind == Kind::Echo || is_close {
        frame_head(first, length, out);
        let start = out.len();
        out.extend_from_slice(masked);
        unmask([bytes[head], bytes[head + 1], bytes[head + 2], bytes[head + 3]], &mut out[start..]);
    }
    if is_close {
        listening.ws -= usize::from(line.kind == Kind::Ws);
        line.kind = Kind::Over;
    }
    head + 4 + length
}

fn unmask(mask: [u8; 4], bytes: &mut [u8]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    let rest = chunks.into_remainder().iter_mut();
    rest.zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

fn event(payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"id: AqiAsWKi-7927\ndata: ");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\n\n");
}

fn frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    frame_head(first, payload.len(), out);
    out.extend_from_slice(payload);
}

fn frame_head(first: u8, length: usize, out: &mut Vec<u8>) {
    out.push(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) if length < 126 => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// One answer with all of them.
fn polled<'a>(payloads: impl Iterator<Item = &'a Vec<u8>>, out: &mut Vec<u8>) {
    let mut body = b"{\"cursor\":\"AqiAsWKi-7927\",\"gap\":null,\"messages\":[".to_vec();
    for payload in payloads {
        body.extend_from_slice(
            b"{\"id\":\"AqiAsWKi-7927\",\"channel\":\"bench\",\"time\":1764000004811,",
        );
        body.extend_from_slice(b"\"text\":\"");
        body.extend_from_slice(payload);
        body.extend_from_slice(b"\"},");
    }
    body.extend_from_slice(b"]}");
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    out.extend_from_slice(HEAD.as_bytes());
    out.extend_from_slice(b"Cache-Control: no-store\r\nVary: Origin\r\n");
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(&body);
}
