//! Reading the order: what one reader is owed, merged over its channels.
//!
//! Live delivery, replay after a reconnect and catching up after a stall are this one walk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::channel::{Channel, ChannelIndex, Owed};
use crate::message::Publication;

/// One channel that a reader wants.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// Which.
    pub channel: ChannelIndex,
    /// Everything up to here has been looked at.
    pub after: u64,
    /// Whether it replays: then it is not owed what was only for those who listened (`ttl=0`).
    pub catching_up: bool,
}

/// How much one pull may take.
#[derive(Clone, Copy, Debug, Default)]
pub struct PullLimits {
    /// Publications.
    pub count: usize,
    /// Payload bytes; the first publication always fits.
    pub bytes: usize,
}

/// One thing that a pull yields.
pub type Item = Arc<Publication>;

/// A channel whose place was lost: `want` is the number of the [`Want`], reading goes on at `resumed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Number of the want.
    pub want: usize,
    /// Where what is still kept begins.
    pub resumed: u64,
}

/// What a pull did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Everything up to here has been looked at, for every want.
    pub up_to: u64,
    /// Whether something at or before the horizon is left.
    pub more: bool,
}

/// One channel's walk, ordered by what it would yield next.
struct Walk<'a> {
    next: u64,
    owed: Owed<'a>,
}

impl PartialEq for Walk<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.next == other.next
    }
}
impl Eq for Walk<'_> {}
impl PartialOrd for Walk<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Walk<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.next.cmp(&other.next)
    }
}

/// Merges what `channels` owe by seq into `out`, up to `horizon` and the limits.
pub(super) fn merge<'a>(
    channels: impl Iterator<Item = (&'a Channel, Want)>,
    horizon: u64,
    limits: PullLimits,
    unix_ms: u64,
    out: &mut Vec<Item>,
) -> Pulled {
    let mut merge = Merge { horizon, limits, unix_ms, bytes: 0, out };
    let mut walks = channels.filter_map(|(channel, want)| {
        if channel.last <= want.after {
            return None;
        }
        merge_next(channel.owed(want.after, want.catching_up), horizon, unix_ms)
    });
    let Some(first) = walks.next() else { return Pulled { up_to: horizon, more: false } };
    let Some(second) = walks.next() else {
        drop(walks);
        return merge.single(first);
    };
    let mut heap: BinaryHeap<Reverse<Walk<'a>>> = walks.map(Reverse).collect();
    heap.push(Reverse(first));
    heap.push(Reverse(second));
    while let Some(Reverse(walk)) = heap.pop() {
        if let Some(full) = merge.take(&walk) {
            return full;
        }
        let mut owed = walk.owed;
        owed.advance();
        heap.extend(merge_next(owed, horizon, unix_ms).map(Reverse));
    }
    Pulled { up_to: horizon, more: false }
}

/// The walk at its next publication that is still due.
fn merge_next(mut owed: Owed<'_>, horizon: u64, unix_ms: u64) -> Option<Walk<'_>> {
    loop {
        let next = owed.peek()?;
        if next.seq > horizon {
            return None;
        }
        if next.is_passing() || !next.is_expired(unix_ms) {
            return Some(Walk { next: next.seq, owed });
        }
        owed.advance();
    }
}

struct Merge<'o> {
    horizon: u64,
    limits: PullLimits,
    unix_ms: u64,
    bytes: usize,
    out: &'o mut Vec<Item>,
}

impl Merge<'_> {
    fn single(&mut self, mut walk: Walk<'_>) -> Pulled {
        loop {
            if let Some(full) = self.take(&walk) {
                return full;
            }
            let mut owed = walk.owed;
            owed.advance();
            match merge_next(owed, self.horizon, self.unix_ms) {
                Some(next) => walk = next,
                None => return Pulled { up_to: self.horizon, more: false },
            }
        }
    }

    /// Takes the walk's next publication, or says that the limits are reached before it.
    fn take(&mut self, walk: &Walk<'_>) -> Option<Pulled> {
        let Some(next) = walk.owed.peek() else {
            return Some(Pulled { up_to: self.horizon, more: false });
        };
        let bytes = self.bytes.saturating_add(next.payload.len());
        let full = self.out.len() >= self.limits.count || bytes > self.limits.bytes;
        if let (true, Some(last)) = (full, self.out.last()) {
            return Some(Pulled { up_to: last.seq, more: true });
        }
        self.bytes = bytes;
        self.out.push(Arc::clone(next));
        None
    }
}
