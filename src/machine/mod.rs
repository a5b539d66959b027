//! The state machine: sessions, the lock and its queue, staged sections. Pure: no clock, no
//! input or output, no thread, no randomness; the same commands give the same state on every
//! machine.
//!
//! [`Machine::admit`] looks at a request and answers from memory, refuses, or proposes a change;
//! [`Machine::apply`] is the only mutation. What changes nothing is never logged, so a refusal
//! takes no request number.

mod apply;
mod backup;
mod bytes;
mod command;
mod history;
mod lock;
mod session;

pub use command::{Ask, Change, Command, Evicted};
pub use history::History;
pub use lock::{Holder, Lock, Part, Section, Waiter};
pub use session::{Answer, Session};

use crate::limits::SESSIONS_MAX;
use crate::mutant;
use crate::protocol::inspect::What;
use crate::protocol::{Op, Reason, Reform, Request, Status};
use crate::types::{Attempt, FencingToken, FileId, LockId, Millis, RequestNumber, SessionId};
use lock::Piece;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that outlives a restart, except what has been published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    epoch: u64,
    files: u32,
    now_ms: Millis,
    last_session: SessionId,
    last_token: FencingToken,
    sessions: BTreeMap<SessionId, Session>,
    nonces: BTreeMap<u64, SessionId>,
    lock: Lock,
    /// How long leases last that clients are told of.
    lease_ms: u64,
    history: History,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nothing: it is a duplicate of something long answered.
    Ignore,
    /// Nothing yet: pieces of the same append that come before it have not arrived.
    Early,
    /// Say again what the session was told as the answer to its last request.
    Repeat,
    /// Already registered: say again which session it is.
    Registered(SessionId),
    /// The lock is held already, under this token.
    Holding(FencingToken),
    /// The lease is good: say that it is renewed.
    Renewed,
    /// Published bytes of this file.
    Read { file: FileId, offset: u64, max: u32 },
    /// A page of this.
    Inspect { what: What, from: u64 },
    /// What an operator wants of the cluster: the machine has no part in it.
    Reform(Reform),
    /// Not done; takes no number.
    Refuse(Status, Reason),
    /// Log and apply this; the answer comes with its effects.
    Propose(Change),
    /// The session cannot go on: log and apply this, and say that the session is lost.
    Lost(Change),
}

/// What follows from an applied command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This nonce is this session now.
    Registered { nonce: u64, session: SessionId },
    /// The session's last request has its answer (see [`Session::answer`]); with `is_stable`
    /// it may be told only when the entry is on stable storage and published.
    Answer { session: SessionId, is_stable: bool },
    /// A waiter has been granted the lock.
    Turn { session: SessionId, token: FencingToken },
    /// Append these to the data files, in order.
    Publish(Vec<Part>),
    /// Nobody knows this session any more.
    Ended { session: SessionId },
}

impl Machine {
    /// Data files there are.
    pub fn files(&self) -> u32 {
        self.files
    }

    /// How often a server has started on this state.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How long leases last that clients are told of, at most; 0 before the first start.
    pub fn lease_ms(&self) -> u64 {
        self.lease_ms
    }

    /// The newest time in the log, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> Millis {
        self.now_ms
    }

    pub fn session(&self, session: SessionId) -> Option<&Session> {
        self.sessions.get(&session)
    }

    /// All sessions, by id.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// How many registrations are remembered.
    pub fn registrations(&self) -> usize {
        self.nonces.len()
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// What has happened to the lock.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Bytes staged and not yet published.
    pub fn staged_bytes(&self) -> u64 {
        self.lock.holder.as_ref().map_or(0, |holder| holder.section.bytes())
    }

    /// For planted bugs: forgets what a checkpoint must not forget.
    #[cfg(feature = "mutants")]
    pub fn spoil(&mut self) {
        self.lock.spoil();
        if mutant::is("checkpoint_forgets_answers") {
            let sessions = self.sessions.values_mut();
            sessions.for_each(|session| session.attempt = Attempt::default());
        }
    }

    /// Looks at a request; `newest` is the newest call that was heard from its session and
    /// `section_limit` the bytes that a section may stage.
    pub fn admit(&self, request: &Request<'_>, newest: Attempt, section_limit: u64) -> Admission {
        if let Op::Init { nonce, client } = &request.op {
            return match self.nonces.get(nonce) {
                Some(id) if !mutant::is("registered_twice") => Admission::Registered(*id),
                _ if self.sessions.len() >= SESSIONS_MAX => {
                    Admission::Refuse(Status::Refused, Reason::TooManySessions)
                }
                _ => Admission::Propose(Change::Register {
                    nonce: *nonce,
                    attempt: request.attempt,
                    client: client.clone(),
                }),
            };
        }
        let Some(session) = self.sessions.get(&request.session) else {
            return Admission::Refuse(Status::SessionLost, Reason::None);
        };
        let (number, next) = (request.number, session.last.next());
        if number <= session.last {
            // Of an append also an earlier piece: where the answers to its last pieces were lost,
            // the client repeats the first of these, and the answer to the last is for all.
            let is_append = matches!(request.op, Op::Append { .. });
            let is_newest = number == session.last || is_append;
            if is_newest && request.attempt == session.attempt {
                if mutant::is("duplicate_executed")
                    || (mutant::is("append_doubled") && is_append && number == session.last)
                {
                    return self.admit_next(request, session, section_limit);
                }
                return Admission::Repeat;
            }
            // The client has been told that no call took this number: a duplicate of a refused one, or
            // several of its pieces, took effect after a restart. That can neither be undone nor
            // explained.
            let is_contradiction = session.attempt.is_before(request.attempt);
            let is_ignored = mutant::is("contradiction_ignored");
            return if is_contradiction && !session.is_closed() && !is_ignored {
                self.lose(request.session, session)
            } else {
                Admission::Ignore
            };
        }
        if session.is_closed() {
            return Admission::Refuse(Status::SessionLost, Reason::None);
        }
        if number == next || (number == next.next() && mutant::is("gap_accepted")) {
            // A restart forgets the newest, but not what took the last number: a late piece of an append
            // that was refused earlier says nothing of the calls since.
            let is_before = |attempt| request.attempt.is_before(attempt);
            let is_late = is_before(newest) || is_before(session.attempt);
            if is_late && !mutant::is("stale_request_taken") {
                return Admission::Ignore;
            }
            // The same, where a power loss had taken the call that the client knows under this number.
            if request.after != session.attempt && !mutant::is("contradiction_passed_over") {
                return self.lose(request.session, session);
            }
            return self.admit_next(request, session, section_limit);
        }
        match request.op {
            Op::Cancel if number == next.next() && !mutant::is("cancel_in_turn_only") => {
                self.propose(request, Ask::Cancel)
            }
            Op::Append { window, .. }
                if number.0.saturating_sub(window.into())
                    <= next.0 - u64::from(mutant::is("early_window_short")) =>
            {
                Admission::Early
            }
            _ => self.lose(request.session, session),
        }
    }

    /// A request that comes in its turn.
    fn admit_next(
        &self,
        request: &Request<'_>,
        session: &Session,
        section_limit: u64,
    ) -> Admission {
        if request.lock != LockId(0) {
            return Admission::Refuse(Status::InvalidArgument, Reason::None);
        }
        match &request.op {
            // Decoding lets none of these with a session pass; there is nothing sensible to answer.
            Op::Init { .. } | Op::Cluster => Admission::Ignore,
            Op::Acquire { try_only } => match &self.lock.holder {
                Some(holder)
                    if holder.session == request.session && holder.token == request.token =>
                {
                    Admission::Holding(holder.token)
                }
                // Whoever names a token believes that it holds the lock, and asks anew once it
                // knows better: a late copy, too, of an acquire that found it held, must not queue.
                _ if request.token.0 > 0 => {
                    let (status, reason) = session.refusal(request.token);
                    Admission::Refuse(status, reason)
                }
                _ => self.propose(request, Ask::Acquire { try_only: *try_only }),
            },
            Op::Cancel => self.propose(request, Ask::Cancel),
            Op::Append { file, total, offset, data, .. } => {
                let Some(file) = FileId::from_name(file, self.files) else {
                    return Admission::Refuse(Status::FileNotFound, Reason::None);
                };
                let (total, offset) = (*total, *offset);
                let piece = Piece { attempt: request.attempt, file, total, offset, data };
                match self.holder(request, session) {
                    Err((status, reason)) => Admission::Refuse(status, reason),
                    Ok(holder) if !holder.section.accepts(&piece) => {
                        Admission::Refuse(Status::InvalidArgument, Reason::None)
                    }
                    Ok(holder)
                        if holder.section.bytes_with(&piece) > section_limit
                            && !mutant::is("limit_ignored")
                            || mutant::is("limit_half")
                                && holder.section.bytes_with(&piece) > section_limit / 2 =>
                    {
                        Admission::Refuse(Status::TooLarge, Reason::None)
                    }
                    Ok(_) => self
                        .propose(request, Ask::Stage { file, total, offset, data: data.to_vec() }),
                }
            }
            Op::Release => self.propose_as_holder(request, session, Ask::Release),
            Op::Abort => self.propose_as_holder(request, session, Ask::Abort),
            // What was appended under a token that is lost is not published: its client must not
            // take the end of the session for that of the section.
            Op::Close if request.token.0 > 0 => {
                self.propose_as_holder(request, session, Ask::Close)
            }
            Op::Close => self.propose(request, Ask::Close),
            Op::Renew if mutant::is("renew_unchecked") => Admission::Renewed,
            Op::Renew => match self.holder(request, session) {
                Ok(_) => Admission::Renewed,
                Err((status, reason)) => Admission::Refuse(status, reason),
            },
            Op::Read { file, offset, max } => match FileId::from_name(file, self.files) {
                Some(file) => Admission::Read { file, offset: *offset, max: *max },
                None => Admission::Refuse(Status::FileNotFound, Reason::None),
            },
            Op::Inspect { what, from } => match What::from_code(*what) {
                Some(what) => Admission::Inspect { what, from: *from },
                None => Admission::Refuse(Status::InvalidArgument, Reason::None),
            },
            Op::Reform(reform) => Admission::Reform(reform.clone()),
            Op::Revoke { token, reason } => match &self.lock.holder {
                Some(holder) if holder.token == *token || mutant::is("anybody_revoked") => {
                    self.propose(request, Ask::Revoke { token: *token, reason: (*reason).into() })
                }
                _ => Admission::Refuse(Status::Refused, Reason::NotHeld),
            },
        }
    }

    /// The holder, if the request acts under its token; otherwise why not.
    fn holder(
        &self,
        request: &Request<'_>,
        session: &Session,
    ) -> Result<&Holder, (Status, Reason)> {
        match &self.lock.holder {
            Some(holder) if holder.session == request.session && holder.token == request.token => {
                Ok(holder)
            }
            _ => Err(session.refusal(request.token)),
        }
    }

    fn propose_as_holder(&self, request: &Request<'_>, session: &Session, ask: Ask) -> Admission {
        match self.holder(request, session) {
            Ok(_) => self.propose(request, ask),
            Err((status, reason)) => Admission::Refuse(status, reason),
        }
    }

    fn lose(&self, id: SessionId, session: &Session) -> Admission {
        Admission::Lost(Change::Evict { session: id, last: session.last, why: Evicted::Lost })
    }

    fn propose(&self, request: &Request<'_>, ask: Ask) -> Admission {
        Admission::Propose(Change::Request {
            session: request.session,
            number: request.number,
            attempt: request.attempt,
            lock: request.lock,
            token: request.token,
            ask,
        })
    }
}

/// The number that registering takes.
pub const FIRST_REQUEST: RequestNumber = RequestNumber(1);

#[cfg(test)]
mod tests;
