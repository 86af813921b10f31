//! Signals, for the binary only: a source in the server's own `Poll`, so no thread and no handler
//! code of ours.

use std::io;
use std::time::Duration;

use mio::Interest;
use mio::event::Source;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use super::Server;
use super::turn::SIGNALS;
use crate::time::Now;

impl Server {
    /// Makes SIGINT and SIGTERM end this server in order, over
    /// [`Config::drain`](crate::Config#structfield.drain); a second one ends it at once. For programs
    /// that are nothing but a server.
    ///
    /// # Errors
    /// If the system refuses the handlers.
    pub fn watch_signals(&mut self) -> io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        signals.register(self.main.io.poll.registry(), SIGNALS, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    pub(super) fn obey_signals(&mut self, now: Now) {
        let Some(signals) = &mut self.signals else { return };
        let count = signals.pending().count();
        for _ in 0..count {
            let grace = if self.shutdown.is_some() { Duration::ZERO } else { self.drain };
            self.begin_shutdown(grace, now);
        }
    }
}
