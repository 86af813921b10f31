//! Limits of each address over real sockets: a proxy that is trusted names whom they count for.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::clients::ws::Ws;
use crate::clients::{Answer, Http, PATIENCE, Sse, call, get, lossy};
use crate::support::Running;

const TRUSTING: &[&str] = &["--trusted-proxy", "127.0.0.1,10.0.0.0/8"];
const HERE: (&str, &str) = ("X-Forwarded-For", "192.0.2.1");
const THERE: (&str, &str) = ("X-Forwarded-For", "192.0.2.1, 192.0.2.2, 10.1.2.3");

#[track_caller]
fn assert_limited(answer: &Answer) {
    answer.expect_error(429, "rate_limited");
    let after: u32 = answer.must_header("retry-after").parse().expect("whole seconds");
    assert!((1..=12).contains(&after), "{answer:?}");
}

/// More at once than any limit lets pass, also on a machine that takes seconds for them.
const MANY: usize = 200;

#[test]
fn connections_of_an_address_are_limited_and_those_of_others_are_not() {
    let server = Running::start(TRUSTING);
    let began = Instant::now();
    let all = (0..MANY).map(|_| {
        let mut http = Http::open(&server);
        http.ask("GET", "/health", &[HERE], b"");
        http
    });
    let mut asked: Vec<Http> = all.collect();
    let mut answers = asked.drain(..).map(|mut http| (http.answer("GET"), http));
    let (mut kept, mut refused) = (Vec::new(), 0);
    answers.by_ref().for_each(|(answer, http)| match answer.status {
        200 => kept.push(http),
        _ => {
            refused += 1;
            assert_limited(&answer);
            assert!(answer.closes());
        }
    });
    drop(answers);
    // Sixty at once, and twenty more for each second.
    let most = 61 + (20.0 * began.elapsed().as_secs_f64()) as usize;
    assert!((60..=most).contains(&kept.len()), "{} were let in, not {most}", kept.len());
    assert!(refused > 0, "no limit is met");
    assert_eq!(kept[0].call("GET", "/health", &[HERE], b"").status, 200);
    call(&server, "GET", "/health", &[THERE], b"").expect(200);
    get(&server, "/health").expect(200);
    // What is for this machine only is not for whom a proxy asks.
    kept[0].call("GET", "/stats", &[HERE], b"").expect_error(403, "forbidden");
    assert_eq!(get(&server, "/stats").json()["rejected"]["rate_limited"], refused);
}

#[test]
fn publishing_is_limited_on_each_transport_and_goes_on_when_it_is_said_to() {
    let server = Running::start(TRUSTING);
    let mut ws = Ws::with(&server, "/ws", &[HERE]);
    ws.op("hello");
    (0..MANY).for_each(|_| ws.say(r#"{"op":"publish","ref":1,"channel":"a","text":"x"}"#));
    let mut answers = (0..MANY).map(|_| ws.json()).enumerate();
    let refused = answers.find(|(_, answer)| answer["op"] == "error");
    let (published, error) = refused.expect("a limit that is met");
    assert!(published >= 50, "{published} were published");
    assert_eq!((&error["ref"], &error["code"]), (&1.into(), &"rate_limited".into()));
    assert!(error["retry_ms"].as_u64().is_some_and(|ms| (1..=50).contains(&ms)), "{error}");
    // Another address, whose connections are too few to be limited.
    let client = [("X-Forwarded-For", "192.0.2.5")];
    let mut http = Http::open(&server);
    (0..MANY).for_each(|_| http.ask("PUT", "/channels/a", &client, b"x"));
    let mut answers = (0..MANY).map(|_| http.answer("PUT"));
    let refused = answers.find(|answer| answer.status == 429).expect("a limit that is met");
    assert_limited(&refused);
    assert!(refused.text().contains("publish more slowly"), "{refused:?}");
    call(&server, "POST", "/channels/a", &[THERE], b"x").expect(202);
    let deadline = Instant::now() + PATIENCE;
    while call(&server, "PUT", "/channels/a", &client, b"x").status != 202 {
        assert!(Instant::now() < deadline, "its rate does not recover");
        std::thread::sleep(Duration::from_millis(60)); // as long as it asked for
    }
    let mut raw = Ws::with(&server, "/channels/b", &[("X-Forwarded-For", "2001:db8::5")]);
    for _ in 0..200 {
        raw.send(1, b"x");
    }
    assert_eq!(raw.closed(), (4429, "rate_limited".to_owned()));
}

#[test]
fn an_event_source_is_put_off_by_a_stream_that_ends() {
    let server = Running::start(TRUSTING);
    let accept = ("Accept", "text/event-stream");
    let ask = |_| {
        let mut http = Http::open(&server);
        http.ask("GET", "/events?channel=a", &[accept, HERE], b"");
        http
    };
    let (asked, mut kept) = ((0..MANY).map(ask).collect::<Vec<_>>(), Vec::new());
    for http in asked {
        let mut sse = Sse::over(http.wire);
        let first = sse.block().expect("a first block");
        if first.id.is_none() {
            let retry = first.retry.expect("a time to come back");
            assert!((2_000..=5_000).contains(&retry), "{retry}");
            assert!(sse.block().is_none(), "it ends");
            return;
        }
        kept.push(sse);
    }
    panic!("no limit is met");
}

#[test]
fn a_limit_that_is_met_often_is_logged_once() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_holdline"))
        .args(["--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("stdout is piped"));
    out.read_line(&mut first).expect("a first line");
    let addr = first.trim().rsplit('/').next().expect("an address");
    let server: std::net::SocketAddr = addr.parse().expect("an address");
    for _ in 0..20 {
        let stream = std::net::TcpStream::connect(server).expect("connects");
        let mut wire = crate::clients::Wire::new(stream);
        wire.send(format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(9_000)).as_bytes());
        Answer::read(&mut wire, "GET").expect("an answer").expect_error(414, "uri_too_long");
    }
    child.kill().expect("it ends");
    let log = child.wait_with_output().expect("its log").stderr;
    let log = lossy(&log);
    let lines: Vec<_> = log.lines().filter(|line| line.contains("shorten the request")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].starts_with("WARN") && !log.contains("xxx"), "{log}");
}

#[test]
fn a_proxy_that_is_none_is_a_mistake_in_the_options() {
    for bad in ["10.0.0.0/33", "proxy.example", ""] {
        let out = Command::new(env!("CARGO_BIN_EXE_holdline"))
            .args(["--listen", "127.0.0.1:0", "--trusted-proxy", bad])
            .output()
            .expect("the binary starts");
        assert_eq!(out.status.code(), Some(2));
        assert!(lossy(&out.stderr).contains("--trusted-proxy"), "{}", lossy(&out.stderr));
    }
}
