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
    let mut buffer = vec![0; CHUNK];
    let mut copied = 0;
    loop {
        let read = connection.read(file, offset + copied, &mut buffer)?;
        out.write_all(&buffer[..read])?;
        copied += read as u64;
        if read < buffer.len() {
            return Ok(copied);
        }
    }
}
