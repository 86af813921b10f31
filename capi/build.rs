//! Gives the shared library the name that programs look for: it changes when the ABI does.

use std::{env, fs};

const BEFORE: &str = "HOLDLINE_ABI_VERSION: u32 = ";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/types.rs");
    let source = fs::read_to_string("src/types.rs").expect("the source");
    let (_, after) = source.split_once(BEFORE).expect("the ABI's number");
    let (number, _) = after.split_once(';').expect("its end");
    let system = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if matches!(&*system, "linux" | "android" | "freebsd" | "netbsd" | "openbsd" | "dragonfly") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libholdline.so.{number}");
    }
}
