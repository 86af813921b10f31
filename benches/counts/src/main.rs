//! One scenario, run a fixed number of times, so that `run` can count the instructions of it.
//!
//! ```text
//! holdline-counts            names them all
//! holdline-counts SCENARIO   runs one, and says how many units it counted
//! ```
//!
//! Only what runs within [`counted`] is: not what builds a scenario up, not the rounds before tables
//! have their sizes, and not what clients do. Without callgrind this is a test that they run.

mod over_engine;
mod over_sockets;
#[path = "../../support/mod.rs"]
#[allow(dead_code, reason = "shared with benches that use the rest")]
mod support;

use std::hint::black_box;
use std::process::ExitCode;

/// How a round has its work done: counted, or not.
type Meter = fn(&mut dyn FnMut());
/// One round of a scenario; how many units it had.
type Round = Box<dyn FnMut(Meter) -> usize>;

/// What is counted, as a table of them.
struct Scenario {
    name: &'static str,
    /// What one of that costs.
    unit: &'static str,
    /// Rounds until everything has the size that it keeps.
    warm_up: usize,
    rounds: usize,
    begin: fn() -> Round,
}

const SCENARIOS: &[Scenario] = &[
    row("echo", "message", 4, 40, over_sockets::echo),
    row("echo-16", "message", 2, 10, over_sockets::echo_16),
    row("echo-16k", "message", 2, 10, over_sockets::echo_16k),
    row("fanout-ws", "delivery", 4, 40, over_engine::fan_out_ws),
    row("fanout-ws-16", "delivery", 2, 10, over_engine::fan_out_ws_16),
    row("fanout-sse", "delivery", 4, 40, over_engine::fan_out_sse),
    row("fanout-poll", "delivery", 1, 4, over_engine::fan_out_poll),
    row("publish", "request", 20, 100, over_sockets::publish),
    row("publish-16", "request", 4, 10, over_sockets::publish_16),
    row("commands", "command", 4, 20, over_engine::commands),
    row("connect", "connection", 2, 10, over_sockets::connect),
    row("resume", "message", 1, 4, over_engine::resume),
    row("heartbeats", "heartbeat", 1, 1, over_engine::heartbeats),
    row("idle", "turn", 4, 40, over_sockets::idle),
];

const fn row(
    name: &'static str,
    unit: &'static str,
    warm_up: usize,
    rounds: usize,
    begin: fn() -> Round,
) -> Scenario {
    Scenario { name, unit, warm_up, rounds, begin }
}

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        SCENARIOS.iter().for_each(|Scenario { name, unit, .. }| println!("{name}\t{unit}"));
        return ExitCode::SUCCESS;
    };
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == name) else {
        eprintln!("there is no scenario {name:?}");
        return ExitCode::from(2);
    };
    let mut round = (scenario.begin)();
    for _ in 0..scenario.warm_up {
        round(|work| work());
    }
    let units: usize = (0..scenario.rounds).map(|_| round(counted)).sum();
    println!("{units}");
    ExitCode::SUCCESS
}

/// What callgrind counts: it is told this name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    black_box(work); // no tail call, of which callgrind would not see the end
}

/// A frame as a client sends it.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![0x80 | opcode];
    match u16::try_from(payload.len()).expect("no frame here is longer") {
        len @ ..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend(len.to_be_bytes());
        }
    }
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
