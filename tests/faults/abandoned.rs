//! Connections that are opened by the thousand and abandoned, in every state, round after round:
//! the server is then as it was.

use crate::fleet::process::{descriptors, room_for, rss_kib};
use crate::fleet::states::{At, Leave, connect_from};
use crate::fleet::{Connected, call, eventually, number};
use crate::support::Running;

/// What the allocator may keep at the end beyond the first round: a little, and for each connection
/// that there was far less than it costs.
fn slack_kib(connections: usize, rounds: usize) -> u64 {
    1_024 + (connections * rounds) as u64 * 32 / 1_024
}

/// `HOLDLINE_CONNECTIONS` at a time, `HOLDLINE_ROUNDS` times.
#[test]
fn thousands_of_connections_are_abandoned_and_nothing_is_left_of_them() {
    let rounds = number("HOLDLINE_ROUNDS", 3) as usize;
    let (connections, _guard) = room_for(number("HOLDLINE_CONNECTIONS", 2_000));
    let connections = connections as usize;
    let server = Running::start(&[]);
    let pid = server.pid();
    call(server.addr, "GET", "/health", b"");
    Connected::wait_for_nobody(server.addr);
    let before = descriptors(pid);
    let mut sizes = Vec::new();
    println!("{connections} connections, descriptors before: {before:?}, {:?} KiB", rss_kib(pid));
    for round in 0..rounds {
        abandon(&server, connections, round);
        Connected::wait_for_nobody(server.addr);
        eventually("the descriptors of before", || match descriptors(pid) {
            now if now <= before => Ok(()),
            now => Err(format!("{now:?}, not {before:?}")),
        });
        let size = rss_kib(pid).unwrap_or_default();
        println!("round {}: {size} KiB", round + 1);
        sizes.push(size);
    }
    // The allocator gives back when it likes: a leak would be in all of the last.
    let first = sizes[0];
    let late = rounds.saturating_sub(3).max(rounds / 2);
    let last = *sizes[late..].iter().min().expect("rounds");
    assert!(
        last <= first + slack_kib(connections, rounds),
        "{last} KiB after {rounds} rounds, {first} after one"
    );
}

fn abandon(server: &Running, connections: usize, round: usize) {
    let states = [At::ALL.as_slice(), &[At::Events, At::Poll, At::Ws]].concat();
    let pick = |n: usize| states[n % states.len()];
    let open = |n: usize| pick(n).enter(connect_from(server.addr, round * connections + n));
    let streams: Vec<_> = (0..connections).map(open).collect();
    let listening = (0..connections).filter(|n| pick(*n).is_subscribed()).count() as u64;
    eventually("everyone to be where it should be", || {
        match Connected::ask(server.addr).subscriptions {
            n if n == listening => Ok(()),
            n => Err(format!("{n} subscriptions, not {listening}")),
        }
    });
    // Some leave with something unread, which makes a reset of a close.
    if round % 2 == 1 {
        call(server.addr, "POST", "/channels/abandoned", &[b'x'; 10_000]);
    }
    for (n, stream) in streams.into_iter().enumerate() {
        let how = if n / states.len() % 2 == 0 { Leave::Close } else { Leave::Reset };
        drop(how.leave(stream));
    }
}
