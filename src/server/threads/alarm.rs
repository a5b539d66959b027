//! When the thread that keeps the deadlines wakes.

use super::lock;
use crate::server::Clock;
use crate::types::Millis;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// The deadline thread looks at the clock this often when nothing is due, in milliseconds.
const LONGEST_WAIT_MS: u64 = 3_600_000;

/// When the deadline thread wakes.
pub struct Alarm {
    at: Mutex<Millis>,
    /// The same, readable without the mutex.
    armed: AtomicU64,
    changed: Condvar,
}

impl Default for Alarm {
    /// Nothing is due.
    fn default() -> Self {
        Alarm {
            at: Mutex::new(Millis(u64::MAX)),
            armed: AtomicU64::new(u64::MAX),
            changed: Condvar::new(),
        }
    }
}

impl Alarm {
    /// Makes sure that the deadline thread wakes by then.
    pub fn arm(&self, at: Millis) {
        if at.0 >= self.armed.load(Ordering::Acquire) {
            return;
        }
        let mut current = lock(&self.at);
        if at < *current {
            *current = at;
            self.armed.store(at.0, Ordering::Release);
            self.changed.notify_one();
        }
    }

    /// Forgets what was armed.
    pub fn reset(&self) {
        let mut current = lock(&self.at);
        *current = Millis(u64::MAX);
        self.armed.store(u64::MAX, Ordering::Release);
    }

    /// Blocks until the time that is armed, or the end.
    pub fn wait(&self, clock: Clock, is_stopping: &AtomicBool) {
        let mut current = lock(&self.at);
        loop {
            let now = clock.now().steady;
            if *current <= now || is_stopping.load(Ordering::SeqCst) {
                return;
            }
            let timeout = Duration::from_millis((current.0 - now.0).min(LONGEST_WAIT_MS));
            current = match self.changed.wait_timeout(current, timeout) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Ends [`Alarm::wait`] after `is_stopping` was set.
    pub fn stop(&self) {
        drop(lock(&self.at));
        self.changed.notify_all();
    }
}
