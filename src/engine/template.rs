//! What a request to publish says of its message: all but the payload.

use std::sync::Arc;

use super::query::{Options, saturating_digits};
use crate::code::{Code, Refusal};
use crate::message::{self, BAD_EVENT, BAD_KEY, BAD_TTL, BAD_TYPE, Message};
use crate::wire::http::{Head, Span};

/// A message whose payload is still missing. Those of requests that say the same share its texts.
#[derive(Debug, Default)]
pub(crate) struct Template {
    pub(crate) message: Message,
    /// Its media type promises JSON.
    pub(crate) promises_json: bool,
}

impl Template {
    /// Reads it. Headers win over the query.
    pub(crate) fn read(head: &[u8], parsed: &Head, options: &Options<'_>) -> Result<Self, Refusal> {
        let header = |span: Option<Span>| span.map(|span| span.of(head));
        let from_query = |refusal: Refusal| Refusal { code: Code::BadQuery, ..refusal };
        let mut message = Message::default();
        message.event = match (header(parsed.event), &options.event) {
            (Some(event), _) if message::is_event(event) => Some(text(event, &BAD_EVENT)?.into()),
            (Some(_), _) => return Err(BAD_EVENT),
            (None, Some(event)) if message::is_event(event.as_bytes()) => Some((**event).into()),
            (None, Some(_)) => return Err(from_query(BAD_EVENT)),
            (None, None) => None,
        };
        message.ttl_s = match header(parsed.ttl) {
            Some(ttl) => Some(saturating_digits(ttl).ok_or(BAD_TTL)?),
            None => options.ttl_s,
        };
        message.idempotency_key = match (header(parsed.idempotency_key), &options.idempotency_key) {
            (Some(key), _) if message::is_idempotency_key(key) => {
                Some(text(key, &BAD_KEY)?.to_owned())
            }
            (Some(_), _) => return Err(BAD_KEY),
            (None, Some(key)) if message::is_idempotency_key(key.as_bytes()) => {
                Some(key.to_string())
            }
            (None, Some(_)) => return Err(from_query(BAD_KEY)),
            (None, None) => None,
        };
        message.media_type = match given_type(head, parsed) {
            Some(given) if message::is_media_type(given) => {
                Some(Arc::from(text(given, &BAD_TYPE)?))
            }
            Some(_) => return Err(BAD_TYPE),
            None => None,
        };
        let promises_json = message.promises_json();
        Ok(Self { message, promises_json })
    }
}

fn text<'b>(bytes: &'b [u8], bad: &Refusal) -> Result<&'b str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| bad.clone())
}

/// The media type that the publisher meant: what curl sends by itself counts as none.
pub(crate) fn given_type<'b>(head: &'b [u8], parsed: &Head) -> Option<&'b [u8]> {
    let given = parsed.content_type?.of(head);
    let essence = message::essence(given);
    let is_form = essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded");
    (!given.is_empty() && !is_form).then_some(given)
}
