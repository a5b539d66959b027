//! Why the log could not be read or opened.

use crate::types::LogIndex;
use std::io;
use std::path::{Path, PathBuf};

/// Why the log could not be read or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused an operation.
    #[error("cannot {op} {}: {source}", path.display())]
    Io { path: PathBuf, op: &'static str, source: io::Error },
    /// A file is not as it was written, and cutting the log there could lose entries that were
    /// acknowledged.
    #[error(
        "{} is damaged at byte {offset}: {why}; restore the data directory from a backup, or give \
         up what follows the damage as docs/DISK.md describes; the log was not changed",
        file.display()
    )]
    Damaged { file: PathBuf, offset: u64, why: String },
    /// What an entry asks for could not be done. The entry is as it was written.
    #[error("{}: entry {index} at byte {offset} cannot be applied: {why}", file.display())]
    Entry { file: PathBuf, offset: u64, index: LogIndex, why: String },
    /// A file was written by another version of the program.
    #[error(
        "{} has version {found} of the disk format and this program knows version {known}; start \
         the program that wrote it; the log was not changed",
        file.display()
    )]
    Version { file: PathBuf, found: u32, known: u32 },
}

impl Error {
    /// For `map_err`: what was done to which file.
    pub(super) fn io(path: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { path: path.to_owned(), op, source }
    }

    pub(super) fn damaged(file: &Path, offset: u64, why: impl Into<String>) -> Error {
        Error::Damaged { file: file.to_owned(), offset, why: why.into() }
    }
}
