//! Reads one segment from its header on, a window of it in memory at a time.

use super::record::{self, Bad, Record};
use super::segment::{self, BadHeader, Segment};
use super::{Error, VERSION};
use crate::disk::{Disk, DiskFile};
use crate::types::LogIndex;
use std::path::{Path, PathBuf};

/// A segment being read.
pub(super) struct Reader<F> {
    file: F,
    path: PathBuf,
    size: u64,
    salt: u64,
    /// Where the next entry is.
    offset: u64,
    /// Which entry that has to be.
    expected: LogIndex,
    /// Where the window starts.
    start: u64,
    window: Vec<u8>,
}

/// What stands where the next entry is expected.
pub(super) enum Next<'a> {
    Entry(LogIndex, &'a [u8]),
    /// Zeros or the end of the file; what follows was not looked at.
    End,
    Bad(Bad),
    /// A whole entry, but another one.
    Wrong(LogIndex),
}

/// How a segment begins.
pub(super) enum Opened<F> {
    Segment(Reader<F>),
    /// Nothing was ever written behind the header, and the header is not whole: the creation was
    /// interrupted. `bytes` is where its last byte that is not zero ends.
    Unborn {
        bytes: u64,
    },
}

impl<F: DiskFile> Reader<F> {
    pub fn open<D: Disk<File = F>>(disk: &D, segment: &Segment) -> Result<Opened<F>, Error> {
        let path = segment.path.clone();
        let file = disk.open(&path).map_err(Error::io(&path, "open"))?;
        let size = file.size().map_err(Error::io(&path, "read the size of"))?;
        let offset = segment::HEADER_LEN as u64;
        let mut reader = Reader {
            file,
            path,
            size,
            salt: 0,
            offset,
            expected: segment.first,
            start: 0,
            window: Vec::new(),
        };
        match segment::decode_header(reader.at(0, segment::HEADER_LEN)?) {
            Ok((first, salt)) if first == segment.first => {
                reader.salt = salt;
                Ok(Opened::Segment(reader))
            }
            Ok((first, _)) => Err(reader.damaged(
                0,
                format!("it begins with entry {first}, which is not what its name says"),
            )),
            Err(BadHeader::Version(found)) => {
                Err(Error::Version { file: reader.path, found, known: VERSION })
            }
            Err(BadHeader::Damaged) if reader.content_end(offset)? > offset => {
                Err(reader.damaged(0, "its header is not whole"))
            }
            Err(BadHeader::Damaged) => Ok(Opened::Unborn { bytes: reader.content_end(0)? }),
        }
    }

    /// Reads the next entry; moves on only if there is one.
    pub fn next(&mut self) -> Result<Next<'_>, Error> {
        let offset = self.offset;
        let extent = record::extent(self.at(offset, record::HEADER_LEN)?);
        self.fill(offset, extent)?;
        let (expected, salt) = (self.expected, self.salt);
        match record::decode(self.view(offset, extent), salt) {
            Ok(None) => Ok(Next::End),
            Err(bad) => Ok(Next::Bad(bad)),
            Ok(Some(record)) if record.index != expected => Ok(Next::Wrong(record.index)),
            Ok(Some(record)) => {
                let len = record.len_bytes();
                self.offset += len as u64;
                self.expected = expected.next();
                let payload = &self.view(offset, len)[record::HEADER_LEN..];
                Ok(Next::Entry(expected, payload))
            }
        }
    }

    /// Looks for entries later than the expected one, at every byte from the current place on.
    /// `None` when there are none, otherwise the first one's index and the greatest index that any
    /// of them knows to have been synced.
    pub fn find_later(&mut self) -> Result<Option<(LogIndex, LogIndex)>, Error> {
        let (salt, expected, origin) = (self.salt, self.expected, self.offset);
        let mut found: Option<(LogIndex, LogIndex)> = None;
        let mut offset = origin;
        while let Some(candidate) = self.find_plausible(offset)? {
            offset = candidate + 1;
            let extent = record::extent(self.at(candidate, record::HEADER_LEN)?);
            if let Ok(Some(Record { index, synced, payload })) =
                record::decode(self.at(candidate, extent)?, salt)
            {
                // What its payload contains was put there by a client.
                offset = candidate + (record::HEADER_LEN + payload.len()) as u64;
                let (first, known) = found.unwrap_or((index, synced));
                found = Some((first, known.max(synced)));
            }
        }
        debug_assert!(self.expected == expected && self.offset == origin);
        Ok(found)
    }

    /// Where the last byte that is not zero ends, at or behind `from`.
    pub fn content_end(&mut self, from: u64) -> Result<u64, Error> {
        let (mut end, mut offset) = (from, from);
        while offset < self.size {
            let bytes = self.at(offset, STEP)?;
            if bytes.is_empty() {
                break;
            }
            let len = bytes.len() as u64;
            if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
                end = offset + last as u64 + 1;
            }
            offset += len;
        }
        Ok(end)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next entry is.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The entry that the next one has to be.
    pub fn expected(&self) -> LogIndex {
        self.expected
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn salt(&self) -> u64 {
        self.salt
    }

    pub fn into_file(self) -> F {
        self.file
    }

    pub fn damaged(&self, offset: u64, why: impl Into<String>) -> Error {
        Error::damaged(&self.path, offset, why)
    }

    /// The first place at or behind `from` where an entry later than the expected one may start.
    fn find_plausible(&mut self, from: u64) -> Result<Option<u64>, Error> {
        let (origin, expected, size) = (self.offset, self.expected, self.size);
        let mut offset = from;
        while offset + record::HEADER_LEN as u64 <= size {
            let bytes = self.at(offset, STEP + record::HEADER_LEN)?;
            if bytes.len() < record::HEADER_LEN {
                break;
            }
            let starts = bytes.len() - record::HEADER_LEN + 1;
            // Most of a damaged tail is the zeros of preallocated space.
            if bytes.iter().any(|&byte| byte != 0) {
                for start in 0..starts {
                    let place = offset + start as u64;
                    let (behind, left) = (place - origin, size - place);
                    if record::is_plausible(&bytes[start..], expected, behind, left) {
                        return Ok(Some(place));
                    }
                }
            }
            offset += starts as u64;
        }
        Ok(None)
    }

    /// Bytes of the file, fewer only at its end.
    fn at(&mut self, offset: u64, len: usize) -> Result<&[u8], Error> {
        self.fill(offset, len)?;
        Ok(self.view(offset, len))
    }

    /// Makes the window cover these bytes as far as the file has them.
    fn fill(&mut self, offset: u64, len: usize) -> Result<(), Error> {
        let end = offset.saturating_add(len as u64).min(self.size);
        let is_covered = offset >= self.start && end <= self.start + self.window.len() as u64;
        if is_covered || offset >= end {
            return Ok(());
        }
        let wanted = (end - offset).max(WINDOW).min(self.size - offset);
        self.window.resize(wanted as usize, 0);
        let read =
            self.file.read_at(&mut self.window, offset).map_err(Error::io(&self.path, "read"))?;
        self.window.truncate(read);
        self.start = offset;
        Ok(())
    }

    /// The part of these bytes that is in the window.
    fn view(&self, offset: u64, len: usize) -> &[u8] {
        let Some(from) = offset.checked_sub(self.start) else {
            return &[];
        };
        let from = self.window.len().min(from as usize);
        &self.window[from..self.window.len().min(from + len)]
    }
}

/// Bytes read at once.
const WINDOW: u64 = 4 << 20;
/// Bytes looked at in one go.
const STEP: usize = 4 << 10;
