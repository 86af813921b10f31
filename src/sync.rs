//! The lock and the atomic values through which threads meet: the standard library's. Under
//! `cfg(loom)` a model's, so that `tests/loom.rs` runs this same code in every order there is.

#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize};
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(loom)]
pub(crate) use self::model::{AtomicBool, AtomicUsize};

/// loom takes `SeqCst` for no more than acquire and release, and would show orders that cannot be.
/// With a fence on either side it is what the language says of it; and one that is too weak, and so
/// gets no fences, is still found out.
#[cfg(loom)]
mod model {
    use std::sync::atomic::Ordering;

    use loom::sync::atomic::{self, fence};

    #[derive(Debug)]
    pub(crate) struct AtomicBool(atomic::AtomicBool);

    impl AtomicBool {
        pub(crate) fn new(value: bool) -> Self {
            Self(atomic::AtomicBool::new(value))
        }

        pub(crate) fn load(&self, order: Ordering) -> bool {
            fenced(order, || self.0.load(order))
        }

        /// As processors do it where the order is total: loom lets a mere store come between another
        /// thread's swap and what that swap found.
        pub(crate) fn store(&self, value: bool, order: Ordering) {
            match order {
                Ordering::SeqCst => {
                    self.swap(value, order);
                }
                _ => self.0.store(value, order),
            }
        }

        pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
            fenced(order, || self.0.swap(value, order))
        }
    }

    #[derive(Debug)]
    pub(crate) struct AtomicUsize(atomic::AtomicUsize);

    impl AtomicUsize {
        pub(crate) fn new(value: usize) -> Self {
            Self(atomic::AtomicUsize::new(value))
        }

        pub(crate) fn load(&self, order: Ordering) -> usize {
            fenced(order, || self.0.load(order))
        }

        /// As that of [`AtomicBool`].
        pub(crate) fn store(&self, value: usize, order: Ordering) {
            match order {
                Ordering::SeqCst => {
                    fenced(order, || self.0.swap(value, order));
                }
                _ => self.0.store(value, order),
            }
        }

        pub(crate) fn fetch_add(&self, value: usize, order: Ordering) -> usize {
            fenced(order, || self.0.fetch_add(value, order))
        }
    }

    fn fenced<T>(order: Ordering, act: impl FnOnce() -> T) -> T {
        let is_total = order == Ordering::SeqCst;
        if is_total {
            fence(order);
        }
        let done = act();
        if is_total {
            fence(order);
        }
        done
    }
}
