//! Black-box tests of HTTP/1.1: raw bytes to the real binary, every answer judged to the last byte.
//!
//! The tables know the published protocol only. A row says what is sent, in which pieces, and the
//! one outcome that is right; where the protocol leaves something open, the row says so and takes
//! every reading. Short requests are sent three ways: whole, byte by byte, and cut in the middle of
//! each CRLFCRLF. After each row the connection is either asked once more or read to its end, so
//! that exactly the wanted answers came. `http_sim` runs the same rows in memory, cut everywhere.
#![cfg(feature = "cli")]
#![allow(unreachable_pub)]

mod support;
#[path = "http_raw/tables.rs"]
mod tables;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use support::Running;
use tables::case::Case;
use tables::net::Loopback;
use tables::run::{self, Cut};
use tables::{live, report, slow};

/// Cases whose request is longer are sent whole only.
const CUT_MAX: usize = 2048;
const THREADS: usize = 12;
/// How long a read waits: longer than the server does for whoever hangs, on a machine that is busy.
/// `http_sim` runs the same rows with less.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same where the server hangs again and again, so that a whole table of hangs still ends.
const PATIENCE_LOST: Duration = Duration::from_millis(400);
const HANGS_MAX: usize = 12;

tables::each_table!(check);

/// Runs every row, several at a time; panics with all failures at once.
fn check(table: &[Case]) {
    let server = Running::start(&[]);
    let net = Loopback::new(server.addr);
    let runs: Vec<(&Case, Cut)> =
        table.iter().flat_map(|case| cuts_of(case).iter().map(move |cut| (case, *cut))).collect();
    let (next, hangs) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((case, cut)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let is_lost = hangs.load(Ordering::Relaxed) > HANGS_MAX;
                    let patience = if is_lost { PATIENCE_LOST } else { PATIENCE };
                    if let Err(failure) = run::run(&net, case, *cut, patience) {
                        hangs.fetch_add(usize::from(failure.is_silence), Ordering::Relaxed);
                        failures.lock().expect("no thread panicked").push(failure.text);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no thread panicked");
    failures.sort();
    report(&failures);
}

fn cuts_of(case: &Case) -> &'static [Cut] {
    if case.sent().len() > CUT_MAX {
        return &[Cut::Whole];
    }
    &[Cut::Whole, Cut::Bytes, Cut::Halves]
}

/// Runs checks side by side, each on a connection of its own.
fn side_by_side<T: Sync>(checks: &[T], run: impl Fn(&Loopback, &T) -> Result<(), String> + Sync) {
    let server = Running::start(&[]);
    let net = Loopback::new(server.addr);
    let failures: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> =
            checks.iter().map(|check| scope.spawn(|| run(&net, check).err())).collect();
        running.into_iter().filter_map(|t| t.join().expect("no check panics")).collect()
    });
    report(&failures);
}

#[test]
fn many_connections_and_many_bytes() {
    side_by_side(&live::checks(), |net, check| check.run(net));
}

#[test]
fn slow_clients_are_ended() {
    side_by_side(&slow::table(), slow::run);
}

#[test]
fn a_client_that_is_fast_enough_is_not_ended() {
    side_by_side(&[()], |net, ()| slow::fast_enough(net));
}
