//! What connections make a loop hold, counted as it changes, and who gives way when it is too much.
//!
//! A slot says what its unfinished parts hold, and their sum is kept. With the tables of the loop it
//! counts against the budget of the order, which lets go of publications for it. Where these may not
//! give way any further, whoever has come to hold more is refused.

use std::collections::VecDeque;

use super::Engine;
use super::answer::{Question, Waiting};
use super::app::Ctx;
use super::core::Core;
use super::deliver::PULL_BYTES;
use super::reply::Refused;
use super::slot::{Extra, Flags, Slot, Sub, Subs};
use crate::collections::slots::ConnId;
use crate::config::Config;
use crate::conn::{Answering, State};
use crate::hub::MEMORY_FULL;
use crate::message::on_heap;

/// What a driver keeps for a connection, at the index of its slot: a socket and three flags.
const LINE_BYTES: usize = 12;
/// What it keeps for an event that the kernel may tell of at once.
const EVENT_BYTES: usize = 16;

/// What this loop holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The unfinished parts of all connections.
    /// Invariant: the sum of their `heap`.
    unfinished: usize,
    /// The buffers that are there whoever connects.
    buffers: usize,
    /// What the budget was told last.
    told: usize,
    /// Who was told that there is no memory for a message, and how much it wanted.
    starved: VecDeque<(ConnId, usize)>,
}

impl Held {
    pub(crate) fn new(config: &Config, memory_bytes: usize, loops: usize) -> Self {
        let share = memory_bytes / loops;
        let io = config.receive_buffer + config.events_per_turn * EVENT_BYTES;
        let buffers = io + 2 * config.arena_bytes + 2 * pull_bytes(share);
        // They are there, however little may be held besides: a budget below them still does something.
        Self { buffers: buffers.min(share / 8), ..Self::default() }
    }
}

/// How much one pull takes: a small budget is not to be spent on what is rendered.
pub(crate) fn pull_bytes(memory_bytes: usize) -> usize {
    PULL_BYTES.min(memory_bytes / 32).max(1)
}

impl Engine {
    /// Tells applications whose messages found no memory that there is some again.
    pub(crate) fn feed_starved(&mut self) {
        // Who finds none again waits for the next turn, in which what was lent to this one is free.
        for _ in 0..self.core.held.starved.len() {
            let front = self.core.held.starved.front().copied();
            let Some(index) = front.and_then(|(id, _)| self.core.slots.find(id)) else {
                self.core.held.starved.pop_front();
                continue;
            };
            if !self.core.has_fed() {
                return;
            }
            let Some((id, _)) = self.core.held.starved.pop_front() else { return };
            let Some(slot) = self.core.slots.get_mut(index) else { continue };
            // Who has bytes under way is told when they have left.
            if slot.flags.has(Flags::WANTS_WRITABLE) && slot.own_len() == 0 {
                slot.flags.clear(Flags::WANTS_WRITABLE);
                self.call_app(|app, core| app.writable(&mut Ctx { core }, id));
            }
        }
    }
}

impl Core {
    /// Counts what a connection holds now; whether it is more than before.
    #[inline]
    pub(crate) fn weigh(&mut self, index: u32) -> bool {
        let Some(slot) = self.slots.get(index) else { return false };
        let is_none = slot.heap == 0 && slot.is_light();
        !is_none && self.weigh_anew(index)
    }

    #[inline(never)]
    fn weigh_anew(&mut self, index: u32) -> bool {
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let (before, heap) = (slot.heap, slot.heap_now() as u32);
        if heap == before {
            return false;
        }
        slot.heap = heap;
        self.held.unfinished = self.held.unfinished - before as usize + heap as usize;
        self.tell_held();
        heap > before
    }

    /// A slot is gone, and what it held with it.
    pub(crate) fn unweigh(&mut self, slot: &Slot) {
        self.held.unfinished -= slot.heap as usize;
        self.tell_held();
    }

    /// Tells the budget what this loop holds; history gives way to it.
    pub(crate) fn tell_held(&mut self) {
        let held = self.held.unfinished + self.held.buffers + self.table_bytes();
        let told = std::mem::replace(&mut self.held.told, held);
        if held != told {
            self.history.hold(told, held);
        }
        if held > told {
            self.history.give_way(self.now);
        }
    }

    /// Tables and lists, by what they have room for.
    fn table_bytes(&self) -> usize {
        let lists = [&self.replies, &self.dirty, &self.again, &self.closes, &self.resumed];
        let lists: usize = lists.iter().map(|list| list.capacity() * size_of::<u32>()).sum();
        let slots = self.slots.bytes() + self.slots.capacity() * LINE_BYTES;
        let others = self.farewells.bytes() + self.presence.bytes();
        slots + self.wheel.bytes() + self.roster.bytes() + lists + others
    }

    /// Something has been done for a connection: if it has come to hold more than there is, it gives
    /// way.
    #[inline]
    pub(crate) fn settle(&mut self, index: u32) {
        if self.weigh(index) && self.history.is_short() {
            self.shed(index);
            self.weigh(index);
        }
    }

    /// Whether connections may hold `more` bytes.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        self.history.has_room(more)
    }

    /// Whether an application's message of `len` bytes finds memory: what it adds to an outbox, or to
    /// an arena that has become longer than it is meant to be.
    pub(crate) fn has_room_to_send(&mut self, id: ConnId, is_kept: bool, len: usize) -> bool {
        let arena = (self.arena.len() + len).saturating_sub(2 * self.config.arena_bytes);
        let more = if is_kept { len } else { arena };
        if more == 0 || self.has_room(more) {
            return true;
        }
        let slot = self.slots.find(id).and_then(|index| self.slots.get_mut(index));
        // Once each: who is to be told already is told. What never finds room keeps nobody waiting.
        let is_new = slot.is_some_and(|slot| slot.flags.raise(Flags::WANTS_WRITABLE));
        if is_new && len <= self.history.usable_bytes() / 4 {
            self.held.starved.push_back((id, len));
        }
        false
    }

    /// Whether somebody waits for memory that is there again.
    pub(crate) fn has_fed(&self) -> bool {
        self.held.starved.front().is_some_and(|(_, len)| self.has_room(*len))
    }

    /// Ends a connection that has come to hold more than there is, and says so if it can be told.
    fn shed(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.flags.has(Flags::CLOSED) || !slot.is_hoarding() {
            return;
        }
        // Nor may an answer stand in the middle of a stream.
        if slot.is_stuck() || matches!(slot.state, State::Closing(_) | State::Sse { .. }) {
            // Nothing that it is told would come before what it does not take.
            self.note_refusal(&MEMORY_FULL);
            self.reasons_lost(index);
            return self.close_now(index);
        }
        if slot.websocket().is_some() {
            self.note_refusal(&MEMORY_FULL);
            self.ws_close(index, 1013, "overloaded");
            // Its peer may be in the middle of a message: no more of that.
            return self.begin_closing(index);
        }
        let answering = self.answering_unfinished(index);
        self.refuse(index, &answering, &Refused::from(MEMORY_FULL).closing());
    }

    /// How whatever request is unfinished is answered.
    fn answering_unfinished(&mut self, index: u32) -> Answering {
        let Some(slot) = self.slots.get_mut(index) else { return Answering::default() };
        if let State::Hold(hold) = &slot.state {
            return hold.answering.clone();
        }
        let waiting = slot.extra.as_mut().and_then(|extra| extra.waiting.take());
        let Some(waiting) = waiting else { return self.answering_at(index) };
        slot.state = waiting.state;
        match waiting.question {
            Question::Request { head, parsed, .. } => self.answering(index, &head, &parsed),
            Question::Command(_) | Question::Payload { .. } => Answering::default(),
        }
    }

    /// Asserts that what is counted is what is there. For tests.
    pub(crate) fn check_held(&self) {
        let mut unfinished = 0;
        for (index, slot) in self.slots.iter() {
            assert_eq!(slot.heap as usize, slot.heap_now(), "bytes of slot {index}: {slot:?}");
            unfinished += slot.heap as usize;
        }
        assert_eq!(self.held.unfinished, unfinished);
        self.roster.check();
        self.history.check();
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // The order may live on, and other loops with it.
        self.leave_local();
        self.leave_addresses();
        self.detach_presence();
        self.history.hold(self.held.told, 0);
    }
}

impl Slot {
    /// What its unfinished parts hold now.
    pub(crate) fn heap_now(&self) -> usize {
        let subs = match &self.subs {
            Subs::None | Subs::One(_) => 0,
            Subs::Many(subs) => {
                on_heap(size_of::<Vec<Sub>>()) + on_heap(subs.capacity() * size_of::<Sub>())
            }
        };
        subs + self.state.heap() + self.extra.as_ref().map_or(0, |extra| extra.heap())
    }

    /// Whether it holds nothing, as nearly all do nearly always.
    #[inline]
    fn is_light(&self) -> bool {
        self.extra.is_none() && !matches!(self.subs, Subs::Many(_)) && self.state.is_light()
    }

    /// Whether it holds what it need not: all but its subscriptions, and replies that only wait for
    /// their position.
    fn is_hoarding(&self) -> bool {
        let hoards = |extra: &Extra| {
            !extra.tail.is_empty() || extra.outbox_len() > 0 || extra.waiting.is_some()
        };
        self.state.heap() > 0 || self.extra.as_ref().is_some_and(|extra| hoards(extra))
    }
}

impl Extra {
    fn heap(&self) -> usize {
        let later = self.later.iter().map(|(_, bytes)| on_heap(bytes.capacity())).sum::<usize>()
            + on_heap(self.later.capacity() * size_of::<(u64, Vec<u8>)>());
        let gaps = self.gaps.iter().map(|gap| on_heap(gap.channels.capacity() * 16)).sum::<usize>()
            + on_heap(self.gaps.capacity() * size_of::<crate::wire::dialect::Gap>());
        let waiting = self.waiting.as_ref().map_or(0, |waiting| waiting.heap());
        let (tail, outbox) = (on_heap(self.tail.capacity()), on_heap(self.outbox.capacity()));
        let told = on_heap(self.told.capacity());
        on_heap(size_of::<Self>()) + tail + outbox + told + later + gaps + waiting
    }
}

impl Waiting {
    fn heap(&self) -> usize {
        let question = match &self.question {
            Question::Request { head, body, .. } => {
                on_heap(head.capacity()) + body.as_ref().map_or(0, |body| on_heap(body.capacity()))
            }
            Question::Command(text) => on_heap(text.capacity()),
            Question::Payload { bytes, .. } => on_heap(bytes.capacity()),
        };
        let answered = self.answered.capacity() * size_of::<super::answer::Outcome>();
        on_heap(size_of::<Self>()) + question + on_heap(answered) + self.state.heap()
    }
}
