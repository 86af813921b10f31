//! The only notion of time below `server`: a value that is handed in and never read from a clock.

/// One moment, read once per wake-up by whoever drives the engine.
///
/// Invariant: `mono_ms` never goes backwards between two calls into one engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds of a monotonic clock, from any fixed start.
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch; only stamps on messages and headers come from it.
    pub unix_ms: u64,
}

impl Now {
    /// The same moment, `ms` later.
    #[must_use]
    pub fn after(self, ms: u64) -> Self {
        Self { mono_ms: self.mono_ms + ms, unix_ms: self.unix_ms + ms }
    }
}

/// The first of those that are due at all. None is compared that is not there, whatever an optimiser
/// makes of it: a program that links the library looks at it with memory checkers, too.
pub(crate) fn earliest<const N: usize>(due: [Option<u64>; N]) -> Option<u64> {
    let first = due.map(|due| due.unwrap_or(u64::MAX)).into_iter().min();
    first.filter(|first| *first != u64::MAX)
}

/// A moment in four bytes: units of 64 ms, which last for eight years. Rounded up, so that what is
/// measured from one is never early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u32);

impl Stamp {
    pub(crate) const UNIT_MS: u64 = 64;

    /// The stamp of a monotonic moment.
    #[must_use]
    pub fn at(mono_ms: u64) -> Self {
        Self(u32::try_from(mono_ms.div_ceil(Self::UNIT_MS)).unwrap_or(u32::MAX))
    }

    /// The monotonic moment, at most one unit late.
    #[must_use]
    pub fn ms(self) -> u64 {
        u64::from(self.0) * Self::UNIT_MS
    }
}

impl From<Now> for Stamp {
    fn from(now: Now) -> Self {
        Self::at(now.mono_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_of_those_that_are_due() {
        assert_eq!(earliest([None, Some(7), Some(3), None]), Some(3));
        assert_eq!(earliest([None, Some(0)]), Some(0));
        assert_eq!(earliest([None, None]), None);
        assert_eq!(earliest([]), None);
    }
}
