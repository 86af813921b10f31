//! How the order leaves a process that ends, and goes on in the next one: under the same epoch, with
//! what was kept. Readers do not survive that, so neither does what only they had a claim to.

use std::sync::Arc;

use super::{Channel, ChannelIndex, Config, Epoch, Evicted, History, HistoryLimits, Inner, Now};
use crate::hub::keys::Keys;
use crate::hub::snapshot::{Header, Reader, Record, Sink, Source, Unreadable, Writer};
use crate::message::{Budget, Message, Publication};
use crate::sync::MutexGuard;

pub use fuzz::fuzz_snapshot;

#[path = "restore_fuzz.rs"]
mod fuzz;

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Channels, also those of which only the past is known.
    pub channels: usize,
    /// Messages.
    pub messages: usize,
}

impl History {
    /// Refuses everything that would be published from here on.
    pub fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Writes down what is kept, for [`restore`](Self::restore). [`close`](Self::close) it before:
    /// what is published later would be missing.
    pub fn snapshot(&self, now: Now, sink: &mut Sink<'_>) -> SnapshotInfo {
        // The lock is held while the sink takes all of it. Nobody who waits for it would be served.
        let inner = self.lock();
        let header = Header {
            epoch: self.epoch,
            head: inner.head,
            folded_floor: inner.folded_floor,
            folded_floor_ms: inner.folded_floor_ms,
        };
        inner.write(Writer::new(sink, &header), now)
    }

    /// An order that goes on where the snapshot of `len` bytes was made. What is over the limits of
    /// `config` by now is let go of, oldest first, and raises floors.
    ///
    /// # Errors
    /// Why these bytes are no such snapshot. Any one that differs is found.
    pub fn restore(
        config: &Config,
        len: u64,
        source: &mut Source<'_>,
        now: Now,
    ) -> Result<Self, Unreadable> {
        Self::refill(|epoch| Self::new(config, epoch, now), len, source, now)
    }

    pub(super) fn refill(
        new: impl FnOnce(Epoch) -> Self,
        len: u64,
        source: &mut Source<'_>,
        now: Now,
    ) -> Result<Self, Unreadable> {
        let (mut reader, header) = Reader::new(source, len)?;
        let history = new(header.epoch);
        let mut restore = Restore::new(&history, &header, now);
        while let Some(record) = reader.next()? {
            match record {
                Record::Channel { name, floor, floor_ms } => {
                    restore.channel(&name, floor, floor_ms)?;
                }
                Record::Publication { channel, seq, time_ms, expires_ms, message } => {
                    restore.publication(channel, Placed { seq, time_ms, expires_ms }, message)?;
                }
                Record::Key { scoped, seq, expires_unix_ms } => {
                    restore.key(scoped.into(), seq, expires_unix_ms)?;
                }
            }
        }
        restore.finish();
        Ok(history)
    }
}

impl Inner {
    fn write(&self, mut writer: Writer<'_, '_>, now: Now) -> SnapshotInfo {
        let mut info = SnapshotInfo::default();
        let mut numbers = vec![u32::MAX; self.channels.capacity()];
        let visible = |(seq, index): &(u64, ChannelIndex)| {
            let publication = self.channels.get(*index as usize)?.visible_at(*seq, now.unix_ms)?;
            Some((*index as usize, publication))
        };
        // Those with the newest message first: a smaller table takes no more than it has room for.
        let newest = self.order.iter().rev().filter_map(visible).map(|(index, _)| index);
        let known = self.channels.iter().filter(|(_, c)| self.is_known(c)).map(|(index, _)| index);
        for index in newest.chain(known) {
            if numbers[index] == u32::MAX {
                numbers[index] = info.channels as u32;
                info.channels += 1;
                let channel = &self.channels[index];
                writer.channel(&channel.name, channel.floor, channel.floor_ms);
            }
        }
        for (index, publication) in self.order.iter().filter_map(visible) {
            info.messages += 1;
            writer.publication(numbers[index], publication);
        }
        for (expires_ms, scoped, seq) in self.keys.iter() {
            if let Some(left_ms) = expires_ms.checked_sub(now.mono_ms).filter(|left| *left > 0) {
                writer.key(scoped, seq, now.unix_ms.saturating_add(left_ms));
            }
        }
        writer.finish();
        info
    }

    /// Whether the past of a channel is not that of any which is not in the table.
    fn is_known(&self, channel: &Channel) -> bool {
        channel.kept() > 0 || channel.floor != self.folded_floor
    }
}

/// The place of a publication, as it was given to it.
#[derive(Clone, Copy)]
struct Placed {
    seq: u64,
    time_ms: u64,
    expires_ms: u64,
}

/// An order that is filled again, record by record.
struct Restore<'h> {
    history: &'h History,
    inner: MutexGuard<'h, Inner>,
    budget: &'h Arc<Budget>,
    limits: &'h HistoryLimits,
    now: Now,
    /// The channels of the snapshot; `None` where the table had no room.
    channels: Vec<Option<ChannelIndex>>,
    /// The seq of the last publication.
    newest: u64,
    keys: Vec<(u64, Arc<str>, u64)>,
}

impl<'h> Restore<'h> {
    fn new(history: &'h History, header: &Header, now: Now) -> Self {
        let mut inner = history.lock();
        inner.head = header.head;
        // `recent` is empty: all is taken in, and what limits hide nobody has a claim to.
        inner.recent_gone = header.head;
        (inner.folded_floor, inner.folded_floor_ms) = (header.folded_floor, header.folded_floor_ms);
        let (budget, limits) = (&history.budget, &history.limits);
        let (channels, keys) = (Vec::new(), Vec::new());
        Self { history, inner, budget, limits, now, channels, newest: 0, keys }
    }

    fn channel(&mut self, name: &str, floor: u64, floor_ms: u64) -> Result<(), Unreadable> {
        if floor > self.inner.head || self.inner.names.get(name).is_some() {
            return Err(Unreadable::Torn);
        }
        if self.inner.is_table_full(name, self.limits) {
            self.inner.fold_floor(floor, floor_ms);
            self.channels.push(None);
            return Ok(());
        }
        let name: Arc<str> = name.into();
        let conflates = self.limits.conflates(&name);
        let now_ms = self.now.mono_ms;
        let entry = Channel::new(Arc::clone(&name), conflates, floor, floor_ms, now_ms);
        self.channels.push(Some(self.inner.insert_channel(entry)));
        Ok(())
    }

    fn publication(
        &mut self,
        channel: u32,
        placed: Placed,
        message: Message,
    ) -> Result<(), Unreadable> {
        let index = *self.channels.get(channel as usize).ok_or(Unreadable::Torn)?;
        if placed.seq <= self.newest || placed.seq > self.inner.head {
            return Err(Unreadable::Torn);
        }
        self.newest = placed.seq;
        // Past its own ttl nobody has lost it.
        if placed.expires_ms <= self.now.unix_ms {
            return Ok(());
        }
        let Some(index) = index else {
            self.inner.fold_floor(placed.seq, placed.time_ms);
            return Ok(());
        };
        if placed.seq <= self.inner.channels[index as usize].floor {
            return Err(Unreadable::Torn);
        }
        self.keep(index, placed, message);
        Ok(())
    }

    fn keep(&mut self, index: ChannelIndex, placed: Placed, message: Message) {
        let Self { inner, budget, limits, now, .. } = self;
        let mut evicted = Evicted::new();
        let weight = Publication::weight_of(&message);
        let made = inner.make_room(weight, budget, limits, *now, &mut evicted);
        let Placed { seq, time_ms, expires_ms } = placed;
        if made.is_ok() {
            let name = Arc::clone(&inner.channels[index as usize].name);
            let mut publication = Publication::new(message, name, seq, time_ms, budget);
            publication.expires_ms = expires_ms;
            let publication = Arc::new(publication);
            if inner.channels[index as usize].conflates() {
                // It may not have been so when it was written.
                inner.supersede(index, &publication, &mut evicted);
            }
            inner.change(index, |channel| channel.push(publication));
            inner.held += weight;
            inner.order.push_back((seq, index));
        } else {
            let channel = &mut inner.channels[index as usize];
            // It alone is over the budget, and nothing older may stay in sight.
            channel.hide_all(now.unix_ms);
            (channel.floor, channel.floor_ms) = (seq, time_ms);
        }
        let channel = &mut inner.channels[index as usize];
        channel.enforce(limits.messages, limits.bytes, limits.age_ms, now.unix_ms);
        inner.trim(index, &mut evicted);
        inner.compact_order();
    }

    fn key(&mut self, scoped: Arc<str>, seq: u64, expires_ms: u64) -> Result<(), Unreadable> {
        if seq > self.inner.head {
            return Err(Unreadable::Torn);
        }
        // Not for longer than a key of this moment, if the clock was set back.
        let left_ms = expires_ms.saturating_sub(self.now.unix_ms).min(self.limits.key_window_ms);
        if left_ms > 0 {
            self.keys.push((self.now.mono_ms + left_ms, scoped, seq));
        }
        Ok(())
    }

    fn finish(self) {
        let Self { history, mut inner, budget, limits, now, keys, .. } = self;
        // The budget may have brought to the front what is too old, if the clock went back once.
        for index in self.channels.into_iter().flatten() {
            let channel = &mut inner.channels[index as usize];
            channel.enforce(limits.messages, limits.bytes, limits.age_ms, now.unix_ms);
            inner.trim(index, &mut Evicted::new());
        }
        let newest_first = keys.iter().rev().map(|(_, scoped, _)| &**scoped);
        let count = Keys::count_in(newest_first, limits.keys_bytes_max);
        let surplus = keys.len() - count;
        for (expires_ms, scoped, seq) in keys.into_iter().skip(surplus) {
            inner.keys.insert(scoped, seq, expires_ms);
        }
        // Tables have grown for it. What still does not fit then is refused when somebody publishes.
        let _ = inner.make_room(0, budget, limits, now, &mut Evicted::new());
        history.note_tables(&inner);
    }
}
