//! Clients that send slowly or not at all (slowloris): ended in time, with 408 where one was begun.

use std::time::Duration;

use super::case::{Want, error, status};
use super::http::{Pipe, Req, Shape, Trouble, Wire, shown};
use super::net::Net;

/// A head is given 10 s, a body a grace of 5 s at least.
const HEAD: std::ops::Range<u64> = 8..15;
const BODY: std::ops::Range<u64> = 4..15;
const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub struct Slow {
    pub name: &'static str,
    /// Sent at once.
    start: Vec<u8>,
    /// Sent byte by byte afterwards, one each `STEP`, until the server ends it.
    drip: Vec<u8>,
    answered_first: bool,
    /// `None`: the end comes without an answer.
    want: Option<Want>,
    seconds: std::ops::Range<u64>,
}

pub fn table() -> Vec<Slow> {
    let timeout = || Some(error(408, "timeout"));
    let long = format!("GET /health?{} HTTP/1.1\r\n", "a".repeat(100)).into_bytes();
    let post = || Req::new("POST /channels/slow").field("Content-Length: 5000");
    let head = |name, start: &str, drip: &[u8], answered_first| Slow {
        name,
        start: start.into(),
        drip: drip.to_vec(),
        answered_first,
        want: timeout(),
        seconds: HEAD,
    };
    let body = |name, start: Req, drip: &[u8]| Slow {
        name,
        start: start.bytes(),
        drip: drip.to_vec(),
        answered_first: false,
        want: timeout(),
        seconds: BODY,
    };
    let next = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    vec![
        Slow { want: None, ..head("nothing is sent", "", b"", false) },
        head("a head stops", "GET /health HTTP/1.1\r\nHost: local", b"", false),
        head(
            "a head stops before its last byte",
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r",
            b"",
            false,
        ),
        head("a head drips", "", &long, false),
        head("a second head stops", &format!("{next}GET /health HTTP/1.1\r\n"), b"", true),
        head("a second head drips", next, &long, true),
        body("a body does not start", post(), b""),
        body("a body stops", post().raw("hello"), b""),
        body("a body drips", post(), &[b'a'; 100]),
        body("chunks stop", Req::new("POST /channels/slow").chunked("5\r\nhel"), b""),
        body("chunks drip", Req::new("POST /channels/slow").chunked("800\r\n"), &[b'a'; 100]),
        body("a size does not end", Req::new("POST /channels/slow").chunked(""), &[b'0'; 15]),
    ]
}

fn told<P: Pipe>(slow: &Slow, wire: &Wire<P>, trouble: &Trouble) -> String {
    format!("{}: {trouble}\n    came: {}", slow.name, shown(wire.received()))
}

pub fn run<N: Net>(net: &N, slow: &Slow) -> Result<(), String> {
    let mut wire = net.open(PATIENCE + net.late());
    let since = net.clock();
    // The server may end at any of these bytes.
    let mut sent = wire.send(&slow.start);
    if slow.answered_first {
        wire.answer(Shape::Full).map_err(|trouble| told(slow, &wire, &trouble))?;
    }
    for byte in slow.drip.chunks(1) {
        if sent.is_err() || wire.is_answered() {
            break;
        }
        sent = wire.send(byte);
        net.pause(STEP);
    }
    if let Some(want) = &slow.want {
        let answer = wire.answer(Shape::Full).map_err(|trouble| told(slow, &wire, &trouble))?;
        let mut wrong = want.judge(&answer, false);
        if !answer.lists("connection", "close") {
            wrong.push("closes without saying so".to_owned());
        }
        if !wrong.is_empty() {
            return Err(format!("{}: {wrong:?}", slow.name));
        }
    }
    let rest = wire.drain().map_err(|trouble| told(slow, &wire, &trouble))?;
    let took = (net.clock() - since).as_secs();
    let most = slow.seconds.end + net.late().as_secs();
    if !rest.is_empty() || !(slow.seconds.start..most).contains(&took) {
        return Err(format!("{}: ended after {took} s with {}", slow.name, shown(&rest)));
    }
    Ok(())
}

/// Ten times the least rate is no attack, even where it takes longer than the grace.
pub fn fast_enough<N: Net>(net: &N) -> Result<(), String> {
    let mut wire = net.open(PATIENCE + net.late());
    let failed = |why: String| format!("a body at 10 KiB/s: {why}");
    let head = Req::new("POST /channels/slow").field("Content-Length: 61440").bytes();
    wire.send(&head).map_err(|error| failed(error.to_string()))?;
    for _ in 0..60 {
        net.pause(Duration::from_millis(100));
        wire.send(&[b'a'; 1024]).map_err(|error| failed(error.to_string()))?;
    }
    let answer = wire.answer(Shape::Full).map_err(|trouble| failed(trouble.to_string()))?;
    let wrong = status(202).judge(&answer, false);
    if wrong.is_empty() { Ok(()) } else { Err(failed(format!("{wrong:?}"))) }
}
