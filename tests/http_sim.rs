//! The tables of raw HTTP/1.1 over whole engines in memory: the same rows as `http_raw`, in every cut.
//!
//! A row that sends no more than some hundred bytes is sent whole, byte by byte (each way), cut in two
//! at every single place, and to clients that take their answers in small pieces. The server is what
//! the binary is with no options: listening on loopback, with loopback clients. After each run its
//! client goes, and after all runs of a row nothing of them may be left. No sockets, no features.
#![allow(dead_code, unreachable_pub)]

#[path = "http_raw/patience.rs"]
mod patience;
#[path = "support/sim.rs"]
mod sim;
#[path = "http_raw/tables.rs"]
mod tables;
#[path = "support/world.rs"]
mod world;

use std::time::Duration;

use sim::Pace;
use tables::case::{Case, Piece};
use tables::run::{self, Cut};
use tables::{http, live, net, report, slow};
use world::{Reader, World};

/// Requests up to this are cut at every place.
const CUT_EVERYWHERE_MAX: usize = 400;
/// Longer ones are cut at this many places, the ends of lines among them.
const CUTS_MAX: usize = 24;
/// Requests up to this are read byte by byte.
const BYTES_MAX: usize = 24 * 1024;
/// Virtual time.
const PATIENCE: Duration = Duration::from_secs(6);
/// Answers leave in pieces of at most so many bytes.
const READERS: [Reader; 3] = [
    Reader { window: 1, take: 1 },
    Reader { window: 7, take: 3 },
    Reader { window: 100, take: 64 },
];

tables::each_table!(check);

fn check(table: &[Case]) {
    let mut failures = Vec::new();
    let mut runs = 0;
    for case in table {
        check_case(case, &mut runs, &mut failures);
    }
    println!("{} rows in {runs} runs", table.len());
    report(&failures);
}

fn check_case(case: &Case, runs: &mut usize, failures: &mut Vec<String>) {
    let world = World::new(Pace::Whole, None);
    let mut first = None;
    let mut run = |world: &World, cut: Cut, how: &str| {
        *runs += 1;
        let outcome = run::run(world, case, cut, PATIENCE).map_err(|failure| failure.text);
        let fault = match outcome {
            Ok(outcome) if *first.get_or_insert_with(|| outcome.clone()) != outcome => {
                Err(format!("{} [{cut:?}]: {outcome:?}, whole {first:?}", case.name))
            }
            other => other.and_then(|_| world.check_deserted()),
        };
        if let Err(text) = fault {
            failures.push(format!("{how}: {text}"));
        }
    };
    run(&world, Cut::Whole, "whole");
    run(&world, Cut::Halves, "in halves");
    for place in places(case) {
        run(&world, Cut::At(place), "in two");
    }
    for reader in READERS {
        run(&world.at(Pace::Whole, Some(reader)), Cut::Whole, "to a slow reader");
    }
    if case.sent().len() <= BYTES_MAX {
        run(&world.at(Pace::Bytes, None), Cut::Bytes, "byte by byte");
    }
}

/// Where to cut in two: everywhere, or around some of the line ends of what is long.
fn places(case: &Case) -> Vec<usize> {
    let sent = case.sent();
    if sent.len() <= CUT_EVERYWHERE_MAX {
        return (1..sent.len()).collect();
    }
    let ends = (1..sent.len()).filter(|at| sent[at - 1] == b'\n' || sent[*at] == b'\r');
    let ends: Vec<usize> = ends.collect();
    let step = (ends.len() / CUTS_MAX).max(1);
    ends.into_iter().step_by(step).collect()
}

#[test]
fn many_connections_and_many_bytes() {
    let failures = live::checks().into_iter().filter_map(|check| {
        let world = World::new(Pace::Whole, None);
        check.run(&world).and_then(|()| world.check_deserted()).err()
    });
    report(&failures.collect::<Vec<_>>());
}

#[test]
fn slow_clients_are_ended() {
    let failures = slow::table().into_iter().filter_map(|slow| {
        let world = World::new(Pace::Whole, None);
        slow::run(&world, &slow).and_then(|()| world.check_deserted()).err()
    });
    report(&failures.collect::<Vec<_>>());
}

#[test]
fn a_client_that_is_fast_enough_is_not_ended() {
    report(
        &slow::fast_enough(&World::new(Pace::Whole, None)).err().into_iter().collect::<Vec<_>>(),
    );
}

#[test]
fn limits_that_are_far_away_hold_too() {
    for check in [
        patience::idle,
        patience::a_thousand_requests,
        patience::an_hour,
        patience::a_body_that_takes_too_long,
    ] {
        let world = World::new(Pace::Whole, None);
        check(&world);
        assert_eq!(world.check_deserted(), Ok(()));
    }
}

/// A judge that never says no proves nothing: rows that want what is wrong must fail.
#[test]
fn a_row_that_wants_something_else_fails() {
    let wrong = [
        Case::new("another status", tables::heads::NEXT).want(tables::case::status(204)).kept(),
        Case::new("an end", tables::heads::NEXT).want(tables::case::status(200)).closed(),
        Case::new("one answer more", tables::heads::NEXT)
            .want(tables::case::status(200))
            .want(tables::case::status(200)),
        Case::new("one answer less", tables::heads::NEXT)
            .and(tables::heads::NEXT)
            .want(tables::case::status(200)),
    ];
    for case in &wrong {
        assert!(matches!(case.pieces[..], [Piece::Send(_)]));
        let (mut runs, mut failures) = (0, Vec::new());
        check_case(case, &mut runs, &mut failures);
        assert_eq!(failures.len(), runs, "{} passes: {failures:?}", case.name);
    }
}
