//! Where the loop sleeps, what wakes it, and the thread that it may have. Not so in the model of
//! threads (`cfg(loom)`): there `sleep_model` takes its place.

use std::cell::Cell;
use std::io;
use std::thread::Builder;
pub(super) use std::thread::JoinHandle;

pub(super) use mio::Poll;
use mio::Waker;

use super::turn::WAKER;

/// Where there are several loops, each leaves its numbers for the others no more often than this: it
/// looks at every connection for them.
pub(super) const REPORT_MS: u64 = 100;

/// What wakes the loop, from any thread.
pub(super) fn waker(poll: &Poll) -> io::Result<Waker> {
    Waker::new(poll.registry(), WAKER)
}

/// The start of a thread for a loop.
pub(super) fn thread(loop_number: usize) -> Builder {
    Builder::new().name(match loop_number {
        0 => "holdline".to_owned(),
        // Linux shows 15 characters.
        number => format!("holdline-{number}"),
    })
}

thread_local! {
    /// The server that has this thread, if any.
    static SERVES: Cell<usize> = const { Cell::new(0) };
}

/// This thread is one of that server's.
pub(super) fn serve(server: usize) {
    SERVES.set(server);
}

/// Whether it is: then it cannot wait for the server's end.
pub(super) fn serves(server: usize) -> bool {
    SERVES.get() == server
}
