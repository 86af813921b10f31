//! Feeds what the fuzzer finds to `hub::fuzz_snapshot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdline::hub::fuzz_snapshot(data));
