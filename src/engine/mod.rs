//! All connections of one loop, without a loop: bytes and time go in, bytes come out.
//!
//! For whoever has another loop, other sockets or virtual time. An engine and its connections belong
//! to one thread at a time (it is `Send`); the [`History`] behind it is shared, and any thread may
//! publish there. Nothing here reads a clock: time is handed in, as [`Now`].
//!
//! # The contract
//!
//! 1. Inputs are the `handle_*` methods; each takes the time. None does I/O, blocks, or panics on
//!    anything that a peer sent.
//! 2. A turn begins with [`Engine::handle_kept`], which offers again what had to wait; then come new
//!    inputs. At most [`Engine::read_size`] bytes of a connection are read at a time, and none while
//!    that is 0.
//! 3. After any inputs: [`Engine::take_in`], then [`Engine::poll_transmit`] until `None` or the
//!    driver's budget is spent. For each connection write the bytes that are lent and report how many
//!    left with [`Engine::handle_sent`]; shut the sending side where it says [`What::Finish`]; drop
//!    the socket where it says [`What::Close`].
//! 4. Read again the sockets that [`Engine::poll_resumed`] names. Then sleep until a socket is ready
//!    or [`Engine::next_deadline`], not at all while [`Engine::has_work`]; then
//!    [`Engine::handle_timeout`]. Calling it early or twice is harmless. A loop that may sleep while
//!    other threads publish adds a [`Bell`](crate::hub::Bell) to the history, and lets it doze first.
//! 5. Time never goes backwards; the clock is read once per wake-up.
//! 6. A connection is freed only in step 3, so that no input of a turn can meet a slot's next tenant.
//!
//! # A driver
//!
//! A whole one, for transports that are pairs of byte vectors:
//!
//! ```
//! use std::sync::Arc;
//!
//! use holdline::engine::{ConnId, Engine, Peer, What};
//! use holdline::hub::History;
//! use holdline::{Config, Epoch, Message, Now};
//!
//! /// One connection: what its client has sent, and what it is sent.
//! struct Wire {
//!     id: ConnId,
//!     input: Vec<u8>,
//!     output: Vec<u8>,
//! }
//!
//! fn turn(engine: &mut Engine, wires: &mut Vec<Wire>, now: Now) {
//!     // Phase one: everything in.
//!     engine.handle_kept(now);
//!     for wire in wires.iter_mut() {
//!         let size = engine.read_size(wire.id).min(wire.input.len());
//!         if size > 0 {
//!             engine.handle_bytes(wire.id, &mut wire.input[..size], now);
//!             wire.input.drain(..size);
//!         }
//!     }
//!     engine.handle_timeout(now);
//!     // Phase two: everything out.
//!     engine.take_in(now);
//!     while let Some(transmit) = engine.poll_transmit() {
//!         let at = wires.iter().position(|wire| wire.id == transmit.id);
//!         match (transmit.what, at) {
//!             (What::Bytes(bytes), Some(at)) => {
//!                 wires[at].output.extend_from_slice(bytes);
//!                 let written = bytes.len(); // a vector takes everything
//!                 engine.handle_sent(written);
//!             }
//!             (What::Close, Some(at)) => drop(wires.swap_remove(at)),
//!             _ => {}
//!         }
//!     }
//!     while engine.poll_resumed().is_some() {} // each turn here reads all of them
//! }
//!
//! let now = Now { mono_ms: 0, unix_ms: 1_764_000_000_000 };
//! let config = Arc::new(Config::default().open());
//! let history = Arc::new(History::new(&config, Epoch::from_random(7), now));
//! let mut engine = Engine::new(config, Arc::clone(&history), 7, now);
//!
//! // One client listens to an event stream, another opens a WebSocket and says something at once.
//! let mut wires = Vec::new();
//! let stream = b"GET /channels/news HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
//! let mut socket = b"GET /channels/news HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
//!     Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
//!     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".to_vec();
//! socket.extend(b"\x81\x85\x00\x00\x00\x00hello"); // a masked text frame, its mask all zeros
//! for request in [stream.to_vec(), socket] {
//!     let id = engine.handle_accept(Peer::Unix, now);
//!     wires.push(Wire { id, input: request, output: Vec::new() });
//! }
//! turn(&mut engine, &mut wires, now);
//! assert!(wires[0].output.ends_with(b"data: hello\n\n\r\n"), "as a chunk of the stream");
//! assert!(wires[1].output.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
//! assert!(wires[1].output.ends_with(b"\x81\x05hello"), "as a frame");
//!
//! // What is published, here or by any thread, goes to both.
//! history.publish("news", Message::from("later"), now).expect("room in the budget");
//! turn(&mut engine, &mut wires, now);
//! assert!(wires[0].output.ends_with(b"data: later\n\n\r\n"));
//! assert!(wires[1].output.ends_with(b"\x81\x05later"));
//!
//! // Silence ends in a heartbeat. When to look is what the engine says; whether it is time, too.
//! let len = wires[0].output.len();
//! while wires[0].output.len() == len {
//!     let due = engine.next_deadline().expect("a heartbeat is due some time");
//!     turn(&mut engine, &mut wires, Now { mono_ms: due, unix_ms: now.unix_ms + due });
//! }
//! assert!(wires[0].output[len..].contains(&b':'), "a comment line");
//! ```

mod addresses;
mod answer;
mod app;
mod channels;
mod client;
mod common;
mod console;
mod core;
mod deliver;
mod drain;
mod input;
mod last_plan;
mod limits;
mod local;
mod memory;
mod notices;
mod policy;
mod presence;
mod proxies;
mod publish;
mod query;
mod reply;
mod request;
mod response;
mod routes;
mod slot;
mod stats;
mod subscribe;
mod template;
mod timers;
mod totals;
mod websocket;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use answer::{Answer, Outcome, Ticket, Verdict};
pub use app::{Action, App, CloseReason, Ctx, Kind, Queued, Request, Route, TimerId, Transport};
pub use common::Common;
pub use local::{Listen, Progress, Push, Sink, Taken};
pub use policy::{Listening, Policy};
pub use response::{BadResponse, Response, Upgrade};
pub use slot::Peer;
pub use stats::{Connections, LoopStats, Rejected, RoundTrips, Stats};
pub use totals::Totals;

use self::addresses::AddressIndex;
use self::core::{Core, Start};
use self::last_plan::LastPlan;
use self::limits::Seen;
use self::slot::Flags;
pub use crate::collections::slots::ConnId;
use crate::config::Config;
use crate::conn::LastHead;
use crate::hub::History;
use crate::time::{Now, earliest};

/// The connections of one loop. See the [module](self) for how to drive it.
pub struct Engine {
    core: Core,
    app: Option<Box<dyn App>>,
    /// A callback panicked: the server must end.
    has_failed: bool,
    /// The answers to a question that waited, while it is looked at again.
    recalled: VecDeque<Outcome>,
    /// The answers that the question at hand has had so far.
    remembered: Vec<Outcome>,
    /// The ticket that a callback answered with.
    owed: Option<Ticket>,
    /// The head that was read last, on whatever connection; taken while requests are carried out.
    last_head: Option<Box<LastHead>>,
    /// What the request looked at last means.
    last_plan: LastPlan,
    /// More bytes had come behind the request at hand.
    input_left: bool,
    /// The body of the request at hand has been read to its end.
    body_was_read: bool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("connections", &self.core.slots.len())
            .field("horizon", &self.core.horizon)
            .finish_non_exhaustive()
    }
}

/// What the driver is to do for one connection.
#[derive(Debug)]
pub struct Transmit<'a> {
    /// Which.
    pub id: ConnId,
    /// What.
    pub what: What<'a>,
}

/// What the driver is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// Write these bytes, then call [`Engine::handle_sent`].
    Bytes(&'a [u8]),
    /// Shut the sending side; go on reading.
    Finish,
    /// Drop the socket: the id names nothing any more.
    Close,
}

impl Engine {
    /// An engine over `history`, its randomness seeded with `seed`, serving no listener in particular.
    #[must_use]
    pub fn new(config: Arc<Config>, history: Arc<History>, seed: u64, now: Now) -> Self {
        let policy = Policy::new(&config, &[]);
        Self::with(&Common::new(config, history, 1), policy, 0, seed, now)
    }

    /// One of the engines of a server: what it shares with the others, the rules of its listeners,
    /// and its number among the loops, from 0 on, which no other has.
    #[must_use]
    pub fn with(common: &Common, policy: Policy, loop_number: u8, seed: u64, now: Now) -> Self {
        let common = common.clone();
        let core = Core::new(Start { common, policy, loop_number, seed, now });
        Self {
            core,
            app: None,
            has_failed: false,
            recalled: VecDeque::new(),
            remembered: Vec::new(),
            owed: None,
            last_head: None,
            last_plan: LastPlan::default(),
            input_left: false,
            body_was_read: false,
        }
    }

    /// Gives the engine an application.
    pub fn set_app(&mut self, app: Box<dyn App>) {
        self.app = Some(app);
    }

    /// Moves the horizon to the newest publication; the second phase of a turn begins with it.
    pub fn take_in(&mut self, now: Now) {
        self.core.now = now;
        self.take_in_presence();
        self.core.begin_writing();
        self.deliver_local(self.core.config.writes_per_turn);
        if self.core.next_sweep.is_none() {
            self.core.next_sweep = self.core.history.next_sweep();
        }
    }

    /// Whether the driver must not sleep: kept input, replies, deliveries or closes are unfinished.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let core = &self.core;
        !(core.again.is_empty()
            && core.replies.is_empty()
            && core.dirty.is_empty()
            && core.closes.is_empty()
            && core.resumed.is_empty()
            && !core.local.has_work()
            && !core.has_presence_news())
            || self.has_news()
            || core.has_fed()
    }

    /// Whether something has been published that anyone here listens to and that has not been taken in.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.core.seen_news != Some(self.core.history.news_of(self.loop_number()))
    }

    /// Whether so much has come together that it should be written before more is read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.core.is_full()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do (monotonic ms).
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let app = self.core.app_timers.keys().next().map(|(due, _)| *due);
        let core = &self.core;
        let farewell = core.farewells.next_deadline();
        let presence = core.presence_deadline();
        let local = core.local.next_deadline();
        let due = [core.wheel.next_deadline(), app, core.next_sweep, farewell, presence, local];
        earliest(due)
    }

    /// A connection whose socket may be read again, if the driver had stopped.
    pub fn poll_resumed(&mut self) -> Option<ConnId> {
        while let Some(index) = self.core.resumed.pop_front() {
            if let Some(id) = self.core.slots.id(index) {
                return Some(id);
            }
        }
        None
    }

    /// Whether a callback panicked; the server must end with an error.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// The id of the connection at an index of the driver's own tables.
    #[must_use]
    pub fn id_at(&self, index: usize) -> Option<ConnId> {
        self.core.slots.id(u32::try_from(index).ok()?)
    }

    /// How many connections there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.core.slots.is_empty()
    }

    /// What has been counted.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.core.stats
    }

    /// Connections by what they are.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.core.connections()
    }

    /// Its own part of a server's numbers. Looks at every connection.
    #[must_use]
    pub fn loop_stats(&self) -> LoopStats {
        self.core.loop_stats()
    }

    /// Subscriptions in all, the program's own included.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.core.subscriptions()
    }

    /// How far the order has been taken in.
    #[must_use]
    pub fn horizon(&self) -> u64 {
        self.core.horizon
    }

    /// The order that it reads.
    #[must_use]
    pub fn history(&self) -> &Arc<History> {
        &self.core.history
    }

    /// Sets how many connections are let in, where the driver knows better than the configuration.
    pub fn set_connections_max(&mut self, max: usize) {
        self.core.connections_max = max.min(ConnId::INDEX_MAX - 64);
    }

    /// Whether a connection that comes now is one too many, or there is no memory for more: it would be
    /// let in only to be told so.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.core.is_over()
    }

    /// Connections that count for the limit: those that are only here to be refused do not.
    #[must_use]
    pub fn admitted(&self) -> usize {
        self.core.slots.len() - self.core.refused
    }

    /// Tells a loop that accepts for others how many connections those have: they count for its limit.
    pub fn set_elsewhere(&mut self, connections: usize) {
        self.core.elsewhere = connections;
    }

    /// Leaves this loop's numbers for the others: `/stats` speaks for all of them.
    pub fn leave_stats(&self, now: Now) {
        self.core.common.totals.leave(self.loop_number(), self.loop_stats(), now);
    }

    /// The last that it leaves: it has counted what it has, and holds nothing any more.
    pub fn leave_last_stats(&self) {
        self.core.common.totals.leave_last(self.loop_number(), self.stats().clone());
    }

    /// Its number among the loops of a server.
    #[must_use]
    pub fn loop_number(&self) -> usize {
        self.core.loop_number()
    }

    /// Calls into the application; a panic there ends this server, not the process.
    fn call_app<T>(&mut self, call: impl FnOnce(&mut dyn App, &mut Core) -> T) -> Option<T> {
        let app = self.app.as_deref_mut()?;
        let core = &mut self.core;
        match catch_unwind(AssertUnwindSafe(|| call(app, core))) {
            Ok(result) => Some(result),
            Err(_) => {
                self.fail();
                None
            }
        }
    }

    /// A callback has panicked. Nobody is called any more, and nothing that only the application could
    /// allow is done.
    fn fail(&mut self) {
        log::error!("a callback of the application panicked: this server ends");
        self.has_failed = true;
        let app = self.app.take();
        // Half of what it did may have been done: its end may panic, too.
        if catch_unwind(AssertUnwindSafe(|| drop(app))).is_err() {
            log::error!("and then it panicked when it was dropped");
        }
    }

    fn on_writable(&mut self, index: u32) {
        if let Some(id) = self.core.slots.id(index) {
            self.call_app(|app, core| app.writable(&mut Ctx { core }, id));
        }
    }

    /// Frees the next slot whose end has come.
    fn free_next(&mut self) -> Option<ConnId> {
        while let Some(index) = self.core.closes.pop_front() {
            if let Some(id) = self.free(index) {
                return Some(id);
            }
        }
        None
    }

    fn free(&mut self, index: u32) -> Option<ConnId> {
        let id = self.core.slots.id(index)?;
        self.core.leave_all(index);
        self.core.wheel.cancel(index);
        let slot = self.core.slots.remove(index)?;
        self.core.shrink();
        self.core.forget_presence(id);
        self.core.uncount(&slot);
        self.core.unweigh(&slot);
        if slot.flags.has(Flags::OPENED) {
            let reason = self.core.reasons.remove(&index).unwrap_or(CloseReason::Lost);
            self.core.leaving = Some((id, slot.extra.as_ref().map_or(0, |extra| extra.data)));
            self.call_app(|app, core| app.closed(&mut Ctx { core }, id, reason));
            self.core.leaving = None;
        }
        Some(id)
    }

    /// Asserts what must hold between two calls. What all engines of a server count together is
    /// looked at by [`check_all`](Self::check_all), unless this is the only one. For tests.
    #[doc(hidden)]
    pub fn check(&self) {
        let mut counts = HashMap::new();
        self.check_own(&mut counts);
        if self.core.common.loops == 1 {
            self.core.check_common(counts);
        }
    }

    /// Asserts what must hold between two calls for all engines of a server. For tests.
    #[doc(hidden)]
    pub fn check_all<'a>(engines: impl Iterator<Item = &'a Self>) {
        let (mut counts, mut last) = (HashMap::new(), None);
        for engine in engines {
            engine.check_own(&mut counts);
            last = Some(engine);
        }
        if let Some(engine) = last {
            engine.core.check_common(counts);
        }
    }

    fn check_own(&self, counts: &mut HashMap<AddressIndex, Seen>) {
        let core = &self.core;
        let mut members = 0;
        for (index, slot) in core.slots.iter() {
            for sub in slot.subs.as_slice() {
                members += 1;
                assert_eq!(core.roster.members(sub.room)[sub.place as usize], index);
            }
            if slot.flags.has(Flags::BEHIND) {
                assert!(slot.cursor <= core.horizon, "a cursor beyond the horizon");
                let listed = slot.flags.has(Flags::DIRTY) || slot.flags.has(Flags::BLOCKED);
                assert!(listed || slot.subs.as_slice().is_empty(), "behind, and nobody looks");
            }
            assert!(slot.arena_len == 0 || slot.flags.has(Flags::REPLYING));
        }
        assert_eq!(members, core.roster.subscriptions());
        core.check_counts(counts);
        core.check_held();
        core.check_local();
        core.check_presence();
        for index in core.wheel.filed() {
            assert!(core.slots.get(index).is_some(), "a timer of a slot that is no more");
        }
    }
}
