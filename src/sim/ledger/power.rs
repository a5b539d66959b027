//! What a power loss may take: without syncs also what was published and acknowledged, but then the
//! last sections, each of them whole.

use super::{Fate, Ledger, Verdict};
use crate::machine::History;
use crate::sim::linear::{Operation, What};
use std::collections::BTreeSet;

/// What the power has taken.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// At each power loss: the newest token, and the one that survived.
    grants: Vec<(u64, Option<u64>)>,
    /// When published sections may have been lost last, and the newest token then.
    sections: (u64, u64),
}

impl Losses {
    /// What is told under this token may have been taken since.
    pub fn has_token(&self, token: u64) -> bool {
        token <= self.sections.1
    }

    /// The power has failed.
    pub fn has_been(&self) -> bool {
        !self.grants.is_empty() || self.sections.0 > 0
    }

    /// The answer to a call of that time may tell what is not so any more.
    pub fn has_answer(&self, invoked: u64) -> bool {
        invoked <= self.sections.0
    }
}

impl Ledger {
    /// The power failed: grants and sections that were not published may never have been, whatever
    /// their clients were told, and what was taken back may not have been taken back.
    pub fn note_power_loss(&mut self, through: u64, survivor: Option<u64>) {
        self.losses.grants.push((through, survivor));
    }

    /// The power failed under a server that does not sync, when `through` was the newest token. Its
    /// log ends earlier than it did, the files have these sizes now and the history is this one.
    pub fn take_back(
        &mut self,
        through: u64,
        sizes: &[u64],
        history: &History,
        now: u64,
    ) -> Verdict {
        self.check_histories()?;
        self.lock.clear();
        self.losses.sections = (now, through);
        let (mut taken, mut kept) = (BTreeSet::new(), BTreeSet::new());
        for (id, (file, &size)) in self.files.iter_mut().zip(sizes).enumerate() {
            file.reads.clear();
            file.bytes.truncate(size as usize);
            file.acknowledged = file.acknowledged.min(size);
            let halved = |place: &(u64, u64)| place.0 < size && size < place.1;
            if file.places.values().any(halved) {
                return Err(format!("the power left half of a section in file_{id}, to {size}"));
            }
            file.places.retain(|&token, place| {
                let is_kept = place.1 <= size;
                if is_kept { &mut kept } else { &mut taken }.insert(token);
                is_kept
            });
            file.newest = (0, 0);
        }
        if let Some(token) = taken.intersection(&kept).next() {
            return Err(format!("the power took section {token} of some files, not of others"));
        }
        for (token, section) in &mut self.sections {
            let is_taken = taken.contains(token);
            section.released = section.released.filter(|_| !is_taken);
            for append in &mut section.appends {
                append.is_published &= !is_taken;
                if append.is_published {
                    self.files[append.file].newest = (*token, append.serial);
                }
            }
        }
        self.operators.take_back(history.newest(), now);
        Ok(())
    }

    /// A power loss may have taken it, whatever its client was told, before or after that.
    pub(super) fn is_void(&self, operation: &Operation) -> bool {
        let (What::Acquire(token) | What::Append(token) | What::Release(token)) = operation.what
        else {
            return false;
        };
        let is_taken =
            |&(through, survivor): &(u64, Option<u64>)| token <= through && survivor != Some(token);
        let is_lost = || self.losses.grants.iter().any(is_taken);
        self.losses.has_token(token) || self.fate(token) != Fate::Published && is_lost()
    }
}
