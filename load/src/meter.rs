//! One measurement: a time to warm up, a time that counts, and what both processes spent in it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Fault;
use crate::net::Poll;
use crate::process::{Memory, Server, own_cpu};
use crate::progress::Progress;

/// A minute, in the microseconds that histograms count; more is counted as that.
const LONGEST_NS: u64 = 60_000_000_000;

/// What is measured, from the first `running` that is past the warm-up.
#[derive(Debug)]
pub struct Meter {
    warm_until: Instant,
    end: Instant,
    began: Option<Began>,
    server: Option<Server>,
    memory_before: Option<Memory>,
    progress: Progress,
    /// In nanoseconds.
    latency: Histogram<u64>,
    messages: u64,
}

#[derive(Clone, Copy, Debug)]
struct Began {
    at: Instant,
    server: Duration,
    own: Duration,
    idle: Duration,
    received: u64,
    sent: u64,
}

impl Began {
    fn now(server: Option<Server>, poll: &Poll) -> Result<Self, Fault> {
        Ok(Self {
            server: server.map(Server::cpu).transpose()?.unwrap_or_default(),
            own: own_cpu(),
            idle: poll.idle,
            received: poll.received,
            sent: poll.sent,
            at: Instant::now(),
        })
    }
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Measured {
    pub seconds: f64,
    pub messages: u64,
    pub latency: Histogram<u64>,
    pub server_cpu: Option<Duration>,
    pub own_cpu: Duration,
    /// The share of the time in which this program had something to do.
    pub busy: f64,
    pub received: u64,
    pub sent: u64,
    pub memory_before: Option<Memory>,
    pub memory: Option<Memory>,
}

impl Meter {
    /// Made before the first connection, so that memory can be compared.
    pub fn new(server: Option<Server>, quiet: bool) -> Result<Self, Fault> {
        let now = Instant::now();
        Ok(Self {
            warm_until: now,
            end: now,
            began: None,
            server,
            memory_before: server.map(Server::memory).transpose()?,
            progress: Progress::new(quiet),
            latency: histogram(),
            messages: 0,
        })
    }

    /// How much has been opened so far.
    pub fn opening(&mut self, open: usize, all: usize) {
        let share = open as f64 / all.max(1) as f64;
        self.progress.show(share, || format!("{open} of {all} connections"));
    }

    /// The time begins now.
    pub fn start(&mut self, warmup: Duration, seconds: Duration) {
        self.warm_until = Instant::now() + warmup;
        self.end = self.warm_until + seconds;
    }

    /// The end of the time that counts.
    pub fn end(&self) -> Instant {
        self.end
    }

    /// Is there time left? Asked once a turn.
    pub fn running(&mut self, poll: &Poll) -> Result<bool, Fault> {
        let now = Instant::now();
        if self.began.is_none() && now >= self.warm_until {
            self.end = now + (self.end - self.warm_until);
            self.began = Some(Began::now(self.server, poll)?);
        }
        let whole = self.end - self.warm_until;
        let left = self.end.saturating_duration_since(now);
        let (messages, done) = (self.messages, 1.0 - left.as_secs_f64() / whole.as_secs_f64());
        self.progress.show(done, || {
            let each = messages as f64 / (whole - left.min(whole)).as_secs_f64().max(0.001);
            format!("{:.1} s left, {each:.0}/s", left.as_secs_f64())
        });
        Ok(now < self.end)
    }

    /// A message took so long. Not counted while warming up.
    pub fn record(&mut self, took: Duration) {
        if self.began.is_some() {
            record(&mut self.latency, took);
            self.messages += 1;
        }
    }

    /// Has the time that counts begun?
    pub fn counts(&self) -> bool {
        self.began.is_some()
    }

    /// All of it.
    pub fn finish(mut self, poll: &Poll) -> Result<Measured, Fault> {
        self.progress.clear();
        let began = self.began.ok_or_else(|| Fault::wrong("it ended while warming up"))?;
        let passed = began.at.elapsed();
        let server_cpu = self.server_cpu()?.map(|cpu| since(cpu, began.server)).transpose()?;
        let idle = (poll.idle - began.idle).as_secs_f64();
        Ok(Measured {
            seconds: passed.as_secs_f64(),
            messages: self.messages,
            latency: self.latency,
            server_cpu,
            own_cpu: own_cpu() - began.own,
            busy: (1.0 - idle / passed.as_secs_f64()).clamp(0.0, 1.0),
            received: poll.received - began.received,
            sent: poll.sent - began.sent,
            memory_before: self.memory_before,
            memory: self.server.map(Server::memory).transpose()?,
        })
    }

    fn server_cpu(&self) -> Result<Option<Duration>, Fault> {
        self.server.map(Server::cpu).transpose()
    }
}

/// The time of threads that have ended is gone from /proc.
fn since(now: Duration, before: Duration) -> Result<Duration, Fault> {
    let spent = now.checked_sub(before);
    spent.ok_or_else(|| Fault::wrong("threads of the server ended: its time is not known"))
}

/// A measurement in several parts, with pauses between them that do not count.
#[derive(Debug)]
pub struct Parts {
    server: Option<Server>,
    memory_before: Option<Memory>,
    began: Option<Began>,
    sum: Sum,
    /// In nanoseconds.
    pub latency: Histogram<u64>,
    pub messages: u64,
}

#[derive(Debug, Default)]
struct Sum {
    time: Duration,
    server: Duration,
    own: Duration,
    idle: Duration,
    received: u64,
    sent: u64,
}

impl Parts {
    pub fn new(server: Option<Server>) -> Result<Self, Fault> {
        Ok(Self {
            server,
            memory_before: server.map(Server::memory).transpose()?,
            began: None,
            sum: Sum::default(),
            latency: histogram(),
            messages: 0,
        })
    }

    /// A part begins.
    pub fn begin(&mut self, poll: &Poll) -> Result<(), Fault> {
        self.began = Some(Began::now(self.server, poll)?);
        Ok(())
    }

    /// It is over, and took so long.
    pub fn end(&mut self, poll: &Poll) -> Result<Duration, Fault> {
        let Some(before) = self.began.take() else { return Ok(Duration::ZERO) };
        let took = before.at.elapsed();
        let after = Began::now(self.server, poll)?;
        self.sum.time += took;
        self.sum.server += since(after.server, before.server)?;
        self.sum.own += after.own - before.own;
        self.sum.idle += after.idle - before.idle;
        self.sum.received += after.received - before.received;
        self.sum.sent += after.sent - before.sent;
        Ok(took)
    }

    /// Forgets all of it: that was to warm up.
    pub fn clear(&mut self) {
        (self.sum, self.messages) = (Sum::default(), 0);
        self.latency.clear();
    }

    pub fn finish(self) -> Result<Measured, Fault> {
        let Sum { time, server, own, idle, received, sent } = self.sum;
        let seconds = time.as_secs_f64();
        Ok(Measured {
            seconds,
            messages: self.messages,
            latency: self.latency,
            server_cpu: self.server.map(|_| server),
            own_cpu: own,
            busy: (1.0 - idle.as_secs_f64() / seconds).clamp(0.0, 1.0),
            received,
            sent,
            memory_before: self.memory_before,
            memory: self.server.map(Server::memory).transpose()?,
        })
    }
}

/// Counts a time, the longest that it can tell if it took longer.
pub fn record(latency: &mut Histogram<u64>, took: Duration) {
    latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

/// Three digits, up to a minute.
#[allow(clippy::unwrap_used, reason = "the bounds are constants")]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).unwrap()
}
