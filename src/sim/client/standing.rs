//! Where a client stands with the server: what it may rightly be told, by what the server has heard of
//! it and what has become of the server.

use super::Client;
use crate::protocol::{Outcome, Reason, Status};
use crate::sim::context::Context;
use crate::wire;

impl Client {
    /// The server has got a datagram of this client. Late ones tell it nothing.
    pub fn was_heard(&mut self, stamp: u64, now: u64, session_ttl_ms: u64) {
        if stamp <= self.heard_stamp {
            return;
        }
        self.heard_stamp = stamp;
        // Some tolerance for the server's own clock and for work on its way.
        if now.saturating_sub(self.heard_at) > session_ttl_ms * 1000 * 9 / 10 {
            self.was_silent = true;
        }
        self.heard_at = now;
    }

    /// Notes which requests the server says that it refuses because it has no room for them.
    pub(super) fn note_refusals(&mut self) {
        for (_, datagram) in &self.inbox {
            let Ok(reply) = wire::decode_reply(datagram) else { continue };
            if let Outcome::Refused { status: Status::Refused, reason } = reply.outcome
                && reason != Reason::NotHeld
            {
                let at = self.to_virtual(reply.stamp.0);
                self.refused_at = Some(self.refused_at.map_or(at, |earlier| earlier.min(at)));
            }
        }
    }

    /// A power loss may have taken what this session was told.
    pub fn had_power_loss(&self, context: &Context) -> bool {
        self.power_losses < context.power_losses
    }

    pub(super) fn may_be_lost(&self, context: &Context) -> bool {
        let ttl_us = context.plan.session_ttl_ms * 1000;
        self.was_silent
            || self.had_power_loss(context)
            || self.may_contradict(context)
            || context.now.saturating_sub(self.heard_at) > ttl_us * 9 / 10
    }

    /// A late copy of a refused call may have been done.
    pub fn may_contradict(&self, context: &Context) -> bool {
        // That a call was refused for want of room is forgotten at a restart; a late copy of it
        // may be done then, and contradict what the client was told.
        let faults = &context.plan.faults;
        let may_be_late = faults.duplicates || faults.delays || context.is_staged;
        may_be_late && self.refused_at.is_some_and(|at| at < context.started_at)
    }

    /// What other threads of the process see of its lock is what its connection knows.
    pub(super) fn check_view(&self) -> Result<(), String> {
        let Some(exchange) = &self.exchange else { return Ok(()) };
        match exchange.lease().token() {
            Some(token) if exchange.token() != Some(token) => {
                Err(format!("threads of client {} see a lease under {token}", self.id))
            }
            _ => Ok(()),
        }
    }
}
