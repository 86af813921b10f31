//! The driver of one engine: what `server` does with sockets, done with pipes.

use std::collections::VecDeque;

use holdline::engine::{Engine, Peer, What};
use holdline::{ConnId, Now};

use super::line::{Line, Read};

/// From how many connections on the engine is checked once a turn, not after each call.
const CHECKED_CLOSELY: usize = 200;
/// Behind so many turns only every eighth is checked: to check takes longer than what is checked.
const TURNS_CHECKED: u64 = 100;
/// Writes of one turn: more means that the engine lends without end.
const WRITES_MAX: usize = 1_000_000;

pub struct Loop {
    pub engine: Engine,
    /// At the index of a slot, which line it is.
    lines: Vec<Option<usize>>,
    events: Vec<usize>,
    ready: VecDeque<usize>,
    turns: u64,
    /// Seqs in the order of being given out, with the line that was read then; `None`: kept bytes
    /// were looked at, of whichever line.
    pub published: Vec<(Option<usize>, u64)>,
}

impl Loop {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine,
            lines: Vec::new(),
            events: Vec::new(),
            ready: VecDeque::new(),
            turns: 0,
            published: Vec::new(),
        }
    }

    pub(super) fn accept(&mut self, line: usize, peer: Peer, now: Now) -> ConnId {
        let id = self.engine.handle_accept(peer, now);
        let index = id.index();
        if index >= self.lines.len() {
            self.lines.resize(index + 1, None);
        }
        // A slot is given out again only after the driver was told to drop its socket.
        assert_eq!(self.lines[index], None, "the slot of a line that still exists");
        self.lines[index] = Some(line);
        self.check();
        id
    }

    pub(super) fn tell(&mut self, line: usize) {
        self.events.push(line);
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.events.is_empty() || !self.ready.is_empty() || self.engine.has_work()
    }

    /// One pass: what came, what is due, what is owed; reads and writes of at most `max` bytes.
    pub(super) fn turn(&mut self, lines: &mut [Line], now: Now, max: usize) {
        self.turns += 1;
        self.note(lines, now);
        let head = self.engine.history().head();
        self.engine.handle_kept(now);
        self.note_published(None, head);
        self.check();
        self.read(lines, now, max);
        self.engine.handle_timeout(now);
        self.check();
        self.write(lines, now, max);
        if self.is_checked() {
            self.engine.check();
        }
    }

    pub(super) fn is_checked(&self) -> bool {
        self.turns < TURNS_CHECKED || self.turns % 8 == 0
    }

    /// Notes what was given out since the order ended at `head`.
    pub fn note_published(&mut self, line: Option<usize>, head: u64) {
        let seqs = head + 1..=self.engine.history().head();
        self.published.extend(seqs.map(|seq| (line, seq)));
    }

    fn check(&self) {
        if self.is_checked() && self.engine.len() < CHECKED_CLOSELY {
            self.engine.check();
        }
    }

    fn note(&mut self, lines: &mut [Line], now: Now) {
        for number in std::mem::take(&mut self.events) {
            let line = &mut lines[number];
            let is_writable = std::mem::take(&mut line.is_event_writable);
            let is_readable = std::mem::take(&mut line.is_event_readable);
            if line.is_closed {
                continue;
            }
            if is_writable && self.engine.is_blocked(line.id) {
                self.engine.handle_writable(line.id, now);
            }
            if is_readable {
                line.is_readable = true;
                line.is_ending |= line.is_shut();
                if line.is_ending {
                    self.engine.handle_hangup(line.id, now);
                }
                self.list(line, number);
            }
            self.check();
        }
    }

    fn list(&mut self, line: &mut Line, number: usize) {
        if !std::mem::replace(&mut line.is_listed, true) {
            self.ready.push_back(number);
        }
    }

    fn read(&mut self, lines: &mut [Line], now: Now, max: usize) {
        for _ in 0..self.ready.len() {
            let Some(number) = self.ready.pop_front() else { return };
            let line = &mut lines[number];
            line.is_listed = false;
            if line.is_closed {
                continue;
            }
            let size = self.engine.read_size(line.id).min(max);
            if size == 0 {
                continue; // `poll_resumed` names it when it may be read again
            }
            line.is_readable = match line.read(size) {
                Read::Bytes(mut bytes) => {
                    let head = self.engine.history().head();
                    self.engine.handle_bytes(line.id, &mut bytes, now);
                    self.note_published(Some(number), head);
                    bytes.len() == size || line.is_ending
                }
                Read::Nothing => false,
                Read::End => {
                    self.engine.handle_eof(line.id, now);
                    false
                }
                Read::Broken => {
                    self.engine.handle_lost(line.id, now);
                    false
                }
            };
            if line.is_readable {
                self.list(line, number);
            }
            self.check();
            if self.engine.is_full() {
                self.write(lines, now, max);
            }
        }
    }

    /// Writes what the engine owes, within its budget.
    pub(super) fn write(&mut self, lines: &mut [Line], now: Now, max: usize) {
        self.engine.take_in(now);
        self.check();
        let mut writes = 0;
        while let Some(transmit) = self.engine.poll_transmit() {
            writes += 1;
            assert!(writes < WRITES_MAX, "a turn that never ends");
            let id = transmit.id;
            let number = self.lines[id.index()].expect("a line for every slot");
            let line = &mut lines[number];
            assert_eq!((line.id, line.is_closed), (id, false), "bytes for a line that is no more");
            match transmit.what {
                What::Bytes(bytes) if line.is_broken() => {
                    let len = bytes.len();
                    self.engine.handle_sent(len);
                    self.engine.handle_lost(id, now);
                }
                What::Bytes(bytes) => {
                    assert!(!bytes.is_empty(), "nothing to write");
                    let n = line.write(bytes, max);
                    self.engine.handle_sent(n);
                }
                What::Finish => line.is_finished = true,
                What::Close => {
                    line.is_closed = true;
                    self.lines[id.index()] = None;
                }
            }
            self.check();
        }
        while let Some(id) = self.engine.poll_resumed() {
            let Some(number) = self.lines[id.index()] else { continue };
            if lines[number].is_readable {
                self.list(&mut lines[number], number);
            }
        }
    }
}
