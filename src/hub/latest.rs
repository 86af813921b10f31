//! Conflation: which channels keep only the newest of each event name, and which one that is. Knows
//! nothing of rings, limits or readers.

use std::sync::Arc;

use crate::message::{Publication, is_channel};

/// Whether `pattern` can match a channel's name: the alphabet of names, and `*`.
#[must_use]
pub fn is_pattern(pattern: &str) -> bool {
    let like_a_name: Vec<u8> = pattern.bytes().map(|b| if b == b'*' { b'x' } else { b }).collect();
    is_channel(&like_a_name)
}

/// Whether a channel's name matches; `*` stands for any run of characters, none and dots included.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Behind the last star, and where in the name what follows that was tried last.
    let mut last: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            last = Some((p, n));
        } else if pattern.get(p) == Some(&name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((behind, tried)) = last {
            // An earlier star needs no other place: this one reaches further anyway.
            (p, n) = (behind, tried + 1);
            last = Some((p, n));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// The newest publication of each event name of one channel, as far as the channel still holds it.
/// What is kept and what passes (`ttl=0`) have each their own newest.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// Sorted by [`key`]. As many as the channel's rings hold, at most.
    sorted: Vec<Arc<Publication>>,
    /// How often one was moved because one before it left.
    #[cfg(test)]
    pub(crate) moved: usize,
}

/// No event name is a name of its own: a given one is never empty.
fn key(publication: &Publication) -> (bool, &str) {
    (publication.is_passing(), publication.event.as_deref().unwrap_or(""))
}

impl Newest {
    /// Makes `publication` the newest of its name; returns what was.
    pub(crate) fn replace(&mut self, publication: &Arc<Publication>) -> Option<Arc<Publication>> {
        match self.sorted.binary_search_by(|p| key(p).cmp(&key(publication))) {
            Ok(at) => Some(std::mem::replace(&mut self.sorted[at], Arc::clone(publication))),
            Err(at) => {
                self.sorted.insert(at, Arc::clone(publication));
                None
            }
        }
    }

    /// How many there is room for.
    pub(crate) fn places(&self) -> usize {
        self.sorted.capacity()
    }

    /// Forgets the newest that passes under the name of `publication`, and returns it.
    pub(crate) fn take_passing(&mut self, publication: &Publication) -> Option<Arc<Publication>> {
        let wanted = (true, key(publication).1);
        let at = self.sorted.binary_search_by(|p| key(p).cmp(&wanted)).ok()?;
        Some(self.remove(at))
    }

    /// Publications leave the channel, the older ones first.
    pub(crate) fn forget(&mut self, gone: &[Arc<Publication>]) {
        if gone.len() < MANY {
            gone.iter().for_each(|publication| self.forget_one(publication));
        } else {
            // Each by itself would move all those behind it.
            let is_gone = |seq| gone.binary_search_by_key(&seq, |p| p.seq).is_ok();
            self.sorted.retain(|p| !is_gone(p.seq));
        }
        // A burst must not leave its table behind.
        if (self.sorted.capacity() > 64 || self.sorted.is_empty())
            && self.sorted.len() < self.sorted.capacity() / 4
        {
            self.sorted.shrink_to(self.sorted.len() * 2);
        }
    }

    fn forget_one(&mut self, publication: &Publication) {
        let found = self.sorted.binary_search_by(|p| key(p).cmp(&key(publication)));
        if let Some(at) = found.ok().filter(|at| self.sorted[*at].seq == publication.seq) {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) -> Arc<Publication> {
        #[cfg(test)]
        {
            self.moved += self.sorted.len() - at;
        }
        self.sorted.remove(at)
    }
}

/// From so many on, those that leave are looked for in one pass over all.
const MANY: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    impl Newest {
        /// Asserts that the channel still holds them.
        pub(crate) fn audit(&self, is_held: impl Fn(&Arc<Publication>) -> bool) {
            assert!(self.sorted.iter().all(is_held), "the newest are in a ring");
        }
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let cases = [
            ("*", "a", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("sensors.*", "sensors.kitchen.temp", true),
            ("sensors.*", "sensors.", true),
            ("sensors.*", "sensors", false),
            ("*.state", "a.b.state", true),
            ("*.state", "a.state.b", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-c-b-b-c", true),
            ("a*b*c", "acb", false),
            ("a**c", "ac", true),
            ("*b*b*", "ab", false),
            ("*b*b*", "bb", true),
        ];
        for (pattern, name, wanted) in cases {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
        // Patterns with many stars take no longer.
        assert!(!matches(&"a*".repeat(120), &"a".repeat(119)));
        assert!(!matches(&format!("{}b", "*a".repeat(100)), &"a".repeat(255)));
    }

    #[test]
    fn a_pattern_that_no_name_can_match_is_none() {
        for good in ["*", "a", "sensors.*", "*.state", "a*b", "*_x"] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in ["", "_a*", ".a", "a b", "a/*", "ä*", "a?", "[a]", &"*".repeat(256)] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }
}
