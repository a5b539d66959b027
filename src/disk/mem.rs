//! A disk in memory that fails and forgets, for tests and simulation.
//!
//! It is harsher than most file systems. At a power loss each unsynced 512-byte sector keeps its
//! synced content or any later one, independently of all others; a file keeps its synced size or
//! any later one; and each unsynced creation, renaming or removal has happened or not. Everything
//! follows from the operations and a seed. Directories themselves are durable at once.

mod content;
mod state;

use super::{Disk, DiskFile};
use content::{Content, Random};
use state::{Change, State, no_space};
use std::io;
use std::path::Path;
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
    /// The same, as if there were no space.
    Full(u64),
    /// That read, or the next one after it, fails once; reads are counted on their own, from 0.
    Read(u64),
    /// The power fails during that operation, which may have its effect or not; it and all later
    /// ones fail.
    PowerOff(u64),
}

/// A moment at which another thread may come in between.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Right before something is written.
    Write,
    /// Right after something was synced.
    Synced,
}

impl MemDisk {
    /// Does this at the next such moment, as another thread might.
    #[cfg(test)]
    pub fn interrupt(&self, moment: Moment, what: impl FnOnce() + Send + 'static) {
        self.lock().interruption = Some((moment, Box::new(what)));
    }

    #[cfg(test)]
    fn pass(&self, moment: Moment) {
        let due = self.lock().interruption.take_if(|(at, _)| *at == moment);
        if let Some((_, what)) = due {
            what();
        }
    }

    /// An empty disk without limit or fault.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all files together have at most this many bytes.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.lock().room_max = bytes;
    }

    /// Makes something go wrong, or nothing any more; returns what was to go wrong before.
    pub fn set_fault(&self, fault: Option<Fault>) -> Option<Fault> {
        std::mem::replace(&mut self.lock().fault, fault)
    }

    /// Whether no [`Fault::PowerOff`] has come yet.
    pub fn has_power(&self) -> bool {
        self.lock().has_power()
    }

    /// Bytes in all files together.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// How many operations there were so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// How many reads there were so far.
    pub fn reads(&self) -> u64 {
        self.lock().reads
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
        MemDisk::from(state.copy(names, |file| file.after_power_loss(&mut random)))
    }

    /// The least that a power loss at this moment leaves: what was synced and nothing else.
    pub fn after_worst_power_loss(&self) -> MemDisk {
        let state = self.lock();
        MemDisk::from(state.copy(state.durable_names.clone(), Content::synced))
    }

    /// A copy that shares nothing, as if all had been synced; without limit or fault.
    pub fn snapshot(&self) -> MemDisk {
        let state = self.lock();
        let copy = |file: &Content| Content::durable(file.bytes.clone());
        MemDisk::from(state.copy(state.names.clone(), copy))
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

impl From<State> for MemDisk {
    fn from(state: State) -> Self {
        MemDisk { state: Arc::new(Mutex::new(state)) }
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
        let mut state = self.disk.lock();
        state.begin_read()?;
        let bytes = &state.files[self.id].bytes;
        let from = bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.disk.pass(Moment::Write);
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
        let result = state.begin();
        match result {
            Ok(()) => state.files[self.id].sync(),
            Err(_) if state.has_power() => state.files[self.id].fail_to_sync(),
            Err(_) => {}
        }
        drop(state);
        #[cfg(test)]
        self.disk.pass(Moment::Synced);
        result
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

#[cfg(test)]
mod tests;
