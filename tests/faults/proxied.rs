//! Readers and publishers behind a proxy with faults, one kind at a time and all at random: nothing
//! is lost unannounced, nothing comes twice, all in order; and the server lets go of who has gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::fleet::crowd::{Crowd, Cut, Habits};
use crate::fleet::process::descriptors;
use crate::fleet::proxy::{End, Plan, Proxy, Way};
use crate::fleet::publisher::{Load, Publisher};
use crate::fleet::reader::{Reader, Via};
use crate::fleet::{Connected, PATIENCE, eventually, number, seed};
use crate::start_of;
use crate::support::Running;

/// Comes back quickly, and takes a connection that says nothing for dead.
const HASTY: Habits = Habits { cuts: None, away: 1..100, slow: None, silence: Some(1_500) };

/// Readers of all kinds and three publishers behind the proxy, for `HOLDLINE_PROXIED_SECONDS`.
fn journey(name: &str, plan: fn(&mut Rng) -> Plan, has_ends: bool) {
    let seed = seed();
    let server = Running::start(&["--history", "20000,1h"]);
    let before = descriptors(server.pid());
    let (origin, start) = (Instant::now(), start_of(server.addr));
    let proxy = Proxy::start(server.addr, seed, plan);
    let mut crowd = Crowd::new(proxy.addr, seed);
    for via in Via::ALL {
        for _ in 0..3 {
            // One message a request: that channel must not be a quick one.
            let channels: &[&str] = match via {
                Via::Ws | Via::Events | Via::Poll => &["a", "b"],
                Via::Meta | Via::RawSse => &["a"],
                Via::RawPoll => &["c"],
            };
            crowd.join(Reader::from_the_start(via, channels, &start, origin), HASTY);
        }
    }
    let large = Load { bytes: 3_000, ..Load::steady("b", 30) };
    let loads = [Load::steady("a", 10), large, Load::steady("c", 150)];
    let start = |load| Publisher::start(proxy.addr, load, origin);
    let publishers = loads.map(start);
    crowd.run(Duration::from_millis(number("HOLDLINE_PROXIED_SECONDS", 2) * 1_000), |_| false);
    let totals: BTreeMap<String, u64> =
        publishers.into_iter().map(|p| (p.load.channel.clone(), p.stop().0)).collect();
    let is_complete = crowd.catch_up(&totals, PATIENCE);
    let (sum, ends) = (crowd.sum(|_| true), proxy.ends());
    println!("{name}, seed {seed}: {totals:?}, {} delivered, {ends} ends", sum.delivered);
    assert!(is_complete, "{name}, seed {seed}: {totals:?}, but {:?}", crowd.debtors(&totals));
    let wrong = (sum.lost, sum.twice, sum.gaps);
    assert_eq!(wrong, (0, 0, 0), "{name}, seed {seed}: lost, twice, gaps");
    assert!(sum.delivered > 0 && (!has_ends || ends > 0), "{name}, seed {seed}");
    // What is not told stays until a timer finds it, or the proxy goes.
    (0..crowd.members.len()).for_each(|at| crowd.leave(at, Cut::Close));
    drop((crowd, proxy));
    Connected::wait_for_nobody(server.addr);
    eventually("the descriptors of before", || match descriptors(server.pid()) {
        now if now <= before => Ok(()),
        now => Err(format!("{name}, seed {seed}: {now:?}, not {before:?}")),
    });
}

macro_rules! journeys {
    ($($name:ident: $has_ends:literal, $plan:expr;)*) => { $(
        #[test]
        fn $name() {
            journey(stringify!($name), $plan, $has_ends);
        }
    )* };
}

fn both(way: Way) -> Plan {
    Plan { up: way.clone(), down: way, end: None }
}

fn ends(rng: &mut Rng, how: End) -> Plan {
    Plan { end: Some((rng.u64(5..1_500), how)), ..Plan::default() }
}

fn way(rng: &mut Rng, piece_min: usize) -> Way {
    let mut way = Way::default();
    match rng.u8(..8) {
        0 => way.piece = Some(piece_min),
        1 => way.piece = Some(rng.usize(piece_min..4_000)),
        2 => way.delay_ms = rng.u64(1..100),
        3 => way.hold = Some((rng.usize(1..20_000), 200)),
        4 => way.stall = Some((rng.u64(0..10_000), rng.u64(1..1_000))),
        _ => {}
    }
    way
}

fn anything(rng: &mut Rng) -> Plan {
    const ENDS: [End; 5] = [End::Reset, End::Close, End::HalfUp, End::HalfDown, End::Vanish];
    let end = rng.bool().then(|| (rng.u64(5..3_000), ENDS[rng.usize(..ENDS.len())]));
    // An answer byte by byte would never be whole before the end.
    Plan { up: way(rng, 10), down: way(rng, 500), end }
}

journeys! {
    nothing_is_lost_through_a_proxy_without_faults: false, |_| Plan::default();
    nothing_is_lost_byte_by_byte: false, |_| Plan {
        up: Way { piece: Some(1), ..Way::default() },
        down: Way { piece: Some(64), ..Way::default() },
        end: None,
    };
    nothing_is_lost_in_pieces_of_any_size: false,
        |rng| both(Way { piece: Some(rng.usize(100..5_000)), ..Way::default() });
    nothing_is_lost_with_delay: false, |_| both(Way { delay_ms: 150, ..Way::default() });
    nothing_is_lost_behind_a_proxy_that_buffers: false, |_| Plan {
        down: Way { hold: Some((8_192, 300)), ..Way::default() },
        ..Plan::default()
    };
    nothing_is_lost_when_one_direction_stalls: false, |rng| {
        let stalled = Way { stall: Some((rng.u64(0..5_000), rng.u64(100..1_200))), ..Way::default() };
        match rng.bool() {
            true => Plan { up: stalled, ..Plan::default() },
            false => Plan { down: stalled, ..Plan::default() },
        }
    };
    nothing_is_lost_when_connections_are_reset: true, |rng| ends(rng, End::Reset);
    nothing_is_lost_when_connections_are_closed: true, |rng| ends(rng, End::Close);
    nothing_is_lost_when_the_client_s_side_is_shut: true, |rng| ends(rng, End::HalfUp);
    nothing_is_lost_when_the_server_s_side_is_shut: true, |rng| ends(rng, End::HalfDown);
    nothing_is_lost_when_connections_vanish: true, |rng| ends(rng, End::Vanish);
    nothing_is_lost_in_a_network_that_does_anything: true, anything;
}
