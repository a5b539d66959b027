//! What a relay can tell of a datagram that passes: direction, kind, and which request it is or
//! answers. Built on [`crate::wire`]; anything that is no message of the protocol is
//! [`Kind::Other`] and passes too.

use crate::protocol::{Op, Outcome};
use crate::types::{Attempt, RequestNumber, SessionId};
use crate::wire;
use std::fmt;

/// Which way a datagram travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From a client to the server.
    Request,
    /// From the server to a client.
    Reply,
}

/// What a datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Init,
    Acquire,
    Cancel,
    Append,
    Release,
    Abort,
    Close,
    Renew,
    Read,
    Inspect,
    Revoke,
    Connected,
    Granted,
    Queued,
    Done,
    Disconnected,
    Data,
    Refused,
    /// No message of this protocol.
    Other,
}

/// The kinds of requests, as scripts and traces spell them.
pub const REQUESTS: [(&str, Kind); 12] = [
    ("init", Kind::Init),
    ("acquire", Kind::Acquire),
    ("cancel", Kind::Cancel),
    ("append", Kind::Append),
    ("release", Kind::Release),
    ("abort", Kind::Abort),
    ("close", Kind::Close),
    ("renew", Kind::Renew),
    ("read", Kind::Read),
    ("inspect", Kind::Inspect),
    ("revoke", Kind::Revoke),
    ("other", Kind::Other),
];

/// The kinds of replies, as scripts and traces spell them.
pub const REPLIES: [(&str, Kind); 8] = [
    ("connected", Kind::Connected),
    ("granted", Kind::Granted),
    ("queued", Kind::Queued),
    ("done", Kind::Done),
    ("disconnected", Kind::Disconnected),
    ("data", Kind::Data),
    ("refused", Kind::Refused),
    ("other", Kind::Other),
];

/// One datagram, as far as a relay understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub direction: Direction,
    pub kind: Kind,
    pub session: SessionId,
    pub number: RequestNumber,
    pub attempt: Attempt,
    /// Of an `Init`: tells one session of a client address from the next.
    pub nonce: Option<u64>,
}

impl Message {
    /// Reads a datagram that travels in this direction.
    pub fn read(direction: Direction, datagram: &[u8]) -> Message {
        let other = Message {
            direction,
            kind: Kind::Other,
            session: SessionId(0),
            number: RequestNumber(0),
            attempt: Attempt(0),
            nonce: None,
        };
        match direction {
            Direction::Request => wire::decode_request(datagram).map_or(other, |request| Message {
                direction,
                kind: request_kind(&request.op),
                session: request.session,
                number: request.number,
                attempt: request.attempt,
                nonce: match request.op {
                    Op::Init { nonce, .. } => Some(nonce),
                    _ => None,
                },
            }),
            Direction::Reply => wire::decode_reply(datagram).map_or(other, |reply| Message {
                direction,
                kind: reply_kind(&reply.outcome),
                session: reply.session,
                number: reply.number,
                attempt: reply.attempt,
                nonce: None,
            }),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Request => "request",
            Direction::Reply => "reply",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = REQUESTS.iter().chain(&REPLIES);
        f.write_str(all.find(|(_, kind)| kind == self).map_or("?", |(name, _)| name))
    }
}

fn request_kind(op: &Op<'_>) -> Kind {
    match op {
        Op::Init { .. } => Kind::Init,
        Op::Acquire { .. } => Kind::Acquire,
        Op::Cancel => Kind::Cancel,
        Op::Append { .. } => Kind::Append,
        Op::Release => Kind::Release,
        Op::Abort => Kind::Abort,
        Op::Close => Kind::Close,
        Op::Renew => Kind::Renew,
        Op::Read { .. } => Kind::Read,
        Op::Inspect { .. } => Kind::Inspect,
        Op::Revoke { .. } => Kind::Revoke,
        Op::Cluster | Op::Reform(_) => Kind::Other,
    }
}

fn reply_kind(outcome: &Outcome<'_>) -> Kind {
    match outcome {
        Outcome::Connected { .. } => Kind::Connected,
        Outcome::Granted { .. } => Kind::Granted,
        Outcome::Queued { .. } => Kind::Queued,
        Outcome::Done { .. } => Kind::Done,
        Outcome::Disconnected => Kind::Disconnected,
        Outcome::Data { .. } => Kind::Data,
        Outcome::Refused { .. } | Outcome::NotLeader { .. } => Kind::Refused,
    }
}
