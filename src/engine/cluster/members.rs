//! Who belongs to the cluster, and how that changes: one server at a time, each change an entry of
//! the log. A server that is added only learns until it has caught up, then it votes.
//!
//! A change has an encoding of our own, beside the library's in the same entry, whose decoder must
//! not see bytes that came over the network.

use super::codec::{self, Input, Malformed};
use crate::limits::PEER_ADDR_MAX;
use crate::mutant;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who belongs to the cluster from one entry of the log on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    pub servers: BTreeMap<u64, Server>,
    /// The highest number that a server has ever had. Whoever has one up to it and is not among
    /// the servers was removed, and no other server ever gets that number.
    pub newest: u64,
}

/// One server of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// It counts for a quorum; otherwise it is still learning.
    pub votes: bool,
    /// Where the others reach it; empty where nothing but its number matters.
    pub addr: String,
    /// Tells its data directory from any other that might be started under its number; 0 while it
    /// is not known.
    pub life: u64,
}

/// A change of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It learns from now on.
    Add { id: u64, addr: String, life: u64 },
    /// It has caught up, and votes.
    Promote { id: u64 },
    /// It leaves for ever.
    Remove { id: u64 },
    /// A founder's data directory is known from now on.
    Settle { id: u64, life: u64 },
}

impl Members {
    /// A cluster that begins with these voters.
    pub fn of(voters: &[u64]) -> Self {
        Members::founding(voters.iter().map(|id| (*id, String::new())))
    }

    /// A cluster that begins with these servers and addresses.
    pub fn founding(servers: impl IntoIterator<Item = (u64, String)>) -> Self {
        let voter = |(id, addr)| (id, Server { votes: true, addr, life: 0 });
        let servers: BTreeMap<_, _> = servers.into_iter().map(voter).collect();
        let newest = servers.keys().next_back().copied().unwrap_or_default();
        Members { servers, newest }
    }

    pub fn voters(&self) -> impl Iterator<Item = u64> {
        self.servers.iter().filter(|(_, server)| server.votes).map(|(id, _)| *id)
    }

    /// The server that is being brought in, if one is.
    pub fn learner(&self) -> Option<u64> {
        self.servers.iter().find(|(_, server)| !server.votes).map(|(id, _)| *id)
    }

    /// The server of that number is gone for ever.
    pub fn has_left(&self, id: u64) -> bool {
        id <= self.newest && !self.servers.contains_key(&id)
    }

    /// What follows from a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Add { id, addr, life } => {
                let votes = mutant::is("learner_votes");
                let server = Server { votes, addr: addr.clone(), life: *life };
                self.servers.entry(*id).or_insert(server);
                self.newest = self.newest.max(*id);
            }
            Change::Remove { id } => drop(self.servers.remove(id)),
            Change::Promote { id } => {
                if let Some(server) = self.servers.get_mut(id) {
                    server.votes = true;
                }
            }
            Change::Settle { id, life } => {
                if let Some(server) = self.servers.get_mut(id).filter(|server| server.life == 0) {
                    server.life = *life;
                }
            }
        }
    }

    /// The same as the library has it.
    pub fn to_conf(&self) -> ConfState {
        let learners = self.servers.iter().filter(|(_, server)| !server.votes);
        ConfState {
            voters: self.voters().collect(),
            learners: learners.map(|(id, _)| *id).collect(),
            ..ConfState::default()
        }
    }

    /// Whether the library has the same.
    pub fn is_as(&self, conf: &ConfState) -> bool {
        let sorted = |ids: &[u64]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        let own = self.to_conf();
        own.voters == sorted(&conf.voters)
            && own.learners == sorted(&conf.learners)
            && conf.voters_outgoing.is_empty()
            && conf.learners_next.is_empty()
    }
}

impl Change {
    /// Whom it is about.
    pub fn id(&self) -> u64 {
        match self {
            Change::Add { id, .. }
            | Change::Promote { id }
            | Change::Remove { id }
            | Change::Settle { id, .. } => *id,
        }
    }

    /// The same for the library.
    pub fn to_library(&self) -> ConfChangeV2 {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(match self {
            Change::Add { .. } if !mutant::is("learner_votes") => ConfChangeType::AddLearnerNode,
            Change::Add { .. } => ConfChangeType::AddNode,
            Change::Promote { .. } | Change::Settle { .. } => ConfChangeType::AddNode,
            Change::Remove { .. } => ConfChangeType::RemoveNode,
        });
        single.node_id = self.id();
        let mut change = ConfChangeV2::default();
        change.changes.push(single);
        change
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let (kind, life, addr) = match self {
            Change::Add { addr, life, .. } => (0, *life, addr.as_str()),
            Change::Promote { .. } => (1, 0, ""),
            Change::Remove { .. } => (2, 0, ""),
            Change::Settle { life, .. } => (3, *life, ""),
        };
        out.push(kind);
        codec::put_u64(&mut out, self.id());
        codec::put_u64(&mut out, life);
        codec::put_bytes(&mut out, addr.as_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Change, Malformed> {
        let mut input = Input(bytes);
        let (kind, id, life) = (input.u8()?, input.u64()?, input.u64()?);
        let addr = str::from_utf8(input.bytes()?).map_err(|_| Malformed::Field)?;
        input.end()?;
        let change = match kind {
            0 => Change::Add { id, addr: addr.to_owned(), life },
            1 => Change::Promote { id },
            2 => Change::Remove { id },
            3 => Change::Settle { id, life },
            _ => return Err(Malformed::Field),
        };
        // What the kind does not have is empty, so that a change has one encoding.
        let is_right = id > 0 && addr.len() <= PEER_ADDR_MAX && change.encode() == bytes;
        if is_right { Ok(change) } else { Err(Malformed::Field) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(id: u64) -> Change {
        Change::Add { id, addr: format!("db{id}:10001"), life: 7 }
    }

    #[test]
    fn a_server_learns_before_it_votes_and_never_comes_back() {
        let mut members = Members::of(&[1, 2, 3]);
        members.apply(&add(4));
        assert_eq!((members.learner(), members.newest), (Some(4), 4));
        assert_eq!(members.voters().collect::<Vec<_>>(), [1, 2, 3]);
        members.apply(&Change::Promote { id: 4 });
        assert_eq!((members.learner(), members.voters().count()), (None, 4));
        members.apply(&Change::Remove { id: 2 });
        assert!(members.has_left(2) && !members.has_left(5) && !members.has_left(1));
        assert!(members.is_as(&members.to_conf()));
        let other = ConfState { voters: vec![4, 3, 1], ..ConfState::default() };
        assert!(members.is_as(&other));
        assert!(!members.is_as(&ConfState { learners: vec![9], ..other }));
    }

    #[test]
    fn a_data_directory_that_is_known_stays_the_one() {
        let mut members = Members::of(&[1]);
        members.apply(&Change::Settle { id: 1, life: 5 });
        members.apply(&Change::Settle { id: 1, life: 6 });
        assert_eq!(members.servers[&1].life, 5);
    }

    #[test]
    fn changes_come_back_and_no_cut_or_longer_ones_do() {
        let changes = [
            add(4),
            Change::Promote { id: 4 },
            Change::Remove { id: 2 },
            Change::Settle { id: 1, life: 9 },
        ];
        for change in changes {
            let mut bytes = change.encode();
            assert_eq!(Change::decode(&bytes), Ok(change));
            for len in 0..bytes.len() {
                assert!(Change::decode(&bytes[..len]).is_err());
            }
            bytes.push(0);
            assert!(Change::decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_change_has_these_bytes() {
        let change = Change::Add { id: 4, addr: "a:1".into(), life: 0x0102 };
        let golden = [0, 4, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 97, 58, 49];
        assert_eq!(change.encode(), golden);
        let with = |at: usize, byte: u8| {
            let mut bytes = golden;
            bytes[at] = byte;
            Change::decode(&bytes)
        };
        assert_eq!(with(0, 4), Err(Malformed::Field), "an unknown kind");
        assert_eq!(with(0, 2), Err(Malformed::Field), "a removal has no address");
        assert_eq!(with(1, 0), Err(Malformed::Field), "no number");
        assert_eq!(with(21, 0xFF), Err(Malformed::Field), "not UTF-8");
    }
}
