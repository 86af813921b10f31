//! The header is what cbindgen makes of the source. `UPDATE=1 cargo test --test header` writes it.

use std::path::Path;
use std::{env, fs};

#[test]
fn the_header_is_of_this_source() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut made = Vec::new();
    let bindings = cbindgen::generate_with_config(here, config).expect("the source is read");
    bindings.write(&mut made);
    let made = String::from_utf8(made).expect("UTF-8");
    let path = here.join("include/holdline.h");
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &made).expect("written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let differs = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(made == kept, "include/holdline.h is not of this source; first: {differs:?}");
}
