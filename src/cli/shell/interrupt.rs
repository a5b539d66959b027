//! Ctrl-C while a command of the shell runs: it ends a wait, not the shell.

use nix::sys::signal::{SigSet, Signal};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How soon it is tried again to end a wait.
const AGAIN: Duration = Duration::from_millis(1);

/// What Ctrl-C is to end.
#[derive(Debug, Default)]
pub(super) struct Interrupt {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_pressed: bool,
    /// A wait for the lock is under way, or about to be.
    is_waiting: bool,
}

impl Interrupt {
    /// Takes SIGINT for itself, in a thread that lives as long as the process.
    pub(super) fn listen() -> io::Result<Arc<Interrupt>> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.thread_block()?;
        let interrupt = Arc::<Interrupt>::default();
        let listener = Arc::clone(&interrupt);
        thread::Builder::new().name("interrupt".into()).spawn(move || {
            while signals.wait().is_ok() {
                listener.press();
            }
        })?;
        Ok(interrupt)
    }

    fn press(&self) {
        self.state().is_pressed = true;
        self.changed.notify_all();
    }

    /// Runs a wait for the lock that Ctrl-C ends, also when it was pressed since
    /// [`Interrupt::forget`]. `cancel` says whether there was a wait to end.
    pub(super) fn around<T>(
        &self,
        cancel: impl Fn() -> bool + Sync,
        wait: impl FnOnce() -> T,
    ) -> io::Result<T> {
        self.state().is_waiting = true;
        thread::scope(|scope| {
            thread::Builder::new().spawn_scoped(scope, || self.cancel_when_pressed(&cancel))?;
            let result = wait();
            self.state().is_waiting = false;
            self.changed.notify_all();
            Ok(result)
        })
    }

    fn cancel_when_pressed(&self, cancel: &impl Fn() -> bool) {
        let goes_on = |state: &mut State| state.is_waiting && !state.is_pressed;
        let waited = self.changed.wait_while(self.state(), goes_on);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        // A wait that has not begun yet cannot be ended.
        while state.is_waiting && !cancel() {
            let waited = self.changed.wait_timeout(state, AGAIN);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What was pressed so far ends nothing that begins now.
    pub(super) fn forget(&self) {
        self.state().is_pressed = false;
    }

    /// Sleeps until the time is over or Ctrl-C is pressed, or was since [`Interrupt::forget`].
    pub(super) fn sleep(&self, time: Duration) {
        drop(self.changed.wait_timeout_while(self.state(), time, |state| !state.is_pressed));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    #[test]
    fn ctrl_c_ends_a_wait_also_when_it_was_pressed_before_the_wait_began() {
        let (interrupt, tries) = (Interrupt::default(), AtomicU32::new(0));
        let (cancelled, is_cancelled) = mpsc::channel();
        interrupt.press();
        let cancel = || {
            let has_begun = tries.fetch_add(1, Ordering::Relaxed) == 3;
            has_begun && cancelled.send(()).is_ok()
        };
        let patience = Duration::from_secs(20);
        interrupt.around(cancel, || is_cancelled.recv_timeout(patience).unwrap()).unwrap();
        interrupt.forget();
        interrupt.around(|| panic!("nothing was pressed"), || {}).unwrap();
    }
}
