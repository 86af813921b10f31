//! Everything of an engine but the application: tables, lists, and the small moves that all parts
//! share (reply, mark, close). Callbacks get at it through [`Ctx`](super::Ctx).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::answer::Ticket;
use super::app::{CloseReason, TimerId};
use super::common::Common;
use super::deliver::Delivery;
use super::drain::Farewells;
use super::local::Local;
use super::memory::Held;
use super::notices::Notices;
use super::policy::Policy;
use super::presence::{Parting, Presence};
use super::slot::{Flags, Slot, Sub};
use super::stats::{Connections, LoopStats, Stats};
use crate::code::Refusal;
use crate::collections::slots::{ConnId, Slots};
use crate::collections::wheel::Wheel;
use crate::config::Config;
use crate::conn::{Closing, ConnLimits, State};
use crate::cursor::Cursor;
use crate::hub::{Evicted, History, Published, Roster};
use crate::message::{BAD_CHANNEL, Message, is_channel};
use crate::time::{Now, Stamp};
use crate::wire::http::HeadScan;

/// Room for what publishing lets go of: mostly it is one.
const EVICTED_KEPT: usize = 16;

pub(crate) struct Core {
    pub(crate) config: Arc<Config>,
    pub(crate) limits: ConnLimits,
    pub(crate) policy: Policy,
    pub(crate) history: Arc<History>,
    pub(crate) slots: Slots<Slot>,
    pub(crate) roster: Roster,
    /// Who listens without a connection.
    pub(crate) local: Local,
    pub(crate) wheel: Wheel,
    pub(crate) presence: Presence,
    pub(crate) rng: fastrand::Rng,
    /// Marks our pings, so that nobody can answer one that was not sent.
    pub(crate) ping_key: u64,
    /// How far this loop has taken the order in.
    /// Invariant: nothing on it reads, names or promises a position beyond.
    pub(crate) horizon: u64,
    pub(crate) seen_version: Option<usize>,
    pub(crate) seen_news: Option<usize>,
    /// Payload bytes published here that have not been taken in.
    pub(crate) unseen_bytes: usize,
    /// Own bytes of this turn, one contiguous range per connection.
    pub(crate) arena: Vec<u8>,
    /// The body of an answer while it is made.
    pub(crate) body: Vec<u8>,
    /// What publishing lets go of, for a moment.
    evicted: Evicted,
    /// Slots with own bytes to write, or whose end has come.
    pub(crate) replies: VecDeque<u32>,
    /// Slots that may be owed publications.
    pub(crate) dirty: VecDeque<u32>,
    /// Slots whose kept bytes are to be offered again.
    pub(crate) again: VecDeque<u32>,
    /// Slots to be freed.
    pub(crate) closes: VecDeque<u32>,
    /// Slots whose sockets may be read again.
    pub(crate) resumed: VecDeque<u32>,
    /// Slots whose application is to be told that its bytes have drained.
    pub(crate) writable: Vec<u32>,
    pub(crate) delivery: Delivery,
    pub(crate) held: Held,
    pub(crate) now: Now,
    pub(crate) started: Now,
    pub(crate) stats: Stats,
    /// When history wants to be looked through for what is only old.
    pub(crate) next_sweep: Option<u64>,
    pub(crate) draining: bool,
    pub(crate) farewells: Farewells,
    /// What it shares with the other loops of its server.
    /// Invariant: what is counted there of connections is what the slots of all loops say.
    pub(crate) common: Common,
    pub(crate) connections_max: usize,
    /// Connections of other loops, where this one accepts for them.
    pub(crate) elsewhere: usize,
    pub(crate) refused: usize,
    /// Connections that wait for their peers to have read everything.
    pub(crate) lingering: usize,
    pub(crate) notices: Notices,
    /// The connection that the application is being told is gone, and the number set for it.
    pub(crate) leaving: Option<(ConnId, u64)>,
    /// Why WebSockets of the application's own are about to be gone.
    pub(crate) reasons: HashMap<u32, CloseReason>,
    /// By moment and order of setting.
    pub(crate) app_timers: BTreeMap<(u64, u64), u64>,
    timers_set: u64,
    tickets: u32,
    date: [u8; 29],
    /// The second that `date` says, once it says any.
    date_s: Option<u64>,
}

/// What an engine starts with.
pub(crate) struct Start {
    pub(crate) common: Common,
    pub(crate) policy: Policy,
    pub(crate) loop_number: u8,
    pub(crate) seed: u64,
    pub(crate) now: Now,
}

impl Core {
    pub(crate) fn new(start: Start) -> Self {
        let Start { common, policy, loop_number, seed, now } = start;
        let loop_number = loop_number.min((common.loops - 1) as u8);
        let (config, history) = (Arc::clone(&common.config), Arc::clone(&common.history));
        let connections_max = match config.connections_max {
            0 => 1024 - 64,
            max => max as usize,
        };
        let held = Held::new(&config, history.usable_bytes(), common.loops);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut core = Self {
            limits: ConnLimits::from(&*config),
            policy,
            slots: Slots::new(loop_number),
            roster: Roster::new(),
            local: Local::default(),
            wheel: Wheel::new(now.mono_ms),
            presence: Presence::new(loop_number, rng.fork()),
            ping_key: rng.u64(..),
            rng,
            horizon: history.head(),
            seen_version: None,
            seen_news: None,
            unseen_bytes: 0,
            arena: Vec::new(),
            body: Vec::new(),
            evicted: Evicted::new(),
            replies: VecDeque::new(),
            dirty: VecDeque::new(),
            again: VecDeque::new(),
            closes: VecDeque::new(),
            resumed: VecDeque::new(),
            writable: Vec::new(),
            delivery: Delivery::new(history.usable_bytes() / common.loops),
            held,
            now,
            started: now,
            stats: Stats::default(),
            next_sweep: None,
            draining: false,
            farewells: Farewells::default(),
            common,
            elsewhere: 0,
            connections_max: connections_max.min(ConnId::INDEX_MAX - 64),
            refused: 0,
            lingering: 0,
            notices: Notices::default(),
            leaving: None,
            reasons: HashMap::new(),
            app_timers: BTreeMap::new(),
            timers_set: 0,
            tickets: 0,
            date: [0; 29],
            date_s: None,
            config,
            history,
        };
        core.attach_presence();
        core.tell_held();
        core
    }

    pub(crate) fn loop_number(&self) -> usize {
        usize::from(self.slots.loop_number())
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp::from(self.now)
    }

    pub(crate) fn cursor(&self, seq: u64) -> Cursor {
        debug_assert!(seq <= self.horizon, "position {seq} beyond the horizon {}", self.horizon);
        self.history.cursor(seq)
    }

    /// The `Date` header's value, formatted once a second.
    pub(crate) fn date(&mut self) -> [u8; 29] {
        let second = self.now.unix_ms / 1000;
        if self.date_s != Some(second) {
            self.date_s = Some(second);
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            // RFC 9110 §5.6.7: a fixed length.
            debug_assert_eq!(date.len(), self.date.len());
            self.date.copy_from_slice(date.as_bytes());
        }
        self.date
    }

    /// Appends own bytes for a connection; they leave in this turn's second phase.
    pub(crate) fn reply(&mut self, index: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let Some((out, in_arena)) = self.begin_reply(index) else { return };
        write(out);
        if in_arena {
            self.end_reply(index);
        }
    }

    /// The same, for the few places where a call counts.
    #[inline(always)]
    pub(crate) fn reply_inlined(&mut self, index: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let Some((out, in_arena)) = self.place_reply(index) else { return };
        write(out);
        if in_arena {
            self.list_arena(index);
        }
    }

    #[inline(never)] // as the end: once, not in each of thirty kinds of replies
    pub(crate) fn begin_reply(&mut self, index: u32) -> Option<(&mut Vec<u8>, bool)> {
        self.place_reply(index)
    }

    #[inline(never)]
    pub(crate) fn end_reply(&mut self, index: u32) {
        self.list_arena(index);
    }

    /// Where own bytes for a connection go, if anywhere, and whether that is the arena.
    #[inline(always)]
    fn place_reply(&mut self, index: u32) -> Option<(&mut Vec<u8>, bool)> {
        let slot = self.slots.get_mut(index)?;
        if slot.flags.has(Flags::CLOSED) {
            return None;
        }
        slot.flags.clear(Flags::ASIDE);
        if slot.is_stuck() {
            return Some((&mut slot.extra().outbox, false));
        }
        let (at, len) = (slot.arena_at as usize, slot.arena_len as usize);
        if len > 0 && at + len != self.arena.len() {
            // Another connection wrote in between. Moving the range to the end each time would cost
            // the square of what an application sends to many in turns.
            slot.arena_len = 0;
            let outbox = &mut slot.extra().outbox;
            outbox.extend_from_slice(&self.arena[at..at + len]);
            return Some((outbox, false));
        }
        if len == 0 {
            slot.arena_at = self.arena.len() as u32;
        }
        Some((&mut self.arena, true))
    }

    /// What has been written to the arena is the connection's.
    #[inline(always)]
    fn list_arena(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.arena_len = self.arena.len() as u32 - slot.arena_at;
        if slot.flags.raise(Flags::REPLYING) {
            self.replies.push_back(index);
        }
    }

    /// Whether a connection that comes now is one too many, or there is no memory for more.
    pub(crate) fn is_over(&self) -> bool {
        self.slots.len() + self.elsewhere >= self.connections_max + self.refused
            || self.history.is_tight()
    }

    /// Whether phase two is due: many replies wait, or so much has been published that `recent` might
    /// not hold all of it until it is taken in.
    pub(crate) fn is_full(&self) -> bool {
        self.arena.len() >= self.config.arena_bytes
            || self.unseen_bytes > self.config.recent_bytes / 2
    }

    /// Puts a slot on the list of those with own bytes, or an end, to write.
    pub(crate) fn list_reply(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.flags.raise(Flags::REPLYING) {
            self.replies.push_back(index);
        }
    }

    /// Notes that a connection may be owed something. If it was live until now, its cursor is where
    /// the horizon is now: so marking comes before the horizon moves.
    pub(crate) fn mark(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.fall_behind(self.horizon) {
            self.dirty.push_back(index);
        }
    }

    /// Puts a slot on the dirty list, unless its socket takes nothing now.
    pub(crate) fn list_dirty(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if !slot.flags.has(Flags::BLOCKED) && slot.flags.raise(Flags::DIRTY) {
            self.dirty.push_back(index);
        }
    }

    /// How far a connection has been told the order, all its channels considered.
    #[inline(never)] // many ask, seldom
    pub(crate) fn position(&self, index: u32) -> u64 {
        let Some(slot) = self.slots.get(index) else { return self.horizon };
        let apart = slot.subs.as_slice().iter().filter(|sub| sub.is_apart());
        apart.map(|sub| sub.position).fold(slot.reached(self.horizon), u64::min)
    }

    /// Offers a connection's kept bytes again in the next turn, and lets its socket be read.
    pub(crate) fn resume_input(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        // Behind the peer's end nothing is read: its last bytes are used up, then it is over.
        let is_due = slot.has_tail() || slot.flags.has(Flags::EOF);
        if is_due && slot.flags.raise(Flags::AGAIN) {
            self.again.push_back(index);
        }
        // Of many answers in a row one is enough.
        if self.resumed.back() != Some(&index) {
            self.resumed.push_back(index);
        }
    }

    /// Moves the deadline forward if a state needs an earlier one.
    #[inline(never)] // many ask, seldom
    pub(crate) fn file(&mut self, index: u32) {
        if let Some(deadline) = self.deadline(index) {
            self.wheel.file_no_later(index, deadline);
        }
    }

    /// The next request may come, or the end.
    pub(crate) fn after_response(&mut self, index: u32, keep: bool) {
        if !keep {
            return self.begin_closing(index);
        }
        self.uncount_poll(index);
        self.rest_address(index);
        let now = self.stamp();
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.state = State::Head(HeadScan::default());
        slot.requests = slot.requests.saturating_add(1);
        slot.phase = now;
        self.resume_input(index);
        self.file(index);
    }

    /// What waits is still written, then the connection ends in order.
    pub(crate) fn begin_closing(&mut self, index: u32) {
        self.leave_all(index);
        let now = self.now.mono_ms;
        let (until, left) = (self.config.write_stall, self.config.linger_bytes_max);
        let Some(slot) = self.slots.get(index) else { return };
        if matches!(slot.state, State::Closing(_)) || slot.flags.has(Flags::CLOSED) {
            return;
        }
        self.uncount_poll(index);
        let Some(slot) = self.slots.get_mut(index) else { return };
        let until = Stamp::at(now + until.as_millis() as u64);
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        slot.state = State::Closing(Closing { lingering: false, until, left });
        if let Some(extra) = &mut slot.extra {
            extra.tail = Vec::new();
            extra.later.clear();
            extra.gaps.clear();
            extra.waiting = None;
        }
        slot.tidy();
        self.list_reply(index);
        self.resumed.push_back(index);
        self.file(index);
    }

    /// Frees a connection in this turn's second phase, whatever waits.
    pub(crate) fn close_now(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.flags.raise(Flags::CLOSED) {
            self.closes.push_back(index);
        }
    }

    /// Gives back what tables and lists had for a crowd that has gone.
    pub(crate) fn shrink(&mut self) {
        let Some(slots) = self.slots.shrink() else { return };
        self.wheel.shrink(slots);
        self.dirty.shrink_to(slots);
        self.replies.shrink_to(slots);
        self.again.shrink_to(slots);
        self.closes.shrink_to(slots);
        self.resumed.shrink_to(slots);
    }

    /// Ends every subscription of a connection.
    pub(crate) fn leave_all(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.flags.clear(Flags::BEHIND);
        let subs = std::mem::take(&mut slot.subs);
        for sub in subs.as_slice() {
            self.leave_room(index, sub, Parting::Grace);
        }
        if !subs.as_slice().is_empty() {
            self.rest_presence(index);
        }
    }

    pub(crate) fn leave_room(&mut self, index: u32, sub: &Sub, parting: Parting) {
        let Sub { room, place, .. } = *sub;
        if self.may_be_watched(room) {
            self.part(index, sub, parting);
        }
        debug_assert_eq!(self.roster.members(room)[place as usize], index);
        let channel = self.roster.channel(room);
        let moved = self.roster.leave(room, place);
        if self.common.loops > 1 && self.roster.room(channel).is_none() {
            self.history.unlisten(channel, self.loop_number());
        }
        self.history.leave(channel, self.now);
        if let Some(slot) = moved.and_then(|moved| self.slots.get_mut(moved)) {
            let subs = slot.subs.as_mut_slice();
            if let Some(sub) = subs.iter_mut().find(|sub| sub.room == room) {
                sub.place = place;
            }
        }
    }

    /// Checks and publishes what an application gave, or a raw WebSocket.
    pub(crate) fn check_and_publish(
        &mut self,
        channel: &str,
        mut message: Message,
    ) -> Result<Published, Refusal> {
        if !is_channel(channel.as_bytes()) {
            return Err(BAD_CHANNEL);
        }
        message.check(self.config.message_bytes_max)?;
        self.publish(channel, message)
    }

    /// Publishes a checked message in a channel whose name can be one.
    pub(crate) fn publish(
        &mut self,
        channel: &str,
        message: Message,
    ) -> Result<Published, Refusal> {
        debug_assert!(is_channel(channel.as_bytes()));
        let bytes = message.payload.len();
        let evicted = &mut self.evicted;
        let published = self.history.publish_and_evict(channel, message, self.now, evicted);
        // Not under the order's lock.
        evicted.clear();
        evicted.shrink_to(EVICTED_KEPT);
        let published = published.map_err(|rejected| rejected.refusal)?;
        // A repeated idempotency key publishes nothing.
        if published.id.seq > self.horizon {
            self.unseen_bytes += bytes;
        }
        Ok(published)
    }

    pub(crate) fn new_ticket(&mut self, id: ConnId) -> Ticket {
        self.tickets = self.tickets.wrapping_add(1).max(1);
        Ticket::new(id, self.tickets)
    }

    pub(crate) fn set_timer(&mut self, after: Duration, key: u64) -> TimerId {
        self.timers_set += 1;
        // Rounded up, and never now: one that sets itself again must not keep the turn.
        let after_ms = u64::try_from(after.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        let due_ms = self.now.mono_ms.saturating_add(after_ms.max(1));
        self.app_timers.insert((due_ms, self.timers_set), key);
        TimerId { due_ms, number: self.timers_set }
    }

    /// Subscriptions of connections, and the program's own.
    pub(crate) fn subscriptions(&self) -> usize {
        self.roster.subscriptions() + self.local.subscriptions()
    }

    pub(crate) fn loop_stats(&self) -> LoopStats {
        LoopStats {
            connections: self.connections(),
            subscriptions: self.subscriptions(),
            counted: self.stats.clone(),
        }
    }

    pub(crate) fn connections(&self) -> Connections {
        let mut count = Connections::default();
        for (_, slot) in self.slots.iter() {
            match slot.state {
                State::Ws(_) => count.ws += 1,
                State::Sse { .. } => count.sse += 1,
                State::Hold(_) => count.poll += 1,
                State::Head(_) | State::Body(_) | State::Wait { .. } | State::Closing(_) => {
                    count.http += 1;
                }
            }
        }
        count
    }
}
