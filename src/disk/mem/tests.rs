use super::content::SECTOR;
use super::*;
use std::collections::BTreeSet;
use std::path::PathBuf;

fn disk() -> (MemDisk, PathBuf) {
    let disk = MemDisk::new();
    disk.create_dir(Path::new("/d")).unwrap();
    (disk, PathBuf::from("/d/file"))
}

/// What a power loss may leave of the file.
fn outcomes(disk: &MemDisk, path: &Path) -> BTreeSet<Option<Vec<u8>>> {
    (0..200).map(|seed| disk.after_power_loss(seed).read_file(path).ok()).collect()
}

#[test]
fn what_was_synced_survives_a_power_loss() {
    let (disk, path) = disk();
    let file = disk.create(&path).unwrap();
    file.write_at(b"synced", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, &path), BTreeSet::from([None, Some(b"synced".to_vec())]));
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(outcomes(&disk, &path), BTreeSet::from([Some(b"synced".to_vec())]));
    file.write_at(b"and more", 6).unwrap();
    assert_eq!(disk.after_worst_power_loss().read_file(&path).unwrap(), b"synced");
}

#[test]
fn unsynced_sectors_survive_in_any_combination() {
    let (disk, path) = disk();
    let file = disk.create(&path).unwrap();
    file.set_size(2 * SECTOR as u64).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_at(&[1; SECTOR], 0).unwrap();
    file.write_at(&[2; 2 * SECTOR], 0).unwrap();
    let pairs: BTreeSet<_> = outcomes(&disk, &path)
        .into_iter()
        .map(|bytes| bytes.map(|bytes| (bytes[0], bytes[SECTOR])))
        .collect();
    let all = [(0, 0), (0, 2), (1, 0), (1, 2), (2, 0), (2, 2)];
    assert_eq!(pairs, all.into_iter().map(Some).collect());
}

#[test]
fn what_a_sync_failed_to_write_is_not_written_by_the_next() {
    let (disk, path) = disk();
    disk.put_file(&path, b"old");
    let file = disk.open(&path).unwrap();
    file.write_at(b"new", 0).unwrap();
    disk.set_fault(Some(Fault::Error(disk.operations())));
    file.sync().unwrap_err();
    disk.set_fault(None);
    file.sync().unwrap();
    assert_eq!(disk.read_file(&path).unwrap(), b"new");
    assert_eq!(outcomes(&disk, &path), BTreeSet::from([Some(b"old".to_vec())]));
    file.write_at(b"n", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, &path), BTreeSet::from([Some(b"new".to_vec())]));
}

#[test]
fn unsynced_renames_and_removals_happen_or_not() {
    let (disk, path) = disk();
    let dir = Path::new("/d");
    disk.put_file(&path, b"old");
    disk.put_file(&dir.join("new"), b"new");
    disk.rename(&dir.join("new"), &path).unwrap();
    assert_eq!(disk.read_file(&path).unwrap(), b"new");
    let both = BTreeSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]);
    assert_eq!(outcomes(&disk, &path), both);
    disk.sync_dir(dir).unwrap();
    disk.remove(&path).unwrap();
    assert_eq!(outcomes(&disk, &path), BTreeSet::from([None, Some(b"new".to_vec())]));
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (disk, path) = disk();
    let file = disk.create(&path).unwrap();
    disk.set_room(Some(5));
    let error = file.write_at(b"too much", 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.read_file(&path).unwrap(), b"too m");
    assert_eq!(file.reserve(6).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.write_at(b"fits!", 0).unwrap();
    disk.set_room(Some(8));
    assert_eq!(disk.room(Path::new("/d")).unwrap(), 3);
}

#[test]
fn faults_come_when_they_are_asked_for() {
    let (disk, path) = disk();
    disk.set_fault(Some(Fault::Error(1)));
    let file = disk.create(&path).unwrap();
    assert_eq!(file.write_at(b"half", 0).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(disk.read_file(&path).unwrap(), b"ha");
    file.write_at(b"whole", 0).unwrap();
    disk.set_fault(Some(Fault::PowerOff(disk.operations())));
    assert!(file.sync().is_err() && file.size().is_err() && disk.open(&path).is_err());
}
