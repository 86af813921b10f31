//! Fairness: what steady readers notice of a neighbour that floods, sends the largest messages,
//! leaves or comes back by the thousand, or listens to everything. Prints their latency beside what
//! it is without; only what would be a fault on any machine fails.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::clock::Lateness;
use crate::fleet::crowd::{Crowd, Cut, Habits};
use crate::fleet::ledger::Waits;
use crate::fleet::process::room_for;
use crate::fleet::publisher::{Load, Publisher};
use crate::fleet::reader::{Reader, Via};
use crate::fleet::{Connected, PATIENCE, answer, connect, number, request};
use crate::start_of;
use crate::support::Running;

/// How long each neighbour disturbs.
const WHILE: Duration = Duration::from_millis(1_500);
/// What half and what nearly all may take on any machine, and more where it is late itself.
const HALF_MS: f64 = 1_000.0;
const LATE_MS: f64 = 5_000.0;

/// Steady readers of one channel, and its publisher.
struct Street {
    server: Running,
    crowd: Crowd,
    publisher: Publisher,
    origin: Instant,
    steady: usize,
}

impl Street {
    fn new() -> Self {
        let server = Running::start(&[]);
        let (origin, start) = (Instant::now(), start_of(server.addr));
        let mut crowd = Crowd::new(server.addr, 1);
        for via in Via::PROTOCOL {
            for _ in 0..10 {
                crowd.join(Reader::from_the_start(via, &["calm"], &start, origin), Habits::STEADY);
            }
        }
        let publisher = Publisher::start(server.addr, Load::steady("calm", 10), origin);
        let steady = crowd.members.len();
        Self { server, crowd, publisher, origin, steady }
    }

    /// What the steady readers waited during this.
    fn measure(&mut self, name: &str) -> Waits {
        for member in &mut self.crowd.members[..self.steady] {
            member.reader.ledger.waits = Waits::default();
        }
        let (lateness, mut waits) = (Lateness::watch(), Waits::default());
        self.crowd.run(WHILE, |_| false);
        for member in &self.crowd.members[..self.steady] {
            waits.add(&member.reader.ledger.waits);
        }
        let (p50, p99) = (waits.p50_ms(), waits.p99_ms());
        println!("{name:<44} {p50:>8.2} {p99:>8.2} {:>8.2}", waits.max_us as f64 / 1e3);
        assert!(waits.count > 0, "{name}: nothing came");
        let [half, late] = [HALF_MS, LATE_MS].map(|ms| lateness.allow_ms(ms));
        assert!(p50 < half && p99 < late, "{name}: p50 {p50} ms, p99 {p99} ms, late {lateness:?}");
        waits
    }

    fn join(&mut self, count: usize, channels: &[&str]) {
        for n in 0..count {
            let via = Via::PROTOCOL[n % 3];
            self.crowd.join(Reader::from_now(via, channels, self.origin), Habits::STEADY);
        }
        let all = self.crowd.members.len();
        assert!(self.crowd.run(PATIENCE, |crowd| crowd.connected() == all), "all are connected");
    }

    /// Everyone but the steady ones is gone.
    fn clear(&mut self) {
        for at in self.steady..self.crowd.members.len() {
            self.crowd.leave(at, Cut::Reset);
        }
        self.crowd.members.truncate(self.steady);
    }
}

/// Publishes as fast as it is answered, a thousand messages a request, until it is dropped.
struct Flood(Arc<AtomicBool>, Option<std::thread::JoinHandle<u64>>);

impl Flood {
    fn start(addr: SocketAddr, channels: usize, bytes: usize) -> Self {
        let stops = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stops);
        let lines = if bytes > 1_000 { 15 } else { 1_000 };
        let line = |n: usize| {
            let text = "y".repeat(bytes);
            format!("{{\"channel\":\"flood{}\",\"text\":\"0 0 {text}\"}}\n", n % channels)
        };
        let body: String = (0..lines).map(line).collect();
        let thread = std::thread::spawn(move || {
            let (mut stream, mut ahead, mut sent) = (connect(addr), Vec::new(), 0);
            let bytes = request("POST", "/publish", "", body.as_bytes());
            while !stop.load(Ordering::Relaxed) {
                stream.write_all(&bytes).expect("sent");
                let told = answer(&mut stream, &mut ahead).expect("an answer");
                assert_eq!(told.status, 200, "{told:?}");
                sent += lines as u64;
                if told.is_closing() {
                    (stream, ahead) = (connect(addr), Vec::new());
                }
            }
            sent
        });
        Self(stops, Some(thread))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let sent = self.1.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || matches!(sent, Some(Ok(1..))), "it has flooded");
    }
}

/// `HOLDLINE_CROWD`: how many come and go at once.
#[test]
fn others_go_on_beside_any_neighbour() {
    let (crowd, _guard) = room_for(number("HOLDLINE_CROWD", 1_000));
    let crowd = crowd as usize;
    let (lateness, mut street) = (Lateness::watch(), Street::new());
    let addr = street.server.addr;
    println!("{:<44} {:>8} {:>8} {:>8}", "latency in ms", "p50", "p99", "max");
    street.measure("alone");
    let flood = Flood::start(addr, 1, 100);
    street.measure("a publisher that floods, 1 000 a request");
    drop(flood);
    // Their messages have no numbers of a publisher: whoever listens to them is no reader of books.
    let listeners: Vec<_> = (0..100).map(|_| listen(addr, 1)).collect();
    let flood = Flood::start(addr, 1, 60_000);
    street.measure("messages of 60 000 bytes to 100 that stall");
    drop((flood, listeners));
    let listener = listen(addr, 128);
    let flood = Flood::start(addr, 128, 100);
    street.measure("one that listens to 128 busy channels");
    drop((flood, listener));
    street.join(crowd, &["quiet"]);
    street.measure(&format!("{crowd} that are idle"));
    (street.steady..street.crowd.members.len()).for_each(|at| street.crowd.cut(at, Cut::Reset));
    street.measure(&format!("{crowd} cut at once, and back at once"));
    street.clear();
    street.measure("all of them gone at once");
    let steady = street.steady as u64;
    let (count, answers) = street.publisher.stop();
    let totals = BTreeMap::from([("calm".to_owned(), count)]);
    assert!(street.crowd.catch_up(&totals, PATIENCE));
    let sum = street.crowd.sum(|_| true);
    println!(
        "{:<44} {:>8.2} {:>8.2}",
        "answers to the publisher",
        answers.p50_ms(),
        answers.p99_ms()
    );
    assert_eq!((sum.lost, sum.twice, sum.gaps), (0, 0, 0), "lost, twice, gaps");
    assert_eq!(sum.delivered, count * steady);
    assert!(answers.p99_ms() < lateness.allow_ms(LATE_MS), "{} ms", answers.p99_ms());
    drop(street.crowd);
    Connected::wait_for_nobody(addr);
}

/// A stream of so many busy channels that nobody reads.
fn listen(addr: SocketAddr, channels: usize) -> std::net::TcpStream {
    let names: String = (0..channels).map(|n| format!("channel=flood{n}&")).collect();
    let mut stream = connect(addr);
    let accept = "Accept: text/event-stream\r\n";
    stream.write_all(&request("GET", &format!("/events?{names}"), accept, b"")).expect("sent");
    stream
}
