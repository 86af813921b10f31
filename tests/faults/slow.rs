//! Slowloris in its three forms: a head, a body, and an answer, each a byte at a time. The
//! attackers are ended at the stated times, cost little, and others do not notice.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use holdline::server::LocalAddr;
use holdline::{Config, Message};

use crate::clock::Lateness;
use crate::fleet::ledger::Waits;
use crate::fleet::process::{room_for, rss_kib};
use crate::fleet::{PATIENCE, answer, call, connect, eventually, number, request};
use crate::support::Running;

/// By how much a timer may be late on a machine that has nothing else to do.
const LATE: Duration = Duration::from_secs(3);

fn hasty() -> Config {
    let ms = Duration::from_millis;
    Config {
        open: true,
        head_timeout: ms(1_000),
        body_grace: ms(700),
        write_stall: ms(1_000),
        linger: ms(500),
        ..Config::default()
    }
}

/// A server whose patience is short.
fn start() -> (SocketAddr, holdline::server::Running) {
    let server = hasty().listen("127.0.0.1:0").bind().expect("binds");
    let Some(LocalAddr::Tcp(addr)) = server.local_addrs().first().cloned() else {
        panic!("no address")
    };
    (addr, server.spawn().expect("a thread"))
}

/// Sends a byte every so often until something comes back, which must be a 408 after this time.
#[track_caller]
fn assert_ended(stream: &mut TcpStream, bytes: impl Iterator<Item = u8>, after: Duration) {
    let lateness = Lateness::watch();
    let (told, took) = drip(stream, bytes);
    let text = String::from_utf8_lossy(&told);
    assert!(text.starts_with("HTTP/1.1 408 "), "came {text:?}");
    let most = lateness.allow(after + LATE);
    assert!((after..most).contains(&took), "after {took:?}, not {after:?} to {most:?}");
}

/// Sends a byte every so often until something comes back: what, and after how long.
fn drip(stream: &mut TcpStream, mut bytes: impl Iterator<Item = u8>) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    stream.set_nonblocking(true).expect("nonblocking");
    let mut room = [0; 4096];
    while began.elapsed() < PATIENCE {
        match stream.read(&mut room) {
            Ok(n) => return (room[..n].to_vec(), began.elapsed()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}, and no answer"),
        }
        let _ = stream.write(&[bytes.next().expect("more than anybody waits for")]);
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("no end of the patience");
}

#[test]
fn a_head_byte_by_byte_is_408_in_its_time() {
    let (addr, _running) = start();
    let endless = b"GET /health HTTP/1.1\r\nX: ".iter().copied().chain(std::iter::repeat(b'x'));
    assert_ended(&mut connect(addr), endless, hasty().head_timeout);
}

#[test]
fn a_body_below_the_rate_is_408_after_the_grace() {
    let (addr, _running) = start();
    let mut stream = connect(addr);
    let head = b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n";
    stream.write_all(head).expect("sent");
    assert_ended(&mut stream, std::iter::repeat(b'x'), hasty().body_grace);
}

/// It reads so little that the kernel never says that there is room.
#[test]
fn an_answer_read_byte_by_byte_ends_after_the_stall() {
    let (addr, running) = start();
    // More than the kernel takes for a reader, all of it kept.
    for n in 0..300 {
        let channel = format!("a{}", n % 30);
        running.hub().publish(&channel, Message::bytes(vec![b'x'; 60_000])).expect("room");
    }
    let mut stream = narrow(addr);
    let names: String = (0..30).map(|n| format!("channel=a{n}&")).collect();
    let target = &format!("/events?{names}since=earliest");
    stream.write_all(&request("GET", target, "Accept: text/event-stream\r\n", b"")).expect("sent");
    stream.set_nonblocking(true).expect("nonblocking");
    let mut byte = [0];
    let mut read = 0;
    eventually("the end of the reader", || {
        read += stream.read(&mut byte).unwrap_or_default();
        match call(addr, "GET", "/stats", b"").json()["connections"]["sse"].as_u64() {
            Some(0) if read > 10 => Ok(()),
            n => Err(format!("{n:?} streams after {read} bytes")),
        }
    });
    assert!(read < 60_000, "it never read much: {read}");
}

/// A connection whose kernel takes next to nothing that is not read.
fn narrow(addr: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(1_024).expect("a small buffer");
    socket.connect(&addr.into()).expect("connects");
    socket.into()
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Head,
    Body,
    Reading,
}

impl Form {
    /// As much as an attacker can have the server keep, then a byte now and then.
    fn attack(self, addr: SocketAddr) -> TcpStream {
        let filler = "x".repeat(7_000);
        let bytes = match self {
            Self::Head => {
                format!("GET /health HTTP/1.1\r\nA: {filler}\r\nB: {filler}").into_bytes()
            }
            Self::Body => {
                let head = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000";
                format!("{head}\r\n\r\n{filler}").into_bytes()
            }
            Self::Reading => {
                let target = "/events?channel=kept0&channel=kept1&channel=kept2&channel=kept3&\
                              channel=kept4&channel=kept5&channel=kept6&since=earliest";
                request("GET", target, "Accept: text/event-stream\r\n", b"")
            }
        };
        let mut stream = narrow(addr);
        stream.write_all(&bytes).expect("sent");
        stream
    }

    /// What one may cost the server, in KiB: what it was sent, and a little for itself.
    fn cost_kib(self) -> u64 {
        match self {
            Self::Head | Self::Body => 24,
            Self::Reading => 8,
        }
    }
}

#[test]
fn a_thousand_attackers_cost_little_and_others_do_not_notice() {
    let (attackers, _guard) = room_for(number("HOLDLINE_ATTACKERS", 1_000));
    for form in [Form::Head, Form::Body, Form::Reading] {
        let server = Running::start(&[]);
        for n in 0..100 {
            call(server.addr, "POST", &format!("/channels/kept{}", n % 7), &[b'x'; 60_000]);
        }
        let before = rss_kib(server.pid());
        let mut streams: Vec<_> = (0..attackers).map(|_| form.attack(server.addr)).collect();
        let (lateness, mut waits) = (Lateness::watch(), Waits::default());
        let (mut stream, mut ahead) = (connect(server.addr), Vec::new());
        for _ in 0..20 {
            for stream in &mut streams {
                // Whoever was ended gets a reset: it is the others that count here.
                let _ = match form {
                    Form::Head | Form::Body => stream.write(b"x"),
                    Form::Reading => stream.read(&mut [0]),
                };
            }
            let began = Instant::now();
            stream.write_all(&request("GET", "/health", "", b"")).expect("sent");
            assert_eq!(answer(&mut stream, &mut ahead).expect("an answer").status, 200);
            waits.note(began.elapsed().as_micros() as u64);
        }
        let grown =
            rss_kib(server.pid()).zip(before).map(|(now, before)| now.saturating_sub(before));
        let (p50, p99) = (waits.p50_ms(), waits.p99_ms());
        println!("{attackers} × {form:?}: {grown:?} KiB more, others {p50:.2} ms, p99 {p99:.2} ms");
        let most = form.cost_kib() * attackers + 4_096;
        assert!(grown.is_none_or(|grown| grown < most), "{form:?}: {grown:?} KiB, not {most}");
        let most = lateness.allow_ms(2_000.0);
        assert!(p50 < most, "{form:?}: {p50} ms, not {most}");
    }
}
