//! Where the choices of a world come from: a seed, or bytes that somebody else chose, such as a
//! fuzzer, which learns what each of them does.

use std::ops::{Bound, RangeBounds};

/// Draws as [`fastrand::Rng`] does.
#[derive(Clone, Debug)]
pub struct Chance {
    bytes: Vec<u8>,
    /// How many of them have been used.
    at: usize,
    /// Behind the bytes, and for what is no choice: keys, seeds, names.
    beyond: fastrand::Rng,
}

impl From<u64> for Chance {
    fn from(seed: u64) -> Self {
        Self { bytes: Vec::new(), at: 0, beyond: fastrand::Rng::with_seed(seed) }
    }
}

impl From<&[u8]> for Chance {
    fn from(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), ..Self::from(0) }
    }
}

macro_rules! draws {
    ($($integer:ident),*) => { $(
        pub fn $integer(&mut self, range: impl RangeBounds<$integer>) -> $integer {
            let low = match range.start_bound() {
                Bound::Included(low) => *low,
                Bound::Excluded(low) => *low + 1,
                Bound::Unbounded => $integer::MIN,
            };
            let high = match range.end_bound() {
                Bound::Included(high) => *high,
                Bound::Excluded(high) => *high - 1,
                Bound::Unbounded => $integer::MAX,
            };
            let drawn = self.chosen((high - low) as u64);
            drawn.map_or_else(|| self.beyond.$integer(low..=high), |n| low + n as $integer)
        }
    )* };
}

impl Chance {
    draws!(u8, u32, u64, usize);

    pub fn bool(&mut self) -> bool {
        self.chosen(1).map_or_else(|| self.beyond.bool(), |n| n == 1)
    }

    /// Another source of chance, which is nobody's choice.
    pub fn fork(&mut self) -> Self {
        Self { bytes: Vec::new(), at: 0, beyond: self.beyond.fork() }
    }

    /// Whether everything that somebody chose has happened.
    pub fn is_used_up(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Some bytes as they were chosen.
    pub fn take(&mut self, max: usize) -> Vec<u8> {
        let end = self.bytes.len().min(self.at + max);
        let taken = self.bytes[self.at..end].to_vec();
        self.at = end;
        taken
    }

    /// At most `max`, if there are bytes to choose it and it is a choice.
    fn chosen(&mut self, max: u64) -> Option<u64> {
        let width = match max {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            _ => return None,
        };
        let bytes = self.take(width);
        if bytes.len() < width {
            return None;
        }
        let number = bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Some(number % (max + 1))
    }
}
