//! Who publishes: requests over a kept connection, or messages on a WebSocket.

use crate::Fault;
use crate::listener::{frames, position, refused};
use crate::profile::{Profile, Publish};
use crate::{http, sequence, ws};

/// What it does, and how far it is. It has a line of its own.
#[derive(Debug)]
pub struct Publisher {
    publish: Publish,
    host: String,
    open: bool,
    /// What is published, before it is packed.
    payload: Vec<u8>,
    /// Requests without an answer yet.
    pub unanswered: u64,
    /// The position that the last answer told, if the profile says where it stands.
    pub position: String,
    /// The server has said that it closes: servers end a connection after so many requests.
    pub is_over: bool,
}

impl Publisher {
    pub fn new(profile: &Profile, host: &str) -> Result<Self, Fault> {
        let publish = profile.publish.clone().ok_or_else(|| profile.cannot("publish"))?;
        let open = publish.websocket.is_empty();
        let payload = Vec::new();
        let (host, position) = (host.to_owned(), String::new());
        Ok(Self { publish, host, open, payload, unanswered: 0, position, is_over: false })
    }

    /// It has an answer to each publication.
    pub fn is_http(&self) -> bool {
        self.publish.websocket.is_empty()
    }

    /// It can publish.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Appends what must be sent before the first publication.
    pub fn open(&self, to: &mut Vec<u8>) {
        if !self.is_http() {
            http::upgrade(&self.publish.websocket, &self.host, &self.publish.protocol, to);
        }
    }

    /// Appends a publication of that number and size.
    pub fn publish(&mut self, number: u64, size: usize, to: &mut Vec<u8>) {
        let Publish { method, path, headers, prefix, suffix, .. } = &self.publish;
        self.payload.clear();
        self.payload.extend_from_slice(prefix.as_bytes());
        sequence::payload(number, size, &mut self.payload);
        self.payload.extend_from_slice(suffix.as_bytes());
        if self.publish.websocket.is_empty() {
            http::request(method, path, &self.host, headers, Some(&self.payload), to);
            self.unanswered += 1;
        } else {
            ws::write(ws::TEXT, &self.payload, to);
        }
    }

    /// Takes in what came, returns how much of it was used. `answered` is called for each answer.
    pub fn take(
        &mut self,
        profile: &Profile,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        mut answered: impl FnMut(),
    ) -> Result<usize, Fault> {
        let mut used = 0;
        if !self.is_http() {
            if !self.open {
                let Some(head) = http::head(bytes)? else { return Ok(0) };
                if head.status != 101 {
                    return Err(refused(&self.publish.websocket, bytes));
                }
                (self.open, used) = (true, head.len);
                for message in &self.publish.hello {
                    ws::write(ws::TEXT, message.as_bytes(), reply);
                }
            }
            return Ok(used + frames(&bytes[used..], reply, |_| Ok(()))?);
        }
        while let Some(answer) = http::answer(&bytes[used..])? {
            if !(200..300).contains(&answer.head.status) {
                return Err(refused(&self.publish.path, &bytes[used..]));
            }
            if let Some(resume) = &profile.resume {
                // Only asked for while little is published; a benchmark of publishing has none of it.
                if self.unanswered == 1 {
                    let body = answer.body.to_vec();
                    let told = position(&resume.position, &answer, &body);
                    self.position = told.unwrap_or_default();
                }
            }
            used += answer.len;
            self.is_over |= answer.head.is_last();
            self.unanswered = self.unanswered.saturating_sub(1);
            answered();
        }
        Ok(used)
    }
}
