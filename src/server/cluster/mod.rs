//! A member of a cluster: threads and sockets around [`crate::engine::cluster`].
//!
//! | thread | does |
//! |---|---|
//! | `member` ([`driver`]) | drives the node: takes in what the others say, what was proposed here, what was kept and applied, and passes on what follows |
//! | `journal` ([`keeper`]) | writes and syncs the journal; what comes meanwhile goes together |
//! | `apply` ([`keeper`]) | applies what is committed, publishes, begins to lead |
//! | `peer` ([`peers`]) | two for each other member: one sends, one receives; one more where a member fetches what it lacks of the data files ([`fetch`]) |
//!
//! Requests are served as by a server of its own, by the same threads and the same core. Where this
//! member does not lead the core only tells clients where to go.

pub(in crate::server) mod driver;
mod fetch;
pub(in crate::server) mod keeper;
pub(in crate::server) mod peers;
mod queue;
pub mod settings;

pub use peers::Peers;

use crate::engine::cluster::journal::Checkpoint;
use crate::engine::cluster::node::{Committed, Role};
use crate::wal::Batch;
use queue::Queue;
use raft::eraftpb::Message;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::Thread;

/// What the driver is told.
pub(super) enum Input {
    /// Another member says this.
    Message(Message),
    /// Another member cannot be reached.
    Unreachable(u64),
    /// Of the journal, this is stable.
    Saved(Batch),
    /// Entries up to this one are applied.
    Applied(u64),
    /// The state to be kept, its place in the journal still missing.
    Cut(Box<Checkpoint>),
    /// It is kept.
    Kept(Box<Checkpoint>),
    /// The state that another member's message brought is in the data files and in force; not kept
    /// yet.
    Fetched(Message, Box<Checkpoint>),
    /// It is kept; now the library may learn of it.
    TakenOver(Message),
    /// Another member is to lead; this one stops.
    Retire,
}

/// Work for the thread that applies.
pub(super) enum Due {
    /// Entries, and the term in which this member leads, or 0.
    Entries(Vec<Committed>, u64),
    /// A state that another member's message brings: the entries are not to be had any more.
    State(Message, Box<Checkpoint>),
}

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
    /// The term in which this member leads; 0: it does not. Set before the core learns of it.
    leading: AtomicU64,
    inbox: Mutex<Vec<Input>>,
    /// Messages of others in the inbox.
    messages: AtomicU64,
    driver: OnceLock<Thread>,
    journal: Queue<Batch>,
    due: Queue<Due>,
    /// A checkpoint is on its way, or a state is being taken over.
    is_cutting: AtomicBool,
    /// A state of another member is being taken over.
    is_taking_over: AtomicBool,
    role: Mutex<Role>,
    /// Entries that are committed as far as this member knows, and that it has applied.
    committed: AtomicU64,
    applied: AtomicU64,
    peers: Peers,
}

impl Cluster {
    pub fn new(peers: Peers) -> Self {
        Cluster {
            leading: AtomicU64::new(0),
            inbox: Mutex::new(Vec::new()),
            messages: AtomicU64::new(0),
            driver: OnceLock::new(),
            journal: Queue::default(),
            due: Queue::default(),
            is_cutting: AtomicBool::new(false),
            is_taking_over: AtomicBool::new(false),
            role: Mutex::new(Role::default()),
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

    /// Where this member stood when the driver looked last.
    pub fn role(&self) -> Role {
        *super::threads::lock(&self.role)
    }

    /// The same for an operator, with the other members.
    pub(super) fn membership(&self) -> Membership {
        let mut ids = self.peers.ids();
        ids.push(self.peers.own_id());
        ids.sort_unstable();
        Membership {
            id: self.peers.own_id(),
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

/// How long a leader that stops waits until another one leads, in milliseconds.
pub(super) const RETIRE_MS: u64 = 1_000;
/// Messages of others that wait at most.
const MESSAGES_MAX: u64 = 8_192;
/// Commands are applied in bytes of this many before a checkpoint is made.
const CHECKPOINT_BYTES: u64 = 16 << 20;
