//! Many who listen to one channel, over any mix of transports, and the one who publishes to it.

use std::time::{Duration, Instant};

use super::{PATIENCE, Run};
use crate::Fault;
use crate::listener::{Listener, Transport, Way};
use crate::meter::Meter;
use crate::net::{Line, Ready, source};
use crate::publisher::Publisher;
use crate::sequence::{Order, Wrongs};

/// The publisher's number among the lines.
const PUBLISHER: usize = u32::MAX as usize;
/// Opened at a time, so that no queue of the server's overflows.
const AT_ONCE: usize = 64;

/// How many of each.
#[derive(Clone, Copy, Debug)]
pub struct Counts(pub [(Transport, usize); 3]);

impl Counts {
    /// From `--ws`, `--sse` and `--poll`.
    pub fn new(run: &Run, default_ws: u64) -> Result<Self, Fault> {
        let given = Transport::ALL.iter().any(|way| run.args.text(way.name()).is_some());
        let ws = run.connections("ws", if given { 0 } else { default_ws })?;
        let (sse, poll) = (run.connections("sse", 0)?, run.connections("poll", 0)?);
        Ok(Self([(Transport::Ws, ws), (Transport::Sse, sse), (Transport::Poll, poll)]))
    }

    pub fn sum(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The ways that somebody takes, and which of them each takes.
    pub fn ways(&self, run: &Run) -> Result<(Vec<Way>, Vec<usize>), Fault> {
        let (mut ways, mut which) = (Vec::new(), Vec::new());
        for (transport, count) in self.0.into_iter().filter(|(_, count)| *count > 0) {
            which.extend(vec![ways.len(); count]);
            ways.push(Way::new(&run.profile, transport, &run.common().host)?);
        }
        Ok((ways, which))
    }
}

/// One who listens.
#[derive(Debug)]
pub struct Member {
    pub line: Line,
    pub listener: Listener,
    pub order: Order,
    way: usize,
}

/// All who listen.
#[derive(Debug)]
pub struct Crowd {
    pub ways: Vec<Way>,
    pub members: Vec<Member>,
    pub wrongs: Wrongs,
    /// The number that whoever is opened expects first.
    pub expected: u64,
    /// What is added to their numbers to find an address that they come from.
    pub source_from: usize,
    /// After the answer to a poll the next is asked at once.
    pub asks_again: bool,
    open: usize,
}

impl Crowd {
    /// Nobody yet.
    pub fn new(ways: Vec<Way>) -> Self {
        Self {
            ways,
            members: Vec::new(),
            wrongs: Wrongs::default(),
            expected: 0,
            source_from: 0,
            asks_again: true,
            open: 0,
        }
    }

    /// Opens one more for each of the ways; each listens when this returns, or (a poll) has said that
    /// it does.
    pub fn grow(&mut self, run: &mut Run, which: &[usize], meter: &mut Meter) -> Result<(), Fault> {
        let (before, all) = (self.members.len(), self.members.len() + which.len());
        let (mut end, mut ready) = (Instant::now() + PATIENCE, Vec::new());
        while self.open < all {
            let open = self.open;
            while self.members.len() < all.min(open + AT_ONCE) {
                self.connect(run, which[self.members.len() - before])?;
            }
            // Polls may all be open by that: then nothing needs to happen before the next.
            let until = if self.open > open { Instant::now() } else { end };
            run.poll.wait(until, &mut ready)?;
            for event in ready.drain(..) {
                self.handle(run, event, |_, _| ())?;
            }
            meter.opening(self.open, all);
            if self.open > open {
                end = Instant::now() + PATIENCE;
            } else if Instant::now() > end {
                let (open, time) = (self.open, PATIENCE.as_secs());
                return Err(Fault::wrong(format!("{open} of {all} opened, no more in {time} s")));
            }
        }
        Ok(())
    }

    /// Opens one, and does not wait for it.
    pub fn connect(&mut self, run: &mut Run, way: usize) -> Result<(), Fault> {
        let index = self.members.len();
        let target = run.common().target;
        let mut line = Line::connect(target, source(target, self.source_from + index))?;
        run.poll.add(&line, index)?;
        let mut listener = Listener::new(&self.ways[way]);
        let mut request = Vec::new();
        listener.ask(&self.ways[way], &mut request);
        run.poll.send(&mut line, index, &request)?;
        self.open += usize::from(listener.open && line.has_room());
        self.members.push(Member { line, listener, order: Order::from(self.expected), way });
        Ok(())
    }

    /// Asks a member's next poll.
    pub fn ask(&mut self, run: &mut Run, index: usize) -> Result<(), Fault> {
        let Some(member) = self.members.get_mut(index) else { return Ok(()) };
        let Member { line, listener, way, .. } = member;
        if listener.is_over {
            let target = run.common().target;
            *line = Line::connect(target, source(target, self.source_from + index))?;
            run.poll.add(line, index)?;
            listener.is_over = false;
        }
        let mut request = Vec::new();
        listener.ask(&self.ways[*way], &mut request);
        run.poll.send(line, index, &request)?;
        Ok(())
    }

    /// Something happened on a member's line. `each` gets the numbers that came, and whose they are.
    pub fn handle(
        &mut self,
        run: &mut Run,
        event: Ready,
        mut each: impl FnMut(u64, Instant),
    ) -> Result<(), Fault> {
        let Some(member) = self.members.get_mut(event.index) else { return Ok(()) };
        let way = &self.ways[member.way];
        let Member { line, listener, order, .. } = member;
        if event.writable {
            run.poll.flush(line, event.index)?;
            // A first poll that had to wait for its connection.
            let first = (listener.asked, listener.answers) == (1, 0);
            self.open += usize::from(first && line.has_room());
        }
        if !event.readable {
            return Ok(());
        }
        let (mut reply, answers, open) = (Vec::new(), listener.answers, listener.open);
        let wrongs = &mut self.wrongs;
        let now = Instant::now();
        let alive = run.poll.read(line, |bytes| {
            listener.take(way, bytes, &mut reply, |number| {
                if number > 0 {
                    order.see(number, wrongs);
                }
                each(number, now);
            })
        })?;
        self.open += usize::from(listener.open && !open);
        let answered = listener.answers > answers && !listener.is_over;
        if !alive && !listener.is_over && !listener.is_idle() {
            let name = way.transport.name();
            return Err(Fault::wrong(format!("the server closed one that listens by {name}")));
        }
        if !reply.is_empty() {
            run.poll.send(line, event.index, &reply)?;
        }
        if !alive && !self.asks_again {
            // It comes back with the next that it asks; until then nothing is to be heard of it.
            listener.is_over = true;
            run.poll.remove(line)?;
        } else if !alive || (answered && self.asks_again) {
            self.ask(run, event.index)?;
        }
        Ok(())
    }

    /// Pongs, and polls that are asked again, as long as that: whatever else comes is only checked.
    pub fn listen(&mut self, run: &mut Run, until: Instant) -> Result<(), Fault> {
        let mut ready = Vec::new();
        while Instant::now() < until {
            run.poll.wait(until, &mut ready)?;
            for event in &ready {
                self.handle(run, *event, |_, _| ())?;
            }
        }
        Ok(())
    }

    /// Expects numbers from `next` on, from now.
    pub fn expect(&mut self, next: u64) {
        self.members.iter_mut().for_each(|member| member.order = Order::from(next));
        self.wrongs = Wrongs::default();
    }

    /// All before `end` have been published: what has not come is lost.
    pub fn end(&mut self, end: u64) {
        for member in &mut self.members {
            member.order.end(end, &mut self.wrongs);
        }
    }
}

/// The one who publishes, with its line.
#[derive(Debug)]
pub struct Voice {
    pub publisher: Publisher,
    line: Line,
    size: usize,
    /// The number of the next publication; 0 is what may be published while nobody counts.
    pub next: u64,
    requests: Vec<u8>,
}

impl Voice {
    pub fn open(run: &mut Run, size: usize) -> Result<Self, Fault> {
        let host = run.common().host.clone();
        let publisher = Publisher::new(&run.profile, &host)?;
        let mut line = Line::connect(run.common().target, None)?;
        run.poll.add(&line, PUBLISHER)?;
        let mut request = Vec::new();
        publisher.open(&mut request);
        run.poll.send(&mut line, PUBLISHER, &request)?;
        let mut voice = Self { publisher, line, size, next: 1, requests: request };
        let (end, mut ready) = (Instant::now() + PATIENCE, Vec::new());
        while !voice.publisher.is_open() && Instant::now() < end {
            run.poll.wait(end, &mut ready)?;
            for event in ready.iter().filter(|event| Self::is_it(event)) {
                voice.handle(run, *event)?;
            }
        }
        if !voice.publisher.is_open() {
            return Err(Fault::wrong("the connection that publishes was not opened"));
        }
        Ok(voice)
    }

    pub fn is_it(event: &Ready) -> bool {
        event.index == PUBLISHER
    }

    /// Publishes the next `count`, all in one write.
    pub fn publish(&mut self, run: &mut Run, count: u64) -> Result<(), Fault> {
        self.requests.clear();
        for number in self.next..self.next + count {
            self.publisher.publish(number, self.size, &mut self.requests);
        }
        self.next += count;
        // A connection that is about to end will be made anew, and all that is unanswered sent on it.
        if !self.publisher.is_over {
            run.poll.send(&mut self.line, PUBLISHER, &self.requests)?;
        }
        Ok(())
    }

    /// Publishes what nobody counts.
    pub fn probe(&mut self, run: &mut Run) -> Result<(), Fault> {
        self.requests.clear();
        self.publisher.publish(0, self.size, &mut self.requests);
        run.poll.send(&mut self.line, PUBLISHER, &self.requests)?;
        Ok(())
    }

    pub fn handle(&mut self, run: &mut Run, event: Ready) -> Result<(), Fault> {
        if event.writable {
            run.poll.flush(&mut self.line, PUBLISHER)?;
        }
        if !event.readable {
            return Ok(());
        }
        let mut reply = Vec::new();
        let (publisher, profile) = (&mut self.publisher, &run.profile);
        let alive = run
            .poll
            .read(&mut self.line, |bytes| publisher.take(profile, bytes, &mut reply, || ()))?;
        let idle = publisher.is_http() && publisher.unanswered == 0;
        if !alive && !publisher.is_over && !idle {
            return Err(Fault::wrong("the server closed the connection that publishes"));
        }
        if !alive {
            self.line = Line::connect(run.common().target, None)?;
            run.poll.add(&self.line, PUBLISHER)?;
            // What it has not answered it has not heard.
            self.publisher.is_over = false;
            let unanswered = std::mem::take(&mut self.publisher.unanswered);
            self.next = self.next.saturating_sub(unanswered).max(1);
            self.publish(run, unanswered)?;
        }
        if !reply.is_empty() {
            run.poll.send(&mut self.line, PUBLISHER, &reply)?;
        }
        Ok(())
    }
}

/// Takes what happened on all lines. `each` gets the numbers that count, and when they came.
pub fn take(
    run: &mut Run,
    ready: &[Ready],
    crowd: &mut Crowd,
    voice: &mut Voice,
    mut each: impl FnMut(u64, Instant),
) -> Result<(), Fault> {
    for event in ready {
        if Voice::is_it(event) {
            voice.handle(run, *event)?;
        } else {
            crowd.handle(run, *event, |number, now| {
                if number > 0 {
                    each(number, now);
                }
            })?;
        }
    }
    Ok(())
}

/// Publishes until each member has had one: then all of them really listen.
pub fn settle(run: &mut Run, crowd: &mut Crowd, voice: &mut Voice) -> Result<(), Fault> {
    const AGAIN: Duration = Duration::from_millis(500);
    let mut heard = vec![false; crowd.members.len()];
    let mut left = heard.len();
    let mut end = Instant::now() + PATIENCE;
    let mut ready = Vec::new();
    let mut next = Instant::now();
    while left > 0 || voice.publisher.unanswered > 0 {
        if Instant::now() >= next && left > 0 {
            voice.probe(run)?;
            next = Instant::now() + AGAIN;
        }
        run.poll.wait(next, &mut ready)?;
        for event in &ready {
            if Voice::is_it(event) {
                voice.handle(run, *event)?;
                continue;
            }
            let mut came = false;
            crowd.handle(run, *event, |_, _| came = true)?;
            if came && !std::mem::replace(&mut heard[event.index], true) {
                left -= 1;
                end = Instant::now() + PATIENCE;
            }
        }
        if Instant::now() > end {
            let (all, time) = (heard.len(), PATIENCE.as_secs());
            return Err(Fault::wrong(format!("{left} of {all} heard nothing for {time} s")));
        }
    }
    Ok(())
}
