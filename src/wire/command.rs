//! What clients ask, as JSON: the commands of `/ws` and the lines of `POST /publish`.
//!
//! Knows no connection, no hub and no replies. A text is read in two steps. First one flat pass
//! keeps every field as the raw text of its value: only here it can turn out to be no JSON, and
//! nothing recurses. Then the fields that the object's `op` has are read, so that a refusal never
//! hides a syntax error behind it, nor a `ref`.
//!
//! What holds for every object:
//! * A field that the command does not have is unknown: ignored, whatever its value.
//! * `null` is a value of the wrong type, not an absent field. The one place for it is `data`,
//!   where it is a payload.
//! * A repeated name is refused, however it is escaped; of unknown names the first 32 are compared.
//! * A string with a lone surrogate (`"\ud800"`) is no text. As a name it is one that nothing can
//!   have (`bad_channel`, `bad_since`), as `text` it is refused, inside `data` it passes.

use std::borrow::Cow;
use std::sync::Arc;
use std::{fmt, str};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_core::Deserializer as _;
use serde_core::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::code::{Code, Refusal};
use crate::cursor::Since;
use crate::json;
use crate::message::{self, BAD_CHANNEL, BAD_EVENT, BAD_KEY, BAD_TTL, BAD_TYPE, Message};

/// Most `channels` of one line of `POST /publish`.
pub const LINE_CHANNELS_MAX: usize = 128;

/// Why a frame or line was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not JSON, or deeper than 32 levels, the object itself counted: `bad_json`, and a WebSocket
    /// closes 4400 after it.
    NotJson,
    /// JSON, but no object: `bad_request`, and a WebSocket closes 4400 after it.
    NotObject,
    /// An error reply; the connection stays.
    Refused(Refusal),
}

/// A frame, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<'b> {
    /// `ref`, also of a refused command, if it could be read.
    pub reference: Option<u32>,
    /// What is asked.
    pub command: Result<Command<'b>, Fault>,
}

/// What a client asks on `/ws`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'b> {
    /// To get what is published on these channels.
    Subscribe {
        /// Valid names, at least one.
        channels: Vec<Cow<'b, str>>,
        /// From where on.
        since: Option<Since>,
        /// `since` as it was asked for.
        since_text: Option<Cow<'b, str>>,
        /// After a gap: only what comes from now on, not what is still kept.
        gap_live: bool,
        /// To be told who comes and goes.
        presence: bool,
    },
    /// To get no more of them.
    Unsubscribe {
        /// Valid names, at least one.
        channels: Vec<Cow<'b, str>>,
    },
    /// To publish.
    Publish {
        /// A valid name.
        channel: Cow<'b, str>,
        /// A checked message.
        message: Message,
    },
    /// To be answered.
    Ping {
        /// What to echo: the JSON text of a number or string.
        t: Option<&'b str>,
    },
}

/// Reads one text frame of `/ws`.
#[must_use]
pub fn parse_command<'b>(
    frame: &'b str,
    message_bytes_max: usize,
    channels_max: usize,
) -> Parsed<'b> {
    match Fields::parse(frame) {
        Ok(fields) => Parsed {
            reference: fields.reference.and_then(|raw| raw.parse().ok()),
            command: fields.command(message_bytes_max, channels_max).map_err(Fault::Refused),
        },
        Err(fault) => Parsed { reference: None, command: Err(fault) },
    }
}

/// Where a line publishes to, which decides the form of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets<'b> {
    /// `channel`: a valid name.
    One(Cow<'b, str>),
    /// `channels`: 1 to [`LINE_CHANNELS_MAX`] names, bad ones among them, since each is answered.
    Many(Vec<Cow<'b, str>>),
}

/// One line of `POST /publish`, or its one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'b> {
    /// Where to.
    pub targets: Targets<'b>,
    /// A checked message.
    pub message: Message,
}

/// Reads one object of `POST /publish`. A blank line is none: the caller skips it.
///
/// # Errors
/// What is wrong with it; it stands for the whole line.
pub fn parse_line<'b>(line: &'b [u8], message_bytes_max: usize) -> Result<Line<'b>, Fault> {
    let text = str::from_utf8(line).map_err(|_| Fault::NotJson)?;
    Fields::parse(text)?.line(message_bytes_max).map_err(Fault::Refused)
}

/// The top level of an object: the fields that mean something, each the valid JSON of its value.
#[derive(Default)]
struct Fields<'b> {
    op: Option<&'b str>,
    reference: Option<&'b str>,
    channel: Option<&'b str>,
    channels: Option<&'b str>,
    since: Option<&'b str>,
    gap: Option<&'b str>,
    presence: Option<&'b str>,
    data: Option<&'b str>,
    text: Option<&'b str>,
    b64: Option<&'b str>,
    media_type: Option<&'b str>,
    event: Option<&'b str>,
    ttl: Option<&'b str>,
    idempotency_key: Option<&'b str>,
    t: Option<&'b str>,
    /// Other names, to notice a repeated one. Invariant: at most [`UNKNOWN_MAX`].
    unknown: Vec<Cow<'b, str>>,
    is_repeated: bool,
}

impl<'b> Fields<'b> {
    fn parse(text: &'b str) -> Result<Self, Fault> {
        // The depth first: it is iterative, and the parser keeps raw values of any depth.
        if json::depth(text.as_bytes()) > json::DEPTH_MAX {
            return Err(Fault::NotJson);
        }
        if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
            let is_json = json::is_valid(text.as_bytes());
            return Err(if is_json { Fault::NotObject } else { Fault::NotJson });
        }
        let mut parser = serde_json::Deserializer::from_str(text);
        let fields = parser.deserialize_map(FieldsVisitor).map_err(|_| Fault::NotJson)?;
        parser.end().map_err(|_| Fault::NotJson)?;
        Ok(fields)
    }

    fn put(&mut self, name: Cow<'b, str>, raw: &'b str) {
        let field = match name.as_ref() {
            "op" => &mut self.op,
            "ref" => &mut self.reference,
            "channel" => &mut self.channel,
            "channels" => &mut self.channels,
            "since" => &mut self.since,
            "gap" => &mut self.gap,
            "presence" => &mut self.presence,
            "data" => &mut self.data,
            "text" => &mut self.text,
            "b64" => &mut self.b64,
            "type" => &mut self.media_type,
            "event" => &mut self.event,
            "ttl" => &mut self.ttl,
            "idempotency_key" => &mut self.idempotency_key,
            "t" => &mut self.t,
            _ => return self.put_unknown(name),
        };
        if field.is_some() {
            self.is_repeated = true;
            // Which of two is meant nobody knows: a repeated `ref` is not to be read either.
            *field = Some("");
        } else {
            *field = Some(raw);
        }
    }

    fn put_unknown(&mut self, name: Cow<'b, str>) {
        if self.unknown.len() < UNKNOWN_MAX {
            self.is_repeated |= self.unknown.contains(&name);
            self.unknown.push(name);
        }
    }

    fn command(
        &self,
        message_bytes_max: usize,
        channels_max: usize,
    ) -> Result<Command<'b>, Refusal> {
        if self.is_repeated {
            return Err(REPEATED);
        }
        if self.reference.is_some_and(|raw| raw.parse::<u32>().is_err()) {
            return Err(BAD_REF);
        }
        match self.op.and_then(string).as_deref() {
            Some("subscribe") => self.subscribe(channels_max),
            Some("unsubscribe") => Ok(Command::Unsubscribe { channels: self.names(channels_max)? }),
            Some("publish") => self.publish(message_bytes_max),
            Some("ping") => self.ping(),
            _ => Err(BAD_OP),
        }
    }

    fn subscribe(&self, channels_max: usize) -> Result<Command<'b>, Refusal> {
        let channels = self.names(channels_max)?;
        let since_text = optional(self.since, SINCE_TYPE)?;
        let since = match &since_text {
            Some(text) => Some(Since::parse(text.as_bytes()).ok_or(BAD_SINCE)?),
            None => None,
        };
        let gap_live = match optional(self.gap, BAD_GAP)?.as_deref() {
            Some("live") => true,
            Some("retained") | None => false,
            Some(_) => return Err(BAD_GAP),
        };
        let presence = match self.presence {
            Some("true") => true,
            Some("false") | None => false,
            Some(_) => return Err(BAD_PRESENCE),
        };
        Ok(Command::Subscribe { channels, since, since_text, gap_live, presence })
    }

    fn publish(&self, message_bytes_max: usize) -> Result<Command<'b>, Refusal> {
        let (Some(raw), None) = (self.channel, self.channels) else { return Err(ONE_CHANNEL) };
        Ok(Command::Publish {
            channel: channel_name(raw)?,
            message: self.message(message_bytes_max)?,
        })
    }

    fn ping(&self) -> Result<Command<'b>, Refusal> {
        match self.t {
            Some(raw) if !raw.starts_with(|c: char| matches!(c, '"' | '-' | '0'..='9')) => {
                Err(BAD_T)
            }
            t => Ok(Command::Ping { t }),
        }
    }

    fn line(&self, message_bytes_max: usize) -> Result<Line<'b>, Refusal> {
        if self.is_repeated {
            return Err(REPEATED);
        }
        let targets = self.targets(LINE_CHANNELS_MAX)?;
        Ok(Line { targets, message: self.message(message_bytes_max)? })
    }

    /// `channel` or `channels`, every name checked.
    fn names(&self, channels_max: usize) -> Result<Vec<Cow<'b, str>>, Refusal> {
        match self.targets(channels_max)? {
            Targets::One(name) => Ok(vec![name]),
            Targets::Many(names) if names.iter().all(|n| message::is_channel(n.as_bytes())) => {
                Ok(names)
            }
            Targets::Many(_) => Err(BAD_CHANNEL),
        }
    }

    /// `channel`, checked, or `channels` as they are.
    fn targets(&self, channels_max: usize) -> Result<Targets<'b>, Refusal> {
        match (self.channel, self.channels) {
            (Some(raw), None) => channel_name(raw).map(Targets::One),
            (None, Some(raw)) => channel_names(raw, channels_max).map(Targets::Many),
            (Some(_), Some(_)) => Err(BOTH_CHANNELS),
            (None, None) => Err(NO_CHANNEL),
        }
    }

    fn message(&self, bytes_max: usize) -> Result<Message, Refusal> {
        let mut message = self.payload()?;
        let is_data = message.is_json;
        message.media_type = optional(self.media_type, BAD_TYPE)?.map(Arc::from);
        message.event = optional(self.event, BAD_EVENT)?.map(Arc::from);
        message.idempotency_key = optional(self.idempotency_key, BAD_KEY)?.map(Cow::into_owned);
        message.ttl_s = match self.ttl {
            Some(raw) => Some(whole_seconds(raw).ok_or(BAD_TTL)?),
            None => None,
        };
        message.check(bytes_max).map_err(|refusal| match refusal.code {
            // The frame or line is JSON: what its `type` promised is another matter.
            Code::BadJson => TEXT_TYPE,
            _ => refusal,
        })?;
        if is_data && message.media_type.as_deref().is_some_and(|t| !message::is_json_type(t)) {
            return Err(DATA_TYPE);
        }
        Ok(message)
    }

    fn payload(&self) -> Result<Message, Refusal> {
        match (self.data, self.text, self.b64) {
            (Some(raw), None, None) => {
                let mut payload = raw.as_bytes().to_vec();
                json::flatten(&mut payload);
                Ok(Message { payload, is_json: true, ..Message::default() })
            }
            (None, Some(raw), None) => Ok(Message::from(string(raw).ok_or(BAD_TEXT)?.into_owned())),
            (None, None, Some(raw)) => {
                let coded = string(raw).ok_or(BAD_B64)?;
                STANDARD.decode(coded.as_bytes()).map(Message::bytes).map_err(|_| BAD_B64)
            }
            _ => Err(ONE_PAYLOAD),
        }
    }
}

struct FieldsVisitor;

impl<'b> Visitor<'b> for FieldsVisitor {
    type Value = Fields<'b>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    // `RawValue` even for names: as `str` a lone surrogate in one would look like a syntax error.
    fn visit_map<A: MapAccess<'b>>(self, mut map: A) -> Result<Fields<'b>, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<&RawValue>()? {
            // Not an `Option`, for which `null` would be an absent value.
            let raw = map.next_value::<&RawValue>()?.get();
            if let Some(name) = string(name.get()) {
                fields.put(name, raw);
            }
        }
        Ok(fields)
    }
}

/// Reads a list of at most so many strings, and none that is empty.
struct NamesVisitor {
    max: usize,
}

impl<'b> Visitor<'b> for NamesVisitor {
    type Value = Vec<Cow<'b, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_seq<A: SeqAccess<'b>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            if names.len() == self.max {
                return Err(A::Error::custom("too many"));
            }
            names.push(name(raw.get()).ok_or_else(|| A::Error::custom("not a string"))?);
        }
        if names.is_empty() { Err(A::Error::custom("none")) } else { Ok(names) }
    }
}

/// What a JSON string says; `None` for any other value, and for one with a lone surrogate.
fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).ok().map(Cow::Owned)
}

/// The same for what has an alphabet: a lone surrogate reads as a character outside all of them.
fn name(raw: &str) -> Option<Cow<'_, str>> {
    string(raw).or_else(|| raw.starts_with('"').then_some(Cow::Borrowed("\u{fffd}")))
}

fn optional<'b>(raw: Option<&'b str>, refusal: Refusal) -> Result<Option<Cow<'b, str>>, Refusal> {
    match raw {
        Some(raw) => name(raw).map(Some).ok_or(refusal),
        None => Ok(None),
    }
}

fn channel_name(raw: &str) -> Result<Cow<'_, str>, Refusal> {
    let name = name(raw).ok_or(CHANNEL_TYPE)?;
    if message::is_channel(name.as_bytes()) { Ok(name) } else { Err(BAD_CHANNEL) }
}

fn channel_names(raw: &str, max: usize) -> Result<Vec<Cow<'_, str>>, Refusal> {
    let mut parser = serde_json::Deserializer::from_str(raw);
    parser.deserialize_seq(NamesVisitor { max }).map_err(|_| Refusal {
        code: Code::BadRequest,
        message: Cow::Owned(format!("channels is a list of 1 to {max} strings")),
        retry_ms: 0,
    })
}

/// A whole number, saturating. Fractions and exponents are none, with one exception: serializers
/// write whole numbers from 1e21 on with an exponent (ECMA-262 `Number::toString`), and these
/// saturate in any notation.
fn whole_seconds(raw: &str) -> Option<u64> {
    if raw.bytes().all(|b| b.is_ascii_digit()) {
        return Some(raw.parse().unwrap_or(u64::MAX));
    }
    exceeds_all_digits(raw).then_some(u64::MAX)
}

/// Whether this is a number with an exponent, 1e21 at least. `f64` could tell, but brings tables of
/// 10 KiB along.
fn exceeds_all_digits(raw: &str) -> bool {
    let Some((mantissa, exponent)) = raw.split_once(['e', 'E']) else { return false };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let are_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if ![whole, fraction, digits].into_iter().all(are_digits) {
        return false; // JSON, but negative or no number
    }
    let by = digits.bytes().fold(0_u64, |sum, b| {
        sum.saturating_mul(10).saturating_add(u64::from(b - b'0')).min(u64::from(u32::MAX))
    }) as i64;
    let by = if exponent.starts_with('-') { -by } else { by };
    // Where the first digit that counts stands: 0 for ones. RFC 8259 §6: none before it is 0.
    let places = if whole == "0" {
        let Some(zeros) = fraction.bytes().position(|b| b != b'0') else { return false };
        -1 - zeros as i64
    } else {
        whole.len() as i64 - 1
    };
    places + by >= 21
}

/// How many unknown names are kept to notice a repeated one.
const UNKNOWN_MAX: usize = 32;

const REPEATED: Refusal = bad_request("the object has the same name twice");
const BAD_OP: Refusal = bad_request("op is one of subscribe, unsubscribe, publish, ping");
const BAD_REF: Refusal = bad_request("ref is a whole number from 0 to 4294967295");
const NO_CHANNEL: Refusal = bad_request("name a channel, or a list of channels");
const BOTH_CHANNELS: Refusal = bad_request("give either channel or channels, not both");
const ONE_CHANNEL: Refusal = bad_request("publish takes exactly one channel, and no channels");
const CHANNEL_TYPE: Refusal = bad_request("channel is a string");
const SINCE_TYPE: Refusal = bad_request("since is a string");
pub(crate) const BAD_SINCE: Refusal = Refusal::new(
    Code::BadSince,
    "since is a cursor, earliest, latest, a duration such as 10m, or ten digits of unix seconds",
);
const BAD_GAP: Refusal = bad_request("gap is live, or retained for what is kept");
const BAD_PRESENCE: Refusal = bad_request("presence is true or false");
const BAD_T: Refusal = bad_request("t is a number or a string");
const ONE_PAYLOAD: Refusal = bad_request("give exactly one of data, text, b64");
const BAD_TEXT: Refusal = bad_request("text is a string of Unicode characters");
const BAD_B64: Refusal = bad_request("b64 is a string of standard base64 with padding");
const DATA_TYPE: Refusal = bad_request("data is JSON: its type is application/json or ends +json");
const TEXT_TYPE: Refusal =
    bad_request("the type promises JSON, but the payload is none, or nests deeper than 32 levels");

const fn bad_request(message: &'static str) -> Refusal {
    Refusal::new(Code::BadRequest, message)
}

#[doc(hidden)]
pub use fuzz::fuzz_command;

#[path = "command_fuzz.rs"]
mod fuzz;
#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
