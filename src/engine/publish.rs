//! Publishing over HTTP: one message a request, or many lines.

use super::Engine;
use super::app::{Action, Request};
use super::core::Core;
use super::reply::{Refused, Reply, write_error};
use super::request::{Asked, Next};
use super::routes::Plan;
use super::template::given_type;
use crate::code::{Code, Refusal};
use crate::conn::Answering;
use crate::hub::Published;
use crate::json;
use crate::message::{self, BAD_CHANNEL, Message};
use crate::wire::command::{self, Fault, Line, Targets};

const CODED: Refused = Refused::with(
    Code::MediaType,
    "bodies are taken as they are: send no Content-Encoding",
    "Accept: */*\r\nAccept-Encoding: identity\r\n",
);
const NOT_A_BATCH: Refused = Refused::with(
    Code::MediaType,
    "send application/x-ndjson, a message a line, or application/json, one message",
    "Accept: application/x-ndjson, application/json\r\n",
);
const TOO_MANY_LINES: Refusal =
    Refusal::new(Code::TooLarge, "at most 1000 lines and 1 MiB in one request");
const TOO_MANY_TARGETS: Refusal =
    Refusal::new(Code::TooLarge, "too many channels in one request: publish to them in several");
const NOT_JSON: Refusal =
    Refusal::new(Code::BadJson, "this is not JSON, or nests deeper than 32 levels");
const NOT_OBJECT: Refusal =
    Refusal::new(Code::BadRequest, "a message is one JSON object with a channel and data or text");

impl Engine {
    /// `POST /channels/{name}`: the body is the message.
    pub(crate) fn on_publish(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        answering: &Answering,
        plan: &Plan<'_>,
    ) -> Result<(), Next> {
        let (channel, template) = (&plan.options.channels[0], &plan.template);
        if !asked.authorized {
            let request = asked.without_body();
            self.authorize(index, Action::Publish { channel, request: Some(&request) })?;
            self.core.admit_publish(index, channel)?;
        }
        if asked.parsed.content_encoding.is_some() {
            return Err(CODED.into());
        }
        let max = self.core.config.message_bytes_max;
        let Some(payload) = self.read_body(index, asked, max)? else { return Ok(()) };
        let mut message = Message { payload: payload.to_vec(), ..template.message.clone() };
        if template.promises_json {
            message.make_json()?; // all else has been looked at
        }
        let published = self.core.publish(channel, message)?;
        let mut body = std::mem::take(&mut self.core.body);
        body.clear();
        write_published(&mut body, channel, &published);
        let status = if published.subscribers > 0 { 201 } else { 202 };
        self.core.respond(index, answering, &Reply::json(status, &body));
        self.core.body = body;
        Ok(())
    }

    /// `POST /publish`: JSON lines, or one JSON object.
    pub(crate) fn on_batch(
        &mut self,
        index: u32,
        asked: &Asked<'_>,
        answering: &Answering,
    ) -> Result<(), Next> {
        if asked.parsed.content_encoding.is_some() {
            return Err(CODED.into());
        }
        let is_lines = match given_type(asked.head, asked.parsed) {
            None => true,
            Some(given) => match message::essence(given) {
                essence if essence.eq_ignore_ascii_case(b"application/x-ndjson") => true,
                essence if essence.eq_ignore_ascii_case(b"application/json") => false,
                _ => return Err(NOT_A_BATCH.into()),
            },
        };
        let max = self.core.config.batch_bytes_max;
        let Some(body) = self.read_body(index, asked, max)? else { return Ok(()) };
        let request = asked.without_body();
        if is_lines {
            self.publish_lines(index, answering, &request, body)
        } else {
            self.publish_object(index, answering, &request, body)
        }
    }

    fn publish_lines(
        &mut self,
        index: u32,
        answering: &Answering,
        request: &Request<'_>,
        body: &[u8],
    ) -> Result<(), Next> {
        let lines: Vec<&[u8]> = body
            .split(|b| *b == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty())
            .collect();
        if lines.len() > self.core.config.batch_lines_max {
            return Err(TOO_MANY_LINES.into());
        }
        let max = self.core.config.message_bytes_max;
        let parsed: Vec<_> = lines.iter().map(|line| command::parse_line(line, max)).collect();
        let targets = |line: &Result<Line<'_>, Fault>| match line {
            Ok(Line { targets: Targets::Many(channels), .. }) => channels.len(),
            Ok(_) | Err(_) => 1,
        };
        // Each has an answer of its own, and all of them are one body.
        if parsed.iter().map(targets).sum::<usize>() > self.core.config.batch_targets_max {
            return Err(TOO_MANY_TARGETS.into());
        }
        // All questions come before the first effect.
        let mut allowed = Vec::with_capacity(parsed.len());
        for line in &parsed {
            allowed.push(self.authorize_line(index, request, line)?);
        }
        let mut out = Vec::with_capacity(lines.len() * 96);
        for (line, allowed) in parsed.into_iter().zip(allowed) {
            if let Err(refusal) = self.core.publish_line(index, line, &allowed, &mut out) {
                self.core.note_refusal(&refusal);
            }
            out.push(b'\n');
        }
        let content_type = Some("application/x-ndjson");
        self.core.respond(index, answering, &Reply { content_type, ..Reply::json(200, &out) });
        Ok(())
    }

    fn publish_object(
        &mut self,
        index: u32,
        answering: &Answering,
        request: &Request<'_>,
        body: &[u8],
    ) -> Result<(), Next> {
        let line = command::parse_line(body, self.core.config.message_bytes_max);
        let allowed = self.authorize_line(index, request, &line)?;
        if let (Ok(Line { targets: Targets::One(_), .. }), [Some(refusal)]) = (&line, &allowed[..])
        {
            return Err(refusal.clone().into());
        }
        let mut out = Vec::with_capacity(128);
        let subscribers = self.core.publish_line(index, line, &allowed, &mut out)?;
        let status = if subscribers > 0 { 201 } else { 202 };
        self.core.respond(index, answering, &Reply::json(status, &out));
        Ok(())
    }

    /// For each target of a line, why it may not be published to.
    fn authorize_line(
        &mut self,
        index: u32,
        request: &Request<'_>,
        line: &Result<Line<'_>, Fault>,
    ) -> Result<Vec<Option<Refusal>>, Next> {
        let Ok(line) = line else { return Ok(Vec::new()) };
        let targets = match &line.targets {
            Targets::One(channel) => std::slice::from_ref(channel),
            Targets::Many(channels) => channels,
        };
        let mut allowed = Vec::with_capacity(targets.len());
        for channel in targets {
            if !message::is_channel(channel.as_bytes()) {
                allowed.push(Some(BAD_CHANNEL));
                continue;
            }
            match self.authorize(index, Action::Publish { channel, request: Some(request) }) {
                Ok(()) => allowed.push(None),
                Err(Next::Refuse(refused)) => allowed.push(Some(refused.refusal)),
                Err(next) => return Err(next),
            }
        }
        Ok(allowed)
    }
}

impl Core {
    /// Publishes one line and writes its answer; returns the most subscribers of its channels, or
    /// why there is no publication at all (which is written too, and counted by the caller).
    fn publish_line(
        &mut self,
        index: u32,
        line: Result<Line<'_>, Fault>,
        refusals: &[Option<Refusal>],
        out: &mut Vec<u8>,
    ) -> Result<u32, Refusal> {
        let line = match line {
            Ok(line) => line,
            Err(fault) => {
                let refusal = fault_refusal(fault);
                write_line_error(out, &refusal);
                return Err(refusal);
            }
        };
        match line.targets {
            Targets::One(channel) => {
                let refusal = refusals.first().cloned().flatten();
                self.publish_target(index, &channel, line.message, refusal, out)
            }
            Targets::Many(channels) => {
                out.extend_from_slice(b"{\"results\":[");
                let (mut most, mut refused) = (None, None);
                for (number, channel) in channels.iter().enumerate() {
                    if number > 0 {
                        out.push(b',');
                    }
                    let refusal = refusals.get(number).cloned().flatten();
                    let message = line.message.clone();
                    match self.publish_target(index, channel, message, refusal, out) {
                        Ok(subscribers) => most = most.max(Some(subscribers)),
                        Err(refusal) => {
                            if let Some(earlier) = refused.replace(refusal) {
                                self.note_refusal(&earlier);
                            }
                        }
                    }
                }
                out.extend_from_slice(b"]}");
                let is_later = |r: &Refusal| matches!(r.code, Code::RateLimited | Code::Overloaded);
                match (most, refused) {
                    // Nothing has been taken, and all of it may be sent again.
                    (None, Some(refusal)) if is_later(&refusal) => Err(refusal),
                    (most, refused) => {
                        refused.iter().for_each(|refusal| self.note_refusal(refusal));
                        Ok(most.unwrap_or(0))
                    }
                }
            }
        }
    }

    fn publish_target(
        &mut self,
        index: u32,
        channel: &str,
        message: Message,
        refusal: Option<Refusal>,
        out: &mut Vec<u8>,
    ) -> Result<u32, Refusal> {
        let done = match refusal {
            Some(refusal) => Err(self.admit_failure(index, refusal)),
            None => match self.admit_publish(index, channel) {
                Ok(()) => self.publish(channel, message),
                Err(refusal) => Err(refusal),
            },
        };
        match done {
            Ok(published) => {
                write_published(out, channel, &published);
                Ok(published.subscribers)
            }
            Err(refusal) => {
                write_line_error(out, &refusal);
                Err(refusal)
            }
        }
    }
}

/// A line has no header that could say when to try again.
fn write_line_error(out: &mut Vec<u8>, refusal: &Refusal) {
    write_error(out, refusal);
    if refusal.retry_ms > 0 {
        out.pop();
        out.extend_from_slice(b",\"retry_ms\":");
        json::write_number(out, u64::from(refusal.retry_ms));
        out.push(b'}');
    }
}

/// What a command or line that could not be read is answered.
pub(crate) fn fault_refusal(fault: Fault) -> Refusal {
    match fault {
        Fault::NotJson => NOT_JSON,
        Fault::NotObject => NOT_OBJECT,
        Fault::Refused(refusal) => refusal,
    }
}

fn write_published(out: &mut Vec<u8>, channel: &str, published: &Published) {
    out.extend_from_slice(b"{\"id\":\"");
    published.id.write(out);
    out.extend_from_slice(b"\",\"channel\":\"");
    out.extend_from_slice(channel.as_bytes()); // nothing in a name is to be escaped
    out.extend_from_slice(b"\",\"subscribers\":");
    json::write_number(out, u64::from(published.subscribers));
    out.push(b'}');
}
