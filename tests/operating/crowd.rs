//! A crowd of clients on one thread: thousands of connections on all three transports, each of which
//! checks that it gets every number of a channel once and in order, and comes back when it is told to.
//!
//! It reads no protocol to the letter (other tests do): it looks for numbers (`#17#`), positions,
//! farewells and gaps in what comes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

/// How a client listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Ws,
    Sse,
    Poll,
}

pub const TRANSPORTS: [Transport; 3] = [Transport::Ws, Transport::Sse, Transport::Poll];

/// What one client has seen.
#[derive(Debug)]
pub struct Client {
    pub transport: Transport,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    /// What it remembers.
    cursor: String,
    /// The last number that it got.
    pub last: u64,
    /// It does not read what it is sent.
    pub is_lazy: bool,
    /// It has been told to go, and has not come back.
    has_farewell: bool,
    away_since: Option<Instant>,
    /// Something has come on this connection.
    is_greeted: bool,
}

/// What all clients together have seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub messages: u64,
    pub twice: u64,
    pub missed: u64,
    pub gaps: u64,
    /// When each was told to go.
    pub farewells: Vec<(Transport, Instant)>,
    /// Connections that ended without a farewell.
    pub cut: u64,
    /// Answers 503, and streams that only said "later".
    pub put_off: u64,
    pub refused: u64,
    /// How long each was away, from its farewell to the first word of the next server.
    pub away: Vec<Duration>,
}

pub struct Crowd {
    pub clients: Vec<Client>,
    pub seen: Seen,
    pub addr: SocketAddr,
    channel: &'static str,
    poll: Poll,
    events: Events,
    due: BTreeMap<(Instant, usize), ()>,
    /// Whether those who were told to go come back.
    pub comes_back: bool,
}

impl Crowd {
    pub fn new(addr: SocketAddr, channel: &'static str) -> Self {
        Self {
            clients: Vec::new(),
            seen: Seen::default(),
            addr,
            channel,
            poll: Poll::new().expect("a poll"),
            events: Events::with_capacity(1024),
            due: BTreeMap::new(),
            comes_back: true,
        }
    }

    /// Adds clients that connect within `over`.
    pub fn add(&mut self, count: usize, over: Duration, is_lazy: bool) {
        let now = Instant::now();
        for n in 0..count {
            let index = self.clients.len();
            self.clients.push(Client {
                transport: if is_lazy { Transport::Sse } else { TRANSPORTS[n % 3] },
                stream: None,
                buffer: Vec::new(),
                cursor: String::new(),
                last: 0,
                is_lazy,
                has_farewell: false,
                away_since: None,
                is_greeted: false,
            });
            self.due.insert((now + over * n as u32 / count as u32, index), ());
        }
    }

    /// Everyone leaves, every third without a word.
    pub fn leave(&mut self) {
        self.due.clear();
        for (n, client) in self.clients.drain(..).enumerate() {
            if let (0, Some(stream)) = (n % 3, &client.stream) {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
        }
    }

    /// How many have heard something on the connection that they have.
    pub fn greeted(&self) -> usize {
        self.clients.iter().filter(|client| client.is_greeted && client.stream.is_some()).count()
    }

    /// Connects, reads and writes for so long, or until something holds.
    pub fn run(&mut self, time: Duration, mut until: impl FnMut(&Self) -> bool) -> bool {
        let end = Instant::now() + time;
        loop {
            if until(self) {
                return true;
            }
            let now = Instant::now();
            if now >= end {
                return false;
            }
            self.connect_due(now);
            let next = self.due.first_key_value().map_or(end, |((due, _), ())| *due).min(end);
            let wait = next.saturating_duration_since(now).min(Duration::from_millis(20));
            let mut events = std::mem::replace(&mut self.events, Events::with_capacity(1));
            self.poll.poll(&mut events, Some(wait)).expect("polls");
            for event in &events {
                let Token(index) = event.token();
                if event.is_writable() && index < self.clients.len() {
                    self.ask_first(index);
                }
                self.read(index);
            }
            self.events = events;
        }
    }

    fn connect_due(&mut self, now: Instant) {
        while let Some(((due, index), ())) = self.due.first_key_value().map(|(k, ())| (*k, ())) {
            if due > now {
                return;
            }
            self.due.remove(&(due, index));
            match TcpStream::connect(self.addr) {
                Ok(mut stream) => {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    if self.clients[index].is_lazy {
                        let _ = SockRef::from(&stream).set_recv_buffer_size(4096);
                    }
                    self.poll
                        .registry()
                        .register(&mut stream, Token(index), both)
                        .expect("registers");
                    let client = &mut self.clients[index];
                    client.stream = Some(stream);
                    client.buffer.clear();
                    client.is_greeted = false;
                    client.has_farewell = false;
                }
                Err(_) => self.come_back(index, Duration::from_millis(500)),
            }
        }
    }

    fn come_back(&mut self, index: usize, after: Duration) {
        if self.comes_back {
            self.due.insert((Instant::now() + after, index), ());
        }
    }

    /// The connection stands: ask once.
    fn ask_first(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(stream) = &client.stream else { return };
        if client.is_greeted || !client.buffer.is_empty() || stream.peer_addr().is_err() {
            return;
        }
        // Asked: the buffer says so until something comes.
        client.buffer.push(b' ');
        self.ask(index);
    }

    fn ask(&mut self, index: usize) {
        let (channel, addr) = (self.channel, self.addr);
        let client = &mut self.clients[index];
        let since = if client.cursor.is_empty() {
            String::new()
        } else {
            format!("&since={}", client.cursor)
        };
        let (path, extra) = match client.transport {
            Transport::Ws => (
                "ws",
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ),
            Transport::Sse => ("events", "Accept: text/event-stream, */*\r\n"),
            Transport::Poll => ("poll", ""),
        };
        let mut request = String::new();
        let _ = write!(
            request,
            "GET /{path}?channel={channel}{since} HTTP/1.1\r\nHost: {addr}\r\n{extra}\r\n"
        );
        if let Some(stream) = &mut client.stream {
            let _ = stream.write_all(request.as_bytes()); // a new connection has room for it
        }
    }

    fn read(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else { return };
        if client.is_lazy && client.is_greeted {
            return;
        }
        let mut piece = [0; 16 * 1024];
        loop {
            let Some(stream) = &mut self.clients[index].stream else { return };
            match stream.read(&mut piece) {
                Ok(0) => return self.ended(index, false),
                Ok(n) => {
                    let client = &mut self.clients[index];
                    if !client.is_greeted {
                        client.buffer.clear();
                    }
                    client.is_greeted = true;
                    client.buffer.extend_from_slice(&piece[..n]);
                    self.look(index);
                    if self.clients[index].is_lazy {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::NotConnected => return,
                Err(error) => {
                    return self.ended(index, error.kind() == ErrorKind::ConnectionRefused);
                }
            }
        }
    }

    fn ended(&mut self, index: usize, is_refused: bool) {
        let client = &mut self.clients[index];
        client.stream = None;
        if client.has_farewell || client.is_lazy {
            return; // it knows when to come back
        }
        let is_put_off = client.buffer.windows(6).any(|w| w == b"retry:")
            && !client.buffer.windows(4).any(|w| w == b"\nid:");
        match (is_refused, is_put_off) {
            (true, _) => self.seen.refused += 1,
            (false, true) => self.seen.put_off += 1,
            (false, false) => self.seen.cut += 1,
        }
        self.come_back(index, Duration::from_millis(300 + index as u64 % 700));
    }

    /// Takes what is whole of what has come.
    fn look(&mut self, index: usize) {
        if self.clients[index].transport == Transport::Poll {
            return self.look_at_answer(index);
        }
        let client = &mut self.clients[index];
        if client.buffer.starts_with(b"HTTP/1.1 5") {
            self.seen.put_off += 1;
            client.stream = None;
            return self.come_back(index, Duration::from_millis(1_000 + index as u64 % 1_000));
        }
        let Some(end) = client.buffer.iter().rposition(|b| matches!(b, b'}' | b'\n')) else {
            return;
        };
        let rest = client.buffer.split_off(end + 1);
        let whole = std::mem::replace(&mut client.buffer, rest);
        self.take(index, &String::from_utf8_lossy(&whole));
    }

    fn look_at_answer(&mut self, index: usize) {
        loop {
            let client = &mut self.clients[index];
            let Some(at) = client.buffer.windows(4).position(|w| w == b"\r\n\r\n") else { return };
            let head = String::from_utf8_lossy(&client.buffer[..at]).into_owned();
            let length =
                between(&head, "Content-Length: ", "\r").and_then(|text| text.parse().ok());
            let end = at + 4 + length.unwrap_or(0);
            if client.buffer.len() < end {
                return;
            }
            let rest = client.buffer.split_off(end);
            let answer = std::mem::replace(&mut client.buffer, rest);
            if head.starts_with("HTTP/1.1 5") {
                self.seen.put_off += 1;
                self.clients[index].stream = None;
                return self.come_back(index, Duration::from_millis(1_000 + index as u64 % 1_000));
            }
            self.take(index, &String::from_utf8_lossy(&answer[at + 4..]));
            if self.clients[index].has_farewell {
                return;
            }
            self.ask(index);
        }
    }

    fn take(&mut self, index: usize, text: &str) {
        let client = &mut self.clients[index];
        if let Some(since) = client.away_since.take() {
            self.seen.away.push(since.elapsed());
        }
        // In the order in which it stands there: positions, numbers, and what is said about them.
        let mut rest = text;
        while let Some((mark, at)) =
            MARKS.iter().filter_map(|m| Some((*m, rest.find(m)?))).min_by_key(|(_, at)| *at)
        {
            rest = &rest[at + mark.len()..];
            match mark {
                "\nid: " | "\"id\":\"" | "\"cursor\":\"" => {
                    let end = rest.find(['"', '\n']).unwrap_or(rest.len());
                    client.cursor = rest[..end].to_owned();
                }
                "#" => {
                    let Some((number, after)) = rest.split_once('#') else { break };
                    rest = after;
                    let Ok(number) = number.parse::<u64>() else { continue };
                    self.seen.messages += 1;
                    if client.last > 0 && number <= client.last {
                        self.seen.twice += 1;
                    } else if client.last > 0 {
                        self.seen.missed += number - client.last - 1;
                    }
                    client.last = client.last.max(number);
                }
                "\"op\":\"gap\"" | "event: gap" | "\"gap\":[" => self.seen.gaps += 1,
                _ => {}
            }
        }
        let is_farewell = text.contains("\"op\":\"bye\"")
            || text.contains("event: bye")
            || (client.transport == Transport::Poll && text.contains("\"retry_ms\":"));
        if is_farewell && !std::mem::replace(&mut client.has_farewell, true) {
            let now = Instant::now();
            client.away_since = Some(now);
            self.seen.farewells.push((client.transport, now));
            let retry =
                between(text, "\"retry_ms\":", "}").or_else(|| between(text, "\"retry_ms\":", ","));
            let digits: String =
                retry.unwrap_or("1000").chars().take_while(char::is_ascii_digit).collect();
            self.come_back(index, Duration::from_millis(digits.parse().unwrap_or(1_000)));
        }
    }
}

const MARKS: [&str; 7] =
    ["\nid: ", "\"id\":\"", "\"cursor\":\"", "#", "\"op\":\"gap\"", "event: gap", "\"gap\":["];

fn between<'t>(text: &'t str, from: &str, to: &str) -> Option<&'t str> {
    let at = text.find(from)? + from.len();
    let rest = &text[at..];
    Some(&rest[..rest.find(to).unwrap_or(rest.len())])
}
