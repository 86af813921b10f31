//! A table of slots whose ids outlive their slot: an id carries the generation of what it named, so
//! one that is gone finds nothing, never the slot's next tenant.

use slab::Slab;

/// Names one connection for ever: loop (8 bits), index (24), generation (32). Zero names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(u64);

impl ConnId {
    /// How many slots a table can have.
    pub const INDEX_MAX: usize = (1 << 24) - 1;

    pub(crate) fn new(loop_number: u8, index: u32, generation: u32) -> Self {
        debug_assert!(index as usize <= Self::INDEX_MAX);
        Self(u64::from(loop_number) << 56 | u64::from(index) << 32 | u64::from(generation))
    }

    /// The number, for a foreign interface.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The id of a number that [`to_bits`](Self::to_bits) gave.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The place in the table, which a driver may use for tables of its own.
    #[must_use]
    pub const fn index(self) -> usize {
        (self.0 >> 32) as usize & Self::INDEX_MAX
    }

    pub(crate) const fn loop_number(self) -> u8 {
        (self.0 >> 56) as u8
    }

    const fn generation(self) -> u32 {
        self.0 as u32
    }
}

impl std::fmt::Debug for ConnId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}#{}", self.loop_number(), self.index(), self.generation())
    }
}

/// Values by index, each with the generation it was inserted under.
#[derive(Debug)]
pub struct Slots<T> {
    slab: Slab<Entry<T>>,
    loop_number: u8,
    // A counter for the whole table: `slab` forgets a slot's own on removal.
    generation: u32,
    /// With fewer values than this it is worth looking whether the end of the table can go.
    shrink_below: usize,
}

/// A table with fewer values is looked at for what it can give back only once it is empty.
const SHRINK_MIN: usize = 64;

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: T,
}

impl<T> Slots<T> {
    /// An empty table.
    #[must_use]
    pub fn new(loop_number: u8) -> Self {
        Self { slab: Slab::new(), loop_number, generation: 0, shrink_below: 0 }
    }

    /// The loop whose number its ids carry.
    #[must_use]
    pub fn loop_number(&self) -> u8 {
        self.loop_number
    }

    /// Puts a value in. The table grows by an eighth: doubling would leave a third of it unused.
    pub fn insert(&mut self, value: T) -> ConnId {
        let len = self.slab.len();
        if len == self.slab.capacity() {
            self.slab.reserve_exact((len / 8).max(16));
        }
        // 0 is skipped, so that no id is zero.
        self.generation = self.generation.wrapping_add(1).max(1);
        let index = self.slab.insert(Entry { generation: self.generation, value });
        self.shrink_below = self.shrink_below.max(self.next_shrink());
        ConnId::new(self.loop_number, index as u32, self.generation)
    }

    /// Takes a value out; its id finds nothing from now on.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        self.slab.try_remove(index as usize).map(|entry| entry.value)
    }

    /// Gives memory back where a mass of values has gone, and says how many slots are left then.
    /// Values keep their indexes, so only the end of the table can go.
    ///
    /// Cheap to call after each removal: it looks only when half of the values have gone since.
    pub fn shrink(&mut self) -> Option<usize> {
        if self.slab.len() >= self.shrink_below {
            return None;
        }
        self.slab.shrink_to_fit();
        self.shrink_below = self.next_shrink();
        Some(self.slab.capacity())
    }

    fn next_shrink(&self) -> usize {
        let below = (self.slab.len() / 2).min(self.slab.capacity() / 4);
        if below >= SHRINK_MIN { below } else { self.slab.len().min(1) }
    }

    /// The index that an id names, if it is still there.
    #[must_use]
    pub fn find(&self, id: ConnId) -> Option<u32> {
        let entry = self.slab.get(id.index())?;
        let same = entry.generation == id.generation() && id.loop_number() == self.loop_number;
        same.then_some(id.index() as u32)
    }

    /// The id of what is at `index`.
    #[must_use]
    pub fn id(&self, index: u32) -> Option<ConnId> {
        let entry = self.slab.get(index as usize)?;
        Some(ConnId::new(self.loop_number, index, entry.generation))
    }

    /// What an id names, if it is still there.
    #[must_use]
    pub fn by_id(&self, id: ConnId) -> Option<&T> {
        self.get(self.find(id)?)
    }

    /// What is at `index`.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&T> {
        self.slab.get(index as usize).map(|entry| &entry.value)
    }

    /// What is at `index`, to change.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slab.get_mut(index as usize).map(|entry| &mut entry.value)
    }

    /// All, by index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slab.iter().map(|(index, entry)| (index as u32, &entry.value))
    }

    /// How many there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slab.capacity()
    }

    /// What the table takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // `slab` has a word of its own for each.
        self.slab.capacity() * (size_of::<Entry<T>>() + size_of::<usize>())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_finds_nothing_once_its_slot_has_a_new_tenant() {
        let mut slots = Slots::new(3);
        let first = slots.insert("first");
        assert_eq!(slots.find(first), Some(0));
        slots.remove(0);
        assert_eq!(slots.find(first), None);
        let second = slots.insert("second");
        assert_eq!(second.index(), first.index());
        assert_eq!((slots.find(first), slots.find(second)), (None, Some(0)));
        assert_eq!(slots.id(0), Some(second));
        assert_eq!(ConnId::from_bits(second.to_bits()), second);
        assert_eq!(second.loop_number(), 3);
    }

    #[test]
    fn an_id_of_another_loop_finds_nothing() {
        let (mut here, mut there) = (Slots::new(0), Slots::new(1));
        here.insert(());
        assert_eq!(here.find(there.insert(())), None);
    }

    #[test]
    fn what_a_crowd_needed_is_given_back_and_whoever_stays_keeps_its_index() {
        let mut slots = Slots::new(0);
        let ids: Vec<_> = (0..10_000).map(|number| slots.insert(number)).collect();
        for index in (1..10_000).rev() {
            slots.remove(index);
            slots.shrink();
        }
        assert!(slots.slab.capacity() < 4 * SHRINK_MIN, "{}", slots.slab.capacity());
        assert_eq!((slots.find(ids[0]), slots.find(ids[9_999])), (Some(0), None));
        // Who stays at the end keeps the table; nobody keeps nothing.
        let ids: Vec<_> = (0..1_000).map(|number| slots.insert(number)).collect();
        for id in &ids[..999] {
            slots.remove(id.index() as u32);
            slots.shrink();
        }
        assert_eq!(slots.get(ids[999].index() as u32), Some(&999));
        slots.remove(ids[999].index() as u32);
        slots.remove(0);
        assert_eq!((slots.shrink(), slots.slab.capacity()), (Some(0), 0));
        assert_eq!(slots.shrink(), None);
        assert_eq!(slots.insert(7).index(), 0);
    }

    #[test]
    fn growth_wastes_at_most_an_eighth() {
        let mut slots = Slots::new(0);
        for _ in 0..10_000 {
            slots.insert([0u8; 16]);
            let slack = slots.slab.capacity() - slots.len();
            assert!(slack <= (slots.len() / 8).max(16), "{slack} of {}", slots.len());
        }
    }
}
