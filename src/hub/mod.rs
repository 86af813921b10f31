//! Channels: the one order of everything published ([`History`], shared by all loops) and who
//! listens on one loop ([`Roster`]). Knows nothing of connections beyond a number.

mod bell;
mod channel;
mod history;
mod keys;
mod latest;
mod pull;
mod roster;
mod snapshot;

pub use bell::Bell;
pub use channel::ChannelIndex;
pub(crate) use channel::Evicted;
pub(crate) use history::MEMORY_FULL;
pub use history::{
    ChannelInfo, History, HistoryLimits, HistoryStats, Joined, Listed, Published, Rejected,
    SnapshotInfo, TakenIn, fuzz_snapshot,
};
pub use latest::is_pattern;
pub use pull::{Item, Lost, PullLimits, Pulled, Want};
pub use roster::{RoomIndex, Roster};
pub use snapshot::{Sink, Source, Unreadable};

/// Why a reader's place in the order is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The position belongs to another run of the sequence, or was never given out.
    Epoch,
    /// History no longer reaches back to it.
    Trimmed,
    /// The connection fell behind what history keeps.
    Slow,
}

impl GapReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Epoch, Self::Trimmed, Self::Slow];

    /// The word on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Trimmed => "trimmed",
            Self::Slow => "slow",
        }
    }
}
