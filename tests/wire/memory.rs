//! The binary under `--memory`: whatever clients do, the process stays where it was told to, and it
//! lives with the descriptors that it has. Linux tells how much memory a process has.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::flood::{frame, upgrade};
use crate::support::Running;
use socket2::{Domain, Socket, Type};

const MIB: usize = 1 << 20;
const BUDGET: usize = 16 * MIB;
/// What the process may have beyond its budget and what it began with: what the allocator cannot use
/// again at once, and what is on its way through one turn.
const SLACK: usize = BUDGET * 15 / 100 + 4 * MIB;

struct Flooded {
    server: Running,
    /// A connection that was there before.
    early: RefCell<TcpStream>,
    start: usize,
    name: &'static str,
}

impl Flooded {
    fn start(name: &'static str) -> Self {
        let server = Running::start(&["--memory", "16M"]);
        let early = RefCell::new(server.connect());
        let mut flooded = Self { server, early, start: 0, name };
        assert_eq!(flooded.stat("memory", "budget"), BUDGET);
        flooded.start = flooded.status("VmRSS:");
        flooded
    }

    /// A line of what the kernel tells of the process, in bytes.
    fn status(&self, name: &str) -> usize {
        let path = format!("/proc/{}/status", self.server.pid());
        let status = std::fs::read_to_string(path).expect("it is there");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("its line");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }

    /// A number of `/stats`.
    #[track_caller]
    fn stat(&self, object: &str, name: &str) -> usize {
        let mut early = self.early.borrow_mut();
        early.write_all(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is there");
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let mut buffer = [0; 4096];
            let n = early.read(&mut buffer).expect("who was there before is served");
            assert!(n > 0, "{}: who was there before is served", self.name);
            answer.extend_from_slice(&buffer[..n]);
        }
        let text = String::from_utf8_lossy(&answer);
        let (_, body) = text.split_once("\r\n\r\n").expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        body[object][name].as_u64().expect("a number") as usize
    }

    /// Waits until the server has dealt with all that was sent.
    fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let (mut last, mut same) = (0, 0);
        while same < 5 && Instant::now() < deadline {
            let used = self.stat("memory", "used");
            same = if used == last { same + 1 } else { 0 };
            last = used;
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The most that the process ever had.
    #[track_caller]
    fn check(&self) {
        self.settle();
        let peak = self.status("VmHWM:") - self.start;
        let beyond = peak.saturating_sub(BUDGET);
        println!(
            "{:>14}: {:>5} KiB at most, {} KiB beyond the budget",
            self.name,
            peak >> 10,
            beyond >> 10
        );
        assert!(peak <= BUDGET + SLACK, "{}: {peak} bytes beyond the start", self.name);
        assert!(self.stat("memory", "used") <= BUDGET + MIB / 4, "{}", self.name);
    }

    /// Everybody has gone: what connections held is given back. What of it the allocator gives back
    /// to the system is its own affair.
    #[track_caller]
    fn check_after(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.stat("memory", "connections") > MIB {
            assert!(Instant::now() < deadline, "{}: connections are held", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
        let (left, history) = (self.status("VmRSS:") - self.start, self.stat("memory", "history"));
        println!(
            "{:>14}: {:>5} KiB left, {} KiB of it history",
            self.name,
            left >> 10,
            history >> 10
        );
    }

    /// A connection that keeps little of what it does not read.
    fn connect(&self) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.connect(&self.server.addr.into()).expect("connects");
        let stream = TcpStream::from(socket);
        stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream
    }

    /// Sends what it can; whoever is refused cannot send all.
    fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        stream
    }
}

fn post(channel: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST /channels/{channel} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        payload.len()
    )
    .into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Publishes one message after the other, and counts those that are taken.
fn publish(addr: SocketAddr, messages: impl Iterator<Item = Vec<u8>>) -> usize {
    let mut taken = 0;
    let mut buffer = [0; 2048];
    let mut stream = TcpStream::connect(addr).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    for message in messages {
        let sent = stream.write_all(&message).and_then(|()| stream.read(&mut buffer));
        let answer = &buffer[..sent.unwrap_or(0)];
        taken += usize::from(answer.starts_with(b"HTTP/1.1 20"));
        let text = String::from_utf8_lossy(answer);
        if answer.is_empty() || text.contains("Connection: close") {
            stream = TcpStream::connect(addr).expect("connects");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        }
    }
    taken
}

/// Messages of all sizes over many channels, and readers that stand still and pin some.
fn messages(flooded: &Flooded) -> Vec<TcpStream> {
    let readers: Vec<_> =
        (0..150).map(|n| flooded.send(&upgrade(&format!("/ws?channel=c{}", n % 50)))).collect();
    let sizes = |n: usize| if n % 3 == 0 { n * 7_919 % 60_000 } else { n * 31 % 700 };
    let messages = (0..9_000).map(|n| post(&format!("c{}", n % 400), &vec![b'x'; sizes(n)]));
    let taken = publish(flooded.server.addr, messages);
    assert!(taken > 3_000, "{taken} of 9000 were taken");
    readers
}

/// A thousand and more who send half of something.
fn halves(flooded: &Flooded) -> Vec<TcpStream> {
    let half = vec![b'a'; 50_000];
    let mut clients = Vec::new();
    for number in 0..1_500 {
        let mut bytes = match number % 4 {
            0 => b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n"
                .to_vec(),
            1 => upgrade("/channels/a"),
            2 => upgrade("/ws"),
            _ => b"GET / HTTP/1.1\r\nHost: localhost\r\nA: ".to_vec(),
        };
        bytes.extend(match number % 4 {
            0 => half.repeat(number % 7),
            1 => frame(0x82, 60_000, &half),
            2 => frame(0x01, 10_000, &half[..10_000]).repeat(5),
            _ => half[..7_900].to_vec(),
        });
        clients.push(flooded.send(&bytes));
    }
    clients
}

/// Names as long as they may be, as many as one may have.
fn channels(flooded: &Flooded) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for client in 0..250 {
        let mut bytes = upgrade("/ws");
        for part in 0..4 {
            let name = |n: usize| format!("\"c{:0>250}\"", client * 128 + part * 32 + n);
            let names: Vec<_> = (0..32).map(name).collect();
            let command = format!(r#"{{"op":"subscribe","channels":[{}]}}"#, names.join(","));
            bytes.extend(frame(0x81, command.len(), command.as_bytes()));
        }
        clients.push(flooded.send(&bytes));
    }
    clients
}

/// Who asks for much and reads none of it. The kernel holds some of that too.
fn answers(flooded: &Flooded) -> Vec<TcpStream> {
    publish(flooded.server.addr, (0..20).map(|_| post("a", &[b'\n'; 50_000])));
    let ask = b"GET /poll?channel=a&since=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(60);
    (0..60).map(|_| flooded.send(&ask)).collect()
}

type Flood = fn(&Flooded) -> Vec<TcpStream>;

/// Each alone, and once more: what the allocator keeps of the first time serves the second.
fn flood_twice(name: &'static str, flood: Flood) {
    let flooded = Flooded::start(name);
    for _ in 0..2 {
        let clients = flood(&flooded);
        flooded.check();
        drop(clients);
        flooded.check_after();
    }
}

#[test]
fn messages_stay_within_the_memory() {
    flood_twice("messages", messages);
}

#[test]
fn half_of_anything_stays_within_the_memory() {
    flood_twice("halves", halves);
}

#[test]
fn channels_and_subscriptions_stay_within_the_memory() {
    flood_twice("channels", channels);
}

#[test]
fn answers_that_nobody_reads_stay_within_the_memory() {
    flood_twice("answers", answers);
}

/// One kind behind the other, while all who came stay: what gave way to the next lies in pieces.
#[test]
fn everything_together_stays_within_the_memory() {
    let flooded = Flooded::start("together");
    let floods: [Flood; 4] = [messages, halves, channels, answers];
    let mut clients = Vec::new();
    for flood in floods {
        clients.push(flood(&flooded));
        flooded.check();
    }
    drop(clients);
    flooded.check_after();
}

/// Killed when dropped.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// With few descriptors: who is beyond them is told so, and all who are within are served.
#[test]
fn the_limit_of_descriptors_is_raised_as_far_as_it_goes_and_respected() {
    let binary = env!("CARGO_BIN_EXE_holdline");
    let script = format!("ulimit -Sn 100; ulimit -Hn 256; exec {binary} --listen 127.0.0.1:0");
    let child = std::process::Command::new("sh")
        .args(["-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a shell");
    let Child(child) = &mut Child(child);
    let out = child.stdout.take().expect("stdout is piped");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(out));
    let line = lines.next().expect("a line").expect("text");
    let addr: SocketAddr =
        line.strip_prefix("listening on http://").and_then(|a| a.parse().ok()).expect("an address");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("limits");
    let limit = limits.lines().find(|line| line.starts_with("Max open files")).expect("its line");
    assert_eq!(limit.split_whitespace().nth(3), Some("256"), "the binary raises it: {limit}");

    let ask = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut buffer = [0; 2048];
        let n = stream.read(&mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    let connect = || {
        let stream = TcpStream::connect(addr).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream
    };
    let mut streams: Vec<_> = (0..400).map(|_| connect()).collect();
    let answers: Vec<_> = streams.iter_mut().map(ask).collect();
    let served = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 200")).count();
    assert_eq!(served, 256 - 64);
    for answer in answers.iter().filter(|answer| !answer.starts_with("HTTP/1.1 200")) {
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("Retry-After"), "{answer:?}");
    }
    assert!(ask(&mut streams[0]).starts_with("HTTP/1.1 200"), "who is here is still served");
    drop(streams);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut streams: Vec<_> = (0..150).map(|_| connect()).collect();
        if streams.iter_mut().all(|stream| ask(stream).starts_with("HTTP/1.1 200")) {
            break;
        }
        assert!(Instant::now() < deadline, "descriptors come back");
    }
}
