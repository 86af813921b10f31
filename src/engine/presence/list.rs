//! `/channels/{name}/presence`: who listens now.
//!
//! Where there are several loops, each answers for its own connections: whoever asks waits for them as
//! for a decision that comes later. One question of a loop is under way at a time, and answers all who
//! had asked it by then.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::board::{Question, Watches};
use super::{ASKED_MS, Kept, Who};
use crate::collections::slots::ConnId;
use crate::conn::Answering;
use crate::engine::Engine;
use crate::engine::answer::Ticket;
use crate::engine::core::Core;
use crate::engine::reply::Reply;
use crate::engine::request::Next;
use crate::hub::RoomIndex;
use crate::json;
use crate::wire::dialect::write_connection;

/// What this loop asks the others.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Who waits, and for which channel, in the order of asking.
    queue: VecDeque<(ConnId, Ticket, Arc<str>)>,
    /// The question that is under way, and how many of the queue had been there when it began.
    asked: Option<(Arc<str>, usize)>,
    /// What the others have answered, while it is being passed on.
    answer: Option<Question>,
}

impl Gathering {
    pub(super) fn bytes(&self) -> usize {
        self.queue.capacity() * size_of::<(ConnId, Ticket, Arc<str>)>()
    }
}

impl Engine {
    /// Lists a channel's members, once all loops have said who they are.
    pub(crate) fn on_presence(
        &mut self,
        index: u32,
        to: &Answering,
        channel: &str,
    ) -> Result<(), Next> {
        self.core.may_administer(index)?;
        if self.core.must_gather(channel) {
            let Some(id) = self.core.slots.id(index) else { return Err(Next::Done) };
            let ticket = self.core.new_ticket(id);
            self.core.gather(id, ticket, channel);
            self.owed = Some(ticket);
            return Err(Next::Later);
        }
        self.core.answer_presence(index, to, channel);
        Ok(())
    }

    /// Takes in what other loops have asked and answered.
    pub(crate) fn take_in_presence(&mut self) {
        let board = &self.core.common.board;
        if !board.take_post(self.core.presence.me) {
            return;
        }
        self.core.presence.has_news = true;
        if self.core.has_others() {
            self.core.answer_others();
            self.pass_on_members();
        }
    }

    /// Answers those who wait for what the others have said by now.
    fn pass_on_members(&mut self) {
        let Some((count, answer)) = self.core.take_answer() else { return };
        let channel = Arc::clone(&answer.channel);
        self.core.presence.gathering.answer = Some(answer);
        let (mut number, mut known) = (0, Vec::new());
        self.core.presence.gathering.queue.retain(|(_, ticket, name)| {
            number += 1;
            let is_answered = number <= count && *name == channel;
            if is_answered {
                known.push(*ticket);
            }
            !is_answered
        });
        known.into_iter().for_each(|ticket| self.answer_ticket(ticket, None));
        self.core.presence.gathering.answer = None;
        self.core.ask_next();
    }
}

impl Core {
    /// Whether other loops are yet to say who listens there.
    fn must_gather(&self, channel: &str) -> bool {
        let answer = self.presence.gathering.answer.as_ref();
        self.has_others() && answer.is_none_or(|answer| *answer.channel != *channel)
    }

    /// Somebody wants to know who listens on all loops.
    fn gather(&mut self, id: ConnId, ticket: Ticket, channel: &str) {
        let room = self.room_of(channel);
        self.ask_presence(channel, room);
        let (slots, gathering) = (&self.slots, &mut self.presence.gathering);
        if gathering.asked.is_none() || gathering.queue.len() > 2 * slots.len() {
            // Some are gone and waited for nothing: while a question is under way they keep their
            // place in the count.
            let asked = gathering.asked.as_ref().map_or(0, |(_, count)| *count);
            let mut number = 0;
            gathering.queue.retain(|(id, ..)| {
                number += 1;
                number <= asked || slots.find(*id).is_some()
            });
        }
        gathering.queue.push_back((id, ticket, channel.into()));
        if gathering.asked.is_none() {
            self.ask_next();
        }
    }

    /// Asks the other loops for whoever has waited longest.
    fn ask_next(&mut self) {
        let gathering = &mut self.presence.gathering;
        gathering.asked = None;
        let slots = &self.slots;
        while gathering.queue.front().is_some_and(|(id, ..)| slots.find(*id).is_none()) {
            gathering.queue.pop_front();
        }
        let Some((.., channel)) = gathering.queue.front() else {
            gathering.queue = VecDeque::new();
            return;
        };
        let channel = Arc::clone(channel);
        gathering.asked = Some((Arc::clone(&channel), gathering.queue.len()));
        let me = self.presence.me;
        self.with_board(|_, watches| watches.ask(me, Question::new(channel)));
    }

    /// What all others have answered, and how many of the queue had been there when they were asked.
    fn take_answer(&mut self) -> Option<(usize, Question)> {
        let me = usize::from(self.presence.me);
        self.presence.gathering.asked.as_ref()?;
        let answer = self.with_board(|_, watches| {
            let is_answered = |question: &mut Question| question.is_answered();
            watches.questions[me].take_if(is_answered)
        })?;
        let (_, count) = self.presence.gathering.asked.take()?;
        Some((count, answer))
    }

    /// Says who listens here, to each loop that wants to know.
    fn answer_others(&mut self) {
        let me = self.presence.me;
        self.with_board(|core, watches| {
            for asker in 0..watches.questions.len() {
                let question = watches.questions[asker].take();
                if let Some(question) = question {
                    let question = core.answer_question(watches, question);
                    let is_new = question.waits_for(me);
                    watches.questions[asker] = Some(question);
                    if is_new {
                        watches.answered(asker, me);
                    }
                }
            }
        });
    }

    fn answer_question(&self, watches: &Watches, mut question: Question) -> Question {
        if question.waits_for(self.presence.me) {
            let room = self.room_of(&question.channel);
            let name = Arc::clone(&question.channel);
            question.listeners += room.map_or(0, |room| self.roster.members(room).len());
            for who in self.listeners(watches, &name, room) {
                question.add(who, watches.members_max);
            }
        }
        question
    }

    /// Lists a channel's members, and watches it for a while: whoever asks again is to see the same
    /// poll under the same name.
    fn answer_presence(&mut self, index: u32, to: &Answering, channel: &str) {
        let room = self.room_of(channel);
        self.ask_presence(channel, room);
        let mut body = Vec::with_capacity(256);
        self.with_board(|core, watches| core.write_members(watches, &mut body, channel, room));
        self.respond(index, to, &Reply::json(200, &body));
    }

    fn ask_presence(&mut self, channel: &str, room: Option<RoomIndex>) {
        if self.draining {
            return;
        }
        let until = self.now.mono_ms + ASKED_MS;
        self.with_board(|core, watches| {
            let watch = match (watches.find(channel), room) {
                (Some(watch), _) => watch,
                (None, _) if watches.len() >= watches.entries_max => return,
                (None, Some(room)) => core.watch_for(watches, room),
                (None, None) => core.add_watch(watches, channel.into()),
            };
            if let Some(at) = watches.get_mut(watch) {
                at.asked_until = at.asked_until.max(until);
            }
            core.settle_watch(watches, watch);
        });
    }

    /// Who listens to a channel on this loop.
    fn listeners<'a>(
        &'a self,
        watches: &'a Watches,
        channel: &str,
        room: Option<RoomIndex>,
    ) -> impl Iterator<Item = Who> + 'a {
        let watch = watches.find(channel).and_then(|watch| watches.get(watch));
        let part = watch.and_then(|watch| watch.part_of(self.presence.me));
        let members = room.map_or(&[][..], |room| self.roster.members(room));
        members.iter().filter_map(move |index| {
            let mut who = self.who(watches, *index)?;
            if let Some(Kept { name, since_ms }) = part.and_then(|part| part.kept(*index)) {
                (who.name, who.since_ms) = (name, since_ms);
            }
            Some(who)
        })
    }

    fn write_members(
        &self,
        watches: &Watches,
        out: &mut Vec<u8>,
        channel: &str,
        room: Option<RoomIndex>,
    ) {
        let watch = watches.find(channel).and_then(|watch| watches.get(watch));
        let most = watches.members_max;
        let subscribers = self.history.info(channel, self.now).subscribers;
        out.extend_from_slice(b"{\"channel\":");
        json::write_string(out, channel);
        out.extend_from_slice(b",\"subscribers\":");
        json::write_number(out, u64::from(subscribers));
        out.extend_from_slice(b",\"members\":[");
        let gone = watch.into_iter().flat_map(|watch| watch.vacant.iter().map(|vacant| vacant.who));
        let own = self.listeners(watches, channel, room);
        for (number, who) in self.with_others(own, gone, most).into_iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            who.write_json(out);
        }
        let vacant = watch.map_or(0, |watch| watch.vacant.len());
        let others = self.presence.gathering.answer.as_ref().map_or(0, |answer| answer.listeners);
        let own = room.map_or(0, |room| self.roster.members(room).len());
        let more = own + others + vacant > most;
        out.extend_from_slice(b"],\"more\":");
        out.extend_from_slice(if more { b"true}" } else { b"false}" });
    }

    /// Members loop by loop, and behind them those that are gone and still count.
    fn with_others(
        &self,
        own: impl Iterator<Item = Who>,
        gone: impl Iterator<Item = Who>,
        most: usize,
    ) -> Vec<Who> {
        let Some(answer) = &self.presence.gathering.answer else {
            return own.chain(gone).take(most).collect();
        };
        // Whoever came from one loop to another meanwhile, or went, is still only one.
        let mut names = HashSet::new();
        let gone: Vec<Who> = gone.filter(|who| names.insert(who.name)).collect();
        let others = answer.members.iter().copied();
        let found: Vec<Who> = own.chain(others).filter(|who| names.insert(who.name)).collect();
        let mut all = Vec::with_capacity(found.len() + gone.len());
        for number in 0..self.common.loops {
            all.extend(found.iter().filter(|who| usize::from(who.conn.loop_number()) == number));
        }
        all.extend(gone);
        all.truncate(most);
        all
    }
}

impl Who {
    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"connection\":\"");
        write_connection(out, self.name);
        out.extend_from_slice(b"\",\"transport\":\"");
        out.extend_from_slice(self.transport.name().as_bytes());
        out.extend_from_slice(b"\",\"user\":null,\"since\":");
        json::write_number(out, self.since_ms);
        out.push(b'}');
    }
}
