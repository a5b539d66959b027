//! What other threads do with the log while one writes: they make it stable, and remove what a
//! checkpoint covers.

use super::mark;
use super::segment::Segment;
use crate::disk::{Disk, DiskFile};
use crate::mutant;
use crate::types::LogIndex;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A [`Writer`](super::Writer)'s log, for any thread.
pub struct Handle<D: Disk> {
    shared: Arc<Shared<D>>,
}

struct Shared<D: Disk> {
    disk: D,
    dir: PathBuf,
    /// Oldest first.
    closed: Mutex<VecDeque<Closed>>,
    /// All other segments are synced.
    current: Mutex<Arc<D::File>>,
    /// After a failed sync the kernel may have dropped what it could not write, and a second one
    /// would succeed without having written it.
    has_failed: AtomicBool,
    mark: D::File,
    marked: AtomicU64,
}

/// A segment that takes no more entries.
pub(super) struct Closed {
    pub segment: Segment,
    /// Its last entry.
    pub last: LogIndex,
    pub bytes: u64,
}

impl<D: Disk> Handle<D> {
    pub(super) fn new(
        (disk, dir): (D, PathBuf),
        closed: Vec<Closed>,
        current: Arc<D::File>,
        (mark, synced): (D::File, LogIndex),
    ) -> Self {
        let shared = Shared {
            disk,
            dir,
            closed: Mutex::new(closed.into()),
            current: Mutex::new(current),
            has_failed: AtomicBool::new(false),
            mark,
            marked: AtomicU64::new(synced.0),
        };
        Handle { shared: Arc::new(shared) }
    }

    /// Makes stable what was written before the call. After a failure every later call fails.
    pub fn sync(&self) -> io::Result<()> {
        self.check()?;
        let file = lock(&self.shared.current).clone();
        if mutant::is("sync_error_ignored") {
            let _ = file.sync();
            return Ok(());
        }
        let is_final = !mutant::is("failed_sync_retried");
        file.sync().inspect_err(|_| self.shared.has_failed.store(is_final, Ordering::Release))
    }

    /// Leaves a note for the next start that everything up to `upto` was stable, so that it can
    /// tell damage from a torn tail. Costs a small write and no sync.
    pub fn note_synced(&self, upto: LogIndex) {
        if self.shared.marked.fetch_max(upto.0, Ordering::AcqRel) < upto.0 {
            // The log is good without the note, and one that is older is none that is wrong.
            let _ = self.shared.mark.write_at(&mark::encode(upto), 0);
        }
    }

    /// Removes the closed segments whose entries are all at or before `index`, which a checkpoint
    /// has to cover durably; the bytes freed. Writing goes on meanwhile, which is why no lock is
    /// held: to remove a file takes long. One thread at a time may do it.
    pub fn remove_through(&self, index: LogIndex) -> io::Result<u64> {
        let mut freed = 0;
        while let Some(path) = self.oldest_through(index).filter(|_| !mutant::is("log_never_cut")) {
            match self.shared.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            freed += lock(&self.shared.closed).pop_front().map_or(0, |oldest| oldest.bytes);
        }
        if freed > 0 {
            self.shared.disk.sync_dir(&self.shared.dir)?;
        }
        Ok(freed)
    }

    fn oldest_through(&self, index: LogIndex) -> Option<PathBuf> {
        let closed = lock(&self.shared.closed);
        let oldest = closed.front()?;
        let last = match () {
            _ if mutant::is("log_cut_early") => LogIndex(oldest.segment.first.0 - 1),
            _ if mutant::is("log_cut_one_early") => LogIndex(oldest.last.0 - 1),
            _ => oldest.last,
        };
        (last <= index).then(|| oldest.segment.path.clone())
    }

    /// The log goes on in this file; all before is synced.
    pub(super) fn go_on(&self, closed: Closed, current: Arc<D::File>) {
        lock(&self.shared.closed).push_back(closed);
        if !mutant::is("roll_syncs_old") {
            *lock(&self.shared.current) = current;
        }
    }

    /// Bytes in closed segments.
    pub(super) fn closed_bytes(&self) -> u64 {
        lock(&self.shared.closed).iter().map(|closed| closed.bytes).sum()
    }

    pub(super) fn check(&self) -> io::Result<()> {
        if self.shared.has_failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier sync of the write-ahead log failed"));
        }
        Ok(())
    }
}

impl<D: Disk> Clone for Handle<D> {
    fn clone(&self) -> Self {
        Handle { shared: self.shared.clone() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
