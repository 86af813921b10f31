//! Feeds what the fuzzer finds to `cursor::fuzz_since`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdline::cursor::fuzz_since(data));
