//! HTTP/1.1 requests as bytes: heads, bodies, targets.
//!
//! Everything a peer can send ends in a value or in a small `Copy` error that names its status;
//! nothing panics, and only decoding a target allocates. What two servers could read differently is
//! refused.

pub mod body;
mod fuzz;
pub mod head;
pub mod response;
pub mod target;

pub use body::{Body, BodyError, BodyStep, Framing};
#[doc(hidden)]
pub use fuzz::{fuzz_chunk, fuzz_head, fuzz_target};
pub use head::{
    Expect, Head, HeadError, HeadLimits, HeadScan, header, headers, only_header, parse,
};
pub use target::{BadQuery, Method, Query, Version, decode_segment, split_host};

/// A range of bytes of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Invariant: `start <= end`.
    start: u16,
    end: u16,
}

impl Span {
    /// The bytes it stands for.
    ///
    /// # Panics
    ///
    /// If `head` is shorter than the head that was parsed.
    #[must_use]
    pub fn of(self, head: &[u8]) -> &[u8] {
        &head[usize::from(self.start)..usize::from(self.end)]
    }

    /// The span of `start..end`. No head is longer than 65 535 bytes.
    fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= usize::from(u16::MAX), "no head is as long");
        Self { start: start as u16, end: end as u16 }
    }

    /// The span of `part`, which must be a slice of `head`.
    fn within(head: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr() as usize - head.as_ptr() as usize;
        Self::new(start, start + part.len())
    }
}

/// A generator with a fresh seed, which a failing test prints.
#[cfg(test)]
fn seeded() -> fastrand::Rng {
    use std::hash::{BuildHasher, RandomState};
    let seed = RandomState::new().hash_one("seed");
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}
