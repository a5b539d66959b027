//! The thread that drives the node.

use super::keeper::until_done;
use super::{Due, Input};
use crate::engine::cluster::codec::encode_message;
use crate::engine::cluster::journal::Checkpoint;
use crate::engine::cluster::node::{Node, Output, Role, What};
use crate::engine::cluster::validate::Rejected;
use crate::engine::solo::Ending;
use crate::server::core::{Core, Now};
use crate::server::threads::{Scratch, Server, lock};
use raft::eraftpb::{Message, MessageType};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use tracing::{error, info, warn};

/// The driver and what it remembers from one round to the next.
pub(in crate::server) struct Driver {
    server: Arc<Server>,
    node: Node,
    role: Role,
    hint: Option<SocketAddrV4>,
    /// Commands of the term in which this member leads that a quorum has.
    committed: u64,
    scratch: Scratch,
}

impl Driver {
    pub(in crate::server) fn new(server: &Arc<Server>, node: Node) -> Self {
        Driver {
            server: Arc::clone(server),
            node,
            role: Role::default(),
            hint: None,
            committed: 0,
            scratch: Scratch::new(),
        }
    }

    /// The life of the thread.
    pub(in crate::server) fn run(mut self) {
        let server = Arc::clone(&self.server);
        // Set once: there is one driver.
        let _ = server.cluster().driver.set(thread::current());
        while !server.is_stopping() {
            self.round();
            let now = server.now().steady;
            let wait = self.node.next_deadline().0.saturating_sub(now.0);
            thread::park_timeout(Duration::from_millis(wait));
        }
    }

    fn round(&mut self) {
        let server = Arc::clone(&self.server);
        let cluster = server.cluster();
        let now = server.now();
        let mut out = Output::default();
        let inputs = std::mem::take(&mut *lock(&cluster.inbox));
        for input in inputs {
            self.take(input, now, &mut out);
        }
        if cluster.leading.load(Ordering::Acquire) != 0
            && let Some((term, commands)) = server.take_proposals()
        {
            self.node.propose(term, commands);
        }
        self.node.handle_time(now.steady);
        self.node.poll(&mut out);
        let log = &self.node.raw().raft.raft_log;
        cluster.committed.store(log.committed, Ordering::Relaxed);
        cluster.applied.store(log.applied, Ordering::Relaxed);
        self.note_role(now);
        self.pass_on(out);
        if let Some(batch) = self.node.poll_save() {
            cluster.journal.push(batch);
        }
    }

    fn take(&mut self, input: Input, now: Now, out: &mut Output) {
        let server = Arc::clone(&self.server);
        let cluster = server.cluster();
        match input {
            Input::Message(message) => {
                cluster.messages.fetch_sub(1, Ordering::Relaxed);
                let from = message.from;
                let Some(message) = self.divert(message) else { return };
                match self.node.handle_message(message, now.steady) {
                    Ok(()) => {}
                    Err(why @ Rejected::Library(_)) => {
                        error!(%why, from, "the consensus library gives up");
                        std::process::abort();
                    }
                    Err(why) => warn!(%why, from, "dropped a message of another server"),
                }
            }
            Input::Unreachable(id) => self.node.handle_unreachable(id),
            Input::Saved(batch) => self.node.handle_saved(batch, out),
            Input::Applied(index) => self.node.handle_applied(index),
            Input::Cut(checkpoint) => self.keep(checkpoint),
            Input::Kept(checkpoint) => {
                self.node.compact(&checkpoint);
                self.node.offer(&checkpoint);
            }
            Input::Fetched(message, checkpoint) => self.keep_taken(message, checkpoint),
            Input::TakenOver(message) => self.take_over(message, now, out),
            Input::Retire => self.retire(now),
        }
    }

    /// Another member is to lead.
    fn retire(&mut self, now: Now) {
        if let Some(to) = self.node.heir() {
            info!(to, "handing the lead over");
            self.stop_leading(now);
            self.node.transfer(to);
        }
    }

    /// Notes who leads now.
    fn note_role(&mut self, now: Now) {
        let role = self.node.role();
        if role != self.role {
            let old = std::mem::replace(&mut self.role, role);
            *lock(&self.server.cluster().role) = role;
            if old.is_leading && (!role.is_leading || role.term != old.term) {
                warn!(term = role.term, leader = role.leader, "leads no more");
                self.stop_leading(now);
            }
            if role.is_leading && (!old.is_leading || role.term != old.term) {
                info!(term = role.term, "leads");
                self.committed = 0;
                // The core follows when all that others have committed is applied.
                self.server.cluster().leading.store(role.term, Ordering::Release);
            } else if role.leader != old.leader {
                info!(term = role.term, leader = role.leader, "follows");
            }
        }
        let hint = self.server.cluster().peers.client_addr(role.leader);
        if hint != self.hint {
            self.hint = hint;
            self.server.with_core_quietly(|core| core.set_hint(hint));
        }
    }

    /// What was not committed yet is never answered here; clients ask the next leader for it.
    fn stop_leading(&mut self, now: Now) {
        self.server.cluster().leading.store(0, Ordering::Release);
        let hint = self.hint;
        let old = self.server.with_core_quietly(|core| {
            let mut following = Core::following(*core.settings(), now);
            following.set_hint(hint);
            core.replace(following)
        });
        drop(old);
    }

    fn pass_on(&mut self, out: Output) {
        let server = Arc::clone(&self.server);
        let cluster = server.cluster();
        for message in out.messages {
            let mut frame = Vec::new();
            encode_message(&message, &mut frame);
            cluster.peers.send(message.to, frame);
        }
        let term = cluster.leading.load(Ordering::Acquire);
        if let Some(until) = out.trusted_until
            && term != 0
        {
            server.change_core(&mut self.scratch, |core, now, actions| {
                core.handle_trusted(term, until, now, actions);
            });
        }
        if out.committed.is_empty() {
            return;
        }
        let is_own = |what: &What| matches!(what, What::Command(_));
        let own = out.committed.iter().filter(|one| one.term == term && is_own(&one.what)).count();
        if own > 0 {
            self.committed += own as u64;
            let committed = self.committed;
            server.change_core(&mut self.scratch, |core, now, actions| {
                core.handle_committed(term, committed, now, actions);
            });
        }
        if out.committed.iter().any(|one| one.term == term && one.what == What::Start) {
            // From now on it can be confirmed that this member is the only leader.
            self.node.ask_for_trust(server.now().steady);
            cluster.call();
        }
        cluster.due.push(Due::Entries(out.committed, term));
    }

    /// A message that brings a state which this member needs goes to who takes it over.
    fn divert(&mut self, message: Message) -> Option<Message> {
        if message.get_msg_type() != MessageType::MsgSnapshot {
            return Some(message);
        }
        let cluster = self.server.cluster();
        let Some(checkpoint) = self.node.needed_snapshot(&message) else { return Some(message) };
        if !cluster.is_taking_over.swap(true, Ordering::AcqRel) {
            info!(from = message.from, index = checkpoint.index, "taking over a state");
            cluster.due.push(Due::State(message, Box::new(checkpoint)));
        }
        None
    }

    /// Has the state that was taken over kept, by a thread of its own.
    fn keep_taken(&mut self, message: Message, mut checkpoint: Box<Checkpoint>) {
        let place = self.node.place_snapshot(&mut checkpoint);
        let kept = self.server.spawn("checkpoint", move |server| {
            until_done(server, || match server.store().keep_checkpoint(place, &checkpoint) {
                Ok(()) => Ending::Done,
                Err(error) if error.is_full() => Ending::Full,
                Err(error) => {
                    error!(%error, "cannot keep the state of another server");
                    Ending::Failed
                }
            });
            server.cluster().is_cutting.store(false, Ordering::Release);
            server.cluster().tell(Input::TakenOver(message));
        });
        if let Err(error) = kept {
            error!(%error, "cannot start a thread to keep the state of another server");
            std::process::exit(1);
        }
    }

    /// The state is kept: the library goes on from it.
    fn take_over(&mut self, message: Message, now: Now, out: &mut Output) {
        let index = message.get_snapshot().get_metadata().index;
        if let Err(why) = self.node.handle_message(message, now.steady) {
            warn!(%why, "the state that was taken over came too late");
        }
        self.node.poll(out);
        self.node.handle_applied(index);
        self.server.cluster().is_taking_over.store(false, Ordering::Release);
        info!(index, "took over a state");
    }

    /// Has a checkpoint kept by a thread of its own.
    fn keep(&mut self, mut checkpoint: Box<Checkpoint>) {
        let place = self.node.place_checkpoint(&mut checkpoint);
        let kept = self.server.spawn("checkpoint", move |server| {
            match server.store().keep_checkpoint(place, &checkpoint) {
                Ok(()) => server.cluster().tell(Input::Kept(checkpoint)),
                Err(error) if error.is_full() => warn!(%error, "no room for a checkpoint"),
                Err(error) => {
                    error!(%error, "cannot make a checkpoint: this server stops, the others go \
                        on; check the disk, then restart");
                    std::process::exit(1);
                }
            }
            server.cluster().is_cutting.store(false, Ordering::Release);
        });
        if let Err(error) = kept {
            warn!(%error, "cannot start a thread for a checkpoint: the log grows");
            self.server.cluster().is_cutting.store(false, Ordering::Release);
        }
    }
}
