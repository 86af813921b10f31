//! What the tests of the real binary share: start it on a free port, stop it, speak raw bytes to it.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running `holdline` binary; killed when dropped.
pub struct Running {
    child: Child,
    pub addr: SocketAddr,
}

impl Running {
    /// Starts the binary with `args` after `--listen 127.0.0.1:0` and waits for its first line.
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(&mut Command::new(env!("CARGO_BIN_EXE_holdline")), args)
    }

    /// The same in a process that may have no more than so many descriptors.
    pub fn start_limited(descriptors: u32, args: &[&str]) -> Self {
        let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        Self::spawn(Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_holdline")]), args)
    }

    fn spawn(command: &mut Command, args: &[&str]) -> Self {
        let child = command
            .args(["--listen", "127.0.0.1:0", "--log-level", "error"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        Self::over(child)
    }

    /// Waits for the first line of a binary whose stdout is piped.
    pub fn over(mut child: Child) -> Self {
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("a first line");
        let addr = line
            .trim()
            .strip_prefix("listening on http://")
            .unwrap_or_else(|| panic!("unexpected first line {line:?}"))
            .parse()
            .expect("an address");
        // Keep reading, so that the server never blocks on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, addr }
    }

    /// A raw connection whose reads time out after half a minute.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a read timeout");
        stream.set_nodelay(true).expect("nodelay");
        stream
    }

    /// Sends `request`, then reads until the server closes or half a minute of silence.
    pub fn exchange(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(request).expect("the request is sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks a process to end.
pub fn terminate(pid: u32) {
    let status = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
    assert!(status.expect("kill runs").success(), "kill -TERM {pid}");
}

/// The exit code of a process that ends in time.
#[track_caller]
pub fn exit_code(child: &mut Child, patience: Duration) -> i32 {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().expect("its status") {
            return status.code().unwrap_or_else(|| panic!("expected an exit code: {status:?}"));
        }
        assert!(Instant::now() < deadline, "expected the process to end");
        std::thread::sleep(Duration::from_millis(5));
    }
}
