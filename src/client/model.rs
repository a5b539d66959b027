//! A server in a page, for the client's tests: executes each number once, remembers the last
//! answer of each session, expires leases when somebody waits. It keeps what the tests compare
//! the client's belief with.

mod lock;

use crate::protocol::{Op, Outcome, Reason, Reply, Request, Status};
use crate::types::{Attempt, FencingToken, RequestNumber, SessionId, Stamp};
use crate::wire;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;

pub(crate) const LEASE_US: u64 = 400_000;
const ASK_AGAIN_MS: u32 = 100;
/// A waiter that has not asked for this long is skipped.
const SILENCE_US: u64 = 3 * ASK_AGAIN_MS as u64 * 1000;

/// Datagrams to send, and where to.
pub(crate) type Outbox = Vec<(SocketAddrV4, Vec<u8>)>;

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    nonces: BTreeMap<u64, SessionId>,
    pub(crate) holder: Option<Holder>,
    pub(crate) queue: VecDeque<SessionId>,
    last_token: u64,
    /// How long the server keeps the lock for each token.
    pub(crate) leases: BTreeMap<u64, u64>,
    pub(crate) published: Vec<Section>,
    /// Pieces that come early are held until their turn; otherwise they are dropped.
    holds_early: bool,
    /// Waiters are told that their turn has come and granted when they ask; otherwise they are
    /// granted outright.
    asks_first: bool,
    held_back: Vec<(SocketAddrV4, Vec<u8>)>,
}

pub(crate) struct Session {
    pub(crate) last: u64,
    attempt: Attempt,
    newest: Attempt,
    stamp: Stamp,
    answer: Answer,
    address: SocketAddrV4,
    heard_at: u64,
    lost: FencingToken,
    is_closed: bool,
    is_turn: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Connected,
    Waiting,
    Granted(FencingToken),
    Done,
    Disconnected,
    Refused(Status),
}

pub(crate) struct Holder {
    pub(crate) session: SessionId,
    pub(crate) token: FencingToken,
    appends: Vec<Vec<u8>>,
    open: Option<(Attempt, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) session: SessionId,
    pub(crate) appends: Vec<Vec<u8>>,
}

impl Model {
    pub(crate) fn new(holds_early: bool, asks_first: bool) -> Self {
        Model { holds_early, asks_first, ..Model::default() }
    }

    /// Takes in a datagram from a client.
    pub(crate) fn handle(&mut self, now: u64, from: SocketAddrV4, datagram: &[u8]) -> Outbox {
        let mut out = Outbox::new();
        let request = wire::decode_request(datagram).expect("clients send requests");
        self.request(now, from, &request, datagram, &mut out);
        self.tick(now, &mut out);
        // What was early may have its turn now.
        for (from, datagram) in std::mem::take(&mut self.held_back) {
            let request = wire::decode_request(&datagram).expect("it was decoded before");
            self.request(now, from, &request, &datagram, &mut out);
        }
        out
    }

    fn request(
        &mut self,
        now: u64,
        from: SocketAddrV4,
        request: &Request<'_>,
        datagram: &[u8],
        out: &mut Outbox,
    ) {
        if let Op::Init { nonce, .. } = &request.op {
            let fresh = SessionId(1000 + self.nonces.len() as u64);
            let id = *self.nonces.entry(*nonce).or_insert(fresh);
            if id != fresh && !self.sessions.contains_key(&id) {
                // A late duplicate, of a session that was forgotten meanwhile.
                return;
            }
            self.sessions.entry(id).or_insert(Session {
                last: 1,
                attempt: request.attempt,
                newest: request.attempt,
                stamp: request.stamp,
                answer: Answer::Connected,
                address: from,
                heard_at: now,
                lost: FencingToken(0),
                is_closed: false,
                is_turn: false,
            });
            let outcome = Outcome::Connected { client_id: id.0 as u32 };
            return reply(id, request, request.stamp, true, outcome, from, out);
        }
        let id = request.session;
        let refuse = |status| Outcome::Refused { status, reason: Reason::None };
        let Some(session) = self.sessions.get_mut(&id) else {
            let outcome = refuse(Status::SessionLost);
            return reply(id, request, request.stamp, false, outcome, from, out);
        };
        let number = request.number.0;
        // An earlier piece of the newest append is answered with the newest answer.
        let is_known = number == session.last
            || (number < session.last && matches!(request.op, Op::Append { .. }));
        let is_stale = match number <= session.last {
            true => !is_known || request.attempt != session.attempt,
            false => request.attempt < session.newest,
        };
        if is_stale {
            return;
        }
        session.address = from;
        session.heard_at = now;
        if request.attempt > session.newest {
            session.newest = request.attempt;
            session.stamp = request.stamp;
        }
        session.stamp = session.stamp.max(request.stamp);
        if is_known {
            if session.is_turn {
                self.grant(now, id);
            }
            return self.repeat(now, id, out);
        }
        assert!(!session.is_closed, "a client that heard goodbye says no more");
        if number == session.last + 1 {
            assert_eq!(request.after, session.attempt, "it knows which call was the last");
        }
        let is_early = match request.op {
            Op::Append { window, .. } => {
                number > session.last + 1 && number - u64::from(window) <= session.last + 1
            }
            _ => false,
        };
        if is_early {
            if self.holds_early {
                self.held_back.push((from, datagram.to_vec()));
            }
            return;
        }
        let skips_one = matches!(request.op, Op::Cancel) && number == session.last + 2;
        assert!(number == session.last + 1 || skips_one, "a client leaves no gap: {request:?}");
        self.execute(now, request, out);
    }

    /// Executes the next request of a session.
    fn execute(&mut self, now: u64, request: &Request<'_>, out: &mut Outbox) {
        let id = request.session;
        let is_holder = self.holder.as_ref().is_some_and(|held| held.session == id);
        let acts =
            is_holder && self.holder.as_ref().is_some_and(|held| held.token == request.token);
        let session = &self.sessions[&id];
        let (stamp, address) = (session.stamp, session.address);
        let refusal = if request.token.0 > 0 && session.lost == request.token {
            Status::LeaseExpired
        } else {
            Status::NotHolder
        };
        let not_consumed = match &request.op {
            Op::Append { file, .. } | Op::Read { file, .. } if *file != b"file_0" => {
                Some(Outcome::Refused { status: Status::FileNotFound, reason: Reason::None })
            }
            Op::Read { .. } => Some(Outcome::Data { length: 5, data: b"hello" }),
            Op::Acquire { .. } if is_holder => {
                let (token, lease_ms) = self.renew(now, id).expect("it holds");
                Some(Outcome::Granted { token, lease_ms })
            }
            Op::Acquire { .. } if request.token.0 > 0 => {
                Some(Outcome::Refused { status: Status::LeaseExpired, reason: Reason::None })
            }
            Op::Append { .. } | Op::Release | Op::Abort | Op::Renew if !acts => {
                Some(Outcome::Refused { status: refusal, reason: Reason::None })
            }
            Op::Renew => {
                let (_, lease_ms) = self.renew(now, id).expect("it holds");
                Some(Outcome::Done { lease_ms })
            }
            _ => None,
        };
        if let Some(outcome) = not_consumed {
            return reply(id, request, stamp, false, outcome, address, out);
        }
        if !matches!(request.op, Op::Acquire { try_only: false }) {
            self.leave(id);
        }
        let answer = match &request.op {
            Op::Acquire { try_only } if self.holder.is_some() || !self.queue.is_empty() => {
                if *try_only {
                    Answer::Refused(Status::WouldBlock)
                } else {
                    self.queue.push_back(id);
                    Answer::Waiting
                }
            }
            Op::Acquire { .. } => {
                self.grant(now, id);
                self.sessions[&id].answer
            }
            Op::Append { total, offset, data, .. } => {
                self.stage(request.attempt, *total, *offset, data);
                Answer::Done
            }
            Op::Cancel | Op::Abort => {
                self.holder.take_if(|_| is_holder);
                Answer::Done
            }
            Op::Release | Op::Close => {
                if let Some(held) = self.holder.take_if(|_| is_holder)
                    && acts
                {
                    self.published.push(Section { session: id, appends: held.appends });
                }
                if request.op == Op::Close { Answer::Disconnected } else { Answer::Done }
            }
            Op::Init { .. }
            | Op::Renew
            | Op::Read { .. }
            | Op::Inspect { .. }
            | Op::Revoke { .. }
            | Op::Cluster
            | Op::Reform(_) => unreachable!("answered above"),
        };
        let session = self.sessions.get_mut(&id).expect("it was there");
        session.last = request.number.0;
        session.attempt = request.attempt;
        session.answer = answer;
        session.is_closed = answer == Answer::Disconnected;
        self.repeat(now, id, out);
    }

    fn stage(&mut self, attempt: Attempt, total: u32, offset: u32, data: &[u8]) {
        let held = self.holder.as_mut().expect("only the holder stages");
        let mut open = match held.open.take() {
            Some((of, bytes)) if of == attempt && offset > 0 => bytes,
            _ => Vec::new(),
        };
        assert_eq!(open.len(), offset as usize, "pieces are executed in their order");
        open.extend_from_slice(data);
        if open.len() == total as usize {
            held.appends.push(open);
        } else {
            held.open = Some((attempt, open));
        }
    }

    /// Says what the session's last request brought, with the newest stamp.
    fn repeat(&mut self, now: u64, id: SessionId, out: &mut Outbox) {
        let lease = self.renew(now, id);
        let lease_ms = lease.map_or(0, |(_, lease_ms)| lease_ms);
        let position = self.queue.iter().position(|&waiter| waiter == id).unwrap_or(0) as u32;
        let session = &self.sessions[&id];
        let outcome = match session.answer {
            Answer::Connected => Outcome::Connected { client_id: id.0 as u32 },
            Answer::Waiting if session.is_turn => Outcome::Queued { position: 0, ask_again_ms: 0 },
            Answer::Waiting => {
                Outcome::Queued { position: position + 1, ask_again_ms: ASK_AGAIN_MS }
            }
            Answer::Granted(token) => Outcome::Granted { token, lease_ms },
            Answer::Done => Outcome::Done { lease_ms },
            Answer::Disconnected => Outcome::Disconnected,
            Answer::Refused(status) => Outcome::Refused { status, reason: Reason::None },
        };
        let reply = Reply {
            session: id,
            number: RequestNumber(session.last),
            attempt: session.attempt,
            stamp: session.stamp,
            is_consumed: true,
            outcome,
        };
        out.push((session.address, encode(&reply)));
    }
}

fn reply(
    session: SessionId,
    request: &Request<'_>,
    stamp: Stamp,
    is_consumed: bool,
    outcome: Outcome<'_>,
    to: SocketAddrV4,
    out: &mut Outbox,
) {
    let (number, attempt) = (request.number, request.attempt);
    let reply = Reply { session, number, attempt, stamp, is_consumed, outcome };
    out.push((to, encode(&reply)));
}

fn encode(reply: &Reply<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode_reply(reply, &mut bytes);
    bytes
}
