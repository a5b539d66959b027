//! The client: [`exchange`] is the conversation with the servers as pure logic, [`conn`] the
//! blocking socket around it. Programs see [`Connection`], [`Guard`], [`Options`] and [`Error`]
//! at the root of the crate; the C functions are thin over the same.
//!
//! Contact points: [`crate::protocol`] and [`crate::wire`] say what is sent, [`crate::limits`]
//! how long and how much. Nothing here knows of the server's parts.

mod ahead;
pub mod call;
mod cancel;
pub mod clock;
pub mod conn;
mod error;
pub mod exchange;
mod guard;
mod lease;
#[cfg(test)]
mod model;
mod operator;
mod options;
mod pace;
mod process;
mod rtt;
mod socket;
pub mod survey;
mod window;

pub use cancel::Canceller;
pub use conn::Connection;
pub use error::Error;
pub use guard::Guard;
pub use lease::LeaseView;
pub use options::Options;
