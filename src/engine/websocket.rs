//! WebSockets: the handshake's end, commands, payloads, the application's own, and closing.

use std::borrow::Cow;
use std::sync::Arc;

use super::Engine;
use super::answer::Question;
use super::app::{Action, CloseReason, Ctx, Kind, Queued};
use super::core::Core;
use super::publish::fault_refusal;
use super::query::Options;
use super::reply::write_refusal;
use super::request::{Asked, DRAINING, Next};
use super::routes::Plan;
use super::slot::{Flags, Slot};
use super::stats::WS_CLOSES;
use super::subscribe::{Started, TOO_MANY_CHANNELS};
use crate::code::{Code, Refusal};
use crate::collections::slots::ConnId;
use crate::conn::{Frame, Payload, State, Ws, WsMode};
use crate::cursor::Since;
use crate::json;
use crate::message::{BAD_CHANNEL, Message, is_channel};
use crate::wire::command::{self, Command, Fault};
use crate::wire::dialect::{Dialect, Gap, ws_json};
use crate::wire::ws::{self, Opcode, WsError};

/// Control frames: one each 100 ms, and a burst of 20.
const CONTROL_MS: u32 = 100;
const CONTROL_BURST_MS: u32 = 20 * CONTROL_MS;

impl Engine {
    /// Upgrades to one of the built-in WebSockets.
    pub(crate) fn open_websocket(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        plan: &Plan<'_>,
        mode: WsMode,
    ) -> Result<(), Next> {
        let Some(handshake) = plan.handshake else { return Err(Next::Done) };
        let speaks_json = handshake.protocol.is_some() && mode == WsMode::Json;
        let mut allowed = self.authorize_channels(index, asked, &plan.options.channels);
        if allowed.is_ok() {
            let admitted = self.core.admit_channels(index, &plan.options.channels);
            allowed = admitted.map_err(Next::from);
        }
        if let (true, Err(Next::Refuse(refused))) = (speaks_json, &allowed) {
            // A browser sees no status of a failed handshake: who spoke our protocol is told by a code.
            self.core.accept_websocket(index, &handshake.accept, handshake.protocol, b"", mode);
            self.core.ws_refuse(index, &refused.refusal);
            return Ok(());
        }
        allowed?;
        self.core.take_in_now();
        if self.core.draining && !speaks_json {
            return Err(DRAINING.into());
        }
        let options = &plan.options;
        let says_live = mode == WsMode::Json;
        // Whoever comes while the server goes is only told so.
        let channels = if self.core.draining { &[][..] } else { &options.channels };
        let started =
            self.core.start(index, channels, options.since, options.gap_live, says_live)?;
        self.core.accept_websocket(index, &handshake.accept, handshake.protocol, b"", mode);
        self.core.enter(index, &started, options.presence && mode == WsMode::Json);
        self.core.greet(index, options, &started, mode);
        Ok(())
    }

    pub(crate) fn open_app_websocket(&mut self, index: u32) {
        let Some(id) = self.core.slots.id(index) else { return };
        if let Some(slot) = self.core.slots.get_mut(index) {
            slot.flags.set(Flags::OPENED);
        }
        self.call_app(|app, core| app.open(&mut Ctx { core }, id));
    }

    pub(crate) fn on_frame(&mut self, index: u32, frame: Frame<'_>) {
        let mode = match self.core.slots.get(index).map(|slot| &slot.state) {
            // After our Close nothing but the peer's is of interest.
            Some(State::Ws(ws)) if ws.close_sent && !matches!(frame, Frame::Close(_)) => return,
            Some(State::Ws(ws)) => ws.mode,
            _ => return,
        };
        match frame {
            Frame::Message { is_text, payload } => self.on_message(index, mode, is_text, payload),
            Frame::Ping(payload) => {
                if self.core.allows_control(index) {
                    self.core.reply(index, |out| ws::emit(out, Opcode::Pong, &payload));
                }
            }
            Frame::Pong(payload) => {
                if self.core.allows_control(index) {
                    self.core.note_pong(index, &payload);
                }
            }
            Frame::Close(close) => self.core.on_close(index, close),
        }
    }

    fn on_message(&mut self, index: u32, mode: WsMode, is_text: bool, payload: Payload<'_>) {
        match mode {
            WsMode::App => {
                let Some(id) = self.core.slots.id(index) else { return };
                let kind = if is_text { Kind::Text } else { Kind::Binary };
                self.call_app(|app, core| app.message(&mut Ctx { core }, id, kind, &payload));
            }
            WsMode::Raw | WsMode::Meta => match self.core.admit_operation(index) {
                Ok(()) => self.on_payload(index, is_text, payload.into_vec()),
                Err(refusal) => self.core.ws_refuse(index, &refusal),
            },
            WsMode::Json if is_text => {
                // The reader has checked that text is UTF-8.
                let text = std::str::from_utf8(&payload).unwrap_or("");
                match self.core.admit_operation(index) {
                    Ok(()) => self.on_command(index, text),
                    Err(refusal) => {
                        let reference = self.core.parse(text).reference;
                        self.core.ws_error(index, reference, &refusal);
                    }
                }
            }
            WsMode::Json => {
                let message = "commands are text frames: send payloads as b64";
                self.core.ws_error(index, None, &Refusal::new(Code::BadRequest, message));
                self.core.ws_close(index, 4400, "bad_request");
            }
        }
    }

    /// A frame of a raw WebSocket publishes.
    pub(crate) fn on_payload(&mut self, index: u32, is_text: bool, bytes: Vec<u8>) {
        let subs = self.core.slots.get(index).map_or(&[][..], |slot| slot.subs.as_slice());
        let Some(room) = subs.first().map(|sub| sub.room) else { return };
        let channel = Arc::clone(self.core.roster.name(room));
        match self.authorize(index, Action::Publish { channel: &channel, request: None }) {
            Ok(()) => {}
            Err(Next::Later) => {
                return self.wait(index, Question::Payload { is_text, bytes });
            }
            Err(Next::Refuse(refused)) => return self.core.ws_refuse(index, &refused.refusal),
            Err(Next::Done) => return,
        }
        if let Err(refusal) = self.core.admit_publish(index, &channel) {
            return self.core.ws_refuse(index, &refusal);
        }
        let mut message = Message::bytes(bytes);
        if !is_text {
            message = message.media_type("application/octet-stream");
        }
        if let Err(refusal) = self.core.check_and_publish(&channel, message) {
            self.core.note_refusal(&refusal);
            let code = if refusal.code == Code::TooLarge { 1009 } else { 1013 };
            self.core.ws_close(index, code, refusal.code.name());
        }
    }

    /// One JSON object of the protocol.
    pub(crate) fn on_command(&mut self, index: u32, text: &str) {
        let parsed = self.core.parse(text);
        let reference = parsed.reference;
        let done = match parsed.command {
            Ok(command) => self.try_command(index, reference, command),
            Err(fault) => {
                let close = match fault {
                    Fault::NotJson => Some("bad_json"),
                    Fault::NotObject => Some("bad_request"),
                    Fault::Refused(_) => None,
                };
                self.core.ws_error(index, reference, &fault_refusal(fault));
                if let Some(reason) = close {
                    self.core.ws_close(index, 4400, reason);
                }
                return;
            }
        };
        match done {
            Ok(()) | Err(Next::Done) => {}
            Err(Next::Later) => self.wait(index, Question::Command(text.to_owned())),
            Err(Next::Refuse(refused)) => self.core.ws_error(index, reference, &refused.refusal),
        }
    }

    fn try_command(
        &mut self,
        index: u32,
        reference: Option<u32>,
        command: Command<'_>,
    ) -> Result<(), Next> {
        match command {
            Command::Ping { t } => {
                self.core.ws_reply(index, |out| {
                    ws_json(out, |out| {
                        out.extend_from_slice(b"{\"op\":\"pong\"");
                        write_reference(out, reference);
                        if let Some(t) = t {
                            out.extend_from_slice(b",\"t\":");
                            out.extend_from_slice(t.as_bytes());
                        }
                        out.push(b'}');
                    })
                });
            }
            Command::Publish { channel, message } => {
                self.authorize(index, Action::Publish { channel: &channel, request: None })?;
                self.core.admit_publish(index, &channel)?;
                let published = self.core.publish(&channel, message)?;
                self.core.ws_published(index, reference, &published);
            }
            // Who published is owed it first, where it listens.
            Command::Unsubscribe { .. } if self.core.has_later(index) => return Err(Next::Later),
            Command::Unsubscribe { channels } => {
                for channel in &channels {
                    self.core.stop(index, channel);
                    self.core.ws_reply(index, |out| write_ok(out, reference, channel, None));
                }
            }
            // Its answer, and what it replays, may not overtake replies that wait for their position.
            Command::Subscribe { .. } if self.core.has_later(index) => return Err(Next::Later),
            Command::Subscribe { channels, since, gap_live, presence, .. } => {
                for channel in &channels {
                    self.authorize(index, Action::Subscribe { channel, request: None })?;
                }
                let options = Options { since, gap_live, presence, ..Options::default() };
                self.core.ws_subscribe(index, reference, channels, options)?;
            }
        }
        Ok(())
    }

    pub(crate) fn on_bad_frame(&mut self, index: u32, error: WsError) {
        let code = error.close_code();
        let reason = match error {
            WsError::Protocol => "protocol error",
            WsError::Utf8 => "text that is not UTF-8",
            WsError::Policy => "too many fragments",
            WsError::TooLarge => "message too large",
        };
        if matches!(error, WsError::Policy | WsError::TooLarge) {
            let now = self.core.now;
            self.core.notices.note("a WebSocket was closed", reason, now);
        }
        // RFC 6455 §7.1.7: fail the connection; nothing after this means anything.
        self.core.ws_close(index, code, reason);
        self.core.begin_closing(index);
    }
}

impl Core {
    pub(crate) fn parse<'t>(&self, text: &'t str) -> command::Parsed<'t> {
        let config = &self.config;
        let (bytes, channels) = (config.message_bytes_max, config.channels_per_connection_max);
        command::parse_command(text, bytes, channels)
    }

    pub(crate) fn accept_websocket(
        &mut self,
        index: u32,
        accept: &[u8; 28],
        protocol: Option<&str>,
        lines: &[u8],
        mode: WsMode,
    ) {
        let date = self.date();
        self.reply(index, |out| {
            out.extend_from_slice(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                  Connection: Upgrade\r\nSec-WebSocket-Accept: ",
            );
            out.extend_from_slice(accept);
            if let Some(protocol) = protocol {
                out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
                out.extend_from_slice(protocol.as_bytes());
            }
            out.extend_from_slice(b"\r\nServer: holdline\r\nDate: ");
            out.extend_from_slice(&date);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(lines);
            out.extend_from_slice(b"\r\n");
        });
        let now = self.stamp();
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.state = State::Ws(Ws::new(mode, self.now.mono_ms));
        slot.phase = now;
        slot.last_in = now;
        slot.last_out = now;
        self.file(index);
    }

    /// The first frames of a built-in WebSocket.
    fn greet(&mut self, index: u32, options: &Options<'_>, started: &Started, mode: WsMode) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.adopt(options);
        }
        self.file(index);
        let gaps = self.gaps(started, options.since);
        match mode {
            WsMode::Raw if by_position(options.since) && !gaps.is_empty() => {
                self.ws_close(index, 1013, "gap")
            }
            WsMode::Raw | WsMode::App => {}
            WsMode::Meta => {
                let lowest = self.cursor(started.lowest);
                let dialect = mode.dialect();
                self.reply(index, |out| match gaps.first() {
                    Some(gap) => dialect.gap(out, gap, lowest),
                    None => dialect.heartbeat(out, lowest),
                });
            }
            WsMode::Json => {
                let starts_here = gaps.is_empty() && !(self.draining && options.since.is_some());
                let cursor = starts_here.then_some(started.lowest);
                self.hello(index, cursor);
                self.ws_started(index, None, started, options.since);
                self.write_gaps(index, &gaps, started);
            }
        }
        if self.draining {
            self.ws_bye(index);
        }
    }

    fn hello(&mut self, index: u32, cursor: Option<u64>) {
        let connection = self.connection_name(index);
        let heartbeat_ms = self.slots.get(index).map_or(0, |slot| self.interval_ms(slot));
        let cursor = cursor.map(|seq| self.cursor(seq));
        let (bytes_max, channels_max) =
            (self.config.message_bytes_max, self.config.channels_per_connection_max);
        self.reply(index, |out| {
            ws_json(out, |out| {
                let connection = format!("{connection:016x}");
                let mut object = super::stats::Object::open(out);
                object.text("op", "hello");
                object.number("version", 1);
                object.text("connection", &connection);
                if let Some(cursor) = cursor {
                    object.text("cursor", &cursor.to_string());
                }
                object.number("heartbeat_ms", heartbeat_ms);
                object.number("message_bytes_max", bytes_max as u64);
                object.number("channels_max", channels_max as u64);
                object.close();
            })
        });
    }

    /// Subscribes to what is new among the channels, and answers for all of them in order.
    fn ws_subscribe(
        &mut self,
        index: u32,
        reference: Option<u32>,
        channels: Vec<Cow<'_, str>>,
        options: Options<'_>,
    ) -> Result<(), Next> {
        self.take_in_now();
        let mut asked: Vec<Cow<'_, str>> = Vec::new();
        for channel in channels {
            if !asked.contains(&channel) {
                asked.push(channel);
            }
        }
        let known: Vec<_> =
            asked.iter().filter(|name| self.sub_on(index, name).is_some()).cloned().collect();
        let new: Vec<_> = asked.into_iter().filter(|name| !known.contains(name)).collect();
        let count = self.slots.get(index).map_or(0, |slot| slot.subs.as_slice().len());
        if count + new.len() > self.config.channels_per_connection_max {
            return Err(TOO_MANY_CHANNELS.into());
        }
        self.admit_channels(index, &new)?;
        let started = self.start(index, &new, options.since, options.gap_live, true)?;
        if let (true, Some(slot)) = (options.gap_live, self.slots.get_mut(index)) {
            slot.flags.set(Flags::GAP_LIVE);
        }
        self.enter(index, &started, options.presence);
        let gaps = self.gaps(&started, options.since);
        for name in &known {
            if options.presence {
                self.watch_too(index, name);
            }
            self.ws_reply(index, |out| write_ok(out, reference, name, None));
        }
        self.ws_started(index, reference, &started, options.since);
        self.write_gaps(index, &gaps, &started);
        for name in &known {
            self.say_live_again(index, name);
        }
        Ok(())
    }

    /// `ok` for each channel.
    fn ws_started(
        &mut self,
        index: u32,
        reference: Option<u32>,
        started: &Started,
        since: Option<Since>,
    ) {
        for channel in &started.channels {
            let recovered = since.map(|_| channel.gap.is_none());
            self.ws_reply(index, |out| write_ok(out, reference, &channel.name, recovered));
        }
    }

    /// The gaps, and `live` at once where there is nothing to catch up on.
    fn write_gaps(&mut self, index: u32, gaps: &[Gap], started: &Started) {
        let lowest = self.cursor(started.lowest);
        let dialect = WsMode::Json.dialect();
        for gap in gaps {
            self.ws_reply(index, |out| dialect.gap(out, gap, lowest));
        }
        if started.lowest < self.horizon {
            return;
        }
        let position = self.cursor(self.position(index));
        for channel in &started.channels {
            self.ws_reply(index, |out| dialect.live(out, &channel.name, position));
        }
    }

    /// A channel that was subscribed before: it is live, or will say so itself.
    fn say_live_again(&mut self, index: u32, name: &str) {
        if self.sub_on(index, name).is_none_or(|sub| sub.catching_up) {
            return;
        }
        let position = self.cursor(self.position(index));
        self.ws_reply(index, |out| WsMode::Json.dialect().live(out, name, position));
    }

    /// The answer to a publish. Its id is a position too: on a connection that listens it must not
    /// come before everything up to it, or a client that kept it would lose what lay between.
    fn ws_published(
        &mut self,
        index: u32,
        reference: Option<u32>,
        published: &crate::hub::Published,
    ) {
        let mut bytes = Vec::with_capacity(96);
        ws_json(&mut bytes, |out| {
            out.extend_from_slice(b"{\"op\":\"ok\"");
            write_reference(out, reference);
            out.extend_from_slice(b",\"id\":\"");
            published.id.write(out);
            out.extend_from_slice(b"\",\"subscribers\":");
            json::write_number(out, u64::from(published.subscribers));
            out.push(b'}');
        });
        let listens = self.slots.get(index).is_some_and(|slot| !slot.subs.as_slice().is_empty());
        if !listens || published.id.seq <= self.position(index) {
            return self.ws_reply(index, |out| out.extend_from_slice(&bytes));
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.extra().later.push_back((published.id.seq, bytes));
        }
        self.mark(index);
    }

    /// A reply that keeps its place behind those that wait for the connection to catch up.
    pub(crate) fn ws_reply(&mut self, index: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let Some((out, in_arena)) = self.begin_ws_reply(index) else { return };
        write(out);
        if in_arena {
            self.end_reply(index);
        }
    }

    #[inline(never)] // as what it calls
    fn begin_ws_reply(&mut self, index: u32) -> Option<(&mut Vec<u8>, bool)> {
        let slot = self.slots.get(index)?;
        if slot.websocket().is_some_and(|ws| ws.close_sent) {
            return None; // RFC 6455 §5.5.1: nothing after our Close
        }
        if slot.has_later() {
            let (_, last) = self.slots.get_mut(index)?.extra().later.back_mut()?;
            return Some((last, false));
        }
        self.begin_reply(index)
    }

    pub(crate) fn ws_error(&mut self, index: u32, reference: Option<u32>, refusal: &Refusal) {
        let refusal = &self.admit_failure(index, refusal.clone());
        self.note_refusal(refusal);
        let is_later = matches!(refusal.code, Code::Overloaded | Code::RateLimited);
        let retry_ms = match refusal.retry_ms {
            0 => is_later.then(|| self.retry_ms()),
            exact => Some(exact),
        };
        self.ws_reply(index, |out| {
            ws_json(out, |out| {
                out.extend_from_slice(b"{\"op\":\"error\"");
                write_reference(out, reference);
                out.extend_from_slice(b",\"code\":\"");
                write_refusal(out, refusal);
                if let Some(retry_ms) = retry_ms {
                    out.extend_from_slice(b",\"retry_ms\":");
                    json::write_number(out, u64::from(retry_ms));
                }
                out.push(b'}');
            })
        });
        if refusal.code == Code::RateLimited && self.has_struck_out(index) {
            self.ws_close(index, 4429, refusal.code.name());
        }
    }

    /// Closes with the code that stands for an HTTP status.
    fn ws_refuse(&mut self, index: u32, refusal: &Refusal) {
        let refusal = &self.admit_failure(index, refusal.clone());
        self.note_refusal(refusal);
        self.ws_close(index, 4000 + refusal.code.status(), refusal.code.name());
    }

    /// Closes for what the peer did, or did not do, and counts that.
    pub(crate) fn ws_close(&mut self, index: u32, code: u16, reason: &str) {
        let is_first = self.ws_end(index, code, reason);
        if let (true, Some(at)) = (is_first, WS_CLOSES.iter().position(|known| *known == code)) {
            self.stats.ws_closes[at] += 1;
        }
    }

    /// Sends our Close and waits for the peer's; whether it is the first.
    fn ws_end(&mut self, index: u32, code: u16, reason: &str) -> bool {
        let now = self.stamp();
        self.flush_later(index);
        let Some(slot) = self.slots.get_mut(index) else { return false };
        slot.drop_question();
        let State::Ws(ws) = &mut slot.state else { return false };
        if std::mem::replace(&mut ws.close_sent, true) {
            return false;
        }
        let is_opened = slot.flags.has(Flags::OPENED);
        if is_opened {
            self.reasons.entry(index).or_insert(CloseReason::Local(code));
        }
        // Until it has left, its phase says since when it listens.
        self.leave_all(index);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.phase = now;
        }
        self.reply(index, |out| ws::emit_close(out, code, reason));
        self.file(index);
        true
    }

    fn has_later(&self, index: u32) -> bool {
        self.slots.get(index).is_some_and(Slot::has_later)
    }

    /// Before the end, replies that waited for their position go out behind what they waited for, or
    /// not at all: a position that is told too early loses what lies before it.
    fn flush_later(&mut self, index: u32) {
        if !self.has_later(index) || self.catch_up(index) {
            return;
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.extra().later.clear();
            slot.tidy();
        }
    }

    /// The peer's Close: echo it unless it answers ours, then end (RFC 6455 §5.5.1, §7.1.1).
    fn on_close(&mut self, index: u32, close: Option<(u16, String)>) {
        let code = close.as_ref().map_or(1005, |(code, _)| *code);
        self.flush_later(index);
        let Some(slot) = self.slots.get_mut(index) else { return };
        let State::Ws(ws) = &mut slot.state else { return };
        let is_answer = std::mem::replace(&mut ws.close_sent, true);
        if slot.flags.has(Flags::OPENED) {
            self.reasons.entry(index).or_insert(CloseReason::Peer(code));
        }
        if !is_answer {
            self.reply(index, |out| match close {
                Some((code, _)) => ws::emit_close(out, code, ""),
                None => ws::emit(out, Opcode::Close, b""),
            });
        }
        self.begin_closing(index);
    }

    /// Counts a control frame; too many end the connection.
    fn allows_control(&mut self, index: u32) -> bool {
        let now = self.now.mono_ms as u32;
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let State::Ws(ws) = &mut slot.state else { return false };
        // Wrapping: what lies behind now, which nothing that lies ahead is so far from, counts as now.
        let ahead = ws.controls.wrapping_sub(now);
        let ahead = if ahead > CONTROL_BURST_MS { 0 } else { ahead };
        if ahead > CONTROL_BURST_MS - CONTROL_MS {
            self.ws_close(index, 1008, "too many control frames");
            self.begin_closing(index);
            return false;
        }
        ws.controls = now.wrapping_add(ahead + CONTROL_MS);
        true
    }

    /// Tells a WebSocket that the server goes.
    pub(crate) fn ws_bye(&mut self, index: u32) {
        let Some(ws) = self.slots.get(index).and_then(Slot::websocket) else { return };
        if ws.close_sent {
            return; // RFC 6455 §5.5.1: nothing after our Close
        }
        let dialect = ws.mode.dialect();
        let retry_ms = self.retry_ms();
        // What is published already comes before the farewell: not everyone can ask for it again.
        self.catch_up(index);
        self.flush_later(index);
        self.reply(index, |out| dialect.bye(out, retry_ms));
        self.ws_close(index, 1012, "restart");
    }

    pub(crate) fn app_send(&mut self, id: ConnId, kind: Kind, bytes: &[u8]) -> Queued {
        let Some(index) = self.slots.find(id) else { return Queued::Gone };
        // One message always has a place, also behind the replies that stop further dispatch.
        let max = self.config.outbox_bytes_max.max(self.config.ws_message_bytes_max)
            + self.config.reply_bytes_per_turn;
        let Some(slot) = self.slots.get_mut(index) else { return Queued::Gone };
        let is_open = slot.websocket().is_some_and(|ws| !ws.close_sent);
        if !is_open || slot.flags.has(Flags::CLOSED) {
            return Queued::Gone;
        }
        let waiting = slot.own_len();
        if waiting > 0 && waiting + bytes.len() > max {
            slot.flags.set(Flags::WANTS_WRITABLE);
            return Queued::Full;
        }
        let is_kept = slot.is_stuck();
        if !self.has_room_to_send(id, is_kept, bytes.len()) {
            return Queued::Full;
        }
        let opcode = if kind == Kind::Text { Opcode::Text } else { Opcode::Binary };
        self.reply_inlined(index, |out| ws::emit(out, opcode, bytes));
        self.weigh(index);
        Queued::Bytes(self.slots.get(index).map_or(0, |slot| slot.own_len()))
    }

    pub(crate) fn app_subscribe(
        &mut self,
        id: ConnId,
        channel: &str,
        since: Option<Since>,
    ) -> Result<(), Refusal> {
        const GONE: Refusal = Refusal::new(Code::NotFound, "there is no such WebSocket any more");
        let index = self.slots.find(id).ok_or(GONE)?;
        let slot = self.slots.get(index).ok_or(GONE)?;
        let dialect = slot.lasting_state().dialect().ok_or(GONE)?;
        let count = slot.subs.as_slice().len();
        if !is_channel(channel.as_bytes()) {
            return Err(BAD_CHANNEL);
        }
        if self.sub_on(index, channel).is_none() {
            if count >= self.config.channels_per_connection_max {
                return Err(TOO_MANY_CHANNELS);
            }
            self.take_in_now();
            let started = self.start(index, &[channel.into()], since, false, false)?;
            let gaps = self.gaps(&started, since);
            self.enter(index, &started, false);
            self.weigh(index);
            if !gaps.is_empty() {
                self.tell_gaps(index, dialect, gaps, since, started.lowest);
            }
        }
        Ok(())
    }

    /// Tells a connection what an application's subscription lacks, before anything that follows.
    fn tell_gaps(
        &mut self,
        index: u32,
        dialect: Dialect,
        gaps: Vec<Gap>,
        since: Option<Since>,
        lowest: u64,
    ) {
        match dialect {
            Dialect::WsRaw if by_position(since) => self.ws_close(index, 1013, "gap"),
            Dialect::WsRaw => {}
            Dialect::Poll => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.extra().gaps = gaps;
                }
                self.mark(index);
            }
            Dialect::WsMeta
            | Dialect::WsJson
            | Dialect::WsJsonCursor
            | Dialect::SseRaw(_)
            | Dialect::SseJson(_) => {
                let id = self.cursor(lowest);
                self.reply(index, |out| dialect.gaps(out, &gaps, id));
            }
        }
    }

    pub(crate) fn app_unsubscribe(&mut self, id: ConnId, channel: &str) -> bool {
        let Some(index) = self.slots.find(id) else { return false };
        let was_on = self.stop(index, channel);
        self.weigh(index);
        was_on
    }

    pub(crate) fn app_close(&mut self, id: ConnId, code: u16, reason: &str) -> bool {
        let Some(index) = self.slots.find(id) else { return false };
        if self.slots.get(index).and_then(Slot::websocket).is_none() {
            return false;
        }
        let code = if ws::is_close_code(code) { code } else { 1011 };
        self.ws_end(index, code, reason);
        self.weigh(index);
        true
    }
}

fn write_reference(out: &mut Vec<u8>, reference: Option<u32>) {
    if let Some(reference) = reference {
        out.extend_from_slice(b",\"ref\":");
        json::write_number(out, u64::from(reference));
    }
}

fn write_ok(out: &mut Vec<u8>, reference: Option<u32>, channel: &str, recovered: Option<bool>) {
    ws_json(out, |out| {
        out.extend_from_slice(b"{\"op\":\"ok\"");
        write_reference(out, reference);
        out.extend_from_slice(b",\"channel\":");
        json::write_string(out, channel);
        if let Some(recovered) = recovered {
            out.extend_from_slice(b",\"recovered\":");
            out.extend_from_slice(if recovered { b"true" } else { b"false" });
        }
        out.push(b'}');
    });
}

/// Whether somebody goes on from where it was, and not merely with what is kept: then a loss is one. Raw
/// WebSockets have no words for it, and end.
fn by_position(since: Option<Since>) -> bool {
    matches!(since, Some(Since::Cursor(_) | Since::Unknown))
}
