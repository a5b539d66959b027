//! Operators of a cluster: they let servers in, remove some, replace those whose disk is lost under a
//! new number, and hand the lead over. What they want they ask for until it is so.

use super::server::{DIR, Server, life_of};
use super::{MemberStep, Verdict, World};
use crate::data::DataFiles;
use crate::disk::mem::MemDisk;
use crate::engine::cluster::checkpoint::Checkpoint;
use crate::engine::cluster::recover::write_checkpoint;
use crate::protocol::{Outcome, Reason, Reform, Reply};
use crate::server::PRIVATE_DIR;
use crate::server::cluster::driver::Input;
use crate::server::cluster::fetch::complete;
use crate::sim::client::server_addr;
use crate::sim::context::Event;
use crate::sim::story::What;
use crate::types::{Attempt, FileId, LogIndex, RequestNumber, SessionId, Stamp};
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// What the operators want. Numbers of servers are those that they have in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    /// This server is to vote.
    Add(u64),
    /// This one is to leave.
    Remove(u64),
    /// The same, and its disk is lost: another one comes in its place.
    Replace(u64),
}

impl World {
    /// An operator looks at the cluster.
    pub(super) fn operate(&mut self) -> Verdict {
        self.look_at_members();
        let members = self.truth.members();
        match self.wish {
            Wish::Add(id) if members.servers.get(&id).is_some_and(|server| server.votes) => {
                self.wish = Wish::Nothing;
            }
            Wish::Remove(id) if members.has_left(id) => self.wish = Wish::Nothing,
            Wish::Replace(id) if members.has_left(id) => self.bring_in(),
            _ => {}
        }
        if let Some(server) = self.truth.members().learner()
            && self.context.random.chance(0.05)
        {
            self.ask_leader(Reform::Transfer { server });
        }
        if self.wish == Wish::Nothing {
            if self.context.is_ending {
                return Ok(());
            }
            self.wish_for_something();
        }
        match self.wish {
            Wish::Nothing => {}
            Wish::Add(id) => self.ask_leader(Reform::Add { server: id, addr: format!("s{id}") }),
            Wish::Remove(id) | Wish::Replace(id) => self.ask_leader(Reform::Remove { server: id }),
        }
        let wait = self.context.random.between(50_000, 600_000);
        self.context.at(self.context.now + wait, Event::Operator);
        Ok(())
    }

    fn wish_for_something(&mut self) {
        let voters: Vec<u64> = self.truth.members().voters().collect();
        let random = &mut self.context.random;
        // Clients know the founders only, so the first of them stays.
        let any = voters[random.between(0, voters.len() as u64 - 1) as usize];
        let may_grow = self.servers.len() < self.context.servers + NEWCOMERS;
        let is_large = voters.len() > 2 && any != 1;
        match random.between(0, 5) {
            0 if may_grow => self.bring_in(),
            1 if is_large => self.wish = Wish::Remove(any),
            2 if is_large && may_grow && self.is_settled() => {
                self.leave(any as usize - 1, "loses its disk");
                self.wish = Wish::Replace(any);
            }
            3 => self.ask_leader(Reform::Transfer { server: any }),
            _ => {}
        }
    }

    /// Notes since when, by the entries that are committed, all members have known who they are.
    fn look_at_members(&mut self) {
        let members = self.truth.members();
        let knows = |id: &u64| {
            let process = self.servers[*id as usize - 1].process.as_ref();
            process.is_some_and(|process| process.driver.node().members() == members)
        };
        if !members.servers.keys().all(knows) {
            self.known = None;
        } else if self.known.as_ref().is_none_or(|(known, _)| known != members) {
            self.known = Some((members.clone(), self.truth.index()));
        }
    }

    /// All members have that on their disks too, with the entries that came after it. Before that a loss of
    /// power may set some of them back, so those count too who were members before the last change.
    fn is_settled(&self) -> bool {
        let Some((members, since)) = &self.known else { return false };
        members.servers.keys().all(|id| {
            let process = self.servers[*id as usize - 1].process.as_ref();
            process.is_some_and(|process| process.applier.replica().index > since + 1)
        })
    }

    /// A new server is there, and asks to be let in.
    fn bring_in(&mut self) {
        let drift = self.limits.drift_ppm;
        let drift = self.context.random.between(0, 2 * drift) as i64 - drift as i64;
        self.servers.push(Server { is_waiting: true, ..Server::new(drift) });
        self.network.grow();
        self.wish = Wish::Add(self.servers.len() as u64);
        self.later(self.servers.len() - 1, 1_000, MemberStep::Join);
    }

    fn ask_leader(&mut self, reform: Reform) {
        let leading = (0..self.servers.len()).filter_map(|at| {
            let role = self.servers[at].process.as_ref()?.driver.role();
            role.is_leading.then_some((role.term, at))
        });
        let Some((_, at)) = leading.max() else { return };
        let what = format!("is asked: {reform:?}");
        self.context.story.tell(self.context.now, || What::Member { server: at, what });
        let reply = Reply {
            session: SessionId(0),
            number: RequestNumber(self.reforms.len() as u64),
            attempt: Attempt(0),
            stamp: Stamp(0),
            is_consumed: false,
            outcome: Outcome::Done { lease_ms: 0 },
        };
        self.reforms.push(reform.clone());
        let to = SocketAddr::V4(server_addr(at));
        self.tell(at, Input::Reform { to, reply, reform });
    }

    /// A leader answers an operator: nothing is begun that the servers which are there could not go on
    /// from, and nothing is refused that they could.
    pub(super) fn check_reform(&self, at: usize, reply: &Reply<'_>) -> Verdict {
        let Some(process) = &self.servers[at].process else { return Ok(()) };
        let (now, own) = (self.context.now, at as u64 + 1);
        let Some(reform) = self.reforms.get(reply.number.0 as usize) else { return Ok(()) };
        let members = process.driver.node().members();
        let voters = members.voters().count();
        let heard_ago = |id: u64| match process.heard.get(&id) {
            _ if id == own => Some(SURELY_HEARD_US.0),
            at => at.map(|at| now - at),
        };
        let may_be_heard = |id: &u64| heard_ago(*id).is_some_and(|ago| ago < UNHEARD_US);
        let is_heard = |id: &u64| {
            let (from, to) = SURELY_HEARD_US;
            heard_ago(*id).is_some_and(|ago| (from..to).contains(&ago))
        };
        let others = |id: u64| members.voters().filter(move |other| *other != id);
        let is_member = |id: &u64| members.servers.contains_key(id);
        let votes = |id: &u64| members.servers.get(id).is_some_and(|server| server.votes);
        let is_right = match (reform, &reply.outcome) {
            (Reform::Remove { server }, Outcome::Done { .. }) if votes(server) => {
                2 * others(*server).filter(may_be_heard).count() > voters - 1
            }
            (Reform::Remove { server }, Outcome::Refused { reason: Reason::NoQuorum, .. }) => {
                2 * others(*server).filter(is_heard).count() < voters
            }
            (Reform::Remove { server }, Outcome::Refused { reason: Reason::LastServer, .. }) => {
                voters == 1 && votes(server)
            }
            (_, Outcome::Refused { reason: Reason::NoSuchServer, .. }) => match reform {
                Reform::Add { .. } => false,
                Reform::Remove { server } | Reform::Transfer { server } => !is_member(server),
            },
            (Reform::Transfer { server }, Outcome::Done { .. }) => {
                votes(server) && may_be_heard(server)
            }
            (Reform::Transfer { server }, Outcome::Refused { reason: Reason::CannotLead, .. }) => {
                !votes(server) || !is_heard(server)
            }
            _ => true,
        };
        if is_right {
            return Ok(());
        }
        Err(format!("server {at} is asked {reform:?} and says {:?}", reply.outcome))
    }

    /// The server is gone for ever.
    pub(super) fn leave(&mut self, at: usize, why: &str) {
        let server = &mut self.servers[at];
        (server.process, server.is_waiting, server.is_gone) = (None, false, true);
        server.life += 1;
        let what = why.into();
        self.context.story.tell(self.context.now, || What::Member { server: at, what });
    }

    /// A server that is not let in yet asks one of the others, as `server::cluster::join` does.
    pub(super) fn join(&mut self, at: usize) -> Verdict {
        if !self.servers[at].is_waiting {
            return Ok(());
        }
        let wait = self.context.random.between(100_000, 400_000);
        self.later(at, wait, MemberStep::Join);
        let other = self.context.random.between(0, self.servers.len() as u64 - 1) as usize;
        let is_there = self.servers[other].process.is_some() && self.reaches_awake(at, other);
        if !is_there || other == at {
            return Ok(());
        }
        let (id, life) = (at as u64 + 1, life_of(at));
        self.tell(other, Input::Introduction { id, life });
        let Some(process) = &self.servers[other].process else { return Ok(()) };
        let node = process.driver.node();
        if node.members().has_left(id) {
            self.leave(at, "is told that it was removed");
            return Ok(());
        }
        let offered = process.offered.clone();
        let server = offered.head.members.servers.get(&id);
        let is_known = server.is_some_and(|server| server.life == life);
        if !is_known {
            return Ok(());
        }
        let crash = self.threaten(at, JOIN_CRASHES, 14);
        let Some(process) = &self.servers[other].process else { return Ok(()) };
        let files = self.context.plan.files;
        let read = |file, offset, len| {
            let mut data = vec![0; len];
            let (read, _) = process.store.read(file, offset, &mut data)?;
            if read == len { Ok(data) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        };
        let taken = take_over(&self.servers[at].disk, files, offered, read);
        if self.has_fallen(at, crash)? {
            return Ok(());
        }
        if taken.is_ok() {
            self.servers[at].is_waiting = false;
            self.later(at, 1_000, MemberStep::Start);
        }
        Ok(())
    }
}

/// Takes over another's state and files before the first start.
fn take_over(
    disk: &MemDisk,
    files: u32,
    mut checkpoint: Checkpoint,
    read: impl FnMut(FileId, u64, usize) -> io::Result<Vec<u8>>,
) -> Result<(), String> {
    use crate::disk::Disk;
    let dir = Path::new(DIR);
    let private = dir.join(PRIVATE_DIR);
    disk.create_dir(&private).map_err(|error| error.to_string())?;
    let data = DataFiles::open(disk, dir, files).map_err(|error| error.to_string())?;
    data.rewind(&vec![0; files as usize]).map_err(|error| error.to_string())?;
    let state = checkpoint.state().map_err(|error| error.to_string())?;
    complete(&data, &[], &state.files, read).map_err(|error| error.to_string())?;
    data.sync().map_err(|error| error.to_string())?;
    let head = &mut checkpoint.head;
    head.log_from = (head.index, head.term);
    head.hard = (head.term, 0, head.index);
    write_checkpoint(disk, &private, LogIndex(0), &checkpoint).map_err(|error| error.to_string())
}

/// A leader counts with those that it has heard within an election timeout; clocks drift and threads
/// are late.
const UNHEARD_US: u64 = 230_000;
const SURELY_HEARD_US: (u64, u64) = (20_000, 100_000);
/// So many servers come in at most.
const NEWCOMERS: usize = 3;
/// How many attempts to join crash.
const JOIN_CRASHES: f64 = 0.2;
