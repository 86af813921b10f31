//! Many clients at a time, over real sockets, that survive whatever happens to them, and keep the
//! books: what came, what was announced as lost, what nobody announced.
//!
//! Nothing here knows the server's code. What breaks a grammar panics, as in the simulation, whose
//! parsers these are.
#![allow(dead_code, missing_docs, unreachable_pub, missing_debug_implementations)]

#[path = "../event_stream.rs"]
pub mod event_stream;
#[path = "../sim/http.rs"]
pub mod http;
#[path = "../sim/sse.rs"]
pub mod sse;
#[path = "../sim/ws.rs"]
pub mod ws;

pub mod crowd;
pub mod ledger;
pub mod process;
pub mod proxy;
pub mod publisher;
pub mod reader;
pub mod states;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// A seed that a failure can be told to use again: `HOLDLINE_SEED=…`.
pub fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    number("HOLDLINE_SEED", u64::from(now.subsec_nanos()))
}

/// What the environment says about the size of a test, or what it is else.
pub fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).unwrap_or_default();
    if text.is_empty() {
        return default;
    }
    text.parse().unwrap_or_else(|_| panic!("expected a number in {name}, came {text:?}"))
}

/// Asks again and again until it is so; what it is not at the end of all patience.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(got) => return got,
            Err(told) => assert!(Instant::now() < deadline, "waited in vain for {what}: {told}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

/// The next reset goes out instead of an orderly end.
pub fn reset(stream: TcpStream) {
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(Duration::ZERO)).expect("a linger of nothing");
}

/// A request as bytes.
pub fn request(method: &str, target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = match method {
        "GET" => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n");
    [head.as_bytes(), body].concat()
}

/// The next answer; an error if the connection ends or breaks before it is whole.
pub fn answer(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> std::io::Result<http::Answer> {
    let mut room = [0; 16 * 1024];
    loop {
        if let Some(answer) = http::take_answer(ahead) {
            return Ok(answer);
        }
        match stream.read(&mut room)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => ahead.extend_from_slice(&room[..n]),
        }
    }
}

/// One request on a connection of its own.
pub fn call(addr: SocketAddr, method: &str, target: &str, body: &[u8]) -> http::Answer {
    let mut stream = connect(addr);
    stream.write_all(&request(method, target, "", body)).expect("sent");
    answer(&mut stream, &mut Vec::new()).expect("an answer")
}

pub fn stats(addr: SocketAddr) -> Value {
    call(addr, "GET", "/stats", b"").json()
}

/// What is connected by what the server says, without whoever asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    pub http: u64,
    pub ws: u64,
    pub sse: u64,
    pub poll: u64,
    pub subscriptions: u64,
}

impl Connected {
    pub fn ask(addr: SocketAddr) -> Self {
        let stats = stats(addr);
        let of = |kind: &str| stats["connections"][kind].as_u64().expect("a number");
        let [http, ws, sse, poll] = ["http", "ws", "sse", "poll"].map(of);
        let subscriptions = stats["subscriptions"].as_u64().expect("a number");
        Self { http: http - 1, ws, sse, poll, subscriptions }
    }

    /// Nobody is left but whoever asks: an earlier asker may still be on its way out.
    #[track_caller]
    pub fn wait_for_nobody(addr: SocketAddr) {
        Self::default().wait(addr);
    }

    #[track_caller]
    pub fn wait(self, addr: SocketAddr) {
        self.wait_while(addr, || {});
    }

    /// Does something again and again meanwhile.
    #[track_caller]
    pub fn wait_while(self, addr: SocketAddr, mut act: impl FnMut()) {
        eventually(&format!("{self:?}"), || {
            act();
            let now = Self::ask(addr);
            if now == self { Ok(()) } else { Err(format!("{now:?}")) }
        });
    }
}
