//! A member of a cluster: threads and sockets around [`crate::engine::cluster`].
//!
//! | thread | does |
//! |---|---|
//! | `member` | looks after the node when nobody else does: at its deadlines, and for rare news |
//! | `journal` | writes and syncs the journal under load; what comes meanwhile goes together |
//! | `apply` | applies what takes long, and everything while much is staged; takes over states, cuts checkpoints |
//! | `peer` | two for each other member: one sends (`peers`), one receives (`hear`); one more where a member fetches what it lacks of the data files ([`fetch`]) or a server is let in (`join`) |
//!
//! What there is to decide is decided by [`driver`] and [`applier`], which the simulator runs too.
//! Any thread that brings news goes on with what follows from them, and when little is going on also
//! syncs and applies by itself (`helm`): waking another takes longer than most of it. The first
//! three threads (`keeper`) do what is left.
//!
//! Requests are served as by a server of its own, by the same threads and the same core. Where this
//! member does not lead the core only tells clients where to go.

pub mod applier;
pub mod driver;
pub mod fetch;
pub(in crate::server) mod hear;
pub mod hello;
pub(in crate::server) mod helm;
pub(in crate::server) mod join;
pub(in crate::server) mod keeper;
mod link;
pub(in crate::server) mod peers;
mod queue;
pub mod settings;

pub use peers::Peers;

use crate::engine::cluster::node::{Node, Role};
use crate::protocol::inspect::ClusterView;
use crate::types::{Millis, SessionId};
use crate::wal::Batch;
use applier::{Applier, Due};
use driver::{Driver, Input};
use helm::Helm;
use keeper::Applying;
use queue::Queue;
use raft::eraftpb::Message;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread::Thread;
use std::time::Duration;

/// A cluster as one of its members sees it.
pub struct Membership {
    pub id: u64,
    pub role: Role,
    /// All members, this one too, and where clients find them as far as is known.
    pub servers: Vec<(u64, Option<SocketAddrV4>)>,
    pub committed: u64,
    pub applied: u64,
    /// Messages to others that were lost because too many waited.
    pub dropped: u64,
}

/// What the threads of a member share.
pub struct Cluster {
    inbox: Mutex<Inbox>,
    /// Messages of others in the inbox.
    messages: AtomicU64,
    helm: Mutex<Helm>,
    /// When the next round is due, whatever happens.
    next_round_ms: AtomicU64,
    /// Who waits for that.
    watch: OnceLock<Thread>,
    journal: Queue<Batch>,
    due: Queue<Due>,
    applying: Mutex<Applying>,
    /// Until then only the threads that are for it wait for the disk.
    slow_until_ms: AtomicU64,
    role: Mutex<Role>,
    /// For operators, as of the second value.
    view: Mutex<(ClusterView, Millis)>,
    /// Entries that are committed as far as this member knows, and that it has applied.
    committed: AtomicU64,
    applied: AtomicU64,
    peers: Peers,
}

/// What has happened since the last round.
#[derive(Default)]
struct Inbox {
    inputs: Vec<Input>,
    /// There is something to look at, perhaps elsewhere.
    has_news: bool,
}

impl Cluster {
    pub fn new(peers: Peers, driver: Driver, applier: Applier) -> Self {
        Cluster {
            inbox: Mutex::default(),
            messages: AtomicU64::new(0),
            helm: Mutex::new(Helm::new(driver)),
            next_round_ms: AtomicU64::new(0),
            watch: OnceLock::new(),
            journal: Queue::default(),
            due: Queue::default(),
            applying: Mutex::new(Applying::new(applier)),
            slow_until_ms: AtomicU64::new(0),
            role: Mutex::new(Role::default()),
            view: Mutex::default(),
            committed: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            peers,
        }
    }

    /// There is something to look at, by [`helm::steer`].
    pub(super) fn note(&self) {
        super::threads::lock(&self.inbox).has_news = true;
    }

    /// The same, with what it is.
    fn put(&self, input: Input) {
        let mut inbox = super::threads::lock(&self.inbox);
        inbox.inputs.push(input);
        inbox.has_news = true;
    }

    /// A message of another member; dropped, as on the way, when too much is waiting already.
    fn put_message(&self, message: Message) {
        if self.messages.load(Ordering::Relaxed) < MESSAGES_MAX {
            self.messages.fetch_add(1, Ordering::Relaxed);
            self.put(Input::Message(message));
        }
    }

    /// The same as [`Cluster::put`] for a thread that does not go on with it.
    pub(super) fn tell(&self, input: Input) {
        self.put(input);
        self.call();
    }

    fn call(&self) {
        if let Some(watch) = self.watch.get() {
            watch.unpark();
        }
    }

    fn has_news(&self) -> bool {
        super::threads::lock(&self.inbox).has_news
    }

    fn take_news(&self) -> Option<Vec<Input>> {
        let mut inbox = super::threads::lock(&self.inbox);
        let has_news = std::mem::take(&mut inbox.has_news);
        has_news.then(|| std::mem::take(&mut inbox.inputs))
    }

    /// Remembers when the disk took long.
    fn note_disk(&self, took: Duration, now: Millis) {
        if took > SLOW {
            self.slow_until_ms.store(now.0 + SLOW_MS, Ordering::Relaxed);
        }
    }

    fn is_disk_slow(&self, now: Millis) -> bool {
        now.0 < self.slow_until_ms.load(Ordering::Relaxed)
    }

    /// Lets others see where this member stands.
    fn show(&self, driver: &Driver, now: Millis) {
        *super::threads::lock(&self.role) = driver.role();
        let log = &driver.node().raw().raft.raft_log;
        self.committed.store(log.committed, Ordering::Relaxed);
        self.applied.store(log.applied, Ordering::Relaxed);
        let mut view = super::threads::lock(&self.view);
        let is_same = (view.0.term, view.0.leader) == (driver.role().term, driver.role().leader);
        if !is_same || now.0 >= view.1.0 + VIEW_MS {
            *view = (self.survey(driver.node(), now), now);
        }
    }

    fn survey(&self, node: &Node, now: Millis) -> ClusterView {
        let (role, log) = (node.role(), &node.raw().raft.raft_log);
        let mut members = node.survey(now);
        for member in &mut members {
            member.clients = self.peers.client_addr(member.server);
        }
        ClusterView {
            cluster: self.peers.own().cluster,
            server: node.id(),
            term: role.term,
            leader: role.leader,
            committed: log.committed,
            applied: log.applied,
            newest: node.members().newest,
            waiting: node.waiting(now),
            members,
        }
    }

    /// The cluster as this member sees it.
    pub(super) fn view(&self, now: Millis) -> ClusterView {
        let (mut view, at) = super::threads::lock(&self.view).clone();
        for member in &mut view.members {
            let is_other = member.server != view.server;
            member.heard_ms_ago = member.heard_ms_ago.map(|ms| match is_other {
                true => ms + now.0.saturating_sub(at.0),
                false => ms,
            });
        }
        view
    }

    /// Has the state that is applied kept as the manifest of a backup.
    pub(super) fn back_up(&self, session: SessionId) {
        self.due.push(Due::Backup(session));
    }

    pub(super) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Where this member stood when the driver looked last.
    pub fn role(&self) -> Role {
        *super::threads::lock(&self.role)
    }

    /// The same for an operator, with the other members.
    pub(super) fn membership(&self) -> Membership {
        let mut ids = self.peers.ids();
        ids.push(self.peers.own().id);
        ids.sort_unstable();
        Membership {
            id: self.peers.own().id,
            role: self.role(),
            servers: ids.into_iter().map(|id| (id, self.peers.client_addr(id))).collect(),
            committed: self.committed.load(Ordering::Relaxed),
            applied: self.applied.load(Ordering::Relaxed),
            dropped: self.peers.dropped(),
        }
    }

    /// Ends the threads that wait for work.
    pub(super) fn close(&self) {
        self.journal.close();
        self.due.close();
        self.peers.close();
        self.call();
    }
}

/// None if somebody has it, this thread perhaps.
fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// A disk that took longer than this for one thing counts as slow for a while: who waits for it does
/// not hear the others.
const SLOW: Duration = Duration::from_millis(20);
const SLOW_MS: u64 = 1_000;
/// How old an operator's view may be, in milliseconds.
const VIEW_MS: u64 = 20;
/// What a server ends with that cannot take part without a change by the operator (sysexits'
/// EX_CONFIG): to start it again does not help.
const EXIT_CONFIG: i32 = 78;
/// How long a leader that stops waits until another one leads, in milliseconds.
pub(super) const RETIRE_MS: u64 = 1_000;
/// Messages of others that wait at most.
const MESSAGES_MAX: u64 = 8_192;
/// Commands are applied in bytes of this many before a checkpoint is made.
pub(super) const CHECKPOINT_BYTES: u64 = 16 << 20;
