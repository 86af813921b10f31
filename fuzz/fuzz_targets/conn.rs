//! Feeds what the fuzzer finds to `conn::fuzz_conn`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdline::conn::fuzz_conn(data));
