//! What the operating system offers only to those who promise something: forking, and memory that
//! processes share. The promises are kept here, so that what this module offers is safe.
//!
//! Contact points: `baton lock` starts its guard and its command by it.

mod process;
mod shared;
mod tether;

pub use process::{fork_running, tie_to_parent};
pub use shared::SharedWords;
pub use tether::Tether;
