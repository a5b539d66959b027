//! The judge over what is committed: the one log that all members have to agree on, and the state that
//! follows from it, computed apart from them.

use crate::engine::cluster::node::{Committed, What};
use crate::engine::solo::decode;
use crate::machine::{Change, Effect, Machine};
use crate::sim::ledger::Ledger;
use crate::sim::observe::{Cause, Handover, Observer};

#[derive(Default)]
pub struct Truth {
    /// What was committed, by whoever said so first; the founding is entry 1.
    entries: Vec<Committed>,
    pub machine: Machine,
    files: Vec<Vec<u8>>,
    pub observer: Observer,
}

impl Truth {
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
        section_limit: u64,
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
        self.observer.look(&self.machine, section_limit, cause(&command.change))
    }
}

fn cause(change: &Change) -> Cause {
    match change {
        Change::Expire { .. } | Change::Evict { .. } => Cause::Time,
        Change::Boot { .. } | Change::Register { .. } => Cause::Other,
        Change::Request { session, .. } => Cause::Request(*session),
    }
}

/// The entry that founders begin with.
const FOUNDED: u64 = 1;
