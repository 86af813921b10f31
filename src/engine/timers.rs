//! What becomes due when nothing happens: one deadline per connection, looked up when it is needed.

use std::time::Duration;

use super::Engine;
use super::app::{CloseReason, Ctx};
use super::core::Core;
use super::reply::Refused;
use super::slot::{Flags, Slot};
use crate::code::{Code, Refusal};
use crate::collections::slots::ConnId;
use crate::collections::wheel::TICK_MS;
use crate::conn::{Answering, State, Ws, WsMode};
use crate::time::Stamp;
use crate::wire::ws::{self, Opcode};

/// A peer that has been sent more than this since its last byte may simply not have read it yet.
const WRITTEN_MAX: u32 = 64 * 1024;

/// How long a connection that is one too many, or that comes while the server goes, may take to say
/// what it wants, which decides how it is told.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

impl Engine {
    /// Does what is due, at most `timers_per_turn` of it. Early or repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: crate::time::Now) {
        self.core.now = now;
        let mut due = Vec::new();
        self.core.wheel.expire(now.mono_ms, self.core.config.timers_per_turn, &mut due);
        for index in due {
            self.on_due(index);
            self.core.weigh(index);
        }
        self.core.say_farewells(self.core.config.timers_per_turn);
        self.feed_starved();
        // What these set anew is for a later turn: it lies at least a millisecond ahead.
        while let Some(entry) = self.core.app_timers.first_entry() {
            if entry.key().0 > now.mono_ms {
                break;
            }
            let key = entry.remove();
            self.call_app(|app, core| app.timer(&mut Ctx { core }, key));
        }
        self.core.local.retry(now.mono_ms);
        self.core.expire_presence();
        if self.core.next_sweep.is_some_and(|due| due <= now.mono_ms) {
            self.core.next_sweep = self.core.history.sweep(now);
        }
    }

    fn on_due(&mut self, index: u32) {
        let now = self.core.now.mono_ms;
        match self.core.deadline(index) {
            None => return,
            Some(deadline) if deadline > now => return self.core.wheel.file(index, deadline),
            Some(_) => {}
        }
        let Some(slot) = self.core.slots.get(index) else { return };
        if self.core.stall_deadline(slot).is_some_and(|deadline| deadline <= now) {
            self.core.reasons_lost(index);
            self.core.note_stall();
            return self.core.close_now(index);
        }
        match &slot.state {
            State::Head(_) => self.core.head_is_late(index),
            State::Body(_) => {
                let message = "the body came too slowly";
                self.core.time_out(index, message);
            }
            State::Wait { .. } => self.answer_is_late(index),
            State::Hold(_) => self.core.poll_is_over(index),
            State::Sse { .. } => self.core.heartbeat(index, false),
            State::Ws(_) => self.core.websocket_is_due(index),
            State::Closing(_) => self.core.close_now(index),
        }
        if let Some(deadline) = self.core.deadline(index) {
            self.core.wheel.file_no_later(index, deadline);
        }
    }
}

impl Core {
    /// When a connection needs attention if nothing happens until then.
    pub(crate) fn deadline(&self, index: u32) -> Option<u64> {
        let slot = self.slots.get(index)?;
        if slot.flags.has(Flags::CLOSED) {
            return None;
        }
        let stall = self.stall_deadline(slot);
        let own = self.state_deadline(slot);
        match (stall, own) {
            (Some(stall), Some(own)) => Some(stall.min(own)),
            (stall, own) => stall.or(own),
        }
    }

    fn state_deadline(&self, slot: &Slot) -> Option<u64> {
        let config = &self.config;
        // While something waits to be written, also between two writes of it, nothing else is due.
        let is_blocked = slot.is_stuck();
        match &slot.state {
            State::Head(_) if is_blocked => None,
            State::Head(_) if slot.flags.has(Flags::REFUSED) => {
                Some(later(slot.phase, config.head_timeout.min(REFUSED_WAIT)))
            }
            State::Head(_) if self.draining && slot.requests == 0 && !slot.has_tail() => {
                Some(later(slot.phase, config.head_timeout.min(REFUSED_WAIT)))
            }
            State::Head(_) if slot.requests == 0 || slot.has_tail() => {
                Some(later(slot.phase, config.head_timeout))
            }
            State::Head(_) => Some(later(slot.phase, config.keep_alive)),
            State::Body(body) => {
                let by_rate = body.bytes.len() as u64 * 1000 / config.body_rate_min.max(1);
                let allowed = by_rate.max(config.body_grace.as_millis() as u64);
                let allowed = allowed.min(config.body_timeout.as_millis() as u64);
                Some(body.since.ms() + allowed)
            }
            State::Wait { until } => Some(until.ms()),
            State::Hold(hold) => Some(hold.until.ms()),
            State::Sse { .. } if is_blocked => None,
            State::Sse { .. } => Some(self.silence(slot, slot.last_out)),
            State::Ws(ws) => self.websocket_deadline(slot, ws),
            State::Closing(closing) if closing.lingering => {
                Some(closing.until.ms().min(later(slot.last_in, config.linger_idle)))
            }
            // What still goes out may take its time as long as it goes.
            State::Closing(_) if is_blocked => None,
            State::Closing(closing) => Some(closing.until.ms()),
        }
    }

    fn websocket_deadline(&self, slot: &Slot, ws: &Ws) -> Option<u64> {
        if ws.close_sent {
            return Some(later(slot.phase, self.config.close_timeout));
        }
        if slot.is_stuck() {
            return None;
        }
        if let Some(pinged) = ws.pinged {
            return Some(later(pinged, self.config.pong_timeout));
        }
        let received = self.silence(slot, slot.last_in);
        Some(match ws.mode {
            WsMode::Json | WsMode::Meta => received.min(self.silence(slot, slot.last_out)),
            WsMode::Raw | WsMode::App => received,
        })
    }

    /// When a silence that began at `since` is long enough.
    fn silence(&self, slot: &Slot, since: Stamp) -> u64 {
        since.ms() + spread_ms(self.interval_ms(slot), slot.jitter)
    }

    /// The interval between heartbeats, as the client asked or as configured.
    pub(crate) fn interval_ms(&self, slot: &Slot) -> u64 {
        match (slot.heartbeat_s, &slot.state) {
            (0, State::Sse { .. }) => self.config.sse_heartbeat.as_millis() as u64,
            (0, _) => self.config.heartbeat.as_millis() as u64,
            (seconds, _) => u64::from(seconds) * 1000,
        }
    }

    /// When a peer will have neither taken nor (on a WebSocket) sent a byte for too long.
    fn stall_deadline(&self, slot: &Slot) -> Option<u64> {
        let since = || slot.progress.max(slot.last_in_if_ws());
        slot.flags.has(Flags::BLOCKED).then(|| later(since(), self.config.write_stall))
    }

    /// Says on a quiet connection that it is alive, and where it is.
    fn heartbeat(&mut self, index: u32, with_ping: bool) {
        let jitter = self.rng.u8(..);
        let nonce = self.ping_nonce(index, self.now.mono_ms as u32);
        let cursor = self.cursor(self.position(index));
        let now = self.stamp();
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.jitter = jitter;
        slot.last_out = now;
        let Some(dialect) = slot.state.dialect() else { return };
        if let (true, State::Ws(ws)) = (with_ping, &mut slot.state) {
            // It leaves in this turn, for a connection that is blocked is not pinged; if not all of it
            // does, its clock starts again when the rest has.
            ws.pinged = Some(now);
            ws.awaits_pong = true;
        }
        let is_app = matches!(&slot.state, State::Ws(ws) if ws.mode == WsMode::App);
        // What waits to be pulled is output too, and says more.
        let is_behind = slot.flags.has(Flags::BEHIND);
        self.reply(index, |out| {
            if !is_app && !is_behind {
                dialect.heartbeat(out, cursor);
            }
            if with_ping {
                ws::emit(out, Opcode::Ping, &nonce);
            }
        });
    }

    /// What a ping carries: when it was made, and a mark that nobody else can make up.
    fn ping_nonce(&self, index: u32, made_ms: u32) -> [u8; 8] {
        let id = self.slots.id(index).map_or(0, ConnId::to_bits);
        let seed = self.ping_key ^ id ^ u64::from(made_ms).rotate_left(24);
        let mark = fastrand::Rng::with_seed(seed).u32(..);
        (u64::from(made_ms) << 32 | u64::from(mark)).to_be_bytes()
    }

    /// A pong that brings back what a ping of ours carried tells the round trip.
    pub(crate) fn note_pong(&mut self, index: u32, payload: &[u8]) {
        let Some(made) = payload.first_chunk::<4>().copied().map(u32::from_be_bytes) else {
            return;
        };
        if *payload != self.ping_nonce(index, made) {
            return;
        }
        let Some(State::Ws(ws)) = self.slots.get_mut(index).map(|slot| &mut slot.state) else {
            return;
        };
        if std::mem::take(&mut ws.awaits_pong) {
            self.stats.rtt.note((self.now.mono_ms as u32).wrapping_sub(made));
        }
    }

    fn websocket_is_due(&mut self, index: u32) {
        let now = self.now.mono_ms;
        let Some(slot) = self.slots.get(index) else { return };
        let State::Ws(ws) = &slot.state else { return };
        if ws.close_sent {
            self.begin_closing(index);
            return;
        }
        if let Some(pinged) = ws.pinged {
            if later(pinged, self.config.pong_timeout) > now {
                return;
            }
            // If much is on its way, only standing still for the whole stall time ends it.
            let stalled = later(slot.progress.max(slot.last_in), self.config.write_stall);
            if ws.written <= WRITTEN_MAX || stalled <= now {
                self.ws_close(index, 4408, "no pong");
                return self.begin_closing(index);
            }
            if let Some(State::Ws(ws)) = self.slots.get_mut(index).map(|slot| &mut slot.state) {
                ws.pinged = Some(Stamp::at(now));
            }
            return;
        }
        let unheard = self.silence(slot, slot.last_in) <= now;
        self.heartbeat(index, unheard);
    }

    /// No request, or half of one, in time.
    fn head_is_late(&mut self, index: u32) {
        let Some(slot) = self.slots.get(index) else { return };
        if slot.flags.has(Flags::REFUSED) {
            let refusal = self.why_refused(index);
            return self.refuse(index, &Answering::default(), &Refused::from(refusal).closing());
        }
        if slot.has_tail() {
            return self.time_out(index, "the request head came too slowly");
        }
        self.close_now(index);
    }

    fn note_stall(&mut self) {
        self.stats.stalled += 1;
        let why = "it took nothing of what waited for it";
        self.notices.note("a connection was closed", why, self.now);
    }

    fn time_out(&mut self, index: u32, message: &'static str) {
        let refused = Refused::from(Refusal::new(Code::Timeout, message));
        let answering = self.answering_at(index);
        self.refuse(index, &answering, &refused);
    }

    pub(crate) fn reasons_lost(&mut self, index: u32) {
        if self.slots.get(index).is_some_and(|slot| slot.flags.has(Flags::OPENED)) {
            self.reasons.entry(index).or_insert(CloseReason::Lost);
        }
    }
}

impl Slot {
    /// On a WebSocket, which answers pings, what is received counts as life.
    fn last_in_if_ws(&self) -> Stamp {
        if matches!(self.state, State::Ws(_)) { self.last_in } else { Stamp::default() }
    }
}

/// A random 0.8 to 1.0 of an interval, `chance` of 255 of the way; what the wheel and stamps may be
/// late is taken off, so that no interval is longer than it is said to be.
pub(crate) fn spread_ms(interval_ms: u64, chance: u8) -> u64 {
    let least = interval_ms * 8 / 10;
    let room = (interval_ms - least).saturating_sub(TICK_MS + Stamp::UNIT_MS);
    least + room * u64::from(chance) / 255
}

fn later(since: Stamp, by: Duration) -> u64 {
    since.ms() + by.as_millis() as u64
}
