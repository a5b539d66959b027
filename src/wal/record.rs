//! The bytes of one entry in a segment. Pure: from bytes to meaning and back.

use crate::limits::ENTRY_MAX;
use crate::types::LogIndex;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes before the payload.
pub const HEADER_LEN: usize = size_of::<Header>();

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    /// Bytes of the payload; 0 is the end of the log, so a payload is never empty.
    len: U32,
    checksum: U32,
    index: U64,
    /// The highest index known to be on stable storage when this entry was written.
    synced: U64,
}

/// One entry as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its position in the log.
    pub index: LogIndex,
    /// The highest index known to be on stable storage when the entry was written.
    pub synced: LogIndex,
    /// What it says; never empty.
    pub payload: &'a [u8],
}

impl Record<'_> {
    /// Bytes of header and payload.
    pub fn len_bytes(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }
}

/// Why bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    #[error("an entry of impossible length")]
    Length,
    #[error("an entry whose checksum is wrong")]
    Checksum,
}

/// Reads the entry at the start of `bytes`; `None` at the end of the log, where there are zeros
/// or nothing.
pub fn decode(bytes: &[u8], salt: u64) -> Result<Option<Record<'_>>, Bad> {
    let Ok((header, rest)) = Header::ref_from_prefix(bytes) else {
        return if bytes.iter().all(|&byte| byte == 0) { Ok(None) } else { Err(Bad::Length) };
    };
    if header.as_bytes().iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let len = header.len.get() as usize;
    if len == 0 || len > ENTRY_MAX || len > rest.len() {
        return Err(Bad::Length);
    }
    let is_intact = header.checksum.get() == checksum(&bytes[..HEADER_LEN + len], salt);
    if !is_intact && !crate::mutant::is("checksum_ignored") {
        return Err(Bad::Checksum);
    }
    Ok(Some(Record {
        index: LogIndex(header.index.get()),
        synced: LogIndex(header.synced.get()),
        payload: &rest[..len],
    }))
}

/// Bytes of the entry that seems to start here: what [`decode`] has to be given to judge it.
pub(super) fn extent(bytes: &[u8]) -> usize {
    let len = Header::ref_from_prefix(bytes).map_or(0, |(header, _)| header.len.get() as usize);
    HEADER_LEN + if len <= ENTRY_MAX { len } else { 0 }
}

/// Whether an entry later than `expected` may start here, as far as its header tells: cheap, so
/// that it can be asked at every byte. `behind` bytes lie between here and the place where
/// `expected` should have been; `left` bytes follow up to the end of the file.
pub(super) fn is_plausible(bytes: &[u8], expected: LogIndex, behind: u64, left: u64) -> bool {
    let Ok((header, _)) = Header::ref_from_prefix(bytes) else {
        return false;
    };
    let (len, index) = (header.len.get() as usize, header.index.get());
    len > 0
        && len <= ENTRY_MAX
        && (HEADER_LEN + len) as u64 <= left
        && index > expected.0
        && index - expected.0 <= behind / LEN_MIN
        && header.synced.get() < index
}

/// Appends a header to be completed by [`finish`] and [`seal`].
pub(super) fn begin(buf: &mut Vec<u8>) {
    buf.resize(buf.len() + HEADER_LEN, 0);
}

/// Completes what is known before writing: `buf[start..]` is the header of [`begin`] and a
/// payload.
pub(super) fn finish(buf: &mut [u8], start: usize, index: LogIndex) {
    let len = buf.len() - start - HEADER_LEN;
    assert!(
        len > 0 && len <= ENTRY_MAX,
        "an entry of {len} bytes: the proposer keeps to the limit"
    );
    let header = Header {
        len: (len as u32).into(),
        checksum: U32::ZERO,
        index: index.0.into(),
        synced: U64::ZERO,
    };
    buf[start..start + HEADER_LEN].copy_from_slice(header.as_bytes());
}

/// Completes the headers of entries that stand back to back, in place.
pub(super) fn seal(mut records: &mut [u8], synced: LogIndex, salt: u64) {
    while !records.is_empty() {
        let (record, rest) = records.split_at_mut(extent(records));
        record[SYNCED].copy_from_slice(&synced.0.to_le_bytes());
        let sum = checksum(record, salt);
        record[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
        records = rest;
    }
}

/// CRC-32C over the salt and the entry without the four bytes of the checksum.
fn checksum(record: &[u8], salt: u64) -> u32 {
    let mut head = [0; 8 + CHECKSUM.start];
    head[..8].copy_from_slice(&salt.to_le_bytes());
    head[8..].copy_from_slice(&record[..CHECKSUM.start]);
    crc32c::crc32c_append(crc32c::crc32c(&head), &record[CHECKSUM.end..])
}

const CHECKSUM: std::ops::Range<usize> = 4..8;
const SYNCED: std::ops::Range<usize> = 16..24;
/// The shortest entry.
const LEN_MIN: u64 = HEADER_LEN as u64 + 1;

const _: () = assert!(HEADER_LEN == 24 && ENTRY_MAX <= u32::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(index: u64, synced: u64, salt: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        begin(&mut bytes);
        bytes.extend_from_slice(payload);
        finish(&mut bytes, 0, LogIndex(index));
        seal(&mut bytes, LogIndex(synced), salt);
        bytes
    }

    #[test]
    fn an_entry_has_these_bytes() {
        let golden = [
            5, 0, 0, 0, // length
            0x1b, 0x04, 0x5a, 0xa6, // checksum
            0x04, 0x03, 0x02, 0x01, 0, 0, 0, 0, // index
            0x03, 0x03, 0x02, 0x01, 0, 0, 0, 0, // synced
            b'h', b'e', b'l', b'l', b'o',
        ];
        let bytes = encode(0x0102_0304, 0x0102_0303, 7, b"hello");
        assert_eq!(bytes, golden);
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let mut bytes = encode(9, 4, 77, b"payload");
        let len = bytes.len();
        assert_eq!(extent(&bytes), len);
        bytes.extend_from_slice(b"what follows");
        let record = decode(&bytes, 77).unwrap().unwrap();
        assert_eq!(
            (record.index, record.synced, record.payload),
            (LogIndex(9), LogIndex(4), &b"payload"[..])
        );
        assert_eq!(record.len_bytes(), len);
    }

    #[test]
    fn another_salt_is_another_log() {
        assert_eq!(decode(&encode(9, 4, 77, b"payload"), 78), Err(Bad::Checksum));
    }

    #[test]
    fn zeros_and_nothing_are_the_end() {
        for len in 0..2 * HEADER_LEN {
            assert_eq!(decode(&vec![0; len], 1), Ok(None), "{len} zeros");
        }
    }

    #[test]
    fn no_flipped_or_missing_byte_goes_unnoticed() {
        let whole = encode(9, 4, 77, b"payload");
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert!(decode(&bytes, 77).is_err(), "bit {bit} of byte {at}");
            }
            assert!(at == 0 || decode(&whole[..at], 77).is_err(), "cut to {at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, salt: u64) {
            if let Ok(Some(record)) = decode(&bytes, salt) {
                assert!(record.len_bytes() <= bytes.len());
            }
            assert!(extent(&bytes) <= HEADER_LEN + ENTRY_MAX);
            is_plausible(&bytes, LogIndex(u64::MAX - 1), u64::MAX, u64::MAX);
        }
    }
}
