//! The books of one reader: every message of a channel carries its number, so that what is missing,
//! comes twice or in the wrong order shows without a look into ids.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The newest number of each channel that has come.
    last: BTreeMap<String, u64>,
    /// Channels of which a gap was announced since their last message.
    excused: BTreeSet<String>,
    pub delivered: u64,
    pub gaps: u64,
    /// Messages that announced gaps took.
    pub missed: u64,
    pub lost: u64,
    /// Came again, or out of order.
    pub twice: u64,
    pub waits: Waits,
}

impl Ledger {
    /// For someone who is owed these channels from their first message.
    pub fn from_the_start(channels: &[String]) -> Self {
        let last = channels.iter().map(|channel| (channel.clone(), 0)).collect();
        Self { last, ..Self::default() }
    }

    pub fn note(&mut self, channel: &str, text: &str, origin: Instant) {
        let (number, sent_us) = Sent::parse(text);
        self.delivered += 1;
        let now_us = origin.elapsed().as_micros() as u64;
        self.waits.note(now_us.saturating_sub(sent_us));
        let is_excused = self.excused.remove(channel);
        let Some(last) = self.last.insert(channel.to_owned(), number) else { return };
        if number <= last {
            self.twice += 1;
        } else if is_excused {
            self.missed += number - last - 1;
        } else {
            self.lost += number - last - 1;
        }
    }

    pub fn gap(&mut self, channel: &str) {
        self.gaps += 1;
        self.excused.insert(channel.to_owned());
    }

    /// How many messages of these channels are still to come.
    pub fn owed(&self, totals: &BTreeMap<String, u64>) -> u64 {
        self.last
            .iter()
            .map(|(channel, last)| totals.get(channel).map_or(0, |all| all - last))
            .sum()
    }

    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.gaps += other.gaps;
        self.missed += other.missed;
        self.lost += other.lost;
        self.twice += other.twice;
        self.waits.add(&other.waits);
    }
}

/// What a publisher writes into a message.
pub struct Sent;

impl Sent {
    /// A payload of at least so many bytes.
    pub fn text(number: u64, origin: Instant, bytes: usize) -> String {
        let mut text = format!("{number} {} ", origin.elapsed().as_micros());
        text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
        text
    }

    #[track_caller]
    fn parse(text: &str) -> (u64, u64) {
        let mut words = text.split(' ').map(str::parse);
        match (words.next(), words.next()) {
            (Some(Ok(number)), Some(Ok(sent_us))) => (number, sent_us),
            _ => panic!("expected a number and a moment, came {text:?}"),
        }
    }
}

/// Sixteen steps an octave: what is asked for is exact to six per cent.
const STEPS: u64 = 16;

/// How long things took, as a histogram over microseconds.
#[derive(Debug, Clone, Default)]
pub struct Waits {
    counts: Vec<u64>,
    pub count: u64,
    pub max_us: u64,
}

impl Waits {
    pub fn note(&mut self, us: u64) {
        let at = Self::index(us);
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }

    fn index(us: u64) -> usize {
        if us < STEPS {
            return us as usize;
        }
        let octave = u64::from(us.ilog2()) - 4;
        (STEPS + octave * STEPS + ((us >> octave) - STEPS)) as usize
    }

    /// The largest value of a bucket.
    fn value(index: usize) -> u64 {
        let index = index as u64;
        if index < STEPS {
            return index;
        }
        let (octave, step) = ((index - STEPS) / STEPS, (index - STEPS) % STEPS);
        ((STEPS + step + 1) << octave) - 1
    }

    /// In microseconds; nothing for nothing.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Self::value(index).min(self.max_us);
            }
        }
        self.max_us
    }

    pub fn p50_ms(&self) -> f64 {
        self.quantile(0.5) as f64 / 1e3
    }

    pub fn p99_ms(&self) -> f64 {
        self.quantile(0.99) as f64 / 1e3
    }

    pub fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, more)| *mine += more);
        self.count += other.count;
        self.max_us = self.max_us.max(other.max_us);
    }
}
