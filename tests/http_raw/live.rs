//! What needs more than one connection, a body of megabytes, or a look into a stream.

use std::time::Duration;

use super::case::{Want, error, status};
use super::http::{Answer, Pipe, Req, Shape, Trouble, Wire, shown};
use super::net::Net;

const PATIENCE: Duration = Duration::from_secs(8);
const FIVE_MB: usize = 5 * 1024 * 1024;

pub struct Check<N> {
    name: &'static str,
    check: fn(&N) -> Result<(), String>,
}

impl<N: Net> Check<N> {
    /// By name, what is wrong.
    pub fn run(&self, net: &N) -> Result<(), String> {
        (self.check)(net).map_err(|why| format!("{}: {why}", self.name))
    }
}

pub fn checks<N: Net>() -> [Check<N>; 9] {
    let check = |name, check| Check { name, check };
    [
        check("an error survives five megabytes", error_survives),
        check("a held poll goes before what follows it", held_poll_first),
        check("a held raw poll goes before what follows it", raw_poll_first),
        check("200 KiB behind a held poll", flood_behind_poll),
        check("a thousand requests in one write", thousand),
        check("HEAD repeats the headers of GET", head_like_get),
        check("a stream starts with retry and id", stream_starts),
        check("a stream ends with its client", stream_ends),
        check("a line of 1 MiB", large_publish),
    ]
}

fn told<P: Pipe>(wire: &Wire<P>, trouble: &Trouble) -> String {
    format!("{trouble}\n    came: {}", shown(wire.received()))
}

fn read<P: Pipe>(wire: &mut Wire<P>, want: &Want) -> Result<Answer, String> {
    let answer = wire.answer(want.shape()).map_err(|trouble| told(wire, &trouble))?;
    let wrong = want.judge(&answer, false);
    if wrong.is_empty() {
        Ok(answer)
    } else {
        Err(format!("{wrong:?}\n    came: {}", shown(wire.received())))
    }
}

fn send<P: Pipe>(wire: &mut Wire<P>, bytes: impl Into<Vec<u8>>) -> Result<(), String> {
    let bytes = bytes.into();
    wire.send(&bytes).map_err(|error| format!("sending {}: {error}", shown(&bytes)))
}

fn end<P: Pipe>(wire: &mut Wire<P>) -> Result<(), String> {
    match wire.drain() {
        Ok(rest) if rest.is_empty() => Ok(()),
        Ok(rest) => Err(format!("more than was wanted: {}", shown(&rest))),
        Err(trouble) => Err(told(wire, &trouble)),
    }
}

/// RFC 9112 §9.6: a close with unread bytes resets, and a reset discards the answer at a client
/// that writes all before it reads. So the rest is read and dropped for a while.
fn error_survives<N: Net>(net: &N) -> Result<(), String> {
    let post = |target: &str| Req::new(&format!("POST {target}"));
    let chunks = || format!("10000\r\n{}\r\n", "a".repeat(65536)).repeat(FIVE_MB / 65536);
    let rows: [(&str, Req, Want); 6] = [
        ("413", post("/channels/live"), error(413, "too_large")),
        ("413 of /publish", post("/publish"), error(413, "too_large")),
        ("404", post("/nope"), error(404, "not_found")),
        ("405", post("/health"), error(405, "method")),
        ("403", post("/channels/live").field("Origin: http://evil.example"), error(403, "origin")),
        ("417", post("/channels/live").field("Expect: x"), error(417, "expectation")),
    ];
    let exchange = |name: &str, request: Vec<u8>, want: &Want| {
        let mut wire = net.open(PATIENCE + net.late());
        wire.send(&request).map_err(|error| format!("{name}: sending was cut: {error}"))?;
        read(&mut wire, want).map_err(|why| format!("{name}: {why}"))?;
        end(&mut wire).map_err(|why| format!("{name}: {why}"))
    };
    // The loss is a race: once is no proof.
    for _ in 0..5 {
        for (name, request, want) in &rows {
            exchange(name, request.clone().body(vec![b'a'; FIVE_MB]).bytes(), want)?;
        }
        let request = post("/channels/live").chunked(chunks()).bytes();
        exchange("413 of chunks", request, &error(413, "too_large"))?;
    }
    Ok(())
}

/// The current position of a channel.
fn position<N: Net>(net: &N, channel: &str) -> Result<String, String> {
    let mut wire = net.open(PATIENCE + net.late());
    send(&mut wire, Req::new(&format!("GET /poll?channel={channel}")))?;
    let answer = read(&mut wire, &status(200))?;
    let cursor = answer.field("holdline-cursor").ok_or("no Holdline-Cursor")?;
    Ok(cursor.to_owned())
}

/// Asks with `poll`, pipelines two requests behind it, then lets it go by a publication. Whichever
/// of the two the server sees first, the poll's answer has the message and comes first.
fn released<N: Net>(net: &N, channel: &str, poll: Req, want: &Want) -> Result<(), String> {
    let mut wire = net.open(PATIENCE + net.late());
    send(&mut wire, poll)?;
    send(&mut wire, Req::new("GET /channels/live-behind"))?;
    send(&mut wire, Req::new("GET /nope").field("Connection: close"))?;
    let mut publisher = net.open(PATIENCE + net.late());
    send(&mut publisher, Req::new(&format!("POST /channels/{channel}")).body("hello"))?;
    read(&mut publisher, &status(202).or(201, ""))?;
    read(&mut wire, want)?;
    read(&mut wire, &status(200).says("\"channel\":\"live-behind\""))?;
    read(&mut wire, &error(404, "not_found"))?;
    end(&mut wire)
}

fn held_poll_first<N: Net>(net: &N) -> Result<(), String> {
    let since = position(net, "live-held")?;
    let poll = Req::new(&format!("GET /poll?channel=live-held&since={since}&wait=25"));
    released(net, "live-held", poll, &status(200).says("\"text\":\"hello\""))
}

fn raw_poll_first<N: Net>(net: &N) -> Result<(), String> {
    let since = position(net, "live-raw")?;
    let poll = Req::new(&format!("GET /channels/live-raw?since={since}&wait=25"));
    released(net, "live-raw", poll, &status(200).body("hello"))
}

/// More than a head may stand behind a held poll. Whether the server stops reading and closes after
/// the answer, or goes on when it is free again, is not settled; the order and an end are.
fn flood_behind_poll<N: Net>(net: &N) -> Result<(), String> {
    let next = Req::new("GET /health").bytes();
    let count = 200 * 1024 / next.len();
    let mut wire = net.open(PATIENCE + net.late());
    send(&mut wire, Req::new("GET /poll?channel=live-flood&since=latest&wait=1"))?;
    send(&mut wire, next.repeat(count))?;
    send(&mut wire, Req::new("GET /health").field("Connection: close"))?;
    read(&mut wire, &status(200).says("\"messages\":[]"))?;
    for _ in 0..=count {
        match wire.answer(Shape::Full) {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => return Err(format!("{} in place of 200", answer.status)),
            Err(Trouble::End | Trouble::Reset(_)) => return Ok(()),
            Err(trouble) => return Err(trouble.to_string()),
        }
    }
    end(&mut wire)
}

/// As many as a connection may make at least; a limit of requests may end it after them.
fn thousand<N: Net>(net: &N) -> Result<(), String> {
    let mut wire = net.open(PATIENCE + net.late());
    let request = |i: usize| Req::new(&format!("GET /channels/live-{i}")).bytes();
    send(&mut wire, (0..1000).flat_map(request).collect::<Vec<u8>>())?;
    for i in 0..1000 {
        let want = status(200).says(&format!("\"channel\":\"live-{i}\""));
        read(&mut wire, &want).map_err(|why| format!("answer {i}: {why}"))?;
    }
    Ok(())
}

/// RFC 9110 §9.3.2: the same fields, and a length only if it is the true one.
fn head_like_get<N: Net>(net: &N) -> Result<(), String> {
    for target in ["/health", "/ready", "/", "/nope", "/channels/_x", "/poll"] {
        let mut wire = net.open(PATIENCE + net.late());
        send(&mut wire, Req::new(&format!("GET {target}")))?;
        send(&mut wire, Req::new(&format!("HEAD {target}")))?;
        let get = wire.answer(Shape::Full).map_err(|trouble| told(&wire, &trouble))?;
        let head = wire.answer(Shape::Head).map_err(|trouble| told(&wire, &trouble))?;
        if get.status != head.status {
            return Err(format!("{target}: GET {}, HEAD {}", get.status, head.status));
        }
        if head.field("content-length").is_some_and(|n| n != get.body.len().to_string()) {
            return Err(format!("{target}: HEAD has another length: {:?}", head.fields));
        }
        // Framing may be left out of the answer to HEAD; Date may differ.
        let names = |answer: &Answer| {
            let names = answer.fields.iter().map(|(name, _)| name.to_ascii_lowercase());
            let mut names: Vec<String> = names
                .filter(|n| !matches!(n.as_str(), "content-length" | "transfer-encoding"))
                .collect();
            names.sort();
            names
        };
        if names(&get) != names(&head) {
            return Err(format!(
                "{target}: GET has {:?}, HEAD has {:?}",
                names(&get),
                names(&head)
            ));
        }
    }
    Ok(())
}

/// The first block, framed as the version demands: one chunk in 1.1, bare in 1.0.
fn stream_starts<N: Net>(net: &N) -> Result<(), String> {
    let request = || Req::new("GET /events?channel=live-stream");
    for (request, chunked) in [(request(), true), (request().ten(), false)] {
        let mut wire = net.open(PATIENCE + net.late());
        send(&mut wire, request)?;
        wire.answer(Shape::Open).map_err(|trouble| told(&wire, &trouble))?;
        let block = wire.block(chunked).map_err(|trouble| told(&wire, &trouble))?;
        let lines: Vec<&str> = block.lines().collect();
        let retry = lines.first().and_then(|line| line.strip_prefix("retry: "));
        let in_range =
            retry.and_then(|n| n.parse().ok()).is_some_and(|n| (2000..=5000).contains(&n));
        let id = lines.get(1).is_some_and(|line| line.starts_with("id: ") && line.contains('-'));
        if !in_range || !id || lines.len() != 3 || !lines[2].is_empty() {
            return Err(format!("first block {block:?}"));
        }
    }
    Ok(())
}

/// A stream whose client has ended is gone: nobody half-closes one in earnest.
fn stream_ends<N: Net>(net: &N) -> Result<(), String> {
    for target in ["/events?channel=live-end", "/channels/live-end"] {
        let mut wire = net.open(PATIENCE + net.late());
        send(&mut wire, Req::new(&format!("GET {target}")).field("Accept: text/event-stream"))?;
        wire.answer(Shape::Open).map_err(|trouble| told(&wire, &trouble))?;
        wire.finish();
        while wire.read_more().map_err(|trouble| told(&wire, &trouble))? {
            // What stays open gets heartbeats.
            if String::from_utf8_lossy(wire.unread()).contains("heartbeat") {
                return Err(format!("{target}: it went on: {}", shown(wire.received())));
            }
        }
    }
    Ok(())
}

/// The bodies of `/publish` are bounded by a limit of their own.
fn large_publish<N: Net>(net: &N) -> Result<(), String> {
    const MIB: usize = 1024 * 1024;
    let line = |length: usize| {
        let around = "{\"channel\":\"live\",\"text\":\"\"}".len();
        format!("{{\"channel\":\"live\",\"text\":\"{}\"}}", "a".repeat(length - around))
    };
    let one = "{\"channel\":\"live\",\"text\":\"\"}\n";
    let rows: [(&str, String, Want); 4] = [
        ("1 MiB", line(MIB), status(200).says("\"error\":\"too_large\"")),
        ("1 MiB and a byte", line(MIB + 1), error(413, "too_large")),
        ("1000 lines", one.repeat(1000), status(200)),
        ("1001 lines", one.repeat(1001), error(413, "too_large")),
    ];
    for (name, body, want) in rows {
        let mut wire = net.open(PATIENCE + net.late());
        send(&mut wire, Req::new("POST /publish").body(body))
            .map_err(|why| format!("{name}: {why}"))?;
        let answer = read(&mut wire, &want).map_err(|why| format!("{name}: {why}"))?;
        let lines = answer.body.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count();
        if name == "1000 lines" && lines != 1000 {
            return Err(format!("{name}: {lines} answers"));
        }
    }
    Ok(())
}
