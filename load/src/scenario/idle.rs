//! Connections that only listen: what memory each of them takes, and what processor time all of them
//! take while nothing is published.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::crowd::{Counts, Crowd};
use super::{CONNECTIONS_MAX, Outcome, Run, parameters};
use crate::Fault;
use crate::listener::{Transport, Way};
use crate::meter::Measured;
use crate::process::{self, Memory, Server};
use crate::report::grouped;
use crate::sequence::Wrongs;

/// Opened and closed before anything counts, so that tables and buffers that a server makes once, with
/// its first connection, are there. Few: their own memory, which a server keeps, is missing in the sum.
const WARM: usize = 16;
/// Memory is looked at so often, and has settled when it stays the same three times.
const LOOK: Duration = Duration::from_millis(150);
/// Or after so long.
const SETTLES: Duration = Duration::from_secs(10);
const STEPS: &str = "1000,5000,10000";

/// So many were open, and what was found.
#[derive(Debug)]
struct Step {
    connections: usize,
    measured: Measured,
    bytes: Option<f64>,
}

pub fn run(run: &mut Run) -> Result<(), Fault> {
    run.args.only(&["ws", "sse", "poll", "steps"])?;
    let counts = Counts::new(run, 0)?;
    let steps = steps(run, counts.sum())?;
    let most = steps.last().copied().unwrap_or(0);
    process::want_descriptors(most)?;
    let mut shares = counts.0.to_vec();
    shares.retain(|(_, count)| *count > 0);
    if shares.is_empty() {
        shares.push((Transport::Ws, 1));
    }
    let host = run.common().host.clone();
    let ways: Result<Vec<Way>, Fault> =
        shares.iter().map(|(transport, _)| Way::new(&run.profile, *transport, &host)).collect();
    let ways = ways?;
    let which = shared(&shares, most.max(WARM));

    let start = memory(run)?;
    let warm = warm(run, ways.clone(), &which[..WARM])?;
    let mut crowd = Crowd::new(ways);
    let mut done = Vec::new();
    for connections in steps {
        let more = &which[crowd.members.len()..connections];
        done.push(step(run, &mut crowd, more, warm)?);
    }
    told(run, &shares, &which, [start, warm], done)
}

/// How many connections are to be open, one after the other.
fn steps(run: &Run, sum: usize) -> Result<Vec<usize>, Fault> {
    let default = if sum == 0 { STEPS.to_owned() } else { sum.to_string() };
    let text = run.args.text("steps").unwrap_or(&default);
    let wrong = |why: &str| Fault::usage(format!("--steps {text}: {why}"));
    let mut steps = Vec::new();
    for word in text.split(',') {
        let number = match word {
            "max" => process::most_connections(run.server)?,
            word => word.parse().map_err(|_| wrong("numbers with commas, or max"))?,
        };
        if number == 0 || steps.last().is_some_and(|last| *last >= number) {
            return Err(wrong(&format!("each must be more than the one before, not {number}")));
        }
        if number as u64 > CONNECTIONS_MAX {
            return Err(wrong("too many"));
        }
        steps.push(number);
    }
    Ok(steps)
}

/// Which way each of `all` takes, so that any number of them from the first is mixed as the shares say.
fn shared(shares: &[(Transport, usize)], all: usize) -> Vec<usize> {
    let sum: usize = shares.iter().map(|(_, share)| share).sum();
    let mut given = vec![0; shares.len()];
    let owed = |way: usize, given: usize, opened: usize| {
        (shares[way].1 * (opened + 1)) as i64 - (given * sum) as i64
    };
    (0..all)
        .map(|opened| {
            let most = (0..shares.len()).rev().max_by_key(|way| owed(*way, given[*way], opened));
            let way = most.unwrap_or(0);
            given[way] += 1;
            way
        })
        .collect()
}

fn memory(run: &Run) -> Result<Option<Memory>, Fault> {
    run.server.map(Server::memory).transpose()
}

/// A few connections come and go. Returns what memory the server has then.
fn warm(run: &mut Run, ways: Vec<Way>, which: &[usize]) -> Result<Option<Memory>, Fault> {
    let mut crowd = Crowd::new(ways.clone());
    crowd.grow(run, which, &mut run.meter()?)?;
    settle(run, &mut crowd)?;
    drop(crowd);
    settle(run, &mut Crowd::new(ways))
}

/// Answers what comes until memory stays as it is.
fn settle(run: &mut Run, crowd: &mut Crowd) -> Result<Option<Memory>, Fault> {
    let end = Instant::now() + SETTLES;
    let (mut last, mut same) = (memory(run)?, 0);
    while same < 3 && Instant::now() < end {
        crowd.listen(run, Instant::now() + LOOK)?;
        let now = memory(run)?;
        same = if now.map(|now| now.anon) == last.map(|last| last.anon) { same + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}

fn step(
    run: &mut Run,
    crowd: &mut Crowd,
    which: &[usize],
    before: Option<Memory>,
) -> Result<Step, Fault> {
    let mut meter = run.meter()?;
    crowd.grow(run, which, &mut meter)?;
    settle(run, crowd)?;
    meter.start(Duration::ZERO, run.common().seconds);
    let mut ready = Vec::new();
    while meter.running(&run.poll)? {
        run.poll.wait(meter.end(), &mut ready)?;
        for event in &ready {
            crowd.handle(run, *event, |_, _| ())?;
        }
    }
    let mut measured = meter.finish(&run.poll)?;
    measured.memory_before = before;
    let connections = crowd.members.len();
    let bytes = each(before, measured.memory, connections);
    Ok(Step { connections, measured, bytes })
}

/// What one takes of the private memory that has come.
fn each(before: Option<Memory>, now: Option<Memory>, connections: usize) -> Option<f64> {
    let grown = (now?.anon as f64 - before?.anon as f64) * 1_024.0;
    Some(grown / connections as f64)
}

impl Step {
    fn cpu(&self) -> Option<f64> {
        Some(self.measured.server_cpu?.as_secs_f64() / self.measured.seconds)
    }

    fn to_json(&self) -> Value {
        json!({
            "connections": self.connections,
            "anon_kb": self.measured.memory.map(|memory| memory.anon),
            "rss_kb": self.measured.memory.map(|memory| memory.rss),
            "bytes_per_connection": self.bytes,
            "cpu_per_s": self.cpu(),
        })
    }
}

fn told(
    run: &Run,
    shares: &[(Transport, usize)],
    which: &[usize],
    [start, warm]: [Option<Memory>; 2],
    mut steps: Vec<Step>,
) -> Result<(), Fault> {
    let listed: Vec<Value> = steps.iter().map(Step::to_json).collect();
    table(&steps);
    let last = steps.pop().ok_or_else(|| Fault::usage("--steps: there is none"))?;
    // As many of each as there were in the end.
    let of = Transport::ALL.into_iter().map(|transport| {
        let way = shares.iter().position(|(way, _)| *way == transport);
        let count = which[..last.connections].iter().filter(|taken| Some(**taken) == way).count();
        (transport.name().to_owned(), count.into())
    });
    let since_start = each(start, last.measured.memory, last.connections);
    run.tell(Outcome {
        scenario: "idle",
        unit: "",
        parameters: of.collect(),
        more: parameters([
            ("bytes_per_connection", last.bytes.into()),
            ("bytes_per_connection_since_start", since_start.into()),
            ("cpu_per_s", last.cpu().into()),
            ("start_anon_kb", start.map(|memory| memory.anon).into()),
            ("warm_anon_kb", warm.map(|memory| memory.anon).into()),
            ("steps", listed.into()),
        ]),
        measured: last.measured,
        wrongs: Wrongs::default(),
    })
}

fn table(steps: &[Step]) {
    println!(
        "{:>12} {:>12} {:>10} {:>12} {:>16}",
        "connections", "private KiB", "RSS KiB", "bytes each", "ms of CPU a s"
    );
    let unknown = || "-".to_owned();
    for step in steps {
        let Step { connections, measured, bytes } = step;
        let kilobytes =
            |number: Option<u64>| number.map_or_else(unknown, |number| grouped(number as f64));
        println!(
            "{:>12} {:>12} {:>10} {:>12} {:>16}",
            grouped(*connections as f64),
            kilobytes(measured.memory.map(|memory| memory.anon)),
            kilobytes(measured.memory.map(|memory| memory.rss)),
            bytes.map_or_else(unknown, grouped),
            step.cpu().map_or_else(unknown, |cpu| format!("{:.3}", cpu * 1_000.0)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_connections_is_mixed_as_the_shares_say() {
        let shares = [(Transport::Ws, 6), (Transport::Sse, 3), (Transport::Poll, 1)];
        let which = shared(&shares, 1_000);
        for all in 1..=1_000 {
            for (way, (_, share)) in shares.iter().enumerate() {
                let count = which[..all].iter().filter(|taken| **taken == way).count();
                let due = (all * share) as f64 / 10.0;
                assert!((count as f64 - due).abs() < 1.0, "{count} of {all} by {way}, not {due}");
            }
        }
    }
}
