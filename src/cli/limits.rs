//! `--limit NAME=VALUE`: the limits of addresses, connections and channels by name.

use std::time::Duration;

use holdline::{Config, Rate};

/// Sets one limit.
pub(crate) fn set(config: &mut Config, text: &str) -> Result<(), String> {
    let (name, value) = text.split_once('=').ok_or("a limit is NAME=VALUE")?;
    let rate = match name {
        "connections" => return number(value).map(|n| config.connections_per_address_max = n),
        "polls" => return number(value).map(|n| config.polls_per_address_max = n),
        "addresses" => return number(value).map(|n| config.addresses_max = n as usize),
        "accepts" => &mut config.accepts_per_address,
        "publishes" => &mut config.publishes_per_address,
        "new-channels" => &mut config.new_channels_per_address,
        "unauthorized" => &mut config.unauthorized_per_address,
        "operations" => &mut config.operations_per_connection,
        "channel-publishes" => &mut config.publishes_per_channel,
        _ => return Err(format!("there is no limit {name:?}")),
    };
    *rate = parse_rate(value)?;
    Ok(())
}

fn number(value: &str) -> Result<u32, String> {
    match value {
        "off" => Ok(0),
        _ => whole(value).ok_or_else(|| "a number, or off".to_owned()),
    }
}

/// `20/s`, `5/m`, `20/s:60`.
fn parse_rate(value: &str) -> Result<Rate, String> {
    if value == "off" {
        return Ok(Rate::OFF);
    }
    let bad = || "a rate is like 20/s, 5/m or 20/s:60 (60 at once), or off".to_owned();
    let (rate, burst) = match value.split_once(':') {
        Some((rate, burst)) => (rate, Some(whole(burst).ok_or_else(bad)?)),
        None => (value, None),
    };
    let (count, unit) = rate.split_once('/').ok_or_else(bad)?;
    let count = whole(count).filter(|count| *count <= 1_000_000).ok_or_else(bad)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        _ => return Err(bad()),
    };
    let every = Duration::from_secs(seconds) / count;
    Ok(Rate { burst: burst.unwrap_or(count), every })
}

fn whole(digits: &str) -> Option<u32> {
    digits.parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_name() {
        let mut config = Config::default();
        for text in ["connections=7", "polls=off", "accepts=20/s:60", "unauthorized=6/m"] {
            set(&mut config, text).expect("a limit");
        }
        assert_eq!((config.connections_per_address_max, config.polls_per_address_max), (7, 0));
        assert_eq!(config.accepts_per_address, Rate::per_second(20, 60));
        let six = Rate { burst: 6, every: Duration::from_secs(10) };
        assert_eq!(config.unauthorized_per_address, six);
        set(&mut config, "operations=off").expect("a limit");
        assert_eq!(config.operations_per_connection, Rate::OFF);
    }

    #[test]
    fn what_is_no_limit_is_a_mistake() {
        let mut config = Config::default();
        for bad in [
            "",
            "connections",
            "connections=",
            "connections=0",
            "connections=-1",
            "connections=5/s",
            "people=5",
            "accepts=5",
            "accepts=/s",
            "accepts=0/s",
            "accepts=5/h",
            "accepts=5/s:0",
            "accepts=5/s:off",
            "accepts=5/s:x",
            "accepts=1000001/s",
        ] {
            assert!(set(&mut config, bad).is_err(), "{bad}");
        }
        assert_eq!(config, Config::default());
    }
}
