//! Disks that are full or fail while the process goes on.

use super::*;
use crate::disk::mem::{Fault, MemDisk};
use crate::wal::write_checkpoint;
use std::io;

const DIR: &str = "/d";

fn disk() -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir(Path::new(DIR)).unwrap();
    disk
}

#[test]
fn a_batch_that_found_the_disk_full_is_written_once_there_is_room() {
    // Whatever is being written when there is no room left: entries, or the next segment.
    for room in 48..1500 {
        let (disk, dir) = (disk(), Path::new(DIR));
        disk.set_room(Some(room));
        let (mut writer, ..) = collect(&disk, dir, 400, 0).unwrap();
        let mut is_full = false;
        for first in (1..20).step_by(2) {
            let mut batch = batch(first, 2, 1);
            if let Err(error) = writer.write(&mut batch, LogIndex(0)) {
                assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                assert_eq!(writer.last(), LogIndex(first - 1));
                let killed = collect(&disk.snapshot(), dir, 400, 0).unwrap();
                assert!(killed.1.last >= LogIndex(first - 1));
                disk.set_room(None);
                writer.write(&mut batch, LogIndex(0)).unwrap();
                is_full = true;
            }
        }
        assert!(is_full || room > 1000, "room {room}");
        drop(writer);
        assert_eq!(collect(&disk, dir, 400, 0).unwrap().2, expected(1..=20, 1), "room {room}");
    }
}

#[test]
fn a_full_disk_is_used_to_the_last_byte() {
    let (disk, dir) = (disk(), Path::new(DIR));
    let (mut writer, ..) = collect(&disk, dir, 1 << 20, 0).unwrap();
    // The mark, the segment's header, and the batch, but nothing to reserve ahead.
    let mut batch = batch(1, 5, 1);
    disk.set_room(Some(16 + 32 + batch.len_bytes() as u64));
    writer.write(&mut batch, LogIndex(0)).unwrap();
    assert_eq!(disk.room(dir).unwrap(), 0);
}

#[test]
fn a_checkpoint_that_does_not_fit_leaves_the_old_one_and_takes_no_room() {
    let (disk, dir) = (disk(), Path::new(DIR));
    write_checkpoint(&disk, dir, LogIndex(1), &[b"old"]).unwrap();
    disk.set_room(Some(200));
    assert!(write_checkpoint(&disk, dir, LogIndex(2), &[&[2; 400]]).is_err());
    assert_eq!(disk.list(dir).unwrap(), ["checkpoint"]);
    assert_eq!(crate::wal::read_checkpoint(&disk, dir).unwrap().unwrap().state, b"old");
}

/// The kernel shows what a failed sync did not write, and the next sync does nothing for it.
#[test]
fn what_a_failed_sync_left_is_stable_after_the_next_start() {
    // The larger one is over a megabyte, and written again in pieces.
    for count in [3, 20_000] {
        let disk = disk();
        let (mut writer, ..) = collect(&disk, Path::new(DIR), 4 << 20, 0).unwrap();
        writer.write(&mut batch(1, count, 0), LogIndex(0)).unwrap();
        disk.set_fault(Some(Fault::Error(disk.operations())));
        writer.handle().sync().unwrap_err();
        drop(writer);
        disk.set_fault(None);
        let (_, recovered, entries) = collect(&disk, Path::new(DIR), 4 << 20, 0).unwrap();
        assert_eq!((recovered.last, entries), (LogIndex(count), expected(1..=count, 0)));
        let disk = disk.after_worst_power_loss();
        let (_, _, entries) = collect(&disk, Path::new(DIR), 4 << 20, 0).unwrap();
        assert_eq!(entries, expected(1..=count, 0));
    }
}

#[test]
fn after_a_failed_sync_nothing_is_written_or_synced_any_more() {
    let (disk, dir) = (disk(), Path::new(DIR));
    let (mut writer, ..) = collect(&disk, dir, 1 << 20, 0).unwrap();
    writer.write(&mut batch(1, 2, 1), LogIndex(0)).unwrap();
    let handle = writer.handle();
    disk.set_fault(Some(Fault::Error(disk.operations())));
    assert!(handle.sync().is_err());
    assert!(handle.sync().is_err() && writer.handle().sync().is_err());
    assert!(writer.write(&mut batch(3, 1, 1), LogIndex(0)).is_err() && writer.roll().is_err());
}

#[test]
fn an_error_at_any_operation_leaves_a_prefix_with_all_that_was_synced() {
    for at in 0.. {
        let (disk, dir) = (disk(), Path::new(DIR));
        disk.set_fault(Some(Fault::Error(at)));
        let (mut written, mut stable) = (0, 0);
        if let Ok((mut writer, ..)) = collect(&disk, dir, 300, 0) {
            for first in (1..30).step_by(3) {
                let mut batch = batch(first, 3, 1);
                // An error that passes does no harm to the batch.
                let is_written = writer.write(&mut batch, LogIndex(stable)).is_ok()
                    || writer.write(&mut batch, LogIndex(stable)).is_ok();
                if !is_written {
                    break;
                }
                written = first + 2;
                if writer.handle().sync().is_err() {
                    break;
                }
                stable = written;
                writer.handle().note_synced(LogIndex(stable));
            }
        }
        let is_over = disk.operations() <= at;
        for seed in 0..20 {
            let entries = collect(&disk.after_power_loss(seed), dir, 300, 0).unwrap().2;
            assert!(entries.len() as u64 >= stable, "operation {at}, seed {seed}");
            assert_eq!(entries, expected(1..=entries.len() as u64, 1));
        }
        let entries = collect(&disk.snapshot(), dir, 300, 0).unwrap().2;
        assert!(entries.len() as u64 >= written, "operation {at}");
        if is_over {
            break;
        }
    }
}

#[test]
fn a_roll_that_failed_half_way_goes_on_with_the_next_write() {
    for at in 0..7 {
        let (disk, dir) = (disk(), Path::new(DIR));
        let (mut writer, ..) = collect(&disk, dir, 1 << 20, 0).unwrap();
        writer.write(&mut batch(1, 3, 1), LogIndex(0)).unwrap();
        disk.set_fault(Some(Fault::Error(disk.operations() + at)));
        assert!(writer.roll().is_err(), "operation {at}");
        if let Err(error) = writer.write(&mut batch(4, 2, 1), LogIndex(0)) {
            assert!(error.to_string().contains("earlier sync"), "{error}");
            continue;
        }
        writer.write(&mut batch(6, 2, 1), LogIndex(0)).unwrap();
        assert_eq!(writer.sealed_through(), LogIndex(3));
        let entries = collect(&disk.snapshot(), dir, 1 << 20, 0).unwrap().2;
        assert_eq!(entries, expected(1..=7, 1), "operation {at}");
    }
}
