//! Lives through the world of `tests/chaos`, every choice in it a byte that the fuzzer found.
#![no_main]

#[path = "../../tests/chaos/mod.rs"]
mod chaos;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    chaos::fuzz::fuzz_engine(data);
});
