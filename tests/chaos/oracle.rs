//! Judges what one reader lived through: delivered ∪ announced gaps = published, in order, nothing
//! twice on one connection, and no position told before everything up to it had come. On channels
//! that keep only the newest of each event name, what has been superseded by then need not come, and
//! to a new connection must not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::truth::{At, Truth, name};

/// One thing that happened to a reader.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A new connection, from the position on; without one, from now on, or with all that is kept.
    /// The order ended at `head`.
    Opened {
        via: &'static str,
        channels: Vec<usize>,
        since: Option<At>,
        wants_all: bool,
        head: At,
    },
    /// The answer to that has begun, when the order ended at `head`.
    Begun {
        head: At,
    },
    /// A subscription was confirmed; without a position it began at or before `head`.
    Joined {
        channel: usize,
        since: Option<At>,
        head: At,
    },
    /// A channel is not wanted any more.
    Left {
        channel: usize,
    },
    Message {
        channel: usize,
        at: At,
    },
    Gap {
        channels: Vec<usize>,
        reason: String,
        since: Option<At>,
        resumed: At,
    },
    /// The position that it would resume from is this now.
    /// The order ended at `head`.
    Told {
        at: At,
        head: At,
        unix_ms: u64,
    },
}

#[derive(Debug, Default)]
struct Followed {
    /// Everything up to here is accounted for; `None` until a first position is told.
    base: Option<At>,
    delivered: HashSet<At>,
    /// `(from, to]` of a run.
    gaps: Vec<(usize, u64, u64)>,
    /// Announced that what it knew belongs to another run: which run goes on.
    renewed: Option<usize>,
}

impl Followed {
    fn has(&self, at: At) -> bool {
        let in_gap =
            |gap: &(usize, u64, u64)| gap.0 == at.epoch && gap.1 < at.seq && at.seq <= gap.2;
        self.delivered.contains(&at) || self.gaps.iter().any(in_gap)
    }
}

/// What a reader's life amounted to.
#[derive(Debug, Default)]
pub struct Verdict {
    pub messages: usize,
    pub gaps: HashMap<String, usize>,
    pub told: usize,
    pub opened: usize,
    /// Of the last run of each world: what was published, and of how much nobody knows what it was.
    pub published: u64,
    pub unknown: u64,
    /// And what was superseded.
    pub conflated: u64,
    /// What was refused, and came again.
    pub refused: BTreeMap<&'static str, usize>,
}

impl Verdict {
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.told += other.told;
        self.opened += other.opened;
        self.published += other.published;
        self.unknown += other.unknown;
        self.conflated += other.conflated;
        self.add_refused(&other.refused);
        for (reason, count) in &other.gaps {
            *self.gaps.entry(reason.clone()).or_default() += count;
        }
    }

    pub fn add_refused(&mut self, refused: &BTreeMap<&'static str, usize>) {
        for (what, count) in refused {
            *self.refused.entry(what).or_default() += count;
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, told, opened, published, unknown, conflated, refused, .. } = self;
        let mut gaps: Vec<_> = self.gaps.iter().collect();
        gaps.sort();
        write!(
            f,
            "{opened} connections, {messages} messages, {told} positions, gaps {gaps:?}, \
             {published} published of which {conflated} were superseded and {unknown} nobody saw, \
             refused {refused:?}"
        )
    }
}

/// # Panics
/// If a promise was broken, with what led to it.
pub fn judge(who: &str, log: &[Entry], truth: &Truth) -> Verdict {
    let mut judge = Judge::default();
    let mut verdict = Verdict::default();
    for (number, entry) in log.iter().enumerate() {
        let wrong = judge.take(entry, truth, &mut verdict).err();
        if let Some(wrong) = wrong {
            let from = number.saturating_sub(40);
            let lines: Vec<_> =
                log[from..=number].iter().map(|entry| format!("{entry:?}")).collect();
            panic!("{who}: {wrong}\n{}", lines.join("\n"));
        }
    }
    verdict
}

#[derive(Default)]
struct Judge {
    followed: HashMap<usize, Followed>,
    /// Of this connection: the newest message of each channel, and of all.
    last: HashMap<usize, At>,
    latest: Option<At>,
    /// Not all its channels were subscribed together: they need not come in one order.
    is_mixed: bool,
    /// Where the order ended when this connection was asked for.
    opened: Option<At>,
    /// It asked for all that is kept, which begins elsewhere for each channel: before it has got
    /// here, nothing is owed.
    all: Option<At>,
    /// What it has asked to follow only what comes behind.
    asked: HashMap<usize, At>,
}

impl Judge {
    fn take(&mut self, entry: &Entry, truth: &Truth, verdict: &mut Verdict) -> Result<(), String> {
        match entry {
            Entry::Opened { channels, since, wants_all, head, .. } => {
                verdict.opened += 1;
                (self.last, self.latest, self.is_mixed) = (HashMap::new(), None, false);
                self.opened = Some(*head);
                self.all = self.opened.filter(|_| *wants_all);
                self.followed.retain(|channel, _| channels.contains(channel));
                self.asked.clear();
                for channel in channels {
                    self.asked.extend(since.map(|since| (*channel, since)));
                    let followed = self.followed.entry(*channel).or_default();
                    followed.base = since.and(followed.base.or(*since));
                }
            }
            Entry::Begun { head } => self.all = self.all.map(|_| *head),
            Entry::Joined { channel, since, head } => {
                self.is_mixed = true;
                self.last.remove(channel);
                self.asked.remove(channel);
                self.asked.extend(since.map(|since| (*channel, since)));
                let followed = self.followed.entry(*channel).or_default();
                followed.base = followed.base.or_else(|| Some(since.unwrap_or(*head)));
            }
            Entry::Left { channel } => {
                self.followed.remove(channel);
                self.last.remove(channel);
            }
            Entry::Message { channel, at } => {
                verdict.messages += 1;
                self.message(*channel, *at, truth)?;
            }
            Entry::Gap { channels, reason, since, resumed } => {
                *verdict.gaps.entry(reason.clone()).or_default() += 1;
                self.gap(channels, reason, *since, *resumed)?;
            }
            Entry::Told { at, head, unix_ms } => {
                verdict.told += 1;
                return self.told(*at, *head, *unix_ms, truth);
            }
        }
        Ok(())
    }

    fn message(&mut self, channel: usize, at: At, truth: &Truth) -> Result<(), String> {
        let is_passing = truth.spec_at(at).is_some_and(|spec| spec.ttl_s == Some(0));
        if is_passing && self.opened >= Some(at) {
            return Err(format!("{at:?} was only for those who listened then"));
        }
        if self.opened.is_some_and(|opened| truth.is_known_superseded(at, opened)) {
            return Err(format!("{at:?} had been superseded before this connection"));
        }
        let is_known = |asked: &At| asked.epoch == at.epoch && at.seq <= asked.seq;
        if self.asked.get(&channel).is_some_and(is_known) {
            return Err(format!("{at:?} of {} was not asked for", name(channel)));
        }
        if self.last.insert(channel, at).is_some_and(|last| last >= at) {
            return Err(format!("{at:?} came after its like or a later one of {}", name(channel)));
        }
        if !self.is_mixed && self.latest.is_some_and(|latest| latest >= at) {
            return Err(format!("{at:?} came after a later one of another channel"));
        }
        self.latest = self.latest.max(Some(at));
        // One that was just left may still come.
        if let Some(followed) = self.followed.get_mut(&channel) {
            followed.delivered.insert(at);
        }
        Ok(())
    }

    fn gap(
        &mut self,
        channels: &[usize],
        reason: &str,
        since: Option<At>,
        resumed: At,
    ) -> Result<(), String> {
        let is_other_run = since.is_some_and(|since| since.epoch != resumed.epoch);
        if (reason == "epoch") != is_other_run {
            return Err(format!("a gap of {reason} from {since:?} to {resumed:?}"));
        }
        for channel in channels {
            let Some(followed) = self.followed.get_mut(channel) else { continue };
            let from = since.filter(|_| !is_other_run).map_or(0, |since| since.seq);
            followed.gaps.push((resumed.epoch, from, resumed.seq));
            if is_other_run {
                followed.renewed = Some(resumed.epoch);
            }
        }
        Ok(())
    }

    fn told(&mut self, at: At, head: At, unix_ms: u64, truth: &Truth) -> Result<(), String> {
        for (channel, followed) in &mut self.followed {
            let Some(base) = followed.base else {
                followed.base = Some(at).filter(|at| self.all.is_none_or(|all| all <= *at));
                continue;
            };
            if base.epoch > at.epoch {
                return Err(format!("told {at:?} of a run that is over"));
            }
            let after = if base.epoch == at.epoch {
                base.seq
            } else if followed.renewed == Some(at.epoch) {
                0
            } else {
                return Err(format!("{} goes on in another run unannounced", name(*channel)));
            };
            let mut owed = truth.between(*channel, at.epoch, after, at.seq);
            let missing = owed.find(|(place, spec)| {
                let is_owed = spec.is_owed(unix_ms) && !followed.has(*place);
                is_owed && !truth.is_superseded(*place, head)
            });
            if let Some((place, spec)) = missing {
                let state = format!("{spec:?}, base {base:?}, gaps {:?}", followed.gaps);
                return Err(format!(
                    "told {at:?} without {place:?} of {}: {state}",
                    name(*channel)
                ));
            }
            followed.base = Some(base.max(at));
        }
        Ok(())
    }
}
