//! Segment files: their names, their headers, and how one comes to be.

use super::{Error, VERSION};
use crate::disk::{Disk, DiskFile};
use crate::mutant;
use crate::types::LogIndex;
use std::io;
use std::path::{Path, PathBuf};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes before the first entry.
pub(super) const HEADER_LEN: usize = size_of::<Header>();

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    checksum: U32,
    first: U64,
    salt: U64,
}

/// A segment by its name.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Index of its first entry, or of the one that will be.
    pub first: LogIndex,
    pub path: PathBuf,
}

/// Why bytes are no header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    Version(u32),
}

impl Segment {
    pub fn new(dir: &Path, first: LogIndex) -> Self {
        Segment {
            first,
            path: dir.join(format!("{PREFIX}{first:0width$}{SUFFIX}", width = DIGITS)),
        }
    }
}

/// The segments in a directory, oldest first.
pub(super) fn list<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<Segment>, Error> {
    let names = disk.list(dir).map_err(Error::io(dir, "list"))?;
    let mut segments: Vec<_> = names
        .iter()
        .filter_map(|name| Some(Segment { first: parse_name(name)?, path: dir.join(name) }))
        .collect();
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// Makes a segment without entries, durably. What an earlier, failed attempt left is overwritten.
pub(super) fn create<D: Disk>(
    disk: &D,
    dir: &Path,
    segment: &Segment,
    salt: u64,
) -> io::Result<D::File> {
    let file = disk.create(&segment.path)?;
    file.set_size(0)?;
    file.write_at(&encode_header(segment.first, salt), 0)?;
    // Before any entry follows, so that whatever stands behind a bad header is damage and not an
    // interrupted creation.
    if !mutant::is("header_unsynced") {
        file.sync()?;
    }
    if !mutant::is("segment_name_unsynced") {
        disk.sync_dir(dir)?;
    }
    Ok(file)
}

/// First index and salt.
pub(super) fn decode_header(bytes: &[u8]) -> Result<(LogIndex, u64), BadHeader> {
    let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| BadHeader::Damaged)?;
    if header.magic != MAGIC || header.checksum.get() != checksum(header) {
        return Err(BadHeader::Damaged);
    }
    if header.version.get() != VERSION {
        return Err(BadHeader::Version(header.version.get()));
    }
    Ok((LogIndex(header.first.get()), header.salt.get()))
}

fn encode_header(first: LogIndex, salt: u64) -> [u8; HEADER_LEN] {
    let mut header = Header {
        magic: MAGIC,
        version: VERSION.into(),
        checksum: U32::ZERO,
        first: first.0.into(),
        salt: salt.into(),
    };
    header.checksum = checksum(&header).into();
    zerocopy::transmute!(header)
}

/// CRC-32C over the header without the four bytes of the checksum.
fn checksum(header: &Header) -> u32 {
    let bytes = header.as_bytes();
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

fn parse_name(name: &str) -> Option<LogIndex> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let is_number = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number).map(LogIndex)
}

const MAGIC: [u8; 8] = *b"BATONWAL";
const PREFIX: &str = "wal-";
const SUFFIX: &str = ".log";
const DIGITS: usize = 20;

const _: () = assert!(HEADER_LEN == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_these_bytes() {
        let golden = [
            b'B', b'A', b'T', b'O', b'N', b'W', b'A', b'L', // magic
            2, 0, 0, 0, // version
            0xaa, 0xf0, 0x86, 0x26, // checksum
            0x04, 0x03, 0x02, 0x01, 0, 0, 0, 0, // first index
            0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, // salt
        ];
        assert_eq!(encode_header(LogIndex(0x0102_0304), 0x0123_4567_89ab_cdef), golden);
        assert_eq!(decode_header(&golden), Ok((LogIndex(0x0102_0304), 0x0123_4567_89ab_cdef)));
    }

    #[test]
    fn a_bad_header_is_told_from_another_version() {
        let good = encode_header(LogIndex(5), 6);
        for at in 0..HEADER_LEN {
            let mut bad = good;
            bad[at] ^= 1;
            assert_eq!(decode_header(&bad), Err(BadHeader::Damaged), "byte {at}");
            assert_eq!(decode_header(&good[..at]), Err(BadHeader::Damaged), "cut to {at}");
        }
        let mut header = Header::read_from_bytes(&good).unwrap();
        header.version = 1.into();
        header.checksum = checksum(&header).into();
        assert_eq!(decode_header(header.as_bytes()), Err(BadHeader::Version(1)));
    }

    #[test]
    fn names_carry_the_first_index() {
        let segment = Segment::new(Path::new("d"), LogIndex(42));
        assert_eq!(segment.path, Path::new("d/wal-00000000000000000042.log"));
        assert_eq!(parse_name("wal-00000000000000000042.log"), Some(LogIndex(42)));
        assert_eq!(parse_name("wal-18446744073709551615.log"), Some(LogIndex(u64::MAX)));
        for name in [
            "wal-42.log",
            "wal-0000000000000000004x.log",
            "wal-00000000000000000042.log.new",
            "wal-99999999999999999999.log",
            "wal-+0000000000000000042.log",
            "checkpoint",
            "",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
