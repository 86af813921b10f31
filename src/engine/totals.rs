//! What the loops of one server have counted together. Each leaves its numbers now and then, so that
//! any of them, and other threads, can speak for all without asking.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::stats::{LoopStats, Stats};
use crate::time::Now;

/// Where the loops of one server leave their numbers, each at its own place.
///
/// The locks are the standard library's, also in the model of threads: when numbers are left depends on
/// the clock, which is nothing that it could try in every order.
#[derive(Debug)]
pub struct Totals(Box<[Mutex<Left>]>);

#[derive(Debug, Default)]
struct Left {
    /// When (monotonic ms). They do not grow old once the loop has ended.
    at_ms: u64,
    stats: LoopStats,
}

impl Totals {
    /// For so many loops.
    #[must_use]
    pub fn new(loops: usize) -> Self {
        Self((0..loops).map(|_| Mutex::default()).collect())
    }

    /// Leaves the numbers of a loop, in place of those that it left before.
    pub fn leave(&self, loop_number: usize, stats: LoopStats, now: Now) {
        self.put(loop_number, Left { at_ms: now.mono_ms, stats });
    }

    /// Leaves what a loop that ends has counted. It holds nothing any more.
    pub fn leave_last(&self, loop_number: usize, counted: Stats) {
        let stats = LoopStats { counted, ..LoopStats::default() };
        self.put(loop_number, Left { at_ms: u64::MAX, stats });
    }

    fn put(&self, loop_number: usize, left: Left) {
        if let Some(place) = self.0.get(loop_number) {
            *lock(place) = left;
        }
    }

    /// What all loops have left, and when the oldest part of it was (monotonic ms).
    #[must_use]
    pub fn sum(&self) -> (LoopStats, u64) {
        let oldest_ms = self.0.iter().map(|place| lock(place).at_ms).min();
        (self.sum_with(usize::MAX, LoopStats::default()), oldest_ms.unwrap_or(0))
    }

    /// What all loops but one have left, and that one says itself.
    #[must_use]
    pub fn sum_with(&self, loop_number: usize, own: LoopStats) -> LoopStats {
        let mut sum = own;
        for (number, place) in self.0.iter().enumerate() {
            if number != loop_number {
                sum.add(&lock(place).stats);
            }
        }
        sum
    }
}

fn lock(place: &Mutex<Left>) -> MutexGuard<'_, Left> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::stats::Connections;
    use super::*;

    #[test]
    fn a_sum_has_what_each_loop_left_last() {
        let at = |mono_ms| Now { mono_ms, unix_ms: 0 };
        let stats = |ws, delivered| LoopStats {
            connections: Connections { ws, ..Connections::default() },
            subscriptions: ws,
            counted: Stats { delivered, ..Stats::default() },
        };
        let totals = Totals::new(3);
        for (number, (ws, delivered)) in [(7, 70), (1, 10), (2, 20)].into_iter().enumerate() {
            totals.leave(number, stats(ws, delivered), at(5));
        }
        totals.leave(0, stats(4, 71), at(9));
        let seen = |sum: &LoopStats| (sum.connections.ws, sum.subscriptions, sum.counted.delivered);
        let (sum, oldest_ms) = totals.sum();
        assert_eq!((seen(&sum), oldest_ms), ((7, 7, 101), 5));
        assert_eq!(seen(&totals.sum_with(0, stats(5, 72))), (8, 8, 102));
        // Those that have ended are as new as can be.
        totals.leave_last(1, stats(1, 11).counted);
        totals.leave_last(2, stats(2, 20).counted);
        let (sum, oldest_ms) = totals.sum();
        assert_eq!((seen(&sum), oldest_ms), ((4, 4, 102), 9));
    }
}
