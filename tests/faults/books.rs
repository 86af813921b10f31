//! The books themselves: that a loss, a repetition and an announced gap are told apart, and that
//! the proxy does what its plans say.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::clock::Lateness;
use crate::fleet::ledger::{Ledger, Sent, Waits};
use crate::fleet::proxy::{End, Plan, Proxy, Way};
use crate::fleet::{PATIENCE, connect};

fn ledger(numbers: &[u64], gap_before: Option<u64>) -> Ledger {
    let origin = Instant::now();
    let mut ledger = Ledger::from_the_start(&["a".to_owned()]);
    for number in numbers {
        if gap_before == Some(*number) {
            ledger.gap("a");
        }
        ledger.note("a", &Sent::text(*number, origin, 20), origin);
    }
    ledger
}

#[test]
fn what_is_missing_is_lost_unless_it_was_announced() {
    let told = |ledger: Ledger| (ledger.lost, ledger.missed, ledger.twice, ledger.gaps);
    assert_eq!(told(ledger(&[1, 2, 3], None)), (0, 0, 0, 0));
    assert_eq!(told(ledger(&[1, 2, 5], None)), (2, 0, 0, 0));
    assert_eq!(told(ledger(&[2], None)), (1, 0, 0, 0), "the first of all is owed as well");
    assert_eq!(told(ledger(&[1, 2, 5], Some(5))), (0, 2, 0, 1));
    assert_eq!(told(ledger(&[1, 2, 5], Some(2))), (2, 0, 0, 1), "a gap excuses what it is before");
    assert_eq!(told(ledger(&[1, 2, 2, 3], None)), (0, 0, 1, 0));
    assert_eq!(ledger(&[1, 2], None).owed(&[("a".to_owned(), 5)].into()), 3);
}

#[test]
fn quantiles_are_those_of_what_was_noted() {
    let mut waits = Waits::default();
    (1..=1_000).for_each(|n| waits.note(n * 100));
    let is_about = |us: u64, wanted: u64| (wanted..wanted + wanted / 15).contains(&us);
    assert!(is_about(waits.quantile(0.5), 50_000), "{}", waits.quantile(0.5));
    assert!(is_about(waits.quantile(0.99), 99_000), "{}", waits.quantile(0.99));
    assert_eq!((waits.quantile(1.0), waits.count), (100_000, 1_000));
}

/// Long enough to have seen an end, had there been one.
const MOMENT: Duration = Duration::from_secs(1);
/// What a plan's times are apart from each other, and a machine is late by now and then.
const PUNCTUAL: Duration = Duration::from_millis(150);

/// The same as `once`, on a machine that is not as late as the plan's times are apart.
fn behind(plan: &Plan, says: &[u8], patience: Duration) -> std::io::Result<Vec<u8>> {
    for _ in 0..20 {
        let lateness = Lateness::watch();
        let got = once(plan, says, patience);
        if lateness.worst() < PUNCTUAL {
            return got;
        }
    }
    once(plan, says, patience)
}

/// A server that says this and then nothing, behind a proxy with this plan: what a client gets of
/// it, if it ends within the patience.
fn once(plan: &Plan, says: &[u8], patience: Duration) -> std::io::Result<Vec<u8>> {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let plan = plan.clone();
    let proxy = Proxy::start(server.local_addr().expect("its address"), 1, move |_| plan.clone());
    let mut client = connect(proxy.addr);
    let (mut stream, _) = server.accept().expect("the proxy connects");
    stream.write_all(says).expect("said");
    client.set_read_timeout(Some(patience)).expect("a read timeout");
    let mut got = Vec::new();
    client.read_to_end(&mut got).map(|_| got)
}

#[test]
fn the_proxy_ends_connections_as_planned() {
    let kind = |end| {
        let plan = Plan { end: Some((400, end)), ..Plan::default() };
        // Two of them never end for the client.
        let patience = if matches!(end, End::HalfUp | End::Vanish) { MOMENT } else { PATIENCE };
        behind(&plan, b"something", patience).map_err(|error| error.kind())
    };
    use std::io::ErrorKind::{ConnectionReset, WouldBlock};
    assert_eq!(kind(End::Close), Ok(b"something".to_vec()));
    assert_eq!(kind(End::HalfDown), Ok(b"something".to_vec()));
    assert_eq!(kind(End::Reset), Err(ConnectionReset));
    assert_eq!(kind(End::HalfUp), Err(WouldBlock));
    assert_eq!(kind(End::Vanish), Err(WouldBlock));
}

#[test]
fn the_proxy_stalls_and_holds_as_planned() {
    let with = |down, ms| Plan { down, end: Some((ms, End::HalfDown)), ..Plan::default() };
    let got = |down| behind(&with(down, 400), &[b'x'; 1_000], PATIENCE).expect("an end").len();
    assert_eq!(got(Way::default()), 1_000);
    assert_eq!(got(Way { hold: Some((1_001, 10_000)), ..Way::default() }), 0);
    assert_eq!(got(Way { hold: Some((1_000, 10_000)), ..Way::default() }), 1_000);
    let stalled = Way { piece: Some(100), stall: Some((500, 10_000)), ..Way::default() };
    assert!((500..600).contains(&got(stalled)));
}
