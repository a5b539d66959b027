//! Bytes that changed or went missing: whatever happens to one byte, the log is refused or what is
//! read is a prefix, and nothing that was synced is lost in silence.

use super::*;
use crate::disk::mem::MemDisk;
use crate::wal::{check, mark};
use std::path::PathBuf;

const DIR: &str = "/d";
/// Small, so that little is reserved and looked through; but nothing here fills a segment.
const SEGMENT_MAX: u64 = 1200;
/// Entries up to here are in the closed segment.
const CLOSED: u64 = 6;
const LAST: u64 = 14;

fn segment(first: u64) -> PathBuf {
    PathBuf::from(format!("{DIR}/wal-{first:020}.log"))
}

/// A log of two segments. `is_synced`: each entry was synced before the next was written, and the
/// mark says so; otherwise nothing tells of a sync.
fn build(is_synced: bool) -> MemDisk {
    let disk = MemDisk::new();
    let dir = Path::new(DIR);
    disk.create_dir(dir).unwrap();
    let (mut writer, ..) = collect(&disk, dir, SEGMENT_MAX, 0).unwrap();
    for index in 1..=LAST {
        let synced = if is_synced { index - 1 } else { 0 };
        writer.write(&mut batch(index, 1, 1), LogIndex(synced)).unwrap();
        if is_synced {
            writer.handle().note_synced(LogIndex(index));
        }
        if index == CLOSED {
            writer.roll().unwrap();
        }
    }
    disk
}

/// Where each entry of the last segment starts, and where they end.
fn starts() -> Vec<usize> {
    let mut starts = vec![32];
    for index in CLOSED + 1..=LAST {
        starts.push(starts[starts.len() - 1] + 24 + payload(index, 1).len());
    }
    starts
}

/// Recovers a copy with one file changed. On success what is left is a prefix, and the log goes
/// on behind it; on refusal nothing was changed. Gives the last entry left and whether a loss of
/// synced entries was noticed, or the reason for the refusal.
fn recover_with(disk: &MemDisk, path: &Path, bytes: &[u8]) -> Result<(u64, bool), String> {
    let (disk, dir) = (disk.snapshot(), Path::new(DIR));
    disk.put_file(path, bytes);
    let report = check(&disk, dir, &mut |_, _| Ok(()));
    let (mut writer, recovered, entries) = match collect(&disk, dir, SEGMENT_MAX, 0) {
        Ok(found) => found,
        Err(error) => {
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
            assert_eq!(disk.read_file(path).unwrap(), bytes, "changed in spite of {error}");
            assert_eq!(report.unwrap_err().to_string(), error.to_string());
            return Err(error.to_string());
        }
    };
    let last = recovered.last.0;
    let report = report.unwrap();
    assert_eq!((report.last.0, &report.torn), (last, &recovered.torn));
    assert_eq!(entries, expected(1..=last, 1));
    writer.write(&mut batch(last + 1, 3, 2), LogIndex(last)).unwrap();
    drop(writer);
    let (_, again, entries) = collect(&disk, dir, SEGMENT_MAX, 0).unwrap();
    assert_eq!((again.torn, again.lost_synced), (None, false));
    assert_eq!(entries[last as usize..], expected(last + 1..=last + 3, 2));
    Ok((last, recovered.lost_synced))
}

#[test]
fn a_flipped_byte_in_synced_entries_is_refused_unless_nothing_valid_follows() {
    let (disk, starts) = (build(true), starts());
    let whole = disk.read_file(&segment(CLOSED + 1)).unwrap();
    for at in 0..whole.len().min(starts[starts.len() - 1] + 300) {
        for mask in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            let result = recover_with(&disk, &segment(CLOSED + 1), &bytes);
            let last_start = starts[starts.len() - 2];
            match result {
                Err(why) => assert!(at < last_start, "byte {at}: {why}"),
                Ok(found) if at < starts[starts.len() - 1] => {
                    assert!(at >= last_start, "byte {at}");
                    assert_eq!(found, (LAST - 1, true), "byte {at}");
                }
                Ok(found) => assert_eq!(found, (LAST, false), "byte {at}"),
            }
        }
    }
}

#[test]
fn without_a_sign_of_a_sync_a_bad_entry_is_where_the_log_is_cut() {
    let (disk, starts) = (build(false), starts());
    let whole = disk.read_file(&segment(CLOSED + 1)).unwrap();
    for at in 32..starts[starts.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        let before = starts.iter().filter(|&&start| start <= at).count() as u64 - 1;
        let found = recover_with(&disk, &segment(CLOSED + 1), &bytes);
        assert_eq!(found, Ok((CLOSED + before, false)), "byte {at}");
    }
}

#[test]
fn any_flipped_or_missing_byte_in_a_closed_segment_is_refused() {
    let disk = build(false);
    let whole = disk.read_file(&segment(1)).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        assert!(recover_with(&disk, &segment(1), &bytes).is_err(), "flipped byte {at}");
        assert!(recover_with(&disk, &segment(1), &whole[..at]).is_err(), "cut to {at}");
    }
}

#[test]
fn a_cut_last_segment_is_a_prefix_and_the_loss_of_synced_entries_is_noticed() {
    for is_synced in [false, true] {
        let (disk, starts) = (build(is_synced), starts());
        let whole = disk.read_file(&segment(CLOSED + 1)).unwrap();
        for at in 0..starts[starts.len() - 1] {
            let left = starts.iter().filter(|&&start| start <= at).count().saturating_sub(1) as u64;
            let found = recover_with(&disk, &segment(CLOSED + 1), &whole[..at]);
            assert_eq!(found, Ok((CLOSED + left, is_synced)), "cut to {at}");
        }
    }
}

#[test]
fn a_zeroed_sector_before_synced_entries_is_refused() {
    let (disk, starts) = (build(true), starts());
    let whole = disk.read_file(&segment(CLOSED + 1)).unwrap();
    let mut bytes = whole.clone();
    bytes[starts[1]..starts[3]].fill(0);
    let why = recover_with(&disk, &segment(CLOSED + 1), &bytes).unwrap_err();
    assert!(
        why.contains(&format!("byte {}", starts[1])) && why.contains("the log was not changed"),
        "{why}"
    );
    assert!(why.contains(&segment(CLOSED + 1).display().to_string()), "{why}");
}

#[test]
fn the_mark_alone_tells_damage_from_a_torn_tail() {
    let (disk, starts) = (build(false), starts());
    let mut bytes = disk.read_file(&segment(CLOSED + 1)).unwrap();
    bytes[starts[2] + 30] ^= 1;
    for (marked, is_refused) in [(0, false), (CLOSED + 2, false), (CLOSED + 3, true), (LAST, true)]
    {
        disk.put_file(&mark::path(Path::new(DIR)), &mark::encode(LogIndex(marked)));
        let found = recover_with(&disk, &segment(CLOSED + 1), &bytes);
        assert_eq!(found.is_err(), is_refused, "mark {marked}: {found:?}");
    }
}

#[test]
fn a_mark_above_the_end_is_lowered_so_that_it_never_vouches_for_later_entries() {
    let (disk, dir) = (build(false), Path::new(DIR));
    disk.put_file(&mark::path(dir), &mark::encode(LogIndex(LAST + 9)));
    assert!(collect(&disk, dir, SEGMENT_MAX, 0).unwrap().1.lost_synced);
    for seed in 0..20 {
        assert_eq!(mark::read(&disk.after_power_loss(seed), dir).unwrap(), LogIndex(LAST));
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let (disk, dir) = (build(false), Path::new(DIR));
    disk.remove(&segment(1)).unwrap();
    let error = collect(&disk, dir, SEGMENT_MAX, 0).err().unwrap();
    assert!(error.to_string().contains("entries 1 to 6"), "{error}");

    let disk = build(false);
    let (mut writer, ..) = collect(&disk, dir, SEGMENT_MAX, 0).unwrap();
    writer.roll().unwrap();
    disk.remove(&segment(CLOSED + 1)).unwrap();
    let error = collect(&disk, dir, SEGMENT_MAX, 0).err().unwrap();
    assert!(error.to_string().contains("ends at 6"), "{error}");
}

#[test]
fn what_a_client_appended_never_passes_for_an_entry_of_the_log() {
    let (disk, dir) = (MemDisk::new(), Path::new(DIR));
    disk.create_dir(dir).unwrap();
    let (mut writer, ..) = collect(&disk, dir, SEGMENT_MAX, 0).unwrap();
    // As good as a client can make it without the salt: the next entries, said to be synced.
    let mut forged = batch(2, 2, 9);
    super::super::record::seal(&mut forged.bytes, LogIndex(1), 0);
    let mut pending = Pending::new();
    pending.push(LogIndex(1), |buf| buf.extend_from_slice(&forged.bytes));
    writer.write(&mut pending.take(Vec::new()), LogIndex(0)).unwrap();
    let mut bytes = disk.read_file(&segment(1)).unwrap();
    bytes[60] ^= 1;
    disk.put_file(&segment(1), &bytes);
    let (_, recovered, entries) = collect(&disk, dir, SEGMENT_MAX, 0).unwrap();
    assert!(recovered.torn.is_some() && entries.is_empty());
}

#[test]
fn leftovers_of_interrupted_creations_are_removed() {
    let (disk, dir) = (build(false), Path::new(DIR));
    disk.put_file(&dir.join("checkpoint.new"), b"half a checkpoint");
    disk.put_file(&segment(LAST + 1), b"BATONWAL");
    let (_, recovered, entries) = collect(&disk, dir, SEGMENT_MAX, 0).unwrap();
    assert_eq!(entries, expected(1..=LAST, 1));
    assert_eq!(recovered.torn.unwrap().file, segment(LAST + 1));
    let names = ["synced", "wal-00000000000000000001.log", "wal-00000000000000000007.log"];
    assert_eq!(disk.list(dir).unwrap(), names);
}

#[test]
fn another_versions_segment_is_refused_and_named() {
    let (disk, dir) = (build(false), Path::new(DIR));
    let mut bytes = disk.read_file(&segment(CLOSED + 1)).unwrap();
    bytes[8] = 1;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..32]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    disk.put_file(&segment(CLOSED + 1), &bytes);
    let error = collect(&disk, dir, SEGMENT_MAX, 0).err().unwrap();
    assert!(matches!(error, Error::Version { found: 1, known: 2, .. }), "{error}");
}
