//! The client's side of every conversation with a server, without clock, socket, thread or
//! randomness: what time it is and what arrived come in, what is to be sent and what the call
//! brought come out. [`crate::client::conn`] drives it over a socket, simulations over virtual
//! networks.
//!
//! ```text
//! begin(call) ──► settling ──────────► own request ──────────► outcome
//!                 what an earlier      sent until answered;    poll_outcome()
//!                 call left            an acquire waits in          ▲
//!                 unanswered           the queue                    │
//!                      │                    │ out of patience, or    │
//!                      │ still queued       │ earlier appends lost   │
//!                      ▼                    ▼                        │
//!                    cancel            ending: cancel or abort ──────┘
//! ```
//!
//! At most one request is in flight (a large append is one request in many pieces), so at any
//! time the client knows the next number, or is finding it out. A call that runs out of time
//! leaves its request in flight; the next call settles it.
//!
//! `answers.rs` has what follows from each reply, `flight.rs` what a request consists of,
//! `reads.rs` the reads of which many are under way at once.

mod answers;
mod flight;
mod reads;

use super::call::{Answer, Call, Patience};
use super::error::Error;
use super::lease::LeaseView;
use super::rtt::Rtt;
use super::window::Window;
use crate::limits::{CLOSE_WAIT_MS, NAME_MAX};
use crate::mutant;
use crate::protocol::{ClientInfo, Reason, Status};
use crate::types::{Attempt, FencingToken, RequestNumber, SessionId};
use flight::{Flight, Kind, Payload, Wish};
use std::net::SocketAddrV4;
use std::sync::Arc;

/// A server that is silent for this long, in microseconds, is given up for the next of the list.
/// One that is only slow is found again: the others send the exchange back.
const SILENT_US: u64 = 150_000;
/// How long a server that was given up is not believed to be the leader, in microseconds, whatever
/// others say, who may not have noticed yet.
const DOUBT_US: u64 = 1_000_000;
/// How long to wait before asking on when nobody knows the leader, or those who know disagree, in
/// microseconds.
const ASK_PAUSE_US: u64 = 20_000;
/// The most servers that an exchange knows, with those that it was sent to.
const SERVERS_MAX: usize = 32;

/// What an exchange must know before it begins.
#[derive(Clone, Debug)]
pub struct Config {
    /// The servers, at least one; the first is tried first.
    pub servers: Vec<SocketAddrV4>,
    /// How long a call goes on without an answer, in microseconds.
    pub timeout_us: u64,
    /// How the client describes itself.
    pub client: ClientInfo,
    /// Random: makes repetitions of the registration recognisable as one.
    pub nonce: u64,
    /// For the jitter.
    pub seed: u64,
}

/// One session's conversation. All times are microseconds of one clock that never goes back.
#[derive(Debug)]
pub struct Exchange {
    servers: Vec<SocketAddrV4>,
    /// Index of the server in use.
    server: usize,
    /// Where the last reply came from, and when.
    heard_from: SocketAddrV4,
    heard_at: u64,
    /// The first transmission to the server in use that it left unanswered.
    silent_since: Option<u64>,
    /// The server that was given up last, and when.
    doubted: Option<(SocketAddrV4, u64)>,
    /// When a server sent the exchange to another one last.
    referred_at: Option<u64>,

    timeout_us: u64,
    client: ClientInfo,
    nonce: u64,
    session: SessionId,
    client_id: u32,
    next_number: RequestNumber,
    attempt: Attempt,
    /// The attempt that took the number before the next.
    taken: Attempt,
    state: State,

    held: Held,
    lease: Arc<LeaseView>,
    /// Acknowledged appends are lost and the program does not know yet.
    owes_expiry: bool,
    /// The last answer said that an operator has taken the lock away.
    is_revoked: bool,

    flight: Option<Flight>,
    window: Window,
    rtt: Rtt,
    /// Name and data of the request in flight.
    sent: Payload,

    call: Option<CallState>,
    /// Name and data of a call whose request is not in flight yet.
    wanted: Payload,
    outcome: Option<Result<Answer, Error>>,
    read_data: Vec<u8>,
}

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The server does not know the session any more.
    Lost,
    Closed,
}

/// The lock as far as the client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    /// The last token granted, kept after a loss so that the server can tell an expired holder
    /// from one that never held; 0 once the lock was given back.
    token: FencingToken,
    /// Appends were acknowledged under the token.
    is_staged: bool,
    /// The server said that the token counts no more.
    is_lost: bool,
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
struct CallState {
    wish: Wish,
    step: Step,
    /// How long it goes on without an answer, and until when that is now.
    timeout_us: u64,
    give_up_at: u64,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// What an earlier call left unanswered is being settled; nothing of this call was sent.
    Settling,
    /// The call's own request is in flight.
    Own,
    /// A close that began while the lock was held releases it first: the answer to a release
    /// says whether the section was published.
    Releasing,
    /// How the call ends is decided, once the lock or the session is given back.
    Ending(Status, Reason),
}

impl Exchange {
    /// An exchange that has not said anything yet; its first call is [`Call::Connect`].
    pub fn new(config: Config) -> Self {
        assert!(!config.servers.is_empty(), "an exchange needs a server");
        Exchange {
            heard_from: config.servers[0],
            heard_at: 0,
            servers: config.servers,
            server: 0,
            silent_since: None,
            doubted: None,
            referred_at: None,
            timeout_us: config.timeout_us,
            client: config.client,
            nonce: config.nonce,
            session: SessionId(0),
            client_id: 0,
            next_number: RequestNumber(1),
            // The registration has no session yet: its attempt comes from the nonce, so that a
            // late reply to an earlier user of the same port is not taken for its answer.
            attempt: Attempt((config.nonce & 0xffff) as u32),
            taken: Attempt(0),
            state: State::Open,
            held: Held::default(),
            lease: Arc::default(),
            owes_expiry: false,
            is_revoked: false,
            flight: None,
            window: Window::new(),
            rtt: Rtt::new(config.seed),
            sent: Payload::default(),
            call: None,
            wanted: Payload::default(),
            outcome: None,
            read_data: Vec::new(),
        }
    }

    /// Begins a call; the one before must have ended.
    pub fn begin(&mut self, call: Call<'_>, now: u64) {
        assert!(self.call.is_none() && self.outcome.is_none(), "one call at a time");
        if let Some(outcome) = self.answer_locally(&call) {
            self.outcome = Some(outcome);
            return;
        }
        // Whether the server knows of a renewal or a read does not matter any more.
        if self.flight.as_ref().is_some_and(|flight| flight.kind.changes_nothing()) {
            self.flight = None;
        }
        let holds_nothing = self.flight.is_none() && (self.held.token.0 == 0 || self.held.is_lost);
        let timeout_us = match call {
            Call::Close if holds_nothing => self.timeout_us.min(CLOSE_WAIT_MS * 1000),
            _ => self.timeout_us,
        };
        let wish = Wish::of(call, &mut self.wanted);
        let give_up_at = now + timeout_us;
        self.call = Some(CallState { wish, step: Step::Settling, timeout_us, give_up_at });
        self.silent_since = None;
        self.rtt.reset();
        match &self.flight {
            None => self.proceed(),
            Some(flight) => {
                let goes_on_waiting = flight.kind == (Kind::Acquire { try_only: false })
                    && matches!(wish, Wish::Acquire(Patience::Forever | Patience::Until(_)));
                let is_append = matches!(flight.kind, Kind::Append { .. });
                if goes_on_waiting {
                    self.set_step(Step::Own);
                }
                if is_append && !self.window.end_here() {
                    self.flight = None;
                    return self.proceed();
                }
                self.window.resend();
            }
        }
    }

    /// What can be said about a call without asking the server.
    fn answer_locally(&mut self, call: &Call<'_>) -> Option<Result<Answer, Error>> {
        match (self.state, call) {
            (State::Closed, _) => Some(Err(Error::NotOpen)),
            (State::Lost, Call::Close) => {
                self.state = State::Closed;
                Some(Ok(Answer::Done))
            }
            (State::Lost, _) => Some(Err(Error::SessionLost)),
            (State::Open, Call::Append { file, .. } | Call::Read { file, .. })
                if file.len() > NAME_MAX =>
            {
                Some(Err(Error::FileNotFound))
            }
            (State::Open, Call::Append { data, .. }) if u32::try_from(data.len()).is_err() => {
                Some(Err(Error::TooLarge))
            }
            (State::Open, _) => None,
        }
    }

    /// The next datagram to send, written into `out`, and where to.
    pub fn poll_transmit(&mut self, now: u64, out: &mut Vec<u8>) -> Option<SocketAddrV4> {
        self.call?;
        let flight = self.flight.as_ref()?;
        let piece = self.window.due()?;
        self.encode(flight, piece, now, out);
        self.window.on_sent(piece, now);
        self.silent_since.get_or_insert(now);
        Some(self.servers[self.server])
    }

    /// When [`Self::handle_timeout`] wants to be called if no datagram comes before.
    pub fn poll_timeout(&self) -> Option<u64> {
        let call = self.call?;
        let patience = self.patience_ends().unwrap_or(call.give_up_at);
        let window = self.window.timeout(&self.rtt).unwrap_or(call.give_up_at);
        let silence = self.silence_ends().unwrap_or(call.give_up_at);
        Some(call.give_up_at.min(patience).min(window).min(silence))
    }

    /// Does what the time has come for.
    pub fn handle_timeout(&mut self, now: u64) {
        if self.patience_ends().is_some_and(|until| until <= now) {
            self.lose_patience(now);
        }
        let Some(call) = self.call else { return };
        if call.give_up_at <= now {
            self.give_up(call);
        } else if self.silence_ends().is_some_and(|until| until <= now) {
            self.doubted = Some((self.server(), now));
            self.turn_to_next_server(now);
            self.window.resend();
        } else if self.window.on_timeout(now, &self.rtt) {
            self.rtt.back_off();
        }
    }

    /// The program does not want to wait for the lock any longer: an acquire under way ends as one
    /// whose time is over.
    pub fn handle_cancel(&mut self, now: u64) {
        if let Some(call) = &mut self.call
            && matches!(call.wish, Wish::Acquire(Patience::Forever | Patience::Until(_)))
            && !mutant::is("wait_not_cancelled")
        {
            call.wish = Wish::Acquire(Patience::Until(now));
            self.handle_timeout(now);
        }
    }

    /// The result of the call, once, when it has ended.
    pub fn poll_outcome(&mut self) -> Option<Result<Answer, Error>> {
        self.outcome.take()
    }

    /// Ends the call without an outcome: there is no socket to go on with.
    pub fn break_off(&mut self) {
        self.call = None;
    }

    /// The bytes that the last [`Call::Read`] brought.
    pub fn read_data(&self) -> &[u8] {
        &self.read_data
    }

    /// Whether it was by an operator that the last call found the lock taken away.
    pub fn is_revoked(&self) -> bool {
        self.is_revoked
    }

    /// The token under which the lock is held, as far as the client knows.
    pub fn token(&self) -> Option<FencingToken> {
        (self.held.token.0 > 0 && !self.held.is_lost).then_some(self.held.token)
    }

    /// The lease, for any thread.
    pub fn lease(&self) -> &Arc<LeaseView> {
        &self.lease
    }

    /// The session's number for people and C programs; 0 before the session is registered.
    pub fn client_id(&self) -> u32 {
        self.client_id
    }

    /// The server in use.
    pub fn server(&self) -> SocketAddrV4 {
        self.servers[self.server]
    }

    /// Where the last reply came from.
    pub fn heard_from(&self) -> SocketAddrV4 {
        self.heard_from
    }

    /// Whether a call is under way, or one that timed out left its request unanswered.
    pub fn is_busy(&self) -> bool {
        self.call.is_some() || self.flight.is_some()
    }

    /// When the acquire that waits is to give up its place. Not while the lock may be held under
    /// an earlier token: a cancel would discard that section.
    fn patience_ends(&self) -> Option<u64> {
        let call = self.call?;
        match (call.wish, call.step) {
            (Wish::Acquire(Patience::Until(until)), Step::Settling | Step::Own) => {
                let is_forgotten = mutant::is("patience_forgotten");
                (self.token().is_none() && !is_forgotten).then_some(until)
            }
            _ => None,
        }
    }

    /// When the server in use is given up for the next one.
    fn silence_ends(&self) -> Option<u64> {
        let since = self.silent_since.filter(|_| self.servers.len() > 1)?;
        Some(since + SILENT_US)
    }

    /// The next server of the list is to be asked, but not one that was given up just now while
    /// there are others.
    fn turn_to_next_server(&mut self, now: u64) {
        let count = self.servers.len();
        if count > 1 {
            self.server = (self.server + 1) % count;
            if count > 2 && self.is_doubted(self.server(), now) {
                self.server = (self.server + 1) % count;
            }
            self.rtt.reset();
        }
        self.silent_since = None;
    }

    fn is_doubted(&self, server: SocketAddrV4, now: u64) -> bool {
        self.doubted.is_some_and(|(doubted, at)| doubted == server && now < at + DOUBT_US)
    }

    /// Server `server` does not lead; perhaps it knows who does.
    fn follow(&mut self, leader: Option<SocketAddrV4>, server: usize, now: u64) {
        let is_other =
            |addr: &SocketAddrV4| !self.is_doubted(*addr, now) && *addr != self.servers[server];
        let leader = leader.filter(is_other);
        // Those who send clients to each other are asked less often.
        let is_new = self.referred_at.is_none_or(|at| at + ASK_PAUSE_US <= now);
        match leader.and_then(|addr| self.place_of(addr)) {
            Some(place) => {
                self.server = place;
                self.silent_since = None;
            }
            None => {
                self.server = server;
                self.turn_to_next_server(now);
            }
        }
        self.rtt.reset();
        if leader.is_some() && is_new {
            self.referred_at = Some(now);
            self.window.resend();
        } else {
            self.window.be_quiet(now + ASK_PAUSE_US);
        }
    }

    /// Where a server stands in the list, to which it is added.
    fn place_of(&mut self, server: SocketAddrV4) -> Option<usize> {
        let known = self.servers.iter().position(|&known| known == server);
        if known.is_none() && self.servers.len() < SERVERS_MAX {
            self.servers.push(server);
            return Some(self.servers.len() - 1);
        }
        known
    }
}

#[cfg(test)]
mod tests;
