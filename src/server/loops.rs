//! The loops of a server. The first is turned by whoever has the server; the others have threads of
//! their own, which begin with its first turn, get their connections from it, and end with it.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mio::Events;

use super::hub::Shared;
use super::mail::{Command, Mailbox, Order};
use super::sleep::{self, JoinHandle};
use super::socket::Socket;
use super::turn::Io;
use crate::engine::{Engine, Peer};
use crate::sync::{AtomicBool, AtomicUsize, Mutex};
use crate::time::{Now, earliest};

/// A loop that is the only one leaves its numbers this often, asked or not, as long as it turns: they
/// cost a look at each connection.
const ALONE_MS: u64 = 1_000;

/// One loop: an engine, its sockets, and its place among the others.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) engine: Engine,
    pub(super) io: Io,
    events: Events,
    pub(super) shared: Arc<Shared>,
    /// Sockets that it was handed.
    adopted: usize,
    /// When it left its numbers last (monotonic ms); `None`: somebody asks for new ones.
    left_ms: Option<u64>,
    /// When it is to leave them, if nothing else wakes it before.
    report_ms: Option<u64>,
}

impl Loop {
    pub(super) fn new(engine: Engine, io: Io, shared: Arc<Shared>) -> Self {
        let events = Events::with_capacity(io.events_per_turn);
        Self { engine, io, events, shared, adopted: 0, left_ms: None, report_ms: None }
    }

    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.shared.boxes[self.engine.loop_number()]
    }

    /// Sleeps at most `wait`, and notes what is ready; whether signals are.
    #[inline(never)] // all of a turn is called from two places, and is large
    pub(super) fn wait(&mut self, wait: Option<Duration>) -> io::Result<(Now, bool)> {
        self.io.wait(&mut self.events, wait)?;
        self.mailbox().bell.rise();
        let now = self.shared.clock.now();
        let has_signals = self.io.note(&self.events, &mut self.engine, now);
        Ok((now, has_signals))
    }

    /// Does what one loop can do by itself; the rest comes back.
    #[inline(never)]
    pub(super) fn obey(&mut self, command: Command, now: Now) -> Option<Command> {
        match command {
            Command::Answer(ticket, outcome) => self.engine.handle_answer(ticket, outcome, now),
            Command::Signal(value) => self.engine.handle_signal(value, now),
            Command::Do(_, job) => job.run(&mut self.engine, now),
            Command::Report => self.left_ms = None,
            other @ Command::Shutdown(_) => return Some(other),
        }
        None
    }

    /// The rest of a turn, once everything that was asked has been done.
    #[inline(never)]
    pub(super) fn turn(&mut self, now: Now) {
        self.io.accept(&mut self.engine, now);
        self.engine.handle_kept(now);
        self.io.read(&mut self.engine, now);
        self.engine.handle_timeout(now);
        self.io.write(&mut self.engine, now);
        self.report(now);
        // From here on a publication makes the descriptor readable, or shows in `next_timeout`.
        self.mailbox().bell.doze();
    }

    /// Leaves this loop's numbers where others look, when that is due. What may have changed in a turn
    /// is left a little later at the latest, where other loops speak for it.
    fn report(&mut self, now: Now) {
        let is_alone = self.shared.boxes.len() == 1;
        let every_ms = if is_alone { ALONE_MS } else { sleep::REPORT_MS };
        match self.left_ms.map(|left| left.saturating_add(every_ms)) {
            Some(next_ms) if next_ms > now.mono_ms => {
                self.report_ms = (!is_alone).then_some(next_ms);
            }
            Some(_) | None => {
                (self.left_ms, self.report_ms) = (Some(now.mono_ms), None);
                self.engine.leave_stats(now);
                self.shared.board.unask();
            }
        }
    }

    /// How long it may sleep, if something of others is due at `end`.
    #[inline(never)]
    pub(super) fn next_timeout(&self, end: Option<u64>) -> Option<Duration> {
        if self.mailbox().has_mail() || self.io.has_work() || self.engine.has_work() {
            return Some(Duration::ZERO);
        }
        let due = [self.engine.next_deadline(), self.io.next_deadline(), self.report_ms, end];
        let due = earliest(due)?;
        let now = self.shared.clock.now().mono_ms;
        Some(Duration::from_millis(due.saturating_sub(now)))
    }

    /// Takes sockets over from the first loop.
    fn adopt(&mut self, sockets: Vec<(Socket, Peer)>, now: Now) {
        self.adopted += sockets.len();
        for (socket, peer) in sockets {
            self.io.add(socket, peer, &mut self.engine, now);
        }
    }

    /// All of a loop that is not the first.
    fn run(mut self) -> io::Result<()> {
        let mut until_ms = None;
        loop {
            let (now, _) = self.wait(self.next_timeout(until_ms))?;
            let mail = self.mailbox().take();
            for order in mail.orders {
                match order {
                    Order::Notice => self.engine.handle_drain_notice(now),
                    Order::Drain { grace, until_ms: end } => {
                        until_ms = Some(end);
                        self.engine.handle_drain_over(grace, now);
                    }
                    Order::Stop => return Ok(()),
                }
            }
            self.adopt(mail.sockets, now);
            for command in mail.commands {
                self.obey(command, now);
            }
            self.turn(now);
            self.mailbox().set_gone(self.adopted - self.engine.admitted());
            if self.engine.has_failed() {
                return Err(super::panicked());
            }
            if until_ms.is_some_and(|end| self.engine.is_empty() || end <= now.mono_ms) {
                self.shared.ends.left.fetch_add(self.engine.len(), Ordering::SeqCst);
                self.engine.leave_last_stats();
                return Ok(());
            }
        }
    }
}

/// Every WebSocket that the application was told of by `open` ends with `closed`, and whoever looks at
/// the server's numbers sees no connections any more.
impl Drop for Loop {
    fn drop(&mut self) {
        self.engine.handle_end(self.shared.clock.now());
        self.engine.leave_last_stats();
    }
}

/// How the other loops have ended, for the first.
#[derive(Debug)]
pub(super) struct Ends {
    /// So many of them.
    count: AtomicUsize,
    /// With connections that were cut.
    left: AtomicUsize,
    has_failed: AtomicBool,
    error: Mutex<Option<io::Error>>,
}

impl Ends {
    pub(super) fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            has_failed: AtomicBool::new(false),
            error: Mutex::new(None),
        }
    }

    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    fn fail(&self, error: io::Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.has_failed.store(true, Ordering::SeqCst);
    }

    /// Why the server must end, if another loop has not ended in order.
    fn error(&self) -> Option<io::Error> {
        if !self.has_failed.load(Ordering::SeqCst) {
            return None;
        }
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        Some(error.unwrap_or_else(|| io::Error::other("a loop of this server has failed")))
    }
}

/// The loops besides the first.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Before the first turn: threads would not survive a fork, nor ask again who they are.
    waiting: Vec<Loop>,
    threads: Vec<JoinHandle<()>>,
    count: usize,
}

impl Others {
    pub(super) fn new(loops: Vec<Loop>) -> Self {
        Self { count: loops.len(), waiting: loops, threads: Vec::new() }
    }

    /// Begins their threads, once.
    pub(super) fn start(&mut self) -> io::Result<()> {
        while let Some(one) = self.waiting.pop() {
            let number = one.engine.loop_number();
            let leaving = Leaving { shared: Arc::clone(&one.shared), number };
            self.threads.push(sleep::thread(number).spawn(move || {
                let leaving = leaving;
                sleep::serve(Arc::as_ptr(&leaving.shared) as usize);
                if let Err(error) = one.run() {
                    leaving.shared.ends.fail(error);
                }
            })?);
        }
        Ok(())
    }

    /// Whether all have ended. Whoever ends rings the first loop's bell.
    pub(super) fn have_ended(&self, shared: &Shared) -> bool {
        shared.ends.count.load(Ordering::SeqCst) >= self.count
    }

    /// Why the server must end, if one of them could not go on.
    pub(super) fn error(&self, shared: &Shared) -> Option<io::Error> {
        if self.count == 0 { None } else { shared.ends.error() }
    }

    pub(super) fn order(&self, order: Order, shared: &Shared) {
        shared.boxes.iter().skip(1).for_each(|one| one.order(order));
    }

    /// Waits until their threads are gone, which have been told, or have ended.
    pub(super) fn join(&mut self) {
        self.waiting.clear();
        for thread in self.threads.drain(..) {
            // What it panicked with has been noted.
            let _ = thread.join();
        }
    }
}

/// However a loop ends, and after everything that it had: the first gets to know.
struct Leaving {
    shared: Arc<Shared>,
    number: usize,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.ends.fail(io::Error::other("a loop of this server panicked"));
        }
        self.shared.boxes[self.number].close();
        self.shared.ends.count.fetch_add(1, Ordering::SeqCst);
        self.shared.boxes[0].bell.ring();
    }
}

/// How the first loop hands connections out: each to the loop that has the fewest.
#[derive(Debug)]
pub(super) struct Handing {
    shared: Arc<Shared>,
    /// Sockets that each loop was handed.
    handed: Box<[usize]>,
}

impl Handing {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let handed = vec![0; shared.boxes.len()].into_boxed_slice();
        Self { shared, handed }
    }

    /// What another loop has, and what is on its way there.
    fn connections(&self, number: usize) -> usize {
        self.handed[number].wrapping_sub(self.shared.boxes[number].gone())
    }

    pub(super) fn elsewhere(&self) -> usize {
        (1..self.handed.len()).map(|number| self.connections(number)).sum()
    }

    /// Hands a socket to the loop with the fewest connections. It comes back where that is this one,
    /// which has `here`; as many, and the others go first: they do nothing else.
    pub(super) fn hand(
        &mut self,
        socket: Socket,
        peer: Peer,
        here: usize,
    ) -> Option<(Socket, Peer)> {
        let others = (1..self.handed.len()).map(|number| (self.connections(number), number));
        let Some((_, number)) = others.min().filter(|(count, _)| *count <= here) else {
            return Some((socket, peer));
        };
        let returned = self.shared.boxes[number].hand(socket, peer);
        if returned.is_none() {
            self.handed[number] += 1;
        }
        returned
    }
}
