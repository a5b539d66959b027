//! A member of a cluster: threads and sockets around [`crate::engine::cluster`].
//!
//! | thread | does |
//! |---|---|
//! | `member` | drives the node: takes in what the others say, what was proposed here, what was kept and applied, and passes on what follows ([`driver`]) |
//! | `journal` | writes and syncs the journal; what comes meanwhile goes together |
//! | `apply` | applies what is committed, publishes, begins to lead ([`applier`]) |
//! | `peer` | two for each other member: one sends ([`peers`]), one receives ([`hear`]); one more where a member fetches what it lacks of the data files ([`fetch`]) or a server is let in ([`join`]) |
//!
//! What there is to decide is decided by [`driver`] and [`applier`], which the simulator runs too;
//! the first three threads ([`keeper`]) do what these say.
//!
//! Requests are served as by a server of its own, by the same threads and the same core. Where this
//! member does not lead the core only tells clients where to go.

pub mod applier;
pub mod driver;
pub mod fetch;
pub(in crate::server) mod hear;
pub mod hello;
pub(in crate::server) mod join;
pub(in crate::server) mod keeper;
pub(in crate::server) mod peers;
mod queue;
pub mod settings;

pub use peers::Peers;

use crate::engine::cluster::node::{Node, Role};
use crate::protocol::inspect::ClusterView;
use crate::types::Millis;
use crate::wal::Batch;
use applier::Due;
use driver::{Driver, Input};
use queue::Queue;
use raft::eraftpb::Message;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::Thread;

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
    inbox: Mutex<Vec<Input>>,
    /// Messages of others in the inbox.
    messages: AtomicU64,
    driver: OnceLock<Thread>,
    journal: Queue<Batch>,
    due: Queue<Due>,
    role: Mutex<Role>,
    /// For operators, as of the second value.
    view: Mutex<(ClusterView, Millis)>,
    /// Entries that are committed as far as this member knows, and that it has applied.
    committed: AtomicU64,
    applied: AtomicU64,
    peers: Peers,
}

impl Cluster {
    pub fn new(peers: Peers) -> Self {
        Cluster {
            inbox: Mutex::new(Vec::new()),
            messages: AtomicU64::new(0),
            driver: OnceLock::new(),
            journal: Queue::default(),
            due: Queue::default(),
            role: Mutex::new(Role::default()),
            view: Mutex::default(),
            committed: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            peers,
        }
    }

    /// Has the driver look at what there is.
    pub(super) fn call(&self) {
        if let Some(driver) = self.driver.get() {
            driver.unpark();
        }
    }

    pub(super) fn tell(&self, input: Input) {
        super::threads::lock(&self.inbox).push(input);
        self.call();
    }

    /// A message of another member; dropped, as on the way, when too much is waiting already.
    pub(super) fn tell_message(&self, message: Message) {
        if self.messages.load(Ordering::Relaxed) < MESSAGES_MAX {
            self.messages.fetch_add(1, Ordering::Relaxed);
            self.tell(Input::Message(message));
        }
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
