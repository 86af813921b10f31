//! A soak by one command: mixed clients for minutes, their books, and the server's memory over
//! time.
//!
//! ```sh
//! HOLDLINE_MINUTES=10 cargo test --release --test soak -- --nocapture
//! ```
//!
//! Readers on all transports: steady ones, ones that are cut, ones behind a proxy with faults, slow
//! ones, a mass that goes and comes back at once; publishers at several rates; strangers that
//! vanish from every state. It prints a line every few seconds, and writes `soak.svg` and
//! `soak.tsv` into `target/soak`. It fails if a message is lost or comes twice, or if something is
//! left at the end. Without `HOLDLINE_MINUTES` it takes some seconds.
#![cfg(feature = "cli")]
#![allow(missing_docs, unreachable_pub)]

#[path = "soak/draw.rs"]
mod draw;
#[path = "support/fleet/mod.rs"]
mod fleet;
mod support;
#[path = "soak/watch.rs"]
mod watch;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fastrand::Rng;
use fleet::crowd::{Crowd, Cut, Habits};
use fleet::ledger::{Ledger, Waits};
use fleet::process::{descriptors, raise_descriptors, rss_kib};
use fleet::proxy::{End, Plan, Proxy, Way};
use fleet::publisher::{Load, Publisher};
use fleet::reader::{Reader, Via};
use fleet::states::{At, Leave, connect_from};
use fleet::{Connected, PATIENCE, call, eventually, number, seed, stats};
use support::Running;
use watch::Sample;

const CHANNELS: [&str; 4] = ["fast", "steady", "slow", "large"];
const CUT: Habits =
    Habits { cuts: Some(1_000..10_000), away: 0..2_000, slow: None, silence: Some(20_000) };
const PROXIED: Habits = Habits { cuts: None, away: 5..500, slow: None, silence: Some(20_000) };
const SLOW: Habits = Habits { cuts: None, away: 5..500, slow: Some((3_000, 50)), silence: None };
const MASS: Habits = Habits { cuts: None, away: 1_000..1_300, slow: None, silence: None };
/// What each part of the readers does; the rest is the mass.
const PARTS: [(Habits, u64); 4] = [(Habits::STEADY, 30), (CUT, 30), (PROXIED, 15), (SLOW, 5)];

struct Soak {
    server: Running,
    proxy: Proxy,
    crowd: Crowd,
    publishers: Vec<Publisher>,
    origin: Instant,
    rng: Rng,
    /// How many readers there are of each part, one after the other.
    steady: usize,
    mass: std::ops::Range<usize>,
    strangers: Vec<TcpStream>,
    strangers_seen: usize,
    samples: Vec<Sample>,
    waits: Waits,
    published: u64,
    delivered: u64,
}

impl Soak {
    fn start(clients: u64, seed: u64) -> Self {
        let server = Running::start(&[]);
        let answer = call(server.addr, "GET", "/poll?channel=any", b"");
        let start = answer.header("holdline-cursor").expect("a cursor").to_owned();
        let (origin, addr) = (Instant::now(), server.addr);
        let mut soak = Self {
            proxy: Proxy::start(addr, seed, plan),
            server,
            crowd: Crowd::new(addr, seed),
            publishers: Vec::new(),
            origin,
            rng: Rng::with_seed(seed),
            steady: 0,
            mass: 0..0,
            strangers: Vec::new(),
            strangers_seen: 0,
            samples: Vec::new(),
            waits: Waits::default(),
            published: 0,
            delivered: 0,
        };
        for (part, (habits, share)) in PARTS.into_iter().enumerate() {
            soak.crowd.target = if part == 2 { soak.proxy.addr } else { addr };
            soak.join(habits, (clients * share / 100).max(6), &start);
            if part == 0 {
                soak.steady = soak.crowd.members.len();
            }
        }
        soak.crowd.target = addr;
        let first = soak.crowd.members.len();
        soak.join(MASS, (clients / 5).max(6), &start);
        soak.mass = first..soak.crowd.members.len();
        soak.publishers = loads().map(|load| Publisher::start(addr, load, origin)).into();
        soak
    }

    fn join(&mut self, habits: Habits, count: u64, start: &str) {
        for n in 0..count as usize {
            let via = Via::ALL[n % Via::ALL.len()];
            let many = if Via::PROTOCOL.contains(&via) { self.rng.usize(1..=4) } else { 1 };
            // One message a request: not for the quick ones.
            let quickest = if via == Via::RawPoll { 2 } else { 0 };
            let first = self.rng.usize(quickest..CHANNELS.len());
            let channels: Vec<_> = (0..many).map(|n| CHANNELS[(first + n) % 4]).collect();
            let reader = Reader::from_the_start(via, &channels, start, self.origin);
            self.crowd.join(reader, habits.clone());
        }
    }

    fn run(&mut self, time: Duration) {
        let look = Duration::from_millis(2_000);
        println!("{}", watch::HEAD);
        while self.origin.elapsed() < time {
            let left = time.saturating_sub(self.origin.elapsed());
            self.crowd.run(look.min(left), |_| false);
            self.sample();
            self.disturb();
        }
    }

    /// Strangers come and vanish; now and then the mass goes, and comes back.
    fn disturb(&mut self) {
        self.strangers.clear();
        for _ in 0..10 {
            let at = At::ALL[self.rng.usize(..At::ALL.len())];
            let how = Leave::ALL[self.rng.usize(..Leave::ALL.len())];
            self.strangers_seen += 1;
            let stream = at.enter(connect_from(self.server.addr, self.strangers_seen));
            self.strangers.extend(how.leave(stream));
        }
        if self.samples.len() % 10 == 3 {
            let how = if self.rng.bool() { Cut::Close } else { Cut::Reset };
            self.mass.clone().for_each(|at| self.crowd.cut(at, how));
        }
    }

    fn sample(&mut self) {
        let mut waits = Waits::default();
        for member in &mut self.crowd.members[..self.steady] {
            waits.add(&std::mem::take(&mut member.reader.ledger.waits));
        }
        self.waits.add(&waits);
        let sum = self.crowd.sum(|_| true);
        let published = self.publishers.iter().map(Publisher::sent).sum();
        let elapsed_s = self.origin.elapsed().as_secs_f64();
        let since = self.samples.last().map_or(elapsed_s, |last| elapsed_s - last.elapsed_s);
        let told = stats(self.server.addr);
        let kinds = ["http", "ws", "sse", "poll"];
        let of = |kind: &str| told["connections"][kind].as_u64().expect("a number");
        let sample = Sample {
            elapsed_s,
            connections: kinds.map(of).iter().sum(),
            rss_kib: rss_kib(self.server.pid()).unwrap_or_default(),
            published_per_s: (published - self.published) as f64 / since,
            delivered_per_s: (sum.delivered - self.delivered) as f64 / since,
            p50_ms: waits.p50_ms(),
            p99_ms: waits.p99_ms(),
            lost: sum.lost + sum.twice,
            gaps: sum.gaps,
            descriptors: descriptors(self.server.pid()).unwrap_or_default(),
        };
        (self.published, self.delivered) = (published, sum.delivered);
        println!("{}", sample.line());
        self.samples.push(sample);
    }

    /// Everyone gets the rest, then all go: the books, and what the server keeps.
    fn end(mut self, title: &str) {
        let publishers = std::mem::take(&mut self.publishers);
        let totals: BTreeMap<String, u64> =
            publishers.into_iter().map(|p| (p.load.channel.clone(), p.stop().0)).collect();
        // What is owed to the slow ones would take them minutes.
        self.crowd.members.iter_mut().for_each(|member| member.habits.slow = None);
        let is_complete = self.crowd.catch_up(&totals, 2 * PATIENCE);
        let debtors = self.crowd.debtors(&totals);
        watch::write(title, &self.samples);
        let (sum, ends) = (self.crowd.sum(|_| true), self.proxy.ends());
        let cuts: u64 = self.crowd.members.iter().map(|member| member.ends).sum();
        drop((self.crowd, self.proxy, self.strangers));
        let addr = self.server.addr;
        Connected::wait_for_nobody(addr);
        let rss = |pick: fn(u64, u64) -> u64| {
            self.samples.iter().map(|sample| sample.rss_kib).reduce(pick).unwrap_or_default()
        };
        let first = self.samples.first().map_or(0, |sample| sample.rss_kib);
        let end = eventually("its size", || Ok(rss_kib(self.server.pid()).unwrap_or_default()));
        let Ledger { delivered, gaps, missed, lost, twice, .. } = sum;
        println!("{title}");
        println!("published {:?}", totals);
        println!("delivered {delivered}; {cuts} connections ended, {ends} of them by the proxy,");
        println!(
            "{} strangers vanished; {gaps} gaps announced {missed} messages",
            self.strangers_seen
        );
        println!(
            "lost {lost}, twice {twice}; p50 {:.2} ms, p99 {:.2} ms",
            self.waits.p50_ms(),
            self.waits.p99_ms()
        );
        println!("RSS in KiB: {first} first, {} at most, {end} at the end", rss(u64::max));
        assert_eq!((lost, twice), (0, 0), "lost, twice");
        assert!(is_complete, "{debtors:?} have not got everything of {totals:?}");
    }
}

fn loads() -> [Load; 4] {
    let with = |bytes, load| Load { bytes, ..load };
    [
        Load::steady("fast", 10),
        with(500, Load::steady("steady", 50)),
        with(2_000, Load::steady("slow", 500)),
        with(40_000, Load::steady("large", 500)),
    ]
}

/// What happens behind the proxy: never so little that nothing would ever be whole.
fn plan(rng: &mut Rng) -> Plan {
    const ENDS: [End; 5] = [End::Reset, End::Close, End::HalfUp, End::HalfDown, End::Vanish];
    let down = match rng.u8(..6) {
        0 => Way { piece: Some(rng.usize(500..5_000)), ..Way::default() },
        1 => Way { delay_ms: rng.u64(1..100), ..Way::default() },
        2 => Way { hold: Some((rng.usize(1..50_000), 200)), ..Way::default() },
        3 => Way { stall: Some((rng.u64(0..200_000), rng.u64(1..5_000))), ..Way::default() },
        _ => Way::default(),
    };
    let end = rng.bool().then(|| (rng.u64(500..15_000), ENDS[rng.usize(..ENDS.len())]));
    Plan { up: Way::default(), down, end }
}

#[test]
fn nothing_is_lost_in_a_soak() {
    raise_descriptors();
    let seed = seed();
    let clients = number("HOLDLINE_CLIENTS", if cfg!(debug_assertions) { 60 } else { 300 });
    let time = match number("HOLDLINE_MINUTES", 0) {
        0 => Duration::from_secs(8),
        minutes => Duration::from_secs(minutes * 60),
    };
    let mut soak = Soak::start(clients, seed);
    soak.run(time);
    soak.end(&format!("Soak of {} s, {clients} clients, seed {seed}", time.as_secs()));
}
