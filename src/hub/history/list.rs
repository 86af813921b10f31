//! Which channels there are, those with the most subscribers first: for people who look after a server.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use memchr::memmem::Finder;

use super::{History, Inner};

/// So many places of the table are looked at under one lock. Publishing waits no longer than for that.
const PART: usize = 1_024;

/// A channel, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Arc<str>,
    /// On all loops.
    pub subscribers: u32,
    /// Messages that are kept, those past their own ttl included.
    pub messages: usize,
    /// Their payload bytes.
    pub bytes: usize,
}

/// What is compared: subscribers, seq of what was published last, and of equals the one that has been
/// in the table for longer is greater.
type Rank = (u32, u64, Reverse<usize>);

impl History {
    /// At most `limit` of the channels whose name contains `text`: those with the most subscribers, of
    /// equals those that were published to last; and how many such channels there are. Channels that
    /// come and go meanwhile may be missing.
    #[must_use]
    pub fn list(&self, text: &str, limit: usize) -> (Vec<Listed>, usize) {
        let finder = Finder::new(text);
        let (mut best, mut total, mut from) = (BinaryHeap::new(), 0, 0);
        loop {
            let inner = self.lock();
            let end = inner.channels.capacity();
            for index in from..end.min(from + PART) {
                let Some(channel) = inner.channels.get(index) else { continue };
                if text.is_empty() || finder.find(channel.name.as_bytes()).is_some() {
                    total += 1;
                    let rank = (channel.subscribers, channel.last, Reverse(index));
                    keep(&mut best, rank, limit);
                }
            }
            from += PART;
            if from >= end {
                let best = best.into_sorted_vec().into_iter();
                let indexes = best.map(|Reverse((_, _, Reverse(index)))| index);
                return (indexes.filter_map(|index| inner.listed(index)).collect(), total);
            }
        }
    }
}

impl Inner {
    /// What is there now: a channel that was looked at earlier may have gone.
    fn listed(&self, index: usize) -> Option<Listed> {
        let channel = self.channels.get(index)?;
        Some(Listed {
            name: Arc::clone(&channel.name),
            subscribers: channel.subscribers,
            messages: channel.kept(),
            bytes: channel.kept_bytes(),
        })
    }
}

/// Keeps a rank if it is among the best so far. The least of those is on top of the heap.
fn keep(best: &mut BinaryHeap<Reverse<Rank>>, rank: Rank, limit: usize) {
    if best.len() < limit {
        best.push(Reverse(rank));
    } else if let Some(mut least) = best.peek_mut().filter(|least| least.0 < rank) {
        *least = Reverse(rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::cursor::Epoch;
    use crate::time::Now;

    const START: Now = Now { mono_ms: 500_000, unix_ms: 1_764_000_000_000 };

    fn history() -> History {
        History::new(&Config::default(), Epoch::from_random(7), START)
    }

    fn publish(history: &History, channel: &str, text: &str) {
        history.publish(channel, text.into(), START).expect("it is taken");
    }

    fn subscribe(history: &History, channel: &str, count: u32) {
        for _ in 0..count {
            history.join(channel, None, history.head(), START).expect("there is room");
        }
    }

    fn names(history: &History, text: &str, limit: usize) -> (Vec<String>, usize) {
        let (listed, total) = history.list(text, limit);
        (listed.iter().map(|one| one.name.to_string()).collect(), total)
    }

    #[test]
    fn most_subscribers_come_first_and_of_equals_who_was_published_to_last() {
        let history = history();
        for (channel, count) in [("quiet", 2), ("quieter", 2), ("one", 1), ("three", 3)] {
            subscribe(&history, channel, count);
        }
        subscribe(&history, "loud", 2);
        publish(&history, "none", "xyz");
        publish(&history, "loud", "x");
        let order = ["three", "loud", "quiet", "quieter", "one", "none"];
        assert_eq!(names(&history, "", 10), (order.map(str::to_owned).to_vec(), 6));
        // Whatever is asked for is the beginning of the same.
        for limit in 0..6 {
            assert_eq!(
                names(&history, "", limit),
                (names(&history, "", 10).0[..limit].to_vec(), 6)
            );
        }
        let none = &history.list("none", 1).0[0];
        assert_eq!((none.subscribers, none.messages, none.bytes), (0, 1, 3));
    }

    #[test]
    fn a_part_of_the_name_is_enough_and_others_do_not_count() {
        let history = history();
        for channel in ["sensors.kitchen", "sensors.hall", "chat"] {
            publish(&history, channel, "x");
        }
        assert_eq!(names(&history, "kit", 10), (vec!["sensors.kitchen".to_owned()], 1));
        assert_eq!(names(&history, "sensors.", 1), (vec!["sensors.hall".to_owned()], 2));
        assert_eq!(names(&history, "Chat", 10), (vec![], 0));
    }

    #[test]
    fn a_table_of_several_parts_is_looked_through_to_its_end() {
        let history = history();
        for number in 0..3 * PART {
            subscribe(&history, &format!("c{number}"), 1 + u32::from(number % PART == PART - 1));
        }
        let (listed, total) = names(&history, "", 3);
        assert_eq!(total, 3 * PART);
        assert_eq!(listed, [1, 2, 3].map(|part| format!("c{}", part * PART - 1)));
    }
}
