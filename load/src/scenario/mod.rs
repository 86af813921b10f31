//! What can be measured. Each scenario is a file; what several need is here.

mod connect;
mod crowd;
mod echo;
mod fanout;
mod flood;
mod idle;
mod patterns;
mod publish;
mod resume;

use std::time::Duration;

use serde_json::{Map, Value};

use crate::Fault;
use crate::args::{Args, Common};
use crate::meter::{Measured, Meter};
use crate::net::Poll;
use crate::process::{self, Server};
use crate::profile::Profile;
use crate::report::Report;
use crate::sequence::Wrongs;

/// Whatever is measured, more than this is a slip of the keyboard.
const CONNECTIONS_MAX: u64 = 1_000_000;
const SIZE_MAX: u64 = 16 * 1024 * 1024;
/// For whatever must come before anything is measured, since the last that came.
/// What is still on its way at the end comes by then, or never.
const LAST: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs what the arguments ask for.
pub fn run(args: Args) -> Result<(), Fault> {
    match args.scenario.as_str() {
        "echo" => echo::run(&mut Run::new(args)?),
        "connect" => connect::run(&mut Run::new(args)?),
        "publish" => publish::run(&mut Run::new(args)?),
        "fanout" => fanout::run(&mut Run::new(args)?),
        "idle" => idle::run(&mut Run::new(args)?),
        "resume" => resume::run(&mut Run::new(args)?),
        "flood" => flood::run(&mut Run::new(args)?),
        "patterns" => patterns::run(&mut Run::new(args)?),
        other => Err(Fault::usage(format!("{other} is no scenario (--help lists them)"))),
    }
}

/// A run: its arguments, the server, and the one wait.
#[derive(Debug)]
pub struct Run {
    pub args: Args,
    pub profile: Profile,
    pub server: Option<Server>,
    pub poll: Poll,
}

impl Run {
    fn new(args: Args) -> Result<Self, Fault> {
        let profile = Profile::read(args.common.profile.as_deref())?;
        let server = args.common.pid.map(Server::new).transpose()?;
        if let Some(cpu) = args.common.cpu {
            process::pin(cpu)?;
        }
        let poll = Poll::new(args.common.spins)?;
        Ok(Self { args, profile, server, poll })
    }

    pub fn common(&self) -> &Common {
        &self.args.common
    }

    pub fn meter(&self) -> Result<Meter, Fault> {
        Meter::new(self.server, self.args.common.quiet)
    }

    /// Makes the meter run, as long as the arguments say.
    pub fn start(&self, meter: &mut Meter) {
        meter.start(self.common().warmup, self.common().seconds);
    }

    pub fn connections(&self, name: &str, default: u64) -> Result<usize, Fault> {
        Ok(self.args.number(name, default, CONNECTIONS_MAX)? as usize)
    }

    pub fn size(&self) -> Result<usize, Fault> {
        Ok(self.args.number("size", 64, SIZE_MAX)? as usize)
    }

    /// Tells what came out.
    pub fn tell(&self, outcome: Outcome) -> Result<(), Fault> {
        let Outcome { scenario, unit, parameters, measured, wrongs, more } = outcome;
        let label = self.common().label.clone().unwrap_or_else(|| self.profile.name.clone());
        let profile = self.profile.name.clone();
        let spins = self.common().spins;
        let report =
            Report { scenario, label, profile, parameters, measured, wrongs, more, unit, spins };
        report.append(self.common().json.as_deref())?;
        report.show()?;
        if report.measured.messages == 0 && !unit.is_empty() && report.wrongs == Wrongs::default() {
            return Err(Fault::wrong("nothing came back in the time that counts"));
        }
        faultless(report.wrongs)
    }
}

fn faultless(wrongs: Wrongs) -> Result<(), Fault> {
    match wrongs == Wrongs::default() {
        true => Ok(()),
        false => Err(Fault::wrong("messages were lost, came twice or out of order")),
    }
}

/// What a scenario says at its end.
#[derive(Debug)]
pub struct Outcome {
    pub scenario: &'static str,
    pub unit: &'static str,
    pub parameters: Map<String, Value>,
    pub measured: Measured,
    pub wrongs: Wrongs,
    pub more: Map<String, Value>,
}

/// Names and numbers, for a report.
pub fn parameters<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
