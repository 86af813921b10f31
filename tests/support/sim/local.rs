//! A subscription of the program's own, with a channel that holds as much as a test says.

use std::sync::{Arc, Mutex};

use holdline::engine::{Listen, Progress, Push, Taken};
use holdline::{Cursor, Since};

use super::Sim;

pub struct Local {
    pub progress: Progress,
    state: Arc<Mutex<State>>,
}

struct State {
    pushes: Vec<Push>,
    /// How many fit.
    places: usize,
    is_gone: bool,
    /// How often it was full.
    refused: usize,
}

impl Local {
    /// Subscribes on the first loop; no turn yet.
    pub fn listen(sim: &mut Sim, channels: &[&str], since: Option<Since>) -> Self {
        Self::listen_on(sim, 0, channels, since, usize::MAX)
    }

    pub fn listen_on(
        sim: &mut Sim,
        number: usize,
        channels: &[&str],
        since: Option<Since>,
        places: usize,
    ) -> Self {
        let state = State { pushes: Vec::new(), places, is_gone: false, refused: 0 };
        let state = Arc::new(Mutex::new(state));
        let sink = Arc::clone(&state);
        let take = move |push| {
            let mut state = sink.lock().expect("no panic");
            if state.is_gone {
                return Taken::Over;
            }
            if state.pushes.len() >= state.places {
                state.refused += 1;
                return Taken::Full;
            }
            state.pushes.push(push);
            Taken::Yes
        };
        let listen = Listen::new(channels, since, &sim.history, Box::new(take));
        let progress = listen.progress();
        sim.loops[number].engine.handle_listen(listen, sim.now);
        Self { progress, state }
    }

    /// What has been handed over since it was read last.
    pub fn read(&self) -> Vec<Push> {
        std::mem::take(&mut self.state.lock().expect("no panic").pushes)
    }

    /// The same in words: texts, `gap reason since resumed`, `live cursor`.
    pub fn words(&self) -> Vec<String> {
        self.read().iter().map(word).collect()
    }

    /// The texts alone.
    pub fn texts(&self) -> Vec<String> {
        self.words().into_iter().filter(|word| !word.starts_with("live ")).collect()
    }

    pub fn set_places(&self, places: usize) {
        self.state.lock().expect("no panic").places = places;
    }

    pub fn refused(&self) -> usize {
        self.state.lock().expect("no panic").refused
    }

    /// The reader goes, and says nothing.
    pub fn leave(&self) {
        self.state.lock().expect("no panic").is_gone = true;
    }

    /// The handle is dropped.
    pub fn end(&self, sim: &mut Sim) {
        self.progress.end();
        let now = sim.now;
        sim.loops.iter_mut().for_each(|one| one.engine.handle_listen_ended(now));
    }

    pub fn position(&self) -> Option<Cursor> {
        self.progress.cursor()
    }
}

fn word(push: &Push) -> String {
    match push {
        Push::Message { publication, .. } => {
            String::from_utf8_lossy(publication.payload()).into_owned()
        }
        Push::Gap { channels, reason, since, resumed } => {
            let since = since.map_or_else(String::new, |since| since.to_string());
            format!("gap {} {} {since} {resumed}", channels.join(","), reason.name())
        }
        Push::Live { cursor } => format!("live {cursor}"),
        Push::Refused(refusal) => format!("refused {}", refusal.code.name()),
        other => panic!("{other:?}"),
    }
}
