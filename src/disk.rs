//! The disk as an argument: the log and the data files do their input and output through [`Disk`],
//! so that tests and the simulator can put a failing, forgetting disk in its place.

pub mod mem;

use crate::{mutant, sys};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file system. Nothing is durable before the matching `sync` or `sync_dir` returned.
pub trait Disk: Clone + Send + Sync + 'static {
    /// What [`Disk::open`] and [`Disk::create`] return.
    type File: DiskFile;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file for reading and writing, making an empty one if there is none.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory and its missing parents.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file over whatever has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that can still be written below this directory.
    fn room(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file; usable from several threads at once.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads at an offset; short only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at an offset. After an error any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// These bytes were written and will be synced: the device may have them already.
    fn start_writing(&self, _from: u64, _len: u64) {}
    /// Makes contents and length durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts the file, or extends it with zeros.
    fn set_size(&self, size: u64) -> io::Result<()>;
    /// Makes sure that bytes up to `size` can be written without running out of space, extending
    /// the file with zeros where it is shorter.
    fn reserve(&self, size: u64) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    type File = fs::File;

    fn open(&self, path: &Path) -> io::Result<fs::File> {
        fs::File::options().read(true).write(true).open(path)
    }

    fn create(&self, path: &Path) -> io::Result<fs::File> {
        fs::File::options().read(true).write(true).create(true).truncate(false).open(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not Unicode is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn room(&self, dir: &Path) -> io::Result<u64> {
        let stat = statvfs(dir)?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }
}

impl DiskFile for fs::File {
    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while !buf.is_empty() {
            match FileExt::read_at(self, buf, offset) {
                Ok(0) => break,
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                    done += n;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn start_writing(&self, from: u64, len: u64) {
        sys::start_writing(self, from, len);
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        let have = DiskFile::size(self)?;
        if have >= size {
            return Ok(());
        }
        let (from, len) = (have as libc::off_t, (size - have) as libc::off_t);
        match fallocate(self, FallocateFlags::empty(), from, len) {
            // A file system without the call extends as it is written.
            Err(nix::errno::Errno::EOPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Writes a file, piece behind piece, so that after a crash there is either the old one or the new one,
/// whole.
pub fn replace_file<D: Disk>(disk: &D, path: &Path, pieces: &[&[u8]]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let file = disk.create(&temporary)?;
    file.set_size(0)?;
    let mut size = 0;
    for piece in pieces {
        file.write_at(piece, size)?;
        size += piece.len() as u64;
    }
    if !mutant::is("replaced_unsynced") {
        file.sync()?;
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let sync_names = || if mutant::is("names_unsynced") { Ok(()) } else { disk.sync_dir(dir) };
    // Not every file system keeps changes of names in order. The temporary name may still stand for a
    // file of an attempt that failed, and a rename that a crash keeps must not be of that one.
    sync_names()?;
    disk.rename(&temporary, path)?;
    sync_names()
}
