//! How a change comes about: it gets its place in the log, is applied, and what follows from it
//! goes where it belongs.

use super::{Action, Core, Now};
use crate::limits::{SKIP_MAX, UNTOLD_MAX};
use crate::machine::{Answer, Change, Command, Effect, Evicted};
use crate::mutant;
use crate::server::watch::Event;
use crate::types::{LockId, LogIndex, Millis, SessionId};

impl Core {
    /// Gives the change its place in the log, applies it, and keeps what follows in the outbox.
    pub(super) fn commit(&mut self, change: Change, now: Now, actions: &mut Vec<Action>) {
        let skip = self.silent_waiters(&change, now);
        let is_back = mutant::is("time_goes_back");
        let now_ms = if is_back { now.unix } else { now.unix.max(self.machine.now_ms()) };
        let mut now = now;
        if mutant::is("lease_by_wall_clock") {
            now.steady.0 += now_ms.0 - self.machine.now_ms().0.max(1_000_000_000_000);
        }
        let command = Command { now_ms, skip, change };
        let index = self.engine.propose(&command);
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.apply(&command, &mut effects);
        let only_queued = match effects[..] {
            [Effect::Answer { session, .. }] => {
                let session = self.machine.session(session);
                session.is_some_and(|session| session.answer == Answer::Waiting)
            }
            _ => false,
        };
        self.engine.hurry(now.steady, !only_queued);
        for effect in effects.drain(..) {
            self.follow(index, effect, now);
        }
        self.effects = effects;
        let holder = self.machine.lock().holder.as_ref();
        self.meter.held(holder.map(|holder| holder.token).unwrap_or_default());
        self.watch_hold(now, actions);
    }

    /// Does what an applied command has led to.
    fn follow(&mut self, index: LogIndex, effect: Effect, now: Now) {
        match effect {
            Effect::Registered { nonce, session } => {
                self.watch.begin(session, now.steady);
                if let Some(at) = self.joining.iter().position(|(joining, ..)| *joining == nonce) {
                    let (_, addr, stamp, attempt) = self.joining.swap_remove(at);
                    self.watch.hear(session, addr, stamp, attempt, now.steady);
                }
            }
            Effect::Answer { session, is_stable } => {
                self.watch.touch(session, index, is_stable);
                let Some(state) = self.machine.session(session) else { return };
                match state.answer {
                    Answer::Granted(token) => {
                        self.watch.begin_hold(session, token, now.steady);
                        self.meter.granted(None);
                    }
                    Answer::Waiting if self.machine.lock().waiting() <= UNTOLD_MAX => {
                        return self.leave_untold(session, now);
                    }
                    Answer::Disconnected => self.watch.linger(session, now.steady),
                    _ => {}
                }
                self.repeat(session, now);
            }
            Effect::Turn { session, token } => {
                self.watch.touch(session, index, false);
                let since_us = self.watch.begin_turn(session, token, now.steady);
                self.meter.granted(since_us);
                self.repeat(session, now);
                self.call_next(now);
            }
            Effect::Publish(parts) => {
                if !mutant::is("published_not_counted") {
                    self.published += parts.iter().map(|part| part.data.len() as u64).sum::<u64>();
                }
                self.engine.publish(index, parts);
            }
            Effect::Ended { session } => {
                self.watch.forget(session);
                self.early.forget(session);
                self.held.forget(session);
            }
        }
    }

    /// Keeps the lease of the holder in view while anybody waits.
    fn watch_hold(&mut self, now: Now, actions: &mut Vec<Action>) {
        match &self.machine.lock().holder {
            None => self.watch.end_hold(),
            Some(holder) => {
                debug_assert_eq!(self.watch.held_token(), Some(holder.token));
                if self.machine.lock().is_waited_for()
                    && let Some(event) = self.watch.watch_hold(now.steady)
                {
                    self.expire(event, now, actions);
                }
            }
        }
    }

    pub(super) fn expire(&mut self, event: Event, now: Now, actions: &mut Vec<Action>) {
        if let Event::Over { session, token, is_skipped } = event
            && (self.machine.lock().is_waited_for() || mutant::is("expires_unwanted"))
            && !mutant::is("dead_holder_kept")
            && !self.engine.has_failed()
        {
            let change = Change::Expire { lock: LockId(0), session, token, is_skipped };
            self.commit(change, now, actions);
        }
    }

    /// Evicts a session of which nothing was heard for its time to live.
    pub(super) fn end_idle(&mut self, id: SessionId, now: Now, actions: &mut Vec<Action>) {
        let Some(session) = self.machine.session(id) else { return };
        let holds = self.watch.lease_ms(id) > 0 && !mutant::is("evicted_holding");
        if mutant::is("evicted_never") {
            return;
        }
        let until = self.watch.idle_until(id, session.is_closed());
        if until > now.steady {
            self.watch.look_again(id, until);
        } else if holds || session.ticket.is_some() || self.engine.has_failed() {
            self.watch.look_again(id, Millis(now.steady.0 + self.settings.session_ttl_ms));
        } else {
            let change = Change::Evict { session: id, last: session.last, why: Evicted::Idle };
            self.commit(change, now, actions);
        }
    }

    /// Waiters at the head of the queue that have fallen silent, if the change may free the lock.
    fn silent_waiters(&self, change: &Change, now: Now) -> Vec<SessionId> {
        if matches!(change, Change::Boot { .. } | Change::Register { .. } | Change::Lease { .. }) {
            return Vec::new();
        }
        let waiters = self.machine.lock().waiters().take(SKIP_MAX);
        waiters.take_while(|session| self.watch.is_silent(*session, now.steady)).collect()
    }
}
