//! Feeds what the fuzzer finds to `wire::handshake::fuzz_handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdline::wire::handshake::fuzz_handshake(data));
