//! The model's lock: grants, leases, the queue.

use super::{Answer, Holder, LEASE_US, Model, Outbox, SILENCE_US};
use crate::protocol::Status;
use crate::types::{FencingToken, SessionId};

impl Model {
    pub(super) fn renew(&mut self, now: u64, id: SessionId) -> Option<(FencingToken, u32)> {
        let held = self.holder.as_ref().filter(|held| held.session == id)?;
        self.leases.insert(held.token.0, now + LEASE_US);
        Some((held.token, (LEASE_US / 1000) as u32))
    }

    pub(super) fn grant(&mut self, now: u64, id: SessionId) {
        self.leave(id);
        self.last_token += 1;
        let token = FencingToken(self.last_token);
        self.leases.insert(token.0, now + LEASE_US);
        self.holder = Some(Holder { session: id, token, appends: Vec::new(), open: None });
        let session = self.sessions.get_mut(&id).expect("sessions that wait exist");
        session.answer = Answer::Granted(token);
    }

    pub(super) fn leave(&mut self, id: SessionId) {
        self.queue.retain(|&waiter| waiter != id);
        self.sessions.get_mut(&id).expect("only sessions leave").is_turn = false;
    }

    /// Takes the lock from an expired holder and hands the free lock on.
    pub(crate) fn tick(&mut self, now: u64, out: &mut Outbox) {
        if let Some(held) = &self.holder
            && self.leases[&held.token.0] < now
            && !self.queue.is_empty()
        {
            let session = self.sessions.get_mut(&held.session).expect("holders are sessions");
            session.lost = held.token;
            if session.answer == Answer::Granted(held.token) {
                session.answer = Answer::Refused(Status::LeaseExpired);
            }
            self.holder = None;
        }
        while self.holder.is_none() {
            let Some(&id) = self.queue.front() else { return };
            let session = self.sessions.get_mut(&id).expect("waiters are sessions");
            if session.heard_at + SILENCE_US < now {
                session.answer = Answer::Refused(Status::LeaseExpired);
                self.leave(id);
            } else if !self.asks_first {
                self.grant(now, id);
                self.repeat(now, id, out);
            } else if session.is_turn {
                return;
            } else {
                session.is_turn = true;
                return self.repeat(now, id, out);
            }
        }
    }

    /// Forgets a session, as a power loss would.
    pub(crate) fn forget(&mut self, id: SessionId) {
        self.leave(id);
        self.holder.take_if(|held| held.session == id);
        self.sessions.remove(&id);
    }
}
