//! The lease as the front and the guard both see it, and when to end the command that runs under
//! it. The two processes share the numbers, so that the guard knows of a renewal without being
//! told, and of none when the front is stopped.

use crate::sys::SharedWords;
use std::io;
use std::sync::atomic::Ordering;

/// The command is asked to end when this part of the lease is left...
const TERMINATE_PART: u64 = 4;
/// ... or this much of a long lease, in microseconds.
const TERMINATE_US_MAX: u64 = 12_000_000;
/// It is killed when this part of the lease is left...
const KILL_PART: u64 = 10;
/// ... or this much of a long lease, in microseconds.
const KILL_US_MAX: u64 = 2_000_000;

/// The lease of the lock, in memory shared with the guard.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedLease {
    words: SharedWords,
}

impl SharedLease {
    pub(super) fn new() -> io::Result<SharedLease> {
        Ok(SharedLease { words: SharedWords::new()? })
    }

    /// The lock is surely held until `deadline_us`, as known at `now_us`.
    pub(super) fn extend(&self, deadline_us: u64, now_us: u64) {
        self.words.word(1).fetch_max(deadline_us.saturating_sub(now_us), Ordering::AcqRel);
        self.words.word(0).store(deadline_us, Ordering::Release);
    }

    /// The lock is lost.
    pub(super) fn lose(&self) {
        self.words.word(0).store(0, Ordering::Release);
    }

    /// When to end the command, as things stand.
    pub(super) fn schedule(&self) -> Schedule {
        let deadline_us = self.words.word(0).load(Ordering::Acquire);
        Schedule { deadline_us, length_us: self.words.word(1).load(Ordering::Acquire) }
    }
}

/// When to end a command so that it is gone before the lock can pass to another. Times are those
/// of [`crate::client::clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    deadline_us: u64,
    length_us: u64,
}

impl Schedule {
    /// How long the lease is after a renewal.
    pub(super) fn length_us(&self) -> u64 {
        self.length_us
    }

    /// When the lock may pass to another; 0 once it is lost.
    pub(super) fn deadline(&self) -> u64 {
        self.deadline_us
    }

    /// When to send SIGTERM.
    pub(super) fn terminate_at(&self) -> u64 {
        self.before((self.length_us / TERMINATE_PART).min(TERMINATE_US_MAX))
    }

    /// When to send SIGKILL.
    pub(super) fn kill_at(&self) -> u64 {
        self.before((self.length_us / KILL_PART).min(KILL_US_MAX))
    }

    /// When whoever should have done that long ago is killed in turn, by the kernel.
    pub(super) fn give_up_at(&self) -> u64 {
        self.before((self.length_us / KILL_PART).min(KILL_US_MAX) / 2)
    }

    fn before(&self, margin_us: u64) -> u64 {
        self.deadline_us.saturating_sub(margin_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grace_ends_before_the_lease_does() {
        let lease = SharedLease::new().unwrap();
        lease.extend(20_000_000, 10_000_000);
        let schedule = lease.schedule();
        assert_eq!((schedule.terminate_at(), schedule.kill_at()), (17_500_000, 19_000_000));
        assert_eq!(schedule.give_up_at(), 19_500_000);
    }

    #[test]
    fn a_renewal_that_came_late_does_not_shrink_the_margins() {
        let lease = SharedLease::new().unwrap();
        lease.extend(20_000_000, 10_000_000);
        lease.extend(23_000_000, 22_000_000);
        assert_eq!(lease.schedule().terminate_at(), 20_500_000);
    }

    #[test]
    fn a_day_long_lease_does_not_end_the_command_hours_early() {
        let day = 86_400_000_000;
        let lease = SharedLease::new().unwrap();
        lease.extend(day, 0);
        let schedule = lease.schedule();
        assert_eq!(day - schedule.terminate_at(), 12_000_000);
        assert_eq!(day - schedule.kill_at(), 2_000_000);
    }

    #[test]
    fn a_lost_lock_is_overdue_at_once() {
        let lease = SharedLease::new().unwrap();
        lease.extend(20_000_000, 10_000_000);
        lease.lose();
        assert_eq!((lease.schedule().terminate_at(), lease.schedule().kill_at()), (0, 0));
    }
}
