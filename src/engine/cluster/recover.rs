//! Reading a member's state back: the checkpoint, then the journal behind it.

use super::journal::{Checkpoint, Replay};
use super::log::Log;
use super::members::Members;
use super::replica::Replica;
use crate::data::FileMark;
use crate::disk::Disk;
use crate::machine::Machine;
use crate::types::LogIndex;
use crate::wal::{self, Writer};
use std::path::Path;

/// Index and term of what founders count as their first entry: the membership, which they have in
/// a checkpoint.
const FOUNDED: (u64, u64) = (1, 1);

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Wal(#[from] wal::Error),
    #[error("the checkpoint is whole, but not of a cluster's member that this program knows: {0}")]
    State(String),
    #[error(
        "the log ends before entries that this server had acknowledged to the others: its disk \
         lost them or a backup was put in place. It could elect a leader that lacks what is \
         committed, so it must not take part again: remove it from the cluster, empty its data \
         directory and add it as a new server"
    )]
    Lost,
}

/// A member as it was when it ended.
pub struct Recovered<D: Disk> {
    pub writer: Writer<D>,
    pub log: Log,
    pub replica: Replica,
    /// The journal goes on behind this.
    pub journal: LogIndex,
    /// Where the checkpoint stands in it.
    pub checkpoint: LogIndex,
    pub torn: Option<wal::Torn>,
}

/// Recovers the member in `dir`, or begins one of a cluster that is founded with these members.
pub fn recover<D: Disk>(
    disk: &D,
    dir: &Path,
    options: &wal::Options,
    founders: &Members,
) -> Result<Recovered<D>, Error> {
    let (at, checkpoint) = match wal::read_checkpoint(disk, dir)? {
        Some(found) => {
            let state = postcard::from_bytes::<Checkpoint>(&found.state)
                .map_err(|error| Error::State(error.to_string()))?;
            (found.index, state)
        }
        None => {
            let first = founding(founders, Machine::default(), Vec::new());
            write_checkpoint(disk, dir, LogIndex(0), &first)?;
            (LogIndex(0), first)
        }
    };
    let mut replay = Replay::new(&checkpoint);
    let (writer, found) =
        wal::recover(disk, dir, options, at, &mut |place, payload| replay.record(place, payload))?;
    if found.lost_synced {
        return Err(Error::Lost);
    }
    Ok(Recovered {
        writer,
        log: replay.finish().map_err(Error::State)?,
        replica: Replica::new(checkpoint),
        journal: found.last,
        checkpoint: at,
        torn: found.torn,
    })
}

/// Replaces the checkpoint, durably.
pub fn write_checkpoint<D: Disk>(
    disk: &D,
    dir: &Path,
    place: LogIndex,
    checkpoint: &Checkpoint,
) -> Result<(), Error> {
    let bytes = postcard::to_stdvec(checkpoint).map_err(|error| Error::State(error.to_string()))?;
    Ok(wal::write_checkpoint(disk, dir, place, &bytes)?)
}

/// The state of a member that has just been founded, over this state of the machine and the files.
pub fn founding(founders: &Members, machine: Machine, files: Vec<FileMark>) -> Checkpoint {
    let (index, term) = FOUNDED;
    Checkpoint {
        machine,
        files,
        index,
        term,
        log_from: FOUNDED,
        members: founders.clone(),
        hard: (term, 0, index),
    }
}
