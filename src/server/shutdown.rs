//! The orderly end of a server: a delay in which only `/ready` says so, the drain, and the cut.

use std::time::Duration;

use super::Server;
use super::mail::Order;
use crate::time::Now;

/// How far an orderly end has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shutdown {
    /// `/ready` says so, and nothing else: those who balance load are to notice first.
    Noticed {
        until_ms: u64,
        grace: Duration,
    },
    /// Connections are told one by one; what is left at the end is cut.
    Draining {
        until_ms: u64,
    },
    Ended,
}

impl Server {
    /// Begins an orderly end, as [`Hub::shutdown`](super::Hub::shutdown) does: turn on until
    /// [`Turned::Ended`](super::Turned::Ended).
    pub fn shutdown(&mut self, grace: Duration) {
        let now = self.shared.clock.now();
        self.begin_shutdown(grace, now);
    }

    /// Whether an orderly end has begun, be it that only `/ready` says so yet.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }

    pub(super) fn begin_shutdown(&mut self, grace: Duration, now: Now) {
        match self.shutdown {
            None if !self.drain_delay.is_zero() => {
                let ms = millis(self.drain_delay);
                log::info!("shutting down: for {ms} ms only /ready says so");
                self.main.engine.handle_drain_notice(now);
                self.others.order(Order::Notice, &self.shared);
                let until_ms = after(now, self.drain_delay);
                self.shutdown = Some(Shutdown::Noticed { until_ms, grace });
            }
            None => self.begin_drain(grace, now),
            // Whoever asks again is in a hurry.
            Some(Shutdown::Noticed { grace: first, .. }) => self.begin_drain(first.min(grace), now),
            Some(Shutdown::Draining { until_ms }) if after(now, grace) < until_ms => {
                self.drain_by(after(now, grace), grace, now);
            }
            Some(Shutdown::Draining { .. } | Shutdown::Ended) => {}
        }
    }

    fn begin_drain(&mut self, grace: Duration, now: Now) {
        // Who comes from now on waits for the next process where there is one, and else is told here:
        // loops that have nobody left are gone.
        self.main.io.leave_inherited();
        let elsewhere = self.main.io.handing.take().map_or(0, |handing| handing.elsewhere());
        let spread_ms = millis(self.drain_by(after(now, grace), grace, now));
        let (count, grace_ms) = (self.main.engine.len() + elsewhere, millis(grace));
        log::info!("draining: {count} connections over {spread_ms} ms, at most {grace_ms} ms");
    }

    /// Has all loops say goodbye; over how long this one does.
    fn drain_by(&mut self, until_ms: u64, grace: Duration, now: Now) -> Duration {
        self.shutdown = Some(Shutdown::Draining { until_ms });
        self.others.order(Order::Drain { grace, until_ms }, &self.shared);
        self.main.engine.handle_drain_over(grace, now)
    }

    /// Ends the delay when its time has come.
    pub(super) fn advance_shutdown(&mut self, now: Now) {
        if let Some(Shutdown::Noticed { until_ms, grace }) = self.shutdown {
            if until_ms <= now.mono_ms {
                self.begin_drain(grace, now);
            }
        }
    }

    /// Whether all is over: nobody is left, or the grace is; and the other loops have ended.
    pub(super) fn has_ended(&mut self, now: Now) -> bool {
        let until_ms = match self.shutdown {
            None | Some(Shutdown::Noticed { .. }) => return false,
            Some(Shutdown::Ended) => return true,
            Some(Shutdown::Draining { until_ms }) => until_ms,
        };
        let is_over = self.main.engine.is_empty() || until_ms <= now.mono_ms;
        if !is_over || !self.others.have_ended(&self.shared) {
            return false;
        }
        let left = self.main.engine.len() + self.shared.ends.left();
        log::info!("drained: {left} connections were left");
        self.shutdown = Some(Shutdown::Ended);
        true
    }

    /// When it has something to do.
    pub(super) fn shutdown_deadline(&self) -> Option<u64> {
        match self.shutdown? {
            Shutdown::Noticed { until_ms, .. } => Some(until_ms),
            // The grace is over on all loops at the same moment. The last that ends rings.
            Shutdown::Draining { until_ms } => {
                let is_over = until_ms <= self.shared.clock.now().mono_ms;
                let waits = is_over && !self.others.have_ended(&self.shared);
                (!waits).then_some(until_ms)
            }
            Shutdown::Ended => Some(0),
        }
    }
}

fn after(now: Now, wait: Duration) -> u64 {
    now.mono_ms.saturating_add(millis(wait))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
