//! What the loops of one server have counted together. Each leaves its figures now and then, so that
//! any of them can speak for all without asking.

use std::sync::PoisonError;

use super::stats::{Connections, Stats};
use crate::sync::Mutex;

/// What one loop has, and has counted; or several of them together.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Connections by what they are.
    pub connections: Connections,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Counters.
    pub stats: Stats,
}

impl Figures {
    /// Adds those of another loop.
    pub fn add(&mut self, other: &Self) {
        self.connections.http += other.connections.http;
        self.connections.ws += other.connections.ws;
        self.connections.sse += other.connections.sse;
        self.connections.poll += other.connections.poll;
        self.subscriptions += other.subscriptions;
        self.stats.add(&other.stats);
    }
}

/// Where the loops of one server leave their figures for each other, by their numbers.
#[derive(Debug)]
pub struct Totals(Box<[Mutex<Figures>]>);

impl Totals {
    /// For so many loops.
    #[must_use]
    pub fn new(loops: usize) -> Self {
        Self((0..loops).map(|_| Mutex::new(Figures::default())).collect())
    }

    /// Leaves the figures of a loop, in place of those that it left before.
    pub fn leave(&self, loop_number: usize, figures: Figures) {
        if let Some(place) = self.0.get(loop_number) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = figures;
        }
    }

    /// What all loops have left.
    #[must_use]
    pub fn sum(&self) -> Figures {
        self.sum_with(usize::MAX, Figures::default())
    }

    /// What all loops but one have left, and that one says itself.
    #[must_use]
    pub fn sum_with(&self, loop_number: usize, own: Figures) -> Figures {
        let mut sum = own;
        for (number, place) in self.0.iter().enumerate() {
            if number != loop_number {
                sum.add(&place.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_has_what_each_loop_left_last() {
        let figures = |ws, delivered| Figures {
            connections: Connections { ws, ..Connections::default() },
            subscriptions: ws,
            stats: Stats { delivered, ..Stats::default() },
            ..Figures::default()
        };
        let totals = Totals::new(3);
        for (number, (ws, delivered)) in [(7, 70), (1, 10), (2, 20)].into_iter().enumerate() {
            totals.leave(number, figures(ws, delivered));
        }
        totals.leave(0, figures(4, 71));
        let seen = |sum: Figures| (sum.connections.ws, sum.subscriptions, sum.stats.delivered);
        assert_eq!(seen(totals.sum()), (7, 7, 101));
        assert_eq!(seen(totals.sum_with(0, figures(5, 72))), (8, 8, 102));
    }
}
