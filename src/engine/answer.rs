//! Answers that come later: a connection waits with its input paused until another thread answers,
//! or the deadline does.
//!
//! What was asked is kept as it was received. With the answer it is looked at *again* from the
//! start, and each question that was answered before is answered from memory: so deciding has one
//! code path, whether answers come now or later. Nothing with an effect happens before the last
//! question of a request is answered.

use super::app::Route;
use super::response::{Response, Upgrade};
use crate::collections::slots::ConnId;
use crate::conn::State;
use crate::wire::http::Head;

/// An answer, now or later.
#[derive(Clone, Debug)]
pub enum Answer<T> {
    /// Here it is.
    Done(T),
    /// It comes by `Hub::answer`, or the deadline refuses.
    Later(Ticket),
}

/// Whether somebody may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// As the configuration says.
    #[default]
    Default,
    /// Yes.
    Allow,
    /// No: credentials are missing (401).
    Unauthorized,
    /// No (403).
    Forbidden,
}

/// Names one owed answer: loop (8 bits), index (24), a number that no other answer of the loop has (32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

impl Ticket {
    pub(crate) fn new(id: ConnId, number: u32) -> Self {
        Self((id.to_bits() >> 32 << 32) | u64::from(number))
    }

    /// The number, for a foreign interface; never 0.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The ticket of a number that [`to_bits`](Self::to_bits) gave.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whose connection waits.
    pub(crate) const fn index(self) -> u32 {
        ConnId::from_bits(self.0).index() as u32
    }

    /// The loop of the connection that waits.
    #[cfg(feature = "server")]
    pub(crate) fn loop_number(self) -> usize {
        usize::from(ConnId::from_bits(self.0).loop_number())
    }
}

/// What an owed answer is, in the end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// To a question of who may.
    Verdict(Verdict),
    /// To a request.
    Route(Route),
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

impl From<Route> for Outcome {
    fn from(route: Route) -> Self {
        Self::Route(route)
    }
}

impl From<Response> for Outcome {
    fn from(response: Response) -> Self {
        Self::Route(Route::Respond(response))
    }
}

impl From<Upgrade> for Outcome {
    fn from(upgrade: Upgrade) -> Self {
        Self::Route(Route::Upgrade(upgrade))
    }
}

/// What waits for an answer, as it was received.
#[derive(Debug)]
pub(crate) enum Question {
    Request { head: Vec<u8>, parsed: Head, body: Option<Vec<u8>> },
    Command(String),
    Payload { is_text: bool, bytes: Vec<u8> },
}

/// A connection's owed answer.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) ticket: Ticket,
    pub(crate) question: Question,
    /// What was answered before, in the order of asking.
    pub(crate) answered: Vec<Outcome>,
    /// The state to go back to.
    pub(crate) state: State,
    /// Nobody is asked: it waits until the connection has been told what it missed.
    pub(crate) is_for_position: bool,
}
