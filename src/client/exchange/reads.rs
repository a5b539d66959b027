//! Reads beside the one request in flight, for [`Ahead`](crate::client::ahead::Ahead).

use super::Exchange;
use crate::protocol::{Op, Outcome, Request};
use crate::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use crate::wire;
use std::net::SocketAddrV4;

/// What all reads of one call have in common.
#[derive(Clone, Copy, Debug)]
pub struct Reads {
    pub server: SocketAddrV4,
    session: SessionId,
    number: RequestNumber,
    attempt: Attempt,
    after: Attempt,
    token: FencingToken,
}

impl Exchange {
    /// Begins reads that do not wait for each other; none while a request is in flight. They take no
    /// number, and replies to them are of no call that comes later.
    pub fn begin_reads(&mut self) -> Option<Reads> {
        if self.is_busy() {
            return None;
        }
        self.attempt = Attempt(self.attempt.0.wrapping_add(1));
        Some(Reads {
            server: self.server(),
            session: self.session,
            number: self.next_number,
            attempt: self.attempt,
            after: self.taken,
            token: self.token().unwrap_or_default(),
        })
    }

    /// How long a transmission may go unanswered, in microseconds.
    pub fn patience_us(&self) -> u64 {
        self.rtt.timeout_us()
    }
}

impl Reads {
    pub fn encode(&self, op: Op<'_>, stamp: Stamp, out: &mut Vec<u8>) {
        let Reads { server: _, session, number, attempt, after, token } = *self;
        let lock = LockId(0);
        let request = Request { session, number, attempt, after, stamp, token, lock, op };
        wire::encode_request(&request, out);
    }

    /// The transmission that a datagram answers, and the data that it brings, if it does.
    pub fn decode<'a>(
        &self,
        from: SocketAddrV4,
        datagram: &'a [u8],
    ) -> Option<(Stamp, Option<&'a [u8]>)> {
        let reply = wire::decode_reply(datagram).ok().filter(|_| from == self.server)?;
        if (reply.session, reply.number, reply.attempt) != (self.session, self.number, self.attempt)
        {
            return None;
        }
        match reply.outcome {
            Outcome::Data { data, .. } => Some((reply.stamp, Some(data))),
            _ => Some((reply.stamp, None)),
        }
    }
}
