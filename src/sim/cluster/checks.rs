//! What must hold in a cluster, at every step and in the end.

use super::operator::Wish;
use super::server::{DIR, Server, life_of};
use super::{Stage, Verdict, World};
use crate::engine::cluster::members::Server as Member;
use crate::engine::cluster::node::Committed;
use crate::engine::cluster::recover::recover;
use crate::sim::history;
use crate::sim::ledger::{Fate, Sight, View};
use crate::sim::observe::{Cause, Handover};
use crate::sim::program::Ask;
use crate::sim::server::Crash;
use crate::sim::story::What;
use crate::types::FileId;
use crate::wal;
use std::path::Path;

impl World {
    /// A server takes this for committed: so does everybody, a quorum has it on disk, and what
    /// follows from it is right.
    pub(super) fn see_commit(&mut self, committed: &Committed) -> Verdict {
        let is_new = committed.index > self.truth.index();
        let bounds = &self.context.bounds;
        let handover = self.truth.see(committed, bounds, &mut self.ledger)?;
        if is_new {
            self.committed_at = self.context.now;
            let machine = &self.truth.machine;
            self.ledger.note(View::All, Sight::of(machine), self.context.now)?;
            self.ledger.note_history(machine.history());
        }
        if is_new && self.judge.chance(0.02) {
            self.check_quorum(committed.index, committed.term)?;
        }
        match handover {
            Some(handover) => self.check_handover(&handover),
            None => Ok(()),
        }
    }

    /// If the power failed everywhere now, a quorum would still have this entry.
    fn check_quorum(&mut self, index: u64, term: u64) -> Verdict {
        // Of what a lost disk had acknowledged the others need not know yet.
        if matches!(self.wish, Wish::Replace(_)) {
            return Ok(());
        }
        let segment_max = self.context.plan.segment_max;
        let options = wal::Options { segment_max, salt: 1, ..wal::Options::default() };
        let founders = super::server::founders(self.context.servers);
        let dir = Path::new(DIR).join(crate::server::PRIVATE_DIR);
        let mut having = Vec::new();
        for (at, server) in self.servers.iter().enumerate() {
            let disk = server.disk.after_power_loss(self.judge.next());
            let found = match recover(&disk, &dir, &options, &founders) {
                Ok(found) => found,
                Err(error)
                    if server.process.is_some() && !self.context.plan.faults.spoils_disk() =>
                {
                    return Err(format!("server {at} could not start again: {error}"));
                }
                Err(_) => continue,
            };
            let is_covered = found.log.before().0 >= index;
            if is_covered || found.log.term_of(index) == Some(term) {
                having.push(at as u64 + 1);
            }
        }
        if self.truth.is_quorum(&having) {
            return Ok(());
        }
        Err(format!("entry {index} is committed, but only servers {having:?} have it on disk"))
    }

    /// Only one server at a time answers clients, and its files have all that is acknowledged.
    pub(super) fn check_serving(&self) -> Verdict {
        let now = self.context.now;
        let mut serving = (0..self.servers.len()).filter(|at| self.servers[*at].is_serving(now));
        match (serving.next(), serving.next()) {
            (Some(one), Some(other)) => Err(format!("servers {one} and {other} serve at once")),
            (Some(one), None) => {
                self.check_lease(one)?;
                self.check_readable(one)
            }
            (None, _) => Ok(()),
        }
    }

    fn check_readable(&self, at: usize) -> Verdict {
        let Some(process) = &self.servers[at].process else { return Ok(()) };
        for (id, least) in self.ledger.acknowledged().enumerate() {
            let size = process.store.read(FileId(id as u32), 0, &mut []);
            let size = size.map_or(0, |(_, size)| size);
            if size < least {
                return Err(format!(
                    "server {at} serves, and has {size} bytes in file_{id} of the {least} acknowledged"
                ));
            }
        }
        Ok(())
    }

    /// Notes who leads: one server a term.
    pub(super) fn note_role(&mut self, at: usize) -> Verdict {
        let Some(process) = &self.servers[at].process else { return Ok(()) };
        let role = process.driver.role();
        if !role.is_leading {
            return Ok(());
        }
        match self.leaders.insert(role.term, at) {
            None => {
                self.context.started_at = self.context.now;
                let what = format!("leads in term {}", role.term);
                self.context.story.tell(self.context.now, || What::Member { server: at, what });
            }
            Some(other) if other != at => {
                return Err(format!("servers {other} and {at} lead in term {}", role.term));
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn check_handover(&mut self, handover: &Handover) -> Verdict {
        self.tell_holder();
        self.check_wanted(handover)?;
        let Some((session, token)) = handover.from else { return Ok(()) };
        if handover.is_revoked {
            // Its client learns it with the next answer; until then the token is its only fence.
            self.excused.insert(token);
            return Ok(());
        }
        let client = self.ledger.client_of(token);
        if !handover.was_wanted && client.is_some() {
            return Err(format!("session {session} lost the lock, but nobody waited"));
        }
        let Some(client) = client else { return Ok(()) };
        if handover.cause == Cause::Time {
            self.context.story.tell(self.context.now, || What::LeaseOver { client, token });
        }
        let is_its_own = handover.cause == Cause::Request(session);
        if is_its_own && self.clients[client].may_contradict(&self.context) {
            self.excused.insert(token);
            return Ok(());
        }
        self.check_belief(token, "it was taken away")
    }

    /// Nobody is given the lock who does not want it.
    fn check_wanted(&self, handover: &Handover) -> Verdict {
        let session = handover.to.and_then(|(id, _)| self.truth.machine.session(id));
        let Some(session) = session else { return Ok(()) };
        let client = &self.clients[session.client.pid as usize];
        let is_other = !client.is_up() || !client.program.is_connected();
        let is_excused = client.may_contradict(&self.context) || client.nonce != session.nonce;
        if is_other || is_excused || client.program.may_wait() {
            return Ok(());
        }
        Err(format!("client {} is given the lock without asking for it", client.id))
    }

    /// A client was told something. If that it has the lock, it does; and between two calls one that
    /// does not believe to have the lock does not have it.
    pub(super) fn check_told(&mut self, at: usize) -> Verdict {
        let (told, newest) = (self.ledger.newest_record(), self.truth.machine.history().newest());
        if told > newest {
            return Err(format!(
                "an operator was told of record {told}, and {newest} is committed"
            ));
        }
        let (client, holder) = (&self.clients[at], self.truth.observer.holder());
        if let Some((id, token)) = holder
            && let Some(session) = self.truth.machine.session(id)
            && session.nonce == client.nonce
            && client.is_idle()
            && client.program.is_connected()
            && client.token().is_none()
            && !client.may_contradict(&self.context)
            && self.ledger.fate(token) != Fate::Releasing
        {
            return Err(format!("client {at} does not know that it holds the lock under {token}"));
        }
        let Some((_, token)) = self.context.told_grant.take() else { return Ok(()) };
        match holder {
            Some((_, held)) if held == token => Ok(()),
            _ => self.check_belief(token, "it is told so only now, and it is not so any more"),
        }
    }

    /// The lock is not held under this token any more: its client must not believe that it is.
    fn check_belief(&self, token: u64, why: &str) -> Verdict {
        let Some(client) = self.ledger.client_of(token) else { return Ok(()) };
        let client = &self.clients[client];
        let is_giving_back = matches!(client.program.asked(), Some(Ask::Abort | Ask::Close))
            || self.ledger.fate(token) != Fate::Open
            || self.excused.contains(&token);
        // By so much the servers' clocks may be fast.
        let slack = self.context.bounds.lease_ms * self.limits.drift_ppm / 1_000 + 1_000;
        let until = client.believes_until(token);
        if is_giving_back || until <= self.context.now + slack {
            return Ok(());
        }
        let (id, left) = (client.id, until - self.context.now);
        Err(format!("client {id} believes to hold the lock for {left} us under {token}, but {why}"))
    }

    fn tell_holder(&mut self) {
        let machine = &self.truth.machine;
        let holder = machine.lock().holder.as_ref();
        let client = holder.and_then(|holder| machine.session(holder.session));
        let what = What::Holder {
            client: client.map(|session| session.client.pid as usize),
            token: holder.map_or(0, |holder| holder.token.0),
            waiters: machine.lock().waiters().count(),
        };
        self.context.story.tell(self.context.now, || what);
    }

    /// A member counts with the members that are committed, and ends when it is none any more.
    pub(super) fn check_members(&self, at: usize) -> Verdict {
        let Some(process) = &self.servers[at].process else { return Ok(()) };
        let members = process.driver.node().members();
        if !self.truth.has_had(members) {
            return Err(format!("server {at} counts with {members:?}, which are not committed"));
        }
        let is_member = members.servers.contains_key(&(at as u64 + 1));
        if !is_member && process.orders.is_empty() {
            return Err(format!("server {at} was removed, and goes on"));
        }
        Ok(())
    }

    /// The data files of a server hold what is committed, as far as they go.
    pub(super) fn check_files(&self, at: usize) -> Verdict {
        let Some(process) = &self.servers[at].process else { return Ok(()) };
        for (id, truth) in self.truth.files().iter().enumerate() {
            let file = FileId(id as u32);
            let size = process.store.read(file, 0, &mut []).map_or(0, |(_, size)| size);
            let mut bytes = vec![0; size as usize];
            process.store.read(file, 0, &mut bytes).map_err(|error| error.to_string())?;
            if !truth.starts_with(&bytes) {
                let at_most = truth.len();
                return Err(format!(
                    "server {at} has {size} bytes in file_{id} that are not the {at_most} committed"
                ));
            }
        }
        Ok(())
    }

    /// Everybody has gone, or nothing is under way: all servers are the same, and nothing is lost
    /// even if the power fails everywhere.
    pub(super) fn finish(&mut self) -> Verdict {
        self.stage = Stage::Over;
        self.pass_until(0)?;
        self.check_same()?;
        let founded = |(id, server): (&u64, &Member)| server.life == life_of(*id as usize - 1);
        let members = self.truth.members();
        if !members.servers.iter().all(founded) {
            return Err(format!("whose data directories they are is not known: {members:?}"));
        }
        let machine = &self.truth.machine;
        if self.expects_nothing {
            let (sessions, lock) = (machine.sessions().count(), machine.lock());
            if sessions > 0 || lock.holder.is_some() || lock.is_waited_for() {
                return Err(format!("in the end there are {sessions} sessions, and {lock:?}"));
            }
            for server in &self.servers {
                let remembered = server.process.as_ref().map_or(0, |one| one.core.remembered());
                if remembered > 0 {
                    return Err(format!("in the end {remembered} things are remembered of nobody"));
                }
            }
        }
        history::check(machine.history(), &self.ledger.published())?;
        self.ledger.check_history(machine.history())?;
        self.ledger.close()?;
        for at in 0..self.servers.len() {
            self.crash(at, Crash::Power)?;
        }
        self.pass_until(self.context.now + RESTART_US)?;
        self.check_same()
    }

    /// Goes on until then, and until all know what was committed: of the last entry, say a session's
    /// end, followers learn with the next beat.
    fn pass_until(&mut self, until: u64) -> Verdict {
        let due = |world: &World| (world.committed_at + BEAT_US).max(world.failed_at + RESTART_US);
        while self.context.now < until.max(due(self)) {
            self.advance()?;
        }
        Ok(())
    }

    pub(super) fn check_same(&mut self) -> Verdict {
        for (at, server) in self.servers.iter().enumerate() {
            if !self.truth.members().servers.contains_key(&(at as u64 + 1)) {
                continue;
            }
            let process = server.process.as_ref().ok_or(format!("server {at} is not there"))?;
            let replica = process.applier.replica();
            if replica.index != self.truth.index() || replica.state.machine != self.truth.machine {
                let (index, truth) = (replica.index, self.truth.index());
                return Err(format!(
                    "server {at} is at entry {index} of {truth}, or in another state: {}",
                    server.describe()
                ));
            }
            for (id, truth) in self.truth.files().iter().enumerate() {
                let file = FileId(id as u32);
                let size = process.store.read(file, 0, &mut []).map_or(0, |(_, size)| size);
                if size != truth.len() as u64 {
                    return Err(format!("server {at} has {size} bytes in file_{id}, not all"));
                }
            }
            self.check_files(at)?;
        }
        Ok(())
    }
}

impl Server {
    pub fn describe(&self) -> String {
        let Some(process) = &self.process else { return "down".into() };
        let log = &process.driver.node().raw().raft.raft_log;
        format!(
            "{:?} committed {} applied {} of {}",
            process.driver.role(),
            log.committed,
            process.applier.replica().index,
            process.driver.node().log().last()
        )
    }
}

/// By then the next beat of a leader has come to everybody.
const BEAT_US: u64 = 100_000;
/// By then all servers run again and know all.
const RESTART_US: u64 = 8_000_000;
