//! Reading the log back: at the start, beside the running server, and to verify a directory.

use super::handle::Closed;
use super::scan::{Scan, Tail, scan, scan_between};
use super::segment::{self, Segment};
use super::writer::{Current, Writer};
use super::{Error, Options, Torn, Visit, mark, read_checkpoint};
use crate::disk::{Disk, DiskFile};
use crate::mutant;
use crate::types::LogIndex;
use std::io;
use std::path::Path;

/// What [`recover`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The last entry; what was passed as `after` if the log ends before it.
    pub last: LogIndex,
    /// Entries handed out.
    pub entries: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// What was cut from the end of the log.
    pub torn: Option<Torn>,
    /// The log once reached further, and that had been synced: entries that were acknowledged as
    /// stable are lost. No crash does this; a damaged disk or a restored backup does.
    pub lost_synced: bool,
}

/// What [`check`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Index of the checkpoint.
    pub checkpoint: Option<LogIndex>,
    /// Segment files, including those that the checkpoint covers.
    pub segments: usize,
    /// The last entry, or the checkpoint's if the log ends before it.
    pub last: LogIndex,
    /// Entries after the checkpoint.
    pub entries: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// What the next start will cut from the end of the log.
    pub torn: Option<Torn>,
    /// As in [`Recovered`].
    pub lost_synced: bool,
}

/// Hands every entry after `after` to `visit` in order of index, cuts a torn tail, and returns a
/// writer that goes on behind the last entry. When it returns, all entries it handed out are
/// stable. `dir` has to exist; nobody else may use it. Nothing is changed before all is read.
pub fn recover<D: Disk>(
    disk: &D,
    dir: &Path,
    options: &Options,
    after: LogIndex,
    visit: &mut Visit<'_>,
) -> Result<(Writer<D>, Recovered), Error> {
    let mut scan = scan(disk, dir, after, visit)?;
    let recovered = Recovered {
        last: scan.last,
        entries: scan.entries,
        bytes: scan.bytes,
        torn: scan.torn.take(),
        lost_synced: scan.mark > scan.last,
    };
    remove_leftovers(disk, dir, scan.unborn.as_ref())?;
    let (closed, current) = settle(disk, dir, options, &mut scan, recovered.torn.is_some())?;
    // Also for a segment whose creation was all but finished when the last run ended.
    if !mutant::is("recovery_names_unsynced") {
        disk.sync_dir(dir).map_err(Error::io(dir, "sync"))?;
    }
    let mark = settle_mark(disk, dir, scan.mark, scan.last)?;
    let writer =
        Writer::new(disk.clone(), dir, options.clone(), closed, current, (mark, scan.last));
    Ok((writer, recovered))
}

/// Hands the entries after `after` and up to `upto` to `visit` again and changes nothing, while a
/// writer goes on. All these entries have to be written, and their segments not be removed
/// meanwhile.
pub fn replay<D: Disk>(
    disk: &D,
    dir: &Path,
    after: LogIndex,
    upto: LogIndex,
    visit: &mut Visit<'_>,
) -> Result<(), Error> {
    scan_between(disk, dir, after, upto, visit)
}

/// Reads the checkpoint and all entries after it as a start would, and changes nothing.
pub fn check<D: Disk>(disk: &D, dir: &Path, visit: &mut Visit<'_>) -> Result<Report, Error> {
    let checkpoint = read_checkpoint(disk, dir)?.map(|checkpoint| checkpoint.index);
    let scan = scan(disk, dir, checkpoint.unwrap_or_default(), visit)?;
    Ok(Report {
        checkpoint,
        segments: scan.segments.len(),
        last: scan.last,
        entries: scan.entries,
        bytes: scan.bytes,
        lost_synced: scan.mark > scan.last,
        torn: scan.torn,
    })
}

/// Removes what interrupted creations left.
fn remove_leftovers<D: Disk>(disk: &D, dir: &Path, unborn: Option<&Segment>) -> Result<(), Error> {
    let names = disk.list(dir).map_err(Error::io(dir, "list"))?;
    let unfinished = names.iter().filter(|name| name.ends_with(".new")).map(|name| dir.join(name));
    for path in unfinished.chain(unborn.map(|segment| segment.path.clone())) {
        disk.remove(&path).map_err(Error::io(&path, "remove"))?;
    }
    Ok(())
}

/// Makes the log end durably behind its last entry: the segments that are closed and the one in
/// which it goes on.
fn settle<D: Disk>(
    disk: &D,
    dir: &Path,
    options: &Options,
    scan: &mut Scan<D::File>,
    is_torn: bool,
) -> Result<(Vec<Closed>, Current<D>), Error> {
    let mut current = None;
    if let Some(tail) = scan.tail.take()
        && let Some(segment) = scan.segments.last()
    {
        let path = &segment.path;
        let mut reserved = tail.size;
        if is_torn && !mutant::is("torn_tail_kept") && tail.size > tail.offset {
            tail.file.set_size(tail.offset).map_err(Error::io(path, "cut"))?;
            reserved = tail.offset;
        }
        if !mutant::is("unsure_not_rewritten") {
            write_again(&tail).map_err(Error::io(path, "write again"))?;
        }
        // Also what was only handed to the kernel when a killed process left it.
        if !mutant::is("recovery_not_synced") {
            tail.file.sync().map_err(Error::io(path, "sync"))?;
        }
        // A checkpoint may be ahead of a log whose end a power loss took.
        if tail.last == scan.last {
            let segment = segment.clone();
            current = Some(Current::new(segment, tail.file, tail.salt, tail.offset, reserved));
        }
    }
    let current = match current {
        Some(current) => {
            scan.segments.pop();
            current
        }
        None => {
            let segment = Segment::new(dir, scan.last.next());
            let file = segment::create(disk, dir, &segment, options.salt)
                .map_err(Error::io(&segment.path, "create"))?;
            let start = segment::HEADER_LEN as u64;
            Current::new(segment, file, options.salt, start, start)
        }
    };
    let mut closed = Vec::new();
    let mut last = current.before();
    for segment in scan.segments.drain(..).rev() {
        let path = &segment.path;
        let bytes =
            disk.open(path).and_then(|file| file.size()).map_err(Error::io(path, "open"))?;
        let before = LogIndex(segment.first.0 - 1);
        closed.push(Closed { segment, last, bytes });
        last = before;
    }
    closed.reverse();
    Ok((closed, current))
}

/// Writes what the last run may not have synced once more. If its sync failed, the kernel still shows
/// those entries but counts them as written, and the next sync would do nothing for them.
fn write_again<F: DiskFile>(tail: &Tail<F>) -> io::Result<()> {
    let mut piece = vec![0; WRITTEN_AT_ONCE.min((tail.offset - tail.unsure) as usize)];
    let mut at = tail.unsure;
    while at < tail.offset {
        let left = usize::try_from(tail.offset - at).unwrap_or(usize::MAX);
        let len = piece.len().min(left);
        let read = tail.file.read_at(&mut piece[..len], at)?;
        if read == 0 {
            break;
        }
        tail.file.write_at(&piece[..read], at)?;
        tail.file.start_writing(at, read as u64);
        at += read as u64;
    }
    Ok(())
}

/// Bytes written again at once.
const WRITTEN_AT_ONCE: usize = 1 << 20;

/// Makes the mark say what is synced now. One that said more is lowered durably: it must never
/// vouch for entries that will be written under the indexes of lost ones.
fn settle_mark<D: Disk>(
    disk: &D,
    dir: &Path,
    old: LogIndex,
    synced: LogIndex,
) -> Result<D::File, Error> {
    let path = mark::path(dir);
    let write = || {
        let file = disk.create(&path)?;
        file.write_at(&mark::encode(synced), 0)?;
        if old > synced {
            file.sync()?;
        }
        Ok(file)
    };
    write().map_err(Error::io(&path, "write"))
}
