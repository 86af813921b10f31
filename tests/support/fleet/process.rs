//! What the kernel says about a process, where it says it (`/proc`).

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A field of `/proc/PID/status` in KiB.
fn status_kib(pid: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// Resident memory in KiB.
pub fn rss_kib(pid: u32) -> Option<u64> {
    status_kib(pid, "VmRSS")
}

/// Open descriptors.
pub fn descriptors(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// Processor time in hundredths of a second, which is the tick on Linux.
pub fn ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let [user, system] = [11, 12].map(|at| fields.get(at)?.parse::<u64>().ok());
    Some(user? + system?)
}

static CROWDED: Mutex<()> = Mutex::new(());

/// As many connections as are wanted and this process may have, for one test at a time.
pub fn room_for(wanted: u64) -> (u64, MutexGuard<'static, ()>) {
    // Whoever failed before has given its descriptors back all the same.
    let guard = CROWDED.lock().unwrap_or_else(PoisonError::into_inner);
    let others = 500;
    (wanted.min(raise_descriptors().saturating_sub(others).max(100)), guard)
}

/// Lets this process have as many descriptors as it may; how many.
pub fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
