//! Feeds what the fuzzer finds to `wire::http::fuzz_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdline::wire::http::fuzz_head(data));
