//! Reads the source as text and fails where it breaks a rule of the house: a module names only
//! lower floors, only `server` does I/O, nothing unwraps, every file says what it is. Functions,
//! files and lines that have grown long are named, and do not fail.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules that any other may use, and that use only each other.
const GROUND: &[&str] = &["code", "config", "cursor", "json", "message", "sync", "time"];

/// What each module may use besides the ground and itself. A new module needs a floor here.
const FLOORS: &[(&str, &[&str])] = &[
    ("collections", &[]),
    ("wire", &[]),
    ("conn", &["collections", "wire"]),
    ("hub", &["collections", "wire"]),
    ("engine", &["collections", "wire", "conn", "hub"]),
    ("server", &["collections", "wire", "conn", "hub", "engine"]),
];

/// What only `server` and the binary may do: sockets, the clock, chance, threads.
const WORLD: &str = "mio:: libc:: socket2:: std::net::Tcp std::net::Udp TcpStream TcpListener \
                     UdpSocket UnixStream UnixListener Instant::now SystemTime::now getrandom \
                     std::thread thread::spawn";

/// What some machines lack or see otherwise: atomics of 64 bits, and numbers laid out in the machine's
/// own order.
const UNPORTABLE: &str = "AtomicU64 AtomicI64 _ne_bytes";

/// Where the machine's own order is right, since the same order is put back.
const OWN_ORDER: &str = "src/wire/ws.rs";

/// What is not to be read anywhere here; a bar keeps the list itself from being found.
const WORDS: &str = "FIX|ME TO|DO XX|X HA|CK /wo|rk/ DESIGN|.md STYLE|.md WIRE|.md PROTOCOL-|RULES \
                     clau|de anthro|pic chat|gpt";

/// Letters of an old numbering of rules, which nobody who reads the source has.
const RULES: &str = "HSWRP";

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;
const LINE_CHARS_MAX: usize = 100;

#[test]
fn the_source_is_tidy() {
    let files = read(&["src"], &["rs"]);
    assert!(files.len() > 30, "the source is not where it was");
    let mut faults = Vec::new();
    for file in &files {
        check_docs(file, &mut faults);
        check_floors(file, &mut faults);
        check_world(file, &mut faults);
        check_unwraps(file, &mut faults);
    }
    for file in read(&["src", "capi/src"], &["rs"]) {
        check_portable(&file, &mut faults);
    }
    let folders = ["src", "tests", "benches", "examples", "fuzz", "load", "client", "capi", "docs"];
    for file in read(&folders, &["rs", "md", "html", "js", "mjs", "ts", "toml", "c", "h", "sh"]) {
        check_words(&file, &mut faults);
    }
    check_unsafe(&text("Cargo.toml"), &text("src/lib.rs"), &mut faults);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn what_has_grown_long_is_named() {
    let mut long = Vec::new();
    for file in read(&["src", "tests", "benches", "examples"], &["rs"]) {
        name_long(&file, &mut long);
    }
    println!("long, and named so that it is a decision:\n{}", long.join("\n"));
}

/// A file of the project, its path with forward slashes.
struct File {
    path: String,
    text: String,
}

impl File {
    /// The module of the crate's root that it belongs to.
    fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split(['/', '.']).next().unwrap_or(below)
    }

    /// How far `super` can go before it is the crate's root.
    fn depth(&self) -> usize {
        let steps = self.path.matches('/').count();
        if self.path.ends_with("/mod.rs") { steps - 1 } else { steps }
    }

    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or("");
        name.ends_with("_tests.rs") || name.ends_with("_conformance.rs")
    }

    /// Its lines that are compiled into a release, with their numbers, without comments.
    fn code(&self) -> Vec<(usize, &str)> {
        if self.is_test() {
            return Vec::new();
        }
        let mut lines = self.text.lines().enumerate();
        let mut code = Vec::new();
        while let Some((at, line)) = lines.next() {
            if line.trim() == "#[cfg(test)]" {
                skip_item(indent(line), &mut lines);
                continue;
            }
            let line = if line.trim_start().starts_with("//") { "" } else { line };
            code.push((at + 1, line.split(" // ").next().unwrap_or("")));
        }
        code
    }

    fn fault(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// Passes over the item behind an attribute: to its `;`, or to the brace that closes it. The source
/// is formatted, so that brace has the attribute's own indentation.
fn skip_item<'a>(indentation: usize, lines: &mut impl Iterator<Item = (usize, &'a str)>) {
    for (_, line) in lines {
        let is_own = indent(line) == indentation;
        let is_attribute = line.trim_start().starts_with("#[");
        if is_own && !is_attribute && (line.ends_with(';') || line.ends_with('}')) {
            return;
        }
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn check_docs(file: &File, faults: &mut Vec<String>) {
    if !file.text.starts_with("//! ") {
        faults.push(file.fault(1, "begins without //! and what it is"));
    }
}

fn check_floors(file: &File, faults: &mut Vec<String>) {
    let module = file.module();
    if module == "lib" {
        return; // it lists them all
    }
    let is_binary = matches!(module, "main" | "cli");
    let may: &[&str] = match FLOORS.iter().find(|(name, _)| *name == module) {
        Some((_, may)) => may,
        None if is_binary || GROUND.contains(&module) => &[],
        None => return faults.push(file.fault(1, format!("{module} has no floor"))),
    };
    for (line, used) in modules_used(file) {
        let is_ground = GROUND.contains(&&*used) && !is_binary;
        let is_own = used == module || (is_binary && used == "cli");
        if !is_own && !is_ground && !may.contains(&&*used) {
            faults.push(file.fault(line, format!("{module} must not name {used}")));
        }
    }
}

/// The modules of the crate's root that a file names, by `crate::` or by enough `super::`.
fn modules_used(file: &File) -> Vec<(usize, String)> {
    let code = file.code();
    let joined: String = code.iter().map(|(_, line)| format!("{line}\n")).collect();
    let mut used = Vec::new();
    let line_of = |at: usize| code[joined[..at].matches('\n').count()].0;
    for (at, _) in joined.match_indices("crate::") {
        if at == 0 || !is_word(joined.as_bytes()[at - 1]) {
            let names = names_after(&joined[at + "crate::".len()..]);
            used.extend(names.into_iter().map(|name| (line_of(at), name)));
        }
    }
    let climb = "super::".repeat(file.depth());
    for (at, _) in joined.match_indices(&climb).filter(|_| !climb.is_empty()) {
        let names = names_after(&joined[at + climb.len()..]);
        used.extend(names.into_iter().map(|name| (line_of(at), name)));
    }
    used
}

/// The first segment of a path, or of each path of a list in braces.
fn names_after(rest: &str) -> Vec<String> {
    let first = |path: &str| {
        let name: String = path.trim_start().chars().take_while(|c| is_word(*c as u8)).collect();
        (!name.is_empty()).then_some(name)
    };
    let Some(list) = rest.strip_prefix('{') else { return first(rest).into_iter().collect() };
    let (mut names, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b',' | b'}' if depth == 0 => {
                names.extend(first(&list[from..at]));
                from = at + 1;
                if byte == b'}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

fn check_world(file: &File, faults: &mut Vec<String>) {
    if matches!(file.module(), "server" | "main" | "cli") {
        return;
    }
    for (number, line) in file.code() {
        for what in WORLD.split(' ').filter(|what| contains_word(line, what)) {
            faults.push(file.fault(number, format!("{what} outside src/server")));
        }
    }
}

/// Whether `what` is in `line`, not as the end of a longer name.
fn contains_word(line: &str, what: &str) -> bool {
    line.match_indices(what).any(|(at, _)| at == 0 || !is_word(line.as_bytes()[at - 1]))
}

fn check_unwraps(file: &File, faults: &mut Vec<String>) {
    for (number, line) in file.code() {
        if line.contains(".unwrap()") {
            faults.push(file.fault(number, "unwrap: say why it cannot be, with expect"));
        }
    }
}

fn check_portable(file: &File, faults: &mut Vec<String>) {
    for (number, line) in file.code() {
        for what in UNPORTABLE.split(' ').filter(|what| line.contains(what)) {
            if what != "_ne_bytes" || file.path != OWN_ORDER {
                faults.push(file.fault(number, format!("{what} is not for every machine")));
            }
        }
    }
}

fn check_words(file: &File, faults: &mut Vec<String>) {
    for (at, line) in file.text.lines().enumerate() {
        for word in WORDS.split(' ') {
            let word = word.replace('|', "");
            let is_shouted = word.bytes().all(|b| b.is_ascii_uppercase());
            let found = if is_shouted {
                line.split(|c: char| !c.is_alphanumeric()).any(|part| part == word)
            } else {
                line.to_ascii_lowercase().contains(&word.to_ascii_lowercase())
            };
            if found {
                faults.push(file.fault(at + 1, format!("{word:?} is not for here")));
            }
        }
        let comment = line.split_once("//").filter(|_| file.path.ends_with(".rs"));
        if let Some(rule) = comment.and_then(|(_, comment)| rule_number(comment)) {
            faults.push(file.fault(at + 1, format!("{rule} means nothing to a reader")));
        }
    }
}

/// A word such as a letter and one or two digits.
fn rule_number(comment: &str) -> Option<&str> {
    comment.split(|c: char| !c.is_alphanumeric()).find(|word| {
        let digits = word.strip_prefix(|c: char| RULES.contains(c)).unwrap_or("");
        (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

/// No unsafe code of our own, and no file that could allow itself some.
fn check_unsafe(manifest: &str, lib: &str, faults: &mut Vec<String>) {
    let lints = manifest.split("\n[").find(|section| section.starts_with("lints.rust]"));
    let by_lint = lints.is_some_and(|section| section.contains("\nunsafe_code = \"forbid\""));
    if !by_lint && !lib.contains("\n#![forbid(unsafe_code)]") {
        faults.push("Cargo.toml: unsafe code is not forbidden".into());
    }
}

/// Functions, files and lines beyond what reads well.
fn name_long(file: &File, long: &mut Vec<String>) {
    let lines: Vec<&str> = file.text.lines().collect();
    if lines.len() > FILE_LINES_MAX {
        long.push(file.fault(1, format!("{} lines", lines.len())));
    }
    for (at, line) in lines.iter().enumerate() {
        let chars = line.chars().count();
        if chars > LINE_CHARS_MAX {
            long.push(file.fault(at + 1, format!("{chars} characters")));
        }
        let Some(name) = function_name(line) else { continue };
        let rest = lines[at..].iter();
        let end = rest.take_while(|inner| **inner == *line || !is_end(inner, indent(line))).count();
        if end + 1 > FUNCTION_LINES_MAX {
            long.push(file.fault(at + 1, format!("fn {name}: {} lines", end + 1)));
        }
    }
}

/// Whether a line closes what begins at this indentation.
fn is_end(line: &str, indentation: usize) -> bool {
    let is_signature_end = line.trim_start().starts_with(')') && line.ends_with('{');
    indent(line) == indentation && !line.is_empty() && !is_signature_end && line.trim() != "where"
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let is_item = before.split_whitespace().all(|word| {
        matches!(word, "pub" | "pub(crate)" | "pub(super)" | "const" | "async" | "extern")
    });
    let name = after.split(['(', '<']).next()?;
    (is_item && !line.ends_with(';') && !line.ends_with('}')).then_some(name)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

/// All files below the folders that end so, and those of the root.
fn read(folders: &[&str], extensions: &[&str]) -> Vec<File> {
    let mut paths = Vec::new();
    for folder in folders {
        walk(&root().join(folder), &mut paths);
    }
    if extensions.contains(&"md") {
        let here = fs::read_dir(root()).expect("the project");
        paths.extend(here.flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        if extensions.contains(&extension) {
            let text = fs::read_to_string(&path).expect("a text");
            let path = path.strip_prefix(root()).expect("below it").to_string_lossy();
            files.push(File { path: path.replace('\\', "/"), text });
        }
    }
    files
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    // A folder may not be there yet.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_made = path.ends_with("target") || path.ends_with("node_modules");
        if path.is_dir() && !is_made {
            walk(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

/// Each rule is seen to fail.
mod rules {
    use super::*;

    fn faults(path: &str, text: &str, check: impl Fn(&File, &mut Vec<String>)) -> Vec<String> {
        let mut faults = Vec::new();
        check(&File { path: path.into(), text: text.into() }, &mut faults);
        faults
    }

    fn floors(path: &str, text: &str) -> Vec<String> {
        faults(path, text, check_floors)
    }

    #[test]
    fn a_file_says_what_it_is() {
        assert!(faults("src/a.rs", "//! What.\n", check_docs).is_empty());
        assert_eq!(faults("src/a.rs", "use std::fmt;\n", check_docs).len(), 1);
        assert_eq!(faults("src/a.rs", "", check_docs).len(), 1);
    }

    #[test]
    fn a_module_names_only_lower_floors() {
        let allowed = [
            ("src/hub/history.rs", "use crate::message::Message;\nuse crate::hub::Bell;"),
            ("src/conn/ws.rs", "use crate::wire::{utf8::Utf8, ws::{self, Opcode}};"),
            ("src/engine/core.rs", "use crate::{conn::State, hub::History, wire, collections};"),
            ("src/server/mod.rs", "use crate::engine::Engine;"),
            ("src/engine/core.rs", "use super::slot::Slot;"),
            ("src/wire/http/head.rs", "use super::super::ws;\nuse crate::config::Config;"),
            ("src/message.rs", "use crate::json;"),
            ("src/main.rs", "use cli::args;\nuse holdline::Config;"),
            ("src/hub/mod.rs", "// as crate::conn does\n/// [`crate::engine`]"),
            ("src/hub/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::conn::Ws;\n}"),
            ("src/conn/ws_tests.rs", "use crate::engine::Engine;"),
        ];
        for (path, text) in allowed {
            assert_eq!(floors(path, text), Vec::<String>::new(), "{path}: {text}");
        }
        let forbidden = [
            (
                "src/hub/history.rs",
                "fn a() {}\nuse crate::conn::State;",
                "2: hub must not name conn",
            ),
            ("src/conn/ws.rs", "let a = crate::hub::Bell::new();", "1: conn must not name hub"),
            (
                "src/hub/mod.rs",
                "use crate::{\n    message,\n    engine::Engine,\n};",
                "name engine",
            ),
            ("src/wire/ws.rs", "use crate::collections::slots;", "wire must not name collections"),
            ("src/wire/ws.rs", "use crate::conn::ws;", "wire must not name conn"),
            ("src/collections/wheel.rs", "use crate::wire::ws;", "must not name wire"),
            ("src/engine/core.rs", "use crate::server::Hub;", "engine must not name server"),
            ("src/engine/core.rs", "use crate::Config;", "engine must not name Config"),
            ("src/message.rs", "use crate::hub::History;", "message must not name hub"),
            ("src/message.rs", "use super::hub::History;", "message must not name hub"),
            ("src/conn/ws.rs", "use super::super::hub::Bell;", "conn must not name hub"),
            ("src/hub/mod.rs", "use super::conn::Ws;", "hub must not name conn"),
            ("src/cli/args.rs", "use crate::config::Config;", "cli must not name config"),
            ("src/novel.rs", "", "novel has no floor"),
        ];
        for (path, text, expected) in forbidden {
            let found = floors(path, text);
            assert!(found.len() == 1 && found[0].contains(expected), "{path}: {text}: {found:?}");
        }
    }

    #[test]
    fn only_the_server_touches_the_world() {
        for what in WORLD.split(' ') {
            let line = format!("    let x = {what}(1);\n");
            assert!(!faults("src/engine/core.rs", &line, check_world).is_empty(), "{what}");
            assert!(faults("src/server/turn.rs", &line, check_world).is_empty(), "{what}");
            assert!(faults("src/main.rs", &line, check_world).is_empty(), "{what}");
            let comment = format!("    // not {what}\n");
            assert!(faults("src/engine/core.rs", &comment, check_world).is_empty(), "{what}");
        }
        assert!(faults("src/hub/a.rs", "let domio::x = 1;", check_world).is_empty());
    }

    #[test]
    fn only_tests_unwrap() {
        let line = "let x = y.unwrap();\n";
        assert_eq!(
            faults("src/a.rs", line, check_unwraps),
            ["src/a.rs:1: unwrap: say why it cannot be, with expect"]
        );
        let test = format!("#[cfg(test)]\nmod tests {{\n    {line}}}\n");
        assert!(faults("src/a.rs", &test, check_unwraps).is_empty());
        assert_eq!(faults("src/a.rs", &format!("{test}{line}"), check_unwraps).len(), 1);
        let one = format!("#[cfg(test)]\n#[path = \"b.rs\"]\nmod tests;\n{line}");
        assert_eq!(faults("src/a.rs", &one, check_unwraps).len(), 1);
        assert!(faults("src/a_tests.rs", line, check_unwraps).is_empty());
    }

    #[test]
    fn what_some_machines_lack_is_found() {
        let found = |path: &str, line: &str| faults(path, line, check_portable).len();
        assert_eq!(found("src/a.rs", "let a = AtomicU64::new(0);\n"), 1);
        assert_eq!(found("capi/src/a.rs", "use std::sync::atomic::AtomicI64;\n"), 1);
        assert_eq!(found("src/a.rs", "let n = u32::from_ne_bytes(bytes);\n"), 1);
        assert_eq!(found("src/a.rs", "let n = n.to_ne_bytes();\n"), 1);
        assert_eq!(found("src/wire/ws.rs", "let n = u32::from_ne_bytes(key);\n"), 0);
        assert_eq!(found("src/a.rs", "let n = u32::from_be_bytes(bytes); // AtomicU64\n"), 0);
        assert_eq!(found("src/a.rs", "let n = AtomicU32::new(0);\n"), 0);
    }

    #[test]
    fn words_that_are_not_for_here_are_found() {
        for word in WORDS.split(' ') {
            let line = format!("// see {}\n", word.replace('|', ""));
            assert_eq!(faults("src/a.rs", &line, check_words).len(), 1, "{word}");
        }
        let fine = ["let H1 = 2;\n", "// a todo list, xxx, hacking\n", "// HTTP1, RFC 6455, W3C\n"];
        for fine in fine {
            assert_eq!(faults("src/a.rs", fine, check_words), Vec::<String>::new());
        }
        for digits in ["5", "15"] {
            let line = format!("let a; // rule {}{digits}\n", "W");
            assert_eq!(faults("src/a.rs", &line, check_words).len(), 1);
        }
    }

    #[test]
    fn unsafe_code_stays_forbidden() {
        let found = |manifest: &str, lib: &str| {
            let mut faults = Vec::new();
            check_unsafe(manifest, lib, &mut faults);
            faults.len()
        };
        let good = "[a]\nb = 1\n[lints.rust]\nx = \"warn\"\nunsafe_code = \"forbid\"\n[c]\n";
        assert_eq!(found(good, "//! A.\n"), 0);
        assert_eq!(found("[a]\n", "//! A.\n#![forbid(unsafe_code)]\n"), 0);
        assert_eq!(found(&good.replace("forbid", "deny"), "//! A.\n"), 1);
        assert_eq!(found("[a]\nb = 1\n[c]\nunsafe_code = \"forbid\"\n", "//! A.\n"), 1);
    }

    #[test]
    fn long_functions_files_and_lines_are_named() {
        let long = |text: &str| faults("src/a.rs", text, name_long);
        let body = "        x();\n".repeat(68);
        assert!(long(&format!("    pub fn fits() {{\n{body}    }}\n")).is_empty());
        let text = format!(
            "    fn too<T>(\n        a: T,\n    ) -> B {{\n{body}    }}\n    fn b() {{}}\n"
        );
        assert_eq!(long(&text), ["src/a.rs:1: fn too: 72 lines"]);
        assert_eq!(long(&"\n".repeat(501)), ["src/a.rs:1: 501 lines"]);
        assert_eq!(long(&"ä".repeat(101)), ["src/a.rs:1: 101 characters"]);
        assert!(long(&"ä".repeat(100)).is_empty());
    }
}
