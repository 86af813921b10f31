//! What a server says of itself to other threads: the loop leaves its numbers here at the end of a turn
//! if somebody has asked or a second has passed, so that nobody who looks waits for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cursor::Cursor;
use crate::engine::{Engine, LoopStats};
use crate::hub::{History, HistoryStats};
use crate::time::Now;

/// A loop that turns leaves its numbers this often, asked or not: they cost a look at each connection.
const EVERY_MS: u64 = 1_000;

/// What a server holds and has counted; see [`Hub::stats`](super::Hub::stats).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerStats {
    /// How long ago the loops left their part of it.
    pub age: Duration,
    /// Since the server was bound.
    pub uptime: Duration,
    /// The newest position in the order.
    pub cursor: Cursor,
    /// Channels, messages, bytes, publications, memory: now.
    pub history: HistoryStats,
    /// Connections, subscriptions and counters, of all loops.
    pub loops: LoopStats,
}

/// Where a loop leaves its numbers. The lock is the standard library's, also in the model of threads:
/// whether a second has passed is nothing that it could try in every order.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Left>);

#[derive(Debug, Default)]
struct Left {
    /// When (monotonic ms).
    at_ms: u64,
    stats: LoopStats,
    /// New ones have been asked for.
    is_asked: bool,
}

impl Board {
    /// Leaves a loop's numbers; when that was.
    pub(super) fn leave(&self, engine: &Engine, now: Now) -> u64 {
        let stats = engine.loop_stats();
        *self.lock() = Left { at_ms: now.mono_ms, stats, is_asked: false };
        now.mono_ms
    }

    /// What was left last, with the order's numbers as they are; whether new ones are to be asked for.
    pub(super) fn read(&self, history: &History, now: Now) -> (ServerStats, bool) {
        let (at_ms, loops, was_asked) = {
            let mut left = self.lock();
            let was_asked = std::mem::replace(&mut left.is_asked, true);
            (left.at_ms, left.stats.clone(), was_asked)
        };
        let history_stats = history.stats();
        let stats = ServerStats {
            age: Duration::from_millis(now.mono_ms.saturating_sub(at_ms)),
            uptime: Duration::from_millis(now.mono_ms),
            cursor: history.cursor(history_stats.seq),
            history: history_stats,
            loops,
        };
        (stats, !was_asked)
    }

    /// Nobody could be asked.
    pub(super) fn unask(&self) {
        self.lock().is_asked = false;
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is time to leave them again.
pub(super) fn is_due(left_ms: u64, now: Now) -> bool {
    now.mono_ms >= left_ms.saturating_add(EVERY_MS)
}
