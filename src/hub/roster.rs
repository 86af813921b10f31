//! Who listens on one loop: per channel a dense list of slots, so that marking all listeners of a
//! channel is one walk over memory that lies together.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use slab::Slab;

use super::channel::ChannelIndex;
use crate::message::map_bytes;

/// A channel's place in one loop's roster, for as long as anyone here listens.
pub type RoomIndex = u32;

#[derive(Debug)]
struct Room {
    channel: ChannelIndex,
    name: Arc<str>,
    members: Vec<u32>,
    /// Two numbers of the loop's own.
    mark: (u32, Option<u32>),
}

/// The listeners of one loop.
#[derive(Debug, Default)]
pub struct Roster {
    rooms: Slab<Room>,
    by_channel: HashMap<ChannelIndex, RoomIndex, BuildHasherDefault<ByIndex>>,
    /// How many there is room for in it. Its own answer goes down where channels come and go.
    capacity: usize,
    /// Places for members in all rooms.
    places: usize,
}

/// Hashes indexes of channels. The table of channels gives them out, the lowest first: no client can
/// choose some that meet.
#[derive(Debug, Default)]
struct ByIndex(u64);

impl Hasher for ByIndex {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, index: u32) {
        // Fibonacci's multiplier: neighbours differ in the high bits, which the map looks at as well.
        self.0 = (self.0 ^ u64::from(index)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A room's place, with what an allocator adds to its members.
const ROOM_BYTES: usize = size_of::<Room>() + size_of::<usize>() + 16;
/// A map with fewer places is not worth shrinking.
const SMALL: usize = 256;

impl Roster {
    /// An empty roster.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `slot` to the listeners of `channel`; returns the room and the slot's place in it.
    pub fn join(&mut self, channel: ChannelIndex, name: &Arc<str>, slot: u32) -> (RoomIndex, u32) {
        let rooms = &mut self.rooms;
        let room = *self.by_channel.entry(channel).or_insert_with(|| {
            let name = Arc::clone(name);
            rooms.insert(Room { channel, name, members: Vec::new(), mark: (0, None) }) as RoomIndex
        });
        self.capacity = self.capacity.max(self.by_channel.capacity());
        let members = &mut self.rooms[room as usize].members;
        if members.len() == members.capacity() {
            self.places -= members.capacity();
            members.reserve_exact((members.len() / 8).max(4));
            self.places += members.capacity();
        }
        members.push(slot);
        (room, members.len() as u32 - 1)
    }

    /// Takes out who is at `place`. Whoever was last now is there: the caller fixes that slot's
    /// stored place if one is returned.
    pub fn leave(&mut self, room: RoomIndex, place: u32) -> Option<u32> {
        let members = &mut self.rooms[room as usize].members;
        members.swap_remove(place as usize);
        let moved = members.get(place as usize).copied();
        if members.is_empty() {
            self.places -= members.capacity();
            let channel = self.rooms.remove(room as usize).channel;
            self.by_channel.remove(&channel);
            self.shrink();
        } else if members.len() < members.capacity() / 2 && members.capacity() > 64 {
            self.places -= members.capacity();
            members.shrink_to(members.len() + members.len() / 8);
            self.places += members.capacity();
        }
        moved
    }

    /// A crowd of rooms leaves no tables behind.
    fn shrink(&mut self) {
        let len = self.rooms.len();
        if len < self.capacity / 8 && (len == 0 || self.capacity > SMALL) {
            self.by_channel.shrink_to(len * 2);
            self.capacity = self.by_channel.capacity();
            self.rooms.shrink_to_fit();
        }
    }

    /// What all of it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let map = map_bytes(self.capacity, size_of::<(ChannelIndex, RoomIndex)>());
        self.rooms.capacity() * ROOM_BYTES + map + self.places * size_of::<u32>()
    }

    /// Asserts that what is counted as it changes is what is there. For tests.
    #[doc(hidden)]
    pub fn check(&self) {
        let places: usize = self.rooms.iter().map(|(_, room)| room.members.capacity()).sum();
        assert_eq!(places, self.places, "places for members");
    }

    /// The room of `channel`, if anyone here listens to it.
    #[must_use]
    pub fn room(&self, channel: ChannelIndex) -> Option<RoomIndex> {
        self.by_channel.get(&channel).copied()
    }

    /// The numbers that the loop has given a room. They go with the last listener.
    #[must_use]
    pub fn mark(&self, room: RoomIndex) -> (u32, Option<u32>) {
        self.rooms[room as usize].mark
    }

    /// Gives a room its numbers.
    pub fn set_mark(&mut self, room: RoomIndex, mark: (u32, Option<u32>)) {
        self.rooms[room as usize].mark = mark;
    }

    /// The channel of a room.
    #[must_use]
    pub fn channel(&self, room: RoomIndex) -> ChannelIndex {
        self.rooms[room as usize].channel
    }

    /// The name of a room's channel.
    #[must_use]
    pub fn name(&self, room: RoomIndex) -> &Arc<str> {
        &self.rooms[room as usize].name
    }

    /// The slots that listen.
    #[must_use]
    pub fn members(&self, room: RoomIndex) -> &[u32] {
        &self.rooms[room as usize].members
    }

    /// All rooms.
    pub fn rooms(&self) -> impl Iterator<Item = RoomIndex> + '_ {
        self.rooms.iter().map(|(room, _)| room as RoomIndex)
    }

    /// Subscriptions in all.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.rooms.iter().map(|(_, room)| room.members.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_the_place_of_a_leaver_is_handed_back() {
        let mut roster = Roster::new();
        let name = "news".into();
        let (room, a) = roster.join(9, &name, 100);
        let (_, b) = roster.join(9, &name, 200);
        let (_, c) = roster.join(9, &name, 300);
        assert_eq!((a, b, c), (0, 1, 2));
        assert_eq!(roster.leave(room, a), Some(300));
        assert_eq!(roster.members(room), [300, 200]);
        assert_eq!(roster.leave(room, 1), None);
        assert_eq!(roster.leave(room, 0), None);
        assert_eq!(roster.room(9), None);
        assert_eq!((roster.rooms().count(), roster.subscriptions()), (0, 0));
    }

    #[test]
    fn rooms_say_whose_they_are_and_who_is_in_them() {
        let mut roster = Roster::new();
        let (news, _) = roster.join(9, &"news".into(), 100);
        let (sport, _) = roster.join(4, &"sport".into(), 100);
        roster.join(4, &"sport".into(), 200);
        assert_eq!((roster.channel(news), &**roster.name(news)), (9, "news"));
        assert_eq!((roster.channel(sport), &**roster.name(sport)), (4, "sport"));
        assert_eq!(
            (roster.room(9), roster.room(4), roster.room(5)),
            (Some(news), Some(sport), None)
        );
        assert_eq!(roster.rooms().collect::<Vec<_>>(), [news, sport]);
        assert_eq!(roster.subscriptions(), 3);
    }

    #[test]
    fn a_crowd_leaves_no_table_behind() {
        let mut roster = Roster::new();
        let name = "news".into();
        let room = (0..1_000).map(|slot| roster.join(9, &name, slot).0).last().expect("a room");
        let capacity = |roster: &Roster| roster.rooms[room as usize].members.capacity();
        let full = capacity(&roster);
        (0..400).for_each(|_| _ = roster.leave(room, 0));
        assert_eq!(capacity(&roster), full, "most of it is in use");
        (0..500).for_each(|_| _ = roster.leave(room, 0));
        assert_eq!(roster.members(room).len(), 100);
        assert!((100..=250).contains(&capacity(&roster)), "{} of {full}", capacity(&roster));
    }
}
