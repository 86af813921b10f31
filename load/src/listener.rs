//! One who listens, over any transport: what it sends to begin, and what it makes of what comes.

use crate::Fault;
use crate::profile::{Headers, Position, Profile, WebSocket};
use crate::{http, sequence, ws};

/// How one listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Ws,
    Sse,
    Poll,
}

impl Transport {
    pub const ALL: [Self; 3] = [Self::Ws, Self::Sse, Self::Poll];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Sse => "sse",
            Self::Poll => "poll",
        }
    }
}

/// How all of one transport begin.
#[derive(Clone, Debug)]
pub struct Way {
    pub transport: Transport,
    host: String,
    path: String,
    headers: Headers,
    hello: Vec<String>,
    protocol: String,
    next: Position,
    first: String,
    /// Path and header lines of a poll that has no answer yet, where they differ.
    come_back: Option<(String, Headers)>,
}

impl Way {
    /// As the profile says.
    pub fn new(profile: &Profile, transport: Transport, host: &str) -> Result<Self, Fault> {
        let mut way = Self {
            transport,
            host: host.to_owned(),
            path: String::new(),
            headers: Vec::new(),
            hello: Vec::new(),
            protocol: String::new(),
            next: Position::None(true),
            first: String::new(),
            come_back: None,
        };
        match transport {
            Transport::Ws => {
                let WebSocket { path, hello, protocol } =
                    profile.ws.clone().ok_or_else(|| profile.cannot("listen by WebSocket"))?;
                (way.path, way.hello, way.protocol) = (path, hello, protocol);
            }
            Transport::Sse => {
                let stream = profile.sse.clone();
                let stream = stream.ok_or_else(|| profile.cannot("listen by SSE"))?;
                (way.path, way.headers) = (stream.path, stream.headers);
            }
            Transport::Poll => {
                let poll = profile.poll.clone();
                let poll = poll.ok_or_else(|| profile.cannot("listen by long-polling"))?;
                (way.path, way.headers) = (poll.path, poll.headers);
                (way.next, way.first) = (poll.next, poll.first);
            }
        }
        Ok(way)
    }

    /// The same from a position on.
    pub fn resuming(&self, profile: &Profile, since: &str) -> Result<Self, Fault> {
        let cannot = || profile.cannot(&format!("resume by {}", self.transport.name()));
        let resume = profile.resume.as_ref().ok_or_else(cannot)?;
        let path = match self.transport {
            Transport::Ws => &resume.ws,
            Transport::Sse => &resume.sse,
            Transport::Poll => &resume.poll,
        };
        let path = path.as_ref().ok_or_else(cannot)?;
        let filled = |text: &String| text.replace("{since}", since);
        let mut way = self.clone();
        way.first = since.to_owned();
        let mut headers = way.headers.clone();
        headers.extend(resume.headers.iter().map(filled));
        match self.transport {
            Transport::Ws => {
                way.path = filled(path);
                if !resume.ws_hello.is_empty() {
                    way.hello = resume.ws_hello.iter().map(filled).collect();
                }
            }
            Transport::Sse => (way.path, way.headers) = (filled(path), headers),
            // Only the first: where the next goes on stands in its answer.
            Transport::Poll => way.come_back = Some((filled(path), headers)),
        }
        Ok(way)
    }

    /// The same by polls that the server does not hold.
    pub fn short(&self, profile: &Profile) -> Result<Self, Fault> {
        let short = profile.poll.as_ref().map(|poll| poll.short.clone()).unwrap_or_default();
        if short.is_empty() {
            return Err(profile.cannot("answer short polls"));
        }
        Ok(Self { path: short, ..self.clone() })
    }
}

/// One of them.
#[derive(Debug)]
pub struct Listener {
    /// The head of the answer has come: it listens. (A poll: once it has been sent.)
    pub open: bool,
    /// Where a poll goes on.
    position: String,
    /// The server has said that it closes: servers end a connection after so many requests.
    pub is_over: bool,
    /// Polls that were sent.
    pub asked: u64,
    /// Answers to polls.
    pub answers: u64,
    /// Those that brought nothing.
    pub empty: u64,
}

impl Listener {
    pub fn new(way: &Way) -> Self {
        let position = way.first.clone();
        Self { open: false, position, is_over: false, asked: 0, answers: 0, empty: 0 }
    }

    /// Appends what begins to listen, or the next poll.
    pub fn ask(&mut self, way: &Way, to: &mut Vec<u8>) {
        match way.transport {
            Transport::Ws => http::upgrade(&way.path, &way.host, &way.protocol, to),
            Transport::Sse => http::request("GET", &way.path, &way.host, &way.headers, None, to),
            Transport::Poll => self.poll(way, to),
        }
    }

    fn poll(&mut self, way: &Way, to: &mut Vec<u8>) {
        self.open = true;
        self.asked += 1;
        let come_back = way.come_back.as_ref().filter(|_| self.answers == 0);
        let (path, mut headers) = match come_back {
            Some((path, headers)) => (path.clone(), headers.clone()),
            None => (way.path.replace("{since}", &self.position), way.headers.clone()),
        };
        if let (Position::Validators(_), Some((modified, etag))) =
            (&way.next, self.position.split_once('\n'))
        {
            headers.push(format!("If-Modified-Since: {modified}"));
            headers.push(format!("If-None-Match: {etag}"));
        }
        http::request("GET", &path, &way.host, &headers, None, to);
    }

    /// It waits for nothing: the server may close without a fault.
    pub fn is_idle(&self) -> bool {
        self.asked > 0 && self.asked == self.answers
    }

    /// Takes in what came: `each` gets the numbers, `reply` what is to be sent at once. Returns how
    /// much of it was used. After the answer to a poll nothing is asked by itself.
    pub fn take(
        &mut self,
        way: &Way,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        mut each: impl FnMut(u64),
    ) -> Result<usize, Fault> {
        let mut used = 0;
        if way.transport == Transport::Poll {
            while let Some(answer) = http::answer(&bytes[used..])? {
                used += answer.len;
                self.answered(way, &answer, &mut each)?;
            }
            return Ok(used);
        }
        if !self.open {
            let Some(head) = http::head(bytes)? else { return Ok(0) };
            let wanted = if way.transport == Transport::Ws { 101 } else { 200 };
            if head.status != wanted {
                return Err(refused(&way.path, bytes));
            }
            used = head.len;
            self.open = true;
            for message in &way.hello {
                ws::write(ws::TEXT, message.as_bytes(), reply);
            }
        }
        let rest = &bytes[used..];
        Ok(used
            + match way.transport {
                Transport::Ws => frames(rest, reply, |frame| {
                    sequence::marks(frame, &mut each);
                    Ok(())
                })?,
                Transport::Sse | Transport::Poll => sequence::marks(rest, each),
            })
    }

    fn answered(
        &mut self,
        way: &Way,
        answer: &http::Answer<'_>,
        each: &mut impl FnMut(u64),
    ) -> Result<(), Fault> {
        let status = answer.head.status;
        if !matches!(status, 200 | 204 | 304 | 408) {
            return Err(Fault::wrong(format!("{} answered {status}", way.path)));
        }
        let body = answer.body.to_vec();
        let mut found = 0;
        sequence::marks(&body, |number| {
            found += 1;
            each(number);
        });
        self.is_over = answer.head.is_last();
        self.answers += 1;
        self.empty += u64::from(found == 0);
        if let Some(position) = position(&way.next, answer, &body) {
            self.position = position;
        }
        Ok(())
    }
}

/// The position that an answer tells.
pub fn position(next: &Position, answer: &http::Answer<'_>, body: &[u8]) -> Option<String> {
    match next {
        Position::Json(field) => {
            let name = format!("\"{field}\":");
            let rest = &body[memchr::memmem::find(body, name.as_bytes())? + name.len()..];
            let rest = rest.trim_ascii_start().strip_prefix(b"\"")?;
            let end = memchr::memchr(b'"', rest)?;
            Some(String::from_utf8_lossy(&rest[..end]).into_owned())
        }
        Position::Header(name) => answer.head.field(name).map(str::to_owned),
        Position::Validators(_) => {
            let modified = answer.head.field("last-modified")?;
            Some(format!("{modified}\n{}", answer.head.field("etag")?))
        }
        Position::None(_) => None,
    }
}

/// Gives each message to `each`, answers pings, and returns how much was used.
pub fn frames(
    bytes: &[u8],
    reply: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    let mut used = 0;
    while let Some(frame) = ws::read(&bytes[used..])? {
        used += frame.len;
        match frame.opcode {
            ws::PING => ws::write(ws::PONG, frame.payload, reply),
            ws::PONG => {}
            ws::CLOSE => {
                let why = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default());
                return Err(Fault::wrong(format!("the server closed a WebSocket: {why}")));
            }
            _ => each(frame.payload)?,
        }
    }
    Ok(used)
}

/// What a server said instead.
pub fn refused(path: &str, bytes: &[u8]) -> Fault {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).replace("\r\n", " | ");
    Fault::wrong(format!("{path} was refused: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nLast-Modified: then\r\nEtag: 7\r\n\
        Content-Length: 28\r\n\r\n{\"x\":1, \"cursor\": \"later-9\"}";

    fn polled(way: &Way, listener: &mut Listener) -> String {
        let mut request = Vec::new();
        listener.ask(way, &mut request);
        String::from_utf8(request).expect("it is text")
    }

    #[test]
    fn a_poll_that_comes_back_goes_on_from_its_answer() {
        let profile = Profile::read(None).expect("it is right");
        let way = Way::new(&profile, Transport::Poll, "h").expect("it polls");
        let way = way.resuming(&profile, "e-1").expect("it resumes");
        let mut listener = Listener::new(&way);
        assert!(polled(&way, &mut listener).contains("since=e-1 "));
        let used = listener.take(&way, ANSWER, &mut Vec::new(), |_| ()).expect("an answer");
        assert_eq!((used, listener.answers, listener.empty), (ANSWER.len(), 1, 1));
        let next = polled(&way, &mut listener);
        assert!(next.contains("since=later-9&wait="), "{next}");
    }

    #[test]
    fn validators_go_back_as_conditions() {
        let mut profile = Profile::read(None).expect("it is right");
        if let Some(poll) = &mut profile.poll {
            poll.next = Position::Validators(true);
        }
        let way = Way::new(&profile, Transport::Poll, "h").expect("it polls");
        let mut listener = Listener::new(&way);
        assert!(!polled(&way, &mut listener).contains("If-"));
        listener.take(&way, ANSWER, &mut Vec::new(), |_| ()).expect("an answer");
        let next = polled(&way, &mut listener);
        assert!(next.contains("If-Modified-Since: then\r\nIf-None-Match: 7\r\n"), "{next}");
        let back = way.resuming(&profile, "now\n8").expect("it resumes");
        let first = polled(&back, &mut Listener::new(&back));
        assert!(first.contains("If-Modified-Since: now\r\nIf-None-Match: 8\r\n"), "{first}");
    }
}
