//! How to speak to a server, from a small TOML file. What is absent it cannot do.

use std::path::Path;

use serde::Deserialize;

use crate::Fault;

/// Whole header lines, `Name: value`.
pub type Headers = Vec<String>;

/// How this project's own server is spoken to.
const HOLDLINE: &str = include_str!("../peers/holdline/profile.toml");

/// A server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: String,
    pub echo: Option<Echo>,
    pub ws: Option<WebSocket>,
    pub sse: Option<Stream>,
    pub poll: Option<Polling>,
    pub publish: Option<Publish>,
    pub resume: Option<Resume>,
}

/// A WebSocket, or a bare connection, that sends back what it gets.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Echo {
    #[serde(default)]
    pub path: String,
    #[serde(default)]
    pub framing: Framing,
    /// Messages that are sent first. What comes back before the first echo is passed over.
    #[serde(default)]
    pub hello: Vec<String>,
    /// So many messages of the server come first: before them it takes none but the `hello`.
    #[serde(default)]
    pub greetings: usize,
    /// What stands before and behind each payload that is sent.
    #[serde(default)]
    pub prefix: String,
    #[serde(default)]
    pub suffix: String,
    #[serde(default)]
    pub protocol: String,
}

/// What an echo is packed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    #[default]
    WebSocket,
    /// The same bytes as a WebSocket's, without a handshake: what comes back counts by its length.
    Tcp,
}

/// A WebSocket that listens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebSocket {
    pub path: String,
    #[serde(default)]
    pub hello: Vec<String>,
    #[serde(default)]
    pub protocol: String,
}

/// An event stream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    pub path: String,
    #[serde(default)]
    pub headers: Headers,
}

/// Polls that the server holds until there is something.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polling {
    /// `{since}` in it is replaced.
    pub path: String,
    /// What it is replaced with at first.
    #[serde(default)]
    pub first: String,
    pub next: Position,
    #[serde(default)]
    pub headers: Headers,
    /// The same without being held, for those who ask every now and then.
    #[serde(default)]
    pub short: String,
}

/// Where in an answer the next position stands.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[allow(dead_code, reason = "TOML has no value that says nothing: `{ none = true }`")]
pub enum Position {
    /// The first string field of that name.
    Json(String),
    /// A header field.
    Header(String),
    /// `Last-Modified` and `Etag`, which go back as `If-Modified-Since` and `If-None-Match`.
    Validators(bool),
    /// The server knows by itself.
    None(bool),
}

/// How something is published.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    #[serde(default = "post")]
    pub method: String,
    /// The payload is the body of a request.
    #[serde(default)]
    pub path: String,
    #[serde(default)]
    pub headers: Headers,
    /// The payload is a message on a WebSocket of this path instead.
    #[serde(default)]
    pub websocket: String,
    #[serde(default)]
    pub hello: Vec<String>,
    #[serde(default)]
    pub prefix: String,
    #[serde(default)]
    pub suffix: String,
    #[serde(default)]
    pub protocol: String,
}

fn post() -> String {
    "POST".to_owned()
}

/// Paths to come back on; `{since}` in them is the position of what was seen last.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    pub ws: Option<String>,
    pub sse: Option<String>,
    pub poll: Option<String>,
    /// Messages that are sent on the WebSocket, with `{since}` too.
    #[serde(default)]
    pub ws_hello: Vec<String>,
    /// Header lines of the others, with `{since}` too.
    #[serde(default)]
    pub headers: Headers,
    /// Where the position stands in the answer to a publication.
    pub position: Position,
}

impl Profile {
    /// Reads a file, or takes the built-in one.
    pub fn read(path: Option<&Path>) -> Result<Self, Fault> {
        let Some(path) = path else { return Self::parse(HOLDLINE, "built-in profile") };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Fault::usage(format!("{name}: {error}")))?;
        Self::parse(&text, &name)
    }

    fn parse(text: &str, name: &str) -> Result<Self, Fault> {
        toml::from_str(text).map_err(|error| Fault::usage(format!("{name}: {error}")))
    }

    /// Says that this server cannot do something.
    pub fn cannot(&self, what: &str) -> Fault {
        Fault::Cannot(format!("{} cannot {what}: its profile has no table for it", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profile_can_do_everything() {
        let profile = Profile::read(None).expect("it is right");
        assert!(profile.ws.is_some() && profile.sse.is_some() && profile.poll.is_some());
        assert!(profile.echo.is_some() && profile.publish.is_some() && profile.resume.is_some());
    }

    #[test]
    fn a_field_that_is_not_known_is_told_with_its_place() {
        let wrong = Profile::parse("name = 'x'\n[ws]\npth = '/'\n", "x.toml");
        let told = wrong.expect_err("a typing error").to_string();
        assert!(told.contains("x.toml") && told.contains("pth"), "{told}");
    }
}
