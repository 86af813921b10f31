//! One channel's two rings: how they read as one, and what they give back after a burst.

use super::*;
use crate::message::{Budget, Message};

fn channel() -> Channel {
    Channel::new("x".into(), false, 0, 0, 0)
}

fn put(channel: &mut Channel, seq: u64, is_passing: bool) {
    let message = Message { ttl_s: is_passing.then_some(0), ..Message::from("text") };
    let budget = Arc::<Budget>::default();
    channel.push(Arc::new(Publication::new(message, "x".into(), seq, 1_000, &budget)));
}

/// What a reader behind `after` is owed, by seq.
fn owed(channel: &Channel, after: u64, catching_up: bool) -> Vec<u64> {
    let mut owed = channel.owed(after, catching_up);
    let mut seqs = Vec::new();
    while let Some(publication) = owed.peek() {
        seqs.push(publication.seq);
        assert!(seqs.len() < 100, "it does not end: {seqs:?}");
        owed.advance();
    }
    seqs
}

#[test]
fn two_rings_read_as_one_order() {
    let mut channel = channel();
    for (seq, is_passing) in [(1, true), (2, false), (4, true), (6, false), (8, true), (9, true)] {
        put(&mut channel, seq, is_passing);
    }
    let cases: [(u64, &[u64], &[u64]); 6] = [
        (0, &[1, 2, 4, 6, 8, 9], &[2, 6]),
        (1, &[2, 4, 6, 8, 9], &[2, 6]),
        (2, &[4, 6, 8, 9], &[6]),
        (6, &[8, 9], &[]),
        (8, &[9], &[]),
        (9, &[], &[]),
    ];
    for (after, live, replayed) in cases {
        assert_eq!(owed(&channel, after, false), live, "live after {after}");
        assert_eq!(owed(&channel, after, true), replayed, "replayed after {after}");
    }
}

#[test]
fn a_burst_leaves_no_table_behind() {
    // How many are pushed, how many of them stay, and whether the table shrinks for it.
    for (pushed, stay, shrinks) in [(1_000, 10, true), (1_000, 400, false), (40, 1, false)] {
        let mut channel = channel();
        (1..=pushed).for_each(|seq| put(&mut channel, seq, false));
        let before = channel.ring.capacity();
        channel.enforce(stay, usize::MAX, u64::MAX, 1_000);
        let mut evicted = Evicted::new();
        channel.trim(pushed, &mut evicted);
        assert_eq!((channel.kept(), evicted.len()), (stay, pushed as usize - stay));
        let after = channel.ring.capacity();
        if shrinks {
            assert!((2 * stay..=64).contains(&after), "{before} became {after}");
        } else {
            assert_eq!(after, before, "{stay} of {pushed}");
        }
    }
}

impl Channel {
    /// All that it holds.
    pub(in crate::hub) fn all(&self) -> impl Iterator<Item = &Arc<Publication>> {
        self.ring.iter().chain(&self.passing)
    }

    /// Asserts that its parts agree with each other.
    pub(in crate::hub) fn audit(&self, recent_gone: u64, head: u64) {
        assert!(self.hidden <= self.ring.len());
        let bytes: usize = self.ring.iter().skip(self.hidden).map(|p| p.payload.len()).sum();
        assert_eq!(bytes, self.kept_bytes, "kept bytes");
        for ring in [&self.ring, &self.passing] {
            assert!(ring.iter().is_sorted_by(|a, b| a.seq < b.seq));
        }
        assert!(self.passing.front().is_none_or(|p| p.seq > recent_gone));
        assert!(self.oldest_kept().is_none_or(|p| p.seq > self.floor));
        assert!(self.gone <= self.floor && self.floor <= head, "{} {}", self.gone, self.floor);
        if let Some(newest) = &self.newest {
            let mut names: Vec<_> = self.ring.iter().map(|p| &p.event).collect();
            names.sort_unstable();
            assert!(names.is_sorted_by(|a, b| a < b), "one of each name: {names:?}");
            newest.audit(|p| self.all().any(|held| Arc::ptr_eq(p, held)));
        }
    }
}
