//! A process group that does not outlive a process, whatever becomes of that process.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::unistd::{Pid, pipe2};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has the kernel kill a process group when this process ends, be it by SIGKILL and be every other
/// process that could notice stopped.
///
/// The group is the owner of the reading end of a pipe whose only writing end is here. When that end
/// closes, the kernel signals to the owner that there is something to read, by SIGKILL. The group
/// itself keeps the reading end open, and with it the arrangement.
#[derive(Debug)]
pub struct Tether {
    reading: OwnedFd,
    _writing: OwnedFd,
}

impl Tether {
    /// A tether that holds nobody yet.
    pub fn new() -> io::Result<Tether> {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
        Ok(Tether { reading, _writing: writing })
    }

    /// Has the command, once started, keep the reading end open.
    pub fn pass_on(&self, command: &mut Command) {
        let reading = self.reading.as_raw_fd();
        let prepare = move || {
            // SAFETY: takes and returns numbers; where the descriptor is not open it fails.
            let result = unsafe { libc::fcntl(reading, libc::F_SETFD, 0) };
            Ok(Errno::result(result).map(drop)?)
        };
        // SAFETY: `prepare` makes one system call, which is safe between fork and exec.
        unsafe { command.pre_exec(prepare) };
    }

    /// From now on the group ends with this process.
    pub fn tie(&self, group: Pid) -> io::Result<()> {
        let set = |what: libc::c_int, value: libc::c_int| {
            // SAFETY: takes and returns numbers, and the descriptor is open.
            Errno::result(unsafe { libc::fcntl(self.reading.as_raw_fd(), what, value) })
        };
        set(libc::F_SETOWN, -group.as_raw())?;
        set(F_SETSIG, libc::SIGKILL)?;
        fcntl(&self.reading, FcntlArg::F_SETFL(OFlag::O_ASYNC))?;
        Ok(())
    }

    /// The group may outlive this process.
    pub fn untie(self) -> io::Result<()> {
        fcntl(&self.reading, FcntlArg::F_SETFL(OFlag::empty()))?;
        fcntl(&self.reading, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        Ok(())
    }
}

/// fcntl(2)'s F_SETSIG of Linux, which the libc crate does not name everywhere.
const F_SETSIG: libc::c_int = 10;
