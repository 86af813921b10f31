//! What is worth a line in the log once per interval, not once per event.

use crate::time::Now;

/// Between two lines about the same.
const INTERVAL_MS: u64 = 60_000;
/// Kinds of things that are told apart; there are not that many.
const KINDS_MAX: usize = 64;

/// What has been said, and how often it has happened since.
#[derive(Debug, Default)]
pub(crate) struct Notices(Vec<Notice>);

#[derive(Debug)]
struct Notice {
    text: String,
    said_ms: u64,
    since: u64,
}

impl Notices {
    /// Something happened. Says so, with how often it did since the last line, if that is long ago.
    /// `why` never contains what a peer sent.
    pub(crate) fn note(&mut self, what: &str, why: &str, now: Now) {
        match self.is_due(why, now) {
            None => {}
            Some(0) => log::warn!("{what}: {why}"),
            Some(more) => log::warn!("{what}: {why} ({more} times more since the last such line)"),
        }
    }

    /// How often it happened unsaid, if it is to be said now.
    fn is_due(&mut self, text: &str, now: Now) -> Option<u64> {
        let Some(notice) = self.0.iter_mut().find(|notice| notice.text == text) else {
            if self.0.len() < KINDS_MAX {
                self.0.push(Notice { text: text.to_owned(), said_ms: now.mono_ms, since: 0 });
                return Some(0);
            }
            return None;
        };
        if now.mono_ms < notice.said_ms + INTERVAL_MS {
            notice.since += 1;
            return None;
        }
        notice.said_ms = now.mono_ms;
        Some(std::mem::take(&mut notice.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_an_interval_with_how_often_it_happened() {
        let mut notices = Notices::default();
        let (a, b) = ("a", "b");
        let now = Now { mono_ms: 7, unix_ms: 0 };
        assert_eq!(notices.is_due(a, now), Some(0));
        assert_eq!(notices.is_due(a, now), None);
        assert_eq!(notices.is_due(b, now), Some(0));
        assert_eq!(notices.is_due(a, now.after(59_999)), None);
        assert_eq!(notices.is_due(a, now.after(60_000)), Some(2));
        assert_eq!(notices.is_due(a, now.after(60_001)), None);
        assert_eq!(notices.is_due(b, now.after(200_000)), Some(0));
    }

    #[test]
    fn kinds_are_bounded() {
        let mut notices = Notices::default();
        for number in 0..1_000 {
            notices.is_due(&number.to_string(), Now::default());
        }
        assert_eq!(notices.0.len(), KINDS_MAX);
    }
}
