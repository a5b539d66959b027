//! Baton: a distributed lock manager with an append-only log.

pub mod cli;
pub mod client;
pub mod data;
pub mod disk;
pub mod engine;
mod ffi;
pub mod limits;
pub mod machine;
pub mod protocol;
pub mod proxy;
pub mod server;
pub mod sync;
pub mod types;
pub mod units;
pub mod wal;
pub mod wire;

pub use client::{Connection, Error, Guard, LeaseView, Options};
pub use types::FencingToken;
