//! How a publication reaches a loop that sleeps: one ring per sleep, however much is published.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::sync::AtomicBool;

/// Wakes one loop. Rung by publishers on other threads, answered by the loop itself.
///
/// The loop calls [`doze`](Self::doze), *then* looks once more for work, and only then sleeps; a
/// publisher appends, *then* rings. So either the loop sees the work or the publisher sees it doze.
pub struct Bell {
    dozing: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Bell {
    /// A bell that calls `wake` when it is rung while the loop dozes.
    #[must_use]
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { dozing: AtomicBool::new(false), wake: Box::new(wake) }
    }

    /// The loop is about to sleep: from now on a ring wakes it.
    pub fn doze(&self) {
        self.dozing.store(true, Ordering::SeqCst);
    }

    /// The loop is awake: rings are not needed.
    pub fn rise(&self) {
        self.dozing.store(false, Ordering::SeqCst);
    }

    /// Whether a ring would wake the loop.
    #[must_use]
    pub fn is_dozing(&self) -> bool {
        self.dozing.load(Ordering::SeqCst)
    }

    /// Wakes the loop if it dozes; the first ring of many does.
    pub fn ring(&self) {
        if self.dozing.swap(false, Ordering::SeqCst) {
            (self.wake)();
        }
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("dozing", &self.dozing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn one_wake_per_sleep() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let bell = Bell::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        bell.ring();
        assert_eq!(wakes.load(Ordering::SeqCst), 0);
        bell.doze();
        bell.ring();
        bell.ring();
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
    }
}
