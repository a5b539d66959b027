//! What is written to the log and applied: the only way in which the machine's state changes.

use crate::protocol::ClientInfo;
use crate::types::{Attempt, FencingToken, FileId, LockId, Millis, RequestNumber, SessionId};
use serde::{Deserialize, Serialize};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// When it was proposed, in milliseconds since the Unix epoch, never less than in the entry
    /// before.
    pub now_ms: Millis,
    /// Waiters that had fallen silent when this was proposed: if it frees the lock, their turn
    /// passes to the next.
    pub skip: Vec<SessionId>,
    pub change: Change,
}

/// What a command does. Each is harmless when it comes too late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The first entry of every start of a server. Sessions and tokens of this start begin at
    /// `epoch`; from then on the history keeps so many `records`, and leases last `lease_ms`.
    Boot { epoch: u64, files: u32, records: u32, lease_ms: u64 },
    /// Register a session.
    Register { nonce: u64, attempt: Attempt, client: ClientInfo },
    /// A request of a session that takes a number.
    Request {
        session: SessionId,
        number: RequestNumber,
        attempt: Attempt,
        lock: LockId,
        token: FencingToken,
        ask: Ask,
    },
    /// The holder's time is over.
    Expire { lock: LockId, session: SessionId, token: FencingToken, is_skipped: bool },
    /// Forget a session that has done nothing since request `last`.
    Evict { session: SessionId, last: RequestNumber, why: Evicted },
    /// Leases last so long from now on.
    Lease { lease_ms: u64 },
}

/// The requests that take a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    Acquire {
        try_only: bool,
    },
    Cancel,
    Stage {
        file: FileId,
        total: u32,
        offset: u32,
        #[serde(with = "super::bytes")]
        data: Vec<u8>,
    },
    Release,
    Abort,
    Close,
    /// Take the lock away from whoever holds it under this token.
    Revoke {
        token: FencingToken,
        reason: String,
    },
}

/// Why a session is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evicted {
    /// Idle past its time to live, or closed long enough ago; never while it holds or waits.
    Idle,
    /// Its client has seen answers that this state does not have (a power loss took them): the
    /// session can never go on.
    Lost,
}
