//! A random world: what it is made of, and what happens in it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use holdline::Message;

use super::asker::Desk;
use super::crowd::Crowd;
use super::network::{ADDRESSES, Place};
use super::publisher::{Listener, Publisher, Sending, members};
use super::settings::{config, latest, limit, pick};
use super::sim::{Chance, Sim};
use super::traveller::{Manner, Traveller, Via};
use super::truth::{At, Kind, Spec, Truth, event, kind, name, payload};
use super::within::Within;

/// What may happen in a world besides reading and publishing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Other threads publish meanwhile: between two looks at the order there may be more of it.
    pub among_threads: bool,
    /// History forgets, or is deleted.
    pub forgets: bool,
    /// The server dies and comes back.
    pub restarts: bool,
    /// It goes in order and comes back with what it kept.
    pub plans: bool,
    /// Clients publish too.
    pub publishes: bool,
    /// An application decides who may, and takes its time.
    pub asks: bool,
    /// Most come from a few addresses, which may do little at a time.
    pub limits: bool,
    /// There is so little memory that connections are refused and shed.
    pub is_tight: bool,
}

pub struct World {
    pub sim: Sim,
    pub truth: Truth,
    pub travellers: Vec<Traveller>,
    pub(super) rules: Rules,
    channels: usize,
    pub(super) listeners: Vec<Listener>,
    pub(super) publishers: Vec<Publisher>,
    /// Those that are part of the program.
    pub(super) within: Vec<Within>,
    /// What each line has been given to publish and nobody has seen published.
    given: HashMap<usize, Given>,
    /// Nobody publishes any more.
    pub(super) is_resting: bool,
    pub(super) desk: Desk,
    pub(super) crowd: Crowd,
    /// Whether an application allows everything to those that are elsewhere; else they only read.
    is_public: bool,
}

/// What a line was given to publish, in order.
struct Given {
    numbers: VecDeque<u64>,
    /// That it is what is published from there next.
    is_sure: bool,
}

impl Default for Given {
    fn default() -> Self {
        Self { numbers: VecDeque::new(), is_sure: true }
    }
}

impl World {
    pub fn new(chance: impl Into<Chance>, rules: Rules) -> Self {
        let mut rng = chance.into();
        let mut config = config(&mut rng, rules);
        if rules.limits {
            limit(&mut config, &mut rng);
        }
        let loops = rng.usize(1..=3);
        let mut sim = Sim::new(config, loops, rng);
        let mut truth = Truth::default();
        truth.begin_epoch(sim.history.epoch().as_str());
        truth.latest = latest(&sim.config.latest);
        let channels = sim.rng.usize(1..=5);
        let travellers = (0..sim.rng.usize(3..=10)).map(|n| {
            let first = n % channels;
            let more = (0..channels).filter(|one| *one != first && sim.rng.bool());
            Traveller::new([first].into_iter().chain(more.collect::<Vec<_>>()).collect())
        });
        let mut travellers: Vec<_> = travellers.collect();
        for traveller in travellers.iter_mut().filter(|_| rules.limits) {
            traveller.address = Some(sim.rng.u8(..=ADDRESSES)).filter(|address| *address > 0);
        }
        let is_public = rules.asks || (rules.limits && sim.rng.bool());
        let listeners = (0..3).map(|n| Listener::new(n % channels)).collect();
        let publishers = (0..3).map(|_| Publisher::default()).collect();
        let within = (0..2).map(|n| {
            let more = (0..channels).filter(|one| *one != n % channels && sim.rng.bool());
            Within::new([n % channels].into_iter().chain(more.collect::<Vec<_>>()).collect())
        });
        let within = within.collect();
        let mut world = Self {
            sim,
            truth,
            travellers,
            rules,
            channels,
            listeners,
            publishers,
            within,
            given: HashMap::new(),
            is_resting: false,
            desk: Desk::default(),
            crowd: Crowd::default(),
            is_public,
        };
        if !rules.asks {
            world.desk.rest(&mut world.sim);
        }
        (0..world.sim.loops.len()).for_each(|number| world.employ(number));
        world
    }

    fn employ(&mut self, number: usize) {
        if self.is_public {
            self.desk.employ(&mut self.sim, number);
        }
    }

    /// Where whoever has this address comes from now.
    fn place(&mut self, address: Option<u8>) -> Place {
        match address {
            None => Place::Here,
            Some(number) if self.sim.rng.bool() => Place::Direct(number),
            Some(number) => Place::Proxied(number),
        }
    }

    /// Where somebody comes from who wants to publish.
    fn place_to_publish(&mut self) -> Place {
        let number = self.sim.rng.u8(..=ADDRESSES);
        match self.place(Some(number).filter(|number| self.rules.limits && *number > 0)) {
            Place::Direct(number) if !self.is_public => Place::Proxied(number),
            place => place,
        }
    }

    /// One random event, perhaps some turns, and everyone reads.
    pub fn step(&mut self) {
        match self.sim.rng.u32(..100) {
            0..25 => publish_directly(&mut self.sim, &mut self.truth, self.channels),
            25..40 if self.rules.publishes => self.publish_by_clients(),
            40..75 => self.disturb(),
            75..82 => self.listen(),
            82..84 if self.rules.limits || self.rules.is_tight => self.mob(),
            82..84 => self.listen(),
            84 if self.rules.among_threads => {}
            84 => self.count_heads(),
            85..87 if self.rules.forgets => self.delete(),
            87 if self.rules.restarts && self.sim.rng.bool() => self.restart(),
            87 if self.rules.plans && self.sim.rng.bool() => self.move_on(),
            87 => self.drain(),
            88..97 => self.turns(),
            97 => {
                let ms = self.sim.rng.u64(..30_000);
                self.pass(ms);
                if self.sim.rng.u8(..4) == 0 {
                    self.stand_still();
                }
            }
            _ => {
                let ms = self.sim.rng.u64(..1_000);
                self.pass(ms);
            }
        }
        if self.sim.rng.u8(..6) == 0 {
            let one = self.sim.rng.usize(..self.within.len());
            let is_alone = !self.rules.among_threads;
            self.within[one].disturb(&mut self.sim, &mut self.truth, is_alone);
        }
        if self.rules.asks && self.sim.rng.bool() {
            self.desk.answer(&mut self.sim);
        }
        if self.sim.rng.bool() {
            self.turns();
        }
        self.read();
    }

    fn turns(&mut self) {
        for _ in 0..self.sim.rng.usize(1..4) {
            let number = self.sim.rng.usize(..self.sim.loops.len());
            if self.sim.rng.bool() {
                self.sim.step()
            } else {
                self.sim.turn(number)
            }
            self.attribute();
        }
    }

    /// Long enough for something to end: a grace, a heartbeat, a stall, the lease of a list, an idle
    /// connection, a key. Some of those who do not read go on not reading.
    fn stand_still(&mut self) {
        let ends = [5_000, 25_000, 30_000, 60_000, 75_000, 130_000, 300_000];
        let ms = pick(&mut self.sim.rng, &ends);
        for one in 0..self.travellers.len() {
            let line = self.travellers[one].link.as_ref().map(|link| link.line);
            if let Some(line) = line.filter(|_| self.sim.rng.u8(..4) == 0) {
                let window = self.sim.rng.usize(..2_000);
                self.sim.stall(line, window);
            }
        }
        let around = self.sim.rng.u64(..2_000);
        self.pass(ms - 1_000 + around);
    }

    /// Many come at once, and want something or nothing; or some of them go.
    fn mob(&mut self) {
        let number = self.sim.rng.u8(..=ADDRESSES);
        let place = self.place(Some(number).filter(|number| self.rules.limits && *number > 0));
        let Self { sim, crowd, channels, .. } = self;
        match sim.rng.u8(..4) {
            0 => crowd.come(sim, place, *channels),
            1 => crowd.thin(sim),
            _ => crowd.push(sim),
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.sim.now.mono_ms + ms;
        // A program that stands still is looked at all the time: seldom for long.
        let is_reading = ms > 2_000 && self.sim.rng.u8(..8) > 0;
        let Self { sim, truth, travellers, channels, is_resting, within, .. } = self;
        sim.pass_until(end, |sim| {
            travellers.iter_mut().for_each(|traveller| traveller.read(sim, truth));
            if is_reading {
                within.iter_mut().for_each(|one| one.read(sim, truth));
            }
            if !*is_resting && sim.rng.u8(..4) == 0 {
                // Other threads publish just before a turn whose deadlines come first.
                publish_directly(sim, truth, *channels);
            }
            false
        });
        self.attribute();
    }

    pub fn read(&mut self) {
        let Self { sim, truth, travellers, listeners, publishers, within, .. } = self;
        within.iter_mut().for_each(|one| one.read(sim, truth));
        travellers.iter_mut().for_each(|traveller| traveller.read(sim, truth));
        listeners.iter_mut().for_each(|listener| listener.read(sim));
        publishers.iter_mut().for_each(|publisher| publisher.read(sim, truth));
    }

    fn publish_by_clients(&mut self) {
        match self.sim.rng.u8(..5) {
            0..2 => self.publish_by_command(),
            2 => (0..self.sim.rng.usize(1..4)).for_each(|_| self.publish_by_frame()),
            _ => self.publish_by_request(),
        }
    }

    fn publish_by_command(&mut self) {
        let on_ws: Vec<_> = (0..self.travellers.len())
            .filter(|n| {
                let traveller = &self.travellers[*n];
                traveller.speaks_json()
                    && traveller.position.is_some()
                    && traveller.outstanding.len() < 3
                    && traveller.is_settled()
                    && (self.is_public || !traveller.is_elsewhere())
            })
            .collect();
        if on_ws.is_empty() {
            return;
        }
        let (number, spec) = new_spec(&mut self.sim, &mut self.truth, self.channels);
        let traveller = &mut self.travellers[on_ws[self.sim.rng.usize(..on_ws.len())]];
        let line = traveller.link.as_ref().map_or(0, |link| link.line);
        traveller.publish(&mut self.sim, number, &members(number, spec).join(","));
        self.given.entry(line).or_default().numbers.push_back(number);
    }

    fn publish_by_frame(&mut self) {
        let (number, mut spec) = new_spec(&mut self.sim, &mut self.truth, self.channels);
        let listener = &self.listeners[self.sim.rng.usize(..self.listeners.len())];
        spec.channel = listener.channel;
        if Listener::can_publish(number, spec)
            && let Some(line) = listener.publish(&mut self.sim, number)
        {
            self.truth.specs.insert(number, spec);
            self.given.entry(line).or_default().numbers.push_back(number);
        }
    }

    pub(super) fn publish_by_request(&mut self) {
        let count = if self.sim.rng.bool() { 1 } else { self.sim.rng.usize(1..6) };
        let new = (0..count).map(|_| {
            let (number, spec) = new_spec(&mut self.sim, &mut self.truth, self.channels);
            Sending { number, spec, is_again: false }
        });
        let new = new.collect();
        let publisher = self.sim.rng.usize(..self.publishers.len());
        self.publish_by(publisher, new);
    }

    pub(super) fn publish_by(&mut self, publisher: usize, new: Vec<Sending>) {
        let place = self.place_to_publish();
        let publisher = &mut self.publishers[publisher];
        if !publisher.patience.is_over(&self.sim) {
            return;
        }
        publisher.come_from(place);
        let messages = publisher.choose(&mut self.sim, new);
        if messages.is_empty() {
            return;
        }
        let Some(line) = publisher.publish(&mut self.sim, messages.clone()) else { return };
        // What comes twice has one place: of either line, only the answers tell what it was.
        for again in messages.iter().filter(|message| message.is_again) {
            let has = |given: &&mut Given| given.numbers.contains(&again.number);
            self.given.values_mut().filter(has).for_each(|given| given.is_sure = false);
        }
        let given = self.given.entry(line).or_default();
        given.numbers.extend(messages.iter().map(|message| message.number));
        given.is_sure &= messages.iter().all(|message| !message.is_again);
    }

    /// Ties seqs that were given out while a line was read to what that line was given.
    pub(super) fn attribute(&mut self) {
        let epoch = self.truth.epoch();
        // Where some are refused the answers and the readers tell which.
        let is_sure = self.sim.config.memory_bytes == 0 && !self.rules.asks && !self.rules.limits;
        for number in 0..self.sim.loops.len() {
            for (line, seq) in std::mem::take(&mut self.sim.loops[number].published) {
                let line = line.or_else(|| self.kept_by(number)).filter(|_| is_sure);
                let given = line.and_then(|line| self.given.get_mut(&line));
                let given = given.filter(|given| given.is_sure);
                if let Some(number) = given.and_then(|given| given.numbers.pop_front()) {
                    self.truth.place(At { epoch, seq }, number);
                }
            }
        }
    }

    /// The only line of a loop that can have published from kept bytes. If there are several, what
    /// they are given is left to the answers and the readers from now on.
    fn kept_by(&mut self, number: usize) -> Option<usize> {
        let lines = &self.sim.lines;
        let can = self.given.iter_mut().filter(|(line, given)| {
            lines[**line].number == number && !(given.is_sure && given.numbers.is_empty())
        });
        let mut can: Vec<_> = can.collect();
        if let [(line, _)] = &can[..] {
            return Some(**line);
        }
        can.iter_mut().for_each(|(_, given)| given.is_sure = false);
        None
    }

    fn via(&mut self, traveller: usize) -> Via {
        loop {
            let via = Via::ALL[self.sim.rng.usize(..Via::ALL.len())];
            let is_single = self.travellers[traveller].is_single();
            if is_single || !matches!(via, Via::RawSse | Via::RawPoll | Via::Meta) {
                return via;
            }
        }
    }

    fn manner(&mut self, address: Option<u8>) -> Manner {
        let place = self.place(address);
        let rng = &mut self.sim.rng;
        Manner {
            gap_live: rng.u8(..8) == 0,
            is_ten: rng.u8(..4) == 0,
            by_header: rng.bool(),
            start: pick(rng, &[None, Some("earliest"), Some("latest")]),
            nothing_is_forgotten: !self.rules.forgets && !self.rules.restarts,
            options: pick(
                rng,
                &["", "&presence=1", "&presence=1", "&heartbeat=10", "&v=1", "&lang=en"],
            ),
            place,
            is_shared: matches!(place, Place::Proxied(_)) && rng.bool(),
        }
    }

    pub(super) fn connect(&mut self, traveller: usize) {
        if !self.travellers[traveller].may_come(&self.sim) {
            return;
        }
        let (via, manner) = (self.via(traveller), self.manner(self.travellers[traveller].address));
        let number = self.sim.rng.usize(..self.sim.loops.len());
        self.travellers[traveller].open(&mut self.sim, &self.truth, number, via, manner);
        if self.sim.rng.bool() {
            let window = self.sim.rng.usize(1..5_000);
            if let Some(link) = &self.travellers[traveller].link {
                self.sim.lines[link.line].window = window;
            }
        }
    }

    fn break_off(&mut self, line: usize) {
        // Some of what was sent may still arrive, and some of what came is read.
        let bytes = self.sim.rng.usize(..500);
        self.sim.take(line, bytes);
        self.read();
        match self.sim.rng.u8(..3) {
            0 => self.sim.reset(line),
            1 => self.sim.close(line),
            _ => {
                self.sim.finish(line);
                self.turns();
                self.sim.reset(line);
            }
        }
        self.read();
    }

    /// Something happens to one reader.
    fn disturb(&mut self) {
        let one = self.sim.rng.usize(..self.travellers.len());
        let Some(line) = self.travellers[one].link.as_ref().map(|link| link.line) else {
            return self.connect(one);
        };
        match self.sim.rng.u8(..16) {
            0..3 => {
                self.break_off(line);
                self.travellers[one].lose();
                self.connect(one);
            }
            3..6 => {
                let window = self.sim.rng.usize(..2_000);
                self.sim.stall(line, window);
            }
            6..9 => self.sim.unstall(line),
            9 => {
                self.sim.lines[line].take_max = self.sim.rng.usize(1..100);
            }
            10..13 => {
                let bytes = self.sim.rng.usize(..3_000);
                self.sim.take(line, bytes);
            }
            13 if self.travellers[one].speaks_json() => {
                // What it has asked for before is still answered.
                if self.rules.publishes && self.sim.rng.bool() {
                    self.publish_by_clients();
                }
                self.travellers[one].leave(&mut self.sim);
            }
            _ => self.change_channels(one),
        }
    }

    fn change_channels(&mut self, one: usize) {
        let Self { sim, travellers, .. } = self;
        let traveller = &mut travellers[one];
        let is_ready = traveller.speaks_json() && traveller.is_settled();
        if !is_ready || traveller.position.is_none() || traveller.has_window() {
            return;
        }
        let others: Vec<_> =
            (0..self.channels).filter(|other| !traveller.channels.contains(other)).collect();
        if sim.rng.u8(..3) == 0 && traveller.channels.len() > 1 {
            let leave = traveller.channels[sim.rng.usize(..traveller.channels.len())];
            traveller.unsubscribe(sim, leave);
        } else if !others.is_empty() {
            let first = others[sim.rng.usize(..others.len())];
            let mut more = vec![first];
            more.extend(others.iter().filter(|other| **other != first && sim.rng.bool()));
            let memory = &traveller.memory;
            let since = match sim.rng.u8(..3) {
                0 => None,
                1 if !memory.is_empty() => {
                    let from = memory.len().saturating_sub(30);
                    Some(memory[sim.rng.usize(from..memory.len())].clone())
                }
                _ => traveller.position.clone(),
            };
            traveller.subscribe(sim, &more, since);
        }
    }

    fn listen(&mut self) {
        let one = self.sim.rng.usize(..self.listeners.len());
        let number = self.sim.rng.usize(..self.sim.loops.len());
        let line = self.listeners[one].line();
        let place = self.place_to_publish();
        match (line, self.sim.rng.u8(..6)) {
            (None, _) if !self.listeners[one].patience.is_over(&self.sim) => {}
            (None, _) => self.listeners[one].open(&mut self.sim, number, place),
            (Some(line), 0) => {
                self.break_off(line);
                self.listeners[one].lose();
            }
            (Some(line), 1) => self.sim.stall(line, 100),
            (Some(line), _) => self.sim.unstall(line),
        }
    }

    /// Somebody asks who listens, and is gone: on each loop the same.
    fn count_heads(&mut self) {
        let channel = name(self.sim.rng.usize(..self.channels));
        let number = self.sim.rng.usize(..self.sim.loops.len());
        // With the first question names begin to be remembered.
        if self.list(number, &channel).is_none() {
            return;
        }
        let lists = (0..self.sim.loops.len()).filter_map(|number| self.list(number, &channel));
        let lists: Vec<_> = lists.filter(|(_, is_whole)| *is_whole).collect();
        for two in lists.windows(2) {
            assert_eq!(two[0], two[1], "who listens to {channel}");
        }
    }

    /// Who a loop says is listening, in order of names, and whether that is everyone.
    fn list(&mut self, number: usize, channel: &str) -> Option<(Vec<String>, bool)> {
        let line = self.sim.connect(number);
        self.sim.ask(line, "GET", &format!("/channels/{channel}/presence"), b"");
        self.sim.settle();
        self.attribute();
        let answer = self.sim.answer(line);
        self.count_addresses(line);
        self.sim.close(line);
        self.sim.settle();
        let list = answer.filter(|answer| answer.status == 200)?.json();
        let members = list["members"].as_array().expect("members").iter();
        let names = members.map(|m| m["connection"].as_str().expect("a name").to_owned());
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|two| two[0] != two[1]), "one name for two: {list}");
        let is_whole = list["more"] == false;
        let subscribers = list["subscribers"].as_u64().expect("a number");
        // The program's own subscriptions are no members.
        let most = (names.len() + self.within.len()) as u64;
        assert!(!is_whole || most >= subscribers, "somebody is missing: {list}");
        Some((names, is_whole))
    }

    /// Limits count for those who are there, whatever they claim, and for all who share an entry.
    fn count_addresses(&mut self, line: usize) {
        self.sim.ask(line, "GET", "/stats", b"");
        self.sim.settle();
        self.attribute();
        let Some(answer) = self.sim.answer(line).filter(|answer| answer.status == 200) else {
            return;
        };
        let count = answer.json()["addresses"].as_u64().expect("a number");
        let most = if self.rules.limits { u64::from(ADDRESSES) + 1 } else { 0 };
        assert!(count <= most, "{count} addresses");
    }

    fn delete(&mut self) {
        let channel = self.sim.rng.usize(..self.channels);
        self.sim.history.clear(&name(channel), self.sim.now);
    }

    fn restart(&mut self) {
        self.attribute();
        self.sim.restart();
        self.truth.begin_epoch(self.sim.history.epoch().as_str());
        self.publishers.iter_mut().for_each(Publisher::give_up);
        self.start_anew();
    }

    /// A planned restart. Whoever got no answer sends it again.
    fn move_on(&mut self) {
        self.attribute();
        self.sim.move_on();
        self.publishers.iter_mut().for_each(Publisher::lose);
        self.start_anew();
    }

    fn start_anew(&mut self) {
        (0..self.sim.loops.len()).for_each(|number| self.employ(number));
        self.travellers.iter_mut().for_each(Traveller::lose);
        self.listeners.iter_mut().for_each(Listener::lose);
        self.within.iter_mut().for_each(Within::lose);
        self.given.clear();
    }

    /// One loop says goodbye and makes room for another over the same history.
    fn drain(&mut self) {
        let number = self.sim.rng.usize(..self.sim.loops.len());
        let now = self.sim.now;
        // At once, or one by one while others publish; in the middle of it it may be hurried.
        let grace = [0, 0, 500, 5_000][self.sim.rng.usize(..4)];
        self.sim.loops[number].engine.handle_drain_over(Duration::from_millis(grace), now);
        for _ in 0..self.sim.rng.usize(..20) {
            self.turns();
            self.read();
            if grace > 0 {
                let ms = self.sim.rng.u64(..grace / 5);
                self.pass(ms);
                if self.rules.publishes {
                    self.publish_by_clients();
                }
            }
        }
        self.attribute();
        self.sim.replace(number);
        self.employ(number);
        self.read();
    }
}

fn new_spec(sim: &mut Sim, truth: &mut Truth, channels: usize) -> (u64, Spec) {
    let ttl_s = match sim.rng.u8(..10) {
        0 => Some(0),
        1 => Some(sim.rng.u64(1..20)),
        _ => None,
    };
    let spec = Spec { channel: sim.rng.usize(..channels), ttl_s, unix_ms: sim.now.unix_ms };
    (truth.spec(spec), spec)
}

/// As other threads of the host do.
fn publish_directly(sim: &mut Sim, truth: &mut Truth, channels: usize) {
    for _ in 0..sim.rng.usize(1..5) {
        let (number, spec) = new_spec(sim, truth, channels);
        let message = message(number, spec);
        if let Ok(published) = sim.history.publish(&name(spec.channel), message, sim.now) {
            truth.place(At { epoch: truth.epoch(), seq: published.id.seq }, number);
        }
    }
}

/// A message as the host makes it.
pub fn message(number: u64, spec: Spec) -> Message {
    let mut message = match kind(number) {
        Kind::Json => Message::json(payload(number)).expect("JSON"),
        _ => Message::bytes(payload(number)),
    };
    if let Some(name) = event(number) {
        message = message.event(name);
    }
    if let Some(seconds) = spec.ttl_s {
        message = message.ttl(Duration::from_secs(seconds));
    }
    message
}
