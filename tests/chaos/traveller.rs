//! A reader that keeps one string, as clients are told to, and goes on with it anywhere: what it
//! asks for. What it reads is in [`super::reading`].

use std::collections::{HashMap, VecDeque};

use super::network::{Patience, Place};
use super::oracle::Entry;
use super::sim::clients::request;
use super::sim::sse::Stream;
use super::sim::{Sim, ws};
use super::truth::{At, Truth, name};

/// From here on numbers tell the answers to subscribing and to unsubscribing from others.
pub const JOINS: u32 = u32::MAX - 1_000_000;
pub const LEAVES: u32 = JOINS - 1_000_000;

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

    const fn is_poll(self) -> bool {
        matches!(self, Self::Poll | Self::RawPoll)
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
    pub place: Place,
    /// The proxy carries its polls on connections that others use, too.
    pub is_shared: bool,
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
    /// A stream that has said neither where it begins nor anything else yet.
    pub is_silent: bool,
    /// And what it has said is when to come back.
    pub soft_ms: Option<u64>,
    /// A poll was refused, and comes again on the same connection.
    pub ask_at_ms: Option<u64>,
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
    /// Where it comes from; `None`: the server's own machine.
    pub address: Option<u8>,
    pub patience: Patience,
    /// What it has commanded on this connection, by `ref`.
    commands: HashMap<u32, String>,
    /// What was refused of that, and when it may be tried again.
    again: Vec<(u64, u32)>,
    /// How many channels it leaves without an answer.
    pub leaving: usize,
    next: u32,
    /// The end of a frame whose beginning has been sent.
    rest: Vec<u8>,
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
            address: None,
            patience: Patience::default(),
            commands: HashMap::new(),
            again: Vec::new(),
            leaving: 0,
            next: 0,
            rest: Vec::new(),
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

    /// Whether all that it commanded has been answered for good. (Else what it commands next might
    /// be done before that.)
    pub fn is_settled(&self) -> bool {
        let may_be_refused = self.address.is_some();
        self.again.is_empty() && !(may_be_refused && self.leaving > 0)
    }

    /// Whether it is here from another machine.
    pub fn is_elsewhere(&self) -> bool {
        let place = self.link.as_ref().map(|link| link.manner.place);
        matches!(place, Some(Place::Direct(_)))
    }

    /// Goes, whatever it was in the middle of.
    pub fn depart(&mut self, sim: &mut Sim) {
        if let Some(link) = &self.link {
            sim.close(link.line);
        }
        self.lose();
    }

    /// Whether it may come, or has to wait.
    pub fn may_come(&self, sim: &Sim) -> bool {
        self.patience.is_over(sim)
    }

    /// Lets go of its connection, however it ends.
    pub fn lose(&mut self) {
        self.link = None;
        self.seen.clear();
        self.outstanding.clear();
        self.commands.clear();
        self.rest.clear();
        self.again.clear();
        self.leaving = 0;
        if let Some(window) = self.window.take() {
            self.position = Some(window.since);
        }
        self.joining.clear();
    }

    /// Connects to a loop and asks for what it follows.
    pub fn open(&mut self, sim: &mut Sim, truth: &Truth, number: usize, via: Via, manner: Manner) {
        self.lose();
        assert!(self.is_single() || !via.is_raw());
        let is_shared = manner.is_shared && via.is_poll();
        let place = manner.place;
        let line = if is_shared { place.share(sim, number) } else { place.connect(sim, number) };
        let Some(line) = line else { return self.patience.refuse("dropped", 1_000, sim) };
        self.link = Some(Link {
            via,
            line,
            manner: Manner { is_shared, ..manner },
            is_open: false,
            stream: Stream::new(true),
            is_leaving: false,
            is_silent: true,
            soft_ms: None,
            ask_at_ms: None,
        });
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
            Via::Ws => self.request(sim, ws::upgrade(&self.target(), None)),
            Via::Meta => self.request(sim, ws::upgrade(&self.target(), Some("holdline.v1.meta"))),
            Via::Commands => {
                self.request(sim, ws::upgrade("/ws", None));
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
        self.request(sim, bytes);
    }

    /// Asks for what comes next.
    pub fn ask(&self, sim: &mut Sim) {
        self.request(sim, request("GET", &self.target(), "", b""));
    }

    fn request(&self, sim: &mut Sim, bytes: Vec<u8>) {
        let link = self.link.as_ref().expect("a link");
        let bytes = link.manner.place.pass_on(sim, bytes);
        sim.send(link.line, &bytes);
    }

    /// Asks on another connection of the proxy, and leaves this one to others.
    pub fn change_line(&mut self, sim: &mut Sim) {
        let Some(link) = self.link.as_mut().filter(|link| link.manner.is_shared) else { return };
        if sim.lines[link.line].received.is_empty() {
            sim.unstall(link.line);
            sim.idle.push(link.line);
            let number = sim.lines[link.line].number;
            match link.manner.place.share(sim, number) {
                Some(line) => link.line = line,
                None => self.lose(),
            }
        }
    }

    /// Sends a command, which may be refused and sent again.
    fn command(&mut self, sim: &mut Sim, reference: u32, command: String) {
        let key = sim.rng.u32(..).to_be_bytes();
        let mut bytes = ws::frame(ws::TEXT, command.as_bytes(), key);
        let rest = if sim.rng.u8(..4) == 0 { sim.rng.usize(1..bytes.len()) } else { 0 };
        let rest = bytes.split_off(bytes.len() - rest);
        self.send(sim, &bytes);
        self.rest = rest;
        self.commands.insert(reference, command);
    }

    /// Sends a frame, behind what is left of the one before it.
    pub fn send(&mut self, sim: &mut Sim, frame: &[u8]) {
        let Some(link) = &self.link else { return };
        let rest = std::mem::take(&mut self.rest);
        sim.send(link.line, &[&rest[..], frame].concat());
    }

    pub fn publish(&mut self, sim: &mut Sim, number: u64, members: &str) {
        let command = format!(r#"{{"op":"publish","ref":{number},{members}}}"#);
        self.outstanding.push_back(number);
        self.command(sim, number as u32, command);
    }

    /// A command was refused, for so long.
    pub fn put_off(&mut self, reference: u32, wait_ms: u64, sim: &Sim) {
        assert!(self.commands.contains_key(&reference), "it did not ask for {reference}");
        self.again.push((sim.now.mono_ms + wait_ms, reference));
    }

    /// Sends again what may be by now.
    pub fn try_again(&mut self, sim: &mut Sim) {
        let now = sim.now.mono_ms;
        if !self.rest.is_empty() && sim.rng.u8(..4) == 0 {
            self.send(sim, &[]);
        }
        let Some(link) = &mut self.link else { return };
        if link.ask_at_ms.is_some_and(|at| at <= now) {
            link.ask_at_ms = None;
            self.ask(sim);
        }
        let (due, later) = self.again.iter().partition(|(at, _)| *at <= now);
        self.again = later;
        let due: Vec<(u64, u32)> = due;
        for (_, reference) in due {
            if reference < LEAVES {
                self.outstanding.push_back(u64::from(reference));
            }
            self.command(sim, reference, self.commands[&reference].clone());
        }
    }

    /// Subscribes to more, in one command each or in one for all.
    pub fn subscribe(&mut self, sim: &mut Sim, channels: &[usize], since: Option<String>) {
        assert!(!self.has_window());
        if self.link.is_none() {
            return;
        }
        let names: Vec<_> = channels.iter().map(|channel| name(*channel)).collect();
        let mut commands = Vec::new();
        let option = since.as_ref().map_or(String::new(), |since| format!(r#","since":"{since}""#));
        let presence = if sim.rng.bool() { r#","presence":true"# } else { "" };
        if sim.rng.bool() {
            commands.push(format!(r#""channels":{names:?}"#));
        } else {
            commands.extend(names.iter().map(|name| format!(r#""channel":"{name}""#)));
        }
        for channels in commands {
            let reference = JOINS + self.next;
            self.next = (self.next + 1) % 1_000_000;
            let command =
                format!(r#"{{"op":"subscribe","ref":{reference},{channels}{option}{presence}}}"#);
            self.command(sim, reference, command);
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
        self.again.clear();
        let key = sim.rng.u32(..).to_be_bytes();
        self.send(sim, &ws::close(1000, key));
    }

    pub fn unsubscribe(&mut self, sim: &mut Sim, one: usize) {
        let reference = LEAVES + self.next;
        self.next = (self.next + 1) % 1_000_000;
        let name = name(one);
        let command = format!(r#"{{"op":"unsubscribe","ref":{reference},"channel":"{name}"}}"#);
        self.command(sim, reference, command);
        self.leaving += 1;
        self.channels.retain(|channel| *channel != one);
        self.log.push(Entry::Left { channel: one });
    }
}
