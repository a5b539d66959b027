//! The data files: `file_0`, `file_1`, … with exactly the published bytes.
//!
//! The write-ahead log is the truth and these are its fruit: they are written after the log and
//! synced only for checkpoints, which record their sizes. Recovery publishes again behind the
//! recorded sizes what the log has after the checkpoint, and cuts them there.

use crate::disk::{Disk, DiskFile};
use crate::mutant;
use crate::types::FileId;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a data file goes, and the CRC-32C of its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMark {
    pub size: u64,
    pub sum: u32,
}

impl FileMark {
    /// The file goes on with these bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sum = crc32c::crc32c_append(self.sum, bytes);
    }
}

/// The data files of a directory, all open. One thread at a time publishes, others read.
pub struct DataFiles<D: Disk> {
    dir: PathBuf,
    files: Vec<DataFile<D::File>>,
    /// After a failed sync the kernel may have dropped what it could not write, and a second one
    /// would succeed without having written it.
    has_failed: AtomicBool,
}

/// Why the data files could not be opened, cut or synced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused an operation.
    #[error("cannot {op} {}: {source}", path.display())]
    Io { path: PathBuf, op: &'static str, source: io::Error },
    /// A data file lost bytes that were stable.
    #[error(
        "{} has {found} bytes, but {recorded} were published and synced: it was cut from outside \
         or the disk lost data; restore the data directory from a backup; nothing was changed",
        path.display()
    )]
    Short { path: PathBuf, recorded: u64, found: u64 },
    /// Sizes are recorded for another number of files than there are.
    #[error("sizes of {recorded} data files are recorded, but {open} are open")]
    Count { recorded: usize, open: usize },
    /// An earlier sync failed.
    #[error(
        "an earlier sync of the data files failed; a restart repeats from the log what was lost"
    )]
    Failed,
}

struct DataFile<F> {
    file: F,
    /// Bytes published.
    size: AtomicU64,
    /// Written since the last sync.
    is_changed: AtomicBool,
}

impl<D: Disk> DataFiles<D> {
    /// Opens the first `count` files, making the missing ones, empty and durably.
    pub fn open(disk: &D, dir: &Path, count: u32) -> Result<Self, Error> {
        let mut files = Vec::with_capacity(count as usize);
        for id in 0..count {
            let path = dir.join(FileId(id).name());
            let file = disk.create(&path).map_err(Error::io(&path, "open"))?;
            let size = file.size().map_err(Error::io(&path, "read the size of"))?;
            files.push(DataFile { file, size: size.into(), is_changed: false.into() });
        }
        // Also when there are none missing: a killed start may have made them and not come here.
        if !mutant::is("data_names_unsynced") {
            disk.sync_dir(dir).map_err(Error::io(dir, "sync"))?;
        }
        Ok(DataFiles { dir: dir.to_owned(), files, has_failed: false.into() })
    }

    /// The published size of each file.
    pub fn sizes(&self) -> Vec<u64> {
        self.files.iter().map(DataFile::size).collect()
    }

    /// The published size of a file; 0 for one there is not.
    pub fn size(&self, file: FileId) -> u64 {
        self.files.get(file.0 as usize).map_or(0, DataFile::size)
    }

    /// Begins to publish again behind the sizes that a checkpoint recorded. If a file is shorter
    /// than that, none is changed.
    pub fn restore(&self, sizes: Vec<u64>) -> Result<Restore<'_, D>, Error> {
        self.check(&sizes)?;
        Ok(Restore { data: self, sizes, file: FileId(0), bytes: Vec::new() })
    }

    /// Counts as published what these sizes say. Bytes behind them stay in the files until they are
    /// published again or [adopted](Self::adopt).
    pub fn rewind(&self, sizes: &[u64]) -> Result<(), Error> {
        self.check(sizes)?;
        for (file, &size) in self.files.iter().zip(sizes) {
            file.size.store(size, Ordering::Release);
        }
        Ok(())
    }

    /// The same for one file, to a size that it has had.
    pub fn rewind_file(&self, file: FileId, size: u64) -> io::Result<()> {
        self.file(file)?.size.fetch_min(size, Ordering::AcqRel);
        Ok(())
    }

    fn check(&self, sizes: &[u64]) -> Result<(), Error> {
        if sizes.len() != self.files.len() {
            return Err(Error::Count { recorded: sizes.len(), open: self.files.len() });
        }
        for (id, (file, &recorded)) in self.files.iter().zip(sizes).enumerate() {
            let found = file.size();
            if found < recorded {
                return Err(Error::Short { path: self.path(id), recorded, found });
            }
        }
        Ok(())
    }

    /// Counts as published, up to `end`, what the file has behind its published bytes, a piece at a
    /// time; `see` is shown each. Ends early where the file does.
    pub fn adopt(&self, file: FileId, end: u64, mut see: impl FnMut(&[u8])) -> io::Result<()> {
        let file = self.file(file)?;
        // It may never have been synced.
        file.is_changed.store(!mutant::is("adopted_unsynced"), Ordering::Release);
        let end = end.min(file.file.size()?);
        let mut piece = vec![0; ADOPTED_AT_ONCE];
        while file.size() < end {
            let (size, len) = (file.size(), piece.len() as u64);
            let piece = &mut piece[..len.min(end - size) as usize];
            let read = file.file.read_at(piece, size)?;
            if read == 0 {
                break;
            }
            // A sync of it that failed is made up for only by writing it again.
            file.file.write_at(&piece[..read], size)?;
            see(&piece[..read]);
            file.size.store(size + read as u64, Ordering::Release);
        }
        Ok(())
    }

    /// Appends to what is published. After an error nothing has advanced: the same bytes go to
    /// the same place when it is tried again.
    pub fn publish(&self, file: FileId, bytes: &[u8]) -> io::Result<()> {
        let file = self.file(file)?;
        let size = file.size();
        file.is_changed.store(!mutant::is("change_not_noted"), Ordering::Release);
        let at = size + u64::from(mutant::is("append_off_by_one"));
        if let Err(error) = file.file.write_at(bytes, at) {
            if mutant::is("published_twice") {
                file.size.store(file.file.size()?, Ordering::Release);
                return Err(error);
            }
            // Whoever looks at the file meanwhile sees no half of it, if the disk allows.
            if !mutant::is("half_left_when_full") {
                let _ = file.file.set_size(size);
            }
            return Err(error);
        }
        // Again: a sync may have run since, and missed a part.
        file.is_changed.store(!mutant::is("change_not_noted"), Ordering::Release);
        file.size.store(size + bytes.len() as u64, Ordering::Release);
        Ok(())
    }

    /// Reads published bytes; fewer than asked for only at the end of what is published.
    pub fn read(&self, file: FileId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let file = self.file(file)?;
        let offset = offset + u64::from(mutant::is("read_off_by_one"));
        let there = file.size().saturating_sub(offset);
        let len = buf.len().min(usize::try_from(there).unwrap_or(usize::MAX));
        file.file.read_at(&mut buf[..len], offset)
    }

    /// Makes stable what was published before the call. After a failure every later call fails,
    /// so that no checkpoint vouches for bytes that may be lost.
    pub fn sync(&self) -> Result<(), Error> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(Error::Failed);
        }
        for (id, file) in self.files.iter().enumerate() {
            let is_left = id == 0 && mutant::is("first_file_unsynced");
            if is_left || !file.is_changed.swap(false, Ordering::AcqRel) {
                continue;
            }
            if let Err(error) = file.file.sync()
                && !mutant::is("failed_file_sync_forgotten")
            {
                self.has_failed.store(!mutant::is("file_sync_retried"), Ordering::Release);
                return Err(Error::io(&self.path(id), "sync")(error));
            }
        }
        Ok(())
    }

    fn file(&self, file: FileId) -> io::Result<&DataFile<D::File>> {
        // The log may name files that a server with a smaller number of files does not have.
        self.files.get(file.0 as usize).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{} is not open", file.name()))
        })
    }

    fn path(&self, id: usize) -> PathBuf {
        self.dir.join(FileId(id as u32).name())
    }
}

/// Publishes again in recovery: few large writes, and nothing is cut before the whole log has been
/// read, so that one that turns out to be damaged takes nothing away.
pub struct Restore<'a, D: Disk> {
    data: &'a DataFiles<D>,
    /// How far each file is published, `bytes` included.
    sizes: Vec<u64>,
    /// What is not written yet goes to the end of this file.
    file: FileId,
    bytes: Vec<u8>,
}

impl<D: Disk> Restore<'_, D> {
    /// Appends to what is published.
    pub fn publish(&mut self, file: FileId, bytes: &[u8]) -> Result<(), Error> {
        self.data.file(file).map_err(Error::io(&self.data.path(file.0 as usize), "find"))?;
        if file != self.file || self.bytes.len() + bytes.len() > RESTORED_AT_ONCE {
            self.write()?;
            self.file = file;
        }
        self.bytes.extend_from_slice(bytes);
        self.sizes[file.0 as usize] += bytes.len() as u64;
        Ok(())
    }

    /// Writes what is left, and cuts from the files what is not published.
    pub fn finish(mut self) -> Result<(), Error> {
        self.write()?;
        for (id, (file, &size)) in self.data.files.iter().zip(&self.sizes).enumerate() {
            let end = size.saturating_sub(mutant::is("file_cut_short").into());
            if file.size() > end {
                file.file.set_size(end).map_err(Error::io(&self.data.path(id), "cut"))?;
                file.is_changed.store(true, Ordering::Relaxed);
            }
            file.size.store(size, Ordering::Release);
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        let write = || {
            let file = self.data.file(self.file)?;
            let start = self.sizes[self.file.0 as usize] - self.bytes.len() as u64;
            file.is_changed.store(!mutant::is("restored_unsynced"), Ordering::Relaxed);
            file.file.write_at(&self.bytes, start)
        };
        if !self.bytes.is_empty() {
            write().map_err(Error::io(&self.data.path(self.file.0 as usize), "write"))?;
            self.bytes.clear();
        }
        Ok(())
    }
}

/// Bytes gathered for one write in recovery.
const RESTORED_AT_ONCE: usize = 1 << 20;
/// Bytes read at once from what is adopted.
const ADOPTED_AT_ONCE: usize = 256 << 10;

impl<F> DataFile<F> {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }
}

impl Error {
    fn io(path: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { path: path.to_owned(), op, source }
    }
}

#[cfg(test)]
mod tests;
