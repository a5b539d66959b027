//! The judge over checkpoints: the bytes of data files that one vouches for are there even if the power
//! fails now and the disk keeps the least that it may. And what makes that hard: syncs that fail.

use super::context::Context;
use crate::data::FileMark;
use crate::disk::mem::{Fault, MemDisk};
use crate::server::PRIVATE_DIR;
use crate::types::FileId;
use crate::wal;
use std::path::Path;

/// A checkpoint in `dir` was kept; `files_of` reads what it records of the data files.
pub fn check(
    disk: &MemDisk,
    dir: &Path,
    files_of: impl Fn(&[u8]) -> Result<Vec<FileMark>, postcard::Error>,
) -> Result<(), String> {
    let disk = disk.after_worst_power_loss();
    let found = wal::read_checkpoint(&disk, &dir.join(PRIVATE_DIR));
    let Some(found) = found.map_err(|error| error.to_string())? else { return Ok(()) };
    let files = files_of(&found.state).map_err(|error| error.to_string())?;
    for (id, mark) in files.iter().enumerate() {
        let bytes = disk.read_file(&dir.join(FileId(id as u32).name())).unwrap_or_default();
        let there = bytes.get(..mark.size as usize);
        if there.is_none_or(|there| crc32c::crc32c(there) != mark.sum) {
            return Err(format!(
                "the checkpoint vouches for {} bytes of file_{id}, which a power loss may take",
                mark.size
            ));
        }
    }
    Ok(())
}

/// Has one of the next operations of a checkpoint fail, in some runs.
pub fn spoil(disk: &MemDisk, context: &mut Context) {
    let faults = context.plan.faults;
    let may_fail = !context.is_ending && (faults.disk_errors || faults.disk_full);
    if !may_fail || !context.random.chance(SPOILED) {
        return;
    }
    let at = disk.operations() + context.random.between(0, 4);
    let is_full = faults.disk_full && (!faults.disk_errors || context.random.chance(0.5));
    if is_full {
        context.full.push((context.now, context.now));
    }
    disk.set_fault(Some(if is_full { Fault::Full(at) } else { Fault::Error(at) }));
}

/// How many steps of checkpoints are to fail.
const SPOILED: f64 = 0.05;
