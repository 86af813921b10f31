//! One connection as the kernel sees it: two bounded pipes, and how either side ended.

use std::collections::VecDeque;

use holdline::ConnId;

/// What a pipe to a client holds if nothing else is said.
pub const WINDOW: usize = 64 * 1024;

/// How the client's sending side ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Open,
    Finished,
    Reset,
}

/// What a read of the server finds.
pub(super) enum Read {
    Bytes(Vec<u8>),
    Nothing,
    End,
    Broken,
}

pub struct Line {
    /// Which loop it is connected to.
    pub number: usize,
    pub id: ConnId,
    /// On its way to the server.
    inbound: VecDeque<u8>,
    end: End,
    /// On its way to the client: written, and not read.
    outbound: VecDeque<u8>,
    /// How much of that there may be.
    pub window: usize,
    /// How much the client reads in a step.
    pub take_max: usize,
    /// What the client has read and not used.
    pub received: Vec<u8>,
    /// All that the server has written.
    pub written: u64,
    /// The client does not read any more, and never will.
    is_gone: bool,
    /// The server has shut its sending side.
    pub is_finished: bool,
    /// The server has dropped its end.
    pub is_closed: bool,
    was_full: bool,
    // What the driver knows.
    pub(super) is_event_readable: bool,
    pub(super) is_event_writable: bool,
    pub(super) is_told: bool,
    pub(super) is_readable: bool,
    pub(super) is_listed: bool,
    pub(super) is_ending: bool,
}

impl Line {
    pub(super) fn new(number: usize, id: ConnId) -> Self {
        Self {
            number,
            id,
            inbound: VecDeque::new(),
            end: End::Open,
            outbound: VecDeque::new(),
            window: WINDOW,
            take_max: usize::MAX,
            received: Vec::new(),
            written: 0,
            is_gone: false,
            is_finished: false,
            is_closed: false,
            was_full: false,
            is_event_readable: false,
            is_event_writable: false,
            is_told: false,
            is_readable: false,
            is_listed: false,
            is_ending: false,
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        if self.end == End::Open && !self.is_closed {
            self.inbound.extend(bytes);
        }
    }

    pub(super) fn finish(&mut self) {
        if self.end == End::Open {
            self.end = End::Finished;
        }
    }

    pub(super) fn close(&mut self) {
        self.finish();
        self.leave();
    }

    pub(super) fn reset(&mut self) {
        self.end = End::Reset;
        self.inbound.clear();
        self.leave();
    }

    fn leave(&mut self) {
        self.is_gone = true;
        self.outbound.clear();
    }

    /// The server died.
    pub(super) fn break_off(&mut self) {
        self.is_closed = true;
        self.is_told = false;
        self.is_listed = false;
        self.outbound.clear();
    }

    /// Takes what the server has not read, for a test that hands it over itself.
    pub fn steal(&mut self) -> Vec<u8> {
        self.inbound.drain(..).collect()
    }

    /// Bytes that the client has sent and the server has not read.
    pub fn unread(&self) -> usize {
        self.inbound.len()
    }

    /// Bytes that the server has written and the client has not read.
    pub fn in_flight(&self) -> usize {
        self.outbound.len()
    }

    /// Whether the client would read something now.
    pub(super) fn wants(&self) -> bool {
        self.take_max > 0 && !self.outbound.is_empty()
    }

    /// The client reads: how much, and whether the server is to be told that there is room.
    pub(super) fn take(&mut self, max: usize) -> (usize, bool) {
        let n = max.min(self.outbound.len());
        self.received.extend(self.outbound.drain(..n));
        let has_room = self.was_full && self.outbound.len() < self.window && !self.is_closed;
        if has_room {
            self.was_full = false;
        }
        (n, has_room)
    }

    /// The client has read everything that will ever come.
    pub fn has_ended(&self) -> bool {
        (self.is_finished || self.is_closed) && self.outbound.is_empty()
    }

    pub(super) fn is_shut(&self) -> bool {
        self.end != End::Open
    }

    /// Whether whoever writes to it is told that it is broken.
    pub(super) fn is_broken(&self) -> bool {
        self.is_gone
    }

    pub(super) fn read(&mut self, max: usize) -> Read {
        if self.end == End::Reset {
            return Read::Broken;
        }
        if self.inbound.is_empty() {
            return if self.end == End::Finished { Read::End } else { Read::Nothing };
        }
        let n = max.min(self.inbound.len());
        Read::Bytes(self.inbound.drain(..n).collect())
    }

    /// The server writes; how much there was room for.
    pub(super) fn write(&mut self, bytes: &[u8], max: usize) -> usize {
        let room = self.window.saturating_sub(self.outbound.len()).min(max);
        let n = room.min(bytes.len());
        assert!(!self.is_finished || n == 0, "bytes behind the end of the stream");
        self.outbound.extend(&bytes[..n]);
        self.written += n as u64;
        self.was_full = n < bytes.len();
        n
    }
}
