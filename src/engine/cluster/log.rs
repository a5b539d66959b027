//! The replicated log in memory: what the consensus library reads. Everything in it is in the
//! journal too, or on its way there ([`super::journal`]).

use super::members::Members;
use crate::types::LogIndex;
use raft::eraftpb::{Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};
use std::collections::VecDeque;

/// Entries since the last compaction, and what stands before them.
#[derive(Debug, Default)]
pub struct Log {
    /// As read at the start; the library keeps its own afterwards.
    hard: HardState,
    /// As of the state that the log goes on from.
    members: Members,
    /// Index and term of the entry before the first.
    before: (u64, u64),
    entries: VecDeque<Entry>,
    /// The place of each entry in the journal; never falls from one to the next.
    places: VecDeque<LogIndex>,
    /// What tells a follower for which the entries are gone of the state in their place.
    snapshot: Option<Snapshot>,
}

impl Log {
    /// A log that begins behind an entry of this index and term.
    pub fn new(before: (u64, u64), members: Members) -> Self {
        Log { before, members, ..Log::default() }
    }

    pub fn set_hard(&mut self, hard: HardState) {
        self.hard = hard;
    }

    /// Appends an entry that is in the journal at `place`; what stood there and after it goes.
    /// Says whether it fits.
    pub fn append(&mut self, entry: Entry, place: LogIndex) -> bool {
        if entry.index <= self.before.0 || entry.index > self.last() + 1 {
            return false;
        }
        let kept = (entry.index - self.before.0 - 1) as usize;
        self.entries.truncate(kept);
        self.places.truncate(kept);
        self.entries.push_back(entry);
        self.places.push_back(place);
        true
    }

    pub fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    /// Index and term of the entry before the first.
    pub fn before(&self) -> (u64, u64) {
        self.before
    }

    /// Where in the journal the entries after `index` begin; none if there are no such entries.
    pub fn place_after(&self, index: u64) -> Option<LogIndex> {
        self.places.get((index + 1).checked_sub(self.before.0 + 1)? as usize).copied()
    }

    /// The term of an entry, if it is known.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.before.0 {
            return Some(self.before.1);
        }
        let at = index.checked_sub(self.before.0 + 1)?;
        self.entries.get(at as usize).map(|entry| entry.term)
    }

    /// Takes out the entries up to and including `index`.
    pub fn compact(&mut self, index: u64) -> VecDeque<Entry> {
        let Some(term) = self.term_of(index) else { return VecDeque::new() };
        let count = (index - self.before.0) as usize;
        let left = self.entries.split_off(count);
        self.places.drain(..count);
        self.before = (index, term);
        std::mem::replace(&mut self.entries, left)
    }

    /// Begins anew behind a snapshot.
    pub fn restart(&mut self, before: (u64, u64), members: Members) {
        *self = Log { snapshot: self.snapshot.take(), ..Log::new(before, members) };
    }

    /// The members as of the state that the log goes on from.
    pub fn members(&self) -> &Members {
        &self.members
    }

    pub fn set_snapshot(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(snapshot);
    }

    /// Bytes of the commands in memory that stand at or before `index`, from the newest back: the
    /// index before which they are more than `bytes`, or in the journal at or before `given_up`.
    pub fn tail_from(&self, index: u64, bytes: usize, given_up: LogIndex) -> u64 {
        let (mut at, mut left) = (index.min(self.last()), bytes);
        while at > self.before.0 {
            let place = (at - self.before.0 - 1) as usize;
            let size = self.entries[place].data.len() + ENTRY_OVERHEAD;
            let Some(rest) = left.checked_sub(size) else { break };
            if self.places[place] <= given_up {
                break;
            }
            left = rest;
            at -= 1;
        }
        at
    }
}

impl Storage for Log {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.members.to_conf()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.before.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "entries up to {high} asked for of {}", self.last());
        let (from, to) = (low - self.before.0 - 1, high - self.before.0 - 1);
        let mut left = max_size.into().unwrap_or(u64::MAX);
        let mut found = Vec::new();
        for entry in self.entries.range(from as usize..to as usize) {
            let size = (entry.data.len() + ENTRY_OVERHEAD) as u64;
            if size > left && !found.is_empty() {
                break;
            }
            left = left.saturating_sub(size);
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index < self.before.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_of(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        let knows = |snapshot: &&Snapshot| {
            let conf = snapshot.get_metadata().get_conf_state();
            conf.voters.contains(&to) || conf.learners.contains(&to)
        };
        // A server that was added needs a state that knows of it.
        match self.snapshot.as_ref().filter(knows) {
            // One that is older than the entries there are would lead to the same question again.
            Some(snapshot) if snapshot.get_metadata().index >= request_index.max(self.before.0) => {
                Ok(snapshot.clone())
            }
            _ => Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable)),
        }
    }
}

/// What an entry takes besides its command, about.
const ENTRY_OVERHEAD: usize = 64;
