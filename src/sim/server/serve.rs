//! Datagrams and deadlines: what `server::threads` does with the core, one thread at a time.

use super::{Server, Step};
use crate::limits::{LINGER_MS, READ_MAX};
use crate::machine::Session;
use crate::protocol::{Op, Outcome, Reply};
use crate::server::core::{Action, Core, Now, Page, encode_page};
use crate::sim::context::{Context, Event};
use crate::sim::network::Direction;
use crate::sim::observe::{Cause, Most};
use crate::sim::story::What;
use crate::types::FileId;
use crate::wire;
use std::net::{SocketAddr, SocketAddrV4};

impl Server {
    /// A datagram arrives at the socket.
    pub fn receive(&mut self, from: SocketAddrV4, bytes: Vec<u8>, context: &mut Context) -> Step {
        let Some(process) = &mut self.process else {
            let (client, direction) = (client_at(from), Direction::ToServer);
            context.story.tell(context.now, || What::Unheard { client, server: 0, direction });
            return Ok(None);
        };
        if !process.is_up {
            if self.backlog.len() < BACKLOG_MAX {
                self.backlog.push((from, bytes));
            }
            return Ok(None);
        }
        if context.plan.faults.preemption && !context.is_ending && context.random.chance(0.05) {
            let at = context.now + context.random.between(0, 5_000);
            context.at(at, Event::Serve { life: self.life, from, bytes });
            return Ok(None);
        }
        self.serve(self.life, from, &bytes, context)
    }

    /// The datagram's thread has the lock.
    pub fn serve(
        &mut self,
        life: u64,
        from: SocketAddrV4,
        bytes: &[u8],
        context: &mut Context,
    ) -> Step {
        if life != self.life || !self.is_running() {
            return Ok(None);
        }
        let Ok(request) = wire::decode_request(bytes) else { return Ok(None) };
        let heard = self.heard.entry(request.session).or_insert((request.stamp, context.now));
        if request.stamp > heard.0 {
            *heard = (request.stamp, context.now);
        }
        if self.process.as_ref().is_some_and(|process| process.room_is_low) {
            self.look_at_room(context);
        }
        let mut step = self.work(context, Cause::Request(request.session), |core, now, actions| {
            core.handle_request(SocketAddr::V4(from), &request, now, actions);
        });
        if let (Ok(Some(handover)), Op::Revoke { token, .. }) = (&mut step, &request.op) {
            handover.is_revoked = handover.from.is_some_and(|(_, held)| held == token.0);
        }
        let session = self.machine().and_then(|machine| machine.session(request.session));
        let is_newest = |session: &Session| {
            session.last == request.number && session.attempt == request.attempt
        };
        if session.is_some_and(is_newest) {
            self.asked.insert(request.session, context.now);
        }
        step
    }

    /// A deadline has come.
    pub fn tick(&mut self, life: u64, at: u64, context: &mut Context) -> Step {
        match &mut self.process {
            Some(process) if life == self.life && process.tick_at == at && process.is_up => {
                process.tick_at = u64::MAX;
            }
            _ => return Ok(None),
        }
        self.work(context, Cause::Time, |core, now, actions| core.handle_timeout(now, actions))
    }

    /// Bytes of a file are read and sent.
    pub fn read(
        &mut self,
        life: u64,
        to: SocketAddrV4,
        reply: &Reply<'static>,
        (file, offset, max): (FileId, u64, u32),
        context: &mut Context,
    ) {
        let Some(process) = self.process.as_ref().filter(|_| life == self.life) else { return };
        let mut buffer = [0; READ_MAX];
        let wanted = &mut buffer[..READ_MAX.min(max as usize)];
        if let Ok((read, length)) = process.store.read(file, offset, wanted) {
            let outcome = Outcome::Data { length, data: &buffer[..read] };
            send(to, &Reply { outcome, ..reply.clone() }, context);
        }
    }

    /// Changes the core as a thread does under the lock, then does what that leads to.
    pub(super) fn work(
        &mut self,
        context: &mut Context,
        cause: Cause,
        change: impl FnOnce(&mut Core, Now, &mut Vec<Action>),
    ) -> Step {
        let now = self.now(context);
        let Some(process) = &mut self.process else { return Ok(None) };
        self.has_worked = true;
        let mut actions = Vec::new();
        change(&mut process.core, now, &mut actions);
        if let Some(job) = process.core.poll_job() {
            process.jobs += 1;
            let at = context.now + super::jobs::latency(&job, context);
            context.at(at, Event::Run { life: self.life, job });
        }
        if let Some(deadline) = process.core.next_deadline() {
            let due = process.born + deadline.0 * 1000;
            if due < process.tick_at {
                let late = if context.random.chance(0.1) { 3_000 } else { 100 };
                process.tick_at = due.max(context.now) + context.random.between(0, late);
                context.at(process.tick_at, Event::Tick { life: self.life, at: process.tick_at });
            }
        }
        let limits = context.plan.limits;
        let most = Most::of(&context.bounds, &limits);
        let handover = self.observer.look(process.core.machine(), &most, cause)?;
        context.note_crowd(self.observer.crowd(), &limits);
        if cause == Cause::Time {
            self.check_closed(context)?;
        }
        for action in actions {
            self.check_grant(&action)?;
            self.perform(action, context);
        }
        Ok(handover)
    }

    /// Nobody who has closed is remembered for longer than its last answer may be wanted.
    fn check_closed(&mut self, context: &Context) -> Result<(), String> {
        let Some(process) = &self.process else { return Ok(()) };
        let closed = process.core.machine().sessions().filter(|(_, one)| one.is_closed());
        for (id, _) in closed {
            let first = *self.closed.entry(id).or_insert(context.now);
            let heard = self.heard.get(&id).map_or(0, |(_, at)| *at);
            let since = first.max(heard).max(self.serves_since);
            if process.is_up && context.now > since + LINGER_MS * 1000 + LATE_US {
                return Err(format!("session {id} was closed at {first}, and is still there"));
            }
        }
        Ok(())
    }

    /// No grant leaves that is lost already.
    fn check_grant(&self, action: &Action) -> Result<(), String> {
        let Action::Send { reply, .. } = action else { return Ok(()) };
        match (&reply.outcome, self.observer.holder()) {
            (Outcome::Granted { token, .. }, holder)
                if holder.is_none_or(|(_, held)| held != token.0) =>
            {
                Err(format!("session {} is granted {token}, which is lost", reply.session))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn perform(&mut self, action: Action, context: &mut Context) {
        match action {
            Action::Send { to: SocketAddr::V4(to), reply } => send(to, &reply, context),
            Action::Read { to: SocketAddr::V4(to), reply, file, offset, max } => {
                let at = context.now + context.random.between(0, 300);
                context.at(at, Event::Read { life: self.life, to, reply, file, offset, max });
            }
            Action::Inspect { to: SocketAddr::V4(to), reply, page } => {
                let Some((length, data)) = document(page) else { return };
                let outcome = Outcome::Data { length, data: &data };
                send(to, &Reply { outcome, ..reply }, context);
            }
            // Nobody asks from elsewhere, or to change a cluster.
            Action::Send { .. }
            | Action::Read { .. }
            | Action::Inspect { .. }
            | Action::Reform { .. } => {}
        }
    }
}

/// What an operator is shown, and from where it goes on.
pub fn document(page: Page) -> Option<(u64, Vec<u8>)> {
    match page {
        Page::Whole { next, bytes } => Some((next, bytes)),
        Page::Status(status) => Some((0, encode_page(&status))),
        // Nobody makes one.
        Page::Backup { .. } => None,
    }
}

fn send(to: SocketAddrV4, reply: &Reply<'_>, context: &mut Context) {
    let mut bytes = Vec::new();
    wire::encode_reply(reply, &mut bytes);
    context.send((client_at(to), 0), Direction::ToClient, to, bytes);
}

/// The client that has this address.
pub fn client_at(addr: SocketAddrV4) -> usize {
    usize::from(addr.ip().octets()[3]).saturating_sub(1)
}

/// What deadlines and slow disks may be late.
const LATE_US: u64 = 10_000_000;
/// Datagrams that the kernel keeps for a server that starts.
const BACKLOG_MAX: usize = 50;
