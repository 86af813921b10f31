//! An application that now and then decides later, and those who answer for it, or forget to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use holdline::App;
use holdline::engine::{Action, Answer, ConnId, Ctx, Ticket, Verdict};

use super::sim::{Chance, Sim};

/// Where the questions lie that have no answer yet.
#[derive(Clone, Default)]
pub struct Desk {
    asked: Arc<Mutex<Vec<(usize, Ticket)>>>,
    /// Everything is decided at once.
    is_resting: Arc<AtomicBool>,
}

struct Asker {
    desk: Desk,
    number: usize,
    rng: Chance,
}

impl App for Asker {
    fn authorize(&mut self, cx: &mut Ctx<'_>, id: ConnId, _: Action<'_>) -> Answer<Verdict> {
        if self.desk.is_resting.load(Ordering::Relaxed) || self.rng.u8(..4) > 0 {
            return Answer::Done(Verdict::Allow);
        }
        let ticket = cx.ticket(id);
        self.desk.asked.lock().expect("no panic").push((self.number, ticket));
        Answer::Later(ticket)
    }
}

impl Desk {
    /// Gives a loop the application. What was asked by the loop before it has no meaning any more.
    pub fn employ(&self, sim: &mut Sim, number: usize) {
        self.asked.lock().expect("no panic").retain(|(of, _)| *of != number);
        let app = Asker { desk: self.clone(), number, rng: sim.rng.fork() };
        sim.loops[number].engine.set_app(Box::new(app));
    }

    /// Answers one question, or forgets it.
    pub fn answer(&self, sim: &mut Sim) {
        let mut asked = self.asked.lock().expect("no panic");
        if asked.is_empty() {
            return;
        }
        let one = sim.rng.usize(..asked.len());
        let (number, ticket) = asked.swap_remove(one);
        drop(asked);
        if self.is_resting.load(Ordering::Relaxed) || sim.rng.u8(..10) > 0 {
            let (head, now) = (sim.history.head(), sim.now);
            let one = &mut sim.loops[number];
            one.engine.handle_answer(ticket, Verdict::Allow.into(), now);
            one.engine.check();
            one.note_published(None, head);
        }
    }

    /// From now on nobody waits.
    pub fn rest(&self, sim: &mut Sim) {
        self.is_resting.store(true, Ordering::Relaxed);
        while !self.asked.lock().expect("no panic").is_empty() {
            self.answer(sim);
        }
    }
}
