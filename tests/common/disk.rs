//! A disk that is small enough to be filled.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A file system in memory, of a few MiB; unmounted when dropped.
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// `None`, with a message, where mounting is not permitted.
    pub fn mount(size: &str) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!(
                "SKIPPED: this needs a file system of its own, and mounting is not permitted"
            );
            return None;
        }
        Some(SmallDisk { dir })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes all the room there is.
    pub fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).unwrap();
        let mut block = 1 << 16;
        while block > 0 {
            if file.write_all(&vec![0; block]).is_err() {
                block /= 2;
            }
        }
    }

    /// Gives back what [`SmallDisk::fill`] took.
    pub fn make_room(&self) {
        // It may have been done before.
        let _ = std::fs::remove_file(self.path().join("filler"));
    }

    /// Makes it read-only (`ro`) or writable (`rw`).
    pub fn remount(&self, mode: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{mode}")])
            .arg(self.path())
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is being dropped may still have files open.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
