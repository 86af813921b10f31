//! Readers on real sockets, all driven by the caller's thread, each with its habits.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::ledger::Ledger;
use super::reader::{Flow, Reader, Via};

/// How a connection that is cut ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Close,
    Reset,
}

/// What a reader does besides reading.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Cuts its connection after a random time, in milliseconds.
    pub cuts: Option<Range<u64>>,
    /// How long it stays away after an end, in milliseconds.
    pub away: Range<u64>,
    /// Reads so many bytes at a time, and pauses for so many milliseconds.
    pub slow: Option<(usize, u64)>,
    /// Takes a connection for dead after so much silence, in milliseconds; after twice as much if
    /// nothing has come since that happened last, and so on: a slow network is not a dead one.
    pub silence: Option<u64>,
}

impl Habits {
    pub const STEADY: Self = Self { cuts: None, away: 5..20, slow: None, silence: None };
}

pub struct Member {
    pub reader: Reader,
    pub habits: Habits,
    target: SocketAddr,
    socket: Option<TcpStream>,
    out: Vec<u8>,
    is_readable: bool,
    /// When it comes back, while it has no connection.
    comes_at: Instant,
    cuts_at: Option<Instant>,
    reads_at: Instant,
    heard_at: Instant,
    /// Cuts since anything was last heard.
    mute: u32,
    /// Ends of connections so far, its own cuts among them.
    pub ends: u64,
    has_left: bool,
}

impl Member {
    fn is_due(&self, now: Instant) -> bool {
        match self.socket {
            None => !self.has_left && now >= self.comes_at,
            Some(_) => self.is_readable && now >= self.reads_at || self.wants_cut(now),
        }
    }

    fn wants_cut(&self, now: Instant) -> bool {
        let is_silent = |ms| now >= self.heard_at + Duration::from_millis(ms << self.mute.min(3));
        self.cuts_at.is_some_and(|at| now >= at) || self.habits.silence.is_some_and(is_silent)
    }
}

pub struct Crowd {
    pub members: Vec<Member>,
    /// Where those who join from now on connect to.
    pub target: SocketAddr,
    pub rng: Rng,
    poll: Poll,
    events: Events,
}

impl Crowd {
    pub fn new(target: SocketAddr, seed: u64) -> Self {
        let poll = Poll::new().expect("a poll");
        let (members, rng) = (Vec::new(), Rng::with_seed(seed));
        Self { members, target, rng, poll, events: Events::with_capacity(1024) }
    }

    /// It connects in the next turn.
    pub fn join(&mut self, reader: Reader, habits: Habits) {
        let now = Instant::now();
        self.members.push(Member {
            reader,
            habits,
            target: self.target,
            socket: None,
            out: Vec::new(),
            is_readable: false,
            comes_at: now,
            cuts_at: None,
            reads_at: now,
            heard_at: now,
            mute: 0,
            ends: 0,
            has_left: false,
        });
    }

    pub fn connected(&self) -> usize {
        self.members.iter().filter(|member| member.socket.is_some()).count()
    }

    /// Cuts the connection of one, who comes back after its usual time.
    pub fn cut(&mut self, at: usize, how: Cut) {
        let away = self.members[at].habits.away.clone();
        let member = &mut self.members[at];
        let Some(socket) = member.socket.take() else { return };
        if how == Cut::Reset {
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
        member.ends += 1;
        member.comes_at = Instant::now() + Duration::from_millis(self.rng.u64(away));
    }

    /// Cuts the connection of one, who never comes back.
    pub fn leave(&mut self, at: usize, how: Cut) {
        self.cut(at, how);
        self.members[at].has_left = true;
    }

    /// Turns until it is so, or the time is over; whether it is so.
    pub fn run(&mut self, time: Duration, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.turn();
            if holds(self) {
                return true;
            }
        }
        false
    }

    /// Until everybody has all that was published.
    pub fn catch_up(&mut self, totals: &BTreeMap<String, u64>, patience: Duration) -> bool {
        self.run(patience, |crowd| crowd.owed(totals) == 0)
    }

    pub fn owed(&self, totals: &BTreeMap<String, u64>) -> u64 {
        let present = self.members.iter().filter(|member| !member.has_left);
        present.map(|member| member.reader.ledger.owed(totals)).sum()
    }

    /// To whom how much is owed, for who looks for the reason.
    pub fn debtors(&self, totals: &BTreeMap<String, u64>) -> Vec<(Via, u64, u64)> {
        let owed = |m: &Member| (m.reader.via, m.reader.ledger.owed(totals), m.ends);
        self.members.iter().map(owed).filter(|(_, owed, _)| *owed > 0).collect()
    }

    /// The books of all that are chosen.
    pub fn sum(&self, chosen: impl Fn(&Member) -> bool) -> Ledger {
        let mut sum = Ledger::default();
        self.members.iter().filter(|m| chosen(m)).for_each(|m| sum.add(&m.reader.ledger));
        sum
    }

    pub fn sum_via(&self, via: Via) -> Ledger {
        self.sum(|member| member.reader.via == via)
    }

    pub fn turn(&mut self) {
        let now = Instant::now();
        let is_due = self.members.iter().any(|member| member.is_due(now));
        let wait = if is_due { Duration::ZERO } else { Duration::from_millis(5) };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            polled => polled.expect("polls"),
        }
        for event in &self.events {
            let member = &mut self.members[event.token().0];
            member.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            if event.is_writable() {
                write(member);
            }
        }
        let now = Instant::now();
        for at in 0..self.members.len() {
            if self.members[at].is_due(now) {
                self.tend(at, now);
            }
        }
    }

    fn tend(&mut self, at: usize, now: Instant) {
        if self.members[at].socket.is_none() {
            self.come(at, now);
        } else if self.members[at].wants_cut(now) {
            self.members[at].mute += 1;
            let how = if self.rng.bool() { Cut::Close } else { Cut::Reset };
            self.cut(at, how);
        } else if read(&mut self.members[at], now) == Flow::Over {
            self.cut(at, Cut::Close);
        }
    }

    fn come(&mut self, at: usize, now: Instant) {
        let member = &mut self.members[at];
        let cuts = member.habits.cuts.clone();
        member.cuts_at = cuts.map(|range| now + Duration::from_millis(self.rng.u64(range)));
        member.out = member.reader.open();
        member.heard_at = now;
        member.is_readable = false;
        let Ok(mut socket) = TcpStream::connect(member.target) else {
            // Ports or descriptors have run out for a moment.
            member.comes_at = now + Duration::from_millis(50);
            return;
        };
        if member.habits.slow.is_some() {
            let _ = SockRef::from(&socket).set_recv_buffer_size(16 * 1024);
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(at), interest).expect("registers");
        member.socket = Some(socket);
    }
}

fn write(member: &mut Member) {
    let Some(socket) = &mut member.socket else { return };
    while !member.out.is_empty() {
        match socket.write(&member.out) {
            Ok(n) => drop(member.out.drain(..n)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Full, not yet connected, or broken: reading will tell.
            Err(_) => return,
        }
    }
}

fn read(member: &mut Member, now: Instant) -> Flow {
    let mut room = [0; 64 * 1024];
    let size = member.habits.slow.map_or(room.len(), |(bytes, _)| bytes.min(room.len()));
    let Some(socket) = &mut member.socket else { return Flow::Over };
    let got = match socket.read(&mut room[..size]) {
        Ok(0) => return Flow::Over,
        Ok(n) => n,
        Err(error) if error.kind() == ErrorKind::Interrupted => return Flow::Open,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            member.is_readable = false;
            return Flow::Open;
        }
        Err(_) => return Flow::Over,
    };
    member.heard_at = now;
    member.mute = 0;
    if let Some((_, pause)) = member.habits.slow {
        member.reads_at = now + Duration::from_millis(pause);
    }
    let flow = member.reader.handle_bytes(&room[..got], &mut member.out);
    write(member);
    flow
}
