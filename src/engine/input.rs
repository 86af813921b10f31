//! Phase one: what sockets and other threads bring.

use super::answer::{Outcome, Question, Ticket, Waiting};
use super::app::Ctx;
use super::reply::Refused;
use super::request::Asked;
use super::slot::{Flags, Peer, Slot};
use super::{ConnId, Engine};
use crate::code::{Code, Refusal};
use crate::conn::{Answering, Event, LastHead, State, Step};
use crate::time::{Now, Stamp};
use crate::wire::http;

const LATE: Refusal =
    Refusal::new(Code::Overloaded, "who decides about this did not answer in time: try again");

impl Engine {
    /// A connection has been accepted. Over a limit its first request is refused and it ends; see
    /// [`turns_away`](Self::turns_away).
    pub fn handle_accept(&mut self, peer: Peer, now: Now) -> ConnId {
        self.core.now = now;
        let jitter = self.core.rng.u8(..);
        let is_over = self.core.is_over();
        let id = self.core.slots.insert(Slot::new(peer, Stamp::from(now), jitter));
        let index = id.index() as u32;
        let is_limited = self.core.count_accept(index, peer);
        if is_over || is_limited {
            self.core.mark_refused(index, !is_over);
        }
        self.core.file(index);
        self.core.tell_held();
        id
    }

    /// How many bytes may be read from a connection now; 0: leave them in the socket until
    /// [`poll_resumed`](Self::poll_resumed) names it.
    #[must_use]
    pub fn read_size(&self, id: ConnId) -> usize {
        let config = &self.core.config;
        let Some(slot) = self.core.slots.by_id(id) else { return 0 };
        let kept = slot.extra.as_ref().map_or(0, |extra| extra.tail.len());
        if slot.flags.has(Flags::AGAIN) || slot.flags.has(Flags::CLOSED) || self.must_wait(slot) {
            return 0;
        }
        match &slot.state {
            // What is pipelined behind a held answer may be one head: a byte more tells that it is not.
            State::Hold(_) | State::Wait { .. } => (config.head_bytes_max + 1).saturating_sub(kept),
            State::Ws(ws) => {
                // The header comes on top: a message as large as the budget takes one read, not two.
                let wanted = ws.reader.want().max(config.read_bytes_per_turn);
                (wanted + crate::wire::ws::HEADER_BYTES_MAX).min(config.receive_buffer)
            }
            State::Head(_) | State::Body(_) | State::Sse { .. } | State::Closing(_) => {
                config.read_bytes_per_turn
            }
        }
    }

    /// Whether a connection's next event has to wait for its replies to leave.
    #[inline]
    fn must_wait(&self, slot: &Slot) -> bool {
        slot.is_stuck() || slot.own_len() >= self.core.config.reply_bytes_per_turn
    }

    /// Bytes have been received; they are changed in place (unmasked).
    pub fn handle_bytes(&mut self, id: ConnId, bytes: &mut [u8], now: Now) {
        self.core.now = now;
        let Some(index) = self.core.slots.find(id) else { return };
        self.on_bytes(index, bytes);
        self.core.settle(index);
    }

    fn on_bytes(&mut self, index: u32, bytes: &mut [u8]) {
        let now = self.core.now;
        let stamp = Stamp::from(now);
        let Some(slot) = self.core.slots.get_mut(index) else { return };
        slot.last_in = stamp;
        if let State::Ws(ws) = &mut slot.state {
            ws.written = 0;
            if ws.pinged.take().is_some() {
                // The next heartbeat may be due before the pong was.
                self.core.file(index);
            }
        }
        let Some(slot) = self.core.slots.get_mut(index) else { return };
        if matches!(&slot.state, State::Closing(closing) if closing.left == 0) {
            // More than anyone sends by mistake: it is not worth reading on for.
            return self.core.close_now(index);
        }
        if !slot.has_tail() {
            let left = self.drive(index, bytes);
            return self.keep(index, &bytes[bytes.len() - left..]);
        }
        slot.extra().tail.extend_from_slice(bytes);
        if !slot.flags.has(Flags::AGAIN) {
            self.drive_tail(index);
        }
    }

    /// The peer has closed its sending side.
    pub fn handle_eof(&mut self, id: ConnId, now: Now) {
        self.core.now = now;
        let Some(index) = self.core.slots.find(id) else { return };
        let half_close = self.core.config.allow_half_close;
        let Some(slot) = self.core.slots.get_mut(index) else { return };
        slot.flags.set(Flags::EOF);
        let Some(slot) = self.core.slots.get(index) else { return };
        let has_more = self.has_more(slot);
        match &slot.state {
            // Requests that came before it are still answered.
            State::Wait { .. } => {}
            State::Head(_) | State::Body(_) | State::Ws(_) if has_more => {}
            State::Hold(_) | State::Sse { .. } if half_close => {}
            State::Hold(_) | State::Sse { .. } => self.core.close_now(index),
            State::Head(_) | State::Body(_) | State::Ws(_) => {
                self.core.reasons_lost(index);
                self.core.begin_closing(index);
            }
            State::Closing(closing) if closing.lingering => self.core.close_now(index),
            State::Closing(_) => self.core.list_reply(index),
        }
        self.core.weigh(index);
    }

    /// The socket reports that the peer is gone or half gone while its bytes are not being read.
    pub fn handle_hangup(&mut self, id: ConnId, now: Now) {
        let state = self.core.slots.by_id(id).map(|slot| &slot.state);
        if matches!(state, Some(State::Hold(_) | State::Sse { .. })) {
            self.handle_eof(id, now);
        }
    }

    /// The connection is broken.
    pub fn handle_lost(&mut self, id: ConnId, now: Now) {
        self.core.now = now;
        let Some(index) = self.core.slots.find(id) else { return };
        self.core.reasons_lost(index);
        self.core.close_now(index);
    }

    /// A socket that was full takes bytes again.
    pub fn handle_writable(&mut self, id: ConnId, now: Now) {
        self.core.now = now;
        let Some(index) = self.core.slots.find(id) else { return };
        let Some(slot) = self.core.slots.get_mut(index) else { return };
        if !slot.flags.has(Flags::BLOCKED) {
            return;
        }
        slot.flags.clear(Flags::BLOCKED);
        let is_behind = slot.flags.has(Flags::BEHIND);
        let has_backlog = slot.has_backlog();
        self.core.list_reply(index);
        if !has_backlog {
            self.core.resume_input(index);
        }
        if is_behind {
            self.core.list_dirty(index);
        }
        self.core.file(index);
    }

    /// Whether a connection waits for its socket to take more.
    #[must_use]
    pub fn is_blocked(&self, id: ConnId) -> bool {
        self.core.slots.by_id(id).is_some_and(|slot| slot.flags.has(Flags::BLOCKED))
    }

    /// Offers kept bytes again, one round.
    pub fn handle_kept(&mut self, now: Now) {
        self.core.now = now;
        for _ in 0..self.core.again.len() {
            if self.core.is_full() {
                return;
            }
            let Some(index) = self.core.again.pop_front() else { return };
            let Some(slot) = self.core.slots.get_mut(index) else { continue };
            slot.flags.clear(Flags::AGAIN);
            self.core.resumed.push_back(index);
            if self.is_caught_up(index) {
                self.resume(index, None);
            }
            self.drive_tail(index);
            self.end_after_eof(index);
            self.core.settle(index);
        }
    }

    /// The peer had closed its side: once what it sent before is used, the connection ends.
    fn end_after_eof(&mut self, index: u32) {
        let Some(slot) = self.core.slots.get(index) else { return };
        if !slot.flags.has(Flags::EOF) || self.has_more(slot) {
            return;
        }
        let half_close = self.core.config.allow_half_close;
        match &slot.state {
            State::Head(_) | State::Body(_) | State::Ws(_) => {
                self.core.reasons_lost(index);
                self.core.begin_closing(index);
            }
            State::Hold(_) | State::Sse { .. } if !half_close => self.core.close_now(index),
            State::Hold(_) | State::Sse { .. } | State::Wait { .. } | State::Closing(_) => {}
        }
    }

    /// Whether kept bytes will be offered again without more of them.
    fn has_more(&self, slot: &Slot) -> bool {
        slot.flags.has(Flags::AGAIN) || (slot.has_tail() && self.must_wait(slot))
    }

    fn drive_tail(&mut self, index: u32) {
        let Some(slot) = self.core.slots.get_mut(index) else { return };
        if slot.state.is_paused() {
            return self.after_keeping(index);
        }
        let Some(extra) = &mut slot.extra else { return };
        let mut tail = std::mem::take(&mut extra.tail);
        let left = self.drive(index, &mut tail);
        if left == 0 {
            if let Some(slot) = self.core.slots.get_mut(index) {
                slot.tidy();
            }
            return;
        }
        let used = tail.len() - left;
        if used > 0 {
            tail.drain(..used);
            // A burst must not leave its buffer behind.
            if tail.capacity() > 4096 && tail.len() < tail.capacity() / 4 {
                tail.shrink_to_fit();
            }
        }
        match self.core.slots.get_mut(index) {
            Some(slot) if !matches!(slot.state, State::Closing(_)) => slot.extra().tail = tail,
            _ => {}
        }
        self.after_keeping(index);
    }

    /// Keeps what could not be used yet.
    fn keep(&mut self, index: u32, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        let stamp = self.core.stamp();
        let Some(slot) = self.core.slots.get_mut(index) else { return };
        if matches!(slot.state, State::Closing(_)) {
            return;
        }
        if matches!(slot.state, State::Head(_)) && slot.requests > 0 {
            slot.phase = stamp; // the first byte of a further head
        }
        slot.extra().tail.extend_from_slice(rest);
        self.after_keeping(index);
        self.core.file(index);
    }

    /// What is kept is offered again when the state changes, or in the next turn.
    fn after_keeping(&mut self, index: u32) {
        let head_max = self.core.config.head_bytes_max;
        let Some(slot) = self.core.slots.get(index) else { return };
        let waits = self.must_wait(slot) || self.core.is_full();
        // Then a full write, not the next turn, lets it go on.
        let is_stuck = slot.is_stuck();
        let kept = slot.extra.as_ref().map_or(0, |extra| extra.tail.len());
        let Some(slot) = self.core.slots.get_mut(index) else { return };
        if slot.state.is_paused() {
            // Who is answered in this turn is not held: the rest waits in its socket until then.
            if kept > head_max && !slot.flags.has(Flags::DIRTY) {
                slot.flags.set(Flags::LAST);
            }
        } else if waits && !is_stuck && slot.flags.raise(Flags::AGAIN) {
            self.core.again.push_back(index);
        }
    }

    /// Steps a connection through its input; returns how many bytes at its end were not used.
    fn drive(&mut self, index: u32, bytes: &mut [u8]) -> usize {
        let mut last = self.last_head.take().unwrap_or_default();
        let left = self.drive_from(index, bytes, &mut last);
        self.last_head = Some(last);
        left
    }

    fn drive_from(&mut self, index: u32, bytes: &mut [u8], last: &mut LastHead) -> usize {
        let mut input = bytes;
        loop {
            let Some(slot) = self.core.slots.get(index) else { return 0 };
            // A frame is made of bytes: where none are left it is not asked for another.
            if slot.flags.has(Flags::CLOSED)
                || (input.is_empty() && matches!(slot.state, State::Ws(_)))
            {
                return 0;
            }
            if slot.state.is_paused() || self.must_wait(slot) || self.core.is_full() {
                return input.len();
            }
            let Some(slot) = self.core.slots.get_mut(index) else { return 0 };
            match slot.state.step(&mut input, &self.core.limits, last) {
                Step::NeedMore => return input.len(),
                Step::Progress => {}
                Step::Event(event) => {
                    self.input_left = !input.is_empty();
                    self.dispatch(index, event);
                }
            }
        }
    }

    /// The one place where connections and channels meet.
    fn dispatch(&mut self, index: u32, event: Event<'_>) {
        self.recalled.clear();
        self.remembered.clear();
        match event {
            Event::Request(request) => {
                self.on_request(index, Asked::new(request.head, request.parsed, request.body));
            }
            Event::Body(body) => self.on_request(index, Asked::complete(&body)),
            Event::Frame(frame) => self.on_frame(index, frame),
            Event::BadHead { error, head_only, seen } => {
                let refused = Refused::from(Refusal::new(error.code(), error.message())).closing();
                // A page is to see that it need not try again.
                let field = |name| http::only_header(seen, name);
                let origin = self.core.readable_by(field("origin"), field("host"));
                let answering = Answering { head_only, origin, ..Answering::default() };
                self.core.refuse(index, &answering, &refused);
            }
            Event::BadBody => {
                let message = "the body's chunks are malformed";
                self.refuse_body(index, Refusal::new(Code::BadRequest, message));
            }
            Event::BodyTooLarge => self.refuse_body(index, crate::message::TOO_LARGE),
            Event::BadFrame(error) => self.on_bad_frame(index, error),
        }
    }

    /// Refuses a body that cannot be read any further.
    fn refuse_body(&mut self, index: u32, refusal: Refusal) {
        let refused = Refused::from(refusal).closing();
        let answering = self.core.answering_at(index);
        self.core.refuse(index, &answering, &refused);
    }

    /// An answer that was asked of another thread.
    pub fn handle_answer(&mut self, ticket: Ticket, outcome: Outcome, now: Now) {
        self.core.now = now;
        self.answer_ticket(ticket, Some(outcome));
    }

    /// What a connection waits for is here, if it still waits.
    pub(crate) fn answer_ticket(&mut self, ticket: Ticket, outcome: Option<Outcome>) {
        // Another connection may have the place now: it waits for another ticket, if any.
        let index = ticket.index();
        let waiting = self.core.slots.get(index).and_then(|slot| slot.extra.as_ref());
        let waiting = waiting.and_then(|extra| extra.waiting.as_ref());
        if waiting.is_some_and(|waiting| waiting.ticket == ticket) {
            self.resume(index, outcome);
            self.core.settle(index);
        }
    }

    /// The driver goes, and with it every connection: the application is told of those that it knows.
    pub fn handle_end(&mut self, now: Now) {
        self.core.now = now;
        let slots = self.core.slots.iter();
        let opened = slots.filter(|(_, slot)| slot.flags.has(Flags::OPENED));
        let opened: Vec<_> = opened.map(|(index, _)| index).collect();
        for index in opened {
            self.free(index);
        }
    }

    /// A value from another thread.
    pub fn handle_signal(&mut self, value: u64, now: Now) {
        self.core.now = now;
        self.call_app(|app, core| app.signal(&mut Ctx { core }, value));
    }

    /// Pauses a connection until its ticket is answered.
    pub(crate) fn wait(&mut self, index: u32, question: Question) {
        let deadline = self.core.config.answer_deadline.as_millis() as u64;
        let until = Stamp::at(self.core.now.mono_ms + deadline);
        let Some(id) = self.core.slots.id(index) else { return };
        let is_for_position = self.owed.is_none();
        let ticket = match self.owed.take() {
            Some(ticket) => ticket,
            None => self.core.new_ticket(id),
        };
        let answered = std::mem::take(&mut self.remembered);
        let Some(slot) = self.core.slots.get_mut(index) else { return };
        let state = std::mem::replace(&mut slot.state, State::Wait { until });
        slot.extra().waiting =
            Some(Box::new(Waiting { ticket, question, answered, state, is_for_position }));
        self.core.file(index);
    }

    /// Looks at a question again, with one more answer.
    fn resume(&mut self, index: u32, outcome: Option<Outcome>) {
        let Some(slot) = self.core.slots.get_mut(index) else { return };
        let Some(waiting) = slot.extra().waiting.take() else { return };
        slot.state = waiting.state;
        slot.tidy();
        self.recalled = waiting.answered.into_iter().chain(outcome).collect();
        self.remembered.clear();
        match waiting.question {
            Question::Request { head, parsed, body } => {
                self.on_request(index, Asked::new(&head, &parsed, body.as_deref()));
            }
            Question::Command(text) => self.on_command(index, &text),
            Question::Payload { is_text, bytes } => self.on_payload(index, is_text, bytes),
        }
        let state = self.core.slots.get(index).map(|slot| &slot.state);
        if !matches!(state, Some(State::Wait { .. })) {
            self.core.resume_input(index);
            let slot = self.core.slots.get(index);
            let is_last = slot.is_some_and(|slot| slot.flags.has(Flags::LAST));
            if self.core.draining && is_last {
                self.core.ws_bye(index); // it was told nothing while it waited
            }
        }
        self.core.file(index);
    }

    /// The deadline answers: no.
    pub(crate) fn answer_is_late(&mut self, index: u32) {
        let deadline = self.core.config.answer_deadline.as_millis() as u64;
        let until = Stamp::at(self.core.now.mono_ms + deadline);
        let Some(slot) = self.core.slots.get_mut(index) else { return };
        if slot.extra().waiting.as_ref().is_some_and(|waiting| waiting.is_for_position) {
            // Nobody was asked: a slow reader gets there, or its socket's clock ends it.
            slot.state = State::Wait { until };
            return;
        }
        let Some(waiting) = slot.extra().waiting.take() else { return };
        slot.state = waiting.state;
        slot.tidy();
        match waiting.question {
            Question::Request { head, parsed, body } => {
                let answering = self.core.answering(index, &head, &parsed);
                let mut refused = Refused::from(LATE);
                refused.close = parsed.framing != http::Framing::None && body.is_none();
                self.core.refuse(index, &answering, &refused);
            }
            Question::Command(text) => {
                let reference = self.core.parse(&text).reference;
                self.core.ws_error(index, reference, &LATE);
            }
            Question::Payload { .. } => self.core.ws_close(index, 1013, "overloaded"),
        }
        self.core.resume_input(index);
    }

    /// The next answer from memory, if this question was looked at before. One of the wrong kind is
    /// an answer too: the asker takes it for no.
    pub(crate) fn recall(&mut self) -> Option<Outcome> {
        let outcome = self.recalled.pop_front()?;
        self.remembered.push(outcome.clone());
        Some(outcome)
    }

    pub(crate) fn remember(&mut self, outcome: Outcome) {
        self.remembered.push(outcome);
    }

    /// Whether a command only waited for its connection to catch up.
    fn is_caught_up(&self, index: u32) -> bool {
        let Some(slot) = self.core.slots.get(index) else { return false };
        let waits = slot.extra.as_ref().and_then(|extra| extra.waiting.as_ref());
        waits.is_some_and(|waiting| waiting.is_for_position) && !slot.has_later()
    }
}
