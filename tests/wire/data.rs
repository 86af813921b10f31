//! A planned restart with `--data`: the process, its files, and clients on both sides of the gap that
//! there is none of.

use crate::clients::{PATIENCE, Sse, call, kept, lossy, poll, publish, publish_many, seq, text_of};
use crate::support::Running;
use crate::traveller::{ALL, Got, Traveller};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A directory of its own for each test, removed with what is in it.
struct Dir(PathBuf);

impl Dir {
    /// One that does not exist yet.
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("holdline-data-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn start(&self) -> Running {
        self.start_with(&[])
    }

    fn start_with(&self, args: &[&str]) -> Running {
        Running::start(&[&["--data", self.0.to_str().expect("UTF-8")], args].concat())
    }
}

/// Starts a server that is expected to end at once: its exit code, and what it said.
fn refused(dir: &Path) -> (i32, String) {
    let ended = Command::new(env!("CARGO_BIN_EXE_holdline"))
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(dir)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    (ended.status.code().expect("an exit code"), lossy(&ended.stderr))
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn signal(server: &Running, name: &str) {
    let kill = Command::new("kill").args([name, &server.pid().to_string()]).status();
    assert!(kill.expect("kill runs").success());
}

/// Ends it in order.
#[track_caller]
fn stop(server: Running) {
    assert_eq!(stop_with(server), 0);
}

#[track_caller]
fn stop_with(server: Running) -> i32 {
    signal(&server, "-TERM");
    exit_code(server)
}

#[track_caller]
fn exit_code(mut server: Running) -> i32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = server.child().try_wait().expect("its status") {
            return status.code().expect("an exit code");
        }
        assert!(Instant::now() < deadline, "expected the process to end");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn a_planned_restart_is_no_gap_on_any_transport() {
    let dir = Dir::new("transports");
    let server = dir.start();
    let start = publish(&server, "a", "before");
    let ids = publish_many(&server, "a", 0..10);
    let mut cursors = Vec::new();
    for via in ALL {
        let mut reader = Traveller::start(&server, via, &["a"], &start);
        assert_eq!(reader.texts(4), numbers(0..4), "over {via:?}");
        cursors.push(reader.position());
    }
    stop(server);
    let server = dir.start();
    assert!(!dir.file("history").exists(), "what is served is no clean end any more");
    for (via, cursor) in ALL.into_iter().zip(cursors) {
        let mut reader = Traveller::start(&server, via, &["a"], &cursor);
        assert_eq!(reader.texts(6), numbers(4..10), "nothing lost, nothing twice over {via:?}");
        let live = publish(&server, "b", "elsewhere");
        assert!(seq(&live) > seq(&ids[9]) && live.split('-').next() == start.split('-').next());
    }
    let body = poll(&server, &format!("channel=a&since={}&wait=0", ids[9]));
    assert_eq!(body["gap"], serde_json::Value::Null, "came {body}");
    let beyond = format!("{}-999", start.split('-').next().expect("an epoch"));
    let body = poll(&server, &format!("channel=a&since={beyond}&wait=0"));
    assert_eq!(body["gap"][0]["reason"], "epoch", "came {body}");
}

#[test]
fn messages_come_back_as_they_were() {
    let dir = Dir::new("messages");
    let server = dir.start();
    let lines = concat!(
        "{\"channel\":\"a\",\"data\":{\"n\": [1, 2]},\"event\":\"tick\"}\n",
        "{\"channel\":\"a\",\"b64\":\"/wD+\",\"type\":\"image/png\"}\n",
        "{\"channel\":\"a\",\"text\":\"gr\u{fc}\u{df}e\",\"ttl\":3600}\n",
        "{\"channel\":\"a\",\"text\":\"gone\",\"ttl\":0}\n",
    );
    call(&server, "POST", "/publish", &[], lines.as_bytes()).expect(200);
    let before = kept(&server, "a");
    assert_eq!(before.len(), 3);
    stop(server);
    let server = dir.start();
    assert_eq!(kept(&server, "a"), before);
}

#[test]
fn an_idempotency_key_holds_over_a_restart() {
    let dir = Dir::new("keys");
    let key = [("Idempotency-Key", "once")];
    let server = dir.start();
    let first = call(&server, "POST", "/channels/a", &key, b"x").expect(202).json();
    stop(server);
    let server = dir.start();
    let again = call(&server, "POST", "/channels/a", &key, b"x").expect(202).json();
    assert_eq!(text_of(&again, "id"), text_of(&first, "id"));
    assert_eq!(kept(&server, "a").len(), 1);
}

#[test]
fn the_directory_is_made_and_belongs_to_nobody_else() {
    let dir = Dir::new("modes");
    let server = dir.start();
    publish(&server, "a", "x");
    assert_eq!(mode(&dir.0), 0o700);
    stop(server);
    assert_eq!(mode(&dir.file("history")), 0o600);
    assert!(!dir.file("history.new").exists());
}

#[test]
fn limits_of_the_new_start_hold_and_are_a_gap() {
    let dir = Dir::new("limits");
    let server = dir.start();
    let ids = publish_many(&server, "a", 0..10);
    stop(server);
    let server = dir.start_with(&["--history", "3"]);
    for via in ALL {
        let mut reader = Traveller::start(&server, via, &["a"], &ids[2]);
        let got = reader.next();
        assert!(matches!(&got, Got::Gap { reason, .. } if reason == "trimmed"), "came {got:?}");
        assert_eq!(reader.texts(3), numbers(7..10), "over {via:?}");
    }
}

/// Who does not go is cut by a second signal; what is kept is written all the same.
#[test]
fn a_second_signal_keeps_history_too() {
    let dir = Dir::new("second");
    let mut server = dir.start();
    let id = publish(&server, "a", "x");
    let mut stream = Sse::open(&server, "/channels/a", &[]);
    signal(&server, "-TERM");
    while stream.block().is_some() {}
    // It may have ended by now.
    if server.child().try_wait().expect("its status").is_none() {
        signal(&server, "-TERM");
    }
    assert_eq!(exit_code(server), 0);
    assert_eq!(text_of(&kept(&dir.start(), "a")[0], "id"), id);
}

#[test]
fn a_crash_is_a_new_epoch() {
    let dir = Dir::new("crash");
    let server = dir.start();
    publish(&server, "a", "kept");
    stop(server);
    let mut server = dir.start();
    let id = publish(&server, "a", "lost");
    signal(&server, "-KILL");
    server.child().wait().expect("its end");
    let server = dir.start();
    let body = poll(&server, &format!("channel=a&since={id}&wait=0"));
    assert_eq!(body["gap"][0]["reason"], "epoch", "came {body}");
    assert!(kept(&server, "a").is_empty());
}

#[test]
fn a_torn_or_foreign_file_is_put_aside_and_named() {
    let dir = Dir::new("torn");
    let server = dir.start();
    let id = publish(&server, "a", "x");
    stop(server);
    let whole = fs::read(dir.file("history")).expect("it was written");
    let mut newer = whole.clone();
    newer[16] = 200;
    let cases = [
        (whole[..whole.len() - 1].to_vec(), "cut short or damaged"),
        (b"something else altogether".to_vec(), "no history"),
        (newer, "format 200"),
        (Vec::new(), "no history"),
    ];
    for (bytes, why) in cases {
        fs::write(dir.file("history"), &bytes).expect("written");
        let log = dir.file("log");
        let mut server = Command::new(env!("CARGO_BIN_EXE_holdline"))
            .args(["--listen", "127.0.0.1:0", "--data"])
            .arg(&dir.0)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).expect("a file"))
            .spawn()
            .map(Running::over)
            .expect("the binary starts");
        let body = poll(&server, &format!("channel=a&since={id}&wait=0"));
        assert_eq!(body["gap"][0]["reason"], "epoch", "{why}: came {body}");
        let log = fs::read_to_string(&log).expect("a log");
        let lines: Vec<_> = log.lines().filter(|line| line.contains("history.bad")).collect();
        assert!(lines.len() == 1 && lines[0].starts_with("WARN "), "came {log:?}");
        assert!(lines[0].contains(why), "{why}: came {log:?}");
        assert_eq!(fs::read(dir.file("history.bad")).expect("it is kept"), bytes);
        assert!(!dir.file("history").exists());
        signal(&server, "-KILL");
        server.child().wait().expect("its end");
    }
}

#[test]
fn a_directory_has_one_server_at_a_time() {
    let dir = Dir::new("lock");
    let server = dir.start();
    let (code, said) = refused(&dir.0);
    assert!(code == 1 && said.contains("another server uses it"), "came {code} {said:?}");
    publish(&server, "a", "x");
    stop(server);
    assert_eq!(kept(&dir.start(), "a").len(), 1, "the refused one has touched nothing");
}

#[test]
fn a_directory_that_cannot_be_one_is_named() {
    let dir = Dir::new("bad");
    fs::write(&dir.0, "a file").expect("written");
    let (code, said) = refused(&dir.0);
    let path = dir.0.display().to_string();
    assert!(code == 1 && said.contains(&path) && said.contains("must be a directory"), "{said:?}");
    fs::remove_file(&dir.0).expect("removed");
    let (code, said) = refused(&dir.file("below"));
    assert!(code == 1 && said.contains("above it first"), "came {code} {said:?}");
    // Nobody can write there, whoever runs the tests.
    let (code, said) = refused(Path::new("/proc/self"));
    assert!(code == 1 && said.contains("written to"), "came {code} {said:?}");
}

#[test]
fn history_that_cannot_be_written_is_an_error_and_leaves_nothing() {
    let dir = Dir::new("full");
    let server = dir.start();
    publish(&server, "a", "x");
    // As good as a full disk: nothing can be made at that place.
    fs::create_dir(dir.file("history.new")).expect("a directory");
    assert_eq!(stop_with(server), 1);
    assert!(!dir.file("history").exists());
}
