//! An application that answers every question later, and the desk where its questions lie.

use std::sync::{Arc, Mutex};

use holdline::engine::{Action, Answer, ConnId, Ctx, Outcome, Request, Route, Ticket, Verdict};
use holdline::{App, Config};

use crate::sim::clients::Ws;
use crate::sim::{Pace, Sim, ws};

#[derive(Clone, Default)]
pub struct Desk {
    pub asked: Arc<Mutex<Vec<(Ticket, String)>>>,
}

/// Answers nothing itself; `/own…` is its own path.
struct Later(Desk);

impl Later {
    fn ask<T>(&self, cx: &mut Ctx<'_>, id: ConnId, what: String) -> Answer<T> {
        let ticket = cx.ticket(id);
        self.0.asked.lock().expect("no panic").push((ticket, what));
        Answer::Later(ticket)
    }
}

impl App for Later {
    fn authorize(&mut self, cx: &mut Ctx<'_>, id: ConnId, action: Action<'_>) -> Answer<Verdict> {
        let what = match action {
            Action::Connect { request } => format!("connect {}", request.path()),
            Action::Subscribe { channel, .. } => format!("subscribe {channel}"),
            Action::Publish { channel, .. } => format!("publish {channel}"),
            _ => "something new".to_owned(),
        };
        self.ask(cx, id, what)
    }

    fn request(&mut self, cx: &mut Ctx<'_>, id: ConnId, request: &Request<'_>) -> Answer<Route> {
        if request.path().starts_with("/own") {
            return self.ask(cx, id, format!("request {}", request.path()));
        }
        Answer::Done(Route::Pass)
    }
}

impl Desk {
    /// The oldest question about something, whatever else is asked.
    #[track_caller]
    pub fn pick(&self, what: &str) -> Ticket {
        let mut asked = self.asked.lock().expect("no panic");
        let at = asked.iter().position(|(_, asked)| asked == what).expect("a question");
        asked.remove(at).0
    }

    /// The oldest question; there must be no other.
    #[track_caller]
    pub fn take(&self, what: &str) -> Ticket {
        let mut asked = self.asked.lock().expect("no panic");
        assert_eq!(asked.iter().map(|(_, what)| &**what).collect::<Vec<_>>(), [what]);
        asked.remove(0).0
    }

    #[track_caller]
    pub fn assert_quiet(&self) {
        assert!(self.asked.lock().expect("no panic").is_empty());
    }

    /// Answers the only question, which must be this one.
    #[track_caller]
    pub fn answer(&self, sim: &mut Sim, what: &str, outcome: impl Into<Outcome>) {
        let ticket = self.take(what);
        answer(sim, ticket, outcome);
    }
}

pub fn answer(sim: &mut Sim, ticket: Ticket, outcome: impl Into<Outcome>) {
    let now = sim.now;
    sim.engine_mut().handle_answer(ticket, outcome.into(), now);
    sim.settle();
}

pub fn world(pace: Pace) -> (Sim, Desk) {
    world_with(Config::default(), pace)
}

pub fn world_with(config: Config, pace: Pace) -> (Sim, Desk) {
    let mut sim = Sim::with(config, pace);
    let desk = Desk::default();
    sim.engine_mut().set_app(Box::new(Later(desk.clone())));
    (sim, desk)
}

/// A raw WebSocket that may listen.
pub fn raw(sim: &mut Sim, desk: &Desk) -> Ws {
    let line = sim.connect(0);
    sim.send(line, &ws::upgrade("/channels/a", None));
    sim.settle();
    desk.answer(sim, "connect /channels/a", Verdict::Allow);
    desk.answer(sim, "subscribe a", Verdict::Allow);
    let socket = Ws { line };
    socket.accepted(sim, None);
    socket
}

pub fn json(sim: &mut Sim, desk: &Desk) -> Ws {
    let line = sim.connect(0);
    sim.send(line, &ws::upgrade("/ws", None));
    sim.settle();
    desk.answer(sim, "connect /ws", Verdict::Allow);
    let socket = Ws { line };
    socket.accepted(sim, None);
    socket.jsons(sim);
    socket
}
