//! Who listens to a channel, for those who want to know.
//!
//! Members are derived from the roster and the slots; nothing is stored for them. Only a channel that
//! is *watched*, by a listener that asked to be told or by a recent question, has an entry here: with
//! it come those that are gone and still count, and polls that are known from one request to the next.
//!
//! It knows the listeners of its own loop. Those of other loops would come by way of the history,
//! which all loops share and which counts listeners already.

mod list;
mod tell;

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;

use slab::Slab;

use super::core::Core;
use super::slot::{Flags, Slot, Sub};
use super::subscribe::Started;
use crate::collections::slots::ConnId;
use crate::collections::wheel::Wheel;
use crate::config::Config;
use crate::conn::State;
use crate::hub::RoomIndex;
use crate::wire::dialect::Presence as News;

/// A channel's place in the table of those that are watched.
type WatchIndex = u32;

/// How long a channel is watched after somebody asked who listens to it.
const ASKED_MS: u64 = 60_000;
/// Changes of one channel that are told one by one in a turn.
const CHANGES_MAX: usize = 256;

/// What one loop knows of who wants to know.
#[derive(Debug)]
pub(crate) struct Presence {
    keys: [u64; 2],
    grace_ms: u64,
    members_max: usize,
    entries_max: usize,
    watches: Slab<Watch>,
    by_name: HashMap<Arc<str>, WatchIndex>,
    /// One entry for each watch that waits for a moment. Only while anything is watched.
    wheel: Option<Wheel>,
    /// Watches with something to tell.
    listed: VecDeque<WatchIndex>,
    /// All that is vacant or kept.
    entries: usize,
}

/// A channel that somebody watches.
#[derive(Debug)]
struct Watch {
    name: Arc<str>,
    /// Invariant: the room of this channel, which is marked with this watch, if anyone listens.
    room: Option<RoomIndex>,
    /// Subscriptions, and vacant places, that are told.
    watchers: u32,
    /// Until when it is watched without any (monotonic ms).
    asked_until: u64,
    /// Those that are gone and still count, in the order in which they cease to.
    vacant: VecDeque<Vacant>,
    /// Polls that go on under a name and time that they had before, by slot.
    kept: Vec<(u32, Kept)>,
    /// What has changed in this turn.
    changes: Vec<Change>,
    /// More has than is told one by one.
    is_flooded: bool,
    is_listed: bool,
    /// There are too many members to tell their coming and going.
    is_crowded: bool,
    /// Watchers that came while it was, and have not been told so.
    newcomers: Vec<ConnId>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    name: u64,
    since_ms: u64,
}

/// The place of a connection that is gone, or of a poll between two requests.
#[derive(Debug)]
struct Vacant {
    due: u64,
    who: Who,
    /// A poll that is told, and what it was not told yet: objects with commas between them.
    watches: bool,
    untold: bool,
    told: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    /// Whose, if it is one's.
    conn: Option<ConnId>,
    news: News,
}

/// A member of a channel, as it is listed.
#[derive(Clone, Copy, Debug)]
struct Who {
    conn: ConnId,
    name: u64,
    transport: Transport,
    /// Unix time.
    since_ms: u64,
    /// `None`: a unix socket.
    address: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Ws,
    Sse,
    Poll,
}

impl Transport {
    /// How a connection listens. A HEAD of a poll does not.
    fn of(slot: &Slot) -> Option<Self> {
        match slot.lasting_state() {
            State::Ws(_) => Some(Self::Ws),
            State::Sse { .. } => Some(Self::Sse),
            State::Hold(hold) if !hold.answering.head_only => Some(Self::Poll),
            State::Hold(_)
            | State::Head(_)
            | State::Body(_)
            | State::Wait { .. }
            | State::Closing(_) => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Sse => "sse",
            Self::Poll => "poll",
        }
    }
}

/// How a listener leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// It said so.
    Now,
    /// It may come back.
    Grace,
}

impl Presence {
    pub(crate) fn new(mut rng: fastrand::Rng, config: &Config) -> Self {
        Self {
            keys: [rng.u64(..), rng.u64(..)],
            grace_ms: config.presence_grace.as_millis() as u64,
            members_max: config.presence_members_max,
            entries_max: config.presence_entries_max,
            watches: Slab::new(),
            by_name: HashMap::new(),
            wheel: None,
            listed: VecDeque::new(),
            entries: 0,
        }
    }

    /// Whether somebody is to be told something.
    pub(crate) fn has_news(&self) -> bool {
        !self.listed.is_empty()
    }

    /// What its tables take, about.
    pub(crate) fn bytes(&self) -> usize {
        let wheel = self.wheel.as_ref().map_or(0, Wheel::bytes);
        let watches = self.watches.capacity() * size_of::<Watch>();
        watches + wheel + self.entries * size_of::<Vacant>()
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.wheel.as_ref().and_then(Wheel::next_deadline)
    }

    /// The name under which a connection is known: from its id, and without the keys not to be told
    /// from chance.
    fn name_of(&self, conn: ConnId, is_renamed: bool) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.keys.iter().for_each(|key| hasher.write_u64(*key));
        hasher.write_u64(conn.to_bits());
        hasher.write_u8(u8::from(is_renamed));
        hasher.finish()
    }

    fn find(&self, name: &str) -> Option<WatchIndex> {
        self.by_name.get(name).copied()
    }

    fn add(&mut self, name: Arc<str>, now_ms: u64) -> WatchIndex {
        self.wheel.get_or_insert_with(|| Wheel::new(now_ms));
        let watch = self.watches.insert(Watch::new(Arc::clone(&name))) as WatchIndex;
        self.by_name.insert(name, watch);
        watch
    }

    /// Whether one more place can be remembered for a channel.
    fn has_room(&self, watch: &Watch) -> bool {
        self.grace_ms > 0
            && self.entries < self.entries_max
            && watch.vacant.len() + watch.kept.len() < self.members_max
    }

    /// Notes a change, if anyone is to be told. What comes and goes in one turn was never there.
    fn note(&mut self, watch: WatchIndex, conn: ConnId, news: News) {
        let Some(at) = self.watches.get_mut(watch as usize) else { return };
        if at.watchers == 0 {
            return;
        }
        let undone = match news {
            News::Join(name) => News::Leave(name),
            News::Leave(name) => News::Join(name),
            News::Untold { .. } => return,
        };
        if let Some(found) = at.changes.iter().position(|change| change.news == undone) {
            at.changes.remove(found);
        } else if at.changes.len() < CHANGES_MAX {
            at.changes.push(Change { conn: Some(conn), news });
        } else {
            at.is_flooded = true;
        }
        self.list(watch);
    }

    fn list(&mut self, watch: WatchIndex) {
        let Some(at) = self.watches.get_mut(watch as usize) else { return };
        if !std::mem::replace(&mut at.is_listed, true) {
            self.listed.push_back(watch);
        }
    }
}

impl Watch {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            room: None,
            watchers: 0,
            asked_until: 0,
            vacant: VecDeque::new(),
            kept: Vec::new(),
            changes: Vec::new(),
            is_flooded: false,
            is_listed: false,
            is_crowded: false,
            newcomers: Vec::new(),
        }
    }

    fn kept(&self, index: u32) -> Option<Kept> {
        let at = self.kept.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(self.kept[at].1)
    }

    fn keep(&mut self, index: u32, kept: Kept) {
        if let Err(at) = self.kept.binary_search_by_key(&index, |(index, _)| *index) {
            self.kept.insert(at, (index, kept));
        }
    }

    fn unkeep(&mut self, index: u32) -> Option<Kept> {
        let at = self.kept.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(self.kept.remove(at).1)
    }

    /// Gives back what a crowd needed.
    fn shrink(&mut self) {
        if self.vacant.is_empty() {
            self.vacant = VecDeque::new();
        }
        if self.kept.is_empty() {
            self.kept = Vec::new();
        }
    }
}

impl Core {
    /// The name under which a connection is known to clients.
    pub(crate) fn connection_name(&self, index: u32) -> u64 {
        let Some(id) = self.slots.id(index) else { return 0 };
        let slot = self.slots.get(index);
        self.presence.name_of(id, slot.is_some_and(|slot| slot.flags.has(Flags::RENAMED)))
    }

    /// What a connection that listens is listed as where nothing else is remembered of it.
    fn who(&self, index: u32) -> Option<Who> {
        let slot = self.slots.get(index)?;
        let listens_ms = self.now.mono_ms.saturating_sub(slot.phase.ms());
        Some(Who {
            conn: self.slots.id(index)?,
            name: self.connection_name(index),
            transport: Transport::of(slot)?,
            since_ms: self.now.unix_ms.saturating_sub(listens_ms),
            address: self.client_at(index),
        })
    }

    /// A connection, its state set, has begun to listen. `watches`: it is told who else does.
    pub(crate) fn enter(&mut self, index: u32, started: &Started, watches: bool) {
        if !watches && self.presence.watches.is_empty() {
            return;
        }
        for channel in &started.channels {
            self.enter_room(index, channel.room, watches);
        }
    }

    fn enter_room(&mut self, index: u32, room: RoomIndex, watches: bool) {
        let Some(watch) = self.watch_of(room, watches) else { return };
        let Some(who) = self.who(index) else { return self.settle_watch(watch) };
        let place = self.find_place(watch, &who);
        if watches
            && who.transport == Transport::Poll
            && place.is_none()
            && !self.may_keep_more(watch)
        {
            // It would come and go with each request, and answer others that do the same, for ever.
            self.mute(index, room);
        } else if watches {
            self.begin_watching(index, room, watch);
        }
        match place {
            Some(place) => self.take_place(index, room, watch, place, &who),
            None => self.presence.note(watch, who.conn, News::Join(who.name)),
        }
        self.settle_watch(watch);
    }

    /// A connection that listens already wants to be told who else does.
    pub(crate) fn watch_too(&mut self, index: u32, name: &str) {
        let Some(room) = self.sub_on(index, name).map(|sub| sub.room) else { return };
        if let Some(watch) = self.watch_of(room, true) {
            self.begin_watching(index, room, watch);
        }
    }

    /// The watch of a room's channel. A room that has come anew does not know it yet.
    fn watch_of(&mut self, room: RoomIndex, is_wanted: bool) -> Option<WatchIndex> {
        if let Some(watch) = self.roster.mark(room) {
            return Some(watch);
        }
        // While the server goes nobody is told, and subscriptions that were do not begin anew.
        let is_wanted = is_wanted && !self.draining;
        if !is_wanted && self.roster.members(room).len() > 1 {
            return None;
        }
        let name = self.roster.name(room);
        let watch = match self.presence.find(name) {
            Some(watch) => watch,
            None if is_wanted => self.presence.add(Arc::clone(name), self.now.mono_ms),
            None => return None,
        };
        self.presence.watches.get_mut(watch as usize)?.room = Some(room);
        self.roster.set_mark(room, Some(watch));
        Some(watch)
    }

    fn begin_watching(&mut self, index: u32, room: RoomIndex, watch: WatchIndex) {
        let Some(id) = self.slots.id(index) else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let is_poll = Transport::of(slot) == Some(Transport::Poll);
        let Some(sub) = slot.sub_in(room) else { return };
        let Some(at) = self.presence.watches.get_mut(watch as usize) else { return };
        if std::mem::replace(&mut sub.watches, true) {
            return;
        }
        at.watchers += 1;
        slot.flags.set(Flags::WATCHES);
        if !at.is_crowded {
            return;
        }
        if let (true, Some(sub)) = (is_poll, slot.sub_in(room)) {
            sub.is_mute = true;
        } else {
            at.newcomers.push(id);
            self.presence.list(watch);
        }
    }

    fn may_keep_more(&self, watch: WatchIndex) -> bool {
        let at = self.presence.watches.get(watch as usize);
        at.is_some_and(|at| self.presence.has_room(at))
    }

    /// A poll is told with its answer that it is not told. No sooner, for the next would be too.
    fn mute(&mut self, index: u32, room: RoomIndex) {
        if let Some(sub) = self.slots.get_mut(index).and_then(|slot| slot.sub_in(room)) {
            sub.is_mute = true;
        }
    }

    /// The vacant place in which a connection goes on: its own, or for a poll, that of one from the
    /// same address whose connection asks for nothing more.
    fn find_place(&self, watch: WatchIndex, who: &Who) -> Option<usize> {
        let at = self.presence.watches.get(watch as usize)?;
        let is_poll = who.transport == Transport::Poll;
        match at.vacant.iter().position(|vacant| vacant.who.conn == who.conn) {
            // What is not a poll has one name on all channels.
            Some(own) => (is_poll || at.vacant[own].who.name == who.name).then_some(own),
            None if is_poll => at.vacant.iter().position(|vacant| self.may_follow(who, vacant)),
            None => None,
        }
    }

    fn take_place(
        &mut self,
        index: u32,
        room: RoomIndex,
        watch: WatchIndex,
        place: usize,
        who: &Who,
    ) {
        let Some(at) = self.presence.watches.get_mut(watch as usize) else { return };
        let Some(vacant) = at.vacant.remove(place) else { return };
        at.watchers -= u32::from(vacant.watches);
        if who.transport == Transport::Poll {
            at.keep(index, Kept { name: vacant.who.name, since_ms: vacant.who.since_ms });
        } else {
            self.presence.entries -= 1;
        }
        at.shrink();
        let before = vacant.who.conn;
        if before != who.conn {
            // Whoever loses its place goes by another name, if it ever comes back.
            if let Some(slot) = self.slots.find(before).and_then(|index| self.slots.get_mut(index))
            {
                slot.flags.set(Flags::RENAMED);
            }
        }
        self.hand_over(index, room, vacant);
    }

    fn may_follow(&self, who: &Who, vacant: &Vacant) -> bool {
        if vacant.who.transport != Transport::Poll || vacant.who.address != who.address {
            return false;
        }
        let Some(slot) = self.slots.by_id(vacant.who.conn) else { return true };
        // One that is still there needs another name from now on, and gets only one more.
        matches!(slot.state, State::Head(_)) && !slot.flags.has(Flags::RENAMED)
    }

    /// What a poll was not told between two requests it is told now.
    fn hand_over(&mut self, index: u32, room: RoomIndex, vacant: Vacant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(sub) = slot.sub_in(room).filter(|sub| sub.watches) else { return };
        sub.untold |= vacant.untold;
        if !vacant.told.is_empty() {
            tell::append(&mut slot.extra().told, &vacant.told);
        } else if !vacant.untold {
            return;
        }
        self.mark(index);
    }

    /// A connection, its state still what it was, stops listening to a channel that is watched.
    pub(crate) fn part(&mut self, index: u32, watch: WatchIndex, sub: &Sub, parting: Parting) {
        let who = self.who(index);
        let now = self.now.mono_ms;
        let is_last = self.roster.members(sub.room).len() == 1;
        let has_told = self.slots.get(index).is_some_and(Slot::has_told);
        let Some(at) = self.presence.watches.get_mut(watch as usize) else { return };
        if is_last {
            at.room = None;
        }
        at.watchers -= u32::from(sub.watches);
        let kept = at.unkeep(index);
        if kept.is_some() {
            self.presence.entries -= 1;
        }
        if let Some(mut who) = who {
            if let Some(Kept { name, since_ms }) = kept {
                (who.name, who.since_ms) = (name, since_ms);
            }
            let at = &self.presence.watches[watch as usize];
            if parting == Parting::Grace && self.presence.has_room(at) {
                let watches = sub.watches && who.transport == Transport::Poll;
                let due = now + self.presence.grace_ms;
                let untold = watches && (sub.untold || has_told);
                let vacant = Vacant { due, who, watches, untold, told: Vec::new() };
                let at = &mut self.presence.watches[watch as usize];
                at.watchers += u32::from(watches);
                at.vacant.push_back(vacant);
                self.presence.entries += 1;
            } else {
                self.presence.note(watch, who.conn, News::Leave(who.name));
            }
        }
        self.settle_watch(watch);
    }

    /// Files when a watch has something to do next, or lets go of it if nobody is interested.
    fn settle_watch(&mut self, watch: WatchIndex) {
        let Some(at) = self.presence.watches.get(watch as usize) else { return };
        if at.watchers == 0 && at.asked_until <= self.now.mono_ms {
            return self.unwatch(watch);
        }
        let vacated = at.vacant.front().map(|vacant| vacant.due);
        let ends = (at.watchers == 0).then_some(at.asked_until);
        let due = [vacated, ends].into_iter().flatten().min();
        if let (Some(due), Some(wheel)) = (due, &mut self.presence.wheel) {
            wheel.file_no_later(watch, due);
        }
    }

    fn unwatch(&mut self, watch: WatchIndex) {
        let Some(at) = self.presence.watches.try_remove(watch as usize) else { return };
        if let Some(room) = at.room {
            self.roster.set_mark(room, None);
        }
        let presence = &mut self.presence;
        presence.by_name.remove(&at.name);
        presence.entries -= at.vacant.len() + at.kept.len();
        if let Some(wheel) = &mut presence.wheel {
            wheel.cancel(watch);
        }
        if presence.watches.is_empty() {
            presence.watches = Slab::new();
            presence.by_name = HashMap::new();
            presence.listed = VecDeque::new();
            presence.wheel = None;
        }
    }

    /// Nobody is told anything any more: everyone goes.
    fn unwatch_all(&mut self) {
        let all: Vec<_> = self.presence.watches.iter().map(|(watch, _)| watch as u32).collect();
        all.into_iter().for_each(|watch| self.unwatch(watch));
    }

    /// Lets go of those whose grace is over, and of channels that nobody watches any more.
    pub(crate) fn expire_presence(&mut self) {
        let now = self.now.mono_ms;
        let Some(wheel) = &mut self.presence.wheel else { return };
        let mut due = Vec::new();
        wheel.expire(now, self.config.timers_per_turn, &mut due);
        for watch in due {
            while let Some(at) = self.presence.watches.get_mut(watch as usize) {
                if at.vacant.front().is_none_or(|vacant| vacant.due > now) {
                    at.shrink();
                    break;
                }
                let Some(vacant) = at.vacant.pop_front() else { break };
                at.watchers -= u32::from(vacant.watches);
                self.presence.entries -= 1;
                self.presence.note(watch, vacant.who.conn, News::Leave(vacant.who.name));
            }
            self.settle_watch(watch);
        }
    }

    /// Asserts what must hold between two calls.
    pub(crate) fn check_presence(&self) {
        let presence = &self.presence;
        let mut entries = 0;
        for (watch, at) in &presence.watches {
            entries += at.vacant.len() + at.kept.len();
            assert_eq!(presence.find(&at.name), Some(watch as u32));
            let members = at.room.map_or(&[][..], |room| self.roster.members(room));
            let subs = members.iter().map(|index| {
                let subs = self.slots.get(*index).map_or(&[][..], |slot| slot.subs.as_slice());
                subs.iter().filter(|sub| Some(sub.room) == at.room && sub.watches).count()
            });
            let vacant = at.vacant.iter().filter(|vacant| vacant.watches).count();
            assert_eq!(subs.sum::<usize>() + vacant, at.watchers as usize, "{} is told", at.name);
            assert!(at.watchers > 0 || at.asked_until > 0, "{}: nobody watches", at.name);
            for (index, _) in &at.kept {
                let state = self.slots.get(*index).map(|slot| &slot.state);
                assert!(matches!(state, Some(State::Hold(_))), "a name is kept for nobody");
                assert!(members.contains(index));
            }
            for index in members {
                let Some(slot) = self.slots.get(*index) else { continue };
                let is_reminded = Transport::of(slot) == Some(Transport::Poll)
                    || slot.flags.has(Flags::UNTOLD)
                    || !slot.subs.as_slice().iter().any(|sub| sub.untold);
                assert!(is_reminded, "{}: nobody tells what was not told", at.name);
            }
            assert!(at.vacant.iter().is_sorted_by_key(|vacant| vacant.due));
            let has_due = !at.vacant.is_empty() || at.watchers == 0;
            let is_filed = presence.wheel.as_ref().is_some_and(|w| !w.is_unfiled(watch as u32));
            assert!(is_filed || !has_due, "{}: nobody looks", at.name);
        }
        assert_eq!(entries, presence.entries);
        assert_eq!(presence.watches.len(), presence.by_name.len());
        for room in self.roster.rooms() {
            let watch = presence.find(self.roster.name(room));
            assert_eq!(self.roster.mark(room), watch, "{}", self.roster.name(room));
            let at = watch.and_then(|watch| presence.watches.get(watch as usize));
            assert!(at.is_none_or(|at| at.room == Some(room)));
        }
    }
}
