//! Reading a member's state back: the checkpoint, then the journal behind it.

use super::checkpoint::{Checkpoint, Head};
use super::journal::Replay;
use super::log::Log;
use super::members::Members;
use super::replica::Replica;
use crate::disk::Disk;
use crate::engine::State;
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

impl From<postcard::Error> for Error {
    fn from(error: postcard::Error) -> Self {
        Error::State(error.to_string())
    }
}

/// A member as it was when it ended.
pub struct Recovered<D: Disk> {
    pub writer: Writer<D>,
    pub log: Log,
    pub replica: Replica,
    /// The journal goes on behind this.
    pub journal: LogIndex,
    /// The checkpoint, and where it stands in it.
    pub checkpoint: Checkpoint,
    pub checkpoint_at: LogIndex,
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
        Some(found) => (found.index, Checkpoint::read(&found.state.into())?),
        None => {
            let first = founding(founders, &State::default())?;
            write_checkpoint(disk, dir, LogIndex(0), &first)?;
            (LogIndex(0), first)
        }
    };
    let state = checkpoint.state()?;
    let mut replay = Replay::new(&checkpoint.head);
    let (writer, found) =
        wal::recover(disk, dir, options, at, &mut |place, payload| replay.record(place, payload))?;
    if found.lost_synced {
        return Err(Error::Lost);
    }
    Ok(Recovered {
        writer,
        log: replay.finish().map_err(Error::State)?,
        replica: Replica::new(checkpoint.head.clone(), state),
        journal: found.last,
        checkpoint,
        checkpoint_at: at,
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
    let (head, state) = checkpoint.encode()?;
    Ok(wal::write_checkpoint(disk, dir, place, &[&head, state])?)
}

/// The checkpoint of a member that has just been founded over this state.
pub fn founding(founders: &Members, state: &State) -> Result<Checkpoint, Error> {
    let (index, term) = FOUNDED;
    let members = founders.clone();
    let head = Head { index, term, log_from: FOUNDED, members, hard: (term, 0, index) };
    Ok(Checkpoint::new(head, state)?)
}
