//! Making a checkpoint, step by step: requests go on between any two of them, and a crash may come
//! between any two. [`Store::checkpoint`] makes them all; the simulator makes them one by one.

use super::store::{OpenError, Store, lock, read_state, write_state};
use crate::data::FileMark;
use crate::disk::Disk;
use crate::engine::State;
use crate::engine::solo;
use crate::machine::Effect;
use crate::mutant;
use crate::types::LogIndex;
use crate::wal;
use std::sync::atomic::Ordering;
use tracing::info;

/// A checkpoint on its way.
#[derive(Debug)]
pub struct Checkpointing {
    /// The state after this entry is recorded.
    through: LogIndex,
    next: Step,
}

/// What comes next.
#[derive(Debug)]
enum Step {
    /// Bring the state of the old checkpoint up to date from the log.
    Replay,
    /// Make the bytes stable for which the new one vouches.
    Sync(Box<State>),
    Record(Box<State>),
    /// Remove what it covers of the log.
    Remove,
}

impl Checkpointing {
    /// All entries up to `through` are published.
    pub fn new(through: LogIndex) -> Self {
        Checkpointing { through, next: Step::Replay }
    }
}

impl<D: Disk> Store<D> {
    /// Records the state as of entry `through`, all of which is published, and removes the log
    /// before it. Works from the old checkpoint and the log, so requests go on meanwhile.
    pub fn checkpoint(&self, through: LogIndex) -> Result<(), OpenError> {
        let mut checkpointing = Checkpointing::new(through);
        while self.go_on(&mut checkpointing)? {}
        Ok(())
    }

    /// Makes the next step of a checkpoint; whether there are more.
    pub fn go_on(&self, checkpointing: &mut Checkpointing) -> Result<bool, OpenError> {
        let through = checkpointing.through;
        checkpointing.next = match std::mem::replace(&mut checkpointing.next, Step::Remove) {
            Step::Replay => {
                #[cfg_attr(not(feature = "mutants"), expect(unused_mut))]
                let mut state = Box::new(self.state_at(through)?);
                #[cfg(feature = "mutants")]
                state.machine.spoil();
                Step::Sync(state)
            }
            Step::Sync(state) => {
                if !mutant::is("checkpoint_before_files") {
                    self.data.sync()?;
                }
                Step::Record(state)
            }
            Step::Record(state) => {
                let is_ahead = mutant::is("checkpoint_ahead");
                let at = if is_ahead { through.next() } else { through };
                write_state(&self.disk, &self.private, at, &state)?;
                self.checkpointed.fetch_max(through.0, Ordering::Relaxed);
                Step::Remove
            }
            Step::Remove => {
                let freed = self.remove_log(through)?;
                info!(through = through.0, freed, "checkpoint");
                return Ok(false);
            }
        };
        Ok(true)
    }

    /// The state as of entry `through`, from the old checkpoint and the log.
    pub(super) fn state_at(&self, through: LogIndex) -> Result<State, OpenError> {
        let (after, mut state) = read_state(&self.disk, &self.private)?;
        let mut effects = Vec::new();
        wal::replay(&self.disk, &self.private, after, through, &mut |_, payload| {
            state.machine.apply(&solo::decode(payload)?, &mut effects);
            let files = state.machine.files() as usize;
            if state.files.is_empty() || !mutant::is("later_files_forgotten") {
                state.files.resize(files, FileMark::default());
            }
            for effect in effects.drain(..) {
                let Effect::Publish(parts) = effect else { continue };
                for part in parts.into_iter().skip(mutant::is("checkpoint_sizes_wrong").into()) {
                    state.files[part.file.0 as usize].add(&part.data);
                }
            }
            Ok(())
        })?;
        Ok(state)
    }

    /// Removes the segments of the log whose entries are all at or before `through`; the bytes freed.
    pub(super) fn remove_log(&self, through: LogIndex) -> Result<u64, OpenError> {
        let freed = self
            .log
            .remove_through(through)
            .map_err(|source| OpenError::Io { path: self.private.clone(), source })?;
        self.log_bytes.store(lock(&self.writer).bytes(), Ordering::Relaxed);
        Ok(freed)
    }
}
