//! How a command becomes committed: [`solo`] by this machine's own log. (A cluster's way comes
//! beside it; the machine does not know the difference.)

pub mod cluster;
pub mod solo;
