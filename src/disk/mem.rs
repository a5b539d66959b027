//! A disk in memory that fails and forgets, for tests and simulation.
//!
//! It is harsher than most file systems. At a power loss each unsynced 512-byte sector keeps its
//! synced content or any later one, independently of all others; a file keeps its synced size or
//! any later one; and each unsynced creation, renaming or removal has happened or not. Everything
//! follows from the operations and a seed. Directories themselves are durable at once.

mod content;

use super::{Disk, DiskFile};
use content::{Content, Random};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The disk; clones are the same disk.
#[derive(Clone, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`MemDisk`].
pub struct MemFile {
    disk: MemDisk,
    id: usize,
}

/// What goes wrong, and when. Operations that change something, and syncs, are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// That operation fails once with an input/output error; a write leaves half of its bytes,
    /// any other has no effect.
    Error(u64),
    /// The power fails during that operation, which may have its effect or not; it and all later
    /// ones fail.
    PowerOff(u64),
}

#[derive(Default)]
struct State {
    files: Vec<Content>,
    directories: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names since the last sync of their directory, in order.
    changes: Vec<Change>,
    room_max: Option<u64>,
    fault: Option<Fault>,
    operations: u64,
}

#[derive(Clone)]
enum Change {
    Create { path: PathBuf, id: usize },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
}

impl MemDisk {
    /// An empty disk without limit or fault.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all files together have at most this many bytes.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.lock().room_max = bytes;
    }

    /// Makes something go wrong, or nothing any more.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// How many operations there were so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// What a power loss at this moment may leave: another disk, without limit or fault. This one
    /// stays as it is.
    pub fn after_power_loss(&self, seed: u64) -> MemDisk {
        let state = self.lock();
        let mut random = Random(seed);
        let mut names = state.durable_names.clone();
        for change in &state.changes {
            if random.below(2) == 0 {
                change.apply(&mut names);
            }
        }
        state.copy(names, |file| file.after_power_loss(&mut random))
    }

    /// A copy that shares nothing, as if all had been synced; without limit or fault.
    pub fn snapshot(&self) -> MemDisk {
        let state = self.lock();
        state.copy(state.names.clone(), |file| Content::durable(file.bytes.clone()))
    }

    /// All bytes of a file.
    pub fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.lock();
        Ok(state.files[state.find(path)?].bytes.clone())
    }

    /// Makes a file be these bytes, durably: damage done from outside.
    pub fn put_file(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.lock();
        let id = state.files.len();
        state.files.push(Content::durable(bytes.to_vec()));
        state.names.insert(path.to_owned(), id);
        state.durable_names.insert(path.to_owned(), id);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemDisk {
    type File = MemFile;

    fn open(&self, path: &Path) -> io::Result<MemFile> {
        let state = self.lock();
        state.check_power()?;
        Ok(MemFile { disk: self.clone(), id: state.find(path)? })
    }

    fn create(&self, path: &Path) -> io::Result<MemFile> {
        let mut state = self.lock();
        if let Ok(id) = state.find(path) {
            state.check_power()?;
            return Ok(MemFile { disk: self.clone(), id });
        }
        if !path.parent().is_some_and(|dir| state.directories.contains(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let id = state.files.len();
        state.files.push(Content::default());
        state.change(Change::Create { path: path.to_owned(), id })?;
        Ok(MemFile { disk: self.clone(), id })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.check_power()?;
        if !state.directories.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let all = state.names.keys().chain(&state.directories);
        let mut names: Vec<_> = all
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check_power()?;
        state.directories.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.find(from)?;
        state.change(Change::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.find(path)?;
        state.change(Change::Remove { path: path.to_owned() })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin()?;
        for change in std::mem::take(&mut state.changes) {
            if change.path().parent() == Some(dir) {
                change.apply(&mut state.durable_names);
            } else {
                state.changes.push(change);
            }
        }
        Ok(())
    }

    fn room(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.lock();
        state.check_power()?;
        Ok(state.room())
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.lock();
        state.check_power()?;
        let bytes = &state.files[self.id].bytes;
        let from = bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let had_power = state.has_power();
        let mut result = state.begin();
        let mut len = match &result {
            Err(_) if !had_power => 0,
            Err(_) if state.has_power() => bytes.len() / 2,
            _ => bytes.len(),
        };
        let offset = offset as usize;
        let fits = state.files[self.id].bytes.len() + state.room() as usize;
        if offset + len > fits {
            len = fits.saturating_sub(offset);
            result = Err(no_space());
        }
        if len > 0 {
            state.files[self.id].write(&bytes[..len], offset);
        }
        result
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.begin()?;
        state.files[self.id].sync();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        state.check_power()?;
        Ok(state.files[self.id].bytes.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        if size > state.files[self.id].bytes.len() as u64 + state.room() {
            return Err(no_space());
        }
        let (has_effect, result) = state.begin_change();
        if has_effect {
            state.files[self.id].set_size(size as usize);
        }
        result
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        if self.size()? >= size { Ok(()) } else { self.set_size(size) }
    }
}

impl State {
    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Counts an operation, and says whether it fails.
    fn begin(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some(Fault::Error(at)) if number == at => Err(io::Error::from_raw_os_error(libc::EIO)),
            Some(Fault::PowerOff(at)) if number >= at => Err(power_is_off()),
            _ => Ok(()),
        }
    }

    /// As [`State::begin`]; also says whether there is an unsynced effect: of the operation during
    /// which the power fails there is, though it fails.
    fn begin_change(&mut self) -> (bool, io::Result<()>) {
        let had_power = self.has_power();
        let result = self.begin();
        (result.is_ok() || (had_power && !self.has_power()), result)
    }

    fn has_power(&self) -> bool {
        !matches!(self.fault, Some(Fault::PowerOff(at)) if self.operations > at)
    }

    fn check_power(&self) -> io::Result<()> {
        if self.has_power() { Ok(()) } else { Err(power_is_off()) }
    }

    /// Bytes that files can still grow by.
    fn room(&self) -> u64 {
        let used: usize = self.names.values().map(|&id| self.files[id].bytes.len()).sum();
        self.room_max.map_or(ROOM, |max| max.saturating_sub(used as u64))
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        let (has_effect, result) = self.begin_change();
        if has_effect {
            change.apply(&mut self.names);
            self.changes.push(change);
        }
        result
    }

    /// Another disk with these names, all durable.
    fn copy(
        &self,
        names: BTreeMap<PathBuf, usize>,
        mut copy: impl FnMut(&Content) -> Content,
    ) -> MemDisk {
        let mut files = vec![Content::default(); self.files.len()];
        for &id in names.values() {
            files[id] = copy(&self.files[id]);
        }
        let directories = self.directories.clone();
        let durable_names = names.clone();
        let state = State { files, directories, names, durable_names, ..State::default() };
        MemDisk { state: Arc::new(Mutex::new(state)) }
    }
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Change::Create { path, .. } | Change::Remove { path } => path,
            Change::Rename { to, .. } => to,
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Change::Create { path, id } => {
                names.insert(path.clone(), *id);
            }
            Change::Rename { from, to } => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Change::Remove { path } => {
                names.remove(path);
            }
        }
    }
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

/// What is free on a disk without limit.
const ROOM: u64 = 1 << 30;

#[cfg(test)]
mod tests;
