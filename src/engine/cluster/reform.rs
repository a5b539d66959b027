//! Changes of who belongs to the cluster, decided by the leader: what operators ask for, and what
//! follows from it by itself. At most one change is under way, and one server is brought in at a
//! time: it learns until it has caught up, then it votes.

use super::members::{Change, Members};
use super::node::Node;
use crate::limits::{SERVERS_MAX, WAITING_MAX};
use crate::mutant;
use crate::protocol::inspect::MemberView;
use crate::protocol::{Reason, Reform};
use crate::types::Millis;
use raft::StateRole;
use std::collections::BTreeMap;

/// What a member knows of the others beside what is in the log.
#[derive(Debug, Default)]
pub struct Acquaintance {
    /// When each was heard last.
    heard: BTreeMap<u64, Millis>,
    /// The data directories of members, as they name them.
    lives: BTreeMap<u64, u64>,
    /// Servers that ask to be let in: data directory, and when they asked last.
    waiting: BTreeMap<u64, (u64, Millis)>,
    /// The server that catches up: what it has to reach, and since when.
    round: Option<(u64, u64, Millis)>,
}

impl Node {
    /// Who belongs to the cluster, as far as that is committed.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// A server has named its data directory: a member, or one that asks to be let in.
    pub fn handle_introduction(&mut self, id: u64, life: u64, now: Millis) {
        if self.members.servers.contains_key(&id) {
            self.others.lives.insert(id, life);
        } else if !self.members.has_left(id) {
            let waiting = &mut self.others.waiting;
            waiting.retain(|_, (_, at)| now.0 < at.0 + WAITING_MS);
            if waiting.len() < WAITING_MAX || waiting.contains_key(&id) {
                waiting.insert(id, (life, now));
            }
        }
    }

    /// Something came from another member.
    pub(super) fn note_heard(&mut self, id: u64, now: Millis) {
        if self.members.servers.contains_key(&id) {
            self.others.heard.insert(id, now);
        }
    }

    /// Does what an operator asks for, or says why not. What is done already, or under way, is
    /// done; it is committed when [`Node::members`] says so. Only for a member that leads.
    pub fn handle_reform(&mut self, reform: &Reform, now: Millis) -> Result<(), Reason> {
        match reform {
            Reform::Add { server, addr } => self.add(*server, addr, now),
            Reform::Remove { server } => self.remove(*server, now),
            Reform::Transfer { server } => self.hand_over(*server, now),
        }
    }

    fn add(&mut self, id: u64, addr: &str, now: Millis) -> Result<(), Reason> {
        let members = &self.members;
        if members.servers.get(&id).is_some_and(|server| server.addr == addr) {
            return Ok(());
        }
        if id <= members.newest {
            return Err(Reason::NumberUsed);
        }
        if members.servers.values().any(|server| server.addr == addr) {
            return Err(Reason::AddressUsed);
        }
        if members.servers.len() >= SERVERS_MAX {
            return Err(Reason::TooManyServers);
        }
        if members.learner().is_some() {
            return Err(Reason::ChangeUnderWay);
        }
        if !self.hears_quorum_of(members.voters(), now) {
            return Err(Reason::NoQuorum);
        }
        let (life, at) = *self.others.waiting.get(&id).ok_or(Reason::NotWaiting)?;
        if now.0 >= at.0 + WAITING_MS {
            return Err(Reason::NotWaiting);
        }
        self.propose_change(&Change::Add { id, addr: addr.to_owned(), life })
    }

    fn remove(&mut self, id: u64, now: Millis) -> Result<(), Reason> {
        let members = &self.members;
        let Some(server) = members.servers.get(&id) else {
            return if members.has_left(id) { Ok(()) } else { Err(Reason::NoSuchServer) };
        };
        if server.votes {
            if members.voters().count() == 1 {
                return Err(Reason::LastServer);
            }
            if members.learner().is_some() {
                return Err(Reason::ChangeUnderWay);
            }
            // Those who stay must be able to go on.
            let stay = members.voters().filter(|other| *other != id);
            if !self.hears_quorum_of(stay, now) && !mutant::is("last_majority_given_up") {
                return Err(Reason::NoQuorum);
            }
        }
        if id == self.id() {
            // Who leads next removes it, when asked again.
            let heir = self.heir(now).ok_or(Reason::NoQuorum)?;
            self.transfer(heir);
            return Err(Reason::ChangeUnderWay);
        }
        self.propose_change(&Change::Remove { id })
    }

    fn hand_over(&mut self, id: u64, now: Millis) -> Result<(), Reason> {
        let server = self.members.servers.get(&id).ok_or(Reason::NoSuchServer)?;
        if id == self.id() {
            return Ok(());
        }
        let is_there = self.hears(id, now) || mutant::is("silent_server_leads");
        if (!server.votes && !mutant::is("learner_leads")) || !is_there {
            return Err(Reason::CannotLead);
        }
        self.transfer(id);
        Ok(())
    }

    /// Who is to lead when this member, which does, no longer can: the voter that has most.
    pub fn heir(&self, now: Millis) -> Option<u64> {
        let prs = self.raw().raft.prs();
        let others = self.members.voters().filter(|id| *id != self.id() && self.hears(*id, now));
        let matched = |id: &u64| (prs.get(*id).map(|progress| progress.matched), *id);
        if self.role().is_leading { others.max_by_key(matched) } else { None }
    }

    /// Goes on with changes that nobody has to ask for.
    pub(super) fn change_by_itself(&mut self, now: Millis) {
        let is_able = self.raw().raft.state == StateRole::Leader
            && self.raw().raft.commit_to_current_term()
            && !self.raw().raft.has_pending_conf();
        if !is_able {
            return;
        }
        let Some(learner) = self.members.learner() else {
            self.others.round = None;
            return self.settle();
        };
        // Refused while something else is under way: the next tick tries again.
        if self.has_caught_up(learner, now) {
            let _ = self.propose_change(&Change::Promote { id: learner });
        }
    }

    /// Has the data directory of a founder recorded, so that an emptied one under the same number
    /// is known for what it is.
    fn settle(&mut self) {
        let is_unsettled =
            |id: &u64| self.members.servers[id].life == 0 && !mutant::is("founders_unknown");
        let life = |id| self.others.lives.get(&id).map(|life| (id, *life));
        let found = self.members.voters().filter(is_unsettled).find_map(life);
        if let Some((id, life)) = found {
            let _ = self.propose_change(&Change::Settle { id, life });
        }
    }

    /// Whether a learner can vote without keeping the others waiting: what there was when its last
    /// round began took it less than an election timeout. With it the others need more servers for
    /// a quorum, so these must be there.
    fn has_caught_up(&mut self, id: u64, now: Millis) -> bool {
        let raft = &self.raw().raft;
        let (last, progress) = (raft.raft_log.last_index(), raft.prs().get(id));
        let matched = progress.map_or(0, |progress| progress.matched);
        let election_ms = self.tuning().election_ms();
        match self.others.round {
            Some((server, target, since)) if server == id => {
                if matched < target {
                    return false;
                }
                let is_quick = now.0 < since.0 + election_ms;
                self.others.round = Some((id, last, now));
                let voters = self.members.voters().chain([id]);
                is_quick && self.hears(id, now) && self.hears_quorum_of(voters, now)
            }
            _ => {
                self.others.round = Some((id, last, now));
                false
            }
        }
    }

    fn propose_change(&mut self, change: &Change) -> Result<(), Reason> {
        // While one is under way the library would put an empty entry in its place.
        if self.raw().raft.has_pending_conf() || !self.raw().raft.commit_to_current_term() {
            return Err(Reason::ChangeUnderWay);
        }
        let library = change.to_library();
        let proposed = self.raw_mut().propose_conf_change(change.encode(), library);
        if mutant::is("members_uncommitted") && proposed.is_ok() {
            self.change_members(&change.encode());
        }
        proposed.map_err(|_| Reason::ChangeUnderWay)
    }

    /// Whether the member was heard lately; itself it always hears.
    fn hears(&self, id: u64, now: Millis) -> bool {
        let lately = |at: &Millis| now.0 < at.0 + self.tuning().election_ms();
        id == self.id() || self.others.heard.get(&id).is_some_and(lately)
    }

    fn hears_quorum_of(&self, voters: impl Iterator<Item = u64>, now: Millis) -> bool {
        let (mut all, mut heard) = (0, 0);
        for id in voters {
            all += 1;
            heard += usize::from(self.hears(id, now));
        }
        heard * 2 > all
    }

    /// The servers that ask to be let in.
    pub fn waiting(&self, now: Millis) -> Vec<u64> {
        let waits = |(id, (_, at)): &(&u64, &(u64, Millis))| {
            now.0 < at.0 + WAITING_MS && !self.members.servers.contains_key(*id)
        };
        self.others.waiting.iter().filter(waits).map(|(id, _)| *id).collect()
    }

    /// The members as this one sees them.
    pub fn survey(&self, now: Millis) -> Vec<MemberView> {
        let (raft, own) = (&self.raw().raft, self.id());
        let view = |(id, server): (&u64, &super::members::Server)| MemberView {
            server: *id,
            addr: server.addr.clone(),
            clients: None,
            votes: server.votes,
            log: match self.role().is_leading {
                true => raft.prs().get(*id).map(|progress| progress.matched),
                false => (*id == own).then_some(raft.raft_log.persisted),
            },
            heard_ms_ago: match self.others.heard.get(id) {
                _ if *id == own => Some(0),
                at => at.map(|at| now.0.saturating_sub(at.0)),
            },
        };
        self.members.servers.iter().map(view).collect()
    }
}

/// A server that asks to be let in is remembered for this long.
const WAITING_MS: u64 = 5_000;
