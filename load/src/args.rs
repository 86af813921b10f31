//! The command line.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::Fault;

pub const HELP: &str = "\
holdline-load SCENARIO [OPTIONS]: load for a server that holds connections

Scenarios
  echo       messages that come back       --connections 50 --depth 1 --size 64
  connect    connect, upgrade, one echo, close          --in-flight 16
  publish    publications with nobody there --connections 8 --depth 1 --size 64
  fanout     publications to all           --ws 1000 --sse 0 --poll 0 --window 1 --size 64
             --window N: so many at a time, then the next; --rate N: N a second, come what may
  idle       connections that only listen  --ws 1 --sse 0 --poll 0 --steps 1000,5000,10000
             memory, and processor time at rest, at each step; ws, sse and poll are shares of it;
             the last step may be max: what the descriptors of both processes allow
  resume     who comes back and catches up --ws 1000 --sse 0 --poll 0 --messages 100 --size 64
  flood      echoes, half of the time beside one that floods  --connections 100 --rate 50 --size 64
             --rate: messages a second of each of the well-behaved
  patterns   short polling (each second), long-polling, SSE and WebSocket, one after the other
             --connections 100 --rates 0.1,10 --size 64; 60 s each below one update a second, else
             20 s, or --seconds; --write FILE: between its lines patterns:begin and patterns:end

holdline-load plot RESULTS.jsonl --out DIR: draws what --json has written, as SVG files

Options
  --target URL     http://127.0.0.1:7070; other than loopback only with --force
  --profile FILE   how to speak to the server (TOML); holdline if there is none
  --pid PID        the server's process: its processor time and memory are measured
  --cpu N          runs on this processor only
  --sleep          sleeps when there is nothing to do, and does not spin
  --seconds N      that count: 3
  --warmup N       seconds before that: 0.5
  --label TEXT     its name in results: the profile's
  --json FILE      appends a line of results
  --quiet          no progress
  --force          also to other machines
";

/// What every scenario has.
#[derive(Clone, Debug)]
pub struct Common {
    pub target: SocketAddr,
    pub host: String,
    pub profile: Option<PathBuf>,
    pub pid: Option<u32>,
    pub cpu: Option<usize>,
    pub spins: bool,
    pub seconds: Duration,
    /// Somebody asked for that.
    pub seconds_given: bool,
    pub warmup: Duration,
    pub label: Option<String>,
    pub json: Option<PathBuf>,
    pub quiet: bool,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Args {
    pub scenario: String,
    pub common: Common,
    /// Options of the scenario, in order.
    pub own: Vec<(String, String)>,
    /// What stands there without a name.
    pub files: Vec<PathBuf>,
    /// Where results are drawn to.
    pub out: Option<PathBuf>,
}

/// Reads them. `--help` is written and ends the process.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, Fault> {
    read(words).map_err(|error| match error {
        Problem::Words(error) => Fault::usage(format!("{error} (--help lists them)")),
        Problem::Fault(fault) => fault,
    })
}

enum Problem {
    Words(lexopt::Error),
    Fault(Fault),
}

impl From<lexopt::Error> for Problem {
    fn from(error: lexopt::Error) -> Self {
        Self::Words(error)
    }
}

/// Names of options that only some scenarios have.
const OWN: [&str; 13] = [
    "connections",
    "depth",
    "size",
    "in-flight",
    "ws",
    "sse",
    "poll",
    "window",
    "rate",
    "rates",
    "messages",
    "steps",
    "write",
];

fn read(words: impl IntoIterator<Item = OsString>) -> Result<Args, Problem> {
    let mut parser = lexopt::Parser::from_args(words);
    let (mut scenario, mut url) = (None, "http://127.0.0.1:7070".to_owned());
    let (mut own, mut files, mut out, mut force) = (Vec::new(), Vec::new(), None, false);
    let mut common = Common {
        target: SocketAddr::from(([127, 0, 0, 1], 7070)),
        host: String::new(),
        profile: None,
        pid: None,
        cpu: None,
        spins: true,
        seconds: Duration::from_secs(3),
        seconds_given: false,
        warmup: Duration::from_millis(500),
        label: None,
        json: None,
        quiet: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => {
                print!("{HELP}");
                std::process::exit(0);
            }
            Value(value) if scenario.is_none() => scenario = Some(value.string()?),
            Value(value) => files.push(PathBuf::from(value)),
            Long("target") => url = parser.value()?.string()?,
            Long("profile") => common.profile = Some(parser.value()?.into()),
            Long("pid") => common.pid = Some(parser.value()?.parse()?),
            Long("cpu") => common.cpu = Some(parser.value()?.parse()?),
            Long("sleep") => common.spins = false,
            Long("seconds") => {
                (common.seconds, common.seconds_given) = (seconds(&mut parser)?, true);
            }
            Long("warmup") => common.warmup = seconds(&mut parser)?,
            Long("label") => common.label = Some(parser.value()?.string()?),
            Long("json") => common.json = Some(parser.value()?.into()),
            Long("out") => out = Some(parser.value()?.into()),
            Long("quiet") => common.quiet = true,
            Long("force") => force = true,
            Long(name) if OWN.contains(&name) => {
                let name = name.to_owned();
                own.push((name, parser.value()?.string()?));
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let scenario = scenario.ok_or_else(|| lexopt::Error::from("a scenario is missing"))?;
    (common.target, common.host) = resolve(&url, force).map_err(Problem::Fault)?;
    Ok(Args { scenario, common, own, files, out })
}

fn seconds(parser: &mut lexopt::Parser) -> Result<Duration, lexopt::Error> {
    let value = parser.value()?;
    let text = value.string()?;
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    // An hour bounds whatever somebody mistypes.
    let seconds = seconds.filter(|seconds| *seconds <= Duration::from_secs(3_600));
    seconds.ok_or_else(|| format!("'{text}' is no number of seconds up to 3600").into())
}

fn resolve(url: &str, force: bool) -> Result<(SocketAddr, String), Fault> {
    let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/').to_owned();
    let wrong = |why: &str| Fault::usage(format!("--target {url}: {why}"));
    if url.starts_with("https:") {
        return Err(wrong("there is no TLS here"));
    }
    let mut addresses =
        host.to_socket_addrs().map_err(|error| wrong(&format!("{error} (http://HOST:PORT)")))?;
    let target = addresses.next().ok_or_else(|| wrong("it has no address"))?;
    if !target.ip().is_loopback() && !force {
        return Err(wrong("it is another machine; --force if it is yours, and means to be loaded"));
    }
    Ok((target, host))
}

impl Args {
    /// The number given for an option of the scenario, or its default; `0..=most`.
    pub fn number(&self, name: &str, default: u64, most: u64) -> Result<u64, Fault> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| *number <= most);
        number.ok_or_else(|| Fault::usage(format!("--{name} {text}: a number up to {most}")))
    }

    /// The same where none at all makes no sense.
    pub fn positive(&self, name: &str, default: u64, most: u64) -> Result<u64, Fault> {
        match self.number(name, default, most)? {
            0 => Err(Fault::usage(format!("--{name} 0: a number from 1 to {most}"))),
            number => Ok(number),
        }
    }

    /// The last text given for an option of the scenario.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.own.iter().rev().find(|(given, _)| given == name).map(|(_, text)| text.as_str())
    }

    /// Refuses options of other scenarios.
    pub fn only(&self, known: &[&str]) -> Result<(), Fault> {
        match self.own.iter().find(|(given, _)| !known.contains(&given.as_str())) {
            None => Ok(()),
            Some((given, _)) => {
                Err(Fault::usage(format!("{} has no option --{given}", self.scenario)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Args, Fault> {
        parse(words.split_whitespace().map(OsString::from))
    }

    #[test]
    fn other_machines_are_refused_unless_forced() {
        assert!(parsed("echo --target http://192.0.2.1:80").is_err());
        assert!(parsed("echo --target http://192.0.2.1:80 --force").is_ok());
        assert!(parsed("echo --target http://[::1]:80").is_ok());
    }

    #[test]
    fn numbers_have_bounds() {
        let args = parsed("echo --depth 12").expect("it is right");
        assert_eq!(args.number("depth", 1, 100).expect("a number"), 12);
        assert_eq!(args.number("size", 64, 100).expect("the default"), 64);
        assert!(args.number("depth", 1, 10).is_err());
        assert!(args.only(&["size"]).is_err());
        assert!(parsed("echo --seconds 1e9").is_err());
        assert!(parsed("echo --dpeth 1").is_err());
        assert!(parsed("").is_err());
    }
}
