//! What clients and servers say to each other; [`crate::wire`] has the bytes.

pub mod inspect;

use crate::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use serde::{Deserialize, Serialize};
use std::net::SocketAddrV4;

/// How an operation ended. The numbers are part of the ABI and of the wire: never reused, never
/// renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// Not done: no data file has that name.
    FileNotFound = 1,
    /// Not done: this connection does not hold the lock.
    NotHolder = 2,
    /// Not done: this connection held the lock, but its lease ran out while another waited, and
    /// its section was discarded.
    LeaseExpired = 3,
    /// Not done: the lock was not free in the time given.
    WouldBlock = 4,
    /// Outcome unknown: no answer in time; the request may have taken effect or may still do so.
    TimedOut = 5,
    /// Not done: no server could be reached, or the servers that can be are too few to decide.
    Unavailable = 6,
    /// The server no longer knows this session: its unpublished section is gone; the outcome of
    /// a release or close that was under way is unknown.
    SessionLost = 7,
    /// Not done: the section would grow past the server's limit.
    TooLarge = 8,
    /// Not done: an argument is null, malformed or out of range.
    InvalidArgument = 9,
    /// Not done: the connection was never opened, is closed, or belongs to another process.
    NotOpen = 10,
    /// Not done: a system call failed in the client; `errno` says why.
    SystemError = 11,
    /// Not done: the server declines; the last message says why (no disk space, a limit).
    Refused = 12,
    /// Outcome unknown: a defect in the library or the server. Please report it.
    Internal = 13,
}

impl Status {
    /// Every status, by number.
    pub const ALL: [Status; 14] = [
        Status::Ok,
        Status::FileNotFound,
        Status::NotHolder,
        Status::LeaseExpired,
        Status::WouldBlock,
        Status::TimedOut,
        Status::Unavailable,
        Status::SessionLost,
        Status::TooLarge,
        Status::InvalidArgument,
        Status::NotOpen,
        Status::SystemError,
        Status::Refused,
        Status::Internal,
    ];

    /// The status with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The number of this status in the ABI and on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// One line for a person; what `RPC_strerror` returns.
    pub const fn text(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::FileNotFound => "file not found (not done)",
            Status::NotHolder => "this connection does not hold the lock (not done)",
            Status::LeaseExpired => "the lease expired and the section was discarded (not done)",
            Status::WouldBlock => "the lock was not free in time (not done)",
            Status::TimedOut => "no answer from the server in time (outcome unknown)",
            Status::Unavailable => "no server available (not done)",
            Status::SessionLost => {
                "the server does not know this session any more (what was not published is gone)"
            }
            Status::TooLarge => "the section would exceed the server's limit (not done)",
            Status::InvalidArgument => "invalid argument (not done)",
            Status::NotOpen => "connection not open in this process (not done)",
            Status::SystemError => "system error, see errno (not done)",
            Status::Refused => "refused by the server (not done)",
            Status::Internal => "internal error (outcome unknown)",
        }
    }
}

/// Why a request was refused, where the status alone leaves a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Reason {
    /// The status says it all.
    None = 0,
    /// The disk under the data directory is full.
    NoSpace = 1,
    /// As many sessions as the server takes.
    TooManySessions = 2,
    /// The server could not write its log and acknowledges nothing until it is restarted.
    LogFailed = 3,
    /// The waiter had fallen silent when its turn came.
    Skipped = 4,
    /// An operator took the lock away.
    Revoked = 5,
    /// Nobody holds the lock under the token that is to be revoked.
    NotHeld = 6,
    /// As many clients wait for the lock as the server lets wait.
    TooManyWaiters = 7,
    /// The data files hold as many bytes as the server lets them hold.
    DataLimit = 8,
    /// The server is in no cluster.
    NotCluster = 9,
    /// Another change of the cluster is under way.
    ChangeUnderWay = 10,
    /// Too few servers of the cluster were heard lately to change it.
    NoQuorum = 11,
    /// That number, or one above it, was given to a server before.
    NumberUsed = 12,
    /// Another server of the cluster has that address.
    AddressUsed = 13,
    /// The cluster has as many servers as it may have.
    TooManyServers = 14,
    /// No server of that number asks to be let in.
    NotWaiting = 15,
    /// The cluster has no server of that number.
    NoSuchServer = 16,
    /// That server cannot lead now: it was not heard lately, or is still learning.
    CannotLead = 17,
    /// The cluster has no other server that could go on.
    LastServer = 18,
    /// Another backup is being made.
    BackupUnderWay = 19,
    /// The server could not make a backup.
    NoBackup = 20,
}

impl Reason {
    /// Every reason, by number.
    pub const ALL: [Reason; 21] = [
        Reason::None,
        Reason::NoSpace,
        Reason::TooManySessions,
        Reason::LogFailed,
        Reason::Skipped,
        Reason::Revoked,
        Reason::NotHeld,
        Reason::TooManyWaiters,
        Reason::DataLimit,
        Reason::NotCluster,
        Reason::ChangeUnderWay,
        Reason::NoQuorum,
        Reason::NumberUsed,
        Reason::AddressUsed,
        Reason::TooManyServers,
        Reason::NotWaiting,
        Reason::NoSuchServer,
        Reason::CannotLead,
        Reason::LastServer,
        Reason::BackupUnderWay,
        Reason::NoBackup,
    ];

    /// The reason with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The number of this reason on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What a person reads and what to do about it; empty for [`Reason::None`].
    pub fn text(self) -> &'static str {
        match self {
            Reason::None => "",
            Reason::NoSpace => "the server's disk is full: make room there and try again",
            Reason::TooManySessions => "the server has as many sessions as it takes: close some",
            Reason::LogFailed => "the server cannot write its log: see its messages, restart it",
            Reason::Skipped => "the client was silent when its turn came",
            Reason::Revoked => "an operator took the lock away",
            Reason::NotHeld => "nobody holds the lock under that token",
            Reason::TooManyWaiters => "as many clients wait as the server lets wait: try later",
            Reason::DataLimit => "the data files have reached the server's limit: raise it",
            Reason::NotCluster => "the server is in no cluster",
            Reason::ChangeUnderWay => "another change of the cluster is under way: try later",
            Reason::NoQuorum => {
                "too few servers of those that would count were heard lately: start those that are \
                 down first"
            }
            Reason::NumberUsed => {
                "servers had that number, or one above it, before: take the next higher one"
            }
            Reason::AddressUsed => {
                "another server of the cluster has that address: give this one another port, or \
                 remove the other first"
            }
            Reason::TooManyServers => "the cluster has as many servers as it may have",
            Reason::NotWaiting => "no server of that number asks to be let in: start it first",
            Reason::NoSuchServer => "the cluster has no server of that number",
            Reason::CannotLead => "that server was not heard lately, or is still learning",
            Reason::LastServer => "the cluster has no other server that could go on",
            Reason::BackupUnderWay => "another backup is being made: try later",
            Reason::NoBackup => "the server could not make a backup: its messages tell why",
        }
    }
}

/// How a client describes itself when it registers; shown to operators, never trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Host name.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// Name of the program.
    pub program: String,
    /// Process id.
    pub pid: u32,
}

/// A client's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// 0 in `Init`.
    pub session: SessionId,
    /// The number this request takes if it changes state.
    pub number: RequestNumber,
    pub attempt: Attempt,
    /// The attempt that took the number before: the call that the client takes for the last one which
    /// changed state.
    pub after: Attempt,
    pub stamp: Stamp,
    /// The token under which the client acts, 0 when it has none.
    pub token: FencingToken,
    pub lock: LockId,
    pub op: Op<'a>,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// Register a session. The same nonce is the same session, however often it arrives.
    Init { nonce: u64, client: ClientInfo },
    /// Take the lock: wait in the queue, or with `try_only` only if it is free now.
    Acquire { try_only: bool },
    /// Stop waiting; give the lock back, with nothing published, if it was granted meanwhile.
    Cancel,
    /// Stage one piece of an append of `total` bytes; pieces come in the order of their offsets.
    Append { file: &'a [u8], total: u32, offset: u32, window: u16, data: &'a [u8] },
    /// Publish the section and give the lock back.
    Release,
    /// Discard the section and give the lock back.
    Abort,
    /// End the session; a held lock is released as by `Release`.
    Close,
    /// Renew the lease.
    Renew,
    /// Read published bytes of a file.
    Read { file: &'a [u8], offset: u64, max: u32 },
    /// Look at the server: a page of what [`inspect::What`] has under this number.
    Inspect { what: u8, from: u64 },
    /// Take the lock away from whoever holds it under `token`, and discard the section.
    Revoke { token: FencingToken, reason: &'a str },
    /// Look at the cluster, in whatever state it is: a [`inspect::ClusterView`]. Needs no session.
    Cluster,
    /// Change the cluster.
    Reform(Reform),
}

/// What an operator wants of a cluster. To want what is so already, or under way, is no mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reform {
    /// A server that asks to be let in belongs to the cluster; the others reach it there.
    Add { server: u64, addr: String },
    /// A server leaves for ever.
    Remove { server: u64 },
    /// A server leads.
    Transfer { server: u64 },
}

/// A server's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    pub session: SessionId,
    pub number: RequestNumber,
    pub attempt: Attempt,
    pub stamp: Stamp,
    /// The request took its number: the client's next request takes the one after it.
    pub is_consumed: bool,
    pub outcome: Outcome<'a>,
}

/// How a request ended, or how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The session is registered: "Connected!".
    Connected { client_id: u32 },
    /// The lock is held under this token, for this long from the transmission that is answered.
    Granted { token: FencingToken, lease_ms: u32 },
    /// Still waiting. Position 0: it is your turn, ask at once to be granted.
    Queued { position: u32, ask_again_ms: u32 },
    /// Done; `lease_ms` is the lease as renewed, 0 when nothing is held.
    Done { lease_ms: u32 },
    /// The session has ended: "Disconnected!".
    Disconnected,
    /// To `Read`: published bytes from the offset asked for, and the file's published length. To
    /// `Inspect`: a page, and from where the next one goes on.
    Data { length: u64, data: &'a [u8] },
    /// Not done.
    Refused { status: Status, reason: Reason },
    /// Not decided here: ask the cluster's leader, which is there if an address is given.
    NotLeader { leader: Option<SocketAddrV4> },
}
