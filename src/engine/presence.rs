//! Who listens to a channel, for those who want to know.
//!
//! Members are derived from the rosters and the slots; nothing is stored for them. Only a channel that
//! is *watched*, by a listener that asked to be told or by a recent question, has an entry on the
//! [`Board`], which all loops of a server share: with it come those that are gone and still count,
//! polls that are known from one request to the next, and what each loop has yet to tell.
//!
//! A room remembers whether its channel was watched when it last looked, and the board has a number
//! that is new whenever that may be different. So whoever comes and goes where nobody watches looks at
//! two numbers.

mod board;
mod list;
mod tell;

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use self::board::Board;
use self::board::{Vacant, WatchIndex, Watches};
use self::list::Gathering;
use super::core::Core;
use super::slot::{Flags, Slot, Sub};
use super::subscribe::Started;
use crate::collections::slots::ConnId;
use crate::collections::wheel::Wheel;
use crate::conn::State;
use crate::hub::RoomIndex;
use crate::wire::dialect::Presence as News;

/// How long a channel is watched after somebody asked who listens to it.
const ASKED_MS: u64 = 60_000;

/// What one loop knows besides what is on the board.
#[derive(Debug)]
pub(crate) struct Presence {
    /// Its number among the loops.
    me: u8,
    keys: [u64; 2],
    /// One entry for each watch that waits for a moment, as far as this loop knows. Only while anything
    /// is watched.
    wheel: Option<Wheel>,
    gathering: Gathering,
    /// There may be something to tell.
    has_news: bool,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    name: u64,
    since_ms: u64,
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
    pub(crate) fn new(me: u8, mut rng: fastrand::Rng) -> Self {
        let keys = [rng.u64(..), rng.u64(..)];
        Self { me, keys, wheel: None, gathering: Gathering::default(), has_news: false }
    }

    /// What it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.wheel.as_ref().map_or(0, Wheel::bytes) + self.gathering.bytes()
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
}

impl Core {
    /// Whether others have something for this loop to tell, or to answer.
    pub(crate) fn has_presence_news(&self) -> bool {
        self.common.board.has_post(self.presence.me)
    }

    pub(crate) fn presence_deadline(&self) -> Option<u64> {
        let wheel = self.presence.wheel.as_ref()?;
        // What another loop has let go of is not waited for.
        if self.common.board.version() == 0 { None } else { wheel.next_deadline() }
    }

    /// Looks at the board, which is locked meanwhile.
    fn with_board<T>(&mut self, act: impl FnOnce(&mut Self, &mut Watches) -> T) -> T {
        let board = Arc::clone(&self.common.board);
        board.with(self.presence.me, |watches| act(self, watches))
    }

    /// Whether there are other loops, which cannot see the slots of this one.
    fn has_others(&self) -> bool {
        self.common.loops > 1
    }

    /// The name under which a connection is known to clients.
    pub(crate) fn connection_name(&self, index: u32) -> u64 {
        let board = &self.common.board;
        if !self.has_others() || board.version() == 0 {
            return self.name_at(index, None);
        }
        board.with(self.presence.me, |watches| self.name_at(index, Some(watches)))
    }

    fn name_at(&self, index: u32, watches: Option<&Watches>) -> u64 {
        let Some(id) = self.slots.id(index) else { return 0 };
        let slot = self.slots.get(index);
        let is_renamed = slot.is_some_and(|slot| slot.flags.has(Flags::RENAMED));
        let is_renamed = is_renamed || watches.is_some_and(|watches| watches.is_renamed(id));
        self.presence.name_of(id, is_renamed)
    }

    /// What a connection that listens is listed as where nothing else is remembered of it.
    fn who(&self, watches: &Watches, index: u32) -> Option<Who> {
        let slot = self.slots.get(index)?;
        let listens_ms = self.now.mono_ms.saturating_sub(slot.phase.ms());
        Some(Who {
            conn: self.slots.id(index)?,
            name: self.name_at(index, Some(watches)),
            transport: Transport::of(slot)?,
            since_ms: self.now.unix_ms.saturating_sub(listens_ms),
            address: self.client_at(index),
        })
    }

    /// Whether a channel is watched, or was not when its room last looked.
    pub(crate) fn may_be_watched(&self, room: RoomIndex) -> bool {
        let version = self.common.board.version();
        // While the server goes nobody is told.
        version != 0 && !self.draining && self.roster.mark(room) != (version, None)
    }

    /// The watch of a room's channel. The room remembers what it found.
    fn watch_in(&mut self, watches: &Watches, room: RoomIndex) -> Option<WatchIndex> {
        let (seen, watch) = self.roster.mark(room);
        if seen == watches.version() {
            return watch;
        }
        let watch = watches.find(self.roster.name(room));
        self.roster.set_mark(room, (watches.version(), watch));
        watch
    }

    /// The same, for somebody who wants to watch.
    fn watch_for(&mut self, watches: &mut Watches, room: RoomIndex) -> WatchIndex {
        if let Some(watch) = self.watch_in(watches, room) {
            return watch;
        }
        let watch = self.add_watch(watches, Arc::clone(self.roster.name(room)));
        self.roster.set_mark(room, (watches.version(), Some(watch)));
        watch
    }

    fn add_watch(&mut self, watches: &mut Watches, name: Arc<str>) -> WatchIndex {
        let now = self.now.mono_ms;
        self.presence.wheel.get_or_insert_with(|| Wheel::new(now));
        watches.add(name)
    }

    /// A connection, its state set, has begun to listen. `wants`: it is told who else does.
    pub(crate) fn enter(&mut self, index: u32, started: &Started, wants: bool) {
        // While the server goes nobody is told, and subscriptions that were do not begin anew.
        if self.draining || (!wants && self.common.board.version() == 0) {
            return;
        }
        let mut rooms = started.channels.iter().map(|channel| channel.room);
        // Who has been here before may have left a place.
        let is_new = self.slots.get(index).is_none_or(|slot| slot.requests == 0);
        let is_apart = is_new || !self.has_others();
        if !wants && is_apart && !rooms.any(|room| self.may_be_watched(room)) {
            return;
        }
        self.with_board(|core, watches| {
            for channel in &started.channels {
                core.enter_room(watches, index, channel.room, wants);
            }
            if let Some(id) = core.slots.id(index) {
                watches.note_busy(id, true);
            }
        });
    }

    fn enter_room(&mut self, watches: &mut Watches, index: u32, room: RoomIndex, wants: bool) {
        let watch = if wants {
            self.watch_for(watches, room)
        } else {
            let Some(watch) = self.watch_in(watches, room) else { return };
            watch
        };
        let Some(who) = self.who(watches, index) else {
            return self.settle_watch(watches, watch);
        };
        let place = self.find_place(watches, watch, &who);
        let is_poll = who.transport == Transport::Poll;
        if wants && is_poll && place.is_none() && !watches.has_room(watch) {
            // It would come and go with each request, and answer others that do the same, for ever.
            self.mute(index, room);
        } else if wants {
            self.begin_watching(watches, index, room, watch);
        }
        match place {
            Some(place) => self.take_place(watches, index, room, watch, place, &who),
            None => watches.note(watch, who.conn, News::Join(who.name)),
        }
        self.settle_watch(watches, watch);
    }

    /// A connection that listens already wants to be told who else does.
    pub(crate) fn watch_too(&mut self, index: u32, name: &str) {
        let Some(room) = self.sub_on(index, name).map(|sub| sub.room) else { return };
        if self.draining {
            return;
        }
        self.with_board(|core, watches| {
            let watch = core.watch_for(watches, room);
            core.begin_watching(watches, index, room, watch);
        });
    }

    fn begin_watching(
        &mut self,
        watches: &mut Watches,
        index: u32,
        room: RoomIndex,
        watch: WatchIndex,
    ) {
        let me = self.presence.me;
        let Some(id) = self.slots.id(index) else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let is_poll = Transport::of(slot) == Some(Transport::Poll);
        let Some(sub) = slot.sub_in(room) else { return };
        let Some(part) = watches.get_mut(watch).map(|at| at.part(me)) else { return };
        if std::mem::replace(&mut sub.watches, true) {
            return;
        }
        part.watchers += 1;
        slot.flags.set(Flags::WATCHES);
        if !part.is_crowded {
            return;
        }
        if let (true, Some(sub)) = (is_poll, slot.sub_in(room)) {
            sub.is_mute = true;
        } else {
            part.newcomers.push(id);
            watches.list(watch, me);
        }
    }

    /// A poll is told with its answer that it is not told. No sooner, for the next would be too.
    fn mute(&mut self, index: u32, room: RoomIndex) {
        if let Some(sub) = self.slots.get_mut(index).and_then(|slot| slot.sub_in(room)) {
            sub.is_mute = true;
        }
    }

    /// The vacant place in which a connection goes on: its own, or for a poll, that of one from the
    /// same address whose connection asks for nothing more.
    fn find_place(&self, watches: &Watches, watch: WatchIndex, who: &Who) -> Option<usize> {
        let at = watches.get(watch)?;
        let is_poll = who.transport == Transport::Poll;
        match at.vacant.iter().position(|vacant| vacant.who.conn == who.conn) {
            // What is not a poll has one name on all channels.
            Some(own) => (is_poll || at.vacant[own].who.name == who.name).then_some(own),
            None if is_poll => {
                at.vacant.iter().position(|vacant| self.may_follow(watches, who, vacant))
            }
            None => None,
        }
    }

    fn may_follow(&self, watches: &Watches, who: &Who, vacant: &Vacant) -> bool {
        if vacant.who.transport != Transport::Poll || vacant.who.address != who.address {
            return false;
        }
        if vacant.who.conn.loop_number() != self.presence.me {
            return watches.may_be_followed(vacant.who.conn);
        }
        let Some(slot) = self.slots.by_id(vacant.who.conn) else { return true };
        // One that is still there needs another name from now on, and gets only one more.
        let is_renamed = slot.flags.has(Flags::RENAMED) || watches.is_renamed(vacant.who.conn);
        matches!(slot.state, State::Head(_)) && !is_renamed
    }

    fn take_place(
        &mut self,
        watches: &mut Watches,
        index: u32,
        room: RoomIndex,
        watch: WatchIndex,
        place: usize,
        who: &Who,
    ) {
        let me = self.presence.me;
        let Some(at) = watches.get_mut(watch) else { return };
        let Some(mut vacant) = at.vacant.remove(place) else { return };
        let before = vacant.who.conn;
        let owner = at.part(before.loop_number());
        owner.watchers -= u32::from(vacant.watches);
        if before.loop_number() != me {
            // What its loop has noted and not told it, it misses; what is noted here it was told there.
            vacant.untold |= vacant.watches && owner.is_listed;
            let part = at.part(me);
            if part.is_listed {
                part.exempt.push(who.conn);
            }
        }
        let kept = Kept { name: vacant.who.name, since_ms: vacant.who.since_ms };
        if who.transport == Transport::Poll {
            at.part(me).keep(index, kept);
        } else {
            watches.entries -= 1;
        }
        if let Some(at) = watches.get_mut(watch) {
            at.shrink();
        }
        if before != who.conn {
            // Whoever loses its place goes by another name, if it ever comes back.
            watches.rename(before);
            if let Some(slot) = self.slots.find(before).and_then(|index| self.slots.get_mut(index))
            {
                slot.flags.set(Flags::RENAMED);
            }
        }
        watches.witness(watch, Who { name: kept.name, since_ms: kept.since_ms, ..*who });
        self.hand_over(index, room, vacant);
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

    /// A connection, its state still what it was, stops listening to a channel that may be watched.
    pub(crate) fn part(&mut self, index: u32, sub: &Sub, parting: Parting) {
        self.with_board(|core, watches| {
            if let Some(watch) = core.watch_in(watches, sub.room) {
                core.part_from(watches, index, watch, sub, parting);
            }
        });
    }

    fn part_from(
        &mut self,
        watches: &mut Watches,
        index: u32,
        watch: WatchIndex,
        sub: &Sub,
        parting: Parting,
    ) {
        let me = self.presence.me;
        let who = self.who(watches, index);
        let has_told = self.slots.get(index).is_some_and(Slot::has_told);
        let Some(part) = watches.get_mut(watch).map(|at| at.part(me)) else { return };
        part.watchers -= u32::from(sub.watches);
        let kept = part.unkeep(index);
        watches.entries -= usize::from(kept.is_some());
        if let Some(mut who) = who {
            if let Some(Kept { name, since_ms }) = kept {
                (who.name, who.since_ms) = (name, since_ms);
            }
            if parting == Parting::Grace && watches.has_room(watch) {
                let is_watching = sub.watches && who.transport == Transport::Poll;
                let untold = is_watching && (sub.untold || has_told);
                self.vacate(watches, watch, who, is_watching, untold);
            } else {
                watches.note(watch, who.conn, News::Leave(who.name));
            }
        }
        self.settle_watch(watches, watch);
    }

    /// A connection leaves a place in which it, or another, may go on.
    fn vacate(
        &self,
        watches: &mut Watches,
        watch: WatchIndex,
        who: Who,
        is_watching: bool,
        untold: bool,
    ) {
        let due = self.now.mono_ms + watches.grace_ms;
        if who.transport == Transport::Poll {
            let slot = self.slots.by_id(who.conn);
            let is_renamed = slot.is_some_and(|slot| slot.flags.has(Flags::RENAMED));
            watches.note_rest(who.conn, is_renamed);
        }
        let Some(at) = watches.get_mut(watch) else { return };
        at.part(self.presence.me).watchers += u32::from(is_watching);
        at.vacate(Vacant { due, who, watches: is_watching, untold, told: Vec::new() });
        watches.entries += 1;
    }

    /// A connection has ceased to listen: who comes from its address may take the places it left.
    pub(crate) fn rest_presence(&mut self, index: u32) {
        if !self.has_others() || self.draining || self.common.board.version() == 0 {
            return;
        }
        if let Some(id) = self.slots.id(index) {
            self.with_board(|_, watches| watches.note_busy(id, false));
        }
    }

    /// A connection is gone.
    pub(crate) fn forget_presence(&mut self, id: ConnId) {
        if self.has_others() && !self.draining && self.common.board.version() != 0 {
            self.with_board(|_, watches| watches.forget(id));
        }
    }

    /// Files when a watch has something to do next, or lets go of it if nobody is interested.
    fn settle_watch(&mut self, watches: &mut Watches, watch: WatchIndex) {
        let now = self.now.mono_ms;
        let Some(at) = watches.get(watch) else { return };
        let watchers = at.watchers();
        if watchers == 0 && at.asked_until <= now {
            watches.remove(watch);
            if let Some(wheel) = &mut self.presence.wheel {
                wheel.cancel(watch);
            }
            if watches.len() == 0 {
                self.presence.wheel = None;
            }
            return;
        }
        let vacated = at.vacant.front().map(|vacant| vacant.due);
        let ends = (watchers == 0).then_some(at.asked_until);
        if let Some(due) = [vacated, ends].into_iter().flatten().min() {
            let wheel = self.presence.wheel.get_or_insert_with(|| Wheel::new(now));
            wheel.file_no_later(watch, due);
        }
    }

    /// The loop begins.
    pub(crate) fn attach_presence(&mut self) {
        let me = self.presence.me;
        self.with_board(|_, watches| watches.attach(me));
    }

    /// The loop ends, whatever its connections were in the middle of.
    pub(crate) fn detach_presence(&mut self) {
        self.leave_presence();
        let me = self.presence.me;
        self.with_board(|_, watches| watches.detach(me));
    }

    /// Nobody here is told anything any more, nor anybody of those who are here: everyone goes.
    pub(crate) fn leave_presence(&mut self) {
        let me = self.presence.me;
        self.with_board(|_, watches| watches.leave(me));
        self.presence.wheel = None;
    }

    /// Lets go of those whose grace is over, and of channels that nobody watches any more.
    pub(crate) fn expire_presence(&mut self) {
        let now = self.now.mono_ms;
        let Some(wheel) = &mut self.presence.wheel else { return };
        let mut due = Vec::new();
        wheel.expire(now, self.config.timers_per_turn, &mut due);
        if due.is_empty() {
            return;
        }
        self.with_board(|core, watches| {
            for watch in due {
                expire_watch(watches, watch, now);
                core.settle_watch(watches, watch);
            }
            if watches.len() == 0 {
                core.presence.wheel = None;
            }
        });
    }

    /// Asserts what must hold between two calls.
    pub(crate) fn check_presence(&self) {
        let board = &self.common.board;
        board.with(self.presence.me, |watches| {
            watches.check();
            if !self.draining {
                watches.iter().for_each(|(watch, at)| self.check_watch(watches, watch, at));
            }
            for room in self.roster.rooms() {
                let (seen, watch) = self.roster.mark(room);
                if seen != 0 && seen == watches.version() {
                    assert_eq!(watch, watches.find(self.roster.name(room)));
                }
            }
        });
    }

    fn check_watch(&self, watches: &Watches, watch: WatchIndex, at: &board::Watch) {
        let me = self.presence.me;
        let room = self.room_of(&at.name);
        let members = room.map_or(&[][..], |room| self.roster.members(room));
        let subs = members.iter().map(|index| {
            let subs = self.slots.get(*index).map_or(&[][..], |slot| slot.subs.as_slice());
            subs.iter().filter(|sub| Some(sub.room) == room && sub.watches).count()
        });
        let is_own = |vacant: &&Vacant| vacant.who.conn.loop_number() == me;
        let vacant = at.vacant.iter().filter(is_own).filter(|vacant| vacant.watches).count();
        let watchers = at.part_of(me).map_or(0, |part| part.watchers);
        assert_eq!(subs.sum::<usize>() + vacant, watchers as usize, "{} is told", at.name);
        for index in at.part_of(me).into_iter().flat_map(board::Part::all_kept) {
            let state = self.slots.get(index).map(|slot| &slot.state);
            assert!(matches!(state, Some(State::Hold(_))), "a name is kept for nobody");
            assert!(members.contains(&index));
        }
        for index in members {
            let Some(slot) = self.slots.get(*index) else { continue };
            let is_reminded = Transport::of(slot) == Some(Transport::Poll)
                || slot.flags.has(Flags::UNTOLD)
                || !slot.subs.as_slice().iter().any(|sub| sub.untold);
            assert!(is_reminded, "{}: nobody tells what was not told", at.name);
        }
        let is_alone = watches.is_alone() && at.watchers() == 0;
        let has_due = at.vacant.iter().any(|vacant| is_own(&vacant)) || is_alone;
        let is_filed = self.presence.wheel.as_ref().is_some_and(|w| !w.is_unfiled(watch));
        assert!(is_filed || !has_due, "{}: nobody looks", at.name);
        let part = at.part_of(me).filter(|part| part.is_listed);
        assert!(part.is_none() || watches.is_listed(watch, me), "{}: nobody tells", at.name);
    }

    /// The room of a channel by name, if anyone here listens to it.
    fn room_of(&self, name: &str) -> Option<RoomIndex> {
        self.history.find(name).and_then(|channel| self.roster.room(channel))
    }
}

/// Those whose grace is over have left, whichever loop they were on.
fn expire_watch(watches: &mut Watches, watch: WatchIndex, now: u64) {
    while let Some(at) = watches.get_mut(watch) {
        if at.vacant.front().is_none_or(|vacant| vacant.due > now) {
            return at.shrink();
        }
        let Some(vacant) = at.vacant.pop_front() else { return };
        let who = vacant.who;
        at.part(who.conn.loop_number()).watchers -= u32::from(vacant.watches);
        watches.entries -= 1;
        watches.note(watch, who.conn, News::Leave(who.name));
    }
}
