//! The data directory of a cluster's member. Beside what every data directory has, `.baton/member`
//! tells whose it is; log and checkpoint are as [`crate::engine::cluster::journal`] says.

use super::{OpenError, Store};
use crate::data::DataFiles;
use crate::disk::{Disk, RealDisk, replace_file};
use crate::engine::cluster::checkpoint::Checkpoint;
use crate::engine::cluster::log::Log;
use crate::engine::cluster::members::Members;
use crate::engine::cluster::recover::{self, recover};
use crate::engine::cluster::replica::Replica;
use crate::engine::solo::Ending;
use crate::machine::Part;
use crate::server::meter::SharedHistogram;
use crate::types::LogIndex;
use crate::wal;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use tracing::{error, info, warn};

/// Whose data directory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub node: u64,
    pub cluster: u64,
    /// Tells this data directory from any other: what a member has promised is in one directory
    /// and nowhere else.
    pub life: u64,
}

/// Why a data directory cannot be used by this member, or by a server of its own.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    #[error(
        "{dir} belongs to server {} of cluster {:016x}: start it with the flags --node {} and \
         --cluster that it was made with, or choose another directory",
        found.node, found.cluster, found.node
    )]
    OfCluster { dir: PathBuf, found: Identity },
    #[error(
        "{dir} belongs to server {} of cluster {:016x}, and this is server {} of cluster {:016x}: \
         check --data, --node and --cluster; the directory was not changed",
        found.node, found.cluster, own.node, own.cluster
    )]
    OfAnother { dir: PathBuf, found: Identity, own: Identity },
    #[error(
        "{0} belongs to a server that is not in a cluster: start it without --node and --cluster, \
         or choose another directory"
    )]
    OfSolo(PathBuf),
    #[error("{0} is damaged: it should say which server of which cluster the directory is of")]
    Damaged(PathBuf),
    #[error("entry {index} publishes into more data files than the {files} that --files gives")]
    Files { index: u64, files: u32 },
    #[error(transparent)]
    Recover(#[from] recover::Error),
}

/// What recovery has found.
pub struct Member {
    pub log: Log,
    pub replica: Replica,
    /// The journal goes on behind this.
    pub journal: LogIndex,
    pub checkpoint: Checkpoint,
}

/// Whose directory it is, if it is a member's.
pub fn identity(dir: &Path) -> Result<Option<Identity>, OpenError> {
    let path = dir.join(super::PRIVATE_DIR).join(NAME);
    match std::fs::read_to_string(&path) {
        Ok(text) => match parse(&text) {
            Some(found) => Ok(Some(found)),
            None => Err(MemberError::Damaged(path).into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Io { path, source }),
    }
}

fn parse(text: &str) -> Option<Identity> {
    let (node, rest) = text.strip_prefix("node ")?.trim_end().split_once("\ncluster ")?;
    let (cluster, life) = rest.split_once("\nlife ")?;
    let number = |hex| u64::from_str_radix(hex, 16).ok();
    Some(Identity { node: node.parse().ok()?, cluster: number(cluster)?, life: number(life)? })
}

/// Makes sure that the directory is this member's; one that is new becomes it.
pub fn claim(dir: &Path, own: Identity) -> Result<(), OpenError> {
    let private = dir.join(super::PRIVATE_DIR);
    match identity(dir)? {
        Some(found) if found == own => Ok(()),
        Some(found) => Err(MemberError::OfAnother { dir: dir.to_path_buf(), found, own }.into()),
        None if has_begun(dir) => Err(MemberError::OfSolo(dir.to_path_buf()).into()),
        None => {
            let path = private.join(NAME);
            let Identity { node, cluster, life } = own;
            let text = format!("node {node}\ncluster {cluster:016x}\nlife {life:016x}\n");
            replace_file(&RealDisk, &path, &[text.as_bytes()])
                .map_err(|source| OpenError::Io { path, source })
        }
    }
}

/// Whether a member has begun in the directory: one that asks to be let in has not yet.
pub fn has_begun(dir: &Path) -> bool {
    dir.join(super::PRIVATE_DIR).join("checkpoint").exists()
}

impl<D: Disk> Store<D> {
    /// Recovers a member's directory; a new one becomes that of a founder.
    pub fn open_member(
        disk: D,
        dir: &Path,
        files: u32,
        options: &wal::Options,
        founders: &Members,
    ) -> Result<(Self, Member), OpenError> {
        let private = dir.join(super::PRIVATE_DIR);
        disk.create_dir(&private)
            .map_err(|source| OpenError::Io { path: private.clone(), source })?;
        let found = recover(&disk, &private, options, founders).map_err(MemberError::from)?;
        let mut replica = found.replica;
        let has = super::files_there(&disk, dir, replica.state.machine.files())?;
        if files < has {
            return Err(OpenError::Fewer { dir: dir.to_path_buf(), has, asked: files });
        }
        let data = DataFiles::open(&disk, dir, files)?;
        let state = &mut replica.state;
        let mut sizes: Vec<u64> = state.files.iter().map(|mark| mark.size).collect();
        sizes.resize(files as usize, 0);
        // What is behind them was committed: it comes again by the log, or by another's state.
        data.rewind(&sizes)?;
        state.files.resize(state.machine.files() as usize, Default::default());
        if let Some(torn) = &found.torn {
            warn!(file = %torn.file.display(), offset = torn.offset, bytes = torn.bytes,
                "dropped the torn end of the log: it was never acknowledged to another member");
        }
        info!(applied = replica.index, last = found.log.last(), "recovered");
        let store = Store {
            log: found.writer.handle(),
            synced: AtomicU64::new(found.journal.0),
            checkpointed: AtomicU64::new(found.checkpoint_at.0),
            is_checkpointing: AtomicBool::new(false),
            syncs: SharedHistogram::default(),
            last_sync_us: AtomicU64::new(0),
            shortage_told: Mutex::new(None),
            log_bytes: AtomicU64::new(found.writer.bytes()),
            sealed: AtomicU64::new(found.writer.sealed_through().0),
            disk,
            private,
            data,
            writer: Mutex::new(found.writer),
        };
        Ok((
            store,
            Member {
                log: found.log,
                replica,
                journal: found.journal,
                checkpoint: found.checkpoint,
            },
        ))
    }

    /// Writes entries of the journal and makes them stable.
    pub fn save(&self, batch: &mut wal::Batch) -> Ending {
        let ending = self.write(batch);
        if ending != Ending::Done {
            return ending;
        }
        let begun = Instant::now();
        let is_forgotten = crate::mutant::is("member_sync_forgotten");
        let synced = if is_forgotten { Ok(()) } else { self.log.sync() };
        if let Err(error) = synced {
            error!(%error, "cannot sync the log");
            return Ending::Failed;
        }
        self.syncs.observe(begun.elapsed().as_micros() as u64);
        self.synced.fetch_max(batch.last.0, Ordering::Relaxed);
        self.log.note_synced(batch.last);
        Ending::Done
    }

    /// Appends to the data files; what has been published is taken off `parts`.
    pub fn publish(&self, parts: &mut VecDeque<Part>) -> Ending {
        while let Some(part) = parts.front() {
            match self.ending_of("write a data file", self.data.publish(part.file, &part.data)) {
                Ending::Done => parts.pop_front(),
                other => return other,
            };
        }
        Ending::Done
    }

    /// Counts as published what these sizes say; see [`DataFiles::rewind`].
    pub fn rewind(&self, mut sizes: Vec<u64>) -> Result<(), OpenError> {
        sizes.resize(self.data.sizes().len(), 0);
        Ok(self.data.rewind(&sizes)?)
    }

    pub fn data(&self) -> &DataFiles<D> {
        &self.data
    }

    /// Makes what was published so far stable, replaces the checkpoint, and removes what of the
    /// journal it covers.
    pub fn keep_checkpoint(
        &self,
        place: LogIndex,
        checkpoint: &Checkpoint,
    ) -> Result<(), OpenError> {
        if !crate::mutant::is("member_files_unsynced") {
            self.data.sync()?;
        }
        recover::write_checkpoint(&self.disk, &self.private, place, checkpoint)
            .map_err(MemberError::from)?;
        self.checkpointed.fetch_max(place.0, Ordering::Relaxed);
        let freed = self.remove_log(place)?;
        info!(index = checkpoint.head.index, freed, "checkpoint");
        Ok(())
    }
}

/// In the private directory.
pub const NAME: &str = "member";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_of_one_member_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::fs::create_dir(dir.join(super::super::PRIVATE_DIR)).unwrap();
        let own = Identity { node: 2, cluster: 0xABC, life: 0xDEF };
        assert_eq!(identity(dir).unwrap(), None);
        claim(dir, own).unwrap();
        assert_eq!(identity(dir).unwrap(), Some(own));
        claim(dir, own).unwrap();
        let error = claim(dir, Identity { node: 3, ..own }).unwrap_err().to_string();
        assert!(error.contains("server 2 of cluster 0000000000000abc, and this is server 3"));
    }

    #[test]
    fn a_directory_of_a_server_of_its_own_is_none_of_a_member() {
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().join(super::super::PRIVATE_DIR);
        std::fs::create_dir(&private).unwrap();
        std::fs::write(private.join("checkpoint"), "x").unwrap();
        let error = claim(dir.path(), Identity { node: 1, cluster: 1, life: 1 }).unwrap_err();
        assert!(error.to_string().contains("not in a cluster"), "{error}");
    }
}
