//! One publication in every way of saying it.

#[path = "support/measure.rs"]
mod measure;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use holdline::hub::{History, Item, PullLimits, Want};
use holdline::wire::dialect::{Dialect, Framing};
use holdline::{Config, Epoch, Message, Now};
use measure::{Busy, config};

const DIALECTS: [(&str, Dialect); 9] = [
    ("ws-raw", Dialect::WsRaw),
    ("ws-meta", Dialect::WsMeta),
    ("ws-json", Dialect::WsJson),
    ("ws-json with cursor", Dialect::WsJsonCursor),
    ("sse-raw", Dialect::SseRaw(Framing::Chunked)),
    ("sse-raw 1.0", Dialect::SseRaw(Framing::Bare)),
    ("sse-json", Dialect::SseJson(Framing::Chunked)),
    ("sse-json 1.0", Dialect::SseJson(Framing::Bare)),
    ("poll", Dialect::Poll),
];

criterion_group! { name = render; config = config(); targets = texts, forms }
criterion_main!(render);

/// A message with its place in the order.
fn published(message: Message) -> (Epoch, Item) {
    let epoch = Epoch::from_random(7);
    let now = Now { mono_ms: 1_000, unix_ms: 1_764_000_000_123 };
    let history = History::new(&Config::default(), epoch, now);
    let channel = history.join("news", None, 0, now).expect("there is room").channel;
    history.publish("news", message, now).expect("it is taken");
    let want = Want { channel, after: 0, catching_up: false };
    let limits = PullLimits { count: 1, bytes: usize::MAX };
    let mut items = Vec::new();
    history.pull(&[want], 1, limits, now, &mut items, &mut Vec::new());
    (epoch, items.pop().expect("one message"))
}

fn bench(c: &mut Criterion<Busy>, name: &str, message: Message) {
    let mut group = c.benchmark_group(name);
    let (epoch, item) = published(message);
    let mut out = Vec::with_capacity(512 * 1024);
    for (name, dialect) in DIALECTS {
        out.clear();
        dialect.publication(&mut out, &item, epoch);
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                out.clear();
                dialect.publication(&mut out, black_box(&item), epoch);
            });
        });
    }
}

fn texts(c: &mut Criterion<Busy>) {
    for (name, size) in [("64 B", 64), ("1 KiB", 1024), ("64 KiB", 64 * 1024)] {
        // Lines of usual length, since lines are what an event stream has to look for.
        let line = format!("{}\n", "a line of text, ".repeat(4));
        let text: String = line.chars().cycle().take(size).collect();
        bench(c, &format!("render text of {name}"), text.into());
    }
}

fn forms(c: &mut Criterion<Busy>) {
    let data = format!(r#"{{"values":[{}]}}"#, ["1.25"; 200].join(","));
    bench(c, "render JSON of 1 KiB", Message::json(data).expect("it is JSON").event("tick"));
    let binary: Vec<u8> = (0..1024u32).map(|n| (n * 7) as u8 | 0x80).collect();
    bench(c, "render binary of 1 KiB", Message::bytes(binary));
}
