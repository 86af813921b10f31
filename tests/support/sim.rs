//! A world in memory: whole engines over one history, pipes in place of sockets, a clock that jumps
//! from deadline to deadline, and a driver that keeps the engine's contract to the letter.
//!
//! The driver is edge-triggered as the real one: bytes, an end, or room in a pipe that was full are
//! told once, and whoever does not act on it is not told again. That is what makes a connection that
//! the engine forgot visible as one that never moves.
#![allow(dead_code, missing_docs, unreachable_pub, missing_debug_implementations)]

#[path = "sim/chance.rs"]
pub mod chance;
#[path = "sim/clients.rs"]
pub mod clients;
#[path = "sim/driver.rs"]
mod driver;
#[path = "event_stream.rs"]
pub mod event_stream;
#[path = "sim/http.rs"]
pub mod http;
#[path = "sim/line.rs"]
mod line;
#[path = "sim/local.rs"]
pub mod local;
#[path = "sim/sse.rs"]
pub mod sse;
#[path = "sim/ws.rs"]
pub mod ws;

use std::sync::Arc;

use holdline::engine::{Common, Engine, Listening, Peer, Policy};
use holdline::hub::{History, Published};
use holdline::{Config, Epoch, Message, Now};

pub use chance::Chance;
pub use driver::Loop;
pub use line::{Line, WINDOW};

/// Turns without an end in sight: the world does not come to rest.
const TURNS_MAX: usize = 2_000_000;
/// Wake-ups at one and the same moment: a deadline that is never dealt with.
const WAKES_MAX: usize = 10_000;

/// When a world begins.
pub const START: Now = Now { mono_ms: 5_000, unix_ms: 1_764_000_000_000 };

/// How bytes are handed over, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As much at a time as there is.
    Whole,
    /// One byte a read, one byte a write.
    Bytes,
    /// At most so many bytes a read, and a write.
    Pieces(usize),
}

/// Runs a test whole and byte by byte.
#[macro_export]
macro_rules! both_paces {
    ($($name:ident),* $(,)?) => { $(
        mod $name {
            #[test]
            fn whole() {
                super::$name(super::Pace::Whole);
            }

            #[test]
            fn byte_by_byte() {
                super::$name(super::Pace::Bytes);
            }
        }
    )* };
}

pub struct Sim {
    pub now: Now,
    pub config: Arc<Config>,
    pub history: Arc<History>,
    /// What the loops share.
    common: Common,
    pub loops: Vec<Loop>,
    pub lines: Vec<Line>,
    pub rng: Chance,
    /// Wake-ups by a deadline so far.
    pub wakes: usize,
    pub pace: Pace,
    /// Idle connections that a proxy keeps, for whoever asks next.
    pub idle: Vec<usize>,
    /// What the policy takes for the addresses that are listened on.
    listening: Vec<Listening>,
}

impl Sim {
    pub fn new(config: Config, loops: usize, chance: impl Into<Chance>) -> Self {
        Self::listening(config, loops, chance, Vec::new())
    }

    /// A world that listens on these addresses.
    pub fn listening(
        config: Config,
        loops: usize,
        chance: impl Into<Chance>,
        listening: Vec<Listening>,
    ) -> Self {
        let now = START;
        let mut rng = chance.into();
        let config = Arc::new(config.loops(loops as u32));
        let history = Arc::new(History::new(&config, Epoch::from_random(rng.u64(..)), now));
        let common = Common::new(Arc::clone(&config), Arc::clone(&history), loops);
        let mut sim = Self {
            now,
            config,
            history,
            common,
            loops: Vec::new(),
            lines: Vec::new(),
            rng,
            wakes: 0,
            pace: Pace::Whole,
            idle: Vec::new(),
            listening,
        };
        sim.start(loops);
        sim
    }

    /// One loop, everything allowed, default limits.
    pub fn open(pace: Pace) -> Self {
        Self::with(Config::default().open(), pace)
    }

    pub fn with(config: Config, pace: Pace) -> Self {
        let mut sim = Self::new(config, 1, 7);
        sim.pace = pace;
        sim
    }

    fn start(&mut self, loops: usize) {
        let (config, history) = (Arc::clone(&self.config), Arc::clone(&self.history));
        self.common = Common::new(config, history, loops);
        for number in 0..loops {
            let engine = self.new_engine(number);
            self.loops.push(Loop::new(engine));
        }
    }

    fn new_engine(&mut self, number: usize) -> Engine {
        let policy = Policy::new(&self.config, &self.listening);
        let seed = self.rng.u64(..);
        Engine::with(&self.common, policy, number as u8, seed, self.now)
    }

    /// Every loop dies and comes back with an empty history under a new epoch.
    pub fn restart(&mut self) {
        let loops = self.loops.len();
        self.loops.clear();
        self.lines.iter_mut().for_each(Line::break_off);
        let epoch = Epoch::from_random(self.rng.u64(..));
        self.history = Arc::new(History::new(&self.config, epoch, self.now));
        self.start(loops);
    }

    /// Every loop ends and comes back over what was kept of the history.
    pub fn move_on(&mut self) {
        let loops = self.loops.len();
        self.loops.clear();
        self.lines.iter_mut().for_each(Line::break_off);
        let mut bytes = Vec::new();
        self.history.close();
        self.history.snapshot(self.now, &mut |piece| bytes.extend_from_slice(piece));
        let mut rest = &bytes[..];
        let mut source = |wanted: &mut [u8]| {
            let Some((taken, left)) = rest.split_at_checked(wanted.len()) else { return false };
            wanted.copy_from_slice(taken);
            rest = left;
            true
        };
        let restored = History::restore(&self.config, bytes.len() as u64, &mut source, self.now);
        self.history = Arc::new(restored.expect("a whole history"));
        self.start(loops);
    }

    /// One loop ends, and another takes its place over the same history.
    pub fn replace(&mut self, number: usize) {
        let open = |line: &&mut Line| line.number == number && !line.is_closed;
        for line in self.lines.iter_mut().filter(open) {
            self.loops[number].engine.handle_lost(line.id, self.now);
        }
        self.turn(number);
        assert!(self.loops[number].engine.is_empty());
        let engine = self.new_engine(number);
        self.loops[number] = Loop::new(engine);
    }

    /// The engine of the first loop.
    pub fn engine(&self) -> &Engine {
        &self.loops[0].engine
    }

    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.loops[0].engine
    }

    /// Whether the engine waits for room in the pipe to this client.
    pub fn is_blocked(&self, line: usize) -> bool {
        let line = &self.lines[line];
        self.loops[line.number].engine.is_blocked(line.id)
    }

    /// A new connection to a loop; its number.
    pub fn connect(&mut self, number: usize) -> usize {
        self.connect_from(number, Peer::Unix)
    }

    pub fn connect_from(&mut self, number: usize, peer: Peer) -> usize {
        let line = self.lines.len();
        let id = self.loops[number].accept(line, peer, self.now);
        self.lines.push(Line::new(number, id));
        line
    }

    /// The client writes.
    pub fn send(&mut self, line: usize, bytes: &[u8]) {
        self.lines[line].send(bytes);
        self.tell(line);
    }

    /// The client shuts its sending side and goes on reading.
    pub fn finish(&mut self, line: usize) {
        self.lines[line].finish();
        self.tell(line);
    }

    /// The client closes: what it sent arrives, what it is sent does not. If it had not read
    /// everything, the server is told that it may write, and finds that it is broken.
    pub fn close(&mut self, line: usize) {
        self.lines[line].is_event_writable |= self.lines[line].in_flight() > 0;
        self.lines[line].close();
        self.tell(line);
    }

    /// The client's end breaks off: the server may read and write, and finds that it is broken.
    pub fn reset(&mut self, line: usize) {
        self.lines[line].is_event_writable = true;
        self.lines[line].reset();
        self.tell(line);
    }

    fn tell(&mut self, line: usize) {
        let number = self.lines[line].number;
        self.lines[line].is_event_readable = true;
        self.loops[number].tell(line);
    }

    /// The client stops reading, and the pipe holds no more than `window` bytes.
    pub fn stall(&mut self, line: usize, window: usize) {
        self.lines[line].window = window;
        self.lines[line].take_max = 0;
    }

    /// The client reads everything again, as fast as it can.
    pub fn unstall(&mut self, line: usize) {
        self.lines[line].window = WINDOW;
        self.lines[line].take_max = usize::MAX;
        self.take(line, usize::MAX);
    }

    /// The client reads up to `bytes` now, whatever it does otherwise.
    pub fn take(&mut self, line: usize, bytes: usize) -> usize {
        let (taken, has_room) = self.lines[line].take(bytes);
        if has_room {
            let number = self.lines[line].number;
            self.lines[line].is_event_writable = true;
            self.loops[number].tell(line);
        }
        taken
    }

    /// One turn of every loop, then every client reads what it wants.
    pub fn step(&mut self) {
        for number in 0..self.loops.len() {
            self.turn(number);
        }
        for line in 0..self.lines.len() {
            if self.lines[line].wants() {
                let max = self.lines[line].take_max;
                self.take(line, max);
            }
        }
    }

    pub fn turn(&mut self, number: usize) {
        let max = match self.pace {
            Pace::Whole => usize::MAX,
            Pace::Bytes => 1,
            Pace::Pieces(bytes) => bytes,
        };
        self.loops[number].turn(&mut self.lines, self.now, max);
        if self.loops.len() > 1 && self.loops[number].is_checked() {
            Engine::check_all(self.loops.iter().map(|one| &one.engine));
        }
    }

    fn is_busy(&self) -> bool {
        self.loops.iter().any(Loop::is_busy) || self.lines.iter().any(Line::wants)
    }

    /// Steps until nothing moves any more without the clock.
    pub fn settle(&mut self) {
        let mut turns = 0;
        while self.is_busy() {
            self.step();
            turns += 1;
            assert!(turns < TURNS_MAX, "the world does not come to rest");
        }
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.loops.iter().filter_map(|one| one.engine.next_deadline()).min()
    }

    /// Lets time pass, from deadline to deadline.
    pub fn pass(&mut self, ms: u64) {
        self.pass_until(self.now.mono_ms + ms, |_| false);
    }

    /// Lets time pass until `end` or until something holds; whether it does.
    pub fn pass_until(&mut self, end: u64, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        self.settle();
        let mut wakes = 0;
        loop {
            if holds(self) {
                return true;
            }
            let Some(due) = self.next_deadline().filter(|due| *due <= end) else { break };
            wakes = if due > self.now.mono_ms { 0 } else { wakes + 1 };
            assert!(wakes < WAKES_MAX, "a deadline that nobody deals with");
            self.jump(due);
            self.wakes += 1;
            (0..self.loops.len()).for_each(|number| self.turn(number));
            self.settle();
        }
        self.jump(end);
        self.settle();
        holds(self)
    }

    /// Sets the clock and does nothing else.
    pub fn jump(&mut self, mono_ms: u64) {
        self.now = self.now.after(mono_ms.saturating_sub(self.now.mono_ms));
    }

    /// Publishes as another thread of the host would.
    #[track_caller]
    pub fn publish(&self, channel: &str, message: impl Into<Message>) -> Published {
        self.history.publish(channel, message.into(), self.now).expect("there is room")
    }

    /// The id of a position.
    pub fn id(&self, seq: u64) -> String {
        self.history.cursor(seq).to_string()
    }

    /// Whether the server has dropped its end.
    pub fn is_closed(&self, line: usize) -> bool {
        self.lines[line].is_closed
    }

    /// Nobody is left: no slot, no subscription, no deadline but that of the history, and once that
    /// has aged, no byte of a publication either.
    #[track_caller]
    pub fn assert_deserted(&mut self) {
        self.settle();
        for (number, one) in self.loops.iter().enumerate() {
            assert_eq!(one.engine.len(), 0, "slots of loop {number}");
            assert_eq!(one.engine.subscriptions(), 0, "subscriptions of loop {number}");
        }
        // A sweep that had been promised before the last channel went is the only thing to wait for;
        // that no slot's timer is left is part of `Engine::check`.
        self.pass(30_000);
        let sweep = self.history.next_sweep();
        for (number, one) in self.loops.iter().enumerate() {
            let due = one.engine.next_deadline();
            assert!(
                due.is_none() || due == sweep,
                "loop {number} waits for {due:?}, not {sweep:?}"
            );
        }
        let forgotten = self.config.channel_memory + self.config.history_age * 2;
        let forgotten = forgotten.max(self.config.idempotency_window);
        self.pass(forgotten.as_millis() as u64 + 120_000);
        let stats = self.history.stats();
        assert_eq!(stats.memory_used, 0, "bytes of publications that nobody has");
        assert_eq!(stats.channels, 0, "channels that nobody knows");
        assert_eq!(self.next_deadline(), None, "timers that nobody needs");
    }
}
