//! Log lines on stderr: level, where, what, with everything that could command a terminal escaped.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

/// Longest text of one line.
const LINE_BYTES_MAX: usize = 1024;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = format!("{:<5} {}", record.level(), escape(&record.args().to_string()));
        line.push('\n');
        // Nobody is left to tell if stderr is gone.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Starts logging.
pub(crate) fn start(level: LevelFilter) {
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if out.len() >= LINE_BYTES_MAX {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_long_lines_cut() {
        assert_eq!(escape("a\n\x1b[31mb\u{9b}"), "a\\n\\u{1b}[31mb\\u{9b}");
        assert!(escape(&"x".repeat(5000)).len() < 1100);
    }
}
