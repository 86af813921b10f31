//! Idempotency keys: which publication a key of the last minutes stands for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Channel and key in one string; the key has no NUL, and neither has a name.
type Scoped = Arc<str>;

#[derive(Debug, Default)]
pub(crate) struct Keys {
    seqs: HashMap<Scoped, u64>,
    /// In the order in which they expire (monotonic ms).
    expiries: VecDeque<(u64, Scoped)>,
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

    pub(crate) fn insert(&mut self, scoped: Scoped, seq: u64, expires_ms: u64) {
        self.expiries.push_back((expires_ms, Arc::clone(&scoped)));
        self.seqs.insert(scoped, seq);
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
            }
        }
        if self.seqs.is_empty() {
            *self = Self::default();
        }
    }

    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.expiries.front().map(|(expires, _)| *expires)
    }
}
