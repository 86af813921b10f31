//! One reader of the program's own: where it stands, what is still to be told, and one pull for it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Place, Push, Sink, Taken};
use crate::cursor::Cursor;
use crate::engine::Stats;
use crate::hub::{ChannelIndex, GapReason, History, Item, Lost, PullLimits, Want};
use crate::time::Now;

/// One channel of a listener.
#[derive(Debug)]
pub(super) struct LocalSub {
    pub(super) channel: ChannelIndex,
    pub(super) name: Arc<str>,
    pub(super) position: u64,
    pub(super) catching_up: bool,
}

/// A gap that has not been told yet.
#[derive(Debug)]
pub(super) struct LocalGap {
    channels: Vec<Arc<str>>,
    reason: GapReason,
    since: Option<Cursor>,
    resumed: u64,
}

pub(super) struct Listener {
    pub(super) subs: Vec<LocalSub>,
    /// Everything up to here has been handed over. Where nothing is owed, the horizon is meant.
    pub(super) cursor: u64,
    pub(super) is_behind: bool,
    /// In the dirty list.
    pub(super) is_listed: bool,
    pub(super) is_live_told: bool,
    pub(super) gaps: VecDeque<LocalGap>,
    /// Its sink was full: when it is asked again, and after how long that was.
    pub(super) retry: Option<(u64, u64)>,
    pub(super) place: Place,
    pub(super) sink: Sink,
}

/// What is to be done with a listener after a pull.
pub(super) enum After {
    /// It stands at the horizon.
    Arrived,
    /// More is there for it.
    More,
    Full,
    Over,
}

impl Listener {
    /// The lowest position from which any of the channels goes on.
    pub(super) fn reached(&self) -> u64 {
        let after = self.subs.iter().map(|sub| sub.position.max(self.cursor));
        after.min().unwrap_or(self.cursor)
    }

    /// Whether there is a position to tell that was not told before.
    pub(super) fn has_begun(&self, before: u64, was_handed: bool) -> bool {
        was_handed || self.is_live_told || self.reached() > before
    }

    pub(super) fn add_gap(
        &mut self,
        name: &Arc<str>,
        reason: GapReason,
        since: Option<Cursor>,
        resumed: u64,
    ) {
        let same =
            |gap: &&mut LocalGap| (gap.reason, gap.since, gap.resumed) == (reason, since, resumed);
        if let Some(gap) = self.gaps.iter_mut().find(same) {
            return gap.channels.push(Arc::clone(name));
        }
        let channels = vec![Arc::clone(name)];
        self.gaps.push_back(LocalGap { channels, reason, since, resumed });
    }

    pub(super) fn pull(
        &mut self,
        order: &History,
        horizon: u64,
        limits: PullLimits,
        now: Now,
        (wants, items, lost): (&mut Vec<Want>, &mut Vec<Item>, &mut Vec<Lost>),
        stats: &mut Stats,
    ) -> After {
        if let Some(after) = self.tell_gaps(order) {
            return after;
        }
        let cursor = self.cursor;
        wants.clear();
        wants.extend(self.subs.iter().map(|sub| Want {
            channel: sub.channel,
            after: sub.position.max(cursor),
            catching_up: sub.catching_up,
        }));
        let pulled = order.pull(wants, horizon, limits, now, items, lost);
        if !lost.is_empty() {
            for Lost { want, resumed } in lost.drain(..) {
                stats.gaps[GapReason::Slow as usize] += 1;
                let (since, resumed) = (order.cursor(wants[want].after), resumed.min(horizon));
                self.subs[want].position = resumed;
                let name = Arc::clone(&self.subs[want].name);
                self.add_gap(&name, GapReason::Slow, Some(since), resumed);
            }
            return After::More;
        }
        for item in items.drain(..) {
            let seq = item.seq;
            match (self.sink)(Push::Message { id: order.cursor(seq), publication: item }) {
                Taken::Yes => stats.delivered += 1,
                // All before it has been: what is merged comes in order.
                Taken::Full => {
                    self.cursor = self.cursor.max(seq - 1);
                    return After::Full;
                }
                Taken::Over => return After::Over,
            }
            self.cursor = seq;
        }
        self.cursor = self.cursor.max(pulled.up_to);
        if pulled.more { After::More } else { self.arrive(order) }
    }

    /// Tells the gaps that are still to be told; what is to be done if not all were taken.
    fn tell_gaps(&mut self, order: &History) -> Option<After> {
        while let Some(gap) = self.gaps.front() {
            let push = Push::Gap {
                channels: gap.channels.clone(),
                reason: gap.reason,
                since: gap.since,
                resumed: order.cursor(gap.resumed),
            };
            match (self.sink)(push) {
                Taken::Yes => self.gaps.pop_front(),
                Taken::Full => return Some(After::Full),
                Taken::Over => return Some(After::Over),
            };
        }
        None
    }

    /// It stands at the horizon, and is told so the first time.
    fn arrive(&mut self, order: &History) -> After {
        if !self.is_live_told {
            match (self.sink)(Push::Live { cursor: order.cursor(self.cursor) }) {
                Taken::Yes => self.is_live_told = true,
                Taken::Full => return After::Full,
                Taken::Over => return After::Over,
            }
            self.subs.iter_mut().for_each(|sub| sub.catching_up = false);
        }
        self.is_behind = false;
        After::Arrived
    }
}
