//! Strangers send what the fuzzer found to a whole engine.
#![no_main]

#[path = "../../tests/chaos/mod.rs"]
mod chaos;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    chaos::strangers::fuzz_strangers(data);
});
