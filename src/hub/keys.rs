//! Idempotency keys: which publication a key of the last minutes stands for, and what that costs.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::message::{map_bytes, on_heap};

/// Channel and key in one string; the key has no NUL, and neither has a name.
type Scoped = Arc<str>;

/// Tables up to this are not worth shrinking.
const SMALL: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Keys {
    seqs: HashMap<Scoped, u64>,
    /// In the order in which they expire (monotonic ms).
    expiries: VecDeque<(u64, Scoped)>,
    /// How many `seqs` has room for. Its own answer goes down where keys come and go.
    capacity: usize,
    text_bytes: usize,
}

impl Keys {
    pub(crate) fn scoped(channel: &str, key: &str) -> Scoped {
        [channel, key].join("\0").into()
    }

    pub(crate) fn find(&self, scoped: &str) -> Option<u64> {
        self.seqs.get(scoped).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.seqs.len()
    }

    /// What all of it takes.
    pub(crate) fn bytes(&self) -> usize {
        let expiries = self.expiries.capacity() * size_of::<(u64, Scoped)>();
        self.text_bytes + table_bytes(self.capacity) + expiries
    }

    /// Whether one more keeps all of it within `bytes_max`, also while a table grows for it.
    pub(crate) fn has_room(&self, scoped: &str, bytes_max: usize) -> bool {
        let is_table_full = self.seqs.len() == self.seqs.capacity();
        let table = if is_table_full { table_bytes(self.capacity + 1) } else { 0 };
        let is_queue_full = self.expiries.len() == self.expiries.capacity();
        let queue = if is_queue_full { self.expiries.capacity().max(4) } else { 0 };
        let more = text_bytes(scoped) + table + queue * size_of::<(u64, Scoped)>();
        self.bytes() + more <= bytes_max
    }

    /// How many of these, taken in turn, would be within `bytes_max` together.
    pub(crate) fn count_in<'k>(keys: impl Iterator<Item = &'k str>, bytes_max: usize) -> usize {
        let mut text = 0;
        keys.zip(1..)
            .take_while(|(scoped, count): &(_, usize)| {
                text += text_bytes(scoped);
                let queue = count.next_power_of_two().max(4) * size_of::<(u64, Scoped)>();
                text + table_bytes(*count) + queue <= bytes_max
            })
            .count()
    }

    pub(crate) fn insert(&mut self, scoped: Scoped, seq: u64, expires_ms: u64) {
        self.text_bytes += text_bytes(&scoped);
        self.expiries.push_back((expires_ms, Arc::clone(&scoped)));
        self.seqs.insert(scoped, seq);
        self.capacity = self.capacity.max(self.seqs.capacity());
    }

    /// When each expires, the key, and its seq; the first to expire comes first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &str, u64)> {
        self.expiries
            .iter()
            .filter_map(|(expires, scoped)| Some((*expires, &**scoped, self.find(scoped)?)))
    }

    pub(crate) fn expire(&mut self, now_ms: u64) {
        while self.expiries.front().is_some_and(|(expires, _)| *expires <= now_ms) {
            if let Some((_, scoped)) = self.expiries.pop_front() {
                self.seqs.remove(&scoped);
                self.text_bytes -= text_bytes(&scoped);
            }
        }
        // A burst must not leave its tables behind.
        if self.capacity > SMALL && self.len() < self.capacity / 8 {
            self.seqs.shrink_to(self.len() * 2);
            self.expiries.shrink_to(self.len() * 2);
            self.capacity = self.seqs.capacity();
        }
        if self.seqs.is_empty() {
            *self = Self::default();
        }
    }

    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.expiries.front().map(|(expires, _)| *expires)
    }
}

/// The text, and the two counts of an `Arc`.
fn text_bytes(scoped: &str) -> usize {
    on_heap(2 * size_of::<usize>() + scoped.len())
}

fn table_bytes(capacity: usize) -> usize {
    map_bytes(capacity, size_of::<(Scoped, u64)>())
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
