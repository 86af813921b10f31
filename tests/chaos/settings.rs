//! How a random server is set.

use std::time::Duration;

use holdline::{Config, Rate};

use super::sim::Chance;
use super::truth::name;
use super::world::Rules;

pub fn pick<T: Copy>(rng: &mut Chance, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

/// What the binary takes at least.
const MEMORY_MIN: usize = 64 * 1024;

/// The channels that patterns of a world name.
pub fn latest(patterns: &[String]) -> Vec<usize> {
    let is_named = |one: &usize| patterns.iter().any(|p| p == "*" || *p == name(*one));
    (0..5).filter(is_named).collect()
}

/// Limits so low that everyone meets them, and no higher than that somebody who obeys gets on.
pub fn limit(config: &mut Config, rng: &mut Chance) {
    fn rate(rng: &mut Chance, burst: u32, every_ms: u64) -> Rate {
        match rng.u8(..4) {
            0 => Rate::OFF,
            _ => Rate {
                burst: rng.u32(1..=burst),
                every: Duration::from_millis(rng.u64(1..=every_ms)),
            },
        }
    }
    config.open = false;
    config.local_publish = true;
    config.trusted_proxies = vec!["127.0.0.0/8".into()];
    config.addresses_max = pick(rng, &[1, 2, 100, 100]);
    config.accepts_per_address = rate(rng, 6, 3_000);
    config.connections_per_address_max = rng.u32(..5);
    config.polls_per_address_max = rng.u32(..3);
    config.publishes_per_address = rate(rng, 8, 2_000);
    config.new_channels_per_address = rate(rng, 4, 5_000);
    config.operations_per_connection = rate(rng, 6, 1_000);
    config.publishes_per_channel = rate(rng, 8, 2_000);
}

pub fn config(rng: &mut Chance, rules: Rules) -> Config {
    let mut config = Config { open: true, ..Config::default() };
    let patterns: &[&str] = pick(rng, &[&[], &[], &["c0"], &["c1", "c2"], &["*"]]);
    config.latest = patterns.iter().map(|one| (*one).to_owned()).collect();
    if rng.bool() {
        config.writes_per_turn = rng.usize(1..6);
        config.write_bytes_per_turn = rng.usize(1..5_000);
        config.read_bytes_per_turn = rng.usize(100..2_000);
        config.reply_bytes_per_turn = rng.usize(1..1_000);
        config.arena_bytes = rng.usize(1..5_000);
        config.poll_messages_max = rng.usize(1..5);
        config.poll_bytes_max = rng.usize(1..2_000);
        config.timers_per_turn = rng.usize(1..4);
    }
    if rng.bool() {
        config.presence_members_max = rng.usize(1..8);
        config.presence_entries_max = rng.usize(0..8);
        config.presence_grace = Duration::from_millis(rng.u64(0..10_000));
        config.outbox_bytes_max = rng.usize(200..5_000);
    }
    if rules.forgets {
        config.history_messages = pick(rng, &[1, 3, 10, 50, 1_000]);
        config.recent_bytes = pick(rng, &[0, 600, 3_000, 1_000_000]);
        config.history_bytes = pick(rng, &[100, 3_000, 1_000_000]);
        config.history_age = Duration::from_secs(pick(rng, &[2, 20, 300]));
        config.memory_bytes = pick(rng, &[0, 0, MEMORY_MIN, 500_000]);
        config.channel_memory = Duration::from_secs(pick(rng, &[1, 60, 3_600]));
    } else {
        config.history_messages = 100_000;
        config.history_bytes = 60_000_000;
        config.history_age = Duration::from_secs(100_000);
    }
    if rules.is_tight {
        config.memory_bytes = pick(rng, &[MEMORY_MIN, 100_000, 200_000, 300_000]);
    }
    config
}
