//! Runs what the fuzzers found worth keeping, `fuzz/corpus`, through every fuzz target: on any
//! toolchain and without a fuzzer.

#[path = "chaos/mod.rs"]
mod chaos;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use chaos::fuzz::fuzz_engine;
use chaos::strangers::fuzz_strangers;
use holdline::conn::fuzz_conn;
use holdline::conn::ws::fuzz_frames;
use holdline::cursor::fuzz_since;
use holdline::hub::fuzz_snapshot;
use holdline::wire::command::fuzz_command;
use holdline::wire::handshake::fuzz_handshake;
use holdline::wire::http::{fuzz_chunk, fuzz_head, fuzz_target};
use holdline::wire::utf8::fuzz_utf8;

/// Says which file it was if a target fails.
struct Named<'p>(&'p Path);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with {}", self.0.display());
        }
    }
}

/// Runs one target over its corpus, and over nothing.
fn run(target: &str, fuzz: impl Fn(&[u8])) {
    fuzz(b"");
    let paths = entries(&format!("corpus/{target}"));
    assert!(paths.len() >= 10, "{target} has next to no corpus");
    for path in &paths {
        let _named = Named(path.as_ref());
        fuzz(&fs::read(path).expect("a file"));
    }
}

/// The paths of what a folder of `fuzz` holds.
fn entries(folder: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
    let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path().to_string_lossy().into_owned())
        .collect();
    paths.sort();
    paths
}

/// The names of files without what follows their dot.
fn names(folder: &str) -> BTreeSet<String> {
    let name = |path: &String| {
        let name = Path::new(path).file_stem().expect("a name");
        name.to_string_lossy().into_owned()
    };
    entries(folder).iter().map(name).collect()
}

macro_rules! targets {
    ($($name:ident: $fuzz:expr),* $(,)?) => {
        const TARGETS: &[&str] = &[$(stringify!($name)),*];

        mod corpus {
            $(
                #[test]
                fn $name() {
                    super::run(stringify!($name), $fuzz);
                }
            )*
        }
    };
}

targets! {
    chunk: super::fuzz_chunk,
    command: super::fuzz_command,
    conn: super::fuzz_conn,
    engine: |data| drop(super::fuzz_engine(data)),
    frames: super::fuzz_frames,
    handshake: super::fuzz_handshake,
    head: super::fuzz_head,
    since: super::fuzz_since,
    snapshot: super::fuzz_snapshot,
    strangers: super::fuzz_strangers,
    target: super::fuzz_target,
    utf8: super::fuzz_utf8,
}

#[test]
fn every_target_has_a_corpus_and_a_program_and_nothing_else_has() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("fuzz_targets"), targets);
    assert!(names("dict").is_subset(&targets));
}

#[test]
fn the_corpora_stay_small() {
    let size = |path: &String| fs::metadata(path).expect("a file").len();
    let sizes = TARGETS.iter().flat_map(|name| entries(&format!("corpus/{name}")));
    let sum: u64 = sizes.map(|path| size(&path)).sum();
    assert!(sum < 1_000_000, "{sum} bytes; minimise them: fuzz/run --minimise");
}
