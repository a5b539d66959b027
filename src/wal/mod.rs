//! The write-ahead log: entries of opaque bytes in segment files, with checkpoints beside them.
//!
//! `pending` collects entries in memory, `writer` puts them on disk, `handle` syncs and removes, `recover` reads them back:
//! after a start, for a checkpoint made beside the running server, or to verify a directory.
//! `record` and `segment` have the bytes, `scan` the rule that tells a torn tail from damage.
//! All input and output goes through [`crate::disk::Disk`]. docs/DISK.md has the format as tables.

mod checkpoint;
mod error;
mod handle;
mod mark;
mod pending;
mod reader;
pub mod record;
mod recover;
mod scan;
mod segment;
mod writer;

pub use checkpoint::{Checkpoint, read_checkpoint, write_checkpoint};
pub use error::Error;
pub use handle::Handle;
pub use pending::{Batch, Pending};
pub use recover::{Recovered, Report, check, recover, replay};
pub use scan::Torn;
pub use writer::Writer;

use crate::limits::{GATHERED, SEGMENT_MAX};
use crate::types::LogIndex;

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// A segment is closed once it has this many bytes.
    pub segment_max: u64,
    /// Goes into the checksums of new segments. A number that clients cannot guess keeps them
    /// from appending bytes that recovery could take for entries of the log.
    pub salt: u64,
    /// Entries that recovery gathers before they are applied, while it reads on.
    pub gathered: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { segment_max: SEGMENT_MAX, salt: 0, gathered: GATHERED }
    }
}

/// What is done with each entry; an `Err` says why it cannot be done and ends the
/// reading.
pub type Visit<'a> = dyn FnMut(LogIndex, &[u8]) -> Result<(), String> + 'a;

/// The version of every file of the log.
const VERSION: u32 = 2;

#[cfg(test)]
mod tests;
