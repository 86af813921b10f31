//! Clients that come back all at once, each with the same old position, and catch up: as after a
//! network that was gone for a while. Each must get what it missed once and in order.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::crowd::{Counts, Crowd, Voice};
use super::{Outcome, Run, parameters};
use crate::Fault;
use crate::listener::{Transport, Way};
use crate::meter::{Measured, Parts, histogram, record};
use crate::process::{self, Server};
use crate::progress::Progress;
use crate::sequence::Wrongs;

/// Who has connected and not heard anything yet: the queues of many servers hold 511, some 128, and who
/// does not fit in comes a second later, which would be measured then.
const AT_ONCE: usize = 100;
/// Publications that are written at once.
const WRITTEN: u64 = 50;
/// What does not come for so long does not come.
const PATIENCE: Duration = Duration::from_secs(5);
/// What should not come would have come by then.
const TOO_MANY: Duration = Duration::from_millis(20);
/// Each address in turn: the ports of those that have gone are not free again at once.
const ADDRESSES: usize = 50;

/// What one round is about.
#[derive(Debug)]
struct Case {
    ways: Vec<Way>,
    /// The way of each client.
    which: Vec<usize>,
    messages: u64,
}

/// What was found in all rounds.
#[derive(Debug)]
struct Found {
    parts: Parts,
    wrongs: Wrongs,
    /// From the first connect to the last message of the last client, in nanoseconds.
    rounds: hdrhistogram::Histogram<u64>,
    polls: u64,
}

pub fn run(run: &mut Run) -> Result<(), Fault> {
    run.args.only(&["ws", "sse", "poll", "messages", "size"])?;
    let counts = Counts::new(run, 1_000)?;
    let messages = run.args.number("messages", 100, 100_000)?;
    let size = run.size()?;
    if counts.sum() == 0 || messages == 0 {
        return Err(Fault::usage("nobody would come back, or for nothing"));
    }
    process::want_descriptors(counts.sum() + 1)?;
    let case = Case::new(run, counts, messages)?;
    let mut voice = Voice::open(run, size)?;
    if !voice.publisher.is_http() {
        return Err(run.profile.cannot("tell the position of a publication"));
    }
    let mut found = Found {
        parts: Parts::new(run.server)?,
        wrongs: Wrongs::default(),
        rounds: histogram(),
        polls: 0,
    };
    rounds(run, &case, &mut voice, &mut found)?;
    told(run, counts, &case, size, found)
}

impl Case {
    fn new(run: &Run, counts: Counts, messages: u64) -> Result<Self, Fault> {
        let (ways, which) = counts.ways(run)?;
        let case = Self { ways, which, messages };
        // Whether they can at all is better known before anything is published.
        case.resuming(run, "")?;
        Ok(case)
    }

    fn resuming(&self, run: &Run, since: &str) -> Result<Vec<Way>, Fault> {
        self.ways.iter().map(|way| way.resuming(&run.profile, since)).collect()
    }
}

/// One after the other until the time is over; at least one that counts.
fn rounds(run: &mut Run, case: &Case, voice: &mut Voice, found: &mut Found) -> Result<(), Fault> {
    let start = Instant::now();
    let warm_until = start + run.common().warmup;
    let end = warm_until + run.common().seconds;
    let mut progress = Progress::new(run.common().quiet);
    let (mut number, mut warm) = (0, Instant::now() >= warm_until);
    loop {
        number += 1;
        round(run, case, voice, found, number)?;
        let now = Instant::now();
        let done = (now - start).as_secs_f64() / (end - start).as_secs_f64();
        progress.show(done, || format!("round {number}"));
        // What is wrong will be told, and no more would be learnt.
        if (warm && now >= end) || found.wrongs != Wrongs::default() {
            progress.clear();
            return Ok(());
        }
        if !warm && now >= warm_until {
            warm = true;
            found.parts.clear();
            found.rounds.clear();
            found.polls = 0;
        }
    }
}

fn round(
    run: &mut Run,
    case: &Case,
    voice: &mut Voice,
    found: &mut Found,
    number: usize,
) -> Result<(), Fault> {
    publish(run, voice, 1)?;
    let since = std::mem::take(&mut voice.publisher.position);
    if since.is_empty() {
        return Err(Fault::wrong("the answer to a publication tells no position"));
    }
    let first = voice.next;
    publish(run, voice, case.messages)?;
    let mut crowd = Crowd::new(case.resuming(run, &since)?);
    crowd.expected = first;
    crowd.source_from = (number % ADDRESSES + 1) * 10_000;
    found.parts.begin(&run.poll)?;
    let whole = come_back(run, case, voice, &mut crowd, &mut found.parts)?;
    found.parts.end(&run.poll)?;
    record(&mut found.rounds, whole);
    crowd.listen(run, Instant::now() + TOO_MANY)?;
    crowd.end(voice.next);
    found.wrongs.add(crowd.wrongs);
    found.polls += crowd.members.iter().map(|member| member.listener.answers).sum::<u64>();
    drop(crowd);
    rest(run)
}

/// Publishes so many, and waits until all are answered.
fn publish(run: &mut Run, voice: &mut Voice, count: u64) -> Result<(), Fault> {
    let (goal, mut ready) = (voice.next + count, Vec::new());
    let mut end = Instant::now() + PATIENCE;
    while voice.next < goal || voice.publisher.unanswered > 0 {
        if voice.publisher.unanswered == 0 {
            let some = (goal - voice.next).min(WRITTEN);
            voice.publish(run, some)?;
            end = Instant::now() + PATIENCE;
        }
        run.poll.wait(end, &mut ready)?;
        for event in ready.iter().filter(|event| Voice::is_it(event)) {
            voice.handle(run, *event)?;
        }
        if Instant::now() > end {
            return Err(Fault::wrong("publications are not answered"));
        }
    }
    Ok(())
}

/// All come, and stay until each has everything. Returns how long it took.
fn come_back(
    run: &mut Run,
    case: &Case,
    voice: &mut Voice,
    crowd: &mut Crowd,
    parts: &mut Parts,
) -> Result<Duration, Fault> {
    let all = case.which.len();
    let mut left = vec![case.messages; all];
    let mut began = Vec::with_capacity(all);
    let (mut heard, mut done, mut ready) = (0, 0, Vec::new());
    let start = Instant::now();
    let (mut last, mut end) = (start, start + PATIENCE);
    while done < all && Instant::now() < end {
        while began.len() < all && began.len() < heard + AT_ONCE {
            let way = case.which[began.len()];
            began.push(Instant::now());
            crowd.connect(run, way)?;
        }
        run.poll.wait(end, &mut ready)?;
        for event in &ready {
            if Voice::is_it(event) {
                voice.handle(run, *event)?;
                continue;
            }
            let mine = &mut left[event.index];
            let before = *mine;
            crowd.handle(run, *event, |_, now| {
                *mine = mine.saturating_sub(1);
                last = now;
            })?;
            if *mine == before {
                continue;
            }
            parts.messages += before - *mine;
            end = last + PATIENCE;
            heard += usize::from(before == case.messages);
            if *mine == 0 {
                done += 1;
                record(&mut parts.latency, last - began[event.index]);
            }
        }
    }
    Ok(last - start)
}

/// Waits until the server has done with those that have gone, which is not measured here.
fn rest(run: &mut Run) -> Result<(), Fault> {
    const LOOK: Duration = Duration::from_millis(20);
    const QUIET: Duration = Duration::from_micros(500);
    let end = Instant::now() + Duration::from_secs(1);
    let cpu = |run: &Run| run.server.map(Server::cpu).transpose();
    let mut last = cpu(run)?;
    loop {
        std::thread::sleep(LOOK);
        let now = cpu(run)?;
        let spent = now.unwrap_or_default().saturating_sub(last.unwrap_or_default());
        if spent < QUIET || Instant::now() > end {
            return Ok(());
        }
        last = now;
    }
}

fn told(run: &Run, counts: Counts, case: &Case, size: usize, found: Found) -> Result<(), Fault> {
    let [ws, sse, poll] = counts.0.map(|(_, count)| count);
    let Found { parts, wrongs, rounds, polls } = found;
    let measured: Measured = parts.finish()?;
    let milliseconds = |nanoseconds: u64| Value::from(nanoseconds as f64 / 1e6);
    let clients = rounds.len() * case.which.len() as u64;
    let all_polls = case.which.iter().filter(|way| case.ways[**way].transport == Transport::Poll);
    let polls_each = match all_polls.count() as u64 * rounds.len() {
        0 => Value::Null,
        all => (polls as f64 / all as f64).into(),
    };
    run.tell(Outcome {
        scenario: "resume",
        unit: "messages",
        parameters: parameters([
            ("ws", ws.into()),
            ("sse", sse.into()),
            ("poll", poll.into()),
            ("messages", case.messages.into()),
            ("size", size.into()),
        ]),
        more: parameters([
            ("rounds", rounds.len().into()),
            ("ms_until_all_have_all", milliseconds(rounds.value_at_quantile(0.5))),
            ("ms_until_all_have_all_at_most", milliseconds(rounds.max())),
            ("clients_per_second", (clients as f64 / measured.seconds).into()),
            ("answers_to_each_poller", polls_each),
        ]),
        measured,
        wrongs,
    })
}
