//! A client's registration: what was its last request, and what it was told.

use crate::protocol::{ClientInfo, Reason, Status};
use crate::types::{Attempt, FencingToken, RequestNumber, Ticket};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// What the client drew at random to register; the same nonce is the same session.
    pub nonce: u64,
    pub client_id: u32,
    pub client: ClientInfo,
    /// The last request that took a number, ...
    pub last: RequestNumber,
    /// ... the call it belonged to, ...
    pub attempt: Attempt,
    /// ... and its answer.
    pub answer: Answer,
    /// Its place in the queue while it waits.
    pub ticket: Option<Ticket>,
    /// The token that was taken from it, by expiry or by an operator, and why.
    pub lost: Option<(FencingToken, Reason)>,
}

/// The stored answer to a session's last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Connected,
    Waiting,
    Granted(FencingToken),
    Done,
    Disconnected,
    Refused(Status, Reason),
}

impl Session {
    pub fn is_closed(&self) -> bool {
        self.answer == Answer::Disconnected
    }

    /// What the session is told when it acts under a token that is not the holder's. Clients name
    /// a token until they know that it was given back, so whoever names another one has lost it:
    /// to a waiter, to an operator, or because a power loss took the grant.
    pub fn refusal(&self, token: FencingToken) -> (Status, Reason) {
        match self.lost {
            Some((lost, reason)) if lost == token => (Status::LeaseExpired, reason),
            _ if token.0 > 0 => (Status::LeaseExpired, Reason::None),
            _ => (Status::NotHolder, Reason::None),
        }
    }
}
