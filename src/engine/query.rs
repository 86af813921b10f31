//! The options of a request's query, read strictly: what cannot be read is refused, what is unknown
//! is ignored but counted.

use std::borrow::Cow;
use std::ops::Deref;

use crate::code::{Code, Refusal};
use crate::config::Config;
use crate::cursor::{Since, parse_digits};
use crate::message::{self, BAD_CHANNEL};
use crate::wire::command::BAD_SINCE;
use crate::wire::http::{Head, Query};

/// The channels that are asked for; a single one needs no heap.
#[derive(Debug, Default)]
pub(crate) enum Channels<'b> {
    #[default]
    None,
    One(Cow<'b, str>),
    Many(Vec<Cow<'b, str>>),
}

impl<'b> Channels<'b> {
    fn push(&mut self, name: Cow<'b, str>) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(name),
            Self::One(first) => Self::Many(vec![first, name]),
            Self::Many(mut names) => {
                names.push(name);
                Self::Many(names)
            }
        };
    }

    fn into_owned(self) -> Channels<'static> {
        match self {
            Self::None => Channels::None,
            Self::One(name) => Channels::One(owned(name)),
            Self::Many(names) => Channels::Many(names.into_iter().map(owned).collect()),
        }
    }
}

impl<'b> Deref for Channels<'b> {
    type Target = [Cow<'b, str>];

    fn deref(&self) -> &Self::Target {
        match self {
            Self::None => &[],
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

/// What a request's query and headers ask for.
#[derive(Debug, Default)]
pub(crate) struct Options<'b> {
    pub(crate) channels: Channels<'b>,
    pub(crate) since: Option<Since>,
    pub(crate) has_since_query: bool,
    pub(crate) wait_s: Option<u64>,
    pub(crate) heartbeat_s: u16,
    pub(crate) gap_live: bool,
    pub(crate) presence: bool,
    pub(crate) is_own_client: bool,
    pub(crate) event: Option<Cow<'b, str>>,
    pub(crate) ttl_s: Option<u64>,
    pub(crate) idempotency_key: Option<Cow<'b, str>>,
}

pub(crate) const UNREADABLE: Refusal = Refusal::new(
    Code::BadQuery,
    "the query has a bad percent-encoding or is not UTF-8: encode it with encodeURIComponent",
);
pub(crate) const TOO_MANY: Refusal =
    Refusal::new(Code::BadQuery, "at most 128 channels and 32 other pairs: for more, use /ws");
pub(crate) const REPEATED: Refusal =
    Refusal::new(Code::BadQuery, "only channel may be given more than once");
const BAD_VALUE: Refusal = Refusal::new(
    Code::BadQuery,
    "wait and heartbeat are whole seconds, ttl is digits, gap is live or retained, v is 1, presence is 1 or 0",
);
pub(crate) const NO_CHANNEL: Refusal =
    Refusal::new(Code::BadQuery, "name at least one channel: ?channel=news");

/// The single-valued names, to notice repetition.
const SINGLES: [&str; 12] = [
    "since",
    "last_event_id",
    "lastEventId",
    "wait",
    "heartbeat",
    "gap",
    "v",
    "presence",
    "event",
    "ttl",
    "idempotency_key",
    "next",
];

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// What headers say, which win: what the query says of the same may be anything.
struct Wins {
    since: Option<Since>,
    ttl: bool,
}

impl<'b> Options<'b> {
    /// The same, of bytes of its own.
    pub(crate) fn into_owned(self) -> Options<'static> {
        Options {
            channels: self.channels.into_owned(),
            event: self.event.map(owned),
            idempotency_key: self.idempotency_key.map(owned),
            since: self.since,
            has_since_query: self.has_since_query,
            wait_s: self.wait_s,
            heartbeat_s: self.heartbeat_s,
            gap_live: self.gap_live,
            presence: self.presence,
            is_own_client: self.is_own_client,
            ttl_s: self.ttl_s,
        }
    }

    /// Reads the query and the headers, which win.
    pub(crate) fn read(
        &mut self,
        head: &'b [u8],
        parsed: &Head,
        config: &Config,
    ) -> Result<(), Refusal> {
        let (mut pairs, mut channels, mut seen, mut alias) = (0, 0, 0u16, None);
        let last_event_id = parsed.last_event_id.map(|span| span.of(head));
        let wins = Wins {
            since: last_event_id.and_then(Since::from_last_event_id),
            ttl: parsed.ttl.is_some(),
        };
        for pair in Query::new(parsed.query.map(|span| span.of(head))) {
            let (name, value) = pair.map_err(|_| UNREADABLE)?;
            if name == "channel" {
                channels += 1;
                if channels > config.channels_per_connection_max {
                    return Err(TOO_MANY);
                }
                self.add_channel(value)?;
                continue;
            }
            pairs += 1;
            if pairs > config.query_pairs_max {
                return Err(TOO_MANY);
            }
            if let Some(bit) = SINGLES.iter().position(|single| *single == name) {
                if seen & (1 << bit) != 0 {
                    return Err(REPEATED);
                }
                seen |= 1 << bit;
            }
            self.set(&name, value, &mut alias, &wins)?;
        }
        // A polyfill appends its newer position to the original query.
        self.since = wins.since.or(alias).or(self.since);
        Ok(())
    }

    fn add_channel(&mut self, name: Cow<'b, str>) -> Result<(), Refusal> {
        if name.is_empty() {
            return Err(NO_CHANNEL);
        }
        if !message::is_channel(name.as_bytes()) {
            return Err(BAD_CHANNEL);
        }
        if !self.channels.contains(&name) {
            self.channels.push(name);
        }
        Ok(())
    }

    fn set(
        &mut self,
        name: &str,
        value: Cow<'b, str>,
        alias: &mut Option<Since>,
        wins: &Wins,
    ) -> Result<(), Refusal> {
        match name {
            "since" | "last_event_id" | "lastEventId" => {
                let since = Since::parse(value.as_bytes());
                if since.is_none() && wins.since.is_none() {
                    return Err(BAD_SINCE);
                }
                *(if name == "since" { &mut self.since } else { alias }) = since;
                self.has_since_query = true;
            }
            "wait" => self.wait_s = Some(whole(&value)?),
            "heartbeat" => self.heartbeat_s = whole(&value)?.clamp(10, 300) as u16,
            "gap" => {
                self.gap_live = match &*value {
                    "live" => true,
                    "retained" => false,
                    _ => return Err(BAD_VALUE),
                }
            }
            "presence" => {
                self.presence = match &*value {
                    "1" => true,
                    "0" => false,
                    _ => return Err(BAD_VALUE),
                }
            }
            "v" if value == "1" => self.is_own_client = true,
            "v" => return Err(BAD_VALUE),
            "event" => self.event = Some(value),
            "ttl" if wins.ttl => {}
            "ttl" => self.ttl_s = Some(whole(&value)?),
            "idempotency_key" => self.idempotency_key = Some(value),
            _ => {}
        }
        Ok(())
    }
}

fn whole(value: &str) -> Result<u64, Refusal> {
    saturating_digits(value.as_bytes()).ok_or(BAD_VALUE)
}

/// Digits of any length; what is too large for a number is the largest.
pub(crate) fn saturating_digits(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| parse_digits(digits).unwrap_or(u64::MAX))
}
