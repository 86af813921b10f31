//! A publication on its way to many connections, over the engine and without sockets: what a server
//! spends besides its writes. Only taking in and delivering is timed.

#[allow(dead_code, unreachable_pub, reason = "the count of memory uses the rest")]
mod support;

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use holdline::engine::ConnId;
use holdline::{Config, Message};
use support::{Driver, Transport};

const PAYLOAD: usize = 64;

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = deliver; config = config(); targets = fan_out, many_channels, resume }
criterion_main!(deliver);

fn fan_out(c: &mut Criterion) {
    for in_flight in [1, 16] {
        let mut group = c.benchmark_group(format!("deliver {in_flight} to all"));
        for transport in Transport::ALL {
            // A poll is over with its answer, and the next one, which is not timed, takes longer.
            let is_poll = transport == Transport::Poll;
            let time = if is_poll { 300 } else { 1_000 };
            group.measurement_time(Duration::from_millis(time));
            group.warm_up_time(Duration::from_millis(time / 3));
            for count in [1_000, 10_000] {
                fan_out_to(&mut group, transport, count, in_flight);
            }
        }
    }
}

fn fan_out_to(
    group: &mut BenchmarkGroup<'_, WallTime>,
    transport: Transport,
    count: usize,
    in_flight: usize,
) {
    let mut driver = Driver::new(Config::default(), count);
    let ids = driver.listeners(transport, count);
    group.throughput(Throughput::Elements((count * in_flight) as u64));
    group.bench_function(BenchmarkId::new(transport.name(), count), |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                (0..in_flight).for_each(|_| driver.publish([b'x'; PAYLOAD]));
                let writes = driver.writes;
                spent += timed(|| driver.drain());
                assert_eq!(driver.writes - writes, count as u64, "one write for each");
                if transport == Transport::Poll {
                    poll_again(&mut driver, &ids);
                }
            }
            spent
        });
    });
}

fn poll_again(driver: &mut Driver, ids: &[ConnId]) {
    let request = Transport::Poll.request(&driver.position());
    ids.iter().for_each(|id| driver.send(*id, &request));
    driver.drain();
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Each of 1 000 listens to the same 16 channels: what they are owed is merged.
fn many_channels(c: &mut Criterion) {
    const COUNT: usize = 1_000;
    let names: Vec<String> = (0..16).map(|number| format!("channel-{number}")).collect();
    let mut driver = Driver::new(Config::default(), COUNT);
    let request = Transport::WsJson.request_to(&format!("/ws?channel={}", names.join("&channel=")));
    for _ in 0..COUNT {
        driver.connect(&request);
        driver.drain();
    }
    let mut group = c.benchmark_group("16 channels each, to 1000");
    for (name, busy) in [("news on one", 1), ("news on all", 16)] {
        group.throughput(Throughput::Elements((COUNT * busy) as u64));
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    for name in &names[..busy] {
                        let message = Message::bytes([b'x'; PAYLOAD]);
                        let history = driver.engine.history();
                        history.publish(name, message, driver.now).expect("it is taken");
                    }
                    spent += timed(|| driver.drain());
                }
                spent
            });
        });
    }
}

/// 1 000 come back at once, each to 1 000 messages that it has missed; their requests count too.
fn resume(c: &mut Criterion) {
    const COUNT: usize = 1_000;
    const MISSED: usize = 1_000;
    let mut group = c.benchmark_group("1000 resume after 1000 messages");
    group.throughput(Throughput::Elements((COUNT * MISSED) as u64));
    for transport in [Transport::WsJson, Transport::WsRaw, Transport::Sse] {
        let mut driver = Driver::new(Config::default(), COUNT);
        let request = transport.request(&driver.position());
        (0..MISSED).for_each(|_| driver.publish([b'x'; PAYLOAD]));
        driver.drain();
        group.bench_function(transport.name(), |b| {
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    let mut ids = Vec::with_capacity(COUNT);
                    let bytes = driver.bytes;
                    spent += timed(|| {
                        ids.extend((0..COUNT).map(|_| driver.connect(&request)));
                        driver.drain();
                    });
                    assert!(driver.bytes - bytes > (COUNT * MISSED * PAYLOAD) as u64, "all of it");
                    ids.into_iter().for_each(|id| driver.engine.handle_lost(id, driver.now));
                    driver.drain();
                    driver.closed.clear();
                }
                spent
            });
        });
    }
}
