//! From a request to what it does.

use super::Engine;
use super::answer::{Answer, Outcome, Question, Verdict};
use super::app::{Action, Ctx, Request, Route};
use super::reply::{Refused, Reply};
use super::response::{Response, Upgrade};
use super::routes::{self, Plan, What};
use super::slot::{Flags, Peer};
use super::stats::Snapshot;
use crate::code::{Code, Refusal};
use crate::conn::{self, Answering, State, WsMode};
use crate::wire::http::response::push_header;
use crate::wire::http::{Expect, Framing, Head, Version};

/// A request's body, as far as it is here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BodyPart<'b> {
    None,
    Here(&'b [u8]),
    Coming,
}

impl<'b> BodyPart<'b> {
    pub(crate) fn of(framing: Framing, here: Option<&'b [u8]>) -> Self {
        match (framing, here) {
            (Framing::None, _) => Self::None,
            (_, Some(bytes)) => Self::Here(bytes),
            (_, None) => Self::Coming,
        }
    }

    pub(crate) fn bytes(self) -> &'b [u8] {
        match self {
            Self::Here(bytes) => bytes,
            Self::None | Self::Coming => b"",
        }
    }
}

/// What is done about a request beyond answering it.
pub(crate) enum Next {
    Done,
    /// The answer to a question comes later.
    Later,
    Refuse(Refused),
}

impl From<Refused> for Next {
    fn from(refused: Refused) -> Self {
        Self::Refuse(refused)
    }
}

impl From<Refusal> for Next {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal.into())
    }
}

/// What one request is about, for as long as it is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'b> {
    pub(crate) head: &'b [u8],
    pub(crate) parsed: &'b Head,
    pub(crate) body: BodyPart<'b>,
    /// Who may was asked before the body came.
    pub(crate) authorized: bool,
    /// The body was waited for, and has been read to its end.
    pub(crate) is_complete: bool,
}

impl<'b> Asked<'b> {
    /// A request as it comes: nothing has been asked, and its body, if any, is here or follows.
    pub(crate) fn new(head: &'b [u8], parsed: &'b Head, body: Option<&'b [u8]>) -> Self {
        let body = BodyPart::of(parsed.framing, body);
        Self { head, parsed, body, authorized: false, is_complete: false }
    }

    /// A request whose body was waited for.
    pub(crate) fn complete(body: &'b conn::Body) -> Self {
        let conn::Body { head, parsed, bytes, authorized, .. } = body;
        let body = BodyPart::Here(bytes);
        Self { head, parsed, body, authorized: *authorized, is_complete: true }
    }

    /// As applications see it while they decide: its body may not have come.
    pub(crate) fn without_body(&self) -> Request<'b> {
        Request { head: self.head, parsed: self.parsed, body: b"" }
    }

    /// Whether a length is stated that is more than may be.
    fn is_too_large(&self, bytes_max: usize) -> bool {
        matches!(self.parsed.framing, Framing::Length(length) if length > bytes_max as u64)
    }
}

impl Engine {
    pub(crate) fn on_request(&mut self, index: u32, asked: Asked<'_>) {
        let mut answering = self.core.answering(index, asked.head, asked.parsed);
        if let Some(refusal) = self.core.identify(index, asked.head) {
            // A house that is merely full is well, and whoever looks after it may see that.
            let is_watch = routes::is_watch(asked.head, asked.parsed, &self.core.config);
            if !(is_watch && self.core.is_only_full(index)) {
                return self.core.turn_away(index, &asked, &answering, refusal);
            }
            answering.keep_alive = false;
        }
        match self.try_request(index, &asked, &answering) {
            Ok(()) | Err(Next::Done) => {}
            Err(Next::Later) => {
                let body = match asked.body {
                    BodyPart::Here(bytes) => Some(bytes.to_vec()),
                    BodyPart::None | BodyPart::Coming => None,
                };
                let (head, parsed) = (asked.head.to_vec(), asked.parsed.clone());
                self.wait(index, Question::Request { head, parsed, body });
            }
            Err(Next::Refuse(mut refused)) => {
                // What was not read must not be taken for the next request.
                refused.close |= asked.parsed.framing != Framing::None && !self.body_was_read;
                refused.refusal = self.core.admit_failure(index, refused.refusal);
                if refused.refusal.code == Code::RateLimited && self.core.is_soft(&asked) {
                    return self.core.put_off(index, &answering, &refused.refusal);
                }
                self.core.refuse(index, &answering, &refused);
            }
        }
    }

    fn try_request(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        answering: &Answering,
    ) -> Result<(), Next> {
        let Asked { head, parsed, .. } = *asked;
        self.body_was_read = asked.is_complete;
        routes::check_framing(parsed)?;
        let peer = self.core.peer(index);
        routes::check_host(head, parsed, &self.core.policy, peer == Peer::Unix)?;
        if self.has_failed {
            return Err(DRAINING.into());
        }
        if self.app.is_some() && self.route_by_app(index, asked, answering)? {
            return Ok(());
        }
        let (policy, config) = (&self.core.policy, &self.core.config);
        let planned = self.last_plan.plan(head, parsed, policy, config)?;
        self.carry_out(index, asked, answering, planned.plan())?;
        self.last_plan.keep(head, planned);
        Ok(())
    }

    fn carry_out(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        answering: &Answering,
        plan: &Plan<'_>,
    ) -> Result<(), Next> {
        let Asked { head, parsed, .. } = *asked;
        match plan.what {
            What::Allow(allow) => self.core.answer_options(index, answering, asked, allow),
            What::Health => self.core.answer_health(index, answering, false),
            What::Ready => self.core.answer_health(index, answering, true),
            What::Stats => self.core.answer_stats(index, answering)?,
            What::Console => {
                self.core.answer_console(index, answering, !plan.options.channels.is_empty())?
            }
            What::Channels => self.core.answer_channels(index, answering, head, parsed)?,
            What::Client(form) => self.core.answer_client(index, answering, head, form),
            What::Info => {
                let channel = &*plan.options.channels[0];
                let request = asked.without_body();
                self.authorize(index, Action::Subscribe { channel, request: Some(&request) })?;
                self.core.answer_info(index, answering, channel);
            }
            What::Presence => {
                self.on_presence(index, answering, &plan.options.channels[0])?;
            }
            What::Clear => {
                let channel = &*plan.options.channels[0];
                let request = asked.without_body();
                self.authorize(index, Action::Publish { channel, request: Some(&request) })?;
                let now = self.core.now;
                self.core.history.clear(channel, now);
                self.core.respond(index, answering, &Reply { status: 204, ..Reply::default() });
            }
            What::Publish => self.on_publish(index, asked, answering, plan)?,
            What::Batch => self.on_batch(index, asked, answering)?,
            What::Sse { is_raw } => self.open_stream(index, asked, answering, plan, is_raw)?,
            What::Poll { is_raw } => self.open_poll(index, asked, answering, plan, is_raw)?,
            What::Ws(mode) => self.open_websocket(index, asked, plan, mode)?,
        }
        Ok(())
    }

    /// Lets the application see a request first; whether it took it.
    fn route_by_app(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        answering: &Answering,
    ) -> Result<bool, Next> {
        if matches!(asked.body, BodyPart::Coming) {
            // It sees whole requests only.
            let is_batch = asked.parsed.path.of(asked.head) == b"/publish";
            let config = &self.core.config;
            let max = if is_batch { config.batch_bytes_max } else { config.message_bytes_max };
            self.await_body(index, asked, max, false)?;
            return Ok(true);
        }
        let request = Request { head: asked.head, parsed: asked.parsed, body: asked.body.bytes() };
        self.body_was_read = true;
        match self.ask_route(index, &request)? {
            Route::Pass => Ok(false),
            Route::Respond(response) => {
                self.respond_for_app(index, answering, &response)?;
                Ok(true)
            }
            Route::WebSocket { protocol } => {
                self.upgrade_for_app(index, asked, &Upgrade { protocol, ..Upgrade::default() })?;
                Ok(true)
            }
            Route::Upgrade(upgrade) => {
                if let Err(bad) = upgrade.check() {
                    self.core.answer_bad_response(index, answering, &bad);
                } else {
                    self.upgrade_for_app(index, asked, &upgrade)?;
                }
                Ok(true)
            }
        }
    }

    fn respond_for_app(
        &mut self,
        index: u32,
        answering: &Answering,
        response: &Response,
    ) -> Result<(), Next> {
        if let Err(bad) = response.check() {
            self.core.answer_bad_response(index, answering, &bad);
            return Ok(());
        }
        if response.status == Code::Unauthorized.status() {
            let refusal = self.core.admit_failure(index, UNAUTHORIZED);
            if refusal.code == Code::RateLimited {
                return Err(refusal.into());
            }
        }
        let content_type = &*response.content_type;
        let reply = Reply {
            status: response.status,
            content_type: (!content_type.is_empty()).then_some(content_type),
            body: &response.body,
            extra: &response.headers.lines,
            cache_control: if response.headers.has_cache_control { "" } else { "no-store" },
            has_allow_origin: response.headers.has_allow_origin,
            ..Reply::default()
        };
        self.core.respond(index, answering, &reply);
        Ok(())
    }

    fn upgrade_for_app(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        upgrade: &Upgrade,
    ) -> Result<(), Next> {
        if self.core.draining {
            return Err(DRAINING.into());
        }
        routes::check_origin(asked.head, asked.parsed, &self.core.policy)?;
        let handshake = routes::check_upgrade(asked.head, asked.parsed)?;
        let offers = routes::offers(asked.head, asked.parsed)?;
        let protocol = upgrade.protocol.as_deref().filter(|protocol| offers.contains(protocol));
        let lines = &upgrade.headers.lines;
        self.core.accept_websocket(index, &handshake.accept, protocol, lines, WsMode::App);
        self.open_app_websocket(index);
        Ok(())
    }

    fn ask_route(&mut self, index: u32, request: &Request<'_>) -> Result<Route, Next> {
        match self.recall() {
            Some(Outcome::Route(route)) => return Ok(route),
            Some(Outcome::Verdict(_)) => return Err(FORBIDDEN.into()),
            None => {}
        }
        let Some(id) = self.core.slots.id(index) else { return Err(Next::Done) };
        let answer = self.call_app(|app, core| app.request(&mut Ctx { core }, id, request));
        self.settle(answer)
    }

    /// What an application answered, remembered or owed.
    fn settle<T>(&mut self, answer: Option<Answer<T>>) -> Result<T, Next>
    where
        T: Clone + Into<Outcome>,
    {
        match answer {
            Some(Answer::Done(settled)) => {
                self.remember(settled.clone().into());
                Ok(settled)
            }
            Some(Answer::Later(ticket)) => {
                self.owed = Some(ticket);
                Err(Next::Later)
            }
            // It panicked over the question.
            None => Err(DRAINING.into()),
        }
    }

    /// Whether somebody may, by the application or the defaults.
    pub(crate) fn authorize(&mut self, index: u32, action: Action<'_>) -> Result<(), Next> {
        let verdict = match self.recall() {
            Some(Outcome::Verdict(verdict)) => verdict,
            Some(Outcome::Route(_)) => Verdict::Forbidden,
            None => self.ask_verdict(index, action)?,
        };
        match verdict {
            Verdict::Allow => Ok(()),
            Verdict::Default if self.core.allows(index, &action) => Ok(()),
            Verdict::Default | Verdict::Forbidden => Err(FORBIDDEN.into()),
            Verdict::Unauthorized => Err(UNAUTHORIZED.into()),
        }
    }

    fn ask_verdict(&mut self, index: u32, action: Action<'_>) -> Result<Verdict, Next> {
        if self.has_failed {
            return Err(DRAINING.into());
        }
        if self.app.is_none() {
            return Ok(Verdict::Default);
        }
        let Some(id) = self.core.slots.id(index) else { return Err(Next::Done) };
        let answer = self.call_app(|app, core| app.authorize(&mut Ctx { core }, id, action));
        self.settle(answer)
    }

    /// The whole body, or `None` while it is on its way.
    pub(crate) fn read_body<'b>(
        &mut self,
        index: u32,
        asked: &Asked<'b>,
        bytes_max: usize,
    ) -> Result<Option<&'b [u8]>, Next> {
        if matches!(asked.body, BodyPart::Coming) {
            self.await_body(index, asked, bytes_max, true)?;
            return Ok(None);
        }
        if asked.is_too_large(bytes_max) {
            return Err(crate::message::TOO_LARGE.into());
        }
        self.body_was_read = true;
        Ok(Some(asked.body.bytes()))
    }

    /// Starts to read a body, after telling a client that waits to be told.
    fn await_body(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        bytes_max: usize,
        authorized: bool,
    ) -> Result<(), Next> {
        if asked.is_too_large(bytes_max) {
            return Err(crate::message::TOO_LARGE.into());
        }
        let since = self.core.stamp();
        let body = conn::Body::begin(asked.head, asked.parsed.clone(), bytes_max, since);
        let Some(mut body) = body else { return Err(Next::Done) };
        body.authorized = authorized;
        // RFC 9110 §10.1.1: not to HTTP/1.0, and not once the body has begun to arrive.
        let waits = asked.parsed.expect == Expect::Continue
            && asked.parsed.version == Version::Http11
            && !self.input_left;
        if waits {
            self.core.reply(index, |out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
        }
        if let Some(slot) = self.core.slots.get_mut(index) {
            slot.state = State::Body(Box::new(body));
        }
        self.core.file(index);
        Ok(())
    }
}

pub(crate) const FULL: Refusal =
    Refusal::new(Code::Overloaded, "too many connections: try again in a few seconds");
pub(crate) const FORBIDDEN: Refusal =
    Refusal::new(Code::Forbidden, "this is not allowed to you here");
pub(crate) const DRAINING: Refusal = Refusal::new(
    Code::Draining,
    "this server is shutting down: come back in a few seconds, or to another one",
);
pub(crate) const UNAUTHORIZED: Refusal =
    Refusal::new(Code::Unauthorized, "credentials are missing or not valid");
const ADMIN_ONLY: Refusal = Refusal::new(
    Code::Forbidden,
    "only clients on this machine see this, or everyone if started with --open",
);

impl super::core::Core {
    pub(crate) fn peer(&self, index: u32) -> Peer {
        self.slots.get(index).map_or(Peer::Unix, |slot| slot.peer)
    }

    /// How the request is answered whose body is being read; anything else, by the defaults.
    pub(crate) fn answering_at(&self, index: u32) -> Answering {
        match self.slots.get(index).map(|slot| &slot.state) {
            Some(State::Body(body)) => self.answering(index, &body.head, &body.parsed),
            _ => Answering::default(),
        }
    }

    /// How a request is answered, and who may read the answer.
    pub(crate) fn answering(&self, index: u32, head: &[u8], parsed: &Head) -> Answering {
        let mut answering = Answering::to(parsed);
        let Some(slot) = self.slots.get(index) else { return answering };
        let age_ms = self.now.mono_ms.saturating_sub(slot.opened.ms());
        answering.keep_alive &= slot.requests.saturating_add(1) < self.config.keep_alive_requests
            && age_ms < self.config.keep_alive_age.as_millis() as u64;
        let [origin, host] =
            [parsed.origin, parsed.host].map(|span| span.map(|span| span.of(head)));
        answering.origin = self.readable_by(origin, host);
        answering
    }

    /// The origin that may read an answer, if it says one that may.
    pub(crate) fn readable_by(
        &self,
        origin: Option<&[u8]>,
        host: Option<&[u8]>,
    ) -> Option<Box<str>> {
        let origin = origin.filter(|origin| self.policy.allows_origin(origin, host))?;
        std::str::from_utf8(origin).ok().map(Into::into)
    }

    /// The defaults of who may, where no application decides.
    fn allows(&self, index: u32, action: &Action<'_>) -> bool {
        match action {
            Action::Connect { .. } | Action::Subscribe { .. } => true,
            Action::Publish { .. } => {
                let is_local = self.peer(index).is_local();
                self.policy.open || (self.policy.local_publish && is_local)
            }
        }
    }

    pub(crate) fn may_administer(&self, index: u32) -> Result<(), Next> {
        let is_remote = |slot: &super::slot::Slot| slot.flags.has(Flags::REMOTE);
        let is_local = self.peer(index).is_local() && !self.slots.get(index).is_some_and(is_remote);
        if self.policy.open || is_local {
            return Ok(());
        }
        Err(ADMIN_ONLY.into())
    }

    fn answer_options(&mut self, index: u32, to: &Answering, asked: &Asked<'_>, allow: &str) {
        let mut extra = allow.as_bytes().to_vec();
        if to.origin.is_some() && asked.parsed.access_control_request_method.is_some() {
            let methods = allow.trim_start_matches("Allow: ").trim_end();
            push_header(&mut extra, "Access-Control-Allow-Methods", methods.as_bytes());
            extra.extend_from_slice(
                b"Access-Control-Allow-Headers: Authorization, Content-Type, Event, \
                  Idempotency-Key, Last-Event-ID, TTL\r\nAccess-Control-Max-Age: 7200\r\n",
            );
        }
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        self.respond(index, to, &Reply { status: 204, extra: &extra, vary, ..Reply::default() });
    }

    fn answer_health(&mut self, index: u32, to: &Answering, is_readiness: bool) {
        if is_readiness && (self.draining || self.farewells.is_noticed) {
            let refusal = Refusal::new(Code::Draining, "this server is shutting down");
            return self.refuse(index, to, &refusal.into());
        }
        self.respond(index, to, &Reply::json(200, b"{\"status\":\"ok\"}"));
    }

    fn answer_stats(&mut self, index: u32, to: &Answering) -> Result<(), Next> {
        self.may_administer(index)?;
        let mut body = Vec::with_capacity(1024);
        let loop_stats = self.common.totals.sum_with(self.loop_number(), self.loop_stats());
        Snapshot {
            epoch: self.history.epoch().as_str(),
            uptime_s: (self.now.mono_ms - self.started.mono_ms) / 1000,
            addresses: self.common.limits.len(),
            history: self.history.stats(),
            loop_stats: &loop_stats,
            loops: self.common.loops,
        }
        .write_json(&mut body);
        self.respond(index, to, &Reply::json(200, &body));
        Ok(())
    }

    fn answer_info(&mut self, index: u32, to: &Answering, channel: &str) {
        self.take_in_now();
        let info = self.history.info(channel, self.now);
        let mut body = Vec::with_capacity(128);
        let mut object = super::stats::Object::open(&mut body);
        object.text("channel", channel);
        object.number("subscribers", u64::from(info.subscribers));
        object.number("messages", info.messages as u64);
        object.number("bytes", info.bytes as u64);
        object.text("cursor", &self.cursor(self.horizon).to_string());
        object.close();
        let reply = Reply { vary: "Origin, Accept", ..Reply::json(200, &body) };
        self.respond(index, to, &reply);
    }
}
