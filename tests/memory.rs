//! What an idle connection costs: every byte of heap that is there because connections are, over
//! the engine and the driver's table of sockets. The numbers of connections are chosen for where
//! the growth of the tables stands then: between two steps, just after one, and large.

#[allow(dead_code, unreachable_pub, reason = "the benchmarks use the rest")]
#[path = "../benches/support/mod.rs"]
mod support;

#[cfg(feature = "server")]
#[path = "memory/device.rs"]
mod device;

use std::alloc::System;

use holdline::Config;
use holdline::engine::ConnId;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{Driver, Transport};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is promised: bytes of heap for an idle connection with one subscription.
const BYTES_MAX: usize = 250;
/// What one loop may keep for itself when nobody is connected any more.
const REST_MAX: usize = 64 * 1024;

fn heap() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// The driver's entry for a connection, of the size and shape of `server`'s own (which only it can
/// make, since it holds a socket): an enum of descriptors, and three flags.
#[derive(Default)]
#[allow(dead_code, reason = "only its size counts")]
struct Line {
    socket: Option<Socket>,
    is_readable: bool,
    is_listed: bool,
    is_ending: bool,
}

#[derive(Clone, Copy)]
#[allow(dead_code, reason = "only its size counts")]
enum Socket {
    Tcp(i32),
    Unix(i32),
}

/// A driver with its table, which grows as `server`'s does: by an eighth.
struct World {
    driver: Driver,
    lines: Vec<Line>,
    ids: Vec<ConnId>,
}

impl World {
    fn new(count: usize) -> Self {
        let mut world = Self {
            driver: Driver::new(Config::default(), count),
            lines: Vec::new(),
            // The test's own lists must not grow while it counts.
            ids: Vec::with_capacity(count),
        };
        world.driver.closed.reserve_exact(count);
        world
    }

    /// As many a turn as a server accepts.
    fn connect(&mut self, transport: Transport, count: usize) {
        let request = transport.request(&self.driver.position());
        for number in 0..count {
            let id = self.driver.connect(&request);
            self.add_line(id.index());
            self.ids.push(id);
            if number % 64 == 63 {
                self.driver.drain();
            }
        }
        self.driver.drain();
    }

    fn add_line(&mut self, index: usize) {
        if index >= self.lines.len() {
            if index == self.lines.capacity() {
                self.lines.reserve_exact((index / 8).max(16));
            }
            self.lines.resize_with(index + 1, Line::default);
        }
        self.lines[index] = Line { socket: Some(Socket::Tcp(7)), ..Line::default() };
    }

    /// Everyone gets something; a poll is over then and comes again, as many in one turn as a
    /// server hears of at once.
    fn deliver(&mut self, transport: Transport) {
        let before = self.driver.writes;
        self.driver.publish("something");
        self.driver.drain();
        assert_eq!(self.driver.writes - before, self.ids.len() as u64, "everyone gets it");
        if transport == Transport::Poll {
            let request = transport.request(&self.driver.position());
            for (number, id) in self.ids.iter().enumerate() {
                self.driver.send(*id, &request);
                if number % 1024 == 1023 {
                    self.driver.drain();
                }
            }
            self.driver.drain();
        }
    }

    /// All are gone; the table of sockets goes with the last.
    fn leave(&mut self) {
        for chunk in self.ids.chunks(1024) {
            for id in chunk {
                self.driver.engine.handle_lost(*id, self.driver.now);
            }
            self.driver.drain();
        }
        for index in self.driver.closed.drain(..) {
            self.lines[index] = Line::default();
        }
        if self.driver.engine.is_empty() {
            self.lines = Vec::new();
        }
    }
}

/// Bytes for each connection, and bytes that stay when all are gone.
fn measure(transport: Transport, count: usize) -> (usize, usize) {
    let mut world = World::new(count);
    world.driver.drain();
    let start = heap();
    world.connect(transport, count);
    world.deliver(transport);
    world.deliver(transport);
    let engine = &world.driver.engine;
    assert_eq!(engine.subscriptions(), count, "everyone listens");
    let connections = engine.connections();
    let kinds = [connections.ws, connections.sse, connections.poll];
    assert!(kinds.contains(&count), "everyone is idle in its own way: {connections:?}");
    engine.check();
    let each = (heap() - start).div_ceil(count);
    world.leave();
    assert!(world.driver.engine.is_empty());
    (each, heap().saturating_sub(start))
}

/// One test, since the heap is one for the whole process: a second would be set up meanwhile.
#[test]
fn a_device_s_server_takes_less_than_64_kib_and_an_idle_connection_at_most_250_bytes() {
    #[cfg(feature = "server")]
    device::check();
    an_idle_connection_costs_at_most_250_bytes();
}

fn an_idle_connection_costs_at_most_250_bytes() {
    assert!(size_of::<Line>() <= 12);
    let mut worst = 0;
    println!("bytes of heap for an idle connection with one subscription (at most {BYTES_MAX}),");
    println!("and what is left when all have gone:");
    for transport in Transport::ALL {
        for count in [8_192, 10_000, 100_000] {
            let (each, rest) = measure(transport, count);
            println!("{:>8} × {count:>7}: {each:>4} B, {rest:>7} B left", transport.name());
            assert!(rest <= REST_MAX, "{rest} bytes are left of {count} {}", transport.name());
            worst = worst.max(each);
        }
    }
    assert!(worst <= BYTES_MAX, "{worst} bytes");
}
