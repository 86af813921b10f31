//! What a publisher gives ([`Message`]) and what the order keeps of it ([`Publication`]).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::code::{Code, Refusal};
use crate::json;

/// Longest channel name, in bytes.
pub const CHANNEL_BYTES_MAX: usize = 255;
/// Longest event name, in bytes.
pub const EVENT_BYTES_MAX: usize = 64;
/// Longest media type, in bytes.
pub const MEDIA_TYPE_BYTES_MAX: usize = 255;
/// Longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 128;

/// The alphabet of channel names, for the answer to a name outside it.
pub const CHANNEL_RULE: &str = "a channel name is 1 to 255 of A-Z a-z 0-9 _ . ~ : - and begins with \
                                a letter or digit";

/// Whether `name` may name a channel.
#[must_use]
pub fn is_channel(name: &[u8]) -> bool {
    name.len() <= CHANNEL_BYTES_MAX
        && name.first().is_some_and(u8::is_ascii_alphanumeric)
        && name.iter().all(|b| CHANNEL_BYTES[usize::from(*b)])
}

/// Whether `text` may stand in the name of a channel.
#[must_use]
pub fn is_in_channel(text: &[u8]) -> bool {
    text.len() <= CHANNEL_BYTES_MAX && text.iter().all(|b| CHANNEL_BYTES[usize::from(*b)])
}

/// What a channel name is made of.
static CHANNEL_BYTES: [bool; 256] = {
    let mut set = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        set[byte] = b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'~' | b':' | b'-');
        byte += 1;
    }
    set
};

/// Whether `name` may name an event: visible ASCII, none of the names that clients give a meaning.
#[must_use]
pub fn is_event(name: &[u8]) -> bool {
    (1..=EVENT_BYTES_MAX).contains(&name.len())
        && name.iter().all(u8::is_ascii_graphic)
        && !matches!(name, b"open" | b"error" | b"binary")
        && !name.starts_with(b"holdline-")
}

/// Whether `key` may be an idempotency key: visible ASCII.
#[must_use]
pub fn is_idempotency_key(key: &[u8]) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic)
}

/// Whether `media_type` can be one: printable ASCII.
#[must_use]
pub fn is_media_type(media_type: &[u8]) -> bool {
    (1..=MEDIA_TYPE_BYTES_MAX).contains(&media_type.len())
        && media_type.iter().all(|b| (b' '..=b'~').contains(b))
}

/// Whether a media type promises JSON: `application/json` or `+json` (RFC 6839 §3.1).
#[must_use]
pub fn is_json_type(media_type: &str) -> bool {
    let essence = essence(media_type.as_bytes());
    essence.eq_ignore_ascii_case(b"application/json")
        || essence.last_chunk().is_some_and(|tail: &[u8; 5]| tail.eq_ignore_ascii_case(b"+json"))
}

/// Whether all of it is UTF-8. Most text is ASCII, which is seen sooner than it is read.
#[inline]
pub(crate) fn is_utf8(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
}

/// A media type without its parameters.
pub(crate) fn essence(media_type: &[u8]) -> &[u8] {
    let end = media_type.iter().position(|b| *b == b';').unwrap_or(media_type.len());
    media_type[..end].trim_ascii()
}

/// What a publisher gives: a payload, and how to treat it.
///
/// ```
/// use std::time::Duration;
/// use holdline::Message;
///
/// let plain = Message::from("hello");
/// let tick = Message::json(br#"{"t":1}"#)?.event("tick").ttl(Duration::from_secs(5));
/// # Ok::<(), holdline::Refusal>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub(crate) payload: Vec<u8>,
    pub(crate) is_json: bool,
    /// Shared with the messages that come with the same head.
    pub(crate) media_type: Option<Arc<str>>,
    pub(crate) event: Option<Arc<str>>,
    pub(crate) ttl_s: Option<u64>,
    pub(crate) idempotency_key: Option<String>,
}

impl Message {
    /// Any bytes. Clients see text where they are UTF-8, else base64.
    #[must_use]
    pub fn bytes(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// One JSON value, at most 32 levels deep; its bytes are kept as they are, but on one line.
    ///
    /// # Errors
    /// `bad_json` if it is none.
    pub fn json(payload: impl Into<Vec<u8>>) -> Result<Self, Refusal> {
        let mut payload = payload.into();
        if !json::is_valid(&payload) {
            return Err(BAD_JSON);
        }
        json::flatten(&mut payload);
        Ok(Self { payload, is_json: true, ..Self::default() })
    }

    /// The event's name: 1 to 64 of visible ASCII; not `open`, `error`, `binary`, `holdline-…`.
    #[must_use]
    pub fn event(mut self, name: impl Into<String>) -> Self {
        self.event = Some(name.into().into());
        self
    }

    /// The media type of the payload. One that promises JSON is held to it when publishing.
    #[must_use]
    pub fn media_type(mut self, media_type: impl Into<String>) -> Self {
        self.media_type = Some(media_type.into().into());
        self
    }

    /// How long the message may be replayed, in whole seconds, rounded up; zero: only for those who
    /// listen now (as the TTL of RFC 8030 §5.2). It never prolongs what history keeps.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        let whole = ttl.as_secs();
        self.ttl_s = Some(whole.saturating_add(u64::from(ttl.subsec_nanos() > 0)));
        self
    }

    /// A key of 1 to 128 visible ASCII: the same key on the same channel within
    /// [`idempotency_window`](crate::Config#structfield.idempotency_window) is the same publication.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Checks every field, and makes the payload JSON where the media type promises it.
    pub(crate) fn check(&mut self, bytes_max: usize) -> Result<(), Refusal> {
        if self.payload.len() > bytes_max {
            return Err(TOO_LARGE);
        }
        if self.event.as_ref().is_some_and(|e| !is_event(e.as_bytes())) {
            return Err(BAD_EVENT);
        }
        if self.idempotency_key.as_ref().is_some_and(|k| !is_idempotency_key(k.as_bytes())) {
            return Err(BAD_KEY);
        }
        if self.media_type.as_ref().is_some_and(|t| !is_media_type(t.as_bytes())) {
            return Err(BAD_TYPE);
        }
        self.keep_promise()
    }

    /// Makes the payload JSON where the media type promises it.
    pub(crate) fn keep_promise(&mut self) -> Result<(), Refusal> {
        if self.is_json || !self.promises_json() {
            return Ok(());
        }
        self.make_json()
    }

    /// Whether the media type promises JSON.
    pub(crate) fn promises_json(&self) -> bool {
        self.media_type.as_deref().is_some_and(is_json_type)
    }

    /// Makes the payload JSON, if it is.
    pub(crate) fn make_json(&mut self) -> Result<(), Refusal> {
        if !json::is_valid(&self.payload) {
            return Err(BAD_JSON);
        }
        json::flatten(&mut self.payload);
        self.is_json = true;
        Ok(())
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::bytes(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::bytes(text)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::bytes(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

pub(crate) const BAD_JSON: Refusal =
    Refusal::new(Code::BadJson, "the payload is not JSON, or nests deeper than 32 levels");
pub(crate) const TOO_LARGE: Refusal =
    Refusal::new(Code::TooLarge, "the payload is larger than this server takes in one message");
pub(crate) const BAD_EVENT: Refusal = Refusal::new(
    Code::BadRequest,
    "an event name is 1 to 64 visible ASCII characters, not open, error, binary or holdline-…",
);
pub(crate) const BAD_KEY: Refusal =
    Refusal::new(Code::BadRequest, "an idempotency key is 1 to 128 visible ASCII characters");
pub(crate) const BAD_TYPE: Refusal =
    Refusal::new(Code::BadRequest, "a media type is 1 to 255 printable ASCII characters");
pub(crate) const BAD_TTL: Refusal =
    Refusal::new(Code::BadRequest, "a TTL is a whole number of seconds, 0 or more");
pub(crate) const BAD_CHANNEL: Refusal = Refusal::new(Code::BadChannel, CHANNEL_RULE);
pub(crate) const CLOSED: Refusal = Refusal::new(Code::Draining, "the server has ended");

/// How a payload goes into an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Published as JSON: `data`.
    Data,
    /// UTF-8: `text`.
    Text,
    /// Anything else: `b64`.
    Binary,
}

/// What `bytes` of heap really take: an allocator has a word of its own and rounds up.
pub(crate) const fn on_heap(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + size_of::<usize>()).next_multiple_of(16) }
}

/// What a hash map with room for `capacity` entries takes: a power of two of places, seven of eight in
/// use, each with a byte of its own.
pub(crate) const fn map_bytes(capacity: usize, entry: usize) -> usize {
    if capacity == 0 {
        return 0;
    }
    // Four at least, whatever it was asked for.
    let places = (capacity * 8).div_ceil(7).next_power_of_two();
    (if places < 4 { 4 } else { places }) * (entry + 1)
}

/// The bytes that peers make the process hold: one for the order and all its loops.
#[derive(Debug, Default)]
pub struct Budget {
    /// Of publications, from allocation to drop.
    used: AtomicUsize,
    /// Of the order's tables.
    pub(crate) tables: AtomicUsize,
    /// Of connections, on all loops.
    pub(crate) connections: AtomicUsize,
}

impl Budget {
    /// Bytes of publications held now, pinned ones included.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes of the order's channels, keys and indexes.
    #[must_use]
    pub fn tables(&self) -> usize {
        self.tables.load(Ordering::Relaxed)
    }

    /// Bytes that connections hold.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> usize {
        self.used() + self.tables() + self.connections()
    }
}

/// A message with its place in the order. Never changes; shared by everyone who owes it to somebody.
pub struct Publication {
    pub(crate) seq: u64,
    pub(crate) time_ms: u64,
    /// Unix ms after which it is not replayed; `u64::MAX` without a ttl, 0 for "never".
    pub(crate) expires_ms: u64,
    pub(crate) form: Form,
    pub(crate) channel: Arc<str>,
    pub(crate) media_type: Option<Arc<str>>,
    pub(crate) event: Option<Arc<str>>,
    pub(crate) payload: Box<[u8]>,
    budget: Arc<Budget>,
}

impl Publication {
    /// Gives a checked message its place.
    pub(crate) fn new(
        message: Message,
        channel: Arc<str>,
        seq: u64,
        time_ms: u64,
        budget: &Arc<Budget>,
    ) -> Self {
        let form = if message.is_json {
            Form::Data
        } else if is_utf8(&message.payload) {
            Form::Text
        } else {
            Form::Binary
        };
        let publication = Self {
            seq,
            time_ms,
            expires_ms: expiry(message.ttl_s, time_ms),
            form,
            channel,
            media_type: message.media_type,
            event: message.event,
            payload: message.payload.into_boxed_slice(),
            budget: Arc::clone(budget),
        };
        budget.used.fetch_add(publication.weight(), Ordering::Relaxed);
        publication
    }

    /// Its place in the order; with the epoch it is its id.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &Arc<str> {
        &self.channel
    }

    /// The payload, as it was published.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// How clients see the payload: as JSON, as text, or as base64.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The media type, if the publisher gave one.
    #[must_use]
    pub fn media_type(&self) -> Option<&str> {
        self.media_type.as_deref()
    }

    /// The event's name, if the publisher gave one.
    #[must_use]
    pub fn event(&self) -> Option<&str> {
        self.event.as_deref()
    }

    /// When it was published: milliseconds since the Unix epoch.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// The bytes it counts for: its fields, its payload, and what an allocator adds to these. Its
    /// places in rings and indexes are counted by who has them.
    pub(crate) fn weight(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |t| t.len() + TEXT_BYTES);
        size_of::<Self>() + 64 + self.payload.len() + text(&self.media_type) + text(&self.event)
    }

    /// What a message of this size will weigh, before it is made.
    pub(crate) fn weight_of(message: &Message) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |t| t.len() + TEXT_BYTES);
        let texts = text(&message.media_type) + text(&message.event);
        size_of::<Self>() + 64 + message.payload.len() + texts
    }

    /// Whether it is only for those who listen when it is published.
    pub(crate) fn is_passing(&self) -> bool {
        self.expires_ms == 0
    }

    /// Whether its publisher's ttl is over.
    pub(crate) fn is_expired(&self, unix_ms: u64) -> bool {
        self.expires_ms <= unix_ms
    }

    /// The media type that an HTTP answer or a meta frame states.
    pub(crate) fn stated_type(&self) -> Option<Cow<'_, str>> {
        match (&self.media_type, self.form) {
            (Some(given), _) => Some(Cow::Borrowed(given)),
            (None, Form::Data) => Some(Cow::Borrowed("application/json")),
            (None, Form::Text | Form::Binary) => None,
        }
    }
}

/// What an allocator and the counts of who has it add to a text, at most.
const TEXT_BYTES: usize = 48;

fn expiry(ttl_s: Option<u64>, time_ms: u64) -> u64 {
    match ttl_s {
        None => u64::MAX,
        Some(0) => 0,
        Some(seconds) => time_ms.saturating_add(seconds.saturating_mul(1000)),
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.weight(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("seq", &self.seq)
            .field("channel", &self.channel)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_names_follow_the_alphabet() {
        for good in ["a", "0", "sensors.kitchen.temp", "A_b~c:d-e", &"x".repeat(255)] {
            assert!(is_channel(good.as_bytes()), "{good}");
        }
        for bad in ["", "_a", ".a", "-a", "~a", "a/b", "a b", "ä", "a%", &"x".repeat(256)] {
            assert!(!is_channel(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn event_names_exclude_what_clients_give_a_meaning() {
        for good in ["tick", "!", "~", "holdline", "message", &"e".repeat(64)] {
            assert!(is_event(good.as_bytes()), "{good}");
        }
        for bad in ["", "open", "error", "binary", "holdline-gap", "a b", "a\n", &"e".repeat(65)] {
            assert!(!is_event(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn json_types_are_recognised() {
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/ld+json"] {
            assert!(is_json_type(json), "{json}");
        }
        for other in ["text/plain", "application/jsonp", "json", "application/x-ndjson", "é"] {
            assert!(!is_json_type(other), "{other}");
        }
    }

    #[test]
    fn a_json_type_must_hold_its_promise() {
        let mut good = Message::bytes("[1,\n2]").media_type("application/json");
        assert_eq!(good.check(100), Ok(()));
        assert_eq!((good.is_json, &good.payload[..]), (true, &b"[1, 2]"[..]));
        let mut bad = Message::bytes("[1,").media_type("application/problem+json");
        assert_eq!(bad.check(100), Err(BAD_JSON));
    }

    #[test]
    fn a_budget_counts_from_allocation_to_drop() {
        let budget = Arc::new(Budget::default());
        let publication = Publication::new("hello".into(), "a".into(), 1, 0, &budget);
        assert_eq!(budget.used(), publication.weight());
        drop(publication);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_ttl_rounds_up_and_saturates() {
        assert_eq!(Message::from("").ttl(Duration::from_millis(1)).ttl_s, Some(1));
        assert_eq!(Message::from("").ttl(Duration::ZERO).ttl_s, Some(0));
        assert_eq!(expiry(Some(u64::MAX), 5), u64::MAX);
    }
}
