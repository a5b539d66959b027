//! What sessions are told, and when: drafts wait in the outbox until the log has got far enough.

use super::{Action, Core, Now};
use crate::limits::{ASK_AGAIN_MS_MAX, ASK_AGAIN_MS_STEP};
use crate::machine::{Answer, Session};
use crate::mutant;
use crate::protocol::{Outcome, Reason, Reply, Request, Status};
use crate::server::outbox::Draft;
use crate::types::{LogIndex, SessionId};
use std::net::SocketAddr;

impl Core {
    /// Tells a session (again) what the answer to its last request is.
    pub(super) fn repeat(&mut self, id: SessionId, now: Now) {
        let Some(session) = self.machine.session(id) else { return };
        let outcome = match session.answer {
            Answer::Connected => Outcome::Connected { client_id: session.client_id },
            Answer::Waiting => self.queued(session),
            // Its turn has come: it asks, now or again, to be granted.
            Answer::Granted(_) if self.watch.must_ask(id) => {
                Outcome::Queued { position: 0, ask_again_ms: 0 }
            }
            Answer::Granted(token) => Outcome::Granted { token, lease_ms: 0 },
            Answer::Done => Outcome::Done { lease_ms: 0 },
            Answer::Disconnected => Outcome::Disconnected,
            Answer::Refused(status, reason) => refused(status, reason),
        };
        let (number, attempt) = (session.last, session.attempt);
        if let Outcome::Queued { ask_again_ms, .. } = outcome {
            let since = session.ticket.map(|ticket| (ticket, now.steady_us));
            self.watch.expect(id, ask_again_ms.into(), now.steady, since);
        }
        let asked = self.meter.asked(id);
        self.keep(Draft { session: id, number, attempt, is_consumed: true, outcome, asked });
    }

    /// Whether a waiter that asks again need not be answered: it was called, and will be granted
    /// the lock within moments. If not, it asks once more.
    pub(super) fn is_called(&mut self, id: SessionId, now: Now) -> bool {
        let waits = self.machine.session(id).is_some_and(|one| one.answer == Answer::Waiting);
        let stays = mutant::is("called_not_answered") && self.called == Some(id);
        if !waits || (!stays && self.called.take_if(|called| *called == id).is_none()) {
            return false;
        }
        self.leave_untold(id, now);
        true
    }

    /// Says nothing to a waiter for now: in a short queue it mostly has the lock before it would ask
    /// again, and to be told its place would only wake it.
    pub(super) fn leave_untold(&mut self, id: SessionId, now: Now) {
        let Some(session) = self.machine.session(id) else { return };
        let since = session.ticket.map(|ticket| (ticket, now.steady_us));
        self.watch.expect(id, ASK_AGAIN_MS_STEP, now.steady, since);
    }

    /// Has the first waiter ask now, while another holds the lock, if it has not for some time:
    /// so it need not be asked when its turn comes, and the lock passes on without a round trip.
    pub(super) fn call_next(&mut self, now: Now) {
        let Some(id) = self.machine.lock().waiters().next() else { return };
        let Some(session) = self.machine.session(id) else { return };
        if self.watch.is_fresh(id, now.steady) {
            return;
        }
        let (number, attempt) = (session.last, session.attempt);
        let outcome = Outcome::Queued { position: 1, ask_again_ms: 0 };
        self.called = Some(id);
        self.keep(Draft { session: id, number, attempt, is_consumed: true, outcome, asked: None });
    }

    fn queued(&self, session: &Session) -> Outcome<'static> {
        let position = session.ticket.map_or(0, |ticket| self.machine.lock().position(ticket));
        Outcome::Queued { position, ask_again_ms: ask_again_ms(position as usize) }
    }

    /// Answers a request that takes no number.
    pub(super) fn say(&mut self, request: &Request<'_>, outcome: Outcome<'static>) {
        self.keep(Draft {
            session: request.session,
            number: request.number,
            attempt: request.attempt,
            is_consumed: false,
            outcome,
            asked: self.meter.asked(request.session),
        });
    }

    /// Refuses a request. To a session that tells also that all its requests before were taken, so
    /// it waits for them like any answer.
    pub(super) fn refuse(
        &mut self,
        from: SocketAddr,
        request: &Request<'_>,
        status: Status,
        reason: Reason,
        actions: &mut Vec<Action>,
    ) {
        let outcome = refused(status, reason);
        self.counters.refused += 1;
        self.meter.refused(status, reason);
        if self.machine.session(request.session).is_some() {
            self.watch.settle(request.session, request.attempt, (status, reason));
            self.say(request, outcome);
        } else {
            actions.push(Action::Send { to: from, reply: direct(request, outcome) });
        }
    }

    /// What a session is told waits for whatever changed something for it last.
    fn keep(&mut self, draft: Draft) {
        let Some(contact) = self.watch.contact(draft.session) else { return };
        let (index, needs_stable) = match draft.outcome {
            // It may be another's request that took the lock away. No power loss may bring it back
            // once its client has been told: a late copy of a release would publish what counts
            // as discarded.
            Outcome::Refused { status: Status::LeaseExpired, .. } => {
                let is_own = mutant::is("expiry_by_own_entry");
                let index = if is_own { contact.touched } else { self.engine.last() };
                (index, !mutant::is("expiry_not_stable"))
            }
            // An operator counts on it that nothing comes under that token any more.
            Outcome::Refused { reason: Reason::NotHeld, .. } => {
                (self.engine.last(), !mutant::is("not_held_not_stable"))
            }
            // What has changed the lock since may be lost yet.
            Outcome::Refused { status: Status::NotHolder, .. } => (self.engine.last(), false),
            _ => (contact.touched, contact.needs_stable),
        };
        let index = if mutant::is("reply_before_write") { LogIndex(0) } else { index };
        let needs_stable = needs_stable && !mutant::is("reply_before_sync");
        self.outbox.push(index, needs_stable, draft);
    }

    /// Sends what need not wait any longer. Once the log has failed nothing is acknowledged.
    pub(super) fn flush(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.engine.has_failed() || !self.engine.is_serving(now.steady) {
            return;
        }
        self.note_lease();
        self.flush_held(actions);
        while let Some(draft) = self.outbox.pop(self.engine.marks()) {
            let Some(contact) = self.watch.contact(draft.session) else { continue };
            let lease = self.watch.lease_ms(draft.session);
            let outcome = match draft.outcome {
                // Lost again before it could be told; the client will ask.
                Outcome::Granted { token, .. }
                    if self.watch.held_token() != Some(token) && !mutant::is("lost_grant_told") =>
                {
                    continue;
                }
                Outcome::Granted { token, .. } => Outcome::Granted { token, lease_ms: lease },
                Outcome::Done { .. } => Outcome::Done { lease_ms: lease },
                other => other,
            };
            let reply = Reply {
                session: draft.session,
                number: draft.number,
                attempt: draft.attempt,
                stamp: contact.stamp,
                is_consumed: draft.is_consumed,
                outcome,
            };
            if let Some(asked) = draft.asked {
                self.meter.answered(asked);
            }
            // The answer to a piece of an append is one to all before it.
            actions.pop_if(|last| match last {
                Action::Send { reply: earlier, .. } => {
                    let is_done = matches!(earlier.outcome, Outcome::Done { .. });
                    (earlier.session, earlier.attempt, is_done)
                        == (reply.session, reply.attempt, true)
                }
                _ => false,
            });
            actions.push(Action::Send { to: contact.addr, reply });
        }
    }
}

/// How soon the waiter at this position is to ask again.
pub(super) fn ask_again_ms(position: usize) -> u32 {
    (position as u64).saturating_mul(ASK_AGAIN_MS_STEP).min(ASK_AGAIN_MS_MAX) as u32
}

/// A reply to a request that has changed nothing.
pub fn direct(request: &Request<'_>, outcome: Outcome<'static>) -> Reply<'static> {
    Reply {
        session: request.session,
        number: request.number,
        attempt: request.attempt,
        stamp: request.stamp,
        is_consumed: false,
        outcome,
    }
}

pub(super) fn refused(status: Status, reason: Reason) -> Outcome<'static> {
    Outcome::Refused { status, reason }
}
