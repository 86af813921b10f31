//! Load for servers that hold many connections, one thread, no runtime: how many messages a second of
//! the server's processor moves, how long they take, what a connection costs, and whether anything
//! is lost, comes twice or out of order. `--help` lists the scenarios.

mod args;
mod http;
mod listener;
mod meter;
mod net;
mod plot;
mod process;
mod profile;
mod progress;
mod publisher;
mod report;
mod scenario;
mod sequence;
mod svg;
mod ws;

use std::process::ExitCode;

/// Why a run came to nothing.
#[derive(Debug)]
pub enum Fault {
    /// What was asked for makes no sense.
    Usage(String),
    /// The profile has no way to do it.
    Cannot(String),
    /// Something did not go as it must.
    Wrong(String),
}

impl Fault {
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub fn wrong(text: impl Into<String>) -> Self {
        Self::Wrong(text.into())
    }

    fn status(&self) -> u8 {
        match self {
            Self::Wrong(_) => 1,
            Self::Usage(_) => 2,
            Self::Cannot(_) => 3,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(text) | Self::Cannot(text) | Self::Wrong(text) => f.write_str(text),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Wrong(error.to_string())
    }
}

fn run(args: args::Args) -> Result<(), Fault> {
    if args.scenario == "plot" { plot(&args) } else { scenario::run(args) }
}

/// Draws what was measured.
fn plot(args: &args::Args) -> Result<(), Fault> {
    args.only(&[])?;
    let ([results], Some(out)) = (&args.files[..], &args.out) else {
        return Err(Fault::usage("plot RESULTS.jsonl --out DIR"));
    };
    for path in plot::run(results, out)? {
        println!("{}", path.display());
    }
    Ok(())
}

fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("holdline-load: {fault}");
            ExitCode::from(fault.status())
        }
    }
}
