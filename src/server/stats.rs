//! What a server says of itself to other threads: each loop leaves its numbers at the end of a turn if
//! somebody has asked or a while has passed, so that nobody who looks waits for it.

use std::time::Duration;

use super::hub::Shared;
use crate::cursor::Cursor;
use crate::engine::LoopStats;
use crate::hub::HistoryStats;

/// What a server holds and has counted; see [`Hub::stats`](super::Hub::stats).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerStats {
    /// How long ago the loops left their part of it, the oldest of them.
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

impl ServerStats {
    /// What has been left last, with the order's numbers as they are.
    pub(super) fn read(shared: &Shared) -> Self {
        let now = shared.clock.now();
        let (loops, left_ms) = shared.totals.sum();
        let history = shared.history.stats();
        Self {
            age: Duration::from_millis(now.mono_ms.saturating_sub(left_ms)),
            uptime: Duration::from_millis(now.mono_ms),
            cursor: shared.history.cursor(history.seq),
            history,
            loops,
        }
    }
}
