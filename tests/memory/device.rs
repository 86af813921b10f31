//! What a whole server takes on a small device: real sockets, `Config::device()`, as many connections
//! as it allows, all listening, and some history. Counted after every turn.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use holdline::server::LocalAddr;
use holdline::{Config, Hub, Server};

use super::heap;

/// What is promised of all heap together where everyone behaves.
const BYTES_MAX: usize = 64 * 1024;
/// What is promised beyond `memory_bytes`, whatever peers do.
const BEYOND_MAX: usize = 16 * 1024;
const CONNECTIONS: usize = 64;
const CHANNELS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
/// Messages kept, and their payload.
const MESSAGES: usize = 64;
const PAYLOAD: &[u8] = &[b'x'; 64];

const WEBSOCKET: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const POLL: &str = "/poll?channel=a&since=latest&wait=55";

struct World {
    server: Server,
    hub: Hub,
    at: SocketAddr,
    /// With room for all, so that only the server's heap grows.
    clients: Vec<TcpStream>,
    polls: Vec<usize>,
    before: usize,
    most: usize,
}

impl World {
    fn new() -> Self {
        let (clients, polls) = (Vec::with_capacity(CONNECTIONS), Vec::with_capacity(CONNECTIONS));
        let before = heap();
        let server = Config::device().listen("127.0.0.1:0").bind().expect("binds");
        let hub = server.hub();
        let at = match server.local_addrs().first() {
            Some(LocalAddr::Tcp(address)) => *address,
            other => panic!("no TCP address: {other:?}"),
        };
        Self { server, hub, at, clients, polls, before, most: 0 }
    }

    fn heap(&self) -> usize {
        heap() - self.before
    }

    /// Turns until two have waited in vain; what it holds after each turn counts.
    fn settle(&mut self) {
        const WAIT: Duration = Duration::from_millis(4);
        let mut quiet = 0;
        while quiet < 2 {
            let began = Instant::now();
            self.server.turn(Some(WAIT)).expect("turns");
            self.most = self.most.max(self.heap());
            quiet = if began.elapsed() < WAIT { 0 } else { quiet + 1 };
        }
    }

    fn connect(&mut self, target: &str, more: &str) {
        let mut stream = TcpStream::connect(self.at).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        ask(&mut stream, target, more);
        self.clients.push(stream);
    }

    /// Something new on every channel; polls are over then, and come again.
    fn publish(&mut self) {
        for channel in CHANNELS {
            self.hub.publish(channel, PAYLOAD).expect("published");
        }
        self.settle();
        for at in &self.polls {
            let stream = &mut self.clients[*at];
            assert_ne!(stream.read(&mut [0; 4096]).expect("an answer"), 0);
            ask(stream, POLL, "");
        }
        self.settle();
    }
}

fn ask(stream: &mut TcpStream, target: &str, more: &str) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
}

/// Nothing else may run meanwhile, since the heap is one for the whole process.
pub(super) fn check() {
    let mut world = World::new();
    let empty = world.heap();
    for number in 0..MESSAGES {
        world.hub.publish(CHANNELS[number % CHANNELS.len()], PAYLOAD).expect("published");
    }
    world.settle();
    let history = world.heap() - empty;
    for number in 0..CONNECTIONS {
        match number % 4 {
            0 => world.connect("/ws?channel=a&channel=b&channel=c&channel=d", WEBSOCKET),
            1 => world.connect("/channels/a", WEBSOCKET),
            2 => world.connect("/events?channel=a&channel=b", ""),
            _ => {
                world.polls.push(number);
                world.connect(POLL, "");
            }
        }
        world.settle();
    }
    for _ in 0..3 {
        world.publish();
    }
    let counted = world.server.engine().connections();
    let kinds = [counted.ws, counted.sse, counted.poll];
    assert_eq!(kinds, [CONNECTIONS / 2, CONNECTIONS / 4, CONNECTIONS / 4], "all listen");
    let (now, most) = (world.heap(), world.most);
    println!("bytes of heap of a server with Config::device() (at most {BYTES_MAX}):");
    println!("  {empty:>6} empty, {history} more with {MESSAGES} messages of {} B", PAYLOAD.len());
    println!(
        "  {now:>6} with {CONNECTIONS} connections that listen, {most} at most after any turn"
    );
    assert!(most <= BYTES_MAX, "{most} bytes");
    flood(&mut world);
}

/// Everyone sends most of the largest message there is and keeps the rest; history fills up.
fn flood(world: &mut World) {
    let budget = Config::device().memory_bytes;
    let mut partial = [b'x'; 7 * 1024];
    let head = [0x81, 0xfe, 0x20, 0x00, 0, 0, 0, 0]; // a masked text of 8 KiB
    partial[..head.len()].copy_from_slice(&head);
    for at in 0..world.clients.len() {
        // Who is refused already takes no more.
        let _ = world.clients[at].write_all(&partial);
        world.settle();
    }
    for number in 0..1_000 {
        let payload = vec![b'x'; number % 8 * 1024];
        world.hub.publish(CHANNELS[number % CHANNELS.len()], payload).expect("published");
        if number % 16 == 0 {
            world.settle();
        }
    }
    world.settle();
    println!("  {:>6} at most after any turn of a flood, of a budget of {budget}", world.most);
    assert!(world.most > budget / 2, "{} bytes: that is no flood", world.most);
    assert!(world.most <= budget + BEYOND_MAX, "{} bytes", world.most);
}
