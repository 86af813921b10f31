//! The delivery test as others publish it: clients that lose their connection for up to two
//! seconds, at random, while a channel publishes at a steady rate. What share of it do they get?

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::fleet::crowd::{Crowd, Habits};
use crate::fleet::ledger::Ledger;
use crate::fleet::publisher::{Load, Publisher};
use crate::fleet::reader::{Reader, Via};
use crate::fleet::{PATIENCE, number, seed};
use crate::start_of;
use crate::support::Running;

/// Cut every one to four seconds, away for up to two.
const CUT: Habits = Habits { cuts: Some(1_000..4_000), away: 0..2_000, slow: None, silence: None };

/// `HOLDLINE_CLIENTS` for each transport, `HOLDLINE_SECONDS`, `HOLDLINE_RATE` messages a second.
#[test]
fn clients_that_are_cut_at_random_get_all_of_what_was_published() {
    let (clients, rate) = (number("HOLDLINE_CLIENTS", 30), number("HOLDLINE_RATE", 50));
    let (seconds, seed) = (number("HOLDLINE_SECONDS", 8), seed());
    // All of it can be kept, so that a gap has no excuse.
    let history = (rate * seconds * 2).to_string();
    let server = Running::start(&["--history", &format!("{history},1h,64M")]);
    let (origin, start) = (Instant::now(), start_of(server.addr));
    let mut crowd = Crowd::new(server.addr, seed);
    for via in Via::PROTOCOL {
        for _ in 0..clients {
            crowd.join(Reader::from_the_start(via, &["a"], &start, origin), CUT);
        }
    }
    let load = Load { every: Duration::from_secs(1) / rate as u32, ..Load::steady("a", 0) };
    let publisher = Publisher::start(server.addr, load, origin);
    crowd.run(Duration::from_secs(seconds), |_| false);
    let (count, _) = publisher.stop();
    let totals = BTreeMap::from([("a".to_owned(), count)]);
    let is_complete = crowd.catch_up(&totals, PATIENCE);
    println!("seed {seed}: {count} messages in {seconds} s, cut every 1–4 s for 0–2 s");
    println!("{:<14} {:>7} {:>6} {:>10} {:>9}", "", "clients", "cuts", "delivered", "share");
    for via in Via::PROTOCOL {
        let ends: u64 = crowd.members.iter().filter(|m| m.reader.via == via).map(|m| m.ends).sum();
        let Ledger { delivered, lost, twice, gaps, .. } = crowd.sum_via(via);
        let share = 100.0 * delivered as f64 / (count * clients) as f64;
        println!("{:<14} {clients:>7} {ends:>6} {delivered:>10} {share:>7.3} %", via.name());
        assert_eq!((lost, twice, gaps), (0, 0, 0), "seed {seed}: lost, twice, gaps of {via:?}");
        assert_eq!(delivered, count * clients, "seed {seed}: {via:?}");
        assert!(ends >= clients, "seed {seed}: {ends} cuts of {clients} clients");
    }
    assert!(is_complete && count > 0, "seed {seed}");
}
