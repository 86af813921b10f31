//! A reader within the program: its subscriptions take as much as they like, end, and go on from the
//! position that they had come to.

use holdline::engine::Push;
use holdline::{Code, Cursor, Since};

use super::oracle::Entry;
use super::sim::Sim;
use super::sim::local::Local;
use super::truth::{At, Truth, channel, name, number};

#[derive(Default)]
pub struct Within {
    channels: Vec<usize>,
    link: Option<Local>,
    position: Option<Cursor>,
    pub log: Vec<Entry>,
}

impl Within {
    pub fn new(channels: Vec<usize>) -> Self {
        Self { channels, ..Self::default() }
    }

    /// It comes, goes, or takes more or less. `is_alone`: no other thread publishes meanwhile.
    pub fn disturb(&mut self, sim: &mut Sim, truth: &mut Truth, is_alone: bool) {
        let places = [0, 1, 3, 20, 1_000][sim.rng.usize(..5)];
        match (&self.link, sim.rng.u8(..4)) {
            (None, _) => self.open(sim, truth, places, is_alone),
            (Some(link), 0) => {
                // What it was handed until now it has.
                link.set_places(0);
                link.end(sim);
                self.read(sim, truth);
                self.link = None;
            }
            (Some(link), _) => link.set_places(places),
        }
    }

    fn open(&mut self, sim: &mut Sim, truth: &Truth, places: usize, is_alone: bool) {
        let start = [None, Some(Since::Earliest), Some(Since::Latest)][sim.rng.usize(..3)];
        let since = self.position.map(Since::Cursor).or(start);
        let head = truth.head(sim);
        // "From now on" is exact where nothing lies between asking and being asked.
        let from = (since.is_none() && is_alone).then_some(head);
        if self.position.is_none() {
            // It begins anew: nothing is owed from before.
            self.log.extend(self.channels.iter().map(|channel| Entry::Left { channel: *channel }));
        }
        self.log.push(Entry::Opened {
            via: "within",
            channels: self.channels.clone(),
            since: self.position.map(|position| at(position, truth)).or(from),
            wants_all: since == Some(Since::Earliest),
            head,
        });
        self.log.push(Entry::Begun { head });
        let names: Vec<String> = self.channels.iter().map(|one| name(*one)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let loops = sim.rng.usize(..sim.loops.len());
        self.link = Some(Local::listen_on(sim, loops, &names, since, places));
    }

    /// Reads all that it has been handed.
    pub fn read(&mut self, sim: &Sim, truth: &mut Truth) {
        let Some(link) = &self.link else { return };
        let is_over = link.progress.is_ended();
        for push in link.read() {
            match push {
                Push::Message { id, publication } => {
                    let of = channel(publication.channel());
                    let number = number(publication.payload());
                    let at = at(id, truth);
                    truth.place(at, number);
                    assert_eq!(truth.specs[&number].channel, of, "{number} on the wrong channel");
                    self.log.push(Entry::Message { channel: of, at });
                }
                Push::Gap { channels, reason, since, resumed } => {
                    let channels = channels.iter().map(|one| channel(one)).collect();
                    let (since, resumed) =
                        (since.map(|since| at(since, truth)), at(resumed, truth));
                    let reason = reason.name().to_owned();
                    self.log.push(Entry::Gap { channels, reason, since, resumed });
                }
                Push::Live { .. } => {}
                // No memory for a channel that is new: it comes again.
                Push::Refused(refusal) => assert_eq!(refusal.code, Code::Overloaded),
                other => panic!("{other:?}"),
            }
        }
        if let Some(position) = link.position().filter(|now| self.position != Some(*now)) {
            let (at, head, unix_ms) = (at(position, truth), truth.head(sim), sim.now.unix_ms);
            self.log.push(Entry::Told { at, head, unix_ms });
            self.position = Some(position);
        }
        if is_over {
            self.link = None;
        }
    }

    /// Takes everything from now on, or comes back.
    pub fn take_all(&mut self, sim: &mut Sim, truth: &Truth) {
        match &self.link {
            Some(link) => link.set_places(usize::MAX),
            None => self.open(sim, truth, usize::MAX, true),
        }
    }

    /// Nothing moves any more: it must have been handed all there is.
    pub fn rest(&mut self, sim: &Sim, truth: &Truth) {
        assert!(self.link.is_some() && self.position.is_some(), "it was never let in");
        let (head, unix_ms) = (truth.head(sim), sim.now.unix_ms);
        self.log.push(Entry::Told { at: head, head, unix_ms });
    }

    pub fn leave(&mut self, sim: &mut Sim) {
        if let Some(link) = self.link.take() {
            link.end(sim);
        }
    }

    /// The server has gone, and what was handed over last with it.
    pub fn lose(&mut self) {
        self.link = None;
    }
}

fn at(cursor: Cursor, truth: &Truth) -> At {
    truth.at(&cursor.to_string())
}
