//! HTTP answers: one way to write them, one way to refuse.

use super::core::Core;
use super::response::BadResponse;
use super::slot::Flags;
use crate::code::{Code, Refusal};
use crate::conn::Answering;
use crate::json;
use crate::wire::http::response::{ResponseHead, write_head};

/// What a client is told of an answer that the application should not have given.
const BAD_RESPONSE: &[u8] =
    b"{\"error\":\"internal\",\"message\":\"the application's answer cannot be sent: its log says why\"}";

/// One whole answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    /// `None`: no body.
    pub(crate) content_type: Option<&'a str>,
    pub(crate) body: &'a [u8],
    pub(crate) extra: &'a [u8],
    pub(crate) vary: &'static str,
    pub(crate) cache_control: &'static str,
    /// `extra` says which origin may read it.
    pub(crate) has_allow_origin: bool,
    /// The connection ends, whatever the request wanted.
    pub(crate) close: bool,
}

impl Default for Reply<'_> {
    fn default() -> Self {
        Self {
            status: 200,
            content_type: None,
            body: b"",
            extra: b"",
            vary: "Origin",
            cache_control: "no-store",
            has_allow_origin: false,
            close: false,
        }
    }
}

impl<'a> Reply<'a> {
    pub(crate) fn json(status: u16, body: &'a [u8]) -> Self {
        Self { status, content_type: Some("application/json"), body, ..Self::default() }
    }
}

/// Why a request is refused, and what goes with it.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) extra: &'static str,
    pub(crate) close: bool,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        // After an error of framing, time or size the rest of the input has no meaning.
        let close = matches!(
            refusal.code,
            Code::Timeout
                | Code::LengthRequired
                | Code::TooLarge
                | Code::UriTooLong
                | Code::Expectation
                | Code::HeadersTooLarge
                | Code::NotImplemented
                | Code::Version
        );
        Self { refusal, extra: "", close }
    }
}

impl Refused {
    pub(crate) const fn with(code: Code, message: &'static str, extra: &'static str) -> Self {
        Self { refusal: Refusal::new(code, message), extra, close: false }
    }

    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}

/// Appends the error object of HTTP.
pub(crate) fn write_error(out: &mut Vec<u8>, refusal: &Refusal) {
    out.extend_from_slice(b"{\"error\":\"");
    write_refusal(out, refusal);
    out.push(b'}');
}

/// Appends a refusal's name, whose quote is open, and its sentence.
pub(crate) fn write_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    out.extend_from_slice(refusal.code.name().as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    json::write_string(out, &refusal.message);
}

impl Core {
    /// Writes an answer and moves on to the next request or the end.
    pub(crate) fn respond(&mut self, index: u32, answering: &Answering, reply: &Reply<'_>) {
        let keep = self.may_keep(index, answering) && !reply.close;
        let date = self.date();
        self.reply_inlined(index, |out| write_response(out, answering, reply, keep, &date));
        self.after_response(index, keep);
    }

    /// Whether a connection may take another request after this answer.
    pub(crate) fn may_keep(&self, index: u32, answering: &Answering) -> bool {
        let last = self.slots.get(index).is_none_or(|slot| slot.flags.has(Flags::LAST));
        answering.keep_alive && !last && !self.draining
    }

    pub(crate) fn write_response(
        &mut self,
        out: &mut Vec<u8>,
        answering: &Answering,
        reply: &Reply<'_>,
        keep: bool,
    ) {
        let date = self.date();
        write_response(out, answering, reply, keep, &date);
    }

    /// Counts a refusal. That a limit was reached, or that a flag would help, is worth a line in the
    /// log, once a minute.
    pub(crate) fn note_refusal(&mut self, refusal: &Refusal) {
        self.stats.rejected.count(refusal.code);
        let is_worth_it = matches!(
            refusal.code,
            Code::Host
                | Code::Origin
                | Code::Timeout
                | Code::TooLarge
                | Code::UriTooLong
                | Code::HeadersTooLarge
                | Code::RateLimited
                | Code::Overloaded
        );
        if is_worth_it {
            self.notices.note("a request was refused", &refusal.message, self.now);
        }
    }

    /// Answers for an application whose own answer cannot be sent.
    pub(crate) fn answer_bad_response(&mut self, index: u32, to: &Answering, bad: &BadResponse) {
        let why = bad.to_string();
        self.notices.note("an answer of the application was not sent", &why, self.now);
        self.respond(index, to, &Reply::json(500, BAD_RESPONSE));
    }

    /// Refuses a request with its status, a name and a sentence.
    pub(crate) fn refuse(&mut self, index: u32, answering: &Answering, refused: &Refused) {
        let code = refused.refusal.code;
        self.note_refusal(&refused.refusal);
        let mut body = Vec::with_capacity(96);
        write_error(&mut body, &refused.refusal);
        let mut extra = refused.extra.to_owned();
        if matches!(code, Code::Overloaded | Code::Draining | Code::RateLimited) {
            let after_s = match refused.refusal.retry_ms {
                0 => self.rng.u32(1..=5),
                ms => ms.div_ceil(1000),
            };
            extra.push_str(&format!("Retry-After: {after_s}\r\n"));
        }
        let reply = Reply {
            extra: extra.as_bytes(),
            close: refused.close,
            ..Reply::json(code.status(), &body)
        };
        self.respond(index, answering, &reply);
    }
}

fn write_response(
    out: &mut Vec<u8>,
    answering: &Answering,
    reply: &Reply<'_>,
    keep: bool,
    date: &[u8],
) {
    // RFC 9110 §6.4.1, §8.6: neither a body nor a length with 204 and 304 (or 1xx).
    let has_length = !matches!(reply.status, 204 | 304) && reply.status >= 200;
    // What the body would have been is not always known to a HEAD.
    let says_length = has_length && !(answering.head_only && reply.body.is_empty());
    let head = ResponseHead {
        date,
        content_type: reply.content_type,
        content_length: says_length.then_some(reply.body.len() as u64),
        extra: reply.extra,
        close: !keep,
        say_keep_alive: answering.is_http10,
        allow_origin: answering.origin.as_deref().filter(|_| !reply.has_allow_origin),
        vary: reply.vary,
        cache_control: reply.cache_control,
    };
    write_head(out, reply.status, &head);
    if !answering.head_only && has_length {
        out.extend_from_slice(reply.body);
    }
}
