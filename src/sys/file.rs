//! Hints about files.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Has the kernel begin to write these bytes of a file to the disk, as it would by itself some time
/// later. What goes wrong is told by the next sync.
pub fn start_writing(file: &File, from: u64, len: u64) {
    let (from, len) = (from as libc::off64_t, len as libc::off64_t);
    // SAFETY: the call is given no memory.
    unsafe { libc::sync_file_range(file.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE) };
}
