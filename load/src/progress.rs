//! A line on a terminal that says how far it is.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(200);
const WIDTH: usize = 24;

/// Nothing at all where there is no terminal.
#[derive(Debug)]
pub struct Progress {
    shown: Option<Instant>,
    on: bool,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        Self { shown: None, on: !quiet && std::io::stderr().is_terminal() }
    }

    /// How much of the whole is done, 0 to 1, and what to say of it.
    pub fn show(&mut self, done: f64, say: impl FnOnce() -> String) {
        let now = Instant::now();
        if !self.on || self.shown.is_some_and(|shown| now < shown + EVERY) {
            return;
        }
        self.shown = Some(now);
        let full = (done.clamp(0.0, 1.0) * WIDTH as f64) as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(WIDTH - full));
        eprint!("\r{bar} {:3.0} % {}\x1b[K", done * 100.0, say());
        // It is for the eye only.
        let _ = std::io::stderr().flush();
    }

    pub fn clear(&mut self) {
        if self.shown.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
