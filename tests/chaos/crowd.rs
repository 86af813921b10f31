//! Those who come in numbers, want little or nothing, and hold what they are given.

use super::network::Place;
use super::sim::clients::request;
use super::sim::{Sim, ws};
use super::truth::name;

#[derive(Debug, Default)]
pub struct Crowd {
    lines: Vec<usize>,
}

/// How long what it begins is said to be, and how much of that comes at first.
const WHOLE: usize = 60_000;
const FIRST: usize = 15_000;
/// How much more may come at a time: never so often that it would be all.
const MORE: usize = 500;

impl Crowd {
    /// Some come, all from one place, and each begins something that it does not finish.
    pub fn come(&mut self, sim: &mut Sim, place: Place, channels: usize) {
        for _ in 0..sim.rng.usize(1..40) {
            let number = sim.rng.usize(..sim.loops.len());
            let Some(line) = place.connect(sim, number) else { continue };
            self.lines.push(line);
            let channel = name(sim.rng.usize(..channels));
            let mut bytes = match sim.rng.u8(..6) {
                0 => Vec::new(),
                1 => request("POST", "/publish", "", &[b'x'; WHOLE]),
                2 => ws::upgrade(&format!("/channels/{channel}"), None),
                3 => ws::upgrade(&format!("/ws?channel={channel}&presence=1"), None),
                4 => request("GET", &format!("/poll?channel={channel}&since=latest"), "", b""),
                _ => request("GET", &format!("/events?channel={channel}"), "", b""),
            };
            let is_post = bytes.first() == Some(&b'P');
            bytes = if bytes.is_empty() { bytes } else { place.pass_on(sim, bytes) };
            if is_post {
                bytes.truncate(sim.rng.usize(..FIRST));
            } else if bytes.windows(7).any(|seven| seven == b"Upgrade") {
                let whole = bytes.len() + FIRST;
                bytes.extend(ws::frame(ws::BINARY, &[0; WHOLE], [0; 4]));
                bytes.truncate(whole - sim.rng.usize(..FIRST));
            }
            sim.send(line, &bytes);
            if sim.rng.bool() {
                sim.stall(line, 100);
            }
        }
    }

    /// Those that are here go on with what they have begun.
    pub fn push(&self, sim: &mut Sim) {
        for line in &self.lines {
            let len = sim.rng.usize(..MORE);
            sim.send(*line, &vec![b'0'; len]);
        }
    }

    /// About half of them go.
    pub fn thin(&mut self, sim: &mut Sim) {
        let (go, stay) = self.lines.iter().partition(|_| sim.rng.bool());
        self.lines = stay;
        let go: Vec<usize> = go;
        go.into_iter().for_each(|line| sim.reset(line));
    }

    pub fn leave(&mut self, sim: &mut Sim) {
        self.lines.drain(..).for_each(|line| sim.close(line));
    }
}
