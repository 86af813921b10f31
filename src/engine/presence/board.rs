//! What all loops of a server know of who wants to know: the channels that are watched, under one lock.
//!
//! Nobody takes it for a channel that is not watched. A loop notes changes for every loop on which
//! somebody is to be told, and wakes it. It knows no connection beyond its id.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use slab::Slab;

use super::{Kept, Who};
use crate::collections::slots::ConnId;
use crate::config::Config;
use crate::hub::History;
use crate::message::map_bytes;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard};
use crate::wire::dialect::Presence as News;

/// A channel's place in the table of those that are watched.
pub(crate) type WatchIndex = u32;

/// Changes of one channel that are told one by one in a turn.
const CHANGES_MAX: usize = 256;

/// The table, and what is seen of it without its lock.
#[derive(Debug)]
pub(crate) struct Board {
    watches: Mutex<Watches>,
    /// 0 while nothing is watched; else a number that is new with every change of what is.
    version: AtomicUsize,
    /// By loop: there is something for it to look at.
    posted: Vec<AtomicBool>,
    /// Has everyone's bells, and the budget.
    history: Arc<History>,
}

/// The channels that are watched, and what the loops have to tell each other.
#[derive(Debug)]
pub(super) struct Watches {
    pub(super) grace_ms: u64,
    pub(super) members_max: usize,
    pub(super) entries_max: usize,
    watches: Slab<Watch>,
    by_name: HashMap<Arc<str>, WatchIndex>,
    /// All that is vacant or kept.
    pub(super) entries: usize,
    /// By loop: the watches with something to tell there.
    listed: Vec<VecDeque<WatchIndex>>,
    /// Of connections that have left a place which one on another loop might take.
    notes: HashMap<ConnId, Note>,
    /// By the loop that asks: who listens on the others?
    pub(super) questions: Vec<Option<Question>>,
    /// How many engines there are, by loop.
    attached: Vec<u32>,
    /// Changes with what is watched.
    serial: u32,
    /// Loops that are to look.
    posts: Vec<u8>,
    /// What the budget was told last.
    told: usize,
}

/// A channel that somebody watches.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) name: Arc<str>,
    /// Until when it is watched without watchers (monotonic ms).
    pub(super) asked_until: u64,
    /// Those that are gone and still count, in the order in which they cease to.
    pub(super) vacant: VecDeque<Vacant>,
    /// By loop; shorter where the last loops have no part in it.
    parts: Vec<Part>,
}

/// What one loop has to do with a channel that is watched.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Subscriptions, and vacant places, that are told.
    pub(super) watchers: u32,
    /// Polls that go on under a name and time that they had before, by slot.
    kept: Vec<(u32, Kept)>,
    /// What has changed since this loop told it last.
    pub(super) changes: Vec<Change>,
    /// More has than is told one by one.
    pub(super) is_flooded: bool,
    pub(super) is_listed: bool,
    /// There are too many members to tell their coming and going.
    pub(super) is_crowded: bool,
    /// Watchers that came while it was, and have not been told so.
    pub(super) newcomers: Vec<ConnId>,
    /// Polls that came from another loop, which has told them what is noted here.
    pub(super) exempt: Vec<ConnId>,
    /// Those of them that do not know all of it: more was noted behind what they were told.
    pub(super) behind: Vec<ConnId>,
}

/// The place of a connection that is gone, or of a poll between two requests.
#[derive(Debug)]
pub(super) struct Vacant {
    pub(super) due: u64,
    pub(super) who: Who,
    /// A poll that is told, and what it was not told yet: objects with commas between them.
    pub(super) watches: bool,
    pub(super) untold: bool,
    pub(super) told: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// Whose, if it is one's.
    pub(super) conn: Option<ConnId>,
    pub(super) news: News,
}

/// What other loops must know of a connection that is still there, to let another take its place.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    /// It listens to something under its name.
    is_busy: bool,
    /// Another goes on under the name that it had.
    is_renamed: bool,
}

/// A loop asks the others who listens to a channel.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) channel: Arc<str>,
    pub(super) members: Vec<Who>,
    /// How many listen on the loops that have answered.
    pub(super) listeners: usize,
    names: HashSet<u64>,
    /// Loops that have not answered.
    pending: Vec<u8>,
}

impl Question {
    pub(super) fn new(channel: Arc<str>) -> Self {
        let (members, names, pending) = (Vec::new(), HashSet::new(), Vec::new());
        Self { channel, members, listeners: 0, names, pending }
    }

    /// Notes a member, once, unless there are so many that one more would not be listed.
    pub(super) fn add(&mut self, who: Who, most: usize) {
        if self.members.len() < most && self.names.insert(who.name) {
            self.members.push(who);
        }
    }

    /// Whether this loop has yet to answer.
    pub(super) fn waits_for(&self, me: u8) -> bool {
        self.pending.contains(&me)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.pending.is_empty()
    }
}

impl Board {
    pub(crate) fn new(config: &Config, history: Arc<History>, loops: usize) -> Self {
        let watches = Watches {
            grace_ms: config.presence_grace.as_millis() as u64,
            members_max: config.presence_members_max,
            entries_max: config.presence_entries_max,
            watches: Slab::new(),
            by_name: HashMap::new(),
            entries: 0,
            listed: (0..loops).map(|_| VecDeque::new()).collect(),
            notes: HashMap::new(),
            questions: (0..loops).map(|_| None).collect(),
            attached: vec![0; loops],
            serial: 1,
            posts: Vec::new(),
            told: 0,
        };
        let posted = (0..loops).map(|_| AtomicBool::new(false)).collect();
        Self { watches: Mutex::new(watches), version: AtomicUsize::new(0), posted, history }
    }

    /// Looks at the table for this loop, and lets the others know what was changed for them.
    pub(super) fn with<T>(&self, me: u8, act: impl FnOnce(&mut Watches) -> T) -> T {
        let mut watches = self.lock();
        let done = act(&mut watches);
        self.settle(me, watches);
        done
    }

    #[inline(never)] // as what follows: once, not in each of the many that look
    fn lock(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline(never)]
    fn settle(&self, me: u8, mut watches: MutexGuard<'_, Watches>) {
        let bytes = watches.bytes();
        let told = std::mem::replace(&mut watches.told, bytes);
        if bytes != told {
            self.history.hold(told, bytes);
        }
        let version = watches.version() as usize;
        if version != self.version.load(Ordering::Relaxed) {
            self.version.store(version, Ordering::SeqCst);
        }
        let posts = std::mem::take(&mut watches.posts);
        posts.iter().for_each(|number| self.post(*number));
        drop(watches);
        if posts.iter().any(|number| *number != me) {
            self.history.ring();
        }
    }

    /// Has a loop look.
    pub(super) fn post(&self, number: u8) {
        if let Some(posted) = self.posted.get(usize::from(number)) {
            posted.store(true, Ordering::SeqCst);
        }
    }

    /// Whether there is something for a loop to look at.
    pub(super) fn has_post(&self, me: u8) -> bool {
        self.posted.get(usize::from(me)).is_some_and(|posted| posted.load(Ordering::SeqCst))
    }

    /// The same, and that it looks.
    pub(super) fn take_post(&self, me: u8) -> bool {
        // Nearly always there is nothing: a load is cheaper than a swap.
        self.has_post(me) && self.posted[usize::from(me)].swap(false, Ordering::SeqCst)
    }

    /// 0 while nothing is watched; else a number that is new with every change of what is.
    pub(super) fn version(&self) -> u32 {
        self.version.load(Ordering::SeqCst) as u32
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // The order may live on.
        let told = self.with(0, |watches| watches.told);
        self.history.hold(told, 0);
    }
}

impl Watches {
    /// What the tables take, about.
    fn bytes(&self) -> usize {
        let parts = self.watches.len() * self.attached.len() * size_of::<Part>();
        let watches = self.watches.capacity() * size_of::<Watch>() + parts;
        let questions = self.questions.iter().flatten();
        let members = questions.map(|question| question.members.len()).sum::<usize>();
        watches
            + self.entries * size_of::<Vacant>()
            + members * (size_of::<Who>() + 2 * size_of::<u64>())
            + match self.notes.capacity() {
                0 => 0,
                capacity => map_bytes(capacity, size_of::<(ConnId, Note)>()),
            }
    }

    pub(super) fn version(&self) -> u32 {
        if self.watches.is_empty() { 0 } else { self.serial }
    }

    pub(super) fn len(&self) -> usize {
        self.watches.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (WatchIndex, &Watch)> {
        self.watches.iter().map(|(watch, at)| (watch as WatchIndex, at))
    }

    pub(super) fn get(&self, watch: WatchIndex) -> Option<&Watch> {
        self.watches.get(watch as usize)
    }

    pub(super) fn get_mut(&mut self, watch: WatchIndex) -> Option<&mut Watch> {
        self.watches.get_mut(watch as usize)
    }

    pub(super) fn find(&self, name: &str) -> Option<WatchIndex> {
        self.by_name.get(name).copied()
    }

    pub(super) fn add(&mut self, name: Arc<str>) -> WatchIndex {
        self.change();
        let watch = Watch {
            name: Arc::clone(&name),
            asked_until: 0,
            vacant: VecDeque::new(),
            parts: Vec::new(),
        };
        let watch = self.watches.insert(watch) as WatchIndex;
        self.by_name.insert(name, watch);
        watch
    }

    pub(super) fn remove(&mut self, watch: WatchIndex) {
        let Some(at) = self.watches.try_remove(watch as usize) else { return };
        self.change();
        self.by_name.remove(&at.name);
        self.entries -= at.vacant.len() + at.kept_len();
        if self.watches.is_empty() {
            self.watches = Slab::new();
            self.by_name = HashMap::new();
            self.notes = HashMap::new();
            self.listed.iter_mut().for_each(|listed| *listed = VecDeque::new());
        }
    }

    /// What is watched is about to change. 0 stands for nothing.
    fn change(&mut self) {
        self.serial = self.serial.wrapping_add(1).max(1);
    }

    /// Whether one more place can be remembered for a channel.
    pub(super) fn has_room(&self, watch: WatchIndex) -> bool {
        self.get(watch).is_some_and(|at| {
            self.grace_ms > 0
                && self.entries < self.entries_max
                && at.vacant.len() + at.kept_len() < self.members_max
        })
    }

    /// Notes a change for those who are to be told. What comes and goes before they are was never
    /// there.
    pub(super) fn note(&mut self, watch: WatchIndex, conn: ConnId, news: News) {
        let Some(at) = self.watches.get_mut(watch as usize) else { return };
        let undone = match news {
            News::Join(name) => News::Leave(name),
            News::Leave(name) => News::Join(name),
            News::Untold { .. } => return,
        };
        for number in 0..at.parts.len() {
            let part = &mut at.parts[number];
            if part.watchers == 0 {
                continue;
            }
            part.behind.append(&mut part.exempt);
            if let Some(found) = part.changes.iter().position(|change| change.news == undone) {
                part.changes.remove(found);
            } else if part.changes.len() < CHANGES_MAX {
                part.changes.push(Change { conn: Some(conn), news });
            } else {
                part.is_flooded = true;
            }
            if !std::mem::replace(&mut part.is_listed, true) {
                self.listed[number].push_back(watch);
                self.posts.push(number as u8);
            }
        }
    }

    /// Puts a watch on the list of those with something to tell on a loop.
    pub(super) fn list(&mut self, watch: WatchIndex, me: u8) {
        let Some(at) = self.watches.get_mut(watch as usize) else { return };
        if !std::mem::replace(&mut at.part(me).is_listed, true) {
            self.listed[usize::from(me)].push_back(watch);
            self.posts.push(me);
        }
    }

    /// The next watch with something to tell on a loop.
    pub(super) fn next_listed(&mut self, me: u8) -> Option<WatchIndex> {
        self.listed[usize::from(me)].pop_front()
    }

    /// The first of the list again: there was no time for it.
    pub(super) fn relist(&mut self, watch: WatchIndex, me: u8) {
        self.listed[usize::from(me)].push_front(watch);
        self.posts.push(me);
    }

    /// A place of a connection that is still there is vacant, until it listens again. Another loop
    /// sees no more of it than this.
    pub(super) fn note_rest(&mut self, conn: ConnId, is_renamed: bool) {
        if self.attached.len() > 1 {
            let note = self.notes.entry(conn).or_default();
            note.is_renamed |= is_renamed;
        }
    }

    /// A connection that has left a place begins to listen, or ceases to.
    pub(super) fn note_busy(&mut self, conn: ConnId, is_busy: bool) {
        if let Some(note) = self.notes.get_mut(&conn) {
            note.is_busy = is_busy;
        }
    }

    /// A connection is gone: whoever takes its place now takes it from nobody.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.notes.remove(&conn);
    }

    /// Another connection goes on under the name that this one had, if it is still there.
    pub(super) fn rename(&mut self, conn: ConnId) {
        if let Entry::Occupied(mut note) = self.notes.entry(conn) {
            note.get_mut().is_renamed = true;
        }
    }

    pub(super) fn is_renamed(&self, conn: ConnId) -> bool {
        self.notes.get(&conn).is_some_and(|note| note.is_renamed)
    }

    /// Whether a place that a connection of another loop has left may be taken: one that is there
    /// needs another name from now on, and gets only one more.
    pub(super) fn may_be_followed(&self, conn: ConnId) -> bool {
        self.notes.get(&conn).is_none_or(|note| !note.is_busy && !note.is_renamed)
    }

    /// Asks all other loops who listens.
    pub(super) fn ask(&mut self, me: u8, mut question: Question) {
        for (number, attached) in self.attached.iter().enumerate() {
            if *attached > 0 && number != usize::from(me) {
                question.pending.push(number as u8);
            }
        }
        if question.is_answered() {
            self.posts.push(me);
        } else {
            self.posts.extend_from_slice(&question.pending);
        }
        self.questions[usize::from(me)] = Some(question);
        (0..self.questions.len()).for_each(|asker| self.add_vacant(asker));
    }

    /// A loop has answered a question: those between two requests count as well.
    pub(super) fn answered(&mut self, asker: usize, me: u8) {
        let Some(question) = &mut self.questions[asker] else { return };
        question.pending.retain(|number| *number != me);
        if question.is_answered() {
            self.posts.push(asker as u8);
        }
        self.add_vacant(asker);
    }

    /// Notes for a question who is in no loop's list at this moment.
    fn add_vacant(&mut self, asker: usize) {
        let Some(question) = &mut self.questions[asker] else { return };
        let watch = self.by_name.get(&question.channel).copied();
        let Some(at) = watch.and_then(|watch| self.watches.get(watch as usize)) else { return };
        at.vacant.iter().for_each(|vacant| question.add(vacant.who, self.members_max));
    }

    /// A place was taken while somebody asks: whoever answered before has not seen who took it.
    pub(super) fn witness(&mut self, watch: WatchIndex, who: Who) {
        let Some(at) = self.watches.get(watch as usize) else { return };
        let questions = self.questions.iter_mut().flatten();
        for question in questions.filter(|question| question.channel == at.name) {
            question.add(who, self.members_max);
        }
    }

    /// A loop begins.
    pub(super) fn attach(&mut self, me: u8) {
        self.attached[usize::from(me)] += 1;
    }

    /// A loop ends: nobody waits for its answer.
    pub(super) fn detach(&mut self, me: u8) {
        self.attached[usize::from(me)] -= 1;
        self.questions[usize::from(me)] = None;
        (0..self.questions.len()).for_each(|asker| {
            if self.questions[asker].as_ref().is_some_and(|question| question.waits_for(me)) {
                self.answered(asker, me);
            }
        });
    }

    /// A loop tells nobody any more, and nobody is told of it. What is watched for others stays.
    pub(super) fn leave(&mut self, me: u8) {
        let all: Vec<_> = self.iter().map(|(watch, _)| watch).collect();
        for watch in all {
            let Some(at) = self.watches.get_mut(watch as usize) else { continue };
            let before = at.vacant.len() + at.kept_len();
            at.vacant.retain(|vacant| vacant.who.conn.loop_number() != me);
            *at.part(me) = Part::default();
            self.entries -= before - at.vacant.len() - at.kept_len();
            if at.watchers() == 0 {
                self.remove(watch);
            }
        }
        self.notes.retain(|conn, _| conn.loop_number() != me);
        self.listed[usize::from(me)] = VecDeque::new();
    }

    /// Whether there is only one loop.
    pub(super) fn is_alone(&self) -> bool {
        self.attached.len() == 1
    }

    pub(super) fn is_listed(&self, watch: WatchIndex, me: u8) -> bool {
        self.listed[usize::from(me)].contains(&watch)
    }

    /// Asserts that what is counted is what there is.
    pub(super) fn check(&self) {
        let entries = self.iter().map(|(_, at)| at.vacant.len() + at.kept_len()).sum::<usize>();
        assert_eq!(entries, self.entries);
        assert!(self.entries <= self.entries_max);
        assert_eq!(self.watches.len(), self.by_name.len());
        for (watch, at) in self.iter() {
            assert_eq!(self.find(&at.name), Some(watch));
            assert!(at.watchers() > 0 || at.asked_until > 0, "{}: nobody watches", at.name);
            assert!(at.vacant.iter().is_sorted_by_key(|vacant| vacant.due));
            for vacant in &at.vacant {
                let owner = usize::from(vacant.who.conn.loop_number());
                assert!(self.attached[owner] > 0, "{}: a place of a loop that is gone", at.name);
            }
        }
    }
}

impl Watch {
    /// A loop's part in it, made if need be.
    pub(super) fn part(&mut self, me: u8) -> &mut Part {
        let number = usize::from(me);
        if number >= self.parts.len() {
            self.parts.reserve_exact(number + 1 - self.parts.len());
            self.parts.resize_with(number + 1, Part::default);
        }
        &mut self.parts[number]
    }

    /// A loop's part in it, if it has one.
    pub(super) fn part_of(&self, me: u8) -> Option<&Part> {
        self.parts.get(usize::from(me))
    }

    /// On all loops.
    pub(super) fn watchers(&self) -> u32 {
        self.parts.iter().map(|part| part.watchers).sum()
    }

    fn kept_len(&self) -> usize {
        self.parts.iter().map(|part| part.kept.len()).sum()
    }

    /// Files a place by when it ceases to count: loops differ by as much as a turn takes.
    pub(super) fn vacate(&mut self, vacant: Vacant) {
        let behind = self.vacant.iter().rev().take_while(|other| other.due > vacant.due).count();
        self.vacant.insert(self.vacant.len() - behind, vacant);
    }

    /// Gives back what a crowd needed.
    pub(super) fn shrink(&mut self) {
        if self.vacant.is_empty() {
            self.vacant = VecDeque::new();
        }
        for part in self.parts.iter_mut().filter(|part| part.kept.is_empty()) {
            part.kept = Vec::new();
        }
    }
}

impl Part {
    pub(super) fn kept(&self, index: u32) -> Option<Kept> {
        let at = self.kept.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(self.kept[at].1)
    }

    pub(super) fn all_kept(&self) -> impl Iterator<Item = u32> + '_ {
        self.kept.iter().map(|(index, _)| *index)
    }

    pub(super) fn keep(&mut self, index: u32, kept: Kept) {
        if let Err(at) = self.kept.binary_search_by_key(&index, |(index, _)| *index) {
            self.kept.insert(at, (index, kept));
        }
    }

    pub(super) fn unkeep(&mut self, index: u32) -> Option<Kept> {
        let at = self.kept.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(self.kept.remove(at).1)
    }
}
