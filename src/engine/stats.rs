//! Counters, and what `/stats` says. Gauges are derived from the tables, so they cannot drift.

use crate::code::Code;
use crate::hub::{GapReason, HistoryStats};
use crate::json;

/// What one loop has counted.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Publications written to connections, or handed to the program's own subscriptions.
    pub delivered: u64,
    /// Announced gaps, by [`GapReason`].
    pub gaps: [u64; GapReason::ALL.len()],
    /// Refusals, by [`Code`].
    pub rejected: Rejected,
    /// WebSockets that were closed for what the peer did or did not do, by code: 1002, 1007, 1008,
    /// 1009, 1013, 4408, 4429.
    pub ws_closes: [u64; 7],
    /// Connections that were closed because they took nothing of what waited for them.
    pub stalled: u64,
    /// How long pongs took.
    pub rtt: RoundTrips,
}

/// Times from ping to pong, by powers of two of a millisecond.
#[derive(Clone, Debug, Default)]
pub struct RoundTrips {
    /// At `n`: those of less than 2ⁿ ms, and not less than half of that. The last has all the rest.
    buckets: [u64; 17],
}

impl RoundTrips {
    pub(crate) fn note(&mut self, ms: u32) {
        let bucket = (u32::BITS - ms.leading_zeros()) as usize;
        self.buckets[bucket.min(16)] += 1;
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// So many of a hundred took less than this many ms, a power of two; 0 before the first.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> u64 {
        let wanted = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        bucket.map_or(0, |bucket| 1 << bucket)
    }
}

/// Refusals by code.
#[derive(Clone, Debug)]
pub struct Rejected([u64; Code::COUNT]);

impl Default for Rejected {
    fn default() -> Self {
        Self([0; Code::COUNT])
    }
}

impl Rejected {
    pub(crate) fn count(&mut self, code: Code) {
        self.0[code as usize] += 1;
    }

    /// How often something was refused for this reason.
    #[must_use]
    pub fn of(&self, code: Code) -> u64 {
        self.0[code as usize]
    }
}

/// Connections by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Between requests, in one, or closing.
    pub http: usize,
    /// WebSockets.
    pub ws: usize,
    /// Event streams.
    pub sse: usize,
    /// Held polls.
    pub poll: usize,
}

/// What one loop says of itself; those of several loops [add](Self::add) up.
#[derive(Clone, Debug, Default)]
pub struct LoopStats {
    /// Connections by what they are.
    pub connections: Connections,
    /// Subscriptions of all of them, and the program's own.
    pub subscriptions: usize,
    /// What has been counted.
    pub counted: Stats,
}

impl LoopStats {
    /// Adds another loop's.
    pub fn add(&mut self, other: &Self) {
        let (ours, theirs) = (&mut self.connections, &other.connections);
        ours.http += theirs.http;
        ours.ws += theirs.ws;
        ours.sse += theirs.sse;
        ours.poll += theirs.poll;
        self.subscriptions += other.subscriptions;
        self.counted.add(&other.counted);
    }
}

impl Stats {
    fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.stalled += other.stalled;
        let sums = [
            (&mut self.gaps[..], &other.gaps[..]),
            (&mut self.rejected.0[..], &other.rejected.0[..]),
            (&mut self.ws_closes[..], &other.ws_closes[..]),
            (&mut self.rtt.buckets[..], &other.rtt.buckets[..]),
        ];
        for (ours, theirs) in sums {
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours += theirs);
        }
    }
}

/// The codes that [`Stats::ws_closes`] counts.
pub(crate) const WS_CLOSES: [u16; 7] = [1002, 1007, 1008, 1009, 1013, 4408, 4429];

/// What `/stats` is made of.
#[derive(Debug)]
pub(crate) struct Snapshot<'a> {
    pub(crate) epoch: &'a str,
    pub(crate) uptime_s: u64,
    pub(crate) addresses: usize,
    pub(crate) history: HistoryStats,
    /// Of all loops.
    pub(crate) loop_stats: &'a LoopStats,
    pub(crate) loops: usize,
}

impl Snapshot<'_> {
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.text("version", env!("CARGO_PKG_VERSION"));
        object.text("epoch", self.epoch);
        object.number("seq", self.history.seq);
        object.number("uptime_s", self.uptime_s);
        object.object("connections", |o| {
            o.number("http", self.loop_stats.connections.http as u64);
            o.number("ws", self.loop_stats.connections.ws as u64);
            o.number("sse", self.loop_stats.connections.sse as u64);
            o.number("poll", self.loop_stats.connections.poll as u64);
        });
        object.number("subscriptions", self.loop_stats.subscriptions as u64);
        object.number("addresses", self.addresses as u64);
        object.number("channels", self.history.channels as u64);
        object.object("history", |o| {
            o.number("messages", self.history.messages as u64);
            o.number("bytes", self.history.bytes as u64);
        });
        object.number("published", self.history.published);
        object.number("delivered", self.loop_stats.counted.delivered);
        object.number("conflated", self.history.conflated);
        object.object("idempotency", |o| {
            o.number("keys", self.history.keys as u64);
            o.number("bytes", self.history.keys_bytes as u64);
        });
        object.object("gaps", |o| {
            for (reason, count) in GapReason::ALL.iter().zip(self.loop_stats.counted.gaps) {
                o.number(reason.name(), count);
            }
        });
        object.object("rejected", |o| self.write_rejected(o));
        object.object("rtt_ms", |o| {
            o.number("count", self.loop_stats.counted.rtt.count());
            o.number("p50", self.loop_stats.counted.rtt.percentile(50));
            o.number("p99", self.loop_stats.counted.rtt.percentile(99));
        });
        object.object("memory", |o| {
            o.number("budget", self.history.memory_budget as u64);
            let history = self.history.memory_used + self.history.memory_tables;
            let connections = self.history.memory_connections;
            o.number("used", (history + connections) as u64);
            o.number("history", history as u64);
            o.number("connections", connections as u64);
        });
        object.number("loops", self.loops as u64);
        object.close();
    }

    fn write_rejected(&self, object: &mut Object<'_>) {
        for code in Code::ALL {
            let count = self.loop_stats.counted.rejected.of(code);
            if count > 0 {
                object.number(code.name(), count);
            }
        }
        for (code, count) in WS_CLOSES.iter().zip(self.loop_stats.counted.ws_closes) {
            if count > 0 {
                object.number(&format!("ws_{code}"), count);
            }
        }
        if self.loop_stats.counted.stalled > 0 {
            object.number("stalled", self.loop_stats.counted.stalled);
        }
    }
}

/// Writes the fields of one JSON object.
#[derive(Debug)]
pub(crate) struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    pub(crate) fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    #[inline(never)] // of every field
    fn name(&mut self, name: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        json::write_string(self.out, name);
        self.out.push(b':');
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        json::write_string(self.out, value);
    }

    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        json::write_number(self.out, value);
    }

    pub(crate) fn object(&mut self, name: &str, fields: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        let mut inner = Object::open(self.out);
        fields(&mut inner);
        inner.close();
    }

    /// A list of objects, one for each of `items`.
    pub(crate) fn objects<T>(
        &mut self,
        name: &str,
        items: &[T],
        mut fields: impl FnMut(&mut Object<'_>, &T),
    ) {
        self.name(name);
        self.out.push(b'[');
        for (number, item) in items.iter().enumerate() {
            if number > 0 {
                self.out.push(b',');
            }
            let mut inner = Object::open(self.out);
            fields(&mut inner, item);
            inner.close();
        }
        self.out.push(b']');
    }

    pub(crate) fn close(self) {
        self.out.push(b'}');
    }
}
