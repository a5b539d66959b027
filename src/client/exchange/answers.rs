//! What follows from a reply: for the numbers, for the lock as the client knows it, for the call
//! under way.

use super::flight::{Flight, Kind, Wish};
use super::{CallState, Exchange, Held, State, Step};
use crate::client::call::Answer;
use crate::client::error::Error;
use crate::limits::CLOSE_WAIT_MS;
use crate::protocol::{Outcome, Reason, Reply, Status};
use crate::types::{Attempt, FencingToken, RequestNumber, Stamp};
use crate::{mutant, wire};
use std::net::SocketAddrV4;

impl Exchange {
    /// Takes in a datagram. What is no reply to the request in flight is ignored: noise, replies
    /// to earlier calls, replies from strangers.
    pub fn handle_datagram(&mut self, now: u64, from: SocketAddrV4, datagram: &[u8]) {
        let Ok(reply) = wire::decode_reply(datagram) else { return };
        let Some(server) = self.servers.iter().position(|&server| server == from) else { return };
        let Some(flight) = &self.flight else { return };
        let Some(piece) = reply.number.0.checked_sub(flight.first.0) else { return };
        let is_ours = (flight.kind == Kind::Init || reply.session == self.session)
            && (reply.attempt == flight.attempt || mutant::is("any_reply_taken"))
            && self.window.awaits(piece, reply.stamp.0)
            && flight.kind.fits(&reply.outcome);
        if !is_ours {
            return;
        }
        self.heard_from = from;
        self.heard_at = now;
        if matches!(reply.outcome, Outcome::Refused { status: Status::Unavailable, .. }) {
            // This server cannot decide now; another may have taken the request, or may soon.
            self.turn_to_next_server(now);
            return;
        }
        if let Outcome::NotLeader { leader } = reply.outcome {
            return self.follow(leader, server, now);
        }
        self.server = server;
        self.silent_since = None;
        if let Some(round_trip_us) = self.window.measure(reply.stamp.0, now)
            && is_prompt(&flight.kind, &reply.outcome)
        {
            self.rtt.sample(round_trip_us);
        }
        self.rtt.reset();
        if let Some(call) = &mut self.call {
            call.give_up_at = call.give_up_at.max(now + call.timeout_us);
        }
        if matches!(reply.outcome, Outcome::Refused { status: Status::Refused, .. })
            && !self.window.is_newest(reply.stamp.0)
        {
            // A restart forgets such a refusal, and the newest transmission may come to another.
            return;
        }
        match reply.outcome {
            Outcome::Queued { ask_again_ms, .. } => {
                self.wait_in_queue(reply.stamp, ask_again_ms, now)
            }
            _ if mutant::is("lease_from_arrival") => {
                self.count_answer(&Reply { stamp: Stamp(now), ..reply }, piece, now);
            }
            _ => self.count_answer(&reply, piece, now),
        }
    }

    /// The acquire has a place in the queue.
    fn wait_in_queue(&mut self, stamp: Stamp, ask_again_ms: u32, now: u64) {
        // Who still held the lock would have been granted it again.
        self.lose_lock();
        let Some(call) = &mut self.call else { return };
        match (call.wish, call.step) {
            (_, Step::Own) if self.owes_expiry => {
                self.cancel(Step::Ending(Status::LeaseExpired, Reason::None))
            }
            (_, Step::Settling) => self.cancel(Step::Settling),
            _ if ask_again_ms == 0 => self.window.resend(),
            // An answer to an earlier transmission leaves the newest one unanswered.
            _ if self.window.is_newest(stamp.0) => {
                let ask_at = now + u64::from(ask_again_ms) * 1000;
                call.give_up_at = ask_at + call.timeout_us;
                self.window.be_quiet(ask_at);
            }
            _ => {}
        }
    }

    /// Counts what is answered; when that is the whole request, goes on from there.
    fn count_answer(&mut self, reply: &Reply<'_>, piece: u64, now: u64) {
        let is_consumed = reply.is_consumed || mutant::is("every_answer_counts");
        self.next_number = RequestNumber(reply.number.0 + u64::from(is_consumed));
        // The answer to a piece of an append is for all before it.
        if is_consumed || piece > 0 {
            self.taken = reply.attempt;
        }
        let is_whole = self.window.on_answered(piece, now, &self.rtt);
        let is_refused = matches!(reply.outcome, Outcome::Refused { .. });
        if let (Outcome::Done { lease_ms }, Some(flight)) = (&reply.outcome, &self.flight) {
            let token = flight.token;
            self.extend_lease(token, reply.stamp, *lease_ms);
        }
        if is_whole || is_refused {
            // A refusal ends an append: its later pieces are never executed.
            if let Some(flight) = self.flight.take() {
                self.sent.clear();
                self.conclude(flight, reply, piece);
            }
        }
    }

    /// The request in flight is answered.
    fn conclude(&mut self, flight: Flight, reply: &Reply<'_>, piece: u64) {
        use Status::{LeaseExpired, NotHolder};
        let was_held = self.owes_expiry || (self.held.is_lost && self.held.token.0 > 0);
        let refusal = match reply.outcome {
            Outcome::Refused { status: Status::NotHolder, reason } if was_held => {
                Some((Status::LeaseExpired, reason))
            }
            Outcome::Refused { status, reason } => Some((status, reason)),
            _ => None,
        };
        if let Some((Status::SessionLost, _)) = refusal {
            return self.lose_session();
        }
        self.is_revoked =
            refusal == Some((LeaseExpired, Reason::Revoked)) && !mutant::is("revocation_not_told");
        self.note_lock(&flight, reply, piece);
        let Some(call) = self.call else { return };
        match (call.step, refusal) {
            (Step::Settling, _) => self.proceed(),
            (Step::Own, None) => self.succeed(&flight, &reply.outcome),
            (Step::Own, Some((LeaseExpired, _))) if matches!(call.wish, Wish::Acquire(_)) => {
                // The place in the queue or the earlier token is lost: ask anew.
                self.proceed();
            }
            (Step::Own, Some((Status::LeaseExpired | Status::NotHolder, _)))
                if call.wish == Wish::Close =>
            {
                // The section is lost; the session is still to be ended.
                self.proceed();
            }
            (Step::Own, Some((Status::WouldBlock, _))) if self.owes_expiry => {
                self.finish(Err(Error::LeaseExpired));
            }
            (Step::Releasing, refusal) => {
                let (status, reason) = refusal.unwrap_or((Status::Ok, Reason::None));
                self.say_goodbye(status, reason);
            }
            (Step::Ending(status, reason), None | Some((LeaseExpired | NotHolder, _))) => {
                self.finish(match status {
                    Status::Ok => Ok(Answer::Done),
                    _ => Err(Error::from_refusal(status, reason)),
                });
            }
            (Step::Own | Step::Ending(..), Some((status, reason))) => {
                self.finish(Err(Error::from_refusal(status, reason)));
            }
        }
    }

    /// What the answer says about the lock and the session, whichever call wants to know.
    fn note_lock(&mut self, flight: &Flight, reply: &Reply<'_>, piece: u64) {
        let is_gone = matches!(
            reply.outcome,
            Outcome::Refused { status: Status::LeaseExpired | Status::NotHolder, .. }
        );
        let is_own_release =
            self.call.is_some_and(|call| call.step == Step::Own && call.wish == Wish::Release);
        match (flight.kind, &reply.outcome) {
            (Kind::Init, Outcome::Connected { client_id }) => {
                self.session = reply.session;
                self.client_id = *client_id;
            }
            (Kind::Acquire { .. } | Kind::Renew, Outcome::Granted { token, lease_ms }) => {
                if *token != self.held.token {
                    self.lose_lock();
                    self.held = Held { token: *token, ..Held::default() };
                }
                self.extend_lease(*token, reply.stamp, *lease_ms);
            }
            // A refused acquire found nothing held.
            (Kind::Acquire { .. }, _) => self.lose_lock(),
            (Kind::Cancel, Outcome::Done { .. }) => {
                self.lose_lock();
                self.held = Held::default();
            }
            (Kind::Append { pieces }, Outcome::Done { .. }) => {
                // An append that was ended half-way never becomes part of the section.
                self.held.is_staged |= piece + 1 == pieces && flight.token == self.held.token;
            }
            (Kind::Append { .. } | Kind::Renew | Kind::Close, _) if is_gone => self.lose_lock(),
            // A release of an earlier call, which ran out of time, or on behalf of a close: the
            // program is still to be told.
            (Kind::Release, _) if is_gone && !is_own_release => self.lose_lock(),
            (Kind::Release | Kind::Abort | Kind::Close, outcome)
                if is_gone || !matches!(outcome, Outcome::Refused { .. }) =>
            {
                self.held = Held::default();
                self.lease.clear();
            }
            _ => {}
        }
    }

    /// The call's own request succeeded.
    fn succeed(&mut self, flight: &Flight, outcome: &Outcome<'_>) {
        match (flight.kind, outcome) {
            // The earlier section is lost; going on under the new token would publish half of
            // what the program appended.
            (Kind::Acquire { .. }, _) if self.owes_expiry => self.proceed(),
            (Kind::Acquire { .. }, _) => self.finish(Ok(Answer::Granted(self.held.token))),
            (Kind::Read { .. }, Outcome::Data { length, data }) => {
                self.read_data.clear();
                self.read_data.extend_from_slice(data);
                self.finish(Ok(Answer::Read { length: *length }));
            }
            (Kind::Inspect { .. }, Outcome::Data { length, data }) => {
                self.read_data.clear();
                self.read_data.extend_from_slice(data);
                self.finish(Ok(Answer::Page { next: *length }));
            }
            _ => self.finish(Ok(Answer::Done)),
        }
    }

    /// Nothing is in flight: sends what the call needs next.
    pub(super) fn proceed(&mut self) {
        let Some(call) = self.call else { return };
        let tells_expiry =
            matches!(call.wish, Wish::Acquire(_) | Wish::Append | Wish::Release | Wish::Renew);
        if self.owes_expiry && tells_expiry && self.token().is_some() {
            self.launch(Kind::Abort, self.next_number);
            return self.set_step(Step::Ending(Status::LeaseExpired, Reason::None));
        }
        if self.owes_expiry && matches!(call.wish, Wish::Acquire(_)) {
            return self.finish(Err(Error::LeaseExpired));
        }
        if self.owes_expiry && call.wish == Wish::Close {
            return self.say_goodbye(Status::LeaseExpired, Reason::None);
        }
        if call.wish == Wish::Close && self.token().is_some() {
            let is_kept = !mutant::is("close_aborts");
            self.launch(if is_kept { Kind::Release } else { Kind::Abort }, self.next_number);
            return self.set_step(Step::Releasing);
        }
        std::mem::swap(&mut self.sent, &mut self.wanted);
        self.launch(Kind::of(&call.wish, &self.sent), self.next_number);
        self.set_step(Step::Own);
    }

    /// The lock was given back, or what was appended cannot be published: ends the session.
    fn say_goodbye(&mut self, status: Status, reason: Reason) {
        // Without the token the server does not take the goodbye for a release.
        if !mutant::is("goodbye_with_token") {
            self.held = Held::default();
        }
        self.lease.clear();
        if let Some(call) = &mut self.call {
            call.timeout_us = call.timeout_us.min(CLOSE_WAIT_MS * 1000);
            call.give_up_at = self.heard_at + call.timeout_us;
        }
        self.launch(Kind::Close, self.next_number);
        self.set_step(Step::Ending(status, reason));
    }

    /// Takes the acquire in flight back. Its number may or may not be taken: the cancel takes
    /// the one after it.
    fn cancel(&mut self, step: Step) {
        if let Some(flight) = &self.flight {
            let first = flight.first;
            let is_same = mutant::is("cancel_same_number");
            self.launch(Kind::Cancel, if is_same { first } else { first.next() });
            self.set_step(step);
        }
    }

    fn launch(&mut self, kind: Kind, number: RequestNumber) {
        // A crash can take the entry by which a lock was lost, and the server believe in it again:
        // this client, which was told, never acts under it any more.
        let is_void = self.held.is_lost && !mutant::is("lost_token_used");
        let token = if is_void { FencingToken(0) } else { self.held.token };
        let pieces = if let Kind::Append { pieces } = kind { pieces } else { 1 };
        let step = u32::from(!mutant::is("attempt_repeated"));
        self.attempt = Attempt(self.attempt.0.wrapping_add(step));
        // A cancel follows the acquire that it takes back.
        let cancelled = self.flight.take().filter(|_| kind == Kind::Cancel);
        let after = cancelled.map_or(self.taken, |flight| flight.attempt);
        self.flight = Some(Flight { kind, token, first: number, attempt: self.attempt, after });
        self.window.restart(pieces);
        self.rtt.reset();
    }

    /// The time that the program gave for waiting is over.
    pub(super) fn lose_patience(&mut self, now: u64) {
        let Some(call) = &mut self.call else { return };
        match call.step {
            Step::Settling => self.finish(Err(Error::WouldBlock)),
            _ => {
                call.give_up_at = now + call.timeout_us;
                self.cancel(Step::Ending(Status::WouldBlock, Reason::None));
            }
        }
    }

    /// No answer came in the time given.
    pub(super) fn give_up(&mut self, call: CallState) {
        let is_not_done = matches!(
            call.wish,
            Wish::Connect | Wish::Renew | Wish::Read { .. } | Wish::Inspect { .. }
        ) || call.step == Step::Settling
            || (mutant::is("revocation_said_undone") && matches!(call.wish, Wish::Revoke { .. }));
        if mutant::is("timeout_is_done") && !is_not_done {
            return self.finish(Ok(Answer::Done));
        }
        let is_not_done = is_not_done || mutant::is("timeout_is_unavailable");
        self.finish(Err(if is_not_done { Error::Unavailable } else { Error::TimedOut }));
    }

    fn finish(&mut self, outcome: Result<Answer, Error>) {
        let Some(call) = self.call.take() else { return };
        match &outcome {
            Err(Error::LeaseExpired | Error::NotHolder | Error::SessionLost) => {
                self.owes_expiry = false;
            }
            Ok(_) if call.wish == Wish::Abort => self.owes_expiry = false,
            Err(_) if mutant::is("timeout_clears_loss") => self.owes_expiry = false,
            _ => {}
        }
        if call.wish == Wish::Close || (call.wish == Wish::Connect && outcome.is_err()) {
            self.state = State::Closed;
            self.flight = None;
            self.lease.clear();
            self.held = Held::default();
        }
        self.outcome = Some(outcome);
    }

    pub(super) fn set_step(&mut self, step: Step) {
        if let Some(call) = &mut self.call {
            call.step = step;
        }
    }

    fn extend_lease(&mut self, token: FencingToken, stamp: Stamp, lease_ms: u32) {
        if lease_ms > 0 && self.token() == Some(token) {
            let lease_us =
                u64::from(lease_ms) * if mutant::is("client_lease_long") { 1100 } else { 1000 };
            self.lease.extend(token, stamp.0 + lease_us);
        }
    }

    /// The token counts no more; what was staged under it is discarded.
    fn lose_lock(&mut self) {
        self.owes_expiry |= self.held.is_staged && !mutant::is("loss_not_told");
        self.held.is_staged = false;
        self.held.is_lost = true;
        if !mutant::is("lease_not_cleared") {
            self.lease.clear();
        }
    }

    /// The server does not know the session: whatever it held is gone.
    fn lose_session(&mut self) {
        let held_nothing = self.token().is_none() && !self.owes_expiry;
        self.state = State::Lost;
        self.held = Held::default();
        self.lease.clear();
        match self.call {
            // Then there is nothing left to close.
            Some(CallState { wish: Wish::Close, .. }) if held_nothing => {
                self.finish(Ok(Answer::Done))
            }
            _ => self.finish(Err(Error::SessionLost)),
        }
    }
}

/// Whether the reply left as soon as the request came, so that it tells a round trip. A grant may have
/// waited for other clients, and so may the word that it is this one's turn.
fn is_prompt(kind: &Kind, outcome: &Outcome<'_>) -> bool {
    match (kind, outcome) {
        (_, Outcome::Queued { ask_again_ms: 0, .. }) => false,
        (Kind::Acquire { try_only }, Outcome::Granted { .. }) => *try_only,
        _ => true,
    }
}
