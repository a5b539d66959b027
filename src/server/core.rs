//! The server without its sockets, disk, clock and threads: datagrams' meaning in, replies and
//! jobs for the disk out. It stands under the spin lock; nothing in it blocks.
//!
//! The simulator runs this same code, so everything from outside is an argument.

mod inspect;

pub use inspect::{Page, encode as encode_page};

use super::early::Early;
use super::outbox::{Draft, Outbox};
use super::watch::{Event, Watch};
use crate::engine::solo::{Ending, Flush, Job, Solo};
use crate::limits::{ASK_AGAIN_MS_MAX, ASK_AGAIN_MS_STEP, SKIP_MAX};
use crate::machine::{
    Admission, Answer, Change, Command, Effect, Evicted, FIRST_REQUEST, Machine, Session,
};
use crate::mutant;
use crate::protocol::inspect::Counters;
use crate::protocol::{Op, Outcome, Reason, Reply, Request, Status};
use crate::types::{Attempt, FileId, LockId, LogIndex, Millis, SessionId, Stamp};
use crate::wal::Batch;
use std::net::SocketAddr;

/// Free space that is kept for what must always be possible: giving the lock back, expiry.
const ROOM_KEPT: u64 = 256 << 10;
/// How often writing is tried again on a full disk.
const RETRY_MS: u64 = 100;
/// The most deadlines that are dealt with in one critical section.
const EVENTS_MAX: usize = 64;

/// What the operator has set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub lease_ms: u64,
    pub session_ttl_ms: u64,
    pub section_limit: u64,
    /// `--durability sync`.
    pub syncs: bool,
}

/// The time: a clock that never goes back, and milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub steady: Millis,
    pub unix: Millis,
}

/// What to do outside of the lock.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Send {
        to: SocketAddr,
        reply: Reply<'static>,
    },
    /// Read published bytes, put them into the reply, send it.
    Read {
        to: SocketAddr,
        reply: Reply<'static>,
        file: FileId,
        offset: u64,
        max: u32,
    },
    /// Complete the page, put it into the reply, send it.
    Inspect {
        to: SocketAddr,
        reply: Reply<'static>,
        page: Page,
    },
}

#[derive(Debug)]
pub struct Core {
    settings: Settings,
    machine: Machine,
    engine: Solo,
    watch: Watch,
    outbox: Outbox,
    /// Registrations on their way: where their answers go.
    joining: Vec<(u64, SocketAddr, Stamp, Attempt)>,
    /// Bytes free on the disk when it was last looked at.
    room: u64,
    /// The log is made stable up to here even if no reply waits for it.
    settle_through: LogIndex,
    effects: Vec<Effect>,
    early: Early,
    held: inspect::Held,
    counters: Counters,
}

impl Core {
    /// Takes over a recovered state whose log is stable and published up to `last`.
    pub fn new(settings: Settings, machine: Machine, last: LogIndex, now: Now) -> Self {
        let mut watch = Watch::new(settings.lease_ms, settings.session_ttl_ms);
        for (id, _) in machine.sessions() {
            watch.begin(id, now.steady);
        }
        watch.expect_all(ask_again_ms(machine.lock().waiters().count()).into(), now.steady);
        if let Some(holder) = &machine.lock().holder {
            watch.begin_hold(holder.session, holder.token, now.steady);
            if machine.lock().is_waited_for() {
                watch.watch_hold(now.steady);
            }
        }
        Core {
            settings,
            machine,
            engine: Solo::new(last, settings.syncs),
            watch,
            outbox: Outbox::default(),
            joining: Vec::new(),
            room: u64::MAX,
            settle_through: LogIndex(0),
            effects: Vec::new(),
            early: Early::default(),
            held: inspect::Held::default(),
            counters: Counters::default(),
        }
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    pub fn engine(&self) -> &Solo {
        &self.engine
    }

    /// When [`Core::handle_timeout`] is to be called next.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.watch.next_deadline()
    }

    /// The disk has this many bytes free.
    pub fn handle_room(&mut self, room: u64) {
        self.room = room;
    }

    /// Has everything proposed so far made stable and published.
    pub fn settle(&mut self) {
        self.settle_through = self.engine.last();
    }

    /// Something the log depends on has failed: acknowledges nothing any more.
    pub fn fail(&mut self) {
        self.engine.fail();
    }

    /// The first command of this start.
    pub fn boot(&mut self, files: u32, now: Now, actions: &mut Vec<Action>) {
        let epoch = self.machine.epoch() + 1;
        self.commit(Change::Boot { epoch, files }, now, actions);
    }

    /// A well-formed request has arrived.
    pub fn handle_request(
        &mut self,
        from: SocketAddr,
        request: &Request<'_>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        if self.engine.has_failed() {
            let outcome = refused(Status::Unavailable, Reason::LogFailed);
            actions.push(Action::Send { to: from, reply: direct(request, outcome) });
            return;
        }
        self.handle_one(from, request, now, actions);
        // It may have been what a piece of the same append was waiting for.
        while let Some(session) = self.machine.session(request.session)
            && let Some(piece) = self.early.take(request.session, session.last.next())
        {
            self.handle_one(from, &piece.request(), now, actions);
        }
        self.flush(actions);
    }

    fn handle_one(
        &mut self,
        from: SocketAddr,
        request: &Request<'_>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.counters.requests += 1;
        let newest = self.hear(from, request, now);
        match self.machine.admit(request, newest, self.settings.section_limit) {
            Admission::Ignore => self.counters.ignored += 1,
            Admission::Early => self.early.hold(request),
            Admission::Repeat => {
                self.counters.repeats += 1;
                self.repeat(request.session, now);
            }
            Admission::Registered(id) => {
                let is_new = self.machine.session(id).is_some_and(|s| s.last == FIRST_REQUEST);
                if is_new {
                    self.watch.hear(id, from, request.stamp, request.attempt, now.steady);
                    self.repeat(id, now);
                }
            }
            Admission::Holding(token) => {
                let lost_since = (Status::LeaseExpired, Reason::None);
                self.watch.settle(request.session, request.attempt, lost_since);
                self.say(request, Outcome::Granted { token, lease_ms: 0 });
            }
            Admission::Renewed => self.say(request, Outcome::Done { lease_ms: 0 }),
            Admission::Read { file, offset, max } => {
                let reply = direct(request, Outcome::Data { length: 0, data: &[] });
                actions.push(Action::Read { to: from, reply, file, offset, max });
            }
            Admission::Inspect { what, from: first } => {
                self.inspect(from, request, what, first, now, actions);
            }
            Admission::Refuse(status, reason) => {
                self.counters.refused += 1;
                self.refuse(from, request, status, reason, actions);
            }
            Admission::Propose(change) => self.propose(from, request, change, now, actions),
            Admission::Lost(change) => {
                let reply = direct(request, refused(Status::SessionLost, Reason::None));
                actions.push(Action::Send { to: from, reply });
                self.commit(change, now, actions);
            }
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now, actions: &mut Vec<Action>) {
        // What is left is due at once again: requests go on in between.
        for _ in 0..EVENTS_MAX {
            let Some(event) = self.watch.poll(now.steady) else { break };
            match event {
                Event::Over { .. } => self.expire(event, now, actions),
                Event::Remind(session) => self.repeat(session, now),
                Event::Idle(session) => self.end_idle(session, now, actions),
                Event::Retry => self.engine.retry(),
            }
        }
        self.flush(actions);
    }

    /// The next job for the disk.
    pub fn poll_job(&mut self) -> Option<Job> {
        let is_settling = self.engine.marks().published < self.settle_through;
        let is_waited_for = self.outbox.wants_stable() || !self.held.is_empty();
        self.engine.poll_job(is_settling || is_waited_for)
    }

    pub fn handle_written(
        &mut self,
        batch: Batch,
        ending: Ending,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.engine.handle_written(batch, ending);
        self.after_job(now, actions);
    }

    pub fn handle_flushed(
        &mut self,
        flush: Flush,
        ending: Ending,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.engine.handle_flushed(flush, ending);
        self.after_job(now, actions);
    }

    fn after_job(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.engine.is_full() {
            self.watch.retry_at(Millis(now.steady.0 + RETRY_MS));
        }
        self.flush(actions);
    }

    /// Notes that the session was heard; returns its newest call so far, this one included.
    fn hear(&mut self, from: SocketAddr, request: &Request<'_>, now: Now) -> Attempt {
        if self.machine.session(request.session).is_none() {
            return request.attempt;
        }
        let (stamp, attempt) = (request.stamp, request.attempt);
        self.watch.hear(request.session, from, stamp, attempt, now.steady)
    }

    fn propose(
        &mut self,
        from: SocketAddr,
        request: &Request<'_>,
        change: Change,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        // It was answered without taking its number, which its client has given to another call
        // since: a late duplicate must not find, say, that there is room now.
        if let Some((status, reason)) = self.watch.settled(request.session, request.attempt) {
            return self.refuse(from, request, status, reason, actions);
        }
        if !self.has_room(request) {
            self.refuse(from, request, Status::Refused, Reason::NoSpace, actions);
            return;
        }
        if let Change::Register { nonce, .. } = &change {
            self.joining.push((*nonce, from, request.stamp, request.attempt));
        }
        self.commit(change, now, actions);
    }

    /// Whether the disk has room for what this request leads to. Waiting for a full disk to be
    /// written is no time to take on more; giving back without publishing needs nothing.
    fn has_room(&self, request: &Request<'_>) -> bool {
        if self.engine.is_full() {
            // A cancel cannot be refused: its client would not know which number comes next.
            return request.op == Op::Cancel;
        }
        let staged = self.machine.staged_bytes();
        let needed = match &request.op {
            Op::Append { data, .. } => ROOM_KEPT + 2 * (staged + data.len() as u64),
            Op::Init { .. } | Op::Acquire { .. } => ROOM_KEPT + staged,
            Op::Release | Op::Close => staged,
            _ => 0,
        };
        self.room >= needed
    }

    /// Gives the change its place in the log, applies it, and keeps what follows in the outbox.
    fn commit(&mut self, change: Change, now: Now, actions: &mut Vec<Action>) {
        let skip = self.silent_waiters(&change, now);
        let now_ms = now.unix.max(self.machine.now_ms());
        let command = Command { now_ms, skip, change };
        let index = self.engine.propose(&command);
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.apply(&command, &mut effects);
        for effect in effects.drain(..) {
            self.follow(index, effect, now);
        }
        self.effects = effects;
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
                    Answer::Granted(token) => self.watch.begin_hold(session, token, now.steady),
                    Answer::Disconnected => self.watch.linger(session, now.steady),
                    _ => {}
                }
                self.repeat(session, now);
            }
            Effect::Turn { session, token } => {
                self.watch.touch(session, index, false);
                self.watch.begin_turn(session, token, now.steady);
                self.repeat(session, now);
            }
            Effect::Publish(parts) => self.engine.publish(index, parts),
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

    fn expire(&mut self, event: Event, now: Now, actions: &mut Vec<Action>) {
        if let Event::Over { session, token, is_skipped } = event
            && (self.machine.lock().is_waited_for() || mutant::is("expires_unwanted"))
            && !self.engine.has_failed()
        {
            let change = Change::Expire { lock: LockId(0), session, token, is_skipped };
            self.commit(change, now, actions);
        }
    }

    /// Evicts a session of which nothing was heard for its time to live.
    fn end_idle(&mut self, id: SessionId, now: Now, actions: &mut Vec<Action>) {
        let Some(session) = self.machine.session(id) else { return };
        let holds = self.watch.lease_ms(id) > 0;
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
        if matches!(change, Change::Boot { .. } | Change::Register { .. }) {
            return Vec::new();
        }
        let waiters = self.machine.lock().waiters().take(SKIP_MAX);
        waiters.take_while(|session| self.watch.is_silent(*session, now.steady)).collect()
    }

    /// Tells a session (again) what the answer to its last request is.
    fn repeat(&mut self, id: SessionId, now: Now) {
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
            self.watch.expect(id, ask_again_ms.into(), now.steady);
        }
        self.keep(Draft { session: id, number, attempt, is_consumed: true, outcome });
    }

    fn queued(&self, session: &Session) -> Outcome<'static> {
        let position = session.ticket.map_or(0, |ticket| self.machine.lock().position(ticket));
        Outcome::Queued { position, ask_again_ms: ask_again_ms(position as usize) }
    }

    /// Answers a request that takes no number.
    fn say(&mut self, request: &Request<'_>, outcome: Outcome<'static>) {
        self.keep(Draft {
            session: request.session,
            number: request.number,
            attempt: request.attempt,
            is_consumed: false,
            outcome,
        });
    }

    /// Refuses a request. To a session that tells also that all its requests before were taken, so
    /// it waits for them like any answer.
    fn refuse(
        &mut self,
        from: SocketAddr,
        request: &Request<'_>,
        status: Status,
        reason: Reason,
        actions: &mut Vec<Action>,
    ) {
        let outcome = refused(status, reason);
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
            // It may be another's request that took the lock away.
            Outcome::Refused { status: Status::LeaseExpired | Status::NotHolder, .. } => {
                (self.engine.last(), false)
            }
            _ => (contact.touched, contact.needs_stable),
        };
        let index = if mutant::is("reply_before_write") { LogIndex(0) } else { index };
        let needs_stable = needs_stable && !mutant::is("reply_before_sync");
        self.outbox.push(index, needs_stable, draft);
    }

    /// Sends what need not wait any longer. Once the log has failed nothing is acknowledged.
    fn flush(&mut self, actions: &mut Vec<Action>) {
        if self.engine.has_failed() {
            return;
        }
        self.flush_held(actions);
        while let Some(draft) = self.outbox.pop(self.engine.marks()) {
            let Some(contact) = self.watch.contact(draft.session) else { continue };
            let lease = self.watch.lease_ms(draft.session);
            let outcome = match draft.outcome {
                // Lost again before it could be told; the client will ask.
                Outcome::Granted { token, .. } if self.watch.held_token() != Some(token) => {
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
            actions.push(Action::Send { to: contact.addr, reply });
        }
    }
}

/// How soon the waiter at this position is to ask again.
fn ask_again_ms(position: usize) -> u32 {
    (position as u64).saturating_mul(ASK_AGAIN_MS_STEP).min(ASK_AGAIN_MS_MAX) as u32
}

/// A reply to a request that has changed nothing.
fn direct(request: &Request<'_>, outcome: Outcome<'static>) -> Reply<'static> {
    Reply {
        session: request.session,
        number: request.number,
        attempt: request.attempt,
        stamp: request.stamp,
        is_consumed: false,
        outcome,
    }
}

fn refused(status: Status, reason: Reason) -> Outcome<'static> {
    Outcome::Refused { status, reason }
}

#[cfg(all(test, loom))]
mod loom_handover;

#[cfg(all(test, not(loom)))]
mod tests;
