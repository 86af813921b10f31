//! Publications to all who listen: a window of them at a time, the next when everybody has them; or
//! so many a second, come what may.

use std::time::{Duration, Instant};

use super::crowd::{Counts, Crowd, Voice, settle, take};
use super::{LAST, Outcome, Run, parameters};
use crate::Fault;
use crate::meter::{Measured, Meter, record};
use crate::process;

/// Times of publications are kept for as many.
const KEPT: usize = 65_536;

/// When each was published, by its number.
#[derive(Debug)]
pub struct Times(Vec<Instant>);

impl Times {
    pub fn new() -> Self {
        Self(vec![Instant::now(); KEPT])
    }

    pub fn set(&mut self, number: u64, at: Instant) {
        self.0[number as usize % KEPT] = at;
    }

    pub fn since(&self, number: u64, now: Instant) -> Duration {
        now.saturating_duration_since(self.0[number as usize % KEPT])
    }
}

pub fn run(run: &mut Run) -> Result<(), Fault> {
    run.args.only(&["ws", "sse", "poll", "window", "rate", "size"])?;
    let counts = Counts::new(run, 1_000)?;
    let window = run.args.positive("window", 1, 10_000)?;
    let rate = run.args.number("rate", 0, 1_000_000)?;
    let size = run.size()?;
    process::want_descriptors(counts.sum() + 1)?;
    let mut meter = run.meter()?;
    let (ways, which) = counts.ways(run)?;
    let mut voice = Voice::open(run, size)?;
    let mut crowd = Crowd::new(ways);
    crowd.grow(run, &which, &mut meter)?;
    settle(run, &mut crowd, &mut voice)?;
    crowd.expect(voice.next);
    run.start(&mut meter);
    let mut times = (rate > 0).then(Times::new);
    let left = match &mut times {
        None => closed(run, &mut crowd, &mut voice, &mut meter, window)?,
        Some(times) => open(run, &mut crowd, &mut voice, &mut meter, (rate, times))?,
    };
    let mut measured = meter.finish(&run.poll)?;
    drain(run, &mut crowd, &mut voice, left, |number, now| {
        // Of those who come late most of all it counts how late.
        if let Some(times) = &times {
            record(&mut measured.latency, times.since(number, now));
        }
    })?;
    told(run, counts, (window, rate, size), measured, &crowd)
}

/// A window at a time. Returns how many deliveries are still to come.
fn closed(
    run: &mut Run,
    crowd: &mut Crowd,
    voice: &mut Voice,
    meter: &mut Meter,
    window: u64,
) -> Result<u64, Fault> {
    let all = crowd.members.len() as u64 * window;
    let (mut left, mut ready, mut began) = (0_u64, Vec::new(), Instant::now());
    let mut came = began;
    while meter.running(&run.poll)? {
        if left == 0 && voice.publisher.unanswered == 0 {
            (began, came) = (Instant::now(), Instant::now());
            voice.publish(run, window)?;
            left = all;
        }
        run.poll.wait(meter.end(), &mut ready)?;
        take(run, &ready, crowd, voice, |_, now| {
            left = left.saturating_sub(1);
            came = now;
            meter.record(now.saturating_duration_since(began));
        })?;
        if left > 0 && came.elapsed() > LAST {
            break; // the count of what was lost says why
        }
    }
    Ok(left)
}

/// So many a second. Time counts from when a publication was due, so that a server that holds up the
/// publisher does not look good by it.
fn open(
    run: &mut Run,
    crowd: &mut Crowd,
    voice: &mut Voice,
    meter: &mut Meter,
    (rate, times): (u64, &mut Times),
) -> Result<u64, Fault> {
    let each = Duration::from_secs_f64(1.0 / rate as f64);
    let mut ready = Vec::new();
    let (mut due, mut left) = (Instant::now(), 0_u64);
    while meter.running(&run.poll)? {
        while due <= Instant::now().min(meter.end()) {
            if left / crowd.members.len().max(1) as u64 >= KEPT as u64 / 2 {
                return Err(Fault::wrong("deliveries do not keep up with --rate"));
            }
            times.set(voice.next, due);
            voice.publish(run, 1)?;
            left += crowd.members.len() as u64;
            due += each;
        }
        run.poll.wait(due.min(meter.end()), &mut ready)?;
        take(run, &ready, crowd, voice, |number, now| {
            left = left.saturating_sub(1);
            meter.record(times.since(number, now));
        })?;
    }
    Ok(left)
}

/// What is still on its way comes now, or never.
fn drain(
    run: &mut Run,
    crowd: &mut Crowd,
    voice: &mut Voice,
    mut left: u64,
    mut each: impl FnMut(u64, Instant),
) -> Result<(), Fault> {
    let (end, mut ready) = (Instant::now() + LAST, Vec::new());
    while left > 0 && Instant::now() < end {
        run.poll.wait(end, &mut ready)?;
        take(run, &ready, crowd, voice, |number, now| {
            left = left.saturating_sub(1);
            each(number, now);
        })?;
    }
    crowd.end(voice.next);
    Ok(())
}

fn told(
    run: &Run,
    counts: Counts,
    (window, rate, size): (u64, u64, usize),
    measured: Measured,
    crowd: &Crowd,
) -> Result<(), Fault> {
    let [ws, sse, poll] = counts.0.map(|(_, count)| count);
    let pace = if rate > 0 { ("rate", rate.into()) } else { ("window", window.into()) };
    run.tell(Outcome {
        scenario: "fanout",
        unit: "deliveries",
        parameters: parameters([
            ("ws", ws.into()),
            ("sse", sse.into()),
            ("poll", poll.into()),
            pace,
            ("size", size.into()),
        ]),
        measured,
        wrongs: crowd.wrongs,
        more: Default::default(),
    })
}
