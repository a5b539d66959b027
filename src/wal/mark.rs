//! The mark: how far the log was synced, written after each sync and itself not synced.
//!
//! It survives a killed process, and lets recovery tell damage to synced entries from a torn
//! tail. After a power loss it may be old or missing, which only means "unknown".

use super::Error;
use crate::disk::{Disk, DiskFile};
use crate::types::LogIndex;
use std::io;
use std::path::{Path, PathBuf};

/// The last index that the mark vouches for; 0 when there is none that can be read.
pub(super) fn read<D: Disk>(disk: &D, dir: &Path) -> Result<LogIndex, Error> {
    let path = path(dir);
    let mut bytes = [0; LEN];
    match disk.open(&path).and_then(|file| file.read_at(&mut bytes, 0)) {
        Ok(_) => Ok(decode(&bytes).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LogIndex(0)),
        Err(error) => Err(Error::io(&path, "read")(error)),
    }
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("synced")
}

pub(super) fn encode(synced: LogIndex) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..8].copy_from_slice(&synced.0.to_le_bytes());
    bytes[8..12].copy_from_slice(&MAGIC);
    let sum = crc32c::crc32c(&bytes[..12]);
    bytes[12..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; LEN]) -> Option<LogIndex> {
    let index = LogIndex(u64::from_le_bytes(*bytes.first_chunk()?));
    (*bytes == encode(index)).then_some(index)
}

const LEN: usize = 16;
const MAGIC: [u8; 4] = *b"BTSY";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_has_these_bytes() {
        let golden = [
            0x04, 0x03, 0x02, 0x01, 0, 0, 0, 0, // index
            b'B', b'T', b'S', b'Y', // magic
            0xf0, 0x67, 0xdd, 0xd5, // checksum
        ];
        assert_eq!(encode(LogIndex(0x0102_0304)), golden);
        assert_eq!(decode(&golden), Some(LogIndex(0x0102_0304)));
    }

    #[test]
    fn a_torn_mark_says_nothing() {
        for at in 0..LEN {
            let mut bytes = encode(LogIndex(0x0102_0304));
            bytes[at] ^= 1;
            assert_eq!(decode(&bytes), None, "byte {at}");
        }
        assert_eq!(decode(&[0; LEN]), None);
    }
}
