//! What the order's tables take of the memory, and how it is split: publications give way to what
//! connections hold, connections and channels each have a share that they may not pass.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Channel, ChannelIndex, Evicted, History, HistoryLimits, Inner};
use crate::message::{Publication, map_bytes, on_heap};
use crate::time::Now;

/// A name and its channel in the map.
const ENTRY_BYTES: usize = size_of::<(Arc<str>, ChannelIndex)>();
/// Tables with fewer places are not worth shrinking.
const SMALL: usize = 256;

/// Names to channels, and what is counted of all channels as it changes.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_name: HashMap<Arc<str>, ChannelIndex>,
    /// How many there is room for. The map's own answer goes down where names come and go.
    capacity: usize,
    /// What the map takes with that.
    map_bytes: usize,
    /// What the names themselves take.
    text_bytes: usize,
    /// Places in the rings of all channels.
    pub(super) places: usize,
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<ChannelIndex> {
        self.by_name.get(name).copied()
    }

    pub(super) fn insert(&mut self, name: Arc<str>, index: ChannelIndex) {
        self.text_bytes += text_bytes(&name);
        self.by_name.insert(name, index);
        self.set_capacity(self.capacity.max(self.by_name.capacity()));
    }

    fn set_capacity(&mut self, capacity: usize) {
        if capacity != self.capacity {
            self.capacity = capacity;
            self.map_bytes = map_bytes(capacity, ENTRY_BYTES);
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        if self.by_name.remove(name).is_some() {
            self.text_bytes -= text_bytes(name);
        }
    }

    /// Whether a crowd has gone, whose table is given back.
    fn shrink(&mut self) -> bool {
        let len = self.by_name.len();
        let is_worth_it = len < self.capacity / 8 && (len == 0 || self.capacity > SMALL);
        if is_worth_it {
            self.by_name.shrink_to(len * 2);
            self.set_capacity(self.by_name.capacity());
        }
        is_worth_it
    }

    fn bytes(&self) -> usize {
        self.text_bytes + self.map_bytes
    }

    /// What it will take with one more.
    fn bytes_with(&self, name: &str) -> usize {
        let is_full = self.by_name.len() == self.by_name.capacity();
        let capacity = if is_full { self.capacity + 1 } else { self.capacity };
        self.text_bytes + text_bytes(name) + map_bytes(capacity, ENTRY_BYTES)
    }
}

/// The text, and the two counts of an `Arc`.
fn text_bytes(name: &str) -> usize {
    on_heap(2 * size_of::<usize>() + name.len())
}

fn deque_bytes<T>(deque: &VecDeque<T>) -> usize {
    deque.capacity() * size_of::<T>()
}

impl Inner {
    /// What channels and keys take, which no eviction gives back.
    pub(super) fn fixed_bytes(&self, limits: &HistoryLimits) -> usize {
        if !limits.counts_tables {
            return 0;
        }
        let slots = self.channels.capacity() * CHANNEL_BYTES;
        slots + self.names.bytes() + self.keys.bytes()
    }

    /// What the places of publications take, in rings and indexes.
    pub(super) fn index_bytes(&self, limits: &HistoryLimits) -> usize {
        if !limits.counts_tables {
            return 0;
        }
        let rings = self.names.places * size_of::<Arc<Publication>>();
        deque_bytes(&self.order) + deque_bytes(&self.recent) + rings
    }

    /// What all tables take.
    pub(super) fn table_bytes(&self, limits: &HistoryLimits) -> usize {
        self.fixed_bytes(limits) + self.index_bytes(limits)
    }

    /// Whether there is no place for one more channel: by count, or by the share that tables have, a
    /// quarter of the budget.
    pub(super) fn is_table_full(&self, name: &str, limits: &HistoryLimits) -> bool {
        let names = self.names.bytes_with(name) - self.names.bytes();
        let more = names + self.slots_more() * CHANNEL_BYTES;
        let is_over =
            limits.counts_tables && self.fixed_bytes(limits) + more > limits.usable_bytes / 4;
        is_over || self.channels.len() >= limits.channels_max
    }

    /// By how many places the table of channels grows with the next one: an eighth, as the tables of
    /// connections do.
    fn slots_more(&self) -> usize {
        let len = self.channels.len();
        if len == self.channels.capacity() { (len / 8).max(16) } else { 0 }
    }

    pub(super) fn insert_channel(&mut self, channel: Channel) -> ChannelIndex {
        self.channels.reserve_exact(self.slots_more());
        let name = Arc::clone(&channel.name);
        let index = self.channels.insert(channel) as ChannelIndex;
        self.names.insert(name, index);
        index
    }

    /// Gives tables back that only a crowd needed. Cheap to call after each removal.
    pub(super) fn shrink_channels(&mut self) {
        if self.names.shrink() {
            self.channels.shrink_to_fit();
        }
    }

    /// The same for the places of publications.
    pub(super) fn shrink_indexes(&mut self) {
        let (order, recent) = (&mut self.order, &mut self.recent);
        if order.capacity() > SMALL && order.len() < order.capacity() / 8 {
            order.shrink_to(order.len() * 2);
        }
        if recent.capacity() > SMALL && recent.len() < recent.capacity() / 8 {
            recent.shrink_to(recent.len() * 2);
        }
    }
}

/// A channel's place in the table, and what an allocator adds to its rings.
const CHANNEL_BYTES: usize = size_of::<Channel>() + size_of::<usize>() + 2 * 16;

impl History {
    /// What a loop's connections hold has changed.
    pub(crate) fn hold(&self, before: usize, after: usize) {
        let held = &self.budget.connections;
        if after >= before {
            held.fetch_add(after - before, Ordering::Relaxed);
        } else {
            held.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Whether connections may hold no more: they have their half of the budget, or all of it is in
    /// use and nothing is left to give way.
    pub(crate) fn is_short(&self) -> bool {
        self.is_over(self.limits.usable_bytes / 2)
    }

    /// Whether no more connections are let in, so that those that are here have something left.
    pub(crate) fn is_tight(&self) -> bool {
        self.is_over(self.limits.usable_bytes / 16 * 7)
    }

    /// Whether connections may hold `more` bytes.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        // Whether history can give way for it is not asked: that shows when the bytes are there.
        !self.is_short() && self.budget.connections() + more <= self.limits.usable_bytes / 2
    }

    /// What may be counted.
    pub(crate) fn usable_bytes(&self) -> usize {
        self.limits.usable_bytes
    }

    fn is_over(&self, share: usize) -> bool {
        // What another thread has let go of and not dropped yet is no shortage.
        let most = self.limits.usable_bytes + self.limits.usable_bytes / 16;
        self.budget.connections() > share || self.budget.total() > most
    }

    /// Lets go of publications, oldest first, for what connections have come to hold.
    pub(crate) fn give_way(&self, now: Now) {
        if self.budget.total() <= self.limits.usable_bytes {
            return;
        }
        let mut evicted = Evicted::new();
        let mut inner = self.lock();
        // Where it does not help, nothing is let go of.
        let _ = inner.make_room(0, &self.budget, &self.limits, now, &mut evicted);
        self.note_tables(&inner);
        drop(inner);
        drop(evicted);
    }

    pub(super) fn note_tables(&self, inner: &Inner) {
        self.budget.tables.store(inner.table_bytes(&self.limits), Ordering::Relaxed);
    }

    /// Asserts that what is counted as it changes is what is there. For tests.
    #[doc(hidden)]
    pub fn check(&self) {
        let inner = self.lock();
        let places: usize = inner.channels.iter().map(|(_, c)| c.places()).sum();
        assert_eq!(places, inner.names.places, "places in rings");
        let text: usize = inner.channels.iter().map(|(_, c)| text_bytes(&c.name)).sum();
        assert_eq!(text, inner.names.text_bytes, "bytes of names");
        let map = map_bytes(inner.names.capacity, ENTRY_BYTES);
        assert_eq!(map, inner.names.map_bytes, "bytes of the map of names");
    }
}
