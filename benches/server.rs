//! A whole server over loopback. It is turned here, between the writes and the reads of its clients:
//! only the processor time of its turns counts, with what the kernel does in them, and neither the
//! clients' work nor the scheduler. One round trip to a server on a thread of its own shows, by the clock,
//! what waking adds.

#[allow(dead_code, unreachable_pub, reason = "the other benchmarks use the rest")]
mod support;

#[path = "support/measure.rs"]
mod measure;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group};
use holdline::engine::{Answer, App, ConnId, Ctx, Kind, Request, Route};
use holdline::server::LocalAddr;
use holdline::{Config, Hub, Message, Server};
use measure::{Busy, busy, config, descriptors};
use socket2::SockRef;
use support::{CHANNEL, Transport, frame};

const PAYLOAD: usize = 64;
const KIB: usize = 1024;
/// Ends each payload, and stands nowhere else in what the server says, headers of frames included.
const MARK: u8 = b'#';
/// Ends the answer to a publish, and stands nowhere else in it.
const ANSWER_END: u8 = b'}';
/// More turns than anything here takes: what does not come is an error, and no hang.
const TURNS_MAX: u32 = 10_000;
/// Set for the process that holds idle connections: where to, and how many.
const HOLD: &str = "HOLDLINE_BENCH_HOLD";
const TRANSPORTS: [Transport; 3] = [Transport::WsJson, Transport::Sse, Transport::Poll];

criterion_group! {
    name = server;
    config = config();
    targets = echo, round_trip, idle, fan_out, publish, resume
}

fn main() {
    match std::env::var(HOLD) {
        Ok(what) => hold(&what),
        Err(_) => {
            server();
            Criterion::default().configure_from_args().final_summary();
        }
    }
}

/// Sends back whatever comes on its WebSocket, at `/echo`.
struct Echo;

impl App for Echo {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, request: &Request<'_>) -> Answer<Route> {
        let is_own = request.is_websocket() && request.path() == "/echo";
        Answer::Done(if is_own { Route::WebSocket { protocol: None } } else { Route::Pass })
    }

    fn message(&mut self, cx: &mut Ctx<'_>, id: ConnId, kind: Kind, bytes: &[u8]) {
        cx.send(id, kind, bytes);
    }
}

/// A server, and the end of a client's socket for each connection.
struct World {
    server: Server,
    hub: Hub,
    address: SocketAddr,
    clients: Vec<TcpStream>,
    buffer: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let config = Config {
            // What nobody answers here is not to be asked: a run takes seconds.
            heartbeat: Duration::from_secs(300),
            keep_alive_requests: u16::MAX,
            ..Config::default()
        };
        let server = config.listen("127.0.0.1:0").open().bind_app(Echo).expect("it binds");
        let address = match &server.local_addrs()[..] {
            [LocalAddr::Tcp(address)] => *address,
            others => unreachable!("one address was asked for: {others:?}"),
        };
        let hub = server.hub();
        Self { server, hub, address, clients: Vec::new(), buffer: vec![0; 256 * KIB] }
    }

    /// So many clients that have sent their first request; what it is answered is not waited for.
    fn connect(&mut self, count: usize, request: &[u8]) {
        for _ in 0..count {
            let mut client = connect(self.address).expect("the server listens");
            client.write_all(request).expect("it fits the socket");
            client.set_nonblocking(true).expect("a socket");
            self.clients.push(client);
        }
    }

    /// Turns until nothing more comes, and throws away what has come.
    fn settle(&mut self) {
        while !self.turn_is_idle() {}
        self.read(MARK);
    }

    fn turn_is_idle(&mut self) -> bool {
        let before = self.connections();
        for _ in 0..4 {
            self.turn();
        }
        self.connections() == before && self.server.next_timeout() != Some(Duration::ZERO)
    }

    fn connections(&self) -> usize {
        self.server.engine().len()
    }

    fn published(&self) -> u64 {
        self.server.engine().history().stats().published
    }

    /// One turn, and what it took.
    fn turn(&mut self) -> Duration {
        busy(|| {
            self.server.turn(Some(Duration::ZERO)).expect("the server works");
        })
    }

    /// Every client sends this.
    fn send(&mut self, bytes: &[u8]) {
        for client in &mut self.clients {
            client.write_all(bytes).expect("it fits the socket");
        }
    }

    /// Reads all that has come to the clients; how often `mark` was in it.
    fn read(&mut self, mark: u8) -> usize {
        let Self { clients, buffer, .. } = self;
        clients.iter_mut().map(|client| read(client, buffer, mark)).sum()
    }

    /// Turns until the clients have got what they are owed, no less and no more; the time in turns.
    fn turn_until(&mut self, mark: u8, owed: usize) -> Duration {
        let (mut spent, mut seen) = (Duration::ZERO, 0);
        for _ in 0..TURNS_MAX {
            spent += self.turn();
            seen += self.read(mark);
            if seen >= owed {
                assert_eq!(seen, owed, "nothing comes twice");
                return spent;
            }
        }
        panic!("{seen} of {owed} came");
    }
}

/// A socket that is gone at once when it is dropped, so that its port is free again.
fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let client = TcpStream::connect(address)?;
    client.set_nodelay(true)?;
    SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    Ok(client)
}

fn read(client: &mut TcpStream, buffer: &mut [u8], mark: u8) -> usize {
    let mut seen = 0;
    loop {
        match client.read(buffer) {
            Ok(0) => panic!("the server has hung up"),
            Ok(len) => {
                seen += memchr::memchr_iter(mark, &buffer[..len]).count();
                if len < buffer.len() {
                    return seen;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return seen,
            Err(error) => panic!("{error}"),
        }
    }
}

fn payload(len: usize) -> Vec<u8> {
    let mut payload = vec![b'x'; len];
    payload[len - 1] = MARK;
    payload
}

/// Adds a benchmark whose rounds say how long each took in the server. What it takes is only made if it
/// is asked for.
fn measure<T>(
    group: &mut BenchmarkGroup<'_, Busy>,
    name: BenchmarkId,
    messages: usize,
    make: impl Fn() -> T,
    mut round: impl FnMut(&mut T) -> Duration,
) {
    let mut made = None;
    group.throughput(Throughput::Elements(messages as u64));
    group.bench_function(name, |b| {
        let made = made.get_or_insert_with(&make);
        b.iter_custom(|iterations| (0..iterations).map(|_| round(made)).sum());
    });
}

fn echo(c: &mut Criterion<Busy>) {
    const COUNT: usize = 50;
    let mut group = c.benchmark_group("server, echo to 50");
    for (name, depth, size) in
        [("64 B, depth 1", 1, PAYLOAD), ("64 B, depth 16", 16, PAYLOAD), ("16 KiB", 1, 16 * KIB)]
    {
        let make = || {
            let mut world = World::new();
            world.connect(COUNT, &Transport::WsRaw.request_to("/echo"));
            world.settle();
            world
        };
        let bytes = frame(&payload(size)).repeat(depth);
        measure(&mut group, BenchmarkId::from_parameter(name), COUNT * depth, make, |world| {
            world.send(&bytes);
            world.turn_until(MARK, COUNT * depth)
        });
    }
}

/// A client that waits, and a server that sleeps until it is asked: by the clock.
fn round_trip(c: &mut Criterion<Busy>) {
    let make = || {
        let World { server, address, .. } = World::new();
        let running = server.spawn().expect("there is a thread");
        let mut client = connect(address).expect("the server listens");
        client.write_all(&Transport::WsRaw.request_to("/echo")).expect("it fits the socket");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).expect("the head");
            head.push(byte[0]);
        }
        (client, running)
    };
    let bytes = frame(&payload(PAYLOAD));
    let mut back = [0; PAYLOAD + 2];
    let mut group = c.benchmark_group("server on a thread, echo to 1");
    measure(&mut group, BenchmarkId::from_parameter("64 B"), 1, make, |(client, _running)| {
        back[PAYLOAD + 1] = 0;
        let start = Instant::now();
        client.write_all(&bytes).expect("it fits the socket");
        client.read_exact(&mut back).expect("the echo");
        let spent = start.elapsed();
        assert_eq!(back[PAYLOAD + 1], MARK, "it came back");
        spent
    });
}

/// What a turn costs for one connection, while so many others say nothing.
fn idle(c: &mut Criterion<Busy>) {
    let mut group = c.benchmark_group("server, echo to 1 beside idle connections");
    for count in [0, 10_000] {
        if let Err(why) = descriptors(count + 100) {
            println!("skipped: echo beside {count} idle connections: {why}");
            continue;
        }
        let make = || {
            let mut world = World::new();
            world.connect(1, &Transport::WsRaw.request_to("/echo"));
            let holder = Holder::start(&mut world, count);
            world.settle();
            (world, holder)
        };
        let bytes = frame(&payload(PAYLOAD));
        measure(&mut group, BenchmarkId::from_parameter(count), 1, make, |(world, _holder)| {
            world.send(&bytes);
            let spent = world.turn_until(MARK, 1);
            assert_eq!(world.connections(), count + 1, "the others are there");
            spent
        });
    }
}

/// A process that holds idle connections, since one alone may not have enough descriptors for both ends.
struct Holder(Option<Child>);

impl Holder {
    fn start(world: &mut World, count: usize) -> Self {
        if count == 0 {
            return Self(None);
        }
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program)
            .env(HOLD, format!("{} {count}", world.address))
            .stdin(Stdio::piped())
            .spawn()
            .expect("it starts once more");
        let until = Instant::now() + Duration::from_secs(30);
        while world.connections() < count + 1 {
            assert!(Instant::now() < until, "{} of them came", world.connections());
            world.server.turn(Some(Duration::from_millis(10))).expect("the server works");
        }
        Self(Some(child))
    }
}

/// It ends with its input.
impl Drop for Holder {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// The other process: connects, listens, and waits for the end of its input.
fn hold(what: &str) {
    let (address, count) = what.split_once(' ').expect("an address and a number");
    let count: usize = count.parse().expect("a number");
    descriptors(count + 100).expect("as many as the other process has");
    let request = Transport::WsJson.request_to("/ws?channel=quiet");
    let listen = |_| {
        let mut client = connect(address)?;
        client.write_all(&request)?;
        Ok(client)
    };
    let held: io::Result<Vec<TcpStream>> = (0..count).map(listen).collect();
    match held {
        Ok(held) => drop((io::stdin().read_to_end(&mut Vec::new()), held)),
        Err(error) => eprintln!("{error}"),
    }
}

fn fan_out(c: &mut Criterion<Busy>) {
    let mut group = c.benchmark_group("server, publish one to all");
    for transport in TRANSPORTS {
        for count in [100, 1_000] {
            let id = BenchmarkId::new(transport.name(), count);
            if let Err(why) = descriptors(2 * count + 100) {
                println!("skipped: {transport:?} to {count}: {why}");
                continue;
            }
            let make = || {
                let mut world = World::new();
                world.connect(count, &transport.request("latest"));
                world.settle();
                world
            };
            measure(&mut group, id, count, make, |world| {
                let mut spent = busy(|| {
                    let message = Message::bytes(payload(PAYLOAD));
                    world.hub.publish(CHANNEL, message).expect("it is taken");
                });
                spent += world.turn_until(MARK, count);
                if transport != Transport::Poll {
                    return spent;
                }
                // Asking again is a part of what polling costs.
                let position = world.hub.position().to_string();
                world.send(&transport.request(&position));
                spent + world.turn()
            });
        }
    }
}

fn publish(c: &mut Criterion<Busy>) {
    const COUNT: usize = 50;
    let mut group = c.benchmark_group("server, publish by HTTP, keep-alive, from 50");
    for depth in [1, 16] {
        let body = String::from_utf8(payload(PAYLOAD)).expect("ASCII");
        let request = format!(
            "POST /channels/{CHANNEL} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
             Content-Length: {PAYLOAD}\r\n\r\n{body}"
        );
        let requests = request.repeat(depth);
        let mut sent = 0;
        let id = BenchmarkId::new("depth", depth);
        measure(&mut group, id, COUNT * depth, World::new, |world| {
            // No connection takes more requests than it may.
            if sent == 0 || sent + depth > usize::from(u16::MAX) {
                world.clients.clear();
                world.connect(COUNT, b"");
                world.settle();
                sent = 0;
            }
            sent += depth;
            let before = world.published();
            world.send(requests.as_bytes());
            let spent = world.turn_until(ANSWER_END, COUNT * depth);
            let published = world.published() - before;
            assert_eq!(published, (COUNT * depth) as u64, "all of them were published");
            spent
        });
    }
}

/// 100 come back at once, each to 100 messages that it has missed: accepted, answered, written to.
fn resume(c: &mut Criterion<Busy>) {
    const COUNT: usize = 100;
    const MISSED: usize = 100;
    let mut group = c.benchmark_group("server, 100 resume after 100 messages");
    for transport in TRANSPORTS {
        let make = || {
            let world = World::new();
            let request = transport.request(&world.hub.position().to_string());
            for _ in 0..MISSED {
                world.hub.publish(CHANNEL, Message::bytes(payload(PAYLOAD))).expect("it is taken");
            }
            (world, request)
        };
        let id = BenchmarkId::from_parameter(transport.name());
        measure(&mut group, id, COUNT * MISSED, make, |(world, request)| {
            world.connect(COUNT, request);
            let spent = world.turn_until(MARK, COUNT * MISSED);
            world.clients.clear();
            while world.connections() > 0 {
                world.turn();
            }
            spent
        });
    }
}
