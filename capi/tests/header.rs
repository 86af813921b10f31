//! The header is what cbindgen makes of the source, in the words of C90. `UPDATE=1 cargo test --test header` writes it.

use std::path::Path;
use std::{env, fs};

#[test]
fn the_header_is_of_this_source() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut made = Vec::new();
    let bindings = cbindgen::generate_with_config(here, config).expect("the source is read");
    bindings.write(&mut made);
    let made = old_c(&String::from_utf8(made).expect("UTF-8"));
    let path = here.join("include/holdline.h");
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &made).expect("written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let differs = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(made == kept, "include/holdline.h is not of this source; first: {differs:?}");
}

/// Comments as C90 and C++98 have them, and no comma after the last constant of an enum.
fn old_c(made: &str) -> String {
    let lines: Vec<&str> = made.lines().collect();
    let is_comment =
        |at: usize| lines.get(at).is_some_and(|line| line.trim_start().starts_with("//"));
    // After the last constant come comments of nothing more, but the brace.
    let is_last = |at: usize| lines.get(at + 1).is_some_and(|next| next.starts_with("} holdline_"));
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        let line = match line.split_once("// ") {
            Some((before, comment)) if before.trim().is_empty() => {
                let is_first = at == 0 || !is_comment(at - 1);
                let begin = if is_first { "/* " } else { " * " };
                let end = if is_comment(at + 1) { "" } else { " */" };
                format!("{before}{begin}{comment}{end}")
            }
            Some((before, comment)) => format!("{before}/* {comment} */"),
            None if is_last(at) => line.trim_end_matches(',').to_owned(),
            None => (*line).to_owned(),
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}
