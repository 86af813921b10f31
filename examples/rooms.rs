//! Rooms to talk in: an own WebSocket protocol, with state for each connection and timers.
//!
//! ```text
//! cargo run --release --example rooms -- 127.0.0.1:7070
//! websocat --protocol rooms.v1 ws://127.0.0.1:7070/rooms
//! ```
//!
//! A line that begins with `/` is a command (`/name`, `/join`, `/leave`, `/quit`), any other goes to
//! everyone in the room. A room is a channel: the application subscribes the connection to it and
//! publishes to it, and the server delivers. Who says nothing for five minutes is asked whether
//! anybody is there, and is closed a minute later.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use holdline::engine::{
    Answer, App, CloseReason, ConnId, Ctx, Kind, Request, Response, Route, TimerId, Upgrade,
};
use holdline::{Config, Message};

const PROTOCOL: &str = "rooms.v1";
const QUIET: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(60);

struct Person {
    name: String,
    room: Option<String>,
    /// When it will have been quiet for too long.
    timer: TimerId,
    was_asked: bool,
}

#[derive(Default)]
struct Rooms {
    people: HashMap<ConnId, Person>,
    guests: u64,
}

impl App for Rooms {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, request: &Request<'_>) -> Answer<Route> {
        if request.path() != "/rooms" {
            return Answer::Done(Route::Pass);
        }
        let speaks = request.protocols().any(|offer| offer == PROTOCOL);
        Answer::Done(match (request.is_websocket(), speaks) {
            (true, true) => Upgrade::new().protocol(PROTOCOL).header("X-Rooms", "welcome").into(),
            (true, false) => Response::new(400, "text/plain", "offer rooms.v1\n").into(),
            (false, _) => Response::new(426, "text/plain", "this is a WebSocket\n").into(),
        })
    }

    fn open(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        self.guests += 1;
        let name = format!("guest{}", self.guests);
        tell(cx, id, &format!("hello {name}: /name YOU, /join ROOM, /leave, /quit"));
        // A timer has a number to remember; here it is the connection's.
        let timer = cx.timer(QUIET, id.to_bits());
        self.people.insert(id, Person { name, room: None, timer, was_asked: false });
    }

    fn message(&mut self, cx: &mut Ctx<'_>, id: ConnId, _: Kind, bytes: &[u8]) {
        let Some(person) = self.people.get_mut(&id) else { return };
        cx.cancel_timer(person.timer);
        person.timer = cx.timer(QUIET, id.to_bits());
        person.was_asked = false;
        let line = String::from_utf8_lossy(bytes);
        let line = line.trim();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("/name", name) => person.rename(cx, id, name),
            ("/join", room) => person.join(cx, id, room),
            ("/leave", _) => person.leave(cx, id),
            ("/quit", _) => _ = cx.close(id, 1000, "bye"),
            (command, _) if command.starts_with('/') => tell(cx, id, "no such command"),
            ("", "") => {}
            _ => person.say(cx, id, line),
        }
    }

    fn timer(&mut self, cx: &mut Ctx<'_>, key: u64) {
        let id = ConnId::from_bits(key);
        // Who has gone meanwhile is not found.
        let Some(person) = self.people.get_mut(&id) else { return };
        if std::mem::replace(&mut person.was_asked, true) {
            cx.close(id, 4408, "nobody there");
            return;
        }
        tell(cx, id, "is anybody there?");
        person.timer = cx.timer(PATIENCE, key);
    }

    fn closed(&mut self, cx: &mut Ctx<'_>, id: ConnId, _: CloseReason) {
        if let Some(person) = self.people.remove(&id) {
            cx.cancel_timer(person.timer);
            // Its subscriptions ended with it.
            person.announce(cx, "is gone");
        }
    }
}

impl Person {
    fn rename(&mut self, cx: &mut Ctx<'_>, id: ConnId, name: &str) {
        let is_good = (1..=20).contains(&name.len()) && name.chars().all(char::is_alphanumeric);
        if !is_good {
            return tell(cx, id, "a name is up to 20 letters and digits");
        }
        self.announce(cx, &format!("is now {name}"));
        name.clone_into(&mut self.name);
    }

    fn join(&mut self, cx: &mut Ctx<'_>, id: ConnId, room: &str) {
        // What is wrong with it, if anything, is said in words.
        if let Err(refusal) = cx.subscribe(id, &channel(room), None) {
            return tell(cx, id, &refusal.message);
        }
        if self.room.as_deref() != Some(room) {
            self.leave(cx, id);
            self.room = Some(room.to_owned());
            self.announce(cx, "is here");
        }
    }

    fn leave(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        self.announce(cx, "leaves");
        if let Some(room) = self.room.take() {
            cx.unsubscribe(id, &channel(&room));
        }
    }

    fn say(&self, cx: &mut Ctx<'_>, id: ConnId, line: &str) {
        match &self.room {
            None => tell(cx, id, "join a room first"),
            Some(room) => {
                let message = Message::from(format!("{}: {line}", self.name));
                if let Err(refusal) = cx.publish(&channel(room), message) {
                    tell(cx, id, &refusal.message);
                }
            }
        }
    }

    /// Tells the room, if it is in one, without keeping it for those who come later.
    fn announce(&self, cx: &mut Ctx<'_>, what: &str) {
        if let Some(room) = &self.room {
            let message = Message::from(format!("* {} {what}", self.name)).ttl(Duration::ZERO);
            // A room that is full of other things does without.
            let _ = cx.publish(&channel(room), message);
        }
    }
}

fn channel(room: &str) -> String {
    format!("room.{room}")
}

/// What a reader that takes nothing misses here is only chatter: `Queued::Full` is no trouble.
fn tell(cx: &mut Ctx<'_>, id: ConnId, text: &str) {
    let _ = cx.send(id, Kind::Text, text.as_bytes());
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let server = Config::default().listen(address).bind_app(Rooms::default())?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;
    server.run()
}
