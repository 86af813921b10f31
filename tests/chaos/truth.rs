//! What was really published: every message carries a number of its own, so that whoever gets it
//! names it, and each number is tied to its place in the order by whoever sees that first.

use std::collections::{BTreeMap, HashMap};

/// A message as it was meant.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub channel: usize,
    /// Seconds; `None` without a ttl.
    pub ttl_s: Option<u64>,
    pub unix_ms: u64,
}

impl Spec {
    /// Whether a reader that was told a position behind it at `unix_ms` must have got it.
    pub fn is_owed(&self, unix_ms: u64) -> bool {
        match self.ttl_s {
            None => true,
            Some(0) => false,
            Some(seconds) => unix_ms < self.unix_ms + seconds * 1_000,
        }
    }
}

/// A position: which run of the sequence, counted from 0, and how far in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    pub epoch: usize,
    pub seq: u64,
}

#[derive(Debug, Default)]
pub struct Truth {
    pub specs: BTreeMap<u64, Spec>,
    next: u64,
    epochs: Vec<String>,
    /// Which number has which place, and the other way round.
    places: HashMap<At, u64>,
    numbers: HashMap<u64, At>,
}

impl Truth {
    /// A new message, to be published at some time from now on; its number.
    pub fn spec(&mut self, spec: Spec) -> u64 {
        self.next += 1;
        self.specs.insert(self.next, spec);
        self.next
    }

    pub fn begin_epoch(&mut self, epoch: &str) {
        self.epochs.push(epoch.to_owned());
    }

    pub fn epoch(&self) -> usize {
        self.epochs.len() - 1
    }

    /// Reads `epoch-seq`.
    #[track_caller]
    pub fn at(&self, id: &str) -> At {
        let (epoch, seq) = id.split_once('-').unwrap_or_else(|| panic!("{id:?} is no position"));
        let known = self.epochs.iter().position(|known| known == epoch);
        let epoch = known.unwrap_or_else(|| panic!("nobody knows the epoch of {id:?}"));
        At { epoch, seq: seq.parse().unwrap_or_else(|_| panic!("no seq in {id:?}")) }
    }

    /// Somebody saw that a number has this place.
    #[track_caller]
    pub fn place(&mut self, at: At, number: u64) {
        assert!(self.specs.contains_key(&number), "{number} was never meant to be published");
        let known = *self.places.entry(at).or_insert(number);
        assert_eq!(known, number, "two messages at {at:?}");
        let known = *self.numbers.entry(number).or_insert(at);
        assert_eq!(known, at, "message {number} was published twice");
    }

    /// What lies in `(after, up_to]` of one run on one channel.
    pub fn between(
        &self,
        channel: usize,
        epoch: usize,
        after: u64,
        up_to: u64,
    ) -> impl Iterator<Item = (At, &Spec)> {
        let places = (after + 1..=up_to).map(move |seq| At { epoch, seq });
        let known = places.filter_map(|at| Some((at, self.spec_at(at)?)));
        known.filter(move |(_, spec)| spec.channel == channel)
    }

    pub fn spec_at(&self, at: At) -> Option<&Spec> {
        self.specs.get(self.places.get(&at)?)
    }

    /// Of how many places of a run it is known what was published there.
    pub fn known(&self, epoch: usize) -> u64 {
        self.places.keys().filter(|at| at.epoch == epoch).count() as u64
    }

    pub fn place_of(&self, number: u64) -> Option<At> {
        self.numbers.get(&number).copied()
    }
}

pub fn name(channel: usize) -> String {
    format!("c{channel}")
}

#[track_caller]
pub fn channel(name: &str) -> usize {
    name.strip_prefix('c').and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{name:?}"))
}

/// A payload that names its number, of any length.
pub fn payload(number: u64, filler: usize) -> String {
    format!("{number} {}", "x".repeat(filler))
}

#[track_caller]
pub fn number(payload: &str) -> u64 {
    let digits = payload.split(' ').next().unwrap_or("");
    digits.parse().unwrap_or_else(|_| panic!("{payload:?} is nobody's message"))
}
