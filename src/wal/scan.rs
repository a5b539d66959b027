//! One pass over the log: hands out its entries, finds where it ends, and tells a tail that was
//! torn by a crash from damage. Changes nothing on the disk.
//!
//! The rule. Closed segments were synced before the next one was made, so whatever is wrong in
//! them is damage. In the last segment, bytes that are no entry are a torn tail if nothing valid
//! follows them. If something does, they are writes that reached the disk out of order at a power
//! loss, provided that nothing says the bad entry had been synced: neither a later entry, each of
//! which carries what was synced when it was written, nor the mark.

use super::reader::{Next, Opened, Reader};
use super::segment::{self, Segment};
use super::{Error, Visit, mark};
use crate::disk::{Disk, DiskFile};
use crate::types::LogIndex;
use std::path::{Path, PathBuf};

/// The end of the log that a crash left incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub file: PathBuf,
    /// Where the whole entries end.
    pub offset: u64,
    /// Bytes behind that, without the zeros at the end.
    pub bytes: u64,
}

/// What a pass over the log found.
pub(super) struct Scan<F> {
    /// The segments, oldest first, without `unborn`.
    pub segments: Vec<Segment>,
    /// A last segment whose creation was interrupted.
    pub unborn: Option<Segment>,
    /// Where the last of `segments` ends; none if a checkpoint covers them all.
    pub tail: Option<Tail<F>>,
    /// The last entry, or the one that was asked for as the last known if the log ends before it.
    pub last: LogIndex,
    /// Entries handed out.
    pub entries: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    pub torn: Option<Torn>,
    /// What the mark says was synced.
    pub mark: LogIndex,
}

/// The segment in which the log goes on.
pub(super) struct Tail<F> {
    pub file: F,
    pub salt: u64,
    pub size: u64,
    /// From here on nothing says that it was synced.
    pub unsure: u64,
    /// Where the next entry goes.
    pub offset: u64,
    /// The entry before that.
    pub last: LogIndex,
}

/// Hands every entry after `after` to `visit`. Segments that hold only earlier entries are not
/// read: a checkpoint has taken their place, and they may have been removed in part.
pub(super) fn scan<D: Disk>(
    disk: &D,
    dir: &Path,
    after: LogIndex,
    visit: &mut Visit<'_>,
) -> Result<Scan<D::File>, Error> {
    let mark = mark::read(disk, dir)?;
    let mut segments = segment::list(disk, dir)?;
    let needed = first_needed(&segments, after)?;
    let mut torn = None;
    let unborn = match take_unborn(disk, &mut segments)? {
        Some((segment, bytes)) => {
            torn = (bytes > 0).then(|| Torn { file: segment.path.clone(), offset: 0, bytes });
            Some(segment)
        }
        None => None,
    };
    let mut tail: Option<Tail<D::File>> = None;
    let (mut entries, mut bytes) = (0, 0);
    for at in needed..segments.len() {
        let Opened::Segment(mut reader) = Reader::open(disk, &segments[at])? else {
            return Err(Error::damaged(&segments[at].path, 0, "its header is not whole"));
        };
        if let Some(before) = &tail {
            check_joint(before.last, &segments[at])?;
        }
        let mut unsure = 0;
        while let Some((index, len)) = read_entry(&mut reader, after, visit)? {
            if index > after {
                entries += 1;
                bytes += len;
            }
            if index <= mark {
                unsure = reader.offset();
            }
        }
        let is_closed = at + 1 < segments.len() || unborn.is_some();
        if let Some(found) = judge_end(&mut reader, is_closed, mark)? {
            torn = Some(found);
        }
        tail = Some(Tail::behind(reader, unsure));
    }
    let last = tail.as_ref().map_or(after, |tail| tail.last.max(after));
    if let Some(unborn) = &unborn {
        check_joint(last, unborn)?;
    }
    Ok(Scan { segments, unborn, tail, last, entries, bytes, torn, mark })
}

/// Hands the entries after `after` and up to `upto` to `visit`; all of them have to be written,
/// while later ones may be on their way.
pub(super) fn scan_between<D: Disk>(
    disk: &D,
    dir: &Path,
    after: LogIndex,
    upto: LogIndex,
    visit: &mut Visit<'_>,
) -> Result<(), Error> {
    let segments = segment::list(disk, dir)?;
    let mut next = after.next();
    for (at, segment) in segments.iter().enumerate().skip(first_needed(&segments, after)?) {
        if next > upto {
            break;
        }
        let Opened::Segment(mut reader) = Reader::open(disk, segment)? else {
            return Err(Error::damaged(&segment.path, 0, "its header is not whole"));
        };
        while reader.expected() <= upto && read_entry(&mut reader, after, visit)?.is_some() {}
        next = reader.expected();
        let is_complete = match segments.get(at + 1) {
            Some(following) => next > upto || next == following.first,
            None => next > upto,
        };
        if !is_complete {
            return Err(reader.damaged(reader.offset(), format!("entry {next} is not there")));
        }
    }
    if next <= upto {
        return Err(Error::damaged(dir, 0, format!("entry {next} is not there")));
    }
    Ok(())
}

impl<F: DiskFile> Tail<F> {
    fn behind(reader: Reader<F>, unsure: u64) -> Self {
        Tail {
            salt: reader.salt(),
            size: reader.size(),
            unsure,
            offset: reader.offset(),
            last: LogIndex(reader.expected().0 - 1),
            file: reader.into_file(),
        }
    }
}

/// Position of the segment with the entry behind `after`.
fn first_needed(segments: &[Segment], after: LogIndex) -> Result<usize, Error> {
    let Some(oldest) = segments.first() else {
        return Ok(0);
    };
    segments.iter().rposition(|segment| segment.first <= after.next()).ok_or_else(|| {
        let (missing, last) = (after.next(), oldest.first.0 - 1);
        let why = format!("entries {missing} to {last}, which come before it, are missing");
        Error::damaged(&oldest.path, 0, why)
    })
}

/// Takes a last segment whose creation was interrupted off the list.
fn take_unborn<D: Disk>(
    disk: &D,
    segments: &mut Vec<Segment>,
) -> Result<Option<(Segment, u64)>, Error> {
    let Some(last) = segments.last() else {
        return Ok(None);
    };
    let Opened::Unborn { bytes } = Reader::open(disk, last)? else {
        return Ok(None);
    };
    Ok(segments.pop().map(|segment| (segment, bytes)))
}

/// That a segment goes on where the one before it ended.
fn check_joint(last: LogIndex, segment: &Segment) -> Result<(), Error> {
    if segment.first == last.next() {
        return Ok(());
    }
    let why = format!("it starts at entry {}, but the log before it ends at {last}", segment.first);
    Err(Error::damaged(&segment.path, 0, why))
}

/// Reads one entry, and hands it out if it comes after `after`: its index and length.
fn read_entry<F: DiskFile>(
    reader: &mut Reader<F>,
    after: LogIndex,
    visit: &mut Visit<'_>,
) -> Result<Option<(LogIndex, u64)>, Error> {
    let offset = reader.offset();
    let (index, why) = match reader.next()? {
        Next::Entry(index, payload) if index > after => match visit(index, payload) {
            Ok(()) => return Ok(Some((index, payload.len() as u64))),
            Err(why) => (index, why),
        },
        Next::Entry(index, payload) => return Ok(Some((index, payload.len() as u64))),
        Next::End | Next::Bad(_) | Next::Wrong(_) => return Ok(None),
    };
    Err(Error::Entry { file: reader.path().to_owned(), offset, index, why })
}

/// Applies the rule to what follows the last entry that could be read.
fn judge_end<F: DiskFile>(
    reader: &mut Reader<F>,
    is_closed: bool,
    mark: LogIndex,
) -> Result<Option<Torn>, Error> {
    let (offset, expected) = (reader.offset(), reader.expected());
    let why = match reader.next()? {
        Next::Entry(..) | Next::End => String::from("zeros"),
        Next::Bad(bad) => bad.to_string(),
        Next::Wrong(index) => {
            return Err(reader.damaged(offset, format!("entry {index} instead of {expected}")));
        }
    };
    let end = reader.content_end(offset)?;
    if end == offset {
        return Ok(None);
    }
    let why = format!("{why} where entry {expected} should be");
    if is_closed {
        return Err(reader.damaged(offset, why));
    }
    if let Some((later, synced)) = reader.find_later()?
        && synced.max(mark) >= expected
    {
        let why = format!("{why}, which had been synced; entry {later} follows it");
        return Err(reader.damaged(offset, why));
    }
    Ok(Some(Torn { file: reader.path().to_owned(), offset, bytes: end - offset }))
}
