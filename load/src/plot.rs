//! Draws what has been measured: a file of result lines in, SVG files out. For each scenario the rates
//! of all servers, as ratios to the floor where it ran too; how long messages take, by percentile;
//! and for idle connections what they cost. Runs of the same work are rounds: their median counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::svg::{Bar, Bars, Lines, Role, Scale, Series, Words, bytes, micros, ratio, si};

/// A file larger than this is no list of results.
const BYTES_MAX: u64 = 64 << 20;
/// Parameters that say how was measured, and not what.
const ASIDE: [&str; 4] = ["seconds", "warmup", "cpu", "sleep"];
/// These are said first, in this order; others follow by name.
const FIRST: [&str; 7] = ["connections", "clients", "ws", "sse", "poll", "depth", "window"];
const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("p9999", 0.9999)];

/// A field of some scenario that is drawn as it is; less of it is better.
struct Figure {
    field: &'static str,
    title: &'static str,
    subtitle: &'static str,
    scale: Scale,
    reference: Option<(f64, &'static str)>,
    format: fn(f64) -> String,
}

const FLOOD: Figure = Figure {
    field: "/p99_ratio",
    title: "Beside a client that floods: the others' p99, against without",
    subtitle: "How many times as long the slowest hundredth takes; less is better",
    scale: Scale::Linear,
    reference: Some((1.0, "no flood = 1.0")),
    format: ratio,
};

const PATTERNS: [Figure; 3] = [
    Figure {
        field: "/bytes_per_update",
        title: "Four ways to learn of news: bytes",
        subtitle: "On the wire, both ways, for each update and client; less is better. \
                   Each step of the scale is a factor",
        scale: Scale::Log,
        reference: None,
        format: bytes,
    },
    Figure {
        field: "/requests_per_update",
        title: "Four ways to learn of news: requests",
        subtitle: "For each update and client; less is better",
        scale: Scale::Linear,
        reference: None,
        format: ratio,
    },
    Figure {
        field: "/server_cpu_us_per_update",
        title: "Four ways to learn of news: the server's processor",
        subtitle: "Time for each update and client; less is better. Each step of the scale is a factor",
        scale: Scale::Log,
        reference: None,
        format: micros,
    },
];

/// Draws all of a file into a folder, and tells which files there are now.
pub(crate) fn run(results: &Path, out: &Path) -> io::Result<Vec<PathBuf>> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", results.display()));
    if fs::metadata(results).map_err(named)?.len() > BYTES_MAX {
        return Err(named(wrong("it is too large for a list of results")));
    }
    let runs = parse(&fs::read_to_string(results).map_err(named)?).map_err(named)?;
    fs::create_dir_all(out)?;
    let mut paths = Vec::new();
    for (name, svg) in draw(&runs) {
        paths.push(out.join(name));
        fs::write(&paths[paths.len() - 1], svg)?;
    }
    Ok(paths)
}

/// A line of results.
#[derive(Clone, Debug)]
struct Run {
    scenario: String,
    label: String,
    role: Role,
    parameters: Map<String, Value>,
    line: Value,
}

impl Run {
    fn number(&self, pointer: &str) -> Option<f64> {
        self.line.pointer(pointer).and_then(Value::as_f64)
    }

    /// Why there is no figure.
    fn cannot(&self) -> Option<&str> {
        match &self.line["cannot"] {
            Value::String(why) => Some(why),
            Value::Bool(true) => Some("cannot"),
            _ => None,
        }
    }

    /// What was not as it must be, of all that was delivered.
    fn wrongs(&self) -> f64 {
        ["/lost", "/duplicates", "/disordered"].iter().filter_map(|name| self.number(name)).sum()
    }
}

fn parse(text: &str) -> io::Result<Vec<Run>> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let runs = lines.map(|(line, number)| {
        parse_line(line).map_err(|error| wrong(&format!("line {number}: {error}")))
    });
    let runs = runs.collect::<io::Result<Vec<_>>>()?;
    if runs.is_empty() { Err(wrong("there are no results")) } else { Ok(runs) }
}

fn parse_line(line: &str) -> Result<Run, String> {
    let line: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    let scenario = text("scenario").ok_or("no scenario")?;
    let mut label = text("label").ok_or("no label")?;
    let profile = text("profile").unwrap_or_else(|| label.clone());
    let mut role = match () {
        () if label.starts_with("floor") || profile.starts_with("floor") => Role::Reference,
        () if label.starts_with("holdline") || profile.starts_with("holdline") => Role::Own,
        () => Role::Other,
    };
    let mut parameters = line["parameters"].as_object().cloned().unwrap_or_default();
    parameters
        .retain(|name, value| !ASIDE.contains(&name.as_str()) && !value.is_null() && *value != 0);
    if let Some(Value::String(pattern)) = parameters.remove("pattern") {
        // These are compared with each other, and not the servers.
        label = if role == Role::Own { pattern } else { format!("{pattern}, {label}") };
        role = Role::Other;
    }
    Ok(Run { scenario, label, role, parameters, line })
}

/// All charts, with the names of their files.
fn draw(runs: &[Run]) -> Vec<(String, String)> {
    let mut charts = Vec::new();
    let mut scenarios: Vec<&str> = Vec::new();
    for run in runs {
        if !scenarios.contains(&run.scenario.as_str()) {
            scenarios.push(&run.scenario);
        }
    }
    for scenario in scenarios {
        let runs: Vec<&Run> = runs.iter().filter(|run| run.scenario == scenario).collect();
        if scenario == "idle" {
            charts.extend(memory(&runs));
            continue;
        }
        let work = Work::new(scenario, &runs);
        match scenario {
            "flood" => charts.extend(figures(&work, &FLOOD)),
            "patterns" => charts.extend(PATTERNS.iter().filter_map(|one| figures(&work, one))),
            _ => charts.extend(rates(&work)),
        }
        charts.extend(latencies(&work));
    }
    charts
}

/// The runs of one scenario, by what they did: the parameters in which they differ.
struct Work<'a> {
    scenario: &'a str,
    cases: Vec<(String, Vec<&'a Run>)>,
    /// What was the same in all.
    common: String,
}

impl<'a> Work<'a> {
    fn new(scenario: &'a str, runs: &[&'a Run]) -> Self {
        let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.parameters.keys()).collect();
        let mut names: Vec<&String> = names.into_iter().collect();
        names.sort_by_key(|name| {
            FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len())
        });
        let (varying, common): (Vec<&String>, Vec<&String>) = names.into_iter().partition(|name| {
            runs.iter().any(|run| run.parameters.get(*name) != runs[0].parameters.get(*name))
        });
        let mut cases: Vec<(String, Vec<&Run>)> = Vec::new();
        for run in runs {
            let name = describe(&run.parameters, &varying);
            match cases.iter_mut().find(|(known, _)| *known == name) {
                Some((_, runs)) => runs.push(run),
                None => cases.push((name, vec![run])),
            }
        }
        let mut common = describe(&runs[0].parameters, &common);
        if runs.iter().any(|run| run.line["disturbed"] == true) {
            common += " (other programs wanted the processor meanwhile)";
        }
        Self { scenario, cases, common }
    }

    fn title(&self) -> &str {
        match self.scenario {
            "echo" => "Echo",
            "connect" => "Connect, upgrade, one echo, close",
            "publish" => "Publish by HTTP",
            "fanout" => "Fan-out",
            "resume" => "Coming back to what was missed",
            "flood" => "Beside a client that floods",
            "patterns" => "Four ways to learn of news",
            other => other,
        }
    }
}

fn describe(parameters: &Map<String, Value>, names: &[&String]) -> String {
    let said = names.iter().filter_map(|name| {
        let value = match parameters.get(*name)? {
            Value::Number(number) => number.as_f64().unwrap_or(f64::NAN).to_string(),
            other => other.to_string().replace('"', ""),
        };
        Some(match name.as_str() {
            "size" => format!("{value} B"),
            "rate" => format!("{value} a second"),
            "connections" | "clients" | "messages" | "ws" | "sse" | "poll" => {
                format!("{value} {name}")
            }
            other => format!("{} {value}", other.replace('_', " ")),
        })
    });
    said.collect::<Vec<_>>().join(", ")
}

/// Runs by label, in the order in which they first came.
fn by_label<'a>(runs: &[&'a Run]) -> Vec<(&'a str, Vec<&'a Run>)> {
    let mut all: Vec<(&str, Vec<&Run>)> = Vec::new();
    for run in runs {
        match all.iter_mut().find(|(label, _)| *label == run.label) {
            Some((_, runs)) => runs.push(run),
            None => all.push((&run.label, vec![run])),
        }
    }
    all
}

/// How much was done, in relation to the floor if there is one.
fn rates(work: &Work<'_>) -> Option<(String, String)> {
    let all = || work.cases.iter().flat_map(|(_, runs)| runs);
    let has_cpu = all().any(|run| run.number("/per_cpu_second").is_some());
    let field = if has_cpu { "/per_cpu_second" } else { "/per_second" };
    let is_ratio = work.cases.iter().any(|(_, runs)| {
        runs.iter().any(|run| run.role == Role::Reference && run.number(field).is_some())
    });
    all().find(|run| run.number(field).is_some())?;
    let groups = work.cases.iter().filter_map(|(name, runs)| {
        let bars = rate_bars(runs, field, is_ratio);
        bars.iter().any(|bar| bar.value.is_some()).then(|| (name.clone(), bars))
    });
    let groups: Vec<_> = groups.collect();
    let unit = all().find_map(|run| run.line["unit"].as_str()).unwrap_or("messages");
    let second = if has_cpu { "second of the server's processor" } else { "second" };
    let rounds = work.cases.iter().flat_map(|(_, runs)| by_label(runs));
    let rounds = rounds.map(|(_, runs)| runs.len()).max().unwrap_or(1);
    let words = Words {
        title: format!("{}: {unit} per {second}", work.title()),
        subtitle: format!(
            "{}; more is better.{}",
            if is_ratio {
                "Ratio to the floor, which does only what the kernel cannot spare"
            } else {
                "As counted"
            },
            if rounds > 1 {
                format!(" Median of {rounds} rounds, whiskers: least and most.")
            } else {
                String::new()
            },
        ),
        note: work.common.clone(),
    };
    let reference = is_ratio.then(|| (1.0, "floor = 1.0".to_owned()));
    let format = if is_ratio { ratio } else { si };
    let svg = Bars { words, groups, reference, scale: Scale::Linear, format }.draw();
    Some((format!("{}-rate.svg", slug(work.scenario)), svg))
}

fn rate_bars(runs: &[&Run], field: &str, is_ratio: bool) -> Vec<Bar> {
    let floor: Vec<f64> = runs
        .iter()
        .filter(|run| run.role == Role::Reference)
        .filter_map(|run| run.number(field))
        .collect();
    let middle = median(&floor).filter(|floor| *floor > 0.0);
    let mut bars: Vec<Bar> = by_label(runs)
        .into_iter()
        .map(|(label, runs)| {
            let rates: Vec<f64> = runs.iter().filter_map(|run| run.number(field)).collect();
            // Rounds are interleaved: each is compared with the floor beside it, if all have one.
            let is_paired = rates.len() == floor.len() && runs[0].role != Role::Reference;
            let beside = |at: usize| if is_paired { floor.get(at).copied() } else { middle };
            let values: Vec<f64> = match is_ratio {
                true => rates
                    .iter()
                    .enumerate()
                    .filter_map(|(at, rate)| Some(rate / beside(at)?))
                    .collect(),
                false => rates,
            };
            let value = median(&values);
            let why = runs.iter().find_map(|run| run.cannot()).unwrap_or("no figure");
            let label_text =
                value.map_or_else(|| why.to_owned(), if is_ratio { ratio } else { si });
            let wrongs: f64 = runs.iter().map(|run| run.wrongs()).sum();
            let is_bound = field == "/per_second"
                && runs.iter().all(|run| run.line["bottleneck"] == "generator");
            let more = match (wrongs > 0.0, is_bound) {
                (true, _) => format!(" ({wrongs:.0} lost, twice or out of order)"),
                (false, true) => " or more (the generator's limit)".into(),
                (false, false) => String::new(),
            };
            Bar {
                name: label.to_owned(),
                value,
                range: extremes(&values),
                label: label_text + &more,
                role: runs[0].role,
            }
        })
        .collect();
    // The floor first, then the best; what cannot do it last.
    let rank = |bar: &Bar| {
        let value = bar.value.unwrap_or(-1.0);
        if bar.role == Role::Reference { f64::INFINITY } else { value }
    };
    bars.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    bars
}

/// A figure of each run as it is.
fn figures(work: &Work<'_>, figure: &Figure) -> Option<(String, String)> {
    let groups = work.cases.iter().filter_map(|(name, runs)| {
        let mut bars: Vec<Bar> =
            by_label(runs).into_iter().map(|all| figure_bar(all, figure)).collect();
        bars.sort_by_key(|bar| bar.value.is_none());
        bars.iter().any(|bar| bar.value.is_some()).then(|| (name.clone(), bars))
    });
    let groups: Vec<_> = groups.collect();
    if groups.is_empty() {
        return None;
    }
    let words = Words {
        title: figure.title.into(),
        subtitle: figure.subtitle.into(),
        note: work.common.clone(),
    };
    let reference = figure.reference.map(|(value, name)| (value, name.to_owned()));
    let svg = Bars { words, groups, reference, scale: figure.scale, format: figure.format }.draw();
    let name = figure.field.trim_start_matches('/');
    Some((format!("{}-{}.svg", slug(work.scenario), slug(name)), svg))
}

fn figure_bar((label, runs): (&str, Vec<&Run>), figure: &Figure) -> Bar {
    let values: Vec<f64> = runs.iter().filter_map(|run| run.number(figure.field)).collect();
    let value = median(&values);
    let why = runs.iter().find_map(|run| run.cannot()).unwrap_or("no figure");
    Bar {
        name: label.to_owned(),
        value,
        range: extremes(&values),
        label: value.map_or_else(|| why.to_owned(), figure.format),
        role: runs[0].role,
    }
}

/// How long messages take: a chart for each case.
fn latencies(work: &Work<'_>) -> Vec<(String, String)> {
    let charts = work.cases.iter().filter_map(|(case, runs)| {
        let series: Vec<Series> = by_label(runs).into_iter().filter_map(latency_of).collect();
        if series.is_empty() {
            return None;
        }
        let values = || series.iter().flat_map(|series| &series.points).map(|point| point.1);
        let scale = scale_of(&values().collect::<Vec<_>>());
        let all = [case.as_str(), work.common.as_str()];
        let all: Vec<&str> = all.into_iter().filter(|said| !said.is_empty()).collect();
        let words = Words {
            title: format!("{}: latency by percentile", work.title()),
            subtitle: format!("{}; less is better", all.join(", ")),
            note: String::new(),
        };
        let x = ("percentile".into(), Scale::Percentile, ratio as fn(f64) -> String);
        let svg = Lines { words, x, y: ("latency".into(), scale, micros), series }.draw();
        let case = if case.is_empty() { String::new() } else { format!("-{}", slug(case)) };
        Some((format!("{}{case}-latency.svg", slug(work.scenario)), svg))
    });
    charts.collect()
}

fn latency_of((label, runs): (&str, Vec<&Run>)) -> Option<Series> {
    let at = |name: &str| {
        let values: Vec<f64> =
            runs.iter().filter_map(|run| run.number(&format!("/latency_us/{name}"))).collect();
        median(&values)
    };
    let counts: Vec<f64> = runs.iter().filter_map(|run| run.number("/messages")).collect();
    let count = median(&counts).unwrap_or(0.0);
    // A percentile of fewer messages than it takes is only the longest of them.
    let known = PERCENTILES.iter().filter(|(_, share)| count * (1.0 - share) >= 1.0);
    let mut points: Vec<(f64, f64)> =
        known.filter_map(|(name, share)| Some((*share, at(name)?))).collect();
    if let (Some(most), true) = (at("max"), count > 1.0) {
        let last = points.last().map_or(0.0, |point| point.0);
        points.push(((1.0 - 1.0 / count).max(last), most));
    }
    (points.len() > 1).then(|| Series { name: label.to_owned(), points, role: runs[0].role })
}

/// What idle connections cost: a curve for each transport, and bars of what one of them takes.
fn memory(runs: &[&Run]) -> Vec<(String, String)> {
    let mut by_transport: BTreeMap<String, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        by_transport.entry(transport(run)).or_default().push(run);
    }
    let (mut charts, mut groups) = (Vec::new(), Vec::new());
    for (transport, runs) in &by_transport {
        let curves: Vec<_> = by_label(runs).into_iter().map(curve).collect();
        let mut bars: Vec<Bar> = curves.iter().filter_map(|curve| curve.bar.clone()).collect();
        bars.sort_by(|a, b| a.value.unwrap_or(f64::MAX).total_cmp(&b.value.unwrap_or(f64::MAX)));
        if bars.iter().any(|bar| bar.value.is_some()) {
            groups.push((transport.clone(), bars));
        }
        let series: Vec<_> = curves.into_iter().map(|curve| curve.series).collect();
        let series: Vec<_> = series.into_iter().filter(|one| one.points.len() > 1).collect();
        if series.is_empty() {
            continue;
        }
        let words = Words {
            title: format!("Memory by number of idle connections: {transport}"),
            subtitle: "Resident memory of the server; each connection listens to one channel. Less is better.".into(),
            note: String::new(),
        };
        let x = ("connections".into(), Scale::Linear, si as fn(f64) -> String);
        let ends: Vec<f64> = series.iter().filter_map(|one| Some(one.points.last()?.1)).collect();
        let svg = Lines { words, x, y: ("resident".into(), scale_of(&ends), bytes), series }.draw();
        charts.push((format!("idle-{}-memory.svg", slug(transport)), svg));
    }
    if !groups.is_empty() {
        let words = Words {
            title: "Memory of an idle connection".into(),
            subtitle: "Private memory of the server per connection that listens to one channel; less is better. \
                       Each step of the scale is a factor.".into(),
            note: String::new(),
        };
        let svg = Bars { words, groups, reference: None, scale: Scale::Log, format: bytes }.draw();
        charts.push(("idle-bytes.svg".into(), svg));
    }
    charts
}

fn transport(run: &Run) -> String {
    let names = [("ws", "WebSocket"), ("sse", "event stream"), ("poll", "held poll")];
    let has = |name| run.parameters.get(name).and_then(Value::as_f64).unwrap_or(0.0) > 0.0;
    let used = names.into_iter().filter(|(name, _)| has(*name)).map(|(_, said)| said);
    let used = used.collect::<Vec<_>>().join(", ");
    if used.is_empty() { "connections".into() } else { used }
}

struct Curve {
    series: Series,
    bar: Option<Bar>,
}

/// From all runs of a server with one transport; a run has one step, or a list of them.
fn curve((label, runs): (&str, Vec<&Run>)) -> Curve {
    let mut resident: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let mut each: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for run in &runs {
        if let Some(kib) = run.number("/memory/rss_before_kb") {
            resident.entry(0).or_default().push(kib * 1024.0);
        }
        let whole = std::slice::from_ref(&run.line);
        let steps = run.line["steps"].as_array().map_or(whole, Vec::as_slice);
        for step in steps {
            let own =
                ["ws", "sse", "poll"].iter().filter_map(|name| run.parameters.get(*name)?.as_u64());
            let count = step["connections"].as_u64().unwrap_or_else(|| own.sum());
            let rss = step["rss_kb"].as_f64().or_else(|| step["memory"]["rss_kb"].as_f64());
            resident.entry(count).or_default().extend(rss.map(|kib| kib * 1024.0));
            each.entry(count).or_default().extend(step["bytes_per_connection"].as_f64());
        }
    }
    let points = resident.iter().filter_map(|(count, all)| Some((*count as f64, median(all)?)));
    let series = Series { name: label.to_owned(), points: points.collect(), role: runs[0].role };
    let most = each.iter().rev().find(|(_, values)| !values.is_empty());
    let value = most.and_then(|(_, values)| median(values));
    let why = runs.iter().find_map(|run| run.cannot());
    let text = value
        .map(|value| if value < 9_999.5 { format!("{value:.0} B") } else { bytes(value) })
        .or(why.map(str::to_owned));
    let bar = text.map(|text| Bar {
        name: label.to_owned(),
        value: value.map(|value| value.max(1.0)),
        range: most
            .and_then(|(_, values)| extremes(values))
            .map(|(low, high)| (low.max(1.0), high.max(1.0))),
        label: text,
        role: runs[0].role,
    });
    Curve { series, bar }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        _ if sorted.is_empty() => None,
        0 => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        _ => Some(sorted[middle]),
    }
}

fn extremes(values: &[f64]) -> Option<(f64, f64)> {
    let least = values.iter().copied().reduce(f64::min)?;
    Some((least, values.iter().copied().reduce(f64::max)?))
}

/// Linear, unless the least could not be seen beside the most.
fn scale_of(values: &[f64]) -> Scale {
    match extremes(values) {
        Some((least, most)) if most > 20.0 * least => Scale::Log,
        _ => Scale::Linear,
    }
}

/// A name for a file.
fn slug(words: &str) -> String {
    let lower = words.to_lowercase();
    let parts = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-")
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
#[path = "plot_tests.rs"]
mod tests;
