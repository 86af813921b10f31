//! What reaches a loop from other threads: commands, and sockets that the first loop hands out. One
//! box each, with the bell that says so.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::socket::Socket;
use crate::engine::{Engine, Outcome, Peer, Ticket};
use crate::hub::Bell;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard};
use crate::time::Now;

/// Commands that may wait for a loop that does not turn.
const COMMANDS_MAX: usize = 4096;

/// What a [`Hub`](super::Hub) asks.
#[derive(Debug)]
pub(super) enum Command {
    Answer(Ticket, Outcome),
    Signal(u64),
    /// New numbers for the board.
    Report,
    Do(Whom, Job),
    Shutdown(Duration),
}

/// What only a program asks for that embeds the server. Handed over as a function, it is not even part
/// of a binary in which nobody asks.
pub(super) struct Job(Box<Run>);

type Run = dyn FnOnce(&mut Engine, Now) + Send;

impl Job {
    pub(super) fn new(job: impl FnOnce(&mut Engine, Now) + Send + 'static) -> Self {
        Self(Box::new(job))
    }

    pub(super) fn run(self, engine: &mut Engine, now: Now) {
        (self.0)(engine, now);
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

/// Who is to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// The loop that turns the server, and knows how its end stands.
    First,
    /// The loop of this number.
    One(usize),
    /// Every loop.
    All,
}

impl Command {
    pub(super) fn whom(&self) -> Whom {
        match self {
            Self::Answer(ticket, _) => Whom::One(ticket.loop_number()),
            Self::Signal(_) | Self::Report => Whom::All,
            Self::Shutdown(_) => Whom::First,
            Self::Do(whom, _) => *whom,
        }
    }

    /// Another one, of what is for every loop.
    pub(super) fn copy(&self) -> Option<Self> {
        match self {
            Self::Signal(value) => Some(Self::Signal(*value)),
            Self::Report => Some(Self::Report),
            // What a job is done with can be done once: none is for every loop.
            Self::Answer(..) | Self::Do(..) | Self::Shutdown(_) => None,
        }
    }

    /// Whether it gets through however much waits.
    fn is_urgent(&self) -> bool {
        matches!(self, Self::Shutdown(_))
    }
}

/// What the first loop tells the others, how the server's end stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// `/ready` says so from now on.
    Notice,
    /// Say goodbye to everybody, and end at the latest then. No more sockets come.
    Drain { grace: Duration, until_ms: u64 },
    /// End at once.
    Stop,
}

/// What has come since the loop looked last.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pub(super) commands: Vec<Command>,
    pub(super) orders: Vec<Order>,
    /// As many as connections may be.
    pub(super) sockets: Vec<(Socket, Peer)>,
}

#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) bell: Arc<Bell>,
    /// `None`: the loop has ended.
    mail: Mutex<Option<Mail>>,
    has_mail: AtomicBool,
    /// How many of the sockets that it was handed count for the limit no longer. Only the loop itself
    /// moves it on; who hands them out knows the other half.
    gone: AtomicUsize,
}

impl Mailbox {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self {
            bell,
            mail: Mutex::new(Some(Mail::default())),
            has_mail: AtomicBool::new(false),
            gone: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Mail>> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::SeqCst)
    }

    /// Whether there is room for a command. A loop that has ended has nothing against any.
    pub(super) fn admits(&self, command: &Command) -> bool {
        let waiting = self.lock().as_ref().map_or(0, |mail| mail.commands.len());
        waiting < COMMANDS_MAX || command.is_urgent()
    }

    /// Whether it is taken: not where the loop has ended.
    pub(super) fn send(&self, command: Command) -> bool {
        self.put(|mail| mail.commands.push(command)).is_some()
    }

    pub(super) fn order(&self, order: Order) {
        // Who has ended needs no telling.
        let _ = self.put(|mail| mail.orders.push(order));
    }

    /// Hands a socket over; it comes back if the loop has ended.
    pub(super) fn hand(&self, socket: Socket, peer: Peer) -> Option<(Socket, Peer)> {
        let mut kept = Some((socket, peer));
        let _ = self.put(|mail| mail.sockets.extend(kept.take()));
        kept
    }

    fn put(&self, put: impl FnOnce(&mut Mail)) -> Option<()> {
        let mut mail = self.lock();
        put(mail.as_mut()?);
        self.has_mail.store(true, Ordering::SeqCst);
        drop(mail);
        self.bell.ring();
        Some(())
    }

    /// What has come. Whatever order it has, the sockets were handed over before.
    pub(super) fn take(&self) -> Mail {
        if !self.has_mail.swap(false, Ordering::SeqCst) {
            return Mail::default();
        }
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Nothing is put in any more; what was in it is dropped, and sockets are closed by that.
    pub(super) fn close(&self) {
        let left = self.lock().take();
        drop(left);
    }

    pub(super) fn gone(&self) -> usize {
        self.gone.load(Ordering::SeqCst)
    }

    pub(super) fn set_gone(&self, gone: usize) {
        self.gone.store(gone, Ordering::SeqCst);
    }
}
