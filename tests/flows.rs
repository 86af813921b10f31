//! One behaviour per test, over whole engines in memory: no sockets, no sleeps, time jumps from
//! deadline to deadline. What is marked `both_paces` also runs one byte at a time, both ways.
#![allow(dead_code, unreachable_pub)]

#[path = "flows/app.rs"]
mod app;
#[path = "flows/budget.rs"]
mod budget;
#[path = "flows/channels.rs"]
mod channels;
#[path = "flows/cleanup.rs"]
mod cleanup;
#[path = "support/clock.rs"]
mod clock;
#[path = "flows/console.rs"]
mod console;
#[path = "flows/desk.rs"]
mod desk;
#[path = "flows/drain.rs"]
mod drain;
#[path = "flows/ends.rs"]
mod ends;
#[path = "flows/engines.rs"]
mod engines;
#[path = "flows/fairness.rs"]
mod fairness;
#[path = "flows/fan_out.rs"]
mod fan_out;
#[path = "flows/farewells.rs"]
mod farewells;
#[path = "flows/heartbeats.rs"]
mod heartbeats;
#[path = "flows/latest.rs"]
mod latest;
#[path = "flows/limits.rs"]
mod limits;
#[path = "flows/local.rs"]
mod local;
#[path = "flows/loops.rs"]
mod loops;
#[path = "flows/polls.rs"]
mod polls;
#[path = "flows/positions.rs"]
mod positions;
#[path = "flows/presence.rs"]
mod presence;
#[path = "flows/rates.rs"]
mod rates;
#[path = "flows/readers.rs"]
mod readers;
#[path = "flows/replay.rs"]
mod replay;
#[path = "flows/sends.rs"]
mod sends;
#[path = "support/sim.rs"]
mod sim;
#[path = "flows/tickets.rs"]
mod tickets;
#[path = "flows/traps.rs"]
mod traps;
#[path = "flows/words.rs"]
mod words;
#[path = "flows/writes.rs"]
mod writes;
