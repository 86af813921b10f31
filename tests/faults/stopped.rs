//! Clients whose process is stopped in the middle of a stream (SIGSTOP): publishers and other
//! readers do not notice, memory stays bounded, and whoever is continued goes on from what is kept.
//!
//! The client is `cat`, whose standard input is the socket: its process can be stopped, a thread
//! cannot.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use holdline::server::LocalAddr;
use holdline::{Config, Message};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

use crate::clock::Lateness;
use crate::fleet::crowd::{Crowd, Habits};
use crate::fleet::process::rss_kib;
use crate::fleet::publisher::{Load, Publisher};
use crate::fleet::reader::{Reader, Via};
use crate::fleet::{Connected, PATIENCE, eventually};
use crate::start_of;
use crate::support::Running;

/// A process that reads a socket, and the bytes that it has read.
struct Cat {
    child: Child,
    bytes: Receiver<Vec<u8>>,
}

impl Cat {
    fn start(addr: SocketAddr, request: &[u8]) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // The kernels hold less, so that less need be published.
        socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
        socket.connect(&addr.into()).expect("connects");
        (&socket).write_all(request).expect("sent");
        let mut command = Command::new("cat");
        command.stdin(std::os::fd::OwnedFd::from(socket)).stdout(Stdio::piped());
        let mut child = command.spawn().expect("cat starts");
        drop(command); // it holds the socket
        let mut out = child.stdout.take().expect("it is piped");
        let (sender, bytes) = channel();
        std::thread::spawn(move || {
            let mut room = [0; 64 * 1024];
            while let Ok(n @ 1..) = out.read(&mut room) {
                if sender.send(room[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, bytes }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn who_is_stopped_disturbs_nobody_and_goes_on_from_what_is_kept() {
    const MESSAGES: u64 = 400;
    const BYTES: usize = 50_000;
    const AHEAD: u64 = 80; // half of what is kept
    // Others are never behind by more than some of it; those who are stopped lose more.
    let server = Running::start(&["--history", "1000,1h,8M"]);
    let (origin, start) = (Instant::now(), start_of(server.addr));
    let mut stopped: Vec<(Reader, Cat)> = [Via::Ws, Via::Events, Via::Meta, Via::RawSse]
        .map(|via| {
            let mut reader = Reader::from_the_start(via, &["a"], &start, origin);
            let cat = Cat::start(server.addr, &reader.open());
            (reader, cat)
        })
        .into();
    eventually("them to listen", || match Connected::ask(server.addr).subscriptions {
        4 => Ok(()),
        n => Err(format!("{n} listen")),
    });
    stopped.iter().for_each(|(_, cat)| cat.signal(Signal::STOP));
    let before = rss_kib(server.pid());
    let (lateness, mut crowd) = (Lateness::watch(), Crowd::new(server.addr, 1));
    for via in Via::PROTOCOL {
        crowd.join(Reader::from_the_start(via, &["a"], &start, origin), Habits::STEADY);
    }
    let load = Load { bytes: BYTES, count: MESSAGES, ..Load::steady("a", 5) };
    let publisher = Publisher::start(server.addr, load, origin);
    let paced = |crowd: &mut Crowd| {
        let slowest = crowd.members.iter().map(|member| member.reader.ledger.delivered).min();
        publisher.allow(slowest.unwrap_or_default() + AHEAD);
        publisher.is_done()
    };
    assert!(crowd.run(2 * PATIENCE, paced), "it publishes all the same");
    let (count, waits) = publisher.stop();
    let totals = BTreeMap::from([("a".to_owned(), count)]);
    assert!(crowd.catch_up(&totals, PATIENCE), "others read on");
    let sum = crowd.sum(|_| true);
    assert_eq!((sum.lost, sum.twice, sum.gaps), (0, 0, 0), "lost, twice, gaps of the others");
    let grown = rss_kib(server.pid()).zip(before).map(|(now, before)| now.saturating_sub(before));
    let (answers, delivery) = (waits.p99_ms(), sum.waits.p99_ms());
    println!("{count} × {BYTES} B beside 4 that are stopped: p99 of answers {answers:.2} ms,");
    println!("of delivery {delivery:.2} ms; {grown:?} KiB more");
    let most = lateness.allow_ms(5_000.0);
    assert!(answers < most && delivery < most, "{answers} ms, {delivery} ms, not {most}");
    assert!(grown.is_none_or(|kib| kib < 24 * 1024), "{grown:?} KiB");
    stopped.iter().for_each(|(_, cat)| cat.signal(Signal::CONT));
    for (reader, cat) in &mut stopped {
        go_on(reader, cat, &totals);
    }
}

/// Reads until nothing is owed any more: from history, with what that had lost announced.
fn go_on(reader: &mut Reader, cat: &Cat, totals: &BTreeMap<String, u64>) {
    let via = reader.via;
    while reader.ledger.owed(totals) > 0 {
        let bytes = cat.bytes.recv_timeout(PATIENCE);
        let bytes = bytes.unwrap_or_else(|_| panic!("{via:?}: more, for {:?}", reader.ledger));
        reader.handle_bytes(&bytes, &mut Vec::new());
    }
    let ledger = &reader.ledger;
    println!("{}: {} came, {} in announced gaps", via.name(), ledger.delivered, ledger.missed);
    assert_eq!((ledger.lost, ledger.twice), (0, 0), "{via:?}: lost, twice");
    assert!(ledger.gaps > 0 && ledger.missed > 0, "{via:?}: history is smaller than that");
    assert_eq!(ledger.delivered + ledger.missed, totals["a"], "{via:?}");
}

#[test]
fn who_is_not_continued_is_closed_after_the_stall_time() {
    let stall = Duration::from_millis(1_000);
    let config = Config { open: true, write_stall: stall, ..Config::default() };
    let server = config.listen("127.0.0.1:0").bind().expect("binds");
    let Some(LocalAddr::Tcp(addr)) = server.local_addrs().first().cloned() else {
        panic!("no address")
    };
    let running = server.spawn().expect("a thread");
    let accept = "Accept: text/event-stream\r\n";
    let request = crate::fleet::request("GET", "/channels/a", accept, b"");
    let cat = Cat::start(addr, &request);
    eventually("it to listen", || match Connected::ask(addr).sse {
        1 => Ok(()),
        n => Err(format!("{n} streams")),
    });
    cat.signal(Signal::STOP);
    let began = Instant::now();
    Connected::default().wait_while(addr, || {
        // Less than is kept, so that the kernels fill up.
        for _ in 0..10 {
            running.hub().publish("a", Message::bytes(vec![b'x'; 60_000])).expect("room");
        }
    });
    // The server counts in whole milliseconds.
    let took = began.elapsed() + Duration::from_millis(2);
    assert!(took >= stall, "after {took:?}");
}
