//! What a run says in the end: a line of JSON for programs, a few lines for people.

use std::io::Write;
use std::path::Path;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::Fault;
use crate::meter::Measured;
use crate::sequence::Wrongs;

/// From this share of its time on, a side is what limits.
const FULL: f64 = 0.9;

/// A run, as it will be told.
#[derive(Debug)]
pub struct Report {
    pub scenario: &'static str,
    pub label: String,
    pub profile: String,
    pub parameters: Map<String, Value>,
    pub measured: Measured,
    pub wrongs: Wrongs,
    /// What this scenario has to say besides.
    pub more: Map<String, Value>,
    /// What a message is here; nothing if none are counted.
    pub unit: &'static str,
    /// This program took all the time that it could get.
    pub spins: bool,
}

impl Report {
    /// Who had no time left.
    fn bottleneck(&self) -> &'static str {
        let measured = &self.measured;
        let is_full = measured.busy >= FULL;
        let Some(cpu) = measured.server_cpu else {
            return if is_full { "generator" } else { "unknown" };
        };
        match (cpu.as_secs_f64() / measured.seconds >= FULL, is_full) {
            (true, true) => "both",
            (true, false) => "server",
            (false, true) => "generator",
            (false, false) => "neither",
        }
    }

    fn per_cpu_second(&self) -> Option<f64> {
        let cpu = self.measured.server_cpu?.as_secs_f64();
        (cpu > 0.0).then(|| self.measured.messages as f64 / cpu)
    }

    /// Somebody else had the processor that this program wanted all of: times mean little then.
    fn is_disturbed(&self) -> bool {
        let share = self.measured.own_cpu.as_secs_f64() / self.measured.seconds;
        self.spins && share < FULL
    }

    /// One object.
    pub fn to_json(&self) -> Value {
        let measured = &self.measured;
        let memory = measured.memory;
        let mut line = json!({
            "scenario": self.scenario,
            "label": self.label,
            "profile": self.profile,
            "parameters": self.parameters,
            "unit": self.unit,
            "seconds": measured.seconds,
            "messages": measured.messages,
            "per_second": measured.messages as f64 / measured.seconds,
            "per_cpu_second": self.per_cpu_second(),
            "server_cpu_s": measured.server_cpu.map(|cpu| cpu.as_secs_f64()),
            "client_cpu_s": measured.own_cpu.as_secs_f64(),
            "client_busy": measured.busy,
            "latency_us": percentiles(&measured.latency),
            "lost": self.wrongs.lost,
            "duplicates": self.wrongs.duplicates,
            "disordered": self.wrongs.disordered,
            "memory": {
                "rss_before_kb": measured.memory_before.map(|memory| memory.rss),
                "anon_before_kb": measured.memory_before.map(|memory| memory.anon),
                "rss_kb": memory.map(|memory| memory.rss),
                "anon_kb": memory.map(|memory| memory.anon),
            },
            "bytes_in": measured.received,
            "bytes_out": measured.sent,
            "bottleneck": self.bottleneck(),
            "disturbed": self.is_disturbed(),
        });
        if let Value::Object(line) = &mut line {
            line.extend(self.more.clone());
        }
        line
    }

    /// Appends the line to a file.
    pub fn append(&self, json: Option<&Path>) -> Result<(), Fault> {
        if let Some(path) = json {
            let mut file = std::fs::File::options().create(true).append(true).open(path)?;
            writeln!(file, "{}", self.to_json())?;
        }
        Ok(())
    }

    /// Tells people.
    pub fn show(&self) -> Result<(), Fault> {
        let mut out = std::io::stdout().lock();
        out.write_all(self.to_text().as_bytes())?;
        Ok(())
    }

    fn to_text(&self) -> String {
        let measured = &self.measured;
        let parameters: Vec<String> =
            self.parameters.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let mut text = format!("{} {}: {}\n", self.label, self.scenario, parameters.join(", "));
        let rate = measured.messages as f64 / measured.seconds;
        if !self.unit.is_empty() {
            text += &format!("  {:>12} {} a second", grouped(rate), self.unit);
            if let Some(rate) = self.per_cpu_second() {
                text += &format!(", {} per second of the server's processor", grouped(rate));
            }
            text += "\n";
        }
        if !measured.latency.is_empty() {
            let at = |quantile| micros(&measured.latency, quantile);
            text += &format!(
                "  {:>12.0} µs at the median, {:.0} at 90 %, {:.0} at 99 %, {:.0} at most\n",
                at(0.5),
                at(0.9),
                at(0.99),
                measured.latency.max() as f64 / 1_000.0,
            );
        }
        for (name, value) in &self.more {
            if !value.is_array() && !value.is_object() && !value.is_null() {
                let value = shown(value);
                text += &format!("  {value:>12} {}\n", name.replace('_', " "));
            }
        }
        let Wrongs { lost, duplicates, disordered } = self.wrongs;
        if self.wrongs != Wrongs::default() {
            text +=
                &format!("  {lost:>12} LOST, {duplicates} came twice, {disordered} out of order\n");
        }
        let server = measured.server_cpu.map(|cpu| cpu.as_secs_f64() / measured.seconds);
        let server = server.map_or("unknown (no --pid)".to_owned(), percent);
        text += &format!("  {:>12} busy; the server {server}", percent(measured.busy));
        text += match self.bottleneck() {
            _ if self.unit.is_empty() => "\n",
            "generator" => {
                ". THE GENERATOR IS THE BOTTLENECK: read the rate per processor second\n"
            }
            "server" => ": the server is what was measured\n",
            "both" => ": both are at their end, the rate is the server's\n",
            "unknown" => "\n",
            _ => ": both waited for each other\n",
        };
        if self.is_disturbed() {
            text += "               Something else runs on this processor: times mean little.\n";
        }
        text
    }
}

/// A number with the digits that mean something.
pub fn shown(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if value.is_f64() && number.abs() < 0.1 => format!("{number:.5}"),
        Some(number) if value.is_f64() && number.abs() < 100.0 => format!("{number:.2}"),
        Some(number) => grouped(number),
        None => value.to_string(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// In microseconds.
pub fn micros(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1_000.0
}

/// In microseconds.
pub fn percentiles(latency: &Histogram<u64>) -> Value {
    if latency.is_empty() {
        return Value::Null;
    }
    let at = |quantile| micros(latency, quantile);
    json!({
        "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "p9999": at(0.9999),
        "max": latency.max() as f64 / 1_000.0,
    })
}

/// 1234567 as 1 234 567.
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!(grouped(7.0), "7");
        assert_eq!(grouped(1_234_567.2), "1 234 567");
        assert_eq!(grouped(123_456.0), "123 456");
    }
}
