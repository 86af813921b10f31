//! What a server says of itself to other threads: its loops leave their numbers at the end of a turn if
//! somebody has asked or a while has passed, so that nobody who looks waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cursor::Cursor;
use crate::engine::{LoopStats, Totals};
use crate::hub::{History, HistoryStats};
use crate::time::Now;

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

/// The numbers that loops have left.
#[derive(Debug)]
pub(super) struct Board {
    totals: Arc<Totals>,
    /// New ones have been asked for. The standard library's, for the reason that [`Totals`] gives.
    is_asked: AtomicBool,
}

impl Board {
    pub(super) fn new(totals: &Arc<Totals>) -> Self {
        Self { totals: Arc::clone(totals), is_asked: AtomicBool::new(false) }
    }

    /// What was left last, with the order's numbers as they are; whether new ones are to be asked for.
    pub(super) fn read(&self, history: &History, now: Now) -> (ServerStats, bool) {
        let was_asked = self.is_asked.swap(true, Ordering::SeqCst);
        let (loops, oldest_ms) = self.totals.sum();
        let history_stats = history.stats();
        let stats = ServerStats {
            age: Duration::from_millis(now.mono_ms.saturating_sub(oldest_ms)),
            uptime: Duration::from_millis(now.mono_ms),
            cursor: history.cursor(history_stats.seq),
            history: history_stats,
            loops,
        };
        (stats, !was_asked)
    }

    /// A loop has left new ones, or nobody could be asked.
    pub(super) fn unask(&self) {
        self.is_asked.store(false, Ordering::SeqCst);
    }
}
