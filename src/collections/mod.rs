//! Containers that know nothing of protocols: slots with generations, timers.

pub mod slots;
pub mod wheel;
