//! How much the server takes on, and what of its settings can change while it runs.
//!
//! Each limit is compared with a number that is kept anyway, so that a request costs the same
//! however near a limit is. A refusal takes no request number and changes nothing.

use super::{Action, Core, Now, Settings};
use crate::engine::Engine;
use crate::limits::{DISK_FLOOR_DEFAULT, HISTORY_LIMIT_DEFAULT, SESSIONS_MAX};
use crate::machine::Change;
use crate::mutant;
use crate::protocol::{Op, Reason, Request};

/// What the operator lets the server take on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once.
    pub sessions: u64,
    /// Clients that wait for the lock at once.
    pub waiters: u64,
    /// Bytes in all data files together.
    pub data: u64,
    /// Records that the history keeps, from the next start or term on.
    pub history: u32,
    /// Bytes on the disk that are left free: below them nothing is taken on that grows.
    pub disk_floor: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions: SESSIONS_MAX as u64,
            waiters: SESSIONS_MAX as u64,
            data: u64::MAX,
            history: HISTORY_LIMIT_DEFAULT,
            disk_floor: DISK_FLOOR_DEFAULT,
        }
    }
}

impl Core {
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// New growth is refused for want of room on the disk.
    pub fn is_short_of_room(&self) -> bool {
        self.engine.is_full() || self.room < self.settings.limits.disk_floor
    }

    /// The limit that the request would go beyond, if it is one that leads to a change.
    pub(super) fn over_limit(&self, request: &Request<'_>) -> Option<Reason> {
        let limits = &self.settings.limits;
        let one = u64::from(mutant::is("limit_off_by_one"));
        let is_over = |count: usize, most: u64| count as u64 >= most.saturating_add(one);
        match &request.op {
            Op::Init { .. } if is_over(self.machine.session_count(), limits.sessions) => {
                Some(Reason::TooManySessions)
            }
            Op::Acquire { try_only: false } if self.would_wait(request) => {
                is_over(self.machine.lock().waiting(), limits.waiters)
                    .then_some(Reason::TooManyWaiters)
            }
            // Its later pieces were counted with the first, and only the holder adds to the files.
            Op::Append { total, offset: 0, .. } => {
                let section = self.machine.lock().holder.as_ref().map(|holder| &holder.section);
                let staged = section.map_or(0, |section| section.whole_bytes());
                let staged = if mutant::is("staged_not_counted") { 0 } else { staged };
                let wanted = self.published.saturating_add(staged + u64::from(*total));
                (wanted > limits.data).then_some(Reason::DataLimit)
            }
            _ => None,
        }
    }

    /// Whether an acquire leads to a new place in the queue.
    fn would_wait(&self, request: &Request<'_>) -> bool {
        self.machine.lock().holder.is_some()
            && self.machine.session(request.session).is_some_and(|one| one.ticket.is_none())
    }

    /// The operator has changed what can be changed while the server runs.
    pub fn handle_settings(&mut self, settings: Settings, now: Now, actions: &mut Vec<Action>) {
        let lease_ms = settings.lease_ms;
        let Settings { syncs, limits, .. } = self.settings;
        self.settings = Settings { syncs, ..settings };
        if mutant::is("limits_never_change") {
            self.settings.limits = limits;
        }
        if matches!(self.engine, Engine::Following) || self.engine.has_failed() {
            return self.keep_lease(lease_ms);
        }
        self.keep_lease(self.watch.lease());
        // Also a shorter one, or whoever serves next would give the longer one to those who come now.
        if lease_ms != self.machine.lease_ms() && !mutant::is("shorter_lease_not_logged") {
            self.commit(Change::Lease { lease_ms }, now, actions);
            self.lease_at = self.engine.last();
        }
        self.flush(now, actions);
    }

    /// Clients are told of leases of this length at most, until [`Core::note_lease`] says otherwise.
    pub(super) fn keep_lease(&mut self, most_ms: u64) {
        let Settings { lease_ms, session_ttl_ms, .. } = self.settings;
        self.watch.set_times(most_ms.min(lease_ms), session_ttl_ms);
    }

    /// Leases are to last longer than clients are told yet.
    pub(super) fn is_lengthening(&self) -> bool {
        self.watch.lease() < self.settings.lease_ms
    }

    /// Whoever serves next gives the holder as long as the state says that it may have been told of. So
    /// nobody is told of a longer lease before that is stable.
    pub(super) fn note_lease(&mut self) {
        let is_stable = self.lease_at <= self.engine.marks().stable;
        if self.is_lengthening() && (is_stable || mutant::is("lease_told_early")) {
            self.keep_lease(u64::MAX);
        }
    }
}
