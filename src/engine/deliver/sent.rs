//! What left of what was lent, and what a short write leaves behind.

use std::sync::Arc;

use super::Core;
use super::Lent;
use crate::conn::{State, Ws};
use crate::engine::slot::{Cut, Flags, Subs};

impl Core {
    /// So much of what was lent has been written.
    pub(super) fn sent(&mut self, n: usize) {
        let Some(lent) = self.delivery.lent.take() else { return };
        if matches!(lent, Lent::Run(index, run) if self.sent_live(index, run, n)) {
            return;
        }
        let now = self.stamp();
        let (Lent::Arena(index) | Lent::Outbox(index) | Lent::Cut(index) | Lent::Run(index, _)) =
            lent;
        if let Some(slot) = self.slots.get_mut(index) {
            if n > 0 {
                let is_aside = matches!(lent, Lent::Arena(_)) && slot.flags.has(Flags::ASIDE);
                slot.last_out = if is_aside { slot.last_out } else { now };
                slot.progress = now;
                slot.flags.clear(Flags::STANDING);
            }
            if let State::Ws(ws) = &mut slot.state {
                ws.written = ws.written.saturating_add(n as u32);
            }
        }
        match lent {
            Lent::Arena(index) => self.sent_arena(index, n),
            Lent::Outbox(index) => self.sent_outbox(index, n),
            Lent::Cut(index) => self.sent_cut(index, n),
            Lent::Run(index, run) => self.sent_run(index, run, n),
        }
        self.settle(index);
    }

    /// What nearly every delivery comes to, in one look: all of a run left, and its connection, which
    /// has one channel and nothing unfinished, is live again. If it is not so, nothing is done here.
    fn sent_live(&mut self, index: u32, run: usize, n: usize) -> bool {
        let now = self.stamp();
        let at = &self.delivery.runs[run];
        // A poll answer has no ends: its connection has moved on.
        if n < at.bytes.len() || at.up_to < self.horizon || at.ends.is_empty() {
            return false;
        }
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let Subs::One(sub) = &mut slot.subs else { return false };
        if slot.extra.is_some() || sub.catching_up {
            return false;
        }
        sub.later = false;
        slot.last_out = now;
        slot.progress = now;
        slot.flags.clear(Flags::STANDING);
        slot.flags.clear(Flags::BEHIND);
        if let State::Ws(ws) = &mut slot.state {
            ws.written = ws.written.saturating_add(n as u32);
        }
        self.stats.delivered += at.items.len() as u64;
        true
    }

    /// The socket takes nothing more now.
    fn block(&mut self, index: u32) {
        let now = self.stamp();
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.flags.set(Flags::BLOCKED);
        // Room that was reported and then not there is no progress.
        if slot.flags.raise(Flags::STANDING) {
            slot.progress = now;
        }
        self.file(index);
    }

    fn sent_arena(&mut self, index: u32, n: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let (at, len) = (slot.arena_at as usize, slot.arena_len as usize);
        slot.arena_len = 0;
        if n < len {
            let rest = &self.arena[at + n..at + len];
            slot.extra().outbox.extend_from_slice(rest);
            return self.block(index);
        }
        let waits = [Flags::UNTOLD, Flags::WANTS_WRITABLE, Flags::BEHIND];
        let is_closing = matches!(slot.state, State::Closing(_));
        if slot.extra.is_none() && !is_closing && !waits.iter().any(|flag| slot.flags.has(*flag)) {
            return; // nothing came before these bytes, and nothing waits behind them
        }
        self.tell_writable(index);
        self.own_bytes_are_out(index, false);
    }

    fn sent_outbox(&mut self, index: u32, n: usize) {
        let now = self.stamp();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let extra = slot.extra();
        extra.outbox_at += n;
        if extra.outbox_len() > 0 {
            // What has left is given back before it is most of the buffer.
            if extra.outbox_at > extra.outbox.len() / 2 {
                extra.outbox.drain(..extra.outbox_at);
                extra.outbox_at = 0;
            }
            self.block(index);
            return self.tell_writable(index);
        }
        extra.outbox = Vec::new();
        extra.outbox_at = 0;
        slot.tidy();
        if let State::Ws(Ws { pinged: Some(pinged), .. }) = &mut slot.state {
            *pinged = now; // it may be out only now
        }
        self.tell_writable(index);
        self.own_bytes_are_out(index, true);
    }

    fn sent_cut(&mut self, index: u32, n: usize) {
        let len = self.delivery.scratch.len();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let extra = slot.extra();
        let Some(cut) = &mut extra.cut else { return };
        cut.written += n;
        if cut.written < len {
            return self.block(index);
        }
        extra.cut = None;
        slot.tidy();
        self.own_bytes_are_out(index, true);
    }

    /// A write of own bytes was complete: the next of them, or what waited behind them.
    /// `was_waiting`: they had been kept, so its input was too.
    fn own_bytes_are_out(&mut self, index: u32, was_waiting: bool) {
        let Some(slot) = self.slots.get(index) else { return };
        if slot.has_backlog() || slot.arena_len > 0 || matches!(slot.state, State::Closing(_)) {
            return self.list_reply(index);
        }
        if slot.flags.has(Flags::BEHIND) {
            self.list_dirty(index);
        }
        if was_waiting {
            self.begin_idle(index);
            self.resume_input(index);
            self.file(index);
        }
    }

    /// Only what the peer has been given does it have time to follow up on.
    fn begin_idle(&mut self, index: u32) {
        let now = self.stamp();
        let Some(slot) = self.slots.get_mut(index) else { return };
        if matches!(slot.state, State::Head(_)) && slot.requests > 0 {
            slot.phase = now;
        }
    }

    fn sent_run(&mut self, index: u32, run: usize, n: usize) {
        let at = &self.delivery.runs[run];
        if n >= at.bytes.len() {
            if at.ends.is_empty() {
                return; // a poll answer: its connection has moved on
            }
            let up_to = at.up_to;
            self.stats.delivered += at.items.len() as u64;
            return self.advance(index, up_to);
        }
        if at.ends.is_empty() {
            let rest = at.bytes[n..].to_vec();
            if let Some(slot) = self.slots.get_mut(index) {
                slot.extra().outbox.splice(..0, rest);
            }
            return self.block(index);
        }
        let cut_at = at.ends.partition_point(|end| *end <= n);
        let start = if cut_at == 0 { 0 } else { at.ends[cut_at - 1] };
        let is_cut = n > start;
        let reached = if is_cut { cut_at + 1 } else { cut_at };
        self.stats.delivered += reached as u64;
        let Some(slot) = self.slots.get_mut(index) else { return };
        if is_cut {
            let Some(dialect) = slot.dialect() else { return };
            let publication = Arc::clone(&at.items[cut_at]);
            slot.extra().cut = Some(Cut { publication, dialect, written: n - start });
        }
        if reached > 0 {
            let seq = at.items[reached - 1].seq;
            slot.flags.set(Flags::BEHIND);
            slot.cursor = slot.cursor.max(seq);
            slot.move_apart(seq);
        }
        self.block(index);
        // Behind what is cut, now that it is blocked. Where nothing is missing it arrives by itself.
        let position = self.position(index);
        if position < self.horizon {
            self.release_up_to(index, position);
        }
    }

    fn tell_writable(&mut self, index: u32) {
        let half = self.config.outbox_bytes_max / 2;
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.flags.has(Flags::UNTOLD) && slot.own_len() < half {
            self.tell_untold(index);
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.flags.has(Flags::WANTS_WRITABLE) && slot.own_len() < half {
            slot.flags.clear(Flags::WANTS_WRITABLE);
            self.writable.push(index);
        }
    }
}
