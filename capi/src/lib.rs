//! holdline from C. The header, `include/holdline.h`, is generated from this crate; what it says is
//! what programs rely on.
//!
//! The only place of the project with unsafe code: it begins where pointers come in and ends as early as
//! it can. Every exported function goes through [`error::guard`], which no panic passes.

//!
//! What every one of them demands, and the header says at its beginning: pointers are NULL or valid for the
//! call, also those inside of structs; handles have not been freed.

#![allow(non_camel_case_types, reason = "names as they are in the header")]
#![allow(clippy::missing_safety_doc, reason = "it is the same for all, and said above")]

// What C sees and calls, in the order of the header.
mod types;

mod server;

mod hub;

mod listen;

mod ctx;

mod error;

mod log;

// What that is made of.
mod app;
mod frame;
mod input;

/// The ABI of the library that is running, to compare with HOLDLINE_ABI_VERSION of the header.
#[unsafe(no_mangle)]
pub extern "C" fn holdline_abi_version() -> u32 {
    types::HOLDLINE_ABI_VERSION
}
