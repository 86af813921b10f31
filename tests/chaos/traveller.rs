//! A reader that keeps one string, as clients are told to, and goes on with it anywhere: what it
//! asks for. What it reads is in [`super::reading`].

use std::collections::{HashMap, VecDeque};

use super::oracle::Entry;
use super::sim::clients::request;
use super::sim::sse::Stream;
use super::sim::{Sim, ws};
use super::truth::{At, Truth, name};

/// Tell the answers to subscribing and unsubscribing from others.
pub const JOIN: u32 = u32::MAX;
pub const LEAVE: u32 = u32::MAX - 1;

/// How it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Events,
    Poll,
    Ws,
    /// A WebSocket without channels in its address: they are subscribed by commands.
    Commands,
    RawSse,
    RawPoll,
    Meta,
}

impl Via {
    pub const ALL: [Self; 7] = [
        Self::Events,
        Self::Poll,
        Self::Ws,
        Self::Commands,
        Self::RawSse,
        Self::RawPoll,
        Self::Meta,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Poll => "poll",
            Self::Ws => "ws",
            Self::Commands => "commands",
            Self::RawSse => "raw sse",
            Self::RawPoll => "raw poll",
            Self::Meta => "meta",
        }
    }

    /// Those that know one channel only.
    pub const fn is_raw(self) -> bool {
        matches!(self, Self::RawSse | Self::RawPoll | Self::Meta)
    }

    const fn is_stream(self) -> bool {
        matches!(self, Self::Events | Self::RawSse)
    }

    pub const fn speaks_json(self) -> bool {
        matches!(self, Self::Ws | Self::Commands)
    }
}

/// What else it asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    pub gap_live: bool,
    /// HTTP/1.0, where it wants a stream.
    pub is_ten: bool,
    /// Its position in `Last-Event-ID`, where it wants a stream.
    pub by_header: bool,
    /// `since` while it has no position; `earliest` is judged if nothing is ever forgotten.
    pub start: Option<&'static str>,
    pub nothing_is_forgotten: bool,
    /// More options, each with an `&` before it.
    pub options: &'static str,
}

/// A connection, while there is one.
#[derive(Debug)]
pub struct Link {
    pub via: Via,
    pub line: usize,
    pub manner: Manner,
    /// The head of the answer has been read.
    pub is_open: bool,
    pub stream: Stream,
    /// Its Close is on the way.
    pub is_leaving: bool,
}

/// A `subscribe` whose first `cursor` has not come: until then it resumes from where that began.
#[derive(Debug)]
pub struct Window {
    pub since: String,
    /// Channels whose `ok` has not come.
    pub waiting: Vec<usize>,
}

#[derive(Debug)]
pub struct Traveller {
    pub channels: Vec<usize>,
    pub position: Option<String>,
    /// Some positions that it was told before.
    pub memory: Vec<String>,
    pub window: Option<Window>,
    /// Subscriptions from now on whose `ok` has not come.
    pub joining: Vec<usize>,
    pub link: Option<Link>,
    pub log: Vec<Entry>,
    /// Who it was told is there or has left, by channel and name, on this connection.
    pub seen: HashMap<(usize, String), bool>,
    /// Its own publications that have no answer yet.
    pub outstanding: VecDeque<u64>,
}

impl Traveller {
    pub fn new(channels: Vec<usize>) -> Self {
        Self {
            channels,
            position: None,
            memory: Vec::new(),
            window: None,
            joining: Vec::new(),
            link: None,
            log: Vec::new(),
            seen: HashMap::new(),
            outstanding: VecDeque::new(),
        }
    }

    pub fn is_single(&self) -> bool {
        self.channels.len() == 1
    }

    /// Whether it may send commands.
    pub fn speaks_json(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.via.speaks_json() && !link.is_leaving)
    }

    pub fn has_window(&self) -> bool {
        self.window.is_some() || !self.joining.is_empty()
    }

    /// Lets go of its connection, however it ends.
    pub fn lose(&mut self) {
        self.link = None;
        self.seen.clear();
        self.outstanding.clear();
        if let Some(window) = self.window.take() {
            self.position = Some(window.since);
        }
        self.joining.clear();
    }

    /// Connects to a loop and asks for what it follows.
    pub fn open(&mut self, sim: &mut Sim, truth: &Truth, number: usize, via: Via, manner: Manner) {
        self.lose();
        assert!(self.is_single() || !via.is_raw());
        let line = sim.connect(number);
        let stream = Stream::new(true);
        self.link = Some(Link { via, line, manner, is_open: false, stream, is_leaving: false });
        // By commands, each channel is followed from when it is confirmed.
        let is_bare = via == Via::Commands;
        self.log.push(Entry::Opened {
            via: via.name(),
            channels: if is_bare { Vec::new() } else { self.channels.clone() },
            since: self.claim(truth, manner).filter(|_| !is_bare),
            wants_all: self.position.is_none() && manner.start == Some("earliest"),
            head: truth.head(sim),
        });
        match via {
            Via::Events | Via::RawSse => self.ask_for_stream(sim),
            Via::Poll | Via::RawPoll => self.ask(sim),
            Via::Ws => sim.send(line, &ws::upgrade(&self.target(), None)),
            Via::Meta => sim.send(line, &ws::upgrade(&self.target(), Some("holdline.v1.meta"))),
            Via::Commands => {
                sim.send(line, &ws::upgrade("/ws", None));
                let channels = self.channels.clone();
                self.subscribe(sim, &channels, self.position.clone());
            }
        }
    }

    /// From where on it is owed everything, as far as it can know.
    fn claim(&self, truth: &Truth, manner: Manner) -> Option<At> {
        match &self.position {
            Some(id) => Some(truth.at(id)),
            None if manner.nothing_is_forgotten && manner.start == Some("earliest") => {
                Some(At { epoch: truth.epoch(), seq: 0 })
            }
            None => None,
        }
    }

    fn target(&self) -> String {
        let link = self.link.as_ref().expect("a link");
        let manner = link.manner;
        let (path, mut pairs) = match link.via {
            Via::Events => ("/events".to_owned(), Vec::new()),
            Via::Poll => ("/poll".to_owned(), Vec::new()),
            Via::Ws | Via::Commands => ("/ws".to_owned(), Vec::new()),
            Via::RawSse | Via::RawPoll | Via::Meta => {
                let pairs = vec![format!("wait={}", self.channels[0] * 7)];
                (format!("/channels/{}", name(self.channels[0])), pairs)
            }
        };
        if !link.via.is_raw() {
            pairs.extend(self.channels.iter().map(|channel| format!("channel={}", name(*channel))));
        }
        let by_header = manner.by_header && link.via.is_stream();
        match &self.position {
            Some(since) if !by_header => pairs.push(format!("since={since}")),
            Some(_) => {}
            None => pairs.extend(manner.start.map(|start| format!("since={start}"))),
        }
        if manner.gap_live {
            pairs.push("gap=live".to_owned());
        }
        format!("{path}?{}{}", pairs.join("&"), manner.options)
    }

    fn ask_for_stream(&self, sim: &mut Sim) {
        let link = self.link.as_ref().expect("a link");
        let mut headers = "Accept: text/event-stream\r\n".to_owned();
        if let Some(id) = self.position.as_ref().filter(|_| link.manner.by_header) {
            headers += &format!("Last-Event-ID: {id}\r\n");
        }
        let mut bytes = request("GET", &self.target(), &headers, b"");
        if link.manner.is_ten {
            let end = bytes.windows(9).position(|nine| nine == b" HTTP/1.1").expect("a version");
            bytes[end + 8] = b'0';
        }
        sim.send(link.line, &bytes);
    }

    /// Asks for what comes next.
    pub fn ask(&self, sim: &mut Sim) {
        let link = self.link.as_ref().expect("a link");
        sim.ask(link.line, "GET", &self.target(), b"");
    }

    /// Subscribes to more, in one command each or in one for all.
    pub fn subscribe(&mut self, sim: &mut Sim, channels: &[usize], since: Option<String>) {
        assert!(!self.has_window());
        let Some(link) = &self.link else { return };
        let names: Vec<_> = channels.iter().map(|channel| name(*channel)).collect();
        let mut commands = Vec::new();
        let option = since.as_ref().map_or(String::new(), |since| format!(r#","since":"{since}""#));
        let presence = if sim.rng.bool() { r#","presence":true"# } else { "" };
        let option = format!(r#""ref":{JOIN}{option}{presence}"#);
        if sim.rng.bool() {
            commands.push(format!(r#"{{"op":"subscribe","channels":{names:?},{option}}}"#));
        } else {
            let command = |name| format!(r#"{{"op":"subscribe","channel":"{name}",{option}}}"#);
            commands.extend(names.iter().map(command));
        }
        for command in commands {
            let key = sim.rng.u32(..).to_be_bytes();
            sim.send(link.line, &ws::frame(ws::TEXT, command.as_bytes(), key));
        }
        match since {
            Some(since) => self.window = Some(Window { since, waiting: channels.to_vec() }),
            None => self.joining = channels.to_vec(),
        }
    }

    /// Sends its Close, and goes on reading until the server's comes.
    pub fn leave(&mut self, sim: &mut Sim) {
        let Some(link) = &mut self.link else { return };
        link.is_leaving = true;
        let key = sim.rng.u32(..).to_be_bytes();
        sim.send(link.line, &ws::close(1000, key));
    }

    pub fn unsubscribe(&mut self, sim: &mut Sim, one: usize) {
        let Some(link) = &self.link else { return };
        let command = format!(r#"{{"op":"unsubscribe","ref":{LEAVE},"channel":"{}"}}"#, name(one));
        let key = sim.rng.u32(..).to_be_bytes();
        sim.send(link.line, &ws::frame(ws::TEXT, command.as_bytes(), key));
        self.channels.retain(|channel| *channel != one);
        self.log.push(Entry::Left { channel: one });
    }
}
