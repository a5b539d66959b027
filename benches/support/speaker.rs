//! A client that speaks the protocol without the client library: what is left when every cost but
//! the server's is taken away, and thousands of sessions fit in one thread.

use baton::limits::SECTION_LIMIT_DEFAULT;
use baton::protocol::{ClientInfo, Op, Outcome, Reply, Request};
use baton::server::core::{Limits, Now, Settings};
use baton::types::{Attempt, FencingToken, LockId, Millis, RequestNumber, SessionId, Stamp};

/// One session that goes through acquire, append, release again and again.
pub struct Speaker {
    pub session: SessionId,
    number: RequestNumber,
    attempt: Attempt,
    after: Attempt,
    token: FencingToken,
    nonce: u64,
    pub step: Step,
    /// Whether a section has an append in it.
    appends: bool,
}

/// What the session asks for next, or is waiting for the answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Init,
    Acquire,
    Append,
    Release,
}

/// What a reply means to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The step is done; there is a next one.
    Next,
    /// Its turn has come: it sends the same request again.
    Turn,
    /// It waits; asks again after so many milliseconds.
    Waits(u32),
    /// Nothing it waits for.
    Stale,
}

impl Speaker {
    pub fn new(nonce: u64, appends: bool) -> Self {
        Speaker {
            session: SessionId(0),
            number: RequestNumber(1),
            attempt: Attempt(nonce as u32),
            after: Attempt(0),
            token: FencingToken(0),
            nonce,
            step: Step::Init,
            appends,
        }
    }

    /// The request of this step.
    pub fn request<'a>(&self, stamp: u64, data: &'a [u8]) -> Request<'a> {
        let op = match self.step {
            Step::Init => Op::Init { nonce: self.nonce, client: ClientInfo::default() },
            Step::Acquire => Op::Acquire { try_only: false },
            Step::Append => {
                let total = data.len() as u32;
                Op::Append { file: b"file_0", total, offset: 0, window: 0, data }
            }
            Step::Release => Op::Release,
        };
        Request {
            session: self.session,
            number: self.number,
            attempt: self.attempt,
            after: self.after,
            stamp: Stamp(stamp),
            token: self.token,
            lock: LockId(0),
            op,
        }
    }

    pub fn hear(&mut self, reply: &Reply<'_>) -> Heard {
        if reply.number != self.number || reply.attempt != self.attempt {
            return Heard::Stale;
        }
        match (&reply.outcome, self.step) {
            (Outcome::Connected { .. }, Step::Init) => {
                self.session = reply.session;
                self.step = Step::Acquire;
            }
            (Outcome::Granted { token, .. }, Step::Acquire) => {
                self.token = *token;
                self.step = if self.appends { Step::Append } else { Step::Release };
            }
            (Outcome::Queued { position: 0, .. }, Step::Acquire) => return Heard::Turn,
            (Outcome::Queued { ask_again_ms, .. }, Step::Acquire) => {
                return Heard::Waits(*ask_again_ms);
            }
            (Outcome::Done { .. }, Step::Append) => self.step = Step::Release,
            (Outcome::Done { .. }, Step::Release) => {
                self.token = FencingToken(0);
                self.step = Step::Acquire;
            }
            // Its turn passed while it was silent, or the like: it queues anew.
            (Outcome::Refused { .. }, Step::Acquire) if reply.is_consumed => {}
            (outcome, step) => panic!("{outcome:?} as the answer to {step:?}"),
        }
        if reply.is_consumed {
            self.number = self.number.next();
            self.after = self.attempt;
        }
        self.attempt = Attempt(self.attempt.0.wrapping_add(1));
        Heard::Next
    }
}

/// A server's settings as they are by default.
#[allow(dead_code, reason = "not every program that includes this has a core of its own")]
pub fn settings(syncs: bool) -> Settings {
    Settings {
        lease_ms: 10_000,
        session_ttl_ms: 600_000,
        section_limit: SECTION_LIMIT_DEFAULT,
        syncs,
        limits: Limits::default(),
    }
}

#[allow(dead_code, reason = "as above")]
pub fn at(ms: u64) -> Now {
    let steady = Millis(1 + ms);
    Now { steady, steady_us: steady.0 * 1_000, unix: Millis(1_000_000 + ms) }
}
