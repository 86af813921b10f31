//! Publishes numbers at a steady pace and does not give up: each has a key of its own, so that one
//! whose answer was lost is published again without being there twice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Keys of one run are none of another.
static RUNS: AtomicU32 = AtomicU32::new(0);

pub struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Publisher {
    /// `#1#`, `#2#` …, each padded to so many bytes.
    pub fn start(addr: SocketAddr, channel: &'static str, every: Duration, bytes: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut number, mut line) = (0, None);
            let run = RUNS.fetch_add(1, Ordering::SeqCst);
            while !flag.load(Ordering::SeqCst) {
                number += 1;
                let body = format!("{:.<bytes$}", format!("#{number}#"));
                let request = format!(
                    "POST /channels/{channel} HTTP/1.1\r\nHost: {addr}\r\nIdempotency-Key: {run}-{channel}-{number}\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                while !publish(addr, &mut line, request.as_bytes()) {
                    line = None;
                    thread::sleep(Duration::from_millis(100));
                    if flag.load(Ordering::SeqCst) && channel.starts_with("heavy") {
                        return number - 1; // nobody counts these
                    }
                }
                thread::sleep(every);
            }
            number
        });
        Self { stop, thread }
    }

    /// Stops; the last number that has been accepted.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the publisher ends")
    }
}

fn publish(addr: SocketAddr, line: &mut Option<TcpStream>, request: &[u8]) -> bool {
    if line.is_none() {
        *line = TcpStream::connect(addr).ok();
    }
    let Some(stream) = line else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    if stream.write_all(request).is_err() {
        return false;
    }
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return false,
            Ok(n) => answer.extend_from_slice(&piece[..n]),
        }
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next());
        if body.len() < length.and_then(|length| length.trim().parse().ok()).unwrap_or(0) {
            continue;
        }
        let is_done = head.starts_with("HTTP/1.1 20");
        if head.contains("Connection: close") {
            *line = None;
        }
        return is_done;
    }
}
