//! The request in flight: what it asks, the numbers it carries, the bytes it becomes.

use super::Exchange;
use crate::client::call::{Call, Patience};
use crate::limits::READ_MAX;
use crate::protocol::inspect::What;
use crate::protocol::{Op, Outcome, Reform, Request};
use crate::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use crate::wire;

/// A request that is not answered yet. It outlives a call that timed out: until it is answered,
/// nobody knows which number the server expects next.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) kind: Kind,
    /// The token under which the client acts.
    pub(super) token: FencingToken,
    /// The number of the request, or of the first piece of an append.
    pub(super) first: RequestNumber,
    pub(super) attempt: Attempt,
    /// The attempt that took the number before the first.
    pub(super) after: Attempt,
}

/// What the request asks for; the bytes of an append and the name of a file are in [`Payload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Init,
    Acquire { try_only: bool },
    Cancel,
    Append { pieces: u64 },
    Release,
    Abort,
    Renew,
    Read { offset: u64, max: u32 },
    Inspect { what: What, from: u64 },
    Revoke { token: FencingToken },
    Reform(ReformKind),
    Close,
}

/// An [`Reform`] without its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReformKind {
    Add { server: u64 },
    Remove { server: u64 },
    Transfer { server: u64 },
}

/// File name and data of a call or a request. Buffers are kept and reused.
#[derive(Debug, Default)]
pub(super) struct Payload {
    pub(super) file: Vec<u8>,
    pub(super) data: Vec<u8>,
}

impl Payload {
    /// Memory that is kept for the next append; what a larger one needed is given back.
    const KEPT: usize = 1 << 20;

    pub(super) fn set(&mut self, file: &[u8], data: &[u8]) {
        self.file.clear();
        self.file.extend_from_slice(file);
        self.data.clear();
        self.data.extend_from_slice(data);
    }

    /// The data of a call that had text.
    fn text(&self) -> &str {
        str::from_utf8(&self.data).unwrap_or_default()
    }

    /// The bytes are not needed any more.
    pub(super) fn clear(&mut self) {
        self.data.clear();
        self.data.shrink_to(Self::KEPT);
    }

    /// How many pieces the data travels in; nothing to append is one empty piece.
    pub(super) fn pieces(&self) -> u64 {
        self.data.len().div_ceil(wire::piece_max(self.file.len())).max(1) as u64
    }

    /// Where in the data a piece stands.
    fn piece(&self, index: u64) -> (usize, &[u8]) {
        let piece_max = wire::piece_max(self.file.len());
        let offset = index as usize * piece_max;
        let end = self.data.len().min(offset + piece_max);
        let from = if crate::mutant::is("piece_repeated") { offset.min(piece_max) } else { offset };
        (offset, &self.data[from..from + end - offset])
    }
}

impl Kind {
    /// What a call sends once nothing else is in the way.
    pub(super) fn of(call: &Wish, payload: &Payload) -> Kind {
        match *call {
            Wish::Connect => Kind::Init,
            Wish::Acquire(patience) => Kind::Acquire { try_only: patience == Patience::Try },
            Wish::Append => Kind::Append { pieces: payload.pieces() },
            Wish::Release => Kind::Release,
            Wish::Abort => Kind::Abort,
            Wish::Renew => Kind::Renew,
            Wish::Read { offset, max } => Kind::Read { offset, max },
            Wish::Inspect { what, from } => Kind::Inspect { what, from },
            Wish::Revoke { token } => Kind::Revoke { token },
            Wish::Reform(reform) => Kind::Reform(reform),
            Wish::Close => Kind::Close,
        }
    }

    /// Whether the request never takes its number: the next call need not know its answer.
    pub(super) fn changes_nothing(self) -> bool {
        matches!(self, Kind::Renew | Kind::Read { .. } | Kind::Inspect { .. } | Kind::Reform(_))
    }

    /// Whether `outcome` can be an answer to this kind of request.
    pub(super) fn fits(self, outcome: &Outcome<'_>) -> bool {
        match outcome {
            Outcome::Connected { client_id } => self == Kind::Init && *client_id > 0,
            Outcome::Granted { token, .. } => {
                matches!(self, Kind::Acquire { .. } | Kind::Renew) && token.0 > 0
            }
            Outcome::Queued { .. } => self == Kind::Acquire { try_only: false },
            Outcome::Done { .. } => matches!(
                self,
                Kind::Cancel
                    | Kind::Append { .. }
                    | Kind::Release
                    | Kind::Abort
                    | Kind::Renew
                    | Kind::Revoke { .. }
                    | Kind::Reform(_)
            ),
            Outcome::Disconnected => self == Kind::Close,
            Outcome::Data { data, .. } => match self {
                Kind::Read { max, .. } => data.len() <= max as usize,
                Kind::Inspect { .. } => data.len() <= READ_MAX,
                _ => false,
            },
            Outcome::Refused { .. } | Outcome::NotLeader { .. } => true,
        }
    }
}

/// A [`Call`] without its bytes, which are in a [`Payload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Connect,
    Acquire(Patience),
    Append,
    Release,
    Abort,
    Renew,
    Read { offset: u64, max: u32 },
    Inspect { what: What, from: u64 },
    Revoke { token: FencingToken },
    Reform(ReformKind),
    Close,
}

impl Wish {
    pub(super) fn of(call: Call<'_>, payload: &mut Payload) -> Wish {
        match call {
            Call::Connect => Wish::Connect,
            Call::Acquire(patience) => Wish::Acquire(patience),
            Call::Append { file, data } => {
                payload.set(file, data);
                Wish::Append
            }
            Call::Release => Wish::Release,
            Call::Abort => Wish::Abort,
            Call::Renew => Wish::Renew,
            Call::Read { file, offset, max } => {
                payload.set(file, &[]);
                Wish::Read { offset, max }
            }
            Call::Inspect { what, from } => Wish::Inspect { what, from },
            Call::Revoke { token, reason } => {
                payload.set(&[], reason.as_bytes());
                Wish::Revoke { token }
            }
            Call::Reform(reform) => Wish::Reform(match reform {
                Reform::Add { server, addr } => {
                    payload.set(&[], addr.as_bytes());
                    ReformKind::Add { server: *server }
                }
                Reform::Remove { server } => ReformKind::Remove { server: *server },
                Reform::Transfer { server } => ReformKind::Transfer { server: *server },
            }),
            Call::Close => Wish::Close,
        }
    }
}

impl Exchange {
    /// Writes piece `piece` of the request in flight, as sent at `now`, into `out`.
    pub(super) fn encode(&self, flight: &Flight, piece: u64, now: u64, out: &mut Vec<u8>) {
        let file = self.sent.file.as_slice();
        let op = match flight.kind {
            Kind::Init => Op::Init { nonce: self.nonce, client: self.client.clone() },
            Kind::Acquire { try_only } => Op::Acquire { try_only },
            Kind::Cancel => Op::Cancel,
            Kind::Append { .. } => {
                let (offset, data) = self.sent.piece(piece);
                Op::Append {
                    file,
                    // begin() refused what these fields cannot express; a window is far below.
                    total: self.sent.data.len() as u32,
                    offset: offset as u32,
                    window: self.window.before(piece) as u16,
                    data,
                }
            }
            Kind::Release => Op::Release,
            Kind::Abort => Op::Abort,
            Kind::Renew => Op::Renew,
            Kind::Read { offset, max } => Op::Read { file, offset, max },
            Kind::Inspect { what, from } => Op::Inspect { what: what as u8, from },
            Kind::Revoke { token } => Op::Revoke { token, reason: self.sent.text() },
            Kind::Reform(reform) => Op::Reform(match reform {
                ReformKind::Add { server } => {
                    Reform::Add { server, addr: self.sent.text().to_owned() }
                }
                ReformKind::Remove { server } => Reform::Remove { server },
                ReformKind::Transfer { server } => Reform::Transfer { server },
            }),
            Kind::Close => Op::Close,
        };
        let request = Request {
            session: if flight.kind == Kind::Init { SessionId(0) } else { self.session },
            number: RequestNumber(flight.first.0 + piece),
            attempt: flight.attempt,
            after: if piece == 0 { flight.after } else { flight.attempt },
            stamp: Stamp(now),
            token: flight.token,
            lock: LockId(0),
            op,
        };
        wire::encode_request(&request, out);
    }
}
