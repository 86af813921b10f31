//! Every state in which a client can leave a connection, as bytes on a socket, and every way to
//! leave.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::{PATIENCE, request, reset, ws};

const KEY: [u8; 4] = [1, 2, 3, 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Silence,
    Head,
    Body,
    Batch,
    KeepAlive,
    Linger,
    Poll,
    RawPoll,
    Events,
    RawSse,
    Handshake,
    Ws,
    RawWs,
    Frame,
    Fragments,
    OurClose,
    TheirClose,
}

impl At {
    pub const ALL: [Self; 17] = [
        Self::Silence,
        Self::Head,
        Self::Body,
        Self::Batch,
        Self::KeepAlive,
        Self::Linger,
        Self::Poll,
        Self::RawPoll,
        Self::Events,
        Self::RawSse,
        Self::Handshake,
        Self::Ws,
        Self::RawWs,
        Self::Frame,
        Self::Fragments,
        Self::OurClose,
        Self::TheirClose,
    ];

    /// What is sent to get there, and what the server's answer begins with then.
    pub fn script(self) -> (Vec<u8>, &'static str) {
        let body = b"Content-Length: 1000\r\n\r\nsome of it";
        let post = |target| {
            [format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n").as_bytes(), body].concat()
        };
        let stream = |target| request("GET", target, "Accept: text/event-stream\r\n", b"");
        let socket = |target, after: &[u8]| [&ws::upgrade(target, None)[..], after].concat();
        let masked = ws::frame(ws::TEXT, &[b'x'; 100], KEY);
        let mut first = ws::frame(ws::TEXT, b"the first of two", KEY);
        first[0] &= 0x7f;
        match self {
            Self::Silence => (Vec::new(), ""),
            Self::Head => (b"GET /health HTTP/1.1\r\nHo".to_vec(), ""),
            Self::Body => (post("/channels/abandoned"), ""),
            Self::Batch => (post("/publish"), ""),
            Self::KeepAlive => (request("GET", "/health", "", b""), "HTTP/1.1 200"),
            Self::Linger => {
                (request("GET", "/health", "Connection: close\r\n", b""), "HTTP/1.1 200")
            }
            Self::Poll => (request("GET", "/poll?channel=abandoned&since=latest", "", b""), ""),
            Self::RawPoll => (request("GET", "/channels/abandoned?wait=25", "", b""), ""),
            Self::Events => (stream("/events?channel=abandoned"), "HTTP/1.1 200"),
            Self::RawSse => (stream("/channels/abandoned"), "HTTP/1.1 200"),
            Self::Handshake => {
                let mut half = socket("/ws", b"");
                half.truncate(half.len() - 2);
                (half, "")
            }
            Self::Ws => (socket("/ws?channel=abandoned", b""), "HTTP/1.1 101"),
            Self::RawWs => (socket("/channels/abandoned", b""), "HTTP/1.1 101"),
            Self::Frame => (socket("/ws?channel=abandoned", &masked[..50]), "HTTP/1.1 101"),
            Self::Fragments => (socket("/channels/abandoned", &first), "HTTP/1.1 101"),
            Self::OurClose => {
                let nonsense = ws::frame(ws::TEXT, b"[", KEY);
                (socket("/ws?channel=abandoned", &nonsense), "HTTP/1.1 101")
            }
            Self::TheirClose => {
                (socket("/ws?channel=abandoned", &ws::close(1000, KEY)), "HTTP/1.1 101")
            }
        }
    }

    /// Whether it listens to the channel.
    pub fn is_subscribed(self) -> bool {
        matches!(
            self,
            Self::Poll
                | Self::RawPoll
                | Self::Events
                | Self::RawSse
                | Self::Ws
                | Self::RawWs
                | Self::Frame
                | Self::Fragments
        )
    }

    /// A connection in this state, as far as the client can know.
    pub fn enter(self, socket: TcpStream) -> TcpStream {
        let mut stream = socket;
        let (bytes, begins) = self.script();
        stream.write_all(&bytes).expect("sent");
        stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        let mut began = vec![0; begins.len()];
        stream.read_exact(&mut began).expect("the begin of an answer");
        assert_eq!(String::from_utf8_lossy(&began), begins, "{self:?}");
        stream
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    Close,
    Half,
    Reset,
    /// It is still there, and neither reads nor writes any more.
    Silent,
}

impl Leave {
    pub const ALL: [Self; 4] = [Self::Close, Self::Half, Self::Reset, Self::Silent];

    /// What must be kept so that the connection does not end in another way.
    pub fn leave(self, stream: TcpStream) -> Option<TcpStream> {
        match self {
            Self::Close => None,
            Self::Half => {
                // It may be over already.
                let _ = stream.shutdown(Shutdown::Write);
                Some(stream)
            }
            Self::Reset => {
                reset(stream);
                None
            }
            Self::Silent => Some(stream),
        }
    }
}

/// Connects from one of many loopback addresses where the system has them, for one alone has ports
/// for no more than some ten thousand connections within a minute.
pub fn connect_from(addr: SocketAddr, number: usize) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    if cfg!(target_os = "linux") {
        let [low, high] = [number % 250, number / 250 % 250].map(|part| part as u8 + 1);
        let from = SocketAddr::from(([127, 0, high, low], 0));
        socket.bind(&from.into()).expect("a loopback address of its own");
    }
    socket.connect_timeout(&addr.into(), Duration::from_secs(30)).expect("connects");
    socket.into()
}
