//! A directory with a backup: the data files' bytes, and the manifest, which says how much of each is
//! part of it and has the state. docs/DISK.md has the format.
//!
//! Bytes of a file beyond what the manifest says are of a later backup that was not finished. So a
//! backup is brought up to date in place, and is whole all the while.

use crate::data::FileMark;
use crate::disk::DiskFile;
use crate::engine::State;
use crate::machine::Machine;
use crate::types::{FileId, Millis};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The file's name: put in place when everything else is there.
pub const MANIFEST: &str = "manifest";
/// While this file is there the backup is being made or was interrupted.
pub const UNFINISHED: &str = "unfinished";

/// What a backup consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// When it was made, by the server's clock.
    pub at_ms: Millis,
    /// What a server that is restored from it begins with.
    pub machine: Machine,
    /// Of each data file: how many of its bytes belong to it, and their checksum.
    pub files: Vec<FileMark>,
}

/// Why a directory has no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {op} {}: {source}", path.display())]
    Io { path: PathBuf, op: &'static str, source: io::Error },
    #[error("{} holds no backup: there is no file {MANIFEST} in it", .0.display())]
    Missing(PathBuf),
    #[error("the backup in {} was not finished: baton backup goes on with it", .0.display())]
    Unfinished(PathBuf),
    #[error("{} is damaged: {why}; use another backup", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error(
        "{} has version {found} of the format and this program knows version {VERSION}: use the \
         program that wrote it",
        path.display()
    )]
    Version { path: PathBuf, found: u32 },
}

impl Error {
    pub fn io(path: &Path, op: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { path: path.to_owned(), op, source }
    }
}

impl Manifest {
    /// The manifest of a server with this state, as [`Machine::backup`] leaves it.
    pub fn new(at_ms: Millis, state: State) -> Self {
        Manifest { at_ms, machine: state.machine, files: state.files }
    }

    /// The files of which there is something, and the marks to be found in them.
    pub fn filled(&self) -> impl Iterator<Item = (FileId, FileMark)> + '_ {
        let all = (0..).map(FileId).zip(self.files.iter().copied());
        all.filter(|(_, mark)| mark.size > 0)
    }

    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, mark| sum.saturating_add(mark.size))
    }

    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let mut bytes = Vec::from(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes = postcard::to_extend(self, bytes)?;
        let sum = checksum(&bytes);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        Ok(bytes)
    }

    /// The manifest that these bytes of `path` are.
    pub fn decode(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
        let Some((header, state)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(damaged("it is shorter than its header".into()));
        };
        let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| header[at + n]));
        if header[..8] != MAGIC {
            return Err(damaged("this is no manifest of a backup".into()));
        }
        // Of every version the checksum is in the same place: only what is whole is believed.
        if number(12) != checksum(bytes) {
            return Err(damaged("its checksum is wrong".into()));
        }
        if number(8) != VERSION {
            return Err(Error::Version { path: path.to_owned(), found: number(8) });
        }
        let manifest: Manifest =
            postcard::from_bytes(state).map_err(|error| damaged(error.to_string()))?;
        if manifest.files.len() > manifest.machine.files() as usize {
            return Err(damaged("it names more files than there are".into()));
        }
        Ok(manifest)
    }

    /// The manifest in a directory, and its bytes.
    pub fn read(dir: &Path) -> Result<(Self, Vec<u8>), Error> {
        let path = dir.join(MANIFEST);
        match fs::read(&path) {
            Ok(bytes) => Ok((Manifest::decode(&bytes, &path)?, bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let is_begun = dir.join(UNFINISHED).exists();
                let dir = dir.to_owned();
                Err(if is_begun { Error::Unfinished(dir) } else { Error::Missing(dir) })
            }
            Err(error) => Err(Error::io(&path, "read")(error)),
        }
    }

    /// Reads all files of a backup and says whether they are as they were. `see` is shown how many
    /// bytes were read.
    pub fn check(&self, dir: &Path, mut see: impl FnMut(u64)) -> Result<(), Error> {
        self.filled().try_for_each(|(file, mark)| {
            read_file(dir, file, mark, |bytes| {
                see(bytes.len() as u64);
                Ok(())
            })
        })
    }
}

/// Hands out the bytes of a file that belong to a backup, and says in the end whether they are as
/// they were.
pub fn read_file<E: From<Error>>(
    dir: &Path,
    file: FileId,
    mark: FileMark,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let path = dir.join(file.name());
    let source = File::open(&path).map_err(Error::io(&path, "open"))?;
    let (mut found, mut piece) = (FileMark::default(), vec![0; PIECE]);
    while found.size < mark.size {
        let len = (PIECE as u64).min(mark.size - found.size) as usize;
        let piece = &mut piece[..len];
        let read = source.read_at(piece, found.size).map_err(Error::io(&path, "read"))?;
        found.add(&piece[..read]);
        take(&piece[..read])?;
        if read < len {
            let why = format!("it has {} bytes and should have {}", found.size, mark.size);
            return Err(Error::Damaged { path, why }.into());
        }
    }
    if found != mark {
        let why = format!("its first {} bytes are not what was backed up", mark.size);
        return Err(Error::Damaged { path, why }.into());
    }
    Ok(())
}

/// CRC-32C over all bytes but the four of the checksum.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[HEADER_LEN..])
}

const MAGIC: [u8; 8] = *b"BATONBKP";
const VERSION: u32 = 2;
const HEADER_LEN: usize = 16;
/// Bytes read at once.
const PIECE: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut machine = Machine::default();
        let change =
            crate::machine::Change::Boot { epoch: 1, files: 2, records: 100, lease_ms: 1_000 };
        let command = crate::machine::Command { now_ms: Millis(5), skip: Vec::new(), change };
        machine.apply(&command, &mut Vec::new());
        let mut mark = FileMark::default();
        mark.add(b"hello");
        let files = vec![FileMark::default(), mark];
        Manifest::new(Millis(300), State { machine: machine.backup(), files })
    }

    #[test]
    fn a_manifest_has_these_bytes() {
        let bytes = Manifest { at_ms: Millis(300), ..Manifest::default() }.encode().unwrap();
        assert_eq!(bytes[..12], *b"BATONBKP\x02\0\0\0");
        assert_eq!(bytes[16..18], [0xAC, 0x02]);
        // The state of a machine to which nothing has happened, and no files.
        let machine = postcard::to_stdvec(&Machine::default()).unwrap();
        assert_eq!(bytes[18..], [&machine[..], &[0]].concat());
    }

    #[test]
    fn no_flipped_missing_or_added_byte_of_a_manifest_goes_unnoticed() {
        let (path, whole) = (Path::new(MANIFEST), manifest().encode().unwrap());
        assert_eq!(Manifest::decode(&whole, path).unwrap(), manifest());
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            assert!(matches!(Manifest::decode(&bytes, path), Err(Error::Damaged { .. })), "{at}");
            let cut = Manifest::decode(&whole[..at], path);
            assert!(matches!(cut, Err(Error::Damaged { .. })), "cut to {at}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(matches!(Manifest::decode(&longer, path), Err(Error::Damaged { .. })));
        let mut newer = whole;
        newer[8] = 3;
        let sum = checksum(&newer);
        newer[12..16].copy_from_slice(&sum.to_le_bytes());
        let error = Manifest::decode(&newer, path).unwrap_err();
        assert!(matches!(error, Error::Version { found: 3, .. }), "{error}");
    }

    #[test]
    fn no_bytes_behind_a_right_checksum_make_the_decoder_panic() {
        let (path, whole) = (Path::new(MANIFEST), manifest().encode().unwrap());
        let mut decoded = 0;
        for at in HEADER_LEN..whole.len() {
            for flip in [1, 0x10, 0x80, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                let sum = checksum(&bytes);
                bytes[12..16].copy_from_slice(&sum.to_le_bytes());
                if let Ok(manifest) = Manifest::decode(&bytes, path) {
                    decoded += 1;
                    // What can be restored has epochs left for its starts.
                    let _ = (
                        manifest.machine.has_epochs(),
                        manifest.filled().count(),
                        manifest.bytes(),
                    );
                }
            }
        }
        assert!(decoded > 0);
    }

    #[test]
    fn files_are_checked_as_far_as_they_belong_to_the_backup() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, manifest) = (dir.path(), manifest());
        let check = |content: &str| {
            fs::write(dir.join("file_1"), content).unwrap();
            let mut seen = 0;
            manifest.check(dir, |bytes| seen += bytes).map(|()| seen)
        };
        assert_eq!(check("hello").unwrap(), 5);
        assert_eq!(check("hello and more").unwrap(), 5);
        for wrong in ["hell", "hellO", ""] {
            assert!(matches!(check(wrong), Err(Error::Damaged { .. })), "{wrong}");
        }
        fs::remove_file(dir.join("file_1")).unwrap();
        assert!(matches!(manifest.check(dir, |_| {}), Err(Error::Io { .. })));
        assert!(matches!(Manifest::read(dir), Err(Error::Missing(_))));
        fs::write(dir.join(UNFINISHED), "").unwrap();
        assert!(matches!(Manifest::read(dir), Err(Error::Unfinished(_))));
        fs::write(dir.join(MANIFEST), manifest.encode().unwrap()).unwrap();
        assert_eq!(Manifest::read(dir).unwrap().0, manifest);
    }
}
