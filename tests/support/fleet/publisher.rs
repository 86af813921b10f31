//! Publishers, each a thread of its own: numbered messages at a steady rate, each sent again under
//! the same key until it is answered, so that a connection that breaks neither loses nor doubles
//! it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ledger::{Sent, Waits};
use super::{answer, request};

/// How long the first answer to a message may take before the connection counts as dead. Each
/// attempt is given twice as long as the one before: what is only slow comes through.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Load {
    pub channel: String,
    pub every: Duration,
    /// Payload of a message, at least.
    pub bytes: usize,
    /// Stops by itself after so many.
    pub count: u64,
}

impl Load {
    pub fn steady(channel: &str, every_ms: u64) -> Self {
        let every = Duration::from_millis(every_ms);
        Self { channel: channel.to_owned(), every, bytes: 100, count: u64::MAX }
    }
}

pub struct Publisher {
    pub load: Load,
    stops: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    may: Arc<AtomicU64>,
    thread: JoinHandle<Waits>,
}

impl Publisher {
    pub fn start(target: SocketAddr, load: Load, origin: Instant) -> Self {
        let (stops, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let may = Arc::new(AtomicU64::new(u64::MAX));
        let work = Work {
            may: Arc::clone(&may),
            target,
            load: load.clone(),
            origin,
            stops: Arc::clone(&stops),
            sent: Arc::clone(&sent),
            line: None,
        };
        let thread = std::thread::Builder::new().name(format!("publisher of {}", load.channel));
        let thread = thread.spawn(|| work.run()).expect("a thread");
        Self { load, stops, sent, may, thread }
    }

    /// Messages that were answered so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// It waits before it publishes more than so many.
    pub fn allow(&self, number: u64) {
        self.may.store(number, Ordering::Relaxed);
    }

    pub fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// The number of messages, and how long their answers took.
    pub fn stop(self) -> (u64, Waits) {
        self.stops.store(true, Ordering::Relaxed);
        let waits = self.thread.join().expect("the publisher has not failed");
        (self.sent.load(Ordering::Relaxed), waits)
    }
}

struct Work {
    target: SocketAddr,
    load: Load,
    origin: Instant,
    stops: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    may: Arc<AtomicU64>,
    line: Option<(TcpStream, Vec<u8>)>,
}

impl Work {
    fn run(mut self) -> Waits {
        let mut waits = Waits::default();
        let mut due = Instant::now();
        for number in 1..=self.load.count {
            if self.stops.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            while number > self.may.load(Ordering::Relaxed) && !self.stops.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Whoever has fallen behind goes on from here, and does not flood.
            due = due.max(Instant::now() - self.load.every) + self.load.every;
            let began = Instant::now();
            self.publish(number);
            waits.note(began.elapsed().as_micros() as u64);
            self.sent.store(number, Ordering::Relaxed);
        }
        waits
    }

    fn publish(&mut self, number: u64) {
        let (channel, text) =
            (&self.load.channel, Sent::text(number, self.origin, self.load.bytes));
        let key = format!("Idempotency-Key: {channel}-{number}\r\n");
        let bytes = request("POST", &format!("/channels/{channel}"), &key, text.as_bytes());
        let (deadline, mut patience) = (Instant::now() + 4 * super::PATIENCE, PATIENCE);
        loop {
            let began = Instant::now();
            if self.attempt(&bytes, patience) {
                return;
            }
            assert!(Instant::now() < deadline, "no answer to {number} on {}", self.load.channel);
            if began.elapsed() >= patience {
                patience *= 2;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it was answered with a yes.
    fn attempt(&mut self, bytes: &[u8], patience: Duration) -> bool {
        let Some((mut stream, mut ahead)) = self.line.take().or_else(|| self.connect()) else {
            return false;
        };
        let is_set = stream.set_read_timeout(Some(patience)).is_ok();
        if !is_set || stream.write_all(bytes).is_err() {
            return false;
        }
        let Ok(answer) = answer(&mut stream, &mut ahead) else { return false };
        if !answer.is_closing() {
            self.line = Some((stream, ahead));
        }
        matches!(answer.status, 201 | 202)
    }

    fn connect(&self) -> Option<(TcpStream, Vec<u8>)> {
        let stream = TcpStream::connect(self.target).ok()?;
        stream.set_nodelay(true).ok()?;
        Some((stream, Vec::new()))
    }
}
