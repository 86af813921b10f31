//! Feeds what the fuzzer finds to `wire::utf8::fuzz_utf8`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdline::wire::utf8::fuzz_utf8(data));
