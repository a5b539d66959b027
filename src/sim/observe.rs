//! The judge over the server's memory: one holder, tokens that rise for ever, first come first
//! served. It compares the lock before and after each step and knows nothing of how it came to be.

use super::plan::Bounds;
use crate::machine::Machine;
use crate::protocol::inspect::{Record, RecordKind};
use crate::server::core::Limits;
use crate::types::{SessionId, Ticket};
use std::collections::BTreeMap;

/// What led to a step of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A datagram of this session; 0 for a registration.
    Request(SessionId),
    Time,
    /// A job ended, or the server starts.
    Other,
}

/// How long each holder's lease may be: as long as a server's settings have had it since the grant.
#[derive(Debug, Default)]
pub struct Leases(BTreeMap<u64, u64>);

impl Leases {
    /// A server with these settings has this state.
    pub fn note(&mut self, machine: &Machine, lease_ms: u64) {
        if let Some((_, token)) = holder(machine) {
            let longest = self.0.entry(token).or_default();
            *longest = lease_ms.max(*longest);
        }
    }

    pub fn of(&self, token: u64) -> u64 {
        self.0.get(&token).copied().unwrap_or_default()
    }
}

/// The lock as it was last seen.
#[derive(Debug, Default)]
pub struct Observer {
    holder: Option<(SessionId, u64)>,
    waiters: Vec<SessionId>,
    newest_token: u64,
    /// Sessions and waiters.
    crowd: (u64, u64),
    nonces: Vec<u64>,
}

/// What there may be at most.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Bytes that are staged.
    pub section: u64,
    pub sessions: u64,
    pub waiters: u64,
    /// Records that are kept.
    pub history: u32,
}

impl Most {
    /// By what has been in force in a run, and what is where one looks.
    pub fn of(bounds: &Bounds, limits: &Limits) -> Most {
        Most {
            section: bounds.section.1,
            sessions: limits.sessions,
            waiters: limits.waiters,
            history: bounds.history,
        }
    }
}

/// The lock went from one hand to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    pub from: Option<(SessionId, u64)>,
    pub to: Option<(SessionId, u64)>,
    pub cause: Cause,
    /// An operator took it away.
    pub is_revoked: bool,
    /// Somebody waited for it, or asked.
    pub was_wanted: bool,
    /// Waiters whose turn has passed.
    pub skipped: Vec<SessionId>,
}

impl Observer {
    /// The holder that was last seen.
    pub fn holder(&self) -> Option<(SessionId, u64)> {
        self.holder
    }

    /// The greatest token that was ever given.
    pub fn newest_token(&self) -> u64 {
        self.newest_token
    }

    /// Takes over what a recovery has found; nothing is compared, but no token may fall.
    pub fn restart(&mut self, machine: &Machine) {
        self.holder = holder(machine);
        self.waiters = machine.lock().waiters().collect();
        self.crowd = crowd(machine);
    }

    /// Sessions and waiters.
    pub fn crowd(&self) -> (u64, u64) {
        self.crowd
    }

    /// Looks at the lock after a step.
    pub fn look(
        &mut self,
        machine: &Machine,
        most: &Most,
        cause: Cause,
    ) -> Result<Option<Handover>, String> {
        let before = std::mem::take(&mut self.waiters);
        let from = self.holder;
        self.holder = holder(machine);
        self.waiters.extend(machine.lock().waiters());
        let stayed: Vec<_> = before.iter().filter(|id| self.waiters.contains(id)).collect();
        if !stayed.iter().zip(&self.waiters).all(|(one, other)| **one == *other) {
            return Err(format!("the queue {before:?} became {:?}", self.waiters));
        }
        self.check_sizes(machine, most)?;
        self.check_sessions(machine)?;
        self.check_evicted(machine, &before)?;
        if let Some(last) = self.waiters.last()
            && !before.contains(last)
            && let Some((_, waiter)) = machine.lock().queue_from(Ticket(0)).last()
            && waiter.since_ms != machine.now_ms()
        {
            return Err(format!("{waiter:?} has just come, at {:?}", machine.now_ms()));
        }
        if self.holder.is_none() && !self.waiters.is_empty() {
            return Err(format!("the lock is free, but {:?} wait", self.waiters));
        }
        if from == self.holder {
            return Ok(None);
        }
        if let Some((id, token)) = self.holder {
            if token <= self.newest_token {
                return Err(format!("token {token} was given after {}", self.newest_token));
            }
            self.newest_token = token;
            if machine.session(id).is_none() {
                return Err(format!("session {id} holds the lock, but there is no such session"));
            }
            if self.waiters.contains(&id) {
                return Err(format!("session {id} holds the lock and waits for it"));
            }
            let place = before.iter().position(|waiter| *waiter == id);
            let overtaken = &before[..place.unwrap_or(before.len())];
            if let Some(other) = overtaken.iter().find(|other| self.waiters.contains(other)) {
                return Err(format!("session {id} got the lock before {other}"));
            }
        }
        let was_wanted = matches!(cause, Cause::Request(_)) || !before.is_empty();
        let has_gone = |id: &&SessionId| {
            !self.waiters.contains(id)
                && cause != Cause::Request(**id)
                && self.holder.is_none_or(|(holder, _)| holder != **id)
        };
        let skipped = before.iter().filter(has_gone).copied().collect();
        Ok(Some(Handover { from, to: self.holder, cause, is_revoked: false, was_wanted, skipped }))
    }
}

impl Observer {
    /// Nothing grows beyond what may be. Where less may be than before, what is there may stay.
    fn check_sizes(&mut self, machine: &Machine, most: &Most) -> Result<(), String> {
        let before = std::mem::replace(&mut self.crowd, crowd(machine));
        let (sessions, waiters) = self.crowd;
        let has_grown = |now: u64, before: u64, most: u64| now > most && now > before;
        if has_grown(sessions, before.0, most.sessions)
            || has_grown(waiters, before.1, most.waiters)
        {
            return Err(format!("{sessions} sessions, {waiters} waiters: more than may be"));
        }
        if machine.staged_bytes() > most.section {
            return Err(format!("{} bytes are staged", machine.staged_bytes()));
        }
        let records = machine.history().len();
        if records > most.history as usize {
            return Err(format!("{records} records are kept, of {} that may be", most.history));
        }
        Ok(())
    }

    /// The history has those whose sessions ended while they waited.
    fn check_evicted(&self, machine: &Machine, before: &[SessionId]) -> Result<(), String> {
        let history = machine.history();
        for id in before.iter().filter(|id| machine.session(**id).is_none()) {
            let (_, mut newest) = history.from(history.newest().saturating_sub(RECORDS_A_STEP));
            // Who is passed over first, in the same step, waits no more when its session ends.
            let ends = [RecordKind::Evicted, RecordKind::Skipped];
            let is_its = |record: &Record| record.session == *id && ends.contains(&record.kind);
            if u64::from(history.limit()) > RECORDS_A_STEP && !newest.any(|one| is_its(&one)) {
                return Err(format!("session {id} waited and is gone, but is not in the history"));
            }
        }
        Ok(())
    }

    /// No two sessions are one registration, and those who wait are the ones that have a ticket.
    fn check_sessions(&mut self, machine: &Machine) -> Result<(), String> {
        if machine.registrations() != machine.session_count() {
            return Err(format!("{} registrations", machine.registrations()));
        }
        self.nonces.clear();
        for (id, session) in machine.sessions() {
            if self.nonces.contains(&session.nonce) {
                return Err(format!("session {id} is a registration that has one already"));
            }
            self.nonces.push(session.nonce);
            if session.ticket.is_some() != self.waiters.contains(&id) {
                return Err(format!(
                    "session {id} has {:?}, waiters {:?}",
                    session.ticket, self.waiters
                ));
            }
        }
        Ok(())
    }
}

/// Records that one step makes at most.
const RECORDS_A_STEP: u64 = 30;

fn crowd(machine: &Machine) -> (u64, u64) {
    (machine.session_count() as u64, machine.lock().waiting() as u64)
}

fn holder(machine: &Machine) -> Option<(SessionId, u64)> {
    machine.lock().holder.as_ref().map(|holder| (holder.session, holder.token.0))
}
