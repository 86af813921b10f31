//! What is remembered of the addresses that limits count for: one bounded table.
//!
//! Rates are GCRA: for each a *theoretical arrival time*, which every event moves on by the interval
//! and which may lie ahead of now by as much as a burst is long. It knows no connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use slab::Slab;

use crate::config::Rate;
use crate::message::map_bytes;

/// Entries that are looked at for one that is only old, whenever an address comes or goes.
const STEPS: usize = 8;
/// The same where the table is full.
const STEPS_FULL: usize = 64;
/// A table with fewer entries is given back only once it is empty.
const SHRINK_MIN: usize = 64;

/// Who counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    V4(u32),
    /// A network of 64 bits: anyone who has one IPv6 address has all of its network.
    V6(u64),
    /// A trusted proxy on a unix socket that names nobody.
    Unix,
    /// Everyone for whom the table had no place.
    Others,
}

impl Key {
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.to_bits()),
            IpAddr::V6(ip) => Self::V6((ip.to_bits() >> 64) as u64),
        }
    }

    /// The address, or the first one of the network.
    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::V4(bits) => Some(Ipv4Addr::from_bits(bits).into()),
            Self::V6(bits) => Some(Ipv6Addr::from_bits(u128::from(bits) << 64).into()),
            Self::Unix | Self::Others => None,
        }
    }
}

/// The rates of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Accepts,
    Publishes,
    NewChannels,
    Failures,
}

const COUNTED: usize = Counted::Failures as usize + 1;

/// One address.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) key: Key,
    /// Invariant: the slots that name it, on all loops.
    pub(crate) connections: u32,
    /// Invariant: those of them that are held polls.
    pub(crate) polls: u32,
    /// Theoretical arrival times in microseconds, by [`Counted`].
    arrivals: [u64; COUNTED],
}

impl Address {
    pub(crate) fn arrival(&mut self, counted: Counted) -> &mut u64 {
        &mut self.arrivals[counted as usize]
    }

    /// How long until `count` events more are within the rate; 0: they are now.
    pub(crate) fn wait_us(&self, counted: Counted, rate: Rate, count: u32, now_us: u64) -> u64 {
        rate.wait_us(self.arrivals[counted as usize], count, now_us)
    }

    /// Whether nothing would be forgotten with it.
    fn is_idle(&self, now_us: u64) -> bool {
        self.connections == 0 && self.arrivals.iter().all(|arrival| *arrival <= now_us)
    }
}

impl Rate {
    fn every_us(self) -> u64 {
        let whole = self.every.as_secs().saturating_mul(1_000_000);
        whole.saturating_add(u64::from(self.every.subsec_micros()))
    }

    /// More at once than a burst costs what a burst does: else it would never be allowed.
    fn cost_us(self, count: u32) -> u64 {
        self.every_us().saturating_mul(u64::from(count.min(self.burst)))
    }

    /// How long until `count` events more are within the rate, given their arrival time; 0: now.
    #[inline(never)]
    pub(crate) fn wait_us(self, arrival: u64, count: u32, now_us: u64) -> u64 {
        let after = arrival.max(now_us).saturating_add(self.cost_us(count));
        after.saturating_sub(self.cost_us(self.burst)).saturating_sub(now_us)
    }

    /// Counts them.
    #[inline(never)]
    pub(crate) fn charge(self, arrival: &mut u64, count: u32, now_us: u64) {
        *arrival = (*arrival).max(now_us).saturating_add(self.cost_us(count));
    }
}

/// Names an address in the table, for as long as anyone has it.
pub(crate) type AddressIndex = NonZeroU32;

/// All addresses of one server.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    by_key: HashMap<Key, AddressIndex>,
    table: Slab<Address>,
    /// Where the search for what is only old goes on.
    hand: usize,
    max: usize,
}

impl Addresses {
    pub(crate) fn new(max: usize) -> Self {
        // An index is one more than the place, and four bytes.
        Self { max: max.min(u32::MAX as usize - 2), ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// What the table takes.
    pub(crate) fn bytes(&self) -> usize {
        map_bytes(self.by_key.capacity(), size_of::<(Key, AddressIndex)>())
            + self.table.capacity() * (size_of::<Address>() + size_of::<usize>())
    }

    pub(crate) fn get(&self, index: AddressIndex) -> Option<&Address> {
        self.table.get(index.get() as usize - 1)
    }

    pub(crate) fn get_mut(&mut self, index: AddressIndex) -> Option<&mut Address> {
        self.table.get_mut(index.get() as usize - 1)
    }

    /// All, in no order that means anything. For checks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (AddressIndex, &Address)> {
        self.table.iter().filter_map(|(place, address)| Some((index_of(place)?, address)))
    }

    /// What is known of an address, if anything is.
    pub(crate) fn find(&self, key: Key) -> Option<&Address> {
        self.by_key.get(&key).and_then(|index| self.get(*index))
    }

    /// A connection counts for this address from now on. `None`: there is no place, not even one
    /// that all share.
    pub(crate) fn enter(&mut self, key: Key, now_us: u64) -> Option<AddressIndex> {
        let index = self.find_or_add(key, now_us)?;
        self.get_mut(index)?.connections += 1;
        Some(index)
    }

    fn find_or_add(&mut self, key: Key, now_us: u64) -> Option<AddressIndex> {
        if let Some(index) = self.by_key.get(&key) {
            return Some(*index);
        }
        self.forget_idle(STEPS, now_us);
        if self.is_full() {
            self.forget_idle(STEPS_FULL, now_us);
        }
        let key = if self.is_full() { Key::Others } else { key };
        if let Some(index) = self.by_key.get(&key) {
            return Some(*index);
        }
        let address = Address { key, connections: 0, polls: 0, arrivals: [0; COUNTED] };
        let index = index_of(self.table.insert(address))?;
        self.by_key.insert(key, index);
        Some(index)
    }

    fn is_full(&self) -> bool {
        self.table.len() - usize::from(self.by_key.contains_key(&Key::Others)) >= self.max
    }

    /// A connection counts for it no longer.
    pub(crate) fn leave(&mut self, index: AddressIndex, now_us: u64) {
        if let Some(address) = self.get_mut(index) {
            address.connections -= 1;
        }
        self.forget_if_idle(index.get() as usize - 1, now_us);
        self.forget_idle(STEPS, now_us);
    }

    fn forget_if_idle(&mut self, place: usize, now_us: u64) {
        let Some(address) = self.table.get(place) else { return };
        if address.is_idle(now_us) {
            self.by_key.remove(&address.key);
            self.table.remove(place);
        }
    }

    /// Looks at a few entries and drops those that say nothing any more. As many are looked at with
    /// each address that comes or goes as would empty the table several times over.
    fn forget_idle(&mut self, steps: usize, now_us: u64) {
        for _ in 0..steps.min(self.table.capacity()) {
            self.hand = if self.hand + 1 < self.table.capacity() { self.hand + 1 } else { 0 };
            self.forget_if_idle(self.hand, now_us);
        }
        let len = self.table.len();
        if len == 0 || (len >= SHRINK_MIN && len < self.table.capacity() / 4) {
            self.table.shrink_to_fit();
            self.by_key.shrink_to(len);
        }
    }
}

fn index_of(place: usize) -> Option<AddressIndex> {
    AddressIndex::new(u32::try_from(place + 1).ok()?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: Rate = Rate { burst: 3, every: Duration::from_millis(100) };

    #[test]
    fn a_burst_passes_and_then_one_an_interval() {
        let (mut arrival, mut now) = (0, 1_000_000);
        for _ in 0..3 {
            assert_eq!(RATE.wait_us(arrival, 1, now), 0);
            RATE.charge(&mut arrival, 1, now);
        }
        assert_eq!(RATE.wait_us(arrival, 1, now), 100_000);
        now += 99_999;
        assert_eq!(RATE.wait_us(arrival, 1, now), 1);
        now += 1;
        assert_eq!(RATE.wait_us(arrival, 1, now), 0);
        assert_eq!(RATE.wait_us(arrival, 2, now), 100_000);
        RATE.charge(&mut arrival, 1, now);
        assert_eq!(RATE.wait_us(arrival, 1, now), 100_000);
        // What was not used comes back, and no more than a burst of it.
        now += 10_000_000;
        assert_eq!((RATE.wait_us(arrival, 3, now), RATE.wait_us(arrival, 99, now)), (0, 0));
        RATE.charge(&mut arrival, 99, now);
        assert_eq!(RATE.wait_us(arrival, 1, now), 100_000);
    }

    #[test]
    fn no_burst_or_no_interval_is_no_limit() {
        for rate in [Rate::OFF, Rate { burst: 1, every: Duration::ZERO }] {
            let mut arrival = 0;
            for _ in 0..1_000 {
                assert_eq!(rate.wait_us(arrival, 1, 5), 0);
                rate.charge(&mut arrival, 1, 5);
            }
        }
        let endless = Rate { burst: u32::MAX, every: Duration::MAX };
        let mut arrival = 0;
        endless.charge(&mut arrival, 1, 5);
        assert_eq!(endless.wait_us(arrival, 1, 5), 0);
    }

    #[test]
    fn addresses_are_ipv4_or_networks_of_ipv6() {
        let key = |ip: &str| Key::of(ip.parse().expect("an address"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("2001:db8::1").ip(), "2001:db8::".parse().ok());
        assert_eq!(key("192.0.2.1").ip(), "192.0.2.1".parse().ok());
    }

    #[test]
    fn a_full_table_shares_one_entry_and_forgets_what_is_only_old() {
        let mut addresses = Addresses::new(10);
        let kept: Vec<_> = (0..10).filter_map(|n| addresses.enter(Key::V4(n), 0)).collect();
        let shared = addresses.enter(Key::V4(10), 0).expect("a place for all others");
        assert_eq!(addresses.enter(Key::V4(11), 0), Some(shared));
        assert_eq!(addresses.get(shared).map(|a| (a.key, a.connections)), Some((Key::Others, 2)));
        assert_eq!(addresses.enter(Key::V4(9), 0), Some(kept[9]), "a known one keeps its entry");
        // Whoever has gone, and whose rates are where they were, makes room.
        let first = addresses.get_mut(kept[0]).expect("it is there");
        RATE.charge(first.arrival(Counted::Publishes), 1, 0);
        addresses.leave(kept[0], 0);
        assert_eq!(addresses.enter(Key::V4(12), 0), Some(shared), "its rate is remembered");
        assert_ne!(addresses.enter(Key::V4(12), 100_000), Some(shared));
        assert_eq!(addresses.len(), 11);
    }

    #[test]
    fn a_crowd_that_has_gone_leaves_no_table() {
        let mut addresses = Addresses::new(100_000);
        let crowd: Vec<_> = (0..10_000).filter_map(|n| addresses.enter(Key::V6(n), 0)).collect();
        crowd.into_iter().for_each(|index| addresses.leave(index, 1));
        assert_eq!((addresses.len(), addresses.table.capacity()), (0, 0));
        assert_eq!(addresses.by_key.capacity(), 0);
    }
}
