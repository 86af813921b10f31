//! Orderly shutdown: everyone is told, then the connections end.

use super::Engine;
use super::core::Core;
use super::slot::Flags;
use crate::conn::State;
use crate::time::Now;

impl Engine {
    /// Begins to shut down: listeners are told to come back elsewhere, polls are answered, idle
    /// connections end. What is being answered still is. Calling it again changes nothing.
    pub fn handle_drain(&mut self, now: Now) {
        self.core.now = now;
        if std::mem::replace(&mut self.core.draining, true) {
            return;
        }
        // What is published already goes out before the farewell.
        self.core.take_in_now();
        let indexes: Vec<u32> = self.core.slots.iter().map(|(index, _)| index).collect();
        for index in indexes {
            self.core.say_goodbye(index);
            self.core.weigh(index);
        }
    }

    /// Whether [`handle_drain`](Self::handle_drain) has been called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.core.draining
    }
}

impl Core {
    fn say_goodbye(&mut self, index: u32) {
        let Some(slot) = self.slots.get(index) else { return };
        match &slot.state {
            State::Head(_) if !slot.has_tail() => self.begin_closing(index),
            State::Hold(_) => self.poll_is_over(index),
            State::Sse { dialect } => {
                let dialect = *dialect;
                self.catch_up(index);
                let retry_ms = self.retry_ms();
                self.reply(index, |out| dialect.bye(out, retry_ms));
                self.begin_closing(index);
            }
            State::Ws(_) => self.ws_bye(index),
            State::Wait { .. } if slot.websocket().is_some() => self.ws_bye(index),
            State::Head(_) | State::Body(_) | State::Wait { .. } | State::Closing(_) => {}
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.flags.set(Flags::LAST);
        }
    }
}
