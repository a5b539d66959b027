//! The server without its sockets, disk, clock and threads: datagrams' meaning in, replies and
//! jobs for the disk out. It stands under the spin lock; nothing in it blocks.
//!
//! The simulator runs this same code, so everything from outside is an argument.

mod cluster;
mod commit;
mod inspect;
mod limits;
mod tell;

pub use cluster::Standing;
pub use inspect::{Page, encode as encode_page};
pub use limits::Limits;

use super::early::Early;
use super::meter::Meter;
use super::outbox::Outbox;
use super::watch::{Event, Watch};
use crate::engine::Engine;
use crate::engine::solo::{Ending, Flush, Job, Solo};
use crate::machine::{Admission, Change, Effect, FIRST_REQUEST, Machine};
use crate::mutant;
use crate::protocol::inspect::Counters;
use crate::protocol::{Op, Outcome, Reason, Reform, Reply, Request, Status};
use crate::types::{Attempt, FileId, LogIndex, Millis, SessionId, Stamp};
use crate::wal::Batch;
use std::net::{SocketAddr, SocketAddrV4};
pub use tell::direct;
use tell::{ask_again_ms, refused};

/// How often writing is tried again on a full disk.
const RETRY_MS: u64 = 100;
/// The most deadlines that are dealt with in one critical section.
const EVENTS_MAX: usize = 64;
/// With so many waiters a sync may wait for more sections to cover.
const CROWD: usize = 8;

/// What the operator has set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub lease_ms: u64,
    pub session_ttl_ms: u64,
    pub section_limit: u64,
    /// `--durability sync`.
    pub syncs: bool,
    pub limits: Limits,
}

/// The time: a clock that never goes back, and milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub steady: Millis,
    /// The same in microseconds, for measuring only.
    pub steady_us: u64,
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
    /// Have the thread that drives the member do this, put what comes of it into the reply, send
    /// it.
    Reform {
        to: SocketAddr,
        reply: Reply<'static>,
        reform: Reform,
    },
}

#[derive(Debug)]
pub struct Core {
    settings: Settings,
    machine: Machine,
    engine: Engine,
    watch: Watch,
    outbox: Outbox,
    /// Registrations on their way: where their answers go.
    joining: Vec<(u64, SocketAddr, Stamp, Attempt)>,
    /// Bytes free on the disk when it was last looked at.
    room: u64,
    /// Bytes in all data files when everything proposed is published.
    published: u64,
    /// The log is made stable up to here even if no reply waits for it.
    settle_through: LogIndex,
    /// The entry that says how long leases may last.
    lease_at: LogIndex,
    effects: Vec<Effect>,
    /// The waiter that was asked to ask, until it has.
    called: Option<SessionId>,
    early: Early,
    held: inspect::Held,
    /// Where clients find the leader of a cluster, and the term in which this member was elected and
    /// has not begun or ceased to lead.
    leader: Option<SocketAddrV4>,
    elected: u64,
    counters: Counters,
    meter: Meter,
}

impl Core {
    /// Takes over a recovered state whose log is stable and published up to `last`.
    pub fn new(settings: Settings, machine: Machine, last: LogIndex, now: Now) -> Self {
        Core::over(Engine::Solo(Solo::new(last, settings.syncs)), settings, machine, now)
    }

    /// Begins to watch over a state; every lease starts anew.
    fn over(engine: Engine, settings: Settings, machine: Machine, now: Now) -> Self {
        let mut watch = Watch::new(settings.lease_ms, settings.session_ttl_ms);
        for (id, session) in machine.sessions() {
            match session.is_closed() {
                true => watch.linger(id, now.steady),
                false => watch.begin(id, now.steady),
            }
        }
        let mut core = Core {
            settings,
            machine,
            engine,
            watch,
            outbox: Outbox::default(),
            joining: Vec::new(),
            room: u64::MAX,
            published: 0,
            settle_through: LogIndex(0),
            lease_at: LogIndex(0),
            effects: Vec::new(),
            called: None,
            early: Early::default(),
            held: inspect::Held::default(),
            leader: None,
            elected: 0,
            counters: Counters::default(),
            meter: Meter::default(),
        };
        core.open(now);
        core
    }

    /// Requests are served from now on: the lease of the holder, the patience with waiters and the life of
    /// idle sessions count from here, however long the start has taken.
    pub fn open(&mut self, now: Now) {
        let lock = self.machine.lock();
        self.watch.expect_all(ask_again_ms(lock.waiters().count()).into(), now.steady);
        if let Some(holder) = &lock.holder {
            let halved = self.settings.lease_ms / 2 * u64::from(mutant::is("lease_halved"));
            let since = Millis(now.steady.0.saturating_sub(halved));
            self.watch.begin_hold(holder.session, holder.token, since);
            if !mutant::is("lease_cut_at_start") {
                self.watch.hold_for(holder.lease_ms);
            }
            if lock.is_waited_for() {
                self.watch.watch_hold(now.steady);
            }
        }
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    pub fn engine(&self) -> &Engine {
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

    /// The data files have this many bytes at the start.
    pub fn handle_published(&mut self, bytes: u64) {
        self.published = if mutant::is("size_forgotten_at_start") { 0 } else { bytes };
    }

    /// Has everything proposed so far made stable and published.
    pub fn settle(&mut self) {
        self.settle_through = self.engine.last();
    }

    /// Something the log depends on has failed: acknowledges nothing any more.
    pub fn fail(&mut self) {
        self.engine.fail();
    }

    /// How much is kept in memory about sessions and their requests: nothing when there are none.
    pub fn remembered(&self) -> usize {
        self.watch.contacts() + self.early.len() + self.outbox.len() + self.joining.len()
    }

    /// The first command of this start.
    pub fn boot(&mut self, files: u32, now: Now, actions: &mut Vec<Action>) {
        let epoch = self.machine.epoch() + 1;
        let (records, lease_ms) = (self.settings.limits.history, self.settings.lease_ms);
        // Before the first start nobody was told of any lease.
        let known = Some(self.machine.lease_ms()).filter(|known| *known > 0);
        self.keep_lease(known.unwrap_or(lease_ms));
        self.commit(Change::Boot { epoch, files, records, lease_ms }, now, actions);
        self.lease_at = self.engine.last();
    }

    /// A well-formed request has arrived.
    pub fn handle_request(
        &mut self,
        from: SocketAddr,
        request: &Request<'_>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.meter.tick(now);
        if self.engine.has_failed() {
            let outcome = refused(Status::Unavailable, Reason::LogFailed);
            actions.push(Action::Send { to: from, reply: direct(request, outcome) });
            return;
        }
        if !self.engine.is_serving(now.steady) {
            return self.refer(from, request, actions);
        }
        self.handle_one(from, request, now, actions);
        // It may have been what a piece of the same append was waiting for.
        while let Some(session) = self.machine.session(request.session)
            && let Some(piece) = self.early.take(request.session, session.last.next())
        {
            self.handle_one(from, &piece.request(), now, actions);
        }
        self.flush(now, actions);
    }

    fn handle_one(
        &mut self,
        from: SocketAddr,
        request: &Request<'_>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.counters.requests += 1;
        self.meter.begin(request.session, &request.op);
        let newest = self.hear(from, request, now);
        match self.machine.admit(request, newest, self.settings.section_limit) {
            Admission::Ignore => self.counters.ignored += 1,
            Admission::Early => self.early.hold(request),
            Admission::Repeat => {
                self.counters.repeats += 1;
                if !self.is_called(request.session, now) {
                    self.repeat(request.session, now);
                }
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
            Admission::Reform(reform) if matches!(self.engine, Engine::Leading(_)) => {
                let reply = direct(request, Outcome::Done { lease_ms: 0 });
                actions.push(Action::Reform { to: from, reply, reform });
            }
            Admission::Reform(_) => {
                let outcome = refused(Status::Refused, Reason::NotCluster);
                actions.push(Action::Send { to: from, reply: direct(request, outcome) });
            }
            Admission::Refuse(status, reason) => {
                self.refuse(from, request, status, reason, actions);
            }
            Admission::Propose(change) => self.propose(from, request, change, now, actions),
            Admission::Lost(change) => {
                let reply = direct(request, refused(Status::SessionLost, Reason::None));
                actions.push(Action::Send { to: from, reply });
                self.commit(change, now, actions);
            }
        }
        self.meter.end();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.meter.tick(now);
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
        self.flush(now, actions);
    }

    /// The next job for the disk.
    pub fn poll_job(&mut self) -> Option<Job> {
        let is_settling = self.engine.marks().published < self.settle_through;
        let is_waited_for =
            self.outbox.wants_stable() || !self.held.is_empty() || self.is_lengthening();
        self.engine.poll_job(is_settling || is_waited_for)
    }

    /// So many wait for the lock that an answer may come a little later: who gets it would only wait, too.
    pub fn is_crowded(&self) -> bool {
        self.machine.lock().waiting() >= CROWD
    }

    /// Has a flush that nobody has begun yet cover what was written meanwhile, too.
    pub fn widen(&mut self, flush: &mut Flush) {
        self.engine.widen(flush);
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
        self.meter.tick(now);
        if self.engine.is_full() && !mutant::is("full_never_retried") {
            self.watch.retry_at(Millis(now.steady.0 + RETRY_MS));
        }
        self.flush(now, actions);
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
        if let Some((status, reason)) = self.watch.settled(request.session, request.attempt)
            && !mutant::is("refusal_forgotten")
        {
            return self.refuse(from, request, status, reason, actions);
        }
        if !self.has_room(request) {
            self.refuse(from, request, Status::Refused, Reason::NoSpace, actions);
            return;
        }
        if let Some(reason) = self.over_limit(request) {
            self.refuse(from, request, Status::Refused, reason, actions);
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
            return request.op == Op::Cancel && !mutant::is("cancel_refused_when_full");
        }
        let (staged, floor) = (self.machine.staged_bytes(), self.settings.limits.disk_floor);
        let needed = match &request.op {
            Op::Append { data, .. } => floor.saturating_add(2 * (staged + data.len() as u64)),
            Op::Init { .. } | Op::Acquire { .. } => floor.saturating_add(staged),
            Op::Release | Op::Close => staged,
            _ => 0,
        };
        self.room >= needed
    }
}

#[cfg(all(test, loom))]
mod loom_handover;

#[cfg(all(test, not(loom)))]
mod tests;
