//! Random operations on a random small history: what is counted as it changes is what is there.

use std::collections::HashSet;

use super::*;

const STEPS: usize = 600;

struct World {
    rng: fastrand::Rng,
    history: History,
    memory_bytes: usize,
    now: Now,
    horizon: u64,
    joined: Vec<ChannelIndex>,
    /// What connections hold.
    held: usize,
    /// What they have been lent.
    pins: Vec<Item>,
}

fn settings(rng: &mut fastrand::Rng) -> Config {
    Config {
        memory_bytes: rng.usize(16_000..200_000),
        history_messages: rng.usize(1..60),
        history_bytes: rng.usize(100..10_000),
        recent_bytes: rng.usize(0..30_000),
        channels_max: rng.usize(2..12),
        channel_memory: Duration::from_secs(60),
        idempotency_bytes_max: 4_000,
        idempotency_window: Duration::from_secs(20),
        latest: vec!["l*".to_owned()],
        ..Config::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let config = settings(&mut rng);
        let mut history = History::new(&config, Epoch::from_random(7), START);
        history.limits.counts_tables = rng.bool();
        let memory_bytes = config.memory_bytes;
        let (joined, pins) = (Vec::new(), Vec::new());
        Self { rng, history, memory_bytes, now: START, horizon: 0, joined, held: 0, pins }
    }

    fn step(&mut self) {
        let name = format!("{}{}", if self.rng.bool() { "l" } else { "p" }, self.rng.u32(0..8));
        match self.rng.u32(0..100) {
            0..60 => self.publish(&name),
            60..68 => self.horizon = self.history.take_in(self.horizon, &mut Vec::new()).horizon,
            68..74 => {
                let since = Some(Since::Earliest);
                let joined = self.history.join(&name, since, self.horizon, self.now);
                self.joined.extend(joined.ok().map(|joined| joined.channel));
            }
            74..80 if !self.joined.is_empty() => {
                let at = self.rng.usize(0..self.joined.len());
                self.history.leave(self.joined.swap_remove(at), self.now);
            }
            80..84 => self.history.clear(&name, self.now),
            84..88 => {
                self.now = self.now.after(self.rng.u64(0..30_000));
                self.history.sweep(self.now);
            }
            88..92 => {
                let held = self.rng.usize(0..self.memory_bytes * 3 / 4);
                self.history.hold(std::mem::replace(&mut self.held, held), held);
                self.history.give_way(self.now);
            }
            92..95 => self.pull(),
            95..98 => self.pins.clear(),
            _ => self.restart(),
        }
    }

    fn publish(&mut self, name: &str) {
        let most = [20, 400, 3_000][self.rng.usize(0..3)];
        let mut message = Message::from(vec![b'x'; self.rng.usize(0..most)]);
        if self.rng.bool() {
            message = message.event(format!("e{}", self.rng.u32(0..20)));
        }
        match self.rng.u32(0..5) {
            0 => message = message.ttl(Duration::ZERO),
            1 => message = message.ttl(Duration::from_secs(self.rng.u64(1..40))),
            _ => {}
        }
        if self.rng.u32(0..5) == 0 {
            message = message.idempotency_key(format!("k{}", self.rng.u32(0..50)));
        }
        let _ = self.history.publish(name, message, self.now);
    }

    fn pull(&mut self) {
        let Some(channel) = self.joined.first() else { return };
        let want = Want { channel: *channel, after: 0, catching_up: self.rng.bool() };
        let limits = PullLimits { count: 5, bytes: 3_000 };
        let (pins, lost) = (&mut self.pins, &mut Vec::new());
        self.history.pull(&[want], self.horizon, limits, self.now, pins, lost);
    }

    /// What is written and read again is whole, and as much as there was where there is as much room.
    fn restart(&self) {
        let mut bytes = Vec::new();
        self.history.snapshot(self.now, &mut |part| bytes.extend_from_slice(part));
        let (limits, mut rest) = (&self.history.limits, &bytes[..]);
        let new = |epoch| {
            let mut history = History::new(&Config::default(), epoch, self.now);
            history.limits = limits.clone();
            history
        };
        let mut source = |wanted: &mut [u8]| {
            let Some((taken, left)) = rest.split_at_checked(wanted.len()) else { return false };
            wanted.copy_from_slice(taken);
            rest = left;
            true
        };
        let again = History::refill(new, bytes.len() as u64, &mut source, self.now);
        let again = again.expect("it is whole");
        audit(&again, 0);
        assert_eq!(again.head(), self.history.head());
        if self.pins.is_empty() && self.held == 0 && !limits.counts_tables {
            assert_eq!(self.infos(&again), self.infos(&self.history));
        }
    }

    fn infos(&self, history: &History) -> Vec<(usize, usize)> {
        let names = (0..8).flat_map(|number| [format!("l{number}"), format!("p{number}")]);
        let infos = names.map(|name| history.info(&name, self.now));
        infos.map(|info| (info.messages, info.bytes)).collect()
    }

    /// Weight of what only connections have.
    fn pinned(&self) -> usize {
        let inner = self.history.lock();
        let held: HashSet<u64> =
            inner.channels.iter().flat_map(|(_, c)| c.all()).map(|p| p.seq).collect();
        let mut seen = HashSet::new();
        let pins = self.pins.iter().filter(|pin| seen.insert(pin.seq) && !held.contains(&pin.seq));
        pins.map(|pin| pin.weight()).sum()
    }
}

fn audit(history: &History, pinned: usize) {
    history.check();
    let inner = history.lock();
    let all = inner.channels.iter().flat_map(|(_, channel)| channel.all());
    assert_eq!(all.map(|p| p.weight()).sum::<usize>(), inner.held);
    assert_eq!(history.budget.used(), inner.held + pinned);
    let recent: usize = inner.recent.iter().map(|recent| recent.weight as usize).sum();
    assert_eq!(recent, inner.recent_bytes);
    assert!(inner.recent.iter().is_sorted_by(|a, b| a.seq < b.seq));
    let is_there = |recent: &Recent| inner.channels.contains(recent.channel as usize);
    assert!(inner.recent.iter().all(is_there), "what is recent is of a channel");
    let order: HashSet<_> = inner.order.iter().copied().collect();
    for (index, channel) in &inner.channels {
        channel.audit(inner.recent_gone, inner.head);
        let index = index as ChannelIndex;
        let mut kept = channel.visible(0);
        assert!(kept.all(|p| order.contains(&(p.seq, index))), "what is kept has a place");
        assert_eq!(inner.names.get(&channel.name), Some(index));
    }
}

/// Names the seed of a world that fails.
struct Named(u64, usize);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}, step {}", self.0, self.1);
        }
    }
}

#[test]
fn whatever_is_done_what_is_counted_is_what_is_there() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        let mut at = Named(seed, 0);
        for step in 0..STEPS {
            at.1 = step;
            world.step();
            audit(&world.history, world.pinned());
        }
    }
}
