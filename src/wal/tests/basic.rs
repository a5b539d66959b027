//! What the log does while nothing goes wrong, on a real disk.

use super::*;
use crate::disk::RealDisk;
use crate::wal::{check, read_checkpoint, replay, write_checkpoint};
use std::fs;

fn segment_path(dir: &Path, first: u64) -> std::path::PathBuf {
    dir.join(format!("wal-{first:020}.log"))
}

#[test]
fn a_fresh_directory_starts_at_entry_one() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, recovered, entries) = collect(&RealDisk, dir.path(), 1000, 0).unwrap();
    assert_eq!((recovered.last, recovered.torn, entries), (LogIndex(0), None, vec![]));
    assert_eq!((writer.last(), writer.sealed_through()), (LogIndex(0), LogIndex(0)));
    assert!(segment_path(dir.path(), 1).exists());
}

#[test]
fn entries_come_back_in_order_and_the_log_goes_on_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, ..) = collect(&RealDisk, dir.path(), 1 << 20, 0).unwrap();
    writer.write(&mut batch(1, 4, 1), LogIndex(0)).unwrap();
    writer.write(&mut batch(5, 1, 1), LogIndex(4)).unwrap();
    drop(writer);

    let (mut writer, recovered, entries) = collect(&RealDisk, dir.path(), 1 << 20, 0).unwrap();
    assert_eq!(entries, expected(1..=5, 1));
    let bytes = entries.iter().map(|(_, payload)| payload.len() as u64).sum();
    let clean = Recovered { last: LogIndex(5), entries: 5, bytes, torn: None, lost_synced: false };
    assert_eq!(recovered, clean);
    writer.write(&mut batch(6, 2, 1), LogIndex(5)).unwrap();
    drop(writer);

    let (_, recovered, entries) = collect(&RealDisk, dir.path(), 1 << 20, 3).unwrap();
    assert_eq!((entries, recovered.last), (expected(4..=7, 1), LogIndex(7)));
}

#[test]
fn a_full_segment_is_followed_by_another_and_batches_are_never_split() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, ..) = collect(&RealDisk, dir.path(), 500, 0).unwrap();
    for first in (1..=60).step_by(6) {
        writer.write(&mut batch(first, 6, 1), LogIndex(first - 1)).unwrap();
        assert_eq!(writer.last(), LogIndex(first + 5));
    }
    let names = RealDisk.list(dir.path()).unwrap();
    let firsts: Vec<u64> = names
        .iter()
        .filter_map(|name| name.strip_prefix("wal-")?.strip_suffix(".log")?.parse().ok())
        .collect();
    assert!(firsts.len() > 2 && firsts.iter().all(|first| first % 6 == 1), "{firsts:?}");
    assert_eq!(writer.sealed_through().0, firsts.last().unwrap() - 1);
    let sizes =
        firsts.iter().map(|&first| fs::metadata(segment_path(dir.path(), first)).unwrap().len());
    // Closed segments keep no reserved room.
    assert!(writer.bytes() <= sizes.sum());
    drop(writer);
    assert_eq!(collect(&RealDisk, dir.path(), 500, 0).unwrap().2, expected(1..=60, 1));
}

#[test]
fn removed_segments_are_gone_and_the_rest_starts_behind_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (mut writer, ..) = collect(&RealDisk, dir, 300, 0).unwrap();
    for index in 1..=40 {
        writer.write(&mut batch(index, 1, 1), LogIndex(0)).unwrap();
    }
    let sealed = writer.sealed_through();
    let before = writer.bytes();
    assert_eq!(writer.handle().remove_through(LogIndex(0)).unwrap(), 0);
    let freed = writer.handle().remove_through(LogIndex(sealed.0 - 1)).unwrap();
    assert!(freed > 0 && writer.bytes() == before - freed);
    writer.handle().remove_through(LogIndex(40)).unwrap();
    assert_eq!(RealDisk.list(dir).unwrap().len(), 2, "the current segment and the mark");
    drop(writer);

    let error = collect(&RealDisk, dir, 300, 0).err().unwrap();
    assert!(error.to_string().contains("are missing"), "{error}");
    let (_, recovered, entries) = collect(&RealDisk, dir, 300, sealed.0).unwrap();
    assert_eq!((recovered.last.0, entries), (40, expected(sealed.0 + 1..=40, 1)));
}

#[test]
fn rolling_starts_a_segment_at_once_but_never_two_without_entries() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, ..) = collect(&RealDisk, dir.path(), 1 << 20, 0).unwrap();
    writer.roll().unwrap();
    writer.write(&mut batch(1, 3, 1), LogIndex(0)).unwrap();
    writer.roll().unwrap();
    writer.roll().unwrap();
    assert_eq!(writer.sealed_through(), LogIndex(3));
    drop(writer);
    let (mut writer, _, entries) = collect(&RealDisk, dir.path(), 1 << 20, 0).unwrap();
    assert_eq!(entries, expected(1..=3, 1));
    writer.write(&mut batch(4, 1, 1), LogIndex(3)).unwrap();
    assert!(writer.handle().remove_through(LogIndex(4)).unwrap() > 0);
}

#[test]
fn a_checkpoint_ahead_of_the_log_is_where_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (mut writer, ..) = collect(&RealDisk, dir, 1 << 20, 0).unwrap();
    writer.write(&mut batch(1, 3, 1), LogIndex(0)).unwrap();
    drop(writer);
    let (mut writer, recovered, entries) = collect(&RealDisk, dir, 1 << 20, 10).unwrap();
    assert_eq!((recovered.last, entries), (LogIndex(10), vec![]));
    writer.write(&mut batch(11, 2, 1), LogIndex(10)).unwrap();
    drop(writer);
    let (writer, _, entries) = collect(&RealDisk, dir, 1 << 20, 10).unwrap();
    assert_eq!(entries, expected(11..=12, 1));
    assert!(writer.handle().remove_through(LogIndex(10)).unwrap() > 0);
}

#[test]
fn entries_can_be_read_again_while_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (mut writer, ..) = collect(&RealDisk, dir, 300, 0).unwrap();
    for index in 1..=30 {
        writer.write(&mut batch(index, 1, 1), LogIndex(0)).unwrap();
        for (after, upto) in
            [(0, index), (index / 2, index), (index, index), (0, 1), (index / 3, index / 2)]
        {
            let mut entries = Vec::new();
            replay(&RealDisk, dir, LogIndex(after), LogIndex(upto), &mut |index, payload| {
                entries.push((index.0, payload.to_vec()));
                Ok(())
            })
            .unwrap();
            assert_eq!(entries, expected(after + 1..=upto, 1));
        }
        assert!(
            replay(&RealDisk, dir, LogIndex(0), LogIndex(index + 1), &mut |_, _| Ok(())).is_err()
        );
    }
}

#[test]
fn checking_reports_what_a_start_would_find_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (mut writer, ..) = collect(&RealDisk, dir, 1 << 20, 0).unwrap();
    writer.write(&mut batch(1, 8, 1), LogIndex(0)).unwrap();
    write_checkpoint(&RealDisk, dir, LogIndex(3), &[b"state"]).unwrap();
    let segment = segment_path(dir, 1);
    let end = writer.bytes() - 1;
    drop(writer);
    fs::File::options().write(true).open(&segment).unwrap().set_len(end).unwrap();
    let before = fs::read(&segment).unwrap();

    let mut indices = Vec::new();
    let report = check(&RealDisk, dir, &mut |index, _| {
        indices.push(index.0);
        Ok(())
    })
    .unwrap();
    assert_eq!(indices, [4, 5, 6, 7]);
    assert_eq!(
        (report.checkpoint, report.last, report.segments),
        (Some(LogIndex(3)), LogIndex(7), 1)
    );
    assert_eq!(report.torn.unwrap().file, segment);
    assert_eq!(fs::read(&segment).unwrap(), before);
    assert_eq!(read_checkpoint(&RealDisk, dir).unwrap().unwrap().state, b"state");
}

#[test]
fn what_the_visitor_refuses_ends_the_start_and_names_the_entry() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, ..) = collect(&RealDisk, dir.path(), 1 << 20, 0).unwrap();
    writer.write(&mut batch(1, 3, 1), LogIndex(0)).unwrap();
    drop(writer);
    let mut visit =
        |index: LogIndex, _: &[u8]| if index.0 == 2 { Err("no sense".to_owned()) } else { Ok(()) };
    let error =
        recover(&RealDisk, dir.path(), &Options::default(), LogIndex(0), &mut visit).err().unwrap();
    assert!(matches!(&error, Error::Entry { index: LogIndex(2), .. }), "{error}");
    assert!(error.to_string().contains("no sense"), "{error}");
}

#[test]
fn a_sync_from_another_thread_goes_on_beside_writes_and_rolls() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, ..) = collect(&RealDisk, dir.path(), 400, 0).unwrap();
    let handle = writer.handle();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                handle.sync().unwrap();
            }
        });
        for index in 1..=60 {
            writer.write(&mut batch(index, 1, 1), LogIndex(0)).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    drop(writer);
    assert_eq!(collect(&RealDisk, dir.path(), 400, 0).unwrap().2, expected(1..=60, 1));
}
