//! The guard: a process between `baton lock` and its command. It starts the command, reports how
//! that fares, knows when all of it has ended, and ends it in time even when the front is killed
//! or stopped.

use super::family::Family;
use super::lease::SharedLease;
use super::link::{Link, Report};
use super::watch::Watch;
use crate::client::clock::now_us;
use crate::sys::{Tether, tie_to_parent};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_child_subreaper, set_name};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setpgid};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// How long the command has to end after the front was killed, in microseconds, if the lease
/// lasts that long.
const GRACE_US: u64 = 5_000_000;

/// What the guard is to do.
pub(super) struct Guard {
    pub(super) command: Command,
    /// The signals that were held off when `baton lock` was started, as they are for the command.
    pub(super) mask: SigSet,
    pub(super) link: Link,
    pub(super) lease: SharedLease,
    /// Only the command itself counts, not what it leaves behind.
    pub(super) is_close: bool,
}

impl Guard {
    /// The whole life of the guard. The link's end tells the front that nothing of the command is
    /// left.
    pub(super) fn run(mut self) -> i32 {
        match self.start() {
            // What the command leaves behind is nobody's concern any more, or there is nothing.
            Ok(Some((watch, family, tether))) => {
                match self.stand(watch, family).and_then(|()| tether.untie()) {
                    Ok(()) => 0,
                    Err(error) => fail(&error),
                }
            }
            Ok(None) => 0,
            Err(error) => fail(&error),
        }
    }

    /// Waits for the lock and starts the command.
    fn start(&mut self) -> io::Result<Option<(Watch, Family, Tether)>> {
        // What is meant for the group of `baton lock` must not reach the guard, nor any signal
        // that can be held off.
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        SigSet::all().thread_block()?;
        set_child_subreaper(true)?;
        set_name(c"baton-guard")?;
        let Some(start) = self.link.receive_start() else { return Ok(None) };
        // From here on a guard that is stopped is killed before the lease ends.
        let watch = Watch::first(self.lease)?;
        if self.lease.schedule().terminate_at() <= now_us() {
            self.link.send_report(Report::TooLate);
            return Ok(None);
        }
        self.command.env("BATON_LOCK_TOKEN", start.token.to_string()).process_group(0);
        let tether = Tether::new()?;
        if !self.is_close {
            tether.pass_on(&mut self.command);
        }
        tie_to_parent(&mut self.command, self.mask, start.takes_terminal);
        let mut family = Family::of_guard();
        match self.command.spawn() {
            Err(error) => {
                self.link.send_report(Report::NotStarted(error.raw_os_error().unwrap_or(0)));
                Ok(None)
            }
            Ok(child) => {
                let pid = child.id().cast_signed();
                family.set_group(Some(Pid::from_raw(pid)));
                tether.tie(Pid::from_raw(pid))?;
                self.link.send_report(Report::Started(pid));
                Ok(Some((watch, family, tether)))
            }
        }
    }

    /// Stands by until nothing of the command is left.
    fn stand(&self, mut watch: Watch, mut family: Family) -> io::Result<()> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut is_front_there = true;
        watch.check(&family);
        while self.look_after_children(&mut family)? {
            let mut fds = vec![
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(watch.as_fd(), PollFlags::POLLIN),
            ];
            if is_front_there {
                fds.push(PollFd::new(self.link.as_fd(), PollFlags::POLLIN));
            }
            // A signal ends the wait as what it tells of does.
            let _ = poll(&mut fds, PollTimeout::NONE);
            let is_ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
            let (is_due, is_link) = (is_ready(1), is_ready(2));
            while signals.read_signal()?.is_some() {}
            if is_link && self.link.receive_start().is_none() {
                is_front_there = false;
                eprintln!("baton lock: killed; ending its command");
                watch.end_by(now_us() + GRACE_US, &family);
            }
            if is_due {
                watch.check(&family);
                if watch.is_ending() {
                    // Before the command's end is reported: it is not to be taken for its own.
                    self.link.send_report(Report::Ending);
                }
            }
        }
        Ok(())
    }

    /// Takes in what became of the children. Returns whether something of the command is left.
    fn look_after_children(&self, family: &mut Family) -> io::Result<bool> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::StillAlive) => return Ok(true),
                Ok(status) => status,
                Err(Errno::ECHILD) => return Ok(false),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if status.pid() != family.group() {
                continue;
            }
            match status {
                WaitStatus::Stopped(_, signal) => {
                    self.link.send_report(Report::Stopped(signal as i32));
                    continue;
                }
                // What exit(3) takes has eight bits.
                WaitStatus::Exited(_, code) => self.link.send_report(Report::Ended(code as u8)),
                WaitStatus::Signaled(_, signal, _) => {
                    self.link.send_report(Report::Ended(128 + signal as u8));
                }
                _ => continue,
            }
            family.set_group(None);
            if self.is_close {
                return Ok(false);
            }
        }
    }
}

fn fail(error: &io::Error) -> i32 {
    eprintln!("baton lock: the guard failed: {error}");
    1
}
