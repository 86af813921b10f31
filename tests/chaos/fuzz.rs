//! The world driven by bytes that somebody chose, judged by the same oracle.

use super::oracle::Verdict;
use super::sim::{Chance, Pace};
use super::world::{Rules, World};

/// Lives through a world in which every choice is a byte of `data`; what happened in it.
///
/// # Panics
/// If a promise was broken, which would be a bug.
pub fn fuzz_engine(data: &[u8]) -> Verdict {
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    let rules = Rules {
        among_threads: false,
        forgets: first & 1 != 0 || first & 64 != 0,
        restarts: first & 2 != 0,
        publishes: first & 4 != 0,
        asks: first & 8 != 0,
        plans: false,
        limits: first & 32 != 0,
        is_tight: first & 64 != 0,
    };
    let mut world = World::new(Chance::from(rest), rules);
    if first & 16 != 0 {
        world.sim.pace = Pace::Pieces(world.sim.rng.usize(20..500));
    }
    while !world.sim.rng.is_used_up() {
        world.step();
    }
    world.sim.pace = Pace::Whole;
    world.come_to_rest();
    world.end()
}
