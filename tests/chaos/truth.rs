//! What was really published: every message carries a number of its own, so that whoever gets it
//! names it, and each number is tied to its place in the order by whoever sees that first.

use std::collections::{BTreeMap, HashMap};

use super::sim::Sim;

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
    /// Channels that keep only the newest of each event name.
    pub latest: Vec<usize>,
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

    /// Where the order ends now.
    pub fn head(&self, sim: &Sim) -> At {
        At { epoch: self.epoch(), seq: sim.history.head() }
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

    /// Whether what has this place had been superseded when the order ended at `head`. What nobody
    /// knows may have done it.
    pub fn is_superseded(&self, at: At, head: At) -> bool {
        let Some(number) = self.places.get(&at) else { return false };
        let spec = &self.specs[number];
        if !self.latest.contains(&spec.channel) || head.epoch != at.epoch {
            return false;
        }
        let is_same = |other: &u64| {
            let of = &self.specs[other];
            let takes = of.ttl_s != Some(0) || spec.ttl_s == Some(0);
            of.channel == spec.channel && event(*other) == event(*number) && takes
        };
        let mut later = (at.seq + 1..=head.seq).map(|seq| At { seq, ..at });
        later.any(|place| self.places.get(&place).is_none_or(is_same))
    }

    /// The same, but it is known what has done it.
    pub fn is_known_superseded(&self, at: At, head: At) -> bool {
        let all_known = |place| self.places.contains_key(&place);
        let places = (at.seq + 1..=head.seq).map(|seq| At { seq, ..at });
        self.is_superseded(at, head) && places.into_iter().all(all_known)
    }

    /// Of how many places of a run it is known what was published there.
    pub fn known(&self, epoch: usize) -> u64 {
        self.places.keys().filter(|at| at.epoch == epoch).count() as u64
    }

    /// The newest place of a run that anybody knows of.
    pub fn end(&self, epoch: usize) -> u64 {
        let places = self.places.keys().filter(|at| at.epoch == epoch);
        places.map(|at| at.seq).max().unwrap_or(0)
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

/// What a message carries. It follows from its number, so that a reader can tell whether what came
/// is what was published, to the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Text with line ends of all kinds, and lines that look like fields of a stream.
    Lines,
    Json,
    /// No UTF-8.
    Binary,
}

pub fn kind(number: u64) -> Kind {
    match number % 8 {
        3 => Kind::Binary,
        5 => Kind::Lines,
        6 => Kind::Json,
        _ => Kind::Text,
    }
}

pub fn event(number: u64) -> Option<&'static str> {
    (number % 7 == 2).then_some("tick")
}

pub fn payload(number: u64) -> Vec<u8> {
    let filler = if number % 20 == 4 { number * 7_919 % 20_000 } else { number * 31 % 60 };
    let filler = "x".repeat(filler as usize);
    match kind(number) {
        Kind::Text => format!("{number} {filler}").into_bytes(),
        Kind::Lines => format!("{number} \rid: a\r\n\nevent: open\n\n{filler}\n").into_bytes(),
        Kind::Json => format!(r#"{{"number":{number}, "filler":"{filler}"}}"#).into_bytes(),
        Kind::Binary => {
            [format!("{number} \0").as_bytes(), b"\xff\r\n", filler.as_bytes()].concat()
        }
    }
}

/// Which message it is; all of it must have come.
#[track_caller]
pub fn number(bytes: &[u8]) -> u64 {
    let number = named(&String::from_utf8_lossy(bytes));
    assert!(payload(number) == bytes, "{:?} of {number}", String::from_utf8_lossy(bytes));
    number
}

/// Which message it is that came through an event stream, where lines end in one way only.
#[track_caller]
pub fn number_of_lines(text: &str) -> u64 {
    let number = named(text);
    let published = String::from_utf8(payload(number)).expect("the rest comes in base64");
    assert_eq!(text, published.replace("\r\n", "\n").replace('\r', "\n"));
    number
}

#[track_caller]
fn named(text: &str) -> u64 {
    let digits = text.trim_start_matches(r#"{"number":"#).split([' ', ',']).next().unwrap_or("");
    digits.parse().unwrap_or_else(|_| panic!("{text:?} is nobody's message"))
}
