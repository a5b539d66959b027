//! A server that is a member of a cluster: its start, its end, and what its threads need of it.

use super::{Scratch, Server};
use crate::engine::cluster::node::{Node, Tuning};
use crate::protocol::{Outcome, Reason, Reply, Request, Status};
use crate::server::backup::Backups;
use crate::server::cluster::applier::Applier;
use crate::server::cluster::driver::{Driver, Input};
use crate::server::cluster::hear::listen;
use crate::server::cluster::keeper::{apply, keep_journal, watch};
use crate::server::cluster::peers::{Own, speak_to};
use crate::server::cluster::{CHECKPOINT_BYTES, Cluster, Peers, RETIRE_MS};
use crate::server::config::ServerConfig;
use crate::server::core::{Action, Core, Now, direct, encode_page};
use crate::server::store::member::Member;
use crate::server::{Clock, Store};
use crate::types::{LogIndex, Millis};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// What a member begins with, beside what every server does.
pub struct Start {
    pub member: Member,
    pub peers: Peers,
    pub listener: TcpListener,
    pub seed: u64,
}

/// How long a server that has handed the lead over still tells clients who leads.
const LINGER: Duration = Duration::from_millis(200);

impl Server {
    /// Begins to take part; clients are served when this member leads.
    pub fn start_member(
        socket: UdpSocket,
        store: Store,
        clock: Clock,
        config: &ServerConfig,
        start: Start,
    ) -> io::Result<Arc<Self>> {
        let Start { member, peers, listener, seed } = start;
        let Member { log, replica, journal, checkpoint } = member;
        let Own { id, life, .. } = *peers.own();
        let now = clock.now();
        let tuning = Tuning::default();
        let mut node = Node::new(id, log, replica.index, journal, tuning, seed, now.steady)
            .map_err(|error| io::Error::other(error.to_string()))?;
        // What is replayed from the log stands behind it.
        node.offer(&checkpoint.head);
        peers.offer(checkpoint);
        node.handle_introduction(id, life, now.steady);
        let core = Core::following(config.settings(), now);
        let links = peers.follow(&replica.members);
        let applier = Applier::new(replica, config.files, CHECKPOINT_BYTES);
        let cluster = Cluster::new(peers, Driver::new(node), applier);
        let server = Server::around(socket, store, core, clock, config, Some(cluster));
        server.look_at_room();
        server.spawn("journal", keep_journal)?;
        server.spawn("apply", apply)?;
        server.spawn("member", watch)?;
        listener.set_nonblocking(true)?;
        server.spawn("peers", move |server| listen(server, &listener))?;
        speak_to(&server, links)?;
        server.serve_clients()?;
        Ok(server)
    }

    /// Hands the lead over, if this server has it, and waits a moment for that.
    pub(super) fn retire(&self) {
        let Some(cluster) = self.cluster.as_ref().filter(|one| one.role().is_leading) else {
            return;
        };
        cluster.tell(Input::Retire);
        for _ in 0..RETIRE_MS {
            let role = cluster.role();
            if !role.is_leading && role.leader != 0 {
                // Clients that wait for answers ask again meanwhile, and are sent there.
                thread::sleep(LINGER);
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Only for threads that a server of its own does not have.
    pub(in crate::server) fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("only members have the threads that call this")
    }

    pub(in crate::server) fn is_member(&self) -> bool {
        self.cluster.is_some()
    }

    pub(in crate::server) fn backups(&self) -> &Backups {
        &self.backups
    }

    /// The entry up to which everything is stable and published, and whether that cannot go on now.
    pub(in crate::server) fn published(&self) -> (LogIndex, bool) {
        let core = self.core.lock();
        let engine = core.engine();
        (engine.marks().published, engine.is_full() || engine.has_failed())
    }

    pub(in crate::server) fn store(&self) -> &Store {
        &self.store
    }

    pub(in crate::server) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    pub(in crate::server) fn spin(&self) -> Duration {
        self.spin
    }

    pub(in crate::server) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(in crate::server) fn take_proposals(&self, now: Millis) -> Option<(u64, Vec<Vec<u8>>)> {
        self.core.lock().take_proposals(now)
    }

    pub(in crate::server) fn answer(
        &self,
        to: SocketAddr,
        reply: &Reply<'_>,
        scratch: &mut Scratch,
    ) {
        self.send(to, reply, &mut scratch.bytes);
    }

    /// Tells a client how this server sees the cluster, whatever state that is in.
    pub(super) fn show_cluster(
        &self,
        to: SocketAddr,
        request: &Request<'_>,
        scratch: &mut Scratch,
    ) {
        let page =
            self.cluster.as_ref().map(|cluster| encode_page(&cluster.view(self.now().steady)));
        let outcome = match &page {
            Some(page) => Outcome::Data { length: 0, data: page },
            None => Outcome::Refused { status: Status::Refused, reason: Reason::NotCluster },
        };
        let empty = direct(request, Outcome::NotLeader { leader: None });
        self.answer(to, &Reply { outcome, ..empty }, scratch);
    }

    /// Changes the core, then does what that leads to.
    pub(in crate::server) fn change_core(
        self: &Arc<Self>,
        scratch: &mut Scratch,
        change: impl FnOnce(&mut Core, Now, &mut Vec<Action>),
    ) {
        self.work(scratch, change);
    }
}
