//! A publication on its way to many connections, over the engine and without sockets: what a server
//! spends besides its writes. Only taking in and delivering is timed. Over socketpairs the same shows
//! what the kernel adds.

#[allow(dead_code, unreachable_pub, reason = "the count of memory uses the rest")]
mod support;

#[path = "support/measure.rs"]
mod measure;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use holdline::engine::ConnId;
use holdline::{Config, Message};
use measure::{Busy, busy, config, descriptors};
use support::{Driver, Transport, frame};

const PAYLOAD: usize = 64;

criterion_group! { name = deliver; config = config(); targets = fan_out, over_sockets, many_channels, idle, resume }
criterion_main!(deliver);

fn fan_out(c: &mut Criterion<Busy>) {
    for in_flight in [1, 16] {
        let mut group = c.benchmark_group(format!("deliver {in_flight} to all"));
        for transport in Transport::ALL {
            // A poll is over with its answer, and the next one, which is not timed, takes longer.
            let is_poll = transport == Transport::Poll;
            let time = if is_poll { 300 } else { 600 };
            group.measurement_time(Duration::from_millis(time));
            group.warm_up_time(Duration::from_millis(time / 3));
            for count in [1_000, 10_000] {
                fan_out_to(&mut group, transport, count, in_flight);
            }
        }
    }
}

fn fan_out_to(
    group: &mut BenchmarkGroup<'_, Busy>,
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
                spent += busy(|| driver.drain());
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

/// As in `fan_out`, one at a time, and each write goes into a socket. 9 000 pairs, since many systems
/// allow 20 000 descriptors.
fn over_sockets(c: &mut Criterion<Busy>) {
    let mut group = c.benchmark_group("deliver 1 to all, over socketpairs");
    group.sample_size(10);
    for transport in [Transport::WsJson, Transport::Sse, Transport::Poll] {
        for count in [1_000, 9_000] {
            let id = BenchmarkId::new(transport.name(), count);
            match descriptors(2 * count + 100) {
                Ok(()) => deliver_over_sockets(&mut group, id, transport, count),
                Err(why) => println!("skipped: {transport:?} over {count} socketpairs: {why}"),
            }
        }
    }
}

fn deliver_over_sockets(
    group: &mut BenchmarkGroup<'_, Busy>,
    id: BenchmarkId,
    transport: Transport,
    count: usize,
) {
    let mut driver = Driver::new(Config::default(), count);
    let ids = driver.listeners(transport, count);
    let (mut near, mut far): (Vec<_>, Vec<_>) = (0..count).map(|_| pair()).unzip();
    let mut buffer = vec![0; 64 * 1024];
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function(id, |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                driver.publish([b'x'; PAYLOAD]);
                let (bytes, writes) = (driver.bytes, driver.writes);
                spent += busy(|| {
                    driver.drain_into(|id, bytes| near[id.index()].write(bytes).expect("room"));
                });
                assert_eq!(driver.writes - writes, count as u64, "one write for each");
                let came: usize = far.iter_mut().map(|far| read_all(far, &mut buffer)).sum();
                assert_eq!(came as u64, driver.bytes - bytes, "and it came");
                if transport == Transport::Poll {
                    poll_again(&mut driver, &ids);
                }
            }
            spent
        });
    });
}

fn pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().expect("there are descriptors");
    [&near, &far].iter().for_each(|one| one.set_nonblocking(true).expect("a socket"));
    (near, far)
}

fn read_all(socket: &mut UnixStream, buffer: &mut [u8]) -> usize {
    match socket.read(buffer) {
        Ok(len) => len,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}

/// One connection asks and is answered, while so many others only listen.
fn idle(c: &mut Criterion<Busy>) {
    let mut group = c.benchmark_group("a turn for 1 beside idle connections");
    let ask = frame(br#"{"op":"subscribe","ref":1,"channel":"other"}"#);
    let leave = frame(br#"{"op":"unsubscribe","ref":2,"channel":"other"}"#);
    let both = [ask, leave].concat();
    for count in [0, 10_000] {
        let mut driver = Driver::new(Config::default(), count + 1);
        driver.listeners(Transport::WsJson, count);
        let id = driver.listeners(Transport::WsJson, 1)[0];
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_custom(|iterations| {
                let writes = driver.writes;
                let spent = busy(|| {
                    for _ in 0..iterations {
                        driver.send(id, &both);
                        driver.drain();
                    }
                });
                assert_eq!(driver.writes - writes, iterations, "one write for both answers");
                spent
            });
        });
    }
}

/// Each of 1 000 listens to the same 16 channels: what they are owed is merged.
fn many_channels(c: &mut Criterion<Busy>) {
    const COUNT: usize = 1_000;
    let names: Vec<String> = (0..16).map(|number| format!("channel-{number}")).collect();
    let mut driver = Driver::new(Config::default(), COUNT);
    let request = Transport::WsJson.request_to(&format!("/ws?channel={}", names.join("&channel=")));
    for _ in 0..COUNT {
        driver.connect(&request);
        driver.drain();
    }
    let mut group = c.benchmark_group("16 channels each, to 1000");
    for (name, talking) in [("news on one", 1), ("news on all", 16)] {
        group.throughput(Throughput::Elements((COUNT * talking) as u64));
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    for name in &names[..talking] {
                        let message = Message::bytes([b'x'; PAYLOAD]);
                        let history = driver.engine.history();
                        history.publish(name, message, driver.now).expect("it is taken");
                    }
                    spent += busy(|| driver.drain());
                }
                spent
            });
        });
    }
}

/// 1 000 come back at once, each to 1 000 messages that it has missed; their requests count too.
fn resume(c: &mut Criterion<Busy>) {
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
                    spent += busy(|| {
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
