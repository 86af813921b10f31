//! Feeds what the fuzzer finds to `wire::command::fuzz_command`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdline::wire::command::fuzz_command(data));
