//! All processes of the command: its group, and what left the group, found by descent. The guard
//! is a subreaper, so whoever loses its parent becomes the guard's child rather than init's.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpid};
use std::collections::{HashMap, HashSet};
use std::fs;

/// The descendants of this process, apart from those that are not part of the command.
#[derive(Clone, Debug)]
pub(super) struct Family {
    /// The guard, in the eyes of the front.
    guard: Option<Pid>,
    /// Children that this process had before it was `baton lock`: a shell's, which became it by exec.
    strangers: Vec<i32>,
    /// The group of the command itself, as long as its leader has not ended.
    group: Option<Pid>,
}

/// A process that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
}

impl Family {
    /// As the guard sees it.
    pub(super) fn of_guard() -> Family {
        Family { guard: None, strangers: Vec::new(), group: None }
    }

    /// As the front sees it, before the guard has started anything.
    pub(super) fn of_front(guard: Pid) -> Family {
        let mut family = Family { guard: Some(guard), ..Family::of_guard() };
        family.strangers = family.members().iter().map(|process| process.pid).collect();
        family
    }

    /// Whether a child that this process has can only be one of the command's, or the guard.
    pub(super) fn has_no_strangers(&self) -> bool {
        self.strangers.is_empty()
    }

    /// Which group the command has; None once its leader was waited for.
    pub(super) fn set_group(&mut self, group: Option<Pid>) {
        self.group = group;
    }

    pub(super) fn group(&self) -> Option<Pid> {
        self.group
    }

    /// Sends the signal to the command's group; once the command itself has ended, to each process
    /// that it left behind.
    pub(super) fn forward(&self, signal: Signal) {
        match self.group {
            Some(group) => {
                // It fails when the group is gone.
                let _ = killpg(group, signal);
            }
            None => self.signal_all(signal),
        }
    }

    /// Sends the signal to every process of the command.
    pub(super) fn signal_all(&self, signal: Signal) {
        let members = self.members();
        let is_reached = self.group.is_some_and(|group| killpg(group, signal) != Err(Errno::ESRCH));
        for member in &members {
            if !is_reached || self.group != Some(Pid::from_raw(member.group)) {
                // It fails when the process has ended meanwhile, or became another user's.
                let _ = kill(Pid::from_raw(member.pid), signal);
            }
        }
    }

    /// Whether a process of the command lives.
    pub(super) fn is_alive(&self) -> bool {
        !self.members().is_empty()
    }

    /// Asks every process of the command to end, also those that are stopped.
    pub(super) fn terminate(&self) {
        self.signal_all(Signal::SIGTERM);
        self.signal_all(Signal::SIGCONT);
    }

    /// The living descendants.
    fn members(&self) -> Vec<Process> {
        let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
        for process in processes() {
            children.entry(process.parent).or_default().push(process);
        }
        let mut seen = HashSet::from([getpid().as_raw()]);
        let mut todo = vec![getpid().as_raw()];
        let mut members = Vec::new();
        while let Some(parent) = todo.pop() {
            for &process in children.get(&parent).into_iter().flatten() {
                if !self.strangers.contains(&process.pid) && seen.insert(process.pid) {
                    todo.push(process.pid);
                    members.push(process);
                }
            }
        }
        let guard = self.guard.map(Pid::as_raw);
        members.retain(|process| Some(process.pid) != guard);
        members
    }
}

/// Every living process of the machine, as far as /proc shows it.
fn processes() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse_stat(pid, &stat)
    })
}

/// The fields of proc(5)'s stat; none for a process that has ended and was not waited for.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    // The program's name stands in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(Process { pid, parent, group })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_confuse() {
        let process = parse_stat(7, "7 (a) b (c) S 3 5 1 0 -1");
        assert_eq!(process, Some(Process { pid: 7, parent: 3, group: 5 }));
        assert_eq!(parse_stat(7, "7 (gone) Z 3 5 1 0 -1"), None);
        assert_eq!(parse_stat(7, "nonsense"), None);
    }
}
