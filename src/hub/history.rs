//! The one order of everything published, shared by all loops under one mutex that is never held
//! over I/O or rendering.

mod list;
mod restore;
mod tables;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use slab::Slab;

use self::tables::Names;
use super::GapReason;
use super::bell::Bell;
use super::channel::{Channel, ChannelIndex, Evicted};
use super::keys::Keys;
use super::latest;
use super::pull::{self, Item, Lost, PullLimits, Pulled, Want};
pub use list::Listed;
pub use restore::{SnapshotInfo, fuzz_snapshot};

use crate::code::{Code, Refusal};
use crate::config::{Config, LOOPS_MAX, MIB};
use crate::cursor::{Cursor, Epoch, Since};
use crate::message::{Budget, CLOSED, Message, Publication};
use crate::sync::{AtomicUsize, Mutex, MutexGuard};
use crate::time::Now;

/// How often everything that is only old is looked for.
const SWEEP_MS: u64 = 30_000;
/// What publishing many lets go of is dropped under the lock from this number on.
const EVICTED_MAX: usize = 64;
/// After a search for channels to forget that found none.
const QUIET_RETRY_MS: u64 = 100;

/// What history keeps, and for how long.
#[derive(Clone, Debug)]
pub struct HistoryLimits {
    memory_bytes: usize,
    /// What may be counted: the rest is for what an allocator cannot use again at once.
    usable_bytes: usize,
    messages: usize,
    age_ms: u64,
    bytes: usize,
    recent_bytes: usize,
    channels_max: usize,
    channel_memory_ms: u64,
    keys_bytes_max: usize,
    key_window_ms: u64,
    latest: Vec<String>,
    /// Whether tables count besides publications: always, but where a test weighs only these.
    counts_tables: bool,
}

impl From<&Config> for HistoryLimits {
    fn from(config: &Config) -> Self {
        let memory_bytes = if config.memory_bytes == 0 { 64 * MIB } else { config.memory_bytes };
        Self {
            memory_bytes,
            usable_bytes: memory_bytes - memory_bytes / 8,
            messages: config.history_messages,
            age_ms: config.history_age.as_millis() as u64,
            bytes: config.history_bytes,
            // Live delivery may not take the whole budget.
            recent_bytes: config.recent_bytes.min(memory_bytes / 2),
            channels_max: config.channels_max,
            channel_memory_ms: config.channel_memory.as_millis() as u64,
            keys_bytes_max: config.idempotency_bytes_max.min(memory_bytes / 8),
            key_window_ms: config.idempotency_window.as_millis() as u64,
            latest: config.latest.clone(),
            counts_tables: true,
        }
    }
}

impl HistoryLimits {
    /// Whether a channel keeps only the newest of each event name.
    fn conflates(&self, channel: &str) -> bool {
        self.latest.iter().any(|pattern| latest::matches(pattern, channel))
    }
}

/// The order. Any thread may publish; each loop takes in what is new up to its own horizon.
#[derive(Debug)]
pub struct History {
    epoch: Epoch,
    budget: Arc<Budget>,
    limits: HistoryLimits,
    /// Counts publications, to see without the lock that there is nothing new.
    version: AtomicUsize,
    /// The same for each loop of several, of those that it has listeners for. Of one loop: none.
    news: Box<[AtomicUsize]>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    head: u64,
    names: Names,
    channels: Slab<Channel>,
    /// Where publishing found its channel last. Another may stand there by now: its name is compared.
    found: ChannelIndex,
    /// Oldest first over all channels, for the byte budget. May name what is gone: checked when popped.
    order: VecDeque<(u64, ChannelIndex)>,
    /// The newest of all channels, in order. Their rings hold them, but for what is superseded.
    recent: VecDeque<Recent>,
    /// What they weigh, superseded ones included.
    recent_bytes: usize,
    /// Newest seq that `recent` has let go of.
    recent_gone: u64,
    /// Weight of what the rings hold; the rest of the budget's use is pinned by connections.
    held: usize,
    /// How far any loop has taken the order in.
    taken: u64,
    /// When it is worth looking again for channels to forget (monotonic ms).
    quiet_ms: u64,
    /// Has only just got its place and is not let go of; 0: none.
    fresh: u64,
    /// What has been superseded since then, and passes until the next look.
    late: Vec<Late>,
    conflated: u64,
    /// Floor of channels that are not in the table any more.
    folded_floor: u64,
    folded_floor_ms: u64,
    /// No channel has become idle since the table was last looked through for one.
    is_fold_vain: bool,
    keys: Keys,
    swept_ms: u64,
    published: u64,
    /// Nothing is published any more.
    is_closed: bool,
    bells: Arc<[LoopBell]>,
    /// Loops, as bits, that have listeners for what is being published.
    heard: u64,
    /// Loops, as bits, that want to hear of everything.
    hear_all: u64,
}

/// Whom to wake.
#[derive(Debug)]
struct LoopBell {
    /// `None`: for everything that is published.
    loop_number: Option<usize>,
    bell: Arc<Bell>,
}

impl LoopBell {
    fn is_for(&self, heard: u64) -> bool {
        self.loop_number.is_none_or(|number| heard & (1 << number) != 0)
    }
}

/// A publication that was superseded after loops had taken it in.
#[derive(Clone, Copy, Debug)]
struct Late {
    channel: ChannelIndex,
    seq: u64,
    /// Loops of several, as bits, that listen and have not looked again since.
    waiting: u64,
}

/// What `recent` knows of a publication.
#[derive(Clone, Copy, Debug)]
struct Recent {
    seq: u64,
    time_ms: u64,
    channel: ChannelIndex,
    weight: u32,
}

/// What a publication became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: Cursor,
    /// Who listened at that moment, on all loops.
    pub subscribers: u32,
}

/// A message that got no place, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub refusal: Refusal,
    /// The message.
    pub message: Message,
}

/// Where a new reader of a channel stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The channel.
    pub channel: ChannelIndex,
    /// Its name.
    pub name: Arc<str>,
    /// What follows this is owed.
    pub position: u64,
    /// What was lost, to be announced before anything else.
    pub gap: Option<GapReason>,
}

/// What a look at the order found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenIn {
    /// The new horizon.
    pub horizon: u64,
    /// `recent` no longer reaches back to the old one: any channel may have news.
    pub overrun: bool,
}

/// What `GET /channels/{name}` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelInfo {
    /// On all loops.
    pub subscribers: u32,
    /// Messages that a `since` can see.
    pub messages: usize,
    /// Their payload bytes.
    pub bytes: usize,
}

/// Totals for `/stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryStats {
    /// Newest seq.
    pub seq: u64,
    /// Channels in the table.
    pub channels: usize,
    /// Messages that a `since` can see.
    pub messages: usize,
    /// Their payload bytes.
    pub bytes: usize,
    /// Publications since the start.
    pub published: u64,
    /// Those of them that a newer one of the same event name has taken the place of.
    pub conflated: u64,
    /// Idempotency keys that are remembered.
    pub keys: usize,
    /// The bytes that they take.
    pub keys_bytes: usize,
    /// Bytes of publications that count against the budget, pinned ones included.
    pub memory_used: usize,
    /// Bytes of channels, keys and indexes that do.
    pub memory_tables: usize,
    /// Bytes that do because of connections, on all loops.
    pub memory_connections: usize,
    /// The budget.
    pub memory_budget: usize,
}

impl History {
    /// An empty order under a new epoch.
    #[must_use]
    pub fn new(config: &Config, epoch: Epoch, now: Now) -> Self {
        Self {
            epoch,
            budget: Arc::default(),
            limits: HistoryLimits::from(config),
            version: AtomicUsize::new(0),
            news: match config.loops {
                0 | 1 => Box::default(),
                loops => (0..loops.min(LOOPS_MAX)).map(|_| AtomicUsize::new(0)).collect(),
            },
            inner: Mutex::new(Inner {
                head: 0,
                names: Names::default(),
                channels: Slab::new(),
                found: 0,
                order: VecDeque::new(),
                recent: VecDeque::new(),
                recent_bytes: 0,
                recent_gone: 0,
                held: 0,
                taken: 0,
                quiet_ms: 0,
                fresh: 0,
                late: Vec::new(),
                conflated: 0,
                folded_floor: 0,
                folded_floor_ms: 0,
                is_fold_vain: false,
                keys: Keys::default(),
                swept_ms: now.mono_ms,
                published: 0,
                is_closed: false,
                bells: Arc::new([]),
                heard: 0,
                hear_all: 0,
            }),
        }
    }

    /// The epoch of all its cursors.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The position `seq` as clients see it.
    #[must_use]
    pub fn cursor(&self, seq: u64) -> Cursor {
        Cursor { epoch: self.epoch, seq }
    }

    /// Adds a bell that is rung for everything that is published.
    pub fn add_bell(&self, bell: Arc<Bell>) {
        self.add(LoopBell { loop_number: None, bell });
    }

    /// Adds the bell of one loop of several ([`Config::loops`](Config#structfield.loops)): it is rung
    /// for channels that the loop [listens](Self::listen) to.
    pub fn add_loop(&self, loop_number: usize, bell: Arc<Bell>) {
        let loop_number = (loop_number < self.news.len()).then_some(loop_number);
        self.add(LoopBell { loop_number, bell });
    }

    fn add(&self, bell: LoopBell) {
        let mut inner = self.lock();
        let others = inner.bells.iter().map(|LoopBell { loop_number, bell }| LoopBell {
            loop_number: *loop_number,
            bell: Arc::clone(bell),
        });
        inner.bells = others.chain([bell]).collect();
    }

    /// A loop has its first listener of a channel, who has joined: what is published there wakes it.
    pub fn listen(&self, channel: ChannelIndex, loop_number: usize) {
        let Some(news) = self.news.get(loop_number) else { return };
        self.lock().channels[channel as usize].loops |= 1 << loop_number;
        // Something may have been published since it joined: it is to look once more.
        news.fetch_add(1, Ordering::SeqCst);
    }

    /// A loop has no listener of a channel any more, of whom the last has yet to leave.
    pub fn unlisten(&self, channel: ChannelIndex, loop_number: usize) {
        if loop_number >= self.news.len() {
            return;
        }
        let mut inner = self.lock();
        inner.channels[channel as usize].loops &= !(1 << loop_number);
        // Nor does anything wait for it to look.
        for late in inner.late.iter_mut().filter(|late| late.channel == channel) {
            late.waiting &= !(1 << loop_number);
        }
    }

    /// Wakes a loop for everything that is published, or no longer.
    pub fn hear_all(&self, loop_number: usize, is_on: bool) {
        let Some(news) = self.news.get(loop_number) else { return };
        let mut inner = self.lock();
        let bit = 1 << loop_number;
        inner.hear_all = if is_on { inner.hear_all | bit } else { inner.hear_all & !bit };
        drop(inner);
        news.fetch_add(1, Ordering::SeqCst);
    }

    /// Wakes every loop that sleeps.
    pub fn ring(&self) {
        let bells = Arc::clone(&self.lock().bells);
        bells.iter().for_each(|one| one.bell.ring());
    }

    /// How many listen to a channel, on all loops.
    #[must_use]
    pub fn subscribers(&self, channel: &str) -> u32 {
        self.lock().subscribers(channel)
    }

    /// Gives a checked message its place in the order and wakes who sleeps.
    ///
    /// # Errors
    /// `overloaded` when a table or the byte budget is full, `draining` when it is closed; the message
    /// comes back.
    pub fn publish(
        &self,
        channel: &str,
        message: Message,
        now: Now,
    ) -> Result<Published, Box<Rejected>> {
        self.publish_and_evict(channel, message, now, &mut Evicted::new())
    }

    /// The same, and leaves to the caller what goes for it, to drop, so that a loop that publishes
    /// needs no new list each time.
    pub(crate) fn publish_and_evict(
        &self,
        channel: &str,
        message: Message,
        now: Now,
        evicted: &mut Evicted,
    ) -> Result<Published, Box<Rejected>> {
        let mut inner = self.lock();
        let published = self.publish_locked(&mut inner, channel, message, now, evicted);
        self.wake(inner, published.is_ok());
        published
    }

    /// Publishes checked messages one after the other, nobody else's between them, under one lock and
    /// with one wake. What became of each, in their order; one that fails keeps none of the others.
    pub fn publish_many<'c>(
        &self,
        messages: impl IntoIterator<Item = (&'c str, Message)>,
        now: Now,
    ) -> Vec<Result<Published, Box<Rejected>>> {
        let mut evicted = Evicted::new();
        let mut inner = self.lock();
        let mut published = Vec::new();
        for (channel, message) in messages {
            published.push(self.publish_locked(&mut inner, channel, message, now, &mut evicted));
            // Who makes room looks at all of them, and what they weigh is to be free again.
            if evicted.len() >= EVICTED_MAX {
                evicted.clear();
            }
        }
        self.wake(inner, published.iter().any(Result::is_ok));
        published
    }

    fn publish_locked(
        &self,
        inner: &mut Inner,
        channel: &str,
        message: Message,
        now: Now,
        evicted: &mut Evicted,
    ) -> Result<Published, Box<Rejected>> {
        if inner.is_closed {
            return Err(Box::new(Rejected { refusal: CLOSED, message }));
        }
        let key = message.idempotency_key.as_ref().map(|key| Keys::scoped(channel, key));
        if let Some(key) = &key {
            inner.keys.expire(now.mono_ms);
            if let Some(seq) = inner.keys.find(key) {
                let subscribers = inner.subscribers(channel);
                return Ok(Published { id: self.cursor(seq), subscribers });
            }
            if !inner.keys.has_room(key, self.limits.keys_bytes_max) {
                return Err(Box::new(Rejected { refusal: KEYS_FULL, message }));
            }
        }
        // Where nothing is kept nobody has it on the list to look through: the first loop will.
        let is_first = u64::from(inner.next_sweep().is_none());
        let weight = Publication::weight_of(&message);
        let made = inner.make_room(weight, &self.budget, &self.limits, now, evicted);
        let tables = inner.table_bytes(&self.limits);
        let found = made.and_then(|()| inner.find_or_add(channel, &self.limits, now, evicted));
        let index = match found {
            Ok(index) => index,
            Err(refusal) => return Err(Box::new(Rejected { refusal, message })),
        };
        let limits = &self.limits;
        let seq = inner.append(index, message, &self.budget, limits, now, evicted);
        if let Some(key) = key {
            inner.keys.insert(key, seq, now.mono_ms + limits.key_window_ms);
        }
        if inner.table_bytes(limits) > tables {
            // They have grown for it. What it was for stays.
            inner.fresh = seq;
            let _ = inner.make_room(0, &self.budget, limits, now, evicted);
            inner.fresh = 0;
        }
        let Channel { subscribers, loops, .. } = inner.channels[index as usize];
        inner.heard |= loops | inner.hear_all | is_first;
        Ok(Published { id: self.cursor(seq), subscribers })
    }

    /// Ends a publisher's look, and rings for loops that sleep if there is anything for them.
    fn wake(&self, mut inner: MutexGuard<'_, Inner>, has_news: bool) {
        self.note_tables(&inner);
        let heard = std::mem::take(&mut inner.heard);
        // First this one: a loop that sees news in its own looks at this to know whether to take in.
        self.version.fetch_add(1, Ordering::SeqCst);
        for (number, news) in self.news.iter().enumerate() {
            if heard & (1 << number) != 0 {
                news.fetch_add(1, Ordering::SeqCst);
            }
        }
        // Mostly nobody sleeps: who publishes from the loop itself is awake.
        let wakes = |one: &LoopBell| one.is_for(heard) && one.bell.is_dozing();
        let bells = (has_news && inner.bells.iter().any(wakes)).then(|| Arc::clone(&inner.bells));
        drop(inner);
        let rung = bells.iter().flat_map(|bells| bells.iter()).filter(|one| one.is_for(heard));
        rung.for_each(|one| one.bell.ring());
    }

    /// A number that changes when a loop must not sleep: with publications that it has listeners for,
    /// and with every one where there are no several loops.
    #[must_use]
    pub fn news_of(&self, loop_number: usize) -> usize {
        self.news.get(loop_number).unwrap_or(&self.version).load(Ordering::SeqCst)
    }

    /// A number that changes with every publication.
    #[must_use]
    pub fn version(&self) -> usize {
        self.version.load(Ordering::SeqCst)
    }

    /// The newest seq.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.lock().head
    }

    /// Lists into `channels`, once each, those with news in `(horizon, head]`.
    pub fn take_in(&self, horizon: u64, channels: &mut Vec<ChannelIndex>) -> TakenIn {
        self.take_in_on(0, horizon, channels)
    }

    /// The same on one loop of several.
    pub fn take_in_on(
        &self,
        loop_number: usize,
        horizon: u64,
        channels: &mut Vec<ChannelIndex>,
    ) -> TakenIn {
        let mut evicted = Evicted::new();
        let mut inner = self.lock();
        let overrun = inner.recent_gone > horizon;
        if !overrun {
            let news = inner.recent.iter().rev().take_while(|recent| recent.seq > horizon);
            for Recent { channel, .. } in news {
                if channels.last() != Some(channel) {
                    channels.push(*channel);
                }
            }
        }
        inner.drop_late(loop_number, &mut evicted);
        let head = inner.head;
        drop(inner);
        drop(evicted);
        channels.sort_unstable();
        channels.dedup();
        TakenIn { horizon: head, overrun }
    }

    /// Adds a listener to a channel and says where it stands. Nothing beyond `horizon` is named.
    ///
    /// # Errors
    /// `overloaded` when there are too many channels.
    pub fn join(
        &self,
        channel: &str,
        since: Option<Since>,
        horizon: u64,
        now: Now,
    ) -> Result<Joined, Refusal> {
        let mut evicted = Evicted::new();
        let mut inner = self.lock();
        let count = inner.channels.len();
        let index = inner.find_or_add(channel, &self.limits, now, &mut evicted)?;
        let (epoch, limits) = (self.epoch, &self.limits);
        if inner.channels.len() > count {
            let made = inner.make_room(0, &self.budget, limits, now, &mut evicted);
            if let Err(refusal) = made {
                inner.remove_channel(index);
                inner.shrink_channels();
                self.note_tables(&inner);
                return Err(refusal);
            }
            self.note_tables(&inner);
        }
        let entry = &mut inner.channels[index as usize];
        entry.subscribers += 1;
        // What is too old goes when somebody looks.
        entry.enforce(limits.messages, limits.bytes, limits.age_ms, now.unix_ms);
        let (position, gap) = verdict(entry, since, epoch, horizon, now);
        let name = Arc::clone(&entry.name);
        drop(inner);
        drop(evicted);
        Ok(Joined { channel: index, name, position, gap })
    }

    /// Takes a listener away.
    pub fn leave(&self, channel: ChannelIndex, now: Now) {
        let mut inner = self.lock();
        let entry = &mut inner.channels[channel as usize];
        entry.subscribers -= 1;
        entry.touched_ms = now.mono_ms;
        inner.is_fold_vain = false;
        let entry = &inner.channels[channel as usize];
        // Nothing is forgotten by letting go of a channel that never kept anything.
        if entry.subscribers == 0 && entry.is_empty() && entry.floor <= inner.folded_floor {
            inner.remove_channel(channel);
            inner.shrink_channels();
            self.note_tables(&inner);
        }
    }

    /// Collects into `out` what a reader of `wants` is owed up to `horizon`. Channels whose place was
    /// lost are listed in `lost` *instead*: nothing is collected then, the caller moves those wants
    /// and pulls again.
    pub fn pull(
        &self,
        wants: &[Want],
        horizon: u64,
        limits: PullLimits,
        now: Now,
        out: &mut Vec<Item>,
        lost: &mut Vec<Lost>,
    ) -> Pulled {
        let inner = self.lock();
        for (number, want) in wants.iter().enumerate() {
            let channel = &inner.channels[want.channel as usize];
            // Not the floor: whoever has joined keeps a claim to what only `recent` still holds. Who
            // has read up to the horizon has lost nothing yet, whatever is gone beyond it.
            if channel.gone > want.after && want.after < horizon {
                let resumed = channel.earliest(horizon, now.unix_ms).max(want.after);
                lost.push(Lost { want: number, resumed });
            }
        }
        if !lost.is_empty() {
            return Pulled { up_to: horizon, more: false };
        }
        let channels = wants.iter().map(|want| (&inner.channels[want.channel as usize], *want));
        pull::merge(channels, horizon, limits, now.unix_ms, out)
    }

    /// The number of the only want whose channel has anything after its place, if there is just one.
    #[must_use]
    pub fn only_news(&self, wants: &[Want]) -> Option<usize> {
        let inner = self.lock();
        let mut news = wants.iter().enumerate().filter(|(_, want)| {
            let channel = &inner.channels[want.channel as usize];
            channel.last > want.after
        });
        let (first, _) = news.next()?;
        news.next().is_none().then_some(first)
    }

    /// Whether any of the wants has something after its place.
    #[must_use]
    pub fn has_news(&self, wants: &[Want]) -> bool {
        let inner = self.lock();
        wants.iter().any(|want| inner.channels[want.channel as usize].last > want.after)
    }

    /// Lists those of these channels in which anything was published after a position.
    pub fn news_among(
        &self,
        among: impl Iterator<Item = ChannelIndex>,
        after: u64,
        channels: &mut Vec<ChannelIndex>,
    ) {
        let inner = self.lock();
        channels.extend(among.filter(|channel| inner.channels[*channel as usize].last > after));
    }

    /// The place of a channel that is in the table.
    #[must_use]
    pub fn find(&self, channel: &str) -> Option<ChannelIndex> {
        self.lock().names.get(channel)
    }

    /// What is known of a channel.
    #[must_use]
    pub fn info(&self, channel: &str, now: Now) -> ChannelInfo {
        let inner = self.lock();
        let Some(index) = inner.names.get(channel) else { return ChannelInfo::default() };
        let entry = &inner.channels[index as usize];
        let (messages, bytes) = entry
            .visible(now.unix_ms)
            .filter(|p| now.unix_ms.saturating_sub(p.time_ms) <= self.limits.age_ms)
            .fold((0, 0), |(messages, bytes), p| (messages + 1, bytes + p.payload.len()));
        ChannelInfo { subscribers: entry.subscribers, messages, bytes }
    }

    /// How many of these channels do not exist.
    #[must_use]
    pub fn count_new<'a>(&self, channels: impl Iterator<Item = &'a str>) -> usize {
        let inner = self.lock();
        channels.filter(|channel| inner.names.get(channel).is_none()).count()
    }

    /// Drops a channel's history. Those who listened when it was published still get it.
    pub fn clear(&self, channel: &str, now: Now) {
        let mut evicted = Evicted::new();
        let mut inner = self.lock();
        if let Some(index) = inner.names.get(channel) {
            inner.channels[index as usize].hide_all(now.unix_ms);
            inner.trim(index, &mut evicted);
            self.note_tables(&inner);
        }
        drop(inner);
        drop(evicted);
    }

    /// Lets go of what is only old. Cheap to call early; returns when to call again.
    pub fn sweep(&self, now: Now) -> Option<u64> {
        let mut evicted = Evicted::new();
        let mut inner = self.lock();
        if now.mono_ms >= inner.swept_ms + SWEEP_MS {
            inner.swept_ms = now.mono_ms;
            inner.sweep(&self.limits, now, &mut evicted);
            self.note_tables(&inner);
        }
        let next = inner.next_sweep();
        drop(inner);
        drop(evicted);
        next
    }

    /// When [`sweep`](Self::sweep) has something to do.
    #[must_use]
    pub fn next_sweep(&self) -> Option<u64> {
        self.lock().next_sweep()
    }

    /// Totals.
    #[must_use]
    pub fn stats(&self) -> HistoryStats {
        let inner = self.lock();
        HistoryStats {
            seq: inner.head,
            channels: inner.channels.len(),
            messages: inner.channels.iter().map(|(_, c)| c.kept()).sum(),
            bytes: inner.channels.iter().map(|(_, c)| c.kept_bytes()).sum(),
            published: inner.published,
            conflated: inner.conflated,
            keys: inner.keys.len(),
            keys_bytes: inner.keys.bytes(),
            memory_used: self.budget.used(),
            memory_tables: self.budget.tables(),
            memory_connections: self.budget.connections(),
            memory_budget: self.limits.memory_bytes,
        }
    }

    /// A panic of a publisher's thread leaves the order as it was before its call or after.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a `since` stands in a channel, and whether something is missing from there on.
fn verdict(
    channel: &Channel,
    since: Option<Since>,
    epoch: Epoch,
    horizon: u64,
    now: Now,
) -> (u64, Option<GapReason>) {
    let earliest = || channel.earliest(horizon, now.unix_ms);
    let from_time = |from_ms: u64| {
        if from_ms > now.unix_ms {
            return (horizon, None);
        }
        let lost = channel.floor > 0 && from_ms <= channel.floor_ms;
        let position = channel.position_at(from_ms, horizon, now.unix_ms);
        (position, lost.then_some(GapReason::Trimmed))
    };
    match since {
        None | Some(Since::Latest) => (horizon, None),
        Some(Since::Earliest) => (earliest(), None),
        Some(Since::Unknown) => (earliest(), Some(GapReason::Epoch)),
        Some(Since::Ago { ms }) => from_time(now.unix_ms.saturating_sub(ms)),
        Some(Since::At { unix_ms }) => from_time(unix_ms),
        Some(Since::Cursor(cursor)) if cursor.epoch != epoch || cursor.seq > horizon => {
            (earliest(), Some(GapReason::Epoch))
        }
        Some(Since::Cursor(cursor)) if cursor.seq < channel.floor => {
            (earliest().max(cursor.seq), Some(GapReason::Trimmed))
        }
        Some(Since::Cursor(cursor)) => (cursor.seq, None),
    }
}

impl Inner {
    /// The place of a channel. Who publishes much often does so in one: it is not hashed each time.
    fn find(&self, channel: &str) -> Option<ChannelIndex> {
        match self.channels.get(self.found as usize) {
            Some(found) if *found.name == *channel => Some(self.found),
            Some(_) | None => self.names.get(channel),
        }
    }

    fn subscribers(&self, channel: &str) -> u32 {
        self.names.get(channel).map_or(0, |index| self.channels[index as usize].subscribers)
    }

    fn find_or_add(
        &mut self,
        channel: &str,
        limits: &HistoryLimits,
        now: Now,
        evicted: &mut Evicted,
    ) -> Result<ChannelIndex, Refusal> {
        if let Some(index) = self.find(channel) {
            self.channels[index as usize].touched_ms = now.mono_ms;
            self.found = index;
            return Ok(index);
        }
        if self.is_table_full(channel, limits) {
            // Looking through a full table is only worth it once something has changed.
            if !std::mem::replace(&mut self.is_fold_vain, true) {
                self.fold(now.mono_ms, 0);
            }
            if self.is_table_full(channel, limits) {
                self.forget_quiet(now, evicted);
            }
            if self.is_table_full(channel, limits) {
                return Err(CHANNELS_FULL);
            }
        }
        let name: Arc<str> = channel.into();
        let (floor, floor_ms) = (self.folded_floor, self.folded_floor_ms);
        let conflates = limits.conflates(channel);
        Ok(self.insert_channel(Channel::new(name, conflates, floor, floor_ms, now.mono_ms)))
    }

    fn append(
        &mut self,
        index: ChannelIndex,
        message: Message,
        budget: &Arc<Budget>,
        limits: &HistoryLimits,
        now: Now,
        evicted: &mut Evicted,
    ) -> u64 {
        self.head += 1;
        self.published += 1;
        let name = Arc::clone(&self.channels[index as usize].name);
        let publication = Publication::new(message, name, self.head, now.unix_ms, budget);
        let publication = Arc::new(publication);
        if !publication.is_passing() {
            self.order.push_back((publication.seq, index));
        }
        if self.channels[index as usize].conflates() {
            self.supersede(index, &publication, evicted);
        }
        self.held += publication.weight();
        self.push_recent(index, &publication);
        self.change(index, |channel| channel.push(publication));
        let channel = &mut self.channels[index as usize];
        channel.enforce(limits.messages, limits.bytes, limits.age_ms, now.unix_ms);
        // The newest always stays: whoever has not taken it in yet must find it.
        while self.recent_bytes > limits.recent_bytes && self.recent.len() > 1 {
            self.drop_recent(evicted);
        }
        self.trim(index, evicted);
        self.compact_order();
        self.head
    }

    /// Changes a channel, and keeps the count of the places that it has.
    fn change<T>(&mut self, index: ChannelIndex, change: impl FnOnce(&mut Channel) -> T) -> T {
        let channel = &mut self.channels[index as usize];
        let before = channel.places();
        let done = change(channel);
        self.names.places = self.names.places - before + channel.places();
        done
    }

    /// On a channel that conflates, what `by` takes the place of goes.
    #[inline(never)]
    fn supersede(&mut self, index: ChannelIndex, by: &Arc<Publication>, evicted: &mut Evicted) {
        let from = evicted.len();
        let (mut late, delivered) = (Vec::new(), self.recent_gone + 1..=self.taken);
        let supersede = |c: &mut Channel| c.supersede(by, delivered, &mut late, evicted);
        self.conflated += self.change(index, supersede);
        let waiting = self.channels[index as usize].loops | self.hear_all;
        self.late.extend(late.into_iter().map(|seq| Late { channel: index, seq, waiting }));
        self.held -= evicted[from..].iter().map(|p| p.weight()).sum::<usize>();
    }

    /// A loop looks at all there is: what was superseded before it does not deliver any more. It goes
    /// once all that listen have looked.
    fn drop_late(&mut self, loop_number: usize, evicted: &mut Evicted) {
        self.taken = self.head;
        let (channels, held, recent_gone) = (&mut self.channels, &mut self.held, self.recent_gone);
        let looked = 1_u64.checked_shl(loop_number as u32).unwrap_or(0);
        self.late.retain_mut(|late| {
            late.waiting &= !looked;
            // A loop that stands still holds no more than `recent` does.
            if late.waiting != 0 && late.seq > recent_gone {
                return true;
            }
            let channel = channels.get_mut(late.channel as usize);
            if let Some(gone) = channel.and_then(|channel| channel.take_passing(late.seq)) {
                *held -= gone.weight();
                evicted.push(gone);
            }
            false
        });
    }

    fn push_recent(&mut self, channel: ChannelIndex, publication: &Publication) {
        // Truncated, it still takes away what it has added.
        let weight = publication.weight() as u32;
        self.recent_bytes += weight as usize;
        let Publication { seq, time_ms, .. } = *publication;
        self.recent.push_back(Recent { seq, time_ms, channel, weight });
    }

    /// Frees room for `weight` bytes, oldest publication first.
    fn make_room(
        &mut self,
        weight: usize,
        budget: &Budget,
        limits: &HistoryLimits,
        now: Now,
        evicted: &mut Evicted,
    ) -> Result<(), Refusal> {
        // What only connections hold; it cannot be freed here.
        let leaving = evicted.iter().filter(|p| Arc::strong_count(p) == 1).map(|p| p.weight());
        let leaving = leaving.sum::<usize>();
        let mut pinned = budget.used().saturating_sub(self.held + leaving);
        let others = budget.connections() + self.fixed_bytes(limits);
        loop {
            // Do not empty history for nothing.
            let needed = pinned.saturating_add(others).saturating_add(weight);
            if needed > limits.usable_bytes {
                return Err(MEMORY_FULL);
            }
            if needed + self.held + self.index_bytes(limits) <= limits.usable_bytes {
                return Ok(());
            }
            let from = evicted.len();
            if !self.evict_oldest(now, evicted) {
                return Err(MEMORY_FULL);
            }
            self.shrink_indexes();
            let still_pinned = evicted[from..].iter().filter(|p| Arc::strong_count(p) > 1);
            pinned += still_pinned.map(|p| p.weight()).sum::<usize>();
        }
    }

    /// Lets go of the oldest publication of all; `false` if there is none.
    fn evict_oldest(&mut self, now: Now, evicted: &mut Evicted) -> bool {
        while let Some((seq, index)) = self.order.pop_front() {
            if !self.is_oldest_kept(seq, index) {
                continue;
            }
            if self.is_fresh(seq) {
                self.order.push_front((seq, index));
                return false;
            }
            self.channels[index as usize].hide_oldest(now.unix_ms);
            while self.recent.front().is_some_and(|recent| recent.seq <= seq) {
                self.drop_recent(evicted);
            }
            self.trim(index, evicted);
            return true;
        }
        let some = self.recent.front().is_some_and(|recent| !self.is_fresh(recent.seq));
        if some {
            self.drop_recent(evicted);
        }
        some
    }

    /// Whether it has only just got its place: then it stays.
    fn is_fresh(&self, seq: u64) -> bool {
        seq == self.fresh
    }

    fn is_oldest_kept(&self, seq: u64, index: ChannelIndex) -> bool {
        let channel = self.channels.get(index as usize);
        channel.and_then(Channel::oldest_kept).is_some_and(|oldest| oldest.seq == seq)
    }

    fn drop_recent(&mut self, evicted: &mut Evicted) {
        if let Some(channel) = self.pop_recent() {
            self.trim(channel, evicted);
        }
    }

    /// The channel of what has left the list, to be trimmed.
    fn pop_recent(&mut self) -> Option<ChannelIndex> {
        let Recent { seq, channel, weight, .. } = self.recent.pop_front()?;
        self.recent_bytes -= weight as usize;
        self.recent_gone = seq;
        Some(channel)
    }

    /// Lets go of what a channel hides and `recent` has passed, and keeps the count of what is held.
    fn trim(&mut self, index: ChannelIndex, evicted: &mut Evicted) {
        let from = evicted.len();
        let recent_gone = self.recent_gone;
        if self.channels[index as usize].has_gone(recent_gone) {
            self.change(index, |channel| channel.trim(recent_gone, evicted));
        }
        if self.channels[index as usize].is_empty() {
            self.is_fold_vain = false;
        }
        self.held -= evicted[from..].iter().map(|p| p.weight()).sum::<usize>();
    }

    /// Channels drop publications without telling the index: rebuild it when most of it is stale.
    fn compact_order(&mut self) {
        let Some((seq, index)) = self.order.front().copied() else { return };
        let oldest = self.channels.get(index as usize).and_then(Channel::oldest_kept);
        if oldest.is_none_or(|oldest| oldest.seq > seq) {
            self.order.pop_front();
        }
        if self.order.len() < 4096 || self.order.len() < self.order.capacity() {
            return;
        }
        let channels = &self.channels;
        self.order.retain(|(seq, i)| channels.get(*i as usize).is_some_and(|c| c.keeps(*seq)));
        // Not again before as many more have come, however few of them were stale.
        self.order.reserve(self.order.len());
    }

    fn sweep(&mut self, limits: &HistoryLimits, now: Now, evicted: &mut Evicted) {
        self.keys.expire(now.mono_ms);
        let keep_ms = limits.age_ms.max(SWEEP_MS);
        let is_old = |recent: &Recent| now.unix_ms.saturating_sub(recent.time_ms) > keep_ms;
        // What goes with it does so below, all of a channel at a time.
        while self.recent.front().is_some_and(is_old) {
            self.pop_recent();
        }
        let indexes: Vec<_> =
            self.channels.iter().map(|(index, _)| index as ChannelIndex).collect();
        for index in indexes {
            let channel = &mut self.channels[index as usize];
            channel.enforce(limits.messages, limits.bytes, limits.age_ms, now.unix_ms);
            self.trim(index, evicted);
        }
        self.fold(now.mono_ms, limits.channel_memory_ms);
        if self.held == 0 {
            self.order.clear();
        }
        self.shrink_indexes();
        if self.recent.is_empty() {
            self.recent.shrink_to_fit();
        }
    }

    /// Forgets empty channels that nobody has used for `idle_ms`; what is known of their past joins
    /// the floor of all channels that are not in the table.
    fn fold(&mut self, now_ms: u64, idle_ms: u64) {
        let idle: Vec<_> = self
            .channels
            .iter()
            .filter(|(_, c)| c.subscribers == 0 && c.is_empty())
            .filter(|(_, c)| c.floor <= self.folded_floor || now_ms >= c.touched_ms + idle_ms)
            .map(|(index, _)| index as ChannelIndex)
            .collect();
        for index in idle {
            self.remove_channel(index);
        }
        self.shrink_channels();
    }

    /// Gives the places of those channels away to which nobody listens and in which nothing has been
    /// published for longest; what they kept is a gap for whoever asks for it.
    fn forget_quiet(&mut self, now: Now, evicted: &mut Evicted) {
        if now.mono_ms < self.quiet_ms {
            return; // it was in vain a moment ago
        }
        let recent_gone = self.recent_gone;
        let quiet =
            self.channels.iter().filter(|(_, c)| c.subscribers == 0 && c.last <= recent_gone);
        let mut quiet: Vec<_> = quiet.map(|(index, c)| (c.last, index as ChannelIndex)).collect();
        let count = (self.channels.len() / 64 + 1).min(quiet.len());
        if count == 0 {
            self.quiet_ms = now.mono_ms + QUIET_RETRY_MS;
            return;
        }
        // Many at a time, for looking through them all is only worth it then.
        quiet.select_nth_unstable(count - 1);
        for (_, index) in &quiet[..count] {
            self.channels[*index as usize].hide_all(now.unix_ms);
            self.trim(*index, evicted);
            self.remove_channel(*index);
        }
    }

    fn remove_channel(&mut self, index: ChannelIndex) {
        let channel = self.channels.remove(index as usize);
        self.names.remove(&channel.name);
        self.names.places -= channel.places();
        self.fold_floor(channel.floor, channel.floor_ms);
    }

    fn fold_floor(&mut self, floor: u64, floor_ms: u64) {
        if floor > self.folded_floor {
            self.folded_floor = floor;
            self.folded_floor_ms = self.folded_floor_ms.max(floor_ms);
        }
    }

    fn next_sweep(&self) -> Option<u64> {
        let kept = !self.channels.is_empty() || !self.recent.is_empty();
        let keys = self.keys.next_expiry().is_some();
        (kept || keys).then_some(self.swept_ms + SWEEP_MS)
    }
}

const KEYS_FULL: Refusal = Refusal::new(
    Code::Overloaded,
    "too many idempotency keys are remembered: try again in a few minutes, or publish without one",
);
const CHANNELS_FULL: Refusal =
    Refusal::new(Code::Overloaded, "too many channels are in use: try again later");
pub(crate) const MEMORY_FULL: Refusal = Refusal::new(
    Code::Overloaded,
    "the memory budget is held by connections and slow readers: try again in a few seconds",
);

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
