//! What the disk consists of, and when its operations fail.

use super::Fault;
use super::content::Content;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Default)]
pub(super) struct State {
    pub files: Vec<Content>,
    pub directories: BTreeSet<PathBuf>,
    pub names: BTreeMap<PathBuf, usize>,
    pub durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names since the last sync of their directory, in order.
    pub changes: Vec<Change>,
    pub room_max: Option<u64>,
    pub fault: Option<Fault>,
    pub operations: u64,
    pub reads: u64,
    #[cfg(test)]
    pub interruption: Option<(super::Moment, Box<dyn FnOnce() + Send>)>,
}

#[derive(Clone)]
pub(super) enum Change {
    Create { path: PathBuf, id: usize },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
}

impl State {
    pub fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Counts an operation, and says whether it fails.
    pub fn begin(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some(Fault::Error(at)) if number == at => Err(bad_sector()),
            Some(Fault::Full(at)) if number == at => Err(no_space()),
            Some(Fault::PowerOff(at)) if number >= at => Err(power_is_off()),
            _ => Ok(()),
        }
    }

    /// Counts a read, and says whether it fails.
    pub fn begin_read(&mut self) -> io::Result<()> {
        let number = self.reads;
        self.reads += 1;
        match self.fault {
            Some(Fault::Read(at)) if number >= at => {
                self.fault = None;
                Err(bad_sector())
            }
            _ => self.check_power(),
        }
    }

    /// As [`State::begin`]; also says whether there is an unsynced effect: of the operation during
    /// which the power fails there is, though it fails.
    pub fn begin_change(&mut self) -> (bool, io::Result<()>) {
        let had_power = self.has_power();
        let result = self.begin();
        (result.is_ok() || (had_power && !self.has_power()), result)
    }

    pub fn has_power(&self) -> bool {
        !matches!(self.fault, Some(Fault::PowerOff(at)) if self.operations > at)
    }

    pub fn check_power(&self) -> io::Result<()> {
        if self.has_power() { Ok(()) } else { Err(power_is_off()) }
    }

    /// Bytes that files can still grow by.
    pub fn room(&self) -> u64 {
        self.room_max.map_or(ROOM, |max| max.saturating_sub(self.used()))
    }

    /// Bytes in all files together.
    pub fn used(&self) -> u64 {
        self.names.values().map(|&id| self.files[id].bytes.len() as u64).sum()
    }

    pub fn change(&mut self, change: Change) -> io::Result<()> {
        let (has_effect, result) = self.begin_change();
        if has_effect {
            change.apply(&mut self.names);
            self.changes.push(change);
        }
        result
    }

    /// What another disk with these names would be, all of it durable.
    pub fn copy(
        &self,
        names: BTreeMap<PathBuf, usize>,
        mut copy: impl FnMut(&Content) -> Content,
    ) -> State {
        let mut files = vec![Content::default(); self.files.len()];
        for &id in names.values() {
            files[id] = copy(&self.files[id]);
        }
        let directories = self.directories.clone();
        let durable_names = names.clone();
        State { files, directories, names, durable_names, ..State::default() }
    }
}

impl Change {
    pub fn path(&self) -> &Path {
        match self {
            Change::Create { path, .. } | Change::Remove { path } => path,
            Change::Rename { to, .. } => to,
        }
    }

    pub fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
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

pub(super) fn no_space() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}

fn bad_sector() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

/// What is free on a disk without limit.
const ROOM: u64 = 1 << 30;
