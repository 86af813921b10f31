//! What an application may add: who may do what, answers and WebSockets of its own.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::answer::{Answer, Ticket, Verdict};
use super::core::Core;
use super::response::{Response, Upgrade};
use super::routes;
use super::slot::{Peer, Slot};
use crate::code::Refusal;
use crate::collections::slots::ConnId;
use crate::cursor::Since;
use crate::hub::Published;
use crate::message::Message;
use crate::time::Now;
use crate::wire::http;

/// An application's behaviour, one per loop. Every method has a default.
///
/// Callbacks run on the loop's thread and must not block: whoever needs time answers
/// [`Answer::Later`] and lets another thread call `Hub::answer`. One that panics ends its server with
/// an error, and nothing else: other servers and the process go on.
///
/// A callback is never called within another, and has no way to turn the server that calls it:
/// `Server::turn` borrows all of it, the application included.
pub trait App: Send {
    /// Decides who may. The default leaves it to the configuration.
    fn authorize(&mut self, _: &mut Ctx<'_>, _id: ConnId, _: Action<'_>) -> Answer<Verdict> {
        Answer::Done(Verdict::Default)
    }

    /// Sees each request before the built-in routes.
    fn request(&mut self, _: &mut Ctx<'_>, _id: ConnId, _: &Request<'_>) -> Answer<Route> {
        Answer::Done(Route::Pass)
    }

    /// A WebSocket of the application's own is established.
    fn open(&mut self, _: &mut Ctx<'_>, _id: ConnId) {}

    /// A message on a WebSocket of the application's own. The bytes are borrowed for the call.
    fn message(&mut self, _: &mut Ctx<'_>, _id: ConnId, _kind: Kind, _bytes: &[u8]) {}

    /// After [`Queued::Full`]: less than half of the allowed bytes wait now.
    fn writable(&mut self, _: &mut Ctx<'_>, _id: ConnId) {}

    /// A WebSocket of the application's own is gone, and its subscriptions with it; the id finds nothing
    /// any more but, in this call, what was set by [`Ctx::set_data`].
    fn closed(&mut self, _: &mut Ctx<'_>, _id: ConnId, _reason: CloseReason) {}

    /// A value that another thread sent by `Hub::signal`.
    fn signal(&mut self, _: &mut Ctx<'_>, _value: u64) {}

    /// A timer that [`Ctx::timer`] set.
    fn timer(&mut self, _: &mut Ctx<'_>, _key: u64) {}
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Action<'a> {
    /// Open a stream, a poll or a WebSocket of the built-in routes.
    Connect {
        /// The request that asks for it.
        request: &'a Request<'a>,
    },
    /// Listen to a channel, or learn how far it has got and who listens.
    Subscribe {
        /// Which.
        channel: &'a str,
        /// The request that asks; `None` for a command on a WebSocket that is open.
        request: Option<&'a Request<'a>>,
    },
    /// Publish to a channel, or drop its history.
    Publish {
        /// Which.
        channel: &'a str,
        /// The request that asks, without its body; `None` for a message or a command on a WebSocket
        /// that is open.
        request: Option<&'a Request<'a>>,
    },
}

impl<'a> Action<'a> {
    /// The request that asks, with its query and header fields, such as a token in them. `None` on a
    /// WebSocket that is open: who that is was seen when it [connected](Self::Connect), and can be
    /// kept by [`Ctx::set_data`].
    #[must_use]
    pub fn request(&self) -> Option<&'a Request<'a>> {
        match self {
            Self::Connect { request } => Some(request),
            Self::Subscribe { request, .. } | Self::Publish { request, .. } => *request,
        }
    }
}

/// Text or binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, checked when it is received.
    Text,
    /// Any bytes.
    Binary,
}

/// A request, borrowed for the call.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub(crate) head: &'a [u8],
    pub(crate) parsed: &'a http::Head,
    pub(crate) body: &'a [u8],
}

impl<'a> Request<'a> {
    /// `GET`, `POST` …
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.parsed.method.name()
    }

    /// The path as it was sent, percent-encoding included.
    #[must_use]
    pub fn path(&self) -> &'a str {
        ascii(self.parsed.path.of(self.head))
    }

    /// What stands behind the question mark.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.parsed.query.map(|span| ascii(span.of(self.head)))
    }

    /// The value of the first header field of that name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        http::header(self.head, name)
    }

    /// The header fields as they came, in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        http::headers(self.head)
    }

    /// The value of the first pair of that name in the query, decoded; `None` too if it does not
    /// decode to UTF-8.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        let query = self.parsed.query.map(|span| span.of(self.head));
        let mut pairs = http::Query::new(query).filter_map(Result::ok);
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The WebSocket subprotocols that the client offers, most wanted first; none if their list is
    /// malformed, which is refused.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let offers = routes::offers(self.head, self.parsed).ok();
        offers.into_iter().flatten()
    }

    /// The body, at most `message_bytes_max`.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Whether it asks to become a WebSocket.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        self.parsed.upgrade_websocket
    }
}

/// Targets are ASCII by the time they are parsed.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("")
}

/// Who answers a request.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Route {
    /// The built-in routes.
    #[default]
    Pass,
    /// This response.
    Respond(Response),
    /// A WebSocket of the application's own. An invalid handshake is refused by the server.
    WebSocket {
        /// The subprotocol to select, one of those [offered](Request::protocols).
        protocol: Option<String>,
    },
    /// The same, with headers of its own.
    Upgrade(Upgrade),
}

impl From<Response> for Route {
    fn from(response: Response) -> Self {
        Self::Respond(response)
    }
}

impl From<Upgrade> for Route {
    fn from(upgrade: Upgrade) -> Self {
        Self::Upgrade(upgrade)
    }
}

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It will be written; so many bytes wait now.
    Bytes(usize),
    /// Too much waits already (`outbox_bytes_max`): nothing was taken, [`App::writable`] will tell.
    Full,
    /// There is no such connection, or it is not a WebSocket.
    Gone,
}

/// Why a connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed with this code (1005: it gave none).
    Peer(u16),
    /// We closed with this code.
    Local(u16),
    /// The connection broke without a close.
    Lost,
}

impl CloseReason {
    /// The close code, 1006 for a broken connection (RFC 6455 §7.4.1).
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Peer(code) | Self::Local(code) => code,
            Self::Lost => 1006,
        }
    }
}

/// A timer that was set by [`Ctx::timer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    pub(crate) due_ms: u64,
    pub(crate) number: u64,
}

/// What a connection is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// In a request, between two of them, or closing.
    Http,
    /// A WebSocket of the application's own.
    Own,
    /// A WebSocket of the built-in routes.
    WebSocket,
    /// An event stream.
    EventStream,
    /// A held poll.
    Poll,
}

/// What a callback may do. Closing takes effect at the end of the turn; everything else at once.
///
/// An id may outlive its connection: whatever is asked of it then finds nothing and says so, also
/// when another connection has taken its place.
///
/// A `Ctx` ends with the call that it was lent for; to keep it does not compile:
///
/// ```compile_fail
/// use holdline::engine::{App, ConnId, Ctx};
///
/// struct Keeps<'a>(Vec<&'a mut Ctx<'a>>);
///
/// impl<'a> Keeps<'a> {
///     fn keep(&mut self, cx: &'a mut Ctx<'a>) {
///         self.0.push(cx);
///     }
/// }
///
/// impl App for Keeps<'_> {
///     fn open(&mut self, cx: &mut Ctx<'_>, _: ConnId) {
///         self.keep(cx);
///     }
/// }
/// ```
pub struct Ctx<'a> {
    pub(crate) core: &'a mut Core,
}

impl fmt::Debug for Ctx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx").finish_non_exhaustive()
    }
}

impl Ctx<'_> {
    /// Sends a message on a WebSocket, be it the application's own or one of the built-in routes. A
    /// text must be UTF-8, which is not looked at here: the peer would end the connection for it.
    pub fn send(&mut self, id: ConnId, kind: Kind, bytes: &[u8]) -> Queued {
        self.core.app_send(id, kind, bytes)
    }

    /// Publishes to a channel. Whoever listens is sent it in this turn.
    ///
    /// # Errors
    /// What is wrong with the channel or the message, or `overloaded`; `draining` once the server has
    /// ended.
    pub fn publish(
        &mut self,
        channel: &str,
        message: impl Into<Message>,
    ) -> Result<Published, Refusal> {
        self.core.check_and_publish(channel, message.into())
    }

    /// Subscribes a connection that listens, or a WebSocket of the application's own, to a channel;
    /// pushes arrive as raw payloads on an own protocol. Once more does nothing.
    ///
    /// A raw WebSocket, and so one of the application's own, that has missed something is closed with
    /// 1013 `gap`: because `since` is a position that is lost, or because it read too slowly for what is
    /// kept.
    ///
    /// # Errors
    /// `bad_channel` for a name that is none, `bad_request` for one channel too many, `overloaded`
    /// without memory, `not_found` for an id that is gone or does not listen.
    pub fn subscribe(
        &mut self,
        id: ConnId,
        channel: &str,
        since: Option<Since>,
    ) -> Result<(), Refusal> {
        self.core.app_subscribe(id, channel, since)
    }

    /// Ends a subscription; whether there was one.
    pub fn unsubscribe(&mut self, id: ConnId, channel: &str) -> bool {
        self.core.app_unsubscribe(id, channel)
    }

    /// Closes a WebSocket with a code and a reason; whether it was there. [`App::closed`] follows when the
    /// peer has answered and is gone, after some seconds if it does not. A reason is cut to 123 bytes,
    /// and a code that may not be sent (RFC 6455 §7.4) is 1011. For other connections `Hub::close`.
    pub fn close(&mut self, id: ConnId, code: u16, reason: &str) -> bool {
        self.core.app_close(id, code, reason)
    }

    /// The number that was set for a connection; 0 before. Also in [`App::closed`], for the one that is
    /// told there.
    #[must_use]
    pub fn data(&self, id: ConnId) -> Option<u64> {
        if let Some((_, data)) = self.core.leaving.filter(|(leaving, _)| *leaving == id) {
            return Some(data);
        }
        let slot = self.core.slots.by_id(id)?;
        Some(slot.extra.as_ref().map_or(0, |extra| extra.data))
    }

    /// Sets a number for a connection, such as an index into a table of the application's own; whether
    /// the connection is there.
    pub fn set_data(&mut self, id: ConnId, data: u64) -> bool {
        let Some(index) = self.core.slots.find(id) else { return false };
        let Some(slot) = self.core.slots.get_mut(index) else { return false };
        slot.extra().data = data;
        slot.tidy();
        self.core.weigh(index);
        true
    }

    /// A ticket for an answer that comes later, within
    /// [`answer_deadline`](crate::Config#structfield.answer_deadline). Return it as [`Answer::Later`]; a
    /// ticket of a connection that is gone may be answered, which does nothing.
    pub fn ticket(&mut self, id: ConnId) -> Ticket {
        self.core.new_ticket(id)
    }

    /// Calls [`App::timer`] with `key` once, so long after the [moment of this turn](Self::now): rounded
    /// up to the millisecond, at least one, and not before the next turn. Timers belong to the application, not to a connection.
    pub fn timer(&mut self, after: Duration, key: u64) -> TimerId {
        self.core.set_timer(after, key)
    }

    /// Takes a timer back; whether it was still to come.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.core.app_timers.remove(&(timer.due_ms, timer.number)).is_some()
    }

    /// What a connection is now; `None` for one that is gone.
    #[must_use]
    pub fn transport(&self, id: ConnId) -> Option<Transport> {
        self.core.slots.by_id(id).map(Slot::transport)
    }

    /// Who is at the other end of the connection, which may be a proxy.
    #[must_use]
    pub fn peer(&self, id: ConnId) -> Option<Peer> {
        self.core.slots.by_id(id).map(|slot| slot.peer)
    }

    /// The address of who asks: the one that a [trusted proxy](crate::Config#structfield.trusted_proxies)
    /// named, of IPv6 the first of its 64-bit network, else the peer's own. `None` for a unix peer; and
    /// of a trusted proxy's clients for whom the [table of addresses](crate::Config#structfield.addresses_max)
    /// has no place, between two requests, and with [`open`](crate::Config#structfield.open).
    #[must_use]
    pub fn client(&self, id: ConnId) -> Option<IpAddr> {
        self.core.client(id)
    }

    /// The moment of this turn.
    #[must_use]
    pub fn now(&self) -> Now {
        self.core.now
    }
}
