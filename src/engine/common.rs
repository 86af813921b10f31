//! What the engines of one server have in common, however many loops it has: a client may come to any
//! of them, and back to another.

use std::sync::Arc;

use super::limits::Limits;
use super::presence::Board;
use super::totals::Totals;
use crate::config::Config;
use crate::hub::History;

/// What the engines of one server share: made once, and given to [each](super::Engine::with). The
/// order of everything published, limits that count for the whole server, and who listens.
///
/// ```
/// use std::sync::Arc;
/// use holdline::engine::{Common, Engine, Policy};
/// use holdline::{Config, Epoch, Now, hub::History};
///
/// let now = Now { mono_ms: 0, unix_ms: 1_764_000_000_000 };
/// let config = Arc::new(Config::default().open());
/// let history = Arc::new(History::new(&config, Epoch::from_random(7), now));
/// let common = Common::new(Arc::clone(&config), history, 2);
/// let policy = || Policy::new(&config, &[]);
/// let engines = [0, 1].map(|number| Engine::with(&common, policy(), number, 7 + u64::from(number), now));
/// ```
#[derive(Clone, Debug)]
pub struct Common {
    pub(crate) config: Arc<Config>,
    pub(crate) history: Arc<History>,
    /// How many engines there are, or will be.
    pub(crate) loops: usize,
    pub(crate) limits: Arc<Limits>,
    pub(crate) board: Arc<Board>,
    pub(crate) totals: Arc<Totals>,
}

impl Common {
    /// For so many engines over one order. Each may be replaced, but there are never more than these:
    /// the memory of small budgets is divided among them.
    #[must_use]
    pub fn new(config: Arc<Config>, history: Arc<History>, loops: usize) -> Self {
        let loops = loops.clamp(1, 1 + usize::from(u8::MAX));
        let config = with_progress(with_small_arenas(config, &history, loops));
        let limits = Arc::new(Limits::new(config.addresses_max, Arc::clone(&history)));
        let board = Arc::new(Board::new(&config, Arc::clone(&history), loops));
        let totals = Arc::new(Totals::new(loops));
        Self { config, history, loops, limits, board, totals }
    }

    /// The configuration, as it holds.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Where the engines leave their numbers.
    #[must_use]
    pub fn totals(&self) -> &Arc<Totals> {
        &self.totals
    }

    /// For how many engines it was made.
    #[must_use]
    pub fn loops(&self) -> usize {
        self.loops
    }
}

/// Replies of a turn take their part of a small budget, however many loops there are.
fn with_small_arenas(config: Arc<Config>, history: &History, loops: usize) -> Arc<Config> {
    let share = history.usable_bytes() / loops / 16;
    if loops == 1 || config.arena_bytes <= share {
        return config;
    }
    Arc::new(Config { arena_bytes: share, ..(*config).clone() })
}

/// A budget of nothing would have a turn do nothing, for ever: each is at least one.
fn with_progress(mut config: Arc<Config>) -> Arc<Config> {
    let fixed = Arc::make_mut(&mut config);
    for budget in [
        &mut fixed.writes_per_turn,
        &mut fixed.write_bytes_per_turn,
        &mut fixed.timers_per_turn,
        &mut fixed.accepts_per_turn,
        &mut fixed.read_bytes_per_turn,
        &mut fixed.reply_bytes_per_turn,
        &mut fixed.arena_bytes,
        &mut fixed.recent_bytes,
    ] {
        *budget = (*budget).max(1);
    }
    config
}
