//! Checkpoints: the state up to one index, in one file that is replaced whole.

use super::{Error, VERSION};
use crate::disk::{self, Disk, DiskFile};
use crate::types::LogIndex;
use std::io;
use std::path::{Path, PathBuf};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The state after all entries up to and including `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub index: LogIndex,
    pub state: Vec<u8>,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    checksum: U32,
    index: U64,
    len: U64,
}

/// Reads the checkpoint; `None` when there is none yet.
pub fn read_checkpoint<D: Disk>(disk: &D, dir: &Path) -> Result<Option<Checkpoint>, Error> {
    let path = path(dir);
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(&path, "open")(error)),
    };
    let size = file.size().map_err(Error::io(&path, "read the size of"))?;
    let mut bytes = vec![0; size as usize];
    let read = file.read_at(&mut bytes, 0).map_err(Error::io(&path, "read"))?;
    bytes.truncate(read);
    decode(bytes, &path).map(Some)
}

/// Replaces the checkpoint, durably: after a crash there is the old one or the new one. The
/// entries up to `index` have to be stable before, and what the state tells of the data files too.
/// The pieces of the state are one behind the other.
pub fn write_checkpoint<D: Disk>(
    disk: &D,
    dir: &Path,
    index: LogIndex,
    state: &[&[u8]],
) -> Result<(), Error> {
    let path = path(dir);
    let header = header(index, state);
    // The state may be large: it is not copied behind the header.
    let pieces = [&[header.as_bytes()], state].concat();
    disk::replace_file(disk, &path, &pieces).map_err(|error| {
        // What was written so far would only take room on a disk that may be full.
        let _ = disk.remove(&dir.join(NAME_NEW));
        Error::io(&path, "replace")(error)
    })
}

fn header(index: LogIndex, state: &[&[u8]]) -> Header {
    let len: usize = state.iter().map(|piece| piece.len()).sum();
    let mut header = Header {
        magic: MAGIC,
        version: VERSION.into(),
        checksum: U32::ZERO,
        index: index.0.into(),
        len: (len as u64).into(),
    };
    let of_header = checksum(header.as_bytes());
    let add = |sum, piece: &&[u8]| crc32c::crc32c_append(sum, piece);
    header.checksum = state.iter().fold(of_header, add).into();
    header
}

fn decode(mut bytes: Vec<u8>, path: &Path) -> Result<Checkpoint, Error> {
    let damaged = |why| Err(Error::damaged(path, 0, why));
    let Ok((header, state)) = Header::ref_from_prefix(&bytes) else {
        return damaged("the checkpoint is shorter than its header");
    };
    if header.magic != MAGIC {
        return damaged("this is no checkpoint");
    }
    // A later version may lay out everything behind the checksum in another way, but not the
    // checksum: only a file that is whole is taken at its word.
    if header.checksum.get() != checksum(&bytes) {
        return damaged("the checkpoint's checksum is wrong");
    }
    if header.version.get() != VERSION {
        let found = header.version.get();
        return Err(Error::Version { file: path.to_owned(), found, known: VERSION });
    }
    if header.len.get() != state.len() as u64 {
        return damaged("the checkpoint's length is wrong");
    }
    let index = LogIndex(header.index.get());
    bytes.drain(..HEADER_LEN);
    Ok(Checkpoint { index, state: bytes })
}

/// CRC-32C over the file without the four bytes of the checksum.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

const MAGIC: [u8; 8] = *b"BATONCKP";
const NAME: &str = "checkpoint";
/// Where [`disk::replace_file`] prepares the new one.
const NAME_NEW: &str = "checkpoint.new";
const HEADER_LEN: usize = size_of::<Header>();

const _: () = assert!(HEADER_LEN == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_has_these_bytes() {
        let golden = [
            b'B', b'A', b'T', b'O', b'N', b'C', b'K', b'P', // magic
            2, 0, 0, 0, // version
            0x36, 0x4b, 0xac, 0x4a, // checksum
            0x04, 0x03, 0x02, 0x01, 0, 0, 0, 0, // index
            3, 0, 0, 0, 0, 0, 0, 0, // length
            b'a', b'b', b'c',
        ];
        let encoded = header(LogIndex(0x0102_0304), &[b"a", b"bc"]);
        assert_eq!([encoded.as_bytes(), b"abc"].concat(), golden);
    }

    #[test]
    fn no_flipped_missing_or_added_byte_goes_unnoticed() {
        let whole = [header(LogIndex(7), &[b"state"]).as_bytes(), b"state"].concat();
        let path = Path::new("checkpoint");
        assert_eq!(
            decode(whole.clone(), path).unwrap(),
            Checkpoint { index: LogIndex(7), state: b"state".to_vec() }
        );
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            assert!(matches!(decode(bytes, path), Err(Error::Damaged { .. })), "byte {at}");
            assert!(
                matches!(decode(whole[..at].to_vec(), path), Err(Error::Damaged { .. })),
                "cut to {at}"
            );
        }
        let longer = [whole, vec![0]].concat();
        assert!(matches!(decode(longer, path), Err(Error::Damaged { .. })));
    }
}
