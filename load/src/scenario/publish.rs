//! Publications while nobody listens: each connection has `depth` of them on their way, written at
//! once, and writes the next when all are answered.

use std::time::Instant;

use super::{Outcome, Run, parameters};
use crate::Fault;
use crate::meter::Meter;
use crate::net::{Line, Ready};
use crate::process;
use crate::publisher::Publisher;
use crate::sequence::Wrongs;

#[derive(Debug)]
struct Client {
    line: Line,
    publisher: Publisher,
    began: Instant,
}

pub fn run(run: &mut Run) -> Result<(), Fault> {
    run.args.only(&["connections", "depth", "size"])?;
    let count = run.connections("connections", 8)?;
    let depth = run.args.positive("depth", 1, 10_000)?;
    let size = run.size()?;
    process::want_descriptors(count)?;
    let mut meter = run.meter()?;
    let (target, host) = (run.common().target, run.common().host.clone());
    let mut clients = Vec::with_capacity(count);
    let mut requests = Vec::new();
    run.start(&mut meter);
    for index in 0..count {
        let mut publisher = Publisher::new(&run.profile, &host)?;
        if !publisher.is_http() {
            return Err(run.profile.cannot("answer publications"));
        }
        let mut line = Line::connect(target, None)?;
        run.poll.add(&line, index)?;
        requests.clear();
        (0..depth).for_each(|_| publisher.publish(0, size, &mut requests));
        run.poll.send(&mut line, index, &requests)?;
        clients.push(Client { line, publisher, began: Instant::now() });
    }
    let mut ready = Vec::new();
    while meter.running(&run.poll)? {
        run.poll.wait(meter.end(), &mut ready)?;
        for event in &ready {
            turn(run, &requests, depth, &mut clients[event.index], *event, &mut meter)?;
        }
    }
    run.tell(Outcome {
        scenario: "publish",
        unit: "publications",
        parameters: parameters([
            ("connections", count.into()),
            ("depth", depth.into()),
            ("size", size.into()),
        ]),
        measured: meter.finish(&run.poll)?,
        wrongs: Wrongs::default(),
        more: Default::default(),
    })
}

fn turn(
    run: &mut Run,
    requests: &[u8],
    depth: u64,
    client: &mut Client,
    event: Ready,
    meter: &mut Meter,
) -> Result<(), Fault> {
    let Client { line, publisher, began } = client;
    if event.writable {
        run.poll.flush(line, event.index)?;
    }
    if !event.readable {
        return Ok(());
    }
    let profile = &run.profile;
    let alive = run.poll.read(line, |bytes| {
        publisher.take(profile, bytes, &mut Vec::new(), || meter.record(began.elapsed()))
    })?;
    if !alive && !publisher.is_over {
        return Err(Fault::wrong("the server closed a connection"));
    }
    if !alive {
        // What it has not answered it has not heard.
        *line = Line::connect(run.common().target, None)?;
        run.poll.add(line, event.index)?;
        publisher.is_over = false;
        let each = requests.len() / depth as usize;
        let rest = &requests[..each * publisher.unanswered as usize];
        run.poll.send(line, event.index, rest)?;
    }
    if publisher.unanswered == 0 && !publisher.is_over {
        publisher.unanswered = depth;
        *began = Instant::now();
        run.poll.send(line, event.index, requests)?;
    }
    Ok(())
}
