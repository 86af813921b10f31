//! `/channels/{name}/presence`: who listens now.

use super::{ASKED_MS, Kept, Who};
use crate::conn::Answering;
use crate::engine::core::Core;
use crate::engine::reply::Reply;
use crate::engine::request::Next;
use crate::hub::RoomIndex;
use crate::json;
use crate::wire::dialect::write_connection;

impl Core {
    /// Lists a channel's members, and watches it for a while: whoever asks again is to see the same
    /// poll under the same name.
    pub(crate) fn answer_presence(
        &mut self,
        index: u32,
        to: &Answering,
        channel: &str,
    ) -> Result<(), Next> {
        self.may_administer(index)?;
        let room = self.history.find(channel).and_then(|channel| self.roster.room(channel));
        self.ask_presence(channel, room);
        let mut body = Vec::with_capacity(256);
        self.write_members(&mut body, channel, room);
        self.respond(index, to, &Reply::json(200, &body));
        Ok(())
    }

    fn ask_presence(&mut self, channel: &str, room: Option<RoomIndex>) {
        if self.draining {
            return;
        }
        let now = self.now.mono_ms;
        let watch = match (self.presence.find(channel), room) {
            (Some(watch), _) => Some(watch),
            (None, _) if self.presence.watches.len() >= self.presence.entries_max => None,
            (None, Some(room)) => self.watch_of(room, true),
            (None, None) => Some(self.presence.add(channel.into(), now)),
        };
        let Some(watch) = watch else { return };
        if let Some(at) = self.presence.watches.get_mut(watch as usize) {
            at.asked_until = now + ASKED_MS;
        }
        self.settle_watch(watch);
    }

    fn write_members(&self, out: &mut Vec<u8>, channel: &str, room: Option<RoomIndex>) {
        let watch = self.presence.find(channel);
        let watch = watch.and_then(|watch| self.presence.watches.get(watch as usize));
        let listeners = room.map_or(&[][..], |room| self.roster.members(room));
        let vacant = watch.map_or(0, |watch| watch.vacant.len());
        let most = self.presence.members_max;
        out.extend_from_slice(b"{\"channel\":");
        json::write_string(out, channel);
        out.extend_from_slice(b",\"subscribers\":");
        let subscribers = self.history.info(channel, self.now).subscribers;
        json::write_number(out, u64::from(subscribers));
        out.extend_from_slice(b",\"members\":[");
        let listening = listeners.iter().filter_map(|index| {
            let mut who = self.who(*index)?;
            if let Some(Kept { name, since_ms }) = watch.and_then(|watch| watch.kept(*index)) {
                (who.name, who.since_ms) = (name, since_ms);
            }
            Some(who)
        });
        let gone = watch.into_iter().flat_map(|watch| watch.vacant.iter().map(|vacant| vacant.who));
        for (number, who) in listening.chain(gone).take(most).enumerate() {
            if number > 0 {
                out.push(b',');
            }
            who.write_json(out);
        }
        let more = listeners.len() + vacant > most;
        out.extend_from_slice(b"],\"more\":");
        out.extend_from_slice(if more { b"true}" } else { b"false}" });
    }
}

impl Who {
    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"connection\":\"");
        write_connection(out, self.name);
        out.extend_from_slice(b"\",\"transport\":\"");
        out.extend_from_slice(self.transport.name().as_bytes());
        out.extend_from_slice(b"\",\"user\":null,\"since\":");
        json::write_number(out, self.since_ms);
        out.push(b'}');
    }
}
