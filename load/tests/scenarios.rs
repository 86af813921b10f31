//! The generator as people run it: against the floor, against the real server where `HOLDLINE_BINARY`
//! names one, and against servers that do wrong, of which it must say so, soon.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What is wrong is told within this time.
const SOON: Duration = Duration::from_secs(60);

/// A server that ends with the test.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let out = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).expect("it speaks");
        let url = line.trim().strip_prefix("listening on ").expect("where it listens").to_owned();
        Self { child, url }
    }

    fn floor() -> Self {
        Self::floor_of("http")
    }

    fn floor_of(mode: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdline-floor"));
        command.args([mode, "--port", "0"]);
        Self::start(command)
    }

    /// The real one, if there is one.
    fn holdline() -> Option<Self> {
        let Some(binary) = std::env::var_os("HOLDLINE_BINARY") else {
            eprintln!("skipped: HOLDLINE_BINARY names no server");
            return None;
        };
        let mut command = Command::new(binary);
        command.args(["--listen", "127.0.0.1:0"]);
        Some(Self::start(command))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file of this test alone.
fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{number}-{}-{name}", std::process::id()))
}

fn load(url: &str, words: &str, more: &[&str]) -> (Output, Duration) {
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_holdline-load"))
        .args(words.split_whitespace())
        .args(["--target", url, "--quiet", "--sleep"])
        .args(more)
        .output()
        .expect("it runs");
    (output, began.elapsed())
}

/// What it wrote to people and where it is wrong.
fn told(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{out}{err}")
}

/// Runs it and returns the lines of results, which all scenarios have in common.
fn measured(server: &Server, profile: &str, words: &str) -> Vec<Value> {
    let json = scratch("results.jsonl");
    let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(profile);
    let more = [
        "--pid".to_owned(),
        server.child.id().to_string(),
        "--json".to_owned(),
        json.display().to_string(),
        "--profile".to_owned(),
        profile.join("profile.toml").display().to_string(),
        "--warmup".to_owned(),
        "0.05".to_owned(),
    ];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let (output, _) = load(&server.url, words, &more);
    assert_eq!(output.status.code(), Some(0), "{words}: {}", told(&output));
    let text = std::fs::read_to_string(&json).expect("there are results");
    std::fs::remove_file(&json).expect("they were there");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    for line in &lines {
        assert_eq!(line["scenario"], words.split(' ').next().expect("a word"), "{line}");
        for wrong in ["lost", "duplicates", "disordered"] {
            assert_eq!(line[wrong], 0, "{line}");
        }
        for number in ["seconds", "per_second", "server_cpu_s", "client_cpu_s", "client_busy"] {
            assert!(line[number].is_f64(), "{number} in {line}");
        }
        assert!(line["memory"]["anon_kb"].as_u64() > Some(0), "{line}");
    }
    lines
}

fn one(lines: Vec<Value>) -> Value {
    let [line] = <[Value; 1]>::try_from(lines).expect("one run is one line");
    line
}

fn number(line: &Value, name: &str) -> f64 {
    line[name].as_f64().unwrap_or_else(|| panic!("{name} is a number in {line}"))
}

#[test]
fn the_floor_can_do_what_its_profile_says() {
    let server = Server::floor();
    for words in [
        "echo --connections 4 --depth 3 --seconds 0.2",
        "connect --in-flight 2 --seconds 0.2",
        "publish --connections 2 --depth 4 --seconds 0.2",
        "fanout --ws 3 --sse 3 --poll 3 --window 4 --seconds 0.2",
        "fanout --ws 5 --rate 100 --seconds 0.3",
    ] {
        let line = one(measured(&server, "floor", words));
        assert!(number(&line, "messages") > 0.0, "{line}");
        assert!(line["latency_us"]["p99"].is_f64(), "{line}");
        assert!(number(&line, "bytes_in") > 0.0, "{line}");
    }
    flood(&server, "floor");
    idle(&server, "floor");
    let server = Server::floor_of("past");
    let line = one(measured(
        &server,
        "floor",
        "resume --ws 3 --sse 3 --poll 3 --messages 120 --seconds 0.2",
    ));
    assert!(number(&line, "messages") >= 9.0 * 120.0, "{line}");
}

fn flood(server: &Server, profile: &str) {
    let line = one(measured(server, profile, "flood --connections 5 --rate 40 --seconds 0.6"));
    for name in ["p50_without_us", "p99_without_us", "p50_with_us", "p99_with_us", "p99_ratio"] {
        assert!(number(&line, name) > 0.0, "{line}");
    }
    assert!(number(&line, "flood_bytes_out") > 100_000.0, "{line}");
    assert!(number(&line, "flood_bytes_in") > 100_000.0, "{line}");
    assert_eq!(line["flood_ended"], Value::Null);
}

fn idle(server: &Server, profile: &str) {
    let words = "idle --ws 2 --sse 1 --poll 1 --steps 40,200 --seconds 0.2";
    let line = one(measured(server, profile, words));
    let steps = line["steps"].as_array().expect("a list");
    let counts: Vec<f64> = steps.iter().map(|step| number(step, "connections")).collect();
    assert_eq!(counts, [40.0, 200.0]);
    let mix = ["ws", "sse", "poll"].map(|name| line["parameters"][name].as_u64());
    assert_eq!(mix, [Some(100), Some(50), Some(50)]);
    for step in steps {
        assert!(number(step, "anon_kb") > 0.0 && number(step, "rss_kb") > 0.0, "{line}");
        assert!(number(step, "cpu_per_s") >= 0.0, "{line}");
    }
    assert!(number(&line, "bytes_per_connection") > 0.0, "{line}");
    assert_eq!(line["bytes_per_connection"], steps[1]["bytes_per_connection"]);
}

#[test]
fn the_real_server_loses_nothing_in_any_scenario() {
    let Some(server) = Server::holdline() else { return };
    for words in [
        "publish --connections 2 --depth 4 --seconds 0.2",
        "fanout --ws 3 --sse 3 --poll 3 --window 4 --seconds 0.2",
    ] {
        assert!(number(&one(measured(&server, "holdline", words)), "messages") > 0.0);
    }
    idle(&server, "holdline");
    for (mix, polls) in
        [("--ws 5", None), ("--sse 5", None), ("--ws 2 --sse 2 --poll 2", Some(3.0))]
    {
        let words = format!("resume {mix} --messages 250 --seconds 0.1");
        let line = one(measured(&server, "holdline", &words));
        let all = 250.0 * number(&line, "rounds") * if polls.is_some() { 6.0 } else { 5.0 };
        assert_eq!(number(&line, "messages"), all, "{line}");
        assert!(number(&line, "ms_until_all_have_all") > 0.0, "{line}");
        // An answer has a hundred messages at most.
        assert_eq!(line["answers_to_each_poller"].as_f64(), polls, "{line}");
    }
    let words = "patterns --connections 4 --rates 5 --seconds 2";
    let lines = measured(&server, "holdline", words);
    let patterns: Vec<&Value> = lines.iter().map(|line| &line["parameters"]["pattern"]).collect();
    assert_eq!(patterns, ["short polling", "long-polling", "SSE", "WebSocket"]);
    let bytes: Vec<f64> = lines.iter().map(|line| number(line, "bytes_per_update")).collect();
    assert!(bytes[1] > bytes[2] && bytes[2] > bytes[3], "{bytes:?}");
    for line in &lines {
        assert_eq!(number(line, "messages"), 4.0 * number(line, "updates"), "{line}");
    }
    assert_eq!(lines[3]["requests_per_update"], 0.0);
    assert!(number(&lines[1], "requests_per_update") > 0.5, "{}", lines[1]);
}

#[test]
fn results_are_drawn() {
    let server = Server::floor();
    let (json, out) = (scratch("results.jsonl"), scratch("charts"));
    for words in ["echo --connections 2 --seconds 0.1", "idle --sse 1 --steps 10,20 --seconds 0.1"]
    {
        let lines = measured(&server, "floor", words);
        let text = std::fs::read_to_string(&json).unwrap_or_default();
        std::fs::write(&json, format!("{text}{}\n", one(lines))).expect("it is written");
    }
    let words = format!("plot {} --out {}", json.display(), out.display());
    let (output, _) = load("http://127.0.0.1:9", &words, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let paths = told(&output);
    assert!(paths.lines().count() > 1, "{paths}");
    for path in paths.lines() {
        let text = std::fs::read_to_string(path).expect("what is told is there");
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{path}");
    }
    std::fs::remove_file(&json).expect("it was there");
    std::fs::remove_dir_all(&out).expect("it was there");
}

#[test]
fn a_table_is_written_where_it_is_wanted() {
    let server = Server::floor();
    let file = scratch("choosing.md");
    let text = "before\n<!-- patterns:begin -->\nold\n<!-- patterns:end -->\nafter\n";
    std::fs::write(&file, text).expect("it is written");
    let words =
        format!("patterns --connections 2 --rates 20 --seconds 0.2 --write {}", file.display());
    let lines = measured(&server, "floor", &words);
    assert_eq!(lines.len(), 3, "the floor has no short polls");
    let text = std::fs::read_to_string(&file).expect("it is there");
    std::fs::remove_file(&file).expect("it was there");
    assert!(text.starts_with("before\n<!--") && text.ends_with("-->\nafter\n"), "{text}");
    assert!(text.contains("| WebSocket |") && !text.contains("old"), "{text}");
}

#[test]
fn mistakes_in_the_command_are_told() {
    for (words, status) in [
        ("idle --steps 5,4", 2),
        ("idle --steps many", 2),
        ("idle --steps 99999999", 2),
        ("idle --size 3", 2),
        ("resume --ws 0", 2),
        ("flood --rate 0", 2),
        ("patterns --rates 0", 2),
        ("patterns --write /nowhere/at/all", 2),
        ("nothing", 2),
        ("plot", 2),
        ("plot /nowhere/at/all --out /tmp", 1),
        ("echo --pid 4294967295", 1),
    ] {
        let (output, took) = load("http://127.0.0.1:9", words, &[]);
        assert_eq!(output.status.code(), Some(status), "{words}: {}", told(&output));
        assert!(took < SOON, "{words} took {took:?}");
    }
    let (output, _) = load("http://192.0.2.1:80", "echo", &[]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("another machine"), "{}", told(&output));
    let server = Server::floor();
    let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/bun/profile.toml");
    let profile = profile.display().to_string();
    let (output, _) = load(&server.url, "resume --ws 1", &["--profile", &profile]);
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains("cannot resume"), "{}", told(&output));
}

/// What each scenario says to a server that does not do as it should.
fn fails(url: &str, words: &str, with: &str) {
    let (output, took) = load(url, &format!("{words} --seconds 0.2 --warmup 0"), &[]);
    let told = told(&output);
    assert_eq!(output.status.code(), Some(1), "{words}: {told}");
    assert!(took < SOON, "{words} took {took:?}: {told}");
    assert!(told.contains(with), "{words}: {told}");
}

const ALL: [&str; 9] = [
    "echo --connections 2",
    "connect --in-flight 2",
    "publish --connections 2",
    "fanout --ws 1",
    "fanout --sse 1",
    "fanout --poll 1",
    "idle --ws 1 --steps 20",
    "resume --poll 1 --messages 3",
    "flood --connections 2",
];

#[test]
fn a_server_that_is_not_there_is_told() {
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    for words in ALL {
        fails(&url, words, "refused");
    }
}

#[test]
fn a_server_that_closes_is_told() {
    let url = serve(|mut stream| {
        // It takes the request, so that it is an end and not a reset.
        let _ = stream.read(&mut [0; 4_096]);
    });
    for words in ALL {
        fails(&url, words, "closed");
    }
}

#[test]
fn a_server_that_talks_nonsense_is_told() {
    let url = serve(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    for words in ALL {
        fails(&url, words, "SSH-2.0");
    }
}

#[test]
fn a_server_that_says_nothing_is_told() {
    let url = serve(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    std::thread::scope(|scope| {
        for words in ALL {
            let url = &url;
            scope.spawn(move || fails(url, words, ""));
        }
    });
}

/// Who floods may be thrown out: that is told, and the others are measured.
#[test]
fn a_flood_that_the_server_ends_is_no_fault() {
    let url = serve(|stream| {
        // It takes a little, and no more.
        let _ = echo(stream, 300 * 1_024);
    });
    let json = scratch("results.jsonl");
    let words = format!("flood --connections 3 --rate 20 --seconds 0.6 --json {}", json.display());
    let (output, _) = load(&url, &words, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains("The flood was ended"), "{}", told(&output));
    let text = std::fs::read_to_string(&json).expect("there are results");
    let line: Value = serde_json::from_str(text.trim()).expect("a line of JSON");
    assert!(line["flood_ended"].is_string() && number(&line, "messages") > 0.0, "{line}");
}

/// A WebSocket that sends back what it gets, unmasked, up to so many bytes.
fn echo(mut stream: TcpStream, most: usize) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")?;
    let mut all = 0;
    while all < most {
        let mut head = [0; 2];
        reader.read_exact(&mut head)?;
        let mut frame = vec![head[0], head[1] & 0x7f];
        let mut length = usize::from(head[1] & 0x7f);
        if length == 126 {
            let mut wide = [0; 2];
            reader.read_exact(&mut wide)?;
            frame.extend(wide);
            length = usize::from(u16::from_be_bytes(wide));
        }
        let (mut mask, mut payload) = ([0; 4], vec![0; length]);
        reader.read_exact(&mut mask)?;
        reader.read_exact(&mut payload)?;
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        stream.write_all(&frame)?;
        all += frame.len();
    }
    Ok(())
}

/// What a server does with what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Right,
    Loses,
    Doubles,
    Swaps,
}

#[test]
fn messages_that_are_lost_come_twice_or_out_of_order_are_told() {
    for (deed, name) in
        [(Deed::Loses, "lost"), (Deed::Doubles, "duplicates"), (Deed::Swaps, "disordered")]
    {
        std::thread::scope(|scope| {
            for words in [
                "fanout --sse 1 --window 6",
                "fanout --sse 1 --rate 200",
                "resume --sse 1 --messages 6",
                "patterns --rates 50 --connections 1",
            ] {
                scope.spawn(move || blames(&streams(deed), words, name));
            }
        });
    }
}

fn blames(url: &str, words: &str, name: &str) {
    let (json, profile) = (scratch("results.jsonl"), stream_profile());
    let (results, profile) = (json.display().to_string(), profile.display().to_string());
    let words = format!("{words} --profile {profile} --json {results}");
    fails(url, &words, "messages were lost, came twice or out of order");
    let text = std::fs::read_to_string(&json).expect("there are results");
    let line: Value = serde_json::from_str(text.trim()).expect("a line of JSON");
    for wrong in ["lost", "duplicates", "disordered"] {
        assert_eq!(line[wrong].as_u64() > Some(0), wrong == name, "{words}: {line}");
    }
}

#[test]
fn echoes_that_are_lost_or_come_twice_are_told() {
    let profile = scratch("profile.toml");
    std::fs::write(&profile, "name = 'small'\n[echo]\nframing = 'tcp'\n").expect("it is written");
    let words = format!("echo --connections 1 --profile {}", profile.display());
    for (copies, with) in [(0, "messages were lost"), (2, "more came back than was sent")] {
        let url = serve(move |mut stream| {
            let (mut bytes, mut turn) = ([0; 4_096], 0);
            while let Ok(len @ 1..) = stream.read(&mut bytes) {
                turn += 1;
                let answer = bytes[..len].repeat(if turn > 3 { copies } else { 1 });
                if stream.write_all(&answer).is_err() {
                    break;
                }
            }
        });
        fails(&url, &words, with);
    }
}

/// What is told of the wrong must not be told of the right.
#[test]
fn a_small_server_that_does_right_is_not_blamed() {
    let url = streams(Deed::Right);
    let profile = stream_profile();
    for words in ["fanout --sse 2 --window 6", "resume --sse 2 --messages 6"] {
        let more = ["--profile", &profile.display().to_string()];
        let (output, _) = load(&url, &format!("{words} --seconds 0.2 --warmup 0"), &more);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    }
}

/// Calls it for each connection, on a thread of its own, as long as the test runs.
fn serve(each: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            std::thread::spawn(move || each(stream));
        }
    });
    url
}

fn stream_profile() -> PathBuf {
    let path = scratch("profile.toml");
    let text = "name = 'small'\n\
        [sse]\npath = '/s'\n\
        [publish]\npath = '/p'\n\
        [resume]\nsse = '/s?since={since}'\nposition = { header = 'Position' }\n";
    std::fs::write(&path, text).expect("it is written");
    path
}

/// Publications so far, and who listens.
#[derive(Debug, Default)]
struct Log {
    kept: Vec<String>,
    /// What comes after the next.
    held: String,
    streams: Vec<TcpStream>,
}

/// A server of event streams, and of publications.
fn streams(deed: Deed) -> String {
    let log = Arc::new(Mutex::new(Log::default()));
    serve(move |stream| {
        // Whoever has gone is gone.
        let _ = speak(stream, deed, &log);
    })
}

fn speak(mut stream: TcpStream, deed: Deed, log: &Mutex<Log>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut line, mut first, mut length) = (String::new(), String::new(), 0);
        while reader.read_line(&mut line)? > 2 {
            if first.is_empty() {
                first = line.clone();
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap_or(0);
            }
            line.clear();
        }
        if first.starts_with("POST") {
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let position = publish(&mut log.lock().expect("no panic"), deed, body);
            let answer =
                format!("HTTP/1.1 200 OK\r\nPosition: {position}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes())?;
        } else if first.is_empty() {
            return Ok(());
        } else {
            let mut log = log.lock().expect("no panic");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
            let since = first.split("since=").nth(1).and_then(|rest| rest.split(' ').next());
            let since = since.and_then(|since| since.parse().ok()).unwrap_or(log.kept.len());
            stream.write_all(log.kept[since..].concat().as_bytes())?;
            log.streams.push(stream.try_clone()?);
        }
    }
}

/// Sends it to all, and returns its position. Wrong is done to one of six.
fn publish(log: &mut Log, deed: Deed, body: Vec<u8>) -> usize {
    let body = String::from_utf8(body).expect("it is text");
    let number: Option<u64> = body.split('~').nth(1).and_then(|digits| digits.parse().ok());
    let text = format!("data: {body}\n\n");
    let before = log.kept.len();
    match (deed, number.expect("it has a number") % 6) {
        (Deed::Loses, 3) => {}
        (Deed::Doubles, 3) => log.kept.extend([text.clone(), text]),
        (Deed::Swaps, 3) => log.held = text,
        (Deed::Right | Deed::Loses | Deed::Doubles | Deed::Swaps, _) => {
            log.kept.push(text);
            log.kept.push(std::mem::take(&mut log.held));
        }
    }
    let news = log.kept[before..].concat();
    log.streams.retain_mut(|stream| stream.write_all(news.as_bytes()).is_ok());
    log.kept.len()
}
