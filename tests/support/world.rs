//! A server in memory that behaves as the binary does with no options.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use holdline::Config;
use holdline::engine::{Listening, Peer};

use super::http::{Pipe, Trouble, Wire};
use super::net::Net;
use super::sim::{Pace, Sim};

const ADDR: &str = "127.0.0.1:7070";
const CLIENT: &str = "127.0.0.1:50000";

/// How the client's end of a pipe takes what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// What the pipe holds.
    pub window: usize,
    /// What the client reads at a time.
    pub take: usize,
}

#[derive(Clone)]
pub struct World {
    sim: Rc<RefCell<Sim>>,
    reader: Option<Reader>,
}

impl World {
    pub fn new(pace: Pace, reader: Option<Reader>) -> Self {
        let config = Config { local_publish: true, ..Config::default() };
        let listening = Listening::Tcp(ADDR.parse().expect("an address"));
        let mut sim = Sim::listening(config, 1, 7, vec![listening]);
        sim.pace = pace;
        Self { sim: Rc::new(RefCell::new(sim)), reader }
    }

    /// The same world for clients that read in another way.
    pub fn at(&self, pace: Pace, reader: Option<Reader>) -> Self {
        self.sim.borrow_mut().pace = pace;
        Self { sim: Rc::clone(&self.sim), reader }
    }

    /// After all clients have gone: whether the server keeps anything of them.
    pub fn check_deserted(&self) -> Result<(), String> {
        let mut sim = self.sim.borrow_mut();
        sim.settle();
        match sim.engine().len() {
            0 => Ok(()),
            left => Err(format!("{left} connections are kept although their clients have gone")),
        }
    }
}

impl Net for World {
    type Pipe = Client;

    fn open(&self, patience: Duration) -> Wire<Client> {
        let mut sim = self.sim.borrow_mut();
        let peer = Peer::Ip(CLIENT.parse().expect("an address"));
        let line = sim.connect_from(0, peer);
        if let Some(reader) = self.reader {
            sim.lines[line].window = reader.window;
            sim.lines[line].take_max = reader.take;
        }
        Wire::over(Client { sim: Rc::clone(&self.sim), line, patience, is_reset: false })
    }

    fn addr(&self) -> String {
        ADDR.to_owned()
    }

    fn breathe(&self, _: Duration) {
        self.sim.borrow_mut().settle();
    }

    fn pause(&self, time: Duration) {
        self.sim.borrow_mut().pass(time.as_millis() as u64);
    }

    fn clock(&self) -> Duration {
        Duration::from_millis(self.sim.borrow().now.mono_ms)
    }

    fn late(&self) -> Duration {
        Duration::ZERO
    }
}

/// A client's end of a pipe; closed when dropped.
pub struct Client {
    sim: Rc<RefCell<Sim>>,
    line: usize,
    patience: Duration,
    /// It sent something after the server had dropped its end.
    is_reset: bool,
}

impl Pipe for Client {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sim = self.sim.borrow_mut();
        if sim.is_closed(self.line) {
            self.is_reset = true;
            return Err(ErrorKind::BrokenPipe.into());
        }
        sim.send(self.line, bytes);
        Ok(())
    }

    fn finish(&mut self) {
        self.sim.borrow_mut().finish(self.line);
    }

    fn read(&mut self, got: &mut Vec<u8>) -> Result<bool, Trouble> {
        let (mut sim, line) = (self.sim.borrow_mut(), self.line);
        let end = sim.now.mono_ms + self.patience.as_millis() as u64;
        sim.pass_until(end, |sim| {
            !sim.lines[line].received.is_empty() || sim.lines[line].has_ended()
        });
        let line = &mut sim.lines[line];
        if !line.received.is_empty() {
            got.append(&mut line.received);
            return Ok(true);
        }
        // A kernel resets a connection that is closed over bytes that nobody read.
        if self.is_reset || (line.is_closed && line.unread() > 0) {
            return Err(Trouble::Reset(ErrorKind::ConnectionReset.into()));
        }
        if line.has_ended() { Ok(false) } else { Err(Trouble::Silence) }
    }

    fn is_readable(&mut self) -> bool {
        let mut sim = self.sim.borrow_mut();
        sim.settle();
        let line = &sim.lines[self.line];
        !line.received.is_empty() || line.has_ended()
    }

    fn unix_seconds(&self) -> u64 {
        self.sim.borrow().now.unix_ms / 1000
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Not where a check of the world has failed in the middle of a borrow.
        if let Ok(mut sim) = self.sim.try_borrow_mut() {
            sim.close(self.line);
        }
    }
}
