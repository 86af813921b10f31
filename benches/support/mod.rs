//! An engine and a driver without sockets, for benchmarks and for the count of memory: what the
//! engine lends is taken at once and thrown away.

use std::sync::Arc;

use holdline::engine::{ConnId, Engine, Peer, What};
use holdline::hub::History;
use holdline::{Config, Epoch, Message, Now};

/// The channel that everyone listens to.
pub const CHANNEL: &str = "news";

/// How a connection listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket, one JSON object a frame.
    WsJson,
    /// A WebSocket, one payload a frame.
    WsRaw,
    /// An event stream.
    Sse,
    /// A held poll.
    Poll,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::WsJson, Self::WsRaw, Self::Sse, Self::Poll];

    /// A short name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::WsJson => "ws-json",
            Self::WsRaw => "ws-raw",
            Self::Sse => "sse",
            Self::Poll => "poll",
        }
    }

    /// The request that listens to the channel from `since` on.
    pub fn request(self, since: &str) -> Vec<u8> {
        let target = match self {
            Self::WsJson => format!("/ws?channel={CHANNEL}&since={since}"),
            Self::WsRaw => format!("/channels/{CHANNEL}?since={since}"),
            Self::Sse => format!("/events?channel={CHANNEL}&since={since}"),
            Self::Poll => format!("/poll?channel={CHANNEL}&since={since}&wait=55"),
        };
        self.request_to(&target)
    }

    /// A request of this kind with any target.
    pub fn request_to(self, target: &str) -> Vec<u8> {
        let upgrade = match self {
            Self::WsJson | Self::WsRaw => {
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            }
            Self::Sse | Self::Poll => "",
        };
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n").into_bytes()
    }
}

/// A client's text frame around a payload.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let len = payload.len();
    let mut frame = vec![0x81];
    match len {
        0..126 => frame.push(0x80 | len as u8),
        126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// An engine, its clock, and a count of what it wrote.
#[derive(Debug)]
pub struct Driver {
    /// The engine.
    pub engine: Engine,
    /// The time that it is told.
    pub now: Now,
    /// Bytes that have been taken.
    pub bytes: u64,
    /// Writes that have been taken.
    pub writes: u64,
    /// The indexes of connections that are gone, in order.
    pub closed: Vec<usize>,
}

impl Driver {
    /// An engine that lets everyone in.
    pub fn new(config: Config, connections_max: usize) -> Self {
        let now = Now { mono_ms: 1_000, unix_ms: 1_764_000_000_000 };
        let config = Arc::new(config.open());
        let history = Arc::new(History::new(&config, Epoch::from_random(7), now));
        let mut engine = Engine::new(config, history, 7, now);
        engine.set_connections_max(connections_max);
        Self { engine, now, bytes: 0, writes: 0, closed: Vec::new() }
    }

    /// Where the order is now, as a client says it.
    pub fn position(&self) -> String {
        let history = self.engine.history();
        history.cursor(history.head()).to_string()
    }

    /// A new connection with its first request.
    pub fn connect(&mut self, request: &[u8]) -> ConnId {
        let id = self.engine.handle_accept(Peer::Unix, self.now);
        self.send(id, request);
        id
    }

    /// Bytes from a client.
    pub fn send(&mut self, id: ConnId, bytes: &[u8]) {
        self.engine.handle_bytes(id, &mut bytes.to_vec(), self.now);
    }

    /// Publishes on the channel.
    pub fn publish(&self, payload: impl Into<Vec<u8>>) {
        let message = Message::bytes(payload);
        let published = self.engine.history().publish(CHANNEL, message, self.now);
        assert!(published.is_ok(), "history takes it");
    }

    /// `count` connections that listen; as many are accepted in a turn as a server would.
    pub fn listeners(&mut self, transport: Transport, count: usize) -> Vec<ConnId> {
        let request = transport.request(&self.position());
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            for _ in 0..64.min(count - ids.len()) {
                ids.push(self.connect(&request));
            }
            self.drain();
        }
        ids
    }

    /// Turns until nothing is left to do, on sockets that take everything.
    pub fn drain(&mut self) {
        self.drain_into(|_, bytes| bytes.len());
    }

    /// Turns until nothing is left to do; `send` says how much a socket took.
    pub fn drain_into(&mut self, mut send: impl FnMut(ConnId, &[u8]) -> usize) {
        self.write(&mut send);
        while self.engine.has_work() {
            self.engine.handle_kept(self.now);
            self.write(&mut send);
        }
    }

    /// The second phase of one turn.
    pub fn write(&mut self, send: &mut impl FnMut(ConnId, &[u8]) -> usize) {
        self.engine.take_in(self.now);
        while let Some(transmit) = self.engine.poll_transmit() {
            match transmit.what {
                What::Bytes(bytes) => {
                    let len = send(transmit.id, bytes);
                    self.bytes += len as u64;
                    self.writes += 1;
                    self.engine.handle_sent(len);
                }
                What::Finish => {}
                What::Close => self.closed.push(transmit.id.index()),
            }
        }
        while self.engine.poll_resumed().is_some() {}
    }
}
