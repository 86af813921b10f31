//! What a request means: the built-in routes, and the order in which a request's faults are judged.
//!
//! Framing and limits come first (they are the parser's), then Host, path, method, Origin, the
//! WebSocket handshake, Expect, names and query. Who may and the body come after a plan is made.

use std::borrow::Cow;

use super::client::Form;
use super::policy::Policy;
use super::query::{Channels, NO_CHANNEL, Options};
use super::reply::Refused;
use super::template::Template;
use crate::code::{Code, Refusal};
use crate::config::Config;
use crate::conn::WsMode;
use crate::message::{BAD_CHANNEL, is_channel};
use crate::wire::handshake::{self, Offers};
use crate::wire::http::{Expect, Framing, Head, Method, Version, decode_segment};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Allow(&'static str),
    Health,
    Ready,
    Stats,
    Console,
    Channels,
    /// The browser's client.
    Client(Form),
    Info,
    Presence,
    Clear,
    Publish,
    Batch,
    Ws(WsMode),
    Sse {
        is_raw: bool,
    },
    Poll {
        is_raw: bool,
    },
}

/// A request that has a meaning here.
#[derive(Debug)]
pub(crate) struct Plan<'b> {
    pub(crate) what: What,
    pub(crate) options: Options<'b>,
    pub(crate) handshake: Option<Handshake>,
    /// Of the message that a single publication is.
    pub(crate) template: Template,
}

impl Plan<'_> {
    /// The same, of bytes of its own.
    pub(crate) fn into_owned(self) -> Plan<'static> {
        let Self { what, options, handshake, template } = self;
        Plan { what, options: options.into_owned(), handshake, template }
    }
}

/// A checked WebSocket handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    pub(crate) accept: [u8; 28],
    pub(crate) protocol: Option<&'static str>,
}

/// A path that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Any,
    Console,
    Client(Form),
    Health,
    Ready,
    Stats,
    Events,
    Poll,
    Ws,
    Publish,
    Channels,
    Channel,
    Presence,
}

impl Path {
    fn of(path: &[u8], is_asterisk: bool, config: &Config) -> Option<Self> {
        let routes = config.routes;
        let (found, is_on) = match path {
            _ if is_asterisk => (Self::Any, true),
            b"/" => (Self::Console, routes.console),
            b"/client.js" => (Self::Client(Form::Module), routes.client),
            b"/client.iife.js" => (Self::Client(Form::Script), routes.client),
            b"/health" => (Self::Health, routes.health),
            b"/ready" => (Self::Ready, routes.health),
            b"/stats" => (Self::Stats, routes.stats),
            b"/stats/channels" => (Self::Channels, routes.stats),
            b"/events" => (Self::Events, routes.protocol),
            b"/poll" => (Self::Poll, routes.protocol),
            b"/ws" => (Self::Ws, routes.protocol),
            b"/publish" => (Self::Publish, routes.protocol),
            _ => {
                let segment = path.strip_prefix(b"/channels/")?;
                let (found, name) = match segment.strip_suffix(PRESENCE) {
                    Some(name) => (Self::Presence, name),
                    None => (Self::Channel, segment),
                };
                (found, routes.channels && !name.contains(&b'/'))
            }
        };
        is_on.then_some(found)
    }

    /// The `Allow` header of this path.
    const fn allow(self) -> &'static str {
        match self {
            Self::Any | Self::Channel => "Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n",
            Self::Publish => "Allow: POST, OPTIONS\r\n",
            Self::Console
            | Self::Client(_)
            | Self::Health
            | Self::Ready
            | Self::Stats
            | Self::Events
            | Self::Poll
            | Self::Ws
            | Self::Channels
            | Self::Presence => "Allow: GET, HEAD, OPTIONS\r\n",
        }
    }

    fn takes(self, method: Method) -> bool {
        match method {
            Method::Options => true,
            Method::Get | Method::Head => !matches!(self, Self::Publish | Self::Any),
            Method::Post => matches!(self, Self::Publish | Self::Channel),
            Method::Put | Method::Delete => self == Self::Channel,
            Method::Patch | Method::Trace => false,
        }
    }
}

/// Whether a body here can only be a mistake, or an attempt to smuggle (RFC 9110 §9.3).
pub(crate) fn check_framing(parsed: &Head) -> Result<(), Refused> {
    let bodiless =
        matches!(parsed.method, Method::Get | Method::Head | Method::Delete | Method::Options);
    if parsed.framing != Framing::None && (bodiless || parsed.upgrade_listed) {
        let message = "this method, and an upgrade, takes no body";
        return Err(Refused::with(Code::BadRequest, message, "").closing());
    }
    Ok(())
}

pub(crate) fn check_host(
    head: &[u8],
    parsed: &Head,
    policy: &Policy,
    is_unix: bool,
) -> Result<(), Refused> {
    let Some(host) = parsed.host.map(|span| span.of(head)) else { return Ok(()) };
    if is_unix || policy.allows_host(host) {
        return Ok(());
    }
    let message = "this Host is not served here: start with --host NAME to add it";
    Err(Refused::with(Code::Host, message, ""))
}

pub(crate) fn check_origin(head: &[u8], parsed: &Head, policy: &Policy) -> Result<(), Refused> {
    let Some(origin) = parsed.origin.map(|span| span.of(head)) else { return Ok(()) };
    if policy.allows_origin(origin, parsed.host.map(|span| span.of(head))) {
        return Ok(());
    }
    let message = "pages of this Origin may not do this: start with --origin URL to allow them";
    Err(Refused::with(Code::Origin, message, ""))
}

/// Finds out what a request means, or the first thing that is wrong with it.
pub(crate) fn plan<'b>(
    head: &'b [u8],
    parsed: &Head,
    policy: &Policy,
    config: &Config,
) -> Result<Plan<'b>, Refused> {
    let raw_path = parsed.path.of(head);
    let path = Path::of(raw_path, parsed.is_asterisk, config).ok_or(NOT_FOUND)?;
    if !path.takes(parsed.method) {
        return Err(Refused::with(
            Code::Method,
            "this path does not take this method",
            path.allow(),
        ));
    }
    if parsed.method == Method::Options {
        let (what, options) = (What::Allow(path.allow()), Options::default());
        return Ok(Plan { what, options, handshake: None, template: Template::default() });
    }
    let what = meaning(path, parsed);
    let acts = matches!(what, What::Publish | What::Batch | What::Clear | What::Ws(_));
    if acts {
        check_origin(head, parsed, policy)?;
    }
    let handshake = match what {
        What::Ws(mode) => Some(check_handshake(head, parsed, mode)?),
        _ => None,
    };
    if parsed.expect == Expect::Other && parsed.version == Version::Http11 {
        let message = "the only expectation that is met here is 100-continue";
        return Err(Refused::with(Code::Expectation, message, "").closing());
    }
    let (options, template) = (Options::default(), Template::default());
    let mut plan = Plan { what, options, handshake, template };
    plan.what = read_names(what, path, head, parsed, config, &mut plan.options)?;
    let protocol = plan.handshake.and_then(|handshake| handshake.protocol);
    if let (What::Ws(WsMode::Raw), Some(META)) = (plan.what, protocol) {
        plan.what = What::Ws(WsMode::Meta);
    }
    if plan.what == What::Publish {
        plan.template = Template::read(head, parsed, &plan.options)?;
    }
    Ok(plan)
}

/// The first row that fits. What only the query can tell (a poll or a question) is told later.
fn meaning(path: Path, parsed: &Head) -> What {
    let is_get = matches!(parsed.method, Method::Get | Method::Head);
    match path {
        Path::Any => What::Allow(path.allow()),
        Path::Console => What::Console,
        Path::Client(form) => What::Client(form),
        Path::Health => What::Health,
        Path::Ready => What::Ready,
        Path::Stats => What::Stats,
        Path::Events => What::Sse { is_raw: false },
        Path::Poll => What::Poll { is_raw: false },
        Path::Ws => What::Ws(WsMode::Json),
        Path::Publish => What::Batch,
        Path::Channels => What::Channels,
        Path::Presence => What::Presence,
        Path::Channel if parsed.method == Method::Delete => What::Clear,
        Path::Channel if !is_get => What::Publish,
        Path::Channel if parsed.upgrade_listed && parsed.method == Method::Get => {
            What::Ws(WsMode::Raw)
        }
        Path::Channel if parsed.accepts_event_stream => What::Sse { is_raw: true },
        Path::Channel => What::Info,
    }
}

/// Whether a request is for an event stream.
pub(crate) fn is_stream(head: &[u8], parsed: &Head, config: &Config) -> bool {
    let path = Path::of(parsed.path.of(head), parsed.is_asterisk, config);
    parsed.method == Method::Get
        && path.is_some_and(|path| matches!(meaning(path, parsed), What::Sse { .. }))
}

/// Whether a request asks how the server is.
pub(crate) fn is_watch(head: &[u8], parsed: &Head, config: &Config) -> bool {
    let path = Path::of(parsed.path.of(head), parsed.is_asterisk, config);
    let is_get = matches!(parsed.method, Method::Get | Method::Head);
    is_get && matches!(path, Some(Path::Health | Path::Ready | Path::Stats))
}

/// Reads what a request is about into `options`; what is to be done with it, which the query may tell.
fn read_names<'b>(
    what: What,
    path: Path,
    head: &'b [u8],
    parsed: &Head,
    config: &Config,
    options: &mut Options<'b>,
) -> Result<What, Refused> {
    let has_no_options =
        matches!(what, What::Health | What::Ready | What::Stats | What::Client(_) | What::Channels);
    if has_no_options {
        return Ok(what); // or only some of its own
    }
    if !matches!(path, Path::Channel | Path::Presence) {
        options.read(head, parsed, config)?;
        let needs_channel =
            matches!(what, What::Sse { .. } | What::Poll { .. }) && options.channels.is_empty();
        return if needs_channel { Err(NO_CHANNEL.into()) } else { Ok(what) };
    }
    let segment = &parsed.path.of(head)[b"/channels/".len()..];
    let is_presence = what == What::Presence;
    let segment = if is_presence { segment.strip_suffix(PRESENCE) } else { Some(segment) };
    let name = segment.and_then(channel_name).ok_or(BAD_CHANNEL)?;
    if !is_presence {
        options.read(head, parsed, config)?;
    }
    options.channels = Channels::One(name);
    let is_poll = options.has_since_query || options.wait_s.is_some();
    Ok(match what {
        What::Info if is_poll => What::Poll { is_raw: true },
        What::Info if parsed.accepts_html => What::Console,
        other => other,
    })
}

/// The channel that a segment of a path names.
fn channel_name(segment: &[u8]) -> Option<Cow<'_, str>> {
    if is_channel(segment) {
        return std::str::from_utf8(segment).ok().map(Cow::Borrowed); // as it stands there
    }
    decode_segment(segment).filter(|name| is_channel(name.as_bytes()))
}

/// What follows the name of a channel, for who listens to it.
const PRESENCE: &[u8] = b"/presence";
const META: &str = "holdline.v1.meta";
const JSON: &str = "holdline.v1.json";
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
const NOT_FOUND: Refusal = Refusal::new(Code::NotFound, "there is nothing at this path");

/// The opening handshake of RFC 6455 §4.2.1, and our choice of subprotocol.
fn check_handshake(head: &[u8], parsed: &Head, mode: WsMode) -> Result<Handshake, Refused> {
    let handshake = check_upgrade(head, parsed)?;
    let offers = offers(head, parsed)?;
    let known = match mode {
        WsMode::Json => JSON,
        WsMode::Raw | WsMode::Meta => META,
        WsMode::App => return Ok(handshake),
    };
    // A browser fails the connection itself if nothing it offered is selected, and says not why.
    let protocol = match (offers.contains(known), offers.is_empty()) {
        (true, _) => Some(known),
        (false, true) => None,
        (false, false) => {
            let message = "none of the offered subprotocols is spoken here: holdline.v1.json on \
                           /ws, holdline.v1.meta on /channels/NAME, or none";
            return Err(Refused::with(Code::BadRequest, message, ""));
        }
    };
    Ok(Handshake { protocol, ..handshake })
}

/// The handshake without the subprotocol.
pub(crate) fn check_upgrade(head: &[u8], parsed: &Head) -> Result<Handshake, Refused> {
    if !parsed.upgrade_listed || parsed.version == Version::Http10 {
        let message = "this path speaks WebSocket: send an HTTP/1.1 upgrade";
        return Err(Refused::with(Code::Upgrade, message, UPGRADE));
    }
    let bad = |message| Refused::with(Code::BadRequest, message, "");
    if parsed.method != Method::Get || !parsed.upgrade_websocket {
        return Err(bad("a WebSocket handshake is a GET with Connection: Upgrade"));
    }
    if parsed.ws_version.map(|span| span.of(head)) != Some(b"13") {
        let message = "only version 13 of WebSocket is spoken here";
        return Err(Refused::with(Code::Upgrade, message, UPGRADE));
    }
    if let Some(line) = parsed.ws_extensions {
        let checked = handshake::check_extensions(line.of(head));
        checked.map_err(|_| bad("Sec-WebSocket-Extensions cannot be read"))?;
    }
    let key = parsed.ws_key.and_then(|span| handshake::accept_key(span.of(head)));
    let accept = key.ok_or_else(|| bad("Sec-WebSocket-Key is 16 bytes in base64"))?;
    Ok(Handshake { accept, protocol: None })
}

/// The subprotocols that a request offers.
pub(crate) fn offers<'b>(head: &'b [u8], parsed: &Head) -> Result<Offers<'b>, Refused> {
    let lines = parsed.ws_protocol.into_iter().chain(parsed.ws_protocol_more);
    handshake::offers(lines.map(|span| span.of(head))).map_err(|_| {
        let message = "Sec-WebSocket-Protocol is at most 16 different tokens";
        Refused::with(Code::BadRequest, message, "")
    })
}
