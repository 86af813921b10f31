//! Timers: one hashed wheel of 256 buckets of 250 ms, one entry per connection.
//!
//! The wheel is lazy: activity does not touch it. Its owner files the earliest moment at which
//! something could be due, and when that comes looks what really is and files again. Only a
//! deadline *earlier* than the filed one must be filed at once.

/// Width of a bucket.
pub const TICK_MS: u64 = 250;

const BUCKETS: usize = 256;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
    /// Tick at which it fires; `NONE` when not filed.
    due: u32,
}

const UNFILED: Link = Link { prev: NONE, next: NONE, due: NONE };

/// Entries by index (that of a slot), each filed at most once.
#[derive(Debug)]
pub struct Wheel {
    heads: Box<[u32]>,
    occupied: [u64; BUCKETS / 64],
    links: Vec<Link>,
    /// Everything due up to this tick has been handed out.
    done: u64,
}

impl Wheel {
    /// An empty wheel that starts at `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            heads: vec![NONE; BUCKETS].into_boxed_slice(),
            occupied: [0; BUCKETS / 64],
            links: Vec::new(),
            done: now_ms / TICK_MS,
        }
    }

    /// The tick by which `deadline_ms` is over: never early.
    #[must_use]
    pub fn tick_of(deadline_ms: u64) -> u64 {
        deadline_ms.div_ceil(TICK_MS)
    }

    /// Files `index` for `deadline_ms`, in place of what was filed for it.
    pub fn file(&mut self, index: u32, deadline_ms: u64) {
        self.cancel(index);
        if index as usize >= self.links.len() {
            self.grow(index as usize + 1);
        }
        let due = Self::tick_of(deadline_ms).max(self.done + 1).min(u64::from(NONE - 1)) as u32;
        let bucket = due as usize % BUCKETS;
        let next = self.heads[bucket];
        self.links[index as usize] = Link { prev: NONE, next, due };
        if let Some(link) = self.links.get_mut(next as usize) {
            link.prev = index;
        }
        self.heads[bucket] = index;
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
    }

    /// Files `index` only if nothing earlier is filed for it.
    pub fn file_no_later(&mut self, index: u32, deadline_ms: u64) {
        let filed = self.links.get(index as usize).map_or(NONE, |link| link.due);
        if Self::tick_of(deadline_ms) < u64::from(filed) {
            self.file(index, deadline_ms);
        }
    }

    /// Takes `index` out.
    pub fn cancel(&mut self, index: u32) {
        let Some(link) = self.links.get(index as usize).copied() else { return };
        if link.due == NONE {
            return;
        }
        self.links[index as usize] = UNFILED;
        if let Some(next) = self.links.get_mut(link.next as usize) {
            next.prev = link.prev;
        }
        if let Some(prev) = self.links.get_mut(link.prev as usize) {
            prev.next = link.next;
            return;
        }
        let bucket = link.due as usize % BUCKETS;
        self.heads[bucket] = link.next;
        if link.next == NONE {
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        }
    }

    /// Takes out what is due at `now_ms`, at most `limit` of it; the rest comes with the next call.
    pub fn expire(&mut self, now_ms: u64, limit: usize, out: &mut Vec<u32>) {
        let now = now_ms / TICK_MS;
        // After a long sleep each bucket needs only one look.
        if now.saturating_sub(self.done) > BUCKETS as u64 {
            self.done = now - BUCKETS as u64;
        }
        while self.done < now {
            let bucket = (self.done + 1) as usize % BUCKETS;
            if !self.empty_bucket(bucket, now, limit, out) {
                return;
            }
            self.done += 1;
        }
    }

    /// Whether the bucket was finished within the limit.
    fn empty_bucket(&mut self, bucket: usize, now: u64, limit: usize, out: &mut Vec<u32>) -> bool {
        let mut at = self.heads[bucket];
        while at != NONE {
            let link = self.links[at as usize];
            if u64::from(link.due) <= now {
                if out.len() == limit {
                    return false;
                }
                self.cancel(at);
                out.push(at);
            }
            at = link.next;
        }
        true
    }

    /// The moment of the next bucket that holds something. What is filed further than one round
    /// ahead makes it early, at most once a round.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let start = (self.done + 1) as usize % BUCKETS;
        let first = start / 64;
        for step in 0..=BUCKETS / 64 {
            let word = (first + step) % (BUCKETS / 64);
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == BUCKETS / 64 {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let bucket = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (bucket + BUCKETS - start) % BUCKETS;
                return Some((self.done + 1 + ahead as u64) * TICK_MS);
            }
        }
        None
    }

    /// Whether nothing is filed for `index`.
    #[must_use]
    pub fn is_unfiled(&self, index: u32) -> bool {
        self.links.get(index as usize).is_none_or(|link| link.due == NONE)
    }

    /// All that is filed. For tests.
    #[doc(hidden)]
    pub fn filed(&self) -> impl Iterator<Item = u32> + '_ {
        let links = (0..).zip(&self.links);
        links.filter(|(_, link)| link.due != NONE).map(|(index, _)| index)
    }

    /// What its table takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.links.capacity() * size_of::<Link>()
    }

    /// Gives back what is beyond `len` entries, of which none is filed.
    pub fn shrink(&mut self, len: usize) {
        debug_assert!(self.links.iter().skip(len).all(|link| link.due == NONE), "one is filed");
        self.links.truncate(len);
        self.links.shrink_to_fit();
    }

    fn grow(&mut self, len: usize) {
        if len > self.links.capacity() {
            let more = (self.links.len() / 8).max(16).max(len - self.links.len());
            self.links.reserve_exact(more);
        }
        self.links.resize(len, UNFILED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wheel: &mut Wheel, now_ms: u64) -> Vec<u32> {
        let mut out = Vec::new();
        wheel.expire(now_ms, usize::MAX, &mut out);
        out.sort_unstable();
        out
    }

    #[test]
    fn nothing_fires_early_and_everything_within_a_tick() {
        let mut wheel = Wheel::new(0);
        wheel.file(7, 1_001);
        assert!(due(&mut wheel, 1_000).is_empty());
        assert_eq!(wheel.next_deadline(), Some(1_250));
        assert!(due(&mut wheel, 1_249).is_empty());
        assert_eq!(due(&mut wheel, 1_250), [7]);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn what_is_filed_rounds_ahead_waits_for_its_round() {
        let mut wheel = Wheel::new(0);
        wheel.file(1, 75_000);
        let mut now = 0;
        while let Some(next) = wheel.next_deadline() {
            now = next;
            if !due(&mut wheel, now).is_empty() {
                break;
            }
        }
        assert_eq!(now, 75_000);
    }

    #[test]
    fn an_earlier_deadline_replaces_a_later_one() {
        let mut wheel = Wheel::new(0);
        wheel.file(1, 10_000);
        wheel.file_no_later(1, 20_000);
        wheel.file_no_later(1, 500);
        assert_eq!(due(&mut wheel, 500), [1]);
        assert!(due(&mut wheel, 60_000).is_empty());
    }

    #[test]
    fn a_limit_leaves_the_rest_for_the_next_call() {
        let mut wheel = Wheel::new(0);
        for index in 0..10 {
            wheel.file(index, 250);
        }
        let (mut first, mut second) = (Vec::new(), Vec::new());
        wheel.expire(250, 6, &mut first);
        assert_eq!(first.len(), 6);
        assert_eq!(wheel.next_deadline(), Some(250));
        wheel.expire(250, 6, &mut second);
        assert_eq!(second.len(), 4);
    }

    #[test]
    fn agrees_with_a_sorted_list() {
        let seed = std::process::id().into();
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut wheel = Wheel::new(0);
        let mut model: Vec<Option<u64>> = vec![None; 64];
        let mut now = 0;
        for _ in 0..20_000 {
            let index = rng.u32(0..64);
            match rng.u32(0..4) {
                0 | 1 => {
                    let deadline = now + rng.u64(0..200_000);
                    wheel.file(index, deadline);
                    model[index as usize] = Some(deadline);
                }
                2 => {
                    wheel.cancel(index);
                    model[index as usize] = None;
                }
                _ => {
                    now += rng.u64(0..100_000);
                    let fired = due(&mut wheel, now);
                    for index in 0..64u32 {
                        let tick = model[index as usize].map(|d| Wheel::tick_of(d) * TICK_MS);
                        let expected = tick.is_some_and(|t| t <= now / TICK_MS * TICK_MS);
                        // A deadline in the past fires with the next tick.
                        if fired.contains(&index) {
                            assert!(tick.is_some_and(|t| t <= now), "early {index} at {now}");
                            model[index as usize] = None;
                        } else if expected {
                            assert!(!wheel.is_unfiled(index), "lost {index} at {now}");
                            assert!(wheel.next_deadline().is_some_and(|t| t <= now + TICK_MS));
                        }
                    }
                }
            }
        }
    }
}
