//! The judge over what is committed: the one log that all members have to agree on, and the state that
//! follows from it, computed apart from them.

use crate::engine::cluster::members::{Members, Server};
use crate::engine::cluster::node::{Committed, What};
use crate::engine::solo::decode;
use crate::machine::{Ask, Change, Effect, Machine};
use crate::server::core::Limits;
use crate::sim::ledger::Ledger;
use crate::sim::observe::{Cause, Handover, Most, Observer};
use crate::sim::plan::Bounds;

pub struct Truth {
    /// What was committed, by whoever said so first; the founding is entry 1.
    entries: Vec<Committed>,
    pub machine: Machine,
    files: Vec<Vec<u8>>,
    pub observer: Observer,
    /// Who belonged to the cluster, one after the other.
    members: Vec<Members>,
}

impl Truth {
    pub fn new(founders: Members) -> Truth {
        Truth {
            entries: Vec::new(),
            machine: Machine::default(),
            files: Vec::new(),
            observer: Observer::default(),
            members: vec![founders],
        }
    }

    /// Who belongs to the cluster.
    pub fn members(&self) -> &Members {
        &self.members[self.members.len() - 1]
    }

    /// Whether these have been the members at some time.
    pub fn has_had(&self, members: &Members) -> bool {
        self.members.contains(members)
    }

    /// Whether these are a quorum, or were before the last change: with what is committed together
    /// with a change the members before it count.
    pub fn is_quorum(&self, servers: &[u64]) -> bool {
        let is_one = |members: &Members| {
            let have = members.voters().filter(|id| servers.contains(id)).count();
            have > members.voters().count() / 2
        };
        self.members.iter().rev().take(2).any(is_one)
    }

    /// One server at a time comes, learning first and under a number that none has had, or goes.
    fn see_members(&mut self, new: &Members) -> Result<(), String> {
        let old = self.members();
        let joined = new.servers.iter().filter(|(id, _)| !old.servers.contains_key(id));
        let left = old.servers.keys().filter(|id| !new.servers.contains_key(id));
        let is_sound = |(id, server): (&u64, &Server)| !server.votes && *id > old.newest;
        let (voters, were) = (new.voters().count(), old.voters().count());
        let is_one = joined.clone().count() + left.count() <= 1 && voters.abs_diff(were) <= 1;
        if !is_one || voters == 0 || !joined.clone().all(is_sound) {
            return Err(format!("members {old:?} became {new:?}"));
        }
        self.members.push(new.clone());
        Ok(())
    }

    /// The last entry.
    pub fn index(&self) -> u64 {
        self.entries.len() as u64 + FOUNDED
    }

    /// What the data files have to hold, as far as `committed` is all that there is.
    pub fn files(&self) -> &[Vec<u8>] {
        &self.files
    }

    /// A member says that this is committed. Of what is new comes back to whom the lock went.
    pub fn see(
        &mut self,
        committed: &Committed,
        bounds: &Bounds,
        ledger: &mut Ledger,
    ) -> Result<Option<Handover>, String> {
        let index = committed.index;
        if index <= self.index() {
            let Some(at) = index.checked_sub(FOUNDED + 1) else { return Ok(None) };
            if self.entries[at as usize] != *committed {
                return Err(format!("two entries are committed as number {index}"));
            }
            return Ok(None);
        }
        if index != self.index() + 1 {
            return Err(format!("entry {index} is committed after {}", self.index()));
        }
        self.entries.push(committed.clone());
        if let What::Members(members) = &committed.what {
            self.see_members(members)?;
        }
        let What::Command(bytes) = &committed.what else { return Ok(None) };
        let command = decode(bytes)?;
        let mut effects = Vec::new();
        self.machine.apply(&command, &mut effects);
        self.files.resize(self.machine.files() as usize, Vec::new());
        for effect in effects {
            let Effect::Publish(parts) = effect else { continue };
            for part in parts {
                let file = &mut self.files[part.file.0 as usize];
                let from = file.len() as u64;
                file.extend_from_slice(&part.data);
                ledger.see(part.file.0 as usize, from, &part.data)?;
            }
        }
        // Each leader goes by what is in force where it is.
        let most = Most::of(bounds, &Limits::default());
        let mut handover = self.observer.look(&self.machine, &most, cause(&command.change))?;
        if let Some(handover) = &mut handover
            && let Change::Request { ask: Ask::Revoke { token, .. }, .. } = &command.change
        {
            handover.is_revoked = handover.from.is_some_and(|(_, held)| held == token.0);
        }
        Ok(handover)
    }
}

fn cause(change: &Change) -> Cause {
    match change {
        Change::Expire { .. } | Change::Evict { .. } => Cause::Time,
        Change::Boot { .. } | Change::Register { .. } | Change::Lease { .. } => Cause::Other,
        Change::Request { session, .. } => Cause::Request(*session),
    }
}

/// The entry that founders begin with.
const FOUNDED: u64 = 1;
