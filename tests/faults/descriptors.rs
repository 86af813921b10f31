//! Descriptors run out for real: the kernel gives no more. Whoever is connected goes on, whoever is
//! too much is told or waits, nobody hangs, the loop does not spin, and when some leave, others
//! come in.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::fleet::process::{descriptors, ticks};
use crate::fleet::{Connected, PATIENCE, answer, connect, eventually, request};
use crate::support::Running;

/// Descriptors of the server, hard.
const LIMIT: u32 = 64;
const TOO_MANY: usize = 150;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Served,
    Refused,
    Waits,
}

/// What has come by now, without waiting.
fn told(stream: &mut TcpStream, got: &mut Vec<u8>) -> Told {
    stream.set_nonblocking(true).expect("nonblocking");
    let mut room = [0; 4096];
    loop {
        match stream.read(&mut room) {
            Ok(0) if got.is_empty() => panic!("an end without a word"),
            Ok(0) => break,
            Ok(n) => got.extend_from_slice(&room[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(got)),
        }
    }
    match got.get(9..12) {
        None => Told::Waits,
        Some(b"200") => Told::Served,
        Some(b"503") => Told::Refused,
        Some(_) => panic!("came {:?}", String::from_utf8_lossy(got)),
    }
}

fn count(waiting: &mut [(TcpStream, Vec<u8>)], what: Told) -> usize {
    waiting.iter_mut().map(|(stream, got)| told(stream, got)).filter(|one| *one == what).count()
}

/// The two limits: the server's own below that of the kernel, and the kernel's alone.
#[test]
fn its_own_limit_is_below_that_of_the_kernel() {
    overrun(&[], 16);
}

#[test]
fn without_descriptors_others_go_on_and_nobody_hangs() {
    overrun(&["--connections-max", "10000"], 40);
}

fn overrun(args: &[&str], served_min: usize) {
    let server = Running::start_limited(LIMIT, args);
    let mut early = connect(server.addr);
    early
        .write_all(&request("GET", "/channels/a", "Accept: text/event-stream\r\n", b""))
        .expect("sent");
    let mut publisher = (connect(server.addr), Vec::new());
    let mut publish = |text: &str| {
        let bytes = request("POST", "/channels/a", "", text.as_bytes());
        publisher.0.write_all(&bytes).expect("sent");
        answer(&mut publisher.0, &mut publisher.1).expect("an answer").status
    };
    assert_eq!(publish("first"), 201);
    let mut waiting: Vec<_> = (0..TOO_MANY).map(|_| (connect(server.addr), Vec::new())).collect();
    for (stream, _) in &mut waiting {
        // Whoever was told already may have been closed.
        let _ = stream.write_all(&request("GET", "/health", "", b""));
    }
    let served = eventually("as many as it has descriptors for", || {
        match count(&mut waiting, Told::Served) {
            n if n + 2 >= served_min => Ok(n),
            n => Err(format!("{n} served")),
        }
    });
    // At the limit: those who are in go on, and the loop sleeps.
    let before = ticks(server.pid());
    let began = Instant::now();
    for n in 0..20 {
        assert_eq!(publish(&n.to_string()), 201, "a publisher that is in");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (used, took) = (ticks(server.pid()).zip(before).map(|(a, b)| a - b), began.elapsed());
    let (refused, waits) = (count(&mut waiting, Told::Refused), count(&mut waiting, Told::Waits));
    println!("{served} served, {refused} refused, {waits} wait; {used:?} ticks in {took:?}");
    assert!(served < TOO_MANY, "the limit is one");
    assert!(used.is_none_or(|used| used < 15), "{used:?} hundredths of a second in {took:?}");
    until(&mut early, "data: 19");
    // Those who are served leave; whoever waits comes in or is told.
    waiting.retain_mut(|(stream, got)| told(stream, got) == Told::Waits);
    eventually("the end of all waiting", || match count(&mut waiting, Told::Waits) {
        0 => Ok(()),
        n => Err(format!("{n} wait")),
    });
    drop(waiting);
    assert_eq!(publish("last"), 201);
    until(&mut early, "data: last");
    drop((early, publisher));
    Connected::wait_for_nobody(server.addr);
    assert!(descriptors(server.pid()).is_none_or(|n| n < 20), "{:?}", descriptors(server.pid()));
}

/// Reads a stream until this has come.
fn until(stream: &mut TcpStream, wanted: &str) {
    let (mut got, mut room) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + PATIENCE;
    while !String::from_utf8_lossy(&got).contains(wanted) {
        assert!(Instant::now() < deadline, "expected {wanted}");
        let n = stream.read(&mut room).expect("more of the stream");
        assert!(n > 0, "the end before {wanted}");
        got.extend_from_slice(&room[..n]);
    }
}
