//! The random world, for the tests and for the fuzz target of the engine.
#![allow(dead_code, unreachable_pub)]

pub mod asker;
pub mod crowd;
pub mod cuts;
pub mod fuzz;
pub mod network;
pub mod oracle;
pub mod publisher;
pub mod reading;
pub mod rest;
pub mod settings;
#[path = "../support/sim.rs"]
pub mod sim;
pub mod strangers;
pub mod traveller;
pub mod truth;
pub mod within;
pub mod world;
