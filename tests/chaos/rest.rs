//! How a world ends: everyone is let in and catches up, and goes, and is judged.

use super::oracle::{Verdict, judge};
use super::publisher::{Listener, Publisher};
use super::world::World;

impl World {
    /// Nobody publishes or disturbs any more: everyone must come to know where the order ends. Where
    /// not all may be here at a time, they take turns.
    pub fn come_to_rest(&mut self) {
        self.is_resting = true;
        self.desk.rest(&mut self.sim);
        let take_turns = self.rules.limits || self.sim.config.memory_bytes > 0;
        if take_turns {
            self.make_room();
        }
        self.finish_publishing(take_turns);
        for round in 0..600 {
            let mut is_done = round >= 80;
            for one in 0..self.travellers.len() {
                is_done &= self.come_to_head(one, take_turns);
            }
            if is_done || (round >= 80 && !take_turns) {
                break;
            }
            self.pass(1_000);
            self.catch_up();
        }
        self.rest_within();
        let head = self.sim.id(self.sim.history.head());
        assert!(self.publishers.iter().all(Publisher::is_answered), "a publisher waits");
        for (number, traveller) in self.travellers.iter().enumerate() {
            assert!(traveller.outstanding.is_empty(), "reader {number} waits for an answer");
            let via = traveller.link.as_ref().map(|link| link.via);
            let position = traveller.position.as_deref();
            let refused = &traveller.patience;
            let why = || format!("reader {number} by {via:?} is not there: {refused:?}");
            assert_eq!(position, Some(&*head), "{}", why());
        }
    }

    /// Those that are part of the program take everything, and have it.
    fn rest_within(&mut self) {
        for _ in 0..2 {
            let Self { sim, truth, within, .. } = self;
            within.iter_mut().for_each(|one| one.take_all(sim, truth));
            self.pass(1_000);
            self.catch_up();
        }
        let Self { sim, truth, within, .. } = self;
        within.iter_mut().for_each(|one| one.rest(sim, truth));
    }

    /// All go that are here for nothing that comes to an end.
    fn make_room(&mut self) {
        let Self { sim, crowd, listeners, travellers, .. } = self;
        crowd.leave(sim);
        std::mem::take(&mut sim.idle).into_iter().for_each(|line| sim.close(line));
        for listener in listeners {
            if let Some(line) = listener.line() {
                sim.close(line);
                listener.lose();
            }
        }
        for traveller in travellers.iter_mut() {
            traveller.depart(sim);
        }
        sim.settle();
    }

    /// Those who publish do so until nothing is left that they were refused.
    fn finish_publishing(&mut self, take_turns: bool) {
        for round in 0.. {
            self.publishers.iter().for_each(|publisher| publisher.unstall(&mut self.sim));
            self.pass(1_000);
            self.catch_up();
            let is_done = |publisher: &Publisher| publisher.is_done(&self.sim);
            if self.publishers.iter().all(is_done) {
                break;
            }
            assert!(round < 600, "a publisher is never let in: {:?}", self.publishers);
            for one in 0..self.publishers.len() {
                if self.publishers[one].is_answered() && !self.publishers[one].is_done(&self.sim) {
                    self.publish_by(one, Vec::new());
                }
            }
        }
        if take_turns {
            self.publishers.iter_mut().for_each(|publisher| publisher.leave(&mut self.sim));
        }
    }

    /// One reader comes, or goes if it knows where the order ends; whether it does.
    fn come_to_head(&mut self, one: usize, take_turns: bool) -> bool {
        let head = self.sim.id(self.sim.history.head());
        let traveller = &mut self.travellers[one];
        let is_there = traveller.position.as_deref() == Some(&*head);
        match traveller.link.as_ref().map(|link| link.line) {
            Some(_) if is_there && take_turns => traveller.depart(&mut self.sim),
            Some(line) => self.sim.unstall(line),
            None if is_there && take_turns => {}
            None => self.connect(one),
        }
        is_there
    }

    /// Everyone reads and asks until that brings nobody any further.
    fn catch_up(&mut self) {
        loop {
            let before: Vec<_> = self.travellers.iter().map(|one| one.log.len()).collect();
            self.sim.settle();
            self.read();
            if self.travellers.iter().map(|one| one.log.len()).eq(before) {
                return;
            }
        }
    }

    /// Everyone goes; what they lived through is judged, and nothing is left.
    pub fn end(mut self) -> Verdict {
        let Self { sim, within, .. } = &mut self;
        within.iter_mut().for_each(|one| one.leave(sim));
        for line in 0..self.sim.lines.len() {
            if self.sim.rng.bool() { self.sim.reset(line) } else { self.sim.close(line) }
        }
        self.sim.settle();
        self.sim.pass(60_000);
        self.attribute();
        self.listeners.iter_mut().for_each(Listener::lose);
        let travellers = self.travellers.iter().map(|one| &one.patience);
        let patient = travellers.chain(self.publishers.iter().map(|one| &one.patience));
        let patient = patient.chain(self.listeners.iter().map(|one| &one.patience));
        let mut all = Verdict::default();
        for (number, traveller) in self.travellers.iter().enumerate() {
            all.add(&judge(&format!("reader {number}"), &traveller.log, &self.truth));
        }
        for (number, one) in self.within.iter().enumerate() {
            all.add(&judge(&format!("reader {number} within"), &one.log, &self.truth));
        }
        for listener in &self.listeners {
            listener.judge(&self.truth);
        }
        patient.for_each(|patience| all.add_refused(&patience.refused));
        all.published = self.sim.history.head();
        all.conflated = self.sim.history.stats().conflated;
        all.unknown = all.published - self.truth.known(self.truth.epoch());
        let is_told = all.gaps.keys().all(|reason| reason == "epoch");
        assert!(self.rules.forgets || is_told, "gaps, though nothing is forgotten: {all:?}");
        self.sim.assert_deserted();
        all
    }
}
