//! Feeds what the fuzzer finds to `conn::ws::fuzz_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdline::conn::ws::fuzz_frames(data));
