//! What an operator asks before anything else: does it stay within its memory while crowds come and
//! go, and what do clients notice of a restart? Small by default; in full, with the tables of
//! docs/operating.md, by
//!
//! ```text
//! HOLDLINE_FULL=1 cargo test --release --test operating -- --nocapture --test-threads 1
//! ```
#![cfg(all(feature = "server", target_os = "linux"))]
#![allow(dead_code, unreachable_pub)]

#[path = "operating/crowd.rs"]
mod crowd;
#[path = "operating/publisher.rs"]
mod publisher;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crowd::{Crowd, TRANSPORTS};
use publisher::Publisher;
use support::{Running, terminate};

/// Channels whose history together is more than there is memory for.
const HEAVY: [&str; 12] = [
    "heavy.0", "heavy.1", "heavy.2", "heavy.3", "heavy.4", "heavy.5", "heavy.6", "heavy.7",
    "heavy.8", "heavy.9", "heavy.10", "heavy.11",
];

fn is_full() -> bool {
    std::env::var_os("HOLDLINE_FULL").is_some()
}

/// So many in full, so many by default.
fn sized(full: usize, small: usize) -> usize {
    if is_full() { full } else { small }
}

fn kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
    line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").parse().unwrap_or(0)
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Crowds come in waves, and some read nothing, while it publishes: memory stays where it was said.
#[test]
fn a_small_memory_holds_while_crowds_come_and_slow_ones_stall() {
    let server = Running::start(&["--memory", "8M"]);
    let pid = server.pid();
    let (lazy, wave, waves) = (sized(1_000, 50), sized(5_000, 200), sized(4, 2));
    let start = kib(pid, "VmRSS");
    println!(
        "{:<26} {:>8} {:>8} {:>9} {:>10} {:>9}",
        "", "here", "503", "RSS KiB", "used KiB", "messages"
    );
    let mut slow = Crowd::new(server.addr, HEAVY[0]);
    slow.add(lazy, Duration::from_secs(1), true);
    slow.comes_back = false;
    slow.run(Duration::from_secs(20), |slow| slow.greeted() == lazy);
    let every = Duration::from_millis(200);
    let heavy = HEAVY.map(|channel| Publisher::start(server.addr, channel, every, 30_000));
    let mut peak = 0;
    let mut report = |what: &str, here: usize, put_off: u64, messages: u64| {
        let (rss, used) = (kib(pid, "VmRSS"), used_bytes(&server) / 1024);
        println!("{what:<26} {here:>8} {put_off:>8} {rss:>9} {used:>10} {messages:>9}");
        peak = peak.max(rss);
        assert!(used <= 8 * 1024, "{used} KiB are counted");
    };
    slow.run(Duration::from_secs(3), |_| false);
    report("slow ones stall", slow.greeted(), slow.seen.put_off, 0);
    for number in 1..=waves {
        let mut crowd = Crowd::new(server.addr, "news");
        crowd.add(wave, Duration::from_secs(2), false);
        let news = Publisher::start(server.addr, "news", Duration::from_millis(200), 100);
        crowd.run(Duration::from_secs(if is_full() { 15 } else { 4 }), |_| false);
        news.stop();
        report(
            &format!("wave {number} is here"),
            crowd.greeted(),
            crowd.seen.put_off,
            crowd.seen.messages,
        );
        assert_eq!((crowd.seen.missed, crowd.seen.twice), (0, 0), "lost or told twice");
        crowd.leave();
        drop(crowd);
        slow.run(Duration::from_millis(500), |_| false);
        report(&format!("wave {number} has gone"), slow.greeted(), 0, 0);
    }
    heavy.into_iter().for_each(|one| _ = one.stop());
    drop(slow);
    println!("RSS: {start} KiB at the start, {peak} KiB at most, with a budget of 8192 KiB");
    assert!(peak < start + 8 * 1024 + 4 * 1024, "{peak} KiB");
}

fn used_bytes(server: &Running) -> u64 {
    let answer =
        server.exchange(b"GET /stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let at = text.find("\"used\":").expect("memory used") + 7;
    text[at..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .expect("a number")
}

/// A crowd, a restart with its history kept and its socket handed on: nobody misses a message.
#[test]
fn a_restart_with_its_history_is_no_gap_for_anyone() {
    let (count, drain) = (sized(9_999, 99), if is_full() { 20 } else { 3 });
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let addr = listener.local_addr().expect("an address");
    let data = std::env::temp_dir().join(format!("holdline-restart-{}", std::process::id()));
    let _ = fs::remove_dir_all(&data);
    let mut first = activate(&listener, &data, drain);
    let mut crowd = Crowd::new(addr, "news");
    crowd.add(count, Duration::from_secs(if is_full() { 5 } else { 1 }), false);
    let every = Duration::from_millis(if is_full() { 1_000 } else { 100 });
    let news = Publisher::start(addr, "news", every, 100);
    let are_here =
        crowd.run(Duration::from_secs(60), |crowd| crowd.clients.iter().all(|c| c.last > 0));
    assert!(are_here, "{} of {count} are here", crowd.greeted());
    println!("{count} clients are here, {} KiB", kib(first.id(), "VmRSS"));

    let told = Instant::now();
    terminate(first.id());
    let mut second = None;
    let mut ended = Duration::ZERO;
    crowd.run(Duration::from_secs(drain + 60), |crowd| {
        if second.is_none() && first.try_wait().expect("waits").is_some() {
            ended = told.elapsed();
            second = Some(activate(&listener, &data, drain));
        }
        second.is_some() && crowd.seen.away.len() == count
    });
    let stopped = news.stop();
    let all =
        crowd.run(Duration::from_secs(30), |crowd| crowd.clients.iter().all(|c| c.last == stopped));
    let seen = &crowd.seen;
    println!(
        "the first server ended {:.1} s after it was told to, with {:?}",
        ended.as_secs_f64(),
        first.wait()
    );
    println!(
        "\n{:<6} {:>9} {:>10} {:>10} {:>10} {:>10}",
        "", "farewells", "first s", "median s", "p90 s", "last s"
    );
    for transport in TRANSPORTS {
        let mut at: Vec<_> = seen
            .farewells
            .iter()
            .filter(|(t, _)| *t == transport)
            .map(|(_, at)| (*at - told).as_secs_f64())
            .collect();
        at.sort_by(f64::total_cmp);
        let p =
            |percent: usize| at.get((at.len() - 1) * percent / 100).copied().unwrap_or(f64::NAN);
        println!(
            "{:<6} {:>9} {:>10.2} {:>10.2} {:>10.2} {:>10.2}",
            format!("{transport:?}").to_lowercase(),
            at.len(),
            p(0),
            p(50),
            p(90),
            p(100)
        );
    }
    let mut away: Vec<_> = seen.away.iter().map(Duration::as_secs_f64).collect();
    away.sort_by(f64::total_cmp);
    println!(
        "\nmessages {}, missed {}, twice {}, gaps {}; connections refused {}, cut without a farewell {}, put off {}",
        seen.messages, seen.missed, seen.twice, seen.gaps, seen.refused, seen.cut, seen.put_off
    );
    println!("away: median {:.1} s, longest {:.1} s", away[away.len() / 2], away[away.len() - 1]);
    if let Some(mut second) = second {
        let _ = second.kill();
        let _ = second.wait();
    }
    let _ = fs::remove_dir_all(&data);
    assert!(all, "somebody did not get the last message");
    assert_eq!((seen.missed, seen.twice, seen.gaps), (0, 0, 0), "missed, twice, gaps");
    assert_eq!((seen.refused, seen.cut), (0, 0), "refused, cut");
}

/// Starts the binary as systemd would, on a socket that outlives it.
fn activate(listener: &TcpListener, data: &std::path::Path, drain: u64) -> Child {
    let listener = OwnedFd::from(listener.try_clone().expect("clones"));
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null";
    Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_holdline"), "--log-level", "warn"])
        .args(["--drain", &format!("{drain}s"), "--data"])
        .arg(data)
        .stdin(Stdio::from(listener))
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary starts")
}
