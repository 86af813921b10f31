//! Well-behaved clients whose messages come back at a steady rate, first among themselves, then beside
//! one that sends as much as the server takes: what the one costs the others.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::Value;

use super::{LAST, Outcome, Run, echo, parameters};
use crate::Fault;
use crate::listener::frames;
use crate::meter::{Measured, Meter, record};
use crate::net::{Line, Ready};
use crate::profile::{Echo, Framing};
use crate::report::{grouped, micros};
use crate::sequence::{Order, Wrongs};
use crate::{process, sequence, ws};

/// A message of the flood.
const FLOOD_BYTES: usize = 1_024;
/// Written of the flood in one turn, so that the others have theirs; a read is bounded in any case.
const FLOOD_MESSAGES: usize = 64;
/// A client has at most so many on their way: then the server does not keep up with the rate.
const WAITING: usize = 10_000;

/// One of the well-behaved.
#[derive(Debug)]
struct Client {
    line: Line,
    next: u64,
    order: Order,
    /// When those were due that have not come back.
    due: VecDeque<Instant>,
}

/// The one that is not.
#[derive(Debug)]
struct Flood {
    line: Line,
    frames: Vec<u8>,
    is_on: bool,
    /// Why the server ended it.
    ended: Option<String>,
    sent: u64,
    received: u64,
    messages: u64,
}

/// All of them.
#[derive(Debug)]
struct Pond {
    clients: Vec<Client>,
    flood: Flood,
    /// One client sends, then the next.
    each: Duration,
    turn: usize,
    size: usize,
    wrongs: Wrongs,
}

pub fn run(run: &mut Run) -> Result<(), Fault> {
    run.args.only(&["connections", "rate", "size"])?;
    let echo = run.profile.echo.clone().ok_or_else(|| run.profile.cannot("echo"))?;
    if echo.framing != Framing::WebSocket {
        return Err(run.profile.cannot("upgrade"));
    }
    let count = run.connections("connections", 100)?;
    let rate = run.args.number("rate", 50, 100_000)?;
    let size = run.size()?.max(sequence::MARK_BYTES);
    if count == 0 || rate == 0 {
        return Err(Fault::usage("--connections and --rate are 1 or more"));
    }
    process::want_descriptors(count + 1)?;
    let mut without = run.meter()?;
    let each = Duration::from_secs_f64(1.0 / (rate as f64 * count as f64));
    let mut pond = Pond::open(run, &echo, count, size, each, &mut without)?;
    pond.measure(run, &echo, &mut without)?;
    let without = without.finish(&run.poll)?;
    pond.flood.is_on = true;
    let mut with = run.meter()?;
    pond.measure(run, &echo, &mut with)?;
    let mut with = with.finish(&run.poll)?;
    pond.end(run, &mut with.latency)?;
    told(run, [count as u64, rate, size as u64], &without, with, &pond)
}

impl Pond {
    fn open(
        run: &mut Run,
        echo: &Echo,
        count: usize,
        size: usize,
        each: Duration,
        meter: &mut Meter,
    ) -> Result<Self, Fault> {
        let mut lines = echo::open(run, echo, count + 1, meter)?;
        let Some(last) = lines.pop() else { return Err(Fault::wrong("nothing was opened")) };
        let (mut message, mut frames) = (echo.prefix.clone().into_bytes(), Vec::new());
        message.resize(message.len() + FLOOD_BYTES, b'f');
        message.extend_from_slice(echo.suffix.as_bytes());
        (0..FLOOD_MESSAGES).for_each(|_| ws::write(ws::TEXT, &message, &mut frames));
        let flood = Flood {
            line: last.line,
            frames,
            is_on: false,
            ended: None,
            sent: 0,
            received: 0,
            messages: 0,
        };
        let clients = lines.into_iter().map(|client| Client {
            line: client.line,
            next: 1,
            order: Order::from(1),
            due: VecDeque::new(),
        });
        let clients = clients.collect();
        Ok(Self { clients, flood, each, turn: 0, size, wrongs: Wrongs::default() })
    }

    /// Half of the time that was given.
    fn measure(&mut self, run: &mut Run, echo: &Echo, meter: &mut Meter) -> Result<(), Fault> {
        meter.start(run.common().warmup, run.common().seconds / 2);
        let (mut due, mut ready) = (Instant::now(), Vec::new());
        while meter.running(&run.poll)? {
            while due <= Instant::now() {
                self.send(run, echo, due)?;
                due += self.each;
            }
            if self.flood.pours() {
                self.flood.pour(run, self.clients.len())?;
            }
            // There may be room for more of the flood at once: then nobody sleeps.
            let until = if self.flood.pours() { Instant::now() } else { due.min(meter.end()) };
            run.poll.wait(until, &mut ready)?;
            self.take(run, &ready, |took| meter.record(took))?;
        }
        Ok(())
    }

    /// The next client sends one. Its time counts from when it was due.
    fn send(&mut self, run: &mut Run, echo: &Echo, due: Instant) -> Result<(), Fault> {
        let index = self.turn;
        self.turn = (self.turn + 1) % self.clients.len();
        let client = &mut self.clients[index];
        if client.due.len() >= WAITING {
            return Err(Fault::wrong("echoes do not keep up with --rate"));
        }
        let (mut message, mut frame) = (echo.prefix.clone().into_bytes(), Vec::new());
        sequence::payload(client.next, self.size, &mut message);
        message.extend_from_slice(echo.suffix.as_bytes());
        ws::write(ws::TEXT, &message, &mut frame);
        client.next += 1;
        client.due.push_back(due);
        run.poll.send(&mut client.line, index, &frame)?;
        Ok(())
    }

    /// Takes what came, the flood last.
    fn take(
        &mut self,
        run: &mut Run,
        ready: &[Ready],
        mut each: impl FnMut(Duration),
    ) -> Result<(), Fault> {
        let all = self.clients.len();
        for event in ready.iter().filter(|event| event.index < all) {
            let client = &mut self.clients[event.index];
            client.handle(run, *event, &mut self.wrongs, &mut each)?;
        }
        for event in ready.iter().filter(|event| event.index == all) {
            self.flood.handle(run, *event)?;
        }
        Ok(())
    }

    /// What is still on its way, but for the flood.
    fn end(&mut self, run: &mut Run, latency: &mut Histogram<u64>) -> Result<(), Fault> {
        let (end, mut ready) = (Instant::now() + LAST, Vec::new());
        while self.clients.iter().any(|client| !client.due.is_empty()) && Instant::now() < end {
            run.poll.wait(end, &mut ready)?;
            // Those that come late count most of all.
            self.take(run, &ready, |took| record(latency, took))?;
        }
        for client in &mut self.clients {
            client.due.iter().for_each(|_| record(latency, LAST));
            client.order.end(client.next, &mut self.wrongs);
        }
        Ok(())
    }
}

impl Client {
    fn handle(
        &mut self,
        run: &mut Run,
        event: Ready,
        wrongs: &mut Wrongs,
        each: &mut impl FnMut(Duration),
    ) -> Result<(), Fault> {
        let Self { line, order, due, .. } = self;
        if event.writable {
            run.poll.flush(line, event.index)?;
        }
        if !event.readable {
            return Ok(());
        }
        let mut pongs = Vec::new();
        let now = Instant::now();
        let alive = run.poll.read(line, |bytes| {
            frames(bytes, &mut pongs, |message| {
                sequence::marks(message, |number| {
                    order.see(number, wrongs);
                    if let Some(due) = due.pop_front() {
                        each(now.saturating_duration_since(due));
                    }
                });
                Ok(())
            })
        })?;
        if !alive {
            return Err(Fault::wrong("the server closed a well-behaved connection"));
        }
        if !pongs.is_empty() {
            run.poll.send(line, event.index, &pongs)?;
        }
        Ok(())
    }
}

impl Flood {
    /// It could send at once.
    fn pours(&self) -> bool {
        self.is_on && self.ended.is_none() && self.line.has_room()
    }

    fn pour(&mut self, run: &mut Run, index: usize) -> Result<(), Fault> {
        let before = run.poll.sent;
        let poured = run.poll.send(&mut self.line, index, &self.frames);
        self.sent += run.poll.sent - before;
        self.ends_by(run, poured.map(|()| true).map_err(Fault::from))
    }

    fn handle(&mut self, run: &mut Run, event: Ready) -> Result<(), Fault> {
        if self.ended.is_some() {
            return Ok(());
        }
        let before = run.poll.sent;
        let flushed = match event.writable {
            true => run.poll.flush(&mut self.line, event.index),
            false => Ok(()),
        };
        self.sent += run.poll.sent - before;
        self.ends_by(run, flushed.map(|()| true).map_err(Fault::from))?;
        if !event.readable || self.ended.is_some() {
            return Ok(());
        }
        let (mut pongs, mut came) = (Vec::new(), 0);
        let before = run.poll.received;
        let alive = run.poll.read(&mut self.line, |bytes| {
            frames(bytes, &mut pongs, |message| {
                came += u64::from(message.len() >= FLOOD_BYTES);
                Ok(())
            })
        });
        self.received += run.poll.received - before;
        self.messages += came;
        self.ends_by(run, alive)?;
        if !pongs.is_empty() && self.ended.is_none() {
            // Behind what is written already, as it must be.
            run.poll.send(&mut self.line, event.index, &pongs)?;
        }
        Ok(())
    }

    /// That the server ends a flood is its right: it is told, and the others go on.
    fn ends_by(&mut self, run: &mut Run, alive: Result<bool, Fault>) -> Result<(), Fault> {
        match alive {
            Ok(true) => return Ok(()),
            Ok(false) => self.ended = Some("the server closed the connection".to_owned()),
            Err(fault) => self.ended = Some(fault.to_string()),
        }
        run.poll.remove(&self.line).map_err(Fault::from)
    }
}

fn told(
    run: &Run,
    [count, rate, size]: [u64; 3],
    without: &Measured,
    with: Measured,
    pond: &Pond,
) -> Result<(), Fault> {
    let at = |measured: &Measured, quantile| micros(&measured.latency, quantile);
    let flood = &pond.flood;
    match &flood.ended {
        Some(why) => println!("The flood was ended after {} bytes: {why}", flood.sent),
        None => println!(
            "The flood: {} bytes there and {} back, in {} s",
            grouped(flood.sent as f64),
            grouped(flood.received as f64),
            (run.common().warmup + run.common().seconds / 2).as_secs_f64(),
        ),
    }
    let (p99_without, p99_with) = (at(without, 0.99), at(&with, 0.99));
    let are_told = !without.latency.is_empty() && !with.latency.is_empty();
    let ratio = are_told.then(|| p99_with / p99_without);
    run.tell(Outcome {
        scenario: "flood",
        unit: "messages of the others",
        parameters: parameters([
            ("connections", count.into()),
            ("rate", rate.into()),
            ("size", size.into()),
        ]),
        more: parameters([
            ("p50_without_us", at(without, 0.5).into()),
            ("p99_without_us", p99_without.into()),
            ("p50_with_us", at(&with, 0.5).into()),
            ("p99_with_us", p99_with.into()),
            ("p99_ratio", ratio.into()),
            ("flood_bytes_out", flood.sent.into()),
            ("flood_bytes_in", flood.received.into()),
            ("flood_messages", flood.messages.into()),
            ("flood_ended", flood.ended.clone().map_or(Value::Null, Value::from)),
        ]),
        measured: with,
        wrongs: pond.wrongs,
    })
}
