//! The callbacks as an application.

use std::ffi::{c_int, c_void};

use holdline::engine::{
    Action, Answer, App, CloseReason, ConnId, Ctx, Kind, Request, Response, Route, Upgrade, Verdict,
};

use crate::frame::{Frame, HeaderLine, Mark, Question, Said};
use crate::input::{ABSENT, lend};
use crate::types::{
    holdline_action, holdline_callbacks, holdline_kind, holdline_request, holdline_route,
    holdline_verdict,
};

/// Names no connection.
const NOBODY: ConnId = ConnId::from_bits(0);

#[derive(Clone)]
pub(crate) struct Callbacks {
    pub(crate) table: holdline_callbacks,
    pub(crate) user: *mut c_void,
    pub(crate) message_bytes_max: usize,
    pub(crate) mark: Mark,
}

// SAFETY: the header says on which threads the functions are called, with the user pointer.
unsafe impl Send for Callbacks {}

impl Callbacks {
    fn frame(&self) -> Frame {
        self.about(Question::Nothing, NOBODY)
    }

    fn about(&self, question: Question, id: ConnId) -> Frame {
        Frame::new(&self.mark, question, id, self.message_bytes_max)
    }
}

impl App for Callbacks {
    fn authorize(&mut self, cx: &mut Ctx<'_>, id: ConnId, action: Action<'_>) -> Answer<Verdict> {
        let Some(call) = self.table.authorize else { return Answer::Done(Verdict::Default) };
        let request = action.request();
        let (number, channel) = match action {
            Action::Connect { .. } => (holdline_action::HOLDLINE_CONNECT, None),
            Action::Subscribe { channel, .. } => {
                (holdline_action::HOLDLINE_SUBSCRIBE, Some(channel))
            }
            Action::Publish { channel, .. } => (holdline_action::HOLDLINE_PUBLISH, Some(channel)),
            _ => return Answer::Done(Verdict::Forbidden), // there is no other
        };
        let offered = request.map(protocols).unwrap_or_default();
        let shown = request.map(|request| show(request, &offered));
        let lent = request.zip(shown.as_ref());
        let user = self.user;
        let channel = channel.map_or(ABSENT, |channel| lend(channel.as_bytes()));
        let mut frame = self.about(Question::Authorize, id);
        // SAFETY: who made the server promised that the callback may be called so.
        let said = frame.enter(cx, lent, |ctx, request| unsafe {
            call(user, ctx, id.to_bits(), number as c_int, channel, request)
        });
        if said != holdline_verdict::HOLDLINE_LATER as c_int {
            return Answer::Done(verdict(said).unwrap_or_else(|| {
                log::error!("authorize returned {said}, which is no holdline_verdict: refused");
                Verdict::Forbidden
            }));
        }
        frame.ticket.get().map_or_else(
            || {
                log::error!(
                    "authorize returned HOLDLINE_LATER without holdline_ticket_of: refused"
                );
                Answer::Done(Verdict::Forbidden)
            },
            Answer::Later,
        )
    }

    fn request(&mut self, cx: &mut Ctx<'_>, id: ConnId, request: &Request<'_>) -> Answer<Route> {
        let Some(call) = self.table.request else { return Answer::Done(Route::Pass) };
        let offered = protocols(request);
        let (user, shown) = (self.user, show(request, &offered));
        let mut frame = self.about(Question::Request, id);
        // SAFETY: who made the server promised that the callback may be called so.
        let said = frame.enter(cx, Some((request, &shown)), |ctx, request| unsafe {
            call(user, ctx, id.to_bits(), request)
        });
        route(said, frame)
    }

    fn open(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        let (Some(call), user) = (self.table.open, self.user) else { return };
        // SAFETY: who made the server promised that the callback may be called so.
        self.frame().enter(cx, None, |ctx, _| unsafe { call(user, ctx, id.to_bits()) });
    }

    fn message(&mut self, cx: &mut Ctx<'_>, id: ConnId, kind: Kind, bytes: &[u8]) {
        let (Some(call), user) = (self.table.message, self.user) else { return };
        let kind = match kind {
            Kind::Text => holdline_kind::HOLDLINE_TEXT,
            Kind::Binary => holdline_kind::HOLDLINE_BINARY,
        };
        let bytes = lend(bytes);
        // SAFETY: who made the server promised that the callback may be called so.
        self.frame().enter(cx, None, |ctx, _| unsafe {
            call(user, ctx, id.to_bits(), kind as c_int, bytes.ptr, bytes.len);
        });
    }

    fn writable(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        let (Some(call), user) = (self.table.writable, self.user) else { return };
        // SAFETY: who made the server promised that the callback may be called so.
        self.frame().enter(cx, None, |ctx, _| unsafe { call(user, ctx, id.to_bits()) });
    }

    fn closed(&mut self, cx: &mut Ctx<'_>, id: ConnId, reason: CloseReason) {
        let (Some(call), user) = (self.table.closed, self.user) else { return };
        let code = c_int::from(reason.code());
        // SAFETY: who made the server promised that the callback may be called so.
        self.frame().enter(cx, None, |ctx, _| unsafe { call(user, ctx, id.to_bits(), code) });
    }

    fn signal(&mut self, cx: &mut Ctx<'_>, value: u64) {
        let (Some(call), user) = (self.table.signal, self.user) else { return };
        // SAFETY: who made the server promised that the callback may be called so.
        self.frame().enter(cx, None, |ctx, _| unsafe { call(user, ctx, value) });
    }

    fn timer(&mut self, cx: &mut Ctx<'_>, key: u64) {
        let (Some(call), user) = (self.table.timer, self.user) else { return };
        // SAFETY: who made the server promised that the callback may be called so.
        self.frame().enter(cx, None, |ctx, _| unsafe { call(user, ctx, key) });
    }
}

/// A verdict by its number; `None` for what is none, or comes later.
pub(crate) fn verdict(number: c_int) -> Option<Verdict> {
    const ALLOW: c_int = holdline_verdict::HOLDLINE_ALLOW as c_int;
    const DEFAULT: c_int = holdline_verdict::HOLDLINE_DEFAULT as c_int;
    const UNAUTHORIZED: c_int = holdline_verdict::HOLDLINE_UNAUTHORIZED as c_int;
    const FORBIDDEN: c_int = holdline_verdict::HOLDLINE_FORBIDDEN as c_int;
    match number {
        ALLOW => Some(Verdict::Allow),
        DEFAULT => Some(Verdict::Default),
        UNAUTHORIZED => Some(Verdict::Unauthorized),
        FORBIDDEN => Some(Verdict::Forbidden),
        _ => None,
    }
}

/// What a request callback returned, with what it did.
fn route(said: c_int, frame: Frame) -> Answer<Route> {
    const PASS: c_int = holdline_route::HOLDLINE_PASS as c_int;
    const RESPONDED: c_int = holdline_route::HOLDLINE_RESPONDED as c_int;
    const WEBSOCKET: c_int = holdline_route::HOLDLINE_WEBSOCKET as c_int;
    const LATER: c_int = holdline_route::HOLDLINE_ROUTE_LATER as c_int;
    let ticket = frame.ticket.get();
    let headers = frame.headers.into_inner();
    Answer::Done(match (said, frame.said.into_inner()) {
        (PASS, Said::Nothing) => Route::Pass,
        (RESPONDED, Said::Response(response)) => {
            let add = |response: Response, (name, value): &HeaderLine| response.header(name, value);
            Route::Respond(headers.iter().fold(response, add))
        }
        (WEBSOCKET, said @ (Said::WebSocket(_) | Said::Nothing)) => {
            let mut upgrade = Upgrade::new();
            if let Said::WebSocket(Some(protocol)) = said {
                upgrade = upgrade.protocol(protocol);
            }
            let add = |upgrade: Upgrade, (name, value): &HeaderLine| upgrade.header(name, value);
            Route::Upgrade(headers.iter().fold(upgrade, add))
        }
        (LATER, Said::Nothing) => match ticket {
            Some(ticket) => return Answer::Later(ticket),
            None => broken("HOLDLINE_ROUTE_LATER without holdline_ticket_of"),
        },
        (RESPONDED, _) => broken("HOLDLINE_RESPONDED without holdline_reply"),
        (PASS | WEBSOCKET | LATER, _) => broken("something else than it had called"),
        (_, _) => broken("a number that is no holdline_route"),
    })
}

fn broken(what: &str) -> Route {
    log::error!("the request callback returned {what}: 500");
    Route::Respond(Response::new(500, "text/plain", "the application gave no valid answer\n"))
}

/// A request as C sees it, with the subprotocols that were joined for it.
fn show(request: &Request<'_>, protocols: &str) -> holdline_request {
    holdline_request {
        size: size_of::<holdline_request>(),
        method: lend(request.method().as_bytes()),
        path: lend(request.path().as_bytes()),
        query: request.query().map_or(ABSENT, |query| lend(query.as_bytes())),
        protocol: if protocols.is_empty() { ABSENT } else { lend(protocols.as_bytes()) },
    }
}

fn protocols(request: &Request<'_>) -> String {
    let mut joined = String::new();
    for protocol in request.protocols() {
        let comma = if joined.is_empty() { "" } else { ", " };
        joined.extend([comma, protocol]);
    }
    joined
}
