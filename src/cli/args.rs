//! One table of options: each is a flag and an environment variable, and explains itself in `--help`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::Duration;

use holdline::engine::Policy;
use holdline::{Config, LOOPS_MAX};
use log::LevelFilter;

use super::limits;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    Serve(Box<Config>, LevelFilter),
    Help,
    Version,
}

struct Opt {
    name: &'static str,
    /// Placeholder of its value; empty for a switch.
    value: &'static str,
    help: &'static str,
    set: fn(&mut Settings, &str) -> Result<(), String>,
}

struct Settings {
    config: Config,
    level: LevelFilter,
}

const OPTIONS: &[Opt] = &[
    Opt {
        name: "listen",
        value: "ADDR",
        help: "where to listen: 7070 (both loopback addresses), ADDR:PORT,\n\
               :7070 (every interface), unix:PATH; may repeat [default: 7070]",
        set: |s, v| {
            each(v, |one| {
                s.config.listen.push(one.to_owned());
                Ok(())
            })
        },
    },
    Opt {
        name: "unix-mode",
        value: "MODE",
        help: "who may connect to unix:PATH, in octal, for example 660\n\
               [default: whom the umask leaves, mostly its owner alone]",
        set: |s, v| octal(v).map(|mode| s.config.unix_mode = Some(mode)),
    },
    Opt {
        name: "unix-group",
        value: "GROUP",
        help: "the group of unix:PATH: a name in /etc/group or a number; the\n\
               server has to be a member of it [default: the server's]",
        set: |s, v| match v {
            "" => Err("the value is empty".to_owned()),
            group => {
                s.config.unix_group = Some(group.to_owned());
                Ok(())
            }
        },
    },
    Opt {
        name: "open",
        value: "",
        help: "anyone who can reach it may do everything: no Origin, Host or\n\
               address checks; needed to listen on a public address",
        set: |s, v| switch(v).map(|on| s.config.open = on),
    },
    Opt {
        name: "origin",
        value: "URL",
        help: "pages of this origin may connect and publish, for example\n\
               https://app.example or https://*.example.org; may repeat",
        set: |s, v| each(v, |one| origin(one).map(|one| s.config.origins.push(one))),
    },
    Opt {
        name: "host",
        value: "NAME",
        help: "serve requests for this host name too; may repeat",
        set: |s, v| each(v, |one| host(one).map(|one| s.config.hosts.push(one))),
    },
    Opt {
        name: "trusted-proxy",
        value: "CIDR|unix",
        help: "believe the X-Forwarded-For of this address or network, or of\n\
               unix sockets: limits count for whom it names; may repeat",
        set: |s, v| {
            each(v, |one| {
                s.config.trusted_proxies.push(one.to_owned());
                Policy::check(&s.config)
            })
        },
    },
    Opt {
        name: "history",
        value: "N[,AGE[,BYTES]]",
        help: "what each channel keeps for those who come back\n\
               [default: 1000,5m,1M]",
        set: history,
    },
    Opt {
        name: "latest",
        value: "PATTERN",
        help: "channels that keep only the newest of each event name, * for any\n\
               characters, for example sensors.*; may repeat",
        set: |s, v| {
            each(v, |one| {
                s.config.latest.push(one.to_owned());
                Ok(())
            })
        },
    },
    Opt {
        name: "memory",
        value: "BYTES",
        help: "what clients may make the server hold; history gives way first\n\
               [default: a quarter of the memory, at most 512M]",
        set: |s, v| match size(v)? {
            // What the tables for a few connections take.
            0..0x1_0000 => Err("at least 64K".to_owned()),
            bytes => {
                s.config.memory_bytes = bytes;
                Ok(())
            }
        },
    },
    Opt {
        name: "data",
        value: "DIR",
        help: "keep history here over a planned restart: written after SIGINT\n\
               or SIGTERM, read at the next start [default: not kept]",
        set: |s, v| match v {
            "" => Err("the value is empty".to_owned()),
            dir => {
                s.config.data = Some(dir.into());
                Ok(())
            }
        },
    },
    Opt {
        name: "message-bytes-max",
        value: "BYTES",
        help: "the largest payload [default: 64K]",
        set: |s, v| match size(v)? {
            bytes if bytes <= 1024 * 1024 => {
                s.config.message_bytes_max = bytes;
                Ok(())
            }
            _ => Err("a message may be at most 1M".to_owned()),
        },
    },
    Opt {
        name: "connections-max",
        value: "N",
        help: "connections at a time [default: the descriptor limit less 64]",
        set: |s, v| match whole(v)? {
            0 => Err("at least one connection".to_owned()),
            count => {
                s.config.connections_max = count;
                Ok(())
            }
        },
    },
    Opt {
        name: "loops",
        value: "N",
        help: "threads that serve connections, 1 to 64 [default: 1]",
        set: |s, v| match whole(v)? {
            count @ 1..=LOOPS_MAX => {
                s.config.loops = count;
                Ok(())
            }
            _ => Err(format!("1 to {LOOPS_MAX} loops")),
        },
    },
    Opt {
        name: "limit",
        value: "NAME=VALUE",
        help: "per address: connections=100, polls=20, accepts=20/s:60,\n\
               publishes=20/s:50, new-channels=10/s:200, unauthorized=5/m;\n\
               per WebSocket: operations=50/s:100; per channel:\n\
               channel-publishes=500/s; addresses=100000 are remembered;\n\
               =off lifts one; clients of this machine have none; may repeat",
        set: |s, v| each(v, |one| limits::set(&mut s.config, one)),
    },
    Opt {
        name: "heartbeat",
        value: "TIME",
        help: "silence before a heartbeat\n[default: 25s on WebSockets, 15s on event streams]",
        set: |s, v| {
            let interval = time(v)?;
            if !(1..=3600).contains(&interval.as_secs()) {
                return Err("a heartbeat comes every 1s to 1h".to_owned());
            }
            (s.config.heartbeat, s.config.sse_heartbeat) = (interval, interval);
            Ok(())
        },
    },
    Opt {
        name: "keep-alive",
        value: "TIME",
        help: "how long a connection stays between two requests: longer than a\n\
               proxy in front keeps its own idle ones [default: 75s]",
        set: |s, v| match time(v)? {
            time if (1..=3600).contains(&time.as_secs()) => {
                s.config.keep_alive = time;
                Ok(())
            }
            _ => Err("1s to 1h".to_owned()),
        },
    },
    Opt {
        name: "drain",
        value: "TIME",
        help: "after a signal: how long clients may take to go; they are told one\n\
               by one, over most of it if they are many [default: 20s]",
        set: |s, v| time(v).map(|grace| s.config.drain = grace),
    },
    Opt {
        name: "drain-delay",
        value: "TIME",
        help: "before that: how long only /ready says 503 [default: 0s]",
        set: |s, v| time(v).map(|delay| s.config.drain_delay = delay),
    },
    Opt {
        name: "log-level",
        value: "LEVEL",
        help: "error, warn, info, debug or trace, to stderr [default: info]",
        set: |s, v| {
            s.level = v.parse().map_err(|_| "one of error, warn, info, debug, trace".to_owned())?;
            Ok(())
        },
    },
];

/// Reads the environment, then the arguments, which win.
pub(crate) fn read(
    args: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Asked, String> {
    // Whoever is on this machine may publish: this is a server that runs without set-up.
    let config = Config { local_publish: true, ..Config::default() };
    let mut settings = Settings { config, level: LevelFilter::Info };
    for option in OPTIONS {
        if let Some(value) = environment(&variable(option.name)) {
            (option.set)(&mut settings, &value)
                .map_err(|why| format!("{}={value}: {why}", variable(option.name)))?;
        }
    }
    let mut parser = lexopt::Parser::from_args(args);
    let mut given: Vec<&str> = Vec::new();
    while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
        let name = match arg {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => return Ok(Asked::Help),
            lexopt::Arg::Short('V') | lexopt::Arg::Long("version") => return Ok(Asked::Version),
            lexopt::Arg::Long(name) => name.to_owned(),
            other => return Err(other.unexpected().to_string()),
        };
        let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
            return Err(format!("there is no option --{name}"));
        };
        let value = if option.value.is_empty() {
            "true".to_owned()
        } else {
            let value = parser.value().map_err(|error| error.to_string())?;
            value.into_string().map_err(|_| format!("--{name}: the value is not UTF-8"))?
        };
        forget_environment(&mut settings, option.name, &mut given);
        (option.set)(&mut settings, &value).map_err(|why| format!("--{name} {value}: {why}"))?;
    }
    check_unix(&settings.config)?;
    Ok(Asked::Serve(Box::new(settings.config), settings.level))
}

/// What only means something with another option.
fn check_unix(config: &Config) -> Result<(), String> {
    let is_asked = config.unix_mode.is_some() || config.unix_group.is_some();
    if !is_asked || config.listen.iter().any(|listen| listen.starts_with("unix:")) {
        return Ok(());
    }
    let text = "--unix-mode and --unix-group are for --listen unix:PATH, and there is none (a \
                socket of a service manager has the mode that is set there)";
    Err(text.to_owned())
}

/// The first flag of a repeatable option replaces what the environment listed.
fn forget_environment(settings: &mut Settings, name: &'static str, given: &mut Vec<&str>) {
    if given.contains(&name) {
        return;
    }
    given.push(name);
    match name {
        "listen" => settings.config.listen.clear(),
        "origin" => settings.config.origins.clear(),
        "host" => settings.config.hosts.clear(),
        "trusted-proxy" => settings.config.trusted_proxies.clear(),
        "latest" => settings.config.latest.clear(),
        _ => {}
    }
}

fn variable(name: &str) -> String {
    format!("HOLDLINE_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// The text of `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "holdline: one message, published once, reaches every client over WebSocket,\n\
         Server-Sent Events or long-polling, in one order, and is there for those who\n\
         come back.\n\n\
         Usage: holdline [OPTIONS]\n\nOptions:\n",
    );
    for option in OPTIONS {
        let _ = writeln!(text, "  --{} {}", option.name, option.value);
        for line in option.help.lines() {
            let _ = writeln!(text, "        {}", line.trim_start());
        }
    }
    text.push_str(
        "  -h, --help\n  -V, --version\n\n\
         Sizes are written 8M or 64K, times 25s, 5m or 1h. Each option is also an\n\
         environment variable, lists by comma: HOLDLINE_LISTEN=7070,unix:/run/h.sock\n\n\
         Try it:\n  \
           holdline\n  \
           curl -N -H 'Accept: text/event-stream' http://127.0.0.1:7070/channels/demo\n  \
           curl -d 'hello' http://127.0.0.1:7070/channels/demo\n\n\
         Exit status: 0 after SIGINT or SIGTERM, 1 if it cannot run (a taken port), 2 for\n\
         a mistake in the options.\n",
    );
    text
}

fn each(list: &str, mut add: impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
    each_of(list, &mut add)
}

fn each_of(list: &str, add: &mut dyn FnMut(&str) -> Result<(), String>) -> Result<(), String> {
    let items: Vec<_> = list.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    if items.is_empty() {
        return Err("the value is empty".to_owned());
    }
    items.into_iter().try_for_each(add)
}

/// An origin as browsers write it (RFC 6454 §6.2): without the port that goes without saying.
fn origin(text: &str) -> Result<String, String> {
    if text == "null" {
        return Ok(text.to_owned());
    }
    let bad = || "an origin is like https://app.example or http://localhost:3000".to_owned();
    let text = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
    // RFC 3986 §3.1; extensions of browsers have schemes of their own.
    let in_scheme = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(in_scheme);
    let name = rest.strip_prefix("*.").unwrap_or(rest);
    let port = name.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    let (name, port) = port.unwrap_or((name, "0"));
    host(name).map_err(|_| bad())?;
    whole::<u16>(port).map_err(|_| bad())?;
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let rest = rest.strip_suffix(default_port).unwrap_or(rest);
    if is_scheme { Ok(format!("{scheme}://{rest}")) } else { Err(bad()) }
}

fn host(text: &str) -> Result<String, String> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    let is_address = |b: u8| b.is_ascii_hexdigit() || b".:".contains(&b);
    let address = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let is_host = match address {
        Some(address) => !address.is_empty() && address.bytes().all(is_address),
        None => !text.is_empty() && text.bytes().all(is_name),
    };
    if is_host {
        return Ok(text.to_owned());
    }
    Err("a host is a name or an address, without scheme, port or path".to_owned())
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

fn whole<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| "a whole number is needed".to_owned())
}

/// Permissions as chmod takes them.
fn octal(value: &str) -> Result<u32, String> {
    let is_octal =
        (3..=4).contains(&value.len()) && value.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = u32::from_str_radix(value, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or_else(|| "a mode is three octal digits, for example 660".to_owned())
}

fn size(value: &str) -> Result<usize, String> {
    let (digits, unit) = match value.as_bytes().last() {
        Some(b'K' | b'k') => (&value[..value.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&value[..value.len() - 1], 1 << 20),
        Some(b'G' | b'g') => (&value[..value.len() - 1], 1 << 30),
        _ => (value, 1),
    };
    let bad = || "a size is a number, or one with K, M or G".to_owned();
    digits.parse::<usize>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(bad)
}

fn time(value: &str) -> Result<Duration, String> {
    let (digits, unit) = match value.as_bytes().last() {
        Some(b's') => (&value[..value.len() - 1], 1),
        Some(b'm') => (&value[..value.len() - 1], 60),
        Some(b'h') => (&value[..value.len() - 1], 3600),
        Some(b'd') => (&value[..value.len() - 1], 86_400),
        _ => ("", 1),
    };
    let bad = || "a time is a number with s, m, h or d".to_owned();
    let seconds = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(bad)?;
    Ok(Duration::from_secs(seconds))
}

fn history(settings: &mut Settings, value: &str) -> Result<(), String> {
    let mut parts = value.split(',').map(str::trim);
    settings.config.history_messages = whole(parts.next().unwrap_or(""))?;
    if let Some(age) = parts.next() {
        settings.config.history_age = time(age)?;
    }
    if let Some(bytes) = parts.next() {
        settings.config.history_bytes = size(bytes)?;
    }
    match parts.next() {
        Some(_) => Err("at most a number, a time and a size".to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str], environment: &[(&str, &str)]) -> Result<Config, String> {
        let look_up = |name: &str| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        match read(args.iter().map(OsString::from), look_up)? {
            Asked::Serve(config, _) => Ok(*config),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_win_over_the_environment() {
        let environment = [("HOLDLINE_LISTEN", "1,2"), ("HOLDLINE_MEMORY", "8M")];
        let config = config(&["--listen=3", "--listen", "4"], &environment).expect("valid");
        assert_eq!(config.listen, ["3", "4"]);
        assert_eq!(config.memory_bytes, 8 << 20);
        assert!(config.local_publish && !config.open);
    }

    #[test]
    fn patterns_are_a_list() {
        let environment = [("HOLDLINE_LATEST", "a, b.*")];
        assert_eq!(config(&[], &environment).expect("valid").latest, ["a", "b.*"]);
        let given = config(&["--latest", "c,*", "--latest=d"], &environment).expect("valid");
        assert_eq!(given.latest, ["c", "*", "d"]);
    }

    #[test]
    fn history_takes_one_to_three_parts() {
        let read = config(&["--history", "10,1m,64K"], &[]).expect("valid");
        assert_eq!(read.history_messages, 10);
        assert_eq!(read.history_age, Duration::from_secs(60));
        assert_eq!(read.history_bytes, 64 << 10);
        for bad in ["", "x", "1,2", "1,2s,3x", "1,1s,1,1"] {
            assert!(config(&["--history", bad], &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn trusted_proxies_are_listed_by_comma_or_repeated() {
        let environment = [("HOLDLINE_TRUSTED_PROXY", "10.0.0.0/8, unix")];
        let listed = config(&[], &environment).expect("valid").trusted_proxies;
        assert_eq!(listed, ["10.0.0.0/8", "unix"]);
        let flags = ["--trusted-proxy", "::1", "--trusted-proxy=fd00::/8,192.0.2.1"];
        let listed = config(&flags, &environment).expect("valid").trusted_proxies;
        assert_eq!(listed, ["::1", "fd00::/8", "192.0.2.1"]);
    }

    #[test]
    fn origins_are_kept_as_browsers_write_them() {
        let given = [
            "https://App.example:443/",
            "http://[::1]:8080",
            "chrome-extension://abc",
            "https://*.b.example",
            "null",
        ];
        let args: Vec<_> = given.iter().flat_map(|one| ["--origin", one]).collect();
        let kept = config(&args, &[]).expect("valid").origins;
        let wanted = [
            "https://app.example",
            "http://[::1]:8080",
            "chrome-extension://abc",
            "https://*.b.example",
            "null",
        ];
        assert_eq!(kept, wanted);
    }

    #[test]
    fn a_drain_may_take_no_time_at_all() {
        let read = config(&["--drain", "0s", "--drain-delay=1m"], &[]).expect("valid");
        assert_eq!((read.drain, read.drain_delay), (Duration::ZERO, Duration::from_secs(60)));
        let read = config(&[], &[]).expect("valid");
        assert_eq!((read.drain, read.drain_delay), (Duration::from_secs(20), Duration::ZERO));
    }

    #[test]
    fn a_mode_is_octal_whatever_its_zeros() {
        for text in ["660", "0660"] {
            let read = config(&["--listen=unix:/x", "--unix-mode", text], &[]).expect("valid");
            assert_eq!((read.unix_mode, read.unix_group), (Some(0o660), None));
        }
        let environment =
            [("HOLDLINE_LISTEN", "7070,unix:/x"), ("HOLDLINE_UNIX_GROUP", "www-data")];
        let read = config(&[], &environment).expect("valid");
        assert_eq!((read.unix_mode, read.unix_group.as_deref()), (None, Some("www-data")));
    }

    #[test]
    fn loops_are_counted() {
        assert_eq!(config(&[], &[]).expect("valid").loops, 1);
        let environment = [("HOLDLINE_LOOPS", "3")];
        assert_eq!(config(&[], &environment).expect("valid").loops, 3);
        assert_eq!(config(&["--loops=64"], &environment).expect("valid").loops, 64);
    }

    #[test]
    fn mistakes_are_named() {
        let cases: &[&[&str]] = &[
            &["--lissten", "7070"],
            &["--memory", "much"],
            &["--memory", "63K"],
            &["--memory"],
            &["extra"],
            &["--heartbeat", "25"],
            &["--drain", "20"],
            &["--drain-delay", "-1s"],
            &["--log-level", "loud"],
            &["--message-bytes-max", "2M"],
            &["--connections-max", "0"],
            &["--loops", "0"],
            &["--loops", "65"],
            &["--loops", "many"],
            &["--origin", "app.example"],
            &["--origin", "*"],
            &["--origin", "https://app.example/page"],
            &["--origin", "https://app.example:http"],
            &["--origin", "https://[::1"],
            &["--trusted-proxy", "10.0.0.0/33"],
            &["--trusted-proxy", "proxy.example"],
            &["--trusted-proxy", ""],
            &["--unix-mode", "660"],
            &["--unix-group=0", "--listen=7070"],
            &["--unix-mode", "66", "--listen=unix:/x"],
            &["--unix-mode", "1777", "--listen=unix:/x"],
            &["--unix-mode", "0o660", "--listen=unix:/x"],
            &["--unix-mode", "u=rw", "--listen=unix:/x"],
            &["--unix-mode", "680", "--listen=unix:/x"],
            &["--unix-group", "", "--listen=unix:/x"],
            &["--keep-alive", "0s"],
            &["--keep-alive", "2h"],
            &["--limit", "connections"],
            &["--host", "a b"],
            &["--host", "app.example:8080"],
            &["--host", "http://app.example"],
        ];
        for args in cases {
            let error = config(args, &[]).expect_err("a mistake");
            assert!(!error.is_empty());
        }
    }

    #[test]
    fn the_limits_in_the_help_are_the_defaults() {
        let help = OPTIONS.iter().find(|option| option.name == "limit").expect("it is there").help;
        let words = help.split([' ', '\n']).map(|word| word.trim_end_matches([',', ';', ':']));
        let limits: Vec<_> = words.filter(|word| word.find('=').is_some_and(|at| at > 0)).collect();
        let off: Vec<_> = limits.iter().filter_map(|one| one.split_once('=')).collect();
        let lift: Vec<_> = off.iter().map(|(name, _)| format!("--limit={name}=off")).collect();
        let lifted = config(&lift.iter().map(|one| &**one).collect::<Vec<_>>(), &[]);
        let lifted = lifted.expect("valid");
        assert_eq!((lifted.addresses_max, lifted.accepts_per_address), (0, holdline::Rate::OFF));
        let mut args = lift;
        args.extend(limits.iter().map(|one| format!("--limit={one}")));
        let set = config(&args.iter().map(|one| &**one).collect::<Vec<_>>(), &[]).expect("valid");
        assert_eq!((limits.len(), set), (9, Config { local_publish: true, ..Config::default() }));
    }

    #[test]
    fn help_fits_a_terminal_and_names_every_option() {
        let help = help();
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
        for option in OPTIONS {
            assert!(help.contains(&format!("--{}", option.name)));
        }
    }
}
