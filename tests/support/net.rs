//! What a client runs over: anything that opens connections and has a clock.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::http::{Pipe, Socket, Wire};

pub trait Net {
    type Pipe: Pipe;

    /// A new connection; every read gives up after `patience`.
    fn open(&self, patience: Duration) -> Wire<Self::Pipe>;

    /// The address that clients would name in `Host`.
    fn addr(&self) -> String;

    /// Lets the server read what was sent so far, in all likelihood, if that takes real time.
    fn breathe(&self, time: Duration);

    /// Lets time pass.
    fn pause(&self, time: Duration);

    /// The time since some fixed moment.
    fn clock(&self) -> Duration;

    /// By how much anything may be later than it should: by nothing where time is virtual.
    fn late(&self) -> Duration;
}

/// The sockets of this machine, and a server that listens there.
#[derive(Clone, Copy, Debug)]
pub struct Loopback {
    pub addr: SocketAddr,
    started: Instant,
}

impl Loopback {
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, started: Instant::now() }
    }
}

impl Net for Loopback {
    type Pipe = Socket;

    fn open(&self, patience: Duration) -> Wire<Socket> {
        Wire::over(Socket::open(self.addr, patience))
    }

    fn addr(&self) -> String {
        self.addr.to_string()
    }

    fn breathe(&self, time: Duration) {
        thread::sleep(time);
    }

    fn pause(&self, time: Duration) {
        thread::sleep(time);
    }

    fn clock(&self) -> Duration {
        self.started.elapsed()
    }

    fn late(&self) -> Duration {
        Duration::from_secs(20)
    }
}
