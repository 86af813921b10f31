//! Phase two: the horizon moves, and every connection that may be owed something is pulled for.
//!
//! Live delivery, replay and catching up are one walk. What it renders is kept as a *run*, keyed by
//! channel, place, horizon and dialect: the next connection at the same place is lent the same bytes.

mod poll;
mod sent;

use std::sync::Arc;

use super::core::Core;
use super::memory::pull_bytes;
use super::slot::{Flags, Slot, Subs};
use super::{Engine, Transmit, What};
use crate::conn::{State, WsMode};
use crate::hub::{ChannelIndex, GapReason, Item, Lost, PullLimits, Pulled, Want};
use crate::time::Stamp;
use crate::wire::dialect::{Dialect, Gap};

/// One pull takes no more than these, so that a long replay does not hold the others up.
const PULL_COUNT: usize = 256;
pub(crate) const PULL_BYTES: usize = 64 * 1024;
/// Runs that are kept at a time: several dialects, and a few channels in turn.
const RUNS: usize = 8;

/// What delivery keeps between two calls.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    runs: Vec<Run>,
    /// Which run was lent last: mostly the next connection is lent it again.
    last_run: usize,
    /// Which run is overwritten next.
    next_run: usize,
    lent: Option<Lent>,
    /// The rest of a cut publication, rendered again.
    scratch: Vec<u8>,
    wants: Vec<Want>,
    lost: Vec<Lost>,
    news: Vec<ChannelIndex>,
    writes_left: usize,
    bytes_left: usize,
    /// What one pull takes.
    pub(crate) limits: PullLimits,
}

impl Delivery {
    pub(crate) fn new(memory_bytes: usize) -> Self {
        let limits = PullLimits { count: PULL_COUNT, bytes: pull_bytes(memory_bytes) };
        Self { limits, ..Self::default() }
    }

    /// The run that was lent last, if a stream or WebSocket with one channel stands where that begins.
    /// Polls are told apart by more.
    fn same_run(&self, key: impl FnOnce() -> Option<Key>) -> Option<usize> {
        let run = self.runs.get(self.last_run)?;
        let is_same = run.key.is_some() && run.key == key() && !run.bytes.is_empty();
        is_same.then_some(self.last_run)
    }

    /// Runs pin what they were made of: none is kept once nobody waits for them, and all together
    /// keep room for two pulls.
    fn drop_runs(&mut self) {
        let room = 2 * self.limits.bytes / RUNS;
        for run in &mut self.runs {
            run.clear();
            run.bytes.shrink_to(room);
        }
        self.scratch.clear();
        self.scratch.shrink_to(room);
    }
}

/// What the driver was given to write, until it says how much of it left.
#[derive(Clone, Copy, Debug)]
enum Lent {
    Arena(u32),
    Outbox(u32),
    Cut(u32),
    Run(u32, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    channel: ChannelIndex,
    after: u64,
    horizon: u64,
    dialect: Dialect,
    catching_up: bool,
    /// Tells poll answers apart that differ in their head.
    variant: u8,
}

/// Rendered publications, or a whole poll answer.
#[derive(Debug, Default)]
struct Run {
    key: Option<Key>,
    bytes: Vec<u8>,
    items: Vec<Item>,
    /// Where each item ends in `bytes`. Empty for a poll answer, which is one body.
    ends: Vec<usize>,
    up_to: u64,
}

impl Run {
    fn clear(&mut self) {
        self.key = None;
        self.bytes.clear();
        self.items.clear();
        self.ends.clear();
    }
}

impl Core {
    /// Moves the horizon to the head, marking first whoever listens to what is new.
    pub(crate) fn take_in_now(&mut self) {
        // In this order: whoever publishes moves the version on before the news.
        self.seen_news = Some(self.history.news_of(self.loop_number()));
        let version = self.history.version();
        if self.seen_version == Some(version) {
            return;
        }
        self.seen_version = Some(version);
        self.unseen_bytes = 0;
        let mut news = std::mem::take(&mut self.delivery.news);
        let taken = self.history.take_in_on(self.loop_number(), self.horizon, &mut news);
        if taken.overrun {
            // A loop that is not woken for what others listen to is often that far behind.
            let rooms = self.roster.rooms().map(|room| self.roster.channel(room));
            let heard = rooms.chain(self.local.channels());
            self.history.news_among(heard, self.horizon, &mut news);
            news.sort_unstable();
            news.dedup();
        }
        for channel in news.drain(..) {
            if let Some(room) = self.roster.room(channel) {
                self.mark_room(room);
            }
            self.local.mark(channel, self.horizon);
        }
        self.delivery.news = news;
        self.horizon = taken.horizon;
    }

    /// Marks in one go: a walk that is suspended and resumed after a removal would skip listeners.
    fn mark_room(&mut self, room: u32) {
        let (slots, dirty, horizon) = (&mut self.slots, &mut self.dirty, self.horizon);
        for index in self.roster.members(room) {
            let Some(slot) = slots.get_mut(*index) else { continue };
            if slot.fall_behind(horizon) {
                dirty.push_back(*index);
            }
        }
    }

    /// Starts the second phase.
    pub(crate) fn begin_writing(&mut self) {
        self.take_in_now();
        self.tell_presence();
        self.delivery.writes_left = self.config.writes_per_turn;
        self.delivery.bytes_left = self.config.write_bytes_per_turn;
    }

    /// Chooses what the driver writes next.
    fn prepare(&mut self) -> Option<Prepared> {
        loop {
            if let Some(index) = self.replies.pop_front() {
                if let Some(prepared) = self.prepare_own(index) {
                    return Some(prepared);
                }
                continue;
            }
            // Everything in it has been written, or moved to an outbox.
            self.reset_arena();
            if self.dirty.is_empty() {
                self.delivery.drop_runs();
            } else if self.delivery.writes_left == 0 || self.delivery.bytes_left == 0 {
                return None;
            }
            let index = self.dirty.pop_front()?;
            if let Some(prepared) = self.prepare_pull(index) {
                return Some(prepared);
            }
            // It has moved on by itself, or is told about a loss.
            self.weigh(index);
        }
    }

    fn prepare_own(&mut self, index: u32) -> Option<Prepared> {
        let slot = self.slots.get_mut(index)?;
        slot.flags.clear(Flags::REPLYING);
        if slot.flags.has(Flags::CLOSED) || slot.flags.has(Flags::BLOCKED) {
            return None;
        }
        if let Some(extra) = &slot.extra {
            if let Some(cut) = &extra.cut {
                self.delivery.scratch.clear();
                let epoch = self.history.epoch();
                cut.dialect.publication(&mut self.delivery.scratch, &cut.publication, epoch);
                return self.lend(Lent::Cut(index));
            }
            if extra.outbox_len() > 0 {
                return self.lend(Lent::Outbox(index));
            }
        }
        if slot.arena_len > 0 {
            return self.lend(Lent::Arena(index));
        }
        self.end_if_closing(index)
    }

    fn lend(&mut self, lent: Lent) -> Option<Prepared> {
        self.delivery.lent = Some(lent);
        Some(Prepared::Lent)
    }

    /// All own bytes are out: a connection that ends shuts its sending side.
    fn end_if_closing(&mut self, index: u32) -> Option<Prepared> {
        let now = self.now.mono_ms;
        let linger = self.config.linger.as_millis() as u64;
        let may_linger = self.may_linger();
        let slot = self.slots.get_mut(index)?;
        let State::Closing(closing) = &mut slot.state else { return None };
        if slot.flags.has(Flags::EOF) {
            self.close_now(index);
            return None;
        }
        if closing.lingering {
            return None;
        }
        if !may_linger {
            self.close_now(index);
            return None;
        }
        closing.lingering = true;
        self.lingering += 1;
        closing.until = Stamp::at(now + linger);
        slot.last_in = Stamp::at(now);
        // While its last bytes waited it may not have been read.
        self.resumed.push_back(index);
        self.file(index);
        Some(Prepared::Finish(index))
    }

    fn reset_arena(&mut self) {
        self.arena.clear();
        if self.arena.capacity() > 2 * self.config.arena_bytes {
            self.arena.shrink_to(self.config.arena_bytes);
        }
    }

    fn prepare_pull(&mut self, index: u32) -> Option<Prepared> {
        let slot = self.slots.get_mut(index)?;
        slot.flags.clear(Flags::DIRTY);
        if slot.flags.has(Flags::BLOCKED) || slot.flags.has(Flags::CLOSED) {
            return None;
        }
        let dialect = slot.dialect()?;
        let (roster, horizon) = (&self.roster, self.horizon);
        let key = || match &slot.subs {
            Subs::One(sub) if dialect != Dialect::Poll => Some(Key {
                channel: roster.channel(sub.room),
                after: sub.after(slot.reached(horizon)),
                horizon,
                dialect,
                catching_up: sub.catching_up,
                variant: 0,
            }),
            Subs::One(_) | Subs::None | Subs::Many(_) => None,
        };
        let run = match self.delivery.same_run(key) {
            Some(run) => run,
            None => self.pull_for(index, dialect)?,
        };
        self.delivery.last_run = run;
        self.delivery.writes_left -= 1;
        self.delivery.bytes_left =
            self.delivery.bytes_left.saturating_sub(self.delivery.runs[run].bytes.len());
        self.lend(Lent::Run(index, run))
    }

    /// The run to write, if there is anything.
    fn pull_for(&mut self, index: u32, dialect: Dialect) -> Option<usize> {
        if self.slots.get(index)?.subs.as_slice().is_empty() {
            return None;
        }
        self.fill_wants(index);
        if dialect == Dialect::Poll {
            self.pull_poll(index)
        } else {
            self.pull_stream(index, dialect)
        }
    }

    fn fill_wants(&mut self, index: u32) {
        let Some(slot) = self.slots.get(index) else { return };
        let cursor = slot.reached(self.horizon);
        self.delivery.wants.clear();
        for sub in slot.subs.as_slice() {
            self.delivery.wants.push(Want {
                channel: self.roster.channel(sub.room),
                after: sub.after(cursor),
                catching_up: sub.catching_up,
            });
        }
    }

    /// Whether anything has been published that a connection has not been given.
    pub(crate) fn is_owed(&mut self, index: u32) -> bool {
        self.fill_wants(index);
        self.history.has_news(&self.delivery.wants)
    }

    /// The run to write, or `None` when there was nothing (the connection has moved on by itself).
    fn pull_stream(&mut self, index: u32, dialect: Dialect) -> Option<usize> {
        let key = self.shared_key(dialect, 0);
        if let Some(found) = self.find_run(key) {
            return self.non_empty(index, found);
        }
        let (run, pulled) = self.pull(self.delivery.limits);
        if !self.delivery.lost.is_empty() {
            self.delivery.runs[run].clear();
            self.announce_lost(index, dialect);
            return None;
        }
        let epoch = self.history.epoch();
        let at = &mut self.delivery.runs[run];
        at.key = key;
        at.up_to = pulled.up_to;
        for item in &at.items {
            dialect.publication(&mut at.bytes, item, epoch);
            at.ends.push(at.bytes.len());
        }
        self.non_empty(index, run)
    }

    fn non_empty(&mut self, index: u32, run: usize) -> Option<usize> {
        if self.delivery.runs[run].bytes.is_empty() {
            let up_to = self.delivery.runs[run].up_to;
            self.advance(index, up_to);
            return None;
        }
        Some(run)
    }

    /// The key under which the pull's outcome is the same for others: one channel has all the news.
    fn shared_key(&self, dialect: Dialect, variant: u8) -> Option<Key> {
        let wants = &self.delivery.wants;
        let want = match &wants[..] {
            [want] => want,
            _ => &wants[self.history.only_news(wants)?],
        };
        let Want { channel, after, catching_up } = *want;
        let horizon = self.horizon;
        Some(Key { channel, after, horizon, dialect, catching_up, variant })
    }

    fn find_run(&self, key: Option<Key>) -> Option<usize> {
        key?;
        self.delivery.runs.iter().position(|run| run.key == key)
    }

    /// Collects what the wants are owed into a fresh run.
    fn pull(&mut self, limits: PullLimits) -> (usize, Pulled) {
        let run = self.fresh_run();
        let Delivery { runs, wants, lost, .. } = &mut self.delivery;
        lost.clear();
        let at = &mut runs[run];
        let pulled = self.history.pull(wants, self.horizon, limits, self.now, &mut at.items, lost);
        (run, pulled)
    }

    fn fresh_run(&mut self) -> usize {
        let delivery = &mut self.delivery;
        let run = delivery.next_run;
        delivery.next_run = (run + 1) % RUNS;
        if run == delivery.runs.len() {
            delivery.runs.push(Run::default());
        }
        delivery.runs[run].clear();
        run
    }

    /// Channels whose place history has passed: said before anything else, then reading goes on.
    fn announce_lost(&mut self, index: u32, dialect: Dialect) {
        // It has no words for it.
        if dialect == Dialect::WsRaw {
            self.stats.gaps[GapReason::Slow as usize] += 1;
            return self.ws_close(index, 1013, "gap");
        }
        let gaps = self.move_lost(index);
        let id = self.cursor(self.lowest_after(index));
        self.reply(index, |out| dialect.gaps(out, &gaps, id));
        self.list_dirty(index);
    }

    /// The lowest position from which any of a connection's channels goes on.
    fn lowest_after(&self, index: u32) -> u64 {
        let Some(slot) = self.slots.get(index) else { return self.horizon };
        let cursor = slot.reached(self.horizon);
        let after = slot.subs.as_slice().iter().map(|sub| sub.after(cursor));
        after.fold(self.horizon, u64::min)
    }

    /// Moves each lost subscription to where what is kept begins.
    fn move_lost(&mut self, index: u32) -> Vec<Gap> {
        let horizon = self.horizon;
        let mut gaps = Vec::new();
        for Lost { want, resumed } in std::mem::take(&mut self.delivery.lost) {
            let since = self.history.cursor(self.delivery.wants[want].after);
            let Some(slot) = self.slots.get_mut(index) else { break };
            let is_live = slot.flags.has(Flags::GAP_LIVE);
            let resumed = if is_live { horizon } else { resumed.min(horizon) };
            let Some(sub) = slot.subs.as_mut_slice().get_mut(want) else { break };
            sub.position = resumed;
            let name = Arc::clone(self.roster.name(sub.room));
            self.stats.gaps[GapReason::Slow as usize] += 1;
            let resumed = self.history.cursor(resumed);
            self.add_gap(&mut gaps, &name, GapReason::Slow, Some(since), resumed);
        }
        gaps
    }

    /// Everything up to `up_to` is in a connection's output.
    fn advance(&mut self, index: u32, up_to: u64) {
        let horizon = self.horizon;
        let Some(slot) = self.slots.get_mut(index) else { return };
        let is_there = up_to >= horizon;
        slot.move_apart(up_to);
        if !is_there {
            slot.cursor =
                if slot.flags.raise(Flags::BEHIND) { up_to } else { slot.cursor.max(up_to) };
            // One that trails for ever never arrives, and is answered all the same.
            self.release_up_to(index, self.position(index));
            return self.list_dirty(index);
        }
        slot.flags.clear(Flags::BEHIND);
        self.arrive(index);
    }

    /// A connection has caught up: it is told so, and gets the replies that waited for it.
    fn arrive(&mut self, index: u32) {
        let horizon = self.horizon;
        let Some(slot) = self.slots.get_mut(index) else { return };
        let says_live = matches!(slot.websocket(), Some(ws) if ws.mode == WsMode::Json);
        let mut rooms = Vec::new();
        for sub in slot.subs.as_mut_slice() {
            if std::mem::take(&mut sub.catching_up) && says_live {
                rooms.push(sub.room);
            }
            sub.later = false;
        }
        let stream = slot.dialect().filter(|_| slot.flags.has(Flags::WAITS_FOR_NOW));
        slot.flags.clear(Flags::WAITS_FOR_NOW);
        let cursor = self.cursor(horizon);
        if let Some(dialect) = stream {
            self.reply(index, |out| dialect.heartbeat(out, cursor));
        }
        for room in rooms {
            let name = Arc::clone(self.roster.name(room));
            self.reply(index, |out| Dialect::WsJson.live(out, &name, cursor));
        }
        self.release_later(index);
    }

    /// Puts all that a stream or WebSocket is owed into its own bytes, if one look finds all of it;
    /// whether so. For one that is about to end: the others are pulled for.
    pub(crate) fn catch_up(&mut self, index: u32) -> bool {
        self.take_in_now();
        let Some(dialect) = self.slots.get(index).and_then(Slot::dialect) else { return false };
        if dialect == Dialect::Poll {
            return false;
        }
        let is_kept = self.slots.get(index).is_some_and(Slot::is_stuck);
        if is_kept && !self.has_room(self.delivery.limits.bytes) {
            return false; // it would wait in memory that is not there
        }
        self.fill_wants(index);
        let (run, pulled) = self.pull(self.delivery.limits);
        let is_all = self.delivery.lost.is_empty() && !pulled.more;
        if is_all {
            let (items, epoch) =
                (std::mem::take(&mut self.delivery.runs[run].items), self.history.epoch());
            self.reply(index, |out| {
                items.iter().for_each(|item| dialect.publication(out, item, epoch));
            });
            self.stats.delivered += items.len() as u64;
            self.advance(index, pulled.up_to);
        }
        self.delivery.runs[run].clear();
        is_all
    }

    /// The replies that waited for the connection's position go out.
    pub(crate) fn release_later(&mut self, index: u32) {
        self.release_up_to(index, u64::MAX);
    }

    /// The replies that waited for a position up to this one go out.
    fn release_up_to(&mut self, index: u32, reached: u64) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if !slot.has_later() {
            return;
        }
        let later = &mut slot.extra().later;
        let count = later.partition_point(|(seq, _)| *seq <= reached);
        let due: Vec<_> = later.drain(..count).collect();
        slot.tidy();
        for (_, bytes) in due {
            self.reply(index, |out| out.extend_from_slice(&bytes));
        }
        if self.slots.get(index).is_some_and(Slot::has_later) {
            return;
        }
        // A command may have waited for them.
        let waits = |slot: &mut Slot| {
            matches!(slot.state, State::Wait { .. }) && slot.flags.raise(Flags::AGAIN)
        };
        if self.slots.get_mut(index).is_some_and(waits) {
            self.again.push_back(index);
        }
    }
}

enum Prepared {
    /// What `Delivery::lent` says.
    Lent,
    Finish(u32),
}

impl Engine {
    /// What to write next: bytes for one connection, or its end. Until `None`, or the driver's own
    /// budget is spent; after bytes, [`handle_sent`](Self::handle_sent).
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        // What was lent and never reported did not leave.
        if self.core.delivery.lent.is_some() {
            self.core.sent(0);
        }
        if let Some(id) = self.free_next() {
            return Some(Transmit { id, what: What::Close });
        }
        let Some(prepared) = self.core.prepare() else {
            let id = self.free_next()?;
            return Some(Transmit { id, what: What::Close });
        };
        match prepared {
            Prepared::Finish(index) => {
                let id = self.core.slots.id(index)?;
                Some(Transmit { id, what: What::Finish })
            }
            Prepared::Lent => self.core.lent_bytes(),
        }
    }

    /// `n` of the bytes that were lent last have been written; fewer than all means that the socket
    /// is full, and nothing more is lent for it until [`handle_writable`](Self::handle_writable).
    pub fn handle_sent(&mut self, n: usize) {
        self.core.sent(n);
        while let Some(index) = self.core.writable.pop() {
            self.on_writable(index);
        }
    }
}

impl Core {
    fn lent_bytes(&self) -> Option<Transmit<'_>> {
        let (index, bytes) = match self.delivery.lent? {
            Lent::Arena(index) => {
                let slot = self.slots.get(index)?;
                let at = slot.arena_at as usize;
                (index, &self.arena[at..at + slot.arena_len as usize])
            }
            Lent::Outbox(index) => {
                let extra = self.slots.get(index)?.extra.as_ref()?;
                (index, &extra.outbox[extra.outbox_at..])
            }
            Lent::Cut(index) => {
                let cut = self.slots.get(index)?.extra.as_ref()?.cut.as_ref()?;
                (index, &self.delivery.scratch[cut.written..])
            }
            Lent::Run(index, run) => (index, &self.delivery.runs[run].bytes[..]),
        };
        Some(Transmit { id: self.slots.id(index)?, what: What::Bytes(bytes) })
    }
}
