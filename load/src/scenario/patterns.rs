//! The four ways in which a page learns of news, side by side: asking every second, a poll that is held,
//! an event stream, a WebSocket. What an update costs each client on the wire, and the server.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Map, Value};

use super::crowd::{Crowd, Voice, settle};
use super::fanout::Times;
use super::{Run, faultless, parameters};
use crate::Fault;
use crate::listener::{Transport, Way};
use crate::meter::{Measured, histogram, record};
use crate::net::Ready;
use crate::process;
use crate::report::{Report, grouped};
use crate::sequence::Wrongs;

/// Short polls come so often.
const SHORT: Duration = Duration::from_secs(1);
/// What is still on its way at the end comes by then, or never.
const LAST: Duration = Duration::from_secs(5);
const BEGIN: &str = "<!-- patterns:begin -->";
const END: &str = "<!-- patterns:end -->";

/// How one learns of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    Short,
    Long,
    Sse,
    Ws,
}

/// What is the same in all runs.
#[derive(Clone, Copy, Debug)]
struct Case {
    clients: usize,
    size: usize,
}

/// A pattern at a rate, and what came out.
#[derive(Debug)]
struct Cell {
    pattern: Pattern,
    rate: f64,
    case: Case,
    /// Published in the time that counts.
    updates: u64,
    measured: Measured,
    wrongs: Wrongs,
    polls: u64,
    empty: u64,
}

pub fn run(run: &mut Run) -> Result<(), Fault> {
    run.args.only(&["connections", "rates", "size", "write"])?;
    let case = Case { clients: run.connections("connections", 100)?, size: run.size()? };
    let rates = rates(run.args.text("rates").unwrap_or("0.1,10"))?;
    if case.clients == 0 {
        return Err(Fault::usage("--connections is 1 or more"));
    }
    process::want_descriptors(case.clients + 1)?;
    if let Some(path) = run.args.text("write") {
        // Better told before minutes have gone than after.
        replaced(&read(path)?, "", path)?;
    }
    println!("{}", Cell::titles().join("  "));
    let mut cells = Vec::new();
    for rate in rates {
        for pattern in Pattern::ALL {
            match pattern.way(run) {
                Ok(way) => cells.push(cell(run, case, pattern, rate, way)?),
                Err(Fault::Cannot(why)) => println!("{why}"),
                Err(fault) => return Err(fault),
            }
        }
    }
    if cells.is_empty() {
        return Err(run.profile.cannot("listen in any way"));
    }
    if let Some(path) = run.args.text("write") {
        std::fs::write(path, replaced(&read(path)?, &markdown(run, case, &cells), path)?)?;
    }
    let mut wrongs = Wrongs::default();
    cells.iter().for_each(|cell| wrongs.add(cell.wrongs));
    faultless(wrongs)
}

/// Updates a second.
fn rates(text: &str) -> Result<Vec<f64>, Fault> {
    let rate = |word: &str| word.parse().ok().filter(|rate| (0.01..=1_000.0).contains(rate));
    let rates: Option<Vec<f64>> = text.split(',').map(rate).collect();
    rates.ok_or_else(|| Fault::usage(format!("--rates {text}: numbers from 0.01 to 1000")))
}

impl Pattern {
    const ALL: [Self; 4] = [Self::Short, Self::Long, Self::Sse, Self::Ws];

    fn name(self) -> &'static str {
        match self {
            Self::Short => "short polling",
            Self::Long => "long-polling",
            Self::Sse => "SSE",
            Self::Ws => "WebSocket",
        }
    }

    fn way(self, run: &Run) -> Result<Way, Fault> {
        let (profile, host) = (&run.profile, &run.common().host);
        match self {
            Self::Short => Way::new(profile, Transport::Poll, host)?.short(profile),
            Self::Long => Way::new(profile, Transport::Poll, host),
            Self::Sse => Way::new(profile, Transport::Sse, host),
            Self::Ws => Way::new(profile, Transport::Ws, host),
        }
    }
}

/// A run under way.
#[derive(Debug)]
struct Course {
    crowd: Crowd,
    voice: Voice,
    times: Times,
    latency: Histogram<u64>,
    /// The first update that counts.
    first: u64,
    left: u64,
    is_short: bool,
    /// The next short poll, and whose it is.
    poll_due: Instant,
    turn: usize,
    /// What the one who publishes sent and got, which is not counted.
    voice_sent: u64,
    voice_received: u64,
}

fn cell(run: &mut Run, case: Case, pattern: Pattern, rate: f64, way: Way) -> Result<Cell, Fault> {
    let (warmup, seconds) = times(run, pattern, rate);
    let mut meter = run.meter()?;
    let mut course = Course::open(run, case, pattern, way)?;
    let start = Instant::now();
    meter.start(warmup, seconds);
    course.poll_due = start;
    let period = Duration::from_secs_f64(1.0 / rate);
    let mut due = first_due(start, warmup, seconds, period);
    let (mut ready, mut before) = (Vec::new(), None);
    while meter.running(&run.poll)? {
        if meter.counts() && before.is_none() {
            before = Some((course.polls(), course.voice_sent, course.voice_received));
            course.first = course.voice.next;
        }
        // What is published at the very end would not arrive in the time that counts.
        if due <= Instant::now() && due + (period / 4).min(seconds / 4) <= meter.end() {
            course.publish(run, due)?;
            due += period;
        }
        course.turn(run, due.min(meter.end()), &mut ready)?;
    }
    let mut measured = meter.finish(&run.poll)?;
    let ((polls, empty), sent, received) = before.unwrap_or_default();
    let now = course.polls();
    measured.sent -= course.voice_sent - sent;
    measured.received -= course.voice_received - received;
    let end = Instant::now() + LAST;
    while course.left > 0 && Instant::now() < end {
        course.turn(run, end, &mut ready)?;
    }
    course.crowd.end(course.voice.next);
    measured.messages = course.latency.len();
    measured.latency = course.latency;
    let updates = course.voice.next - course.first;
    let wrongs = course.crowd.wrongs;
    let (polls, empty) = (now.0 - polls, now.1 - empty);
    let cell = Cell { pattern, rate, case, updates, measured, wrongs, polls, empty };
    cell.tell(run)?;
    Ok(cell)
}

/// To warm up, and to count. Seldom updates need longer until there are some of them.
fn times(run: &Run, pattern: Pattern, rate: f64) -> (Duration, Duration) {
    let common = run.common();
    if common.seconds_given {
        return (common.warmup, common.seconds);
    }
    let seconds = Duration::from_secs(if rate < 1.0 { 60 } else { 20 });
    let whole_turn = if pattern == Pattern::Short { SHORT } else { Duration::ZERO };
    (common.warmup.max(whole_turn), seconds)
}

/// When the first update is due, so that the first that counts comes half a period after the warm-up.
fn first_due(start: Instant, warmup: Duration, seconds: Duration, period: Duration) -> Instant {
    let mut due = warmup + (period / 2).min(seconds / 2);
    while due > period {
        due -= period;
    }
    start + due
}

impl Course {
    /// All listen.
    fn open(run: &mut Run, case: Case, pattern: Pattern, way: Way) -> Result<Self, Fault> {
        let is_short = pattern == Pattern::Short;
        let mut voice = Voice::open(run, case.size)?;
        let mut crowd = Crowd::new(vec![way]);
        crowd.asks_again = !is_short;
        crowd.grow(run, &vec![0; case.clients], &mut run.meter()?)?;
        if is_short {
            answered(run, &mut crowd)?;
        } else {
            settle(run, &mut crowd, &mut voice)?;
        }
        crowd.expect(voice.next);
        let first = voice.next;
        Ok(Self {
            crowd,
            voice,
            times: Times::new(),
            latency: histogram(),
            first,
            left: 0,
            is_short,
            poll_due: Instant::now(),
            turn: 0,
            voice_sent: 0,
            voice_received: 0,
        })
    }

    /// Answers to polls, and those that brought nothing.
    fn polls(&self) -> (u64, u64) {
        let listeners = self.crowd.members.iter().map(|member| &member.listener);
        listeners.fold((0, 0), |(answers, empty), listener| {
            (answers + listener.answers, empty + listener.empty)
        })
    }

    fn publish(&mut self, run: &mut Run, due: Instant) -> Result<(), Fault> {
        self.times.set(self.voice.next, due);
        self.left += self.crowd.members.len() as u64;
        let before = run.poll.sent;
        self.voice.publish(run, 1)?;
        self.voice_sent += run.poll.sent - before;
        Ok(())
    }

    /// Waits until something happens, and takes it.
    fn turn(&mut self, run: &mut Run, until: Instant, ready: &mut Vec<Ready>) -> Result<(), Fault> {
        let until = if self.is_short { self.poll(run)?.min(until) } else { until };
        run.poll.wait(until, ready)?;
        for event in ready.iter() {
            if Voice::is_it(event) {
                let (sent, received) = (run.poll.sent, run.poll.received);
                self.voice.handle(run, *event)?;
                self.voice_sent += run.poll.sent - sent;
                self.voice_received += run.poll.received - received;
                continue;
            }
            let Self { crowd, times, latency, left, first, .. } = self;
            crowd.handle(run, *event, |number, now| {
                if number > 0 {
                    *left = left.saturating_sub(1);
                }
                if number >= *first {
                    record(latency, times.since(number, now));
                }
            })?;
        }
        Ok(())
    }

    /// Those whose second is over ask. Returns when the next does.
    fn poll(&mut self, run: &mut Run) -> Result<Instant, Fault> {
        let all = self.crowd.members.len();
        while self.poll_due <= Instant::now() {
            let listener = &self.crowd.members[self.turn].listener;
            // Who still waits for an answer asks a second later.
            if listener.is_idle() || listener.is_over {
                self.crowd.ask(run, self.turn)?;
            }
            self.turn = (self.turn + 1) % all;
            self.poll_due += SHORT / u32::try_from(all).unwrap_or(u32::MAX);
        }
        Ok(self.poll_due)
    }
}

/// Each has had its first answer: from there on it knows where it is.
fn answered(run: &mut Run, crowd: &mut Crowd) -> Result<(), Fault> {
    let (end, mut ready) = (Instant::now() + LAST, Vec::new());
    while crowd.members.iter().any(|member| member.listener.answers == 0) {
        run.poll.wait(end, &mut ready)?;
        for event in ready.iter().filter(|event| !Voice::is_it(event)) {
            crowd.handle(run, *event, |_, _| ())?;
        }
        if Instant::now() > end {
            return Err(Fault::wrong("polls that ask to be answered at once are not answered"));
        }
    }
    Ok(())
}

const COLUMNS: [(&str, usize); 8] = [
    ("updates", 10),
    ("pattern", 13),
    ("bytes", 8),
    ("requests", 8),
    ("empty", 6),
    ("median", 9),
    ("at 99 %", 9),
    ("CPU µs", 7),
];

impl Cell {
    fn titles() -> [String; 8] {
        COLUMNS.map(|(title, width)| format!("{title:>width$}"))
    }

    /// So much for each update and client.
    fn each(&self, amount: f64) -> Option<f64> {
        let all = (self.updates * self.case.clients as u64) as f64;
        (all > 0.0).then(|| amount / all)
    }

    fn bytes(&self) -> Option<f64> {
        self.each((self.measured.received + self.measured.sent) as f64)
    }

    fn cpu_us(&self) -> Option<f64> {
        self.each(self.measured.server_cpu?.as_secs_f64() * 1e6)
    }

    fn words(&self) -> [String; 8] {
        let digits = |number: Option<f64>| match number {
            None => "-".to_owned(),
            Some(0.0) => "0".to_owned(),
            Some(number) if number < 10.0 => format!("{number:.2}"),
            Some(number) => grouped(number),
        };
        let at = |quantile| match self.measured.latency.value_at_quantile(quantile) as f64 / 1e6 {
            milliseconds if milliseconds < 10.0 => format!("{milliseconds:.2} ms"),
            milliseconds => format!("{milliseconds:.0} ms"),
        };
        [
            match self.rate {
                rate if rate < 1.0 => format!("1 in {:.0} s", 1.0 / rate),
                rate => format!("{rate} a s"),
            },
            self.pattern.name().to_owned(),
            digits(self.bytes()),
            digits(self.each(self.polls as f64)),
            digits(self.each(self.empty as f64)),
            at(0.5),
            at(0.99),
            digits(self.cpu_us()),
        ]
    }

    /// A row now, and a line in the file.
    fn tell(&self, run: &Run) -> Result<(), Fault> {
        let words = self.words();
        let row: Vec<String> =
            words.iter().zip(COLUMNS).map(|(word, (_, width))| format!("{word:>width$}")).collect();
        println!("{}", row.join("  "));
        let Wrongs { lost, duplicates, disordered } = self.wrongs;
        if self.wrongs != Wrongs::default() {
            println!("    {lost} LOST, {duplicates} came twice, {disordered} out of order");
        }
        let label = run.common().label.clone().unwrap_or_else(|| run.profile.name.clone());
        let report = Report {
            scenario: "patterns",
            label,
            profile: run.profile.name.clone(),
            parameters: parameters([
                ("pattern", self.pattern.name().into()),
                ("rate", self.rate.into()),
                ("clients", self.case.clients.into()),
                ("size", self.case.size.into()),
            ]),
            measured: self.measured.clone(),
            wrongs: self.wrongs,
            more: self.more(),
            unit: "updates that came",
            spins: run.common().spins,
        };
        report.append(run.common().json.as_deref())
    }

    fn more(&self) -> Map<String, Value> {
        parameters([
            ("updates", self.updates.into()),
            ("bytes_per_update", self.bytes().into()),
            ("bytes_in_per_update", self.each(self.measured.received as f64).into()),
            ("bytes_out_per_update", self.each(self.measured.sent as f64).into()),
            ("requests_per_update", self.each(self.polls as f64).into()),
            ("empty_per_update", self.each(self.empty as f64).into()),
            ("server_cpu_us_per_update", self.cpu_us().into()),
        ])
    }
}

/// For a document.
fn markdown(run: &Run, case: Case, cells: &[Cell]) -> String {
    let label = run.common().label.as_ref().unwrap_or(&run.profile.name);
    let mut text = format!(
        "{} clients, messages of {} bytes, {label}. For each update and client: bytes both ways, without\n\
         those of TCP and IP; requests; those of them that brought nothing; the server's processor time, that\n\
         of publishing included. Time is that from publication to arrival.\n\n",
        case.clients, case.size
    );
    text +=
        "| updates | pattern | bytes | requests | of them empty | median | at 99 % | CPU, µs |\n";
    text += "|---|---|--:|--:|--:|--:|--:|--:|\n";
    for cell in cells {
        text += &format!("| {} |\n", cell.words().join(" | "));
    }
    text
}

fn read(path: &str) -> Result<String, Fault> {
    std::fs::read_to_string(path).map_err(|error| Fault::usage(format!("{path}: {error}")))
}

/// The text with the table in the place that is marked for it.
fn replaced(text: &str, table: &str, name: &str) -> Result<String, Fault> {
    let wrong = || Fault::usage(format!("{name} has no {BEGIN} with {END} after it"));
    let (before, rest) = text.split_once(BEGIN).ok_or_else(wrong)?;
    let (_, after) = rest.split_once(END).ok_or_else(wrong)?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_one_before() {
        let text = "a\n<!-- patterns:begin -->\nold\n<!-- patterns:end -->\nb\n";
        let new = replaced(text, "new\n", "x.md").expect("it has the lines");
        assert_eq!(new, "a\n<!-- patterns:begin -->\nnew\n<!-- patterns:end -->\nb\n");
        assert_eq!(replaced(&new, "new\n", "x.md").expect("it has the lines"), new);
        assert!(replaced("<!-- patterns:end --> <!-- patterns:begin -->", "", "x.md").is_err());
    }

    #[test]
    fn updates_begin_half_a_period_after_the_warm_up() {
        let start = Instant::now();
        let due = |warmup, seconds, period| {
            let seconds = [warmup, seconds, period].map(Duration::from_secs_f64);
            (first_due(start, seconds[0], seconds[1], seconds[2]) - start).as_secs_f64()
        };
        assert_eq!(due(1.0, 60.0, 10.0), 6.0);
        assert_eq!(due(1.0, 2.0, 10.0), 2.0, "there is at least one");
        assert!((due(1.0, 20.0, 0.1) - 0.05).abs() < 1e-6, "those who warm up get some too");
    }

    #[test]
    fn rates_are_numbers_within_reason() {
        assert_eq!(rates("0.1,10").expect("two"), [0.1, 10.0]);
        assert!(rates("0").is_err() && rates("1,,2").is_err() && rates("nan").is_err());
    }
}
