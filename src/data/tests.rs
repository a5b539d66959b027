use super::*;
use crate::disk::RealDisk;
use crate::disk::mem::{Fault, MemDisk, Moment};
use std::fs;
use std::path::Path;
use std::sync::Arc;

#[test]
fn a_fresh_directory_gets_its_files_empty() {
    let dir = tempfile::tempdir().unwrap();
    let files = DataFiles::open(&RealDisk, dir.path(), 12).unwrap();
    assert_eq!(files.sizes(), [0; 12]);
    let mut names: Vec<_> = (0..12).map(|id| FileId(id).name()).collect();
    names.sort();
    assert_eq!(RealDisk.list(dir.path()).unwrap(), names);
}

#[test]
fn published_bytes_are_in_the_file_and_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let files = DataFiles::open(&RealDisk, dir.path(), 2).unwrap();
    files.publish(FileId(1), b"hello ").unwrap();
    files.publish(FileId(1), b"world").unwrap();
    assert_eq!(fs::read(dir.path().join("file_1")).unwrap(), b"hello world");
    assert_eq!((files.sizes(), files.size(FileId(1)), files.size(FileId(7))), (vec![0, 11], 11, 0));
    let mut buf = [0; 8];
    for (offset, text) in [(0, "hello wo"), (6, "world"), (10, "d"), (11, ""), (u64::MAX, "")] {
        let len = files.read(FileId(1), offset, &mut buf).unwrap();
        assert_eq!(&buf[..len], text.as_bytes(), "from {offset}");
    }
    files.sync().unwrap();
    let again = DataFiles::open(&RealDisk, dir.path(), 2).unwrap();
    assert_eq!(again.sizes(), [0, 11]);
}

#[test]
fn nothing_beyond_what_is_published_is_ever_read() {
    let dir = tempfile::tempdir().unwrap();
    let files = DataFiles::open(&RealDisk, dir.path(), 1).unwrap();
    files.publish(FileId(0), b"published").unwrap();
    fs::write(dir.path().join("file_0"), b"published and more").unwrap();
    let mut buf = [0; 32];
    assert_eq!(files.read(FileId(0), 0, &mut buf).unwrap(), 9);
}

#[test]
fn recovery_cuts_files_to_their_recorded_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let files = DataFiles::open(&RealDisk, dir.path(), 2).unwrap();
    files.publish(FileId(0), b"recorded, not recorded").unwrap();
    files.restore(vec![8, 0]).unwrap().finish().unwrap();
    files.publish(FileId(0), b"!").unwrap();
    assert_eq!(fs::read(dir.path().join("file_0")).unwrap(), b"recorded!");
}

#[test]
fn recovery_publishes_again_behind_the_recorded_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let files = DataFiles::open(&RealDisk, dir.path(), 3).unwrap();
    files.publish(FileId(0), b"kept lost, never published at all").unwrap();
    files.publish(FileId(2), b"never published").unwrap();
    let mut restore = files.restore(vec![5, 0, 0]).unwrap();
    for (file, bytes) in [(0, "a"), (0, "b"), (1, "x"), (0, "c"), (1, "y"), (1, "z")] {
        restore.publish(FileId(file), bytes.as_bytes()).unwrap();
    }
    assert!(restore.publish(FileId(3), b"x").is_err());
    let large = vec![b'-'; 2 * RESTORED_AT_ONCE];
    restore.publish(FileId(1), &large).unwrap();
    restore.finish().unwrap();
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert_eq!(read("file_0"), b"kept abc");
    assert_eq!(read("file_1"), [b"xyz".to_vec(), large].concat());
    assert_eq!(read("file_2"), b"");
    assert_eq!(files.sizes(), [8, 3 + 2 * RESTORED_AT_ONCE as u64, 0]);
}

#[test]
fn a_file_shorter_than_recorded_is_damage_and_nothing_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let files = DataFiles::open(&RealDisk, dir.path(), 2).unwrap();
    files.publish(FileId(0), b"0123456789").unwrap();
    files.publish(FileId(1), b"0123").unwrap();
    let message = files.restore(vec![5, 6]).err().unwrap().to_string();
    assert!(message.contains("file_1 has 4 bytes, but 6 were published"), "{message}");
    assert_eq!(files.sizes(), [10, 4]);
    assert!(matches!(files.restore(vec![5]), Err(Error::Count { recorded: 1, open: 2 })));
}

#[test]
fn a_file_that_is_not_open_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let files = DataFiles::open(&RealDisk, dir.path(), 1).unwrap();
    assert_eq!(files.publish(FileId(1), b"x").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(files.read(FileId(1), 0, &mut [0]).is_err());
}

fn mem_disk() -> (MemDisk, DataFiles<MemDisk>) {
    let (disk, dir) = (MemDisk::new(), Path::new("/d"));
    disk.create_dir(dir).unwrap();
    let files = DataFiles::open(&disk, dir, 2).unwrap();
    (disk, files)
}

#[test]
fn what_found_the_disk_full_is_published_whole_once_there_is_room() {
    let (disk, files) = mem_disk();
    let path = Path::new("/d/file_1");
    files.publish(FileId(1), b"first ").unwrap();
    for room in 6..12 {
        disk.set_room(Some(room));
        let error = files.publish(FileId(1), b"second").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!((files.size(FileId(1)), disk.read_file(path).unwrap()), (6, b"first ".to_vec()));
    }
    disk.set_room(None);
    files.publish(FileId(1), b"second").unwrap();
    assert_eq!(disk.read_file(path).unwrap(), b"first second");
}

#[test]
fn synced_bytes_survive_a_power_loss_and_new_files_do_too() {
    let (disk, files) = mem_disk();
    files.publish(FileId(0), &[7; 3000]).unwrap();
    files.sync().unwrap();
    files.publish(FileId(0), &[8; 3000]).unwrap();
    for seed in 0..50 {
        let after = disk.after_power_loss(seed);
        let files = DataFiles::open(&after, Path::new("/d"), 2).unwrap();
        files.restore(vec![3000, 0]).unwrap().finish().unwrap();
        assert_eq!(after.read_file(Path::new("/d/file_0")).unwrap(), [7; 3000]);
    }
}

#[test]
fn only_changed_files_are_synced_and_never_again_after_a_failure() {
    let (disk, files) = mem_disk();
    files.publish(FileId(1), b"x").unwrap();
    let before = disk.operations();
    files.sync().unwrap();
    files.sync().unwrap();
    assert_eq!(disk.operations(), before + 1);
    files.publish(FileId(0), b"y").unwrap();
    disk.set_fault(Some(Fault::Error(disk.operations())));
    assert!(matches!(files.sync(), Err(Error::Io { op: "sync", .. })));
    assert!(matches!(files.sync(), Err(Error::Failed)));
}

#[test]
fn files_made_by_a_killed_start_survive_a_power_loss() {
    let dir = Path::new("/data");
    for killed_at in 0..4 {
        let disk = MemDisk::new();
        disk.create_dir(dir).unwrap();
        disk.set_fault(Some(Fault::PowerOff(killed_at)));
        let _ = DataFiles::open(&disk, dir, 2);
        // Only the process was killed: the kernel has everything.
        disk.set_fault(None);
        let files = DataFiles::open(&disk, dir, 2).unwrap();
        files.publish(FileId(1), b"published").unwrap();
        files.sync().unwrap();
        for seed in 0..20 {
            let later = DataFiles::open(&disk.after_power_loss(seed), dir, 2).unwrap();
            assert_eq!(later.sizes(), [0, 9], "killed at {killed_at}, seed {seed}");
        }
    }
}

#[test]
fn what_is_published_while_a_sync_runs_is_synced_by_the_next() {
    let (disk, files) = mem_disk();
    let files = Arc::new(files);
    let all_there = |text: &[u8]| {
        files.sync().unwrap();
        let disk = disk.after_worst_power_loss();
        assert_eq!(disk.read_file(Path::new("/d/file_0")).unwrap(), text);
    };
    // Another thread publishes when the sync has been to the disk, but is not over, ...
    files.publish(FileId(0), b"A").unwrap();
    let other = Arc::clone(&files);
    disk.interrupt(Moment::Synced, move || other.publish(FileId(0), b"B").unwrap());
    files.sync().unwrap();
    all_there(b"AB");
    // ... or a sync comes when one is about to write.
    let other = Arc::clone(&files);
    disk.interrupt(Moment::Write, move || other.sync().unwrap());
    files.publish(FileId(0), b"C").unwrap();
    all_there(b"ABC");
}
