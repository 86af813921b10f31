//! The end of `cargo bench`: one table of what this run has measured, and charts of it, read from what
//! Criterion left on the disk. It measures nothing, and says nothing where nothing was measured.

#[allow(dead_code, reason = "lines are for others")]
#[path = "../load/src/svg.rs"]
mod svg;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use svg::{Bar, Bars, Role, Scale, Words, bytes, escape, nanos, si};

/// With these nothing is measured, or it is not kept, or a program reads what is printed.
const SILENT: [&str; 9] = [
    "--test",
    "--list",
    "--help",
    "--version",
    "--profile-time",
    "--load-baseline",
    "--discard-baseline",
    "--output-format",
    "--format",
];
/// A change that is smaller is none, whatever the statistics say.
const NOISE: f64 = 0.03;
/// Where there is no telling when the run began: so long before the newest figure.
const RUN_AT_MOST: Duration = Duration::from_secs(3_600);
const HEADING: &str = "processor time of an iteration, throughput, change against the run before";
const STYLE: &str = "body{font:14px system-ui,sans-serif;max-width:800px;margin:2em auto;padding:0 1em}\
    table{border-collapse:collapse;width:100%}td,th{padding:2px 8px;text-align:right}\
    td:first-child,th{text-align:left}th{padding-top:1em}svg{margin-top:1em;max-width:100%;height:auto}\
    :root{color-scheme:light dark}";

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    // Cargo says so when it is to measure; else this is a test of whether it runs.
    let is_bench = args.iter().any(|arg| arg == "--bench");
    let is_silent = |arg: &String| SILENT.iter().any(|silent| arg.starts_with(silent));
    let is_read_elsewhere = env::var_os("CARGO_CRITERION_PORT").is_some();
    if !is_bench || is_read_elsewhere || args.iter().any(is_silent) {
        return;
    }
    let Some(folder) = criterion_folder() else { return };
    let mut all = Vec::new();
    read_all(&folder, &mut all);
    let begin = run_began(&all);
    // Alone it tells of whatever is there.
    if args.len() > 1 || all.iter().any(|one| one.at >= begin) {
        all.retain(|one| one.at >= begin);
    }
    if all.is_empty() {
        return;
    }
    all.sort_by_key(|one| one.at);
    let groups = group(all);
    print!("\n{}", table(&groups));
    match write(&groups, &folder.join("summary")) {
        Ok(index) => println!("\ndrawn in {}", index.display()),
        Err(error) => println!("\nnot drawn: {error}"),
    }
}

/// One benchmark.
struct Measured {
    group: String,
    name: String,
    /// When it was done.
    at: SystemTime,
    /// Nanoseconds for an iteration, and between which two they are.
    time: f64,
    range: (f64, f64),
    /// So much a second, with its unit.
    throughput: Option<String>,
    /// Against the run before, or the baseline that was asked for.
    change: Option<Change>,
}

#[derive(Clone, Copy)]
struct Change {
    share: f64,
    is_real: bool,
}

impl Change {
    fn said(self) -> String {
        let percent = self.share * 100.0;
        match self.is_real {
            true if percent < 0.0 => format!("{:.1} % less", -percent),
            true => format!("{percent:.1} % MORE"),
            false => "same".into(),
        }
    }
}

/// Where Criterion keeps its figures: beside the folder of this program.
fn criterion_folder() -> Option<PathBuf> {
    if let Some(home) = env::var_os("CRITERION_HOME") {
        return Some(home.into());
    }
    // TARGET/release/deps/PROGRAM, or with a triple between.
    let program = env::current_exe().ok()?;
    let above = program.ancestors().skip(3).take(2);
    above.map(|folder| folder.join("criterion")).find(|folder| folder.is_dir())
}

/// Every benchmark below a folder. What is not as expected belongs to somebody else.
fn read_all(folder: &Path, all: &mut Vec<Measured>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.join("new/estimates.json").is_file() {
            all.extend(read_one(&path));
        } else if path.is_dir() {
            read_all(&path, all);
        }
    }
}

fn read_one(folder: &Path) -> Option<Measured> {
    let benchmark = json(&folder.join("new/benchmark.json"))?;
    let estimates = json(&folder.join("new/estimates.json"))?;
    let estimate =
        if estimates["slope"].is_object() { &estimates["slope"] } else { &estimates["mean"] };
    let time = estimate["point_estimate"].as_f64()?;
    let bound = |name: &str| estimate["confidence_interval"][name].as_f64();
    let parts = [&benchmark["function_id"], &benchmark["value_str"]];
    let parts: Vec<&str> = parts.into_iter().filter_map(Value::as_str).collect();
    let at = modified(&folder.join("new/estimates.json"))?;
    let change = folder.join("change/estimates.json");
    // An older one compares other figures.
    let is_current = modified(&change).is_some_and(|changed| changed >= at);
    Some(Measured {
        group: benchmark["group_id"].as_str()?.to_owned(),
        name: parts.join(", "),
        at,
        time,
        range: (bound("lower_bound").unwrap_or(time), bound("upper_bound").unwrap_or(time)),
        throughput: throughput(&benchmark["throughput"], time),
        change: is_current.then(|| json(&change)).flatten().and_then(|change| read_change(&change)),
    })
}

fn read_change(change: &Value) -> Option<Change> {
    let mean = &change["mean"];
    let share = mean["point_estimate"].as_f64()?;
    let interval = &mean["confidence_interval"];
    let (low, high) = (interval["lower_bound"].as_f64()?, interval["upper_bound"].as_f64()?);
    Some(Change { share, is_real: share.abs() >= NOISE && low.signum() == high.signum() })
}

fn throughput(throughput: &Value, nanoseconds: f64) -> Option<String> {
    let (kind, amount) = throughput.as_object()?.iter().next()?;
    let each_second = amount.as_f64()? * 1e9 / nanoseconds;
    let number = if kind.starts_with("Bytes") { bytes(each_second) } else { si(each_second) };
    Some(format!("{number}/s"))
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// When the command began that runs this program: Cargo is what started it. Linux knows.
fn run_began(all: &[Measured]) -> SystemTime {
    let newest = all.iter().map(|one| one.at).max().unwrap_or(SystemTime::UNIX_EPOCH);
    parent_began().unwrap_or_else(|| newest.checked_sub(RUN_AT_MOST).unwrap_or(newest))
}

fn parent_began() -> Option<SystemTime> {
    // proc(5): the 22nd field, counted from 1, in hundredths of a second since the system began. The
    // second is a name in brackets, which may hold anything.
    let parent = std::os::unix::process::parent_id();
    let stat = fs::read_to_string(format!("/proc/{parent}/stat")).ok()?;
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let booted = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    let booted: u64 = booted.trim().parse().ok()?;
    // Both are rounded down; a little early does no harm.
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs((booted + ticks / 100).saturating_sub(1)))
}

/// By group, in the order of the run.
fn group(all: Vec<Measured>) -> Vec<(String, Vec<Measured>)> {
    let mut groups: Vec<(String, Vec<Measured>)> = Vec::new();
    for one in all {
        match groups.iter_mut().find(|(name, _)| *name == one.group) {
            Some((_, members)) => members.push(one),
            None => groups.push((one.group.clone(), vec![one])),
        }
    }
    groups
}

/// What is said of each: name, time, throughput, change.
fn row(one: &Measured) -> [String; 4] {
    let change = one.change.map_or(String::new(), Change::said);
    [one.name.clone(), nanos(one.time), one.throughput.clone().unwrap_or_default(), change]
}

fn table(groups: &[(String, Vec<Measured>)]) -> String {
    let rows: Vec<_> = groups.iter().flat_map(|(_, members)| members).map(row).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1).max(4), width(2), width(3)];
    let mut text = format!("{HEADING}\n\n");
    for (name, members) in groups {
        let _ = writeln!(text, "{name}");
        for [name, time, throughput, change] in members.iter().map(row) {
            let line = format!(
                "  {name:<0$}  {time:>1$}  {throughput:>2$}  {change:>3$}",
                widths[0], widths[1], widths[2], widths[3],
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text
}

fn chart(name: &str, members: &[Measured]) -> String {
    let bars = members.iter().map(|one| {
        let [name, time, throughput, change] = row(one);
        let said: Vec<String> =
            [time, throughput, change].into_iter().filter(|said| !said.is_empty()).collect();
        Bar {
            name,
            value: Some(one.time),
            range: Some(one.range),
            label: said.join(" · "),
            role: Role::Own,
        }
    });
    let times = || members.iter().map(|one| one.time);
    let is_wide = times().fold(0.0, f64::max) > 30.0 * times().fold(f64::INFINITY, f64::min);
    let words = Words {
        title: name.to_owned(),
        subtitle: "Time of an iteration, less is better.".into(),
        note: String::new(),
    };
    let scale = if is_wide { Scale::Log } else { Scale::Linear };
    let groups = vec![(String::new(), bars.collect())];
    Bars { words, groups, reference: None, scale, format: nanos }.draw()
}

/// Writes a chart for each group, and a page with all of them; returns where that is.
fn write(groups: &[(String, Vec<Measured>)], folder: &Path) -> io::Result<PathBuf> {
    // What another run drew would be taken for this one's.
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir_all(folder)?,
    }
    let (mut rows, mut charts) = (String::new(), String::new());
    for (name, members) in groups {
        let _ = write!(rows, "<tr><th colspan=\"4\">{}</th></tr>", escape(name));
        for cells in members.iter().map(row) {
            let cells = cells.map(|cell| format!("<td>{}</td>", escape(&cell)));
            let _ = write!(rows, "<tr>{}</tr>", cells.concat());
        }
        let svg = chart(name, members);
        let file: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        fs::write(folder.join(format!("{file}.svg")), &svg)?;
        charts += &svg;
    }
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>holdline: benchmarks</title>\
         <style>{STYLE}</style><h1>Benchmarks</h1><p>The {HEADING}.</p><table>{rows}</table>{charts}</html>\n"
    );
    let index = folder.join("index.html");
    fs::write(&index, page)?;
    Ok(index)
}
