//! What clients send, from bytes to values: request heads, WebSocket frames, commands, JSON.

#[allow(dead_code, unreachable_pub, reason = "the other benchmarks use the rest")]
mod support;

#[path = "support/measure.rs"]
mod measure;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use holdline::Config;
use holdline::conn::ws::{Frame, Reader, Step, WsLimits};
use holdline::engine::{Answer, App, ConnId, Ctx, Kind, Request, Route};
use holdline::message::Message;
use holdline::wire::command::{parse_command, parse_line};
use holdline::wire::http::{HeadLimits, HeadScan, parse};
use measure::{Busy, config};
use support::{Driver, Transport, frame};

const KIB: usize = 1024;
const HEAD: HeadLimits =
    HeadLimits { head_bytes_max: 16 * KIB, line_bytes_max: 8 * KIB, headers_max: 64 };
const WS: WsLimits = WsLimits {
    frame_bytes_max: 64 * KIB as u64,
    message_bytes_max: 64 * KIB as u64,
    fragments_max: 128,
};

criterion_group! { name = codec; config = config(); targets = heads, frames, split, pieces, commands, json }
criterion_main!(codec);

/// A head of curl's, a browser's upgrade, and what a proxy with many cookies makes of it.
fn some_heads() -> [(&'static str, Vec<u8>); 3] {
    let start = "GET /channels/news?since=k3J9xQ-42 HTTP/1.1\r\nHost: localhost:7070\r\n";
    let curl = format!("{start}User-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n");
    let browser = format!(
        "{start}Connection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n\
         Upgrade: websocket\r\nOrigin: http://localhost:7070\r\nSec-WebSocket-Version: 13\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    );
    let more: String = (0..40)
        .map(|number| format!("X-Forwarded-Thing-{number}: {}\r\n", "value ".repeat(30)))
        .collect();
    let large = browser.replacen("\r\n\r\n", &format!("\r\n{more}\r\n"), 1);
    [("curl", curl.into()), ("browser", browser.into()), ("large", large.into())]
}

fn heads(c: &mut Criterion<Busy>) {
    let mut group = c.benchmark_group("head, scan and parse");
    for (name, head) in some_heads() {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(BenchmarkId::new(name, head.len()), |b| {
            b.iter(|| {
                let len = HeadScan::default().scan(black_box(&head), &HEAD);
                assert_eq!(len, Ok(Some(head.len())), "it is whole");
                parse(&head, &HEAD).expect("it is good")
            });
        });
        if name == "browser" {
            group.bench_function(BenchmarkId::new("browser, byte by byte", head.len()), |b| {
                b.iter(|| {
                    let mut scan = HeadScan::default();
                    let is_whole = |end: &usize| scan.scan(&head[..*end], &HEAD) != Ok(None);
                    assert_eq!((1..=head.len()).find(is_whole), Some(head.len()), "at its end");
                    parse(black_box(&head), &HEAD).expect("it is good")
                });
            });
        }
    }
}

/// Reads everything; returns how many messages and bytes there were.
fn read(reader: &mut Reader, mut input: &mut [u8]) -> (usize, usize) {
    let (mut messages, mut bytes) = (0, 0);
    loop {
        match reader.step(&mut input, &WS).expect("good frames") {
            Step::Frame(Frame::Message { payload, .. }) => {
                messages += 1;
                bytes += payload.len();
            }
            Step::Frame(_) | Step::Progress => {}
            Step::NeedMore => return (messages, bytes),
        }
    }
}

fn frames(c: &mut Criterion<Busy>) {
    let mut group = c.benchmark_group("frames, parse and unmask");
    for (name, count, len) in [
        ("16 B", 1, 16),
        ("16 of 32 B", 16, 32),
        ("128 B", 1, 128),
        ("1 KiB", 1, KIB),
        ("4 KiB", 1, 4 * KIB),
        ("16 KiB", 1, 16 * KIB),
        ("64 KiB", 1, 64 * KIB),
    ] {
        let bytes = frame(&vec![b'a'; len]).repeat(count);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || bytes.clone(),
                |bytes| assert_eq!(read(&mut Reader::new(), bytes), (count, count * len)),
                BatchSize::SmallInput,
            );
        });
    }
}

fn split(c: &mut Criterion<Busy>) {
    let mut group = c.benchmark_group("a frame of 64 KiB in pieces");
    let bytes = frame(&vec![b'a'; 64 * KIB]);
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for piece in [16 * KIB, 1_448, 64] {
        group.bench_function(BenchmarkId::from_parameter(piece), |b| {
            b.iter_batched_ref(
                || bytes.clone(),
                |bytes| {
                    let mut reader = Reader::new();
                    // The first piece holds the whole header, so nothing is left over.
                    let read = bytes.chunks_mut(piece).map(|piece| read(&mut reader, piece));
                    assert_eq!(read.map(|(messages, _)| messages).sum::<usize>(), 1);
                },
                BatchSize::SmallInput,
            );
        });
    }
}

/// Takes messages, and counts them.
struct Count(Arc<AtomicUsize>);

impl App for Count {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, _: &Request<'_>) -> Answer<Route> {
        Answer::Done(Route::WebSocket { protocol: None })
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: ConnId, _: Kind, bytes: &[u8]) {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
    }
}

/// A message through a connection, which keeps what a read left of a header or a payload.
fn pieces(c: &mut Criterion<Busy>) {
    const HEADER: usize = 8;
    let bytes = frame(&vec![b'a'; KIB]);
    let mut group = c.benchmark_group("a message of 1 KiB to the engine");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let byte_wise: Vec<usize> = (1..=HEADER).collect();
    for (name, cuts) in [
        ("one read", &[][..]),
        ("two reads, cut in the header", &[HEADER / 2]),
        ("two reads, cut in the payload", &[KIB / 2]),
        ("the header byte by byte", &byte_wise),
    ] {
        let counted = Arc::new(AtomicUsize::new(0));
        let mut driver = Driver::new(Config::default(), 1);
        driver.engine.set_app(Box::new(Count(Arc::clone(&counted))));
        let id = driver.connect(&Transport::WsRaw.request_to("/"));
        driver.drain();
        let (mut sent, now) = (0, driver.now);
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || bytes.clone(),
                |bytes| {
                    sent += KIB;
                    let ends = cuts.iter().copied().chain([bytes.len()]);
                    ends.fold(0, |start, end| {
                        driver.engine.handle_bytes(id, &mut bytes[start..end], now);
                        end
                    });
                },
                BatchSize::SmallInput,
            );
        });
        assert_eq!(counted.load(Ordering::Relaxed), sent, "{name}: all of it came");
    }
}

fn commands(c: &mut Criterion<Busy>) {
    let mut group = c.benchmark_group("commands");
    let publish = concat!(
        r#"{"op":"publish","ref":4,"channel":"news","event":"price","#,
        r#""data":{"symbol":"ABC","price":[101.25,101.5],"at":1764000000123}}"#
    );
    let text = format!(r#"{{"op":"publish","channel":"news","text":"{}"}}"#, "x".repeat(KIB));
    let subscribe = r#"{"op":"subscribe","ref":2,"channel":"news","since":"k3J9xQ-42"}"#;
    let cases = [("publish", publish), ("publish 1 KiB of text", &text), ("subscribe", subscribe)];
    for (name, command) in cases {
        group.throughput(Throughput::Bytes(command.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| parse_command(black_box(command), 64 * KIB, 128).command.expect("good"));
        });
    }
    let line = publish.replacen(r#""op":"publish","ref":4,"#, "", 1);
    group.throughput(Throughput::Bytes(line.len() as u64));
    group.bench_function("a line of /publish", |b| {
        b.iter(|| parse_line(black_box(line.as_bytes()), 64 * KIB).expect("good"));
    });
}

/// Checked, its depth bounded, and brought onto one line.
fn json(c: &mut Criterion<Busy>) {
    let mut group = c.benchmark_group("a JSON payload, check and flatten");
    let entry = "  {\n    \"name\": \"a \\\"b\\\"\",\n    \"values\": [1, 2.5, null]\n  }";
    for size in [64, KIB, 60 * KIB] {
        let entries = vec![entry; (size / entry.len()).max(1)];
        let text = format!("[\n{}\n]\n", entries.join(",\n"));
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(text.len()), |b| {
            b.iter_batched(
                || text.clone(),
                |text| Message::json(text).expect("it is JSON"),
                BatchSize::SmallInput,
            );
        });
    }
}
