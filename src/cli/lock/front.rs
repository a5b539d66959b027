//! The front: the process that the user started. It passes on signals, the terminal and the exit
//! status, and has a watch of its own should the guard be killed or stopped.

use super::end::{End, after_release};
use super::family::Family;
use super::keeper::{Keeper, News};
use super::lease::SharedLease;
use super::link::{Link, Report, Start};
use super::terminal::Terminal;
use super::watch::Watch;
use super::{LockArgs, say};
use crate::cli::connect::Server;
use crate::cli::exit::Exit;
use crate::client::Error;
use crate::client::clock::now_us;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg, raise};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp};
use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

/// How long leaving the queue may take after a signal, in microseconds.
const LEAVE_US: u64 = 1_000_000;

/// How far the front is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For the lock; a signal that came meanwhile ends the wait.
    Waiting(Option<Signal>),
    /// The guard is told to start the command.
    Starting,
    Running,
    /// The command has ended with this status; what it left behind runs on.
    Ended(u8),
    /// All is over; the lock is being given back.
    Releasing(u8),
}

pub(super) struct Front {
    pub(super) args: LockArgs,
    server: Server,
    pub(super) signals: SignalFd,
    pub(super) link: Link,
    pub(super) guard: Pid,
    pub(super) lease: SharedLease,
    pub(super) keeper: Keeper,
    pub(super) watch: Watch,
    family: Family,
    terminal: Option<Terminal>,
    stage: Stage,
    started: Instant,
    is_guard_there: bool,
    is_lost: bool,
    /// Signals that came while the command was being started; it gets them then.
    early_signals: Vec<Signal>,
}

impl Front {
    pub(super) fn new(
        (args, server): (LockArgs, Server),
        signals: SignalFd,
        (link, guard): (Link, Pid),
        lease: SharedLease,
        keeper: Keeper,
    ) -> io::Result<Front> {
        Ok(Front {
            args,
            server,
            signals,
            link,
            guard,
            lease,
            keeper,
            watch: Watch::second(lease)?,
            family: Family::of_front(guard),
            terminal: Terminal::of_stdin(),
            stage: Stage::Waiting(None),
            started: Instant::now(),
            is_guard_there: true,
            is_lost: false,
            early_signals: Vec::new(),
        })
    }

    pub(super) fn run(mut self) -> io::Result<End> {
        loop {
            let mut fds = vec![
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.keeper.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
            ];
            if self.is_guard_there {
                fds.push(PollFd::new(self.link.as_fd(), PollFlags::POLLIN));
            }
            // A signal that is not taken up here ends the wait early, which does no harm.
            let _ = poll(&mut fds, PollTimeout::NONE);
            let is_ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
            let (is_due, is_report) = (is_ready(2), is_ready(3));
            if let Some(end) = self.take_signals()? {
                return Ok(end);
            }
            while let Some(news) = self.keeper.news() {
                if let Some(end) = self.take_news(news) {
                    return Ok(end);
                }
            }
            if is_report && let Some(end) = self.take_report() {
                return Ok(end);
            }
            if is_due && let Some(end) = self.take_time() {
                return Ok(end);
            }
        }
    }

    fn take_signals(&mut self) -> io::Result<Option<End>> {
        while let Some(info) = self.signals.read_signal()? {
            // The kernel's number of a signal that was asked for.
            let Ok(signal) = Signal::try_from(info.ssi_signo.cast_signed()) else { continue };
            match (self.stage, signal) {
                (Stage::Waiting(_), Signal::SIGTSTP) => raise(Signal::SIGSTOP)?,
                (Stage::Waiting(_), Signal::SIGCONT) => {}
                (Stage::Waiting(None), _) => {
                    self.stage = Stage::Waiting(Some(signal));
                    self.keeper.cancel();
                    self.watch.wait_until(now_us() + LEAVE_US);
                }
                // The second signal ends a wait that the first could not end politely.
                (Stage::Waiting(Some(_)), _) => return Ok(Some(End::Signal(signal))),
                (Stage::Running, Signal::SIGCONT) => self.resume(),
                (Stage::Starting, _) => self.early_signals.push(signal),
                (Stage::Releasing(_), _) => {}
                (Stage::Running | Stage::Ended(_), _) => self.family.forward(signal),
            }
        }
        Ok(None)
    }

    fn take_news(&mut self, news: News) -> Option<End> {
        match (self.stage, news) {
            (Stage::Waiting(None), News::Granted(token)) => {
                if self.args.verbose {
                    let took = self.started.elapsed().as_secs_f64();
                    say(&format!("getting the lock took {took:.6} seconds; token {token}"));
                    say(&format!("executing {}", self.args.program()));
                }
                let takes_terminal = self.terminal.is_some_and(|terminal| terminal.is_ours());
                self.stage = Stage::Starting;
                self.link.send_start(Start { token: token.0, takes_terminal });
                self.watch.check(&self.family);
            }
            // Too late to be of use: a signal ends the program.
            (Stage::Waiting(Some(_)), News::Granted(_)) => self.keeper.release(),
            (Stage::Waiting(Some(signal)), News::Failed(_) | News::Lost(_) | News::Released(_)) => {
                return Some(End::Signal(signal));
            }
            (_, News::Failed(error)) => return Some(self.not_acquired(&error)),
            (Stage::Releasing(status), News::Lost(error)) => {
                return Some(End::Status(after_release(status, &Err(error))));
            }
            (_, News::Lost(error)) => {
                say(&format!("the lock is lost ({error})"));
                self.is_lost = true;
                self.watch.check(&self.family);
            }
            (Stage::Releasing(status), News::Released(result)) => {
                return Some(End::Status(after_release(status, &result)));
            }
            (_, News::Granted(_) | News::Released(_)) => {}
        }
        None
    }

    fn take_report(&mut self) -> Option<End> {
        match self.link.receive_report() {
            Some(Report::Started(pid)) => {
                self.family.set_group(Some(Pid::from_raw(pid)));
                self.stage = Stage::Running;
                for signal in std::mem::take(&mut self.early_signals) {
                    self.family.forward(signal);
                }
            }
            Some(Report::NotStarted(errno)) => {
                let errno = Errno::from_raw(errno);
                say(&format!("failed to execute {}: {}", self.args.program(), errno.desc()));
                self.stage = Stage::Ended(if errno == Errno::ENOENT { 127 } else { 126 });
            }
            Some(Report::TooLate) => self.is_lost = true,
            Some(Report::Stopped(signal)) => self.stop(signal),
            Some(Report::Ended(status)) => {
                self.back_to_foreground();
                self.family.set_group(None);
                self.stage = Stage::Ended(status);
            }
            Some(Report::Ending) => {
                if !self.is_lost {
                    say("the lease cannot be renewed: ending the command");
                }
                self.is_lost = true;
                self.watch.note_ending();
            }
            None => {
                self.is_guard_there = false;
                return self.guard_gone();
            }
        }
        None
    }

    /// Nothing of the command is left, or there is no guard to tell.
    fn guard_gone(&mut self) -> Option<End> {
        // Once it was waited for, whom it looked after are this process's children.
        let is_done = waitpid(self.guard, None) == Ok(WaitStatus::Exited(self.guard, 0));
        match self.stage {
            Stage::Ended(status) if !self.is_lost && is_done => {
                self.stage = Stage::Releasing(status);
                self.watch.wait_until(self.lease.schedule().deadline());
                self.keeper.release();
                None
            }
            Stage::Releasing(_) => None,
            Stage::Starting | Stage::Waiting(_) if !self.is_lost => {
                say("the guard process ended before the command was started");
                Some(End::Status(Exit::System as u8))
            }
            _ if self.is_something_left() => {
                if !is_done {
                    say("the guard process was killed: ending the command");
                }
                self.is_lost = true;
                // Whom the guard looked after is this process's to end now.
                self.watch.end_by(now_us(), &self.family);
                None
            }
            _ => Some(self.lost()),
        }
    }

    /// Does what the time has come for.
    fn take_time(&mut self) -> Option<End> {
        if let Stage::Releasing(status) = self.stage {
            let deadline = self.lease.schedule().deadline();
            if deadline > now_us() {
                self.watch.wait_until(deadline);
                return None;
            }
            say("no server took the lock back; it is free again now that its lease has ended");
            return Some(End::Status(status));
        }
        if let Stage::Waiting(Some(signal)) = self.stage {
            return Some(End::Signal(signal));
        }
        self.watch.check(&self.family);
        if !self.watch.is_ending() {
            return None;
        }
        self.is_lost = true;
        if self.watch.is_killing() && self.is_guard_there {
            // It has not done its work: what it looked after comes to this process.
            let _ = kill(self.guard, Signal::SIGKILL);
            return None;
        }
        (self.watch.is_killing() && !self.is_something_left()).then(|| self.lost())
    }

    /// Whether something of the command lives, now that there is no guard. Every process that the
    /// command has started is a descendant of this one.
    fn is_something_left(&self) -> bool {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if self.family.has_no_strangers() => return true,
                Ok(WaitStatus::StillAlive) => return self.family.is_alive(),
                Err(Errno::ECHILD) => return false,
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn not_acquired(&self, error: &Error) -> End {
        if !matches!(error, Error::WouldBlock) {
            say(&self.server.explain(error));
            return End::Status(Exit::of_client(error) as u8);
        }
        if self.args.verbose {
            say(if self.args.waits_not() {
                "failed to get the lock"
            } else {
                "timeout while waiting to get the lock"
            });
        }
        End::Status(self.args.conflict_exit_code)
    }

    fn lost(&self) -> End {
        self.back_to_foreground();
        say("the lease could not be kept: the command was ended before the lock can pass on");
        End::Status(Exit::Temporary as u8)
    }

    /// The command was stopped. In a terminal the shell shall see that its job is stopped.
    fn stop(&mut self, signal: i32) {
        let (Some(_), Some(group)) = (self.terminal, self.family.group()) else { return };
        let left_us = self.lease.schedule().terminate_at().saturating_sub(now_us());
        self.back_to_foreground();
        say(&format!(
            "stopped; unless continued within {:.1} seconds, the command is ended",
            left_us as f64 / 1e6
        ));
        // The rest of the shell's job, then this process, which holds off SIGTSTP.
        let _ = killpg(getpgrp(), Signal::try_from(signal).unwrap_or(Signal::SIGTSTP));
        let _ = raise(Signal::SIGSTOP);
        if let Some(terminal) = self.terminal
            && terminal.is_ours()
        {
            terminal.give(group);
        }
        let _ = killpg(group, Signal::SIGCONT);
    }

    /// The shell continued this process, in the foreground or not.
    fn resume(&self) {
        if let (Some(terminal), Some(group)) = (self.terminal, self.family.group())
            && terminal.is_ours()
        {
            terminal.give(group);
        }
        self.family.forward(Signal::SIGCONT);
    }

    fn back_to_foreground(&self) {
        if let (Some(terminal), Some(group)) = (self.terminal, self.family.group()) {
            terminal.take_back(group);
        }
    }
}
