//! What each address, connection and channel may do in a time, and what exceeding it is answered.
//!
//! Only connections whose slot names an address are limited: for loopback and unix peers that are
//! no trusted proxies, and with `open`, there is nothing to look up.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use super::addresses::{Address, AddressIndex, Addresses, Counted, Key};
use super::core::Core;
use super::request::FULL;
use super::slot::{Flags, Peer};
use crate::code::{Code, Refusal};
use crate::collections::slots::ConnId;
use crate::config::Rate;
use crate::conn::State;
use crate::cursor::Since;
use crate::hub::History;
use crate::message::map_bytes;
use crate::sync::{Mutex, MutexGuard};
use crate::time::{Now, Stamp};

/// Connections over a limit that are told so in order; more are simply dropped.
const REFUSED_MAX: usize = 32;
/// Refusals for a rate on one WebSocket within [`STRIKES_MS`], before it is closed.
const STRIKES_MAX: u8 = 20;
const STRIKES_MS: u64 = 10_000;
/// Connections that linger at a time, at least; else a twentieth of all that there may be.
const LINGERING_MIN: usize = 32;

const CONNECTIONS: Refusal =
    Refusal::new(Code::RateLimited, "too many connections from this address: use fewer at a time");
const ACCEPTS: Refusal = Refusal::new(
    Code::RateLimited,
    "too many new connections from this address: keep one open, or open them more slowly",
);
const POLLS: Refusal = Refusal::new(
    Code::RateLimited,
    "too many polls of this address are held: name several channels in one /poll",
);
const PUBLISHES: Refusal =
    Refusal::new(Code::RateLimited, "too many messages from this address: publish more slowly");
const CHANNEL: Refusal =
    Refusal::new(Code::RateLimited, "too many messages in this channel: publish more slowly");
const NEW_CHANNELS: Refusal =
    Refusal::new(Code::RateLimited, "too many new channels from this address: use fewer names");
const FAILURES: Refusal = Refusal::new(
    Code::RateLimited,
    "too many failed attempts from this address: wait before the next one",
);
const OPERATIONS: Refusal =
    Refusal::new(Code::RateLimited, "too many commands on this connection: send more slowly");
const TABLE_FULL: &str = "the table of addresses is full: all further ones share their limits";

/// Theoretical arrival times of what is published in channels, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct ChannelRates {
    /// By a hash of the name: a channel that is not there has not been busy.
    arrivals: HashMap<u64, u64>,
    /// With so many it is worth looking which of them say nothing any more.
    sweep_at: usize,
}

impl ChannelRates {
    fn key(&self, channel: &str) -> u64 {
        self.arrivals.hasher().hash_one(channel)
    }

    fn bytes(&self) -> usize {
        map_bytes(self.arrivals.capacity(), size_of::<(u64, u64)>())
    }

    fn wait_us(&self, key: u64, rate: Rate, now_us: u64) -> u64 {
        self.arrivals.get(&key).map_or(0, |arrival| rate.wait_us(*arrival, 1, now_us))
    }

    /// At most `max` are remembered; one more is not limited, for lack of a memory.
    fn charge(&mut self, key: u64, rate: Rate, max: usize, now_us: u64) {
        if self.arrivals.len() >= self.sweep_at {
            self.arrivals.retain(|_, arrival| *arrival > now_us);
            self.sweep_at = (self.arrivals.len() * 2).clamp(64, max.max(64));
            self.arrivals.shrink_to(self.sweep_at);
        }
        if self.arrivals.len() < max || self.arrivals.contains_key(&key) {
            rate.charge(self.arrivals.entry(key).or_default(), 1, now_us);
        }
    }
}

/// What is seen of an address on all loops, to compare with what is counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    connections: u32,
    polls: u32,
    /// Of the connections those that are only here to be told that the server is full.
    refused: u32,
}

/// What counts over all loops of a server: for an address it is all one, which of them its
/// connections came to. Under one lock, which nobody takes for peers that are not limited.
#[derive(Debug)]
pub(crate) struct Limits {
    counts: Mutex<Counts>,
    /// Its budget is told what the tables take.
    history: Arc<History>,
}

#[derive(Debug)]
struct Counts {
    addresses: Addresses,
    channel_rates: ChannelRates,
    /// What the budget was told last.
    told: usize,
}

impl Limits {
    pub(crate) fn new(addresses_max: usize, history: Arc<History>) -> Self {
        let (addresses, channel_rates) = (Addresses::new(addresses_max), ChannelRates::default());
        Self { counts: Mutex::new(Counts { addresses, channel_rates, told: 0 }), history }
    }

    /// Looks at the tables. Nothing else is locked meanwhile.
    fn with<T>(&self, look: impl FnOnce(&mut Counts) -> T) -> T {
        let mut counts = self.lock();
        let found = look(&mut counts);
        self.settle(counts);
        found
    }

    #[inline(never)] // as what follows: once, not in each of the many that look
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline(never)]
    fn settle(&self, mut counts: MutexGuard<'_, Counts>) {
        let bytes = counts.addresses.bytes() + counts.channel_rates.bytes();
        let told = std::mem::replace(&mut counts.told, bytes);
        if bytes != told {
            self.history.hold(told, bytes);
        }
    }

    /// How many addresses are remembered.
    pub(crate) fn len(&self) -> usize {
        self.with(|counts| counts.addresses.len())
    }

    /// Asserts that what is counted is what these connections are, and held polls, for each address.
    fn check(&self, mut counted: HashMap<AddressIndex, Seen>, most: u32) {
        self.with(|counts| {
            for (index, address) in counts.addresses.iter() {
                let count = counted.remove(&index).unwrap_or_default();
                let Seen { connections, polls, refused } = count;
                assert_eq!(
                    (address.connections, address.polls),
                    (connections, polls),
                    "{address:?}"
                );
                assert!(connections - refused <= most, "more than {most} connections: {address:?}");
            }
            assert!(counted.is_empty(), "addresses that are in no table");
        });
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        // The order may live on.
        let told = self.with(|counts| counts.told);
        self.history.hold(told, 0);
    }
}

impl Core {
    fn now_us(&self) -> u64 {
        self.now.mono_ms * 1_000
    }

    /// Which address a new connection counts for. Whoever comes by a trusted proxy is known with
    /// its first request; who is on this machine, or nobody minds, counts for none.
    fn key_of(&self, peer: Peer) -> Option<Key> {
        if self.config.addresses_max == 0 || self.policy.open || self.policy.proxies.trusts(peer) {
            return None;
        }
        match peer {
            Peer::Ip(address) if !peer.is_local() => Some(Key::of(address.ip())),
            Peer::Ip(_) | Peer::Unix => None,
        }
    }

    /// Looks at the address of a connection, if it is limited.
    fn with_address<T>(&self, index: u32, look: impl FnOnce(&mut Address) -> T) -> Option<T> {
        let address = self.slots.get(index)?.address?;
        self.common.limits.with(|counts| counts.addresses.get_mut(address).map(look))
    }

    fn has_address(&self, index: u32) -> bool {
        self.slots.get(index).is_some_and(|slot| slot.address.is_some())
    }

    /// Lets a connection that has been accepted count for its peer; whether that is one too many.
    pub(crate) fn count_accept(&mut self, index: u32, peer: Peer) -> bool {
        self.key_of(peer).is_some_and(|key| !self.count_for(index, key))
    }

    /// Notes why a connection is only here to be told so.
    pub(crate) fn mark_refused(&mut self, index: u32, is_limited: bool) {
        self.refused += 1;
        if let Some(slot) = self.slots.get_mut(index) {
            slot.flags.set(Flags::REFUSED);
            if is_limited {
                slot.flags.set(Flags::LIMITED);
                // It is only here to be told so, and takes no place of its address.
                self.leave_address(index);
            }
        }
    }

    /// Lets a connection count for an address from now on; whether that is within its limits.
    fn count_for(&mut self, index: u32, key: Key) -> bool {
        let now_us = self.now_us();
        self.leave_address(index);
        let (rate, max) = (self.config.accepts_per_address, self.connections_per_address_max());
        // A proxy's connection is new once, whoever it is for.
        let is_new = self.slots.get(index).is_some_and(|slot| slot.requests == 0);
        let entered = self.common.limits.with(|counts| {
            let entered = counts.addresses.enter(key, now_us)?;
            let address = counts.addresses.get_mut(entered)?;
            let is_early = is_new && address.wait_us(Counted::Accepts, rate, 1, now_us) > 0;
            if is_new && !is_early {
                rate.charge(address.arrival(Counted::Accepts), 1, now_us);
            }
            Some((entered, address.key, !is_early && address.connections <= max))
        });
        let Some((entered, key, is_within)) = entered else { return true };
        if let Some(slot) = self.slots.get_mut(index) {
            slot.address = Some(entered);
        }
        if key == Key::Others {
            self.notices.note("limits", TABLE_FULL, self.now);
        }
        is_within
    }

    fn connections_per_address_max(&self) -> u32 {
        match self.config.connections_per_address_max {
            0 => u32::MAX,
            max => max,
        }
    }

    fn leave_address(&mut self, index: u32) {
        let now_us = self.now_us();
        let left = self.slots.get_mut(index).and_then(|slot| slot.address.take());
        if let Some(left) = left {
            self.common.limits.with(|counts| counts.addresses.leave(left, now_us));
        }
    }

    /// A slot is gone: what was derived from it follows.
    pub(crate) fn uncount(&mut self, slot: &super::slot::Slot) {
        if let Some(index) = slot.address {
            let (is_held, now_us) = (matches!(slot.state, State::Hold(_)), self.now_us());
            self.common.limits.with(|counts| {
                if let Some(address) = counts.addresses.get_mut(index) {
                    address.polls -= u32::from(is_held);
                }
                counts.addresses.leave(index, now_us);
            });
        }
        if slot.flags.has(Flags::REFUSED) {
            self.refused -= 1;
        }
        if matches!(&slot.state, State::Closing(closing) if closing.lingering) {
            self.lingering -= 1;
        }
    }

    /// Finds out for whom a request counts, and why it is not looked at further, if it is not.
    pub(crate) fn identify(&mut self, index: u32, head: &[u8]) -> Option<Refusal> {
        let slot = self.slots.get(index)?;
        if slot.flags.has(Flags::REFUSED) {
            return Some(self.why_refused(index));
        }
        let proxies = &self.policy.proxies;
        if proxies.is_empty() || self.policy.open || !proxies.trusts(slot.peer) {
            return None;
        }
        let client = proxies.client(slot.peer, head);
        let slot = self.slots.get_mut(index)?;
        slot.flags.clear(Flags::REMOTE);
        if client.is_remote {
            slot.flags.set(Flags::REMOTE);
        }
        // Who shares the entry of all others goes on to, until it has its own.
        let address = self.slots.get(index).and_then(|slot| slot.address);
        let is_known = address.is_some_and(|address| {
            self.common.limits.with(|counts| {
                let shares = || counts.addresses.find(client.key).is_none();
                let key = counts.addresses.get(address).map(|address| address.key);
                key == Some(client.key) || (key == Some(Key::Others) && shares())
            })
        });
        if is_known || self.config.addresses_max == 0 || self.count_for(index, client.key) {
            return None;
        }
        self.leave_address(index);
        Some(self.why_limited(client.key))
    }

    /// Whether a connection is one too many for the server, and for no address.
    pub(crate) fn is_only_full(&self, index: u32) -> bool {
        let flags = self.slots.get(index).map(|slot| slot.flags).unwrap_or_default();
        flags.has(Flags::REFUSED) && !flags.has(Flags::LIMITED)
    }

    /// A connection of a trusted proxy is nobody's while it asks for nothing.
    pub(crate) fn rest_address(&mut self, index: u32) {
        if self.has_address(index) && self.policy.proxies.trusts(self.peer(index)) {
            self.leave_address(index);
        }
    }

    /// What a connection that was accepted only to be refused is told.
    pub(crate) fn why_refused(&self, index: u32) -> Refusal {
        match self.slots.get(index) {
            Some(slot) if slot.flags.has(Flags::LIMITED) => {
                self.key_of(slot.peer).map_or(CONNECTIONS, |key| self.why_limited(key))
            }
            Some(_) | None => FULL,
        }
    }

    /// Nobody knows when another connection ends; a rate says when it lets one in.
    fn why_limited(&self, key: Key) -> Refusal {
        let (rate, max) = (self.config.accepts_per_address, self.connections_per_address_max());
        let now_us = self.now_us();
        self.common.limits.with(|counts| {
            let addresses = &counts.addresses;
            match addresses.find(key).or_else(|| addresses.find(Key::Others)) {
                Some(address) if address.connections < max => {
                    ACCEPTS.after_us(address.wait_us(Counted::Accepts, rate, 1, now_us))
                }
                Some(_) | None => CONNECTIONS,
            }
        })
    }

    /// Whether a poll that would wait may be held.
    pub(crate) fn admit_poll(&self, index: u32) -> Result<(), Refusal> {
        let max = self.config.polls_per_address_max;
        let is_over = self.with_address(index, |address| max > 0 && address.polls >= max);
        if is_over == Some(true) { Err(POLLS) } else { Ok(()) }
    }

    /// A poll is held.
    pub(crate) fn count_poll(&self, index: u32) {
        self.with_address(index, |address| address.polls += 1);
    }

    /// The state of a connection is about to change: if that is a held poll, it is one no longer.
    #[inline] // for each request, and hardly ever a poll
    pub(crate) fn uncount_poll(&self, index: u32) {
        let is_held = |slot: &super::slot::Slot| matches!(slot.state, State::Hold(_));
        if self.slots.get(index).is_some_and(is_held) {
            self.with_address(index, |address| address.polls -= 1);
        }
    }

    /// Whether a poll of these channels may be held, and counts those that are new. Who comes back
    /// with a position of this order has polled before: a channel in which nothing has been
    /// published is forgotten between two polls.
    pub(crate) fn admit_poll_of(
        &self,
        index: u32,
        channels: &[Cow<'_, str>],
        since: Option<Since>,
    ) -> Result<(), Refusal> {
        let epoch = self.history.epoch();
        let is_back = matches!(since, Some(Since::Cursor(cursor)) if cursor.epoch == epoch);
        if is_back { Ok(()) } else { self.admit_channels(index, channels) }
    }

    /// Whether these channels may be listened to, and counts those that are new.
    pub(crate) fn admit_channels(
        &self,
        index: u32,
        channels: &[Cow<'_, str>],
    ) -> Result<(), Refusal> {
        let rate = self.config.new_channels_per_address;
        if !self.has_address(index) || rate.burst == 0 {
            return Ok(());
        }
        let count = self.history.count_new(channels.iter().map(|channel| &**channel));
        self.take(index, Counted::NewChannels, rate, count as u32, NEW_CHANNELS)
    }

    /// Whether one message may be published, and counts it if so.
    pub(crate) fn admit_publish(&self, index: u32, channel: &str) -> Result<(), Refusal> {
        let address = self.slots.get(index).and_then(|slot| slot.address);
        let Some(address) = address else { return Ok(()) };
        let config = &self.config;
        let (own, new) = (config.publishes_per_address, config.new_channels_per_address);
        let (shared, max) = (config.publishes_per_channel, config.channels_max);
        let names = match new.burst {
            0 => 0,
            _ => self.history.count_new(std::iter::once(channel)) as u32,
        };
        let now_us = self.now_us();
        self.common.limits.with(|counts| {
            let rates = &mut counts.channel_rates;
            let key = rates.key(channel);
            let Some(address) = counts.addresses.get_mut(address) else { return Ok(()) };
            // All are asked before any is charged.
            let waits = [
                (address.wait_us(Counted::Publishes, own, 1, now_us), PUBLISHES),
                (address.wait_us(Counted::NewChannels, new, names, now_us), NEW_CHANNELS),
                (rates.wait_us(key, shared, now_us), CHANNEL),
            ];
            let longest = waits.into_iter().max_by_key(|(wait_us, _)| *wait_us);
            if let Some((wait_us, refusal)) = longest.filter(|(wait_us, _)| *wait_us > 0) {
                return Err(refusal.after_us(wait_us));
            }
            own.charge(address.arrival(Counted::Publishes), 1, now_us);
            new.charge(address.arrival(Counted::NewChannels), names, now_us);
            if shared.burst > 0 {
                rates.charge(key, shared, max, now_us);
            }
            Ok(())
        })
    }

    /// Counts a refusal for lack of credentials. After some an address is only told to wait.
    pub(crate) fn admit_failure(&self, index: u32, refusal: Refusal) -> Refusal {
        if refusal.code != Code::Unauthorized {
            return refusal;
        }
        let rate = self.config.unauthorized_per_address;
        self.take(index, Counted::Failures, rate, 1, FAILURES).err().unwrap_or(refusal)
    }

    fn take(
        &self,
        index: u32,
        counted: Counted,
        rate: Rate,
        count: u32,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let now_us = self.now_us();
        let wait_us = self.with_address(index, |address| {
            let wait_us = address.wait_us(counted, rate, count, now_us);
            if wait_us == 0 {
                rate.charge(address.arrival(counted), count, now_us);
            }
            wait_us
        });
        match wait_us {
            None | Some(0) => Ok(()),
            Some(wait_us) => Err(refusal.after_us(wait_us)),
        }
    }

    /// Whether a WebSocket may do one thing more, and counts it if so.
    pub(crate) fn admit_operation(&mut self, index: u32) -> Result<(), Refusal> {
        let (rate, now_us) = (self.config.operations_per_connection, self.now_us());
        let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
        let (Some(_), State::Ws(ws)) = (slot.address, &mut slot.state) else { return Ok(()) };
        match rate.wait_us(ws.operations_us, 1, now_us) {
            0 => rate.charge(&mut ws.operations_us, 1, now_us),
            wait_us => return Err(OPERATIONS.after_us(wait_us)),
        }
        Ok(())
    }

    /// Notes that a WebSocket was refused something for a rate; whether that was once too often.
    pub(crate) fn has_struck_out(&mut self, index: u32) -> bool {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let State::Ws(ws) = &mut slot.state else { return false };
        if ws.strikes == 0 || now.mono_ms > ws.strikes_since.ms() + STRIKES_MS {
            (ws.strikes, ws.strikes_since) = (0, Stamp::from(now));
        }
        ws.strikes = ws.strikes.saturating_add(1);
        ws.strikes > STRIKES_MAX
    }

    /// Whom a trusted proxy named, else the peer.
    pub(crate) fn client(&self, id: ConnId) -> Option<IpAddr> {
        self.client_at(self.slots.find(id)?)
    }

    pub(crate) fn client_at(&self, index: u32) -> Option<IpAddr> {
        let slot = self.slots.get(index)?;
        match slot.peer {
            peer if self.policy.proxies.trusts(peer) => {
                self.with_address(index, |address| address.key.ip())?
            }
            Peer::Ip(address) => Some(address.ip().to_canonical()),
            Peer::Unix => None,
        }
    }

    /// Whether one connection more may wait for its peer to have read everything.
    pub(crate) fn may_linger(&self) -> bool {
        self.lingering < (self.connections_max / 20 / self.common.loops).max(LINGERING_MIN)
    }

    /// Whether a new connection of this peer would be one too many for its address.
    fn is_over_for(&self, peer: Peer) -> bool {
        let Some(key) = self.key_of(peer) else { return false };
        let (rate, now_us) = (self.config.accepts_per_address, self.now_us());
        let max = self.connections_per_address_max();
        self.common.limits.with(|counts| {
            counts.addresses.find(key).is_some_and(|address| {
                let wait_us = address.wait_us(Counted::Accepts, rate, 1, now_us);
                wait_us > 0 || address.connections >= max
            })
        })
    }

    /// This loop ends, and whoever is still here counts for no address any more.
    pub(crate) fn leave_addresses(&mut self) {
        let limited = self.slots.iter().filter(|(_, slot)| slot.address.is_some());
        let limited: Vec<u32> = limited.map(|(index, _)| index).collect();
        for index in limited {
            self.uncount_poll(index);
            self.leave_address(index);
        }
    }

    /// Asserts that what all loops of the server count together is what they have.
    pub(crate) fn check_common(&self, counts: HashMap<AddressIndex, Seen>) {
        assert!(self.common.limits.len() <= self.config.addresses_max + 1);
        self.common.limits.check(counts, self.connections_per_address_max());
    }

    /// Asserts that what is counted is what there is, and counts what there is for each address.
    pub(crate) fn check_counts(&self, counts: &mut HashMap<AddressIndex, Seen>) {
        let (mut refused, mut lingering) = (0, 0);
        for (_, slot) in self.slots.iter() {
            refused += usize::from(slot.flags.has(Flags::REFUSED));
            let lingers = matches!(&slot.state, State::Closing(closing) if closing.lingering);
            lingering += usize::from(lingers);
            if let Some(index) = slot.address {
                let count = counts.entry(index).or_default();
                count.connections += 1;
                count.polls += u32::from(matches!(slot.state, State::Hold(_)));
                count.refused += u32::from(slot.flags.has(Flags::REFUSED));
            }
        }
        assert_eq!((refused, lingering), (self.refused, self.lingering));
    }
}

impl super::Engine {
    /// Why a connection of this peer, which has just been accepted, cannot even be told so in
    /// order, if it cannot: drop it, and call [`handle_turned_away`](Self::handle_turned_away).
    pub fn turns_away(&mut self, peer: Peer, now: Now) -> Option<Code> {
        self.core.now = now;
        if self.core.refused < REFUSED_MAX {
            return None;
        }
        if self.core.is_over() {
            return Some(Code::Overloaded);
        }
        self.core.is_over_for(peer).then_some(Code::RateLimited)
    }

    /// The driver dropped a connection, for this reason.
    pub fn handle_turned_away(&mut self, code: Code) {
        let message = if code == Code::RateLimited { &ACCEPTS } else { &FULL };
        self.core.note_refusal(&Refusal { code, ..message.clone() });
    }
}
