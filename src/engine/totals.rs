//! What the loops of one server have counted together. Each leaves its numbers now and then, so that
//! any of them, and any thread, can speak for all without asking.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::stats::LoopStats;

/// Where the loops of one server leave their numbers, each at its own place.
///
/// The locks are the standard library's, also in the model of threads: when a loop leaves its numbers
/// is a matter of the clock, and nothing that a model could try in every order.
#[derive(Debug)]
pub struct Totals(Box<[Mutex<Left>]>);

#[derive(Debug, Default)]
struct Left {
    /// When (monotonic ms).
    at_ms: u64,
    stats: LoopStats,
    /// Somebody has asked for newer ones.
    is_asked: bool,
}

impl Totals {
    /// For so many loops.
    #[must_use]
    pub fn new(loops: usize) -> Self {
        Self((0..loops).map(|_| Mutex::default()).collect())
    }

    /// Leaves the numbers of a loop, in place of those that it left before.
    pub fn leave(&self, loop_number: usize, stats: LoopStats, at_ms: u64) {
        if let Some(place) = self.0.get(loop_number) {
            *lock(place) = Left { at_ms, stats, is_asked: false };
        }
    }

    /// What all loops have left, and when the oldest of it was (monotonic ms).
    #[must_use]
    pub fn sum(&self) -> (LoopStats, u64) {
        let oldest = self.0.iter().map(|place| lock(place).at_ms).min();
        (self.sum_with(usize::MAX, LoopStats::default()), oldest.unwrap_or(0))
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

    /// Notes that newer numbers are wanted; whether nobody has asked since the last were left.
    pub fn ask(&self) -> bool {
        self.0.iter().filter(|place| !std::mem::replace(&mut lock(place).is_asked, true)).count()
            > 0
    }

    /// Nobody could be told that they are wanted.
    pub fn unask(&self) {
        self.0.iter().for_each(|place| lock(place).is_asked = false);
    }
}

fn lock(place: &Mutex<Left>) -> MutexGuard<'_, Left> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::stats::{Connections, Stats};
    use super::*;

    fn stats(ws: usize, delivered: u64) -> LoopStats {
        LoopStats {
            connections: Connections { ws, ..Connections::default() },
            subscriptions: ws,
            counted: Stats { delivered, ..Stats::default() },
        }
    }

    #[test]
    fn a_sum_has_what_each_loop_left_last() {
        let totals = Totals::new(3);
        for (number, (ws, delivered)) in [(7, 70), (1, 10), (2, 20)].into_iter().enumerate() {
            totals.leave(number, stats(ws, delivered), 5);
        }
        totals.leave(0, stats(4, 71), 9);
        let seen = |sum: LoopStats| (sum.connections.ws, sum.subscriptions, sum.counted.delivered);
        let (sum, oldest) = totals.sum();
        assert_eq!((seen(sum), oldest), ((7, 7, 101), 5));
        assert_eq!(seen(totals.sum_with(0, stats(5, 72))), (8, 8, 102));
    }

    #[test]
    fn who_asks_again_before_all_have_answered_need_not_be_heard() {
        let totals = Totals::new(2);
        assert!(totals.ask() && !totals.ask());
        totals.leave(1, stats(1, 1), 1);
        assert!(totals.ask());
        totals.unask();
        assert!(totals.ask());
    }
}
