//! Baton: a distributed lock manager with an append-only log.
//!
//! Programs on many machines take a fair, leased, fenced lock from a server over UDP, append to
//! files that the server keeps, and hand the lock on. What was appended under the lock appears at
//! once, exactly once, or not at all.
//!
//! ```no_run
//! # fn main() -> Result<(), baton::Error> {
//! let mut connection = baton::Connection::connect("localhost:10000")?;
//! let mut section = connection.lock()?; // waits for its turn
//! section.append("file_0", "hello, ")?;
//! section.append("file_0", "world\n")?;
//! section.release()?; // on stable storage when this returns
//! connection.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! Programs use [`Connection`]; C programs use `include/rpc.h`, which is thin over it. The other
//! modules are the parts of the server `batond` and of the command line `baton`, public for the
//! tests, the benchmarks and the curious; docs/ARCHITECTURE.md has the map. They follow no
//! versioning promise.

pub mod cli;
pub mod client;
pub mod data;
pub mod disk;
pub mod engine;
mod ffi;
pub mod json;
pub mod limits;
pub mod machine;
mod mutant;
pub mod protocol;
pub mod proxy;
pub mod server;
pub mod sim;
pub mod sync;
mod sys;
pub mod types;
pub mod units;
pub mod wal;
pub mod wire;

pub use client::{Canceller, Connection, Error, Guard, LeaseView, Options};
pub use types::FencingToken;
