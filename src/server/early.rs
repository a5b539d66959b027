//! Pieces of a large append that came before their turn: threads overtake each other on the way
//! from the socket to the lock, and so do datagrams on the network.

use crate::protocol::{Op, Request};
use crate::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use std::collections::BTreeMap;

/// The most pieces held for all sessions together; further ones are dropped and come again.
const HELD_MAX: usize = 4096;

#[derive(Debug, Default)]
pub struct Early {
    held: BTreeMap<(SessionId, RequestNumber), Piece>,
}

/// A request to append, on its own feet.
#[derive(Debug)]
pub struct Piece {
    session: SessionId,
    number: RequestNumber,
    attempt: Attempt,
    stamp: Stamp,
    token: FencingToken,
    lock: LockId,
    file: Vec<u8>,
    total: u32,
    offset: u32,
    window: u16,
    data: Vec<u8>,
}

impl Early {
    /// Holds a piece until the one before it has been staged.
    pub fn hold(&mut self, request: &Request<'_>) {
        let Op::Append { file, total, offset, window, data } = request.op else { return };
        if self.held.len() >= HELD_MAX {
            return;
        }
        let piece = Piece {
            session: request.session,
            number: request.number,
            attempt: request.attempt,
            stamp: request.stamp,
            token: request.token,
            lock: request.lock,
            file: file.to_vec(),
            total,
            offset,
            window,
            data: data.to_vec(),
        };
        self.held.insert((request.session, request.number), piece);
    }

    /// The piece with this number, whose turn it is now; what the session had before it is
    /// forgotten.
    pub fn take(&mut self, session: SessionId, number: RequestNumber) -> Option<Piece> {
        while let Some((&key, _)) = self.held.range((session, RequestNumber(0))..).next() {
            if key.0 != session || key.1 > number {
                return None;
            }
            let piece = self.held.remove(&key);
            if key.1 == number {
                return piece;
            }
        }
        None
    }

    /// How many pieces are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Forgets what is held for a session.
    pub fn forget(&mut self, session: SessionId) {
        if crate::mutant::is("early_forgotten") {
            return;
        }
        let last = RequestNumber(u64::MAX);
        while self.held.range((session, RequestNumber(0))..=(session, last)).next().is_some() {
            self.take(session, last);
        }
    }
}

impl Piece {
    pub fn request(&self) -> Request<'_> {
        Request {
            session: self.session,
            number: self.number,
            attempt: self.attempt,
            // What it waited for is a piece of the same append.
            after: self.attempt,
            stamp: self.stamp,
            token: self.token,
            lock: self.lock,
            op: Op::Append {
                file: &self.file,
                total: self.total,
                offset: self.offset,
                window: self.window,
                data: &self.data,
            },
        }
    }
}
