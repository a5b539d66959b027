//! Processes that depend on each other.

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, tcsetpgrp};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Runs `body` in a forked child, which ends with the status that it returns.
///
/// # Errors
/// Refused while this process has other threads: the child would have only this one, and locks
/// that nobody opens any more.
pub fn fork_running(body: impl FnOnce() -> i32) -> io::Result<Pid> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("cannot fork beside other threads"));
    }
    // SAFETY: the process has one thread, so the child is a whole copy of it: whatever that may
    // do, the child may do.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let status = body();
            // SAFETY: ends the process. Not `exit`: what the parent registered to be run at its
            // end, and what it has in buffers, is its own.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Makes the command, once started, die with this process, hold off only the signals of `mask`,
/// and first take over the terminal on its standard input if `takes_terminal`.
pub fn tie_to_parent(command: &mut Command, mask: SigSet, takes_terminal: bool) {
    let parent = getpid();
    let prepare = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            // The parent ended before the line above: nobody would tell.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if takes_terminal {
            // A group in the background that takes the terminal is stopped by SIGTTOU.
            let mut quiet = SigSet::empty();
            quiet.add(Signal::SIGTTOU);
            pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&quiet), None)?;
            tcsetpgrp(io::stdin(), getpid())?;
        }
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
        Ok(())
    };
    // SAFETY: `prepare` makes only system calls that are safe between fork and exec; it takes no
    // lock (`io::stdin` only names descriptor 0 here) and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}
