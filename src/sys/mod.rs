//! What the operating system offers only to those who promise something: forking, memory that
//! processes share, and calls for which there is no safe wrapper. The promises are kept here, so that
//! what this module offers is safe.
//!
//! Contact points: `baton lock` starts its guard and its command by it, the log hurries its bytes.

mod file;
mod process;
mod shared;
mod tether;

pub use file::start_writing;
pub use process::{fork_running, tie_to_parent};
pub use shared::SharedWords;
pub use tether::Tether;
