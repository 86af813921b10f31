//! Answers to held polls: one body each, shared where it is the same.

use super::Core;
use crate::conn::{Answering, State};
use crate::engine::reply::Reply;
use crate::engine::slot::Flags;
use crate::engine::subscribe::POLL_VARY;
use crate::hub::{Item, PullLimits, Pulled};
use crate::json;
use crate::time::Stamp;
use crate::wire::dialect::{Dialect, Gap};
use crate::wire::http::response::push_header;

const TEXT: &str = "text/plain; charset=utf-8";

impl Core {
    /// Answers a held poll if there is something for it, or its time is up already.
    pub(super) fn pull_poll(&mut self, index: u32) -> Option<usize> {
        let slot = self.slots.get(index)?;
        let State::Hold(hold) = &slot.state else { return None };
        let (is_raw, is_over) = (hold.is_raw, hold.until <= Stamp::from(self.now));
        let answering = hold.answering.clone();
        let has_gaps = slot.extra.as_ref().is_some_and(|extra| !extra.gaps.is_empty());
        let has_told = slot.has_told();
        let keep = self.may_keep(index, &answering);
        // Each is told another moment to come back once the server goes.
        let is_plain = answering.origin.is_none()
            && !answering.is_http10
            && !answering.head_only
            && !has_gaps
            && !self.draining
            && !has_told
            && !slot.subs.as_slice().iter().any(|sub| sub.is_mute);
        let variant = u8::from(keep) | u8::from(is_raw) << 1;
        let key = if is_plain { self.shared_key(Dialect::Poll, variant) } else { None };
        if let Some(found) = self.find_run(key) {
            self.release_poll(index, keep, found);
            return Some(found);
        }
        let limits = if is_raw {
            PullLimits { count: 1, bytes: usize::MAX }
        } else {
            let (count, bytes) = (self.config.poll_messages_max, self.config.poll_bytes_max);
            PullLimits { count, bytes }
        };
        let (mut run, mut pulled) = self.pull(limits);
        // Again and again if other threads publish so fast; at the horizon nothing can be lost.
        while !self.delivery.lost.is_empty() {
            self.delivery.runs[run].clear();
            let gaps = self.move_lost(index);
            self.slots.get_mut(index)?.extra().gaps.extend(gaps);
            self.fill_wants(index);
            (run, pulled) = self.pull(limits);
        }
        let has_gaps = self.slots.get(index)?.extra.as_ref().is_some_and(|e| !e.gaps.is_empty());
        if self.delivery.runs[run].items.is_empty() && !has_gaps && !has_told && !is_over {
            self.delivery.runs[run].clear();
            self.advance(index, pulled.up_to);
            return None;
        }
        let mut bytes = std::mem::take(&mut self.delivery.runs[run].bytes);
        self.write_poll(index, &mut bytes, run, pulled, &answering, keep);
        let at = &mut self.delivery.runs[run];
        at.bytes = bytes;
        // An empty answer is for this one alone: others may still be held.
        at.key = if has_gaps || at.items.is_empty() { None } else { key };
        at.up_to = pulled.up_to;
        self.release_poll(index, keep, run);
        Some(run)
    }

    /// The poll is answered; its connection is free for the next request.
    fn release_poll(&mut self, index: u32, keep: bool, run: usize) {
        let is_head = matches!(
            self.slots.get(index).map(|slot| &slot.state),
            Some(State::Hold(hold)) if hold.answering.head_only
        );
        if !is_head {
            self.stats.delivered += self.delivery.runs[run].items.len() as u64;
        }
        if let Some(slot) = self.slots.get_mut(index) {
            if let Some(extra) = &mut slot.extra {
                extra.gaps = Vec::new();
                extra.told = Vec::new();
            }
            slot.subs.as_mut_slice().iter_mut().for_each(|sub| sub.untold = false);
            slot.tidy();
        }
        self.leave_all(index);
        self.after_response(index, keep);
        self.weigh(index);
    }

    /// Ends a held poll whose time is up.
    pub(crate) fn poll_is_over(&mut self, index: u32) {
        let Some(slot) = self.slots.get(index) else { return };
        let State::Hold(hold) = &slot.state else { return };
        let answering = hold.answering.clone();
        if slot.flags.has(Flags::BEHIND) {
            // Something may be there after all: the pull answers, one way or the other.
            return self.list_dirty(index);
        }
        let keep = self.may_keep(index, &answering);
        let run = self.fresh_run();
        let pulled = Pulled { up_to: self.horizon, more: false };
        let mut bytes = Vec::new();
        self.write_poll(index, &mut bytes, run, pulled, &answering, keep);
        self.leave_all(index);
        self.reply(index, |out| out.extend_from_slice(&bytes));
        self.after_response(index, keep);
    }

    fn write_poll(
        &mut self,
        index: u32,
        out: &mut Vec<u8>,
        run: usize,
        pulled: Pulled,
        answering: &Answering,
        keep: bool,
    ) {
        let extra = self.slots.get(index).and_then(|slot| slot.extra.as_ref());
        let mut gaps = extra.map_or(Vec::new(), |extra| extra.gaps.clone());
        let is_live = self.slots.get(index).is_some_and(|slot| slot.flags.has(Flags::GAP_LIVE));
        if pulled.more && is_live {
            // Nobody remembers what was skipped: the next poll goes on from this one's cursor, with all channels.
            let resumed = self.cursor(pulled.up_to);
            gaps.iter_mut().for_each(|gap| gap.resumed = resumed);
        }
        let is_raw = matches!(
            self.slots.get(index).map(|slot| &slot.state),
            Some(State::Hold(hold)) if hold.is_raw
        );
        let retry_ms = self.draining.then(|| self.retry_ms());
        let items = std::mem::take(&mut self.delivery.runs[run].items);
        if is_raw {
            self.write_raw_poll(out, &items, pulled, &gaps, answering, keep, retry_ms);
        } else {
            let told = self.told_of(index);
            self.write_json_poll(out, &items, pulled, &gaps, &told, answering, keep, retry_ms);
        }
        self.delivery.runs[run].items = items;
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one answer, used once")]
    fn write_json_poll(
        &mut self,
        out: &mut Vec<u8>,
        items: &[Item],
        pulled: Pulled,
        gaps: &[Gap],
        told: &[u8],
        answering: &Answering,
        keep: bool,
        retry_ms: Option<u32>,
    ) {
        let cursor = self.cursor(pulled.up_to).to_string();
        let mut body =
            Vec::with_capacity(96 + items.iter().map(|i| i.payload.len() + 96).sum::<usize>());
        body.extend_from_slice(b"{\"cursor\":\"");
        body.extend_from_slice(cursor.as_bytes());
        body.extend_from_slice(b"\",\"more\":");
        body.extend_from_slice(if pulled.more { b"true" } else { b"false" });
        body.extend_from_slice(b",\"gap\":");
        write_list(&mut body, gaps, true, |out, gap| gap.write_json(out));
        if let Some(retry_ms) = retry_ms {
            body.extend_from_slice(b",\"retry_ms\":");
            json::write_number(&mut body, u64::from(retry_ms));
        }
        body.extend_from_slice(b",\"messages\":");
        let epoch = self.history.epoch();
        write_list(&mut body, items, false, |out, item| {
            Dialect::Poll.publication(out, item, epoch)
        });
        if !told.is_empty() {
            body.extend_from_slice(b",\"presence\":[");
            body.extend_from_slice(told);
            body.push(b']');
        }
        body.push(b'}');
        let mut extra = Vec::with_capacity(48);
        push_header(&mut extra, "Holdline-Cursor", cursor.as_bytes());
        let reply = Reply { extra: &extra, vary: POLL_VARY, ..Reply::json(200, &body) };
        self.write_response(out, answering, &reply, keep);
    }

    /// One message is the body; what JSON says beside it is said in headers.
    #[allow(clippy::too_many_arguments, reason = "the parts of one answer, used once")]
    fn write_raw_poll(
        &mut self,
        out: &mut Vec<u8>,
        items: &[Item],
        pulled: Pulled,
        gaps: &[Gap],
        answering: &Answering,
        keep: bool,
        retry_ms: Option<u32>,
    ) {
        let mut extra = Vec::with_capacity(128);
        if let Some(retry_ms) = retry_ms {
            extra.extend_from_slice(
                format!("Retry-After: {}\r\n", retry_ms.div_ceil(1000)).as_bytes(),
            );
        }
        let cursor = self.cursor(pulled.up_to).to_string();
        push_header(&mut extra, "Holdline-Cursor", cursor.as_bytes());
        // What was lost when it asked and what was lost since are one: there is only one channel.
        if let (Some(first), Some(last)) = (gaps.first(), gaps.last()) {
            let mut line = Vec::new();
            Gap { resumed: last.resumed, ..first.clone() }.write_line(&mut line);
            push_header(&mut extra, "Holdline-Gap", &line);
        }
        let Some(item) = items.first() else {
            // A HEAD is not held, so it does not say that nothing came.
            let (status, content_type) =
                if answering.head_only { (200, Some(TEXT)) } else { (204, None) };
            let reply =
                Reply { status, content_type, extra: &extra, vary: POLL_VARY, ..Reply::default() };
            return self.write_response(out, answering, &reply, keep);
        };
        push_header(&mut extra, "Holdline-Id", self.cursor(item.seq).to_string().as_bytes());
        if let Some(event) = &item.event {
            push_header(&mut extra, "Event", event.as_bytes());
        }
        extra.extend_from_slice(b"Content-Security-Policy: sandbox\r\n");
        let stated = item.stated_type();
        let implied = match item.form {
            crate::message::Form::Binary => "application/octet-stream",
            crate::message::Form::Data | crate::message::Form::Text => TEXT,
        };
        let reply = Reply {
            content_type: Some(stated.as_deref().unwrap_or(implied)),
            body: &item.payload,
            extra: &extra,
            vary: POLL_VARY,
            ..Reply::default()
        };
        self.write_response(out, answering, &reply, keep);
    }
}

/// Appends a JSON array, or `null` for an empty one.
fn write_list<T>(
    out: &mut Vec<u8>,
    list: &[T],
    is_nullable: bool,
    mut write: impl FnMut(&mut Vec<u8>, &T),
) {
    if list.is_empty() && is_nullable {
        return out.extend_from_slice(b"null");
    }
    out.push(b'[');
    for (number, item) in list.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}
