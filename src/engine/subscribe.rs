//! Beginning to listen: event streams, polls, and the subscriptions that WebSockets share with them.

use std::borrow::Cow;
use std::sync::Arc;

use super::Engine;
use super::app::Action;
use super::core::Core;
use super::presence::Parting;
use super::query::Options;
use super::reply::{Refused, Reply};
use super::request::{Asked, DRAINING, Next};
use super::routes::{self, Plan};
use super::slot::{Flags, Sub};
use super::timers::spread_ms;
use crate::code::{Code, Refusal};
use crate::conn::{Answering, Hold, State};
use crate::cursor::{Cursor, Since};
use crate::hub::{GapReason, Joined, MEMORY_FULL, RoomIndex};
use crate::json;
use crate::time::Stamp;
use crate::wire::dialect::{Dialect, Framing, Gap};
use crate::wire::http::response::{ResponseHead, push_header, write_head};

/// What subscribing did.
#[derive(Debug)]
pub(crate) struct Started {
    /// The channels that are new to the connection, with what each lost.
    pub(crate) channels: Vec<StartedChannel>,
    /// Where delivery starts: the lowest position of any of them.
    pub(crate) lowest: u64,
}

#[derive(Debug)]
pub(crate) struct StartedChannel {
    pub(crate) name: Arc<str>,
    pub(crate) room: RoomIndex,
    pub(crate) position: u64,
    pub(crate) gap: Option<GapReason>,
}

pub(crate) const TOO_MANY_CHANNELS: Refusal =
    Refusal::new(Code::BadRequest, "at most 128 channels on one connection");

impl Engine {
    /// `GET /events`, or `GET /channels/{name}` that accepts an event stream.
    pub(crate) fn open_stream(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        answering: &Answering,
        plan: &Plan<'_>,
        is_raw: bool,
    ) -> Result<(), Next> {
        self.authorize_channels(index, asked, &plan.options.channels)?;
        let opened = self.core.open_stream(index, asked, answering, &plan.options, is_raw);
        opened.map_err(Next::from)
    }

    /// `GET /poll`, or `GET /channels/{name}` with `since` or `wait`.
    pub(crate) fn open_poll(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        answering: &Answering,
        plan: &Plan<'_>,
        is_raw: bool,
    ) -> Result<(), Next> {
        self.authorize_channels(index, asked, &plan.options.channels)?;
        self.core.take_in_now();
        if self.core.draining {
            return Err(DRAINING.into());
        }
        if plan.options.since.is_none() && !is_raw {
            self.core.answer_anchor(index, answering, &plan.options.channels);
            return Ok(());
        }
        self.core.hold(index, answering, &plan.options, is_raw)?;
        Ok(())
    }

    /// Asks for the connection, then for each channel.
    pub(crate) fn authorize_channels(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        channels: &[Cow<'_, str>],
    ) -> Result<(), Next> {
        let request = asked.without_body();
        self.authorize(index, Action::Connect { request: &request })?;
        for channel in channels {
            self.authorize(index, Action::Subscribe { channel, request: Some(&request) })?;
        }
        Ok(())
    }
}

impl Core {
    fn open_stream(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        answering: &Answering,
        options: &Options<'_>,
        is_raw: bool,
    ) -> Result<(), Refused> {
        let framing = framing_of(answering);
        if answering.head_only {
            let keep = self.may_keep(index, answering);
            self.write_stream_head(index, answering, None, !keep);
            self.after_response(index, keep);
            return Ok(());
        }
        let is_soft = asked.parsed.accepts_only_event_stream && !options.is_own_client;
        let started = if self.draining {
            Err(DRAINING)
        } else {
            self.take_in_now();
            match self.admit_channels(index, &options.channels) {
                Ok(()) => {
                    self.start(index, &options.channels, options.since, options.gap_live, false)
                }
                Err(refusal) => Err(refusal),
            }
        };
        let started = match started {
            Ok(started) => started,
            Err(refusal) if is_soft => {
                self.put_off(index, answering, &refusal);
                return Ok(());
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let dialect = if is_raw { Dialect::SseRaw(framing) } else { Dialect::SseJson(framing) };
        let gaps = self.gaps(&started, options.since);
        let lowest = self.cursor(started.lowest);
        let retry_ms = self.retry_ms();
        let close = framing == Framing::Bare || !answering.keep_alive;
        let waits_for_now = !is_raw && options.is_own_client && options.since.is_some();
        let is_behind = started.lowest < self.horizon;
        self.write_stream_head(index, answering, Some(framing), close);
        self.reply(index, |out| {
            framing.first_block(out, retry_ms, gaps.is_empty().then_some(lowest));
            dialect.gaps(out, &gaps, lowest);
            if waits_for_now && !is_behind {
                dialect.heartbeat(out, lowest);
            }
        });
        let now = self.stamp();
        if let Some(slot) = self.slots.get_mut(index) {
            slot.state = State::Sse { dialect };
            slot.last_out = now;
            slot.phase = now;
            slot.adopt(options);
            if waits_for_now && is_behind {
                slot.flags.set(Flags::WAITS_FOR_NOW);
            }
        }
        self.enter(index, &started, options.presence);
        self.file(index);
        Ok(())
    }

    /// Refuses a request of a connection that is one too many, and ends it.
    pub(crate) fn turn_away(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        answering: &Answering,
        refusal: Refusal,
    ) {
        if self.is_soft(asked) {
            return self.put_off(index, answering, &refusal);
        }
        self.refuse(index, answering, &Refused::from(refusal).closing());
    }

    /// Whether "later" must be said by [`put_off`](Self::put_off).
    pub(crate) fn is_soft(&self, asked: &Asked<'_>) -> bool {
        let reads_status = || {
            let mut options = Options::default();
            let read = options.read(asked.head, asked.parsed, &self.config);
            read.is_ok() && options.is_own_client
        };
        asked.parsed.accepts_only_event_stream
            && routes::is_stream(asked.head, asked.parsed, &self.config)
            && !reads_status()
    }

    /// Says "later" by an empty stream: a native EventSource that gets anything but 200 never comes
    /// back (WHATWG HTML §9.2.2).
    pub(crate) fn put_off(&mut self, index: u32, answering: &Answering, refusal: &Refusal) {
        let framing = framing_of(answering);
        self.note_refusal(refusal);
        let retry_ms = self.retry_ms().max(refusal.retry_ms);
        self.write_stream_head(index, answering, Some(framing), true);
        self.reply(index, |out| {
            framing.first_block(out, retry_ms, None);
            framing.end(out);
        });
        self.begin_closing(index);
    }

    /// The head of an event stream. Every header here keeps some proxy from holding events back.
    fn write_stream_head(
        &mut self,
        index: u32,
        answering: &Answering,
        framing: Option<Framing>,
        close: bool,
    ) {
        let mut extra = b"X-Accel-Buffering: no\r\n".to_vec();
        if framing == Some(Framing::Chunked) {
            extra.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        let date = self.date();
        let head = ResponseHead {
            date: &date,
            content_type: Some("text/event-stream"),
            extra: &extra,
            close,
            say_keep_alive: answering.is_http10,
            allow_origin: answering.origin.as_deref(),
            vary: "Origin, Accept",
            cache_control: "no-store, no-transform",
            ..ResponseHead::default()
        };
        self.reply(index, |out| write_head(out, 200, &head));
    }

    /// Joins channels and places the connection in the order: nothing is done on an error.
    /// `says_live`: the client is told when it has caught up.
    pub(crate) fn start(
        &mut self,
        index: u32,
        names: &[Cow<'_, str>],
        since: Option<Since>,
        gap_live: bool,
        says_live: bool,
    ) -> Result<Started, Refusal> {
        let count = self.slots.get(index).map_or(0, |slot| slot.subs.as_slice().len());
        // One channel of one connection is hardly anything.
        if !names.is_empty() && count + names.len() > 1 && !self.has_room(0) {
            return Err(MEMORY_FULL);
        }
        let mut joined: Vec<Joined> = Vec::with_capacity(names.len());
        for name in names {
            match self.history.join(name, since, self.horizon, self.now) {
                Ok(one) => joined.push(one),
                Err(refusal) => {
                    joined.iter().for_each(|one| self.history.leave(one.channel, self.now));
                    return Err(refusal);
                }
            }
        }
        for one in &mut joined {
            if one.gap.is_some() && gap_live {
                one.position = self.horizon;
            }
        }
        let lowest = joined.iter().map(|one| one.position).min().unwrap_or(self.horizon);
        let channels = self.add_subs(index, joined, lowest, says_live);
        self.tell_held();
        Ok(Started { channels, lowest })
    }

    fn add_subs(
        &mut self,
        index: u32,
        joined: Vec<Joined>,
        lowest: u64,
        says_live: bool,
    ) -> Vec<StartedChannel> {
        let horizon = self.horizon;
        let is_first = self.slots.get(index).is_none_or(|slot| slot.subs.as_slice().is_empty());
        // Not the position that is told: another late channel may be further back than this one.
        let cursor = self.slots.get(index).map_or(horizon, |slot| slot.reached(horizon));
        let add_one = |Joined { channel, name, position: start, gap }| {
            let (room, place) = self.roster.join(channel, &name, index);
            if self.common.loops > 1 && self.roster.members(room).len() == 1 {
                self.history.listen(channel, self.loop_number());
            }
            self.slots.get_mut(index)?.subs.push(Sub {
                room,
                place,
                position: start,
                // Whoever is told "live" is so only once it has been.
                catching_up: start < horizon || (says_live && lowest < horizon),
                later: !is_first && start < cursor,
                watches: false,
                untold: false,
                is_mute: false,
            });
            Some(StartedChannel { name, room, position: start, gap })
        };
        let channels = joined.into_iter().map_while(add_one).collect(); // in the same memory
        let Some(slot) = self.slots.get_mut(index) else { return channels };
        if lowest < horizon {
            if is_first {
                slot.flags.set(Flags::BEHIND);
                slot.cursor = lowest;
            } else if slot.flags.raise(Flags::BEHIND) {
                slot.cursor = horizon;
            }
            self.list_dirty(index);
        }
        channels
    }

    /// Takes a connection off one channel; whether it was on it.
    pub(crate) fn stop(&mut self, index: u32, name: &str) -> bool {
        let Some(room) = self.sub_on(index, name).map(|sub| sub.room) else { return false };
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let Some(sub) = slot.subs.remove(room) else { return false };
        let is_last = slot.subs.as_slice().is_empty();
        if is_last {
            slot.flags.clear(Flags::BEHIND);
        }
        self.leave_room(index, &sub, Parting::Now);
        if is_last {
            self.release_later(index);
        }
        true
    }

    /// A connection's subscription to a channel.
    pub(crate) fn sub_on(&self, index: u32, name: &str) -> Option<&Sub> {
        let mut subs = self.slots.get(index)?.subs.as_slice().iter();
        subs.find(|sub| **self.roster.name(sub.room) == *name)
    }

    /// What must be announced, channels that go on at the same place together.
    pub(crate) fn gaps(&mut self, started: &Started, since: Option<Since>) -> Vec<Gap> {
        let since = match since {
            Some(Since::Cursor(cursor)) => Some(cursor),
            _ => None,
        };
        let mut gaps: Vec<Gap> = Vec::new();
        for channel in &started.channels {
            let Some(reason) = channel.gap else { continue };
            self.stats.gaps[reason as usize] += 1;
            let resumed = self.cursor(channel.position);
            self.add_gap(&mut gaps, &channel.name, reason, since, resumed);
        }
        gaps
    }

    pub(crate) fn add_gap(
        &mut self,
        gaps: &mut Vec<Gap>,
        channel: &Arc<str>,
        reason: GapReason,
        since: Option<Cursor>,
        resumed: Cursor,
    ) {
        let same = |gap: &&mut Gap| {
            gap.reason == reason.name() && (gap.since, gap.resumed) == (since, resumed)
        };
        if let Some(gap) = gaps.iter_mut().find(same) {
            return gap.channels.push(Arc::clone(channel));
        }
        gaps.push(Gap {
            channels: vec![Arc::clone(channel)],
            reason: reason.name(),
            since,
            resumed,
            spread_ms: self.rng.u32(0..=5_000),
        });
    }

    /// Holds a poll, or has it answered in this turn if there is something for it already.
    fn hold(
        &mut self,
        index: u32,
        answering: &Answering,
        options: &Options<'_>,
        is_raw: bool,
    ) -> Result<(), Refusal> {
        let wait_max = self.config.poll_wait_max.as_secs();
        let wait_s = options.wait_s.unwrap_or(self.config.poll_wait.as_secs()).min(wait_max);
        let is_head = answering.head_only;
        let wait_s = if is_head { 0 } else { wait_s };
        self.admit_poll_of(index, &options.channels, options.since)?;
        let started =
            self.start(index, &options.channels, options.since, options.gap_live, false)?;
        if wait_s > 0 && !self.has_something(index, &started) {
            if let Err(refusal) = self.admit_poll(index) {
                self.leave_all(index);
                return Err(refusal);
            }
        }
        let gaps = self.gaps(&started, options.since);
        let wait_ms = spread_ms(wait_s * 1000, self.rng.u8(..));
        let until = Stamp::at(self.now.mono_ms + wait_ms);
        let is_due = wait_s == 0 || !gaps.is_empty();
        let now = self.stamp();
        let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
        let mut answering = answering.clone();
        // Whether it may be kept is decided when the answer goes out.
        answering.keep_alive &= !slot.flags.has(Flags::EOF) || self.config.allow_half_close;
        slot.state = State::Hold(Hold { until, is_raw, answering });
        slot.phase = now;
        slot.adopt(options);
        if !gaps.is_empty() {
            slot.extra().gaps = gaps;
        }
        self.count_poll(index);
        if is_due {
            self.mark(index);
        }
        // One message is the whole answer to a raw poll.
        self.enter(index, &started, options.presence && !is_raw && !is_head);
        self.file(index);
        Ok(())
    }

    /// Whether a poll that has just begun will be answered at once.
    fn has_something(&mut self, index: u32, started: &Started) -> bool {
        let has_gap = started.channels.iter().any(|channel| channel.gap.is_some());
        has_gap || (started.lowest < self.horizon && self.is_owed(index))
    }

    /// The first poll of a client that has no position: here is one.
    fn answer_anchor(&mut self, index: u32, answering: &Answering, channels: &[Cow<'_, str>]) {
        let cursor = self.cursor(self.horizon).to_string();
        let mut next = String::from("?");
        for channel in channels {
            next.push_str("channel=");
            next.push_str(channel); // its alphabet needs no encoding
            next.push('&');
        }
        next.push_str("since=");
        next.push_str(&cursor);
        let mut body = Vec::with_capacity(128);
        body.extend_from_slice(b"{\"cursor\":\"");
        body.extend_from_slice(cursor.as_bytes());
        body.extend_from_slice(b"\",\"more\":false,\"gap\":null,\"messages\":[],\"next\":");
        json::write_string(&mut body, &next);
        body.push(b'}');
        let mut extra = Vec::new();
        push_header(&mut extra, "Holdline-Cursor", cursor.as_bytes());
        push_header(&mut extra, "Link", format!("<{next}>; rel=\"next\"").as_bytes());
        let vary = POLL_VARY;
        self.respond(index, answering, &Reply { extra: &extra, vary, ..Reply::json(200, &body) });
    }
}

const fn framing_of(answering: &Answering) -> Framing {
    if answering.is_http10 { Framing::Bare } else { Framing::Chunked }
}

pub(crate) const POLL_VARY: &str = "Origin, Authorization, Cookie";
