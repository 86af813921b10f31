//! The handle for other threads: publish, subscribe, look, answer, signal, close, shut down. Never
//! blocks on a reader or on the loop.

use std::fmt;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::board::{Board, ServerStats};
use super::loops::Ends;
use super::mail::{Command, Job, Mailbox, Whom};
use crate::code::{Code, Refusal};
use crate::config::Config;
use crate::cursor::Cursor;
use crate::engine::{ConnId, Outcome, Ticket};
use crate::hub::{History, Published, Rejected};
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
    pub(super) ends: Ends,
    pub(super) is_closed: AtomicBool,
    /// One for each subscription of the program's own, besides this.
    pub(super) seats: Arc<()>,
    pub(super) board: Board,
    pub(super) limits: HubLimits,
}

/// What a handle must know of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct HubLimits {
    pub(super) message_bytes_max: usize,
    pub(super) channels_max: usize,
    pub(super) subscriptions_max: usize,
}

impl From<&Config> for HubLimits {
    fn from(config: &Config) -> Self {
        Self {
            message_bytes_max: config.message_bytes_max,
            channels_max: config.channels_per_connection_max,
            subscriptions_max: config.local_subscriptions_max,
        }
    }
}

impl Shared {
    /// Nothing is asked of the loops any more, and what was is let go of: sockets on their way, and
    /// senders of subscriptions that never began, are not to live as long as the last handle.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.boxes.iter().for_each(Mailbox::close);
    }

    fn goes_on(&self) -> bool {
        !self.is_closed.load(Ordering::SeqCst)
    }
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

impl From<Box<Rejected>> for PublishError {
    fn from(rejected: Box<Rejected>) -> Self {
        let Rejected { refusal, message } = *rejected;
        // It may have ended just now.
        let is_closed = refusal == CLOSED;
        let reason = if is_closed { PublishReason::Closed } else { PublishReason::Memory };
        Self { reason, refusal, message }
    }
}

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
    /// Which server it is of, as long as that or a handle of it lives.
    pub(super) fn number(&self) -> usize {
        Arc::as_ptr(&self.shared) as usize
    }

    /// Publishes to a channel. Never blocks on a reader; for any thread, the loop's own included.
    ///
    /// # Errors
    /// What is wrong, with the message; then nothing has been published.
    #[expect(clippy::result_large_err, reason = "what was not published is handed back")]
    pub fn publish(
        &self,
        channel: &str,
        message: impl Into<Message>,
    ) -> Result<Published, PublishError> {
        let message = self.check(channel, message.into())?;
        let published = self.shared.history.publish(channel, message, self.shared.clock.now());
        published.map_err(PublishError::from)
    }

    /// Publishes many messages under one lock and with one wake of the loop: one after the other, and
    /// nobody else's between them. What became of each, in their order; those that are refused are
    /// left out, and keep none of the others.
    ///
    /// Other publishers wait meanwhile, well under a microsecond for each message. A batch larger than
    /// [`recent_bytes`](crate::Config#structfield.recent_bytes) reaches listeners as far as history
    /// keeps it, and the rest as a gap.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let server = holdline::Server::bind("127.0.0.1:0")?;
    /// let hub = server.hub();
    /// let results = hub.publish_many([("kitchen", "21.5"), ("cellar", "14.0")]);
    /// assert!(results.iter().all(Result::is_ok));
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_many<'c, M: Into<Message>>(
        &self,
        messages: impl IntoIterator<Item = (&'c str, M)>,
    ) -> Vec<Result<Published, PublishError>> {
        let mut results = Vec::new();
        let mut good = Vec::new();
        for (channel, message) in messages {
            // A place for what is good, until it has been published.
            match self.check(channel, message.into()) {
                Ok(message) => {
                    good.push((channel, message));
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        let published = self.shared.history.publish_many(good, self.shared.clock.now());
        let mut published = published.into_iter();
        let mut next = || Some(published.next()?.map_err(PublishError::from));
        results.into_iter().filter_map(|result| result.or_else(&mut next)).collect()
    }

    /// A message that may be published.
    #[expect(clippy::result_large_err, reason = "what was not published is handed back")]
    fn check(&self, channel: &str, mut message: Message) -> Result<Message, PublishError> {
        let fail = |reason, refusal, message| Err(PublishError { reason, refusal, message });
        if self.shared.is_closed.load(Ordering::SeqCst) {
            return fail(PublishReason::Closed, CLOSED, message);
        }
        if !is_channel(channel.as_bytes()) {
            return fail(PublishReason::BadChannel, BAD_CHANNEL, message);
        }
        if let Err(refusal) = message.check(self.shared.limits.message_bytes_max) {
            let reason = match refusal.code {
                Code::TooLarge => PublishReason::TooLarge,
                _ => PublishReason::BadMessage,
            };
            return fail(reason, refusal, message);
        }
        Ok(message)
    }

    /// The newest position in the order, now: what a client that begins here and now comes back with.
    #[must_use]
    pub fn position(&self) -> Cursor {
        self.shared.history.cursor(self.shared.history.head())
    }

    /// What the server holds and has counted. Never waits for the loop: the order's numbers are exact,
    /// those of connections are as old as [`ServerStats::age`] says. Asking has the loop leave new ones
    /// at the end of its next turn, and one that turns does so each second; so who asks every now and
    /// then sees what was when they asked before, or later. It looks at each channel and connection:
    /// not for each request.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        let Shared { board, history, clock, .. } = &*self.shared;
        let (stats, asks) = board.read(history, clock.now());
        if asks && self.send(Command::Report).is_err() {
            board.unask();
        }
        stats
    }

    /// Ends a connection in order: a WebSocket, also one of the built-in routes, by a Close with this
    /// code and reason (at most 123 bytes; a code that may not be sent counts as 1011), an event
    /// stream, a poll or a request without either. An id that is gone is ignored.
    ///
    /// There is no `send` beside it: whether a message has room would be known on the loop only, and
    /// until then its bytes would wait outside every limit. Publish to a channel that
    /// [`App::open`](crate::App::open) subscribed the connection to, or
    /// [`signal`](Self::signal) the application.
    ///
    /// # Errors
    /// If the server has ended or is not being turned.
    pub fn close(&self, id: ConnId, code: u16, reason: &str) -> Result<(), HubError> {
        let reason = Box::<str>::from(reason);
        let close = Job::new(move |engine, now| _ = engine.handle_close(id, code, &reason, now));
        self.send(Command::Do(Whom::One(id.loop_number().into()), close))
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

    pub(super) fn send(&self, command: Command) -> Result<(), HubError> {
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
        let Some((first, others)) = whom.split_first() else { return Ok(()) };
        others.iter().for_each(|one| _ = command.copy().map(|copy| one.send(copy)));
        let is_taken = first.send(command);
        // Where another loop has ended its connections have, and nobody is left to whom it matters.
        if is_taken || self.shared.goes_on() { Ok(()) } else { Err(HubError::Closed) }
    }
}
