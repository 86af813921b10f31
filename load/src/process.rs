//! What processes use, from /proc: time of all their threads, and memory.

use std::fs;
use std::time::Duration;

use crate::Fault;

/// The server, by its process id.
#[derive(Clone, Copy, Debug)]
pub struct Server(u32);

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// All that is resident.
    pub rss: u64,
    /// What is its own: heap, stacks.
    pub anon: u64,
}

impl Server {
    /// That process, if there is one.
    pub fn new(pid: u32) -> Result<Self, Fault> {
        let server = Self(pid);
        server.memory().map(|_| server)
    }

    /// Processor time of all its threads so far.
    pub fn cpu(self) -> Result<Duration, Fault> {
        cpu(&self.0.to_string())
    }

    /// Its memory.
    pub fn memory(self) -> Result<Memory, Fault> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))
            .map_err(|error| Fault::wrong(format!("process {}: {error}", self.0)))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
        };
        Ok(Memory { rss: field("VmRSS:"), anon: field("RssAnon:") })
    }
}

/// What a server is left for itself when as many connections as possible are opened: holdline keeps
/// 64 descriptors, and there may be files besides.
const RESERVE: usize = 128;

/// How many connections the descriptors of both processes allow.
pub fn most_connections(server: Option<Server>) -> Result<usize, Fault> {
    // This raises the own limit.
    want_descriptors(0)?;
    let own = free_descriptors("self")?;
    let servers = server.map(|server| free_descriptors(&server.0.to_string())).transpose()?;
    Ok(own.min(servers.unwrap_or(own)).saturating_sub(RESERVE))
}

/// The limit that counts now, less those in use.
fn free_descriptors(process: &str) -> Result<usize, Fault> {
    let fault = |error| Fault::wrong(format!("process {process}: {error}"));
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).map_err(fault)?;
    let used = fs::read_dir(format!("/proc/{process}/fd")).map_err(fault)?.count();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    // "unlimited" is no number.
    Ok(soft.unwrap_or(usize::MAX).saturating_sub(used))
}

/// Processor time of this process so far.
pub fn own_cpu() -> Duration {
    cpu("self").unwrap_or_default()
}

/// In nanoseconds from schedstat, for each thread: the ticks of stat are 10 ms long.
fn cpu(process: &str) -> Result<Duration, Fault> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))
        .map_err(|error| Fault::wrong(format!("process {process}: {error}")))?;
    let mut nanoseconds = 0;
    for task in tasks.flatten() {
        // A thread may end while we look.
        let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let ran = schedstat.split(' ').next().and_then(|ran| ran.parse::<u64>().ok());
        nanoseconds += ran.unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Binds this thread to one processor.
pub fn pin(cpu: usize) -> Result<(), Fault> {
    let mut set = rustix::thread::CpuSet::new();
    if cpu >= rustix::thread::CpuSet::MAX_CPU {
        return Err(Fault::usage(format!("--cpu {cpu}: there is none of that number")));
    }
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|error| Fault::usage(format!("--cpu {cpu}: {error}")))
}

/// Lets this process have as many descriptors as it may, and says if `wanted` are more than that.
pub fn want_descriptors(wanted: usize) -> Result<(), Fault> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What follows tells whether it did.
    let _ = setrlimit(Resource::Nofile, limit);
    let Some(most) = getrlimit(Resource::Nofile).current else { return Ok(()) };
    if wanted as u64 + 20 > most {
        let message = "connections, and this process may have";
        return Err(Fault::usage(format!("{wanted} {message} {most} descriptors: see ulimit -Hn")));
    }
    Ok(())
}
