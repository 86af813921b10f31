//! A proxy with faults: between clients and a server it stalls, resets, half-closes, delays, splits
//! and buffers, on one thread of its own. What happens to a connection is its `Plan`, which a seed
//! or a test draws when it comes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

/// What one direction may hold: behind it the sender waits, as it would for a kernel.
const HELD_MAX: usize = 64 * 1024;
/// Half of what a server grants a body that comes too slowly, and less.
const PIECES_FOR: Duration = Duration::from_secs(2);
const LISTENER: Token = Token(usize::MAX);

/// What happens to one direction of a connection.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Forwards at most so many bytes at a time, each a segment of its own; whatever has been here
    /// for `PIECES_FOR` goes at once, or nothing would ever be whole on a machine that is busy.
    pub piece: Option<usize>,
    /// Forwards what came only after up to so many milliseconds.
    pub delay_ms: u64,
    /// Holds what comes until there are so many bytes, the sender has ended, or so many
    /// milliseconds are over: a proxy that buffers.
    pub hold: Option<(usize, u64)>,
    /// After so many bytes forwards nothing for so many milliseconds.
    pub stall: Option<(u64, u64)>,
}

/// How the proxy ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides are reset.
    Reset,
    /// Both sides are closed.
    Close,
    /// The server sees the end of what the client sends; the other way stays open.
    HalfUp,
    /// The client sees the end of what the server sends; the other way stays open.
    HalfDown,
    /// Both sides stay open, nothing is forwarded any more, and nobody is told.
    Vanish,
}

#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub up: Way,
    pub down: Way,
    /// What ends it, after so many milliseconds.
    pub end: Option<(u64, End)>,
}

pub struct Proxy {
    pub addr: SocketAddr,
    stops: Arc<AtomicBool>,
    ends: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn start(
        target: SocketAddr,
        seed: u64,
        plan: impl FnMut(&mut Rng) -> Plan + Send + 'static,
    ) -> Self {
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let addr = listener.local_addr().expect("its address");
        let poll = Poll::new().expect("a poll");
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("registers");
        let (stops, ends) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let work = Work {
            target,
            listener,
            poll,
            plan: Box::new(plan),
            rng: Rng::with_seed(seed),
            links: Vec::new(),
            free: Vec::new(),
            stops: Arc::clone(&stops),
            ends: Arc::clone(&ends),
        };
        let thread = std::thread::Builder::new().name("proxy".to_owned());
        let thread = Some(thread.spawn(|| work.run()).expect("a thread"));
        Self { addr, stops, ends, thread }
    }

    /// Connections that it has ended by its plans.
    pub fn ends(&self) -> u64 {
        self.ends.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|e| e.is_ok()), "the proxy failed");
    }
}

/// One direction: what was read at its source and not yet written at its other end.
struct Pipe {
    way: Way,
    held: VecDeque<u8>,
    /// What may be forwarded by now, and what may be from when on.
    ready: usize,
    batches: VecDeque<(Instant, usize)>,
    first_at: Option<Instant>,
    forwarded: u64,
    stalled_until: Option<Instant>,
    has_stalled: bool,
    is_readable: bool,
    is_writable: bool,
    /// The source has ended; that has been passed on.
    is_ended: bool,
    is_shut: bool,
}

impl Pipe {
    fn new(way: Way) -> Self {
        Self {
            way,
            held: VecDeque::new(),
            ready: 0,
            batches: VecDeque::new(),
            first_at: None,
            forwarded: 0,
            stalled_until: None,
            has_stalled: false,
            is_readable: false,
            is_writable: false,
            is_ended: false,
            is_shut: false,
        }
    }

    /// False if the source is broken.
    fn read(&mut self, source: &mut TcpStream, rng: &mut Rng, now: Instant) -> bool {
        let mut room = [0; 16 * 1024];
        while self.is_readable && !self.is_ended && self.held.len() < HELD_MAX {
            match source.read(&mut room) {
                Ok(0) => self.is_ended = true,
                Ok(n) => {
                    self.held.extend(&room[..n]);
                    let delay = Duration::from_millis(rng.u64(0..=self.way.delay_ms));
                    // Never before what came before it.
                    let after = self.batches.back().map_or(now, |(at, _)| *at);
                    self.batches.push_back(((now + delay).max(after), n));
                    self.first_at.get_or_insert(now);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_readable = false,
                Err(_) => return false,
            }
        }
        true
    }

    fn is_let_go(&self, now: Instant) -> bool {
        let Some((bytes, ms)) = self.way.hold else { return true };
        let is_old = |first: Instant| now >= first + Duration::from_millis(ms);
        self.is_ended || self.held.len() >= bytes || self.first_at.is_some_and(is_old)
    }

    /// False if the other end is broken.
    fn write(&mut self, target: &mut TcpStream, rng: &mut Rng, now: Instant) -> bool {
        if self.stalled_until.is_some_and(|until| now < until) || !self.is_let_go(now) {
            return true;
        }
        while self.batches.front().is_some_and(|(at, _)| now >= *at) {
            self.ready += self.batches.pop_front().map_or(0, |(_, n)| n);
        }
        let is_late = self.first_at.is_some_and(|first| now >= first + PIECES_FOR);
        let piece = self.way.piece.filter(|_| !is_late);
        while self.ready > 0 && self.is_writable {
            let most = self.ready.min(self.held.len()).min(16 * 1024);
            let most = piece.map_or(most, |piece| most.min(rng.usize(1..=piece)));
            let bytes: Vec<u8> = self.held.range(..most).copied().collect();
            match target.write(&bytes) {
                Ok(n) => {
                    drop(self.held.drain(..n));
                    self.ready -= n;
                    self.forwarded += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                Err(_) => return false,
            }
            if self.begins_stall(now) || piece.is_some() {
                break; // the next piece in the next turn
            }
        }
        if self.held.is_empty() {
            self.first_at = None;
            if self.is_ended && !self.is_shut {
                self.is_shut = true;
                let _ = target.shutdown(Shutdown::Write);
            }
        }
        true
    }

    fn begins_stall(&mut self, now: Instant) -> bool {
        let Some((after, ms)) = self.way.stall else { return false };
        let begins = !self.has_stalled && self.forwarded >= after;
        if begins {
            self.has_stalled = true;
            self.stalled_until = Some(now + Duration::from_millis(ms));
        }
        begins
    }

    /// Whether it has something to do that no event will tell.
    fn is_pending(&self) -> bool {
        !self.held.is_empty() && self.is_writable || (self.is_ended && !self.is_shut)
    }
}

struct Link {
    client: TcpStream,
    server: TcpStream,
    up: Pipe,
    down: Pipe,
    end: Option<(Instant, End)>,
    has_vanished: bool,
}

impl Link {
    /// Whether it goes on.
    fn tend(&mut self, rng: &mut Rng, now: Instant) -> bool {
        if self.has_vanished {
            // Only a client that gives up ends it, whatever the server does.
            return self.up.read(&mut self.client, rng, now) && !self.up.is_ended;
        }
        let is_whole = self.up.read(&mut self.client, rng, now)
            && self.down.read(&mut self.server, rng, now)
            && self.up.write(&mut self.server, rng, now)
            && self.down.write(&mut self.client, rng, now);
        if !is_whole {
            // Who is left is told in the same way.
            reset(&self.client);
            reset(&self.server);
            return false;
        }
        !(self.up.is_shut && self.down.is_shut)
    }

    /// Ends it as planned; whether it goes on.
    fn end(&mut self, how: End) -> bool {
        match how {
            End::Reset => {
                reset(&self.client);
                reset(&self.server);
                return false;
            }
            End::Close => return false,
            End::HalfUp => {
                self.up.is_shut = true;
                self.up.is_ended = true;
                let _ = self.server.shutdown(Shutdown::Write);
            }
            End::HalfDown => {
                self.down.is_shut = true;
                self.down.is_ended = true;
                let _ = self.client.shutdown(Shutdown::Write);
            }
            End::Vanish => self.has_vanished = true,
        }
        true
    }
}

fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

struct Work {
    target: SocketAddr,
    listener: TcpListener,
    poll: Poll,
    plan: Box<dyn FnMut(&mut Rng) -> Plan + Send>,
    rng: Rng,
    links: Vec<Option<Link>>,
    free: Vec<usize>,
    stops: Arc<AtomicBool>,
    ends: Arc<AtomicU64>,
}

impl Work {
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        while !self.stops.load(Ordering::Relaxed) {
            let wait = if self.is_pending() { 1 } else { 10 };
            match self.poll.poll(&mut events, Some(Duration::from_millis(wait))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled.expect("polls"),
            }
            for event in &events {
                self.note(event);
            }
            self.accept();
            let now = Instant::now();
            for at in 0..self.links.len() {
                self.tend(at, now);
            }
        }
    }

    fn is_pending(&self) -> bool {
        let mut links = self.links.iter().flatten();
        links.any(|link| !link.has_vanished && (link.up.is_pending() || link.down.is_pending()))
    }

    fn note(&mut self, event: &mio::event::Event) {
        if event.token() == LISTENER {
            return; // it is asked in each turn
        }
        let (at, is_client) = (event.token().0 / 2, event.token().0 & 1 == 0);
        let Some(link) = &mut self.links[at] else { return };
        let (reads, writes) = match is_client {
            true => (&mut link.up, &mut link.down),
            false => (&mut link.down, &mut link.up),
        };
        let has_ended = event.is_read_closed() || event.is_error();
        reads.is_readable |= event.is_readable() || has_ended;
        writes.is_writable |= event.is_writable() || event.is_error();
    }

    fn accept(&mut self) {
        while let Ok((client, _)) = self.listener.accept() {
            let plan = (self.plan)(&mut self.rng);
            let server = TcpStream::connect(self.target).expect("a connection to the server");
            let end = plan.end.map(|(ms, how)| (Instant::now() + Duration::from_millis(ms), how));
            let (up, down) = (Pipe::new(plan.up), Pipe::new(plan.down));
            let mut link = Link { client, server, up, down, end, has_vanished: false };
            let at = self.free.pop().unwrap_or(self.links.len());
            if at == self.links.len() {
                self.links.push(None);
            }
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registry = self.poll.registry();
            registry.register(&mut link.client, Token(at * 2), interest).expect("registers");
            registry.register(&mut link.server, Token(at * 2 + 1), interest).expect("registers");
            let _ = link.client.set_nodelay(true);
            let _ = link.server.set_nodelay(true);
            self.links[at] = Some(link);
        }
    }

    fn tend(&mut self, at: usize, now: Instant) {
        let Some(link) = &mut self.links[at] else { return };
        let due = link.end.filter(|(at, _)| now >= *at);
        let mut goes_on = true;
        if let Some((_, how)) = due {
            link.end = None;
            self.ends.fetch_add(1, Ordering::Relaxed);
            goes_on = link.end(how);
        }
        if !goes_on || !link.tend(&mut self.rng, now) {
            self.links[at] = None;
            self.free.push(at);
        }
    }
}
