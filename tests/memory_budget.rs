//! The budget is the truth: whatever peers do, the heap holds no more than what is counted, and what
//! is counted stays within the budget. Over the engine, without sockets.

#[path = "support/flood.rs"]
mod flood;

use std::alloc::System;
use std::sync::Arc;

use flood::{frame, upgrade};
use holdline::engine::{Answer, ConnId, Engine, Peer, Ticket, Verdict, What};
use holdline::hub::History;
use holdline::{App, Config, Ctx, Epoch, Message, Now};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KIB: usize = 1024;
const BUDGET: usize = 4 * KIB * KIB;
/// What the heap may hold beyond what is counted: arena, runs, and what is on its way.
const SLACK: usize = 160 * KIB;
/// What may be left when everyone has gone and history has aged: the fixed buffers.
const REST: usize = 160 * KIB;

fn heap() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Someone who decides about everything, later.
struct Undecided;

impl App for Undecided {
    fn authorize(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: ConnId,
        _: holdline::engine::Action<'_>,
    ) -> Answer<Verdict> {
        let ticket: Ticket = ctx.ticket(id);
        Answer::Later(ticket)
    }
}

struct World {
    engine: Engine,
    history: Arc<History>,
    now: Now,
    ids: Vec<ConnId>,
    /// How much each connection, by its index, still takes.
    room: Vec<usize>,
    /// Heap and count before anyone came.
    start: (usize, usize),
    refused: usize,
    name: &'static str,
    worst: isize,
}

impl World {
    fn new(name: &'static str) -> Self {
        // The test's own lists must not grow while it counts.
        let (ids, room) = (Vec::with_capacity(40_000), vec![usize::MAX; 40_000]);
        let before = heap();
        let config = Config {
            memory_bytes: BUDGET,
            receive_buffer: 16 * KIB,
            arena_bytes: 16 * KIB,
            recent_bytes: 256 * KIB,
            connections_max: 30_000,
            ..Config::default().open()
        };
        let now = Now { mono_ms: 1_000, unix_ms: 1_764_000_000_000 };
        let config = Arc::new(config);
        let history = Arc::new(History::new(&config, Epoch::from_random(7), now));
        let engine = Engine::new(config, Arc::clone(&history), 7, now);
        let mut world =
            Self { engine, history, now, ids, room, start: (0, 0), refused: 0, name, worst: 0 };
        world.start = (before, world.counted());
        world
    }

    fn counted(&self) -> usize {
        let stats = self.history.stats();
        stats.memory_used + stats.memory_tables + stats.memory_connections
    }

    #[track_caller]
    fn check(&mut self) {
        let counted = self.counted() - self.start.1;
        let held = heap() - self.start.0;
        let beyond = held as isize - counted as isize;
        self.worst = self.worst.max(beyond);
        let name = self.name;
        assert!(beyond <= SLACK as isize, "{name}: {held} bytes are held, {counted} counted");
        assert!(self.counted() <= BUDGET + 16 * KIB, "{name}: {} are counted", self.counted());
    }

    /// A new connection that takes so much and no more.
    fn connect(&mut self, room: usize) -> ConnId {
        let id = self.engine.handle_accept(Peer::Unix, self.now);
        self.room[id.index()] = room;
        self.ids.push(id);
        id
    }

    fn send(&mut self, id: ConnId, bytes: &[u8]) {
        for piece in bytes.chunks(16 * KIB) {
            if self.engine.read_size(id) == 0 {
                return; // it stays in the socket
            }
            self.engine.handle_bytes(id, &mut piece.to_vec(), self.now);
        }
        self.write();
    }

    fn write(&mut self) {
        loop {
            self.engine.take_in(self.now);
            while let Some(transmit) = self.engine.poll_transmit() {
                let room = &mut self.room[transmit.id.index()];
                match transmit.what {
                    What::Bytes(bytes) => {
                        self.refused += usize::from(bytes.starts_with(b"HTTP/1.1 503"));
                        let taken = bytes.len().min(*room);
                        *room -= taken;
                        self.engine.handle_sent(taken);
                    }
                    What::Finish => {}
                    What::Close => *room = usize::MAX,
                }
            }
            while self.engine.poll_resumed().is_some() {}
            if !self.engine.has_work() {
                return;
            }
            self.engine.handle_kept(self.now);
        }
    }

    fn publish(&mut self, channel: &str, message: Message) -> bool {
        let is_taken = self.history.publish(channel, message, self.now).is_ok();
        self.write();
        is_taken
    }

    /// Everyone goes, and history ages.
    fn leave(mut self) {
        for id in &self.ids {
            self.engine.handle_lost(*id, self.now);
        }
        self.write();
        assert!(self.engine.is_empty());
        for _ in 0..300 {
            self.now = self.now.after(30_000);
            self.engine.handle_timeout(self.now);
            self.write();
        }
        let (counted, held) = (self.counted() - self.start.1, heap() - self.start.0);
        println!(
            "{:>24}: at most {:>7} beyond what is counted, {held} left",
            self.name, self.worst
        );
        assert!(held <= REST, "{}: {held} bytes are left", self.name);
        assert!(counted <= REST, "{}: {counted} bytes are still counted", self.name);
    }
}

fn name(number: usize) -> String {
    format!("c{number:0>200}")
}

fn tiny_messages() {
    let mut world = World::new("tiny messages");
    for number in 0..60_000 {
        let mut message = Message::from(&"abc"[..number % 4]);
        if number % 3 == 0 {
            message = message.event("e").media_type("x");
        }
        if number % 5 == 0 {
            message = message.ttl(std::time::Duration::ZERO);
        }
        assert!(world.publish(&format!("c{}", number * 7 % 1_000), message));
        if number % 100 == 0 {
            world.check();
        }
    }
    world.leave();
}

/// Mixed sizes over many channels, and readers that stop in the middle of one.
fn pinned_messages() {
    let mut world = World::new("pinned messages");
    for number in 0..200 {
        let id = world.connect(600 + number % 7 * 1_000);
        world.send(id, &upgrade(&format!("/ws?channel=c{}", number % 50)));
    }
    let mut taken = 0;
    for number in 0..5_000 {
        let message = Message::bytes(vec![b'x'; number * 7_919 % (40 * KIB)]);
        taken += usize::from(world.publish(&format!("c{}", number % 97), message));
        world.check();
    }
    assert!(taken > 1_000, "{taken} messages found memory");
    world.leave();
}

fn half_of_everything() {
    let mut world = World::new("half of everything");
    let long = vec![b'a'; 15 * KIB];
    for number in 0..3_000 {
        let id = world.connect(usize::MAX);
        match number % 5 {
            0 => {
                let mut head = b"GET / HTTP/1.1\r\nHost: localhost\r\n".to_vec();
                head.extend_from_slice(format!("A: {}\r\n", "a".repeat(7_000)).as_bytes());
                head.extend_from_slice(format!("B: {}\r\n", "b".repeat(7_000)).as_bytes());
                world.send(id, &head);
            }
            1 => {
                let head =
                    b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n";
                world.send(id, head);
                (0..number % 20).for_each(|_| world.send(id, &long));
            }
            2 => {
                let head =
                    b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n";
                world.send(id, head);
                world.send(id, &long);
            }
            3 => {
                world.send(id, &upgrade("/channels/a"));
                world.send(id, &frame(0x82, 60_000, &long));
                world.send(id, &long);
            }
            _ => {
                world.send(id, &upgrade("/ws"));
                (0..20).for_each(|_| world.send(id, &frame(0x01, 500, &long[..500])));
                world.send(id, &[0x89, 0x80 | 100]);
            }
        }
        world.check();
    }
    assert!(world.refused > 100, "{} were refused", world.refused);
    world.leave();
}

fn channels_and_subscriptions() {
    let mut world = World::new("channels, subscriptions");
    let mut number = 0;
    for client in 0..400 {
        let id = world.connect(usize::MAX);
        world.send(id, &upgrade("/ws"));
        for _ in 0..8 {
            let names: Vec<_> = (0..16).map(|n| format!("\"{}\"", name(number + n))).collect();
            number += 16;
            let command = format!(r#"{{"op":"subscribe","channels":[{}]}}"#, names.join(","));
            world.send(id, &frame(0x81, command.len(), command.as_bytes()));
        }
        world.publish(&name(client), "x".into());
        world.check();
    }
    let stats = world.history.stats();
    assert!(stats.channels > 1_000 && stats.memory_tables <= BUDGET / 4 + 64 * KIB, "{stats:?}");
    world.leave();
}

fn keys() {
    let mut world = World::new("idempotency keys");
    for number in 0..20_000 {
        let key = format!("k{number}");
        world.publish("a", Message::from("x").idempotency_key(key));
        world.check();
    }
    world.leave();
}

/// Clients that ask for much and read nothing.
fn askers() {
    let mut world = World::new("askers");
    for number in 0..40 {
        world.publish("a", Message::bytes(vec![b'\n'; 1_000 * (number % 7)]));
    }
    for number in 0..2_000 {
        let id = world.connect(number % 3 * 1_000);
        if number % 2 == 0 {
            let ask = b"GET /poll?channel=a&since=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n";
            world.send(id, &ask.repeat(5));
        } else {
            world.send(id, &b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200));
        }
        world.check();
    }
    world.leave();
}

/// Questions that nobody answers.
fn tickets() {
    let mut world = World::new("tickets");
    world.engine.set_app(Box::new(Undecided));
    let body = "{\"channel\":\"a\",\"text\":\"x\"}\n".repeat(300);
    for number in 0..2_000 {
        let id = world.connect(usize::MAX);
        if number % 2 == 0 {
            let head = format!(
                "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            world.send(id, head.as_bytes());
        } else {
            let head = format!("GET /poll?channel={} HTTP/1.1\r\nHost: localhost\r\n\r\n", name(1));
            world.send(id, &head.repeat(20).into_bytes());
        }
        world.check();
    }
    assert!(world.refused > 100, "{} were refused", world.refused);
    world.leave();
}

fn connections() {
    let mut world = World::new("connections");
    for number in 0..30_000 {
        if let Some(code) = world.engine.turns_away(Peer::Unix, world.now) {
            world.engine.handle_turned_away(code); // as the driver must
            continue;
        }
        let id = world.connect(usize::MAX);
        if number % 2 == 0 {
            world.send(id, b"GET /poll?channel=a&since=latest HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        world.write();
        world.check();
    }
    let left = world.engine.len();
    assert!((6_000..10_000).contains(&left), "{left} connections are within half of the budget");
    world.leave();
}

/// One test, since the heap is one for the whole process.
#[test]
fn no_more_is_held_than_is_counted_and_no_more_is_counted_than_may_be() {
    tiny_messages();
    pinned_messages();
    half_of_everything();
    channels_and_subscriptions();
    keys();
    askers();
    tickets();
    connections();
}
