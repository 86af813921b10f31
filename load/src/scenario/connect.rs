//! Connections that come and go: connect, upgrade, one echo, close. A few at a time, so that what is
//! measured is the server's work and not a queue.

use std::time::Instant;

use super::{Outcome, Run, parameters};
use crate::Fault;
use crate::listener::refused;
use crate::meter::Meter;
use crate::net::{Line, Ready, source};
use crate::profile::{Echo, Framing};
use crate::sequence::Wrongs;
use crate::{http, process, sequence, ws};

const KEY: &[u8] = b"Sec-WebSocket-Key: ";

#[derive(Debug)]
struct Client {
    line: Line,
    stage: Stage,
    began: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The upgrade is asked for.
    Opening,
    /// The message is on its way.
    Echoing,
    /// The Close is sent: the server ends the connection (RFC 6455 §7.1.1).
    Closing,
}

pub fn run(run: &mut Run) -> Result<(), Fault> {
    run.args.only(&["in-flight", "size"])?;
    let echo = run.profile.echo.clone().ok_or_else(|| run.profile.cannot("echo"))?;
    if echo.framing != Framing::WebSocket {
        return Err(run.profile.cannot("upgrade"));
    }
    if echo.greetings > 0 {
        return Err(Fault::Cannot(format!("{} greets first", run.profile.name)));
    }
    let in_flight = run.connections("in-flight", 16)?;
    let size = run.size()?.max(sequence::MARK_BYTES);
    process::want_descriptors(in_flight)?;
    let mut meter = run.meter()?;
    let mut words = Words::new(&echo, &run.common().host, size);
    let mut clients = Vec::with_capacity(in_flight);
    run.start(&mut meter);
    for index in 0..in_flight {
        clients.push(connect(run, &mut words, index)?);
    }
    let mut ready = Vec::new();
    while meter.running(&run.poll)? {
        run.poll.wait(meter.end(), &mut ready)?;
        for event in &ready {
            if turn(run, &words, &mut clients[event.index], *event)? {
                meter.record(clients[event.index].began.elapsed());
                clients[event.index] = connect(run, &mut words, event.index)?;
            }
        }
    }
    told(run, in_flight, size, meter)
}

fn told(run: &Run, in_flight: usize, size: usize, meter: Meter) -> Result<(), Fault> {
    run.tell(Outcome {
        scenario: "connect",
        unit: "connections",
        parameters: parameters([("in_flight", in_flight.into()), ("size", size.into())]),
        measured: meter.finish(&run.poll)?,
        wrongs: Wrongs::default(),
        more: Default::default(),
    })
}

/// What each says, and how many there were.
#[derive(Debug)]
struct Words {
    path: String,
    upgrade: Vec<u8>,
    /// Where in it the key begins, of which the first digits are each connection's own: nobody has
    /// the hash of it at hand.
    key: usize,
    message: Vec<u8>,
    close: Vec<u8>,
    mark: Vec<u8>,
    made: usize,
}

impl Words {
    fn new(echo: &Echo, host: &str, size: usize) -> Self {
        let (mut upgrade, mut message, mut close) = (Vec::new(), Vec::new(), Vec::new());
        http::upgrade(&echo.path, host, &echo.protocol, &mut upgrade);
        let key = memchr::memmem::find(&upgrade, KEY).map_or(0, |at| at + KEY.len());
        echo.hello.iter().for_each(|text| ws::write(ws::TEXT, text.as_bytes(), &mut message));
        let mut mark = Vec::new();
        sequence::payload(0, size, &mut mark);
        let packed = [echo.prefix.as_bytes(), &mark, echo.suffix.as_bytes()].concat();
        ws::write(ws::TEXT, &packed, &mut message);
        ws::write(ws::CLOSE, &1000_u16.to_be_bytes(), &mut close);
        Self { path: echo.path.clone(), upgrade, key, message, close, mark, made: 0 }
    }
}

fn connect(run: &mut Run, words: &mut Words, index: usize) -> Result<Client, Fault> {
    // Each address in turn: the ports of those that have gone are not free again at once.
    const ADDRESSES: usize = 50;
    let target = run.common().target;
    words.made += 1;
    let digits = format!("{:08}", words.made % 100_000_000);
    words.upgrade[words.key..words.key + digits.len()].copy_from_slice(digits.as_bytes());
    let number = (words.made % ADDRESSES + 1) * 10_000;
    let mut line = Line::connect(target, source(target, number))?;
    run.poll.add(&line, index)?;
    run.poll.send(&mut line, index, &words.upgrade)?;
    Ok(Client { line, stage: Stage::Opening, began: Instant::now() })
}

/// Takes in what came; `Ok(true)` when the server has closed in order.
fn turn(run: &mut Run, words: &Words, client: &mut Client, event: Ready) -> Result<bool, Fault> {
    let Client { line, stage, .. } = client;
    if event.writable {
        run.poll.flush(line, event.index)?;
    }
    if !event.readable {
        return Ok(false);
    }
    let mut reply: &[u8] = &[];
    let alive = run.poll.read(line, |bytes| match *stage {
        Stage::Opening => {
            let Some(head) = http::head(bytes)? else { return Ok(0) };
            if head.status != 101 {
                return Err(refused(&words.path, bytes));
            }
            (*stage, reply) = (Stage::Echoing, &words.message);
            Ok(head.len)
        }
        Stage::Echoing if memchr::memmem::find(bytes, &words.mark).is_some() => {
            (*stage, reply) = (Stage::Closing, &words.close);
            Ok(bytes.len())
        }
        Stage::Echoing => Ok(0),
        Stage::Closing => Ok(bytes.len()),
    });
    match alive {
        Ok(true) if reply.is_empty() => Ok(false),
        Ok(true) => run.poll.send(line, event.index, reply).map(|()| false).map_err(Fault::from),
        Ok(false) if *stage == Stage::Closing => Ok(true),
        Ok(false) => Err(Fault::wrong(format!("the server closed while {stage:?}"))),
        Err(fault) => Err(fault),
    }
}
