//! Copying what the server has to where the user wants it.

use crate::client::Connection;
use std::io::Write;

/// Bytes asked for between two writes.
const CHUNK: usize = 64 << 10;

/// Writes what a file has published from `offset` on. Returns how much that was.
pub(super) fn copy(
    connection: &mut Connection,
    file: &str,
    offset: u64,
    out: &mut impl Write,
) -> anyhow::Result<u64> {
    copy_part(connection, file, (offset, u64::MAX), out, |_| {})
}

/// The same for so many bytes at most; `progress` is told of each piece.
pub(super) fn copy_part(
    connection: &mut Connection,
    file: &str,
    (offset, length): (u64, u64),
    out: &mut impl Write,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut copied = 0;
    while copied < length {
        let room = (length - copied).min(CHUNK as u64) as usize;
        let read = connection.read(file, offset.saturating_add(copied), &mut buffer[..room])?;
        out.write_all(&buffer[..read])?;
        copied += read as u64;
        progress(read as u64);
        if read < room {
            break;
        }
    }
    Ok(copied)
}
