//! What a program can ask of its connection, and what it gets.

use crate::limits::READ_MAX;
use crate::protocol::inspect::What;
use crate::protocol::{Op, Reform};
use crate::types::FencingToken;

/// One call of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// Register a session: the first call.
    Connect,
    /// Take the lock.
    Acquire(Patience),
    /// Stage bytes for a file.
    Append { file: &'a [u8], data: &'a [u8] },
    /// Publish the section and give the lock back.
    Release,
    /// Discard the section and give the lock back.
    Abort,
    /// Renew the lease.
    Renew,
    /// Read at most `max` published bytes of a file.
    Read { file: &'a [u8], offset: u64, max: u32 },
    /// Look at the server: a page of `what`, from `from` on.
    Inspect { what: What, from: u64 },
    /// Take the lock away from the holder of this token.
    Revoke { token: FencingToken, reason: &'a str },
    /// Change the cluster.
    Reform(&'a Reform),
    /// End the session: the last call.
    Close,
}

/// How long an acquire waits for others to give the lock back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    Try,
    /// Until this time, in microseconds of the connection's clock.
    Until(u64),
    /// For as long as a server answers.
    Forever,
}

/// What a successful call brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; there is nothing more to say.
    Done,
    /// The lock is held under this token.
    Granted(FencingToken),
    /// Bytes were read ([`Exchange::read_data`](super::exchange::Exchange::read_data)); the file
    /// has this published length.
    Read { length: u64 },
    /// A page came, likewise; the next one goes on from there.
    Page { next: u64 },
}

/// What is read in many pieces.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    File(&'a [u8]),
    /// The manifest of a backup.
    Manifest,
}

impl<'a> Source<'a> {
    /// The call for the bytes from `offset` on.
    pub(super) fn call(self, offset: u64, len: usize) -> Call<'a> {
        match self {
            Source::File(file) => Call::Read { file, offset, max: len.min(READ_MAX) as u32 },
            Source::Manifest => Call::Inspect { what: What::Backup, from: offset },
        }
    }

    /// The same for one of many pieces.
    pub(super) fn op(self, offset: u64, len: usize) -> Op<'a> {
        match self {
            Source::File(file) => Op::Read { file, offset, max: len as u32 },
            Source::Manifest => Op::Inspect { what: What::Backup as u8, from: offset },
        }
    }
}
