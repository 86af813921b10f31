//! Requests: a head is scanned as it arrives and parsed once; a body is collected up to what the
//! layer above allows.

use super::{ConnLimits, Event, Step};
use crate::message::on_heap;
use crate::time::Stamp;
use crate::wire::http::{self, BodyStep, Framing, Head, HeadScan, Version};

/// A request as it lies in the receive buffer.
#[derive(Debug)]
pub struct Request<'b> {
    /// The bytes of the head, its empty line included.
    pub head: &'b [u8],
    /// Where in them is what.
    pub parsed: &'b Head,
    /// The body, if there is one and all of it is here. Else it follows, or there is none.
    pub body: Option<&'b [u8]>,
}

/// A request whose body is on its way.
#[derive(Debug)]
pub struct Body {
    /// The bytes of the head.
    pub head: Vec<u8>,
    /// Where in them is what.
    pub parsed: Head,
    /// What has come.
    pub bytes: Vec<u8>,
    /// When the head was complete.
    pub since: Stamp,
    /// Whether `who may` has been answered with yes.
    pub authorized: bool,
    decoder: http::Body,
    bytes_max: usize,
}

/// How the response to a request is to be written.
#[derive(Clone, Debug, Default)]
pub struct Answering {
    /// Only the head.
    pub head_only: bool,
    /// The connection goes on afterwards.
    pub keep_alive: bool,
    /// The client speaks HTTP/1.0.
    pub is_http10: bool,
    /// The `Origin` that may read the answer.
    pub origin: Option<Box<str>>,
}

impl Answering {
    /// For a request; whether it may keep the connection is decided by who counts its requests.
    #[must_use]
    pub fn to(parsed: &Head) -> Self {
        Self {
            head_only: parsed.method == http::Method::Head,
            keep_alive: parsed.keep_alive,
            is_http10: parsed.version == Version::Http10,
            origin: None,
        }
    }
}

impl Body {
    /// Starts to collect a body of at most `bytes_max`; `None` if there is none.
    #[must_use]
    pub fn begin(head: &[u8], parsed: Head, bytes_max: usize, since: Stamp) -> Option<Self> {
        let decoder = http::Body::new(parsed.framing)?;
        let head = head.to_vec();
        let (bytes, authorized) = (Vec::new(), false);
        Some(Self { head, parsed, bytes, since, authorized, decoder, bytes_max })
    }

    pub(super) fn heap(&self) -> usize {
        let (head, bytes) = (on_heap(self.head.capacity()), on_heap(self.bytes.capacity()));
        on_heap(size_of::<Self>()) + head + bytes
    }
}

/// Longer heads are not remembered, nor what they mean: browsers' have a few hundred bytes.
pub(crate) const REMEMBERED_BYTES_MAX: usize = 1_024;

/// The head that was read last, whoever sent it. Programs say the same in each request, and one with
/// the very bytes of the head before it means the same, and need not be read again.
#[derive(Debug, Default)]
pub struct LastHead {
    /// Its bytes. Empty if it is not remembered.
    head: Vec<u8>,
    /// What it says.
    parsed: Head,
}

impl LastHead {
    /// Whether the input begins with this head once more.
    fn is_next(&self, scan: &HeadScan, input: &[u8]) -> bool {
        !self.head.is_empty() && scan.is_new() && input.starts_with(&self.head)
    }

    fn remember(&mut self, head: &[u8], parsed: Head) {
        self.head.clear();
        if head.len() <= REMEMBERED_BYTES_MAX {
            self.head.extend_from_slice(head);
        }
        self.parsed = parsed;
    }
}

pub(super) fn step_head<'l, 'b: 'l>(
    scan: &mut HeadScan,
    input: &mut &'b mut [u8],
    limits: &ConnLimits,
    last: &'l mut LastHead,
) -> Step<'l> {
    let bad = |error, seen: &'b [u8]| {
        let head_only = seen.starts_with(b"HEAD ");
        Step::Event(Event::BadHead { error, head_only, seen })
    };
    let is_again = last.is_next(scan, input);
    let len = if is_again {
        last.head.len()
    } else {
        match scan.scan(input, &limits.head) {
            Ok(Some(len)) => len,
            Ok(None) => return Step::NeedMore,
            Err(error) => return bad(error, &*std::mem::take(input)),
        }
    };
    let (head, rest) = std::mem::take(input).split_at_mut(len);
    *scan = HeadScan::default();
    *input = rest;
    let head: &'b [u8] = head;
    if !is_again {
        match http::parse(head, &limits.head) {
            Ok(parsed) => last.remember(head, parsed),
            Err(error) => return bad(error, head),
        }
    }
    let parsed = &last.parsed;
    // A body that is already here is lent, not copied. It is only taken off the input by who reads it.
    let body = match parsed.framing {
        Framing::Length(length) if length <= input.len() as u64 => Some(length as usize),
        Framing::Length(_) | Framing::Chunked | Framing::None => None,
    };
    let body = body.map(|length| {
        let (body, rest) = std::mem::take(input).split_at_mut(length);
        *input = rest;
        &*body
    });
    Step::Event(Event::Request(Request { head, parsed, body }))
}

/// What is wrong with a body.
pub(super) enum BodyFault {
    Malformed,
    TooLarge,
}

/// Whether the body is complete.
pub(super) fn step_body(body: &mut Body, input: &mut &mut [u8]) -> Result<bool, BodyFault> {
    loop {
        let (consumed, step) = body.decoder.step(input).map_err(|_| BodyFault::Malformed)?;
        if let BodyStep::Data { start, end } = step {
            body.bytes.extend_from_slice(&input[start..end]);
        }
        // A chunk that is too large is refused when it is announced.
        let left = body.decoder.announced();
        if left.saturating_add(body.bytes.len() as u64) > body.bytes_max as u64 {
            return Err(BodyFault::TooLarge);
        }
        let (_, rest) = std::mem::take(input).split_at_mut(consumed);
        *input = rest;
        match step {
            BodyStep::Data { .. } => {}
            BodyStep::NeedMore => return Ok(false),
            BodyStep::Done => return Ok(true),
        }
    }
}
