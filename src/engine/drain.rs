//! Orderly shutdown: whoever balances load is told first, then each connection, in random order over
//! the grace, so that a crowd does not come back in one moment.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::Engine;
use super::core::Core;
use super::slot::Flags;
use crate::collections::slots::ConnId;
use crate::conn::State;
use crate::time::{Now, Stamp};

/// Few connections are no crowd: the farewells take no longer than this for each.
const APART_MS: u64 = 100;
/// Nobody is told to come back later than this.
const RETRY_MAX_MS: u64 = 60_000;

/// What an orderly end has yet to do.
#[derive(Debug, Default)]
pub(crate) struct Farewells {
    /// `/ready` says no, before anything else does.
    pub(crate) is_noticed: bool,
    /// Clients come back within this.
    retry_max_ms: u64,
    /// Moments of the farewells to come, the next one on top: 16 bytes for each connection that was
    /// there when the drain began. A connection that has gone meanwhile is not found.
    due: BinaryHeap<Reverse<(u64, ConnId)>>,
    /// The moment of the last of them.
    end_ms: u64,
}

impl Farewells {
    pub(crate) fn bytes(&self) -> usize {
        self.due.capacity() * size_of::<(u64, ConnId)>()
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    /// How long the rest of them takes.
    fn rest_ms(&self, now_ms: u64) -> u64 {
        if self.due.is_empty() { 0 } else { self.end_ms.saturating_sub(now_ms) }
    }

    fn pop_due(&mut self, now_ms: u64) -> Option<ConnId> {
        if self.next_deadline()? > now_ms {
            return None;
        }
        self.due.pop().map(|Reverse((_, id))| id)
    }
}

impl Engine {
    /// From now on `/ready` says that the server will go. Everything else goes on.
    pub fn handle_drain_notice(&mut self, now: Now) {
        self.core.now = now;
        self.core.farewells.is_noticed = true;
    }

    /// Begins to shut down, and tells everyone at once: listeners to come back elsewhere, polls by
    /// their answer; idle connections end. What is being answered still is. Ends a drain that takes
    /// its time; calling it again changes nothing.
    pub fn handle_drain(&mut self, now: Now) {
        self.handle_drain_over(Duration::ZERO, now);
    }

    /// Begins to shut down, and tells each connection at a random moment of the first 80 % of `grace`,
    /// sooner where there are few. Until then it is served, but nobody new may listen. Calling it again
    /// with less time hurries those who are left. Returns over how long the farewells are spread.
    pub fn handle_drain_over(&mut self, grace: Duration, now: Now) -> Duration {
        self.core.now = now;
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        if !self.core.draining {
            self.core.leave_presence();
        }
        let ids: Vec<ConnId> = if std::mem::replace(&mut self.core.draining, true) {
            let farewells = &mut self.core.farewells;
            let planned_ms = farewells.rest_ms(now.mono_ms);
            if (1..=spread_ms(grace_ms, farewells.due.len())).contains(&planned_ms) {
                return Duration::from_millis(planned_ms);
            }
            std::mem::take(&mut farewells.due).into_iter().map(|Reverse((_, id))| id).collect()
        } else {
            let retry_ms = self.core.config.retry_max.as_millis() as u64;
            self.core.farewells.retry_max_ms = grace_ms.max(retry_ms).clamp(2_000, RETRY_MAX_MS);
            let slots = &self.core.slots;
            slots.iter().filter_map(|(index, _)| slots.id(index)).collect()
        };
        let spread_ms = spread_ms(grace_ms, ids.len());
        self.core.plan_farewells(ids, spread_ms);
        self.core.say_farewells(usize::MAX);
        Duration::from_millis(spread_ms)
    }

    /// Ends a connection in order, whatever it is: a WebSocket by a Close with this code and reason, an
    /// event stream and a held poll as when the server goes, anything else when what waits for it has
    /// left. Whether it was there.
    pub fn handle_close(&mut self, id: ConnId, code: u16, reason: &str, now: Now) -> bool {
        self.core.now = now;
        let Some(index) = self.core.slots.find(id) else { return false };
        if !self.core.app_close(id, code, reason) {
            self.core.take_in_now();
            self.core.end_now(index);
            self.core.weigh(index);
        }
        true
    }

    /// Whether a drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.core.draining
    }
}

/// Over how long so many farewells are spread.
fn spread_ms(grace_ms: u64, connections: usize) -> u64 {
    (grace_ms / 5 * 4).min(connections as u64 * APART_MS)
}

impl Core {
    /// Draws a moment for each of them.
    fn plan_farewells(&mut self, ids: Vec<ConnId>, spread_ms: u64) {
        let (now, rng) = (self.now.mono_ms, &mut self.rng);
        let due = ids.into_iter().map(|id| Reverse((now + rng.u64(..=spread_ms), id)));
        self.farewells.due = due.collect();
        self.farewells.end_ms = now + spread_ms;
    }

    /// Says the farewells that are due, at most `limit` of them.
    pub(crate) fn say_farewells(&mut self, limit: usize) {
        let now = self.now.mono_ms;
        for _ in 0..limit {
            let Some(id) = self.farewells.pop_due(now) else { return };
            // What is published already goes out before the farewell.
            self.take_in_now();
            if let Some(index) = self.slots.find(id) {
                self.say_goodbye(index);
                self.weigh(index);
            }
        }
    }

    /// Ends what is no WebSocket.
    fn end_now(&mut self, index: u32) {
        match self.slots.get(index).map(|slot| &slot.state) {
            Some(State::Hold(_) | State::Sse { .. }) => self.say_goodbye(index),
            Some(State::Head(_) | State::Body(_) | State::Wait { .. }) => self.begin_closing(index),
            Some(State::Ws(_) | State::Closing(_)) | None => {}
        }
    }

    fn say_goodbye(&mut self, index: u32) {
        let now = self.now.mono_ms;
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.flags.set(Flags::LAST);
        let (is_unasked, is_ws) = (slot.requests == 0, slot.websocket().is_some());
        let has_tail = slot.has_tail();
        match &mut slot.state {
            // One that has only just come has a moment to say what it wants (`state_deadline`).
            State::Head(_) if is_unasked || has_tail => self.file(index),
            State::Head(_) => self.begin_closing(index),
            State::Hold(hold) => {
                hold.until = Stamp::at(now);
                self.poll_is_over(index);
            }
            State::Sse { dialect } => {
                let dialect = *dialect;
                self.catch_up(index);
                let retry_ms = self.retry_ms();
                self.reply(index, |out| dialect.bye(out, retry_ms));
                self.begin_closing(index);
            }
            State::Ws(_) => self.ws_bye(index),
            State::Wait { .. } if is_ws => self.ws_bye(index),
            State::Body(_) | State::Wait { .. } | State::Closing(_) => {}
        }
    }

    /// When a client should come back: while the server goes, spread over as long as it takes.
    pub(crate) fn retry_ms(&mut self) -> u32 {
        let (min, max) = if self.draining {
            (1_000, self.farewells.retry_max_ms)
        } else {
            let min = self.config.retry_min.as_millis().max(1_000) as u64;
            (min, (self.config.retry_max.as_millis() as u64).max(min))
        };
        u32::try_from(self.rng.u64(min..=max)).unwrap_or(u32::MAX)
    }
}
