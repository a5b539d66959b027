//! The threads that serve clients.

use super::super::{MemberStep, Verdict, World};
use crate::protocol::{Outcome, Reply};
use crate::server::core::{Action, Core, Now};
use crate::sim::network::Direction;
use crate::sim::observe::Cause;
use crate::sim::server::{client_at, document};
use crate::sim::story::What;
use crate::wire;
use std::net::{SocketAddr, SocketAddrV4};

impl World {
    /// A datagram of a client arrives at the socket.
    pub(in super::super) fn receive(
        &mut self,
        at: usize,
        from: SocketAddrV4,
        bytes: Vec<u8>,
    ) -> Verdict {
        if self.servers[at].process.is_none() {
            let (client, direction) = (client_at(from), Direction::ToServer);
            let now = self.context.now;
            self.context.story.tell(now, || What::Unheard { client, server: at, direction });
            return Ok(());
        }
        if self.is_preempting(0.05) {
            let wait = self.context.random.between(0, 5_000);
            self.later(at, wait, MemberStep::Serve { from, bytes });
            return Ok(());
        }
        self.serve(at, from, &bytes)
    }

    pub(super) fn serve(&mut self, at: usize, from: SocketAddrV4, bytes: &[u8]) -> Verdict {
        let Ok(request) = wire::decode_request(bytes) else { return Ok(()) };
        let client = &mut self.clients[client_at(from)];
        if self.servers[at].is_serving(self.context.now) && from == client.addr() {
            let ttl = self.context.plan.session_ttl_ms;
            client.was_heard(request.stamp.0, self.context.now, ttl);
        }
        // As a thread of a server does when there was little room the last time.
        if !self.context.full.is_empty() {
            self.look_at_room(at);
        }
        let is_serving = self.servers[at].is_serving(self.context.now);
        self.work(at, Cause::Request(request.session), |core, now, actions| {
            core.handle_request(SocketAddr::V4(from), &request, now, actions);
        })?;
        if is_serving {
            self.note_request(at, &request);
        }
        Ok(())
    }

    /// Changes the core as a thread does under the lock, then does what that leads to.
    pub(in super::super) fn work(
        &mut self,
        at: usize,
        cause: Cause,
        change: impl FnOnce(&mut Core, Now, &mut Vec<Action>),
    ) -> Verdict {
        let now = self.servers[at].clock(self.context.now);
        let Some(process) = self.process(at) else { return Ok(()) };
        let mut actions = Vec::new();
        change(&mut process.core, now, &mut actions);
        if process.core.poll_job().is_some() {
            return Err("the core of a member has work for a disk".into());
        }
        self.check_leading(at, cause)?;
        let Some(process) = self.process(at) else { return Ok(()) };
        let (deadline, calls) = (process.core.next_deadline(), process.core.poll_call());
        if calls {
            self.wake(at);
        }
        if let Some(deadline) = deadline {
            let due = self.servers[at].when(deadline).max(self.context.now);
            let late = if self.context.random.chance(0.1) { 3_000 } else { 100 };
            let Some(process) = self.process(at) else { return Ok(()) };
            if due < process.tick_at {
                let due = due + self.context.random.between(0, late);
                if let Some(process) = self.process(at) {
                    process.tick_at = due;
                }
                self.later(at, due - self.context.now, MemberStep::Tick { due });
            }
        }
        for action in actions {
            match action {
                Action::Send { to: SocketAddr::V4(to), reply } => self.answer(at, to, &reply),
                Action::Read { to: SocketAddr::V4(to), reply, file, offset, max } => {
                    let wait = self.context.random.between(0, 300);
                    self.later(at, wait, MemberStep::Read { to, reply, file, offset, max });
                }
                Action::Inspect { to: SocketAddr::V4(to), reply, page } => {
                    let Some((length, data)) = document(page) else { continue };
                    let outcome = Outcome::Data { length, data: &data };
                    self.answer(at, to, &Reply { outcome, ..reply });
                }
                // Nobody asks from elsewhere, and for changes operators of the cluster do.
                Action::Send { .. }
                | Action::Read { .. }
                | Action::Inspect { .. }
                | Action::Reform { .. } => {}
            }
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, at: usize, to: SocketAddrV4, reply: &Reply<'_>) {
        let mut bytes = Vec::new();
        wire::encode_reply(reply, &mut bytes);
        self.context.send((client_at(to), at), Direction::ToClient, to, bytes);
    }
}
