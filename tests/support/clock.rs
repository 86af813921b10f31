//! What a test may ask of the machine besides what it tests: how late it wakes those who sleep, and
//! how much of a processor a thread really had. A bound on elapsed time alone is a bet on who else
//! wants the machine.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Short enough to meet whatever delays others for long.
const NAP: Duration = Duration::from_millis(2);

/// A thread that sleeps for moments, and notes how late it wakes: from its start to its end.
#[derive(Debug)]
pub struct Lateness {
    stops: Arc<AtomicBool>,
    worst_us: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Lateness {
    pub fn watch() -> Self {
        let (stops, worst_us) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, worst) = (Arc::clone(&stops), Arc::clone(&worst_us));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(NAP);
                let late = began.elapsed().saturating_sub(NAP);
                worst.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
            }
        });
        Self { stops, worst_us, thread: Some(thread) }
    }

    /// By how much it was late at most, so far.
    pub fn worst(&self) -> Duration {
        Duration::from_micros(self.worst_us.load(Ordering::Relaxed))
    }

    /// What something that takes this long alone may take here: every hand it goes through may have
    /// been as late as the latest, and a busy machine has less than all of a processor for each.
    pub fn allow(&self, alone: Duration) -> Duration {
        alone + self.worst() * 20
    }

    pub fn allow_ms(&self, alone: f64) -> f64 {
        alone + self.allow(Duration::ZERO).as_secs_f64() * 1e3
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What `work` takes of a processor, which others who want it do not change; where the system does
/// not say, the time that passes.
pub fn worked<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let (began, before) = (Instant::now(), had_so_far());
    let result = work();
    let had = had_so_far().zip(before).map(|(now, before)| now - before);
    (result, had.unwrap_or_else(|| began.elapsed()))
}

/// What this thread has had of a processor.
fn had_so_far() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let ns = told.split(' ').next()?.parse().ok()?;
    (ns > 0).then(|| Duration::from_nanos(ns))
}
