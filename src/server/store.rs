//! The data directory: recovery, and the jobs that need the disk; `checkpoint` adds checkpoints.
//!
//! ```text
//! DIR/file_0 ... file_99       published bytes, nothing else
//! DIR/.baton/lock              held by the server that uses the directory
//! DIR/.baton/checkpoint        the machine's state and the files' sizes at one entry
//! DIR/.baton/wal-*.log         the entries after it
//! ```

pub mod member;
mod replay;

use crate::data::{self, DataFiles};
use crate::disk::{Disk, RealDisk};
use crate::engine::State;
use crate::engine::solo::{Ending, Flush};
use crate::machine::Machine;
use crate::mutant;
use crate::server::backup::manifest;
use crate::server::meter::{Histogram, SharedHistogram};
use crate::server::restore::RestoreError;
use crate::types::{FileId, LogIndex};
use crate::wal::{self, Batch, Writer};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// The subdirectory for everything that is not a data file.
pub const PRIVATE_DIR: &str = ".baton";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0}: in use by another batond; each server needs a data directory of its own")]
    Busy(PathBuf),
    #[error(
        "{0} has data but no {PRIVATE_DIR} directory beside it: not a data directory of batond; \
         choose an empty directory"
    )]
    Foreign(PathBuf),
    #[error(
        "{dir} has {has} data files, and none is ever taken away: not --files {asked}, but at \
        least --files {has}"
    )]
    Fewer { dir: PathBuf, has: u32, asked: u32 },
    #[error(transparent)]
    Member(#[from] member::MemberError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Wal(#[from] wal::Error),
    #[error(transparent)]
    Data(#[from] data::Error),
    #[error(
        "{path}: the state after entry {index} is of another version of the program ({why}): start \
         the one that wrote it"
    )]
    State { path: PathBuf, index: LogIndex, why: String },
}

/// What recovery has found.
pub struct Recovered {
    pub machine: Machine,
    pub last: LogIndex,
}

pub struct Store<D: Disk = RealDisk> {
    pub(super) disk: D,
    pub(super) private: PathBuf,
    pub(super) data: DataFiles<D>,
    pub(super) writer: Mutex<Writer<D>>,
    pub(super) log: wal::Handle<D>,
    synced: AtomicU64,
    pub(super) checkpointed: AtomicU64,
    is_checkpointing: AtomicBool,
    /// As of the last write or checkpoint: whoever asks must not wait for a write.
    pub(super) log_bytes: AtomicU64,
    /// The last entry in closed segments of the log.
    pub(super) sealed: AtomicU64,
    /// How long syncs of the log took.
    syncs: SharedHistogram,
    last_sync_us: AtomicU64,
    /// When it was said last that there is no room.
    shortage_told: Mutex<Option<Instant>>,
}

/// Locks the data directory against other servers for as long as the result lives.
pub fn lock_dir(dir: &Path) -> Result<Flock<File>, OpenError> {
    let private = dir.join(PRIVATE_DIR);
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| OpenError::Io { path, source }
    };
    if !private.exists() {
        refuse_foreign(dir)?;
        std::fs::create_dir_all(&private).map_err(at(&private))?;
    }
    let path = private.join("lock");
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).open(&path).map_err(at(&path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => OpenError::Busy(dir.to_path_buf()),
        other => OpenError::Io { path, source: other.into() },
    })
}

/// A directory that is not ours yet must not hold files that recovery would cut.
fn refuse_foreign(dir: &Path) -> Result<(), OpenError> {
    let Ok(names) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in names.flatten() {
        let name = entry.file_name();
        let is_ours = FileId::from_name(name.as_encoded_bytes(), u32::MAX).is_some();
        if is_ours && entry.metadata().is_ok_and(|meta| meta.len() > 0) {
            return Err(OpenError::Foreign(entry.path()));
        }
    }
    Ok(())
}

impl From<manifest::Error> for OpenError {
    fn from(error: manifest::Error) -> Self {
        RestoreError::from(error).into()
    }
}

impl OpenError {
    /// What the system refused, where nothing else is wrong: another start may go better.
    pub fn refusal(&self) -> Option<&io::Error> {
        match self {
            OpenError::Io { source, .. }
            | OpenError::Wal(wal::Error::Io { source, .. })
            | OpenError::Data(data::Error::Io { source, .. })
            | OpenError::Restore(RestoreError::Backup(manifest::Error::Io { source, .. }))
            | OpenError::Member(member::MemberError::Recover(
                crate::engine::cluster::recover::Error::Wal(wal::Error::Io { source, .. }),
            )) => Some(source),
            _ => None,
        }
    }

    /// There was no room on the disk: worth trying again when there is.
    pub fn is_full(&self) -> bool {
        self.refusal().is_some_and(is_full)
    }
}

impl<D: Disk> Store<D> {
    /// Recovers what the directory holds; makes it when it is new.
    pub fn open(
        disk: D,
        dir: &Path,
        files: u32,
        options: &wal::Options,
    ) -> Result<(Self, Recovered), OpenError> {
        let private = dir.join(PRIVATE_DIR);
        disk.create_dir(&private)
            .map_err(|source| OpenError::Io { path: private.clone(), source })?;
        let (after, state) = read_state(&disk, &private)?;
        let has = files_there(&disk, dir, state.machine.files())?;
        if files < has {
            return Err(OpenError::Fewer { dir: dir.to_path_buf(), has, asked: files });
        }
        let data = DataFiles::open(&disk, dir, files)?;
        let mut sizes: Vec<u64> = state.files.iter().map(|mark| mark.size).collect();
        sizes.resize(files as usize, 0);
        let sizes = if mutant::is("files_not_cut") { data.sizes() } else { sizes };
        let mut restore = data.restore(sizes)?;
        let mut machine = state.machine;
        let read =
            |visit: &mut wal::Visit<'_>| wal::recover(&disk, &private, options, after, visit);
        let (writer, found) = replay::replay(&mut machine, &mut restore, options.gathered, read)?;
        restore.finish()?;
        if let Some(torn) = &found.torn {
            warn!(file = %torn.file.display(), offset = torn.offset, bytes = torn.bytes,
                "dropped the torn end of the log: it was never acknowledged as stable");
        }
        if found.lost_synced {
            error!("the log ends before entries that had been acknowledged: they are lost");
        }
        info!(last = found.last.0, entries = found.entries, bytes = found.bytes, "recovered");
        let store = Store {
            log: writer.handle(),
            synced: AtomicU64::new(found.last.0),
            checkpointed: AtomicU64::new(after.0),
            is_checkpointing: AtomicBool::new(false),
            log_bytes: AtomicU64::new(writer.bytes()),
            sealed: AtomicU64::new(writer.sealed_through().0),
            syncs: SharedHistogram::default(),
            last_sync_us: AtomicU64::new(0),
            shortage_told: Mutex::new(None),
            disk,
            private,
            data,
            writer: Mutex::new(writer),
        };
        Ok((store, Recovered { machine, last: found.last }))
    }

    /// Writes a batch of entries behind the log.
    pub fn write(&self, batch: &mut Batch) -> Ending {
        let mut writer = lock(&self.writer);
        let ending = self.ending_of("write the log", writer.write(batch, self.synced()));
        self.log_bytes.store(writer.bytes(), Ordering::Relaxed);
        self.sealed.store(writer.sealed_through().0, Ordering::Relaxed);
        if mutant::is("mark_ahead") {
            self.log.note_synced(writer.last());
        }
        ending
    }

    /// Makes the log stable and publishes; what has been published is taken off `flush`.
    pub fn flush(&self, flush: &mut Flush) -> Ending {
        loop {
            if let Some(ending) = self.flush_step(flush) {
                return ending;
            }
        }
    }

    /// One step of [`Store::flush`]: syncs, or publishes one part. How it ended, unless there is
    /// more to do.
    pub fn flush_step(&self, flush: &mut Flush) -> Option<Ending> {
        if flush.needs_sync && mutant::is("publish_before_sync") && !flush.parts.is_empty() {
            return self.publish_next(flush).filter(|ending| *ending != Ending::Done);
        }
        if flush.needs_sync && !mutant::is("sync_forgotten") {
            let begun = Instant::now();
            // A sync that failed is never tried again: the kernel may have dropped the pages.
            if let Err(error) = self.log.sync() {
                error!(%error, "cannot sync the log: nothing is acknowledged any more; \
                    check the disk, then restart");
                return Some(Ending::Failed);
            }
            let taken = begun.elapsed().as_micros() as u64;
            self.syncs.observe(taken);
            self.last_sync_us.store(taken, Ordering::Relaxed);
            self.synced.fetch_max(flush.through.0, Ordering::Relaxed);
            self.log.note_synced(flush.through);
            flush.needs_sync = false;
            return flush.parts.is_empty().then_some(Ending::Done);
        }
        self.publish_next(flush)
    }

    fn publish_next(&self, flush: &mut Flush) -> Option<Ending> {
        let Some(part) = flush.parts.front() else { return Some(Ending::Done) };
        let written = self.data.publish(part.file, &part.data);
        match self.ending_of("write a data file", written) {
            Ending::Done if mutant::is("part_published") => {
                flush.parts.clear();
                None
            }
            Ending::Done => flush.parts.pop_front(),
            other => return Some(other),
        };
        flush.parts.is_empty().then_some(Ending::Done)
    }

    /// Published bytes of a file from an offset, and its published size.
    pub fn read(&self, file: FileId, offset: u64, buf: &mut [u8]) -> io::Result<(usize, u64)> {
        let size = self.data.size(file);
        Ok((self.data.read(file, offset, buf)?, size + u64::from(mutant::is("read_past_the_end"))))
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        self.private.parent().unwrap_or(&self.private)
    }

    /// Bytes of all data files together.
    pub fn published_bytes(&self) -> u64 {
        self.data.sizes().iter().sum()
    }

    /// Bytes of the write-ahead log.
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// How long the last sync of the log took.
    pub fn last_sync(&self) -> Duration {
        Duration::from_micros(self.last_sync_us.load(Ordering::Relaxed))
    }

    /// How long syncs of the log took.
    pub fn syncs(&self) -> Histogram {
        self.syncs.read()
    }

    /// The newest entry that a checkpoint has.
    pub fn checkpointed(&self) -> u64 {
        self.checkpointed.load(Ordering::Relaxed)
    }

    /// The published size of each data file.
    pub fn sizes(&self) -> Vec<u64> {
        self.data.sizes()
    }

    /// Tells a full disk, which can be waited out, from a broken one.
    fn ending_of(&self, what: &str, result: io::Result<()>) -> Ending {
        let Err(error) = result else { return Ending::Done };
        if !is_full(&error) {
            error!(%error, "cannot {what}: nothing is acknowledged any more; check the disk, then \
                restart");
            return Ending::Failed;
        }
        // It is tried again many times in this time.
        let mut told = lock(&self.shortage_told);
        if told.is_none_or(|at| at.elapsed() >= SHORTAGE_EVERY) {
            *told = Some(Instant::now());
            warn!(%error, "cannot {what}: waiting for room on the disk");
        }
        Ending::Full
    }

    /// Bytes free on the disk; unknown counts as plenty.
    pub fn room(&self) -> u64 {
        self.disk.room(&self.private).unwrap_or(u64::MAX)
    }

    /// Whether a segment of the log is closed that no checkpoint covers.
    pub fn has_sealed(&self) -> bool {
        self.sealed.load(Ordering::Relaxed) > self.checkpointed.load(Ordering::Relaxed)
    }

    /// Whether a checkpoint should be made now; if so, the caller makes it and then says that it
    /// has ended. One at a time.
    pub fn begin_checkpoint(&self, published: LogIndex, is_low: bool) -> Due {
        let done = self.checkpointed.load(Ordering::Relaxed);
        let Ok(mut writer) = self.writer.try_lock() else { return Due::Not };
        // The log itself may be what fills the disk.
        let is_to_end = is_low && writer.bytes() >= LOW_ROOM_LOG;
        if is_to_end && writer.sealed_through().0 <= done && writer.roll().is_err() {
            return Due::Not;
        }
        match writer.sealed_through() {
            through if through.0 <= done => Due::Not,
            through if through > published && mutant::is("log_waits_for_release") => Due::Not,
            through if through > published => Due::OncePublished,
            _ if self.begin_reading_log() => Due::Now,
            _ => Due::Not,
        }
    }

    /// Whether the log may be read from the checkpoint on: then no checkpoint replaces either until
    /// the caller says that it has ended.
    pub fn begin_reading_log(&self) -> bool {
        !self.is_checkpointing.swap(true, Ordering::Acquire)
    }

    pub fn end_checkpoint(&self) {
        self.is_checkpointing.store(false, Ordering::Release);
    }

    fn synced(&self) -> LogIndex {
        LogIndex(self.synced.load(Ordering::Relaxed))
    }
}

/// Whether a checkpoint should be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Not,
    /// What the log has is to be stable and published first. Nobody may wait for that: a section
    /// that is given up publishes nothing.
    OncePublished,
    Now,
}

/// How many data files there are. They are made before the log says so, and a checkpoint may be
/// older than both.
fn files_there<D: Disk>(disk: &D, dir: &Path, recorded: u32) -> Result<u32, OpenError> {
    let names =
        disk.list(dir).map_err(|source| OpenError::Io { path: dir.to_path_buf(), source })?;
    let mut files = 0;
    while names.binary_search(&FileId(files).name()).is_ok() {
        files += 1;
    }
    Ok(files.max(recorded))
}

/// Want of room is told this often.
const SHORTAGE_EVERY: Duration = Duration::from_secs(10);

/// On a disk that is nearly full a log of this size is worth a checkpoint.
const LOW_ROOM_LOG: u64 = 1 << 20;

pub(super) fn read_state<D: Disk>(
    disk: &D,
    private: &Path,
) -> Result<(LogIndex, State), OpenError> {
    let Some(found) = wal::read_checkpoint(disk, private)? else {
        write_state(disk, private, LogIndex(0), &State::default())?;
        return Ok((LogIndex(0), State::default()));
    };
    let state = postcard::from_bytes(&found.state).map_err(|error| OpenError::State {
        path: private.join("checkpoint"),
        index: found.index,
        why: error.to_string(),
    })?;
    Ok((found.index, state))
}

pub(super) fn write_state<D: Disk>(
    disk: &D,
    private: &Path,
    index: LogIndex,
    state: &State,
) -> Result<(), OpenError> {
    let bytes = postcard::to_stdvec(state).map_err(|error| OpenError::State {
        path: private.join("checkpoint"),
        index,
        why: error.to_string(),
    })?;
    Ok(wal::write_checkpoint(disk, private, index, &[&bytes])?)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// No code panics while it has one of these locks; should it, the process ends.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
