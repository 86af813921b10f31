//! The handle for other threads: publish, answer, signal, shut down. Never blocks on a reader.

use std::fmt;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::loops::Ends;
use super::mail::{Command, Mailbox, Whom};
use crate::code::{Code, Refusal};
use crate::engine::{Outcome, Ticket, Totals};
use crate::hub::{History, Published};
use crate::message::{BAD_CHANNEL, CLOSED, Message, is_channel};
use crate::sync::AtomicBool;
use crate::time::Now;

/// The clock of one server: every thread of it counts from the same start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: self.0.elapsed().as_millis() as u64, unix_ms: unix.as_millis() as u64 }
    }
}

/// What the loops of a server and its handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) history: Arc<History>,
    pub(super) clock: Clock,
    /// One for each loop, by its number.
    pub(super) boxes: Box<[Mailbox]>,
    /// What the loops have counted, where there are several.
    pub(super) totals: Arc<Totals>,
    pub(super) ends: Ends,
    pub(super) is_closed: AtomicBool,
    pub(super) message_bytes_max: usize,
}

/// A handle to a server, for any thread; clones are cheap.
///
/// Publishing takes a short lock and appends; it never waits for a reader. A server that sleeps is
/// woken once for all that is published meanwhile.
#[derive(Clone)]
pub struct Hub {
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

/// A message that was not published, and why. It has no place in the order.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishError {
    /// Why.
    pub reason: PublishReason,
    /// What to do about it.
    pub refusal: Refusal,
    /// The message, to try again.
    pub message: Message,
}

/// Why a message was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishReason {
    /// The payload is larger than `message_bytes_max`.
    TooLarge,
    /// A table or the byte budget is full.
    Memory,
    /// The server has ended.
    Closed,
    /// The channel's name is none.
    BadChannel,
    /// A field of the message is not what it must be, or its JSON is none.
    BadMessage,
}

impl fmt::Debug for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublishError({:?}: {})", self.reason, self.refusal.message)
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not published: {}", self.refusal.message)
    }
}

impl std::error::Error for PublishError {}

/// A request to a loop that could not be queued: the server has ended, or does not turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HubError {
    /// The server has ended.
    Closed,
    /// Thousands of requests wait: the server is not being turned.
    Full,
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the server has ended",
            Self::Full => "the server is not being turned: its queue is full",
        })
    }
}

impl std::error::Error for HubError {}

impl Hub {
    /// Publishes to a channel. Never blocks on a reader.
    ///
    /// # Errors
    /// What is wrong, with the message; then nothing has been published.
    #[expect(clippy::result_large_err, reason = "what was not published is handed back")]
    pub fn publish(
        &self,
        channel: &str,
        message: impl Into<Message>,
    ) -> Result<Published, PublishError> {
        let mut message = message.into();
        let fail = |reason, refusal, message| Err(PublishError { reason, refusal, message });
        if self.shared.is_closed.load(Ordering::SeqCst) {
            return fail(PublishReason::Closed, CLOSED, message);
        }
        if !is_channel(channel.as_bytes()) {
            return fail(PublishReason::BadChannel, BAD_CHANNEL, message);
        }
        if let Err(refusal) = message.check(self.shared.message_bytes_max) {
            let reason = match refusal.code {
                Code::TooLarge => PublishReason::TooLarge,
                _ => PublishReason::BadMessage,
            };
            return fail(reason, refusal, message);
        }
        let published = self.shared.history.publish(channel, message, self.shared.clock.now());
        published.or_else(|rejected| {
            // It may have ended just now.
            let is_closed = rejected.refusal == CLOSED;
            let reason = if is_closed { PublishReason::Closed } else { PublishReason::Memory };
            fail(reason, rejected.refusal, rejected.message)
        })
    }

    /// Answers a ticket. One that is answered already, or whose asker is gone, is ignored.
    ///
    /// # Errors
    /// If the server has ended or is not being turned.
    pub fn answer(&self, ticket: Ticket, outcome: impl Into<Outcome>) -> Result<(), HubError> {
        self.send(Command::Answer(ticket, outcome.into()))
    }

    /// Calls [`App::signal`](crate::App::signal) on the loop's thread: with several
    /// [loops](crate::Config#structfield.loops) that of each, on its own thread.
    ///
    /// # Errors
    /// If the server has ended or is not being turned.
    pub fn signal(&self, value: u64) -> Result<(), HubError> {
        self.send(Command::Signal(value))
    }

    /// Ends the server. After [`Config::drain_delay`](crate::Config#structfield.drain_delay), in which
    /// only `/ready` says so, clients are told to come back, spread over 80 % of `grace`, sooner where
    /// they are few; what is left after `grace` is cut. Asked again, it does not wait for the delay,
    /// and the shorter grace counts: [`Duration::ZERO`] ends it at once.
    ///
    /// # Errors
    /// If the server has ended.
    pub fn shutdown(&self, grace: Duration) -> Result<(), HubError> {
        self.send(Command::Shutdown(grace))
    }

    fn send(&self, command: Command) -> Result<(), HubError> {
        if self.shared.is_closed.load(Ordering::SeqCst) {
            return Err(HubError::Closed);
        }
        let boxes = &self.shared.boxes;
        let whom = match command.whom() {
            Whom::First => &boxes[..1],
            Whom::All => boxes,
            // The ticket of another server: nobody here waits for it.
            Whom::One(number) => boxes.get(number).map_or(&[][..], slice::from_ref),
        };
        // Into all of them or into none. Threads that ask at the same time may make it one more each.
        if whom.iter().any(|one| !one.admits(&command)) {
            return Err(HubError::Full);
        }
        whom.iter().for_each(|one| one.send(command.clone()));
        Ok(())
    }
}
