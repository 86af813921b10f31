//! What one connection occupies: a slot of fixed size, and a box only while something is unfinished.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use crate::conn::{State, Ws, WsMode};
use crate::engine::addresses::AddressIndex;
use crate::engine::answer::Waiting;
use crate::engine::app::Transport;
use crate::engine::query::Options;
use crate::hub::{Item, RoomIndex};
use crate::time::Stamp;
use crate::wire::dialect::{Dialect, Gap};
use crate::wire::http::HeadScan;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process on this machine, over a unix socket.
    Unix,
    /// An address.
    Ip(SocketAddr),
}

impl Peer {
    /// Whether it is on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix => true,
            Self::Ip(address) => address.ip().to_canonical().is_loopback(),
        }
    }
}

/// One bit each, in a slot.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags(u32);

impl Flags {
    /// In the dirty list.
    pub(crate) const DIRTY: Self = Self(1);
    /// `cursor` is stored; without it, it is the horizon.
    pub(crate) const BEHIND: Self = Self(1 << 1);
    /// The socket takes nothing now.
    pub(crate) const BLOCKED: Self = Self(1 << 2);
    /// In the list of those with own bytes to write.
    pub(crate) const REPLYING: Self = Self(1 << 3);
    /// In the list of those whose kept bytes are offered again.
    pub(crate) const AGAIN: Self = Self(1 << 4);
    /// The peer has closed its sending side.
    pub(crate) const EOF: Self = Self(1 << 5);
    /// To be freed in this turn's second phase.
    pub(crate) const CLOSED: Self = Self(1 << 6);
    /// Asked for `gap=live`.
    pub(crate) const GAP_LIVE: Self = Self(1 << 7);
    /// Takes no further request after this one.
    pub(crate) const LAST: Self = Self(1 << 8);
    /// The application knows it and is told when it closes.
    pub(crate) const OPENED: Self = Self(1 << 9);
    /// The application is told when its bytes have drained.
    pub(crate) const WANTS_WRITABLE: Self = Self(1 << 10);
    /// Nothing has been written since the socket first took nothing.
    pub(crate) const STANDING: Self = Self(1 << 12);
    /// Over the limit of connections: only here to be told so.
    pub(crate) const REFUSED: Self = Self(1 << 11);
    /// With `REFUSED`: over a limit of its address.
    pub(crate) const LIMITED: Self = Self(1 << 13);
    /// A trusted proxy asks for somebody who is not on this machine.
    pub(crate) const REMOTE: Self = Self(1 << 14);
    /// Some channel's presence was not told, for too much waited.
    pub(crate) const UNTOLD: Self = Self(1 << 15);
    /// Another connection goes on under the name that this one had.
    pub(crate) const RENAMED: Self = Self(1 << 16);
    /// Its own bytes of this turn are about presence alone, which says no position: a heartbeat does.
    pub(crate) const ASIDE: Self = Self(1 << 17);
    /// Is or was told of some channel who joins and leaves.
    pub(crate) const WATCHES: Self = Self(1 << 18);
    /// An event stream that is told its position as soon as it has caught up.
    pub(crate) const WAITS_FOR_NOW: Self = Self(1 << 19);

    pub(crate) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(crate) fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    pub(crate) fn clear(&mut self, flag: Self) {
        self.0 &= !flag.0;
    }

    /// Sets it; whether it was not set before.
    pub(crate) fn raise(&mut self, flag: Self) -> bool {
        let before = self.0;
        self.set(flag);
        before != self.0
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#b}", self.0)
    }
}

/// One channel of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sub {
    pub(crate) room: RoomIndex,
    /// Invariant: `roster.members(room)[place]` is this slot.
    pub(crate) place: u32,
    /// What follows it is owed (and follows the connection's cursor, unless `later`).
    pub(crate) position: u64,
    /// Replays, and has not reached the horizon yet.
    pub(crate) catching_up: bool,
    /// Joined a connection that was further: while catching up, `position` alone counts.
    pub(crate) later: bool,
    /// It is told who joins and leaves.
    pub(crate) watches: bool,
    /// Some of that was not told.
    pub(crate) untold: bool,
    /// A poll that wants to be told and is not: its answer says so.
    pub(crate) is_mute: bool,
}

impl Sub {
    /// Whether the connection's cursor says nothing about it.
    pub(crate) fn is_apart(&self) -> bool {
        self.catching_up && self.later
    }

    /// Everything up to here has been looked at, given the connection's cursor.
    pub(crate) fn after(&self, cursor: u64) -> u64 {
        if self.is_apart() { self.position } else { self.position.max(cursor) }
    }
}

/// The channels of one connection; a single one needs no heap.
#[derive(Debug, Default)]
pub(crate) enum Subs {
    #[default]
    None,
    One(Sub),
    #[expect(clippy::box_collection, reason = "a connection with few channels is to stay small")]
    Many(Box<Vec<Sub>>),
}

impl Subs {
    pub(crate) fn as_slice(&self) -> &[Sub] {
        match self {
            Self::None => &[],
            Self::One(sub) => std::slice::from_ref(sub),
            Self::Many(subs) => subs,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Sub] {
        match self {
            Self::None => &mut [],
            Self::One(sub) => std::slice::from_mut(sub),
            Self::Many(subs) => subs,
        }
    }

    pub(crate) fn push(&mut self, sub: Sub) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(sub),
            Self::One(first) => Self::Many(Box::new(vec![first, sub])),
            Self::Many(mut subs) => {
                subs.push(sub);
                Self::Many(subs)
            }
        };
    }

    pub(crate) fn remove(&mut self, room: RoomIndex) -> Option<Sub> {
        let at = self.as_slice().iter().position(|sub| sub.room == room)?;
        match std::mem::take(self) {
            Self::None => None,
            Self::One(sub) => Some(sub),
            Self::Many(mut subs) => {
                let sub = subs.swap_remove(at);
                *self = match subs[..] {
                    [last] => Self::One(last),
                    _ => Self::Many(subs),
                };
                Some(sub)
            }
        }
    }
}

/// A publication that a short write cut.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) publication: Item,
    pub(crate) dialect: Dialect,
    /// How much of its rendering has been written.
    pub(crate) written: usize,
}

/// What only a connection with something unfinished has.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// Received and not used yet: a partial head or frame header, or what waits.
    pub(crate) tail: Vec<u8>,
    /// Own bytes that the socket did not take, from `outbox_at`.
    pub(crate) outbox: Vec<u8>,
    pub(crate) outbox_at: usize,
    pub(crate) cut: Option<Cut>,
    /// Replies that name a position which the connection has not reached yet, with that position.
    pub(crate) later: VecDeque<(u64, Vec<u8>)>,
    /// To be announced in the answer to a held poll.
    pub(crate) gaps: Vec<Gap>,
    /// What a held poll is told of who listens: objects with commas between them.
    pub(crate) told: Vec<u8>,
    pub(crate) waiting: Option<Box<Waiting>>,
    /// The application's own number.
    pub(crate) data: u64,
}

impl Extra {
    pub(crate) fn outbox_len(&self) -> usize {
        self.outbox.len() - self.outbox_at
    }

    /// Own bytes that wait in it.
    #[inline(never)]
    fn own_len(&self) -> usize {
        self.outbox_len() + self.later.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }

    fn is_empty(&self) -> bool {
        self.tail.is_empty()
            && self.outbox.is_empty()
            && self.cut.is_none()
            && self.later.is_empty()
            && self.gaps.is_empty()
            && self.told.is_empty()
            && self.waiting.is_none()
            && self.data == 0
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) state: State,
    pub(crate) subs: Subs,
    pub(crate) extra: Option<Box<Extra>>,
    /// Only while `BEHIND`.
    pub(crate) cursor: u64,
    /// Own bytes of this turn, as a range of the arena.
    pub(crate) arena_at: u32,
    pub(crate) arena_len: u32,
    pub(crate) peer: Peer,
    /// Whose limits count for it, if any do.
    pub(crate) address: Option<AddressIndex>,
    pub(crate) opened: Stamp,
    /// When the current phase began: the head, the idle time, the close handshake.
    pub(crate) phase: Stamp,
    pub(crate) last_in: Stamp,
    pub(crate) last_out: Stamp,
    /// When the socket last took something of what waited.
    pub(crate) progress: Stamp,
    pub(crate) requests: u16,
    /// Seconds between heartbeats; 0: as configured.
    pub(crate) heartbeat_s: u16,
    /// What its unfinished parts hold, as it was counted last.
    pub(crate) heap: u32,
    pub(crate) flags: Flags,
    /// Where in the spread of 0.8 to 1.0 this connection's next heartbeat lies.
    pub(crate) jitter: u8,
}

impl Slot {
    pub(crate) fn new(peer: Peer, now: Stamp, jitter: u8) -> Self {
        Self {
            state: State::Head(HeadScan::default()),
            subs: Subs::None,
            extra: None,
            cursor: 0,
            arena_at: 0,
            arena_len: 0,
            peer,
            address: None,
            opened: now,
            phase: now,
            last_in: now,
            last_out: now,
            progress: now,
            requests: 0,
            heartbeat_s: 0,
            heap: 0,
            flags: Flags::default(),
            jitter,
        }
    }

    pub(crate) fn extra(&mut self) -> &mut Extra {
        // A box of 200 bytes is filled in one place, not in each that may need it.
        #[cold]
        #[inline(never)]
        fn empty() -> Box<Extra> {
            Box::default()
        }
        self.extra.get_or_insert_with(empty)
    }

    /// Everything up to here has been looked at, but for what is apart.
    pub(crate) fn reached(&self, horizon: u64) -> u64 {
        if self.flags.has(Flags::BEHIND) { self.cursor } else { horizon }
    }

    /// Notes that something beyond `horizon` may be owed; whether it must be put on the dirty list.
    pub(crate) fn fall_behind(&mut self, horizon: u64) -> bool {
        if self.flags.raise(Flags::BEHIND) {
            self.cursor = horizon;
        }
        !self.flags.has(Flags::BLOCKED) && self.flags.raise(Flags::DIRTY)
    }

    /// The subscription to a room.
    pub(crate) fn sub_in(&mut self, room: RoomIndex) -> Option<&mut Sub> {
        self.subs.as_mut_slice().iter_mut().find(|sub| sub.room == room)
    }

    /// Whether a held poll is to be told who came or went.
    pub(crate) fn has_told(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| !extra.told.is_empty())
            || self.subs.as_slice().iter().any(|sub| sub.untold)
    }

    /// Whether some channel of it is apart.
    pub(crate) fn has_apart(&self) -> bool {
        self.subs.as_slice().iter().any(Sub::is_apart)
    }

    /// What is apart has been looked at up to `seq`.
    pub(crate) fn move_apart(&mut self, seq: u64) {
        for sub in self.subs.as_mut_slice().iter_mut().filter(|sub| sub.is_apart()) {
            sub.position = sub.position.max(seq);
        }
    }

    /// How its publications are written now, also while an answer is waited for.
    #[inline]
    pub(crate) fn dialect(&self) -> Option<Dialect> {
        match self.lasting_state().dialect() {
            Some(Dialect::WsJson) if self.has_apart() => Some(Dialect::WsJsonCursor),
            dialect => dialect,
        }
    }

    /// What a listener asked for, in place of what the last one on this connection did.
    pub(crate) fn adopt(&mut self, options: &Options<'_>) {
        self.heartbeat_s = options.heartbeat_s;
        self.flags.clear(Flags::GAP_LIVE);
        if options.gap_live {
            self.flags.set(Flags::GAP_LIVE);
        }
    }

    /// The state, seen through an answer that is waited for.
    pub(crate) fn lasting_state(&self) -> &State {
        match (&self.state, &self.extra) {
            (State::Wait { .. }, Some(extra)) => {
                extra.waiting.as_ref().map_or(&self.state, |waiting| &waiting.state)
            }
            (state, _) => state,
        }
    }

    /// The WebSocket that it is, also while an answer is waited for.
    pub(crate) fn websocket(&self) -> Option<&Ws> {
        match self.lasting_state() {
            State::Ws(ws) => Some(ws),
            _ => None,
        }
    }

    /// What it is to the application.
    pub(crate) fn transport(&self) -> Transport {
        match self.lasting_state() {
            State::Ws(ws) if ws.mode == WsMode::App => Transport::Own,
            State::Ws(_) => Transport::WebSocket,
            State::Sse { .. } => Transport::EventStream,
            State::Hold(_) => Transport::Poll,
            State::Head(_) | State::Body(_) | State::Wait { .. } | State::Closing(_) => {
                Transport::Http
            }
        }
    }

    /// A WebSocket that is told something final waits for no answer any more.
    pub(crate) fn drop_question(&mut self) {
        if self.websocket().is_none() || !matches!(self.state, State::Wait { .. }) {
            return;
        }
        if let Some(waiting) = self.extra().waiting.take() {
            self.state = waiting.state;
        }
        self.tidy();
    }

    /// Gives the box back once nothing is unfinished.
    pub(crate) fn tidy(&mut self) {
        if self.extra.as_ref().is_some_and(|extra| extra.is_empty()) {
            self.extra = None;
        }
    }

    pub(crate) fn has_tail(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| !extra.tail.is_empty())
    }

    pub(crate) fn has_later(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| !extra.later.is_empty())
    }

    /// Own bytes that wait, those of this turn included.
    #[inline]
    pub(crate) fn own_len(&self) -> usize {
        self.arena_len as usize + self.extra.as_ref().map_or(0, |extra| extra.own_len())
    }

    /// Whether own bytes would have to wait: the socket takes nothing, or others go before them.
    #[inline]
    pub(crate) fn is_stuck(&self) -> bool {
        self.flags.has(Flags::BLOCKED) || self.has_backlog()
    }

    /// Whether anything must be written before what is new.
    pub(crate) fn has_backlog(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.cut.is_some() || extra.outbox_len() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_stays_small() {
        let bytes = size_of::<Slot>() + size_of::<u64>(); // the slab's tag and the generation
        println!("slot {bytes} bytes, state {} bytes", size_of::<State>());
        assert!(bytes <= 192, "{bytes}");
    }
}
