//! One channel's part of the order: a ring of what is kept, and how far limits have eaten into it.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::latest::Newest;
use crate::message::Publication;

/// A channel's place in the history's table. Stays its own while anyone listens or anything is kept.
pub type ChannelIndex = u32;

/// What history lets go of; dropped by the caller after it has unlocked.
pub(crate) type Evicted = Vec<Arc<Publication>>;

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) name: Arc<str>,
    /// In order of seq. The first `hidden` are past a limit and only stay because `recent` still
    /// holds them, for those who listened when they were published.
    ring: VecDeque<Arc<Publication>>,
    hidden: usize,
    /// Published with `ttl=0`: never replayed, kept exactly as long as `recent` holds them. On a
    /// channel that conflates also what has just been superseded, until a loop looks again.
    passing: VecDeque<Arc<Publication>>,
    /// On a channel that conflates: the newest of each event name.
    newest: Option<Box<Newest>>,
    /// Payload bytes of what is not hidden.
    kept_bytes: usize,
    /// Newest seq that a limit took out of the sight of a `since`, and its time.
    pub(crate) floor: u64,
    pub(crate) floor_ms: u64,
    /// Newest seq that a limit took and that is not even in the ring any more.
    pub(crate) gone: u64,
    /// Newest seq, `ttl=0` included.
    pub(crate) last: u64,
    /// On all loops.
    pub(crate) subscribers: u32,
    /// Loops, as bits, that have any of them. Kept only where there are several.
    pub(crate) loops: u64,
    /// When it was last used (monotonic ms).
    pub(crate) touched_ms: u64,
}

impl Channel {
    /// A channel whose past up to `floor` is unknown.
    pub(crate) fn new(
        name: Arc<str>,
        conflates: bool,
        floor: u64,
        floor_ms: u64,
        now_ms: u64,
    ) -> Self {
        Self {
            name,
            ring: VecDeque::new(),
            hidden: 0,
            passing: VecDeque::new(),
            newest: conflates.then(Box::default),
            kept_bytes: 0,
            floor,
            floor_ms,
            gone: floor,
            last: 0,
            subscribers: 0,
            loops: 0,
            touched_ms: now_ms,
        }
    }

    pub(crate) fn push(&mut self, publication: Arc<Publication>) {
        self.last = publication.seq;
        if let Some(newest) = &mut self.newest {
            newest.replace(&publication);
        }
        if publication.is_passing() {
            self.passing.push_back(publication);
        } else {
            self.kept_bytes += publication.payload.len();
            self.ring.push_back(publication);
        }
    }

    /// Whether only the newest of each event name is kept.
    pub(crate) fn conflates(&self) -> bool {
        self.newest.is_some()
    }

    /// On a channel that conflates, takes out what `by` makes obsolete before it is pushed; returns
    /// how many. No floor rises: nothing is lost.
    ///
    /// What lies in `delivered`, which a loop has taken in and may be about to deliver, still passes,
    /// and is listed in `late`: its successor is beyond that loop's horizon, and a reader that found
    /// neither would never get anything where others publish fast enough.
    pub(crate) fn supersede(
        &mut self,
        by: &Arc<Publication>,
        delivered: RangeInclusive<u64>,
        late: &mut Vec<u64>,
        evicted: &mut Evicted,
    ) -> u64 {
        let Some(newest) = &mut self.newest else { return 0 };
        // What passes is not for those who come later: what is kept for them stays.
        let passing = if by.is_passing() { None } else { newest.take_passing(by) };
        let same = newest.replace(by);
        let mut count = 0;
        for old in passing.into_iter().chain(same) {
            count += 1;
            let is_late = delivered.contains(&old.seq);
            if is_late {
                late.push(old.seq);
            }
            match (old.is_passing(), is_late) {
                (false, false) => evicted.extend(self.take_kept(old.seq)),
                (false, true) => self.let_pass(old.seq),
                (true, false) => evicted.extend(self.take_passing(old.seq)),
                (true, true) => {}
            }
        }
        count
    }

    fn take_kept(&mut self, seq: u64) -> Option<Arc<Publication>> {
        let at = self.ring.binary_search_by_key(&seq, |p| p.seq).ok()?;
        let taken = self.ring.remove(at)?;
        if at < self.hidden {
            self.hidden -= 1;
        } else {
            self.kept_bytes -= taken.payload.len();
        }
        Some(taken)
    }

    /// Takes out what passes and is not to be delivered any more.
    pub(crate) fn take_passing(&mut self, seq: u64) -> Option<Arc<Publication>> {
        let at = self.passing.binary_search_by_key(&seq, |p| p.seq).ok()?;
        self.passing.remove(at)
    }

    fn let_pass(&mut self, seq: u64) {
        let at = self.passing.partition_point(|p| p.seq < seq);
        if let Some(taken) = self.take_kept(seq) {
            self.passing.insert(at, taken);
        }
    }

    /// Whether a `since` can see it.
    pub(crate) fn keeps(&self, seq: u64) -> bool {
        let oldest = self.oldest_kept();
        let found = || self.ring.binary_search_by_key(&seq, |p| p.seq).is_ok();
        // Only where some are superseded can one be missing that is newer than the oldest.
        oldest.is_some_and(|oldest| oldest.seq <= seq) && (self.newest.is_none() || found())
    }

    /// How many a `since` could see, those past their own ttl included.
    pub(crate) fn kept(&self) -> usize {
        self.ring.len() - self.hidden
    }

    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// What a `since` can see now.
    pub(crate) fn visible(&self, unix_ms: u64) -> impl Iterator<Item = &Arc<Publication>> {
        self.ring.iter().skip(self.hidden).filter(move |p| !p.is_expired(unix_ms))
    }

    /// The publication of that seq, if a `since` can see it now.
    #[inline(never)]
    pub(crate) fn visible_at(&self, seq: u64, unix_ms: u64) -> Option<&Arc<Publication>> {
        let at = self.ring.partition_point(|p| p.seq < seq);
        let found = self.ring.get(at).filter(|p| p.seq == seq && !p.is_expired(unix_ms));
        found.filter(|_| at >= self.hidden)
    }

    pub(crate) fn oldest_kept(&self) -> Option<&Arc<Publication>> {
        self.ring.get(self.hidden)
    }

    /// Hides the oldest kept publication. Past its own ttl it raises no floor: nobody lost it.
    pub(crate) fn hide_oldest(&mut self, unix_ms: u64) {
        let Some(oldest) = self.ring.get(self.hidden) else { return };
        if !oldest.is_expired(unix_ms) {
            self.floor = oldest.seq;
            self.floor_ms = oldest.time_ms;
        }
        self.kept_bytes -= oldest.payload.len();
        self.hidden += 1;
    }

    /// Hides what is over the limits of count, bytes and age.
    pub(crate) fn enforce(&mut self, count: usize, bytes: usize, age_ms: u64, unix_ms: u64) {
        while self.kept() > count || self.kept_bytes > bytes {
            self.hide_oldest(unix_ms);
        }
        while self
            .oldest_kept()
            .is_some_and(|p| p.is_expired(unix_ms) || unix_ms.saturating_sub(p.time_ms) > age_ms)
        {
            self.hide_oldest(unix_ms);
        }
    }

    /// Hides everything: the floor becomes the newest, so that whoever has seen it sees no gap.
    pub(crate) fn hide_all(&mut self, unix_ms: u64) {
        while self.kept() > 0 {
            self.hide_oldest(unix_ms);
        }
    }

    /// Whether [`trim`](Self::trim) has anything to do: what is to go, or room that conflating has left.
    pub(crate) fn has_gone(&self, recent_gone: u64) -> bool {
        let is_gone =
            |first: Option<&Arc<Publication>>| first.is_some_and(|p| p.seq <= recent_gone);
        self.hidden > 0 && is_gone(self.ring.front())
            || is_gone(self.passing.front())
            || self.conflates()
    }

    /// Lets go of what is hidden and no longer in `recent`, which begins after `recent_gone`.
    pub(crate) fn trim(&mut self, recent_gone: u64, evicted: &mut Evicted) {
        let from = evicted.len();
        while self.hidden > 0 && self.ring.front().is_some_and(|p| p.seq <= recent_gone) {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.hidden -= 1;
            if oldest.seq <= self.floor {
                self.gone = oldest.seq;
            }
            evicted.push(oldest);
        }
        let kept_until = evicted.len();
        while self.passing.front().is_some_and(|p| p.seq <= recent_gone) {
            evicted.extend(self.passing.pop_front());
        }
        if let Some(newest) = &mut self.newest {
            newest.forget(&evicted[from..kept_until]);
            newest.forget(&evicted[kept_until..]);
        }
        // A burst must not leave its table behind.
        for ring in [&mut self.ring, &mut self.passing] {
            if (ring.capacity() > 64 || ring.is_empty()) && ring.len() < ring.capacity() / 4 {
                ring.shrink_to(ring.len() * 2);
            }
        }
    }

    /// Room for publications, in both rings and among the newest of each event name.
    pub(crate) fn places(&self) -> usize {
        let newest = self.newest.as_ref().map_or(0, |newest| newest.places());
        self.ring.capacity() + self.passing.capacity() + newest
    }

    /// How often a name was moved because one before it left.
    #[cfg(test)]
    pub(crate) fn names_moved(&self) -> usize {
        self.newest.as_ref().map_or(0, |newest| newest.moved)
    }

    /// Whether it holds nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.passing.is_empty()
    }

    /// Where replay of everything visible starts, at or before `horizon`.
    pub(crate) fn earliest(&self, horizon: u64, unix_ms: u64) -> u64 {
        self.visible(unix_ms).next().map_or(horizon, |p| (p.seq - 1).min(horizon))
    }

    /// Where replay of everything accepted at or after `from_ms` starts.
    pub(crate) fn position_at(&self, from_ms: u64, horizon: u64, unix_ms: u64) -> u64 {
        let first = self.visible(unix_ms).find(|p| p.time_ms >= from_ms);
        first.map_or(horizon, |p| (p.seq - 1).min(horizon))
    }

    /// What a reader after `after` is owed, in order. Whoever joined stood behind all that is hidden
    /// then, so what is hidden since belongs to it; only what was never to be replayed is left out
    /// for one that catches up.
    pub(crate) fn owed(&self, after: u64, catching_up: bool) -> Owed<'_> {
        let at = self.ring.partition_point(|p| p.seq <= after);
        let passing_at = if catching_up {
            self.passing.len()
        } else {
            self.passing.partition_point(|p| p.seq <= after)
        };
        Owed { channel: self, at, passing_at }
    }
}

/// A place in a channel's two rings.
#[derive(Debug)]
pub(crate) struct Owed<'a> {
    channel: &'a Channel,
    at: usize,
    passing_at: usize,
}

impl<'a> Owed<'a> {
    fn heads(&self) -> (Option<&'a Arc<Publication>>, Option<&'a Arc<Publication>>) {
        (self.channel.ring.get(self.at), self.channel.passing.get(self.passing_at))
    }

    /// The next one, without moving.
    pub(crate) fn peek(&self) -> Option<&'a Arc<Publication>> {
        match self.heads() {
            (Some(kept), Some(passing)) if passing.seq < kept.seq => Some(passing),
            (None, passing) => passing,
            (kept, _) => kept,
        }
    }

    pub(crate) fn advance(&mut self) {
        match self.heads() {
            (Some(kept), Some(passing)) if passing.seq < kept.seq => self.passing_at += 1,
            (None, _) => self.passing_at += 1,
            (Some(_), _) => self.at += 1,
        }
    }
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
