//! Messages that come back: each connection has `depth` of them on their way, written at once, and
//! writes the next when all are back.

use std::time::{Duration, Instant};

use super::{LAST, Outcome, PATIENCE, Run, parameters};
use crate::Fault;
use crate::listener::{frames, refused};
use crate::meter::Meter;
use crate::net::{Line, Ready, source};
use crate::profile::{Echo, Framing};
use crate::sequence::Wrongs;
use crate::{http, process, sequence, ws};

/// What all connections send: the same each time, so that sending costs this program little.
#[derive(Debug)]
struct Batch {
    frames: Vec<u8>,
    payloads: Vec<Vec<u8>>,
    depth: usize,
}

#[derive(Debug)]
pub struct Client {
    pub line: Line,
    open: bool,
    upgraded: bool,
    /// Messages of the server's that come before it takes any.
    greetings: usize,
    /// Echoes of the batch that have come; with bare framing bytes.
    back: usize,
    /// All of it has come.
    is_back: bool,
    began: Instant,
}

pub fn run(run: &mut Run) -> Result<(), Fault> {
    run.args.only(&["connections", "depth", "size"])?;
    let echo = run.profile.echo.clone().ok_or_else(|| run.profile.cannot("echo"))?;
    let count = run.connections("connections", 50)?;
    let depth = run.args.positive("depth", 1, 10_000)? as usize;
    let size = run.size()?.max(sequence::MARK_BYTES);
    process::want_descriptors(count)?;
    let mut meter = run.meter()?;
    let batch = Batch::new(&echo, depth, size);
    let mut clients = open(run, &echo, count, &mut meter)?;
    run.start(&mut meter);
    for (index, client) in clients.iter_mut().enumerate() {
        client.began = Instant::now();
        run.poll.send(&mut client.line, index, &batch.frames)?;
    }
    let mut ready = Vec::new();
    while meter.running(&run.poll)? {
        run.poll.wait(meter.end(), &mut ready)?;
        for event in &ready {
            let client = &mut clients[event.index];
            if turn(run, &echo, &batch, client, *event, |took| meter.record(took))? {
                (client.is_back, client.began) = (false, Instant::now());
                run.poll.send(&mut client.line, event.index, &batch.frames)?;
            }
        }
    }
    let measured = meter.finish(&run.poll)?;
    let lost = drain(run, &echo, &batch, &mut clients)?;
    run.tell(Outcome {
        scenario: "echo",
        unit: "messages",
        parameters: parameters([
            ("connections", count.into()),
            ("depth", depth.into()),
            ("size", size.into()),
        ]),
        measured,
        wrongs: Wrongs { lost, ..Wrongs::default() },
        more: Default::default(),
    })
}

impl Batch {
    fn new(echo: &Echo, depth: usize, size: usize) -> Self {
        let (mut all, mut payloads) = (Vec::new(), Vec::new());
        for number in 0..depth as u64 {
            let mut payload = Vec::new();
            sequence::payload(number, size, &mut payload);
            let message = [echo.prefix.as_bytes(), &payload, echo.suffix.as_bytes()].concat();
            ws::write(ws::TEXT, &message, &mut all);
            payloads.push(payload);
        }
        Self { frames: all, payloads, depth }
    }

    /// How much `back` is when all of it has come.
    fn whole(&self, echo: &Echo) -> usize {
        if echo.framing == Framing::Tcp { self.frames.len() } else { self.depth }
    }
}

/// Opens them, a few at a time, so that no queue of the server's overflows.
pub fn open(
    run: &mut Run,
    echo: &Echo,
    count: usize,
    meter: &mut Meter,
) -> Result<Vec<Client>, Fault> {
    const AT_ONCE: usize = 64;
    let (target, host) = (run.common().target, run.common().host.clone());
    let mut clients: Vec<Client> = Vec::with_capacity(count);
    let mut request = Vec::new();
    http::upgrade(&echo.path, &host, &echo.protocol, &mut request);
    let (mut opened, mut ready) = (0, Vec::new());
    let mut end = Instant::now() + PATIENCE;
    while opened < count {
        let before = opened;
        while clients.len() < count && clients.len() < opened + AT_ONCE {
            let index = clients.len();
            let line = Line::connect(target, source(target, index))?;
            run.poll.add(&line, index)?;
            let (greetings, began) = (echo.greetings, Instant::now());
            clients.push(Client {
                line,
                open: false,
                upgraded: false,
                greetings,
                back: 0,
                is_back: false,
                began,
            });
            if echo.framing == Framing::WebSocket {
                run.poll.send(&mut clients[index].line, index, &request)?;
            } else {
                clients[index].open = true;
                opened += 1;
            }
        }
        meter.opening(opened, count);
        run.poll.wait(end, &mut ready)?;
        for Ready { index, readable, writable } in ready.iter().copied() {
            let client = &mut clients[index];
            if writable {
                run.poll.flush(&mut client.line, index)?;
            }
            if readable && !client.open {
                shake_hands(run, echo, client, index)?;
                opened += usize::from(client.open);
            }
        }
        if opened > before {
            end = Instant::now() + PATIENCE;
        } else if Instant::now() > end {
            let time = PATIENCE.as_secs();
            return Err(Fault::wrong(format!("{opened} of {count} opened, no more in {time} s")));
        }
    }
    Ok(clients)
}

fn shake_hands(run: &mut Run, echo: &Echo, client: &mut Client, index: usize) -> Result<(), Fault> {
    let mut reply = Vec::new();
    let Client { line, upgraded, greetings, .. } = client;
    let alive = run.poll.read(line, |bytes| {
        let mut used = 0;
        if !*upgraded {
            let Some(head) = http::head(bytes)? else { return Ok(0) };
            if head.status != 101 {
                return Err(refused(&echo.path, bytes));
            }
            (*upgraded, used) = (true, head.len);
            echo.hello.iter().for_each(|text| ws::write(ws::TEXT, text.as_bytes(), &mut reply));
        }
        if *greetings == 0 {
            return Ok(used);
        }
        let greeted = frames(&bytes[used..], &mut reply, |_| {
            *greetings = greetings.saturating_sub(1);
            Ok(())
        })?;
        Ok(used + greeted)
    })?;
    if !alive {
        return Err(Fault::wrong("the server closed a connection while it was opened"));
    }
    client.open = client.upgraded && client.greetings == 0;
    match reply.is_empty() {
        true => Ok(()),
        false => Ok(run.poll.send(&mut client.line, index, &reply)?),
    }
}

/// What is still on its way comes now, or never: how many did not.
fn drain(run: &mut Run, echo: &Echo, batch: &Batch, clients: &mut [Client]) -> Result<u64, Fault> {
    let (end, mut ready) = (Instant::now() + LAST, Vec::new());
    let mut waiting = clients.len();
    while waiting > 0 && Instant::now() < end {
        run.poll.wait(end, &mut ready)?;
        for event in &ready {
            let is_whole = turn(run, echo, batch, &mut clients[event.index], *event, |_| ())?;
            waiting -= usize::from(is_whole);
        }
    }
    let whole = batch.whole(echo);
    let missing = |client: &Client| (whole - client.back) * batch.depth / whole;
    let lost: usize = clients.iter().filter(|client| !client.is_back).map(missing).sum();
    Ok(lost as u64)
}

/// Takes in what came. Whether the whole batch is back with it.
fn turn(
    run: &mut Run,
    echo: &Echo,
    batch: &Batch,
    client: &mut Client,
    event: Ready,
    mut each: impl FnMut(Duration),
) -> Result<bool, Fault> {
    if event.writable {
        run.poll.flush(&mut client.line, event.index)?;
    }
    if !event.readable {
        return Ok(false);
    }
    let mut pongs = Vec::new();
    let Client { line, back, is_back, began, .. } = client;
    let alive = run.poll.read(line, |bytes| match echo.framing {
        Framing::WebSocket => frames(bytes, &mut pongs, |payload| {
            *back += usize::from(is_echo(echo, &batch.payloads[*back % batch.depth], payload)?);
            each(began.elapsed());
            Ok(())
        }),
        Framing::Tcp => {
            *back += bytes.len();
            let one = batch.frames.len() / batch.depth;
            let echoes = (*back / one).saturating_sub((*back - bytes.len()) / one);
            (0..echoes).for_each(|_| each(began.elapsed()));
            Ok(bytes.len())
        }
    })?;
    if !alive {
        return Err(Fault::wrong("the server closed a connection"));
    }
    if !pongs.is_empty() {
        run.poll.send(line, event.index, &pongs)?;
    }
    let whole = batch.whole(echo);
    if *back > whole {
        return Err(Fault::wrong("more came back than was sent"));
    }
    *is_back = *back == whole;
    if *is_back {
        *back = 0;
    }
    Ok(*is_back)
}

/// It came back as it was sent. Where there is a `hello` to answer, what has no payload of ours in it
/// is passed over.
fn is_echo(echo: &Echo, sent: &[u8], came: &[u8]) -> Result<bool, Fault> {
    if came == sent {
        return Ok(true);
    }
    let packed = !echo.prefix.is_empty() || !echo.hello.is_empty();
    if packed && memchr::memmem::find(came, sent).is_some() {
        return Ok(true);
    }
    if packed && sequence::marks(came, |_| ()) == came.len() && !came.contains(&b'~') {
        return Ok(false);
    }
    let start = String::from_utf8_lossy(&came[..came.len().min(60)]).into_owned();
    Err(Fault::wrong(format!("an echo is not what was sent: {} bytes, {start:?}", came.len())))
}
