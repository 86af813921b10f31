//! The loop: one turn takes everything in, then writes everything out.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::{Events, Token};

use super::listen::Listener;
use super::loops::Handing;
use super::sleep::Poll;
use super::socket::Socket;
use crate::code::Code;
use crate::config::Config;
use crate::engine::{Engine, Peer, What};
use crate::time::Now;

/// After the descriptors ran out: when to accept again.
const ACCEPT_RETRY_MS: u64 = 100;
/// Listeners have the highest tokens but one, which is the waker's; connections count from 0.
pub(super) const WAKER: Token = Token(usize::MAX);
pub(super) const SIGNALS: Token = Token(usize::MAX - 1);
const LISTENERS_END: usize = usize::MAX - 1;
const LISTENERS_MAX: usize = 1024;

/// A connection's socket, at the index of its slot.
#[derive(Debug, Default)]
struct Line {
    socket: Option<Socket>,
    /// The last event said that there is something to read, and a read has not said otherwise.
    is_readable: bool,
    /// In the ready list.
    is_listed: bool,
    /// The event said that the peer has closed its side: a short read is not the end.
    is_ending: bool,
}

/// Everything that does I/O.
#[derive(Debug)]
pub(super) struct Io {
    pub(super) poll: Poll,
    pub(super) listeners: Vec<Listener>,
    lines: Vec<Line>,
    buffer: Box<[u8]>,
    /// Connections with something left to read: edge triggering says it only once.
    ready: VecDeque<u32>,
    /// The same for listeners.
    can_accept: Vec<bool>,
    /// Which listener is asked first: a flood on one is not to keep the others waiting.
    accept_first: usize,
    accept_retry: Option<u64>,
    /// Where connections of several loops go.
    pub(super) handing: Option<Handing>,
    /// Given up for a moment when descriptors run out, to tell whoever comes.
    spare: Option<File>,
    /// The last wait filled the table of events: more are waiting.
    was_full: bool,
    accepts_per_turn: usize,
    pub(super) events_per_turn: usize,
    logged_ms: Option<u64>,
}

pub(super) fn listener_token(number: usize) -> Token {
    Token(LISTENERS_END - 1 - number)
}

impl Io {
    pub(super) fn new(poll: Poll, listeners: Vec<Listener>, config: &Config) -> Self {
        let has_listeners = !listeners.is_empty();
        Self {
            poll,
            can_accept: vec![false; listeners.len()],
            listeners,
            lines: Vec::new(),
            buffer: vec![0; config.receive_buffer.max(512)].into_boxed_slice(),
            ready: VecDeque::new(),
            accept_first: 0,
            accept_retry: None,
            handing: None,
            // Who accepts nobody has nobody to tell.
            spare: has_listeners.then(|| File::open("/dev/null").ok()).flatten(),
            was_full: false,
            accepts_per_turn: config.accepts_per_turn.max(1),
            events_per_turn: config.events_per_turn.max(1),
            logged_ms: None,
        }
    }

    /// Whether anything is left that no event will tell again.
    pub(super) fn has_work(&self) -> bool {
        let can_accept = self.accept_retry.is_none() && self.can_accept.contains(&true);
        self.was_full || can_accept || !self.ready.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.accept_retry
    }

    /// Sleeps until something is ready; whether the signals are. An interrupted sleep is a short one.
    pub(super) fn wait(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
            other => other?,
        }
        Ok(())
    }

    /// Notes what is ready; whether signals are.
    pub(super) fn note(&mut self, events: &Events, engine: &mut Engine, now: Now) -> bool {
        let mut has_signals = false;
        let mut count = 0;
        for event in events {
            count += 1;
            let token = event.token();
            if token == SIGNALS {
                has_signals = true;
            } else if token != WAKER {
                self.note_one(event, engine, now);
            }
        }
        self.was_full = count >= self.events_per_turn;
        has_signals
    }

    fn note_one(&mut self, event: &mio::event::Event, engine: &mut Engine, now: Now) {
        let Token(index) = event.token();
        if index >= LISTENERS_END - LISTENERS_MAX {
            if let Some(can) = self.can_accept.get_mut(LISTENERS_END - 1 - index) {
                *can = true;
            }
            return;
        }
        let Some(line) = self.lines.get_mut(index).filter(|line| line.socket.is_some()) else {
            return;
        };
        let Some(id) = engine.id_at(index) else { return };
        if event.is_writable() && engine.is_blocked(id) {
            engine.handle_writable(id, now);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            line.is_readable = true;
            line.is_ending |= event.is_read_closed() || event.is_error();
            if line.is_ending {
                engine.handle_hangup(id, now);
            }
            if !std::mem::replace(&mut line.is_listed, true) {
                self.ready.push_back(index as u32);
            }
        }
    }

    /// Accepts what the budget allows.
    pub(super) fn accept(&mut self, engine: &mut Engine, now: Now) {
        if self.accept_retry.is_some_and(|retry| retry > now.mono_ms) {
            return;
        }
        self.accept_retry = None;
        let mut left = self.accepts_per_turn;
        let count = self.listeners.len();
        self.accept_first = (self.accept_first + 1) % count.max(1);
        for number in (self.accept_first..count).chain(0..self.accept_first) {
            while self.can_accept[number] && left > 0 {
                left -= 1;
                match self.listeners[number].accept() {
                    Ok((socket, peer)) => self.place(socket, peer, engine, now),
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => self.can_accept[number] = false,
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                        _ => return self.accept_failed(number, &error, engine, now),
                    },
                }
            }
        }
    }

    /// Accepts nobody any more where others go on listening.
    pub(super) fn leave_inherited(&mut self) {
        for (listener, can_accept) in self.listeners.iter_mut().zip(&mut self.can_accept) {
            if listener.is_inherited {
                // One that the poll does not know is not accepted from either.
                let _ = listener.deregister(self.poll.registry());
                *can_accept = false;
            }
        }
    }

    /// Gives a connection to the loop that is to have it. Whoever is one too many stays, to be told so.
    fn place(&mut self, socket: Socket, peer: Peer, engine: &mut Engine, now: Now) {
        let Some(handing) = &mut self.handing else { return self.add(socket, peer, engine, now) };
        engine.set_elsewhere(handing.elsewhere());
        let kept = if engine.is_over() {
            Some((socket, peer))
        } else {
            handing.hand(socket, peer, engine.admitted())
        };
        if let Some((socket, peer)) = kept {
            self.add(socket, peer, engine, now);
        }
    }

    /// Begins to serve a connection here.
    pub(super) fn add(&mut self, mut socket: Socket, peer: Peer, engine: &mut Engine, now: Now) {
        if let Some(code) = engine.turns_away(peer, now) {
            turn_away(&mut socket, code);
            return engine.handle_turned_away(code);
        }
        let id = engine.handle_accept(peer, now);
        let index = id.index();
        if socket.register(self.poll.registry(), Token(index)).is_err() {
            engine.handle_lost(id, now);
            return;
        }
        if index >= self.lines.len() {
            if index == self.lines.capacity() {
                self.lines.reserve_exact((index / 8).max(16));
            }
            self.lines.resize_with(index + 1, Line::default);
        }
        self.lines[index] = Line { socket: Some(socket), ..Line::default() };
    }

    /// Descriptors or memory ran out. With edge triggering nobody will tell us to try again, so a
    /// timer does; whoever waits first is told, by the descriptor that is kept for it.
    fn accept_failed(&mut self, number: usize, error: &io::Error, engine: &mut Engine, now: Now) {
        self.accept_retry = Some(now.mono_ms + ACCEPT_RETRY_MS);
        if self.spare.take().is_some() {
            if let Ok((mut socket, _)) = self.listeners[number].accept() {
                turn_away(&mut socket, Code::Overloaded);
                engine.handle_turned_away(Code::Overloaded);
            }
            self.spare = File::open("/dev/null").ok();
        }
        if self.logged_ms.is_none_or(|logged| now.mono_ms >= logged + 10_000) {
            self.logged_ms = Some(now.mono_ms);
            log::warn!("cannot accept connections for now: {error}");
        }
    }

    /// One read for each connection that has something, one round.
    pub(super) fn read(&mut self, engine: &mut Engine, now: Now) {
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { return };
            let Some(line) = self.lines.get_mut(index as usize) else { continue };
            line.is_listed = false;
            let (Some(socket), Some(id)) = (&mut line.socket, engine.id_at(index as usize)) else {
                continue;
            };
            let size = engine.read_size(id).min(self.buffer.len());
            if size == 0 {
                // `poll_resumed` names it when it may be read again. Who waits for something and is
                // gone need not be waited for.
                if line.is_ending {
                    engine.handle_hangup(id, now);
                }
                continue;
            }
            let is_left = match socket.read(&mut self.buffer[..size]) {
                Ok(0) => {
                    line.is_readable = false;
                    engine.handle_eof(id, now);
                    false
                }
                Ok(n) => {
                    engine.handle_bytes(id, &mut self.buffer[..n], now);
                    n == size || line.is_ending
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                Err(error) if error.kind() == ErrorKind::Interrupted => true,
                Err(_) => {
                    engine.handle_lost(id, now);
                    false
                }
            };
            line.is_readable = is_left;
            if is_left && !std::mem::replace(&mut line.is_listed, true) {
                self.ready.push_back(index);
            }
            if engine.is_full() {
                self.write(engine, now);
            }
        }
    }

    /// Writes what the engine owes, within its budget.
    pub(super) fn write(&mut self, engine: &mut Engine, now: Now) {
        engine.take_in(now);
        while let Some(transmit) = engine.poll_transmit() {
            let (id, index) = (transmit.id, transmit.id.index());
            let socket = self.lines.get_mut(index).and_then(|line| line.socket.as_mut());
            match transmit.what {
                What::Bytes(bytes) => {
                    let len = bytes.len();
                    let sent = match socket {
                        Some(socket) => send(socket, bytes),
                        None => Err(ErrorKind::NotConnected.into()),
                    };
                    match sent {
                        Ok(n) => engine.handle_sent(n),
                        Err(_) => {
                            engine.handle_sent(len);
                            engine.handle_lost(id, now);
                        }
                    }
                }
                What::Finish => {
                    if let Some(socket) = socket {
                        socket.finish();
                    }
                }
                What::Close => {
                    if let Some(line) = self.lines.get_mut(index) {
                        *line = Line::default();
                    }
                }
            }
        }
        if engine.is_empty() {
            self.lines = Vec::new(); // the engine has given its tables back as well
        }
        self.resume(engine);
    }

    /// Connections that may be read again, and were not while there was something.
    fn resume(&mut self, engine: &mut Engine) {
        while let Some(id) = engine.poll_resumed() {
            let Some(line) = self.lines.get_mut(id.index()) else { continue };
            if line.is_readable && !std::mem::replace(&mut line.is_listed, true) {
                self.ready.push_back(id.index() as u32);
            }
        }
    }
}

/// Tells whoever cannot be let in, without a place to wait in: no more than one write.
fn turn_away(socket: &mut Socket, code: Code) {
    let _ = socket.send(if code == Code::RateLimited { TOO_MANY } else { OVERLOADED });
    socket.finish();
}

/// Writes what the socket takes; a full one takes nothing.
fn send(socket: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.send(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            other => return other,
        }
    }
}

const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nServer: holdline\r\n\
    Content-Type: application/json\r\nCache-Control: no-store\r\nRetry-After: 2\r\n\
    Content-Length: 84\r\nConnection: close\r\n\r\n\
    {\"error\":\"overloaded\",\"message\":\"too many connections: try again in a few seconds\"}\n";
const TOO_MANY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nServer: holdline\r\n\
    Content-Type: application/json\r\nCache-Control: no-store\r\nRetry-After: 2\r\n\
    Content-Length: 104\r\nConnection: close\r\n\r\n\
    {\"error\":\"rate_limited\",\"message\":\"too many connections from this address: try again in a few seconds\"}\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_blind_is_a_whole_answer() {
        for answer in [OVERLOADED, TOO_MANY] {
            let text = std::str::from_utf8(answer).expect("ASCII");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{text}");
        }
    }
}
