//! Puts entries on the disk: one write for a batch, one sync for all who wait for it.

use super::segment::{self, Segment};
use super::{Batch, Options, mark, record};
use crate::disk::{Disk, DiskFile};
use crate::mutant;
use crate::types::LogIndex;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Appends behind the last entry; made by [`super::recover`]. One thread writes at a time, while
/// others sync through [`SyncHandle`].
pub struct Writer<D: Disk> {
    disk: D,
    dir: PathBuf,
    options: Options,
    closed: VecDeque<Closed>,
    current: Current<D>,
    last: LogIndex,
    /// The next write goes to a new segment.
    is_full: bool,
    sync: SyncHandle<D>,
}

/// Makes written entries stable, from any thread, also while [`Writer::write`] goes on.
pub struct SyncHandle<D: Disk> {
    shared: Arc<Shared<D>>,
}

/// A segment that takes no more entries.
pub(super) struct Closed {
    pub segment: Segment,
    pub bytes: u64,
}

/// The segment in which the log goes on.
pub(super) struct Current<D: Disk> {
    segment: Segment,
    file: Arc<D::File>,
    salt: u64,
    /// Where the next entry goes.
    offset: u64,
    /// Up to where the file system has promised room.
    reserved: u64,
}

struct Shared<D: Disk> {
    /// All other segments are synced.
    current: Mutex<Arc<D::File>>,
    /// After a failed sync the kernel may have dropped what it could not write, and a second one
    /// would succeed without having written it.
    has_failed: AtomicBool,
    mark: D::File,
    marked: AtomicU64,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(
        disk: D,
        dir: &Path,
        options: Options,
        closed: Vec<Closed>,
        current: Current<D>,
        (mark, synced): (D::File, LogIndex),
    ) -> Self {
        let shared = Shared {
            current: Mutex::new(current.file.clone()),
            has_failed: AtomicBool::new(false),
            mark,
            marked: AtomicU64::new(synced.0),
        };
        Writer {
            disk,
            dir: dir.to_owned(),
            options,
            closed: closed.into(),
            current,
            last: synced,
            is_full: false,
            sync: SyncHandle { shared: Arc::new(shared) },
        }
    }

    /// Hands a batch to the kernel, in one piece and in one segment; `synced` is the highest
    /// index known to be stable. After an error nothing has advanced: the same batch, and no
    /// other, may be written again, for instance when there is room again. After a failed sync
    /// every write fails.
    pub fn write(&mut self, batch: &mut Batch, synced: LogIndex) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        assert!(batch.first == self.last.next(), "entry {} after {}", batch.first, self.last);
        assert!(synced <= self.last, "{synced} synced of {}", self.last);
        self.sync.check()?;
        if self.is_full || self.current.offset >= self.options.segment_max {
            self.roll()?;
        }
        let is_ahead = mutant::is("entries_vouch");
        let synced = if is_ahead { LogIndex(batch.first.0 - 1) } else { synced };
        record::seal(&mut batch.bytes, synced, self.current.salt);
        let end = self.current.offset + batch.bytes.len() as u64;
        self.reserve(end)?;
        self.current.file.write_at(&batch.bytes, self.current.offset)?;
        self.current.offset = end;
        self.last = batch.last;
        Ok(())
    }

    /// What makes entries stable.
    pub fn sync_handle(&self) -> SyncHandle<D> {
        self.sync.clone()
    }

    /// As [`SyncHandle::note_synced`].
    pub fn note_synced(&self, upto: LogIndex) {
        self.sync.note_synced(upto);
    }

    /// Closes the current segment, if it has entries, and starts a new one. What was written
    /// before is stable when this succeeds. After an error it goes on where it stopped with the
    /// next write.
    pub fn roll(&mut self) -> io::Result<()> {
        self.sync.check()?;
        if self.current.offset == segment::HEADER_LEN as u64 {
            return Ok(());
        }
        self.is_full = true;
        let Current { file, offset, .. } = &self.current;
        file.set_size(*offset)?;
        self.current.reserved = *offset;
        if !mutant::is("roll_not_synced") {
            self.sync.sync()?;
        }
        let segment = Segment::new(&self.dir, self.last.next());
        let salt = self.options.salt;
        let file = segment::create(&self.disk, &self.dir, &segment, salt)?;
        let start = segment::HEADER_LEN as u64;
        let next: Current<D> = Current::new(segment, file, salt, start, start);
        if !mutant::is("roll_syncs_old") {
            *self.sync.current() = Arc::clone(&next.file);
        }
        let Current { segment, offset: bytes, .. } = std::mem::replace(&mut self.current, next);
        self.closed.push_back(Closed { segment, bytes });
        self.is_full = false;
        Ok(())
    }

    /// Removes the closed segments whose entries are all at or before `index`, which a checkpoint
    /// has to cover durably; the bytes freed.
    pub fn remove_through(&mut self, index: LogIndex) -> io::Result<u64> {
        let mut freed = 0;
        while let Some(oldest) = self.closed.front() {
            let following = self.closed.get(1).map_or(&self.current.segment, |next| &next.segment);
            let spared =
                if mutant::is("log_cut_early") { oldest.segment.first } else { following.first };
            let is_early = mutant::is("log_cut_one_early");
            if spared > if is_early { index.next().next() } else { index.next() } {
                break;
            }
            match self.disk.remove(&oldest.segment.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => freed += oldest.bytes,
            }
            self.closed.pop_front();
        }
        if freed > 0 {
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(freed)
    }

    /// The last entry in closed segments.
    pub fn sealed_through(&self) -> LogIndex {
        LogIndex(self.current.segment.first.0 - 1)
    }

    /// Bytes of the segments there are, as far as they are written.
    pub fn bytes(&self) -> u64 {
        self.closed.iter().map(|closed| closed.bytes).sum::<u64>() + self.current.offset
    }

    /// The last entry written.
    pub fn last(&self) -> LogIndex {
        self.last
    }

    /// Reserves room ahead, so that few writes change the file's length; on a disk that is
    /// nearly full only what is needed.
    fn reserve(&mut self, end: u64) -> io::Result<()> {
        let current = &mut self.current;
        if end <= current.reserved {
            return Ok(());
        }
        let ahead = (self.disk.room(&self.dir)? / 64).clamp(AHEAD_MIN, AHEAD_MAX);
        let wanted = (end + ahead).min(self.options.segment_max).max(end);
        let reserved = match current.file.reserve(wanted) {
            Err(error) if is_full(&error) => current.file.reserve(end).map(|()| end)?,
            result => result.map(|()| wanted)?,
        };
        current.reserved = reserved;
        Ok(())
    }
}

impl<D: Disk> SyncHandle<D> {
    /// Makes stable what was written before the call. After a failure every later call fails.
    pub fn sync(&self) -> io::Result<()> {
        self.check()?;
        let file = self.current().clone();
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

    fn check(&self) -> io::Result<()> {
        if self.shared.has_failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier sync of the write-ahead log failed"));
        }
        Ok(())
    }

    fn current(&self) -> MutexGuard<'_, Arc<D::File>> {
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Disk> Clone for SyncHandle<D> {
    fn clone(&self) -> Self {
        SyncHandle { shared: self.shared.clone() }
    }
}

impl<D: Disk> Current<D> {
    pub fn new(segment: Segment, file: D::File, salt: u64, offset: u64, reserved: u64) -> Self {
        Current { segment, file: Arc::new(file), salt, offset, reserved }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Least and most room reserved at once.
const AHEAD_MIN: u64 = 256 << 10;
const AHEAD_MAX: u64 = 16 << 20;
