//! The judge over the server that leads: what it makes of the lock before that is committed, whom it
//! passes over, and whether it lets anybody keep the lock for longer than a lease.

use super::{Verdict, World};
use crate::engine::Engine;
use crate::limits::SILENCE_GRACE_MS;
use crate::protocol::Request;
use crate::sim::ledger::{Sight, View};
use crate::sim::observe::{Cause, Most, Observer};
use crate::types::{SessionId, Stamp};
use std::collections::BTreeMap;

/// What is known of a server while it leads in one term.
#[derive(Default)]
pub struct Leading {
    term: u64,
    since: u64,
    observer: Observer,
    held_since: u64,
    /// The newest datagram that it has got of each session, and when.
    heard: BTreeMap<SessionId, (Stamp, u64)>,
    /// When each session has asked (again) for what it waits for.
    asked: BTreeMap<SessionId, u64>,
}

impl World {
    /// The server, which answers clients, has dealt with a request.
    pub(super) fn note_request(&mut self, at: usize, request: &Request<'_>) {
        let now = self.context.now;
        let Some(process) = &mut self.servers[at].process else { return };
        let leading = &mut process.leading;
        let heard = leading.heard.entry(request.session).or_insert((request.stamp, now));
        if request.stamp > heard.0 {
            *heard = (request.stamp, now);
        }
        let session = process.core.machine().session(request.session);
        if session.is_some_and(|one| one.last == request.number && one.attempt == request.attempt) {
            leading.asked.insert(request.session, now);
        }
    }

    /// The server's core may have changed.
    pub(super) fn check_leading(&mut self, at: usize, cause: Cause) -> Verdict {
        let (now, bounds) = (self.context.now, self.context.bounds);
        let drift = self.limits.drift_ppm;
        let Some(process) = &mut self.servers[at].process else { return Ok(()) };
        let leading = &mut process.leading;
        let (term, machine) = match process.core.engine() {
            Engine::Leading(engine) => (engine.term(), process.core.machine()),
            _ => {
                if std::mem::take(&mut leading.term) > 0 {
                    return self.ledger.note(View::Leader(at), Sight::default(), now);
                }
                return Ok(());
            }
        };
        self.leases.note(machine, process.lease_ms);
        if leading.term != term {
            *leading = Leading { term, since: now, held_since: now, ..Leading::default() };
            leading.observer.restart(machine);
            return self.ledger.note(View::Leader(at), Sight::of(machine), now);
        }
        let limits = process.core.limits();
        let handover = leading.observer.look(machine, &Most::of(&bounds, limits), cause)?;
        self.context.note_crowd(leading.observer.crowd(), limits);
        self.ledger.note(View::Leader(at), Sight::of(machine), now)?;
        let Some(handover) = handover else { return Ok(()) };
        leading.held_since = now;
        for skipped in handover.skipped {
            let silent_since = leading.asked.get(&skipped).copied().unwrap_or(leading.since);
            let grace = SILENCE_GRACE_MS * 1_000 - SILENCE_GRACE_MS * drift / 1_000;
            if now + 2_000 < silent_since + grace {
                return Err(format!("session {skipped} is passed over, but was not silent"));
            }
        }
        Ok(())
    }

    /// While somebody waits, nobody keeps the lock longer than a lease after it was heard last.
    pub(super) fn check_lease(&self, at: usize) -> Verdict {
        let (now, server) = (self.context.now, &self.servers[at]);
        let Some(process) = &server.process else { return Ok(()) };
        let leading = &process.leading;
        let is_waited_for = process.core.machine().lock().is_waited_for();
        let Some((session, token)) = leading.observer.holder() else { return Ok(()) };
        // A process that has stood still has much to do.
        if leading.term == 0 || !is_waited_for || server.asleep_until + AWAKE_US > now {
            return Ok(());
        }
        let heard = leading.heard.get(&session).map_or(0, |(_, at)| *at);
        let from = heard.max(leading.since).max(leading.held_since);
        let lease = self.leases.of(token);
        let over = from + lease * 1_000 + lease * self.limits.drift_ppm / 1_000 + LATE_US;
        if now <= over {
            return Ok(());
        }
        let late = now - over;
        Err(format!("session {session} keeps the lock under {token}, {late} us after its time"))
    }
}

/// What deadlines and threads may be late.
const LATE_US: u64 = 10_000;
const AWAKE_US: u64 = 20_000;
