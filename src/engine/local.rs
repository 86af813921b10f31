//! The program's own subscriptions: readers of the order with a cursor, as connections are, but without
//! one. What a connection is written, these are handed. Knows no threads: what takes the pushes is a
//! function, and a full one is asked again.

mod listener;

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};

use slab::Slab;

use self::listener::{After, Listener, LocalSub};
use super::Engine;
use super::core::Core;
use crate::code::{Code, Refusal};
use crate::cursor::{Cursor, Since};
use crate::hub::{ChannelIndex, GapReason, History, Item, Joined, Lost, Want};
use crate::message::{BAD_CHANNEL, is_channel};
use crate::sync::Mutex;
use crate::time::Now;

/// When a sink that was full is asked again, and at most: doubled each time it still is.
const RETRY_MS: u64 = 1;
const RETRY_MAX_MS: u64 = 1_024;

const CHANNEL_COUNT: Refusal =
    Refusal::new(Code::BadRequest, "a subscription has 1 to 128 channels, each named once");
const LISTENERS_FULL: Refusal = Refusal::new(
    Code::Overloaded,
    "too many subscriptions of the program's own: raise local_subscriptions_max",
);

/// What a subscription of the program's own is handed, in the one order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Push {
    /// Something was published.
    Message {
        /// Its id: the position to come back with.
        id: Cursor,
        /// What. Shared with the order and with all other readers: whoever keeps it keeps its bytes
        /// in the server's [memory](crate::Config#structfield.memory_bytes).
        publication: Item,
    },
    /// Something is missing between two positions. What follows is after the gap.
    Gap {
        /// On these channels.
        channels: Vec<Arc<str>>,
        /// Why.
        reason: GapReason,
        /// After this position; `None` if it is not known.
        since: Option<Cursor>,
        /// Delivery of these channels goes on after this one.
        resumed: Cursor,
    },
    /// All that was there when the subscription began has been handed over. Said once.
    Live {
        /// The position to come back with.
        cursor: Cursor,
    },
    /// The subscription could not begin: there is no room for another channel or subscription.
    /// Nothing follows.
    Refused(Refusal),
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken.
    Yes,
    /// Not now: it is offered again, after a millisecond at first and at least every second; later the
    /// subscription catches up, or is told of a gap.
    Full,
    /// Nobody is there any more: the subscription ends.
    Over,
}

/// Takes what a subscription of the program's own is owed, on the loop's thread. Must not block.
pub type Sink = Box<dyn FnMut(Push) -> Taken + Send>;

/// A subscription of the program's own that is to begin.
pub struct Listen {
    channels: Vec<String>,
    since: Option<Since>,
    /// Where the order ended when it was asked for: "from now on" begins there.
    from: u64,
    place: Place,
    sink: Sink,
}

impl fmt::Debug for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listen").field("channels", &self.channels).finish_non_exhaustive()
    }
}

impl Listen {
    /// Asks for channels of this order from a position on; without one, from this moment on.
    #[must_use]
    pub fn new(channels: &[&str], since: Option<Since>, order: &History, sink: Sink) -> Self {
        Self {
            channels: channels.iter().map(|&channel| channel.to_owned()).collect(),
            since,
            from: order.head(),
            place: Place::default(),
            sink,
        }
    }

    /// How far it will have come, for whoever waits for it.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.place.0.clone()
    }

    /// What is wrong with it, whatever the server has room for.
    ///
    /// # Errors
    /// `bad_channel` for a name that is none, `bad_request` for no channel, too many, or one twice.
    pub fn check(&self, channels_max: usize) -> Result<(), Refusal> {
        if !self.channels.iter().all(|channel| is_channel(channel.as_bytes())) {
            return Err(BAD_CHANNEL);
        }
        let names = &self.channels;
        let is_count = (1..=channels_max).contains(&names.len());
        // Few: each is looked for among those before it.
        if !is_count || (1..names.len()).any(|at| names[..at].contains(&names[at])) {
            return Err(CHANNEL_COUNT);
        }
        Ok(())
    }
}

/// How far a subscription of the program's own has come; for any thread.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Reached>>);

#[derive(Debug, Default)]
struct Reached {
    cursor: Option<Cursor>,
    is_ended: bool,
}

impl Progress {
    /// The position up to which everything has been handed over, gaps included; `None` before the
    /// first push. A subscription that begins with it misses nothing unannounced.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.with(|reached| reached.cursor)
    }

    /// Whether nothing will be handed over any more.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.with(|reached| reached.is_ended)
    }

    /// Ends the subscription the next time its loop looks.
    pub fn end(&self) {
        self.with(|reached| reached.is_ended = true);
    }

    fn reach(&self, cursor: Cursor) {
        self.with(|reached| reached.cursor = Some(cursor));
    }

    fn with<T>(&self, look: impl FnOnce(&mut Reached) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whoever waits for a subscription knows that it has ended when this goes, from wherever it goes.
#[derive(Default)]
struct Place(Progress);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// All listeners of one loop.
#[derive(Default)]
pub(crate) struct Local {
    listeners: Slab<Listener>,
    /// Who listens to what. Invariant: sorted, so that those of one channel stand together.
    places: Vec<(ChannelIndex, u32)>,
    /// Those that may be owed something, once each, but for those whose sinks are full.
    dirty: VecDeque<u32>,
    /// How many of them have full sinks.
    waiting: usize,
    items: Vec<Item>,
    wants: Vec<Want>,
    lost: Vec<Lost>,
}

impl Local {
    /// Marks who listens to a channel, before the horizon moves.
    pub(crate) fn mark(&mut self, channel: ChannelIndex, horizon: u64) {
        let from = self.places.partition_point(|(other, _)| *other < channel);
        for (other, number) in &self.places[from..] {
            if *other != channel {
                return;
            }
            mark_one(&mut self.listeners, &mut self.dirty, *number, horizon);
        }
    }

    /// Those that anyone listens to.
    pub(crate) fn channels(&self) -> impl Iterator<Item = ChannelIndex> + '_ {
        self.places.iter().map(|(channel, _)| *channel)
    }

    fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Channels that are listened to, each listener's.
    pub(crate) fn subscriptions(&self) -> usize {
        self.listeners.iter().map(|(_, listener)| listener.subs.len()).sum()
    }

    /// When a sink that was full is to be asked again.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if self.waiting == 0 {
            return None;
        }
        self.listeners.iter().filter_map(|(_, listener)| Some(listener.retry?.0)).min()
    }

    /// Lists those whose sinks are to be asked again.
    pub(crate) fn retry(&mut self, now_ms: u64) {
        if self.waiting == 0 {
            return;
        }
        for (number, listener) in &mut self.listeners {
            let is_due = listener.retry.is_some_and(|(due, _)| due <= now_ms);
            if is_due && !std::mem::replace(&mut listener.is_listed, true) {
                self.dirty.push_back(number as u32);
            }
        }
    }

    fn add(&mut self, listener: Listener) {
        let number = self.listeners.vacant_key() as u32;
        for sub in &listener.subs {
            let place = (sub.channel, number);
            let at = self.places.partition_point(|other| *other < place);
            self.places.insert(at, place);
        }
        self.dirty.push_back(number);
        self.listeners.insert(listener);
    }

    fn remove(&mut self, number: u32) -> Option<Listener> {
        let listener = self.listeners.try_remove(number as usize)?;
        self.places.retain(|(_, other)| *other != number);
        self.dirty.retain(|other| *other != number);
        self.waiting -= usize::from(listener.retry.is_some());
        if self.listeners.is_empty() {
            *self = Self::default();
        }
        Some(listener)
    }
}

fn mark_one(listeners: &mut Slab<Listener>, dirty: &mut VecDeque<u32>, number: u32, horizon: u64) {
    let Some(listener) = listeners.get_mut(number as usize) else { return };
    if std::mem::replace(&mut listener.is_behind, true) {
        return;
    }
    listener.cursor = horizon;
    if !std::mem::replace(&mut listener.is_listed, true) {
        dirty.push_back(number);
    }
}

impl Engine {
    /// Begins a subscription of the program's own. What is wrong with it is handed to it as
    /// [`Push::Refused`].
    pub fn handle_listen(&mut self, listen: Listen, now: Now) {
        self.core.now = now;
        if listen.place.0.is_ended() {
            return; // whoever asked for it has gone meanwhile
        }
        let mut sink = None;
        if let Err(refusal) = self.core.listen(listen, &mut sink) {
            let told = sink.map(|mut sink| {
                catch_unwind(AssertUnwindSafe(|| sink(Push::Refused(refusal.clone()))))
            });
            match told {
                Some(Err(_)) => self.fail(),
                Some(Ok(Taken::Yes)) => {}
                Some(Ok(Taken::Full | Taken::Over)) | None => {
                    log::warn!("a subscription of the program's own: {}", refusal.message);
                }
            }
        }
    }

    /// Lets go of the subscriptions of the program's own that have been [ended](Progress::end).
    pub fn handle_listen_ended(&mut self, now: Now) {
        self.core.now = now;
        let listeners = self.core.local.listeners.iter();
        let ended = listeners.filter(|(_, listener)| listener.place.0.is_ended());
        let ended: Vec<u32> = ended.map(|(number, _)| number as u32).collect();
        ended.into_iter().for_each(|number| self.core.end_local(number));
    }

    /// Ends all subscriptions of the program's own. Each is handed what was published before, as far as
    /// it takes that now. For the end: nothing is published any more.
    pub fn end_listens(&mut self, now: Now) {
        self.core.now = now;
        self.core.take_in_now();
        while self.core.local.has_work() && !self.has_failed {
            self.deliver_local(usize::MAX);
        }
        let listeners = self.core.local.listeners.iter();
        let numbers: Vec<u32> = listeners.map(|(number, _)| number as u32).collect();
        numbers.into_iter().for_each(|number| self.core.end_local(number));
    }

    /// One pull for each listener that may be owed something, at most so many.
    pub(crate) fn deliver_local(&mut self, limit: usize) {
        for _ in 0..self.core.local.dirty.len().min(limit) {
            let Some(number) = self.core.local.dirty.pop_front() else { return };
            let core = &mut self.core;
            if catch_unwind(AssertUnwindSafe(|| core.pull_local(number))).is_err() {
                core.end_local(number);
                return self.fail();
            }
        }
    }
}

impl Core {
    /// Joins the channels and adds a listener; nothing is done on an error, and the sink comes back.
    fn listen(&mut self, listen: Listen, back: &mut Option<Sink>) -> Result<(), Refusal> {
        self.take_in_now();
        let joined = match self.join_local(&listen) {
            Ok(joined) => joined,
            Err(refusal) => {
                *back = Some(listen.sink);
                return Err(refusal);
            }
        };
        let horizon = self.horizon;
        // Whoever is told "live" is so only once it has been.
        let lowest = joined.iter().map(|one| one.position).min().unwrap_or(horizon);
        let catching_up = listen.since.is_some() && lowest < horizon;
        let mut listener = Listener {
            subs: Vec::with_capacity(joined.len()),
            cursor: lowest,
            is_behind: true,
            is_listed: true,
            is_live_told: false,
            gaps: VecDeque::new(),
            retry: None,
            place: listen.place,
            sink: listen.sink,
        };
        let since = match listen.since {
            Some(Since::Cursor(cursor)) => Some(cursor),
            _ => None,
        };
        for Joined { channel, name, position, gap } in joined {
            if let Some(reason) = gap {
                self.stats.gaps[reason as usize] += 1;
                listener.add_gap(&name, reason, since, position);
            }
            listener.subs.push(LocalSub { channel, name, position, catching_up });
        }
        self.local.add(listener);
        self.history.hear_all(self.loop_number(), true);
        Ok(())
    }

    fn join_local(&self, listen: &Listen) -> Result<Vec<Joined>, Refusal> {
        listen.check(self.config.channels_per_connection_max)?;
        if self.local.listeners.len() >= self.config.local_subscriptions_max {
            return Err(LISTENERS_FULL);
        }
        let mut joined: Vec<Joined> = Vec::with_capacity(listen.channels.len());
        for channel in &listen.channels {
            match self.history.join(channel, listen.since, self.horizon, self.now) {
                Ok(one) => joined.push(one),
                Err(refusal) => {
                    joined.iter().for_each(|one| self.history.leave(one.channel, self.now));
                    return Err(refusal);
                }
            }
        }
        if listen.since.is_none() {
            // It was asked for a moment ago, and has listened since then.
            let from = listen.from.min(self.horizon);
            joined.iter_mut().for_each(|one| one.position = from);
        }
        Ok(joined)
    }

    /// Hands a listener what it is owed, as much as one pull takes.
    fn pull_local(&mut self, number: u32) {
        let (now, horizon, limits) = (self.now, self.horizon, self.delivery.limits);
        let local = &mut self.local;
        let Some(listener) = local.listeners.get_mut(number as usize) else { return };
        listener.is_listed = false;
        let was_waiting = listener.retry.take();
        local.waiting -= usize::from(was_waiting.is_some());
        if listener.place.0.is_ended() {
            return self.end_local(number);
        }
        let scratch = (&mut local.wants, &mut local.items, &mut local.lost);
        let before = listener.reached();
        let handed = self.stats.delivered;
        let after = listener.pull(&self.history, horizon, limits, now, scratch, &mut self.stats);
        local.items.clear();
        if listener.gaps.is_empty() && listener.has_begun(before, handed < self.stats.delivered) {
            let reached = self.history.cursor(listener.reached());
            listener.place.0.reach(reached);
        }
        match after {
            After::Arrived => {}
            After::More => {
                listener.is_listed = true;
                local.dirty.push_back(number);
            }
            After::Full => {
                // Whoever takes anything at all is not waited for longer than need be.
                let took = handed < self.stats.delivered;
                let last = was_waiting.filter(|_| !took).map_or(0, |(_, wait)| wait * 2);
                let wait = last.clamp(RETRY_MS, RETRY_MAX_MS);
                listener.retry = Some((now.mono_ms + wait, wait));
                local.waiting += 1;
            }
            After::Over => self.end_local(number),
        }
    }

    fn end_local(&mut self, number: u32) {
        let Some(listener) = self.local.remove(number) else { return };
        for sub in &listener.subs {
            self.history.leave(sub.channel, self.now);
        }
        if self.local.is_empty() {
            self.history.hear_all(self.loop_number(), false);
        }
    }

    /// Nobody of the program listens any more.
    pub(crate) fn leave_local(&self) {
        for (_, listener) in &self.local.listeners {
            listener.subs.iter().for_each(|sub| self.history.leave(sub.channel, self.now));
        }
    }

    /// Asserts what must hold between two calls. For tests.
    pub(crate) fn check_local(&self) {
        let local = &self.local;
        assert_eq!(local.places.len(), local.subscriptions());
        assert!(local.places.is_sorted());
        let waiting = local.listeners.iter().filter(|(_, one)| one.retry.is_some()).count();
        assert_eq!(waiting, local.waiting, "full sinks");
        for (number, listener) in &local.listeners {
            let number = number as u32;
            assert_eq!(local.dirty.contains(&number), listener.is_listed);
            let is_looked_at = listener.is_listed || listener.retry.is_some();
            assert!(!listener.is_behind || is_looked_at, "behind, and nobody looks");
            assert!(listener.cursor <= self.horizon, "a cursor beyond the horizon");
        }
    }
}
