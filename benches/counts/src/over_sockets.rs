//! Scenarios over `Server::turn` and unix sockets, which, unlike TCP, have what was sent at once and
//! each time alike. Of a system call callgrind counts what is done in the process.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use holdline::engine::{Answer, App, ConnId, Ctx, Kind, Queued, Request, Route};
use holdline::{Config, Routes, Server};

use crate::over_engine::config;
use crate::support::Transport;
use crate::{Round, frame};

/// A server, and clients that are connected.
struct House {
    server: Server,
    path: PathBuf,
}

impl House {
    fn new(config: Config, app: Option<Box<dyn App>>) -> Self {
        let name = format!("holdline-counts-{}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let listen = format!("unix:{}", path.display());
        let server = config.listen(listen).open().bind_with(Vec::new(), app).expect("it binds");
        Self { server, path }
    }

    fn echo() -> Self {
        Self::new(Config { routes: Routes::none(), ..config() }, Some(Box::new(Echo)))
    }

    /// Turns until it would sleep.
    fn turn(&mut self) {
        loop {
            self.server.turn(Some(Duration::ZERO)).expect("it turns");
            if self.server.next_timeout() != Some(Duration::ZERO) {
                return;
            }
        }
    }

    /// Clients that have sent this.
    fn clients(&self, count: usize, request: &[u8]) -> Vec<UnixStream> {
        let client = || {
            let mut client = UnixStream::connect(&self.path).expect("it listens");
            client.set_read_timeout(Some(Duration::from_secs(20))).expect("a valid time");
            client.write_all(request).expect("there is room");
            client
        };
        (0..count).map(|_| client()).collect()
    }

    /// Accepts who is there, and answers what they asked.
    fn let_in(&mut self) {
        self.turn();
        self.turn();
    }
}

/// As `examples/echo.rs`.
struct Echo;

impl App for Echo {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, _: &Request<'_>) -> Answer<Route> {
        Answer::Done(Route::WebSocket { protocol: None })
    }

    fn message(&mut self, cx: &mut Ctx<'_>, id: ConnId, kind: Kind, bytes: &[u8]) {
        assert_ne!(cx.send(id, kind, bytes), Queued::Full, "there is room");
    }
}

/// Reads until there are `count` of `mark`.
fn read(client: &mut UnixStream, mark: &str, count: usize) {
    let mut buffer = [0; 16 * 1024];
    let (mut text, mut found) = (String::new(), 0);
    while found < count {
        let n = client.read(&mut buffer).expect("it comes");
        assert_ne!(n, 0, "it ended after {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        found = text.matches(mark).count();
    }
    assert_eq!(found, count, "{text}");
}

pub(crate) fn echo() -> Round {
    echoes(50, 1, 64)
}

pub(crate) fn echo_16() -> Round {
    echoes(50, 16, 64)
}

pub(crate) fn echo_16k() -> Round {
    echoes(10, 1, 16 * 1024)
}

fn echoes(count: usize, depth: usize, size: usize) -> Round {
    let mut house = House::echo();
    let mut clients = house.clients(count, &upgrade());
    house.let_in();
    clients.iter_mut().for_each(|client| read(client, "\r\n\r\n", 1));
    let sent = frame(1, &vec![b'x'; size]).repeat(depth);
    let head = if size < 126 { 2 } else { 4 };
    let mut echo = vec![0; depth * (head + size)];
    Box::new(move |meter| {
        clients.iter_mut().for_each(|client| client.write_all(&sent).expect("there is room"));
        meter(&mut || house.turn());
        for client in &mut clients {
            client.read_exact(&mut echo).expect("it comes back");
            assert!(echo.ends_with(b"xx"));
        }
        count * depth
    })
}

fn upgrade() -> Vec<u8> {
    Transport::WsRaw.request_to("/")
}

pub(crate) fn publish() -> Round {
    publishes(1)
}

pub(crate) fn publish_16() -> Round {
    publishes(16)
}

fn publishes(depth: usize) -> Round {
    const CLIENTS: usize = 8;
    let mut house = House::new(config(), None);
    let hub = house.server.hub();
    for _ in 0..10_000 {
        hub.publish("bench", [b'x'; 64].as_slice()).expect("it is taken");
    }
    let mut clients = house.clients(CLIENTS, b"");
    house.let_in();
    let request = format!(
        "POST /channels/bench HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
         Content-Length: 64\r\n\r\n{}",
        "x".repeat(64)
    );
    let sent = request.repeat(depth).into_bytes();
    Box::new(move |meter| {
        clients.iter_mut().for_each(|client| client.write_all(&sent).expect("there is room"));
        meter(&mut || house.turn());
        clients.iter_mut().for_each(|client| read(client, "HTTP/1.1 20", depth));
        CLIENTS * depth
    })
}

/// Accept, upgrade, one echo, a closing handshake.
pub(crate) fn connect() -> Round {
    const CLIENTS: usize = 16;
    let mut house = House::echo();
    Box::new(move |meter| {
        let mut clients = house.clients(CLIENTS, &upgrade());
        meter(&mut || house.let_in());
        clients.iter_mut().for_each(|client| read(client, "\r\n\r\n", 1));
        for (opcode, payload) in [(1, [b'x'; 64].as_slice()), (8, &[0x03, 0xe8])] {
            let sent = frame(opcode, payload);
            clients.iter_mut().for_each(|client| client.write_all(&sent).expect("there is room"));
            meter(&mut || house.turn());
            let mut answer = vec![0; 2 + payload.len()];
            for client in &mut clients {
                client.read_exact(&mut answer).expect("it is answered");
                assert!(answer.ends_with(payload));
            }
        }
        clients.clear();
        meter(&mut || house.turn());
        assert!(house.server.engine().is_empty(), "all are gone");
        CLIENTS
    })
}

/// A turn in which nothing happens to many who listen.
pub(crate) fn idle() -> Round {
    const CLIENTS: usize = 2_000;
    let mut house = House::new(config(), None);
    let mut clients = Vec::with_capacity(CLIENTS);
    while clients.len() < CLIENTS {
        let request = Transport::WsRaw.request_to("/channels/bench");
        clients.extend(house.clients(50, &request));
        house.let_in();
    }
    clients.iter_mut().for_each(|client| read(client, "\r\n\r\n", 1));
    Box::new(move |meter| {
        meter(&mut || house.turn());
        assert_eq!(house.server.engine().len(), clients.len());
        1
    })
}
