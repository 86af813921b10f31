//! Stands in for `sleep` in the model of threads (`cfg(loom)`), in which no time passes.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use loom::thread::Builder;
pub(super) use loom::thread::JoinHandle;
use mio::{Events, Registry};

/// No time passes between two turns, and what happens may not depend on how much really does.
pub(super) const REPORT_MS: u64 = 0;

/// What sockets have is looked at and never waited for; only a waker ends a sleep. So a loop
/// that nobody wakes is found, whatever deadline would have saved it.
#[derive(Debug)]
pub(super) struct Poll {
    sockets: mio::Poll,
    waker: Arc<Wakes>,
}

#[derive(Debug, Default)]
struct Wakes {
    is_woken: Mutex<bool>,
    changed: Condvar,
}

#[derive(Debug)]
pub(super) struct Waker(Arc<Wakes>);

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { sockets: mio::Poll::new()?, waker: Arc::default() })
    }

    pub(super) fn registry(&self) -> &Registry {
        self.sockets.registry()
    }

    pub(super) fn poll(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.sockets.poll(events, Some(Duration::ZERO))?;
        let may_sleep = events.is_empty() && timeout != Some(Duration::ZERO);
        let mut is_woken = self.waker.is_woken.lock().expect("no panic");
        while may_sleep && !*is_woken {
            is_woken = self.waker.changed.wait(is_woken).expect("no panic");
        }
        *is_woken = false;
        Ok(())
    }
}

impl AsRawFd for Poll {
    fn as_raw_fd(&self) -> RawFd {
        self.sockets.as_raw_fd()
    }
}

impl Waker {
    pub(super) fn wake(&self) -> io::Result<()> {
        *self.0.is_woken.lock().expect("no panic") = true;
        self.0.changed.notify_one();
        Ok(())
    }
}

pub(super) fn waker(poll: &Poll) -> io::Result<Waker> {
    Ok(Waker(Arc::clone(&poll.waker)))
}

/// With more of a stack than the model's own threads have.
pub(super) fn thread(_: usize) -> Builder {
    Builder::new().stack_size(1 << 18)
}

/// Nobody in a model waits for itself.
pub(super) fn serve(_server: usize) {}

pub(super) fn serves(_server: usize) -> bool {
    false
}
