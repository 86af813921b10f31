//! The `holdline` binary: a real-time server that runs with no set-up.

mod cli;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use cli::args::{self, Asked};
use cli::systemd::{self, Manager};
use holdline::Config;
use holdline::server::Turned;
use rustix::process::{Resource, getrlimit, setrlimit};

/// A mistake in the options.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    match args::read(std::env::args_os().skip(1), environment) {
        Ok(Asked::Help) => print(&args::help()),
        Ok(Asked::Version) => print(concat!("holdline ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Asked::Serve(config, level)) => {
            cli::log::start(level);
            serve(*config)
        }
        Err(mistake) => {
            eprintln!("holdline: {mistake}\nTry 'holdline --help'.");
            ExitCode::from(USAGE)
        }
    }
}

/// Prints to a reader that may go away, as `head` does.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(config: Config) -> ExitCode {
    raise_descriptor_limit();
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdline: {error}");
            let is_usage = error.kind() == ErrorKind::InvalidInput;
            ExitCode::from(if is_usage { USAGE } else { 1 })
        }
    }
}

fn run(config: Config) -> io::Result<()> {
    let mut server = config.bind_with(systemd::listeners()?, None)?;
    server.watch_signals()?;
    let addresses = server.local_addrs();
    print(&cli::banner::lines(&addresses));
    let mut manager = Manager::from_environment();
    manager.ready(&addresses);
    loop {
        let turned = server.turn(manager.next_timeout())?;
        manager.turned(server.is_shutting_down());
        if turned == Turned::Ended {
            return Ok(());
        }
    }
}

/// As many connections as the system lets us have. Only the binary does this: the limit is the
/// process's.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            log::debug!("the descriptor limit stays as it is: {error}");
        }
    }
}
