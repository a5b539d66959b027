//! The judge over recovery: a second machine that is fed with what was handed to the disk, entry by
//! entry, and never sees the disk itself. What a restart finds must be what this machine says.

use crate::engine::solo;
use crate::machine::{Effect, Machine};
use crate::types::LogIndex;
use crate::wal::Batch;
use std::collections::BTreeMap;

/// The state as it follows from the log.
#[derive(Debug, Default)]
pub struct Replica {
    /// The state after entry `at`, which no crash can take back.
    machine: Machine,
    at: LogIndex,
    /// The last entry that the disk has taken.
    written: LogIndex,
    /// Published bytes of each file.
    sizes: Vec<u64>,
    /// Entries handed to the disk after that.
    ahead: BTreeMap<LogIndex, Vec<u8>>,
}

impl Replica {
    /// A batch is being written: from now on a crash may leave it behind.
    pub fn note(&mut self, batch: &Batch) {
        self.ahead.extend(batch.entries().map(|(index, payload)| (index, payload.to_vec())));
    }

    /// The disk has taken everything up to this entry.
    pub fn wrote(&mut self, last: LogIndex) {
        self.written = last;
    }

    /// The log cannot lose these entries any more.
    pub fn settle(&mut self, through: LogIndex) -> Result<(), String> {
        if through > self.written {
            return Err(format!("synced to {through}, but only {} is written", self.written));
        }
        while let Some(entry) = self.ahead.first_entry()
            && *entry.key() <= through
        {
            let (index, payload) = entry.remove_entry();
            if index != self.at.next() {
                return Err(format!("entry {index} was written after {}", self.at));
            }
            let mut effects = Vec::new();
            self.machine.apply(&solo::decode(&payload)?, &mut effects);
            self.at = index;
            self.sizes.resize(self.machine.files() as usize, 0);
            for effect in effects {
                let Effect::Publish(parts) = effect else { continue };
                for part in parts {
                    self.sizes[part.file.0 as usize] += part.data.len() as u64;
                }
            }
        }
        if self.at < through {
            return Err(format!("the log is said to go to {through}, but {} came last", self.at));
        }
        Ok(())
    }

    /// A start has found this state, and all of it is stable now. What was written after it is
    /// gone.
    pub fn restart(&mut self, last: LogIndex, found: &Machine) -> Result<(), String> {
        if last < self.at {
            return Err(format!("the log goes to {last} only, and {} was stable", self.at));
        }
        self.written = last;
        self.settle(last)?;
        self.ahead.clear();
        if self.machine != *found {
            return Err(format!("recovery to {last} found another state than the log says"));
        }
        Ok(())
    }

    /// Published bytes of each file.
    pub fn sizes(&self) -> &[u64] {
        &self.sizes
    }

    /// The last entry that no crash can take back.
    pub fn at(&self) -> LogIndex {
        self.at
    }
}
