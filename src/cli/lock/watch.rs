//! Ends the command in time. The guard and the front each have a watch, so that either may be
//! killed or stopped; the front's acts a little later, and so only if the guard's did not. Should both
//! be stopped, the kernel kills the guard by a timer that only a running guard puts off, and with it
//! the command ([`crate::sys::Tether`]).

use super::family::Family;
use super::lease::{Schedule, SharedLease};
use crate::client::clock::now_us;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timer::Timer;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// How often the guard puts its own end off: each time this part of the lease has passed.
const PUT_OFF_PART: u64 = 4;
/// Between two attempts to kill what appeared since the last, in microseconds.
const KILL_AGAIN_US: u64 = 20_000;

/// How far the watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The lease is long enough.
    Keeping,
    /// The command was asked to end, and is killed at this time.
    Ending { kill_at: u64 },
    /// It was killed.
    Killing,
}

pub(super) struct Watch {
    lease: SharedLease,
    timer: TimerFd,
    phase: Phase,
    /// How much later than the schedule to act: one part of the lease in this many, or not at all.
    delay_part: Option<u64>,
    /// Kills this process unless it is put off.
    dead_man: Option<Timer>,
}

impl Watch {
    /// The guard's watch, which does not let the guard live on when it is stopped.
    pub(super) fn first(lease: SharedLease) -> io::Result<Watch> {
        let kill = SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 };
        let dead_man = Timer::new(nix::time::ClockId::CLOCK_BOOTTIME, SigEvent::new(kill))?;
        let mut watch = Watch { dead_man: Some(dead_man), ..Watch::new(lease)? };
        watch.put_off(lease.schedule())?;
        Ok(watch)
    }

    /// The front's watch, which leaves the guard's some time to act first.
    pub(super) fn second(lease: SharedLease) -> io::Result<Watch> {
        Ok(Watch { delay_part: Some(50), ..Watch::new(lease)? })
    }

    fn new(lease: SharedLease) -> io::Result<Watch> {
        // The clock of the lease, which goes on while the machine is suspended.
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        Ok(Watch { lease, timer, phase: Phase::Keeping, delay_part: None, dead_man: None })
    }

    /// The lease lasts on: so may this process.
    fn put_off(&mut self, schedule: Schedule) -> io::Result<()> {
        if let Some(dead_man) = self.dead_man.as_mut().filter(|_| schedule.deadline() > 0) {
            let end = Expiration::OneShot(time(schedule.give_up_at()));
            dead_man.set(end, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        }
        Ok(())
    }

    /// Whether the command was asked to end, or killed.
    pub(super) fn is_ending(&self) -> bool {
        self.phase != Phase::Keeping
    }

    /// Whether the command was killed.
    pub(super) fn is_killing(&self) -> bool {
        self.phase == Phase::Killing
    }

    /// Sets the timer for something else than the command.
    pub(super) fn wait_until(&self, at: u64) {
        self.set_timer(at);
    }

    /// Does what the time has come for, and sets the timer for what comes next.
    pub(super) fn check(&mut self, family: &Family) {
        let now = now_us();
        let schedule = self.lease.schedule();
        if self.phase == Phase::Keeping && self.later(schedule, schedule.terminate_at()) <= now {
            self.end_by(self.later(schedule, schedule.kill_at()), family);
        }
        // It fails only for a time that does not exist.
        let _ = self.put_off(schedule);
        if let Phase::Ending { kill_at } = self.phase
            && kill_at <= now
        {
            self.phase = Phase::Killing;
        }
        if self.phase == Phase::Killing {
            family.signal_all(Signal::SIGKILL);
        }
        self.set_timer(match self.phase {
            Phase::Keeping if self.dead_man.is_some() => {
                schedule.terminate_at().min(now + schedule.length_us() / PUT_OFF_PART)
            }
            Phase::Keeping => self.later(schedule, schedule.terminate_at()),
            Phase::Ending { kill_at } => kill_at,
            Phase::Killing => now + KILL_AGAIN_US,
        });
    }

    /// Asks the command to end, and kills it at `kill_at` or when the lease demands it.
    pub(super) fn end_by(&mut self, kill_at: u64, family: &Family) {
        if self.phase != Phase::Keeping {
            return;
        }
        let schedule = self.lease.schedule();
        let kill_at = kill_at.min(self.later(schedule, schedule.kill_at()));
        if kill_at > now_us() {
            family.terminate();
        }
        self.phase = Phase::Ending { kill_at };
        self.set_timer(kill_at);
    }

    /// The guard has asked the command to end; only killing is left to do.
    pub(super) fn note_ending(&mut self) {
        if self.phase == Phase::Keeping {
            let schedule = self.lease.schedule();
            let kill_at = self.later(schedule, schedule.kill_at());
            self.phase = Phase::Ending { kill_at };
            self.set_timer(kill_at);
        }
    }

    fn later(&self, schedule: Schedule, at: u64) -> u64 {
        at + self.delay_part.map_or(0, |part| schedule.length_us() / part)
    }

    fn set_timer(&self, at: u64) {
        // Fails only for a time that does not exist.
        let _ = self.timer.set(Expiration::OneShot(time(at)), TimerSetTimeFlags::TFD_TIMER_ABSTIME);
    }
}

/// A time of the lease's clock, for a timer; 0 would stop it.
fn time(at_us: u64) -> TimeSpec {
    TimeSpec::microseconds(i64::try_from(at_us.max(1)).unwrap_or(i64::MAX))
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
