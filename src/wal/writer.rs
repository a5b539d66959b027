//! Puts entries on the disk: one write for a batch, one sync for all who wait for it.

use super::handle::{Closed, Handle};
use super::segment::{self, Segment};
use super::{Batch, Options, record};
use crate::disk::{Disk, DiskFile};
use crate::mutant;
use crate::types::LogIndex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Appends behind the last entry; made by [`super::recover`]. One thread writes at a time, while
/// others sync through a [`Handle`].
pub struct Writer<D: Disk> {
    disk: D,
    dir: PathBuf,
    options: Options,
    current: Current<D>,
    last: LogIndex,
    /// The next write goes to a new segment.
    is_full: bool,
    handle: Handle<D>,
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
    /// Up to where the kernel was told that it may write.
    hurried: u64,
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
        let place = (disk.clone(), dir.to_owned());
        let handle = Handle::new(place, closed, current.file.clone(), (mark, synced));
        let dir = dir.to_owned();
        Writer { disk, dir, options, current, last: synced, is_full: false, handle }
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
        self.handle.check()?;
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
        self.hurry();
        Ok(())
    }

    /// For other threads.
    pub fn handle(&self) -> Handle<D> {
        self.handle.clone()
    }

    /// Closes the current segment, if it has entries, and starts a new one. What was written
    /// before is stable when this succeeds. After an error it goes on where it stopped with the
    /// next write.
    pub fn roll(&mut self) -> io::Result<()> {
        self.handle.check()?;
        if self.current.offset == segment::HEADER_LEN as u64 {
            return Ok(());
        }
        self.is_full = true;
        let Current { file, offset, .. } = &self.current;
        // Cutting waits for the end of the file to be on the disk, if that has begun.
        if self.current.reserved > *offset {
            file.set_size(*offset)?;
            self.current.reserved = *offset;
        }
        if !mutant::is("roll_not_synced") {
            self.handle.sync()?;
        }
        let segment = Segment::new(&self.dir, self.last.next());
        let salt = self.options.salt;
        let file = segment::create(&self.disk, &self.dir, &segment, salt)?;
        let start = segment::HEADER_LEN as u64;
        let next: Current<D> = Current::new(segment, file, salt, start, start);
        let file = Arc::clone(&next.file);
        let Current { segment, offset: bytes, .. } = std::mem::replace(&mut self.current, next);
        self.handle.go_on(Closed { segment, last: self.last, bytes }, file);
        self.is_full = false;
        Ok(())
    }

    /// The last entry in closed segments.
    pub fn sealed_through(&self) -> LogIndex {
        self.current.before()
    }

    /// Bytes of the segments there are, as far as they are written.
    pub fn bytes(&self) -> u64 {
        self.handle.closed_bytes() + self.current.offset
    }

    /// The last entry written.
    pub fn last(&self) -> LogIndex {
        self.last
    }

    /// Has what was written begin its way to the disk, so that the sync that closes the segment, for
    /// which writes wait, finds little left to do.
    fn hurry(&mut self) {
        let Current { file, offset, hurried, .. } = &mut self.current;
        if *offset - *hurried >= HURRIED_AT_ONCE {
            file.start_writing(*hurried, *offset - *hurried);
            *hurried = *offset;
        }
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

impl<D: Disk> Current<D> {
    pub fn new(segment: Segment, file: D::File, salt: u64, offset: u64, reserved: u64) -> Self {
        Current { segment, file: Arc::new(file), salt, offset, reserved, hurried: offset }
    }

    /// The entry before its first.
    pub fn before(&self) -> LogIndex {
        LogIndex(self.segment.first.0 - 1)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Least and most room reserved at once.
const AHEAD_MIN: u64 = 256 << 10;
const AHEAD_MAX: u64 = 16 << 20;
/// Bytes that are hurried to the disk at once.
const HURRIED_AT_ONCE: u64 = 4 << 20;
