//! What is drawn of which lines.

use super::*;

fn line(label: &str, depth: u32, rate: f64) -> String {
    format!(
        r#"{{"scenario":"echo","label":"{label}","profile":"{label}","parameters":{{"connections":50,"depth":{depth},"seconds":3}},"messages":5000,"per_second":1,"per_cpu_second":{rate},"latency_us":{{"p50":20,"p90":30,"p99":50,"p999":90,"p9999":95,"max":99}},"lost":0}}"#
    )
}

fn drawn(lines: &[String]) -> BTreeMap<String, String> {
    draw(&parse(&lines.join("\n")).expect("they are results")).into_iter().collect()
}

#[test]
fn rounds_become_a_ratio_to_the_floor() {
    let floor = [line("floor", 1, 100.0), line("floor", 1, 200.0), line("floor", 1, 50.0)];
    let own = [line("holdline", 1, 90.0), line("holdline", 1, 190.0), line("holdline", 1, 50.0)];
    let rate = &drawn(&[floor, own].concat())["echo-rate.svg"];
    // Each beside its own floor: 0.9, 0.95, 1; and never 90 to the median of 100.
    assert!(rate.contains("floor 1.00, holdline 0.95. "), "{rate}");
    assert!(
        rate.contains("Median of 3 rounds") && rate.contains(">50 connections, depth 1<"),
        "{rate}"
    );
}

#[test]
fn cases_are_what_differs() {
    let lines = [line("a", 1, 5000.0), line("a", 16, 7000.0), line("b", 16, 8000.0)];
    let charts = drawn(&lines);
    let names: Vec<&str> = charts.keys().map(String::as_str).collect();
    assert_eq!(names, ["echo-depth-1-latency.svg", "echo-depth-16-latency.svg", "echo-rate.svg"]);
    let rate = &charts["echo-rate.svg"];
    assert!(rate.contains("depth 1: a 5 k. depth 16: b 8 k, a 7 k. "), "{rate}");
    // 5000 messages have no 99.99th percentile; the longest stands where it is.
    assert!(charts["echo-depth-1-latency.svg"].contains("a, 99.98 %: 99 µs"));
}

#[test]
fn what_a_server_cannot_and_what_it_loses_is_said() {
    let cannot = r#"{"scenario":"echo","label":"c","cannot":"no WebSocket","parameters":{"connections":50,"depth":1}}"#;
    let lossy = line("b", 1, 300.0).replace(r#""lost":0"#, r#""lost":7"#);
    let rate = &drawn(&[cannot.into(), lossy, line("a", 1, 100.0)])["echo-rate.svg"];
    assert!(
        rate.contains("b 300 (7 lost, twice or out of order), a 100, c no WebSocket. "),
        "{rate}"
    );
}

#[test]
fn idle_connections_have_a_curve_and_a_price() {
    let steps = r#"{"scenario":"idle","label":"holdline","parameters":{"ws":10000},"memory":{"rss_before_kb":2000},"steps":[{"connections":1000,"rss_kb":2250,"bytes_per_connection":256},{"connections":10000,"rss_kb":4500,"bytes_per_connection":233.4}]}"#;
    let single = r#"{"scenario":"idle","label":"b","parameters":{"ws":5000},"memory":{"rss_before_kb":2000,"rss_kb":9000},"bytes_per_connection":1400}"#;
    let charts = drawn(&[steps.into(), single.into()]);
    let curve = &charts["idle-websocket-memory.svg"];
    assert!(
        curve.contains("holdline: from 2.05 MB to 4.61 MB. b: from 2.05 MB to 9.22 MB. "),
        "{curve}"
    );
    assert!(charts["idle-bytes.svg"].contains("WebSocket: holdline 233 B, b 1400 B. "));
}

#[test]
fn what_is_no_list_of_results_is_refused() {
    let error = |text: &str| parse(text).expect_err("it is none").to_string();
    assert!(error("").contains("no results"));
    assert!(error("\n{").starts_with("line 2: "));
    assert_eq!(error(r#"{"scenario":"echo"}"#), "line 1: no label");
    assert!(draw(&parse(r#"{"scenario":"x","label":"y"}"#).expect("a line")).is_empty());
}

#[test]
fn patterns_are_compared_with_each_other() {
    let line = |pattern: &str, rate: f64, bytes: f64| {
        format!(
            r#"{{"scenario":"patterns","label":"holdline","parameters":{{"pattern":"{pattern}","rate":{rate},"clients":100}},"messages":900,"latency_us":{{"p50":900,"p90":1000,"max":2000}},"bytes_per_update":{bytes},"requests_per_update":null}}"#
        )
    };
    let lines = [line("short", 0.1, 4000.0), line("ws", 0.1, 60.0), line("ws", 10.0, 50.0)];
    let charts = drawn(&lines);
    let bytes = &charts["patterns-bytes-per-update.svg"];
    assert!(bytes.contains("0.1 a second: short 4 kB, ws 60 B. 10 a second: ws 50 B. "), "{bytes}");
    let names: Vec<&str> = charts.keys().map(String::as_str).collect();
    let latency = ["patterns-0-1-a-second-latency.svg", "patterns-10-a-second-latency.svg"];
    assert_eq!(names, [&latency[..], &["patterns-bytes-per-update.svg"]].concat());
}

#[test]
fn a_flood_is_a_ratio_as_it_was_measured() {
    let line = r#"{"scenario":"flood","label":"holdline","parameters":{"connections":100},"p99_ratio":1.4,"messages":10}"#;
    let charts = drawn(&[line.into()]);
    assert!(charts["flood-p99-ratio.svg"].contains("holdline 1.40. "), "{charts:?}");
}
