//! What has changed is told once a turn, channel by channel: rendered once a dialect, as own bytes of
//! each watcher, and never more than half of what may wait for one.

use std::borrow::Cow;
use std::sync::Arc;

use super::board::{Change, Vacant, WatchIndex, Watches};
use crate::collections::slots::ConnId;
use crate::engine::core::Core;
use crate::engine::slot::{Flags, Slot};
use crate::hub::RoomIndex;
use crate::wire::dialect::{Dialect, Presence as News};

/// Changes, times those who are told: what one turn does before the rest waits for the next. If one
/// channel alone has more, its watchers are told that they are not told.
const TOLD_PER_TURN: usize = 16_384;
/// What is kept for a poll that is to be told, between two requests.
const VACANT_TOLD_MAX: usize = 512;

/// What is told at once about one channel.
struct Telling {
    name: Arc<str>,
    changes: Vec<Change>,
    batches: Vec<Batch>,
}

/// The changes in one dialect.
struct Batch {
    dialect: Dialect,
    bytes: Vec<u8>,
    /// Where each change ends in `bytes`.
    ends: Vec<usize>,
}

/// What there is to tell about one channel.
struct Listed {
    telling: Telling,
    /// Who came while there were too many, if these alone are to be told: others know.
    newcomers: Option<Vec<ConnId>>,
    /// Who knows all of this already.
    exempt: Vec<ConnId>,
    /// Who knows a part of it, and is told that it missed something.
    behind: Vec<ConnId>,
    cost: usize,
}

impl Core {
    /// Tells what has changed since the last turn.
    pub(crate) fn tell_presence(&mut self) {
        if !std::mem::take(&mut self.presence.has_news) || self.draining {
            return;
        }
        let me = self.presence.me;
        let mut left = TOLD_PER_TURN;
        while let Some(watch) = self.with_board(|_, watches| watches.next_listed(me)) {
            match self.tell_watch(watch, left) {
                Some(cost) => left = left.saturating_sub(cost),
                None => return self.with_board(|_, watches| watches.relist(watch, me)),
            }
        }
    }

    /// Tells the watchers of one channel; what that cost, or `None` if it is more than is left.
    fn tell_watch(&mut self, watch: WatchIndex, left: usize) -> Option<usize> {
        let listed = self.with_board(|core, watches| core.take_listed(watches, watch, left));
        let Some(Listed { mut telling, newcomers, mut exempt, behind, cost }) = listed? else {
            return Some(0);
        };
        let room = self.room_of(&telling.name);
        behind.iter().for_each(|id| self.note_missed(watch, room, *id));
        exempt.extend(behind);
        let Some(newcomers) = newcomers else {
            self.tell_all(watch, room, &exempt, &mut telling);
            return Some(cost);
        };
        for (id, room) in newcomers.into_iter().zip(room.into_iter().cycle()) {
            if let Some(index) = self.slots.find(id) {
                self.tell_member(index, room, &mut telling);
                self.weigh(index);
            }
        }
        Some(0)
    }

    /// What this loop has to tell of a channel; `None` if that is more than is left.
    fn take_listed(
        &self,
        watches: &mut Watches,
        watch: WatchIndex,
        left: usize,
    ) -> Option<Option<Listed>> {
        let most = watches.members_max;
        let Some(at) = watches.get_mut(watch) else { return Some(None) };
        let (name, vacant) = (Arc::clone(&at.name), at.vacant.len());
        let room = self.room_of(&name);
        let listeners = room.map_or(0, |room| self.roster.members(room).len());
        let members = vacant
            + match self.has_others() {
                // The program's own subscriptions are among them, which are no members: nearly right.
                true => self.history.subscribers(&name) as usize,
                false => listeners,
            };
        let part = at.part(self.presence.me);
        let (watchers, was_crowded) = (part.watchers as usize, part.is_crowded);
        // It ends well below where it began, or it would begin and end with each who comes and goes.
        let most = if was_crowded { most - most / 8 } else { most };
        let is_crowded = members > most;
        let one_by_one = part.changes.len() * watchers;
        let is_untold = is_crowded || was_crowded || part.is_flooded || one_by_one > TOLD_PER_TURN;
        let cost = if is_untold { watchers } else { one_by_one } + listeners / 8;
        if cost > left && left < TOLD_PER_TURN {
            return None;
        }
        (part.is_listed, part.is_flooded, part.is_crowded) = (false, false, is_crowded);
        let mut changes = std::mem::take(&mut part.changes);
        let newcomers = std::mem::take(&mut part.newcomers);
        let mut exempt = std::mem::take(&mut part.exempt);
        let mut behind = std::mem::take(&mut part.behind);
        if is_untold {
            // Nobody was told this elsewhere.
            exempt.clear();
            behind.clear();
            changes.clear();
            changes.push(Change { conn: None, news: News::Untold { more: is_crowded } });
        }
        let telling = Telling { name, changes, batches: Vec::new() };
        let newcomers = (is_crowded && was_crowded).then_some(newcomers);
        Some(Some(Listed { telling, newcomers, exempt, behind, cost }))
    }

    /// A poll that came from another loop, or the place that it has left, missed something here.
    fn note_missed(&mut self, watch: WatchIndex, room: Option<RoomIndex>, id: ConnId) {
        let index = self.slots.find(id);
        if let (Some(room), Some(index)) = (room, index) {
            let sub = self.slots.get_mut(index).and_then(|slot| slot.sub_in(room));
            if let Some(sub) = sub.filter(|sub| sub.watches) {
                sub.untold = true;
                return self.mark(index);
            }
        }
        self.with_board(|_, watches| {
            let Some(at) = watches.get_mut(watch) else { return };
            let left = at.vacant.iter_mut().find(|vacant| vacant.who.conn == id);
            if let Some(vacant) = left.filter(|vacant| vacant.watches) {
                vacant.untold = true;
            }
        });
    }

    fn tell_all(
        &mut self,
        watch: WatchIndex,
        room: Option<RoomIndex>,
        exempt: &[ConnId],
        telling: &mut Telling,
    ) {
        let me = self.presence.me;
        self.with_board(|_, watches| {
            let Some(at) = watches.get_mut(watch) else { return };
            let is_own = |vacant: &&mut Vacant| vacant.who.conn.loop_number() == me;
            let own = at.vacant.iter_mut().filter(is_own);
            let is_told = |conn: ConnId| !exempt.contains(&conn);
            for vacant in own.filter(|vacant| vacant.watches && is_told(vacant.who.conn)) {
                let objects = telling.of(Dialect::Poll, vacant.who.conn);
                if vacant.told.len() + objects.len() < VACANT_TOLD_MAX {
                    append(&mut vacant.told, &objects);
                } else {
                    vacant.untold = true;
                }
            }
        });
        let Some(room) = room else { return };
        // Nobody comes or goes by being told.
        for place in 0..self.roster.members(room).len() {
            let index = self.roster.members(room)[place];
            let is_told = |id: ConnId| !exempt.contains(&id);
            let watches = |slot: &Slot| slot.flags.has(Flags::WATCHES);
            if self.slots.get(index).is_some_and(watches)
                && self.slots.id(index).is_some_and(is_told)
            {
                self.tell_member(index, room, telling);
                self.weigh(index);
            }
        }
    }

    /// Tells one listener, if it is to be told.
    fn tell_member(&mut self, index: u32, room: RoomIndex, telling: &mut Telling) {
        let half = self.config.outbox_bytes_max / 2;
        let Some(id) = self.slots.id(index) else { return };
        let has_room = self.has_room(half);
        let Some(slot) = self.slots.get_mut(index) else { return };
        if !slot.flags.has(Flags::WATCHES) {
            return;
        }
        let Some(dialect) = slot.dialect() else { return };
        let is_kept = slot.is_stuck();
        // What is about presence alone stays so, however many channels it is about.
        let is_aside = slot.own_len() == 0 || slot.flags.has(Flags::ASIDE);
        let waiting = slot.own_len() + slot.extra.as_ref().map_or(0, |extra| extra.told.len());
        let Some(sub) = slot.sub_in(room).filter(|sub| sub.watches) else { return };
        let bytes = telling.of(dialect, id);
        if bytes.is_empty() {
            return;
        }
        let fits = waiting + bytes.len() <= half && (!is_kept || has_room);
        if dialect == Dialect::Poll {
            if fits {
                append(&mut slot.extra().told, &bytes);
            } else {
                sub.untold = true;
            }
            return self.mark(index);
        }
        sub.untold |= !fits;
        if !fits && waiting > 0 {
            return slot.flags.set(Flags::UNTOLD);
        }
        // Where nothing waits, nothing that leaves would remind of it.
        self.tell_untold(index);
        if fits {
            self.reply(index, |out| out.extend_from_slice(&bytes));
        }
        if let (true, Some(slot)) = (is_aside, self.slots.get_mut(index)) {
            slot.flags.set(Flags::ASIDE);
        }
    }

    /// A listener for which too much waited is told that it missed something.
    pub(crate) fn tell_untold(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.flags.clear(Flags::UNTOLD);
        if !slot.subs.as_slice().iter().any(|sub| sub.untold) {
            return;
        }
        let Some(dialect) = slot.dialect() else { return };
        let subs = slot.subs.as_mut_slice().iter_mut();
        let rooms: Vec<_> =
            subs.filter_map(|sub| std::mem::take(&mut sub.untold).then_some(sub.room)).collect();
        for room in rooms {
            let news = self.untold_in(room);
            let name = Arc::clone(self.roster.name(room));
            self.reply(index, |out| dialect.presence(out, &name, news));
        }
    }

    fn untold_in(&self, room: RoomIndex) -> News {
        let (board, me) = (&self.common.board, self.presence.me);
        let more = board.version() != 0
            && board.with(me, |watches| {
                let watch = watches.find(self.roster.name(room));
                let part = watch.and_then(|watch| watches.get(watch)?.part_of(me));
                part.is_some_and(|part| part.is_crowded)
            });
        News::Untold { more }
    }

    /// What the answer to a held poll says of who listens: objects with commas between them.
    pub(crate) fn told_of(&self, index: u32) -> Vec<u8> {
        let Some(slot) = self.slots.get(index) else { return Vec::new() };
        let mut told = slot.extra.as_ref().map_or(Vec::new(), |extra| extra.told.clone());
        for sub in slot.subs.as_slice().iter().filter(|sub| sub.untold || sub.is_mute) {
            let mut object = Vec::new();
            let mute = News::Untold { more: true };
            let news = if sub.is_mute { mute } else { self.untold_in(sub.room) };
            news.write_json(&mut object, self.roster.name(sub.room));
            append(&mut told, &object);
        }
        told
    }
}

impl Telling {
    /// All of it in a dialect, but for what is about the connection that is told.
    fn of(&mut self, dialect: Dialect, to: ConnId) -> Cow<'_, [u8]> {
        let at = match self.batches.iter().position(|batch| batch.dialect == dialect) {
            Some(at) => at,
            None => self.render(dialect),
        };
        let Batch { bytes, ends, .. } = &self.batches[at];
        let is_own = |change: &Change| change.conn == Some(to);
        if !self.changes.iter().any(is_own) {
            return Cow::Borrowed(bytes);
        }
        let (mut others, mut start) = (Vec::new(), 0);
        for (change, end) in self.changes.iter().zip(ends) {
            if !is_own(change) {
                // What separates an object from the one before it may have gone with that.
                let piece = &bytes[start..*end];
                let has_comma = dialect == Dialect::Poll && start > 0 && others.is_empty();
                others.extend_from_slice(&piece[usize::from(has_comma)..]);
            }
            start = *end;
        }
        Cow::Owned(others)
    }

    fn render(&mut self, dialect: Dialect) -> usize {
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(self.changes.len()));
        for change in &self.changes {
            if dialect == Dialect::Poll && !bytes.is_empty() {
                bytes.push(b',');
            }
            dialect.presence(&mut bytes, &self.name, change.news);
            ends.push(bytes.len());
        }
        self.batches.push(Batch { dialect, bytes, ends });
        self.batches.len() - 1
    }
}

/// Appends objects to others, with a comma between them.
pub(super) fn append(told: &mut Vec<u8>, objects: &[u8]) {
    if !told.is_empty() && !objects.is_empty() {
        told.push(b',');
    }
    told.extend_from_slice(objects);
}
