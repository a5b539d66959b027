//! What an operator is shown: how the server is, who holds and who waits, what has happened.
//!
//! An answer to [`Op::Inspect`](super::Op::Inspect) is one page: a document of this module in
//! postcard's bytes (<https://postcard.jamesmunns.com/wire-format>), at most
//! [`READ_MAX`](crate::limits::READ_MAX) of them, with whole records only. A layout never changes
//! once it is released; another one gets a number of its own in [`What`].

mod record;

pub use record::{Hash, Link, Record, RecordKind, Revocation, digest};

use crate::protocol::ClientInfo;
use crate::types::{FencingToken, Millis, SessionId, Ticket};
use serde::{Deserialize, Serialize};
use std::net::SocketAddrV4;

/// What can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// A [`ServerStatus`]; one page.
    Status = 1,
    /// A [`LockPage`]: waiters from a ticket on, and on the page from ticket 0 the holder.
    Lock = 2,
    /// A [`HistoryPage`]: records from a number on.
    History = 3,
    /// The manifest of a backup (docs/DISK.md), made for the session that asks: its bytes from an offset
    /// on.
    Backup = 4,
}

impl What {
    /// The document with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        let all = [What::Status, What::Lock, What::History, What::Backup];
        all.into_iter().find(|what| *what as u8 == code)
    }
}

/// How the server is. Counts are since its start unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    pub version: String,
    /// How often a server has started on this data directory.
    pub epoch: u64,
    /// The server's clock, in milliseconds since the Unix epoch.
    pub now_ms: Millis,
    pub uptime_ms: Millis,
    pub data_dir: String,
    /// `--durability sync`.
    pub is_synced: bool,
    pub lease_ms: u64,
    pub session_ttl_ms: u64,
    pub section_limit: u64,
    pub files: u32,
    /// Bytes in all data files together.
    pub published_bytes: u64,
    /// Bytes of the write-ahead log.
    pub log_bytes: u64,
    /// Bytes free on the disk when it was last looked at; `u64::MAX` when that is not known.
    pub room_bytes: u64,
    /// Indices of the log: the newest entry, and up to where it is written and published.
    pub log_last: u64,
    pub log_written: u64,
    pub log_published: u64,
    pub sessions: u64,
    pub waiters: u64,
    /// The holder's token; 0 while the lock is free.
    pub token: FencingToken,
    pub staged_bytes: u64,
    pub counters: Counters,
    /// How often each [`RecordKind`] has been recorded in the life of the data directory.
    pub recorded: [u64; RecordKind::ALL.len()],
    /// Records that are kept.
    pub records: u64,
}

/// What was counted since the start of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Well-formed requests.
    pub requests: u64,
    /// Of them, those that were answered with what they had been answered with before.
    pub repeats: u64,
    /// Of them, late duplicates that were dropped.
    pub ignored: u64,
    /// Of them, those that were refused at once.
    pub refused: u64,
    /// Datagrams that were no message.
    pub malformed: u64,
}

/// A cluster as one of its servers sees it; the answer to
/// [`Op::Cluster`](super::Op::Cluster).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// What tells the cluster from others.
    pub cluster: u64,
    /// The server that answers.
    pub server: u64,
    pub term: u64,
    /// The leader as far as the server knows; 0: none.
    pub leader: u64,
    /// Entries of the cluster's log that are committed as far as the server knows, and that it
    /// has applied.
    pub committed: u64,
    pub applied: u64,
    /// The highest number that a server has ever had.
    pub newest: u64,
    /// Servers that ask to be let in, as the leader hears them.
    pub waiting: Vec<u64>,
    pub members: Vec<MemberView>,
}

/// One server of a cluster as another one, or itself, sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    pub server: u64,
    /// Where the others reach it.
    pub addr: String,
    /// Where clients reach it; none when that is not known.
    pub clients: Option<SocketAddrV4>,
    /// It counts for a quorum; otherwise it is still learning.
    pub votes: bool,
    /// Entries that it has on stable storage, as the leader knows; none when a follower answers.
    pub log: Option<u64>,
    /// How long ago it was heard; none when not since that server began to listen.
    pub heard_ms_ago: Option<u64>,
}

/// Who holds the lock and who waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockPage {
    /// The server's clock, in milliseconds since the Unix epoch.
    pub now_ms: Millis,
    /// All who wait, on this page or not.
    pub waiting: u64,
    pub holder: Option<HolderView>,
    pub waiters: Vec<WaiterView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderView {
    pub session: SessionId,
    pub client_id: u32,
    pub client: ClientInfo,
    pub token: FencingToken,
    /// When it was granted, in milliseconds since the Unix epoch.
    pub since_ms: Millis,
    /// What is left of the lease; with nobody waiting the lock stays held beyond it.
    pub lease_left_ms: u64,
    /// It was told that its turn has come and has not been heard since.
    pub is_called: bool,
    pub staged_bytes: u64,
    /// How long ago it was heard; none when it has not been since the server started.
    pub heard_ms_ago: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterView {
    pub ticket: Ticket,
    pub session: SessionId,
    pub client_id: u32,
    pub client: ClientInfo,
    /// Since when it has waited, in milliseconds since the Unix epoch.
    pub since_ms: Millis,
    /// As in [`HolderView`].
    pub heard_ms_ago: Option<u64>,
}

/// A part of what has happened to the lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// The oldest record that is kept, and the newest there is; 0 before the first.
    pub oldest: u64,
    pub newest: u64,
    /// The hash of the record before the first of this page.
    pub anchor: Hash,
    pub records: Vec<Record>,
}

#[cfg(test)]
mod tests;
