//! The core of a cluster's member: it serves while this member is the leader, and the only one;
//! otherwise it tells clients where to go.

use super::tell::direct;
use super::{Action, Core, Now, Settings};
use crate::engine::Engine;
use crate::engine::leading::Leading;
use crate::machine::Machine;
use crate::protocol::{Outcome, Request};
use crate::types::{LogIndex, Millis};
use std::net::{SocketAddr, SocketAddrV4};

impl Core {
    /// The core of a member that does not lead.
    pub fn following(settings: Settings, now: Now) -> Self {
        Core::over(Engine::Following(None), settings, Machine::default(), now)
    }

    /// The core of a member that leads in `term`, over a state of which all is committed.
    pub fn leading(settings: Settings, machine: Machine, term: u64, now: Now) -> Self {
        let engine = Engine::Leading(Leading::new(term, LogIndex(0), Millis(0)));
        Core::over(engine, settings, machine, now)
    }

    /// Puts another core in place of this one, which comes back; answers that it had not given
    /// are never given. What is counted goes on.
    pub fn replace(&mut self, mut other: Core) -> Core {
        other.settings = self.settings;
        other.counters = self.counters;
        std::mem::swap(&mut other.meter, &mut self.meter);
        other.room = self.room;
        std::mem::replace(self, other)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where clients find the leader, if this member does not lead.
    pub fn set_hint(&mut self, hint: Option<SocketAddrV4>) {
        if let Engine::Following(current) = &mut self.engine {
            *current = hint;
        }
    }

    /// Whether the thread that drives the member has to be called.
    pub fn poll_call(&mut self) -> bool {
        self.engine.poll_call()
    }

    /// What was proposed since the last time, and in which term.
    pub fn take_proposals(&mut self) -> Option<(u64, Vec<Vec<u8>>)> {
        let Engine::Leading(leading) = &mut self.engine else { return None };
        let commands = leading.take_proposals();
        (!commands.is_empty()).then(|| (leading.term(), commands))
    }

    /// A quorum has this many commands of the term.
    pub fn handle_committed(&mut self, term: u64, count: u64, now: Now, actions: &mut Vec<Action>) {
        if let Some(leading) = self.leading_in(term) {
            leading.handle_committed(count);
            self.flush(now, actions);
        }
    }

    /// This many commands of the term are applied and published here.
    pub fn handle_applied(&mut self, term: u64, count: u64, now: Now, actions: &mut Vec<Action>) {
        if let Some(leading) = self.leading_in(term) {
            leading.handle_published(count);
            self.flush(now, actions);
        }
    }

    /// A quorum takes this member for the only leader until then.
    pub fn handle_trusted(
        &mut self,
        term: u64,
        until: Millis,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        if let Some(leading) = self.leading_in(term) {
            leading.handle_trusted(until);
            self.flush(now, actions);
        }
    }

    fn leading_in(&mut self, term: u64) -> Option<&mut Leading> {
        match &mut self.engine {
            Engine::Leading(leading) if leading.term() == term => Some(leading),
            _ => None,
        }
    }

    /// Sends a client to the leader. A leader that may not be the only one knows of no other.
    pub(super) fn refer(
        &mut self,
        from: SocketAddr,
        request: &Request<'_>,
        actions: &mut Vec<Action>,
    ) {
        let leader = match &self.engine {
            Engine::Following(hint) => *hint,
            _ => None,
        };
        let reply = direct(request, Outcome::NotLeader { leader });
        actions.push(Action::Send { to: from, reply });
    }
}
