//! The log as a whole, on a real disk and on one that fails and forgets.

mod basic;
mod crash;
mod damage;
mod faults;

use super::{Batch, Error, Options, Pending, Recovered, Writer, recover};
use crate::disk::Disk;
use crate::types::LogIndex;
use std::path::Path;

/// Entry `index` of the life `life`: what it says differs in every byte from other lives' entries.
fn payload(index: u64, life: u8) -> Vec<u8> {
    let len = 1 + (index * 37 + u64::from(life) * 11) % 90;
    (0..len).map(|at| (index * 3 + at) as u8 ^ life.wrapping_mul(0x55) | 1).collect()
}

fn batch(first: u64, count: u64, life: u8) -> Batch {
    let mut pending = Pending::new();
    for index in first..first + count {
        pending.push(LogIndex(index), |buf| buf.extend_from_slice(&payload(index, life)));
    }
    pending.take(Vec::new())
}

type Entries = Vec<(u64, Vec<u8>)>;

fn collect<D: Disk>(
    disk: &D,
    dir: &Path,
    segment_max: u64,
    after: u64,
) -> Result<(Writer<D>, Recovered, Entries), Error> {
    let mut entries = Vec::new();
    let options = Options { segment_max, salt: 0x5a17, ..Options::default() };
    let mut visit = |index: LogIndex, payload: &[u8]| {
        entries.push((index.0, payload.to_vec()));
        Ok(())
    };
    let (writer, recovered) = recover(disk, dir, &options, LogIndex(after), &mut visit)?;
    Ok((writer, recovered, entries))
}

fn expected(indices: impl Iterator<Item = u64>, life: u8) -> Entries {
    indices.map(|index| (index, payload(index, life))).collect()
}
