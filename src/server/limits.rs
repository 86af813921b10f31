//! What this machine allows, read from where Linux says it; elsewhere careful guesses.

use std::fs;

const MIB: u64 = 1024 * 1024;

/// A quarter of the memory of the machine or the control group, at most 512 MiB.
pub(super) fn default_memory() -> usize {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text));
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let available = [machine, group].into_iter().flatten().min().unwrap_or(256 * MIB);
    usize::try_from((available / 4).min(512 * MIB)).unwrap_or(64 * MIB as usize)
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What one connection takes of the memory when it is idle.
const CONNECTION_BYTES: usize = 256;

/// The descriptor limit less 64, which stay for listeners, logs and refusals, and less what loops take
/// themselves; no more than half of the memory carries.
pub(super) fn default_connections(memory_bytes: usize, loops: u32) -> usize {
    let limits = fs::read_to_string("/proc/self/limits").ok();
    let descriptors = limits.and_then(|text| open_files(&text)).unwrap_or(1024);
    let taken = 64 + 2 * (loops as usize - 1);
    descriptors.saturating_sub(taken).min(memory_bytes / 2 / CONNECTION_BYTES).max(16)
}

fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_tables_are_read() {
        assert_eq!(mem_total("MemTotal:       24576 kB\nMemFree: 1 kB\n"), Some(24576 * 1024));
        assert_eq!(mem_total("nothing"), None);
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files    20000    20000   files\n";
        assert_eq!(open_files(limits), Some(20_000));
    }
}
