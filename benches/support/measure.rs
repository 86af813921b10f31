//! How all benchmarks measure: the processor time of the thread, here and in the kernel. Whoever else
//! wants the processor does not count, so that figures from a machine that does other things too can
//! be compared. And the descriptors that sockets take.

use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Processor time.
pub(crate) struct Busy;

impl Measurement for Busy {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu_time()
    }

    fn end(&self, start: Duration) -> Duration {
        cpu_time() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// How a benchmark is measured if it says nothing else: short, for there are many.
pub(crate) fn config() -> Criterion<Busy> {
    Criterion::default()
        .with_measurement(Busy)
        .sample_size(20)
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
}

/// How long some work keeps the processor.
#[allow(dead_code, reason = "not every benchmark measures by hand")]
pub(crate) fn busy(work: impl FnOnce()) -> Duration {
    let start = cpu_time();
    work();
    cpu_time() - start
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Raises this process's own limit where it is too low; says so if it may not be that high.
#[allow(dead_code, reason = "not every benchmark has sockets")]
pub(crate) fn descriptors(needed: usize) -> Result<(), String> {
    let needed = needed as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < needed) {
        return Err(format!("it takes {needed} descriptors, and {maximum} are allowed"));
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|error| format!("{needed} descriptors: {error}"))
}
